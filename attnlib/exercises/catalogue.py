"""The catalogue: every misconception that is known, by its key.

The likeliest explanation comes first. What shows in rows without a key or in large scores only comes last, because it
stands beside other mistakes more often than alone.
"""

from collections.abc import Mapping
from types import MappingProxyType

from attnlib.exercises.misconception import Misconception, Slip
from attnlib.exercises.misconceptions import (
    blocks,
    cache,
    conduct,
    heads,
    layers,
    masks,
    positions,
    results,
    scores,
    softmax,
    together,
    writing,
)

LATE = {"softmax-clipped", "softmax-one-maximum", "softmax-shift-wrong", "softmax-overflow", "gradient-cut"}

_FAMILIES = (
    scores.MISCONCEPTIONS,
    masks.USED,
    masks.MADE,
    heads.MISCONCEPTIONS,
    cache.MISCONCEPTIONS,
    positions.MISCONCEPTIONS,
    blocks.MISCONCEPTIONS,
    layers.MISCONCEPTIONS,
    writing.MISCONCEPTIONS,
    softmax.MISCONCEPTIONS,
    masks.EMPTY_ROWS,
    results.MISCONCEPTIONS,
    conduct.MISCONCEPTIONS,
)
# Mistakes that are seen in how an answer behaves, or in its result alone: no slip is looked for.
CONDUCT = frozenset(each.key for each in (*conduct.MISCONCEPTIONS, *results.MISCONCEPTIONS))

# Two mistakes in one line, so that their slips cannot be put together line by line.
TOGETHER: tuple[tuple[tuple[str, str], Slip], ...] = together.SLIPS

# What is seldom made beside another mistake: such pairs are tried last.
SELDOM = frozenset(
    {
        *CONDUCT,
        "averaged-twice",
        "heads-one-for-all",
        "heads-reversed",
        "key-viewed",
        "mask-on-rows",
        "mask-sign",
        "projection-shared",
        "residual-inside",
        "scale-other-size",
        "scale-power",
        "scores-cosine",
        "scores-distance",
        "scores-from-values",
        "scores-negated",
        "scores-without-key",
        "scores-without-query",
        "self-hidden",
        "shift-by-column",
        "softmax-base",
        "softmax-log",
        "softmax-mean",
        "softmax-not-normalised",
        "softmax-over-batch",
        "softmax-sigmoid",
        "value-from-query",
        "values-forgotten",
        "weights-unused",
        "width-in-total",
    }
)

_ALL = [each for family in _FAMILIES for each in family]

catalogue: Mapping[str, Misconception] = MappingProxyType(
    {each.key: each for each in sorted(_ALL, key=lambda each: each.key in LATE)}
)
