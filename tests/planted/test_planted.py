"""attnlib's own tests are proven by what they kill: each mistake of the catalogue, planted into attnlib, dies."""

import json
import os
import subprocess
import sys

import pytest

from attnlib.exercises import catalogue
from tests.planted.catalogued import FURTHER, PLANTS
from tests.planted.killers import MISSPELT, stored
from tests.planted.page import PAGE, page
from tests.planted.plant import ROOT
from tests.planted.reasons import REASONS

ALL = PLANTS | FURTHER


def test_each_mistake_of_the_catalogue_is_planted_or_says_why_not():
    assert PLANTS.keys() | REASONS.keys() == catalogue.keys()
    assert not PLANTS.keys() & REASONS.keys()
    assert all(some for some in ALL.values())


@pytest.fixture(scope="module")
def raised():
    """What the killer of each plant raises: all of them in forks of one new process."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-c", "from tests.planted.killers import print_seen; print_seen()"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ALL)
def test_the_mistake_dies(name, raised):
    way = f"write a test that notices it, then: python -m tests.planted {name!r}"
    for plant, known, found in zip(ALL[name], stored()[name], raised[name], strict=True):
        here, killer = f"in attnlib/{plant.module}.py: {plant.edits}", known["killer"]
        assert killer, f"no test notices it {here}; {way}"
        assert found, f"{killer} is gone, or does not notice it any more {here}; {way}"
        assert found not in MISSPELT, f"{killer} fails by {found}: is the wrong text code? {here}"


def test_nothing_is_stored_of_what_is_not_planted():
    assert {name: len(some) for name, some in stored().items()} == {name: len(some) for name, some in ALL.items()}


def test_the_page_is_made_of_what_is_stored():
    assert PAGE.read_text("utf-8") == page(), "run: python -m tests.planted.page"
