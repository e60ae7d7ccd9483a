"""The reader of stories and its rivals: of equal size, all stored, as the chapter claims; one run again."""

import pytest
import torch

from attnlib.lab import stored
from attnlib.lab.experiments import question_answering as experiment
from attnlib.lab.models import count_parameters
from attnlib.lab.stories import ENTERED, TOOK, WORDS, Sentence, Story, batch

FOUND = stored.load("question_answering")["rows"]
READERS = FOUND["reader"]["seeds"]


@pytest.fixture
def small():
    torch.manual_seed(0)
    return experiment.Reader(len(WORDS), 8).double().eval()


def test_every_row_is_stored_with_every_seed():
    assert list(FOUND) == list(experiment.ROWS)
    assert all([run["seed"] for run in row["seeds"]] == list(experiment.SEEDS) for row in FOUND.values())
    assert len(experiment.SEEDS) >= 3


def test_the_reader_of_chains_is_of_the_size_that_is_stored():
    assert count_parameters(experiment.reader(3)) == FOUND["chains, 3 layers"]["parameters"]


@pytest.mark.parametrize("name", experiment.MODELS)
def test_the_models_are_of_one_size(name):
    size = count_parameters(experiment.MODELS[name]())
    assert size == FOUND[name]["parameters"]
    assert size == pytest.approx(count_parameters(experiment.reader()), rel=0.1)


def test_the_reader_finds_the_answers_and_its_rivals_find_fewer():
    for seed in READERS:
        assert seed["right"]["1"] >= 0.99
        assert seed["right"]["2"] >= 0.95
    worst = min(seed["right"]["2"] for seed in READERS)
    assert all(seed["right"]["2"] < worst - 0.1 for name in ("recurrence", "bag") for seed in FOUND[name]["seeds"])


def test_each_fact_is_read_in_one_level_and_nothing_else_is():
    for seed in READERS:
        layer, pointer = seed["blocked"]["layer 2"], seed["blocked"]["pointer"]
        assert max(layer["fact 1"]["right"], pointer["fact 2"]["right"]) < 0.1
        assert min(layer["fact 2"]["right"], pointer["fact 1"]["right"]) > 0.9
        assert min(layer["others"]["right"], pointer["others"]["right"]) > 0.95


def test_the_question_must_read_the_first_fact_and_with_one_seed_the_story_must_too():
    routes = [seed["routes"] for seed in READERS]
    assert max(one["question"] for one in routes) < 0.1
    assert min(one["story"] for one in routes[:2]) > 0.9
    assert routes[2]["story"] < 0.5


def test_routes_close_the_fact_for_those_who_read_and_for_nobody_else():
    torch.manual_seed(0)
    model = experiment.Reader(len(WORDS), 8).double().eval()
    seen = []
    model.pointer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    stories = experiment.kept(2, 6)
    (_, number), _ = batch(stories)
    with torch.no_grad():
        model(*batch(stories).inputs)
        experiment.routes(model, stories)
    (asked, x), (without_question, x_question), (without_story, x_story) = seen
    assert not torch.allclose(asked, without_question)
    assert torch.allclose(asked, without_story)
    assert torch.allclose(x[number > 0], x_question[number > 0])
    fact = number == 1 + torch.tensor([[story.facts[0]] for story in stories])
    assert torch.allclose(x[fact], x_story[fact])  # its own words still read it
    others = (number > 0) & ~fact
    assert (x - x_story)[others].abs().amax(-1).min() > 0


def test_chains_of_three_facts_are_not_learnt_in_the_steps_that_they_had():
    assert all(seed["right"]["3"] < 0.6 for seed in FOUND["chains, 3 layers"]["seeds"])


def test_a_closed_sentence_is_one_that_nobody_reads(small):
    stories = experiment.kept(2, 20)
    (words, number), _ = batch(stories)
    shut = number == 2
    other = words.clone()
    other[shut] = (other[shut] + 1) % len(WORDS)
    with torch.no_grad():
        said, changed = (small(some, number, torch.stack([shut, shut])[:, :, None]) for some in (words, other))
        opened = small(other, number)
    assert torch.allclose(said, changed)
    assert said[:, 0][shut].isneginf().all()
    assert not torch.allclose(said[:, 0][~shut], opened[:, 0][~shut])


def test_closed_in_one_level_is_open_in_the_other(small):
    (words, number), _ = batch(experiment.kept(2, 5))
    shut, none = number == 1, torch.zeros_like(number, dtype=torch.bool)
    with torch.no_grad():
        plain, layer, pointer = (
            small(words, number, torch.stack(levels)[:, :, None])
            for levels in ((none, none), (shut, none), (none, shut))
        )
    assert torch.equal(plain, small(words, number))
    assert torch.equal(pointer[:, 0][~shut], plain[:, 0][~shut])
    assert pointer[:, 0][shut].isneginf().all()
    assert layer[:, 0][shut].isfinite().all()
    assert not torch.allclose(layer[:, 0][~shut], plain[:, 0][~shut])


def test_a_story_is_read_the_same_alone_and_beside_a_longer_one(small):
    short, long = experiment.kept(1, 1, range(5, 6))[0], experiment.kept(1, 1, range(9, 10))[0]
    (alone, number), _ = batch([short])
    with torch.no_grad():
        assert torch.allclose(small(*batch([short, long]).inputs)[0, :, : alone.shape[1]], small(alone, number)[0])


def test_shares_of_attention_and_chance_are_shares(small):
    shares = experiment.attention_shares(small, experiment.kept(2, 30))
    assert list(shares) == ["layer 1", "layer 2", "pointer", "answer", "chance"]
    assert shares["layer 1"] == {"question": 1.0, "fact 1": 0.0, "fact 2": 0.0}  # it reads its own sentence
    assert all(0 <= share <= 1 for level in shares.values() for share in level.values())
    told = Story((Sentence("mary", ENTERED, "hall"), Sentence("mary", TOOK, "box")), "box")
    assert experiment.attention_shares(small, [told])["chance"] == {
        "question": 0.3333,
        "fact 1": 0.3333,
        "fact 2": 0.3333,
    }


class Oracle(experiment.Reader):
    """A reader that is given every answer, and says it, and keeps what was closed to it."""

    def __init__(self, ends):
        super().__init__(len(WORDS), 8)
        self.ends, self.seen = ends, []

    def forward(self, words, number, closed=None):
        self.seen.append(closed)
        return torch.nn.functional.one_hot(self.ends, words.shape[1]).double()


def test_blocked_counts_by_the_kind_of_the_sentence():
    stories = experiment.kept(2, 20)
    cases = [(story, place) for story in stories for place in range(len(story.sentences))]
    _, right = batch([story for story, _ in cases])
    oracle = Oracle(right)
    found = experiment.blocked(oracle, stories)["both"]
    layer, pointer, both = (closed[:, :, 0] for closed in oracle.seen)  # (levels, B, S)
    (_, number), _ = batch([story for story, _ in cases])
    shut = number == 1 + torch.tensor([[place] for _, place in cases])
    assert layer.equal(torch.stack([shut, torch.zeros_like(shut)]))
    assert pointer.equal(torch.stack([torch.zeros_like(shut), shut]))
    assert both.equal(torch.stack([shut, shut]))
    assert [found[kind]["right"] for kind in ("fact 1", "fact 2", "others")] == [1, 1, 1]
    assert found["fact 1"]["without"] == found["fact 2"]["without"] == found["earlier move"]["said"] == 0
    assert found["others"]["without"] == 1
    without = []
    for story, place in cases:  # the answer of the story that lacks the sentence, found again in the whole one
        kept = story.without(place)
        (words, _), _ = batch([story])
        text = WORDS.decode(words[0])
        answer = (kept.answer or kept.asked).split()
        starts = [i for i in range(len(text)) if text[i : i + len(answer)] == answer]
        start = starts[0] if kept.answer is None else starts[-1]
        without.append([start, start + len(answer) - 1])
        assert kept.answer or start == len(story.question.split()) - 1
    found = experiment.blocked(Oracle(torch.tensor(without)), stories)["both"]
    assert [found[kind]["without"] for kind in ("fact 1", "fact 2", "others")] == [1, 1, 1]
    assert found["fact 1"] == {"right": 0, "without": 1, "nothing": 1}
    assert found["earlier move"]["said"] == 1


def test_a_run_is_the_same_again_and_leaves_the_default_dtype():
    first, again, other = (experiment.run("bag", seed, steps=3) for seed in (0, 0, 1))
    assert first == again
    assert {**other, "seed": 0} != first
    assert torch.get_default_dtype() == torch.float32


def test_a_row_comes_out_again():
    again = experiment.run("bag", seed=1)
    for facts, share in FOUND["bag"]["seeds"][1]["right"].items():
        assert again["right"][facts] == pytest.approx(share, abs=0.01)
