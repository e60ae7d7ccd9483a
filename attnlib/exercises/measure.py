"""A number that a mistake leaves open: a base, a factor, a width. It is searched for in what an answer gives."""

from __future__ import annotations

import math
from collections.abc import Callable

from attnlib.exercises.misconception import Family, Slip

_STEPS = 48  # each keeps 0.62 of the interval
_GOLDEN = (math.sqrt(5) - 1) / 2


def fit(family: Family, error: Callable[[Slip], float]) -> float | None:
    """Return the number with which a family agrees with an answer; NaN if any number does, None if none does.

    ``error`` is at most 1 where a slip agrees with the answer.
    """

    def at(number: float) -> float:
        return error(family.at(number))

    numbers = sorted(family.numbers)
    errors = [at(number) for number in numbers]
    if max(errors) <= 1:
        return math.nan
    best = min(range(len(numbers)), key=errors.__getitem__)
    if not math.isfinite(errors[best]):
        return None
    number = numbers[best]
    if not family.whole and errors[best] > 0.5:
        low, high = numbers[max(best - 1, 0)], numbers[min(best + 1, len(numbers) - 1)]
        number = _lowest(at, low, high)
    if at(number) > 1 or any(math.isclose(number, other, rel_tol=2e-3, abs_tol=1e-3) for other in family.unless):
        return None
    return number


def _lowest(at: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley between two numbers is lowest."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = at(left), at(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = at(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = at(right)
        if min(at_left, at_right) < 0.2:
            break
    return left if at_left <= at_right else right
