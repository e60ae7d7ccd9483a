"""One case: equality first, then memory, then time."""

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from attnlib.lab.memory import peak_memory
from benchmarks.cases import Case, dtype_name
from benchmarks.contenders import OURS, Contender, Unavailable
from benchmarks.neighbours import Neighbours
from benchmarks.timing import Budget, Stopwatch, interleave, ratios, summary

# The largest difference that is still equal, relative to the largest number.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


class Unequal(Exception):
    """Two contenders do not compute the same, so that their times mean nothing."""


def measure(case: Case, device: torch.device, budget: Budget) -> dict:
    """Measure a case and return what was found, as it is stored.

    A contender that cannot run here is named with the reason. Seconds are those of one call.

    Raises
    ------
    Unequal: if a contender's output, or in training a gradient, differs from attnlib's.
    """
    problem = case.problem(**case.sizes, dtype=case.dtype, device=device, training=case.training)
    with torch.inference_mode(not case.training), memory_limit() if device.type == "cpu" else nullcontext():
        contenders, missing = equal_contenders(case, problem)
        peaks = {name: _peak(contender, device) for name, contender in contenders.items()}
        finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        watches = [Stopwatch(contender.run, contender.prepare, finish) for contender in contenders.values()]
        if len(watches) == 1:  # nobody to be compared with: one round will do
            budget = replace(budget, least=1)
        neighbours = Neighbours()
        samples = dict(zip(contenders, interleave(watches, budget), strict=True)) if watches else {}
        others = neighbours.share()
    return {
        "key": case.key,
        "section": case.section,
        "row": case.row,
        "title": case.title,
        "sizes": case.sizes,
        "dtype": dtype_name(case.dtype),
        "mode": case.mode,
        "rounds": len(samples.get(OURS, [])),
        "neighbours": others,
        "contenders": {
            name: {"seconds": summary(samples[name]), "peak_bytes": peaks[name], "note": contender.note}
            for name, contender in contenders.items()
        },
        "missing": missing,
        "against": against(samples, case.targets if device.type == "cpu" else {}, missing),
        "memory": None if case.most_bytes is None else _memory_row(peaks.get(OURS), case.most_bytes),
    }


def against(samples: dict[str, list[float]], targets: dict[str, float], missing: dict[str, str]) -> dict[str, dict]:
    """Return for each other contender the ratios of attnlib's times to its times, and whether the target is reached.

    ``reached`` is None where there is no target, or nobody to be compared with; a target that attnlib itself could not
    run for is missed.
    """
    found = {}
    for name in dict.fromkeys([*samples, *missing, *targets]):
        if name == OURS:
            continue
        both = OURS in samples and name in samples
        ratio = summary(ratios(samples[OURS], samples[name])) if both else None
        target = targets.get(name)
        reached = None
        if target is not None and name not in missing:
            reached = ratio is not None and ratio["median"] <= target
        found[name] = {"ratio": ratio, "target": target, "reached": reached}
    return found


def equal_contenders(case: Case, problem: object) -> tuple[dict[str, Contender], dict[str, str]]:
    """Build all contenders and run each once; return those that run, and why the others do not.

    Raises
    ------
    Unequal: if what one of them returns differs from what attnlib returns.
    """
    contenders, missing, wanted = {}, {}, None
    for name, build in case.contenders.items():
        try:
            contender = build(problem)
            contender.prepare()
            found = contender.run()
        except Unavailable as reason:
            missing[name] = str(reason)
            continue
        except (RuntimeError, MemoryError) as error:
            if "memory" not in str(error):
                raise
            missing[name] = "needs more memory than this machine has"
            continue
        if wanted is None:
            wanted = found
        check_equal(case.key, name, found, wanted, TOLERANCES[case.dtype])
        contenders[name] = contender
    return contenders, missing


def check_equal(case: str, name: str, found: tuple[Tensor, ...], wanted: tuple[Tensor, ...], tolerance: float) -> None:
    """Hold that a contender found what attnlib found: the output, then in training the gradients of the inputs.

    Raises
    ------
    Unequal: naming the case, the contender and the largest difference.
    """
    if [x.shape for x in found] != [x.shape for x in wanted]:
        shapes = [[tuple(x.shape) for x in xs] for xs in (found, wanted)]
        raise Unequal(f"{case}: {name} returns shapes {shapes[0]}, {OURS} {shapes[1]}")
    for place, (x, y) in enumerate(zip(found, wanted, strict=True)):
        difference = ((x.float() - y.float()).abs().max() / y.float().abs().max()).item()
        if not difference <= tolerance:  # NaN is not equal, either
            what = "output" if place == 0 else f"result {place}"
            raise Unequal(
                f"{case}: {name} differs from {OURS}: {what} by {difference:.1e} of its largest number, "
                f"more than {tolerance:.0e}"
            )


def _peak(contender: Contender, device: torch.device) -> int:
    contender.prepare()
    return peak_memory(contender.run, device)


def _memory_row(peak: int | None, most: int) -> dict:
    return {"peak_bytes": peak, "target_bytes": most, "reached": peak is not None and peak <= most}


@contextmanager
def memory_limit() -> Iterator[None]:
    """Make an allocation fail that this machine has no memory for, instead of letting the system end the process."""
    if not Path("/proc/meminfo").exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    free = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text("utf-8"))
    used = int(Path("/proc/self/statm").read_text("utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(free[1]) * 1024 * 9 // 10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
