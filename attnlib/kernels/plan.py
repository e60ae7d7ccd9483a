"""How queries are cut into blocks, and which keys each block is computed with."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

from attnlib.kernels.runs import Runs, moves_along, runs_of, starts
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from attnlib.masks import Causal, Mask

__all__ = ["Block", "Tile", "plan"]


@dataclass(frozen=True)
class Tile:
    """What one call computes of a block: the keys from ``start`` up to ``stop``.

    Attributes:
        partial: the (start, stop, mask) of the runs among them that are not full. The mask decides there; None closes
            the run, which is computed only because it is short.
        is_triangle: whether the keys are as many as the block's queries, and the causal mask alone stands between them:
            torch's kernel then leaves out one half, and needs no mask.
    """

    start: int
    stop: int
    partial: tuple[tuple[int, int, Mask | None], ...] = ()
    is_triangle: bool = False


@dataclass(frozen=True)
class Block:
    """The queries from ``start`` up to ``stop``, and the tiles of the keys that they may attend to."""

    start: int
    stop: int
    tiles: tuple[Tile, ...]

    @property
    def pairs(self) -> int:
        """How many pairs of a query and a key are computed; of a triangle, how many are open."""
        L = self.stop - self.start
        return sum(L * (L + 1) // 2 if tile.is_triangle else L * (tile.stop - tile.start) for tile in self.tiles)


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
    >>> for block in plan(masks.prefix(100) | masks.causal(), 256, 256):
    ...     print(block)
    Block(start=0, stop=128, tiles=(Tile(start=0, stop=128, partial=((100, 128, Causal()),), is_triangle=False),))
    Block(start=128, stop=256, tiles=(Tile(start=0, stop=256, partial=((129, 256, Causal()),), is_triangle=False),))
    """
    if mask is None:
        return [Block(0, L, (Tile(0, S),))]
    shape = mask.shape(L, S)
    if len(shape) > 2 and shape[0] > 1:
        raise ValueError(f"mask: expected that of one example, got one of {shape[0]}")
    runs_of_queries, whole = runs_of(mask, L, S), mask

    def tiles(start: int, stop: int) -> tuple[Tile, ...]:
        runs = runs_of_queries(start, stop)
        if len(runs) > sizes.most_runs:
            return (Tile(0, S, ((0, S, whole),)),)
        return _with_triangle(_joined(runs, sizes), start + S - L, stop + S - L)

    cuts = [0, *sorted(cut for cut in starts(mask, L, S) if 0 < cut < L), L]
    alike = moves_along(mask)
    blocks: list[Block] = []
    start = 0
    while start < L:
        stop = _end_of_block(tiles, start, cuts, alike, sizes)
        blocks.append(Block(start, stop, tiles(start, stop)))
        start = stop
    return blocks


Tiles = Callable[[int, int], tuple[Tile, ...]]  # those of the queries from a start up to a stop


def _end_of_block(tiles: Tiles, start: int, cuts: list[int], alike: bool, sizes: Sizes) -> int:
    """Return where a block that begins at ``start`` should end: after some queries, or where the mask suggests."""
    next_jump = bisect_right(cuts, start)
    if cuts[next_jump] - start >= sizes.smallest and _needs_no_mask(tiles(start, cuts[next_jump])):
        # Padding, or a whole document: one call up to the jump, or to one further on.
        while next_jump + 1 < len(cuts) and _needs_no_mask(tiles(start, cuts[next_jump + 1])):
            next_jump += 1
        return cuts[next_jump]
    size = _size(tiles, start, cuts[-1], sizes) if alike else sizes.block
    while size < sizes.largest and _keys(tiles(start, min(start + size, cuts[-1]))) >= sizes.wide * size:
        size *= 2
    end = min(start + size, cuts[-1])
    next_jump = bisect_right(cuts, end)
    if next_jump < len(cuts) and cuts[next_jump] - end < sizes.smallest:
        return cuts[next_jump]  # rather than leave a rest that is too small for a block of its own
    last_jump = cuts[next_jump - 1]
    return last_jump if last_jump - start >= sizes.smallest else end


def _needs_no_mask(tiles: tuple[Tile, ...]) -> bool:
    return all(tile.is_triangle or not tile.partial for tile in tiles)


def _size(tiles: Tiles, start: int, L: int, sizes: Sizes) -> int:
    """Return the size of a block: a smaller one where the next one is alike, so that they can share a call."""
    middle, end = start + sizes.alike, start + 2 * sizes.alike
    if end > L or _keys(tiles(start, middle)) != _keys(tiles(middle, end)):
        return sizes.block
    return sizes.alike


def _keys(tiles: tuple[Tile, ...]) -> int:
    return sum(tile.stop - tile.start for tile in tiles)


def _joined(runs: Runs, sizes: Sizes) -> list[Tile]:
    """Join neighbouring runs that are full, or partial, to what is computed in one call."""
    tiles: list[Tile] = []
    start = 0
    for stop, left in runs:
        if left is not False:
            _add(tiles, Tile(start, stop, () if left is True else ((start, stop, left),)), sizes)
        start = stop
    return tiles


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


def _with_triangle(tiles: list[Tile], first: int, stop: int) -> tuple[Tile, ...]:
    """Find the triangle at the diagonal of a block whose queries stand at the keys from ``first`` up to ``stop``.

    The first query sees its own key, so that the causal mask decides from the next one on: a long full run before it
    gives that key back.
    """
    last = tiles[-1] if tiles else None
    if last is None or last.stop != stop or [type(mask) for *_, mask in last.partial] != [Causal]:
        return tuple(tiles)
    if last.partial[0][:2] != (first + 1, stop):
        return tuple(tiles)
    if last.start == first:
        return (*tiles[:-1], replace(last, is_triangle=True))
    before = tiles[-2] if len(tiles) > 1 else None
    if last.start == first + 1 and before is not None and before.stop == first + 1 and not before.partial:
        before_it = (replace(before, stop=first),) if before.start < first else ()
        return (*tiles[:-2], *before_it, replace(last, start=first, is_triangle=True))
    return tuple(tiles)
