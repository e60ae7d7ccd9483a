"""Attention under a soft cap, or with sinks, for which :func:`attnlib.attention` has no place.

All weights are stored: a window costs as much as no mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib import checks
from attnlib.kernels.explicit import for_each_head, softmax
from attnlib.kernels.quarantine import is_readable, quarantine, set_nan
from attnlib.masks import Mask
from attnlib.modes import without_autocast
from attnlib.scores import Scores

__all__ = ["capped_attention"]


def capped_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask | Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return attention with a soft cap or sinks, and its weights.

    A soft cap c keeps the scores s between −c and c, by c·tanh(s / c), before anything is added to them (Gemma 2,
    2024). A sink is one more logit of each head, to which a query can give weight that no value gets (GPT-OSS, 2025).

    Args:
        query: (B, H, L, d_k).
        key: (B, H_kv, S, d_k).
        value: (B, H_kv, S, d_v).
        mask: as in :func:`attnlib.attention`.
        bias: float, added to the scores after the cap, as in :func:`attnlib.attention`.
        scale: what the dot products are multiplied with. Default: 1/√d_k.
        dropout_p: the probability with which each weight is dropped.
        softcap: c.
        sinks: (H,).

    Returns:
        The output (B, H, L, d_v), and the weights (B, H, L, S) before dropout. With sinks their rows sum to less than
        1. A query that may attend to nothing gets zeros. NaN and ±infinity are contained, as in
        :func:`attnlib.attention`.

    Raises:
        ValueError: if sizes do not fit, or ``softcap`` is not above 0.
        TypeError: if something is not a tensor, or a dtype does not fit.

    >>> import math, torch
    >>> from attnlib.interop.huggingface.capped import capped_attention
    >>> query, key, value = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 3, 2), torch.tensor([[[[4.0], [4.0], [4.0]]]])
    >>> output, weights = capped_attention(query, key, value, sinks=torch.zeros(1))  # a fourth logit that is equal
    >>> output, weights
    (tensor([[[[3.]]]]), tensor([[[[0.2500, 0.2500, 0.2500]]]]))
    """
    checks.heads(query, key, value)
    checks.probability("dropout_p", dropout_p)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if softcap is not None:
        checks.finite_number("softcap", softcap)
        if softcap <= 0:
            raise ValueError(f"softcap: expected a number above 0, got {softcap}")
    if sinks is not None and tuple(sinks.shape) != (query.shape[-3],):
        raise ValueError(f"sinks: expected one for each of H = {query.shape[-3]} heads, got {tuple(sinks.shape)}")
    scores = Scores.of(mask, bias, (*query.shape[:-1], key.shape[-2]), query.device)
    clean = quarantine(query, key, value, scores, is_readable(query, key, value))
    dtype, wide = query.dtype, torch.promote_types(query.dtype, torch.float32)
    query, key, value = clean.query, clean.key, clean.value
    with without_autocast(query.device.type):
        # (B, H, L, d_k) @ (B, H, d_k, S) → (B, H, L, S)
        logits = (query.to(wide) * scale) @ for_each_head(key, query).to(wide).mT
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        logits = clean.scores.masked(logits)
        if sinks is not None:
            # One more column, dropped after the softmax: (B, H, L, S + 1) → (B, H, L, S)
            column = sinks.to(logits.dtype).view(-1, 1, 1).expand(*logits.shape[:-1], 1)
            weights = torch.softmax(torch.cat([logits, column], dim=-1), dim=-1)[..., :-1]
        else:
            weights = softmax(logits, some_closed=True)
        output = F.dropout(weights, dropout_p) @ for_each_head(value, query).to(weights.dtype)
    return set_nan(output.to(dtype), clean.lost), set_nan(weights.to(dtype), clean.lost_weights)
