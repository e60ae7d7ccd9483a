"""Attention as functions: the arguments are checked first, then one kernel computes.

B batch, L queries, S keys, H heads, d_k and d_v the width of a key and of a value in each head.
"""

import math

import torch
from torch import Tensor

from attnlib import masks
from attnlib.kernels import explicit, fused
from attnlib.masks import Mask

__all__ = ["attention", "attention_weights"]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask | Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    r"""For each query, the average of the values under the weights softmax(Q·Kᵀ·scale + bias).

    Scaled dot-product attention, equation 1 of "Attention Is All You Need" (Vaswani et al., 2017)::

        Attention(Q, K, V) = softmax(Q·Kᵀ / √d_k)·V

    Parameters
    ----------
    query: (…, H, L, d_k), or (L, d_k).
    key: (…, H_kv, S, d_k), or (S, d_k). H_kv divides H; query head h reads key head h // (H // H_kv)
        (grouped-query attention, Ainslie et al., 2023).
    value: (…, H_kv, S, d_v), or (S, d_v).
    mask: a Mask from :mod:`attnlib.masks`, or a bool tensor, True where a query may attend: (L, S), all axes of the
        scores (…, H, L, S), each of them 1 or whole, or all of them but H.
    bias: float, added to the scores: (L, S), or all axes of the scores, each 1 or whole.
    scale: what the dot products are multiplied with; 1/√d_k unless given.
    dropout_p: the probability with which each weight is dropped, in [0, 1). It acts whenever it is not 0: a module
        passes it in training only.

    Returns
    -------
    (…, H, L, d_v), or (L, d_v). A query that may attend to nothing gets zeros, and zero gradient. A NaN or an
    infinity in a key or its value makes NaN of the queries that may attend to it, and changes no other.

    Raises
    ------
    ValueError: if sizes do not fit, or ``dropout_p`` is outside [0, 1).
    TypeError: if something is no tensor, dtypes differ, a mask is not bool, or a bias is not float. Both name the
        argument, what was expected and what came.

    Examples
    --------
    >>> import torch
    >>> from attnlib import attention, masks
    >>> query = key = torch.zeros(2, 1)  # equal scores: each query averages what it may see
    >>> value = torch.tensor([[2.0], [4.0]])
    >>> attention(query, key, value)
    tensor([[3.],
            [3.]])
    >>> attention(query, key, value, masks.causal())
    tensor([[2.],
            [3.]])
    """
    return attend(query, key, value, mask, bias=bias, scale=scale, dropout_p=dropout_p)[0]


def attention_weights(
    query: Tensor,
    key: Tensor,
    mask: Mask | Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """The weights of :func:`attention`, (…, H, L, S): not negative, each row summing to 1.

    A row whose query may attend to nothing is zero. The arguments and errors are those of :func:`attention`. The
    weights can be differentiated twice.

    >>> import math, torch
    >>> from attnlib import attention_weights
    >>> attention_weights(torch.tensor([[1.0]]), torch.tensor([[0.0], [math.log(3)]]))
    tensor([[0.2500, 0.7500]])
    """
    _check(query, key, None, mask, bias, scale, dropout_p=0.0)
    key, _, poisoned = _quarantine(query, key, None, mask)
    weights = explicit.weights(query, key, mask, bias, _scale(query, scale))
    return weights if poisoned is None else weights.masked_fill(poisoned, float("nan"))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask | Tensor | None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """:func:`attention` with, on request, the weights before dropout beside the output."""
    _check(query, key, value, mask, bias, scale, dropout_p)
    key, value, poisoned = _quarantine(query, key, value, mask)
    # The one place where the kernel is chosen.
    kernel = explicit.attend if need_weights else fused.attend
    output, weights = kernel(query, key, value, mask, bias, _scale(query, scale), dropout_p)
    if poisoned is not None:
        output = output.masked_fill(poisoned, float("nan"))
        weights = None if weights is None else weights.masked_fill(poisoned, float("nan"))
    return output, weights


def _scale(query: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


# ---------------------------------------------------------------------------------------------------------------------
# Numbers that are not finite


def _quarantine(query, key, value, mask) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Clear the keys that are not finite, and say which queries may attend to one (…, H, L|1, 1).

    A kernel multiplies a masked value with a weight of zero, and 0·NaN is NaN: without this, one NaN in the padding
    would spread to every query.
    """
    if mask is None or not _may_be_infinite(key, value):
        return key, value, None
    marked = _rows_not_finite(key)
    if value is not None:
        marked = marked | _rows_not_finite(value)
        value = value.masked_fill(marked.unsqueeze(-1), 0)
    key = key.masked_fill(marked.unsqueeze(-1), 0)
    if query.dim() > 2:
        marked = marked.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-2)
    if isinstance(mask, Mask):
        return key, value, mask.reaches(marked, query.shape[-2])
    allowed = masks.for_scores(mask, (*query.shape[:-1], key.shape[-2]), query.device)
    return key, value, masks.reached(allowed, marked)


def _rows_not_finite(x: Tensor) -> Tensor:
    return ~torch.isfinite(x).all(dim=-1)


def _may_be_infinite(*tensors: Tensor | None) -> bool:
    """Look at the numbers where looking is cheap; elsewhere say yes, and let the tensors decide without a branch."""
    if torch.compiler.is_compiling() or any(x is not None and not x.is_cpu for x in tensors):
        return True
    # A sum is finite only if every term is; a sum that overflows costs the slow way, nothing else.
    return not all(math.isfinite(x.detach().sum()) for x in tensors if x is not None)


# ---------------------------------------------------------------------------------------------------------------------
# Checks: all of them before any arithmetic


def _check(query, key, value, mask, bias, scale, dropout_p) -> None:
    _check_tensors(query, key, value)
    _check_shapes(query, key, value)
    if not 0 <= dropout_p < 1:
        raise ValueError(f"dropout_p: expected a probability in [0, 1), got {dropout_p}")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale: expected a finite number, got {scale}")
    check_mask_and_bias(mask, bias, (*query.shape[:-1], key.shape[-2]))


def check_mask_and_bias(mask, bias, scores_shape) -> None:
    if mask is not None:
        masks.check(mask, scores_shape)
    if bias is not None:
        _check_bias(bias, scores_shape)


def _check_tensors(query, key, value) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x is None and name == "value":
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
        if not x.is_floating_point():
            raise TypeError(f"{name}: expected a floating-point tensor, got {x.dtype}")
        if x.dtype != query.dtype:
            raise TypeError(f"{name}: expected query's dtype {query.dtype}, got {x.dtype}")
        if x.dim() != query.dim() or x.dim() < 2:
            axes = "(…, H, L, d), or (L, d), with as many axes as query"
            raise ValueError(f"{name}: expected {axes}, got {tuple(x.shape)} beside query {tuple(query.shape)}")


def _check_shapes(query, key, value) -> None:
    if query.shape[-1] == 0:
        raise ValueError(f"query: expected d_k of at least 1, got {tuple(query.shape)}")
    if key.shape[-1] != query.shape[-1]:
        raise ValueError(f"key: expected d_k = {query.shape[-1]} as in query, got {key.shape[-1]}")
    if key.shape[:-3] != query.shape[:-3]:
        raise ValueError(f"key: expected the batch {tuple(query.shape[:-3])} of query, got {tuple(key.shape[:-3])}")
    if query.dim() > 2 and (key.shape[-3] == 0 or query.shape[-3] % key.shape[-3]):
        heads = f"a number of heads that divides query's {query.shape[-3]}"
        raise ValueError(f"key: expected {heads}, got {key.shape[-3]}")
    if value is not None and value.shape[:-1] != key.shape[:-1]:
        wanted = f"key's batch, heads and S, (…, H_kv, S) = {tuple(key.shape[:-1])}"
        raise ValueError(f"value: expected {wanted}, got {tuple(value.shape[:-1])}")


def _check_bias(bias, shape) -> None:
    if not isinstance(bias, Tensor):
        raise TypeError(f"bias: expected a tensor, got {type(bias).__name__}")
    if not bias.is_floating_point():
        hint = "; to say who may attend to whom, use mask=" if bias.dtype == torch.bool else ""
        raise TypeError(f"bias: expected a floating-point tensor, got {bias.dtype}{hint}")
    exact = bias.shape == shape[-2:]
    fits = bias.dim() == len(shape) and all(a in (1, b) for a, b in zip(bias.shape, shape, strict=True))
    if not (exact or fits):
        wanted = f"(L, S) = {tuple(shape[-2:])} or one that broadcasts to {tuple(shape)}"
        raise ValueError(f"bias: expected shape {wanted}, got {tuple(bias.shape)}")
