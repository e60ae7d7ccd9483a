"""How fast the paper's model learns, step by step."""

from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from attnlib.checks import whole_number

__all__ = ["warmup_schedule"]


def warmup_schedule(optimizer: Optimizer, d_model: int, warmup_steps: int = 4000) -> LambdaLR:
    """Raise the learning rate in a line for ``warmup_steps`` steps, then lower it with the inverse root of the step.

    Equation 3 of "Attention Is All You Need" (Vaswani et al., 2017), times the optimizer's own ``lr``::

        lrate = d_model^(−1/2) · min(step^(−1/2), step · warmup_steps^(−3/2))        step = 1, 2, …

    The paper's optimizer is ``Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)``.

    Args:
        optimizer: the optimizer, with ``lr=1.0`` for the paper's rates.
        d_model: the size of the model's tokens.
        warmup_steps: the step with the highest rate.

    Returns:
        A scheduler, whose ``step()`` is called after the optimizer's. It can be pickled, and copied.

    Raises:
        ValueError: if a size is less than 1.
        TypeError: if a size is not a whole number.

    >>> import torch
    >>> from attnlib.transformer import warmup_schedule
    >>> optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    >>> schedule = warmup_schedule(optimizer, d_model=512, warmup_steps=4000)
    >>> f"{schedule.get_last_lr()[0]:.3e}"
    '1.747e-07'
    """
    d_model, warmup_steps = whole_number("d_model", d_model), whole_number("warmup_steps", warmup_steps)
    return LambdaLR(optimizer, partial(_factor, d_model, warmup_steps))


def _factor(d_model: int, warmup_steps: int, steps_done: int) -> float:
    step = steps_done + 1  # LambdaLR counts from 0; the paper from 1, where step^(−1/2) is finite
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)
