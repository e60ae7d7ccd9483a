"""The experiment of the chapter on decisions: its models, what is measured, what the chapter claims, a row again."""

from functools import partial
from itertools import pairwise

import pytest
import torch

from attnlib import masks
from attnlib.lab import stored
from attnlib.lab.experiments import decisions as experiment
from attnlib.lab.experiments.decisions import Closed, DecisionTransformer
from attnlib.lab.gridworld import BEST, CELLS, CHESTS, MOVED, NICHES, STEPS, layouts
from attnlib.lab.models import count_parameters

pytestmark = pytest.mark.usefixtures("in_float64")

FOUND = stored.load("decisions")["rows"]
UP, DOWN, LEFT, RIGHT = range(4)


def of(row, key):
    return [seed[key] for seed in FOUND[row]["seeds"]]


@pytest.fixture
def small():
    torch.manual_seed(3)
    return DecisionTransformer(12).eval()


@pytest.fixture
def inputs():
    return experiment.data().draw(7, torch.Generator().manual_seed(4)).inputs


# The models


def test_every_row_is_stored_with_every_seed_and_of_one_size():
    assert list(FOUND) == list(experiment.ROWS)
    ours = count_parameters(DecisionTransformer())
    assert ours < 200_000
    for name in ("transformer", "cloning", "present", "recurrence", "one line"):
        assert count_parameters(experiment.MODELS[name]()) == FOUND[name]["parameters"]
        assert FOUND[name]["parameters"] == pytest.approx(ours, rel=0.08 if name == "one line" else 0.015)
    assert all([seed["seed"] for seed in row["seeds"]] == [0, 1, 2] for name, row in FOUND.items() if name != "data")


@pytest.mark.parametrize("name", ["transformer", "one line", "recurrence", "present"])
def test_an_action_is_chosen_before_it_is_read_and_nothing_later_is(name, inputs):
    torch.manual_seed(3)
    model = experiment.MODELS[name]()
    returns, states, actions = inputs
    t = 4
    later = returns.clone(), states.clone(), actions.clone()
    later[0][:, t + 1 :] += 1
    later[1][:, t + 1 :, 1] = 2 - later[1][:, t + 1 :, 1]
    later[2][:, t:] = 3 - later[2][:, t:]
    with torch.no_grad():
        before, after = model(*inputs), model(*later)
    assert torch.allclose(before[:, : t + 1], after[:, : t + 1], atol=1e-12)
    assert not torch.allclose(before[:, t + 1], after[:, t + 1])


@pytest.mark.parametrize("name", ["transformer", "one line", "recurrence", "present"])
@pytest.mark.parametrize("what", ["return", "state"])
def test_the_present_is_read(name, what, inputs):
    torch.manual_seed(3)
    model = experiment.MODELS[name]()
    returns, states, actions = (tensor.clone() for tensor in inputs)
    before = model(returns, states, actions)[:, 3]
    if what == "return":
        returns[:, 3] += 1
    else:
        states[:, 3, 0] = (states[:, 3, 0] + 1) % len(CELLS)
    assert not torch.allclose(before, model(returns, states, actions)[:, 3])


def test_only_the_present_has_no_memory_and_cloning_no_wish(inputs):
    returns, states, actions = inputs
    signs = states.clone()
    signs[:, 0, 3] = 3 - signs[:, 0, 3]
    for name in experiment.MODELS:
        torch.manual_seed(3)
        model = experiment.MODELS[name]()
        same = torch.allclose(model(*inputs)[:, 1:], model(returns, signs, actions)[:, 1:], atol=1e-12)
        assert same == (name == "present")
        assert torch.equal(model(*inputs), model(returns + 1, states, actions)) == (name == "cloning")


def test_bad_input_is_said(small, inputs):
    returns, states, actions = inputs
    with pytest.raises(ValueError, match="returns: expected finite numbers, got nan"):
        small(returns * torch.nan, states, actions)
    with pytest.raises(ValueError, match="states: expected cell from 0 to 14"):
        small(returns, states + 20, actions)


def test_what_is_closed_is_not_read_but_by_itself(small, inputs):
    returns, states, actions = inputs
    signs = states.clone()
    signs[:, 0, 3] = 3 - signs[:, 0, 3]
    expected = torch.ones(6, 6, dtype=torch.bool).tril()
    expected[2:, 1] = False
    assert (masks.causal() & Closed(1)).dense(6, 6).equal(expected)
    closed = partial(small, mask=masks.causal() & Closed(1))
    assert torch.allclose(closed(*inputs)[:, 1:], closed(returns, signs, actions)[:, 1:], atol=1e-12)
    assert not torch.allclose(closed(*inputs)[:, 0], closed(returns, signs, actions)[:, 0])
    assert not torch.allclose(small(*inputs)[:, 1:], small(returns, signs, actions)[:, 1:])


# Walks and measures


def plays(*walks):
    """A model that plays the walks that it is given, and keeps the returns that it reads."""
    seen = []

    def model(returns, states, actions):
        seen.append(returns[:, -1].tolist())
        t = returns.shape[1] - 1
        chosen = torch.tensor([walk[min(t, len(walk) - 1)] for walk in walks])
        return torch.nn.functional.one_hot(chosen, 4).double()[:, None].expand(-1, t + 1, -1)

    return model, seen


def test_a_walk_takes_the_likeliest_action_and_subtracts_what_it_brought():
    model, seen = plays([RIGHT, DOWN, UP, RIGHT, RIGHT, RIGHT, DOWN, DOWN], [LEFT])
    grid, read = experiment.walk(model, torch.tensor([[1, 3, 0], [1, 3, 0]]), torch.tensor([6, 0]))
    assert grid.got.tolist() == [6, 0]
    assert [row[0] for row in seen] == [6, 6, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0]
    assert read.returns.tolist() == [list(column) for column in zip(*seen, strict=True)]
    assert read.actions[1].tolist() == [LEFT] * STEPS
    assert CELLS[grid.cell[0]] == (4, 4)


def test_what_is_asked_for_as_things():
    for good in (0, 1):
        some = torch.tensor([[0, 2, good]]).repeat(BEST + 1, 1)
        coins, chest = experiment.wished(some, torch.arange(BEST + 1))
        worth = {-1: 0, good: 8, 1 - good: 4}
        assert [c + worth[h] for c, h in zip(coins.tolist(), chest.tolist(), strict=True)] == list(range(BEST + 1))
        assert coins.max() == 3


def test_a_walker_that_always_opens_the_upper_chest_is_measured():
    straight = [RIGHT] * 4 + [UP] * 2
    found = experiment.measured(plays(*[straight] * (12 * 12))[0])
    assert found["coins"] == 0.25
    assert found["chest"] == 0.5
    assert found["no chest"] == 0
    assert found["by asked"] == [0, 0, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0, 0]
    assert found["all"] == pytest.approx(1 / 12, abs=1e-4)
    assert found["got"] == [6.0] * 12


def test_a_walker_that_stands_still_gets_nothing():
    found = experiment.measured(plays(*[[LEFT]] * (12 * 12))[0])
    assert (found["coins"], found["chest"], found["no chest"]) == (0.25, 0, 1)
    assert found["by asked"] == [1] + [0] * 11
    assert experiment.beyond(plays(*[[LEFT]] * (12 * 9))[0]) == [0] * 9


@pytest.mark.parametrize(("closed", "sign", "own"), [(99, 1 / 14, 1 / 14), (1, 0, 1 / 13), (12, 1 / 13, 0)])
def test_where_open_tokens_are_read_alike_each_gets_its_share(closed, sign, own):
    class Straight(DecisionTransformer):
        """Comes to the fork at the fifth step, and reads alike what is not closed."""

        def forward(self, returns, states, actions, mask=None):
            super().forward(returns, states, actions, masks.causal() & Closed(closed))
            return plays(*[[RIGHT] * 4 + [UP] * 2] * len(returns))[0](returns, states, actions)

    model = Straight(12)
    for name in ("wq", "wk"):
        torch.nn.init.zeros_(getattr(model.encoder.layers[0].self_attention, name).weight)
    found = experiment.looks(model)
    assert found["walks"] == 12 * 8
    assert found["sign"] == pytest.approx(sign, abs=1e-4)
    assert found["return"] == pytest.approx(own, abs=1e-4)
    assert found["chance"] == pytest.approx(1 / 14, abs=1e-4)
    assert found["by head"] == [found["sign"]] * 4
    assert found["by case"] == {case: [found["sign"]] * 4 for case in ("↑ good", "↑ poor", "↓ good", "↓ poor")}


def test_cases_are_told_apart_by_the_sign_and_the_wish():
    some = torch.tensor([[0, 2, 0], [0, 2, 0], [0, 2, 1], [0, 2, 1]])
    found = experiment.cases(some, torch.tensor([8, 7, 11, 4]))
    assert {case: which.tolist() for case, which in found.items()} == {
        "↑ good": [True, False, False, False],
        "↑ poor": [False, True, False, False],
        "↓ good": [False, False, True, False],
        "↓ poor": [False, False, False, True],
    }


def test_who_goes_up_without_the_sign_is_counted_with_the_sign_closed():
    seen = set()

    class Up(DecisionTransformer):
        """Goes up for the good chest."""

        def forward(self, returns, states, actions, mask=None):
            seen.add(bool(mask.dense(3, 3)[2, 1]))
            walks = [[RIGHT] * 4 + [UP if wish >= 8 else DOWN] * 2 for wish in returns[:, 0].tolist()]
            return plays(*walks)[0](returns, states, actions)

    assert experiment.goes_up_without_the_sign(Up(12)) == {"↑ good": 1, "↑ poor": 0, "↓ good": 1, "↓ poor": 0}
    assert seen == {False}


def test_what_is_learnt_from():
    assert len(experiment.data()) == experiment.EPISODES
    kept = {tuple(row) for row in layouts(held_out=True).tolist()}
    assert not kept & {tuple(row) for row in layouts(held_out=False).tolist()}
    best, totals = experiment.best_tenth().total, sorted(experiment.data().total.tolist())
    assert sorted(best.tolist()) == totals[-1_000:]
    others = experiment.without_the_best().total
    assert sorted(others.tolist()) == [total for total in totals if total != BEST]
    assert experiment.run_data() == FOUND["data"]


# What the chapter claims


def test_ours_brings_what_it_is_asked_for():
    assert min(of("transformer", "all")) > 0.99
    assert max(of("one line", "all")) < min(of("transformer", "all"))
    assert all(seed["got"][BEST] > 10.9 for seed in FOUND["transformer"]["seeds"])
    assert FOUND["data"]["optimum"] == [BEST]
    assert FOUND["data"]["mean"] < 5.2


def test_the_present_takes_the_coins_and_opens_chests_by_chance():
    assert min(of("present", "coins")) > 0.99
    assert max(abs(share - 0.5) for share in of("present", "chest")) < 0.02
    assert min(of("recurrence", "chest")) > 0.97


def test_the_sign_is_read_and_closed_only_the_chest_breaks():
    for seed in FOUND["transformer"]["seeds"]:
        assert seed["looks"]["sign"] > 2 * seed["looks"]["chance"]
        assert seed["closed"]["the sign"]["chest"] <= 0.5
        assert seed["closed"]["the sign"]["coins"] > 0.9
        for token in ("the first action", "the second state", "the second action"):
            assert seed["closed"][token]["chest"] > 0.9


def test_a_down_is_looked_for_and_its_absence_is_an_up():
    seeds = FOUND["transformer"]["seeds"]
    for seed in seeds:
        assert min(max(seed["looks"]["by case"][case]) for case in ("↓ good", "↓ poor")) > 0.75
    for seed in seeds[1:]:
        assert max(max(seed["looks"]["by case"][case]) for case in ("↑ good", "↑ poor")) < 0.1
        assert seed["up without the sign"] == {"↑ good": 1, "↑ poor": 0, "↓ good": 1, "↓ poor": 0}
    assert set(seeds[0]["up without the sign"].values()) == {0}


def test_beyond_the_data_waves_scatter_and_a_line_goes_on():
    waves, line = (torch.tensor(of(name, "beyond")) for name in ("transformer", "one line"))
    assert max(waves.max(), line.max()) <= BEST
    assert [round(asked_15, 1) for asked_15 in waves[:, 3].tolist()] == [2.8, 11.0, 3.7]
    assert line[:, :4].min() >= 9
    assert line[0, -1] == 3


def test_what_is_copied_and_what_was_never_brought():
    for seed in FOUND["cloning"]["seeds"]:
        assert 5.9 < sum(seed["got"]) / len(seed["got"]) < 6.6
    for seed in FOUND["cloning, best tenth"]["seeds"]:
        assert 10.1 < sum(seed["got"]) / len(seed["got"]) < 10.3
    assert min(by_asked[BEST] for by_asked in of("without the best", "by asked")) > 0.6


@pytest.mark.parametrize(
    ("run", "make", "episodes"),
    [
        (experiment.run_best_tenth, experiment.Cloner, experiment.best_tenth),
        (experiment.run_without_the_best, DecisionTransformer, experiment.without_the_best),
    ],
)
def test_each_row_learns_from_its_own_walks(run, make, episodes, monkeypatch):
    seen = []

    def trained(made, some, seed):
        seen.append((made, some.total, seed))
        return DecisionTransformer(12).eval()

    monkeypatch.setattr(experiment, "trained", trained)
    run(2)
    ((made, total, seed),) = seen
    assert (made, seed) == (make, 2)
    assert total.equal(episodes().total)


def test_the_best_tenth_and_what_is_left_without_the_best():
    total = experiment.data().total
    best, rest = experiment.best_tenth().total, experiment.without_the_best().total
    assert len(best) == len(total) // 10
    assert best.min() >= total.sort(descending=True).values[len(best) - 1]
    assert rest.max() < BEST
    assert len(rest) == (total < BEST).sum()


def test_the_walks_that_are_drawn_are_walks():
    drawn = of("transformer", "paths")[0]
    assert list(drawn) == [str(asked) for asked in experiment.ASKED_AND_DRAWN]
    for asked, path in drawn.items():
        assert path[0] == CELLS.index((2, 0))
        assert path[-1] == CHESTS[0 if int(asked) >= 8 else 1]
        assert all(there in MOVED[here] for here, there in pairwise(path))
        coins = sum(worth for worth, niche in zip((1, 2), experiment.DRAWN, strict=False) if NICHES[niche] in path)
        assert coins + (8 if path[-1] == CHESTS[0] else 4) == int(asked)


# Again


def test_a_run_is_the_same_again_and_leaves_the_default_dtype():
    torch.set_default_dtype(torch.float32)
    first, again, other = (experiment.run("present", seed, steps=20) for seed in (0, 0, 1))
    assert first == again
    assert {**other, "seed": 0} != first
    assert torch.get_default_dtype() == torch.float32


def test_a_row_comes_out_again():
    again, before = experiment.run("present", 1), FOUND["present"]["seeds"][1]
    for key in ("all", "coins", "chest"):
        assert again[key] == pytest.approx(before[key], abs=0.02)
