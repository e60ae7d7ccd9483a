"""What a layer is given, held to fit before anything is computed or written to a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
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
    if not x.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {x.dtype}")
    # A projection of another kind may be quantised, or cast what it is given: it says itself what does not fit.
    dtype = attention.wq.weight.dtype if type(attention.wq) is nn.Linear else x.dtype
    if x.dtype != dtype and not autocast_is_on(x.device.type):
        raise TypeError(f"{name}: expected the layer's dtype {dtype}, got {x.dtype}")


def check_mask(name: str, mask: Mask | Tensor | None, x: Tensor, S: int, num_heads: int) -> None:
    """Hold that a mask, or None, fits the queries x (B, L, …) and S keys."""
    if mask is not None:
        masks.check(mask, (*x.shape[:-2], num_heads, x.shape[-2], S), x.device, name)


def check_memory(
    memory: Tensor | None,
    caches: LayerCache | list[LayerCache] | None,
    layers: Sequence[nn.Module],
    batch: torch.Size,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[int, int]:
    """Hold that the memory comes in one way, and fits the target's tokens in every layer; return len(past) and S.

    ``batch``, ``dtype`` and ``device`` are those of the target's tokens. Asked at every step of decoding: where all
    fits, it only compares.
    """
    if (memory is None) == (caches is None):
        found = "neither" if memory is None else "both"
        raise ValueError(f"memory: expected either memory or a cache made by remember(), got {found}")
    if memory is not None:
        check_tokens("memory", memory, layers[0].cross_attention)
        if memory.shape[:-2] != batch:
            raise ValueError(f"memory: expected the batch {tuple(batch)} of x, got {tuple(memory.shape[:-2])}")
        if memory.device != device:
            raise ValueError(f"memory: expected x's device {device}, got {memory.device}")
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
        cache.memory.check_fits(batch, dtype, device, layer.cross_attention.d_k, layer.cross_attention.d_v)
        cache.past.check_fits(batch, dtype, device, layer.self_attention.d_k, layer.self_attention.d_v)
    first = caches[0]
    lengths = len(first.past), len(first.memory)
    for cache in caches[1:]:
        other = len(cache.past), len(cache.memory)
        if other != lengths:
            raise ValueError(
                f"cache: expected the same number of tokens in every layer, got (past, memory) = {lengths} and {other}"
            )
    return lengths
