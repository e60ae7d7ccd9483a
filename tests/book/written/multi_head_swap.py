"""A layer whose two heads have changed places."""

from copy import deepcopy

import torch
from torch import nn

LABEL = "ex-mha-swap"
NAME = "swapped"

B, L, D_MODEL, D_K, D_V = 2, 5, 7, 3, 11


class _Layer(nn.Module):
    """Two heads, of which each keeps its own weights."""

    def __init__(self):
        super().__init__()
        self.wq, self.wk = (nn.Linear(D_MODEL, 2 * D_K, bias=False) for _ in range(2))
        self.wv, self.fc = nn.Linear(D_MODEL, 2 * D_V, bias=False), nn.Linear(2 * D_V, D_MODEL, bias=False)

    def forward(self, query, key=None, value=None, mask=None):
        key = query if key is None else key
        value = key if value is None else value
        q, k, v = self.wq(query), self.wk(key), self.wv(value)
        heads = []
        for head in range(2):
            of_k, of_v = slice(head * D_K, (head + 1) * D_K), slice(head * D_V, (head + 1) * D_V)
            heads.append((q[..., of_k] @ k[..., of_k].mT / D_K**0.5).softmax(-1) @ v[..., of_v])
        return self.fc(torch.cat(heads, dim=-1))


@torch.no_grad()
def check(function):
    torch.manual_seed(0)
    layer, x = _Layer().double(), torch.randn(B, L, D_MODEL, dtype=torch.float64)
    before = deepcopy(layer.state_dict())
    other = function(layer)
    assert isinstance(other, nn.Module), f"expected a layer, got {type(other).__name__}"
    for name, weight in layer.state_dict().items():
        assert torch.equal(weight, before[name]), f"{name} of the layer itself has changed: return a copy"
    for name, width in (("wq", D_K), ("wk", D_K), ("wv", D_V)):
        old, new = getattr(layer, name).weight, getattr(other, name).weight
        assert new.shape == old.shape, f"{name}: expected {tuple(old.shape)}, got {tuple(new.shape)}"
        for row in range(2 * width):
            assert torch.equal(new[row], old[(row + width) % (2 * width)]), f"{name}: row {row} is of another head"
    for column in range(2 * D_V):
        right = layer.fc.weight[:, (column + D_V) % (2 * D_V)]
        assert torch.equal(other.fc.weight[:, column], right), f"fc: column {column} reads another head"
    assert torch.allclose(other(x), layer(x)), "the output is another one"


def _wrong(*, axes=(0, 0, 0, 1), turn=lambda weight, axis: torch.cat(weight.chunk(2, axis)[::-1], axis), copy=deepcopy):
    """What the exercise wants, with one thing spoilt; an axis of None leaves a matrix alone."""

    def swapped(attend):
        other = copy(attend)
        for name, axis in zip(("wq", "wk", "wv", "fc"), axes, strict=True):
            linear = getattr(other, name)
            if axis is not None:
                linear.weight.data = turn(linear.weight.data, axis)
        return other

    return swapped


WRONG = {
    "nothing is swapped": deepcopy,
    "the layer itself": _wrong(copy=lambda attend: attend),
    "fc forgotten": _wrong(axes=(0, 0, 0, None)),
    "only fc": _wrong(axes=(None, None, None, 1)),
    "values forgotten": _wrong(axes=(0, 0, None, 1)),
    "keys forgotten": _wrong(axes=(0, None, 0, 1)),
    "queries and keys only": _wrong(axes=(0, 0, None, None)),
    "the features too": _wrong(turn=lambda weight, axis: weight.flip(axis)),
    "neighbouring rows": _wrong(
        turn=lambda weight, axis: weight.unflatten(axis, (-1, 2)).flip(axis + 1).flatten(axis, axis + 1)
    ),
    "turned by one row": _wrong(turn=lambda weight, axis: weight.roll(1, axis)),
}
