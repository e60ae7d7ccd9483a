"""A cache of keys and values: one token at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnlib.exercises.contracts.base import AT_ONCE, Contract, Draw, Given, Probe, Way
from attnlib.exercises.observe import numbers


class KVCache(Contract):
    """A function of a whole text, or a class with ``step(token)``, one object for each text."""

    name = "kv_cache"
    sign = "kv_cache(tokens, positions, wq, wk, wv), or kv_cache(positions, wq, wk, wv) with step(token)"
    layouts = ("token (d,)", "token (1, d)")

    def __init__(self) -> None:
        draw = Draw(13)
        few = {
            "positions": draw(3, 3, scale=1.5),
            "wq": draw(3, 3, scale=0.6),
            "wk": draw(3, 3, scale=0.6),
            "wv": draw(3, 3),
        }
        many = {
            "positions": draw(11, 5, scale=1.5),
            "wq": draw(5, 5, scale=0.4),
            "wk": draw(5, 5, scale=0.4),
            "wv": draw(5, 5),
        }
        loud = few | {"wq": np.round(few["wq"] * 90), "wk": np.round(few["wk"] * 90)}
        self.probes = (
            Probe("three tokens", few | {"texts": [draw(3, 3)]}),
            Probe("two tokens", few | {"texts": [draw(2, 3)]}),
            Probe("more places than tokens", many | {"texts": [draw(7, 5)]}),
            Probe("two texts, one after the other", many | {"texts": [draw(3, 5), draw(5, 5)]}),
            Probe("one token", many | {"texts": [draw(1, 5)]}),
            Probe("large scores", loud | {"texts": [draw(3, 3)]}, hard=True),
        )

    def forms(self, way: Way) -> tuple[Way, ...]:
        return self.solved(way), Way(self.solved(way).kind, AT_ONCE)

    def solution(self, names: Mapping[str, Any], way: Way) -> Any:
        return names[self.function(way)]

    def function(self, way: Way) -> str:
        return "kv_cache_at_once" if way.layout == AT_ONCE else "kv_cache"

    def suits(self, way: Way, probe: Probe) -> bool:
        return True

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        weights = [give(probe.given[name]) for name in ("positions", "wq", "wk", "wv")]
        outputs: list[Any] = []
        for text in probe.given["texts"]:
            if isinstance(answer, type):
                cache = answer(*weights)
                tokens = text[:, None] if way.layout == "token (1, d)" else text
                steps = [cache.step(give(token)) for token in tokens]
                outputs.append(_rows(steps, text.shape[1]))
            elif len(probe.given["texts"]) == 1:
                return answer(give(text), *weights)
            else:
                outputs.append(numbers(answer(give(text), *weights)))
        return np.concatenate(outputs)

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        texts = probe.given["texts"]
        named = {"tokens": texts[0]} if len(texts) == 1 else {f"text {i + 1}": text for i, text in enumerate(texts)}
        return named | {name: probe.given[name] for name in ("positions", "wq", "wk", "wv")}


def _rows(steps: list[Any], width: int) -> np.ndarray:
    """What each step returned as one row of a table: (d,) or (1, d)."""
    rows = [numbers(step) for step in steps]
    return np.stack([row.reshape(-1) if row.size == width and row.ndim <= 2 else row for row in rows])
