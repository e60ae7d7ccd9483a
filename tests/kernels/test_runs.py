"""What is left of a mask, run by run, is the mask."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlib import masks
from attnlib.kernels import runs as of_runs
from attnlib.kernels.runs import moves_along, of_example, runs_of, starts
from attnlib.scores import Scores
from tests.random_masks import expressions

B, H = 2, 3


def states(runs):
    """Return runs as one letter a key: ■ open, · closed, ? to be looked at."""
    letters, start = "", 0
    for stop, rest in runs:
        letters += ("?" if isinstance(rest, masks.Mask) else "·■"[rest]) * (stop - start)
        start = stop
    return letters


@given(st.data(), st.integers(1, 23), st.integers(1, 19))
def test_what_is_left_of_a_mask_decides_as_the_mask_does(data, L, S):
    mask, allowed = data.draw(expressions(B, H, L, S))
    allowed = np.broadcast_to(allowed, (B, H, L, S))
    start, stop = sorted(data.draw(st.lists(st.integers(0, L), min_size=2, max_size=2, unique=True)))
    examples = [(of_example(mask, b), slice(b, b + 1)) for b in range(B)]
    for part, batch in [*examples, (mask, slice(0, B))]:
        runs = runs_of(part, L, S)(start, stop)
        assert runs[-1][0] == S
        first = 0
        for last, rest in runs:
            assert first < last
            tile = torch.from_numpy(allowed[batch, :, start:stop, first:last].copy())
            if isinstance(rest, masks.Mask):
                shape = (len(tile), H, L, S)
                found = Scores(shape, torch.device("cpu"), rest).allowed((start, stop), (first, last))
                assert torch.equal(found.expand(tile.shape), tile)
            else:
                assert (tile == rest).all()
            first = last


@pytest.mark.parametrize(
    ("mask", "block", "expected"),
    [
        (masks.causal(), (2, 5), "■■■??···"),
        (masks.causal(), (4, 5), "■■■■■···"),
        (~masks.causal(), (2, 5), "···??■■■"),
        (masks.sliding_window(4), (3, 5), "?■■■■■■?"),
        (masks.sliding_window(2), (2, 6), "·??????·"),
        (masks.sliding_window(3) & masks.causal(), (3, 5), "·?■■?···"),
        (masks.prefix(2) | masks.causal(), (0, 4), "■■??····"),
        (masks.padding([5]), (0, 8), "■■■■■···"),
        (masks.padding([3, 5]), (0, 8), "■■■??···"),
        (~masks.padding([3, 5]) & masks.causal(), (5, 6), "···??■··"),
        (masks.documents([[1, 1, 1, 1, 1, 2, 2, 2]] * 2), (1, 4), "????????"),
        (masks.documents([1, 1, 1, 1, 1, 2, 2, 2]), (1, 4), "■■■■■···"),
        (masks.documents([1, 1, 1, 1, 1, 2, 2, 2]), (4, 6), "????????"),
        (masks.documents([1, 1, 2, 2, 1, 1, 3, 3]) & masks.causal(), (4, 6), "■■··■?··"),
        (masks.from_tensor(torch.ones(8, 8, dtype=torch.bool)), (0, 8), "????????"),
        (masks.from_tensor(torch.ones(8, 8, dtype=torch.bool)) & masks.prefix(3), (0, 8), "???·····"),
    ],
)
def test_a_mask_tells_what_it_knows_and_no_more(mask, block, expected):
    assert states(runs_of(mask, 8, 8)(*block)) == expected


def test_what_is_left_inside_a_document_is_the_causal_mask_alone():
    mask = masks.documents([1, 1, 1, 2, 2, 2]) & masks.causal()
    assert repr(runs_of(mask, 6, 6)(3, 6)) == "[(3, False), (4, True), (6, Causal())]"


def test_documents_in_shreds_are_not_told_apart():
    """Else the runs of each block would be as many as the keys."""
    ids = torch.arange(128) % 2
    mask = masks.documents(ids)
    assert runs_of(mask, 128, 128)(0, 1) == [(128, mask)]
    assert states(runs_of(masks.documents(ids.sort().values), 128, 128)(0, 1)) == "■" * 64 + "·" * 64


def test_blocks_should_begin_where_documents_do():
    mask = ~(masks.documents([1, 1, 1, 2, 2]) & masks.causal()) | masks.documents([1, 2, 2, 2, 2])
    assert starts(mask, 5, 5) == {0, 1, 3}
    assert starts(masks.documents([1, 1, 1, 2, 2]), 3, 5) == {-2, 1}


def test_only_masks_of_the_distance_say_so():
    distance = masks.causal() & ~masks.sliding_window(3)
    assert moves_along(distance)
    for other in (masks.padding([3]), masks.documents([1]), masks.prefix(1), masks.from_tensor(torch.ones(1, 1) > 0)):
        assert not moves_along(other)
        assert not moves_along(distance | other)
        assert not moves_along(~other)


def test_an_example_of_a_mask_is_the_mask_of_that_example():
    mask = (
        masks.padding([3, 1])
        | ~masks.documents([[1, 2, 2], [1, 1, 2]])
        | masks.from_tensor(torch.tensor([[[True]], [[False]]]).expand(2, 1, 3)[:, None]) & masks.causal()
    )
    for b in range(2):
        assert torch.equal(of_example(mask, b).dense(3, 3), mask.dense(3, 3)[b : b + 1])
    shared = masks.documents([1, 2]), masks.from_tensor(torch.ones(1, 2, 2) > 0), masks.causal(), masks.padding([1])
    assert all(of_example(mask, 0) is mask for mask in shared)


@given(st.lists(st.tuples(st.integers(-3, 9), st.integers(-3, 12), st.booleans()), max_size=4), st.integers(0, 9))
def test_runs_cover_all_keys_once(given_spans, S):
    expected, end = [False] * S, 0
    for start, stop, rest in given_spans:
        for key in range(max(start, end), min(stop, S)):
            expected[key] = rest
        end = max(end, min(stop, S)) if max(start, end) < min(stop, S) else end
    runs = of_runs.from_spans(S, given_spans)
    assert states(runs) == "".join("·■"[e] for e in expected)
    assert all(a[1] is not b[1] for a, b in itertools.pairwise(runs))


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([True, False, None])), max_size=8), st.integers(1, 12))
def test_spans_hold_all_keys_that_may_be_open_and_no_wide_gap(given_runs, gap):
    """``None`` stands for a mask."""
    letters = "".join({True: "■", False: "·", None: "?"}[rest] * width for width, rest in given_runs)
    stops = itertools.accumulate(width for width, _ in given_runs)
    runs = [(stop, rest) for stop, (_, rest) in zip(stops, given_runs, strict=True)]
    assert of_runs.count_full(runs) == letters.count("■")
    found = of_runs.open_spans(runs, gap)
    kept = set(itertools.chain.from_iterable(range(*span) for span in found))
    may_be_open = {key for key, letter in enumerate(letters) if letter != "·"}
    assert may_be_open <= kept
    assert {start for start, _ in found} | {stop - 1 for _, stop in found} <= may_be_open
    assert all(later - stop >= gap for (_, stop), (later, _) in itertools.pairwise(found))
    assert not any("·" * gap in letters[start:stop] for start, stop in found)


def test_keys_that_are_real_in_all_examples_are_full_and_those_in_none_empty():
    real = torch.tensor([[0, 0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    mask = masks.keys(real)
    assert runs_of(mask, 3, 7)(0, 3) == [(1, False), (2, mask), (4, True), (5, mask), (7, False)]
    assert runs_of(of_example(mask, 1), 3, 7)(0, 3) == [(1, False), (4, True), (7, False)]
    scattered = masks.keys(torch.arange(2000)[None] % 2 == 0)  # too many runs to be told apart
    assert runs_of(scattered, 3, 2000)(0, 3) == [(2000, scattered)]
