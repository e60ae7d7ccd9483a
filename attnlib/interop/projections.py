"""Projections that other libraries store as one, taken apart."""

from torch import Tensor

from attnlib.checks import whole_number

__all__ = ["split_qkv"]


def split_qkv(
    fused: Tensor, num_heads: int, num_kv_heads: int | None = None, *, by_group: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one projection to queries, keys and values apart into ``wq``, ``wk`` and ``wv``.

    ==================================  =====================================================  ============
    whose                               rows                                                   by_group
    ==================================  =====================================================  ============
    ``nn.MultiheadAttention``, timm,    those of all query heads, of all key heads, of all     False
    GPT-2, Phi-3                        value heads
    GPT-NeoX, BLOOM, Falcon             key head by key head: its queries', its own, its       True
                                        value's
    ==================================  =====================================================  ============

    GPT-2's ``c_attn`` is a ``Conv1D``, whose weight is (in, out): give ``c_attn.weight.T``.

    Args:
        fused: the weight ((H + 2·H_kv)·d_k, d_model), as :class:`torch.nn.Linear` has it, or the bias, its rows alone.
        num_heads: H, the number of query heads.
        num_kv_heads: H_kv, the number of key and value heads, a divisor of H. Default: H.
        by_group: whether the rows of each key head stand together with those of its queries and of its value.

    Returns:
        What ``wq``, ``wk`` and ``wv`` of :class:`attnlib.MultiHeadAttention` hold; it may share memory with ``fused``.

    Raises:
        ValueError: if the rows cannot be shared out among so many heads.
        TypeError: if ``fused`` is not a tensor, or a number is not whole.

    >>> import torch
    >>> from attnlib import MultiHeadAttention
    >>> from attnlib.interop import split_qkv
    >>> theirs = torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
    >>> attend, x = MultiHeadAttention(num_heads=2, d_model=8, dropout=0.0), torch.randn(3, 5, 8)
    >>> query, key, value = split_qkv(theirs.in_proj_weight, num_heads=2)
    >>> weights = {"wq.weight": query, "wk.weight": key, "wv.weight": value, "fc.weight": theirs.out_proj.weight}
    >>> attend.load_state_dict(weights)
    <All keys matched successfully>
    >>> torch.allclose(attend(x), theirs(x, x, x)[0], atol=1e-6)
    True
    """
    if not isinstance(fused, Tensor):
        raise TypeError(f"fused: expected a tensor, got {type(fused).__name__}")
    H = whole_number("num_heads", num_heads)
    H_kv = H if num_kv_heads is None else whole_number("num_kv_heads", num_kv_heads)
    if H % H_kv:
        raise ValueError(f"num_kv_heads: expected a divisor of num_heads={H}, got {H_kv}")
    if fused.dim() not in (1, 2) or fused.shape[0] % (H + 2 * H_kv):
        wanted = f"a weight or a bias with a multiple of H + 2·H_kv = {H + 2 * H_kv} rows"
        raise ValueError(f"fused: expected {wanted}, got {tuple(fused.shape)}")
    groups, heads = (H_kv, [H // H_kv, 1, 1]) if by_group else (1, [H, H_kv, H_kv])
    # ((H + 2·H_kv)·d_k, …) → (groups, heads of each, d_k, …)
    query, key, value = fused.unflatten(0, (groups, sum(heads), -1)).split(heads, dim=1)
    return query.flatten(0, 2), key.flatten(0, 2), value.flatten(0, 2)
