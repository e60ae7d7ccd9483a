"""``attention`` and ``attention_weights`` against loops, torch and Hugging Face, each way of computing in turn."""

import doctest
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from attnlib import attention, attention_weights, functional, masks, scores
from attnlib.kernels import choice, explicit, fused
from attnlib.kernels.sizes import Sizes
from attnlib.lab.memory import peak_memory
from attnlib.scores import Scores
from tests.oracles import (
    D_K,
    D_V,
    GROUPED_H,
    H_KV,
    PATHS,
    B,
    H,
    L,
    NoArithmetic,
    S,
    attend,
    draw,
    draw_qkv,
    loop_weights,
    loops,
    with_weights,
)
from tests.random_masks import expressions
from tests.tolerances import TOLERANCES, assert_close

MASKS = {
    "none": None,
    "causal": masks.causal(),
    "window": masks.sliding_window(2),
    "padding": masks.padding([7, 3]),
    "documents": masks.documents([1, 1, 1, 2, 2, 3, 3]),
    "documents of each example": masks.documents([[1, 1, 1, 2, 2, 3, 3], [1, 2, 2, 2, 2, 2, 3]]),
    "prefix or causal": masks.prefix(2) | masks.causal(),
    "causal and padding": masks.causal() & masks.padding([7, 3]),
    "pairs": torch.arange(L * S).reshape(L, S) % 3 > 0,
    "pairs of each example": torch.arange(B * L * S).reshape(B, L, S) % 5 > 1,
    "pairs of each head": torch.arange(H * L * S).reshape(1, H, L, S) % 4 > 0,
    "keys of each example": torch.arange(B * S).reshape(B, 1, 1, S) % 4 > 0,
    "nothing": torch.zeros(L, S, dtype=torch.bool),
}


@pytest.fixture(params=MASKS)
def mask(request):
    return MASKS[request.param]


def allowed(mask, lengths=(L, S)):
    """Return a mask as a tensor that broadcasts to (B, H, L, S)."""
    if mask is None:
        return torch.ones(lengths, dtype=torch.bool)
    if isinstance(mask, masks.Mask):
        return mask.dense(*lengths)
    return mask[:, None] if mask.dim() == 3 else mask


# ---------------------------------------------------------------------------------------------------------------------
# Equal to other implementations


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("scale", [None, 0.7])
def test_output_equals_the_loops(compute, mask, shifted, scale):
    query, key, value = draw_qkv(B)
    bias = draw(L, S) if shifted else None
    expected = loops(query, key, value, allowed(mask), bias, scale)
    assert_close(compute(query, key, value, mask, bias=bias, scale=scale), expected)


@pytest.mark.parametrize("shifted", [False, True])
def test_weights_equal_the_loops(mask, shifted):
    query, key, value = draw_qkv(B)
    bias = draw(B, 1, 1, S) if shifted else None
    expected = loop_weights(query, key, allowed(mask), bias)
    assert_close(attention_weights(query, key, mask, bias=bias), expected)
    assert_close(attend(query, key, value, mask, bias=bias, need_weights=True)[1], expected)


def test_output_equals_torch(compute, mask):
    query, key, value = draw_qkv(B)
    expected = F.scaled_dot_product_attention(query, key, value, allowed(mask))
    assert_close(compute(query, key, value, mask), expected)


@pytest.mark.parametrize(("rows", "keys"), [(L, L), (L, S), (S, L)])
@pytest.mark.parametrize("shifted", [False, True])
def test_causal_aligns_the_last_query_with_the_last_key(compute, rows, keys, shifted):
    query, key, value = draw_qkv(B, lengths=(rows, keys))
    bias = draw(rows, keys) if shifted else None
    bottom_right = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
    expected = loops(query, key, value, bottom_right, bias)
    assert_close(compute(query, key, value, masks.causal(), bias=bias), expected)


@pytest.mark.parametrize("shape", [(L, S), (1, 1, 1, S), (B, 1, L, 1), (1, H, L, S), (B, H, L, S)])
def test_a_bias_is_added_to_the_scores(compute, shape):
    query, key, value = draw_qkv(B)
    bias = draw(*shape)
    expected = F.scaled_dot_product_attention(query, key, value, bias.expand(B, H, L, S))
    assert_close(compute(query, key, value, bias=bias), expected)


def test_grouped_heads_read_the_key_head_of_their_group(compute):
    query, key, value = draw_qkv(B, heads=(GROUPED_H, H_KV))
    each = [
        attention(query[:, h : h + 1], key[:, h // 2 : h // 2 + 1], value[:, h // 2 : h // 2 + 1]) for h in range(6)
    ]
    assert_close(compute(query, key, value), torch.cat(each, dim=1))


@pytest.mark.parametrize("kv_heads", [1, 2, 3])
def test_grouped_heads_equal_hugging_faces(compute, kv_heads):
    pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import eager_attention_forward

    query, key, value = draw_qkv(B, heads=(GROUPED_H, kv_heads), lengths=(S, S), dtype=torch.float32)
    causal = torch.full((S, S), -math.inf).triu(1)[None, None]
    module = SimpleNamespace(num_key_value_groups=GROUPED_H // kv_heads, training=False)
    output, weights = eager_attention_forward(module, query, key, value, causal, scaling=D_K**-0.5)
    assert_close(compute(query, key, value, masks.causal()), output.transpose(1, 2))
    assert_close(attention_weights(query, key, masks.causal()), weights)


def test_plain_matrices_are_one_head(compute):
    query, key, value = draw(L, D_K), draw(S, D_K), draw(S, D_V)
    expected = loops(query[None, None], key[None, None], value[None, None], allowed(masks.causal()))[0, 0]
    assert_close(compute(query, key, value, masks.causal()), expected)


@pytest.mark.parametrize("leading", [(), (B,), (2, 5)])
def test_leading_axes_are_a_batch(compute, leading):
    query, key, value = draw_qkv(*leading)
    flat = [x.reshape(-1, *x.shape[-3:]) for x in (query, key, value)]
    output = compute(query, key, value, masks.causal())
    assert output.shape == (*leading, H, L, D_V)
    assert_close(output.reshape(-1, H, L, D_V), compute(*flat, masks.causal()))


@pytest.mark.parametrize("leading", [(), (B,), (2, 5)])
def test_grouped_heads_take_any_leading_axes(compute, leading):
    query, key, value = draw_qkv(*leading, heads=(GROUPED_H, H_KV))
    repeated = [x.repeat_interleave(2, dim=-3) for x in (key, value)]
    assert_close(compute(query, key, value, masks.causal()), compute(query, *repeated, masks.causal()))


@pytest.mark.parametrize("given_mask", [torch.rand(11, 5, L, S) < 0.7, torch.rand(11, 1, 1, S) < 0.7])
def test_a_mask_without_the_head_axis_serves_all_heads(compute, given_mask):
    query, key, value = draw_qkv(11, 5)
    given_mask = given_mask.expand(11, 5, -1, -1) if given_mask.shape[1] == 1 else given_mask
    given_mask = given_mask.expand(11, 5, L, S)
    assert_close(
        compute(query, key, value, given_mask),
        F.scaled_dot_product_attention(query, key, value, given_mask[:, :, None]),
    )


def test_one_examples_padding_fits_a_matrix_without_batch(compute):
    query, key, value = draw(L, D_K), draw(S, D_K), draw(S, D_V)
    expected = attention(query, key[:3], value[:3])
    assert_close(compute(query, key, value, masks.padding([3])), expected)


# ---------------------------------------------------------------------------------------------------------------------
# Properties

seeds = st.integers(0, 2**16)
sizes = st.integers(1, 9)


@given(seeds, sizes)
def test_attention_is_equivariant_to_permuted_queries_and_blind_to_permuted_keys(seed, length):
    torch.manual_seed(seed)
    query, key, value = draw_qkv(B, lengths=(length, length + 1))
    rows, columns = torch.randperm(length), torch.randperm(length + 1)
    output = attention(query, key, value)
    assert_close(attention(query[..., rows, :], key[..., columns, :], value[..., columns, :]), output[..., rows, :])


@given(seeds, st.floats(-30, 30))
def test_weights_are_blind_to_a_shift_of_all_scores(seed, shift):
    torch.manual_seed(seed)
    query, key, _ = draw_qkv(B)
    bias = draw(L, S)
    assert_close(attention_weights(query, key, bias=bias + shift), attention_weights(query, key, bias=bias))


@given(seeds, st.floats(-3, 3), st.floats(-3, 3), st.sampled_from(sorted(PATHS)))
def test_attention_is_linear_in_the_values(seed, a, b, path):
    torch.manual_seed(seed)
    query, key, value = draw_qkv(B)
    other = draw(B, H, S, D_V)
    compute = PATHS[path]
    combined = compute(query, key, a * value + b * other, masks.causal())
    assert_close(
        combined, a * compute(query, key, value, masks.causal()) + b * compute(query, key, other, masks.causal())
    )


@given(seeds, st.sampled_from([name for name in MASKS if name != "none"]))
def test_rows_sum_to_one_or_are_dead(seed, name):
    torch.manual_seed(seed)
    query, key, _ = draw_qkv(B)
    weights = attention_weights(query, key, MASKS[name])
    open_ = allowed(MASKS[name]).expand(B, H, L, S)
    assert (weights >= 0).all()
    assert not weights[~open_].any()
    assert_close(weights.sum(-1), open_.any(-1).double())


@given(seeds, st.floats(0.1, 1e4), st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
def test_huge_scores_stay_finite(seed, size, dtype):
    torch.manual_seed(seed)
    query, key, value = draw_qkv(B)
    query, key, value = (query * size).to(dtype), key.to(dtype), value.to(dtype)
    for compute in PATHS.values():
        assert compute(query, key, value, masks.causal()).isfinite().all()
    assert attention_weights(query, key).isfinite().all()


def test_equal_keys_weigh_the_same():
    """With nothing to choose by, a query takes the plain average of the values it may see."""
    query, key, value = draw(1, H, L, D_K), torch.ones(1, H, L, D_K).double(), draw(1, H, L, D_V)
    running_mean = value.cumsum(-2) / torch.arange(1, L + 1)[:, None]
    assert_close(attention(query, key, value, masks.causal()), running_mean)


# ---------------------------------------------------------------------------------------------------------------------
# Queries that may attend to nothing

DEAD = torch.ones(B, 1, L, S, dtype=torch.bool)
DEAD[0, 0, 2] = False


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shifted", [False, True])
def test_a_dead_query_gets_zeros_and_gives_no_gradient(compute, dtype, shifted):
    query, key, value = draw_qkv(B, dtype=dtype, requires_grad=True)
    bias = torch.zeros(L, S, dtype=dtype) if shifted else None
    output = compute(query, key, value, DEAD, bias=bias)
    assert not output[0, :, 2].any()
    assert output[1].all()
    output.sum().backward()
    assert all(x.grad.isfinite().all() for x in (query, key, value))
    assert not query.grad[0, :, 2].any()
    assert query.grad[1].any()


def test_a_dead_query_has_zero_weights_and_gradient():
    query, key, _ = draw_qkv(B, requires_grad=True)
    weights = attention_weights(query, key, DEAD)
    assert not weights[0, :, 2].any()
    weights.square().sum().backward()
    assert query.grad.isfinite().all()
    assert key.grad.isfinite().all()
    assert not query.grad[0, :, 2].any()


def test_when_all_queries_are_dead_nothing_flows(compute):
    query, key, value = draw_qkv(B, requires_grad=True)
    output = compute(query, key, value, masks.padding([0, 0]))
    output.sum().backward()
    assert not output.any()
    assert not any(x.grad.any() for x in (query, key, value))


def test_a_bias_of_minus_infinity_closes_a_row_too(compute):
    query, key, value = draw_qkv(B)
    bias = torch.zeros(L, S).double()
    bias[2] = -math.inf
    output = compute(query, key, value, bias=bias)
    assert not output[:, :, 2].any()
    assert output.isfinite().all()


def test_no_keys_at_all_give_zeros(compute):
    query, key, value = draw_qkv(B, lengths=(L, 0))
    output = compute(query, key, value)
    assert output.shape == (B, H, L, D_V)
    assert not output.any()


@pytest.mark.parametrize("sizes", [(0, H, L, S), (B, H, 0, S)])
def test_nothing_to_compute_is_no_error(compute, sizes):
    query, key, value = draw_qkv(sizes[0], lengths=sizes[2:])
    assert compute(query, key, value, masks.causal()).shape == (*sizes[:3], D_V)


def test_a_dead_query_stays_at_zero_whatever_it_holds(compute):
    query, key, value = draw_qkv(B)
    query[0, :, 2] = math.nan
    output = compute(query, key, value, DEAD)
    assert not output[0, :, 2].any()
    assert output.isfinite().all()


# ---------------------------------------------------------------------------------------------------------------------
# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spread", [1, 4])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_half_precision_is_at_least_as_accurate_as_torch(compute, dtype, spread, shifted, masked):
    query, key, value = (x.to(dtype) for x in draw_qkv(B, lengths=(37, 41)))
    query = query * spread
    bias = draw(37, 41, dtype=torch.float32) if shifted else None
    open_ = torch.rand(37, 41) < 0.7 if masked else None
    attn_mask = open_ if bias is None else bias if open_ is None else bias.masked_fill(~open_, -math.inf)
    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask)
    wide = [x.double() for x in (query, key, value)]
    exact = F.scaled_dot_product_attention(*wide, attn_mask if attn_mask is None or not shifted else attn_mask.double())
    ours = compute(query, key, value, open_, bias=bias)
    assert ours.dtype == dtype
    assert (ours - exact).abs().mean() <= (theirs - exact).abs().mean() * 1.001
    assert (ours - exact).abs().max() <= (theirs - exact).abs().max()


def test_where_kernels_refuse_a_wider_bias_it_is_rounded():
    query, bias = meta(B, H, L, D_K, dtype=torch.bfloat16), meta(L, S)
    assert fused._attn_mask(query, Scores((B, H, L, S), query.device, None, bias)).dtype == torch.bfloat16
    query, bias = torch.zeros(1, 1, L, D_K).bfloat16(), torch.zeros(L, S)
    assert fused._attn_mask(query, Scores((1, 1, L, S), query.device, None, bias)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_the_exact_ones_rounded(dtype):
    query, key, _ = (x.to(dtype) for x in draw_qkv(B))
    exact = attention_weights(query.double() * 3, key.double(), masks.causal())
    assert_close(attention_weights(query * 3, key, masks.causal()), exact.to(dtype))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("bias_dtype", [torch.float64, torch.float32])
def test_a_bias_of_another_dtype_changes_no_dtype(compute, dtype, bias_dtype):
    query, key, value = draw_qkv(B, dtype=dtype)
    output = compute(query, key, value, masks.causal(), bias=draw(L, S, dtype=bias_dtype))
    assert output.dtype == dtype
    assert attention_weights(query, key, bias=draw(L, S, dtype=bias_dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_keep_their_dtype_and_precision_under_autocast(dtype):
    query, key, value = draw_qkv(B, dtype=dtype)
    outside = attention_weights(query, key, masks.causal())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attention_weights(query, key, masks.causal()), outside)
        output = with_weights(query, key, value, masks.causal())
    assert output.dtype == dtype


def test_the_same_inputs_are_left_as_they_were(compute, mask):
    query, key, value = draw_qkv(B)
    value[..., -1, 0] = math.nan
    before = [x.clone() for x in (query, key, value)]
    compute(query, key, value, mask, bias=torch.zeros(L, S))
    for x, y in zip((query, key, value), before, strict=True):
        assert torch.equal(x.nan_to_num(7), y.nan_to_num(7))


# ---------------------------------------------------------------------------------------------------------------------
# Gradients, dropout


@pytest.mark.parametrize("name", ["none", "causal", "padding", "pairs of each head", "nothing"])
@pytest.mark.parametrize("heads", [(1, 1), (2, 1)])
def test_gradients_are_those_of_finite_differences(compute, name, heads):
    mask = MASKS[name]
    if name == "pairs of each head":
        mask = torch.rand(1, heads[0], 2, 3) < 0.7
    elif name == "padding":
        mask = masks.padding([3, 1])
    elif name == "nothing":
        mask = torch.zeros(2, 3, dtype=torch.bool)
    inputs = [draw(2, heads[i > 0], (2, 3, 3)[i], (2, 2, 1)[i], requires_grad=True) for i in range(3)]
    bias = draw(2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, k, v, b: compute(q, k, v, mask, bias=b), (*inputs, bias))


@pytest.mark.parametrize("mask", [None, masks.causal(), masks.padding([3, 0])])
def test_weights_can_be_differentiated_twice(mask):
    query, key = draw(2, 2, 2, 2, requires_grad=True), draw(2, 1, 3, 2, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, k: attention_weights(q, k, mask), (query, key))
    assert torch.autograd.gradgradcheck(lambda q, k: attention_weights(q, k, mask), (query, key))


def test_dropout_drops_weights_and_scales_up_the_kept(compute):
    """With the identity as values, the output is the weights."""
    keys, p = 101, 0.3
    query, key = draw(B, H, L, D_K), draw(B, H, keys, D_K)
    value = torch.eye(keys).double().expand(B, H, keys, keys)
    weights = attention_weights(query, key)
    dropped = compute(query, key, value, dropout_p=p)
    kept = dropped != 0
    assert_close(dropped[kept], weights[kept] / (1 - p))
    assert kept.double().mean() == pytest.approx(1 - p, abs=0.04)
    assert kept.any(-1).all()


def test_weights_are_given_before_dropout():
    query, key, value = draw_qkv(B)
    weights = attend(query, key, value, None, dropout_p=0.9, need_weights=True)[1]
    assert_close(weights, attention_weights(query, key))


def test_weights_are_not_computed_unless_asked_for(monkeypatch):
    monkeypatch.setattr(explicit, "_weights", None)
    assert attend(*draw_qkv(B), masks.causal())[1] is None


def test_the_fused_kernel_is_called_by_attribute(monkeypatch):
    """torch's context parallelism replaces the function in its module."""
    calls = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(a) or real(*a, **k))
    attention(*draw_qkv(B))
    assert len(calls) == 1


def test_a_square_causal_mask_is_never_made_dense(monkeypatch):
    """torch's kernel then skips the upper half, and stores no L × L mask."""
    monkeypatch.setattr(masks.Causal, "allows", None)
    query, key, value = draw_qkv(B, lengths=(L, L))
    bottom_right = torch.ones(L, L, dtype=torch.bool).tril()
    assert_close(attention(query, key, value, masks.causal()), loops(query, key, value, bottom_right))
    value[..., -1, :] = math.nan
    assert attention(query, key, value, masks.causal())[..., :-1, :].isfinite().all()


def test_a_single_query_needs_no_causal_mask(monkeypatch):
    """When decoding, the last token sees all."""
    monkeypatch.setattr(masks.Causal, "allows", None)
    query, key, value = draw_qkv(B, lengths=(1, S))
    for compute in PATHS.values():
        assert_close(compute(query, key, value, masks.causal()), attention(query, key, value))


def test_finite_inputs_are_not_copied(monkeypatch):
    def fail(*_):
        raise AssertionError("looked for the rows that are not finite, though the sum is")

    monkeypatch.setattr(torch, "isfinite", fail)
    for mask in (None, masks.padding([7, 3]), masks.causal()):
        attention(*draw_qkv(B), mask)
        attention(*draw_qkv(B, lengths=(1, S)), mask)
        attention_weights(*draw_qkv(B)[:2], mask)


# ---------------------------------------------------------------------------------------------------------------------
# Few queries, as in decoding: the keys that none of them may attend to are not read


@given(st.data(), st.integers(1, 5), st.integers(1, 31), st.sampled_from([(3, 3), (6, 3), (6, 1)]), st.booleans())
def test_few_queries_under_any_mask_equal_the_dense_computation(data, rows, keys, heads, shifted):
    mask, open_ = data.draw(expressions(B, heads[0], rows, keys))
    torch.manual_seed(data.draw(seeds))
    bias = None
    if shifted:
        bias = draw(data.draw(st.sampled_from([1, B])), heads[0], rows, keys, requires_grad=True)
    tensors = draw_qkv(B, heads=heads, lengths=(rows, keys), requires_grad=True)
    sizes = Sizes(few_keys=1, many_elements=data.draw(st.sampled_from([0, 2**17])), gap=data.draw(st.integers(1, 9)))
    output, _ = attend(*tensors, mask, bias=bias, sizes=sizes)
    repeated = [x.repeat_interleave(heads[0] // heads[1], dim=1) for x in tensors[1:]]
    expected = loops(
        *(x.detach() for x in (tensors[0], *repeated)),
        torch.from_numpy(np.array(open_)),
        None if bias is None else bias.detach(),
    )
    assert_close(output, expected)
    found = torch.autograd.grad(output.square().sum(), tensors)
    weights = attention_weights(*tensors[:2], mask, bias=bias)
    wanted = torch.autograd.grad((weights @ repeated[1]).square().sum(), tensors)
    for ours, right in zip(found, wanted, strict=True):
        assert_close(ours, right)


def by_weights(*arguments, **options):
    """:func:`attnlib.attention`, with a single query by its weights, however few the keys."""
    return attend(*arguments, **options, sizes=Sizes(many_elements=0))[0]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("leading", [(), (B,), (2, 5)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_single_query_equals_the_last_of_two(dtype, leading, turned):
    query, key, value = draw_qkv(*leading, heads=(GROUPED_H, H_KV), lengths=(2, 300), dtype=dtype)
    if turned:  # as a module's projection leaves them
        key, value = (x.transpose(-2, -3).contiguous().transpose(-2, -3) for x in (key, value))
    for mask in (None, masks.causal(), masks.sliding_window(40), masks.causal() & ~masks.prefix(7)):
        for bias in (None, draw(1, 300)):
            two = None if bias is None else bias.expand(2, 300)
            expected = by_weights(query, key, value, mask, bias=two)[..., 1:, :]
            output = by_weights(query[..., 1:, :], key, value, mask, bias=bias)
            assert output.dtype == dtype
            assert_close(output, expected)


def test_a_single_query_with_large_scores_reads_the_best_key():
    query, key, value = draw_qkv(B, lengths=(1, S))
    best = (query @ key.mT).argmax(-1, keepdim=True).expand(-1, -1, -1, value.shape[-1])
    assert_close(by_weights(query * 1e6, key, value), value.gather(-2, best))


def test_a_single_query_reads_what_a_mask_opens_pair_by_pair():
    query, key, value = draw_qkv(B, lengths=(1, S))
    allowed, bias = torch.arange(B * H * S).reshape(B, H, 1, S) % 3 > 0, draw(1, H, 1, S)
    allowed[1, 2] = False
    assert_close(by_weights(query, key, value, allowed, bias=bias), loops(query, key, value, allowed, bias))


def test_a_single_query_under_another_default_dtype():
    query, key, value = draw_qkv(B, lengths=(1, S), dtype=torch.float32)
    expected = by_weights(query, key, value, masks.padding([7, 3]))
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(by_weights(query, key, value, masks.padding([7, 3])), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_single_query_by_its_weights_has_derivatives_of_any_order():
    query, key, value = draw_qkv(1, heads=(2, 1), lengths=(1, 3), requires_grad=True)
    for mask in (None, torch.tensor([[True, False, True]])):
        assert torch.autograd.gradgradcheck(lambda *x, mask=mask: by_weights(*x, mask), (query, key, value))


@pytest.mark.parametrize("rows", [1, 3])
def test_weights_of_few_queries_have_a_column_for_each_key(rows):
    query, key, value = draw_qkv(B, lengths=(rows, 300))
    mask = masks.sliding_window(40)
    output, weights = attend(query, key, value, mask, need_weights=True)
    assert weights.shape == (B, H, rows, 300)
    assert_close(output, by_weights(query, key, value, mask))
    assert_close(weights @ value, output)


@pytest.mark.parametrize(
    ("dtype", "narrowed"),
    [(torch.bfloat16, False), (torch.float16, False), (torch.bfloat16, True), (torch.float32, True)],
)
def test_a_single_query_is_at_least_as_accurate_as_torchs(dtype, narrowed):
    query, key, value = (draw(B, H, length, D_K).to(dtype) for length in (1, 300, 300))
    exact = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    with torch.autocast("cpu", torch.bfloat16, enabled=narrowed):
        ours, theirs = by_weights(query, key, value), F.scaled_dot_product_attention(query, key, value)
    assert ours.dtype == theirs.dtype
    assert (ours - exact).abs().mean() <= (theirs - exact).abs().mean() * 1.001


@pytest.mark.parametrize("rows", [1, 64])
def test_few_queries_with_dropout_drop_open_keys_only(rows):
    """With the identity as values, the output is the weights."""
    heads = 192 // rows
    value = torch.eye(300).double().expand(1, heads, 300, 300)
    query, key = draw(1, heads, rows, D_K), draw(1, heads, 300, D_K)
    mask = masks.causal() & masks.sliding_window(40)
    weights = attention_weights(query, key, mask)
    dropped = by_weights(query, key, value, mask, dropout_p=0.3)
    kept = dropped != 0
    assert_close(dropped[kept], weights[kept] / 0.7)
    assert kept.sum() / (weights != 0).sum() == pytest.approx(0.7, abs=0.05)


class ElementsRead(TorchDispatchMode):
    """Counts the elements of what is read: a view reads nothing."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if not operation.is_view:
            tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            self.most = max(self.most, *(x.numel() for x in tensors), 0)
        return operation(*args, **(kwargs or {}))


WINDOW = masks.causal() & masks.sliding_window(64)
IN_PLACES = {
    "window": (WINDOW, 64),
    "window beside padding": (WINDOW & ~masks.padding([9, 0]), 64),
    "window and the first keys": (WINDOW | masks.prefix(4), 68),
    "prefix": (masks.prefix(50), 50),
    "padding": (masks.padding([40, 9]), 40),
}


@pytest.mark.parametrize("name", IN_PLACES)
@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("elements", [0, 2**60])
def test_only_the_keys_that_some_query_may_attend_to_are_read(name, rows, elements):
    """So a step of decoding under a window costs the same, however long the cache."""
    mask, most = IN_PLACES[name]
    sizes = Sizes(many_elements=elements)
    most += rows - 1 if "window" in name else 0
    for keys in (512, 4096):
        query, key, value = draw_qkv(B, lengths=(rows, keys))
        with ElementsRead() as seen:
            output, _ = attend(query, key, value, mask, sizes=sizes)
        assert seen.most == B * H * max(most * D_V, rows * max(most, D_V))
        assert_close(output, with_weights(query, key, value, mask))
        # What lies elsewhere may be anything, and is not even looked for.
        hidden = ~mask.dense(rows, keys).expand(B, 1, rows, keys).any((0, 1, 2))
        key[:, :, hidden], value[:, :, hidden] = math.nan, math.inf
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "isfinite", None)
            assert torch.equal(attend(query, key, value, mask, sizes=sizes)[0], output)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_a_chunk_of_queries_under_a_window_reads_the_keys_near_it(shifted, dropout_p):
    query, key, value = draw_qkv(B, lengths=(70, 1024))
    bias = draw(70, 1024) if shifted else None

    def compute():
        torch.manual_seed(0)
        return attention(query, key, value, WINDOW, bias=bias, dropout_p=dropout_p)

    expected = compute()
    if not dropout_p:
        assert_close(expected, with_weights(query, key, value, WINDOW, bias=bias))
    key[:, :, : 1024 - 70 - 63], value[:, :, : 1024 - 70 - 63] = math.nan, math.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "isfinite", None)
        assert torch.equal(compute(), expected)


def test_keys_that_no_block_should_read_may_hold_anything():
    """Where the runs of a block are too many to tell apart, it is computed with all keys."""
    ids = torch.cat([torch.zeros(600), torch.arange(1, 171).repeat_interleave(20) % 2 + 1, torch.ones(96)]).long()
    query, key, value = draw_qkv(B, lengths=(90, len(ids)))
    expected = attention(query, key, value, masks.documents(ids))
    key[:, :, :600], value[:, :, :600] = math.nan, math.inf
    assert_close(attention(query, key, value, masks.documents(ids)), expected)


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_a_document_in_many_places_is_put_side_by_side_or_computed_whole(rows):
    for stretch in (200, 20):
        ids = torch.arange(2000) // stretch % 2
        query, key, value = draw_qkv(B, lengths=(rows, 2000))
        assert_close(
            attention(query, key, value, masks.documents(ids)), with_weights(query, key, value, masks.documents(ids))
        )


@pytest.mark.parametrize("mask", [*IN_PLACES.values(), (masks.causal(), 0), (masks.documents([1] * 512), 0)])
def test_no_queries_at_all(mask):
    query, key, value = draw_qkv(B, lengths=(0, 512))
    assert attention(query, key, value, mask[0]).shape == (B, H, 0, D_V)


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_few_queries_with_a_mask_of_each_example_take_one_call(rows, monkeypatch):
    """Not one for each example, which would take longer than the mask as a tensor does."""
    monkeypatch.setitem(choice.KERNELS, "blockwise", None)
    query, key, value = draw_qkv(5, lengths=(rows, 300))
    mask = masks.padding([300, 290, 10, 0, 3])
    assert_close(attention(query, key, value, mask), attention(query, key, value, mask.dense(rows, 300)))


# ---------------------------------------------------------------------------------------------------------------------
# Compiled, exported, mapped


@pytest.mark.parametrize("name", ["none", "causal", "causal and padding", "pairs"])
def test_compiles_to_one_graph(compute_in_a_graph, name):
    torch.compiler.reset()
    query, key, value = draw_qkv(B)
    compiled = torch.compile(compute_in_a_graph, fullgraph=True, backend="aot_eager")
    assert_close(compiled(query, key, value, MASKS[name]), compute_in_a_graph(query, key, value, MASKS[name]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's compiler, on import
def test_compiles_to_machine_code():
    torch.compiler.reset()
    query, key, value = draw_qkv(B)
    value[..., -1, :] = math.nan
    compiled = torch.compile(attention, fullgraph=True)
    assert_close(
        compiled(query, key, value, masks.padding([6, 0])), attention(query, key, value, masks.padding([6, 0]))
    )


def test_a_mask_made_inside_a_compiled_graph(compute_in_a_graph):
    torch.compiler.reset()
    query, key, value = draw_qkv(B)
    lengths = torch.tensor([7, 3])

    def call(query, key, value, lengths):
        return compute_in_a_graph(query, key, value, masks.causal() & masks.padding(lengths) | masks.prefix(1))

    compiled = torch.compile(call, fullgraph=True, backend="eager")
    assert_close(compiled(query, key, value, lengths), call(query, key, value, lengths))


@pytest.mark.parametrize("mask_name", ["none", "causal", "pairs"])
def test_exports_with_batch_and_length_left_open(compute, mask_name):
    mask = None if mask_name == "none" else masks.causal()

    class Attend(nn.Module):
        def forward(self, query, key, value):
            return compute(query, key, value, mask)

    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=2)
    shapes = ({0: batch, 2: length},) * 3
    program = torch.export.export(Attend(), draw_qkv(3, lengths=(5, 5)), dynamic_shapes=shapes)
    other = draw_qkv(2, lengths=(11, 11))
    assert_close(program.module()(*other), compute(*other, mask))


def test_maps_over_an_axis_of_its_own():
    query, key, value = draw_qkv(3, B)
    mapped = torch.vmap(lambda q, k, v: with_weights(q, k, v, None))
    assert_close(mapped(query, key, value), attention(query, key, value))


# ---------------------------------------------------------------------------------------------------------------------
# Errors


def meta(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta")


GOOD = {"query": meta(B, H, L, D_K), "key": meta(B, H, S, D_K), "value": meta(B, H, S, D_V)}
PLAIN = {"query": meta(L, D_K), "key": meta(S, D_K), "value": meta(S, D_V)}
MORE = {name: x[None] for name, x in GOOD.items()}


def true(*shape):
    return meta(*shape, dtype=torch.bool)


ERRORS = [
    ({"query": [1.0]}, TypeError, "query: expected a tensor, got list"),
    ({"key": None}, TypeError, "key: expected a tensor, got NoneType"),
    ({"value": 3}, TypeError, "value: expected a tensor, got int"),
    ({"query": meta(B, H, L, D_K, dtype=torch.long)}, TypeError, "query: expected a floating-point .*got torch.int64"),
    ({"key": meta(B, H, S, D_K, dtype=torch.bool)}, TypeError, "key: expected a floating-point .*got torch.bool"),
    ({"key": meta(B, H, S, D_K).double()}, TypeError, "key: expected query's dtype torch.float32, got torch.float64"),
    ({"value": meta(B, H, S, D_V).half()}, TypeError, "value: expected query's dtype torch.float32, got torch.float16"),
    ({"query": meta(D_K)}, ValueError, r"query: expected .*\(L, d\).*, got \(11,\)"),
    (
        {"key": meta(S, D_K)},
        ValueError,
        r"key: expected .*as many axes as query, got \(7, 11\) beside query \(2, 3, 5, 11\)",
    ),
    ({"value": meta(H, S, D_V)}, ValueError, r"value: expected .*as many axes as query, got \(3, 7, 13\)"),
    (
        {"query": meta(B, H, L, 0), "key": meta(B, H, S, 0)},
        ValueError,
        r"query: expected d_k of at least 1, got \(2, 3",
    ),
    ({"key": meta(B, H, S, D_V)}, ValueError, "key: expected d_k = 11 as in query, got 13"),
    ({"key": meta(7, H, S, D_K)}, ValueError, r"key: expected the batch \(2,\) of query, got \(7,\)"),
    ({"key": meta(B, 2, S, D_K)}, ValueError, "key: expected a number of heads that divides query's 3, got 2"),
    ({"key": meta(B, 0, S, D_K)}, ValueError, "key: expected a number of heads that divides query's 3, got 0"),
    ({"key": meta(B, 6, S, D_K)}, ValueError, "key: expected a number of heads that divides query's 3, got 6"),
    ({"value": meta(B, H, 11, D_V)}, ValueError, r"value: expected key's .*= \(2, 3, 7\), got \(2, 3, 11\)"),
    ({"value": meta(B, 1, S, D_V)}, ValueError, r"value: expected key's .*= \(2, 3, 7\), got \(2, 1, 7\)"),
    ({"value": meta(1, H, S, D_V)}, ValueError, r"value: expected key's .*= \(2, 3, 7\), got \(1, 3, 7\)"),
    ({"dropout_p": 1.0}, ValueError, r"dropout_p: expected a probability in \[0, 1\), got 1.0"),
    ({"dropout_p": -0.1}, ValueError, r"dropout_p: expected .*, got -0.1"),
    ({"dropout_p": math.nan}, ValueError, r"dropout_p: expected .*, got nan"),
    ({"scale": math.nan}, ValueError, "scale: expected a finite number, got nan"),
    ({"scale": "1"}, TypeError, "scale: expected a number, got str"),
    ({"dropout_p": "0"}, TypeError, "dropout_p: expected a number, got str"),
    ({"key": torch.empty(B, H, S, D_K)}, ValueError, "key: expected query's device meta, got cpu"),
    ({"mask": torch.ones(L, S, dtype=torch.bool)}, ValueError, "mask: .* query's device meta, got one on cpu"),
    ({"bias": torch.zeros(L, S)}, ValueError, "bias: .* query's device meta, got one on cpu"),
    ({"scale": math.inf}, ValueError, "scale: expected a finite number, got inf"),
    ({"mask": meta(L, S)}, TypeError, "mask: expected bool, got torch.float32; to add numbers .*, use bias="),
    (
        {"mask": meta(L, S, dtype=torch.uint8)},
        TypeError,
        r"mask: expected bool \(True means may attend\), got torch.uint8",
    ),
    ({"mask": [[True]]}, TypeError, "mask: expected a Mask or a bool tensor, got list"),
    ({"mask": masks.causal}, TypeError, r"mask: .*, got the function causal; call it, as in masks.causal\(\)"),
    (
        {"mask": true(S)},
        ValueError,
        r"mask: expected \(…, L, S\) = \(…, 5, 7\), got \(7,\); .*use masks.keys\(",
    ),
    ({"mask": true(B, S)}, ValueError, r"mask: .*got \(2, 7\); for a mask of keys, .* use masks.keys"),
    ({"mask": true(1, S)}, ValueError, r"mask: expected .*got \(1, 7\)"),
    ({"mask": true(S, L)}, ValueError, r"mask: expected .*got \(7, 5\)"),
    ({"mask": true(B, 1, S)}, ValueError, r"mask: expected .*got \(2, 1, 7\)$"),
    (
        {"mask": true(H, L, S)},
        ValueError,
        r"mask: expected shape \(L, S\) = \(5, 7\) or .* \(2, 3, 5, 7\), got \(3, 5, 7\)",
    ),
    ({"mask": true(B, H, 2, S)}, ValueError, r"mask: expected .*got \(2, 3, 2, 7\)"),
    ({"mask": true(B, B, L, S)}, ValueError, r"mask: expected shape .*got \(2, 2, 5, 7\)"),
    ({"mask": true(2, B, H, L, S)}, ValueError, r"mask: expected shape .*got \(2, 2, 3, 5, 7\)"),
    ({"mask": true(7, 1, 1, S)}, ValueError, r"mask: expected shape .*got \(7, 1, 1, 7\)"),
    (
        {"mask": masks.padding([1, 2, 3])},
        ValueError,
        r"mask: expected shape .* \(2, 3, 5, 7\), got \(3, 1, 1, 7\): made for 3 examples beside a batch of 2$",
    ),
    ({"mask": masks.padding([9, 2])}, ValueError, "lengths: expected at most S=7 keys, got a length of 9"),
    ({"mask": masks.documents([1, 2])}, ValueError, "ids: expected one id for each of S=7 keys, got 2"),
    ({"mask": masks.prefix(9)}, ValueError, "length: expected a prefix of at most S=7 keys, got 9"),
    (
        {**PLAIN, "mask": masks.padding([1, 2])},
        ValueError,
        r"mask: expected shape \(L, S\) = \(5, 7\), got \(2, 1, 1, 7\)",
    ),
    ({**PLAIN, "mask": true(S)}, ValueError, r"mask: expected .*got \(7,\)"),
    ({**MORE, "mask": masks.padding([1, 2, 3])}, ValueError, r"mask: expected shape .*, got \(3, 1, 1, 7\)"),
    ({"bias": [[0.0]]}, TypeError, "bias: expected a tensor, got list"),
    ({"bias": true(L, S)}, TypeError, "bias: expected a floating-point tensor, got torch.bool; .* use mask="),
    ({"bias": meta(L, S, dtype=torch.long)}, TypeError, "bias: expected a floating-point tensor, got torch.int64$"),
    ({"bias": meta(S)}, ValueError, r"bias: expected shape \(L, S\) = \(5, 7\) or .*\(2, 3, 5, 7\), got \(7,\)"),
    ({"bias": meta(1, S)}, ValueError, r"bias: expected shape .*got \(1, 7\)"),
    ({"bias": meta(H, L, S)}, ValueError, r"bias: expected shape .*got \(3, 5, 7\)"),
    ({"bias": meta(B, 2, L, S)}, ValueError, r"bias: expected shape .*got \(2, 2, 5, 7\)"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), ERRORS)
def test_errors_name_the_argument_before_any_arithmetic(wrong, error, message):
    arguments = {"mask": None, **GOOD, **wrong}
    with NoArithmetic(), pytest.raises(error, match=message):
        attention(**arguments)


@pytest.mark.parametrize(
    ("wrong", "error", "message"), [e for e in ERRORS if not {"value", "dropout_p"} & set(e[0])] + [ERRORS[7]]
)
def test_weights_raise_the_same_errors(wrong, error, message):
    arguments = {**GOOD, **wrong}
    arguments.pop("value")
    with NoArithmetic(), pytest.raises(error, match=message):
        attention_weights(**arguments)


def test_a_scale_of_zero_is_a_scale(compute):
    query, key, value = draw_qkv(B)
    assert_close(compute(query, key, value, scale=0.0), value.mean(-2, keepdim=True).expand(B, H, L, D_V))


def test_keys_and_values_of_two_widths_take_no_room_for_the_weights():
    query, key, value = (torch.randn(1, 2, 2048, width) for width in (4, 4, 8))
    assert peak_memory(lambda: attention(query, key, value, masks.causal())) < 2048**2


def test_a_scale_may_be_any_real_number():
    query, key, value = draw_qkv(B)
    expected = attention(query, key, value, scale=0.25)
    for scale in (Fraction(1, 4), np.float32(0.25)):
        assert_close(attention(query, key, value, scale=scale), expected)
        assert_close(attention_weights(query, key, scale=scale), attention_weights(query, key, scale=0.25))


# ---------------------------------------------------------------------------------------------------------------------
# Nested tensors


NESTED = pytest.mark.filterwarnings("ignore:.*API of nested tensors:UserWarning")  # torch's, of those not jagged


def nested(*lengths, layout=torch.jagged):
    return torch.nested.nested_tensor([torch.randn(length, 4, 8) for length in lengths], layout=layout)


@NESTED
def test_jagged_tensors_attend_within_each_example():
    x = nested(3, 5).transpose(1, 2)
    for found, one in zip(attention(x, x, x).transpose(1, 2).unbind(), x.transpose(1, 2).unbind(), strict=True):
        one = one.transpose(0, 1)
        torch.testing.assert_close(found.transpose(0, 1), attention(one, one, one))


PADDED = torch.randn(2, 4, 5, 8)


@NESTED
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: attention(x, x, x, masks.causal()), "query: expected a padded tensor beside mask, got a jagged"),
        (lambda x: attention(x, x, x, masks.padding([3, 5])), r"beside mask, .*to_padded_tensor.*masks.padding"),
        (lambda x: attention(x, x, x, bias=torch.zeros(1, 1, 1, 1)), "query: expected a padded tensor beside bias"),
        (lambda x: attention_weights(x, x), "query: expected a padded tensor beside attention_weights"),
        (
            lambda x: attention(x, PADDED, PADDED),
            r"or all nested, .*got 4 axes of nested torch.jagged, 4 axes of torch.st",
        ),
        (lambda x: attention(PADDED, x, x), "got 4 axes of torch.strided, 4 axes of nested torch.jagged"),
        (lambda x: attention(*[nested(3, 5, layout=torch.strided)] * 3), "got 4 axes of nested torch.strided"),
        (lambda x: attention(*[x.transpose(1, 2).flatten(2)] * 3), "got 3 axes of nested torch.jagged"),
    ],
)
def test_nested_tensors_that_torch_cannot_take_are_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call(nested(3, 5).transpose(1, 2))


# ---------------------------------------------------------------------------------------------------------------------
# Examples


@pytest.mark.parametrize("module", [functional, masks, scores])
def test_the_examples_run_as_copied(module):
    """In a namespace of their own: they begin with what they import."""
    examples = doctest.DocTestFinder(exclude_empty=True).find(module, globs={})
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    results = [runner.run(example, out=report.append) for example in examples if example.examples]
    assert results
    assert not any(result.failed for result in results), "".join(report)


def test_scale_and_dropout_must_be_numbers():
    q = torch.randn(3, 4)
    with pytest.raises(TypeError, match="scale: expected a number, got str"):
        attention(q, q, q, scale="a")
    with pytest.raises(TypeError, match="dropout_p: expected a number, got str"):
        attention(q, q, q, dropout_p="a")


def test_a_mask_tensor_with_all_axes_of_unbatched_scores_may_have_ones():
    q, k = torch.randn(3, 5, 4), torch.randn(3, 7, 4)
    mask = torch.tensor([True, False, True, True, False, True, True]).reshape(1, 1, 7)
    torch.testing.assert_close(attention(q, k, k, mask), attention(q, k, k, mask.expand(3, 5, 7)))
