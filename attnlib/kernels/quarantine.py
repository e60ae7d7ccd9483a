"""Numbers that are not finite reach only the queries that may attend to them.

A kernel multiplies a masked value with a weight of zero, and 0·NaN is NaN: without this, one NaN in the padding would
spread to every query, and in the backward pass to every key. So such queries, keys and values are set to zero before a
kernel sees them, and the outputs of the queries that meet one are set to NaN after it.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib.kernels.explicit import for_each_head
from attnlib.masks import Causal
from attnlib.modes import is_plain
from attnlib.scores import Scores

__all__ = ["Quarantined", "are_finite", "is_readable", "quarantine", "set_nan"]

A_VECTOR = 16  # scores, at most, that a processor compares at once
ROWS = 1024  # queries whose pairs are held at a time


class Quarantined(NamedTuple):
    """What a kernel may be given, and which queries met what it must not be given."""

    query: Tensor
    key: Tensor
    value: Tensor
    scores: Scores
    lost_weights: Tensor | None = None  # bool (…, H, L|1, 1): the queries whose weights are not finite
    lost: Tensor | None = None  # those whose output is not


def quarantine(query: Tensor, key: Tensor, value: Tensor, scores: Scores, readable: bool) -> Quarantined:
    """Set what is not finite to zero, and tell which queries meet it; where all is finite, change nothing.

    Args:
        query: (…, H, L, d_k).
        key: (…, H_kv, S, d_k).
        value: (…, H_kv, S, d_v).
        scores: where they are open.
        readable: what :func:`is_readable` says of them.
    """
    if readable and (are_finite(query) if scores.finite else are_finite(query, key, value)):
        return Quarantined(query, key, value, scores)
    if scores.mask is None and not readable:
        lost = _hidden_by_torch(query, key)
        return Quarantined(query, key, value, scores, lost, lost)
    if scores.mask is not None and not (readable or scores.is_causal):
        # Nothing is cut into blocks there: one dense mask serves all that follows. A causal one needs none.
        scores = scores.among([(0, scores.shape[-1])], query.dtype)
    bad_query, bad_key, bad_value = (~torch.isfinite(x).all(dim=-1) for x in (query, key, value))
    # A query that may attend to nothing meets nothing, and stays at zero, whatever it is: does it see any key at all?
    any_key = torch.ones_like(bad_key) if not readable or bad_query.any() else torch.zeros_like(bad_key)
    meets = _meets(query, torch.stack([any_key, bad_key, bad_value], dim=-1), scores, readable)
    any_key, meets_key, meets_value = meets.split(1, dim=-1)
    lost_weights = (bad_query.unsqueeze(-1) & any_key) | meets_key
    query, key, value = (
        x.masked_fill(bad.unsqueeze(-1), 0) for x, bad in ((query, bad_query), (key, bad_key), (value, bad_value))
    )
    return Quarantined(query, key, value, scores, lost_weights, lost_weights | meets_value)


def set_nan(x: Tensor, rows: Tensor | None) -> Tensor:
    """Set rows to NaN. No gradient flows into them: what is lost in the padding must not spread backwards."""
    return x if rows is None else x.masked_fill(rows, math.nan)


def is_readable(*tensors: Tensor) -> bool:
    """Return whether looking at the numbers is cheap. Elsewhere the tensors must decide, without a branch."""
    return tensors[0].is_cpu and is_plain(*tensors)


def are_finite(*tensors: Tensor) -> bool:
    """Return whether all numbers are finite; of float64, False too where their sum is not."""
    total = 0.0  # a sum is finite only if each term is; one that may have overflowed is taken again
    for x in tensors:
        total += (x.detach() if x.requires_grad else x).sum().item()
    return math.isfinite(total) or math.isfinite(sum(x.detach().sum(dtype=torch.float64).item() for x in tensors))


def _meets(query: Tensor, marks: Tensor, scores: Scores, readable: bool) -> Tensor:
    """Return which queries may attend to a marked key: bool (…, H_kv, S, columns) → (…, H, L|1, columns)."""
    if scores.mask is None:
        return for_each_head(marks.any(-2, keepdim=True), query)
    L, S = scores.shape[-2:]
    if type(scores.mask) is Causal:  # query i sees all keys up to its own, so a running "any" will do
        seen = F.pad(marks.cumsum(-2) > 0, (0, 0, max(L - S, 0), 0))
        return for_each_head(seen[..., max(S - L, 0) :, :], query)
    if not readable:
        return _count(scores.allowed(), marks, query) > 0
    # Only with the keys that are marked, and for some queries at a time.
    marked = marks.any(-1).nonzero()[:, -1]
    columns = (int(marked.min()), int(marked.max()) + 1) if len(marked) else (0, 0)
    marks, found = marks[..., slice(*columns), :], []
    for start in range(0, max(L, 1), ROWS):
        allowed = scores.allowed((start, min(start + ROWS, L)), columns)
        found.append(_count(allowed, marks, query) > 0)
        if allowed.shape[-2] == 1:  # all queries may attend to the same keys
            break
    return found[0] if len(found) == 1 else torch.cat(found, dim=-2)


def _count(allowed: Tensor, marks: Tensor, query: Tensor) -> Tensor:
    """(…, H|1, L|1, S|1) @ (…, H_kv, S, columns) → (…, H, L|1, columns): how many marked keys are allowed, or infinity.

    By a product of matrices, because a comparison pair by pair would store (…, H, L, S).
    """
    dtype = torch.float16 if allowed.is_cuda else torch.float32
    allowed, marks = allowed.expand(*allowed.shape[:-1], marks.shape[-2]).to(dtype), marks.to(dtype)
    if allowed.dim() == 2 or allowed.shape[-3] > 1:
        return allowed @ for_each_head(marks, query)
    # One mask for all heads: the heads are columns.
    heads, columns = marks.shape[-3], marks.shape[-1]
    found = allowed.squeeze(-3) @ marks.movedim(-3, -2).flatten(-2)
    return for_each_head(found.unflatten(-1, (heads, columns)).movedim(-2, -3), query)


def _hidden_by_torch(query: Tensor, key: Tensor) -> Tensor | None:
    """Return the queries (…, H, L, 1) that torch's kernel for CPUs may give zeros, though all of their scores are NaN.

    It does where the scores are fewer than a vector of the processor holds. Elsewhere NaN makes NaN by itself.
    """
    S = key.shape[-2]
    if not query.is_cpu or query.is_nested or (isinstance(S, int) and S >= A_VECTOR):
        return None
    keys = for_each_head(key.isnan().any(-1, keepdim=True).any(-2, keepdim=True), query)
    return query.isnan().any(-1, keepdim=True) | keys
