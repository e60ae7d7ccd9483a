"""Multi-head attention as a module: the paper's, with grouped heads, a cache, and weights on request."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from attnlib import checks, functional
from attnlib.biases import ByDistance
from attnlib.cache import KVCache, Memory
from attnlib.masks import Mask
from attnlib.positions import Rotary, check_positions
from attnlib.scores import Scores

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

    Args:
        num_heads: H, the number of heads.
        d_model: the size of the tokens that come in, and of those that go out.
        d_k: the size of a query and of a key in each head. Default: ``d_model // num_heads``.
        d_v: the size of a value in each head. Default: ``d_model // num_heads``.
        dropout: the probability with which a weight is dropped in training, in [0, 1).
        num_kv_heads: H_kv, the number of key and value heads, a divisor of H. Default: H. Query head h reads key head
            h // (H // H_kv): grouped-query attention (Ainslie et al., 2023), or multi-query with 1 (Shazeer, 2019).
        rotary: a :class:`attnlib.positions.Rotary` that turns queries and keys by their positions.
        projection_bias: whether the four projections add a bias; the paper's do not. Or the names of those that do:
            ``("wq", "wk", "wv")`` as in Qwen2, ``("wq", "wv", "fc")`` as in Whisper.
        scale: what the scores are multiplied with; T5's is 1. Default: 1/√d_k.
        qk_norm: makes the norm of a head's queries, and that of its keys, from d_k, as :class:`torch.nn.RMSNorm` in
            Qwen3; they act before rotary positions. Default: none.
        key_width: the size of the tokens that keys are made of, where cross-attention reads tokens of another size.
            Default: ``d_model``.
        value_width: that of the tokens that values are made of. Default: ``key_width``.
        device: where the parameters are made, ``"meta"`` for none yet. Default: torch's default device.
        dtype: that of the parameters. Default: torch's default dtype.

    Attributes:
        wq: the queries' projection, a :class:`torch.nn.Linear`. The four projections, and norms that were asked for,
            are all that the state dict holds. A projection may be replaced by any module that maps the same widths:
            quantised, wrapped for LoRA, one that casts its weights. It is called; nothing is read from it.
        wk: the keys' projection.
        wv: the values' projection.
        fc: the output projection.
        q_norm: None, or what ``qk_norm`` made for the queries.
        k_norm: the same for the keys.
        attn: None, or the weights (B, H, L, S) of the last call with ``need_weights=True``: one row for each query of
            each head, before dropout, detached.

    Raises:
        ValueError: if a size is less than 1, sizes do not divide each other, or ``dropout`` is outside [0, 1).
        TypeError: if a size is not a whole number.

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

    Grouped heads with rotary positions, as in Llama; a prompt, then the next token, which reads the cache:

    >>> from attnlib import KVCache
    >>> from attnlib.positions import Rotary
    >>> attend = MultiHeadAttention(num_heads=4, d_model=8, num_kv_heads=2, rotary=Rotary(d_k=2))
    >>> cache = KVCache()
    >>> y = attend(x, mask=masks.causal(), cache=cache)
    >>> attend(torch.randn(3, 1, 8), mask=masks.causal(), cache=cache).shape, cache.key.shape
    (torch.Size([3, 1, 8]), torch.Size([3, 2, 6, 2]))
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
        projection_bias: bool | Collection[str] = False,
        scale: float | None = None,
        qk_norm: Callable[[int], nn.Module] | None = None,
        key_width: int | None = None,
        value_width: int | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        num_heads = checks.whole_number("num_heads", num_heads)
        d_model = checks.whole_number("d_model", d_model)
        num_kv_heads = num_heads if num_kv_heads is None else checks.whole_number("num_kv_heads", num_kv_heads)
        if num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads: expected a divisor of num_heads={num_heads}, got {num_kv_heads}")
        if d_model % num_heads and (d_k is None or d_v is None):
            order = "the order is (num_heads, d_model), not (embed_dim, num_heads) as in nn.MultiheadAttention"
            way = order if d_model < num_heads else "or give d_k and d_v"
            raise ValueError(f"d_model: expected a multiple of num_heads={num_heads}, got {d_model}; {way}")
        d_k = d_model // num_heads if d_k is None else checks.whole_number("d_k", d_k)
        d_v = d_model // num_heads if d_v is None else checks.whole_number("d_v", d_v)
        checks.probability("dropout", dropout)
        if rotary is not None and not isinstance(rotary, Rotary):
            raise TypeError(f"rotary: expected a Rotary, got {type(rotary).__name__}")
        if rotary is not None and rotary.d_k != d_k:
            raise ValueError(f"rotary: expected one of d_k = {d_k}, got {rotary.d_k}")
        biased = _names_of_biased(projection_bias)
        if scale is not None:
            checks.finite_number("scale", scale)
        key_width = d_model if key_width is None else checks.whole_number("key_width", key_width)
        value_width = key_width if value_width is None else checks.whole_number("value_width", value_width)
        self.num_heads, self.num_kv_heads, self.dropout = num_heads, num_kv_heads, dropout
        self.d_model, self.d_k, self.d_v = d_model, d_k, d_v
        self.key_width, self.value_width = key_width, value_width
        self.scale = d_k**-0.5 if scale is None else float(scale)
        self.wq = nn.Linear(d_model, num_heads * d_k, "wq" in biased, device, dtype)
        self.wk = nn.Linear(key_width, num_kv_heads * d_k, "wk" in biased, device, dtype)
        self.wv = nn.Linear(value_width, num_kv_heads * d_v, "wv" in biased, device, dtype)
        self.fc = nn.Linear(num_heads * d_v, d_model, "fc" in biased, device, dtype)
        self.q_norm = None if qk_norm is None else qk_norm(d_k).to(device=device, dtype=dtype)
        self.k_norm = None if qk_norm is None else qk_norm(d_k).to(device=device, dtype=dtype)
        self.rotary = rotary
        self.attn: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, uniformly after Glorot and Bengio (2010); set biases to zero. Norms stay as they are.

        So does the paper's own code. :class:`torch.nn.MultiheadAttention` begins smaller: it draws W_Q, W_K and W_V as
        one matrix, which makes them 1/√2 times as large, and W_O as any :class:`torch.nn.Linear`, 1/√3 times, with a
        bias of zero. To begin as it does:

        >>> from torch import nn
        >>> from attnlib import MultiHeadAttention
        >>> attend = MultiHeadAttention(num_heads=2, d_model=8)
        >>> for projection in (attend.wq, attend.wk, attend.wv):
        ...     _ = nn.init.xavier_uniform_(projection.weight, gain=2**-0.5)
        >>> attend.fc.reset_parameters()
        """
        for projection in (self.wq, self.wk, self.wv, self.fc):
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Mask | Tensor | Scores | None = None,
        *,
        bias: Tensor | ByDistance | None = None,
        positions: Tensor | None = None,
        cache: KVCache | Memory | None = None,
        need_weights: bool = False,
    ) -> Tensor:
        """Let each query token gather from the key tokens.

        Args:
            query: (B, L, d_model), or (L, d_model).
            key: (B, S, d_model), or as wide as ``key_width`` says. Default: ``query`` itself (self-attention).
            value: (B, S, d_model), or as wide as ``value_width`` says. Default: ``key``.
            mask: a Mask, or a bool tensor, True where a query may attend: (L, S), (B, L, S), or (B|1, H|1, L|1, S|1).
                A stack of layers checks it once, as :class:`attnlib.scores.Scores`.
            bias: float, added to the scores: (L, S) or (B|1, H|1, L|1, S|1); or a rule by the distance, as
                :class:`attnlib.positions.ALiBi`.
            positions: (L,) or (B, L), whole numbers: where the tokens stand, for ``rotary``. Default: one after the
                other, from ``len(cache)`` on, or from 0.
            cache: the layer's own :class:`attnlib.KVCache`, for self-attention: the keys and values of the L new tokens
                are appended to it, and S counts all so far. Or what :meth:`remember` made, for cross-attention: then
                there is no key. Prompts of several lengths are padded on the left, since the new tokens follow on the
                right: ``masks.causal() & ~masks.padding(missing)`` at every step, or
                ``masks.keys(attention_mask)`` of all tokens so far.
            need_weights: compute the weights and keep them in ``attn``. The output is the same, to the dtype's
                tolerance.

        Returns:
            (B, L, d_model).

        Raises:
            ValueError: if sizes do not fit, or a cache is another layer's.
            TypeError: if a dtype does not fit, or a mask is not bool. See :func:`attnlib.attention`.
        """
        key, value, scores = self._checked(query, key, value, mask, bias, cache, need_weights, positions)
        # (B, L, d_model) → (B, L, H·d_k) → (B, H, L, d_k)
        queries = _split(_projected(self.wq, query, "query"), self.d_k)
        if self.q_norm is not None:
            queries = self.q_norm(queries)
        if isinstance(cache, Memory):
            keys, values = cache.read(queries)
        else:
            first = 0 if cache is None else cache.length
            where = first if positions is None else positions
            queries = self._turned(queries, where)
            keys, values = self._keys_and_values(key, value)
            keys = self._turned(keys, where)
            if cache is not None:
                keys, values = cache.append(keys, values, self)
        if cache is not None:  # it looked at each number as it came, so that no step looks at all of them again
            scores = scores._replace(finite=cache.is_finite)
        if need_weights:
            self.attn = None  # the old ones need not be held beside the new ones
        scale, dropout_p = self.scale, self.dropout if self.training else 0.0
        heads, weights = functional.compute(
            queries, keys, values, scores, scale=scale, dropout_p=dropout_p, need_weights=need_weights
        )
        if weights is None and self._observers:
            with torch.no_grad():  # beside the output, so that this, its gradient and what is dropped stay the same
                weights = functional.compute_weights(queries, keys, scores, scale=scale)
        if weights is not None:
            weights = weights.detach()
            if need_weights:
                self.attn = weights
            for show in self._observers:
                show(weights)
        # (B, H, L, d_v) → (B, L, H·d_v) → (B, L, d_model)
        return self.fc(heads.transpose(-3, -2).flatten(-2))

    def remember(self, key: Tensor, value: Tensor | None = None) -> Memory:
        """Project what cross-attention will read again and again: the tokens of an encoder, once for all steps.

        Args:
            key: (B, S, d_model).
            value: (B, S, d_model). Default: ``key``.

        Returns:
            A memory, with which ``attend(query, cache=memory)`` equals ``attend(query, key, value)``.

        Raises:
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
        key, value = checks.keys_and_values(key, value, key, self.key_width, self.value_width)
        if key.is_nested:
            checks.nothing_beside_jagged("key", remember=True)
        return Memory(*self._keys_and_values(key, value), layer=self)

    def _keys_and_values(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Project to keys (B, H_kv, S, d_k) and values (B, H_kv, S, d_v)."""
        keys = _split(_projected(self.wk, key, "key"), self.d_k)
        values = _split(_projected(self.wv, value, "value"), self.d_v)
        if self.k_norm is not None:
            keys = self.k_norm(keys)
        return keys, values

    def _turned(self, heads: Tensor, positions: Tensor | int) -> Tensor:
        """Turn queries or keys (B, H, L, d_k) by their positions; a number is that of the first."""
        if self.rotary is None:
            return heads
        if isinstance(positions, Tensor):
            return self.rotary(heads, positions=positions)
        return self.rotary(heads, positions)

    def _checked(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        mask: Mask | Tensor | Scores | None,
        bias: Tensor | ByDistance | None,
        cache: KVCache | Memory | None,
        need_weights: bool,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Scores]:
        """Check all arguments, before anything is computed or written; fill in what was left out."""
        checks.probability("dropout", self.dropout)  # an attribute, so that it may have changed
        if cache is not None and not isinstance(cache, KVCache | Memory):
            raise TypeError(f"cache: expected a KVCache, or what remember() made, got {type(cache).__name__}")
        if isinstance(cache, Memory) and (key is not None or value is not None):
            raise ValueError("key: expected none beside a cache that remember() made: it holds the keys and values")
        # Whether they are of the layer's dtype, the projections say: they may be quantised, wrapped, or cast weights.
        checks.tokens("query", query, self.d_model, query)
        if key is not None:
            key, value = checks.keys_and_values(key, value, query, self.key_width, self.value_width)
        elif value is not None:
            raise ValueError("key: expected a key beside the value, got None")
        elif not isinstance(cache, Memory) and not self.key_width == self.value_width == self.d_model:
            width = f"key_width = {self.key_width}, since query has {self.d_model}"
            raise ValueError(f"key: expected one of {width}, got None")
        else:  # self-attention; of a Memory, whose keys are made already, what stands here is not read
            key = value = query
        if query.is_nested:
            others = {"mask": mask, "bias": bias, "cache": cache, "rotary": self.rotary}
            looks = {"need_weights": need_weights, "record_attention": bool(self._observers)}
            checks.nothing_beside_jagged("query", **others, **looks)
        batch, L, S = query.shape[:-2], query.shape[-2], key.shape[-2]
        if self.rotary is not None and L != S:
            raise ValueError(f"key: rotary positions are for self-attention; expected S = {L}, got {S}")
        if positions is not None and not isinstance(mask, Scores):  # else a layer, or a stack of them, has checked
            self.check_positions(positions, query)
        if cache is not None:
            cache.check_belongs(self)
            if not cache.serves(batch):
                raise ValueError(f"cache: expected the batch {tuple(batch)} of query, got {tuple(cache.batch)}")
            if isinstance(cache, KVCache):
                if L != S:
                    way = "for cross-attention, make the cache with remember()"
                    raise ValueError(f"key: expected the {L} tokens of query beside a cache that grows, got {S}; {way}")
                cache.check_mask(mask.mask if isinstance(mask, Scores) else mask)
            S = cache.length + (S if isinstance(cache, KVCache) else 0)
        scores = Scores.of(mask, bias, (*batch, self.num_heads, L, S), query.device)
        return key, value, cache.within_reach(scores) if isinstance(cache, KVCache) else scores

    def check_positions(self, positions: Tensor, query: Tensor) -> None:
        """Check that there is something to read ``positions``, and that they fit the tokens (…, L, d_model).

        Raises:
            ValueError: if the layer has no rotary positions, or these do not fit.
            TypeError: if they are not whole numbers.

        >>> import torch
        >>> from attnlib import MultiHeadAttention
        >>> attend = MultiHeadAttention(num_heads=2, d_model=8)
        >>> attend.check_positions(torch.arange(5), torch.zeros(3, 5, 8))
        Traceback (most recent call last):
        ValueError: positions: expected None, since the layer has no rotary that would read them, got Tensor
        """
        if self.rotary is None:
            found = type(positions).__name__
            raise ValueError(
                f"positions: expected None, since the layer has no rotary that would read them, got {found}"
            )
        check_positions(positions, query.shape[-2], query.shape[:-2], query.device)

    def __getstate__(self) -> dict:
        """A copy, or a pickle, made while somebody looks is not looked at."""
        return {name: value for name, value in self.__dict__.items() if name != "_observers"}

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}, d_k={self.d_k}, d_v={self.d_v}"


def _names_of_biased(projection_bias: bool | Collection[str]) -> Collection[str]:
    """Return the names of the projections that add a bias."""
    every = ("wq", "wk", "wv", "fc")
    if isinstance(projection_bias, bool):
        return every if projection_bias else ()
    if isinstance(projection_bias, str) or not isinstance(projection_bias, Collection):
        found = repr(projection_bias)
        raise TypeError(f"projection_bias: expected a bool, or names such as ('wq', 'wk', 'wv'), got {found}")
    unknown = [name for name in projection_bias if name not in every]
    if unknown:
        raise ValueError(f"projection_bias: expected names among {', '.join(every)}, got {unknown[0]!r}")
    return projection_bias


def _split(x: Tensor, size: int) -> Tensor:
    """(B, L, H·size) → (B, H, L, size). H is counted, not read: under tensor parallelism it is a rank's share."""
    return torch.unflatten(x, -1, (-1, size)).transpose(-3, -2)


def _projected(projection: nn.Module, x: Tensor, name: str) -> Tensor:
    """Return ``projection(x)``; where the dtype does not fit, name the argument."""
    try:
        return projection(x)
    except RuntimeError as error:
        dtype = getattr(getattr(projection, "weight", None), "dtype", x.dtype)
        if dtype != x.dtype and dtype.is_floating_point and "dtype" in str(error):
            raise TypeError(f"{name}: expected the layer's dtype {dtype}, got {x.dtype}") from error
        raise
