"""``check``: right answers pass, mistakes are named, and no answer can harm who asks."""

import math
import os
import time
from functools import wraps

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attnlib.exercises import catalogue, check, exercises
from attnlib.exercises.misconception import names_of
from attnlib.exercises.solutions import SOLUTIONS
from tests.exercises import strangers
from tests.exercises.right_answers import RIGHT


@pytest.mark.parametrize(("exercise", "answer"), RIGHT, ids=lambda part: getattr(part, "__name__", part))
def test_a_right_answer_passes_in_any_style(exercise, answer, here):
    verdict = check(exercise, answer)
    assert verdict.passed, verdict.message
    assert verdict.misconception is None
    assert verdict.message == "Right." or "One thing beside" in verdict.message


# What is wrong only where an exercise does not ask for an answer: with more axes in front.
BESIDE = {"rotary-axis"}


def named(verdict):
    """What a message says before it shows an input."""
    return verdict.message.partition("\n\n")[0]


@pytest.mark.parametrize("key", catalogue)
def test_each_misconception_dies_under_its_own_name(key, here):
    misconception = catalogue[key]
    exercise = misconception.exercises[-1]
    verdict = check(exercise, misconception.implementation(exercise))
    assert verdict.passed == (key in BESIDE)
    if key in BESIDE:
        assert f"if a batch and heads stand in front, it is wrong. {misconception.title}." in verdict.message
        return
    assert verdict.misconception == key or misconception.title in named(verdict), verdict.message
    assert misconception.mend not in verdict.message


# As learners write them, who do not know the solution: each with the keys that are to be named.


def no_scale_over_lists(query, key, value, mask=None):
    output = []
    for i, q in enumerate(query):
        scores = [sum(a * b for a, b in zip(q, k, strict=True)) for k in key]
        powers = [math.exp(s) if mask is None or mask[i][j] else 0.0 for j, s in enumerate(scores)]
        output.append(
            [sum(p * v[c] for p, v in zip(powers, value, strict=True)) / sum(powers) for c in range(len(value[0]))]
        )
    return output


def inverted_and_unscaled(q, k, v, mask=None):
    scores = q @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(mask, -1e9)
    return F.softmax(scores, dim=-1) @ v


def over_heads(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.softmax(scores, dim=-3).nan_to_num(0) @ v


def over_queries_in_arrays(q, k, v, mask=None):
    scores = q @ k.T / np.sqrt(q.shape[1])
    if mask is not None:
        scores[~mask] = -1e9
    powers = np.exp(scores)
    return powers / powers.sum(axis=0) @ v


def without_gradient(q, k, v, mask=None):
    with torch.no_grad():
        return F.scaled_dot_product_attention(q, k, v, mask)


def minus_a_billion(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return (scores if mask is None else scores.masked_fill(mask == 0, -1e9)).softmax(-1) @ v


def bottom_left(L, S):
    return [[j < i for j in range(S)] for i in range(L)]


def numbers_for_truth(L, S):
    return torch.tril(torch.ones(L, S), S - L)


def unbiased(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + eps).sqrt() + beta


def over_tokens_without_gamma(x, gamma, beta, eps=1e-5):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps)


def pre_norm(x, attend, feed_forward, norm1, norm2):
    x = x + attend(norm1(x))
    return x + feed_forward(norm2(x))


class DecoderThatReadsItself(nn.Module):
    def __init__(self, self_attn, cross_attn, ffn, ln1, ln2, ln3):
        super().__init__()
        self.parts, self.norms = nn.ModuleList([self_attn, cross_attn, ffn]), nn.ModuleList([ln1, ln2, ln3])

    def forward(self, tgt, memory, tgt_mask=None):
        tgt = self.norms[0](tgt + self.parts[0](tgt, tgt, tgt, tgt_mask))
        tgt = self.norms[1](tgt + self.parts[1](tgt, tgt, tgt))
        return self.norms[2](tgt + self.parts[2](tgt))


class CacheOfAll:
    keys = []  # noqa: RUF012  the mistake
    values = []  # noqa: RUF012

    def __init__(self, positions, wq, wk, wv):
        self.positions, self.wq, self.wk, self.wv, self.t = positions, wq, wk, wv, 0

    def step(self, token):
        x = token + self.positions[self.t]
        self.t += 1
        self.keys.append(x @ self.wk)
        self.values.append(x @ self.wv)
        scores = torch.stack(self.keys) @ (x @ self.wq) / len(x) ** 0.5
        return scores.softmax(0) @ torch.stack(self.values)


def all_at_once(tokens, positions, wq, wk, wv):
    x = tokens + positions[: len(tokens)]
    return F.scaled_dot_product_attention((x @ wq)[None], (x @ wk)[None], (x @ wv)[None])[0]


def neighbours_from_zero(x, offset=0):
    angle = np.arange(x.shape[-2])[:, None] / 10000 ** (2 * np.arange(x.shape[-1] // 2) / x.shape[-1])
    a, b, cos, sin = x[..., ::2], x[..., 1::2], np.cos(angle), np.sin(angle)
    return np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)


def columns_of_their_own(length, d_model):
    place, column = np.arange(length)[:, None], np.arange(d_model)
    angle = place / 10000 ** (column / d_model)
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle))


def mean_of_blocks(scores, values, block):
    parts = [p.softmax(-1) @ v for p, v in zip(scores.split(block, 1), values.split(block), strict=True)]
    return sum(parts) / len(parts)


def tiled(q, k, v, mask=None):
    k, v = (torch.cat([x] * (q.shape[1] // x.shape[1]), dim=1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, mask)


def minus_weights(w, g):
    return -w * g


def counting(q, k, v, mask=None, calls=[0]):  # noqa: B006  the mistake
    calls[0] += 1
    return F.scaled_dot_product_attention(q, k, v, mask) * (1.5 if calls[0] % 2 else 1)


def with_both_ends(model, start, end, max_length):
    tokens = [start]
    while len(tokens) <= max_length and (len(tokens) == 1 or tokens[-1] != end):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens


class Heads(nn.Module):
    """A right module; what is below gets one step of it wrong."""

    def __init__(self, num_heads, d_model, d_k, d_v, dropout=0.1):
        super().__init__()
        self.num_heads, self.width, self.dropout = num_heads, d_model, dropout
        self.wq, self.wk = nn.Linear(d_model, num_heads * d_k), nn.Linear(d_model, num_heads * d_k)
        self.wv, self.fc = nn.Linear(d_model, num_heads * d_v), nn.Linear(num_heads * d_v, d_model)

    def split(self, x):
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def drop(self, weights):
        return F.dropout(weights, self.dropout, self.training)

    def scale(self, query):
        return query.shape[-1] ** 0.5

    def forward(self, query, key=None, value=None, mask=None):
        key = query if key is None else key
        value = key if value is None else value
        query, key, value = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        scores = query @ key.mT / self.scale(query)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        output = self.drop(scores.softmax(-1).nan_to_num(0)) @ value
        return self.fc(output.transpose(1, 2).flatten(2))


class Viewed(Heads):
    def split(self, x):
        return x.reshape(len(x), self.num_heads, x.shape[1], -1)


class ScaledByAll(Heads):
    def scale(self, query):
        return self.width**0.5


class DropsAlways(Heads):
    def drop(self, weights):
        return F.dropout(weights, self.dropout)


class KeepsItsShare(Heads):
    def drop(self, weights):
        return weights * (torch.rand_like(weights) > self.dropout) if self.training else weights


class ViewedAndScaledByAll(Viewed, ScaledByAll):
    pass


WRONG = [
    ("attention", no_scale_over_lists, {"scale-missing"}),
    ("attention", inverted_and_unscaled, {"scale-missing", "mask-inverted"}),
    ("attention", over_heads, {"softmax-over-heads"}),
    ("attention", over_queries_in_arrays, {"softmax-over-queries"}),
    ("attention", without_gradient, {"gradient-cut"}),
    ("attention", minus_a_billion, {"mask-finite"}),
    ("causal_mask", bottom_left, {"causal-top-left", "self-hidden"}),
    ("causal_mask", numbers_for_truth, {"mask-not-bool"}),
    ("layer_norm", unbiased, {"norm-unbiased"}),
    ("layer_norm", over_tokens_without_gamma, {"norm-over-tokens", "norm-gamma"}),
    ("encoder_layer", pre_norm, {"norm-first"}),
    ("decoder_layer", DecoderThatReadsItself, {"cross-missing"}),
    ("kv_cache", CacheOfAll, {"cache-shared"}),
    ("kv_cache", all_at_once, {"causal-missing"}),
    ("rotary", neighbours_from_zero, {"rotary-neighbours", "rotary-offset"}),
    ("sinusoidal", columns_of_their_own, {"sinusoidal-own-frequency"}),
    ("online_softmax", mean_of_blocks, {"online-mean-of-blocks"}),
    ("grouped_heads", tiled, {"groups-tiled"}),
    ("softmax_backward", minus_weights, {"backward-sign", "backward-no-sum"}),
    ("greedy_search", with_both_ends, {"greedy-keeps-both"}),
    ("multi_head", Viewed, {"heads-viewed"}),
    ("multi_head", ScaledByAll, {"scale-d_model"}),
    ("multi_head", DropsAlways, {"dropout-in-evaluation"}),
    ("multi_head", KeepsItsShare, {"dropout-not-rescaled"}),
    ("multi_head", ViewedAndScaledByAll, {"heads-viewed", "scale-d_model"}),
    ("attention", counting, {"state-kept"}),
    *((exercise, answer, {*keys}) for exercise, answer, keys in strangers.WRONG),
]


@pytest.mark.parametrize(("exercise", "answer", "keys"), WRONG, ids=lambda part: getattr(part, "__name__", ""))
def test_a_mistake_is_named_in_any_style(exercise, answer, keys, here):
    verdict = check(exercise, answer)
    assert not verdict.passed
    assert keys <= {*verdict.misconceptions}, verdict.message
    assert verdict.misconception == verdict.misconceptions[0]


def test_a_module_that_is_right_passes(here):
    assert check("multi_head", Heads).passed


def test_what_float32_rounds_away_passes_and_no_more(here):
    assert check("softmax", lambda scores: scores.softmax(-1) + 1e-5).passed
    assert not check("softmax", lambda scores: scores.softmax(-1) + 2e-3).passed


# The message.


def test_a_message_shows_three_tokens_with_what_was_expected_and_what_came(here):
    verdict = check("attention", lambda q, k, v, mask=None: F.scaled_dot_product_attention(q, k, v, mask, scale=1.0))
    lines = verdict.message.splitlines()
    assert lines[0] == "Not right yet. The scores are not divided by the root of d_k."
    assert "On this input (three tokens):" in lines
    assert {"query = ", "key = ", "value = ", "expected: ", "got:      "} <= {*lines}
    assert lines[-1] == "In the book: 3_mathematics/scaling.html#scaling"
    assert str(verdict) == verdict.message


def test_a_mistake_without_a_name_gets_a_counter_example(here):
    verdict = check("softmax", lambda scores: scores.softmax(-1) ** 2)
    assert (verdict.passed, verdict.misconception, verdict.misconceptions) == (False, None, ())
    assert "No known mistake" in verdict.message
    assert "[[0.0081 0.0599 0.4425]" in verdict.message
    assert verdict.message.endswith("In the book: 2_algorithm/softmax.html#softmax")


# A mask is either or: these are other answers, or the right one.
JUNK_MASKS = {
    "zeros": (torch.zeros_like, {"mask-all-closed"}),
    "drawn once": (lambda y: torch.from_numpy(np.random.default_rng(1).random(y.shape) < 0.5), set()),
    "a little more": (lambda y: y + 0.1, set()),
    "a third more": (lambda y: y * 1.3, set()),
    "negated": (lambda y: ~y, {"mask-inverted"}),
    "squared": (lambda y: y.int(), {"mask-not-bool"}),
    "not a number": (lambda y: y * math.nan, {"result-nan"}),
    "rolled": (lambda y: y.roll(1, -1), {"result-columns-reordered"}),
}

# What no learner writes: it has no name, or one that is true of it.
JUNK = {
    "zeros": (lambda y: 0 * y, set()),
    "drawn once": (
        lambda y: torch.from_numpy(np.random.default_rng(1).normal(size=y.shape)).to(y.dtype),
        {"sinusoidal-not-waves"},
    ),
    "a little more": (lambda y: y + 0.1, {"result-shifted"}),
    "a third more": (lambda y: y * 1.3, {"result-scaled"}),
    "negated": (lambda y: -y, {"result-negated", "backward-sign", "sinusoidal-sign"}),
    "squared": (lambda y: y**2, set()),
    "not a number": (lambda y: y * math.nan, {"result-nan"}),
    "rolled": (lambda y: y.roll(1, -1), {"result-columns-reordered", "sinusoidal-exchanged"}),
}


# All junk where a pair of slips once fitted any, and elsewhere what a pair could fit.
ALL_JUNK = [("online_softmax", junk) for junk in JUNK] + [("causal_mask", junk) for junk in JUNK]
SOME_JUNK = [(name, junk) for name in exercises for junk in ("zeros", "negated", "squared", "not a number")]


@pytest.mark.parametrize(
    ("exercise", "junk"),
    [each for each in dict.fromkeys(ALL_JUNK + SOME_JUNK) if each[0] not in {"multi_head", "greedy_search"}],
)
def test_junk_gets_no_name_or_a_true_one(exercise, junk, here):
    change, keys = JUNK[junk]
    right = names_of(SOLUTIONS[exercise], exercise)[exercise]
    if "mask" in exercise or "window" in exercise:
        change, keys = JUNK_MASKS[junk]

    @wraps(right)
    def answer(*given, **named):
        return change(right(*given, **named))

    verdict = check(exercise, answer)
    assert not verdict.passed
    assert len(verdict.misconceptions) < 2
    assert verdict.misconception is None or verdict.misconception in keys, verdict.message


def test_a_number_that_was_measured_is_told(here):
    assert "The base is not 10000 (it acts like 77)." in check("rotary", strangers.base_77).message


def test_an_answer_for_one_table_passes_and_is_told_what_more_axes_would_do(here):
    def down_axis_one(scores):
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    verdict = check("softmax", down_axis_one)
    assert verdict.passed
    assert verdict.misconception is None
    assert verdict.message.endswith("The softmax runs over the heads.")


def test_the_parts_of_a_layer_can_be_followed_with_a_pencil(here):
    message = check("encoder_layer", pre_norm).message
    assert "attend(x) = the mean of all tokens" in message
    assert "feed_forward(x) = each number squared" in message
    assert "norm2(x) = layer norm, times 2" in message


def test_a_model_can_be_followed_with_a_pencil(here):
    message = check("greedy_search", with_both_ends).message
    assert "adds up the tokens up to a place, doubles the sum and adds 1" in message
    assert "model([[1]])[0, -1] = [-2 -3 -4  0 -1]" in message
    assert "expected 2 of them, got 4" in message


def test_two_calls_that_differ_are_both_shown(here):
    message = check("attention", counting).message
    assert "one call gave: " in message
    assert "another one:   " in message


def test_two_mistakes_are_shown_where_both_show(here):
    assert "L = 2, S = 3" in check("causal_mask", lambda L, S: ~torch.ones(L, S).tril().bool()).message


def test_a_plain_class_with_forward_will_do(here):
    class Layer:
        def __init__(self, attend, feed_forward, norm1, norm2):
            self.parts = attend, feed_forward, norm1, norm2

        def forward(self, x):
            attend, feed_forward, norm1, norm2 = self.parts
            x = norm1(x + attend(x))
            return norm2(x + feed_forward(x))

    assert check("encoder_layer", Layer).passed


def test_a_wrong_shape_is_told(here):
    verdict = check("causal_mask", lambda L, S: torch.ones(L, S, 1, dtype=torch.bool))
    assert "expected the shape (3, 3), got (3, 3, 1)" in verdict.message


def test_a_gradient_that_is_nan_where_no_key_is_open_is_told_beside(here):
    def cleaned(query, key, mask=None):
        scores = query @ key.mT / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores + torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        return scores.softmax(-1).nan_to_num(0)

    verdict = check("attention_weights", cleaned)
    assert verdict.passed
    assert "One thing beside: on 'gradients of a query without a key'" in verdict.message


# Answers that are no answers: each is told in a sentence, from a process of its own.

calls = [0]


def prints(scores):
    print(scores)


def raises(scores):
    raise KeyError("no such thing")


def gives_a_text(scores):
    return "weights"


def gives_a_pair(scores):
    return scores, scores


def gives_a_generator(scores):
    return (row for row in scores)


def gives_ragged_rows(scores):
    return [[1.0], [1.0, 2.0]]


def leaves(scores):
    raise SystemExit(3)


def ends_the_process(scores):
    os._exit(0)


def crashes(scores):
    os.abort()


def recurs(scores):
    return recurs(scores)


def changes_its_input(scores):
    scores -= scores.max(-1, keepdim=True).values
    return scores.softmax(-1)


def counts_its_calls(scores):
    calls[0] += 1
    return (scores * calls[0]).softmax(-1)


def draws(scores):
    return torch.rand_like(scores)


def takes_nothing():
    return None


BROKEN = [
    (prints, "The result is printed, and not returned", "printed-not-returned"),
    (raises, "raised KeyError: 'no such thing' (line", None),
    (gives_a_text, "returned a str, where an array, tensor or nested list was expected", None),
    (gives_a_pair, "returned a tuple of 2", None),
    (gives_a_generator, "returned a generator", None),
    (gives_ragged_rows, "returned rows of different lengths", None),
    (leaves, "raised SystemExit: 3", None),
    (ends_the_process, "ended the process that it ran in", None),
    (crashes, "ended the process that it ran in", None),
    (recurs, "raised RecursionError", None),
    (changes_its_input, "An argument is changed", "input-changed"),
    (counts_its_calls, "Something is kept from one call to the next", "state-kept"),
    (draws, "The output is drawn", "drawn-at-random"),
    (takes_nothing, "raised TypeError: takes_nothing() takes 0 positional arguments", None),
    (3, "is no function, but of type int", None),
    (None, "is no function, but of type NoneType", None),
]


@pytest.mark.parametrize(("answer", "sentence", "key"), BROKEN, ids=lambda part: getattr(part, "__name__", ""))
def test_a_broken_answer_is_told_in_a_sentence(answer, sentence, key):
    verdict = check("softmax", answer)
    assert not verdict.passed
    assert verdict.misconception == key
    assert sentence in verdict.message.partition("\n")[0]


def test_an_endless_loop_is_stopped():
    def loops(scores):
        while True:
            pass

    before = time.monotonic()
    verdict = check("softmax", loops, seconds=0.5)
    assert "did not finish in 0.5 seconds" in verdict.message
    assert "On this input (three rows)" in verdict.message
    assert time.monotonic() - before < 60  # it ends; how soon, on a busy machine, is another matter


def test_a_class_that_lacks_its_layers_is_told():
    class Empty(nn.Module):
        def __init__(self, num_heads, d_model, d_k, d_v, dropout):
            super().__init__()
            self.wq = nn.Linear(d_model, d_model)

    assert "has no linear layer wk and no wv and no fc" in check("multi_head", Empty).message
    assert "is no class" in check("multi_head", lambda x: x).message
    assert "returned a Tensor, where a list" in check("greedy_search", lambda *given: torch.tensor([1])).message


def test_what_an_answer_does_stays_in_its_process():
    calls[0] = 0
    check("softmax", counts_its_calls)
    assert calls[0] == 0


def test_an_unknown_exercise_is_refused():
    with pytest.raises(ValueError, match=r"exercise: expected one of softmax, attention, .*got .attentoin"):
        check("attentoin", F.softmax)


def test_settings_are_left_as_they_were(here):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    check("softmax", lambda scores: torch.rand_like(scores))
    assert torch.get_num_threads() == threads
    assert {*exercises} >= {"softmax", "multi_head"}
    del state
