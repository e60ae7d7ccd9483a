"""What an answer's author reads: the mistake, the smallest input that shows it, and where the book explains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnlib.exercises.catalogue import catalogue
from attnlib.exercises.contracts.base import Array, Contract, Way
from attnlib.exercises.explain import Explanation, right
from attnlib.exercises.observe import Outcome, differs
from attnlib.exercises.sections import link


@dataclass(frozen=True)
class Example:
    """A probe, the way in which it was given, and what came of it."""

    contract: Contract
    way: Way
    place: int
    got: Outcome | None = None


def passed(contract: Contract, cautions: list[int]) -> str:
    """What is told of a right answer; ``cautions`` are soft probes on which it does something else."""
    beside = [
        f"One thing beside: on {contract.probes[place].name!r} it gives other numbers than it should, NaN perhaps."
        for place in cautions
    ]
    return "\n".join(["Right.", *beside])


def broken(contract: Contract, fault: str, example: Example | None = None) -> str:
    """What is told of an answer that gave no numbers at all."""
    asked = f"Asked for: {contract.sign}"
    return "\n\n".join([f"Not right yet. The answer {fault}.", asked, *([_input(example)] if example else [])])


def refused(example: Example, explanations: list[Explanation]) -> str:
    """What is told of a wrong answer: the mistakes by name, a counter-example, where to read."""
    parts = [f"Not right yet. {_named(example.got, explanations)}"]
    if example.got is not None:
        parts.append(_counter_example(example, example.got))
    sections = dict.fromkeys(catalogue[key].section for each in explanations[:2] for key in each.keys)
    if sections:
        parts.append("In the book: " + ", ".join(map(link, sections)))
    return "\n\n".join(parts)


def _named(got: Outcome | None, explanations: list[Explanation]) -> str:
    """The mistakes by their titles."""
    if not explanations:
        if got is not None and got.values is None:
            return f"The answer {got.fault}."
        return "No known mistake gives these numbers."
    options = [" And: ".join(f"{catalogue[key].title}." for key in each.keys) for each in explanations[:3]]
    text = options[0] if len(options) == 1 else "One of these. " + " Or: ".join(options)
    return text if explanations[0].whole else f"{text} And something else, which has no name."


def _input(example: Example) -> str:
    probe = example.contract.probes[example.place]
    shown = example.contract.shown(example.way, probe)
    return "\n".join(
        [f"On this input ({probe.name}):", *(f"{name} = {_shown(value)}" for name, value in shown.items())]
    )


def _counter_example(example: Example, got: Outcome) -> str:
    want = right(example.contract.name, example.way)[example.place]
    lines = [_input(example)]
    if what := example.contract.told(example.contract.probes[example.place]):
        lines.append(f"Compared: {what}.")
    if want is None or want.values is None:
        return "\n".join(lines)
    if got.values is None:
        return "\n".join([*lines, f"expected: {_shown(want.values)}", f"got: nothing, it {got.fault}"])
    expected, found = want.values, got.values
    where = differs(expected, found)
    if expected.shape != found.shape:
        lines.append(f"expected the shape {expected.shape}, got {found.shape}")
    elif where == ():
        lines.append(f"expected {_kind(expected)}, got {_kind(found)}")
    while expected.ndim > 2 and where:  # the first example and head in which they differ
        expected, found, where = expected[where[0]], found[where[0]], where[1:]
    return "\n".join([*lines, f"expected: {_shown(expected)}", f"got:      {_shown(found)}"])


def _kind(array: Array) -> str:
    return "True and False" if array.dtype.kind == "b" else "numbers"


def _shown(value: Any) -> str:
    """A value in a few lines: all of a small table, the beginning of a large one."""
    if not isinstance(value, np.ndarray):
        return str(value)
    whole = value.shape
    while value.ndim > 2:
        value = value[0]
    if value.dtype.kind == "f" and np.isfinite(value).all() and (value == np.round(value)).all():
        value = value.astype(np.int64)
    with np.printoptions(precision=4, suppress=True, threshold=40, edgeitems=2, linewidth=88):
        text = np.array2string(value + 0.0 if value.dtype.kind == "f" else value)
    note = "" if len(whole) <= 2 else f" (the first of {whole})"
    return ("\n" + text if value.ndim == 2 and len(value) > 1 else text) + note
