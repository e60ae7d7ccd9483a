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
    """Copy a language model of attnlib to Hugging Face's GPT-2, Llama or MPT.

    GPT-2's attention then has biases of zero; where the others have none at all, ours are set to zero.
    """
    body = getattr(theirs, "transformer", None) or theirs.model
    theirs.get_input_embeddings().weight.copy_(ours.embedding.weight)
    last = next(module for name, module in body.named_children() if name in ("ln_f", "norm", "norm_f"))
    copies = [(ours.stack.norm, last)]
    if hasattr(body, "wpe"):
        body.wpe.weight.copy_(ours.positions.weight)
    layers = next(module for name, module in body.named_children() if name in ("h", "layers", "blocks"))
    for mine, other in zip(ours.stack.layers, layers, strict=True):
        attention, net = mine.self_attention, mine.feed_forward
        norms = [mine.attention_residual.norm, mine.feed_forward_residual.norm]
        three = [getattr(attention, name).weight for name in ("wq", "wk", "wv")]
        if hasattr(other, "ln_1"):  # GPT-2, whose maps are transposed
            copies += zip(norms, (other.ln_1, other.ln_2), strict=True)
            maps = [(attention.fc, other.attn.c_proj), (net[0], other.mlp.c_fc), (net[2], other.mlp.c_proj)]
            other.attn.c_attn.weight.copy_(torch.cat(three).T)
            other.attn.c_attn.bias.zero_()
            for linear, target in maps:
                target.weight.copy_(linear.weight.T)
                target.bias.zero_() if linear.bias is None else target.bias.copy_(linear.bias)
        elif hasattr(other, "self_attn"):  # Llama
            copies += zip(norms, (other.input_layernorm, other.post_attention_layernorm), strict=True)
            copies += [
                (getattr(attention, name), getattr(other.self_attn, f"{theirs}_proj"))
                for name, theirs in (("wq", "q"), ("wk", "k"), ("wv", "v"), ("fc", "o"))
            ]
            copies += [(getattr(net, name), getattr(other.mlp, f"{name}_proj")) for name in ("gate", "up", "down")]
        else:  # MPT
            copies += zip(norms, (other.norm_1, other.norm_2), strict=True)
            copies += [(attention.fc, other.attn.out_proj), (net[0], other.ffn.up_proj), (net[2], other.ffn.down_proj)]
            other.attn.Wqkv.weight.copy_(torch.cat(three))
    for module, target in copies:
        target.weight.copy_(module.weight)
        bias, theirs_bias = (getattr(m, "bias", None) for m in (module, target))
        if theirs_bias is not None:
            theirs_bias.copy_(bias)
        elif bias is not None:
            bias.zero_()
