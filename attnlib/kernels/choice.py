"""Which kernel computes: one function decides, and one says why."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnlib import checks, masks
from attnlib.kernels import blockwise, explicit, fused
from attnlib.masks import Mask

__all__ = ["KERNELS", "Choice", "choose", "explain"]

KERNELS = {"explicit": explicit, "blockwise": blockwise, "fused": fused}

# Measured on two cores: for fewer pairs of a query and a key, one call under a dense mask is faster than a plan.
FEW_PAIRS = 2**14
# With dropout torch stores all weights, several times. From so many numbers on, they are computed again instead.
MANY_WEIGHTS = 2**26


class Choice(NamedTuple):
    kernel: str  # a key of KERNELS
    reason: str


def choose(query, key, value, mask, *, bias=None, dropout_p=0.0, need_weights=False) -> Choice:
    """Return the kernel for checked arguments, and the reason. ``mask`` is None where it would leave everything open.

    >>> import torch
    >>> x = torch.zeros(1, 2, 300, 4)
    >>> choose(x, x, x, masks.sliding_window(8))
    Choice(kernel='blockwise', reason='the mask says which runs of keys are open')
    """
    L, S = query.shape[-2], key.shape[-2]
    if need_weights:
        return Choice("explicit", "the weights are asked for")
    if bias is not None:
        return Choice("fused", "a bias holds a number for each pair, so each pair is computed")
    if not _plain(query, key, value):
        return Choice("fused", "only plain tensors on a CPU, outside of compiled graphs, can be cut into blocks")
    if isinstance(mask, Tensor | masks.Given):
        return Choice("fused", "a mask that is given pair by pair does not say which runs of keys are open")
    if dropout_p and query[..., 0].numel() * S >= MANY_WEIGHTS:
        return Choice("blockwise", "with dropout, torch's kernel would store all weights")
    if mask is None:
        return Choice("fused", "there is no mask, so each pair is computed")
    if isinstance(mask, masks.Causal) and L == S and not dropout_p:
        return Choice("fused", "torch's is_causal is this mask")
    if L * S < FEW_PAIRS:
        return Choice("fused", "there are too few pairs for a plan to pay")
    return Choice("blockwise", "the mask says which runs of keys are open")


def _plain(*tensors: Tensor) -> bool:
    """Say whether kernels may look at the mask's numbers, and write into tensors block by block."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return all(type(x) in (Tensor, nn.Parameter) and x.is_cpu for x in tensors) and tensors[0].numel() > 0


def explain(query: Tensor, key: Tensor, mask: Mask | Tensor | None = None) -> str:
    """Say in a sentence which kernel :func:`attnlib.attention` would take, and why.

    Parameters
    ----------
    query: (…, H, L, d_k), or (L, d_k).
    key: (…, H_kv, S, d_k), or (S, d_k).
    mask: a Mask, or a bool tensor, True where a query may attend.

    Raises
    ------
    ValueError: if sizes do not fit.
    TypeError: if something is no tensor, or a mask is not bool.

    >>> import torch
    >>> x = torch.zeros(2, 8, 4096, 64)
    >>> print(explain(x, x, masks.causal()))
    fused: torch's is_causal is this mask.
    >>> print(explain(x, x, masks.causal() & masks.sliding_window(256)))
    blockwise: the mask says which runs of keys are open; 9 % of the pairs are computed, block by block (32).
    """
    checks.query_and_key(query, key)
    shape = (*query.shape[:-1], key.shape[-2])
    if mask is not None:
        masks.check(mask, shape)
    kernel, reason = choose(query, key, key, masks.needed(mask, *shape[-2:]))
    if kernel != "blockwise":
        return f"{kernel}: {reason}."
    plans = [part.blocks for part in blockwise.parts(mask, blockwise.four_axes(query), shape[-1])]
    computed = sum(block.pairs for blocks in plans for block in blocks)
    share = computed / (len(plans) * shape[-2] * shape[-1])
    return (
        f"{kernel}: {reason}; {100 * share:.0f} % of the pairs are computed, block by block ({sum(map(len, plans))})."
    )
