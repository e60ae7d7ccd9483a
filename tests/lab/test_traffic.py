"""Numbers that know which memory they lie in. Oracle: what a loop moves, counted by hand."""

import numpy as np
import pytest

from attnlib.lab.traffic import Chip

X = np.arange(35.0).reshape(5, 7)


@pytest.mark.parametrize(
    ("place", "count"), [(np.s_[2], 7), (np.s_[1:4], 21), (np.s_[:, 3], 5), (np.s_[4:9, 2:4], 2), (np.s_[0, 0], 1)]
)
def test_what_is_indexed_is_loaded_and_counted(place, count):
    chip = Chip()
    part = chip.slow(X)[place]
    np.testing.assert_array_equal(part, X[place])
    assert (chip.loaded, chip.stored, chip.traffic) == (count, 0, count)


def test_what_is_assigned_is_stored_and_counted():
    chip = Chip()
    x = chip.slow(X)
    x[1:3] = np.ones((2, 7))
    assert (chip.loaded, chip.stored, chip.traffic) == (0, 14, 14)
    np.testing.assert_array_equal(x.numbers[1:3], 1)
    np.testing.assert_array_equal(x.numbers[3:], X[3:])


def test_a_part_must_fit_its_place():
    with pytest.raises(ValueError, match=r"part: expected shape \(2, 7\), got \(7,\)"):
        Chip().slow(X)[1:3] = np.ones(7)


def test_the_two_memories_are_apart():
    own = X.copy()
    x = Chip().slow(own)
    own[0] = -1
    part = x[0]
    part[:] = -2
    np.testing.assert_array_equal(x.numbers, X)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, y: x + y,
        lambda x, y: y + x,
        lambda x, y: y @ x,
        lambda x, y: x @ y,
        lambda x, y: np.exp(x),
        lambda x, y: y * x,
    ],
)
def test_nothing_is_computed_in_the_slow_memory(compute):
    chip = Chip()
    x = chip.slow(np.eye(3))
    with pytest.raises(TypeError):
        compute(x, np.eye(3))
    with pytest.raises(TypeError):
        compute(x, x[:])


def test_results_take_room_until_they_are_gone():
    chip = Chip()
    x = chip.slow(X)
    part = x[1:3]
    assert chip.held == 14
    scores = part @ x[:].T  # 35 loaded, 10 made
    assert (chip.held, chip.most) == (24, 59)
    del part
    assert chip.held == 10
    sums = scores.sum(axis=1, keepdims=True)
    assert chip.held == 12
    del scores, sums
    assert chip.held == 0
    assert chip.most == 59


def test_a_view_takes_no_room_of_its_own_and_keeps_what_it_shows():
    chip = Chip()
    part = chip.slow(X)[:]
    turned = part.T[1:]
    assert chip.held == 35
    del part
    assert chip.held == 35
    del turned
    assert chip.held == 0


def test_what_does_not_fit_is_refused_and_takes_nothing():
    chip = Chip(room=20)
    x = chip.slow(X)
    part = x[:2]
    with pytest.raises(MemoryError, match="room for 20 numbers; 14 are there, 14 more are wanted"):
        part + 1
    assert chip.held == 14
    del part
    assert x[:2].size == 14
    assert chip.held == 0


def test_results_of_two_arrays_know_their_chip():
    chip = Chip()
    x = chip.slow(X)
    assert np.maximum(-np.inf, x[0]).chip is chip
    assert (np.ones(7) * x[0]).chip is chip
    assert np.exp(x[0] - x[1].max()).chip is chip


@pytest.mark.parametrize("size", [2, 3, 6])
def test_a_product_by_tiles_moves_what_its_formula_says(size):
    """Each tile of the result loads a band of both matrices."""
    n, d = 6, 5
    a, b = np.random.default_rng(0).normal(size=(2, n, d))
    chip = Chip()
    slow_a, slow_b, product = chip.slow(a), chip.slow(b), chip.slow(np.empty((n, n)))
    for i in range(0, n, size):
        for j in range(0, n, size):
            product[i : i + size, j : j + size] = slow_a[i : i + size] @ slow_b[j : j + size].T
    np.testing.assert_allclose(product.numbers, a @ b.T)
    assert chip.loaded == 2 * n * n * d // size
    assert chip.stored == n * n
