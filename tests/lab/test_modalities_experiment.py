"""The experiment of the chapter on words and pictures: its models, its measures, its claims, a row again."""

import pytest
import torch

from attnlib.lab import stored
from attnlib.lab.canvas import ANSWERS, EMPTY, NONE, NUMBERS, VOCABULARY, neighbours
from attnlib.lab.experiments import modalities as experiment
from attnlib.lab.models import count_parameters
from attnlib.recording import record_attention

pytestmark = pytest.mark.usefixtures("in_float64")

FOUND = stored.load("modalities")["rows"]
OURS = FOUND["text reads image"]["seeds"]


def of(row, key="right"):
    return [seed[key] for seed in FOUND[row]["seeds"]]


@pytest.fixture
def model():
    torch.manual_seed(3)
    return experiment.TextReadsImage(12).eval()


def test_every_row_is_stored_with_every_seed_and_of_one_size():
    assert list(FOUND) == list(experiment.ROWS)
    ours = count_parameters(experiment.TextReadsImage())
    assert ours < 150_000
    for name, make in experiment.MODELS.items():
        assert FOUND[name]["parameters"] == count_parameters(make()) == pytest.approx(ours, rel=0.05)
        assert [seed["seed"] for seed in FOUND[name]["seeds"]] == [0, 1, 2]


@pytest.mark.parametrize("name", experiment.MODELS)
def test_a_model_reads_both_words_and_the_picture(name):
    torch.manual_seed(3)
    model = experiment.MODELS[name]()
    canvases = experiment.held_out().where(torch.arange(5))
    images, words = canvases.images, canvases.words
    before = model(images, words)
    assert before.shape == (5, 1, len(ANSWERS))
    for changed in ((images.flip(1), words), (images, torch.stack([words[:, 0].roll(1), words[:, 1]], 1)),
                    (images, torch.stack([words[:, 0], words[:, 1].roll(1)], 1))):  # fmt: skip
        assert not torch.allclose(before, model(*changed))


def test_what_is_pooled_knows_no_place_but_by_the_tokens():
    torch.manual_seed(3)
    model = experiment.Pooled(12)
    canvases = experiment.held_out().where(torch.arange(5))
    same = model(canvases.images, canvases.words.flip(1))
    assert torch.allclose(model(canvases.images, canvases.words), same)


def test_a_closed_cell_is_not_read(model):
    canvases = experiment.held_out().where(torch.arange(50))
    shut = torch.zeros(50, 9, dtype=torch.bool)
    shut[:, 4] = True
    other = canvases.images.clone()
    other[:, 8:16, 8:16] = 1 - other[:, 8:16, 8:16]
    mask = ~shut[:, None, None]
    assert torch.allclose(model(canvases.images, canvases.words, mask), model(other, canvases.words, mask))
    assert not torch.allclose(model(canvases.images, canvases.words), model(other, canvases.words))
    answers = experiment.said(model, canvases, [shut, shut])
    assert answers.equal(model(canvases.images, canvases.words, mask)[:, 0].argmax(-1))
    assert experiment.said(model, canvases).equal(model(canvases.images, canvases.words)[:, 0].argmax(-1))


def test_cells_that_are_closed():
    canvases = experiment.answered()
    cells = experiment.cells_of(canvases)
    assert all(cell.sum(1).eq(1).all() for cell in cells.values())
    assert canvases.labels[cells["answer"]].equal(canvases.answer)
    assert [NUMBERS[digit] for digit in canvases.labels[cells["named"]]] == VOCABULARY.decode(canvases.words[:, 1])
    others = canvases.labels[cells["other"]]
    assert (others != EMPTY).all()
    assert not (cells["other"] & (cells["answer"] | cells["named"])).any()


def test_where_all_is_read_alike_each_cell_gets_a_ninth(model):
    for layer in model.decoder.layers:
        torch.nn.init.zeros_(layer.cross_attention.wq.weight)
        if layer.cross_attention.wq.bias is not None:
            torch.nn.init.zeros_(layer.cross_attention.wq.bias)
    assert experiment.looks(model) == {name: [[0.1111] * 2] * 2 for name in ("answer", "named", "other")}


def test_nobody_is_there_and_two_are_alike():
    nobody = experiment.nobody()
    for labels, words in zip(nobody.labels.tolist(), nobody.words, strict=True):
        assert NUMBERS.index(VOCABULARY.decode(words)[1]) not in labels
    twice, other = experiment.two_alike()
    assert len(twice) == experiment.TESTS
    named = twice.labels.gather(1, twice.cell[:, None])
    assert ((twice.labels == named).sum(1) == 2).all()
    assert (twice.answer != other).all()
    second = ((twice.labels == named) & (torch.arange(9) != twice.cell[:, None])).double().argmax(1)
    of_image, side = torch.arange(len(other)), twice.asked % 4
    assert neighbours(twice.labels)[of_image, second, side].equal(other)
    assert ((other < NONE) & (other >= 0)).all()


def test_a_model_that_says_one_thing_is_measured(model):
    torch.nn.init.zeros_(model.output.weight)
    model.output.bias.data = torch.nn.functional.one_hot(torch.tensor(NONE), len(ANSWERS)).double()
    found = experiment.measured(model)
    assert (found["a digit"], found["none"]) == (0, 1)
    assert found["right"] == FOUND["without learning"]["none"]
    assert experiment.absent(model) == {"says none": 1, "a digit that is there": 0}
    assert experiment.twice(model) == {"beside one of them": 0, "something else": 1}
    assert {tuple(value.values()) for value in experiment.closed(model).values()} == {(0, 1)}


# What the chapter claims


def test_ours_answers_and_a_rule_is_a_little_better():
    guess = FOUND["without learning"]
    assert min(of("text reads image")) > 0.9
    assert min(of("text reads image", "never asked")) > 0.9
    assert max(of("text reads image")) < guess["neighbours and a rule"]
    assert max(of("pooled")) < min(of("text reads image"))


def test_the_named_digit_is_read_first_and_then_the_answer():
    for seed in OURS:
        named, answer = seed["looks"]["named"], seed["looks"]["answer"]
        assert named[0][1] > 0.4 > 0.12 > named[1][1]
        assert answer[1][1] > 0.4 > 0.12 > answer[0][1]


def test_closed_in_its_layer_a_cell_is_missed_and_in_the_other_it_is_not():
    for seed in OURS:
        right = {key: value["right"] for key, value in seed["closed"].items()}
        assert max(right["named, 1"], right["answer, 2"]) < 0.1
        assert min(right[key] for key in ("named, 2", "answer, 1", "other, 1", "other, 2")) > seed["a digit"] - 0.02


# Again


def test_a_run_is_the_same_again_and_leaves_the_default_dtype():
    torch.set_default_dtype(torch.float32)
    first, again, other = (experiment.run("pooled", seed, steps=10) for seed in (0, 0, 1))
    assert first == again
    assert {**other, "seed": 0} != first
    assert torch.get_default_dtype() == torch.float32


def test_rows_come_out_again():
    assert experiment.without_learning() == pytest.approx(FOUND["without learning"], abs=0.005)
    again, before = experiment.run("pooled", 1), FOUND["pooled"]["seeds"][1]
    for key in ("right", "none", "never asked"):
        assert again[key] == pytest.approx(before[key], abs=0.03)


# Each measure, on models and answers that are known


@torch.no_grad()
def test_each_layer_closes_its_own(model):
    some = experiment.held_out().where(torch.arange(50))
    shut = experiment.cells_of(some)["named"]
    for pair in ([shut, torch.zeros_like(shut)], [torch.zeros_like(shut), shut]):
        x, memory = model.text(some.words), model.image(some.images)
        for layer, cells in zip(model.decoder.layers, pair, strict=True):
            x = layer(x, memory, None, ~cells[:, None, None])
        wanted = model.output(model.decoder.norm(x)[:, -1]).argmax(-1)
        assert experiment.said(model, some, pair).equal(wanted)


def test_what_is_closed_is_named_by_its_layers(model, monkeypatch):
    seen = []

    def said(_, canvases, shut):
        seen.append([bool(cells.any()) for cells in shut])
        return canvases.answer

    monkeypatch.setattr(experiment, "said", said)
    names = list(experiment.closed(model))
    assert seen == [[True, False], [False, True], [True, True]] * 3
    assert [name.rpartition(", ")[2] for name in names] == ["1", "2", "both"] * 3


def test_what_stands_beside_either_of_two_is_right(model, monkeypatch):
    canvases, other = experiment.two_alike()
    for answers, share in ((canvases.answer, 1), (other, 1), (torch.full_like(other, NONE), 0)):
        monkeypatch.setattr(experiment, "said", lambda *_, answers=answers: answers)
        assert experiment.twice(model)["beside one of them"] == share


def test_a_digit_that_stands_elsewhere_is_counted(model, monkeypatch):
    monkeypatch.setattr(
        experiment, "said", lambda _, canvases: canvases.labels.where(canvases.labels != EMPTY, -1).amax(1)
    )
    assert experiment.absent(model) == {"says none": 0, "a digit that is there": 1}


def test_weights_are_by_layer_and_word(model):
    some = experiment.answered().where(torch.arange(5))
    with torch.no_grad(), record_attention(model) as record:
        model(some.images, some.words)
    found = experiment.weights_of(model, some)
    for layer in (0, 1):
        assert found[:, layer].equal(record[f"decoder.layers.{layer}.cross_attention"].mean(1))


def test_the_size_draws_nothing():
    experiment.size.cache_clear()
    torch.manual_seed(0)
    experiment.size()
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert drawn.equal(torch.rand(1))
