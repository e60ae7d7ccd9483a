"""The rivals of the chapter on three tasks: of equal size, all stored, and one of them trained again, shorter."""

import pytest
import torch

from attnlib.lab import stored
from attnlib.lab.experiments import rivals
from attnlib.lab.models import count_parameters

ROWS = stored.load("rivals")["rows"]


def test_every_row_is_stored_with_every_seed():
    assert list(ROWS) == list(rivals.ROWS)
    assert all([run["seed"] for run in row["seeds"]] == list(rivals.SEEDS) for row in ROWS.values())
    assert len(rivals.SEEDS) >= 3


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_of_the_size_that_is_stored(name):
    task, rival = name.split(", ")
    size = count_parameters(rivals.MODELS[rival](rivals.TASKS[task]))
    assert size == ROWS[name]["parameters"]
    assert size == pytest.approx(count_parameters(rivals.attention(rivals.TASKS[task])), rel=0.1)


def test_positions_are_needed_for_reversal_and_copying_and_not_for_sorting():
    for task, low, high in (("reverse", 0, 0.01), ("copy", 0, 0.05), ("sort", 0.99, 1)):
        assert all(low <= run["sequences"] <= high for run in ROWS[f"{task}, no positions"]["seeds"])


def test_a_run_is_the_same_again_and_leaves_the_default_dtype():
    first, again, other = (rivals.run(rivals.TASKS["copy"], rivals.convolution, seed, steps=3) for seed in (0, 0, 1))
    assert first == again
    assert {**other, "seed": 0} != first
    assert torch.get_default_dtype() == torch.float32


def test_a_row_comes_out_again():
    again = rivals.run(rivals.TASKS["copy"], rivals.recurrence, seed=1)
    before = ROWS["copy, recurrence"]["seeds"][1]
    assert again["sequences"] == pytest.approx(before["sequences"], abs=0.01)


def test_a_convolution_that_writes_sees_the_source_and_its_own_past_only():
    torch.manual_seed(0)
    model = rivals.ConvolutionalWriter(7, 8, layers=2, kernel=5)
    source, target = torch.randint(7, (2, 5)), torch.randint(7, (2, 6))
    y = model(source, target)
    later, other = target.clone(), source.clone()
    later[:, 3] = (later[:, 3] + 1) % 7
    other[:, 4] = (other[:, 4] + 1) % 7
    assert torch.allclose(model(source, later)[:, :3], y[:, :3])
    assert not torch.allclose(model(source, later)[:, 3], y[:, 3])
    assert not torch.allclose(model(other, target)[:, 0], y[:, 0])  # four places off, as far as two layers reach
