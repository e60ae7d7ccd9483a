"""The training loop, what it measures, and the models that attention is compared with."""

import math

import pytest
import torch
from torch import nn

from attnlib import masks
from attnlib.lab.models import (
    Convolutional,
    NoPositions,
    RecurrentWriter,
    Tagger,
    count_parameters,
    of_size,
)
from attnlib.lab.tasks import END, IGNORED, START, Batch, copying, reversal
from attnlib.lab.training import Dropout, accuracy, train
from attnlib.transformer import Encoder, Transformer, greedy_search

TASK = reversal(symbols=3, lengths=range(2, 4))
SMALL = {"d_model": 16, "num_heads": 2, "d_ff": 16, "dropout": 0.0, "norm_first": True}


def tagger(seed=0):
    torch.manual_seed(seed)
    return Tagger(3, 16, Encoder(1, **SMALL))


class Oracle(nn.Module):
    """Says the target, but for the places given wrong."""

    def __init__(self, wrong=()):
        super().__init__()
        self.unused, self.wrong = nn.Parameter(torch.zeros(1)), wrong

    def forward(self, source, target):
        logits = nn.functional.one_hot(target.clamp(min=0), 5).double()
        for b, place in self.wrong:
            logits[b, place] = torch.eye(5, dtype=torch.float64)[(target[b, place] + 1) % 5]
        return logits + 0 * self.unused


TARGET = torch.tensor([[2, 3, 1, IGNORED], [4, 2, 3, 1]])


@pytest.mark.parametrize(
    ("wrong", "sequences", "tokens"),
    [
        ([], 1.0, 1.0),
        ([(0, 1)], 1 / 2, 6 / 7),
        ([(0, 3)], 1.0, 1.0),  # nothing is asked there
        ([(0, 0), (0, 1), (1, 2)], 0.0, 4 / 7),
    ],
)
def test_accuracy_counts_whole_sequences_or_tokens(wrong, sequences, tokens):
    batch = [Batch((None, TARGET), TARGET)]
    assert accuracy(Oracle(wrong), batch) == sequences
    assert accuracy(Oracle(wrong), batch, of_tokens=True) == pytest.approx(tokens)


def test_accuracy_of_batches_weighs_every_sequence_alike():
    batches = [Batch((None, TARGET), TARGET), Batch((None, TARGET[1:]), TARGET[1:])]
    assert accuracy(Oracle([(0, 0)]), batches) == pytest.approx(1 / 3)  # one of two, and one of one, are wrong


def test_a_decoders_accuracy_is_that_of_what_it_writes_alone():
    task = copying(symbols=3, lengths=range(3, 4))
    torch.manual_seed(0)
    model = Transformer(task.vocab, num_layers=1, **SMALL)
    train(model, task, seed=0, steps=200, stop_at=0.3, check_every=10)
    (source, read), asked = task.draw(200, torch.Generator().manual_seed(1))
    found = greedy_search(model, source, start=START, end=END, max_length=4)
    right = sum(tokens.tolist() == row.tolist() for tokens, row in zip(found, source, strict=True)) / 200
    assert 0.05 < right < 0.95  # neither hopeless nor perfect, so that the comparison says something
    assert accuracy(model, [Batch((source, read), asked)]) == right


def test_training_learns_and_stops_when_two_checks_in_a_row_are_right():
    history = train(tagger(), TASK, seed=0, steps=2000, check_every=20)
    assert len(history.losses) < 2000
    assert [right for _, right in history.checks[-2:]] == [1.0] * 2
    assert [right for _, right in history.checks[-3:]] != [1.0] * 3
    assert [step for step, _ in history.checks] == list(range(20, len(history.losses) + 1, 20))
    assert history.losses[-1] < history.losses[0] / 10


def test_training_ends_after_its_steps_with_a_check():
    history = train(tagger(), TASK, seed=0, steps=7, check_every=5)
    assert len(history.losses) == 7
    assert [step for step, _ in history.checks] == [5, 7]


def test_the_same_seeds_give_the_same_model():
    losses = [train(tagger(), TASK, seed=seed, steps=5).losses for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_the_highest_rate_is_the_one_asked_for(monkeypatch):
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1]
    )
    train(tagger(), TASK, seed=0, steps=40, rate=0.002, warmup=10)
    assert max(rates) == pytest.approx(0.002)
    assert rates.index(max(rates)) + 1 == 10
    assert rates[39] == pytest.approx(0.001)


def test_a_rate_that_falls_to_zero_rises_stays_and_falls(monkeypatch):
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1]
    )
    train(tagger(), TASK, seed=0, steps=40, rate=0.002, warmup=10, fall_to_zero=True)
    assert rates[0] == pytest.approx(0.0002)
    assert rates[9:21] == pytest.approx([0.002] * 12)
    assert rates[30] == pytest.approx(0.001)
    assert rates[39] == pytest.approx(0.0001)


def test_checks_never_see_what_is_trained_on():
    seen = {"drawn": set(), "kept": set()}

    class Watched:
        def draw(self, *how):
            batch = TASK.draw(*how)
            seen["drawn"] |= set(map(tuple, batch.target.tolist()))
            return batch

        def tests(self, *how):
            batches = TASK.tests(*how)
            seen["kept"] |= {tuple(row) for batch in batches for row in batch.target.tolist()}
            return batches

    train(tagger(), Watched(), seed=0, steps=20)
    assert seen["drawn"]
    assert seen["kept"]
    assert not seen["drawn"] & seen["kept"]


# ---------------------------------------------------------------------------------------------------------------------
# What attention is compared with


def test_a_body_mixes_tokens_and_keeps_their_shape():
    body, x = Convolutional(8, layers=3, kernel=3), torch.randn(2, 5, 8)
    y = body(x)
    assert y.shape == x.shape
    x[:, 3] += 1
    assert not torch.allclose(body(x)[:, 2], y[:, 2])
    assert not torch.allclose(body(x)[:, 4], y[:, 4])


def test_rounded_parameters_are_the_same_although_sums_are_rounded_otherwise(monkeypatch):
    """Another processor, played by noise in the last digits of each gradient: without rounding, it grows."""
    real, apart = nn.utils.clip_grad_norm_, {}
    for decimals in (None, 5):
        learnt = []
        for noise in (0, 1e-15):
            torch.manual_seed(0)
            model = Tagger(3, 16, Encoder(1, **SMALL)).double()
            generator = torch.Generator().manual_seed(1)

            def disturbed(parameters, limit, noise=noise, generator=generator):
                parameters = list(parameters)
                real(parameters, limit)
                for x in (parameter.grad for parameter in parameters):
                    x += noise * torch.randn(x.shape, generator=generator, dtype=x.dtype) * x.abs()

            monkeypatch.setattr(nn.utils, "clip_grad_norm_", disturbed)
            train(model, TASK, seed=0, steps=60, rate=8e-3, warmup=10, batch_size=16, decimals=decimals)
            learnt.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
        apart[decimals] = (learnt[0] - learnt[1]).abs().max().item()
    assert apart[5] == 0 < apart[None]
    assert torch.equal(learnt[0], learnt[0].round(decimals=5))


def test_dropout_draws_by_rand_and_keeps_the_mean():
    """One lot a number, and what is kept grows; evaluation leaves all as it is, and draws nothing."""
    x, dropout = torch.arange(1.0, 70_001).view(7, 10_000).double(), Dropout(0.2)
    torch.manual_seed(3)
    dropped = dropout(x)
    torch.manual_seed(3)
    kept = torch.rand(7, 10_000, dtype=torch.float64) >= 0.2
    torch.testing.assert_close(dropped, torch.where(kept, x / 0.8, 0.0))
    assert (dropped / x).mean() == pytest.approx(1, abs=0.01)
    state = torch.get_rng_state()
    assert dropout.eval()(x) is x
    assert torch.get_rng_state().equal(state)


def test_convolutions_reach_as_far_as_they_say():
    body, x = Convolutional(8, layers=3, kernel=5).double(), torch.randn(1, 20, 8).double()
    changed = x.clone()
    changed[:, 0] += 1
    moved = (body(changed) - body(x)).abs().amax((0, 2)) > 0
    assert moved.tolist() == [place <= 3 * 2 for place in range(20)]


def test_a_writer_without_attention_sees_the_source_and_its_own_past_only():
    model = RecurrentWriter(7, 8)
    source, target = torch.randint(7, (2, 5)), torch.randint(7, (2, 4))
    y = model(source, target)
    later, other = target.clone(), (source + 1) % 7
    later[:, 2] = (later[:, 2] + 1) % 7
    assert torch.allclose(model(source, later)[:, :2], y[:, :2])
    assert not torch.allclose(model(source, later)[:, 2:], y[:, 2:])
    assert not torch.allclose(model(other, target)[:, 0], y[:, 0])


@pytest.mark.parametrize("attends", [False, True])
def test_a_recurrent_writer_reads_no_padding_and_may_have_two_tables(attends):
    model = RecurrentWriter(7, 8, target_vocab=5, attends=attends)
    source, target = torch.randint(7, (2, 5)), torch.randint(5, (2, 4))
    mask = masks.padding([3, 5])
    y = model(source, target, mask)
    assert y.shape == (2, 4, 5)
    assert torch.allclose(y[:1], model(source[:1, :3], target[:1]), atol=1e-6)
    assert torch.allclose(y[1:], model(source[1:], target[1:]), atol=1e-6)
    assert not torch.allclose(y[:1], model(source, target)[:1], atol=1e-6)


def test_a_recurrent_writer_that_attends_sees_what_its_one_vector_lost():
    """Two sources that leave the reader in one state: only attention can tell them apart."""
    torch.manual_seed(0)
    for attends in (False, True):
        model = RecurrentWriter(7, 8, attends=attends)
        reader = model.encoder.forward
        model.encoder.forward = lambda x, reader=reader: (reader(x)[0], torch.zeros(1, len(x), 8))
        source, target = torch.randint(7, (2, 5)), torch.randint(7, (1, 4)).expand(2, 4)
        y = model(source, target)
        assert torch.allclose(y[0], y[1]) != attends


@pytest.mark.parametrize("wanted", [500, 9_130, 21_824])
def test_a_model_of_a_size_is_as_near_as_a_width_allows(wanted):
    sizes = {w: count_parameters(RecurrentWriter(10, w)) for w in range(2, 130, 2)}
    model = of_size(lambda width: RecurrentWriter(10, width), wanted)
    assert abs(count_parameters(model) - wanted) == min(abs(size - wanted) for size in sizes.values())
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_a_model_without_positions_does_not_know_the_order():
    torch.manual_seed(0)
    encoder = Encoder(1, **SMALL)
    order = torch.tensor([2, 0, 1, 3])
    tokens = torch.tensor([[0, 1, 2, 1]])
    for add_positions in (True, False):
        model = Tagger(3, 16, encoder, add_positions=add_positions).eval()
        same = torch.allclose(model(tokens)[:, order], model(tokens[:, order]), atol=1e-5)
        assert same is not add_positions
    model = Transformer(5, num_layers=1, **SMALL).eval()
    source, target = torch.tensor([[2, 3, 4, 2]]), torch.tensor([[0, 3]])
    assert not torch.allclose(model(source, target), model(source[:, order], target), atol=1e-5)
    model.positions = NoPositions()
    assert torch.allclose(model(source, target), model(source[:, order], target), atol=1e-5)


def test_a_tagger_begins_near_a_guess():
    loss = nn.functional.cross_entropy(tagger()(torch.randint(3, (50, 3))).flatten(0, 1), torch.randint(3, (150,)))
    assert loss.item() < 2 * math.log(3)
