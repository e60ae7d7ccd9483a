"""Which mistakes explain what an answer does: the fewest that give the same numbers on every probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
import torch

from attnlib.exercises.catalogue import CONDUCT, SELDOM, catalogue
from attnlib.exercises.contracts import CONTRACTS
from attnlib.exercises.contracts.base import Contract, Way
from attnlib.exercises.misconception import Slip, names_of, written
from attnlib.exercises.observe import Outcome, agree, observe

# With more ways to be wrong than these, not all of their pairs are tried.
_MANY = 130

Mistakes = tuple[tuple[str, Slip], ...]  # each with its key


@dataclass(frozen=True)
class Explanation:
    """Mistakes that give what the answer gives: on all probes, or on all but the hard ones."""

    keys: tuple[str, ...]
    whole: bool

    @property
    def rank(self) -> tuple[bool, int]:
        """Fewer mistakes explain better, and what explains all better than what leaves something open."""
        return (not self.whole, len(self.keys))


@cache
def slips_of(exercise: str) -> tuple[tuple[str, Slip], ...]:
    """Every way to get an exercise wrong that is known, the likeliest first."""
    shown = [each for each in catalogue.values() if each.key not in CONDUCT]
    return tuple((each.key, slip) for each in shown for slip in each.slips if slip.fits(exercise))


@lru_cache(maxsize=1 << 14)
def _names(exercise: str, mistakes: Mistakes) -> dict:
    return names_of(written(exercise, *(slip for _, slip in mistakes)), exercise)


@lru_cache(maxsize=1 << 16)
def predicted(exercise: str, mistakes: Mistakes, way: Way, place: int) -> Outcome:
    """What the solution does on a probe when these mistakes are made in it."""
    contract = CONTRACTS[exercise]
    threads = torch.random.get_rng_state()
    try:
        answer = contract.solution(_names(exercise, mistakes), way)
        return observe(contract, answer, way, contract.probes[place])
    finally:
        torch.random.set_rng_state(threads)


@lru_cache(maxsize=1 << 14)
def _is_quiet(exercise: str, slip: tuple[str, Slip], way: Way, places: tuple[int, ...]) -> bool:
    """Whether a mistake changes nothing on these probes."""
    return all(agree(predicted(exercise, (slip,), way, p), predicted(exercise, (), way, p)) for p in places)


def right(exercise: str, way: Way) -> list[Outcome | None]:
    """What the solution does on each probe; None where a probe cannot be given in this way."""
    contract = CONTRACTS[exercise]
    return [
        predicted(exercise, (), contract.solved(way), place) if contract.suits(way, probe) else None
        for place, probe in enumerate(contract.probes)
    ]


def explain(
    exercise: str, way: Way, outcomes: Sequence[Outcome | None], *, most: int = 2, lenient: bool = False
) -> list[Explanation]:
    """Return the best explanations of what an answer does, by at most so many mistakes; or none.

    A lenient search passes over the probes on which the answer gave no numbers.
    """
    return _Search(CONTRACTS[exercise], way, outcomes, lenient).best(most)


class _Search:
    def __init__(self, contract: Contract, way: Way, outcomes: Sequence[Outcome | None], lenient: bool):
        self.exercise, self.way = contract.name, contract.solved(way)
        self.outcomes = outcomes
        judged = [
            place
            for place, probe in enumerate(contract.probes)
            if (outcome := outcomes[place]) is not None and not probe.soft and not (lenient and outcome.values is None)
        ]
        # What tells most apart comes first, so that most guesses are dropped after one probe.
        self.plain = [p for p in judged if not contract.probes[p].hard][::-1]
        self.hard = [p for p in judged if contract.probes[p].hard]
        self.slips = slips_of(self.exercise)

    def best(self, most: int) -> list[Explanation]:
        """The explanations with the fewest mistakes."""
        if not any(
            (outcome := self.outcomes[place]) is not None and outcome.values is not None for place in self.plain
        ):
            return []  # all mistakes that raise look alike
        for guesses in self.tiers(most):
            found = [mistakes for mistakes in guesses if self.agrees(mistakes, self.plain)]
            whole = [mistakes for mistakes in found if mistakes and self.agrees(mistakes, self.hard)]
            # What ordinary inputs do not show may stand beside it.
            whole = whole or [more for mistakes in found for more in self.with_quiet(mistakes)]
            if whole:
                return _distinct([Explanation(_keys(mistakes), True) for mistakes in whole])
            if found:
                found = self.nearest() if found == [()] else found
                return _distinct([Explanation(_keys(mistakes), False) for mistakes in found])
        return []

    def tiers(self, most: int) -> Iterator[Iterator[Mistakes]]:
        """More and more mistakes that ordinary inputs show, at once; pairs that are seldom made come last."""
        yield iter([()])
        if most >= 1:
            yield ((slip,) for slip in self.loud)
        if most >= 2:
            yield self.pairs(seldom=False)
            yield self.pairs(seldom=True)

    def pairs(self, seldom: bool) -> Iterator[Mistakes]:
        # One mistake at least is written in its first way; both, where there are many.
        first = list({key: (key, slip) for key, slip in reversed(self.loud)}.values())[::-1]
        others = self.loud if len(self.loud) <= _MANY else first
        tried: set[frozenset[Slip]] = set()
        for one in first:
            for two in others:
                pair = frozenset((one[1], two[1]))
                wanted = seldom == bool({one[0], two[0]} & SELDOM)
                if wanted and one[0] != two[0] and one[1].beside(two[1]) and pair not in tried:
                    tried.add(pair)
                    yield tuple(sorted((one, two), key=self.slips.index))

    @cached_property
    def quiet(self) -> list[tuple[str, Slip]]:
        """The mistakes that ordinary inputs do not show."""
        return [slip for slip in self.slips if self.is_quiet(slip)]

    @cached_property
    def loud(self) -> list[tuple[str, Slip]]:
        return [slip for slip in self.slips if not self.is_quiet(slip)]

    def is_quiet(self, slip: tuple[str, Slip]) -> bool:
        return _is_quiet(self.exercise, slip, self.way, tuple(self.plain))

    def nearest(self) -> list[Mistakes]:
        """The quiet mistakes that agree with the answer on the most hard probes, if on more than none would."""
        agreed = {slip: sum(self.agrees_at((slip,), place) for place in self.hard) for slip in self.quiet}
        most = max(agreed.values(), default=0)
        none = sum(self.agrees_at((), place) for place in self.hard)
        return [(slip,) for slip, count in agreed.items() if count == most] if most > none else []

    def agrees(self, mistakes: Mistakes, places: Sequence[int]) -> bool:
        return all(self.agrees_at(mistakes, place) for place in places)

    def agrees_at(self, mistakes: Mistakes, place: int) -> bool:
        outcome, guess = self.outcomes[place], predicted(self.exercise, mistakes, self.way, place)
        if outcome is None:
            return False
        # Where arrays become NaN, loops divide by zero or overflow, and raise.
        hard = CONTRACTS[self.exercise].probes[place].hard
        raises = hard and outcome.values is None and guess.values is not None and not np.isfinite(guess.values).all()
        return raises or agree(guess, outcome)

    def with_quiet(self, mistakes: Mistakes) -> Iterator[Mistakes]:
        """These mistakes and one or two more that only the hard probes show."""
        everywhere = [*self.hard, *self.plain]
        one = [(*mistakes, slip) for slip in self.quiet if self.fits_beside(slip, mistakes)]
        found = [guess for guess in one if self.agrees(guess, everywhere)]
        if not found:
            two = [
                (*guess, slip)
                for i, guess in enumerate(one)
                for *_, slip in one[i + 1 :]
                if self.fits_beside(slip, guess)
            ]
            found = [guess for guess in two if self.agrees(guess, everywhere)]
        yield from found

    def fits_beside(self, slip: tuple[str, Slip], mistakes: Mistakes) -> bool:
        return all(slip[1].beside(other) and slip[0] != key for key, other in mistakes)


def _keys(mistakes: Mistakes) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for key, _ in mistakes))


def _distinct(found: list[Explanation]) -> list[Explanation]:
    """Each set of keys once, in the catalogue's order, the fewest mistakes first."""
    fewest = min((len(e.keys) for e in found), default=0)
    return list({frozenset(e.keys): e for e in reversed(found) if len(e.keys) == fewest}.values())[::-1]
