"""Networks of people, where a person's friends tell its club, and models that read them through a mask.

Each person has interests, a vector, and belongs to one of three clubs; some wear the club's badge, and the others are
asked for it. Neighbours are of two kinds:

===============  ===================  =============
neighbour        interests            club
===============  ===================  =============
a friend         about the same       the same
an acquaintance  others               any
===============  ===================  =============

Club and interests are drawn independently of each other, one person after the other, so that without edges nothing is
to be known of a club. Both are needed: the edge, and a look at both ends of it. Interests are drawn anew for each
network, so that none can be learnt by heart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.lab.tasks import IGNORED, Batch
from attnlib.multihead import MultiHeadAttention
from attnlib.scores import Scores
from attnlib.transformer import Encoder

CLUBS = 3
INTERESTS = 8  # numbers that say what somebody likes
FEATURES = INTERESTS + CLUBS  # of a person: interests, and the badge, zero where none is worn
CIRCLE = 5  # people who like the same and belong to one club, on average: most pairs of them are neighbours, friends
FAR = 3  # the largest distance that a model is told apart; whoever is farther off counts as this far

# Where the 34 members of Zachary's karate club are drawn: Kamada and Kawai's layout, as NetworkX computes it, rounded.
KARATE_PLACES = (
    (0.03, 0.33),
    (-0.15, 0.25),
    (0.07, 0.00),
    (0.15, 0.23),
    (0.19, 0.57),
    (0.19, 0.68),
    (0.00, 0.69),
    (0.28, 0.21),
    (-0.18, -0.01),
    (0.07, -0.29),
    (0.38, 0.53),
    (-0.19, 0.63),
    (0.43, 0.38),
    (-0.09, 0.05),
    (-0.50, -0.31),
    (-0.47, -0.43),
    (0.16, 1.00),
    (-0.28, 0.51),
    (-0.40, -0.53),
    (-0.28, 0.07),
    (-0.29, -0.62),
    (-0.37, 0.44),
    (-0.16, -0.64),
    (0.24, -0.52),
    (0.57, -0.30),
    (0.55, -0.17),
    (-0.05, -0.76),
    (0.28, -0.29),
    (0.19, -0.29),
    (0.07, -0.62),
    (-0.38, -0.09),
    (0.20, -0.07),
    (-0.17, -0.31),
    (-0.10, -0.34),
)


@dataclass(frozen=True)
class People:
    """B networks of N people each.

    Attributes:
        interests: (B, N, 8).
        kind: (B, N), which of the network's kinds of interests they are.
        club: (B, N), from 0 to 2.
        asked: (B, N), bool: who wears no badge.
        edges: (B, N, N), bool: who is whose neighbour; symmetric, and nobody is its own.
        friends: (B, N, N), bool: the edges inside a circle. The others are between acquaintances.
    """

    interests: Tensor
    kind: Tensor
    club: Tensor
    asked: Tensor
    edges: Tensor
    friends: Tensor

    @property
    def badges(self) -> Tensor:
        """The club of those who show it, (B, N, 3); zero for those who are asked."""
        return F.one_hot(self.club, CLUBS).to(self.interests.dtype) * ~self.asked[..., None]

    @property
    def batch(self) -> Batch:
        """What a model reads, features (B, N, 11) and edges (B, N, N), and the clubs of those who are asked."""
        features = torch.cat([self.interests, self.badges], dim=-1)
        return Batch((features, self.edges), self.club.masked_fill(~self.asked, IGNORED))


@dataclass(frozen=True)
class Network:
    """Random networks: what :func:`attnlib.lab.training.train` draws from. A test has networks of its own.

    Attributes:
        kinds: how many different interests there are in a network of 15 times as many people. Who likes the same and is
            in one club is a circle, of five people on average.
        friendship: the probability that two of a circle are neighbours.
        acquaintance: the probability that two with other interests are.
        same: the share of acquaintances who belong to the same club, on average. Default: a third, as by chance.
        double: the probability that two with the same interests and of different clubs are neighbours. Default: 0.
        worn: the probability that somebody wears a badge.
        noise: how much a person's interests differ from the circle's.

    >>> import torch
    >>> from attnlib.lab.networks import Network
    >>> (features, edges), clubs = Network().draw(5, torch.Generator().manual_seed(0))
    >>> features.shape, edges.shape, clubs.shape
    (torch.Size([5, 60, 11]), torch.Size([5, 60, 60]), torch.Size([5, 60]))
    """

    kinds: int = 4
    friendship: float = 0.8
    acquaintance: float = 0.2
    same: float = 1 / CLUBS
    double: float = 0.0
    worn: float = 0.6
    noise: float = 0.1

    @property
    def size(self) -> int:
        """N, the people of a network."""
        return self.kinds * CLUBS * CIRCLE

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return networks to train on."""
        return self.place(count, generator).batch

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return networks to test with; of 60 people each, whatever the ``count``, 20 are enough."""
        return [self.place(20, generator).batch]

    def place(self, count: int, generator: torch.Generator) -> People:
        """Return networks, and who is whose friend in them."""
        N = self.size
        kind, club = (torch.randint(many, (count, N), generator=generator) for many in (self.kinds, CLUBS))
        circle = kind * CLUBS + club
        centres = F.normalize(torch.randn(count, self.kinds, INTERESTS, generator=generator), dim=-1)
        likes = centres.gather(1, kind[..., None].expand(-1, -1, INTERESTS))
        interests = likes + self.noise * torch.randn(count, N, INTERESTS, generator=generator)
        in_circle, in_club = (x[:, :, None] == x[:, None] for x in (circle, club))
        like_minded = kind[:, :, None] == kind[:, None]
        # With `same`, a third of possible acquaintances share that part of the edges, two thirds the rest.
        of_club = torch.where(in_club, self.same * CLUBS, (1 - self.same) * CLUBS / (CLUBS - 1))
        strangers = torch.where(like_minded, self.double, self.acquaintance * of_club)
        chance = torch.where(in_circle, self.friendship, strangers)
        lot = torch.rand(count, N, N, generator=generator).triu(1)
        edges = (lot > 0) & (lot < chance)
        edges = edges | edges.mT
        asked = torch.rand(count, N, generator=generator) >= self.worn
        return People(interests.to(torch.get_default_dtype()), kind, club, asked, edges, edges & in_circle)


def distances(edges: Tensor) -> Tensor:
    """Return how many edges lie between two people, (B, N, N): 0 for oneself, and 3 for all who are farther off than 2.

    >>> import torch
    >>> from attnlib.lab.networks import distances
    >>> row = torch.arange(5)
    >>> distances((row - row[:, None]).abs() == 1)  # five in a row
    tensor([[0, 1, 2, 3, 3],
            [1, 0, 1, 2, 3],
            [2, 1, 0, 1, 2],
            [3, 2, 1, 0, 1],
            [3, 3, 2, 1, 0]])
    """
    steps = edges.to(torch.get_default_dtype())
    found = torch.full(edges.shape, FAR)
    found[steps @ steps > 0] = 2
    found[edges] = 1
    return found.masked_fill(torch.eye(edges.shape[-1], dtype=torch.bool), 0)


# Other scores than the dot product


class NoScores(nn.Module):
    """What to assign to ``wq`` and ``wk`` so that all scores are 0: a projection to zeros, without parameters.

    >>> import torch
    >>> from attnlib.lab.networks import NoScores
    >>> NoScores(2)(torch.ones(3, 5, 7)).shape
    torch.Size([3, 5, 2])
    """

    def __init__(self, features: int):
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """x (…, d_model) → zeros (…, features)."""
        return x.new_zeros(*x.shape[:-1], self.features)


class MeanAttention(MultiHeadAttention):
    """All scores are 0: each query takes the mean of the values that its mask leaves open.

    >>> import torch
    >>> from attnlib.lab.networks import MeanAttention
    >>> attend = MeanAttention(num_heads=1, d_model=4)
    >>> attend(torch.randn(2, 3, 4), need_weights=True).shape
    torch.Size([2, 3, 4])
    >>> attend.attn[0, 0]
    tensor([[0.3333, 0.3333, 0.3333],
            [0.3333, 0.3333, 0.3333],
            [0.3333, 0.3333, 0.3333]])
    """

    def __init__(self, num_heads: int, d_model: int):
        super().__init__(num_heads, d_model, dropout=0.0)
        self.wq, self.wk = NoScores(d_model), NoScores(d_model)  # type: ignore[assignment]

    def reset_parameters(self) -> None:
        """Draw new values and output weights; without scores nothing else is learnt."""
        for projection in (self.wv, self.fc):
            nn.init.xavier_uniform_(projection.weight)


class GraphAttention(MeanAttention):
    """The graph attention layer, GAT (Veličković et al., 2018): with z = W·h, the scores are LeakyReLU(a·[z_i ‖ z_j]).

    z are the values, too. The heads are joined by ``fc``, as everywhere in this package.

    >>> import torch
    >>> from attnlib.lab.networks import GraphAttention
    >>> GraphAttention(num_heads=2, d_model=8)(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, num_heads: int, d_model: int):
        super().__init__(num_heads, d_model)
        self.a = nn.Parameter(torch.randn(2, num_heads, self.d_v) * self.d_v**-0.5)

    def forward(self, query: Tensor, *others: Any, **options: Any) -> Tensor:
        """Tokens (B, N, d_model) → (B, N, d_model); the arguments are those of :class:`attnlib.MultiHeadAttention`."""
        return super().forward(query, *others, bias=self.scores(query), **options)

    def scores(self, x: Tensor) -> Tensor:
        """Return the scores of x (B, N, d_model): (B, H, N, N)."""
        z = self.wv(x).unflatten(-1, (self.num_heads, self.d_v))  # (B, N, H, d_v)
        asks, asked = ((z * part).sum(-1).mT for part in self.a)  # (B, H, N)
        return F.leaky_relu(asks[..., :, None] + asked[..., None, :], 0.2)


class GraphAttentionV2(GraphAttention):
    """GATv2 (Brody et al., 2022): the vector a comes after the LeakyReLU, a·LeakyReLU(W_q·h_i + W_v·h_j).

    >>> import torch
    >>> from attnlib.lab.networks import GraphAttentionV2
    >>> GraphAttentionV2(num_heads=2, d_model=8)(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, num_heads: int, d_model: int):
        super().__init__(num_heads, d_model)
        self.a = nn.Parameter(self.a.detach()[:1])
        self.asks = nn.Linear(d_model, d_model, bias=False)

    def scores(self, x: Tensor) -> Tensor:
        """Return the scores of x (B, N, d_model): (B, H, N, N)."""
        asks, asked = (w(x).unflatten(-1, (self.num_heads, self.d_v)).transpose(-3, -2) for w in (self.asks, self.wv))
        pairs = F.leaky_relu(asks[..., :, None, :] + asked[..., None, :, :], 0.2)  # (B, H, N, N, d_v)
        return (pairs @ self.a[0][..., None, :, None])[..., 0]


# Models


class GraphTransformer(nn.Module):
    """An encoder whose mask is the graph: everybody reads its neighbours and itself.

    Args:
        d_model: the size of the tokens.
        num_layers: how many layers, and so how many edges far somebody hears.
        num_heads: H.
        attention: the layer's attention, by number of heads and ``d_model``. Default: the scaled dot product.

    >>> import torch
    >>> from attnlib.lab.networks import GraphTransformer, Network
    >>> (features, edges), clubs = Network().draw(5, torch.Generator().manual_seed(0))
    >>> GraphTransformer()(features, edges).shape
    torch.Size([5, 60, 3])
    """

    def __init__(
        self,
        d_model: int = 32,
        num_layers: int = 2,
        num_heads: int = 1,
        attention: Callable[[int, int], MultiHeadAttention] | None = None,
    ):
        super().__init__()
        self.project = nn.Linear(FEATURES, d_model)
        sizes: dict[str, Any] = {"num_heads": num_heads, "d_ff": 2 * d_model, "dropout": 0.0, "norm_first": True}
        self.encoder = Encoder(num_layers, d_model=d_model, **sizes)
        if attention is not None:
            for layer in self.encoder.layers:
                layer.self_attention = attention(num_heads, d_model)
        self.output = nn.Linear(d_model, CLUBS)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """Features (B, N, 11) and edges (B, N, N), bool, row reads column → logits (B, N, 3)."""
        itself = torch.eye(edges.shape[-1], dtype=torch.bool)
        return self.output(self.encoder(self.project(features), edges | itself))


class Alone(GraphTransformer):
    """The same without edges: everybody reads itself only, so that each layer is a net for one token."""

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """As :class:`GraphTransformer`, whatever the edges."""
        return super().forward(features, torch.zeros_like(edges))


class Everybody(GraphTransformer):
    """The same without a mask: everybody reads all, and nobody knows who is whose neighbour."""

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """As :class:`GraphTransformer`, whatever the edges."""
        return super().forward(features, torch.ones_like(edges))


class Distances(GraphTransformer):
    """No mask, but a bias for each distance, learned, alike in all layers: after Graphormer (Ying et al., 2021).

    >>> import torch
    >>> from attnlib.lab.networks import Distances, Network
    >>> (features, edges), clubs = Network().draw(5, torch.Generator().manual_seed(0))
    >>> Distances()(features, edges).shape
    torch.Size([5, 60, 3])
    """

    def __init__(self, d_model: int = 32, num_layers: int = 2, num_heads: int = 1):
        super().__init__(d_model, num_layers, num_heads)
        self.bias = nn.Parameter(torch.zeros(FAR + 1, num_heads))  # at first no distance counts more than another

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        """As :class:`GraphTransformer`; the edges decide how far people are from each other, and close nothing."""
        x = self.project(features)
        bias = self.bias[distances(edges)].movedim(-1, -3)  # (B, H, N, N)
        return self.output(self.encoder(x, Scores.of(None, bias, tuple(bias.shape), x.device)))


# What needs no training


def votes(people: People, reads: Tensor) -> Tensor:
    """Return the club that most badges show among those whom each person reads, (B, N); none or a tie: the first.

    >>> import torch
    >>> from attnlib.lab.networks import Network, votes
    >>> people = Network().place(5, torch.Generator().manual_seed(0))
    >>> votes(people, people.edges).shape
    torch.Size([5, 60])
    """
    return (reads.to(people.badges.dtype) @ people.badges).argmax(-1)


def like_minded(people: People) -> Tensor:
    """Return who has about the same interests as whom, (B, N, N): the angle between them is less than 60 degrees.

    >>> import torch
    >>> from attnlib.lab.networks import Network, like_minded
    >>> people = Network().place(5, torch.Generator().manual_seed(0))
    >>> bool((like_minded(people) | ~people.friends).double().mean() > 0.99)  # nearly all friends are
    True
    """
    directions = F.normalize(people.interests, dim=-1)
    return directions @ directions.mT > 0.5


def propagation(people: People, reads: Tensor, rounds: int = 10) -> Tensor:
    """Return the clubs (B, N) after badges were spread: each round everybody takes its neighbours' mean.

    Those who wear a badge keep it: label propagation (Zhu and Ghahramani, 2002).

    >>> import torch
    >>> from attnlib.lab.networks import Network, propagation
    >>> people = Network().place(5, torch.Generator().manual_seed(0))
    >>> propagation(people, people.edges).shape
    torch.Size([5, 60])
    """
    badges = people.badges
    spread, known = reads.to(badges.dtype), badges
    for _ in range(rounds):
        known = torch.where(people.asked[..., None], F.normalize(spread @ known, p=1, dim=-1), badges)
    return known.argmax(-1)
