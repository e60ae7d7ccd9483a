"""Each implementation as something to call: ready-made weights, inputs and masks, the same for all.

A builder takes the problem of a case and returns a :class:`Contender`. What is no part of the computation itself, such
as making a mask or filling a cache, is done by the builder or by ``prepare``, off the clock, for every contender alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

OURS = "attnlib"


class Unavailable(Exception):
    """Why an implementation cannot run here."""


@dataclass(frozen=True)
class Contender:
    """An implementation, ready to run.

    Attributes
    ----------
    run: one call. Returns what must be equal among all contenders: the output, and in training the gradients of the
        inputs.
    note: which of its own ways the implementation takes.
    prepare: brings back the state in which every sample starts.
    """

    run: Callable[[], tuple[Tensor, ...]]
    note: str = ""
    prepare: Callable[[], None] = lambda: None


def step(
    forward: Callable[[], tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    cotangent: Tensor | None,
) -> Callable[[], tuple[Tensor, ...]]:
    """Return one call: ``forward`` alone, or with a ``cotangent`` of its first output the way back as well.

    The gradients of ``inputs`` are returned, those of ``parameters`` are computed too, as training needs them.
    """
    if cotangent is None:
        return forward

    def forward_and_backward() -> tuple[Tensor, ...]:
        outputs = forward()
        gradients = torch.autograd.grad(outputs[0], [*inputs, *parameters], cotangent)
        return (*(x.detach() for x in outputs), *gradients[: len(inputs)])

    return forward_and_backward


def seeded_normal(*shape: int, dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
    """Return the same normal numbers on every device: drawn on the CPU, in float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(device, dtype)
