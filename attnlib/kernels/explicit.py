"""Scores, softmax, weighted sum, one after the other: where the weights are wanted, or a forward-mode derivative."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib.modes import is_plain, without_autocast
from attnlib.scores import Scores

__all__ = ["attend", "for_each_head", "softmax", "weights", "with_weights"]


def attend(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores, *, scale: float, dropout_p: float = 0.0
) -> Tensor:
    """Return the output (…, H, L, d_v). See :class:`attnlib.kernels.Kernel`."""
    return with_weights(query, key, value, scores, scale=scale, dropout_p=dropout_p)[0]


def with_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: Scores,
    *,
    scale: float,
    dropout_p: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the output (…, H, L, d_v) and the weights (…, H, L, S), these before dropout.

    With a ``generator`` it decides what is dropped, instead of torch's own.
    """
    dtype, values = query.dtype, for_each_head(value, query)
    with without_autocast(scores.device.type):
        exact = _weights(query, key, scores, scale)
        kept = exact
        if dropout_p and generator is None:
            kept = F.dropout(exact, dropout_p)
        elif dropout_p:  # F.dropout takes none
            kept = exact * torch.empty_like(exact).bernoulli_(1 - dropout_p, generator=generator) / (1 - dropout_p)
        output = kept @ values.to(exact.dtype)  # a bias in float64 makes all so
    return (output, exact) if exact.dtype == dtype else (output.to(dtype), exact.to(dtype))


def weights(query: Tensor, key: Tensor, scores: Scores, *, scale: float) -> Tensor:
    """Return softmax(Q·Kᵀ·scale + bias) over the allowed keys (…, H, L, S)."""
    with without_autocast(scores.device.type):
        return _weights(query, key, scores, scale).to(query.dtype)


def _weights(query: Tensor, key: Tensor, scores: Scores, scale: float) -> Tensor:
    keys = for_each_head(key, query)
    if query.dtype not in (torch.float32, torch.float64):
        # Half precision becomes float32 before the products: a softmax in float32 alone does not help.
        query, keys = query.float(), keys.float()
    products = scores.masked((query * scale) @ keys.transpose(-2, -1))
    return softmax(products, some_closed=scores.mask is not None or scores.bias is not None)


def softmax(products: Tensor, some_closed: bool) -> Tensor:
    """Return the softmax of each row (…, L, S) of scores, which nobody else holds; zeros where nothing is open.

    Args:
        products: −∞ where a pair is closed.
        some_closed: whether that may be so.

    >>> import torch
    >>> from attnlib.kernels.explicit import softmax
    >>> softmax(torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]]), some_closed=True)
    tensor([[0.5000, 0.5000],
            [0.0000, 0.0000]])
    """
    in_place = products.is_cpu and is_plain(products)
    if some_closed and products.shape[-1]:
        # A row of −∞ would become NaN: softmax sees zeros there instead, and the row's weights are set to zero after.
        nothing_open = products.detach().amax(dim=-1, keepdim=True) == float("-inf")
        if not in_place or nothing_open.any():
            return torch.softmax(products.masked_fill(nothing_open, 0), dim=-1).masked_fill(nothing_open, 0)
    if in_place and not products.requires_grad:
        # Fresh memory costs more than the softmax: where nothing is recorded, the weights take the scores' place.
        return torch.softmax(products, dim=-1, out=products)
    return torch.softmax(products, dim=-1)


def for_each_head(keys: Tensor, query: Tensor) -> Tensor:
    """Repeat (…, H_kv, S, d) to (…, H, S, d): query head h reads key head h // (H // H_kv)."""
    if query.dim() == 2 or query.shape[-3] == keys.shape[-3]:
        return keys
    return keys.repeat_interleave(query.shape[-3] // keys.shape[-3], dim=-3)
