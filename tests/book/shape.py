"""The shape that every chapter has: see `The shape of a chapter` in CONTRIBUTING.md."""

from dataclasses import dataclass
from itertools import pairwise

from nbformat import NotebookNode

from tests.book.prose import Directive, parser, read

OPENING = ["The question", "What you need"]
CLOSING = ["What people get wrong", "What you now know", "Exercises", "Sources"]


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
    sources = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    parts = (part for source in sources for part in read(source))
    return [part for part in parts if isinstance(part, Directive) and part.name in (name, f"{name}-start")]


def _is_folded(directive: Directive) -> bool:
    return "dropdown" in directive.options.get("class", "").split()


def _beginning(directive: Directive) -> str:
    return directive.argument or directive.body.strip()[:60]
