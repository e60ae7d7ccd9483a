# This is how learners write.
# ruff: noqa: B905, RUF005, SIM, C4
"""Right answers in many styles: loops over lists, arrays, idioms of torch; with and without axes in front."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

RIGHT = []


def right(exercise):
    """Enter a right answer to an exercise."""

    def enter(answer):
        RIGHT.append((exercise, answer))
        return answer

    return enter


@right("attention")
def attention_over_lists(query, key, value, mask=None):
    out = []
    for i, q in enumerate(query):
        s = [sum((a * b for a, b in zip(q, k))) / math.sqrt(len(q)) for k in key]
        allowed = [True] * len(s) if mask is None else [bool(m) for m in mask[i]]
        open_ = [x for x, a in zip(s, allowed) if a]
        if not open_:
            out.append([0.0] * len(value[0]))
            continue
        m = max(open_)
        e = [math.exp(x - m) if a else 0.0 for x, a in zip(s, allowed)]
        t = sum(e)
        out.append([sum((w / t * v[j] for w, v in zip(e, value))) for j in range(len(value[0]))])
    return out


@right("attention")
def attention_in_arrays(q, k, v, mask=None):
    s = np.einsum("...id,...jd->...ij", q, k) / np.sqrt(q.shape[-1])
    if mask is not None:
        s = np.where(mask, s, -np.inf)
    m = np.max(s, -1, keepdims=True)
    m = np.where(np.isinf(m), 0, m)
    e = np.exp(s - m)
    t = e.sum(-1, keepdims=True)
    return e / np.where(t == 0, 1, t) @ v


@right("attention")
def attention_by_torch(q, k, v, mask=None):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@right("attention")
def attention_cleaned(q, k, v, mask=None):
    s = torch.matmul(q, k.transpose(-2, -1)) * q.size(-1) ** (-0.5)
    if mask is not None:
        s = s.masked_fill(mask.logical_not(), float("-inf"))
    return torch.nan_to_num(torch.softmax(s, -1)) @ v


@right("attention")
class AttentionForHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.1)

    def forward(self, query, key, value, mask=None):
        s = torch.einsum("bhid,bhjd->bhij", query, key) / math.sqrt(query.shape[-1])
        if mask is not None:
            s = s + torch.zeros_like(s).masked_fill(~mask, -torch.inf)
        p = torch.exp(s - torch.logsumexp(s, -1, keepdim=True))
        p = torch.where(torch.isnan(p), torch.zeros_like(p), p)
        return torch.einsum("bhij,bhjd->bhid", self.drop(p), value)


@right("attention")
def attention_for_a_batch(q, k, v, mask=None):
    d = q.shape[-1]
    s = torch.bmm(q, k.transpose(1, 2)) / d**0.5
    if mask is not None:
        s = s.masked_fill(mask == 0, torch.finfo(s.dtype).min)
    w = F.softmax(s, dim=2)
    if mask is not None:
        w = w * mask
    return torch.bmm(w, v)


@right("attention")
def attention_with_mask_by_name(query, key, value, *, mask=None):
    scores = query @ key.mT / math.sqrt(query.size(-1))
    if mask is None:
        return scores.softmax(-1) @ value
    return scores.masked_fill(~mask, -math.inf).softmax(-1).nan_to_num(0.0) @ value


@right("attention")
def attention_row_by_row(query, key, value, mask=None):
    out = torch.zeros(query.shape[0], value.shape[1])
    for i in range(query.shape[0]):
        s = torch.stack([torch.dot(query[i], key[j]) for j in range(key.shape[0])]) / query.shape[1] ** 0.5
        idx = torch.arange(key.shape[0]) if mask is None else mask[i].nonzero().flatten()
        if len(idx) == 0:
            continue
        w = torch.softmax(s[idx], 0)
        out[i] = (w[:, None] * value[idx]).sum(0)
    return out


@right("attention_weights")
def weights_in_arrays(query, key, mask=None):
    s = np.array([[np.dot(a, b) for b in key] for a in query]) / np.sqrt(len(query[0]))
    if mask is None:
        mask = np.ones(s.shape, bool)
    m = np.asarray(mask)
    e = np.where(m, np.exp(s - s.max(1, keepdims=True, where=m, initial=-np.inf)), 0) if True else 0
    t = e.sum(1, keepdims=True)
    return np.divide(e, t, out=np.zeros_like(e), where=t > 0)


@right("attention_weights")
def weights_scaled_before(query, key, mask=None):
    d = query.shape[-1]
    s = query / d**0.25 @ (key / d**0.25).transpose(-1, -2)
    if mask is not None:
        s = torch.where(mask, s, torch.full_like(s, -torch.inf))
    dead = (s == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(torch.where(dead, torch.zeros_like(s), s), -1) * ~dead


@right("attention_weights")
class WeightsByLogarithm:
    def __call__(self, q, k, mask=None):
        s = torch.matmul(q, k.mT).div(q.shape[-1] ** 0.5)
        if mask is not None:
            s.masked_fill_(~mask, -torch.inf)
        return s.log_softmax(-1).exp().nan_to_num(0)


@right("softmax")
def softmax_over_lists(x):
    out = []
    for row in x:
        m = max(row)
        e = [math.exp(v - m) for v in row]
        t = sum(e)
        out.append([v / t for v in e])
    return out


@right("softmax")
def softmax_by_logaddexp(x):
    return np.exp(x - np.logaddexp.reduce(x, axis=-1, keepdims=True))


@right("softmax")
def softmax_by_torch(t):
    return torch.nn.Softmax(dim=-1)(t)


@right("softmax")
def softmax_transposed(x):
    x = np.array(x, dtype=np.float64)
    z = (x.T - x.max(1)).T
    e = np.e**z
    return (e.T / e.sum(1)).T


@right("softmax")
class SoftmaxModule(nn.Module):
    def forward(self, s):
        return (s - s.logsumexp(-1, keepdim=True)).exp()


@right("causal_mask")
def causal_by_tril(L, S):
    return torch.tril(torch.ones(L, S, dtype=torch.bool), diagonal=S - L)


@right("causal_mask")
def causal_by_tri(L, S):
    return np.tri(L, S, S - L, dtype=bool)


@right("causal_mask")
def causal_over_lists(L, S):
    return [[j - S <= i - L for j in range(S)] for i in range(L)]


@right("padding_mask")
def padding_over_lists(lengths, S):
    return [[j < n for j in range(S)] for n in lengths]


@right("padding_mask")
def padding_with_axes(lengths, S):
    return (torch.arange(S)[None] < torch.as_tensor(lengths)[:, None])[:, None, None]


@right("padding_mask")
def padding_row_by_row(lengths, S):
    m = np.zeros((len(lengths), 1, S), bool)
    for b, n in enumerate(lengths):
        m[b, 0, :n] = True
    return m


@right("sliding_window")
def window_by_distance(size, L, S):
    i = torch.arange(L) + S - L
    return (i[:, None] - torch.arange(S)[None]).abs().lt(size)


@right("sliding_window")
def window_by_two_triangles(size, L, S):
    return np.tri(L, S, S - L + size - 1, dtype=bool) & ~np.tri(L, S, S - L - size, dtype=bool)


@right("multi_head")
class HeadByHead(nn.Module):
    def __init__(self, num_heads, d_model, d_k, d_v, dropout):
        super().__init__()
        self.H = num_heads
        self.d_k = d_k
        self.d_v = d_v
        self.p = dropout
        self.wq = nn.Linear(d_model, num_heads * d_k, bias=False)
        self.wk = nn.Linear(d_model, num_heads * d_k, bias=False)
        self.wv = nn.Linear(d_model, num_heads * d_v, bias=False)
        self.fc = nn.Linear(num_heads * d_v, d_model, bias=False)

    def forward(self, query, key=None, value=None, mask=None):
        key = query if key is None else key
        value = key if value is None else value
        Q, K, V = (self.wq(query), self.wk(key), self.wv(value))
        heads = []
        for h in range(self.H):
            q = Q[..., h * self.d_k : (h + 1) * self.d_k]
            k = K[..., h * self.d_k : (h + 1) * self.d_k]
            v = V[..., h * self.d_v : (h + 1) * self.d_v]
            s = torch.bmm(q, k.transpose(1, 2)) / self.d_k**0.5
            if mask is not None:
                s = s.masked_fill(~mask, float("-inf"))
            w = torch.softmax(s, -1)
            w = torch.where(torch.isnan(w), torch.zeros_like(w), w)
            heads.append(torch.bmm(F.dropout(w, self.p, self.training), v))
        return self.fc(torch.cat(heads, -1))


@right("multi_head")
class HeadsByTorch(HeadByHead):
    def forward(self, query, key=None, value=None, mask=None):
        key = query if key is None else key
        value = key if value is None else value

        def f(x, d):
            return x.unflatten(-1, (self.H, d)).transpose(-3, -2)

        o = F.scaled_dot_product_attention(
            f(self.wq(query), self.d_k),
            f(self.wk(key), self.d_k),
            f(self.wv(value), self.d_v),
            mask,
            dropout_p=self.p if self.training else 0.0,
        )
        return self.fc(o.transpose(-3, -2).flatten(-2))


@right("multi_head")
class HeadsByEinsum(HeadByHead):
    def forward(self, query, key=None, value=None, mask=None):
        key = query if key is None else key
        value = key if value is None else value
        wq = self.wq.weight.view(self.H, self.d_k, -1)
        wk = self.wk.weight.view(self.H, self.d_k, -1)
        wv = self.wv.weight.view(self.H, self.d_v, -1)
        q = torch.einsum("bld,hkd->bhlk", query, wq)
        k = torch.einsum("bsd,hkd->bhsk", key, wk)
        v = torch.einsum("bsd,hkd->bhsk", value, wv)
        s = torch.einsum("bhlk,bhsk->bhls", q, k) * self.d_k ** (-0.5)
        if mask is not None:
            if mask.dim() == 3:
                mask = mask[:, None]
            s = s.masked_fill(mask == 0, -1e30)
        w = s.softmax(-1)
        if mask is not None:
            w = w * mask
        w = F.dropout(w, p=self.p, training=self.training)
        return self.fc(torch.einsum("bhls,bhsv->blhv", w, v).reshape(*query.shape[:2], -1))


@right("grouped_heads")
def grouped_by_torch(q, k, v, mask=None):
    return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)


@right("grouped_heads")
def grouped_head_by_head(q, k, v, mask=None):
    B, H, L, d = q.shape
    G = H // k.shape[1]
    out = np.zeros((B, H, L, v.shape[-1]))
    for b in range(B):
        for h in range(H):
            s = q[b, h] @ k[b, h // G].T / np.sqrt(d)
            if mask is not None:
                s = np.where(mask, s, -np.inf)
            for i in range(L):
                r = s[i]
                if np.isinf(r).all():
                    continue
                e = np.exp(r - r.max())
                out[b, h, i] = e / e.sum() @ v[b, h // G]
    return out


@right("grouped_heads")
def grouped_by_einsum(q, k, v, mask=None):
    B, H, L, d = q.shape
    K = k.shape[1]
    q = q.reshape(B, K, H // K, L, d)
    s = torch.einsum("bkgld,bksd->bkgls", q, k) / d**0.5
    if mask is not None:
        s = s.masked_fill(~mask, -torch.inf)
    return torch.einsum("bkgls,bksv->bkglv", s.softmax(-1).nan_to_num(0), v).reshape(B, H, L, -1)


@right("kv_cache")
def cache_as_a_mask(tokens, positions, wq, wk, wv):
    x = tokens + positions[: len(tokens)]
    L = len(x)
    s = x @ wq @ (x @ wk).T / x.shape[1] ** 0.5
    s = np.where(np.tri(L, dtype=bool), s, -np.inf)
    e = np.exp(s - s.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True) @ (x @ wv)


@right("kv_cache")
class CacheOfTensors:
    def __init__(self, positions, wq, wk, wv):
        self.p, self.q, self.k, self.v = (positions, wq, wk, wv)
        self.K = self.V = None

    def step(self, token):
        t = 0 if self.K is None else self.K.shape[0]
        x = (token + self.p[t]).reshape(1, -1)
        k, v = (x @ self.k, x @ self.v)
        self.K = k if self.K is None else torch.cat([self.K, k])
        self.V = v if self.V is None else torch.cat([self.V, v])
        return (torch.softmax(x @ self.q @ self.K.T / self.q.shape[1] ** 0.5, -1) @ self.V)[0]


@right("kv_cache")
def cache_newest_first(tokens, positions, wq, wk, wv):
    outs = []
    cache = []
    for t in range(tokens.shape[0]):
        x = tokens[t] + positions[t]
        cache.insert(0, (x @ wk, x @ wv))
        q = x @ wq
        s = torch.stack([q.dot(k) for k, _ in cache]) / len(q) ** 0.5
        outs.append(sum((w * v for w, (_, v) in zip(s.softmax(0), cache))))
    return torch.stack(outs)


@right("rotary")
def rotary_in_arrays(x, offset=0):
    h = x.shape[-1] // 2
    f = 1 / 10000 ** (np.arange(h) / h)
    a = (np.arange(x.shape[-2]) + offset)[:, None] * f
    return np.concatenate(
        [x[..., :h] * np.cos(a) - x[..., h:] * np.sin(a), x[..., h:] * np.cos(a) + x[..., :h] * np.sin(a)], -1
    )


@right("rotary")
def rotary_by_half_turn(x, offset=0):
    d = x.shape[-1]
    inv = 1.0 / 10000 ** (torch.arange(0, d, 2).float() / d)
    t = torch.arange(offset, offset + x.shape[-2]).float()
    e = torch.cat([torch.outer(t, inv)] * 2, -1)
    rot = torch.cat([-x[..., d // 2 :], x[..., : d // 2]], -1)
    return x * e.cos() + rot * e.sin()


@right("rotary")
def rotary_by_complex_numbers(query, key, value):

    def r(x):
        h = x.shape[-1] // 2
        z = torch.complex(x[..., :h], x[..., h:])
        a = torch.arange(x.shape[-2])[:, None] * 10000.0 ** (-torch.arange(h) / h)
        z = z * torch.polar(torch.ones_like(a), a)
        return torch.cat([z.real, z.imag], -1)

    return F.scaled_dot_product_attention(r(query), r(key), value)


@right("rotary")
def rotary_over_lists(x, offset=0):
    out = []
    for p, row in enumerate(x):
        h = len(row) // 2
        new = [0] * len(row)
        for i in range(h):
            a = (p + offset) / 10000 ** (2 * i / len(row))
            new[i] = row[i] * math.cos(a) - row[i + h] * math.sin(a)
            new[i + h] = row[i + h] * math.cos(a) + row[i] * math.sin(a)
        out.append(new)
    return out


@right("sinusoidal")
def sinusoidal_by_columns(length, d_model):
    pe = torch.zeros(length, d_model)
    pos = torch.arange(length).unsqueeze(1)
    div = torch.exp(torch.arange(0, d_model, 2) * -(math.log(10000.0) / d_model))
    pe[:, 0::2] = torch.sin(pos * div)
    pe[:, 1::2] = torch.cos(pos * div)
    return pe


@right("sinusoidal")
def sinusoidal_over_lists(length, d_model):
    return [
        [(math.sin if j % 2 == 0 else math.cos)(p / 10000 ** (j // 2 * 2 / d_model)) for j in range(d_model)]
        for p in range(length)
    ]


@right("online_softmax")
def online_row_by_row(s, v, block):
    L, S = s.shape
    m = np.full(L, -np.inf)
    total = np.zeros(L)
    a = np.zeros((L, v.shape[1]))
    for j in range(0, S, block):
        for i in range(L):
            r = s[i, j : j + block]
            new = max(m[i], r.max())
            c = math.exp(m[i] - new)
            p = np.exp(r - new)
            total[i] = total[i] * c + p.sum()
            a[i] = a[i] * c + p @ v[j : j + block]
            m[i] = new
    return a / total[:, None]


@right("online_softmax")
def online_by_logsumexp(s, v, block):
    parts = [(p.logsumexp(-1), p.softmax(-1) @ w) for p, w in zip(s.split(block, 1), v.split(block))]
    lse = torch.stack([p[0] for p in parts]).softmax(0)
    return sum((w[:, None] * o for w, (_, o) in zip(lse, parts)))


@right("online_softmax")
def online_at_once(s, v, block):
    return torch.softmax(s, -1) @ v


@right("layer_norm")
def norm_by_torch(x, g, b, eps=1e-05):
    return F.layer_norm(x, x.shape[-1:], g, b, eps)


@right("layer_norm")
def norm_in_arrays(x, gamma, beta, eps=1e-05):
    return gamma * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) + beta


@right("layer_norm")
def norm_over_lists(x, gamma, beta, eps=1e-05):
    out = []
    for r in x:
        m = sum(r) / len(r)
        v = sum((t - m) ** 2 for t in r) / len(r)
        out.append([g * (t - m) / math.sqrt(v + eps) + b for t, g, b in zip(r, gamma, beta)])
    return out


@right("layer_norm")
def norm_by_var_mean(x, gamma, beta, eps=1e-05):
    v, m = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return torch.addcmul(beta, (x - m) * torch.rsqrt(v + eps), gamma)


@right("encoder_layer")
def encoder_as_function(x, attend, feed_forward, norm1, norm2):
    h = norm1(x + attend(x, x, x))
    return norm2(h + feed_forward(h))


@right("encoder_layer")
class EncoderModule(nn.Module):
    def __init__(self, attend, feed_forward, norm1, norm2):
        super().__init__()
        self.a, self.f, self.n1, self.n2 = (attend, feed_forward, norm1, norm2)

    def forward(self, x):
        x = self.n1(x + self.a(x))
        return self.n2(x + self.f(x))


@right("encoder_layer")
def encoder_in_a_loop(x, attn, ffn, ln1, ln2, mask=None):
    for part, norm in ((lambda t: attn(t), ln1), (ffn, ln2)):
        x = norm(np.add(x, part(x))) if isinstance(x, np.ndarray) else norm(x + part(x))
    return x


@right("decoder_layer")
def decoder_as_function(x, memory, attend, cross, feed_forward, norm1, norm2, norm3):
    x = norm1(x + attend(x))
    x = norm2(x + cross(x, memory, memory))
    return norm3(x + feed_forward(x))


@right("decoder_layer")
def decoder_of_the_book(x, memory, attend, cross, feed_forward, norms):
    past = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).tril()
    x = norms[0](x + attend(x, mask=past))
    x = norms[1](x + cross(x, memory))
    return norms[2](x + feed_forward(x))


@right("decoder_layer")
class DecoderModule(nn.Module):
    def __init__(self, self_attend, cross_attend, feed_forward, norm1, norm2, norm3):
        super().__init__()
        self.sa, self.ca, self.ff, self.n1, self.n2, self.n3 = (
            self_attend,
            cross_attend,
            feed_forward,
            norm1,
            norm2,
            norm3,
        )

    def forward(self, x, memory, mask=None):
        x = self.n1(x + self.sa(x, x, x, mask))
        x = self.n2(x + self.ca(x, memory, memory))
        return self.n3(x + self.ff(x))


@right("decoder_layer")
def decoder_with_masks(tgt, enc, self_attn, cross_attn, ffn, norm1, norm2, norm3, tgt_mask=None, memory_mask=None):
    tgt = norm1(tgt + self_attn(tgt, tgt, tgt, tgt_mask))
    tgt = norm2(tgt + cross_attn(tgt, enc, enc, memory_mask))
    return norm3(tgt + ffn(tgt))


@right("greedy_search")
def greedy_in_a_loop(model, start, end, max_length):
    seq = torch.tensor([[start]])
    out = []
    with torch.no_grad():
        while len(out) < max_length:
            t = model(seq)[:, -1].argmax(-1)
            if t.item() == end:
                break
            out.append(t.item())
            seq = torch.cat([seq, t[:, None]], 1)
    return out


@right("greedy_search")
def greedy_by_recursion(model, start, end, max_length):

    def go(ts):
        if len(ts) > max_length:
            return ts[1:]
        n = int(np.argmax(model(torch.LongTensor([ts]))[0, -1].numpy()))
        return ts[1:] if n == end else go(ts + [n])

    return go([start])


@right("softmax_backward")
def backward_by_jacobian(w, g):
    return np.stack([(np.diag(a) - np.outer(a, a)) @ b for a, b in zip(w, g)])


@right("softmax_backward")
def backward_in_a_line(w, g):
    return w * g - w * (w * g).sum(-1, keepdim=True)


@right("softmax_backward")
def backward_over_lists(w, g):
    return [[wi * (gi - sum((a * b for a, b in zip(r, s)))) for wi, gi in zip(r, s)] for r, s in zip(w, g)]


@right("softmax_backward")
def backward_by_torch(w, g):
    return torch._softmax_backward_data(g, w, -1, w.dtype)


@right("attention")
def attention_query_by_query(query, key, value, mask=None):
    rows = []
    for i in range(query.shape[-2]):
        s = (query[..., i : i + 1, :] * key).sum(-1) / query.shape[-1] ** 0.5
        if mask is not None:
            s = torch.where(mask[..., i, :], s, torch.tensor(float("-inf"), dtype=s.dtype))
        s = s - s.amax(-1, keepdim=True).clamp_min(torch.finfo(s.dtype).min)
        e = s.exp()
        rows.append((e / e.sum(-1, keepdim=True).clamp_min(1e-30)).unsqueeze(-2) @ value)
    return torch.cat(rows, -2)


@right("attention")
def attention_over_open_keys(query, key, value, mask=None):

    def row(q, m):
        if not m.any():
            return np.zeros(value.shape[-1])
        scores = key[m] @ q / math.sqrt(len(q))
        powers = np.exp(scores - scores.max())
        return powers / powers.sum() @ value[m]

    m = np.ones((len(query), len(key)), bool) if mask is None else np.asarray(mask)
    return np.array(list(map(row, query, m)))


@right("attention")
class AttentionWithRate:
    def __init__(self, dropout=0.0):
        self.d = dropout

    def __call__(self, Q, K, V, mask=None):
        return F.scaled_dot_product_attention(Q, K, V, attn_mask=None if mask is None else torch.as_tensor(mask))


@right("attention")
def attention_online_over_lists(q, k, v, mask=None):
    out = []
    for i in range(len(q)):
        m, total, a = (-math.inf, 0.0, [0.0] * len(v[0]))
        for j in range(len(k)):
            if mask is not None and (not mask[i][j]):
                continue
            s = sum((x * y for x, y in zip(q[i], k[j]))) / math.sqrt(len(q[i]))
            n = max(m, s)
            c = math.exp(m - n)
            p = math.exp(s - n)
            total = total * c + p
            a = [x * c + p * y for x, y in zip(a, v[j])]
            m = n
        out.append([x / total if total else 0.0 for x in a])
    return out


@right("attention_weights")
def weights_without_softmax(query, key, mask=None):
    s = torch.einsum("...ld,...sd->...ls", query, key).div(math.sqrt(key.shape[-1]))
    if mask is None:
        mask = torch.ones_like(s, dtype=torch.bool)
    e = torch.where(mask, s, -torch.inf)
    top = e.max(dim=-1, keepdim=True)[0]
    top = torch.where(top.isinf(), torch.zeros_like(top), top)
    e = torch.exp(e - top)
    z = e.sum(-1, keepdim=True)
    return e / (z + (z == 0))


@right("encoder_layer")
def encoder_with_star(x, attend, feed_forward, *norms):
    for f, n in zip((attend, feed_forward), norms):
        x = n(x + f(x))
    return x


@right("encoder_layer")
def encoder_by_name(x, *, attend, feed_forward, norm1, norm2):
    a = norm1(x + attend(x))
    return norm2(a + feed_forward(a))


@right("encoder_layer")
class EncoderWithoutTorch:
    def __init__(self, attend, feed_forward, norm1, norm2, dropout=0.1):
        self.__dict__.update(locals())

    def __call__(self, x, mask=None):
        h = self.norm1(x + self.attend(x, x, x, mask))
        return self.norm2(h + self.feed_forward(h))


@right("encoder_layer")
def encoder_in_other_words(tokens, mha, mlp, first_norm, second_norm):
    t = first_norm(tokens + mha(tokens, tokens, tokens))
    return second_norm(t + mlp(t))


@right("decoder_layer")
class DecoderWithTwoMasks(nn.Module):
    def __init__(self, attend, cross_attend, feed_forward, norm1, norm2, norm3):
        super().__init__()
        self.a, self.c, self.f = (attend, cross_attend, feed_forward)
        self.n = nn.ModuleList([norm1, norm2, norm3])

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        for p, n in zip(
            (lambda t: self.a(t, t, t, mask=self_mask), lambda t: self.c(t, memory, memory, mask=memory_mask), self.f),
            self.n,
        ):
            x = n(x + p(x))
        return x


@right("decoder_layer")
def decoder_in_short_words(x, memory, attend, attend2, ff, norm1, norm2, norm3):
    x = norm1(x + attend(x))
    x = norm2(x + attend2(x, memory))
    return norm3(x + ff(x))


@right("decoder_layer")
def decoder_with_its_own_mask(y, m, self_attention, cross_attention, feed_forward, ln1, ln2, ln3):
    L = y.shape[-2]
    causal = torch.ones(L, L).tril().bool() if isinstance(y, torch.Tensor) else np.tri(L, dtype=bool)
    y = ln1(y + self_attention(y, y, y, causal))
    y = ln2(y + cross_attention(y, m, m))
    return ln3(y + feed_forward(y))


@right("greedy_search")
def greedy_by_topk(model, start, end, max_length):
    model.eval()
    device = next(model.parameters()).device
    tokens = torch.tensor([[start]], device=device)
    for _ in range(max_length):
        nxt = model(tokens)[0, -1].softmax(-1).topk(1).indices
        if int(nxt) == end:
            break
        tokens = torch.cat((tokens, nxt[None]), dim=-1)
    return tokens[0, 1:].tolist()


@right("kv_cache")
class CacheOfPairs:
    def __init__(self, positions, wq, wk, wv):
        self.pos = positions
        self.w = (wq, wk, wv)
        self.cache = []

    def step(self, token):
        x = np.asarray(token) + np.asarray(self.pos)[len(self.cache)]
        q, k, v = (x @ np.asarray(w) for w in self.w)
        self.cache.append((k, v))
        K = np.stack([c[0] for c in self.cache])
        V = np.stack([c[1] for c in self.cache])
        s = (K @ q.reshape(-1, 1)).ravel() / math.sqrt(q.size) if K.ndim == 2 else K[:, 0] @ q[0] / math.sqrt(q.size)
        e = np.exp(s - s.max())
        e /= e.sum()
        return e @ V.reshape(len(V), -1)


@right("rotary")
class RotaryModule(nn.Module):
    def forward(self, x, offset=0):
        d = x.size(-1)
        pos = torch.arange(offset, offset + x.size(-2), dtype=x.dtype)
        inv = torch.pow(10000.0, -torch.arange(0, d, 2, dtype=x.dtype) / d)
        f = torch.einsum("i,j->ij", pos, inv)
        a, b = x.chunk(2, -1)
        return torch.cat((a * f.cos() - b * f.sin(), a * f.sin() + b * f.cos()), -1)


@right("padding_mask")
def padding_by_lookup(lengths, S):
    return np.tril(np.ones((S + 1, S), bool), -1)[np.asarray(lengths)]


@right("causal_mask")
def causal_by_comparison(L, S):
    return torch.arange(S).expand(L, S) <= torch.arange(S - L, S).view(L, 1)


@right("causal_mask")
def causal_negated(L, S):
    return ~torch.ones(L, S, dtype=torch.bool).triu(S - L + 1)


@right("sliding_window")
def window_pair_by_pair(size, L, S):
    m = np.zeros((L, S), dtype=bool)
    for i in range(L):
        p = i + S - L
        for j in range(max(0, p - size + 1), min(S, p + size)):
            m[i, j] = True
    return m


@right("multi_head")
class HeadsAsInThePaper(nn.Module):
    def __init__(self, num_heads, d_model, d_k=None, d_v=None, dropout=0.1):
        super().__init__()
        d_k = d_k or d_model // num_heads
        d_v = d_v or d_k
        self.num_heads, self.d_k, self.d_v = (num_heads, d_k, d_v)
        self.wq = nn.Linear(d_model, d_k * num_heads)
        self.wk = nn.Linear(d_model, d_k * num_heads)
        self.wv = nn.Linear(d_model, d_v * num_heads)
        self.fc = nn.Linear(d_v * num_heads, d_model)
        self.dropout = nn.Dropout(dropout)
        self.attn = None

    def forward(self, query, key=None, value=None, mask=None):
        if key is None:
            key = query
        if value is None:
            value = key
        n = query.size(0)
        q, k, v = [
            layer(x).view(n, -1, self.num_heads, d).transpose(1, 2)
            for layer, x, d in ((self.wq, query, self.d_k), (self.wk, key, self.d_k), (self.wv, value, self.d_v))
        ]
        s = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(self.d_k)
        if mask is not None:
            while mask.dim() < 4:
                mask = mask.unsqueeze(0) if mask.dim() == 2 else mask.unsqueeze(1)
            s = s.masked_fill(mask == 0, float("-inf"))
        p = torch.softmax(s, -1)
        p = p.masked_fill(torch.isnan(p), 0)
        p = self.dropout(p)
        self.attn = p.detach()
        return self.fc(torch.matmul(p, v).transpose(1, 2).contiguous().view(n, -1, self.num_heads * self.d_v))
