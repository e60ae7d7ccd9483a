"""One call's mask and bias, checked once: what fits, what is refused, what a kernel is told."""

import pytest
import torch

from attnlib import masks
from attnlib.scores import Scores
from tests.oracles import B, H, L, S

CPU = torch.device("cpu")


def of(mask, shape):
    return Scores.of(mask, None, shape, CPU)


def bools(*shape):
    return torch.ones(shape, dtype=torch.bool)


@pytest.mark.parametrize(
    ("mask", "scores", "aligned"),
    [
        (bools(L, S), (L, S), (L, S)),
        (bools(L, S), (H, L, S), (1, L, S)),
        (bools(L, S), (B, H, L, S), (1, 1, L, S)),
        (bools(B, L, S), (B, H, L, S), (B, 1, L, S)),
        (bools(H, L, S), (H, L, S), (H, L, S)),
        (bools(B, 1, L, S), (B, H, L, S), (B, 1, L, S)),
        (bools(1, H, 1, 1), (B, H, L, S), (1, H, 1, 1)),
        (bools(11, B, L, S), (11, B, H, L, S), (11, B, 1, L, S)),
        (bools(11, B, 1, L, S), (11, B, H, L, S), (11, B, 1, L, S)),
        (masks.causal(), (L, S), (L, S)),
        (masks.causal(), (11, B, H, L, S), (1, 1, 1, L, S)),
        (masks.padding([7, 3]), (B, H, L, S), (B, 1, 1, S)),
        (masks.padding([3]), (L, S), (1, S)),
        (masks.padding([3]), (H, L, S), (1, 1, S)),
        (masks.from_tensor(bools(1, L, S)), (H, L, S), (1, L, S)),
        (masks.from_tensor(bools(1, H, L, S)), (H, L, S), (H, L, S)),
    ],
)
def test_a_mask_takes_the_axes_of_the_scores(mask, scores, aligned):
    assert of(mask, scores).allowed().shape == aligned


@pytest.mark.parametrize(
    ("mask", "scores"),
    [
        (bools(B, L, S), (L, S)),
        (bools(H, L, S), (B, H, L, S)),
        (bools(B, B, L, S), (B, H, L, S)),
        (bools(11, 1, 1, S), (B, H, L, S)),
        (bools(B, H, L, S), (H, L, S)),
        (bools(B, H, L, S), (11, B, H, L, S)),
        (masks.padding([7, 3]), (L, S)),
        (masks.padding([7, 3]), (H, L, S)),
        (masks.padding([7, 3, 1]), (B, H, L, S)),
        (masks.padding([7, 3]), (B, 11, H, L, S)),
        (masks.from_tensor(bools(B, H, L, S)), (B, 1, L, S)),
    ],
)
def test_a_mask_that_does_not_fit_the_scores_is_refused(mask, scores):
    with pytest.raises(ValueError, match=r"mask: expected shape \(L, S\) = \(5, 7\)") as error:
        of(mask, scores)
    assert ("or one that broadcasts to" in str(error.value)) == (len(scores) > 2)


@pytest.mark.parametrize(
    ("mask", "scores", "hint"),
    [
        (masks.padding([7, 3, 1]), (B, H, L, S), ": made for 3 examples beside a batch of 2"),
        (masks.causal() & masks.padding([7, 3, 1]), (B, H, L, S), ": made for 3 examples beside a batch of 2"),
        (masks.documents([list(range(S))] * 3), (B, H, L, S), ": made for 3 examples beside a batch of 2"),
        (masks.padding([7, 3]), (L, S), ": made for 2 examples"),
        (masks.from_tensor(bools(1, 11, 1, S)), (B, H, L, S), ""),
        (bools(11, 1, 1, S), (B, H, L, S), ""),
    ],
)
def test_a_mask_made_for_another_batch_says_so(mask, scores, hint):
    with pytest.raises(ValueError, match="mask: expected shape") as error:
        of(mask, scores)
    assert str(error.value).rpartition(")")[2] == hint


def test_a_mask_that_was_not_made_says_so():
    with pytest.raises(TypeError, match=r"mask: .*, got the function causal; call it, as in masks\.causal\(\)"):
        of(masks.causal, (L, S))


@pytest.mark.parametrize(
    "shape", [(), (S,), (1, S), (L, 1), (B, S), (S, L), (B, 1, S), (B, L, 1), (B, H, 2, S), (1, 1, L, 2)]
)
def test_a_tensor_without_whole_queries_and_keys_is_refused(shape):
    with pytest.raises(ValueError, match=r"mask: expected \(…, L, S\) = \(…, 5, 7\), got") as error:
        of(bools(*shape), (B, H, L, S))
    assert ("masks.keys(…)" in str(error.value)) == (len(shape) <= 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_tensor_that_is_not_bool_is_refused(dtype):
    with pytest.raises(TypeError, match="mask: expected bool"):
        of(torch.ones(L, S, dtype=dtype), (B, H, L, S))


def test_what_opens_every_pair_is_dropped_from_a_combination():
    padding = masks.padding([7, 3])
    assert of(padding & masks.causal() & masks.causal(), (B, H, 1, 7)).mask is padding
    assert of(masks.causal() & masks.causal(), (B, H, 1, 7)).mask is None
    for kept in (masks.causal() & padding, masks.causal() | padding, ~masks.causal()):
        rows = 2 if isinstance(kept, masks.Both) else 1
        assert of(kept, (B, H, rows, 7)).mask is kept


def test_what_was_checked_is_not_checked_again():
    """A stack makes one for all its layers; for other scores it is refused: a causal mask of one query was dropped."""
    made = of(masks.padding([7, 3]), (B, H, L, S))
    assert of(made, (B, H, L, S)) is made
    bias = torch.zeros(L, S)
    with_bias = Scores.of(made, bias, (B, H, L, S), CPU)
    assert with_bias.mask is made.mask
    assert with_bias.bias is bias
    with pytest.raises(ValueError, match=r"mask: expected scores of shape \(3, 3, 5, 7\) .*, got checked ones of \(2"):
        of(made, (3, H, L, S))


class Wrong(masks.Mask):
    def __init__(self, answer, shape=None):
        self.answer, self.given = answer, shape

    def allows(self, b, h, q, k):
        return self.answer(b, k)

    def shape(self, L, S):
        return self.given or (L, S)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (Wrong(lambda b, k: k), TypeError, "Wrong.allows: expected a bool tensor, got torch.int64"),
        (Wrong(lambda b, k: True), TypeError, "Wrong.allows: expected a bool tensor, got bool"),
        (Wrong(lambda b, k: torch.ones(1)[b] > k), IndexError, "out of bounds"),
        (Wrong(lambda b, k: k > 1, (B, S)), ValueError, r"Wrong.shape to return \(L, S\) or .*, got \(2, 7\)"),
    ],
)
def test_a_kind_of_ones_own_that_is_wrong_says_so_before_anything_is_written(mask, error, message):
    with pytest.raises(error, match=message):
        of(mask, (B, H, L, S))


def test_a_kind_that_kernels_know_has_no_subclass():
    with pytest.raises(TypeError, match="Strict: expected no subclass of Causal; make a subclass of Mask"):
        type("Strict", (masks.Causal,), {})


class OneKeyOfEachHead(masks.Mask):
    """Of one's own, without a shape: the scores say how many examples and heads there are."""

    def allows(self, b, h, q, k):
        return k == (3 * b + h) % S


@pytest.mark.parametrize("leading", [(), (H,), (B, H), (3, B, H)])
def test_a_kind_of_ones_own_is_told_the_example_and_the_head(leading):
    allowed = of(OneKeyOfEachHead(), (*leading, L, S)).allowed()
    assert allowed.dim() == len(leading) + 2
    heads = allowed.expand(*leading, L, S).reshape(-1, *leading[-1:], L, S)
    for b, example in enumerate(heads):
        for h, head in enumerate(example if leading else [example]):
            assert head.nonzero()[:, 1].tolist() == [(3 * b + h) % S] * L


def test_one_row_is_no_mask_of_a_plain_matrix():
    """(1, S) may be meant as a mask of keys; with one beside all axes of a batch there is no doubt."""
    with pytest.raises(ValueError, match=r"mask: expected \(…, L, S\) = \(…, 5, 7\), got \(1, 7\); for a mask of keys"):
        of(bools(1, S), (L, S))
