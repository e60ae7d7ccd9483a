"""``check``: run an answer, find the mistake in it, and say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from attnlib.exercises import process
from attnlib.exercises.catalogue import catalogue
from attnlib.exercises.contracts import CONTRACTS
from attnlib.exercises.contracts.base import Contract, Way
from attnlib.exercises.explain import Explanation, explain, measure, reordered, right
from attnlib.exercises.observe import Outcome, agree, observe, same_kind
from attnlib.exercises.properties import Broken, first_broken
from attnlib.exercises.report import Example, broken, passed, refused

__all__ = ["Verdict", "check"]


@dataclass(frozen=True)
class Verdict:
    """What :func:`check` found.

    Attributes:
        passed: whether the answer is right.
        misconception: the key in ``catalogue`` of the mistake, or None if there is none or none is known.
        message: the same in words, with the smallest input that shows it.
        misconceptions: all keys, if several mistakes were made at once; the first is ``misconception``.

    >>> from attnlib.exercises import Verdict
    >>> print(Verdict(True, None, "Right."))
    Right.
    """

    passed: bool
    misconception: str | None
    message: str
    misconceptions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message


def check(exercise: str, answer: Any, *, seconds: float = 10.0) -> Verdict:
    """Check an answer to an exercise, and name the mistake in it.

    The answer runs in a process of its own. Whatever it raises is reported, and it is stopped when its time is over.

    Args:
        exercise: the name of the exercise: a key of ``attnlib.exercises.exercises``, which says how it is called.
        answer: a function, a module or a class. It may take tensors, arrays or nested lists, with or without batch and
            heads in front.
        seconds: how long it may run.

    Returns:
        The verdict. Its message names the mistake and shows the smallest input on which the answer is wrong; it
        never shows the solution.

    Raises:
        ValueError: if there is no exercise of this name.

    >>> import math, torch
    >>> from attnlib.exercises import check
    >>> def attention_weights(query, key, mask=None):
    ...     scores = query @ key.mT / query.shape[-1]
    ...     if mask is not None:
    ...         scores = scores.masked_fill(~mask, -math.inf)
    ...     return scores.softmax(dim=-1).nan_to_num(0)
    >>> verdict = check("attention_weights", attention_weights)
    >>> verdict.passed, verdict.misconception
    (False, 'scale-d_k')
    >>> print(verdict.message.splitlines()[0])
    Not right yet. The scores are divided by d_k, not by its root.
    """
    if exercise not in CONTRACTS:
        raise ValueError(f"exercise: expected one of {', '.join(CONTRACTS)}, got {exercise!r}")
    contract = CONTRACTS[exercise]
    if not callable(answer):
        answer = getattr(answer, "forward", answer)
    if not callable(answer):
        return Verdict(False, None, broken(contract, f"is no function, but of type {type(answer).__name__}"))
    examined = _Examined()
    with _one_thread():
        for each in contract.ways(answer):
            right(exercise, each)  # before the fork, so that it is computed once
        ran = process.run(lambda send: _examine(contract, answer, send), seconds)
        for item in ran.sent:
            examined.add(*item)
        return _judged(contract, examined, ran.end, seconds, lambda way: _lead(contract, answer, way, seconds))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tables of three tokens are not worth waking threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# How an answer is told to be unsteady, beside its outcomes: it remembers more and more, it remembers, or it draws.
_GROWS, _STATE, _CHANCE = "grows", "state", "chance"

# The ways in which an answer is run on all probes.
_WAYS = 8


@dataclass
class _Examined:
    """What an answer did, way by way."""

    outcomes: dict[Way, dict[int, Outcome]] = field(default_factory=dict)
    unsteady: str = ""
    again: tuple[Way, int, Outcome] | None = None
    running: tuple[Way, int] | None = None

    def add(self, way: Way | str, place: int, outcome: Any) -> None:
        if isinstance(way, str):
            self.unsteady, self.again = way, outcome
        elif outcome is None:
            self.running = way, place
        else:
            self.outcomes.setdefault(way, {})[place] = outcome


def _examine(contract: Contract, answer: Any, send: Callable[[Any], None]) -> None:
    """Find the ways in which an answer can be called, and run it on all probes in the best of them."""
    ways = contract.ways(answer)
    found: dict[Way, dict[int, Outcome]] = {way: {} for way in ways}

    def run(way: Way, place: int) -> None:
        send((way, place, None))
        found[way][place] = observe(contract, answer, way, contract.probes[place])
        send((way, place, found[way][place]))

    plain = [place for place, probe in enumerate(contract.probes) if not probe.hard and not probe.soft]
    for way in ways:
        for place in plain[:2]:
            run(way, place)
    ranked = sorted(ways, key=lambda way: _standing(contract, way, found[way]))
    best = ranked[0]
    if found[best][plain[0]].values is not None:
        kept = _kept(answer)
        first = observe(contract, answer, best, contract.probes[plain[0]])
        again = [observe(contract, answer, best, contract.probes[plain[0]], seed=seed) for seed in (0, 1, 0, 0)]
        other = next((each for each in again if not agree(first, each)), None)
        if other is not None or not agree(first, found[best][plain[0]]):
            steady = all(agree(first, again[i]) for i in (0, 2, 3)) and agree(first, found[best][plain[0]])
            why = _CHANCE if steady else _GROWS if _kept(answer) > kept else _STATE
            send((why, plain[0], (best, plain[0], other or first)))
    single = any(way.kind == "float32 tensors" and _gave_numbers(found[way]) for way in ways)
    for way in ranked[:_WAYS]:
        # Double precision is for answers that single precision does not suit.
        if way is not best and (not _gave_numbers(found[way]) or (single and way.kind == "float64 tensors")):
            continue
        for place, probe in enumerate(contract.probes):
            if place not in found[way] and contract.suits(way, probe):
                run(way, place)


def _kept(answer: Any) -> int:
    """How much is kept in the lists that an answer's calls share: its defaults, its class, what is around it."""
    code = getattr(answer, "__code__", None)
    if code is None:
        holders = [*vars(answer if isinstance(answer, type) else type(answer)).values(), *_own(answer)]
    else:
        holders = [*(answer.__defaults__ or ()), *(answer.__kwdefaults__ or {}).values()]
        holders += [cell.cell_contents for cell in answer.__closure__ or ()]
        holders += [answer.__globals__[name] for name in code.co_names if name in answer.__globals__]
    holders += [part for each in holders if isinstance(each, dict) for part in each.values()]
    return sum(len(each) for each in holders if isinstance(each, list | dict))


def _own(answer: Any) -> list[Any]:
    return [] if isinstance(answer, type) else [*getattr(answer, "__dict__", {}).values()]


def _gave_numbers(outcomes: dict[int, Outcome]) -> bool:
    return any(outcome.values is not None for outcome in outcomes.values())


def _standing(contract: Contract, way: Way, outcomes: dict[int, Outcome]) -> tuple:
    """How well a way suits an answer, the better the smaller."""
    expected = right(contract.name, way)
    with_numbers = [(place, outcome) for place, outcome in outcomes.items() if outcome.values is not None]
    shapes = sum(
        (want := expected[place]) is not None
        and want.values is not None
        and outcome.values is not None
        and want.values.shape == outcome.values.shape
        for place, outcome in with_numbers
    )
    kinds = sum(same_kind(way, outcome.kind) for _, outcome in with_numbers)
    line = max((outcome.line for outcome in outcomes.values()), default=0)
    raised = sum(outcome.fault.startswith("raised") for outcome in outcomes.values())
    return (-len(with_numbers), raised, -kinds, -shapes, -line)


Lead = Callable[[Way], Broken | None]


def _lead(contract: Contract, answer: Any, way: Way, seconds: float) -> Broken | None:
    """The first property of right answers that an answer breaks, which runs apart once more."""
    ran = process.run(lambda send: send(first_broken(contract, answer, way, right(contract.name, way))), seconds)
    return ran.sent[0] if ran.sent else None


def _judged(contract: Contract, examined: _Examined, end: str, seconds: float, lead: Lead) -> Verdict:
    ways = sorted(examined.outcomes, key=lambda way: _standing(contract, way, _first(contract, examined, way)))
    whole = [way for way in ways if len(examined.outcomes[way]) >= _number_of_probes(contract, way)]
    if end != "finished" and not any(_is_right(contract, examined, way) for way in whole):
        fault = f"did not finish in {seconds:g} seconds" if end == "time" else "ended the process that it ran in"
        at = Example(contract, *examined.running) if examined.running else None
        return Verdict(False, None, broken(contract, fault, at))
    kept = [way for way in whole if _keeps_kind(examined, way)] or whole
    passing = [way for way in kept if _is_right(contract, examined, way)]
    if examined.unsteady and examined.again is not None:
        key = _why_unsteady(contract, examined.unsteady)
        way, place, other = examined.again
        example = Example(contract, way, place, examined.outcomes[way][place], other)
        return _refused(example, [Explanation((key,), True)])
    if not passing:
        return _wrong(contract, examined, kept or ways, lead)
    if any(outcome.changed for outcome in examined.outcomes[passing[0]].values()):
        place = min(p for p, outcome in examined.outcomes[passing[0]].items() if outcome.changed)
        return _refused(Example(contract, passing[0], place), [Explanation(("input-changed",), True)])
    elsewhere = list(_wrong_elsewhere(contract, examined, passing[0], kept))
    for elsewhere_way, found in elsewhere:
        if contract.asked(elsewhere_way):
            place = next(_failing(contract, examined, elsewhere_way))
            return _found(Example(contract, elsewhere_way, place), examined, found)
    beside = elsewhere[0][1][0].keys if elsewhere else ()
    return Verdict(True, None, passed([*_cautions(contract, examined, passing[0])], beside))


def _why_unsteady(contract: Contract, unsteady: str) -> str:
    """The mistake that is behind another output for the same input."""
    if unsteady != _CHANCE:
        return "cache-shared" if contract.name == "kv_cache" and unsteady == _GROWS else "state-kept"
    likely = ("dropout-in-evaluation", "greedy-drawn", "drawn-at-random")
    return next(key for key in likely if contract.name in catalogue[key].exercises or key == likely[-1])


def _first(contract: Contract, examined: _Examined, way: Way) -> dict[int, Outcome]:
    plain = [place for place, probe in enumerate(contract.probes) if not probe.hard and not probe.soft]
    return {place: examined.outcomes[way][place] for place in plain[:2] if place in examined.outcomes[way]}


def _number_of_probes(contract: Contract, way: Way) -> int:
    return sum(contract.suits(way, probe) for probe in contract.probes)


def _keeps_kind(examined: _Examined, way: Way) -> bool:
    """Whether an answer returned the kind of what it was given."""
    outcomes = [outcome for outcome in examined.outcomes[way].values() if outcome.values is not None]
    return bool(outcomes) and same_kind(way, outcomes[0].kind)


def _failing(contract: Contract, examined: _Examined, way: Way) -> Iterator[int]:
    """The probes on which an answer is wrong, the smallest first."""
    expected = right(contract.name, way)
    for place, probe in enumerate(contract.probes):
        want, got = expected[place], examined.outcomes[way].get(place)
        if want is not None and not probe.soft and (got is None or not agree(want, got)):
            yield place


def _is_right(contract: Contract, examined: _Examined, way: Way) -> bool:
    return next(_failing(contract, examined, way), None) is None


def _cautions(contract: Contract, examined: _Examined, way: Way) -> Iterator[Example]:
    """The soft probes on which an answer that is right does something else."""
    expected = right(contract.name, way)
    for place, probe in enumerate(contract.probes):
        want, got = expected[place], examined.outcomes[way].get(place)
        if probe.soft and want is not None and got is not None and got.values is not None and not agree(want, got):
            yield Example(contract, way, place, got)


def _wrong_elsewhere(
    contract: Contract, examined: _Examined, way: Way, ways: list[Way]
) -> Iterator[tuple[Way, list[Explanation]]]:
    """An answer that is right in one way may be wrong in another, for a batch say, by a mistake that has a name."""
    for other in ways:
        outcomes = _outcomes(contract, examined, other)
        refused = any(outcome is not None and outcome.values is None for outcome in outcomes)
        if other.kind == way.kind and not refused and not _is_right(contract, examined, other):
            found = [e for e in explain(contract.name, other, outcomes, most=1) if e.keys]
            if found:
                yield other, found


def _outcomes(contract: Contract, examined: _Examined, way: Way) -> list[Outcome | None]:
    return [examined.outcomes[way].get(place) for place in range(len(contract.probes))]


def _wrong(contract: Contract, examined: _Examined, ways: list[Way], lead: Lead) -> Verdict:
    """Name the mistake by the way in which the fewest mistakes explain it."""
    name, first, outcomes = contract.name, ways[0], _outcomes(contract, examined, ways[0])
    raises = any(outcome is not None and outcome.values is None for outcome in outcomes)
    tries: list[tuple[Way, Callable[[], list[Explanation]]]] = [
        (way, partial(explain, name, way, _outcomes(contract, examined, way), most=1)) for way in ways[:4]
    ]
    tries += [
        (first, lambda: measure(name, first, outcomes)),
        (first, lambda: explain(name, first, outcomes)),
        (first, lambda: reordered(name, first, outcomes)),
    ]
    best: tuple[Way, list[Explanation]] = first, []
    for way, search in tries:
        found = search()
        if found and (not best[1] or found[0].rank < best[1][0].rank):
            best = way, found
        if found and found[0].whole:
            break
    way, found = best
    raised = None
    if raises and not (found and found[0].whole):
        excused = explain(name, first, outcomes, lenient=True)
        if excused and (not found or excused[0].rank < found[0].rank):
            way, found = first, excused
            place = next(i for i, each in enumerate(outcomes) if each is not None and each.values is None)
            raised = Example(contract, first, place, outcomes[place])
    if _all_nan(contract, examined.outcomes[way]):
        found = [Explanation(("result-nan",), True), *found]
    places = [*_failing(contract, examined, way)]
    if raised is not None:
        places = [place for place in places if _gives_numbers(examined, way, place)]
    shows = found[0].shows if found else frozenset()
    place = next((place for place in places if place in shows), places[0])
    leads = not found and _gives_numbers(examined, way, place)
    return _found(Example(contract, way, place), examined, found, lead=lead(way) if leads else None, raised=raised)


def _gives_numbers(examined: _Examined, way: Way, place: int) -> bool:
    outcome = examined.outcomes[way].get(place)
    return outcome is not None and outcome.values is not None


def _all_nan(contract: Contract, outcomes: dict[int, Outcome]) -> bool:
    """Whether no number came where ordinary inputs went in, so that many mistakes would look alike."""
    plain = [place for place, probe in enumerate(contract.probes) if place in outcomes and not probe.hard]
    values = [outcomes[place].values for place in plain]
    return bool(values) and all(each is not None and np.isnan(each).all() for each in values)


def _found(
    example: Example,
    examined: _Examined,
    found: list[Explanation],
    *,
    lead: Broken | None = None,
    raised: Example | None = None,
) -> Verdict:
    """The verdict on an answer that is wrong on an example, with what its conduct adds."""
    outcomes = examined.outcomes[example.way]
    got = outcomes.get(example.place)
    if not found and got is not None and got.printed and got.fault == "returned None":
        found = [Explanation(("printed-not-returned",), True)]
    if any(outcome.changed for outcome in outcomes.values()):
        found = [Explanation((*each.keys, "input-changed"), each.whole) for each in found or [Explanation((), False)]]
    return _refused(replace(example, got=got), found, lead, raised)


def _refused(
    example: Example, found: list[Explanation], lead: Broken | None = None, raised: Example | None = None
) -> Verdict:
    keys = found[0].keys if found else ()
    return Verdict(False, keys[0] if keys else None, refused(example, found, lead, raised), keys)
