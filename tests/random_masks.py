"""Random mask expressions of any size, beside the bool arrays that they stand for, built pair by pair."""

import numpy as np
import torch
from hypothesis import strategies as st

from attnlib import masks


class EvenUpTo(masks.Mask):
    """A mask of somebody's own: of the first keys of each example, every other one. It knows no runs."""

    def __init__(self, lengths):
        self.lengths = torch.as_tensor(lengths)

    def shape(self, L, S):
        return (len(self.lengths), 1, 1, S)

    def allows(self, b, h, q, k):
        return (k < self.lengths.to(k.device)[b]) & (k % 2 == 0)


def _pairs(L, S, allowed):
    """Return the bool array (L, S) of ``allowed(query's position, key's position)``; the last meet."""
    return np.array([[allowed(S - L + i, j) for j in range(S)] for i in range(L)], dtype=bool).reshape(L, S)


@st.composite
def leaves(draw, B, H, L, S):
    """Draw one mask, and its array that broadcasts to (B, H, L, S)."""
    kinds = ["causal", "window", "prefix", "padding", "pairs", "pairs of each example", "pairs of each head", "own"]
    kind = draw(st.sampled_from(kinds + ["documents", "documents of each example"] * (L <= S)))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    match kind:
        case "causal":
            return masks.causal(), _pairs(L, S, lambda i, j: j <= i)
        case "window":
            size = draw(st.integers(1, S + 1))
            return masks.sliding_window(size), _pairs(L, S, lambda i, j: abs(i - j) < size)
        case "prefix":
            length = draw(st.integers(1, S))
            return masks.prefix(length), _pairs(L, S, lambda i, j: j < length)
        case "padding":
            lengths = random.integers(0, S + 1, draw(st.sampled_from([1, B])))
            return masks.padding(lengths), (np.arange(S) < lengths[:, None])[:, None, None]
        case "documents":
            ids = _ids(draw, random, (S,))
            return masks.documents(ids), ids[S - L :, None] == ids
        case "documents of each example":
            ids = _ids(draw, random, (draw(st.sampled_from([1, B])), S))
            return masks.documents(ids), (ids[:, S - L :, None] == ids[:, None])[:, None]
        case "own":
            lengths = random.integers(0, S + 1, B)
            return EvenUpTo(lengths), ((np.arange(S) < lengths[:, None]) & (np.arange(S) % 2 == 0))[:, None, None]
    shape = {"pairs": (L, S), "pairs of each example": (B, 1, L, S), "pairs of each head": (1, H, 1, S)}[kind]
    allowed = random.random(shape) < draw(st.sampled_from([0.05, 0.5, 0.95]))
    return masks.from_tensor(torch.from_numpy(allowed)), allowed


def _ids(draw, random, shape):
    """Draw packed documents, or ids in any order."""
    ids = random.integers(0, draw(st.integers(1, 5)), shape)
    return np.sort(ids, axis=-1) if draw(st.booleans()) else ids


def expressions(B, H, L, S):
    """Draw a mask combined by ``&``, ``|`` and ``~``, and its array, combined by NumPy."""
    return st.recursive(
        leaves(B, H, L, S),
        lambda inner: st.one_of(
            inner.map(lambda a: (~a[0], ~a[1])),
            st.tuples(inner, inner).map(lambda ab: (ab[0][0] & ab[1][0], ab[0][1] & ab[1][1])),
            st.tuples(inner, inner).map(lambda ab: (ab[0][0] | ab[1][0], ab[0][1] | ab[1][1])),
        ),
        max_leaves=4,
    )
