"""A right answer to each exercise, step by step: each line can be got wrong, and a misconception says how.

Solutions that share a step share its line, so a misconception about the step is one for all of them. Where a thing is
asked for step by step, there is a second solution that does all at once: many answers do, and err as one does there.
"""

_WEIGH = """
{0}if mask is not None:
{0}    scores = scores.masked_fill(~mask, -math.inf)
{0}largest = scores.amax(dim=-1, keepdim=True)
{0}powers = (scores - largest).exp()
{0}weights = powers / powers.sum(dim=-1, keepdim=True)
{0}if mask is not None:
{0}    weights = weights.masked_fill((scores == -math.inf).all(dim=-1, keepdim=True), 0)
"""


def _weigh(indent: int) -> str:
    return _WEIGH.strip("\n").format(" " * indent)


SOLUTIONS = {
    "softmax": """
def softmax(scores):
    largest = scores.amax(dim=-1, keepdim=True)
    powers = (scores - largest).exp()
    weights = powers / powers.sum(dim=-1, keepdim=True)
    return weights
""",
    "attention": f"""
def attention(query, key, value, mask=None):
    scores = query @ key.mT
    scores = scores / math.sqrt(query.shape[-1])
{_weigh(4)}
    output = weights @ value
    return output
""",
    "attention_weights": f"""
def attention_weights(query, key, mask=None):
    scores = query @ key.mT
    scores = scores / math.sqrt(query.shape[-1])
{_weigh(4)}
    return weights
""",
    "causal_mask": """
def causal_mask(L, S):
    query_place = torch.arange(S - L, S)[:, None]
    key_place = torch.arange(S)
    allowed = key_place <= query_place
    return allowed
""",
    "padding_mask": """
def padding_mask(lengths, S):
    key_place = torch.arange(S)
    allowed = key_place < torch.as_tensor(lengths)[:, None]
    return allowed
""",
    "sliding_window": """
def sliding_window(size, L, S):
    query_place = torch.arange(S - L, S)[:, None]
    key_place = torch.arange(S)
    distance = (query_place - key_place).abs()
    allowed = distance < size
    return allowed
""",
    "multi_head": f"""
class multi_head(nn.Module):
    def __init__(self, num_heads, d_model, d_k, d_v, dropout):
        super().__init__()
        self.num_heads, self.d_model, self.dropout = num_heads, d_model, dropout
        self.wq = nn.Linear(d_model, num_heads * d_k, bias=False)
        self.wk = nn.Linear(d_model, num_heads * d_k, bias=False)
        self.wv = nn.Linear(d_model, num_heads * d_v, bias=False)
        self.fc = nn.Linear(num_heads * d_v, d_model, bias=False)

    def forward(self, query, key=None, value=None, mask=None):
        key = query if key is None else key
        value = key if value is None else value
        asked = query
        query = self.wq(query)
        key = self.wk(key)
        value = self.wv(value)
        query = query.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key = key.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        value = value.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        scores = query @ key.mT
        scores = scores / math.sqrt(query.shape[-1])
{_weigh(8)}
        weights = F.dropout(weights, self.dropout, training=self.training)
        output = weights @ value
        output = output.transpose(1, 2).flatten(2)
        output = self.fc(output)
        return output
""",
    "grouped_heads": f"""
def grouped_heads(query, key, value, mask=None):
    group = query.shape[1] // key.shape[1]
    key = key.repeat_interleave(group, dim=1)
    value = value.repeat_interleave(group, dim=1)
    scores = query @ key.mT
    scores = scores / math.sqrt(query.shape[-1])
{_weigh(4)}
    output = weights @ value
    return output
""",
    "kv_cache": f"""
def kv_cache(tokens, positions, wq, wk, wv):
    keys, values, outputs = [], [], []
    for place, token in enumerate(tokens):
        where = place
        x = token[None] + positions[where]
        query = x @ wq
        keys.append(x @ wk)
        values.append(x @ wv)
        key = torch.cat(keys)
        value = torch.cat(values)
        scores = query @ key.mT
        scores = scores / math.sqrt(query.shape[-1])
        largest = scores.amax(dim=-1, keepdim=True)
        powers = (scores - largest).exp()
        weights = powers / powers.sum(dim=-1, keepdim=True)
        output = weights @ value
        outputs.append(output)
    return torch.cat(outputs)

def kv_cache_at_once(tokens, positions, wq, wk, wv):
    places = torch.arange(len(tokens))
    x = tokens + positions[places]
    query = x @ wq
    key = x @ wk
    value = x @ wv
    mask = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    scores = query @ key.mT
    scores = scores / math.sqrt(query.shape[-1])
{_weigh(4)}
    output = weights @ value
    return output
""",
    "rotary": """
def rotary(x, offset=0):
    d_k = x.shape[-1]
    pair = torch.arange(d_k // 2, dtype=torch.float64)
    frequency = 10000.0 ** (-2 * pair / d_k)
    place = torch.arange(x.shape[-2]) + offset
    angle = place[:, None] * frequency
    angle = angle.to(x.dtype)
    first, second = x[..., : d_k // 2], x[..., d_k // 2 :]
    cos, sin = angle.cos(), angle.sin()
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned

def rotary_attention(query, key, value):
    query = rotary(query)
    key = rotary(key)
    scores = query @ key.mT
    scores = scores / math.sqrt(query.shape[-1])
    largest = scores.amax(dim=-1, keepdim=True)
    powers = (scores - largest).exp()
    weights = powers / powers.sum(dim=-1, keepdim=True)
    output = weights @ value
    return output
""",
    "sinusoidal": """
def sinusoidal(length, d_model):
    place = torch.arange(length)[:, None]
    pair = torch.arange(d_model // 2, dtype=torch.float64)
    frequency = 10000.0 ** (-2 * pair / d_model)
    angle = place * frequency
    sin, cos = angle.sin(), angle.cos()
    table = torch.stack([sin, cos], dim=-1).flatten(-2)
    return table
""",
    "online_softmax": """
def online_softmax(scores, values, block):
    L, S = scores.shape
    largest = torch.full((L, 1), -math.inf, dtype=scores.dtype)
    total = torch.zeros(L, 1, dtype=scores.dtype)
    output = torch.zeros(L, values.shape[-1], dtype=scores.dtype)
    for start in range(0, S, block):
        part = scores[:, start : start + block]
        value = values[start : start + block]
        before = largest
        largest = torch.maximum(before, part.amax(dim=-1, keepdim=True))
        shrink = (before - largest).exp()
        powers = (part - largest).exp()
        total = total * shrink + powers.sum(dim=-1, keepdim=True)
        output = output * shrink + powers @ value
    output = output / total
    return output

def online_softmax_at_once(scores, value, block):
    largest = scores.amax(dim=-1, keepdim=True)
    powers = (scores - largest).exp()
    weights = powers / powers.sum(dim=-1, keepdim=True)
    output = weights @ value
    return output
""",
    "layer_norm": """
def layer_norm(x, gamma, beta, eps=1e-5):
    mean = x.mean(dim=-1, keepdim=True)
    centred = x - mean
    variance = (centred**2).mean(dim=-1, keepdim=True)
    normed = centred / (variance + eps).sqrt()
    output = gamma * normed + beta
    return output
""",
    "encoder_layer": """
def encoder_layer(x, attend, feed_forward, norm1, norm2):
    n1, n2 = norm1, norm2
    came = x
    reads1 = x
    says1 = attend(reads1)
    x = n1(x + says1)
    reads2 = x
    says2 = feed_forward(reads2)
    x = n2(x + says2)
    return x
""",
    "decoder_layer": """
def decoder_layer(x, memory, attend, cross, feed_forward, norm1, norm2, norm3, mask):
    n1, n2, n3 = norm1, norm2, norm3
    came = x
    reads1 = x
    says1 = attend(reads1, mask=mask)
    x = n1(x + says1)
    reads2 = x
    says2 = cross(reads2, memory)
    x = n2(x + says2)
    reads3 = x
    says3 = feed_forward(reads3)
    x = n3(x + says3)
    return x
""",
    "greedy_search": """
def greedy_search(model, start, end, max_length):
    tokens = [start]
    for _ in range(max_length):
        logits = model(torch.tensor([tokens]))
        token = logits[0, -1].argmax().item()
        if token == end:
            break
        tokens.append(token)
    return tokens[1:]
""",
    "softmax_backward": """
def softmax_backward(weights, grad):
    wished = weights * grad
    shared = wished.sum(dim=-1, keepdim=True)
    back = weights * (grad - shared)
    return back
""",
}
