"""Who may attend to whom: masks that know their structure and combine with ``&``, ``|`` and ``~``.

**True means may attend**, as in :func:`torch.nn.functional.scaled_dot_product_attention`, and the opposite of
:class:`torch.nn.MultiheadAttention`.

A mask needs no sizes until it is used: ``mask.dense(L, S)`` gives the bool tensor for L queries and S keys. The last
query stands at the last key (bottom right), so that a mask means the same with a cache and without::

    causal, L = S = 4       causal, L = 2, S = 4

      k 0 1 2 3               k 0 1 2 3
    q 0 ■ · · ·             q 0 ■ ■ ■ ·
      1 ■ ■ · ·               1 ■ ■ ■ ■
      2 ■ ■ ■ ·
      3 ■ ■ ■ ■

>>> from attnlib import masks
>>> mask = masks.causal() & masks.padding([3, 2])
>>> mask.dense(3, 3)[1, 0].int()
tensor([[1, 0, 0],
        [1, 1, 0],
        [1, 1, 0]], dtype=torch.int32)
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import NamedTuple, final

import torch
from torch import Tensor

from attnlib.checks import whole_number
from attnlib.spans import Runs, both, combined, either, from_spans, inverted

__all__ = ["Mask", "causal", "documents", "from_tensor", "padding", "prefix", "sliding_window"]

OF_KEYS = "; for a mask of keys (B, S), true where a key is real, use masks.from_tensor(keys[:, None, None].bool())"
SHORT = 16  # keys: documents that are shorter on average, and many, are not told apart


class Tile(NamedTuple):
    """A rectangle of the L × S pairs: the queries of ``rows`` by the keys of ``columns``, each (start, stop)."""

    L: int
    S: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def positions(self, device: torch.device | str | None) -> tuple[Tensor, Tensor]:
        """Return the queries' positions (rows, 1) and the keys' (1, columns), counted in keys."""
        offset = self.S - self.L
        query = torch.arange(self.rows[0] + offset, self.rows[1] + offset, device=device)
        return query.unsqueeze(1), torch.arange(*self.columns, device=device).unsqueeze(0)


class Mask:
    """What every mask can do. Make one with the functions of this module.

    A new kind of mask is a subclass of this class, not of one of its kinds. It defines ``_tile``, and ``shape`` if that
    is not (L, S). One that knows its structure also defines ``_spans``, and nothing is computed for the keys that it
    closes.

    >>> from attnlib import masks
    >>> class EvenKeys(masks.Mask):
    ...     def _tile(self, tile, device):
    ...         query, key = tile.positions(device)
    ...         return (key % 2 == 0).expand(len(query), -1)
    >>> (EvenKeys() & masks.causal()).dense(3, 3).int()
    tensor([[1, 0, 0],
            [1, 0, 0],
            [1, 0, 1]], dtype=torch.int32)
    """

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        """Return the shape of ``dense(L, S)``, (L, S) or (B|1, H|1, L|1, S|1), without making it.

        Raises
        ------
        ValueError: if the mask was made for other sizes.
        """
        return (L, S)

    def _tile(self, tile: Tile, device: torch.device | str) -> Tensor:
        """Return the mask of some of the pairs, as a bool tensor that broadcasts to (B, H, rows, columns)."""
        raise NotImplementedError

    def _spans(self, L: int, S: int) -> Callable[[int, int], Runs]:
        """Return the function that tells what is left of the mask for the queries from ``start`` up to ``stop``.

        See :mod:`attnlib.spans`. A run of a mask that differs between examples is True, or False, where it is in each.
        The function finds what holds for all queries once.
        """
        return lambda start, stop: [(S, self)]

    def _cuts(self, L: int, S: int) -> set[int]:
        """Return the queries at which a block should begin, because the mask jumps there."""
        return set()

    def _example(self, b: int) -> Mask:
        """Return the mask of example b alone; the mask itself where all examples share it."""
        return Example(self, b)

    @property
    def _has_structure(self) -> bool:
        """Return whether the mask knows of runs of keys that are open or closed."""
        return type(self)._spans is not Mask._spans

    @property
    def _by_distance(self) -> bool:
        """Return whether a pair is open or not by the distance of its positions alone."""
        return False

    def _dense(self, L: int, S: int, device: torch.device | str) -> Tensor:
        return self._tile(Tile(L, S, (0, L), (0, S)), device)

    def dense(self, L: int, S: int, device: torch.device | str | None = None) -> Tensor:
        """Return the mask as a bool tensor that broadcasts to (B, H, L, S): True where a query may attend.

        Parameters
        ----------
        L: the number of queries.
        S: the number of keys; the last query stands at the last key.
        device: where the tensor is made. Default: torch's default device.

        Raises
        ------
        ValueError: if a size is negative, or the mask was made for other sizes.
        """
        if L < 0 or S < 0:
            raise ValueError(f"L, S: expected sizes of at least 0, got L={L}, S={S}")
        self.shape(L, S)
        return self._dense(L, S, torch.get_default_device() if device is None else device)

    def opens_all(self, L: int, S: int) -> bool:
        """Return whether every query may attend to every key, where that is known without looking at the pairs."""
        return False

    def __and__(self, other: Mask) -> Mask:
        return Both(self, other) if _is_mask(other) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return Either(self, other) if _is_mask(other) else NotImplemented

    __rand__, __ror__ = __and__, __or__  # where the left operand is not a mask, so that the error is ours

    def __invert__(self) -> Mask:
        return Not(self)

    def __bool__(self) -> bool:
        raise TypeError("a mask is neither true nor false: combine masks with &, | and ~, not with and, or, not")


# ---------------------------------------------------------------------------------------------------------------------
# What to call


def causal() -> Mask:
    """A query may attend to its own position and to those before it (Vaswani et al., 2017, section 3.2.3).

    The last query stands at the last key. With L ≠ S this differs from torch's ``is_causal``, which puts the first
    query at the first key::

        here, L = 2, S = 4      torch's is_causal

          k 0 1 2 3               k 0 1 2 3
        q 0 ■ ■ ■ ·             q 0 ■ · · ·
          1 ■ ■ ■ ■               1 ■ ■ · ·

    >>> from attnlib import masks
    >>> masks.causal().dense(2, 4).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 1, 1]], dtype=torch.int32)
    """
    return Causal()


def sliding_window(size: int) -> Mask:
    """A query may attend to positions less than ``size`` away, on both sides: \\|i − j\\| < size.

    This is the window of Beltagy et al. (2020, section 3.1), who write w/2 for the ``size − 1`` keys on each side.
    ``sliding_window(size) & causal()`` looks back only, at ``size`` keys, the query's own among them: what a language
    model needs (their section 4).

    >>> from attnlib import masks
    >>> masks.sliding_window(2).dense(4, 4).int()
    tensor([[1, 1, 0, 0],
            [1, 1, 1, 0],
            [0, 1, 1, 1],
            [0, 0, 1, 1]], dtype=torch.int32)

    Raises
    ------
    ValueError: if ``size`` is less than 1.
    TypeError: if it is not a whole number.
    """
    return SlidingWindow(whole_number("size", size))


def padding(lengths: Sequence[int] | Tensor) -> Mask:
    """In example b only the first ``lengths[b]`` keys are real; no query may attend to the rest.

    Parameters
    ----------
    lengths: B whole numbers, at least 0 and at most S. Inside a compiled graph they cannot be checked.

    >>> from attnlib import masks
    >>> masks.padding([3, 1]).dense(3, 3).int()[:, 0, 0]
    tensor([[1, 1, 1],
            [1, 0, 0]], dtype=torch.int32)

    Raises
    ------
    ValueError: if ``lengths`` is not one row of numbers ≥ 0; on use, if one is over S.
    TypeError: if one is not whole.
    """
    lengths = _whole_numbers("lengths", lengths, hint=OF_KEYS)
    if lengths.dim() != 1:
        hint = OF_KEYS if lengths.dim() == 2 else ""
        raise ValueError(f"lengths: expected one length for each example, shape (B,), got {tuple(lengths.shape)}{hint}")
    return Padding(lengths, _largest("lengths", lengths))


def documents(ids: Sequence[int] | Sequence[Sequence[int]] | Tensor) -> Mask:
    """Several documents packed in one row: a query may attend to the keys of its own document only.

    With fewer queries than keys, the queries are the last ones of the row.

    Parameters
    ----------
    ids: whole numbers of shape (S,), or (B, S) if the examples are packed differently; equal ids, same document.

    >>> from attnlib import masks
    >>> masks.documents([7, 7, 8]).dense(3, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [0, 0, 1]], dtype=torch.int32)

    Raises
    ------
    ValueError: if ``ids`` has another shape; on use, if it is not S long.
    TypeError: if the ids are not whole numbers.
    """
    ids = _whole_numbers("ids", ids)
    if ids.dim() not in (1, 2):
        raise ValueError(f"ids: expected shape (S,) or (B, S), got {tuple(ids.shape)}")
    return Documents(ids)


def prefix(length: int) -> Mask:
    """Every query may attend to the first ``length`` keys, and to no other.

    ``prefix(length) | causal()`` is the prefix language model's mask (Raffel et al., 2020, section 3.2.1).

    >>> from attnlib import masks
    >>> (masks.prefix(2) | masks.causal()).dense(3, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)

    Raises
    ------
    ValueError: if ``length`` is less than 1; on use, if it is over S.
    TypeError: if it is not a whole number.
    """
    return Prefix(whole_number("length", length))


def from_tensor(tensor: Tensor) -> Mask:
    """A mask given pair by pair, to combine with others.

    Parameters
    ----------
    tensor: bool, True where a query may attend; shape (L, S), (B, L, S) or (B|1, H|1, L|1, S|1).

    >>> import torch
    >>> from attnlib import masks
    >>> (masks.from_tensor(torch.tensor([[True, True]])) & ~masks.prefix(1)).dense(1, 2)
    tensor([[False,  True]])

    Raises
    ------
    TypeError: if ``tensor`` is not a bool tensor.
    ValueError: if it has other axes, or, on use, other sizes.
    """
    check_bool("tensor", tensor)
    if tensor.dim() not in (2, 3, 4):
        raise ValueError(f"tensor: expected shape (L, S), (B, L, S) or (B, H, L, S), got {tuple(tensor.shape)}")
    return Given(tensor.clone())  # copied, so that a later change in place does not change the mask


# ---------------------------------------------------------------------------------------------------------------------
# The masks


class _OfAll(Mask):
    """A mask that all examples share."""

    def _example(self, b):
        return self


@final
@dataclass(frozen=True, eq=False)
class Causal(_OfAll):
    _by_distance = True

    def _tile(self, tile, device):
        query, key = tile.positions(device)
        return key <= query

    def _spans(self, L, S):
        def runs(start, stop):
            first, last = start + S - L, stop - 1 + S - L
            return from_spans(S, [(0, first + 1, True), (first + 1, last + 1, self)])

        return runs

    def opens_all(self, L, S):
        return bool(L == 1)


@final
@dataclass(frozen=True, eq=False)
class SlidingWindow(_OfAll):
    size: int
    _by_distance = True

    def _tile(self, tile, device):
        query, key = tile.positions(device)
        return (query - key).abs() < self.size

    def _spans(self, L, S):
        def runs(start, stop):
            first, last = start + S - L, stop - 1 + S - L
            begin, end = last - self.size + 1, first + self.size  # what the windows of all queries share
            if begin >= end:
                return from_spans(S, [(first - self.size + 1, last + self.size, self)])
            sides = (first - self.size + 1, begin, self), (end, last + self.size, self)
            return from_spans(S, [sides[0], (begin, end, True), sides[1]])

        return runs


@final
@dataclass(frozen=True, eq=False)
class Padding(Mask):
    lengths: Tensor
    longest: int | None

    def shape(self, L, S):
        if self.longest is not None and self.longest > S:
            raise ValueError(f"lengths: expected at most S={S} keys, got a length of {self.longest}")
        return (self.lengths.shape[0], 1, 1, S)

    def _tile(self, tile, device):
        lengths = self.lengths.to(device).view(-1, 1, 1, 1)
        return torch.arange(*tile.columns, device=lengths.device) < lengths

    def _spans(self, L, S):
        lengths = self.lengths.tolist()
        shortest, longest = min(lengths, default=0), max(lengths, default=0)
        return lambda start, stop: from_spans(S, [(0, shortest, True), (shortest, longest, self)])

    def _example(self, b):
        return Padding(self.lengths[b : b + 1], self.longest) if len(self.lengths) > 1 else self


@final
@dataclass(frozen=True, eq=False)
class Documents(Mask):
    ids: Tensor

    def shape(self, L, S):
        if self.ids.shape[-1] != S:
            raise ValueError(f"ids: expected one id for each of S={S} keys, got {self.ids.shape[-1]}")
        if L > S:
            raise ValueError(f"ids: the queries are the last keys, so L must be at most S={S}, got L={L}")
        return (L, S) if self.ids.dim() == 1 else (self.ids.shape[0], 1, L, S)

    def _tile(self, tile, device):
        ids = self.ids.to(device)
        offset = tile.S - tile.L
        queries = ids[..., offset + tile.rows[0] : offset + tile.rows[1]]
        same = queries[..., :, None] == ids[..., None, tile.columns[0] : tile.columns[1]]
        return same if ids.dim() == 1 else same[:, None]

    def _spans(self, L, S):
        if self.ids.dim() == 2 and len(self.ids) > 1:
            return super()._spans(L, S)
        starts, ids = self._stretches()
        if len(starts) > max(S // SHORT, 64):  # telling them apart would take longer than computing all
            return super()._spans(L, S)
        stops = [*starts[1:], S]
        own = defaultdict(list)  # where each document lies: in one place, or in several
        for name, start, stop in zip(ids, starts, stops, strict=True):
            own[name].append((start, stop))

        def runs(start, stop):
            first, last = bisect_right(starts, start + S - L) - 1, bisect_right(starts, stop - 1 + S - L)
            here = set(ids[first:last])
            rest = True if len(here) == 1 else self
            return from_spans(S, [(*place, rest) for place in sorted(p for name in here for p in own[name])])

        return runs

    def _cuts(self, L, S):
        return {start - (S - L) for start in self._stretches()[0]}

    def _stretches(self):
        """Return where each stretch of equal ids begins, and its id."""
        ids, lengths = torch.unique_consecutive(self.ids.flatten(), return_counts=True)
        return (lengths.cumsum(0) - lengths).tolist(), ids.tolist()

    def _example(self, b):
        return self if self.ids.dim() == 1 else Documents(self.ids[b if len(self.ids) > 1 else 0])


@final
@dataclass(frozen=True, eq=False)
class Prefix(_OfAll):
    length: int

    def shape(self, L, S):
        if self.length > S:
            raise ValueError(f"length: expected a prefix of at most S={S} keys, got {self.length}")
        return (L, S)

    def _tile(self, tile, device):
        open_ = torch.arange(*tile.columns, device=device) < self.length
        return open_.expand(tile.rows[1] - tile.rows[0], -1)

    def _spans(self, L, S):
        return lambda start, stop: from_spans(S, [(0, self.length, True)])


@final
@dataclass(frozen=True, eq=False)
class Given(Mask):
    tensor: Tensor

    def shape(self, L, S):
        _check_sizes("tensor", self.tensor, L, S, axes=4)
        return tuple(self._with_heads().shape)

    def _tile(self, tile, device):
        return _part(self._with_heads(), tile).to(device)

    def _example(self, b):
        # A single tensor (L, S), or one for all examples, has no axis to pick from.
        return Given(self.tensor[b : b + 1]) if self.tensor.dim() > 2 and len(self.tensor) > 1 else self

    def _with_heads(self):
        return self.tensor.unsqueeze(1) if self.tensor.dim() == 3 else self.tensor


@dataclass(frozen=True, eq=False)
class _Pair(Mask):
    left: Mask
    right: Mask

    def shape(self, L, S):
        left, right = self.left.shape(L, S), self.right.shape(L, S)
        # By hand: torch.broadcast_shapes takes longer than all other checks together.
        axes = max(len(left), len(right))
        sizes = [(1,) * (axes - len(shape)) + shape for shape in (left, right)]
        pairs = list(zip(*sizes, strict=True))
        if any(a != b and a != 1 and b != 1 for a, b in pairs):
            raise ValueError(f"mask: masks of shape {left} and {right} do not combine")
        return tuple(b if a == 1 else a for a, b in pairs)

    def _tile(self, tile, device):
        return self.of_pairs(self.left._tile(tile, device), self.right._tile(tile, device))

    def _spans(self, L, S):
        left, right = self.left._spans(L, S), self.right._spans(L, S)
        return lambda start, stop: combined(left(start, stop), right(start, stop), self.of_rests)

    def _cuts(self, L, S):
        return self.left._cuts(L, S) | self.right._cuts(L, S)

    def _example(self, b):
        return type(self)(self.left._example(b), self.right._example(b))

    @property
    def _by_distance(self):
        return self.left._by_distance and self.right._by_distance

    @property
    def _has_structure(self):
        return self.left._has_structure or self.right._has_structure


class Both(_Pair):
    of_pairs, of_rests = staticmethod(operator.and_), staticmethod(both)


class Either(_Pair):
    of_pairs, of_rests = staticmethod(operator.or_), staticmethod(either)


@dataclass(frozen=True, eq=False)
class Not(Mask):
    mask: Mask

    def shape(self, L, S):
        return self.mask.shape(L, S)

    def _tile(self, tile, device):
        return ~self.mask._tile(tile, device)

    def _spans(self, L, S):
        inner = self.mask._spans(L, S)
        return lambda start, stop: inverted(inner(start, stop))

    def _cuts(self, L, S):
        return self.mask._cuts(L, S)

    def _example(self, b):
        return Not(self.mask._example(b))

    @property
    def _by_distance(self):
        return self.mask._by_distance

    @property
    def _has_structure(self):
        return self.mask._has_structure


@dataclass(frozen=True, eq=False)
class Example(Mask):
    """One example of a mask of somebody's own."""

    mask: Mask
    b: int

    def shape(self, L, S):
        shape = self.mask.shape(L, S)
        return shape if len(shape) < 4 else (1, *shape[1:])

    def _tile(self, tile, device):
        allowed = self.mask._tile(tile, device)
        return allowed[self.b : self.b + 1] if allowed.dim() == 4 and len(allowed) > 1 else allowed


# ---------------------------------------------------------------------------------------------------------------------
# From a mask to the shape of the scores


def check(mask: Mask | Tensor, scores_shape: Sequence[int], device: torch.device, name: str = "mask") -> None:
    """Check that ``mask``, which the caller calls ``name``, broadcasts to scores (…, H, L, S), and no further.

    A tensor has the axes (L, S), all axes of the scores, or all but the head axis. Nothing else is accepted: a (B, S)
    tensor is never taken for (L, S).

    Raises
    ------
    TypeError: if ``mask`` is neither a Mask nor a bool tensor.
    ValueError: if it does not fit, or lies on another device.
    """
    L, S = scores_shape[-2:]
    if isinstance(mask, Mask):
        shape = mask.shape(L, S)
        if len(shape) == 2:  # (L, S), which fits all scores
            return
    else:
        check_bool(name, mask)
        if mask.device != device:
            raise ValueError(f"{name}: expected a tensor on query's device {device}, got one on {mask.device}")
        _check_sizes(name, mask, L, S, axes=len(scores_shape))
        shape = tuple(mask.shape)
    aligned = _aligned(mask, shape, len(scores_shape))
    if len(aligned) != len(scores_shape) or any(
        size not in (1, wanted) for size, wanted in zip(aligned, scores_shape, strict=True)
    ):
        wanted = f"(L, S) = {(L, S)}" + f" or one that broadcasts to {tuple(scores_shape)}" * (len(scores_shape) > 2)
        made_for = f": made for {shape[0]} examples" if isinstance(mask, Mask) and shape[0] > 1 else ""
        batch = f" beside a batch of {scores_shape[0]}" if made_for and len(scores_shape) == 4 else ""
        raise ValueError(f"{name}: expected shape {wanted}, got {shape}{made_for}{batch}")


def needed(mask: Mask | Tensor | None, L: int, S: int) -> Mask | Tensor | None:
    """Drop what leaves everything open, as a causal mask does with a single query, alone or combined by ``&``."""
    if isinstance(mask, Both):
        left, right = needed(mask.left, L, S), needed(mask.right, L, S)
        if left is None or right is None:
            return right if left is None else left
    return None if isinstance(mask, Mask) and mask.opens_all(L, S) else mask


def for_scores(
    mask: Mask | Tensor,
    scores_shape: Sequence[int],
    device: torch.device,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
) -> Tensor:
    """Return a checked ``mask`` as a bool tensor with as many axes as the scores.

    Parameters
    ----------
    rows, columns: the (start, stop) of the queries and of the keys that are wanted. Default: all.
    """
    L, S = scores_shape[-2:]
    tile = Tile(L, S, rows or (0, L), columns or (0, S))
    known = isinstance(mask, Mask)
    allowed = mask._tile(tile, device) if known else mask
    allowed = allowed.reshape(_aligned(mask, tuple(allowed.shape), len(scores_shape)))
    return allowed if known else _part(allowed, tile)


def _part(tensor: Tensor, tile: Tile) -> Tensor:
    """Return a tile of a tensor (…, L|1, S|1); an axis of size 1 stands for all."""
    for axis, size, (start, stop) in ((-2, tile.L, tile.rows), (-1, tile.S, tile.columns)):
        if (start, stop) != (0, size) and tensor.shape[axis] != 1:
            tensor = tensor.narrow(axis, start, stop - start)
    return tensor


def _aligned(mask: Mask | Tensor, shape: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """Name the head axis that a tensor leaves out, or drop leading axes of size 1, to come to ``axes`` axes."""
    if len(shape) == 2:
        return (1,) * (axes - 2) + shape
    if len(shape) == axes - 1 and not isinstance(mask, Mask):
        return (*shape[:-2], 1, *shape[-2:])
    while len(shape) > axes and shape[0] == 1:
        shape = shape[1:]
    return shape


def check_bool(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a Mask or a bool tensor, got {_described(tensor)}")
    if tensor.is_floating_point():
        raise TypeError(f"{name}: expected bool, got {tensor.dtype}; to add numbers to the scores, use bias=")
    if tensor.dtype != torch.bool:
        raise TypeError(f"{name}: expected bool (True means may attend), got {tensor.dtype}")


def _is_mask(other: object) -> bool:
    """Return whether ``other`` is a Mask; where it could be made one, raise a TypeError that names the way."""
    if isinstance(other, Tensor):
        raise TypeError("masks combine with masks only: make one of a bool tensor with masks.from_tensor(tensor)")
    if isinstance(other, FunctionType):
        raise TypeError(f"masks combine with masks only, got {_described(other)}")
    return isinstance(other, Mask)


def _described(thing: object) -> str:
    if isinstance(thing, FunctionType):
        return f"the function {thing.__name__}; call it, as in masks.causal()"
    return type(thing).__name__


def _check_sizes(name: str, tensor: Tensor, L: int, S: int, axes: int) -> None:
    """Check that a (…, L, S) tensor fits; one with all ``axes`` of the scores may have 1 for L or S."""
    ones = 2 < axes <= tensor.dim()
    fits = tensor.dim() >= 2 and all(
        size == wanted or (ones and size == 1) for size, wanted in zip(tensor.shape[-2:], (L, S), strict=True)
    )
    if not fits:
        hint = "; for one length an example, use masks.padding(lengths)" if tensor.dim() <= 2 else ""
        raise ValueError(f"{name}: expected (…, L, S) = (…, {L}, {S}), got {tuple(tensor.shape)}{hint}")


# ---------------------------------------------------------------------------------------------------------------------


def _whole_numbers(name: str, values: Sequence | Tensor, hint: str = "") -> Tensor:
    tensor = torch.as_tensor(values).clone()  # copied, so that a later change in place does not change the mask
    if tensor.numel() == 0:
        tensor = tensor.long()  # an empty list has no dtype of its own
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        hint = hint if tensor.dtype == torch.bool else ""
        raise TypeError(f"{name}: expected whole numbers, got {tensor.dtype}{hint}")
    # torch compares unsigned numbers of more than 8 bits with no others.
    return tensor.long() if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor


def _largest(name: str, lengths: Tensor) -> int | None:
    """Return the largest length, or None where a tensor's numbers cannot be read: in a compiled graph, say."""
    if torch.compiler.is_compiling():
        return None
    try:
        smallest, largest = (int(x) for x in torch.aminmax(lengths))
    except RuntimeError:  # there are none: an empty batch, meta and fake tensors, those of torch.func
        return None
    if smallest < 0:
        raise ValueError(f"{name}: expected lengths of at least 0, got {smallest}")
    return largest
