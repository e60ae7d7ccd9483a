"""What the chapter on graphs has no minute for: five seeds of its model, what breaks it, and its rivals.

Everybody is asked for a club that friends tell and acquaintances do not. Rivals are of one size: with other scores
(their mean, GAT, GATv2), with other masks (nobody, everybody), with distances instead of a mask. All of them are tried
on the same held-out networks, then on networks whose acquaintances are of the same club more or less often, on networks
with neighbours who like the same and are no friends, and on larger ones. In float64, with parameters rounded after each
step, so that the chapter's model is the stored one on every processor.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnlib.lab.models import count_parameters, of_size
from attnlib.lab.networks import (
    CLUBS,
    Alone,
    Distances,
    Everybody,
    GraphAttention,
    GraphAttentionV2,
    GraphTransformer,
    MeanAttention,
    Network,
    People,
    like_minded,
    propagation,
    votes,
)
from attnlib.lab.training import float64, train
from attnlib.recording import record_attention

SEEDS = range(5)
STEPS = 1_000
HOW: dict[str, Any] = {"batch_size": 16, "rate": 6e-3, "warmup": 50, "fall_to_zero": True, "decimals": 5}
SAME = (0.0, 0.15, 1 / CLUBS, 0.5, 0.75, 1.0)  # shares of acquaintances who are of the same club; trained at a third
KINDS = (4, 8, 16)  # networks of 60 people, as in training, 120 and 240
DOUBLES = (0.0, 0.1, 0.2, 0.4, 0.8)  # how probable neighbours are who like the same and are no friends; trained at 0
BOTH = (0, 1)  # the layers


def held_out(count: int = 100, **network: Any) -> People:
    """Return networks that nobody trained on: training draws from generators with the seeds 0 to 4."""
    return Network(**network).place(count, torch.Generator().manual_seed(1_000))


def by_lot(among: Tensor, counts: Tensor, seed: int) -> Tensor:
    """Return ``counts`` (…, N) of the pairs of each row of ``among`` (…, N, N), by lot; all where there are fewer."""
    lot = torch.rand(among.shape, generator=torch.Generator().manual_seed(seed)).masked_fill(~among, 2)
    places = lot.argsort(-1).argsort(-1)
    return (places < counts[..., None]) & among


@torch.no_grad()
def says(
    model: GraphTransformer, people: People, reads: Tensor | None = None, layers: tuple[int, ...] = BOTH
) -> Tensor:
    """Return the clubs (B, N) that a model names.

    Args:
        model: a trained one.
        people: the networks.
        reads: who may read whom, (B, N, N), instead of the edges. Everybody reads itself, too.
        layers: where ``reads`` holds; in the other layers it is the edges.
    """
    (features, edges), _ = people.batch
    if reads is None or layers == BOTH:
        pieces = zip(features.split(20), (edges if reads is None else reads).split(20), strict=True)
        return torch.cat([model.eval()(*piece).argmax(-1) for piece in pieces])
    itself = torch.eye(edges.shape[-1], dtype=torch.bool)
    x = model.eval().project(features)
    for place, layer in enumerate(model.encoder.layers):
        x = layer(x, (reads if place in layers else edges) | itself)
    return model.output(model.encoder.norm(x)).argmax(-1)


def share_right(said: Tensor, people: People, among: Tensor | None = None) -> float:
    """Return the share of those asked, or of some of them (B, N), whose club was named."""
    some = people.asked if among is None else people.asked & among
    return round((said == people.club)[some].double().mean().item(), 4)


def hops(people: People) -> dict[str, Tensor]:
    """Return who is how many edges between friends away from the nearest badge of the circle, (B, N) each."""
    worn, friends = (~people.asked).double()[..., None], people.friends.double()
    one = (friends @ worn)[..., 0] > 0
    two = (friends @ friends @ worn)[..., 0] > 0
    return {"1": one, "2": two & ~one}


def elsewhere(model: GraphTransformer | None) -> dict[str, list[float]]:
    """Return what is right on other kinds of networks than those of training; without a model, by a vote."""

    def right(**network: Any) -> float:
        people = held_out(**network)
        return share_right(votes(people, people.edges) if model is None else says(model, people), people)

    return {
        "same": [right(same=same) for same in SAME],
        "larger": [right(kinds=kinds, acquaintance=0.2 * 3 / (kinds - 1)) for kinds in KINDS],  # as many acquaintances
        "doubles": [right(double=double) for double in DOUBLES],
    }


def looks(model: GraphTransformer, people: People) -> dict[str, Any]:
    """Return whom those asked attend to, if a friend wears a badge: shares by layer, and those of an even spread."""
    (features, edges), _ = people.batch
    with record_attention(model) as record, torch.no_grad():
        model.eval()(features, edges)
    itself = torch.eye(edges.shape[-1], dtype=torch.bool).expand_as(edges)
    worn = ~people.asked[:, None]
    groups = {
        "friends with a badge": people.friends & worn,
        "friends without": people.friends & ~worn,
        "acquaintances": edges & ~people.friends,
        "itself": itself,
    }
    even = (edges | itself).double()
    maps = {"even": even / even.sum(-1, keepdim=True)}
    maps |= {f"layer {place + 1}": weights.mean(1) for place, weights in enumerate(record.values())}
    some = people.asked & hops(people)["1"]
    return {
        name: {who: round((weights * pairs).sum(-1)[some].mean().item(), 4) for who, pairs in groups.items()}
        for name, weights in maps.items()
    }


def closings(people: People) -> dict[str, Tensor]:
    """Return what is closed, (B, N, N): friends; as many acquaintances, by lot; the friends of half of the people."""
    counts = people.friends.sum(-1)
    return {
        "friends": people.friends,
        "as many acquaintances": by_lot(people.edges & ~people.friends, counts, seed=7),
        "friends of one half": people.friends & half(people)[..., None],
    }


def half(people: People) -> Tensor:
    """Return half of the people, (B, N), by lot."""
    return torch.rand(people.club.shape, generator=torch.Generator().manual_seed(8)) < 0.5


def closed(model: GraphTransformer, people: People) -> dict[str, Any]:
    """Return what stays right when edges are closed: in both layers, in one, and for one half of the people only."""
    shut = closings(people)
    found: dict[str, Any] = {}
    for name in ("friends", "as many acquaintances"):
        reads = people.edges & ~shut[name]
        found[name] = {
            "both layers": share_right(says(model, people, reads), people),
            "layer 1": share_right(says(model, people, reads, (0,)), people),
            "layer 2": share_right(says(model, people, reads, (1,)), people),
        }
    said, theirs = says(model, people, people.edges & ~shut["friends of one half"]), half(people)
    found["one half"] = {"theirs": share_right(said, people, theirs), "the others": share_right(said, people, ~theirs)}
    return found


# The rows


def trained(make: Callable[[], GraphTransformer], seed: int, *, steps: int = STEPS) -> GraphTransformer:
    """Train a model on networks."""
    torch.manual_seed(seed)
    model = make()
    train(model, Network(), seed=seed, steps=steps, check_every=steps, **HOW)
    return model.eval()


@float64()
def run(make: Callable[[], GraphTransformer], seed: int, *, steps: int = STEPS) -> dict[str, Any]:
    """Train a model with one seed; return what it gets right, and of the chapter's own model what it needs."""
    return {"seed": seed, **measured(trained(make, seed, steps=steps))}


def measured(model: GraphTransformer) -> dict[str, Any]:
    """Return what a trained model gets right."""
    people = held_out()
    said = says(model, people)
    found: dict[str, Any] = {
        "right": share_right(said, people),
        "hops": {name: share_right(said, people, some) for name, some in hops(people).items()},
        **elsewhere(model),
    }
    layers = model.encoder.layers
    if type(model) is GraphTransformer and len(layers) == 2 and not isinstance(layers[0].self_attention, MeanAttention):
        found |= {"looks": looks(model, people), "closed": closed(model, people)}
    return found


@float64()
def classical() -> dict[str, Any]:
    """Return what four rules of a few lines get right: nothing is trained."""
    people = held_out()
    alike = people.edges & like_minded(people)
    rules = {
        "vote of neighbours": votes(people, people.edges),
        "label propagation": propagation(people, people.edges),
        "vote of like-minded neighbours": votes(people, alike),
        "label propagation, like-minded": propagation(people, alike),
    }
    right = {name: share_right(said, people) for name, said in rules.items()}
    return {"right": right, "vote elsewhere": elsewhere(None)}


def row(make: Callable[[], GraphTransformer]) -> dict[str, Any]:
    """Return the size of a model, and what each seed finds."""
    return {"parameters": count_parameters(make()), "seeds": [run(make, seed) for seed in SEEDS]}


def as_large(**sizes: Any) -> GraphTransformer:
    """Return a :class:`GraphTransformer` of other ``sizes`` than the chapter's, with about as many parameters."""
    heads = sizes.get("num_heads", 1)
    return of_size(lambda d: GraphTransformer(d, **sizes), WANTED, range(6 * heads, 81, heads))


WANTED = count_parameters(GraphTransformer())
MODELS: Mapping[str, Callable[[], GraphTransformer]] = {
    "attention": GraphTransformer,
    "attention, one layer": partial(as_large, num_layers=1),
    "GATv2": partial(as_large, attention=GraphAttentionV2),
    "GAT": partial(as_large, attention=GraphAttention),
    "GAT, four heads": partial(as_large, attention=GraphAttention, num_heads=4),
    "mean": partial(as_large, attention=MeanAttention),
    "distances": Distances,
    "everybody": Everybody,
    "alone": Alone,
}
ROWS: Mapping[str, Callable[[], dict]] = {
    "rules": classical,
    **{name: partial(row, make) for name, make in MODELS.items()},
}
