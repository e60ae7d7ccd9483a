"""Grouped heads without a copy of keys or values."""

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode

LABEL = "ex-one-class-grouped"
NAME = "grouped_attention"

B, H, H_KV, L, S, D_K, D_V = 2, 6, 2, 3, 5, 7, 11


class _Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that was made meanwhile."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


def check(function):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(B, H, L, D_K, generator=generator, dtype=torch.float64)
    k = torch.randn(B, H_KV, S, D_K, generator=generator, dtype=torch.float64)
    v = torch.randn(B, H_KV, S, D_V, generator=generator, dtype=torch.float64)
    with _Largest() as largest:
        found = function(q, k, v)
    assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
    assert tuple(found.shape) == (B, H, L, D_V), f"expected (B, H, L, d_v) = {(B, H, L, D_V)}, got {tuple(found.shape)}"
    for b in range(B):
        for h in range(H):
            kv = h // (H // H_KV)
            for i in range(L):
                right = _row(q[b, h, i].tolist(), k[b, kv].tolist(), v[b, kv].tolist())
                error = f"example {b}, query head {h}, which reads key head {kv}, row {i}: another answer was expected"
                assert torch.allclose(found[b, h, i], torch.tensor(right, dtype=torch.float64)), error
    # All heads' scores, queries and answers are smaller than the keys, one copy for each query head.
    assert largest.numbers < B * H * S * D_K, "keys or values are copied once for each query head"


def _row(query, keys, values):
    """The answer to one query, in plain numbers."""
    scores = [sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(len(query)) for key in keys]
    parts = [math.exp(score) for score in scores]
    columns = zip(*values, strict=True)
    return [sum(part * number for part, number in zip(parts, column, strict=True)) / sum(parts) for column in columns]


def _attend(q, k, v, scale=D_K**0.5):
    return (q @ k.transpose(-2, -1) / scale).softmax(-1) @ v


def _grouped(q, k, v, **how):
    return _attend(q.reshape(B, H_KV, -1, D_K), k, v, **how).reshape(B, H, L, -1)


def _copied(q, k, v):
    return _attend(q, k.repeat_interleave(H // H_KV, 1), v.repeat_interleave(H // H_KV, 1))


def _not_neighbours(q, k, v):
    q = q.unflatten(1, (-1, H_KV)).transpose(1, 2).flatten(2, 3)
    return _attend(q, k, v).unflatten(2, (-1, L)).transpose(1, 2).flatten(1, 2)


WRONG = {
    "copied": _copied,
    "copied in another order": lambda q, k, v: _attend(q, k.repeat(1, 3, 1, 1), v.repeat(1, 3, 1, 1)),
    "expanded, which the product copies": lambda q, k, v: _attend(
        q.unflatten(1, (H_KV, -1)), k[:, :, None], v[:, :, None]
    ).flatten(1, 2),
    "not neighbours": _not_neighbours,
    "groups not taken apart": lambda q, k, v: _attend(q.reshape(B, H_KV, -1, D_K), k, v),
    "not scaled": lambda q, k, v: _grouped(q, k, v, scale=1.0),
    "scaled by the keys' number": lambda q, k, v: _grouped(q, k, v, scale=math.sqrt(S)),
    "the first key head for all": lambda q, k, v: _grouped(q, k[:, :1].expand_as(k), v[:, :1].expand_as(v)),
    "rows and group swapped": lambda q, k, v: _attend(
        q.unflatten(1, (H_KV, -1)).transpose(2, 3).flatten(2, 3), k, v
    ).reshape(B, H, L, -1),
}
