"""Break attnlib's core one small step at a time, and name the steps that no test notices.

    make mutants                                    # the whole core, some hours; stopped, it goes on where it was
    make mutants SAMPLE=500                         # as many of them, drawn once and for all
    make mutants MODULES="masks kernels/plan"       # these modules

Sessions of cosmic-ray lie in _build/mutants, one a module and version of its source: `cr-html` and `cr-report` read
them, and a mutant that is killed is not run again. A survivor is, once the tests have changed. What survives is held
against tests/mutants/survivors.toml, where each is judged once. A run over the whole core writes README.md beside it.
"""

import argparse
import math
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult
from tqdm import tqdm

from tools.mutants.changes import Change, change_of, mutated, work_items
from tools.mutants.trials import Bench, digest

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = ROOT / "_build" / "mutants"
JUDGED = ROOT / "tests" / "mutants" / "survivors.toml"
RESULT = ROOT / "tests" / "mutants" / "README.md"
CORE = ("masks.py", "kernels", "functional.py", "positions.py", "cache.py", "multihead.py", "transformer")
# Where a test of the core may stand. The other folders test what is built on it.
TESTS = ("tests/test_*.py", "tests/kernels/test_*.py", "tests/transformer/test_*.py")
OTHERS = ("benchmarks", "package", "plot", "readme")

WRITTEN = """# What attnlib's tests notice

`make mutants` wrote this. It breaks a source of attnlib's core by one small step, a mutant, and runs the tests: a
mutant that fails one of them is killed. A source is named by the beginning of its SHA-256.

{table}

Of the survivors, {known} are judged in `survivors.toml`: each says why no test should hold it. Not judged yet:

{new}
"""


class Module:
    """A source of the core with its session."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name, self.path = name, ROOT / "attnlib" / f"{name}.py"
        self.source = self.path.read_text("utf-8")
        self.digest = digest([self.path])
        self.session: WorkDB = stack.enter_context(
            use_db(str(SESSIONS / f"{name.replace('/', '-')}-{self.digest}.sqlite"))
        )
        if not self.session.num_work_items:
            self.session.add_work_items(work_items(self.path, name))
        self.items = {item.job_id: item.mutations[0] for item in self.session.work_items}
        self.results = dict(self.session.results)

    def change(self, name: str) -> Change:
        mutation = self.items[name]
        return change_of(self.name, self.source, mutated(self.source, mutation) or "", mutation)


def core() -> Iterator[str]:
    for name in CORE:
        path = ROOT / "attnlib" / name
        for source in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            if source.name not in ("__init__.py", "protocol.py"):
                yield source.relative_to(ROOT / "attnlib").with_suffix("").as_posix()


def judged() -> set[Change]:
    survivors = tomllib.loads(JUDGED.read_text("utf-8"))["survivor"]
    return {Change(*(survivor[field] for field in Change._fields)) for survivor in survivors}


def trial(bench: Bench, module: Module, mutation: MutationSpec, tests: str) -> WorkResult:
    """Run the tests against one mutant. A killed one notes by which test, a survivor against which tests."""
    text = mutated(module.source, mutation)
    if text is None:
        return WorkResult(WorkerOutcome.NO_TEST)
    killer = bench.killer(module.name, mutation.start_pos[0], text)
    outcome = TestOutcome.KILLED if killer else TestOutcome.SURVIVED
    return WorkResult(WorkerOutcome.NORMAL, killer or tests, outcome)


def drawn(modules: list[Module], bench: Bench, sample: int | None, tests: str) -> list[tuple[Module, str]]:
    """Run what has no result yet; return the mutants that count. Ordered by a hash, any beginning is a fair sample."""
    order = sorted((name, module) for module in modules for name in module.items)
    counted: list[tuple[Module, str]] = []
    with tqdm(total=min(sample or len(order), len(order)), unit="mutant") as bar:
        for name, module in order:
            if len(counted) == sample:
                break
            result = module.results.get(name)
            if result is None or (result.test_outcome == TestOutcome.SURVIVED and result.output != tests):
                result = module.results[name] = trial(bench, module, module.items[name], tests)
                module.session.set_result(name, result)
            if result.worker_outcome == WorkerOutcome.NORMAL:
                counted.append((module, name))
                bar.update()
    return counted


def interval(killed: int, tried: int) -> str:
    """Return the share that is killed, with its 95 % interval (Wilson, 1927)."""
    z, p = 1.96, killed / tried
    middle = (p + z * z / (2 * tried)) / (1 + z * z / tried)
    half = z * math.sqrt(p * (1 - p) / tried + z * z / (4 * tried * tried)) / (1 + z * z / tried)
    return f"{100 * p:.1f} % ({100 * (middle - half):.1f} to {100 * (middle + half):.1f})"


def table(modules: list[Module], counted: list[tuple[Module, str]]) -> str:
    rows = [
        "| module | source | mutants | tried | killed | share, with its 95 % interval |",
        "|---|---|--:|--:|--:|---|",
    ]
    total = [0, 0, 0]
    for module in modules:
        invalid = sum(result.worker_outcome == WorkerOutcome.NO_TEST for result in module.results.values())
        tried = [name for owner, name in counted if owner is module]
        killed = sum(module.results[name].is_killed for name in tried)
        numbers = [len(module.items) - invalid, len(tried), killed]
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        share = interval(killed, len(tried)) if tried else ""
        rows.append(f"| {module.name} | {module.digest} | {' | '.join(map(str, numbers))} | {share} |")
    rows.append(f"| **all** | | {' | '.join(map(str, total))} | {interval(total[2], total[1])} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="as masks or kernels/plan; default: the whole core")
    parser.add_argument("--sample", type=int, help="how many mutants; default: all")
    asked = parser.parse_args()
    files = sorted(path for pattern in TESTS for path in ROOT.glob(pattern))
    files = [path for path in files if path.stem.removeprefix("test_") not in OTHERS]
    files += [ROOT / "attnlib" / f"{name}.py" for name in core()]  # their examples
    tests = digest([*ROOT.glob("tests/*.py"), *files])
    with ExitStack() as stack:
        bench = Bench(ROOT, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        bench.profile(files, SESSIONS / "tests")
        modules = [Module(name, stack) for name in asked.modules or core()]
        counted = drawn(modules, bench, asked.sample, tests)
        survivors = [module.change(name) for module, name in counted if not module.results[name].is_killed]
        result = table(modules, counted)
    known = judged() & set(survivors)
    new = sorted(set(survivors) - known)
    print(result, f"\n{len(survivors)} survive; {len(known)} of them are judged.")
    for change in new:
        print("\n[[survivor]]", *(f"{field} = {value!r}" for field, value in change._asdict().items()), sep="\n")
    if not asked.modules:
        RESULT.write_text(
            WRITTEN.format(table=result, known=len(known), new="\n".join(f"- `{c}`" for c in new) or "none")
        )


if __name__ == "__main__":
    main()
