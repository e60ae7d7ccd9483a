"""What a page says, taken apart: paragraphs, formulas and directives, as the site's own Markdown parser sees them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

ROOT = Path(__file__).resolve().parent.parent.parent
CITATIONS = {"cite:p", "cite:t"}

# Directives whose body is not prose. All others are read: a new one is prose until it is listed here.
NOT_PROSE = {
    *("bibliography", "code", "code-block", "code-cell", "contents", "currentmodule", "eval-rst", "include"),
    *("literalinclude", "raw", "sourcecode", "tableofcontents", "toctree"),
}
# Directives whose argument is a label, a path or a layout and not a title.
NAMED_BY_ARGUMENT = {
    *("button-link", "button-ref", "figure", "grid", "grid-item", "image", "solution", "solution-start"),
}


@dataclass(frozen=True)
class Words:
    """Text that a reader reads."""

    text: str


@dataclass(frozen=True)
class Bound:
    """A number that is bound to the code: ``<data value="expression">shown</data>``."""

    expression: str
    shown: str


@dataclass(frozen=True)
class Math:
    """Mathematics in a line."""

    latex: str


@dataclass(frozen=True)
class Hidden:
    """Code or a reference: it stands in the sentence, and its digits are not the chapter's claims."""

    text: str


Piece = Words | Bound | Math | Hidden


@dataclass
class Paragraph:
    """A paragraph, a heading, a cell of a table, a title: whatever is read in one go."""

    pieces: list[Piece]
    heading: int = 0
    cites: bool = False
    mistakes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(_readable(piece) for piece in self.pieces).split())


def _readable(piece: Piece) -> str:
    match piece:
        case Words(text) | Hidden(text):
            return text
        case Bound(shown=shown):
            return shown
        case Math(latex):
            return f"${latex}$"


@dataclass
class Formula:
    """Mathematics on lines of its own."""

    latex: str


@dataclass
class Directive:
    """``{name} argument`` with its options; what it contains follows it."""

    name: str
    argument: str
    options: dict[str, str]
    body: str


Part = Paragraph | Formula | Directive


@cache
def parser() -> MarkdownIt:
    """The parser of the site, with the extensions that _config.yml turns on."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    extensions = set(settings["parse"]["myst_enable_extensions"])
    return create_md_parser(MdParserConfig(enable_extensions=extensions), RendererHTML)


def read(markdown: str) -> Iterator[Part]:
    """The parts of a page in reading order, those inside directives too.

    >>> [part] = read('It takes <data value="w[1]">0.67</data> of `it`.')
    >>> part.pieces
    [Words(text='It takes '), Bound(expression='w[1]', shown='0.67'), Words(text=' of '), Hidden(text='it'), \
Words(text='.')]
    >>> [part.name if isinstance(part, Directive) else part.text for part in read("```{note} Title\\nText\\n```")]
    ['note', 'Title', 'Text']
    """
    heading = 0
    for token in parser().parse(markdown):
        if token.type == "heading_open":
            heading = int(token.tag[1])
        elif token.type == "heading_close":
            heading = 0
        elif token.type == "inline":
            yield paragraph(token.children, heading)
        else:
            yield from _block(token)


def _block(token: Token) -> Iterator[Part]:
    if token.type in ("math_block", "math_block_label", "amsmath"):
        yield Formula(token.content)
    elif token.type == "html_block":
        yield _html_block(token.content)
    elif token.type in ("fence", "colon_fence") and token.info.startswith("{"):
        yield from _directive(token)


def _directive(token: Token) -> Iterator[Part]:
    name, _, argument = token.info.strip().removeprefix("{").partition("}")
    options, body = split_options(token.content)
    directive = Directive(name, argument.strip(), options, body)
    yield directive
    if directive.argument and name not in NAMED_BY_ARGUMENT | NOT_PROSE and name != "math":
        yield from read(directive.argument)
    for option in ("alt", "caption"):
        yield from read(options.get(option, ""))
    if name == "math":
        yield Formula(body)
    elif name not in NOT_PROSE:
        yield from read(body)


def split_options(content: str) -> tuple[dict[str, str], str]:
    """The options of a directive, in either form, and its body.

    >>> split_options(":label: a\\n:class: dropdown\\n\\nBody")
    ({'label': 'a', 'class': 'dropdown'}, '\\nBody')
    >>> split_options("---\\nlabel: a\\n---\\nBody")
    ({'label': 'a'}, 'Body')
    """
    if content.startswith("---\n"):
        header, _, body = content.removeprefix("---\n").partition("---\n")
        return {key: str(value) for key, value in (yaml.safe_load(header) or {}).items()}, body
    options = {}
    lines = content.split("\n")
    while lines and lines[0].startswith(":") and not lines[0].startswith(":::"):
        key, _, value = lines.pop(0)[1:].partition(":")
        options[key] = value.strip()
    return options, "\n".join(lines)


# One paragraph


def paragraph(tokens: list[Token], heading: int = 0) -> Paragraph:
    """Take the inside of a paragraph apart."""
    result = Paragraph([], heading)
    open_tag: Bound | None = None
    for token in _leaves(tokens):
        result.cites |= token.type == "myst_role" and token.meta["name"] in CITATIONS
        expression = _opens_data(token)
        if expression is not None:
            if open_tag:
                result.mistakes.append("a <data> inside a <data>")
            open_tag = Bound(expression, "")
            if not expression:
                result.mistakes.append('a <data> without value="…"')
        elif _closes_data(token):
            if open_tag:
                result.pieces.append(open_tag)
            else:
                result.mistakes.append("a </data> without its <data>")
            open_tag = None
        elif open_tag:
            open_tag = Bound(open_tag.expression, open_tag.shown + _readable(_piece(token)))
        else:
            result.pieces.append(_piece(token))
    if open_tag:
        result.mistakes.append(f'<data value="{open_tag.expression}"> is never closed')
    return result


def _leaves(tokens: list[Token]) -> Iterator[Token]:
    """The tokens that say something; of a link whose text is its own address, nothing."""
    address = False
    for token in tokens:
        if token.type == "link_open":
            address = token.info == "auto"
        elif token.type == "link_close":
            address = False
        elif token.type == "image":
            yield from _leaves(token.children)
        elif not address and not token.nesting:  # emphasis opens and closes without a word
            yield token


def _piece(token: Token) -> Piece:
    match token.type:
        case "text" | "text_special":
            return Words(token.content)
        case "softbreak" | "hardbreak":
            return Words(" ")
        case "math_inline" | "math_inline_double":
            return Math(token.content)
        case "html_inline":
            return Hidden("")
        case _:
            return Hidden(token.content)


class _Html(HTMLParser):
    """Collects the tags and the text of a piece of HTML; comments are neither."""

    def __init__(self, source: str):
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.closed: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.opened.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.closed.append(tag)

    def handle_data(self, data):
        self.text += data


def _opens_data(token: Token) -> str | None:
    """The expression of an opening <data>; None for any other token."""
    if token.type != "html_inline":
        return None
    opened = _Html(token.content).opened
    return next((attributes.get("value") or "" for tag, attributes in opened if tag == "data"), None)


def _closes_data(token: Token) -> bool:
    return token.type == "html_inline" and "data" in _Html(token.content).closed


def text_of_html(source: str) -> str:
    """What a reader of the HTML reads."""
    return _Html(source).text


def _html_block(source: str) -> Paragraph:
    html = _Html(source)
    result = Paragraph([Words(html.text)])
    if any(tag == "data" for tag, _ in html.opened):
        result.mistakes.append("a <data> inside a block of HTML: it counts inside a paragraph of Markdown only")
    return result
