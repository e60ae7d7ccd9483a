"""torch's own fused kernel: the L × S weights are never stored."""

import torch.nn.functional as F
from torch import Tensor

from attnlib import masks


def attend(query, key, value, mask, bias, scale, dropout_p) -> tuple[Tensor, None]:
    """Attend with ``F.scaled_dot_product_attention``; there are no weights to return."""
    L, S = query.shape[-2], key.shape[-2]
    # torch aligns is_causal at the first key; ours at the last. They agree when L = S.
    is_causal = isinstance(mask, masks.Causal) and bias is None and bool(L == S)
    attn_mask = None if is_causal else _attn_mask(query, S, mask, bias)
    grouped = query.dim() > 2 and query.shape[-3] != key.shape[-3]
    # By attribute, not imported by name: torch's context parallelism replaces the function.
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=grouped
    )
    return output, None


def _attn_mask(query: Tensor, S: int, mask, bias: Tensor | None) -> Tensor | None:
    """Fold mask and bias into the one argument that torch has for both."""
    allowed = None if mask is None else masks.for_scores(mask, (*query.shape[:-1], S), query.device)
    if bias is None:
        return allowed
    bias = bias.to(query.dtype)
    return bias if allowed is None else bias.masked_fill(~allowed, float("-inf"))
