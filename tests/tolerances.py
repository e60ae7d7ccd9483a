"""How close is equal: one place for every dtype."""

import torch

TOLERANCES = {
    torch.float64: {"rtol": 1e-10, "atol": 1e-12},
    torch.float32: {"rtol": 1e-5, "atol": 2e-6},
    torch.float16: {"rtol": 2e-3, "atol": 2e-3},
    torch.bfloat16: {"rtol": 1.6e-2, "atol": 1.6e-2},
}


def assert_close(actual, expected):
    """Hold that two tensors have one shape and dtype and equal numbers, to what the dtype can hold."""
    torch.testing.assert_close(actual, expected, **TOLERANCES[actual.dtype])


def same(actual, expected) -> bool:
    """Say whether two tensors are as close as :func:`assert_close` asks."""
    return actual.shape == expected.shape and torch.allclose(actual, expected, **TOLERANCES[actual.dtype])
