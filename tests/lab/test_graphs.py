"""Layers as graphs. Oracles: the formulas of the paper's section 4, counted exactly, and masks seen pair by pair."""

from itertools import pairwise

import numpy as np
import pytest

from attnlib import masks
from attnlib.lab.graphs import convolution, recurrent, rounds_and_arrows, self_attention, shortest_path, windowed

LENGTHS = [2, 3, 7, 9, 10, 27, 28, 53]


def steps(readers, n):
    return len(shortest_path(readers, n)) - 1


@pytest.mark.parametrize("n", LENGTHS)
def test_the_paths_are_as_long_as_the_formulas_say(n):
    assert steps(recurrent(n), n) == n
    assert steps(self_attention(n), n) == 1
    for kernel in (2, 3, 5):
        assert steps(convolution(n, kernel), n) == int(np.ceil((n - 1) / (kernel - 1)))
        assert steps(convolution(n, kernel, dilated=True), n) == len(np.base_repr(n - 1, kernel))
    for size in (2, 3, 7):
        assert steps(windowed(n, size), n) == int(np.ceil((n - 1) / (size - 1)))


@pytest.mark.parametrize("readers", [recurrent(9), convolution(9), convolution(9, dilated=True), windowed(9, 4)])
def test_a_path_leads_along_arrows_from_the_first_input_to_the_last_place(readers):
    path = shortest_path(readers, 9)
    assert path[0] == (0, 0)
    assert path[-1][0] > 0
    assert path[-1][1] == 8
    assert all(reader in readers(*point) for point, reader in pairwise(path))


def test_a_sequence_of_one_takes_a_step_too():
    assert shortest_path(self_attention(1), 1) == shortest_path(recurrent(1), 1) == [(0, 0), (1, 0)]


def test_no_path_is_an_error_that_says_so():
    with pytest.raises(
        ValueError, match="readers: expected a path from place 0 to place 4 within 5 layers, found none"
    ):
        shortest_path(windowed(5, 1), 5)  # each token sees itself alone
    with pytest.raises(ValueError, match="readers: expected a path"):
        shortest_path(convolution(5, kernel=1), 5)


def test_nobody_reads_beyond_the_ends():
    for graph in (recurrent, convolution, self_attention, lambda n: windowed(n, 3)):
        for layer, place in np.ndindex(3, 7):
            assert all(0 <= other < 7 for _, other in graph(7)(layer, place))


def test_a_window_reads_what_its_mask_leaves_open():
    allowed = masks.sliding_window(3).dense(7, 7)
    read = {(query, key) for key in range(7) for _, query in windowed(7, 3)(0, key)}
    assert read == {(query, key) for query, key in np.ndindex(7, 7) if allowed[query, key]}


@pytest.mark.parametrize("n", LENGTHS)
def test_rounds_and_arrows_of_one_layer(n):
    assert rounds_and_arrows(recurrent(n), n) == (n, 2 * n - 1)
    assert rounds_and_arrows(self_attention(n), n) == (1, n * n)
    assert rounds_and_arrows(convolution(n, 2), n) == (1, 2 * n - 1)
    assert rounds_and_arrows(windowed(n, 2), n) == (1, 3 * n - 2)
