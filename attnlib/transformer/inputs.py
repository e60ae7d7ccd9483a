"""What a layer is given, held to fit before anything is computed or written to a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from attnlib import masks
from attnlib.cache import KVCache
from attnlib.checks import autocast_is_on
from attnlib.masks import Mask
from attnlib.multihead import MultiHeadAttention

__all__ = ["LayerCache"]


class LayerCache(NamedTuple):
    """What a :class:`DecoderLayer` remembers between two steps of decoding."""

    past: KVCache  # keys and values of the target so far: grows
    memory: KVCache  # keys and values of the encoder's output: only read


def check_tokens(name: str, x: Tensor, attention: MultiHeadAttention) -> None:
    """Hold that x is a tensor of tokens (…, d_model) that the layer can compute with."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
    if x.dim() not in (2, 3) or x.shape[-1] != attention.d_model:
        wanted = f"(B, L, d_model = {attention.d_model}), or (L, d_model)"
        raise ValueError(f"{name}: expected {wanted}, got {tuple(x.shape)}")
    dtype = attention.wq.weight.dtype
    if x.dtype != dtype and not autocast_is_on(x.device.type):
        raise TypeError(f"{name}: expected the layer's dtype {dtype}, got {x.dtype}")


def check_mask(name: str, mask: Mask | Tensor | None, x: Tensor, S: int, num_heads: int) -> None:
    """Hold that a mask, or None, fits the queries x (B, L, …) and S keys."""
    if mask is not None:
        masks.check(mask, (*x.shape[:-2], num_heads, x.shape[-2], S), x.device, name)


def check_memory(
    memory: Tensor | None, caches: LayerCache | list[LayerCache] | None, x: Tensor, layers: Sequence[nn.Module]
) -> tuple[int, int]:
    """Hold that the memory comes in one way and fits x (B, L, …) in every layer; return len(past) and S."""
    if (memory is None) == (caches is None):
        found = "neither" if memory is None else "both"
        raise ValueError(f"memory: expected either memory or a cache made by remember(), got {found}")
    batch = tuple(x.shape[:-2])
    if memory is not None:
        check_tokens("memory", memory, layers[0].cross_attention)
        if tuple(memory.shape[:-2]) != batch:
            raise ValueError(f"memory: expected the batch {batch} of x, got {tuple(memory.shape[:-2])}")
        if memory.device != x.device:
            raise ValueError(f"memory: expected x's device {x.device}, got {memory.device}")
        return 0, memory.shape[-2]
    caches = [caches] if isinstance(caches, LayerCache) else caches
    if not isinstance(caches, list) or not all(isinstance(cache, LayerCache) for cache in caches):
        raise TypeError(f"cache: expected one made by remember(), got {type(caches).__name__}")
    if len(caches) != len(layers):
        raise ValueError(f"cache: expected that of {len(layers)} layers, got {len(caches)}")
    for cache, layer in zip(caches, layers, strict=True):
        if cache.past.read_only or not cache.memory.read_only:
            raise ValueError(
                "cache: expected a past that grows beside a memory that is only read; make it with remember()"
            )
        _check_cached(cache.memory, layer.cross_attention, x)
        if len(cache.past):
            _check_cached(cache.past, layer.self_attention, x)
    lengths = {(len(cache.past), len(cache.memory)) for cache in caches}
    if len(lengths) > 1:
        raise ValueError(f"cache: expected the same number of tokens in every layer, got (past, memory) = {lengths}")
    return lengths.pop()


def _check_cached(cache: KVCache, attention: MultiHeadAttention, x: Tensor) -> None:
    """Hold that what a cache holds is of x's batch and device, and of the layer's widths and dtype."""
    batch = tuple(x.shape[:-2])
    for kind, tensor, width in (("keys", cache.key, attention.d_k), ("values", cache.value, attention.d_v)):
        if tuple(tensor.shape[:-3]) != batch or tensor.shape[-1] != width:
            wanted = f"{kind} of the batch {batch} of x, {width} wide"
            raise ValueError(f"cache: expected {wanted}, got {tuple(tensor.shape)}")
        if tensor.device != x.device:
            raise ValueError(f"cache: expected x's device {x.device}, got {tensor.device}")
        dtype = attention.wk.weight.dtype
        if tensor.dtype != dtype and not autocast_is_on(x.device.type):
            raise TypeError(f"cache: expected the layer's dtype {dtype}, got {tensor.dtype}")
