"""What the tests of the exercises share."""

import pytest

from attnlib.exercises import process


@pytest.fixture
def here(monkeypatch):
    """Answers run in this process, which is faster: for answers that are known to end."""

    def run(job, seconds):
        ran = process.Run(end="finished")
        job(ran.sent.append)
        return ran

    monkeypatch.setattr(process, "run", run)
