"""How queries are cut into blocks, and which keys each block is computed with."""

from bisect import bisect_right
from dataclasses import dataclass

from attnlib.kernels.runs import Runs, RunsOfQueries, moves_along, runs_of, starts
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from attnlib.masks import Mask

__all__ = ["Block", "Tile", "plan"]


@dataclass(frozen=True)
class Tile:
    """What one call computes of a block: the keys from ``start`` up to ``stop``.

    Attributes:
        partial: the (start, stop, mask) of the runs among them that are not full. The mask decides there; None closes
            the run, which is computed only because it is short.
    """

    start: int
    stop: int
    partial: tuple[tuple[int, int, Mask | None], ...] = ()


@dataclass(frozen=True)
class Block:
    """The queries from ``start`` up to ``stop``, and the tiles of the keys that they may attend to."""

    start: int
    stop: int
    tiles: tuple[Tile, ...]

    @property
    def pairs(self) -> int:
        """How many pairs of a query and a key are computed."""
        return (self.stop - self.start) * _keys(self.tiles)


def plan(mask: Mask | None, L: int, S: int, sizes: Sizes = ON_A_CPU) -> list[Block]:
    """Return the blocks of L queries, with the tiles of S keys that each must be computed with.

    Args:
        mask: that of one example, or of all alike.
        L: the number of queries.
        S: the number of keys.
        sizes: how large a block is, and what is worth a tile of its own.

    Raises:
        ValueError: if the mask differs between examples, or was made for other sizes.

    >>> from attnlib import masks
    >>> from attnlib.kernels.plan import plan
    >>> for block in plan(masks.causal(), 256, 256):
    ...     print(block)
    Block(start=0, stop=128, tiles=(Tile(start=0, stop=128, partial=((1, 128, Causal()),)),))
    Block(start=128, stop=256, tiles=(Tile(start=0, stop=256, partial=((129, 256, Causal()),)),))
    """
    if mask is None:
        return [Block(0, L, (Tile(0, S),))]
    shape = mask.shape(L, S)
    if len(shape) > 2 and shape[0] > 1:
        raise ValueError(f"mask: expected that of one example, got one of {shape[0]}")
    found = runs_of(mask, L, S)

    def runs(start: int, stop: int) -> Runs:
        some = found(start, stop)
        return some if len(some) <= sizes.most_runs else [(S, mask)]

    cuts = [0, *sorted(cut for cut in starts(mask, L, S) if 0 < cut < L), L]
    alike = moves_along(mask)
    blocks: list[Block] = []
    start = 0
    while start < L:
        size = _size(runs, start, L, sizes) if alike else sizes.block
        stop = _end_of_block(runs, start, cuts, size, sizes)
        blocks.append(Block(start, stop, _tiles(runs(start, stop), sizes)))
        start = stop
    return blocks


def _end_of_block(runs: RunsOfQueries, start: int, cuts: list[int], size: int, sizes: Sizes) -> int:
    """Return where a block that begins at ``start`` should end: after ``size`` queries, or where the mask suggests."""
    jump = cuts[bisect_right(cuts, start)]
    if jump - start >= sizes.smallest and not any(tile.partial for tile in _tiles(runs(start, jump), sizes)):
        return jump  # padding, or a whole document: no mask is needed up to the next jump
    while size < sizes.largest:
        if _keys(_tiles(runs(start, min(start + size, cuts[-1])), sizes)) < sizes.wide * size:
            break
        size *= 2
    end = min(start + size, cuts[-1])
    next_jump = bisect_right(cuts, end)
    if next_jump < len(cuts) and cuts[next_jump] - end < sizes.smallest:
        return cuts[next_jump]  # rather than leave a rest that is too small for a block of its own
    last_jump = cuts[next_jump - 1]
    return last_jump if last_jump - start >= sizes.smallest else end


def _size(runs: RunsOfQueries, start: int, L: int, sizes: Sizes) -> int:
    """Return the size of a block: a smaller one where the next one is alike, so that they can share a call."""
    middle, end = start + sizes.alike, start + 2 * sizes.alike
    if end > L or _keys(_tiles(runs(start, middle), sizes)) != _keys(_tiles(runs(middle, end), sizes)):
        return sizes.block
    return sizes.alike


def _keys(tiles: tuple[Tile, ...]) -> int:
    return sum(tile.stop - tile.start for tile in tiles)


def _tiles(runs: Runs, sizes: Sizes) -> tuple[Tile, ...]:
    """Join neighbouring runs that are full, or partial, to what is computed in one call."""
    tiles: list[Tile] = []
    start = 0
    for stop, left in runs:
        if left is not False:
            _add(tiles, Tile(start, stop, () if left is True else ((start, stop, left),)), sizes)
        start = stop
    return tuple(tiles)


def _add(tiles: list[Tile], new: Tile, sizes: Sizes) -> None:
    """Add a tile, as part of the last one where that is near, unless one of them is better off without a mask."""
    if tiles:
        last = tiles[-1]
        gap = new.start - last.stop
        alone = (last.partial != new.partial or gap) and any(
            not tile.partial and tile.stop - tile.start >= sizes.long for tile in (last, new)
        )
        if gap < sizes.gap and not alone:
            closed = ((last.stop, new.start, None),) if gap else ()
            tiles[-1] = Tile(last.start, new.stop, (*last.partial, *closed, *new.partial))
            return
    tiles.append(new)
