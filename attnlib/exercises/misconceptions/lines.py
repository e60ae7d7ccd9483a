"""The lines that several solutions share, by name, and the exercises that share them."""

MASKED = ("attention", "attention_weights", "multi_head", "grouped_heads")
MIXED = ("attention", "multi_head", "grouped_heads", "rotary")
TABLES = ("softmax", *MASKED, "rotary")  # those in which scores are a table, not a row

SCORES = "scores = query @ key.mT"
SCALE = "scores = scores / math.sqrt(query.shape[-1])"
CLOSE = "scores = scores.masked_fill(~mask, -math.inf)"
LARGEST = "largest = scores.amax(dim=-1, keepdim=True)"
POWERS = "powers = (scores - largest).exp()"
WEIGHTS = "weights = powers / powers.sum(dim=-1, keepdim=True)"
EMPTY = "weights = weights.masked_fill((scores == -math.inf).all(dim=-1, keepdim=True), 0)"
EMPTY_BY_MASK = "weights = weights.masked_fill(~mask.any(dim=-1, keepdim=True), 0)"
MIX = "output = weights @ value"
