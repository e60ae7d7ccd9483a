"""What all exercises share: the probes that an answer is run on, and the ways in which it may want its arguments.

An answer may be written for tensors, for arrays or for nested lists; for one example, for a batch, or for any axes in
front. A :class:`Way` is one of these. The solution is run in the same way as the answer, on tensors of the same
precision, so that what overflows in one overflows in the other.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch

Array = np.ndarray
Kind = Literal["float32 tensors", "arrays", "float64 tensors", "lists"]
KINDS: tuple[Kind, ...] = ("float32 tensors", "arrays", "float64 tensors", "lists")


# The layout of a way in which a solution takes all steps at once.
AT_ONCE = "at once"


class NotAsAgreed(Exception):
    """An answer that cannot be called, or that returned what the contract does not allow; its text is a sentence."""


@dataclass(frozen=True)
class Way:
    """How the arguments come: as what, and with which axes (a name that the contract knows)."""

    kind: Kind
    layout: str = ""


@dataclass(frozen=True)
class Probe:
    """An input that tells mistakes apart.

    ``hard`` probes show what an ordinary input does not (a row without a key, scores that overflow): a mistake is known
    by the others first. A ``soft`` one refuses nothing: what goes wrong on it is told beside the verdict, in the words
    of ``remark`` if it has some.
    """

    name: str
    given: Mapping[str, Any]
    hard: bool = False
    soft: bool = False
    remark: str = ""


class Given:
    """The arguments of one call, made in a way; it knows afterwards whether the call changed them."""

    def __init__(self, kind: Kind, grad: bool = False):
        self.kind, self.grad = kind, grad
        self.made: list[tuple[Any, Array]] = []

    def __call__(self, array: Array) -> Any:
        if self.kind == "arrays":
            made: Any = array.copy()
        elif self.kind == "lists":
            made = array.tolist()
        else:
            dtype = torch.float32 if self.kind == "float32 tensors" else torch.float64
            made = torch.tensor(array)
            made = made.to(dtype) if made.is_floating_point() else made
            if self.grad and made.is_floating_point():
                made.requires_grad_()
        self.made.append((made, np.array(self._plain(made))))
        return made

    def _plain(self, made: Any) -> Array:
        return made.detach().numpy() if isinstance(made, torch.Tensor) else np.asarray(made)

    @property
    def changed(self) -> bool:
        return any(not _same(self._plain(made), before) for made, before in self.made)


def _same(now: Array, before: Array) -> bool:
    return now.shape == before.shape and np.array_equal(now, before, equal_nan=now.dtype.kind == "f")


class Contract(ABC):
    """An exercise: how its answers are called, and on which probes."""

    name: str
    layouts: tuple[str, ...] = ("",)
    kinds: tuple[Kind, ...] = KINDS
    probes: tuple[Probe, ...]
    sign = "f(x)"  # how an answer is called, for a message

    @abstractmethod
    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        """Call an answer, or the solution, with a probe's arguments; return what it returned."""

    @abstractmethod
    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        """A probe's arguments, by name, for a message."""

    def solution(self, names: Mapping[str, Any], way: Way) -> Any:
        """What the solution's source defined that is called in this way."""
        return names[self.name]

    def solved(self, way: Way) -> Way:
        """The way in which the solution takes the same numbers: as tensors of the same precision."""
        return Way("float32 tensors" if way.kind == "float32 tensors" else "float64 tensors", way.layout)

    def forms(self, way: Way) -> tuple[Way, ...]:
        """The solutions in which mistakes are looked for: an answer may be made in another way than the first one."""
        return (self.solved(way),)

    def function(self, way: Way) -> str:
        """The function of the solution in which all of a slip has to stand; an empty text if there is one only."""
        return ""

    def untold(self, way: Way) -> frozenset[str]:
        """The mistakes that cannot be made in a way, because it does not ask for what they get wrong."""
        return frozenset()

    def asked(self, way: Way) -> bool:
        """Whether an answer has to be right in a way; in others a mistake is told beside the verdict."""
        return True

    def ways(self, answer: Any) -> tuple[Way, ...]:
        """The ways to call an answer, the likeliest first."""
        return tuple(Way(kind, layout) for kind in in_order(self.kinds, answer) for layout in self.layouts)

    def told(self, probe: Probe) -> str:
        """What is compared on a probe, if it is not the output."""
        return "gradients, one argument after the other" if "gradient" in probe.given else ""

    def spoken(self, probe: Probe, values: Array) -> str | None:
        """What the numbers of a probe mean, where they are no output."""
        return None

    def suits(self, way: Way, probe: Probe) -> bool:
        """Whether a probe can be given in a way."""
        return "gradient" not in probe.given or way.kind in ("float32 tensors", "float64 tensors")


def made(answer: Any, *arguments: Any) -> Any:
    """An object of a class, ready to be called; anything else as it is."""
    answer = answer(*arguments) if isinstance(answer, type) else answer
    if isinstance(answer, torch.nn.Module):
        return answer.eval()
    return answer if callable(answer) else getattr(answer, "forward", answer)


def parameters(answer: Any) -> list[inspect.Parameter]:
    """What an answer takes; an empty list if that cannot be known."""
    function = answer.forward if isinstance(answer, torch.nn.Module) else answer
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def in_order(kinds: tuple[Kind, ...], answer: Any) -> tuple[Kind, ...]:
    """The kinds with arrays in front if an answer's code names NumPy and not torch."""
    named = _modules(answer)
    if "numpy" in named and "torch" not in named and "arrays" in kinds:
        return ("arrays", *(kind for kind in kinds if kind != "arrays"))
    return kinds


def _modules(answer: Any) -> set[str]:
    """The packages that a function or the methods of a class name."""
    parts = [answer, *vars(answer if isinstance(answer, type) else type(answer)).values()]
    found = set()
    for part in parts:
        code, outside = getattr(part, "__code__", None), getattr(part, "__globals__", {})
        for name in getattr(code, "co_names", ()):
            if isinstance(module := outside.get(name), ModuleType):
                found.add(module.__name__.partition(".")[0])
    return found


def with_mask(answer: Callable, arguments: list[Any], mask: Any) -> Any:
    """Call an answer with a mask, by name if it has such a name; without one if it takes none."""
    takes = parameters(answer)
    named = [p.name for p in takes[len(arguments) :] if "mask" in p.name.lower()]
    if named:
        return answer(*arguments, **{named[0]: mask})
    positional = [p for p in takes if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    if takes and len(positional) <= len(arguments) and not any(p.kind == p.VAR_POSITIONAL for p in takes):
        return answer(*arguments)  # it knows of no mask
    return answer(*arguments, mask)


@dataclass
class Draw:
    """Numbers that look random, and are the same each time."""

    seed: int
    generator: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> Array:
        """Numbers with one decimal, so that they can be shown as they are."""
        return np.round(self.generator.normal(size=shape) * scale, 1)

    def open(self, *shape: int) -> Array:
        """A mask that leaves each row something, and closes something in each."""
        allowed = self.generator.random(shape) < 0.6
        column = np.arange(shape[-1])
        allowed |= column == self.generator.integers(shape[-1], size=(*shape[:-1], 1))
        row = allowed.all(-1, keepdims=True)
        return allowed & ~(row & (column == self.generator.integers(shape[-1], size=(*shape[:-1], 1))))
