"""The experiment of the chapter on order: sentences, rows, what the chapter claims, and a row computed again."""

import pytest
import torch
from torch import nn

from attnlib.lab import stored
from attnlib.lab.experiments import order
from attnlib.lab.experiments.order import NOUNS, VERBS, WORDS, Attending, Hunts
from attnlib.lab.models import count_parameters
from attnlib.positions import sinusoidal

ROWS = stored.load("order")["rows"]
PLACED = ROWS["attention + positions"]["seeds"]


def of(row, length):
    return [seed["right"][str(length)] for seed in ROWS[row]["seeds"]]


def drawn(kept, length=11, within=None, count=300):
    task, generator = Hunts(length, within), torch.Generator().manual_seed(3)
    (words,), hunters = task.tests(count, generator)[0] if kept else task.draw(count, generator)
    return words.tolist(), hunters.flatten().tolist()


@pytest.mark.parametrize("kept", [False, True])
def test_a_hunter_comes_before_verb_and_hunted(kept):
    places = set()
    for words, hunter in zip(*drawn(kept), strict=True):
        said = [place for place, word in enumerate(words) if word < len(NOUNS) + len(VERBS)]
        first, verb, last = (words[place] for place in said)
        assert first == hunter
        assert len(NOUNS) <= verb
        assert last < len(NOUNS)
        assert order.is_kept(first, last) == kept
        assert max(words) < len(WORDS)
        places |= set(said)
    assert places == set(range(11))


def test_every_test_sentence_has_its_mirror_image():
    words, hunters = drawn(kept=True)
    for said, mirrored, hunter in zip(words[:150], words[150:], hunters[:150], strict=True):
        hunted = next(word for word in mirrored if word < len(NOUNS))
        swap = {hunter: hunted, hunted: hunter}
        assert hunter != hunted
        assert mirrored == [swap.get(word, word) for word in said]


def test_what_is_said_can_be_kept_to_the_beginning():
    words, _ = drawn(kept=True, within=4)
    assert {place for said in words for place, word in enumerate(said) if word < len(NOUNS)} == set(range(4))


def test_every_row_is_stored_with_every_seed_and_rivals_are_as_large():
    assert list(ROWS) == list(order.ROWS)
    sizes = [row["parameters"] for row in ROWS.values() if "seeds" in row]
    assert sizes == [1258, 1258, 1270]
    assert count_parameters(order.Recurrent()) == 1270
    for row in ROWS.values():
        assert [seed["seed"] for seed in row.get("seeds", [])] == list(range(5))[: len(row.get("seeds", []))]


def test_who_is_blind_to_order_is_right_at_most_half_the_time():
    for length in order.LENGTHS:
        assert max(of("attention", length)) <= 0.5
    assert min(of("attention", 6)) > 0.49
    assert ROWS["most frequent noun"]["right"] == pytest.approx(order.most_frequent(), abs=1e-4)
    assert order.most_frequent() < 0.15


def test_a_bag_of_words_gives_both_mirror_images_one_answer(in_float64):
    torch.manual_seed(0)
    (words,), _ = Hunts(7).tests(100, torch.Generator().manual_seed(0))[0]
    for placed in (False, True):
        logits = Attending(placed)(words)
        assert torch.allclose(logits[:50], logits[50:]) != placed


def test_longer_sentences_hurt_positions_most():
    assert min(of("attention + positions", 6) + of("GRU", 6)) > 0.96
    losses = {
        name: [a - b for a, b in zip(of(name, 6), of(name, 24), strict=True)] for name in ROWS if "seeds" in ROWS[name]
    }
    assert min(losses["attention + positions"]) > max(losses["GRU"] + losses["attention"])
    assert sum(share < 0.5 for share in of("attention + positions", 24)) == 2


def test_the_answer_hangs_on_the_first_noun():
    assert max(seed["6, closed"]["hunter"] for seed in PLACED) < 0.03
    assert min(seed["6, closed"]["hunted"] for seed in PLACED) == 1


def test_places_that_were_not_trained_are_the_cause():
    assert min(seed["24, early"] for seed in PLACED) == 1
    assert min(seed["24, squeezed"] for seed in PLACED) > 0.98
    assert min(seed["24, as pulled"] for seed in PLACED) > 0.92


class First(nn.Module):
    """Names the first noun, or the last."""

    def __init__(self, first=True):
        super().__init__()
        self.first = first

    def forward(self, words):
        nouns = words < len(NOUNS)
        places = nouns.int().argmax(1) if self.first else words.shape[1] - 1 - nouns.flip(1).int().argmax(1)
        return nn.functional.one_hot(words.gather(1, places[:, None]), len(NOUNS)).double()


def test_what_is_right_is_counted():
    assert order.right(First(), 13) == 1
    assert order.right(First(first=False), 13) == 0


def test_what_is_closed_is_not_read(in_float64):
    """The answer is the mean of all words' vectors: closing a noun takes its vector out, wherever it stands."""
    model = Attending(with_positions=False)
    with torch.no_grad():
        model.wq.weight.zero_()
        model.wv.weight.copy_(torch.eye(order.D_MODEL))
        model.embed.weight.zero_()
        model.embed.weight[: len(NOUNS), : len(NOUNS)] = torch.eye(len(NOUNS))
        model.answer.weight.copy_(torch.eye(len(NOUNS), order.D_MODEL))
        model.answer.bias.zero_()
    assert order.with_a_noun_closed(model) == {"hunter": 0, "hunted": 1}


def test_a_squeeze_puts_the_last_place_where_training_ended(in_float64):
    torch.manual_seed(0)
    model = Attending(with_positions=True)
    words = torch.zeros(1, 24, dtype=torch.int64)
    short = model.tokens(words[:, :6])
    torch.testing.assert_close(short - model.embed(words[:, :6]), sinusoidal(6, order.D_MODEL)[None])
    model.squeeze = 23 / 5
    torch.testing.assert_close(model.tokens(words)[0, -1], short[0, -1])
    torch.testing.assert_close(model.tokens(words)[0, 0], short[0, 0])


def test_pull_is_the_mean_score_of_an_average_noun(in_float64):
    torch.manual_seed(0)
    model = Attending(with_positions=True)
    (words,), _ = Hunts(7).tests(1_000, torch.Generator().manual_seed(1))[0]
    noun = sum(model.embed.weight[:10]) / 10
    with torch.no_grad():
        key = model.wk(noun + sinusoidal(7, order.D_MODEL)[5])
        scores = [model.wq(token) @ key / 4 for tokens in model.tokens(words[:1000]) for token in tokens]
        torch.testing.assert_close(order.pull(model, 7)[5], sum(scores) / len(scores))


def test_a_row_is_computed_again():
    make = order.ROWS["attention + positions"].args[0]
    assert {"seed": 2, **order.run(make, 2)} == PLACED[2]
