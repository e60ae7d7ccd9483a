"""What the package is compared with, and what is fed to it.

All sizes differ, and are prime where they can be, so that no swapped axis hides.
"""

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attnlib import attention, functional, reference
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from attnlib.scores import Scores

B, H, L, S, D_K, D_V, D_MODEL = 2, 3, 5, 7, 11, 13, 17
GROUPED_H, H_KV = 6, 3


def draw(*shape, dtype=torch.float64, requires_grad=False):
    """Return normal random numbers, the same ones in each run of a test."""
    return torch.randn(*shape, dtype=dtype).requires_grad_(requires_grad)


def draw_qkv(*batch, heads=(H, H), dtype=torch.float64, requires_grad=False, lengths=(L, S)):
    """Return query (…, H, L, d_k), key (…, H_kv, S, d_k) and value (…, H_kv, S, d_v)."""
    shapes = (
        (*batch, heads[0], lengths[0], D_K),
        (*batch, heads[1], lengths[1], D_K),
        (*batch, heads[1], lengths[1], D_V),
    )
    return tuple(draw(*shape, dtype=dtype, requires_grad=requires_grad) for shape in shapes)


def open_scores(query, key, mask=None, bias=None):
    """Where the scores of a query and a key are open, as a kernel is told."""
    return Scores.of(mask, bias, (*query.shape[:-1], key.shape[-2]), query.device)


def attend(query, key, value, mask=None, *, bias=None, scale=None, dropout_p=0.0, need_weights=False, sizes=ON_A_CPU):
    """:func:`attnlib.attention` with, on request, the weights beside the output, or with other sizes."""
    scores = open_scores(query, key, mask, bias)
    options = {"scale": functional.scale_of(query, scale), "dropout_p": dropout_p}
    return functional.compute(query, key, value, scores, **options, need_weights=need_weights, sizes=sizes)


def with_weights(query, key, value, mask=None, **kwargs):
    """:func:`attnlib.attention`, computed the way that stores the weights."""
    return attend(query, key, value, mask, **kwargs, need_weights=True)[0]


SMALLEST = Sizes(
    few_keys=0, few_keys_with_dropout=0, few_pairs=0, many_weights=0, few_queries=0,
    block=2, alike=1, smallest=1, long=2, gap=1, rows=2,
)  # fmt: skip


def in_blocks(query, key, value, mask=None, **kwargs):
    """:func:`attnlib.attention`, cut into the smallest blocks wherever a kernel may cut."""
    return attend(query, key, value, mask, **kwargs, sizes=SMALLEST)[0]


PATHS = {"fused": attention, "blockwise": in_blocks, "with weights": with_weights}


def dense_attention(query, key, value, allowed, scale):
    """Attention with a bool tensor of all pairs, in plain torch: zero where a query may attend to nothing."""
    group = query.shape[-3] // key.shape[-3] if query.dim() > 2 else 1
    if group > 1:
        key, value = (x.repeat_interleave(group, dim=-3) for x in (key, value))
    scores = (query @ key.mT * scale).masked_fill(~allowed, -torch.inf)
    dead = ~allowed.any(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(dead, 0), dim=-1).masked_fill(dead, 0) @ value


def loops(query, key, value, allowed=None, bias=None, scale=None):
    """The output (B, H, L, d_v) of :mod:`attnlib.reference`, one example and one head at a time."""
    return _each_head(reference.attention, query, [key, value], allowed, bias, scale)


def loop_weights(query, key, allowed=None, bias=None, scale=None):
    """The weights (B, H, L, S) of :mod:`attnlib.reference`."""
    return _each_head(reference.attention_weights, query, [key], allowed, bias, scale)


def _each_head(function, query, keys, allowed, bias, scale):
    batch, heads, rows = query.shape[:3]
    shape = (batch, heads, rows, keys[0].shape[2])
    group = heads // keys[0].shape[1]
    allowed, bias = (None if x is None else x.broadcast_to(shape).numpy() for x in (allowed, bias))

    def one(b, h):
        mask = None if allowed is None else allowed[b, h]
        shift = None if bias is None else bias[b, h]
        arrays = [query[b, h].numpy(), *(x[b, h // group].numpy() for x in keys)]
        return function(*arrays, mask, bias=shift, scale=scale)

    return torch.from_numpy(np.array([[one(b, h) for h in range(heads)] for b in range(batch)]))


class NoArithmetic(TorchDispatchMode):
    """While this is entered, every operation on a tensor's numbers fails."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        raise AssertionError(f"{operation} was computed before the arguments were checked")
