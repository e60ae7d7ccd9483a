"""The module against loops, ``nn.MultiheadAttention`` and Hugging Face; in training, half precision, graphs."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from attnlib import KVCache, MultiHeadAttention, attention_weights, masks, reference
from attnlib.kernels import explicit
from attnlib.positions import Rotary, T5RelativeBias
from tests.oracles import D_K, D_MODEL, D_V, GROUPED_H, H_KV, B, H, L, NoArithmetic, S, draw
from tests.tolerances import assert_close


def make(num_heads=H, dtype=torch.float64, **options):
    return MultiHeadAttention(num_heads, D_MODEL, D_K, D_V, **options).to(dtype).eval()


def tokens(length=L, dtype=torch.float64):
    return draw(B, length, D_MODEL, dtype=dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Equal to other implementations


@pytest.mark.parametrize("kv_heads", [None, 1, 2, 3])
@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_output_equals_the_loops(kv_heads, crossed, need_weights):
    layer = make(GROUPED_H, num_kv_heads=kv_heads)
    query = tokens()
    key, value = (tokens(S), tokens(S)) if crossed else (None, None)
    mask = masks.causal()
    output = layer(query, key, value, mask, need_weights=need_weights)
    weights = [p.weight.detach().numpy().T for p in (layer.wq, layer.wk, layer.wv, layer.fc)]
    sources = (query, key, value) if crossed else (query, query, query)
    dense = mask.dense(L, S if crossed else L).numpy()
    for b in range(B):
        arrays = [x[b].numpy() for x in sources]
        expected = reference.multi_head_attention(*arrays, *weights, GROUPED_H, dense, num_kv_heads=kv_heads)
        assert_close(output[b].detach(), torch.from_numpy(expected))


def torchs(layer, heads, width):
    """Return ``nn.MultiheadAttention`` with the weights of ``layer``, whose heads are width/heads wide."""
    theirs = nn.MultiheadAttention(width, heads, bias=layer.fc.bias is not None, batch_first=True).to(torch.float64)
    projections = (layer.wq, layer.wk, layer.wv)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.out_proj.weight.copy_(layer.fc.weight)
        if layer.fc.bias is not None:
            theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
            theirs.out_proj.bias.copy_(layer.fc.bias)
    return theirs.eval()


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("crossed", [False, True])
def test_output_and_weights_equal_torchs_module(biased, crossed):
    """Its masks are the opposite: True keeps away."""
    heads, width = 3, 33
    layer = MultiHeadAttention(heads, width, projection_bias=biased).double().eval()
    if biased:
        for projection in (layer.wq, layer.wk, layer.wv, layer.fc):
            nn.init.normal_(projection.bias)
    query = draw(B, L, width)
    key, value = (draw(B, S, width), draw(B, S, width)) if crossed else (query, query)
    keys = key.shape[1]
    lengths = torch.tensor([keys, 3])
    pairs = torch.rand(L, keys) < 0.7
    pairs[:, 0] = True
    output = layer(query, key, value, masks.from_tensor(pairs) & masks.padding(lengths), need_weights=True)
    expected, weights = torchs(layer, heads, width)(
        query,
        key,
        value,
        key_padding_mask=torch.arange(keys) >= lengths[:, None],
        attn_mask=~pairs,
        average_attn_weights=False,
    )
    assert_close(output, expected)
    assert_close(layer.attn, weights.detach())


def test_cross_attention_equals_hugging_faces_bart():
    pytest.importorskip("transformers")
    from transformers import BartConfig
    from transformers.models.bart.modeling_bart import BartAttention

    width, heads = 33, 3
    theirs = BartAttention(width, heads, bias=False, config=BartConfig(attn_implementation="eager")).double().eval()
    layer = MultiHeadAttention(heads, width).double().eval()
    with torch.no_grad():
        for name, projection in (
            ("q_proj", layer.wq),
            ("k_proj", layer.wk),
            ("v_proj", layer.wv),
            ("out_proj", layer.fc),
        ):
            getattr(theirs, name).weight.copy_(projection.weight)
    query, memory = draw(B, L, width), draw(B, S, width)
    expected = theirs(query, key_value_states=memory)[0]
    assert_close(layer(query, memory), expected)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(L, S, dtype=torch.bool).tril(),
        torch.ones(B, L, S, dtype=torch.bool).tril(1),
        (torch.arange(S) < 4).reshape(1, 1, 1, S),
        torch.ones(B, H, L, S, dtype=torch.bool).triu(),
        masks.from_tensor(torch.ones(B, L, S, dtype=torch.bool).tril(1)),
    ],
)
def test_every_form_of_mask_decides_which_weights_are_zero(mask):
    layer = make()
    layer(tokens(), tokens(S), mask=mask, need_weights=True)
    dense = mask.dense(L, S) if isinstance(mask, masks.Mask) else mask
    dense = dense[:, None] if dense.dim() == 3 else dense
    assert torch.equal(layer.attn > 0, dense.expand(B, H, L, S))


def test_a_mask_of_each_examples_pairs_is_not_taken_for_heads():
    """With B = H, a (B, L, S) mask could be read either way."""
    layer = MultiHeadAttention(2, 22).double()
    mask = torch.stack([torch.ones(L, L), torch.eye(L)]).bool()
    layer(draw(2, L, 22), mask=mask, need_weights=True)
    assert torch.equal(layer.attn > 0, mask[:, None].expand(2, 2, L, L))


def test_a_bias_is_added_to_the_scores():
    layer, x = make(), tokens()
    bias = torch.zeros(1, H, 1, L)
    bias[:, 1, :, 2] = 50
    layer(x, bias=bias, need_weights=True)
    assert (layer.attn[:, 1, :, 2] > 0.99).all()
    assert (layer.attn[:, 0, :, 2] < 0.99).all()
    assert_close(layer(x, bias=bias), layer(x, bias=bias, need_weights=True))


def test_one_sequence_without_a_batch():
    layer, x, memory = make(), tokens(), tokens(S)
    assert_close(layer(x[0], mask=masks.causal()), layer(x, mask=masks.causal())[0])
    assert_close(layer(x[0], memory[0]), layer(x, memory)[0])


def test_what_is_left_out_is_filled_in():
    layer, x, memory = make(), tokens(), tokens(S)
    assert torch.equal(layer(x), layer(x, x, x))
    assert torch.equal(layer(x, memory), layer(x, memory, memory))
    assert not torch.allclose(layer(x, memory), layer(x, memory, tokens(S)))


def test_rotary_turns_queries_and_keys_and_not_values():
    rotary = Rotary(12, layout="interleaved")
    layer, x = MultiHeadAttention(2, 24, rotary=rotary).double().eval(), draw(B, L, 24)
    queries, keys, values = (p(x).unflatten(-1, (2, 12)).transpose(1, 2) for p in (layer.wq, layer.wk, layer.wv))
    weights = attention_weights(rotary(queries), rotary(keys), masks.causal())
    expected = layer.fc((weights @ values).transpose(1, 2).flatten(2))
    assert_close(layer(x, mask=masks.causal()), expected)


def test_masking_nothing_changes_nothing():
    layer, x = make(), tokens()
    assert_close(layer(x, mask=masks.padding([L, L])), layer(x))


def test_a_padded_example_equals_itself_without_padding():
    layer, x = make(), tokens()
    assert_close(layer(x, mask=masks.padding([L, 3]))[1, :3], layer(x[1:, :3])[0])


def test_causal_outputs_do_not_depend_on_later_tokens():
    layer, x = make(), tokens()
    later = torch.cat([x[:, :3], tokens(2)], dim=1)
    assert_close(layer(later, mask=masks.causal())[:, :3], layer(x, mask=masks.causal())[:, :3])


def test_examples_do_not_mix():
    layer, x = make(), tokens()
    assert_close(layer(x)[:1], layer(x[:1]))


def test_a_hidden_bad_token_changes_nothing():
    layer, x = make(), tokens()
    memory = tokens(S)
    spoilt = memory.clone()
    spoilt[1, -1] = math.nan
    mask = masks.padding([S, 3])
    for need_weights in (False, True):
        assert_close(layer(x, spoilt, mask=mask, need_weights=need_weights), layer(x, memory, mask=mask))


# ---------------------------------------------------------------------------------------------------------------------
# Sizes and parameters


@pytest.mark.parametrize(("heads", "kv_heads"), [(H, None), (GROUPED_H, H_KV), (GROUPED_H, 1)])
def test_d_k_and_d_v_are_per_head(heads, kv_heads):
    layer = make(heads, num_kv_heads=kv_heads)
    kv_heads = kv_heads or heads
    assert layer.wq.weight.shape == (heads * D_K, D_MODEL)
    assert layer.wk.weight.shape == (kv_heads * D_K, D_MODEL)
    assert layer.wv.weight.shape == (kv_heads * D_V, D_MODEL)
    assert layer.fc.weight.shape == (D_MODEL, heads * D_V)
    if kv_heads == heads:
        assert sum(p.numel() for p in layer.parameters()) == 2 * D_MODEL * heads * (D_K + D_V)


def test_widths_default_to_d_model_over_heads():
    layer = MultiHeadAttention(3, 33)
    assert (layer.num_heads, layer.num_kv_heads, layer.d_model, layer.d_k, layer.d_v) == (3, 3, 33, 11, 11)
    assert layer.dropout == 0.1
    assert sum(p.numel() for p in layer.parameters()) == 4 * 33**2


@pytest.mark.parametrize(("given_size", "widths"), [({"d_k": 2}, (2, 11)), ({"d_v": 2}, (11, 2))])
def test_one_width_alone_may_be_given(given_size, widths):
    layer = MultiHeadAttention(3, 33, **given_size)
    assert (layer.d_k, layer.d_v) == widths


def test_heads_need_not_divide_d_model_when_both_widths_are_given():
    assert MultiHeadAttention(3, 7, 2, 5)(torch.randn(B, L, 7)).shape == (B, L, 7)


def test_a_layer_of_ones_is_a_layer():
    assert MultiHeadAttention(1, 1, 1, 1)(torch.randn(1, 1, 1)).shape == (1, 1, 1)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rotary", [None, Rotary(12)])
def test_the_state_dict_holds_the_projections_and_nothing_else(biased, rotary):
    layer = MultiHeadAttention(2, 24, rotary=rotary, projection_bias=biased)
    layer(torch.randn(B, L, 24), need_weights=True)
    kinds = ("weight", "bias") if biased else ("weight",)
    assert list(layer.state_dict()) == [f"{name}.{kind}" for name in ("wq", "wk", "wv", "fc") for kind in kinds]


def test_projections_have_no_bias_unless_asked_for():
    assert all(p.bias is None for p in (make().wq, make().wk, make().wv, make().fc))


def test_weights_are_drawn_after_glorot_and_biases_are_zero():
    layer = MultiHeadAttention(4, 64, projection_bias=True)
    for projection in (layer.wq, layer.wk, layer.wv, layer.fc):
        bound = math.sqrt(6 / sum(projection.weight.shape))
        assert 0.95 * bound < projection.weight.abs().max() <= bound
        assert not projection.bias.any()


@torch.no_grad()
def test_the_start_of_torchs_module_is_had_as_the_docstring_says():
    theirs, ours = nn.MultiheadAttention(D_MODEL * H, H), MultiHeadAttention(H, D_MODEL * H)
    bounds = [theirs.in_proj_weight.abs().max()] * 3 + [theirs.out_proj.weight.abs().max()]
    projections = ours.wq, ours.wk, ours.wv, ours.fc
    for projection, bound, larger in zip(projections, bounds, (2, 2, 2, 3), strict=True):
        torch.testing.assert_close(projection.weight.abs().max(), bound * larger**0.5, rtol=0.01, atol=0)
    for projection in (ours.wq, ours.wk, ours.wv):
        nn.init.xavier_uniform_(projection.weight, gain=2**-0.5)
    ours.fc.reset_parameters()
    for projection, bound in zip(projections, bounds, strict=True):
        torch.testing.assert_close(projection.weight.abs().max(), bound, rtol=0.01, atol=0)


def test_reset_parameters_draws_anew():
    layer = MultiHeadAttention(4, 64, projection_bias=True)
    before = layer.wq.weight.clone()
    nn.init.ones_(layer.fc.bias)
    layer.reset_parameters()
    assert not torch.equal(layer.wq.weight, before)
    assert not layer.fc.bias.any()


def test_repr_says_the_sizes():
    assert "num_heads=6, num_kv_heads=3, d_k=11, d_v=13" in repr(make(GROUPED_H, num_kv_heads=H_KV))


# ---------------------------------------------------------------------------------------------------------------------
# Weights on request


def test_attn_is_none_until_weights_are_asked_for():
    layer = make()
    assert layer.attn is None
    layer(tokens())
    assert layer.attn is None


def test_weights_are_not_computed_unless_asked_for(monkeypatch):
    layer = make()
    monkeypatch.setattr(explicit, "attend", None)
    layer(tokens())


def test_attn_is_per_head_and_detached():
    layer, x = make(GROUPED_H, num_kv_heads=H_KV), tokens()
    layer(x, mask=masks.causal(), need_weights=True)
    assert layer.attn.shape == (B, GROUPED_H, L, L)
    assert not layer.attn.requires_grad
    queries = layer.wq(x).reshape(B, L, GROUPED_H, D_K).transpose(1, 2)
    keys = layer.wk(x).reshape(B, L, H_KV, D_K).transpose(1, 2).repeat_interleave(2, dim=1)
    assert_close(layer.attn, attention_weights(queries, keys, masks.causal()).detach())


def test_attn_is_before_dropout():
    layer, x = make(dropout=0.5), tokens()
    layer(x, need_weights=True)
    undropped = layer.attn
    layer.train()(x, need_weights=True)
    assert torch.equal(layer.attn, undropped)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask", [None, masks.causal(), masks.padding([L, 0])])
def test_output_is_the_same_with_and_without_weights(dtype, mask):
    layer, x = make(dtype=dtype), tokens(dtype=dtype)
    with_weights = layer(x, mask=mask, need_weights=True)
    assert with_weights.dtype == layer.attn.dtype == dtype
    assert_close(with_weights, layer(x, mask=mask))


# ---------------------------------------------------------------------------------------------------------------------
# Training


def identity_layer(length, dropout):
    """One head whose output is its weights: values and W_O are the identity, tokens one-hot."""
    layer = MultiHeadAttention(1, length, dropout=dropout).double()
    with torch.no_grad():
        layer.wv.weight.copy_(torch.eye(length))
        layer.fc.weight.copy_(torch.eye(length))
    return layer, torch.eye(length).double()[None]


@pytest.mark.parametrize("need_weights", [False, True])
def test_dropout_acts_on_the_weights_in_training(need_weights):
    layer, x = identity_layer(101, dropout=0.3)
    dropped = layer(x, need_weights=need_weights)
    weights = layer.eval()(x)
    kept = dropped != 0
    assert_close(dropped[kept], weights[kept] / 0.7)
    assert kept.double().mean() == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("need_weights", [False, True])
def test_dropout_is_off_in_evaluation(need_weights):
    layer, x = identity_layer(11, dropout=0.9)
    layer.eval()
    assert torch.equal(layer(x, need_weights=need_weights), layer(x, need_weights=need_weights))
    assert_close(layer(x).sum(-1), torch.ones(1, 11).double())


def test_a_padded_examples_gradient_is_that_of_the_example_alone():
    layer, x = make(), tokens()
    layer(x, mask=masks.padding([L, 3]))[1, :3].sum().backward()
    padded = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(x[1:, :3]).sum().backward()
    for parameter, gradient in zip(layer.parameters(), padded, strict=True):
        assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("need_weights", [False, True])
def test_an_example_of_length_zero_gives_no_gradient(need_weights):
    layer, x = make(), tokens()
    output = layer(x, mask=masks.padding([0, 0]), need_weights=need_weights)
    output.sum().backward()
    assert not output.any()
    assert not any(p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("need_weights", [False, True])
def test_gradients_are_those_of_finite_differences(need_weights):
    layer = MultiHeadAttention(2, 3, 2, 1, num_kv_heads=1, rotary=Rotary(2)).double().eval()
    x = draw(1, 3, 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x, mask=masks.causal(), need_weights=need_weights), x)


# ---------------------------------------------------------------------------------------------------------------------
# Where a module must work


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_compute_the_same(duplicate):
    layer, x = MultiHeadAttention(2, 24, rotary=Rotary(12)).double().eval(), draw(B, L, 24)
    layer(x, need_weights=True)
    twin = duplicate(layer)
    assert torch.equal(twin(x), layer(x))
    assert torch.equal(twin.attn, layer.attn)
    assert twin.wq.weight is not layer.wq.weight


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("rotary", [None, Rotary(12)])
def test_autocast_computes_in_half_precision(need_weights, rotary):
    layer, x = MultiHeadAttention(2, 24, rotary=rotary).eval(), torch.randn(B, L, 24)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x, mask=masks.causal(), bias=torch.zeros(L, L), need_weights=need_weights)
        assert not need_weights or layer.attn.dtype == torch.bfloat16
    assert output.dtype == torch.bfloat16
    assert_close(output, layer(x, mask=masks.causal()).bfloat16())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("need_weights", [False, True])
def test_half_precision_is_at_least_as_accurate_as_torchs_module(dtype, need_weights):
    layer = MultiHeadAttention(4, 64).double().eval()
    theirs = torchs(layer, 4, 64)
    x = draw(8, 67, 64).to(dtype)
    exact_layer = copy.deepcopy(layer).to(dtype).double()  # the rounding of the weights is not attention's
    exact = exact_layer(x.double())
    ours = layer.to(dtype)(x, need_weights=need_weights)
    theirs = theirs.to(dtype)(x, x, x, need_weights=need_weights)[0]
    assert (ours - exact).abs().mean() <= (theirs - exact).abs().mean() * 1.01


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("mask", [None, masks.causal() & masks.padding([L, 3])])
def test_compiles_to_one_graph(need_weights, mask):
    torch.compiler.reset()
    layer, x = make(GROUPED_H, num_kv_heads=H_KV), tokens()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x, mask=mask, need_weights=need_weights), layer(x, mask=mask))


def test_compiles_with_rotary_to_one_graph():
    torch.compiler.reset()
    layer, x = MultiHeadAttention(2, 24, rotary=Rotary(12)).double().eval(), draw(B, L, 24)
    compiled = torch.compile(layer, fullgraph=True, backend="eager", dynamic=True)
    assert_close(compiled(x, mask=masks.causal()), layer(x, mask=masks.causal()))


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = MultiHeadAttention(2, 24, rotary=Rotary(12)).double()

    def forward(self, x, lengths):
        return self.layer(x, mask=masks.causal() & masks.padding(lengths))


def test_exports_with_batch_and_length_left_open():
    model = Padded().eval()
    batch, length = torch.export.Dim("batch", min=2), torch.export.Dim("length", min=2)
    example = draw(3, 5, 24), torch.tensor([5, 2, 4])
    program = torch.export.export(model, example, dynamic_shapes=({0: batch, 1: length}, {0: batch}))
    other = draw(2, 11, 24), torch.tensor([11, 7])
    assert_close(program.module()(*other), model(*other))


@pytest.mark.parametrize("kv_heads", [GROUPED_H, 2])
@pytest.mark.parametrize("need_weights", [False, True])
def test_two_halves_of_the_heads_add_up(kv_heads, need_weights):
    """Tensor parallelism: each rank holds half of the rows of wq, wk, wv and of the columns of fc."""
    layer, x = make(GROUPED_H, num_kv_heads=kv_heads), tokens()
    total = 0
    for rank in range(2):
        part = copy.deepcopy(layer)
        for projection in (part.wq, part.wk, part.wv):
            projection.weight = nn.Parameter(projection.weight.chunk(2, dim=0)[rank])
        part.fc.weight = nn.Parameter(part.fc.weight.chunk(2, dim=1)[rank])
        total = total + part(x, mask=masks.causal(), need_weights=need_weights)
    assert_close(total, layer(x, mask=masks.causal()))


# ---------------------------------------------------------------------------------------------------------------------
# Cross-attention that is remembered


@pytest.mark.parametrize("kv_heads", [None, 3])
def test_remembered_keys_are_projected_once(kv_heads, monkeypatch):
    layer, key, value = make(GROUPED_H, num_kv_heads=kv_heads), tokens(S), tokens(S)
    steps = [tokens(1) for _ in range(3)]
    mask = masks.padding([S, 3])
    expected = [layer(x, key, value, mask) for x in steps]
    memory = layer.remember(key, value)
    monkeypatch.setattr(layer.wk, "forward", None)
    monkeypatch.setattr(layer.wv, "forward", None)
    for x, wanted in zip(steps, expected, strict=True):
        assert_close(layer(x, cache=memory, mask=mask), wanted)
        assert len(memory) == S


def test_a_mask_and_a_bias_fit_the_remembered_keys():
    layer, key, x = make(), tokens(S), tokens()
    mask, bias = torch.rand(L, S) < 0.7, draw(L, S)
    assert_close(layer(x, cache=layer.remember(key), mask=mask, bias=bias), layer(x, key, mask=mask, bias=bias))


def test_a_remembered_value_is_the_key_unless_given():
    layer, key, x = make(), tokens(S), tokens()
    assert torch.equal(layer(x, cache=layer.remember(key)), layer(x, key))


def test_an_empty_remembered_sequence_gives_zeros():
    layer = make()
    assert not layer(tokens(), cache=layer.remember(tokens(0))).any()


# ---------------------------------------------------------------------------------------------------------------------
# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_heads": 0}, ValueError, "num_heads: expected at least 1, got 0"),
        ({"num_heads": 2.0}, TypeError, "num_heads: expected a whole number, got float"),
        ({"num_heads": True}, TypeError, "num_heads: expected a whole number, got bool"),
        ({"d_model": -24}, ValueError, "d_model: expected at least 1, got -24"),
        ({"d_model": "24"}, TypeError, "d_model: expected a whole number, got str"),
        ({"num_kv_heads": 0}, ValueError, "num_kv_heads: expected at least 1, got 0"),
        ({"num_kv_heads": 5}, ValueError, "num_kv_heads: expected a divisor of num_heads=3, got 5"),
        ({"num_kv_heads": 2}, ValueError, "num_kv_heads: expected a divisor of num_heads=3, got 2"),
        ({"d_k": 0}, ValueError, "d_k: expected at least 1, got 0"),
        ({"d_v": 0}, ValueError, "d_v: expected at least 1, got 0"),
        ({"d_k": 2.5}, TypeError, "d_k: expected a whole number, got float"),
        ({"d_model": 25}, ValueError, "d_model: expected a multiple of num_heads=3, got 25; or give d_k and d_v"),
        ({"d_model": 25, "d_k": 2}, ValueError, "d_model: expected a multiple of num_heads=3"),
        ({"d_model": 25, "d_v": 2}, ValueError, "d_model: expected a multiple of num_heads=3"),
        ({"dropout": 1.0}, ValueError, r"dropout: expected a probability in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, ValueError, r"dropout: expected .*, got -0.1"),
        ({"dropout": "0"}, TypeError, "dropout: expected a number, got str"),
        ({"rotary": 10_000}, TypeError, "rotary: expected a Rotary, got int"),
        ({"rotary": Rotary(4)}, ValueError, "rotary: expected one of d_k = 8, got 4"),
        (
            {"num_heads": 64, "d_model": 4},
            ValueError,
            r"d_model: expected a multiple of num_heads=64, got 4; the order is \(num_heads, d_model\), not \(embed",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MultiHeadAttention(**{"num_heads": 3, "d_model": 24, **arguments})


def meta(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta")


def true(*shape):
    return meta(*shape, dtype=torch.bool)


GOOD = {"query": meta(B, L, D_MODEL), "key": meta(B, S, D_MODEL)}


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"query": np.zeros((B, L, D_MODEL))}, TypeError, "query: expected a tensor, got ndarray"),
        ({"key": 3}, TypeError, "key: expected a tensor, got int"),
        (
            {"query": meta(B, L, D_MODEL, dtype=torch.long)},
            TypeError,
            "query: expected a floating-point tensor, got torch.int64",
        ),
        ({"key": meta(B, S, D_MODEL).double()}, TypeError, "key: expected query's dtype torch.float32, got .*64"),
        (
            {"value": meta(B, S, D_MODEL, dtype=torch.long)},
            TypeError,
            "value: expected a floating-point tensor, got torch.int64",
        ),
        ({"query": meta(B, L, 5)}, ValueError, r"query: expected \(B, L, d_model = 17\).*, got \(2, 5, 5\)"),
        ({"query": meta(D_MODEL)}, ValueError, r"query: expected .*, got \(17,\)"),
        ({"query": meta(1, B, L, D_MODEL)}, ValueError, r"query: expected .*, got \(1, 2, 5, 17\)"),
        ({"key": meta(B, S, 5)}, ValueError, r"key: expected .*key_width = 17.*, got \(2, 7, 5\)"),
        ({"key": meta(S, D_MODEL)}, ValueError, r"key: expected .*as many axes as query, got \(7, 17\)"),
        ({"key": meta(3, S, D_MODEL)}, ValueError, "key: expected a batch of 2 as in query, got 3"),
        (
            {"value": meta(B, L, D_MODEL)},
            ValueError,
            r"value: expected key's shape \(2, 7\) before its size, got \(2, 5\)",
        ),
        ({"key": None, "value": meta(B, L, D_MODEL)}, ValueError, "key: expected a key beside the value, got None"),
        ({"mask": meta(L, S)}, TypeError, "mask: expected bool, got torch.float32; .*use bias="),
        ({"mask": "causal"}, TypeError, "mask: expected a Mask or a bool tensor, got str"),
        ({"mask": true(B, S)}, ValueError, r"mask: .*got \(2, 7\); for a mask of keys, .* use masks.keys"),
        ({"mask": true(S, L)}, ValueError, r"mask: expected .*got \(7, 5\)"),
        ({"mask": true(H, L, S)}, ValueError, r"mask: expected shape .*\(2, 3, 5, 7\), got \(3, 5, 7\)"),
        ({"mask": true(B, B, L, S)}, ValueError, r"mask: expected shape .*got \(2, 2, 5, 7\)"),
        ({"mask": masks.padding([1, 2, 3])}, ValueError, r"mask: expected shape .*got \(3, 1, 1, 7\)"),
        ({"mask": masks.padding([8, 1])}, ValueError, "lengths: expected at most S=7 keys, got a length of 8"),
        ({"bias": true(L, S)}, TypeError, "bias: expected a floating-point tensor, got torch.bool"),
        ({"bias": meta(H, L, S)}, ValueError, r"bias: expected shape .*got \(3, 5, 7\)"),
        ({"cache": ()}, TypeError, "cache: expected a KVCache, or what remember.* made, got tuple"),
    ],
)
def test_errors_name_the_argument_before_any_arithmetic(wrong, error, message, need_weights):
    layer = make(dtype=torch.float32)
    with NoArithmetic(), pytest.raises(error, match=message):
        layer(**{**GOOD, **wrong}, need_weights=need_weights)


def test_rotary_positions_are_for_self_attention():
    layer = MultiHeadAttention(2, 24, rotary=Rotary(12))
    query, key = torch.randn(B, L, 24), torch.randn(B, S, 24)
    with NoArithmetic(), pytest.raises(ValueError, match=r"key: rotary positions are for self-attention; .*= 5, got 7"):
        layer(query, key)


def test_a_dropout_that_was_changed_is_checked_again():
    layer = make()
    layer.dropout = 1.5
    with pytest.raises(ValueError, match=r"dropout: expected a probability in \[0, 1\), got 1.5"):
        layer(tokens())


def test_a_cache_of_another_batch_is_refused():
    layer, cache = make(), KVCache()
    layer(tokens(), cache=cache)
    with pytest.raises(ValueError, match=r"cache: expected the batch \(3,\) of query, got \(2,\)"):
        layer(draw(3, 1, D_MODEL), cache=cache)
    with pytest.raises(ValueError, match=r"cache: expected the batch \(3,\) of query, got \(2,\)"):
        layer(draw(3, 1, D_MODEL), cache=layer.remember(tokens(S)))


def test_a_growing_cache_is_for_self_attention():
    """The keys beside it are those of the new tokens; an encoder's are remembered instead."""
    layer, cache = make(), KVCache()
    query, key = tokens(L), tokens(S)
    with NoArithmetic(), pytest.raises(ValueError, match=r"key: expected the 5 tokens .*got 7; .*remember\(\)"):
        layer(query, key, cache=cache)
    assert len(cache) == 0


@pytest.mark.parametrize("given_keys", [{"key": tokens(S)}, {"value": tokens(S)}])
def test_a_remembered_cache_takes_no_keys(given_keys):
    layer = make()
    memory, narrow = layer.remember(tokens(S)), draw(B, L, 2)
    with NoArithmetic(), pytest.raises(ValueError, match=rf"query: expected .* got \({B}, {L}, 2\)"):
        layer(narrow, cache=memory)
    with pytest.raises(ValueError, match=r"key: expected none beside a cache that remember\(\) made"):
        layer(tokens(), cache=memory, **given_keys)


def test_remember_refuses_what_forward_refuses():
    layer = make()
    with pytest.raises(ValueError, match=r"value: expected key's shape \(2, 7\) before its size, got \(2, 5\)"):
        layer.remember(tokens(S), tokens(L))
    with pytest.raises(ValueError, match="key: rotary positions are for self-attention"):
        MultiHeadAttention(2, 24, rotary=Rotary(12)).remember(torch.randn(B, S, 24))


# ---------------------------------------------------------------------------------------------------------------------
# Who watches the projections


def _watched_by(kind, layer, seen):
    """Let ``seen`` grow at each call of a projection, in one of the ways that torch has for it."""
    match kind:
        case "forward hook":
            return layer.register_forward_hook(lambda *_: seen.append(1)).remove
        case "forward pre-hook":
            return layer.register_forward_pre_hook(lambda *_: seen.append(1)).remove
        case "backward hook":
            return layer.register_full_backward_hook(lambda *_: seen.append(1)).remove
        case "backward pre-hook":
            return layer.register_full_backward_pre_hook(lambda *_: seen.append(1)).remove
        case "hook of all modules":
            hook = lambda module, *_: seen.append(1) if module is layer else None  # noqa: E731
            return nn.modules.module.register_module_forward_hook(hook).remove
        case "replaced forward":
            forward = layer.forward
            layer.forward = lambda x: seen.append(1) or forward(x)
        case "compiled call":
            layer.compile(backend="eager")
            compiled = layer._compiled_call_impl
            layer._compiled_call_impl = lambda x: seen.append(1) or compiled(x)
        case "parametrization":

            class Doubled(nn.Module):
                def forward(self, weight):
                    seen.append(1)
                    return weight

            nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
            seen.clear()
    return lambda: None


@pytest.mark.parametrize("projection", ["wq", "wk", "wv", "fc"])
@pytest.mark.parametrize(
    "kind",
    [
        "forward hook",
        "forward pre-hook",
        "backward hook",
        "backward pre-hook",
        "hook of all modules",
        "replaced forward",
        "compiled call",
        "parametrization",
    ],
)
def test_what_watches_a_projection_is_called(kind, projection):
    torch.compiler.reset()
    layer, x, seen = MultiHeadAttention(2, 8), torch.randn(1, 3, 8, requires_grad=True), []
    expected = layer.eval()(x)
    remove = _watched_by(kind, getattr(layer, projection), seen)
    output = layer(x)
    output.sum().backward()
    remove()
    assert seen
    torch.testing.assert_close(output, expected)


def test_a_projection_may_be_another_module():
    class Doubling(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer, x = MultiHeadAttention(2, 8).eval(), torch.randn(1, 3, 8)
    expected = 2 * layer(x)
    doubling = Doubling(8, 8, bias=False)
    doubling.load_state_dict(layer.fc.state_dict())
    layer.fc = doubling
    torch.testing.assert_close(layer(x), expected)


# ---------------------------------------------------------------------------------------------------------------------
# Projections of every kind: they are called, and nothing is read from them


def by_hand(layer, x):
    """Call the projections as modules, and compute what stands between them in plain torch."""
    queries, keys, values = (p(x).unflatten(-1, (2, 4)).transpose(-3, -2) for p in (layer.wq, layer.wk, layer.wv))
    heads = torch.softmax(queries @ keys.mT / 2, dim=-1) @ values
    return layer.fc(heads.transpose(-3, -2).flatten(-2))


def replica(net):
    """Return what DataParallel makes of a module for each device: its parameters are plain attributes."""
    made = {module: module._replicate_for_data_parallel() for module in net.modules()}
    for module, twin in made.items():
        twin._modules.update({name: made[child] for name, child in module._modules.items() if child is not None})
        for name, parameter in module._parameters.items():
            if parameter is None:
                twin._parameters[name] = None
            else:
                setattr(twin, name, parameter * 1)
    return made[net]


def plain_tensor(layer):
    for projection in (layer.wq, layer.wk, layer.wv, layer.fc):
        weight = projection.weight.detach().clone()
        del projection.weight
        projection.weight = weight
    return layer


def buffer(layer):
    for projection in (layer.wq, layer.wk, layer.wv, layer.fc):
        weight = projection.weight.detach().clone()
        del projection.weight
        projection.register_buffer("weight", weight)
    return layer


@pytest.mark.parametrize("changed", [replica, plain_tensor, buffer])
def test_a_weight_need_not_be_a_parameter(changed):
    layer, x = MultiHeadAttention(2, 8).eval(), torch.randn(3, 5, 8)
    expected = by_hand(layer, x)
    assert_close(changed(layer)(x), expected)


@pytest.mark.filterwarnings("ignore:FSDP is switching:UserWarning")
def test_a_layer_may_be_sharded():
    """FSDP's default keeps each weight as a view of one flat parameter, which is no parameter of the projection."""
    from torch import distributed
    from torch.distributed.fsdp import FullyShardedDataParallel

    layer, x = MultiHeadAttention(2, 8, dropout=0.0), torch.randn(3, 5, 8)
    expected = by_hand(layer, x)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        sharded = FullyShardedDataParallel(layer, device_id=torch.device("cpu"))
        output = sharded(x)
        assert_close(output, expected)
        output.sum().backward()
        assert all(p.grad.any() for p in sharded.parameters())
    finally:
        distributed.destroy_process_group()


class LoRA(nn.Module):
    """A wrapper without an attribute ``weight``, as text books write it."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.down, self.up = nn.Linear(linear.in_features, 2), nn.Linear(2, linear.out_features)

    def forward(self, x):
        return self.linear(x) + self.up(self.down(x))


class Int8(nn.Linear):
    """Weights that are stored as whole numbers, and widened when they are used."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype) / 127)


class CastsToItsInput(nn.Linear):
    """Whisper's: the weights stay in float32, and are used in the dtype of the tokens."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype))


def int8(linear):
    linear.__class__ = Int8
    linear.weight = nn.Parameter((linear.weight * 127).to(torch.int8), requires_grad=False)
    return linear


def float8(linear):
    linear.__class__ = CastsToItsInput
    linear.weight = nn.Parameter(linear.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    return linear


def layerwise_casting(linear):
    """Stored in half precision, and widened by a hook before each call."""
    linear.bfloat16()
    linear.register_forward_pre_hook(lambda module, args: module.float() and None)
    linear.register_forward_hook(lambda module, args, output: module.bfloat16() and None)
    return linear


def casts_to_its_input(linear):
    linear.__class__ = CastsToItsInput
    return linear.double()


@pytest.mark.parametrize("name", ["wq", "wk", "wv", "fc", "all"])
@pytest.mark.parametrize("change", [LoRA, int8, float8, layerwise_casting, casts_to_its_input])
def test_a_projection_may_store_its_weight_as_it_likes(change, name):
    layer, x = MultiHeadAttention(2, 8).eval(), torch.randn(3, 5, 8)
    for each in ("wq", "wk", "wv", "fc") if name == "all" else (name,):
        setattr(layer, each, change(getattr(layer, each)))
    output = layer(x, need_weights=True)
    assert output.dtype == torch.float32
    assert_close(output, by_hand(layer, x))
    assert_close(layer(x, cache=KVCache()), output)
    assert_close(layer(x, cache=layer.remember(x)), output)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_layer_may_be_quantised():
    layer, x = MultiHeadAttention(2, 8).eval(), torch.randn(3, 5, 8)
    quantised = torch.ao.quantization.quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8)
    assert_close(quantised(x), by_hand(quantised, x))
    assert not torch.equal(quantised(x), layer(x))


def test_a_patched_linear_is_heeded(monkeypatch):
    layer, x = MultiHeadAttention(2, 8).eval(), torch.randn(3, 5, 8)
    unpatched = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 2 * unpatched(self, x))
    assert_close(layer(x), by_hand(layer, x))
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: unpatched(self, x) * 0)
    assert not layer(x).any()


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_dtype_that_does_not_fit_is_named(need_weights):
    layer, cache = MultiHeadAttention(2, 8).eval(), KVCache()
    layer(torch.randn(1, 2, 8), cache=cache, need_weights=True)
    weights = layer.attn
    x = torch.randn(1, 3, 8).double()
    with pytest.raises(TypeError, match=r"query: expected the layer's dtype torch.float32, got torch.float64") as error:
        layer(x, cache=cache, need_weights=need_weights)
    assert isinstance(error.value.__cause__, RuntimeError)  # torch's own
    assert len(cache) == 2
    assert layer.attn is weights
    with pytest.raises(TypeError, match=r"key: expected the layer's dtype torch.float32, got torch.float64"):
        layer.remember(x)
    layer.wv.double()
    with pytest.raises(TypeError, match=r"value: expected the layer's dtype torch.float64, got torch.float32"):
        layer(x.float(), cache=cache, need_weights=need_weights)
    assert len(cache) == 2


@pytest.mark.parametrize("error", [RuntimeError("of another kind"), torch.OutOfMemoryError("no room")])
def test_an_error_of_another_kind_is_passed_on(error):
    def fails(*_):
        raise error

    layer = MultiHeadAttention(2, 8)
    layer.wq.bfloat16().register_forward_pre_hook(fails)
    with pytest.raises(type(error)) as caught:
        layer(torch.randn(1, 3, 8))
    assert caught.value is error


# ---------------------------------------------------------------------------------------------------------------------
# Where a layer is made


@pytest.mark.parametrize("biased", [False, True])
def test_a_layer_is_made_in_the_dtype_and_on_the_device_it_is_told(biased):
    layer = MultiHeadAttention(2, 24, rotary=Rotary(12), projection_bias=biased, device="cpu", dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert layer(draw(B, L, 24)).dtype == torch.float64
    assert {p.dtype for p in MultiHeadAttention(2, 24).parameters()} == {torch.float32}


def test_a_layer_on_the_meta_device_gets_its_weights_later():
    """torch's convention: nothing is stored at first, then there is room, then reset_parameters() fills it."""
    layer = MultiHeadAttention(2, 8, projection_bias=True, device="meta", dtype=torch.bfloat16)
    assert all(p.is_meta and p.dtype == torch.bfloat16 for p in layer.parameters())
    assert layer(meta(B, L, 8, dtype=torch.bfloat16)).shape == (B, L, 8)
    torch.manual_seed(0)
    filled = layer.to_empty(device="cpu")
    filled.reset_parameters()
    torch.manual_seed(0)
    expected = MultiHeadAttention(2, 8, projection_bias=True, dtype=torch.bfloat16)
    expected.reset_parameters()  # after nn.Linear's own, which drew first
    torch.manual_seed(0)
    expected.reset_parameters()
    assert all(torch.equal(a, b) for a, b in zip(filled.parameters(), expected.parameters(), strict=True))
    other = MultiHeadAttention(2, 8, projection_bias=True, device="meta")
    other.load_state_dict(expected.state_dict(), assign=True)
    x = torch.randn(B, L, 8).bfloat16()
    assert torch.equal(other.eval()(x), expected.eval()(x))


# ---------------------------------------------------------------------------------------------------------------------
# Jagged tensors


def jagged(*lengths, layout=torch.jagged):
    return torch.nested.nested_tensor([draw(length, 8) for length in lengths], layout=layout)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")  # torch's own kernel makes one
def test_jagged_sequences_attend_each_to_itself():
    layer, x, key = MultiHeadAttention(2, 8).double().eval(), jagged(5, 2, 3), jagged(1, 7, 4)
    for output, one in zip(layer(x).unbind(), x.unbind(), strict=True):
        assert_close(output, layer(one))
    for output, one, memory in zip(layer(x, key).unbind(), x.unbind(), key.unbind(), strict=True):
        assert_close(output, layer(one, memory))


@pytest.mark.parametrize(
    ("beside", "name"),
    [
        ({"mask": masks.causal()}, "mask"),
        ({"mask": masks.padding([5, 2, 3])}, "mask"),
        ({"mask": torch.ones(5, 5, dtype=torch.bool)}, "mask"),
        ({"bias": torch.zeros(5, 5)}, "bias"),
        ({"cache": KVCache()}, "cache"),
        ({"need_weights": True}, "need_weights"),
    ],
)
def test_what_torch_has_for_padded_tensors_only_is_refused(beside, name):
    layer = MultiHeadAttention(2, 8).double()
    wanted = rf"query: expected a padded tensor beside {name}, got a jagged one; use .*to_padded_tensor\(query, 0.0\)"
    with pytest.raises(TypeError, match=wanted):
        layer(jagged(5, 2, 3), **beside)


def test_jagged_tensors_are_refused_by_rotary_positions_and_where_they_are_remembered():
    with pytest.raises(TypeError, match="query: expected a padded tensor beside rotary, got a jagged one"):
        MultiHeadAttention(2, 8, rotary=Rotary(4)).double()(jagged(5, 2))
    with pytest.raises(TypeError, match="key: expected a padded tensor beside remember, got a jagged one"):
        MultiHeadAttention(2, 8).double().remember(jagged(5, 2))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (lambda: (jagged(5, 2, layout=torch.strided),), "query: .*layout=torch.jagged .*, got a nested torch.strided"),
        (lambda: (jagged(5, 2), draw(2, 4, 8)), "key: .*layout=torch.jagged .*, got a padded torch.strided"),
        (lambda: (draw(2, 4, 8), jagged(5, 2)), "key: .*layout=torch.jagged .*, got a nested torch.jagged"),
    ],
)
def test_other_nested_tensors_are_refused(inputs, message):
    with pytest.raises(TypeError, match=message):
        MultiHeadAttention(2, 8).double()(*inputs())


# ---------------------------------------------------------------------------------------------------------------------
# A cache of another layer


@pytest.mark.parametrize("made", [lambda layer, x: layer.remember(x), lambda layer, x: written_by(layer, x)])
def test_a_cache_of_another_layer_is_refused(made):
    """Of the same size, it would be read as if it were the layer's own."""
    layer, other, x = MultiHeadAttention(2, 8), MultiHeadAttention(2, 8), torch.randn(1, 3, 8)
    cache = made(other, x)
    before = cache.key.clone()
    with pytest.raises(ValueError, match=r"cache: expected this layer's own, got that of another layer; .*\(\)"):
        layer(x, cache=cache)
    assert torch.equal(cache.key, before)
    other(x, cache=cache)


def written_by(layer, x):
    cache = KVCache()
    layer(x, cache=cache)
    return cache


def test_a_call_that_failed_does_not_make_a_cache_a_layers_own():
    layer, other, x, cache = MultiHeadAttention(2, 8), MultiHeadAttention(2, 8), torch.randn(1, 3, 8), KVCache()
    with pytest.raises(TypeError, match="query: expected the layer's dtype"):
        other(x.double(), cache=cache)
    layer(x, cache=cache)
    assert len(cache) == 3


def test_keys_that_no_layer_wrote_may_be_continued_by_one():
    """As in prefix tuning."""
    layer, other, x, cache = MultiHeadAttention(2, 8).eval(), MultiHeadAttention(2, 8), torch.randn(1, 3, 8), KVCache()
    cache.append(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4))
    layer(x, cache=cache)
    with pytest.raises(ValueError, match="cache: expected this layer's own"):
        other(x, cache=cache)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("order", [1, -1])
def test_a_layer_copied_with_its_cache_goes_on(duplicate, order):
    layer, x = MultiHeadAttention(2, 8).double().eval(), draw(1, 5, 8)
    with torch.no_grad():
        cache = written_by(layer, x[:, :4])
        twin, twins_cache = duplicate((layer, cache)[::order])[::order]
        output = twin(x[:, 4:], mask=masks.causal(), cache=twins_cache)
    assert_close(output, layer(x, mask=masks.causal())[:, 4:])
    assert len(cache) == 4


def test_a_compiled_layer_goes_on_with_the_cache_of_the_layer():
    torch.compiler.reset()
    layer, x, cache = MultiHeadAttention(2, 8).double().eval(), draw(1, 5, 8), KVCache()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    with torch.no_grad():
        steps = [(layer, compiled)[i % 2](x[:, i : i + 1], mask=masks.causal(), cache=cache) for i in range(5)]
    assert_close(torch.cat(steps, dim=1), layer(x, mask=masks.causal()))


# ---------------------------------------------------------------------------------------------------------------------
# Padding beside a cache that grows


PROMPTS = [5, 3]


@pytest.mark.parametrize("also", [[], [masks.causal()], [masks.causal(), masks.sliding_window(4)]])
def test_lengths_of_the_prompts_are_refused_beside_new_tokens(also):
    """They would close the new tokens, which follow the padding, to themselves and to each other."""
    layer, cache = MultiHeadAttention(2, 8), KVCache()
    mask = masks.padding(PROMPTS)
    for other in also:
        mask = other & mask
    layer(torch.randn(2, 5, 8), mask=mask, cache=cache)
    wanted = (
        r"mask: expected a length of more than the 5 cached keys, .* got lengths of at most 5; pad .* ~masks.padding"
    )
    with pytest.raises(ValueError, match=wanted):
        layer(torch.randn(2, 1, 8), mask=mask, cache=cache)
    assert len(cache) == 5


def test_prompts_padded_on_the_left_go_on_as_each_alone():
    """The way that the error names."""
    layer, prompts, new = MultiHeadAttention(2, 8).double().eval(), draw(2, 5, 8), draw(2, 2, 8)
    mask, cache = masks.causal() & ~masks.padding([5 - length for length in PROMPTS]), KVCache()
    layer(prompts, mask=mask, cache=cache)
    steps = torch.cat([layer(new[:, i : i + 1], mask=mask, cache=cache) for i in range(2)], dim=1)
    for b, length in enumerate(PROMPTS):
        alone = torch.cat([prompts[b, 5 - length :], new[b]])
        assert_close(steps[b], layer(alone, mask=masks.causal())[length:])


def test_a_padded_batch_may_be_read_in_parts():
    """Some examples end before the last part; the longest does not."""
    layer, x, cache = MultiHeadAttention(2, 8).double().eval(), draw(2, 7, 8), KVCache()
    mask = masks.causal() & masks.padding([7, 3])
    parts = [layer(x[:, :4], mask=masks.causal() & masks.padding([4, 3]), cache=cache)]
    parts.append(layer(x[:, 4:], mask=mask, cache=cache))
    whole = layer(x, mask=mask)
    assert_close(torch.cat(parts, dim=1)[0], whole[0])
    assert_close(parts[0][1, :3], whole[1, :3])


def test_a_mask_that_opens_the_new_tokens_again_is_taken():
    layer, x, cache = MultiHeadAttention(2, 8).double().eval(), draw(2, 6, 8), KVCache()
    mask = masks.causal() & (masks.padding([5, 3]) | ~masks.padding([5, 5]))
    layer(x[:, :5], mask=masks.causal() & masks.padding([5, 3]), cache=cache)
    output = layer(x[:, 5:], mask=mask, cache=cache)
    real = x[1, [0, 1, 2, 5]]
    assert_close(output[1], layer(real, mask=masks.causal())[-1:])


# ---------------------------------------------------------------------------------------------------------------------
# A memory that no longer fits


def test_a_memory_from_before_a_change_of_dtype_is_refused():
    layer = MultiHeadAttention(2, 8).eval()
    memory = layer.remember(torch.randn(1, 7, 8))
    with pytest.raises(TypeError, match=r"key: expected query's dtype torch.float64, got torch.float32"):
        layer.double()(torch.randn(1, 3, 8).double(), cache=memory)


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (lambda: MultiHeadAttention(2, 8, d_k=3), ValueError, "key: expected d_k = 4 as in query, got 3"),
        (lambda: MultiHeadAttention(2, 8).double(), TypeError, "key: expected query's dtype torch.float32"),
        (lambda: MultiHeadAttention(4, 8, d_k=4, num_kv_heads=4), ValueError, "key: expected a number of heads"),
    ],
)
def test_a_memory_that_does_not_fit_is_refused(other, error, message):
    other = other().eval()
    memory = copy.deepcopy(other.remember(torch.randn(1, 7, 8, dtype=other.wq.weight.dtype)))
    with pytest.raises(error, match=message):
        MultiHeadAttention(2, 8).eval()(torch.randn(1, 3, 8), cache=memory)


def test_rotary_must_fit_the_heads():
    with pytest.raises(TypeError, match="rotary: expected a Rotary, got int"):
        MultiHeadAttention(2, 8, rotary=4)
    with pytest.raises(ValueError, match="rotary: expected one of d_k = 4, got 16"):
        MultiHeadAttention(2, 8, rotary=Rotary(16))
    module = MultiHeadAttention(2, 8, rotary=Rotary(4))
    with pytest.raises(ValueError, match=r"key: rotary positions are for self-attention; expected S = 3, got 5"):
        module(torch.randn(1, 3, 8), torch.randn(1, 5, 8))


# ---------------------------------------------------------------------------------------------------------------------
# What models ask for beside the paper's layer: biases by name, another scale, norms, other widths


@pytest.mark.parametrize("names", [("wq", "wk", "wv"), ["fc"], {"wq", "wv", "fc"}, ()])
def test_biases_by_name(names):
    layer = make(projection_bias=names)
    assert {name for name in ("wq", "wk", "wv", "fc") if getattr(layer, name).bias is not None} == set(names)


def test_a_scale_of_ones_own():
    """T5's layer does not scale: the same as queries that are √d_k times as large."""
    t5, paper = make(scale=1.0), make()
    paper.load_state_dict(t5.state_dict())
    with torch.no_grad():
        paper.wq.weight.mul_(D_K**0.5)
    x = tokens()
    assert_close(t5(x, mask=masks.causal()), paper(x, mask=masks.causal()))
    t5(x, need_weights=True), paper(x, need_weights=True)
    assert_close(t5.attn, paper.attn)


@pytest.mark.parametrize("turned", [False, True])
def test_norms_of_queries_and_keys_are_qwen3s(turned):
    """Against Hugging Face's Qwen3Attention, rotary positions after the norms, with its weights."""
    from transformers.models.qwen3 import modeling_qwen3 as qwen3

    d_k, d_model = 8, 20
    config = qwen3.Qwen3Config(
        hidden_size=d_model, num_attention_heads=6, num_key_value_heads=2, head_dim=d_k, attn_implementation="eager",
        layer_types=["full_attention"], num_hidden_layers=1,
    )  # fmt: skip
    theirs = qwen3.Qwen3Attention(config, layer_idx=0).double().eval()
    norm = lambda size: nn.RMSNorm(size, eps=config.rms_norm_eps)  # noqa: E731
    rotary = Rotary(d_k, base=config.rope_parameters["rope_theta"]) if turned else None
    ours = MultiHeadAttention(6, d_model, d_k, d_k, 0.0, num_kv_heads=2, qk_norm=norm, rotary=rotary).double().eval()
    with torch.no_grad():
        mine = (ours.wq, ours.wk, ours.wv, ours.fc, ours.q_norm, ours.k_norm)
        others = (theirs.q_proj, theirs.k_proj, theirs.v_proj, theirs.o_proj, theirs.q_norm, theirs.k_norm)
        for module, other in zip(mine, others, strict=True):
            module.weight.copy_(other.weight.uniform_(-1, 1))
    x, angles = draw(B, L, d_model), torch.zeros(B, L, d_k).double()
    turns = qwen3.Qwen3RotaryEmbedding(config)(x, torch.arange(L)[None]) if turned else (angles.cos(), angles.sin())
    allowed = torch.zeros(L, L).double().masked_fill(~masks.causal().dense(L, L), -torch.inf)[None, None]
    expected = theirs(x, tuple(t.double() for t in turns), allowed)[0]
    # Their angles are float32.
    torch.testing.assert_close(ours(x, mask=masks.causal()), expected, rtol=1e-5, atol=1e-6)
    cache = KVCache()
    steps = [ours(token, mask=masks.causal(), cache=cache) for token in x.split(1, dim=1)]
    assert_close(torch.cat(steps, dim=1), ours(x, mask=masks.causal()))
    assert {"q_norm.weight", "k_norm.weight"} < set(ours.state_dict())


def test_keys_and_values_of_another_width_are_torchs():
    theirs = nn.MultiheadAttention(33, 3, kdim=7, vdim=13, bias=False, batch_first=True).double().eval()
    ours = MultiHeadAttention(3, 33, key_width=7, value_width=13).double().eval()
    with torch.no_grad():
        for mine, other in zip(
            (ours.wq, ours.wk, ours.wv, ours.fc),
            (theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight, theirs.out_proj.weight),
            strict=True,
        ):
            mine.weight.copy_(other)
    query, key, value = draw(B, L, 33), draw(B, S, 7), draw(B, S, 13)
    expected, weights = theirs(query, key, value, average_attn_weights=False)
    assert_close(ours(query, key, value, need_weights=True), expected)
    assert_close(ours.attn, weights)
    assert_close(ours(query, cache=ours.remember(key, value)), expected)


def test_a_memory_of_another_width_serves_as_keys_and_values():
    layer, query, memory = make(key_width=11), tokens(), draw(B, S, 11)
    assert (layer.wk.in_features, layer.wv.in_features) == (11, 11)
    assert_close(layer(query, memory), layer(query, memory, memory))
    assert_close(layer(query, cache=layer.remember(memory)), layer(query, memory))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make(projection_bias=("wq", "wo")), ValueError, "projection_bias: expected names among .* got 'wo'"),
        (lambda: make(projection_bias="wq"), TypeError, r"projection_bias: expected a bool, or names .* got 'wq'"),
        (lambda: make(projection_bias=1), TypeError, "projection_bias: expected a bool, or names .* got 1"),
        (lambda: make(scale=math.inf), ValueError, "scale: expected a finite number, got inf"),
        (lambda: make(scale="1"), TypeError, "scale: expected a number, got str"),
        (lambda: make(key_width=0), ValueError, "key_width: expected at least 1, got 0"),
        (lambda: make(key_width=11)(tokens()), ValueError, "key: expected one of key_width = 11, since query has 17"),
        (lambda: make(key_width=11)(tokens(), tokens()), ValueError, r"key: expected \(B, L, key_width = 11\)"),
        (lambda: make(value_width=11)(tokens(), tokens()), ValueError, r"value: expected \(B, L, value_width = 11\)"),
    ],
)
def test_what_a_layer_cannot_be_made_of(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_is_asked_for_is_made_on_the_device_and_of_the_dtype():
    layer = MultiHeadAttention(2, 8, qk_norm=nn.RMSNorm, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.bfloat16)}
    assert len(list(layer.parameters())) == 6


@pytest.mark.parametrize("decoder", [False, True])
def test_a_t5_layer_is_hugging_faces(decoder):
    """No scale, no biases in the projections, and a learned bias by the distance, given from outside."""
    from transformers.models.t5 import modeling_t5 as t5

    config = t5.T5Config(d_model=17, d_kv=5, num_heads=3, is_decoder=decoder, attn_implementation="eager")
    theirs = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0).double().eval()
    ours = MultiHeadAttention(3, 17, 5, 5, scale=1.0).double().eval()
    relative = T5RelativeBias(3, bidirectional=not decoder).double()
    with torch.no_grad():
        mine = (ours.wq, ours.wk, ours.wv, ours.fc, relative)
        others = (theirs.q, theirs.k, theirs.v, theirs.o, theirs.relative_attention_bias)
        for module, other in zip(mine, others, strict=True):
            module.weight.copy_(other.weight.normal_())
    x = draw(B, L, 17)
    mask = masks.causal() if decoder else None
    added = None if mask is None else torch.zeros(L, L).double().masked_fill(~mask.dense(L, L), -1e300)[None, None]
    assert_close(ours(x, mask=mask, bias=relative(L)), theirs(x, mask=added)[0])
