"""What a search wants of a model, and no more: whoever has it can be searched."""

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor, nn

__all__ = ["Decoding", "GenerativeModel"]


class Decoding(Protocol):
    """N texts that a model is writing, and what it would write next: what ``begin`` of a model returns.

    Attributes:
        logits: (N, target_vocab), of the token that follows each text.

    A search of one's own is a loop:

    >>> import torch
    >>> from attnlib.transformer import LanguageModel
    >>> model = LanguageModel(13, d_model=8, num_heads=2, num_layers=1).eval()
    >>> with torch.no_grad():
    ...     texts, written = model.begin(torch.tensor([[3, 5, 2]]), max_length=4), []
    ...     for _ in range(4):
    ...         written.append(texts.logits.argmax(-1))
    ...         texts.append(written[-1])
    >>> torch.stack(written, dim=1).shape
    torch.Size([1, 4])
    """

    logits: Tensor

    def append(self, tokens: Tensor) -> None:
        """Write one more token in each text, (N,) of int64, and compute the logits of those that follow.

        Those of a :class:`Transformer` and of a :class:`LanguageModel` refuse what does not fit, and stay as they were.
        """
        ...

    def reorder(self, rows: Tensor) -> None:
        """Let text i become what text ``rows[i]`` was, with its logits.

        Args:
            rows: (M,), whole numbers below N. A text may be left out, or go on several times.
        """
        ...


class GenerativeModel(Protocol):
    """A model that writes token by token. A :class:`torch.nn.Module` with a method and a number is one.

    :class:`Transformer` and :class:`LanguageModel` are.

    Attributes:
        target_vocab: the number of different tokens that it writes.

    One of your own, which counts on:

    >>> import torch
    >>> from torch.nn import Module, functional
    >>> from attnlib.transformer import greedy_search
    >>> class Counts:
    ...     def __init__(self, prompts):
    ...         self.append(prompts[:, -1])
    ...     def append(self, tokens):
    ...         self.logits = functional.one_hot((tokens + 1) % 5, 5).float()
    ...     def reorder(self, rows):
    ...         self.logits = self.logits[rows]
    >>> class Counter(Module):
    ...     target_vocab = 5
    ...     def begin(self, source, *, max_length):
    ...         return Counts(source)
    >>> greedy_search(Counter(), torch.tensor([[0, 2], [1, 0]]), max_length=3)
    [tensor([3, 4, 0]), tensor([1, 2, 3])]
    """

    @property
    def target_vocab(self) -> int:
        """The number of different tokens that it writes."""
        ...

    # With *args: each model says by keywords what else it wants to begin, and refuses the rest.
    def begin(self, source: Tensor, *args: Any, **kwargs: Any) -> Decoding:
        """Read the source (B, S), check all arguments before, and return B texts in which nothing is written yet.

        Args:
            source: what is read: the sources of an encoder, or the prompts that a decoder-only model goes on from.
            args: none.
            kwargs: ``max_length``, the number of tokens that may be written; and what was given to the search for this
                model: ``start``, ``source_mask``, ``prompt_mask``.
        """
        ...

    def modules(self) -> Iterator[nn.Module]:
        """The model and all its parts, as of a :class:`torch.nn.Module`: a search puts them in evaluation mode."""
        ...
