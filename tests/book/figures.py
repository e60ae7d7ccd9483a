"""What a figure carries: the book's style, a name, a caption, words for those who cannot see it, true numbers."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources

import matplotlib
import numpy as np
from nbformat import NotebookNode

from attnlib.lab.figures import COLUMN, DIVERGING, HEAT, TINTS
from tests.book.drawings import drawings, pictures, shape_of
from tests.book.prose import Bound, Paragraph, read
from tests.book.stored import UNCHECKED, code_cells, readable, tags
from tests.book.unbound import NUMBER, unbound_in

WIDEST = COLUMN * 72  # points
PHONE = 328 * 72 / 96  # points: a screen of 360 pixels, less the page's margins
SMALLEST_LETTERS = 6.6  # points on that phone, where a panel that is wider is shown smaller
LONGEST_CAPTION = 60  # words: more is prose that no budget counts
SHORTEST_ALT = 30  # characters: less cannot say what a picture shows


def problems_of_figures(notebook: NotebookNode) -> list[str]:
    """What is missing from the figures of a notebook."""
    numbers = numbers_printed(notebook)
    return [
        f"{figure_name(cell) or 'a figure without a name'}: {problem}"
        for cell in code_cells(notebook)
        if drawings(cell.outputs) or pictures(cell.outputs) or _drawn_by_hand(cell)
        for problem in _problems_of_drawing(cell) + _problems_of_words(cell) + _untrue_numbers(cell, numbers)
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


def _problems_of_drawing(cell: NotebookNode) -> list[str]:
    drawn = drawings(cell.outputs)
    problems = [problem for drawing in drawn for problem in _problems_of_style(drawing)]
    if pictures(cell.outputs):
        problems.append("stored as pixels: call book_style() of attnlib.lab.figures before the first figure")
    if _drawn_by_hand(cell):
        problems.append("drawn in HTML, where nothing holds its style and nothing compares it: use matplotlib")
    if len(drawn) > 1:
        problems.append(f"{len(drawn)} figures in one cell, but a name and words for one")
    return problems


def _drawn_by_hand(cell: NotebookNode) -> bool:
    html = "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
    return "<svg" in html or "data:image" in html


def _problems_of_style(drawing: str) -> Iterator[str]:
    """Where a drawing leaves the book's style: too wide, letters too small on a phone, a colour of its own."""
    shape = shape_of(drawing)
    if shape.width > WIDEST + 1:
        yield f"{shape.width / 72:.1f} inches wide, more than the column's {COLUMN}"
    widest = max(shape.panels)
    letters = shape.smallest_letters * min(1, PHONE / widest)
    if letters < SMALLEST_LETTERS:
        yield (
            f"letters of {shape.smallest_letters:.1f} points shrink to {letters:.1f} on a phone, because a panel is "
            f"{widest / 72:.1f} inches wide: draw it narrower, or in panels side by side that do not touch"
        )
    for colour in shape.colours:
        if not _is_ours(colour):
            yield f"the colour {colour} is not of the book's style: its cycle C0 … C6, a grey, TINTS, HEAT or DIVERGING"
    if shape.has_background:
        yield "it has a background, which would be a white box in dark mode: call book_style()"


def _is_ours(colour: str) -> bool:
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    return np.ptp(channels) <= A_GREY or np.abs(_our_colours() - channels).max(axis=1).min() <= NEAR


A_GREY = 36  # of 255, between the largest and the smallest channel: the page's inks are a little blue
NEAR = 6


@cache
def _our_colours() -> np.ndarray:
    """All colours of the style, red, green and blue from 0 to 255."""
    style = resources.files("attnlib.lab").joinpath("book.mplstyle")
    cycle = matplotlib.rc_params_from_file(style, use_default_template=False)["axes.prop_cycle"].by_key()["color"]
    named = [matplotlib.colors.to_rgb(colour) for colour in [*cycle, *TINTS]]
    maps = [matplotlib.colormaps[name](np.linspace(0, 1, 256))[:, :3] for name in (HEAT, DIVERGING)]
    return np.round(255 * np.concatenate([named, *maps]))


def _problems_of_words(cell: NotebookNode) -> list[str]:
    missing = []
    if not figure_name(cell):
        missing.append("no name: mystnb: {figure: {name: …}} in the cell's metadata")
    if not _caption(cell):
        missing.append("no caption: mystnb: {figure: {caption: …}} in the cell's metadata")
    if not _alt(cell):
        missing.append("no alternative text: mystnb: {image: {alt: …}} in the cell's metadata")
    elif len(_caption(cell).split()) > LONGEST_CAPTION:
        missing.append(f"a caption of more than {LONGEST_CAPTION} words: say it in the text")
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
                untrue = [number.text for number in unbound_in(part) if normal(number.text) not in printed]
                problems += [f"the {kind} says {number}, which stands in no text output" for number in untrue]
                problems += [f"<data> binds nothing in the {kind}" for piece in part.pieces if isinstance(piece, Bound)]
    return problems


def numbers_printed(notebook: NotebookNode) -> set[str]:
    """Every number in the text outputs of a notebook that the tests compare."""
    compared = (cell for cell in code_cells(notebook) if not tags(cell) & UNCHECKED)
    outputs = (output for cell in compared for output in cell.outputs if not drawings([output]))
    return {normal(number) for output in outputs for number in NUMBER.findall(readable(output))}


def normal(number: str) -> str:
    """One form for the same digits: the sign as on a keyboard, no separators of thousands.

    >>> normal("−12,582,912.5")
    '-12582912.5'
    """
    return re.sub(r"[,\u2009\u202f](?=\d{3}(?!\d))", "", number.replace("\N{MINUS SIGN}", "-"))
