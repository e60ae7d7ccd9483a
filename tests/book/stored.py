"""What a stored notebook must look like before it is worth running again."""

import re
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from tests.book.drawings import drawings
from tests.book.prose import text_of_html
from tools.execute import read_text

# nbval's tags that leave a cell unchecked, and its comments, which readers would see.
UNCHECKED = {"nbval-skip", "nbval-ignore-output"}
COMMENT = re.compile(r"^\s*#\s*(?:NBVAL_\w+|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", re.MULTILINE)

ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}", re.IGNORECASE)
# More digits than these differ between processors, unless exact arithmetic gave them and the cell's tag says so.
EXACT = "exact-digits"
MANY_DECIMALS = re.compile(r"\d\.\d{5,}")


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def problems_of_counts(notebook: NotebookNode) -> list[str]:
    """A notebook that ran once, from top to bottom, counts 1..n; nbval does not check a cell without a count."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts == list(range(1, len(counts) + 1)):
        return []
    return [f"the cells did not run once each, in order: the counts are {counts}; run `make execute`"]


def problems_of_outputs(notebook: NotebookNode) -> list[str]:
    """Errors, warnings, and what the next machine would print differently."""
    problems = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            problems += [f"{problem}, in the cell\n{_indent(cell.source)}" for problem in _problems_of(output, cell)]
    return problems


def _problems_of(output: NotebookNode, cell: NotebookNode) -> Iterator[str]:
    if output.output_type == "error" and "raises-exception" not in tags(cell):
        yield f"a stored {output.ename} without the tag raises-exception"
    if output.get("name") == "stderr":
        yield "stored stderr: mend the warning"
    text = readable(output)
    for found in ADDRESS.findall(text):
        yield f"a memory address ({found}), different in each run"
    for found in [] if EXACT in tags(cell) else MANY_DECIMALS.findall(text):
        yield f"more than 4 decimals ({found}…), which differ between processors (or tag the cell {EXACT})"


def problems_of_tags(notebook: NotebookNode) -> list[str]:
    """Ways to leave a cell unchecked that a chapter may not use."""
    problems = []
    cells = code_cells(notebook)
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        asserting = cell.source + (after.source if after else "")
        if "nbval-ignore-output" in tags(cell) and "assert" not in asserting:
            problems.append(f"neither this cell nor the next asserts what it prints:\n{_indent(cell.source)}")
        if "nbval-skip" in tags(cell):
            problems.append(f"a cell that is never run:\n{_indent(cell.source)}")
        if COMMENT.search(cell.source):
            problems.append(f"write a tag in the cell's metadata, not a comment:\n{_indent(cell.source)}")
        if tags(cell) & UNCHECKED and drawings(cell.outputs):
            problems.append(f"a figure that no test compares:\n{_indent(cell.source)}")
    return problems


def problems_of_twin(text: Path, notebook: NotebookNode) -> list[str]:
    """Where a notebook does not say what its text says."""
    written, stored = (_without_outputs(twin) for twin in (read_text(text), notebook))
    if written == stored:
        return []
    where = _first_difference(written, stored)
    return [f"text/{text.name} and its notebook differ{where}; edit the text, then run `make execute`"]


def _without_outputs(notebook: NotebookNode) -> dict:
    cells = [{key: cell.get(key) for key in ("cell_type", "id", "metadata", "source")} for cell in notebook.cells]
    return {"metadata": notebook.metadata, "cells": cells}


def _first_difference(written: dict, stored: dict) -> str:
    if len(written["cells"]) != len(stored["cells"]):
        return f": {len(written['cells'])} cells in the text, {len(stored['cells'])} in the notebook"
    for number, (left, right) in enumerate(zip(written["cells"], stored["cells"], strict=True)):
        for key in ("cell_type", "source", "metadata", "id"):
            if left[key] != right[key]:
                return f" in the {key} of cell {number}:\n{_indent(left[key])}\n  against\n{_indent(right[key])}\n"
    return " in the notebook's metadata"


# Text of outputs


def readable(output: NotebookNode) -> str:
    """All that a reader can read in an output, figures apart."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    data = dict(output.data)
    data["text/html"] = text_of_html(data.get("text/html", ""))
    return "\n".join(data.get(kind, "") for kind in ("text/plain", "text/html", "text/markdown", "text/latex"))


def _indent(text: object) -> str:
    return "\n".join(f"    {line}" for line in str(text).splitlines())
