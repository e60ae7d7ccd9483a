"""The experiment of the chapter on recurrence: rows, sizes, what the chapter claims, and rows computed again."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnlib.functional import attention_weights
from attnlib.lab import stored
from attnlib.lab.experiments import recurrence
from attnlib.lab.models import count_parameters
from attnlib.lab.recall import NUMBERS, Recall
from attnlib.lab.training import float64
from attnlib.multihead import MultiHeadAttention

ROWS = stored.load("recurrence")["rows"]


def of(row, what, n):
    return [seed[what][str(n)] for seed in ROWS[row]["seeds"]]


def test_every_row_is_stored_with_every_seed():
    assert list(ROWS) == list(recurrence.ROWS)
    for row in ROWS.values():
        assert [seed["seed"] for seed in row["seeds"]] == [0, 1, 2]


def test_rivals_are_as_large_as_is_said():
    ours = ROWS["attention"]["parameters"]
    assert ours == count_parameters(recurrence.attention())
    for name in ("GRU", "LSTM", "linear attention"):
        assert ROWS[name]["parameters"] == pytest.approx(ours, rel=0.05)
    assert ROWS["GRU, larger"]["parameters"] == pytest.approx(8 * ours, rel=0.03)
    assert ROWS["parity, GRU"]["parameters"] < ROWS["parity, attention"]["parameters"] / 4


def test_attention_keeps_everything_and_a_state_what_it_was_told_to():
    assert min(of("attention", "pairs", 64)) > 0.99
    for n in recurrence.PAIRS:
        by_lot = 1 / n + (1 - 1 / n) / NUMBERS
        said = torch.randint(NUMBERS, (20_000, n), generator=torch.Generator().manual_seed(0))
        most = F.one_hot(said, NUMBERS).sum(1).amax(1).double().mean().item() / n
        for name in ("GRU", "LSTM", "GRU, larger"):
            assert 0.9 * by_lot < min(of(name, "pairs", n)) <= max(of(name, "pairs", n)) < 1.1 * most
        if n in recurrence.FEW:
            assert 0.9 * by_lot < min(of("few, GRU", "pairs", n)) <= max(of("few, GRU", "pairs", n)) < 1.1 * most
            assert min(of("few, GRU, asked first", "pairs", n)) > 0.7


def test_a_state_carries_a_bit_further_than_attention():
    for name in ("parity, GRU", "parity, LSTM"):
        assert min(of(name, "lengths", 128)) > 0.99
    assert max(of("parity, attention", "lengths", 128)) < 0.6


def test_a_state_needs_fewer_examples_of_parity():
    for count in recurrence.SEQUENCES:
        assert min(of("few parities, GRU", "sequences", count)) > 0.99
    assert max(of("few parities, attention", "sequences", 16)) < 0.75
    assert min(of("few parities, attention", "sequences", 1024)) > 0.9


def test_the_gradient_falls_on_what_is_asked():
    for back in recurrence.BACK:
        assert min(of("attention", "reach", back)) > 0.8
    for name in ("GRU", "LSTM"):
        assert max(of(name, "reach", 1) + of(name, "reach", 32)) < 0.2


class Dial(nn.Module):
    """Answers with the first pair, and listens to the others a tenth as much."""

    def forward(self, asked, pairs):
        return pairs[:, :1] + 0.1 * pairs[:, 1:].sum(1, keepdim=True)


@float64()
def test_reach_is_the_share_of_the_gradient():
    torch.manual_seed(0)
    found = recurrence.by_distance(recurrence.Recaller(8, Dial()), count=7)["reach"]
    assert found[32] == pytest.approx(1 / (1 + 31 * 0.1))
    assert found[1] == pytest.approx(0.1 / (1 + 31 * 0.1))


@float64()
def test_linear_attention_is_a_weighted_mean_with_a_kernel():
    torch.manual_seed(0)
    layer, asked, pairs = recurrence.LinearAttention(5), torch.randn(3, 1, 5), torch.randn(3, 7, 5)

    def phi(x):
        return torch.where(x > 0, x + 1, x.exp())

    with torch.no_grad():
        for b in range(3):
            weights = [(phi(layer.wq(asked[b, 0])) @ phi(layer.wk(pairs[b, k]))).item() for k in range(7)]
            mean = sum(w / sum(weights) * layer.wv(pairs[b, k]) for k, w in enumerate(weights))
            torch.testing.assert_close(layer(asked, pairs)[b, 0], layer.fc(mean))


@float64()
def test_the_model_looks_among_the_pairs_alone():
    torch.manual_seed(0)
    model = recurrence.Recaller(8, MultiHeadAttention(1, 8, dropout=0.0))
    (names, numbers, asked), _ = Recall(range(5, 6)).draw(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        pairs, query = model.names(names) + model.numbers(numbers), model.names(asked)
        weights = attention_weights(model.look.wq(query)[:, None], model.look.wk(pairs)[:, None])[:, 0]
        wanted = model.output(model.look.fc(weights @ model.look.wv(pairs)))
        torch.testing.assert_close(model(names, numbers, asked), wanted)


@float64()
def test_a_state_reads_the_asked_name_last_or_first():
    asked, pairs = torch.randn(2, 1, 4), torch.randn(2, 3, 4)
    net = nn.GRU(4, 4, batch_first=True)
    with torch.no_grad():
        for first, order in ((False, [pairs, asked]), (True, [asked, pairs])):
            wanted = net(torch.cat(order, 1))[1][0]
            torch.testing.assert_close(recurrence.StateOnly(net, asked_first=first)(asked, pairs)[:, 0], wanted)


class Never(nn.Module):
    """Says that the number of ones is never odd."""

    def forward(self, bits):
        return F.one_hot(torch.zeros_like(bits), 2).double()


def test_parity_counts_places():
    assert recurrence.by_length(Never())[128] == pytest.approx(0.5, abs=0.02)


def test_distances_are_asked_for(monkeypatch):
    seen = []
    draw = Recall.draw

    def noted(self, count, generator, *, back=None):
        seen.append(back)
        return draw(self, count, generator, back=back)

    monkeypatch.setattr(Recall, "draw", noted)
    recurrence.by_distance(recurrence.Recaller(8, Dial()), count=3)
    assert seen == list(recurrence.BACK)


def test_rows_are_computed_again():
    again = recurrence.recall(recurrence.linear, 2)
    assert {"seed": 2, **again} == ROWS["linear attention"]["seeds"][2]
    make = recurrence.ROWS["parity, GRU"].args[1]
    assert {"seed": 1, **recurrence.parity(make, 1)} == ROWS["parity, GRU"]["seeds"][1]
