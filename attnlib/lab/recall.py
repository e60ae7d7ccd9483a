"""Two tasks that part attention from recurrence: what was said long ago is asked for; what is counted step by step."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attnlib.lab.tasks import IGNORED, Batch

NAMES, NUMBERS = 64, 32  # different names, and different numbers that one may have


@dataclass(frozen=True)
class Recall:
    """Pairs of a name and a number, then one of the names: which number was its?

    Names and numbers are dealt anew in each example (associative recall, after Ba et al., 2016): what was learnt of one
    says nothing of another.

    Attributes:
        pairs: how many pairs there are, each number of pairs as often as another; a batch has one.

    >>> import torch
    >>> from attnlib.lab.recall import Recall
    >>> (names, numbers, asked), answer = Recall(range(5, 6)).draw(3, torch.Generator().manual_seed(0))
    >>> names.shape, numbers.shape, asked.shape, answer.shape
    (torch.Size([3, 5]), torch.Size([3, 5]), torch.Size([3, 1]), torch.Size([3, 1]))
    """

    pairs: range = range(2, 33)

    def draw(self, count: int, generator: torch.Generator, *, back: int | None = None) -> Batch:
        """Return a batch.

        Args:
            count: B, how many examples.
            generator: where chance comes from.
            back: how many pairs back the asked one stands; 1 is the last. Default: each place as often as another.
        """
        n = self.pairs[int(torch.randint(len(self.pairs), (), generator=generator))]
        names = torch.rand(count, NAMES, generator=generator).argsort(dim=1)[:, :n]
        numbers = torch.randint(NUMBERS, (count, n), generator=generator)
        place = torch.randint(n, (count, 1), generator=generator)
        if back is not None:
            place = torch.full_like(place, n - back)
        return Batch((names, numbers, names.gather(1, place)), numbers.gather(1, place))

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return at most 1,000 examples: their names are dealt anew, as all are."""
        return [self.draw(min(count, 1_000), generator)]


@dataclass(frozen=True)
class Parity:
    """Zeros and ones: was the number of ones so far odd? Asked at each place.

    Attributes:
        lengths: how long sequences are, each length as often as another; a batch has one.

    >>> import torch
    >>> from attnlib.lab.recall import Parity
    >>> (bits,), odd = Parity(range(5, 6)).draw(1, torch.Generator().manual_seed(0))
    >>> bits.tolist(), odd.tolist()
    ([[1, 1, 0, 1, 1]], [[1, 0, 0, 1, 0]])
    """

    lengths: range = range(2, 17)

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return a batch."""
        n = self.lengths[int(torch.randint(len(self.lengths), (), generator=generator))]
        bits = torch.randint(2, (count, n), generator=generator)
        return Batch((bits,), bits.cumsum(1) % 2)

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return at most 1,000 sequences of the longest length."""
        return [Parity(self.lengths[-1:]).draw(min(count, 1_000), generator)]


@dataclass(frozen=True)
class FewParities:
    """Parity, learnt from a few sequences again and again, and tested where others of the same length differ.

    Attributes:
        count: how many different sequences are trained on.
        length: how many zeros and ones each has.

    >>> import torch
    >>> from attnlib.lab.recall import FewParities
    >>> (bits,), odd = FewParities(4).draw(3, torch.Generator().manual_seed(0))
    >>> bits.shape, odd.shape
    (torch.Size([3, 16]), torch.Size([3, 16]))
    """

    count: int
    length: int = 16

    @cached_property
    def sequences(self) -> Tensor:
        """What is trained on, (count, length): always the same, no two alike."""
        generator = torch.Generator().manual_seed(self.count)
        chosen = torch.randperm(2**self.length, generator=generator)[: self.count]
        return chosen[:, None] >> torch.arange(self.length) & 1

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return a batch of sequences that are trained on."""
        bits = self.sequences[torch.randint(self.count, (count,), generator=generator)]
        return Batch((bits,), bits.cumsum(1) % 2)

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return at most 1,000 sequences, asked for where no sequence that is trained on begins alike."""
        bits = torch.randint(2, (min(count, 1_000), self.length), generator=generator)
        known = (bits[:, None] == self.sequences).cumprod(-1).any(1).bool()  # whether so far it was trained on
        return [Batch((bits,), (bits.cumsum(1) % 2).masked_fill(known, IGNORED))]
