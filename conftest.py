"""Loads the project's own pytest plugin; it stands here because `pytest_plugins` counts at the root only."""

import gc
from importlib.util import find_spec

# It reads notebooks. Where nothing does, attnlib's own tests run without it: make test-package.
pytest_plugins = ["tests.book.notebooks"] if find_spec("nbval") else []


def pytest_collection_finish():
    """Ten thousand tests stay until the end: the collector of cycles need not look at them again and again."""
    gc.collect()
    gc.freeze()
