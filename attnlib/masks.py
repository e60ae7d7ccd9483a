"""Who may attend to whom: what masks mean, and how they combine with ``&``, ``|`` and ``~``.

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

from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import NoReturn, final

import torch
from torch import Tensor

from attnlib.checks import whole_number

__all__ = ["Mask", "causal", "documents", "from_tensor", "keys", "padding", "prefix", "sliding_window"]

Span = tuple[int, int]  # (start, stop) of some queries, or of some keys


class Mask:
    """Who may attend to whom. Make one with the functions of this module.

    A kind of mask of your own is a subclass with one method, :meth:`allows`. It combines with all others, and every
    kernel computes it. One that looks at the example or the head also defines :meth:`shape`, which ``dense`` needs.

    >>> from attnlib import masks
    >>> class EvenKeys(masks.Mask):
    ...     def allows(self, b, h, q, k):
    ...         return k % 2 == 0
    >>> (EvenKeys() & masks.causal()).dense(3, 3).int()
    tensor([[1, 0, 0],
            [1, 0, 0],
            [1, 0, 1]], dtype=torch.int32)
    """

    def __init_subclass__(cls) -> None:
        for base in cls.__bases__:
            if base.__dict__.get("__final__"):  # the kernels know what it opens, and would not ask the subclass
                way = "make a subclass of Mask, or combine masks with &, | and ~"
                raise TypeError(f"{cls.__name__}: expected no subclass of {base.__name__}; {way}")

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """Return, pair by pair, whether a query may attend to a key, as a bool tensor.

        These are the four arguments of FlexAttention's ``mask_mod`` and of Hugging Face's mask functions.

        Args:
            b: whole numbers, the examples. All four broadcast together, as the result does.
            h: the query heads.
            q: the positions of the queries, counted in keys: row i of L stands at i + S − L.
            k: the positions of the keys, 0 … S − 1.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected a method allows(self, b, h, q, k)")

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        """Return the shape of ``dense(L, S)``, (L, S) or (B|1, H|1, L|1, S|1), without making it.

        Overridden by a kind that differs between examples or heads, and by one that is made for certain sizes.

        Raises:
            ValueError: if the mask was made for other sizes.
        """
        return (L, S)

    def dense(self, L: int, S: int, device: torch.device | str | None = None) -> Tensor:
        """Return the mask as a bool tensor that broadcasts to (B, H, L, S): True where a query may attend.

        Args:
            L: the number of queries.
            S: the number of keys; the last query stands at the last key.
            device: where the tensor is made. Default: torch's default device.

        Raises:
            ValueError: if a size is negative, the mask was made for other sizes, or it differs between examples or
                heads without a ``shape`` that says how many there are.
        """
        if L < 0 or S < 0:
            raise ValueError(f"L, S: expected sizes of at least 0, got L={L}, S={S}")
        shape = self.shape(L, S)
        device = torch.get_default_device() if device is None else torch.device(device)
        # An axis of size 1 stands for any number of examples or heads: with two of them, nothing must differ.
        examples, heads = (
            torch.zeros(2, dtype=torch.int64, device=device) if size == 1 else torch.arange(size, device=device)
            for size in ((1, 1, *shape)[-4:-2])
        )
        allowed = self._among(examples.view(-1, 1, 1, 1), heads.view(-1, 1, 1), (L, S), (0, L), (0, S))
        try:
            return allowed.reshape(allowed.shape[max(allowed.dim() - len(shape), 0) :]).expand(shape)
        except RuntimeError:
            kind, wanted = type(self).__name__, "a method shape(self, L, S), since it looks at the example or the head"
            raise ValueError(f"{kind}: expected {wanted}; it returns (B|1, H|1, L|1, S|1)") from None

    def _among(self, b: Tensor, h: Tensor, sizes: tuple[int, int], rows: Span, columns: Span) -> Tensor:
        """Return who may attend to whom among some queries and keys of (L, S).

        It broadcasts to (B, H, rows, columns). Overridden where that takes less time than :meth:`allows`.
        """
        offset, shape = sizes[1] - sizes[0], self.shape(*sizes)
        if len(shape) == 4:  # where one stands for all, it is asked about the first
            b = b[:1] if shape[0] == 1 and b.dim() else b
            h = h[:1] if shape[1] == 1 and h.dim() else h
        q = torch.arange(rows[0] + offset, rows[1] + offset, device=b.device).unsqueeze(-1)
        allowed = self.allows(b, h, q, torch.arange(*columns, device=b.device))
        if getattr(allowed, "dtype", None) != torch.bool:
            found = getattr(allowed, "dtype", type(allowed).__name__)
            raise TypeError(f"{type(self).__name__}.allows: expected a bool tensor, got {found}")
        return allowed

    def __and__(self, other: Mask) -> Mask:
        return Both(self, other) if _is_mask(other) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return Either(self, other) if _is_mask(other) else NotImplemented

    __rand__, __ror__ = __and__, __or__  # where the left operand is not a mask, so that the error is ours

    def __invert__(self) -> Mask:
        return Not(self)

    def __bool__(self) -> NoReturn:
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


def sliding_window(size: int, *, ahead: int | None = None) -> Mask:
    """A query may attend to positions less than ``size`` away, on both sides: \\|i − j\\| < size.

    This is the window of Beltagy et al. (2020, section 3.1), who write w/2 for the ``size − 1`` keys on each side.
    ``sliding_window(size) & causal()`` looks back only, at ``size`` keys, the query's own among them: what a language
    model needs (their section 4). So does ``sliding_window(size, ahead=0)``.

    Args:
        size: the number of keys up to the query's own, which is among them.
        ahead: the number of keys after it. Default: as many as before it, ``size − 1``.

    Raises:
        ValueError: if ``size`` is less than 1, or ``ahead`` less than 0.
        TypeError: if one is not a whole number.

    >>> from attnlib import masks
    >>> masks.sliding_window(2).dense(4, 4).int()
    tensor([[1, 1, 0, 0],
            [1, 1, 1, 0],
            [0, 1, 1, 1],
            [0, 0, 1, 1]], dtype=torch.int32)
    >>> masks.sliding_window(1, ahead=2).dense(4, 4).int()
    tensor([[1, 1, 1, 0],
            [0, 1, 1, 1],
            [0, 0, 1, 1],
            [0, 0, 0, 1]], dtype=torch.int32)
    """
    size = whole_number("size", size)
    return SlidingWindow(size, size - 1 if ahead is None else whole_number("ahead", ahead, at_least=0))


def keys(real: Tensor) -> Mask:
    """Which keys are real, as tokenizers say it in their ``attention_mask``; no query may attend to the others.

    The filling may stand on the left, on the right, or in between: what is closed is not computed, as under
    :func:`padding`. A (B, S) tensor given as a mask itself would be taken for (L, S).

    Args:
        real: (B, S), bool, or whole numbers that are 0 or 1; true where a key is real. With a cache, S counts all keys
            so far. Inside a compiled graph the numbers cannot be checked.

    Raises:
        ValueError: if it has another shape, or holds other numbers; on use, if it is not S long.
        TypeError: if it is not a tensor of bools or whole numbers.

    >>> import torch
    >>> from attnlib import masks
    >>> left_padded = torch.tensor([[1, 1, 1], [0, 0, 1]])
    >>> (masks.keys(left_padded) & masks.causal()).dense(3, 3)[1, 0].int()
    tensor([[0, 0, 0],
            [0, 0, 0],
            [0, 0, 1]], dtype=torch.int32)
    """
    if not isinstance(real, Tensor):
        raise TypeError(f"real: expected a tensor, got {type(real).__name__}")
    if real.dim() != 2:
        raise ValueError(f"real: expected (B, S), got {tuple(real.shape)}")
    if real.dtype == torch.bool:
        return Keys(real.clone())
    if real.is_floating_point() or real.is_complex():
        raise TypeError(f"real: expected bools, or whole numbers that are 0 or 1, got {real.dtype}; use .bool()")
    found = _smallest_and_largest(_whole_numbers("real", real))
    if found is not None and not 0 <= found[0] <= found[1] <= 1:
        raise ValueError(f"real: expected numbers that are 0 or 1, got {found[0]} to {found[1]}")
    return Keys(real.bool())


def padding(lengths: Sequence[int] | Tensor) -> Mask:
    """In example b only the first ``lengths[b]`` keys are real; no query may attend to the rest.

    For filling on the left give ``~padding(missing)``, which stays the same as a cache grows, or :func:`keys`.

    Args:
        lengths: B whole numbers, at least 0 and at most S. Inside a compiled graph they cannot be checked.

    Raises:
        ValueError: if ``lengths`` is not one row of numbers ≥ 0; on use, if one is over S.
        TypeError: if one is not whole.

    >>> from attnlib import masks
    >>> masks.padding([3, 1]).dense(3, 3).int()[:, 0, 0]
    tensor([[1, 1, 1],
            [1, 0, 0]], dtype=torch.int32)
    """
    of_keys = "; for a mask of keys (B, S), true where a key is real, use masks.keys(…)"
    checked = _whole_numbers("lengths", lengths, hint=of_keys)
    if checked.dim() != 1:
        hint = of_keys if checked.dim() == 2 else ""
        raise ValueError(f"lengths: expected one length for each example, shape (B,), got {tuple(checked.shape)}{hint}")
    return Padding(checked, _longest("lengths", checked))


def documents(
    ids: Sequence[int] | Sequence[Sequence[int]] | Tensor | None = None,
    *,
    lengths: Sequence[int] | Tensor | None = None,
) -> Mask:
    """Several documents packed in one row: a query may attend to the keys of its own document only.

    With fewer queries than keys, the queries are the last ones of the row.

    Args:
        ids: whole numbers of shape (S,), or (B, S) if the examples are packed differently; equal ids, same document.
        lengths: instead of ids, how long each document is, one after another. Of cumulative lengths (0, …, S), as
            variable-length kernels take them, ``cumulative.diff()``.

    Raises:
        ValueError: if ``ids`` has another shape, ``lengths`` is not one row of numbers ≥ 0, or not exactly one of them
            is given; on use, if they are not of S keys.
        TypeError: if the numbers are not whole.

    >>> from attnlib import masks
    >>> masks.documents([7, 7, 8]).dense(3, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [0, 0, 1]], dtype=torch.int32)
    >>> masks.documents(lengths=[2, 1]).dense(3, 3).equal(masks.documents([7, 7, 8]).dense(3, 3))
    True
    """
    if ids is not None and lengths is None:
        checked = _whole_numbers("ids", ids)
        if checked.dim() not in (1, 2):
            raise ValueError(f"ids: expected shape (S,) or (B, S), got {tuple(checked.shape)}")
        return Documents(checked)
    if ids is not None or lengths is None:
        raise ValueError(f"ids: expected either ids or lengths, got {'neither' if ids is None else 'both'}")
    each = _whole_numbers("lengths", lengths)
    if each.dim() != 1:
        raise ValueError(f"lengths: expected one length for each document, got {tuple(each.shape)}")
    _longest("lengths", each)
    return Documents(torch.arange(len(each), device=each.device).repeat_interleave(each.long()))


def prefix(length: int) -> Mask:
    """Every query may attend to the first ``length`` keys, and to no other.

    ``prefix(length) | causal()`` is the prefix language model's mask (Raffel et al., 2020, section 3.2.1).

    Args:
        length: the number of keys that are open.

    Raises:
        ValueError: if ``length`` is less than 1; on use, if it is over S.
        TypeError: if it is not a whole number.

    >>> from attnlib import masks
    >>> (masks.prefix(2) | masks.causal()).dense(3, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return Prefix(whole_number("length", length))


def from_tensor(tensor: Tensor) -> Mask:
    """A mask given pair by pair, to combine with others.

    Args:
        tensor: bool, True where a query may attend; shape (L, S), (B, L, S) or (B|1, H|1, L|1, S|1).

    Raises:
        TypeError: if ``tensor`` is not a bool tensor.
        ValueError: if it has other axes, or, on use, other sizes.

    >>> import torch
    >>> from attnlib import masks
    >>> (masks.from_tensor(torch.tensor([[True, True]])) & ~masks.prefix(1)).dense(1, 2)
    tensor([[False,  True]])
    """
    check_bool("tensor", tensor)
    if tensor.dim() not in (2, 3, 4):
        raise ValueError(f"tensor: expected shape (L, S), (B, L, S) or (B, H, L, S), got {tuple(tensor.shape)}")
    return FromTensor(tensor.clone())  # copied, so that a later change in place does not change the mask


# ---------------------------------------------------------------------------------------------------------------------
# The kinds


@final
@dataclass(frozen=True, eq=False)
class Causal(Mask):
    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k <= q


@final
@dataclass(frozen=True, eq=False)
class SlidingWindow(Mask):
    size: int
    ahead: int

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q - k < self.size) & (k - q <= self.ahead)


@final
@dataclass(frozen=True, eq=False)
class Padding(Mask):
    lengths: Tensor
    longest: int | None  # None where it cannot be read

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        lengths = self.lengths.to(k.device)
        return k < (lengths[0] if lengths.shape[0] == 1 else lengths[b])

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        if self.longest is not None and self.longest > S:
            raise ValueError(f"lengths: expected at most S={S} keys, got a length of {self.longest}")
        return (self.lengths.shape[0], 1, 1, S)

    def _among(self, b: Tensor, h: Tensor, sizes: tuple[int, int], rows: Span, columns: Span) -> Tensor:
        k = torch.arange(*columns, device=b.device)  # by itself: the filling on the left may be longer than S so far
        return self.allows(b, h, k, k)


@final
@dataclass(frozen=True, eq=False)
class Keys(Mask):
    real: Tensor

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        real = self.real.to(k.device)
        return real[0, k] if real.shape[0] == 1 else real[b, k]

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        if self.real.shape[-1] != S:
            raise ValueError(f"real: expected one value for each of S={S} keys, got {self.real.shape[-1]}")
        return (self.real.shape[0], 1, 1, S)


@final
@dataclass(frozen=True, eq=False)
class Documents(Mask):
    ids: Tensor

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        ids = self.ids.to(k.device)
        if ids.dim() == 2 and ids.shape[0] != 1:
            return ids[b, q] == ids[b, k]
        ids = ids.flatten()
        return ids[q] == ids[k]

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        if self.ids.shape[-1] != S:
            raise ValueError(f"ids: expected one id for each of S={S} keys, got {self.ids.shape[-1]}")
        if L > S:
            raise ValueError(f"ids: the queries are the last keys, so L must be at most S={S}, got L={L}")
        return (L, S) if self.ids.dim() == 1 else (self.ids.shape[0], 1, L, S)


@final
@dataclass(frozen=True, eq=False)
class Prefix(Mask):
    length: int

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k < self.length

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        if self.length > S:
            raise ValueError(f"length: expected a prefix of at most S={S} keys, got {self.length}")
        return (L, S)


@final
@dataclass(frozen=True, eq=False)
class FromTensor(Mask):
    tensor: Tensor  # (L, S), (B, L, S), or (…, H|1, L|1, S|1)

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        tensor = self._with_heads().to(k.device)
        B, H, L, S = (1,) * (4 - tensor.dim()) + tuple(tensor.shape)
        if S == 1 and L > 1:
            raise ValueError(f"tensor: expected S columns, to know where the rows stand, got {tuple(tensor.shape)}")
        at = (0 * b if B == 1 else b, 0 * h if H == 1 else h, 0 * q if L == 1 else q - (S - L), 0 * k if S == 1 else k)
        return tensor[at[4 - tensor.dim() :]]

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        check_pairs("tensor", self.tensor, L, S, axes=4)
        return tuple(self._with_heads().shape)

    def _with_heads(self) -> Tensor:
        return self.tensor.unsqueeze(1) if self.tensor.dim() == 3 else self.tensor

    def _among(self, b: Tensor, h: Tensor, sizes: tuple[int, int], rows: Span, columns: Span) -> Tensor:
        tensor = self._with_heads()
        for axis, size, (start, stop) in ((-2, sizes[0], rows), (-1, sizes[1], columns)):
            if (start, stop) != (0, size) and tensor.shape[axis] != 1:
                tensor = tensor.narrow(axis, start, stop - start)
        return tensor.to(b.device)


@dataclass(frozen=True, eq=False)
class _Pair(Mask):
    left: Mask
    right: Mask

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        raise NotImplementedError

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.combine(self.left.allows(b, h, q, k), self.right.allows(b, h, q, k))

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        left, right = self.left.shape(L, S), self.right.shape(L, S)
        # By hand: torch.broadcast_shapes takes longer than all other checks together.
        axes = max(len(left), len(right))
        sizes = [(1,) * (axes - len(shape)) + shape for shape in (left, right)]
        pairs = list(zip(*sizes, strict=True))
        if any(a != b and a != 1 and b != 1 for a, b in pairs):
            raise ValueError(f"mask: masks of shape {left} and {right} do not combine")
        return tuple(b if a == 1 else a for a, b in pairs)

    def _among(self, b: Tensor, h: Tensor, sizes: tuple[int, int], rows: Span, columns: Span) -> Tensor:
        left, right = (mask._among(b, h, sizes, rows, columns) for mask in (self.left, self.right))
        return self.combine(left, right)


@final
class Both(_Pair):
    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left & right


@final
class Either(_Pair):
    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left | right


@final
@dataclass(frozen=True, eq=False)
class Not(Mask):
    mask: Mask

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return ~self.mask.allows(b, h, q, k)

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        if isinstance(self.mask, Padding):  # filling on the left, of which a first chunk of the prompt may be part
            return (self.mask.lengths.shape[0], 1, 1, S)
        return self.mask.shape(L, S)

    def _among(self, b: Tensor, h: Tensor, sizes: tuple[int, int], rows: Span, columns: Span) -> Tensor:
        return ~self.mask._among(b, h, sizes, rows, columns)


@final
@dataclass(frozen=True, eq=False)
class LastKeys(Mask):
    """A mask of all keys, of which the first ones are no longer there."""

    mask: Mask
    first: int

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.mask.allows(b, h, q + self.first, k + self.first)

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        *axes, columns = self.mask.shape(L, S + self.first)
        return (*axes, 1 if columns == 1 else S)

    def _among(self, b: Tensor, h: Tensor, sizes: tuple[int, int], rows: Span, columns: Span) -> Tensor:
        (L, S), (start, stop) = sizes, columns
        return self.mask._among(b, h, (L, S + self.first), rows, (start + self.first, stop + self.first))


# ---------------------------------------------------------------------------------------------------------------------
# Checks


def check_bool(name: str, tensor: Tensor) -> None:
    """Check that ``tensor`` is a bool tensor."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a Mask or a bool tensor, got {_described(tensor)}")
    if tensor.is_floating_point():
        raise TypeError(f"{name}: expected bool, got {tensor.dtype}; to add numbers to the scores, use bias=")
    if tensor.dtype != torch.bool:
        way = "; for a tokenizer's attention_mask, (B, S), use masks.keys(…)" if tensor.dim() == 2 else ""
        raise TypeError(f"{name}: expected bool (True means may attend), got {tensor.dtype}{way}")


def check_pairs(name: str, tensor: Tensor, L: int, S: int, axes: int) -> None:
    """Check that a (…, L, S) tensor fits; one with all ``axes`` of the scores may have 1 for L or S."""
    ones = 2 < axes <= tensor.dim()
    fits = tensor.dim() >= 2 and all(
        size == wanted or (ones and size == 1) for size, wanted in zip(tensor.shape[-2:], (L, S), strict=True)
    )
    if not fits:
        hint = "; for a mask of keys, (B, S), use masks.keys(…)" if tensor.dim() <= 2 else ""
        raise ValueError(f"{name}: expected (…, L, S) = (…, {L}, {S}), got {tuple(tensor.shape)}{hint}")


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


def _whole_numbers(name: str, values: Sequence | Tensor, hint: str = "") -> Tensor:
    tensor = torch.as_tensor(values).clone()  # copied, so that a later change in place does not change the mask
    if tensor.numel() == 0:
        tensor = tensor.long()  # an empty list has no dtype of its own
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        hint = hint if tensor.dtype == torch.bool else ""
        raise TypeError(f"{name}: expected whole numbers, got {tensor.dtype}{hint}")
    # torch compares unsigned numbers of more than 8 bits with no others.
    return tensor.long() if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor


def _longest(name: str, lengths: Tensor) -> int | None:
    """Return the longest length, or None where a tensor cannot be read."""
    found = _smallest_and_largest(lengths)
    if found is not None and found[0] < 0:
        raise ValueError(f"{name}: expected lengths of at least 0, got {found[0]}")
    return None if found is None else found[1]


def _smallest_and_largest(numbers: Tensor) -> tuple[int, int] | None:
    """Return the smallest and the largest number, or None where a tensor cannot be read: in a compiled graph, say."""
    if torch.compiler.is_compiling():
        return None
    try:
        smallest, largest = (int(x) for x in torch.aminmax(numbers))
    except RuntimeError:  # there are none: an empty batch, meta and fake tensors, those of torch.func
        return None
    return smallest, largest
