"""Greedy search: a model writes, one token after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from attnlib.exercises.contracts.base import Contract, Given, Kind, NotAsAgreed, Probe, Way, made

VOCAB = 7


class _Model(torch.nn.Module):
    """Logits (1, T, vocab) that depend on all that is written, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))  # some ask a model where its parameters are
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
        raise NotImplementedError


class _Counting(_Model):
    """A model that can be followed with a pencil."""

    said = (
        "adds up the tokens up to a place, doubles the sum and adds 1. What is left over when that is divided by 5 is"
        " the number of the likeliest token, and the numbers after it are less and less likely"
    )

    def logits(self, written: list[int], last: bool) -> np.ndarray:
        return -((np.arange(5.0) - 2 * sum(written) - 1) % 5)


class _Drawn(_Model):
    """Logits that were drawn once for each text. Places before the last want something else."""

    said = "has fixed logits for each text"

    def __init__(self, seed: int, end: int, soon: float):
        super().__init__()
        self.seed, self.end, self.soon = seed, end, soon

    def logits(self, written: list[int], last: bool) -> np.ndarray:
        logits = np.random.default_rng([self.seed, int(last), *written]).normal(size=VOCAB)
        logits[self.end] += self.soon if last else 0.0
        return logits - (20 if self.seed % 2 else 0.5)  # in some models no number is above zero


class GreedySearch(Contract):
    name = "greedy_search"
    sign = "greedy_search(model, start, end, max_length)"
    kinds: tuple[Kind, ...] = ("float32 tensors",)

    def __init__(self) -> None:
        cases = [(seed, 1, 2, soon, 5) for seed, soon in ((1, 0.5), (2, -9), (3, 2), (4, 1))]
        cases += [
            (5, 4, 0, 0.5, 7),
            (6, 0, 3, 1.0, 7),
            (16, 3, 3, 0.5, 5),
            (20, 1, 2, -9, 7),
            (8, 1, 2, 9.0, 5),
            (9, 1, 2, -9, 1),
            (10, 5, 6, 0, 2),
        ]
        drawn = (
            Probe(f"model {seed}", {"start": start, "end": end, "max_length": most, "seed": seed, "soon": soon})
            for seed, start, end, soon, most in cases
        )
        self.probes = (
            # Where it adds over places, its whole numbers tie: mistakes are known by the others first.
            Probe("a model that counts", {"start": 1, "end": 2, "max_length": 5}, hard=True),
            Probe("a model that counts to no end", {"start": 1, "end": 0, "max_length": 4}, hard=True),
            *drawn,
        )

    def model(self, probe: Probe) -> _Counting | _Drawn:
        """The model of a probe, which was not asked yet."""
        given = probe.given
        return _Drawn(given["seed"], given["end"], given["soon"]) if "seed" in given else _Counting()

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        given = probe.given
        found = made(answer)(self.model(probe), given["start"], given["end"], given["max_length"])
        if not isinstance(found, list):
            raise NotAsAgreed(f"returned a {type(found).__name__}, where a list of tokens was expected")
        return [int(token) for token in found]

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        given = {name: probe.given[name] for name in ("start", "end", "max_length")}
        model = self.model(probe)
        first = model(torch.tensor([[given["start"]]]))[0, -1].numpy()
        return given | {"model": f"a model that {model.said}", f"model([[{given['start']}]])[0, -1]": first}
