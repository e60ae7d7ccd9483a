"""What the chapter on three tasks has no minute for: its model without positions, and rivals of equal size.

Each is trained with three seeds on sequences that are reversed, sorted and copied: in float64, so that the numbers are
nearly the same on another processor, and for longer than the chapter trains its own models.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from attnlib.lab.models import ConvolutionalWriter, NoPositions, RecurrentWriter, count_parameters, of_size
from attnlib.lab.tasks import Task, copying, reversal, sorting
from attnlib.lab.training import accuracy, float64, train
from attnlib.transformer import Transformer

SEEDS = range(3)
STEPS = 1_500
TESTS = 2_000  # held-out sequences for the final accuracy
SIZES: dict[str, Any] = {"d_model": 32, "num_heads": 2, "d_ff": 64, "num_layers": 1, "dropout": 0.0, "norm_first": True}
HOW: dict[str, Any] = {"batch_size": 48, "rate": 8e-3, "warmup": 50, "fall_to_zero": True}  # as the chapter trains
TASKS = {"reverse": reversal(lengths=range(10, 11), written=True), "sort": sorting(), "copy": copying()}


def attention(task: Task) -> Transformer:
    """Return the model that the chapter trains: one layer a side, two heads."""
    return Transformer(task.vocab, **SIZES)


def without_positions(task: Task) -> Transformer:
    """Return the same model, with nothing added to its tokens."""
    model = attention(task)
    model.positions = NoPositions()
    return model


def recurrence(task: Task) -> RecurrentWriter:
    """Return two GRUs as large as :func:`attention`: all that is read goes through one vector."""
    return of_size(partial(RecurrentWriter, task.vocab), count_parameters(attention(task)))


def convolution(task: Task) -> ConvolutionalWriter:
    """Return convolutions as large as :func:`attention`: six a side over five tokens, so that both ends meet."""
    return of_size(partial(ConvolutionalWriter, task.vocab, layers=6, kernel=5), count_parameters(attention(task)))


MODELS: dict[str, Callable[[Task], nn.Module]] = {
    "no positions": without_positions,
    "recurrence": recurrence,
    "convolution": convolution,
}


@float64()
def run(task: Task, make: Callable[[Task], nn.Module], seed: int, steps: int = STEPS) -> dict:
    """Train one model; return the share of held-out sequences that are right, and of their tokens."""
    torch.manual_seed(seed)
    model = make(task)
    train(model, task, seed=seed, steps=steps, check_every=steps, **HOW)
    tests = task.tests(TESTS, torch.Generator().manual_seed(1_000 + seed))
    beyond = {n: task.draw(500, torch.Generator().manual_seed(n), held_out=True, length=n) for n in range(8, 15)}
    return {
        "seed": seed,
        "sequences": round(accuracy(model, tests), 4),
        "tokens": round(accuracy(model, tests, of_tokens=True), 4),
        "by_length": {n: round(accuracy(model, [batch]), 4) for n, batch in beyond.items()},
    }


def row(task: Task, make: Callable[[Task], nn.Module]) -> dict:
    """Return the size of a model, and for each seed what :func:`run` returns."""
    model = make(task)
    return {
        "parameters": count_parameters(model),
        "width": next(part.embedding_dim for part in model.modules() if isinstance(part, nn.Embedding)),
        "seeds": [run(task, make, seed) for seed in SEEDS],
    }


ROWS = {f"{task}, {name}": partial(row, TASKS[task], make) for task in TASKS for name, make in MODELS.items()}
