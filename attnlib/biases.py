"""What is added to the scores by a rule, so that no (L, S) tensor of it need be made.

A kind is a class with one method: :meth:`ByDistance.values`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attnlib.masks import Span

__all__ = ["ByDistance"]


class ByDistance:
    """A bias that the distance of key and query alone decides: one number for each head and each distance.

    Positions are counted in keys, as masks count them: the last query stands at the last key. Give it as ``bias=``; it
    fits any number of queries and keys, so that it goes on under a cache, and what a mask closes is never made of it.
    It gets no gradient, and neither do tensors that it is made of.

    Attributes:
        num_heads: H, or 1 for all heads alike.

    Raises:
        ValueError: on use, if ``values`` returns another shape than (H, n).

    >>> import torch
    >>> from attnlib import attention, masks
    >>> from attnlib.biases import ByDistance
    >>> class Far(ByDistance):
    ...     num_heads = 1
    ...     def values(self, distances, dtype):
    ...         return (-distances.abs()).to(dtype)[None]
    >>> Far().among((0, 2), (0, 3), offset=1, dtype=torch.float32, device=torch.device("cpu"))
    tensor([[[[-1.,  0., -1.],
              [-2., -1.,  0.]]]])
    >>> x = torch.zeros(1, 1, 3, 2)
    >>> attention(x, x, x, masks.causal(), bias=Far()).shape
    torch.Size([1, 1, 3, 2])
    """

    num_heads: int

    def values(self, distances: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what is added at the distances j − i of a key at j from a query at i: (n,) → (H, n) of ``dtype``."""
        raise NotImplementedError

    def among(self, rows: Span, columns: Span, offset: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the bias (1, H, rows, columns) of some queries and keys.

        Args:
            rows: the (start, stop) of the queries.
            columns: the (start, stop) of the keys.
            offset: the position of the first of all queries, S − L.
            dtype: that of the tensor.
            device: where it is made.
        """
        (first, last), (start, stop) = rows, columns
        if first == last:
            return torch.zeros(1, self.num_heads, 0, stop - start, dtype=dtype, device=device)
        # From the last of the queries and the first of the keys to the reverse.
        distances = torch.arange(start - (last - 1) - offset, stop - first - offset, device=device)
        precise = torch.promote_types(dtype, torch.float32)  # half precision cannot count to 4000
        return spread(self.values(distances, precise).detach().to(dtype), last - first, stop - start)


def spread(values: Tensor, L: int, S: int) -> Tensor:
    """Spread values (H, L + S − 1), one for each distance from 1 − L on, over the scores: (1, H, L, S).

    >>> import torch
    >>> from attnlib.biases import spread
    >>> spread(torch.tensor([[-1, 0, 1, 2]]), L=2, S=3)
    tensor([[[[ 0,  1,  2],
              [-1,  0,  1]]]])
    """
    # Each query sees a window of S distances, a step further back than the query before it. By strides: an index of
    # L × S takes fifty times as long, and Tensor.unfold cannot be exported with S left open.
    H, count = values.shape
    return values.contiguous().as_strided((1, H, L, S), (0, count, 1, 1)).flip(-2).contiguous()
