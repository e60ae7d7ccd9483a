"""Layer norm, and layers made of their parts."""

from __future__ import annotations

import re
from functools import cache
from inspect import Parameter
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from attnlib.exercises.contracts.base import Contract, Draw, Given, Kind, Probe, Way, made, parameters
from attnlib.exercises.contracts.softmax import B, H, everywhere, laid_out


class LayerNorm(Contract):
    name = "layer_norm"
    sign = "layer_norm(x, gamma, beta, eps)"
    layouts = ("plain", "heads", "batch")

    def __init__(self) -> None:
        draw = Draw(19)
        few = everywhere([[1.0, 2, 6], [3, -1, 1], [0, 4, 5]], draw)
        three = {"gamma": np.array([1.0, 2, -1]), "beta": np.array([0.5, 0, 2])}
        wide = {"gamma": draw(7) + 2, "beta": draw(7)}
        # One number apart by 1/256, which float32 tells from eps.
        flat = everywhere([[1.0, 1, 1.00390625], [2, 2, 2], [-1, -1.00390625, -1]])
        self.probes = (
            Probe("three tokens of width three", three | {"x": few}),
            Probe("width 7", wide | {"x": draw(B, H, 5, 7, scale=3)}),
            Probe("eps given", three | {"x": few, "eps": 2.0}, hard=True),
            Probe("numbers that hardly differ", three | {"x": flat}, hard=True),
        )

    def asked(self, way: Way) -> bool:
        return way.layout.startswith("plain")

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        answer = made(answer)
        given = [give(laid_out(probe.given["x"], way.layout)), give(probe.given["gamma"]), give(probe.given["beta"])]
        if "eps" not in probe.given:
            return answer(*given)
        takes = parameters(answer)
        if any(p.name == "eps" for p in takes):
            return answer(*given, eps=probe.given["eps"])
        return answer(*given) if len(takes) == 3 else answer(*given, probe.given["eps"])

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        return {"x": laid_out(probe.given["x"], way.layout)} | {k: v for k, v in probe.given.items() if k != "x"}


class _Part(torch.nn.Module):
    """A part of a layer. It takes arrays, too, and returns what it was given."""

    def forward(self, *given: Any, **named: Any) -> Any:
        arrays = not any(isinstance(x, torch.Tensor) for x in (*given, *named.values()))
        as_tensor = lambda x: torch.as_tensor(np.asarray(x)) if isinstance(x, np.ndarray | list) else x  # noqa: E731
        output = self.compute(*map(as_tensor, given), **{name: as_tensor(x) for name, x in named.items()})
        return output.detach().numpy() if arrays else output

    def compute(self, *given: Any, **named: Any) -> torch.Tensor:
        raise NotImplementedError


class _Attend(_Part):
    """One head, called as :class:`attnlib.MultiHeadAttention` is. Without a mask it looks back only if it is causal.

    Without a seed all keys count alike, and a share of the query is added, so that it can be followed with a pencil.
    """

    def __init__(self, seed: int | None, d_model: int, causal: bool, share: float):
        super().__init__()
        draw, eye = Draw(seed or 0), torch.eye(d_model, dtype=torch.float64)
        self.maps = [torch.tensor(draw(d_model, d_model, scale=0.7)) for _ in range(3)] if seed else [0 * eye, eye, eye]
        self.causal, self.share = causal, 0.0 if seed else share

    def compute(self, query: Any, key: Any = None, value: Any = None, mask: Any = None, **named: Any) -> torch.Tensor:
        masks = [x for name, x in named.items() if "mask" in name] + [mask]
        if isinstance(key, torch.Tensor) and key.dtype == torch.bool:
            key, masks = None, [key]
        if isinstance(value, torch.Tensor) and value.dtype == torch.bool:
            value, masks = None, [value]
        mask = next((x for x in masks if x is not None), None)
        key = named.get("memory", query) if key is None else key
        value = key if value is None else value
        wq, wk, wv = (w.to(query.dtype) for w in self.maps)
        scores = (query @ wq) @ (key @ wk).mT / query.shape[-1] ** 0.5
        if mask is None and self.causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if mask is not None:
            if hasattr(mask, "dense"):
                mask = mask.dense(*scores.shape[-2:])
            mask = torch.as_tensor(mask)
            while mask.ndim > scores.ndim:
                mask = mask[0]
            if mask.dtype == torch.bool:
                scores = scores.masked_fill(~mask, float("-inf"))
            else:  # numbers that are added to the scores
                scores = scores + mask.to(scores.dtype)
        weights = scores.softmax(-1)
        return weights.nan_to_num(0) @ (value @ wv) + self.share * query


class _FeedForward(_Part):
    """Two linear layers with a ReLU between them; without a seed each number is squared."""

    def __init__(self, seed: int | None, d_model: int):
        super().__init__()
        draw = Draw(seed or 0)
        self.squares = seed is None
        self.widen, self.narrow = torch.tensor(draw(d_model, 11)), torch.tensor(draw(11, d_model))

    def compute(self, x: Any) -> torch.Tensor:
        if self.squares:
            return x * x
        return (x @ self.widen.to(x.dtype)).relu() @ self.narrow.to(x.dtype)


class _Norm(_Part):
    """A layer norm; without a seed gamma is the number of the norm, and beta is 0."""

    def __init__(self, seed: int | None, d_model: int, number: int):
        super().__init__()
        draw = Draw((seed or 0) + number)
        self.gamma, self.beta = torch.tensor(draw(d_model) + 2), torch.tensor(draw(d_model))
        if seed is None:
            self.gamma, self.beta = torch.full((d_model,), number + 1.0), torch.zeros(d_model)

    def compute(self, x: Any) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.gamma.to(x.dtype), self.beta.to(x.dtype))


# What people call a part. The first that fits a parameter's name is it.
_NAMES = (
    ("norms", r"^(layer_?)?norms$|^lns$"),
    ("norm", r"norm|^ln|layernorm"),
    ("cross", r"cross|enc_?dec|memory_?att|source_?att|src_?att|^attend_?2$|^attn_?2$|^attention_?2$|^att_?2$"),
    ("feed_forward", r"^ff|feed|mlp|ffn|dense|net$"),
    ("memory_mask", r"(mem|src|source|enc|cross|pad).*mask"),
    ("mask", r"mask|causal"),
    ("attend", r"att|mha|self|^sa$"),
    ("drop", r"drop"),
    ("memory", r"mem|enc|source|src|context|^z$|^m$|states?$"),
    ("x", r"x|tgt|target|token|input|hidden|^h$|^y$|query"),
)


@cache
def part_named(name: str) -> str:
    """Which part a parameter's name means; an empty text if none."""
    return next((part for part, pattern in _NAMES if re.search(pattern, name.lower())), "")


class LayerOfParts(Contract):
    """A function of x and the parts, or a class of the parts that is called with x."""

    kinds: tuple[Kind, ...] = ("float32 tensors", "arrays", "float64 tensors")
    layouts = ("batch", "plain")

    def __init__(self, name: str) -> None:
        self.name = name
        self.decodes = name == "decoder_layer"
        self.order = (
            ("attend", "cross", "feed_forward", "norm1", "norm2", "norm3")
            if self.decodes
            else ("attend", "feed_forward", "norm1", "norm2")
        )
        self.inputs = ("x", "memory") if self.decodes else ("x",)
        self.sign = f"{name}({', '.join([*self.inputs, *self.order])})"
        draw = Draw(23)
        few = {"x": np.round(draw(2, 3, 3, scale=2)), "memory": np.round(draw(2, 3, 3, scale=2)), "seed": None}
        primes = {"x": draw(2, 5, 7, scale=2), "memory": draw(2, 3, 7, scale=2), "seed": 31}
        self.probes = (Probe("three tokens", few), Probe("five tokens of width seven", primes))

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        given = {name: probe.given[name][0] if way.layout == "plain" else probe.given[name] for name in self.inputs}
        L = given["x"].shape[-2]
        values = {name: give(array) for name, array in given.items()}
        takes = parameters(answer)
        later = parameters(answer.forward if hasattr(answer, "forward") else answer.__call__)[1:]
        meant = [part_named(p.name) for p in [*takes, *(later if isinstance(answer, type) else [])]]
        writes_mask = "norms" in meant  # the book's exercise: the layer itself sees to it that no token sees the future
        causal = "mask" not in meant and not writes_mask
        values |= self.parts(probe.given["seed"], probe.given["x"].shape[-1], causal)
        values["mask"] = give(np.tri(L, dtype=bool))
        if isinstance(answer, type):
            layer = self.bound(answer, takes, values, self.order)
            layer = made(layer)
            return self.bound(layer, later, values, self.inputs)
        return self.bound(answer, takes, values, (*self.inputs, *self.order))

    @cache  # noqa: B019  one contract for each exercise, and a few parts
    def parts(self, seed: int | None, d_model: int, causal: bool) -> dict[str, Any]:
        """The parts by their names."""
        norms = [_Norm(seed, d_model, i) for i in range(3 if self.decodes else 2)]
        return {
            "attend": _Attend(seed and seed + 5, d_model, causal=causal and self.decodes, share=0),
            "cross": _Attend(seed and seed + 6, d_model, causal=False, share=0.5),
            "feed_forward": _FeedForward(seed and seed + 7, d_model),
            "norms": torch.nn.ModuleList(norms),
            "drop": torch.nn.Identity(),
            **{f"norm{i + 1}": norm for i, norm in enumerate(norms)},
        }

    def bound(self, function: Any, takes: list[Parameter], values: dict[str, Any], order: tuple[str, ...]) -> Any:
        """Call with what the parameters' names mean; in the contract's order where they mean nothing."""
        meant = [part_named(p.name) for p in takes]
        known = [part in values or part in ("norm", "memory_mask") for part in meant]
        if not all(ok or p.default is not p.empty for ok, p in zip(known, takes, strict=True)):
            return function(*(values[name] for name in order))
        given: list[Any] = []
        named: dict[str, Any] = {}
        norms = iter(values["norms"])
        for p, part in zip(takes, meant, strict=True):
            if p.kind == p.VAR_POSITIONAL:
                given += norms
            elif p.kind == p.VAR_KEYWORD or (part not in values and part != "norm" and p.default is not p.empty):
                continue
            else:
                value = next(norms) if part == "norm" else values.get(part)
                if part == "mask" and not self.decodes:
                    value = None
                if p.kind == p.KEYWORD_ONLY or len(given) < takes.index(p):
                    named[p.name] = value
                else:
                    given.append(value)
        return function(*given, **named)

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        shown: dict[str, Any] = {
            name: probe.given[name][0] if way.layout == "plain" else probe.given[name] for name in self.inputs
        }
        if probe.given["seed"] is not None:
            return shown | {"the parts": "layers whose weights were drawn once"}
        seen = "the mean of the tokens up to each one" if self.decodes else "the mean of all tokens"
        return (
            shown
            | {"attend(x)": seen}
            | ({"cross(x, memory)": "the mean of the memory's tokens, plus x / 2"} if self.decodes else {})
            | {"feed_forward(x)": "each number squared"}
            | {f"norm{i + 1}(x)": f"layer norm, times {i + 1}" for i in range(3 if self.decodes else 2)}
        )
