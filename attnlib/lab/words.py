"""Words as tokens, and pairs of texts of any length as padded batches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from attnlib import masks
from attnlib.lab.tasks import END, IGNORED, SYMBOLS_FROM, Batch, written

Pair = tuple[Sequence[int], Sequence[int]]  # the tokens of a source and of its target


class Vocabulary:
    """The words of a language, each at the place of its token; the start and the end of a target come first.

    Args:
        words: in any order, as often as they occur.

    >>> from attnlib.lab.words import Vocabulary
    >>> vocabulary = Vocabulary("cats chase mice".split())
    >>> vocabulary.encode(["mice", "chase"])
    [4, 3]
    >>> vocabulary.decode([4, 3])
    ['mice', 'chase']
    """

    def __init__(self, words: Iterable[str]):
        self.words = ["<start>", "<end>", *sorted(set(words))]
        self._places = {word: place for place, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return the tokens of words.

        Raises:
            ValueError: if one is not in the vocabulary; the message names it.
        """
        words = list(words)
        if unknown := [word for word in words if self._places.get(word, 0) < SYMBOLS_FROM]:
            known = ", ".join(self.words[SYMBOLS_FROM:][:5])
            raise ValueError(
                f"words: expected words of the vocabulary ({known}, …), got {', '.join(map(repr, unknown))}"
            )
        return [self._places[word] for word in words]

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """Return the words of tokens."""
        return [self.words[int(token)] for token in tokens]


@dataclass(frozen=True)
class Pairs:
    """Pairs to train on and others to test with: what :func:`attnlib.lab.training.train` draws from.

    Attributes:
        training: the pairs that are drawn, each as often as another.
        held_out: the pairs that are never drawn.

    >>> import torch
    >>> from attnlib.lab.words import Pairs
    >>> pairs = Pairs(training=[([2, 3], [3, 2]), ([2], [2])], held_out=[([3], [3])])
    >>> (source, read, source_mask), target = pairs.tests(1, torch.Generator())[0]
    >>> source, read, target
    (tensor([[3]]), tensor([[0, 3]]), tensor([[3, 1]]))
    """

    training: Sequence[Pair]
    held_out: Sequence[Pair]

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return ``count`` pairs for training."""
        places = torch.randint(len(self.training), (count,), generator=generator)
        return padded([self.training[place] for place in places.tolist()])

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return ``count`` held-out pairs, or all there are, as one batch."""
        places = torch.randperm(len(self.held_out), generator=generator)[:count]
        return [padded([self.held_out[place] for place in places.tolist()])]


def padded(pairs: Sequence[Pair]) -> Batch:
    """Return pairs as a batch: the source, the target so far, the mask of the real source tokens; what is asked.

    >>> from attnlib.lab.words import padded
    >>> (source, read, source_mask), target = padded([([2, 3], [3]), ([2], [2, 2])])
    >>> source
    tensor([[2, 3],
            [2, 1]])
    >>> target
    tensor([[   3,    1, -100],
            [   2,    2,    1]])
    """
    sources, targets = (
        [torch.tensor(tokens, dtype=torch.int64) for tokens in side] for side in zip(*pairs, strict=True)
    )
    source = pad_sequence(sources, batch_first=True, padding_value=END)
    target = pad_sequence(targets, batch_first=True, padding_value=IGNORED)
    return written(source, target, masks.padding([len(tokens) for tokens in sources]))
