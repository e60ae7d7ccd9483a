"""The learner's copies of the chapters: see tools/exercises.py."""

import re
import subprocess
import sys
from functools import cache

import jupytext
import nbformat
import pytest
from torch import nn

from attnlib.exercises import check, exercises
from tests.book.shape import problems_of_form
from tools.execute import execute, read_text, store, texts
from tools.exercises import (
    ANSWER,
    CHECK,
    KINDS,
    ROOT,
    asked_by,
    checks_of_the_book,
    copy_for,
    copy_of,
    functions,
    functions_asked_for,
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

*Write · easy · 2 minutes*

Write `half`.

```python
def half(x):
    \"\"\"Half of x.\"\"\"
    ...
```
````

```{hint}
:class: dropdown

Which operation undoes a product?
```

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

*Derive · medium · 5 minutes*

Say why `two` is there.
```

```{hint}
:class: dropdown

What is one half of one?
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


def page_of(text):
    return text.relative_to(ROOT / "text").with_suffix("").as_posix()


def part_of(text):
    return text.parent.name


chapter_of = cache(read_text)
WITH_EXERCISES = [text for text in texts() if "{exercise" in text.read_text("utf-8")]
PARTS = sorted({*map(part_of, WITH_EXERCISES)} - {"reference"})


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


def test_the_form_of_an_exercise_is_read():
    half, why = asked_by(jupytext.reads(CHAPTER, fmt="md:myst"))
    assert (half.kind, half.difficulty, half.minutes) == ("Write", "easy", 2)
    assert (why.kind, why.difficulty, why.minutes) == ("Derive", "medium", 5)
    assert half.hint == "Which operation undoes a product?"
    assert half.text.startswith("*Write · easy · 2 minutes*\n\nWrite `half`.")


@pytest.mark.parametrize("text", WITH_EXERCISES, ids=page_of)
def test_every_exercise_of_the_book_has_its_form(text):
    problems = problems_of_form(chapter_of(text))
    assert not problems, f"{page_of(text)}:\n" + "\n".join(problems)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_exercises_of_every_kind(part):
    pages = [text for text in WITH_EXERCISES if part_of(text) == part]
    kinds = {exercise.kind for text in pages for exercise in asked_by(chapter_of(text))}
    assert kinds == set(KINDS), f"{part} lacks {set(KINDS) - kinds}"


SPOILT = [
    ("*Write · easy · 2 minutes*\n\n", "", "ex-half: its first line is no"),
    ("Write · easy", "Write, easy", "ex-half: its first line is no"),
    ("easy · 2 minutes", "easy · 3 minutes", "ex-half: its first line is no"),
    ("Write · easy", "Code · easy", "ex-half: its first line is no"),
    ("Derive · medium", "Write · medium", "ex-why: an exercise of the kind Write has a stub"),
    ("*Write · easy", "*Derive · easy", "ex-half: an exercise of the kind Write has a stub"),
    ("Say why", '`check("softplus", f)`: say why', "ex-why: attnlib.exercises checks no softplus"),
    ("```{hint}\n:class: dropdown\n\nWhat is one half of one?\n```\n", "", "exercise, solution"),
    ("```{hint}\n:class: dropdown\n\nWhat is one half of one?\n```\n", "", "ex-why: no {hint} right below it"),
    ("```{hint}\n:class: dropdown\n\nWhat", "So it is.\n\n```{hint}\n:class: dropdown\n\nWhat", "ex-why: no {hint}"),
    ("```{hint}\n:class: dropdown\n\nWhat", "```{hint}\n\nWhat", "lacks `:class: dropdown`"),
    ("## Sources", "```{hint}\n:class: dropdown\n\nMore.\n```\n\n## Sources", "solution, hint"),
    ("```{exercise} Why two?", "```{exercise-start} Why two?", "exercise-start, hint"),
    ("Which operation", "Try `x / two`. Which operation", "ex-half: its hint gives the solution away: x / two"),
    ("What is one", "Because " * 50 + "what is one", "ex-why: its hint has 56 words, at most"),
]


@pytest.mark.parametrize(("said", "instead", "complaint"), SPOILT, ids=range(len(SPOILT)))
def test_a_form_that_is_spoilt_is_named(said, instead, complaint):
    good = jupytext.reads(CHAPTER, fmt="md:myst")
    assert problems_of_form(good) == []
    assert CHAPTER.count(said) == 1, said
    spoilt = jupytext.reads(CHAPTER.replace(said, instead), fmt="md:myst")
    assert complaint in "\n".join(problems_of_form(spoilt))


def states(copy, text):
    return {exercise.label: exercise.state for exercise in progress_of(copy, asked_by(read_text(text)))}


def test_a_copy_keeps_the_chapter_and_leaves_the_solutions_out(book):
    _, text = book
    copy = copy_of(read_text(text), CHECKS)
    whole = "\n".join(cell.source for cell in copy.cells)
    assert "secret" not in whole
    assert "x / two" not in whole
    assert "two = 2" in whole
    assert "### Half\n\n*Write · easy · 2 minutes*\n\nWrite `half`." in whole
    assert "<details><summary>Hint</summary>\n\nWhich operation undoes a product?\n\n</details>" in whole
    assert "{hint}" not in whole
    assert whole.endswith("## Sources\n\nNone.")
    assert cell_of(copy, ANSWER, "ex-half").source.startswith("def half(x):")
    assert "check(half)" in cell_of(copy, CHECK, "ex-half").source


@pytest.mark.parametrize("text", texts(), ids=lambda text: text.stem)
def test_no_solution_of_the_book_is_in_its_copy(text):
    chapter = chapter_of(text)
    copy = copy_of(chapter, checks_of_the_book())
    asked = [exercise.label for exercise in asked_by(chapter)]
    assert all(asked)
    assert [cell.metadata[ANSWER] for cell in copy.cells if ANSWER in cell.metadata] == asked
    prose = [cell.source for cell in copy.cells if cell.cell_type == "markdown"]
    assert not re.search(r"\{(?:solution|hint)", "".join(prose))
    assert [cell for cell in prose if len(re.findall(r"^```", cell, re.MULTILINE)) % 2] == [], "a fence is left open"
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
    copies = [copy_of(chapter_of(text), checks) for text in texts()]
    assert {cell.metadata[CHECK] for copy in copies for cell in copy.cells if CHECK in cell.metadata} == set(checks)


def test_what_somebody_wrote_stays(book):
    root, text = book
    made = copy_for(text, root)
    assert make(root) == [root / "my-exercises" / "functions.ipynb", made]
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
    assert sum(exercise.minutes for exercise in progress_of(copy, asked_by(read_text(text)))) == 0
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
    make(root)
    made = copy_for(text, root)
    text.write_text(CHAPTER.replace("ex-why", "ex-because").replace("sol-why", "sol-because"), encoding="utf-8")
    assert any(line.endswith("1 open, 1 new · 7 minutes") for line in report(root))
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


def test_the_functions_are_asked_for_and_a_right_one_is_done():
    notebook = functions()
    assert {cell.metadata[ANSWER] for cell in notebook.cells if ANSWER in cell.metadata} == set(exercises)
    answers = {"softmax": "def softmax(scores):\n    return torch.as_tensor(scores).softmax(-1)"}
    answers["softmax_backward"] = "def softmax_backward(weights, grad):\n    return weights * grad"
    kept = list(notebook.cells[:2])
    for name, answer in answers.items():
        cell_of(notebook, ANSWER, name).source = answer
        kept += [cell_of(notebook, ANSWER, name), cell_of(notebook, CHECK, name)]
    notebook.cells = kept
    execute(notebook, folder=ROOT)
    found = {exercise.label: exercise.state for exercise in progress_of(notebook, functions_asked_for())}
    assert found["softmax"] == "done"
    assert found["softmax_backward"] == "written"
    assert found["rotary"] == "new"


@pytest.mark.parametrize("name", exercises)
def test_a_stub_is_python_that_is_left_open(name):
    task = exercises[name]
    names = {"nn": nn}
    exec(task.stub, names)
    assert name in names
    assert "..." in task.stub
    assert not check(name, names[name]).passed


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
