"""Loads the project's own pytest plugin; it stands here because `pytest_plugins` counts at the root only."""

pytest_plugins = ["tests.book.notebooks"]
