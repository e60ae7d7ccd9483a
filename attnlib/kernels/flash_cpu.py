"""torch's flash attention for CPUs, with its log-sum-exp: the only door to the private operations behind it.

``F.scaled_dot_product_attention`` calls the same operations and keeps the log-sum-exp to itself, without which parts of
a row cannot be joined. A torch that lacks them computes under a dense mask instead.
"""

import torch
from torch import Tensor

__all__ = ["available", "backward", "forward"]

_FORWARD = "_scaled_dot_product_flash_attention_for_cpu"
_BACKWARD = "_scaled_dot_product_flash_attention_for_cpu_backward"


def available() -> bool:
    """Return whether this torch has the operations."""
    return hasattr(torch.ops.aten, _FORWARD) and hasattr(torch.ops.aten, _BACKWARD)


def forward(
    query: Tensor, key: Tensor, value: Tensor, additive_mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the output (B, H, L, d) and the log-sum-exp (B, H, L) of the scores, both 0 where nothing is open.

    Args:
        query: (B, H, L, d).
        key: (B, H_kv, S, d).
        value: (B, H_kv, S, d): one width for all.
        additive_mask: added to the scores, (B|1, H|1, L, S), −∞ where a pair is closed; or None.
        scale: what the products are multiplied with.
    """
    return getattr(torch.ops.aten, _FORWARD)(query, key, value, attn_mask=additive_mask, scale=scale)


def backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    log_sum_exp: Tensor,
    additive_mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value.

    ``output`` and ``log_sum_exp`` may be those of all keys, though ``key`` and ``value`` are a part of them: then the
    gradients are this part's share.
    """
    arguments = grad, query, key, value, output, log_sum_exp, 0.0, False
    return getattr(torch.ops.aten, _BACKWARD)(*arguments, attn_mask=additive_mask, scale=scale)
