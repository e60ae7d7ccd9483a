"""The exercises to write: the folded solution of each passes its check, and the stub that the reader gets does not."""

import ast
import builtins
import importlib
import inspect
import pkgutil
import symtable
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
from nbformat import NotebookNode

from tests.book import written
from tests.book.prose import Directive, parser, read
from tools.execute import read_text, texts
from tools.exercises import is_left_open

CHECKS: dict[str, ModuleType] = {
    found.name: importlib.import_module(f"{written.__name__}.{found.name}")
    for found in pkgutil.iter_modules(written.__path__)
}
WRONG = [(name, mistake) for name, module in CHECKS.items() for mistake in getattr(module, "WRONG", {})]
every_check = pytest.mark.parametrize("module", CHECKS.values(), ids=CHECKS.keys())


def stubs(notebook: NotebookNode) -> dict[str, str]:
    """The stub of each exercise of a page that has one: its Python block, whose body is an ellipsis."""
    found = {}
    for cell in notebook.cells:
        for part in read(cell.source) if cell.cell_type == "markdown" else ():
            if isinstance(part, Directive) and part.name == "exercise":
                blocks = [token.content for token in parser().parse(part.body) if token.info == "python"]
                found |= {part.options.get("label", ""): block for block in blocks if is_left_open(block)}
    return found


def solution(notebook: NotebookNode, label: str, name: str) -> str:
    """What defines the function in the folded solution, with what it needs of the page: imports, functions, constants.

    A page may train a model before the exercise; only the statements that the function reads from are kept.
    """
    statements: list[ast.stmt] = []
    inside = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for part in read(cell.source):
                if isinstance(part, Directive) and part.name in ("solution-start", "solution-end"):
                    if inside:
                        return "\n".join(map(ast.unparse, _needed(statements, name)))
                    inside = part.name == "solution-start" and part.argument == label
                    before = len(statements)
        else:
            statements += ast.parse(cell.source).body
            if inside:
                assert len(statements) > before
    raise LookupError(f"{label} has no solution between gates, solution-start and solution-end")


def _needed(statements: list[ast.stmt], name: str) -> list[ast.stmt]:
    """The statements that bind a name, and what they read, in their order."""
    kept: set[int] = set()
    wanted = [(name, len(statements))]
    while wanted:
        name, end = wanted.pop()
        places = [place for place in range(end) if name in _bound(statements[place])]
        if not places and not hasattr(builtins, name) and not kept:
            raise LookupError(f"the page does not define {name}")
        if places and places[-1] not in kept:
            kept.add(places[-1])
            statement = statements[places[-1]]
            # What a function reads is looked up when it is called, at the end; the rest is read where it stands.
            later = isinstance(statement, ast.FunctionDef | ast.ClassDef)
            wanted += [(read, len(statements) if later else places[-1]) for read in _read(statement)]
    return [statements[place] for place in sorted(kept)]


def _bound(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {(alias.asname or alias.name).partition(".")[0] for alias in names}
    nodes = ast.walk(statement)
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _read(statement: ast.stmt) -> set[str]:
    """What a statement reads from its page; a function's own arguments and variables are not among it."""
    page = symtable.symtable(ast.unparse(statement), "page", "exec")
    names = {symbol.get_name() for symbol in page.get_symbols() if symbol.is_referenced()}
    scopes = page.get_children()
    for scope in scopes:
        names |= {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global()}
        scopes += scope.get_children()
    return names


def defined(code: str, name: str) -> Callable:
    """Run code by itself, and return what it calls by this name."""
    names: dict = {}
    exec(compile(code, name, "exec"), names)
    return names[name]


def pages() -> Iterator[tuple[NotebookNode, dict[str, str]]]:
    """Every page that has a stub, with its stubs."""
    for text in texts():
        if "```python" in text.read_text("utf-8"):
            notebook = read_text(text)
            if found := stubs(notebook):
                yield notebook, found


@pytest.fixture(scope="module")
def exercises() -> dict[str, tuple[NotebookNode, str]]:
    """Page and stub of each exercise to write, by its label."""
    return {label: (notebook, stub) for notebook, found in pages() for label, stub in found.items()}


def test_every_stub_has_a_check_and_every_check_a_stub(exercises):
    labels = [module.LABEL for module in CHECKS.values()]
    assert sorted(labels) == sorted(exercises)


@every_check
def test_the_solution_passes(module, exercises):
    notebook, _ = exercises[module.LABEL]
    module.check(defined(solution(notebook, module.LABEL, module.NAME), module.NAME))


@every_check
def test_the_stub_fails(module, exercises):
    """It gives None, which many an oracle cannot even be compared with: any error will do."""
    stub = defined(_with_any_import(exercises[module.LABEL][1]), module.NAME)
    with pytest.raises(Exception):  # noqa: B017, PT011
        module.check(stub)


def _with_any_import(stub: str) -> str:
    return f"import torch\nimport numpy as np\nfrom torch import nn\n\n{stub}"


@every_check
def test_stub_and_solution_take_the_same_arguments(module, exercises):
    notebook, stub = exercises[module.LABEL]
    given = defined(_with_any_import(stub), module.NAME)
    solved = defined(solution(notebook, module.LABEL, module.NAME), module.NAME)
    assert given.__doc__, "a stub says in one line what it takes and gives"
    assert inspect.signature(given).parameters.keys() == inspect.signature(solved).parameters.keys()


@pytest.mark.parametrize(("name", "mistake"), WRONG, ids=map(" ".join, WRONG))
def test_a_mistake_that_learners_make_is_refused(name, mistake):
    module = CHECKS[name]
    with pytest.raises((AssertionError, RuntimeError, ValueError)):  # the check's word, or sizes that do not fit
        module.check(module.WRONG[mistake])


# The reading of pages can fail, too.

PAGE = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

```{code-cell} python3
import math
import does_not_exist

half = 1 / 2
halves = [half for _ in range(3)]


def helper(x):
    return math.floor(x * half)
```

````{exercise} Half
:label: ex-half

```python
def down(x):
    \"\"\"Half of x, rounded down.\"\"\"
    ...
```
````

```{solution-start} ex-half
:class: dropdown
```

```{code-cell} python3
def down(x):
    return helper(x)


does_not_exist.print(down(4))
```

```{solution-end}
```

```{code-cell} python3
def helper(x):
    return None


def down(x):
    return None
```
"""


@pytest.fixture
def page(tmp_path):
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    return read_text(tmp_path / "page.md")


def test_a_stub_is_found(page):
    found = stubs(page)
    assert list(found) == ["ex-half"]
    assert defined(found["ex-half"], "down")(4) is None


def test_a_solution_runs_with_what_it_needs_and_no_more(page):
    code = solution(page, "ex-half", "down")
    assert "does_not_exist" not in code
    assert "halves" not in code
    assert defined(code, "down")(5) == 2


def test_a_function_reads_from_its_page_what_it_does_not_bind_itself():
    code = "@decorate\ndef f(a, b=given):\n    c = [a + d + outer for d in b]\n    return lambda e: c + e + inner(e)"
    assert _read(ast.parse(code).body[0]) == {"decorate", "given", "outer", "inner"}


def test_an_exercise_without_a_solution_is_told(page):
    with pytest.raises(LookupError, match="ex-other has no solution"):
        solution(page, "ex-other", "down")


def test_a_solution_under_another_name_is_told(page):
    with pytest.raises(LookupError, match="does not define up"):
        solution(page, "ex-half", "up")
