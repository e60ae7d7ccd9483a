"""The experiment of the chapter on scaling: what it claims of the stored curves, and one of them computed again."""

import numpy as np
import pytest
import torch

from attnlib.functional import attention
from attnlib.lab import stored
from attnlib.lab.experiments import scaling
from attnlib.lab.models import count_parameters
from attnlib.lab.training import float64

ROWS = stored.load("scaling")["rows"]
ENOUGH = 0.95


def best(way, d_k):
    """The curves of the rate at which a head learnt best, (seeds, checks)."""
    return np.array(ROWS[f"{way}, {d_k}"]["curves"])


def steps(way, d_k):
    reached = best(way, d_k) >= ENOUGH
    assert reached.any(axis=1).all()
    return scaling.CHECK_EVERY * (1 + reached.argmax(axis=1))


def test_every_row_is_stored_with_every_rate_and_seed():
    assert list(ROWS) == list(scaling.ROWS)
    assert len(scaling.SEEDS) >= 3
    for row in ROWS.values():
        assert list(row["means"]) == [str(rate) for rate in scaling.RATES]
        assert np.shape(row["curves"]) == (len(scaling.SEEDS), scaling.STEPS // scaling.CHECK_EVERY)
        assert row["means"][row["best"]] == max(row["means"].values())
        assert np.mean(row["curves"]) == pytest.approx(row["means"][row["best"]], abs=1e-4)


@pytest.mark.parametrize("d_k", scaling.WIDTHS)
def test_heads_of_a_width_are_of_one_size(d_k):
    assert len({count_parameters(make(d_k)) for make in scaling.WAYS.values()}) == 1


def test_every_seed_learns_later_without_the_division():
    for d_k in (64, 256):
        assert steps("not scaled", d_k).min() > 2 * steps("scaled", d_k).max()
    assert 3 < steps("not scaled", 64).mean() / steps("scaled", 64).mean() < 4
    assert best("not scaled", 64)[:, -1].min() > 0.99  # but it learns
    assert best("not scaled", 256)[:, -1].min() < 0.97


def test_without_the_division_no_rate_is_missing_that_would_have_been_better():
    """The middle rate is the best of three for the widths of which the chapter says something."""
    for d_k in (64, 256):
        assert ROWS[f"not scaled, {d_k}"]["best"] == str(scaling.RATES[1])


def test_a_small_start_does_what_the_division_does():
    for d_k in scaling.WIDTHS:
        assert steps("small start", d_k).max() <= 40


def test_at_a_high_rate_and_a_large_width_the_division_does_more_than_a_small_start():
    means = {way: ROWS[f"{way}, 256"]["means"] for way in ("scaled", "small start")}
    assert means["scaled"]["0.03"] > means["small start"]["0.03"] + 0.05
    assert means["small start"]["0.01"] == pytest.approx(means["scaled"]["0.01"], abs=0.01)


def test_a_plain_mean_learns_little():
    assert 1 / 32 < best("plain mean", 64).max() < 0.2


@pytest.mark.parametrize(("way", "spread"), [("scaled", 1), ("small start", 1), ("not scaled", 8), ("plain mean", 0)])
def test_first_scores_spread_as_is_said(way, spread):
    torch.manual_seed(0)
    model = scaling.WAYS[way](64)
    names = torch.randn(2, 4000, scaling.D_MODEL)
    query, key = model.wq(names[0]), model.wk(names[1])
    scores = (query * key).sum(dim=-1) * model.scale
    assert scores.std().item() == pytest.approx(spread, rel=0.15)


@float64()
def test_a_head_is_attention():
    torch.manual_seed(0)
    model = scaling.Finder(d_k=5, scale=0.7)
    names, numbers, asked = (
        torch.tensor([[3, 5, 7], [1, 2, 3]]),
        torch.tensor([[9, 2, 4], [8, 8, 1]]),
        torch.tensor([[5], [3]]),
    )
    query, key, value = model.wq(model.names(asked)), model.wk(model.names(names)), model.numbers(numbers)
    expected = model.output(attention(query[:, None], key[:, None], value[:, None], scale=0.7)[:, 0])
    torch.testing.assert_close(model(names, numbers, asked), expected)


def test_a_curve_comes_out_again():
    row = ROWS["not scaled, 16"]
    again = scaling.curve("not scaled", 16, rate=float(row["best"]), seed=1)
    assert again == pytest.approx(row["curves"][1], abs=0.01)
    assert torch.get_default_dtype() == torch.float32
