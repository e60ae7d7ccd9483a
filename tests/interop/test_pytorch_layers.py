"""Layers and masks of ``torch.nn`` and of attnlib, made of each other: each is the other's oracle."""

import math

import pytest
import torch
from torch import nn

from attnlib import MultiHeadAttention, masks
from attnlib.interop import pytorch
from attnlib.positions import ALiBi, Rotary
from tests.oracles import B, L, NoArithmetic, S, draw
from tests.tolerances import assert_close

H, WIDTH = 3, 33


def theirs(**options):
    """One of torch's layers, with biases that are not zero."""
    layer = nn.MultiheadAttention(WIDTH, H, **{"dtype": torch.float64, **options}).eval()
    for name, parameter in layer.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    return layer


def ours(**options):
    layer = MultiHeadAttention(H, WIDTH, dtype=torch.float64, **options).eval()
    if layer.fc.bias is not None:
        for projection in (layer.wq, layer.wk, layer.wv, layer.fc):
            nn.init.normal_(projection.bias)
    return layer


def tokens(length=L):
    return draw(B, length, WIDTH)


def called(layer, query, key, value, **options):
    """Call torch's layer with what is batch first."""
    if layer.batch_first:
        return layer(query, key, value, **options)
    output, weights = layer(*(x.transpose(0, 1) for x in (query, key, value)), **options)
    return output.transpose(0, 1), weights


# ---------------------------------------------------------------------------------------------------------------------
# Layers


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_layer_of_torchs_computes_the_same_here(bias, batch_first, share):
    layer = theirs(bias=bias, batch_first=batch_first)
    attend = pytorch.from_torch(layer, share=share)
    query, key, value = tokens(), tokens(S), tokens(S)
    blocked, lengths = torch.rand(L, S) < 0.3, torch.tensor([S, 4])
    blocked[:, 0] = False
    padding = torch.arange(S) >= lengths[:, None]
    expected, weights = called(
        layer, query, key, value, attn_mask=blocked, key_padding_mask=padding, average_attn_weights=False
    )
    mask, nothing = pytorch.from_masks(blocked, padding)
    assert nothing is None
    assert_close(attend(query, key, value, mask, need_weights=True), expected)
    assert_close(attend.attn, weights.detach())
    loss = draw(*expected.shape)
    (expected * loss).sum().backward()
    (attend(query, key, value, mask) * loss).sum().backward()
    assert_close(torch.cat([p.weight.grad for p in (attend.wq, attend.wk, attend.wv)]), layer.in_proj_weight.grad)
    assert_close(attend.fc.weight.grad, layer.out_proj.weight.grad)
    if bias:
        assert_close(torch.cat([p.bias.grad for p in (attend.wq, attend.wk, attend.wv)]), layer.in_proj_bias.grad)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_layer_of_ours_computes_the_same_there(bias, batch_first):
    attend = ours(projection_bias=bias)
    layer = pytorch.to_torch(attend, batch_first=batch_first)
    assert layer.batch_first is batch_first
    query, key, value = tokens(), tokens(S), tokens(S)
    mask = masks.padding([S, 4])
    padding = pytorch.to_key_padding_mask(mask, B, S)
    expected = attend(query, key, value, mask & masks.causal(), need_weights=True)
    blocked = pytorch.to_attn_mask(masks.causal(), B, H, L, S)
    output, weights = called(
        layer, query, key, value, attn_mask=blocked, key_padding_mask=padding, average_attn_weights=False
    )
    assert_close(output, expected)
    assert_close(weights.detach(), attend.attn)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_there_and_back_the_state_is_the_same_bit_for_bit(bias, share, dtype):
    layer = theirs(bias=bias, dtype=dtype, batch_first=True, dropout=0.25).train()
    layer.out_proj.weight.requires_grad_(False)
    attend = pytorch.from_torch(layer, share=share)
    back = pytorch.to_torch(attend, share=share)
    before, after = layer.state_dict(), back.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    frozen = {name: p.requires_grad for name, p in layer.named_parameters()}
    assert {name: p.requires_grad for name, p in back.named_parameters()} == frozen
    assert (back.training, back.dropout, back.batch_first, back.num_heads) == (True, 0.25, True, H)
    assert (attend.training, attend.dropout) == (True, 0.25)
    assert not back.eval().training
    assert not pytorch.from_torch(layer.eval()).training


@pytest.mark.parametrize("make", ["from_torch", "to_torch"])
def test_weights_are_shared_on_request_and_copied_else(make):
    for share in (False, True):
        if make == "from_torch":
            layer = theirs()
            attend = pytorch.from_torch(layer, share=share)
        else:
            attend = ours(projection_bias=True)
            kept = attend.wq.weight
            layer = pytorch.to_torch(attend, share=share)
            assert attend.wq.weight is kept  # an optimizer that was made before goes on
        with torch.no_grad():
            layer.in_proj_weight[2 * WIDTH :] = 2.0
            layer.in_proj_bias[:WIDTH] = 3.0
            attend.fc.weight.fill_(4.0)
        assert bool((attend.wv.weight == 2).all()) is share
        assert bool((attend.wq.bias == 3).all()) is share
        assert bool((layer.out_proj.weight == 4).all()) is share
        assert attend.wk.weight.is_leaf


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("widths", [{"kdim": 7}, {"vdim": 7}, {"kdim": 5, "vdim": 7}, {"kdim": 7, "vdim": 7}])
def test_a_layer_with_keys_and_values_of_other_widths(widths, bias, share):
    layer = theirs(**widths, bias=bias, batch_first=True)
    attend = pytorch.from_torch(layer, share=share)
    query, key, value = tokens(), draw(B, S, layer.kdim), draw(B, S, layer.vdim)
    assert_close(attend(query, key, value), layer(query, key, value)[0])
    back = pytorch.to_torch(attend, share=share)
    before, after = layer.state_dict(), back.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert_close(back(query, key, value)[0], layer(query, key, value)[0])
    with torch.no_grad():
        layer.k_proj_weight.fill_(2.0)
    assert bool((attend.wk.weight == 2).all()) is bool((back.k_proj_weight == 2).all()) is share


def test_nothing_is_drawn_when_a_layer_is_made_of_another():
    layer, state = theirs(), torch.get_rng_state()
    pytorch.to_torch(pytorch.from_torch(layer))
    assert torch.equal(torch.get_rng_state(), state)


def test_on_another_device_the_layer_stays_there():
    layer = nn.MultiheadAttention(WIDTH, H, device="meta")
    attend = pytorch.from_torch(layer)
    assert {p.device.type for p in attend.parameters()} == {"meta"}
    assert {p.device.type for p in pytorch.to_torch(attend).parameters()} == {"meta"}


class Subclass(nn.MultiheadAttention):
    pass


@pytest.mark.parametrize(
    ("layer", "error", "words"),
    [
        (
            lambda: nn.Linear(3, 3),
            TypeError,
            "expected a torch.nn.MultiheadAttention, got Linear; for a whole model, use replace_attention",
        ),
        (lambda: Subclass(WIDTH, H), TypeError, "Subclass is a subclass"),
        (lambda: theirs(add_bias_kv=True), ValueError, "add_bias_kv=True .* append bias_k and bias_v"),
        (lambda: theirs(add_zero_attn=True), ValueError, "add_zero_attn=True .* append a row of zeros"),
        (lambda: theirs(dropout=1.0), ValueError, r"dropout=1.0 is no probability in \[0, 1\)"),
    ],
)
def test_what_cannot_be_expressed_here_is_refused_with_the_way_out(layer, error, words):
    layer = layer()
    with NoArithmetic(), pytest.raises(error, match=words):
        pytorch.from_torch(layer)


def without_a_bias(name):
    layer = ours(projection_bias=True)
    getattr(layer, name).bias = None
    return layer


def with_identity():
    layer = ours()
    layer.wk = nn.Identity()
    return layer


def partly_frozen():
    layer = ours()
    layer.wk.weight.requires_grad_(False)
    return layer


@pytest.mark.parametrize(
    ("layer", "error", "words"),
    [
        (lambda: nn.Linear(3, 3), TypeError, "expected an attnlib.MultiHeadAttention, got Linear$"),
        (lambda: nn.MultiheadAttention(6, 2), TypeError, "got MultiheadAttention; it is torch's already"),
        (lambda: ours(num_kv_heads=1), ValueError, "num_kv_heads = num_heads = 3, got 1; repeat the rows"),
        (lambda: ours(d_k=7), ValueError, "d_k = d_v = d_model / num_heads = 11, got d_k=7, d_v=11"),
        (lambda: ours(d_v=7), ValueError, "got d_k=11, d_v=7"),
        (lambda: ours(d_k=12, rotary=Rotary(12)), ValueError, "d_k=12"),
        (lambda: MultiHeadAttention(H, 36, rotary=Rotary(12)), ValueError, "without rotary positions"),
        (lambda: ours(qk_norm=nn.RMSNorm), ValueError, "without qk_norm"),
        (
            lambda: ours(scale=1.0),
            ValueError,
            "expected the scale 1/√d_k, got 1; multiply the weight and the bias of wq",
        ),
        (lambda: without_a_bias("wk"), ValueError, "a bias in all four projections, or in none"),
        (lambda: without_a_bias("fc"), ValueError, "a bias in all four projections, or in none"),
        (with_identity, TypeError, "wk: expected a torch.nn.Linear, got Identity"),
        (partly_frozen, ValueError, "the weight of wq, wk and wv frozen in all, or in none"),
    ],
)
def test_what_cannot_be_expressed_there_is_refused(layer, error, words):
    layer = layer()
    with NoArithmetic(), pytest.raises(error, match=words):
        pytorch.to_torch(layer)


def test_the_ways_out_compute_what_torch_computes():
    """Keys and values that are added."""
    query = tokens()
    for option in ("add_bias_kv", "add_zero_attn"):
        layer = theirs(batch_first=True, **{option: True})
        blocked = torch.ones(L, S, dtype=torch.bool).triu(2)
        plain = nn.MultiheadAttention(WIDTH, H, dtype=torch.float64)
        plain.load_state_dict(layer.state_dict(), strict=False)
        attend, key = pytorch.from_torch(plain), tokens(S)
        zeros = torch.zeros(1, 1, WIDTH, dtype=torch.float64)
        added = (layer.bias_k, layer.bias_v) if option == "add_bias_kv" else (zeros, zeros)
        more = [
            torch.cat([project(key), one.expand(B, 1, WIDTH)], dim=1)
            for project, one in zip((attend.wk, attend.wv), added, strict=True)
        ]
        attend.wk = attend.wv = nn.Identity()
        mask = nn.functional.pad(~blocked, (0, 1), value=True)
        assert_close(attend(query, *more, mask), layer(query, key, key, attn_mask=blocked)[0])


# ---------------------------------------------------------------------------------------------------------------------
# Masks


def random_masks():
    """Bool masks of torch's, which leave the first key open."""
    pairs, padding = torch.rand(B * H, L, S) < 0.5, torch.rand(B, S) < 0.5
    pairs[..., 0], padding[:, 0] = False, False
    return pairs, padding


@pytest.mark.parametrize("pairs_are", ["bool", "float", "none"])
@pytest.mark.parametrize("padding_is", ["bool", "float", "none"])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_torchs_masks_mean_the_same_here(pairs_are, padding_is, each):
    layer, x, memory = theirs(batch_first=True), tokens(), tokens(S)
    pairs, padding = random_masks()
    pairs = pairs if each else pairs[0]
    torchs = {}
    for name, blocked, kind in (("attn_mask", pairs, pairs_are), ("key_padding_mask", padding, padding_is)):
        if kind == "float":
            blocked = draw(*blocked.shape).masked_fill(blocked, -math.inf)
        torchs[name] = None if kind == "none" else blocked
    mask, bias = pytorch.from_masks(**torchs, num_heads=H)
    assert (bias is None) == ("float" not in (pairs_are, padding_is))
    assert bias is None or bias.isfinite().all()
    assert (mask is None) == (pairs_are == padding_is == "none")
    expected = layer(x, memory, memory, **torchs, need_weights=False)[0]
    assert_close(pytorch.from_torch(layer)(x, memory, mask=mask, bias=bias), expected)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("mask", "shape"),
    [
        (masks.causal(), (L, S)),
        (masks.padding([5]), (L, S)),
        (masks.padding([5, 3]) & masks.sliding_window(5), (B * H, L, S)),
        (masks.from_tensor(torch.rand(1, H, L, S) < 0.9), (B * H, L, S)),
        (torch.ones(L, S, dtype=torch.bool).tril(2), (L, S)),
    ],
)
def test_our_masks_mean_the_same_there(mask, shape, biased):
    layer, x, memory = theirs(batch_first=True), tokens(), tokens(S)
    bias = draw(1, H, L, S) if biased else None
    blocked = pytorch.to_attn_mask(mask, B, H, L, S, bias=bias)
    assert tuple(blocked.shape) == ((B * H, L, S) if biased else shape)
    expected = pytorch.from_torch(layer)(x, memory, mask=mask, bias=bias)
    assert_close(layer(x, memory, memory, attn_mask=blocked, need_weights=False)[0], expected)


@pytest.mark.parametrize("mask", [masks.causal(), masks.padding([5, 3]), masks.causal() & masks.sliding_window(2)])
def test_a_bias_by_the_distance_means_the_same_there(mask):
    layer, x = theirs(batch_first=True), tokens(S)
    blocked = pytorch.to_attn_mask(mask, B, H, S, S, bias=ALiBi(H))
    assert blocked.shape == (B * H, S, S)
    assert blocked.dtype == torch.get_default_dtype()
    expected = pytorch.from_torch(layer)(x, mask=mask, bias=ALiBi(H))
    # The slopes of three heads are powers of two: exact in float32.
    assert_close(layer(x, x, x, attn_mask=blocked.double(), need_weights=False)[0], expected)


def test_a_single_query_under_a_causal_mask_may_attend_to_all():
    assert not pytorch.to_attn_mask(masks.causal(), B, H, 1, S).any()


def test_a_key_padding_mask_is_made_of_what_is_alike_for_all_queries():
    lengths = torch.tensor([4, 2])
    expected = torch.arange(S) >= lengths[:, None]
    for mask in (
        masks.padding(lengths),
        ~~masks.padding(lengths),
        masks.from_tensor(~expected[:, None, None]),
        masks.padding(lengths) | (masks.causal() & ~masks.causal()),
    ):
        assert torch.equal(pytorch.to_key_padding_mask(mask, B, S), expected)
    assert torch.equal(pytorch.to_key_padding_mask(masks.prefix(3), B, S), (torch.arange(S) >= 3).expand(B, S))


class OwnHeads(masks.Mask):
    def allows(self, b, h, q, k):
        return k % 2 == h % 2


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: pytorch.to_key_padding_mask(masks.causal(), B, S), ValueError, "same for every query and head"),
        (lambda: pytorch.to_key_padding_mask(OwnHeads(), B, S), ValueError, "OwnHeads: expected a method shape"),
        (
            lambda: pytorch.to_key_padding_mask(masks.from_tensor(torch.ones(1, H, 1, S) > 0), B, S),
            ValueError,
            "same for every query and head",
        ),
        (lambda: pytorch.to_key_padding_mask(masks.padding([1, 2, 3]), B, S), ValueError, "batch of 2, got .* 3"),
        (lambda: pytorch.to_key_padding_mask(torch.ones(B, S) > 0, B, S), TypeError, "expected a Mask, got Tensor"),
        (lambda: pytorch.to_attn_mask(masks.padding([1, 2, 3]), B, H, L, S), ValueError, "mask: expected"),
        (lambda: pytorch.to_attn_mask(torch.ones(L, S), B, H, L, S), TypeError, "expected bool, got torch.float32"),
        (lambda: pytorch.to_attn_mask(masks.causal(), B, 0, L, S), ValueError, "H: expected at least 1, got 0"),
        (lambda: pytorch.from_masks(torch.ones(L, S, dtype=torch.int64)), TypeError, "attn_mask: expected a bool or"),
        (lambda: pytorch.from_masks(masks.causal()), TypeError, "attn_mask: .* got Causal"),
        (lambda: pytorch.from_masks(torch.ones(6, L, S) > 0), ValueError, "num_heads: expected the number of heads"),
        (lambda: pytorch.from_masks(torch.ones(5, L, S) > 0, num_heads=H), ValueError, "with H = 3, got"),
        (lambda: pytorch.from_masks(torch.ones(L) > 0), ValueError, r"expected \(L, S\) or \(B·H, L, S\), got \(5,\)"),
        (
            lambda: pytorch.from_masks(torch.ones(H, L, S) > 0, torch.ones(2, S) > 0, num_heads=H),
            ValueError,
            r"key_padding_mask: expected \(B, S\) of attn_mask \(3, 5, 7\), got \(2, 7\)",
        ),
        (lambda: pytorch.from_masks(torch.ones(L, 1) > 0, torch.ones(2, S) > 0), ValueError, "attn_mask .*, got"),
        (lambda: pytorch.from_masks(None, torch.ones(S) > 0), ValueError, r"key_padding_mask: expected \(B, S\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_query_that_may_attend_to_nothing_gets_no_nan():
    layer, x = theirs(batch_first=True), tokens()
    for blocked in (torch.ones(L, L, dtype=torch.bool), torch.full((L, L), -math.inf, dtype=torch.float64)):
        mask, bias = pytorch.from_masks(blocked)
        output = pytorch.from_torch(layer)(x, mask=mask, bias=bias)
        assert_close(output, layer.out_proj.bias.expand_as(output))
