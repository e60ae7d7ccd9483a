"""Multi-head attention as a module: the paper's, with grouped heads, a cache, and weights on request."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from attnlib import functional
from attnlib.cache import KVCache
from attnlib.checks import autocast_is_on, whole_number
from attnlib.masks import Mask
from attnlib.positions import Rotary

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(nn.Module):
    r"""Attention in H heads at once, each with its own projections, then mixed by one more.

    Section 3.2.2 of "Attention Is All You Need" (Vaswani et al., 2017)::

        MultiHead(Q, K, V) = Concat(head_1, …, head_H)·W_O
        head_h = Attention(Q·W_Q[h], K·W_K[h], V·W_V[h])

    ================  ===============================  =====================
    the paper         here                             shape of the weight
    ================  ===============================  =====================
    h                 ``num_heads``, H
    W_Q               ``wq``, all heads at once        (H·d_k, d_model)
    W_K               ``wk``                           (H_kv·d_k, d_model)
    W_V               ``wv``                           (H_kv·d_v, d_model)
    W_O               ``fc``                           (d_model, H·d_v)
    ================  ===============================  =====================

    **d_k and d_v are per head**, as in the paper. A layer has 2·d_model·H·(d_k + d_v) parameters; with the defaults,
    4·d_model². Grouped heads have fewer: d_model·(H + H_kv)·(d_k + d_v).

    Parameters
    ----------
    num_heads: H, the number of heads.
    d_model: the width of the tokens, of what comes in and of what goes out.
    d_k: the width of a query and of a key in each head; ``d_model // num_heads`` unless given.
    d_v: the width of a value in each head; ``d_model // num_heads`` unless given.
    dropout: the probability with which a weight is dropped in training, in [0, 1).
    num_kv_heads: H_kv, the number of key and value heads, a divisor of H; H unless given. Query head h reads key head
        h // (H // H_kv): grouped-query attention (Ainslie et al., 2023), or multi-query with 1 (Shazeer, 2019).
    rotary: a :class:`attnlib.positions.Rotary` that turns queries and keys by their positions.
    projection_bias: whether the four projections add a bias; the paper's do not.

    Attributes
    ----------
    wq: the queries' projection, a :class:`torch.nn.Linear`. The four projections are all that the state dict holds.
    wk: the keys' projection.
    wv: the values' projection.
    fc: the output projection.
    attn: None, or the weights (B, H, L, S) of the last call with ``need_weights=True``: one row for each query of
        each head, before dropout, detached.

    Raises
    ------
    ValueError: if a size is less than 1, H does not divide d_model and d_k or d_v is left out, H_kv does not divide H,
        or ``dropout`` is outside [0, 1).
    TypeError: if a size is no whole number.

    Examples
    --------
    >>> import torch
    >>> from attnlib import MultiHeadAttention, masks
    >>> attend = MultiHeadAttention(num_heads=2, d_model=8)
    >>> x = torch.randn(3, 5, 8)                                       # (B, L, d_model)
    >>> attend(x).shape                                                # self-attention
    torch.Size([3, 5, 8])
    >>> attend(x, mask=masks.causal() & masks.padding([5, 4, 2])).shape
    torch.Size([3, 5, 8])
    >>> attend(x, torch.randn(3, 7, 8)).shape                          # cross-attention to S = 7 other tokens
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        num_heads: int,
        d_model: int,
        d_k: int | None = None,
        d_v: int | None = None,
        dropout: float = 0.1,
        *,
        num_kv_heads: int | None = None,
        rotary: Rotary | None = None,
        projection_bias: bool = False,
    ):
        super().__init__()
        num_heads = whole_number("num_heads", num_heads)
        d_model = whole_number("d_model", d_model)
        num_kv_heads = num_heads if num_kv_heads is None else whole_number("num_kv_heads", num_kv_heads)
        if num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads: expected a divisor of num_heads={num_heads}, got {num_kv_heads}")
        if d_model % num_heads and (d_k is None or d_v is None):
            raise ValueError(
                f"d_model: expected a multiple of num_heads={num_heads}, got {d_model}; or give d_k and d_v"
            )
        d_k = d_model // num_heads if d_k is None else whole_number("d_k", d_k)
        d_v = d_model // num_heads if d_v is None else whole_number("d_v", d_v)
        functional.check_dropout("dropout", dropout)
        if rotary is not None and not isinstance(rotary, Rotary):
            raise TypeError(f"rotary: expected a Rotary, got {type(rotary).__name__}")
        if rotary is not None and rotary.d_k != d_k:
            raise ValueError(f"rotary: expected one of d_k = {d_k}, got {rotary.d_k}")
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.d_model, self.d_k, self.d_v = d_model, d_k, d_v
        self.dropout = dropout
        self.wq = nn.Linear(d_model, num_heads * d_k, bias=projection_bias)
        self.wk = nn.Linear(d_model, num_kv_heads * d_k, bias=projection_bias)
        self.wv = nn.Linear(d_model, num_kv_heads * d_v, bias=projection_bias)
        self.fc = nn.Linear(num_heads * d_v, d_model, bias=projection_bias)
        self.rotary = rotary
        self.attn: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, uniformly after Glorot and Bengio (2010); set biases to zero."""
        for projection in (self.wq, self.wk, self.wv, self.fc):
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Mask | Tensor | None = None,
        *,
        bias: Tensor | None = None,
        cache: KVCache | None = None,
        need_weights: bool = False,
    ) -> Tensor:
        """Let each query token gather from the key tokens.

        Parameters
        ----------
        query: (B, L, d_model), or (L, d_model).
        key: (B, S, d_model); ``query`` itself unless given (self-attention).
        value: (B, S, d_model); ``key`` unless given.
        mask: a Mask, or a bool tensor, True where a query may attend: (L, S), (B, L, S), or (B|1, H|1, L|1, S|1).
        bias: float, added to the scores: (L, S) or (B|1, H|1, L|1, S|1).
        cache: the layer's memory, for self-attention: the keys and values of the L new tokens are appended to it, and
            S counts all so far. One made by :meth:`remember` is only read, for cross-attention: then there is no key.
        need_weights: compute the weights and keep them in ``attn``. The output is the same, to the dtype's tolerance.

        Returns
        -------
        (B, L, d_model).

        Raises
        ------
        ValueError: if sizes do not fit.
        TypeError: if a dtype does not fit, or a mask is not bool. See :func:`attnlib.attention`.
        """
        if cache is not None and not isinstance(cache, KVCache):
            raise TypeError(f"cache: expected a KVCache, got {type(cache).__name__}")
        reads_only = cache is not None and cache.read_only
        key, value = self._check(query, key, value, reads_only)
        self._check_scores(query, key, mask, bias, cache)
        if need_weights:
            self.attn = None  # the old ones need not be held beside the new ones
        # (B, L, d_model) → (B, L, H·d_k) → (B, H, L, d_k)
        queries = _split(_projected(self.wq, query), self.d_k)
        if reads_only:
            keys, values = cache.key, cache.value
            functional.check_heads(queries, keys, values)  # another layer may have made them
        else:
            keys, values = self._keys_and_values(key, value, offset=0 if cache is None else len(cache))
            if cache is not None:
                keys, values = cache.append(keys, values)
        if self.rotary is not None:
            # As with masks, the last query stands at the last key.
            queries = self.rotary(queries, keys.shape[-2] - queries.shape[-2])
        dropout_p = self.dropout if self.training else 0.0
        heads, weights = functional.compute(queries, keys, values, mask, bias, None, dropout_p, need_weights)
        if need_weights:
            self.attn = weights.detach()
        # (B, H, L, d_v) → (B, L, H·d_v) → (B, L, d_model)
        return _projected(self.fc, heads.transpose(-3, -2).flatten(-2))

    def remember(self, key: Tensor, value: Tensor | None = None) -> KVCache:
        """Project what cross-attention will read again and again: the tokens of an encoder, once for all steps.

        Parameters
        ----------
        key: (B, S, d_model).
        value: (B, S, d_model); ``key`` unless given.

        Returns
        -------
        A cache that is only read: ``attend(query, cache=memory)`` equals ``attend(query, key, value)``.

        Raises
        ------
        ValueError: if sizes do not fit, or the layer has rotary positions, which are for self-attention.

        >>> import torch
        >>> attend = MultiHeadAttention(num_heads=2, d_model=8)
        >>> memory = attend.remember(torch.randn(3, 7, 8))
        >>> attend(torch.randn(3, 1, 8), cache=memory).shape
        torch.Size([3, 1, 8])
        """
        if self.rotary is not None:
            raise ValueError("key: rotary positions are for self-attention; a layer that remembers has none")
        key, value = self._check(key, key, value, reads_only=False)
        memory = KVCache()
        memory.append(*self._keys_and_values(key, value, offset=0))
        memory.read_only = True
        return memory

    def _keys_and_values(self, key: Tensor, value: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Project to keys (B, H_kv, S, d_k) and values (B, H_kv, S, d_v); the first key stands at ``offset``."""
        keys = _split(_projected(self.wk, key), self.d_k)
        values = _split(_projected(self.wv, value), self.d_v)
        return (keys if self.rotary is None else self.rotary(keys, offset)), values

    def _check(self, query, key, value, reads_only) -> tuple[Tensor, Tensor]:
        """Check the inputs, and fill in those that were left out."""
        if reads_only and (key is not None or value is not None):
            raise ValueError("key: expected none beside a cache that remember() made: it holds the keys and values")
        self._check_tokens("query", query, query)
        if key is None:
            if value is not None:
                raise ValueError("key: expected a key beside the value, got None")
            return query, query
        self._check_tokens("key", key, query)
        if key.shape[:-2] != query.shape[:-2]:
            raise ValueError(f"key: expected a batch of {query.shape[0]} as in query, got {key.shape[0]}")
        if value is None:
            return key, key
        self._check_tokens("value", value, query)
        if value.shape != key.shape:
            raise ValueError(f"value: expected key's shape {tuple(key.shape)}, got {tuple(value.shape)}")
        return key, value

    def _check_tokens(self, name, x, query) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
        weight = self.wq.weight
        if x.dtype != weight.dtype and not autocast_is_on(x.device.type):
            raise TypeError(f"{name}: expected the layer's dtype {weight.dtype}, got {x.dtype}")
        if x.dim() not in (2, 3) or x.dim() != query.dim() or x.shape[-1] != self.d_model:
            axes = f"(B, L, d_model = {self.d_model}), or (L, d_model), with as many axes as query"
            raise ValueError(f"{name}: expected {axes}, got {tuple(x.shape)}")

    def _check_scores(self, query, key, mask, bias, cache) -> None:
        """Check what the scores must fit, before a cache is written to."""
        batch, S = query.shape[:-2], key.shape[-2]
        if self.rotary is not None and query.shape[-2] != S:
            raise ValueError(f"key: rotary positions are for self-attention; expected S = {query.shape[-2]}, got {S}")
        if cache is not None:
            if not cache.read_only and query.shape[-2] != S:
                wanted = f"the {query.shape[-2]} tokens of query beside a cache that grows"
                raise ValueError(
                    f"key: expected {wanted}, got {S}; for cross-attention, make the cache with remember()"
                )
            if len(cache) and cache.key.shape[:-3] != batch:
                raise ValueError(
                    f"cache: expected the batch {tuple(batch)} of query, got {tuple(cache.key.shape[:-3])}"
                )
            S = len(cache) + (0 if cache.read_only else S)
        functional.check_dropout("dropout", self.dropout)  # an attribute, so that it may have changed
        if mask is None and bias is None:
            return
        functional.check_mask_and_bias(mask, bias, (*batch, self.num_heads, query.shape[-2], S), query.device)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}, d_k={self.d_k}, d_v={self.d_v}"


def _split(x: Tensor, width: int) -> Tensor:
    """(B, L, H·width) → (B, H, L, width). H is counted, not read: under tensor parallelism it is a rank's share."""
    return x.unflatten(-1, (-1, width)).transpose(-3, -2)


def _projected(layer: nn.Module, x: Tensor) -> Tensor:
    """Return ``layer(x)``; by the arithmetic alone where a call would do nothing more, since a call takes time."""
    own = layer.__dict__
    if type(layer) is not nn.Linear or any(map(own.get, _HEEDED_BY_A_CALL)) or _calls_matter():
        return layer(x)
    parameters = own["_parameters"]
    return F.linear(x, parameters["weight"], parameters["bias"])


_HEEDED_BY_A_CALL = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_compiled_call_impl",
    "forward",
)


def _calls_matter() -> bool:
    """Say whether somebody watches the calls of all modules: a compiler, or a hook for every module."""
    return torch.compiler.is_compiling() or _has_any_global_hook()
