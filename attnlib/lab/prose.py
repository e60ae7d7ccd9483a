"""This book's own prose as a text to learn from: frozen, so that no page's edit moves it.

``prose.json`` holds what the pages said on 29 November 2026, in small letters. Sentences with code or formulas are left
out, and so are headings, captions, displayed code and sources. A paragraph is a line. Four pages are held out.
"""

import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.lab.tasks import Batch

HELD_OUT = ("2_algorithm/softmax", "4_practice/one_layer", "5_applications/speech", "8_faq/why_language")
CONTEXT = 128  # characters that a model reads in training


@cache
def pages() -> dict[str, list[str]]:
    """Return the paragraphs of each page.

    >>> from attnlib.lab.prose import pages
    >>> len(pages())
    33
    """
    return json.loads((Path(__file__).parent / "prose.json").read_text("utf-8"))


def text(*, held_out: bool) -> str:
    """Return the pages that are held out, or all others, a paragraph a line.

    >>> from attnlib.lab.prose import text
    >>> text(held_out=False)[:41]
    'a program often looks something up: a nam'
    """
    kept = [paragraphs for name, paragraphs in pages().items() if (name in HELD_OUT) == held_out]
    return "".join(paragraph + "\n" for paragraphs in kept for paragraph in paragraphs)


@cache
def characters() -> str:
    """Return the characters that occur, each at the place of its token."""
    return "".join(sorted(set(text(held_out=False) + text(held_out=True))))


def encode(string: str) -> Tensor:
    """Return the tokens (L,) of a string.

    Raises:
        ValueError: if a character is not among :func:`characters`.

    >>> from attnlib.lab.prose import decode, encode
    >>> decode(encode("keys"))
    'keys'
    """
    if unknown := set(string) - set(characters()):
        raise ValueError(f"string: expected characters of the text, got {', '.join(map(repr, sorted(unknown)))}")
    return torch.tensor([characters().index(character) for character in string], dtype=torch.int64)


def decode(tokens: Tensor) -> str:
    """Return the string of tokens (L,)."""
    return "".join(characters()[token] for token in tokens.tolist())


@dataclass(frozen=True)
class Prose:
    """Pieces of the text, from any place: what :func:`attnlib.lab.training.train` draws from.

    Attributes:
        length: the characters that are read, and asked: at each place, the next one.

    >>> import torch
    >>> from attnlib.lab.prose import Prose
    >>> (read,), asked = Prose(length=9).draw(2, torch.Generator().manual_seed(0))
    >>> read.shape, bool((read[:, 1:] == asked[:, :-1]).all())
    (torch.Size([2, 9]), True)
    """

    length: int = CONTEXT

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return ``count`` pieces of the training text."""
        return self._pieces(_tokens(False), count, generator)

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return some held-out pieces, 16 at most: no model will write one without a mistake."""
        return [self._pieces(_tokens(True), min(count, 16), generator)]

    def _pieces(self, tokens: Tensor, count: int, generator: torch.Generator) -> Batch:
        starts = torch.randint(len(tokens) - self.length, (count, 1), generator=generator)
        pieces = tokens[starts + torch.arange(self.length + 1)]  # (B, L + 1)
        return Batch((pieces[:, :-1],), pieces[:, 1:])


@cache
def _tokens(held_out: bool) -> Tensor:
    return encode(text(held_out=held_out))


def windows(length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Return pieces (B, length) of the held-out text, ``stride`` characters apart, and what follows each character.

    >>> from attnlib.lab.prose import windows
    >>> read, asked = windows(length=128, stride=64)
    >>> bool((read[1, :64] == read[0, 64:]).all())
    True
    """
    pieces = _tokens(True).unfold(0, length + 1, stride)
    return pieces[:, :-1], pieces[:, 1:]


@torch.no_grad()
def bits(model: nn.Module) -> float:
    """Return the bits a held-out character that a model needs, given 64 to 127 characters of the text before it.

    >>> import torch
    >>> from attnlib.lab.prose import bits, characters
    >>> class Guess(torch.nn.Module):
    ...     def forward(self, tokens):
    ...         return torch.zeros(*tokens.shape, len(characters()))
    >>> round(bits(Guess()), 3), round(torch.tensor(len(characters())).log2().item(), 3)
    (5.615, 5.615)
    """
    read, asked = windows(CONTEXT, CONTEXT // 2)
    logits = model.eval()(read)
    losses = F.cross_entropy(logits.transpose(1, 2), asked, reduction="none")  # (B, L)
    return losses[:, CONTEXT // 2 :].mean().item() / math.log(2)


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
        told = text(held_out=True)
        last = CONTEXT // 2 * (1 + len(windows(CONTEXT, CONTEXT // 2)[0]))
        asked = range(CONTEXT // 2 + 1, last + 1)
        chances = (self.probability(told[place - self.order + 1 : place], told[place]) for place in asked)
        return -sum(map(math.log2, chances)) / len(asked)
