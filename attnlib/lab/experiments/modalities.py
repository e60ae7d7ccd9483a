"""What the chapter on two kinds of tokens has no minute for: three seeds of its model, what breaks it, and its rivals.

All answer the questions of :mod:`attnlib.lab.canvas`, and are tested with scans of writers that none of them has seen.
In float64, with parameters rounded after each step, so that the numbers are the same elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.lab.canvas import (
    ACROSS,
    ANSWERS,
    DIGITS,
    EMPTY,
    NONE,
    SIDES,
    VOCABULARY,
    Asked,
    Canvases,
    arranged,
    check_inputs,
    neighbours,
)
from attnlib.lab.digits import SIDE, Alone, scans
from attnlib.lab.models import count_parameters, of_size
from attnlib.lab.training import accuracy, float64, train
from attnlib.recording import record_attention
from attnlib.transformer import Decoder, Encoder

SEEDS = range(3)
SEEING, STEPS = 600, 1_600  # first scans are named one by one, then questions are answered
EASY = 0.4  # the share of easy questions
# As the chapter trains.
TO_SEE: dict[str, Any] = {"batch_size": 64, "rate": 3e-3, "warmup": 50, "fall_to_zero": True, "decimals": 5}
HOW: dict[str, Any] = {"batch_size": 96, "rate": 1e-3, "warmup": 50, "fall_to_zero": True, "decimals": 5}
SIZES: dict[str, Any] = {"num_heads": 2, "dropout": 0.0, "norm_first": True}
LAYERS = 2
TESTS = 2_000  # canvases, for each measure
CELLS = ACROSS**2


class TextReadsImage(nn.Module):
    """The chapter's model: the words of a question attend to the cells of a canvas, in each layer of a decoder.

    Args:
        d_model: the size of the tokens.

    >>> import torch
    >>> from attnlib.lab.canvas import as_tokens
    >>> from attnlib.lab.experiments.modalities import TextReadsImage
    >>> TextReadsImage(8)(torch.zeros(1, 24, 24), as_tokens([["left of", "seven"]])).shape
    torch.Size([1, 1, 20])
    """

    def __init__(self, d_model: int = 48):
        super().__init__()
        d = d_model
        self.see = nn.Sequential(nn.Linear(SIDE**2, 2 * d), nn.ReLU(), nn.Linear(2 * d, d), nn.LayerNorm(d))
        self.places = nn.Parameter(torch.randn(CELLS, d))
        self.words = nn.Embedding(len(VOCABULARY), d)
        self.order = nn.Parameter(torch.randn(2, d))
        self.decoder = self.body(d)
        self.output = nn.Linear(d, len(ANSWERS))

    def body(self, d_model: int) -> nn.Module:
        """Return what joins words and image."""
        return Decoder(LAYERS, d_model=d_model, d_ff=2 * d_model, **SIZES)

    def image(self, images: Tensor) -> Tensor:
        """Images (B, 24, 24) → a token for each cell, (B, 9, d_model)."""
        cells = F.unfold(images[:, None], SIDE, stride=SIDE).mT
        return self.see(3 * cells) + self.places

    def text(self, words: Tensor) -> Tensor:
        """Words (B, 2) → their tokens (B, 2, d_model)."""
        return self.words(words) + self.order

    def forward(self, images: Tensor, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """Images (B, 24, 24) and questions (B, 2) → logits of the answers, (B, 1, 20), read at the last word.

        Args:
            images: from 0 (paper) to 1 (ink).
            words: tokens of :mod:`attnlib.lab.canvas`.
            mask: which cells the words may attend to, such as bool (B, 1, 1, 9).
        """
        check_inputs(images, words)
        return self.output(self.decoder(self.text(words), self.image(images), None, mask)[:, -1:])


class Namer(nn.Module):
    """What reads a cell, with a linear map to the ten digits: to be trained on single scans.

    Args:
        see: from the pixels of a cell to its token.
        d_model: the size of the token.

    >>> import torch
    >>> from attnlib.lab.experiments.modalities import Namer, TextReadsImage
    >>> Namer(TextReadsImage(8).see, 8)(torch.zeros(3, 8, 8)).shape
    torch.Size([3, 1, 10])
    """

    def __init__(self, see: nn.Module, d_model: int = 48):
        super().__init__()
        self.see = see
        self.output = nn.Linear(d_model, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Scans (B, 8, 8) → logits (B, 1, 10)."""
        return self.output(self.see(3 * images.flatten(1)))[:, None]


class OneSequence(TextReadsImage):
    """A rival with attention: cells and words are one sequence, in which all attend to all."""

    def body(self, d_model: int) -> nn.Module:
        """Return an encoder."""
        return Encoder(LAYERS, d_model=d_model, d_ff=2 * d_model, **SIZES)

    def forward(self, images: Tensor, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """As :class:`TextReadsImage` does."""
        check_inputs(images, words)
        both = torch.cat([self.image(images), self.text(words)], dim=1)
        return self.output(self.decoder(both, mask)[:, -1:])


class Pooled(TextReadsImage):
    """A rival without attention: the mean of the cells and the mean of the words, and a net of three layers on both."""

    def body(self, d_model: int) -> nn.Module:
        """Return a net from both means."""
        d = d_model
        hidden = nn.Sequential(nn.Linear(2 * d, 4 * d), nn.ReLU(), nn.Linear(4 * d, 2 * d), nn.ReLU())
        return nn.Sequential(hidden, nn.Linear(2 * d, d))

    def forward(self, images: Tensor, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """As :class:`TextReadsImage` does."""
        check_inputs(images, words)
        means = [x.mean(1, keepdim=True) for x in (self.image(images), self.text(words))]
        return self.output(self.decoder(torch.cat(means, dim=-1)))


class Joined(Pooled):
    """Another: all cells side by side, so that no place is lost, and the words, as one long vector for such a net."""

    def body(self, d_model: int) -> nn.Module:
        """Return a net from all cells and both words."""
        d = d_model
        return nn.Sequential(nn.Linear((CELLS + 2) * d, 3 * d), nn.ReLU(), nn.Linear(3 * d, 2 * d), nn.ReLU(),
                             nn.Linear(2 * d, d))  # fmt: skip

    def forward(self, images: Tensor, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """As :class:`TextReadsImage` does."""
        check_inputs(images, words)
        both = torch.cat([self.image(images), self.text(words)], dim=1)
        return self.output(self.decoder(both.flatten(1)))[:, None]


@cache
def size() -> int:
    """Return how many parameters the chapter's model has."""
    with torch.device("meta"):  # nothing is drawn
        return count_parameters(TextReadsImage())


def _as_large(kind: type[TextReadsImage]) -> TextReadsImage:
    return of_size(kind, size(), range(8, 129, 2))


MODELS: dict[str, Callable[[], TextReadsImage]] = {
    "text reads image": TextReadsImage,
    "one sequence": partial(_as_large, OneSequence),
    "joined": partial(_as_large, Joined),
    "pooled": partial(_as_large, Pooled),
}


def task() -> Asked:
    """Return the task."""
    return Asked(scans().training, scans().held_out, easy=EASY)


def trained(name: str, seed: int, *, steps: int = STEPS) -> TextReadsImage:
    """Train a model: to name scans, then to answer questions, a share of which is easy."""
    torch.manual_seed(seed)
    model = MODELS[name]()
    alone = Alone(scans().training, scans().held_out)
    namer = Namer(model.see, model.places.shape[1])
    train(namer, alone, seed=seed, steps=SEEING, check_every=SEEING, **TO_SEE)
    train(model, task(), seed=seed, steps=steps, check_every=steps, **HOW)
    return model.eval()


@float64()
def run(name: str, seed: int, *, steps: int = STEPS) -> dict[str, Any]:
    """Train one model; return what is right, and of the chapter's model where it looks and what it needs."""
    model = trained(name, seed, steps=steps)
    found: dict[str, Any] = {"seed": seed, **measured(model)}
    if name == "text reads image":
        found |= {"looks": looks(model), "closed": closed(model), "absent": absent(model), "twice": twice(model)}
    return found


def held_out(seed: int = 1_000, *, never_asked: bool = False) -> Canvases:
    """Return held-out canvases with questions about a side."""
    return task().place(TESTS, torch.Generator().manual_seed(seed), never_asked=never_asked)


def answered() -> Canvases:
    """Return those whose answer is a digit: where looks are measured and cells are closed."""
    canvases = held_out()
    return canvases.where(canvases.answer != NONE)


def measured(model: nn.Module) -> dict[str, Any]:
    """Return the share of right answers: of all, of pairs never asked, and of those answered with none or a digit."""
    canvases = held_out()
    none = canvases.answer == NONE
    parts = {"right": canvases, "a digit": canvases.where(~none), "none": canvases.where(none)}
    parts["never asked"] = held_out(never_asked=True)
    return {name: round(accuracy(model, [part.batch]), 4) for name, part in parts.items()}


@torch.no_grad()
def said(model: TextReadsImage, canvases: Canvases, closed: Sequence[Tensor] | None = None) -> Tensor:
    """Return which of ``ANSWERS`` the model gives, (B,).

    Args:
        model: a trained one.
        canvases: the canvases and their questions.
        closed: for each layer the cells that the words may not attend to, bool (B, 9).
    """
    x, memory, decoder = model.text(canvases.words), model.image(canvases.images), cast(Decoder, model.decoder)
    for number, layer in enumerate(decoder.layers):
        x = layer(x, memory, None, None if closed is None else ~closed[number][:, None, None])
    return model.output(decoder.norm(x)[:, -1]).argmax(-1)


def cells_of(canvases: Canvases) -> dict[str, Tensor]:
    """Return which cell is the answer's, the named digit's and another digit's, bool (B, 9) with one True each."""
    place = torch.arange(CELLS)
    answer, named = place == canvases.answer_cell[:, None], place == canvases.cell[:, None]
    others = (canvases.labels != EMPTY) & ~answer & ~named
    lot = torch.rand(others.shape, generator=torch.Generator().manual_seed(2))
    return {"answer": answer, "named": named, "other": place == (others * lot).argmax(1)[:, None]}


def weights_of(model: TextReadsImage, canvases: Canvases) -> Tensor:
    """Return how much each word attends to each cell, the mean of the heads: (B, layers, words, cells)."""
    with torch.no_grad(), record_attention(model) as record:
        model(canvases.images, canvases.words)
    return torch.stack([record[f"decoder.layers.{layer}.cross_attention"].mean(1) for layer in range(LAYERS)], dim=1)


def looks(model: TextReadsImage) -> dict[str, Any]:
    """Return the share of attention on cells, by layer and word, where the answer is a digit."""
    canvases = answered()
    weights, found = weights_of(model, canvases), {}
    for name, cell in cells_of(canvases).items():
        shares = (weights * cell[:, None, None]).sum(-1).mean(0)
        found[name] = [[round(share, 4) for share in layer] for layer in shares.tolist()]
    return found


def closed(model: TextReadsImage) -> dict[str, Any]:
    """Return what stays right, and how often none is said, when a cell is closed: in the layers 1, 2, and both."""
    canvases, found = answered(), {}
    nothing = torch.zeros(len(canvases), CELLS, dtype=torch.bool)
    for name, cell in cells_of(canvases).items():
        for layers, shut in {"1": [cell, nothing], "2": [nothing, cell], "both": [cell, cell]}.items():
            answers = said(model, canvases, shut)
            found[f"{name}, {layers}"] = {
                "right": _share(answers == canvases.answer),
                "says none": _share(answers == NONE),
            }
    return found


def nobody() -> Canvases:
    """Return canvases with questions about a digit that is not there; the honest answer is none."""
    canvases = held_out(1_001)
    there = (canvases.labels[:, :, None] == torch.arange(10)).any(1)
    lot = torch.rand(there.shape, generator=torch.Generator().manual_seed(3))
    missing = (~there * lot).argmax(1)
    asked = len(SIDES) * missing + canvases.asked % len(SIDES)
    return Canvases(canvases.images, canvases.labels, canvases.cell, asked, torch.full_like(canvases.answer, NONE))


def absent(model: TextReadsImage) -> dict[str, float]:
    """Return what is said about a digit that is not there."""
    canvases = nobody()
    answers = said(model, canvases)
    there = (canvases.labels == answers[:, None]).any(1)
    return {"says none": _share(answers == NONE), "a digit that is there": _share(there)}


def two_alike() -> tuple[Canvases, Tensor]:
    """Return canvases on which the named digit stands twice, and what stands beside the second, (B,).

    Both answers are digits that differ. The scan of the second is another one.
    """
    generator = torch.Generator().manual_seed(4)
    labels = arranged(20 * TESTS, DIGITS, generator)
    first, second = _a_cell(labels, generator), _a_cell(labels, generator)
    of_image, side = torch.arange(len(labels)), torch.randint(len(SIDES), (len(labels),), generator=generator)
    labels[of_image, second] = labels[of_image, first]
    one, two = (neighbours(labels)[of_image, cell, side] for cell in (first, second))
    named = labels[of_image, first]
    kept = (first != second) & (one != two) & (one != EMPTY) & (two != EMPTY) & (one != named) & (two != named)
    kept &= kept.cumsum(0) <= TESTS
    images = task().show(labels[kept], generator, held_out=True)
    asked = len(SIDES) * named[kept] + side[kept]
    return Canvases(images, labels[kept], first[kept], asked, one[kept]), two[kept]


def twice(model: TextReadsImage) -> dict[str, float]:
    """Return how often what stands beside one of two equal digits is said, and anything else."""
    canvases, other = two_alike()
    answers = said(model, canvases)
    right = (answers == canvases.answer) | (answers == other)
    return {"beside one of them": _share(right), "something else": _share(~right)}


def _a_cell(labels: Tensor, generator: torch.Generator) -> Tensor:
    return ((labels != EMPTY) * torch.rand(labels.shape, generator=generator)).argmax(1)


def _share(found: Tensor) -> float:
    return round(found.double().mean().item(), 4)


@float64()
def without_learning() -> dict[str, float]:
    """Return what can be had without attention: by guessing, in four ways, and by a rule that names scans first."""
    from sklearn.neighbors import KNeighborsClassifier

    canvases = held_out()
    of_image = torch.arange(len(canvases))
    beside = neighbours(canvases.labels)[of_image, canvases.cell]  # (B, sides)
    digits = (beside != EMPTY).double().sum(1)
    is_digit = canvases.answer != NONE
    known = KNeighborsClassifier(3).fit(scans().training.images.flatten(1).numpy(), scans().training.labels.numpy())
    tiles = F.unfold(canvases.images[:, None], SIDE, stride=SIDE).mT
    read = torch.tensor(known.predict(tiles.flatten(0, 1).numpy())).view(-1, CELLS)
    read[tiles.sum(-1) == 0] = EMPTY
    named = canvases.asked // len(SIDES)
    is_it = read == named[:, None]
    looked = neighbours(read)[of_image, is_it.double().argmax(1), canvases.asked % len(SIDES)]
    looked = looked.where((looked != EMPTY) & is_it.any(1), NONE)
    return {
        "none": _share(~is_digit),
        "a digit that is there": round((is_digit / (DIGITS - 1)).mean().item(), 4),
        "a digit beside it": round((is_digit / digits.clamp(min=1)).mean().item(), 4),
        "neighbours and a rule": _share(looked == canvases.answer),
    }


def row(name: str) -> dict:
    """Return the size of a model, and for each seed what :func:`run` returns."""
    return {"parameters": count_parameters(MODELS[name]()), "seeds": [run(name, seed) for seed in SEEDS]}


ROWS: Mapping[str, Callable[[], dict]] = {
    "without learning": without_learning,
    "text reads image": partial(row, "text reads image"),
    "pooled": partial(row, "pooled"),
    "joined": partial(row, "joined"),
    "one sequence": partial(row, "one sequence"),
}
