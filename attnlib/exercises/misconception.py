"""What a misconception is: one step of a right solution, got wrong."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from attnlib.exercises.solutions import SOLUTIONS

__all__ = ["Misconception"]


class Slip:
    """Lines of a solution, and what is written in their place. An empty text leaves a line out.

    ``only`` names the exercises in which it is a mistake, if not in all that have these lines.
    """

    def __init__(self, lines: Mapping[str, str], only: Collection[str] = ()):
        self.lines = dict(lines)
        self.only = only

    def fits(self, exercise: str, function: str = "") -> bool:
        """Whether the slip can be made in an exercise: it has these lines, and the slip is not for others only."""
        return (not self.only or exercise in self.only) and self.lines.keys() <= _lines(exercise, function)

    def beside(self, other: Slip) -> bool:
        """Whether two slips are in different lines, so that both can be made at once."""
        return self.lines.keys().isdisjoint(other.lines)


NUMBER = "NUMBER"


class Family:
    """Slips that differ in one number, which stands as NUMBER in their lines.

    Args:
        lines: as those of a slip.
        numbers: what the search begins with; the numbers between them are tried where one of them comes near.
        unless: numbers that are right, or another mistake.
        only: as that of a slip.
        whole: whether there is nothing between the numbers.
    """

    def __init__(
        self,
        lines: Mapping[str, str],
        numbers: Collection[float],
        *,
        unless: Collection[float] = (),
        only: Collection[str] = (),
        whole: bool = False,
    ):
        self.lines, self.numbers, self.unless, self.only, self.whole = lines, (*numbers,), unless, only, whole

    def fits(self, exercise: str, function: str = "") -> bool:
        """Whether it can be made in an exercise."""
        return self.at(1).fits(exercise, function)

    def at(self, number: float) -> Slip:
        """The slip with a number."""
        return Slip({line: text.replace(NUMBER, repr(number)) for line, text in self.lines.items()}, self.only)

    def note(self, numbers: Collection[float]) -> str:
        """The number that was found, if it is one for all probes that tell."""
        found = [number for number in numbers if not math.isnan(number)]
        low, high = min(found), max(found)
        return f"it acts like {sum(found) / len(found):.3g}" if high - low <= 0.02 * abs(high) else ""


def slip(right: str, wrong: str, only: Collection[str] = ()) -> Slip:
    """One line, and what is written in its place."""
    return Slip({right: wrong}, only)


def _lines(exercise: str, function: str = "") -> set[str]:
    """The lines of a solution, or of one of its functions."""
    source = SOLUTIONS[exercise]
    if function:
        source = next(part for part in source.split("\n\n") if part.strip().startswith(f"def {function}("))
    return {line.strip() for line in source.splitlines()}


def written(exercise: str, *slips: Slip) -> str:
    """The source of an exercise's solution, with these slips."""
    changed: dict[str, str] = {}
    for each in slips:
        changed |= each.lines
    source = []
    for line in SOLUTIONS[exercise].strip().splitlines():
        bare = line.strip()
        wrong = (changed[bare] or "pass") if bare in changed else bare
        indent = line[: len(line) - len(line.lstrip())]
        source += [indent + part if part else "" for part in wrong.split("\n")]
    return "\n".join(source) + "\n"


def names_of(source: str, name: str) -> dict[str, Any]:
    """What a source defines, by name; it may use ``math``, ``torch``, ``nn`` and ``F``."""
    names = {"math": math, "torch": torch, "nn": nn, "F": F}
    exec(compile(source, f"<{name}>", "exec"), names)
    return names


@dataclass(frozen=True)
class Misconception:
    """A mistake that people make, with the reason why.

    Attributes:
        key: its name in the catalogue.
        title: the mistake in a sentence.
        symptom: how one notices it.
        belief: why people believe it.
        section: the label of the book's section that explains it.
        slips: the ways to write it. The first that fits an exercise is the one that is shown.
        wild: where it was found, if that is known for sure.
        families: more ways, each with a number that is found from an answer.

    >>> from attnlib.exercises import catalogue
    >>> catalogue["scale-missing"].title
    'The scores are not divided by the root of d_k'
    >>> catalogue["scale-missing"].mend
    'scores = scores / math.sqrt(query.shape[-1])'
    """

    key: str
    title: str
    symptom: str
    belief: str
    section: str
    slips: tuple[Slip, ...]
    wild: str = ""
    families: tuple[Family, ...] = ()

    @cached_property
    def exercises(self) -> tuple[str, ...]:
        """The exercises in which it can be made."""
        return tuple(name for name in SOLUTIONS if any(each.fits(name) for each in self.slips))

    @property
    def mend(self) -> str:
        """What stands in the right solution instead."""
        return "\n".join(self.slip_in(self.exercises[0]).lines)

    def code(self, exercise: str | None = None) -> str:
        """The source of a small wrong implementation, by default of the first exercise in which it can be made."""
        exercise = exercise or self.exercises[0]
        return written(exercise, self.slip_in(exercise))

    def implementation(self, exercise: str | None = None) -> Any:
        """What :meth:`code` defines: a function or a class."""
        exercise = exercise or self.exercises[0]
        return names_of(self.code(exercise), exercise)[_changed(exercise, self.slip_in(exercise))]

    def slip_in(self, exercise: str) -> Slip:
        """The first slip that can be made in an exercise."""
        return next(each for each in self.slips if each.fits(exercise))


def _changed(exercise: str, made: Slip) -> str:
    """The name of the function in which a slip stands: a solution may have several."""
    name = exercise
    for line in SOLUTIONS[exercise].splitlines():
        if line.startswith(("def ", "class ")):
            name = line.split()[1].partition("(")[0].rstrip(":")
        if line.strip() in made.lines:
            break
    return name
