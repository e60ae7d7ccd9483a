"""Where a token stands: attention itself does not know.

=======================  ======================  ======================================
encoding                 acts on                 after the n = ``len(cache)`` tokens of
                                                 a cache, positions continue
=======================  ======================  ======================================
:func:`sinusoidal`       the tokens: added       ``sinusoidal(L, d_model, offset=n)``
:class:`Learned`         the tokens: added       ``learned(L, offset=n)``
:class:`Rotary`          queries, keys: turned   by themselves, in MultiHeadAttention
:class:`ALiBi`           the scores: ``bias=``   by themselves: it counts distances
:class:`T5RelativeBias`  the scores: ``bias=``   ``relative(L, n + L)``
=======================  ======================  ======================================

>>> from attnlib.positions import sinusoidal
>>> sinusoidal(2, 4)
tensor([[0.0000, 1.0000, 0.0000, 1.0000],
        [0.8415, 0.5403, 0.0100, 0.9999]])

Where tokens do not stand at ``offset``, ``offset + 1``, …, the first three take ``positions=`` in its place, whole
numbers (B, L), or (L,) for all examples: packed documents that are each counted from 0, prompts that are padded on the
left, tokens missing in the middle. Of rotary positions only differences count, so they need it for the last alone.

>>> import torch
>>> real = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])  # the first of two prompts is padded on the left
>>> positions = (real.cumsum(dim=1) - 1).clamp(min=0)
>>> positions
tensor([[0, 0, 0, 1, 2],
        [0, 1, 2, 3, 4]])
>>> sinusoidal(5, 8, positions=positions).shape
torch.Size([2, 5, 8])
"""

import copy
import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.biases import ByDistance, spread
from attnlib.checks import finite_number, positive_number, whole_number
from attnlib.modes import is_plain
from attnlib.rope_scaling import NTK, Llama3, Scaling, YaRN

__all__ = [
    "NTK", "ALiBi", "Learned", "Llama3", "Rotary", "T5RelativeBias", "YaRN", "alibi", "alibi_slopes", "sinusoidal",
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Added to the tokens


def sinusoidal(
    length: int,
    d_model: int,
    *,
    offset: int = 0,
    positions: Tensor | None = None,
    base: float = 10_000.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the sinusoidal position encoding (length, d_model), to be added to the tokens.

    Pairs of columns turn at speeds that fall from 1 to nearly 1/base radians a position
    (Vaswani et al., 2017, section 3.5)::

        PE[pos, 2i]     = sin(pos / base^(2i/d_model))
        PE[pos, 2i + 1] = cos(pos / base^(2i/d_model))

    An odd d_model ends with a sine.

    Args:
        length: the number of positions.
        d_model: the size of the tokens.
        offset: the position of the first row; with a cache, ``len(cache)``.
        positions: (length,) or (B, length), where each row stands, in the place of ``offset``; of (B, length) the
            encoding is (B, length, d_model).
        base: the slowest pair turns at nearly 1/base radians a position.
        device: where the tensor is made. Default: that of ``positions``, or torch's default device.
        dtype: that of the tensor. Default: torch's default dtype. The angles are computed in float64.

    Raises:
        ValueError: if a size is less than 1, ``offset`` is negative or stands beside ``positions``, these have another
            length, or ``base`` is not finite and above 0.
        TypeError: if a size, ``offset`` or one of ``positions`` is not a whole number, or ``base`` is not a number.

    >>> import torch
    >>> from attnlib.positions import sinusoidal
    >>> sinusoidal(3, 5).shape
    torch.Size([3, 5])
    >>> torch.equal(sinusoidal(1, 5, offset=2), sinusoidal(3, 5)[2:])
    True
    """
    length, d_model = whole_number("length", length), whole_number("d_model", d_model)
    offset = _checked_offset(offset, positions, at_least=0)
    if positions is not None:
        check_positions(positions, length)
    positive_number("base", base)
    if positions is not None and device is None:
        device = positions.device
    device = torch.empty(0, device=device).device  # torch.get_default_device() cannot be compiled
    places = _range(offset, length, device) if positions is None else positions
    pairs = torch.arange(0, d_model, 2, dtype=torch.float64, device=_with_float64(device))
    angles = _angles(places, base ** (-pairs / d_model))
    encoding = _join_pairs(angles.sin(), angles.cos(), "interleaved")[..., :d_model]
    return encoding.to(device, dtype or torch.get_default_dtype())


class Learned(nn.Module):
    """Learned positions: a vector for each, to be added to the tokens.

    The equation is a look-up (Gehring et al., 2017, section 3.1; Vaswani et al., 2017, table 3, row E; Devlin et al.,
    2019)::

        x[pos] = token[pos] + W[pos]        W: (max_length, d_model), learned

    Unlike the other encodings, the table ends: the model knows no position beyond it.

    Args:
        max_length: the number of positions.
        d_model: the size of the tokens.

    Attributes:
        weight: W, drawn from N(0, 0.02²), as Hugging Face draws those of BERT and GPT-2.

    Raises:
        ValueError: if a size is less than 1.
        TypeError: if a size is not a whole number.

    >>> import torch
    >>> from attnlib.positions import Learned
    >>> learned = Learned(max_length=8, d_model=4)
    >>> learned(3).shape
    torch.Size([3, 4])
    >>> torch.equal(learned(1, offset=2), learned(3)[2:])
    True
    """

    def __init__(self, max_length: int, d_model: int):
        super().__init__()
        self.max_length, self.d_model = whole_number("max_length", max_length), whole_number("d_model", d_model)
        self.weight = nn.Parameter(torch.empty(self.max_length, self.d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new table."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, length: int, offset: int = 0, *, positions: Tensor | None = None) -> Tensor:
        """Return the vectors (length, d_model) of the positions from ``offset`` on; with a cache, ``len(cache)``.

        Args:
            length: the number of positions.
            offset: the first of them.
            positions: (length,) or (B, length), which they are, in the place of ``offset``; the vectors of (B, length)
                are (B, length, d_model).

        Raises:
            ValueError: if ``length`` is less than 1, ``offset`` is negative or stands beside ``positions``, these have
                another length or device, or a position is not in the table.
            TypeError: if one is not a whole number.
        """
        length, offset = whole_number("length", length), _checked_offset(offset, positions, at_least=0)
        if positions is not None:
            check_positions(positions, length, device=self.weight.device)
            # Reading elements would synchronise with a GPU.
            if positions.numel() and positions.is_cpu and is_plain(positions):
                first, last = _ends(positions)
                if first < 0 or last >= self.max_length:
                    wrong = first if first < 0 else last
                    raise ValueError(f"positions: expected numbers from 0 to {self.max_length - 1}, got {wrong}")
            return F.embedding(positions, self.weight)
        if offset + length > self.max_length:
            raise ValueError(
                f"length: expected offset + length of at most max_length={self.max_length}, got "
                f"{offset} + {length}; a learned table knows no further position"
            )
        return self.weight[offset : offset + length]

    def extra_repr(self) -> str:
        return f"max_length={self.max_length}, d_model={self.d_model}"


# ---------------------------------------------------------------------------------------------------------------------
# Queries and keys are turned


class Rotary(nn.Module):
    """Rotary positions: turn each pair of columns of queries and keys by an angle that grows with the position.

    Pair i of the token at ``pos`` turns by an angle θ, (a, b) being the pair (Su et al., 2024, equations 14–16
    and 34)::

        θ  = pos · base^(−2i/d_k)
        a' = a·cos θ − b·sin θ
        b' = b·cos θ + a·sin θ

    The score of a query at m and a key at n then depends on m − n alone. Two layouts of the pairs are in use; weights
    that were trained with one give nonsense with the other::

        d_k = 6          columns    0 1 2 3 4 5
        half-split       pair       0 1 2 0 1 2        i with i + d_k/2: GPT-NeoX, Hugging Face's Llama
        interleaved      pair       0 0 1 1 2 2        neighbours: the paper, GPT-J, Meta's Llama

    Its settings stay: for others, make a new one.

    Args:
        d_k: the size of a query and of a key in each head.
        base: the slowest pair turns at nearly 1/base radians a position.
        scaling: what positions are divided by, so that a model reads texts that many times longer than it was trained
            on: position interpolation (Chen et al., 2023, equation 4), Hugging Face's ``"linear"`` factor. Or a rule
            that slows some pairs more than others: :class:`NTK`, :class:`YaRN`, :class:`Llama3`.
        layout: ``"half-split"`` or ``"interleaved"``.
        columns: how many columns turn, the first ones; the others stay as they are, as in GPT-NeoX and Phi: Hugging
            Face's ``partial_rotary_factor`` times d_k. Their number stands for d_k in the equations. Default: all.
        speeds: radians a position, one number for each pair, in the place of ``base`` and ``scaling``: Hugging Face's
            ``inv_freq``. They do not learn.
        attention_factor: what queries and keys are multiplied with as they are turned. Default: what ``scaling`` says,
            as YaRN does; else 1.

    Raises:
        ValueError: if the columns that turn are odd or more than ``d_k``, ``base``, ``scaling`` or
            ``attention_factor`` is not finite and above 0, ``layout`` is another, ``speeds`` do not fit or stand
            beside ``base`` or ``scaling``, or a rule returns other than a finite speed for each pair.
        TypeError: if a size is not a whole number, or another argument is not a number.

    >>> import torch
    >>> from attnlib.positions import Rotary
    >>> rotary = Rotary(d_k=2)
    >>> rotary(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([[1.0000, 0.0000],
            [0.5403, 0.8415]])
    """

    _MADE_WITH = ("d_k", "base", "scaling", "layout", "columns", "speeds", "attention_factor")

    def __init__(
        self,
        d_k: int,
        *,
        base: float = 10_000.0,
        scaling: float | Scaling = 1.0,
        layout: str = "half-split",
        columns: int | None = None,
        speeds: Sequence[float] | Tensor | None = None,
        attention_factor: float | None = None,
    ):
        super().__init__()
        d_k = whole_number("d_k", d_k)
        columns, name = (d_k, "d_k") if columns is None else (whole_number("columns", columns), "columns")
        if columns % 2 or columns > d_k:
            wanted = "an even number of at least 2" if name == "d_k" else f"an even number of at most d_k = {d_k}"
            raise ValueError(f"{name}: expected {wanted}, got {columns}")
        positive_number("base", base)
        if not isinstance(scaling, Real | Scaling):
            found = type(scaling).__name__
            raise TypeError(f"scaling: expected a number, or a rule such as Llama3(…), YaRN(…) or NTK(…), got {found}")
        if not isinstance(scaling, Scaling):
            positive_number("scaling", scaling)
        if layout not in ("half-split", "interleaved"):
            raise ValueError(f"layout: expected 'half-split' or 'interleaved', got {layout!r}")
        if speeds is not None and (base, scaling) != (10_000.0, 1.0):
            raise ValueError("speeds: expected none beside base or scaling, which they take the place of")
        if attention_factor is not None:
            positive_number("attention_factor", attention_factor)
        self.d_k, self.base, self.scaling, self.layout, self.columns = d_k, base, scaling, layout, columns
        self.speeds = None if speeds is None else _checked_speeds(speeds, columns // 2)
        self.attention_factor = attention_factor
        pairs = np.arange(columns // 2, dtype=np.float64)
        if self.speeds is not None:
            turning, stretch, factor = self.speeds, 1.0, 1.0
        elif isinstance(scaling, Scaling):
            turning, stretch, factor = _speeds_of_rule(scaling, pairs, base), 1.0, scaling.attention_factor
            positive_number("scaling.attention_factor", factor)
        else:
            turning, stretch, factor = tuple((base ** (-pairs / len(pairs))).tolist()), scaling, 1.0
        self._rule = copy.deepcopy(scaling) if isinstance(scaling, Scaling) else None
        self._turns = _Turns(turning, stretch, factor if attention_factor is None else attention_factor, layout)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_turns" in self.__dict__ and name in self._MADE_WITH:
            raise AttributeError(f"{name}: expected what the Rotary was made with; make a new one")
        super().__setattr__(name, value)

    def forward(self, x: Tensor, offset: int = 0, *, positions: Tensor | None = None) -> Tensor:
        """Turn ``x`` (…, L, d_k), whose first row stands at position ``offset``; with a cache, ``len(cache)``.

        Args:
            x: queries or keys, (…, L, d_k).
            offset: the position of the first row; it may be negative.
            positions: (L,), or (B, L) for an x of (B, …, L, d_k): where each row stands, in the place of ``offset``.

        Raises:
            ValueError: if the size of the last axis is not d_k, ``positions`` do not fit, or ``offset`` stands beside
                them.
            TypeError: if ``x`` is not a floating-point tensor, or ``offset`` or one of ``positions`` is not a whole
                number.
        """
        if not x.is_floating_point():
            raise TypeError(f"x: expected a floating-point tensor, got {x.dtype}")
        if x.dim() < 2 or x.shape[-1] != self.d_k:
            raise ValueError(f"x: expected (…, L, d_k = {self.d_k}), got {tuple(x.shape)}")
        if positions is not None or not isinstance(offset, int):
            offset = _checked_offset(offset, positions, at_least=-sys.maxsize)  # only differences count
        if positions is not None:
            check_positions(positions, x.shape[-2], x.shape[:1] if x.dim() > 2 else (), x.device)
        if self.columns < self.d_k:
            turned = self._turn(x[..., : self.columns], offset, positions)
            return torch.cat([turned, x[..., self.columns :]], dim=-1)
        return self._turn(x, offset, positions)

    def _turn(self, x: Tensor, offset: int, positions: Tensor | None) -> Tensor:
        """Turn all columns of x (…, L, columns)."""
        # Half precision becomes float32 for the products, and is rounded once.
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        cos, sin = self._cos_and_sin(precise, offset, positions)
        a, b = _split_pairs(precise, self.layout)
        return torch.addcmul(precise * cos, _join_pairs(b, a, self.layout), sin).to(x.dtype)

    def _cos_and_sin(self, x: Tensor, offset: int, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        # Not buffers: those would be rounded when the module is cast to half precision.
        turns = self._turns
        if x.is_cpu and type(x) is Tensor and not torch.compiler.is_compiling():
            dtype = np.float64 if x.dtype == torch.float64 else np.float32
            if positions is None:
                cos, sin = _remembered_tables(turns, offset, x.shape[-2], dtype)
                return torch.from_numpy(cos), torch.from_numpy(sin)
            if positions.numel() and is_plain(positions):
                first, last = _ends(positions)
                if last - first < positions.numel():  # so that the table is no larger than what is read from it
                    cos, sin = _remembered_tables(turns, first, last - first + 1, dtype)
                    rows = _beside(positions, x) - first
                    return F.embedding(rows, torch.from_numpy(cos)), F.embedding(rows, torch.from_numpy(sin))
        places = _range(offset, x.shape[-2], x.device) if positions is None else _beside(positions, x)
        return _tables(turns, self._speeds_on(_with_float64(x.device)), places, x.dtype, x.device)

    def _speeds_on(self, device: torch.device) -> Tensor:
        """Return the radians a position of each pair, (n,): computed there, since a copy would wait for a GPU."""
        if self.speeds is not None:
            return torch.tensor(self.speeds, dtype=torch.float64, device=device)
        pairs = torch.arange(self.columns // 2, dtype=torch.float64, device=device)
        return self.base ** (-pairs / pairs.shape[0]) if self._rule is None else self._rule.speeds(pairs, self.base)

    def extra_repr(self) -> str:
        scaled = f"base={self.base}, scaling={self.scaling}" if self.speeds is None else "speeds=(…)"
        text = f"d_k={self.d_k}, {scaled}, layout={self.layout!r}"
        if self.columns < self.d_k:
            text += f", columns={self.columns}"
        return text if self.attention_factor is None else f"{text}, attention_factor={self.attention_factor}"


def _checked_speeds(speeds: Sequence[float] | Tensor, pairs: int) -> tuple[float, ...]:
    """Return the speeds as numbers, which nobody can change."""
    if isinstance(speeds, Tensor):
        speeds = speeds.tolist()
    if not isinstance(speeds, Sequence) or isinstance(speeds, str):
        raise TypeError(f"speeds: expected a sequence of numbers, or a tensor, got {type(speeds).__name__}")
    if len(speeds) != pairs:
        raise ValueError(f"speeds: expected one for each of {pairs} pairs, got {len(speeds)}")
    for speed in speeds:
        finite_number("speeds", speed)
    return tuple(speeds)


def _speeds_of_rule(rule: Scaling, pairs: np.ndarray, base: float) -> tuple[float, ...]:
    """Ask the rule, and return the speeds as numbers, which nobody can change."""
    speeds = rule.speeds(pairs, base)
    if np.shape(speeds) != pairs.shape:
        wanted = f"a rule that returns a speed for each of {len(pairs)} pairs, {pairs.shape}"
        raise ValueError(f"scaling: expected {wanted}, got {np.shape(speeds)} of {rule}")
    if not np.isfinite(speeds).all():
        raise ValueError(f"scaling: expected a rule that returns finite speeds, got {speeds} of {rule}")
    return tuple(speeds.tolist())


def _beside(positions: Tensor, x: Tensor) -> Tensor:
    """(L,) as it is; (B, L) → (B, 1, …, 1, L), to stand beside x (B, …, L, d_k)."""
    return positions if positions.dim() == 1 else positions.unflatten(0, (-1, *[1] * (x.dim() - 3)))


class _Turns(NamedTuple):
    """What says how far a token is turned, its position apart."""

    speeds: tuple[float, ...]  # radians a position of each pair
    stretch: float  # what positions are divided by
    factor: float  # what queries and keys are multiplied with
    layout: str


def _tables(
    turns: _Turns, speeds: Tensor, positions: Tensor, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return cos θ and, with the sign that it has in the equation, sin θ: positions (…, L) → (…, L, columns) each."""
    angles = _angles(positions, speeds, turns.stretch)
    cos, sin = ((turns.factor * x).to(device, dtype) for x in (angles.cos(), angles.sin()))
    return _join_pairs(cos, cos, turns.layout), _join_pairs(-sin, sin, turns.layout)


@lru_cache(maxsize=2)
def _remembered_tables(
    turns: _Turns, start: int, length: int, dtype: type[np.floating]
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`_tables`, made once for the queries and keys of all layers.

    In NumPy: a tensor made in inference mode, or inside a transform of torch.func, is of no use outside. And on a CPU
    only: elsewhere a tensor belongs to a stream, or to the graph that captures it.
    """
    speeds = np.array(turns.speeds)
    halves = [-speeds, speeds]
    signed = np.concatenate(halves) if turns.layout == "half-split" else np.stack(halves, axis=-1).ravel()
    angles = np.outer(np.arange(start, start + length) / turns.stretch, signed)
    return (turns.factor * np.cos(angles)).astype(dtype), (turns.factor * np.sin(angles)).astype(dtype)


def _angles(positions: Tensor, speeds: Tensor, stretch: float = 1.0) -> Tensor:
    """Return θ (…, n) of each position (…), divided by ``stretch``, and each of n pairs of columns.

    In float64: float32 knows the angle at position 100 000 to two digits after the point only.
    """
    return (positions.to(speeds.device).double() / stretch)[..., None] * speeds


def _range(start: int, length: int, device: torch.device) -> Tensor:
    """Return the positions (length,) from ``start`` on."""
    return torch.arange(start, start + length, device=device)


def _split_pairs(x: Tensor, layout: str) -> tuple[Tensor, Tensor]:
    """Return the first and the second column of each pair: (…, 2n) → (…, n), (…, n)."""
    a, b = x.chunk(2, dim=-1) if layout == "half-split" else x.unflatten(-1, (-1, 2)).unbind(-1)
    return a, b


def _join_pairs(a: Tensor, b: Tensor, layout: str) -> Tensor:
    """Undo :func:`_split_pairs`: (…, n), (…, n) → (…, 2n)."""
    return torch.cat([a, b], dim=-1) if layout == "half-split" else torch.stack([a, b], dim=-1).flatten(-2)


# ---------------------------------------------------------------------------------------------------------------------
# Added to the scores


def alibi_slopes(num_heads: int) -> Tensor:
    """Return the slopes (H,) of :func:`alibi`, one for each head.

    Press et al. (2022, section 3) give one geometric sequence for any number of heads::

        m[h] = 2^(−8h/H)        h = 1, …, H

    The authors' code agrees where H is a power of two. For another H it takes the slopes of the power of two below, and
    then every other one of the power of two above, from the first on, until there are H. This function does as the code
    does, because models such as BLOOM are trained with it.

    Args:
        num_heads: H, the number of heads.

    Raises:
        ValueError: if ``num_heads`` is less than 1.
        TypeError: if it is not a whole number.

    >>> from attnlib.positions import alibi_slopes
    >>> alibi_slopes(3)
    tensor([0.0625, 0.0039, 0.2500])
    """
    return torch.tensor(_slopes(whole_number("num_heads", num_heads)))


def _slopes(num_heads: int) -> list[float]:
    below = 2 ** (num_heads.bit_length() - 1)
    of_below = [2 ** (-8 * h / below) for h in range(1, below + 1)]
    of_above = [2 ** (-8 * h / (2 * below)) for h in range(1, 2 * (num_heads - below), 2)]
    return of_below + of_above


class ALiBi(ByDistance):
    """Attention with linear biases: a penalty that grows with the distance, for ``bias=``.

    The query at i and the key at j, in a head of slope m (Press et al., 2022, section 3)::

        bias[i, j] = −m·|i − j|

        L = S = 4                        L = 1, S = 4: with a cache of 3

          k   0    1    2    3             k   0    1    2    3
        q 0   0   −m  −2m  −3m           q 0 −3m  −2m   −m    0
          1  −m    0   −m  −2m
          2 −2m   −m    0   −m
          3 −3m  −2m   −m    0

    The last query stands at the last key. The paper looks back only: add ``masks.causal()``. Without it, a sentence and
    its mirror image are alike. :func:`alibi` returns the same as a tensor.

    Args:
        num_heads: H, the number of heads; for the slopes where H is not a power of two, see :func:`alibi_slopes`.

    Raises:
        ValueError: if ``num_heads`` is less than 1.
        TypeError: if it is not a whole number.

    >>> import torch
    >>> from attnlib import MultiHeadAttention, masks
    >>> from attnlib.positions import ALiBi
    >>> attend = MultiHeadAttention(num_heads=2, d_model=8)
    >>> attend(torch.randn(3, 5, 8), mask=masks.causal(), bias=ALiBi(2)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, num_heads: int):
        self.num_heads = whole_number("num_heads", num_heads)

    def values(self, distances: Tensor, dtype: torch.dtype) -> Tensor:
        slopes = torch.tensor(_slopes(self.num_heads), dtype=dtype, device=distances.device)
        return torch.outer(slopes, (-distances.abs()).to(dtype))

    def __repr__(self) -> str:
        return f"ALiBi({self.num_heads})"


def alibi(
    num_heads: int,
    L: int,
    S: int | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return :class:`ALiBi` as a tensor (1, H, L, S), to look at it or to change it.

    Given to ``bias=``, the class takes less time and memory. S must count all keys: a bias with a single column would
    be broadcast, and say nothing.

    Args:
        num_heads: H, the number of heads; for the slopes where H is not a power of two, see :func:`alibi_slopes`.
        L: the number of queries.
        S: the number of keys. Default: L. With a cache, ``len(cache) + L``.
        dtype: that of the tensor. Default: torch's default dtype.
        device: where the tensor is made. Default: torch's default device.

    Raises:
        ValueError: if a size is less than 1.
        TypeError: if a size is not a whole number, or ``dtype`` is not a floating-point one.

    >>> from attnlib.positions import alibi, alibi_slopes
    >>> alibi(2, 2, 3)[0, 0] / alibi_slopes(2)[0]
    tensor([[-1.,  0., -1.],
            [-2., -1.,  0.]])
    """
    rule, (L, S) = ALiBi(num_heads), _sizes(L, S)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype: expected a floating-point dtype, got {dtype}")
    return rule.among((0, L), (0, S), S - L, dtype, torch.device(device or torch.get_default_device()))


class T5RelativeBias(nn.Module):
    """T5's relative positions: a learned number for each bucket of distances and each head, for ``bias=``.

    A key at j stands at the distance j − i from a query at i (Raffel et al., 2020, section 2.1)::

        bias[h, i, j] = W[bucket(j − i), h]        W: (num_buckets, H), learned

    All layers of T5 share one W: make one module for them, and give its result to each layer. (In Hugging Face's T5 the
    encoder's layers share one, and the decoder's another.)

    Short distances have a bucket each, longer ones share larger and larger buckets. Of N buckets, e = ⌊N/2⌋ are exact;
    the distance d ≥ 0 falls into (the authors' code)::

        b(d, N) = d                                                             if d < e
        b(d, N) = min(e + ⌊(N − e)·log(d/e) / log(max_distance/e)⌋, N − 1)      otherwise

        bidirectional    bucket(n) = b(|n|, N) + (N if n > 0)      N = num_buckets/2
        otherwise        bucket(n) = b(max(−n, 0), N)              N = num_buckets

    Args:
        num_heads: H, the number of heads.
        num_buckets: the number of rows of W, half of them for each direction if ``bidirectional``.
        max_distance: from here on at the latest, all distances share the last bucket.
        bidirectional: whether keys after the query have buckets of their own (T5's encoder), or share that of distance
            0 (T5's decoder, where a causal mask hides them).

    Attributes:
        weight: W, drawn from N(0, 0.02²).

    Raises:
        ValueError: if a size is less than 1, ``num_buckets`` is too small or does not split into two directions, or
            ``max_distance`` is within the exact buckets.
        TypeError: if a size is not a whole number.

    >>> import torch
    >>> from attnlib.positions import T5RelativeBias
    >>> relative = T5RelativeBias(num_heads=1, num_buckets=4, max_distance=3, bidirectional=False)
    >>> _ = relative.weight.data.copy_(torch.arange(4.0)[:, None])  # to see the buckets
    >>> relative(2, 5)[0, 0].int()
    tensor([[3, 2, 1, 0, 0],
            [3, 3, 2, 1, 0]], dtype=torch.int32)
    """

    def __init__(self, num_heads: int, *, num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = True):
        super().__init__()
        self.num_heads = whole_number("num_heads", num_heads)
        self.num_buckets = whole_number("num_buckets", num_buckets, at_least=4 if bidirectional else 2)
        if bidirectional and self.num_buckets % 2:
            raise ValueError(f"num_buckets: expected an even number for two directions, got {num_buckets}")
        self.bidirectional = bidirectional
        self.max_distance = whole_number("max_distance", max_distance, at_least=self._buckets_a_side() // 2 + 1)
        self.weight = nn.Parameter(torch.empty(self.num_buckets, self.num_heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new table."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, L: int, S: int | None = None) -> Tensor:
        """Return the bias (1, H, L, S) of L queries and S keys, the last query at the last key.

        Args:
            L: the number of queries.
            S: the number of keys. Default: L. With a cache, ``len(cache) + L``.

        Raises:
            ValueError: if a size is less than 1.
            TypeError: if a size is not a whole number.
        """
        L, S = _sizes(L, S)
        buckets = self._buckets(_distances(L, S, _with_float64(self.weight.device)))
        return spread(F.embedding(buckets.to(self.weight.device), self.weight).mT, L, S)

    def _buckets_a_side(self) -> int:
        return self.num_buckets // 2 if self.bidirectional else self.num_buckets

    def _buckets(self, distances: Tensor) -> Tensor:
        count = self._buckets_a_side()
        exact = count // 2
        d = distances.abs() if self.bidirectional else (-distances).clamp(min=0)
        growth = (d.clamp(min=exact).double() / exact).log() / math.log(self.max_distance / exact)
        # The nudge: a bucket may begin at a whole number, which rounding must not miss.
        shared = (exact + ((count - exact) * growth + 1e-9).long()).clamp(max=count - 1)
        buckets = torch.where(d < exact, d, shared)
        return buckets + count * (distances > 0) if self.bidirectional else buckets

    def extra_repr(self) -> str:
        names = ("num_heads", "num_buckets", "max_distance", "bidirectional")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def _sizes(L: int, S: int | None) -> tuple[int, int]:
    L = whole_number("L", L)
    return L, L if S is None else whole_number("S", S)


def _distances(L: int, S: int, device: torch.device | str | None) -> Tensor:
    """Return the L + S − 1 distances j − i that occur, from the last query and first key to the reverse."""
    return torch.arange(1 - S, L, device=device)


# ---------------------------------------------------------------------------------------------------------------------


def check_positions(
    positions: Tensor, length: int, batch: tuple[int, ...] | None = None, device: torch.device | None = None
) -> None:
    """Check that ``positions`` are whole numbers: (length,), or (B, length) where there is a batch.

    Args:
        positions: what was given.
        length: how many there must be.
        batch: (B,), or () where there is no batch. Default: any.
        device: where they must be. Default: anywhere.

    Raises:
        ValueError: if they have another shape, or are elsewhere.
        TypeError: if they are not a tensor of whole numbers.

    >>> import torch
    >>> from attnlib.positions import check_positions
    >>> check_positions(torch.tensor([0, 1, 0]), length=5)
    Traceback (most recent call last):
    ValueError: positions: expected (L,), or (B, L), with L = 5, got (3,)
    """
    if not isinstance(positions, Tensor):
        raise TypeError(f"positions: expected a tensor, got {type(positions).__name__}")
    if positions.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"positions: expected whole numbers as int64 or int32, got {positions.dtype}")
    if positions.dim() not in (1, 2) or positions.shape[-1] != length:
        raise ValueError(f"positions: expected (L,), or (B, L), with L = {length}, got {tuple(positions.shape)}")
    if batch is not None and positions.dim() == 2 and (not batch or positions.shape[0] not in (1, batch[0])):
        wanted = f"(L,), or (B, L), with the batch B = {batch[0]}" if batch else "(L,), where there is no batch"
        raise ValueError(f"positions: expected {wanted}, got {tuple(positions.shape)}")
    if device is not None and positions.device != device:
        raise ValueError(f"positions: expected the device {device}, got {positions.device}")


def _checked_offset(offset: int, positions: Tensor | None, at_least: int) -> int:
    """Return the offset as an int, once it is known to be one number, and the only word on where tokens stand."""
    if isinstance(offset, Tensor) and offset.dim():
        way = "for positions of each example or token, give positions="
        raise TypeError(f"offset: expected a whole number, got a tensor {tuple(offset.shape)}; {way}")
    offset = whole_number("offset", offset, at_least=at_least)
    if positions is not None and offset:
        raise ValueError(f"offset: expected none beside positions, which say all, got {offset}")
    return offset


def _ends(positions: Tensor) -> tuple[int, int]:
    """Return the first and the last of the positions, of which there is one at least."""
    first, last = positions.aminmax()
    return int(first), int(last)


def _with_float64(device: torch.device) -> torch.device:
    """Return ``device``, or the CPU in place of Apple's GPUs, which have no float64."""
    return torch.device("cpu") if device.type == "mps" else device
