"""Numbers in prose that nothing computes: what CONTRIBUTING.md lets stand, and everything else."""

import re
from collections.abc import Iterable, Iterator

from nbformat import NotebookNode

from tests.book.prose import Bound, Formula, Hidden, Math, Paragraph, Words, read

# They hold the place of what is not words; none of them is a digit or a letter.
HIDDEN, BOUND = "\N{OBJECT REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}"

NUMBER = re.compile(r"[-−]?\d+(?:[.,\u2009\u202f]\d+)*(?:[eE][-+−]?\d+)?|[¼-¾⅐-⅞]")

_INDEXED = (
    "axis|axes|block|case|cell|chapter|claim|column|document|entry|example|exercise|head|index|indices|"
    "item|key|layer|level|line|node|option|page|part|place|position|query|queries|question|rank|row|seed|"
    "sentence|sequence|slot|stage|step|token|word"
)
_INDEX = rf"(?:\d{{1,2}}|{BOUND})"
_PRODUCTS = (
    "BERT|CC BY|CC BY-SA|CUDA|Chromium|Debian|FlashAttention|GPT|Gemma|JAX|Jupyter Book|JupyterLab|Keras|Llama|"
    "Matplotlib|Mistral|NumPy|PyTorch|Python|Qwen|Sphinx|TensorFlow|Triton|Ubuntu|attnlib|torch|transformers"
)

EXEMPT = [
    # token 2; steps 1 to 3; rows 0, 1 and 2
    re.compile(
        rf"\b(?:{_INDEXED})s?\s+{_INDEX}(?:(?:\s*(?:,\s*and|,|–|\band\b|\bor\b|\bto\b)\s*){_INDEX})*"
        r"(?![\w/])(?![.,]\d)(?!\s*(?:%|×|\btimes\b))",
        re.IGNORECASE,
    ),
    # Python 3.11, PyTorch 2.13.0, CC BY 4.0, v0.3.4
    re.compile(rf"\b(?:{_PRODUCTS})\s+v?\d+(?:\.\d+)*(?![\w%])"),
    re.compile(r"\bv\d+(?:\.\d+)+\b"),
    re.compile(r"\barXiv:\d{4}\.\d{4,5}(?:v\d+)?\b"),
    # float32, GPT-2, Llama-3.1-8B, T5
    re.compile(r"(?<![\w.,/-])[A-Za-z]\w*(?:-\w+(?:\.\d+)?)*(?!\w)"),
    # 3-token, 2D; but not 3-fold, which measures
    re.compile(r"(?<![\w.,/+−-])\d{1,2}-(?!fold|hour|minute|percent|point|second|times)[A-Za-z][\w-]*"),
    re.compile(r"(?<![\w.,/+−-])[123]-?D\b"),
    # 1st, 2nd
    re.compile(r"(?<![\w.,/+−-])\d{1,2}(?:st|nd|rd|th)\b"),
]
YEAR = re.compile(r"\([^()\d]*(?:19|20)\d\d[a-z]?\)")

# A digit, a sign or a unit that touches a bound number belongs to it, and the tests would not see it.
TOUCHES = re.compile(rf"(?:\d[.,/]?|(?<![A-Za-z])[-−+]){BOUND}|{BOUND}(?:\d|[.,/]\d|[A-Za-wyz]|\s*%)")


def unbound_in(paragraph: Paragraph, in_sources: bool = False) -> list[str]:
    """The numbers of a paragraph that nothing computes and nothing excuses.

    >>> def unbound(markdown, **where):
    ...     return [number for part in read(markdown) for number in unbound_in(part, **where)]
    >>> unbound("At step 1 the 3-token example in float32 has rows 0, 1 and 2. Python 3.11 runs GPT-2.")
    []
    >>> unbound("It is 3 times as fast, 12,582,912 in all: 67 % of row 1, −0.5 and $d_k^{10} + 64$.")
    ['3', '12,582,912', '67', '−0.5', '64']
    >>> unbound('Bound: <data value="a">3</data>. In code: `64`. Cited, 28.4 {cite:p}`x`')
    []
    >>> unbound("Vaswani et al. (2017)"), unbound("Vaswani et al. (2017)", in_sources=True)
    (['2017'], [])
    """
    if paragraph.cites:
        return []
    words = "".join(_words(piece) for piece in paragraph.pieces)
    for pattern in [*EXEMPT, *([YEAR] if in_sources else [])]:
        words = pattern.sub(HIDDEN, words)
    formulas = (piece.latex for piece in paragraph.pieces if isinstance(piece, Math))
    return NUMBER.findall(words) + [number for latex in formulas for number in unbound_in_formula(latex)]


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


def unbound_in_formula(latex: str) -> list[str]:
    r"""The numbers in mathematics other than 0, 1, 2, indices and exponents.

    >>> unbound_in_formula(r"\frac{1}{\sqrt{d_k}} q_3 \cdot k_{12} + x^{10} + \sqrt[3]{y} - 2")
    []
    >>> unbound_in_formula(r"\tfrac12 + 0.5 + 64 \quad \text{over 3 tokens}")
    ['0.5', '64', '3']
    """
    tokens = [found[0] for found in _LATEX.finditer(_SHORT_FRACTION.sub(r"\1{\2}{\3}", latex))]
    return [token for token in _outside_scripts(tokens) if token[0].isdigit() and token not in SMALL]


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


def problems_of_page(markdown: str) -> list[str]:
    """What is wrong with the numbers of a page where nothing runs, so that nothing can be bound."""
    return _problems([markdown], can_bind=False)


def problems_of_notebook(notebook: NotebookNode) -> list[str]:
    """What is wrong with the numbers in the prose of a notebook, short of evaluating the bound ones."""
    return _problems(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def _problems(sources: Iterable[str], can_bind: bool = True) -> list[str]:
    problems = []
    section = ""
    for source in sources:
        for part in read(source):
            match part:
                case Paragraph(heading=2):
                    section = part.text
                case Formula(latex):
                    problems += _tell(unbound_in_formula(latex), latex)
            if isinstance(part, Paragraph):
                problems += _tell(unbound_in(part, in_sources=section == "Sources"), part.text)
                problems += [f"{mistake}\n    in: {part.text}" for mistake in mistakes_of_binding(part)]
                if not can_bind and any(isinstance(piece, Bound) for piece in part.pieces):
                    problems.append(f"nothing runs on this page, so <data> binds nothing\n    in: {part.text}")
    return problems


def _tell(numbers: list[str], where: str) -> list[str]:
    return [
        f"no code computes the number {number}{_advice(number)}\n    in: {' '.join(where.split())}"
        for number in numbers
    ]


def _advice(number: str) -> str:
    return f" (as mathematics, ${number}$ may stand)" if number in SMALL else ""


def bound_numbers(notebook: NotebookNode) -> list[tuple[Bound, str]]:
    """The bound numbers of a notebook, each with the paragraph that states it."""
    markdown = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    parts = (part for source in markdown for part in read(source))
    paragraphs = (part for part in parts if isinstance(part, Paragraph))
    return [(piece, part.text) for part in paragraphs for piece in part.pieces if isinstance(piece, Bound)]
