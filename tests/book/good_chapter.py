"""The chapter that passes every guard, and that the tests spoil in every way they can think of."""

from pathlib import Path

from nbformat import NotebookNode

from tests.book.stored import code_cells as code_cells

GOOD_TEXT = Path(__file__).with_suffix(".md")

# Its code cells, by what they do.
COMPUTE, LATEX, FIGURE, RAISES = range(4)


def replace_in_prose(notebook: NotebookNode, old: str, new: str) -> None:
    """Edit the prose of a notebook in one place."""
    places = [cell for cell in notebook.cells if cell.cell_type == "markdown" and old in cell.source]
    assert places, f"the good chapter no longer says {old!r}"
    places[0].source = places[0].source.replace(old, new, 1)
