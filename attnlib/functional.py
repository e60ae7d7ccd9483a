"""Attention as functions: the arguments are checked first, then one kernel computes.

B batch, L queries, S keys, H heads, d_k and d_v the size of a key and of a value in each head.
"""

import math
from typing import Literal, overload

import torch
from torch import Tensor

from attnlib import checks
from attnlib.biases import ByDistance
from attnlib.kernels import explicit, few_queries
from attnlib.kernels.choice import choose, kernel_of
from attnlib.kernels.quarantine import is_readable, quarantine, set_nan
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from attnlib.masks import Mask
from attnlib.scores import Scores

__all__ = ["attention", "attention_weights"]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask | Tensor | None = None,
    *,
    bias: Tensor | ByDistance | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    r"""For each query, the average of the values under the weights softmax(Q·Kᵀ·scale + bias).

    Scaled dot-product attention, equation 1 of "Attention Is All You Need" (Vaswani et al., 2017)::

        Attention(Q, K, V) = softmax(Q·Kᵀ / √d_k)·V

    Args:
        query: (…, H, L, d_k), or (L, d_k).
        key: (…, H_kv, S, d_k), or (S, d_k). H_kv divides H; query head h reads key head h // (H // H_kv)
            (grouped-query attention, Ainslie et al., 2023).
        value: (…, H_kv, S, d_v), or (S, d_v).
        mask: a Mask from :mod:`attnlib.masks`, or a bool tensor, True where a query may attend: (L, S); beside queries
            (B, H, L, d_k) also (B, L, S) and (B|1, H|1, L|1, S|1), and with other axes in front likewise.
        bias: float, added to the scores: (L, S), or all axes of the scores, each 1 or whole. Or a rule by the
            distance, as :class:`attnlib.positions.ALiBi`, of which only what the mask leaves open is made.
        scale: what the dot products are multiplied with. Default: 1/√d_k.
        dropout_p: the probability with which each weight is dropped, in [0, 1). It acts whenever it is not 0: a module
            passes it in training only.

    Returns:
        (…, H, L, d_v), or (L, d_v). A query that may attend to nothing gets zeros, and zero gradient.

        NaN and ±infinity are contained: the outputs of the queries that may attend to one become NaN, without a
        gradient, and no other output changes. So padding may hold anything. Without a mask this is so on a CPU; in
        compiled graphs, in ``torch.func`` and on other devices a NaN makes NaN then, and an infinity what arithmetic
        makes of it.

        torch's own kernel has no second derivative and says so; :func:`attention_weights` has one, and so has a mask
        with structure over many keys.

    Raises:
        ValueError: if sizes do not fit, or ``dropout_p`` is outside [0, 1).
        TypeError: if something is not a tensor, dtypes differ, a mask is not bool, or a bias is not float. Both name
            the argument, what was expected and what came.

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
    checks.padded_or_jagged(query, key, value, mask=mask, bias=bias)
    checks.heads(query, key, value)
    checks.probability("dropout_p", dropout_p)
    scores = Scores.of(mask, bias, (*query.shape[:-1], key.shape[-2]), query.device)
    return compute(query, key, value, scores, scale=scale_of(query, scale), dropout_p=dropout_p)[0]


def attention_weights(
    query: Tensor,
    key: Tensor,
    mask: Mask | Tensor | None = None,
    *,
    bias: Tensor | ByDistance | None = None,
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
    checks.padded_or_jagged(query, key, attention_weights=True)
    checks.heads(query, key)
    scores = Scores.of(mask, bias, (*query.shape[:-1], key.shape[-2]), query.device)
    return compute_weights(query, key, scores, scale=scale_of(query, scale))


def scale_of(query: Tensor, scale: float | None = None) -> float:
    """Return what the dot products are multiplied with: 1/√d_k, or ``scale`` once it is checked."""
    if scale is None:
        return 1 / math.sqrt(query.shape[-1])
    checks.finite_number("scale", scale)
    return scale if isinstance(scale, torch.SymFloat) else float(scale)  # torch takes no Fraction


def compute_weights(query: Tensor, key: Tensor, scores: Scores, *, scale: float) -> Tensor:
    """Return the weights (…, H, L, S) before dropout, without any check."""
    clean = quarantine(query, key, key, scores, is_readable(query, key))
    return set_nan(explicit.weights(clean.query, clean.key, clean.scores, scale=scale), clean.lost_weights)


@overload
def compute(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores, *, scale: float, need_weights: Literal[True]
) -> tuple[Tensor, Tensor]: ...


@overload
def compute(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: Scores,
    *,
    scale: float,
    dropout_p: float = 0.0,
    need_weights: bool = False,
    sizes: Sizes = ON_A_CPU,
) -> tuple[Tensor, Tensor | None]: ...


def compute(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: Scores,
    *,
    scale: float,
    dropout_p: float = 0.0,
    need_weights: bool = False,
    sizes: Sizes = ON_A_CPU,
) -> tuple[Tensor, Tensor | None]:
    """Return the output (…, H, L, d_v), and on request the weights (…, H, L, S) before dropout, without any check.

    In three steps: a shortcut for few queries; what is not finite is put aside; one kernel computes. Each kernel gives
    softmax(Q·Kᵀ·scale + bias)·V, as :mod:`attnlib.kernels.explicit` has it in plain lines.
    """
    readable = is_readable(query, key, value)
    if readable and not need_weights:
        key, value, scores = few_queries.open_keys(key, value, scores, sizes)
        if not dropout_p and few_queries.is_one_of_many_keys(query, key, scores, sizes):
            output = few_queries.attend(query, key, value, scores, scale=scale)
            if output is not None:
                return output, None
    clean = quarantine(query, key, value, scores, readable)
    inputs = clean.query, clean.key, clean.value, clean.scores
    if need_weights:
        output, weights = explicit.with_weights(*inputs, scale=scale, dropout_p=dropout_p)
        return set_nan(output, clean.lost), set_nan(weights, clean.lost_weights)
    kernel = kernel_of(choose(scores, readable, scale=scale, dropout_p=dropout_p, sizes=sizes), sizes)
    return set_nan(kernel(*inputs, scale=scale, dropout_p=dropout_p), clean.lost), None
