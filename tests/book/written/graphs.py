"""Edges between any two members of a graph."""

import networkx as nx
import torch

LABEL = "ex-graphs-distances"
NAME = "distances"


def check(function):
    graphs = {"the karate club": nx.karate_club_graph(), "a row of seven": nx.path_graph(7), "one alone": nx.Graph()}
    graphs["one alone"].add_node(0)
    graphs |= {"two islands": nx.Graph([(0, 1), (2, 3)]), "a one-way ring": nx.cycle_graph(5, nx.DiGraph).reverse()}
    for name, graph in graphs.items():
        edges = torch.tensor(nx.to_numpy_array(graph, weight=None, nodelist=sorted(graph))) > 0
        found = function(edges)
        assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
        assert found.shape == edges.shape, f"{name}: expected {tuple(edges.shape)}, got {tuple(found.shape)}"
        for one, lengths in nx.all_pairs_shortest_path_length(graph):
            for other in graph:
                right, got = lengths.get(other, -1), int(found[one, other])
                assert got == right, f"{name}: from {one} to {other} expected {right}, got {got}"


def _wrong(
    *,
    reads=lambda edges: edges | torch.eye(len(edges), dtype=torch.bool),
    turned=False,
    layers=lambda N: N,
    first=0,
    never=-1,
    last=False,
):
    """What the exercise wants, with one thing spoilt."""

    def distances(edges):
        N = len(edges)
        found, told = torch.full(edges.shape, -1), torch.eye(N)
        weights = reads(edges.T if turned else edges).float()
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
        for layer in range(layers(N)):
            new = told > 0 if last else (told > 0) & (found < 0)
            found[new] = layer + first
            told = weights @ told
        return found.where(found >= 0, torch.tensor(never)) if never != -1 else found

    return distances


WRONG = {
    "neighbours are at no distance": _wrong(first=-1),
    "oneself is at distance one": _wrong(first=1),
    "two layers only": _wrong(layers=lambda N: min(N, 3)),
    "zero where there is no way": _wrong(never=0),
    "infinity as a number of members": _wrong(never=99),
    "the last layer that has heard": _wrong(last=True),
    "arrows turned round": _wrong(turned=True),
    "arrows go both ways": _wrong(reads=lambda edges: edges | edges.T | torch.eye(len(edges), dtype=torch.bool)),
    "the edges": lambda edges: edges.long(),
    "everybody reads everybody": _wrong(reads=torch.ones_like),
}
