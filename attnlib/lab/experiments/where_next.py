"""What is kept of a text, and what is found in it again: attention, what costs less, and three seeds of each.

==========================  =======================================================================================
``recall, …``               pairs of a name and a number, one is asked for: right answers by the number of pairs
``twice, …``                each name is read twice, with two numbers: which of them is answered, and what is when
                            one of the readings is taken away
==========================  =======================================================================================

All models are :class:`attnlib.lab.experiments.recurrence.Recaller` with another way to look, and of about one size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.lab.experiments.recurrence import HOW, STEPS, Recaller, StateOnly, rounded
from attnlib.lab.models import count_parameters
from attnlib.lab.recall import NAMES, NUMBERS, Recall
from attnlib.lab.tasks import Batch
from attnlib.lab.training import accuracy, float64, train
from attnlib.multihead import MultiHeadAttention

SEEDS = range(3)
D_MODEL = 32
GRU_WIDTH = 27  # as many parameters as the others
TWICE_STEPS = 1_000
PAIRS = (1, 2, 4, 8, 16, 32, 64)  # how many are tested; 2 to 32 were trained on
TWICE_NAMES = (1, 2, 4, 8, 16)  # how many names are tested, each read twice; 1 to 8 were trained on
Answers = dict[str, float]
Features = Callable[[Tensor], Tensor]


# The task


@dataclass(frozen=True)
class Twice:
    """Names and numbers, then all names again, in another order, with other numbers: what was the asked one's last?

    Attributes:
        names: how many names there are, each number of names as often as another; a batch has one.

    Raises:
        ValueError: if there are more names than :data:`attnlib.lab.recall.NAMES`, or none.

    >>> import torch
    >>> from attnlib.lab.experiments.where_next import Twice
    >>> (names, numbers, asked), answer = Twice(range(3, 4)).draw(2, torch.Generator().manual_seed(0))
    >>> names.shape, numbers.shape, asked.shape, answer.shape
    (torch.Size([2, 6]), torch.Size([2, 6]), torch.Size([2, 1]), torch.Size([2, 1]))
    """

    names: range = range(1, 9)

    def __post_init__(self) -> None:
        if not self.names or min(self.names) < 1 or max(self.names) > NAMES:
            raise ValueError(f"names: expected a range inside 1 to {NAMES}, got {self.names}")

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return a batch of ``count`` examples."""
        n = self.names[int(torch.randint(len(self.names), (), generator=generator))]
        names = torch.rand(count, NAMES, generator=generator).argsort(dim=1)[:, :n]
        numbers = torch.rand(count, n, NUMBERS, generator=generator).argsort(dim=2)[..., :2]  # two that differ
        first, last = numbers.unbind(-1)
        again = torch.rand(count, n, generator=generator).argsort(dim=1)
        place = torch.randint(n, (count, 1), generator=generator)
        read = torch.cat([names, names.gather(1, again)], 1), torch.cat([first, last.gather(1, again)], 1)
        return Batch((*read, names.gather(1, place)), last.gather(1, place))

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return at most 1,000 examples: their names are dealt anew, as all are."""
        return [self.draw(min(count, 1_000), generator)]


# What is kept


def positive(x: Tensor) -> Tensor:
    """Return elu(x) + 1 (Katharopoulos et al., 2020, eq. 7)."""
    return F.elu(x) + 1


def products(x: Tensor) -> Tensor:
    """Return twice as many features, at least half of them zero: what is positive, what is negative, times a neighbour.

    DPFP of Schlag et al. (2021), with ν = 1; the first one's neighbour is the last.

    >>> import torch
    >>> from attnlib.lab.experiments.where_next import products
    >>> products(torch.tensor([2.0, 3.0, -1.0]))
    tensor([2., 6., 0., 0., 0., 0.])
    """
    x = torch.cat([x, -x], dim=-1).relu()
    return x * x.roll(1, -1)


class Memory(nn.Module):
    """Attention whose past is one matrix a head; what is written into it, a subclass says in ``found``.

    Args:
        num_heads: H; the more, the smaller are the matrices.
        features: what keys and queries go through.
    """

    def __init__(self, num_heads: int = 1, features: Features = positive):
        super().__init__()
        self.num_heads, self.features = num_heads, features
        self.wq, self.wk, self.wv, self.fc = (nn.Linear(D_MODEL, D_MODEL, bias=False) for _ in range(4))

    def forward(self, asked: Tensor, pairs: Tensor) -> Tensor:
        """Queries (B, 1, d_model), keys and values (B, n, d_model) → (B, 1, d_model)."""
        query, key, value = (
            w(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, n, d_model / H)
            for w, x in ((self.wq, asked), (self.wk, pairs), (self.wv, pairs))
        )
        return self.fc(self.found(self.features(query), self.features(key), value).transpose(1, 2).flatten(2))

    def found(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Features of queries (B, H, 1, f) and keys (B, H, n, f), values (B, H, n, d_v) → (B, H, 1, d_v)."""
        raise NotImplementedError


class Linear(Memory):
    """Linear attention (Katharopoulos et al., 2020): S = Σ φ(k) vᵀ, and the sum of φ(k), to divide by."""

    def found(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As :meth:`Memory.found`."""
        state, norm = key.mT @ value, key.sum(-2, keepdim=True).mT
        return query @ state / (query @ norm + 1e-6)  # products may all be zero


class Decay(Linear):
    """The same, but what is kept fades with each pair (retention; Sun et al., 2023), by a factor that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.keep = nn.Parameter(torch.tensor(2.0))

    def found(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As :meth:`Memory.found`."""
        age = torch.arange(key.shape[-2] - 1, -1, -1)[:, None]
        return super().found(query, key * self.factor() ** age, value)

    def factor(self) -> Tensor:
        """Return what of the past is left after one more pair."""
        return torch.sigmoid(self.keep)


class Delta(Memory):
    """The delta rule (Schlag et al., 2021), S ← S + k (v − Sᵀk)ᵀ with |k| = 1: what k finds now is v, and v alone.

    All pairs at once (Yang et al., 2024): what each adds, u, solves uᵢ + Σⱼ₍ⱼ<ᵢ₎ (kᵢ·kⱼ) uⱼ = vᵢ.
    """

    def found(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As :meth:`Memory.found`."""
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        earlier = (key @ key.mT).tril(-1) + torch.eye(key.shape[-2])
        added = torch.linalg.solve_triangular(earlier, value, upper=False)
        return query @ (key.mT @ added)


class Latent(nn.Module):
    """Attention that keeps one short vector a pair, of which keys and values are made (DeepSeek-AI, 2024).

    Args:
        size: of that vector.
    """

    def __init__(self, size: int):
        super().__init__()
        self.down = nn.Linear(D_MODEL, size, bias=False)
        self.up_key, self.up_value = (nn.Linear(size, D_MODEL, bias=False) for _ in range(2))
        self.wq, self.fc = (nn.Linear(D_MODEL, D_MODEL, bias=False) for _ in range(2))

    def forward(self, asked: Tensor, pairs: Tensor) -> Tensor:
        """As :class:`Memory`."""
        kept = self.down(pairs)
        return self.fc(F.scaled_dot_product_attention(self.wq(asked), self.up_key(kept), self.up_value(kept)))


class Window(MultiHeadAttention):
    """Attention to the last pairs alone.

    Args:
        size: how many.
    """

    def __init__(self, size: int):
        super().__init__(1, D_MODEL, dropout=0.0)
        self.size = size

    def forward(self, asked: Tensor, pairs: Tensor) -> Tensor:  # type: ignore[override]
        """As :class:`Memory`."""
        return super().forward(asked, pairs[:, -self.size :])


class Newest(MultiHeadAttention):
    """Attention with ALiBi's bias (Press et al., 2022): a score falls with each later pair, by a learnt slope."""

    def __init__(self) -> None:
        super().__init__(1, D_MODEL, dropout=0.0)
        self.slope = nn.Parameter(torch.tensor(0.1))

    def forward(self, asked: Tensor, pairs: Tensor) -> Tensor:  # type: ignore[override]
        """As :class:`Memory`."""
        age = torch.arange(pairs.shape[1] - 1, -1, -1)
        return super().forward(asked, pairs, bias=(-self.slope * age)[None])


# The rows


@dataclass(frozen=True)
class Kind:
    """A model, and how many numbers it keeps of n pairs."""

    look: Callable[[], nn.Module]
    keeps: Callable[[int], int]
    width: int = D_MODEL

    def make(self) -> Recaller:
        """Return the model."""
        return Recaller(self.width, self.look())


def each(size: int, most: int | None = None) -> Callable[[int], int]:
    """Return how much is kept by who keeps ``size`` numbers a pair, of ``most`` pairs at most."""
    return lambda n: size * (n if most is None else min(n, most))


def always(size: int) -> Callable[[int], int]:
    """Return how much is kept by who keeps as many numbers, whatever the number of pairs."""
    return lambda n: size


KINDS: dict[str, Kind] = {
    "attention": Kind(partial(MultiHeadAttention, 1, D_MODEL, dropout=0.0), each(2 * 32)),
    "grouped keys": Kind(partial(MultiHeadAttention, 4, D_MODEL, dropout=0.0, num_kv_heads=1), each(2 * 8)),
    "latent": Kind(partial(Latent, 8), each(8)),
    "window of 8": Kind(partial(Window, 8), each(2 * 32, most=8)),
    "window of 32": Kind(partial(Window, 32), each(2 * 32, most=32)),
    "linear, 4 heads": Kind(partial(Linear, 4), always(4 * 8 * (8 + 1))),
    "linear": Kind(Linear, always(32 * (32 + 1))),
    "linear, products": Kind(partial(Linear, 1, products), always(64 * (32 + 1))),
    "decay": Kind(Decay, always(32 * (32 + 1))),
    "delta, 4 heads": Kind(partial(Delta, 4, F.silu), always(4 * 8 * 8)),
    "delta": Kind(partial(Delta, 1, F.silu), always(32 * 32)),
    "delta, products": Kind(partial(Delta, 1, products), always(64 * 32)),
    "GRU": Kind(lambda: StateOnly(nn.GRU(GRU_WIDTH, GRU_WIDTH, batch_first=True)), always(GRU_WIDTH), GRU_WIDTH),
    "newest": Kind(Newest, each(2 * 32)),
}
IN_RECALL = [name for name in KINDS if name != "newest"]
IN_TWICE = ("attention", "newest", "linear", "linear, products", "decay", "delta", "delta, products", "GRU")


def trained(name: str, task: Any, seed: int, steps: int) -> Recaller:
    """Return a model of :data:`KINDS` and of a seed, trained on a task."""
    torch.manual_seed(seed)
    model = KINDS[name].make()
    train(model, task, seed=seed, steps=steps, check_every=steps, **HOW)
    return model.eval()


def shares(model: nn.Module, tasks: dict[int, Any], count: int = 1_000) -> dict[str, float]:
    """Return the share of right answers on each task."""
    generator = torch.Generator().manual_seed(1)
    return rounded({n: accuracy(model, [task.draw(count, generator)]) for n, task in tasks.items()})


def by_pairs(model: nn.Module) -> dict[str, float]:
    """Return the share of right answers by the number of pairs."""
    return shares(model, {n: Recall(range(n, n + 1)) for n in PAIRS})


def by_names(model: nn.Module) -> dict[str, float]:
    """Return the share of right answers by the number of names, each of which is read twice."""
    return shares(model, {n: Twice(range(n, n + 1)) for n in TWICE_NAMES})


@torch.no_grad()
def taken_away(model: nn.Module, count: int = 1_000) -> dict[str, Answers]:
    """Return what is answered, the first number, the last or another, when one reading is taken away, of 4 names.

    ``none``, the asked name's ``last`` or ``first``, or that of ``another`` name, the last one.
    """
    n = 4
    (names, numbers, asked), last = Twice(range(n, n + 1)).draw(count, torch.Generator().manual_seed(2))
    of_asked = names == asked
    first = numbers[:, :n].gather(1, of_asked[:, :n].int().argmax(1, keepdim=True))
    places = {
        "last": n + of_asked[:, n:].int().argmax(1),
        "first": of_asked[:, :n].int().argmax(1),
        "another": n + (~of_asked[:, n:]).int().argmax(1),
    }
    found = {}
    for which in ("none", *places):
        left = torch.ones_like(of_asked)
        if which != "none":
            left[torch.arange(count), places[which]] = False
        said = model(names[left].view(count, -1), numbers[left].view(count, -1), asked).argmax(-1)
        found[which] = {
            "last": share(said == last),
            "first": share(said == first),
            "other": share((said != last) & (said != first)),
        }
    return found


def share(right: Tensor) -> float:
    """Return how many are true, of all."""
    return round(right.double().mean().item(), 4)


@float64()
def recall(name: str, seed: int, steps: int = STEPS) -> dict:
    """Return what a model knows after reading pairs."""
    model = trained(name, Recall(), seed, steps)
    found = {"seed": seed, "pairs": by_pairs(model)}
    return found | factor(model)


@float64()
def twice(name: str, seed: int, steps: int = TWICE_STEPS) -> dict:
    """Return what a model answers when names are read twice."""
    model = trained(name, Twice(), seed, steps)
    found = {"seed": seed, "names": by_names(model), "taken away": taken_away(model)}
    return found | factor(model)


def factor(model: Recaller) -> dict[str, float]:
    """Return the factor of :class:`Decay` that was learnt."""
    return {"factor": round(model.look.factor().item(), 4)} if isinstance(model.look, Decay) else {}


def row(run: Callable[[str, int], dict], name: str) -> dict:
    """Return the size of a model, and for each seed what ``run`` returns."""
    return {"parameters": count_parameters(KINDS[name].make()), "seeds": [run(name, seed) for seed in SEEDS]}


ROWS: dict[str, Callable[[], dict]] = {
    **{f"recall, {name}": partial(row, recall, name) for name in IN_RECALL},
    **{f"twice, {name}": partial(row, twice, name) for name in IN_TWICE},
}
