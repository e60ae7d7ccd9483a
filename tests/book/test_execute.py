"""How chapters are run and stored: see tools/execute.py."""

import nbformat
import pytest

from tests.book.good_chapter import GOOD_TEXT, RAISES, code_cells
from tools.execute import notebook_of, read_text, run_chapter, stale_notebooks

HEADER = GOOD_TEXT.read_text("utf-8").partition("(good-chapter)=")[0]


@pytest.fixture
def book(tmp_path):
    """A book of one chapter, that has been run before."""
    text = tmp_path / "text" / "part" / "chapter.md"
    text.parent.mkdir(parents=True)
    text.write_text(HEADER + "```{code-cell} python3\nprint('one')\n```\n", "utf-8")
    stored = notebook_of(text, tmp_path)
    stored.parent.mkdir(parents=True)
    stored.write_text("as it was", "utf-8")
    return tmp_path, text, stored


def test_a_chapter_that_fails_keeps_its_notebook_and_says_why(book):
    root, text, stored = book
    text.write_text(text.read_text("utf-8") + "\n```{code-cell} python3\n1 / 0\n```\n", "utf-8")
    run = run_chapter(text, root)
    assert run.name == "part/chapter.md"
    assert "Code cell 2 of 2 failed" in run.failure
    assert "ZeroDivisionError: division by zero" in run.failure
    assert stored.read_text("utf-8") == "as it was"
    assert list(stored.parent.iterdir()) == [stored]


def test_a_chapter_that_runs_is_stored(book):
    root, text, stored = book
    assert run_chapter(text, root).failure == ""
    [cell] = nbformat.read(stored, as_version=4).cells
    assert cell.execution_count == 1
    assert cell.outputs[0].text == "one\n"


def test_a_notebook_without_a_text_is_named(book):
    root, text, stored = book
    assert stale_notebooks(root) == []
    text.unlink()
    assert stale_notebooks(root) == [stored]


def test_a_new_cell_leaves_the_ids_of_the_others_alone(tmp_path):
    before = [cell.id for cell in read_text(GOOD_TEXT).cells]
    longer = tmp_path / "longer.md"
    longer.write_text(GOOD_TEXT.read_text("utf-8") + "\n```{code-cell} python3\npass\n```\n", "utf-8")
    assert [cell.id for cell in read_text(longer).cells][: len(before)] == before
    assert len(set(before)) == len(before)


def test_what_is_stored_says_nothing_of_this_machine(good):
    assert good.metadata.language_info == {"name": "python"}
    assert all("execution" not in cell.metadata for cell in good.cells)
    [error] = code_cells(good)[RAISES].outputs
    assert not any("File" in part for part in error.traceback)
    assert "the weights are not equal" in error.traceback[-1]
