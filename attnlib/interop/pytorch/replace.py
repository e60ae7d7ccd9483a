"""Somebody else's model on attnlib: every ``nn.MultiheadAttention`` in it, with its parameters and its contract."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib import checks, functional, masks
from attnlib.interop.pytorch.masks import check_bool_or_float, open_and_shift
from attnlib.masks import Mask
from attnlib.modes import is_plain
from attnlib.multihead import MultiHeadAttention

__all__ = ["Report", "TorchMultiHeadAttention", "replace_attention", "why_not"]


@dataclass(frozen=True)
class Report:
    """What :func:`replace_attention` did, layer by layer, by their names in the model.

    Attributes:
        swapped: the layers that attnlib computes now.
        kept: the layers that are as they were, each with the reason.

    >>> from attnlib.interop.pytorch import Report
    >>> print(Report(swapped=("encoder",), kept={"pool": "a subclass"}))
    swapped: encoder
    kept: pool: a subclass
    """

    swapped: tuple[str, ...]
    kept: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"swapped: {name or '(the model itself)'}" for name in self.swapped]
        return "\n".join([*lines, *(f"kept: {name or '(the model itself)'}: {why}" for name, why in self.kept.items())])


def replace_attention(model: nn.Module) -> Report:
    """Let attnlib compute every :class:`torch.nn.MultiheadAttention` in ``model``, in place.

    The model keeps its parameters, their names, its state dict, its hooks and what its layers return: an optimizer that
    was made before goes on, and a checkpoint loads before and after. Outputs and gradients stay the same, to the
    dtype's tolerance, in training and not, in the layers of :class:`torch.nn.Transformer` too: the fused path of its
    encoder layers makes way.

    What is gained: :func:`attnlib.record_attention` works, and a query that may attend to nothing gets zeros, which the
    output projection maps to its bias, where torch answers NaN if it is asked for weights. What else differs: dropout
    draws other random numbers, unless weights are asked for; ``is_causal=True`` without a causal ``attn_mask`` raises,
    where torch takes now the hint, now the mask; ``torch.jit.script`` cannot read the layers.

    Args:
        model: any module, which may be a :class:`torch.nn.MultiheadAttention` itself.

    Returns:
        Which layers were swapped, and which were not, and why.

    Raises:
        TypeError: if ``model`` is not a module.
        ValueError: if it holds no :class:`torch.nn.MultiheadAttention`.

    >>> import torch
    >>> from attnlib.interop import pytorch
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> x = torch.randn(3, 5, 8)
    >>> expected = model(x)
    >>> print(pytorch.replace_attention(model))
    swapped: self_attn
    >>> torch.allclose(model(x), expected, atol=1e-6)
    True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    named = model.named_modules(remove_duplicate=False)  # a shared layer has several names
    layers = [(name, layer) for name, layer in named if isinstance(layer, nn.MultiheadAttention)]
    if not layers:
        found = f"{type(model).__name__} without one"
        raise ValueError(f"model: expected a model with a torch.nn.MultiheadAttention, got {found}")
    reasons = [(name, layer, why_not(layer)) for name, layer in layers]
    for layer in {layer: None for _, layer, reason in reasons if reason is None}:
        _swap(layer)
    swapped = tuple(name for name, _, reason in reasons if reason is None)
    return Report(swapped, {name: reason for name, _, reason in reasons if reason is not None})


def why_not(layer: nn.MultiheadAttention) -> str | None:
    """Return why attnlib does not compute this layer, and what to do instead; None if it does.

    >>> import torch
    >>> from attnlib.interop.pytorch.replace import why_not
    >>> why_not(torch.nn.MultiheadAttention(8, 2)) is None
    True
    """
    if type(layer) is TorchMultiHeadAttention:
        return "attnlib computes it already"
    if type(layer) is not nn.MultiheadAttention:
        return f"{type(layer).__name__} is a subclass of torch's layer, which may compute something else"
    if "forward" in vars(layer):
        return (
            "its forward was replaced on the instance, by a wrapper or a hook of another package; take that off first"
        )
    open_column = "with one more column in the mask, open to all"
    if layer.bias_k is not None:
        way = f"append bias_k and bias_v to the projected keys and values yourself, {open_column}"
        return f"add_bias_kv=True adds a learned key and value; {way}, and call attnlib.attention"
    if layer.add_zero_attn:
        way = f"append a row of zeros to the projected keys and values yourself, {open_column}"
        return f"add_zero_attn=True adds a key and a value of zeros; {way}, and call attnlib.attention"
    if not 0 <= layer.dropout < 1:
        return f"dropout={layer.dropout} is no probability in [0, 1)"
    return None


def _swap(layer: nn.MultiheadAttention) -> None:
    """Change the layer's class: so that whoever holds it, and whatever hangs on it, stays."""
    layer.__class__ = TorchMultiHeadAttention
    layer.attention = _Heads(layer.num_heads, layer.embed_dim).train(layer.training)
    # The fused path of an encoder layer computes from the parameters alone. It makes way where a hook wants to be
    # called inside the layer: this one says that somebody does.
    layer.attention.register_forward_hook(_nothing_to_do)


def _check_hint(attn_mask: Tensor) -> None:
    """Check that a mask (…, L, L) is the causal one, where its numbers may be looked at."""
    if not (attn_mask.is_cpu and is_plain(attn_mask)):
        return
    closed = True if attn_mask.dtype == torch.bool else -math.inf
    causal = attn_mask.new_full(attn_mask.shape[-2:], closed).triu(1)  # compared whole: less than masking by it takes
    if not torch.equal(attn_mask, causal.expand_as(attn_mask)):
        raise ValueError("is_causal: expected the causal attn_mask beside it, got another mask; leave is_causal out")


def _nothing_to_do(module: nn.Module, args: tuple, output: Tensor) -> None:
    return None


class TorchMultiHeadAttention(nn.MultiheadAttention):
    """A :class:`torch.nn.MultiheadAttention` that attnlib computes: made by :func:`replace_attention`.

    Attributes:
        attention: the :class:`attnlib.MultiHeadAttention` that computes the heads. It holds no parameters, since its
            queries, keys and values come projected; :func:`attnlib.record_attention` finds it.

    >>> import torch
    >>> from attnlib.interop.pytorch import TorchMultiHeadAttention, replace_attention
    >>> layer = torch.nn.MultiheadAttention(8, 2)
    >>> _ = replace_attention(layer)
    >>> isinstance(layer, TorchMultiHeadAttention)
    True
    """

    attention: "_Heads"

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what torch's layer returns for the same arguments.

        Args:
            query: (L, B, E), or (B, L, E) if ``batch_first``, or (L, E); nested, for self-attention, if torch's fast
                path takes it.
            key: (S, B, kdim), laid out as ``query``.
            value: (S, B, vdim), laid out as ``query``.
            key_padding_mask: (B, S), or (S,): bool, True where a key is padding, or float.
            need_weights: whether the weights are returned too.
            attn_mask: (L, S), (B·H, L, S), or (H, L, S) for (L, E): bool, True where a query may *not* attend, or
                float.
            average_attn_weights: whether the weights are averaged over the heads.
            is_causal: a promise that ``attn_mask`` is the causal one. As in torch, it is used where no weights are
                wanted and no keys are padding; on a CPU it is checked first.

        Returns:
            The output, laid out as ``query``, and None, or the weights (B, L, S), or (B, H, L, S), after dropout.

        Raises:
            ValueError: if sizes do not fit, or ``is_causal`` stands without an ``attn_mask``, or beside another one.
            TypeError: if something is not a tensor, or dtypes do not fit.
        """
        if is_causal and attn_mask is None:
            way = "give attn_mask=nn.Transformer.generate_square_subsequent_mask(L), too"
            raise ValueError(f"is_causal: expected the causal attn_mask beside it, got None; {way}")
        if isinstance(query, Tensor) and query.is_nested and not self.batch_first:
            raise TypeError("query: expected a padded tensor, since batch_first=False, got a nested one")
        if isinstance(query, Tensor) and query.is_nested and query.layout == torch.strided:
            options = {"need_weights": need_weights, "average_attn_weights": average_attn_weights}
            return self._nested(query, key, value, key_padding_mask, attn_mask, **options)
        is_self = query is key and key is value  # asked first: a view of a tensor is another one
        self._check(query, key, value)
        if not query.is_nested:
            self._check_masks(query, key, attn_mask, key_padding_mask)
        batched, seq_first = query.dim() == 3, query.dim() == 3 and not self.batch_first
        if seq_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        elif not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        mask: Mask | Tensor | None
        L, S = query.shape[1], key.shape[1]
        hinted = is_causal and key_padding_mask is None and not need_weights
        if hinted and L == S and attn_mask is not None:
            _check_hint(attn_mask)
            mask, bias = masks.causal(), None
        else:
            mask, bias = open_and_shift(attn_mask, key_padding_mask, self.num_heads)
        projected = self._projected(query, key, value, is_self)
        self.attention.dropout = self.dropout  # an attribute, so that it may have changed
        if need_weights:
            heads, weights = self.attention.with_weights(*projected, mask, bias)
            weights = weights.mean(dim=1) if average_attn_weights else weights
        else:
            heads, weights = self.attention(*projected, mask, bias=bias), None
        # Mixed in the caller's layout, so that the output is contiguous there, as torch's is.
        output = F.linear(heads.transpose(0, 1) if seq_first else heads, self.out_proj.weight, self.out_proj.bias)
        if batched:
            return output, weights
        return output.squeeze(0), None if weights is None else weights.squeeze(0)

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        checks.tokens("query", query, self.embed_dim)
        checks.tokens("key", key, self.kdim, query)
        checks.tokens("value", value, self.vdim, query)
        if value.shape[:-1] != key.shape[:-1]:
            wanted, found = tuple(key.shape[:-1]), tuple(value.shape[:-1])
            raise ValueError(f"value: expected as many tokens as key, {wanted}, got {found}")

    def _check_masks(
        self, query: Tensor, key: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None
    ) -> None:
        """Check that the masks are of torch's shapes: one of (B, L, S), say, would be taken for that of the heads."""
        axis = int(query.dim() == 3 and self.batch_first)  # of the tokens; the other one before the last is the batch
        batch, L, S = query.shape[1 - axis : -1 - axis], query.shape[axis], key.shape[axis]
        if attn_mask is not None:
            check_bool_or_float("attn_mask", attn_mask)
            each = (math.prod(batch) * self.num_heads, L, S)
            if tuple(attn_mask.shape) not in ((L, S), each):
                wanted = f"(L, S) = {(L, S)} or ({'B·' * len(batch)}H, L, S) = {each}"
                raise ValueError(f"attn_mask: expected {wanted}, got {tuple(attn_mask.shape)}")
        if key_padding_mask is not None:
            check_bool_or_float("key_padding_mask", key_padding_mask)
            if tuple(key_padding_mask.shape) != (*batch, S):
                wanted = f"{'(B, S)' if batch else '(S,)'} = {(*batch, S)}"
                raise ValueError(f"key_padding_mask: expected {wanted}, got {tuple(key_padding_mask.shape)}")

    def _projected(self, query: Tensor, key: Tensor, value: Tensor, is_self: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Project to (B, L, E), (B, S, E), (B, S, E); self-attention in one product."""
        if self.in_proj_weight is None:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif is_self and not query.is_nested:
            packed = F.linear(query, self.in_proj_weight, self.in_proj_bias)
            queries, keys, values = packed.chunk(3, dim=-1)
            return queries, keys, values
        else:
            weights = self.in_proj_weight.chunk(3)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        queries, keys, values = map(F.linear, (query, key, value), weights, biases)
        return queries, keys, values

    def _nested(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *masks: Tensor | None,
        need_weights: bool,
        average_attn_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend inside each example of a nested tensor, as torch's encoder makes it of a padded batch."""
        if query is not key or key is not value:
            raise TypeError("query: expected padded tensors, or one nested tensor for all three")
        if any(mask is not None for mask in masks):
            raise TypeError("query: expected a padded tensor beside a mask, got a nested one")
        lengths = [len(example) for example in query.unbind()]
        x = torch.nested.to_padded_tensor(query, 0.0)
        padding = torch.arange(x.shape[1], device=x.device) >= torch.tensor(lengths, device=x.device)[:, None]
        output, weights = self.forward(x, x, x, padding, need_weights, None, average_attn_weights)
        if weights is not None:  # torch pads them
            closed = padding[..., None] if average_attn_weights else padding[:, None, :, None]
            weights = weights.masked_fill(closed, 0.0)
        examples = [example[:length] for example, length in zip(output, lengths, strict=True)]
        return torch.nested.as_nested_tensor(examples), weights


class _Heads(MultiHeadAttention):
    """The heads alone: queries, keys and values come projected, and what they gather goes out unmixed."""

    def __init__(self, num_heads: int, d_model: int):
        super().__init__(num_heads, d_model, device="meta")
        for name in ("wq", "wk", "wv", "fc"):
            setattr(self, name, nn.Identity())

    def reset_parameters(self) -> None:
        """There are none."""

    def with_weights(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Mask | Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the heads' outputs (B, L, E) and their weights (B, H, L, S), with a gradient, after dropout."""
        key, value, scores = self._checked(query, key, value, mask, bias, None, need_weights=True)
        split = (x.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2) for x in (query, key, value))
        queries, keys, values = split
        heads, weights = functional.compute(queries, keys, values, scores, scale=self.d_k**-0.5, need_weights=True)
        for show in self._observers:
            show(weights.detach())
        if self.training and self.dropout:
            # torch returns the weights that met the values.
            weights = F.dropout(weights, self.dropout)
            heads = weights @ values
        return heads.transpose(-3, -2).flatten(-2), weights
