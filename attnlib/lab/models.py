"""Small models for the tasks, and what attention is compared with: recurrence and convolution of the same size."""

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib import masks, positions
from attnlib.multihead import MultiHeadAttention

Model = TypeVar("Model", bound=nn.Module)


class Tagger(nn.Module):
    """Tokens in, one answer for each of them out: an embedding, a body, a linear map to the answers.

    Args:
        vocab: the number of different tokens, and of different answers.
        d_model: the size of the tokens.
        body: from tokens (B, L, d_model) to tokens (B, L, d_model), such as :class:`attnlib.transformer.Encoder`.
        add_positions: whether sinusoids are added to the tokens.

    >>> import torch
    >>> from attnlib.lab.models import Tagger
    >>> from attnlib.transformer import Encoder
    >>> body = Encoder(num_layers=1, d_model=8, num_heads=1, d_ff=16)
    >>> Tagger(10, 8, body)(torch.zeros(3, 5, dtype=torch.int64)).shape
    torch.Size([3, 5, 10])
    """

    def __init__(self, vocab: int, d_model: int, body: nn.Module, *, add_positions: bool = True):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.body = body
        self.output = nn.Linear(d_model, vocab)
        self.add_positions = add_positions

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) → logits (B, L, vocab)."""
        x = self.embedding(tokens)
        if self.add_positions:
            x = x + positions.sinusoidal(*x.shape[1:])
        return self.output(self.body(x))


class NoPositions(nn.Module):
    """What to assign to ``Transformer.positions`` for a model that knows no order.

    >>> from attnlib.lab.models import NoPositions
    >>> NoPositions()(length=3)
    0.0
    """

    def forward(self, length: int, offset: int = 0) -> float:
        """Return what is added to the tokens: nothing."""
        return 0.0


class Convolutional(nn.Module):
    """A body of convolutions, each inside a residual connection: ``layers`` times ``kernel // 2`` tokens far.

    >>> import torch
    >>> from attnlib.lab.models import Convolutional
    >>> Convolutional(8, layers=4, kernel=5)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, d_model: int, layers: int, kernel: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(d_model, d_model, kernel, padding="same") for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, d_model) → tokens (B, L, d_model)."""
        x = x.mT  # (B, d_model, L), as Conv1d wants it
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return x.mT


class RecurrentWriter(nn.Module):
    """Two GRUs, one that reads and one that writes: all that is read goes through one vector (Sutskever et al., 2014).

    Or not all: with ``attends`` the writer's states are queries to the reader's, after Bahdanau et al. (2015), here by
    scaled dot products.

    Args:
        vocab: the number of different tokens of the source, and of the target unless that has its own.
        d_model: the size of tokens and states.
        target_vocab: the number of different tokens of the target. Default: one table for both.
        attends: whether each state that writes also attends to all states that have read.

    >>> import torch
    >>> from attnlib.lab.models import RecurrentWriter
    >>> tokens = torch.zeros(3, 5, dtype=torch.int64)
    >>> RecurrentWriter(12, 8)(tokens, tokens[:, :4]).shape
    torch.Size([3, 4, 12])
    """

    def __init__(self, vocab: int, d_model: int, target_vocab: int | None = None, *, attends: bool = False):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.target_embedding = self.embedding if target_vocab is None else nn.Embedding(target_vocab, d_model)
        self.encoder = nn.GRU(d_model, d_model, batch_first=True)
        self.decoder = nn.GRU(d_model, d_model, batch_first=True)
        self.output = nn.Linear(d_model, vocab if target_vocab is None else target_vocab)
        self.attention = MultiHeadAttention(1, d_model, dropout=0.0) if attends else None

    def forward(self, source: Tensor, target: Tensor, source_mask: masks.Padding | None = None) -> Tensor:
        """Source (B, S), target (B, L), where the source is real → logits (B, L, vocab)."""
        states, state = self.encoder(self.embedding(source))
        if source_mask is not None:  # what was read when the last real token had been
            state = states[torch.arange(len(source)), source_mask.lengths - 1][None].contiguous()
        x, _ = self.decoder(self.target_embedding(target), state)
        if self.attention is not None:
            x = x + self.attention(x, states, mask=source_mask)
        return self.output(x)


class ConvolutionalWriter(nn.Module):
    """An encoder and a decoder of convolutions, without attention (the kind of layers of Gehring et al., 2017).

    The decoder reads, beside each token of the target, what the encoder made of the same place of the source. It looks
    back only; ``layers`` times ``kernel // 2`` tokens far, as its encoder does in both directions.

    Args:
        vocab: the number of different tokens, shared by source and target.
        d_model: the size of tokens and layers.
        layers: the convolutions of the encoder, and of the decoder.
        kernel: how many tokens a convolution of the encoder sees: an odd number.

    >>> import torch
    >>> from attnlib.lab.models import ConvolutionalWriter
    >>> tokens = torch.zeros(3, 5, dtype=torch.int64)
    >>> ConvolutionalWriter(12, 8, layers=2, kernel=5)(tokens, tokens[:, :4]).shape
    torch.Size([3, 4, 12])
    """

    def __init__(self, vocab: int, d_model: int, layers: int, kernel: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.encoder = Convolutional(d_model, layers, kernel)
        self.reach = kernel // 2
        self.decoder = nn.ModuleList(nn.Conv1d(d_model, d_model, self.reach + 1) for _ in range(layers))
        self.output = nn.Linear(d_model, vocab)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Source (B, S), target (B, L) → logits (B, L, vocab)."""
        memory = self.encoder(self.embedding(source)).mT  # (B, d_model, S)
        L = target.shape[1]
        x = self.embedding(target).mT + F.pad(memory, (0, max(0, L - memory.shape[2])))[..., :L]
        for layer in self.decoder:
            x = x + torch.relu(layer(F.pad(x, (self.reach, 0))))
        return self.output(x.mT)


def count_parameters(model: nn.Module) -> int:
    """Return how many elements the parameters of a model have; a shared matrix counts once.

    >>> from torch import nn
    >>> from attnlib.lab.models import count_parameters
    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def of_size(make: Callable[[int], Model], wanted: int, sizes: range = range(2, 513, 2)) -> Model:
    """Return the model ``make(size)`` whose number of parameters is nearest to ``wanted``.

    >>> from torch import nn
    >>> from attnlib.lab.models import count_parameters, of_size
    >>> count_parameters(of_size(lambda size: nn.Linear(size, 1), 33))
    33
    """
    with torch.device("meta"):
        counts = {size: count_parameters(make(size)) for size in sizes}
    return make(min(sizes, key=lambda size: abs(counts[size] - wanted)))
