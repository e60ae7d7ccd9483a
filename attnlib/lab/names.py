"""Texts in which names of two tokens come again: what follows the first token stands only in the text itself.

After the sequences with which Olsson et al. (2022) found induction heads.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from attnlib.lab.tasks import IGNORED, Batch

SYLLABLES = tuple(consonant + vowel for consonant in "bdghklnr" for vowel in "aiou")
ONE_IN = 8  # of the pairs of tokens is never a name in training


class Told(NamedTuple):
    """Texts and what stands where in them.

    Attributes:
        tokens: (B, L), places in ``SYLLABLES``.
        name: (B, L): the number of the name that a token belongs to, -1 where it belongs to none.
        second: (B, L), bool: whether it is the second token of its name.
    """

    tokens: Tensor
    name: Tensor
    second: Tensor

    @property
    def asked(self) -> Tensor:
        """Where a name comes again, its second token: (B, L), bool. Only there can a reader know what follows."""
        L = self.tokens.shape[1]
        earlier = torch.ones(L, L, dtype=torch.bool).tril(-1)
        return (self.same_name & self.second[:, None] & self.second[:, :, None] & earlier).any(-1)

    @property
    def same_name(self) -> Tensor:
        """Whether two tokens belong to the same name: (B, L, L), bool."""
        return (self.name[:, :, None] == self.name[:, None]) & (self.name >= 0)[:, :, None]

    @property
    def batch(self) -> Batch:
        """The batch that asks for the second token wherever a name comes again: at each place, for the next token."""
        target = torch.where(self.asked, self.tokens, IGNORED)
        return Batch((self.tokens[:, :-1],), target[:, 1:])


@dataclass(frozen=True)
class Names:
    """Random texts: what :func:`attnlib.lab.training.train` draws from.

    Each text has names of its own. The first token of a name stands nowhere else, and its second always follows; the
    rest are tokens that mean nothing, among which second tokens occur, too. No name of a test is one in training.

    Attributes:
        length: L, the tokens of a text.
        names: how many names a text has.

    >>> import torch
    >>> from attnlib.lab.names import Names
    >>> (tokens,), target = Names(length=12).draw(3, torch.Generator().manual_seed(0))
    >>> tokens.shape, target.shape
    (torch.Size([3, 11]), torch.Size([3, 11]))
    """

    length: int = 32
    names: int = 3

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return a batch of texts for training."""
        return self.tell(count, generator).batch

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return at most 200 held-out texts."""
        return [self.tell(min(count, 200), generator, held_out=True).batch]

    def tell(self, count: int, generator: torch.Generator, *, held_out: bool = False) -> Told:
        """Return texts with names for training, or with held-out ones."""
        vocab, slots = len(SYLLABLES), self.length // 2 + 1
        order = torch.rand(count, vocab, generator=generator).argsort(dim=1)
        firsts, others = order[:, : self.names], order[:, self.names :]
        chance = torch.rand(count, self.names, others.shape[1], generator=generator)
        allowed = is_held_out(firsts[:, :, None], others[:, None]) == held_out
        seconds = others.gather(1, chance.masked_fill(~allowed, -1).argmax(-1))
        # A slot holds a name or two tokens without meaning; two slots of five hold the latter.
        name = torch.randint(-2, self.names, (count, slots), generator=generator).clamp(min=-1)
        numbers = torch.randint(others.shape[1], (count, 2 * slots), generator=generator)
        meaningless = others.gather(1, numbers).unflatten(1, (slots, 2))
        named = torch.stack([firsts.gather(1, name.clamp(min=0)), seconds.gather(1, name.clamp(min=0))], dim=2)
        tokens = torch.where(name[..., None] >= 0, named, meaningless)
        second = torch.stack([torch.zeros_like(name, dtype=torch.bool), name >= 0], dim=2)
        # A text begins at the first or at the second token of a slot, so that places do not tell what is a name.
        start = torch.randint(2, (count, 1), generator=generator)
        kept = start + torch.arange(self.length)
        tokens = tokens.flatten(1).gather(1, kept)
        name, second = name.repeat_interleave(2, dim=1).gather(1, kept), second.flatten(1).gather(1, kept)
        halved = start[:, 0] == 1  # then its first token is half of nothing
        name[halved, 0], second[halved, 0] = -1, False
        return Told(tokens, name, second)


def is_held_out(first: Tensor, second: Tensor) -> Tensor:
    """Return whether two tokens never are a name in training.

    >>> import torch
    >>> from attnlib.lab.names import is_held_out
    >>> is_held_out(torch.tensor([3, 3]), torch.tensor([5, 6]))
    tensor([ True, False])
    """
    return (first + second) % ONE_IN == 0
