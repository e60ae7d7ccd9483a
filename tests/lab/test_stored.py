"""What experiments store: everything that is needed to measure again, and nothing that names whose machine it was."""

import getpass
import json
import socket

import pytest

from attnlib.lab import machine, stored


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "FOLDER", tmp_path / "results")
    return tmp_path / "results"


def test_what_is_stored_is_loaded_again(folder):
    path = stored.store("some", {"row": {"right": [0.5, 1.0]}})
    assert path == folder / "some.json"
    found = stored.load("some")
    assert found["rows"] == {"row": {"right": [0.5, 1.0]}}
    assert set(found) == {"date", "machine", "versions", "rows"}
    assert {"python", "torch", "numpy", "attnlib"} <= set(found["versions"])
    assert {"cpu", "cores", "threads", "memory_bytes"} <= set(found["machine"])


def test_what_is_not_stored_says_how_to_make_it(folder):
    stored.store("some", {})
    with pytest.raises(FileNotFoundError, match=r"no results called 'other'; stored: some\. `make experiments` makes"):
        stored.load("other")


def test_the_machine_is_described_without_a_name():
    described = json.dumps(machine.describe())
    assert socket.gethostname() not in described
    assert getpass.getuser() not in described


def test_more_packages_may_be_named():
    assert "pytest" in machine.versions("pytest")
