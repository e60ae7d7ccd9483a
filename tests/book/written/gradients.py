"""The backward pass of a softmax, without its Jacobian."""

import numpy as np
import torch

LABEL = "ex-gradients-write"
NAME = "softmax_backward"

B, L, S = 2, 3, 5


def check(function):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(B, L, S, generator=generator, dtype=torch.float64).softmax(dim=-1)
    grad_weights = torch.randn(B, L, S, generator=generator, dtype=torch.float64)
    given = weights.clone(), grad_weights.clone()
    found = function(weights, grad_weights)
    for now, before in zip((weights, grad_weights), given, strict=True):
        assert torch.equal(now, before), "the arguments were changed"
    assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
    assert tuple(found.shape) == (B, L, S), f"expected (B, L, S) = {(B, L, S)}, got {tuple(found.shape)}"
    for b in range(B):
        for i in range(L):
            right = _row(weights[b, i].numpy(), grad_weights[b, i].numpy())
            error = f"example {b}, query {i}: not the row's Jacobian times what arrives"
            np.testing.assert_allclose(found[b, i].numpy(), right, rtol=1e-9, atol=1e-12, err_msg=error)
    sure = function(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, -4.0]]))
    assert not sure.any(), f"a weight of 1 and one of 0 let nothing through, got {sure.tolist()}"


def _row(a, arrives):
    """One row, by the derivative of each weight by each score."""
    size = range(len(a))
    return [sum(arrives[m] * a[m] * ((m == j) - a[j]) for m in size) for j in size]


def _wrong(*, of=lambda a, d: a, average=lambda a, d: (a * d).sum(-1, keepdim=True)):
    return lambda a, d: of(a, d) * (d - average(a, d))


WRONG = {
    "like a sigmoid": lambda a, d: a * (1 - a) * d,
    "no average": _wrong(average=lambda a, d: 0),
    "the plain mean": _wrong(average=lambda a, d: d.mean(-1, keepdim=True)),
    "the sum, not weighted": _wrong(average=lambda a, d: d.sum(-1, keepdim=True)),
    "an average over the queries": _wrong(average=lambda a, d: (a * d).sum(-2, keepdim=True)),
    "one average for all": _wrong(average=lambda a, d: (a * d).sum()),
    "the weight left out": _wrong(of=lambda a, d: 1.0),
    "the sign turned": _wrong(of=lambda a, d: -a),
    "what arrives is passed on": lambda a, d: d,
}
