"""Positions: sines and cosines, and rotary."""

from __future__ import annotations

from typing import Any

from attnlib.exercises.contracts.base import Contract, Draw, Given, Kind, Probe, Way, in_order, made, parameters
from attnlib.exercises.contracts.softmax import B, H, everywhere, laid_out


class Rotary(Contract):
    """A function of x and an offset; or one of query, key and value that gives attention's output."""

    name = "rotary"
    sign = "rotary(x, offset), or rotary(query, key, value)"
    layouts = ("plain", "heads", "batch")

    def __init__(self) -> None:
        draw = Draw(17)
        few = everywhere([[1.0, 2, 0, -1], [2, 0, 1, 1], [0, 1, -1, 2]], draw)
        self.probes = (
            Probe("three tokens of width four", {"x": few, "key": draw(B, H, 3, 4), "value": draw(B, H, 3, 4)}),
            Probe("the same, some places later", {"x": few, "offset": 5}),
            Probe(
                "width 14", {"x": draw(B, H, 7, 14), "key": draw(B, H, 7, 14), "value": draw(B, H, 7, 14)}, hard=True
            ),
            Probe(
                "values of another width", {"x": draw(B, H, 5, 6), "key": draw(B, H, 5, 6), "value": draw(B, H, 5, 10)}
            ),
            Probe("width 14, far away", {"x": draw(B, H, 5, 14), "offset": 1000}, hard=True),
            Probe(
                "width two", {"x": draw(B, H, 3, 2), "offset": 1, "key": draw(B, H, 3, 2), "value": draw(B, H, 3, 2)}
            ),
        )

    def ways(self, answer: Any) -> tuple[Way, ...]:
        required = [p for p in parameters(answer) if p.default is p.empty and p.kind in (0, 1)]
        attends = len(required) >= 3
        layouts = [f"{layout}, attention" if attends else layout for layout in self.layouts]
        return tuple(Way(kind, layout) for kind in in_order(self.kinds, answer) for layout in layouts)

    def solution(self, names: Any, way: Way) -> Any:
        return names["rotary_attention" if "attention" in way.layout else "rotary"]

    def untold(self, way: Way) -> frozenset[str]:
        # Attention has no offset, and shows neither where columns stand nor what turns all tokens alike.
        attends = {"rotary-offset", "rotary-same-angle", "rotary-axis", "rotary-places", "rotary-woven"}
        return frozenset(attends if "attention" in way.layout else ())

    def suits(self, way: Way, probe: Probe) -> bool:
        return "offset" not in probe.given if "attention" in way.layout else True

    def asked(self, way: Way) -> bool:
        return way.layout.startswith("plain")

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        answer = made(answer)
        names = ("x", "key", "value") if "attention" in way.layout else ("x",)
        given = [give(laid_out(probe.given[name], way.layout)) for name in names]
        if "offset" not in probe.given:
            return answer(*given)
        takes = parameters(answer)
        if any(p.name == "offset" for p in takes[1:]):
            return answer(*given, offset=probe.given["offset"])
        return answer(*given) if len(takes) == 1 else answer(*given, probe.given["offset"])

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        x = laid_out(probe.given["x"], way.layout)
        if "attention" in way.layout:
            rest = {name: laid_out(probe.given[name], way.layout) for name in ("key", "value")}
            return {"query": x} | rest
        return {"x": x, "offset": probe.given.get("offset", 0)}


class Sinusoidal(Contract):
    name = "sinusoidal"
    sign = "sinusoidal(length, d_model)"
    kinds: tuple[Kind, ...] = ("float32 tensors",)  # it takes sizes only

    def __init__(self) -> None:
        sizes = ((3, 4), (5, 6), (4, 4), (7, 10), (11, 14), (1, 6), (101, 2))
        self.probes = tuple(
            # Where frequencies are wrong, the angles at many places are more than float32 can tell apart.
            Probe(f"{length} places, width {d_model}", {"length": length, "d_model": d_model}, hard=d_model > 6)
            for length, d_model in sizes
        )

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        return made(answer)(*probe.given.values())

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        return dict(probe.given)
