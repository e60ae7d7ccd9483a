"""What attention, recurrence and convolution learn of the same tasks, with as many parameters, over three seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from attnlib.lab.models import Convolutional, NoPositions, Recurrent, RecurrentWriter, Tagger, count_parameters, of_size
from attnlib.lab.tasks import Task, copying, reversal, sorting
from attnlib.lab.training import accuracy, train
from attnlib.transformer import Encoder, Transformer

SEEDS = range(3)
TESTS = 2000  # held-out sequences for the final accuracy
LAYER: dict[str, Any] = {"d_model": 32, "d_ff": 64, "num_layers": 1, "dropout": 0.0, "norm_first": True}


@dataclass(frozen=True)
class Setup:
    """A model that is trained on a task, for at most so many steps."""

    task: Task
    make: Callable[[], nn.Module]
    steps: int


def attention_tagger(add_positions: bool = True, norm_first: bool = True) -> Tagger:
    """Return one layer of self-attention with one head, for :func:`attnlib.lab.tasks.reversal`."""
    return Tagger(10, 32, Encoder(num_heads=1, **{**LAYER, "norm_first": norm_first}), add_positions=add_positions)


def attention_writer(task: Task, add_positions: bool = True) -> Transformer:
    """Return the paper's model with one layer on each side, two heads."""
    model = Transformer(task.vocab, num_heads=2, **LAYER)
    if not add_positions:
        model.positions = NoPositions()
    return model


def recurrent_tagger() -> Tagger:
    """Return a bidirectional GRU as large as :func:`attention_tagger`."""
    return of_size(lambda size: Tagger(10, size, Recurrent(size)), count_parameters(attention_tagger()))


def convolutional_tagger() -> Tagger:
    """Return eight convolutions over five tokens, so that each end sees the other, as large as the attention."""
    return of_size(
        lambda size: Tagger(10, size, Convolutional(size, layers=8, kernel=5)), count_parameters(attention_tagger())
    )


def recurrent_writer(task: Task) -> RecurrentWriter:
    """Return two GRUs without attention, as large as :func:`attention_writer`."""
    return of_size(lambda size: RecurrentWriter(task.vocab, size), count_parameters(attention_writer(task)))


SETUPS = {
    "reverse, attention": Setup(reversal(), attention_tagger, 1500),
    "reverse, attention without positions": Setup(reversal(), partial(attention_tagger, add_positions=False), 1500),
    "reverse, attention with post-norm": Setup(reversal(), partial(attention_tagger, norm_first=False), 1500),
    "reverse, recurrence": Setup(reversal(), recurrent_tagger, 1500),
    "reverse, convolution": Setup(reversal(), convolutional_tagger, 1500),
    "sort, attention": Setup(sorting(), partial(attention_writer, sorting()), 1500),
    "sort, attention without positions": Setup(sorting(), partial(attention_writer, sorting(), False), 1500),
    "sort, recurrence": Setup(sorting(), partial(recurrent_writer, sorting()), 1500),
    "copy, attention": Setup(copying(), partial(attention_writer, copying()), 1500),
    "copy, attention without positions": Setup(copying(), partial(attention_writer, copying(), False), 1500),
    "copy, recurrence": Setup(copying(), partial(recurrent_writer, copying()), 1500),
}


def run(setup: Setup, seed: int) -> dict:
    """Train one model; return what it took, and its accuracy on held-out sequences.

    ``by_length`` goes four tokens beyond the lengths that were trained.
    """
    torch.manual_seed(seed)
    model = setup.make()
    history = train(model, setup.task, seed=seed, steps=setup.steps)
    generator = torch.Generator().manual_seed(1_000 + seed)
    tests = setup.task.tests(TESTS, generator)
    lengths = range(setup.task.lengths[0], setup.task.lengths[-1] + 5)
    return {
        "seed": seed,
        "steps": len(history.losses),
        "sequences": accuracy(model, tests),
        "tokens": accuracy(model, tests, of_tokens=True),
        "by_length": {
            length: accuracy(model, [setup.task.draw(500, generator, held_out=True, length=length)])
            for length in lengths
        },
    }


def row(setup: Setup) -> dict:
    """Return the number of parameters, and for each seed what :func:`run` returns."""
    return {"parameters": count_parameters(setup.make()), "seeds": [run(setup, seed) for seed in SEEDS]}


ROWS = {name: partial(row, setup) for name, setup in SETUPS.items()}
