"""Numbers in prose that nothing computes.

What was **measured** must be bound to the code that computes it: a number with decimals, a share, a factor, a power, a
number in thousands, a fraction. Such a number fails the tests. A plain count of two digits and more is only warned of,
with the words that would bind it, because it may be a year, a size or a name; smaller ones are left to the writer.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nbformat import NotebookNode

from tests.book.prose import Bound, Formula, Hidden, Math, Paragraph, Words, read
from tools.exercises import FORM

# They hold the place of what is not words; none of them is a digit or a letter.
HIDDEN, BOUND = "\N{OBJECT REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}"

NUMBER = re.compile(r"[-−]?(?:\d+(?:[.,\u2009\u202f]\d+)*|(?<![\w.])\.\d+)(?:[eE][-+−]?\d+)?|[¼-¾⅐-⅞]")
# Part of a name: float32, GPT-2, T5, Llama-3.1-8B; CC BY 4.0; the 3-token example; a section of three parts, 3.2.2.
NAME = re.compile(
    r"(?<![\w.])(?:[A-Z][A-Za-z_-]*\d[\w.-]*\w|[a-z]+\d+\b(?!\.\d)|[A-Za-z]+-?\d\b(?!\.\d))"
    r"|\bCC BY(?:-SA)? \d\.\d"
    r"|(?<![\w.,-])\d{1,2}-(?!fold|percent)[A-Za-z]\w*|\d+(?:\.\d+){2,}"
)
UNITS = "ms|µs|s|[kKMGT]i?B|hours?|minutes?|seconds?|thousand|million|billion"
MEASURE = re.compile(
    rf"\s*(?:%|per ?cent\b|×(?!\s*\d)|x\b|-?fold\b|times\b|/\s*\d|:\d|(?:{UNITS})\b|(?:in|out of) \d+\b)"
)
WARNED = 10  # a count from here on is warned of


# A digit, a sign or a unit that touches a bound number belongs to it, and the tests would not see it.
TOUCHES = re.compile(rf"(?:\d[.,/]?|(?<![A-Za-z])[-−+]){BOUND}|{BOUND}(?:\d|[.,/]\d|[A-Za-wyz]|\s*%)")


@dataclass(frozen=True)
class Unbound:
    """A number that nothing computes."""

    text: str
    measured: bool


def unbound_in(paragraph: Paragraph) -> list[Unbound]:
    """The numbers of a paragraph that nothing computes; one that cites its source may state what the source says.

    >>> def unbound(markdown):
    ...     found = [number for part in read(markdown) for number in unbound_in(part)]
    ...     return [n.text for n in found if n.measured], [n.text for n in found if not n.measured]
    >>> unbound("At step 1 the 3-token example in float32 has rows 0 and 12. GPT-2, torch 2.13.0, section 3.2.2.")
    ([], ['12'])
    >>> unbound("It is 3 times as fast, 12,582,912 in all: 67 % of row 1, −0.5, 3/4, ½ and $d_k^{10} + 64 + 0.5$.")
    (['3', '12,582,912', '67', '−0.5', '3', '½', '0.5'], ['64'])
    >>> unbound('Bound: <data value="a">0.3</data>. In code: `0.64`. Cited, 28.4 {cite:p}`x`')
    ([], [])
    """
    if paragraph.cites:
        return []
    words = NAME.sub(HIDDEN, "".join(_words(piece) for piece in paragraph.pieces))
    found = [Unbound(number[0], _is_measured(number, words)) for number in NUMBER.finditer(words)]
    formulas = (piece.latex for piece in paragraph.pieces if isinstance(piece, Math))
    found += [number for latex in formulas for number in unbound_in_formula(latex)]
    return [number for number in found if number.measured or int(re.sub(r"\D", "", number.text)) >= WARNED]


def _is_measured(number: re.Match, words: str) -> bool:
    before = words[: number.start()]
    return (
        not number[0].isdecimal()
        or bool(MEASURE.match(words, number.end()))
        or bool(re.search(r"(?:\bfactor (?:of )?|(?<!\d)(?<!\d )[×x])\s?$", before))
    )


def _words(piece: Words | Bound | Math | Hidden) -> str:
    match piece:
        case Words(text):
            return text
        case Bound():
            return BOUND
        case _:
            return HIDDEN


def mistakes_of_binding(paragraph: Paragraph) -> list[str]:
    """What is wrong with the <data> elements of a paragraph, before any of them is evaluated.

    >>> [part] = read('−<data value="a">3</data> and <data value="b">67</data> %')
    >>> mistakes_of_binding(part)
    ['put all of the number inside <data>: −3', 'put all of the number inside <data>: 67 %']
    """
    words = "".join(_words(piece) for piece in paragraph.pieces)
    shown = iter(piece.shown for piece in paragraph.pieces if isinstance(piece, Bound))
    texts = {place.start(): next(shown) for place in re.finditer(BOUND, words)}
    touching = []
    for found in TOUCHES.finditer(words):
        place = found.start() + found[0].index(BOUND)
        touching.append(f"put all of the number inside <data>: {found[0].replace(BOUND, texts[place])}")
    return paragraph.mistakes + touching


# Mathematics

_LATEX = re.compile(
    r"\\(?:label|ref|eqref|tag|hspace\*?|vspace\*?)\{[^{}]*\}"  # says nothing
    r"|\\\\\[[^\]]*\]|(?<=\\sqrt)\[[^\]]*\]"  # the space between lines; the index of a root
    r"|\\[A-Za-z]+|\\."
    r"|\d+(?:(?:[.,]|\{,\}|\\,)\d+)*"
    r"|\s+|.",
    re.DOTALL,
)
_SHORT_FRACTION = re.compile(r"(\\[dt]?frac)\s*(\d)\s*(\d)")
SMALL = {"0", "1", "2"}


def unbound_in_formula(latex: str) -> list[Unbound]:
    r"""The numbers in mathematics other than 0, 1, 2, indices and exponents.

    >>> unbound_in_formula(r"\frac{1}{\sqrt{d_k}} q_3 \cdot k_{12} + x^{10} + \sqrt[3]{y} - 2")
    []
    >>> [number.text for number in unbound_in_formula(r"\tfrac12 + 0.5 + 64 \quad \text{over 3 tokens}")]
    ['0.5', '64', '3']
    """
    tokens = [found[0] for found in _LATEX.finditer(_SHORT_FRACTION.sub(r"\1{\2}{\3}", latex))]
    said = [token for token in _outside_scripts(tokens) if not token.isspace() and token != "\\,"]
    return [
        Unbound(number, not number.isdecimal() or after == "\\%")
        for number, after in zip(said, [*said[1:], ""], strict=True)
        if number[0].isdigit() and (number not in SMALL or after == "\\%")
    ]


def _outside_scripts(tokens: list[str]) -> Iterator[str]:
    """The tokens of a formula that are neither index nor exponent."""
    place = 0
    while place < len(tokens):
        if tokens[place] in "^_":
            place = _after_argument(tokens, place + 1)
        else:
            yield tokens[place]
            place += 1


def _after_argument(tokens: list[str], place: int) -> int:
    """The place after one argument: a group in braces, or a single token."""
    while place < len(tokens) and tokens[place].isspace():
        place += 1
    depth = 0
    while place < len(tokens):
        depth += {"{": 1, "}": -1}.get(tokens[place], 0)
        place += 1
        if depth == 0:
            break
    return place


# Pages


class CountNothingComputes(UserWarning):
    """A count in prose that no code computes. It may be right; bound, it would stay so."""


def problems_of_page(markdown: str) -> list[str]:
    """What is wrong with the numbers of a page where nothing runs, so that nothing can be bound."""
    return _problems([markdown], can_bind=False)


def problems_of_notebook(notebook: NotebookNode) -> list[str]:
    """What is wrong with the numbers in the prose of a notebook, short of evaluating the bound ones."""
    return _problems(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def _problems(sources: Iterable[str], can_bind: bool = True) -> list[str]:
    problems = []
    # How long an exercise takes is an estimate; no code computes it.
    parts = [part for source in sources for part in read(FORM.sub("", source))]
    sections = [place for place, part in enumerate(parts) if isinstance(part, Paragraph) and part.heading == 2]
    # What the sources say stands in the last section, and nowhere else.
    sources_begin = sections[-1] if sections and parts[sections[-1]].text == "Sources" else len(parts)
    for place, part in enumerate(parts):
        if isinstance(part, Formula):
            problems += _tell(unbound_in_formula(part.latex), part.latex, can_bind)
        elif isinstance(part, Paragraph):
            if place < sources_begin:
                problems += _tell(unbound_in(part), part.text, can_bind)
            problems += [f"{mistake}\n    in: {part.text}" for mistake in mistakes_of_binding(part)]
            if not can_bind and any(isinstance(piece, Bound) for piece in part.pieces):
                problems.append(f"nothing runs on this page, so <data> binds nothing\n    in: {part.text}")
    return problems


def _tell(numbers: list[Unbound], where: str, can_bind: bool) -> Iterator[str]:
    """Name what was measured; warn of counts, where they could be bound."""
    for number in numbers:
        words = (
            f'no code computes the number {number.text}: <data value="an expression">{number.text}</data> binds it, '
            f"code such as `{number.text}` names it, {{cite:t}} says who found it\n    in: {' '.join(where.split())}"
        )
        if number.measured:
            yield words
        elif can_bind and int(number.text) >= WARNED:
            warnings.warn(words, CountNothingComputes, stacklevel=2)


def bound_numbers(notebook: NotebookNode) -> list[tuple[Bound, str]]:
    """The bound numbers of a notebook, each with the paragraph that states it."""
    markdown = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    parts = (part for source in markdown for part in read(source))
    paragraphs = (part for part in parts if isinstance(part, Paragraph))
    return [(piece, part.text) for part in paragraphs for piece in part.pieces if isinstance(piece, Bound)]
