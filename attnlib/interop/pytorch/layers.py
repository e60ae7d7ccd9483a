"""One layer of ``torch.nn`` and one of attnlib, made of each other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attnlib.interop.pytorch.replace import TorchMultiHeadAttention, why_not
from attnlib.multihead import MultiHeadAttention

__all__ = ["from_torch", "to_torch"]


def from_torch(layer: nn.MultiheadAttention, *, share: bool = False) -> MultiHeadAttention:
    """Return the :class:`attnlib.MultiHeadAttention` that computes what ``layer`` computes.

    It takes its tokens batch first, (B, L, d_model), whatever ``layer.batch_first`` says, and returns the output alone;
    its masks are True where a query *may* attend (:func:`from_masks`). Weights that it keeps on request are those of
    each head, before dropout.

    Args:
        layer: with biases or without, on any device, of any dtype, in training or not.
        share: whether the weights lie in the layer's own memory, so that what changes one layer in place changes the
            other; each has its own gradients. Default: a copy.

    Raises:
        ValueError: if the layer adds keys (``add_bias_kv``, ``add_zero_attn``). The message says what to do instead.
        TypeError: if it is of another class, which may compute something else.

    >>> import torch
    >>> from attnlib.interop import pytorch
    >>> layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> attend, x = pytorch.from_torch(layer), torch.randn(3, 5, 8)
    >>> torch.allclose(attend(x), layer(x, x, x)[0], atol=1e-6)
    True
    """
    if not isinstance(layer, nn.MultiheadAttention):
        way = "; for a whole model, use replace_attention" if isinstance(layer, nn.Module) else ""
        raise TypeError(f"layer: expected a torch.nn.MultiheadAttention, got {type(layer).__name__}{way}")
    reason = None if type(layer) is TorchMultiHeadAttention else why_not(layer)
    if reason is not None:
        raise (ValueError if type(layer) is nn.MultiheadAttention else TypeError)(f"layer: {reason}")
    widths = {"key_width": layer.kdim, "value_width": layer.vdim}
    attend = MultiHeadAttention(layer.num_heads, layer.embed_dim, dropout=layer.dropout, device="meta", **widths)
    if layer.in_proj_weight is None:
        packed = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        weights = [_parameter(weight, share) for weight in packed]
    else:
        weights = _thirds(layer.in_proj_weight, share)
    for projection, weight, bias in zip(
        (attend.wq, attend.wk, attend.wv, attend.fc),
        (*weights, _parameter(layer.out_proj.weight, share)),
        (*_thirds(layer.in_proj_bias, share), _parameter(layer.out_proj.bias, share)),
        strict=True,
    ):
        projection.register_parameter("weight", weight)
        projection.register_parameter("bias", bias)
    return attend.train(layer.training)


def to_torch(layer: MultiHeadAttention, *, batch_first: bool = True, share: bool = False) -> nn.MultiheadAttention:
    """Return the :class:`torch.nn.MultiheadAttention` that computes what ``layer`` computes.

    Its masks are True where a query may *not* attend (:func:`to_attn_mask`, :func:`to_key_padding_mask`), and it
    returns weights too unless it is told ``need_weights=False``.

    Args:
        layer: with as many key heads as heads, d_k = d_v = d_model / H, the paper's scale, and neither rotary positions
            nor norms of queries and keys; with a bias in all four projections, or in none.
        batch_first: whether the layer that is returned takes (B, L, d_model), or (L, B, d_model).
        share: whether both have one memory: the weights of ``layer`` are moved to where torch wants them, side by side.
            Default: a copy.

    Raises:
        ValueError: if torch's layer has no way to express what ``layer`` does, or which of its weights are frozen.
        TypeError: if it is no :class:`attnlib.MultiHeadAttention`, or its projections are not :class:`torch.nn.Linear`.

    >>> import torch
    >>> from attnlib import MultiHeadAttention
    >>> from attnlib.interop import pytorch
    >>> attend, x = MultiHeadAttention(num_heads=2, d_model=8), torch.randn(3, 5, 8)
    >>> layer = pytorch.to_torch(attend.eval())
    >>> torch.allclose(attend(x), layer(x, x, x)[0], atol=1e-6)
    True
    """
    if not isinstance(layer, MultiHeadAttention):
        found = type(layer).__name__
        way = "; it is torch's already: its state dict fits the model before" * isinstance(layer, nn.MultiheadAttention)
        raise TypeError(f"layer: expected an attnlib.MultiHeadAttention, got {found}{way}")
    H, d_model = layer.num_heads, layer.d_model
    if layer.num_kv_heads != H:
        way = "repeat the rows of wk and wv for each group of query heads"
        raise ValueError(f"layer: expected num_kv_heads = num_heads = {H}, got {layer.num_kv_heads}; {way}")
    if H * layer.d_k != d_model or H * layer.d_v != d_model:
        found = f"d_k={layer.d_k}, d_v={layer.d_v}"
        raise ValueError(f"layer: expected d_k = d_v = d_model / num_heads = {d_model / H:g}, got {found}")
    if layer.rotary is not None:
        raise ValueError("layer: expected one without rotary positions, which torch's layer has no place for")
    if layer.q_norm is not None:
        raise ValueError("layer: expected one without qk_norm, which torch's layer has no place for")
    if layer.scale != layer.d_k**-0.5:
        way = f"multiply the weight and the bias of wq by {layer.scale:g}·√d_k, and make the scale 1/√d_k"
        raise ValueError(f"layer: expected the scale 1/√d_k, got {layer.scale:g}; {way}")
    projections = (layer.wq, layer.wk, layer.wv, layer.fc)
    for name, projection in zip(("wq", "wk", "wv", "fc"), projections, strict=True):
        if type(projection) is not nn.Linear:
            raise TypeError(f"{name}: expected a torch.nn.Linear, got {type(projection).__name__}")
    if len({projection.bias is None for projection in projections}) > 1:
        raise ValueError("layer: expected a bias in all four projections, or in none")
    biased = layer.fc.bias is not None
    widths = {"kdim": layer.key_width, "vdim": layer.value_width}
    one_width = set(widths.values()) == {d_model}
    for name in ("weight",) * one_width + ("bias",) * biased:  # what torch holds in one parameter
        if len({getattr(p, name).requires_grad for p in projections[:3]}) > 1:
            raise ValueError(f"layer: expected the {name} of wq, wk and wv frozen in all, or in none")
    options = {"bias": biased, "batch_first": batch_first, "device": "meta"}
    theirs = nn.MultiheadAttention(d_model, H, layer.dropout, **options, **widths)
    for name in ("weight", "bias") if biased else ("weight",):
        of_inputs = [getattr(p, name) for p in projections[:3]]
        if one_width or name == "bias":
            setattr(theirs, f"in_proj_{name}", _side_by_side(of_inputs, share))
        else:
            for letter, weight in zip("qkv", of_inputs, strict=True):
                setattr(theirs, f"{letter}_proj_weight", _parameter(weight, share))
        setattr(theirs.out_proj, name, _parameter(getattr(layer.fc, name), share))
    return theirs.train(layer.training)


def _parameter(original: Tensor | None, share: bool) -> nn.Parameter | None:
    if original is None:
        return None
    values = original.detach()
    return nn.Parameter(values if share else values.clone(), original.requires_grad)


def _thirds(packed: nn.Parameter | None, share: bool) -> list[nn.Parameter | None]:
    """Return torch's one parameter for queries, keys and values as three."""
    if packed is None:
        return [None] * 3
    thirds = packed.detach().chunk(3)
    return [nn.Parameter(third if share else third.clone(), packed.requires_grad) for third in thirds]


def _side_by_side(parts: Sequence[nn.Parameter], share: bool) -> nn.Parameter:
    """Return three parameters as one; where they are to share, the three become views of it."""
    packed = torch.cat([part.detach() for part in parts])
    if share:
        for part, view in zip(parts, packed.chunk(3), strict=True):
            part.data = view
    return nn.Parameter(packed, parts[0].requires_grad)
