"""Recipes stand alone: each piece runs with nothing before it, and prints what the page says that it prints."""

import io
import os
import re
import socket
import subprocess
import sys
from contextlib import redirect_stdout

import nbformat
import pytest
from nbformat import NotebookNode

from tests.book.budget import measure
from tests.book.questions import questions_of
from tools.execute import ROOT, notebook_of

PAGE = ROOT / "text" / "reference" / "recipes.md"
RECIPES = {
    title: (label, cells) for label, title, cells in questions_of(nbformat.read(notebook_of(PAGE), as_version=4))
}
CELLS = {title: cell for title, (_, cells) in RECIPES.items() for cell in cells if cell.cell_type == "code"}
SCRIPT = re.compile(r"```python\n(# (?P<name>\w+)\.py, started by: .*?)```.*?```text\n(?P<printed>.*?)```", re.DOTALL)
SCRIPTS = {match["name"]: match for match in SCRIPT.finditer(PAGE.read_text("utf-8"))}
LIMITS = {"words": 100, "visible lines": 25, "columns": 88}
PROCESSES = 2
ALONE = re.compile(r"```python\n(# (?P<name>\w+)\.py\n.*?)```.*?```text\n(?P<printed>.*?)```", re.DOTALL)

every_recipe = pytest.mark.parametrize("title", RECIPES)


def test_the_recipes_are_found():
    assert len(RECIPES) == 19
    assert len(CELLS) == 14
    assert list(SCRIPTS) == ["ddp", "fsdp", "heads"]


@every_recipe
def test_a_recipe_is_short_and_has_a_label_and_code(title):
    label, cells = RECIPES[title]
    assert label.startswith("recipes-")
    values = measure(NotebookNode(cells=cells)).values
    assert values["visible lines"] > 0
    assert {name: values[name] for name, most in LIMITS.items() if values[name] > most} == {}


@pytest.mark.parametrize("title", CELLS)
def test_a_cell_runs_alone(title):
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(CELLS[title].source, title, "exec"), {})
    assert printed.getvalue() == "".join(output.text for output in CELLS[title].outputs)


@pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",  # torch's exporter, of itself
    "ignore:# The axis name. B will not be used:UserWarning",  # x and lengths share it
)
@pytest.mark.parametrize("name", ["tune", "to_onnx"])
def test_what_needs_another_package_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [script] = [match for match in ALONE.finditer(PAGE.read_text("utf-8")) if match["name"] == name]
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(script[1], name, "exec"), {})
    assert printed.getvalue().endswith(script["printed"])  # the exporter tells its steps first


def test_the_scripts_run_in_two_processes():
    """One after the other in the same processes, as torchrun would start them: most of the time is torch's import."""
    runner = (
        "import os, sys; code = sys.stdin.read().split('\\0'); "
        "[os.environ.update(MASTER_PORT=port) or exec(part, {}) for port, part in zip(sys.argv[1:], code, strict=True)]"
    )
    # A port each: a process may be through with one script before the other one has left it.
    ports = free_ports(len(SCRIPTS))
    world = {"WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", runner, *ports],
            cwd=ROOT,
            env={**os.environ, **world, "RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        for process in processes:  # both read before one is waited for
            process.stdin.write("\0".join(script[1] for script in SCRIPTS.values()))
            process.stdin.close()
            process.stdin = None
        runs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    expected = "".join(script["printed"] for script in SCRIPTS.values())
    for process, (printed, errors) in zip(processes, runs, strict=True):
        assert process.returncode == 0, errors
        assert printed == expected


def free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
