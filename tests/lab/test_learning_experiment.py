"""One row of the table is computed again; the others are held to be there, and to be of equal size."""

import pytest

from attnlib.lab import stored
from attnlib.lab.experiments import learning

ROWS = stored.load("learning")["rows"]
TOLERANCE = 0.01  # of the share of sequences: another processor rounds otherwise, and training enlarges it


def test_every_row_is_stored_with_every_seed():
    assert list(ROWS) == list(learning.ROWS)
    assert all([run["seed"] for run in row["seeds"]] == list(learning.SEEDS) for row in ROWS.values())
    assert len(learning.SEEDS) >= 3


@pytest.mark.parametrize("name", learning.SETUPS)
def test_a_row_is_of_the_size_that_is_stored(name):
    setup = learning.SETUPS[name]
    assert learning.count_parameters(setup.make()) == ROWS[name]["parameters"]
    attention = ROWS[f"{name.split(',')[0]}, attention"]["parameters"]
    assert ROWS[name]["parameters"] == pytest.approx(attention, rel=0.1)


@pytest.mark.parametrize("seed", learning.SEEDS)
@pytest.mark.parametrize("task", ["reverse", "sort"])
def test_attention_gets_every_sequence_right_at_the_trained_lengths(task, seed):
    assert ROWS[f"{task}, attention"]["seeds"][seed]["sequences"] == 1.0


def test_a_row_comes_out_again():
    again = learning.run(learning.SETUPS["reverse, attention"], seed=1)
    before = ROWS["reverse, attention"]["seeds"][1]
    for measure in ("sequences", "tokens"):
        assert again[measure] == pytest.approx(before[measure], abs=TOLERANCE)
    assert {str(n): share for n, share in again["by_length"].items()} == pytest.approx(
        before["by_length"], abs=TOLERANCE
    )


def test_without_attention_the_row_is_another():
    """The comparison would say nothing if the tolerance let every model through."""
    for name in ("reverse, attention without positions", "reverse, recurrence", "reverse, convolution"):
        assert all(seed["sequences"] < 1 - 10 * TOLERANCE for seed in ROWS[name]["seeds"])
