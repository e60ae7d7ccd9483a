"""Who hunts? Five seeds of attention without positions and with them, and of a GRU, on sentences and their mirrors.

=========================  ========================================================================================
``attention``              one head, its outputs averaged: a bag of words
``attention + positions``  the same, with sinusoids added to the words
``GRU``                    a recurrent net of equal size, which reads the words one by one
=========================  ========================================================================================
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attnlib.functional import attention_weights
from attnlib.lab.models import count_parameters
from attnlib.lab.tasks import Batch
from attnlib.lab.training import accuracy, float64, train

SEEDS = range(5)
NOUNS = ("cats", "mice", "dogs", "birds", "foxes", "owls", "wolves", "hares", "bears", "fish")
VERBS = ("chase", "hunt", "catch", "follow")
FILLERS = ("today", "softly", "again", "there", "here", "now")
WORDS = NOUNS + VERBS + FILLERS  # a word is its number in this list
LENGTHS = (6, 12, 24)  # words in a sentence; 6 are trained on
D_MODEL = 16
HOW: dict[str, Any] = {"rate": 0.01, "warmup": 50, "batch_size": 64, "fall_to_zero": True, "decimals": 5}


@dataclass(frozen=True)
class Hunts:
    """Sentences of a hunter, a verb and a hunted, in this order, with fillers anywhere: who is the hunter?

    The pairs of nouns in test sentences never meet in the others.

    Attributes:
        length: how many words a sentence has.
        within: hunter, verb and hunted stand among so many first words. Default: anywhere.

    >>> import torch
    >>> from attnlib.lab.experiments.order import WORDS, Hunts
    >>> (sentence,), hunter = Hunts().draw(1, torch.Generator().manual_seed(0))
    >>> " ".join(WORDS[word] for word in sentence[0]), WORDS[hunter.item()]
    ('now today wolves there follow cats', 'wolves')
    """

    length: int = 6
    within: int | None = None

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return a batch to train on."""
        words, _, hunters = self._sentences(count, generator, kept=False)
        return Batch((words,), hunters[:, :1])

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return at most 1,000 kept sentences; the second half are the mirror images of the first."""
        words, mirrored, hunters = self._sentences(min(count, 1_000) // 2, generator, kept=True)
        return [Batch((torch.cat([words, mirrored]),), torch.cat([hunters[:, :1], hunters[:, 1:]]))]

    def _sentences(self, count: int, generator: torch.Generator, *, kept: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return sentences and their mirror images (count, length), and the hunters of both (count, 2)."""
        n = len(NOUNS)
        pairs = torch.tensor([(a, b) for a in range(n) for b in range(n) if a != b and is_kept(a, b) == kept])
        hunters = pairs[torch.randint(len(pairs), (count,), generator=generator)]
        verbs = torch.randint(n, n + len(VERBS), (count, 1), generator=generator)
        said = torch.cat([hunters[:, :1], verbs, hunters[:, 1:]], dim=1)
        words = torch.randint(n + len(VERBS), len(WORDS), (count, self.length), generator=generator)
        order = torch.rand(count, self.within or self.length, generator=generator).argsort(dim=1)
        places = order[:, :3].sort(dim=1).values
        return words.scatter(1, places, said), words.scatter(1, places, said.flip(1)), hunters


def is_kept(hunter: int, hunted: int) -> bool:
    """Return whether two nouns meet in test sentences only."""
    return (hunter + hunted) % 5 == 0


def sinusoids(places: Tensor) -> Tensor:
    """Return the paper's positions (L, d_model) of places (L,), which need not be whole.

    >>> import torch
    >>> from attnlib.lab.experiments.order import sinusoids
    >>> from attnlib.positions import sinusoidal
    >>> torch.allclose(sinusoids(torch.arange(7)), sinusoidal(7, 16))
    True
    """
    angles = places[:, None] * 10_000.0 ** (-torch.arange(0, D_MODEL, 2) / D_MODEL)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class Attending(nn.Module):
    """One head of self-attention; the mean of what its words gather names the hunter.

    Args:
        with_positions: whether sinusoids are added to the words.

    >>> import torch
    >>> from attnlib.lab.experiments.order import Attending
    >>> Attending(with_positions=True)(torch.zeros(3, 5, dtype=torch.int64)).shape
    torch.Size([3, 1, 10])
    """

    def __init__(self, with_positions: bool):
        super().__init__()
        self.with_positions, self.squeeze = with_positions, 1.0
        self.embed = nn.Embedding(len(WORDS), D_MODEL)
        self.wq, self.wk, self.wv = (nn.Linear(D_MODEL, D_MODEL, bias=False) for _ in range(3))
        self.answer = nn.Linear(D_MODEL, len(NOUNS))

    def tokens(self, words: Tensor) -> Tensor:
        """Words (B, L) → tokens (B, L, d_model)."""
        x = self.embed(words)
        return x + sinusoids(torch.arange(x.shape[1]) / self.squeeze) if self.with_positions else x

    def weights(self, words: Tensor) -> Tensor:
        """Words (B, L) → weights (B, L, L)."""
        x = self.tokens(words)
        return attention_weights(self.wq(x), self.wk(x))

    def forward(self, words: Tensor) -> Tensor:
        """Words (B, L) → logits (B, 1, nouns)."""
        gathered = self.weights(words) @ self.wv(self.tokens(words))
        return self.answer(gathered.mean(dim=1, keepdim=True))


class Recurrent(nn.Module):
    """A GRU that reads from left to right; its last state names the hunter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(WORDS), D_MODEL)
        self.gru = nn.GRU(D_MODEL, 10, batch_first=True)
        self.answer = nn.Linear(10, len(NOUNS))

    def forward(self, words: Tensor) -> Tensor:
        """Words (B, L) → logits (B, 1, nouns)."""
        return self.answer(self.gru(self.embed(words))[0][:, -1:])


def right(model: nn.Module, length: int, within: int | None = None) -> float:
    """Return how often the hunter of a kept sentence is named."""
    return round(accuracy(model, Hunts(length, within).tests(1_000, torch.Generator().manual_seed(1))), 4)


@torch.no_grad()
def pull(model: Attending, length: int = 24) -> Tensor:
    """Return how much an average noun attracts an average word by its place, (length,): a score of step 2."""
    (words,), _ = Hunts(length).tests(1_000, torch.Generator().manual_seed(1))[0]
    queries = model.wq(model.tokens(words)).mean(dim=(0, 1))
    noun = model.embed.weight[: len(NOUNS)].mean(dim=0)
    return model.wk(noun + sinusoids(torch.arange(length))) @ queries / D_MODEL**0.5


@torch.no_grad()
def as_pulled(model: Attending, length: int = 24) -> float:
    """Return how often the model names the noun whose place has the larger :func:`pull`."""
    (words,), _ = Hunts(length).tests(1_000, torch.Generator().manual_seed(1))[0]
    places = pull(model, length).expand(words.shape).masked_fill(words >= len(NOUNS), -torch.inf).argmax(1)
    said = model(words)[:, 0].argmax(1)
    return round((words.gather(1, places[:, None])[:, 0] == said).double().mean().item(), 4)


@torch.no_grad()
def with_a_noun_closed(model: Attending) -> dict[str, float]:
    """Return how often the hunter is named if no word may look at the hunter, and if none may look at the hunted."""
    (words,), hunters = Hunts().tests(1_000, torch.Generator().manual_seed(1))[0]
    x = model.tokens(words)
    scores = model.wq(x) @ model.wk(x).mT / D_MODEL**0.5
    named = {}
    for name, noun in (("hunter", hunters), ("hunted", hunters.roll(len(words) // 2, dims=0))):
        weights = scores.masked_fill((words == noun)[:, None], -torch.inf).softmax(dim=-1)
        said = model.answer((weights @ model.wv(x)).mean(dim=1)).argmax(dim=1)
        named[name] = round((said == hunters[:, 0]).double().mean().item(), 4)
    return named


@float64()
def run(make: Callable[[], nn.Module], seed: int, steps: int = 800) -> dict:
    """Train one model on sentences of six words; return what it has right, by length and beyond."""
    torch.manual_seed(seed)
    model = make()
    train(model, Hunts(), seed=seed, steps=steps, check_every=steps, **HOW)
    found: dict[str, Any] = {
        "right": {str(n): right(model, n) for n in LENGTHS},
        "24, early": right(model, 24, within=6),
    }
    if isinstance(model, Attending) and model.with_positions:
        found["6, closed"] = with_a_noun_closed(model)
        found["24, as pulled"] = as_pulled(model)
        model.squeeze = 23 / 5  # place 23 becomes place 5, the last that was trained on
        found["24, squeezed"] = right(model, 24)
    return found


def most_frequent() -> float:
    """Return how often the noun is right that hunts most often in the kept sentences."""
    _, hunters = Hunts().tests(1_000, torch.Generator().manual_seed(1))[0]
    return (hunters.flatten().bincount().max() / len(hunters)).item()


def row(make: Callable[[], nn.Module]) -> dict:
    """Return the size of a model, and what each seed has right."""
    return {"parameters": count_parameters(make()), "seeds": [{"seed": seed, **run(make, seed)} for seed in SEEDS]}


ROWS: dict[str, Callable[[], dict]] = {
    "attention": partial(row, partial(Attending, with_positions=False)),
    "attention + positions": partial(row, partial(Attending, with_positions=True)),
    "GRU": partial(row, Recurrent),
    "most frequent noun": lambda: {"right": round(most_frequent(), 4)},
}
