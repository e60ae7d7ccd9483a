"""What a layer is given, checked before anything is computed or written to a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from attnlib import checks
from attnlib.cache import KVCache, Memory
from attnlib.modes import autocast_is_on, is_plain
from attnlib.multihead import MultiHeadAttention

if TYPE_CHECKING:
    from attnlib.transformer.layers import DecoderLayer, EncoderLayer

__all__ = ["LayerCache"]


class LayerCache(NamedTuple):
    """What a :class:`DecoderLayer` remembers between two steps of decoding."""

    past: KVCache  # keys and values of the target so far: grows
    memory: Memory  # keys and values of the encoder's output: only read


def check_vocabulary(name: str, tokens: Tensor, vocab: int, axes: Sequence[int] = (1, 2)) -> None:
    """Check that these are tokens (B, L), or (L,), L of at least 1: whole numbers from 0 to vocab − 1."""
    _check_numbers(name, tokens)
    if tokens.dim() not in axes or tokens.shape[-1] == 0:
        wanted = "(B, L), or (L,)," if 1 in axes else "(B, L)"
        raise ValueError(f"{name}: expected {wanted} with L of at least 1, got {tuple(tokens.shape)}")
    _check_range(name, tokens, vocab)


def check_next(tokens: Tensor, texts: int, vocab: int) -> None:
    """Check that these are the tokens (N,) that come next in N texts."""
    _check_numbers("tokens", tokens)
    if tokens.shape != (texts,):
        raise ValueError(f"tokens: expected one for each of {texts} texts, ({texts},), got {tuple(tokens.shape)}")
    _check_range("tokens", tokens, vocab)


def _check_numbers(name: str, tokens: Tensor) -> None:
    if not isinstance(tokens, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tokens).__name__}")
    if tokens.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name}: expected tokens as int64 or int32, got {tokens.dtype}")


def _check_range(name: str, tokens: Tensor, vocab: int) -> None:
    # Reading elements would synchronise with a GPU.
    if is_plain(tokens) and tokens.device.type == "cpu" and tokens.numel():
        smallest, largest = (int(x) for x in tokens.aminmax())
        if smallest < 0 or largest >= vocab:
            wrong = smallest if smallest < 0 else largest
            raise ValueError(f"{name}: expected tokens from 0 to {vocab - 1}, got {wrong}")


def checked_token(name: str, token: int, target_vocab: int) -> int:
    """Return one token as an int, once it is known to be in the vocabulary."""
    token = checks.whole_number(name, token, at_least=0)
    if token >= target_vocab:
        raise ValueError(f"{name}: expected a token below target_vocab={target_vocab}, got {token}")
    return token


def check_tokens(name: str, x: Tensor, attention: MultiHeadAttention) -> None:
    """Check that x is a tensor of tokens (…, d_model) that the layer can compute with."""
    checks.tokens(name, x, attention.d_model)
    # A projection of another kind may be quantised, or cast what it is given: it says itself what does not fit.
    dtype = attention.wq.weight.dtype if type(attention.wq) is nn.Linear else x.dtype
    if x.dtype != dtype and not autocast_is_on(x.device.type):
        raise TypeError(f"{name}: expected the layer's dtype {dtype}, got {x.dtype}")


def lengths(memory: Tensor | None, caches: LayerCache | list[LayerCache] | None) -> tuple[int, int]:
    """Check that the memory comes in one way; return how many target tokens are past, and S of the memory."""
    if (memory is None) == (caches is None):
        found = "neither" if memory is None else "both"
        raise ValueError(f"memory: expected either memory or a cache made by remember(), got {found}")
    if memory is not None:
        if not isinstance(memory, Tensor):
            raise TypeError(f"memory: expected a tensor, got {type(memory).__name__}")
        if memory.dim() < 2:
            raise ValueError(f"memory: expected (B, S, d_model), or (S, d_model), got {tuple(memory.shape)}")
        return 0, memory.shape[-2]
    caches = [caches] if isinstance(caches, LayerCache) else caches
    if not isinstance(caches, list) or not all(isinstance(cache, LayerCache) for cache in caches):
        raise TypeError(f"cache: expected one made by remember(), got {type(caches).__name__}")
    if not caches:
        raise ValueError("cache: expected that of each layer, got none")
    for cache in caches:
        if not (isinstance(cache.past, KVCache) and isinstance(cache.memory, Memory)):
            kinds = f"a {type(cache.past).__name__} beside a {type(cache.memory).__name__}"
            raise TypeError(f"cache: expected a KVCache beside a Memory; make it with remember(), got {kinds}")
    return len(caches[0].past), len(caches[0].memory)


def check_memory(
    memory: Tensor | None,
    caches: LayerCache | list[LayerCache] | None,
    layers: Sequence[DecoderLayer],
    x: Tensor,
) -> tuple[int, int]:
    """Check that the memory fits the target's tokens ``x`` in every layer; return the :func:`lengths`.

    Asked at every step of decoding: where all fits, it only compares.
    """
    past, S = lengths(memory, caches)
    batch = x.shape[:-2]
    if memory is not None:
        check_tokens("memory", memory, layers[0].cross_attention)
        if memory.shape[:-2] != batch:
            raise ValueError(f"memory: expected the batch {tuple(batch)} of x, got {tuple(memory.shape[:-2])}")
        if memory.device != x.device:
            raise ValueError(f"memory: expected x's device {x.device}, got {memory.device}")
        return past, S
    of_layers = [caches] if isinstance(caches, LayerCache) else caches or []
    if len(of_layers) != len(layers):
        raise ValueError(f"cache: expected that of {len(layers)} layers, got {len(of_layers)}")
    _check_each_its_own([cache.past for cache in of_layers])
    for cache, layer in zip(of_layers, layers, strict=True):
        for kept, attention in ((cache.memory, layer.cross_attention), (cache.past, layer.self_attention)):
            kept.check_fits(batch, x.dtype, x.device, attention.d_k, attention.d_v)
            kept.check_belongs(attention)
        other = len(cache.past), len(cache.memory)
        if other != (past, S):
            wanted = f"the same number of tokens in every layer, got (past, memory) = {(past, S)} and {other}"
            raise ValueError(f"cache: expected {wanted}")
    return past, S


def past_of(caches: list[KVCache] | None, layers: Sequence[EncoderLayer], x: Tensor) -> int:
    """Check that there is a cache for each layer, and that each fits the tokens ``x``; return how many are past."""
    if caches is None:
        return 0
    if not isinstance(caches, list) or not all(isinstance(cache, KVCache) for cache in caches):
        found = type(caches).__name__ if not isinstance(caches, list) else "a list of something else"
        raise TypeError(f"cache: expected a list of KVCache, one for each layer, got {found}")
    if len(caches) != len(layers):
        raise ValueError(f"cache: expected that of {len(layers)} layers, got {len(caches)}")
    _check_each_its_own(caches)
    past = caches[0].length
    for cache, layer in zip(caches, layers, strict=True):
        attention = layer.self_attention
        cache.check_belongs(attention)
        cache.check_fits(x.shape[:-2], x.dtype, x.device, attention.d_k, attention.d_v)
        if cache.length != past:
            wanted = f"the same number of tokens in every layer, got {past} and {cache.length}"
            raise ValueError(f"cache: expected {wanted}")
    return past


def _check_each_its_own(caches: Sequence[KVCache]) -> None:
    """Check that no two layers would write to one cache: an empty one is nobody's yet."""
    if len({id(cache) for cache in caches}) < len(caches):
        raise ValueError("cache: expected one for each layer, got one for several")


def scores_shape(x: Tensor, S: int, attention: MultiHeadAttention) -> tuple[int, ...]:
    """Return the shape (…, H, L, S) of the scores of the tokens x (…, L, d_model)."""
    return (*x.shape[:-2], attention.num_heads, x.shape[-2], S)
