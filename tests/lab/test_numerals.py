"""Numbers in words: the words are the library's, and nothing of them is lost when they are split."""

import re

import pytest
import torch
from num2words import num2words

from attnlib.lab.numerals import Numerals
from attnlib.lab.tasks import END, IGNORED, START

NUMBERS = [0, 1, 16, 17, 21, 30, 66, 77, 100, 101, 171, 999, 1000, 1001, 7_117, 21_000, 90_817, 99_999]


@pytest.fixture(scope="module")
def numerals():
    return Numerals("en", "de", range(100_000), training=300, tests=100)


@pytest.mark.parametrize("number", NUMBERS)
def test_german_pieces_join_to_the_librarys_word(numerals, number):
    pieces = numerals.words(number, side=1)
    assert "".join(pieces) == num2words(number, lang="de")
    assert all(piece in numerals.vocabularies[1] for piece in pieces)


def test_german_pieces_are_those_that_have_a_meaning(numerals):
    assert numerals.words(77, side=1) == ["sieben", "und", "siebzig"]
    assert numerals.words(21_101, side=1) == ["ein", "und", "zwanzig", "tausend", "ein", "hundert", "eins"]
    assert numerals.words(116, side=1) == ["ein", "hundert", "sechzehn"]


@pytest.mark.parametrize("number", NUMBERS)
def test_english_words_are_the_librarys(numerals, number):
    assert numerals.words(number, side=0) == re.split(r"[-, ]+", num2words(number))


def test_every_number_has_its_words_in_the_vocabulary(numerals):
    for number in range(0, 1_000_000, 3_331):
        for side in (0, 1):
            tokens = torch.tensor(numerals.encode(number, side))
            assert tokens.min() > END
            assert numerals.text(tokens, side) == " ".join(numerals.words(number, side))


def test_numbers_for_tests_are_others_than_those_for_training(numerals):
    assert len(set(numerals.numbers)) == 400
    trained = {
        tuple(row) for seed in range(20) for row in rows(numerals.draw(100, torch.Generator().manual_seed(seed)))
    }
    kept = {tuple(row) for batch in numerals.tests(100, torch.Generator()) for row in rows(batch)}
    assert len(kept) == 100
    assert len(trained) > 200
    assert not trained & kept


def rows(batch):
    return [[token for token in row if token != IGNORED] for row in batch.target.tolist()]


def test_a_batch_is_padded_and_its_mask_says_where(numerals):
    (source, read, mask), asked = numerals.batch([21, *numerals.numbers[:2], 345_678])
    real = mask.dense(1, source.shape[1])[:, 0, 0]
    for b, number in enumerate([21, *numerals.numbers[:2], 345_678]):
        assert source[b][real[b]].tolist() == numerals.encode(number, 0)
        assert real[b].tolist() == sorted(real[b].tolist(), reverse=True)
        wanted = numerals.encode(number, 1)
        assert read[b, : len(wanted) + 1].tolist() == [START, *wanted]
        assert [token for token in asked[b].tolist() if token != IGNORED] == [*wanted, END]


def test_a_language_that_is_not_german_is_split_at_its_spaces():
    french = Numerals("en", "fr", range(100), training=20, tests=5)
    assert french.words(99, side=1) == ["quatre", "vingt", "dix", "neuf"]
