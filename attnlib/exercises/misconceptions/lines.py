"""The lines that several solutions share, by name, and the exercises that share them."""

MASKED = ("attention", "attention_weights", "multi_head", "grouped_heads")
MIXED = ("attention", "multi_head", "grouped_heads", "rotary")
TABLES = ("softmax", *MASKED, "rotary", "kv_cache", "online_softmax")  # those in which scores are a table
ALL_OPEN = (*MASKED, "rotary")  # those that may read what comes later
CAUSED = (*MASKED, "kv_cache")  # those that close keys, with a mask or because they come later

SCORES = "scores = query @ key.mT"
SCALE = "scores = scores / math.sqrt(query.shape[-1])"
CLOSE = "scores = scores.masked_fill(~mask, -math.inf)"
LARGEST = "largest = scores.amax(dim=-1, keepdim=True)"
POWERS = "powers = (scores - largest).exp()"
WEIGHTS = "weights = powers / powers.sum(dim=-1, keepdim=True)"
EMPTY = "weights = weights.masked_fill((scores == -math.inf).all(dim=-1, keepdim=True), 0)"
EMPTY_BY_MASK = "weights = weights.masked_fill(~mask.any(dim=-1, keepdim=True), 0)"
MIX = "output = weights @ value"
