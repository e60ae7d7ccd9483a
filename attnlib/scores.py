"""One call's mask and bias, checked once, in the only form that kernels see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from attnlib.biases import ByDistance
from attnlib.masks import Both, Causal, Either, FromTensor, LastKeys, Mask, Not, Span, check_bool, check_pairs
from attnlib.modes import is_plain

__all__ = ["Scores"]


class Scores(NamedTuple):
    """Where the scores (…, H, L, S) of one call are open, and what is added to them.

    Made by :meth:`of` at the border of a public call. A stack of layers makes one for all of them, and passes it as
    their mask: what was checked above is not checked again below.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.scores import Scores
    >>> scores = Scores.of(masks.causal(), None, (2, 3, 4, 4), torch.device("cpu"))
    >>> scores.masked(torch.zeros(2, 3, 4, 4))[0, 0, 1]
    tensor([0., 0., -inf, -inf])
    """

    shape: tuple[int, ...]
    device: torch.device
    mask: Mask | None = None  # None where every pair is open
    bias: Tensor | ByDistance | None = None
    finite: bool = False  # whether keys and values are known to be finite, so that nobody need look

    @classmethod
    def of(
        cls,
        mask: Mask | Tensor | Scores | None,
        bias: Tensor | ByDistance | None,
        shape: tuple[int, ...],
        device: torch.device,
        name: str = "mask",
    ) -> Scores:
        """Check that a mask and a bias broadcast to scores of ``shape``, (…, H, L, S), and no further.

        A bool tensor has the axes (L, S), all axes of the scores, or all but the head axis. Nothing else is accepted: a
        (B, S) tensor is never taken for (L, S). What leaves everything open is dropped.

        Args:
            mask: a Mask, a bool tensor, None, or what this method has returned for the same shape.
            bias: a float tensor (L, S), or with all axes of the scores, each 1 or whole; a ByDistance; or None.
            shape: that of the scores.
            device: query's.
            name: what the caller calls the mask.

        Raises:
            TypeError: if ``mask`` is neither a Mask nor a bool tensor, or ``bias`` neither a float tensor nor a
                ByDistance.
            ValueError: if one does not fit, or lies on another device.
        """
        if isinstance(mask, Scores):
            if mask.shape != shape or mask.device != device:
                found = f"checked ones of {tuple(mask.shape)} on {mask.device}"
                raise ValueError(f"{name}: expected scores of shape {tuple(shape)} on {device}, got {found}")
            if bias is None:
                return mask
            if mask.bias is not None:
                raise ValueError("bias: expected none beside checked scores that have one, got a second")
            _check_bias(bias, shape, device)
            return mask._replace(bias=bias)
        if bias is not None:
            _check_bias(bias, shape, device)
        if mask is None:
            return cls(shape, device, None, bias)
        if isinstance(mask, Mask):
            _check_fits(name, mask, mask.shape(shape[-2], shape[-1]), shape)
        else:
            mask = _from_tensor(name, mask, shape, device)
        scores = cls(shape, device, _simplified(mask, shape[-2]), bias)
        if scores.mask is not None and not _is_known(scores.mask):
            scores.allowed((0, min(shape[-2], 1)), (0, min(shape[-1], 1)))  # what it raises, it raises here
        return scores

    def allowed(self, rows: Span | None = None, columns: Span | None = None) -> Tensor:
        """Return who may attend to whom, as a bool tensor with as many axes as the scores, each of them 1 or whole.

        Args:
            rows: the (start, stop) of the queries that are wanted. Default: all.
            columns: the (start, stop) of the keys. Default: all.
        """
        assert self.mask is not None, "there is no mask"
        *batch, L, S = self.shape
        b, h = _positions(batch, self.device)
        allowed = self.mask._among(b, h, (L, S), rows or (0, L), columns or (0, S))
        missing = len(self.shape) - allowed.dim()
        if missing == 0:
            return allowed
        return allowed[(None,) * missing] if missing > 0 else allowed.reshape(allowed.shape[-missing:])

    def bias_among(self, dtype: torch.dtype, rows: Span | None = None, columns: Span | None = None) -> Tensor | None:
        """Return the bias of some queries and keys, each axis 1 or whole; None if there is none.

        Args:
            dtype: that of a bias that is made here. A tensor keeps its own.
            rows: the (start, stop) of the queries. Default: all.
            columns: the (start, stop) of the keys. Default: all.
        """
        bias = self.bias
        if isinstance(bias, ByDistance):
            L, S = self.shape[-2:]
            made = bias.among(rows or (0, L), columns or (0, S), S - L, dtype, self.device)
            return made if len(self.shape) > 3 else made.reshape(made.shape[-len(self.shape) :])
        for axis, some in ((-2, rows), (-1, columns)):
            if bias is not None and some is not None and bias.shape[axis] != 1:
                bias = bias.narrow(axis, some[0], some[1] - some[0])
        return bias

    def among(self, spans: Sequence[Span], dtype: torch.dtype, rows: Span | None = None) -> Scores:
        """Return the scores of some queries with the keys of ``spans``, side by side; a mask becomes a bool for each.

        Args:
            spans: the (start, stop) of the keys.
            dtype: that of a bias that is made here.
            rows: the (start, stop) of the queries. Default: all.
        """
        *batch, L, _ = self.shape
        first, last = rows or (0, L)
        mask, bias = None, self.bias_among(dtype, rows)
        if self.mask is not None:
            tiles = [self.allowed(rows, span) for span in spans]
            wide = [x.expand(*x.shape[:-1], stop - start) for x, (start, stop) in zip(tiles, spans, strict=True)]
            pairs = side_by_side(wide)
            mask = FromTensor(pairs[None] if pairs.dim() == 3 else pairs)
        if bias is not None and bias.shape[-1] != 1:
            bias = side_by_side([bias[..., start:stop] for start, stop in spans] or [bias[..., :0]])
        shape = (*batch, last - first, sum(stop - start for start, stop in spans))
        return Scores(shape, self.device, mask, bias, self.finite)

    def of_last_keys(self, first: int) -> Scores:
        """Return the scores with the keys from ``first`` on."""
        mask, bias, (*batch, L, S) = self.mask, self.bias, self.shape
        if isinstance(bias, Tensor) and bias.shape[-1] != 1:
            bias = bias[..., first:]
        mask = None if mask is None else LastKeys(mask, first)
        return self._replace(shape=(*batch, L, S - first), mask=mask, bias=bias)

    def masked(self, scores: Tensor, columns: Span | None = None) -> Tensor:
        """Add the bias to ``scores``, which nobody else holds, and set what is closed to −∞.

        Args:
            scores: (…, H, L, S), or those of some keys.
            columns: the (start, stop) of these keys. Default: all.
        """
        bias = self.bias_among(scores.dtype, columns=columns)
        if bias is not None:
            scores = scores + bias
        if self.mask is not None:
            closed = ~self.allowed(columns=columns)
            # In place where that is possible: fresh memory costs more than the softmax.
            in_place = scores.is_cpu and is_plain(scores)
            scores = (scores.masked_fill_ if in_place else scores.masked_fill)(closed, -math.inf)
        return scores

    def of_example(self, b: int, mask: Mask | None) -> Scores:
        """Return the scores of example ``b`` of (B, H, L, S) alone, under its own ``mask``."""
        bias = self.bias
        if isinstance(bias, Tensor) and bias.dim() == 4 and len(bias) > 1:
            bias = bias[b : b + 1]
        return Scores((1, *self.shape[1:]), self.device, mask, bias)

    @property
    def is_causal(self) -> bool:
        """Whether the causal mask alone decides, and nothing is added."""
        return type(self.mask) is Causal and self.bias is None


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Join (…, rows, columns) tensors along their last axis; other axes may be 1 or whole."""
    if len(parts) == 1:
        return parts[0]
    leading = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*leading, part.shape[-1]) for part in parts], dim=-1)


def _positions(batch: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the examples (…, 1, 1, 1) and the heads (H, 1, 1) of scores whose leading axes are (…, H)."""
    if not batch:
        zero = torch.zeros((), dtype=torch.int64, device=device)
        return zero, zero
    heads = torch.arange(batch[-1], device=device).view(-1, 1, 1)
    examples = torch.arange(math.prod(batch[:-1]), device=device)
    return examples.view(*batch[:-1], 1, 1, 1), heads


def _check_fits(name: str, mask: Mask, shape: tuple[int, ...], wanted: Sequence[int]) -> None:
    """Check that a mask of ``shape`` broadcasts to scores of the ``wanted`` shape."""
    if shape == tuple(wanted[-2:]):  # (L, S), which fits all scores
        return
    if len(shape) != 4:
        kind = type(mask).__name__
        raise ValueError(f"{name}: expected {kind}.shape to return (L, S) or (B|1, H|1, L|1, S|1), got {shape}")
    aligned: tuple[int, ...] = shape
    while len(aligned) > len(wanted) and aligned[0] == 1:
        aligned = aligned[1:]
    if len(aligned) != len(wanted) or any(a not in (1, b) for a, b in zip(aligned, wanted, strict=True)):
        made_for = f": made for {shape[0]} examples" if shape[0] > 1 else ""
        beside = f" beside a batch of {wanted[0]}" if made_for and len(wanted) == 4 else ""
        raise ValueError(f"{name}: expected shape {_accepted(wanted)}, got {shape}{made_for}{beside}")


def _is_known(mask: Mask) -> bool:
    """Return whether the mask is of this package's kinds alone."""
    if isinstance(mask, Both | Either):
        return _is_known(mask.left) and _is_known(mask.right)
    return _is_known(mask.mask) if isinstance(mask, Not | LastKeys) else type(mask).__module__ == Mask.__module__


def _from_tensor(name: str, tensor: Tensor, shape: Sequence[int], device: torch.device) -> FromTensor:
    """Check a bool tensor, and name the head axis that it leaves out."""
    check_bool(name, tensor)
    if tensor.device != device:
        raise ValueError(f"{name}: expected a tensor on query's device {device}, got one on {tensor.device}")
    check_pairs(name, tensor, shape[-2], shape[-1], axes=len(shape))
    if tensor.dim() == 2:
        return FromTensor(tensor)
    sizes = tuple(tensor.shape)
    if len(sizes) == len(shape) - 1:  # the head axis is left out
        sizes = (*sizes[:-2], 1, *sizes[-2:])
    while len(sizes) > len(shape) and sizes[0] == 1:
        sizes = sizes[1:]
    if len(sizes) != len(shape) or any(a not in (1, b) for a, b in zip(sizes, shape, strict=True)):
        raise ValueError(f"{name}: expected shape {_accepted(shape)}, got {tuple(tensor.shape)}")
    # Four axes at least: of three, the first would be taken for the examples.
    return FromTensor(tensor.reshape((1,) * (4 - len(sizes)) + sizes))


def _accepted(shape: Sequence[int]) -> str:
    return f"(L, S) = {tuple(shape[-2:])}" + f" or one that broadcasts to {tuple(shape)}" * (len(shape) > 2)


def _simplified(mask: Mask, L: int) -> Mask | None:
    """Drop a causal mask of a single query, alone or combined by ``&``: it leaves everything open."""
    if isinstance(mask, Both):
        left, right = _simplified(mask.left, L), _simplified(mask.right, L)
        if left is None or right is None:
            return right if left is None else left
        return mask
    return None if isinstance(mask, Causal) and bool(L == 1) else mask


def _check_values(bias: ByDistance, device: torch.device) -> None:
    """Ask somebody's own rule once, about keys at their query: what it raises, or gets wrong, shows here."""
    H = bias.num_heads
    values = bias.values(torch.zeros(H + 1, dtype=torch.int64, device=device), torch.float32)
    if not isinstance(values, Tensor):
        raise TypeError(f"{type(bias).__name__}.values: expected a tensor, got {type(values).__name__}")
    if tuple(values.shape) != (H, H + 1):
        wanted = f"(H, n) = {(H, H + 1)} of {H + 1} distances"
        raise ValueError(f"{type(bias).__name__}.values: expected {wanted}, got {tuple(values.shape)}")


def _check_bias(bias: Tensor | ByDistance, shape: Sequence[int], device: torch.device) -> None:
    if isinstance(bias, ByDistance):
        heads = shape[-3] if len(shape) > 2 else 1
        if bias.num_heads not in (1, heads):
            raise ValueError(f"bias: expected one of {heads} heads, got {type(bias).__name__} of {bias.num_heads}")
        if not type(bias).__module__.startswith("attnlib."):
            _check_values(bias, device)
        return
    if not isinstance(bias, Tensor):
        raise TypeError(f"bias: expected a tensor, got {type(bias).__name__}")
    if not bias.is_floating_point():
        hint = "; to say who may attend to whom, use mask=" if bias.dtype == torch.bool else ""
        raise TypeError(f"bias: expected a floating-point tensor, got {bias.dtype}{hint}")
    if bias.device != device:
        raise ValueError(f"bias: expected a tensor on query's device {device}, got one on {bias.device}")
    exact = tuple(bias.shape) == tuple(shape[-2:])
    fits = bias.dim() == len(shape) and all(a in (1, b) for a, b in zip(bias.shape, shape, strict=True))
    if not (exact or fits):
        wanted = f"(L, S) = {tuple(shape[-2:])} or one that broadcasts to {tuple(shape)}"
        raise ValueError(f"bias: expected shape {wanted}, got {tuple(bias.shape)}")
