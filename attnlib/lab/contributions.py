"""What each key adds to each query: its weight, times its value after the output projection."""

from contextlib import ExitStack
from typing import cast

import torch
from torch import Tensor, nn

from attnlib.multihead import MultiHeadAttention
from attnlib.recording import record_attention


@torch.no_grad()
def contributions(layer: MultiHeadAttention, value: Tensor, weights: Tensor) -> Tensor:
    """Return the length of what each key adds to each query in each head, ‖A_ij · V_j · W_O‖.

    Section 2.3 of "Attention is Not Only a Weight" (Kobayashi et al., 2020).

    Args:
        layer: the layer; a bias of its output projection belongs to no key and is left out.
        value: (B, S, d_model), the tokens that the layer takes its values from.
        weights: (B, H, L, S), what the layer gave to them.

    Returns:
        (B, H, L, S).

    >>> import torch
    >>> from attnlib import MultiHeadAttention
    >>> from attnlib.lab.contributions import contributions
    >>> layer = MultiHeadAttention(num_heads=2, d_model=4)
    >>> x = torch.randn(1, 3, 4)
    >>> _ = layer.eval()(x, need_weights=True)
    >>> contributions(layer, x, layer.attn).shape
    torch.Size([1, 2, 3, 3])
    """
    values = layer.wv(value).unflatten(-1, (layer.num_kv_heads, layer.d_v)).transpose(1, 2)  # (B, H_kv, S, d_v)
    values = values.repeat_interleave(layer.num_heads // layer.num_kv_heads, dim=1)  # (B, H, S, d_v)
    blocks = layer.fc.weight.T.unflatten(0, (layer.num_heads, layer.d_v))  # (H, d_v, d_model)
    return weights * (values @ blocks).norm(dim=-1)[:, :, None, :]


@torch.no_grad()
def weights_and_contributions(model: nn.Module, *inputs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Call a model whose attention is self-attention; return the weights and contributions of each layer by its name.

    Args:
        model: a model with :class:`attnlib.MultiHeadAttention` layers.
        inputs: what the model is called with.

    Returns:
        For each layer two tensors (B, H, L, S).

    >>> import torch
    >>> from attnlib import MultiHeadAttention
    >>> from attnlib.lab.contributions import weights_and_contributions
    >>> model = torch.nn.Sequential(MultiHeadAttention(num_heads=2, d_model=4)).eval()
    >>> weights, lengths = weights_and_contributions(model, torch.randn(1, 3, 4))["0"]
    >>> weights.shape == lengths.shape
    True
    """
    seen: dict[nn.Module, Tensor] = {}
    with ExitStack() as cleanup, record_attention(model) as record:
        for layer in model.modules():
            if isinstance(layer, MultiHeadAttention):
                hook = layer.register_forward_pre_hook(lambda layer, args: seen.update({layer: args[0]}))
                cleanup.callback(hook.remove)
        model(*inputs)
    layers = {name: cast(MultiHeadAttention, model.get_submodule(name)) for name in record}
    return {name: (record[name], contributions(layer, seen[layer], record[name])) for name, layer in layers.items()}
