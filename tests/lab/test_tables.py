"""Tables on paper: each entry in its cell, and a sheet on which one head is worked out."""

from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from attnlib.lab.example import three_tokens
from attnlib.lab.figures import TINTS, panels_of
from attnlib.lab.sheet import draw_sheet, in_powers
from attnlib.lab.tables import draw_table, two_panels

pytestmark = pytest.mark.usefixtures("style")


def cells(ax):
    """What stands in each cell, by its left lower corner and its width."""
    found = {}
    for patch in ax.patches:
        left, bottom = (round(at, 6) for at in patch.get_xy())
        (width, high) = patch.get_width(), patch.get_height()
        inside = [
            text.get_text()
            for text in ax.texts
            if left < text.get_position()[0] < left + width and bottom < text.get_position()[1] < bottom + high
        ]
        assert len(inside) < 2
        found[left, bottom, round(width, 6)] = "".join(inside)
    return found


def named(ax):
    return {text.get_text(): text for text in ax.texts}


def test_each_entry_stands_in_its_cell():
    ax, _ = two_panels(height=8, unit=0.25)
    draw_table(ax, (3, -2), [[4, Fraction(1, 2), 0.666], [1, 3, -1.0]], width=1.5, tint=TINTS[1])
    assert cells(ax) == {
        (3.0, -3, 1.5): "4",
        (4.5, -3, 1.5): "1/2",
        (6.0, -3, 1.5): "0.67",
        (3.0, -4, 1.5): "1",
        (4.5, -4, 1.5): "3",
        (6.0, -4, 1.5): "\N{MINUS SIGN}1.00",
    }
    assert {to_hex(patch.get_facecolor()) for patch in ax.patches} == {TINTS[1]}


def test_rows_that_are_not_filled_have_cells_and_names():
    ax, _ = two_panels(height=8, unit=0.25)
    draw_table(ax, (3, -2), np.arange(6).reshape(3, 2), rows=["a", "b", "c"], filled=[1])
    assert list(cells(ax).values()) == ["", "", "2", "3", "", ""]
    assert {"a", "b", "c"} <= set(named(ax))


def test_names_stand_beside_their_rows_above_their_columns_and_below_the_title():
    ax, _ = two_panels(height=9, unit=0.25)
    draw_table(ax, (4, -4), np.zeros((2, 3), int), "title", width=2, rows=["up", "down"], columns=["x", "long", "z"])
    ax.figure.draw_without_rendering()
    boxes = {name: text.get_window_extent().transformed(ax.transData.inverted()) for name, text in named(ax).items()}
    for row, name in enumerate(["up", "down"]):
        assert boxes[name].x1 < 4
        assert -5 - row < boxes[name].y0 < boxes[name].y1 < -4 - row
    for column, name in enumerate(["x", "long", "z"]):
        assert 4 + 2 * column < boxes[name].x0 < boxes[name].x1 < 6 + 2 * column
        assert boxes[name].y0 > -4
    assert boxes["title"].y0 >= boxes["long"].y1
    assert (boxes["title"].x0 + boxes["title"].x1) / 2 == pytest.approx(7, abs=0.1)


def test_two_panels_are_panels_and_one_unit_is_as_long_in_both_directions():
    axes = two_panels(height=6, unit=0.3)
    for ax in axes:
        draw_table(ax, (2, -2), [[1, 2], [3, 4]])
        (x0, y0), (x1, y1) = ax.transData.transform([(0, 0), (1, 1)]) / ax.figure.dpi
        assert (x1 - x0, y1 - y0) == pytest.approx((0.3, 0.3))
    axes[0].figure.draw_without_rendering()
    assert len(panels_of(axes[0].figure)) == 2


@pytest.mark.parametrize(
    ("entries", "names", "message"),
    [
        ([[1, 2], [3, 4]], {"rows": ["a"]}, "rows: expected 2 names, or none, got 1"),
        ([[1, 2, 3]], {"columns": ["a", "b"]}, "columns: expected 3 names, or none, got 2"),
        ([], {}, r"entries: expected rows and columns, got the shape \(0,\)"),
    ],
)
def test_what_makes_no_table_is_said_before_anything_is_drawn(entries, names, message):
    ax, _ = two_panels(height=4, unit=0.25)
    with pytest.raises(ValueError, match=message):
        draw_table(ax, (2, -2), entries, "title", **names)
    assert not ax.texts
    assert not ax.patches


@pytest.mark.parametrize(
    ("exponents", "factors", "expected"),
    [
        ([0], None, "$1$"),
        ([1], None, "$e$"),
        ([Fraction(3, 2), 0, 1], None, "$e^{3/2} + 1 + e$"),
        ([2, 0, 1], [2, 0, 1], "$2e^{2} + e$"),
        ([2, 0, 1], [0, 1, 3], "$1 + 3e$"),
        ([1, Fraction(1, 2), 1], None, "$2e + e^{1/2}$"),
        ([1, 0, 1], [2, 1, 3], "$5e + 1$"),
        ([1, 0, 1], [0, 1, 3], "$3e + 1$"),
    ],
)
def test_sums_of_powers_as_one_writes_them(exponents, factors, expected):
    assert in_powers(map(Fraction, exponents), factors) == expected


def test_a_factor_for_each_power():
    with pytest.raises(ValueError, match="zip"):
        in_powers([Fraction(1), Fraction(2)], [1])


def drawn_sheet(filled, dtype=int, head=0):
    example = three_tokens()
    x, head = example.x.astype(dtype), example.heads[head]
    draw_sheet(example.tokens, x, head.wq, x @ head.wk, x @ head.wv, filled)
    return plt.gcf().axes


def test_the_row_of_chase_by_hand():
    """Worked out on paper: scores 4 0 2, half of them, powers of e, and what a calculator says."""
    left, right = drawn_sheet([1])
    exp = np.exp([2.0, 0.0, 1.0])
    weights = exp / exp.sum()
    assert [text for (_, bottom, _), text in cells(left).items() if bottom == -11.4] == [*"0100", *"2000", *"402"]
    assert [text for (_, bottom, _), text in cells(left).items() if bottom < -12.4 and text] == [*"201"]
    assert [text for text in cells(right).values() if text] == [
        "$e^{2}$",
        "$1$",
        "$e$",
        "$e^{2} + 1 + e$",
        *(f"{weight:.2f}" for weight in weights),
        *"200112",
        "$2e^{2} + e$",
        "$1 + 2e$",
        f"{2 * weights[0] + weights[2]:.2f}",
        f"{weights[1] + 2 * weights[2]:.2f}",
    ]


def test_where_two_keys_score_alike_the_sum_counts_their_powers_together():
    """The row of *cats* in head 1, by hand: powers e, e, √e; the second column of V is 2, 0, 1."""
    shown = list(cells(drawn_sheet([0], head=1)[1]).values())
    assert shown.count("$2e + e^{1/2}$") == 2  # the sum, and the second output before it is divided
    assert "1.00" in shown


@pytest.mark.parametrize("head", [0, 1])
def test_the_sheet_keeps_to_its_boxes(head):
    """What stands in a cell is no wider than the cell, and nothing is written outside of the panels."""
    for ax in drawn_sheet(range(3), head=head):
        ax.figure.draw_without_rendering()
        places = [text.get_window_extent().transformed(ax.transData.inverted()) for text in ax.texts]
        assert all(ax.get_xlim()[0] <= box.x0 and box.x1 <= ax.get_xlim()[1] for box in places)
        assert all(ax.get_ylim()[0] <= box.y0 and box.y1 <= ax.get_ylim()[1] for box in places)
        for patch in ax.patches:
            (left, bottom), width = patch.get_xy(), patch.get_width()
            for text, box in zip(ax.texts, places, strict=True):
                x, y = text.get_position()
                if left < x < left + width and bottom < y < bottom + patch.get_height():
                    assert left < box.x0 < box.x1 < left + width


def test_a_sheet_of_fractions_is_a_sheet_of_whole_numbers():
    assert all(map(cells, drawn_sheet(range(3))))
    whole = [cells(ax) for ax in drawn_sheet(range(3))]
    exact = [cells(ax) for ax in drawn_sheet(range(3), dtype=object)]
    assert whole == exact
    assert all(text for ax in exact for text in ax.values())


def test_scaled_scores_that_are_no_fractions_are_refused():
    with pytest.raises(ValueError, match="wq: expected d_k columns, a square number, got 3"):
        draw_sheet(
            ["a"], np.eye(1, 2, dtype=int), np.ones((2, 3), int), np.ones((1, 3), int), np.ones((1, 2), int), [0]
        )
