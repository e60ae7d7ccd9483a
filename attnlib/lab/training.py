"""Train a small model on a task, and say what it has learnt."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.lab.tasks import IGNORED, Batch
from attnlib.transformer import warmup_schedule

try:
    from tqdm import tqdm
except ModuleNotFoundError as missing:
    raise ImportError("attnlib.lab.training needs tqdm: pip install 'attnlib[lab]'") from missing


class Drawn(Protocol):
    """What one can train on, such as :class:`attnlib.lab.tasks.Task` and :class:`attnlib.lab.words.Pairs`."""

    def draw(self, count: int, generator: torch.Generator) -> Batch: ...

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]: ...


@dataclass
class History:
    """How training went.

    Attributes:
        losses: the loss of each step.
        checks: for each check its step and the accuracy on what ``task.tests`` gave.
        watched: for each check its step and what ``watch`` returned.
    """

    losses: list[float] = field(default_factory=list)
    checks: list[tuple[int, float]] = field(default_factory=list)
    watched: list[tuple[int, Any]] = field(default_factory=list)


def train(
    model: nn.Module,
    task: Drawn,
    *,
    seed: int,
    steps: int,
    rate: float = 3e-3,
    warmup: int = 100,
    batch_size: int = 128,
    check_every: int = 100,
    stop_at: float = 1.0,
    fall_to_zero: bool = False,
    decimals: int | None = None,
    watch: Callable[[], Any] | None = None,
) -> History:
    """Train with the paper's optimizer and schedule, until two checks in a row find ``stop_at``, or for all steps.

    Args:
        model: the model; ``model(*batch.inputs)`` gives logits (B, L, vocab).
        task: what to draw batches from.
        seed: of the batches. The weights' is the caller's: they are made before.
        steps: the most steps.
        rate: the highest learning rate, after ``warmup`` steps.
        warmup: how many steps the rate rises; see :func:`attnlib.transformer.warmup_schedule`.
        batch_size: sequences a step.
        check_every: steps between two checks on what ``task.tests`` gives.
        stop_at: the accuracy that ends training, when two checks in a row find it: one may be luck.
        fall_to_zero: instead of the paper's schedule, keep the highest rate until half of all steps are done, then let
            it fall to zero in a line: what is learnt in few steps is then less of an accident.
        decimals: what parameters are rounded to after each step. Processors round sums differently, in the last of 16
            digits, and training makes such a difference grow, over some hundred steps, into other numbers. Rounded to 5
            decimals in float64 it is cut off before it can grow, unless a number lies on the edge between two. A
            thousand steps were the same, bit by bit, on two instruction sets.
        watch: called at each check, to look at how the model learns; what it returns is kept.

    >>> from torch import nn
    >>> from attnlib.lab.models import Tagger
    >>> from attnlib.lab.tasks import reversal
    >>> from attnlib.lab.training import train
    >>> history = train(Tagger(10, 8, nn.Identity()), reversal(), seed=0, steps=3)
    >>> len(history.losses)
    3
    """
    generator = torch.Generator().manual_seed(seed)
    kept = task.tests(5000, torch.Generator().manual_seed(seed))
    descent = Descent(model, steps=steps, rate=rate, warmup=warmup, fall_to_zero=fall_to_zero, decimals=decimals)
    history = History()
    bar = tqdm(range(1, steps + 1), unit="step", leave=False)
    for step in bar:
        inputs, target = task.draw(batch_size, generator)
        logits = model.train()(*inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)
        descent.step(loss)
        history.losses.append(loss.item())
        if step % check_every == 0 or step == steps:
            right = accuracy(model, kept)
            history.checks.append((step, right))
            if watch is not None:
                history.watched.append((step, watch()))
            bar.set_postfix(loss=f"{loss.item():.3f}", accuracy=f"{right:.1%}")
            if [right >= stop_at for _, right in history.checks[-2:]] == [True, True]:
                break
    bar.close()
    return history


class Descent:
    """What one step of training does: Adam under a schedule, with gradients clipped and parameters rounded.

    Args:
        model: whose parameters are changed.
        steps: how many steps there will be.
        rate: as for :func:`train`; so are ``warmup``, ``fall_to_zero`` and ``decimals``.

    >>> import torch
    >>> from attnlib.lab.training import Descent
    >>> model = torch.nn.Linear(2, 1)
    >>> descent = Descent(model, steps=1, rate=0.1, warmup=1, fall_to_zero=True, decimals=5)
    >>> descent.step(model(torch.ones(1, 2)).sum())
    >>> model.bias.equal(model.bias.round(decimals=5))
    True
    """

    def __init__(
        self, model: nn.Module, *, steps: int, rate: float, warmup: int, fall_to_zero: bool, decimals: int | None
    ):
        self.model, self.decimals = model, decimals
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate * warmup**0.5, betas=(0.9, 0.98), eps=1e-9)
        if fall_to_zero:
            self.schedule = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer, lambda done: warmup**-0.5 * min((done + 1) / warmup, 1, 2 * (1 - done / steps))
            )
        else:
            self.schedule = warmup_schedule(self.optimizer, d_model=1, warmup_steps=warmup)  # its highest is `rate`

    def step(self, loss: Tensor) -> None:
        """Go one step down the gradient of a loss."""
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if self.decimals is not None:
            round_parameters(self.model, self.decimals)
        self.schedule.step()


@torch.no_grad()
def round_parameters(model: nn.Module, decimals: int) -> None:
    """Round all parameters, so that rounding on another processor does not grow; see ``decimals`` of :func:`train`.

    >>> from torch import nn
    >>> from attnlib.lab.training import round_parameters
    >>> model = nn.Linear(2, 3)
    >>> round_parameters(model, decimals=1)
    >>> model.weight.equal(model.weight.round(decimals=1))
    True
    """
    for parameter in model.parameters():
        parameter.round_(decimals=decimals)


class Dropout(nn.Module):
    """Dropout (Srivastava et al., 2014) that drops the same numbers on every processor.

    ``nn.Dropout`` draws its lots in another way on Intel's processors, so that one seed gives two results;
    ``torch.rand`` draws the same ones everywhere.

    Args:
        p: the share of numbers that are set to zero in training; the others grow, so that the mean stays.

    >>> import torch
    >>> from attnlib.lab.training import Dropout
    >>> dropout = Dropout(0.5)
    >>> sorted(set(dropout(torch.ones(50)).tolist())), sorted(set(dropout.eval()(torch.ones(50)).tolist()))
    ([0.0, 2.0], [1.0])
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Numbers → numbers of the same shape."""
        if not self.training:
            return x
        return x * (torch.rand_like(x) >= self.p) / (1 - self.p)


@contextmanager
def float64() -> Iterator[None]:
    """Compute in float64 by default inside of the block, or of the function that is decorated.

    >>> import torch
    >>> from attnlib.lab.training import float64
    >>> with float64():
    ...     torch.zeros(1).dtype
    torch.float64
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


@torch.no_grad()
def accuracy(model: nn.Module, batches: list[Batch], *, of_tokens: bool = False) -> float:
    """Return the share of sequences that the model says without a single wrong token; or the share of right tokens.

    For a decoder that cannot see the answer, that is the share that greedy search would write, though the model reads
    the right target here: as long as it has said nothing wrong, what it would have written is what it reads.

    >>> import torch
    >>> from attnlib.lab.models import Tagger
    >>> from attnlib.lab.tasks import reversal
    >>> from attnlib.lab.training import accuracy
    >>> batches = reversal().tests(50, torch.Generator().manual_seed(0))
    >>> accuracy(Tagger(10, 8, torch.nn.Identity()), batches)
    0.0
    """
    right, asked = 0, 0
    model.eval()
    for inputs, target in batches:
        said = model(*inputs).argmax(-1)
        if of_tokens:
            right += int(((said == target) & (target != IGNORED)).sum())
            asked += int((target != IGNORED).sum())
        else:
            right += int(((said == target) | (target == IGNORED)).all(-1).sum())
            asked += len(target)
    return right / asked
