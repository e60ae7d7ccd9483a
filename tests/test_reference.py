"""The loops against numbers worked out by hand, closed forms, and torch."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from attnlib import reference
from attnlib.lab.example import three_tokens

L, S, D_K, D_V, D_MODEL = 3, 5, 2, 7, 11
NUMBERS = np.random.default_rng(0)


def draw(*shape):
    return NUMBERS.standard_normal(shape)


def fractions(rows):
    return np.array([[Fraction(x) for x in row] for row in rows])


def test_dot_of_fractions_stays_exact():
    assert reference.dot([Fraction(1, 3), Fraction(1, 7)], [3, 7]) == 2


def test_dot_refuses_vectors_of_different_lengths():
    with pytest.raises(ValueError, match="zip"):
        reference.dot([1, 2], [1])


def test_matmul_by_hand():
    product = reference.matmul([[1, 2, 3], [4, 5, 6]], [[1, 0], [0, 1], [2, 2]])
    assert product.tolist() == [[7, 8], [16, 17]]


def test_matmul_of_fractions_stays_exact():
    product = reference.matmul(fractions([["1/3", "1/2"]]), fractions([["3", "1/5"], ["4", "1/7"]]))
    assert product.tolist() == [[Fraction(3), Fraction(1, 15) + Fraction(1, 14)]]


def test_scores_by_hand():
    scores = reference.scores([[1, 2], [0, -1], [3, 1]], [[5, 1], [2, 2]], Fraction(1, 2))
    assert scores.tolist() == [[Fraction(7, 2), 3], [Fraction(-1, 2), -1], [8, 4]]


def test_scores_are_not_scaled_unless_asked():
    assert reference.scores([[2, 3]], [[5, 7]]).tolist() == [[31]]


def test_softmax_of_logarithms_is_their_ratio():
    np.testing.assert_allclose(reference.softmax([math.log(n) for n in (1, 2, 5)]), [1 / 8, 2 / 8, 5 / 8], rtol=1e-14)


def test_softmax_spreads_over_the_allowed_entries_only():
    weights = reference.softmax([math.log(n) for n in (1, 100, 3)], [True, False, True])
    np.testing.assert_allclose(weights, [1 / 4, 0, 3 / 4], rtol=1e-14)
    assert weights[1] == 0


def test_softmax_of_nothing_allowed_is_zero():
    assert reference.softmax([1.0, 2.0], [False, False]).tolist() == [0, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_softmax_of_huge_scores_neither_overflows_nor_vanishes(sign):
    np.testing.assert_allclose(reference.softmax([sign * 1e4, sign * 1e4 + math.log(3)]), [0.25, 0.75], rtol=1e-11)


def test_the_largest_score_is_sought_among_the_allowed():
    weights = reference.softmax([-2000.0, -2000.0, 0.0], [True, True, False])
    assert weights.tolist() == [0.5, 0.5, 0]


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9), st.floats(-50, 50))
def test_softmax_is_unchanged_by_a_shift_and_sums_to_one(row, shift):
    weights = reference.softmax(row)
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(reference.softmax([x + shift for x in row]), weights, rtol=1e-12, atol=1e-300)


def test_weights_of_the_three_tokens_by_hand():
    """Queries 1200, 2000, 0111 and keys 2001, 0210, 1011; the scale is 1/√4, so a score n weighs e^(n/2)."""
    example = three_tokens()
    head = example.heads[0]
    query, key = example.x @ head.wq, example.x @ head.wk
    by_hand = np.array([[2, 4, 1], [4, 0, 2], [1, 3, 2]])
    assert reference.scores(query, key).tolist() == by_hand.tolist()
    powers = math.sqrt(math.e) ** by_hand
    weights = reference.attention_weights(query, key)
    np.testing.assert_allclose(weights, powers / powers.sum(axis=1, keepdims=True), rtol=1e-14)


def test_attention_by_hand():
    """Scores 0 and √2·ln 3, scale 1/√2: weights 1/4 and 3/4."""
    output = reference.attention([[1.0, 0.0]], [[0.0, 9.0], [math.sqrt(2) * math.log(3), 9.0]], [[4, 0, 8], [0, 4, 8]])
    np.testing.assert_allclose(output, [[1, 3, 8]], rtol=1e-14)


def test_a_query_that_may_attend_to_nothing_gets_zeros():
    mask = np.array([[True] * S, [False] * S, [True] * S])
    output = reference.attention(draw(L, D_K), draw(S, D_K), draw(S, D_V), mask)
    assert not output[1].any()
    assert output[[0, 2]].all()


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_equals_torch(scale, masked, biased):
    query, key, value = draw(L, D_K), draw(S, D_K), draw(S, D_V)
    mask = NUMBERS.random((L, S)) < 0.6 if masked else None
    bias = draw(L, S) if biased else None
    shift = torch.zeros(L, S, dtype=torch.float64) if bias is None else torch.from_numpy(bias)
    if masked:
        shift = shift.masked_fill(~torch.from_numpy(mask), -math.inf)
    theirs = F.scaled_dot_product_attention(*map(torch.from_numpy, (query, key, value)), shift, scale=scale)
    ours = reference.attention(query, key, value, mask, bias=bias, scale=scale)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mask", [[[True] * S] * (L - 1), [[True] * (S - 1)] * L])
def test_a_mask_of_other_sizes_is_refused(mask):
    with pytest.raises(ValueError, match="zip"):
        reference.attention(draw(L, D_K), draw(S, D_K), draw(S, D_V), mask)


@pytest.mark.parametrize("num_kv_heads", [None, 6, 3, 1])
def test_multi_head_attention_equals_the_einsum(num_kv_heads):
    heads, kv = 6, num_kv_heads or 6
    query, key, value = draw(L, D_MODEL), draw(S, D_MODEL), draw(S, D_MODEL)
    wq, wk, wv = draw(heads, D_MODEL, D_K), draw(kv, D_MODEL, D_K), draw(kv, D_MODEL, D_V)
    wo = draw(heads, D_V, D_MODEL)
    mask = NUMBERS.random((L, S)) < 0.7
    mask[:, 0] = True
    group = np.arange(heads) // (heads // kv)
    scores = np.einsum("lm,hmk,sn,hnk->hls", query, wq, key, wk[group]) / math.sqrt(D_K)
    powers = np.exp(scores) * mask
    weights = powers / powers.sum(axis=-1, keepdims=True)
    expected = np.einsum("hls,sm,hmv,hvo->lo", weights, value, wv[group], wo)

    def flat(w):
        return w.transpose(1, 0, 2).reshape(D_MODEL, -1)

    ours = reference.multi_head_attention(
        query, key, value, flat(wq), flat(wk), flat(wv), wo.reshape(-1, D_MODEL), heads, mask, num_kv_heads=num_kv_heads
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-11)


def test_the_jacobian_of_softmax_by_hand():
    half, third, sixth = Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)
    jacobian = reference.softmax_jacobian([half, third, sixth])
    expected = [
        [Fraction(1, 4), Fraction(-1, 6), Fraction(-1, 12)],
        [Fraction(-1, 6), Fraction(2, 9), Fraction(-1, 18)],
        [Fraction(-1, 12), Fraction(-1, 18), Fraction(5, 36)],
    ]
    assert jacobian.tolist() == expected


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_equal_those_of_autograd(scale, masked):
    arrays = draw(L, D_K), draw(S, D_K), draw(S, D_V)
    grad_output = draw(L, D_V)
    mask = NUMBERS.random((L, S)) < 0.6 if masked else None
    tensors = [torch.from_numpy(x).requires_grad_() for x in arrays]
    attn_mask = None if mask is None else torch.from_numpy(mask)
    F.scaled_dot_product_attention(*tensors, attn_mask, scale=scale).backward(torch.from_numpy(grad_output))
    ours = reference.attention_gradients(*arrays, grad_output, mask, scale=scale)
    for gradient, tensor in zip(ours, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-13)


def test_gradients_take_lists():
    gradients = reference.attention_gradients([[0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0], [3.0]], [[1.0]], scale=1)
    assert [g.tolist() for g in gradients] == [[[-0.5, 0.5]], [[0, 0], [0, 0]], [[0.5], [0.5]]]
