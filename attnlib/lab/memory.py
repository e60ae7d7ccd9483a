"""How much memory a computation needs at its worst moment, counted in bytes instead of sampled."""

import gc
import os
from collections.abc import Callable, Iterator

import torch

# The profiler writes a line to standard error at each start and stop, also into notebooks. Read once, when it loads.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def peak_memory(function: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the bytes that torch's allocator held above the start at the highest point while ``function`` ran.

    What ``function`` returns counts too. The number is the same each time: on a CPU every allocation and release is
    recorded by torch's profiler, on a GPU by the allocator itself, in its blocks of 512 bytes. On a CPU, memory that
    was held before and is given back while it runs is not taken off; and what a first call keeps for later ones
    counts, so call once before. Not for timing: recording is slow.

    Args:
        function: what to measure, without arguments.
        device: where it allocates, a CPU or a CUDA GPU.

    Raises:
        ValueError: if ``device`` is neither.

    >>> import torch
    >>> from attnlib.lab.memory import peak_memory
    >>> def two_then_one():
    ...     first = torch.empty(1000, dtype=torch.float32)  # 4000 bytes
    ...     second = torch.empty(500, dtype=torch.float32)  # 2000 more
    ...     del first
    ...     return torch.empty(250), second  # 1000 more, in place of 4000
    >>> peak_memory(two_then_one)
    6000
    """
    device = torch.device(device)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected a CPU or a CUDA GPU, got {device}")
    # Cycles that the collector happens to find while function runs would make the number differ from run to run.
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        return _cuda_peak(function, device) if device.type == "cuda" else _cpu_peak(function)
    finally:
        if enabled:
            gc.enable()


def _cpu_peak(function: Callable[[], object]) -> int:
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=False
    ) as profile:
        kept = function()
    del kept
    # The tree of events, because only its nodes have addresses: a block that was there before may be released, too.
    changes = sorted(_memory_changes(profile.profiler.kineto_results.experimental_event_tree()))
    sizes: dict[int, int] = {}
    held = peak = 0
    for _, address, size in changes:
        if size > 0:
            sizes[address] = size
            held += size
            peak = max(peak, held)
        else:
            held -= sizes.pop(address, 0)
    return peak


def _memory_changes(nodes: list) -> Iterator[tuple[int, int, int]]:
    """Yield the time, the address and the size, below 0 for a release, of each change of memory on the CPU."""
    nodes = list(nodes)
    while nodes:  # no recursion: a backward pass is as deep as the computation is long
        node = nodes.pop()
        nodes.extend(node.children)
        if node.tag == torch._C._profiler._EventType.Allocation and node.extra_fields.device.type == "cpu":
            yield node.start_time_ns, node.extra_fields.ptr, node.extra_fields.alloc_size


def _cuda_peak(function: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    kept = function()
    torch.cuda.synchronize(device)
    del kept
    return torch.cuda.max_memory_allocated(device) - before
