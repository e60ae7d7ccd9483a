# This is how learners write.
# ruff: noqa: B905, SIM, C4, E701, E702
"""Wrong answers of people who knew neither solutions nor catalogue, told again, with the mistakes in them."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

WRONG = []


def wrong(exercise, *keys):
    """Enter a wrong answer to an exercise, and the mistakes in it."""

    def enter(answer):
        WRONG.append((exercise, answer, keys))
        return answer

    return enter


# Softmax and its backward pass.


@wrong("softmax", "softmax-infinity-zero")
def hidden_scores_become_zero(scores):
    return torch.where(torch.isinf(scores), torch.zeros_like(scores), scores).softmax(-1)


@wrong("softmax", "softmax-total-kept")
def one_running_total(scores):
    out, total = np.zeros_like(scores), 0.0
    for i, row in enumerate(scores):
        powers = np.exp(row - row.max())
        total += powers.sum()
        out[i] = powers / total
    return out


@wrong("softmax", "softmax-one-side")
def shifted_above_only(scores):
    return np.exp(scores - scores.max(-1, keepdims=True)) / np.exp(scores).sum(-1, keepdims=True)


@wrong("softmax", "softmax-others")
def ratio_to_the_others(scores):
    powers = scores.exp()
    return powers / (powers.sum(-1, keepdim=True) - powers)


@wrong("softmax", "softmax-over-queries", "softmax-overflow")
def down_the_columns_unshifted(scores):
    powers = np.exp(scores)
    return powers / powers.sum(axis=-2, keepdims=True)


@wrong("softmax", "softmax-temperature")
def sharper(scores):
    return (1.7 * scores).softmax(-1)


@wrong("softmax_backward", "backward-plus")
def plus_what_is_shared(weights, grad):
    return weights * (grad + (weights * grad).sum(-1, keepdim=True))


@wrong("softmax_backward", "backward-one-term")
def sum_without_its_weight(weights, grad):
    return weights * grad - np.sum(weights * grad, -1, keepdims=True)


@wrong("softmax_backward", "backward-of-log")
def backward_of_the_log(weights, grad):
    return grad - weights * grad.sum(-1, keepdim=True)


@wrong("softmax_backward", "backward-cross-entropy")
def weights_minus_targets(weights, grad):
    return weights - grad


@wrong("softmax_backward", "result-scaled")
def scaled_by_the_width(weights, grad):
    return weights * (grad - (weights * grad).sum(-1, keepdims=True)) / weights.shape[-1] ** 0.5


# Attention.


@wrong("attention", "mask-rows-only")
def only_dead_rows_cleared(query, key, value, mask=None):
    output = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value
    return output if mask is None else output * mask.any(-1, keepdim=True)


@wrong("attention", "softmax-missing")
def raw_scores(query, key, value, mask=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return (scores if mask is None else scores * mask) @ value


@wrong("attention", "mask-finite")
def a_weak_minus(query, key, value, mask=None):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return (scores if mask is None else scores - 4.2 * (~mask)).softmax(-1) @ value


@wrong("attention", "scale-other-factor")
def a_factor_of_ones_own(query, key, value, mask=None):
    scores = 0.37 * query @ key.mT
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1).nan_to_num(0) @ value


@wrong("attention_weights", "scores-without-query")
def keys_with_keys(query, key, mask=None):
    scores = key[..., : query.shape[-2], :] @ key.mT / key.shape[-1] ** 0.5
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1).nan_to_num(0)


# Masks.


@wrong("causal_mask", "causal-cached-closed")
def padded_with_false(L, S):
    return np.pad(np.tri(L, dtype=bool), ((0, 0), (max(S - L, 0), 0)))[:, :S]


@wrong("causal_mask", "causal-window")
def a_band(L, S):
    return [[i + S - L - 1 <= j <= i + S - L for j in range(S)] for i in range(L)]


@wrong("causal_mask", "causal-mirrored")
def upside_down(L, S):
    return torch.ones(L, S).tril(S - L).bool().flip(0)


@wrong("padding_mask", "padding-full-closed")
def minus_zero(lengths, S):
    mask = np.ones((len(lengths), S), bool)
    for row, n in zip(mask, lengths):
        row[-(S - int(n)) :] = False
    return mask


@wrong("padding_mask", "padding-one-place")
def last_token_only(lengths, S):
    return torch.arange(S) == torch.as_tensor(lengths)[:, None] - 1


@wrong("padding_mask", "padding-order")
def longest_first(lengths, S):
    return np.arange(S) < np.sort(np.asarray(lengths))[::-1][:, None]


@wrong("padding_mask", "padding-left", "padding-one-more")
def left_and_one_too_many(lengths, S):
    return torch.arange(S) >= S - torch.as_tensor(lengths)[:, None] - 1


@wrong("sliding_window", "window-wraps")
def round_the_corner(size, L, S):
    ahead = (np.arange(S) - np.arange(S - L, S)[:, None]) % S
    return (ahead < size) | (S - ahead < size)


@wrong("sliding_window", "window-lopsided")
def half_open(size, L, S):
    return [[j in range(i + S - L - size + 1, i + S - L + size - 1) for j in range(S)] for i in range(L)]


@wrong("sliding_window", "window-negative-start")
def sliced_from_behind(size, L, S):
    mask = np.zeros((L, S), bool)
    for i in range(L):
        place = i + S - L
        mask[i, place - size + 1 : place + size] = True
    return mask


# Heads.


class Heads(nn.Module):
    """A right module; what is below gets one step of it wrong."""

    def __init__(self, num_heads, d_model, d_k, d_v, dropout):
        super().__init__()
        self.num_heads, self.p = num_heads, dropout
        self.wq, self.wk = (nn.Linear(d_model, num_heads * d_k, bias=False) for _ in range(2))
        self.wv, self.fc = (
            nn.Linear(d_model, num_heads * d_v, bias=False),
            nn.Linear(num_heads * d_v, d_model, bias=False),
        )

    def given(self, query, key, value):
        key = query if key is None else key
        return query, key, key if value is None else value

    def split(self, x):
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def weigh(self, weights):
        return F.dropout(weights, self.p, self.training)

    def forward(self, query, key=None, value=None, mask=None):
        query, key, value = self.given(query, key, value)
        query, key, value = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        scores = query @ key.mT / query.shape[-1] ** 0.5
        scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
        return self.fc((self.weigh(scores.softmax(-1).nan_to_num(0)) @ value).transpose(1, 2).flatten(2))


@wrong("multi_head", "value-ignored")
class TakesNoValues(Heads):
    def given(self, query, key, value):
        return super().given(query, key, None)


@wrong("multi_head", "key-value-exchanged")
class ValuesFirst(Heads):
    def given(self, query, key, value):
        query, key, value = super().given(query, key, value)
        return query, value, key


@wrong("multi_head", "heads-overlap")
class OneColumnOn(Heads):
    def split(self, x):
        width = x.shape[-1] // self.num_heads
        return torch.stack([x[..., h : h + width] for h in range(self.num_heads)], 1)


@wrong("multi_head", "dropout-not-rescaled")
class MadeWholeAgain(Heads):
    def weigh(self, weights):
        dropped = super().weigh(weights)
        return dropped / dropped.sum(-1, keepdim=True).clamp_min(1e-9)


@wrong("grouped_heads", "groups-clamped")
def the_last_for_all_others(query, key, value, mask=None):
    index = np.minimum(np.arange(query.shape[1]), key.shape[1] - 1)
    return F.scaled_dot_product_attention(query, key[:, index], value[:, index], mask).nan_to_num(0)


@wrong("grouped_heads", "groups-along-tokens")
def repeated_along_the_tokens(query, key, value, mask=None):
    n = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(n, 2).reshape(len(x), query.shape[1], *x.shape[2:]) for x in (key, value))
    return F.scaled_dot_product_attention(query, key, value, mask).nan_to_num(0)


# A cache of keys and values.


def projected(tokens, positions, wq, wk, wv):
    x = tokens + positions[: len(tokens)]
    return x @ wq, x @ wk, x @ wv


@wrong("kv_cache", "cache-buffer")
def reads_the_whole_buffer(tokens, positions, wq, wk, wv):
    keys, values, out = np.zeros((len(positions), wk.shape[1])), np.zeros((len(positions), wv.shape[1])), []
    for i, token in enumerate(np.asarray(tokens)):
        x = token + positions[i]
        keys[i], values[i] = x @ wk, x @ wv
        powers = np.exp(keys @ (x @ wq) / math.sqrt(len(x)))
        out.append(powers / powers.sum() @ values)
    return np.array(out)


@wrong("kv_cache", "mask-zero-score")
def future_scores_zero(tokens, positions, wq, wk, wv):
    q, k, v = projected(tokens, positions, wq, wk, wv)
    return (q @ k.T / k.shape[1] ** 0.5).tril().softmax(-1) @ v


@wrong("kv_cache", "mask-after-softmax")
def future_weights_zero(tokens, positions, wq, wk, wv):
    q, k, v = projected(tokens, positions, wq, wk, wv)
    return (q @ k.T / k.shape[1] ** 0.5).softmax(-1).tril() @ v


@wrong("kv_cache", "causal-one-ahead")
def a_diagonal_too_far(tokens, positions, wq, wk, wv):
    q, k, v = projected(tokens, positions, wq, wk, wv)
    scores = q @ k.T / k.shape[1] ** 0.5
    return scores.masked_fill(torch.ones_like(scores).triu(2).bool(), -torch.inf).softmax(-1) @ v


@wrong("kv_cache", "softmax-over-queries")
def down_the_columns(tokens, positions, wq, wk, wv):
    q, k, v = projected(tokens, positions, wq, wk, wv)
    scores = q @ k.T / k.shape[1] ** 0.5
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf).softmax(0) @ v


@wrong("kv_cache", "query-key-exchanged")
def keys_ask(tokens, positions, wq, wk, wv):
    q, k, v = projected(tokens, positions, wq, wk, wv)
    return F.scaled_dot_product_attention(k[None], q[None], v[None], is_causal=True)[0]


@wrong("kv_cache", "positions-after-projection")
def positions_behind_the_matrices(tokens, positions, wq, wk, wv):
    q, k, v = (tokens @ w + positions[: len(tokens)] for w in (wq, wk, wv))
    return F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]


@wrong("kv_cache", "positions-restart", "causal-missing")
def all_at_place_zero_and_open(tokens, positions, wq, wk, wv):
    x = tokens + positions[0]
    return ((x @ wq) @ (x @ wk).T / wk.shape[1] ** 0.5).softmax(-1) @ (x @ wv)


# Positions.


def turned(x, angle):
    first, second = np.split(np.asarray(x), 2, -1)
    return np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)], -1
    )


def angles(x, offset=0, base=10000.0):
    length, width = np.shape(x)[-2:]
    return (np.arange(length) + offset)[:, None] * base ** (-np.arange(0, width, 2) / width)


@wrong("rotary", "frequency-base")
def base_77(x, offset=0):
    return turned(x, angles(x, offset, 77.0))


@wrong("rotary", "rotary-in-place")
def written_over(x, offset=0):
    x, angle, half = np.array(x), angles(x, offset), np.shape(x)[-1] // 2
    x[..., :half] = x[..., :half] * np.cos(angle) - x[..., half:] * np.sin(angle)
    x[..., half:] = x[..., half:] * np.cos(angle) + x[..., :half] * np.sin(angle)
    return x


@wrong("rotary", "rotary-half")
def first_half_only(x, offset=0):
    half = np.shape(x)[-1] // 2
    return np.concatenate([turned(x, angles(x, offset))[..., :half], x[..., half:]], -1)


@wrong("rotary", "rotary-on-output")
def output_is_turned(query, key, value):
    weights = np.exp(query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1]))
    output = weights / weights.sum(-1, keepdims=True) @ value
    return turned(output, angles(output))


@wrong("rotary", "rotary-missing")
def nothing_turned(query, key, value):
    return F.scaled_dot_product_attention(query, key, value)


@wrong("sinusoidal", "frequency-precedence")
def brackets_missing(length, d_model):
    wave = (math.sin, math.cos)
    return [[wave[j % 2](p / (10000 ** (j // 2 * 2) / d_model)) for j in range(d_model)] for p in range(length)]


@wrong("sinusoidal", "result-rounded")
def in_whole_numbers(length, d_model):
    angle = angles(np.zeros((length, d_model)))
    return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(length, d_model).astype(int).astype(float)


@wrong("sinusoidal", "result-shape")
def with_a_batch(length, d_model):
    angle = torch.tensor(angles(np.zeros((length, d_model))))
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)[None]


# Softmax in blocks.


def in_blocks(scores, values, block, wide=0, start=-math.inf, total=0.0):
    top, total, out = np.full((len(scores), 1), start), np.full((len(scores), 1), total), 0.0
    for a in range(0, scores.shape[1], block):
        part, value = scores[:, a : a + block + wide], values[a : a + block + wide]
        new = np.maximum(top, part.max(1, keepdims=True))
        powers, shrink = np.exp(part - new), np.exp(top - new)
        total, out, top = total * shrink + powers.sum(1, keepdims=True), out * shrink + powers @ value, new
    return out / total


@wrong("online_softmax", "online-overlap")
def a_column_too_far(scores, values, block):
    return in_blocks(np.asarray(scores), np.asarray(values), block, wide=1)


@wrong("online_softmax", "online-extra-column")
def from_zero_and_one(scores, values, block):
    return in_blocks(np.asarray(scores), np.asarray(values), block, start=0.0, total=1.0)


@wrong("online_softmax", "softmax-base")
def powers_of_two(scores, values, block):
    powers = torch.exp2(scores - scores.amax(1, keepdim=True))
    return powers / powers.sum(1, keepdim=True) @ values


@wrong("online_softmax", "online-weighed-by-maxima")
def maxima_for_sums(scores, values, block):
    parts = torch.stack([s.softmax(1) @ v for s, v in zip(scores.split(block, 1), values.split(block))], 1)
    shares = torch.stack([s.amax(1) for s in scores.split(block, 1)], 1).softmax(1)
    return (shares[..., None] * parts).sum(1)


# Layers.


@wrong("layer_norm", "norm-affine-order")
def gain_before_the_norm(x, gamma, beta, eps=1e-5):
    return F.layer_norm(x * gamma + beta, x.shape[-1:], eps=eps)


@wrong("layer_norm", "norm-length")
def sum_of_squares(x, gamma, beta, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return gamma * centred / np.sqrt((centred**2).sum(-1, keepdims=True) + eps) + beta


@wrong("layer_norm", "norm-unbiased", "norm-eps-outside")
def as_in_a_well_known_blog(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) + beta


@wrong("encoder_layer", "residual-missing", "layer-norm-missing")
def one_sum_and_one_norm_short(x, attend, feed_forward, norm1, norm2):
    x = norm1(attend(x))
    return x + feed_forward(x)


@wrong("encoder_layer", "norm-first")
def pre_norm_and_one_more(x, attend, feed_forward, norm1, norm2):
    x = x + attend(norm1(x))
    return norm2(x + feed_forward(norm2(x)))


@wrong("decoder_layer", "layer-norm-missing")
def one_norm_of_three(x, memory, attend, cross, feed_forward, norm1, norm2, norm3):
    x = x + attend(x)
    x = x + cross(x, memory)
    return norm3(x + feed_forward(x))


@wrong("decoder_layer", "cross-residual-memory")
class AddsTheMemory:
    def __init__(self, attend, cross, feed_forward, norm1, norm2, norm3):
        self.parts = attend, cross, feed_forward, norm1, norm2, norm3

    def forward(self, x, memory):
        attend, cross, feed_forward, norm1, norm2, norm3 = self.parts
        x = norm1(x + attend(x))
        x = norm2(memory + cross(x, memory))
        return norm3(x + feed_forward(x))


@wrong("decoder_layer", "residual-missing", "cross-missing")
def asks_itself_and_forgets(x, memory, attend, cross, feed_forward, norm1, norm2, norm3):
    x = norm1(x + attend(x))
    x = norm2(cross(x, x))
    return norm3(x + feed_forward(x))


# Greedy search.


def searched(model, start, end, max_length, pick=None, sees=list, gives=lambda tokens: tokens[1:]):
    pick = pick or (lambda logits: int(logits[0, -1].argmax()))
    tokens = [start]
    while len(tokens) <= max_length:
        token = pick(model(torch.tensor([sees(tokens)])))
        if token == end:
            break
        tokens.append(token)
    return gives(tokens)


@wrong("greedy_search", "greedy-other-place")
def last_place_but_one(model, start, end, max_length):
    return searched(model, start, end, max_length, pick=lambda logits: int(logits[0, -2:][0].argmax()))


@wrong("greedy_search", "greedy-largest-in-size")
def largest_in_size(model, start, end, max_length):
    return searched(model, start, end, max_length, pick=lambda logits: int(logits[0, -1].abs().argmax()))


@wrong("greedy_search", "greedy-window")
def two_tokens_back(model, start, end, max_length):
    return searched(model, start, end, max_length, sees=lambda tokens: tokens[-2:])


@wrong("greedy_search", "greedy-reversed")
def turned_round(model, start, end, max_length):
    return searched(model, start, end, max_length, gives=lambda tokens: tokens[:0:-1])


@wrong("greedy_search", "greedy-wrong-axis")
def over_the_places(model, start, end, max_length):
    return searched(model, start, end, max_length, pick=lambda logits: int(logits.argmax(1)[0, -1]))
