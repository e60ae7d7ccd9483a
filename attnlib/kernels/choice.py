"""Which kernel computes: one function decides, and one says why."""

import math
from functools import partial
from typing import NamedTuple

from torch import Tensor

from attnlib import checks
from attnlib.kernels import blockwise, explicit, few_queries, flash_cpu, fused
from attnlib.kernels.protocol import Kernel
from attnlib.kernels.quarantine import is_readable
from attnlib.kernels.runs import knows_runs
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from attnlib.kernels.tiles import shares
from attnlib.masks import Mask
from attnlib.modes import forward_mode_is_on
from attnlib.scores import Scores

__all__ = ["KERNELS", "Choice", "choose", "explain", "kernel_of"]

KERNELS: dict[str, Kernel] = {
    "explicit": explicit.attend,
    "blockwise": blockwise.attend,
    "fused": fused.attend,
}


class Choice(NamedTuple):
    """A key of :data:`KERNELS`, and why it was chosen."""

    kernel: str
    reason: str


FORWARD_MODE = Choice("explicit", "the other kernels have no forward-mode derivative")
NO_MASK = Choice("fused", "there is no mask, so each pair is computed")
DENSE_MASK = Choice("fused", "the mask does not say which runs of keys are open, so each pair is looked at")
LEARNED_BIAS = Choice("fused", "the bias wants a gradient for each pair, so each pair is computed")
IS_CAUSAL = Choice("fused", "torch's is_causal is this mask")
NOT_PLAIN = Choice("fused", "only plain tensors on a CPU, outside of compiled graphs, can be cut into blocks")
NO_FLASH = Choice("fused", "this torch has no flash kernel for CPUs that gives its log-sum-exp")
TOO_FEW = Choice("fused", "there are too few keys for a plan to pay")
EACH_IS_SMALL = Choice("fused", "each example has a mask of its own, and too few pairs for a call of its own")
BLOCKS = Choice("blockwise", "the mask says which runs of keys are open")
RECOMPUTED = Choice("blockwise", "with dropout, torch's kernel would store all weights")


def choose(
    scores: Scores, readable: bool, *, scale: float = 1.0, dropout_p: float = 0.0, sizes: Sizes = ON_A_CPU
) -> Choice:
    """Return the kernel for checked arguments, and the reason.

    Args:
        scores: where they are open.
        readable: whether query, key and value are plain tensors on a CPU, as :func:`.quarantine.is_readable` says.
        scale: what the products are multiplied with.
        dropout_p: the probability with which each weight is dropped.
        sizes: from which size on a kernel pays.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.kernels.choice import choose
    >>> from attnlib.scores import Scores
    >>> scores = Scores.of(masks.sliding_window(8), None, (1, 2, 300, 300), torch.device("cpu"))
    >>> choose(scores, readable=True)
    Choice(kernel='blockwise', reason='the mask says which runs of keys are open')
    """
    mask, bias = scores.mask, scores.bias
    if forward_mode_is_on():
        return FORWARD_MODE
    if mask is None and not dropout_p:
        return NO_MASK
    if mask is not None and not knows_runs(mask):
        return DENSE_MASK
    if not readable or math.prod(scores.shape) == 0:
        return NOT_PLAIN
    if isinstance(bias, Tensor) and bias.requires_grad:
        return LEARNED_BIAS
    if not flash_cpu.available():
        return NO_FLASH
    if dropout_p and math.prod(scores.shape) >= sizes.many_weights:
        return RECOMPUTED
    if mask is None:
        return NO_MASK
    if not dropout_p and fused.is_torchs_causal(scores, scale):
        return IS_CAUSAL
    L, S = scores.shape[-2:]
    if (sizes.few_keys_with_dropout if dropout_p else sizes.few_keys) > S:
        return TOO_FEW
    differs = len(shape := mask.shape(L, S)) > 2 and shape[0] > 1
    return EACH_IS_SMALL if differs and math.prod(scores.shape[1:]) < sizes.few_pairs else BLOCKS


def kernel_of(choice: Choice, sizes: Sizes = ON_A_CPU) -> Kernel:
    """Return the kernel that was chosen, with the sizes of its blocks."""
    if choice.kernel == "blockwise" and sizes is not ON_A_CPU:
        return partial(blockwise.attend, sizes=sizes)
    return KERNELS[choice.kernel]


def explain(query: Tensor, key: Tensor, mask: Mask | Tensor | None = None) -> str:
    """Say in a sentence which kernel :func:`attnlib.attention` would take, and why, without a bias and without dropout.

    Args:
        query: (…, H, L, d_k), or (L, d_k).
        key: (…, H_kv, S, d_k), or (S, d_k).
        mask: a Mask, or a bool tensor, True where a query may attend.

    Raises:
        ValueError: if sizes do not fit.
        TypeError: if something is not a tensor, or a mask is not bool.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.kernels import explain
    >>> x = torch.zeros(2, 8, 4096, 64)
    >>> print(explain(x, x, masks.causal()))
    fused: torch's is_causal is this mask.
    >>> print(explain(x, x, masks.causal() & masks.sliding_window(256)))
    blockwise: the mask says which runs of keys are open; 8 % of the pairs are computed, in 62 blocks of queries.
    """
    checks.heads(query, key)
    scores = Scores.of(mask, None, (*query.shape[:-1], key.shape[-2]), query.device)
    readable = is_readable(query, key)
    if readable:
        S = key.shape[-2]
        key, _, scores = few_queries.open_keys(key, key, scores, ON_A_CPU)
        alone = few_queries.is_one_of_many_keys(query, key, scores, ON_A_CPU)
        if alone or key.shape[-2] < S:
            kernel = "a single query by its weights" if alone else choose(scores, readable).kernel
            others = ", the others are open to no query" * (key.shape[-2] < S)
            return f"{kernel}: {key.shape[-2]} of {S} keys are read{others}."
    kernel, reason = choose(scores, readable)
    if kernel != "blockwise":
        return f"{kernel}: {reason}."
    plans = [share.blocks for share in shares(fused.scores_with_four_axes(scores))]
    computed = sum(block.pairs for blocks in plans for block in blocks)
    share = computed / (len(plans) * scores.shape[-2] * scores.shape[-1])
    count = sum(map(len, plans))
    blocks = f"{count} block{'s' * (count != 1)} of queries"
    return f"{kernel}: {reason}; {100 * share:.0f} % of the pairs are computed, in {blocks}."
