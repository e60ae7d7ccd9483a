"""The layers of the paper's Table 1: what they multiply, and what was measured of them. Nothing here is timed."""

import pytest
import torch

from attnlib import masks, reference
from attnlib.kernels.plan import plan
from attnlib.lab import stored
from attnlib.lab.experiments import layers

FORMULAS = {
    "self-attention": lambda n, d: 2 * n * n * d,
    "recurrent": lambda n, d: 2 * n * d * d,
    "convolution": lambda n, d, k: k * n * d * d,
    "restricted": lambda n, d, r: 2 * d * sum(b.pairs for b in plan(masks.sliding_window((r + 1) // 2), n, n)),
}
SMALL = {
    "self-attention": {"n": 37, "d": 11},
    "recurrent": {"n": 37, "d": 11},
    "convolution": {"n": 37, "d": 11, "k": 5},
    "restricted": {"n": 401, "d": 11, "r": 13},
}
SWEEPS = [(name, size) for name, sizes in layers.SIZES.items() for size in sizes]


def test_every_table_has_the_same_layers():
    assert list(layers.ROWS) == list(layers.LAYERS) == list(layers.FIXED) == list(layers.SIZES) == list(FORMULAS)
    assert all(set(layers.FIXED[name]) == set(sizes) for name, sizes in layers.SIZES.items())


@pytest.mark.parametrize("name", layers.LAYERS)
def test_a_layer_multiplies_as_often_as_its_formula_says(name):
    assert layers.multiplications(layers.LAYERS[name](**SMALL[name])) == FORMULAS[name](**SMALL[name])


def test_attention_multiplies_as_often_by_its_kernel_as_by_plain_products():
    """Oracle: torch's own count of the products that it runs where it has no kernel, for matrices without a batch."""
    query, key, value = torch.randn(3, 37, 11)
    by_products = layers.multiplications(lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value))
    assert by_products == layers.multiplications(layers.self_attention(n=37, d=11))


def test_a_restricted_token_attends_to_r_neighbours(monkeypatch):
    """Oracle: the loops of the reference, with the pairs written down."""
    monkeypatch.setattr(layers.torch, "randn", lambda *shape: torch.linspace(-1, 1, 3 * 9 * 2).reshape(shape))
    query, key, value = torch.linspace(-1, 1, 3 * 9 * 2).reshape(3, 9, 2).numpy()
    allowed = [[abs(i - j) <= 2 for j in range(9)] for i in range(9)]  # five of them
    expected = torch.tensor(reference.attention(query, key, value, allowed))
    torch.testing.assert_close(layers.restricted(n=9, d=2, r=5)()[0, 0], expected, check_dtype=False)


@pytest.mark.parametrize("name", layers.LAYERS)
def test_a_layer_keeps_the_shape_of_its_tokens(name):
    output = layers.LAYERS[name](**SMALL[name])()
    assert sorted(output.squeeze().shape) == sorted((SMALL[name]["n"], SMALL[name]["d"]))


def test_a_row_holds_times_and_counts_for_each_size(monkeypatch):
    monkeypatch.setitem(layers.SIZES, "convolution", {"n": [5, 7], "k": [3, 5, 9]})
    monkeypatch.setitem(layers.FIXED, "convolution", {"n": 6, "d": 4, "k": 3})
    monkeypatch.setattr(layers, "SHORTEST_SAMPLE", 0.0)
    threads = torch.get_num_threads()
    row = layers.measure("convolution", rounds=3)
    assert torch.get_num_threads() == threads
    assert list(row) == ["n", "k"]
    assert row["n"]["fixed"] == {"d": 4, "k": 3}
    assert row["n"]["multiplications"] == [3 * 5 * 4 * 4, 3 * 7 * 4 * 4]
    assert row["k"]["sizes"] == [3, 5, 9]
    for sweep in row.values():
        for which in ("lower", "median", "upper"):
            assert len(sweep[which]) == len(sweep["sizes"])


@pytest.mark.parametrize(("name", "size"), SWEEPS)
def test_what_is_stored_is_what_would_be_measured_now(name, size):
    sweep = stored.load("layers")["rows"][name][size]
    fixed = {other: value for other, value in layers.FIXED[name].items() if other != size}
    assert sweep["fixed"] == fixed
    assert sweep["sizes"] == layers.SIZES[name][size]
    assert sweep["multiplications"] == [FORMULAS[name](**fixed, **{size: value}) for value in sweep["sizes"]]


@pytest.mark.parametrize(("name", "size"), SWEEPS)
def test_stored_times_are_positive_and_grow(name, size):
    sweep = stored.load("layers")["rows"][name][size]
    for lower, median, upper in zip(sweep["lower"], sweep["median"], sweep["upper"], strict=True):
        assert 0 < lower <= median <= upper < 60
    assert sweep["median"] == sorted(sweep["median"])


def test_the_stored_results_say_where_they_come_from():
    results = stored.load("layers")
    assert set(results) == {"date", "machine", "versions", "rows"}
    assert list(results["rows"]) == list(layers.ROWS)
    assert {"cpu", "cores"} <= set(results["machine"])
