"""What each key adds to each query's output, in each head."""

import math

import numpy as np
import torch

LABEL = "ex-reading-write"
NAME = "added_lengths"

B, H, L, S, D_V, D_MODEL = 2, 3, 5, 7, 11, 13


def check(function):
    generator = np.random.default_rng(0)
    weights = generator.random(size=(B, H, L, S))
    weights /= weights.sum(-1, keepdims=True)
    values = generator.normal(size=(B, S, H * D_V)) * np.arange(1, S + 1)[:, None]
    wo = generator.normal(size=(H * D_V, D_MODEL))
    found = function(*map(torch.tensor, (weights, values, wo)))
    assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
    assert tuple(found.shape) == (B, H, L, S), f"expected (B, H, L, S) = {(B, H, L, S)}, got {tuple(found.shape)}"
    for b, h, i, j in np.ndindex(B, H, L, S):
        # Not by blocks: the values of all other heads and keys are zero, and what is left goes through the whole W_O.
        answers = np.zeros(H * D_V)
        for column in range(h * D_V, (h + 1) * D_V):
            answers[column] = weights[b, h, i, j] * values[b, j, column]
        right = math.sqrt(sum(float(answers @ wo[:, feature]) ** 2 for feature in range(D_MODEL)))
        error = f"example {b}, head {h}: not the length of what key {j} adds to query {i}"
        np.testing.assert_allclose(found[b, h, i, j].item(), right, rtol=1e-9, err_msg=error)


def _heads(x):
    return x.unflatten(-1, (H, D_V)).transpose(1, 2)


def _blocks(wo):
    return wo.unflatten(0, (H, D_V))


def _length(x):
    return x.norm(dim=-1)


def _wrong(
    *, heads=_heads, blocks=_blocks, length=_length, weigh=lambda weights, lengths: weights * lengths[:, :, None]
):
    """What the exercise wants, with one thing spoilt."""
    return lambda weights, values, wo: weigh(weights, length(heads(values) @ blocks(wo)))


def _after_the_average(weights, values, wo):
    """The length of what the whole head adds, shared out by the weights."""
    return weights * _length(weights @ _heads(values) @ _blocks(wo))[..., None]


def _of_all_heads(weights, values, wo):
    return weights * _length(values @ wo)[:, None, None]


WRONG = {
    "the weights alone": lambda weights, values, wo: weights,
    "no W_O": lambda weights, values, wo: weights * _length(_heads(values))[:, :, None],
    "no weights": _wrong(weigh=lambda weights, lengths: lengths[:, :, None].expand_as(weights)),
    "W_O and the values multiplied by their lengths": lambda weights, values, wo: (
        weights * (_length(_heads(values)) * _blocks(wo).norm(dim=(1, 2)))[:, :, None]
    ),
    "the square of the length": _wrong(length=lambda x: (x**2).sum(-1)),
    "the sum of the numbers": _wrong(length=lambda x: x.sum(-1)),
    "the sum of their sizes": _wrong(length=lambda x: x.abs().sum(-1)),
    "the mean square": _wrong(length=lambda x: (x**2).mean(-1).sqrt()),
    "the largest number": _wrong(length=lambda x: x.abs().amax(-1)),
    "the first head's rows for all": _wrong(blocks=lambda wo: wo[:D_V]),
    "interleaved rows of W_O": _wrong(blocks=lambda wo: wo.unflatten(0, (D_V, H)).transpose(0, 1)),
    "interleaved values": _wrong(heads=lambda x: x.unflatten(-1, (D_V, H)).permute(0, 3, 1, 2)),
    "values viewed": _wrong(heads=lambda x: x.reshape(B, H, S, D_V)),
    "the rows of another head": _wrong(blocks=lambda wo: _blocks(wo).flip(0)),
    "all heads' lengths in one": _of_all_heads,
    "after the average": _after_the_average,
    "the root of the weights": _wrong(weigh=lambda weights, lengths: weights.sqrt() * lengths[:, :, None]),
    "normed to sum to one": _wrong(
        weigh=lambda weights, lengths: torch.nn.functional.normalize(weights * lengths[:, :, None], p=1, dim=-1)
    ),
    "the mean over heads": _wrong(
        weigh=lambda weights, lengths: (weights * lengths[:, :, None]).mean(1, keepdim=True).expand_as(weights)
    ),
    "the first example for all": _wrong(heads=lambda x: _heads(x[:1].expand_as(x))),
}
