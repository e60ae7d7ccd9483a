"""What `make mutants` is built of, and the list of survivors that were judged: see tools/mutants."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SURVIVORS = tomllib.loads((ROOT / "tests" / "mutants" / "survivors.toml").read_text("utf-8"))["survivor"]
HALVES = '''"""Halves."""
def half(x: int | None, *, up: bool = False) -> int | None:
    """Return x / 2 or more."""
    if x < 0:
        raise ValueError(f"x: expected at least {0 + 1 - 1}")
    return (x + up) // 2
'''


def test_a_judged_survivor_is_a_line_that_stands():
    for survivor in SURVIVORS:
        lines = (ROOT / "attnlib" / f"{survivor['module']}.py").read_text("utf-8").splitlines()
        assert survivor["line"] in map(str.strip, lines), survivor
        assert survivor["becomes"] != survivor["line"], survivor
        assert survivor["why"].strip(), survivor


def test_messages_and_annotations_are_left_alone_and_all_else_is_changed(tmp_path):
    pytest.importorskip("cosmic_ray")
    from tools.mutants.changes import change_of, mutated, work_items

    path = tmp_path / "halves.py"
    path.write_text(HALVES)
    mutations = [item.mutations[0] for item in work_items(path, "halves")]
    texts = [mutated(HALVES, mutation) for mutation in mutations]
    changes = [
        change_of("halves", HALVES, text, mutation) for mutation, text in zip(mutations, texts, strict=True) if text
    ]
    assert [change.becomes for change in changes if change.line == "if x < 0:"] == [
        "if x <= 0:", "if x >= 0:", "if not x < 0:", "if x < 1:", "if x < -1:",
    ]  # fmt: skip
    assert [change.becomes for change in changes if change.line.startswith("raise")] == ["pass"]
    signature = [change.becomes for change in changes if change.line.startswith("def")]
    assert signature == ["def half(x: int | None, *, up: bool = True) -> int | None:"]
    assert [change.becomes for change in changes if change.line.startswith("return")] == [
        "return (x - up) // 2", "return (x + up) * 2", "return (x + up) // 3", "return (x + up) // 1", "pass",
    ]  # fmt: skip
    assert {change.function for change in changes} == {"half"}


def test_a_share_of_some_has_its_interval():
    pytest.importorskip("cosmic_ray")
    from tools.mutants.report import share

    assert share(95, 100, of_all=True) == "95.0 %"
    assert share(95, 100, of_all=False) == "95.0 % (88.8 to 97.8)"  # as scipy's Wilson interval
    assert share(0, 0, of_all=False) == ""


def test_a_mutant_is_killed_by_a_test_that_runs_its_line(tmp_path):
    pytest.importorskip("cosmic_ray")
    (tmp_path / "attnlib").mkdir()
    (tmp_path / "attnlib" / "__init__.py").touch()
    (tmp_path / "tests").mkdir()
    (tmp_path / "attnlib" / "halves.py").write_text(HALVES)
    (tmp_path / "tests" / "test_halves.py").write_text(
        "from attnlib.halves import half\ndef test_seven(): assert half(7) == 3\ndef test_nothing(): pass\n"
    )
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "copy").mkdir()
    code = f"""
from pathlib import Path
from tools.mutants.trials import Bench
bench = Bench(Path({str(tmp_path)!r}), Path({str(tmp_path / "copy")!r}))
bench.profile([Path({str(tmp_path)!r}) / "tests" / "test_halves.py"], Path({str(tmp_path / "known")!r}))
source = Path({str(tmp_path / "attnlib" / "halves.py")!r}).read_text()
print(bench.killer("halves", 6, source.replace("// 2", "// 3")))
print(bench.killer("halves", 4, source.replace("x < 0", "x <= 0")))
print(bench.killer("halves", 2, source.replace("def", "dfe")))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout.split("\n") == ["tests/test_halves.py::test_seven", "None", "tests/test_halves.py", ""], (
        run.stderr
    )
