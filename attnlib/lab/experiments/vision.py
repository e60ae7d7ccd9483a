"""What the chapter on vision has no minute for: five seeds of its models, their rivals, and what breaks them.

Scans alone are named after training on one form, on three and on ten, by a vision transformer, by a convolutional net
of equal size, by neighbours and by logistic regression; then with patches shuffled. On ticked lists the vision
transformer meets the convolutional net, and its patches are closed to see which ones carry the answer. All in float64.
On lists parameters are also rounded after each step, so that the chapter's own model is the stored one on every
processor. What is named of scans alone may differ there by a percent or two.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.lab.digits import SIDE, Alone, ConvNet, Lists, Scans, Ticked, VisionTransformer, scans
from attnlib.lab.models import count_parameters, of_size
from attnlib.lab.tasks import Batch
from attnlib.lab.training import accuracy, float64, train
from attnlib.recording import record_attention

SEEDS = range(5)
FORMS = (1, 3, 10)  # how many forms are trained on
LISTS = 1_000  # held-out lists on which patches are closed
CLOSED = (0, 1, 2, 4, 6, 9, 12, 18, 24)  # how many patches
SIZES: dict[str, Any] = {"d_model": 48, "num_layers": 2, "num_heads": 4, "d_ff": 96, "dropout": 0.0, "norm_first": True}
HOW: dict[str, Any] = {"batch_size": 64, "rate": 6e-3, "warmup": 50, "fall_to_zero": True}
ON_LISTS: dict[str, Any] = {**HOW, "decimals": 5}
STEPS = 600
EVERYBODY, CLASS_TOKEN = slice(None), slice(0, 1)  # who may not read a closed patch


def attention(size: int = 8, patch: int = 2, *, mean: bool = False) -> VisionTransformer:
    """Return the vision transformer of the chapter; on lists (24 pixels) its patches are 4 by 4."""
    return VisionTransformer(size, patch, mean=mean, **SIZES)


def without_positions(size: int = 8, patch: int = 2) -> VisionTransformer:
    """Return the same, with nothing added to the patches."""
    model = attention(size, patch)
    model.positions = nn.Parameter(torch.zeros_like(model.positions), requires_grad=False)
    return model


def convolution(size: int = 8, patch: int = 2) -> ConvNet:
    """Return a convolutional net as large as :func:`attention` for such images."""
    return of_size(ConvNet, count_parameters(attention(size, patch)), range(4, 129, 2))


# One scan an image


def some_forms(count: int, seed: int) -> Scans:
    """Return the scans of ``count`` training forms; each seed begins at another one."""
    training = scans().training
    total = int(training.forms.max()) + 1
    chosen = [(2 * seed + form) % total for form in range(count)]
    return training.where(torch.isin(training.forms, torch.tensor(chosen)))


def split(forms: int, seed: int) -> Alone:
    """Return the task: some forms to train on, the last four to test with."""
    return Alone(some_forms(forms, seed), scans().held_out)


def random_split(seed: int) -> Alone:
    """Return the split that shares writers between training and tests: as many scans of each, drawn at random."""
    everything = scans()
    drawn = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
    count = len(everything.training)
    return Alone(everything.where(drawn[:count]), everything.where(drawn[count:]))


@dataclass(frozen=True)
class Shuffled:
    """A task whose patches stand in another order, the same in every image."""

    task: Alone
    order: Tensor
    patch: int = 2

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return a shuffled batch to train on."""
        return self._shuffle(self.task.draw(count, generator))

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return shuffled batches to test with."""
        return [self._shuffle(batch) for batch in self.task.tests(count, generator)]

    def _shuffle(self, batch: Batch) -> Batch:
        (images,) = batch.inputs
        patches = F.unfold(images[:, None], self.patch, stride=self.patch)[:, :, self.order]  # (B, p², N)
        return Batch((F.fold(patches, images.shape[1:], self.patch, stride=self.patch)[:, 0],), batch.target)


def an_order(seed: int) -> Tensor:
    """Return an order of the 16 patches of a scan."""
    return torch.randperm(16, generator=torch.Generator().manual_seed(100 + seed))


@float64()
def alone(make: Callable[[], nn.Module], forms: int, seed: int, *, steps: int = STEPS) -> dict:
    """Train on scans; return the share of the held-out ones that is named, in order and with patches shuffled."""
    torch.manual_seed(seed)
    model = make()
    task = split(forms, seed)
    train(model, task, seed=seed, steps=steps, check_every=steps, **HOW)
    other = Shuffled(task, an_order(seed)).tests(0, torch.Generator())
    return {
        "seed": seed,
        "right": _right(model, task.tests(0, torch.Generator())),
        "shuffled": _right(model, other),
    }


@float64()
def shuffled_alike(seed: int, *, steps: int = STEPS) -> dict:
    """Train on scans whose patches stand in another order; test in that order."""
    torch.manual_seed(seed)
    model, task = attention(), Shuffled(split(max(FORMS), seed), an_order(seed))
    train(model, task, seed=seed, steps=steps, check_every=steps, **HOW)
    return {"seed": seed, "right": _right(model, task.tests(0, torch.Generator()))}


@float64()
def by_chance(seed: int, *, steps: int = STEPS) -> dict:
    """Train and test with the random split, which shares writers."""
    torch.manual_seed(seed)
    model, task = attention(), random_split(seed)
    train(model, task, seed=seed, steps=steps, check_every=steps, **HOW)
    return {"seed": seed, "right": _right(model, task.tests(0, torch.Generator())), **_classical(task)}


def classical(forms: int, seed: int) -> dict:
    """Return what three neighbours and logistic regression name of the held-out scans."""
    return {"seed": seed, **_classical(split(forms, seed))}


def _classical(task: Alone) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    x, y = task.training.images.flatten(1).numpy(), task.training.labels.numpy()
    tests = task.testing.images.flatten(1).numpy(), task.testing.labels.numpy()
    return {
        "neighbours": round(KNeighborsClassifier(3).fit(x, y).score(*tests), 4),
        "logistic": round(LogisticRegression(max_iter=5_000).fit(x, y).score(*tests), 4),
    }


# Ticked lists


def lists_to_close() -> Lists:
    """Return the held-out lists on which patches are closed."""
    return ticked().place(LISTS, torch.Generator().manual_seed(7), held_out=True)


def ticked() -> Ticked:
    """Return the task."""
    return Ticked(scans().training, scans().held_out)


def trained(make: Callable[..., nn.Module], seed: int, *, steps: int = STEPS) -> nn.Module:
    """Train a model on ticked lists."""
    torch.manual_seed(seed)
    model = make(ticked().size, 4)
    train(model, ticked(), seed=seed, steps=steps, check_every=steps, **ON_LISTS)
    return model.eval()


@float64()
def on_list(make: Callable[..., nn.Module], seed: int, *, steps: int = STEPS) -> dict:
    """Train on ticked lists; return what is right, moved down too, and where attention looks and what it needs."""
    model = trained(make, seed, steps=steps)
    found: dict[str, Any] = {
        "seed": seed,
        "right": _right(model, ticked().tests(2_000, torch.Generator().manual_seed(1_000))),
        "moved_down": moved_down(model),
    }
    if isinstance(model, VisionTransformer):
        found |= looks(model) | closed(model) | {"positions_follow": positions_follow(model)}
    return found


@torch.no_grad()
def moved_down(model: nn.Module) -> list[float]:
    """Return the share of right answers when everything stands 0 to 8 pixels lower; the last line is never asked."""
    lists = lists_to_close()
    kept = lists.ticked < ticked().lines - 1
    images, asked = lists.images[kept], lists.batch.target[kept]
    lower = (F.pad(images, (0, 0, down, 0))[:, : images.shape[1]] for down in range(9))
    return [_right(model, [Batch((moved,), asked)]) for moved in lower]


def positions_follow(model: VisionTransformer) -> float:
    """Return what is right of lists that stand one patch (4 pixels) lower if the learned positions are moved along."""
    follower = deepcopy(model)
    across = model.size // model.patch
    rows = model.positions.detach()[1:].view(across, across, -1)
    follower.positions.data[1:] = rows.roll(1, dims=0).flatten(0, 1)
    return moved_down(follower)[model.patch]


def rollout(maps: list[Tensor]) -> Tensor:
    """Return how much of each patch is in the class token, (B, patches), by attention rollout.

    Abnar and Zuidema (2020): a token is taken to be half itself and half what its heads read, layer by layer.
    """
    itself = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype)
    whole = itself
    for weights in maps:  # (B, H, L, L)
        whole = (weights.mean(1) + itself) / 2 @ whole
    return whole[:, 0, 1:]


@torch.no_grad()
def maps_of(model: VisionTransformer, images: Tensor) -> list[Tensor]:
    """Return the weights of each layer, (B, H, 1 + patches, 1 + patches)."""
    with record_attention(model) as record:
        model(images)
    return list(record.values())


def patches_of(lists: Lists, patch: int = 4) -> dict[str, Tensor]:
    """Return which patches hold what, (B, patches), bool: two of the digits, the tick, the margins without one."""
    touched = lists.on_digit(patch) > 0
    of_image = torch.arange(len(touched))
    margin = torch.zeros_like(lists.images)
    margin[:, :, :patch] = 1
    in_margin = F.max_pool2d(margin[:, None], patch).flatten(1) > 0
    tick = F.max_pool2d((margin * lists.images)[:, None], patch).flatten(1) > 0
    return {
        "the digit": touched[of_image, lists.ticked],
        "another": touched[of_image, (lists.ticked + 1) % touched.shape[1]],
        "the tick": tick,
        "empty margins": in_margin & ~tick,
    }


def looks(model: VisionTransformer) -> dict[str, Any]:
    """Return what share of the class token's weight is on the ticked digit: chance, by rollout, by layer and head."""
    lists = lists_to_close()
    maps, of = maps_of(model, lists.images), patches_of(lists)
    by_head = [(w[:, :, 0, 1:] * of["the digit"][:, None]).sum(-1) / w[:, :, 0, 1:].sum(-1) for w in maps]
    rolled = rollout(maps)
    share = {name: ((rolled * cells).sum(1) / rolled.sum(1)).mean().item() for name, cells in of.items()}
    return {
        "area": {name: round(cells.double().mean().item(), 4) for name, cells in of.items()},
        "rollout": {name: round(value, 4) for name, value in share.items()},
        "heads": [[round(value, 4) for value in layer.mean(0).tolist()] for layer in by_head],
    }


def right_without_margins(model: nn.Module, lists: Lists, whose: str, patch: int = 4) -> float:
    """Return the share of right answers when the empty margin of a line is closed to some patches, in every layer.

    Args:
        model: a trained one.
        lists: the images.
        whose: "own": those of the digit on the same line may not read it. "others": those of other lines' digits.
        patch: the side of a patch, in pixels.
    """
    across = lists.images.shape[1] // patch
    touched = lists.on_digit(patch) > 0  # (B, lines, patches)
    place = torch.arange(touched.shape[-1])
    in_margin = (place % across == 0) & (place // across // (SIDE // patch) == torch.arange(touched.shape[1])[:, None])
    empty = in_margin & (torch.arange(touched.shape[1]) != lists.ticked[:, None])[:, :, None]  # (B, lines, patches)
    same = torch.einsum("bli,blj->bij", touched.double(), empty.double()) > 0  # reads the margin of its own line
    any_digit = touched.any(1)[:, :, None] & empty.any(1)[:, None]
    closed = same if whose == "own" else any_digit & ~same
    is_open = torch.ones(len(closed), 1, 1 + len(place), 1 + len(place), dtype=torch.bool)
    is_open[:, 0, 1:, 1:] = ~closed
    with torch.no_grad():
        said = model.eval()(lists.images, is_open).argmax(-1)
    return round((said == lists.batch.target).double().mean().item(), 4)


def right_without(model: VisionTransformer, lists: Lists, cells: Tensor, readers: slice = EVERYBODY) -> float:
    """Return the share of right answers when patches (B, patches) are closed to some readers, in every layer."""
    B, count = cells.shape
    is_open = torch.ones(B, 1, 1 + count, 1 + count, dtype=torch.bool)
    is_open[:, 0, readers, 1:] = ~cells[:, None]
    with torch.no_grad():
        said = model.eval()(lists.images, is_open).argmax(-1)
    return round((said == lists.batch.target).double().mean().item(), 4)


def closed(model: VisionTransformer) -> dict[str, Any]:
    """Return what stays right without the digit, without another, without the tick, without the k brightest."""
    lists = lists_to_close()
    of = patches_of(lists)
    bright = rollout(maps_of(model, lists.images))
    lot = torch.rand(bright.shape, generator=torch.Generator().manual_seed(8))
    return {
        "closed": {name: right_without(model, lists, cells) for name, cells in of.items()},
        "closed to the class token": {
            name: right_without(model, lists, cells, CLASS_TOKEN) for name, cells in of.items()
        },
        "margins closed": {whose: right_without_margins(model, lists, whose) for whose in ("own", "others")},
        "brightest": [right_without(model, lists, most(bright, count)) for count in CLOSED],
        "by_lot": [right_without(model, lists, most(lot, count)) for count in CLOSED],
    }


def most(values: Tensor, count: int) -> Tensor:
    """Return where the ``count`` largest values of each row are, as bool."""
    cells = torch.zeros_like(values, dtype=torch.bool)
    return cells.scatter(1, values.topk(count, dim=1).indices, True)


# The rows


def _right(model: nn.Module, batches: list[Batch]) -> float:
    return round(accuracy(model, batches), 4)


def row(run: Callable[..., dict], make: Callable[[], nn.Module] | None = None, seeds: range = SEEDS) -> dict:
    """Return the size of a model, if it has one, and for each seed what ``run`` returns."""
    size = {} if make is None else {"parameters": count_parameters(make())}
    return {**size, "seeds": [run(seed=seed) for seed in seeds]}


THREE = range(3)
ROWS: Mapping[str, Callable[[], dict]] = {
    "ticked, attention": partial(row, partial(on_list, attention), partial(attention, 24, 4)),
    "ticked, convolution": partial(row, partial(on_list, convolution), partial(convolution, 24, 4)),
    "alone, random split": partial(row, by_chance, attention),
    **{f"alone, attention, {n}": partial(row, partial(alone, attention, n), attention) for n in FORMS},
    **{f"alone, convolution, {n}": partial(row, partial(alone, convolution, n), convolution) for n in FORMS},
    **{f"alone, classical, {n}": partial(row, partial(classical, n)) for n in FORMS},
    "alone, mean": partial(row, partial(alone, partial(attention, mean=True), 10), attention),
    "alone, no positions": partial(row, partial(alone, without_positions, 10), without_positions),
    "alone, shuffled alike": partial(row, shuffled_alike, attention),
    "alone, attention, longer": partial(row, partial(alone, attention, 10, steps=4 * STEPS), attention, THREE),
    "alone, convolution, longer": partial(row, partial(alone, convolution, 10, steps=4 * STEPS), convolution, THREE),
}
