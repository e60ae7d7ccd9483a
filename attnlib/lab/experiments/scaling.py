"""What the division by √d_k does to training: one head that recalls, with the scale and without, for three widths.

Sixteen pairs of a name and a number are shown, then one of the names: which number was its? A head that compares names
answers it. Each row trains it with five seeds at each of three learning rates, because what is not divided may want
another rate than what is. ``small start`` divides nothing either, and begins with smaller queries and keys, so that its
first scores have the variance of divided ones: what it lacks is the divisor, not the narrow start.
"""

import math
from collections.abc import Callable
from functools import partial
from statistics import mean

import torch
from torch import Tensor, nn

from attnlib.lab.recall import NAMES, NUMBERS, Recall
from attnlib.lab.training import float64, train

__all__ = ["RATES", "ROWS", "SEEDS", "WAYS", "WIDTHS", "Finder", "curve"]

D_MODEL, PAIRS = 32, 16
WIDTHS = (16, 64, 256)  # d_k
SEEDS, RATES = range(5), (0.003, 0.01, 0.03)
STEPS, CHECK_EVERY = 400, 5


class Finder(nn.Module):
    """One head: the asked name is the query, the names are the keys, their numbers the values.

    Args:
        d_k: the width of queries and keys, whose components begin with variance ``start**2``.
        scale: what the scores are multiplied with.
        start: the standard deviation with which the components of queries and keys begin.

    >>> import torch
    >>> from attnlib.lab.experiments.scaling import Finder
    >>> names, numbers, asked = torch.tensor([[3, 5]]), torch.tensor([[7, 2]]), torch.tensor([[5]])
    >>> Finder(d_k=4, scale=1 / 2)(names, numbers, asked).shape
    torch.Size([1, 1, 32])
    """

    def __init__(self, d_k: int, scale: float, start: float = 1.0):
        super().__init__()
        self.names, self.numbers = nn.Embedding(NAMES, D_MODEL), nn.Embedding(NUMBERS, D_MODEL)
        self.wq = nn.Linear(D_MODEL, d_k, bias=False)
        self.wk = nn.Linear(D_MODEL, d_k, bias=False)
        self.output = nn.Linear(D_MODEL, NUMBERS)
        self.scale = scale
        for projection in (self.wq, self.wk):
            nn.init.normal_(projection.weight, std=start / math.sqrt(D_MODEL))

    def forward(self, names: Tensor, numbers: Tensor, asked: Tensor) -> Tensor:
        """Names (B, n), numbers (B, n), the asked name (B, 1) → logits (B, 1, NUMBERS)."""
        query, key = self.wq(self.names(asked)), self.wk(self.names(names))
        weights = (query @ key.mT * self.scale).softmax(dim=-1)  # (B, 1, n)
        return self.output(weights @ self.numbers(numbers))


WAYS: dict[str, Callable[[int], Finder]] = {
    "scaled": lambda d_k: Finder(d_k, d_k**-0.5),
    "not scaled": lambda d_k: Finder(d_k, 1.0),
    "small start": lambda d_k: Finder(d_k, 1.0, start=d_k**-0.25),
    "plain mean": lambda d_k: Finder(d_k, 0.0),  # all keys weigh the same: no attention, as many parameters
}


@float64()
def curve(way: str, d_k: int, rate: float, seed: int, steps: int = STEPS) -> list[float]:
    """Train one head; return the share of right answers on new examples, every ``CHECK_EVERY`` steps.

    >>> from attnlib.lab.experiments.scaling import curve
    >>> len(curve("scaled", 16, rate=0.01, seed=0, steps=20))
    4
    """
    torch.manual_seed(seed)
    task, model = Recall(range(PAIRS, PAIRS + 1)), WAYS[way](d_k)
    history = train(
        model,
        task,
        seed=seed,
        steps=steps,
        rate=rate,
        warmup=20,
        batch_size=64,
        check_every=CHECK_EVERY,
        stop_at=2.0,  # never: all curves are of one length
        fall_to_zero=True,
        decimals=5,
    )
    return [round(right, 4) for _, right in history.checks]


def row(way: str, d_k: int) -> dict:
    """Return which learning rate is best for a head, and its curves there, one for each seed.

    ::

        {"means": {"0.003": …, …},      of all that is right on the way, by rate: the largest is the best
         "best": "0.01", "curves": [[…], …]}
    """
    curves = {str(rate): [curve(way, d_k, rate, seed) for seed in SEEDS] for rate in RATES}
    return best_of(curves)


def best_of(curves: dict[str, list[list[float]]]) -> dict:
    """Return the row of :func:`row`, from the curves at each rate."""
    means = {rate: round(mean(map(mean, of_rate)), 4) for rate, of_rate in curves.items()}
    best = max(means, key=lambda rate: means[rate])
    return {"means": means, "best": best, "curves": curves[best]}


ROWS: dict[str, Callable[[], dict]] = {
    **{f"{way}, {d_k}": partial(row, way, d_k) for way in list(WAYS)[:3] for d_k in WIDTHS},
    "plain mean, 64": partial(row, "plain mean", 64),
}
