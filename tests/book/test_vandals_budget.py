"""The budget is seen to be kept: each way to exceed it is caught, those that would hide it too, and nothing else is."""

from copy import deepcopy

import nbformat
import pytest

from tests.book.budget import LIMITS, measure, problems_of_budget
from tests.book.good_chapter import COMPUTE, FIGURE, code_cells, replace_in_prose
from tools.execute import ROOT

WORDS = "one more word " * 100  # three hundred


def insert_first(notebook, source):
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(source))


def insert_code(notebook, source, outputs=(), **metadata):
    notebook.cells.insert(1, nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata=metadata))


def shown(kind, text):
    return nbformat.v4.new_output("display_data", {kind: text})


def write_on(notebook):
    replace_in_prose(notebook, "Token 1 takes", WORDS * 5 + "Token 1 takes")


def display_prose(notebook):
    insert_code(notebook, "text", [shown("text/markdown", WORDS * 5)])


def display_prose_as_html(notebook):
    insert_code(notebook, "text", [shown("text/html", f"<p>{WORDS * 5}</p>")])


def write_in_a_box(notebook):
    replace_in_prose(notebook, "## Weights", f":::{{note}}\n{WORDS * 5}\n:::\n\n## Weights")


def begin_with_words(notebook):
    insert_first(notebook, WORDS)


def fold_the_picture(notebook):
    insert_first(notebook, "one word " * 70)
    code_cells(notebook)[FIGURE].metadata.tags = ["hide-output"]


def draw_too_seldom(notebook):
    notebook.cells.append(nbformat.v4.new_markdown_cell("## More\n\n" + WORDS))


def write_a_long_cell(notebook):
    insert_code(notebook, "\n".join(f"x{i} = {i}" for i in range(26)))


def share_a_line(notebook):
    insert_code(notebook, "; ".join(f"x{i} = {i}" for i in range(26)))


def write_many_cells(notebook):
    for cell in range(6):
        insert_code(notebook, "\n".join(f"x{cell}_{i} = {i}" for i in range(21)))


def put_code_into_the_text(notebook):
    code = "\n".join(f"x{i} = {i}" for i in range(121))
    replace_in_prose(notebook, "## Weights", f"```python\n{code}\n```\n\n## Weights")


def print_much(notebook):
    insert_code(
        notebook,
        "for i in range(9):\n    text = f'{i}'\n    print(text)\n    assert text\nnp.testing.assert_equal(1, 1)",
    )


def write_wide(notebook):
    insert_code(notebook, f"x = {'1 + ' * 30}1")


def answer_openly(notebook):
    replace_in_prose(notebook, "## Weights", "## Weights\n\n*Predict first: which is largest?*")


def display_the_library(notebook):
    source = "```python\ndef attend(x):\n    return x\n```"
    insert_code(notebook, "show_source(attend)", [shown("text/markdown", source)])


def print_the_library(notebook):
    source = (ROOT / "attnlib" / "reference.py").read_text("utf-8")
    insert_code(notebook, "print(text)", [nbformat.v4.new_output("stream", name="stdout", text=source)])


def include_the_library(notebook):
    replace_in_prose(notebook, "## Weights", "```{literalinclude} ../attnlib/reference.py\n```\n\n## Weights")


def write_between_boxes(notebook):
    box = "```{note}\nA box.\n```\n\n"
    replace_in_prose(notebook, "Token 1 takes", f"{box}{WORDS * 5}\n\n{box}Token 1 takes")


def write_in_an_early_section_of_sources(notebook):
    replace_in_prose(notebook, "## Weights", f"## Sources\n\n{WORDS * 5}\n\n## Weights")


def write_raw_html(notebook):
    replace_in_prose(notebook, "## Weights", f"```{{raw}} html\n<p>{WORDS * 5}</p>\n```\n\n## Weights")


def display_prose_before_the_picture(notebook):
    insert_code(notebook, "text", [shown("text/markdown", WORDS)])


def remove_the_picture(notebook):
    insert_first(notebook, "one word " * 70)
    code_cells(notebook)[FIGURE].metadata.tags = ["remove-output"]


def put_a_code_block_into_the_text(notebook):
    code = "\n".join(f"x{i} = {i}" for i in range(121))
    replace_in_prose(notebook, "## Weights", f"```{{code-block}} text\n{code}\n```\n\n## Weights")


def indent_code_in_the_text(notebook):
    code = "\n".join(f"    x{i} = {i}" for i in range(121))
    replace_in_prose(notebook, "## Weights", f"Code:\n\n{code}\n\n## Weights")


def print_beside_a_magic(notebook):
    insert_code(notebook, "%matplotlib inline\n" + "\n".join(f"_ = print({i})" for i in range(12)))


def answer_after_an_import(notebook):
    answer_openly(notebook)
    notebook.cells.insert(-1, code_cells(notebook)[COMPUTE])
    place = notebook.cells.index(code_cells(notebook)[COMPUTE])
    hidden = nbformat.v4.new_code_cell(
        "import this", outputs=[shown("text/plain", "x")], metadata={"tags": ["remove-cell"]}
    )
    notebook.cells.insert(place, hidden)


CAUGHT = [
    (write_on, "words"),
    (display_prose, "words"),
    (display_prose_as_html, "words"),
    (write_in_a_box, "words"),
    (begin_with_words, "words before a picture"),
    (fold_the_picture, "words before a picture"),
    (draw_too_seldom, "words for each picture"),
    (write_a_long_cell, "lines in a cell"),
    (share_a_line, "lines in a cell"),
    (write_many_cells, "visible lines"),
    (put_code_into_the_text, "visible lines"),
    (print_much, "plumbing %"),
    (write_wide, "columns"),
    (answer_openly, "open predictions"),
    (display_the_library, "library lines"),
    (print_the_library, "library lines"),
    (include_the_library, "library lines"),
    (write_between_boxes, "words"),
    (write_in_an_early_section_of_sources, "words"),
    (write_raw_html, "words"),
    (display_prose_before_the_picture, "words before a picture"),
    (remove_the_picture, "words before a picture"),
    (put_a_code_block_into_the_text, "visible lines"),
    (indent_code_in_the_text, "visible lines"),
    (print_beside_a_magic, "plumbing %"),
    (answer_after_an_import, "open predictions"),
]


def solve_at_length(notebook):
    replace_in_prose(notebook, "The last weight,", WORDS * 5 + "The last weight,")


def hint_at_length(notebook):
    replace_in_prose(notebook, "Row 1 is", WORDS * 5 + "Row 1 is")


def estimate_at_length(notebook):
    replace_in_prose(notebook, "*Predict · easy", "*Predict · easy · 2 minutes*\n" * 800 + "*Predict · easy")


def cite_at_length(notebook):
    notebook.cells.append(nbformat.v4.new_markdown_cell(f"- {WORDS * 5}"))  # the last section is Sources


def fold_code(notebook):
    insert_code(notebook, "\n".join(f"print({i})" for i in range(200)), tags=["hide-input"])


def fold_the_answer(notebook):
    answer_openly(notebook)
    code_cells(notebook)[COMPUTE].metadata.tags = ["hide-output"]


def speak_of_prediction(notebook):
    replace_in_prose(notebook, "## Weights", "## Weights\n\nA model learns to predict the next token.")


def gate_a_solution(notebook):
    gate = "```{exercise} Another\n:label: ex-two\nDo it.\n```\n\n```{solution-start} ex-two\n:class: dropdown\n```"
    notebook.cells.insert(-1, nbformat.v4.new_markdown_cell(gate))
    notebook.cells.insert(-1, nbformat.v4.new_code_cell("\n".join(f"print({i})" for i in range(200))))
    notebook.cells.insert(-1, nbformat.v4.new_markdown_cell("```{solution-end}\n```"))


def display_a_table(notebook):
    insert_code(notebook, "frame", [shown("text/html", f"<table><tr><td>{WORDS * 5}</td></tr></table>")])


def test_every_limit_has_a_vandal():
    assert {name for _, name in CAUGHT} == set(LIMITS)


def test_a_good_chapter_is_inside_its_budget(good):
    assert problems_of_budget(good) == []


@pytest.mark.parametrize(("vandal", "name"), CAUGHT, ids=[vandal.__name__ for vandal, _ in CAUGHT])
def test_more_than_the_budget_is_caught(good, vandal, name):
    spoilt = deepcopy(good)
    vandal(spoilt)
    found = "\n".join(problems_of_budget(spoilt))
    assert f"{name}: {measure(spoilt).values[name]}, at most {LIMITS[name][0]}: {LIMITS[name][1]}" in found


@pytest.mark.parametrize(
    "change",
    [
        *(solve_at_length, hint_at_length, estimate_at_length, cite_at_length, fold_code, fold_the_answer),
        *(speak_of_prediction, gate_a_solution, display_a_table),
    ],
)
def test_what_is_not_met_at_first_is_not_counted(good, change):
    changed = deepcopy(good)
    change(changed)
    assert problems_of_budget(changed) == []


def test_the_message_names_the_longest_section(good):
    spoilt = deepcopy(good)
    write_on(spoilt)
    assert "Most: section Weights (15" in "\n".join(problems_of_budget(spoilt))
