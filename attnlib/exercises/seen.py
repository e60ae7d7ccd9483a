"""What can be seen in a result that is nearly right, wherever it comes from: a factor, a shape, an order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from attnlib.exercises.observe import TOLERANCE, differs

Pair = tuple[np.ndarray, np.ndarray]  # what is right, and what came


def seen_in(exercise: str, pairs: Sequence[Pair], *, order: bool = False) -> Iterator[tuple[str, str]]:
    """The first that holds for all pairs, of the numbers or of the order in which they stand: its key, and a note."""
    for key, holds in (_ORDERS | _OWN.get(exercise, {}) if order else _TESTS).items():
        if pairs and all(holds(want, got) for want, got in pairs):
            yield key, _NOTES[key](pairs) if key in _NOTES else ""
            return


def _same(want: np.ndarray, got: np.ndarray) -> bool:
    return differs(want, got) is None


def _numbers(test: Callable[[np.ndarray, np.ndarray], bool]) -> Callable[[np.ndarray, np.ndarray], bool]:
    """A test of arrays of numbers that have the right shape."""
    return lambda want, got: want.shape == got.shape and want.dtype.kind == got.dtype.kind == "f" and test(want, got)


def _negated(want: np.ndarray, got: np.ndarray) -> bool:
    return _same(-want, got)


def _factor(want: np.ndarray, got: np.ndarray) -> float:
    """The factor that brings one array nearest to another; NaN if none does."""
    square = float((want * want).sum())
    return float((want * got).sum()) / square if np.isfinite(square) and square else np.nan


def _factors(pairs: Sequence[Pair]) -> str:
    """The factor, if it is one for all; else that of the smallest input, which comes last."""
    factors = [_factor(want, got) for want, got in pairs]
    shown = f"{factors[-1]:.3g}".replace("-", "−")
    same = np.allclose(factors, factors[-1], rtol=0.01)
    return f"it is {shown}" if same else f"it is {shown} on this input, and another one on others"


def _scaled(want: np.ndarray, got: np.ndarray) -> bool:
    factor = _factor(want, got)
    if not np.isfinite(got).all() or not np.isfinite(factor):
        return False
    return abs(factor) > 1e-3 and bool(np.allclose(got, factor * want, rtol=TOLERANCE, atol=TOLERANCE * abs(factor)))


def _shifted(want: np.ndarray, got: np.ndarray) -> bool:
    return want.size > 1 and np.isfinite(got).all() and bool(np.ptp(got - want) < 2 * TOLERANCE)


def _rounded(want: np.ndarray, got: np.ndarray) -> bool:
    return np.ptp(got) > 0 and any(_same(whole, got) for whole in (np.trunc(want), np.round(want), np.floor(want)))


def _transposed(want: np.ndarray, got: np.ndarray) -> bool:
    return want.ndim >= 2 and _same(np.swapaxes(want, -1, -2), got)


def _other_shape(want: np.ndarray, got: np.ndarray) -> bool:
    return want.size == got.size and _same(want.ravel(), got.ravel())


def _reordered(axis: int) -> Callable[[np.ndarray, np.ndarray], bool]:
    """Whether the slices along an axis are right, and stand in another order."""

    def test(want: np.ndarray, got: np.ndarray) -> bool:
        if want.shape != got.shape or want.ndim < -axis or want.dtype.kind != got.dtype.kind:
            return False
        left = [np.take(got, i, axis) for i in range(got.shape[axis])]
        for i in range(want.shape[axis]):
            slice_ = np.take(want, i, axis)
            at = next((j for j, other in enumerate(left) if _same(slice_, other)), None)
            if at is None:
                return False
            left.pop(at)
        return True

    return test


_TESTS: dict[str, Callable[[np.ndarray, np.ndarray], bool]] = {
    "result-shape": _other_shape,
    "result-transposed": _transposed,
    "result-negated": _numbers(_negated),
    "result-scaled": _numbers(_scaled),
    "result-shifted": _numbers(_shifted),
    "result-rounded": _numbers(_rounded),
}
_NOTES = {"result-scaled": _factors}
_ORDERS = {
    "result-rows-reordered": _reordered(-2),
    "result-columns-reordered": _reordered(-1),
    "result-heads-reordered": _reordered(-3),
}
_MASKS: dict[str, Callable[[np.ndarray, np.ndarray], bool]] = {
    "mask-too-open": lambda want, got: got.dtype.kind == "b" and want.shape == got.shape and not (want & ~got).any(),
    "mask-too-closed": lambda want, got: got.dtype.kind == "b" and want.shape == got.shape and not (got & ~want).any(),
}
# What is told of one exercise only, where all else fails.
_OWN: dict[str, dict[str, Callable[[np.ndarray, np.ndarray], bool]]] = {
    "causal_mask": _MASKS,
    "padding_mask": _MASKS,
    "sliding_window": _MASKS,
    "sinusoidal": {"sinusoidal-not-waves": _numbers(lambda want, got: bool((np.abs(got) > 1.001).any()))},
}
