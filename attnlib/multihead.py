"""Multi-head attention as a module: the paper's, with grouped heads, a cache, and weights on request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, nn

from attnlib import functional, masks
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
    device: where the parameters are made, ``"meta"`` for none yet; torch's default device unless given.
    dtype: that of the parameters; torch's default dtype unless given.

    Attributes
    ----------
    wq: the queries' projection, a :class:`torch.nn.Linear`. The four projections are all that the state dict holds.
        Each may be replaced by another module that returns as many features: quantised, or wrapped for LoRA.
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

    # Who is shown the weights of each call; on the class, so that a layer that was stored before has it too.
    _observers: tuple[Callable[[Tensor], None], ...] = ()

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
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        num_heads = whole_number("num_heads", num_heads)
        d_model = whole_number("d_model", d_model)
        num_kv_heads = num_heads if num_kv_heads is None else whole_number("num_kv_heads", num_kv_heads)
        if num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads: expected a divisor of num_heads={num_heads}, got {num_kv_heads}")
        if d_model % num_heads and (d_k is None or d_v is None):
            hint = "; or give d_k and d_v"
            if d_model < num_heads:
                hint = "; the order is (num_heads, d_model), not (embed_dim, num_heads) as in nn.MultiheadAttention"
            raise ValueError(f"d_model: expected a multiple of num_heads={num_heads}, got {d_model}{hint}")
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
        options = {"bias": projection_bias, "device": device, "dtype": dtype}
        self.wq = nn.Linear(d_model, num_heads * d_k, **options)
        self.wk = nn.Linear(d_model, num_kv_heads * d_k, **options)
        self.wv = nn.Linear(d_model, num_kv_heads * d_v, **options)
        self.fc = nn.Linear(num_heads * d_v, d_model, **options)
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
        cache: the layer's own memory, for self-attention: the keys and values of the L new tokens are appended to it,
            and S counts all so far. One made by :meth:`remember` is only read, for cross-attention: then there is no
            key. Prompts of several lengths are padded on the left, since the new tokens follow on the right:
            ``masks.causal() & ~masks.padding(missing)`` at every step.
        need_weights: compute the weights and keep them in ``attn``. The output is the same, to the dtype's tolerance.

        Returns
        -------
        (B, L, d_model).

        Raises
        ------
        ValueError: if sizes do not fit, or a cache is another layer's.
        TypeError: if a dtype does not fit, or a mask is not bool. See :func:`attnlib.attention`.
        """
        if cache is not None and not isinstance(cache, KVCache):
            raise TypeError(f"cache: expected a KVCache, got {type(cache).__name__}")
        reads_only = cache is not None and cache.read_only
        key, value = self._check(query, key, value, reads_only)
        if query.is_nested:
            self._check_jagged("query", mask=mask, bias=bias, cache=cache, need_weights=need_weights or None)
        functional.check_dropout("dropout", self.dropout)  # an attribute, so that it may have changed
        if mask is not None or bias is not None or cache is not None or self.rotary is not None:
            self._check_scores(query, key, mask, bias, cache)
        # (B, L, d_model) → (B, L, H·d_k) → (B, H, L, d_k)
        queries = _split(_projected(self.wq, query, "query"), self.d_k)
        if reads_only:
            keys, values = cache.key, cache.value
            functional.check_heads(queries, keys, values)  # the layer may have changed its dtype since
        else:
            keys, values = self._keys_and_values(key, value, offset=0 if cache is None else len(cache))
            if cache is not None:
                keys, values = cache.append(keys, values)
                cache.layer = self
        if self.rotary is not None:
            # As with masks, the last query stands at the last key.
            queries = self.rotary(queries, keys.shape[-2] - queries.shape[-2])
        if need_weights:
            self.attn = None  # the old ones need not be held beside the new ones
        dropout_p = self.dropout if self.training else 0.0
        heads, weights = functional.compute(queries, keys, values, mask, bias, None, dropout_p, need_weights)
        if need_weights:
            self.attn = weights.detach()
        if self._observers:
            if weights is None:
                # Beside the output, so that this, its gradient and what is dropped are the same with and without.
                with torch.no_grad():
                    weights = functional.attention_weights(queries, keys, mask, bias=bias)
            for show in self._observers:
                show(weights.detach())
        # (B, H, L, d_v) → (B, L, H·d_v) → (B, L, d_model)
        return self.fc(heads.transpose(-3, -2).flatten(-2))

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
        >>> from attnlib import MultiHeadAttention
        >>> attend = MultiHeadAttention(num_heads=2, d_model=8)
        >>> memory = attend.remember(torch.randn(3, 7, 8))
        >>> attend(torch.randn(3, 1, 8), cache=memory).shape
        torch.Size([3, 1, 8])
        """
        if self.rotary is not None:
            raise ValueError("key: rotary positions are for self-attention; a layer that remembers has none")
        key, value = self._check(key, key, value, reads_only=False)
        memory = KVCache()
        if key.is_nested:
            self._check_jagged("key", cache=memory)
        memory.append(*self._keys_and_values(key, value, offset=0))
        memory.read_only, memory.layer = True, self
        return memory

    def _keys_and_values(self, key: Tensor, value: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Project to keys (B, H_kv, S, d_k) and values (B, H_kv, S, d_v); the first key stands at ``offset``."""
        keys = _split(_projected(self.wk, key, "key"), self.d_k)
        values = _split(_projected(self.wv, value, "value"), self.d_v)
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
        # Whether it is the layer's dtype, the projections say: they may be quantised, wrapped, or cast their weights.
        if not x.is_floating_point():
            raise TypeError(f"{name}: expected a floating-point tensor, got {x.dtype}")
        if x.dtype != query.dtype and not autocast_is_on(x.device.type):
            raise TypeError(f"{name}: expected query's dtype {query.dtype}, got {x.dtype}")
        if (x.is_nested or query.is_nested) and not x.layout == query.layout == torch.jagged:
            wanted = "padded tensors, or nested ones of layout=torch.jagged for query, key and value"
            raise TypeError(f"{name}: expected {wanted}, got {'a nested' if x.is_nested else 'a padded'} {x.layout}")
        if x.dim() not in (2, 3) or x.dim() != query.dim() or x.shape[-1] != self.d_model:
            axes = f"(B, L, d_model = {self.d_model}), or (L, d_model), with as many axes as query"
            raise ValueError(f"{name}: expected {axes}, got {tuple(x.shape)}")

    def _check_jagged(self, name: str, **others: object) -> None:
        """Check that nothing stands beside jagged tensors that torch has for padded ones only."""
        others |= {"rotary": self.rotary, "record_attention": self._observers or None}
        for other, value in others.items():
            if value is not None:
                way = f"use torch.nested.to_padded_tensor({name}, 0.0) with masks.padding(lengths)"
                raise TypeError(f"{name}: expected a padded tensor beside {other}, got a jagged one; {way}")

    def _check_scores(self, query, key, mask, bias, cache) -> None:
        """Check what the scores must fit, before a cache is written to."""
        batch, S = query.shape[:-2], key.shape[-2]
        if self.rotary is not None and query.shape[-2] != S:
            raise ValueError(f"key: rotary positions are for self-attention; expected S = {query.shape[-2]}, got {S}")
        if cache is not None:
            if cache.layer is not None and cache.layer is not self:
                own = "remember() it with this one" if cache.read_only else "make one KVCache() for each layer"
                raise ValueError(f"cache: expected this layer's own, got that of another layer; {own}")
            if not cache.read_only and query.shape[-2] != S:
                wanted = f"the {query.shape[-2]} tokens of query beside a cache that grows"
                raise ValueError(
                    f"key: expected {wanted}, got {S}; for cross-attention, make the cache with remember()"
                )
            past = len(cache)
            if past and cache.batch != batch:
                raise ValueError(f"cache: expected the batch {tuple(batch)} of query, got {tuple(cache.batch)}")
            if past and not cache.read_only:
                _check_padding(mask, past)
            S = past + (0 if cache.read_only else S)
        functional.check_mask_and_bias(mask, bias, (*batch, self.num_heads, query.shape[-2], S), query.device)

    @contextmanager
    def _shown_to(self, observer: Callable[[Tensor], None]) -> Iterator[None]:
        """Call ``observer`` with the weights of every call, (B, H, L, S), before dropout, detached."""
        with _observing:
            self._observers = (*self._observers, observer)
        try:
            yield
        finally:
            with _observing:
                self._observers = tuple(other for other in self._observers if other is not observer)

    def __getstate__(self) -> dict:
        """A copy, or a pickle, made while somebody looks is not looked at."""
        return {name: value for name, value in self.__dict__.items() if name != "_observers"}

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}, d_k={self.d_k}, d_v={self.d_v}"


_observing = Lock()  # two threads may begin to look at one layer at a time


def _split(x: Tensor, width: int) -> Tensor:
    """(B, L, H·width) → (B, H, L, width). H is counted, not read: under tensor parallelism it is a rank's share."""
    return torch.unflatten(x, -1, (-1, width)).transpose(-3, -2)


def _projected(projection: nn.Module, x: Tensor, name: str) -> Tensor:
    """Return ``projection(x)``; where the dtype does not fit, name the argument."""
    try:
        return projection(x)
    except RuntimeError as error:
        weight = getattr(projection, "weight", None)
        plain = isinstance(weight, Tensor) and weight.is_floating_point()
        if plain and weight.dtype != x.dtype and "dtype" in str(error):
            raise TypeError(f"{name}: expected the layer's dtype {weight.dtype}, got {x.dtype}") from error
        raise


def _check_padding(mask: Mask | Tensor | None, past: int) -> None:
    """Check that lengths do not end before the new tokens: those of the prompts would close what is written to all."""
    if isinstance(mask, masks.Both):
        _check_padding(mask.left, past)
        _check_padding(mask.right, past)
    elif isinstance(mask, masks.Padding) and mask.longest is not None and mask.longest <= past:
        wanted = f"a length of more than the {past} cached keys, since the new tokens follow them"
        way = "pad the prompts on the left, and give ~masks.padding(missing) at each step"
        raise ValueError(f"mask: expected {wanted}, got lengths of at most {mask.longest}; {way}")
