"""Run tests against a copy of the package, each time in a fork of this process, which loaded what is slow to load."""

import gc
import hashlib
import json
import math
import os
import resource
import shutil
import signal
import sys
from bisect import bisect_right
from collections import defaultdict
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import hypothesis
import numpy  # noqa: F401 - so that a fork has it
import pytest
import torch._dynamo  # noqa: F401 - so that a fork has it
from coverage import CoverageData
from tqdm import tqdm

SECONDS = 120  # of tests against one mutant, as long as they take on the package as it is; the fastest are taken
LIMIT = 20  # seconds to load the tests, and for each of them, beside ten times what it takes
MEMORY = 16 * 2**30  # bytes of addresses; a mutant that doubles a size for ever must not take the machine down
PRELOADED = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
ARGUMENTS = ("-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-W", PRELOADED, "--doctest-modules")


def digest(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:12]


class Chosen:
    """Plugin of pytest: these tests, in this order, each with a time limit; or all. It notes how long, and what failed.

    Args:
        expected: how many seconds each test takes on the package as it is.
    """

    def __init__(self, expected: dict[str, float] | None) -> None:
        self.expected = expected
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    def pytest_collection(self) -> None:
        # The project's profile, but a counterexample need not be made small.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", hypothesis.settings.default, phases=phases)
        hypothesis.settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.expected is not None:
            rank = {name: place for place, name in enumerate(self.expected)}
            items[:] = sorted((item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.expected is not None:
            signal.alarm(math.ceil(LIMIT + 10 * self.expected[nodeid]))  # it ends the process

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:  # the mutant cannot be imported
            self.failed.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)


class Bench:
    """A copy of the package in a folder, its tests, and what is known of them: how long each takes, what it runs."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        for name in ("attnlib", "tests"):
            shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "pyproject.toml", folder)
        self.seconds: dict[str, float] = {}  # of each test
        self.running: dict[tuple[str, int], set[str]] = defaultdict(set)  # the tests that run a line of a module

    def profile(self, files: list[Path], store: Path) -> None:
        """Run each file of tests on the package as it is, unless ``store`` knows it from last time."""
        store.mkdir(parents=True, exist_ok=True)
        shared = [*self.root.glob("attnlib/**/*.py"), *self.root.glob("tests/[!t]*.py")]
        for path in tqdm(files, unit="file of tests"):
            name = path.relative_to(self.root).as_posix()
            known = store / f"{name.replace('/', '-')}-{digest([path, *shared])}.coverage"
            if not known.exists():
                status, noted = self._run(
                    ["-p", "pytest_cov", "--cov=attnlib", "--cov-context=test", "--cov-report=", name], None
                )
                if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                    sys.exit(f"{name} fails before any change: {noted['failed'] or status}")
                known.with_suffix(".json").write_text(json.dumps(noted["seconds"]))
                shutil.copy(self.folder / ".coverage", known)
            self.seconds |= json.loads(known.with_suffix(".json").read_text())
            coverage = CoverageData(known)
            coverage.read()
            for source in coverage.measured_files():
                module = source.rpartition("/attnlib/")[2].removesuffix(".py")
                for row, tests in coverage.contexts_by_lineno(source).items():
                    self.running[module, row].update(test.partition("|")[0] for test in tests)

    def tests_of(self, module: str, row: int) -> list[dict[str, float]]:
        """Return the tests to run for a line, with their seconds, file by file: the mirrored file first, then by size.

        They are those that run the line, the fastest ones of them, and all of the mirrored file, because code that
        torch compiles, or that another process runs, is not seen running.
        """
        path = Path(module)
        names = f"tests/{path.parent / f'test_{path.name}.py'}", f"tests/test_{path.name}.py", f"attnlib/{module}.py"
        mirrored = tuple(f"{name}::" for name in names)
        running = self.running[module, row] - {""}
        if not running:  # the line runs when the module is imported: whatever runs any line of it, or stands nearest
            running = set().union(*(tests for (name, _), tests in self.running.items() if name == module)) - {""}
            running = running or {name for name in self.seconds if name.startswith(f"tests/{path.parent}/")}
        held = [name for name in self.seconds if name in running or name.startswith(mirrored)]
        held.sort(key=lambda name: (name not in running, self.seconds[name]))
        total = list(accumulate(self.seconds[name] for name in held))
        files: dict[str, dict[str, float]] = defaultdict(dict)
        for name in held[: bisect_right(total, SECONDS)]:
            files[name.partition("::")[0]][name] = self.seconds[name]
        return [files[name] for name in sorted(files, key=lambda name: (name not in names, -len(files[name])))]

    def killer(self, module: str, row: int, text: str) -> str | None:
        """Return the test that notices that a module's text was changed at this row, or None."""
        path = self.folder / "attnlib" / f"{module}.py"
        source = path.read_text("utf-8")
        path.write_text(text, "utf-8")
        try:
            for tests in self.tests_of(module, row):
                status, noted = self._run([next(iter(tests)).partition("::")[0]], tests)
                if status != 0:
                    return noted["failed"][0] if noted["failed"] else f"the end of the process, {status}"  # or a limit
        finally:
            path.write_text(source, "utf-8")
        return None

    def _run(self, arguments: list[str], expected: dict[str, float] | None) -> tuple[int, dict]:
        """Run pytest in a fork; return its exit status, negative for a signal, and what was noted."""
        note = self.folder / "note.json"
        note.unlink(missing_ok=True)
        gc.freeze()  # the fork need not look through what was loaded here
        child = os.fork()
        if child == 0:
            try:
                os._exit(self._in_the_fork(arguments, expected, note))
            finally:
                os._exit(pytest.ExitCode.INTERNAL_ERROR)
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        return status, json.loads(note.read_text()) if note.exists() else {"seconds": {}, "failed": []}

    def _in_the_fork(self, arguments: list[str], expected: dict[str, float] | None, note: Path) -> int:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # nbval alone takes seconds to load
        os.setsid()  # what the tests start ends with them
        signal.alarm(0 if expected is None else LIMIT)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.chdir(self.folder)
        sys.path[0] = str(self.folder)
        sys.dont_write_bytecode = True
        chosen = Chosen(expected)
        status = pytest.main([*ARGUMENTS, *arguments], plugins=[chosen])
        note.write_text(json.dumps({"seconds": chosen.seconds, "failed": chosen.failed}))
        return status
