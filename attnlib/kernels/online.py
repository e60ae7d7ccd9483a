"""Softmax one block of keys at a time: what FlashAttention computes (Dao et al., 2022), written to be read.

A row of scores is never whole. For each query three things are kept while the blocks of keys go by::

    m    the largest score so far
    l    Σ exp(score − m) over the keys so far
    a    Σ exp(score − m)·value

When a block brings a larger score, m grows, and what was summed so far shrinks by exp(m_old − m_new): l as in Milakov
and Gimelshein (2018, algorithm 3), and a with it, as in Rabe and Staats (2021, section 3). In the end a / l is the
output, and m + log(l) is the log-sum-exp of the scores. The one division at the end is Rabe and Staats' too (section 2;
they credit Jang et al., 2019). FlashAttention divides at each block, FlashAttention-2 at the end.

Nothing chooses this kernel: it is here for reading and for tests, and :func:`merge` joins what other kernels compute.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib.kernels.explicit import for_each_head
from attnlib.modes import without_autocast
from attnlib.scores import Scores

__all__ = ["attend", "merge", "with_log_sum_exp"]

BLOCK = 128  # keys at a time


def attend(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores, *, scale: float, dropout_p: float = 0.0
) -> Tensor:
    """Return the output (…, H, L, d_v). See :class:`attnlib.kernels.Kernel`."""
    return with_log_sum_exp(query, key, value, scores, scale=scale, dropout_p=dropout_p)[0]


def with_log_sum_exp(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores, *, scale: float, dropout_p: float = 0, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """Return the output (…, H, L, d_v) and the log-sum-exp of each query's scores (…, H, L), −∞ if it sees nothing.

    >>> import torch
    >>> from attnlib.kernels.online import with_log_sum_exp
    >>> from attnlib.scores import Scores
    >>> query, key, value = torch.zeros(1, 4), torch.zeros(3, 4), torch.tensor([[0.0], [3.0], [6.0]])
    >>> no_mask = Scores.of(None, None, (1, 3), query.device)
    >>> output, log_sum_exp = with_log_sum_exp(query, key, value, no_mask, scale=0.5, block=2)
    >>> output, log_sum_exp.exp()
    (tensor([[3.]]), tensor([3.]))
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    with without_autocast(query.device.type):
        queries = query.to(wide) * scale
        key, value = for_each_head(key, query), for_each_head(value, query)
        largest = queries.new_full(query.shape[:-1], -math.inf)  # m, (…, H, L)
        total = queries.new_zeros(query.shape[:-1])  # l, (…, H, L)
        summed = queries.new_zeros(*query.shape[:-1], value.shape[-1])  # a, (…, H, L, d_v)
        for start in range(0, scores.shape[-1], block):
            columns = (start, min(start + block, scores.shape[-1]))
            some = scores.masked(queries @ key[..., slice(*columns), :].to(wide).mT, columns)  # (…, H, L, block)
            before, largest = largest, torch.maximum(largest, some.detach().amax(-1))
            # −∞ − (−∞) is no number: where nothing is open yet, anything finite will do.
            base = largest.masked_fill(largest == -math.inf, 0)
            shrink = torch.exp(before - base)
            powers = torch.exp(some - base.unsqueeze(-1))
            total = total * shrink + powers.sum(-1)
            kept = F.dropout(powers, dropout_p) if dropout_p else powers
            summed = summed * shrink.unsqueeze(-1) + kept @ value[..., slice(*columns), :].to(wide)
        nothing, total = total == 0, total.masked_fill(total == 0, 1)
        output = summed / total.unsqueeze(-1)
        log_sum_exp = (largest + total.log()).masked_fill(nothing, -math.inf)
    return output.to(query.dtype), log_sum_exp


def merge(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join what attention over disjoint sets of keys gave: (output, log-sum-exp) of each set → those of all keys.

    Each part weighs exp(its log-sum-exp), the share of all powers that its keys hold. The result is that of one softmax
    over all keys. A part in which a query sees nothing, with a log-sum-exp of −∞, weighs nothing; if it sees nothing in
    any, its output is 0 and its log-sum-exp −∞.

    Args:
        parts: at least one pair of (…, L, d_v) and (…, L).

    >>> import math, torch
    >>> from attnlib.kernels.online import merge
    >>> one_key, three_keys = torch.tensor([[8.0]]), torch.tensor([[4.0]])
    >>> output, log_sum_exp = merge([(one_key, torch.zeros(1)), (three_keys, torch.tensor([math.log(3)]))])
    >>> output, log_sum_exp.exp()
    (tensor([[5.]]), tensor([4.]))
    """
    if len(parts) == 1:
        return parts[0]
    each = torch.stack([log_sum_exp for _, log_sum_exp in parts])  # (parts, …, L)
    largest = each.detach().amax(0)
    largest = largest.masked_fill(largest == -math.inf, 0)
    powers = torch.exp(each - largest)
    total = powers.sum(0)
    nothing = total == 0
    total = total.masked_fill(nothing, 1)
    shares = (powers / total).unsqueeze(-1)  # (parts, …, L, 1)
    output = sum(output * share for (output, _), share in zip(parts, shares, strict=True))
    log_sum_exp = (largest + total.log()).masked_fill(nothing, -math.inf)
    return output.to(parts[0][0].dtype), log_sum_exp
