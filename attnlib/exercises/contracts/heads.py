"""Several heads: the module, and heads that share keys."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

from attnlib.exercises.contracts.attention import ROW_OPEN, ROW_WITHOUT, SOME
from attnlib.exercises.contracts.base import Contract, Draw, Given, Kind, NotAsAgreed, Probe, Way, made, with_mask

LAYERS = ("wq", "wk", "wv", "fc")


class MultiHead(Contract):
    """A class; its four linear layers are given weights that depend on their name and shape only."""

    name = "multi_head"
    sign = "multi_head(num_heads, d_model, d_k, d_v, dropout)(query, key, value, mask)"
    kinds: tuple[Kind, ...] = ("float32 tensors", "float64 tensors")
    layouts = ("a mask for all", "a mask for each example", "a mask for each head")

    def __init__(self) -> None:
        draw = Draw(7)
        even = {"sizes": (2, 4, 2, 2)}  # H, d_model, d_k, d_v: all heads are as wide as the model
        primes = {"sizes": (3, 11, 5, 13)}
        x = draw(1, 3, 4)
        batch, memory, third = draw(2, 3, 4), draw(2, 3, 4), draw(2, 3, 4)
        wide, far, other = draw(2, 7, 11), draw(2, 17, 11), draw(2, 17, 11)
        wide_open = draw.open(7, 17)
        loud = np.round(batch * 90)
        loud[:, 0] = batch[:, 0]
        low, only = self.low(draw)
        self.probes = (
            Probe("three tokens", even | {"query": x}),
            Probe("two texts of three tokens", even | {"query": batch}),
            Probe("three tokens, some closed", even | {"query": x, "mask": SOME}),
            Probe("memory", even | {"query": batch, "key": memory}),
            Probe("keys and values", even | {"query": batch, "key": memory, "value": third}),
            Probe("primes", primes | {"query": wide}),
            Probe("primes, keys and values, some closed", primes | {"query": wide, "key": far, "mask": wide_open}),
            Probe("primes, all different", primes | {"query": wide, "key": far, "value": other}),
            Probe(
                "texts that differ in what is closed", primes | {"query": wide, "masks": draw.open(2, 7, 7)}, hard=True
            ),
            Probe("a query that sees all", even | {"query": x, "mask": ROW_OPEN}, hard=True),
            Probe("a query without a key", even | {"query": x, "mask": ROW_WITHOUT}, hard=True),
            Probe("the open key far below zero", even | {"query": low, "mask": only}, hard=True),
            Probe("large scores", even | {"query": loud}, hard=True),
            Probe("gradients", primes | {"query": wide, "gradient": draw(2, 7, 11)}, hard=True),
            *(
                Probe(f"training, {what}", {"sizes": (3, 15, 5, 5), "query": draw(4, 5, 15), "read": what}, hard=True)
                for what in ("weights", "heads", "output")
            ),
            Probe(
                "biases of 1",
                even | {"query": x, "bias": 1.0},
                soft=True,
                remark="its linear layers have biases, and layers without biases are asked for",
            ),
        )

    def low(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """One text and a mask that leaves each query one key, whose score is far below zero in both heads."""
        wq, wk = _weight(0, (4, 4)).numpy(), _weight(1, (4, 4)).numpy()
        while True:
            x = draw(1, 3, 4)
            heads = [(x[0] @ wq[h : h + 2].T) @ (x[0] @ wk[h : h + 2].T).T for h in (0, 2)]
            worst = np.maximum(*heads)  # the head in which a pair scores best
            if (worst.min(axis=1) < -0.3).all():
                return x * 2e5, np.arange(3) == worst.argmin(axis=1)[:, None]

    def solved(self, way: Way) -> Way:
        return Way(way.kind, "a mask for each head" if "each" in way.layout else way.layout)

    def told(self, probe: Probe) -> str:
        if "read" in probe.given:
            what = {"weights": "the weights", "heads": "the output of the heads", "output": "the output"}
            return f"what dropout 0.3 does in training to {what[probe.given['read']]}"
        return "lengths of the gradients of wq, wk, wv, fc" if "gradient" in probe.given else ""

    def spoken(self, probe: Probe, values: Any) -> str | None:
        if "read" not in probe.given:
            return None
        same, gone, factor, sums = values
        if same:
            return "nothing: all is as in evaluation"
        share = ("nothing is 0", "some numbers are 0", "most numbers are 0")[int(gone)]
        rest = (
            "the others are multiplied by different numbers"
            if factor == -1
            else f"the others are multiplied by {factor:g}"
        )
        return f"{share}, {rest}" + (", each row sums to 1" if sums else "")

    def suits(self, way: Way, probe: Probe) -> bool:
        return "masks" not in probe.given or way.layout != "a mask for all"

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        dtype = torch.float32 if way.kind == "float32 tensors" else torch.float64
        dropout = 0.3
        state = torch.get_rng_state()
        module = self.module(answer, (*probe.given["sizes"], dropout)).to(dtype)
        fill(module, probe.given.get("bias", 0.0))
        torch.set_rng_state(state)  # what the layers drew at first is no matter
        arguments = [give(probe.given[name]) for name in ("query", "key", "value") if name in probe.given]
        if "read" in probe.given:
            return self.training(module, probe, arguments[0], dropout)
        module.eval()
        if "mask" in probe.given or "masks" in probe.given:
            arguments += [None] * (3 - len(arguments))
            output = with_mask(module, arguments, give(self.mask(way, probe)))
        else:
            output = module(*arguments)
        if "gradient" in probe.given:
            weights = [getattr(module, name).weight for name in LAYERS if hasattr(module, name)]
            return self.gradients(output, weights, probe.given["gradient"])
        return output

    def module(self, answer: Any, arguments: tuple) -> Any:
        """An object of the answer's class."""
        if not isinstance(answer, type):
            raise NotAsAgreed("is no class: multi_head(num_heads, d_model, d_k, d_v, dropout) is asked for")
        names = ("num_heads", "d_model", "d_k", "d_v", "dropout")
        try:
            module = answer(**dict(zip(names, arguments, strict=True)))
        except TypeError:
            module = answer(*arguments)
        if not isinstance(module, torch.nn.Module):
            raise NotAsAgreed("makes objects that are no torch.nn.Module")
        missing = [name for name in LAYERS if not isinstance(getattr(module, name, None), torch.nn.Module)]
        if missing and missing != ["fc"]:
            raise NotAsAgreed(f"has no linear layer {' and no '.join(missing)}")
        return module

    def mask(self, way: Way, probe: Probe) -> np.ndarray:
        if "masks" in probe.given:
            masks = probe.given["masks"]
        elif way.layout == "a mask for all":
            return probe.given["mask"]
        else:
            masks = np.broadcast_to(probe.given["mask"], (len(probe.given["query"]), *probe.given["mask"].shape))
        return masks if "example" in way.layout else masks[:, None]

    def gradients(self, output: torch.Tensor, weights: list[torch.Tensor], wished: np.ndarray) -> torch.Tensor:
        if not output.requires_grad:
            return torch.zeros(len(weights))
        loss = (output * torch.tensor(wished, dtype=output.dtype)).sum()
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        return torch.stack([loss.new_zeros(()) if part is None else part.norm() for part in found])

    def training(self, module: Any, probe: Probe, x: torch.Tensor, dropout: float) -> list[float]:
        """What dropout did, in a few numbers that do not depend on what was drawn.

        The output is made to show a step: the values are unit vectors, so that the heads' outputs are the weights; the
        last layer passes the heads on as they are; or neither.
        """
        what = probe.given["read"]
        size = len(x), x.shape[1]
        with torch.no_grad():
            if what != "output" and hasattr(module, "fc"):
                module.fc.weight.copy_(torch.eye(*module.fc.weight.shape))
            if what == "weights":  # token j has its value at place j of each head
                x = torch.cat([torch.eye(size[1], dtype=x.dtype).expand(len(x), -1, -1), x[..., size[1] :]], dim=-1)
                eye = torch.eye(size[1], module.wv.weight.shape[1])
                module.wv.weight.copy_(eye.repeat(module.wv.weight.shape[0] // len(eye), 1))
            whole = module.eval()(x)
            dropped = module.train()(x)
        whole, dropped = (y.detach().double() for y in (whole, dropped))
        gone = dropped.abs() < 1e-12
        ratio = (dropped / whole)[~gone]
        rows = dropped.unflatten(-1, (-1, size[1])).sum(-1)
        return [
            float((dropped - whole).abs().max() < 1e-6),  # dropout does nothing
            0.0 if gone.double().mean() < 0.1 else 1.0 if gone.double().mean() < 0.5 else 2.0,  # what is gone
            round(ratio.median().item(), 1) if what != "output" and ratio.std() < 1e-3 else -1.0,  # what is left
            float((rows - 1).abs().max() < 1e-3) if what == "weights" else 0.0,  # rows sum to 1 all the same
        ]

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        sizes = dict(zip(("num_heads", "d_model", "d_k", "d_v"), probe.given["sizes"], strict=True))
        if "read" in probe.given:
            return sizes
        sizes |= {"dropout": "0.3, in evaluation"}
        if "bias" in probe.given:
            sizes |= {"each bias that there is": probe.given["bias"]}
        shown = sizes | {name: probe.given[name] for name in ("query", "key", "value", "mask") if name in probe.given}
        if "gradient" in probe.given or max(probe.given["sizes"]) > 4:
            return shown
        H, d_model, d_k, d_v = probe.given["sizes"]
        shapes = [(H * d_k, d_model), (H * d_k, d_model), (H * d_v, d_model), (d_model, H * d_v)]
        weights = (_weight(place, shape).numpy() for place, shape in enumerate(shapes))
        return shown | {f"{name}.weight": weight for name, weight in zip(LAYERS, weights, strict=True)}


@cache
def _weight(place: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(np.round(np.random.default_rng([place, *shape]).normal(size=shape) * 0.6, 1))


def fill(module: torch.nn.Module, bias: float) -> None:
    """Give each linear layer weights that depend on its name and shape, and all biases one number."""
    with torch.no_grad():
        for place, name in enumerate(LAYERS):
            layer = getattr(module, name, None)
            if layer is None:
                continue
            layer.weight.copy_(_weight(place, tuple(layer.weight.shape)))
            if getattr(layer, "bias", None) is not None:
                layer.bias.fill_(bias)


class GroupedHeads(Contract):
    name = "grouped_heads"
    sign = "grouped_heads(query, key, value, mask)"
    kinds: tuple[Kind, ...] = ("float32 tensors", "arrays", "float64 tensors", "lists")
    layouts = ("a mask for all", "a mask for each head")

    def __init__(self) -> None:
        draw = Draw(11)

        def sizes(B: int, H: int, H_kv: int, L: int, S: int, d_k: int, d_v: int) -> dict[str, np.ndarray]:
            return {"query": draw(B, H, L, d_k), "key": draw(B, H_kv, S, d_k), "value": draw(B, H_kv, S, d_v)}

        few = sizes(1, 4, 2, 3, 3, 3, 3)
        primes = sizes(2, 6, 2, 5, 7, 11, 13)
        loud = few | {"query": np.round(few["query"] * 60), "key": np.round(few["key"] * 60)}
        loud["query"][:, :, 0] = few["query"][:, :, 0] / 60  # one row stays as it was
        low_query, low_key = np.zeros((1, 4, 3, 3)), np.zeros((1, 2, 3, 3))
        low_query[..., 0], low_key[..., :2, 0] = -9e4, 9e4
        low = few | {"query": low_query, "key": low_key, "mask": np.array([[True, False, False]] * 3)}
        self.probes = (
            Probe("four heads, two of keys", few),
            Probe("four heads, two of keys, some closed", few | {"mask": SOME}),
            Probe("six heads, two of keys", primes),
            Probe("six heads, two of keys, some closed", primes | {"mask": draw.open(5, 7)}),
            Probe("six heads, three of keys", sizes(2, 6, 3, 5, 7, 11, 13)),
            Probe("heads of their own", sizes(2, 3, 3, 5, 7, 2, 11), hard=True),
            Probe("one head of keys", sizes(2, 3, 1, 5, 7, 2, 11), hard=True),
            Probe("a query that sees all", few | {"mask": ROW_OPEN}, hard=True),
            Probe("a query without a key", few | {"mask": ROW_WITHOUT}, hard=True),
            Probe("large scores", loud, hard=True),
            Probe("open keys far below zero", low, hard=True),
        )

    def call(self, answer: Any, way: Way, probe: Probe, give: Given) -> Any:
        given = [give(probe.given[name]) for name in ("query", "key", "value")]
        if "mask" not in probe.given:
            return made(answer)(*given)
        mask = probe.given["mask"]
        if way.layout == "a mask for each head":
            mask = np.broadcast_to(mask, (*probe.given["query"].shape[:2], *mask.shape))
        return with_mask(made(answer), given, give(mask))

    def shown(self, way: Way, probe: Probe) -> dict[str, Any]:
        return dict(probe.given)
