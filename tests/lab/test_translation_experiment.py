"""The translator of dates and its rivals: all stored, of equal size, one trained again; what measures them is tried."""

from datetime import date

import pytest
import torch

from attnlib import record_attention
from attnlib.lab import stored
from attnlib.lab.dates import PARTS, TRAINED, UNSEEN, draw, example
from attnlib.lab.experiments import translation
from attnlib.lab.models import count_parameters
from attnlib.lab.tasks import END, START
from attnlib.lab.words import padded
from attnlib.transformer import greedy_search

ROWS = stored.load("translation")["rows"]
SEEDS = ROWS["attention"]["seeds"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return translation.attention().eval()


@pytest.fixture
def some():
    return draw(12, seed=4, held_out=True, forms=TRAINED[:3])


def test_every_row_is_stored_with_every_seed():
    assert list(ROWS) == list(translation.ROWS)
    assert all([run["seed"] for run in row["seeds"]] == list(translation.SEEDS) for row in ROWS.values())
    assert len(translation.SEEDS) >= 3
    assert {row["steps"] for row in ROWS.values()} == {translation.STEPS}


def test_rivals_are_of_the_size_that_is_stored():
    rivals = translation.recurrence(), translation.recurrence(attends=True)
    sizes = [count_parameters(made) for made in (translation.attention(), *rivals)]
    assert sizes == [row["parameters"] for row in ROWS.values()]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
    assert sizes[2] == pytest.approx(sizes[0], rel=0.03)


def test_attention_translates_and_grus_without_it_do_not():
    assert min(run["right"] for run in SEEDS) >= 0.99
    assert max(run["right"] for run in ROWS["GRUs"]["seeds"]) < 0.1


def test_only_the_closed_part_breaks():
    for run in SEEDS:
        assert list(run["closed"]) == ["", *PARTS]
        for closed, right in run["closed"].items():
            assert all(share < 0.2 if part == closed else share >= 0.93 for part, share in right.items())


def test_what_was_never_seen_breaks():
    names = [*UNSEEN, "long", "long, few words"]
    assert all(list(run["beyond"]) == names and max(run["beyond"].values()) < 0.6 for run in SEEDS)
    assert all(list(run["forms"]) == [*TRAINED] and min(run["forms"].values()) > 0.98 for run in SEEDS)


def test_a_run_is_the_same_again_and_leaves_the_default_dtype(monkeypatch, some):
    translation.data()  # made and kept before its tests are replaced
    for name in ("tests", "asked"):
        monkeypatch.setattr(translation, name, lambda: some)
    monkeypatch.setattr(translation, "of_form", lambda form, digits=None: some)
    first, again, other = (translation.run(translation.attention, seed, steps=2) for seed in (0, 0, 1))
    assert first == again
    assert {**other, "seed": 0} != first
    assert {*first} == {*SEEDS[0]}
    assert torch.get_default_dtype() == torch.float32


def test_a_row_comes_out_again():
    again = translation.run(translation.recurrence, seed=1)
    assert again["words"] == pytest.approx(ROWS["GRUs"]["seeds"][1]["words"], abs=0.01)


def test_training_and_tests_share_no_text():
    pairs = translation.data()
    assert len(pairs.training) == translation.TRAINING
    assert len(pairs.held_out) == translation.TESTS
    assert not {tuple(target) for _, target in pairs.training} & {tuple(target) for _, target in pairs.held_out}


def test_heads_that_look_everywhere_give_what_chance_gives(model, some):
    model.decoder.layers[0].cross_attention.wq.weight.data.zero_()
    weight, even = translation.weight_on_origins(model, some)
    assert list(weight) == list(PARTS)
    for part in PARTS:
        assert weight[part] == pytest.approx([even[part]] * 4, abs=1e-6)


def test_places_of_one_example_by_hand():
    found = example(date(2021, 12, 3), 3_210_000, TRAINED[1])  # 2021年12月3日周五，三百二十一万元
    wanted = {"year": [0, 1, 2, 3], "month": [5, 6], "day": [8], "weekday": [11], "amount": [*range(13, 20)]}
    assert {part: translation.places(found, part) for part in PARTS} == wanted
    assert len(found.source) == 20


def test_what_is_closed_gets_no_weight_in_those_heads_and_all_else_is_open(model, some):
    with record_attention(model) as record:
        translation.right_parts(model, some, "month", heads=[1, 3])
    weights = record[translation.CROSS]  # (B, H, L, S)
    for b, found in enumerate(some):
        closed = torch.zeros(weights.shape[-1], dtype=torch.bool)
        closed[translation.places(found, "month")] = True
        assert closed.sum() in (1, 2)
        real = torch.arange(weights.shape[-1]) < len(found.source)
        assert (weights[b, [1, 3]][..., closed | ~real] == 0).all()
        assert (weights[b, [1, 3]][..., real & ~closed] > 0).all()
        assert (weights[b, [0, 2]][..., real] > 0).all()


def test_nothing_closed_is_the_model_itself(model, some):
    (source, read, source_mask), asked = padded(translation.tokens(some))
    same = model(source, read, source_mask).argmax(-1) == asked
    assert translation.right_parts(model, some) == translation.by_part(same, some)


def test_parts_are_right_if_all_their_words_are():
    some = [example(date(2021, 3, 3), 300), example(date(2021, 3, 4), 3_000_000)]
    same = torch.ones(2, 12, dtype=torch.bool)
    assert set(translation.by_part(same, some).values()) == {1.0}
    same[0, 4] = False  # the second digit of the year
    same[1, [1, 7, 11]] = False  # the day; the colon, which is no part's; the end
    assert translation.by_part(same, some) == {"weekday": 1, "day": 0.5, "month": 1, "year": 0.5, "amount": 1}


def test_what_is_written_is_what_greedy_search_writes(model, some):
    (source, _, source_mask), _ = padded(translation.tokens(some))
    ends = {"start": START, "end": END, "max_length": translation.LONGEST}
    found = greedy_search(model, source, source_mask=source_mask, **ends)
    assert translation.write(model, some) == [translation.LANGUAGES[1].decode(row) for row in found]


def test_bleu_of_right_and_wrong_texts(some):
    right = [found.target for found in some]
    assert translation.bleu(right, some) == pytest.approx(100)
    assert translation.bleu([["no"]] * len(some), some) < 1
    assert 20 < translation.bleu([words[:-3] for words in right], some) < 95


def test_without_padding_nothing_changes(model, monkeypatch):
    one = [example(date(2021, 3, 3), 300)] * 3
    monkeypatch.setattr(translation, "tests", lambda: one)
    assert translation.changed_by_padding(model) == 0
    several = [*one, example(date(2021, 12, 13), 12_345_678)]
    monkeypatch.setattr(translation, "tests", lambda: several)
    alone = [translation.write(model, [found])[0] for found in several]
    assert translation.write(model, several) == alone
    changed = sum(a != b for a, b in zip(alone, translation.write(model, several, masked=False), strict=True))
    assert translation.changed_by_padding(model) == changed > 0


@pytest.mark.parametrize("where", ["", *translation.WHERE])
def test_a_character_of_the_amount_is_closed_where_it_says(model, monkeypatch, where):
    found = example(date(2021, 3, 3), 3_210_000)  # 2021年3月3日星期三，三百二十一万元
    monkeypatch.setattr(translation, "asked", lambda: [found])
    place = found.source.index("万")
    with record_attention(model) as record:
        translation.size_words(model, "万", where)
    read = record["encoder.layers.0.self_attention"][0]  # (H, S, S)
    others = [i for i in range(len(found.source)) if i != place]
    assert bool((read[:, others, place] == 0).all()) == (where in ("encoder", "both"))
    assert (read[:, place, place] > 0).all()
    assert bool((record[translation.CROSS][0, :, :, place] == 0).all()) == (where in ("decoder", "both"))


def test_words_of_size_are_right_if_all_of_them_are(model, monkeypatch):
    found = example(date(2021, 3, 3), 3_210_000)
    monkeypatch.setattr(translation, "asked", lambda: [found] * 2)
    target = translation.padded(translation.tokens([found] * 2))[1]
    logits = torch.nn.functional.one_hot(target.clamp(min=0), len(translation.LANGUAGES[1])).float()
    monkeypatch.setattr(model, "decode", lambda *_: logits)
    assert translation.size_words(model, "万", "") == 1
    logits[0, 1] = 0  # the day, which is no word of size
    assert translation.size_words(model, "万", "") == 1
    million = found.target.index("million")
    logits[0, million] = 0
    assert translation.size_words(model, "万", "") == 0.5
