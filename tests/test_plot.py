"""What the figures draw: the right numbers, at the right places, and nothing else touched."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.text import Text

from attnlib import masks, plot
from attnlib.kernels.plan import plan

plt.switch_backend("Agg")
H, L, S = 2, 3, 5
QUERIES, KEYS = ["cats", "chase", "mice"], ["a", "b", "c", "d", "e"]


@pytest.fixture(autouse=True)
def _figures_are_closed_and_settings_kept(monkeypatch):
    monkeypatch.setattr(plt, "show", None)
    before = matplotlib.rcParams.copy()
    yield
    assert matplotlib.rcParams == before
    plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots(figsize=(6, 4))[1]


def weights(*shape):
    return torch.softmax(torch.randn(*(shape or (L, S))), dim=-1)


def image(ax):
    (drawn,) = ax.get_images()
    return drawn


def names(labels):
    return [label.get_text() for label in labels]


def hatched(ax):
    """Return the (row, column) of every hatched cell."""
    return {
        (round(patch.get_y() + 0.5), round(patch.get_x() + 0.5) + right)
        for patch in ax.patches
        if patch.get_hatch()
        for right in range(round(patch.get_width()))
    }


def lines_by_head(ax):
    """Return for each head its colour and its lines, {(query's height, key's height): width}."""
    return [
        (
            tuple(collection.get_colors()[0]),
            {
                tuple(path.vertices[:, 1]): width
                for path, width in zip(collection.get_paths(), collection.get_linewidths(), strict=True)
            },
        )
        for collection in ax.collections
    ]


DRAWERS = {
    "heatmap": lambda ax: plot.attention_heatmap(weights(), ax=ax),
    "heads": lambda ax: plot.head_grid(weights(H, L, S), ax=ax),
    "lines": lambda ax: plot.attention_lines(weights(), ax=ax),
    "mask": lambda ax: plot.plot_mask(masks.causal(), L, S, ax=ax),
    "plan": lambda ax: plot.plot_plan(masks.causal(), L, S, ax=ax),
    "softmax": lambda ax: plot.plot_softmax(torch.randn(S), ax=ax),
}


@pytest.mark.parametrize("draw", DRAWERS.values(), ids=DRAWERS)
def test_every_figure_draws_on_the_axes_it_is_given_and_returns_it(draw, ax):
    other = plt.subplots()[1]  # now the current one
    assert draw(ax) is ax
    assert ax.get_children() != other.get_children()
    assert not other.has_data()
    ax.figure.canvas.draw()


@pytest.mark.parametrize("draw", DRAWERS.values(), ids=DRAWERS)
def test_every_figure_draws_on_the_current_axes_unless_given_one(draw, ax):
    assert draw(None) is ax


@pytest.mark.parametrize(
    "given_weights",
    [
        weights().requires_grad_(),
        weights().bfloat16(),
        weights().numpy(),
        weights().double().numpy(),
        weights().tolist(),
        weights()[None],
    ],
)
def test_a_heatmap_shows_the_weights_whatever_holds_them(given_weights, ax):
    plot.attention_heatmap(given_weights, ax=ax)
    expected = torch.as_tensor(given_weights).detach().double().reshape(L, S)
    np.testing.assert_allclose(image(ax).get_array().filled(np.nan), expected.numpy(), rtol=1e-12)


def test_colours_have_one_scale_from_0_to_1(ax):
    plot.attention_heatmap(weights() * 0.1, ax=ax)
    assert image(ax).get_clim() == (0, 1)


def test_rows_are_queries_and_columns_keys(ax):
    plot.attention_heatmap(weights(), QUERIES, KEYS, ax=ax)
    assert names(ax.get_yticklabels()) == QUERIES
    assert names(ax.get_xticklabels()) == KEYS
    assert list(ax.get_yticks()) == [0, 1, 2]
    assert list(ax.get_xticks()) == [0, 1, 2, 3, 4]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key", "query")
    assert ax.yaxis_inverted()


def test_names_are_indices_unless_given(ax):
    plot.attention_heatmap(weights(), ax=ax)
    assert names(ax.get_yticklabels()) == ["0", "1", "2"]
    assert names(ax.get_xticklabels()) == ["0", "1", "2", "3", "4"]


def test_several_heads_show_their_mean_and_say_so(ax):
    many = weights(H, L, S)
    plot.attention_heatmap(many, ax=ax)
    np.testing.assert_allclose(image(ax).get_array(), many.double().mean(0))
    assert ax.get_title() == "mean of 2 heads"


def test_one_head_has_no_title(ax):
    assert plot.attention_heatmap(weights(), ax=ax).get_title() == ""


@pytest.mark.parametrize(
    "mask",
    [
        masks.causal(),
        masks.causal().dense(L, S),
        masks.causal().dense(L, S).numpy(),
        masks.causal().dense(L, S)[None, None],
        masks.causal() & masks.padding([S]),
    ],
)
def test_masked_cells_are_hatched_and_not_a_weight_of_zero(mask, ax):
    masked = {(0, 3), (0, 4), (1, 4)}
    drawn = weights()
    drawn[2, 0] = 0
    plot.attention_heatmap(drawn, mask=mask, ax=ax)
    assert hatched(ax) == masked
    shown = image(ax).get_array()
    assert {tuple(cell) for cell in np.argwhere(np.ma.getmaskarray(shown))} == masked
    assert shown[2, 0] == 0


def test_a_mask_with_rows_alike_covers_all_rows(ax):
    plot.attention_heatmap(weights(), mask=masks.padding([4]), ax=ax)
    assert hatched(ax) == {(0, 4), (1, 4), (2, 4)}


def test_numbers_stand_in_their_cells_where_they_fit(ax):
    drawn = weights()
    plot.attention_heatmap(drawn, mask=masks.causal(), ax=ax)
    written = {(t.get_position()[1], t.get_position()[0]): t for t in ax.texts}
    open_ = {tuple(cell) for cell in masks.causal().dense(L, S).nonzero().tolist()}
    assert set(written) == open_
    for cell, text in written.items():
        assert text.get_text() == f"{drawn[cell]:.2f}"


def test_numbers_can_be_read_on_dark_and_on_light(ax):
    plot.attention_heatmap([[0.9, 0.1]], ax=ax)
    assert [text.get_color() for text in ax.texts] == ["white", "black"]


def test_numbers_are_left_out_where_they_do_not_fit(ax):
    plot.attention_heatmap(weights(40, 40), ax=ax)
    assert not ax.texts


def test_numbers_stay_inside_their_cells(ax):
    plot.attention_heatmap(weights(), ax=ax)
    ax.figure.canvas.draw()
    cell = ax.get_window_extent().width / S
    assert all(text.get_window_extent().width <= cell for text in ax.texts)


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 8])
def test_each_head_has_a_grid_of_its_own(heads, ax):
    many = weights(heads, L, S)
    plot.head_grid(many, QUERIES, KEYS, mask=masks.causal(), ax=ax)
    assert len(ax.child_axes) == heads
    for head, inset in enumerate(ax.child_axes):
        open_ = masks.causal().dense(L, S).numpy()
        np.testing.assert_allclose(image(inset).get_array().filled(-1), np.where(open_, many[head].double(), -1))
        assert inset.get_title() == f"head {head}"
        assert len(hatched(inset)) == 3
    ax.figure.canvas.draw()
    boxes = [inset.get_window_extent() for inset in ax.child_axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_names_stand_on_the_outer_grids_only(ax):
    plot.head_grid(weights(4, L, S), QUERIES, KEYS, ax=ax)
    left = [names(inset.get_yticklabels()) == QUERIES for inset in ax.child_axes]
    bottom = [names(inset.get_xticklabels()) == KEYS for inset in ax.child_axes]
    assert left == [True, False, True, False]
    assert bottom == [False, False, True, True]
    assert [inset.get_ylabel() for inset in ax.child_axes] == ["query", "", "query", ""]
    assert [inset.get_xlabel() for inset in ax.child_axes] == ["", "", "key", "key"]


def test_a_grid_above_nothing_keeps_its_names(ax):
    plot.head_grid(weights(3, L, S), QUERIES, KEYS, ax=ax)
    assert [inset.get_xlabel() for inset in ax.child_axes] == ["", "key", "key"]


def test_a_matrix_is_one_head(ax):
    assert len(plot.head_grid(weights(), ax=ax).child_axes) == 1


# ---------------------------------------------------------------------------------------------------------------------


def test_lines_go_from_queries_to_keys_and_are_as_thick_as_their_weights(ax):
    drawn = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    plot.attention_lines(drawn, ax=ax)
    ((_, lines),) = lines_by_head(ax)
    assert set(lines) == {(0, 0), (0, 1), (1, 2)}
    thickest = lines[1, 2]
    assert lines[0, 0] == pytest.approx(thickest / 4)
    assert lines[0, 1] == pytest.approx(thickest * 3 / 4)
    assert all(path.vertices[:, 0].tolist() == [0, 1] for path in ax.collections[0].get_paths())


def test_lines_name_the_tokens_on_both_sides(ax):
    plot.attention_lines(weights(), QUERIES, KEYS, ax=ax)
    sides = {side: [] for side in ("right", "left")}
    for text in ax.texts:
        sides[text.get_ha()].append((text.get_text(), text.get_position()[1]))
    assert sides["right"] == [*zip(QUERIES, range(L), strict=True), ("query", -0.7)]
    assert sides["left"] == [*zip(KEYS, range(S), strict=True), ("key", -0.7)]
    assert ax.yaxis_inverted()


def test_each_head_has_a_colour_and_a_name_of_its_own(ax):
    drawn = weights(3, L, S)
    drawn[1, 0] = 0
    drawn[1, 0, 4] = 1
    plot.attention_lines(drawn, ax=ax)
    heads = lines_by_head(ax)
    assert len({colour for colour, _ in heads}) == 3
    assert names(ax.get_legend().get_texts()) == ["head 0", "head 1", "head 2"]
    starts = {min(start for start, _ in lines) for _, lines in heads}
    assert len(starts) == 3
    assert max(starts) - min(starts) < 0.5


def test_more_heads_than_colours_are_refused(ax):
    with pytest.raises(ValueError, match=r"weights: expected at most 7 heads, got 8; head_grid draws more"):
        plot.attention_lines(weights(8, L, S), ax=ax)


def test_names_too_long_for_their_cells_stand_upright(ax):
    plot.attention_heatmap(weights(), keys=["a very long name"] * S, ax=ax)
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {90}


def test_indices_too_many_for_their_cells_are_thinned_out(ax):
    plot.attention_heatmap(np.full((64, 64), 1 / 64), ax=ax)
    shown = [int(name) for name in names(ax.get_xticklabels())]
    assert 5 < len(shown) < 32
    assert shown == list(range(0, 64, shown[1]))
    assert not ax.xaxis.get_minorticklocs().size  # grid lines would hide the cells


def test_one_heads_lines_need_no_legend(ax):
    assert plot.attention_lines(weights(), ax=ax).get_legend() is None


# ---------------------------------------------------------------------------------------------------------------------


def test_a_mask_shows_open_cells_filled_and_masked_cells_hatched(ax):
    plot.plot_mask(masks.causal(), 2, 3, ["x", "y"], ["a", "b", "c"], ax=ax)
    assert hatched(ax) == {(0, 2)}
    shown = image(ax).get_array()
    assert len({shown[0, 0], shown[0, 1], *shown[1]}) == 1
    assert shown[0, 0] > 0
    assert names(ax.get_yticklabels()) == ["x", "y"]
    assert names(ax.get_xticklabels()) == ["a", "b", "c"]


PLANS = {
    "none": (None, 300, 300),
    "causal": (masks.causal(), 300, 300),
    "fewer queries than keys": (masks.causal() & masks.sliding_window(50), 150, 301),
    "several tiles": ((masks.prefix(9) | masks.sliding_window(50)) & masks.causal(), 400, 400),
    "a gap that is computed": (masks.prefix(9) | (masks.sliding_window(50) & ~masks.prefix(20)), 200, 300),
    "a block without keys": (masks.causal() & masks.padding([0]), 200, 200),
    "documents": (masks.documents([0] * 150 + [1] * 251) & masks.causal(), 401, 401),
}


def plan_as_cells(mask, L, S):
    """Return for each pair what the plan does with it."""
    cells = np.full((L, S), "empty", dtype=object)
    for block in plan(mask, L, S):
        for tile in block.tiles:
            cells[block.start : block.stop, tile.start : tile.stop] = "full"
            for start, stop, _ in tile.partial:
                cells[block.start : block.stop, start:stop] = "partial"
    return cells


def cells_of(patch):
    """Return the rows and the columns that a patch covers."""
    corner = round(patch.get_y() + 0.5), round(patch.get_x() + 0.5)
    sizes = round(patch.get_height()), round(patch.get_width())
    return tuple(slice(start, start + size) for start, size in zip(corner, sizes, strict=True))


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_shows_what_is_skipped_and_what_is_computed(name, ax):
    mask, L, S = PLANS[name]
    plot.plot_plan(mask, L, S, ax=ax)
    kinds = {(style["facecolor"], style.get("hatch")): kind for kind, style in plot.PLAN_STYLES.items()}
    assert len(kinds) == 3
    assert len({hatch for _, hatch in kinds}) == 3  # told apart without colour
    shown = np.full((L, S), "nothing", dtype=object)
    for patch in ax.patches:  # later ones lie above
        if patch.get_fill():
            shown[cells_of(patch)] = kinds[matplotlib.colors.to_hex(patch.get_facecolor()), patch.get_hatch()]
    np.testing.assert_array_equal(shown, plan_as_cells(mask, L, S))


def test_a_plan_frames_each_piece(ax):
    mask, L, S = PLANS["several tiles"]
    plot.plot_plan(mask, L, S, ax=ax)
    frames = [cells_of(patch) for patch in ax.patches if not patch.get_fill()]
    tiles = [
        (slice(block.start, block.stop), slice(tile.start, tile.stop))
        for block in plan(mask, L, S)
        for tile in block.tiles
    ]
    assert frames == tiles
    assert len(tiles) > len(plan(mask, L, S))


def test_a_plan_has_queries_downwards_keys_to_the_right_and_one_label_a_kind(ax):
    plot.plot_plan(masks.causal(), 150, 300, ax=ax)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key", "query")
    assert ax.get_xlim() == (-0.5, 299.5)
    assert ax.get_ylim() == (149.5, -0.5)
    assert ax.get_aspect() == 1
    assert ax.get_legend_handles_labels()[1] == ["empty", "full", "partial"]


def test_a_plan_needs_a_mask_with_structure():
    with pytest.raises(TypeError, match="mask: expected a Mask, which knows its structure, got Tensor"):
        plot.plot_plan(masks.causal().dense(L, S), L, S)


def test_softmax_bars_are_the_weights(ax):
    scores = torch.tensor([1.0, -2.5, 3.0]).requires_grad_()
    plot.plot_softmax(scores, ["a", "b", "c"], ax=ax)
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, torch.softmax(scores.detach().double(), 0))
    assert names(ax.get_xticklabels()) == ["a\n1", "b\n−2.5", "c\n3"]
    assert [text.get_text() for text in ax.texts] == [f"{height:.2f}" for height in heights]
    assert ax.get_ylabel() == "weight"
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 1


def test_a_masked_score_has_no_bar(ax):
    plot.plot_softmax([0.0, -np.inf, 1e4], ax=ax)
    assert [bar.get_height() for bar in ax.patches] == [0, 0, 1]
    assert names(ax.get_xticklabels())[1] == "1\n−inf"


# ---------------------------------------------------------------------------------------------------------------------
# Names of every kind, and of any number


def overlapping(texts, upwards):
    """Return how many of the texts that are drawn reach into the next one."""
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    ends = sorted((box.y0, box.y1) if upwards else (box.x0, box.x1) for box in boxes)
    return sum(end > start for (_, end), (start, _) in pairwise(ends))


def saved(ax):
    """Draw the figure as it is saved."""
    ax.figure.savefig(io.BytesIO(), format="png")
    return ax


NAMERS = {
    "heatmap": lambda names, ax: plot.attention_heatmap(torch.eye(len(names)), names, names, ax=ax),
    "heads": lambda names, ax: plot.head_grid(torch.eye(len(names)).expand(8, -1, -1), names, names, ax=ax),
    "lines": lambda names, ax: plot.attention_lines(torch.eye(len(names)), names, names, ax=ax),
    "mask": lambda names, ax: plot.plot_mask(masks.causal(), len(names), len(names), names, names, ax=ax),
    "softmax": lambda names, ax: plot.plot_softmax(torch.zeros(len(names)), names, ax=ax),
}


def texts_of(ax):
    """Return all that is written beside the cells, bars or lines of an Axes, or of the last one inside it."""
    ax = (ax.child_axes or [ax])[-1]
    return [text for text in [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels()] if text.get_text()]


@pytest.mark.parametrize("name", ["price $5 to $6", "$$", r"$\foo$", "$x_$", r"\$5", "a^2 $b^2$"])
@pytest.mark.parametrize("draw", NAMERS.values(), ids=NAMERS)
def test_a_name_is_written_as_it_is(name, draw, ax):
    """Between dollar signs matplotlib reads mathematics."""
    saved(draw([name, "b"], ax))
    (written, *_) = [text for text in texts_of(ax) if text.get_text().startswith(name)]
    plain = ax.text(0, 0, "x" * len(name), fontsize=written.get_fontsize())
    assert not written.get_parse_math()
    assert written.get_window_extent().height > 0.9 * plain.get_window_extent().height
    assert written.get_text() in (name, f"{name}\n0")


def test_a_name_with_dollar_signs_looks_like_the_same_name_in_plain_type(ax):
    """Pixel by pixel: matplotlib's own way to write a dollar sign is a backslash before it."""

    def pixels(name, escaped):
        figure, ax = plt.subplots(figsize=(4, 3))
        plot.attention_heatmap(torch.eye(2), [name, "b"], ["c", name], ax=ax)
        if escaped:
            for axis in (ax.xaxis, ax.yaxis):
                labels = [label.get_text().replace("$", r"\$") for label in axis.get_ticklabels()]
                axis.set_ticks([0, 1], labels, parse_math=True)
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())

    np.testing.assert_array_equal(pixels("$5 to $6", False), pixels("$5 to $6", True))


@pytest.mark.parametrize(
    "given_names",
    [[5, 6, 7], (5, 6, 7), torch.tensor([5, 6, 7]), np.array([5, 6, 7]), range(5, 8), np.array(["5", "6", "7"])],
)
@pytest.mark.parametrize("draw", NAMERS.values(), ids=NAMERS)
def test_names_may_be_numbers(given_names, draw, ax):
    saved(draw(given_names, ax))
    written = [text.get_text().partition("\n")[0] for text in texts_of(ax)]
    assert [name for name in written if name in "567"][:3] == ["5", "6", "7"]


def rows_of_names(ax):
    """Return the texts of each row or column of names, and whether they stand one above the other."""
    for inset in ax.child_axes or [ax]:
        if inset.axison:
            yield inset.get_xticklabels(), False
            yield inset.get_yticklabels(), True
        else:
            for side in ("left", "right"):
                yield [text for text in inset.texts if text.get_ha() == side], True


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("count", [12, 60])
@pytest.mark.parametrize("draw", NAMERS.values(), ids=NAMERS)
def test_names_too_many_for_their_places_are_thinned_out(draw, count, layout):
    ax = plt.subplots(figsize=(6, 4), layout=layout)[1]
    all_names = [f"token{i}" for i in range(count)]
    saved(draw(all_names, ax))
    found = set()
    for texts, upwards in rows_of_names(ax):
        assert overlapping(texts, upwards) == 0
        places = [all_names.index(name) for name in names_in(texts)]
        assert not places or places == list(range(0, count, places[1]))  # at even distances, the first among them
        found.update(places)
    assert found
    assert count == 12 or len(found) < count


def names_in(texts):
    return [name for text in texts if (name := text.get_text().partition("\n")[0]).startswith("token")]


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_weights_over_many_bars_are_thinned_out(layout):
    ax = plt.subplots(figsize=(6, 4), layout=layout)[1]
    saved(plot.plot_softmax(torch.zeros(60), ax=ax))
    assert overlapping(ax.texts, upwards=False) == 0
    assert len(ax.texts) > 5


def test_a_name_stands_at_its_own_place_when_others_are_left_out(ax):
    count = 60
    saved(NAMERS["heatmap"]([f"token{i}" for i in range(count)], ax))
    for axis in (ax.xaxis, ax.yaxis):
        labels = axis.get_ticklabels()
        assert 5 < len(labels) < count
        assert [label.get_text() for label in labels] == [f"token{place}" for place in axis.get_ticklocs()]


@pytest.mark.parametrize("draw", NAMERS.values(), ids=NAMERS)
def test_every_name_is_written_where_there_is_room(draw, ax):
    saved(draw(["cats", "chase", "mice"], ax))
    assert [name for name in ("cats", "chase", "mice") if any(t.get_text().startswith(name) for t in texts_of(ax))] == [
        "cats",
        "chase",
        "mice",
    ]


def test_more_names_are_written_on_a_larger_figure(ax):
    """What there is room for is known when a figure is drawn, and a window may be drawn larger."""
    saved(NAMERS["heatmap"]([f"token{i}" for i in range(30)], ax))
    few = len(ax.get_yticklabels())
    ax.figure.set_size_inches(12, 12)
    saved(ax)
    assert few < len(ax.get_yticklabels()) == 30


# ---------------------------------------------------------------------------------------------------------------------
# Numbers in cells, and a layout


@pytest.fixture
def drawn(monkeypatch):
    """Return the texts that matplotlib has drawn since the list was cleared."""
    seen, draw = [], Text.draw
    monkeypatch.setattr(Text, "draw", lambda text, renderer: seen.append(text) or draw(text, renderer))
    return seen


@pytest.mark.parametrize("size", [2, 4, 6, 10])
@pytest.mark.parametrize("layout", [None, "constrained", "compressed"])
@pytest.mark.parametrize("named", [False, True])
def test_numbers_are_written_where_they_fit_after_the_layout(size, layout, named, drawn):
    """Long names and a colour bar leave an Axes less room than it had when the cells were drawn."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout=layout)
    for ax in axes:
        plot.attention_heatmap(weights(size, size), ["a rather long name"] * size if named else None, ax=ax)
    figure.colorbar(axes[0].images[0], ax=list(axes))
    figure.canvas.draw()
    for ax in axes:
        cell = ax.get_window_extent().width / size
        written = [text for text in ax.texts if text in drawn]
        assert len(written) == (size**2 if cell * 72 / figure.dpi >= 2.4 * 10 else 0)
        assert all(text.get_window_extent().width <= cell for text in written)


def test_numbers_that_are_not_shown_take_no_room_in_a_layout():
    def cell(numbers):
        figure, axes = plt.subplots(1, 2, figsize=(5, 3), layout="constrained")
        for ax in axes:
            plot.attention_heatmap(weights(5, 5), ["hundred"] * 5, ax=ax)
            for text in [] if numbers else list(ax.texts):
                text.remove()
        figure.canvas.draw()
        return axes[0].get_window_extent().bounds

    assert cell(numbers=True) == cell(numbers=False)


def test_numbers_appear_when_cells_become_larger(ax, drawn):
    plot.attention_heatmap(weights(10, 10), ax=ax)
    saved(ax)
    assert not set(ax.texts) & set(drawn)
    ax.set(xlim=(-0.5, 4.5), ylim=(4.5, -0.5))
    saved(ax)
    assert set(ax.texts) <= set(drawn)


def test_a_number_knows_the_size_of_an_inset_after_the_layout(drawn):
    figure, (ax, _) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    plot.head_grid(weights(2, 3, 3), ["a rather long name"] * 3, ax=ax)
    figure.canvas.draw()
    for inset in ax.child_axes:
        fits = inset.get_window_extent().width / 3 * 72 / figure.dpi >= 2.4 * 10
        assert sum(text in drawn for text in inset.texts) == 9 * fits


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: plot.attention_heatmap(torch.ones(S)),
            r"weights: expected shape \(L, S\) or \(H, L, S\), got \(5,\)$",
        ),
        (lambda: plot.head_grid(weights(1, H, L, S)), r"weights: .*got \(1, 2, 3, 5\); choose one .*: weights\[0\]"),
        (lambda: plot.attention_lines(torch.ones(0, 3)), r"weights: expected shape .*, got \(0, 3\)"),
        (
            lambda: plot.attention_heatmap(torch.tensor([[-0.1, 1]])),
            r"weights: expected .* 0 to 1, got -0.1 to 1",
        ),
        (
            lambda: plot.attention_lines(torch.tensor([[0.5, 1.2]])),
            r"weights: expected .* 0 to 1, got 0.5 to 1.2",
        ),
        (lambda: plot.head_grid(torch.tensor([[np.nan, 1]])), "weights: expected numbers from 0 to 1, got nan"),
        (lambda: plot.attention_heatmap(weights(), ["a"]), "queries: expected 3 names, got 1"),
        (lambda: plot.attention_heatmap(weights(), None, ["a"]), "keys: expected 5 names, got 1"),
        (lambda: plot.attention_lines(weights(), QUERIES, QUERIES), "keys: expected 5 names, got 3"),
        (lambda: plot.head_grid(weights(), KEYS), "queries: expected 3 names, got 5"),
        (
            lambda: plot.attention_heatmap(weights(), mask=torch.ones(2, 2).bool()),
            r"mask: .* = \(3, 5\), got \(2, 2\)",
        ),
        (lambda: plot.plot_mask(masks.padding([5, 3]), L, S), r"mask: expected one mask .*, got \(2, 1, 1, 5\)"),
        (lambda: plot.plot_mask(torch.ones(S).bool(), L, S), r"mask: expected one mask .*, got \(5,\)"),
        (lambda: plot.plot_mask(masks.padding([9]), L, S), "lengths: expected at most S=5"),
        (lambda: plot.plot_plan(masks.padding([5, 3]), L, S), r"mask: expected one mask .*, got \(2, 1, 1, 5\)"),
        (lambda: plot.plot_plan(masks.padding([9]), L, S), "lengths: expected at most S=5"),
        (lambda: plot.plot_plan(None, L, 0), "S: expected at least 1, got 0"),
        (lambda: plot.plot_softmax(torch.ones(2, 3)), r"scores: expected one row \(S,\) .*, got shape \(2, 3\)"),
        (lambda: plot.plot_softmax([-np.inf, -np.inf]), r"scores: expected one row \(S,\) .* finite"),
        (lambda: plot.plot_softmax([1.0, np.nan]), r"scores: expected one row .* finite"),
        (lambda: plot.plot_softmax([1.0, np.inf]), r"scores: expected one row .* finite"),
        (lambda: plot.plot_softmax([1.0, 2.0], ["a"]), "keys: expected 2 names, got 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_weights_of_half_precision_may_exceed_1_by_a_rounding(ax):
    plot.attention_heatmap([[1.004, 0.0]], ax=ax)


def test_a_mask_of_numbers_is_refused():
    """0 and −∞ are both "not 0"; nothing is guessed."""
    with pytest.raises(TypeError, match=r"mask: expected bool \(True means may attend\), got float32"):
        plot.plot_mask(torch.zeros(3, 3), 3, 3)


def test_a_mask_without_cells_is_refused():
    with pytest.raises(ValueError, match="L: expected at least 1, got 0"):
        plot.plot_mask(masks.causal(), 0, 3)
