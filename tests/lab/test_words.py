"""Words as tokens, and padded batches: nothing is lost, nothing is read that is padding, tests are never drawn."""

import pytest
import torch

from attnlib.lab.tasks import END, IGNORED, START
from attnlib.lab.words import Pairs, Vocabulary, padded

PAIRS = [([2 + i] * (1 + i % 3), [40 + i] * (1 + i % 5)) for i in range(30)]


def rows(batch):
    """The pairs of a batch, without start, end and padding."""
    (source, _, mask), asked = batch
    real = mask.dense(1, source.shape[1])[:, 0, 0]
    return [
        (row[keep].tolist(), [token for token in wanted.tolist() if token != IGNORED][:-1])
        for row, keep, wanted in zip(source, real, asked, strict=True)
    ]


def test_words_come_back():
    vocabulary = Vocabulary(["mice", "chase", "cats", "and", "cats", "chase", "mice"])
    assert vocabulary.words == ["<start>", "<end>", "and", "cats", "chase", "mice"]
    assert len(vocabulary) == 6
    assert vocabulary.decode(torch.tensor(vocabulary.encode(["mice", "and", "cats"]))) == ["mice", "and", "cats"]


@pytest.mark.parametrize("unknown", ["dogs", "<start>", "<end>"])
def test_a_word_that_nobody_knows_is_named(unknown):
    with pytest.raises(ValueError, match=rf"words: expected words of the vocabulary \(cats, …\), got '{unknown}'"):
        Vocabulary(["cats"]).encode(["cats", unknown])


def test_a_batch_holds_its_pairs_and_the_decoder_reads_one_place_later():
    batch = padded(PAIRS)
    assert rows(batch) == PAIRS
    (_, read, _), asked = batch
    for (_, target), before, wanted in zip(PAIRS, read.tolist(), asked.tolist(), strict=True):
        assert before[: len(target) + 1] == [START, *target]
        assert wanted[: len(target) + 1] == [*target, END]
        assert set(wanted[len(target) + 1 :]) <= {IGNORED}


def test_tests_are_never_drawn_and_training_pairs_all_are():
    pairs = Pairs(PAIRS[:20], PAIRS[20:])
    drawn = [row for seed in range(20) for row in rows(pairs.draw(10, torch.Generator().manual_seed(seed)))]
    kept = rows(*pairs.tests(100, torch.Generator().manual_seed(0)))
    assert sorted(kept) == sorted(PAIRS[20:])
    assert {str(row) for row in drawn} == {str(row) for row in PAIRS[:20]}
    assert len(rows(*pairs.tests(3, torch.Generator().manual_seed(0)))) == 3
