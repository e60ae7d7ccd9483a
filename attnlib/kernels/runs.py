"""What a mask leaves, run by run, once the queries are known: how a kernel learns what it need not compute.

A run is (stop, left): the keys from the end of the run before it up to ``stop``. A row of runs covers all S keys. For
the pairs of some queries and the keys of a run, ``left`` is what remains to be looked at::

    True      full: each query may attend to each key, and no mask is needed
    False     empty: no query may attend to any key, and nothing is computed
    a mask    partial: the pairs must be looked at, and this mask decides

So ``documents(ids) & causal()`` leaves the keys of the queries' own document that come before them all full, those
beside them partial under the causal mask alone, and the rest empty. A mask that differs between examples leaves a run
full, or empty, where it is so in each of them.

What each kind of mask leaves is registered here, beside what the planner asks of it. A kind that is not registered
leaves all keys partial: right, only not faster.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import singledispatch

import torch
from torch import Tensor

from attnlib.masks import (
    Both,
    Causal,
    Documents,
    Either,
    FromTensor,
    Keys,
    LastKeys,
    Mask,
    Not,
    Padding,
    Prefix,
    SlidingWindow,
    Span,
)

__all__ = ["Runs", "knows_runs", "moves_along", "of_example", "runs_of", "starts"]

Left = bool | Mask
Runs = list[tuple[int, Left]]
RunsOfQueries = Callable[[int, int], Runs]

SHORT = 16  # keys: documents that are shorter on average, and many, are not told apart

# ---------------------------------------------------------------------------------------------------------------------
# What a mask leaves for some queries


@singledispatch
def runs_of(mask: Mask, L: int, S: int) -> RunsOfQueries:
    """Return the function that tells the runs for the queries from ``start`` up to ``stop``.

    What holds for all queries is found once.

    >>> from attnlib import masks
    >>> from attnlib.kernels.runs import runs_of
    >>> runs_of(masks.causal(), 6, 6)(3, 6)
    [(4, True), (6, Causal())]
    """
    return lambda start, stop: [(S, mask)]


@runs_of.register
def _(mask: Causal, L: int, S: int) -> RunsOfQueries:
    def runs(start: int, stop: int) -> Runs:
        first, last = start + S - L, stop - 1 + S - L
        return from_spans(S, [(0, first + 1, True), (first + 1, last + 1, mask)])

    return runs


@runs_of.register
def _(mask: SlidingWindow, L: int, S: int) -> RunsOfQueries:
    def runs(start: int, stop: int) -> Runs:
        first, last = start + S - L, stop - 1 + S - L
        begin, end = last - mask.size + 1, first + mask.ahead + 1  # what the windows of all queries share
        if begin >= end:
            return from_spans(S, [(first - mask.size + 1, last + mask.ahead + 1, mask)])
        before, after = (first - mask.size + 1, begin, mask), (end, last + mask.ahead + 1, mask)
        return from_spans(S, [before, (begin, end, True), after])

    return runs


@runs_of.register
def _(mask: Padding, L: int, S: int) -> RunsOfQueries:
    lengths = mask.lengths.tolist()
    shortest, longest = min(lengths, default=0), max(lengths, default=0)
    return lambda start, stop: from_spans(S, [(0, shortest, True), (shortest, longest, mask)])


@runs_of.register
def _(mask: Keys, L: int, S: int) -> RunsOfQueries:
    begins, states = _stretches(mask.real.all(dim=0).int() - (~mask.real.any(dim=0)).int())
    if len(begins) > max(S // SHORT, 64):  # telling them apart would take longer than computing all
        return lambda start, stop: [(S, mask)]
    left: dict[int, Left] = {1: True, 0: mask, -1: False}  # real in all examples, in some, in none
    spans = [(begin, end, left[state]) for begin, end, state in zip(begins, [*begins[1:], S], states, strict=True)]
    runs = from_spans(S, spans)
    return lambda start, stop: runs


@runs_of.register
def _(mask: Prefix, L: int, S: int) -> RunsOfQueries:
    return lambda start, stop: from_spans(S, [(0, mask.length, True)])


@runs_of.register
def _(mask: Documents, L: int, S: int) -> RunsOfQueries:
    if mask.ids.dim() == 2 and len(mask.ids) > 1:
        return lambda start, stop: [(S, mask)]
    begins, names = _stretches(mask.ids)
    if len(begins) > max(S // SHORT, 64):  # telling them apart would take longer than computing all
        return lambda start, stop: [(S, mask)]
    places = defaultdict(list)  # where each document lies: in one place, or in several
    for name, begin, end in zip(names, begins, [*begins[1:], S], strict=True):
        places[name].append((begin, end))

    def runs(start: int, stop: int) -> Runs:
        first, last = bisect_right(begins, start + S - L) - 1, bisect_right(begins, stop - 1 + S - L)
        here = set(names[first:last])
        left = True if len(here) == 1 else mask
        return from_spans(S, [(*place, left) for place in sorted(p for name in here for p in places[name])])

    return runs


def _stretches(ids: Tensor) -> tuple[list[int], list[int]]:
    """Return where each stretch of equal ids begins, and its id."""
    names, lengths = torch.unique_consecutive(ids.flatten(), return_counts=True)
    return (lengths.cumsum(0) - lengths).tolist(), names.tolist()


@runs_of.register
def _(mask: Both, L: int, S: int) -> RunsOfQueries:
    left, right = runs_of(mask.left, L, S), runs_of(mask.right, L, S)
    return lambda start, stop: combined(left(start, stop), right(start, stop), both)


@runs_of.register
def _(mask: Either, L: int, S: int) -> RunsOfQueries:
    left, right = runs_of(mask.left, L, S), runs_of(mask.right, L, S)
    return lambda start, stop: combined(left(start, stop), right(start, stop), either)


@runs_of.register
def _(mask: Not, L: int, S: int) -> RunsOfQueries:
    inner = runs_of(mask.mask, L, S)
    return lambda start, stop: inverted(inner(start, stop))


@runs_of.register
def _(mask: LastKeys, L: int, S: int) -> RunsOfQueries:
    inner, first = runs_of(mask.mask, L, S + mask.first), mask.first

    def runs(start: int, stop: int) -> Runs:
        of_all = [(end - first, left) for end, left in inner(start, stop) if end > first]
        return [(end, LastKeys(left, first) if isinstance(left, Mask) else left) for end, left in of_all]

    return runs


# ---------------------------------------------------------------------------------------------------------------------
# What else the planner asks


def knows_runs(mask: Mask) -> bool:
    """Return whether the mask, or one that it is made of, tells of runs that are full or empty."""
    if isinstance(mask, Both | Either):
        return knows_runs(mask.left) or knows_runs(mask.right)
    return (
        knows_runs(mask.mask)
        if isinstance(mask, Not | LastKeys)
        else runs_of.dispatch(type(mask)) is not _NOTHING_KNOWN
    )


_NOTHING_KNOWN = runs_of.dispatch(object)


@singledispatch
def moves_along(mask: Mask) -> bool:
    """Return whether a pair is open or not by the distance of its positions alone, so that the mask moves along."""
    return False


@moves_along.register(Causal | SlidingWindow)
def _(mask: Mask) -> bool:
    return True


@moves_along.register(Both | Either)
def _(mask: Both | Either) -> bool:
    return moves_along(mask.left) and moves_along(mask.right)


@moves_along.register(Not | LastKeys)
def _(mask: Not | LastKeys) -> bool:
    return moves_along(mask.mask)


@singledispatch
def starts(mask: Mask, L: int, S: int) -> set[int]:
    """Return the queries at which a block should begin, because the mask jumps there."""
    return set()


@starts.register
def _(mask: Documents, L: int, S: int) -> set[int]:
    return {begin - (S - L) for begin in _stretches(mask.ids)[0]}


@starts.register(Both | Either)
def _(mask: Both | Either, L: int, S: int) -> set[int]:
    return starts(mask.left, L, S) | starts(mask.right, L, S)


@starts.register
def _(mask: Not, L: int, S: int) -> set[int]:
    return starts(mask.mask, L, S)


@starts.register
def _(mask: LastKeys, L: int, S: int) -> set[int]:
    return starts(mask.mask, L, S + mask.first)


@singledispatch
def of_example(mask: Mask, b: int) -> Mask:
    """Return the mask of example ``b`` alone; the mask itself where all examples share it."""
    return _OneExample(mask, b)


@of_example.register(Causal | SlidingWindow | Prefix)
def _(mask: Mask, b: int) -> Mask:
    return mask


@of_example.register
def _(mask: Padding, b: int) -> Mask:
    return Padding(mask.lengths[b : b + 1], mask.longest) if len(mask.lengths) > 1 else mask


@of_example.register
def _(mask: Keys, b: int) -> Mask:
    return Keys(mask.real[b : b + 1]) if len(mask.real) > 1 else mask


@of_example.register
def _(mask: Documents, b: int) -> Mask:
    return mask if mask.ids.dim() == 1 else Documents(mask.ids[b if len(mask.ids) > 1 else 0])


@of_example.register
def _(mask: FromTensor, b: int) -> Mask:
    return FromTensor(mask.tensor[b : b + 1]) if mask.tensor.dim() > 2 and len(mask.tensor) > 1 else mask


@of_example.register(Both | Either)
def _(mask: Both | Either, b: int) -> Mask:
    return type(mask)(of_example(mask.left, b), of_example(mask.right, b))


@of_example.register
def _(mask: Not, b: int) -> Mask:
    return Not(of_example(mask.mask, b))


@of_example.register
def _(mask: LastKeys, b: int) -> Mask:
    return LastKeys(of_example(mask.mask, b), mask.first)


class _OneExample(Mask):
    """One example of a mask of a kind that is not registered."""

    def __init__(self, mask: Mask, b: int):
        self.mask, self.b = mask, b

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.mask.allows(torch.full_like(b, self.b), h, q, k)

    def shape(self, L: int, S: int) -> tuple[int, ...]:
        shape = self.mask.shape(L, S)
        return shape if len(shape) < 4 else (1, *shape[1:])


# ---------------------------------------------------------------------------------------------------------------------
# Runs as such


def from_spans(S: int, spans: Iterable[tuple[int, int, Left]]) -> Runs:
    """Return the runs of S keys that (start, stop, left) spans make, in order; what lies between them is empty.

    A span may begin before the first key, end after the last, or hold nothing.

    >>> from attnlib.kernels.runs import from_spans
    >>> from_spans(9, [(-2, 3, True), (5, 5, True), (7, 20, True)])
    [(3, True), (7, False), (9, True)]
    """
    runs: Runs = []
    end = 0
    for start, stop, left in spans:
        start, stop = max(start, end), min(stop, S)
        if start < stop:
            _extend(runs, start, False)
            _extend(runs, stop, left)
            end = stop
    _extend(runs, S, False)
    return runs


def combined(left: Runs, right: Runs, rule: Callable[[Left, Left], Left]) -> Runs:
    """Return ``rule``, :func:`both` or :func:`either`, of two rows of runs over the same keys.

    >>> from attnlib.kernels.runs import both, combined
    >>> combined([(4, True), (6, False)], [(2, False), (6, True)], both)
    [(2, False), (4, True), (6, False)]
    """
    runs: Runs = []
    i = j = 0
    while i < len(left) and j < len(right):
        (left_stop, of_left), (right_stop, of_right) = left[i], right[j]
        _extend(runs, min(left_stop, right_stop), rule(of_left, of_right))
        i += left_stop <= right_stop
        j += right_stop <= left_stop
    return runs


def both(left: Left, right: Left) -> Left:
    """Return what ``left & right`` leaves.

    >>> from attnlib.kernels.runs import both
    >>> both(True, False), both(True, True)
    (False, True)
    """
    if left is False or right is False:
        return False
    if left is True:
        return right
    return left if right is True else left & right


def either(left: Left, right: Left) -> Left:
    """Return what ``left | right`` leaves.

    >>> from attnlib.kernels.runs import either
    >>> either(True, False), either(False, False)
    (True, False)
    """
    if left is True or right is True:
        return True
    if left is False:
        return right
    return left if right is False else left | right


def inverted(runs: Runs) -> Runs:
    """Return what ``~`` the mask that left these runs leaves.

    >>> from attnlib.kernels.runs import inverted
    >>> inverted([(4, True), (6, False)])
    [(4, False), (6, True)]
    """
    return [(stop, not left if isinstance(left, bool) else ~left) for stop, left in runs]


def open_spans(runs: Runs, gap: int) -> list[Span]:
    """Return the (start, stop) of the keys that are not empty; fewer than ``gap`` empty ones between are kept.

    >>> from attnlib.kernels.runs import open_spans
    >>> open_spans([(4, True), (6, False), (7, True), (20, False), (23, True)], gap=3)
    [(0, 7), (20, 23)]
    """
    spans: list[Span] = []
    start = 0
    for stop, left in runs:
        if left is not False:
            near = spans and start - spans[-1][1] < gap
            spans.append((spans.pop()[0] if near else start, stop))
        start = stop
    return spans


def count_full(runs: Runs) -> int:
    """Return how many keys are full.

    >>> from attnlib.kernels.runs import count_full
    >>> count_full([(4, True), (6, False), (7, True)])
    5
    """
    count = start = 0
    for stop, left in runs:
        count += (stop - start) * (left is True)
        start = stop
    return count


def _extend(runs: Runs, stop: int, left: Left) -> None:
    """Add a run at the end, as part of the last one where the same is left of both; one without keys not at all."""
    if stop <= (runs[-1][0] if runs else 0):
        return
    if runs and runs[-1][1] is left:
        runs[-1] = (stop, left)
    else:
        runs.append((stop, left))
