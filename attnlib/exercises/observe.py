"""What an answer does on a probe, written down so that it can be sent, compared and shown."""

from __future__ import annotations

import contextlib
import io
import linecache
import random
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attnlib.exercises.contracts.base import Array, Contract, Given, Kind, NotAsAgreed, Probe, Way

# What float32 rounds away, and no mistake is small enough to hide in.
TOLERANCE = 5e-4

_HERE = str(Path(__file__).parent)


@dataclass(frozen=True)
class Outcome:
    """What came of one call.

    Attributes:
        values: the numbers that were returned, or None.
        kind: what was returned: tensor, array, list, or the name of another type.
        fault: why there are no numbers: a sentence without its subject ("raised ValueError: …").
        changed: whether an argument was changed.
        printed: whether something was printed.
        line: the line of the answer that raised.
        error: what it raised: the type, and the words of the message.
    """

    values: Array | None
    kind: str = ""
    fault: str = ""
    changed: bool = False
    printed: bool = False
    line: int = 0
    error: str = ""


def observe(contract: Contract, answer: Any, way: Way, probe: Probe, seed: int = 0) -> Outcome:
    """Call an answer with a probe's arguments. Whatever it raises is part of the outcome."""
    give = Given(way.kind, grad="gradient" in probe.given)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  what an answer may draw from
    torch.default_generator.manual_seed(seed)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
            returned = contract.call(answer, way, probe, give)
    except NotAsAgreed as error:
        return Outcome(None, fault=str(error), changed=give.changed, printed=bool(printed.getvalue()))
    except MemoryError:
        return Outcome(None, fault="ran out of memory")
    except BaseException as error:
        line, told = _told(error)
        return Outcome(None, "", told, give.changed, bool(printed.getvalue()), line, _words(error))
    changed, said = give.changed, bool(printed.getvalue())
    try:
        values, kind = numbers(returned), kind_of(returned)
    except (TypeError, ValueError) as error:
        return Outcome(None, type(returned).__name__, str(error), changed, said)
    return Outcome(values, kind, "", changed, said)


def _told(error: BaseException) -> tuple[int, str]:
    """An error as a line number and a sentence: its type, its first line, and the line of the answer that raised it."""
    # Deepest in the answer's own code, not in a library that it called.
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(file, line) for file, line in places if "site-packages" not in file and not file.startswith(_HERE)]
    file, line = own[-1] if own else ("", 0)
    code = linecache.getline(file, line).strip()
    text = str(error).strip().splitlines()
    said = f": {text[0][:200]}" if text else ""
    return line, f"raised {type(error).__name__}{said}" + (f" (line {line}: {code})" if code else "")


def _words(error: BaseException) -> str:
    """An error without its numbers: what two answers have in common that fail in the same way."""
    return f"{type(error).__name__}: {' '.join(re.sub('[0-9]+', '', str(error)).split())[:200]}"


def kind_of(returned: Any) -> str:
    """What was returned, in a word."""
    if isinstance(returned, torch.Tensor):
        return "tensor"
    if isinstance(returned, np.ndarray):
        return "array"
    return type(returned).__name__


def same_kind(way: Way, kind: str) -> bool:
    """Whether the reply has the kind of what came."""
    wanted: dict[Kind, str] = {"float32 tensors": "tensor", "float64 tensors": "tensor", "arrays": "array"}
    return kind == wanted.get(way.kind, "list")


def numbers(returned: Any) -> Array:
    """What was returned as an array of float64 or of bools.

    Raises:
        TypeError: if it is not made of numbers; the text goes on after "it".
        ValueError: if its rows differ in length.
    """
    if returned is None:
        raise TypeError("returned None")
    if isinstance(returned, torch.Tensor):
        returned = returned.detach().cpu()
        array = returned.to(torch.float64 if returned.is_floating_point() else returned.dtype).numpy()
    elif isinstance(returned, np.ndarray):
        array = returned
    elif isinstance(returned, list):
        array = _of_lists(returned)
    elif isinstance(returned, tuple):
        raise TypeError(f"returned a tuple of {len(returned)}, where one {_WANTED} was expected")
    elif isinstance(returned, int | float | np.number | np.bool_):
        array = np.asarray(returned)
    else:
        raise TypeError(f"returned a {type(returned).__name__}, where an {_WANTED} was expected")
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "fiu":
        raise TypeError(f"returned an array of {array.dtype}, where numbers were expected")
    return array.astype(np.float64)


_WANTED = "array, tensor or nested list"


def _of_lists(rows: list) -> Array:
    parts = [numbers(row) for row in rows]
    if len({part.shape for part in parts}) > 1:
        raise ValueError("returned rows of different lengths")
    return np.array(parts)


def agree(ours: Outcome, theirs: Outcome) -> bool:
    """Whether two outcomes are the same to float32's tolerance. Two that gave no numbers are."""
    if ours.values is None or theirs.values is None:
        return ours.values is None and theirs.values is None
    return differs(ours.values, theirs.values) is None


def distance(right: Array, got: Array) -> float:
    """How far numbers of one shape are apart, in tolerances: they agree up to 1."""
    with np.errstate(all="ignore"):
        return float(np.max(np.abs(right - got) / np.maximum(1, np.abs(right)), initial=0) / TOLERANCE)


def differs(right: Array, got: Array) -> tuple[int, ...] | None:
    """The first place where two arrays differ, () if their shapes or types do, None if nowhere."""
    if right.shape != got.shape or (right.dtype.kind == "b") != (got.dtype.kind == "b"):
        return ()
    if right.dtype.kind == "b":
        wrong = right != got
    else:
        with np.errstate(all="ignore"):
            near = np.isfinite(right) & (np.abs(right - got) <= TOLERANCE * np.maximum(1, np.abs(right)))
        wrong = ~(near | (right == got) | (np.isnan(right) & np.isnan(got)))
    return tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.any() else None
