"""A page has a budget: how much there is to read, how soon there is something to see, how much of the code teaches.

`measure` counts one notebook, `problems_of_budget` says what to cut. What a reader does not meet at first is not
counted: folded code, solutions, captions, sources. What would hide a page's length is counted all the same: prose that
code displays, statements on one line, code in the text.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from nbformat import NotebookNode

from tests.book.drawings import drawings
from tests.book.prose import Directive, Formula, Paragraph, Words, read, text_of_html
from tests.book.stored import tags

# What each measure is at most, and what to do about more.
LIMITS = {
    "words": (1500, "cut what only proves that we are careful, or split the page"),
    "words before a picture": (250, "begin with the picture"),
    "words for each picture": (400, "draw what a paragraph describes, or cut it"),
    "visible lines": (120, "fold what does not teach (tags: [hide-input]), or cut it"),
    "lines in a cell": (25, "split the cell where the thought changes"),
    "plumbing %": (20, "fold or delete what prints, asserts or formats"),
    "columns": (88, "wrap the line: longer ones do not fit their box"),
    "open predictions": (0, "fold the answer: tags: [hide-output] on the cell after the question"),
    "library lines": (0, "write it on the page in a few lines; the source stands in reference/inside_attnlib"),
}

FOLDED_CODE = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
FOLDED_ANSWER = {"hide-output", "hide-cell"}
NOT_COUNTED = {"Sources"}
WORD = re.compile(r"[\w’'·-]*\w[\w’'·-]*")
FENCE = re.compile(r"^(```+|~~~+)\s*(?!\{)(\w*)\s*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
SOLUTION = re.compile(r"^(`{3,}|:{3,})\{solution\}.*?^\1\s*$", re.MULTILINE | re.DOTALL)
PREDICT = re.compile(r"\bpredict\b", re.IGNORECASE)
SHOWS_SOURCE = re.compile(r"\b(?:show_source|getsource|getsourcelines)\b")


@dataclass
class Measures:
    """What was counted, and where most of it is."""

    values: Counter = field(default_factory=Counter)
    places: dict[str, Counter] = field(default_factory=dict)

    def add(self, name: str, amount: int, place: str) -> None:
        self.values[name] += amount
        self.places.setdefault(name, Counter())[place] += amount


def problems_of_budget(notebook: NotebookNode, allowed: dict[str, int] | None = None) -> list[str]:
    """Where a page exceeds its budget, or differs from what its row in the table of exceptions allows."""
    allowed = allowed or {}
    unknown = [f"the table names {name!r}, which is not measured" for name in allowed if name not in LIMITS]
    measures = measure(notebook)
    return unknown + [
        problem for name, (limit, _) in LIMITS.items() if (problem := _judge(name, measures, limit, allowed.get(name)))
    ]


def _judge(name: str, measures: Measures, limit: int, allowed: int | None) -> str | None:
    value = measures.values[name]
    if allowed is not None and value <= limit:
        return f"{name}: {value} is inside the budget: delete it from the page's row in tests/book/over_budget.py"
    if allowed is not None and value < allowed:
        return f"{name}: {value} is better than {allowed}: lower the page's row in tests/book/over_budget.py"
    if value > (limit if allowed is None else allowed):
        most = "; ".join(f"{place} ({amount})" for place, amount in measures.places.get(name, Counter()).most_common(4))
        return f"{name}: {value}, at most {limit if allowed is None else allowed}: {LIMITS[name][1]}. Most: {most}"
    return None


def measure(notebook: NotebookNode) -> Measures:
    """Count a page as its reader meets it, from top to bottom."""
    measures = Measures()
    section, in_solution, asked, pictures = "", False, False, 0
    lines = plumbing = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for part in _parts(cell.source):
                if isinstance(part, Directive) and part.name in ("solution-start", "solution-end"):
                    in_solution = part.name == "solution-start"
                elif isinstance(part, Directive) and part.name in ("figure", "image"):
                    pictures += 1
                elif isinstance(part, Paragraph) and part.heading == 2:
                    section = part.text
                if in_solution or section in NOT_COUNTED:
                    continue
                measures.add("words", _words(part), f"section {section or 'the title'}")
                asked |= isinstance(part, Paragraph) and bool(PREDICT.search(part.text))
                if not pictures:
                    measures.values["words before a picture"] = measures.values["words"]
            if not in_solution:
                for code in _code_in(cell.source):
                    lines += _count_lines(code, measures)
            continue
        if in_solution:
            continue
        measures.add("words", sum(map(_words, _prose_displayed(cell))), "prose that code displays")
        measures.add("library lines", _library_lines(cell), _beginning(cell.source))
        if asked and cell.outputs:
            if not tags(cell) & FOLDED_ANSWER:
                measures.add("open predictions", 1, _beginning(cell.source))
            asked = False
        pictures += len(drawings(cell.outputs)) if not tags(cell) & FOLDED_ANSWER else 0
        if not tags(cell) & FOLDED_CODE:
            lines += _count_lines(cell.source, measures)
            plumbing += _count_plumbing(cell.source, measures)
    measures.values["words for each picture"] = -(-measures.values["words"] // max(pictures, 1))
    measures.values["plumbing %"] = -(-100 * plumbing // max(lines, 1))
    return measures


# Words


def _parts(markdown: str) -> Iterator[Paragraph | Formula | Directive]:
    return read(SOLUTION.sub("", FENCE.sub("", markdown)))


def _words(part: Paragraph | Formula | Directive) -> int:
    return len(WORD.findall(re.sub(r"\$[^$]*\$", " x ", part.text))) if isinstance(part, Paragraph) else 0


def _prose_displayed(cell: NotebookNode) -> Iterator[Paragraph | Formula | Directive]:
    """What a cell displays as Markdown or HTML is prose, tables of numbers and source apart."""
    for output in cell.outputs:
        data = output.get("data", {})
        yield from _parts(data.get("text/markdown", ""))
        if "<table" not in data.get("text/html", ""):
            yield Paragraph([Words(text_of_html(data.get("text/html", "")))])


# Code


def _code_in(markdown: str) -> Iterator[str]:
    """The blocks of Python that stand in the text."""
    return (code for _, language, code in FENCE.findall(SOLUTION.sub("", markdown)) if language in ("python", "py"))


def _count_lines(source: str, measures: Measures) -> int:
    """Count lines that say something; statements that share a line count one by one."""
    lines = [line for line in source.splitlines() if line.strip()]
    sharing = len(_statements(source)) - len({node.lineno for node in _statements(source)})
    count = len(lines) + sharing
    measures.add("visible lines", count, _beginning(source))
    if count > measures.values["lines in a cell"]:
        measures.values["lines in a cell"] = count
        measures.places["lines in a cell"] = Counter({_beginning(source): count})
    widest = max(map(len, lines), default=0)
    if widest > measures.values["columns"]:
        measures.values["columns"] = widest
    too_wide = {line.strip(): len(line) for line in lines if len(line) > LIMITS["columns"][0]}
    measures.places.setdefault("columns", Counter()).update(too_wide)
    return count


def _count_plumbing(source: str, measures: Measures) -> int:
    lines = source.splitlines()
    places = {number for node in _statements(source) if _is_plumbing(node) for number in _lines_of(node)}
    said = [number for number in places if lines[number - 1].strip()]
    for number in said:
        measures.add("plumbing %", 1, lines[number - 1].strip())
    return len(said)


def _statements(source: str) -> list[ast.stmt]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a magic of IPython
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def _lines_of(node: ast.stmt) -> range:
    return range(node.lineno, node.end_lineno + 1)


def _is_plumbing(node: ast.stmt) -> bool:
    """Whether a statement prints, asserts or formats, or only repeats and guards such statements."""
    match node:
        case ast.Assert():
            return True
        case ast.Expr(value=ast.Call(func=function)):
            return _is_teller(ast.unparse(function))
        case ast.For(body=body) | ast.With(body=body) | ast.If(body=body):
            return all(map(_is_plumbing, body))
        case ast.Assign(value=value) | ast.AnnAssign(value=value):
            return _is_text(value)
    return False


def _is_teller(name: str) -> bool:
    return bool(re.search(r"(?:^|\.)(?:print|display|pprint|set_printoptions|assert_\w+|allclose)$", name))


def _is_text(value: ast.expr | None) -> bool:
    """Whether a value is made only to be read: an f-string, a format, a join of strings."""
    match value:
        case ast.JoinedStr():
            return True
        case ast.Call(func=ast.Attribute(value=owner, attr=method)):
            return method in ("format", "join", "ljust", "rjust") and isinstance(owner, ast.Constant | ast.JoinedStr)
    return False


def _library_lines(cell: NotebookNode) -> int:
    """The lines of source that a cell displays without the page having written them."""
    shown = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
    code = "".join(code for text in shown for _, _, code in FENCE.findall(text))
    if not code and SHOWS_SOURCE.search(cell.source):
        code = "".join(output.get("text", "") for output in cell.outputs)
    return sum(bool(line.strip()) for line in code.splitlines())


def _beginning(source: str) -> str:
    return next((line.strip() for line in source.splitlines() if line.strip()), "")[:60]


def figures_of(notebook: NotebookNode) -> dict[str, int]:
    """The row that a page of today would need in the table of exceptions."""
    values = measure(notebook).values
    return {name: values[name] for name, (limit, _) in LIMITS.items() if values[name] > limit}


def as_notebook(markdown: str) -> NotebookNode:
    """A page where nothing runs, as a notebook of one cell."""
    return NotebookNode(cells=[NotebookNode(cell_type="markdown", metadata={}, source=markdown)])
