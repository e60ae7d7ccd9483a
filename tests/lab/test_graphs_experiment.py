"""The experiment of the chapter on graphs: its rows, its sizes, what the chapter claims, and a run computed again."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch

from attnlib.lab import stored
from attnlib.lab.experiments import graphs
from attnlib.lab.models import count_parameters
from attnlib.lab.networks import GraphTransformer, Network
from attnlib.recording import record_attention

ROWS = stored.load("graphs")["rows"]
CHANCE = 1 / 3


def of(row, *keys):
    """What each seed found, under some keys."""
    found = ROWS[row]["seeds"]
    for key in keys:
        found = [seed[key] for seed in found]
    return np.array(found)


@pytest.fixture
def people(in_float64):
    return Network().place(6, torch.Generator().manual_seed(3))


@pytest.fixture
def model(in_float64):
    torch.manual_seed(0)
    return GraphTransformer(10).eval()


def test_every_row_is_stored_with_every_seed():
    assert list(ROWS) == list(graphs.ROWS) == ["rules", *graphs.MODELS]
    assert all([run["seed"] for run in ROWS[name]["seeds"]] == list(graphs.SEEDS) for name in graphs.MODELS)
    assert len(graphs.SEEDS) >= 3


@pytest.mark.parametrize("name", graphs.MODELS)
def test_all_models_are_of_one_size(name):
    size = count_parameters(graphs.MODELS[name]())
    assert size == ROWS[name]["parameters"]
    assert size == pytest.approx(ROWS["attention"]["parameters"], rel=0.04)


# What closes, and what is measured


def test_a_lot_takes_as_many_as_it_is_told(people):
    counts = people.friends.sum(-1)
    among = people.edges & ~people.friends
    drawn = graphs.by_lot(among, counts, seed=1)
    assert not (drawn & ~among).any()
    assert drawn.sum(-1).equal(torch.minimum(counts, among.sum(-1)))
    assert not drawn.equal(graphs.by_lot(among, counts, seed=2))


@pytest.mark.parametrize("layers", [(0, 1), (0,), (1,)])
def test_what_is_closed_is_not_read_there_and_is_elsewhere(model, people, layers):
    with record_attention(model) as record:
        said = graphs.says(model, people, people.edges & ~people.friends, layers)
    assert said.shape == people.club.shape
    for place, weights in enumerate(record.values()):
        on_friends = weights[:, 0][people.friends]
        assert (on_friends == 0).all() if place in layers else (on_friends > 0).all()
        assert (weights[:, 0][people.edges & ~people.friends] > 0).all()
        assert (weights[:, 0].diagonal(dim1=-2, dim2=-1) > 0).all()


def test_what_it_says_is_what_the_model_says(model, people):
    (features, edges), _ = people.batch
    said = graphs.says(model, people)
    assert said.equal(model(features, edges).argmax(-1))
    for layers in ((0,), (1,)):
        assert graphs.says(model, people, people.edges, layers).equal(said)


def test_friends_are_closed_or_as_many_acquaintances_or_all(people):
    shut = graphs.closings(people)
    assert shut["friends"].equal(people.friends)
    assert not (shut["as many acquaintances"] & people.friends).any()
    assert (people.edges & ~shut["all acquaintances"]).equal(people.friends)


def test_hops_are_counted_inside_a_circle(people):
    found = graphs.hops(people)
    for b in range(len(people.club)):
        circles = nx.Graph()
        circles.add_nodes_from(range(60))
        circles.add_edges_from(people.friends[b].nonzero().tolist())
        for i in people.asked[b].nonzero()[:, 0].tolist():
            lengths = nx.single_source_shortest_path_length(circles, i)
            nearest = min((far for j, far in lengths.items() if not people.asked[b, j]), default=99)
            assert [bool(each[b, i]) for each in found.values()] == [nearest == 1, nearest == 2, nearest > 2]


def test_the_ceiling_is_what_two_steps_over_friends_tell_and_a_third_of_the_others(people):
    said, lot = people.club.clone(), torch.Generator().manual_seed(0)
    lost = graphs.hops(people)["farther"]
    found = []
    for _ in range(300):
        said[lost] = torch.randint(3, (int(lost.sum()),), generator=lot)
        found.append(graphs.share_right(said, people))
    assert np.mean(found) == pytest.approx(graphs.ceiling(people), abs=0.005)


@pytest.mark.parametrize("layers", [(0, 1), (0,), (1,)])
def test_without_scores_a_layer_takes_means_and_the_others_do_not(model, people, layers):
    (features, edges), _ = people.batch
    with torch.no_grad():
        said = model(features, edges)
    equal = graphs.without_scores(model, layers)
    with record_attention(equal) as record, torch.no_grad():
        assert not torch.allclose(equal(features, edges), said)
    even = (edges | torch.eye(60, dtype=torch.bool)).double()
    even /= even.sum(-1, keepdim=True)
    assert [torch.allclose(weights[:, 0], even) for weights in record.values()] == [0 in layers, 1 in layers]
    with torch.no_grad():
        assert model(features, edges).equal(said)  # the trained model stays as it is


def test_a_rule_without_edges_is_at_chance(in_float64):
    people = graphs.held_out()
    for name, said in graphs.without_edges(people).items():
        right = graphs.share_right(said, people)
        assert right == pytest.approx(CHANCE, abs=0.02)
        assert right == ROWS["rules"]["right"][f"{name} badges among the like-minded"]
        shuffled = people.edges[:, torch.randperm(60)]  # and does not look at an edge
        assert graphs.without_edges(replace(people, edges=shuffled))[name].equal(said)


def test_a_share_counts_those_who_are_asked(people):
    said = people.club.clone()
    said[~people.asked] = (said[~people.asked] + 1) % 3  # nobody asks them
    assert graphs.share_right(said, people) == 1
    first = torch.zeros_like(people.asked)
    first[0] = True
    said[1:] = (said[1:] + 1) % 3
    assert graphs.share_right(said, people, first) == 1
    assert graphs.share_right(said, people) == round((people.asked[0].sum() / people.asked.sum()).item(), 4)


def test_looks_are_sums_of_weights(model, people):
    found = graphs.looks(model, people)
    assert all(sum(shares.values()) == pytest.approx(1, abs=3e-4) for shares in found.values())
    (features, edges), _ = people.batch
    with record_attention(model) as record:
        model(features, edges)
    some = people.asked & graphs.hops(people)["1"]
    for place, weights in enumerate(record.values(), start=1):
        bare = [
            sum(float(weights[b, 0, i, j]) for j in range(60) if people.friends[b, i, j] and people.asked[b, j])
            for b, i in some.nonzero().tolist()
        ]
        assert found[f"layer {place}"]["friends without"] == pytest.approx(np.mean(bare), abs=1e-4)
    even = [1 / (1 + int(people.edges[b, i].sum())) for b, i in some.nonzero().tolist()]
    assert found["even"]["itself"] == pytest.approx(np.mean(even), abs=1e-4)


# Again


def test_a_run_is_the_same_again_and_leaves_the_default_dtype():
    make = graphs.MODELS["attention, one layer"]
    first, again, other = (graphs.run(make, seed, steps=8) for seed in (0, 0, 1))
    assert first == again
    assert other["right"] != first["right"]
    assert torch.get_default_dtype() == torch.float32


def test_a_seed_comes_out_again():
    found = graphs.run(graphs.MODELS["attention, one layer"], seed=1)
    assert found == ROWS["attention, one layer"]["seeds"][1]


def test_the_rules_come_out_again():
    assert graphs.classical() == ROWS["rules"]


# What the chapter claims


def test_attention_finds_whom_to_trust_and_a_mean_does_not():
    rules = ROWS["rules"]["right"]
    assert of("attention", "right").min() > 0.95
    assert rules["vote of neighbours"] < of("mean", "right").min()
    assert of("mean", "right").max() < of("attention, one layer", "right").min() - 0.1
    assert 0.9 < rules["vote of like-minded neighbours"] < of("attention, one layer", "right").min()


def test_without_edges_models_are_at_chance():
    for name in ("alone", "everybody"):
        assert np.abs(of(name, "right") - CHANCE).max() < 0.03


def test_ours_is_at_the_ceiling_of_two_steps_over_friends_and_distances_are_above():
    ceiling = ROWS["rules"]["ceiling"]
    assert ceiling - 0.02 < of("attention", "right").min() <= of("attention", "right").max() < ceiling + 0.005
    assert of("distances", "right").min() > ceiling


def test_a_missing_edge_tells_those_who_read_everybody():
    assert ROWS["rules"]["farther"]["fewest badges among like-minded strangers"] > 0.85
    assert of("distances", "hops", "farther").min() > 0.6
    assert of("attention", "hops", "farther").max() < 0.45


def test_a_static_ranking_costs_and_heads_help():
    assert of("GAT", "right").max() < of("GAT, four heads", "right").min()
    assert of("GAT", "right").mean() < of("mean", "right").mean() + 0.06
    assert of("GATv2", "right").min() > of("GAT, four heads", "right").max()


def test_two_layers_hear_two_edges_far():
    assert of("attention", "hops", "2").min() > of("attention, one layer", "hops", "2").max() + 0.2
    assert of("attention, one layer", "hops", "1").min() > 0.97


def test_friends_with_a_badge_get_most_attention_in_the_first_layer():
    assert of("attention", "looks", "even", "friends with a badge").max() < 0.25
    assert of("attention", "looks", "layer 1", "friends with a badge").min() > 0.75
    assert of("attention", "looks", "layer 1", "acquaintances").max() < 0.05


def test_with_equal_weights_in_the_first_layer_the_answer_breaks():
    vote = ROWS["rules"]["right"]["vote of neighbours"]
    assert of("attention", "equal", "layer 1").max() < vote
    assert of("attention", "equal", "both layers").max() < vote
    assert of("attention", "equal", "layer 2").min() > vote


def test_without_friends_no_way_remains_and_without_acquaintances_a_mean_is_enough():
    assert of("attention", "closed", "friends", "both layers").max() < 0.37
    assert of("attention", "closed", "as many acquaintances", "both layers").min() > 0.95
    for name in ("attention", "mean"):
        assert of(name, "closed", "all acquaintances", "both layers").min() > 0.95


def test_with_friends_closed_in_the_second_layer_two_steps_are_lost():
    closed, one = (of("attention", "closed", "friends", "layer 2"), of("attention, one layer", "right"))
    assert np.abs(closed - one.mean()).max() < 0.02
    assert of("attention", "closed", "friends of those at two edges", "layer 2").max() < 0.5


def test_ours_keeps_where_acquaintances_are_others_and_falls_as_the_like_minded_vote_where_there_are_doubles():
    assert of("attention", "same").min() > 0.9
    assert of("mean", "same")[:, 0].max() < 0.4
    assert of("attention", "larger").min() > 0.9
    assert np.abs(of("attention", "doubles") - ROWS["rules"]["like-minded elsewhere"]["doubles"]).max() < 0.1
    assert (np.diff(of("attention", "doubles")) < 0).all()


def test_what_is_closed_is_named_by_its_layers_and_people(model, people, monkeypatch):
    seen = []
    monkeypatch.setattr(graphs, "says", lambda _, __, reads, layers: seen.append((reads, layers)) or people.club)
    monkeypatch.setattr(graphs, "share_right", lambda said, all_, among=None: among)
    found = graphs.closed(model, people)
    assert [layers for _, layers in seen] == [(0, 1), (0,), (1,)] * 4
    assert [list(places) for places in found.values()] == [["both layers", "layer 1", "layer 2"]] * 4
    assert found["friends"]["layer 1"] is None
    assert found["friends of those at two edges"]["layer 2"].equal(graphs.hops(people)["2"])
    for reads, _ in (*seen[:3], *seen[9:]):
        assert reads.equal(people.edges & ~people.friends)
