"""Networks of people and the models that read them, beside NumPy loops and NetworkX."""

import itertools
from dataclasses import fields

import networkx as nx
import numpy as np
import pytest
import torch

from attnlib.lab import networks
from attnlib.lab.networks import CLUBS, Network, People
from attnlib.lab.tasks import IGNORED
from attnlib.recording import record_attention

pytestmark = pytest.mark.usefixtures("in_float64")

MODELS = {
    "attention": networks.GraphTransformer,
    "mean": lambda **sizes: networks.GraphTransformer(attention=networks.MeanAttention, **sizes),
    "GAT": lambda **sizes: networks.GraphTransformer(attention=networks.GraphAttention, **sizes),
    "GATv2": lambda **sizes: networks.GraphTransformer(attention=networks.GraphAttentionV2, **sizes),
    "alone": networks.Alone,
    "everybody": networks.Everybody,
    "distances": networks.Distances,
}


def place(count=40, seed=0, **network):
    return Network(**network).place(count, torch.Generator().manual_seed(seed))


def made(name, seed=0, **sizes):
    torch.manual_seed(seed)
    return MODELS[name](d_model=12, **sizes).eval()


# The data


def test_friends_like_the_same_and_are_of_one_club_and_nobody_else_who_is_a_neighbour_likes_the_same():
    people = place(7)
    for b, i, j in people.edges.nonzero().tolist():
        assert i != j
        assert people.edges[b, j, i]
        same_kind, same_club = (x[b, i] == x[b, j] for x in (people.kind, people.club))
        assert same_kind == people.friends[b, i, j]
        assert same_club or not people.friends[b, i, j]
    assert not (people.friends & ~people.edges).any()


def test_club_and_interests_are_drawn_independently():
    people = place(400, kinds=5)
    circles = 5 * people.club + people.kind % 5
    shares = torch.bincount(circles.flatten(), minlength=15) / circles.numel()
    assert shares.numpy() == pytest.approx(1 / 15, abs=0.005)
    sizes = torch.stack([(circles == circle).sum(-1) for circle in range(15)])
    assert sizes.double().var().item() == pytest.approx(75 * (1 / 15) * (14 / 15), rel=0.1)  # no circle is of a size


def test_without_edges_nothing_is_to_be_known_of_a_club():
    people = place(400)
    for reads in (networks.like_minded(people), people.kind[:, :, None] == people.kind[:, None]):
        counts = reads.double() @ people.badges
        for rule in (counts.argmax(-1), counts.argmin(-1)):
            assert (rule == people.club)[people.asked].double().mean().item() == pytest.approx(1 / 3, abs=0.015)


def test_friends_have_about_the_same_interests():
    people = place(7)
    apart = torch.cdist(people.interests, people.interests)
    assert apart[people.friends].max() < 1  # the noise of both: 0.1 · √2 · √8 on average
    assert apart[people.edges & ~people.friends].mean() > 1.2  # directions by chance: about √2


def test_how_many_neighbours_there_are_and_how_many_wear_a_badge():
    people = place(200)
    assert people.friends.double().sum(-1).mean().item() == pytest.approx(59 / 12 * 0.8, abs=0.05)
    acquaintances = people.edges & ~people.friends
    assert acquaintances.double().sum(-1).mean().item() == pytest.approx(59 * 3 / 4 * 0.2, abs=0.1)
    assert people.asked.double().mean().item() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("same", [0.0, 0.15, 1 / 3, 0.75, 1.0])
def test_acquaintances_are_of_the_same_club_as_often_as_is_said_and_as_many(same):
    people = place(200, same=same)
    acquaintances = people.edges & ~people.friends
    in_club = people.club[:, :, None] == people.club[:, None]
    assert in_club[acquaintances].double().mean().item() == pytest.approx(same, abs=0.01)
    assert acquaintances.double().sum(-1).mean().item() == pytest.approx(59 * 3 / 4 * 0.2, abs=0.1)


def test_doubles_like_the_same_and_are_of_other_clubs():
    people = place(50, double=0.4)
    same_kind, same_club = (x[:, :, None] == x[:, None] for x in (people.kind, people.club))
    doubles = people.edges & same_kind & ~people.friends
    assert not (doubles & same_club).any()
    assert doubles.double().sum(-1).mean().item() == pytest.approx(59 / 6 * 0.4, abs=0.15)


def test_people_stand_in_another_order_in_each_network():
    people = place(2)
    assert not people.club[0].equal(people.club[1])
    first, again, other = place(2, seed=3), place(2, seed=3), place(2, seed=4)
    for field in fields(People):
        assert getattr(first, field.name).equal(getattr(again, field.name))
        assert not getattr(first, field.name).equal(getattr(other, field.name))


def test_a_batch_shows_badges_of_those_who_are_not_asked_and_asks_the_others():
    people = place(5)
    (features, edges), target = people.batch
    assert edges.equal(people.edges)
    for b, i in itertools.product(range(5), range(60)):
        badge = features[b, i, networks.INTERESTS :].tolist()
        club = int(people.club[b, i])
        if people.asked[b, i]:
            assert badge == [0, 0, 0]
            assert target[b, i] == club
        else:
            assert badge == [float(club == c) for c in range(CLUBS)]
            assert target[b, i] == IGNORED
    assert features[..., : networks.INTERESTS].equal(people.interests)


def test_distances_are_those_of_networkx():
    graphs = [nx.gnp_random_graph(17, 0.15, seed=seed) for seed in range(5)]
    edges = torch.stack([torch.tensor(nx.to_numpy_array(graph)) > 0 for graph in graphs])
    found = networks.distances(edges)
    for graph, of_graph in zip(graphs, found, strict=True):
        lengths = dict(nx.all_pairs_shortest_path_length(graph))
        for i, j in itertools.product(range(17), repeat=2):
            assert of_graph[i, j] == min(lengths[i].get(j, 3), 3)


def test_the_karate_club_has_a_place_for_each_member():
    assert len(networks.KARATE_PLACES) == nx.karate_club_graph().number_of_nodes() == len(set(networks.KARATE_PLACES))


# Scores


def loops(layer, x, reads, version):
    """Graph attention as the papers write it, in NumPy, for one network: x (N, d), reads (N, N) → (N, d)."""
    x, reads = x.numpy(), reads.numpy()
    heads, N = layer.num_heads, len(x)
    values = (x @ layer.wv.weight.detach().numpy().T).reshape(N, heads, -1)
    a = layer.a.detach().numpy()
    asks = values if version == 1 else (x @ layer.asks.weight.detach().numpy().T).reshape(N, heads, -1)
    outputs = np.zeros_like(values)
    for i, h in itertools.product(range(N), range(heads)):
        near = np.flatnonzero(reads[i])
        scores = []
        for j in near:
            if version == 1:
                score = np.concatenate([a[0, h], a[1, h]]) @ np.concatenate([asks[i, h], values[j, h]])
                scores.append(score if score > 0 else 0.2 * score)
            else:
                inside = asks[i, h] + values[j, h]
                scores.append(a[0, h] @ np.where(inside > 0, inside, 0.2 * inside))
        weights = np.exp(scores) / np.exp(scores).sum()
        outputs[i, h] = weights @ values[near, h]
    return outputs.reshape(N, -1) @ layer.fc.weight.detach().numpy().T


@pytest.mark.parametrize(("kind", "version"), [(networks.GraphAttention, 1), (networks.GraphAttentionV2, 2)])
def test_graph_attention_is_the_papers(kind, version):
    torch.manual_seed(0)
    layer = kind(2, 10)
    x, reads = torch.randn(3, 7, 10), torch.rand(3, 7, 7) < 0.5
    reads |= torch.eye(7, dtype=torch.bool)
    with torch.no_grad():
        found = layer(x, mask=reads).numpy()
    for b in range(3):
        assert np.allclose(found[b], loops(layer, x[b], reads[b], version))


def test_gat_ranks_all_alike_and_its_second_version_does_not():
    torch.manual_seed(0)
    x = torch.randn(1, 31, 10)
    ranks = [kind(2, 10).scores(x)[0].argsort(-1) for kind in (networks.GraphAttention, networks.GraphAttentionV2)]
    for head in range(2):
        assert len(ranks[0][head].unique(dim=0)) == 1
        assert len(ranks[1][head].unique(dim=0)) > 25


def test_without_scores_attention_is_the_mean_of_what_is_read():
    torch.manual_seed(0)
    layer = networks.MeanAttention(1, 6)
    x, reads = torch.randn(2, 7, 6), torch.rand(2, 7, 7) < 0.5
    reads |= torch.eye(7, dtype=torch.bool)
    with torch.no_grad():
        found = layer(x, mask=reads)
    for b, i in itertools.product(range(2), range(7)):
        mean = x[b, reads[b, i]].mean(0)
        assert torch.allclose(found[b, i], layer.fc(layer.wv(mean)))


# Models


@pytest.mark.parametrize("name", MODELS)
def test_other_numbers_for_people_give_the_same_answers(name):
    model, (features, edges) = made(name), place(3).batch.inputs
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, moved = model(features, edges), model(features[:, order], edges[:, order][:, :, order])
    assert torch.allclose(moved, logits[:, order])
    assert not torch.allclose(moved, logits)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", ["attention", "mean", "GAT", "GATv2", "alone"])
def test_a_layer_carries_over_one_edge(name, layers):
    (features, edges), _ = place(1, acquaintance=0.02).batch
    features.requires_grad_()
    made(name, num_layers=layers)(features, edges)[0, 0].sum().backward()
    lengths = nx.single_source_shortest_path_length(nx.Graph(edges[0].nonzero().tolist()), 0)
    reach = 0 if name == "alone" else layers
    for other in range(60):
        heard = bool(features.grad[0, other].abs().sum() > 0)
        assert heard == (lengths.get(other, 99) <= reach)


def test_a_row_reads_and_a_column_is_read():
    (features, edges), _ = place(1).batch
    edges = edges.triu()  # arrows: from now on the first person reads, and is read by nobody
    features.requires_grad_()
    made("attention", num_layers=1)(features, edges)[0, 59].sum().backward()  # the last one reads itself only
    assert (features.grad[0].abs().sum(-1) > 0).nonzero().flatten().tolist() == [59]
    model = made("attention", num_layers=1)
    with record_attention(model) as record, torch.no_grad():
        model(features, edges)
    (weights,) = record.values()
    assert (weights[0, 0] > 0).equal(edges[0] | torch.eye(60, dtype=torch.bool))


def test_everybody_reads_all_and_knows_no_edge():
    (features, edges), _ = place(2).batch
    model = made("everybody")
    with torch.no_grad():
        assert model(features, edges).equal(model(features, torch.zeros_like(edges)))
    with record_attention(model) as record, torch.no_grad():
        model(features, edges)
    assert all((weights > 0).all() for weights in record.values())


def test_distances_add_a_bias_to_all_heads_and_layers():
    (features, edges), _ = place(2).batch
    model = made("distances", num_heads=2)
    for layer in model.encoder.layers:  # then the bias alone decides
        torch.nn.init.zeros_(layer.self_attention.wq.weight)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([[0.0, 3.0], [2.0, 1.0], [1.0, 0.0], [-1.0, -2.0]]))
    with record_attention(model) as record, torch.no_grad():
        model(features, edges)
    far = networks.distances(edges).numpy()
    for weights in record.values():
        for head in range(2):
            expected = np.exp(model.bias.detach().numpy()[far, head])
            assert np.allclose(weights[:, head].numpy(), expected / expected.sum(-1, keepdims=True))


# Rules


def test_votes_are_counted():
    people = place(5)
    found = networks.votes(people, people.edges)
    for b, i in itertools.product(range(5), range(60)):
        counts = [0] * CLUBS
        for j in range(60):
            if people.edges[b, i, j] and not people.asked[b, j]:
                counts[people.club[b, j]] += 1
        assert found[b, i] == counts.index(max(counts))


def test_like_minded_are_those_at_less_than_60_degrees():
    people = place(2)
    found = networks.like_minded(people)
    for b, i, j in itertools.product(range(2), range(20), range(20)):
        one, other = people.interests[b, i].numpy(), people.interests[b, j].numpy()
        angle = np.degrees(np.arccos(min(1.0, one @ other / np.linalg.norm(one) / np.linalg.norm(other))))
        assert found[b, i, j] == (angle < 60)


def test_badges_spread_along_a_row_and_are_kept():
    row = torch.arange(6)
    edges = ((row - row[:, None]).abs() == 1)[None]
    asked = torch.tensor([[False, True, True, True, True, False]])
    club = torch.tensor([[1, 1, 1, 2, 2, 2]])
    people = People(torch.zeros(1, 6, 8), torch.zeros(1, 6), club, asked, edges, edges)
    assert networks.propagation(people, edges, rounds=50).equal(club)
    assert networks.propagation(people, edges, rounds=1)[0].tolist() == [1, 1, 0, 0, 2, 2]
