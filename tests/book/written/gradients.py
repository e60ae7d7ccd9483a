"""The backward pass of attention under a causal mask."""

import math

import torch

LABEL = "ex-gradients-write"
NAME = "causal_backward"

L, D_K, D_V = 5, 3, 2


def check(function):
    generator = torch.Generator().manual_seed(0)
    shapes = ((L, D_K), (L, D_K), (L, D_V), (L, D_V))
    arguments = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    given = [argument.clone() for argument in arguments]
    found = function(*arguments)
    for now, before in zip(arguments, given, strict=True):
        assert torch.equal(now, before), "the arguments were changed"
    assert isinstance(found, tuple | list), f"expected dQ, dK and dV, got {type(found).__name__}"
    assert len(found) == 3, f"expected dQ, dK and dV, got {len(found)}"
    for name, ours, right in zip(("dQ", "dK", "dV"), found, _by_autograd(*arguments), strict=True):
        assert isinstance(ours, torch.Tensor), f"{name}: expected a tensor, got {type(ours).__name__}"
        assert ours.shape == right.shape, f"{name}: expected {tuple(right.shape)}, got {tuple(ours.shape)}"
        assert torch.allclose(ours, right, rtol=1e-9, atol=1e-12), f"{name}: expected\n{right}\ngot\n{ours}"


def _by_autograd(query, key, value, dO):
    leaves = [t.clone().requires_grad_() for t in (query, key, value)]
    q, k, v = leaves
    rows = []
    for i in range(L):  # row by row, without a mask: a token meets itself and those before
        scores = torch.stack([(q[i] * k[j]).sum() for j in range(i + 1)]) / math.sqrt(D_K)
        rows.append(sum(weight * v[j] for j, weight in enumerate(torch.exp(scores) / torch.exp(scores).sum())))
    return torch.autograd.grad(torch.stack(rows), leaves, dO)


def _wrong(
    *,
    close=lambda scores, later: scores.masked_fill(later, -math.inf),
    after=lambda a, later: a,
    average=lambda a, d: (a * d).sum(-1, keepdim=True),
    later=lambda n: torch.ones(n, n).triu(diagonal=1).bool(),
    divisor=math.sqrt,
    keys=lambda dz: dz.T,
    values=lambda a: a.T,
):
    def backward(query, key, value, dO):
        root, closed = divisor(D_K), later(len(query))
        a = after(close(query @ key.T / math.sqrt(D_K), closed).softmax(dim=-1), closed)
        d = dO @ value.T
        dz = a * (d - average(a, d))
        return dz @ key / root, keys(dz) @ query / root, values(a) @ dO

    return backward


WRONG = {
    "no mask": _wrong(close=lambda scores, later: scores),
    "the mask after the softmax": _wrong(close=lambda s, later: s, after=lambda a, later: a.masked_fill(later, 0)),
    "the future instead of the past": _wrong(later=lambda n: torch.ones(n, n).triu().bool().fill_diagonal_(False).T),
    "zero instead of minus infinity": _wrong(close=lambda scores, later: scores.masked_fill(later, 0)),
    "one token too many": _wrong(later=lambda n: torch.ones(n, n).triu(diagonal=2).bool()),
    "no average": _wrong(average=lambda a, d: 0),
    "the plain mean": _wrong(average=lambda a, d: d.mean(-1, keepdim=True)),
    "root forgotten": _wrong(divisor=lambda d_k: 1),
    "no transpose for the keys": _wrong(keys=lambda dz: dz),
    "no transpose for the values": _wrong(values=lambda a: a),
    "only dV": lambda q, k, v, d: d,
}
