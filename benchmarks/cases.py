"""What is measured: each case a size, a mask, a mode and a dtype; who takes part; and what ratio is to be reached.

Targets hold for float32 on 2 CPU cores. A ratio is attnlib's time divided by the other's: 0.5 is twice as fast.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from attnlib.positions import ALiBi
from benchmarks.contenders import OURS, decoding, heads, layer


@dataclass(frozen=True)
class Case:
    """One line of the results, or several: one for each other contender.

    Attributes
    ----------
    section: the heading that it stands under.
    row: what all sizes of it have in common: a row of the figure.
    sizes: B batch, L tokens, H heads, d_model or d a head's width: arguments of ``problem``.
    problem: makes what the contenders compute, from sizes, dtype, device and training.
    contenders: builders by name; attnlib's is the first.
    targets: by the other's name, the largest ratio of the times that is asked for.
    most_bytes: the largest peak of memory above the inputs that is asked for.
    """

    section: str
    row: str
    key: str
    title: str
    sizes: dict[str, int]
    problem: Callable[..., object]
    contenders: dict[str, Callable]
    training: bool = False
    dtype: torch.dtype = torch.float32
    targets: dict[str, float] = field(default_factory=dict)
    most_bytes: int | None = None

    @property
    def mode(self) -> str:
        return "training" if self.training else "inference"


LAYER = "The layer, with its projections"
WEIGHTS = "The layer, with its weights"
HEADS = "Heads under a mask with structure"
DECODING = "Decoding with a cache"
SMALL = "Small shapes: what a call costs"
MEMORY = "Memory"

TORCH, TORCH_SLOW, FLOOR, DENSE, FLEX = layer.TORCH, layer.TORCH_SLOW, layer.FLOOR, heads.DENSE, heads.FLEX
MASKS = {"none": "no mask", "causal": "causal", "padding": "padding"}
FIELD_LENGTHS = (128, 512, 2048)  # where everybody takes part
DOCUMENT_LENGTHS = (1024, 832, 704, 576, 448, 320, 128, 64)  # together 4096
PADDED_LENGTHS = (256, 365, 475, 585, 694, 804, 914, 1024)


def cases(*, quick: bool = False) -> list[Case]:
    """Return all cases in the order in which they are measured and shown; with ``quick`` those that take no time."""
    found = [*_layers(), *_layers_with_weights(), *_small_layers(), *_masked_heads(), *_biased_heads()]
    found += [*_decoding(), *_decoding_under_masks(), *_memory()]
    return [_without_flex(case) for case in found if _is_quick(case)] if quick else found


def _is_quick(case: Case) -> bool:
    small = case.sizes["L"] <= 512 and "textbook" not in case.contenders
    few_seconds = case.section == HEADS and not case.training and case.dtype == torch.float32
    return small or few_seconds or case.contenders in (decoding.ONE_TOKEN, decoding.ONE_TOKEN_ROTARY)


def _without_flex(case: Case) -> Case:
    """Compiling takes longer than all the rest."""
    return replace(case, **{part: _less_flex(getattr(case, part)) for part in ("contenders", "targets")})


def _less_flex(named: dict) -> dict:
    return {name: thing for name, thing in named.items() if name != FLEX}


def _layers() -> Iterator[Case]:
    for mask, words in MASKS.items():
        for L in sorted({64, 512, 1024, 4096, *(FIELD_LENGTHS if mask == "causal" else ())}):
            everybody = mask == "causal" and L in FIELD_LENGTHS
            for dtype in (torch.float32, torch.bfloat16) if everybody else (torch.float32,):
                for training in (False, True):
                    yield _layer(mask, words, L, dtype, training, everybody)


def _layer(mask: str, words: str, L: int, dtype: torch.dtype, training: bool, everybody: bool) -> Case:
    torch_target = 0.95 if L <= 512 else 1.0
    # Without a mask and with a causal one, the floor is the same work; with padding it would depend on how it is cut.
    targets = {TORCH: torch_target, TORCH_SLOW: torch_target} | ({} if mask == "padding" else {FLOOR: 1.08})
    others = list(layer.BUILDERS) if everybody else [OURS, *targets]
    if training:  # there is no fast path
        others = [name for name in others if name != TORCH_SLOW]
    return Case(
        section=LAYER,
        row=words,
        key=f"layer-{mask}-{L}-{_suffix(dtype, training)}",
        title=words,
        # Padding needs two lengths.
        sizes={"B": max(2 if mask == "padding" else 1, 2048 // L), "L": L, "H": 8, "d_model": 512},
        problem=partial(layer.problem, mask=mask),
        contenders={name: layer.BUILDERS[name] for name in others},
        training=training,
        dtype=dtype,
        targets={name: ratio for name, ratio in _layer_targets(targets, dtype).items() if name in others},
    )


def _layer_targets(targets: dict[str, float], dtype: torch.dtype) -> dict[str, float]:
    return targets if dtype == torch.float32 else {layer.EAGER: 1.0}


def _layers_with_weights() -> Iterator[Case]:
    for L in (64, 512, 4096):
        for training in (False, True):
            others = [TORCH] if training else [TORCH, TORCH_SLOW]
            yield Case(
                section=WEIGHTS,
                row="weights per head",
                key=f"weights-{L}-{_suffix(torch.float32, training)}",
                title="weights per head",
                sizes={"B": max(1, 2048 // L), "L": L, "H": 8, "d_model": 512},
                problem=partial(layer.problem, need_weights=True),
                contenders={name: layer.BUILDERS[name] for name in (OURS, *others)},
                training=training,
                targets=dict.fromkeys(others, 0.95),
            )


def _small_layers() -> Iterator[Case]:
    for training in (False, True):
        others = [TORCH, FLOOR] if training else [TORCH, TORCH_SLOW, FLOOR]
        yield Case(
            section=SMALL,
            row="small shapes",
            key=f"small-{_suffix(torch.float32, training)}",
            title="no mask",
            sizes={"B": 1, "L": 16, "H": 4, "d_model": 64},
            problem=layer.problem,
            contenders={name: layer.BUILDERS[name] for name in (OURS, *others)},
            training=training,
            targets=dict.fromkeys(others[:-1], 1.0),  # against the floor none: nobody can be faster
        )


def _masked_heads() -> Iterator[Case]:
    rows = (
        ("window", "causal window 256", {"B": 1, "L": 4096}, heads.causal_window(256), {DENSE: 0.14, FLEX: 0.9}),
        (
            "documents",
            "8 packed documents",
            {"B": 1, "L": 4096},
            heads.packed_documents(DOCUMENT_LENGTHS),
            {DENSE: 0.1},
        ),
        (
            "padded",
            "8 padded sequences",
            {"B": 8, "L": 1024},
            heads.padded(PADDED_LENGTHS),
            {DENSE: 0.55, heads.ROWS: 0.66},
        ),
        (
            "padded-causal",
            "8 padded sequences, causal",
            {"B": 8, "L": 1024},
            heads.causal_and_padded(PADDED_LENGTHS),
            {DENSE: 0.55},
        ),
    )
    for name, words, sizes, make_mask, targets in rows:
        for dtype, training in ((torch.float32, False), (torch.float32, True), (torch.bfloat16, False)):
            others = [DENSE, FLEX] if dtype == torch.float32 and not name.startswith("padded") else [DENSE]
            others += [heads.ROWS] * (name == "padded") + [heads.EACH] * (name == "documents")
            yield Case(
                section=HEADS,
                row=words,
                key=f"{name}-{_suffix(dtype, training)}",
                title=words,
                sizes=sizes | {"H": 8, "d": 64},
                problem=partial(heads.problem, make_mask=make_mask),
                contenders={other: heads.BUILDERS[other] for other in (OURS, *others)},
                training=training,
                dtype=dtype,
                targets=_masked_targets(targets, dtype, training),
            )


def _biased_heads() -> Iterator[Case]:
    """ALiBi under a window, as a rule by the distance: beside the same as a tensor, and a float mask of all pairs."""
    for training in (False, True):
        yield Case(
            section=HEADS,
            row="causal window 256, ALiBi",
            key=f"alibi-{_suffix(torch.float32, training)}",
            title="causal window 256, ALiBi",
            sizes={"B": 1, "L": 4096, "H": 8, "d": 64},
            problem=partial(heads.problem, make_mask=heads.causal_window(256), make_bias=ALiBi),
            contenders={name: heads.BUILDERS[name] for name in (OURS, heads.TENSOR, DENSE)},
            training=training,
            # Without a bias: 0.117 of a dense mask. As a tensor it took 1.8 times that, and 1.15 are asked for.
            targets={heads.TENSOR: 0.65, DENSE: 0.14},
        )


def _masked_targets(targets: dict[str, float], dtype: torch.dtype, training: bool) -> dict[str, float]:
    """Keep those for float32, and in training those against what has a backward on a CPU."""
    if dtype != torch.float32:
        return {}
    return _less_flex(targets) if training else targets


def _decoding() -> Iterator[Case]:
    sizes = {"L": 1024, "H": 4, "d_model": 256}
    rows = (
        ("decoding-all", "1024 tokens", decoding.ALL_TOKENS, {decoding.RECOMPUTED: 0.05}, False),
        ("decoding-one", "one token at length 1024", decoding.ONE_TOKEN, {decoding.BERT: 1.0}, False),
        ("decoding-one-rotary", "one token at length 1024", decoding.ONE_TOKEN_ROTARY, {decoding.LLAMA: 1.0}, True),
    )
    for name, words, contenders, targets, rotary in rows:
        yield Case(
            section=DECODING,
            row=words,
            key=f"{name}-{_suffix(torch.float32, False)}",
            title=words,
            sizes=sizes,
            problem=partial(decoding.problem, rotary=rotary),
            contenders=dict(contenders),
            targets=targets,
        )


def _decoding_under_masks() -> Iterator[Case]:
    for kind, words, B, lengths, ratio in (
        ("window", "one token under a window of 256", 1, (512, 8192), 1.2),
        ("left-padding", "one token after prompts padded on the left", 4, (512, 4096), 1.1),
    ):
        for L in lengths:
            yield Case(
                section=DECODING,
                row=words,
                key=f"decoding-{kind}-{L}-{_suffix(torch.float32, False)}",
                title=f"{words}, length {L}",
                sizes={"B": B, "L": L, "H": 8, "d_model": 512},
                problem=partial(decoding.problem, mask=kind),
                contenders=dict(decoding.ONE_TOKEN_UNDER_A_MASK),
                targets={decoding.BY_HAND: ratio},
            )


def _memory() -> Iterator[Case]:
    yield Case(
        section=MEMORY,
        row="causal window 256",
        key=f"memory-window-{_suffix(torch.float32, True)}",
        title="causal window 256",
        sizes={"B": 1, "H": 8, "L": 65_536, "d": 64},
        problem=partial(heads.problem, make_mask=heads.causal_window(256)),
        contenders={OURS: heads.ours},
        training=True,
        most_bytes=1_000_000_000,
    )


def _suffix(dtype: torch.dtype, training: bool) -> str:
    return f"{'training' if training else 'inference'}-{dtype_name(dtype)}"


def dtype_name(dtype: torch.dtype) -> str:
    """Return ``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")
