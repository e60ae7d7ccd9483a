"""A state of linear attention that fades."""

import numpy as np
import torch

LABEL = "ex-where-next-fading"
NAME = "fading"

N, D_K, D_V = 5, 3, 2


def check(function):
    generator = np.random.default_rng(0)
    keys, values = generator.normal(size=(N, D_K)), generator.normal(size=(N, D_V))
    for factor in (1.0, 0.5, 0.0):
        found = function(torch.tensor(keys), torch.tensor(values), factor)
        assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
        assert tuple(found.shape) == (D_K, D_V), f"expected a state of {(D_K, D_V)}, got {tuple(found.shape)}"
        right = np.zeros((D_K, D_V))
        for i in range(N):
            right += factor ** (N - 1 - i) * np.outer(keys[i], values[i])
        late = f"with the factor {factor} the newest pair has faded, too: fade first, then write"
        assert factor == 1 or not np.allclose(found, factor * right), late
        np.testing.assert_allclose(found, right, err_msg=f"the factor {factor}", rtol=1e-9, atol=1e-12)


def _wrong(step):
    def fading(keys, values, factor):
        state = torch.zeros(keys.shape[1], values.shape[1], dtype=keys.dtype)
        for key, value in zip(keys, values, strict=True):
            state = step(state, key[:, None] * value, factor)
        return state

    return fading


WRONG = {
    "nothing fades": _wrong(lambda state, pair, factor: state + pair),
    "the newest fades, too": _wrong(lambda state, pair, factor: factor * (state + pair)),
    "the newest alone fades": _wrong(lambda state, pair, factor: state + factor * pair),
    "a mean": _wrong(lambda state, pair, factor: factor * state + (1 - factor) * pair),
    "only what is new": _wrong(lambda state, pair, factor: pair),
    "the factor is taken away": _wrong(lambda state, pair, factor: (1 - factor) * state + pair),
    "the oldest fades least": lambda keys, values, factor: _wrong(lambda s, p, f: f * s + p)(
        keys.flip(0), values.flip(0), factor
    ),
    "turned": lambda keys, values, factor: _wrong(lambda s, p, f: f * s + p)(values, keys, factor),
}
