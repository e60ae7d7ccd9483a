"""Few queries and many keys, as in decoding: what they may not attend to is not even read.

For plain tensors on a CPU, whose numbers may be looked at.
"""

import math

import torch
from torch import Tensor

from attnlib.kernels.quarantine import are_finite
from attnlib.kernels.runs import count_full, knows_runs, moves_along, open_spans, runs_of
from attnlib.kernels.sizes import Sizes
from attnlib.modes import autocast_is_on
from attnlib.scores import Scores

__all__ = ["attend", "is_one_of_many_keys", "open_keys"]

PRECISE = (torch.float32, torch.float64)


def open_keys(key: Tensor, value: Tensor, scores: Scores, sizes: Sizes) -> tuple[Tensor, Tensor, Scores]:
    """Return the keys that some query may attend to, their values and their scores."""
    mask, (L, S) = scores.mask, scores.shape[-2:]
    if mask is None or sizes.few_keys > S:
        return key, value, scores
    few = sizes.few_queries >= L
    if not knows_runs(mask) or not (few or (L < S and moves_along(mask))):
        return key, value, scores
    runs = runs_of(mask, L, S)(0, L)
    spans = open_spans(runs, sizes.gap) or [(0, 0)]
    if not few:  # by the distance, the mask is the same for the last keys alone
        first = spans[0][0]
        return key[..., first:, :], value[..., first:, :], scores.of_last_keys(first)._replace(mask=mask)
    if len(spans) > sizes.most_spans:
        spans = [(spans[0][0], spans[-1][1])]
    all_full = sum(stop - start for start, stop in spans) == count_full(runs)
    scores = (scores._replace(mask=None) if all_full else scores).among(spans, key.dtype)
    return _picked(key, spans), _picked(value, spans), scores


def _picked(x: Tensor, spans: list[tuple[int, int]]) -> Tensor:
    parts = [x.narrow(-2, start, stop - start) for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -2)


def is_one_of_many_keys(query: Tensor, key: Tensor, scores: Scores, sizes: Sizes) -> bool:
    """Return whether there is a single query over so many keys that its weights are the faster way.

    They take less time than to read the keys twice, once to see that they are finite; and where that is known, less
    than torch's kernel where several query heads read one key head (measured: 0.6 to 0.8).
    """
    many = query.shape[-2] == 1 and key.numel() >= sizes.many_elements
    faster = not scores.finite or query.shape[:-2] != key.shape[:-2]
    return many and faster and query.dtype in PRECISE and not autocast_is_on("cpu")


def attend(query: Tensor, key: Tensor, value: Tensor, scores: Scores, *, scale: float) -> Tensor | None:
    """Return the output of a single query by its weights; None where something is not finite, or would be copied.

    The scores are few, and tell whether the keys are finite, as the output tells of the values: nothing is read twice.
    """
    S, d_k = key.shape[-2:]
    if not value.numel():
        return None
    try:
        keys, values = key.view(-1, S, d_k), value.view(-1, S, value.shape[-1])
    except RuntimeError:  # the product would copy them
        return None
    # The query heads that read one key head are the rows of one product.
    products = added = torch.bmm((query * scale).reshape(len(keys), -1, d_k), keys.mT)
    if scores.mask is not None or scores.bias is not None:
        added = products.view(*query.shape[:-1], S)
        bias = scores.bias_among(added.dtype)
        if bias is not None:
            added = added + bias.to(added.dtype)
        if scores.mask is not None:
            # A sum, which takes less time than a fill: the mask is smaller.
            added = added + torch.where(scores.allowed(), 0.0, -math.inf).to(added.dtype)
        added = added.view(products.shape)
    output = torch.bmm(torch.softmax(added, dim=-1), values)  # NaN where nothing is open
    return output.view(*query.shape[:-1], -1) if are_finite(products, output) else None
