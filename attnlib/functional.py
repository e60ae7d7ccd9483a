"""Attention as functions: the arguments are checked first, then one kernel computes.

B batch, L queries, S keys, H heads, d_k and d_v the width of a key and of a value in each head.
"""

import math
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib import masks
from attnlib.checks import autocast_is_on, is_plain, query_and_key, same_kind
from attnlib.kernels import explicit
from attnlib.kernels.choice import KERNELS, choose
from attnlib.masks import Mask
from attnlib.spans import count_open, open_spans

__all__ = ["attention", "attention_weights"]

# Measured on two cores.
FEW_QUERIES = 64  # one call with the keys that are open to them is faster than a plan
MANY_KEYS = 256  # fewer are not told apart
MANY_NUMBERS = 2**17  # of the keys: fewer are read twice in less time than a single query's weights take
GAP = 64  # fewer closed keys between open ones are computed rather than left out
MANY_SPANS = 8  # of open keys: to put more side by side takes longer than to compute what is between them

A_VECTOR = 16  # scores, at most, that a processor compares at once
PRECISE = (torch.float32, torch.float64)
ROWS = 1024  # queries whose pairs are held at a time


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
    scale: what the dot products are multiplied with. Default: 1/√d_k.
    dropout_p: the probability with which each weight is dropped, in [0, 1). It acts whenever it is not 0: a module
        passes it in training only.

    Returns
    -------
    (…, H, L, d_v), or (L, d_v). A query that may attend to nothing gets zeros, and zero gradient. A NaN or an infinity
    in a query, a key or a value makes NaN, without a gradient, of the outputs of the queries that meet it, and changes
    no other output. So padding may hold anything. Where all may attend to all, this holds on a CPU, outside of compiled
    graphs and of ``torch.func``; there and on other devices a NaN makes NaN, and an infinity what arithmetic makes.

    torch's own kernel has no second derivative and says so; :func:`attention_weights` has one, and so has a mask with
    structure over many keys.

    Raises
    ------
    ValueError: if sizes do not fit, or ``dropout_p`` is outside [0, 1).
    TypeError: if something is not a tensor, dtypes differ, a mask is not bool, or a bias is not float. Both name the
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
    _check_nested(query, key, attention_weights=True)
    _check(query, key, None, mask, bias, scale, dropout_p=0.0)
    scale = _scale(query, scale)
    mask = masks.needed(mask, query.shape[-2], key.shape[-2])
    readable, lost = _is_readable(query, key), None
    if not (readable and _are_finite(query, key)):
        (query, key, _), mask, (lost, _) = _quarantine(query, key, None, mask, readable)
    return _poison(explicit.weights(query, key, mask, bias, scale), lost)


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
    _check_nested(query, key, value, mask=mask is not None, bias=bias is not None, need_weights=need_weights)
    _check(query, key, value, mask, bias, scale, dropout_p)
    return compute(query, key, value, mask, bias, scale, dropout_p, need_weights)


def compute(query, key, value, mask, bias=None, scale=None, dropout_p=0.0, need_weights=False):
    """:func:`attend` without its checks, for a caller that has made them."""
    scale, L = _scale(query, scale), query.shape[-2]
    mask = masks.needed(mask, L, key.shape[-2])
    readable = _is_readable(query, key, value)
    if readable and not need_weights:
        if isinstance(mask, Mask):
            key, value, mask, bias = _open_to_any(query, key, value, mask, bias)
        if L == 1 and not dropout_p:
            output = _of_one_query(query, key, value, mask, bias, scale)
            if output is not None:
                return output, None
    kernel, _ = choose(query, key, value, mask, bias=bias, scale=scale, dropout_p=dropout_p, need_weights=need_weights)
    lost_weights = lost = None
    if not (readable and _are_finite(query, key, value)):
        (query, key, value), mask, (lost_weights, lost) = _quarantine(query, key, value, mask, readable)
    output, weights = KERNELS[kernel].attend(query, key, value, mask, bias, scale, dropout_p)
    return _poison(output, lost), _poison(weights, lost_weights)


def _scale(query: Tensor, scale: float | None) -> float:
    if scale is None:
        return 1 / math.sqrt(query.shape[-1])
    return scale if isinstance(scale, torch.SymFloat) else float(scale)  # torch takes no Fraction


# ---------------------------------------------------------------------------------------------------------------------
# Few queries, as in decoding


def _open_to_any(query, key, value, mask: Mask, bias) -> tuple[Tensor, Tensor, Mask | Tensor | None, Tensor | None]:
    """Return the keys that some query may attend to, their values, mask and bias: the others are not even read."""
    L, S = query.shape[-2], key.shape[-2]
    few = L <= FEW_QUERIES
    if S < MANY_KEYS or not mask._has_structure or not (few or (mask._by_distance and L < S)):
        return key, value, mask, bias
    runs = mask._spans(L, S)(0, L)
    spans = open_spans(runs, GAP) or [(0, 0)]
    if not few:
        spans = [(spans[0][0], S)]  # by the distance, the mask is the same for the last keys alone
    elif len(spans) > MANY_SPANS:
        spans = [(spans[0][0], spans[-1][1])]
    if few and sum(stop - start for start, stop in spans) == count_open(runs):
        mask = None
    elif few:
        mask = _side_by_side([_tile(mask, query, S, span) for span in spans], axis=-1)
    if bias is not None and bias.shape[-1] == S:
        bias = _picked(bias, spans, axis=-1)
    return _picked(key, spans, axis=-2), _picked(value, spans, axis=-2), mask, bias


def _tile(mask: Mask, query: Tensor, S: int, span: tuple[int, int]) -> Tensor:
    """Return who may attend to the keys of ``span``, a bool tensor (…, H|1, L|1, keys)."""
    tile = masks.for_scores(mask, (*query.shape[:-1], S), query.device, columns=span)
    return tile.expand(*tile.shape[:-1], span[1] - span[0])


def _picked(x: Tensor, spans: list[tuple[int, int]], axis: int) -> Tensor:
    return _side_by_side([x.narrow(axis, start, stop - start) for start, stop in spans], axis)


def _side_by_side(parts: list[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def _of_one_query(query, key, value, mask, bias, scale) -> Tensor | None:
    """Return the output of a single query by its weights; None where something is not finite, or a kernel is faster.

    The scores are few, and tell whether the keys are finite, as the output tells of the values: nothing is read twice.
    """
    S, d_k = key.shape[-2:]
    if key.numel() < MANY_NUMBERS or not value.numel() or query.dtype not in PRECISE or autocast_is_on("cpu"):
        return None
    try:
        keys, values = key.view(-1, S, d_k), value.view(-1, S, value.shape[-1])
    except RuntimeError:  # the product would copy them
        return None
    # The query heads that read one key head are the rows of one product.
    scores = open_scores = torch.bmm((query * scale).reshape(len(keys), -1, d_k), keys.mT)
    if mask is not None or bias is not None:
        open_scores = scores.view(*query.shape[:-1], S)
        if bias is not None:
            open_scores = open_scores + bias.to(scores.dtype)
        if mask is not None:
            allowed = masks.for_scores(mask, open_scores.shape, scores.device)
            # A sum, which takes less time than a fill: the mask is smaller.
            open_scores = open_scores + torch.where(allowed, 0.0, -math.inf).to(scores.dtype)
        open_scores = open_scores.view(scores.shape)
    output = torch.bmm(torch.softmax(open_scores, dim=-1), values)  # NaN where nothing is open
    return output.view(*query.shape[:-1], -1) if _are_finite(scores, output) else None


# ---------------------------------------------------------------------------------------------------------------------
# Numbers that are not finite


def _is_readable(*tensors: Tensor) -> bool:
    """Return whether looking at the numbers is cheap. Elsewhere the tensors must decide, without a branch."""
    return tensors[0].is_cpu and is_plain(*tensors)


def _are_finite(*tensors: Tensor) -> bool:
    """Return whether all numbers are finite; of float64, False too where their sum is not."""
    total = 0.0  # a sum is finite only if each term is; one that may have overflowed is taken again
    for x in tensors:
        total += (x.detach() if x.requires_grad else x).sum().item()
    return math.isfinite(total) or math.isfinite(sum(x.detach().sum(dtype=torch.float64).item() for x in tensors))


def _quarantine(query, key, value, mask, readable: bool):
    """Clear queries, keys and values that are not finite, and tell which queries meet one.

    A kernel multiplies a masked value with a weight of zero, and 0·NaN is NaN: without this, one NaN in the padding
    would spread to every query, and in the backward pass to every key.

    Returns the tensors; the mask; and two bool tensors (…, H, L|1, 1), or None: the queries whose weights, and those
    whose output, are not finite.
    """
    if mask is None and not readable:
        lost = _hidden_by_torch(query, key)
        return (query, key, value), None, (lost, lost)
    lost_query, lost_key = _rows_not_finite(query), _rows_not_finite(key)
    lost_value = lost_key if value is None else _rows_not_finite(value)
    if isinstance(mask, Mask) and type(mask) is not masks.Causal and not readable:
        # Nothing is cut into blocks there: one dense mask serves all that follows. A causal one needs none.
        mask = masks.for_scores(mask, (*query.shape[:-1], key.shape[-2]), query.device)
    # A query that may attend to nothing meets nothing, and stays at zero, whatever it is: does it see any key at all?
    any_key = torch.ones_like(lost_key) if not readable or lost_query.any() else torch.zeros_like(lost_key)
    marks = torch.stack([any_key, lost_key, lost_value], dim=-1)
    any_key, bad_key, bad_value = _meets(query, mask, marks, readable).split(1, dim=-1)
    lost_weights = (lost_query.unsqueeze(-1) & any_key) | bad_key
    value = None if value is None else _clear(value, lost_value)
    return (_clear(query, lost_query), _clear(key, lost_key), value), mask, (lost_weights, lost_weights | bad_value)


def _meets(query: Tensor, mask: Mask | Tensor | None, marks: Tensor, readable: bool) -> Tensor:
    """Return which queries may attend to a marked key: bool (…, H_kv, S, columns) → (…, H, L|1, columns)."""
    L, S = query.shape[-2], marks.shape[-2]
    if mask is None:
        return explicit.for_each_head(marks.any(-2, keepdim=True), query)
    if type(mask) is masks.Causal:  # query i sees all keys up to its own, so a running "any" will do
        seen = F.pad(marks.cumsum(-2) > 0, (0, 0, max(L - S, 0), 0))
        return explicit.for_each_head(seen[..., max(S - L, 0) :, :], query)
    shape = (*query.shape[:-1], S)
    if not readable:
        return _product(masks.for_scores(mask, shape, query.device), marks, query) > 0
    # Only with the keys that are marked, and for some queries at a time.
    marked = marks.any(-1).nonzero()[:, -1]
    columns = (int(marked.min()), int(marked.max()) + 1) if len(marked) else (0, 0)
    marks, found = marks[..., slice(*columns), :], []
    for start in range(0, max(L, 1), ROWS):
        allowed = masks.for_scores(mask, shape, query.device, (start, min(start + ROWS, L)), columns)
        found.append(_product(allowed, marks, query) > 0)
        if allowed.shape[-2] == 1:  # all queries may attend to the same keys
            break
    return found[0] if len(found) == 1 else torch.cat(found, dim=-2)


def _product(allowed: Tensor, marks: Tensor, query: Tensor) -> Tensor:
    """(…, H|1, L|1, S|1) @ (…, H_kv, S, columns) → (…, H, L|1, columns): how many marked keys are allowed, or infinity.

    By a product of matrices, because a comparison pair by pair would store (…, H, L, S).
    """
    dtype = torch.float16 if allowed.is_cuda else torch.float32
    allowed, marks = allowed.expand(*allowed.shape[:-1], marks.shape[-2]).to(dtype), marks.to(dtype)
    if allowed.dim() == 2 or allowed.shape[-3] > 1:
        return allowed @ explicit.for_each_head(marks, query)
    # One mask for all heads: the heads are columns.
    heads, columns = marks.shape[-3], marks.shape[-1]
    found = allowed.squeeze(-3) @ marks.movedim(-3, -2).flatten(-2)
    return explicit.for_each_head(found.unflatten(-1, (heads, columns)).movedim(-2, -3), query)


def _hidden_by_torch(query: Tensor, key: Tensor) -> Tensor | None:
    """Return the queries (…, H, L, 1) that torch's kernel for CPUs may give zeros, though all of their scores are NaN.

    It does where the scores are fewer than a vector of the processor holds. Elsewhere NaN makes NaN by itself.
    """
    S = key.shape[-2]
    if not query.is_cpu or query.is_nested or (isinstance(S, int) and S >= A_VECTOR):
        return None
    keys = explicit.for_each_head(key.isnan().any(-1, keepdim=True).any(-2, keepdim=True), query)
    return query.isnan().any(-1, keepdim=True) | keys


def _rows_not_finite(x: Tensor) -> Tensor:
    return ~torch.isfinite(x).all(dim=-1)


def _clear(x: Tensor, rows: Tensor) -> Tensor:
    return x.masked_fill(rows.unsqueeze(-1), 0)


def _poison(x: Tensor | None, rows: Tensor | None) -> Tensor | None:
    # No gradient flows into these rows: what is lost in the padding must not spread in the backward pass.
    return x if x is None or rows is None else x.masked_fill(rows, float("nan"))


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


def _check_nested(*tensors: Tensor, **others: bool) -> None:
    """Check that nested tensors are all jagged, and that nothing stands beside them that torch has for padded ones."""
    tensors = [x for x in tensors if isinstance(x, Tensor)]
    if not any(x.is_nested for x in tensors):
        return
    if not all(x.is_nested and x.layout == torch.jagged and x.dim() == 4 for x in tensors):
        kinds = ", ".join(f"{x.dim()} axes of {'nested ' * x.is_nested}{x.layout}" for x in tensors)
        raise TypeError(f"query: expected padded tensors, or all nested, (B, H, L, d) of torch.jagged, got {kinds}")
    beside = [name for name, is_there in others.items() if is_there]
    if beside:
        way = "pad them with torch.nested.to_padded_tensor(x, 0.0), and use masks.padding(lengths)"
        raise TypeError(f"query: expected padded tensors beside {beside[0]}, got jagged ones; {way}")


def check_dropout(name: str, probability: float) -> None:
    """Check that ``probability`` is a number in [0, 1)."""
    if not isinstance(probability, float | Real):  # float first: to ask an abstract class takes longer
        raise TypeError(f"{name}: expected a number, got {type(probability).__name__}")
    if not 0 <= probability < 1:
        raise ValueError(f"{name}: expected a probability in [0, 1), got {probability}")


def check_mask_and_bias(mask, bias, scores_shape, device: torch.device) -> None:
    """Check that ``mask`` and ``bias``, or None, fit scores of ``scores_shape`` on ``device``."""
    if mask is not None:
        masks.check(mask, scores_shape, device)
    if bias is not None:
        _check_bias(bias, scores_shape, device)


def check_heads(query: Tensor, key: Tensor, value: Tensor | None) -> None:
    """Check that queries, keys and, if there are any, values are of one kind and fit."""
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
