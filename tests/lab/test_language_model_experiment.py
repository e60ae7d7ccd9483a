"""The language model, its smaller kin, counts and the GRU: all stored, counts made again; the page's claims hold."""

import pytest
import torch

from attnlib import masks
from attnlib.lab import prose, stored
from attnlib.lab.experiments import language_model as experiment
from attnlib.lab.models import count_parameters

ROWS = stored.load("language_model")["rows"]
COUNTS = {int(order): bits for order, bits in ROWS["counts"]["bits"].items()}
TRAINED = ("attention", "GRU", "one layer", "no attention")
OURS, GRUS, ONE, NONE = ([run["bits"] for run in ROWS[row]["seeds"]] for row in TRAINED)


def test_every_row_is_stored_with_every_seed():
    assert list(ROWS) == list(experiment.ROWS)
    assert len(experiment.SEEDS) >= 3
    for row in TRAINED:
        assert [run["seed"] for run in ROWS[row]["seeds"]] == list(experiment.SEEDS)
        assert ROWS[row]["steps"] == experiment.STEPS
    assert list(COUNTS) == list(experiment.ORDERS)


@pytest.mark.parametrize("name", ["attention", "GRU"])
def test_what_was_chosen_is_the_best_of_its_grid_on_the_validation_pages(name):
    """With a seed that no stored run has, and each value of the grid tried."""
    assert experiment.CHOOSING not in experiment.SEEDS
    tried = ROWS[f"{name}, validation"]
    best = min(tried, key=lambda each: each["bits"])
    assert {option: best[option] for option in best if option != "bits"} == experiment.CHOSEN[name]
    for option, values in experiment.GRIDS[name].items():
        assert {each[option] for each in tried} == set(values)


def test_a_search_keeps_what_was_best_and_tries_nothing_twice(monkeypatch):
    asked = []
    monkeypatch.setattr(experiment, "fit", lambda name, seed, **option: asked.append((seed, option)) or option)
    monkeypatch.setattr(experiment, "bits", lambda model, part: abs(model["rate"] - 5e-3) + abs(model["dropout"] - 0.3))
    tried = experiment.choice("attention", steps=7)
    assert [(each["rate"], each["dropout"]) for each in tried] == [
        (5e-3, 0.2), (1e-2, 0.2), (2e-2, 0.2), (5e-3, 0.1), (5e-3, 0.3), (5e-3, 0.4),
    ]  # fmt: skip
    assert all(seed == experiment.CHOOSING and option["steps"] == 7 for seed, option in asked)


def test_the_rival_is_of_equal_size_whatever_is_chosen():
    size = count_parameters(experiment.decoder_only())
    for num_layers in experiment.GRIDS["GRU"]["num_layers"]:
        assert count_parameters(experiment.recurrent(num_layers)) == pytest.approx(size, rel=0.02)
    for row in TRAINED:
        assert count_parameters(experiment.MAKE[row]()) == ROWS[row]["parameters"]


def test_counts_come_out_again():
    counts = prose.Counts(3, prose.text("training"))
    assert counts.bits() == pytest.approx(COUNTS[3], abs=1e-3)


def test_attention_beats_the_gru_and_the_gru_the_best_counts():
    """With every seed, as the page says; counts of more and of fewer characters are worse than those of five."""
    assert min(COUNTS, key=COUNTS.get) == 5
    assert COUNTS[3] < COUNTS[2] < COUNTS[1]
    assert max(OURS) < min(GRUS)
    assert max(GRUS) < COUNTS[5]


def test_each_layer_of_attention_buys_something():
    """With every seed, as the page says; and without attention, counts are better."""
    assert max(OURS) < min(ONE)
    assert max(ONE) < min(NONE)
    assert min(NONE) > COUNTS[5]


def test_without_attention_a_layer_is_the_same_but_for_attention():
    """It says what the whole model says whose attention adds zero; and it reads the newest token alone."""
    torch.manual_seed(0)
    alone = experiment.decoder_only(kind=experiment.WithoutAttention).double().eval()
    whole = experiment.decoder_only().double().eval()
    missing, unexpected = whole.load_state_dict(alone.state_dict(), strict=False)
    assert {name.split(".")[2] for name in missing} == {"wq", "wk", "wv", "fc", "norm"}
    assert not unexpected
    tokens = torch.arange(35).view(5, 7)
    assert not torch.allclose(alone(tokens), whole(tokens))
    for layer in whole.layers:
        torch.nn.init.zeros_(layer.fc.weight)
    assert torch.allclose(alone(tokens), whole(tokens))
    assert torch.allclose(alone(tokens)[:, 4], alone(tokens[:, 4:5])[:, 0])


def test_what_is_left_out_is_trained_as_the_whole(monkeypatch):
    asked = []
    monkeypatch.setattr(experiment, "fit", lambda name, seed, **how: asked.append(how))
    monkeypatch.setattr(experiment, "bits", lambda model: 0.0)
    for row in TRAINED:
        experiment.run(row, 0)
    ours, gru, one, none = asked
    assert ours == one == none != gru


def test_a_run_is_the_same_again_and_leaves_the_default_dtype():
    first, again, other = (experiment.run("attention", seed, steps=2) for seed in (0, 0, 1))
    assert first == again
    assert {**other, "seed": 0} != first
    assert {*first} == {*ROWS["attention"]["seeds"][0]}
    assert torch.get_default_dtype() == torch.float32


def test_nothing_later_is_read():
    torch.manual_seed(0)
    model = experiment.LanguageModel(11, d_model=12, num_heads=3, num_layers=2, dropout=0.2).double().eval()
    tokens = torch.randint(11, (2, 7))
    other = tokens.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 11
    said, changed = model(tokens), model(other)
    assert torch.equal(said[:, :4], changed[:, :4])
    assert not torch.isclose(said[:, 4:], changed[:, 4:]).any()
    assert torch.equal(said, model(tokens, masks.causal()))
    closed = model(tokens, masks.causal() & masks.sliding_window(1))
    assert torch.allclose(closed[:, 3], model(tokens[:, 3:4])[:, 0])
