"""Show attnlib's own source in a chapter, instead of a copy that can drift."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

try:
    from IPython.display import Markdown
except ModuleNotFoundError as missing:
    raise ImportError("attnlib.lab.source needs IPython: pip install 'attnlib[lab]'") from missing


def show_source(thing: Callable[..., Any], *, docstring: bool = False, types: bool = True) -> Markdown:
    """Return the source of a function, method or class as a code block.

    Args:
        thing: what to show.
        docstring: whether to keep its docstrings.
        types: whether to keep the types in signatures; beside a formula they only hide it.

    >>> from attnlib import reference
    >>> from attnlib.lab.source import show_source
    >>> print(show_source(reference.dot, types=False).data)
    ```python
    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))
    ```
    """
    source = textwrap.dedent(inspect.getsource(thing))
    if not docstring:
        source = _without_docstrings(source)
    if not types:
        source = _without_types(source)
    return Markdown(f"```python\n{source.rstrip()}\n```")


def _without_docstrings(source: str) -> str:
    lines = source.splitlines()
    gone: set[int] = set()  # counted from 1, as in the tree
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            end = first.end_lineno or first.lineno
            gone.update(range(first.lineno, end + 1))
            # The blank line between a docstring and the code says nothing once the docstring is gone.
            if end < len(lines) and not lines[end].strip():
                gone.add(end + 1)
    return "\n".join(line for number, line in enumerate(lines, start=1) if number not in gone)


def _without_types(source: str) -> str:
    lines = source.splitlines()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: -node.lineno):  # from below, so that the numbers above stay right
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        signature = " " * node.col_offset + f"def {node.name}({ast.unparse(node.args)}):"
        lines[node.lineno - 1 : node.body[0].lineno - 1] = [signature]
    return "\n".join(lines)
