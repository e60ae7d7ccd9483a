"""Attention in several heads, from what the three projections give."""

import numpy as np
import torch

LABEL = "ex-mha-write"
NAME = "attend_in_heads"

B, H, L, S, D_K, D_V = 2, 3, 5, 7, 11, 13


def check(function):
    generator = np.random.default_rng(0)
    q, k, v = (generator.normal(size=(B, n, H * d)) for n, d in ((L, D_K), (S, D_K), (S, D_V)))
    output = function(*map(torch.tensor, (q, k, v)), H)
    assert isinstance(output, torch.Tensor), f"expected a tensor, got {type(output).__name__}"
    expected = B, L, H * D_V
    assert tuple(output.shape) == expected, f"expected (B, L, H·d_v) = {expected}, got {tuple(output.shape)}"
    for b, h, i in np.ndindex(B, H, L):
        keys, values = slice(h * D_K, (h + 1) * D_K), slice(h * D_V, (h + 1) * D_V)
        right = _row(q[b, i, keys], k[b, :, keys], v[b, :, values])
        error = f"example {b}, query {i}: columns {values.start} to {values.stop - 1} are not what head {h} answers"
        np.testing.assert_allclose(output[b, i, values].numpy(), right, rtol=1e-9, err_msg=error)


def _row(query, keys, values):
    """The answer of one head to one query, by its definition."""
    powers = [np.exp(query @ key / np.sqrt(len(query))) for key in keys]
    return sum(power * value for power, value in zip(powers, values, strict=True)) / sum(powers)


def _split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _viewed(x, heads):
    return x.reshape(x.shape[0], heads, x.shape[1], -1)


def _interleaved(x, heads):
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


def _join(x):
    return x.transpose(1, 2).flatten(-2)


def _wrong(*, split=_split, values=None, join=_join, scale=lambda q, heads: q.shape[-1] ** 0.5, dim=-1):
    def attend_in_heads(q, k, v, num_heads):
        q, k, v = split(q, num_heads), split(k, num_heads), (values or split)(v, num_heads)
        return join((q @ k.mT / scale(q, num_heads)).softmax(dim) @ v)

    return attend_in_heads


def _without_transpose(x):
    return x.reshape(x.shape[0], x.shape[2], -1)


def _one_head(q, k, v, num_heads):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


WRONG = {
    "view, no transpose": _wrong(split=_viewed),
    "view all the way": _wrong(split=_viewed, join=_without_transpose),
    "only the values viewed": _wrong(values=_viewed),
    "joined without transpose": _wrong(join=_without_transpose),
    "interleaved heads": _wrong(split=_interleaved),
    "interleaved, and joined as they were": _wrong(
        split=_interleaved, join=lambda x: x.permute(0, 2, 3, 1).flatten(-2)
    ),
    "only the values interleaved": _wrong(values=_interleaved),
    "joined column by column": _wrong(join=lambda x: x.permute(0, 2, 3, 1).flatten(-2)),
    "joined from the last head on": _wrong(join=lambda x: _join(x.flip(1))),
    "tokens and heads not exchanged": _wrong(
        split=lambda x, heads: x.unflatten(-1, (heads, -1)), join=lambda x: x.flatten(-2)
    ),
    "one head as wide as all": _one_head,
    "divided by the root of the width of all heads": _wrong(scale=lambda q, heads: (heads * q.shape[-1]) ** 0.5),
    "divided by d_k": _wrong(scale=lambda q, heads: q.shape[-1]),
    "no scale": _wrong(scale=lambda q, heads: 1.0),
    "softmax over the queries": _wrong(dim=-2),
    "softmax over the heads": _wrong(dim=1),
    "the mean of the heads": _wrong(join=lambda x: x.mean(1)),
    "the first head for all": _wrong(join=lambda x: _join(x[:, :1].expand_as(x))),
    "d_k and num_heads exchanged": _wrong(split=lambda x, heads: _split(x, x.shape[-1] // heads)),
}
