"""What the numbers were measured on: the machine and the versions, and nothing that names whose it is."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("torch", "numpy", "transformers", "x-transformers", "attnlib")


def describe(device: torch.device) -> dict:
    """Return the machine: processor, cores, threads that torch uses, memory, and the GPU if one is measured."""
    described = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that take part."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


class Neighbours:
    """Watches what the other programs on this machine take from it: they disturb what is timed meanwhile."""

    def __init__(self):
        self.start, self.busy, self.own = time.monotonic(), _busy_seconds(), _own_seconds()

    def share(self) -> float | None:
        """Return the part of all cores' time that others have used since the start; None where nobody counts."""
        if self.busy is None:
            return None
        others = _busy_seconds() - self.busy - (_own_seconds() - self.own)
        return round(max(0.0, others / (time.monotonic() - self.start) / os.cpu_count()), 3)


def _own_seconds() -> float:
    """Return how long the cores have worked on this process."""
    return sum(os.times()[:2])


def _busy_seconds() -> float | None:
    """Return how long the cores have worked, all together, on anything; None where the system does not say."""
    counts = Path("/proc/stat")
    if not counts.exists():
        return None
    user, nice, system, _, _, *interrupts_and_stolen = map(int, counts.read_text("utf-8").split()[1:9])
    return (user + nice + system + sum(interrupts_and_stolen)) / os.sysconf("SC_CLK_TCK")


def _cpu() -> str:
    """Return the processor's name, with the widest vector instructions that torch uses on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})"
