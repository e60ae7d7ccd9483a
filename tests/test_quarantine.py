"""What is not finite and masked changes nothing, on every way of computing and on the way back."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from attnlib import KVCache, MultiHeadAttention, attention, attention_weights, masks, positions, record_attention
from attnlib.functional import attend
from attnlib.kernels import fused

B, H, H_KV, L, S, D_K, D_V = 2, 6, 3, 5, 7, 4, 3
DEAD = 2


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_query_that_may_attend_to_nothing_is_zero_and_spreads_nothing(bad, need_weights):
    query, key, value = draw(B, H, L, D_K), draw(B, H_KV, S, D_K), draw(B, H_KV, S, D_V)
    mask = torch.ones(L, S, dtype=torch.bool)
    mask[DEAD] = False
    spoilt = query.detach().clone()
    spoilt[:, :, DEAD] = bad
    output, weights = attend(spoilt.requires_grad_(), key, value, mask, need_weights=need_weights)
    expected, _ = attend(query, key, value, mask, need_weights=need_weights)
    assert (output[:, :, DEAD] == 0).all()
    torch.testing.assert_close(output, expected)
    if need_weights:
        assert (weights[:, :, DEAD] == 0).all()
    grads = torch.autograd.grad(output.sum(), [key, value])
    for found, wanted in zip(grads, torch.autograd.grad(expected.sum(), [key, value]), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_bad_query_is_lost_alone(need_weights):
    query, key, value = draw(B, H, L, D_K), draw(B, H_KV, S, D_K), draw(B, H_KV, S, D_V)
    spoilt = query.detach().clone()
    spoilt[0, 0, 1] = math.nan
    output, _ = attend(spoilt, key, value, masks.causal(), need_weights=need_weights)
    lost = output.isnan().all(-1)
    assert lost.nonzero().tolist() == [[0, 0, 1]]
    assert torch.autograd.grad(output[~lost].sum(), [key])[0].isfinite().all()
    expected, _ = attend(query, key, value, masks.causal(), need_weights=need_weights)
    torch.testing.assert_close(output[~lost], expected[~lost])


def test_a_bad_value_leaves_the_weights_alone():
    query, key, value = draw(B, H, L, D_K), draw(B, H_KV, S, D_K), draw(B, H_KV, S, D_V).detach()
    value[0, 0, 1] = math.nan
    output, weights = attend(query, key, value, masks.causal(), need_weights=True)
    torch.testing.assert_close(weights, attention_weights(query, key, masks.causal()))
    assert output[0, :2].isnan().any()
    assert output[0, 2:].isfinite().all()  # the other key heads' groups


@pytest.mark.parametrize("mask", [masks.causal(), masks.padding([5] * B), torch.ones(S, S, dtype=torch.bool).tril()])
def test_masks_work_where_numbers_cannot_be_read(mask):
    x = torch.randn(B, 2, S, D_K)
    if not isinstance(mask, masks.Padding):  # it differs between the examples that vmap takes one by one
        torch.testing.assert_close(torch.func.vmap(lambda a: attention(a, a, a, mask))(x), attention(x, x, x, mask))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(x)
        assert attention(fake, fake, fake, mask).shape == x.shape


def test_meta_tensors_give_shapes_with_weights_too():
    layer = MultiHeadAttention(2, 8).to("meta")
    assert layer(torch.randn(3, 5, 8, device="meta"), mask=masks.causal(), need_weights=True).shape == (3, 5, 8)
    assert layer.attn.shape == (3, 2, 5, 5)


@pytest.mark.parametrize("name", ["mask", "bias"])
def test_another_device_is_refused_before_the_cache_grows(name):
    layer, cache = MultiHeadAttention(2, 8).eval(), KVCache()
    wrong = torch.ones(1, 1, device="meta", dtype=torch.bool if name == "mask" else torch.float32)
    with pytest.raises(ValueError, match=f"{name}: expected a tensor on query.s device cpu, got one on meta"):
        layer(torch.randn(1, 1, 8), cache=cache, **{name: wrong})
    assert len(cache) == 0


def test_a_changed_dropout_is_checked_before_the_cache_grows():
    layer, cache = MultiHeadAttention(2, 8), KVCache()
    layer.dropout = 1.0
    with pytest.raises(ValueError, match=r"dropout: expected a probability in \[0, 1\), got 1.0"):
        layer(torch.randn(1, 1, 8), cache=cache)
    assert len(cache) == 0


def test_one_causal_query_needs_no_mask(monkeypatch):
    seen = []
    true = fused.attend
    monkeypatch.setattr(fused, "attend", lambda q, k, v, mask, *rest: seen.append(mask) or true(q, k, v, mask, *rest))
    q, k = torch.randn(1, D_K), torch.randn(S, D_K)
    torch.testing.assert_close(attention(q, k, k, masks.causal()), attention(q, k, k))
    attention(q, k, k, masks.causal() & masks.prefix(2))
    assert seen[0] is None
    assert seen[2] is not None


def test_scale_and_dropout_must_be_numbers():
    q = torch.randn(3, 4)
    with pytest.raises(TypeError, match="scale: expected a number, got str"):
        attention(q, q, q, scale="a")
    with pytest.raises(TypeError, match="dropout_p: expected a number, got str"):
        attention(q, q, q, dropout_p="a")


def test_rotary_must_fit_the_heads():
    with pytest.raises(TypeError, match="rotary: expected a Rotary, got int"):
        MultiHeadAttention(2, 8, rotary=4)
    with pytest.raises(ValueError, match="rotary: expected one of d_k = 4, got 16"):
        MultiHeadAttention(2, 8, rotary=positions.Rotary(16))
    layer = MultiHeadAttention(2, 8, rotary=positions.Rotary(4))
    with pytest.raises(ValueError, match=r"key: rotary positions are for self-attention; expected S = 3, got 5"):
        layer(torch.randn(1, 3, 8), torch.randn(1, 5, 8))


def test_rotary_rounds_half_precision_once():
    x = torch.randn(11, 8, dtype=torch.bfloat16)
    rotary = positions.Rotary(8)
    assert torch.equal(rotary(x), rotary(x.float()).bfloat16())


def test_empty_batches_and_rows_are_legal():
    assert masks.padding([]).dense(3, 3).shape == (0, 1, 1, 3)
    assert masks.documents([]).dense(0, 0).shape == (0, 0)


def test_a_mask_tensor_with_all_axes_of_unbatched_scores_may_have_ones():
    q, k = torch.randn(3, 5, 4), torch.randn(3, 7, 4)
    mask = torch.tensor([True, False, True, True, False, True, True]).reshape(1, 1, 7)
    torch.testing.assert_close(attention(q, k, k, mask), attention(q, k, k, mask.expand(3, 5, 7)))


def test_a_compiled_model_is_recorded():
    model = torch.nn.Sequential(MultiHeadAttention(2, 8))
    compiled, x = torch.compile(model, backend="eager"), torch.randn(1, 3, 8)
    compiled(x)
    with record_attention(compiled) as record:
        compiled(x)
    assert list(record) == ["0"]


def test_a_shared_layer_is_recorded_under_each_of_its_names():
    layer = MultiHeadAttention(2, 8)
    model = torch.nn.Sequential(layer, layer)
    with record_attention(model) as record:
        model(torch.randn(1, 3, 8))
    assert set(record) == {"0", "1"}
    assert len(record.calls("0")) == 2


def test_only_modules_are_recorded():
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got int"), record_attention(3):
        pass
