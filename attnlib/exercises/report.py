"""What an answer's author reads: the mistake, the smallest input that shows it, and where the book explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnlib.exercises.catalogue import CONDUCT, catalogue
from attnlib.exercises.contracts.base import Array, Contract, Way
from attnlib.exercises.explain import Explanation, right
from attnlib.exercises.observe import Outcome, differs
from attnlib.exercises.properties import PROPERTIES, Broken
from attnlib.exercises.sections import link
from attnlib.exercises.tasks import TASKS


@dataclass(frozen=True)
class Example:
    """A probe, the way in which it was given, what came of it, and what came of it again if that is another thing."""

    contract: Contract
    way: Way
    place: int
    got: Outcome | None = None
    again: Outcome | None = None


def passed(cautions: Sequence[Example], elsewhere: Sequence[str] = ()) -> str:
    """What is told of a right answer.

    Args:
        cautions: soft probes on which it does something else.
        elsewhere: the mistakes that it makes where nobody asked for an answer.
    """
    beside = []
    for each in cautions:
        probe = each.contract.probes[each.place]
        remark = probe.remark or f"on {probe.name!r} it gives other numbers than it should, NaN perhaps"
        beside.append(f"One thing beside: {remark}.\n\n{_counter_example(each, each.got)}" if each.got else remark)
    if elsewhere:
        titles = " And: ".join(f"{catalogue[key].title}." for key in elsewhere)
        beside.append(f"One thing beside: if a batch and heads stand in front, it is wrong. {titles}")
    return "\n\n".join(["Right.", *beside])


def broken(contract: Contract, fault: str, example: Example | None = None) -> str:
    """What is told of an answer that gave no numbers at all."""
    asked = f"Asked for: {contract.sign}"
    return "\n\n".join([f"Not right yet. The answer {fault}.", asked, *([_input(example)] if example else [])])


def refused(
    example: Example, explanations: list[Explanation], lead: Broken | None = None, raised: Example | None = None
) -> str:
    """What is told of a wrong answer: the mistakes by name, a counter-example, where to read.

    Args:
        example: what shows the mistake.
        explanations: the mistakes, if they are known.
        lead: what the answer does not have whatever else is wrong, if they are not.
        raised: where it raised, if the mistakes do not explain that.
    """
    parts = [f"Not right yet. {_named(example, explanations)}"]
    if raised is not None and raised.got is not None:
        parts.append(f"And on another input ({raised.contract.probes[raised.place].name}) it {raised.got.fault}.")
    if lead is not None:
        parts.append(_leads(example, lead))
    if example.again is not None and example.got is not None:
        parts.append(_twice(example, example.got, example.again))
    elif example.got is not None:
        parts.append(_counter_example(example, example.got))
    else:
        parts.append(_input(example))
    named = [key for each in explanations[:2] for key in each.keys if key not in CONDUCT]
    sections = dict.fromkeys([catalogue[key].section for key in named] or [TASKS[example.contract.name].section])
    return "\n\n".join([*parts, "In the book: " + ", ".join(map(link, sections))])


def _named(example: Example, explanations: list[Explanation]) -> str:
    """The mistakes by their titles."""
    if not explanations:
        return _unnamed(example)
    options = [_titles(each) for each in explanations[:3]]
    more = "" if explanations[0].whole else "And something else, which has no name."
    if len(options) == 1:
        return f"{options[0]} {more}".strip()
    numbered = [f"{i}. {each}" for i, each in enumerate(options, 1)]
    return "\n".join(["One of these:", *numbered, more]).strip()


_SEVERAL = "No known mistake alone, or pair of them, gives these numbers: there may be several."


def _leads(example: Example, lead: Broken) -> str:
    """A property that an answer does not have, the mistakes that break it, and the smallest input that shows it."""
    contract, way = example.contract, example.way
    each = PROPERTIES[contract.name][lead.place]
    first, below = contract.shown(way, lead.first), contract.shown(way, contract.probes[example.place])
    lines = [f"Whatever else is wrong: {each.broken}. So it is with each of these mistakes:"]
    lines += [f"- {catalogue[key].title}." for key in each.keys]
    lines += ["", "It shows on the input below" + (", with" if _other(first, below) else ".")]
    lines += [*_other(first, below), f"The answer gives {_shown(lead.before)}"]
    if lead.second is not None:
        lines += ["and with", *_other(contract.shown(way, lead.second), first)]
    wanted, got = _where_they_differ(lead.wanted, lead.got)
    stays = wanted.shape == lead.before.shape and np.array_equal(wanted, lead.before)
    should = "stay as it is" if stays else f"be {_shown(wanted)}"
    return "\n".join([*lines, f"{each.what} should {should}", f"and came out as {_shown(got)}"])


def _other(shown: dict[str, Any], known: dict[str, Any]) -> list[str]:
    """What is shown that is not known, or known to be another value."""
    same = [name for name, value in shown.items() if name in known and np.array_equal(value, known[name])]
    return [f"{name} = {_shown(value)}" for name, value in shown.items() if name not in same]


def _unnamed(example: Example) -> str:
    got, want = example.got, right(example.contract.name, example.way)[example.place]
    if got is not None and got.values is None:
        return f"The answer {got.fault}."
    if got is not None and got.values is not None and want is not None and want.values is not None:
        if _length(want.values, got.values):
            return f"The answer is longer or shorter than it should be. {_SEVERAL}"
        if want.values.shape != got.values.shape:
            return "The answer has another shape than the one asked for."
    return _SEVERAL


def _titles(explanation: Explanation) -> str:
    note = f" ({explanation.note})" if explanation.note else ""
    return " And: ".join(f"{catalogue[key].title}{note}." for key in explanation.keys)


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
    probe = example.contract.probes[example.place]
    if (said := example.contract.spoken(probe, expected)) is not None and expected.shape == found.shape:
        return "\n".join([*lines, f"expected: {said}", f"got:      {example.contract.spoken(probe, found)}"])
    if _length(expected, found):
        lines.append(f"expected {len(expected)} of them, got {len(found)}")
    elif expected.shape != found.shape:
        lines.append(f"expected the shape {expected.shape}, got {found.shape}")
    elif where == ():
        lines.append(f"expected {_kind(expected)}, got {_kind(found)}")
    expected, found = _where_they_differ(expected, found)
    return "\n".join([*lines, f"expected: {_shown(expected)}", f"got:      {_shown(found)}"])


def _where_they_differ(expected: Array, found: Array) -> tuple[Array, Array]:
    """The first example and head in which they differ."""
    where = differs(expected, found)
    while expected.ndim > 2 and where:
        expected, found, where = expected[where[0]], found[where[0]], where[1:]
    return expected, found


def _length(want: Array, got: Array | None) -> bool:
    """Whether two lists differ in their length."""
    return got is not None and want.ndim == got.ndim == 1 and len(want) != len(got)


def _twice(example: Example, got: Outcome, again: Outcome) -> str:
    """What two calls with the same arguments gave."""
    return "\n".join([_input(example), f"one call gave: {_gave(got)}", f"another one:   {_gave(again)}"])


def _gave(outcome: Outcome) -> str:
    return f"nothing, it {outcome.fault}" if outcome.values is None else _shown(outcome.values)


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
