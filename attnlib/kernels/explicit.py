"""Scores, softmax, weighted sum, one after the other: where the weights are wanted, or a second derivative."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib import masks
from attnlib.checks import autocast_is_on


def attend(query, key, value, mask, bias, scale, dropout_p) -> tuple[Tensor, Tensor]:
    """Return the output (…, H, L, d_v) and the weights (…, H, L, S), these before dropout."""
    with without_autocast(query.device.type):
        exact = _weights(query, key, mask, bias, scale)
        kept = F.dropout(exact, dropout_p) if dropout_p else exact
        output = kept @ for_each_head(value, query).to(exact.dtype)
    return output.to(query.dtype), exact.to(query.dtype)


def weights(query, key, mask, bias, scale) -> Tensor:
    """Return softmax(Q·Kᵀ·scale + bias) over the allowed keys (…, H, L, S)."""
    with without_autocast(query.device.type):
        return _weights(query, key, mask, bias, scale).to(query.dtype)


def _weights(query, key, mask, bias, scale) -> Tensor:
    # Half precision is widened before the products: a softmax in float32 alone does not help.
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = (query.to(wide) * scale) @ for_each_head(key, query).to(wide).transpose(-2, -1)
    if mask is None and bias is None:
        return torch.softmax(scores, dim=-1)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~masks.for_scores(mask, scores.shape, scores.device), float("-inf"))
    # A row of −∞ would become NaN: softmax sees zeros there instead, and the row's weights are set to zero after.
    nothing_open = (scores == float("-inf")).all(dim=-1, keepdim=True)
    return torch.softmax(scores.masked_fill(nothing_open, 0), dim=-1).masked_fill(nothing_open, 0)


def for_each_head(keys: Tensor, query: Tensor) -> Tensor:
    """Repeat (…, H_kv, S, d) to (…, H, S, d): query head h reads key head h // (H // H_kv)."""
    if query.dim() == 2 or query.shape[-3] == keys.shape[-3]:
        return keys
    return keys.repeat_interleave(query.shape[-3] // keys.shape[-3], dim=-3)


def without_autocast(device_type: str) -> AbstractContextManager:
    """Keep autocast from narrowing what is widened here; entered only where there is one, because it takes time."""
    return torch.autocast(device_type, enabled=False) if autocast_is_on(device_type) else nullcontext()
