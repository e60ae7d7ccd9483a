"""Pictures of attention. Each function draws on an Axes and returns it; none shows it or changes a setting.

Rows are queries, columns are keys. Weights keep one scale, 0 to 1, so that two pictures can be compared. A hatched
cell is masked, which is not the same as a weight of 0. A token's name is written as it is, ``$`` and all; where there
is no room for every name, some are left out at even distances.

>>> import torch
>>> import matplotlib.pyplot as plt
>>> from attnlib.plot import attention_heatmap
>>> _, ax = plt.subplots()
>>> ax = attention_heatmap(torch.tensor([[0.9, 0.1]]), queries=["chase"], keys=["cats", "mice"], ax=ax)
>>> ax.get_ylabel(), [label.get_text() for label in ax.get_xticklabels()]
('query', ['cats', 'mice'])
>>> plt.close(ax.figure)
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor

from attnlib.checks import whole_number
from attnlib.kernels.plan import plan
from attnlib.masks import Mask

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis, XAxis
    from matplotlib.backend_bases import RendererBase
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator, MaxNLocator
except ModuleNotFoundError as missing:  # pragma: no cover - needs an environment without matplotlib
    raise ImportError("attnlib.plot needs matplotlib: pip install 'attnlib[plot]'") from missing

__all__ = ["attention_heatmap", "attention_lines", "head_grid", "plot_mask", "plot_plan", "plot_softmax"]

# White to dark blue: its lightness falls steadily, so it reads the same with any colour vision, and in print.
COLOUR_MAP = "Blues"
# Okabe and Ito's colours, told apart with every common colour blindness; one for each head of attention_lines.
HEAD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MASKED_FILL, MASKED_HATCH = "#f2f2f2", "#8a8a8a"
# How plot_plan fills runs of keys that a block of queries may not, may, or may in part attend to: without colour too.
PLAN_STYLES: dict[str, dict[str, Any]] = {
    "empty": {"facecolor": MASKED_FILL, "edgecolor": MASKED_HATCH, "hatch": "///"},
    "full": {"facecolor": "#4a90c4"},
    "partial": {"facecolor": "#d3e4f3", "edgecolor": "#08306b", "hatch": "..."},
}


def attention_heatmap(
    weights: Tensor | np.ndarray,
    queries: Sequence[str | int] | None = None,
    keys: Sequence[str | int] | None = None,
    *,
    mask: Mask | Tensor | np.ndarray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw weights as a grid of cells: a row for each query, a column for each key, darker for more.

    Args:
        weights: (L, S), or (H, L, S), whose mean over the heads is drawn and named so. Numbers from 0 to 1.
        queries: L names, for the rows. Default: their indices.
        keys: S names, for the columns. Default: their indices.
        mask: a Mask or a bool array (L, S), True where a query may attend; the other cells are hatched.
        ax: where to draw. Default: the current Axes.

    Returns:
        ``ax``. Each weight stands in its cell, with two digits, where the cells are large enough when the figure is
        drawn.

    Raises:
        ValueError: if a shape does not fit, or a weight is not in 0 … 1.
        TypeError: if ``mask`` is not bool.
    """
    weights = _weights(weights)
    heads = len(weights)
    ax = plt.gca() if ax is None else ax
    _draw_cells(ax, weights.mean(axis=0), queries, keys, mask)
    if heads > 1:
        ax.set_title(f"mean of {heads} heads")
    _write_numbers(ax, weights.mean(axis=0), mask)
    return ax


def head_grid(
    weights: Tensor | np.ndarray,
    queries: Sequence[str | int] | None = None,
    keys: Sequence[str | int] | None = None,
    *,
    mask: Mask | Tensor | np.ndarray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw each head's weights in a grid of its own, inside one Axes.

    Args:
        weights: (H, L, S), or (L, S) for one head. Numbers from 0 to 1.
        queries: L names, for the rows. Default: their indices.
        keys: S names, for the columns. Default: their indices.
        mask: a Mask or a bool array (L, S), True where a query may attend; the other cells are hatched.
        ax: where to draw. Default: the current Axes.

    Returns:
        ``ax``, whose ``child_axes`` are the heads, first to last.

    Raises:
        ValueError: if a shape does not fit, or a weight is not in 0 … 1.
        TypeError: if ``mask`` is not bool.
    """
    weights = _weights(weights)
    ax = plt.gca() if ax is None else ax
    ax.set_axis_off()
    columns = min(len(weights), 2 if len(weights) <= 4 else 4)
    rows = -(-len(weights) // columns)
    for head, head_weights in enumerate(weights):
        row, column = divmod(head, columns)
        # A part of each grid's room is left for its title and labels.
        left, bottom = (column + 0.2) / columns, 1 - (row + 0.85) / rows
        inset = ax.inset_axes((left, bottom, 0.75 / columns, 0.7 / rows))
        _draw_cells(inset, head_weights, queries, keys, mask)
        inset.set_title(f"head {head}")
        if column:
            inset.set_ylabel("")
            inset.set_yticklabels([])
        if row < rows - 1 and head + columns < len(weights):
            inset.set_xlabel("")
            inset.set_xticklabels([])
        _write_numbers(inset, head_weights, mask)
    return ax


def attention_lines(
    weights: Tensor | np.ndarray,
    queries: Sequence[str | int] | None = None,
    keys: Sequence[str | int] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw a line from each query (left) to each key (right), as thick as its weight.

    Args:
        weights: (L, S), or (H, L, S) with at most seven heads, each in a colour of its own. Numbers from 0 to 1; a
            weight of 0 has no line.
        queries: L names, for the left side. Default: their indices.
        keys: S names, for the right side. Default: their indices.
        ax: where to draw. Default: the current Axes.

    Returns:
        ``ax``.

    Raises:
        ValueError: if a shape does not fit, or a weight is not in 0 … 1.
    """
    weights = _weights(weights)
    heads, L, S = weights.shape
    queries, keys = _names("queries", queries, L), _names("keys", keys, S)
    ax = plt.gca() if ax is None else ax
    if heads > len(HEAD_COLOURS):
        raise ValueError(f"weights: expected at most {len(HEAD_COLOURS)} heads, got {heads}; head_grid draws more")
    for head, colour in zip(range(heads), HEAD_COLOURS, strict=False):
        # Heads lie beside each other, a little apart, so that one does not hide the next.
        shift = (head - (heads - 1) / 2) * 0.1
        pairs = np.argwhere(weights[head])
        lines = [[(0, query + shift), (1, key + shift)] for query, key in pairs]
        widths = 6 * weights[head][tuple(pairs.T)]
        ax.add_collection(LineCollection(lines, colors=colour, linewidths=widths, alpha=0.85))
    ax.set(xlim=(-0.5, 1.5), ylim=(max(L, S) - 0.5, -1))
    heading = -max(0.7, 1.1 * plt.rcParams["font.size"] / _room(ax.yaxis))
    ax.set_ylim(top=heading - 0.3)
    for x, names, side in ((-0.03, queries, "right"), (1.03, keys, "left")):
        texts = [ax.text(x, place, name, ha=side, va="center", parse_math=False) for place, name in enumerate(names)]
        _thin_out(texts, ax.yaxis)
    ax.text(-0.03, heading, "query", ha="right", va="center", style="italic")
    ax.text(1.03, heading, "key", ha="left", va="center", style="italic")
    ax.set_axis_off()
    if heads > 1:
        samples = [Line2D([], [], color=HEAD_COLOURS[head], linewidth=3) for head in range(heads)]
        names = [f"head {head}" for head in range(heads)]
        ax.legend(samples, names, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=min(heads, 4), frameon=False)
    return ax


def plot_mask(
    mask: Mask | Tensor | np.ndarray,
    L: int,
    S: int,
    queries: Sequence[str | int] | None = None,
    keys: Sequence[str | int] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw who may attend to whom: filled cells are open, hatched cells are masked.

    Args:
        mask: a Mask, or a bool array (L, S). One that differs between examples or heads must be cut to one of them
            first.
        L: how many queries.
        S: how many keys.
        queries: L names, for the rows. Default: their indices.
        keys: S names, for the columns. Default: their indices.
        ax: where to draw. Default: the current Axes.

    Returns:
        ``ax``.

    Raises:
        ValueError: if the mask is not (L, S), or differs between examples or heads.
        TypeError: if it is not bool, or a size is not a whole number.
    """
    for name, size in (("L", L), ("S", S)):
        whole_number(name, size)
    allowed = _allowed(mask, L, S)
    ax = plt.gca() if ax is None else ax
    _draw_cells(ax, allowed * 0.6, queries, keys, allowed)
    return ax


def plot_plan(mask: Mask | None, L: int, S: int, *, ax: Axes | None = None) -> Axes:
    """Draw what is computed block by block: the blocks of queries, each with its tiles of the keys.

    Runs of keys that are empty for all queries of a block, and skipped, are hatched. Filled ones are full: open to all
    of them. Dotted ones are partial, so that a mask decides; so are a few empty ones that are computed with their
    neighbours. A frame goes round each tile, which is one call of torch's kernel. The three kinds carry labels, for
    ``ax.legend()`` or one legend for several Axes.

    Args:
        mask: a Mask, or None. One that differs between examples or heads must be cut to one of them first.
        L: how many queries.
        S: how many keys.
        ax: where to draw. Default: the current Axes.

    Returns:
        ``ax``.

    Raises:
        ValueError: if the mask was made for other sizes, or differs between examples or heads.
        TypeError: if it is not a Mask, or a size is not a whole number.
    """
    for name, size in (("L", L), ("S", S)):
        whole_number(name, size)
    if mask is not None and not isinstance(mask, Mask):
        raise TypeError(f"mask: expected a Mask, which knows its structure, got {type(mask).__name__}")
    if mask is not None and any(size != 1 for size in mask.shape(L, S)[:-2]):
        raise ValueError(f"mask: expected one mask of shape (L, S) = {(L, S)}, got {mask.shape(L, S)}")
    ax = plt.gca() if ax is None else ax
    _fill(ax, "empty", (0, L), (0, S))
    for block in plan(mask, L, S):
        rows = block.start, block.stop
        for tile in block.tiles:
            _fill(ax, "full", rows, (tile.start, tile.stop))
            for start, stop, _ in tile.partial:
                _fill(ax, "partial", rows, (start, stop))
            ax.add_patch(_rectangle(rows, (tile.start, tile.stop), fill=False, edgecolor="black", linewidth=0.8))
    ax.set(xlim=(-0.5, S - 0.5), ylim=(L - 0.5, -0.5), aspect="equal", xlabel="key", ylabel="query")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(3, integer=True))
    return ax


def plot_softmax(
    scores: Tensor | np.ndarray, keys: Sequence[str | int] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw one query's weights as bars, softmax(scores), with each key's score written under its name.

    Args:
        scores: (S,), any numbers; −∞ for a masked key.
        keys: the tokens' names. Default: their indices.
        ax: where to draw. Default: the current Axes.

    Returns:
        ``ax``.

    Raises:
        ValueError: if ``scores`` is not one row, or holds no finite number.
    """
    scores = _array(scores)
    if scores.ndim != 1 or not np.isfinite(scores).any() or np.isnan(scores).any() or (scores == np.inf).any():
        wanted = "one row (S,) of numbers, or −∞ for a masked key, and at least one of them finite"
        raise ValueError(f"scores: expected {wanted}, got shape {scores.shape}")
    keys = _names("keys", keys, len(scores))
    powers = np.exp(scores - scores.max())
    weights = powers / powers.sum()
    ax = plt.gca() if ax is None else ax
    ax.bar(range(len(scores)), weights, color=HEAD_COLOURS[0])
    _thin_out([ax.text(i, weight + 0.02, f"{weight:.2f}", ha="center") for i, weight in enumerate(weights)], ax.xaxis)
    signed = [f"{score:.3g}".replace("-", "−") for score in scores]
    names = [f"{key}\n{score}" for key, score in zip(keys, signed, strict=True)]
    _name_places(ax.xaxis, names, 0)
    if len(ax.get_xticks()) < len(names):
        _name_places(ax.xaxis, names, 90)
    ax.set(ylim=(0, 1.1), yticks=[0, 0.5, 1], ylabel="weight", xlabel="key and its score")
    return ax


# ---------------------------------------------------------------------------------------------------------------------


def _array(x: Tensor | np.ndarray) -> np.ndarray:
    return x.detach().cpu().double().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=float)


def _weights(weights: Tensor | np.ndarray) -> np.ndarray:
    """Return weights as (H, L, S)."""
    weights = _array(weights)
    if weights.ndim not in (2, 3) or 0 in weights.shape:
        hint = "; choose one example of the batch: weights[0]" if weights.ndim == 4 else ""
        raise ValueError(f"weights: expected shape (L, S) or (H, L, S), got {weights.shape}{hint}")
    # Weights of half precision may exceed 1 by a rounding.
    if not ((weights >= 0) & (weights <= 1.01)).all():
        raise ValueError(f"weights: expected numbers from 0 to 1, got {weights.min():.3g} to {weights.max():.3g}")
    return weights if weights.ndim == 3 else weights[None]


def _names(argument: str, names: Sequence[str | int] | Tensor | np.ndarray | None, count: int) -> list[str]:
    given = range(count) if names is None else names.tolist() if isinstance(names, Tensor) else names
    texts = list(map(str, given))
    if len(texts) != count:
        raise ValueError(f"{argument}: expected {count} names, got {len(texts)}")
    return texts


def _allowed(mask: Mask | Tensor | np.ndarray | None, L: int, S: int) -> np.ndarray:
    """Return the mask as a bool array (L, S)."""
    if mask is None:
        return np.ones((L, S), dtype=bool)
    dense = mask.dense(L, S, "cpu") if isinstance(mask, Mask) else mask
    dense = dense.cpu().numpy() if isinstance(dense, Tensor) else np.asarray(dense)
    if dense.dtype != bool:
        raise TypeError(f"mask: expected bool (True means may attend), got {dense.dtype}")
    while dense.ndim > 2 and len(dense) == 1:
        dense = dense[0]
    # A Mask may leave an axis at 1 where all rows are alike.
    if dense.ndim != 2 or any(size not in (1, wanted) for size, wanted in zip(dense.shape, (L, S), strict=True)):
        raise ValueError(f"mask: expected one mask of shape (L, S) = {(L, S)}, got {dense.shape}")
    return np.broadcast_to(dense, (L, S))


def _draw_cells(
    ax: Axes,
    cells: np.ndarray,
    queries: Sequence[str | int] | None,
    keys: Sequence[str | int] | None,
    mask: Mask | Tensor | np.ndarray | None,
) -> None:
    L, S = cells.shape
    queries, keys = _names("queries", queries, L), _names("keys", keys, S)
    allowed = _allowed(mask, L, S)
    ax.imshow(np.where(allowed, cells, np.nan), cmap=COLOUR_MAP, vmin=0, vmax=1, aspect="equal")
    for row, first, last in _runs(~allowed):
        ax.add_patch(_rectangle((row, row + 1), (first, last + 1), linewidth=0, **PLAN_STYLES["empty"]))
    width, height = _cell_points(ax, L, S)
    if min(width, height) >= 6:  # closer together, the lines would hide the cells
        ax.set_xticks(np.arange(S + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(L + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="#bbbbbb", linewidth=0.6)
    ax.tick_params(which="both", length=0)
    _name_cells(ax.xaxis, keys, width)
    _name_cells(ax.yaxis, queries, height)
    ax.set(xlabel="key", ylabel="query")


def _runs(cells: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Find the runs of true cells: (row, first column, last column). A patch for each cell would take seconds."""
    for row, line in enumerate(cells):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]])))
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            yield row, int(first), int(end) - 1


def _fill(ax: Axes, kind: str, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Fill a rectangle of cells in the style of its kind; the first of each kind is labelled for a legend."""
    known = ax.get_legend_handles_labels()[1]
    label = None if kind in known else kind
    ax.add_patch(_rectangle(rows, columns, linewidth=0, label=label, **PLAN_STYLES[kind]))


def _rectangle(rows: tuple[int, int], columns: tuple[int, int], **style: Any) -> Rectangle:
    """Return the rectangle round the cells of the rows and the columns, each (start, stop)."""
    return Rectangle((columns[0] - 0.5, rows[0] - 0.5), columns[1] - columns[0], rows[1] - rows[0], **style)


def _cell_points(ax: Axes, L: int, S: int) -> tuple[float, float]:
    """Return the width and height of a cell in points, 1/72 inch, as type is measured."""
    ax.apply_aspect()  # without it, the cells' size is not known before the figure is drawn
    box = ax.get_window_extent()
    return box.width / S * 72 / ax.figure.dpi, box.height / L * 72 / ax.figure.dpi


def _room(axis: Axis) -> float:
    """Return the points from one place on the axis to the next, as they are now: a layout may change them."""
    box, (first, last) = axis.axes.get_window_extent(), axis.get_view_interval()
    return abs((box.width if isinstance(axis, XAxis) else box.height) / (last - first)) * 72 / axis.axes.figure.dpi


def _name_cells(axis: Axis, names: list[str], room: float) -> None:
    """Write the names beside their cells: upright if they are too long for it, and only some if they are too many."""
    size, along = _type_size(axis), isinstance(axis, XAxis)
    if names == _names("names", None, len(names)):  # indices are never turned, and stand a little apart
        _name_places(axis, names, 0, 1.3 * (len(names[-1]) * 0.62 if along else 1) * size)
    else:
        _name_places(axis, names, 90 if along and max(map(len, names)) * 0.62 * size > room else 0)


def _name_places(axis: Axis, names: list[str], rotation: float, size: float | None = None) -> None:
    """Write the names, or only some of them where there is less room than ``size`` points.

    By default ``size`` is that of the largest name. What stands between two dollar signs is not mathematics.
    """
    axis.set_ticks(range(len(names)), names, rotation=rotation, parse_math=False)
    size = _largest(axis.get_ticklabels(), not isinstance(axis, XAxis)) if size is None else size
    axis.set_major_locator(_Places(len(names), size))


class _Places(FixedLocator):
    """Places 0, 1, … at even distances of at least ``size`` points, whenever the figure is drawn."""

    def __init__(self, count: int, size: float):
        super().__init__(range(count))
        self.count, self.size = count, size

    def __call__(self) -> Any:  # an array, as of a FixedLocator
        return np.arange(self.count)[:: _step(self.size, cast(Axis, self.axis))]


def _step(size: float, axis: Axis) -> int:
    """Return how many places on the axis ``size`` points take."""
    return max(1, math.ceil(size / max(_room(axis), 1e-3)))  # a layout may leave an Axes no room at all


def _largest(texts: Sequence[Text], upwards: bool = False) -> float:
    """Return the width of the widest of the texts in points, or the height of the highest."""
    boxes = [text.get_window_extent() for text in texts]
    return max(box.height if upwards else box.width for box in boxes) * 72 / texts[0].figure.dpi


def _thin_out(texts: Sequence[Text], axis: Axis) -> None:
    """Remove some of the texts at places on the axis, where they would lie on one another."""
    step = _step(_largest(texts, not isinstance(axis, XAxis)), axis)
    for place, text in enumerate(texts):
        if place % step:
            text.remove()


def _type_size(axis: Axis) -> float:
    return float(axis.get_major_ticks()[0].label1.get_fontsize())


class _Number(Text):
    """A weight in its cell, shown where "0.00" fits there when the figure is drawn."""

    def draw(self, renderer: RendererBase) -> None:
        # Four characters are about 2.4 times as wide as the type is high.
        if self.axes is not None and _room(self.axes.xaxis) >= 2.4 * float(self.get_fontsize()):
            super().draw(renderer)


def _write_numbers(ax: Axes, weights: np.ndarray, mask: Mask | Tensor | np.ndarray | None) -> None:
    """Write each weight in its cell, if it may fit there."""
    size, (L, S) = _type_size(ax.xaxis), weights.shape
    if ax.figure.get_window_extent().width / S * 72 / ax.figure.dpi < 2.4 * size:
        return  # in no layout
    allowed = _allowed(mask, L, S)
    for row, column in zip(*np.nonzero(allowed), strict=True):
        weight = weights[row, column]
        ink = "white" if weight > 0.72 else "black"  # what stands out more on that blue
        number = _Number(column, row, f"{weight:.2f}", ha="center", va="center", color=ink, fontsize=size)
        number.set(clip_on=False, in_layout=False)  # one that is not shown must take no room
        ax.add_artist(number)
