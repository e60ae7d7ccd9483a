"""Loads the project's own pytest plugin; it stands here because `pytest_plugins` counts at the root only."""

from importlib.util import find_spec

# It reads notebooks. Where nothing does, attnlib's own tests run without it: make test-package.
pytest_plugins = ["tests.book.notebooks"] if find_spec("nbval") else []
