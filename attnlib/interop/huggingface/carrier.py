"""The tensor that carries a Mask through a model of Transformers, from its mask function to its attention layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attnlib.masks import Mask

__all__ = ["StructuredMask"]


class StructuredMask(Tensor):
    """A bool tensor (B, 1, L, S) without numbers of its own, which stands for a Mask.

    Transformers takes nothing for a finished mask but a tensor with four axes. A model hands it on as it is; where a
    model computes with it, which it does where it computes attention by itself, it raises: it has no numbers, and a
    mask that seems to open everything would be wrong in silence.

    ``contiguous()`` returns a plain float mask: ``generate`` asks for it beside a cache of a fixed size, because what
    follows may be a compiled graph.

    Attributes:
        structure: who may attend to whom among L queries and ``keys`` keys, the last query at the last key; None where
            all may attend to all.
        keys: how many of the S keys there are; the others, of a cache with room for more, are not written yet.
        numbers: makes the float mask, with all queries that there were.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.interop.huggingface.carrier import StructuredMask
    >>> mask = StructuredMask.of(masks.causal(), 5, lambda: torch.zeros(2, 1, 3, 7), (2, 1, 3, 7), torch.device("cpu"))
    >>> mask.shape, mask.keys, mask[:, :, -2:, :].shape
    (torch.Size([2, 1, 3, 7]), 5, torch.Size([2, 1, 2, 7]))
    >>> mask + 1
    Traceback (most recent call last):
    RuntimeError: attn_implementation: this model computes with its mask itself (Tensor.add), which attnlib cannot \
follow; use attn_implementation="eager"
    """

    structure: Mask | None
    keys: int
    numbers: Callable[[], Tensor]

    @classmethod
    def of(
        cls,
        structure: Mask | None,
        keys: int,
        numbers: Callable[[], Tensor],
        shape: tuple[int, int, int, int],
        device: torch.device,
    ) -> "StructuredMask":
        """Return the carrier of ``structure`` among ``keys`` keys, of ``shape`` (B, 1, L, S)."""
        carrier: Any = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device).expand(shape).as_subclass(cls)
        carrier.structure, carrier.keys, carrier.numbers = structure, keys, numbers
        return carrier

    def __repr__(self) -> str:  # type: ignore[override]
        return f"StructuredMask({self.structure}, keys={self.keys}, shape={tuple(self.shape)})"

    @classmethod
    def __torch_function__(
        cls, function: Any, types: tuple[type, ...], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _ASKS:
            return super().__torch_function__(function, types, args, kwargs)
        mask: StructuredMask = args[0]
        if function is Tensor.contiguous:
            return mask.numbers()[..., -mask.shape[-2] :, :].to(mask.device)
        if not (function in _KEEPS or (function is Tensor.__getitem__ and _are_last_queries(args[1]))):
            raise RuntimeError(_refusal(function))
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **kwargs)  # of the right shape and device, whatever stands in it
        if result.dtype != torch.bool:
            raise RuntimeError(_refusal(function))
        return cls.of(mask.structure, mask.keys, mask.numbers, tuple(result.shape), result.device)


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
_KEEPS = {Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.clone, Tensor.detach}
