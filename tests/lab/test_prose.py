"""The frozen text: it stays as it is, what is held out is held out, and counts are those that one makes by hand."""

import hashlib
import math

import pytest
import torch

from attnlib.lab import prose


def test_the_text_does_not_move():
    told = prose.text(held_out=False) + prose.text(held_out=True)
    assert (
        hashlib.sha256(told.encode()).hexdigest() == "9dee0cf1979ab2749fcfaa81f8dff1bd7f8c535ed3f22ff4dc4ea47547fd3da2"
    )
    assert len(prose.characters()) == 49


def test_held_out_pages_are_not_trained_on():
    training, tests = prose.text(held_out=False), prose.text(held_out=True)
    assert set(prose.HELD_OUT) <= set(prose.pages())
    assert len(training) + len(tests) == sum(len(told) + 1 for page in prose.pages().values() for told in page)
    shared = [told for name in prose.HELD_OUT for told in prose.pages()[name] if f"\n{told}\n" in training]
    assert len("".join(shared)) < 0.01 * len(tests)  # two short sentences that pages have in common


def test_every_character_is_there_and_back():
    told = prose.text(held_out=True)[:500]
    assert prose.decode(prose.encode(told)) == told
    with pytest.raises(ValueError, match=r"string: expected characters of the text, got 'Q', '€'"):
        prose.encode("a Q€")


def test_what_is_asked_is_the_next_character():
    (read,), asked = prose.Prose(length=11).draw(7, torch.Generator().manual_seed(1))
    for one, next_ in zip(read, asked, strict=True):
        assert prose.decode(one) + prose.decode(next_[-1:]) in prose.text(held_out=False)
        assert next_[:-1].equal(one[1:])
    [((read,), asked)] = prose.Prose(length=11).tests(5000, torch.Generator().manual_seed(1))
    assert read.shape == asked.shape == (16, 11)
    assert all(prose.decode(one) in prose.text(held_out=True) for one in read)


def test_the_last_place_of_the_text_can_be_drawn(monkeypatch):
    monkeypatch.setattr(prose, "_tokens", lambda held_out: torch.arange(12))
    (read,), asked = prose.Prose(length=10).draw(200, torch.Generator().manual_seed(0))
    assert set(read[:, 0].tolist()) == {0, 1}
    assert asked.max() == 11


def test_windows_are_the_held_out_text():
    read, asked = prose.windows(length=7, stride=3)
    told = prose.text(held_out=True)
    assert prose.decode(read[5]) == told[15:22]
    assert prose.decode(asked[5]) == told[16:23]


def test_probabilities_by_hand():
    counts = prose.Counts(2, "abab")
    size = len(prose.characters())
    single = (2 + 2 / size) / (4 + 2)  # b: two of four, two different ones seen
    assert counts.probability("", "b") == pytest.approx(single)
    assert counts.probability("a", "b") == pytest.approx((2 + single) / 3)
    assert counts.probability("q", "b") == pytest.approx(single)  # a context that was never seen


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one(order):
    counts = prose.Counts(order, prose.text(held_out=False)[:3000])
    for context in ("", "e", "th", "qx"):
        some = context[: order - 1]
        assert sum(counts.probability(some, c) for c in prose.characters()) == pytest.approx(1)


def test_counts_and_models_are_asked_for_the_same_characters():
    """A model that says what single counts say needs as many bits, to the last digit."""
    counts = prose.Counts(1, prose.text(held_out=False))
    chances = torch.tensor([counts.probability("", character) for character in prose.characters()])

    class Single(torch.nn.Module):
        def forward(self, tokens):
            return chances.log().double().expand(*tokens.shape, -1)

    assert prose.bits(Single()) == pytest.approx(counts.bits(), abs=1e-6)


def test_bits_use_the_second_half_of_each_window():
    class Counting(torch.nn.Module):
        def forward(self, tokens):  # sure of a wrong character in the first half, a guess in the second
            logits = torch.zeros(*tokens.shape, len(prose.characters()))
            logits[:, : prose.CONTEXT // 2, 0] = 1e3
            return logits

    assert prose.bits(Counting()) == pytest.approx(math.log2(len(prose.characters())), abs=1e-4)
