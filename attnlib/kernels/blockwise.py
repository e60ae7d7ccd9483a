"""Only the pairs that a mask leaves open: for each block of queries, the runs of keys that it may attend to.

The queries are cut into blocks (:mod:`attnlib.kernels.plan`). A mask says of each block which runs of keys are wholly
open, partly open, or closed. Closed runs are skipped, long open ones need no mask, and partly open ones get a mask of
their own size. So time and memory follow what is open, and no L × S array is ever made::

    causal and a window         what is computed for the second block of queries

      k 0 1 2 3 4 5               k 1 2 3 4 5
    q 0 ■ · · · · ·
      1 ■ ■ · · · ·
      2 ■ ■ ■ · · ·
      3 · ■ ■ ■ · ·             q 3 ▨ ▨ ■ ▨ ▨   ■ open to all three queries
      4 · · ■ ■ ■ ·               4 ▨ ▨ ■ ▨ ▨   ▨ open to some of them: a mask decides
      5 · · · ■ ■ ■               5 ▨ ▨ ■ ▨ ▨

Each piece is computed by torch's kernel for CPUs, which also gives the log-sum-exp; pieces of one block are joined by
:func:`attnlib.kernels.online.merge`. On the way back that kernel gets the joined output and log-sum-exp, and so returns
each piece's exact part of the gradient, as between the devices of ring attention (Liu et al., 2024).
"""

import math
from collections.abc import Iterator
from itertools import chain, groupby
from typing import NamedTuple

import torch
from torch import Tensor

from attnlib import masks
from attnlib.checks import autocast_is_on
from attnlib.kernels import explicit, fused, online
from attnlib.kernels.plan import Block, Piece, plan
from attnlib.masks import Mask

__all__ = ["attend", "parts"]

ROWS = 128  # queries whose weights are held at a time, where weights are dropped
TOGETHER = 32  # blocks that share a call, at most: their parts of the gradient are held at a time


def attend(query, key, value, mask, bias, scale, dropout_p) -> tuple[Tensor, None]:
    """Return the output (…, H, L, d_v); there are no weights to return. ``mask`` is a Mask or None, ``bias`` None."""
    batch, d_v, dtype = query.shape[:-3], value.shape[-1], _dtype_of_output(query)
    # Half precision is widened, so that what is summed over blocks is rounded once; measured, about as fast.
    tensors = [fused.rows_together(fused.four_axes(x)) for x in (query, key, value)]
    tensors = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]
    work = parts(mask, tensors[0], key.shape[-2])
    if dropout_p:
        output = _Replayed.apply(*tensors, work, scale, dropout_p)
    else:
        if query.shape[-1] != d_v:
            tensors = fused.of_one_width(*tensors)
        output = _Tiled.apply(*tensors, work, scale)[..., :d_v]
    output = output.to(dtype)
    return output.reshape(*batch, *output.shape[1:]) if query.dim() > 2 else output[0, 0], None


def _dtype_of_output(query: Tensor) -> torch.dtype:
    """Return the dtype that torch's own function would return: autocast narrows all but float64."""
    narrowed = autocast_is_on("cpu") and query.dtype != torch.float64
    return torch.get_autocast_dtype("cpu") if narrowed else query.dtype


def parts(mask: Mask | None, query: Tensor, S: int) -> list["_Part"]:
    """Return the work of ``query`` (B, H, L, d_k) on S keys: one part, or one for each example with its own mask."""
    batch, L = query.shape[0], query.shape[-2]
    if mask is None or len(shape := mask.shape(L, S)) < 3 or shape[0] == 1:
        return [_Part(slice(0, batch), mask, query, S)]
    return [_Part(slice(b, b + 1), mask._example(b), query, S) for b in range(batch)]


class _Part:
    """The work of one example of a batch, or of all examples where they share a mask."""

    def __init__(self, examples: slice, mask: Mask | None, query: Tensor, S: int):
        self.examples, self.mask = examples, mask
        self.blocks = plan(mask, query.shape[-2], S)
        self.scores_shape = (examples.stop - examples.start, *query.shape[1:3], S)
        self.device, self.dtype = query.device, query.dtype

    def tiles(self) -> Iterator["_Tile"]:
        """Yield the blocks in their order. With one example, neighbours of one layout share a tile."""
        one_example = self.examples.stop - self.examples.start == 1
        shifts: dict[tuple, list[Tensor | None]] = {}
        for layout, neighbours in groupby(self.blocks, _layout):
            blocks = list(neighbours)
            if layout not in shifts:
                shifts = {} if layout.place is not None else shifts  # what is of no use again is not kept
                shifts[layout] = [self.shift(blocks[0], piece) for piece in blocks[0].pieces]
            together = TOGETHER if one_example else 1
            for first in range(0, len(blocks), together):
                count = min(together, len(blocks) - first)
                yield _Tile(self.examples, blocks[first], count, shifts[layout])

    def rows(self) -> Iterator:
        """Yield, for a few queries at a time, (where they are, [where their keys are], who may attend, or None)."""
        for block in self.blocks:
            keys = [(self.examples, slice(None), slice(piece.start, piece.stop)) for piece in block.pieces]
            masked = any(piece.partly_open for piece in block.pieces)
            for start in range(block.start, block.stop, ROWS):
                rows = start, min(start + ROWS, block.stop)
                tiles = [self.allowed(self.mask, rows, (piece.start, piece.stop)) for piece in block.pieces if masked]
                allowed = _side_by_side(tiles) if tiles else None
                yield (self.examples, slice(None), slice(*rows)), keys, allowed

    def shift(self, block: Block, piece: Piece) -> Tensor | None:
        """Return 0 where a query of the block may attend to a key of the piece, and −∞ where not; None if all may."""
        if not piece.partly_open:
            return None
        zero, closed = (torch.tensor(number, dtype=self.dtype, device=self.device) for number in (0.0, -math.inf))
        parts, end = [], piece.start
        rows = (block.start, block.stop)
        for start, stop, mask in (*piece.partly_open, (piece.stop, piece.stop, None)):
            parts.append(zero.expand(1, 1, block.stop - block.start, start - end))
            if mask is None:
                parts.append(closed.expand(1, 1, block.stop - block.start, stop - start))
            else:
                parts.append(torch.where(self.allowed(mask, rows, (start, stop)), zero, closed))
            end = stop
        return _side_by_side(parts)

    def allowed(self, mask: Mask, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """Return who may attend to whom, (B|1, H|1, rows, columns)."""
        allowed = masks.for_scores(mask, self.scores_shape, self.device, rows, columns)
        return allowed.expand(*allowed.shape[:-2], rows[1] - rows[0], columns[1] - columns[0])


class _Layout(NamedTuple):
    """How a block looks from its first query: blocks of one layout differ by a step along the diagonal alone."""

    queries: int
    pieces: tuple
    place: int | None  # the block's own, where a mask looks at more than the distance


def _layout(block: Block) -> _Layout:
    start = block.start
    partly_open = [run for piece in block.pieces for run in piece.partly_open]
    by_distance = all(mask is None or mask._by_distance for _, _, mask in partly_open)
    pieces = [(piece.start - start, piece.stop - start) for piece in block.pieces]
    if by_distance:
        pieces += [(first - start, last - start, repr(mask)) for first, last, mask in partly_open]
    return _Layout(block.stop - start, tuple(pieces), None if by_distance else start)


class _Tile(NamedTuple):
    """What one call for each piece computes: a block of all examples, or ``count`` alike ones of a single example."""

    examples: slice
    block: Block  # the first
    count: int
    shifts: list[Tensor | None]  # what is added to the scores of each piece

    def of(self, x: Tensor, part: Block | Piece) -> Tensor:
        """Return the rows of ``part`` of ``x`` (B, H, L, …): (B|count, H, rows, …), without a copy."""
        if self.count == 1:
            return x[self.examples, :, part.start : part.stop]
        return _along_the_diagonal(x[self.examples.start], part.start, part.stop, self._step, self.count)

    def add(self, total: Tensor, part: Block | Piece, grad: Tensor) -> None:
        """Add ``grad`` to the rows of ``part`` of ``total``."""
        if self.count == 1:
            total[self.examples, :, part.start : part.stop] += grad
            return
        # Rows of neighbours overlap. Those of every ``apart``-th block do not, and can be added in one go.
        apart = math.ceil((part.stop - part.start) / self._step)
        for first in range(min(apart, self.count)):
            some, shift = grad[first::apart], first * self._step
            bounds = part.start + shift, part.stop + shift
            _along_the_diagonal(total[self.examples.start], *bounds, apart * self._step, len(some)).add_(some)

    def in_rows(self, result: Tensor) -> Tensor:
        """(B, H, rows, …) → (B, rows, H, …); (count, H, rows, …) → (1, count · rows, H, …)."""
        result = result.transpose(1, 2)
        return result if self.count == 1 else result.flatten(0, 1).unsqueeze(0)

    @property
    def _step(self) -> int:
        return self.block.stop - self.block.start


def _along_the_diagonal(x: Tensor, start: int, stop: int, step: int, count: int) -> Tensor:
    """(H, L, …) → (count, H, stop − start, …): the rows from ``start`` up to ``stop``, then those a step further on."""
    shape = count, x.shape[0], stop - start, *x.shape[2:]
    return x.as_strided(shape, (step * x.stride(1), *x.stride()), x.storage_offset() + start * x.stride(1))


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """Join (B|1, H|1, rows, …) tensors along their last axis."""
    parts = [part for part in parts if part.shape[-1]]
    leading = torch.broadcast_shapes(*(part.shape[:2] for part in parts))
    return torch.cat([part.expand(*leading, *part.shape[2:]) for part in parts], dim=-1)


class _Tiled(torch.autograd.Function):
    """Each piece by torch's flash kernel for CPUs."""

    @staticmethod
    def forward(ctx, query, key, value, parts, scale):
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, log_sum_exp = _Rows(), _Rows()
        for tile in chain.from_iterable(part.tiles() for part in parts):
            queries, found = tile.of(query, tile.block), []
            for piece, shift in zip(tile.block.pieces, tile.shifts, strict=True):
                keys, values = tile.of(key, piece), tile.of(value, piece)
                out, lse = flash(queries, keys, values, attn_mask=shift, scale=scale)
                if shift is not None and len(tile.shifts) > 1:  # torch calls the log-sum-exp of nothing 0
                    lse = lse.masked_fill((shift == -math.inf).all(-1), -math.inf)
                found.append((out, lse))
            out, lse = online.merge(found) if found else _nothing(queries)
            output.append(tile.examples, tile.in_rows(out))
            # 0 where nothing is open, so that the way back need not subtract −∞ from −∞.
            lse = lse if len(found) < 2 else lse.masked_fill(lse == -math.inf, 0)
            log_sum_exp.append(tile.examples, tile.in_rows(lse))
        output, log_sum_exp = output.joined(), log_sum_exp.joined()
        ctx.save_for_backward(query, key, value, output, log_sum_exp)
        ctx.parts, ctx.scale = parts, scale
        return output

    @staticmethod
    def backward(ctx, grad_output):
        if torch.is_grad_enabled():
            return *_recorded_gradients(ctx, grad_output), None, None
        flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        query, key, value, output, log_sum_exp = ctx.saved_tensors
        grad_output = grad_output if grad_output.stride(-1) == 1 else grad_output.contiguous()
        totals = [grad_output.new_zeros(x.shape) for x in (query, key, value)]
        for tile in chain.from_iterable(part.tiles() for part in ctx.parts):
            block = tile.block
            given, queries, out, lse = (tile.of(x, block) for x in (grad_output, query, output, log_sum_exp))
            for piece, shift in zip(block.pieces, tile.shifts, strict=True):
                arguments = given, queries, tile.of(key, piece), tile.of(value, piece), out, lse
                grads = flash_backward(*arguments, 0.0, False, attn_mask=shift, scale=ctx.scale)
                for total, part, grad in zip(totals, (block, piece, piece), grads, strict=True):
                    tile.add(total, part, grad)
        return *totals, None, None


class _Replayed(torch.autograd.Function):
    """A few queries at a time by their weights, dropped at random; the backward pass computes the same ones again."""

    @staticmethod
    def forward(ctx, query, key, value, parts, scale, dropout_p):
        # A generator of its own: others draw from torch's before the backward pass.
        seed = int(torch.randint(2**62, ()))
        ctx.save_for_backward(query, key, value)
        ctx.parts, ctx.scale, ctx.dropout_p, ctx.seed = parts, scale, dropout_p, seed
        return _by_weights(query, key, value, parts, scale, dropout_p, seed)

    @staticmethod
    def backward(ctx, grad_output):
        if torch.is_grad_enabled():
            return *_recorded_gradients(ctx, grad_output, ctx.dropout_p, ctx.seed), None, None, None
        query, key, value = ctx.saved_tensors
        grad_query, grad_key, grad_value = (grad_output.new_zeros(x.shape) for x in (query, key, value))
        generator = torch.Generator().manual_seed(ctx.seed)
        for queries, keys, allowed in chain.from_iterable(part.rows() for part in ctx.parts):
            tensors = query[queries], _joined(key, queries[0], keys), _joined(value, queries[0], keys)
            with torch.enable_grad():
                tensors = [x.detach().requires_grad_() for x in tensors]
                output, _ = explicit.attend(*tensors, allowed, None, ctx.scale, ctx.dropout_p, generator)
            of_query, *of_keys = torch.autograd.grad(output, tensors, grad_output[queries])
            grad_query[queries] += of_query
            widths = [at[-1].stop - at[-1].start for at in keys]
            for at, of_key, of_value in zip(keys, *(grad.split(widths, dim=-2) for grad in of_keys), strict=True):
                grad_key[at] += of_key
                grad_value[at] += of_value
        return grad_query, grad_key, grad_value, None, None, None


def _by_weights(query, key, value, parts, scale, dropout_p=0.0, seed=0) -> Tensor:
    """Return the output by the weights of a few queries at a time, in plain operations, which autograd can record."""
    output, generator = _Rows(), torch.Generator().manual_seed(seed)
    for queries, keys, allowed in chain.from_iterable(part.rows() for part in parts):
        tensors = query[queries], _joined(key, queries[0], keys), _joined(value, queries[0], keys)
        rows, _ = explicit.attend(*tensors, allowed, None, scale, dropout_p, generator)
        output.append(queries[0], rows.transpose(1, 2))
    return output.joined()


def _recorded_gradients(ctx, grad_output, dropout_p=0.0, seed=0) -> list[Tensor | None]:
    """Return the gradients of query, key and value as a computation that is recorded, for a second derivative.

    torch's kernel has none, so the weights of all open pairs are computed and kept.
    """
    # Views, because one tensor may be query, key and value at once, and each is to get its own gradient.
    tensors = [x.view_as(x) for x in ctx.saved_tensors[:3]]
    wanted = [x for x in tensors if x.requires_grad]
    output = _by_weights(*tensors, ctx.parts, ctx.scale, dropout_p, seed)
    grads = iter(torch.autograd.grad(output, wanted, grad_output, create_graph=True))
    return [next(grads) if x.requires_grad else None for x in tensors]


def _nothing(query: Tensor) -> tuple[Tensor, Tensor]:
    """Return what queries get that may attend to nothing, in the layout of torch's kernel."""
    rows = query.transpose(1, 2)
    return torch.zeros_like(rows).transpose(1, 2), rows.new_zeros(rows.shape[:-1]).transpose(1, 2)


class _Rows:
    """Results (B, rows, H, …) of blocks of queries, to be joined to (B, H, L, …).

    In this order torch's kernel leaves them in memory, and a module reads them.
    """

    def __init__(self):
        self.of_examples: dict[int, list[Tensor]] = {}

    def append(self, examples: slice, result: Tensor) -> None:
        self.of_examples.setdefault(examples.start, []).append(result)

    def joined(self) -> Tensor:
        each = [rows[0] if len(rows) == 1 else torch.cat(rows, dim=1) for rows in self.of_examples.values()]
        return (each[0] if len(each) == 1 else torch.cat(each)).transpose(1, 2)


def _joined(x: Tensor, examples: slice, places: list) -> Tensor:
    """Return the keys of some places, one after another; without a copy where there is one place."""
    return x[places[0]] if len(places) == 1 else torch.cat([x[examples, :, :0], *(x[at] for at in places)], dim=-2)
