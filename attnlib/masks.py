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

>>> mask = causal() & padding([3, 2])
>>> mask.dense(3, 3)[1, 0].int()
tensor([[1, 0, 0],
        [1, 1, 0],
        [1, 1, 0]], dtype=torch.int32)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnlib.checks import whole_number

__all__ = ["Mask", "causal", "documents", "from_tensor", "padding", "prefix", "sliding_window"]


class Mask:
    """What every mask can do. Make one with the functions of this module.

    A new kind of mask defines ``_dense``, and ``shape`` if that is not (L, S).
    """

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        """Return the shape of ``dense(L, S)``, (L, S) or (B|1, H|1, L|1, S|1), without making it.

        Raises
        ------
        ValueError: if the mask was made for other sizes.
        """
        return (L, S)

    def _dense(self, L: int, S: int, device: torch.device | str) -> Tensor:
        raise NotImplementedError

    def dense(self, L: int, S: int, device: torch.device | str | None = None) -> Tensor:
        """Return the mask as a bool tensor that broadcasts to (B, H, L, S): True where a query may attend.

        Parameters
        ----------
        L: the number of queries.
        S: the number of keys; the last query stands at the last key.
        device: where the tensor is made; torch's default device unless given.

        Raises
        ------
        ValueError: if a size is negative, or the mask was made for other sizes.
        """
        if L < 0 or S < 0:
            raise ValueError(f"L, S: expected sizes of at least 0, got L={L}, S={S}")
        self.shape(L, S)
        return self._dense(L, S, torch.get_default_device() if device is None else device)

    def opens_all(self, L: int, S: int) -> bool:
        """Say whether every query may attend to every key, where that is known without looking at the pairs."""
        return False

    def __and__(self, other: Mask) -> Mask:
        return Both(self, other) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return Either(self, other) if isinstance(other, Mask) else NotImplemented

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

    >>> causal().dense(2, 4).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 1, 1]], dtype=torch.int32)
    """
    return Causal()


def sliding_window(size: int) -> Mask:
    """A query may attend to positions less than ``size`` away, on both sides: \\|i − j\\| < size.

    ``sliding_window(size) & causal()`` looks back only: at ``size`` keys, the query's own among them
    (Beltagy et al., 2020, section 3.1).

    >>> sliding_window(2).dense(4, 4).int()
    tensor([[1, 1, 0, 0],
            [1, 1, 1, 0],
            [0, 1, 1, 1],
            [0, 0, 1, 1]], dtype=torch.int32)

    Raises
    ------
    ValueError: if ``size`` is less than 1.
    TypeError: if it is no whole number.
    """
    return SlidingWindow(whole_number("size", size))


def padding(lengths: Sequence[int] | Tensor) -> Mask:
    """In example b only the first ``lengths[b]`` keys are real; no query may attend to the rest.

    Parameters
    ----------
    lengths: B whole numbers, at least 0 and at most S. Inside a compiled graph they cannot be checked.

    >>> padding([3, 1]).dense(3, 3).int()[:, 0, 0]
    tensor([[1, 1, 1],
            [1, 0, 0]], dtype=torch.int32)

    Raises
    ------
    ValueError: if ``lengths`` is not one row of numbers ≥ 0; on use, if one is over S.
    TypeError: if one is not whole.
    """
    lengths = _whole_numbers("lengths", lengths)
    if lengths.dim() != 1:
        raise ValueError(f"lengths: expected one length for each example, shape (B,), got {tuple(lengths.shape)}")
    return Padding(lengths, _largest("lengths", lengths))


def documents(ids: Sequence[int] | Sequence[Sequence[int]] | Tensor) -> Mask:
    """Several documents packed in one row: a query may attend to the keys of its own document only.

    With fewer queries than keys, the queries are the last ones of the row.

    Parameters
    ----------
    ids: whole numbers of shape (S,), or (B, S) if the examples are packed differently; equal ids, same document.

    >>> documents([7, 7, 8]).dense(3, 3).int()
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

    >>> (prefix(2) | causal()).dense(3, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)

    Raises
    ------
    ValueError: if ``length`` is less than 1; on use, if it is over S.
    TypeError: if it is no whole number.
    """
    return Prefix(whole_number("length", length))


def from_tensor(tensor: Tensor) -> Mask:
    """A mask given pair by pair, to combine with others.

    Parameters
    ----------
    tensor: bool, True where a query may attend; shape (L, S), (B, L, S) or (B|1, H|1, L|1, S|1).

    >>> (from_tensor(torch.tensor([[True, True]])) & ~prefix(1)).dense(1, 2)
    tensor([[False,  True]])

    Raises
    ------
    TypeError: if ``tensor`` is not a bool tensor.
    ValueError: if it has other axes, or, on use, other sizes.
    """
    check_bool("tensor", tensor)
    if tensor.dim() not in (2, 3, 4):
        raise ValueError(f"tensor: expected shape (L, S), (B, L, S) or (B, H, L, S), got {tuple(tensor.shape)}")
    return Given(tensor)


# ---------------------------------------------------------------------------------------------------------------------
# The masks


@dataclass(frozen=True, eq=False)
class Causal(Mask):
    def _dense(self, L, S, device):
        query, key = _positions(L, S, device)
        return key <= query

    def opens_all(self, L, S):
        return bool(L == 1)

    def reaches(self, marked, L):
        """:func:`reached`, without the L × S pairs: query i sees all keys up to its own, so a running "any" will do."""
        S = marked.shape[-1]
        seen = marked.cumsum(-1) > 0
        none_before = seen.new_zeros(*seen.shape[:-1], max(L - S, 0))
        return torch.cat([none_before, seen[..., max(S - L, 0) :]], dim=-1).unsqueeze(-1)


@dataclass(frozen=True, eq=False)
class SlidingWindow(Mask):
    size: int

    def _dense(self, L, S, device):
        query, key = _positions(L, S, device)
        return (query - key).abs() < self.size


@dataclass(frozen=True, eq=False)
class Padding(Mask):
    lengths: Tensor
    longest: int | None

    def shape(self, L, S):
        if self.longest is not None and self.longest > S:
            raise ValueError(f"lengths: expected at most S={S} keys, got a length of {self.longest}")
        return (self.lengths.shape[0], 1, 1, S)

    def _dense(self, L, S, device):
        lengths = self.lengths.to(device)
        key = torch.arange(S, device=lengths.device)
        return (key < lengths[:, None])[:, None, None, :]


@dataclass(frozen=True, eq=False)
class Documents(Mask):
    ids: Tensor

    def shape(self, L, S):
        if self.ids.shape[-1] != S:
            raise ValueError(f"ids: expected one id for each of S={S} keys, got {self.ids.shape[-1]}")
        if L > S:
            raise ValueError(f"ids: the queries are the last keys, so L must be at most S={S}, got L={L}")
        return (L, S) if self.ids.dim() == 1 else (self.ids.shape[0], 1, L, S)

    def _dense(self, L, S, device):
        ids = self.ids.to(device)
        same = ids[..., S - L :, None] == ids[..., None, :]
        return same if ids.dim() == 1 else same[:, None]


@dataclass(frozen=True, eq=False)
class Prefix(Mask):
    length: int

    def shape(self, L, S):
        if self.length > S:
            raise ValueError(f"length: expected a prefix of at most S={S} keys, got {self.length}")
        return (L, S)

    def _dense(self, L, S, device):
        return (torch.arange(S, device=device) < self.length).expand(L, S)


@dataclass(frozen=True, eq=False)
class Given(Mask):
    tensor: Tensor

    def shape(self, L, S):
        _check_sizes("tensor", self.tensor, L, S, axes=4)
        return tuple(self._with_heads().shape)

    def _dense(self, L, S, device):
        return self._with_heads().to(device)

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


class Both(_Pair):
    def _dense(self, L, S, device):
        return self.left._dense(L, S, device) & self.right._dense(L, S, device)


class Either(_Pair):
    def _dense(self, L, S, device):
        return self.left._dense(L, S, device) | self.right._dense(L, S, device)


@dataclass(frozen=True, eq=False)
class Not(Mask):
    mask: Mask

    def shape(self, L, S):
        return self.mask.shape(L, S)

    def _dense(self, L, S, device):
        return ~self.mask._dense(L, S, device)


# ---------------------------------------------------------------------------------------------------------------------
# From a mask to the shape of the scores


def check(mask: Mask | Tensor, scores_shape: Sequence[int]) -> None:
    """Hold that ``mask`` broadcasts to scores (…, H, L, S), and no further.

    A tensor has the axes (L, S), all axes of the scores, or all but the head axis. Nothing else is accepted: a (B, S)
    tensor is never taken for (L, S).

    Raises
    ------
    TypeError: if ``mask`` is neither a Mask nor a bool tensor.
    ValueError: if it does not fit.
    """
    L, S = scores_shape[-2:]
    if isinstance(mask, Mask):
        shape = mask.shape(L, S)
    else:
        check_bool("mask", mask)
        _check_sizes("mask", mask, L, S, axes=len(scores_shape))
        shape = tuple(mask.shape)
    aligned = _aligned(mask, shape, len(scores_shape))
    if len(aligned) != len(scores_shape) or any(
        size not in (1, wanted) for size, wanted in zip(aligned, scores_shape, strict=True)
    ):
        wanted = f"(L, S) = {(L, S)}" + f" or one that broadcasts to {tuple(scores_shape)}" * (len(scores_shape) > 2)
        raise ValueError(f"mask: expected shape {wanted}, got {shape}")


def for_scores(mask: Mask | Tensor, scores_shape: Sequence[int], device: torch.device) -> Tensor:
    """Return a checked ``mask`` as a bool tensor with as many axes as the scores."""
    allowed = mask._dense(*scores_shape[-2:], device) if isinstance(mask, Mask) else mask
    return allowed.reshape(_aligned(mask, tuple(allowed.shape), len(scores_shape)))


def _aligned(mask: Mask | Tensor, shape: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """Name the head axis that a tensor leaves out, or drop leading axes of size 1, to come to ``axes`` axes."""
    if len(shape) == 2:
        return (1,) * (axes - 2) + shape
    if len(shape) == axes - 1 and not isinstance(mask, Mask):
        return (*shape[:-2], 1, *shape[-2:])
    while len(shape) > axes and shape[0] == 1:
        shape = shape[1:]
    return shape


def reached(allowed: Tensor, marked: Tensor) -> Tensor:
    """Say which queries may attend to a marked key: bool (…, H|1, L|1, S|1) and (…, H, S) → bool (…, H, L|1, 1).

    By a product of matrices, because a comparison pair by pair would store (…, H, L, S).
    """
    allowed = allowed.expand(*allowed.shape[:-1], marked.shape[-1]).float()
    if allowed.dim() > 2 and allowed.shape[-3] == 1:  # one mask for all heads: the heads are the columns
        return (allowed.squeeze(-3) @ marked.float().mT > 0).mT.unsqueeze(-1)
    return allowed @ marked.float().unsqueeze(-1) > 0


def check_bool(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a Mask or a bool tensor, got {type(tensor).__name__}")
    if tensor.is_floating_point():
        raise TypeError(f"{name}: expected bool, got {tensor.dtype}; to add numbers to the scores, use bias=")
    if tensor.dtype != torch.bool:
        raise TypeError(f"{name}: expected bool (True means may attend), got {tensor.dtype}")


def _check_sizes(name: str, tensor: Tensor, L: int, S: int, axes: int) -> None:
    """Hold that a (…, L, S) tensor fits; one with all ``axes`` of the scores may have 1 for L or S."""
    ones = 2 < axes <= tensor.dim()
    fits = tensor.dim() >= 2 and all(
        size == wanted or (ones and size == 1) for size, wanted in zip(tensor.shape[-2:], (L, S), strict=True)
    )
    if not fits:
        hint = "; for one length an example, use masks.padding(lengths)" if tensor.dim() <= 2 else ""
        raise ValueError(f"{name}: expected (…, L, S) = (…, {L}, {S}), got {tuple(tensor.shape)}{hint}")


# ---------------------------------------------------------------------------------------------------------------------


def _positions(L: int, S: int, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """Return the queries' positions (L, 1) and the keys' (1, S), counted in keys."""
    return torch.arange(S - L, S, device=device)[:, None], torch.arange(S, device=device)[None, :]


def _whole_numbers(name: str, values: Sequence | Tensor) -> Tensor:
    tensor = torch.as_tensor(values)
    if tensor.numel() == 0:
        tensor = tensor.long()  # an empty list has no dtype of its own
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: expected whole numbers, got {tensor.dtype}")
    return tensor


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
