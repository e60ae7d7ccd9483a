"""Rounds in which each contender is timed once, so that what slows the machine for a while slows all of them.

A ratio is taken within a round, between neighbours in time; the median of the ratios is what counts.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SHORTEST_SAMPLE = 0.005  # seconds; a sample repeats its call until it lasts about as long


@dataclass(frozen=True)
class Budget:
    """How long a case may take: ``seconds`` for each contender, but at least ``least`` rounds and at most ``most``."""

    seconds: float
    least: int
    most: int


@dataclass(frozen=True)
class Stopwatch:
    """One contender on the clock.

    Attributes
    ----------
    run: the call that is timed.
    prepare: called before each sample, off the clock.
    finish: waits for what ``run`` has started: the work of a GPU.
    """

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    finish: Callable[[], object] = lambda: None

    def seconds(self, repeats: int) -> float:
        """Return the time of one of ``repeats`` calls."""
        self.prepare()
        self.finish()
        start = time.perf_counter()
        for _ in range(repeats):
            self.run()
        self.finish()
        return (time.perf_counter() - start) / repeats


def interleave(contenders: Sequence[Stopwatch], budget: Budget) -> list[list[float]]:
    """Time all contenders round by round; return the seconds of a call, one list a contender, one entry a round."""
    repeats = [_repeats(contender) for contender in contenders]
    samples: list[list[float]] = [[] for _ in contenders]
    end = time.perf_counter() + budget.seconds * len(contenders)
    collects = gc.isenabled()
    gc.disable()
    try:
        for number in range(budget.most):
            if number >= budget.least and time.perf_counter() > end:
                break
            for index in order(len(contenders), number):
                samples[index].append(contenders[index].seconds(repeats[index]))
            gc.collect(1)  # the young ones, which a round may have left: a call never pays for another's
    finally:
        if collects:
            gc.enable()
    return samples


def _repeats(contender: Stopwatch) -> int:
    """Warm up, and return how often a sample must repeat its call."""
    seconds = contender.seconds(1)
    if seconds < SHORTEST_SAMPLE:  # a first call that is short may be long for reasons of its own
        seconds = min(contender.seconds(3), seconds)
    return max(1, math.ceil(SHORTEST_SAMPLE / seconds))


def order(count: int, number: int) -> list[int]:
    """Return who runs when in round ``number``: another one starts each round, and every other round runs backwards.

    So nobody is always first, and nobody always follows the same one.

    >>> [order(3, number) for number in range(4)]
    [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]]
    """
    start = number // 2 % count
    turn = [*range(start, count), *range(start)]
    return turn[::-1] if number % 2 else turn


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return ours divided by theirs, round by round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles around it.

    >>> summary([1.0, 2.0, 3.0, 4.0, 100.0])
    {'median': 3.0, 'lower': 2.0, 'upper': 4.0}
    """
    if len(samples) == 1:
        return dict.fromkeys(("median", "lower", "upper"), samples[0])
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return {"median": median, "lower": lower, "upper": upper}
