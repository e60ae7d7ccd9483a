"""Run tests in forks of a process that has imported and collected once for all of them."""

import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import pytest

LIMIT = 120  # seconds; a mistake that makes a test run longer is noticed


class Runner:
    """A plugin of pytest that gives the collected tests to a function, in the place of running them."""

    def __init__(self, work: Callable[["Runner", dict[str, pytest.Item]], None]):
        self.work = work
        self.raised = ""

    def pytest_configure(self, config: pytest.Config) -> None:
        config.option.tbstyle = "native"  # nobody reads it, and the others take a second

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.work(self, {item.nodeid: item for item in session.items})
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call):
        report = yield
        if report.failed and not self.raised:
            self.raised = "a pass that was not expected" if call.excinfo is None else call.excinfo.typename
        return report

    def fails(self, item: pytest.Item) -> str:
        """Run a test; return the name of what it raised, "" if it passes."""
        self.raised = ""
        signal.alarm(LIMIT)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        signal.alarm(0)
        return self.raised

    def death(self, items: Iterable[pytest.Item]) -> list[str]:
        """Return the name of the first test whose claim fails, else of the first that fails, and of what it raised."""
        first: list[str] = []
        for item in items:
            raised = self.fails(item)
            if raised == "AssertionError":
                return [item.nodeid, raised]
            if raised and not first:
                first = [item.nodeid, raised]
        return first


def collected(tests: Iterable[str], work: Callable[[Runner, dict[str, pytest.Item]], None]) -> None:
    """Collect tests, and give them to ``work`` by their names, with a runner."""
    signal.signal(signal.SIGALRM, _too_long)
    options = ["-o", "addopts=", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:terminal"]
    code = pytest.main([*options, *tests], plugins=[Runner(work)])
    if code:
        raise SystemExit(f"pytest ended with {code!r}")


def in_a_fork(work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns in a copy of this process; None if the copy did not live to say it."""
    gc.freeze()  # a collection in the copy would touch, and so copy, all memory; gc.get_objects() is empty from now on
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writing, "w") as answer:
                json.dump(work(), answer)
        except Exception:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


def _too_long(*_: Any) -> None:
    raise TimeoutError("a test ran too long")
