"""Random masks of any size, beside the bool arrays that they stand for, built pair by pair.

One generator for all tests. It draws each kind that the package has, kinds of somebody's own that kernels know nothing
of, and what ``&``, ``|`` and ``~`` make of them.
"""

import numpy as np
import torch
from hypothesis import strategies as st

from attnlib import masks
from attnlib.masks import LastKeys


class Repeated(masks.Mask):
    """A kind of somebody's own: a small bool array over (b, h, q, k), repeated without end along each axis.

    It looks at the axes along which the array is longer than 1, and does not say how many examples or heads there are.
    """

    def __init__(self, pattern):
        self.pattern = torch.as_tensor(pattern)

    def allows(self, b, h, q, k):
        pattern, at = self.pattern.to(k.device), (b, h, q, k)
        looked_at = [axis for axis, size in enumerate(pattern.shape) if size > 1]
        rests = tuple(at[axis] % pattern.shape[axis] for axis in looked_at)
        return pattern.squeeze()[rests] if rests else pattern.squeeze()

    def array(self, B, H, L, S):
        """Return the bool array that the mask stands for, each axis that it looks at whole, and 1 where not."""
        positions = np.arange(B), np.arange(H), np.arange(S - L, S), np.arange(S)
        looked_at = [at if size > 1 else [0] for at, size in zip(positions, self.pattern.shape, strict=True)]
        rests = [np.mod(at, size) for at, size in zip(looked_at, self.pattern.shape, strict=True)]
        return self.pattern.numpy()[np.ix_(*rests)]


class RepeatedFor(Repeated):
    """The same, which says that it is made for B examples of H heads."""

    def __init__(self, pattern, B, H):
        super().__init__(pattern)
        self.B, self.H = B, H

    def shape(self, L, S):
        sizes = zip((self.B, self.H, L, S), self.pattern.shape, strict=True)
        return tuple(size if of_pattern > 1 else 1 for size, of_pattern in sizes)


def _pairs(L, S, allowed):
    """Return the bool array (L, S) of ``allowed(query's position, key's position)``; the last meet."""
    return np.array([[allowed(S - L + i, j) for j in range(S)] for i in range(L)], dtype=bool).reshape(L, S)


KINDS_WITH_A_SHAPE = [
    "causal",
    "window",
    "uneven window",
    "prefix",
    "padding",
    "keys",
    "documents",
    "documents of each example",
    "pairs",
    "pairs of each example",
    "pairs of each head",
    "own",
    "last of more keys",
]
KINDS = [*KINDS_WITH_A_SHAPE, "own without a shape"]  # the last has no dense form where it looks at b or h


@st.composite
def leaves(draw, B, H, L, S, *, kinds=KINDS):
    """Draw one mask of one of ``kinds``, and its array that broadcasts to (B, H, L, S)."""
    # Packed queries are the last of the keys, so there are no more of them.
    kind = draw(st.sampled_from([kind for kind in kinds if L <= S or not kind.startswith("documents")]))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    match kind:
        case "causal":
            return masks.causal(), _pairs(L, S, lambda i, j: j <= i)
        case "window":
            size = draw(st.integers(1, S + 1))
            return masks.sliding_window(size), _pairs(L, S, lambda i, j: abs(i - j) < size)
        case "uneven window":
            size, ahead = draw(st.integers(1, S + 1)), draw(st.integers(0, S + 1))
            return masks.sliding_window(size, ahead=ahead), _pairs(L, S, lambda i, j: -size < j - i <= ahead)
        case "keys":
            real = random.random((draw(st.sampled_from([1, B])), S)) < draw(st.sampled_from([0.1, 0.5, 0.9]))
            real = np.sort(real, axis=-1)[:, :: draw(st.sampled_from([1, -1]))] if draw(st.booleans()) else real
            return masks.keys(torch.from_numpy(real.copy())), real[:, None, None]
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
        case "own" | "own without a shape":
            looks_at = draw(st.tuples(*[st.booleans()] * 4))
            sizes = [size if looked_at else 1 for size, looked_at in zip((2, 3, 5, 2), looks_at, strict=True)]
            pattern = random.random(sizes) < 0.6
            mask = RepeatedFor(pattern, B, H) if kind == "own" else Repeated(pattern)
            return mask, mask.array(B, H, L, S)
        case "last of more keys":  # what a cache makes of a mask when its window has dropped some
            first = draw(st.integers(1, 9))
            mask, array = draw(leaves(B, H, L, S + first, kinds=KINDS_WITH_A_SHAPE))
            return LastKeys(mask, first), array if array.shape[-1] == 1 else array[..., first:]
    shape = {"pairs": (L, S), "pairs of each example": (B, 1, L, S), "pairs of each head": (1, H, 1, S)}[kind]
    allowed = random.random(shape) < draw(st.sampled_from([0.05, 0.5, 0.95]))
    return masks.from_tensor(torch.from_numpy(allowed)), allowed


def _ids(draw, random, shape):
    """Draw packed documents, or ids in any order."""
    ids = random.integers(0, draw(st.integers(1, 5)), shape)
    return np.sort(ids, axis=-1) if draw(st.booleans()) else ids


def expressions(B, H, L, S, *, kinds=KINDS):
    """Draw a mask combined by ``&``, ``|`` and ``~`` of ``kinds``, and its array, combined by NumPy."""
    return st.recursive(
        leaves(B, H, L, S, kinds=kinds),
        lambda inner: st.one_of(
            inner.map(lambda a: (~a[0], ~a[1])),
            st.tuples(inner, inner).map(lambda ab: (ab[0][0] & ab[1][0], ab[0][1] & ab[1][1])),
            st.tuples(inner, inner).map(lambda ab: (ab[0][0] | ab[1][0], ab[0][1] | ab[1][1])),
        ),
        max_leaves=4,
    )
