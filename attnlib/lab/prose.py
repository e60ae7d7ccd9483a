"""This book's own prose as a text to learn from: frozen, so that no page's edit moves it.

``prose.json`` holds what the pages said on 29 November 2026, in small letters. Sentences with code or formulas are left
out, and so are headings, captions, displayed code and sources. A paragraph is a line. Four pages are held out for the
test, and four to choose by (rates, sizes).

A model reads it in tokens: characters, and pairs that were merged because they are frequent in the training text.
"""

import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.lab.tasks import Batch

HELD_OUT = {
    "validation": ("2_algorithm/steps", "4_practice/one_class", "5_applications/vision", "8_faq/or_recurrence"),
    "test": ("2_algorithm/softmax", "4_practice/one_layer", "5_applications/speech", "8_faq/why_language"),
}
MERGES = 512  # tokens beside the single characters
CONTEXT = 128  # tokens that a model reads in training
MERGED = 0xE000  # where Unicode keeps characters for private use: while text is merged, one stands for each pair


@cache
def pages() -> dict[str, list[str]]:
    """Return the paragraphs of each page.

    >>> from attnlib.lab.prose import pages
    >>> len(pages())
    33
    """
    return json.loads((Path(__file__).parent / "prose.json").read_text("utf-8"))


def text(part: str) -> str:
    """Return the pages of one part, a paragraph a line.

    Args:
        part: ``training``, ``validation`` or ``test``.

    Raises:
        ValueError: if there is no such part.

    >>> from attnlib.lab.prose import text
    >>> text("training")[:41]
    'a program often looks something up: a nam'
    """
    parts = {name: held for held, names in HELD_OUT.items() for name in names}
    if part not in ("training", *HELD_OUT):
        raise ValueError(f"part: expected training, validation or test, got {part!r}")
    kept = [paragraphs for name, paragraphs in pages().items() if parts.get(name, "training") == part]
    return "".join(paragraph + "\n" for paragraphs in kept for paragraph in paragraphs)


@cache
def characters() -> str:
    """Return the characters that occur."""
    return "".join(sorted(set("".join(map(text, ("training", *HELD_OUT))))))


def merge(read: str, times: int) -> list[str]:
    """Return the pairs of neighbours that byte-pair encoding merges: each time the most frequent one.

    Sennrich, Haddow and Birch (2016), without their borders of words. The pair that was merged i-th becomes the
    character ``chr(MERGED + i)``, and may be a part of later pairs. Of pairs that are as frequent, the
    first one of the text is merged.

    >>> from attnlib.lab.prose import merge
    >>> merge("the then them", times=2)  # t and h; then what they became, and e
    ['th', '\ue000e']
    """
    pairs = []
    for new in range(times):
        signs = np.frombuffer(read.encode("utf-32-le"), np.uint32).astype(np.uint64)
        neighbours, counts = np.unique(signs[:-1] << 32 | signs[1:], return_counts=True)  # sorted, not looped over
        most = neighbours[counts == counts.max()].tolist()
        pairs.append(min((chr(both >> 32) + chr(both & 0xFFFFFFFF) for both in most), key=read.index))
        read = read.replace(pairs[-1], chr(MERGED + new))
    return pairs


@cache
def pairs() -> tuple[str, ...]:
    """Return what :func:`merge` finds in the training text."""
    return tuple(merge(text("training"), MERGES))


@cache
def vocabulary() -> tuple[str, ...]:
    """Return what each token stands for: a character, or several.

    >>> from attnlib.lab.prose import characters, vocabulary
    >>> "".join(vocabulary()[: len(characters())]) == characters(), vocabulary()[-1]
    (True, ' word')
    """
    spelt = {character: character for character in characters()}
    for new, pair in enumerate(pairs()):
        spelt[chr(MERGED + new)] = "".join(spelt[part] for part in pair)
    return tuple(spelt.values())


def encode(string: str) -> Tensor:
    """Return the tokens (L,) of a string: its characters, after the merges in their order.

    Raises:
        ValueError: if a character is not among :func:`characters`.

    >>> from attnlib.lab.prose import decode, encode
    >>> decode(encode("keys")), len(encode("keys"))
    ('keys', 2)
    """
    if unknown := set(string) - set(characters()):
        raise ValueError(f"string: expected characters of the text, got {', '.join(map(repr, sorted(unknown)))}")
    for new, pair in enumerate(pairs()):
        string = string.replace(pair, chr(MERGED + new))
    singles = characters()
    tokens = [len(singles) + ord(c) - MERGED if ord(c) >= MERGED else singles.index(c) for c in string]
    return torch.tensor(tokens, dtype=torch.int64)


def decode(tokens: Tensor) -> str:
    """Return the string of tokens (L,)."""
    return "".join(vocabulary()[token] for token in tokens.tolist())


def lengths(tokens: Tensor) -> Tensor:
    """Return how many characters each token stands for; in the shape of ``tokens``.

    >>> from attnlib.lab.prose import encode, lengths
    >>> int(lengths(encode("the keys")).sum())
    8
    """
    return torch.tensor([len(spelt) for spelt in vocabulary()])[tokens]


@dataclass(frozen=True)
class Prose:
    """Pieces of the text, from any place: what :func:`attnlib.lab.training.train` draws from.

    Attributes:
        length: the tokens that are read, and asked: at each place, the next one.

    >>> import torch
    >>> from attnlib.lab.prose import Prose
    >>> (read,), asked = Prose(length=9).draw(2, torch.Generator().manual_seed(0))
    >>> read.shape, bool((read[:, 1:] == asked[:, :-1]).all())
    (torch.Size([2, 9]), True)
    """

    length: int = CONTEXT

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return ``count`` pieces of the training text."""
        return self._pieces(_tokens("training"), count, generator)

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return some held-out pieces, 16 at most: no model will write one without a mistake."""
        return [self._pieces(_tokens("test"), min(count, 16), generator)]

    def _pieces(self, tokens: Tensor, count: int, generator: torch.Generator) -> Batch:
        starts = torch.randint(len(tokens) - self.length, (count, 1), generator=generator)
        pieces = tokens[starts + torch.arange(self.length + 1)]  # (B, L + 1)
        return Batch((pieces[:, :-1],), pieces[:, 1:])


@cache
def _tokens(part: str) -> Tensor:
    return encode(text(part))


def windows(length: int, stride: int, part: str = "test") -> tuple[Tensor, Tensor]:
    """Return pieces (B, length) of a text that is held out, ``stride`` tokens apart, and what follows each token.

    >>> from attnlib.lab.prose import windows
    >>> read, asked = windows(length=128, stride=64)
    >>> bool((read[1, :64] == read[0, 64:]).all())
    True
    """
    pieces = _tokens(part).unfold(0, length + 1, stride)
    return pieces[:, :-1], pieces[:, 1:]


@torch.no_grad()
def bits(model: nn.Module, part: str = "test") -> float:
    """Return the bits a held-out character that a model needs, given 64 to 127 tokens of the text before it.

    A token's bits are shared by the characters that it stands for, so tokens of any length can be compared.

    >>> import torch
    >>> from attnlib.lab.prose import bits, vocabulary
    >>> class Guess(torch.nn.Module):
    ...     def forward(self, tokens):
    ...         return torch.zeros(*tokens.shape, len(vocabulary()))
    >>> f"{bits(Guess()):.2f}"  # the logarithm of 561, for almost three characters
    '3.49'
    """
    read, asked = windows(CONTEXT, CONTEXT // 2, part)
    logits = model.eval()(read)
    losses = F.cross_entropy(logits.transpose(1, 2), asked, reduction="none")  # (B, L)
    late = slice(CONTEXT // 2, None)
    return (losses[:, late].sum() / lengths(asked[:, late]).sum()).item() / math.log(2)


class Counts:
    """How often each character follows what stands before it, mixed from long contexts to short ones.

    Witten and Bell (1991), method C: a context seen n times, before t different characters, is trusted with n/(n + t);
    the rest goes to the context that is one character shorter, at last to all characters alike.

    Args:
        order: the characters of a context, and the one that follows: 3 for trigrams.
        read: the text that is counted.

    >>> from attnlib.lab.prose import Counts
    >>> round(Counts(2, "abab").probability("a", "b"), 3)  # 2 of 3, and a third of what "b" has without context
    0.78
    """

    def __init__(self, order: int, read: str):
        self.order = order
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for size in range(order):
            for place in range(size, len(read)):
                self.counts[read[place - size : place]][read[place]] += 1

    def probability(self, context: str, character: str) -> float:
        """Return the probability that a character follows a context of at most ``order − 1`` characters."""
        rest = self.probability(context[1:], character) if context else 1 / len(characters())
        seen = self.counts.get(context)
        if seen is None:
            return rest
        return (seen[character] + len(seen) * rest) / (seen.total() + len(seen))

    def bits(self) -> float:
        """Return the bits a held-out character, of the characters that :func:`bits` asks."""
        told = text("test")
        ends = lengths(_tokens("test")).cumsum(0)
        last = CONTEXT // 2 * (1 + len(windows(CONTEXT, CONTEXT // 2)[0]))
        asked = range(int(ends[CONTEXT // 2]), int(ends[last]))
        chances = (self.probability(told[place - self.order + 1 : place], told[place]) for place in asked)
        return -sum(map(math.log2, chances)) / len(asked)
