"""The style of the book's figures: on no background, the same in each run, with panels that are found."""

import re

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import ConnectionPatch

from attnlib.lab.figures import COLUMN, PAD, PANEL, panels_of, to_svg

pytestmark = pytest.mark.usefixtures("style")


def drawn(columns=1, rows=1, width=COLUMN):
    figure, axes = plt.subplots(rows, columns, figsize=(width, 2.5), layout="constrained", squeeze=False)
    for ax in axes.flat:
        ax.plot([0, 1], [0, 1])
        ax.set(xlabel="key", ylabel="query")
    return figure, axes


def views(svg):
    return [tuple(map(float, box.split())) for box in re.findall(r'<view id="panel-\d+" viewBox="([^"]*)"', svg)]


def test_a_figure_is_drawn_alike_in_each_run():
    assert to_svg(drawn(2)[0]) == to_svg(drawn(2)[0])


def test_a_figure_has_no_background():
    svg = to_svg(drawn()[0])
    for patch in ("patch_1", "patch_2"):  # of the figure, of its axes
        assert "fill: none" in re.search(rf'<g id="{patch}">.*?</g>', svg, re.DOTALL)[0]


def test_what_is_measured_is_what_is_drawn():
    """Square cells under a constrained layout move when they are laid out a second time."""
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 3.2), layout="constrained")
    for ax in axes:
        ax.imshow([[0, 1], [1, 0]])
        ax.set(xlabel="key", ylabel="query")
    svg = to_svg(figure)
    before = axes[0].get_position().bounds
    figure.draw_without_rendering()
    assert axes[0].get_position().bounds == before
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1])
    assert width == pytest.approx(72 * (figure.get_tightbbox().width + 2 * PAD), abs=0.01)


def test_one_plot_is_no_panel():
    assert views(to_svg(drawn()[0])) == []


@pytest.mark.parametrize("columns", [2, 3])
def test_plots_side_by_side_are_panels_that_share_the_whole_picture(columns):
    svg = to_svg(drawn(columns)[0])
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    found = views(svg)
    assert len(found) == columns
    edges = [0, *(left + wide for left, _, wide, _ in found)]
    assert edges[:-1] == pytest.approx([left for left, *_ in found], abs=0.02)
    assert edges[-1] == pytest.approx(width, abs=0.02)
    assert [tall for *_, tall in found] == pytest.approx([height] * columns, abs=0.01)


def test_two_panels_fill_the_column_and_one_a_phone():
    assert all(wide <= PANEL * 72 + 12 for _, _, wide, _ in views(to_svg(drawn(2)[0])))


def test_what_lies_below_belongs_to_what_lies_above():
    assert len(panels_of_laid_out(drawn(columns=2, rows=2)[0])) == 2


def test_a_colour_bar_belongs_to_its_plot():
    figure, axes = drawn(2)
    figure.colorbar(axes[0, 0].imshow([[0, 1]]), ax=axes[0, 0])
    assert len(panels_of_laid_out(figure)) == 2


@pytest.mark.parametrize(
    "keep_together",
    [
        lambda figure: figure.suptitle("of both plots, said at some length, from side to side"),
        lambda figure: figure.legend(["one line", "another"], ncols=2, loc="outside upper center"),
    ],
)
def test_a_title_or_a_legend_of_all_keeps_them_together(keep_together):
    figure, _ = drawn(2, width=4)
    keep_together(figure)
    assert len(panels_of_laid_out(figure)) == 1


def panels_of_laid_out(figure):
    figure.draw_without_rendering()
    return panels_of(figure)


def test_what_is_not_drawn_makes_no_panel():
    figure, axes = drawn(2)
    axes[0, 1].set_visible(False)
    figure.suptitle("")
    assert len(panels_of_laid_out(figure)) == 1


def test_the_name_of_an_axis_and_a_colour_bar_are_no_panels():
    figure, axes = drawn(2)
    for ax in axes.flat:
        ax.set_ylabel("")
    figure.supylabel("query")
    figure.colorbar(axes[0, 1].imshow([[0, 1]]), ax=axes[0, 1], location="left")
    assert len(panels_of_laid_out(figure)) == 2


def test_what_joins_two_plots_keeps_them_together():
    figure, axes = drawn(2)
    figure.add_artist(ConnectionPatch((0, 0), (1, 1), "data", "data", axesA=axes[0, 0], axesB=axes[0, 1]))
    assert len(panels_of_laid_out(figure)) == 1
