"""One block of keys at a time, and parts joined, against one softmax over all keys."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlib import masks
from attnlib.kernels import explicit, online
from tests.oracles import dense_attention, draw, open_scores
from tests.random_masks import expressions
from tests.tolerances import assert_close

B, H, L, S, D_K, D_V = 2, 3, 5, 11, 3, 2


def by_blocks_of_keys(query, key, value, mask, scale, bias=None, **options):
    return online.with_log_sum_exp(query, key, value, open_scores(query, key, mask, bias), scale=scale, **options)


def dense_log_sum_exp(query, key, allowed, scale):
    scores = (query @ key.mT * scale).masked_fill(~allowed, -math.inf)
    return torch.logsumexp(scores, dim=-1)


@given(st.data(), st.integers(1, 13), st.sampled_from([(3, 3), (4, 2)]))
def test_any_block_size_gives_the_dense_output_and_gradients(data, block, heads):
    mask, allowed = data.draw(expressions(B, heads[0], L, S))
    allowed = torch.tensor(allowed)
    tensors = [
        draw(B, h, n, d, requires_grad=True) for h, n, d in ((heads[0], L, D_K), (heads[1], S, D_K), (heads[1], S, D_V))
    ]
    output, log_sum_exp = by_blocks_of_keys(*tensors, mask, 0.6, block=block)
    expected = dense_attention(*tensors, allowed, 0.6)
    assert_close(output, expected)
    repeated = tensors[1].repeat_interleave(heads[0] // heads[1], dim=1)
    assert_close(log_sum_exp, dense_log_sum_exp(tensors[0], repeated, allowed, 0.6))
    grad = draw(B, heads[0], L, D_V)
    for found, wanted in zip(
        torch.autograd.grad(output, tensors, grad), torch.autograd.grad(expected, tensors, grad), strict=True
    ):
        assert_close(found, wanted)


@pytest.mark.parametrize("kernel", [explicit, online])
def test_second_derivatives(kernel):
    allowed = torch.rand(3, 5) < 0.6
    allowed[1] = False
    tensors = [draw(2, *shape, requires_grad=True) for shape in ((4, 3, 2), (2, 5, 2), (2, 5, 3))]
    assert torch.autograd.gradgradcheck(
        lambda *qkv: kernel.attend(*qkv, open_scores(*qkv[:2], allowed), scale=0.6), tensors
    )


def test_a_bias_and_a_mask_as_a_tensor():
    query, key, value = draw(B, H, L, D_K), draw(B, H, S, D_K), draw(B, H, S, D_V)
    bias, allowed = draw(1, H, L, S), torch.arange(L * S).reshape(L, S) % 3 > 0
    output, _ = by_blocks_of_keys(query, key, value, allowed, 0.6, bias=bias, block=4)
    scores = (query @ key.mT * 0.6 + bias).masked_fill(~allowed, -math.inf)
    assert_close(output, torch.softmax(scores, -1) @ value)


def test_a_query_that_sees_nothing_gets_zeros():
    output, log_sum_exp = by_blocks_of_keys(draw(2, D_K), draw(3, D_K), draw(3, D_V), torch.eye(2, 3) > 0, 0.6, block=2)
    closed, _ = by_blocks_of_keys(draw(2, D_K), draw(3, D_K), draw(3, D_V), torch.zeros(2, 3) > 0, 0.6, block=2)
    assert output.isfinite().all()
    assert log_sum_exp.isfinite().all()
    assert not closed.any()


def test_the_largest_score_may_come_last_or_first():
    """What was summed before shrinks; without that, the sum overflows or the first keys weigh too much."""
    for key in (torch.tensor([[0.0], [1.0], [2000.0]]), torch.tensor([[2000.0], [1.0], [0.0]])):
        key = key.double()
        query, value = torch.ones(1, 1).double(), torch.tensor([[1.0], [2.0], [3.0]]).double()
        output, log_sum_exp = by_blocks_of_keys(query, key, value, None, 1.0, block=1)
        assert output.item() == value[key.argmax()].item()
        assert log_sum_exp.item() == 2000


def test_the_scores_of_one_query_may_be_far_below_those_of_another_and_below_zero():
    """Each has a largest score of its own, which begins below all; with another one its powers would all be 0."""
    query, key = torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([[1000.0], [1001.0], [1002.0]]).double()
    value, allowed = draw(3, D_V), torch.ones(2, 3, dtype=torch.bool)
    output, log_sum_exp = by_blocks_of_keys(query, key, value, None, 1.0, block=2)
    assert_close(output, dense_attention(query, key, value, allowed, 1.0))
    assert_close(log_sum_exp, dense_log_sum_exp(query, key, allowed, 1.0))


def test_dropout_drops_weights_after_they_are_summed():
    keys, p = 101, 0.3
    query, key = draw(1, 1, L, D_K), draw(1, 1, keys, D_K)
    dropped, log_sum_exp = by_blocks_of_keys(
        query, key, torch.eye(keys).double()[None, None], None, 0.6, dropout_p=p, block=10
    )
    weights = torch.softmax(query @ key.mT * 0.6, -1)
    kept = dropped != 0
    assert 0.6 < kept.double().mean() < 0.8
    assert_close(dropped[kept], weights[kept] / (1 - p))
    assert_close(log_sum_exp, torch.logsumexp(query @ key.mT * 0.6, -1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    query, key, value = (draw(1, 2, 200, 8, dtype=dtype) for _ in range(3))
    output, log_sum_exp = by_blocks_of_keys(query, key, value, masks.causal(), 0.3, block=16)
    exact = dense_attention(query.double(), key.double(), value.double(), masks.causal().dense(200, 200), 0.3)
    assert output.dtype == dtype
    assert log_sum_exp.dtype == torch.float32
    assert_close(output, exact.to(dtype))


# ---------------------------------------------------------------------------------------------------------------------
# Merging


@given(st.lists(st.integers(0, 3), min_size=S, max_size=S), st.integers(0, 2**16), st.booleans())
def test_parts_of_the_keys_joined_are_all_keys(part_of, seed, closed):
    """Every way to deal the keys out to four parts; a part may be empty, or wholly masked."""
    torch.manual_seed(seed)
    part_of = torch.tensor(part_of)
    allowed = torch.rand(L, S) < 0.5
    allowed[0] = False
    if closed:
        allowed[:, part_of == 1] = False
    tensors = [draw(B, H, n, d, requires_grad=True) for n, d in ((L, D_K), (S, D_K), (S, D_V))]
    query, key, value = tensors
    parts = [
        by_blocks_of_keys(query, key[:, :, part_of == p], value[:, :, part_of == p], allowed[:, part_of == p], 0.6)
        for p in range(4)
    ]
    output, log_sum_exp = online.merge(parts)
    expected = dense_attention(query, key, value, allowed, 0.6)
    assert_close(output, expected)
    assert_close(log_sum_exp, dense_log_sum_exp(query, key, allowed, 0.6))
    grad = draw(B, H, L, D_V)
    for found, wanted in zip(
        torch.autograd.grad(output, tensors, grad), torch.autograd.grad(expected, tensors, grad), strict=True
    ):
        assert_close(found, wanted)


def test_merging_is_the_same_in_any_order_and_grouping():
    parts = [(draw(L, D_V), draw(L) * 9) for _ in range(3)]
    a, b, c = parts
    whole = online.merge(parts)
    for other in (
        online.merge([c, a, b]),
        online.merge([online.merge([a, b]), c]),
        online.merge([a, online.merge([b, c])]),
    ):
        for found, expected in zip(other, whole, strict=True):
            assert_close(found, expected)


def test_a_part_that_sees_nothing_changes_nothing_whatever_it_holds():
    part = draw(L, D_V), draw(L)
    blind = torch.full((L, D_V), 7.0).double(), torch.full((L,), -math.inf).double()
    for parts in ([part, blind], [blind, part]):
        output, log_sum_exp = online.merge(parts)
        assert_close(output, part[0])
        assert_close(log_sum_exp, part[1])
    output, log_sum_exp = online.merge([blind, blind])
    assert not output.any()
    assert torch.equal(log_sum_exp, blind[1])


def test_large_log_sum_exps_do_not_overflow():
    """Nor do those of another query, far below them, vanish."""
    far = torch.tensor([1e4, -1e4])
    output, log_sum_exp = online.merge([(torch.full((2, 1), 2.0), far), (torch.full((2, 1), 4.0), far)])
    assert output.flatten().tolist() == [3, 3]
    assert log_sum_exp.tolist() == pytest.approx([1e4 + math.log(2), -1e4 + math.log(2)])
