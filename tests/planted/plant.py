"""What a plant is: lines of attnlib, and the mistake that is written in their place."""

import gc
from collections.abc import Iterable, Iterator
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

Swaps = list[tuple[FunctionType, CodeType]]  # functions of attnlib, each with the code of the mistake
ROOT = Path(__file__).resolve().parent.parent.parent


class Plant(NamedTuple):
    """Texts in a module of attnlib, each of which stands there once, and what is written in their place.

    Only the bodies of functions change: what is imported already gets the wrong ones without being imported again.
    """

    module: str  # as in "kernels/explicit"
    edits: dict[str, str]

    @property
    def path(self) -> Path:
        return ROOT / "attnlib" / f"{self.module}.py"

    def wrong(self) -> str:
        """Return the source of the module with the mistake."""
        source = self.path.read_text("utf-8")
        for right, wrong in self.edits.items():
            if source.count(right) != 1:
                raise ValueError(f"attnlib/{self.module}.py: expected once, got {source.count(right)} times: {right}")
            source = source.replace(right, wrong)
        return source

    def changed(self) -> dict[tuple[str, str, int], CodeType]:
        """Return the wrong code of each function that changes, by file, name and first line of the right one."""
        path = str(self.path)
        sources = self.path.read_text("utf-8"), self.wrong()
        both = zip(*(functions(compile(source, path, "exec")) for source in sources), strict=True)
        return {place(right): wrong for right, wrong in both if instructions(right) != instructions(wrong)}

    def swaps(self, alive: Iterable[FunctionType]) -> Swaps:
        """Return which of these functions change, each with its wrong code."""
        wrong = self.changed()
        found = [(each, wrong[place(each.__code__)]) for each in alive if place(each.__code__) in wrong]
        if not found:
            raise ValueError(f"attnlib/{self.module}.py: expected a change in a function, got none: {self.edits}")
        return found


def put_in(swaps: Swaps) -> None:
    """Give attnlib a mistake, in this process, for good."""
    for function, wrong in swaps:
        function.__code__ = wrong


def living() -> list[FunctionType]:
    """Return the functions of attnlib that are in memory."""
    folder = str(ROOT / "attnlib")
    gc.unfreeze()  # what was frozen, as by conftest.py after the tests were collected, is not among the objects
    return [
        each for each in gc.get_objects() if type(each) is FunctionType and each.__code__.co_filename.startswith(folder)
    ]


def functions(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of the functions of a module and of its classes, in their order."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            if each.co_flags & CO_OPTIMIZED:
                yield each
            else:  # a class
                yield from functions(each)


def place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def instructions(code: CodeType) -> tuple:
    """Return what a function does, wherever it stands in its file."""
    constants = tuple(instructions(each) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
