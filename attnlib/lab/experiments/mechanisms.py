"""How the models of the chapter on the Transformer learn, and where they look: one run of each.

A training's numbers depend on the processor's rounding. Stored, its curves and maps are the same for every reader.
"""

from typing import Any

import torch
from torch import Tensor, nn

from attnlib.lab.experiments.learning import attention_tagger, attention_writer
from attnlib.lab.models import Tagger
from attnlib.lab.numerals import Numerals
from attnlib.lab.tasks import END, START, Batch, Task, copying, reversal, sorting
from attnlib.lab.training import History, train
from attnlib.recording import record_attention
from attnlib.transformer import Transformer, greedy_search

SELF, CROSS = "body.layers.0.self_attention", "decoder.layers.0.cross_attention"
EVERY = 20  # steps that a stored loss is the mean of
LARGER = [120_000, 345_678, 999_999]  # numbers beyond those that the translator is trained on


def reverse() -> dict:
    """Reversal, one layer, one head."""
    torch.manual_seed(1)
    model: Tagger = attention_tagger()
    history = train(model, reversal(), seed=1, steps=1500)
    return _result(model, history, reversal().draw(1, _generator(0), held_out=True), SELF)


def sort() -> dict:
    """Sorting, stopped where nearly all is right."""
    return _written(sorting(), stop_at=0.995, shown=3, length=8)


def copy() -> dict:
    """Copying, stopped where nearly all is right."""
    return _written(copying(), stop_at=0.99, shown=1, length=10)


def translate() -> dict:
    """Translation of numbers below 100 000, English to German: the map of 342, and what becomes of larger numbers."""
    numerals = Numerals("en", "de", range(100_000), training=6_000, tests=1_000)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "d_model": 32,
        "num_heads": 2,
        "d_ff": 64,
        "num_layers": 1,
        "dropout": 0.0,
        "norm_first": True,
    }
    model = Transformer(*map(len, numerals.vocabularies), **sizes)
    history = train(model, numerals, seed=0, steps=600, label_smoothing=0.1)
    (source, _, source_mask), _ = numerals.batch(LARGER)
    written = greedy_search(model, source, start=START, end=END, max_length=30, source_mask=source_mask)
    larger = {str(number): numerals.text(tokens, side=1) for number, tokens in zip(LARGER, written, strict=True)}
    return {**_result(model, history, numerals.batch([342]), CROSS), "larger": larger}


def _written(task: Task, stop_at: float, shown: int, length: int) -> dict:
    """Train the paper's model on a task that is written; ``shown`` is the seed of the sequence whose map is kept."""
    torch.manual_seed(0)
    model = attention_writer(task)
    history = train(model, task, seed=0, steps=1500, stop_at=stop_at)
    return _result(model, history, task.draw(1, _generator(shown), held_out=True, length=length), CROSS)


def _result(model: nn.Module, history: History, batch: Batch, layer: str) -> dict:
    """Return the losses, and for one sequence its source, its target and the layer's weights (H, L, S)."""
    with record_attention(model) as record, torch.no_grad():
        model.eval()(*batch.inputs)
    return {
        "losses": [round(steps.mean().item(), 5) for steps in torch.tensor(history.losses).split(EVERY)],
        "source": batch.inputs[0][0].tolist(),
        "target": batch.target[0].tolist(),
        "weights": _rounded(record[layer][0]),
    }


def _rounded(weights: Tensor) -> list:
    return [[[round(weight, 4) for weight in row] for row in head] for head in weights.tolist()]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ROWS = {"reverse": reverse, "sort": sort, "copy": copy, "translate": translate}
