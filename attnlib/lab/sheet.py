"""One head of attention on a sheet of paper, exact as far as it goes: fractions, and powers of e."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from functools import partial
from math import isqrt

import numpy as np

from attnlib import reference
from attnlib.lab.figures import TINTS
from attnlib.lab.tables import draw_table, two_panels

__all__ = ["draw_sheet", "in_powers"]

WIDE = 1.7  # units: room for the name of a token, in small letters


def in_powers(exponents: Iterable[Fraction], factors: Iterable[int] | None = None) -> str:
    """Return a sum of powers of e, each times a factor, as one writes it; for matplotlib's mathematics.

    Args:
        exponents: of e; equal ones are counted together, at the place of the first.
        factors: whole numbers that are not negative, one for each power. Default: all 1.

    >>> from fractions import Fraction
    >>> from attnlib.lab.sheet import in_powers
    >>> in_powers([Fraction(2), Fraction(0), Fraction(1, 2)])
    '$e^{2} + 1 + e^{1/2}$'
    >>> in_powers([Fraction(1), Fraction(1), Fraction(2)], [2, 3, 0])
    '$5e$'
    """
    exponents = list(exponents)
    factors = [1] * len(exponents) if factors is None else factors
    counts: Counter[Fraction] = Counter()
    for factor, exponent in zip(factors, exponents, strict=True):
        counts[exponent] += factor
    return f"${' + '.join(_term(count, exponent) for exponent, count in counts.items() if count)}$"


def _term(factor: int, exponent: Fraction) -> str:
    if exponent == 0:
        return str(factor)
    return ("" if factor == 1 else str(factor)) + ("e" if exponent == 1 else f"e^{{{exponent}}}")


def draw_sheet(
    tokens: Sequence[str],
    x: np.ndarray,
    wq: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    filled: Collection[int],
) -> None:
    """Draw all that leads from tokens to the output, in a new figure; what is given is tinted, steps are numbered.

    There is room for three tokens, with four numbers in each and in a key, and two in a value.

    Args:
        tokens: L names. All that follows are whole numbers, of whatever type.
        x: (L, d_model).
        wq: (d_model, d_k).
        key: (L, d_k).
        value: (L, d_v), none negative.
        filled: the tokens whose rows are filled in; the others are left for the reader.

    Raises:
        ValueError: if d_k is no square, so that the scaled scores are not fractions.

    >>> import matplotlib.pyplot as plt
    >>> from attnlib.lab.example import three_tokens
    >>> from attnlib.lab.sheet import draw_sheet
    >>> e = three_tokens()
    >>> draw_sheet(e.tokens, e.x, e.heads[1].wq, e.x @ e.heads[1].wk, e.x @ e.heads[1].wv, filled=[0])
    >>> plt.close()
    """
    root = isqrt(wq.shape[1])
    if root**2 != wq.shape[1]:
        raise ValueError(f"wq: expected d_k columns, a square number, got {wq.shape[1]}")
    query = x @ wq
    scores = query @ key.T
    scaled = [[Fraction(int(score), root) for score in row] for row in scores]
    weights = reference.attention_weights(query.astype(float), key.astype(float))
    powers, sums = [[in_powers([z]) for z in row] for row in scaled], [[in_powers(row)] for row in scaled]
    mixed = [[in_powers(row, column) for column in value.T] for row in scaled]
    draw_pairs = partial(draw_table, columns=tokens, width=WIDE, filled=filled)  # a column for each key
    left, right = two_panels(height=18, unit=0.231)
    draw_table(left, (2, -9.4), x, "$X$", tint=TINTS[0], rows=tokens)
    draw_table(left, (6.3, -2.4), wq, "$W_Q$", tint=TINTS[1])
    draw_table(left, (6.3, -9.4), query, "① $Q = XW_Q$", filled=filled)
    draw_table(left, (10.6, -2.4), key.T, r"$K^\top$", tint=TINTS[1], columns=tokens, width=WIDE)
    draw_pairs(left, (10.6, -9.4), scores, r"② $QK^\top$")
    draw_pairs(left, (10.6, -14.9), scaled, r"③ $QK^\top\!/\sqrt{d_k}$", rows=tokens)
    draw_pairs(right, (2, -2.4), powers, "④ powers of $e$", rows=tokens)
    draw_table(right, (8.6, -2.4), sums, "their sum", width=5.4, filled=filled)
    draw_pairs(right, (2, -8.7), weights, "weights", rows=tokens)
    draw_table(right, (11.2, -8.7), value, "$V$", width=WIDE, tint=TINTS[1], rows=tokens)
    draw_table(right, (2, -14.9), mixed, "⑤ powers · $V$", width=3.6, rows=tokens, filled=filled)
    draw_table(right, (11.2, -14.9), weights @ value.astype(float), "output", width=2.2, filled=filled)
