"""What the chapter on speech has no minute for: three seeds of its model, their rivals, and what breaks them.

All hear the same strings of digits, with as many parameters: attention, attention within a window, GRUs in both
directions, convolutions, and layers that see one token alone. What the attention of a spoken digit reads is measured,
then closed. All in float64, with parameters rounded after each step, so that the chapter's own model is the stored
one on every processor.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnlib.lab.models import count_parameters
from attnlib.lab.speech import (
    HOP,
    RATE,
    STACK,
    Recogniser,
    Recording,
    Spoken,
    Strings,
    attention,
    convolution,
    frame_by_frame,
    greedy,
    heard,
    recording,
    recurrent,
    spikes,
    train_ctc,
    word_error_rate,
)
from attnlib.lab.training import float64
from attnlib.masks import Mask, sliding_window
from attnlib.recording import record_attention

SEEDS = range(3)
STEPS = 800
STRINGS = 500  # held-out strings of each kind
DECIBELS = (30, 20, 15, 10, 5, 0, -5)
MILLISECONDS = 1_000 * STACK * HOP / RATE  # of a token
EXAMPLE = (4, 7, 7, 1)
WINDOW = 9  # tokens on each side, the query's own among them: 240 ms before and after
NEAR = Spoken("held out", noise=(20, 20))
KINDS: dict[str, Spoken] = {
    "held out": NEAR,
    "Scottish": Spoken("Scottish", noise=(20, 20)),
    "training voices": Spoken("training", noise=(20, 20)),
    "overlapping": Spoken("held out", gap=(-20, -10), noise=(20, 20)),
    "longer": Spoken("held out", count=(10, 12), noise=(20, 20)),
    "fast": Spoken("fast", noise=(20, 20)),
    "white noise": Spoken("held out", noise=(5, 5)),
    "another voice": Spoken("held out", noise=(5, 5), babble=True),
    **{f"{level} dB": Spoken("held out", noise=(level, level)) for level in DECIBELS},
}
COUNTS = (250, 500, 1_000, 2_000, 4_000)  # tokens whose time is measured


def strings(kind: str = "held out") -> Strings:
    """Return the strings of a kind that every model is tested with."""
    return KINDS[kind].draw(STRINGS, torch.Generator().manual_seed(1_000))


def _mask(window: int | None) -> Mask | None:
    return None if window is None else sliding_window(window)


@torch.no_grad()
def error(model: Recogniser, of: Strings, mask: Mask | Tensor | None = None) -> float:
    """Return the word error rate."""
    return round(word_error_rate(of.said, greedy(model.eval()(of.tokens, mask))), 4)


# Waves


def example() -> Recording:
    """Return the recording that the chapter draws."""
    return recording("en-us-nyc+f3", EXAMPLE)


@torch.no_grad()
def error_on_waves(model: Recogniser) -> float:
    """Return the word error rate on strings of two held-out voices that were joined, and drowned in noise, as waves."""
    generator = np.random.default_rng(1_000)
    said, found = [], []
    for voice in ("en-us-nyc+f3", "en-gb-x-rp+m7"):
        for seed in range(100):
            digits = generator.integers(10, size=generator.integers(3, 7)).tolist()
            gaps = generator.uniform(-0.08, 0.2, len(digits) - 1).tolist()
            wave = recording(voice, digits, gaps, noise=20, seed=seed).wave
            said.append(digits)
            found += greedy(model.eval()(heard(wave, RATE)))
    return round(word_error_rate(said, found), 4)


# Whose token is it?


def territory(of: Strings) -> Tensor:
    """Return for each token (B, T) which digit of its string is nearest: inside of it, or else the nearest edge.

    Where two digits overlap, the token belongs to the one whose middle is nearer.
    So the noise behind the last digit is that digit's.
    """
    middle = torch.arange(of.tokens.shape[1])[:, None] + 0.5  # (T, 1)
    starts, ends = of.starts[:, None], of.ends[:, None]
    outside = (starts - middle).clamp(min=0) + (middle - ends).clamp(min=0)
    distance = outside + 1e-3 * ((starts + ends) / 2 - middle).abs()  # (B, T, most)
    distance = distance.masked_fill((of.digits < 0)[:, None], torch.inf)
    return distance.argmin(-1)


def relation(of: Strings) -> dict[str, Tensor]:
    """Return for each pair of tokens, (B, T, T), whether the key is by its own, the next, or a farther digit."""
    whose = territory(of)
    apart = (whose[:, :, None] - whose[:, None]).abs()
    return {"its own digit": apart == 0, "the next digits": apart == 1, "farther": apart > 1}


def mirrored(of: Strings) -> dict[str, Tensor]:
    """Return pairs of tokens (B, T, T) within the window: keys of another digit, and as many, as near, of the own.

    A key of another digit counts if the one as far on the other side belongs to the query's own digit; that one is its
    counterpart.
    """
    tokens = of.tokens.shape[1]
    own, place = relation(of)["its own digit"], torch.arange(tokens)
    across = 2 * place[:, None] - place  # as far from the query, on its other side
    there = sliding_window(WINDOW).dense(tokens, tokens) & (across >= 0) & (across < tokens)
    counterpart = own.gather(2, across.clamp(0, tokens - 1).expand_as(own))
    return {"near, another digit": there & ~own & counterpart, "near, its own": there & own & ~counterpart}


@torch.no_grad()
def looks(model: Recogniser) -> dict[str, Any]:
    """Return whom the tokens that emit a digit attend to, layer by layer; in strings heard rightly.

    Beside it stands what even weights would give: over all tokens ("by chance"), and over those up to 8 or 4 tokens
    away ("by nearness").
    """
    of = strings()
    with record_attention(model.eval()) as record:
        logits = model(of.tokens)
    layers = [weights.mean(1) for weights in record.values()]
    pairs = relation(of)
    emit = torch.zeros(of.tokens.shape[:2], dtype=torch.bool)
    since_start, until_end = [], []
    for row, (said, start, end) in enumerate(zip(of.said, of.starts.tolist(), of.ends.tolist(), strict=True)):
        found = spikes(logits[row])
        if [digit for _, digit in found] == said:
            for place, (token, _) in enumerate(found):
                emit[row, token] = True
                since_start.append(MILLISECONDS * (token + 0.5 - start[place]))
                until_end.append(MILLISECONDS * (end[place] - token - 0.5))
    after, before = torch.tensor(since_start), torch.tensor(until_end)
    return {
        "share": [{name: _mean(w[emit], pair[emit]) for name, pair in pairs.items()} for w in layers],
        "by chance": {name: round(pair[emit].double().mean().item(), 4) for name, pair in pairs.items()},
        "by nearness": {
            str(reach): {name: _mean(nearby(reach, of)[emit], pair[emit]) for name, pair in pairs.items()}
            for reach in (WINDOW - 1, 4)
        },
        "ms after the start": {"mean": round(after.mean().item(), 1), "spread": round(after.std().item(), 1)},
        "ms before the end": {"mean": round(before.mean().item(), 1), "spread": round(before.std().item(), 1)},
        "inside": round(((after >= 0) & (before >= 0)).double().mean().item(), 4),
    }


def nearby(reach: int, of: Strings) -> Tensor:
    """Return even weights (B, T, T) over a token and so many to each side."""
    tokens = of.tokens.shape[1]
    open_to = sliding_window(reach + 1).dense(tokens, tokens).double()
    return (open_to / open_to.sum(-1, keepdim=True)).expand(len(of.tokens), -1, -1)


def _mean(weights: Tensor, pair: Tensor) -> float:
    return round((weights * pair).sum(-1).mean().item(), 4)


def closed(model: Recogniser) -> dict[str, Any]:
    """Return the word error rate when tokens may not read those by their own, the next, or a farther digit.

    And when they may not read, near by, those of another digit, or as many, as near, of their own.
    """
    of = strings()
    return {name: error(model, of, without(pair)) for name, pair in (relation(of) | mirrored(of)).items()}


def without(pairs: Tensor) -> Tensor:
    """Return a mask (B, 1, T, T) that closes pairs of tokens (B, T, T); each token may still read itself."""
    return (~pairs | torch.eye(pairs.shape[-1], dtype=torch.bool))[:, None]


@torch.no_grad()
def wrong_by_place(model: Recogniser, place: int | None) -> list[float]:
    """Return the share of first, second and third digits where something else is said than the digit, once.

    Args:
        model: a trained one.
        place: which digit's tokens are closed, to each other and to all; None: nothing is.
    """
    of = strings()
    whose = territory(of)
    mask = None if place is None else without((whose == place)[:, None].expand(-1, whose.shape[1], -1))
    logits = model.eval()(of.tokens, mask)
    wrong = torch.zeros(3)
    for row, said in enumerate(of.said):
        there: list[list[int]] = [[] for _ in said]
        for token, digit in spikes(logits[row]):
            there[int(whose[row, token])].append(digit)
        wrong += torch.tensor([there[k] != [said[k]] for k in range(3)])
    return [round(share, 4) for share in (wrong / len(of.said)).tolist()]


# A classical method: cut, compare


@float64()
def by_templates() -> dict[str, Any]:
    """Return the word error rate of the nearest of 4,000 digits of the training voices: no model, nothing learnt.

    A string is cut where it is soft, halfway between its soft and its loud tokens; or, which no listener could do,
    where the generator knows that digits begin and end. A piece is stretched to eight tokens and less its mean.
    """
    single = Spoken(count=(1, 1), noise=(20, 20)).draw(4_000, torch.Generator().manual_seed(0))
    known = _pieces(single, [[edges] for edges in zip(single.starts[:, 0], single.ends[:, 0], strict=True)])
    names = single.digits[:, 0]
    of = strings()
    given = [
        [(start, end) for start, end, digit in zip(*row, strict=True) if digit >= 0]
        for row in zip(of.starts, of.ends, of.digits, strict=True)
    ]
    found = {}
    for name, cuts in (("cut where it is soft", [soft_cuts(tokens) for tokens in of.tokens]), ("cut by oracle", given)):
        named = names[torch.cdist(_pieces(of, cuts), known).argmin(1)].tolist()
        said = [[named.pop(0) for _ in row] for row in cuts]
        found[name] = round(word_error_rate(of.said, said), 4)
    return found


def soft_cuts(tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return where loud pieces of at least 90 ms begin and end; a softness of up to 90 ms inside one does not count."""
    loud = tokens.mean(-1)
    low, high = loud.quantile(torch.tensor([0.1, 0.9], dtype=loud.dtype))
    on = loud > (low + high) / 2
    runs: list[list[int]] = []
    for place in on.nonzero()[:, 0].tolist():
        if runs and place - runs[-1][1] <= 3:
            runs[-1][1] = place + 1
        else:
            runs.append([place, place + 1])
    return [(torch.tensor(float(start)), torch.tensor(float(end))) for start, end in runs if end - start >= 3]


def _pieces(of: Strings, cuts: list[list[tuple[Tensor, Tensor]]]) -> Tensor:
    pieces = []
    for tokens, row in zip(of.tokens, cuts, strict=True):
        for start, end in row:
            piece = tokens[int(start) : max(int(end), int(start) + 1)]
            piece = torch.nn.functional.interpolate(piece.T[None], size=8, mode="linear")[0]
            pieces.append((piece - piece.mean()).flatten())
    return torch.stack(pieces)


# The rows


@float64()
def trained(make: Callable[[], Recogniser], seed: int, *, window: int | None = None, steps: int = STEPS) -> Recogniser:
    """Train a model on strings of the training voices."""
    torch.manual_seed(seed)
    model = make()
    train_ctc(model, Spoken(), seed=seed, steps=steps, mask=_mask(window))
    return model.eval()


@float64()
def run(make: Callable[[], Recogniser], seed: int, *, window: int | None = None, steps: int = STEPS) -> dict[str, Any]:
    """Train; return the word error rate on each kind of strings, and for full attention what it reads and needs."""
    model = trained(make, seed, window=window, steps=steps)
    found: dict[str, Any] = {
        "seed": seed,
        "error": {kind: error(model, strings(kind), _mask(window)) for kind in KINDS},
    }
    if make is attention and window is None:
        found |= looks(model) | {
            "path": model(heard(example().wave, RATE))[0].argmax(-1).tolist(),
            "error on waves": error_on_waves(model),
            "closed": closed(model),
            "wrong by place": {str(place): wrong_by_place(model, place) for place in (None, 0, 1, 2)},
            "window in tests only": {
                kind: error(model, strings(kind), sliding_window(WINDOW)) for kind in ("held out", "longer", "fast")
            },
        }
    return found


def row(make: Callable[[], Recogniser], window: int | None = None) -> dict[str, Any]:
    """Return the size of a model, and what was found with each seed."""
    return {
        "parameters": count_parameters(make()),
        "seeds": [run(make, seed, window=window) for seed in SEEDS],
    }


def cost(rounds: int = 7) -> dict[str, Any]:
    """Return how long the model takes for a recording of so many tokens: the median, in seconds, of a forward pass."""
    torch.manual_seed(0)
    model = attention().eval()
    times: dict[str, list[float]] = {"full": [], "window": []}
    for count in COUNTS:
        tokens = torch.randn(1, count, model.project.in_features)
        for name, mask in (("full", None), ("window", sliding_window(WINDOW))):
            took = []
            with torch.no_grad():
                for _ in range(rounds):
                    began = time.process_time()
                    model(tokens, mask)
                    took.append(time.process_time() - began)
            times[name].append(round(sorted(took)[rounds // 2], 5))
    return {"tokens": list(COUNTS), **times}


ROWS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "attention": partial(row, attention),
    "attention, window": partial(row, attention, WINDOW),
    "recurrent": partial(row, recurrent),
    "convolution": partial(row, convolution),
    "one token": partial(row, frame_by_frame),
    "templates": by_templates,
    "cost": cost,
}
