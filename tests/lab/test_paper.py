"""The map of the paper: what stands where, and diamonds where the paper and torch drop out numbers."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_rgb
from torch import nn

from attnlib.lab.figures import book_style
from attnlib.lab.paper import DECODER, ENCODER, draw_map


@pytest.fixture
def ax():
    with plt.rc_context():
        book_style()
        draw_map()
        yield plt.gca()
    plt.close("all")


def extents(ax, *, filled):
    """Left, bottom, right, top: of the boxes, which are filled, or of the dashed frames; the encoder's come first."""
    return [tuple(patch.get_bbox().extents) for patch in ax.patches if patch.get_fill() == filled]


def contains(extent, x, y):
    left, bottom, right, top = extent
    return left < x < right and bottom < y < top


def diamonds(ax, extent, *, filled):
    """How many diamonds stand within an extent, filled ones or white ones."""
    marks = [line for line in ax.lines if line.get_marker() == "D"]
    white = (1.0, 1.0, 1.0)
    return sum(
        (to_rgb(mark.get_markerfacecolor()) != white) == filled
        and contains(extent, mark.get_xdata()[0], mark.get_ydata()[0])
        for mark in marks
    )


def test_the_sections_are_read_upwards():
    assert [part.section for part in ENCODER] == ["3.4", "3.5", "3.2", "3.1", "3.3", "3.1"]
    assert [part.section for part in DECODER] == ["3.4", "3.5", "3.2", "3.1", "3.2", "3.1", "3.3", "3.1", "3.4"]


def test_each_name_and_section_stands_in_its_box(ax):
    ax.figure.draw_without_rendering()
    places = [text.get_window_extent().transformed(ax.transData.inverted()) for text in ax.texts]
    for box, part in zip(extents(ax, filled=True), ENCODER + DECODER, strict=True):
        inside = [
            text.get_text()
            for text, place in zip(ax.texts, places, strict=True)
            if contains(box, place.x0, place.y0) and contains(box, place.x1, place.y1)
        ]
        assert inside == [part.name, part.section]


@pytest.mark.parametrize("stack", [0, 1])
def test_a_frame_has_a_diamond_for_each_dropout_of_torchs_layer(ax, stack):
    """What the paper drops out, torch calls dropout1, dropout2, dropout3; the rest is torch's own."""
    frame = extents(ax, filled=False)[stack]
    layer = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)[stack](8, 2, dropout=0.1)
    outputs = [name for name, part in layer.named_children() if isinstance(part, nn.Dropout) and name != "dropout"]
    weights = [part for part in layer.modules() if isinstance(part, nn.MultiheadAttention) and part.dropout]
    assert layer.dropout.p > 0  # of hidden units
    assert diamonds(ax, frame, filled=True) == len(outputs)
    assert diamonds(ax, frame, filled=False) == len(weights) + 1


def test_outside_of_the_frames_only_sums_with_positions_are_dropped_out(ax):
    everywhere = (*ax.viewLim.min, *ax.viewLim.max)
    for filled, outside in ((True, 2), (False, 0)):
        within = sum(diamonds(ax, frame, filled=filled) for frame in extents(ax, filled=False))
        assert diamonds(ax, everywhere, filled=filled) == within + outside


def test_the_encoders_output_goes_to_cross_attention(ax):
    (arrow,) = (text for text in ax.texts if getattr(text, "arrow_patch", None))
    x, y = arrow.xy
    reached = [contains(box, x + 1e-6, y) for box in extents(ax, filled=True)]
    assert [part.name for part, is_it in zip(ENCODER + DECODER, reached, strict=True) if is_it] == ["cross-\nattention"]
