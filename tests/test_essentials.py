"""What makes it attention, each in a few numbers: the shortest tests there are, and in each way to compute."""

import math

import pytest
import torch

from attnlib import KVCache, MultiHeadAttention, attention_weights, masks, reference
from tests.oracles import GROUPED_H, H_KV, B, H, L, S, draw, draw_qkv
from tests.tolerances import assert_close


def exactly(rows):
    """Return a matrix as one example with one head, in float64."""
    return torch.tensor([[rows]], dtype=torch.float64)


def made(**options):
    """A small layer in float64, in evaluation mode."""
    sizes = {"num_heads": GROUPED_H, "d_model": 17, "d_k": 5, "d_v": 3, "num_kv_heads": H_KV, "dropout": 0.0}
    return MultiHeadAttention(**{**sizes, **options}).double().eval()


# ---------------------------------------------------------------------------------------------------------------------
# One attention


def test_an_output_by_hand(compute):
    """d_k = 4, so scores of 2·ln 2 and 0 weigh 2/3 and 1/3; scores of 0 and 2·ln 3 weigh 1/4 and 3/4."""
    query = exactly([[1, 0, 0, 0], [0, 1, 0, 0]])
    key = exactly([[2 * math.log(2), 0, 0, 0], [0, 2 * math.log(3), 0, 0]])
    value = exactly([[3, 0, 12, 0], [0, 3, 24, 4]])
    assert_close(compute(query, key, value), exactly([[2, 1, 16, 4 / 3], [0.75, 2.25, 21, 3]]))


def test_the_scale_is_that_of_one_head():
    query, key, _ = draw_qkv(B)
    single = [attention_weights(query[:, h : h + 1], key[:, h : h + 1]) for h in range(H)]
    assert_close(attention_weights(query, key), torch.cat(single, dim=1))


def test_the_scale_may_be_given():
    query, key, _ = draw_qkv(B)
    assert_close(attention_weights(query, key, scale=0.0), torch.full((B, H, L, S), 1 / S, dtype=torch.float64))


def test_the_weights_of_a_query_sum_to_one():
    query, key, _ = draw_qkv(B)
    assert_close(attention_weights(query, key, masks.causal()).sum(-1), torch.ones(B, H, L).double())


def test_large_scores_neither_overflow_nor_tie(compute):
    """All weight falls on the key with the largest one."""
    query, key, value = draw_qkv(B)
    best = (query @ key.mT).argmax(-1, keepdim=True).expand(-1, -1, -1, value.shape[-1])
    assert_close(compute(query * 1e6, key, value), value.gather(-2, best))


def test_a_bias_is_added_to_the_scores():
    """With scores of 0, a bias of ln n weighs n."""
    query, key = exactly([[0.0] * 4]), exactly([[0.0] * 4] * 3)
    bias = exactly([[1, 2, 5]]).log()
    assert_close(attention_weights(query, key, bias=bias), exactly([[1 / 8, 2 / 8, 5 / 8]]))


def test_values_are_averaged(compute):
    query, key, value = draw_qkv(B)
    assert_close(compute(query, key, torch.ones_like(value)), torch.ones(B, H, L, value.shape[-1]).double())


def test_what_is_closed_to_all_changes_nothing(compute):
    query, key, value = draw_qkv(B)
    mask = masks.padding([S - 1, S - 1])
    clean = compute(query, key, value, mask)
    value[..., -1, :] = math.nan
    assert_close(compute(query, key, value, mask), clean)


def test_what_is_closed_may_score_more_than_all_that_is_open(compute):
    query, key, value = draw_qkv(B)
    key[..., -1, :] *= 1e5
    open_alone = compute(query, key[..., :-1, :], value[..., :-1, :])
    assert_close(compute(query, key, value, masks.padding([S - 1, S - 1])), open_alone)


def test_no_argument_is_changed(compute):
    arguments = [*draw_qkv(B), masks.causal().dense(L, S), draw(1, H, L, S)]
    before = [x.clone() for x in arguments]
    *tensors, bias = arguments
    compute(*tensors, bias=bias)
    assert all(map(torch.equal, arguments, before))


# ---------------------------------------------------------------------------------------------------------------------
# Masks


def test_what_is_closed_weighs_nothing():
    query, key, _ = draw_qkv(B)
    mask = torch.rand(L, S) < 0.6
    mask[:, 0] = True
    query, key = query.abs() - 3, key.abs()  # very negative scores: a mild fill would win over them
    assert torch.equal(attention_weights(query * 3, key, mask) > 0, mask.expand(B, H, L, S))


def second_query_closed():
    mask = torch.ones(L, S, dtype=torch.bool)
    mask[2] = False
    return mask


def test_a_query_without_keys_gets_zeros(compute):
    query, key, value = draw_qkv(B)
    output = compute(query, key, value, second_query_closed())
    assert torch.equal(output[:, :, 2], torch.zeros(B, H, value.shape[-1]).double())
    assert output[:, :, 3].all()


def test_a_query_without_keys_gives_no_gradient(compute):
    query, key, value = draw_qkv(B, requires_grad=True)
    compute(query, key, value, second_query_closed()).sum().backward()
    assert all(x.grad.isfinite().all() for x in (query, key, value))
    assert not query.grad[:, :, 2].any()


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (masks.causal(), [[1, 0, 0], [1, 1, 0], [1, 1, 1]]),
        (masks.causal(), [[1, 1, 1, 0], [1, 1, 1, 1]]),
        (masks.sliding_window(2), [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]),
    ],
    ids=["causal", "causal, the last query at the last key", "a window of less than 2 steps"],
)
def test_who_sees_whom(mask, seen):
    rows, keys = len(seen), len(seen[0])
    weights = attention_weights(torch.zeros(1, 1, rows, 2), torch.zeros(1, 1, keys, 2), mask)
    assert (weights > 0)[0, 0].int().tolist() == seen


@pytest.mark.parametrize("rows", [2, 3])  # as many examples as queries: a (B, S) mask would pass for (L, S)
@pytest.mark.parametrize("kind", ["padding", "keys"])
def test_the_keys_that_fill_up_each_example_are_closed(rows, kind):
    mask = masks.padding([3, 1]) if kind == "padding" else masks.keys(torch.tensor([[1, 1, 1], [1, 0, 0]]))
    weights = attention_weights(torch.zeros(2, 1, rows, 2), torch.zeros(2, 1, 3, 2), mask)
    assert (weights > 0)[:, 0].int().tolist() == [[[1, 1, 1]] * rows, [[1, 0, 0]] * rows]


# ---------------------------------------------------------------------------------------------------------------------
# Heads


@pytest.mark.parametrize("num_kv_heads", [GROUPED_H, H_KV])
def test_a_layer_by_loops(num_kv_heads):
    layer = made(num_kv_heads=num_kv_heads)
    query, memory = draw(B, L, 17), draw(B, S, 17)
    weights = [p.weight.detach().mT.numpy() for p in (layer.wq, layer.wk, layer.wv, layer.fc)]
    output = layer(query, memory).detach()
    for b in range(B):
        arrays = query[b].numpy(), memory[b].numpy(), memory[b].numpy()
        expected = reference.multi_head_attention(*arrays, *weights, GROUPED_H, num_kv_heads=num_kv_heads)
        assert_close(output[b], torch.from_numpy(expected))


def test_grouped_heads_read_their_own_group(compute):
    query, key, value = draw_qkv(B, heads=(GROUPED_H, H_KV))
    output = compute(query, key, value)
    for h in range(GROUPED_H):
        group = slice(h // 2, h // 2 + 1)
        assert_close(output[:, h : h + 1], compute(query[:, h : h + 1], key[:, group], value[:, group]))


def test_heads_do_not_mix(compute):
    query, key, value = draw_qkv(B)
    before = compute(query, key, value)
    changed = query.clone()
    changed[:, 1] = draw(B, L, query.shape[-1])
    after = compute(changed, key, value)
    assert_close(after[:, ::2], before[:, ::2])
    assert not torch.allclose(after[:, 1], before[:, 1])


def test_examples_do_not_mix(compute):
    query, key, value = draw_qkv(B)
    assert_close(compute(query, key, value)[:1], compute(query[:1], key[:1], value[:1]))


# ---------------------------------------------------------------------------------------------------------------------
# Dropout, weights, cache


def test_weights_are_dropped_and_the_others_scaled_up(compute):
    """With the identity as values, the output is the weights."""
    keys, p = 101, 0.3
    query, key = draw(1, 1, L, 3), draw(1, 1, keys, 3)
    dropped = compute(query, key, torch.eye(keys).double()[None, None], dropout_p=p)
    weights, kept = attention_weights(query, key), dropped != 0
    assert 0.6 < kept.double().mean() < 0.8
    assert_close(dropped[kept], weights[kept] / (1 - p))


def test_no_output_is_dropped(compute):
    query, key, value = draw_qkv(B)
    assert compute(query, key, value, dropout_p=0.3).all()


def test_nothing_is_dropped_in_evaluation():
    layer, x = made(dropout=0.5), draw(B, L, 17)
    assert torch.equal(layer(x), layer(x))


def test_something_is_dropped_in_training():
    layer, x = made(dropout=0.5).train(), draw(B, L, 17)
    assert not torch.allclose(layer(x), layer(x))


def test_weights_are_those_of_each_head_before_dropout():
    layer, x = made(dropout=0.5).train(), draw(B, L, 17)
    layer(x, need_weights=True)
    assert layer.attn.shape == (B, GROUPED_H, L, L)
    assert_close(layer.attn.sum(-1), torch.ones(B, GROUPED_H, L).double())


def test_the_weights_that_are_kept_are_those_of_the_last_call():
    layer = made()
    for x in (draw(B, L, 17), draw(B, L, 17)):
        layer(x, need_weights=True)
        kept = layer.attn
    again = made()
    again.load_state_dict(layer.state_dict())
    again(x, need_weights=True)
    assert_close(kept, again.attn)


def test_a_tensor_that_changes_later_changes_no_mask():
    tensor = torch.ones(L, S, dtype=torch.bool)
    mask = masks.from_tensor(tensor)
    tensor.zero_()
    assert mask.dense(L, S).all()


def test_step_by_step_is_as_all_at_once():
    layer, x, cache = made(), draw(B, 8, 17), KVCache()
    steps = [layer(chunk, mask=masks.causal(), cache=cache) for chunk in x.split([3, 1, 2, 2], dim=1)]
    assert_close(torch.cat(steps, dim=1), layer(x, mask=masks.causal()))
