"""Copies of attnlib's layers in torch.nn and in Hugging Face, with the same weights."""

import torch
from torch import nn

B, L, S, H, D_MODEL, D_FF, N = 2, 5, 7, 3, 21, 29, 2
SIZES = {"d_model": D_MODEL, "num_heads": H, "d_ff": D_FF}


def random_weights(module: nn.Module) -> nn.Module:
    """Fill a module with numbers in float64 that no start has: norms and biases, too, are far from 1 and 0."""
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 0.7))
    return module


def copy_attention(ours, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.copy_(torch.cat([ours.wq.weight, ours.wk.weight, ours.wv.weight]))
    theirs.in_proj_bias.zero_()
    theirs.out_proj.weight.copy_(ours.fc.weight)
    theirs.out_proj.bias.zero_()


def attention_gradients(theirs: nn.MultiheadAttention) -> dict[str, torch.Tensor]:
    wq, wk, wv = theirs.in_proj_weight.grad.chunk(3)
    return {"wq": wq, "wk": wk, "wv": wv, "fc": theirs.out_proj.weight.grad}


@torch.no_grad()
def copy_layer(ours, theirs) -> None:
    """Copy a layer of attnlib to one of torch.nn, whose attention then has biases of zero."""
    copy_attention(ours.self_attention, theirs.self_attn)
    theirs.linear1.load_state_dict(ours.feed_forward[0].state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward[2].state_dict())
    if hasattr(ours, "cross_attention"):
        copy_attention(ours.cross_attention, theirs.multihead_attn)
        norms = (ours.self_attention_residual, ours.cross_attention_residual, ours.feed_forward_residual)
    else:
        norms = (ours.attention_residual, ours.feed_forward_residual)
    for i, residual in enumerate(norms, start=1):
        getattr(theirs, f"norm{i}").load_state_dict(residual.norm.state_dict())


def layer_gradients(ours, theirs) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Return (name, our gradient, their gradient) of every parameter of our layer."""
    found = {}
    for name, attention in (("self_attention", "self_attn"), ("cross_attention", "multihead_attn")):
        if hasattr(ours, name):
            gradients = attention_gradients(getattr(theirs, attention))
            found |= {f"{name}.{key}.weight": gradient for key, gradient in gradients.items()}
    cross = hasattr(ours, "cross_attention")
    norms = {
        "attention_residual": "norm1",
        "self_attention_residual": "norm1",
        "cross_attention_residual": "norm2",
        "feed_forward_residual": "norm3" if cross else "norm2",
    }
    for name, parameter in ours.named_parameters():
        if "attention." in name:
            continue
        module, _, kind = name.rpartition(".")
        other = (
            norms.get(module.removesuffix(".norm"))
            or {"feed_forward.0": "linear1", "feed_forward.2": "linear2"}[module]
        )
        found[name] = getattr(getattr(theirs, other), kind).grad
        assert parameter.shape == found[name].shape
    return [(name, parameter.grad, found[name]) for name, parameter in ours.named_parameters()]


@torch.no_grad()
def copy_to_hugging_face(ours, theirs) -> None:
    """Copy a layer of attnlib to one of Marian or BART, whose attention then has biases of zero."""
    pairs = [(ours.self_attention, theirs.self_attn)]
    norms = [(getattr(ours, "attention_residual", None) or ours.self_attention_residual, theirs.self_attn_layer_norm)]
    if hasattr(ours, "cross_attention"):
        pairs.append((ours.cross_attention, theirs.encoder_attn))
        norms.append((ours.cross_attention_residual, theirs.encoder_attn_layer_norm))
    norms.append((ours.feed_forward_residual, theirs.final_layer_norm))
    for mine, attention in pairs:
        for weight, other in (("wq", "q_proj"), ("wk", "k_proj"), ("wv", "v_proj"), ("fc", "out_proj")):
            getattr(attention, other).weight.copy_(getattr(mine, weight).weight)
            getattr(attention, other).bias.zero_()
    for residual, norm in norms:
        norm.load_state_dict(residual.norm.state_dict())
    theirs.fc1.load_state_dict(ours.feed_forward[0].state_dict())
    theirs.fc2.load_state_dict(ours.feed_forward[2].state_dict())


@torch.no_grad()
def copy_to_decoder_only(ours, theirs) -> None:
    """Copy a language model of attnlib to Hugging Face's GPT-2, GPT-NeoX or MPT.

    Attention then has biases of zero there; where MPT has none at all, ours are set to zero.
    """
    body = getattr(theirs, "transformer", None) or theirs.gpt_neox
    layers = getattr(body, "h", None) or getattr(body, "layers", None) or body.blocks
    theirs.get_input_embeddings().weight.copy_(ours.embedding.weight)
    _copy_norm(ours.stack.norm, getattr(body, "ln_f", None) or getattr(body, "final_layer_norm", None) or body.norm_f)
    if hasattr(body, "wpe"):
        body.wpe.weight.copy_(ours.positions.weight)
    for mine, other in zip(ours.stack.layers, layers, strict=True):
        attention = mine.self_attention
        three = [getattr(attention, name).weight for name in ("wq", "wk", "wv")]
        if hasattr(other, "ln_1"):  # GPT-2, whose projections are transposed
            norms, maps = (other.ln_1, other.ln_2), (other.mlp.c_fc, other.mlp.c_proj)
            other.attn.c_attn.weight.copy_(torch.cat(three).T)
            other.attn.c_proj.weight.copy_(attention.fc.weight.T)
            for projection in (other.attn.c_attn, other.attn.c_proj):
                projection.bias.zero_()
        elif hasattr(other, "attention"):  # GPT-NeoX, whose rows are those of one head after the other
            norms = (other.input_layernorm, other.post_attention_layernorm)
            maps = (other.mlp.dense_h_to_4h, other.mlp.dense_4h_to_h)
            by_head = torch.stack([weight.unflatten(0, (attention.num_heads, -1)) for weight in three], dim=1)
            other.attention.query_key_value.weight.copy_(by_head.flatten(0, 2))
            other.attention.dense.weight.copy_(attention.fc.weight)
        else:  # MPT
            norms, maps = (other.norm_1, other.norm_2), (other.ffn.up_proj, other.ffn.down_proj)
            other.attn.Wqkv.weight.copy_(torch.cat(three))
            other.attn.out_proj.weight.copy_(attention.fc.weight)
        for residual, norm in zip((mine.attention_residual, mine.feed_forward_residual), norms, strict=True):
            _copy_norm(residual.norm, norm)
        for linear, target in zip((mine.feed_forward[0], mine.feed_forward[2]), maps, strict=True):
            target.weight.copy_(linear.weight.T if hasattr(other, "ln_1") else linear.weight)
            _copy_bias(linear, target)


def _copy_norm(norm: nn.Module, other: nn.Module) -> None:
    other.weight.copy_(norm.weight)
    _copy_bias(norm, other)


def _copy_bias(module: nn.Module, other: nn.Module) -> None:
    if other.bias is None:
        module.bias.zero_()
    else:
        other.bias.copy_(module.bias)
