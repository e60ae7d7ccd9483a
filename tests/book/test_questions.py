"""What is asked of a page of questions: each way of breaking it is found, by name."""

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.book.questions import FEWEST_QUESTIONS, problems_of_questions, questions_of


def page(*questions, count=FEWEST_QUESTIONS):
    """Good questions, each with a link, and the given ones in their midst."""
    good = [f"(q-{number})=\n### Is it {number}?\n\nYes, see {{ref}}`paths`.\n\n" for number in range(count)]
    cells = [new_markdown_cell("# Questions\n\n## First\n\n" + "".join(good[:3]))]
    for question in questions:
        cells += question if isinstance(question, list) else [new_markdown_cell(question)]
    return new_notebook(cells=[*cells, new_markdown_cell("## Second\n\n" + "".join(good[3:]) + "## Sources\n\nNone.")])


def test_good_questions_have_no_problem():
    assert problems_of_questions(page()) == []
    experiment = [new_markdown_cell("(q-x)=\n### Is it so?\n\nYes."), new_code_cell("print(1)")]
    assert problems_of_questions(page(experiment)) == []


def test_a_question_has_its_label_title_and_cells():
    experiment = [new_markdown_cell("(q-x)=\n### Is it so?\n\nYes."), new_code_cell("print(1)")]
    found = {label: (title, [cell.source for cell in cells]) for label, title, cells in questions_of(page(experiment))}
    assert len(found) == FEWEST_QUESTIONS + 1
    assert found["q-x"] == ("Is it so?", ["### Is it so?\n\nYes.", "print(1)"])
    assert found["q-2"] == ("Is it 2?", ["### Is it 2?\n\nYes, see {ref}`paths`.\n\n"])
    assert "Sources" not in str(found)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("### Is it so?\n\nYes, see {ref}`paths`.", "no label"),
        ("(q-x)=\n### It is so\n\nYes, see {ref}`paths`.", "question mark"),
        ("(q-x)=\n### Is it so?\n\nYes.", "neither an experiment nor a link"),
        ("(q-1)=\n### Is it so?\n\nYes, see {ref}`paths`.", "two questions have the label q-1"),
        ("(q-x)=\n### Is it so?\n\nSee {ref}`paths`. " + "word " * 150, "words, at most 150"),
        ([new_markdown_cell("(q-x)=\n### Is it?\n\nYes."), new_code_cell("x = 1\n" * 26)], "26 visible lines"),
        ([new_markdown_cell("(q-x)=\n### Is it?\n\nYes."), new_code_cell(f"x = '{'x' * 83}'")], "89 columns"),
    ],
)
def test_a_broken_question_is_found(broken, said):
    problems = problems_of_questions(page(broken))
    assert len(problems) == 1
    assert said in problems[0]


def test_a_page_has_enough_questions():
    assert problems_of_questions(page(count=FEWEST_QUESTIONS - 1)) == ["19 questions, at least 20"]
