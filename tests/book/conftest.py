"""What the tests of the book share."""

import pytest

from tests.book.good_chapter import GOOD_TEXT
from tools.execute import execute, read_text


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A chapter as it should be, executed as chapters are; copy it before you spoil it."""
    return execute(read_text(GOOD_TEXT), tmp_path_factory.mktemp("good"))
