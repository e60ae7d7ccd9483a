"""The shape that every chapter has: see `The shape of a chapter` in CONTRIBUTING.md."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from nbformat import NotebookNode

from attnlib.exercises import exercises
from tests.book.prose import Directive, parser, read
from tools.exercises import Exercise, asked_by

OPENING = ["The question", "What you need"]
CLOSING = ["What people get wrong", "What you now know", "Exercises", "Sources"]
THREE = ["exercise", "hint", "solution"]
LONGEST_HINT = 45  # words
CODE_SPAN = re.compile(r"`([^`]+)`")
SAYS_MORE_THAN_A_NAME = re.compile(r"\w[(\[]|[=<>@*/+~]")
CONTRACT = re.compile(r'`check\("(\w+)"')  # what attnlib.exercises is asked to check


@dataclass
class Heading:
    level: int
    title: str
    cell: int


def problems_of_shape(notebook: NotebookNode) -> list[str]:
    """Where a chapter departs from the shape that readers come to expect."""
    headings = headings_of(notebook)
    return [
        *_problems_of_title(headings),
        *_problems_of_sections([heading.title for heading in headings if heading.level == 2]),
        *_problems_of_mistakes_shown(notebook, headings),
        *problems_of_exercises(notebook),
    ]


def headings_of(notebook: NotebookNode) -> list[Heading]:
    """The headings of a notebook; those inside directives structure a box, not the chapter."""
    headings = []
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            tokens = parser().parse(cell.source)
            for token, inside in pairwise(tokens):
                if token.type == "heading_open" and token.level == 0:
                    headings.append(Heading(int(token.tag[1]), inside.content.strip(), place))
    return headings


def _problems_of_title(headings: list[Heading]) -> list[str]:
    titles = [heading.title for heading in headings if heading.level == 1]
    if len(titles) != 1:
        return [f"a chapter has one # title, this one has {len(titles)}: {titles}"]
    return [] if headings[0].level == 1 else ["the # title does not come first"]


def _problems_of_sections(sections: list[str]) -> list[str]:
    middle = sections[len(OPENING) : -len(CLOSING)]
    right = sections[: len(OPENING)] == OPENING and sections[-len(CLOSING) :] == CLOSING and bool(middle)
    if right:
        return []
    wanted = " · ".join([*OPENING, "(the idea and the code)", *CLOSING])
    return [f"the ## sections are\n    {' · '.join(sections) or 'none'}\n  and should be\n    {wanted}"]


def _problems_of_mistakes_shown(notebook: NotebookNode, headings: list[Heading]) -> list[str]:
    """A mistake is shown failing, so its section runs code."""
    sections = [heading for heading in headings if heading.level <= 2]
    for heading, following in pairwise(sections):
        if heading.title == CLOSING[0]:
            shown = notebook.cells[heading.cell : following.cell]
            if not any(cell.cell_type == "code" for cell in shown):
                return [f"{CLOSING[0]!r} only tells: show it failing, in a cell"]
    return []


def problems_of_exercises(notebook: NotebookNode) -> list[str]:
    """Exercises without a folded solution, and solutions without an exercise."""
    exercises = _directives(notebook, "exercise")
    solutions = _directives(notebook, "solution")
    labels = [exercise.options.get("label", "") for exercise in exercises]
    solved = [solution.argument for solution in solutions]
    return [
        *(["no {exercise}"] if not exercises else []),
        *(f"an exercise has no :label:: {_beginning(part)}" for part in exercises if not part.options.get("label")),
        *(f"the exercise {label} has no solution" for label in labels if label and label not in solved),
        *(f"the solution of {label} belongs to no exercise" for label in solved if label not in labels),
        *(f"the solution of {part.argument} lacks `:class: dropdown`" for part in solutions if not _is_folded(part)),
    ]


def _directives(notebook: NotebookNode, name: str) -> list[Directive]:
    """The directives of a name, and the gates that open one around code cells."""
    return [part for part in _parts(notebook) if part.name in (name, f"{name}-start")]


def _parts(notebook: NotebookNode) -> list[Directive]:
    """The directives of a page, in their order."""
    return [part for cell in notebook.cells if cell.cell_type == "markdown" for part in _parts_of(cell)]


def _parts_of(cell: NotebookNode) -> list[Directive]:
    return [part for part in read(cell.source) if isinstance(part, Directive)]


def _is_folded(directive: Directive) -> bool:
    return "dropdown" in directive.options.get("class", "").split()


def _beginning(directive: Directive) -> str:
    return directive.argument or directive.body.strip()[:60]


# The form of an exercise: see `An exercise` in CONTRIBUTING.md


def problems_of_form(notebook: NotebookNode) -> list[str]:
    """Where an exercise does not say what it takes, has no hint before its solution, or asks what its kind does not."""
    solutions = _code_of_solutions(notebook)
    hints = _directives(notebook, "hint")
    # A gate before an exercise would be one, too: its copy would have no place for an answer.
    parts = [part for part in _parts(notebook) if part.name.startswith(("exercise", "hint", "solution"))]
    order = [part.name for part in parts if part.name != "solution-end"]
    whole = [name.replace("solution-start", "solution") for name in order] == THREE * (len(order) // 3)
    return [
        *([] if whole else [f"after an {{exercise}} come its {{hint}} and its solution; here {', '.join(order)}"]),
        *(f"the hint lacks `:class: dropdown`: {_beginning(part)}" for part in hints if not _is_folded(part)),
        *(
            f"{exercise.label}: {problem}"
            for exercise in asked_by(notebook)
            for problem in _problems_of_exercise(exercise, solutions)
        ),
    ]


def _problems_of_exercise(exercise: Exercise, solutions: str) -> Iterator[str]:
    if not exercise.kind:
        yield "its first line is no *Kind · difficulty · minutes minutes*, as in *Write · medium · 10 minutes*"
    if not exercise.hint:
        yield "no {hint} right below it"
    if len(exercise.hint.split()) > LONGEST_HINT:
        yield f"its hint has {len(exercise.hint.split())} words, at most {LONGEST_HINT}: it names the next step"
    if "```" in exercise.hint:
        yield "its hint shows code"
    for told in CODE_SPAN.findall(exercise.hint):
        if SAYS_MORE_THAN_A_NAME.search(told) and _packed(told) in solutions:
            yield f"its hint gives the solution away: {told}"
    contract = CONTRACT.search(exercise.text)
    if contract and contract[1] not in exercises:
        yield f"attnlib.exercises checks no {contract[1]}"
    if (exercise.kind == "Write") != bool(exercise.stub or contract):
        yield "an exercise of the kind Write has a stub, or names what attnlib.exercises checks, and no other has"


def _code_of_solutions(notebook: NotebookNode) -> str:
    """All code in the solutions of a page, without its spaces."""
    code, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            code += [cell.source] if inside else []
            continue
        for part in _parts_of(cell):
            if part.name in ("solution-start", "solution-end"):
                inside = part.name == "solution-start"
            elif part.name == "solution":
                code.append(part.body)
    return _packed("\n".join(code))


def _packed(code: str) -> str:
    return re.sub(r"\s", "", code)
