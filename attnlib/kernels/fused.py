"""torch's own fused kernel: the L × S weights are never stored."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib.kernels.explicit import for_each_head
from attnlib.modes import autocast_is_on, is_plain, transform_is_active, without_autocast
from attnlib.scores import Scores

__all__ = ["attend", "four_axes", "is_torchs_causal", "of_one_width", "rows_together", "scores_with_four_axes"]

# Before, the output had query's width (pytorch/pytorch#176767).
MPS_WANTS_ONE_WIDTH = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12)

SHORT = 128  # keys: over so few, torch's backward pass for CPUs is faster in float32 than in bfloat16


def attend(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores, *, scale: float, dropout_p: float = 0.0
) -> Tensor:
    """Attend with ``F.scaled_dot_product_attention``. See :class:`attnlib.kernels.Kernel`."""
    if _is_faster_in_float32(query, key, value):
        with without_autocast("cpu"):
            wide = query.float(), key.float(), value.float()
            return attend(*wide, scores, scale=scale, dropout_p=dropout_p).to(query.dtype)
    attn_mask, is_causal = None, False
    if scores.mask is not None or scores.bias is not None:
        is_causal = is_torchs_causal(scores, scale)
        attn_mask = None if is_causal else _attn_mask(query, scores)
    shape, d_v = query.shape, value.shape[-1]
    grouped = len(shape) > 2 and _decided(shape[-3] != key.shape[-3])
    padded = shape[-1] != d_v and _wants_one_width(query, dropout_p)
    # Under torch.func the axes stay: vmap has no rule for the kernel that wants four, for the one with weights it has.
    if not (len(shape) == 4 and _rows_lie_together(query, key, value)) and not transform_is_active():
        query, key, value = four_axes(query), four_axes(key), four_axes(value)
        attn_mask = None if attn_mask is None else _mask_with_four_axes(attn_mask, shape[:-3])
        if not _rows_lie_together(query, key, value) and _copy_pays(query):
            query, key, value = rows_together(query), rows_together(key), rows_together(value)
    if grouped and query.is_cuda and not _takes_groups(query, value, attn_mask):
        key, value, grouped = for_each_head(key, query), for_each_head(value, query), False
    if padded:
        dtype = query.dtype
        query, key, value = of_one_width(query, key, value)
    alone = _is_faster_as_two(query, key)
    if alone:
        query = query.expand(*query.shape[:-2], 2, query.shape[-1])
    # By attribute, not imported by name: torch's context parallelism replaces the function.
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=grouped
    )
    if alone:
        output = output[..., :1, :]
    if padded:
        # Autocast has narrowed float32 already.
        output = output[..., :d_v] if dtype == torch.float32 else output[..., :d_v].to(dtype)
    return output if len(shape) == 4 else output.reshape(*shape[:-1], d_v)


def _is_faster_in_float32(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Return whether torch takes less time, forward and backward, to widen half precision; it is more exact, too.

    Measured on a CPU that multiplies bfloat16 by itself: in float16, for all lengths, by 2 to 9; in bfloat16, by 1.2 to
    1.6, over few keys. Over more, float32 would take 1.3 times as long as bfloat16, so that is left to who calls. There
    torch sums the gradients of keys and values in bfloat16: at 1024 keys they are off by 0.35 %, at 8192 by 0.9 %, in
    float32 by 0.17 %, which is the last rounding.
    """
    if query.dtype not in (torch.float16, torch.bfloat16) or not query.is_cpu or not is_plain(query, key, value):
        return False
    trains = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    return trains and (query.dtype == torch.float16 or key.shape[-2] <= SHORT)


def _is_faster_as_two(query: Tensor, key: Tensor) -> bool:
    """Return whether to ask a query twice: in bfloat16, torch's product with one row takes 1.5 to 3 times as long."""
    if query.dtype != torch.bfloat16 or not query.is_cpu or not is_plain(query, key):
        return False
    return query.shape[-2] == 1 and key.shape[-2] > 1 and query.dim() == 4


def _rows_lie_together(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Return whether the elements of each row are neighbours in memory; else torch stores the weights."""
    return query.stride()[-1] == key.stride()[-1] == value.stride()[-1] == 1


def _copy_pays(query: Tensor) -> bool:
    """Return whether to store the weights, L for each key, would take longer than to copy the keys' d columns."""
    # In a compiled graph L may be open, and should stay so.
    return torch.compiler.is_compiling() or query.shape[-2] > query.shape[-1]


def four_axes(x: Tensor) -> Tensor:
    """(…, H, L, d) → (B, H, L, d)."""
    if x.dim() == 4:
        return x
    return x.flatten(0, -4) if x.dim() > 4 else x[(None,) * (4 - x.dim())]


def rows_together(x: Tensor) -> Tensor:
    """Return ``x`` with the elements of each row side by side in memory: a copy, unless they are."""
    # Not contiguous(): it would keep the stride of an axis of size 1.
    return x if x.stride(-1) == 1 else x.clone(memory_format=torch.contiguous_format)


def scores_with_four_axes(scores: Scores) -> Scores:
    """(…, H, L, S) → (B, H, L, S)."""
    if len(scores.shape) == 4:
        return scores
    *batch, H, L, S = (1, 1, *scores.shape)[-max(len(scores.shape), 3) :]
    bias = scores.bias
    if isinstance(bias, Tensor):
        bias = _mask_with_four_axes(bias, batch)
    return Scores((math.prod(batch), H, L, S), scores.device, scores.mask, bias)


def _mask_with_four_axes(attn_mask: Tensor, batch: Sequence[int]) -> Tensor:
    """(…, H|1, L|1, S|1), each axis of … the batch's or 1, → (B|1, H|1, L|1, S|1)."""
    if attn_mask.dim() > 4:
        if any(size != 1 for size in attn_mask.shape[:-3]):
            attn_mask = attn_mask.expand(*batch, *attn_mask.shape[-3:])
        return attn_mask.flatten(0, -4)
    return attn_mask[(None,) * (4 - attn_mask.dim())]


def _takes_groups(query: Tensor, value: Tensor, attn_mask: Tensor | None) -> bool:
    """Return whether a kernel of torch's for CUDA takes fewer key heads than query heads.

    FlashAttention does, in half precision, with one width and without a mask. The memory-efficient kernel never does.
    What neither takes stores the L × S weights. Read in torch's source (sdp_utils.cpp), not tested: no GPU was at hand.
    """
    half = query.dtype in (torch.float16, torch.bfloat16) or autocast_is_on("cuda")
    return attn_mask is None and half and query.shape[-1] == value.shape[-1]


def _wants_one_width(query: Tensor, dropout_p: float) -> bool:
    """Return whether torch's kernel for the device wants d_k = d_v.

    Otherwise that for CPUs stores the weights, as it does with dropout in any case, and an older one for MPS is wrong.
    The latter was read, not tested: no such device was at hand.
    """
    return (query.is_cpu and not dropout_p) or (query.is_mps and MPS_WANTS_ONE_WIDTH)


def is_torchs_causal(scores: Scores, scale: float) -> bool:
    """Return whether torch's ``is_causal`` is this mask."""
    # torch aligns it at the first key; ours at the last. They agree when L = S. And torch scales what it has set to −∞.
    L, S = scores.shape[-2:]
    return scores.is_causal and _decided(L == S) and _decided(scale > 0)


def of_one_width(query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    """Widen what is narrower by columns of zeros, which change no product, and half precision to float32.

    torch's kernel for CPUs wants one width. Where there are two, torch stores the weights, in float32.
    """
    width = max(query.shape[-1], value.shape[-1])
    wide = torch.promote_types(query.dtype, torch.float32)
    return [F.pad(x.to(wide), (0, width - x.shape[-1])) for x in (query, key, value)]


def _decided(condition: bool) -> bool:
    """Return True or False: in a compiled graph whose sizes are open, a comparison is a symbol, which torch refuses."""
    return True if condition else False  # noqa: SIM210


def _attn_mask(query: Tensor, scores: Scores) -> Tensor | None:
    """Fold mask and bias into the one argument that torch has for both."""
    allowed = None if scores.mask is None else scores.allowed()
    dtype = torch.promote_types(query.dtype, torch.float32) if query.is_cpu else query.dtype
    bias = scores.bias_among(dtype)
    if bias is None:
        return allowed
    # torch's own check lets a float32 bias stand beside half precision. On a CPU it is added without rounding. On CUDA
    # the memory-efficient kernel refuses it, and cuDNN's has read it as half precision (pytorch/pytorch#191612).
    bias = bias.to(dtype)
    return bias if allowed is None else bias.masked_fill(~allowed, -math.inf)
