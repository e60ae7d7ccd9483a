"""What every kernel keeps."""

from typing import Protocol

from torch import Tensor

from attnlib.scores import Scores

__all__ = ["Kernel"]


class Kernel(Protocol):
    """A way to compute attention.

    It gives zero output and zero gradient to a query that may attend to nothing. Numbers that are not finite have been
    taken out before it is called. A second derivative is right, or an error.
    """

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, scores: Scores, *, scale: float, dropout_p: float = 0.0
    ) -> Tensor:
        """Return the output (…, H, L, d_v).

        Args:
            query: (…, H, L, d_k), or (L, d_k).
            key: (…, H_kv, S, d_k), or (S, d_k).
            value: (…, H_kv, S, d_v), or (S, d_v).
            scores: where the scores are open, and what is added to them.
            scale: what the products are multiplied with.
            dropout_p: the probability with which each weight is dropped.
        """
        ...
