"""Numbers in the prose of the book: each one is bound to code, or is no claim about it."""

import nbformat
import pytest

from tests.book.unbound import problems_of_notebook, problems_of_page
from tools.execute import ROOT

CHAPTERS = ROOT / "chapters"


def documents(pattern):
    found = sorted(path for path in CHAPTERS.rglob(pattern) if ".ipynb_checkpoints" not in path.parts)
    return pytest.mark.parametrize("path", found, ids=lambda path: str(path.relative_to(CHAPTERS)))


@documents("*.ipynb")
def test_a_notebook_states_no_number_that_nothing_computes(path):
    problems = problems_of_notebook(nbformat.read(path, as_version=4))
    assert not problems, "\n".join(problems)


@documents("*.md")
def test_a_page_states_no_number(path):
    problems = problems_of_page(path.read_text("utf-8"))
    assert not problems, "\n".join(problems)
