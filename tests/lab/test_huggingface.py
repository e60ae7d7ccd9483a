"""The stored fine-tuning of a model of Transformers, and what the page claims of it."""

import pytest
import torch

pytest.importorskip("transformers")

from attnlib.lab import stored
from attnlib.lab.experiments import huggingface as experiment
from attnlib.lab.training import float64

FOUND = stored.load("huggingface")["rows"]


def totals(what):
    return [sum(FOUND[seed][what]) for seed in experiment.ROWS]


def test_every_row_is_stored():
    assert FOUND.keys() == experiment.ROWS.keys()


@float64()
def test_the_nearest_of_the_thirty_is_found_again():
    parts = experiment.forms()
    assert FOUND["seed 0"]["of"] == [len(labels) for *_, labels in parts]
    found = []
    for own, own_labels, rest, labels in parts:
        distances = (rest[:, None] - own[None]).square().sum((2, 3, 4))
        found.append(int((own_labels[distances.argmin(1)] == labels).sum()))
        counts = own_labels.bincount(minlength=10)
        assert counts.sum() == 30
        assert counts.min() >= 2
    assert FOUND["seed 0"]["nearest"] == found


@float64()
def test_a_few_steps_of_tuning_are_the_same_on_every_backend():
    """What is trained through attnlib is what eager would train."""
    own, labels, rest, _ = experiment.forms()[0]
    answers = []
    for implementation in ("attnlib", "eager"):
        model = experiment.make(seed=0)
        model.set_attn_implementation(implementation)
        experiment.fit(model, own, labels, 0, steps=5, rate=1e-3)
        with torch.no_grad():
            answers.append(model(pixel_values=rest).logits)
    torch.testing.assert_close(*answers, atol=1e-4, rtol=1e-4)


def test_what_the_page_says():
    before, tuned, alone, nearest = (totals(what) for what in ("before", "tuned", "from scratch", "nearest"))
    assert all(after > first for first, after in zip(before, tuned, strict=True))
    assert max(alone) < min(before)
    assert sum(tuned) / len(tuned) < nearest[0]
