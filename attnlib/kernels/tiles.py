"""What each call of the blockwise kernel computes, and how its results go back to where they belong.

A :class:`Share` is the work of one example, or of all that have one mask. It yields :class:`Group`: a block of queries,
or several neighbours that look alike, with one call for each of their tiles.
"""

import math
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from attnlib.kernels.plan import Block, Tile, plan
from attnlib.kernels.runs import moves_along, of_example
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from attnlib.masks import Span
from attnlib.scores import Scores, side_by_side

__all__ = ["Group", "Output", "Share", "shares"]


def shares(scores: Scores, dtype: torch.dtype = torch.float32, sizes: Sizes = ON_A_CPU) -> list["Share"]:
    """Return the work on ``scores`` (B, H, L, S): one share, or one for each example with its own mask.

    Args:
        scores: with four axes.
        dtype: that of what is added to the scores.
        sizes: how the queries are cut.
    """
    batch, _, L, S = scores.shape
    mask = scores.mask
    if mask is None or len(shape := mask.shape(L, S)) < 3 or shape[0] == 1:
        return [Share(slice(0, batch), scores, dtype, sizes)]
    own = ((b, scores.of_example(b, of_example(mask, b))) for b in range(batch))
    return [Share(slice(b, b + 1), of_one, dtype, sizes) for b, of_one in own]


class Share:
    """The work of one example of a batch, or of all examples where they share a mask.

    Attributes:
        examples: which of the batch.
        scores: theirs, with four axes.
        blocks: of queries, as planned.
    """

    def __init__(self, examples: slice, scores: Scores, dtype: torch.dtype, sizes: Sizes):
        self.examples, self.scores, self.sizes = examples, scores, sizes
        self.blocks = plan(scores.mask, scores.shape[-2], scores.shape[-1], sizes)
        self._zero, self._closed = (
            torch.tensor(number, dtype=dtype, device=scores.device) for number in (0.0, -math.inf)
        )

    def groups(self) -> Iterator["Group"]:
        """Yield the blocks in their order; with one example, neighbours of one layout in one group."""
        one_example = self.examples.stop - self.examples.start == 1
        additive_masks: dict[tuple, list[Tensor | None]] = {}
        for layout, neighbours in groupby(self.blocks, self._layout):
            blocks = list(neighbours)
            if layout not in additive_masks:
                additive_masks = {} if layout.place is not None else additive_masks  # what is of no use again goes
                additive_masks[layout] = [self._additive_mask(blocks[0], tile) for tile in blocks[0].tiles]
            together = self.sizes.together if one_example else 1
            for first in range(0, len(blocks), together):
                count = min(together, len(blocks) - first)
                yield Group(self.examples, blocks[first], count, additive_masks[layout])

    def rows(self) -> Iterator[tuple[tuple, list[tuple], Scores]]:
        """Yield, for a few queries at a time, where they are, where each tile's keys are, and their scores."""
        for block in self.blocks:
            masked = any(tile.partial for tile in block.tiles)
            scores = self.scores if masked else self.scores._replace(mask=None)
            spans = [(tile.start, tile.stop) for tile in block.tiles]
            keys = [(self.examples, slice(None), slice(*span)) for span in spans]
            for start in range(block.start, block.stop, self.sizes.rows):
                rows = start, min(start + self.sizes.rows, block.stop)
                yield (self.examples, slice(None), slice(*rows)), keys, scores.among(spans, self._zero.dtype, rows)

    def _additive_mask(self, block: Block, tile: Tile) -> Tensor | None:
        """Return what is added to the scores of a tile, −∞ where a pair is closed; None if nothing is."""
        rows = (block.start, block.stop)
        bias = self.scores.bias_among(self._zero.dtype, rows, (tile.start, tile.stop))
        mask = self._closed_pairs(rows, tile) if tile.partial else None
        if bias is None:
            return mask
        bias = bias.to(self._zero.dtype).expand(*bias.shape[:-2], rows[1] - rows[0], tile.stop - tile.start)
        return bias.contiguous() if mask is None else torch.where(mask == -math.inf, mask, bias)

    def _closed_pairs(self, rows: Span, tile: Tile) -> Tensor:
        """Return 0 where a query may attend to a key of the tile, and −∞ where not."""
        parts, end, count = [], tile.start, rows[1] - rows[0]
        for start, stop, mask in (*tile.partial, (tile.stop, tile.stop, None)):
            parts.append(self._zero.expand(1, 1, count, start - end))
            if mask is None:
                parts.append(self._closed.expand(1, 1, count, stop - start))
            else:
                allowed = self.scores._replace(mask=mask).allowed(rows, (start, stop))
                part = torch.where(allowed, self._zero, self._closed)
                parts.append(part.expand(*part.shape[:2], count, stop - start))
            end = stop
        return side_by_side([part for part in parts if part.shape[-1]])

    def _layout(self, block: Block) -> "_Layout":
        start = block.start
        partial = [run for tile in block.tiles for run in tile.partial]
        alike = not isinstance(self.scores.bias, Tensor) and all(
            mask is None or moves_along(mask) for _, _, mask in partial
        )
        tiles: list[tuple] = [(tile.start - start, tile.stop - start) for tile in block.tiles]
        if alike:
            tiles += [(first - start, last - start, repr(mask)) for first, last, mask in partial]
        return _Layout(block.stop - start, tuple(tiles), None if alike else start)


class _Layout(NamedTuple):
    """How a block looks from its first query: blocks of one layout differ by a step along the diagonal alone."""

    queries: int
    tiles: tuple
    place: int | None  # the block's own, where more than the distance counts


class Group(NamedTuple):
    """A block of all examples, or ``alike`` blocks of a single example that look alike: each tile is one call.

    Attributes:
        examples: which of the batch.
        block: the first of the blocks.
        alike: how many there are; each begins where the one before it ends.
        additive_masks: what is added to the scores of each tile, or None.
    """

    examples: slice
    block: Block
    alike: int
    additive_masks: list[Tensor | None]

    def of(self, x: Tensor, part: Block | Tile) -> Tensor:
        """Return the rows of ``part`` of ``x`` (B, H, L, …): (B|alike, H, rows, …), without a copy."""
        if self.alike == 1:
            return x[self.examples, :, part.start : part.stop]
        return _along_the_diagonal(x[self.examples.start], part.start, part.stop, self._step, self.alike)

    def add(self, total: Tensor, part: Block | Tile, grad: Tensor) -> None:
        """Add ``grad`` to the rows of ``part`` of ``total``."""
        if self.alike == 1:
            total[self.examples, :, part.start : part.stop] += grad
            return
        # Rows of neighbours overlap. Those of every ``apart``-th block do not, and can be added in one go.
        apart = math.ceil((part.stop - part.start) / self._step)
        for first in range(min(apart, self.alike)):
            some, further = grad[first::apart], first * self._step
            rows = part.start + further, part.stop + further
            _along_the_diagonal(total[self.examples.start], *rows, apart * self._step, len(some)).add_(some)

    def in_rows(self, result: Tensor) -> Tensor:
        """(B, H, rows, …) → (B, rows, H, …); (alike, H, rows, …) → (1, alike · rows, H, …)."""
        result = result.transpose(1, 2)
        return result if self.alike == 1 else result.flatten(0, 1).unsqueeze(0)

    @property
    def _step(self) -> int:
        return self.block.stop - self.block.start


def _along_the_diagonal(x: Tensor, start: int, stop: int, step: int, count: int) -> Tensor:
    """(H, L, …) → (count, H, stop − start, …): the rows from ``start`` up to ``stop``, then those a step further on."""
    shape = count, x.shape[0], stop - start, *x.shape[2:]
    return x.as_strided(shape, (step * x.stride(1), *x.stride()), x.storage_offset() + start * x.stride(1))


class Output:
    """Results (B, rows, H, …) of blocks of queries, to be joined to (B, H, L, …).

    In this order torch's kernel leaves them in memory, and a module reads them.
    """

    def __init__(self) -> None:
        self._of_examples: dict[int, list[Tensor]] = {}

    def append(self, examples: slice, result: Tensor) -> None:
        """Add what the next queries of some examples got."""
        self._of_examples.setdefault(examples.start, []).append(result)

    def joined(self) -> Tensor:
        """Return what all queries got."""
        each = [rows[0] if len(rows) == 1 else torch.cat(rows, dim=1) for rows in self._of_examples.values()]
        return (each[0] if len(each) == 1 else torch.cat(each)).transpose(1, 2)
