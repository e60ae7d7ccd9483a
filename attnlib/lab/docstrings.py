"""Real summaries: a docstring's first sentence says in one line what the others explain.

Source files of installed packages are read with :mod:`ast`, and never imported. Where a docstring's sentences are
shuffled, which one was its summary?
"""

import ast
import importlib.util
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from attnlib import masks
from attnlib.transformer import Encoder

FEWEST, MOST = 4, 8  # sentences of a docstring that is used
OUTSIDE, UNKNOWN = 0, 1  # words: padding, and those that are rare in training

# Where the prose of a docstring ends: a section, a field, an example, a literal block, a list, a table.
_ENDS = re.compile(
    r"\n\s*\n(?=[^\n]*\n\s*[-=~^\"]{3,})|^\s*(?:Args?|Arguments|Returns?|Raises|Yields|Parameters|Examples?|Notes?):?\s*$"
    r"|^\s*(?::\w|>>>|\.\. |[-*] |\|)|::\s*$|^\s*\w+:$",
    re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<=[a-z)`'\"\]][.!?])\s+(?=[A-Z`*])")


@dataclass(frozen=True)
class Docstring:
    """The sentences of a docstring, its summary first, and where it stands."""

    where: str
    sentences: tuple[str, ...]


def sentences(docstring: str) -> list[str]:
    """Return the sentences of a docstring's prose, before its first section, field, list or example.

    >>> from attnlib.lab.docstrings import sentences
    >>> sentences("Sum it. All of it is\\n    added.\\n\\n    Args:\\n        x: numbers. Many.")
    ['Sum it.', 'All of it is added.']
    """
    end = _ENDS.search(docstring)
    prose = " ".join(docstring[: end.start() if end else None].split())
    return [sentence for sentence in _SENTENCE.split(prose) if sentence]


def docstrings(package: str) -> list[Docstring]:
    """Return the docstrings of a package's functions and classes that have enough sentences, each text once.

    Args:
        package: the name under which it is imported. Its tests are left out.

    Raises:
        ValueError: if it is not installed, or is no package of source files.

    >>> from attnlib.lab.docstrings import FEWEST, MOST, docstrings
    >>> found = docstrings("attnlib")
    >>> all(FEWEST <= len(docstring.sentences) <= MOST for docstring in found)
    True
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"package: expected an installed package, got {package!r}")
    root = Path(spec.submodule_search_locations[0])
    found: dict[tuple[str, ...], Docstring] = {}
    for path in sorted(root.rglob("*.py")):
        where = path.relative_to(root.parent).with_suffix("")
        if any("test" in part or part.startswith("_vendor") for part in where.parts):
            continue
        for name, text in _docstrings_of(path):
            told = tuple(sentences(text))
            if FEWEST <= len(told) <= MOST and len(set(told)) == len(told):
                found.setdefault(told, Docstring(f"{'.'.join(where.parts)}.{name}", told))
    return list(found.values())


def _docstrings_of(path: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):  # a template, or another Python's
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
            text := ast.get_docstring(node)
        ):
            yield node.name, text


def words(sentence: str) -> list[str]:
    """Return the words of a sentence, in small letters.

    >>> from attnlib.lab.docstrings import words
    >>> words("Return `x.T`, transposed.")
    ['return', 'x', 't', 'transposed']
    """
    return re.findall(r"[a-z]+", sentence.lower())


def shuffled(found: Sequence[Docstring], random: Random) -> tuple[list[list[str]], list[int]]:
    """Return the sentences of each docstring in some order, and the place of its summary."""
    orders = [random.sample(range(len(docstring.sentences)), len(docstring.sentences)) for docstring in found]
    told = [[docstring.sentences[place] for place in order] for docstring, order in zip(found, orders, strict=True)]
    return told, [order.index(0) for order in orders]


class SentencePointer(nn.Module):
    """Each sentence a bag of words; the sentences may attend to each other; then one of them is pointed at.

    Args:
        vocabulary: the words that have a vector.
        d_model: the size of a vector.
        attends: whether sentences attend to each other; else each is judged alone.
    """

    def __init__(self, vocabulary: Iterable[str], d_model: int = 32, *, attends: bool = True):
        super().__init__()
        self.places = {word: place for place, word in enumerate(vocabulary, start=UNKNOWN + 1)}
        self.table = nn.EmbeddingBag(len(self.places) + 2, d_model, mode="mean", padding_idx=OUTSIDE)
        nn.init.normal_(self.table.weight, std=0.5)
        self.length = nn.Linear(1, d_model)
        sizes: dict[str, Any] = {"num_heads": 2, "d_ff": 2 * d_model, "dropout": 0.3, "norm_first": True}
        self.body = Encoder(1, d_model=d_model, **sizes) if attends else None
        self.dropout = nn.Dropout(0.3)
        self.score = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, 1))

    def forward(self, told: Sequence[Sequence[str]]) -> Tensor:
        """Docstrings of at most S sentences → log P of each being the summary (B, S)."""
        tokens = [
            [[self.places.get(word, UNKNOWN) for word in words(one)] or [UNKNOWN] for one in each] for each in told
        ]
        flat = [torch.tensor(one) for each in tokens for one in each]
        lengths = torch.tensor([[float(len(one))] for one in flat]).log()
        x = self.table(pad_sequence(flat, batch_first=True)) + self.length(lengths - 2.5)
        x = pad_sequence(
            list(self.dropout(x).split([len(each) for each in tokens])), batch_first=True
        )  # (B, S, d_model)
        mask = masks.padding([len(each) for each in tokens])
        if self.body is not None:
            x = self.body(x, mask)
        real = mask.dense(1, x.shape[1])[:, 0, 0]
        return self.score(x)[..., 0].masked_fill(~real, -torch.inf).log_softmax(-1)


def fit(found: Sequence[Docstring], seed: int, *, attends: bool, steps: int = 400) -> SentencePointer:
    """Return a pointer that was trained on docstrings."""
    counts = Counter(word for docstring in found for one in docstring.sentences for word in words(one))
    vocabulary = sorted(word for word, count in counts.items() if count >= 3)
    torch.manual_seed(seed)
    random, model = Random(seed), SentencePointer(vocabulary, attends=attends)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(steps):
        told, places = shuffled(random.choices(found, k=32), random)
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, 2 * (1 - step / steps))
        loss = F.nll_loss(model.train()(told), torch.tensor(places))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def rules(training: Sequence[Docstring]) -> dict[str, Callable[[Sequence[str]], int]]:
    """Return what needs no learning: the shortest sentence, and the one nearest to the mean of all by TF-IDF."""
    sentences_with: Counter[str] = Counter()
    for docstring in training:
        for one in docstring.sentences:
            sentences_with.update(set(words(one)))
    total = sum(len(docstring.sentences) for docstring in training)

    def centroid(told: Sequence[str]) -> int:
        vectors = []
        for one in told:
            counts = Counter(words(one))
            vector = {word: n * math.log(total / (1 + sentences_with[word])) for word, n in counts.items()}
            length = sum(value**2 for value in vector.values()) ** 0.5 or 1.0
            vectors.append({word: value / length for word, value in vector.items()})
        middle: Counter[str] = Counter()
        for vector in vectors:
            middle.update(vector)
        nearness = [sum(value * middle[word] for word, value in vector.items()) for vector in vectors]
        return nearness.index(max(nearness))

    return {
        "shortest": lambda told: min(range(len(told)), key=lambda place: len(words(told[place]))),
        "centroid": centroid,
    }
