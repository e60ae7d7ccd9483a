"""What an answer does not have is true of it, and no right answer lacks it."""

import math

import pytest
import torch
from torch import nn

from attnlib.exercises import catalogue, check, exercises
from attnlib.exercises.contracts import CONTRACTS
from attnlib.exercises.explain import right, slips_of
from attnlib.exercises.misconception import names_of, written
from attnlib.exercises.properties import PROPERTIES, _broken, first_broken
from tests.exercises.right_answers import RIGHT
from tests.exercises.test_matrix import ways


def solutions(exercise, way, *slips):
    """The forms of the solution with these slips."""
    contract = CONTRACTS[exercise]
    for form in contract.forms(way):
        if all(slip.fits(exercise, contract.function(form)) for slip in slips):
            yield contract.solution(names_of(written(exercise, *slips), exercise), form)


@pytest.mark.parametrize("exercise", exercises)
def test_a_solution_breaks_no_property(exercise):
    for way in ways(exercise):
        for solution in solutions(exercise, way):
            assert first_broken(CONTRACTS[exercise], solution, way, right(exercise, way)) is None


@pytest.mark.parametrize(("exercise", "answer"), RIGHT, ids=lambda part: getattr(part, "__name__", part))
def test_a_right_answer_breaks_no_property(exercise, answer):
    contract = CONTRACTS[exercise]
    way = contract.ways(answer)[0]
    assert first_broken(contract, answer, way, right(exercise, way)) is None


def breaks(exercise, place, key):
    contract, each = CONTRACTS[exercise], PROPERTIES[exercise][place]
    at = next(i for i, probe in enumerate(contract.probes) if probe.name == each.probe)
    return any(
        _broken(contract, solution, way, place, at, right(exercise, way)[at].values) is not None
        for way in ways(exercise)
        if each.asked(way)
        for name, slip in slips_of(exercise)
        if name == key
        for solution in solutions(exercise, way, slip)
    )


@pytest.mark.parametrize(
    ("exercise", "place"), [(name, i) for name, all_ in PROPERTIES.items() for i in range(len(all_))]
)
def test_each_mistake_that_is_told_breaks_the_property_alone(exercise, place):
    assert PROPERTIES[exercise][place].keys
    for key in PROPERTIES[exercise][place].keys:
        assert breaks(exercise, place, key), key


def test_every_exercise_has_properties_with_mistakes_that_are_known():
    assert {*PROPERTIES} == {*exercises}
    assert all(key in catalogue for all_ in PROPERTIES.values() for each in all_ for key in each.keys)


def many_mistakes(query, key, value, mask=None):
    scores = query @ key.mT / len(key) ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask, -math.inf)
    return scores.softmax(-2) @ value + 1


class Reshaped(nn.Module):
    """Heads cut out of the rows of tokens, the wrong scale, and a mask on the weights."""

    def __init__(self, num_heads, d_model, d_k, d_v, dropout):
        super().__init__()
        self.heads, self.width, self.rate = num_heads, d_model, dropout
        self.wq, self.wk = (nn.Linear(d_model, num_heads * d_k, bias=False) for _ in "qk")
        self.wv, self.fc = (
            nn.Linear(n, m, bias=False) for n, m in ((d_model, num_heads * d_v), (num_heads * d_v, d_model))
        )

    def forward(self, query, key=None, value=None, mask=None):
        key = query if key is None else key
        value = key if value is None else value
        q, k, v = (
            layer(x).reshape(len(x), self.heads, x.shape[1], -1)
            for layer, x in ((self.wq, query), (self.wk, key), (self.wv, value))
        )
        weights = (q @ k.mT / self.width**0.5).softmax(-1)
        weights = weights if mask is None else weights * mask
        return self.fc((nn.functional.dropout(weights, self.rate, self.training) @ v).reshape(*query.shape[:2], -1))


LEADS = [
    ("attention", many_mistakes, "when only the last query changes, what the other queries get changes, too"),
    ("softmax", lambda scores: scores.softmax(-1) ** 2, "rows do not sum to 1"),
]


@pytest.mark.parametrize(("exercise", "answer", "said"), LEADS, ids=[exercise for exercise, *_ in LEADS])
def test_where_no_mistake_has_a_name_a_property_leads(exercise, answer, said, here):
    message = check(exercise, answer).message
    several, leads, shows = message.split("\n\n")[:3]
    assert "No known mistake alone, or pair of them" in several
    assert leads.startswith(f"Whatever else is wrong: {said}.")
    assert all(line.startswith("- ") for line in leads.splitlines()[1:])
    assert shows.startswith("It shows on the input below")
    assert "should be" in shows
    assert "came out as" in shows


# What else a message says, or does not.


def test_an_error_is_not_explained_by_a_mistake_that_raises_another(here):
    class Divided(Reshaped):
        def forward(self, query, key=None, value=None, mask=None):
            if self.width % self.heads:  # where width-in-total raises, too, for another reason
                raise RuntimeError("the heads do not divide the model")
            q, k, v = (self.split(layer(x)) for layer, x in self.given(query, key, value))
            scores = q @ k.mT / q.shape[-1] ** 0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, -math.inf)
            weights = nn.functional.dropout(scores.softmax(-1).nan_to_num(0), self.rate, self.training)
            return self.fc((weights @ v).transpose(1, 2).flatten(2))

        def split(self, x):
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        def given(self, query, key, value):
            key = query if key is None else key
            return (self.wq, query), (self.wk, key), (self.wv, key if value is None else value)

    verdict = check("multi_head", Divided)
    assert verdict.misconceptions == ()
    assert verdict.message.startswith("Not right yet. The answer raised RuntimeError: the heads do not divide")


def test_a_mistake_is_named_beside_an_error_that_it_does_not_explain(here):
    def fails_for_blocks_that_do_not_fit(scores, values, block):
        if scores.shape[1] % block:
            raise IndexError("no such column")
        return scores.softmax(-2) @ values

    message = check("online_softmax", fails_for_blocks_that_do_not_fit).message
    assert "The softmax runs over the queries" in message.partition("\n")[0]
    assert (
        "And on another input (blocks that do not divide the columns) it raised IndexError: no such column" in message
    )


def test_dropout_is_seen_whatever_else_is_wrong(here):
    class Dropping(Reshaped):
        def eval(self):
            return self.train()

    assert check("multi_head", Dropping).misconception == "dropout-in-evaluation"


def test_biases_are_told_beside(here):
    from tests.exercises.test_check import Heads

    verdict = check("multi_head", Heads)
    assert verdict.passed
    assert (
        "One thing beside: its linear layers have biases, and layers without biases are asked for." in verdict.message
    )
    assert "expected" in verdict.message


def test_a_factor_is_told(here):
    assert "(it is −3)" in check("softmax", lambda scores: -3 * scores.softmax(-1)).message


def test_a_remark_shows_what_should_come(here):
    def online(scores, values, block):
        largest = torch.full((len(scores), 1), -math.inf)
        total, output = torch.zeros(len(scores), 1), torch.zeros(len(scores), values.shape[1])
        for part, rows in zip(scores.split(block, 1), values.split(block), strict=True):
            before, largest = largest, torch.maximum(largest, part.amax(1, keepdim=True))
            shrink, powers = (before - largest).exp(), (part - largest).exp()
            total, output = total * shrink + powers.sum(1, keepdim=True), output * shrink + powers @ rows
        return output / total

    message = check("online_softmax", online).message
    assert message.startswith("Right.\n\nOne thing beside: where all scores of a row's first block are −∞")
    expected, got = message.split("expected:")[1].split("got:")
    assert "nan" not in expected
    assert "nan" in got
