"""Texts with names: what stands where, by loops over single tokens; and what is kept for tests."""

import pytest
import torch

from attnlib.lab.experiments import induction
from attnlib.lab.names import SYLLABLES, Names, is_held_out
from attnlib.lab.tasks import IGNORED


def texts(held_out=False, length=23, seed=0, count=40):
    told = Names(length=length, names=3).tell(count, torch.Generator().manual_seed(seed), held_out=held_out)
    return told, list(zip(told.tokens.tolist(), told.name.tolist(), told.second.tolist(), strict=True))


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])  # among them texts that begin in the middle of a slot
def test_a_name_is_two_tokens_and_always_the_same_two(held_out, seed):
    told, rows = texts(held_out, seed=seed)
    assert told.tokens.shape == (40, 23)
    assert told.tokens.max() < len(SYLLABLES)
    for tokens, names, seconds in rows:
        pairs = {}
        for place, (name, second) in enumerate(zip(names, seconds, strict=True)):
            if second:
                assert name >= 0
                assert names[place - 1] == name
                assert not seconds[place - 1]
                pairs.setdefault(name, set()).add((tokens[place - 1], tokens[place]))
            elif name >= 0 and place < 22:
                assert names[place + 1] == name
                assert seconds[place + 1]
        assert all(len(found) == 1 for found in pairs.values())
        firsts = {first for found in pairs.values() for first, _ in found}
        assert len(firsts) == len(pairs)
        for token, name, second in zip(tokens, names, seconds, strict=True):  # a first token stands nowhere else
            assert (token in firsts) <= (name >= 0 and not second)
        assert all(((first + second) % 8 == 0) == held_out for found in pairs.values() for first, second in found)


def test_asked_is_where_a_name_comes_again():
    told, rows = texts(seed=1)
    count = 0
    for b, (_, names, seconds) in enumerate(rows):
        for place in range(23):
            before = any(seconds[j] and names[j] == names[place] for j in range(place))
            assert told.asked[b, place].item() == (seconds[place] and before)
            count += seconds[place] and before
    assert count > 40


def test_texts_begin_at_either_half_of_a_slot():
    told, _ = texts(count=60)
    by_text = [{place % 2 for place in row.nonzero()[:, 0].tolist()} for row in told.second]
    assert all(len(places) <= 1 for places in by_text)
    assert set().union(*by_text) == {0, 1}


def test_a_batch_asks_for_the_next_token():
    told, _ = texts(seed=2)
    (tokens,), target = told.batch
    for b in range(40):
        for place in range(22):
            assert tokens[b, place] == told.tokens[b, place]
            wanted = told.tokens[b, place + 1] if told.asked[b, place + 1] else IGNORED
            assert target[b, place] == wanted


def test_training_never_says_a_held_out_name_and_tests_say_no_other():
    first, second = torch.arange(32).repeat(32), torch.arange(32).repeat_interleave(32)
    assert is_held_out(first, second).double().mean() == 1 / 8
    for held_out in (False, True):
        told, _ = texts(held_out)
        place = told.second.nonzero()
        pairs = told.tokens[place[:, 0], place[:, 1] - 1], told.tokens[place[:, 0], place[:, 1]]
        assert is_held_out(*pairs).unique().tolist() == [held_out]
    ((tokens,), target), same = Names().tests(30, torch.Generator().manual_seed(1_000))[0], induction.kept(count=30)
    assert tokens.equal(same.tokens[:, :-1])
    assert target.equal(same.batch.target)
    (training,), _ = Names().draw(30, torch.Generator().manual_seed(1_000))
    assert not training.equal(tokens)


def test_cells_lead_from_a_name_to_where_it_stood():
    told, rows = texts(seed=3, count=10)
    found = induction.cells(told)
    for b, (_, names, seconds) in enumerate(rows):
        for q in range(22):
            asks = told.asked[b, q + 1].item()
            for k in range(22):
                earlier = seconds[k] and k < q
                assert found["before"][b, q, k].item() == (seconds[q] and k == q - 1)
                assert found["before, control"][b, q, k].item() == (seconds[q] and k == q - 2)
                assert found["earlier"][b, q, k].item() == (asks and earlier and names[k] == names[q])
                assert found["earlier, control"][b, q, k].item() == (asks and earlier and names[k] != names[q])
