"""Show attnlib's own source in a chapter, instead of a copy that can drift."""

import ast
import inspect
import textwrap

try:
    from IPython.display import Markdown
except ModuleNotFoundError as missing:
    raise ImportError("attnlib.lab.source needs IPython: pip install 'attnlib[lab]'") from missing


def show_source(thing, *, docstring: bool = False) -> Markdown:
    """Return the source of a function, method or class as a code block; without its docstrings unless asked.

    >>> from attnlib import reference
    >>> print(show_source(reference.dot).data)
    ```python
    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))
    ```
    """
    source = textwrap.dedent(inspect.getsource(thing))
    if not docstring:
        source = _without_docstrings(source)
    return Markdown(f"```python\n{source.rstrip()}\n```")


def _without_docstrings(source: str) -> str:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            for number in range(first.lineno - 1, first.end_lineno):
                lines[number] = None
            # The blank line between a docstring and the code says nothing once the docstring is gone.
            if first.end_lineno < len(lines) and not lines[first.end_lineno].strip():
                lines[first.end_lineno] = None
    return "\n".join(line for line in lines if line is not None)
