"""Notebooks to write in: my-exercises/ gets a copy of each chapter that has exercises, without its solutions.

    .venv/bin/python tools/exercises.py     make what is missing, then list what is done and what is open

Under each exercise is a cell for the answer, with the stub where a function is to be written, and then a cell that
checks it. One notebook more, functions.ipynb, asks for what the book builds, from softmax to greedy search, and its
checks name the mistake. A notebook that is there is its writer's: it is read, and never written to.
"""

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # run as a file: a checkout's tools are not installed

from attnlib.exercises import exercises  # noqa: E402
from tools.execute import notebook_of, read_text, store, texts  # noqa: E402

FOLDER = "my-exercises"
ANSWER, CHECK = "exercise", "checks"  # the keys under which a cell says whose it is
OPEN = "# Your answer\n"
FUNCTIONS = "functions.ipynb"
RIGHT = "right"

EXERCISE = re.compile(
    r"^(?P<fence>`{3,})\{exercise\}(?P<title>.*)\n(?P<body>(?:.*\n)*?)(?P=fence)[ \t]*$"
    r"(?:\s*^(?P<tick>`{3,})\{hint\}.*\n(?P<hint>(?:.*\n)*?)(?P=tick)[ \t]*$)?",
    re.MULTILINE,
)
# The first line of an exercise, in italics: what is done, how hard it is, how long it takes who has read the page.
FORM = re.compile(
    r"^\*(Predict|Write|Break it|Measure|Derive) · (easy|medium|hard) · (2|5|10|15|20|30) minutes\*$", re.MULTILINE
)
KINDS = ("Predict", "Write", "Break it", "Measure", "Derive")
SOLUTION = re.compile(r"^(?P<fence>`{3,})\{solution\}.*\n(?:.*\n)*?(?P=fence)[ \t]*$", re.MULTILINE)
GATE = re.compile(r"^(?P<fence>`{3,})\{solution-(?P<which>start|end)\}.*\n(?:.*\n)*?(?P=fence)[ \t]*$", re.MULTILINE)
OPTION = re.compile(r"^:(\w+):[ \t]*(.*)\n", re.MULTILINE)
STUB = re.compile(r"^```python\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Exercise:
    """What a chapter asks."""

    label: str
    title: str
    text: str  # as the chapter has it, the stub too
    stub: str  # "" where no function is asked for
    hint: str
    kind: str  # one of KINDS
    difficulty: str
    minutes: int


@dataclass(frozen=True)
class Progress:
    """How far one exercise is: done (its check ran, and it is right), written, or open."""

    label: str
    title: str
    state: str
    minutes: int  # that are left


def exercises_of(source: str) -> list[Exercise]:
    """The exercises of a Markdown cell, in their order.

    >>> body = "*Predict · easy · 2 minutes*\\n\\nWhat is twice two?"
    >>> hint = "```{hint}\\n:class: dropdown\\n\\nAdd.\\n```"
    >>> [found] = exercises_of(f"```{{exercise}} Twice\\n:label: ex-twice\\n\\n{body}\\n```\\n\\n{hint}")
    >>> found.label, found.title, found.kind, found.difficulty, found.minutes, found.hint
    ('ex-twice', 'Twice', 'Predict', 'easy', 2, 'Add.')
    >>> print(found.text)
    *Predict · easy · 2 minutes*
    <BLANKLINE>
    What is twice two?
    """
    return [_exercise(match) for match in EXERCISE.finditer(source)]


def _exercise(match: re.Match) -> Exercise:
    body = match["body"]
    options = dict(OPTION.findall(body))
    text = OPTION.sub("", body).strip()
    stub = next((block for block in STUB.findall(text) if is_left_open(block)), "")
    hint = OPTION.sub("", match["hint"] or "").strip()
    kind, difficulty, minutes = form.groups() if (form := FORM.match(text)) else ("", "", 0)
    title = match["title"].strip() or "Exercise"
    return Exercise(options.get("label", ""), title, text, stub.strip(), hint, kind, difficulty, int(minutes))


def is_left_open(block: str) -> bool:
    """Whether a block of code defines something whose body is an ellipsis, left to the reader."""
    values = (node.value for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Expr))
    return any(isinstance(value, ast.Constant) and value.value is ... for value in values)


# The copy


def copy_of(notebook: NotebookNode, checks: dict[str, tuple[str, str]]) -> NotebookNode:
    """The chapter without outputs and solutions, with room for an answer under each exercise.

    Args:
        notebook: the chapter, as :func:`tools.execute.read_text` gives it.
        checks: of a label, the module that checks the answer and the name that it looks at.
    """
    cells: list[NotebookNode] = []
    hidden = False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if not hidden:
                cells.append(new_code_cell(cell.source))
            continue
        shown, hidden = _without_solutions(cell.source, hidden)
        cells += _with_answers(shown, checks)
    if any(CHECK in cell.metadata for cell in cells):
        cells.insert(0, new_code_cell(f"import sys\n\nsys.path.append({str(ROOT)!r})  # for the checks"))
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def _without_solutions(source: str, hidden: bool) -> tuple[str, bool]:
    """What is left of a Markdown cell, and whether it ends inside a solution."""
    shown, start = [], 0
    for gate in GATE.finditer(source):
        if not hidden:
            shown.append(source[start : gate.start()])
        hidden, start = gate["which"] == "start", gate.end()
    if not hidden:
        shown.append(source[start:])
    return SOLUTION.sub("", "".join(shown)), hidden


def _with_answers(source: str, checks: dict[str, tuple[str, str]]) -> Iterator[NotebookNode]:
    start = 0
    for match in EXERCISE.finditer(source):
        if before := source[start : match.start()].strip():
            yield new_markdown_cell(before)
        exercise, start = _exercise(match), match.end()
        hint = f"\n\n<details><summary>Hint</summary>\n\n{exercise.hint}\n\n</details>" if exercise.hint else ""
        yield new_markdown_cell(f"### {exercise.title}\n\n{exercise.text}{hint}")
        yield new_code_cell(f"{exercise.stub}\n" if exercise.stub else OPEN, metadata={ANSWER: exercise.label})
        if exercise.label in checks:
            module, name = checks[exercise.label]
            code = f"from {module} import check\n\ncheck({name})\nprint({RIGHT!r})"
            yield new_code_cell(code, metadata={CHECK: exercise.label})
    if after := source[start:].strip():
        yield new_markdown_cell(after)


def functions_asked_for() -> list[Exercise]:
    """The functions that ``attnlib.exercises.check`` checks, as exercises."""
    return [
        Exercise(name, name, task.text, task.stub, "", "Write", "", task.minutes) for name, task in exercises.items()
    ]


def functions() -> NotebookNode:
    """The notebook of what ``attnlib.exercises.check`` checks."""
    cells = [
        new_markdown_cell("# Write it yourself\n\nEach check runs your function apart, and names the mistake in it."),
        new_code_cell("import numpy as np\nimport torch\nfrom torch import nn\n\nfrom attnlib.exercises import check"),
    ]
    for name, task in exercises.items():
        told = f"{task.text}\n\nAbout {task.minutes} minutes. In the book: {task.link}"
        cells += [
            new_markdown_cell(f"### {name}\n\n{told}"),
            new_code_cell(task.stub, metadata={ANSWER: name}),
            new_code_cell(f'print(check("{name}", {name}).message)', metadata={CHECK: name}),
        ]
    return nbformat.v4.new_notebook(cells=cells)


# Progress


def progress_of(written: NotebookNode, asked: list[Exercise]) -> list[Progress]:
    """How far each exercise is in somebody's notebook; what the notebook lacks is new."""
    answers = {cell.metadata[ANSWER]: cell for cell in written.cells if ANSWER in cell.metadata}
    checked = {cell.metadata[CHECK]: cell for cell in written.cells if CHECK in cell.metadata}
    found = []
    for exercise in asked:
        state = "new"
        if answer := answers.get(exercise.label):
            untouched = answer.source.strip() in (exercise.stub, OPEN.strip(), "")
            state = "open" if untouched else "written"
            if state == "written" and _passed(checked.get(exercise.label)):
                state = "done"
        minutes = exercise.minutes if state in ("open", "new") else 0
        found.append(Progress(exercise.label, exercise.title, state, minutes))
    return found


def asked_by(chapter: NotebookNode) -> list[Exercise]:
    """The exercises of a chapter."""
    sources = [cell.source for cell in chapter.cells if cell.cell_type == "markdown"]
    return [exercise for source in sources for exercise in exercises_of(source)]


def _passed(cell: NotebookNode | None) -> bool:
    """Whether the check's own cell says so: it ran, and came to its last line."""
    outputs = cell.outputs if cell else []
    if any(output.output_type != "stream" for output in outputs):
        return False
    said = "".join(output.text for output in outputs)
    return said.split()[-1:] == [RIGHT] or said.startswith("Right.")


# The command


def checks_of_the_book() -> dict[str, tuple[str, str]]:
    """Of each exercise to write: the module of tests/book/written that checks it, and the name of the function."""
    found = {}
    for path in sorted((ROOT / "tests" / "book" / "written").glob("[!_]*.py")):
        constants = {
            node.targets[0].id: node.value.value
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        }
        found[constants["LABEL"]] = (f"tests.book.written.{path.stem}", constants["NAME"])
    return found


def notebooks(root: Path) -> Iterator[tuple[Path, list[Exercise], Callable[[], NotebookNode]]]:
    """Where each notebook is, what it asks, and how it is made."""
    yield root / FOLDER / FUNCTIONS, functions_asked_for(), functions
    checks = checks_of_the_book()
    for text in texts(root):
        chapter = read_text(text)
        if asked := asked_by(chapter):
            yield copy_for(text, root), asked, partial(copy_of, chapter, checks)


def copy_for(text: Path, root: Path = ROOT) -> Path:
    """Where the copy of a chapter is written."""
    return root / FOLDER / notebook_of(text, root).relative_to(root / "chapters")


def make(root: Path = ROOT) -> list[Path]:
    """Make the notebooks that are missing, and return them."""
    made = []
    for path, _, new in notebooks(root):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            store(new(), path)
            made.append(path)
    return made


def report(root: Path = ROOT) -> list[str]:
    """A line for each notebook, with the minutes that its open exercises take, and one for each that is not open."""
    lines, all_found = [], []
    for path, asked, _ in notebooks(root):
        name = path.relative_to(root).as_posix()
        try:
            found = progress_of(nbformat.read(path, as_version=4), asked)
        except (OSError, ValueError, nbformat.validator.NotebookValidationError, nbformat.reader.NotJSONError) as error:
            lines.append(f"{name:48} cannot be read: {str(error).splitlines()[0]}")
            continue
        all_found += found
        lines.append(f"{name:48} {_counted(found)}")
        lines += [f"    {exercise.state:8} {exercise.title}" for exercise in found if exercise.state != "open"]
    return [*lines, "", f"{len(all_found)} exercises: {_counted(all_found)}"]


def _counted(found: list[Progress]) -> str:
    states = [exercise.state for exercise in found]
    counts = [f"{states.count(state)} {state}" for state in ("done", "written", "open", "new") if state in states]
    left = sum(exercise.minutes for exercise in found)
    return ", ".join(counts) + (f" · {left} minutes" if left else "")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    made = make()
    print("\n".join(report()))
    if made:
        print(f"Made {len(made)} notebooks. To open them: .venv/bin/python -m jupyterlab {FOLDER}")
    else:
        print(f"All notebooks were there, and stay as they are. One that is deleted is made anew: {FOLDER}/")
    print("done: its check ran and found it right · written: there is an answer, and no check that passed")
    print("new: the chapter asks it, and your copy is older; rename the copy to get a fresh one beside it")
    print("minutes: what is open or new takes somebody who has read the page, about")


if __name__ == "__main__":
    main()
