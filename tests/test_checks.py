import numpy as np
import pytest

from attnlib.checks import whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), np.array(3)])
def test_whole_numbers_of_any_kind_become_ints(value):
    assert whole_number("size", value) == 3
    assert type(whole_number("size", value)) is int


@pytest.mark.parametrize("value", [True, 3.0, "3", None, [3]])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(TypeError, match=f"size: expected a whole number, got {type(value).__name__}"):
        whole_number("size", value)


def test_a_number_that_is_too_small_is_refused():
    assert whole_number("size", 2, at_least=2) == 2
    with pytest.raises(ValueError, match="size: expected at least 2, got 1"):
        whole_number("size", 1, at_least=2)
