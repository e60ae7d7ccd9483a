"""Attention over ready-made heads, (B, H, L, d) → (B, H, L, d), under a mask with structure."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import attnlib
from attnlib import masks
from attnlib.biases import ByDistance
from benchmarks.contenders import OURS, Contender, Unavailable, seeded_normal, step


@dataclass(frozen=True)
class HeadsProblem:
    """What all contenders compute.

    Attributes
    ----------
    inputs: query, key and value, each (B, H, L, d).
    cotangent: (B, H, L, d), the gradient that comes back in training; None in inference.
    mask: the mask with its structure; with as many queries as keys, its ``allows`` is FlexAttention's ``mask_mod``.
    bias: what is added to the scores, by a rule.
    """

    inputs: tuple[Tensor, Tensor, Tensor]
    cotangent: Tensor | None
    mask: masks.Mask
    bias: ByDistance | None = None

    def contender(self, forward: Callable[..., Tensor]) -> Contender:
        return Contender(step(lambda: (forward(*self.inputs),), self.inputs, [], self.cotangent))


def problem(
    *,
    B: int,
    H: int,
    L: int,
    d: int,
    dtype: torch.dtype,
    device: torch.device,
    training: bool,
    make_mask: Callable,
    make_bias: Callable[[int], ByDistance] | None = None,
) -> HeadsProblem:
    """Make the heads; ``make_mask`` maps the device to a Mask, ``make_bias`` the number of heads to a bias."""
    inputs = tuple(
        seeded_normal(B, H, L, d, dtype=dtype, device=device, seed=seed).requires_grad_(training) for seed in range(3)
    )
    cotangent = seeded_normal(B, H, L, d, dtype=dtype, device=device, seed=3) if training else None
    return HeadsProblem(inputs, cotangent, make_mask(device), make_bias(H) if make_bias else None)


MaskMaker = Callable[[torch.device], masks.Mask]


def causal_window(size: int) -> MaskMaker:
    """Each query attends to the ``size`` keys up to its own."""
    return lambda device: masks.causal() & masks.sliding_window(size)


def packed_documents(lengths: tuple[int, ...]) -> MaskMaker:
    """Documents side by side in one row, each causal."""
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))  # (L,)
    return lambda device: masks.documents(ids.to(device)) & masks.causal()


def padded(lengths: tuple[int, ...]) -> MaskMaker:
    """Sequences of different lengths, filled up at the end."""
    return lambda device: masks.padding(torch.tensor(lengths, device=device))


def causal_and_padded(lengths: tuple[int, ...]) -> MaskMaker:
    """The same for a language model: each query sees what came before it."""
    return lambda device: masks.causal() & masks.padding(torch.tensor(lengths, device=device))


def ours(problem: HeadsProblem) -> Contender:
    return problem.contender(
        lambda query, key, value: attnlib.attention(query, key, value, problem.mask, bias=problem.bias)
    )


def ours_with_a_tensor(problem: HeadsProblem) -> Contender:
    """attnlib, which does not know that the bias goes by the distance."""
    bias = _bias(problem)
    return problem.contender(lambda query, key, value: attnlib.attention(query, key, value, problem.mask, bias=bias))


def _bias(problem: HeadsProblem) -> Tensor:
    query = problem.inputs[0]
    L = query.shape[-2]
    return problem.bias.among((0, L), (0, L), 0, query.dtype, query.device)


def sdpa(problem: HeadsProblem) -> Contender:
    """torch's fused attention with a bool for each pair: (L, S), or (B, 1, L, S) where the examples differ."""
    L = problem.inputs[0].shape[-2]
    smallest = problem.mask.dense(L, L, problem.inputs[0].device)
    if problem.bias is not None:
        return _sdpa(problem, _bias(problem).masked_fill(~smallest, -torch.inf))
    return _sdpa(problem, smallest.expand(*smallest.shape[:-2], L, L).contiguous())


def sdpa_with_rows(problem: HeadsProblem) -> Contender:
    """The same with a bool for each key, (B, 1, 1, S): less to read, which padding allows and other masks do not."""
    L = problem.inputs[0].shape[-2]
    return _sdpa(problem, problem.mask.dense(L, L, problem.inputs[0].device))


def _sdpa(problem: HeadsProblem, mask: Tensor) -> Contender:
    return problem.contender(
        lambda query, key, value: F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    )


def sdpa_for_each_document(problem: HeadsProblem) -> Contender:
    """torch's causal attention, called once for each document: nothing between documents is computed, by hand."""
    ids = problem.mask.left.ids  # documents(ids) & causal()
    lengths = torch.unique_consecutive(ids, return_counts=True)[1].tolist()

    def forward(*heads: Tensor) -> Tensor:
        documents = zip(*(x.split(lengths, dim=-2) for x in heads), strict=True)
        return torch.cat([F.scaled_dot_product_attention(*one, is_causal=True) for one in documents], dim=-2)

    return problem.contender(forward)


def flex(problem: HeadsProblem) -> Contender:
    """FlexAttention, compiled here, off the clock."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    query = problem.inputs[0]
    B, _, L, _ = query.shape
    if problem.cotangent is not None and query.is_cpu:
        raise Unavailable("FlexAttention has no backward on a CPU")
    compiled = torch.compile(flex_attention, dynamic=False)
    mask_mod = lambda b, h, q, k: problem.mask.allows(b, h, q, k)  # noqa: E731 - a method is taken for a score_mod
    block_mask = create_block_mask(mask_mod, B, None, L, L, device=query.device.type)
    contender = problem.contender(lambda query, key, value: compiled(query, key, value, block_mask=block_mask))
    try:
        contender.run()
    except RuntimeError as error:  # no compiler, or one that fails
        raise Unavailable(f"does not compile here: {type(error).__name__}") from error
    return contender


DENSE = "SDPA, dense mask"
ROWS = "SDPA, mask of keys"
EACH = "SDPA, a call for each document"
FLEX = "FlexAttention, compiled"
TENSOR = "attnlib, the bias as a tensor"
BUILDERS = {
    OURS: ours,
    DENSE: sdpa,
    ROWS: sdpa_with_rows,
    EACH: sdpa_for_each_document,
    FLEX: flex,
    TENSOR: ours_with_a_tensor,
}
