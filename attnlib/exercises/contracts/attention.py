"""Attention and its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from attnlib.exercises.contracts.base import Contract, Draw, Given, Probe, Way, made, with_mask
from attnlib.exercises.contracts.softmax import B, H, everywhere, laid_out

L, S, D_K, D_V = 5, 7, 11, 13

THREE = {
    "query": [[1.0, 2, -1], [0, 1, 2], [2, -1, 1]],
    "key": [[2.0, 1, 0], [-1, 2, 1], [1, 0, 2]],
    "value": [[1.0, 0, 2], [3, -1, 0], [0, 2, 1]],
}
# As many keys as columns hide that their numbers are taken for each other.
TWO = {
    "query": [[1.0, 2, -1], [0, 1, 2]],
    "key": [[2.0, 1, 0], [-1, 2, 1], [1, 0, 2], [0, -1, 1]],
    "value": [[1.0, 0, 2], [3, -1, 0], [0, 2, 1], [-1, 1, 1]],
}
TWO_OPEN = np.array([[True, True, False, True], [False, True, True, True]])
ROW_WITHOUT = np.array([[True, False, True], [False, False, False], [True, True, False]])
ROW_OPEN = np.array([[False, True, True], [True, True, True], [True, False, False]])
SOME = np.array([[True, True, False], [False, True, True], [True, False, False]])


def attention_probes(seed: int) -> tuple[Probe, ...]:
    """Inputs that tell mistakes in attention apart. Three tokens of width three let every wrong wiring run."""
    draw = Draw(seed)
    few = {name: everywhere(rows, draw) for name, rows in THREE.items()}
    two = {name: everywhere(rows) for name, rows in TWO.items()}
    primes = {"query": draw(B, H, L, D_K), "key": draw(B, H, S, D_K), "value": draw(B, H, S, D_V)}
    # The middle key scores far above all others, or far below.
    loud = few | {
        "query": everywhere([[60.0, 0, 0], [-60, 0, 0], [0, -2000, 0]]),
        "key": everywhere([[-60.0, 1, 0], [60, 2, 1], [-50, 3, 0]]),
    }
    # The open key scores −4·10⁹, a closed one 0.
    low = few | {
        "query": everywhere([[-9e4, 0.0, 0]] * 3),
        "key": everywhere([[9e4, 1.0, 0], [9e4, 1, 0], [0, 1, 0]]),
        "mask": np.array([[True, False, False]] * 3),
    }
    open_ = draw.open(L, S)
    return (
        Probe("three tokens", few),
        Probe("three tokens, some closed", few | {"mask": SOME}),
        Probe("two queries, four keys, some closed", two | {"mask": TWO_OPEN}),
        Probe("more keys than queries", primes),
        Probe("more keys than queries, some closed", primes | {"mask": open_}),
        Probe("a query that sees all", few | {"mask": ROW_OPEN}, hard=True),
        Probe("a query without a key", few | {"mask": ROW_WITHOUT}, hard=True),
        Probe("large scores", loud, hard=True),
        Probe("a closed key that outweighs all", loud | {"mask": np.array([[True, False, True]] * 3)}, hard=True),
        Probe("open keys far below zero", low, hard=True),
        Probe("gradients, three tokens", few | {"mask": SOME, "gradient": draw(B, H, 3, 3)}, hard=True),
        Probe(
            "gradients of a query without a key", few | {"mask": ROW_WITHOUT, "gradient": everywhere(SOME)}, soft=True
        ),
    )


class Attention(Contract):
    layouts = ("plain", "heads", "batch", "heads, a mask for each", "batch, a mask for each")

    def __init__(self, name: str) -> None:
        self.name = name
        self.takes = ("query", "key", "value") if name == "attention" else ("query", "key")
        self.sign = f"{name}({', '.join(self.takes)}, mask)"
        self.probes = attention_probes(5)

    def asked(self, way: Way) -> bool:
        return way.layout.startswith("plain")

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        given = [give(laid_out(probe.given[name], way.layout)) for name in self.takes]
        answer = made(answer)
        if "mask" in probe.given:
            mask = probe.given["mask"]
            if "each" in way.layout:
                mask = laid_out(np.broadcast_to(mask, (B, H, *mask.shape)), way.layout)
            output = with_mask(answer, given, give(mask))
        else:
            output = answer(*given)
        if "gradient" not in probe.given:
            return output
        wished = laid_out(probe.given["gradient"], way.layout)
        if self.name == "attention_weights":
            wished = wished[..., : probe.given["key"].shape[-2]]
        return gradients(output, given, wished)

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        shown = {name: laid_out(probe.given[name], way.layout) for name in self.takes}
        return shown | ({"mask": probe.given["mask"]} if "mask" in probe.given else {})


def gradients(output: Any, leaves: list[torch.Tensor], wished: np.ndarray) -> torch.Tensor:
    """What comes back to each argument, in one row; zeros where nothing does."""
    if not isinstance(output, torch.Tensor) or not output.requires_grad:
        return torch.zeros(sum(leaf.numel() for leaf in leaves))
    wish = torch.tensor(wished, dtype=output.dtype)
    found = torch.autograd.grad((output * wish).sum(), leaves, allow_unused=True)
    parts = [torch.zeros_like(leaf) if part is None else part for part, leaf in zip(found, leaves, strict=True)]
    return torch.cat([part.flatten() for part in parts])
