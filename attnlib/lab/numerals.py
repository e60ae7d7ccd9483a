"""Translation in small: numbers in words, from one language to another.

The words are those of the library ``num2words``, so that a language is right without our knowing it.
"""

import re
from functools import cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from attnlib import masks
from attnlib.lab.tasks import END, IGNORED, Batch, written

try:
    from num2words import num2words
except ModuleNotFoundError as missing:
    raise ImportError("attnlib.lab.numerals needs num2words: pip install 'attnlib[lab]'") from missing

# German writes a number as one word. These are the pieces that do not stand alone.
GERMAN_PIECES = ("hundert", "tausend", "und", "ein")


class Numerals:
    """Pairs of a number in two languages, as tokens: *twenty one* and *ein und zwanzig*.

    Args:
        source: the code of the language to read, as ``num2words`` knows it.
        target: the code of the language to write.
        numbers: where numbers are drawn from.
        training: how many of them to train on.
        tests: how many others to keep for tests.

    Attributes:
        vocabularies: the words of the source and of the target, each at the place of its token; two words of no
            language come first.
        numbers: the numbers for training, then those for tests: drawn by lot, always the same.

    >>> from attnlib.lab.numerals import Numerals
    >>> numerals = Numerals("en", "de", range(100), training=20, tests=5)
    >>> numerals.words(21, side=0), numerals.words(21, side=1)
    (['twenty', 'one'], ['ein', 'und', 'zwanzig'])
    """

    def __init__(
        self,
        source: str = "en",
        target: str = "de",
        numbers: range = range(100_000),
        training: int = 8_000,
        tests: int = 1_000,
    ):
        self.languages = (source, target)
        order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))[: training + tests]
        self.numbers = [numbers[place] for place in order.tolist()]
        self.training = training
        self.vocabularies = tuple(_vocabulary(language) for language in self.languages)
        self._tokens = {number: [self.encode(number, side) for side in (0, 1)] for number in self.numbers}

    def words(self, number: int, side: int) -> list[str]:
        """Return a number in words: side 0 in the source language, side 1 in the target language."""
        return _words(number, self.languages[side])

    def encode(self, number: int, side: int) -> list[int]:
        """Return the tokens of a number."""
        places = {word: place for place, word in enumerate(self.vocabularies[side])}
        return [places[word] for word in self.words(number, side)]

    def text(self, tokens: Tensor, side: int) -> str:
        """Return the words of tokens."""
        return " ".join(self.vocabularies[side][token] for token in tokens.tolist())

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return pairs for training, of several lengths, padded; the third input says which source tokens are real."""
        places = torch.randint(self.training, (count,), generator=generator)
        return self.batch([self.numbers[place] for place in places.tolist()])

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return ``count`` pairs that are never trained on, or all there are, as one batch."""
        places = torch.randperm(len(self.numbers) - self.training, generator=generator)[:count]
        return [self.batch([self.numbers[self.training + place] for place in places.tolist()])]

    def batch(self, numbers: list[int]) -> Batch:
        """Return some numbers, whichever they are, as a batch: source, target so far, and the mask of the source."""
        tokens = [self._tokens.get(n) or [self.encode(n, side) for side in (0, 1)] for n in numbers]
        sources, targets = ([torch.tensor(pair[side]) for pair in tokens] for side in (0, 1))
        source = pad_sequence(sources, batch_first=True, padding_value=END)
        target = pad_sequence(targets, batch_first=True, padding_value=IGNORED)
        return written(source, target, masks.padding([len(row) for row in sources]))


def _words(number: int, language: str) -> list[str]:
    text = num2words(number, lang=language)
    words = re.findall(r"\w+", text)
    return words if language != "de" else [piece for word in words for piece in _german().findall(word)]


@cache
def _german() -> re.Pattern:
    """Return what finds the pieces of a German number, the longest first: *sieben* in *siebenundsiebzig*."""
    pieces = {*GERMAN_PIECES, *(num2words(n, lang="de") for n in (*range(21), *range(30, 100, 10)))}
    return re.compile("|".join(sorted(pieces, key=len, reverse=True)))


@cache
def _vocabulary(language: str) -> list[str]:
    """Return every word for the numbers below a million, after the tokens that mean no word."""
    some = (*range(100), *range(100, 1000, 100), 1001, *range(2000, 10_000, 1000), 21_000)
    return ["<start>", "<end>", *sorted({word for n in some for word in _words(n, language)})]
