"""The learner's copies of the chapters: see tools/exercises.py."""

import subprocess
import sys

import nbformat
import pytest

from tools.execute import execute, read_text, store, texts
from tools.exercises import (
    ANSWER,
    CHECK,
    ROOT,
    checks_of_the_book,
    copy_for,
    copy_of,
    exercises_of,
    make,
    progress_of,
    report,
)

CHAPTER = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# Halves

```{code-cell} python3
two = 2
```

## Exercises

````{exercise} Half
:label: ex-half

Write `half`.

```python
def half(x):
    \"\"\"Half of x.\"\"\"
    ...
```
````

```{solution-start} ex-half
:label: sol-half
:class: dropdown
```

The secret is division.

```{code-cell} python3
def half(x):
    return x / two
```

```{solution-end}
```

```{exercise} Why two?
:label: ex-why

Say why `two` is there.
```

```{solution} ex-why
:label: sol-why
:class: dropdown

A secret reason.
```

## Sources

None.
"""
CHECKS = {"ex-half": ("halves_check", "half")}


@pytest.fixture
def book(tmp_path):
    """A book of one chapter."""
    text = tmp_path / "text" / "part" / "halves.md"
    text.parent.mkdir(parents=True)
    text.write_text(CHAPTER, encoding="utf-8")
    return tmp_path, text


def cell_of(copy, key, label):
    [cell] = [cell for cell in copy.cells if cell.metadata.get(key) == label]
    return cell


def states(copy, text):
    return {exercise.label: exercise.state for exercise in progress_of(copy, read_text(text))}


def test_a_copy_keeps_the_chapter_and_leaves_the_solutions_out(book):
    _, text = book
    copy = copy_of(read_text(text), CHECKS)
    whole = "\n".join(cell.source for cell in copy.cells)
    assert "secret" not in whole
    assert "x / two" not in whole
    assert "two = 2" in whole
    assert "### Half\n\nWrite `half`." in whole
    assert whole.endswith("## Sources\n\nNone.")
    assert cell_of(copy, ANSWER, "ex-half").source.startswith("def half(x):")
    assert "check(half)" in cell_of(copy, CHECK, "ex-half").source


@pytest.mark.parametrize("text", texts(), ids=lambda text: text.stem)
def test_no_solution_of_the_book_is_in_its_copy(text):
    chapter = read_text(text)
    copy = copy_of(chapter, checks_of_the_book())
    asked = [e.label for cell in chapter.cells if cell.cell_type == "markdown" for e in exercises_of(cell.source)]
    assert all(asked)
    assert [cell.metadata[ANSWER] for cell in copy.cells if ANSWER in cell.metadata] == asked
    assert "{solution" not in "".join(cell.source for cell in copy.cells)
    inside, code = False, []
    for cell in chapter.cells:
        if cell.cell_type == "markdown":
            inside = "{solution-start}" in cell.source.rpartition("{solution-end}")[2]
        elif inside:
            code.append(cell.source)
    kept = {cell.source for cell in copy.cells if cell.cell_type == "code"}
    assert not kept & set(code)


def test_every_exercise_with_a_check_gets_it():
    checks = checks_of_the_book()
    copies = [copy_of(read_text(text), checks) for text in texts()]
    assert {cell.metadata[CHECK] for copy in copies for cell in copy.cells if CHECK in cell.metadata} == set(checks)


def test_what_somebody_wrote_stays(book):
    root, text = book
    [made] = make(root)
    assert made == copy_for(text, root)
    copy = nbformat.read(made, as_version=4)
    cell_of(copy, ANSWER, "ex-why").source = "# because halves are two"
    store(copy, made)
    before = made.read_bytes()
    text.write_text(CHAPTER.replace("Say why", "Say quickly why"), encoding="utf-8")
    assert make(root) == []
    assert made.read_bytes() == before


def test_progress_open_written_done(book):
    _, text = book
    copy = copy_of(read_text(text), CHECKS)
    assert states(copy, text) == {"ex-half": "open", "ex-why": "open"}
    cell_of(copy, ANSWER, "ex-half").source = "def half(x):\n    return x // 2"
    cell_of(copy, ANSWER, "ex-why").source = "# because"
    assert states(copy, text) == {"ex-half": "written", "ex-why": "written"}
    check = cell_of(copy, CHECK, "ex-half")
    check.outputs = [nbformat.v4.new_output("error", ename="AssertionError", evalue="right", traceback=[])]
    assert states(copy, text)["ex-half"] == "written"
    check.outputs = [nbformat.v4.new_output("stream", text="not right at all, but\nright\n")]
    assert states(copy, text)["ex-half"] == "done"


def test_a_check_that_passed_before_the_answer_was_taken_back_counts_no_more(book):
    _, text = book
    copy = copy_of(read_text(text), CHECKS)
    cell_of(copy, CHECK, "ex-half").outputs = [nbformat.v4.new_output("stream", text="right\n")]
    assert states(copy, text)["ex-half"] == "open"


def test_an_exercise_that_came_later_is_new_and_a_broken_copy_is_told(book):
    root, text = book
    [made] = make(root)
    text.write_text(CHAPTER.replace("ex-why", "ex-because").replace("sol-why", "sol-because"), encoding="utf-8")
    assert any("1 open, 1 new" in line for line in report(root))
    made.write_text("{", encoding="utf-8")
    assert any("cannot be read" in line for line in report(root))


def test_a_solved_copy_of_a_chapter_runs_and_is_done():
    """The chapter on softmax, with its own solution as somebody's answer, from top to bottom."""
    text = ROOT / "text" / "2_algorithm" / "softmax.md"
    chapter = read_text(text)
    copy = copy_of(chapter, checks_of_the_book())
    [solution] = [cell.source for cell in chapter.cells if cell.source.startswith("def softmax_at(")]
    cell_of(copy, ANSWER, "ex-softmax-write").source = solution
    execute(copy, folder=ROOT)
    assert states(copy, text)["ex-softmax-write"] == "done"


def test_the_command_lists_what_is_open(tmp_path):
    """From anywhere, as `make exercises` calls it; what it makes is ignored by git."""
    help_text = subprocess.run(
        [sys.executable, ROOT / "tools" / "exercises.py", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "never written to" in help_text
    assert "my-exercises/" in (ROOT / ".gitignore").read_text().split()
