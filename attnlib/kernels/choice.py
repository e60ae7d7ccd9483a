"""Which kernel computes: one function decides, and one says why."""

from typing import NamedTuple

from torch import Tensor

from attnlib import checks, masks
from attnlib.kernels import blockwise, explicit, fused
from attnlib.masks import Mask

__all__ = ["KERNELS", "Choice", "choose", "explain"]

KERNELS = {"explicit": explicit, "blockwise": blockwise, "fused": fused}

# Measured on two cores: with fewer keys, one call under a dense mask is faster than a plan.
FEW_KEYS = 256
FEW_KEYS_WITH_DROPOUT = 512  # there blocks are computed again on the way back
# With dropout torch stores all weights, several times. From so many numbers on that matters more than time.
MANY_WEIGHTS = 2**26


class Choice(NamedTuple):
    kernel: str  # a key of KERNELS
    reason: str


WEIGHTS = Choice("explicit", "the weights are asked for")
FORWARD_MODE = Choice("explicit", "the other kernels have no forward-mode derivative")
NO_MASK = Choice("fused", "there is no mask, so each pair is computed")
PAIRWISE = Choice("fused", "the mask does not say which runs of keys are open, so each pair is looked at")
BIAS = Choice("fused", "a bias holds a number for each pair, so each pair is computed")
IS_CAUSAL = Choice("fused", "torch's is_causal is this mask")
NOT_PLAIN = Choice("fused", "only plain tensors on a CPU, outside of compiled graphs, can be cut into blocks")
TOO_FEW = Choice("fused", "there are too few keys for a plan to pay")
STRUCTURE = Choice("blockwise", "the mask says which runs of keys are open")
FORGOTTEN = Choice("blockwise", "with dropout, torch's kernel would store all weights")


def choose(query, key, value, mask, *, bias=None, scale=1.0, dropout_p=0.0, need_weights=False) -> Choice:
    """Return the kernel for checked arguments, and the reason. ``mask`` is None where it would leave everything open.

    >>> import torch
    >>> x = torch.zeros(1, 2, 300, 4)
    >>> choose(x, x, x, masks.sliding_window(8))
    Choice(kernel='blockwise', reason='the mask says which runs of keys are open')
    """
    if need_weights:
        return WEIGHTS
    if checks.forward_mode_is_on():
        return FORWARD_MODE
    if mask is None and not dropout_p:
        return NO_MASK
    if isinstance(mask, Tensor) or (mask is not None and not mask._has_structure):
        return PAIRWISE
    if bias is not None:
        return BIAS
    if not (query.is_cpu and query.numel() and value.numel() and checks.is_plain(query, key, value)):
        return NOT_PLAIN
    S = key.shape[-2]
    if dropout_p and query.shape[:-1].numel() * S >= MANY_WEIGHTS:
        return FORGOTTEN
    if mask is None:
        return NO_MASK
    if not dropout_p and fused.is_torchs_causal(mask, query, key, scale):
        return IS_CAUSAL
    fewest = FEW_KEYS_WITH_DROPOUT if dropout_p else FEW_KEYS
    return TOO_FEW if fewest > S else STRUCTURE


def explain(query: Tensor, key: Tensor, mask: Mask | Tensor | None = None) -> str:
    """Say in a sentence which kernel :func:`attnlib.attention` would take, and why, without a bias and without dropout.

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
    blockwise: the mask says which runs of keys are open; 8 % of the pairs are computed, in 62 blocks of queries.
    """
    checks.query_and_key(query, key)
    shape = (*query.shape[:-1], key.shape[-2])
    if mask is not None:
        masks.check(mask, shape, query.device)
    kernel, reason = choose(query, key, key, masks.needed(mask, *shape[-2:]))
    if kernel != "blockwise":
        return f"{kernel}: {reason}."
    plans = [part.blocks for part in blockwise.parts(mask, fused.four_axes(query), shape[-1])]
    computed = sum(block.pairs for blocks in plans for block in blocks)
    share = computed / (len(plans) * shape[-2] * shape[-1])
    count = sum(map(len, plans))
    blocks = f"{count} block{'s' * (count != 1)} of queries"
    return f"{kernel}: {reason}; {100 * share:.0f} % of the pairs are computed, in {blocks}."
