"""Where a token stands: attention itself does not know.

>>> sinusoidal(2, 4)
tensor([[0.0000, 1.0000, 0.0000, 1.0000],
        [0.8415, 0.5403, 0.0100, 0.9999]])
"""

import torch
from torch import Tensor, nn

from attnlib.checks import whole_number

__all__ = ["Rotary", "sinusoidal"]


def sinusoidal(length: int, d_model: int, *, base: float = 10_000.0) -> Tensor:
    """Return the sinusoidal position encoding (length, d_model), to be added to the tokens.

    Pairs of columns turn at speeds that fall from 1 to nearly 1/base radians a position
    (Vaswani et al., 2017, section 3.5)::

        PE[pos, 2i]     = sin(pos / base^(2i/d_model))
        PE[pos, 2i + 1] = cos(pos / base^(2i/d_model))

    An odd d_model ends with a sine.

    Raises
    ------
    ValueError: if a size is less than 1 or ``base`` is not above 0.
    TypeError: if a size is no whole number.

    >>> sinusoidal(3, 5).shape
    torch.Size([3, 5])
    """
    length, d_model = whole_number("length", length), whole_number("d_model", d_model)
    angles = _angles(0, length, d_model, base)
    encoding = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[:, :d_model]
    return encoding.to(torch.get_default_dtype())


class Rotary(nn.Module):
    """Rotary positions: turn each pair of columns of queries and keys by an angle that grows with the position.

    The score of a query at m and a key at n then depends on m − n alone (Su et al., 2021, equations 14–16 and 34).
    Column i is paired with column i + d_k/2 (half-split, as Hugging Face's Llama), or with its neighbour when
    ``interleaved`` (as in the paper).

    Parameters
    ----------
    d_k: the width of a head, even.
    base: the slowest pair turns at nearly 1/base radians a position.
    interleaved: whether neighbours are paired, instead of halves.

    Raises
    ------
    ValueError: if ``d_k`` is odd or less than 2, or ``base`` is not above 0.

    >>> rotary = Rotary(d_k=2)
    >>> rotary(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([[1.0000, 0.0000],
            [0.5403, 0.8415]])
    """

    def __init__(self, d_k: int, *, base: float = 10_000.0, interleaved: bool = False):
        super().__init__()
        if whole_number("d_k", d_k) % 2:
            raise ValueError(f"d_k: expected an even number of at least 2, got {d_k}")
        _check_base(base)
        self.d_k, self.base, self.interleaved = d_k, base, interleaved

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """Turn ``x`` (…, L, d_k), whose first row stands at position ``offset``.

        Raises
        ------
        ValueError: if the last axis is not d_k wide.
        """
        if x.shape[-1] != self.d_k:
            raise ValueError(f"x: expected (…, L, d_k = {self.d_k}), got {tuple(x.shape)}")
        # Not a buffer: it would be rounded when the module is cast to half precision.
        angles = _angles(offset, x.shape[-2], self.d_k, self.base, x.device)
        # Half precision is widened for the products, and rounded once.
        dtype, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
        cos, sin = angles.cos().to(x), angles.sin().to(x)
        if self.interleaved:
            a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
            return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(dtype)
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(dtype)


def _angles(start: int, length: int, width: int, base: float, device: torch.device | None = None) -> Tensor:
    """Return the angle (length, ⌈width/2⌉) of each position and pair of columns: position · base^(−2i/width).

    In float64: float32 knows the angle at position 100 000 to two digits after the point only.
    """
    _check_base(base)
    if device is not None and device.type == "mps":  # Apple's GPUs have no float64
        device = None
    positions = torch.arange(start, start + length, dtype=torch.float64, device=device)
    return positions[:, None] * base ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)


def _check_base(base: float) -> None:
    if not base > 0:
        raise ValueError(f"base: expected a number above 0, got {base}")
