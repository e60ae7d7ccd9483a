"""A job runs apart, and ends: by itself, at its limit, or with its process."""

import os
import threading
import time

import pytest

from attnlib.exercises import process

ways = pytest.mark.parametrize("run", [process._in_a_fork, process._in_a_thread], ids=["fork", "thread"])


@ways
def test_what_a_job_sends_arrives_in_order(run):
    ran = run(lambda send: [send((i, "x" * 70_000)) for i in range(5)], 30)
    assert ran.end == "finished"
    assert ran.sent == [(i, "x" * 70_000) for i in range(5)]


@ways
def test_a_job_that_does_not_end_is_stopped_and_what_it_sent_is_kept(run):
    def job(send):
        send("begun")
        while True:
            time.sleep(0.001)

    before = threading.active_count()
    ran = run(job, 0.3)
    assert (ran.end, ran.sent) == ("time", ["begun"])
    for _ in range(200):  # a thread ends soon after it is told to
        if threading.active_count() == before:
            break
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@ways
def test_a_job_that_raises_has_died(run):
    def job(send):
        send("begun")
        raise ValueError("no")

    ran = run(job, 30)
    assert (ran.end, ran.sent) == ("died", ["begun"])


def test_a_job_that_ends_its_process_leaves_ours():
    ran = process._in_a_fork(lambda send: os._exit(7), 30)
    assert (ran.end, ran.sent) == ("died", [])


def test_no_process_is_left():
    """Neither running nor waited for; of other tests' children nothing is asked."""

    def job(send):
        send(os.getpid())
        time.sleep(60)

    [child] = process._in_a_fork(job, 2).sent
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_where_no_fork_can_be_a_thread_is_used(monkeypatch):
    monkeypatch.setattr(process.torch.cuda, "is_initialized", lambda: True)
    assert not process._can_fork()
    assert process.run(lambda send: send(os.getpid()), 30).sent == [os.getpid()]
    monkeypatch.undo()
    assert process.run(lambda send: send(os.getpid()), 30).sent != [os.getpid()]
