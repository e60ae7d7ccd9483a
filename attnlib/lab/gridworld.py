"""A small grid world to decide in: coins beside the way, two chests at its end, a sign that is shown once.

::

            column 0   1   2   3   4
    row 0                          ▣     a chest
    row 1              □   □   □   ·
    row 2          S   ·   ·   ·   ·     the corridor, from the start S to the fork
    row 3              □   □   □   ·
    row 4                          ▣     a chest

Two of the six niches □ hold a coin, worth 1 and 2. One chest holds 8, the other 4; which one, only a sign says, and it
is shown at the first step alone. So each whole number from 0 to 11 is the worth of one choice of things: coins or not,
one chest or none. Whoever opens a chest, or has made :data:`STEPS` steps, is done.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from attnlib.lab.tasks import IGNORED, Batch

MAP = ("    ^", " ooo.", "S....", " ooo.", "    v")
CELLS = tuple((row, column) for row, line in enumerate(MAP) for column, sign in enumerate(line) if sign != " ")
CORRIDOR, FORK = 2, CELLS.index((2, 4))  # a row, a cell
NICHES = tuple(cell for cell, (row, column) in enumerate(CELLS) if MAP[row][column] == "o")
CHESTS = (CELLS.index((0, 4)), CELLS.index((4, 4)))  # above, below
ACTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
STEPS = 12
COINS, POOR, GOOD = (1, 2), 4, 8
BEST = sum(COINS) + GOOD
FEATURES = {"cell": len(CELLS), "above": 3, "below": 3, "sign": 3}  # what a state says, and how many values each has


def moved(cell: int, action: int) -> int:
    """Return the cell that an action leads to; walls, also those between niches, leave one where one is.

    >>> from attnlib.lab.gridworld import CELLS, moved
    >>> CELLS[moved(CELLS.index((2, 0)), 3)]  # right
    (2, 1)
    """
    (row, column), (down, right) = CELLS[cell], list(ACTIONS.values())[action]
    there = (row + down, column + right)
    return CELLS.index(there) if there in CELLS and (not right or row == CORRIDOR) else cell


MOVED = torch.tensor([[moved(cell, action) for action in range(len(ACTIONS))] for cell in range(len(CELLS))])


def layouts(*, held_out: bool) -> Tensor:
    """Return the layouts (N, 3): the niches of the coins worth 1 and 2, and which chest is good, 0 above or 1 below.

    Of the thirty ways to lay two coins into six niches, six are held out: the second coin lies two niches after the
    first. So each coin lies in each niche once in what is held out, and four times in the others.

    >>> from attnlib.lab.gridworld import layouts
    >>> layouts(held_out=False).shape, layouts(held_out=True).shape
    (torch.Size([48, 3]), torch.Size([12, 3]))
    """
    coins = [pair for pair in itertools.permutations(range(6), 2) if ((pair[1] - pair[0]) % 6 == 2) == held_out]
    return torch.tensor([(*pair, good) for pair in coins for good in (0, 1)])


class Grid:
    """Many walkers, each in a layout of its own, who all step at once.

    Args:
        layouts: (B, 3), as :func:`layouts` gives them.

    Attributes:
        cell: (B,) where each is.
        coins: (B, 2) whether each coin still lies there.
        chest: (B,) the chest that each has opened, a number of ``CHESTS``, or −1.
        got: (B,) the return so far.
        path: where each was, (B,) for each moment, from the start on.

    >>> from attnlib.lab.gridworld import Grid, layouts
    >>> grid = Grid(layouts(held_out=True)[:1])
    >>> grid.observe()  # cell, above, below, sign: the good chest is the one above
    tensor([[5, 0, 0, 1]])
    >>> [grid.step(action).item() for action in (3, 0)]  # right, up: the coin worth 1
    [0, 1]
    """

    def __init__(self, layouts: Tensor):
        self.layouts = layouts
        B = len(layouts)
        self.time = 0
        self.cell = torch.full((B,), CELLS.index((CORRIDOR, 0)))
        self.coins = torch.ones(B, 2, dtype=torch.bool)
        self.chest = torch.full((B,), -1)
        self.got = torch.zeros_like(self.cell)
        self.path = [self.cell]
        self.lies = torch.tensor(NICHES)[layouts[:, :2]]  # (B, 2), cells

    @property
    def over(self) -> Tensor:
        """Who is done, (B,)."""
        return (self.chest >= 0) | (self.time >= STEPS)

    def observe(self) -> Tensor:
        """Return what each sees, (B, 4): its cell, the coins above and below, and at first the sign; 0 is nothing."""
        beside = [self._worth((self.lies == MOVED[self.cell, action][:, None]) & self.coins) for action in (0, 1)]
        sign = self.layouts[:, 2] + 1 if self.time == 0 else torch.zeros_like(self.cell)
        return torch.stack([self.cell, *beside, sign], dim=1)

    def step(self, actions: Tensor) -> Tensor:
        """Let each take an action, (B,); return what each gets, (B,). Who is done stays, and gets nothing."""
        done = self.over
        self.cell = torch.where(done, self.cell, MOVED[self.cell, actions])
        found = (self.lies == self.cell[:, None]) & self.coins
        self.coins &= ~found
        for number, chest in enumerate(CHESTS):
            self.chest[self.cell == chest] = number
        opened = (self.chest >= 0) & ~done
        self.time += 1
        worth = torch.where(self.chest == self.layouts[:, 2], GOOD, POOR)
        reward = self._worth(found) + worth * opened
        self.got = self.got + reward
        self.path.append(self.cell)
        return reward

    @staticmethod
    def _worth(coins: Tensor) -> Tensor:
        return (coins * torch.tensor(COINS)).sum(1)


def wander(states: Tensor, generator: torch.Generator) -> Tensor:
    """Choose actions as the data's wanderer does, (B,): rather on than back, and rather to a coin than past it.

    Where it goes at the fork has nothing to do with the sign.
    """
    cell, coin = states[:, 0], states[:, 1:3] > 0
    row = torch.tensor([row for row, _ in CELLS])[cell]
    weights = torch.tensor([0.5, 0.5, 1.0, 5.0]).repeat(len(states), 1)
    weights[:, :2] += 4.0 * coin
    weights[cell == FORK] = torch.tensor([3.0, 3.0, 1.0, 0.0])
    up, down = torch.tensor([5.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 5.0, 0.0, 0.0])
    arm = torch.tensor([column for _, column in CELLS])[cell] == CELLS[FORK][1]
    weights[(row < CORRIDOR) & arm] = up  # on to the chest
    weights[(row > CORRIDOR) & arm] = down
    weights[(row < CORRIDOR) & ~arm] = down  # out of the niche
    weights[(row > CORRIDOR) & ~arm] = up
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


@dataclass(frozen=True)
class Episodes:
    """What walkers did, N episodes of at most T steps.

    Attributes:
        returns: (N, T), float: what is still to come at each step.
        states: (N, T, 4).
        actions: (N, T), ``IGNORED`` after the end.
    """

    returns: Tensor
    states: Tensor
    actions: Tensor

    def __len__(self) -> int:
        return len(self.returns)

    def __getitem__(self, which: Tensor) -> "Episodes":
        return Episodes(self.returns[which], self.states[which], self.actions[which])

    @property
    def total(self) -> Tensor:
        """What each episode was worth, (N,)."""
        return self.returns[:, 0]

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return a batch: what a model reads, and each action, for which it is asked before it reads it."""
        some = self[torch.randint(len(self), (count,), generator=generator)]
        return Batch((some.returns, some.states, some.actions.clamp(min=0)), some.actions)

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return the same: a wanderer's next action is chance, and what counts is tested by walking."""
        return [self.draw(min(count, 100), generator)]


def recorded(layouts: Tensor, generator: torch.Generator) -> Episodes:
    """Let the wanderer walk once in each layout, and write down what it did.

    >>> import torch
    >>> from attnlib.lab.gridworld import layouts, recorded
    >>> episodes = recorded(layouts(held_out=False), torch.Generator().manual_seed(0))
    >>> episodes.states.shape, episodes.total.max().item() <= 11
    (torch.Size([48, 12, 4]), True)
    """
    grid = Grid(layouts)
    states, actions, rewards = [], [], []
    for _ in range(STEPS):
        done = grid.over
        states.append(grid.observe())
        chosen = wander(states[-1], generator)
        rewards.append(grid.step(chosen))
        actions.append(chosen.masked_fill(done, IGNORED))
    to_come = torch.stack(rewards, dim=1).flip(1).cumsum(1).flip(1)
    return Episodes(to_come.to(torch.get_default_dtype()), torch.stack(states, dim=1), torch.stack(actions, dim=1))


@cache
def optimum(layout: tuple[int, int, int], steps: int = STEPS) -> int:
    """Return the largest return in a layout, by dynamic programming over cell, coins and steps left.

    >>> from attnlib.lab.gridworld import optimum
    >>> optimum((0, 2, 1)), optimum((0, 2, 1), steps=6)
    (11, 8)
    """
    first, second, good = layout
    lies = {NICHES[first]: 0, NICHES[second]: 1}

    @cache
    def value(cell: int, coins: tuple[bool, bool], left: int) -> int:
        if not left:
            return 0
        options = []
        for action in range(len(ACTIONS)):
            there = moved(cell, action)
            if there in CHESTS:
                options.append(GOOD if there == CHESTS[good] else POOR)
            elif there in lies and coins[lies[there]]:
                kept = (coins[0] and lies[there] != 0, coins[1] and lies[there] != 1)
                options.append(COINS[lies[there]] + value(there, kept, left - 1))
            else:
                options.append(value(there, coins, left - 1))
        return max(options)

    return value(CELLS.index((CORRIDOR, 0)), (True, True), steps)


def check_inputs(returns: Tensor, states: Tensor) -> None:
    """Check that returns are numbers and states stand in the grid.

    Raises:
        ValueError: with what was expected and what came.

    >>> import torch
    >>> from attnlib.lab.gridworld import check_inputs
    >>> check_inputs(torch.tensor([float("nan")]), torch.tensor([[5, 0, 0, 1]]))
    Traceback (most recent call last):
        ...
    ValueError: returns: expected finite numbers, got nan
    """
    if not returns.isfinite().all():
        raise ValueError(f"returns: expected finite numbers, got {returns[~returns.isfinite()][0].item()}")
    for feature, (name, values) in enumerate(FEATURES.items()):
        wrong = (states[..., feature] < 0) | (states[..., feature] >= values)
        if wrong.any():
            found = states[..., feature][wrong][0].item()
            raise ValueError(f"states: expected {name} from 0 to {values - 1}, got {found}")
