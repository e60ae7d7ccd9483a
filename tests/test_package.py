"""The package as a whole: what it imports, in which order, what it says, what it ships."""

import ast
import builtins
import doctest
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import nullcontext
from fnmatch import fnmatch
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

import attnlib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "attnlib"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LISTED = re.findall(r"^``(\w+)``", attnlib.__doc__, re.MULTILINE)


def python(code):
    """Run code in a fresh interpreter; return the run."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def module_of(path):
    """Return a source's place in the list of modules: attnlib/kernels/fused.py belongs to kernels."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Yield the modules of attnlib that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("attnlib."))


def test_importing_attnlib_loads_torch_and_numpy_and_what_they_load():
    run = python(
        "import sys, contextlib, dataclasses, numpy, torch; before = set(sys.modules); import attnlib; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    assert set(run.stdout.split()) <= {"attnlib", "numpy", "torch"}, run.stderr


def test_the_reference_loads_no_torch_of_its_own():
    assert set(re.findall(r"^import (\w+)", (PACKAGE / "reference.py").read_text("utf-8"), re.MULTILINE)) == {
        "math",
        "numpy",
    }


def test_every_module_is_listed():
    assert sorted(LISTED) == sorted({module_of(path) for path in SOURCES} - {"__init__"})


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_module_imports_only_from_those_above_it(path):
    module = module_of(path)
    if module == "__init__":
        assert "lab" not in set(imports(path))
        return
    above = LISTED[: LISTED.index(module)]
    inside_a_folder = [module] if path.parent != PACKAGE else []
    assert set(imports(path)) <= {*above, *inside_a_folder}


def test_nothing_above_imports_the_lab():
    assert LISTED[-1] == "lab"
    assert not [path for path in SOURCES if module_of(path) != "lab" and "lab" in set(imports(path))]


def test_a_missing_matplotlib_names_the_extra_to_install():
    run = python("import sys; sys.modules['matplotlib'] = None; import attnlib; import attnlib.plot")
    assert "ImportError: attnlib.plot needs matplotlib: pip install 'attnlib[plot]'" in run.stderr
    assert "plot" in PROJECT["project"]["optional-dependencies"]


def test_submodules_are_there_after_import_attnlib():
    pytest.importorskip("matplotlib")
    run = python(
        "import sys, attnlib; "
        "assert {'exercises', 'interop', 'plot', 'reference', 'transformer'} <= set(dir(attnlib)); "
        "assert 'matplotlib' not in sys.modules and 'attnlib.transformer' not in sys.modules; "
        "print(attnlib.transformer.Transformer.__name__, attnlib.reference.softmax.__name__); "
        "assert 'matplotlib' not in sys.modules; print(attnlib.plot.head_grid.__name__, 'matplotlib' in sys.modules); "
        "from attnlib import plot, transformer; print(plot is attnlib.plot, transformer is attnlib.transformer)"
    )
    assert run.stdout.splitlines() == ["Transformer softmax", "head_grid True", "True True"], run.stderr


def test_what_attnlib_has_not_is_told_as_python_does():
    run = python("import attnlib; print(hasattr(attnlib, 'nothing')); attnlib.plots")
    assert run.stdout.split() == ["False"]
    assert "AttributeError: module 'attnlib' has no attribute 'plots'" in run.stderr
    run = python("import sys; sys.modules['matplotlib'] = None; import attnlib; attnlib.plot")
    assert "ImportError: attnlib.plot needs matplotlib: pip install 'attnlib[plot]'" in run.stderr


def test_the_version_is_the_projects():
    assert attnlib.__version__ == PROJECT["project"]["version"]


def test_what_is_public_is_what_the_design_names():
    assert set(attnlib.__all__) == {
        "attention", "attention_weights", "MultiHeadAttention", "KVCache", "record_attention", "masks", "positions",
    }  # fmt: skip
    assert all(hasattr(attnlib, name) for name in attnlib.__all__)


@cache
def public():
    """Return every public function and class of attnlib, by its full name."""
    found = {}
    for path in SOURCES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name == "__init__.py" or ".kernels." in name or ".lab." in name or name.endswith("plot"):
            continue
        if ".exercises." in name and not name.endswith((".checking", ".misconception")):  # inside, as the kernels
            continue
        if ".huggingface." in name and not find_spec("transformers"):
            continue
        module = importlib.import_module(name)
        for thing_name, thing in vars(module).items():
            listed = thing_name in getattr(module, "__all__", [thing_name])
            mine = inspect.isroutine(thing) or inspect.isclass(thing)
            if mine and listed and not thing_name.startswith("_") and thing.__module__ == name:
                found[f"{name}.{thing_name}"] = thing
    return found


# Made by others, and read only.
WITHOUT_EXAMPLE = {
    "attnlib.recording.Record",
    "attnlib.transformer.decoding.Hypothesis",
    "attnlib.transformer.inputs.LayerCache",
}


@pytest.mark.parametrize("name", sorted(public()))
def test_every_public_name_is_explained_with_an_example_that_runs(name):
    thing = public()[name]
    summary = inspect.getdoc(thing).splitlines()[0]
    assert summary.endswith((".", ":"))
    if name not in WITHOUT_EXAMPLE:
        assert doctest.DocTestParser().get_examples(inspect.getdoc(thing))


# What the examples of a module need beside torch and NumPy: the extras of pyproject.toml.
NEEDED_BY = {"interop": ["transformers"], "plot": ["matplotlib"], "lab": ["matplotlib", "IPython", "tqdm", "num2words"]}


@cache
def docstrings():
    """Return every docstring of attnlib with an example, by its place."""
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if doctest.DocTestParser().get_examples(text):
                    found[f"{path.relative_to(PACKAGE)}:{getattr(node, 'name', '')}"] = text
    return found


def settings_kept():
    """Keep matplotlib's settings, which an example may change for all tests that follow."""
    return importlib.import_module("matplotlib").rc_context() if find_spec("matplotlib") else nullcontext()


@pytest.mark.parametrize("place", sorted(docstrings()))
def test_an_example_runs_as_copied(place):
    """In an empty namespace: it begins with its imports."""
    for needed in NEEDED_BY.get(module_of(PACKAGE / place.partition(":")[0]), ()):
        pytest.importorskip(needed)
    test = doctest.DocTestParser().get_doctest(docstrings()[place], {}, place, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    output = []
    with settings_kept():
        runner.run(test, out=output.append)
    assert not runner.failures, "".join(output)


def sections():
    """Return every section of attnlib's docstrings: where, its name, its entries by name, what may be named there."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef):
                continue
            text = ast.get_docstring(node) or ""
            makers = [part for part in ast.walk(node) if getattr(part, "name", "") == "__init__"]
            function = node if isinstance(node, ast.FunctionDef) else makers[0] if makers else None
            arguments = (
                {part.arg for part in ast.walk(function.args) if isinstance(part, ast.arg)} if function else set()
            )
            underlined = re.findall(r"^ *(\w+)\n *-{3,}$", text, re.MULTILINE)
            place = f"{path.relative_to(PACKAGE)}:{node.name}"
            found += [(place, f"{name}, underlined", [], arguments) for name in underlined]
            for heading, body in re.findall(r"^([A-Z]\w+):\n((?: {4}.*\n?|\n(?= {4}))+)", text, re.MULTILINE):
                entries = re.findall(r"^ {4}(\S.*)", body, re.MULTILINE)
                found.append((place, heading, entries, arguments))
    return found


@pytest.mark.parametrize(("place", "heading", "entries", "arguments"), sections())
def test_a_section_of_a_docstring_is_read_as_it_is_meant(place, heading, entries, arguments):
    """By napoleon, which makes the page of the API: `name: text`; a colon in "Returns" would end a type."""
    names = [entry.partition(": ")[0] for entry in entries]
    if heading == "Args":
        assert set(names) <= arguments
    elif heading == "Raises":
        assert all(issubclass(getattr(builtins, name), Exception) for name in names)
        assert len(set(names)) == len(names)
    elif heading == "Attributes":
        assert all(name.isidentifier() for name in names)
    else:
        assert heading == "Returns"
        assert ":" not in re.sub(r"``.*?``|:\w+:`.*?`", "", entries[0])


def test_the_signatures_are_those_of_the_design():
    """The names and the order, what is keyword-only, and the defaults."""
    expected = {
        attnlib.attention: "(query, key, value, mask=None, *, bias=None, scale=None, dropout_p=0.0)",
        attnlib.attention_weights: "(query, key, mask=None, *, bias=None, scale=None)",
        attnlib.MultiHeadAttention: "(num_heads, d_model, d_k=None, d_v=None, dropout=0.1, *, num_kv_heads=None, "
        "rotary=None, projection_bias=False, scale=None, qk_norm=None, key_width=None, value_width=None, device=None, "
        "dtype=None)",
        attnlib.MultiHeadAttention.forward: "(self, query, key=None, value=None, mask=None, *, bias=None, "
        "positions=None, cache=None, need_weights=False)",
        attnlib.masks.causal: "()",
        attnlib.masks.sliding_window: "(size, *, ahead=None)",
        attnlib.masks.padding: "(lengths)",
        attnlib.masks.keys: "(real)",
        attnlib.masks.documents: "(ids=None, *, lengths=None)",
        attnlib.masks.prefix: "(length)",
        attnlib.record_attention: "(model)",
    }
    for function, text in expected.items():
        signature = inspect.signature(function)
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        assert str(signature.replace(parameters=bare, return_annotation=signature.empty)) == text


def test_every_data_file_is_listed_to_be_shipped():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    files = [p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert {p.name for p in files} >= {"three_tokens.json", "book.mplstyle"}
    for file in files:
        package = next(folder for folder in file.parents if (folder / "__init__.py").exists())
        listed = patterns.get(".".join(package.relative_to(ROOT).parts), [])
        assert any(fnmatch(str(file.relative_to(package)), pattern) for pattern in listed), file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """What `pip install` would install, built from a copy without a network: its names, and what it says of itself."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / "attnlib", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    run = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    with ZipFile(*source.glob("*.whl")) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return set(archive.namelist()), archive.read(metadata).decode("utf-8")


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names, _ = wheel
    files = {p.relative_to(ROOT).as_posix() for p in PACKAGE.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert {name for name in names if ".dist-info/" not in name} == files


def test_the_wheel_says_that_it_is_typed(wheel):
    names, metadata = wheel
    assert "attnlib/py.typed" in names
    assert "\nClassifier: Typing :: Typed\n" in metadata


def test_every_folder_is_a_package():
    assert all((path.parent / "__init__.py").exists() for path in SOURCES)
