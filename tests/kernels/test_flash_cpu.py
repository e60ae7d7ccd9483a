"""torch's kernel for CPUs with its log-sum-exp: what the parts of a row give, joined, and what is done without it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlib import attention, masks
from attnlib.kernels import choice, explain, flash_cpu, online
from attnlib.kernels.choice import choose
from tests.oracles import dense_attention, draw, in_blocks, open_scores
from tests.random_masks import expressions
from tests.tolerances import assert_close

B, H, H_KV, L, S, D = 2, 6, 3, 5, 7, 11
SCALE = 0.4

HAS_FLASH = pytest.mark.skipif(not flash_cpu.available(), reason="this torch has no such operations")


def forward(query, key, value, additive_mask):
    return flash_cpu.forward(query, key, value, additive_mask, scale=SCALE)


def backward(*tensors):
    return flash_cpu.backward(*tensors, scale=SCALE)


def tensors():
    return draw(B, H, L, D), draw(B, H_KV, S, D), draw(B, H_KV, S, D)


def added(allowed):
    """Return what is added to the scores: −∞ where a pair is closed."""
    return torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -math.inf)


def some_closed(*leading):
    """Return bools (…, L, S), of which one row is wholly closed, and another wholly open."""
    allowed = torch.rand(*leading, L, S) < 0.5
    allowed[..., 1, :], allowed[..., 3, :] = False, True
    return allowed


def dense_log_sum_exp(query, key, allowed):
    scores = (query @ key.repeat_interleave(H // H_KV, dim=1).mT * SCALE).masked_fill(~allowed, -math.inf)
    return torch.logsumexp(scores, dim=-1)


def dense_gradients(query, key, value, allowed, grad):
    leaves = [x.detach().requires_grad_() for x in (query, key, value)]
    return torch.autograd.grad(dense_attention(*leaves, allowed, SCALE), leaves, grad)


@HAS_FLASH
@pytest.mark.parametrize("leading", [(1, 1), (B, 1), (1, H), (B, H)])
def test_output_and_log_sum_exp_are_the_dense_ones_and_0_where_a_row_is_closed(leading):
    (query, key, value), allowed = tensors(), some_closed(*leading)
    output, log_sum_exp = forward(query, key, value, added(allowed))
    assert_close(output, dense_attention(query, key, value, allowed, SCALE))
    assert not output[:, :, 1].any()
    assert not log_sum_exp[:, :, 1].any()
    expected = dense_log_sum_exp(query, key, allowed)
    assert_close(log_sum_exp, expected.masked_fill(expected == -math.inf, 0))


@HAS_FLASH
def test_without_a_mask_all_is_open():
    query, key, value = tensors()
    allowed = torch.ones(L, S, dtype=torch.bool)
    output, log_sum_exp = forward(query, key, value, None)
    assert_close(output, dense_attention(query, key, value, allowed, SCALE))
    assert_close(log_sum_exp, dense_log_sum_exp(query, key, allowed))
    grad = draw(B, H, L, D)
    found = backward(grad, query, key, value, output, log_sum_exp, None)
    for one, wanted in zip(found, dense_gradients(query, key, value, allowed, grad), strict=True):
        assert_close(one, wanted)


@HAS_FLASH
@pytest.mark.parametrize("cuts", [(), (3,), (2, 5), (1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize("leading", [(1, 1), (B, H)])
def test_parts_of_the_keys_joined_are_the_whole_and_their_shares_sum_to_its_gradient(cuts, leading):
    (query, key, value), allowed, grad = tensors(), some_closed(*leading), draw(B, H, L, D)
    whole = forward(query, key, value, added(allowed))
    parts, joined = list(zip((0, *cuts), (*cuts, S), strict=True)), []
    for start, stop in parts:
        some = added(allowed[..., start:stop]).contiguous()
        output, log_sum_exp = forward(query, key[:, :, start:stop], value[:, :, start:stop], some)
        nothing = (some == -math.inf).all(-1)  # the log-sum-exp of nothing is −∞, which torch calls 0
        joined.append((output, log_sum_exp.masked_fill(nothing, -math.inf)))
    output, log_sum_exp = online.merge(joined)
    log_sum_exp = log_sum_exp.masked_fill(log_sum_exp == -math.inf, 0)
    assert_close(output, whole[0])
    assert_close(log_sum_exp, whole[1])
    shares = [torch.zeros_like(x) for x in (query, key, value)]
    for start, stop in parts:
        some, keys, values = (
            added(allowed[..., start:stop]).contiguous(),
            key[:, :, start:stop],
            value[:, :, start:stop],
        )
        of_query, of_key, of_value = backward(grad, query, keys, values, output, log_sum_exp, some)
        shares[0] += of_query
        shares[1][:, :, start:stop], shares[2][:, :, start:stop] = of_key, of_value
    for found, wanted in zip(shares, dense_gradients(query, key, value, allowed, grad), strict=True):
        assert_close(found, wanted)
    assert not shares[0][:, :, 1].any()


# ---------------------------------------------------------------------------------------------------------------------
# Without the operations


@pytest.fixture(params=["_FORWARD", "_BACKWARD"])
def no_flash(request, monkeypatch):
    """A torch that lacks one of them."""
    monkeypatch.setattr(flash_cpu, request.param, "_no_such_operation")


@pytest.mark.usefixtures("no_flash")
def test_without_them_the_choice_is_torchs_function():
    assert not flash_cpu.available()
    x = torch.zeros(B, H, 523, D)
    assert choose(open_scores(x, x, masks.sliding_window(3)), readable=True) is choice.NO_FLASH
    assert choose(open_scores(x, x, masks.sliding_window(3)), readable=True, dropout_p=0.5) is choice.NO_FLASH
    assert choose(open_scores(x, x, masks.causal()), readable=True) in (choice.NO_FLASH, choice.IS_CAUSAL)
    assert explain(x, x, masks.sliding_window(3)) == f"fused: {choice.NO_FLASH.reason}."


@pytest.mark.usefixtures("no_flash")
@given(data=st.data(), L=st.integers(1, 11), S=st.integers(1, 13))
def test_without_them_results_are_those_of_the_dense_mask(data, L, S):
    mask, array = data.draw(expressions(B, H, L, S))
    leaves = [draw(B, h, n, d, requires_grad=True) for h, n, d in ((H, L, 3), (H_KV, S, 3), (H_KV, S, 5))]
    allowed = torch.from_numpy(array.copy())
    output, expected = in_blocks(*leaves, mask, scale=SCALE), dense_attention(*leaves, allowed, SCALE)
    assert_close(output, expected)
    grad = draw(B, H, L, 5)
    for found, wanted in zip(
        torch.autograd.grad(output, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
    ):
        assert_close(found, wanted)


LONG = 293


@pytest.mark.usefixtures("no_flash")
@pytest.mark.parametrize("rows", [1, 67, LONG])
@pytest.mark.parametrize(
    "mask",
    [
        masks.causal(),
        masks.causal() & masks.sliding_window(31),
        masks.causal() & ~masks.padding([0, 47]),
        masks.padding([LONG, 0]),
        masks.documents(torch.arange(LONG) // 71) & masks.causal(),
        None,
    ],
)
def test_without_them_long_rows_are_those_of_the_dense_mask(mask, rows):
    query, key, value = draw(B, H, rows, 3), draw(B, H_KV, LONG, 3), draw(B, H_KV, LONG, 5)
    allowed = torch.ones(rows, LONG, dtype=torch.bool) if mask is None else mask.dense(rows, LONG)
    assert_close(attention(query, key, value, mask), dense_attention(query, key, value, allowed, 3**-0.5))
    kept = attention(query, key, torch.eye(LONG).double().expand(B, H_KV, LONG, LONG), mask, dropout_p=0.3)
    open_pairs = allowed.expand(kept.shape)
    assert not kept[~open_pairs].any()
    weights = dense_attention(query, key, torch.eye(LONG).double().expand(B, H_KV, LONG, LONG), allowed, 3**-0.5)
    assert_close(kept[kept != 0], weights[kept != 0] / 0.7)
    assert 0.6 < (kept != 0).sum() / (weights != 0).sum() < 0.8
