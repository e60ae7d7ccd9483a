"""What a next token is drawn from: logits, warped by a temperature and cut to the likeliest."""

import math

import torch
from torch import Tensor

from attnlib.checks import finite_number, whole_number
from attnlib.modes import is_plain

__all__ = ["warp_logits"]


def warp_logits(logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> Tensor:
    """Return the logits whose softmax :func:`attnlib.transformer.sample` draws from: −∞ for what must not be drawn.

    In this order, as Hugging Face's logits warpers: the logits are divided by the temperature; what is less likely than
    the k-th likeliest is left out (Fan et al., 2018); of the rest, so is what is not needed to reach the probability
    ``top_p``, least likely first (nucleus sampling, Holtzman et al., 2020). One token always stays.

    Args:
        logits: (…, vocab).
        temperature: what they are divided by. Below 1 the likely becomes likelier.
        top_k: how many tokens stay, or more where several are as likely as the k-th. Default: all.
        top_p: the probability that those which stay have together, at least.

    Returns:
        (…, vocab), in float32 at least. The largest is 0, which changes no probability.

    Raises:
        ValueError: if ``temperature`` is not above 0, or so small or large that float32 has no such number, ``top_k``
            is less than 1 or more than the vocabulary, ``top_p`` is not in (0, 1], or the largest of a row of logits
            is NaN or infinite.
        TypeError: if ``logits`` are not a floating-point tensor, ``top_k`` is not a whole number, or one of the others
            is not a number.

    >>> import torch
    >>> from attnlib.transformer import warp_logits
    >>> logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    >>> warp_logits(logits, top_p=0.7).softmax(-1)
    tensor([0.6250, 0.3750, 0.0000, 0.0000])
    >>> warp_logits(logits, temperature=0.5, top_k=3).softmax(-1)
    tensor([0.6897, 0.2483, 0.0621, 0.0000])
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        found = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"logits: expected a floating-point tensor, got {found}")
    if not logits.dim() or not logits.shape[-1]:
        raise ValueError(f"logits: expected (…, vocab), got {tuple(logits.shape)}")
    top_k = checked_warp(logits.shape[-1], temperature, top_k, top_p)
    # Reading elements would synchronise with a GPU.
    if logits.is_cpu and is_plain(logits) and not logits.amax(-1).isfinite().all():
        raise ValueError("logits: expected rows whose largest is a finite number, got NaN or infinity")
    return warped(logits, temperature, top_k, top_p)


def warped(logits: Tensor, temperature: float, top_k: int | None, top_p: float) -> Tensor:
    """:func:`warp_logits`, of what is known to fit."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # at most 0, which a small one cannot overflow
    if top_k is not None:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[..., -1:], -math.inf)
    if top_p < 1:
        ascending, tokens = logits.sort(dim=-1)
        left_out = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
        left_out[..., -1] = False
        logits = logits.masked_fill(left_out.scatter(-1, tokens, left_out), -math.inf)
    return logits


def checked_warp(vocab: int, temperature: float, top_k: int | None, top_p: float) -> int | None:
    """Check how logits are warped; return ``top_k`` as an int."""
    finite_number("temperature", temperature)
    if temperature <= 0:
        way = "; for the likeliest token, use greedy_search" if temperature == 0 else ""
        raise ValueError(f"temperature: expected a number above 0, got {temperature}{way}")
    float32 = torch.finfo(torch.float32)
    if not float32.tiny <= temperature <= float32.max:  # else it would become 0 or infinity beside the logits
        raise ValueError(f"temperature: expected {float32.tiny:.1e} to {float32.max:.1e}, got {temperature}")
    finite_number("top_p", top_p)
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a probability in (0, 1], got {top_p}")
    if top_k is None:
        return None
    top_k = whole_number("top_k", top_k)
    if top_k > vocab:
        raise ValueError(f"top_k: expected at most the {vocab} tokens of the vocabulary, got {top_k}")
    return top_k
