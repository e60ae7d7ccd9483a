"""torch's own fused kernel: the L × S weights are never stored."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib import masks


def attend(query, key, value, mask, bias, scale, dropout_p) -> tuple[Tensor, None]:
    """Attend with ``F.scaled_dot_product_attention``; there are no weights to return."""
    attn_mask, is_causal = None, False
    if mask is not None or bias is not None:
        is_causal = bias is None and is_torchs_causal(mask, query, key, scale)
        attn_mask = None if is_causal else _attn_mask(query, key.shape[-2], mask, bias)
    grouped = query.dim() > 2 and _decided(query.shape[-3] != key.shape[-3])
    d_v, dtype = value.shape[-1], query.dtype
    two_widths = query.is_cpu and not dropout_p and _decided(query.shape[-1] != d_v)
    if two_widths:
        query, key, value = of_one_width(query, key, value)
    # By attribute, not imported by name: torch's context parallelism replaces the function.
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=grouped
    )
    if two_widths:
        # Autocast has narrowed float32 already.
        output = output[..., :d_v] if dtype == torch.float32 else output[..., :d_v].to(dtype)
    return output, None


def is_torchs_causal(mask, query: Tensor, key: Tensor, scale: float) -> bool:
    """Say whether torch's ``is_causal`` is this mask."""
    # torch aligns it at the first key; ours at the last. They agree when L = S. And torch scales what it has set to −∞.
    same = type(mask) is masks.Causal and _decided(query.shape[-2] == key.shape[-2])
    return same and _decided(scale > 0)


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


def _attn_mask(query: Tensor, S: int, mask, bias: Tensor | None) -> Tensor | None:
    """Fold mask and bias into the one argument that torch has for both."""
    allowed = None if mask is None else masks.for_scores(mask, (*query.shape[:-1], S), query.device)
    if bias is None:
        return allowed
    # torch's own check lets a float32 bias stand beside half precision. On a CPU it is added without rounding. On CUDA
    # the memory-efficient kernel refuses it, and cuDNN's has read it as half precision (pytorch/pytorch#191612).
    bias = bias.to(torch.promote_types(query.dtype, torch.float32) if query.is_cpu else query.dtype)
    return bias if allowed is None else bias.masked_fill(~allowed, float("-inf"))
