"""Figure 1 of *Attention Is All You Need* as a map: the section of each part, and where numbers are dropped out."""

from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from attnlib.lab.figures import TINTS

__all__ = ["DECODER", "ENCODER", "Part", "draw_map"]


class Part(NamedTuple):
    """A part of the model: its name, the section of the paper (Vaswani et al., 2017) that tells of it, its colour."""

    name: str
    section: str
    colour: str


GREY, (BLUE, ORANGE, GREEN) = "#eeeeee", TINTS
NORM, NET = Part("add & norm", "3.1", GREEN), Part("feed-\nforward", "3.3", ORANGE)
POSITIONS = Part("+ positions", "3.5", GREY)
OWN, CAUSAL, CROSS = (Part(f"{kind}\nattention", "3.2", BLUE) for kind in ("self-", "causal", "cross-"))
ENCODER = (Part("source\ntokens", "3.4", GREY), POSITIONS, OWN, NORM, NET, NORM)
DECODER = (
    Part("target\ntokens", "3.4", GREY),
    POSITIONS,
    *(CAUSAL, NORM, CROSS, NORM, NET, NORM),
    Part("logits,\nsoftmax", "3.4", GREY),
)
REPEATED = {OWN, CAUSAL, CROSS, NORM, NET}
DROPPED_OUT = {POSITIONS, OWN, CAUSAL, CROSS, NET}  # section 5.4
DROPPED_WITHIN = {OWN, CAUSAL, CROSS, NET}  # what torch's layers drop out as well: weights, hidden units

WIDTH, HEIGHT = 1.4, 0.76  # of a box, in units; a row is 1 high
STRONG = "#D55E00"


def draw_map() -> None:
    """Draw encoder and decoder, read upwards, in a new figure as wide as a phone.

    A frame holds what is repeated. A filled diamond above a box stands where section 5.4 drops out what the box gives,
    an empty one on a box where ``torch.nn``'s layers drop out numbers within it.

    >>> import matplotlib.pyplot as plt
    >>> from attnlib.lab.paper import draw_map
    >>> draw_map()
    >>> [text.get_text() for text in plt.gca().texts][:5]
    ['encoder', 'source\\ntokens', '3.4', '+ positions', '3.5']
    >>> plt.close()
    """
    ax = plt.figure(figsize=(3.4, 4.9)).add_axes((0, 0, 1, 1))  # so that the letters are as large on a phone
    _draw_stack(ax, 0, "encoder", ENCODER)
    _draw_stack(ax, 1.72, "decoder", DECODER)
    top, asks = len(ENCODER) - 0.3, DECODER.index(CROSS) + HEIGHT / 2
    ax.plot([0.7, 0.7, 1.56, 1.56], [top, top + 0.6, top + 0.6, asks], color="0.3")
    arrow = {"arrowstyle": "->", "color": "0.3", "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (1.72, asks), (1.55, asks), arrowprops=arrow)
    ax.set(xlim=(-0.1, 3.22), ylim=(-0.6, len(DECODER) - 0.2))
    ax.set_axis_off()


def _draw_stack(ax: Axes, left: float, name: str, parts: tuple[Part, ...]) -> None:
    middle = left + WIDTH / 2
    ax.text(middle, -0.35, name, ha="center")
    ax.plot([middle] * 2, [0.3, len(parts) - 0.5], color="0.4", zorder=0)
    rows = [row for row, part in enumerate(parts) if part in REPEATED]
    frame = (left - 0.08, rows[0] - 0.05), WIDTH + 0.16, len(rows) - 0.12
    ax.add_patch(Rectangle(*frame, fill=False, edgecolor="0.4", linestyle="--"))
    for row, part in enumerate(parts):
        ax.add_patch(Rectangle((left, row), WIDTH, HEIGHT, facecolor=part.colour, edgecolor="0.5"))
        ax.text(left + 0.06, row + HEIGHT / 2, part.name, va="center", linespacing=1)
        ax.text(left + 1.35, row + HEIGHT / 2, part.section, va="center", ha="right", weight="bold")
        if part in DROPPED_OUT:
            _draw_diamond(ax, middle, row + 0.87, STRONG)
        if part in DROPPED_WITHIN:
            _draw_diamond(ax, middle + 0.14, row + 0.52, "white")


def _draw_diamond(ax: Axes, x: float, y: float, colour: str) -> None:
    ax.plot(x, y, "D", color=colour, markeredgecolor=STRONG, markersize=6.5, zorder=3)
