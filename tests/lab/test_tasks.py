"""The tasks: their rules, what is kept for tests, and how a target is written."""

import pytest
import torch

from attnlib.lab.tasks import END, IGNORED, START, SYMBOLS_FROM, Task, copying, reversal, sorting, written

TASKS = {"reversal": reversal, "sorting": sorting, "copying": copying}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_reversal_is_asked_backwards():
    (source,), target = reversal(symbols=7, lengths=range(5, 6)).draw(11, generator())
    assert source.shape == (11, 5)
    assert target.tolist() == [row[::-1] for row in source.tolist()]
    assert set(source.unique().tolist()) == set(range(7))


def test_a_reversal_can_be_written():
    (source, read), asked = reversal(symbols=7, lengths=range(5, 6), written=True).draw(11, generator())
    assert asked.tolist() == [[*row[::-1], END] for row in source.tolist()]
    assert read.tolist() == [[START, *row[::-1]] for row in source.tolist()]
    assert source.min() >= SYMBOLS_FROM


def test_a_sorted_target_is_the_source_in_order():
    (source, read), asked = sorting(symbols=13, lengths=range(6, 7)).draw(11, generator())
    for row, target, shown in zip(source.tolist(), asked.tolist(), read.tolist(), strict=True):
        assert len(set(row)) == 6
        assert target == [*sorted(row), END]
        assert shown == [START, *sorted(row)]
    assert source.min() >= SYMBOLS_FROM
    assert source.max() < sorting(symbols=13).vocab == 13 + SYMBOLS_FROM


def test_a_copy_is_asked_as_it_is():
    (source, read), asked = copying(symbols=5, lengths=range(3, 4)).draw(11, generator())
    assert asked.tolist() == [[*row, END] for row in source.tolist()]
    assert read.tolist() == [[START, *row] for row in source.tolist()]


@pytest.mark.parametrize("name", TASKS)
def test_what_is_kept_for_tests_is_never_trained_on(name):
    task = TASKS[name](lengths=range(4, 6))
    trained, kept = set(), set()
    for seed in range(20):
        for length in task.lengths:
            trained |= set(map(tuple, task.draw(200, generator(seed), length=length).target.tolist()))
            kept |= set(map(tuple, task.draw(50, generator(seed), held_out=True, length=length).target.tolist()))
    assert len(trained) > 1000
    assert len(kept) > 100
    assert not trained & kept


def test_about_a_tenth_is_kept():
    every = Task(lambda source: source, symbols=10, lengths=range(4, 5))
    kept = {tuple(row) for row in every.draw(20_000, generator(), held_out=True).target.tolist()}
    assert 800 < len(kept) < 1200  # of 10 000


def test_every_length_is_drawn():
    task = copying(lengths=range(4, 8))
    lengths = [task.draw(1, generator(seed)).inputs[0].shape[1] for seed in range(100)]
    assert set(lengths) == {4, 5, 6, 7}
    assert [batch.inputs[0].shape for batch in task.tests(10, generator())] == [(3, n) for n in (4, 5, 6, 7)]


def test_a_batch_is_the_same_for_the_same_seed():
    first, second, other = (copying().draw(5, generator(seed), length=6).target for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_length_without_a_target_to_keep_is_refused():
    with pytest.raises(ValueError, match="length: expected one with targets on both sides of the split, got 3"):
        sorting(symbols=3, lengths=range(3, 4)).draw(1, generator(), held_out=True)


def test_a_padded_target_ends_where_it_ends():
    target = torch.tensor([[7, 8, 9], [5, IGNORED, IGNORED]])
    (_, read), asked = written(torch.zeros(2, 4, dtype=torch.int64), target)
    assert read.tolist() == [[START, 7, 8, 9], [START, 5, END, END]]
    assert asked.tolist() == [[7, 8, 9, END], [5, END, IGNORED, IGNORED]]
