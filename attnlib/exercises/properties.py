"""What holds of a right answer whatever its numbers are, told where several mistakes leave none of them a name.

A property compares an answer with itself, on an input and on a changed one; or it looks for what one answer must have,
rows that sum to 0, say. So it needs no mistake to be alone, and shows where to look first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnlib.exercises.contracts.attention import SOME
from attnlib.exercises.contracts.base import Array, Contract, Probe, Way
from attnlib.exercises.observe import differs, observe

Given = Mapping[str, Any]
Change = Callable[[Given], Given]
Compare = Callable[[Array, Array, Given], tuple[Array, Array]]


def _always(way: Way) -> bool:
    return True


def _attends(way: Way) -> bool:
    return "attention" in way.layout


def _turns(way: Way) -> bool:
    return not _attends(way)


@dataclass(frozen=True)
class Property:
    """Something that holds of every right answer.

    Attributes:
        broken: what is to be said where it does not hold, a sentence.
        what: what is compared, in a word or two.
        keys: mistakes each of which alone breaks it.
        probe: the name of the probe that it begins with.
        change: the arguments of a second call that are others than the first one's.
        compare: what should be and what is, of the first answer, the second one, and the second one's arguments.
        asked: whether it is asked for in a way.
        begins: the arguments of the first call that are others than the probe's.
    """

    broken: str
    what: str
    keys: tuple[str, ...]
    probe: str
    change: Change
    compare: Compare
    asked: Callable[[Way], bool] = _always
    begins: Change | None = None


@dataclass(frozen=True)
class Broken:
    """A property that an answer does not have: its place, the calls that show it, what came of the first, of both."""

    place: int
    first: Probe
    second: Probe | None
    before: Array
    wanted: Array
    got: Array


def first_broken(contract: Contract, answer: Any, way: Way, expected: list[Any]) -> Broken | None:
    """Run an answer on what the properties of its exercise ask for, up to the first that it breaks.

    ``expected`` are the right outcomes: an answer of another shape has no property.
    """
    for place, each in enumerate(PROPERTIES[contract.name]):
        if not each.asked(way):
            continue
        at = next(i for i, probe in enumerate(contract.probes) if probe.name == each.probe)
        found = _broken(contract, answer, way, place, at, expected[at].values)
        if found is not None:
            return found
    return None


def _broken(contract: Contract, answer: Any, way: Way, place: int, at: int, right: Array) -> Broken | None:
    each, first = PROPERTIES[contract.name][place], contract.probes[at]
    if each.begins is not None:
        first = Probe(f"{first.name}, changed", {**first.given, **each.begins(first.given)})
    second = first if each.change is _nothing else Probe(first.name, {**first.given, **each.change(first.given)})
    before = observe(contract, answer, way, first).values
    after = before if second is first else observe(contract, answer, way, second).values
    if before is None or after is None or not (_like(before, right) and np.isfinite(after).all()):
        return None
    try:
        wanted, got = each.compare(before, after, contract.shown(way, second))
    except (IndexError, ValueError):  # the second answer has another shape
        return None
    if differs(wanted, got) is None:
        return None
    return Broken(place, first, None if second is first else second, before, wanted, got)


def _like(before: Array, right: Array) -> bool:
    """Whether an answer has the shape of the right one (of a list, the axes) and gave numbers, or True and False."""
    fits = before.shape == right.shape or before.ndim == right.ndim == 1
    return fits and (before.dtype.kind == "b") == (right.dtype.kind == "b") and bool(np.isfinite(before).all())


# How arguments are changed.


def _nothing(given: Given) -> Given:
    return {}


def _to(**arguments: Any) -> Change:
    return lambda given: arguments


def _each(change: Callable[[Array], Array], *names: str) -> Change:
    return lambda given: {name: change(given[name]) for name in names}


def _exchanged(x: Array) -> Array:
    """With the first two rows in each other's place."""
    return np.concatenate([x[..., 1::-1, :], x[..., 2:, :]], axis=-2)


def _last(x: Array) -> Array:
    """With other numbers in the last row."""
    return np.concatenate([x[..., :-1, :], 1 - 2 * x[..., -1:, :]], axis=-2)


def _ones(x: Array) -> Array:
    return np.ones_like(x)


def _alike(x: Array) -> Array:
    """With the first row in the place of each."""
    return np.broadcast_to(x[..., :1, :], x.shape).copy()


def _all_open(given: Given) -> Given:
    size = given["query"].shape[-2]
    return {"mask": np.ones((size, size), dtype=bool)}


LAST_CLOSED = np.array([[True, True, False]] * 3)


def _twice_as_wide(given: Given) -> Given:
    """Each column twice, so that each score is twice as large; and the query by √2 smaller for √(2·d_k)."""
    twice = {name: np.concatenate([given[name], given[name]], axis=-1) for name in ("query", "key")}
    return {"query": twice["query"] / np.sqrt(2), "key": twice["key"]}


# What is compared.


def _same(before: Array, after: Array, given: Given) -> tuple[Array, Array]:
    return before, after


def _first_rows(before: Array, after: Array, given: Given) -> tuple[Array, Array]:
    return before[..., :-1, :], after[..., :-1, :]


def _rows_exchanged(before: Array, after: Array, given: Given) -> tuple[Array, Array]:
    return _exchanged(before), after


def _all(number: float) -> Compare:
    return lambda before, after, given: (np.full_like(after, number), after)


def _sums(number: float) -> Compare:
    return lambda before, after, given: (np.full(after.shape[:-1], number), after.sum(-1))


def _squares(number: float) -> Compare:
    return lambda before, after, given: (np.full(after.shape[:-1], number), (after**2).sum(-1))


# What attention and heads that share keys have in common.


def _rows_alone(probe: str) -> Property:
    return Property(
        "when only the last query changes, what the other queries get changes, too",
        "the rows of the other queries",
        ("softmax-over-queries", "softmax-over-all"),
        probe,
        _each(_last, "query"),
        _first_rows,
    )


def _of_ones(probe: str, *keys: str, where: str = "") -> Property:
    return Property(
        f"{where}where all values are 1, the output is not, though it is their average",
        "the output",
        keys,
        probe,
        _nothing,
        _all(1),
        begins=_each(_ones, "value"),
    )


def _open_mask(probe: str) -> Property:
    return Property(
        "a mask that closes nothing changes the output", "the output", ("mask-inverted",), probe, _all_open, _same
    )


def _scaled_by_width(probe: str) -> Property:
    return Property(
        "when each column of query and key stands there twice, and the query is divided by √2, the answer changes,"
        " though scores over √d_k do not",
        "the answer",
        ("scale-missing", "scale-d_k"),
        probe,
        _twice_as_wide,
        _same,
    )


def _value_of_closed(probe: str) -> Property:
    """Not with the probe's own mask, but with one that closes its last key to all."""
    return Property(
        "when the value of a key changes that is closed to all queries, the output changes",
        "the output",
        ("mask-ignored", "mask-zero-score"),
        probe,
        _each(_last, "value"),
        _same,
        begins=_to(mask=LAST_CLOSED),
    )


def _attention(probe: str, closed: str) -> tuple[Property, ...]:
    return (
        _rows_alone(probe),
        _of_ones(probe, "softmax-not-normalised", "softmax-mean"),
        _open_mask(probe),
        _value_of_closed(probe),
        _of_ones(closed, "mask-after-softmax", where="with a mask, "),
        _scaled_by_width(probe),
    )


# What layers have in common.


def _normed_rows(probe: str) -> Property:
    return Property(
        "the numbers of a row do not sum to 0, though a norm comes last",
        "the sum of each row",
        ("norm-first", "layer-norm-missing"),
        probe,
        _nothing,
        _sums(0),
    )


def _size_forgotten(probe: str) -> Property:
    return Property(
        "when x is doubled, the answer changes, though the first norm takes its size away",
        "the answer",
        ("norm-first", "residual-from-the-start"),
        probe,
        _each(lambda x: 2 * x, "x"),
        _same,
    )


PROPERTIES: dict[str, tuple[Property, ...]] = {
    "softmax": (
        Property(
            "when only the last row of scores changes, the others change, too",
            "the other rows",
            ("softmax-over-queries", "softmax-over-all"),
            "three rows",
            _each(_last, "scores"),
            _first_rows,
        ),
        Property(
            "rows do not sum to 1",
            "the sum of each row",
            ("softmax-not-normalised", "softmax-mean"),
            "three rows",
            _nothing,
            _sums(1),
        ),
        Property(
            "when 1 is added to all scores, the weights change",
            "the weights",
            ("softmax-without-exp", "softmax-sigmoid"),
            "three rows",
            _each(lambda x: x + 1, "scores"),
            _same,
        ),
    ),
    "attention": _attention("three tokens", "three tokens, some closed"),
    "attention_weights": (
        _rows_alone("three tokens"),
        Property(
            "rows do not sum to 1",
            "the sum of each row",
            ("softmax-not-normalised", "softmax-mean"),
            "three tokens",
            _nothing,
            _sums(1),
        ),
        _open_mask("three tokens"),
        Property(
            "closed keys have a weight that is not 0",
            "the weights of closed keys",
            ("mask-ignored", "mask-zero-score"),
            "three tokens, some closed",
            _nothing,
            lambda before, after, given: (
                (np.zeros((~given["mask"]).sum()), after[..., ~given["mask"]].ravel())
                if after.ndim == 2
                else (np.zeros(1), np.zeros(1))
            ),
        ),
        Property(
            "with a mask rows do not sum to 1",
            "the sum of each row",
            ("mask-after-softmax",),
            "three tokens, some closed",
            _nothing,
            _sums(1),
        ),
        _scaled_by_width("three tokens"),
    ),
    "causal_mask": (
        Property(
            "the last query does not see all keys",
            "the last row",
            ("causal-top-left", "self-hidden"),
            "L = 2, S = 3",
            _nothing,
            lambda before, after, given: (np.ones(3, dtype=bool), after[-1]),
        ),
        Property(
            "a row does not have one open key more than the row before",
            "the number of open keys in each row",
            ("mask-ignored", "causal-one-ahead"),
            "L = 3, S = 3",
            _nothing,
            lambda before, after, given: (np.arange(3.0) + after[0].sum(), after.sum(-1).astype(float)),
        ),
    ),
    "padding_mask": (
        Property(
            "a row does not have as many open keys as its text has tokens",
            "the number of open keys in each row",
            ("padding-one-more", "mask-inverted"),
            "lengths = [1, 3], S = 3",
            _nothing,
            lambda before, after, given: (np.array(given["lengths"], dtype=float), after.sum(-1).astype(float)),
        ),
    ),
    "sliding_window": (
        Property(
            "a query does not see itself",
            "the diagonal",
            ("self-hidden", "mask-inverted"),
            "size = 2, L = 3, S = 3",
            _nothing,
            lambda before, after, given: (np.ones(3, dtype=bool), after.diagonal()),
        ),
        Property(
            "a query sees a key, and the query there does not see the key here, though |i − j| is the same",
            "the mask",
            ("window-back-only", "window-ahead-only"),
            "size = 2, L = 3, S = 3",
            _nothing,
            lambda before, after, given: (after | after.T, after),
        ),
    ),
    "multi_head": (
        Property(
            "when the first two tokens change places, their rows do not",
            "the output",
            ("heads-viewed", "heads-merged-without-transpose"),
            "three tokens",
            _each(_exchanged, "query"),
            _rows_exchanged,
        ),
        Property(
            "when only the second text changes, the output of the first one changes, too",
            "the output of the first text",
            ("attention-over-batch", "softmax-over-batch"),
            "two texts of three tokens",
            _each(lambda x: np.stack([x[0], 1 - 2 * x[1]]), "query"),
            lambda before, after, given: (before[0], after[0]),
        ),
        Property(
            "where all tokens are alike, two of them give another output than three, though an average of equal values"
            " is the same",
            "the output of a token",
            ("softmax-over-heads", "softmax-not-normalised"),
            "three tokens",
            _each(lambda x: x[:, :2], "query"),
            lambda before, after, given: (before[:, :1], after[:, :1]),
            begins=_each(_alike, "query"),
        ),
        Property(
            "a mask that closes nothing changes the output",
            "the output",
            ("mask-inverted",),
            "three tokens",
            _all_open,
            _same,
        ),
        Property(
            "when a token changes that is closed to all, the output of the others changes",
            "the output of the others",
            ("mask-ignored", "mask-zero-score"),
            "three tokens",
            _each(_last, "query"),
            _first_rows,
            begins=_to(mask=LAST_CLOSED),
        ),
        Property(
            "where all tokens are alike, a mask changes the output, though an average of equal values is the same",
            "the output",
            ("mask-after-softmax",),
            "three tokens",
            _to(mask=SOME),
            _same,
            begins=_each(_alike, "query"),
        ),
    ),
    "grouped_heads": (
        Property(
            "when only the last head of keys changes, the first group of query heads changes, too",
            "the first two heads",
            ("groups-tiled", "groups-reversed"),
            "four heads, two of keys",
            _each(lambda x: np.concatenate([x[:, :1], 1 - 2 * x[:, 1:]], axis=1), "key", "value"),
            lambda before, after, given: (before[:, :2], after[:, :2]),
        ),
        *_attention("four heads, two of keys", "four heads, two of keys, some closed"),
    ),
    "kv_cache": (
        Property(
            "when only the last token changes, earlier rows change, too",
            "the earlier rows",
            ("causal-missing", "outputs-last-only"),
            "three tokens",
            lambda given: {"texts": [_last(given["texts"][0])]},
            _first_rows,
        ),
        Property(
            "the output changes when the positions are in the tokens already, and the table holds zeros, though both"
            " are added up before anything else",
            "the output",
            ("positions-restart", "positions-off-by-one", "positions-on-values-only"),
            "three tokens",
            lambda given: {
                "texts": [given["texts"][0] + given["positions"]],
                "positions": np.zeros_like(given["positions"]),
            },
            _same,
        ),
        Property(
            "without positions, when the first two tokens change places, the last row changes",
            "the last row",
            ("cache-order",),
            "three tokens",
            lambda given: {"texts": [_exchanged(given["texts"][0])]},
            lambda before, after, given: (before[-1], after[-1]),
            begins=lambda given: {"positions": np.zeros_like(given["positions"])},
        ),
        Property(
            "where all tokens are alike and there are no positions, rows differ, though an average of equal"
            " values is the same",
            "the rows",
            ("softmax-not-normalised", "softmax-mean"),
            "three tokens",
            _nothing,
            lambda before, after, given: (_alike(after), after),
            begins=lambda given: {"texts": [_alike(given["texts"][0])], "positions": np.zeros_like(given["positions"])},
        ),
    ),
    "rotary": (
        Property(
            "the row at place 0 is changed, though its angles are 0",
            "the first row",
            ("rotary-from-one", "rotary-sine-cosine", "rotary-woven"),
            "three tokens of width four",
            _nothing,
            lambda before, after, given: (given["x"][..., 0, :], after[..., 0, :]),
            asked=_turns,
        ),
        Property(
            "a row is longer or shorter than before, though turning keeps lengths",
            "the sum of the squares of each row",
            ("rotary-no-minus", "rotary-added"),
            "three tokens of width four",
            _nothing,
            lambda before, after, given: ((given["x"] ** 2).sum(-1), (after**2).sum(-1)),
            asked=_turns,
        ),
        Property(
            "without the first token, and with offset = 1, the others are turned in another way",
            "the rows of the others",
            ("rotary-offset",),
            "three tokens of width four",
            lambda given: {"x": given["x"][..., 1:, :], "offset": 1},
            lambda before, after, given: (before[..., 1:, :], after),
            asked=_turns,
        ),
        Property(
            "where all values are 1, the output is not, though it is their average",
            "the output",
            ("rotary-on-values", "rotary-on-output"),
            "three tokens of width four",
            _nothing,
            _all(1),
            begins=_each(_ones, "value"),
            asked=_attends,
        ),
    ),
    "sinusoidal": (
        Property(
            "the squares of a row do not sum to d_model / 2, though sin² + cos² = 1",
            "the sum of the squares of each row",
            ("sinusoidal-own-frequency", "sinusoidal-sines-only"),
            "3 places, width 4",
            _nothing,
            _squares(2),
        ),
        Property(
            "a longer table begins with other rows",
            "the first rows",
            ("positions-reversed",),
            "3 places, width 4",
            _to(length=5),
            lambda before, after, given: (before, after[:3]),
        ),
    ),
    "online_softmax": (
        Property(
            "with blocks of another size the output is another one",
            "the output",
            ("online-nothing-scaled", "online-mean-of-blocks"),
            "three columns, one at a time",
            _to(block=3),
            _same,
        ),
        Property(
            "when only the last row of scores changes, the others change, too",
            "the other rows",
            ("softmax-over-queries",),
            "three columns, one at a time",
            _each(_last, "scores"),
            _first_rows,
        ),
        Property(
            "where all values are 1, the output is not, though it is their average",
            "the output",
            ("online-not-divided", "online-sum-kept"),
            "three columns, one at a time",
            _nothing,
            _all(1),
            begins=_each(_ones, "values"),
        ),
        Property(
            "when 1 is added to all scores, the output changes",
            "the output",
            ("online-extra-column",),
            "three columns, one at a time",
            _each(lambda x: x + 1, "scores"),
            _same,
        ),
    ),
    "layer_norm": (
        Property(
            "when only the last row changes, the others change, too",
            "the other rows",
            ("norm-over-tokens", "norm-over-all"),
            "three tokens of width three",
            _each(_last, "x"),
            _first_rows,
        ),
        Property(
            "where gamma is 0, the answer is not beta",
            "the answer",
            ("norm-affine-order", "norm-gamma-beta-exchanged"),
            "three tokens of width three",
            _nothing,
            lambda before, after, given: (np.broadcast_to(given["beta"], after.shape), after),
            begins=_each(np.zeros_like, "gamma"),
        ),
        Property(
            "with gamma 1 and beta 0 the mean of a row is not 0",
            "the mean of each row",
            ("norm-not-centred", "norm-median"),
            "three tokens of width three",
            _nothing,
            lambda before, after, given: (np.zeros(after.shape[:-1]), after.mean(-1)),
            begins=_to(gamma=np.ones(3), beta=np.zeros(3)),
        ),
        Property(
            "with gamma 1 and beta 0 the mean of the squares of a row is not 1",
            "the mean of the squares of each row",
            ("norm-unbiased", "norm-variance"),
            "three tokens of width three",
            _nothing,
            lambda before, after, given: (np.ones(after.shape[:-1]), (after**2).mean(-1)),
            begins=_to(gamma=np.ones(3), beta=np.zeros(3)),
        ),
    ),
    "encoder_layer": (_normed_rows("three tokens"), _size_forgotten("three tokens")),
    "decoder_layer": (
        Property(
            "when only the last token changes, earlier rows change, too",
            "the earlier rows",
            ("mask-ignored", "self-from-memory", "decoder-inputs-exchanged"),
            "three tokens",
            _each(_last, "x"),
            _first_rows,
        ),
        _normed_rows("three tokens"),
        _size_forgotten("three tokens"),
        Property(
            "when two tokens of the memory change places, the answer changes",
            "the answer",
            ("cross-causal", "cross-exchanged"),
            "three tokens",
            _each(_exchanged, "memory"),
            _same,
        ),
    ),
    "greedy_search": (
        Property(
            "the answer begins with the start token, which the model did not choose",
            "the tokens",
            ("greedy-keeps-start", "greedy-keeps-both"),
            "a model that counts",
            _nothing,
            lambda before, after, given: (after[1:] if len(after) and after[0] == given["start"] else after, after),
        ),
        Property(
            "the end token stands in the answer",
            "the tokens",
            ("greedy-keeps-end", "greedy-never-ends"),
            "a model that counts",
            _nothing,
            lambda before, after, given: (after[after != given["end"]], after),
        ),
        Property(
            "where no end comes, the answer has not max_length tokens",
            "the number of tokens",
            ("greedy-one-less", "greedy-one-more"),
            "a model that counts to no end",
            _nothing,
            lambda before, after, given: (np.array(float(given["max_length"])), np.array(float(len(after)))),
        ),
        Property(
            "the first token is not the likeliest after the start",
            "the first token",
            ("greedy-least", "greedy-second"),
            "a model that counts",
            _nothing,
            lambda before, after, given: (np.array([float(np.argmax([*given.values()][-1]))]), after[:1]),
        ),
    ),
    "softmax_backward": (
        Property(
            "when only the last row of grad changes, the others change, too",
            "the other rows",
            ("backward-axis",),
            "three rows",
            _each(_last, "grad"),
            _first_rows,
        ),
        Property(
            "the gradients of a row do not sum to 0, though a softmax stays when all scores of a row grow alike",
            "the sum of each row",
            ("backward-no-sum", "backward-plus", "backward-mean"),
            "three rows",
            _nothing,
            _sums(0),
        ),
        Property(
            "when 1 is added to all of grad, the answer changes, though the weights of a row always sum to 1",
            "the answer",
            ("backward-no-sum", "backward-plus"),
            "three rows",
            _each(lambda x: x + 1, "grad"),
            _same,
        ),
        Property(
            "when grad is doubled, the answer is not doubled",
            "the answer",
            ("backward-exchanged", "backward-cross-entropy"),
            "three rows",
            _each(lambda x: 2 * x, "grad"),
            lambda before, after, given: (2 * before, after),
        ),
    ),
}
