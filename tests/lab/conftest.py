"""What the tests of the lab share."""

import pytest

from attnlib.lab.training import float64


@pytest.fixture
def in_float64():
    """Compute in float64 by default while a test runs."""
    with float64():
        yield
