"""A test is worth what it kills: attnlib passes every check, and each wrong attention fails the one named for it."""

import copy
import math

import pytest
import torch

import attnlib
from attnlib import masks
from tests.oracles import GROUPED_H, H_KV, B, H, L, S, attend, draw, draw_qkv
from tests.tolerances import assert_close
from tests.wrong_attentions import WRONG, Right

SIZES = {"num_heads": GROUPED_H, "d_model": 17, "d_k": 5, "d_v": 3, "num_kv_heads": H_KV}


class Attnlib:
    """attnlib, with the interface of :class:`tests.wrong_attentions.Right`."""

    def attention(self, query, key, value, mask=None, bias=None, scale=None, dropout_p=0.0):
        return attnlib.attention(query, key, value, mask, bias=bias, scale=scale, dropout_p=dropout_p)

    def weights(self, query, key, mask=None, bias=None, scale=None):
        return attnlib.attention_weights(query, key, mask, bias=bias, scale=scale)

    def causal(self, L, S):
        return masks.causal().dense(L, S)

    def sliding_window(self, size, L, S):
        return masks.sliding_window(size).dense(L, S)

    def padding(self, lengths, L, S):
        return masks.padding(lengths).dense(L, S)

    def module(self, num_heads, d_model, d_k, d_v, num_kv_heads=None, dropout=0.0):
        return attnlib.MultiHeadAttention(num_heads, d_model, d_k, d_v, dropout, num_kv_heads=num_kv_heads)

    def decode(self, module, x, sizes):
        cache = attnlib.KVCache()
        return torch.cat([module(chunk, mask=masks.causal(), cache=cache) for chunk in x.split(list(sizes), 1)], dim=1)


class AttnlibWithWeights(Attnlib):
    """attnlib, computed the way that stores the weights."""

    def attention(self, query, key, value, mask=None, bias=None, scale=None, dropout_p=0.0):
        options = {"bias": bias, "scale": scale, "dropout_p": dropout_p}
        return attend(query, key, value, mask, **options, need_weights=True)[0]


CHECKS = {}


def exactly(rows):
    """Return a matrix as one example with one head, in float64."""
    return torch.tensor([[rows]], dtype=torch.float64)


def check(function):
    CHECKS[function.__name__] = function
    return function


# ---------------------------------------------------------------------------------------------------------------------
# One attention


@check
def output_by_hand(attend):
    """d_k = 4, so scores of 2·ln 2 and 0 weigh 2/3 and 1/3; scores of 0 and 2·ln 3 weigh 1/4 and 3/4."""
    query = exactly([[1, 0, 0, 0], [0, 1, 0, 0]])
    key = exactly([[2 * math.log(2), 0, 0, 0], [0, 2 * math.log(3), 0, 0]])
    value = exactly([[3, 0, 12, 0], [0, 3, 24, 4]])
    expected = exactly([[2, 1, 16, 4 / 3], [0.75, 2.25, 21, 3]])
    assert_close(attend.attention(query, key, value), expected)


@check
def scale_of_each_head(attend):
    query, key, _ = draw_qkv(B)
    single = [attend.weights(query[:, h : h + 1], key[:, h : h + 1]) for h in range(H)]
    assert_close(attend.weights(query, key), torch.cat(single, dim=1))


@check
def scale_is_an_argument(attend):
    query, key, _ = draw_qkv(B)
    assert_close(attend.weights(query, key, scale=0.0), torch.full((B, H, L, S), 1 / S, dtype=torch.float64))


@check
def rows_sum_to_one(attend):
    query, key, _ = draw_qkv(B)
    mask = attend.causal(L, S)
    assert_close(attend.weights(query, key, mask).sum(-1), torch.ones(B, H, L).double())


@check
def large_scores_are_finite(attend):
    query, key, value = draw_qkv(B)
    assert attend.attention(query * 1e4, key, value).isfinite().all()


@check
def bias_is_added_to_the_scores(attend):
    """With scores of 0, a bias of ln n weighs n."""
    query, key = exactly([[0.0] * 4]), exactly([[0.0] * 4] * 3)
    bias = exactly([[1, 2, 5]]).log()
    assert_close(attend.weights(query, key, bias=bias), exactly([[1 / 8, 2 / 8, 5 / 8]]))


@check
def values_are_averaged_not_summed(attend):
    query, key, value = draw_qkv(B)
    assert_close(attend.attention(query, key, torch.ones_like(value)), torch.ones(B, H, L, value.shape[-1]).double())


@check
def hidden_numbers_change_nothing(attend):
    query, key, value = draw_qkv(B)
    mask = attend.padding([S - 1, S - 1], L, S)
    clean = attend.attention(query, key, value, mask)
    value[..., -1, :] = math.nan
    assert_close(attend.attention(query, key, value, mask), clean)


# ---------------------------------------------------------------------------------------------------------------------
# Masks


@check
def masked_keys_weigh_nothing(attend):
    query, key, _ = draw_qkv(B)
    mask = torch.rand(L, S) < 0.6
    mask[:, 0] = True
    query, key = query.abs() - 3, key.abs()  # very negative scores: a mild fill would win over them
    assert torch.equal(attend.weights(query * 3, key, mask) > 0, mask.expand(B, H, L, S))


def _dead(attend):
    mask = torch.ones(L, S, dtype=torch.bool)
    mask[2] = False
    return mask


@check
def dead_rows_are_zero(attend):
    query, key, value = draw_qkv(B)
    output = attend.attention(query, key, value, _dead(attend))
    assert torch.equal(output[:, :, 2], torch.zeros(B, H, value.shape[-1]).double())
    assert output[:, :, 3].all()


@check
def dead_rows_give_no_gradient(attend):
    query, key, value = draw_qkv(B, requires_grad=True)
    attend.attention(query, key, value, _dead(attend)).sum().backward()
    assert all(x.grad.isfinite().all() for x in (query, key, value))
    assert not query.grad[:, :, 2].any()


def _open(attend, mask, rows, keys):
    """Return who attends to whom, (B, rows, keys), as the weights of equal scores show it."""
    weights = attend.weights(torch.zeros(B, 1, rows, 2), torch.zeros(B, 1, keys, 2), mask)
    return (weights > 0)[:, 0].int().tolist()


@check
def causal_sees_itself_and_nothing_later(attend):
    seen = [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert _open(attend, attend.causal(3, 3), 3, 3) == [seen, seen]


@check
def causal_aligns_the_last_query_with_the_last_key(attend):
    seen = [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert _open(attend, attend.causal(2, 4), 2, 4) == [seen, seen]


@check
def a_window_is_narrower_than_its_size(attend):
    seen = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert _open(attend, attend.sliding_window(2, 4, 4), 4, 4) == [seen, seen]


@check
def padding_closes_keys(attend):
    assert _open(attend, attend.padding([3, 1], 3, 3), 3, 3) == [[[1, 1, 1]] * 3, [[1, 0, 0]] * 3]


@check
def padding_of_each_example_is_its_own(attend):
    """As many examples as queries: a (B, S) mask would pass for (L, S)."""
    assert _open(attend, attend.padding([3, 1], 2, 3), 2, 3) == [[[1, 1, 1]] * 2, [[1, 0, 0]] * 2]


# ---------------------------------------------------------------------------------------------------------------------
# Heads


def _make(attend, **options):
    return attend.module(**{**SIZES, **options}).double().eval()


@check
def module_by_loops(attend):
    layer = _make(attend, num_kv_heads=None)
    query, memory = draw(B, L, 17), draw(B, S, 17)
    weights = [p.weight.detach().mT.numpy() for p in (layer.wq, layer.wk, layer.wv, layer.fc)]
    output = layer(query, memory).detach()
    for b in range(B):
        arrays = query[b].numpy(), memory[b].numpy(), memory[b].numpy()
        expected = attnlib.reference.multi_head_attention(*arrays, *weights, GROUPED_H)
        assert_close(output[b], torch.from_numpy(expected))


@check
def grouped_heads_read_their_own_group(attend):
    query, key, value = draw_qkv(B, heads=(GROUPED_H, H_KV))
    output = attend.attention(query, key, value)
    for h in range(GROUPED_H):
        group = slice(h // 2, h // 2 + 1)
        assert_close(output[:, h : h + 1], attend.attention(query[:, h : h + 1], key[:, group], value[:, group]))


@check
def heads_do_not_mix(attend):
    query, key, value = draw_qkv(B)
    before = attend.attention(query, key, value)
    changed = query.clone()
    changed[:, 1] = draw(B, L, query.shape[-1])
    after = attend.attention(changed, key, value)
    assert_close(after[:, ::2], before[:, ::2])
    assert not torch.allclose(after[:, 1], before[:, 1])


@check
def examples_do_not_mix(attend):
    query, key, value = draw_qkv(B)
    assert_close(attend.attention(query, key, value)[:1], attend.attention(query[:1], key[:1], value[:1]))


# ---------------------------------------------------------------------------------------------------------------------
# Dropout, weights, cache


@check
def dropout_drops_weights(attend):
    """With the identity as values, the output is the weights."""
    keys, p = 101, 0.3
    query, key = draw(1, 1, L, 3), draw(1, 1, keys, 3)
    dropped = attend.attention(query, key, torch.eye(keys).double()[None, None], dropout_p=p)
    weights, kept = attend.weights(query, key), dropped != 0
    assert 0.6 < kept.double().mean() < 0.8
    assert_close(dropped[kept], weights[kept] / (1 - p))


@check
def dropout_leaves_the_output_whole(attend):
    query, key, value = draw_qkv(B)
    assert attend.attention(query, key, value, dropout_p=0.3).all()


@check
def dropout_is_off_in_evaluation(attend):
    layer, x = _make(attend, dropout=0.5), draw(B, L, 17)
    assert torch.equal(layer(x), layer(x))


@check
def dropout_is_on_in_training(attend):
    layer, x = _make(attend, dropout=0.5).train(), draw(B, L, 17)
    assert not torch.allclose(layer(x), layer(x))


@check
def weights_are_per_head_and_before_dropout(attend):
    layer, x = _make(attend, dropout=0.5).train(), draw(B, L, 17)
    layer(x, need_weights=True)
    assert layer.attn.shape == (B, GROUPED_H, L, L)
    assert_close(layer.attn.sum(-1), torch.ones(B, GROUPED_H, L).double())


@check
def decoding_equals_the_whole(attend):
    layer, x = _make(attend), draw(B, 8, 17)
    whole = layer(x, mask=attend.causal(8, 8))
    assert_close(attend.decode(copy.deepcopy(layer), x, (3, 1, 2, 2)), whole)


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("attend", [Attnlib(), AttnlibWithWeights(), Right()], ids=lambda a: type(a).__name__)
def test_the_right_ones_pass(name, attend):
    CHECKS[name](attend)


@pytest.mark.parametrize("name", WRONG)
def test_the_wrong_ones_die(name):
    implementation, killed_by = WRONG[name]
    with pytest.raises(AssertionError):
        CHECKS[killed_by](implementation)


def test_every_check_kills_something():
    assert set(CHECKS) == {killer for _, killer in WRONG.values()}
