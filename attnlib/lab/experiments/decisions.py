"""What the chapter on decisions has no minute for: three seeds of its model, what breaks it, and its rivals.

All learn from the same episodes of a wanderer in :mod:`attnlib.lab.gridworld`, and are tested in layouts of coins that
none of them has seen. In float64, with parameters rounded after each step, so that the numbers are the same elsewhere.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from attnlib import masks
from attnlib.lab.gridworld import (
    ACTIONS,
    BEST,
    CHESTS,
    COINS,
    FEATURES,
    FORK,
    STEPS,
    Episodes,
    Grid,
    check_inputs,
    layouts,
    optimum,
    recorded,
)
from attnlib.lab.models import count_parameters, of_size
from attnlib.lab.training import float64, train
from attnlib.recording import record_attention
from attnlib.transformer import Encoder

SEEDS = range(3)
EPISODES = 10_000
TRAINING = 1_600  # steps
# As the chapter trains.
HOW: dict[str, Any] = {"batch_size": 32, "rate": 5e-3, "warmup": 100, "fall_to_zero": True, "decimals": 5}
ASKED = range(BEST + 1)  # every return that there is
BEYOND = range(BEST + 1, 21)  # more than there is
DRAWN, ASKED_AND_DRAWN = (1, 3, 0), (8, 11, 6)  # a layout that was held out, and what is asked for there
CLOSED = {"the sign": 1, "the first action": 2, "the second state": 4, "the second action": 5}  # tokens, by place


def waves(numbers: Tensor, d_model: int) -> Tensor:
    """Write numbers (…) as sines and cosines (…, d_model), as positions are written, so that neighbours differ.

    >>> import torch
    >>> from attnlib.lab.experiments.decisions import waves
    >>> waves(torch.tensor([0.0, 8.0]), 4)[0]
    tensor([0., 0., 1., 1.])
    """
    angles = numbers[..., None] * torch.logspace(0, -2, d_model // 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class DecisionTransformer(nn.Module):
    """The chapter's model: returns, states and actions as one sequence, in which each state is asked for an action.

    Args:
        d_model: the size of the tokens.
        num_layers: the layers of the encoder.

    >>> import torch
    >>> from attnlib.lab.experiments.decisions import DecisionTransformer
    >>> from attnlib.lab.gridworld import layouts, recorded
    >>> episodes = recorded(layouts(held_out=True), torch.Generator().manual_seed(0))
    >>> inputs, _ = episodes.draw(3, torch.Generator().manual_seed(0))
    >>> DecisionTransformer(8)(*inputs).shape
    torch.Size([3, 12, 4])
    """

    def __init__(self, d_model: int = 48, num_layers: int = 1):
        super().__init__()
        self.wish = nn.Linear(d_model, d_model)
        self.see = _of_features(d_model)
        self.act = nn.Embedding(len(ACTIONS), d_model)
        self.when = nn.Embedding(STEPS, d_model)
        for table in (*self.see, self.act, self.when):
            nn.init.normal_(table.weight, std=0.5)
        sizes: dict[str, Any] = {"num_heads": 4, "d_ff": 4 * d_model, "dropout": 0.0, "norm_first": True}
        self.encoder = Encoder(num_layers, d_model=d_model, **sizes)
        self.output = nn.Linear(d_model, len(ACTIONS))

    def forward(self, returns: Tensor, states: Tensor, actions: Tensor, mask: masks.Mask | None = None) -> Tensor:
        """Returns still to come (B, T), states (B, T, 4) and actions (B, T) → logits of each action, (B, T, 4)."""
        check_inputs(returns, states)
        seen = sum(table(states[..., i]) for i, table in enumerate(self.see))
        x = torch.stack([self.written(returns), seen, self.act(actions)], dim=2)
        x = (x + self.when.weight[: x.shape[1], None]).flatten(1, 2)  # (B, 3T, d_model)
        x = self.encoder(x, masks.causal() if mask is None else mask)
        return self.output(x[:, 1::3])

    def written(self, returns: Tensor) -> Tensor:
        """Returns (B, T) → their tokens (B, T, d_model)."""
        return self.wish(waves(returns, self.wish.in_features))


class OneLine(DecisionTransformer):
    """The same, with a return written as in the paper: the number, scaled, times a vector."""

    def __init__(self, d_model: int = 48, num_layers: int = 1):
        super().__init__(d_model, num_layers)
        self.wish = nn.Linear(1, d_model)

    def written(self, returns: Tensor) -> Tensor:
        """As :class:`DecisionTransformer` does."""
        return self.wish(returns[..., None] / 4)


class Cloner(DecisionTransformer):
    """Behaviour cloning: the same, and the return is 0 in training and in tests."""

    def forward(self, returns: Tensor, states: Tensor, actions: Tensor, mask: masks.Mask | None = None) -> Tensor:
        """As :class:`DecisionTransformer` does."""
        return super().forward(torch.zeros_like(returns), states, actions, mask)


class Present(nn.Module):
    """No memory: the return still to come, the state and the time, and nothing from before."""

    def __init__(self, d_model: int):
        super().__init__()
        self.wish = nn.Linear(d_model, d_model)
        self.see = _of_features(d_model)
        self.when = nn.Embedding(STEPS, d_model)
        self.hidden = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, 4 * d_model),
            nn.ReLU(),
            nn.Linear(4 * d_model, 4 * d_model),
            nn.ReLU(),
            nn.Linear(4 * d_model, len(ACTIONS)),
        )

    def forward(self, returns: Tensor, states: Tensor, actions: Tensor) -> Tensor:
        """As :class:`DecisionTransformer` does."""
        seen = sum(table(states[..., i]) for i, table in enumerate(self.see))
        return self.hidden(
            self.wish(waves(returns, self.wish.in_features)) + seen + self.when.weight[: returns.shape[1]]
        )


class Recurrence(nn.Module):
    """A GRU: at each step it reads the action before, the return still to come and the state."""

    def __init__(self, d_model: int):
        super().__init__()
        self.wish = nn.Linear(d_model, d_model)
        self.see = _of_features(d_model)
        self.act = nn.Embedding(1 + len(ACTIONS), d_model)  # the last: none before the first
        self.body = nn.GRU(d_model, d_model, batch_first=True)
        self.output = nn.Sequential(nn.Linear(d_model, 4 * d_model), nn.ReLU(), nn.Linear(4 * d_model, len(ACTIONS)))

    def forward(self, returns: Tensor, states: Tensor, actions: Tensor) -> Tensor:
        """As :class:`DecisionTransformer` does."""
        before = torch.cat([torch.full_like(actions[:, :1], len(ACTIONS)), actions[:, :-1]], dim=1)
        seen = sum(table(states[..., i]) for i, table in enumerate(self.see))
        return self.output(self.body(self.wish(waves(returns, self.wish.in_features)) + seen + self.act(before))[0])


def _of_features(d_model: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Embedding(values, d_model) for values in FEATURES.values())


class Closed(masks.Mask):
    """Nobody reads one token, but that token itself.

    >>> from attnlib import masks
    >>> from attnlib.lab.experiments.decisions import Closed
    >>> (masks.causal() & Closed(1)).dense(4, 4).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 0, 1, 0],
            [1, 0, 1, 1]], dtype=torch.int32)
    """

    def __init__(self, token: int):
        self.token = token

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """Return whether the key is another token, or the query's own."""
        return (k != self.token) | (q == k)


# Walking


@torch.no_grad()
def walk(model: Callable[..., Tensor], layouts: Tensor, asked: Tensor) -> tuple[Grid, Episodes]:
    """Let a model walk in each layout, asked for a return (B,): it always takes the likeliest action.

    Returns:
        the grid at the end, and all that the model has read (what is still to come of what was asked, what it saw, and
        what it did).
    """
    grid, B = Grid(layouts), len(layouts)
    returns, states = torch.zeros(B, STEPS), torch.zeros(B, STEPS, 4, dtype=torch.int64)
    actions = torch.zeros(B, STEPS, dtype=torch.int64)
    for t in range(STEPS):
        returns[:, t], states[:, t] = asked - grid.got, grid.observe()
        logits = model(returns[:, : t + 1], states[:, : t + 1], actions[:, : t + 1])
        actions[:, t] = logits[:, t].argmax(-1)
        grid.step(actions[:, t])
    return grid, Episodes(returns, states, actions)


def paths(model: Callable[..., Tensor]) -> dict[str, list[int]]:
    """Return the cells of the walks that the chapter draws, by what was asked, from the start to the chest."""
    grid, _ = walk(model, torch.tensor([DRAWN]).repeat(len(ASKED_AND_DRAWN), 1), torch.tensor(ASKED_AND_DRAWN))
    cells = torch.stack(grid.path, dim=1).tolist()
    return {
        str(asked): path[: min(path.index(chest) for chest in CHESTS if chest in path) + 1]
        for asked, path in zip(ASKED_AND_DRAWN, cells, strict=True)
    }


def every(asked: range = ASKED) -> tuple[Tensor, Tensor]:
    """Return each held-out layout with each return that is asked for: (B, 3) and (B,), a layout's side by side."""
    some = layouts(held_out=True)
    return some.repeat_interleave(len(asked), 0), torch.tensor(asked).repeat(len(some))


def wished(layouts: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Return what was asked for, as things: the worth of the coins (B,), and the chest (B,), −1 for none."""
    chest = torch.where(asked < 4, -1, torch.where(asked < 8, 1 - layouts[:, 2], layouts[:, 2]))
    return asked % 4, chest


def measured(model: Callable[..., Tensor]) -> dict[str, Any]:
    """Return how often a model gets what was asked for, all, its coins, its chest; and the mean by what was asked."""
    some, asked = every()
    grid, _ = walk(model, some, asked)
    coins, chest = wished(some, asked)
    coins_got = ((~grid.coins) * torch.tensor(COINS)).sum(1)
    by_asked = (grid.got == asked).view(-1, len(ASKED))
    return {
        "all": _share(by_asked),
        "coins": _share(coins_got == coins),
        "chest": _share((grid.chest == chest)[asked >= 4]),
        "no chest": _share((grid.chest == chest)[asked < 4]),
        "by asked": [_share(column) for column in by_asked.T],
        "got": _means(grid.got, len(ASKED)),
    }


def beyond(model: Callable[..., Tensor]) -> list[float]:
    """Return the mean return when more is asked for than there is."""
    some, asked = every(BEYOND)
    return _means(walk(model, some, asked)[0].got, len(BEYOND))


def _share(right: Tensor) -> float:
    return round(right.double().mean().item(), 4)


def _means(got: Tensor, columns: int) -> list[float]:
    return [round(mean, 4) for mean in got.double().view(-1, columns).mean(0).tolist()]


@torch.no_grad()
def looks(model: DecisionTransformer) -> dict[str, Any]:
    """Return the share of attention that the fork's state gives the sign, on walks that want a chest, beside chance.

    At the first time that a walk comes there; as a mean, by head, and by head for each sign and chest. Chance: one of
    the tokens that it may read.
    """
    some, asked = every(range(4, BEST + 1))
    _, read = walk(model, some, asked)
    here = read.states[..., 0] == FORK
    at = torch.where(here.any(1), here.double().argmax(1), -1)
    some_walks = at >= 0
    with record_attention(model) as record:
        model(read.returns, read.states, read.actions)
    weights = record["encoder.layers.0.self_attention"]  # (B, H, 3T, 3T)
    rows = weights[torch.arange(len(at)), :, 3 * at + 1][some_walks]  # (B, H, 3T)
    at = at[some_walks]
    own = rows[torch.arange(len(at)), :, 3 * at]  # the return still to come, beside it
    return {
        "walks": len(at),
        "sign": round(rows[:, :, 1].mean().item(), 4),
        "by head": [round(share, 4) for share in rows[:, :, 1].mean(0).tolist()],
        "by case": {
            case: [round(share, 4) for share in rows[which[some_walks], :, 1].mean(0).tolist()]
            for case, which in cases(some, asked).items()
        },
        "return": round(own.mean().item(), 4),
        "chance": round((1 / (3 * at + 2)).mean().item(), 4),
    }


def cases(layouts: Tensor, asked: Tensor) -> dict[str, Tensor]:
    """Return where the sign points up or down and the good or the poor chest is wanted, (B,) each."""
    return {
        f"{arrow} {chest}": (layouts[:, 2] == good) & ((asked >= 8) == (chest == "good"))
        for good, arrow in enumerate("↑↓")
        for chest in ("good", "poor")
    }


def goes_up_without_the_sign(model: DecisionTransformer) -> dict[str, float]:
    """Return how many walks open the upper chest when the sign is closed, for each sign and chest."""
    some, asked = every(range(4, BEST + 1))
    grid, _ = walk(partial(model, mask=masks.causal() & Closed(CLOSED["the sign"])), some, asked)
    return {case: _share((grid.chest == 0)[which]) for case, which in cases(some, asked).items()}


# The rows


@cache
@float64()
def data() -> Episodes:
    """Return what all learn from: the wanderer's episodes in the layouts of training."""
    generator = torch.Generator().manual_seed(0)
    some = layouts(held_out=False)
    return recorded(some[torch.randint(len(some), (EPISODES,), generator=generator)], generator)


def best_tenth() -> Episodes:
    """Return the tenth of the episodes with the highest returns."""
    return data()[data().total.argsort(descending=True, stable=True)[: EPISODES // 10]]


def without_the_best() -> Episodes:
    """Return the episodes that were not worth all that there is."""
    return data()[data().total < BEST]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "transformer": DecisionTransformer,
    "one line": OneLine,
    "cloning": Cloner,
    "present": lambda: of_size(Present, count_parameters(DecisionTransformer())),
    "recurrence": lambda: of_size(Recurrence, count_parameters(DecisionTransformer())),
}


@float64()
def trained(make: Callable[[], nn.Module], episodes: Episodes, seed: int, steps: int = TRAINING) -> nn.Module:
    """Return a model of a seed, trained on episodes as the chapter trains."""
    torch.manual_seed(seed)
    model = make()
    train(model, episodes, seed=seed, steps=steps, check_every=steps, **HOW)
    return model.eval()


@float64()
def run(name: str, seed: int, steps: int = TRAINING) -> dict[str, Any]:
    """Return what a model of :data:`MODELS` finds."""
    model = trained(MODELS[name], data(), seed, steps)
    found = {"seed": seed, **measured(model), "beyond": beyond(model)}
    if name == "transformer" and isinstance(model, DecisionTransformer):
        closed = {who: measured(partial(model, mask=masks.causal() & Closed(k))) for who, k in CLOSED.items()}
        up = goes_up_without_the_sign(model)
        found |= {"looks": looks(model), "closed": closed, "up without the sign": up, "paths": paths(model)}
    return found


@float64()
def run_best_tenth(seed: int) -> dict[str, Any]:
    """Return what behaviour cloning finds when it learns from the best tenth."""
    return {"seed": seed, **measured(trained(Cloner, best_tenth(), seed))}


@float64()
def run_without_the_best(seed: int) -> dict[str, Any]:
    """Return what the chapter's model finds, when nothing that it learns from was worth all that there is."""
    return {"seed": seed, **measured(trained(DecisionTransformer, without_the_best(), seed))}


@float64()
def run_data() -> dict[str, Any]:
    """Return what the wanderer gets, in training and in the layouts held out, and what could be got at most."""
    some = layouts(held_out=True)
    there = recorded(some.repeat(1_000, 1), torch.Generator().manual_seed(1)).total
    return {
        "mean": round(data().total.mean().item(), 4),
        "best tenth": round(best_tenth().total.mean().item(), 4),
        "shares": [_share(data().total == asked) for asked in ASKED],
        "held out": round(there.mean().item(), 4),
        "held out, shares": [_share(there == asked) for asked in ASKED],
        "optimum": sorted({optimum(tuple(layout)) for layout in some.tolist()}),
    }


def row(make: Callable[[], nn.Module], find: Callable[[int], dict]) -> dict[str, Any]:
    """Return the size of a model and what is found with each seed."""
    return {"parameters": count_parameters(make()), "seeds": [find(seed) for seed in SEEDS]}


ROWS: Mapping[str, Callable[[], dict]] = {
    "data": run_data,
    **{name: partial(row, make, partial(run, name)) for name, make in MODELS.items()},
    "cloning, best tenth": partial(row, Cloner, run_best_tenth),
    "without the best": partial(row, DecisionTransformer, run_without_the_best),
}
