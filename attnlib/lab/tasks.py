"""Tasks that a small model learns in seconds, each of which needs one thing.

================  ==============================================  =============================
task              from → to                                       what it needs
================  ==============================================  =============================
:func:`reversal`  3 1 4 1 → 1 4 1 3, one output for each input    positions
:func:`sorting`   3 1 4 → 1 3 4, written token by token           comparison
:func:`copying`   3 1 4 1 → 3 1 4 1, written token by token       positions, seen from elsewhere
================  ==============================================  =============================

:mod:`attnlib.lab.dates` needs all of it: *3月3日* → *3 March*.

Every task keeps a tenth of its targets for tests: none of them is ever drawn for training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from attnlib import masks

START, END = 0, 1  # the tokens that a written target begins and ends with
SYMBOLS_FROM = 2  # the first token that means something where tokens are written
IGNORED = -100  # no answer is asked here: what torch's cross-entropy leaves out


class Batch(NamedTuple):
    """What a model is called with, and what it should say."""

    inputs: tuple  # model(*inputs) gives logits (B, L, vocab)
    target: Tensor  # (B, L), IGNORED where nothing is asked


@dataclass(frozen=True)
class Task:
    """Random sequences, and a rule that says what becomes of them.

    Attributes:
        rule: from a source (B, n) to its target (B, n).
        symbols: the number of different symbols.
        lengths: the lengths n that are drawn, each as often as another.
        distinct: whether a source holds each symbol at most once.
        written: whether the target is written token by token by a decoder, from START to END; else there is one output
            for each input.
    """

    rule: Callable[[Tensor], Tensor]
    symbols: int
    lengths: range
    distinct: bool = False
    written: bool = False

    @property
    def vocab(self) -> int:
        """The number of different tokens that a model has to know."""
        return self.symbols + (SYMBOLS_FROM if self.written else 0)

    def draw(
        self, count: int, generator: torch.Generator, *, held_out: bool = False, length: int | None = None
    ) -> Batch:
        """Return a batch of one length: of those for training, or of those that are kept for tests.

        Args:
            count: B, how many sequences.
            generator: where chance comes from.
            held_out: draw from the tenth that is never trained on.
            length: n. Default: one of ``lengths``, each as often as another.

        Raises:
            ValueError: if so few targets have that length that none is to be found.
        """
        if length is None:
            length = self.lengths[int(torch.randint(len(self.lengths), (), generator=generator))]
        found = torch.empty(0, length, dtype=torch.int64)
        while len(found) < count:
            candidates = self._sources(2 * count + 1000, length, generator)
            kept = candidates[_is_held_out(self.rule(candidates)) == held_out]
            if not len(kept):
                raise ValueError(f"length: expected one with targets on both sides of the split, got {length}")
            found = torch.cat([found, kept])
        source = found[:count]
        target = self.rule(source)
        return written(source, target) if self.written else Batch((source,), target)

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return about ``count`` held-out sequences, as many of each length: one batch for each."""
        each = -(-count // len(self.lengths))
        return [self.draw(each, generator, held_out=True, length=length) for length in self.lengths]

    def _sources(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        if self.distinct:
            sources = torch.rand(count, self.symbols, generator=generator).argsort(dim=1)[:, :length]
        else:
            sources = torch.randint(self.symbols, (count, length), generator=generator)
        return sources + (SYMBOLS_FROM if self.written else 0)


def written(source: Tensor, target: Tensor, source_mask: masks.Mask | None = None) -> Batch:
    """Return the batch that teaches a decoder to write ``target`` (B, n), which may end in IGNORED.

    The decoder reads the target shifted by one place, and at each place is asked for the next token.

    >>> import torch
    >>> from attnlib.lab.tasks import written
    >>> batch = written(torch.tensor([[5, 6]]), torch.tensor([[6, 5]]))
    >>> batch.inputs[1], batch.target
    (tensor([[0, 6, 5]]), tensor([[6, 5, 1]]))
    """
    B = len(target)
    asked = torch.cat([target, target.new_full((B, 1), IGNORED)], dim=1)
    lengths = (target != IGNORED).sum(1)
    asked[torch.arange(B), lengths] = END
    read = torch.cat([target.new_full((B, 1), START), target.masked_fill(target == IGNORED, END)], dim=1)
    return Batch((source, read) if source_mask is None else (source, read, source_mask), asked)


def reversal(symbols: int = 10, lengths: range = range(16, 17), *, written: bool = False) -> Task:
    """Say the sequence backwards: only a token's position tells which one must be said.

    One output for each input; or ``written`` token by token.

    >>> import torch
    >>> from attnlib.lab.tasks import reversal
    >>> batch = reversal().draw(3, torch.Generator().manual_seed(0))
    >>> batch.inputs[0].flip(-1).equal(batch.target)
    True
    >>> reversal(written=True).draw(1, torch.Generator().manual_seed(0), length=4)
    Batch(inputs=(tensor([[ 6, 11,  5,  2]]), tensor([[ 0,  2,  5, 11,  6]])), target=tensor([[ 2,  5, 11,  6,  1]]))
    """
    return Task(_reversed, symbols, lengths, written=written)


def sorting(symbols: int = 20, lengths: range = range(2, 11)) -> Task:
    """Write the symbols in their order; each occurs once. The next one is the smallest that is larger than the last.

    >>> import torch
    >>> from attnlib.lab.tasks import sorting
    >>> batch = sorting().draw(1, torch.Generator().manual_seed(0), length=4)
    >>> batch.inputs, batch.target
    ((tensor([[14,  4,  5, 20]]), tensor([[ 0,  4,  5, 14, 20]])), tensor([[ 4,  5, 14, 20,  1]]))
    """
    return Task(_sorted, symbols, lengths, distinct=True, written=True)


def copying(symbols: int = 10, lengths: range = range(4, 11)) -> Task:
    """Write the sequence again: the token to write is found on the other side, at the same position.

    >>> import torch
    >>> from attnlib.lab.tasks import copying
    >>> batch = copying().draw(1, torch.Generator().manual_seed(0), length=4)
    >>> batch.inputs[0].equal(batch.target[:, :-1])
    True
    """
    return Task(_copied, symbols, lengths, written=True)


def _reversed(source: Tensor) -> Tensor:
    return source.flip(-1)


def _sorted(source: Tensor) -> Tensor:
    return source.sort(-1).values


def _copied(source: Tensor) -> Tensor:
    return source


def _is_held_out(target: Tensor) -> Tensor:
    """Return of each target (B, n) whether it is kept for tests: about one in ten, by its tokens alone."""
    factors = torch.tensor([1, 3, 7, 9]).repeat(target.shape[1] // 4 + 1)[: target.shape[1]]
    return (target * factors).sum(1) % 10 == 0
