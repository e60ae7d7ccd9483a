"""Attention by tiles, under a mask."""

import math

import numpy as np

LABEL = "ex-fast-attention-write"
NAME = "masked_attend"

L, S, D, D_V = 7, 11, 3, 5
SIZES = 1, 2, 4, 7, 11, 13


def check(function):
    generator = np.random.default_rng(0)
    query, key, value = (generator.normal(size=shape) for shape in ((L, D), (S, D), (S, D_V)))
    some = generator.random((L, S)) < 0.5
    some[2] = False  # a query that may attend to nothing
    some[4] = np.arange(S) == S - 1  # one that sees no key before the last tile
    for name, allowed in {"all open": np.ones((L, S), bool), "causal": np.tri(L, S, dtype=bool), "some": some}.items():
        for shift in (0, -900):  # the last query's scores lie below what float64 knows a power of, the first one's not
            pushed, end = np.c_[query, np.linspace(0, 1, L)], np.full((S, 1), shift * math.sqrt(D + 1))
            arrays = pushed, np.c_[key, end], value
            right = _row_by_row(*arrays, allowed)
            for size in SIZES:
                with np.errstate(all="ignore"):
                    output = function(*arrays, allowed, size)
                error = f"mask {name!r}, the last row of scores shifted by {shift}, tiles of {size}"
                assert isinstance(output, np.ndarray), f"{error}: expected an array, got {type(output).__name__}"
                assert output.shape == (L, D_V), f"{error}: expected (L, d_v) = {(L, D_V)}, got {output.shape}"
                np.testing.assert_allclose(output, right, rtol=1e-8, atol=1e-12, err_msg=error)


def _row_by_row(query, key, value, allowed):
    """Each query by the definition, over the keys that are open to it."""
    output = np.zeros((len(query), value.shape[1]))
    for i, open_keys in enumerate(map(np.flatnonzero, allowed)):
        scores = np.array([query[i] @ key[j] / math.sqrt(len(query[i])) for j in open_keys])
        powers = np.exp(scores - scores.max(initial=-math.inf))
        for power, j in zip(powers, open_keys, strict=True):
            output[i] += power / powers.sum() * value[j]
    return output


def _wrong(
    *,
    start=-math.inf,
    finite=True,
    shrink_sum=True,
    shrink_values=True,
    ends=False,
    mask=lambda allowed, scores: np.where(allowed, scores, -np.inf),
    scale=lambda query: math.sqrt(query.shape[1]),
    divide=lambda a, total: a / np.where(total == 0, 1, total),
    one_maximum=False,
):
    """What the exercise wants, with one thing spoilt."""

    def attend(query, key, value, allowed, size):
        m, total, a = np.full((len(query), 1), start), 0.0, 0.0
        for first in range(0, len(key) - (size - 1 if ends else 0), size):
            columns = slice(first, first + size)
            scores = mask(allowed[:, columns], query @ key[columns].T / scale(query))
            largest = np.maximum(m, scores.max() if one_maximum else scores.max(1, keepdims=True))
            base = np.where(np.isneginf(largest), 0, largest) if finite else largest
            shrink, powers = np.exp(m - base), np.exp(scores - base)
            total = total * (shrink if shrink_sum else 1) + powers.sum(1, keepdims=True)
            a, m = a * (shrink if shrink_values else 1) + powers @ value[columns], largest
        return divide(a, total) * np.ones((len(query), 1))

    return attend


def _mean_of_tiles(query, key, value, allowed, size):
    parts = [slice(first, first + size) for first in range(0, len(key), size)]
    return sum(_row_by_row(query, key[p], value[p], allowed[:, p]) for p in parts) / len(parts)


WRONG = {
    "the maximum starts at zero": _wrong(start=0.0),
    "-inf minus -inf": _wrong(finite=False),
    "the sum does not shrink": _wrong(shrink_sum=False),
    "the values do not shrink": _wrong(shrink_values=False),
    "nothing shrinks": _wrong(shrink_sum=False, shrink_values=False),
    "the last short tile is left out": _wrong(ends=True),
    "the mask forgotten": _wrong(mask=lambda allowed, scores: scores),
    "True means hide": _wrong(mask=lambda allowed, scores: np.where(allowed, -np.inf, scores)),
    "closed scores are zero": _wrong(mask=lambda allowed, scores: np.where(allowed, scores, 0.0)),
    "a large number for -inf": _wrong(mask=lambda allowed, scores: np.where(allowed, scores, -1e9)),
    "no scale": _wrong(scale=lambda query: 1.0),
    "divided by d": _wrong(scale=lambda query: query.shape[1]),
    "zero divided by zero": _wrong(divide=lambda a, total: a / total),
    "not divided": _wrong(divide=lambda a, total: a),
    "one maximum for all queries": _wrong(one_maximum=True),
    "the mean of the tiles": _mean_of_tiles,
}
