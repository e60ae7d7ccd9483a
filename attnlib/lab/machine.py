"""What numbers were measured on: the machine and the versions, and nothing that names whose it is."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch


def describe(device: torch.device | str = "cpu") -> dict:
    """Return the machine: processor, cores, threads that torch uses, memory, and the GPU if ``device`` is one.

    >>> from attnlib.lab.machine import describe
    >>> sorted(describe())
    ['cores', 'cpu', 'memory_bytes', 'system', 'threads']
    """
    described = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
    if torch.device(device).type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, torch, NumPy and attnlib, and of the packages named.

    >>> from attnlib.lab.machine import versions
    >>> list(versions())
    ['python', 'torch', 'numpy', 'attnlib']
    """
    names = ("torch", "numpy", *packages, "attnlib")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def _cpu() -> str:
    """Return the processor's name, with the largest vector instructions that torch uses on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})"
