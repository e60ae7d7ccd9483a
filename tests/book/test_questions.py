"""What is asked of a page of questions: each way of breaking it is found, by name."""

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.book.questions import FEWEST, problems_of_questions, questions_of


def page(*questions, count=FEWEST["question"]):
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
    assert len(found) == FEWEST["question"] + 1
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
    assert problems_of_questions(page(count=FEWEST["question"] - 1)) == ["19 questions, at least 20"]


def museum(symptom="| NaN | {ref}`m-x` |", drawn=True, folded=False):
    """As many exhibits as a museum needs, one of them as given."""
    drawing = [new_output("display_data", {"image/svg+xml": "<svg/>"})]
    cells = []
    for number in ["x", *range(FEWEST["exhibit"] - 1)]:
        given = number == "x"
        picture = new_code_cell("draw()", outputs=drawing if drawn or not given else [])
        picture.metadata.tags = ["hide-input"]
        test = new_code_cell("test()")
        test.metadata.tags = ["hide-input"] if folded and given else []
        cells += [new_markdown_cell(f"(m-{number})=\n### A mistake\n\nIt is one."), picture, test]
    table = "".join(f"| {number} | {{ref}}`m-{number}` |\n" for number in range(FEWEST["exhibit"] - 1))
    return new_notebook(cells=[new_markdown_cell(f"# A museum\n\n{table}{symptom}"), *cells])


def test_a_good_museum_has_no_problem():
    assert problems_of_questions(museum(), "exhibit") == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"symptom": "See {ref}`m-x`."}, "no row of the table of symptoms"),
        ({"drawn": False}, "no picture"),
        ({"folded": True}, "no test in the open"),
    ],
)
def test_a_broken_exhibit_is_found(broken, said):
    problems = problems_of_questions(museum(**broken), "exhibit")
    assert len(problems) == 1
    assert said in problems[0]


def test_a_museum_has_enough_exhibits():
    page = museum()
    page.cells = page.cells[:-3]
    assert problems_of_questions(page, "exhibit") == ["15 exhibits, at least 16"]
