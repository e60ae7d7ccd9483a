"""The experiment of the chapter on language: its rows, its sizes, what the chapter claims, and rows computed again."""

import pytest
import torch

from attnlib.lab import stored
from attnlib.lab.experiments import induction
from attnlib.lab.models import count_parameters
from attnlib.lab.training import float64

ROWS = stored.load("induction")["rows"]
MODELS = [name for name in ROWS if name != "docstrings"]


def of(row, key="right"):
    return [seed[key] for seed in ROWS[row]["seeds"]]


def test_every_row_is_stored_with_every_seed():
    assert list(ROWS) == list(induction.ROWS)
    assert {name: [seed["seed"] for seed in ROWS[name]["seeds"]] for name in MODELS} == {
        key: [0, 1, 2] for key in MODELS
    }


def test_rivals_are_as_large_as_is_said():
    ours = ROWS["two layers"]["parameters"]
    assert ours == count_parameters(induction.AttentionOnly())
    for name in ("one layer", "GRU", "GRU, longer"):
        assert ROWS[name]["parameters"] == pytest.approx(ours, rel=0.03)
    assert ROWS["one layer, wide"]["parameters"] > 7 * ours
    assert ROWS["one layer, keys look back"]["parameters"] < 0.7 * ours


def test_two_layers_know_names_and_what_lacks_a_part_does_not():
    assert min(of("two layers")) > 0.95
    assert min(of("one layer, keys look back")) > 0.99
    for name in ("one layer", "one layer, wide", "GRU", "GRU, longer"):
        assert max(of(name)) < 0.2
        assert max(of(name, "as in training")) < 0.45


def test_only_the_cells_of_the_two_looks_are_needed():
    for without in of("two layers", "without"):
        for closed in ("before", "earlier"):
            assert without[closed] < 0.12
            assert without[f"{closed}, control"] > without["nothing"] - 0.05


def test_both_looks_begin_in_the_same_steps_and_the_second_runs_ahead():
    for watched in of("two layers", "watched"):
        steps = {}
        for key in ("before", "earlier"):
            first, last = watched[0][key], watched[-1][key]
            for part in (0.1, 0.5):
                steps[key, part] = next(look["step"] for look in watched if look[key] > first + part * (last - first))
        assert abs(steps["before", 0.1] - steps["earlier", 0.1]) <= 60
        assert steps["earlier", 0.5] < steps["before", 0.5]
        assert watched[0]["right"] < 0.1 < 0.9 < watched[-1]["right"]


class Script(torch.nn.Module):
    """Says the right second token wherever one is asked for, but for those of the given texts."""

    def __init__(self, told, wrong):
        super().__init__()
        self.told, self.wrong = told, wrong

    def forward(self, tokens):
        said = self.told.tokens[:, 1:].clone()
        said[: self.wrong] = (said[: self.wrong] + 1) % 32
        return torch.nn.functional.one_hot(said, 32).double()


def test_right_counts_asked_places():
    told = induction.kept(count=20)
    asked = told.asked.sum(1)
    assert induction.right(Script(told, 0), told) == 1
    share = (asked[5:].sum() / asked.sum()).item()
    assert induction.right(Script(told, 5), told) == pytest.approx(share)


@float64()
def test_weights_are_those_of_the_cells():
    torch.manual_seed(0)
    model, told = induction.AttentionOnly(), induction.kept(count=10)
    with torch.no_grad():
        for layer in model.layers:  # equal scores: every visible token gets the same weight
            layer.wq.weight.zero_()
    found = induction.looks(model, told)
    assert found["before"] == pytest.approx(found["before, chance"])
    assert found["earlier"] == pytest.approx(found["earlier, chance"])
    asked = [(b, q) for b in range(10) for q in range(31) if told.asked[b, q + 1]]
    endings = [sum((told.second[b, :q] & (told.name[b, :q] == told.name[b, q])).tolist()) / (q + 1) for b, q in asked]
    assert found["earlier"] == pytest.approx(sum(endings) / len(asked))
    rows = [(b, q) for b in range(10) for q in range(31) if told.second[b, q]]
    assert found["before"] == pytest.approx(sum(1 / (q + 1) for _, q in rows) / len(rows))


@float64()
@pytest.mark.parametrize(("layer", "changes", "stays"), [(0, "before", "earlier"), (1, "earlier", "before")])
def test_each_weight_is_that_of_its_layer(layer, changes, stays):
    torch.manual_seed(0)
    model, told = induction.AttentionOnly(), induction.kept(count=10)
    with torch.no_grad():
        model.layers[1 - layer].wq.weight.zero_()
    found = induction.looks(model, told)
    assert found[stays] == pytest.approx(found[f"{stays}, chance"])
    assert abs(found[changes] - found[f"{changes}, chance"]) > 1e-3


@float64()
@pytest.mark.parametrize("make", [induction.AttentionOnly, induction.KeysLookBack, induction.recurrence])
def test_no_model_reads_what_comes_later(make):
    torch.manual_seed(0)
    model, (tokens,) = make().eval(), induction.kept(count=3).batch.inputs
    other = tokens.clone()
    other[:, 20:] = (other[:, 20:] + 1) % 32
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[:, :20], model(other)[:, :20])
        assert not torch.allclose(model(tokens)[:, 20:], model(other)[:, 20:])


def test_what_is_closed_is_closed_in_its_layer():
    class Spy(torch.nn.Module):
        def forward(self, tokens, closed):
            seen.append(closed)
            return torch.zeros(*tokens.shape, 32)

    seen, told = [], induction.kept(count=4)
    found = list(induction.without(Spy(), told))
    of = induction.cells(told)
    nothing, everything = torch.zeros_like(of["before"]), torch.ones_like(of["before"])
    wanted = {
        "nothing": (nothing, nothing),
        "layer 1": (everything, nothing),
        "layer 2": (nothing, everything),
        **{name: (of[name], nothing) for name in ("before", "before, control")},
        **{name: (nothing, of[name]) for name in ("earlier", "earlier, control")},
    }
    assert set(found) == set(wanted)
    for name, pair in zip(found, seen, strict=True):
        assert all(map(torch.equal, pair, wanted[name])), name


def test_a_guess_takes_one_of_the_endings_so_far():
    told = induction.kept(count=20)
    shares = []
    for b in range(20):
        for place in told.asked[b].nonzero()[:, 0].tolist():
            endings = [told.tokens[b, j].item() for j in range(place) if told.second[b, j]]
            shares.append(endings.count(told.tokens[b, place].item()) / len(endings))
    assert induction.guess(told) == pytest.approx(sum(shares) / len(shares))


def test_how_texts_go_on_is_counted_by_hand():
    read = [["a", "b", "a", "b", "a", "c"], ["b", "d"]]  # after a: b; after b: a, twice, and d
    held_out = [["a", "c", "a", "c", "a", "b"], ["x", "y", "x", "y", "x", "z"]]
    found = induction.goes_on(read, held_out)
    # a is followed by c, c, b: c as last time once, b as in the table once; c by a, a, and c is known to nobody.
    assert found["known"] == {"words": 3, "seen before": 2, "as last time": 1, "as in the table": 1}
    assert found["new"] == {"words": 7, "seen before": 4, "as last time": 3, "as in the table": 0}
    assert found["all"] == {"words": 10, "seen before": 6, "as last time": 4, "as in the table": 1}


@float64()
def test_a_layer_that_is_off_adds_nothing():
    torch.manual_seed(0)
    model, told = induction.AttentionOnly(), induction.kept(count=5)
    nothing = torch.zeros(5, 31, 31, dtype=torch.bool)
    tokens = told.tokens[:, :-1]
    with torch.no_grad():
        off = model(tokens, closed=(~nothing, nothing))
        model.layers[0].fc.weight.zero_()
        torch.testing.assert_close(off, model(tokens))


def test_a_row_is_computed_again():
    again = induction.run(induction.KeysLookBack, 1)
    assert again == ROWS["one layer, keys look back"]["seeds"][1]


def test_docstrings_go_on_as_last_time_where_a_table_does_not_know():
    new, all_ = ROWS["docstrings"]["new"], ROWS["docstrings"]["all"]
    assert new["as in the table"] == 0 < new["as last time"]
    assert all_["as last time"] > all_["as in the table"] > 0
