"""The backend of Transformers: caches, masks of the caller's own, training, graphs, and what it refuses."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, StaticCache

from attnlib import masks, record_attention, recording
from attnlib.interop import huggingface
from attnlib.interop.huggingface import backend
from attnlib.interop.huggingface.backend import attend
from attnlib.interop.huggingface.capped import capped_attention
from attnlib.interop.huggingface.carrier import StructuredMask
from tests.interop.architectures import ARCHITECTURES, LENGTH, VOCABULARY, B
from tests.interop.test_huggingface_architectures import CLOSE, difference
from tests.oracles import dense_attention, draw, draw_qkv, loops
from tests.tolerances import assert_close

huggingface.register()

SLIDING = 5  # the window of the table's models


def row(name):
    return next(row for row in ARCHITECTURES if row.name == name)


def pair(name, **options):
    """Return one model twice: as eager computes it, and as attnlib does."""
    return row(name).make("eager", **options), row(name).make("attnlib", **options)


def tokens(length=LENGTH, batch=B):
    return torch.randint(3, VOCABULARY, (batch, length))


def logits(model, *args, **kwargs):
    with torch.no_grad():
        return model(*args, **kwargs).logits


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert difference(found, expected) <= CLOSE


# ---------------------------------------------------------------------------------------------------------------------
# Registering


def test_it_is_registered_for_attention_and_for_masks():
    """With the first alone Transformers makes no masks, and padding is lost in silence."""
    assert AttentionInterface()["attnlib"] is attend
    assert "attnlib" in AttentionMaskInterface()


def test_another_name_works_and_is_recorded():
    huggingface.register("another_attnlib")
    model = row("llama").make("another_attnlib")
    with record_attention(model) as record:
        model(tokens())
    assert len(record) == 2


@pytest.mark.parametrize("name", ["flash_attnlib", "my_sdpa", "flex_attention", "eager", "paged|attnlib", "a/b", ""])
def test_a_name_that_means_another_backend_is_refused(name):
    with pytest.raises(ValueError, match="name: expected one that stands for a backend of its own, got"):
        huggingface.register(name)


def test_a_name_that_another_backend_has_is_refused():
    AttentionInterface.register("taken_by_a_test", attend)
    with pytest.raises(ValueError, match="name: expected one that is free, got 'taken_by_a_test'"):
        huggingface.register("taken_by_a_test")
    with pytest.raises(TypeError, match="name: expected a string, got int"):
        huggingface.register(3)


def test_a_version_that_was_not_tested_warns_once(monkeypatch):
    monkeypatch.setattr(backend, "_warned", False)
    monkeypatch.setattr(backend.transformers, "__version__", "5.99.1")
    with pytest.warns(UserWarning, match=r"tested with transformers 5\.23, not with 5\.99\.1") as seen:
        huggingface.register()
    assert [warning.filename for warning in seen] == [__file__]
    huggingface.register()  # a warning would be an error here


def test_a_version_that_was_tested_does_not_warn(monkeypatch):
    monkeypatch.setattr(backend, "_warned", False)
    monkeypatch.setattr(backend.transformers, "__version__", "5.23.9")
    huggingface.register()


def test_a_missing_transformers_names_the_extra_to_install():
    code = "import sys; sys.modules['transformers'] = None; from attnlib.interop import huggingface"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        "ImportError: attnlib.interop.huggingface needs transformers: pip install 'attnlib[huggingface]'" in run.stderr
    )


# ---------------------------------------------------------------------------------------------------------------------
# One call of a layer, against NumPy's loops


class Layer(nn.Module):
    """What the backend may ask of a layer."""

    is_causal = True
    num_key_value_groups = 7  # of no use: shapes say it


def call(query, key, value, mask=None, module=None, **options):
    """Return one call's output, (B, H, L, d_v)."""
    return attend(module or Layer(), query, key, value, mask, **options)[0].transpose(1, 2)


@pytest.fixture
def qkv():
    """Grouped heads, and d_k ≠ d_v; as many queries as keys."""
    return draw_qkv(B, heads=(6, 3), lengths=(7, 7))


def test_the_output_has_the_heads_behind_the_tokens_and_lies_in_one_piece(qkv):
    output, weights = attend(Layer(), *qkv, None)
    assert output.shape == (B, 7, 6, 13)
    assert output.is_contiguous()
    assert weights is None


@pytest.mark.parametrize(("by_module", "by_keyword", "causal"), [
    (True, None, True), (False, None, False), (True, False, False), (False, True, True),
])  # fmt: skip
def test_without_a_mask_the_keyword_decides_then_the_module(qkv, by_module, by_keyword, causal):
    module = Layer()
    module.is_causal = by_module
    allowed = torch.ones(7, 7, dtype=torch.bool)
    assert_close(call(*qkv, module=module, is_causal=by_keyword), loops(*qkv, allowed.tril() if causal else allowed))


def test_a_module_that_does_not_say_is_causal(qkv):
    assert_close(call(*qkv, module=nn.Module()), loops(*qkv, torch.ones(7, 7, dtype=torch.bool).tril()))


@pytest.mark.parametrize("is_causal", [True, False, None])
def test_beside_a_mask_is_causal_says_nothing(qkv, is_causal):
    mask = torch.rand(B, 1, 7, 7) < 0.6
    assert_close(call(*qkv, mask, is_causal=is_causal), loops(*qkv, mask))


def test_queries_that_are_causal_without_a_mask_among_more_keys_are_refused():
    query, key, value = draw_qkv(B, lengths=(3, 7))
    with pytest.raises(ValueError, match="attention_mask: expected one where L = 3 queries are causal over S = 7 keys"):
        call(query, key, value)
    call(query[..., :1, :], key, value)
    call(query, key, value, is_causal=False)


def test_a_float_mask_is_added_and_learns(qkv):
    mask = draw(B, 6, 7, 7, requires_grad=True)
    output = call(*qkv, mask)
    assert_close(output.detach(), loops(*qkv, bias=mask.detach()))
    output.sum().backward()
    assert mask.grad.abs().sum() > 0


def test_the_smallest_number_closes_and_minus_infinity_too(qkv):
    allowed = (torch.rand(B, 1, 7, 7) < 0.6) | torch.eye(7, dtype=torch.bool)
    expected = loops(*qkv, allowed)
    for closed in (torch.finfo(torch.float64).min, -torch.inf):
        assert_close(call(*qkv, torch.zeros(B, 1, 7, 7).double().masked_fill(~allowed, closed)), expected)


def test_position_bias_and_a_float_mask_add_up(qkv):
    bias, mask = draw(1, 6, 7, 7), draw(B, 1, 7, 7)
    assert_close(call(*qkv, mask, position_bias=bias), loops(*qkv, bias=bias + mask))


def test_position_bias_beside_a_bool_mask_and_beside_none(qkv):
    bias, mask = draw(1, 6, 7, 7), torch.rand(B, 1, 7, 7) < 0.6
    assert_close(call(*qkv, mask, position_bias=bias), loops(*qkv, mask, bias=bias))
    causal = torch.ones(7, 7, dtype=torch.bool).tril()
    assert_close(call(*qkv, position_bias=bias), loops(*qkv, causal, bias=bias))


def test_the_scale_is_as_given(qkv):
    causal = torch.ones(7, 7, dtype=torch.bool).tril()
    assert_close(call(*qkv, scaling=0.7), loops(*qkv, causal, scale=0.7))


def test_the_window_of_a_layer_is_information(qkv):
    """What it closes stands in the mask already; the caller's own mask may open more."""
    mask = torch.ones(B, 1, 7, 7, dtype=torch.bool)
    assert_close(call(*qkv, mask, sliding_window=2), loops(*qkv, mask))


@pytest.mark.parametrize("name", ["indices", "block_indices", "sinks", "cache", "something_new"])
def test_what_is_not_known_is_refused(qkv, name):
    with pytest.raises(TypeError, match=f'{name}: expected nothing .* use attn_implementation="eager"'):
        call(*qkv, **{name: torch.zeros(1)})


def test_what_is_not_known_and_none_is_nothing(qkv):
    assert_close(call(*qkv, sinks=None, something_new=None), call(*qkv))


def test_what_says_nothing_changes_nothing(qkv):
    assert_close(call(*qkv, **dict.fromkeys(backend.SAY_NOTHING, 3)), call(*qkv))


def carried(structure, keys, shape):
    return StructuredMask.of(structure, keys, lambda: torch.zeros(shape), shape, torch.device("cpu"))


def test_keys_that_are_not_written_yet_are_not_read():
    query, key, value = draw_qkv(B, lengths=(3, 7))
    mask, bias = carried(masks.causal(), 5, (B, 1, 3, 7)), draw(1, 3, 3, 7)
    key[..., 5:, :] = value[..., 5:, :] = bias[..., 5:] = torch.nan
    expected = loops(query, key[..., :5, :], value[..., :5, :], masks.causal().dense(3, 5), bias=bias[..., :5])
    assert_close(call(query, key, value, mask, position_bias=bias), expected)


def test_a_mask_for_other_keys_is_refused(qkv):
    with pytest.raises(ValueError, match="attention_mask: expected S = 7 keys, got 5"):
        call(*qkv, carried(masks.causal(), 5, (B, 1, 7, 5)))


def test_one_row_of_queries_serves_the_batch(qkv):
    query, key, value = qkv
    expected = loops(query[:1].expand(B, -1, -1, -1), key, value)
    assert_close(call(query[:1], key, value, is_causal=False), expected)


def test_dropout_acts_on_the_weights():
    """Values that are unit vectors show the weights: each is dropped, or doubled."""
    query, key, _ = draw_qkv(1, lengths=(7, 7))
    value = torch.eye(7, dtype=torch.float64).expand(1, 3, 7, 7)
    exact = call(query, key, value, is_causal=False)
    for options in ({}, {"softcap": 100.0}, {"s_aux": torch.zeros(3).double()}):
        plain = call(query, key, value, is_causal=False, **options)
        found = call(query, key, value, is_causal=False, dropout=0.5, **options) / plain
        assert set(found.round(decimals=9).unique().tolist()) == {0.0, 2.0}
    assert_close(exact.sum(-1), torch.ones(1, 3, 7).double())


def test_weights_are_returned_when_they_are_asked_for(qkv):
    _, weights = attend(Layer(), *qkv, None, output_attentions=True)
    value = torch.eye(7).double().expand(B, 3, 7, 7)
    assert_close(weights, call(*qkv[:2], value))


def test_mixed_dtypes_under_autocast_become_one():
    query, key, value = draw_qkv(B, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = call(query, key, value.bfloat16(), is_causal=False)
    assert output.dtype == torch.bfloat16
    assert (output.float() - loops(query, key, value)).abs().max() < 0.03
    double = draw_qkv(B)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert call(*double, is_causal=False).dtype == torch.float64


@pytest.mark.parametrize("mask", ["none", "window", "float"])
def test_bfloat16_is_no_worse_than_twice_sdpa(mask):
    query, key, value = (x.bfloat16() for x in draw_qkv(1, lengths=(300, 300)))
    exact = [x.double() for x in (query, key, value)]
    window = masks.causal() & masks.sliding_window(50)
    given, allowed = None, masks.causal().dense(300, 300)
    if mask == "window":
        given, allowed = carried(window, 300, (1, 1, 300, 300)), window.dense(300, 300)
    if mask == "float":
        given = torch.zeros(1, 1, 300, 300).bfloat16().masked_fill(~allowed, torch.finfo(torch.bfloat16).min)
    expected = dense_attention(*exact, allowed, scale=11**-0.5)
    theirs = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    error, their_error = ((x.double() - expected).abs().max() for x in (call(query, key, value, given), theirs))
    assert error <= 2 * their_error


# ---------------------------------------------------------------------------------------------------------------------
# A soft cap, and sinks


def capped_loops(query, key, value, allowed, bias, scale, softcap, sinks):
    """The output, one query at a time, in the order of Transformers: cap, bias, mask, one more logit, softmax."""
    output = np.zeros((*query.shape[:3], value.shape[-1]))
    group = query.shape[1] // key.shape[1]
    for b, h, i in np.ndindex(*query.shape[:3]):
        scores = key[b, h // group].numpy() @ query[b, h, i].numpy() * scale
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        scores = np.where(allowed[b, 0, i].numpy(), scores + bias[0, h, i].numpy(), -np.inf)
        if sinks is not None:
            scores = np.append(scores, sinks[h].item())
        if np.isinf(scores).all():
            continue
        powers = np.exp(scores - scores.max())
        weights = (powers / powers.sum())[: key.shape[2]]
        output[b, h, i] = weights @ value[b, h // group].numpy()
    return torch.from_numpy(output)


@pytest.mark.parametrize(("softcap", "with_sinks"), [(0.7, False), (None, True), (0.7, True)])
def test_a_soft_cap_and_sinks_equal_the_loops(qkv, softcap, with_sinks):
    bias, sinks = draw(1, 6, 7, 7), draw(6) if with_sinks else None
    allowed = torch.rand(B, 1, 7, 7) < 0.6
    allowed[0, 0, 2] = False  # a query that may attend to nothing
    expected = capped_loops(*qkv, allowed, bias, 0.3, softcap, sinks)
    found = call(*qkv, allowed, position_bias=bias, scaling=0.3, softcap=softcap, s_aux=sinks)
    assert_close(found, expected)


def test_a_soft_cap_and_sinks_can_be_differentiated():
    query, key, value = draw_qkv(1, heads=(2, 1), lengths=(3, 5), requires_grad=True)
    sinks, bias = draw(2, requires_grad=True), draw(1, 2, 3, 5, requires_grad=True)
    mask = masks.causal() & masks.sliding_window(2)

    def function(query, key, value, sinks, bias):
        return capped_attention(query, key, value, mask, bias=bias, softcap=0.7, sinks=sinks)[0]

    assert torch.autograd.gradcheck(function, (query, key, value, sinks, bias))


def test_a_query_that_may_attend_to_nothing_gives_no_nan_under_a_soft_cap(qkv):
    tensors = [x.requires_grad_() for x in qkv]
    output, weights = capped_attention(*tensors, torch.zeros(7, 7, dtype=torch.bool), softcap=2.0)
    assert not output.any()
    assert not weights.any()
    output.sum().backward()
    assert all(not x.grad.any() for x in tensors)


@pytest.mark.parametrize("options", [{"softcap": 2.0}, {"sinks": torch.zeros(3, dtype=torch.float64)}])
@pytest.mark.parametrize("place", [0, 1])
def test_a_number_that_is_not_finite_reaches_no_other_query_under_a_soft_cap_and_sinks(options, place):
    """In a key or a value that is closed it changes nothing; who may attend to it gets NaN."""
    query, key, value = (torch.randn(2, 3, 5, 7, dtype=torch.float64) for _ in range(3))
    expected, _ = capped_attention(query, key, value, masks.causal(), **options)
    (key, value)[place][0, 1, 3] = torch.nan
    found, _ = capped_attention(query, key, value, masks.causal(), **options)
    assert_close(found[:, :, :3], expected[:, :, :3])
    assert found[0, 1, 3:].isnan().all()
    assert_close(found[1], expected[1])


def test_wrong_caps_and_sinks_are_refused(qkv):
    with pytest.raises(ValueError, match="softcap: expected a number above 0, got 0"):
        capped_attention(*qkv, softcap=0)
    with pytest.raises(ValueError, match=r"sinks: expected one for each of H = 6 heads, got \(3,\)"):
        capped_attention(*qkv, sinks=torch.zeros(3))


# ---------------------------------------------------------------------------------------------------------------------
# Caches. The oracle is eager without a cache: all tokens at once


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3_text", "gpt_oss", "llama4_text"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("chunks", [(8, 1, 1, 1), (3, 4, 1, 3)])
def test_tokens_that_come_in_chunks_beside_a_cache(name, kind, chunks):
    """A prompt longer than the window and one that is shorter, then several new tokens, then one at a time."""
    eager, model = pair(name)
    x, padding = tokens(sum(chunks)), torch.ones(B, sum(chunks), dtype=torch.int64)
    padding[0, :2] = 0
    places = (padding.cumsum(-1) - 1).clamp(min=0)
    expected = logits(eager, x, attention_mask=padding, position_ids=places)
    cache = DynamicCache(config=model.config) if kind == "dynamic" else StaticCache(model.config, max_cache_len=17)
    found, start = [], 0
    for size in chunks:
        end = start + size
        options = {"attention_mask": padding[:, :end], "position_ids": places[:, start:end]}
        found.append(logits(model, x[:, start:end], past_key_values=cache, use_cache=True, **options))
        start = end
    real = padding.bool()
    assert_same(torch.cat(found, 1)[real], expected[real])


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt_oss", "llama4_text", "bart", "t5"])
@pytest.mark.parametrize("prompt", [3, LENGTH])
@torch.no_grad()
def test_generation_beside_a_cache_of_a_fixed_size(name, prompt):
    eager, model = pair(name)
    inputs = {key: x[:, -prompt:] for key, x in row(name).inputs().items() if key != "decoder_input_ids"}
    inputs["attention_mask"][:] = 1
    inputs["attention_mask"][0, 0] = 0
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    expected = eager.generate(**inputs, **options)
    assert torch.equal(model.generate(**inputs, **options, cache_implementation="static"), expected)


@torch.no_grad()
def test_generation_by_beams():
    eager, model = pair("mistral")
    options = {**row("mistral").inputs(), "max_new_tokens": 6, "num_beams": 3, "do_sample": False}
    assert torch.equal(model.generate(**options), eager.generate(**options))


# ---------------------------------------------------------------------------------------------------------------------
# Masks: padding on either side and with holes, packed sequences, the caller's own


@pytest.mark.parametrize("name", ["llama", "mistral", "bert", "modernbert"])
@pytest.mark.parametrize("side", ["left", "right", "holes", "none"])
def test_padding(name, side):
    eager, model = pair(name)
    padding = torch.ones(B, LENGTH, dtype=torch.int64)
    if side != "none":
        padding[0, {"left": slice(0, 3), "right": slice(-3, None), "holes": slice(2, 9, 3)}[side]] = 0
    inputs = {"input_ids": tokens(), "attention_mask": padding}
    with torch.no_grad():
        found, expected = (m(**inputs)[0][padding.bool()] for m in (model, eager))
    assert_same(found, expected)


def test_a_query_in_the_padding_spreads_no_nan():
    model = row("llama").make("attnlib")
    padding = torch.ones(B, LENGTH, dtype=torch.int64)
    padding[0, :3] = 0
    output = model(tokens(), attention_mask=padding).logits
    output.sum().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3_text"])
def test_packed_sequences_do_not_see_each_other(name):
    """Each alone is the oracle."""
    eager, model = pair(name)
    x, lengths = tokens(13, 1), (4, 7, 2)
    places = torch.cat([torch.arange(n) for n in lengths])[None]
    found = logits(model, x, position_ids=places, use_cache=False)
    expected = torch.cat([logits(eager, part, use_cache=False) for part in x.split(lengths, 1)], 1)
    assert_same(found, expected)


@pytest.mark.parametrize("name", ["llama", "mistral"])
@pytest.mark.parametrize("kind", ["bool", "float", "bias"])
def test_the_callers_own_mask_of_four_axes(name, kind):
    """It may open what the model's window closes."""
    eager, model = pair(name)
    allowed = (torch.rand(B, 1, LENGTH, LENGTH) < 0.6) | torch.eye(LENGTH, dtype=torch.bool)
    numbers = torch.zeros(B, 1, LENGTH, LENGTH).masked_fill(~allowed, torch.finfo(torch.float32).min)
    if kind == "bias":
        numbers = torch.randn(B, 1, LENGTH, LENGTH)
    x = tokens()
    found = logits(model, x, attention_mask=allowed if kind == "bool" else numbers)
    assert_same(found, logits(eager, x, attention_mask=numbers))


@pytest.mark.parametrize("by", ["configuration", "call"])
def test_a_decoder_that_looks_both_ways(by):
    options = {"is_causal": False} if by == "configuration" else {}
    eager, model = pair("mistral", **options)
    x, extra = tokens(), {"is_causal": False} if by == "call" else {}
    assert_same(logits(model, x, **extra), logits(eager, x, **extra))
    changed = x.clone()
    changed[:, 3] = (x[:, 3] - 2) % (VOCABULARY - 3) + 3
    assert not torch.equal(logits(model, changed, **extra)[:, 0], logits(model, x, **extra)[:, 0])


# ---------------------------------------------------------------------------------------------------------------------
# Training


def gradients(model, inputs):
    model.zero_grad()
    torch.manual_seed(3)
    loss = model(**inputs, labels=inputs["input_ids"]).loss
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_checkpointing_changes_no_gradient(name, reentrant):
    model = row(name).make("attnlib", attention_dropout=0.3).train()
    inputs = row(name).inputs()
    expected = gradients(model, inputs)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    with record_attention(model) as record:
        found = gradients(model, inputs)
    assert [len(record.calls(name)) for name in record] == [2, 2]  # the backward pass calls each layer again
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-6)


def test_dropout_is_on_in_training_only():
    model = row("llama").make("attnlib", attention_dropout=0.5)
    x = tokens()
    assert torch.equal(logits(model, x), logits(model, x))
    model.train()
    assert not torch.equal(logits(model, x), logits(model, x))


def test_autocast():
    eager, model = pair("mistral")
    inputs = row("mistral").inputs()
    real = inputs["attention_mask"].bool()
    expected = logits(eager, **inputs)[real]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, theirs = (logits(m, **inputs)[real].float() for m in (model, eager))
    assert difference(found, expected) <= 2 * difference(theirs, expected)


# ---------------------------------------------------------------------------------------------------------------------
# Compiled


@pytest.mark.parametrize("name", ["mistral", "bert", "gpt_oss"])
def test_a_compiled_model_is_one_graph(name):
    torch.compiler.reset()
    eager, model = pair(name)
    inputs = row(name).inputs()
    real = inputs["attention_mask"].bool()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found, expected = (m(**inputs)[0][real] for m in (compiled, eager))
    assert_same(found.detach(), expected.detach())
    for answer in (found, expected):
        answer.mul(torch.linspace(-1, 1, answer.numel()).view(answer.shape)).sum().backward()
    for p, q in zip(model.parameters(), eager.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4 * q.grad.abs().max().item() + 1e-6)


@torch.no_grad()
def test_generation_by_a_compiled_step_beside_a_cache_of_a_fixed_size():
    """The masks are made outside of the graph."""
    torch.compiler.reset()
    eager, model = pair("mistral")
    options = {**row("mistral").inputs(), "max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    expected = eager.generate(**options)
    model.forward = torch.compile(model.forward, fullgraph=True, backend="aot_eager")
    assert torch.equal(model.generate(**options, cache_implementation="static"), expected)


# ---------------------------------------------------------------------------------------------------------------------
# Recording


def test_recorded_weights_have_their_layers_names_and_outputs_stay_the_same():
    eager, model = pair("llama")
    x = tokens()
    expected = logits(model, x)
    with record_attention(model) as record:
        assert torch.equal(logits(model, x), expected)
    assert list(record) == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    with torch.no_grad():
        theirs = eager(x, output_attentions=True).attentions
    for found, weights in zip(record.values(), theirs, strict=True):
        torch.testing.assert_close(found, weights, atol=1e-6, rtol=1e-4)


def test_recording_changes_no_gradient_and_no_draw():
    model = row("llama").make("attnlib", attention_dropout=0.3).train()
    inputs = row("llama").inputs()
    expected = gradients(model, inputs)
    after = torch.rand(3)
    with record_attention(model):
        found = gradients(model, inputs)
        assert torch.equal(torch.rand(3), after)
    assert all(torch.equal(found[key], gradient) for key, gradient in expected.items())


def test_generation_is_recorded_step_by_step():
    model = row("mistral").make("attnlib")
    with record_attention(model) as record, torch.no_grad():
        model.generate(tokens(7, 1), max_new_tokens=3, min_new_tokens=3, do_sample=False)
    shapes = [tuple(weights.shape[-2:]) for weights in record.calls("model.layers.0.self_attn")]
    # The cache of a layer with a window keeps its window only, the new token among it.
    assert shapes == [(7, 7), (1, SLIDING), (1, SLIDING)]


def test_nothing_is_left_after_the_block_and_a_copy_is_not_recorded():
    model = row("llama").make("attnlib")
    with record_attention(model) as record:
        twin = copy.deepcopy(model)
        twin(tokens())
        assert len(record) == 0
        assert recording.is_watched(model.model.layers[0].self_attn)
    assert not any(recording.is_watched(module) for module in model.modules())


def test_a_model_on_another_backend_is_refused():
    with (
        pytest.raises(
            ValueError,
            match=r"model: expected one that attends by attnlib, got LlamaForCausalLM; .*attn_implementation='attnlib'",
        ),
        record_attention(row("llama").make("eager")),
    ):
        pass


def test_a_compiled_model_is_recorded():
    torch.compiler.reset()
    model = row("llama").make("attnlib")
    compiled, x = torch.compile(model, backend="eager"), tokens()
    with record_attention(compiled) as record:
        compiled(x)
    assert list(record) == ["model.layers.0.self_attn", "model.layers.1.self_attn"]


def test_a_model_that_never_asks_keeps_its_own_attention_and_recording_says_so():
    from transformers import FalconConfig, FalconModel

    sizes = {"vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = FalconConfig(**sizes)
    model = FalconModel(copy.deepcopy(config))
    model.set_attn_implementation("attnlib")
    assert model.config._attn_implementation != "attnlib"
    with (
        pytest.raises(ValueError, match="expected one that attends by attnlib, got FalconModel"),
        record_attention(model),
    ):
        pass
    config._attn_implementation = "attnlib"
    with pytest.raises(KeyError, match="attnlib"):
        FalconModel(config)


def test_a_model_made_with_the_name_that_never_asks_is_not_recorded():
    """Nothing else tells: what it gives equals eager's."""
    from transformers import DebertaV2Config, DebertaV2Model

    sizes = {"vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = DebertaV2Config(**sizes, intermediate_size=20, pooler_hidden_size=24, attn_implementation="attnlib")
    model = DebertaV2Model(config)
    assert model.config._attn_implementation == "attnlib"
    with (
        pytest.raises(ValueError, match="expected one that attends by attnlib, got DebertaV2Model"),
        record_attention(model),
    ):
        pass
