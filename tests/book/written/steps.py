"""All five steps in torch, for a batch."""

import numpy as np
import torch

LABEL = "ex-steps-write"
NAME = "self_attention"

B, L, D_MODEL, D_K, D_V = 2, 5, 7, 3, 11


def check(function):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(B, L, D_MODEL))
    wq, wk, wv = (generator.normal(size=(D_MODEL, width)) for width in (D_K, D_K, D_V))
    output = function(*map(torch.tensor, (x, wq, wk, wv)))
    assert isinstance(output, torch.Tensor), f"expected a tensor, got {type(output).__name__}"
    assert tuple(output.shape) == (B, L, D_V), f"expected (B, L, d_v) = {(B, L, D_V)}, got {tuple(output.shape)}"
    for b in range(B):
        for i in range(L):
            right = _row(x[b], i, wq, wk, wv)
            error = f"example {b}, query {i}: not the average of the values by the softmax of its scaled scores"
            np.testing.assert_allclose(output[b, i].numpy(), right, rtol=1e-9, err_msg=error)


def _row(x, i, wq, wk, wv):
    """One output row, by its definition."""
    powers = [np.exp((x[i] @ wq) @ (x[j] @ wk) / np.sqrt(wq.shape[1])) for j in range(len(x))]
    return sum(power * (x[j] @ wv) for j, power in enumerate(powers)) / sum(powers)


def _wrong(*, scale=lambda q, x: q.shape[-1] ** 0.5, dim=-1, mix=lambda weights, x, k, v: weights @ v, turn=False):
    def attention(x, wq, wk, wv):
        q, k, v = x @ wq, x @ wk, x @ wv
        scores = (k @ q.mT if turn else q @ k.mT) / scale(q, x)
        return mix(torch.softmax(scores, dim), x, k, v)

    return attention


WRONG = {
    "no scale": _wrong(scale=lambda q, x: 1.0),
    "divided by d_k": _wrong(scale=lambda q, x: q.shape[-1]),
    "divided by the root of d_model": _wrong(scale=lambda q, x: x.shape[-1] ** 0.5),
    "softmax over the queries": _wrong(dim=-2),
    "softmax over the batch": _wrong(dim=0),
    "queries and keys exchanged": _wrong(turn=True),
    "weights times the input": _wrong(mix=lambda weights, x, k, v: weights @ x),
    "weights times the keys": _wrong(mix=lambda weights, x, k, v: weights @ k),
    "the first example for all": lambda x, *w: _wrong()(x[:1].expand_as(x), *w),
}
