"""The book's table of architectures is the tests' parameters, so that it cannot be wrong."""

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from tests.interop.architectures import ARCHITECTURES, KINDS

PAGE = Path(__file__).resolve().parents[2] / "text" / "6_tools" / "huggingface.md"


def table():
    """Return the lines of the table: a row for each kind, by what is special about its attention."""
    lines = ["| what goes in | architectures |", "|---|---|"]
    for kind in KINDS:
        of_kind = [row for row in ARCHITECTURES if row.kind == kind]
        groups: dict[str, list[str]] = {}
        for row in of_kind:
            groups.setdefault(row.what, []).append(f"`{row.name}`")
        cells = [", ".join(names) + (f" ({what})" if what else "") for what, names in groups.items()]
        lines.append(f"| {kind} | {'; '.join(cells)} |")
    return lines


def test_the_pages_table_is_made_of_the_tests_parameters():
    if not PAGE.exists():  # the package's tests run without the book
        pytest.skip("the book is not here")
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    start = lines.index("| what goes in | architectures |")
    assert lines[start : start + len(table())] == table()


def test_there_are_as_many_as_are_promised():
    assert len(ARCHITECTURES) == len({row.name for row in ARCHITECTURES}) >= 69
