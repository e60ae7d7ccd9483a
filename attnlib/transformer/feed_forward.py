"""The feed-forward net of a layer: the paper's, and the gated one of later models."""

from collections.abc import Callable

from torch import Tensor, nn

from attnlib.checks import whole_number

__all__ = ["FeedForward", "GatedFeedForward"]


class FeedForward(nn.Sequential):
    """Two linear maps with an activation between them, for each token by itself.

    Equation 2 of "Attention Is All You Need" (Vaswani et al., 2017)::

        FFN(x) = max(0, x·W₁ + b₁)·W₂ + b₂

    Args:
        d_model: the size of the tokens.
        d_ff: the size between the two maps.
        activation: makes the activation: :class:`torch.nn.GELU` in BERT, GPT and ViT.
        bias: whether the maps add a bias.

    Attributes:
        down: the second map, whose output the residual connection adds.

    Raises:
        ValueError: if a size is less than 1.
        TypeError: if a size is not a whole number.

    >>> import torch
    >>> from torch import nn
    >>> from attnlib.transformer import FeedForward
    >>> FeedForward(8, 32, activation=nn.GELU)(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, d_model: int, d_ff: int, *, activation: Callable[[], nn.Module] = nn.ReLU, bias: bool = True):
        d_model, d_ff = whole_number("d_model", d_model), whole_number("d_ff", d_ff)
        first, second = nn.Linear(d_model, d_ff, bias), nn.Linear(d_ff, d_model, bias)
        _reset(first, second)
        super().__init__(first, activation(), second)

    @property
    def down(self) -> nn.Module:
        return self[2]

    def __getitem__(self, index: slice | int) -> nn.Module:
        """Return a part; several are a :class:`torch.nn.Sequential`, which is made of parts as this class is not."""
        return nn.Sequential(*self)[index]


class GatedFeedForward(nn.Module):
    """A feed-forward net whose hidden units are each multiplied with a gate: SwiGLU, as in Llama.

    Shazeer (2020), equation 6; the names are those of Hugging Face without ``_proj``::

        FFN(x) = down(activation(gate(x)) ⊙ up(x))

    Args:
        d_model: the size of the tokens.
        d_ff: the number of hidden units. With ⅔ of it there are as many weights as in a :class:`FeedForward`.
        activation: makes the activation: :class:`torch.nn.GELU` gives GEGLU, as in Gemma and T5 1.1.
        bias: whether the three maps add a bias.

    Attributes:
        gate: the map of the gates.
        up: the map of what they are multiplied with.
        down: the last map, whose output the residual connection adds.

    Raises:
        ValueError: if a size is less than 1.
        TypeError: if a size is not a whole number.

    >>> import torch
    >>> from attnlib.transformer import GatedFeedForward
    >>> GatedFeedForward(8, 21)(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, d_model: int, d_ff: int, *, activation: Callable[[], nn.Module] = nn.SiLU, bias: bool = False):
        super().__init__()
        d_model, d_ff = whole_number("d_model", d_model), whole_number("d_ff", d_ff)
        self.gate, self.up = nn.Linear(d_model, d_ff, bias), nn.Linear(d_model, d_ff, bias)
        self.down = nn.Linear(d_ff, d_model, bias)
        _reset(self.gate, self.up, self.down)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Return what the net makes of the tokens x (…, d_model)."""
        return self.down(self.activation(self.gate(x)) * self.up(x))


def _reset(*linears: nn.Linear) -> None:
    """Draw weights uniformly after Glorot and Bengio (2010), as the paper's own code; set biases to zero."""
    for linear in linears:
        nn.init.xavier_uniform_(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
