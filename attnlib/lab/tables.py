"""Tables of numbers, drawn as on paper: what a figure needs that leads from one matrix to the next."""

from collections.abc import Collection, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from attnlib.lab.figures import COLUMN, PAD, PANEL

__all__ = ["draw_table", "two_panels"]

GAP = 0.12  # units between a table and the names beside it
LINE = 0.55  # of a cell's height, where the middle of a letter stands


def two_panels(*, height: float, unit: float) -> tuple[Axes, Axes]:
    """Return two Axes without frames, side by side in a new figure that fills the column.

    Args:
        height: of each, in units.
        unit: how many inches 1 is, in both directions; y counts upwards, from ``-height`` to 0.

    >>> import matplotlib.pyplot as plt
    >>> from attnlib.lab.tables import two_panels
    >>> left, right = two_panels(height=8, unit=0.25)
    >>> left.get_xlim()[1], left.get_ylim()[0]  # 3.7 inches wide
    (np.float64(14.8), np.float64(-8.0))
    >>> plt.close(left.figure)
    """
    width = COLUMN - 2 * PAD  # the rim comes when the figure is stored
    figure = plt.figure(figsize=(width, height * unit))
    left, right = (figure.add_axes((start / width, 0, PANEL / width, 1)) for start in (0, width - PANEL))
    for ax in (left, right):
        ax.set(xlim=(0, PANEL / unit), ylim=(-height, 0))
        ax.set_axis_off()
    return left, right


def draw_table(
    ax: Axes,
    corner: tuple[float, float],
    entries: Sequence[Sequence[object]] | np.ndarray,
    title: str = "",
    *,
    width: float = 1,
    tint: str = "none",
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    filled: Collection[int] | None = None,
) -> None:
    """Draw a table on Axes whose units are as long in both directions; each cell is ``width`` by 1.

    Args:
        ax: where to draw.
        corner: the left upper corner of the table (x, y); y counts upwards.
        entries: (R, C), what stands in the cells: a float with two decimals, all else as ``str`` writes it.
        title: what stands above the table.
        width: of a cell.
        tint: the colour of the cells.
        rows: R names, left of the table. Default: none.
        columns: C names, between title and table, in small letters. Default: none.
        filled: the rows whose entries are written; the others are left empty. Default: all.

    Raises:
        ValueError: if ``entries`` has not two axes, or the names are not as many as the rows, the columns.

    >>> import matplotlib.pyplot as plt
    >>> from attnlib.lab.tables import draw_table, two_panels
    >>> ax, _ = two_panels(height=4, unit=0.25)
    >>> draw_table(ax, (4, -1), [[4, 0, 2], [1, 3, 2]], "scores", rows=["chase", "mice"], filled=[0])
    >>> [text.get_text() for text in ax.texts]
    ['scores', 'chase', 'mice', '4', '0', '2']
    >>> plt.close(ax.figure)
    """
    cells = np.array([[_written(entry) for entry in row] for row in entries])
    if cells.ndim != 2:
        raise ValueError(f"entries: expected rows and columns, got the shape {cells.shape}")
    for name, names, count in (("rows", rows, len(cells)), ("columns", columns, cells.shape[1])):
        if len(names) not in (0, count):
            raise ValueError(f"{name}: expected {count} names, or none, got {len(names)}")
    left, top = corner
    ax.text(left + width * cells.shape[1] / 2, top + (1.1 if columns else 0.2), title, ha="center", va="bottom")
    for row, name in enumerate(rows):
        ax.text(left - GAP, top - row - LINE, name, ha="right", va="center", fontsize=10)
    for column, name in enumerate(columns):
        ax.text(left + width * (column + 0.5), top + 0.2, name, ha="center", va="bottom", fontsize=9)
    for (row, column), text in np.ndenumerate(cells):
        place = (left + width * column, top - row - 1)
        ax.add_patch(Rectangle(place, width, 1, facecolor=tint, edgecolor="0.55", linewidth=0.7))
        if filled is None or row in filled:
            ax.text(place[0] + width / 2, top - row - LINE, text, ha="center", va="center", fontsize=10)


def _written(entry: object) -> str:
    text = f"{entry:.2f}" if isinstance(entry, float) else str(entry)
    return text.replace("-", "\N{MINUS SIGN}")
