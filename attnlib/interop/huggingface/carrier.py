"""The tensor that carries a Mask through a model of Transformers, from its mask function to its attention layers."""

from typing import Any

import torch
from torch import Tensor

from attnlib.masks import Mask

__all__ = ["StructuredMask"]


class StructuredMask(Tensor):
    """A bool tensor (B, 1, L, S) without numbers of its own, which stands for a Mask.

    Transformers takes nothing for a finished mask but a tensor with four axes. A model hands it on as it is; where a
    model computes with it, which it does where it computes attention by itself, it raises: it has no numbers to give,
    and a mask that seems to open everything would be wrong in silence.

    Attributes:
        structure: who may attend to whom among L queries and ``keys`` keys, the last query at the last key; None where
            all may attend to all.
        keys: how many of the S keys there are; the others, of a cache with room for more, are not written yet.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.interop.huggingface.carrier import StructuredMask
    >>> mask = StructuredMask.of(masks.causal(), 5, (2, 1, 3, 7), torch.device("cpu"))
    >>> mask.shape, mask.keys, mask[:, :, -2:, :].shape
    (torch.Size([2, 1, 3, 7]), 5, torch.Size([2, 1, 2, 7]))
    >>> mask + 1
    Traceback (most recent call last):
    RuntimeError: attn_implementation: this model computes with its mask itself (Tensor.add), which attnlib cannot \
follow; use attn_implementation="eager"
    """

    structure: Mask | None
    keys: int

    @classmethod
    def of(
        cls, structure: Mask | None, keys: int, shape: tuple[int, int, int, int], device: torch.device
    ) -> "StructuredMask":
        """Return the carrier of ``structure`` among ``keys`` keys, of ``shape`` (B, 1, L, S)."""
        one = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
        return _with(one.expand(shape).as_subclass(cls), structure, keys)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: tuple[type, ...], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _ASKS:
            return super().__torch_function__(function, types, args, kwargs)
        keeps = function in _KEEPS or (function is Tensor.__getitem__ and _are_last_queries(args[1]))
        if not keeps:
            raise RuntimeError(_refusal(function))
        with torch._C.DisableTorchFunctionSubclass():
            # On the numbers that it has not: (B, 1, L, S) without storage, but of the right shape and device.
            result = args[0] if function is Tensor.contiguous else function(*args, **kwargs)
        if result.dtype != torch.bool:
            raise RuntimeError(_refusal(function))
        return _with(result.as_subclass(cls), args[0].structure, args[0].keys)


def _with(carrier: Any, structure: Mask | None, keys: int) -> StructuredMask:
    carrier.structure, carrier.keys = structure, keys
    return carrier


def _are_last_queries(index: Any) -> bool:
    """Return whether ``index`` is ``[:, :, -n:, :]``, or leaves all as it is: what is left keeps its place."""
    if not isinstance(index, tuple) or len(index) > 4 or not all(isinstance(part, slice) for part in index):
        return False
    everything = slice(None)
    of_queries = index[2] if len(index) > 2 else everything
    others = [part for axis, part in enumerate(index) if axis != 2]
    last = of_queries.stop is None and of_queries.step is None and (of_queries.start is None or of_queries.start < 0)
    return last and all(part == everything for part in others)


def _refusal(function: Any) -> str:
    name = getattr(function, "__name__", str(function))
    if name == "__get__":  # of a property, whose name the descriptor knows
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    return (
        f"attn_implementation: this model computes with its mask itself (Tensor.{name}), which attnlib cannot follow; "
        'use attn_implementation="eager"'
    )


# What asks about a tensor, and not for its numbers.
_ASKS = {
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.is_floating_point,
    Tensor.__len__,
    *(
        getattr(Tensor, name).__get__
        for name in ("shape", "ndim", "dtype", "device", "layout", "is_cuda", "is_cpu", "is_nested", "requires_grad")
    ),
    Tensor.requires_grad.__set__,  # type: ignore[attr-defined]  # by checkpointing, which sets what it was
}
# What returns the same mask.
_KEEPS = {Tensor.contiguous, Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.clone, Tensor.detach}
