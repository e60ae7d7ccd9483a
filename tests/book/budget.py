"""A page has a budget: how much there is to read, how soon there is something to see, how much of the code teaches.

`measure` counts one notebook, `problems_of_budget` says what to cut. What a reader does not meet at first is not
counted: folded code, solutions, hints, captions, sources; nor is the line that says how long an exercise takes. What
would hide a page's length is counted all the same: prose that code displays, statements on one line, code in the text.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from nbformat import NotebookNode

from tests.book.drawings import drawings
from tests.book.prose import NOT_PROSE, Directive, Formula, Paragraph, Words, parser, read, split_options, text_of_html
from tests.book.shape import headings_of
from tests.book.stored import readable, tags
from tools.execute import ROOT
from tools.exercises import FORM

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
NEVER_SHOWN = {"remove-output", "remove-cell"}
CODE_DIRECTIVES = {"code", "code-block", "sourcecode"}
INCLUDES = {"include", "literalinclude"}
WORD = re.compile(r"[\w’'·-]*\w[\w’'·-]*")
FOLDED = re.compile(r"^(`{3,}|:{3,})\{(?:solution|hint)\}.*?^\1\s*$", re.MULTILINE | re.DOTALL)
PREDICT = re.compile(r"\b(?:predict|guess) first\b|^prediction:|\bbefore you run\b", re.IGNORECASE)
TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)


@dataclass
class Measures:
    """What was counted, and where most of it is."""

    values: Counter = field(default_factory=Counter)
    places: dict[str, Counter] = field(default_factory=dict)

    def add(self, name: str, amount: int, place: str) -> None:
        self.values[name] += amount
        self.places.setdefault(name, Counter())[place] += amount


def problems_of_budget(notebook: NotebookNode) -> list[str]:
    """Where a page exceeds its budget."""
    measures = measure(notebook)
    return [
        f"{name}: {measures.values[name]}, at most {limit}: {way}. Most: {_most(measures, name)}"
        for name, (limit, way) in LIMITS.items()
        if measures.values[name] > limit
    ]


def _most(measures: Measures, name: str) -> str:
    return "; ".join(f"{place} ({amount})" for place, amount in measures.places.get(name, Counter()).most_common(4))


def measure(notebook: NotebookNode) -> Measures:
    """Count a page as its reader meets it, from top to bottom."""
    measures = Measures()
    section, in_solution, in_sources, asked = "", False, False, False
    pictures = seen = lines = plumbing = 0
    sources = _cell_of_sources(notebook)
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            for part in read(_met_at_first(cell.source)):
                if isinstance(part, Directive) and part.name in ("solution-start", "solution-end"):
                    in_solution = part.name == "solution-start"
                elif isinstance(part, Directive) and part.name in ("figure", "image"):
                    pictures, seen = pictures + 1, seen + 1
                elif isinstance(part, Paragraph) and part.heading == 2:
                    section = part.text
                    in_sources = place == sources and section == "Sources"
                if in_solution or in_sources:
                    continue
                measures.add("words", _words(part), f"section {section or 'the title'}")
                asked |= isinstance(part, Paragraph) and bool(PREDICT.search(part.text))
                if not seen:
                    measures.values["words before a picture"] = measures.values["words"]
            if not in_solution and not in_sources:
                for code in _code_in(_met_at_first(cell.source), measures):
                    lines += _count_lines(code, measures)
            continue
        if in_solution:
            continue
        if not tags(cell) & NEVER_SHOWN:
            measures.add("words", sum(map(_words, _prose_displayed(cell))), "prose that code displays")
            if not seen:
                measures.values["words before a picture"] = measures.values["words"]
            measures.add("library lines", _library_lines(cell), _beginning(cell.source))
            if asked and cell.outputs:
                if not tags(cell) & FOLDED_ANSWER:
                    measures.add("open predictions", 1, _beginning(cell.source))
                asked = False
            # A figure that answers a prediction is folded: it is one, but nobody sees it first.
            pictures += len(drawings(cell.outputs))
            seen += len(drawings(cell.outputs)) if not tags(cell) & FOLDED_ANSWER else 0
        if not tags(cell) & FOLDED_CODE:
            lines += _count_lines(cell.source, measures)
            plumbing += _count_plumbing(cell.source, measures)
    measures.values["words for each picture"] = -(-measures.values["words"] // max(pictures, 1))
    measures.values["plumbing %"] = -(-100 * plumbing // max(lines, 1))
    return measures


def _met_at_first(markdown: str) -> str:
    """A cell of Markdown without what is folded, and without the line that says how long an exercise takes."""
    return FORM.sub("", FOLDED.sub("", markdown))


def _cell_of_sources(notebook: NotebookNode) -> int | None:
    """The cell of the section of sources, if it is the last one of the page and no other."""
    headings = [heading for heading in headings_of(notebook) if heading.level == 2]
    return headings[-1].cell if headings and headings[-1].title == "Sources" else None


# Words


def _words(part: Paragraph | Formula | Directive) -> int:
    match part:
        case Paragraph():
            return len(WORD.findall(re.sub(r"\$[^$]*\$", " x ", part.text)))
        case Directive(name="raw" | "eval-rst", body=body):
            return len(WORD.findall(text_of_html(body)))
    return 0


def _prose_displayed(cell: NotebookNode) -> Iterator[Paragraph | Formula | Directive]:
    """What a cell displays as Markdown or HTML is prose, tables of numbers and source apart."""
    for output in cell.outputs:
        data = output.get("data", {})
        yield from read(data.get("text/markdown", ""))
        yield Paragraph([Words(text_of_html(TABLE.sub("", data.get("text/html", ""))))])


# Code


def _code_in(markdown: str, measures: Measures) -> Iterator[str]:
    """The code that stands in the text, in whatever language; what is included from elsewhere is the library's."""
    for token in parser().parse(markdown):
        if token.type == "code_block" or (token.type == "fence" and not token.info.startswith("{")):
            yield token.content
        elif token.type in ("fence", "colon_fence"):
            name = token.info.strip().removeprefix("{").partition("}")[0]
            body = split_options(token.content)[1]
            if name in CODE_DIRECTIVES:
                yield body
            elif name in INCLUDES:
                measures.add("library lines", 1, token.info.strip())
            elif name not in NOT_PROSE:
                yield from _code_in(body, measures)


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
        tree = ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.MULTILINE))  # magics of IPython
    except SyntaxError:  # another language
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def _lines_of(node: ast.stmt) -> range:
    return range(node.lineno, node.end_lineno + 1)


def _is_plumbing(node: ast.stmt) -> bool:
    """Whether a statement prints, asserts or formats, or only repeats and guards such statements."""
    match node:
        case ast.Assert():
            return True
        case ast.For() | ast.If():
            return all(map(_is_plumbing, node.body + node.orelse))
        case ast.With():
            return all(map(_is_plumbing, node.body))
        case ast.Expr(value=value) | ast.Assign(value=value):
            return _is_text(value) or any(_tells(inner) for inner in ast.walk(value))
    return False


def _tells(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and bool(TELLS.search(ast.unparse(node.func)))


TELLS = re.compile(r"(?:^|\.)(?:print|pprint|display|stdout\.write|set_printoptions|assert_\w+|allclose)$")


def _is_text(value: ast.expr) -> bool:
    """Whether a value is made only to be read: an f-string, or a format of one."""
    match value:
        case ast.JoinedStr():
            return True
        case ast.Call(func=ast.Attribute(value=ast.Constant() | ast.JoinedStr(), attr="format" | "ljust" | "rjust")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[argument]):
            return any(isinstance(inner, ast.JoinedStr) for inner in ast.walk(argument))
    return False


def _library_lines(cell: NotebookNode) -> int:
    """The lines of source that a cell displays: as code, or as any text in which attnlib's own lines stand."""
    outputs = [output for output in cell.outputs if output.output_type != "error"]
    displayed = "\n".join(output.get("data", {}).get("text/markdown", "") for output in outputs)
    code = [line for block in _code_in(displayed, Measures()) for line in block.splitlines() if line.strip()]
    told = [line for output in outputs for line in readable(output).splitlines() if line.strip() in _library()]
    return max(len(code), len(told) if len(told) > 2 else 0)  # a line or two may be alike by chance


@cache
def _library() -> set[str]:
    """The lines of the package that say something of their own."""
    texts = (path.read_text("utf-8") for path in (ROOT / "attnlib").rglob("*.py"))
    return {line.strip() for text in texts for line in text.splitlines() if len(line.strip()) > 12}


def _beginning(source: str) -> str:
    return next((line.strip() for line in source.splitlines() if line.strip()), "")[:60]


def as_notebook(markdown: str) -> NotebookNode:
    """A page where nothing runs, as a notebook of one cell."""
    return NotebookNode(cells=[NotebookNode(cell_type="markdown", metadata={}, source=markdown)])
