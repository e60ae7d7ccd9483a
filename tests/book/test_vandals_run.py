"""Every guard that runs a notebook is seen to fail: spoilt chapters go through pytest, and each failure is read."""

import os
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest

from tests.book.good_chapter import COMPUTE, FIGURE, LATEX, RAISES, code_cells
from tools.execute import ROOT, execute, store


@dataclass
class Session:
    """What a pytest session said of each test: the reason of its failure, or nothing."""

    failures: dict[tuple[str, str], str]

    def __call__(self, notebook: str, test: str) -> str:
        return self.failures[f"{notebook}.ipynb", test]


OPTIONS = ["--nbval", "--nbval-current-env", "-W", "error", "-p", "no:cacheprovider", "--color=no"]


def run_pytest(folder: Path, *options: str, only: Sequence[str] = (".",)) -> Session:
    """Run the notebooks of a folder, or some of their tests, under our plugin, away from this session."""
    (folder / "conftest.py").write_text((ROOT / "conftest.py").read_text("utf-8"))
    report = folder / "report.xml"
    where = [f"--rootdir={folder}", "-c", os.devnull, f"--junitxml={report}", *only]
    command = [sys.executable, "-m", "pytest", *OPTIONS, *options, *where]
    surroundings = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return Session({_of(case): _reason(case) for case in ElementTree.parse(report).iter("testcase")})


def _of(case: ElementTree.Element) -> tuple[str, str]:
    return case.get("classname").rsplit("/")[-1], case.get("name")


def _reason(case: ElementTree.Element) -> str:
    return "".join((child.text or "") for child in case if child.tag in ("failure", "error"))


FIGURES = {
    "the same": "draw()",
    "line moved": "draw(shift=2e-3)",
    "other colour": 'draw(colour="C1")',
    "a word outside": 'draw()\nplt.ylabel("weight")',
    "other label": 'draw(label="0.68")',
    "larger label": "draw(points=11.5)",
    "another cell": "draw(cell=0.52)",
    "two figures": "draw()\ndraw()",
    "image dropped": "draw()",
}


def figures_spoilt(good, folder):
    """The good chapter with one figure drawn again and again, each time stored otherwise."""
    notebook = deepcopy(good)
    notebook.cells = code_cells(notebook)[: FIGURE + 1]
    notebook.cells += [nbformat.v4.new_code_cell(f"{call}\nplt.show()") for call in FIGURES.values()]
    notebook = execute(notebook, folder)
    for cell in notebook.cells[FIGURE + 1 :]:
        cell.source = "draw()\nplt.show()"
    del notebook.cells[-1].outputs[0].data["image/svg+xml"]
    return notebook


def outputs_spoilt(good):
    """The good chapter with edited text and mathematics, and a warning where no output is compared."""
    notebook = deepcopy(good)
    printed = code_cells(notebook)[COMPUTE].outputs[0]
    printed.text = printed.text.replace("0.67", "0.76")
    shown = code_cells(notebook)[LATEX].outputs[0].data
    shown["text/latex"] = shown["text/latex"].replace("{2}", "{3}")
    code_cells(notebook)[RAISES].outputs[0].evalue = "another message"
    warns = nbformat.v4.new_code_cell(
        "import warnings\nwarnings.warn('Beware')", execution_count=5, metadata={"tags": ["nbval-ignore-output"]}
    )
    prints = nbformat.v4.new_code_cell("print('news')", execution_count=6)
    notebook.cells += [warns, prints, *ignored_outputs()]
    notebook.cells.append(deepcopy(code_cells(good)[RAISES]))
    notebook.cells[-1].update(execution_count=9, id="traceback")
    notebook.cells[-1].outputs[0].traceback[-1] = "ValueError: they are equal after all"
    return notebook


def ignored_outputs():
    """Two cells whose numbers may differ: one with another number stored, one with another word."""
    for count, stored in ((7, "right: 0.98\n"), (8, "wrong: 0.99\n")):
        cell = nbformat.v4.new_code_cell("print('right: 0.99')", execution_count=count)
        cell.metadata.tags = ["nbval-ignore-output"]
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=stored)]
        yield cell


WRONG_NUMBERS = {
    '<data value="weights[0]">0.68</data>': "the prose says 0.68, the code gives 0.665",
    '<data value="weights[0]">66 %</data>': "the prose says 66 %, the code gives 0.665",
    '<data value="half">$\\tfrac{1}{3}$</data>': "the prose says $\\tfrac{1}{3}$, the code gives 1/2",
    '<data value="pairs">12,582,913</data>': "the prose says 12,582,913, the code gives 12582912",
    '<data value="weights[7]">0.67</data>': "the expression raises IndexError",
    '<data value="nobody">0.67</data>': "the expression raises NameError",
    '<data value="0.67">0.67</data>': "names nothing of the chapter's code",
    '<data value="weights[">0.67</data>': "the expression is no Python",
    '<data value="0*weights[0]+0.42">0.42</data>': "the expression writes 0.42 itself",
    '<data value="np.float64(0.43)">0.43</data>': "the expression writes 0.43 itself",
    '<data value="scores[0] > 1">1</data>': "no number but bool: True",
    '<data value="str(pairs)">12,582,912</data>': "no number but str: '12582912'",
    '<data value="weights">0.67</data>': "no number but ndarray",
    '<data value="pairs">many</data>': "'many' is no number",
}
RIGHT_NUMBERS = [
    '<data value="np.float32(weights[0])">0.665</data>',
    '<data value="weights.sum()">1</data>',
    '<data value="np.array(half.denominator)">2</data>',
]


def numbers_spoilt(good):
    notebook = deepcopy(good)
    prose = [f"P{place} {wrong}." for place, wrong in enumerate(WRONG_NUMBERS)] + RIGHT_NUMBERS
    notebook.cells.append(nbformat.v4.new_markdown_cell("\n\n".join(prose)))
    return notebook


def code_changed(good, folder):
    """The code computes something else, and was run again: only the prose is behind."""
    notebook = deepcopy(good)
    code_cells(notebook)[COMPUTE].source = code_cells(notebook)[COMPUTE].source.replace("2.0, 1.0", "2.0, 1.5")
    return execute(notebook, folder)


@pytest.fixture(scope="module")
def session(good, tmp_path_factory):
    """One pytest session over the good chapter and all that vandals made of it."""
    folder = tmp_path_factory.mktemp("vandals")
    notebooks = {
        "good": good,
        "figures": figures_spoilt(good, folder),
        "outputs": outputs_spoilt(good),
        "numbers": numbers_spoilt(good),
        "changed": code_changed(good, folder),
    }
    for name, notebook in notebooks.items():
        store(notebook, folder / f"{name}.ipynb")
    return run_pytest(folder, "-p", "no:xdist")


def test_a_good_chapter_passes_when_run(session):
    assert {test: reason for (file, test), reason in session.failures.items() if file == "good.ipynb"} == {
        **{f"Cell {number}": "" for number in range(4)},
        "numbers in prose": "",
    }


@pytest.mark.parametrize(
    ("figure", "complaint"),
    [
        ("the same", ""),
        ("line moved", "the places of path"),
        ("other colour", "the colours of path"),
        ("a word outside", "differ by"),
        ("other label", "#DejaVuSans-"),
        ("larger label", "the sizes of g"),
        ("another cell", "the colours of image"),
        ("two figures", 'number of outputs for key "text/plain"'),
        ("image dropped", "0 figures are stored, the code draws 1"),
    ],
)
def test_another_figure_is_caught(session, figure, complaint):
    reason = session("figures", f"Cell {FIGURE + 1 + list(FIGURES).index(figure)}")
    assert complaint in reason
    assert bool(reason) == bool(complaint)


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        (COMPUTE, "mismatch 'stdout'"),
        (LATEX, "mismatch 'text/latex'"),
        (FIGURE, ""),
        (RAISES, "mismatch 'evalue'"),
        (RAISES + 1, "The cell writes to stderr"),
        (RAISES + 2, "Unexpected output fields"),
        (RAISES + 3, ""),
        (RAISES + 4, "the words around them do too"),
        (RAISES + 5, "the stored traceback is not"),
    ],
)
def test_another_output_is_caught(session, cell, complaint):
    reason = session("outputs", f"Cell {cell}")
    assert complaint in reason
    assert bool(reason) == bool(complaint)


@pytest.mark.parametrize("place", range(len(WRONG_NUMBERS)), ids=list(WRONG_NUMBERS.values()))
def test_a_wrong_number_is_caught(session, place):
    markup, complaint = list(WRONG_NUMBERS.items())[place]
    [told] = [part for part in session("numbers", "numbers in prose").split("\n") if complaint in part]
    report = session("numbers", "numbers in prose")
    assert f"{told}\n    {markup}\n    in: P{place} " in report


def test_right_numbers_are_not_blamed(session):
    assert session("numbers", "numbers in prose").count("\n    in: ") == len(WRONG_NUMBERS)


def test_code_that_computes_something_else_is_caught(session):
    assert session("changed", f"Cell {COMPUTE}") == ""
    assert "the prose says 0.67, the code gives 0.5" in session("changed", "numbers in prose")


def test_numbers_are_checked_when_cells_are_left_out(good, tmp_path):
    store(good, tmp_path / "good.ipynb")
    store(numbers_spoilt(good), tmp_path / "numbers.ipynb")
    chosen = ["good.ipynb::Cell 1", "good.ipynb::numbers in prose", "numbers.ipynb::numbers in prose"]
    alone = run_pytest(tmp_path, "-p", "no:xdist", only=chosen)
    assert {"::".join(test) for test in alone.failures} == set(chosen)
    assert alone("good", "numbers in prose") == ""
    assert alone("numbers", "numbers in prose").count("\n    in: ") == len(WRONG_NUMBERS)
