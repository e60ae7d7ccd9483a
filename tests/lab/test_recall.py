"""Recall and parity: the answer is what a loop over one example finds."""

import pytest
import torch

from attnlib.lab.recall import NAMES, NUMBERS, FewParities, Parity, Recall
from attnlib.lab.tasks import IGNORED


def test_the_answer_is_the_number_of_the_asked_name():
    for seed in range(5):
        (names, numbers, asked), answer = Recall(range(3, 8)).draw(50, torch.Generator().manual_seed(seed))
        assert names.max() < NAMES
        assert numbers.max() < NUMBERS
        assert 3 <= names.shape[1] <= 7
        for b in range(50):
            its = dict(zip(names[b].tolist(), numbers[b].tolist(), strict=True))
            assert len(its) == names.shape[1]  # no name twice
            assert its[asked[b].item()] == answer[b].item()


def test_each_place_is_asked_for_unless_one_is_given():
    (names, _, asked), _ = Recall(range(4, 5)).draw(400, torch.Generator().manual_seed(0))
    places = (names == asked).nonzero()[:, 1].bincount(minlength=4)
    assert places.min() > 70
    for back in (1, 3):
        (names, _, asked), _ = Recall(range(4, 5)).draw(20, torch.Generator().manual_seed(0), back=back)
        assert (names == asked).nonzero()[:, 1].tolist() == [4 - back] * 20


def test_every_number_of_pairs_is_drawn():
    generator = torch.Generator().manual_seed(0)
    drawn = {Recall(range(2, 5)).draw(1, generator).inputs[0].shape[1] for _ in range(60)}
    assert drawn == {2, 3, 4}


@pytest.mark.parametrize("length", [1, 7])
def test_parity_is_whether_the_ones_so_far_are_odd(length):
    (bits,), odd = Parity(range(length, length + 1)).draw(30, torch.Generator().manual_seed(length))
    for some, wanted in zip(bits.tolist(), odd.tolist(), strict=True):
        assert wanted == [sum(some[: place + 1]) % 2 for place in range(length)]


def test_tests_have_the_longest_length():
    assert Parity(range(2, 6)).tests(3, torch.Generator().manual_seed(0))[0].target.shape == (3, 5)


def test_few_parities_are_always_the_same_few_and_tests_are_others():
    task = FewParities(8, length=5)
    known = {tuple(bits) for bits in task.sequences.tolist()}
    (bits,), odd = task.draw(200, torch.Generator().manual_seed(0))
    assert {tuple(one) for one in bits.tolist()} == known
    assert odd.tolist() == [[sum(one[: place + 1]) % 2 for place in range(5)] for one in bits.tolist()]
    assert len(known) == 8
    (((others,), wanted),) = task.tests(100, torch.Generator().manual_seed(1))
    for one, answers in zip(others.tolist(), wanted.tolist(), strict=True):
        for place, answer in enumerate(answers):
            begun = any(list(some[: place + 1]) == one[: place + 1] for some in known)
            assert answer == (IGNORED if begun else sum(one[: place + 1]) % 2)
    assert (wanted != IGNORED).sum() > 50
