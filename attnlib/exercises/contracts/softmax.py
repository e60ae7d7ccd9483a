"""Softmax, its backward pass, and softmax in blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from attnlib.exercises.contracts.base import AT_ONCE, Array, Contract, Draw, Given, Probe, Way, made

# Examples and heads that stand in front, where a way has such axes.
B, H = 2, 3

LAYOUTS = ("plain", "heads", "batch")


def laid_out(array: Array, layout: str) -> Array:
    """The part of (B, H, …) that a layout gives: one example, a batch, or all."""
    return array[0, 0] if layout.startswith("plain") else array[:, 0] if layout.startswith("batch") else array


def everywhere(rows: Any, draw: Draw | None = None) -> Array:
    """One table for all heads and examples; if numbers are drawn, each but the first one is shifted by some."""
    table = np.broadcast_to(np.array(rows, dtype=float), (B, H, *np.shape(rows))).copy()
    if draw is not None:
        noise = draw(*table.shape)
        noise[0, 0] = 0
        table += noise
    return table


class Softmax(Contract):
    name = "softmax"
    sign = "softmax(scores)"
    layouts = LAYOUTS

    def __init__(self) -> None:
        draw = Draw(1)
        inf = math.inf
        self.probes = (
            Probe("three rows", {"scores": everywhere([[1, 2, 3], [0.5, -1, 0], [2, 2, -0.5]], draw)}),
            Probe("more columns than rows", {"scores": draw(B, H, 5, 7, scale=1.5)}),
            Probe("one column", {"scores": draw(B, H, 3, 1)}, hard=True),
            Probe("large scores", {"scores": everywhere([[2000, 1999, 1998], [0, 1, 2], [5, 5, 3]])}, hard=True),
            Probe("far below zero", {"scores": everywhere([[-2000, -2001, -1999], [0, 1, 2], [1, 1, 3]])}, hard=True),
            Probe("far apart", {"scores": everywhere([[3000, 0, 1], [-1, -2000, 1], [0, 2, -3000]])}, hard=True),
            Probe("minus infinity", {"scores": everywhere([[1, -inf, 0], [2, 1, -1], [-inf, -inf, 3]])}, hard=True),
        )

    def asked(self, way: Way) -> bool:
        return way.layout.startswith("plain")

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        return made(answer)(give(laid_out(probe.given["scores"], way.layout)))

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        return {"scores": laid_out(probe.given["scores"], way.layout)}


class SoftmaxBackward(Contract):
    name = "softmax_backward"
    sign = "softmax_backward(weights, grad)"
    layouts = LAYOUTS

    def __init__(self) -> None:
        draw = Draw(2)
        few = everywhere([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.6, 0.4, 0.0]])
        few[1, 1:] = [[0.2, 0.2, 0.6], [0.4, 0.5, 0.1], [0.3, 0.3, 0.4]]
        many = np.exp(draw(B, H, 5, 7))
        self.probes = (
            Probe("three rows", {"weights": few, "grad": everywhere([[1, -2, 0.5], [0, 3, 1], [2, 1, -1]], draw)}),
            Probe(
                "more columns than rows",
                {"weights": many / many.sum(-1, keepdims=True), "grad": draw(B, H, 5, 7, scale=2)},
            ),
        )

    def asked(self, way: Way) -> bool:
        return way.layout.startswith("plain")

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        return made(answer)(*(give(laid_out(probe.given[name], way.layout)) for name in ("weights", "grad")))

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        return {name: laid_out(probe.given[name], way.layout) for name in ("weights", "grad")}


class OnlineSoftmax(Contract):
    name = "online_softmax"
    sign = "online_softmax(scores, values, block)"
    layouts = ("plain",)

    def __init__(self) -> None:
        draw = Draw(3)
        few = {"scores": np.array([[1, 3, 2], [2, -1, 0], [0.5, 0, 4]]), "values": draw(3, 2)}
        many = {"scores": draw(5, 7, scale=2), "values": draw(7, 3)}
        rising = {"scores": np.array([[0, 1, 900.0, 901, 2], [2000, 2, 1, 0, 3]]), "values": draw(5, 3)}
        low = {"scores": np.array([[-2000, -2001, -1999, -2002.0], [-1, -2, 1, 0]]), "values": draw(4, 3)}
        apart = {"scores": np.array([[3000, 2999, 0, 1.0], [0, 1, 2, -1], [-3000, -3001, -2999, -3002]])}
        apart["values"] = draw(4, 3)
        inf = math.inf
        closed = {"scores": np.array([[-inf, -inf, 1, 2.0], [0, 1, -inf, 2]]), "values": draw(4, 3)}
        self.probes = (
            Probe("three columns, one at a time", few | {"block": 1}),
            Probe("blocks that do not divide the columns", many | {"block": 3}),
            Probe("two columns at a time", many | {"block": 2}),
            Probe("blocks that fit", {"scores": many["scores"][:, :6], "values": many["values"][:6], "block": 3}),
            Probe("one block", many | {"block": 7}, hard=True),
            Probe("a block wider than the scores", many | {"block": 11}, hard=True),
            Probe("scores that rise", rising | {"block": 2}, hard=True),
            Probe("far below zero", low | {"block": 3}, hard=True),
            Probe("rows far apart", apart | {"block": 2}, hard=True),
            Probe(
                "a closed block",
                closed | {"block": 2},
                soft=True,
                remark="where all scores of a row's first block are −∞, it gives other numbers than it should",
            ),
        )

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        return made(answer)(give(probe.given["scores"]), give(probe.given["values"]), probe.given["block"])

    def forms(self, way: Way) -> tuple[Way, ...]:
        return self.solved(way), Way(self.solved(way).kind, AT_ONCE)

    def solution(self, names: Mapping[str, Any], way: Way) -> Any:
        return names[self.function(way)]

    def function(self, way: Way) -> str:
        return "online_softmax_at_once" if way.layout == AT_ONCE else "online_softmax"

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        return dict(probe.given)
