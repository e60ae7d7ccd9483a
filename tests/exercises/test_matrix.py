"""Each way to be wrong is told apart from the right answer, and from all others, by the probes."""

import pytest

from attnlib.exercises import catalogue, exercises
from attnlib.exercises.contracts import CONTRACTS
from attnlib.exercises.contracts.base import Way
from attnlib.exercises.explain import explain, predicted, right, slips_of
from attnlib.exercises.observe import agree

# What no input can tell apart, and why.
TWINS = {
    # The most negative number of float32 cannot be told from a row that is set to 1/S by hand.
    frozenset({"mask-finite", "empty-row-uniform"}),
    # Attention shows distances only: what turns all tokens alike turns nothing.
    frozenset({"rotary-missing", "rotary-offset", "frequency-one"}),
    frozenset({"rotary-missing", "rotary-offset", "rotary-axis"}),
}


def ways(exercise):
    """The ways of one precision in which an exercise's answers are called."""
    contract = CONTRACTS[exercise]
    asked = [*contract.ways(lambda x: x), *contract.ways(lambda query, key, value: query)]
    return list(dict.fromkeys(way for way in asked if way.kind == "float32 tensors"))


@pytest.mark.parametrize("exercise", exercises)
def test_each_slip_is_named_by_what_it_does(exercise):
    for key, slip in slips_of(exercise):
        found = (
            _named(exercise, ((key, slip),), way, form)
            for way in ways(exercise)
            for form in CONTRACTS[exercise].forms(way)
        )
        assert any(keys == {(key,)} or {*sum(keys, ())} in TWINS for keys in found), f"{key}: {slip.lines}"


def _named(exercise, mistakes, way, form):
    """The keys that explain what these mistakes do; none if they do nothing in this way."""
    contract = CONTRACTS[exercise]
    outcomes = [
        predicted(exercise, mistakes, form, place) if contract.suits(way, probe) else None
        for place, probe in enumerate(contract.probes)
    ]
    if all(want is None or agree(want, got) for want, got in zip(right(exercise, way), outcomes, strict=True)):
        return set()
    return {each.keys for each in explain(exercise, way, outcomes, most=1)}


PAIRS = {
    "attention": [("scale-missing", "mask-inverted"), ("softmax-over-queries", "mask-ignored")],
    "causal_mask": [("causal-top-left", "self-hidden"), ("mask-inverted", "causal-one-ahead")],
    "grouped_heads": [("groups-tiled", "scale-missing")],
    "layer_norm": [("norm-over-tokens", "norm-gamma")],
    "encoder_layer": [("residual-missing", "layer-part-twice")],
    "rotary": [("rotary-offset", "rotary-backwards")],
    "softmax_backward": [("backward-sign", "backward-no-sum")],
    "greedy_search": [("greedy-keeps-start", "greedy-one-less")],
}


@pytest.mark.parametrize(("exercise", "keys"), [(name, keys) for name, all_ in PAIRS.items() for keys in all_])
def test_two_mistakes_at_once_are_both_named(exercise, keys):
    slips = [next((key, slip) for key, slip in slips_of(exercise) if key == wanted) for wanted in keys]
    if not slips[0][1].beside(slips[1][1]):  # in one line, they are written otherwise
        slips[1] = next((key, slip) for key, slip in slips_of(exercise) if key == keys[1] and slip.beside(slips[0][1]))
    contract, way = CONTRACTS[exercise], Way("float32 tensors", CONTRACTS[exercise].layouts[0])
    outcomes = [
        predicted(exercise, tuple(slips), way, place) if contract.suits(way, probe) else None
        for place, probe in enumerate(contract.probes)
    ]
    assert any({*each.keys} == {*keys} for each in explain(exercise, way, outcomes))


def test_there_are_enough():
    assert len(catalogue) >= 60
    assert all(any(name in each.exercises for each in catalogue.values()) for name in exercises)
