"""What the tests of the lab share."""

import matplotlib.pyplot as plt
import pytest

from attnlib.lab.figures import book_style
from attnlib.lab.training import float64


@pytest.fixture
def in_float64():
    """Compute in float64 by default while a test runs."""
    with float64():
        yield


@pytest.fixture
def style():
    """Draw in the book's style, and close what was drawn."""
    with plt.rc_context():
        book_style()
        yield
    plt.close("all")
