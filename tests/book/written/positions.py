"""Rotary positions, whose pairs are neighbours."""

import cmath

import numpy as np
import torch

LABEL = "ex-positions-write"
NAME = "rotary_neighbours"

B, H, L, D_K = 2, 3, 5, 14


def check(function):
    x = np.random.default_rng(0).normal(size=(B, H, L, D_K))
    for offset, base in ((0, 10_000), (7, 10_000), (7, 10)):
        turned = function(torch.tensor(x), offset, base)
        assert isinstance(turned, torch.Tensor), f"expected a tensor, got {type(turned).__name__}"
        assert tuple(turned.shape) == x.shape, f"expected (B, H, L, d_k) = {x.shape}, got {tuple(turned.shape)}"
        for row in np.ndindex(B, H, L):
            right = _by_hand(x[row], row[-1] + offset, base)
            error = f"place {row[-1]} of a call with offset {offset}, base {base}"
            np.testing.assert_allclose(turned[row].numpy(), right, rtol=1e-5, atol=1e-6, err_msg=error)
    right = [_by_hand(row, place, 10_000) for place, row in enumerate(x[0, 0])]
    np.testing.assert_allclose(
        function(torch.tensor(x[0, 0])).numpy(), right, rtol=1e-5, atol=1e-6, err_msg="(L, d_k), nothing else said"
    )


def _by_hand(row, place, base):
    """One row: each pair is a complex number, and is multiplied by one of length 1."""
    pairs = [complex(row[2 * i], row[2 * i + 1]) * cmath.exp(1j * place * base ** (-2 * i / D_K)) for i in range(7)]
    return [part for pair in pairs for part in (pair.real, pair.imag)]


def _wrong(*, places=lambda n, offset: torch.arange(n) + offset, speed=2, sign=1, split=None, join=None, axis=-2):
    def turn(x, offset=0, base=10_000):
        d_k = x.shape[-1]
        angles = places(x.shape[axis], offset)[:, None] * base ** (-speed * torch.arange(d_k // 2) / d_k)
        a, b = split(x) if split else (x[..., 0::2], x[..., 1::2])
        cos, sin = angles.cos(), sign * angles.sin()
        if axis == 0:
            cos, sin = cos[:, None, None], sin[:, None, None]
        turned = a * cos - b * sin, b * cos + a * sin
        return torch.cat(turned, -1) if join else torch.stack(turned, -1).flatten(-2)

    return turn


WRONG = {
    "halves": _wrong(split=lambda x: x.chunk(2, -1), join=True),
    "neighbours in, halves out": _wrong(join=True),
    "halves in, neighbours out": _wrong(split=lambda x: x.chunk(2, -1)),
    "offset forgotten": _wrong(places=lambda n, offset: torch.arange(n)),
    "offset subtracted": _wrong(places=lambda n, offset: torch.arange(n) - offset),
    "places from 1": _wrong(places=lambda n, offset: torch.arange(n) + offset + 1),
    "turned backwards": _wrong(sign=-1),
    "speeds fall half as fast": _wrong(speed=1),
    "all at the speed of the first": _wrong(speed=0),
    "places along the batch": _wrong(axis=0),
    "base fixed": lambda x, offset=0, base=10_000: _wrong()(x, offset),
    "added, not turned": lambda x, offset=0, base=10_000: x + _wrong()(torch.ones_like(x), offset, base),
    "nothing done": lambda x, offset=0, base=10_000: x,
}
