"""How long the layers of the paper's Table 1 take, for several lengths and sizes, beside what they multiply.

Each is the smallest form of its kind, for a batch of one: attention without projections, a recurrence and a convolution
without biases. One thread, no gradients. A row of the table is one kind of layer; in it, one size changes at a time and
the others are as in :data:`FIXED`.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from attnlib import masks
from attnlib.functional import attention

__all__ = ["FIXED", "LAYERS", "ROWS", "SIZES", "measure", "multiplications"]

ROUNDS = 21
SHORTEST_SAMPLE = 0.005  # seconds; a sample repeats its call until it lasts about as long

Run = Callable[[], Tensor]
Shape = torch.Size


def self_attention(n: int, d: int) -> Run:
    """Return a call of attention over n tokens of size d, one head, no projections."""
    query, key, value = torch.randn(3, 1, 1, n, d)  # (B, H, n, d) each
    return lambda: attention(query, key, value)


def restricted(n: int, d: int, r: int) -> Run:
    """Return a call of attention in which each token attends to r neighbours, itself among them; r is odd."""
    query, key, value = torch.randn(3, 1, 1, n, d)  # (B, H, n, d) each
    window = masks.sliding_window((r + 1) // 2)  # |i − j| < (r + 1) / 2
    return lambda: attention(query, key, value, window)


def recurrent(n: int, d: int) -> Run:
    """Return a call of a plain recurrent net over n tokens of size d: h_t = tanh(W·h_{t−1} + U·x_t)."""
    net, x = nn.RNN(d, d, bias=False, batch_first=True), torch.randn(1, n, d)
    return lambda: net(x)[0]


def convolution(n: int, d: int, k: int) -> Run:
    """Return a call of a convolution over n tokens of size d with a kernel of k; k is odd."""
    net, x = nn.Conv1d(d, d, k, padding=k // 2, bias=False), torch.randn(1, d, n)
    return lambda: net(x)


LAYERS: dict[str, Callable[..., Run]] = {
    "self-attention": self_attention,
    "recurrent": recurrent,
    "convolution": convolution,
    "restricted": restricted,
}
FIXED: dict[str, dict[str, int]] = {
    "self-attention": {"n": 256, "d": 256},
    "recurrent": {"n": 256, "d": 256},
    "convolution": {"n": 256, "d": 256, "k": 3},
    "restricted": {"n": 4096, "d": 256, "r": 127},
}
SIZES: dict[str, dict[str, list[int]]] = {
    "self-attention": {"n": [128, 256, 512, 1024, 2048], "d": [64, 128, 256, 512, 1024]},
    "recurrent": {"n": [128, 256, 512, 1024, 2048], "d": [64, 128, 256, 512, 1024]},
    "convolution": {"n": [128, 256, 512, 1024, 2048], "d": [64, 128, 256, 512, 1024], "k": [3, 7, 15, 31]},
    "restricted": {"n": [512, 1024, 2048, 4096, 8192], "d": [64, 128, 256, 512], "r": [127, 255, 511, 1023]},
}


@torch.no_grad()
def multiplications(run: Run) -> int:
    """Return how many multiplications the matrix products of a call take, counted as torch runs them.

    Torch's counter adds two operations, a multiplication and an addition, for each term of a product; half of them are
    multiplications. It sees what every operator is given. It does not know the kernel of attention on a CPU: the two
    products of what that is given are counted instead.

    >>> from attnlib.lab.experiments.layers import multiplications, self_attention
    >>> multiplications(self_attention(n=64, d=8)) == 2 * 64**2 * 8
    True
    """
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def two_products(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    counter = FlopCounterMode(display=False, custom_mapping={kernel: two_products})
    with counter:
        run()
    return counter.get_total_flops() // 2


@torch.no_grad()
def seconds(runs: list[Run], rounds: int) -> list[list[float]]:
    """Return the seconds of a call, a list for each of ``runs``, one after the other in each round.

    So what slows the machine for a while slows all of them.
    """
    threads, collects = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    gc.disable()
    try:
        repeats = [max(1, math.ceil(SHORTEST_SAMPLE / min(_sample(run, 1), _sample(run, 3)))) for run in runs]
        samples = [[_sample(run, count) for run, count in zip(runs, repeats, strict=True)] for _ in range(rounds)]
    finally:
        torch.set_num_threads(threads)
        if collects:
            gc.enable()
    return [list(of_run) for of_run in zip(*samples, strict=True)]


def _sample(run: Run, repeats: int) -> float:
    start = time.thread_time()
    for _ in range(repeats):
        run()
    return (time.thread_time() - start) / repeats


def measure(name: str, rounds: int = ROUNDS) -> dict:
    """Return the row of one kind of layer: for each of its sizes, times and counts as that size alone changes.

    ::

        {"n": {"fixed": {"d": 256}, "sizes": [128, …], "multiplications": […],
               "median": […], "lower": […], "upper": […]},       seconds of a call: median and quartiles
         "d": …}
    """
    torch.manual_seed(0)
    row = {}
    for size, values in SIZES[name].items():
        runs = [LAYERS[name](**FIXED[name] | {size: value}) for value in values]
        quartiles = [statistics.quantiles(of_run, n=4, method="inclusive") for of_run in seconds(runs, rounds)]
        row[size] = {
            "fixed": {other: value for other, value in FIXED[name].items() if other != size},
            "sizes": values,
            "multiplications": [multiplications(run) for run in runs],
        } | {which: [q[place] for q in quartiles] for place, which in enumerate(("lower", "median", "upper"))}
    return row


ROWS: dict[str, Callable[[], dict]] = {name: partial(measure, name) for name in LAYERS}
