"""What every stored notebook of the book must hold; running them is left to nbval (see tests/book/notebooks.py)."""

from pathlib import Path

import nbformat
import pytest
import yaml

from tests.book.budget import as_notebook, problems_of_budget
from tests.book.figures import problems_of_figures, repeated_names
from tests.book.questions import PAGES, problems_of_questions
from tests.book.shape import problems_of_shape
from tests.book.stored import problems_of_counts, problems_of_outputs, problems_of_tags, problems_of_twin
from tools.execute import ROOT, documents, notebook_of, stale_notebooks, texts

GUARDS = [problems_of_counts, problems_of_outputs, problems_of_tags, problems_of_figures]


def name(text: Path) -> str:
    return str(text.relative_to(ROOT / "text").with_suffix(""))


def notebook(text: Path) -> nbformat.NotebookNode:
    return nbformat.read(notebook_of(text), as_version=4)


def is_chapter(text: Path) -> bool:
    """Whether a text teaches: it lies in the folder of a part, `2_algorithm`; the others welcome, or are looked up."""
    return text.parent.name[0].isdigit()


def is_questions(text: Path) -> bool:
    """Whether a text is a page of questions or exhibits, whose shape and budget are those of each."""
    return text.stem in PAGES


every_notebook = pytest.mark.parametrize("text", texts(), ids=name)
every_chapter = pytest.mark.parametrize(
    "text", [text for text in texts() if is_chapter(text) and not is_questions(text)], ids=name
)


@every_notebook
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.__name__.removeprefix("problems_of_"))
def test_a_notebook_is_as_it_should_be(text, guard):
    problems = guard(notebook(text))
    assert not problems, f"{name(text)}:\n" + "\n".join(problems)


@every_chapter
def test_a_chapter_has_its_shape(text):
    problems = problems_of_shape(notebook(text))
    assert not problems, f"{name(text)}:\n" + "\n".join(problems)


@every_chapter
def test_a_page_keeps_its_budget(text):
    problems = problems_of_budget(notebook(text))
    assert not problems, f"{name(text)}:\n" + "\n".join(problems)


@pytest.mark.parametrize("text", list(filter(is_questions, texts())), ids=name)
def test_each_question_of_a_page_of_questions_stands_alone(text):
    problems = problems_of_questions(notebook(text), PAGES[text.stem])
    assert not problems, f"{name(text)}:\n" + "\n".join(problems)


def test_every_page_of_questions_is_there():
    assert {text.stem for text in texts()} >= set(PAGES)


def test_a_page_without_code_keeps_its_budget_too():
    pages = [page for page in documents(ROOT / "chapters", "*.md") if page.parent.name[0].isdigit()]
    problems = {page.name: problems_of_budget(as_notebook(page.read_text("utf-8"))) for page in pages}
    assert not any(problems.values()), problems


def test_the_first_page_keeps_its_budget():
    assert problems_of_budget(notebook(ROOT / "text" / "index.md")) == []


@every_notebook
def test_a_notebook_says_what_its_text_says(text):
    problems = problems_of_twin(text, notebook(text))
    assert not problems, "\n".join(problems)


def test_every_notebook_has_a_text():
    assert stale_notebooks() == []


def test_every_chapter_is_in_the_contents():
    """A page that the contents leave out would be built by nobody, and missed by no other test."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    listed = {contents["root"], *(chapter["file"] for part in contents["parts"] for chapter in part["chapters"])}
    written = [path for kind in ("*.ipynb", "*.md") for path in documents(ROOT / "chapters", kind)]
    assert {str(path.relative_to(ROOT).with_suffix("")) for path in written} == listed


def test_no_two_figures_share_a_name():
    assert repeated_names(notebook(text) for text in texts()) == []
