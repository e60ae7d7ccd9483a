"""Which test kills a plant: found by running attnlib's tests, stored, and seen again by running that test alone."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.planted.catalogued import FURTHER, PLANTS
from tests.planted.forked import Runner, collected, in_a_fork
from tests.planted.plant import Plant, Swaps, living, put_in

STORED = Path(__file__).with_name("killers.json")
# attnlib's own tests, but for those of what is built upon it, and of what it says.
SUITE = ["tests", *(
    f"--ignore=tests/{name}"
    for name in ("book", "exercises", "interop", "lab", "planted",
                 "test_benchmarks.py", "test_package.py", "test_plot.py", "test_readme.py")
)]  # fmt: skip
QUICKEST = 10  # tests of each file, which are asked first; the others only if these notice nothing
# What a wrong line must not raise: then it is not the mistake that dies, but a word that is not there.
MISSPELT = {"AttributeError", "ImportError", "NameError", "SyntaxError", "UnboundLocalError"}


def stored() -> dict[str, list[dict[str, Any]]]:
    """Return, for each plant of each mistake, the test that kills it, and the files in which some test does."""
    return json.loads(STORED.read_text("utf-8"))


def store(found: dict[str, list[dict[str, Any]]]) -> None:
    """Store what was found, a line for each plant."""
    lines = {name: ",\n  ".join(map(json.dumps, some)) for name, some in found.items()}
    text = ",\n".join(f"{json.dumps(name)}: [\n  {some}\n]" for name, some in lines.items())
    STORED.write_text(f"{{\n{text}\n}}\n", "utf-8")


def find(names: Iterable[str], suite: list[str], progress: Any, found: dict[str, list[dict[str, Any]]]) -> None:
    """Run tests against the plants of some mistakes; add what is found, and store it as it comes."""
    plants = {name: (PLANTS | FURTHER)[name] for name in names}

    def work(runner: Runner, items: dict[str, pytest.Item]) -> None:
        alive = living()
        changing = {name: [plant.swaps(alive) for plant in some] for name, some in plants.items()}
        watched = {id(each.__code__) for some in changing.values() for swaps in some for each, _ in swaps}
        runs = in_a_fork(lambda: [_watched(runner, item, watched) for item in progress(items.values())])
        passing = sorted((run for run in runs if not run["raised"]), key=lambda run: run["seconds"])
        quick = {run["test"]: place for place, run in enumerate(passing)}
        for name, some in progress(changing.items()):
            found[name] = [
                _killed(runner, items, swaps, passing, _rank(plant, quick))
                for plant, swaps in zip(plants[name], some, strict=True)
            ]
            store({name: found[name] for name in PLANTS | FURTHER if name in found})

    collected(suite, work)


def _watched(runner: Runner, item: pytest.Item, watched: set[int]) -> dict[str, Any]:
    """Run a test; return its name, whether it fails, how long it takes, and which functions it calls."""
    called: set[int] = set()
    start = time.perf_counter()
    sys.settrace(lambda frame, *_: called.add(id(frame.f_code)))
    try:
        raised = runner.fails(item)
    finally:
        sys.settrace(None)
    seconds = time.perf_counter() - start
    return {"test": item.nodeid, "raised": raised, "seconds": seconds, "calls": sorted(called & watched)}


def _rank(plant: Plant, quick: dict[str, int]) -> Callable[[list[str]], tuple]:
    """Return the order in which deaths are preferred: by a claim that fails, where one looks for it, quickly."""
    mirrored = f"tests/{plant.module}.py".rpartition("/")
    near = f"{mirrored[0]}/test_{mirrored[2]}", "tests/test_essentials.py"

    def rank(death: list[str]) -> tuple:
        test, raised = death
        return raised != "AssertionError", not test.startswith(near), quick[test]

    return rank


def _killed(
    runner: Runner,
    items: dict[str, pytest.Item],
    swaps: Swaps,
    passing: list[dict[str, Any]],
    rank: Callable[[list[str]], tuple],
) -> dict[str, Any]:
    changed = {id(each.__code__) for each, _ in swaps}
    by_file: dict[str, list[pytest.Item]] = {}
    for run in passing:
        if changed.intersection(run["calls"]):
            by_file.setdefault(run["test"].partition("::")[0], []).append(items[run["test"]])

    def among(tests: slice) -> dict[str, Any]:
        put_in(swaps)
        deaths = {file: runner.death(some[tests]) for file, some in by_file.items()}
        return {file: death for file, death in deaths.items() if death}

    deaths = in_a_fork(lambda: among(slice(0, QUICKEST))) or in_a_fork(lambda: among(slice(QUICKEST, None))) or {}
    killer, raised = min(deaths.values(), key=rank, default=(None, None))
    return {"killer": killer, "raised": raised, "files": sorted(deaths)}


def print_seen() -> None:
    """Print what the stored killer of each plant raises where it is planted; "" where it passes."""
    found: dict[str, list[str]] = {}
    killers = {name: [each["killer"] for each in some] for name, some in stored().items()}

    def work(runner: Runner, items: dict[str, pytest.Item]) -> None:
        alive = living()
        failing = runner.death(items.values())  # here, so that what is made once need not be made in each fork
        assert failing == [], f"without a mistake this fails: {failing}"
        for name, some in (PLANTS | FURTHER).items():
            swaps = [plant.swaps(alive) for plant in some]
            found[name] = [_seen(runner, items, *each) for each in zip(swaps, killers.get(name, []), strict=False)]

    collected(sorted({killer for some in killers.values() for killer in some if killer}), work)
    print(json.dumps(found))


def _seen(runner: Runner, items: dict[str, pytest.Item], swaps: Swaps, killer: str | None) -> str:
    if killer not in items:
        return ""

    def work() -> str:
        put_in(swaps)
        return runner.fails(items[killer])

    raised = in_a_fork(work)
    return "an end of the process" if raised is None else raised
