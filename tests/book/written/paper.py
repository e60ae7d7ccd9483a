"""A sub-layer with the norm on its input, as the authors' later models have it."""

from types import SimpleNamespace

import numpy as np
import torch

LABEL = "ex-paper-v2"
NAME = "sublayer"

B, L, D_MODEL = 2, 3, 5


def check(function):
    generator = np.random.default_rng(0)
    x = 3 * generator.normal(size=(B, L, D_MODEL)) + 1
    rows, kept, weight, bias = (
        generator.normal(size=shape) for shape in ((L, L), (L, D_MODEL), (D_MODEL,), (D_MODEL,))
    )

    def norm(x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return weight * centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) + bias

    def compute(x):
        return rows @ x

    def dropout(x):
        return x * np.where(kept < 0, 0.0, 1.6)

    part = SimpleNamespace(norm=_of_tensors(norm), dropout=_of_tensors(dropout))
    output = function(torch.tensor(x), _of_tensors(compute), part)
    assert isinstance(output, torch.Tensor), f"expected a tensor, got {type(output).__name__}"
    assert tuple(output.shape) == x.shape, f"expected (B, L, d_model) = {x.shape}, got {tuple(output.shape)}"
    error = "expected x with the dropped output of its norm added"
    np.testing.assert_allclose(output.numpy(), x + dropout(compute(norm(x))), rtol=1e-9, atol=1e-9, err_msg=error)


def _of_tensors(function):
    return lambda x: torch.tensor(function(x.numpy()))


WRONG = {
    "post-norm, as before": lambda x, compute, part: part.norm(x + part.dropout(compute(x))),
    "no norm": lambda x, compute, part: x + part.dropout(compute(x)),
    "the norm on the output": lambda x, compute, part: x + part.dropout(part.norm(compute(x))),
    "two norms": lambda x, compute, part: part.norm(x + part.dropout(compute(part.norm(x)))),
    "no sum": lambda x, compute, part: part.dropout(compute(part.norm(x))),
    "the normed input is added": lambda x, compute, part: part.norm(x) + part.dropout(compute(part.norm(x))),
    "no dropout": lambda x, compute, part: x + compute(part.norm(x)),
    "dropout on the sum": lambda x, compute, part: part.dropout(x + compute(part.norm(x))),
    "dropout on the input": lambda x, compute, part: x + compute(part.dropout(part.norm(x))),
}
