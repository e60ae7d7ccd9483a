"""How the book's figures look and how they are stored: one style, as SVG, on no background.

A figure is drawn at the size at which it stands on the page, so that its letters are as large as the text around it.
Parts that stand side by side are *panels*: the site lays them out in a row where there is room, and below each other on
a phone. So each panel has its own labels, and is at most ``PANEL`` inches wide.
"""

import io
import itertools
from collections.abc import Iterator

import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

try:
    from IPython import get_ipython
    from matplotlib_inline import backend_inline as _configures_ipython  # noqa: F401 - else it would, later, undo ours
except ModuleNotFoundError as missing:
    raise ImportError("attnlib.lab.figures needs IPython: pip install 'attnlib[lab]'") from missing

__all__ = ["COLUMN", "DIVERGING", "HEAT", "PANEL", "TINTS", "book_style", "to_svg"]

COLUMN = 7.6  # inches: the width of the page's column on a desktop
PANEL = 3.7  # inches: two of them fill the column, one of them a phone
PAD = 0.03  # inches round what is drawn
SLIVER = 1.0  # inches: what is narrower belongs to its neighbour, as a colour bar or the name of an axis does
# Fills that black letters are read on, one for each of the first three colours of the style.
TINTS = ("#bfdcf0", "#f9dcc4", "#c4e8d8")
# From nothing to much; from less than nothing to more.
HEAT, DIVERGING = "Blues", "RdBu"


def book_style() -> None:
    """Draw with the book's style from here on; in a notebook, show figures as SVG.

    >>> import matplotlib.pyplot as plt
    >>> from attnlib.lab.figures import book_style
    >>> book_style()
    >>> plt.rcParams["figure.facecolor"]
    'none'
    """
    plt.style.use("attnlib.lab.book")
    shell = get_ipython()
    if shell is not None:
        formatters = shell.display_formatter.formatters
        formatters["image/png"].pop(Figure, None)
        formatters["image/svg+xml"].for_type(Figure, to_svg)


def to_svg(figure: Figure) -> str:
    """Draw a figure as SVG, the same to the byte in each run; name its panels, if it has more than one.

    Each panel is a ``<view id="panel-1" viewBox="…">``: the part of the picture that it fills.
    """
    figure.draw_without_rendering()  # now everything has its place,
    figure.set_layout_engine("none")  # and keeps it: a second layout would move what is measured here
    room = figure.get_tightbbox().padded(PAD)
    file = io.StringIO()
    figure.savefig(file, format="svg", bbox_inches=room, metadata={"Date": None, "Creator": None})
    start, end = file.getvalue().rstrip().removesuffix("</svg>"), "</svg>\n"
    return start + "".join(_views(figure, room)) + end


def _views(figure: Figure, room: Bbox) -> Iterator[str]:
    panels = panels_of(figure)
    if len(panels) < 2:
        return
    # Neighbours meet in the middle of the gap between them.
    edges = [room.x0, *((left[1] + right[0]) / 2 for left, right in itertools.pairwise(panels)), room.x1]
    height = room.height * 72
    for number, (left, right) in enumerate(itertools.pairwise(edges), start=1):
        box = f"{(left - room.x0) * 72:.2f} 0 {(right - left) * 72:.2f} {height:.2f}"
        yield f' <view id="panel-{number}" viewBox="{box}"/>\n'


def panels_of(figure: Figure) -> list[tuple[float, float]]:
    """Return the parts of a figure that stand side by side, each from its left to its right edge in inches.

    What lies above or below each other is one panel, and so is a plot with its colour bar. A title or a legend of the
    whole figure keeps everything together.
    """
    axes = [ax for ax in figure.axes if ax.get_visible()]
    whole = [*figure.legends, *figure.lines, *figure.patches, *figure.artists, *figure.texts]
    whole += [artist for part in figure.subfigs for artist in (*part.legends, *part.texts)]
    spans = sorted(span for artist in [*axes, *whole] if (span := _span(figure, artist)))
    panels: list[tuple[float, float]] = []
    for left, right, belongs in spans:
        if panels and (left < panels[-1][1] or belongs or panels[-1][1] - panels[-1][0] < SLIVER):
            panels[-1] = (panels[-1][0], max(panels[-1][1], right))
        else:
            panels.append((left, right))
    return panels


def _span(figure: Figure, artist: Artist) -> tuple[float, float, bool] | None:
    """Return from where to where an artist reaches, and whether it belongs to the one on its left; None: nowhere."""
    box = artist.get_tightbbox()
    if box is None or not box.width or (hasattr(artist, "get_text") and not artist.get_text()):
        return None
    left, right = box.x0 / figure.dpi, box.x1 / figure.dpi
    return left, right, artist.get_label() == "<colorbar>" or right - left < SLIVER
