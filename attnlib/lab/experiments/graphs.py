"""What the chapter on graphs has no minute for: more seeds of its model, what breaks it, and its rivals.

Everybody is asked for a club that friends tell and acquaintances do not. Rivals are of one size: with other scores
(their mean, GAT, GATv2), with other masks (nobody, everybody), with distances instead of a mask. All of them are tried
on the same held-out networks, then on networks whose acquaintances are of the same club more or less often, on networks
with neighbours who like the same and are no friends, and on larger ones. What the chapter's model needs is closed:
edges, in one layer or in both, and its scores, so that all it reads has equal weights. In float64, with
parameters rounded after each step, so that the chapter's model is the stored one on every processor.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
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
    NoScores,
    People,
    like_minded,
    propagation,
    votes,
)
from attnlib.lab.training import float64, train
from attnlib.recording import record_attention

SEEDS = range(3)
STEPS = 1_000
HOW: dict[str, Any] = {"batch_size": 16, "rate": 3e-3, "warmup": 50, "fall_to_zero": True, "decimals": 5}
SAME = (0.0, 0.15, 1 / CLUBS, 0.5, 0.75, 1.0)  # shares of acquaintances who are of the same club; trained at a third
KINDS = (4, 8, 16)  # networks of 60 people, as in training, 120 and 240
DOUBLES = (0.0, 0.1, 0.2, 0.4, 0.8)  # how probable neighbours are who like the same and are no friends; trained at 0
BOTH = (0, 1)  # the layers
PLACES = {"both layers": BOTH, "layer 1": (0,), "layer 2": (1,)}  # where something is closed


def held_out(count: int = 100, **network: Any) -> People:
    """Return networks that nobody trained on: training draws from generators with the seeds 0 to 2."""
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
    """Return who is how many edges between friends away from the nearest badge of the circle, (B, N) each.

    Two layers hear a badge one or two edges away, and of those who are farther from any nothing: a third by chance.
    """
    worn, friends = (~people.asked).double()[..., None], people.friends.double()
    one = (friends @ worn)[..., 0] > 0
    two = (friends @ friends @ worn)[..., 0] > 0
    return {"1": one, "2": two & ~one, "farther": ~one & ~two}


def ceiling(people: People) -> float:
    """Return what is right, on average, of all who hear each badge that at most two edges between friends lead to."""
    farther = hops(people)["farther"][people.asked].double().mean().item()
    return round(1 - farther + farther / CLUBS, 4)


def elsewhere(rule: Callable[[People], Tensor]) -> dict[str, list[float]]:
    """Return what a model or another rule gets right on other kinds of networks than those of training."""

    def right(**network: Any) -> float:
        people = held_out(**network)
        return share_right(rule(people), people)

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
    """Return what is closed, (B, N, N): friends; as many acquaintances, by lot; all acquaintances."""
    counts, acquaintances = people.friends.sum(-1), people.edges & ~people.friends
    return {
        "friends": people.friends,
        "as many acquaintances": by_lot(acquaintances, counts, seed=7),
        "all acquaintances": acquaintances,
    }


def closed(model: GraphTransformer, people: People) -> dict[str, Any]:
    """Return what stays right when edges are closed: in both layers, and in one."""
    shut = closings(people)
    found: dict[str, Any] = {}
    for name in ("friends", "as many acquaintances", "all acquaintances"):
        reads = people.edges & ~shut[name]
        found[name] = {where: share_right(says(model, people, reads, at), people) for where, at in PLACES.items()}
    far = hops(people)["2"]
    found["friends of those at two edges"] = {
        where: share_right(says(model, people, people.edges & ~people.friends, at), people, far)
        for where, at in PLACES.items()
    }
    return found


def without_scores(model: GraphTransformer, layers: tuple[int, ...]) -> GraphTransformer:
    """Return a trained model with equal weights in some layers: each takes the mean of what it reads."""
    model = deepcopy(model)
    for place in layers:
        attention = model.encoder.layers[place].self_attention
        attention.wq = attention.wk = NoScores(attention.wq.out_features)  # type: ignore[assignment]
    return model


def equal(model: GraphTransformer, people: People) -> dict[str, float]:
    """Return what stays right when a trained model has equal weights in one layer or in both."""
    return {where: share_right(says(without_scores(model, at), people), people) for where, at in PLACES.items()}


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
        **elsewhere(partial(says, model)),
    }
    attention = type(model.encoder.layers[0].self_attention)
    if type(model) is GraphTransformer and len(model.encoder.layers) == 2:
        if not issubclass(attention, MeanAttention):
            found |= {"looks": looks(model, people), "equal": equal(model, people)}
        if not issubclass(attention, GraphAttention):
            found["closed"] = closed(model, people)
    return found


def vote(people: People) -> Tensor:
    """Return the clubs (B, N) that most badges show among neighbours."""
    return votes(people, people.edges)


def like_minded_vote(people: People) -> Tensor:
    """Return the clubs (B, N) that most badges show among neighbours who like the same."""
    return votes(people, people.edges & like_minded(people))


def without_edges(people: People) -> dict[str, Tensor]:
    """Return the clubs (B, N) that most badges, and fewest, show among all who like the same, neighbours or not."""
    counts = like_minded(people).double() @ people.badges
    return {"most": counts.argmax(-1), "fewest": counts.argmin(-1)}


def strangers(people: People) -> Tensor:
    """Return the clubs (B, N) that fewest badges show among who likes the same and is no neighbour.

    Of one club they would most likely be friends. So a missing edge tells something, to a model that reads everybody.
    """
    return ((like_minded(people) & ~people.edges).double() @ people.badges).argmin(-1)


@float64()
def classical() -> dict[str, Any]:
    """Return what rules of a few lines get right: nothing is trained."""
    people = held_out()
    blind = without_edges(people)
    rules = {
        "vote of neighbours": vote(people),
        "label propagation": propagation(people, people.edges),
        "vote of like-minded neighbours": like_minded_vote(people),
        "most badges among the like-minded": blind["most"],
        "fewest badges among the like-minded": blind["fewest"],
        "fewest badges among like-minded strangers": strangers(people),
    }
    farther = hops(people)["farther"]
    return {
        "right": {name: share_right(said, people) for name, said in rules.items()},
        "farther": {name: share_right(said, people, farther) for name, said in rules.items()},
        "ceiling": ceiling(people),
        "vote elsewhere": elsewhere(vote),
        "like-minded elsewhere": elsewhere(like_minded_vote),
    }


def row(make: Callable[[], GraphTransformer]) -> dict[str, Any]:
    """Return the size of a model, and what each seed finds."""
    return {"parameters": count_parameters(make()), "seeds": [run(make, seed) for seed in SEEDS]}


def as_large(**sizes: Any) -> GraphTransformer:
    """Return a :class:`GraphTransformer` of other ``sizes`` than the chapter's, with about as many parameters."""
    heads = sizes.get("num_heads", 1)
    return of_size(lambda d: GraphTransformer(d, **sizes), WANTED, range(6 * heads, 81, heads))


with torch.device("meta"):  # nothing is drawn at import
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
