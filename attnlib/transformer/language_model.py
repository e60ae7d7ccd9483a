"""A decoder-only language model: tokens in, the logits of the next ones out."""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.cache import KVCache
from attnlib.checks import whole_number
from attnlib.masks import Mask, causal, from_tensor, padding, sliding_window
from attnlib.positions import ALiBi, Learned, Rotary, check_positions, sinusoidal
from attnlib.transformer.feed_forward import FeedForward, GatedFeedForward
from attnlib.transformer.inputs import check_next, check_vocabulary, past_of
from attnlib.transformer.layers import checked_options
from attnlib.transformer.model import Encoder
from attnlib.transformer.protocol import Decoding

__all__ = ["LanguageModel"]


class LanguageModel(nn.Module):
    """A decoder-only model: each token asks those before it what comes next.

    An :class:`Encoder` under a causal mask, between an embedding and its transpose (Radford et al., 2018; 2019)::

        logits = norm(stack(embedding[tokens]))·embeddingᵀ

    As in GPT-2, the norms come first, a last one follows the stack, and the embedding is shared with the output.
    Weights are drawn from N(0, 0.02²), and those that end in one of the 2N residual connections from
    N(0, 0.02²/(2N)), so that the sum does not grow with the number of layers (Radford et al., 2019, section 2.3).
    Biases are 0.

    Positions are rotary, by default; of absolute ones, the prompts that a search goes on from are counted without their
    padding. With ``"sinusoidal"`` tokens are multiplied by √d_model, since sinusoids are as large as 1 (Vaswani et al.,
    2017, section 3.4).

    Args:
        vocab: the number of different tokens.
        d_model: the size of the tokens.
        num_heads: H, the number of heads.
        d_k: the size of a query and of a key in each head. Default: ``d_model // num_heads``.
        d_v: the size of a value in each head. Default: ``d_model // num_heads``.
        d_ff: the size inside the feed-forward net. Default: ``4 * d_model``.
        num_layers: N, the number of layers.
        positions: ``"rotary"``, ``"alibi"`` or ``"sinusoidal"``; or one made as it should be, an
            :class:`attnlib.positions.Rotary` of ``d_k``, an :class:`attnlib.positions.ALiBi`, or
            :class:`attnlib.positions.Learned`, which knows as many positions as its table has rows.
        window: w, if a token may read the last w only, itself among them; a cache then holds no more (Beltagy et al.,
            2020; Jiang et al., 2023). Default: all.
        dropout: the probability of dropping, in [0, 1): of what a sub-layer returns, and of the embedding.
        share_embeddings: one matrix for tokens and logits. Without it, two.
        norm_first: pre-norm, or the paper's post-norm.
        options: other parts of its layers, as :class:`EncoderLayer` takes them: ``norm``, ``feed_forward``, and
            ``attention``, where ``{"num_kv_heads": 2}`` makes grouped heads. A ``feed_forward`` of your own keeps the
            weights that it drew itself, since the model cannot know which of its maps ends in the residual connection.

    Attributes:
        stack: the :class:`Encoder`.
        embedding: the table of the tokens.
        positions: ``"sinusoidal"``, or the module or rule that was given or named. The layers are made for it, so it
            stays.

    Raises:
        ValueError: if sizes do not fit each other, or ``positions`` is another name.
        TypeError: if a size is not a whole number, or ``positions`` none of these.

    >>> import torch
    >>> from attnlib.transformer import LanguageModel, sample
    >>> model = LanguageModel(13, d_model=8, num_heads=2, num_layers=1)
    >>> tokens = torch.randint(13, (3, 5))                               # (B, L)
    >>> logits = model(tokens)
    >>> logits.shape
    torch.Size([3, 5, 13])
    >>> loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    >>> [len(text) for text in sample(model, tokens, max_length=7)]      # three texts go on
    [7, 7, 7]

    As Llama is built:

    >>> from functools import partial
    >>> from attnlib.positions import Rotary
    >>> from attnlib.transformer import GatedFeedForward
    >>> llama = LanguageModel(
    ...     13, d_model=8, num_heads=2, d_ff=28, num_layers=1, positions=Rotary(4, base=500_000.0), dropout=0.0,
    ...     share_embeddings=False, norm=partial(torch.nn.RMSNorm, eps=1e-5), feed_forward=GatedFeedForward,
    ...     attention={"num_kv_heads": 1},
    ... )
    >>> llama(tokens).shape
    torch.Size([3, 5, 13])
    """

    def __init__(
        self,
        vocab: int,
        *,
        d_model: int = 512,
        num_heads: int = 8,
        d_k: int | None = None,
        d_v: int | None = None,
        d_ff: int | None = None,
        num_layers: int = 6,
        positions: str | Rotary | ALiBi | Learned = "rotary",
        window: int | None = None,
        dropout: float = 0.1,
        share_embeddings: bool = True,
        norm_first: bool = True,
        **options: Any,
    ):
        super().__init__()
        vocab, d_model = whole_number("vocab", vocab), whole_number("d_model", d_model)
        self.vocab, self.d_model = vocab, d_model
        self.window = None if window is None else whole_number("window", window)
        num_heads = whole_number("num_heads", num_heads)
        self.positions = _positions(positions, d_model, num_heads, d_k)
        attention = checked_options(options.pop("attention", None))
        if "rotary" in attention:
            raise ValueError("attention: expected no rotary, which is given as positions=, got one")
        if isinstance(self.positions, Rotary):
            attention["rotary"] = self.positions
        sizes: dict[str, Any] = {"d_model": d_model, "num_heads": num_heads, "d_k": d_k, "d_v": d_v}
        sizes |= {"d_ff": 4 * d_model if d_ff is None else d_ff, "dropout": dropout, "norm_first": norm_first}
        self.stack = Encoder(num_layers, **sizes, attention=attention, **options)
        self.embedding = nn.Embedding(vocab, d_model)
        # None where the matrix is shared: a second name for it would be a second entry in the state dict.
        self.output = None if share_embeddings else nn.Linear(d_model, vocab, bias=False)
        self.dropout = nn.Dropout(dropout)
        self._draw()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "positions" and hasattr(self, name):
            raise AttributeError("positions: expected those that the layers were made for; make a new model for others")
        super().__setattr__(name, value)

    def reset_parameters(self) -> None:
        """Draw new weights, as GPT-2 does (Radford et al., 2019, section 2.3).

        Norms, :class:`attnlib.positions.Learned` and a feed-forward net of your own do it by their own
        ``reset_parameters``. So a model that was made on the device ``"meta"`` becomes whole:

        >>> import torch
        >>> from attnlib.transformer import LanguageModel
        >>> with torch.device("meta"):
        ...     model = LanguageModel(13, d_model=8, num_heads=2, num_layers=1)
        >>> model.to_empty(device="cpu").reset_parameters()
        >>> model(torch.tensor([3, 5, 2])).shape
        torch.Size([3, 13])
        """
        parts: list[Any] = list(self.modules())[1:]
        for part in reversed(parts):  # what is inside first, so that the whole has the last word
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        self._draw()

    def _draw(self) -> None:
        """Draw the weights whose place in the model says how large they are."""
        residual_std = 0.02 / math.sqrt(2 * len(self.stack.layers))
        parts: list[nn.Module] = []
        last: list[nn.Module] = []
        for layer in self.stack.layers:
            parts.append(layer.self_attention)
            last.append(layer.self_attention.fc)
            if isinstance(layer.feed_forward, FeedForward | GatedFeedForward):
                parts.append(layer.feed_forward)
                last.append(layer.feed_forward.down)
        parts += [self.embedding] if self.output is None else [self.embedding, self.output]
        for module in (module for part in parts for module in part.modules()):
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for module in last:
            nn.init.normal_(cast(nn.Linear, module).weight, std=residual_std)

    @property
    def target_vocab(self) -> int:
        """The number of different tokens that it writes: ``vocab``."""
        return self.vocab

    def forward(
        self,
        tokens: Tensor,
        mask: Mask | Tensor | None = None,
        *,
        positions: Tensor | None = None,
        cache: list[KVCache] | None = None,
    ) -> Tensor:
        """Return the logits (B, L, vocab) of the token that follows each token.

        Args:
            tokens: (B, L), whole numbers below ``vocab``; or (L,).
            mask: which tokens may be read beside the causal mask, such as ``masks.documents(ids)`` or
                ``masks.keys(real)``. Filling at the end needs none: what is real stands before it, and does not see it.
            positions: (L,) or (B, L), where the tokens stand. Default: one after the other, after those of the cache.
                ALiBi counts keys, and takes none.
            cache: one :class:`attnlib.KVCache` for each layer, as :meth:`new_cache` makes them; ``tokens`` are the new
                ones only.

        Raises:
            ValueError: if sizes do not fit, or a token is not in the vocabulary.
            TypeError: if tokens are not whole numbers, or a mask is not one.

        >>> import torch
        >>> from attnlib.transformer import LanguageModel
        >>> model = LanguageModel(13, d_model=8, num_heads=2, num_layers=1).eval()
        >>> tokens, cache = torch.randint(13, (3, 5)), model.new_cache()
        >>> steps = [model(tokens[:, i : i + 1], cache=cache) for i in range(5)]  # each token is projected once
        >>> torch.allclose(torch.cat(steps, dim=1), model(tokens), atol=1e-6)
        True
        """
        check_vocabulary("tokens", tokens, self.vocab)
        if positions is not None:
            if isinstance(self.positions, ALiBi):
                raise ValueError("positions: expected None, since ALiBi counts keys, got positions")
            check_positions(positions, tokens.shape[-1], tokens.shape[:-1], tokens.device)
        return self._logits(self._hidden(tokens, mask, positions, cache))

    def new_cache(self) -> list[KVCache]:
        """Return an empty cache for each layer; with a window, one that keeps no more than it needs."""
        return [KVCache(window=self.window) for _ in self.stack.layers]

    def begin(self, source: Tensor, *, max_length: int, prompt_mask: Tensor | None = None) -> Decoding:
        """Read the prompts, in one call, and begin to go on from each, as :func:`greedy_search` and the like do.

        Args:
            source: (B, L), the prompts, padded on the left to one length.
            max_length: the number of tokens that may be written.
            prompt_mask: (B, L), bool or 0 and 1, true where a token is real, as tokenizers give it in their
                ``attention_mask``. What is not real is not read, and not counted. Default: all are real.

        Returns:
            The texts so far, with their caches (:class:`attnlib.transformer.Decoding`). Their ``logits`` (B, vocab)
            are those of the next token; ``append(tokens)`` writes it.

        Raises:
            ValueError: if sizes do not fit, a token is not in the vocabulary, a prompt is empty or not padded on the
                left, or the model's positions end before ``max_length``.
            TypeError: if tokens, ``prompt_mask`` or ``max_length`` are not whole numbers.

        >>> import torch
        >>> from attnlib.transformer import LanguageModel
        >>> model = LanguageModel(13, d_model=8, num_heads=2, num_layers=1).eval()
        >>> prompts, real = torch.tensor([[3, 5, 2], [0, 0, 7]]), torch.tensor([[1, 1, 1], [0, 0, 1]])
        >>> texts = model.begin(prompts, max_length=4, prompt_mask=real)
        >>> alone = model.begin(torch.tensor([[7]]), max_length=4)
        >>> torch.allclose(texts.logits[1], alone.logits[0], atol=1e-6)
        True
        """
        check_vocabulary("source", source, self.vocab, axes=(2,))
        max_length = whole_number("max_length", max_length)
        missing = _missing(prompt_mask, source)
        if isinstance(self.positions, Learned) and len(source):
            longest, known = source.shape[1] - (0 if missing is None else int(missing.min())), self.positions.max_length
            # The last of the tokens is written, and not read.
            if longest + max_length - 1 > known:
                wanted = f"at most {max(known - longest + 1, 0)} new tokens after a prompt of {longest}"
                raise ValueError(f"max_length: expected {wanted}, since the model knows {known} positions, got "
                                 f"{max_length}")  # fmt: skip
        return _Texts(self, source, missing)

    def _hidden(
        self, tokens: Tensor, mask: Mask | Tensor | None, positions: Tensor | None, cache: list[KVCache] | None
    ) -> Tensor:
        """Tokens (B, L) → what the stack makes of them (B, L, d_model)."""
        x = self.embedding(tokens)
        past, length = past_of(cache, self.stack.layers, x), tokens.shape[-1]
        where = {"offset": past} if positions is None else {"positions": positions}
        if self.positions == "sinusoidal":
            x = x * math.sqrt(self.d_model)
            x = x + sinusoidal(length, self.d_model, **where, device=x.device, dtype=x.dtype)
        elif isinstance(self.positions, Learned):
            x = x + self.positions(length, **where)
        turned = positions if isinstance(self.positions, Rotary) else None
        bias = self.positions if isinstance(self.positions, ALiBi) else None
        return self.stack(self.dropout(x), self._mask(mask, cache), bias=bias, positions=turned, cache=cache)

    def _mask(self, mask: Mask | Tensor | None, cache: list[KVCache] | None) -> Mask:
        allowed = causal()
        if self.window is not None and not (cache and all(each.window == self.window for each in cache)):
            # Else the caches are the window, which takes less time.
            allowed = allowed & sliding_window(self.window)
        return allowed if mask is None else allowed & (mask if isinstance(mask, Mask) else from_tensor(mask))

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embedding.weight) if self.output is None else self.output(x)


class _Texts:
    """What a :class:`LanguageModel` is writing."""

    logits: Tensor

    def __init__(self, model: LanguageModel, prompts: Tensor, missing: Tensor | None):
        self.model, self.missing, self.cache = model, missing, model.new_cache()
        self._read(prompts)

    def append(self, tokens: Tensor) -> None:
        check_next(tokens, len(self.logits), self.model.vocab)
        self._read(tokens[:, None])

    def reorder(self, rows: Tensor) -> None:
        for layer in self.cache:  # first, since they check the rows
            layer.reorder(rows)
        self.missing = None if self.missing is None else self.missing[rows]
        self.logits = self.logits[rows]

    def _read(self, tokens: Tensor) -> None:
        mask = positions = None
        if self.missing is not None:
            mask = ~padding(self.missing)  # the same for all steps: the filling is what comes first
            if not isinstance(self.model.positions, Rotary | ALiBi):  # of which only differences count
                past = self.cache[0].length
                places = torch.arange(past, past + tokens.shape[1], device=tokens.device)
                positions = (places - self.missing[:, None]).clamp(min=0)
        x = self.model._hidden(tokens, mask, positions, self.cache)
        self.logits = self.model._logits(x[:, -1])  # of the last ones only: a prompt's need much room


def _positions(given: object, d_model: int, num_heads: int, d_k: int | None) -> str | Rotary | ALiBi | Learned:
    """Return the positions, made where only their name was given, once they are known to fit."""
    if given == "rotary":
        if d_k is None and d_model % (2 * num_heads):
            wanted = f"a multiple of 2 * num_heads = {2 * num_heads}, since rotary positions turn pairs of columns"
            raise ValueError(f"d_model: expected {wanted}, got {d_model}; or give d_k and d_v")
        return Rotary(d_model // num_heads if d_k is None else d_k)
    if given == "alibi":
        return ALiBi(num_heads)
    if given == "sinusoidal":
        return given
    if isinstance(given, Rotary):
        size = d_model // num_heads if d_k is None else d_k
        if given.d_k != size:
            raise ValueError(f"positions: expected Rotary of d_k = {size}, got {given}")
        return given
    if isinstance(given, ALiBi):
        if given.num_heads != num_heads:
            raise ValueError(f"positions: expected ALiBi of {num_heads} heads, got {given}")
        return given
    if isinstance(given, Learned):
        if given.d_model != d_model:
            raise ValueError(f"positions: expected Learned of d_model = {d_model}, got {given}")
        return given
    way = "'rotary', 'alibi', 'sinusoidal', or an attnlib.positions.Rotary, ALiBi or Learned"
    if isinstance(given, str):
        raise ValueError(f"positions: expected {way}, got {given!r}")
    raise TypeError(f"positions: expected {way}, got {type(given).__name__}")


def _missing(prompt_mask: Tensor | None, prompts: Tensor) -> Tensor | None:
    """Return how many tokens are missing on the left of each prompt, (B,); None if none are."""
    if prompt_mask is None:
        return None
    if not isinstance(prompt_mask, Tensor):
        raise TypeError(f"prompt_mask: expected a tensor, got {type(prompt_mask).__name__}")
    if prompt_mask.is_floating_point() or prompt_mask.is_complex():
        raise TypeError(f"prompt_mask: expected bools, or whole numbers that are 0 or 1, got {prompt_mask.dtype}")
    if prompt_mask.shape != prompts.shape:
        raise ValueError(f"prompt_mask: expected source's shape {tuple(prompts.shape)}, got {tuple(prompt_mask.shape)}")
    if prompt_mask.device != prompts.device:
        raise ValueError(f"prompt_mask: expected source's device {prompts.device}, got {prompt_mask.device}")
    real = prompt_mask.bool()
    if not torch.equal(real.to(prompt_mask.dtype), prompt_mask):
        raise ValueError("prompt_mask: expected numbers that are 0 or 1, got others")
    missing = (~real).sum(dim=1)
    if (missing == prompts.shape[1]).any():
        empty = int((missing == prompts.shape[1]).nonzero()[0])
        raise ValueError(f"prompt_mask: expected a real token in each prompt, got none in prompt {empty}")
    if (real[:, :-1] & ~real[:, 1:]).any():
        row = int((real[:, :-1] & ~real[:, 1:]).any(dim=1).nonzero()[0])
        way = "pad on the left, as a tokenizer does with padding_side='left'"
        raise ValueError(f"prompt_mask: expected the filling on the left, since new tokens follow on the right, got "
                         f"{real[row].int().tolist()} for prompt {row}; {way}")  # fmt: skip
    return missing if missing.any() else None
