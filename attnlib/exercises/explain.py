"""Which mistakes explain what an answer does: the fewest that give the same numbers on every probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from itertools import chain, islice, product

import numpy as np
import torch

from attnlib.exercises.catalogue import CONDUCT, SELDOM, TOGETHER, catalogue
from attnlib.exercises.contracts import CONTRACTS
from attnlib.exercises.contracts.base import Contract, Way
from attnlib.exercises.measure import fit
from attnlib.exercises.misconception import Family, Slip, names_of, written
from attnlib.exercises.observe import Outcome, agree, distance, observe
from attnlib.exercises.seen import seen_in

# How many pairs of mistakes are tried, the likeliest first, and how many that only hard probes show.
_PAIRS, _QUIET_PAIRS = 1200, 300

# How many ways to make a mistake are tried beside another one.
_LIKELY = 4

Mistakes = tuple[tuple[str, Slip], ...]  # each with its key


@dataclass(frozen=True)
class Explanation:
    """Mistakes that give what the answer gives: on all probes, or on all but the hard ones.

    ``note`` is what was measured about them, in brackets behind the title; it is not ``exact`` if something had to be
    excused; and on the probes ``shows`` each of the mistakes would show alone.
    """

    keys: tuple[str, ...]
    whole: bool
    note: str = ""
    exact: bool = True
    shows: frozenset[int] = frozenset()

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Fewer mistakes explain better, and what explains all better than what leaves something open."""
        return (not self.whole, not self.exact, len(self.keys))


@cache
def slips_of(exercise: str, function: str = "") -> tuple[tuple[str, Slip], ...]:
    """Every way to get an exercise wrong that is known, or one of its functions, the likeliest first."""
    shown = [each for each in catalogue.values() if each.key not in CONDUCT]
    return tuple((each.key, slip) for each in shown for slip in each.slips if slip.fits(exercise, function))


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
        _right_at(contract, way, place) if contract.suits(way, probe) else None
        for place, probe in enumerate(contract.probes)
    ]


def _right_at(contract: Contract, way: Way, place: int) -> Outcome:
    found = predicted(contract.name, (), contract.solved(way), place)
    if contract.probes[place].soft and not _finite(found):  # what one form of the solution need not know, another may
        forms = (predicted(contract.name, (), form, place) for form in contract.forms(way))
        return next((outcome for outcome in forms if _finite(outcome)), found)
    return found


def explain(
    exercise: str, way: Way, outcomes: Sequence[Outcome | None], *, most: int = 2, lenient: bool = False
) -> list[Explanation]:
    """Return the best explanations of what an answer does, by at most so many mistakes; or none.

    A lenient search passes over the probes on which the answer gave no numbers, if it is wrong on others, too.
    """
    contract = CONTRACTS[exercise]
    searches = [_Search(contract, form, outcomes, lenient) for form in contract.forms(way)]
    if lenient and searches[0].is_right():
        return []  # all mistakes that show in nothing that was judged would look alike
    for mistakes in range(most + 1):
        found = [each for search in searches for each in search.explanations(mistakes)]
        if found:
            return _distinct(found)
    return []


def measure(exercise: str, way: Way, outcomes: Sequence[Outcome | None]) -> list[Explanation]:
    """Return the mistakes that a number measures (a wrong factor, say), and those that show in the result alone."""
    contract = CONTRACTS[exercise]
    searches = [_Search(contract, form, outcomes, lenient=False) for form in contract.forms(way)]
    found = [each for search in searches for each in search.measured()]
    return _distinct(found) or searches[0].seen(order=False)


def reordered(exercise: str, way: Way, outcomes: Sequence[Outcome | None]) -> list[Explanation]:
    """Return whether an answer has the right rows, columns or heads in another order."""
    contract = CONTRACTS[exercise]
    return _Search(contract, contract.solved(way), outcomes, lenient=False).seen(order=True)


class _Search:
    """One form of a solution, and what an answer did."""

    def __init__(self, contract: Contract, form: Way, outcomes: Sequence[Outcome | None], lenient: bool):
        self.contract, self.exercise, self.way = contract, contract.name, form
        self.outcomes = outcomes
        judged = [
            place
            for place, probe in enumerate(contract.probes)
            if (outcome := outcomes[place]) is not None and not probe.soft and not (lenient and outcome.values is None)
        ]
        # What tells most apart comes first, so that most guesses are dropped after one probe.
        self.plain = [p for p in judged if not contract.probes[p].hard][::-1]
        self.hard = [p for p in judged if contract.probes[p].hard]
        self.function, untold = contract.function(form), contract.untold(form)
        self.slips = [slip for slip in slips_of(self.exercise, self.function) if slip[0] not in untold]

    def is_right(self) -> bool:
        """Whether all numbers that are judged are right."""
        return self.agrees((), [*self.plain, *self.hard])

    def explanations(self, mistakes: int) -> list[Explanation]:
        """The explanations by so many mistakes, apart from those that only hard probes show."""
        if not self.says_something(varied=mistakes > 1):
            return []
        found = [guess for guess in self.guesses(mistakes) if self.agrees(guess, self.plain)]
        whole = [guess for guess in found if guess and self.agrees(guess, self.hard)]
        # What ordinary inputs do not show may stand beside it.
        whole = whole or [more for guess in found for more in self.with_quiet(guess)]
        if whole:
            return [Explanation(_keys(guess), True, shows=self.shows(guess)) for guess in whole]
        found = self.nearest() if found == [()] else found
        return [
            Explanation(_keys(guess), bool(guess) and self.breaks_down(guess), exact=False, shows=self.shows(guess))
            for guess in found
        ]

    def shows(self, mistakes: Mistakes) -> frozenset[int]:
        """The probes on which each of these mistakes would show alone."""
        return frozenset(
            place
            for place in (*self.plain, *self.hard)
            if mistakes
            and all(
                not agree(
                    predicted(self.exercise, (each,), self.way, place), predicted(self.exercise, (), self.way, place)
                )
                for each in mistakes
            )
        )

    def says_something(self, varied: bool) -> bool:
        """Whether an answer gave numbers: all mistakes that raise look alike, and so do those that give zeros."""
        given = [v for place in self.plain if (v := self.given(place)) is not None]
        if not varied:
            return bool(given)
        return any(v.size > 1 and np.isfinite(v).all() and np.ptp(v) > 0 for v in given if v.dtype.kind == "f") or any(
            v.dtype.kind == "b" for v in given
        )

    def given(self, place: int) -> np.ndarray | None:
        outcome = self.outcomes[place]
        return None if outcome is None else outcome.values

    def guesses(self, mistakes: int) -> Iterator[Mistakes]:
        if mistakes == 0:
            return iter([()])
        if mistakes == 1:
            return ((slip,) for slip in self.loud)
        return chain(self.together(), islice(self.pairs(), _PAIRS // len(self.contract.forms(self.way))))

    def together(self) -> Iterator[Mistakes]:
        """Two mistakes that are written in one line."""
        return (
            tuple((key, slip) for key in keys) for keys, slip in TOGETHER if slip.fits(self.exercise, self.function)
        )

    def pairs(self) -> Iterator[Mistakes]:
        """Two mistakes that ordinary inputs show, the likeliest pairs first."""
        likely = self.likely()
        ranks = sorted(product(range(_LIKELY), repeat=2), key=lambda pair: (sum(pair), max(pair)))
        ranks = [pair for pair in ranks if pair[0] <= pair[1]]
        for seldom, (one, two) in product((False, True), ranks):
            for a, b in product(likely[one], likely[two]):
                wanted = seldom == bool({a[0], b[0]} & SELDOM) and a[0] != b[0]
                if wanted and a[1].beside(b[1]) and (one != two or self.place[a] < self.place[b]):
                    yield (a, b) if self.place[a] < self.place[b] else (b, a)

    def likely(self) -> list[list[tuple[str, Slip]]]:
        """The first ways to make each mistake, the second ones, and so on."""
        ranked: list[list[tuple[str, Slip]]] = [[] for _ in range(_LIKELY)]
        count: dict[str, int] = {}
        for key, slip in self.loud:
            rank = count[key] = count.get(key, -1) + 1
            if rank < _LIKELY:
                ranked[rank].append((key, slip))
        return ranked

    @cached_property
    def place(self) -> dict[tuple[str, Slip], int]:
        return {slip: place for place, slip in enumerate(self.slips)}

    @cached_property
    def quiet(self) -> list[tuple[str, Slip]]:
        """The mistakes that ordinary inputs do not show."""
        return [slip for slip in self.slips if self.is_quiet(slip)]

    @cached_property
    def loud(self) -> list[tuple[str, Slip]]:
        return [slip for slip in self.slips if not self.is_quiet(slip) and not self.belongs_elsewhere(slip)]

    def belongs_elsewhere(self, slip: tuple[str, Slip]) -> bool:
        """Whether a mistake only raises in this form of the solution, and gives numbers in another one."""
        return any(
            predicted(self.exercise, (slip,), self.way, place).values is None
            and slip[1].fits(self.exercise, self.contract.function(form))
            and predicted(self.exercise, (slip,), form, place).values is not None
            for form in self.contract.forms(self.way)
            if form != self.way
            for place in self.plain
        )

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
        hard = self.contract.probes[place].hard
        raises = hard and outcome.values is None and guess.values is not None and not np.isfinite(guess.values).all()
        return raises or (agree(guess, outcome) and guess.error == outcome.error)

    def breaks_down(self, mistakes: Mistakes) -> bool:
        """Whether these mistakes and the answer differ only where both are wrong, or the answer leaves the numbers."""
        return all(
            self.agrees_at(mistakes, place)
            or not _finite(self.outcomes[place])
            or not agree(predicted(self.exercise, mistakes, self.way, place), self.right_at(place))
            for place in self.hard
        )

    def right_at(self, place: int) -> Outcome:
        return predicted(self.exercise, (), self.way, place)

    def with_quiet(self, mistakes: Mistakes) -> Iterator[Mistakes]:
        """These mistakes and one or two more that only the hard probes show."""
        everywhere = [*self.hard, *self.plain]
        one = [(*mistakes, slip) for slip in self.quiet if self.fits_beside(slip, mistakes)]
        found = [guess for guess in one if self.agrees(guess, everywhere)]
        if not found and len(mistakes) == 1:
            found = [guess for guess in self.together() if self.agrees(guess, everywhere)]
        if not found:
            two = (
                (*guess, slip)
                for i, guess in enumerate(one)
                for *_, slip in one[i + 1 :]
                if self.fits_beside(slip, guess)
            )
            found = [guess for guess in islice(two, _QUIET_PAIRS) if self.agrees(guess, everywhere)]
        yield from found

    def fits_beside(self, slip: tuple[str, Slip], mistakes: Mistakes) -> bool:
        return all(slip[1].beside(other) and slip[0] != key for key, other in mistakes)

    def measured(self) -> Iterator[Explanation]:
        """Mistakes that leave a number open, with the number that fits."""
        if not self.says_something(varied=True) or self.agrees((), self.plain):
            return
        for each in catalogue.values():
            for family in each.families:
                told = family.fits(self.exercise, self.function) and each.key not in self.contract.untold(self.way)
                if told and (numbers := self.fitted(each.key, family)):
                    yield Explanation((each.key,), True, family.note(numbers))
                    break

    def fitted(self, key: str, family: Family) -> list[float]:
        """The number of a family that fits, probe by probe; none if there is a probe with none."""
        numbers = []
        for place in self.plain:
            number = fit(family, partial(self.error, key, place))
            if number is None:
                return []
            numbers.append(number)
        return numbers if not np.isnan(numbers).all() else []

    def error(self, key: str, place: int, slip: Slip) -> float:
        """How far a mistake is from the answer: at most 1 if it agrees with it."""
        got = self.given(place)
        guess = predicted.__wrapped__(self.exercise, ((key, slip),), self.way, place).values
        if got is None or guess is None or got.shape != guess.shape or not np.isfinite(guess).all():
            return np.inf
        return distance(guess, got)

    def seen(self, order: bool) -> list[Explanation]:
        """What shows in the result alone, wherever it comes from."""
        pairs = []
        for place in self.plain:
            want, got = self.right_at(place).values, self.given(place)
            if want is None or got is None:
                return []
            pairs.append((want, got))
        return [Explanation((key,), True, note) for key, note in seen_in(self.exercise, pairs, order=order)]


def _finite(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.values is not None and bool(np.isfinite(outcome.values).all())


def _keys(mistakes: Mistakes) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for key, _ in mistakes))


def _distinct(found: list[Explanation]) -> list[Explanation]:
    """Each set of keys once, in the catalogue's order, what explains all and the fewest mistakes only."""
    best = min((e.rank for e in found), default=None)
    return list({frozenset(e.keys): e for e in reversed(found) if e.rank == best}.values())[::-1]
