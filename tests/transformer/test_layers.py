"""The layers against torch.nn, Hugging Face, and a layer written in NumPy."""

import warnings
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from attnlib import KVCache, MultiHeadAttention, masks, reference
from attnlib.positions import Rotary
from attnlib.scores import Scores
from attnlib.transformer import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    FeedForward,
    GatedFeedForward,
    LanguageModel,
    LayerCache,
    Residual,
)
from tests.oracles import NoArithmetic, draw
from tests.tolerances import assert_close
from tests.transformer.peers import (
    D_FF,
    D_MODEL,
    SIZES,
    B,
    H,
    L,
    N,
    S,
    copy_layer,
    copy_to_hugging_face,
    layer_gradients,
    random_weights,
)

LENGTHS = [L, 3]
MASKS = {
    "none": None,
    "causal": masks.causal(),
    "padding": masks.padding(LENGTHS),
    "causal & padding": masks.causal() & masks.padding(LENGTHS),
    "window": masks.sliding_window(2),
}


def float_mask(mask, rows, columns, heads=H):
    """A mask as torch.nn and Hugging Face want it: numbers added to the scores, (B, H, L, S)."""
    if mask is None:
        return None
    allowed = mask.dense(rows, columns).broadcast_to(B, heads, rows, columns)
    return torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, -torch.inf)


def stacked(mask, rows, columns):
    mask = float_mask(mask, rows, columns)
    return None if mask is None else mask.flatten(0, 1)


@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_an_encoder_layer_is_torchs_forward_and_backward(mask, norm_first):
    ours = random_weights(EncoderLayer(**SIZES, norm_first=norm_first))
    theirs = nn.TransformerEncoderLayer(D_MODEL, H, D_FF, 0.0, batch_first=True, norm_first=norm_first).double()
    copy_layer(ours, theirs)
    x, direction = draw(B, L, D_MODEL), draw(B, L, D_MODEL)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = ours(mine, mask), theirs(other, src_mask=stacked(mask, L, L))
    assert_close(y, expected)
    y.backward(direction)
    expected.backward(direction)
    assert_close(mine.grad, other.grad)
    for _, gradient, other_gradient in layer_gradients(ours, theirs):
        assert_close(gradient, other_gradient)


@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("memory_lengths", [None, [S, 4]], ids=["whole memory", "padded memory"])
@pytest.mark.parametrize("mask", [masks.causal(), masks.causal() & masks.padding(LENGTHS)], ids=["causal", "padded"])
def test_a_decoder_layer_is_torchs_forward_and_backward(mask, memory_lengths, norm_first):
    ours = random_weights(DecoderLayer(**SIZES, norm_first=norm_first))
    theirs = nn.TransformerDecoderLayer(D_MODEL, H, D_FF, 0.0, batch_first=True, norm_first=norm_first).double()
    copy_layer(ours, theirs)
    memory_mask = None if memory_lengths is None else masks.padding(memory_lengths)
    inputs = draw(B, L, D_MODEL), draw(B, S, D_MODEL)
    mine, other = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    y = ours(*mine, mask=mask, memory_mask=memory_mask)
    expected = theirs(*other, tgt_mask=stacked(mask, L, L), memory_mask=stacked(memory_mask, L, S))
    assert_close(y, expected)
    direction = draw(B, L, D_MODEL)
    y.backward(direction)
    expected.backward(direction)
    for a, b in zip(mine, other, strict=True):
        assert_close(a.grad, b.grad)
    for _, gradient, other_gradient in layer_gradients(ours, theirs):
        assert_close(gradient, other_gradient)


def test_a_memory_of_the_texts_length_is_not_taken_for_the_text():
    """With other lengths, such a mistake would be an error of sizes, and say nothing of the numbers."""
    ours = random_weights(DecoderLayer(**SIZES))
    theirs = nn.TransformerDecoderLayer(D_MODEL, H, D_FF, 0.0, batch_first=True).double()
    copy_layer(ours, theirs)
    x, memory = draw(B, L, D_MODEL), draw(B, L, D_MODEL)
    assert_close(ours(x, memory, mask=masks.causal()), theirs(x, memory, tgt_mask=stacked(masks.causal(), L, L)))


def hugging_face(name):
    """Return their config, their encoder layer and their decoder layer, of Marian or of Bart."""
    config = getattr(pytest.importorskip("transformers"), f"{name}Config")
    layers = import_module(f"transformers.models.{name.lower()}.modeling_{name.lower()}")
    return config, getattr(layers, f"{name}EncoderLayer"), getattr(layers, f"{name}DecoderLayer")


def config_of(kind):
    return kind(
        d_model=D_MODEL, encoder_attention_heads=H, decoder_attention_heads=H, encoder_ffn_dim=D_FF,
        decoder_ffn_dim=D_FF, activation_function="relu", dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        attn_implementation="eager",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["Marian", "Bart"])
def test_an_encoder_layer_is_hugging_faces(name):
    config, encoder_layer, _ = hugging_face(name)
    ours = random_weights(EncoderLayer(**SIZES))
    theirs = encoder_layer(config_of(config)).double().eval()
    copy_to_hugging_face(ours, theirs)
    x, mask = draw(B, L, D_MODEL), masks.padding(LENGTHS)
    expected = theirs(x, attention_mask=float_mask(mask, L, L))
    assert_close(ours(x, mask), expected[0] if isinstance(expected, tuple) else expected)


@pytest.mark.parametrize("name", ["Marian", "Bart"])
def test_a_decoder_layer_is_hugging_faces(name):
    config, _, decoder_layer = hugging_face(name)
    ours = random_weights(DecoderLayer(**SIZES))
    theirs = decoder_layer(config_of(config), layer_idx=0).double().eval()
    copy_to_hugging_face(ours, theirs)
    x, memory = draw(B, L, D_MODEL), draw(B, S, D_MODEL)
    mask, memory_mask = masks.causal(), masks.padding([S, 4])
    expected = theirs(
        x,
        attention_mask=float_mask(mask, L, L),
        encoder_hidden_states=memory,
        encoder_attention_mask=float_mask(memory_mask, L, S),
    )
    assert_close(ours(x, memory, mask, memory_mask), expected[0] if isinstance(expected, tuple) else expected)


# ---------------------------------------------------------------------------------------------------------------------
# d_k and d_v of their own: no peer has them


def normed(x, norm):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    weight, bias = (parameter.detach().numpy() for parameter in (norm.weight, norm.bias))
    return (x - mean) / np.sqrt(variance + norm.eps) * weight + bias


def in_numpy(layer, x, memory=None):
    """A layer on one example, post-norm: attention by the loops of the reference."""

    def attend(attention, x, source, mask=None):
        matrices = [getattr(attention, name).weight.detach().numpy().T for name in ("wq", "wk", "wv", "fc")]
        return reference.multi_head_attention(x, source, source, *matrices, num_heads=attention.num_heads, mask=mask)

    causal = np.tril(np.ones((len(x), len(x)), dtype=bool))
    if memory is None:
        x = normed(x + attend(layer.self_attention, x, x), layer.attention_residual.norm)
    else:
        x = normed(x + attend(layer.self_attention, x, x, causal), layer.self_attention_residual.norm)
        x = normed(x + attend(layer.cross_attention, x, memory), layer.cross_attention_residual.norm)
    first, _, second = layer.feed_forward
    (w1, b1), (w2, b2) = ([p.detach().numpy() for p in (linear.weight, linear.bias)] for linear in (first, second))
    hidden = np.maximum(0, x @ w1.T + b1)
    return normed(x + hidden @ w2.T + b2, layer.feed_forward_residual.norm)


def test_an_encoder_layer_with_d_k_and_d_v_of_its_own():
    layer = random_weights(EncoderLayer(d_model=17, num_heads=3, d_k=11, d_v=13, d_ff=29))
    assert (layer.self_attention.d_k, layer.self_attention.d_v) == (11, 13)
    x = draw(B, L, 17)
    for example, output in zip(x, layer(x), strict=True):
        assert_close(output.detach(), torch.from_numpy(in_numpy(layer, example.numpy())))


def test_a_decoder_layer_with_d_k_and_d_v_of_its_own():
    layer = random_weights(DecoderLayer(d_model=17, num_heads=3, d_k=11, d_v=13, d_ff=29))
    for attention in (layer.self_attention, layer.cross_attention):
        assert (attention.d_k, attention.d_v) == (11, 13)
    x, memory = draw(B, L, 17), draw(B, S, 17)
    for example, source, output in zip(x, memory, layer(x, memory, masks.causal()), strict=True):
        assert_close(output.detach(), torch.from_numpy(in_numpy(layer, example.numpy(), source.numpy())))


# ---------------------------------------------------------------------------------------------------------------------
# Dropout, where the paper has it


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_residual_drops_the_sublayers_output_only(norm_first):
    residual = Residual(D_MODEL, 0.5, norm_first).double()
    residual.norm = nn.Identity()  # so that the sum can be read
    x, added = draw(B, L, D_MODEL), draw(B, L, D_MODEL).abs() + 1
    added_in_training = residual.train()(x, lambda x: added) - x
    kept = added_in_training.abs() > 0.5
    assert 0.3 < kept.double().mean() < 0.7
    assert_close(added_in_training[kept], 2 * added[kept])
    assert_close(residual.eval()(x, lambda x: added), x + added)


@pytest.mark.parametrize("layer", [EncoderLayer(**SIZES, dropout=0.5), DecoderLayer(**SIZES, dropout=0.5)])
def test_weights_and_hidden_units_are_not_dropped(layer):
    layer = layer.double().train()
    x, memory = draw(B, L, D_MODEL), draw(B, S, D_MODEL)
    assert torch.equal(layer.self_attention(x), layer.self_attention(x))
    assert torch.equal(layer.feed_forward(x), layer.feed_forward(x))
    if isinstance(layer, DecoderLayer):
        assert torch.equal(layer.cross_attention(x, memory), layer.cross_attention(x, memory))
    rates = [module.p for module in layer.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.5] * (3 if isinstance(layer, DecoderLayer) else 2)


# ---------------------------------------------------------------------------------------------------------------------
# The cache


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("chunks", [[1, 1, 1, 1, 1], [2, 3], [5]])
def test_a_decoder_layer_with_a_cache_is_the_layer_without(chunks, norm_first):
    layer = random_weights(DecoderLayer(**SIZES, norm_first=norm_first))
    x, memory, memory_mask = draw(B, L, D_MODEL), draw(B, S, D_MODEL), masks.padding([S, 4])
    cache = layer.remember(memory)
    parts = [layer(part, mask=masks.causal(), memory_mask=memory_mask, cache=cache) for part in x.split(chunks, dim=1)]
    assert_close(torch.cat(parts, dim=1), layer(x, memory, masks.causal(), memory_mask))
    assert (len(cache.past), len(cache.memory)) == (L, S)


def test_a_layer_takes_plain_tokens():
    encoder_layer, decoder_layer = random_weights(EncoderLayer(**SIZES)), random_weights(DecoderLayer(**SIZES))
    x, memory = draw(1, L, D_MODEL), draw(1, S, D_MODEL)
    assert_close(encoder_layer(x[0]), encoder_layer(x)[0])
    assert_close(decoder_layer(x[0], memory[0]), decoder_layer(x, memory)[0])


# ---------------------------------------------------------------------------------------------------------------------
# Errors

X, MEMORY, WIDER = torch.zeros(B, L, D_MODEL), torch.zeros(B, S, D_MODEL), torch.zeros(B, L, 22)
LONG = masks.padding([S + 1, 1])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X[..., :20], "memory": MEMORY}, ValueError, r"x: expected \(B, L, d_model = 21\).*got \(2, 5, 20\)"),
        ({"x": X.numpy(), "memory": MEMORY}, TypeError, "x: expected a tensor, got ndarray"),
        ({"x": X, "memory": MEMORY[..., :20]}, ValueError, r"memory: expected .*got \(2, 7, 20\)"),
        ({"x": X, "memory": MEMORY[:1]}, ValueError, r"memory: expected the batch \(2,\) of x, got \(1,\)"),
        ({"x": X, "memory": MEMORY, "mask": X}, TypeError, "mask: expected bool, got torch.float32"),
        ({"x": X, "memory": MEMORY, "memory_mask": LONG}, ValueError, "lengths: expected at most S=7 keys"),
        ({"x": X}, ValueError, "memory: expected either memory or a cache made by remember\\(\\), got neither"),
        ({"x": X, "memory": MEMORY, "cache": (KVCache(), KVCache())}, ValueError, "got both"),
        ({"x": X, "cache": (KVCache(), KVCache())}, TypeError, "cache: expected one made by remember\\(\\), got tuple"),
        ({"x": X, "cache": LayerCache(KVCache(), KVCache())}, TypeError, "cache: expected a KVCache beside a Memory"),
        ({"x": X, "memory": MEMORY[0, 0]}, ValueError, r"memory: expected .*got \(21,\)"),
        (
            {"x": X.double(), "memory": MEMORY},
            TypeError,
            "x: expected the layer's dtype torch.float32, got torch.float64",
        ),
        ({"x": X, "memory": MEMORY.double()}, TypeError, "memory: expected the layer's dtype torch.float32"),
        ({"x": X, "memory": MEMORY.to("meta")}, ValueError, "memory: expected x's device cpu, got meta"),
    ],
)
def test_a_decoder_layers_errors_come_before_any_arithmetic(arguments, error, message, norm_first):
    layer = DecoderLayer(**SIZES, norm_first=norm_first)
    with NoArithmetic(), pytest.raises(error, match=message):
        layer(**arguments)


@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_layers_errors_come_before_any_arithmetic(norm_first):
    for call in (EncoderLayer(**SIZES, norm_first=norm_first), Encoder(1, **SIZES, norm_first=norm_first)):
        with NoArithmetic(), pytest.raises(ValueError, match=r"x: expected \(B, L, d_model = 21\)"):
            call(WIDER)
        with pytest.raises(TypeError, match="x: expected a tensor, got list"):
            call(X.tolist())
        wrong = torch.ones(B, L, dtype=torch.bool)
        with NoArithmetic(), pytest.raises(ValueError, match=r"mask: expected .*got \(2, 5\); for a mask of keys"):
            call(X, wrong)


def test_an_error_leaves_the_cache_as_it_was():
    layer = DecoderLayer(**SIZES)
    cache = layer.remember(MEMORY)
    with pytest.raises(ValueError, match="lengths"):
        layer(X, mask=masks.causal(), memory_mask=LONG, cache=cache)
    with pytest.raises(TypeError, match="memory_mask: expected bool"):
        layer(X, mask=masks.causal(), memory_mask=X, cache=cache)
    assert len(cache.past) == 0


@pytest.mark.parametrize("make", [EncoderLayer, DecoderLayer])
@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"d_ff": 0}, ValueError, "d_ff: expected at least 1, got 0"),
        ({"d_ff": 2.0}, TypeError, "d_ff: expected a whole number"),
        ({"d_model": 20}, ValueError, "d_model: expected a multiple of num_heads=3, got 20"),
        ({"dropout": 1.0}, ValueError, "dropout"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, sizes, error, message):
    with pytest.raises(error, match=message):
        make(**{**SIZES, **sizes})


def test_a_layer_cache_is_empty_before_the_first_token():
    cache = DecoderLayer(**SIZES).remember(MEMORY)
    assert isinstance(cache, LayerCache)
    assert (len(cache.past), len(cache.memory)) == (0, S)


@pytest.mark.parametrize("chunks", [[1, 1, 3], [2, 3]])
def test_a_cached_layer_with_a_mask_as_a_tensor(chunks):
    """(L, past + L): the mask of the new queries and of all keys so far."""
    layer = random_weights(DecoderLayer(**SIZES))
    x, memory = draw(B, L, D_MODEL), draw(B, S, D_MODEL)
    allowed = torch.rand(L, L).lt(0.6).tril() | torch.eye(L, dtype=torch.bool)
    cache, parts, start = layer.remember(memory), [], 0
    for part in x.split(chunks, dim=1):
        stop = start + part.shape[1]
        wrong = torch.ones(part.shape[1], stop + 1, dtype=torch.bool)
        with pytest.raises(ValueError, match="mask: expected"):
            layer(part, mask=wrong, cache=cache)
        assert len(cache.past) == start
        parts.append(layer(part, mask=allowed[start:stop, :stop], cache=cache))
        start = stop
    assert_close(torch.cat(parts, dim=1), layer(x, memory, mask=allowed))


def test_a_layer_begins_as_the_papers_code_does():
    """Glorot and Bengio (2010), and biases of zero."""
    for layer in (EncoderLayer(**SIZES), DecoderLayer(**SIZES)):
        first, _, second = layer.feed_forward
        for linear in (first, second):
            bound = (6 / (D_MODEL + D_FF)) ** 0.5
            assert linear.bias.eq(0).all()
            assert 0.9 * bound < linear.weight.abs().max() <= bound


class Wrapped(nn.Module):
    """A projection without an attribute ``weight``, as round a layer for LoRA."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x)


def test_a_layer_takes_projections_of_another_kind():
    torch.manual_seed(0)
    layer = EncoderLayer(d_model=6, num_heads=2, d_ff=10).eval()
    x = torch.randn(3, 5, 6)
    expected = layer(x)
    layer.self_attention.wq = Wrapped(layer.self_attention.wq)
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(TypeError, match=r"x: expected a floating-point tensor, got torch\.int64"):
        layer(torch.ones(3, 5, 6, dtype=torch.int64))


def test_a_layer_may_be_quantised():
    torch.manual_seed(0)
    layer = EncoderLayer(d_model=8, num_heads=2, d_ff=16).eval()
    x = torch.randn(3, 5, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that this way of quantising moves to torchao
        small = torch.ao.quantization.quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8)
    torch.testing.assert_close(small(x), layer(x), atol=0.1, rtol=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# Layers of a decoder-only model: encoder layers with a causal mask, and a cache


@pytest.mark.parametrize("chunks", [[1] * L, [3, L - 3]])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_encoder_layers_with_caches_are_the_layers_without(chunks, norm_first):
    encoder = random_weights(Encoder(3, **SIZES, norm_first=norm_first))
    x, mask = draw(B, L, D_MODEL), masks.causal() & ~masks.padding([0, 1])
    whole = encoder(x, mask)
    caches = [KVCache() for _ in encoder.layers]
    assert_close(torch.cat([encoder(part, mask, cache=caches) for part in x.split(chunks, dim=1)], dim=1), whole)
    assert {len(cache) for cache in caches} == {L}
    layer, cache = encoder.layers[0], KVCache()
    parts = [layer(part, mask, cache=cache) for part in x.split(chunks, dim=1)]
    assert_close(torch.cat(parts, dim=1), layer(x, mask))


def test_layers_may_keep_windows_of_their_own():
    """As in models whose layers look near and far in turn."""
    encoder, x = random_weights(Encoder(2, **SIZES)), draw(B, L, D_MODEL)
    caches = [KVCache(window=2), KVCache()]
    found = torch.cat([encoder(token, masks.causal(), cache=caches) for token in x.split(1, dim=1)], dim=1)
    near, far = encoder.layers
    assert_close(found, encoder.norm(far(near(x, masks.causal() & masks.sliding_window(2)), masks.causal())))


def test_caches_of_decoder_layers_that_are_anothers_are_refused_before_one_is_written_to():
    decoder, x, memory = random_weights(Decoder(2, **SIZES)), draw(B, L, D_MODEL), draw(B, S, D_MODEL)
    first, second = decoder.remember(memory)
    for wrong, message in (
        ([first, first._replace(memory=second.memory)], "cache: expected one for each layer, got one for several"),
        ([second, first], "cache: expected this layer's own, got that of another layer"),
    ):
        with NoArithmetic(), pytest.raises(ValueError, match=message):
            decoder(x, mask=masks.causal(), cache=wrong)
    assert len(first.past) == len(second.past) == 0


def test_caches_of_encoder_layers_that_do_not_fit_are_refused_before_one_is_written_to():
    encoder, x = random_weights(Encoder(2, **SIZES)), draw(B, L, D_MODEL)
    caches = [KVCache(), KVCache()]
    encoder(x, masks.causal(), cache=caches)
    for wrong, error, message in (
        (caches[:1], ValueError, "cache: expected that of 2 layers, got 1"),
        ([KVCache()] * 2, ValueError, "cache: expected one for each layer, got one for several"),
        ([caches[0], KVCache()], ValueError, f"cache: expected the same number of tokens .*, got {L} and 0"),
        (caches[::-1], ValueError, "cache: expected this layer's own, got that of another layer"),
        (KVCache(), TypeError, "cache: expected a list of KVCache, one for each layer, got KVCache"),
        ([KVCache(), None], TypeError, "cache: expected a list of KVCache"),
    ):
        with NoArithmetic(), pytest.raises(error, match=message):
            encoder(x, masks.causal(), cache=wrong)
    one = x[:1]
    with NoArithmetic(), pytest.raises(ValueError, match=r"cache: expected keys and values of the batch \(1,\)"):
        encoder(one, masks.causal(), cache=caches)
    assert {len(cache) for cache in caches} == {L}


# ---------------------------------------------------------------------------------------------------------------------
# Positions and a bias reach the attention

HOLES = torch.tensor([[0, 2, 3, 7, 8], [1, 2, 5, 6, 7]])  # (B, L)
ONE = torch.tensor([0])


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_stack_hands_positions_and_a_bias_to_its_layers(norm_first):
    stack = Encoder(num_layers=N, **SIZES, d_k=4, d_v=5, norm_first=norm_first)
    for layer in stack.layers:
        layer.self_attention.rotary = Rotary(4)
    random_weights(stack)
    x, beside = draw(B, L, D_MODEL), {"bias": draw(B, H, L, L), "positions": HOLES}
    expected = x
    for layer in stack.layers:
        residual, attend = layer.attention_residual, layer.self_attention
        expected = residual(expected, lambda x, attend=attend: attend(x, mask=masks.causal(), **beside))
        expected = layer.feed_forward_residual(expected, layer.feed_forward)
    assert_close(stack(x, masks.causal(), **beside), stack.norm(expected))
    layer = stack.layers[0]
    assert_close(
        layer(x, masks.causal(), **beside), layer(x, Scores.of(masks.causal(), None, (B, H, L, L), x.device), **beside)
    )
    cache = [KVCache() for _ in stack.layers]
    bias, steps = beside["bias"], []
    for i in range(L):
        now = slice(i, i + 1)
        step = {"bias": bias[:, :, now, : i + 1], "positions": HOLES[:, now], "cache": cache}
        steps.append(stack(x[:, now], masks.causal(), **step))
    assert_close(torch.cat(steps, dim=1), stack.norm(expected))


@pytest.mark.parametrize(
    ("rotary", "where", "error", "message"),
    [
        (None, torch.arange(L), ValueError, "positions: expected None, since the layer has no rotary .*got Tensor"),
        (Rotary(4), list(range(L)), TypeError, "positions: expected a tensor, got list"),
        (Rotary(4), torch.arange(L + 1), ValueError, r"positions: .*with L = 5, got \(6,\)"),
        (Rotary(4), torch.zeros(H, L).long(), ValueError, r"positions: .*the batch B = 2, got \(3, 5\)"),
        (Rotary(4), torch.arange(L, device="meta"), ValueError, "positions: expected the device cpu, got meta"),
    ],
)
@pytest.mark.parametrize("norm_first", [False, True])
def test_positions_that_do_not_fit_are_refused_before_any_arithmetic(rotary, where, error, message, norm_first):
    stack = Encoder(num_layers=1, **SIZES, d_k=4, d_v=5, norm_first=norm_first)
    layer = stack.layers[0]
    layer.self_attention.rotary = rotary
    x = draw(B, L, D_MODEL, dtype=torch.float32)
    for call, cache in ((layer.self_attention, KVCache()), (layer, KVCache()), (stack, [KVCache()])):
        with NoArithmetic(), pytest.raises(error, match=message):
            call(x, positions=where, cache=cache)


def test_positions_of_one_sequence_are_not_taken_for_those_of_heads():
    attend = MultiHeadAttention(H, D_MODEL, 4, 5, rotary=Rotary(4)).double().eval()
    x, where = draw(L, D_MODEL), HOLES[0]
    assert_close(attend(x, positions=where), attend(x[None], positions=where[None])[0])
    of_heads = where.expand(H, L)
    with NoArithmetic(), pytest.raises(ValueError, match=r"positions: .*where there is no batch"):
        attend(x, positions=of_heads)


# ---------------------------------------------------------------------------------------------------------------------
# Layers of other parts


@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_the_papers_layer_is_stored_under_the_names_it_had(kind):
    """So that what was saved before layers could have other parts is still read."""
    attentions = ["self_attention"] if kind is EncoderLayer else ["self_attention", "cross_attention"]
    residuals = {"self_attention": "attention_residual"} if kind is EncoderLayer else {}
    expected = [
        name
        for attention in attentions
        for name in (
            *(f"{attention}.{projection}.weight" for projection in ("wq", "wk", "wv", "fc")),
            *(f"{residuals.get(attention, attention + '_residual')}.norm.{p}" for p in ("weight", "bias")),
        )
    ]
    expected += [f"feed_forward.{i}.{p}" for i in (0, 2) for p in ("weight", "bias")]
    expected += [f"feed_forward_residual.norm.{p}" for p in ("weight", "bias")]
    assert list(kind(**SIZES).state_dict()) == expected


@pytest.mark.parametrize("kind", [Encoder, Decoder])
def test_a_stack_hands_its_parts_to_every_layer_and_to_the_last_norm(kind):
    norm = partial(nn.RMSNorm, eps=0.03)
    parts = {"norm": norm, "feed_forward": GatedFeedForward, "attention": {"num_kv_heads": 1, "dropout": 0.2}}
    stack = kind(num_layers=N, **SIZES, norm_first=True, **parts)
    norms = [module for module in stack.modules() if isinstance(module, nn.RMSNorm)]
    assert len(norms) == (2 if kind is Encoder else 3) * N + 1
    assert {(module.eps, module.normalized_shape) for module in norms} == {(0.03, (D_MODEL,))}
    assert stack.norm is norms[-1]
    assert not [module for module in stack.modules() if isinstance(module, nn.LayerNorm)]
    for layer in stack.layers:
        assert (layer.feed_forward.gate.in_features, layer.feed_forward.gate.out_features) == (D_MODEL, D_FF)
        for attention in [m for m in layer.modules() if isinstance(m, MultiHeadAttention)]:
            assert (attention.num_heads, attention.num_kv_heads, attention.dropout) == (H, 1, 0.2)
    assert type(kind(num_layers=N, **SIZES, norm=norm).norm) is nn.Identity


@pytest.mark.parametrize("bias", [False, True])
def test_a_gated_net_is_shazeers(bias):
    net = random_weights(GatedFeedForward(D_MODEL, D_FF, activation=nn.Tanh, bias=bias))
    x = draw(B, L, D_MODEL)
    hidden = net.gate(x).tanh() * net.up(x)
    expected = hidden @ net.down.weight.T + (net.down.bias if bias else 0)
    assert_close(net(x), expected)
    assert len(list(net.parameters())) == (6 if bias else 3)
    assert type(GatedFeedForward(2, 3).activation) is nn.SiLU
    assert len(list(GatedFeedForward(2, 3).parameters())) == 3


@pytest.mark.parametrize("kind", [FeedForward, GatedFeedForward])
def test_a_net_begins_as_the_papers_code_does(kind):
    net = kind(D_MODEL, D_FF, bias=True)
    bound = (6 / (D_MODEL + D_FF)) ** 0.5
    for linear in (module for module in net.modules() if isinstance(module, nn.Linear)):
        assert linear.bias.eq(0).all()
        assert 0.9 * bound < linear.weight.abs().max() <= bound
    assert len(list(FeedForward(2, 3, bias=False).parameters())) == 2
    with pytest.raises(ValueError, match="d_ff: expected at least 1, got 0"):
        kind(D_MODEL, 0)
    with pytest.raises(TypeError, match="d_model: expected a whole number, got float"):
        kind(2.0, 3)


def test_an_activation_with_parameters_is_each_layers_own():
    stack = Encoder(num_layers=2, **SIZES, feed_forward=partial(FeedForward, activation=nn.PReLU))
    assert stack.layers[0].feed_forward[1] is not stack.layers[1].feed_forward[1]
    assert "layers.1.feed_forward.1.weight" in stack.state_dict()


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoder_turns_the_targets_tokens_alone(norm_first):
    """Rotary positions and a bias are for self-attention; with them a stack goes on under a cache."""
    parts = {"attention": {"rotary": Rotary(4), "projection_bias": ("wv", "fc")}}
    stack = random_weights(Decoder(num_layers=N, **SIZES, d_k=4, d_v=5, norm_first=norm_first, **parts))
    x, memory, bias = draw(B, L, D_MODEL), draw(B, S, D_MODEL), draw(B, H, L, L)
    expected = x
    for layer in stack.layers:
        attend, crossed = layer.self_attention, layer.cross_attention
        assert (attend.rotary is not None, crossed.rotary) == (True, None)
        assert (attend.wv.bias is None, crossed.wv.bias is None, crossed.wq.bias) == (False, False, None)
        own = partial(attend, mask=masks.causal(), bias=bias, positions=HOLES)
        expected = layer.self_attention_residual(expected, own)
        expected = layer.cross_attention_residual(expected, partial(crossed, key=memory))
        expected = layer.feed_forward_residual(expected, layer.feed_forward)
    expected = stack.norm(expected)
    assert_close(stack(x, memory, masks.causal(), bias=bias, positions=HOLES), expected)
    cache, steps = stack.remember(memory), []
    for i in range(L):
        now = slice(i, i + 1)
        beside = {"bias": bias[:, :, now, : i + 1], "positions": HOLES[:, now], "cache": cache}
        steps.append(stack(x[:, now], mask=masks.causal(), **beside))
    assert_close(torch.cat(steps, dim=1), expected)
    first = stack.layers[0]
    for call, kept in ((first, first.remember(memory)), (stack, stack.remember(memory))):
        with NoArithmetic(), pytest.raises(ValueError, match=r"positions: .*with L = 5, got \(1,\)"):
            call(x, positions=ONE, cache=kept)


@pytest.mark.parametrize(
    "kind", [EncoderLayer, DecoderLayer, Encoder, Decoder, partial(LanguageModel, 5, positions="alibi")]
)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        *(
            ({"attention": {name: 2}}, ValueError, f"attention: expected names among num_kv_heads, .* got '{name}'")
            for name in ("kv_heads", "num_heads", "d_model", "d_k", "d_v", "key_width", "value_width", "device")
        ),
        ({"attention": ["num_kv_heads"]}, TypeError, "attention: expected a dict, as .* got list"),
        ({"attention": "rotary"}, TypeError, "attention: expected a dict, as .* got str"),
        ({"norm": nn.LayerNorm(D_MODEL)}, TypeError, "norm: expected a class or function .* got a module, LayerNorm"),
        ({"norm": None}, TypeError, "norm: expected a class or function that makes a module, got NoneType"),
        ({"norm": lambda size: abs}, TypeError, "norm: .* that makes a module, got one that makes builtin"),
        ({"feed_forward": nn.Linear(8, 8)}, TypeError, "feed_forward: .* makes a module, got a module, Linear"),
        ({"feed_forward": lambda *sizes: abs}, TypeError, "feed_forward: .* makes a module, got one that makes"),
    ],
)
def test_parts_that_cannot_be_are_named(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind(**{**{name: size for name, size in SIZES.items() if name != "num_layers"}, **options})


@torch.no_grad()
def test_a_part_of_the_feed_forward_net_is_a_net():
    net = FeedForward(D_MODEL, D_FF, activation=nn.GELU)
    x = draw(B, L, D_MODEL, dtype=torch.float32)
    assert type(net[:2]) is nn.Sequential
    assert torch.equal(net[1:](net[:1](x)), net(x))
    assert torch.equal(net[-1](net[:-1](x)), net(x))
    assert net.down is net[2]


def test_an_attention_of_ones_own_is_given_only_what_was_given():
    """It may add a bias of its own, or know no positions: graph attention does."""

    class Own(MultiHeadAttention):
        def forward(self, query, mask=None, *, cache=None):
            return super().forward(query, mask=mask, bias=torch.zeros(query.shape[-2], query.shape[-2]), cache=cache)

    layers = EncoderLayer(d_model=6, num_heads=2, d_ff=7).eval(), DecoderLayer(d_model=6, num_heads=2, d_ff=7).eval()
    x, memory = torch.randn(2, 3, 6), torch.randn(2, 5, 6)
    for layer, read in zip(layers, ([x], [x, memory]), strict=True):
        expected = layer(*read, mask=masks.causal())
        own = Own(2, 6, dropout=0.0).eval()
        own.load_state_dict(layer.self_attention.state_dict())
        layer.self_attention = own
        assert_close(layer(*read, mask=masks.causal()), expected)
