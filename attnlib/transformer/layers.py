"""One layer of the encoder, one of the decoder: attention and feed-forward, each inside a residual connection."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from attnlib import checks
from attnlib.biases import ByDistance
from attnlib.cache import KVCache
from attnlib.masks import Mask
from attnlib.multihead import MultiHeadAttention
from attnlib.scores import Scores
from attnlib.transformer.feed_forward import FeedForward
from attnlib.transformer.inputs import LayerCache, check_memory, check_tokens, past_of, scores_shape

__all__ = ["DecoderLayer", "EncoderLayer", "Residual"]


class Residual(nn.Module):
    """A sub-layer's output, added to its input: the box "Add & Norm" of the paper's figure 1.

    Section 5.4 of "Attention Is All You Need" applies dropout to the sub-layer's output, before it is added. Where the
    sum is normalised (Ba et al., 2016), the paper and most later models differ (Xiong et al., 2020)::

        post-norm, the paper's     norm(x + dropout(sublayer(x)))
        pre-norm, norm_first       x + dropout(sublayer(norm(x)))

    Args:
        d_model: the size of the tokens.
        dropout: the probability with which an element of the output is dropped in training.
        norm_first: normalise before the sub-layer instead of after the sum.
        norm: makes the norm from d_model.

    Raises:
        TypeError: if ``norm`` does not make a module.

    >>> import torch
    >>> from attnlib.transformer import Residual
    >>> double = Residual(d_model=4, dropout=0.1, norm_first=True).eval()
    >>> x = torch.ones(1, 3, 4)
    >>> double(x, lambda normed: x).equal(x + x)
    True
    """

    def __init__(self, d_model: int, dropout: float, norm_first: bool, norm: Callable[[int], nn.Module] = nn.LayerNorm):
        super().__init__()
        self.norm = _made("norm", norm, d_model)
        self.dropout = nn.Dropout(dropout)
        self.norm_first = norm_first

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x (B, L, d_model) with the sub-layer's output added."""
        if self.norm_first:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))

    def extra_repr(self) -> str:
        return f"norm_first={self.norm_first}"


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward net for each token, each in a :class:`Residual`.

    Section 3.1 of "Attention Is All You Need" (Vaswani et al., 2017), whose choices are the defaults; layers of later
    models are this one with other parts. With a causal mask it is a layer of a decoder-only model, such as GPT's, and
    takes a cache.

    Dropout is where the paper has it: on what a sub-layer returns. Weights and hidden units are not dropped.

    Args:
        d_model: the size of the tokens.
        num_heads: H, the number of heads.
        d_k: the size of a query and of a key in each head. Default: ``d_model // num_heads``.
        d_v: the size of a value in each head. Default: ``d_model // num_heads``.
        d_ff: the size inside the feed-forward net.
        dropout: the probability of dropping, in [0, 1).
        norm_first: pre-norm instead of the paper's post-norm.
        norm: makes each norm from d_model, such as :class:`torch.nn.RMSNorm`.
        feed_forward: makes the net from d_model and d_ff: :class:`attnlib.transformer.FeedForward`, or
            :class:`attnlib.transformer.GatedFeedForward`, or one of your own.
        attention: what :class:`attnlib.MultiHeadAttention` takes besides: ``num_kv_heads``, ``rotary``,
            ``projection_bias``, ``qk_norm``, ``scale``, and a ``dropout`` of the weights.

    Raises:
        ValueError: as :class:`attnlib.MultiHeadAttention` does; too if ``d_ff`` is less than 1, or ``attention`` holds
            another name.
        TypeError: as :class:`attnlib.MultiHeadAttention` does; too if ``norm`` or ``feed_forward`` does not make a
            module, or ``attention`` is not a mapping.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.transformer import EncoderLayer
    >>> layer = EncoderLayer(d_model=8, num_heads=2, d_ff=32)
    >>> layer(torch.randn(3, 5, 8), masks.padding([5, 4, 2])).shape
    torch.Size([3, 5, 8])

    A layer of Llama 3.1, and one of ViT:

    >>> from functools import partial
    >>> from torch import nn
    >>> from attnlib.positions import Llama3, Rotary
    >>> from attnlib.transformer import FeedForward, GatedFeedForward
    >>> rotary = Rotary(4, base=500_000.0, scaling=Llama3(factor=8.0))
    >>> llama = EncoderLayer(
    ...     d_model=8, num_heads=2, d_ff=28, dropout=0.0, norm_first=True,
    ...     norm=partial(nn.RMSNorm, eps=1e-5), feed_forward=GatedFeedForward,
    ...     attention={"num_kv_heads": 1, "rotary": rotary},
    ... )
    >>> llama(torch.randn(3, 5, 8), masks.causal()).shape
    torch.Size([3, 5, 8])
    >>> vit = EncoderLayer(
    ...     d_model=8, num_heads=2, d_ff=32, dropout=0.0, norm_first=True,
    ...     norm=partial(nn.LayerNorm, eps=1e-12),
    ...     feed_forward=partial(FeedForward, activation=nn.GELU),
    ...     attention={"projection_bias": True},
    ... )
    >>> vit(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        *,
        d_model: int = 512,
        num_heads: int = 8,
        d_k: int | None = None,
        d_v: int | None = None,
        d_ff: int = 2048,
        dropout: float = 0.1,
        norm_first: bool = False,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        feed_forward: Callable[[int, int], nn.Module] = FeedForward,
        attention: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        checks.probability("dropout", dropout)
        self.self_attention = MultiHeadAttention(num_heads, d_model, d_k, d_v, **checked_options(attention))
        self.attention_residual = Residual(d_model, dropout, norm_first, norm)
        self.feed_forward = _made("feed_forward", feed_forward, d_model, d_ff)
        self.feed_forward_residual = Residual(d_model, dropout, norm_first, norm)

    def forward(
        self,
        x: Tensor,
        mask: Mask | Tensor | Scores | None = None,
        *,
        bias: Tensor | ByDistance | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Return the tokens x (B, L, d_model) after the layer.

        Args:
            x: (B, L, d_model), or (L, d_model).
            mask: who may attend to whom, as in :class:`attnlib.MultiHeadAttention`.
            bias: what is added to the scores, such as :class:`attnlib.positions.ALiBi`.
            positions: (L,) or (B, L), where the tokens stand, for a layer with rotary positions.
            cache: the layer's own :class:`attnlib.KVCache`, beside ``masks.causal()``; x holds the new tokens only.
        """
        if not isinstance(mask, Scores):  # else a stack has checked all this, for all of its layers
            check_tokens("x", x, self.self_attention)
            past = past_of(None if cache is None else [cache], [self], x)
            if positions is not None:
                self.self_attention.check_positions(positions, x)
            mask = Scores.of(mask, bias, scores_shape(x, past + x.shape[-2], self.self_attention), x.device)
            bias = None  # it is among the scores
        attend = partial(self.self_attention, mask=mask, cache=cache, **_given(bias=bias, positions=positions))
        x = self.attention_residual(x, attend)
        return self.feed_forward_residual(x, self.feed_forward)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the encoder's output, feed-forward, each in a :class:`Residual`.

    Section 3.1 of "Attention Is All You Need" (Vaswani et al., 2017).

    Parameters and errors are those of :class:`EncoderLayer`. What is given as ``attention`` holds for both, rotary
    positions for self-attention alone.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.transformer import DecoderLayer
    >>> layer = DecoderLayer(d_model=8, num_heads=2, d_ff=32)
    >>> x, memory = torch.randn(3, 5, 8), torch.randn(3, 7, 8)
    >>> layer(x, memory, mask=masks.causal(), memory_mask=masks.padding([7, 6, 2])).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        *,
        d_model: int = 512,
        num_heads: int = 8,
        d_k: int | None = None,
        d_v: int | None = None,
        d_ff: int = 2048,
        dropout: float = 0.1,
        norm_first: bool = False,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        feed_forward: Callable[[int, int], nn.Module] = FeedForward,
        attention: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        checks.probability("dropout", dropout)
        options = checked_options(attention)
        self.self_attention = MultiHeadAttention(num_heads, d_model, d_k, d_v, **options)
        self.self_attention_residual = Residual(d_model, dropout, norm_first, norm)
        options.pop("rotary", None)
        self.cross_attention = MultiHeadAttention(num_heads, d_model, d_k, d_v, **options)
        self.cross_attention_residual = Residual(d_model, dropout, norm_first, norm)
        self.feed_forward = _made("feed_forward", feed_forward, d_model, d_ff)
        self.feed_forward_residual = Residual(d_model, dropout, norm_first, norm)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Mask | Tensor | Scores | None = None,
        memory_mask: Mask | Tensor | Scores | None = None,
        *,
        bias: Tensor | ByDistance | None = None,
        positions: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Return the target's tokens x (B, L, d_model) after the layer.

        Args:
            x: (B, L, d_model), or (L, d_model).
            memory: (B, S, d_model), the encoder's output; None beside a cache.
            mask: which target tokens a target token may attend to. The layer adds none: a decoder's is
                ``masks.causal()``.
            memory_mask: which tokens of the memory it may attend to.
            bias: what is added to the scores of self-attention, such as :class:`attnlib.positions.ALiBi`.
            positions: (L,) or (B, L), where the target's tokens stand, for a layer with rotary positions.
            cache: made by :meth:`remember`; x holds the new tokens only.

        Raises:
            ValueError: if sizes do not fit, or there is not exactly one of ``memory`` and ``cache``.
            TypeError: if ``cache`` is not one that :meth:`remember` made.
        """
        # All checks come first: nothing must be computed, or written to the cache, before an error.
        check_tokens("x", x, self.self_attention)
        past, S = check_memory(memory, cache, [self], x)
        if positions is not None and not isinstance(mask, Scores):
            self.self_attention.check_positions(positions, x)
        own = Scores.of(mask, bias, scores_shape(x, past + x.shape[-2], self.self_attention), x.device)
        cross = Scores.of(memory_mask, None, scores_shape(x, S, self.cross_attention), x.device, "memory_mask")
        grows, remembered = (None, None) if cache is None else cache
        attend = partial(self.self_attention, mask=own, cache=grows, **_given(positions=positions))
        x = self.self_attention_residual(x, attend)
        x = self.cross_attention_residual(x, lambda x: self.cross_attention(x, memory, mask=cross, cache=remembered))
        return self.feed_forward_residual(x, self.feed_forward)

    def remember(self, memory: Tensor) -> LayerCache:
        """Begin to decode: project the memory (B, S, d_model) once for all steps, beside an empty past."""
        check_tokens("memory", memory, self.cross_attention)
        return LayerCache(KVCache(), self.cross_attention.remember(memory))


def _given(**arguments: Any) -> dict[str, Any]:
    """Return what is not None: an attention of one's own need not know the rest, or may add its own."""
    return {name: value for name, value in arguments.items() if value is not None}


def checked_options(attention: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a layer's attention is made with besides its sizes, once all names are known to be such."""
    if attention is not None and not isinstance(attention, Mapping):
        raise TypeError(f"attention: expected a dict, as {{'num_kv_heads': 2}}, got {type(attention).__name__}")
    names = ("num_kv_heads", "rotary", "projection_bias", "qk_norm", "scale", "dropout")
    for name in attention or {}:
        if name not in names:
            raise ValueError(f"attention: expected names among {', '.join(names)}, got {name!r}")
    return {"dropout": 0.0, **(attention or {})}


def _made(name: str, factory: Callable[..., nn.Module], *sizes: int) -> nn.Module:
    """Return the part of a layer that the factory makes."""
    if isinstance(factory, nn.Module) or not callable(factory):
        found = "a module, " * isinstance(factory, nn.Module) + type(factory).__name__
        raise TypeError(f"{name}: expected a class or function that makes a module, got {found}")
    part = factory(*sizes)
    if not isinstance(part, nn.Module):
        raise TypeError(
            f"{name}: expected a class or function that makes a module, got one that makes {type(part).__name__}"
        )
    return part
