"""Scores, softmax, weighted sum, one after the other: where the weights are wanted, or a forward-mode derivative."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib import masks
from attnlib.checks import autocast_is_on, is_plain


def attend(query, key, value, mask, bias, scale, dropout_p, generator=None) -> tuple[Tensor, Tensor]:
    """Return the output (…, H, L, d_v) and the weights (…, H, L, S), these before dropout.

    With a ``generator`` it decides what is dropped, instead of torch's own.
    """
    dtype = query.dtype
    with without_autocast(query.device.type):
        query, key, value = (_widened(x) for x in (query, key, value))
        exact = _weights(query, key, mask, bias, scale)
        kept = _dropped(exact, dropout_p, generator) if dropout_p else exact
        output = kept @ for_each_head(value, query).to(exact.dtype)  # a bias in float64 makes all so
    return (output, exact) if exact.dtype == dtype else (output.to(dtype), exact.to(dtype))


def _dropped(weights: Tensor, dropout_p: float, generator: torch.Generator | None) -> Tensor:
    if generator is None:  # F.dropout takes none
        return F.dropout(weights, dropout_p)
    return weights * torch.empty_like(weights).bernoulli_(1 - dropout_p, generator=generator) / (1 - dropout_p)


def weights(query, key, mask, bias, scale) -> Tensor:
    """Return softmax(Q·Kᵀ·scale + bias) over the allowed keys (…, H, L, S)."""
    with without_autocast(query.device.type):
        return _weights(_widened(query), _widened(key), mask, bias, scale).to(query.dtype)


def _widened(x: Tensor) -> Tensor:
    """Half precision becomes float32 before the products: a softmax in float32 alone does not help."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _weights(query, key, mask, bias, scale) -> Tensor:
    scores = (query * scale) @ for_each_head(key, query).transpose(-2, -1)
    in_place = scores.is_cpu and is_plain(scores)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        closed = ~masks.for_scores(mask, scores.shape, scores.device)
        scores = (scores.masked_fill_ if in_place else scores.masked_fill)(closed, float("-inf"))
    if (mask is not None or bias is not None) and scores.shape[-1]:
        # A row of −∞ would become NaN: softmax sees zeros there instead, and the row's weights are set to zero after.
        nothing_open = scores.detach().amax(dim=-1, keepdim=True) == float("-inf")
        if not in_place or nothing_open.any():
            return torch.softmax(scores.masked_fill(nothing_open, 0), dim=-1).masked_fill(nothing_open, 0)
    if in_place and not scores.requires_grad:
        # Fresh memory costs more than the softmax: where nothing is recorded, the weights take the scores' place.
        return torch.softmax(scores, dim=-1, out=scores)
    return torch.softmax(scores, dim=-1)


def for_each_head(keys: Tensor, query: Tensor) -> Tensor:
    """Repeat (…, H_kv, S, d) to (…, H, S, d): query head h reads key head h // (H // H_kv)."""
    if query.dim() == 2 or query.shape[-3] == keys.shape[-3]:
        return keys
    return keys.repeat_interleave(query.shape[-3] // keys.shape[-3], dim=-3)


def without_autocast(device_type: str) -> AbstractContextManager:
    """Keep autocast from narrowing what is widened here; entered only where there is one, because it takes time."""
    return torch.autocast(device_type, enabled=False) if autocast_is_on(device_type) else nullcontext()
