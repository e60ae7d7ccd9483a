"""The catalogue as text: complete, and true of the book."""

import re
from pathlib import Path

import pytest

from attnlib.exercises import catalogue
from attnlib.exercises.sections import PAGES, link
from attnlib.exercises.solutions import SOLUTIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("misconception", catalogue.values(), ids=catalogue.keys())
def test_an_entry_is_complete(misconception):
    key = misconception.key
    assert re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)*", key)
    assert misconception.title[0].isupper() or misconception.title.startswith(
        ("−∞", "d_k", "x ", "size", "eps", "gamma")
    )
    assert not misconception.title.endswith(".")
    for text in (misconception.symptom, misconception.belief, misconception.wild or "."):
        assert text.endswith(".")
    assert misconception.exercises
    assert misconception.section in PAGES
    right = [line.strip() for line in SOLUTIONS[misconception.exercises[0]].splitlines()]
    assert {*misconception.mend.splitlines()} <= {*right}
    for exercise in misconception.exercises:
        assert misconception.code(exercise).strip() != SOLUTIONS[exercise].strip()


def test_titles_and_keys_are_used_once():
    titles = [misconception.title for misconception in catalogue.values()]
    assert len({*titles}) == len(titles)
    assert all(key == misconception.key for key, misconception in catalogue.items())


def test_every_section_stands_in_the_book():
    for label, page in PAGES.items():
        assert f"\n({label})=\n" in f"\n{(ROOT / 'text' / f'{page}.md').read_text('utf-8')}", label
    assert {misconception.section for misconception in catalogue.values()} == {*PAGES}
    assert link("one_class-grouped") == "4_practice/one_class.html#one-class-grouped"
