"""The frozen text: it stays as it is, what is held out is held out, and counts are those that one makes by hand."""

import hashlib
import math
from collections import Counter
from itertools import pairwise

import pytest
import torch

from attnlib.lab import prose


def test_the_text_does_not_move():
    told = "".join(map(prose.text, ("training", "validation", "test")))
    assert (
        hashlib.sha256(told.encode()).hexdigest() == "997d3d6538592b5fa1a39642538bfea509c62bbe2ad88a75a208e1be0c5ab9cb"
    )
    assert len(prose.characters()) == 49


def test_held_out_pages_are_not_trained_on():
    training = prose.text("training")
    held_out = [name for names in prose.HELD_OUT.values() for name in names]
    assert len(set(held_out)) == 8
    assert set(held_out) <= set(prose.pages())
    assert sum(len(prose.text(part)) for part in ("training", *prose.HELD_OUT)) == sum(
        len(told) + 1 for page in prose.pages().values() for told in page
    )
    for part, names in prose.HELD_OUT.items():  # but for two or three short sentences that pages have in common
        shared = [told for name in names for told in prose.pages()[name] if f"\n{told}\n" in training]
        assert len("".join(shared)) < 0.01 * len(prose.text(part))
    with pytest.raises(ValueError, match=r"part: expected training, validation or test, got 'tests'"):
        prose.text("tests")


def test_merges_by_hand():
    """a, b stand together three times, then their sign and c twice; of pairs that are as frequent the first wins."""
    assert prose.merge("abcabcab", times=2) == ["ab", "\ue000c"]
    assert prose.merge("zyxz", times=1) == ["zy"]


def test_merges_are_those_that_counting_finds():
    read, expected = prose.text("training")[:20_000], []
    for sign in map(chr, range(prose.MERGED, prose.MERGED + 40)):
        [(pair, _)] = Counter(pairwise(read)).most_common(1)
        expected.append("".join(pair))
        read = read.replace(expected[-1], sign)
    assert prose.merge(prose.text("training")[:20_000], times=40) == expected


def test_tokens_are_merged_in_order_from_left_to_right():
    """As a loop over signs would do it; and each token is spelt by the parts that it was merged of."""
    told = prose.text("test")[:2000]
    signs, spelt = list(told), {character: character for character in prose.characters()}
    for new, (left, right) in enumerate(prose.pairs()):
        sign, merged = chr(prose.MERGED + new), []
        spelt[sign] = spelt[left] + spelt[right]
        for part in signs:
            if part == right and merged and merged[-1] == left:
                merged[-1] = sign
            else:
                merged.append(part)
        signs = merged
    tokens = prose.encode(told)
    assert [prose.vocabulary()[token] for token in tokens] == [spelt[sign] for sign in signs]
    assert prose.lengths(tokens).tolist() == [len(spelt[sign]) for sign in signs]
    assert len(prose.vocabulary()) == len(spelt) == 49 + prose.MERGES
    assert len(tokens) < 0.5 * len(told)


def test_every_character_is_there_and_back():
    told = prose.text("test")[:500]
    assert prose.decode(prose.encode(told)) == told
    assert prose.decode(torch.arange(len(prose.characters()))) == prose.characters()
    with pytest.raises(ValueError, match=r"string: expected characters of the text, got 'Q', '€'"):
        prose.encode("a Q€")


def test_what_is_asked_is_the_next_character():
    (read,), asked = prose.Prose(length=11).draw(7, torch.Generator().manual_seed(1))
    for one, next_ in zip(read, asked, strict=True):
        assert prose.decode(one) + prose.decode(next_[-1:]) in prose.text("training")
        assert next_[:-1].equal(one[1:])
    [((read,), asked)] = prose.Prose(length=11).tests(5000, torch.Generator().manual_seed(1))
    assert read.shape == asked.shape == (16, 11)
    assert all(prose.decode(one) in prose.text("test") for one in read)


def test_the_last_place_of_the_text_can_be_drawn(monkeypatch):
    monkeypatch.setattr(prose, "_tokens", lambda part: torch.arange(12))
    (read,), asked = prose.Prose(length=10).draw(200, torch.Generator().manual_seed(0))
    assert set(read[:, 0].tolist()) == {0, 1}
    assert asked.max() == 11


def test_windows_are_the_held_out_text():
    read, asked = prose.windows(length=7, stride=3)
    for part, pieces in (("test", (read, asked)), ("validation", prose.windows(7, 3, "validation"))):
        tokens = prose.encode(prose.text(part))
        assert pieces[0][5].equal(tokens[15:22])
        assert pieces[1][5].equal(tokens[16:23])


def test_probabilities_by_hand():
    counts = prose.Counts(2, "abab")
    size = len(prose.characters())
    single = (2 + 2 / size) / (4 + 2)  # b: two of four, two different ones seen
    assert counts.probability("", "b") == pytest.approx(single)
    assert counts.probability("a", "b") == pytest.approx((2 + single) / 3)
    assert counts.probability("q", "b") == pytest.approx(single)  # a context that was never seen


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one(order):
    counts = prose.Counts(order, prose.text("training")[:3000])
    for context in ("", "e", "th", "qx"):
        some = context[: order - 1]
        assert sum(counts.probability(some, c) for c in prose.characters()) == pytest.approx(1)


LATE = prose.CONTEXT // 2


def test_counts_and_models_are_asked_for_the_same_characters():
    said = []

    class Asked(prose.Counts):
        def probability(self, context, character):
            said.append(context + character)
            return 0.25

    assert Asked(3, "").bits() == 2
    _, asked = prose.windows(prose.CONTEXT, LATE)
    assert "".join(told[-1] for told in said) == prose.decode(asked[:, LATE:].flatten())
    assert all(told in prose.text("test") and len(told) == 3 for told in said)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_bits_are_those_of_the_second_half_of_each_window_shared_by_its_characters(part):
    size = len(prose.vocabulary())

    class Guess(torch.nn.Module):
        def forward(self, tokens):  # sure of a wrong token in the first half, a guess in the second
            logits = torch.zeros(*tokens.shape, size)
            logits[:, :LATE, 0] = 1e3
            return logits

    _, asked = prose.windows(prose.CONTEXT, LATE, part)
    told = prose.decode(asked[:, LATE:].flatten())
    assert prose.bits(Guess(), part) == pytest.approx(math.log2(size) * LATE * len(asked) / len(told), abs=1e-4)
