"""Fused projections taken apart: attnlib's layer, with the parts, computes what the layer that held them computes."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from attnlib import MultiHeadAttention, masks
from attnlib.interop import split_qkv
from attnlib.positions import ALiBi, Rotary

H, D_K = 6, 4
D_MODEL = H * D_K
VOCAB, B, L = 11, 2, 5
SIZES = {"vocab_size": VOCAB, "hidden_size": D_MODEL, "num_hidden_layers": 1, "num_attention_heads": H}


@dataclass
class Peer:
    """A model of one layer, its attention, and what the parts of its fused projection go into."""

    model: nn.Module
    attention: nn.Module
    fused: nn.Module
    output: nn.Module
    num_kv_heads: int = H
    by_group: bool = True
    rotary: Rotary | None = None


@torch.no_grad()
def filled(model):
    """Fill a model in float64 with numbers that no start has; its biases, too, are far from zero."""
    for parameter in model.double().eval().parameters():
        parameter.normal_(std=0.5)
    return model


def gpt2(transformers):
    config = transformers.GPT2Config(vocab_size=VOCAB, n_embd=D_MODEL, n_layer=1, n_head=H)
    model = filled(transformers.GPT2Model(config))
    attention = model.h[0].attn
    return Peer(model, attention, attention.c_attn, attention.c_proj, by_group=False)


def phi3(transformers):
    sizes = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 7, "pad_token_id": 0}
    model = filled(transformers.Phi3Model(transformers.Phi3Config(**sizes)))
    attention = model.layers[0].self_attn
    return Peer(model, attention, attention.qkv_proj, attention.o_proj, 2, by_group=False, rotary=Rotary(D_K))


def neox(transformers):
    turned = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0}
    config = transformers.GPTNeoXConfig(**SIZES, intermediate_size=7, rope_parameters=turned)
    model = filled(transformers.GPTNeoXModel(config))
    attention = model.layers[0].attention
    return Peer(model, attention, attention.query_key_value, attention.dense, rotary=Rotary(D_K))


def bloom(transformers):
    config = transformers.BloomConfig(vocab_size=VOCAB, hidden_size=D_MODEL, n_layer=1, n_head=H)
    model = filled(transformers.BloomModel(config))
    attention = model.h[0].self_attention
    return Peer(model, attention, attention.query_key_value, attention.dense)


def falcon(key_heads, **kind):
    def made(transformers):
        model = filled(transformers.FalconModel(transformers.FalconConfig(**SIZES, **kind, alibi=False, bias=True)))
        attention = model.h[0].self_attention
        return Peer(model, attention, attention.query_key_value, attention.dense, key_heads, rotary=Rotary(D_K))

    return made


PEERS = {
    "GPT-2": gpt2,
    "Phi-3": phi3,
    "GPT-NeoX": neox,
    "BLOOM": bloom,
    "Falcon, grouped": falcon(2, new_decoder_architecture=True, num_kv_heads=2),
    "Falcon, one key head": falcon(1, multi_query=True),
    "Falcon, as many key heads": falcon(H, multi_query=False),
}


@torch.no_grad()
def called(peer):
    """Return the tokens that the attention of a peer is given, and what it makes of them."""
    given, made = {}, []
    peer.attention.register_forward_pre_hook(
        lambda layer, args, kwargs: given.update(x=(*args, kwargs.get("hidden_states"))[0], more=args[1:]),
        with_kwargs=True,
    )
    peer.attention.register_forward_hook(lambda layer, args, output: made.append(output[0]))
    peer.model(torch.arange(B * L).view(B, L) % VOCAB)
    is_bloom = type(peer.attention).__name__ == "BloomAttention"  # it adds the residual itself
    return given["x"], made[0] - given["more"][0] if is_bloom else made[0]


def as_linear(projection, name):
    """Return a parameter as nn.Linear has it: GPT-2's Conv1D keeps (in, out)."""
    parameter = getattr(projection, name)
    return parameter.T if type(projection).__name__ == "Conv1D" and name == "weight" else parameter


@torch.no_grad()
def by_attnlib(peer, x, by_group):
    kinds = [kind for kind in ("weight", "bias") if getattr(peer.fused, kind) is not None]
    biased = ("wq", "wk", "wv", "fc") if "bias" in kinds else ()
    sizes = {"num_kv_heads": peer.num_kv_heads, "rotary": peer.rotary, "projection_bias": biased}
    attend = MultiHeadAttention(H, D_MODEL, dropout=0.0, **sizes).double()
    for kind in kinds:
        parts = split_qkv(as_linear(peer.fused, kind), H, peer.num_kv_heads, by_group=by_group)
        for projection, part in zip((attend.wq, attend.wk, attend.wv), parts, strict=True):
            getattr(projection, kind).copy_(part)
        getattr(attend.fc, kind).copy_(as_linear(peer.output, kind))
    slopes = ALiBi(H) if type(peer.attention).__name__ == "BloomAttention" else None
    return attend(x, mask=masks.causal(), bias=slopes)


@pytest.mark.parametrize("name", PEERS)
def test_the_parts_compute_what_the_layer_of_hugging_face_computes(name):
    peer = PEERS[name](pytest.importorskip("transformers"))
    x, expected = called(peer)
    # Transformers' angles and slopes are of float32.
    torch.testing.assert_close(by_attnlib(peer, x, peer.by_group), expected, rtol=1e-6, atol=1e-6)
    if peer.num_kv_heads > 1:  # with one key head both layouts are the same
        wrong = by_attnlib(peer, x, not peer.by_group)
        assert (wrong - expected).abs().max() > 0.1


def test_the_parts_of_torchs_layer():
    theirs = nn.MultiheadAttention(D_MODEL, H)
    for fused in (theirs.in_proj_weight, theirs.in_proj_bias):
        for part, third in zip(split_qkv(fused, H), fused.chunk(3), strict=True):
            assert torch.equal(part, third)


def test_gradients_flow_back_into_the_fused_weight():
    fused = torch.randn(3 * D_MODEL, D_MODEL, requires_grad=True)
    for part, factor in zip(split_qkv(fused, H, by_group=True), (1, 2, 3), strict=True):
        (factor * part).sum().backward()
    expected = torch.tensor([1.0, 2.0, 3.0]).repeat_interleave(D_K).repeat(H)
    assert torch.equal(fused.grad, expected[:, None].expand(-1, D_MODEL))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0]], 1), TypeError, "fused: expected a tensor, got list"),
        ((torch.ones(9, 2), 2.0), TypeError, "num_heads: expected a whole number, got float"),
        ((torch.ones(9, 2), 3, 2), ValueError, "num_kv_heads: expected a divisor of num_heads=3, got 2"),
        ((torch.ones(9, 2), 4, 2), ValueError, r"a multiple of H \+ 2·H_kv = 8 rows, got \(9, 2\)"),
        ((torch.ones(9, 2, 1), 3), ValueError, r"a weight or a bias with a multiple .* got \(9, 2, 1\)"),
        ((torch.tensor(1.0), 1), ValueError, r"fused: expected a weight or a bias"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        split_qkv(*arguments)
