"""What decoding remembers: the keys and values of the tokens so far, so that each is projected once."""

import torch
from torch import Tensor

from attnlib.checks import autocast_is_on

__all__ = ["KVCache"]


class KVCache:
    """The keys (B, H_kv, S, d_k) and values (B, H_kv, S, d_v) of one attention layer, growing along S.

    Make one for each layer and each sequence; ``len(cache)`` is S. Queries are never cached: a past query is never
    asked again. Room is doubled when it runs out, so that a step copies its own token and no other. Where gradients
    are recorded the past is copied instead, and they flow through it.

    For cross-attention, :meth:`attnlib.MultiHeadAttention.remember` makes one that is only read.

    >>> cache = KVCache()
    >>> for step in range(3):
    ...     key, value = cache.append(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 5))
    >>> key.shape, value.shape, len(cache)
    (torch.Size([1, 2, 3, 4]), torch.Size([1, 2, 3, 5]), 3)
    """

    def __init__(self):
        self.read_only = False
        self._length = 0
        self._key: Tensor | None = None
        self._value: Tensor | None = None

    def __len__(self) -> int:
        return self._length

    @property
    def key(self) -> Tensor:
        """The keys so far, (B, H_kv, S, d_k). Raises ValueError while the cache is empty."""
        return self._so_far(self._key)

    @property
    def value(self) -> Tensor:
        """The values so far, (B, H_kv, S, d_v). Raises ValueError while the cache is empty."""
        return self._so_far(self._value)

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens at the end, and return all so far.

        Raises
        ------
        ValueError: if the batch, the heads or the widths differ from what is cached, S of key from S of value, or the
            cache is only read.
        TypeError: if something is no tensor, or a dtype differs from the key's or from what is cached.
        """
        if self.read_only:
            raise ValueError("cache: expected one that grows, got one that remember() made, which is only read")
        for name, x in (("key", key), ("value", value)):
            if not isinstance(x, Tensor):
                raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
            if x.dim() < 2:
                raise ValueError(f"{name}: expected (B, H_kv, S, d), got {tuple(x.shape)}")
        if value.dtype != key.dtype:
            raise TypeError(f"value: expected key's dtype {key.dtype}, got {value.dtype}")
        if key.shape[:-1] != value.shape[:-1]:
            raise ValueError(f"value: expected (B, H_kv, S) = {tuple(key.shape[:-1])}, got {tuple(value.shape[:-1])}")
        for name, new, old in (("key", key, self._key), ("value", value, self._value)):
            _check_like(name, new, old)
        self._key = _append(self._key, key, self._length)
        self._value = _append(self._value, value, self._length)
        self._length += key.shape[-2]
        return self.key, self.value

    def check_fits(self, batch: torch.Size, dtype: torch.dtype, device: torch.device, d_k: int, d_v: int) -> None:
        """Hold that what is cached, if anything is, is of one kind with new tokens of ``batch``, (B,) or ().

        Raises
        ------
        ValueError: if the batch or the device is another, or the keys are not d_k wide, the values d_v.
        TypeError: if the dtype is another, and no autocast changes it.

        >>> cache = KVCache()
        >>> _ = cache.append(torch.zeros(3, 2, 1, 4), torch.zeros(3, 2, 1, 5))
        >>> cache.check_fits(torch.Size([3]), torch.float32, torch.device("cpu"), d_k=4, d_v=5)
        """
        key, value = self._key, self._value  # not their slices: a decoder asks at every step
        if key is None:
            return
        if key.shape[:-3] != batch or key.shape[-1] != d_k or value.shape[-1] != d_v:
            wanted = f"keys and values of the batch {tuple(batch)}, {d_k} and {d_v} wide"
            found = f"{tuple(key.shape[:-3])}, {key.shape[-1]} and {value.shape[-1]} wide"
            raise ValueError(f"cache: expected {wanted}, got {found}")
        if key.device != device:
            raise ValueError(f"cache: expected the tokens' device {device}, got {key.device}")
        if key.dtype != dtype and not autocast_is_on(device.type):
            raise TypeError(f"cache: expected the tokens' dtype {dtype}, got {key.dtype}")

    def reorder(self, rows: Tensor) -> None:
        """Take the examples anew: example i becomes what example ``rows[i]`` was, as a beam search needs it.

        An example may be left out, or taken more than once; a read-only cache may be reordered too.

        Parameters
        ----------
        rows: (B,), whole numbers; the new number of examples may be another.

        Raises
        ------
        ValueError: if the cache is empty or has no batch axis, ``rows`` has another shape, or a row is not in it.
        TypeError: if ``rows`` is no tensor of whole numbers.

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
        # With the spare room, so that the next token does not need new room again.
        self._key, self._value = (buffer.index_select(0, rows) for buffer in (self._key, self._value))

    def _so_far(self, buffer: Tensor | None) -> Tensor:
        if buffer is None:
            raise ValueError("the cache is empty: append keys and values first")
        return buffer[..., : self._length, :]


def _check_like(name: str, new: Tensor, old: Tensor | None) -> None:
    if old is None:
        return
    if new.dtype != old.dtype:
        raise TypeError(f"{name}: expected the cache's dtype {old.dtype}, got {new.dtype}")
    if new.shape[:-2] != old.shape[:-2] or new.shape[-1] != old.shape[-1]:
        cached = f"(*{tuple(old.shape[:-2])}, S, {old.shape[-1]})"
        raise ValueError(f"{name}: expected the cache's shape {cached}, got {tuple(new.shape)}")


def _append(buffer: Tensor | None, new: Tensor, length: int) -> Tensor:
    """Return a buffer that holds ``length`` old rows, then the ``new`` ones, then perhaps spare room."""
    if buffer is None:
        return new.clone()  # the caller may write into its own tensor again
    # Autograd forbids writing in place, even where only the query needs a gradient: it reads the keys for that.
    if torch.is_grad_enabled() or _made_in_inference(buffer):
        return torch.cat([buffer[..., :length, :], new], dim=-2)
    needed = length + new.shape[-2]
    if needed > buffer.shape[-2]:
        grown = new.new_empty(*new.shape[:-2], max(needed, 2 * length), new.shape[-1])
        grown[..., :length, :] = buffer[..., :length, :]
        buffer = grown
    buffer[..., length:needed, :] = new
    return buffer


def _made_in_inference(buffer: Tensor) -> bool:
    """Say whether a buffer must not be written to, because inference mode made it and has ended."""
    if torch.compiler.is_compiling():
        return False  # a graph cannot ask
    return buffer.is_inference() and not torch.is_inference_mode_enabled()
