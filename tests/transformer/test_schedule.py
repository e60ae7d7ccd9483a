"""The learning rate of equation 3, and the label smoothing that the paper cites."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from attnlib.transformer import warmup_schedule


def rates(d_model, warmup_steps, steps, lr=1.0):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = warmup_schedule(optimizer, d_model, warmup_steps)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return used


def test_the_rates_are_those_of_equation_3():
    expected = [1 / math.sqrt(512) * min(1 / math.sqrt(step), step / (40 * math.sqrt(40))) for step in range(1, 201)]
    assert rates(512, 40, 200) == pytest.approx(expected)


def test_the_rate_rises_in_a_line_and_is_highest_at_the_last_step_of_the_warmup():
    used = rates(64, 40, 200)
    assert used.index(max(used)) + 1 == 40
    assert used[19] == pytest.approx(used[39] / 2)
    assert used[159] == pytest.approx(used[39] / 2)  # four times as late, half as fast


def test_the_optimizers_own_rate_is_a_factor():
    assert rates(64, 40, 9, lr=3.0) == pytest.approx([3 * rate for rate in rates(64, 40, 9)])


@pytest.mark.parametrize(("sizes", "message"), [((0, 40), "d_model"), ((64, 0), "warmup_steps")])
def test_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(ValueError, match=f"{message}: expected at least 1, got 0"):
        rates(*sizes, 1)


def test_torchs_label_smoothing_is_the_papers():
    """Szegedy et al. (2016), section 7, which the paper cites: (1 − ε) for the right token, ε/K more for each of K."""
    logits, right, K = torch.randn(13, 7, dtype=torch.float64), torch.randint(7, (13,)), 7
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)(logits, right)
    total = 0.0
    for row, token in zip(logits.tolist(), right.tolist(), strict=True):
        log_sum = math.log(sum(map(math.exp, row)))
        wanted = [0.1 / K + (0.9 if k == token else 0.0) for k in range(K)]
        total -= sum(q * (x - log_sum) for q, x in zip(wanted, row, strict=True))
    assert loss.item() == pytest.approx(total / 13)


def test_the_default_is_the_papers_warmup():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    factor = warmup_schedule(optimizer, 512).lr_lambdas[0]
    rates = [factor(step) for step in range(5000)]
    assert rates.index(max(rates)) + 1 == 4000


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda schedule: pickle.loads(pickle.dumps(schedule))])
def test_a_copy_of_a_schedule_goes_on_as_the_schedule(duplicate):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = warmup_schedule(optimizer, 64, 5)
    expected = rates(64, 5, 12, lr=2.0)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    twin = duplicate(schedule)
    for each in (twin, schedule):
        for rate in expected[3:]:
            assert each.get_last_lr() == pytest.approx([rate])
            assert each.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
            each.optimizer.step()
            each.step()


def test_a_stored_state_is_loaded_by_a_schedule_made_anew():
    """Its settings are those it is made with; a state from before it could be pickled holds None for its function."""
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0) for _ in range(2)]
    schedule, new = (warmup_schedule(optimizer, 64, 5) for optimizer in optimizers)
    for _ in range(7):
        optimizers[0].step()
        schedule.step()
    for state in (schedule.state_dict(), {**schedule.state_dict(), "lr_lambdas": [None]}):
        new.load_state_dict(pickle.loads(pickle.dumps(state)))
        assert new.get_last_lr() == schedule.get_last_lr()
    optimizers[1].step()
    new.step()
    assert new.get_last_lr() == pytest.approx(rates(64, 5, 9)[8:])
