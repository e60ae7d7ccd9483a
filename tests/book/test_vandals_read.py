"""Every guard that reads a notebook is seen to fail: each way to spoil a good chapter is caught and named."""

import re
from copy import deepcopy

import nbformat
import pytest

from tests.book.figures import problems_of_figures, repeated_names
from tests.book.good_chapter import COMPUTE, FIGURE, GOOD_TEXT, LATEX, RAISES, code_cells, replace_in_prose
from tests.book.shape import problems_of_shape
from tests.book.stored import problems_of_counts, problems_of_outputs, problems_of_tags, problems_of_twin
from tests.book.unbound import CountNothingComputes, problems_of_notebook, problems_of_page
from tools.execute import execute, read_text, store


def twin(notebook):
    return problems_of_twin(GOOD_TEXT, notebook)


def names(notebook):
    return repeated_names([notebook])


READERS = [
    *(problems_of_counts, problems_of_outputs, problems_of_tags, problems_of_figures, problems_of_shape),
    *(problems_of_notebook, twin, names),
]


@pytest.mark.parametrize("guard", READERS, ids=lambda guard: guard.__name__)
def test_a_good_chapter_passes(good, guard):
    assert guard(good) == []


def drop_count(notebook):
    code_cells(notebook)[LATEX].execution_count = None


def swap_counts(notebook):
    code_cells(notebook)[COMPUTE].execution_count, code_cells(notebook)[LATEX].execution_count = 2, 1


def untag_error(notebook):
    code_cells(notebook)[RAISES].metadata.tags = []


def store_warning(notebook):
    code_cells(notebook)[COMPUTE].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="UserWarning\n"))


def print_address(notebook):
    code_cells(notebook)[COMPUTE].outputs[0].text += "<object at 0x7f3a5c1d2e30>\n"


def print_decimals(notebook):
    code_cells(notebook)[COMPUTE].outputs[0].text += "0.66524096\n"


def skip_cell(notebook):
    code_cells(notebook)[LATEX].metadata.tags = ["nbval-skip"]


def comment_out_check(notebook):
    code_cells(notebook)[LATEX].source = "# NBVAL_IGNORE_OUTPUT\n" + code_cells(notebook)[LATEX].source


def hide_figure(notebook):
    code_cells(notebook)[FIGURE].metadata.tags = ["nbval-ignore-output"]


def drop_alt(notebook):
    del code_cells(notebook)[FIGURE].metadata.mystnb["image"]


def shorten_alt(notebook):
    code_cells(notebook)[FIGURE].metadata.mystnb.image.alt = "A line."


def repeat_caption(notebook):
    figure = code_cells(notebook)[FIGURE].metadata.mystnb
    figure.image.alt = figure.figure.caption


def drop_caption(notebook):
    del code_cells(notebook)[FIGURE].metadata.mystnb.figure["caption"]


def drop_name(notebook):
    del code_cells(notebook)[FIGURE].metadata.mystnb.figure["name"]


def lie_in_caption(notebook):
    code_cells(notebook)[FIGURE].metadata.mystnb.figure.caption = "The first token takes 0.76."


def lie_in_alt(notebook):
    code_cells(notebook)[FIGURE].metadata.mystnb.image.alt = "A falling line over three tokens, from 0.76 to 0.09."


def bind_in_caption(notebook):
    code_cells(notebook)[FIGURE].metadata.mystnb.figure.caption = 'It takes <data value="weights[0]">0.76</data>.'


def redraw(notebook, old, new):
    """Edit the stored drawing, which is what the guards of style look at."""
    data = code_cells(notebook)[FIGURE].outputs[0].data
    assert re.search(old, data["image/svg+xml"]), f"the good chapter's figure no longer holds {old!r}"
    data["image/svg+xml"] = re.sub(old, new, data["image/svg+xml"])


def draw_wide(notebook):
    redraw(notebook, r'width="[\d.]+pt"', 'width="600pt"')


def draw_small_letters(notebook):
    redraw(notebook, r"scale\(0\.\d+ -0\.\d+\)", "scale(0.06 -0.06)")


def draw_another_colour(notebook):
    redraw(notebook, "#0072b2", "#00ffb2")


def draw_a_background(notebook):
    redraw(notebook, r'(?s)(<g id="patch_1">.*?)fill: none', r"\1fill: #ffffff")


def store_pixels(notebook):
    data = code_cells(notebook)[FIGURE].outputs[0].data
    data["image/png"] = data.pop("image/svg+xml")


def draw_twice(notebook):
    code_cells(notebook)[FIGURE].outputs *= 2


def repeat_name(notebook):
    notebook.cells.append(deepcopy(code_cells(notebook)[FIGURE]))


def unbind(notebook):
    replace_in_prose(notebook, '<data value="weights[0]">0.67</data>', "0.67")


def leave_open(notebook):
    replace_in_prose(notebook, "0.67</data>", "0.67")


def sign_outside(notebook):
    replace_in_prose(notebook, '<data value="weights[2]">', '−<data value="weights[2]">')


def fraction_in_one_character(notebook):
    replace_in_prose(notebook, "## Weights", "## Weights of ½ tokens")


def number_in_heading(notebook):
    replace_in_prose(notebook, "## Weights", "## Weights of 0.64")


def number_in_table(notebook):
    replace_in_prose(notebook, "| a half |", "| a half of 0.64 |")


def number_in_nested_box(notebook):
    replace_in_prose(notebook, "The last weight,", "The last weight of 64 %,")


def number_in_title_of_box(notebook):
    replace_in_prose(notebook, "{exercise} Another token", "{exercise} Another 64 times")


def number_in_formula(notebook):
    replace_in_prose(notebook, "$1$", "$1 + 0.64$")


def uncite(notebook):
    replace_in_prose(notebook, "{cite:p}`vaswani2017`", "the paper")


def edit_code_alone(notebook):
    code_cells(notebook)[LATEX].source += "\n"


def edit_prose_alone(notebook):
    replace_in_prose(notebook, "How does", "Why does")


def ignore_output(notebook):
    code_cells(notebook)[COMPUTE].metadata.tags = ["nbval-ignore-output"]


def edit_tags_alone(notebook):
    code_cells(notebook)[COMPUTE].metadata.tags = ["hide-input"]


def add_cell_alone(notebook):
    notebook.cells.append(nbformat.v4.new_markdown_cell("More."))


def drop_section(notebook):
    replace_in_prose(notebook, "## What you now know", "Now:")


def swap_sections(notebook):
    replace_in_prose(notebook, "## The question", "## What you need ")
    replace_in_prose(notebook, "## What you need\n", "## The question\n")


def drop_middle(notebook):
    replace_in_prose(notebook, "## Weights", "### Weights")


def second_title(notebook):
    replace_in_prose(notebook, "## Weights", "# Weights\n\n## Weights")


def only_tell(notebook):
    del notebook.cells[notebook.cells.index(code_cells(notebook)[RAISES])]


def unfold(notebook):
    replace_in_prose(notebook, "{solution} ex-good\n:class: dropdown", "{solution} ex-good\n:class: note")


def leave_unsolved(notebook):
    replace_in_prose(notebook, "{solution} ex-good", "{tip}")


def unlabel(notebook):
    replace_in_prose(notebook, ":label: ex-good", ":class: hard")


CAUGHT = [
    (drop_count, problems_of_counts, "[1, None, 3, 4]"),
    (swap_counts, problems_of_counts, "[2, 1, 3, 4]"),
    (untag_error, problems_of_outputs, "ValueError without the tag raises-exception"),
    (store_warning, problems_of_outputs, "stored stderr"),
    (print_address, problems_of_outputs, "memory address"),
    (print_decimals, problems_of_outputs, "more than 4 decimals"),
    (ignore_output, problems_of_tags, "neither this cell nor the next asserts"),
    (skip_cell, problems_of_tags, "never run"),
    (comment_out_check, problems_of_tags, "not a comment"),
    (hide_figure, problems_of_tags, "a figure that no test compares"),
    (drop_alt, problems_of_figures, "fig-good-weights: no alternative text"),
    (shorten_alt, problems_of_figures, "says too little: 'A line.'"),
    (repeat_caption, problems_of_figures, "repeats the caption"),
    (drop_caption, problems_of_figures, "no caption"),
    (drop_name, problems_of_figures, "no name"),
    (lie_in_caption, problems_of_figures, "the caption says 0.76"),
    (lie_in_alt, problems_of_figures, "the alternative text says 0.76"),
    (bind_in_caption, problems_of_figures, "<data> binds nothing in the caption"),
    (draw_twice, problems_of_figures, "2 figures in one cell"),
    (draw_wide, problems_of_figures, "8.3 inches wide, more than the column's 7.6"),
    (draw_small_letters, problems_of_figures, "letters of 6.0 points shrink to"),
    (draw_another_colour, problems_of_figures, "the colour #00ffb2 is not of the book's style"),
    (draw_a_background, problems_of_figures, "it has a background"),
    (store_pixels, problems_of_figures, "stored as pixels"),
    (repeat_name, names, "fig-good-weights"),
    (unbind, problems_of_notebook, "no code computes the number 0.67"),
    (leave_open, problems_of_notebook, "a <data> inside a <data>"),
    (sign_outside, problems_of_notebook, "put all of the number inside <data>: −0.09"),
    (number_in_heading, problems_of_notebook, "in: Weights of 0.64"),
    (fraction_in_one_character, problems_of_notebook, "no code computes the number ½"),
    (number_in_table, problems_of_notebook, "in: a half of 0.64"),
    (number_in_nested_box, problems_of_notebook, "in: The last weight of 64 %,"),
    (number_in_title_of_box, problems_of_notebook, "in: Another 64 times"),
    (number_in_formula, problems_of_notebook, "no code computes the number 0.64"),
    (uncite, problems_of_notebook, "no code computes the number 59.98"),
    (edit_code_alone, twin, "in the source of cell 3"),
    (edit_prose_alone, twin, "make execute"),
    (edit_tags_alone, twin, "in the metadata of cell 1"),
    (add_cell_alone, twin, "cells in the text"),
    (drop_section, problems_of_shape, "and should be"),
    (swap_sections, problems_of_shape, "and should be"),
    (drop_middle, problems_of_shape, "and should be"),
    (second_title, problems_of_shape, "one # title"),
    (only_tell, problems_of_shape, "only tells"),
    (unfold, problems_of_shape, "lacks `:class: dropdown`"),
    (leave_unsolved, problems_of_shape, "ex-good has no solution"),
    (unlabel, problems_of_shape, "no :label:"),
]


@pytest.mark.parametrize(("vandal", "guard", "complaint"), CAUGHT, ids=[vandal.__name__ for vandal, *_ in CAUGHT])
def test_a_vandal_is_caught(good, vandal, guard, complaint):
    spoilt = deepcopy(good)
    vandal(spoilt)
    assert complaint in "\n".join(guard(spoilt))


def test_a_page_where_nothing_runs_can_bind_nothing():
    assert problems_of_page("All is well with token 2 and $1$.") == []
    assert "the number 28.4" in problems_of_page("It reaches 28.4 points.")[0]
    assert "binds nothing" in problems_of_page('It is <data value="a">3</data>.')[0]


def test_a_count_is_warned_of_with_the_way_to_bind_it(good):
    spoilt = deepcopy(good)
    replace_in_prose(spoilt, "How does", "In 64 ways, how does")
    with pytest.warns(CountNothingComputes, match='<data value="an expression">64</data> binds it'):
        assert problems_of_notebook(spoilt) == []


def test_running_again_stores_the_same_bytes(good, tmp_path):
    store(good, tmp_path / "first.ipynb")
    store(execute(read_text(GOOD_TEXT), tmp_path), tmp_path / "second.ipynb")
    assert (tmp_path / "first.ipynb").read_bytes() == (tmp_path / "second.ipynb").read_bytes()
