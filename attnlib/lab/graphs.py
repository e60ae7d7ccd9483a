"""Layers as graphs: which point reads which, how far it is from end to end, and what has to wait for what.

A point is a pair (layer, place): layer 0 is the input, and places count from 0. A graph is given by its *readers*: a
function that returns, for a point, the points that read it. It has no last layer: any number of layers is stacked.

>>> from attnlib.lab.graphs import convolution, recurrent, self_attention
>>> recurrent(9)(1, 3), convolution(9)(0, 3), self_attention(3)(0, 0)
([(1, 4)], [(1, 3), (1, 4), (1, 5)], [(1, 0), (1, 1), (1, 2)])
"""

from collections import deque
from collections.abc import Callable

import numpy as np

from attnlib import masks

__all__ = [
    "Point",
    "Readers",
    "convolution",
    "recurrent",
    "rounds_and_arrows",
    "self_attention",
    "shortest_path",
    "windowed",
]

Point = tuple[int, int]
Readers = Callable[[int, int], list[Point]]


def recurrent(n: int) -> Readers:
    """Return the readers of one recurrent layer over n places: each state reads its input and the state before it.

    >>> from attnlib.lab.graphs import recurrent
    >>> recurrent(9)(0, 3), recurrent(9)(1, 3), recurrent(9)(1, 8)
    ([(1, 3)], [(1, 4)], [])
    """

    def readers(layer: int, place: int) -> list[Point]:
        if layer == 0:
            return [(1, place)]
        return [(1, place + 1)] if place + 1 < n else []

    return readers


def convolution(n: int, kernel: int = 3, dilated: bool = False) -> Readers:
    """Return the readers of stacked convolutions over n places: each reads itself and the kernel − 1 places before it.

    ``dilated``: in each layer the gaps between the places read are ``kernel`` times as large as in the layer below.

    >>> from attnlib.lab.graphs import convolution
    >>> convolution(9)(1, 0), convolution(9, dilated=True)(1, 0), convolution(9, kernel=2)(1, 8)
    ([(2, 0), (2, 1), (2, 2)], [(2, 0), (2, 3), (2, 6)], [(2, 8)])
    """

    def readers(layer: int, place: int) -> list[Point]:
        gap = kernel**layer if dilated else 1
        read_by = range(place, place + kernel * gap, gap)
        return [(layer + 1, other) for other in read_by if other < n]

    return readers


def self_attention(n: int) -> Readers:
    """Return the readers of self-attention over n places: each reads every place.

    >>> from attnlib.lab.graphs import self_attention
    >>> self_attention(3)(1, 2)
    [(2, 0), (2, 1), (2, 2)]
    """

    def readers(layer: int, place: int) -> list[Point]:
        return [(layer + 1, other) for other in range(n)]

    return readers


def windowed(n: int, size: int) -> Readers:
    """Return the readers of self-attention under ``masks.sliding_window(size)``: i reads j where |i − j| < size.

    >>> from attnlib.lab.graphs import windowed
    >>> windowed(9, size=2)(0, 3)
    [(1, 2), (1, 3), (1, 4)]
    """
    # (L, S), True where a query may attend
    allowed = masks.sliding_window(size).dense(n, n)
    read_by = [allowed[:, key].nonzero()[:, 0].tolist() for key in range(n)]
    return lambda layer, place: [(layer + 1, query) for query in read_by[place]]


def shortest_path(readers: Readers, n: int) -> list[Point]:
    """Return the points of a shortest path from the first input to the last of n places, in any layer but the input.

    Found by breadth-first search: all paths of one arrow, then of two, and so on. It has one arrow fewer than points.

    Raises:
        ValueError: if there is no such path through n layers.

    >>> from attnlib.lab.graphs import convolution, shortest_path
    >>> shortest_path(convolution(5), 5)
    [(0, 0), (1, 2), (2, 4)]
    """
    came_from: dict[Point, Point | None] = {(0, 0): None}
    waiting = deque(came_from)
    while waiting:
        point = waiting.popleft()
        if point[0] > 0 and point[1] == n - 1:
            path = [point]
            while (before := came_from[path[-1]]) is not None:
                path.append(before)
            return path[::-1]
        for reader in readers(*point):
            if reader not in came_from and reader[0] <= n:
                came_from[reader] = point
                waiting.append(reader)
    raise ValueError(f"readers: expected a path from place 0 to place {n - 1} within {n} layers, found none")


def rounds_and_arrows(readers: Readers, n: int) -> tuple[int, int]:
    """Return how many rounds one layer over n places takes, and how many arrows lead to its points.

    In a round, everything is computed whose inputs are ready. What an arrow costs depends on the layer.

    >>> from attnlib.lab.graphs import recurrent, rounds_and_arrows, self_attention
    >>> rounds_and_arrows(recurrent(9), 9), rounds_and_arrows(self_attention(9), 9)
    ((9, 17), (1, 81))
    """
    ready, arrows = {(0, place): 0 for place in range(n)}, 0
    for point in np.ndindex(2, n):  # a point comes after all that it reads
        for reader in readers(*point):
            if reader[0] == 1:
                arrows += 1
                ready[reader] = max(ready.get(reader, 0), ready[point] + 1)
    return max(ready.values()), arrows
