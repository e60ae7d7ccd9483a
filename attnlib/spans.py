"""What is left of a mask, run by run, once the queries are known: how a mask tells a kernel what it need not compute.

A run is (stop, rest): the keys from the end of the run before it up to ``stop``. A row of runs covers all S keys. For
the pairs of some queries and the keys of a run, ``rest`` is what remains to be looked at::

    True      each query may attend to each key: no mask is needed
    False     no query may attend to any key: nothing is computed
    a mask    the pairs must be looked at, and this mask decides

So ``documents(ids) & causal()`` leaves True for the keys of the queries' own document that come before them all, the
causal mask alone for those beside them, and False for the rest. A mask that does not know its structure leaves itself.
A mask that differs between examples leaves True or False where it does so in each of them.
"""

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["Runs", "both", "combined", "count_open", "either", "from_spans", "inverted", "open_spans"]

Rest = Any  # True, False, or a Mask, which is made of runs and so cannot be named here
Runs = list[tuple[int, Rest]]


def from_spans(S: int, spans: Iterable[tuple[int, int, Rest]]) -> Runs:
    """Return the runs of S keys that (start, stop, rest) spans make, in order; what lies between them is False.

    A span may begin before the first key, end after the last, or be empty.

    >>> from attnlib.spans import from_spans
    >>> from_spans(9, [(-2, 3, True), (5, 5, True), (7, 20, True)])
    [(3, True), (7, False), (9, True)]
    """
    runs: Runs = []
    end = 0
    for start, stop, rest in spans:
        start, stop = max(start, end), min(stop, S)
        if start < stop:
            _extend(runs, start, False)
            _extend(runs, stop, rest)
            end = stop
    _extend(runs, S, False)
    return runs


def combined(left: Runs, right: Runs, rule: Callable[[Rest, Rest], Rest]) -> Runs:
    """Return ``rule``, :func:`both` or :func:`either`, of two rows of runs over the same keys.

    >>> from attnlib.spans import both, combined
    >>> combined([(4, True), (6, False)], [(2, False), (6, True)], both)
    [(2, False), (4, True), (6, False)]
    """
    runs: Runs = []
    i = j = 0
    while i < len(left) and j < len(right):
        (left_stop, left_rest), (right_stop, right_rest) = left[i], right[j]
        _extend(runs, min(left_stop, right_stop), rule(left_rest, right_rest))
        i += left_stop <= right_stop
        j += right_stop <= left_stop
    return runs


def both(left: Rest, right: Rest) -> Rest:
    """Return what is left of ``left & right``.

    >>> from attnlib.spans import both
    >>> both(True, False), both(True, True)
    (False, True)
    """
    if left is False or right is False:
        return False
    if left is True:
        return right
    return left if right is True else left & right


def either(left: Rest, right: Rest) -> Rest:
    """Return what is left of ``left | right``.

    >>> from attnlib.spans import either
    >>> either(True, False), either(False, False)
    (True, False)
    """
    if left is True or right is True:
        return True
    if left is False:
        return right
    return left if right is False else left | right


def inverted(runs: Runs) -> Runs:
    """Return what is left of ``~`` the mask that left these runs.

    >>> from attnlib.spans import inverted
    >>> inverted([(4, True), (6, False)])
    [(4, False), (6, True)]
    """
    return [(stop, not rest if isinstance(rest, bool) else ~rest) for stop, rest in runs]


def open_spans(runs: Runs, gap: int) -> list[tuple[int, int]]:
    """Return the (start, stop) of the keys of which some may be open; fewer than ``gap`` closed ones between are kept.

    >>> from attnlib.spans import open_spans
    >>> open_spans([(4, True), (6, False), (7, True), (20, False), (23, True)], gap=3)
    [(0, 7), (20, 23)]
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for stop, rest in runs:
        if rest is not False:
            near = spans and start - spans[-1][1] < gap
            spans.append((spans.pop()[0] if near else start, stop))
        start = stop
    return spans


def count_open(runs: Runs) -> int:
    """Return how many keys are open to all queries.

    >>> from attnlib.spans import count_open
    >>> count_open([(4, True), (6, False), (7, True)])
    5
    """
    count = start = 0
    for stop, rest in runs:
        count += (stop - start) * (rest is True)
        start = stop
    return count


def _extend(runs: Runs, stop: int, rest: Rest) -> None:
    """Add a run at the end, as part of the last one where the same is left of both; an empty one not at all."""
    if stop <= (runs[-1][0] if runs else 0):
        return
    if runs and runs[-1][1] is rest:
        runs[-1] = (stop, rest)
    else:
        runs.append((stop, rest))
