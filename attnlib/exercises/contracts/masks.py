"""Masks: who may attend to whom."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlib.exercises.contracts.base import Contract, Given, Kind, Probe, Way, made


class CausalMask(Contract):
    name = "causal_mask"
    sign = "causal_mask(L, S)"
    kinds: tuple[Kind, ...] = ("float32 tensors",)  # it takes sizes only

    def __init__(self) -> None:
        sizes = ((3, 3), (2, 3), (2, 5), (1, 7), (7, 7), (1, 1))
        self.probes = (
            *(Probe(f"L = {L}, S = {S}", {"L": L, "S": S}) for L, S in sizes),
            Probe("L = 5, S = 3", {"L": 5, "S": 3}, hard=True),
        )

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        return made(answer)(*probe.given.values())

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        return dict(probe.given)


class SlidingWindow(CausalMask):
    name = "sliding_window"
    sign = "sliding_window(size, L, S)"

    def __init__(self) -> None:
        sizes = ((2, 3, 3), (3, 7, 7), (2, 3, 5), (1, 5, 5), (3, 2, 11), (4, 1, 7), (13, 3, 5), (2, 5, 3))
        self.probes = tuple(
            Probe(f"size = {size}, L = {L}, S = {S}", {"size": size, "L": L, "S": S}) for size, L, S in sizes
        )


class PaddingMask(Contract):
    name = "padding_mask"
    sign = "padding_mask(lengths, S)"

    def __init__(self) -> None:
        cases = (([1, 3], 3), ([2, 5, 1], 5), ([4, 2, 7], 11), ([3, 1, 2], 3), ([0, 2], 3))
        self.probes = tuple(
            Probe(f"lengths = {lengths}, S = {S}", {"lengths": np.array(lengths), "S": S}, hard=0 in lengths)
            for lengths, S in cases
        )

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        returned = made(answer)(give(probe.given["lengths"]), probe.given["S"])
        size = len(probe.given["lengths"]), probe.given["S"]
        # (B, S), (B, 1, S) and (B, 1, 1, S) say the same.
        shape = getattr(returned, "shape", None)
        if shape is None and isinstance(returned, list):
            returned, shape = _flat(returned), None
        if shape is not None and tuple(shape) in ((size[0], 1, size[1]), (size[0], 1, 1, size[1])):
            return returned.reshape(size)
        return returned

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        return {"lengths": probe.given["lengths"].tolist(), "S": probe.given["S"]}


def _flat(rows: list) -> list:
    """Lists (B, 1, S) or (B, 1, 1, S) as (B, S)."""

    def bare(row: Any) -> Any:
        while isinstance(row, list) and len(row) == 1 and isinstance(row[0], list):
            row = row[0]
        return row

    return [bare(row) for row in rows]
