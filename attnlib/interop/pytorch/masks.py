"""The masks of :class:`torch.nn.MultiheadAttention`, where True means *may not* attend, and those of attnlib."""

import math

import torch
from torch import Tensor

from attnlib import masks
from attnlib.biases import ByDistance
from attnlib.checks import whole_number
from attnlib.masks import Mask
from attnlib.scores import Scores

__all__ = ["check_bool_or_float", "from_masks", "open_and_shift", "to_attn_mask", "to_key_padding_mask"]


def from_masks(
    attn_mask: Tensor | None = None, key_padding_mask: Tensor | None = None, *, num_heads: int | None = None
) -> tuple[Mask | None, Tensor | None]:
    """Return the ``mask`` and the ``bias`` that mean what torch's two masks mean together.

    A bool mask of torch's is True where a query may *not* attend: the opposite of attnlib's. A float mask is added to
    the scores: what is −∞ in it becomes closed in the mask, the rest is the bias.

    Args:
        attn_mask: bool or float, (L, S) or (B·H, L, S).
        key_padding_mask: bool or float, (B, S).
        num_heads: H, needed to tell the examples of a (B·H, L, S) mask from its heads.

    Returns:
        A Mask, or None where there was none, and a bias (L, S) or (B, H|1, L|1, S), or None where no mask was float.

    Raises:
        TypeError: if a mask is neither a bool nor a float tensor.
        ValueError: if it has other axes, or ``num_heads`` is missing or does not divide B·H.

    >>> import torch
    >>> from attnlib.interop.pytorch import from_masks
    >>> mask, bias = from_masks(key_padding_mask=torch.tensor([[False, False, True]]))
    >>> mask.dense(1, 3), bias
    (tensor([[[[ True,  True, False]]]]), None)
    """
    allowed, bias = open_and_shift(attn_mask, key_padding_mask, num_heads)
    return None if allowed is None else masks.from_tensor(allowed), bias


def open_and_shift(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, num_heads: int | None
) -> tuple[Tensor | None, Tensor | None]:
    """Return what is open, as a bool tensor, and what is added to the scores. See :func:`from_masks`.

    >>> import torch
    >>> from attnlib.interop.pytorch.masks import open_and_shift
    >>> open_and_shift(torch.tensor([[0.0, 2.0, -torch.inf]]), None, None)
    (tensor([[ True,  True, False]]), tensor([[0., 2., 0.]]))
    """
    parts = []
    if attn_mask is not None:
        check_bool_or_float("attn_mask", attn_mask)
        parts.append(_with_heads(attn_mask, num_heads))
    if key_padding_mask is not None:
        check_bool_or_float("key_padding_mask", key_padding_mask)
        if key_padding_mask.dim() != 2:
            raise ValueError(f"key_padding_mask: expected (B, S), got {tuple(key_padding_mask.shape)}")
        parts.append(key_padding_mask[:, None, None])
    if attn_mask is not None and key_padding_mask is not None:
        pairs, (B, S) = parts[0], key_padding_mask.shape
        if pairs.shape[-1] != S or (pairs.dim() == 4 and pairs.shape[0] != B):
            wanted = f"(B, S) of attn_mask {tuple(attn_mask.shape)}"
            raise ValueError(f"key_padding_mask: expected {wanted}, got {tuple(key_padding_mask.shape)}")
    allowed: Tensor | None = None
    bias: Tensor | None = None
    for part in parts:
        if part.is_floating_point():
            # Closed, not −∞ in a sum: a query that may attend to nothing then gets zeros instead of NaN.
            opened = part != -math.inf
            shift = part.masked_fill(~opened, 0.0)
            bias = shift if bias is None else bias + shift
        else:
            opened = ~part
        allowed = opened if allowed is None else allowed & opened
    return allowed, bias


def to_attn_mask(
    mask: Mask | Tensor,
    B: int,
    H: int,
    L: int,
    S: int,
    *,
    bias: Tensor | ByDistance | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the ``attn_mask`` with which :class:`torch.nn.MultiheadAttention` does what ``mask`` says.

    Args:
        mask: a Mask, or a bool tensor, True where a query may attend.
        B: the number of examples.
        H: the number of heads.
        L: the number of queries.
        S: the number of keys.
        bias: float, added to the scores: (L, S) or (B|1, H|1, L|1, S|1); or a rule by the distance, which is made of
            torch's default dtype.
        device: where the mask is made, and where a mask or a bias that is a tensor lies. Default: torch's default
            device.

    Returns:
        A bool tensor, True where a query may *not* attend; with a bias a float one, −∞ there. It is (L, S) where all
        examples and heads share it, else (B·H, L, S). Beware that torch answers NaN to a query that may attend to
        nothing if it is asked for the weights too, which is its default.

    Raises:
        ValueError: if a size does not fit.
        TypeError: if ``mask`` is neither a Mask nor a bool tensor, or the bias is not float.

    >>> from attnlib import masks
    >>> from attnlib.interop.pytorch import to_attn_mask
    >>> to_attn_mask(masks.causal(), B=2, H=3, L=2, S=2)
    tensor([[False,  True],
            [False, False]])
    """
    sizes = [("B", B, 1), ("H", H, 1), ("L", L, 0), ("S", S, 0)]
    shape = tuple(whole_number(name, size, at_least) for name, size, at_least in sizes)
    device = torch.get_default_device() if device is None else torch.device(device)
    scores = Scores.of(mask, bias, shape, device)
    blocked = torch.zeros(L, S, dtype=torch.bool, device=device) if scores.mask is None else ~scores.allowed()
    added = scores.bias_among(torch.get_default_dtype())
    blocked = blocked if added is None else added.masked_fill(blocked, -math.inf)
    if blocked.dim() == 2 or blocked.shape[:2] == (1, 1):
        return blocked.reshape(blocked.shape[-2:]).expand(L, S).clone()
    return blocked.expand(shape).flatten(0, 1)


def to_key_padding_mask(mask: Mask, B: int, S: int, *, device: torch.device | str | None = None) -> Tensor:
    """Return the ``key_padding_mask`` (B, S) that means what ``mask`` means: True where a key is padding.

    Args:
        mask: one that says the same for every query and head, such as :func:`attnlib.masks.padding`.
        B: the number of examples.
        S: the number of keys.
        device: where it is made. Default: torch's default device.

    Raises:
        ValueError: if the mask differs between queries or heads, or a size does not fit.
        TypeError: if it is not a Mask.

    >>> from attnlib import masks
    >>> from attnlib.interop.pytorch import to_key_padding_mask
    >>> to_key_padding_mask(masks.padding([3, 1]), B=2, S=3)
    tensor([[False, False, False],
            [False,  True,  True]])
    """
    if not isinstance(mask, Mask):
        raise TypeError(f"mask: expected a Mask, got {type(mask).__name__}")
    allowed = mask.dense(S, S, device)
    allowed = allowed if allowed.dim() == 4 else allowed[None, None]
    if allowed.shape[1] != 1 or not torch.equal(allowed, allowed[..., :1, :].expand_as(allowed)):
        raise ValueError("mask: expected one that is the same for every query and head; use to_attn_mask")
    if allowed.shape[0] not in (1, B):
        raise ValueError(f"mask: expected one for a batch of {B}, got one made for {allowed.shape[0]} examples")
    return ~allowed[:, 0, 0].expand(B, S)


def check_bool_or_float(name: str, mask: Tensor) -> None:
    """Check that a mask of torch's is a bool or a float tensor.

    >>> import torch
    >>> from attnlib.interop.pytorch.masks import check_bool_or_float
    >>> check_bool_or_float("attn_mask", torch.zeros(2, 2))
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name}: expected a bool or a float tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(f"{name}: expected a bool or a float tensor, got {mask.dtype}")


def _with_heads(attn_mask: Tensor, num_heads: int | None) -> Tensor:
    """(L, S) as it is, (B·H, L, S) → (B, H, L, S)."""
    if attn_mask.dim() == 2:
        return attn_mask
    found = tuple(attn_mask.shape)
    if attn_mask.dim() != 3:
        raise ValueError(f"attn_mask: expected (L, S) or (B·H, L, S), got {found}")
    if num_heads is None:
        raise ValueError(f"num_heads: expected the number of heads beside an attn_mask (B·H, L, S) = {found}, got None")
    num_heads = whole_number("num_heads", num_heads)
    if found[0] % num_heads:
        raise ValueError(f"attn_mask: expected (B·H, L, S) with H = {num_heads}, got {found}")
    return attn_mask.unflatten(0, (-1, num_heads))
