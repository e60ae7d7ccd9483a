"""What a figure carries: a name, a caption, words for those who cannot see it, and numbers that are true."""

import re
from collections import Counter
from collections.abc import Iterable

from nbformat import NotebookNode

from tests.book.images import images
from tests.book.prose import Bound, Paragraph, read
from tests.book.stored import UNCHECKED, code_cells, readable, tags
from tests.book.unbound import NUMBER, unbound_in

WIDEST = 1000  # pixels: 5 inches at 160 dots an inch, with room for labels
SHORTEST_ALT = 30  # characters: less cannot say what a picture shows


def problems_of_figures(notebook: NotebookNode) -> list[str]:
    """What is missing from the figures of a notebook."""
    numbers = numbers_printed(notebook)
    return [
        f"{figure_name(cell) or 'a figure without a name'}: {problem}"
        for cell in code_cells(notebook)
        if images(cell.outputs)
        for problem in _problems_of_image(cell) + _problems_of_words(cell) + _untrue_numbers(cell, numbers)
    ]


def figure_name(cell: NotebookNode) -> str:
    return _figure(cell).get("name", "")


def repeated_names(notebooks: Iterable[NotebookNode]) -> list[str]:
    """The names that more than one figure of the book carries."""
    cells = [cell for notebook in notebooks for cell in code_cells(notebook)]
    names = Counter(figure_name(cell) for cell in cells if figure_name(cell))
    return [name for name, times in names.items() if times > 1]


def _figure(cell: NotebookNode) -> dict:
    return cell.metadata.get("mystnb", {}).get("figure", {})


def _caption(cell: NotebookNode) -> str:
    return _figure(cell).get("caption", "").strip()


def _alt(cell: NotebookNode) -> str:
    return cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()


def _problems_of_image(cell: NotebookNode) -> list[str]:
    drawn = images(cell.outputs)
    problems = [f"{image.width} pixels wide, more than {WIDEST}" for image in drawn if image.width > WIDEST]
    if len(drawn) > 1:
        problems.append(f"{len(drawn)} images in one cell, but a name and words for one")
    return problems


def _problems_of_words(cell: NotebookNode) -> list[str]:
    missing = []
    if not figure_name(cell):
        missing.append("no name: mystnb: {figure: {name: …}} in the cell's metadata")
    if not _caption(cell):
        missing.append("no caption: mystnb: {figure: {caption: …}} in the cell's metadata")
    if not _alt(cell):
        missing.append("no alternative text: mystnb: {image: {alt: …}} in the cell's metadata")
    elif len(_alt(cell)) < SHORTEST_ALT:
        missing.append(f"the alternative text says too little: {_alt(cell)!r}")
    elif _alt(cell) == _caption(cell):
        missing.append("the alternative text repeats the caption; say what the picture shows")
    return missing


# Numbers in captions and alternative texts


def _untrue_numbers(cell: NotebookNode, printed: set[str]) -> list[str]:
    problems = []
    for kind, text in (("caption", _caption(cell)), ("alternative text", _alt(cell))):
        for part in read(text):
            if isinstance(part, Paragraph):
                untrue = [number for number in unbound_in(part) if normal(number) not in printed]
                problems += [f"the {kind} says {number}, which stands in no text output" for number in untrue]
                problems += [f"<data> binds nothing in the {kind}" for piece in part.pieces if isinstance(piece, Bound)]
    return problems


def numbers_printed(notebook: NotebookNode) -> set[str]:
    """Every number in the text outputs of a notebook that the tests compare."""
    compared = (cell for cell in code_cells(notebook) if not tags(cell) & UNCHECKED)
    outputs = (output for cell in compared for output in cell.outputs if not images([output]))
    return {normal(number) for output in outputs for number in NUMBER.findall(readable(output))}


def normal(number: str) -> str:
    """One form for the same digits: the sign as on a keyboard, no separators of thousands.

    >>> normal("−12,582,912.5")
    '-12582912.5'
    """
    return re.sub(r"[,\u2009\u202f](?=\d{3}(?!\d))", "", number.replace("\N{MINUS SIGN}", "-"))
