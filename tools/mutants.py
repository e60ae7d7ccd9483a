"""Break attnlib one small step at a time, and name the breakages that no test notices.

    python tools/mutants.py masks                      # tests/test_masks.py against each mutant of attnlib/masks.py
    python tools/mutants.py kernels/plan kernels/plan kernels/blockwise  # the tests to run, if not the mirrored ones

Works on a copy in a temporary folder.
"""

import ast
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 300  # seconds; a mutant that runs longer counts as noticed
COPIED = ("attnlib", "tests", "tools")
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


def mutations(node):
    """Yield changes of one node: (what changes, a function that returns the node to put in its place)."""
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Raise | ast.Expr):
        if not isinstance(node.value if isinstance(node, ast.Expr) else node, ast.Constant):  # no docstring
            yield "deleted", lambda n: ast.Pass()
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        for outcome in (True, False):
            yield f"condition {outcome}", lambda n, outcome=outcome: changed(n, test=ast.Constant(outcome))
    elif isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            yield from swap(operator, lambda n, new, i=place: changed(n, ops=[*n.ops[:i], new, *n.ops[i + 1 :]]))
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        yield from swap(node.op, lambda n, new: changed(n, op=new))
    elif isinstance(node, ast.UnaryOp):
        yield "sign dropped", lambda n: n.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "flipped", lambda n: ast.Constant(not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "one more", lambda n: ast.Constant(n.value + 1)


def swap(operator, rebuild):
    new = SWAPS.get(type(operator))
    if new:
        yield f"{type(operator).__name__} → {new.__name__}", lambda n: rebuild(n, new())


def changed(node, **fields):
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def skipped(tree):
    """Return the nodes that no test should hold: messages, annotations, __all__."""
    roots = [n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    for node in ast.walk(tree):
        found = (getattr(node, "annotation", None), getattr(node, "returns", None))
        roots += [node] if isinstance(node, ast.JoinedStr) else [root for root in found if root]
    return {id(inner) for root in roots for inner in ast.walk(root)}


def mutants(source):
    """Yield (line, what changes, the changed source)."""
    for index in range(sum(1 for node in ast.walk(ast.parse(source)) for _ in mutations(node))):
        tree = ast.parse(source)  # a fresh tree for each change
        target, (what, change) = [(node, one) for node in ast.walk(tree) for one in mutations(node)][index]
        if id(target) in skipped(tree):
            continue
        for parent in ast.walk(tree):
            for name, field in ast.iter_fields(parent):
                if field is target:
                    setattr(parent, name, change(target))
                elif isinstance(field, list) and any(item is target for item in field):
                    setattr(parent, name, [change(target) if item is target else item for item in field])
        yield target.lineno, what, ast.unparse(ast.fix_missing_locations(tree))


def passes(folder, tests):
    """Run tests in this process, silently, with the attnlib that lies in ``folder``."""
    import pytest

    for name in [name for name in sys.modules if name.partition(".")[0] in COPIED]:
        del sys.modules[name]
    os.chdir(folder)
    sys.path[0] = str(folder)
    sys.dont_write_bytecode = True
    out, err, null = os.dup(1), os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    try:
        return pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *tests]) == 0
    finally:
        os.dup2(out, 1), os.dup2(err, 2)


def survives(folder, tests):
    """Say whether all tests pass, in a fork of this process, which has loaded all that is slow to load."""
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT)
        os._exit(0 if passes(folder, tests) else 1)
    return os.waitpid(child, 0)[1] == 0


def main(module, *names):
    paths = map(Path, names or [module])
    tests = [str(Path("tests") / path.parent / f"test_{path.name}.py") for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        for name in [*COPIED, "conftest.py", "pyproject.toml"]:
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copied(ROOT / name, Path(folder) / name)
        path = Path(folder) / "attnlib" / f"{module}.py"
        source = path.read_text("utf-8")
        if not passes(Path(folder), tests):
            sys.exit(f"{' '.join(tests)}: fails before any change")
        count = lived = 0
        for line, what, text in mutants(source):
            path.write_text(text, "utf-8")
            count += 1
            if survives(Path(folder), tests):
                lived += 1
                print(f"attnlib/{module}.py:{line}: {what}: {source.splitlines()[line - 1].strip()}", flush=True)
        print(f"{module}: {count - lived} of {count} mutants noticed")


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[1:] else sys.exit(__doc__)
