"""A learner's code runs in a process of its own, with a time limit: it may loop for ever, crash, or never return.

The process is a fork, because only a fork knows the functions of a notebook; nothing has to be pickled on the way in.
Where there is no fork (Windows), or where torch says that a fork cannot do what is asked (a GPU is in use), the code
runs in a thread instead: it is stopped at the limit if it is Python, but a crash of it is a crash of all.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import pickle
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Send = Callable[[Any], None]


@dataclass
class Run:
    """What a job sent, and how it ended: by itself, at the time limit, or with its process."""

    sent: list[Any] = field(default_factory=list)
    end: Literal["finished", "time", "died"] = "died"


def run(job: Callable[[Send], None], seconds: float) -> Run:
    """Run ``job(send)`` apart from this process for at most so many seconds, and return what it sent."""
    return _in_a_fork(job, seconds) if _can_fork() else _in_a_thread(job, seconds)


def _can_fork() -> bool:
    # What a parent has begun on a GPU, a fork cannot go on with: neither CUDA nor autograd's threads.
    return hasattr(os, "fork") and not torch.cuda.is_initialized()


_FINISHED = "finished"


def _in_a_fork(job: Callable[[Send], None], seconds: float) -> Run:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python warns of locks that other threads may hold. The time limit ends a child that waits for one.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        _be_the_child(job, reader, writer)
    os.close(writer)
    try:
        return _listen(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _be_the_child(job: Callable[[Send], None], reader: int, writer: int) -> None:
    """Run the job and leave; nothing of the parent's runs again, neither its handlers nor its buffers."""
    code = 1
    try:
        os.setpgid(0, 0)  # what the job starts is ended with it
        os.close(reader)
        faulthandler.disable()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(1)  # the parent's threads did not come along
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            job(lambda item: _write(writer, item))
        _write(writer, _FINISHED)
        code = 0
    finally:
        os._exit(code)


def _write(writer: int, item: Any) -> None:
    content = pickle.dumps(item)
    content = len(content).to_bytes(8, "big") + content
    while content:
        content = content[os.write(writer, content) :]


def _listen(reader: int, deadline: float) -> Run:
    found, received = Run(), bytearray()
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            found.end = "time"
            return found
        part = os.read(reader, 1 << 16)
        if not part:
            return found
        received += part
        while len(received) >= 8 and len(received) >= 8 + (size := int.from_bytes(received[:8], "big")):
            item = pickle.loads(bytes(received[8 : 8 + size]))
            del received[: 8 + size]
            if isinstance(item, str) and item == _FINISHED:
                found.end = "finished"
                return found
            found.sent.append(item)


def _in_a_thread(job: Callable[[Send], None], seconds: float) -> Run:
    found = Run()

    def work() -> None:
        with contextlib.suppress(SystemExit):
            job(found.sent.append)
            found.end = "finished"

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive() and thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        return Run([*found.sent], "time")
    return found
