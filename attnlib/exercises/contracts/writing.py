"""Greedy search: a model writes, one token after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from attnlib.exercises.contracts.base import Contract, Given, Kind, NotAsAgreed, Probe, Way, made

VOCAB = 7


class _Model(torch.nn.Module):
    """Logits (1, T, vocab) that depend on all that is written, in its order. Other places want something else."""

    def __init__(self, seed: int, end: int, soon: float):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))  # some ask a model where its parameters are
        self.seed, self.end, self.soon = seed, end, soon
        self.asked = 0

    def forward(self, tokens: Any) -> torch.Tensor:
        if not isinstance(tokens, torch.Tensor) or tokens.dtype != torch.long or tokens.ndim != 2 or len(tokens) != 1:
            came = (
                f"{tuple(tokens.shape)} of {tokens.dtype}"
                if isinstance(tokens, torch.Tensor)
                else type(tokens).__name__
            )
            raise TypeError(f"the model reads a LongTensor (1, T), got {came}")
        if self.asked > 40:
            raise RuntimeError("the model was asked 40 times")
        self.asked += 1
        written = tokens[0].tolist()
        return torch.tensor(
            np.stack([self.logits(written[: i + 1], i + 1 == len(written)) for i in range(len(written))])
        )[None].float()

    def logits(self, written: list[int], last: bool) -> np.ndarray:
        logits = np.random.default_rng([self.seed, int(last), *written]).normal(size=VOCAB)
        logits[self.end] += self.soon if last else 0.0
        return logits - 20  # no number is above zero


class GreedySearch(Contract):
    name = "greedy_search"
    sign = "greedy_search(model, start, end, max_length)"
    kinds: tuple[Kind, ...] = ("float32 tensors",)

    def __init__(self) -> None:
        cases = [(seed, 1, 2, soon, 5) for seed, soon in ((1, 0.5), (2, -9), (3, 2), (4, 1))]
        cases += [
            (5, 4, 0, 0.5, 7),
            (6, 0, 3, 1.0, 7),
            (7, 3, 3, 0.5, 5),
            (8, 1, 2, 9.0, 5),
            (9, 1, 2, -9, 1),
            (10, 5, 6, 0, 2),
        ]
        self.probes = tuple(
            Probe(f"model {seed}", {"start": start, "end": end, "max_length": most, "seed": seed, "soon": soon})
            for seed, start, end, soon, most in cases
        )

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        given = probe.given
        model = _Model(given["seed"], given["end"], given["soon"])
        found = made(answer)(model, given["start"], given["end"], given["max_length"])
        if not isinstance(found, list):
            raise NotAsAgreed(f"returned a {type(found).__name__}, where a list of tokens was expected")
        return [int(token) for token in found]

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        return {name: probe.given[name] for name in ("start", "end", "max_length")}
