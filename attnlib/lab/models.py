"""Small models for the tasks, and what attention is compared with: recurrence and convolution of the same size."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from attnlib import positions

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


class Recurrent(nn.Module):
    """A body that reads from both ends: a bidirectional GRU (Cho et al., 2014), each direction half as large.

    >>> import torch
    >>> from attnlib.lab.models import Recurrent
    >>> Recurrent(8)(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.gru = nn.GRU(d_model, d_model // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, d_model) → tokens (B, L, d_model)."""
        return self.gru(x)[0]


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
    """An encoder and a decoder without attention: all that is read goes through one vector (Sutskever et al., 2014).

    Args:
        vocab: the number of different tokens, shared by source and target.
        d_model: the size of tokens and states.

    >>> import torch
    >>> from attnlib.lab.models import RecurrentWriter
    >>> tokens = torch.zeros(3, 5, dtype=torch.int64)
    >>> RecurrentWriter(12, 8)(tokens, tokens[:, :4]).shape
    torch.Size([3, 4, 12])
    """

    def __init__(self, vocab: int, d_model: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.encoder = nn.GRU(d_model, d_model, batch_first=True)
        self.decoder = nn.GRU(d_model, d_model, batch_first=True)
        self.output = nn.Linear(d_model, vocab)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Source (B, S), target (B, L) → logits (B, L, vocab)."""
        _, state = self.encoder(self.embedding(source))
        return self.output(self.decoder(self.embedding(target), state)[0])


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
