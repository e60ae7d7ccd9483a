"""The targets at a glance: each ratio on one axis, beside what was asked for."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

REACHED, MISSED = "#0072B2", "#D55E00"
MARKERS = {"inference": "o", "training": "^"}
HEIGHT = 0.5  # inches a row


def draw(results: dict, path: Path) -> None:
    """Draw every ratio that has a target: a row for each kind of case and other, a mark for each size and mode."""
    rows: dict[str, list[tuple[dict, dict]]] = {}
    for case in results["cases"]:
        for other, entry in case["against"].items():
            if entry["target"] is not None and entry["ratio"]:
                rows.setdefault(f"{case['row']} · {other}", []).append((case, entry))
    # The settings are put back: a figure is no reason to change those of whoever draws it. No date, fixed names: the
    # same results give the same file.
    with plt.style.context("attnlib.lab.book"), plt.rc_context({"svg.hashsalt": "attnlib"}):
        figure, ax = plt.subplots(figsize=(5, 1.6 + HEIGHT * len(rows)))
        for y, (label, entries) in enumerate(rows.items()):
            _draw_row(ax, y, label, entries)
        _finish(ax, len(rows))
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _draw_row(ax, y: int, label: str, entries: list[tuple[dict, dict]]) -> None:
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # the line at 1 stops at the words
    ax.text(0, y - 0.24, label, transform=ax.get_yaxis_transform(), va="bottom", fontsize=10, bbox=paper)
    ax.axhline(y, color="#dddddd", linewidth=0.8, zorder=0)
    for case, entry in entries:
        ax.plot(
            entry["ratio"]["median"],
            y,
            MARKERS[case["mode"]],
            markersize=7,
            color=REACHED if entry["reached"] else MISSED,
            markerfacecolor=REACHED if entry["reached"] else "white",
            alpha=0.9,
        )
    for target in {entry["target"] for _, entry in entries}:
        ax.plot(target, y, "|", color="black", markersize=14, markeredgewidth=1.5)


def _finish(ax, rows: int) -> None:
    ax.axvline(1, color="black", linewidth=0.8, linestyle=":", zorder=0)
    ax.set(xscale="log", ylim=(max(rows, 1) - 0.4, -0.9), yticks=[])
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("time of attnlib ÷ time of the other\n(left of 1: attnlib is faster)")
    key = [
        Line2D([], [], linestyle="", marker="o", color="#555555", label="inference"),
        Line2D([], [], linestyle="", marker="^", color="#555555", label="training"),
        Line2D([], [], linestyle="", marker="|", markersize=12, color="black", label="asked for"),
        Line2D([], [], linestyle="", marker="s", color=REACHED, label="reached"),
        Line2D([], [], linestyle="", marker="s", color=MISSED, markerfacecolor="white", label="missed"),
    ]
    ax.legend(handles=key, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1, handletextpad=0.2)
