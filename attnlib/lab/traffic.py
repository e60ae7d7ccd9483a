"""Numbers that know where they lie: what a computation moves between a large slow memory and a small fast one.

A processor computes with what is in its fast memory only. What does not fit there waits in the slow one, and every
number that is fetched from it or put back costs time. Here both memories are simulated with NumPy: an array in the slow
memory can be indexed, which loads, and assigned to, which stores, and nothing else.
"""

from typing import Any

import numpy as np

__all__ = ["Chip", "OnChip", "Slow"]


class Chip:
    """A processor with a fast memory; it counts the numbers that go in and out.

    Attributes:
        loaded: how many numbers came from the slow memory.
        stored: how many went to it.
        held: how many are in the fast memory now, those between two steps included. A single number that NumPy gives
            back by itself, as the sum of a whole array, is not counted.
        most: the most that were ever held at once.

    >>> import numpy as np
    >>> from attnlib.lab.traffic import Chip
    >>> chip = Chip()
    >>> x, squares = chip.slow(np.arange(6.0)), chip.slow(np.empty(6))
    >>> for half in (slice(0, 3), slice(3, 6)):
    ...     squares[half] = x[half] ** 2
    >>> squares.numbers
    array([ 0.,  1.,  4.,  9., 16., 25.])
    >>> chip.loaded, chip.stored, chip.most
    (6, 6, 6)
    """

    def __init__(self, room: int | None = None) -> None:
        """Make an empty chip.

        Args:
            room: how many numbers its fast memory can hold. Default: as many as are wanted.
        """
        self.room = room
        self.loaded = self.stored = self.held = self.most = 0

    @property
    def traffic(self) -> int:
        """How many numbers moved, in either direction."""
        return self.loaded + self.stored

    def slow(self, numbers: np.ndarray) -> "Slow":
        """Return a copy of an array in the slow memory; that is where the computation starts, so it is not counted."""
        return Slow(self, np.array(numbers))

    def take(self, size: int) -> None:
        """Make room for ``size`` numbers.

        Raises:
            MemoryError: if the fast memory cannot hold them.
        """
        if self.room is not None and self.held + size > self.room:
            raise MemoryError(
                f"the fast memory has room for {self.room:,} numbers; {self.held:,} are there, {size:,} more are wanted"
            )
        self.held += size
        self.most = max(self.most, self.held)


class Slow:
    """An array in the slow memory: ``x[rows]`` loads a part of it, ``x[rows] = y`` stores one."""

    __array_ufunc__ = None  # NumPy refuses to compute with it

    def __init__(self, chip: Chip, numbers: np.ndarray) -> None:
        """Lay an array into the slow memory of a chip. See :meth:`Chip.slow`."""
        self.chip = chip
        self.numbers = numbers

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape; to look at it costs nothing."""
        return self.numbers.shape

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: Any) -> "OnChip":
        part = np.array(self.numbers[place])
        self.chip.loaded += part.size
        return OnChip(self.chip, part)

    def __setitem__(self, place: Any, part: np.ndarray) -> None:
        """Store a part.

        Raises:
            ValueError: if it has another shape than its place: what NumPy would repeat was not computed.
        """
        shape = self.numbers[place].shape
        if np.shape(part) != shape:
            raise ValueError(f"part: expected shape {shape}, got {np.shape(part)}")
        self.numbers[place] = part
        self.chip.stored += np.size(part)


class OnChip(np.ndarray):
    """An array in the fast memory. What is computed of it lies there, too, until nothing refers to it any more."""

    chip: Chip | None = None
    taken: int = 0

    def __new__(cls, chip: Chip, numbers: np.ndarray) -> "OnChip":
        """Return an array that takes room on a chip."""
        made = numbers.view(cls)  # calls __array_finalize__, which does not know the chip yet
        made.chip = chip
        made._take()
        return made

    def __array_finalize__(self, of: Any) -> None:
        """Take room for a result; a view of what is there already needs none."""
        self.chip = getattr(of, "chip", None)
        if not isinstance(self.base, OnChip):
            self._take()

    def _take(self) -> None:
        if self.chip is not None:
            self.chip.take(self.size)
            self.taken = self.size

    def __del__(self) -> None:
        if self.chip is not None:
            self.chip.held -= self.taken
