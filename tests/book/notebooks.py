"""Our pytest plugin: what nbval checks of a notebook, and what a book needs beyond it.

nbval runs each code cell of a chapter and compares its text with the stored output. This adds, for each notebook,

* the comparison of figures, which nbval leaves out;
* a failure when a cell writes to stderr, even where its output is not compared: a warning is an error;
* one more test, "numbers in prose", that evaluates every ``<data value="…">`` where the cells have just run.
"""

import ast
import inspect
import os

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

from tests.book.drawings import SVG, difference, drawings
from tests.book.prose import Bound
from tests.book.shown import NotANumber, agrees, encode_for_the_tests, names_code, read_shown, why_wrong
from tests.book.stored import UNCHECKED, readable, tags
from tests.book.unbound import NUMBER, bound_numbers
from tools.execute import KERNEL_ENVIRONMENT, SECONDS_A_CELL


def pytest_configure(config: pytest.Config) -> None:
    # The kernels inherit it: the notebooks run as they ran when their outputs were stored.
    os.environ.update(KERNEL_ENVIRONMENT)
    config.option.nbval_cell_timeout = min(config.option.nbval_cell_timeout, SECONDS_A_CELL)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Put our notebook in the place of nbval's: the one point where the two meet."""
    collected = yield
    return [Notebook.from_parent(parent, path=file_path) if isinstance(node, IPyNbFile) else node for node in collected]


class Notebook(IPyNbFile):
    """A notebook whose cells are run and compared, and whose prose is then held against what they computed."""

    def collect(self):
        self.cells = [
            Cell.from_parent(self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options)
            for cell in super().collect()
        ]
        self.cells_run: list[int] = []
        yield from self.cells
        yield NumbersInProse.from_parent(self, name="numbers in prose")

    def run_what_was_not_run(self) -> None:
        """Bring the kernel to the end of the notebook, whichever of its tests were selected."""
        if self.cells_run == [cell.cell_num for cell in self.cells]:
            return
        if self.cells_run:  # some were left out: what they left behind is anyone's guess
            self.kernel.stop()
            self.setup()
        for cell in self.cells:
            cell.run_unchecked()


class Cell(IPyNbCell):
    """A code cell: as nbval has it, and its figures."""

    def runtest(self):
        self.parent.cells_run.append(self.cell_num)
        super().runtest()
        errors = "".join(out.text for out in self.test_outputs if out.get("name") == "stderr")
        if errors:
            self.raise_cell_error("The cell writes to stderr: a warning is an error here", errors)
        if tags(self.cell) & UNCHECKED:
            stored, printed = words_printed(self.cell.outputs), words_printed(self.test_outputs)
            if stored != printed:
                self.raise_cell_error("Numbers may differ here; the words around them do too", f"{stored}\n{printed}")

    def compare_outputs(self, test, ref, skip_compare=None):
        if not super().compare_outputs(test, ref, (*(skip_compare or self.parent.skip_compare), SVG)):
            return False
        differs = difference(drawings(ref), drawings(test))
        if last_words(ref) != last_words(test):
            differs = "the stored traceback is not the one that the code gives"
        if differs:
            self.comparison_traceback.append(differs)
        return not differs

    def run_unchecked(self) -> None:
        reply = ask(self.parent.kernel, self.cell.source, timeout=SECONDS_A_CELL)
        if reply["status"] == "error" and not self.options["check_exception"]:
            raise WrongNumbers([f"cell {self.cell_num} does not run: {reply['ename']}: {reply['evalue']}"])


def words_printed(outputs: list[NotebookNode]) -> str:
    """What outputs say, with each number left open."""
    return NUMBER.sub("#", " ".join("".join(map(readable, outputs)).split()))


def last_words(outputs: list[NotebookNode]) -> list[str]:
    """The end of each traceback; what stands before it counts the kernel's requests, ours among them."""
    return ["".join(output.traceback[-1:]) for output in outputs if output.output_type == "error"]


class NumbersInProse(pytest.Item):
    """Evaluates every bound number of a notebook after its last cell, and compares it with what the prose says."""

    def runtest(self):
        numbers = bound_numbers(self.parent.nb)
        if not numbers:
            return
        if not self.parent.kernel.is_alive():
            raise WrongNumbers(["the kernel died before the last cell ended, so no number could be checked"])
        self.parent.run_what_was_not_run()
        reasons = why_each_is_wrong(self.parent.kernel, [bound for bound, _ in numbers])
        wrong = [
            f'{reason}\n    <data value="{bound.expression}">{bound.shown}</data>\n    in: {paragraph}'
            for (bound, paragraph), reason in zip(numbers, reasons, strict=True)
            if reason
        ]
        if wrong:
            raise WrongNumbers(wrong)

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, WrongNumbers):
            return "\n".join([f"{self.path.name}:", *excinfo.value.args[0]])
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, f"{self.parent.name}::{self.name}"


class WrongNumbers(Exception):
    """The prose and the code do not say the same."""


def why_each_is_wrong(kernel, numbers: list[Bound]) -> list[str | None]:
    """For each bound number, why it is wrong; None when it is right. One request to the kernel answers all."""
    asked = {
        str(place): f"{encode_for_the_tests.__name__}(({bound.expression.strip()}))"
        for place, bound in enumerate(numbers)
        if why_not_evaluated(bound.expression) is None
    }
    answers = ask(kernel, inspect.getsource(encode_for_the_tests), expressions=asked)["user_expressions"]
    return [
        why_not_evaluated(bound.expression) or repeats(bound) or _why_wrong(bound, answers[str(place)])
        for place, bound in enumerate(numbers)
    ]


def why_not_evaluated(expression: str) -> str | None:
    """Why an expression need not be sent to the kernel; None when it should be."""
    try:
        names = names_code(expression)
    except SyntaxError as error:
        return f"the expression is no Python: {error.msg}"
    return None if names else "the expression names nothing of the chapter's code, so nothing computes the number"


def repeats(bound: Bound) -> str | None:
    """An expression that writes the number that it should compute, as in ``0*x + 0.67``."""
    try:
        shown = read_shown(bound.shown)
    except NotANumber:
        return None
    nodes = ast.walk(ast.parse(bound.expression.strip(), mode="eval"))
    written = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, float))
    if any(agrees(shown, number) for number in written):
        return f"the expression writes {bound.shown} itself, so nothing computes it"
    return None


def _why_wrong(bound: Bound, answer: dict) -> str | None:
    if answer["status"] == "error":
        return f"the expression raises {answer['ename']}: {answer['evalue']}"
    return why_wrong(bound.shown, ast.literal_eval(answer["data"]["text/plain"]))


def ask(kernel, code: str, expressions: dict[str, str] | None = None, timeout: float = 60) -> NotebookNode:
    """Run code in the kernel of a notebook, unseen; return its reply with the values of the expressions."""
    message = kernel.kc.execute_interactive(
        code,
        store_history=False,
        allow_stdin=False,
        stop_on_error=False,
        user_expressions=expressions or {},
        timeout=timeout,
        output_hook=lambda message: None,
    )
    return message["content"]
