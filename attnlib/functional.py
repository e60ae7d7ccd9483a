"""Attention as functions: the arguments are checked first, then one kernel computes.

B batch, L queries, S keys, H heads, d_k and d_v the width of a key and of a value in each head.
"""

import math
from functools import partial
from numbers import Real

import torch
from torch import Tensor

from attnlib import masks
from attnlib.checks import is_plain, query_and_key, same_kind
from attnlib.kernels import blockwise, explicit
from attnlib.kernels.choice import KERNELS, choose
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
    (…, H, L, d_v), or (L, d_v). A query that may attend to nothing gets zeros, and zero gradient. With a mask, a NaN
    or an infinity in a query, a key or a value makes NaN, without a gradient, of the queries that meet it, and changes
    no other. So padding may hold anything.

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
    scale = _scale(query, scale)
    mask = masks.needed(mask, query.shape[-2], key.shape[-2])
    (query, key, _), mask, (poisoned, _) = _quarantine(query, key, None, mask)
    return _poison(explicit.weights(query, key, mask, bias, scale), poisoned)


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
    return compute(query, key, value, mask, bias, scale, dropout_p, need_weights)


def compute(query, key, value, mask, bias=None, scale=None, dropout_p=0.0, need_weights=False):
    """:func:`attend` without its checks, for a caller that has made them."""
    scale = _scale(query, scale)
    mask = masks.needed(mask, query.shape[-2], key.shape[-2])
    lost_weights = lost = None
    if mask is not None:
        (query, key, value), mask, (lost_weights, lost) = _quarantine(query, key, value, mask)
    options = {"bias": bias, "scale": scale, "dropout_p": dropout_p, "need_weights": need_weights}
    kernel, _ = choose(query, key, value, mask, **options)
    output, weights = KERNELS[kernel].attend(query, key, value, mask, bias, scale, dropout_p)
    return _poison(output, lost), _poison(weights, lost_weights)


def _scale(query: Tensor, scale: float | None) -> float:
    if scale is None:
        return 1 / math.sqrt(query.shape[-1])
    return scale if isinstance(scale, torch.SymFloat) else float(scale)  # torch takes no Fraction


# ---------------------------------------------------------------------------------------------------------------------
# Numbers that are not finite


def _quarantine(query, key, value, mask):
    """Clear queries, keys and values that are not finite, and say which queries meet one.

    A kernel multiplies a masked value with a weight of zero, and 0·NaN is NaN: without this, one NaN in the padding
    would spread to every query, and back to every key.

    Returns the tensors; the mask; and two bool tensors (…, H, L|1, 1), or None: the queries whose weights, and those
    whose output, are not finite.
    """
    if mask is None or not _may_be_infinite(query, key, value):
        return (query, key, value), mask, (None, None)
    lost_query, lost_key = _rows_not_finite(query), _rows_not_finite(key)
    query, key = _clear(query, lost_query), _clear(key, lost_key)
    if torch.compiler.is_compiling() and not isinstance(mask, masks.Causal):
        # Nothing is cut into blocks there: one dense mask serves all that follows. A causal one needs none.
        mask = masks.for_scores(mask, (*query.shape[:-1], key.shape[-2]), query.device)
    # A query that may attend to nothing meets nothing, and stays at zero, whatever it is.
    lost = lost_query.unsqueeze(-1) & _meets(mask, torch.ones_like(lost_key), query)
    weights_lost = lost | _meets(mask, lost_key, query)
    if value is None:
        return (query, key, None), mask, (weights_lost, None)
    lost_value = _rows_not_finite(value)
    output_lost = weights_lost | _meets(mask, lost_value, query)
    return (query, key, _clear(value, lost_value)), mask, (weights_lost, output_lost)


def _meets(mask: Mask | Tensor, marked: Tensor, query: Tensor) -> Tensor:
    """Say which queries may attend to a marked key: bool (…, H_kv, S) → (…, H, L|1, 1)."""
    if query.dim() > 2:
        marked = marked.repeat_interleave(query.shape[-3] // marked.shape[-2], dim=-2)
    if isinstance(mask, Mask):
        blocks = marked.is_cpu and is_plain(marked) and type(mask) is not masks.Causal
        return (partial(blockwise.reaches, mask) if blocks else mask._reaches)(marked, query.shape[-2])
    return masks.reached(masks.for_scores(mask, (*query.shape[:-1], marked.shape[-1]), query.device), marked)


def _rows_not_finite(x: Tensor) -> Tensor:
    return ~torch.isfinite(x).all(dim=-1)


def _clear(x: Tensor, rows: Tensor) -> Tensor:
    return x.masked_fill(rows.unsqueeze(-1), 0)


def _poison(x: Tensor | None, rows: Tensor | None) -> Tensor | None:
    # No gradient flows into these rows: what is lost in the padding must not spread by the way back.
    return x if x is None or rows is None else x.masked_fill(rows, float("nan"))


def _may_be_infinite(query: Tensor, key: Tensor, value: Tensor | None) -> bool:
    """Look at the numbers where looking is cheap; elsewhere say yes, and let the tensors decide without a branch."""
    if torch.compiler.is_compiling() or not query.is_cpu:
        return True
    try:
        # A sum is finite only if every term is; a sum that overflows costs the slow way, nothing else.
        total = query.detach().sum().item() + key.detach().sum().item()
        return not math.isfinite(total if value is None else total + value.detach().sum().item())
    except RuntimeError:  # fake tensors, and those of torch.func, have no numbers to look at
        return True


# ---------------------------------------------------------------------------------------------------------------------
# Checks: all of them before any arithmetic


def _check(query, key, value, mask, bias, scale, dropout_p) -> None:
    check_heads(query, key, value)
    check_dropout("dropout_p", dropout_p)
    if scale is not None and not isinstance(scale, Real | torch.SymFloat):
        raise TypeError(f"scale: expected a number, got {type(scale).__name__}")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale: expected a finite number, got {scale}")
    check_mask_and_bias(mask, bias, (*query.shape[:-1], key.shape[-2]), query.device)


def check_dropout(name: str, probability: float) -> None:
    """Hold that ``probability`` is a number in [0, 1)."""
    if not isinstance(probability, float | Real):  # float first: to ask an abstract class takes longer
        raise TypeError(f"{name}: expected a number, got {type(probability).__name__}")
    if not 0 <= probability < 1:
        raise ValueError(f"{name}: expected a probability in [0, 1), got {probability}")


def check_mask_and_bias(mask, bias, scores_shape, device: torch.device) -> None:
    """Hold that ``mask`` and ``bias``, or None, fit scores of ``scores_shape`` on ``device``."""
    if mask is not None:
        masks.check(mask, scores_shape, device)
    if bias is not None:
        _check_bias(bias, scores_shape, device)


def check_heads(query: Tensor, key: Tensor, value: Tensor | None) -> None:
    """Hold that queries, keys and, if there are any, values are of one kind and fit."""
    query_and_key(query, key)
    if value is None:
        return
    same_kind("value", value, query)
    if value.shape[:-1] != key.shape[:-1]:
        wanted = f"key's batch, heads and S, (…, H_kv, S) = {tuple(key.shape[:-1])}"
        raise ValueError(f"value: expected {wanted}, got {tuple(value.shape[:-1])}")


def _check_bias(bias, shape, device) -> None:
    if not isinstance(bias, Tensor):
        raise TypeError(f"bias: expected a tensor, got {type(bias).__name__}")
    if not bias.is_floating_point():
        hint = "; to say who may attend to whom, use mask=" if bias.dtype == torch.bool else ""
        raise TypeError(f"bias: expected a floating-point tensor, got {bias.dtype}{hint}")
    if bias.device != device:
        raise ValueError(f"bias: expected a tensor on query's device {device}, got one on {bias.device}")
    exact = bias.shape == shape[-2:]
    fits = bias.dim() == len(shape) and all(a in (1, b) for a, b in zip(bias.shape, shape, strict=True))
    if not (exact or fits):
        wanted = f"(L, S) = {tuple(shape[-2:])} or one that broadcasts to {tuple(shape)}"
        raise ValueError(f"bias: expected shape {wanted}, got {tuple(bias.shape)}")
