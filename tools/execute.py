"""Run the chapters: each text/**/*.md becomes the notebook of the same name in chapters/, with its outputs.

    .venv/bin/python tools/execute.py                            every chapter
    .venv/bin/python tools/execute.py text/2_algorithm/masks.md  one of them

What is stored depends on the text and on what the code prints, and on nothing else: run it twice, and the
notebooks are the same to the byte. A chapter whose code fails keeps the notebook it had.
"""

import argparse
import hashlib
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager
from traitlets import default

ROOT = Path(__file__).resolve().parent.parent
TEXT_FORMAT = "md:myst"
AT_ONCE = 2
SECONDS_A_CHAPTER = 60  # what the book promises its readers
SECONDS_A_CELL = 300
# A reader's own settings would change what is stored and what is compared.
_SETTINGS = ROOT / "_build" / "settings"
KERNEL_ENVIRONMENT = {
    "IPYTHONDIR": str(_SETTINGS / "ipython"),
    "MPLCONFIGDIR": str(_SETTINGS / "matplotlib"),
    "JUPYTER_CONFIG_DIR": str(_SETTINGS / "jupyter"),
    "TQDM_DISABLE": "1",  # readers see progress bars, stored outputs hold none
    "OMP_NUM_THREADS": "1",  # two chapters run at once: more threads than cores wait for each other
}
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


# What a text says


def read_text(text: Path) -> NotebookNode:
    """The notebook that a text describes, in the form in which it is stored, with no outputs."""
    notebook = jupytext.read(text, fmt=TEXT_FORMAT)
    cells = [_stored_cell(cell) for cell in notebook.cells]
    _name(cells)
    return NotebookNode(cells=cells, metadata=_stored_metadata(notebook), nbformat=4, nbformat_minor=5)


def _stored_metadata(notebook: NotebookNode) -> NotebookNode:
    metadata = NotebookNode(
        kernelspec=notebook.metadata.get("kernelspec", {}),
        # No version: it would change with each reader's Python.
        language_info=NotebookNode(name="python"),
    )
    lexer = notebook.metadata.get("jupytext", {}).get("default_lexer")
    if lexer:  # what jupytext writes after {code-cell} when it turns the notebook into text again
        metadata.jupytext = NotebookNode(default_lexer=lexer)
    return metadata


def _stored_cell(cell: NotebookNode) -> NotebookNode:
    stored = NotebookNode(cell_type=cell.cell_type, metadata=cell.metadata, source=cell.source)
    if cell.cell_type == "code":
        stored.execution_count = None
        stored.outputs = []
    return stored


def _name(cells: list[NotebookNode]) -> None:
    """Give each cell an id made from what it says: a new cell leaves the ids of the others alone."""
    seen: Counter[str] = Counter()
    for cell in cells:
        content = f"{cell.cell_type}\n{cell.source}"
        seen[content] += 1
        cell.id = hashlib.sha256(f"{content}\n{seen[content]}".encode()).hexdigest()[:12]


# Running


class ThisInterpreter(AsyncKernelManager):
    """Starts the kernel that the tests start: the Python that runs this script."""

    @default("kernel_spec_manager")
    def _find_kernels_as_nbval_does(self) -> NbvalKernelspecManager:
        return NbvalKernelspecManager(parent=self)


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run a notebook from top to bottom in a fresh kernel that stands in ``folder``."""
    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisInterpreter,
        kernel_name=CURRENT_ENV_KERNEL_NAME,
        timeout=SECONDS_A_CELL,
        record_timing=False,
        coalesce_streams=True,
    )
    # The kernel's own words before the first cell are no output; what cells write reaches the notebook.
    client.execute(cwd=str(folder), env=os.environ | KERNEL_ENVIRONMENT, stderr=subprocess.DEVNULL)
    return normalised(notebook)


def normalised(notebook: NotebookNode) -> NotebookNode:
    """Drop from an executed notebook what says how it was run and not what came out."""
    # nbclient stores what the kernel says of itself, its version too.
    notebook.metadata.language_info = NotebookNode(name="python")
    notebook.metadata.pop("widgets", None)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
        cell.outputs = [_stored_output(output, count) for output in cell.outputs if not _is_empty(output)]
    return notebook


def _is_empty(output: NotebookNode) -> bool:
    return output.output_type == "stream" and not output.text.strip()


def _stored_output(output: NotebookNode, count: int) -> NotebookNode:
    if output.output_type == "execute_result":
        output.execution_count = count
    if output.output_type == "error":
        output.traceback = [part for part in output.traceback if not _is_frame_of_a_file(part)]
    return output


def _is_frame_of_a_file(part: str) -> bool:
    """Whether a part of IPython's traceback shows a file: its path and line differ between machines."""
    return "File " in part.lstrip().split("\n", 1)[0]


# Storing


def notebook_of(text: Path, root: Path = ROOT) -> Path:
    """Where the notebook of a text is stored."""
    return root / "chapters" / text.relative_to(root / "text").with_suffix(".ipynb")


def store(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook in one step: an interrupted run leaves the old one whole."""
    nbformat.validate(notebook)
    unfinished = path.with_suffix(".ipynb.unfinished")
    unfinished.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    unfinished.replace(path)


def stale_notebooks(root: Path = ROOT) -> list[Path]:
    """The notebooks whose text is gone."""
    written = {notebook_of(text, root) for text in texts(root)}
    return sorted(set(documents(root / "chapters", "*.ipynb")) - written)


def texts(root: Path = ROOT) -> list[Path]:
    """Every chapter that runs code."""
    return documents(root / "text", "*.md")


def documents(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that someone wrote, in order; Jupyter's own copies are none."""
    return sorted(path for path in folder.rglob(pattern) if ".ipynb_checkpoints" not in path.parts)


# The command


@dataclass
class Run:
    """How it went with one chapter."""

    name: str
    seconds: float
    failure: str = ""


def run_chapter(text: Path, root: Path = ROOT) -> Run:
    """Execute one chapter and store it; a failure is told, not raised, so that the others go on."""
    began = time.perf_counter()
    failure = ""
    try:
        _execute_and_store(text, notebook_of(text, root))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        failure = COLOURS.sub("", str(error))
    except Exception as error:  # a text that cannot be read, say
        failure = f"{type(error).__name__}: {error}"
    return Run(str(text.relative_to(root / "text")), time.perf_counter() - began, failure)


def _execute_and_store(text: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = read_text(text)
    try:
        executed = execute(notebook, folder=path.parent)
    except CellExecutionError as error:
        raise CellExecutionError(f"{_where(notebook)}\n{error}", error.ename, error.evalue) from None
    store(executed, path)


def _where(notebook: NotebookNode) -> str:
    """Which code cell stopped the run: the last one that began."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    begun = sum(cell.execution_count is not None for cell in code)
    return f"Code cell {begun} of {len(code)} failed:"


def run_chapters(chosen: list[Path]) -> list[Run]:
    """Run chapters, two at once, with a line for each one that ends."""
    runs = []
    workers = min(AT_ONCE, len(chosen))
    # Processes, not threads: each owns the loop and the signals that its kernel needs.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(run_chapter, text) for text in chosen]
        for done in as_completed(waiting):
            runs.append(done.result())
            print(f"[{len(runs):2}/{len(chosen)}] {_line(runs[-1])}", flush=True)
    return runs


def _line(run: Run) -> str:
    line = f"{run.name:40} {run.seconds:5.1f} s"
    if run.failure:
        return f"{line}  FAILED"
    if run.seconds > SECONDS_A_CHAPTER:
        return f"{line}  SLOW: the book promises under {SECONDS_A_CHAPTER} s a chapter"
    return line


def chosen_texts(arguments: list[str]) -> list[Path]:
    """The texts that were asked for; all of them when none was."""
    if not arguments:
        return texts()
    chosen = [Path(argument).resolve() for argument in arguments]
    known = set(texts())
    for path in chosen:
        if path not in known:
            sys.exit(f"{path} is no chapter's text; texts are text/**/*.md")
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", help="texts to run; all of them when none is named")
    chosen = chosen_texts(parser.parse_args().texts)
    if not chosen:
        sys.exit("There is no text/**/*.md to run.")
    failed = [run for run in run_chapters(chosen) if run.failure]
    for run in failed:
        print(f"\n{'=' * 20} text/{run.name}\n{run.failure}", file=sys.stderr)
    stale = [str(path.relative_to(ROOT)) for path in stale_notebooks()]
    for path in stale:
        print(f"\n{path} has no text: delete it, or bring its text back.", file=sys.stderr)
    if failed:
        print(f"\n{len(failed)} of {len(chosen)} failed; their notebooks are as they were.", file=sys.stderr)
    sys.exit(1 if failed or stale else 0)


if __name__ == "__main__":
    main()
