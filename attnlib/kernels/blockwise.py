"""Only the pairs that a mask leaves open: for each block of queries, the runs of keys that it may attend to.

The queries are cut into blocks (:mod:`attnlib.kernels.plan`). A mask leaves each run of keys full, partial or empty for
a block. Empty runs are skipped, long full ones need no mask, and partial ones get a mask of their own size. So time and
memory follow what is open, and no L × S array is ever made::

    causal and a window         what is computed for the second block of queries

      k 0 1 2 3 4 5               k 1 2 3 4 5
    q 0 ■ · · · · ·
      1 ■ ■ · · · ·
      2 ■ ■ ■ · · ·
      3 · ■ ■ ■ · ·             q 3 ▨ ▨ ■ ▨ ▨   ■ open to all three queries
      4 · · ■ ■ ■ ·               4 ▨ ▨ ■ ▨ ▨   ▨ open to some of them: a mask decides
      5 · · · ■ ■ ■               5 ▨ ▨ ■ ▨ ▨

Each tile is computed by torch's kernel for CPUs, which also gives the log-sum-exp; tiles of one block are joined by
:func:`attnlib.kernels.online.merge`. In the backward pass that kernel gets the joined output and log-sum-exp, and so
returns each tile's exact part of the gradient, as between the devices of ring attention (Liu et al., 2024).
"""

import math
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from attnlib.kernels import explicit, flash_cpu, fused, online
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from attnlib.kernels.tiles import Output, Share, shares
from attnlib.modes import autocast_is_on
from attnlib.scores import Scores

__all__ = ["attend"]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: Scores,
    *,
    scale: float,
    dropout_p: float = 0.0,
    sizes: Sizes = ON_A_CPU,
) -> Tensor:
    """Return the output (…, H, L, d_v). A bias gets no gradient. See :class:`attnlib.kernels.Kernel`."""
    batch, d_v, dtype = query.shape[:-3], value.shape[-1], _dtype_of_output(query)
    # Half precision is widened, so that what is summed over blocks is rounded once; measured, about as fast.
    tensors = [fused.rows_together(fused.four_axes(x)) for x in (query, key, value)]
    tensors = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]
    work = shares(fused.scores_with_four_axes(scores), tensors[0].dtype, sizes)
    if dropout_p:
        output = _RecomputedBlocks.apply(*tensors, work, scale, dropout_p)
    else:
        if query.shape[-1] != d_v:
            tensors = fused.of_one_width(*tensors)
        output = _FlashBlocks.apply(*tensors, work, scale)[..., :d_v]
    output = output.to(dtype)
    return output.reshape(*batch, *output.shape[1:]) if query.dim() > 2 else output[0, 0]


def _dtype_of_output(query: Tensor) -> torch.dtype:
    """Return the dtype that torch's own function would return: autocast narrows all but float64."""
    narrowed = autocast_is_on("cpu") and query.dtype != torch.float64
    return torch.get_autocast_dtype("cpu") if narrowed else query.dtype


class _FlashBlocks(torch.autograd.Function):
    """Each tile by torch's flash kernel for CPUs."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, work: list[Share], scale: float) -> Tensor:
        output, log_sum_exp = Output(), Output()
        for group in chain.from_iterable(share.groups() for share in work):
            queries, found = group.of(query, group.block), []
            for tile, additive_mask in zip(group.block.tiles, group.additive_masks, strict=True):
                keys, values = group.of(key, tile), group.of(value, tile)
                out, lse = flash_cpu.forward(queries, keys, values, additive_mask, scale)
                if additive_mask is not None and len(group.block.tiles) > 1:  # torch calls the log-sum-exp of nothing 0
                    lse = lse.masked_fill((additive_mask == -math.inf).all(-1), -math.inf)
                found.append((out, lse))
            out, lse = online.merge(found) if found else _nothing(queries)
            output.append(group.examples, group.in_rows(out))
            # 0 where nothing is open, so that the backward pass need not subtract −∞ from −∞.
            lse = lse if len(found) < 2 else lse.masked_fill(lse == -math.inf, 0)
            log_sum_exp.append(group.examples, group.in_rows(lse))
        joined = output.joined()
        ctx.save_for_backward(query, key, value, joined, log_sum_exp.joined())
        ctx.work, ctx.scale = work, scale
        return joined

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_output,) = grads
        if torch.is_grad_enabled():
            return *_recorded_gradients(ctx, grad_output), None, None
        query, key, value, output, log_sum_exp = ctx.saved_tensors
        grad_output = grad_output if grad_output.stride(-1) == 1 else grad_output.contiguous()
        totals = [grad_output.new_zeros(x.shape) for x in (query, key, value)]
        for group in chain.from_iterable(share.groups() for share in ctx.work):
            block = group.block
            given, queries, out, lse = (group.of(x, block) for x in (grad_output, query, output, log_sum_exp))
            for tile, additive_mask in zip(block.tiles, group.additive_masks, strict=True):
                keys, values = group.of(key, tile), group.of(value, tile)
                parts = flash_cpu.backward(given, queries, keys, values, out, lse, additive_mask, ctx.scale)
                for total, part, grad in zip(totals, (block, tile, tile), parts, strict=True):
                    group.add(total, part, grad)
        return *totals, None, None


class _RecomputedBlocks(torch.autograd.Function):
    """A few queries at a time by their weights, dropped at random; the backward pass computes the same ones again."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, work: list[Share], scale: float, dropout_p: float
    ) -> Tensor:
        # Own generator: torch's global one may have advanced by the backward pass.
        seed = int(torch.randint(2**62, (), device="cpu"))
        ctx.save_for_backward(query, key, value)
        ctx.work, ctx.scale, ctx.dropout_p, ctx.seed = work, scale, dropout_p, seed
        return _by_weights(query, key, value, work, scale, dropout_p, seed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_output,) = grads
        if torch.is_grad_enabled():
            return *_recorded_gradients(ctx, grad_output, ctx.dropout_p, ctx.seed), None, None, None
        query, key, value = ctx.saved_tensors
        grad_query, grad_key, grad_value = (grad_output.new_zeros(x.shape) for x in (query, key, value))
        generator = torch.Generator().manual_seed(ctx.seed)
        for queries, keys, scores in chain.from_iterable(share.rows() for share in ctx.work):
            parts = query[queries], _at(key, queries[0], keys), _at(value, queries[0], keys)
            q, k, v = (x.detach().requires_grad_() for x in parts)
            with torch.enable_grad():
                output, _ = explicit.with_weights(
                    q, k, v, scores, scale=ctx.scale, dropout_p=ctx.dropout_p, generator=generator
                )
            of_query, *of_keys = torch.autograd.grad(output, (q, k, v), grad_output[queries])
            grad_query[queries] += of_query
            widths = [at[-1].stop - at[-1].start for at in keys]
            for at, of_key, of_value in zip(keys, *(grad.split(widths, dim=-2) for grad in of_keys), strict=True):
                grad_key[at] += of_key
                grad_value[at] += of_value
        return grad_query, grad_key, grad_value, None, None, None


def _by_weights(
    query: Tensor, key: Tensor, value: Tensor, work: list[Share], scale: float, dropout_p: float = 0.0, seed: int = 0
) -> Tensor:
    """Return the output by the weights of a few queries at a time, in plain operations, which autograd can record."""
    output, generator = Output(), torch.Generator().manual_seed(seed)
    for queries, keys, scores in chain.from_iterable(share.rows() for share in work):
        tensors = query[queries], _at(key, queries[0], keys), _at(value, queries[0], keys)
        rows, _ = explicit.with_weights(*tensors, scores, scale=scale, dropout_p=dropout_p, generator=generator)
        output.append(queries[0], rows.transpose(1, 2))
    return output.joined()


def _recorded_gradients(ctx: Any, grad_output: Tensor, dropout_p: float = 0.0, seed: int = 0) -> list[Tensor | None]:
    """Return the gradients of query, key and value as a computation that is recorded, for a second derivative.

    torch's kernel has none, so the weights of all open pairs are computed and kept.
    """
    # Views, because one tensor may be query, key and value at once, and each is to get its own gradient.
    query, key, value = (x.view_as(x) for x in ctx.saved_tensors[:3])
    wanted = [x for x in (query, key, value) if x.requires_grad]
    output = _by_weights(query, key, value, ctx.work, ctx.scale, dropout_p, seed)
    grads = iter(torch.autograd.grad(output, wanted, grad_output, create_graph=True))
    return [next(grads) if x.requires_grad else None for x in (query, key, value)]


def _nothing(query: Tensor) -> tuple[Tensor, Tensor]:
    """Return what queries get that may attend to nothing, in the layout of torch's kernel."""
    rows = query.transpose(1, 2)
    return torch.zeros_like(rows).transpose(1, 2), rows.new_zeros(rows.shape[:-1]).transpose(1, 2)


def _at(x: Tensor, examples: slice, places: list[tuple]) -> Tensor:
    """Return the keys of some places, one after another; without a copy where there is one place."""
    return x[places[0]] if len(places) == 1 else torch.cat([x[examples, :, :0], *(x[at] for at in places)], dim=-2)
