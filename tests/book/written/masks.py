"""The mask of a padded batch in a language model."""

import torch

LABEL = "ex-masks-write"
NAME = "causal_and_padded"


def check(function):
    lengths, S = [5, 3, 1], 5
    allowed = function(lengths, S)
    assert isinstance(allowed, torch.Tensor), f"expected a tensor, got {type(allowed).__name__}"
    assert allowed.dtype == torch.bool, f"expected bool, got {allowed.dtype}"
    assert tuple(allowed.shape) == (3, 1, S, S), f"expected (B, 1, S, S) = (3, 1, 5, 5), got {tuple(allowed.shape)}"
    for b, length in enumerate(lengths):
        for i in range(S):
            for j in range(S):
                right = j <= i and j < length
                error = f"example {b} with {length} tokens: may query {i} attend to key {j}? {right}"
                assert bool(allowed[b, 0, i, j]) == right, error


def _make(pairs=lambda i, j: j <= i, padding=lambda i, j, length: j < length, axes=(slice(None), None)):
    def mask(lengths, S):
        j, i = torch.arange(S), torch.arange(S)[:, None]
        return (pairs(i, j) & padding(i, j, torch.tensor(lengths)[:, None, None]))[axes]

    return mask


WRONG = {
    "True means hide": lambda lengths, S: ~_make()(lengths, S),
    "the future only": _make(pairs=lambda i, j: j >= i),
    "not itself": _make(pairs=lambda i, j: j < i),
    "pad rows hidden, not pad columns": _make(padding=lambda i, j, length: i < length),
    "pad rows hidden, too": _make(padding=lambda i, j, length: (i < length) & (j < length)),
    "one key too many": _make(padding=lambda i, j, length: j <= length),
    "padding forgotten": _make(padding=lambda i, j, length: (j >= 0) & (length > 0)),
    "causal forgotten": _make(pairs=lambda i, j: (j >= 0) & (i >= 0)),
    "no axis for the heads": _make(axes=(slice(None),)),
    "numbers, not bools": lambda lengths, S: _make()(lengths, S).float(),
}
