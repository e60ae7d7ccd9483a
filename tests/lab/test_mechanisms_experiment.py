"""The stored curves and maps show what the chapter says; one of them is computed again."""

import numpy as np
import pytest

from attnlib.lab import stored
from attnlib.lab.experiments import mechanisms
from attnlib.lab.numerals import Numerals

ROWS = stored.load("mechanisms")["rows"]
TOLERANCE = 0.15  # of a mean weight: another processor rounds otherwise, and training enlarges it


def weights(row):
    return np.array(row["weights"])


def on_mirror(row):
    """The mean weight that a place gives to its mirror image."""
    return np.fliplr(weights(row)[0]).diagonal().mean()


def test_every_row_is_stored():
    assert list(ROWS) == list(mechanisms.ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_weights_are_weights_and_losses_fall(name):
    row = ROWS[name]
    assert weights(row).shape[1:] == (len(row["target"]), len(row["source"]))
    np.testing.assert_allclose(weights(row).sum(axis=-1), 1, atol=1e-3)
    assert row["losses"][-1] < row["losses"][0] / 5


def test_the_tasks_are_what_they_say():
    assert ROWS["reverse"]["target"] == ROWS["reverse"]["source"][::-1]
    assert ROWS["sort"]["target"][:-1] == sorted(ROWS["sort"]["source"])
    assert ROWS["copy"]["target"][:-1] == ROWS["copy"]["source"]


def test_larger_numbers_are_translated_wrongly():
    numerals = Numerals("en", "de", range(100), training=50, tests=10)
    for number, written in ROWS["translate"]["larger"].items():
        assert written
        assert written != " ".join(numerals.words(int(number), side=1))


def test_a_row_comes_out_again():
    again = mechanisms.reverse()
    assert again["source"] == ROWS["reverse"]["source"]
    assert weights(again)[0].argmax(axis=-1).tolist() == weights(ROWS["reverse"])[0].argmax(axis=-1).tolist()
    assert on_mirror(again) == pytest.approx(on_mirror(ROWS["reverse"]), abs=TOLERANCE)
    assert on_mirror(again) > 1 / 16 + TOLERANCE  # equal weights would not pass
