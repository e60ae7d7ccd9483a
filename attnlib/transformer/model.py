"""Stacks of layers, and the whole model of "Attention Is All You Need" (Vaswani et al., 2017)."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.biases import ByDistance
from attnlib.cache import KVCache
from attnlib.checks import whole_number
from attnlib.masks import Mask, causal, from_tensor
from attnlib.positions import sinusoidal
from attnlib.scores import Scores
from attnlib.transformer.inputs import (
    LayerCache,
    check_memory,
    check_next,
    check_tokens,
    check_vocabulary,
    checked_token,
    lengths,
    past_of,
    scores_shape,
)
from attnlib.transformer.layers import DecoderLayer, EncoderLayer
from attnlib.transformer.protocol import Decoding

__all__ = ["Decoder", "Encoder", "Transformer"]


class Encoder(nn.Module):
    """A stack of :class:`EncoderLayer`, for tokens that have their positions already.

    With pre-norm a last norm follows, because there nothing else normalises the sum of all sub-layers (Xiong et al.,
    2020); with the paper's post-norm each layer ends with one.

    Args:
        num_layers: N, the number of layers.
        options: those of :class:`EncoderLayer`: ``d_model``, ``num_heads``, ``d_k``, ``d_v``, ``d_ff``, ``dropout``,
            ``norm_first``, ``norm``, ``feed_forward``, ``attention``.

    >>> import torch
    >>> from attnlib.transformer import Encoder
    >>> encoder = Encoder(num_layers=2, d_model=8, num_heads=2, d_ff=32)
    >>> encoder(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])

    With a causal mask it is a decoder-only model's stack. One token at a time, each projected once:

    >>> from attnlib import KVCache, masks
    >>> x, cache = torch.randn(3, 5, 8), [KVCache() for _ in encoder.layers]
    >>> steps = [encoder(x[:, i : i + 1], masks.causal(), cache=cache) for i in range(5)]
    >>> steps[4].shape
    torch.Size([3, 1, 8])
    """

    layers: Sequence[EncoderLayer]

    def __init__(self, num_layers: int = 6, **options: Any):
        super().__init__()
        layers = nn.ModuleList(EncoderLayer(**options) for _ in range(whole_number("num_layers", num_layers)))
        self.layers = cast(Sequence[EncoderLayer], layers)
        self.norm = _last_norm(self.layers[0], **options)

    def forward(
        self,
        x: Tensor,
        mask: Mask | Tensor | Scores | None = None,
        *,
        bias: Tensor | ByDistance | None = None,
        positions: Tensor | None = None,
        cache: list[KVCache] | None = None,
    ) -> Tensor:
        """Return the tokens x (B, L, d_model) after all layers.

        Args:
            x: (B, L, d_model), or (L, d_model).
            mask: who may attend to whom, as in :class:`attnlib.MultiHeadAttention`.
            bias: what every layer adds to its scores, such as :class:`attnlib.positions.ALiBi`.
            positions: (L,) or (B, L), where the tokens stand, for layers with rotary positions.
            cache: one :class:`attnlib.KVCache` for each layer, beside ``masks.causal()``; x holds the new tokens only.
        """
        attention = self.layers[0].self_attention
        check_tokens("x", x, attention)
        past = past_of(cache, self.layers, x)  # of all layers, before the first one writes to its cache
        if positions is not None:
            attention.check_positions(positions, x)
        scores = Scores.of(mask, bias, scores_shape(x, past + x.shape[-2], attention), x.device)
        caches: Sequence[KVCache | None] = cache or [None] * len(self.layers)
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            x = layer(x, scores, positions=positions, cache=layer_cache)
        return self.norm(x)


class Decoder(nn.Module):
    """A stack of :class:`DecoderLayer`, for tokens that have their positions already.

    Parameters and the last norm are as in :class:`Encoder`.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.transformer import Decoder
    >>> decoder = Decoder(num_layers=2, d_model=8, num_heads=2, d_ff=32)
    >>> x, memory = torch.randn(3, 5, 8), torch.randn(3, 7, 8)
    >>> decoder(x, memory, masks.causal()).shape
    torch.Size([3, 5, 8])

    One token at a time, each projected once:

    >>> cache = decoder.remember(memory)
    >>> steps = [decoder(x[:, i : i + 1], mask=masks.causal(), cache=cache) for i in range(5)]
    >>> steps[4].shape
    torch.Size([3, 1, 8])
    """

    layers: Sequence[DecoderLayer]

    def __init__(self, num_layers: int = 6, **options: Any):
        super().__init__()
        layers = nn.ModuleList(DecoderLayer(**options) for _ in range(whole_number("num_layers", num_layers)))
        self.layers = cast(Sequence[DecoderLayer], layers)
        self.norm = _last_norm(self.layers[0], **options)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Mask | Tensor | Scores | None = None,
        memory_mask: Mask | Tensor | Scores | None = None,
        *,
        bias: Tensor | ByDistance | None = None,
        positions: Tensor | None = None,
        cache: list[LayerCache] | None = None,
    ) -> Tensor:
        """Return the target's tokens x (B, L, d_model) after all layers; see :meth:`DecoderLayer.forward`.

        ``cache`` is one that :meth:`remember` made. The decoder adds no mask; a target's is ``masks.causal()``.
        """
        first = self.layers[0]
        check_tokens("x", x, first.self_attention)
        past, S = check_memory(memory, cache, self.layers, x)  # of all layers, before the first one writes to its cache
        if positions is not None:
            first.self_attention.check_positions(positions, x)
        own = Scores.of(mask, bias, scores_shape(x, past + x.shape[-2], first.self_attention), x.device)
        cross = Scores.of(memory_mask, None, scores_shape(x, S, first.cross_attention), x.device, "memory_mask")
        caches: Sequence[LayerCache | None] = cache or [None] * len(self.layers)
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            x = layer(x, memory, own, cross, positions=positions, cache=layer_cache)
        return self.norm(x)

    def remember(self, memory: Tensor) -> list[LayerCache]:
        """Begin to decode: project the memory (B, S, d_model) once for all steps, in each layer."""
        return [layer.remember(memory) for layer in self.layers]


class Transformer(nn.Module):
    """The model of "Attention Is All You Need": an encoder reads the source, a decoder writes the target.

    Vaswani et al. (2017), figure 1; the defaults are its base model. Tokens become vectors times √d_model (section
    3.4), sinusoidal positions are added (3.5), the sum is dropped out (5.4).

    ==================  ===========================================================
    the paper           here
    ==================  ===========================================================
    N, h, d_ff          ``num_layers``, ``num_heads``, ``d_ff``
    P_drop              ``dropout``
    ε_ls (5.4)          ``torch.nn.CrossEntropyLoss(label_smoothing=…)``
    lrate (equation 3)  :func:`attnlib.transformer.warmup_schedule`
    beam search (6.1)   :func:`attnlib.transformer.beam_search`
    ==================  ===========================================================

    Args:
        source_vocab: the number of different source tokens.
        target_vocab: the number of different target tokens. Default: ``source_vocab``.
        d_model: the size of the tokens.
        num_heads: H, the number of heads.
        d_k: the size of a query and of a key in each head. Default: ``d_model // num_heads``.
        d_v: the size of a value in each head. Default: ``d_model // num_heads``.
        d_ff: the size inside the feed-forward net.
        num_layers: the number of encoder layers, and of decoder layers.
        dropout: the probability of dropping, in [0, 1).
        share_embeddings: one matrix for what may share it: for source, target and the output's logits if both
            vocabularies have one size, else for target and logits. Without it, three matrices.
        norm_first: pre-norm instead of the paper's post-norm.

    Attributes:
        encoder: the :class:`Encoder`.
        decoder: the :class:`Decoder`.
        positions: None for sinusoids, or a module that gives the vectors (length, d_model) to add, as
            ``positions(length, offset)``: assign a :class:`attnlib.positions.Learned` for the paper's row E.

    Each matrix is in the state dict once, so that ``safetensors.torch.save_file(model.state_dict(), path)`` works.

    Raises:
        ValueError: if a size is less than 1, or ``dropout`` is outside [0, 1).
        TypeError: if a size is not a whole number.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.transformer import Transformer
    >>> model = Transformer(13, 11, d_model=8, num_heads=2, d_ff=32, num_layers=1)
    >>> source = torch.randint(13, (3, 7))                               # (B, S)
    >>> target = torch.randint(11, (3, 5))                               # (B, L), begins with a start token
    >>> model(source, target, source_mask=masks.padding([7, 4, 2])).shape
    torch.Size([3, 5, 11])
    """

    positions: nn.Module | None

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int | None = None,
        *,
        d_model: int = 512,
        num_heads: int = 8,
        d_k: int | None = None,
        d_v: int | None = None,
        d_ff: int = 2048,
        num_layers: int = 6,
        dropout: float = 0.1,
        share_embeddings: bool = True,
        norm_first: bool = False,
    ):
        super().__init__()
        source_vocab = whole_number("source_vocab", source_vocab)
        target_vocab = source_vocab if target_vocab is None else whole_number("target_vocab", target_vocab)
        sizes = {"d_model": d_model, "num_heads": num_heads, "d_k": d_k, "d_v": d_v, "d_ff": d_ff, "dropout": dropout}
        self.encoder = Encoder(num_layers, **sizes, norm_first=norm_first)
        self.decoder = Decoder(num_layers, **sizes, norm_first=norm_first)
        # None where a matrix is shared: a second name for it would be a second entry in the state dict.
        share_source = share_embeddings and source_vocab == target_vocab
        self.source_embedding = nn.Embedding(source_vocab, d_model)
        self.target_embedding = None if share_source else nn.Embedding(target_vocab, d_model)
        self.output = None if share_embeddings else nn.Linear(d_model, target_vocab, bias=False)
        self.register_module("positions", None)  # sinusoids, which hold nothing
        self.dropout = nn.Dropout(dropout)
        self.d_model, self.source_vocab, self.target_vocab = d_model, source_vocab, target_vocab
        for matrix in (self.source_embedding, self.target_embedding, self.output):
            if matrix is not None:
                # With the factor √d_model, tokens are as large as positions; without it, logits are about 1.
                nn.init.normal_(matrix.weight, std=d_model**-0.5)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_mask: Mask | Tensor | None = None,
        target_mask: Mask | Tensor | None = None,
    ) -> Tensor:
        """Return the logits (B, L, target_vocab) of the token that follows each target token.

        Args:
            source: (B, S), whole numbers below ``source_vocab``; or (S,).
            target: (B, L), whole numbers below ``target_vocab``: a start token, then what has been written; or (L,).
            source_mask: which source tokens may be read, in encoder and decoder: ``masks.padding(lengths)``, or a bool
                tensor (B|1, 1, 1, S). Another mask for the encoder goes to ``model.encoder`` itself.
            target_mask: which target tokens may be read, combined with ``masks.causal()``. Padding at the end needs
                none: what is real stands before it, and does not see it.

        Raises:
            ValueError: if sizes do not fit, or a token is not in the vocabulary.
            TypeError: if tokens are not whole numbers, or a mask is not one.
        """
        check_vocabulary("source", source, self.source_vocab)
        check_vocabulary("target", target, self.target_vocab)
        if source.shape[:-1] != target.shape[:-1]:
            raise ValueError(f"target: expected the batch {tuple(source.shape[:-1])} of source, got "
                             f"{tuple(target.shape[:-1])}")  # fmt: skip
        own = self._target_scores(target_mask, target, past=0)
        cross = self._source_scores(source_mask, target, source.shape[-1])
        memory = self.encoder(
            self._embed(self.source_embedding, source), self._source_scores(source_mask, source, source.shape[-1])
        )
        return self._logits(self.decoder(self._embed(self._target_table, target), memory, own, cross))

    def encode(self, source: Tensor, source_mask: Mask | Tensor | None = None) -> Tensor:
        """Return what the encoder makes of the source (B, S): the memory (B, S, d_model)."""
        check_vocabulary("source", source, self.source_vocab)
        scores = self._source_scores(source_mask, source, source.shape[-1])
        return self.encoder(self._embed(self.source_embedding, source), scores)

    def decode(
        self,
        target: Tensor,
        memory: Tensor | None = None,
        source_mask: Mask | Tensor | None = None,
        target_mask: Mask | Tensor | None = None,
        *,
        cache: list[LayerCache] | None = None,
    ) -> Tensor:
        """Return the logits (B, L, target_vocab) for the memory that :meth:`encode` made.

        With a cache from ``model.decoder.remember(memory)``, ``target`` holds the new tokens only, and there is no
        ``memory``. ``source_mask`` is given at every step: the cache does not hold it.
        """
        check_vocabulary("target", target, self.target_vocab)
        past, S = lengths(memory, cache)
        own, cross = self._target_scores(target_mask, target, past), self._source_scores(source_mask, target, S)
        x = self._embed(self._target_table, target, offset=past)
        return self._logits(self.decoder(x, memory, own, cross, cache=cache))

    def begin(
        self, source: Tensor, *, start: int, max_length: int, source_mask: Mask | Tensor | None = None
    ) -> Decoding:
        """Read the sources, and begin to write a target for each, as :func:`greedy_search` and the like do.

        Args:
            source: (B, S), the tokens to read.
            start: the target token that a target begins with.
            max_length: the number of tokens that may follow it.
            source_mask: which source tokens may be read, as in :meth:`forward`.

        Returns:
            The targets so far, with their caches (:class:`attnlib.transformer.Decoding`). Their ``logits``,
            (B, target_vocab), are those of the next token; ``append(tokens)`` writes it.

        Raises:
            ValueError: if sizes do not fit, ``start`` is not in the vocabulary, or the model's positions end before
                ``max_length``.
            TypeError: if a token or ``max_length`` is not a whole number.

        >>> import torch
        >>> from attnlib.transformer import Transformer
        >>> model = Transformer(11, d_model=8, num_heads=2, d_ff=32, num_layers=1).eval()
        >>> targets = model.begin(torch.ones(3, 7).long(), start=0, max_length=4)
        >>> targets.append(targets.logits.argmax(-1))
        >>> targets.logits.shape
        torch.Size([3, 11])
        """
        check_vocabulary("source", source, self.source_vocab, axes=(2,))
        start = checked_token("start", start, self.target_vocab)
        known = getattr(self.positions, "max_length", math.inf)
        if whole_number("max_length", max_length) > known:
            raise ValueError(
                f"max_length: expected at most the {known} positions that the model knows, got {max_length}"
            )
        return _Targets(self, source, start, source_mask)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self._target_table.weight) if self.output is None else self.output(x)

    @property
    def _target_table(self) -> nn.Embedding:
        return self.source_embedding if self.target_embedding is None else self.target_embedding

    def _embed(self, table: nn.Embedding, tokens: Tensor, offset: int = 0) -> Tensor:
        """Tokens (B, L) → vectors (B, L, d_model) that know what they are and where they stand."""
        x = table(tokens) * math.sqrt(self.d_model)
        length = tokens.shape[-1]
        if self.positions is not None:
            return self.dropout(x + self.positions(length, offset))
        return self.dropout(x + sinusoidal(length, self.d_model, offset=offset, device=x.device, dtype=x.dtype))

    def _source_scores(self, mask: Mask | Tensor | None, tokens: Tensor, S: int) -> Scores:
        """Check that the mask is one of keys, which fits encoder and decoder alike, and S source tokens."""
        scores = self._scores("source_mask", mask, tokens, S)
        if mask is not None:
            shape = mask.shape(2, S) if isinstance(mask, Mask) else mask.shape
            if shape[-2] != 1 or len(shape) < tokens.dim() + 2:
                raise ValueError(
                    f"source_mask: expected a mask of keys alone, (B, 1, 1, S = {S}), as masks.padding(lengths) makes, "
                    "got one with a row for each query; for that, call model.encoder and model.decoder"
                )
        return scores

    def _target_scores(self, mask: Mask | Tensor | None, target: Tensor, past: int) -> Scores:
        """Check the target's mask, and combine it with the causal one."""
        S = past + target.shape[-1]
        if mask is not None:
            self._scores("target_mask", mask, target, S)
            mask = (mask if isinstance(mask, Mask) else from_tensor(mask)) & causal()
        return self._scores("target_mask", causal() if mask is None else mask, target, S)

    def _scores(self, name: str, mask: Mask | Tensor | None, tokens: Tensor, S: int) -> Scores:
        shape = scores_shape(tokens.unsqueeze(-1), S, self.encoder.layers[0].self_attention)
        return Scores.of(mask, None, shape, tokens.device, name)


class _Targets:
    """What a :class:`Transformer` is writing."""

    logits: Tensor

    def __init__(self, model: Transformer, source: Tensor, start: int, source_mask: Mask | Tensor | None):
        self.model, self.source_mask = model, source_mask
        self.cache = model.decoder.remember(model.encode(source, source_mask))
        self.sources = torch.arange(len(source), device=source.device)  # which one each target reads
        self.append(torch.full((len(source),), start, device=source.device))

    def append(self, tokens: Tensor) -> None:
        check_next(tokens, len(self.sources), self.model.target_vocab)
        logits = self.model.decode(tokens[:, None], source_mask=self.source_mask, cache=self.cache)
        self.logits = logits[:, -1]

    def reorder(self, rows: Tensor) -> None:
        for layer in self.cache:  # first, since they check the rows
            layer.past.reorder(rows)
        sources = self.sources[rows]
        if not torch.equal(sources, self.sources):
            for layer in self.cache:
                layer.memory.reorder(rows)
            self.sources, self.source_mask = sources, _of_rows(self.source_mask, len(self.cache[0].memory), rows)
        self.logits = self.logits[rows]


def _of_rows(mask: Mask | Tensor | None, S: int, rows: Tensor) -> Tensor | None:
    """Return a mask of S keys, (B, 1, 1, S), for the given examples."""
    if mask is None:
        return None
    dense = mask.dense(1, S, rows.device) if isinstance(mask, Mask) else mask
    return dense if len(dense) == 1 else dense[rows]


def _last_norm(
    layer: EncoderLayer | DecoderLayer, norm: Callable[[int], nn.Module] = nn.LayerNorm, **_: Any
) -> nn.Module:
    residual = layer.feed_forward_residual
    return norm(layer.self_attention.d_model) if residual.norm_first else nn.Identity()
