"""How queries are cut into blocks, and which keys each block is computed with."""

from bisect import bisect_right
from dataclasses import dataclass

from attnlib.masks import Mask
from attnlib.spans import Runs

__all__ = ["Block", "Piece", "plan"]

# Measured on two cores. Smaller blocks follow a mask more closely, larger ones keep the processor busier.
BLOCK = 128  # queries
ALIKE = 64  # queries of blocks that are alike, as under a window: they share a call, which may be larger
WIDE = 8  # times as many keys as queries are worth a larger block
LARGEST = 512  # queries
SMALLEST = 32  # queries of a block that ends early, where the mask jumps
LONG = 1024  # an open run of so many keys is worth a call of its own, without a mask
GAP = 64  # fewer closed keys between two runs are computed under the mask
MOST_RUNS = 64  # of a block; more are not worth telling apart


@dataclass(frozen=True)
class Piece:
    """The keys from ``start`` up to ``stop``, and the (start, stop, mask) of the runs among them that are not all open.

    The mask decides there; None closes the run, which is computed only because it is short.
    """

    start: int
    stop: int
    partly_open: tuple[tuple[int, int, Mask | None], ...] = ()


@dataclass(frozen=True)
class Block:
    """The queries from ``start`` up to ``stop``, and the pieces of the keys that they may attend to."""

    start: int
    stop: int
    pieces: tuple[Piece, ...]

    @property
    def pairs(self) -> int:
        """How many pairs of a query and a key are computed."""
        return (self.stop - self.start) * sum(piece.stop - piece.start for piece in self.pieces)


def plan(mask: Mask | None, L: int, S: int) -> list[Block]:
    """Return the blocks of L queries, with the pieces of S keys that each must be computed with.

    Parameters
    ----------
    mask: that of one example, or of all alike.

    Raises
    ------
    ValueError: if the mask differs between examples, or was made for other sizes.

    >>> from attnlib import masks
    >>> for block in plan(masks.causal(), 256, 256):
    ...     print(block)
    Block(start=0, stop=128, pieces=(Piece(start=0, stop=128, partly_open=((1, 128, Causal()),)),))
    Block(start=128, stop=256, pieces=(Piece(start=0, stop=256, partly_open=((129, 256, Causal()),)),))
    """
    if mask is None:
        return [Block(0, L, (Piece(0, S),))]
    shape = mask.shape(L, S)
    if len(shape) > 2 and shape[0] > 1:
        raise ValueError(f"mask: expected that of one example, got one of {shape[0]}")
    spans = mask._spans(L, S)

    def runs_of(start: int, stop: int) -> Runs:
        runs = spans(start, stop)
        return runs if len(runs) <= MOST_RUNS else [(S, mask)]

    cuts = [0, *sorted(cut for cut in mask._cuts(L, S) if 0 < cut < L), L]
    blocks: list[Block] = []
    start = 0
    while start < L:
        stop = _end_of_block(runs_of, start, cuts, _size(runs_of, start, L) if mask._by_distance else BLOCK)
        blocks.append(Block(start, stop, _pieces(runs_of(start, stop))))
        start = stop
    return blocks


def _end_of_block(runs_of, start: int, cuts: list[int], size: int) -> int:
    """Return where a block that begins at ``start`` should end: after ``size`` queries, or where the mask suggests."""
    jump = cuts[bisect_right(cuts, start)]
    if jump - start >= SMALLEST and not any(piece.partly_open for piece in _pieces(runs_of(start, jump))):
        return jump  # padding, or a whole document: no mask is needed up to the next jump
    while size < LARGEST and _keys(runs_of(start, min(start + size, cuts[-1]))) >= WIDE * size:
        size *= 2
    end = min(start + size, cuts[-1])
    next_jump = bisect_right(cuts, end)
    if next_jump < len(cuts) and cuts[next_jump] - end < SMALLEST:
        return cuts[next_jump]  # rather than leave a rest that is too small for a block of its own
    last_jump = cuts[next_jump - 1]
    return last_jump if last_jump - start >= SMALLEST else end


def _size(runs_of, start: int, L: int) -> int:
    """Return the size of a block: a smaller one where the next one is alike, so that they can share a call."""
    middle, end = start + ALIKE, start + 2 * ALIKE
    alike = end <= L and _keys(runs_of(start, middle)) == _keys(runs_of(middle, end))
    return ALIKE if alike else BLOCK


def _keys(runs) -> int:
    return sum(piece.stop - piece.start for piece in _pieces(runs))


def _pieces(runs) -> tuple[Piece, ...]:
    """Join neighbouring runs that are open, or partly open, to what is computed in one call."""
    pieces: list[Piece] = []
    start = 0
    for stop, rest in runs:
        if rest is not False:
            _add(pieces, Piece(start, stop, () if rest is True else ((start, stop, rest),)))
        start = stop
    return tuple(pieces)


def _add(pieces: list[Piece], new: Piece) -> None:
    """Add a piece, as part of the last one where that is near, unless one of them is better off without a mask."""
    if pieces:
        last = pieces[-1]
        gap = new.start - last.stop
        alone = (last.partly_open != new.partly_open or gap) and any(
            not piece.partly_open and piece.stop - piece.start >= LONG for piece in (last, new)
        )
        if gap < GAP and not alone:
            closed = ((last.stop, new.start, None),) if gap else ()
            pieces[-1] = Piece(last.start, new.stop, (*last.partly_open, *closed, *new.partly_open))
            return
    pieces.append(new)
