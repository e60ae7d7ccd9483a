"""FlexAttention's block masks, made of what a mask leaves open, without the dense array."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from attnlib.checks import whole_number
from attnlib.kernels.runs import Runs, of_example, runs_of
from attnlib.masks import Mask
from attnlib.scores import Scores

__all__ = ["block_mask"]


def block_mask(
    mask: Mask,
    B: int | None,
    H: int | None,
    L: int,
    S: int,
    *,
    device: torch.device | str | None = None,
    block_size: int = 128,
) -> BlockMask:
    """Return the block mask with which FlexAttention does what ``mask`` says.

    It equals that of :func:`torch.nn.attention.flex_attention.create_block_mask`, which makes the dense array and asks
    about each of its B·H·L·S pairs. Here the mask says which runs of keys are open or closed; only blocks in which a
    run begins or ends are looked at, a row of blocks at a time. A mask that knows no runs is looked at everywhere.

    The last query stands at the last key, as everywhere in attnlib.

    Args:
        mask: a Mask. A compiled ``flex_attention`` reads its tensors, lengths say, so make it on ``device``.
        B: the number of examples; None for one that stands for all.
        H: the number of heads; None for one that stands for all.
        L: the number of queries.
        S: the number of keys.
        device: where the block mask is made. Default: torch's default device.
        block_size: queries, and keys, of a block.

    Raises:
        ValueError: if a size is less than 1, or the mask was made for other sizes.
        TypeError: if ``mask`` is not a Mask, or a size is not whole.

    >>> from attnlib import masks
    >>> from attnlib.interop.pytorch import block_mask
    >>> blocks = block_mask(masks.causal() & masks.sliding_window(128), None, None, 512, 512)
    >>> blocks.to_dense()[0, 0]
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [0, 1, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    if not isinstance(mask, Mask):
        way = "; masks.from_tensor makes one of a bool tensor" if isinstance(mask, Tensor) else ""
        raise TypeError(f"mask: expected a Mask, got {type(mask).__name__}{way}")
    B, H = (1 if size is None else whole_number(name, size) for name, size in (("B", B), ("H", H)))
    L, S, size = (whole_number(name, n) for name, n in (("L", L), ("S", S), ("block_size", block_size)))
    scores = Scores.of(mask, None, (B, H, L, S), torch.device("cpu"))
    some = torch.zeros(B, H, -(-L // size), -(-S // size), dtype=torch.bool, device="cpu")
    every = torch.zeros_like(some)
    shape = mask.shape(L, S)
    examples = shape[0] if len(shape) == 4 else 1
    known = [runs_of(of_example(mask, b) if examples > 1 else mask, L, S) for b in range(examples)]
    for row in range(some.shape[2]):
        rows = row * size, min((row + 1) * size, L)
        found = torch.stack([_of_blocks(runs(*rows), size, S) for runs in known])[:, None]
        some[:, :, row] = found == _FULL
        every[:, :, row] = found == _FULL
        for first, last in _stretches((found == _PARTIAL).any(dim=0)[0]):
            if scores.mask is None:  # a single query under a causal mask: all is open
                some[:, :, row, first:last] = every[:, :, row, first:last] = True
                continue
            pairs = scores.allowed(rows, (first * size, min(last * size, S)))
            # What lies beyond the last query or key is closed: torch takes no such block to be full.
            pairs = pairs.expand(*pairs.shape[:2], rows[1] - rows[0], min(last * size, S) - first * size)
            pairs = F.pad(pairs, (0, last * size - first * size - pairs.shape[-1], 0, size - pairs.shape[-2]))
            pairs = pairs.unflatten(-1, (-1, size))
            some[:, :, row, first:last] = pairs.any(dim=-1).any(dim=-2)
            every[:, :, row, first:last] = pairs.all(dim=-1).all(dim=-2)
    if L % size:
        every[:, :, -1] = False
    if S % size:
        every[..., -1] = False
    device = torch.get_default_device() if device is None else torch.device(device)
    partial, full = _ordered((some & ~every).to(device)), _ordered(every.to(device))
    return BlockMask.from_kv_blocks(*partial, *full, size, mask_mod(mask, L, S), seq_lengths=(L, S))


def mask_mod(mask: Mask, L: int, S: int) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return ``mask`` as FlexAttention's ``mask_mod``, whose queries are counted from the first.

    >>> import torch
    >>> from attnlib import masks
    >>> from attnlib.interop.pytorch.flex import mask_mod
    >>> b = h = torch.tensor(0)
    >>> mask_mod(masks.causal(), L=2, S=5)(b, h, torch.tensor(0), torch.arange(5))
    tensor([ True,  True,  True,  True, False])
    """

    def allows(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return mask.allows(b, h, q_idx + (S - L), kv_idx)

    return allows


_EMPTY, _FULL, _PARTIAL = 0, 1, 2


def _of_blocks(runs: Runs, size: int, S: int) -> Tensor:
    """Return what is known of each block of keys: a block that no single run covers is partial."""
    found = torch.full((-(-S // size),), _PARTIAL, dtype=torch.int8, device="cpu")
    start = 0
    for stop, left in runs:
        if isinstance(left, bool):
            last = len(found) if stop == S else stop // size
            found[-(-start // size) : last] = _FULL if left else _EMPTY
        start = stop
    return found


def _stretches(marked: Tensor) -> list[tuple[int, int]]:
    """Return the (start, stop) of each stretch of True."""
    edges = torch.diff(F.pad(marked.to(torch.int8), (1, 1))).nonzero().flatten().tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _ordered(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each row how many blocks are marked, and the blocks, marked ones first, as a BlockMask holds them."""
    counts = blocks.sum(dim=-1, dtype=torch.int32)
    return counts, torch.argsort(blocks.to(torch.int8), dim=-1, descending=True, stable=True).to(torch.int32)
