"""What was tried and what came of it: cosmic-ray's sessions, one a source, in which a run that was stopped goes on."""

import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult
from tqdm import tqdm

from tools.mutants.changes import Change, change_of, mutated, work_items
from tools.mutants.trials import Bench, digest

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = ROOT / "_build" / "mutants"
JUDGED = ROOT / "tests" / "mutants" / "survivors.toml"
CORE = ("masks.py", "kernels", "functional.py", "positions.py", "cache.py", "multihead.py", "transformer")
NOTHING_TO_HOLD = ("__init__.py", "protocol.py", "sizes.py")  # names, types, and numbers that cost time alone


class Module:
    """A source with its session. Another version of the source has another one."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name, self.path = name, ROOT / "attnlib" / f"{name}.py"
        self.source, self.digest = self.path.read_text("utf-8"), digest([self.path])
        file = SESSIONS / f"{name.replace('/', '-')}-{self.digest}.sqlite"
        self.session: WorkDB = stack.enter_context(use_db(str(file)))
        if not self.session.num_work_items:
            self.session.add_work_items(work_items(self.path, name))
        self.mutations = {item.job_id: item.mutations[0] for item in self.session.work_items}
        self.results: dict[str, WorkResult] = dict(self.session.results)

    @property
    def count(self) -> int:
        """How many mutants there are, without those that were found to be no Python."""
        outcomes = [result.worker_outcome for result in self.results.values()]
        return len(self.mutations) - outcomes.count(WorkerOutcome.NO_TEST)

    def text(self, name: str) -> str | None:
        return mutated(self.source, self.mutations[name])

    def change(self, name: str) -> Change:
        return change_of(self.name, self.source, self.text(name) or "", self.mutations[name])


def core() -> Iterator[str]:
    """Yield the modules that `make mutants` is about."""
    for name in CORE:
        path = ROOT / "attnlib" / name
        for source in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            if source.name not in NOTHING_TO_HOLD:
                yield source.relative_to(ROOT / "attnlib").with_suffix("").as_posix()


def judged() -> set[Change]:
    """Return the survivors that were found to be no tests' business."""
    survivors = tomllib.loads(JUDGED.read_text("utf-8"))["survivor"]
    return {Change(*(survivor[field] for field in Change._fields)) for survivor in survivors}


def tried(modules: list[Module], sample: int | None, bench: Bench, tests: str) -> list[tuple[Module, str]]:
    """Return ``sample`` mutants, or all, by module and name; run those of which is not known what comes of them.

    They are ordered by a hash, module beside module, so that any beginning is a fair sample of each. A survivor is run
    again when the tests are others, unless it was judged.
    """
    order = [
        (name, module)
        for _, name, module in sorted(
            ((place + 0.5) / len(module.mutations), name, module)
            for module in modules
            for place, name in enumerate(sorted(module.mutations))
        )
    ]
    counted: list[tuple[Module, str]] = []
    known = judged()
    with tqdm(total=min(sample or len(order), len(order)), unit="mutant") as bar:
        for name, module in order:
            if len(counted) == sample:
                break
            result = module.results.get(name)
            if result is None or (result.test_outcome == TestOutcome.SURVIVED and result.output != tests):
                result = module.results[name] = _trial(module, name, bench, known, tests)
                module.session.set_result(name, result)
            if result.worker_outcome == WorkerOutcome.NORMAL:
                counted.append((module, name))
                bar.update()
    return counted


def _trial(module: Module, name: str, bench: Bench, known: set[Change], tests: str) -> WorkResult:
    """Run the tests against one mutant. A killed one notes by which test, a survivor against which tests."""
    text = module.text(name)
    if text is None:
        return WorkResult(WorkerOutcome.NO_TEST)
    row = module.mutations[name].start_pos[0]
    killer = None if module.change(name) in known else bench.killer(module.name, row, text)
    outcome = TestOutcome.KILLED if killer else TestOutcome.SURVIVED
    return WorkResult(WorkerOutcome.NORMAL, killer or tests, outcome)
