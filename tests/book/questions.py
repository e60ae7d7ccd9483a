"""A page of questions, or of exhibits: each stands alone and says where it was measured; the budget is each one's."""

import re
from collections.abc import Iterator

from nbformat import NotebookNode

from tests.book.budget import FOLDED_CODE, measure
from tests.book.drawings import drawings
from tests.book.stored import tags

FEWEST = {"question": 20, "exhibit": 16}
LIMITS = {"words": 150, "visible lines": 25, "columns": 88, "library lines": 0}
PAGES = {"faq": "question", "museum_of_bugs": "exhibit"}  # where the budget is each one's
LABEL = re.compile(r"\(([\w-]+)\)=\s*\Z")


def problems_of_questions(notebook: NotebookNode, kind: str = "question") -> list[str]:
    """Where a page of questions, or of exhibits, is not as readers need it."""
    found = list(questions_of(notebook))
    problems = [f"{len(found)} {kind}s, at least {FEWEST[kind]}"] if len(found) < FEWEST[kind] else []
    labels = [label for label, _, _ in found]
    twice = [label for label in dict.fromkeys(labels) if label and labels.count(label) > 1]
    problems += [f"two {kind}s have the label {label}" for label in twice]
    if kind == "exhibit":
        problems += _problems_of_exhibits(notebook, found)
    for label, title, cells in found:
        if not label:
            problems.append(f"{title!r}: no label stands before it, so no page can link to it")
        if kind == "question" and not title.endswith("?"):
            problems.append(f"{title!r} does not end with a question mark")
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        if not re.search(r"\{(?:ref|cite:\w)\}`", prose) and not any(cell.cell_type == "code" for cell in cells):
            problems.append(f"{title!r}: neither an experiment nor a link says why one should believe it")
        values = measure(NotebookNode(cells=cells)).values
        over = {name: most for name, most in LIMITS.items() if values[name] > most}
        problems += [f"{title!r}: {values[name]} {name}, at most {most}" for name, most in over.items()]
    return problems


def _problems_of_exhibits(notebook: NotebookNode, found: list[tuple[str, str, list[NotebookNode]]]) -> Iterator[str]:
    """An exhibit is found by its symptom, shows its picture, and has a test that anybody can run."""
    symptoms = [line for cell in notebook.cells for line in cell.source.splitlines() if re.match(r"\|.*\{ref\}`", line)]
    for label, title, cells in found:
        code = [cell for cell in cells if cell.cell_type == "code"]
        if not any(f"`{label}`" in line for line in symptoms):
            yield f"{title!r}: no row of the table of symptoms leads to it"
        if not any(drawings(cell.outputs) for cell in code):
            yield f"{title!r}: no picture shows it"
        if all(tags(cell) & FOLDED_CODE for cell in code):
            yield f"{title!r}: no test in the open says how to notice it"


def questions_of(notebook: NotebookNode) -> Iterator[tuple[str, str, list[NotebookNode]]]:
    """The label of each question, its title, and its cells: what stands from its heading to the next."""
    question: tuple[str, str, list[NotebookNode]] | None = None
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            if question:
                question[2].append(cell)
            continue
        before = ""
        for part in re.split(r"^(?=#{2,3} )", cell.source, flags=re.MULTILINE):
            heading = re.match(r"(#{2,3}) (.*)", part)
            if heading:
                if question:
                    yield question
                label = LABEL.search(before)
                named = (label[1] if label else "", heading[2].strip())
                question = (*named, []) if heading[1] == "###" else None
            if question and (source := LABEL.sub("", part)):
                question[2].append(NotebookNode(cell_type="markdown", metadata={}, source=source))
            before = part
    if question:
        yield question
