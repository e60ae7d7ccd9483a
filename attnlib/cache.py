"""What decoding remembers: the keys and values of the tokens so far, so that each is projected once."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from attnlib import checks
from attnlib.kernels.quarantine import are_finite, is_readable
from attnlib.masks import Both, Mask, Padding, SlidingWindow
from attnlib.modes import autocast_is_on
from attnlib.scores import Scores

__all__ = ["KVCache", "Memory"]


class _Kept:
    """Keys and values of one attention layer. They are to be read: what is written into them is not looked at again.

    Attributes:
        layer: whose they are; None while no layer has written.
        is_finite: whether all of them are known to be finite numbers.
        length: how many tokens there were so far, as ``len`` says; a symbol in a graph that leaves it open.
    """

    _WAY: ClassVar[str]  # how to make one for another layer

    def __init__(self) -> None:
        self.layer: nn.Module | None = None
        self.is_finite = True  # whether all that is kept is known to be so: looked at once, as it came
        self.length = 0
        self._first = 0  # the row of the buffers in which what is kept begins
        self._kept = 0
        self._key: Tensor | None = None
        self._value: Tensor | None = None

    def __len__(self) -> int:
        return self.length

    def __bool__(self) -> bool:
        """An empty cache is a cache: ``if cache`` asks whether there is one."""
        return True

    def __copy__(self) -> Self:
        """Return one that goes on by itself: two answers to one prompt, each with a copy of the prompt's cache."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        if self._key is not None:  # without the spare room: two would write into it
            twin._key, twin._value, twin._first = self._rows(self._key), self._rows(self._value), 0
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy with memory of its own, through which gradients flow on; any layer may write to it."""
        memo[id(self)] = twin = type(self).__new__(type(self))
        # Cloned, because torch makes no deep copy of a tensor with a graph behind it.
        twin.__dict__.update(copy.deepcopy({**self.__getstate__(), "_key": None, "_value": None}, memo))
        if self._key is not None:
            twin._key, twin._value = self._rows(self._key).clone(), self._rows(self._value).clone()
            twin._first = 0
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "layer": None}  # a stored cache takes no layer with it

    def check_belongs(self, layer: nn.Module) -> None:
        """Check that these are the keys and values of ``layer``, or of no layer yet."""
        if self.layer is not None and self.layer is not layer:
            raise ValueError(f"cache: expected this layer's own, got that of another layer; {self._WAY}")

    def serves(self, batch: torch.Size) -> bool:
        """Return whether queries of ``batch``, (B,) or (), may read what is kept; an empty cache serves any."""
        return self._key is None or self._key.shape[:-3] == batch

    @property
    def batch(self) -> torch.Size:
        """The axes before the heads, (B,) or (). Raises ValueError while the cache is empty."""
        return self._filled(self._key).shape[:-3]

    @property
    def key(self) -> Tensor:
        """The keys that are kept, (B, H_kv, S, d_k). Raises ValueError while the cache is empty."""
        return self._rows(self._key)

    @property
    def value(self) -> Tensor:
        """The values that are kept, (B, H_kv, S, d_v). Raises ValueError while the cache is empty."""
        return self._rows(self._value)

    def __repr__(self) -> str:
        if self._key is None:
            return f"{type(self).__name__}(empty)"
        kept = f", the last {self._kept} of them kept" if self._kept < self.length else ""
        kind = f"key {tuple(self.key.shape)}, value {tuple(self.value.shape)}, {self._key.dtype}"
        return f"{type(self).__name__}({self.length} tokens{kept}: {kind})"

    def check_fits(self, batch: torch.Size, dtype: torch.dtype, device: torch.device, d_k: int, d_v: int) -> None:
        """Check that what is cached, if anything is, is of one kind with new tokens of ``batch``, (B,) or ().

        Args:
            batch: the axes before the heads.
            dtype: that of the tokens.
            device: theirs.
            d_k: the size of a key.
            d_v: the size of a value.

        Raises:
            ValueError: if the batch, the device or a size is another.
            TypeError: if the dtype is another, and no autocast changes it.

        >>> import torch
        >>> from attnlib import KVCache
        >>> cache = KVCache()
        >>> _ = cache.append(torch.zeros(3, 2, 1, 4), torch.zeros(3, 2, 1, 5))
        >>> cache.check_fits(torch.Size([3]), torch.float32, torch.device("cpu"), d_k=4, d_v=5)
        """
        key, value = self._key, self._value  # not their slices: a decoder asks at every step
        if key is None or value is None:
            return
        if not self.serves(batch) or key.shape[-1] != d_k or value.shape[-1] != d_v:
            wanted = f"keys and values of the batch {tuple(batch)}, {d_k} and {d_v} wide"
            found = f"{tuple(key.shape[:-3])}, {key.shape[-1]} and {value.shape[-1]} wide"
            raise ValueError(f"cache: expected {wanted}, got {found}")
        if key.device != device:
            raise ValueError(f"cache: expected the tokens' device {device}, got {key.device}")
        if key.dtype != dtype and not autocast_is_on(device.type):
            raise TypeError(f"cache: expected the tokens' dtype {dtype}, got {key.dtype}")

    def reorder(self, rows: Tensor) -> None:
        """Take the examples in another order: example i becomes what example ``rows[i]`` was, as in a beam search.

        An example may be left out, or taken more than once.

        Args:
            rows: (B,), whole numbers; the new number of examples may be another.

        Raises:
            ValueError: if the cache is empty or has no batch axis, ``rows`` has another shape, or a row is not in it.
            TypeError: if ``rows`` is not a tensor of whole numbers.

        >>> import torch
        >>> from attnlib import KVCache
        >>> cache = KVCache()
        >>> _ = cache.append(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
        >>> cache.reorder(torch.tensor([1, 1, 0]))
        >>> cache.key.flatten()
        tensor([1., 1., 0.])
        """
        key = self.key
        if not isinstance(rows, Tensor):
            raise TypeError(f"rows: expected a tensor, got {type(rows).__name__}")
        if rows.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"rows: expected whole numbers as int64 or int32, got {rows.dtype}")
        if rows.dim() != 1:
            raise ValueError(f"rows: expected (B,), got {tuple(rows.shape)}")
        if key.dim() < 4:
            raise ValueError(f"rows: expected a cache with a batch axis, (B, H_kv, S, d_k), got {tuple(key.shape)}")
        if rows.device.type == "cpu" and rows.numel() and not 0 <= rows.min() <= rows.max() < len(key):
            raise ValueError(f"rows: expected examples from 0 to {len(key) - 1}, got {rows.tolist()}")
        self._take(rows)

    def _take(self, rows: Tensor) -> None:
        # With the spare room, so that the next token does not need new room again.
        self._key, self._value = (self._filled(x).index_select(0, rows) for x in (self._key, self._value))

    def _rows(self, buffer: Tensor | None) -> Tensor:
        return self._filled(buffer).narrow(-2, self._first, self._kept)

    def _filled(self, buffer: Tensor | None) -> Tensor:
        if buffer is None:
            raise ValueError("the cache is empty: append keys and values first")
        return buffer


class KVCache(_Kept):
    """The keys (B, H_kv, S, d_k) and values (B, H_kv, S, d_v) of one attention layer, growing along S.

    Make one for each layer and each sequence; ``len(cache)`` is the number of tokens so far. Queries are not cached: a
    past query is not needed again. Room is doubled when it runs out, so that a step copies its own token and no other.
    Where gradients are recorded the past is copied instead, and they flow through it.

    **A window.** With ``window=w`` a query attends to the last w keys up to its own at most, as under
    ``masks.causal() & masks.sliding_window(w)``, and what no later query can reach is dropped: memory stays bounded,
    however long the text. Whether a query sees new tokens after its own, the mask says, as without a window. Positions
    go on, since ``len(cache)`` counts what was dropped too; masks and biases are those of all tokens. Weights have a
    column for each key that was kept, and for each new one.

    A layer refuses a cache that another layer has written to. ``copy.copy(cache)`` goes on by itself, for two answers
    to one prompt; so does ``copy.deepcopy(cache)``, which any layer may write to.

    For cross-attention, :meth:`attnlib.MultiHeadAttention.remember` makes a :class:`attnlib.cache.Memory`.

    Args:
        capacity: make room for so many tokens at once, where it is known how many will come. Beside a window it does
            nothing: room is made for 2·w.
        window: w, how many keys a query may attend to. Default: all.

    Raises:
        ValueError: if a size is less than 1.
        TypeError: if one is not a whole number.

    >>> import torch
    >>> from attnlib import KVCache
    >>> cache = KVCache()
    >>> for step in range(3):
    ...     key, value = cache.append(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 5))
    >>> key.shape, value.shape, len(cache)
    (torch.Size([1, 2, 3, 4]), torch.Size([1, 2, 3, 5]), 3)

    A prompt that is padded on the left, then token by token, each query with the last four keys:

    >>> from attnlib import MultiHeadAttention, masks
    >>> from attnlib.positions import ALiBi
    >>> attend, x = MultiHeadAttention(num_heads=2, d_model=8), torch.randn(2, 7, 8)
    >>> real = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1]])  # of all tokens so far, those that were dropped, too
    >>> cache = KVCache(window=4)
    >>> for start, end in ((0, 5), (5, 6), (6, 7)):
    ...     mask = masks.causal() & masks.keys(real[:, :end])
    ...     y = attend(x[:, start:end], mask=mask, bias=ALiBi(2), cache=cache)
    >>> y.shape, len(cache), cache.key.shape
    (torch.Size([2, 1, 8]), 7, torch.Size([2, 2, 4, 4]))
    """

    _WAY = "make one KVCache() for each layer"

    def __init__(self, *, capacity: int | None = None, window: int | None = None):
        super().__init__()
        self.capacity = None if capacity is None else checks.whole_number("capacity", capacity)
        self.window = None if window is None else checks.whole_number("window", window)

    @classmethod
    def of(cls, key: Tensor, value: Tensor) -> Self:
        """Return a cache that holds the keys (B, H_kv, S, d_k) and values (B, H_kv, S, d_v) of S tokens.

        So a graph can take them as inputs and return ``cache.key`` and ``cache.value``, as :func:`torch.export.export`
        wants it.

        Raises:
            ValueError: if the shapes do not fit each other.
            TypeError: if something is not a tensor, or the dtypes differ.

        >>> import torch
        >>> from attnlib import KVCache
        >>> KVCache.of(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5))
        KVCache(3 tokens: key (1, 2, 3, 4), value (1, 2, 3, 5), torch.float32)
        """
        cache = cls()
        cache.append(key, value)
        return cache

    def crop(self, length: int) -> None:
        """Forget what came after the first ``length`` tokens, as when a draft is rejected (speculative decoding).

        With a length of 0 all is forgotten, under a window too.

        Raises:
            ValueError: if there are fewer tokens, or the window has dropped what would be needed.
            TypeError: if ``length`` is not a whole number.

        >>> import torch
        >>> from attnlib import KVCache
        >>> cache = KVCache.of(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5))
        >>> cache.crop(1)
        >>> len(cache)
        1
        """
        length = checks.whole_number("length", length, at_least=0)
        if length > self.length:
            raise ValueError(f"length: expected at most the {self.length} tokens of the cache, got {length}")
        if length == self.length:
            return
        dropped = self.length - self._kept
        shortest = dropped + self.window - 1 if dropped and self.window is not None else 0
        if 0 < length < shortest:
            raise ValueError(
                f"length: expected 0, or at least {shortest}, since the window has dropped the first {dropped} tokens, "
                f"got {length}"
            )
        kept = max(length - dropped, 0)
        # Rows may be written that were returned before: a copy of its own, so that those do not change.
        if self._key is not None:
            self._key, self._value = (self._rows(x).narrow(-2, 0, kept).clone() for x in (self._key, self._value))
        self.length, self._first, self._kept = length, 0, kept
        if not length:
            self._key = self._value = None
            self.is_finite = True

    def check_mask(self, mask: Mask | Tensor | None) -> None:
        """Check that lengths do not end before the new tokens: those of the prompts would close what is written to all.

        Raises:
            ValueError: if ``mask`` is, or combines by ``&``, a padding mask whose lengths are those of the prompts.
        """
        if isinstance(mask, Both):
            self.check_mask(mask.left)
            self.check_mask(mask.right)
        elif isinstance(mask, Padding) and mask.longest is not None and mask.longest <= self.length > 0:
            wanted = f"a length of more than the {self.length} cached keys, since the new tokens follow them"
            way = "pad the prompts on the left, and give ~masks.padding(missing) at each step"
            raise ValueError(f"mask: expected {wanted}, got lengths of at most {mask.longest}; {way}")

    def within_reach(self, scores: Scores) -> Scores:
        """Return the scores (…, H, L, S) of L new tokens for the keys that are kept, and for their own.

        Of those a query may attend to the last ``window``.
        """
        if self.window is None:
            return scores
        L, S = scores.shape[-2:]
        kept = self._past_of_a_step() + L
        if L > 1:  # a single query can see all that is kept
            reach = SlidingWindow(self.window, ahead=L)
            scores = scores._replace(mask=reach if scores.mask is None else scores.mask & reach)
        return scores.of_last_keys(S - kept) if kept < S else scores

    def _past_of_a_step(self) -> int:
        """Return how many old tokens the next ones may attend to."""
        return self._kept if self.window is None else min(self._kept, self.window - 1)

    def append(self, key: Tensor, value: Tensor, layer: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens at the end, and return all that they may attend to.

        Args:
            key: (B, H_kv, L, d_k), those of the L new tokens.
            value: (B, H_kv, L, d_v).
            layer: whose they are. Default: whoever's they were.

        Raises:
            ValueError: if the batch, the heads or the sizes differ from what is cached, or L of key from L of value.
            TypeError: if something is not a tensor, or a dtype differs from the key's or from what is cached.
        """
        for name, x in (("key", key), ("value", value)):
            if not isinstance(x, Tensor):
                raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
            if x.dim() < 2:
                raise ValueError(f"{name}: expected (B, H_kv, S, d), got {tuple(x.shape)}")
        if value.dtype != key.dtype:
            raise TypeError(f"value: expected key's dtype {key.dtype}, got {value.dtype}")
        if key.shape[:-1] != value.shape[:-1]:
            raise ValueError(f"value: expected (B, H_kv, S) = {tuple(key.shape[:-1])}, got {tuple(value.shape[:-1])}")
        if self._key is not None:
            if key.dtype != self._key.dtype:
                raise TypeError(f"key: expected the cache's dtype {self._key.dtype}, got {key.dtype}")
            # A value has key's batch, heads and S by now.
            if key.shape[:-2] != self._key.shape[:-2] or key.shape[-1] != self._key.shape[-1]:
                raise ValueError(f"key: expected the cache's shape {_any_length(self._key)}, got {tuple(key.shape)}")
            if value.shape[-1] != self.value.shape[-1]:
                wanted = f"the cache's shape {_any_length(self.value)}"
                raise ValueError(f"value: expected {wanted}, got {tuple(value.shape)}")
        # Autograd forbids writing in place, even where only the query needs a gradient: it reads the keys for that.
        in_place = not torch.is_grad_enabled() and not (self._key is not None and _made_in_inference(self._key))
        L = key.shape[-2]
        past = self._past_of_a_step()
        old = self._first + self._kept - past, past
        room = self.capacity if self.window is None else 2 * self.window
        self._key, first = _append(self._key, key, *old, room, in_place)
        self._value, first = _append(self._value, value, *old, room, in_place)
        self.is_finite = self.is_finite and is_readable(key, value) and are_finite(key, value)
        self.length, self._first, self._kept = self.length + L, first, past + L
        self.layer = self.layer if layer is None else layer
        return self.key, self.value


class Memory(_Kept):
    """The keys (B, H_kv, S, d_k) and values (B, H_kv, S, d_v) that cross-attention reads at every step.

    :meth:`attnlib.MultiHeadAttention.remember` makes it. It does not grow. That of one example, B = 1, serves queries
    of any number of examples, as several hypotheses about one source: its keys and values are not copied for them, and
    ``reorder`` leaves it as it is.

    >>> import torch
    >>> from attnlib import MultiHeadAttention
    >>> attend = MultiHeadAttention(num_heads=2, d_model=8)
    >>> memory = attend.remember(torch.randn(1, 3, 8))
    >>> attend(torch.randn(5, 1, 8), cache=memory).shape, len(memory)
    (torch.Size([5, 1, 8]), 3)
    """

    _WAY = "remember() it with this one"

    def __init__(self, key: Tensor, value: Tensor, layer: nn.Module | None = None):
        super().__init__()
        if key.shape[:-1] != value.shape[:-1]:
            raise ValueError(f"value: expected (B, H_kv, S) = {tuple(key.shape[:-1])}, got {tuple(value.shape[:-1])}")
        self.layer = layer
        # A copy, head by head, as it will be read.
        self._key, self._value = (x.clone(memory_format=torch.contiguous_format) for x in (key, value))
        self.is_finite = is_readable(key, value) and are_finite(key, value)
        self.length = self._kept = key.shape[-2]

    def serves(self, batch: torch.Size) -> bool:
        """Return whether queries of ``batch``, (B,) or (), may read it."""
        return super().serves(batch) or self._is_of_one(batch)

    def _is_of_one(self, batch: torch.Size) -> bool:
        return len(batch) == 1 and self.batch == (1,)

    def _take(self, rows: Tensor) -> None:
        if not self._is_of_one(rows.shape):
            super()._take(rows)

    def read(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values for a query (B, H, L, d_k), with its batch.

        Raises:
            ValueError: if they do not fit it.
            TypeError: if the dtype is another: the layer may have changed it since.
        """
        key, value = self.key, self.value
        if self._is_of_one(query.shape[:-3]):
            key, value = (x.expand(len(query), *x.shape[1:]) for x in (key, value))  # views: nothing is copied
        checks.heads(query, key, value)
        return key, value


def _any_length(buffer: Tensor) -> str:
    return f"(*{tuple(buffer.shape[:-2])}, S, {buffer.shape[-1]})"


def _append(
    buffer: Tensor | None, new: Tensor, start: int, past: int, room: int | None, in_place: bool
) -> tuple[Tensor, int]:
    """Return a buffer that holds ``past`` old rows, then the new ones, then perhaps spare room, and where they begin.

    Args:
        buffer: where the old rows are, from ``start`` on.
        new: (B, H_kv, L, d).
        start: the first of the old rows that are wanted.
        past: how many they are.
        room: for how many rows room is made, at least; never for less than the double of the old ones.
        in_place: whether the buffer may be written to.
    """
    L = new.shape[-2]
    if not in_place or torch.compiler.is_exporting():  # a graph with an open length cannot ask whether there is room
        # A copy, because the caller may write into its own tensor again; head by head, as it will be read.
        if buffer is None:
            return new.clone(memory_format=torch.contiguous_format), 0
        return torch.cat([buffer.narrow(-2, start, past), new], dim=-2), 0
    if buffer is None and (room is None or room <= L):
        return new.clone(memory_format=torch.contiguous_format), 0
    if buffer is None or start + past + L > buffer.shape[-2]:
        grown = new.new_empty(*new.shape[:-2], max(past + L, 2 * past, room or 0), new.shape[-1])
        if buffer is not None:
            grown.narrow(-2, 0, past).copy_(buffer.narrow(-2, start, past))
        buffer, start = grown, 0
    buffer.narrow(-2, start + past, L).copy_(new)
    return buffer, start


def _made_in_inference(buffer: Tensor) -> bool:
    """Return whether a buffer must not be written to, because inference mode made it and has ended."""
    if torch.compiler.is_compiling():
        return False  # a graph cannot ask
    return buffer.is_inference() and not torch.is_inference_mode_enabled()
