"""Layers of other people's models, built of attnlib's parts and held equal to Hugging Face's, with its weights.

Theirs compute norms and angles in float32, so in float64 the two agree to what float32 can hold.
"""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import nn

from attnlib import KVCache, masks
from attnlib.positions import Llama3, Rotary, T5RelativeBias
from attnlib.transformer import DecoderLayer, EncoderLayer, FeedForward, GatedFeedForward
from tests.oracles import draw
from tests.tolerances import assert_close

pytest.importorskip("transformers")
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    LlamaConfig,
    Qwen3Config,
    T5Config,
    ViTConfig,
    WhisperConfig,
)
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen3 import modeling_qwen3 as qwen3
from transformers.models.t5 import modeling_t5 as t5
from transformers.models.vit import modeling_vit as vit
from transformers.models.whisper import modeling_whisper as whisper

B, L, S = 2, 5, 7
H, H_KV, D_K, D_MODEL, D_FF = 6, 2, 8, 24, 29
HOLES = torch.tensor([[0, 2, 3, 90, 91], [1, 2, 50, 60, 70]])  # (B, L)


class Port(NamedTuple):
    """Our layer, their layer, and which modules of the two have the same weights."""

    ours: nn.Module
    theirs: nn.Module
    pairs: list[tuple[nn.Module, nn.Module]]


def with_shared_weights(port: Port) -> Port:
    """Draw weights that no start has, norms and biases too, and give both layers the same."""
    for module, other in port.pairs:
        assert [(n, p.shape) for n, p in module.named_parameters()] == [
            (n, p.shape) for n, p in other.named_parameters()
        ]
        for parameter in other.parameters():
            nn.init.normal_(parameter, std=0.3 if parameter.dim() > 1 else 0.7)
        module.load_state_dict(other.state_dict())
    held = {id(parameter) for _, other in port.pairs for parameter in other.parameters()}
    assert held == {id(parameter) for parameter in port.theirs.parameters()}  # nothing of theirs is left out
    port.ours.double().eval(), port.theirs.double().eval()
    return port


def hidden(mask, rows, columns):
    """A mask as theirs take it: added to the scores."""
    return torch.zeros(rows, columns).double().masked_fill(~mask.dense(rows, columns), -1e300)[None, None]


CAUSAL = hidden(masks.causal(), L, L)


def attention_pairs(ours, theirs, names=("q_proj", "k_proj", "v_proj", "o_proj")):
    return [
        (getattr(ours, mine), getattr(theirs, name)) for mine, name in zip(("wq", "wk", "wv", "fc"), names, strict=True)
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Llama 3 and Qwen3


def decoder_only(kind):
    """Return a port, and their layer as a function of x, the positions, and a cache."""
    sizes = {
        "hidden_size": D_MODEL, "num_attention_heads": H, "num_key_value_heads": H_KV, "head_dim": D_K,
        "intermediate_size": D_FF, "attn_implementation": "eager", "num_hidden_layers": 1,
    }  # fmt: skip
    rope = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    if kind == "llama 3":
        config = LlamaConfig(**sizes, rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, **rope})
        theirs, turn = llama.LlamaDecoderLayer(config, 0), llama.LlamaRotaryEmbedding(config)
        attention = {"rotary": Rotary(D_K, base=500.0, scaling=Llama3(**rope))}
    else:
        config = Qwen3Config(**sizes, layer_types=["full_attention"])
        theirs, turn = qwen3.Qwen3DecoderLayer(config, 0), qwen3.Qwen3RotaryEmbedding(config)
        attention = {"rotary": Rotary(D_K, base=config.rope_parameters["rope_theta"])}
    norm = partial(nn.RMSNorm, eps=config.rms_norm_eps)
    if kind == "qwen3":
        attention["qk_norm"] = norm
    ours = EncoderLayer(
        d_model=D_MODEL, num_heads=H, d_k=D_K, d_v=D_K, d_ff=D_FF, norm_first=True, norm=norm,
        feed_forward=GatedFeedForward, attention={"num_kv_heads": H_KV, **attention},
    )  # fmt: skip
    attend, other = ours.self_attention, theirs.self_attn
    pairs = [
        *attention_pairs(attend, other),
        *[(getattr(ours.feed_forward, name), getattr(theirs.mlp, f"{name}_proj")) for name in ("gate", "up", "down")],
        (ours.attention_residual.norm, theirs.input_layernorm),
        (ours.feed_forward_residual.norm, theirs.post_attention_layernorm),
    ]
    if kind == "qwen3":
        pairs += [(attend.q_norm, other.q_norm), (attend.k_norm, other.k_norm)]
    port = with_shared_weights(Port(ours, theirs, pairs))

    def call(x, where, mask, cache=None):
        turns = tuple(t.double() for t in turn(x, where))
        return theirs(x, attention_mask=mask, position_embeddings=turns, past_key_values=cache)

    return port, call


def compare(ours, theirs, port, *inputs):
    """Compare two outputs, and the gradients of all inputs and weights."""
    assert_close(ours.float(), theirs.float())
    direction = draw(*ours.shape)
    mine, others = (
        torch.autograd.grad(output, [*inputs, *(p for pair in port.pairs for p in pair[side].parameters())], direction)
        for side, output in enumerate((ours, theirs))
    )
    zeros = 0
    for gradient, expected in zip(mine, others, strict=True):
        size = expected.abs().max()
        if size < 1e-12:  # that of the keys' bias, which adds the same to all scores of a query
            size, zeros = torch.ones(()), zeros + 1
        assert_close((gradient / size).float(), (expected / size).float())
    assert zeros <= 1


@pytest.mark.parametrize("kind", ["llama 3", "qwen3"])
def test_a_layer_of_a_decoder_only_model(kind):
    port, theirs = decoder_only(kind)
    x = draw(B, L, D_MODEL, requires_grad=True)
    expected = theirs(x, HOLES, CAUSAL)
    compare(port.ours(x, masks.causal(), positions=HOLES), expected, port, x)
    cache, other = KVCache(), DynamicCache()
    for start, stop in ((0, 3), (3, 4), (4, 5)):
        now, where = x[:, start:stop].detach(), HOLES[:, start:stop]
        step = port.ours(now, masks.causal(), positions=where, cache=cache)
        assert_close(step.float(), theirs(now, where, CAUSAL[:, :, start:stop, :stop], other).float())
        assert_close(step, port.ours(x, masks.causal(), positions=HOLES)[:, start:stop])
    assert_close(cache.key.float(), other.layers[0].keys.float())


# ---------------------------------------------------------------------------------------------------------------------
# T5: no scale, and a learned bias by the distance


def t5_block(decoder):
    config = T5Config(
        d_model=D_MODEL, d_kv=D_K, num_heads=H, d_ff=D_FF, is_decoder=decoder, attn_implementation="eager",
        relative_attention_num_buckets=6, relative_attention_max_distance=4,
    )  # fmt: skip
    theirs = t5.T5Block(config, has_relative_attention_bias=True, layer_idx=0)
    ours = (DecoderLayer if decoder else EncoderLayer)(
        d_model=D_MODEL, num_heads=H, d_k=D_K, d_v=D_K, d_ff=D_FF, norm_first=True,
        norm=partial(nn.RMSNorm, eps=config.layer_norm_epsilon), feed_forward=partial(FeedForward, bias=False),
        attention={"scale": 1.0},
    )  # fmt: skip
    relative = T5RelativeBias(H, num_buckets=6, max_distance=4, bidirectional=not decoder).double()
    attend, (first, *_, last) = theirs.layer[0].SelfAttention, theirs.layer
    first_residual = ours.self_attention_residual if decoder else ours.attention_residual
    pairs = [
        *attention_pairs(ours.self_attention, attend, "qkvo"),
        (relative, attend.relative_attention_bias),
        (first_residual.norm, first.layer_norm),
        (ours.feed_forward[0], last.DenseReluDense.wi),
        (ours.feed_forward[2], last.DenseReluDense.wo),
        (ours.feed_forward_residual.norm, last.layer_norm),
    ]
    if decoder:
        crossed = theirs.layer[1]
        pairs += attention_pairs(ours.cross_attention, crossed.EncDecAttention, "qkvo")
        pairs += [(ours.cross_attention_residual.norm, crossed.layer_norm)]
    return with_shared_weights(Port(ours, theirs, pairs)), relative


def test_t5s_layers():
    port, relative = t5_block(decoder=False)
    x = draw(B, L, D_MODEL, requires_grad=True)
    compare(port.ours(x, bias=relative(L)), port.theirs(x)[0], port, x)

    port, relative = t5_block(decoder=True)
    memory = draw(B, S, D_MODEL, requires_grad=True)
    ours = port.ours(x, memory, masks.causal(), masks.padding([S, 3]), bias=relative(L))
    padded = torch.zeros(B, 1, 1, S).double().masked_fill(~masks.padding([S, 3]).dense(1, S), -1e300)
    theirs = port.theirs(x, CAUSAL, encoder_hidden_states=memory, encoder_attention_mask=padded)[0]
    compare(ours, theirs, port, x, memory)
    cache, other = port.ours.remember(memory), EncoderDecoderCache(DynamicCache(), DynamicCache())
    for start, stop in ((0, 3), (3, 4), (4, 5)):
        now = x[:, start:stop]
        bias = relative(stop - start, stop)
        step = port.ours(now, mask=masks.causal(), memory_mask=masks.padding([S, 3]), bias=bias, cache=cache)
        beside = {"encoder_hidden_states": memory, "encoder_attention_mask": padded, "past_key_values": other}
        assert_close(step.float(), port.theirs(now, CAUSAL[:, :, start:stop, :stop], **beside)[0].float())
        assert_close(step, ours[:, start:stop])


# ---------------------------------------------------------------------------------------------------------------------
# Whisper: no bias in the keys' projection; weights in float32 under half-precision input


def whisper_layer():
    config = WhisperConfig(
        d_model=D_MODEL, decoder_attention_heads=H, decoder_ffn_dim=D_FF, attn_implementation="eager", dropout=0.0
    )
    theirs = whisper.WhisperDecoderLayer(config, 0)
    ours = DecoderLayer(
        d_model=D_MODEL, num_heads=H, d_ff=D_FF, norm_first=True, feed_forward=partial(FeedForward, activation=nn.GELU),
        attention={"projection_bias": ("wq", "wv", "fc")},
    )  # fmt: skip
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    pairs = [
        *attention_pairs(ours.self_attention, theirs.self_attn, names),
        *attention_pairs(ours.cross_attention, theirs.encoder_attn, names),
        (ours.self_attention_residual.norm, theirs.self_attn_layer_norm),
        (ours.cross_attention_residual.norm, theirs.encoder_attn_layer_norm),
        (ours.feed_forward[0], theirs.fc1),
        (ours.feed_forward[2], theirs.fc2),
        (ours.feed_forward_residual.norm, theirs.final_layer_norm),
    ]
    return with_shared_weights(Port(ours, theirs, pairs))


def whisper_steps(port, x, memory):
    """Write token by token, ours and theirs."""
    cache, other, mine, others = port.ours.remember(memory), EncoderDecoderCache(DynamicCache(), DynamicCache()), [], []
    for start, stop in ((0, 3), (3, 4), (4, 5)):
        now, mask = x[:, start:stop], CAUSAL[:, :, start:stop, :stop].to(x.dtype)
        mine.append(port.ours(now, mask=masks.causal(), cache=cache))
        others.append(port.theirs(now, mask, memory, past_key_values=other))
    return torch.cat(mine, dim=1), torch.cat(others, dim=1)


def test_whispers_decoder_layer():
    port = whisper_layer()
    x, memory = draw(B, L, D_MODEL, requires_grad=True), draw(B, S, D_MODEL, requires_grad=True)
    ours, theirs = port.ours(x, memory, masks.causal()), port.theirs(x, CAUSAL, memory)
    assert_close(ours, theirs)
    compare(ours, theirs, port, x, memory)
    for steps in whisper_steps(port, x, memory):
        assert_close(steps, theirs)


def test_whisper_with_weights_in_float32_and_half_precision_under_autocast():
    """What autocast makes of one layer and of the other, beside the exact one; the gradients reach float32 weights."""
    port = whisper_layer()
    x, memory = draw(B, L, D_MODEL), draw(B, S, D_MODEL)
    exact = port.theirs(x, CAUSAL, memory)
    port.ours.float(), port.theirs.float()
    x, memory = x.bfloat16(), memory.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        ours = port.ours(x, memory, masks.causal())
        theirs = port.theirs(x, CAUSAL.bfloat16(), memory)
        steps, their_steps = whisper_steps(port, x, memory)
    error, their_error = ((output.double() - exact).abs().mean() for output in (ours, theirs))
    assert error < 1.1 * their_error
    assert_close(ours.bfloat16() / exact.abs().max(), theirs.bfloat16() / exact.abs().max())
    assert_close(steps.bfloat16() / exact.abs().max(), their_steps.bfloat16() / exact.abs().max())
    ours.sum().backward()
    gradients = [parameter.grad for parameter in port.ours.parameters()]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    assert all(gradient.any() for gradient in gradients)


def test_half_precision_meets_float32_weights_without_autocast():
    """An error on both sides: theirs is torch's own, ours names the argument."""
    port = whisper_layer()
    port.ours.float(), port.theirs.float()
    x, memory = draw(B, L, D_MODEL, dtype=torch.bfloat16), draw(B, S, D_MODEL, dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match="dtype"):
        port.theirs(x, CAUSAL.bfloat16(), memory)
    with pytest.raises(TypeError, match=r"x: expected the layer's dtype torch.float32, got torch.bfloat16"):
        port.ours(x, memory, masks.causal())
    with pytest.raises(TypeError, match=r"memory: expected the layer's dtype torch.float32, got torch.bfloat16"):
        port.ours(x.float(), memory, masks.causal())


class Casting(nn.Linear):
    """OpenAI's Whisper: weights are stored in float32, and used in the dtype of what comes in."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class CastingNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_whisper_with_linears_that_cast_takes_half_precision_as_it_comes(dtype):
    """Equal to the same layer with its weights in half precision, the norms apart, which stay in float32."""
    port = whisper_layer()
    port.ours.float()
    x, memory = draw(B, L, D_MODEL, dtype=dtype), draw(B, S, D_MODEL, dtype=dtype)
    casting = {nn.Linear: Casting, nn.LayerNorm: CastingNorm}
    for module in port.ours.modules():
        module.__class__ = casting.get(type(module), type(module))
    output = port.ours(x, memory, masks.causal())
    assert output.dtype == dtype
    cache = port.ours.remember(memory)
    steps = torch.cat([port.ours(token, mask=masks.causal(), cache=cache) for token in x.split(1, dim=1)], dim=1)
    for module in port.ours.modules():
        if type(module) is Casting:
            module.to(dtype)
    assert torch.equal(port.ours(x, memory, masks.causal()), output)
    assert_close(steps / output.abs().max(), output / output.abs().max())


# ---------------------------------------------------------------------------------------------------------------------
# ViT: biases of the output alone, or everywhere


@pytest.mark.parametrize("biased", [False, True])
def test_vits_layer(biased):
    config = ViTConfig(
        hidden_size=D_MODEL, num_attention_heads=H, intermediate_size=D_FF, qkv_bias=biased, attn_implementation="sdpa"
    )
    theirs = vit.ViTLayer(config)
    ours = EncoderLayer(
        d_model=D_MODEL, num_heads=H, d_ff=D_FF, norm_first=True, norm=partial(nn.LayerNorm, eps=config.layer_norm_eps),
        feed_forward=partial(FeedForward, activation=nn.GELU), attention={"projection_bias": biased or ("fc",)},
    )  # fmt: skip
    pairs = [
        *attention_pairs(ours.self_attention, theirs.attention),
        (ours.attention_residual.norm, theirs.layernorm_before),
        (ours.feed_forward[0], theirs.mlp.fc1),
        (ours.feed_forward[2], theirs.mlp.fc2),
        (ours.feed_forward_residual.norm, theirs.layernorm_after),
    ]
    port = with_shared_weights(Port(ours, theirs, pairs))
    x = draw(B, L, D_MODEL, requires_grad=True)
    output, expected = port.ours(x), port.theirs(x)
    assert_close(output, expected)
    compare(output, expected, port, x)
