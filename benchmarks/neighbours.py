"""What else went on on the machine while something was timed."""

import os
import time
from pathlib import Path


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
