"""Masks against boolean arrays written out by hand, or built pair by pair."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from attnlib import attention, masks
from tests.oracles import NoArithmetic
from tests.random_masks import KINDS, KINDS_WITH_A_SHAPE, Repeated, RepeatedFor, expressions, leaves
from tests.tolerances import assert_close

B, H, L, S = 2, 3, 5, 7


def bools(*shape):
    return torch.ones(shape, dtype=torch.bool)


def rows(mask, L, S):
    """Return a mask as strings, a row a query."""
    return ["".join("■" if open_ else "·" for open_ in row) for row in mask.dense(L, S).expand(L, S).tolist()]


def pair_by_pair(allowed, L, S):
    """Return the bools of ``allowed(query's position, key's position)``; the last query stands at the last key."""
    return torch.tensor([[bool(allowed(S - L + i, j)) for j in range(S)] for i in range(L)]).reshape(L, S)


# ---------------------------------------------------------------------------------------------------------------------
# Each mask


@pytest.mark.parametrize(
    ("L", "S", "expected"),
    [
        (4, 4, ["■···", "■■··", "■■■·", "■■■■"]),
        (2, 4, ["■■■·", "■■■■"]),
        (4, 2, ["··", "··", "■·", "■■"]),
        (1, 3, ["■■■"]),
    ],
)
def test_causal_aligns_the_last_query_with_the_last_key(L, S, expected):
    assert rows(masks.causal(), L, S) == expected


@pytest.mark.parametrize(
    ("size", "L", "S", "expected"),
    [
        (1, 3, 3, ["■··", "·■·", "··■"]),
        (2, 4, 4, ["■■··", "■■■·", "·■■■", "··■■"]),
        (2, 2, 5, ["··■■■", "···■■"]),
        (3, 4, 2, ["■·", "■■", "■■", "■■"]),
    ],
)
def test_sliding_window_opens_what_is_nearer_than_its_size(size, L, S, expected):
    assert rows(masks.sliding_window(size), L, S) == expected


def test_a_window_that_looks_back_only_holds_size_keys():
    back = masks.sliding_window(3) & masks.causal()
    assert rows(back, 5, 5) == ["■····", "■■···", "■■■··", "·■■■·", "··■■■"]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9))
def test_structured_masks_pair_by_pair(L, S, size, length):
    for mask, allowed in [
        (masks.causal(), lambda i, j: j <= i),
        (masks.sliding_window(size), lambda i, j: abs(i - j) < size),
        (masks.prefix(min(length, max(S, 1))), lambda i, j: j < length),
    ]:
        if S == 0 and isinstance(mask, masks.Prefix):
            continue
        assert torch.equal(mask.dense(L, S), pair_by_pair(allowed, L, S))


def test_an_uneven_window():
    assert rows(masks.sliding_window(3, ahead=1), 4, 6) == ["■■■■··", "·■■■■·", "··■■■■", "···■■■"]
    assert torch.equal(
        masks.sliding_window(3, ahead=0).dense(5, 7), (masks.sliding_window(3) & masks.causal()).dense(5, 7)
    )
    assert torch.equal(masks.sliding_window(3, ahead=2).dense(5, 7), masks.sliding_window(3).dense(5, 7))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8])
def test_keys_are_what_a_tokenizer_says(dtype):
    real = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 0, 1, 0, 0]], dtype=dtype)
    mask = masks.keys(real)
    assert mask.dense(2, 5).shape == (3, 1, 1, 5)
    assert torch.equal(mask.dense(2, 5)[:, 0, 0], real.bool())
    assert torch.equal(masks.keys(real[1:2]).dense(2, 5)[0, 0, 0], real[1].bool())
    real.zero_()  # a mask keeps what it was made of
    assert mask.dense(2, 5).any()


def test_keys_are_padding_where_the_filling_is_at_one_end():
    lengths, places = torch.tensor([3, 7, 0]), torch.arange(7)
    right, left = places < lengths[:, None], places >= 7 - lengths[:, None]
    assert torch.equal(masks.keys(right).dense(5, 7), masks.padding(lengths).dense(5, 7))
    assert torch.equal(masks.keys(left).dense(5, 7), (~masks.padding(7 - lengths)).dense(5, 7))


def test_documents_by_their_lengths():
    expected = masks.documents([0, 0, 0, 1, 3, 3]).dense(4, 6)
    assert torch.equal(masks.documents(lengths=[3, 1, 0, 2]).dense(4, 6), expected)
    cumulative = torch.tensor([0, 3, 4, 4, 6], dtype=torch.int32)
    assert torch.equal(masks.documents(lengths=cumulative.diff()).dense(4, 6), expected)


def test_padding_closes_columns_not_rows():
    dense = masks.padding([7, 3]).dense(L, S)
    assert dense.shape == (B, 1, 1, S)
    assert dense[:, 0, 0].int().tolist() == [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]]


WHOLE = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]


@pytest.mark.parametrize("lengths", [[7, 0], (7, 0), *(np.array([7, 0], dtype) for dtype in WHOLE)])
def test_padding_takes_every_kind_of_whole_numbers(lengths):
    for given_lengths in (lengths, torch.as_tensor(lengths)):
        assert masks.padding(given_lengths).dense(L, S).sum(-1).flatten().tolist() == [7, 0]
        with pytest.raises(ValueError, match="lengths: expected at most S=3 keys, got a length of 7"):
            masks.padding(given_lengths).shape(L, 3)


@pytest.mark.parametrize("dtype", WHOLE)
def test_documents_take_every_kind_of_whole_numbers(dtype):
    assert rows(masks.documents(np.array([4, 4, 9], dtype)), 3, 3) == ["■■·", "■■·", "··■"]


@pytest.mark.parametrize("dtype", WHOLE)
def test_lengths_of_documents_are_whole_numbers_of_every_kind(dtype):
    lengths = torch.as_tensor(np.array([2, 0, 1], dtype))
    assert rows(masks.documents(lengths=lengths), 3, 3) == ["■■·", "■■·", "··■"]


def test_documents_see_only_themselves():
    assert rows(masks.documents([4, 4, 9, 4]), 4, 4) == ["■■·■", "■■·■", "··■·", "■■·■"]


def test_with_fewer_queries_than_keys_the_queries_are_the_last_of_the_row():
    assert rows(masks.documents([1, 1, 2, 1]), 2, 4) == ["··■·", "■■·■"]


def test_documents_packed_differently_in_each_example():
    dense = masks.documents([[1, 1, 2], [1, 2, 2]]).dense(2, 3)
    assert dense.shape == (2, 1, 2, 3)
    assert dense.int().tolist() == [[[[1, 1, 0], [0, 0, 1]]], [[[0, 1, 1], [0, 1, 1]]]]


def test_prefix_or_causal_is_the_prefix_language_models_mask():
    assert rows(masks.prefix(2) | masks.causal(), 4, 4) == ["■■··", "■■··", "■■■·", "■■■■"]


@pytest.mark.parametrize(
    ("given_shape", "dense_shape"),
    [
        ((L, S), (L, S)),
        ((B, L, S), (B, 1, L, S)),
        ((B, H, L, S), (B, H, L, S)),
        ((1, H, 1, S), (1, H, 1, S)),
        ((B, 1, L, 1), (B, 1, L, 1)),
    ],
)
def test_from_tensor_names_the_head_axis_that_was_left_out(given_shape, dense_shape):
    tensor = torch.rand(given_shape) < 0.5
    mask = masks.from_tensor(tensor)
    assert mask.shape(L, S) == dense_shape
    assert torch.equal(mask.dense(L, S), tensor.reshape(dense_shape))


def test_shape_is_that_of_dense():
    for mask in EVERY_MASK.values():
        assert mask.shape(L, S) == mask.dense(L, S).shape


def test_dense_is_a_bool_tensor_on_the_device_asked_for():
    for mask in EVERY_MASK.values():
        assert mask.dense(L, S).dtype == torch.bool
        assert mask.dense(L, S, "meta").device.type == "meta"


def test_masks_pickle():
    for mask in EVERY_MASK.values():
        assert torch.equal(pickle.loads(pickle.dumps(mask)).dense(L, S), mask.dense(L, S))


def test_masks_say_what_they_are():
    assert (
        repr(masks.sliding_window(2) & ~masks.causal())
        == "Both(left=SlidingWindow(size=2, ahead=1), right=Not(mask=Causal()))"
    )


EVERY_MASK = {
    "causal": masks.causal(),
    "window": masks.sliding_window(3),
    "padding": masks.padding([7, 3]),
    "padding, alike for all": masks.padding([3]),
    "documents": masks.documents([1, 1, 1, 2, 2, 3, 3]),
    "documents, alike for all": masks.documents([[1, 1, 1, 2, 2, 3, 3]]),
    "documents of each example": masks.documents([[1, 1, 1, 2, 2, 3, 3], [1, 2, 2, 2, 2, 2, 3]]),
    "prefix": masks.prefix(2),
    "pairs": masks.from_tensor(torch.arange(L * S).reshape(L, S) % 3 > 0),
    "pairs of each example": masks.from_tensor(torch.arange(B * L * S).reshape(B, L, S) % 5 > 1),
    "pairs of each head": masks.from_tensor(torch.arange(H * S).reshape(1, H, 1, S) % 4 > 0),
    "own": RepeatedFor(torch.arange(2 * 3 * 5 * 2).reshape(2, 3, 5, 2) % 7 > 1, B, H),
    "own, alike for all": Repeated(torch.arange(5 * 2).reshape(1, 1, 5, 2) % 3 > 0),
    "not": ~masks.padding([7, 3]),
    "combined": masks.causal() & masks.padding([7, 3]) | ~masks.prefix(4),
}


# ---------------------------------------------------------------------------------------------------------------------
# Algebra


@settings(max_examples=100)
@given(st.data(), st.integers(1, 11), st.integers(1, 13))
def test_the_algebra_of_masks_is_the_algebra_of_their_dense_forms(data, L, S):
    mask, array = data.draw(expressions(B, H, L, S, kinds=KINDS_WITH_A_SHAPE))
    dense = mask.dense(L, S)
    assert mask.shape(L, S) == dense.shape == array.shape
    np.testing.assert_array_equal(dense.numpy(), array)


@pytest.mark.parametrize("combine", [lambda m: m and m, lambda m: m or m, lambda m: not m])
def test_and_or_not_are_refused(combine):
    with pytest.raises(TypeError, match=r"neither true nor false.*&, \| and ~"):
        combine(masks.causal())


COMBINE = [
    lambda m, other: m & other,
    lambda m, other: m | other,
    lambda m, other: other & m,
    lambda m, other: other | m,
]


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (True, "unsupported operand"),
        (None, "unsupported operand"),
        (3, "unsupported operand"),
        (torch.ones(L, S, dtype=torch.bool), r"masks combine with masks only: .*masks\.from_tensor\(tensor\)"),
        (masks.causal, r"masks combine with masks only, got the function causal; call it, as in masks\.causal\(\)"),
    ],
)
def test_masks_combine_with_masks_only(combine, other, message):
    with pytest.raises(TypeError, match=message):
        combine(masks.causal(), other)


class EvenKeys(masks.Mask):
    def allows(self, b, h, q, k):
        return k % 2 == 0


class OneKeyOfEachExample(masks.Mask):
    def allows(self, b, h, q, k):
        return (k == b) & (h == 0)


def test_a_mask_of_ones_own_needs_one_method():
    assert rows(EvenKeys() & masks.causal(), 3, 3) == ["■··", "■··", "■·■"]
    assert rows(EvenKeys(), 2, 3) == ["■·■", "■·■"]


@pytest.mark.parametrize("mask", [OneKeyOfEachExample(), OneKeyOfEachExample() & masks.padding([3, 2])])
def test_a_mask_of_ones_own_that_looks_at_the_example_must_say_how_many_there_are(mask):
    with pytest.raises(ValueError, match=r"expected a method shape\(self, L, S\)"):
        mask.dense(3, 3)


@pytest.mark.parametrize(("B", "H"), [(1, 1), (1, 3), (2, 1)])
def test_a_mask_of_ones_own_for_one_example_or_one_head_has_a_dense_form(B, H):
    mask = RepeatedFor(torch.tensor([True, False, False, True, True, False] * 2).reshape(2, 3, 1, 2), B, H)
    for combined in (mask, ~mask, mask & masks.causal()):
        assert combined.dense(L, S).shape == combined.shape(L, S)
    np.testing.assert_array_equal(mask.dense(L, S).numpy(), mask.array(B, H, L, S))


def test_a_mask_of_ones_own_for_one_example_serves_any_batch():
    x = torch.randn(3, H, S, 11)
    mask = RepeatedFor(torch.arange(2 * 5 * 2).reshape(2, 1, 5, 2) % 3 > 0, 1, H)
    assert_close(attention(x, x, x, mask)[2:], attention(x[2:], x[2:], x[2:], mask))


def test_a_mask_of_ones_own_must_be_bool_and_must_be_defined():
    class Numbers(masks.Mask):
        def allows(self, b, h, q, k):
            return k - q

    with pytest.raises(TypeError, match=r"Numbers.allows: expected a bool tensor, got torch.int64"):
        Numbers().dense(2, 2)
    with pytest.raises(NotImplementedError, match=r"Mask: expected a method allows\(self, b, h, q, k\)"):
        masks.Mask().dense(2, 2)


# ---------------------------------------------------------------------------------------------------------------------
# Pair by pair: the four arguments are FlexAttention's


def positions(L, S, device=None):
    """Return the examples, heads, queries and keys as tensors that broadcast to (B, H, L, S)."""
    b, h = torch.arange(B, device=device).view(B, 1, 1, 1), torch.arange(H, device=device).view(H, 1, 1)
    return b, h, torch.arange(S - L, S, device=device).view(L, 1), torch.arange(S, device=device)


def pair_by_pair_under_vmap(mask, L, S):
    """Return ``mask.allows`` of scalars, as FlexAttention calls a ``mask_mod``."""
    allows = mask.allows
    for axes in [(None, None, None, 0), (None, None, 0, None), (None, 0, None, None), (0, None, None, None)]:
        allows = torch.vmap(allows, in_dims=axes)
    return allows(*(at.flatten() for at in positions(L, S)))


@pytest.mark.parametrize(("L", "S"), [(5, 7), (7, 7), (1, 7)])
@pytest.mark.parametrize("name", [name for name in EVERY_MASK if not name.startswith("pairs")])
def test_allows_is_the_dense_form_pair_by_pair(name, L, S):
    mask = EVERY_MASK[name]
    dense = mask.dense(L, S).expand(B, H, L, S)
    assert torch.equal(mask.allows(*positions(L, S)).expand(B, H, L, S), dense)
    assert torch.equal(pair_by_pair_under_vmap(mask, L, S), dense)
    on_meta = mask.allows(*positions(L, S, "meta"))
    assert (on_meta.dtype, on_meta.device.type) == (torch.bool, "meta")
    assert on_meta.expand(B, H, L, S).shape == dense.shape


@settings(max_examples=100)
@given(st.data(), st.integers(1, 7), st.integers(2, 11))
def test_allows_of_any_mask_is_its_array_pair_by_pair(data, L, S):
    mask, array = data.draw(expressions(B, H, L, S))
    expected = torch.from_numpy(np.broadcast_to(array, (B, H, L, S)).copy())
    assert torch.equal(mask.allows(*positions(L, S)).expand(B, H, L, S), expected)
    assert torch.equal(pair_by_pair_under_vmap(mask, L, S), expected)
    assert mask.allows(*positions(L, S, "meta")).expand(B, H, L, S).is_meta
    b, h, q, k = positions(L, S)
    some = expected[:, :, -2:, 1::3]
    assert torch.equal(mask.allows(b, h, q[-2:], k[1::3]).expand(some.shape), some)


def mask_mod(mask, L, S):
    """Return a mask as FlexAttention takes it: its queries begin at 0, and of a method it would count the ``self``."""
    return lambda b, h, q, k: mask.allows(b, h, q + S - L, k)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=9)
@given(data=st.data(), L=st.integers(1, 7))
def test_flexattention_takes_each_kind_as_its_mask_mod(kind, data, L):
    S = 7
    mask, array = data.draw(leaves(B, H, L, S, kinds=[kind]))
    block_mask = create_block_mask(mask_mod(mask, L, S), B, H, L, S, device="cpu", BLOCK_SIZE=1)
    assert torch.equal(block_mask.to_dense().bool(), torch.from_numpy(np.broadcast_to(array, (B, H, L, S)).copy()))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", EVERY_MASK)
def test_flexattention_under_a_mask_equals_attention(name):
    mask, L, S = EVERY_MASK[name], 7 if name.startswith("documents") else 5, 7
    query, key, value = torch.randn(B, H, L, 11), torch.randn(B, H, S, 11), torch.randn(B, H, S, 13)
    block_mask = create_block_mask(mask_mod(mask, L, S), B, H, L, S, device="cpu", BLOCK_SIZE=4)
    assert_close(flex_attention(query, key, value, block_mask=block_mask), attention(query, key, value, mask))


def test_pairs_with_one_column_for_all_keys_do_not_know_where_their_rows_stand():
    mask = masks.from_tensor(torch.arange(B * L).reshape(B, 1, L, 1) % 3 > 0)
    assert mask.dense(L, S).shape == (B, 1, L, 1)
    with pytest.raises(
        ValueError, match=r"tensor: expected S columns, to know where the rows stand, got \(2, 1, 5, 1\)"
    ):
        mask.allows(*positions(L, S))


# ---------------------------------------------------------------------------------------------------------------------
# Errors


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: masks.sliding_window(0), ValueError, "size: expected at least 1, got 0"),
        (lambda: masks.sliding_window(2.0), TypeError, "size: expected a whole number, got float"),
        (lambda: masks.sliding_window(True), TypeError, "size: expected a whole number, got bool"),
        (lambda: masks.sliding_window(2, ahead=-1), ValueError, "ahead: expected at least 0, got -1"),
        (lambda: masks.sliding_window(2, ahead=0.5), TypeError, "ahead: expected a whole number, got float"),
        (lambda: masks.keys([[True]]), TypeError, "real: expected a tensor, got list"),
        (lambda: masks.keys(torch.ones(7).bool()), ValueError, r"real: expected \(B, S\), got \(7,\)"),
        (lambda: masks.keys(torch.ones(2, 7)), TypeError, r"real: expected bools, .* got torch.float32; use .bool\(\)"),
        (lambda: masks.keys(torch.tensor([[0, 2]])), ValueError, "real: expected numbers that are 0 or 1, got 0 to 2"),
        (lambda: masks.keys(torch.tensor([[1, -1]])), ValueError, "real: expected numbers .*, got -1 to 1"),
        (lambda: masks.documents(), ValueError, "ids: expected either ids or lengths, got neither"),
        (lambda: masks.documents([1], lengths=[1]), ValueError, "ids: expected either ids or lengths, got both"),
        (lambda: masks.documents(lengths=[[1]]), ValueError, r"lengths: expected one .* document, got \(1, 1\)"),
        (lambda: masks.documents(lengths=[2, -1]), ValueError, "lengths: expected lengths of at least 0, got -1"),
        (lambda: masks.documents(lengths=[0.5]), TypeError, "lengths: expected whole numbers, got torch.float32"),
        (lambda: masks.prefix(0), ValueError, "length: expected at least 1, got 0"),
        (lambda: masks.prefix("2"), TypeError, "length: expected a whole number, got str"),
        (lambda: masks.padding([2, -1]), ValueError, "lengths: expected lengths of at least 0, got -1"),
        (lambda: masks.padding([2.0, 1.5]), TypeError, "lengths: expected whole numbers, got torch.float32"),
        (lambda: masks.padding([True, False]), TypeError, "lengths: expected whole numbers, got torch.bool"),
        (
            lambda: masks.padding(torch.ones(2, 7) > 0),
            TypeError,
            r"lengths: expected whole numbers, got torch.bool; for a mask of keys .* use masks.keys\(",
        ),
        (lambda: masks.padding(torch.ones(2, 7).long()), ValueError, r"lengths: .*got \(2, 7\); for a mask of keys"),
        (lambda: masks.padding([1j]), TypeError, "lengths: expected whole numbers, got torch.complex64"),
        (lambda: masks.padding(3), ValueError, r"lengths: expected .* shape \(B,\), got \(\)"),
        (lambda: masks.padding([[3]]), ValueError, r"lengths: expected .* shape \(B,\), got \(1, 1\)"),
        (lambda: masks.documents(3), ValueError, r"ids: expected shape \(S,\) or \(B, S\), got \(\)"),
        (lambda: masks.documents([[[3]]]), ValueError, r"ids: expected shape .*, got \(1, 1, 1\)"),
        (lambda: masks.documents([0.5]), TypeError, "ids: expected whole numbers, got torch.float32"),
        (lambda: masks.from_tensor([[True]]), TypeError, "tensor: expected a Mask or a bool tensor, got list"),
        (lambda: masks.from_tensor(torch.ones(2, 2)), TypeError, "tensor: expected bool, got torch.float32.*bias="),
        (lambda: masks.from_tensor(torch.ones(2, 2).int()), TypeError, "tensor: expected bool .*got torch.int32"),
        (lambda: masks.from_tensor(torch.ones(2).bool()), ValueError, r"tensor: expected shape .*, got \(2,\)"),
        (
            lambda: masks.from_tensor(torch.ones((1,) * 5).bool()),
            ValueError,
            r"tensor: expected .*, got \(1, 1, 1, 1, 1\)",
        ),
    ],
)
def test_a_mask_that_cannot_be_is_refused_when_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


def true(*shape):
    return masks.from_tensor(torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (masks.padding([8, 3]), "lengths: expected at most S=7 keys, got a length of 8"),
        (masks.documents([1, 2, 3]), "ids: expected one id for each of S=7 keys, got 3"),
        (masks.documents(lengths=[2, 1]), "ids: expected one id for each of S=7 keys, got 3"),
        (masks.keys(torch.ones(2, 6).bool()), "real: expected one value for each of S=7 keys, got 6"),
        (masks.prefix(8), "length: expected a prefix of at most S=7 keys, got 8"),
        (true(L, 3), r"tensor: expected .* = \(…, 5, 7\), got \(5, 3\)"),
        (true(B, S), r"tensor: expected .*, got \(2, 7\); for a mask of keys, .* use masks.keys"),
        (true(1, S), r"tensor: expected .*, got \(1, 7\)"),
        (true(B, 1, S), r"tensor: expected .*, got \(2, 1, 7\)"),
        (true(B, H, 2, S), r"tensor: expected .*, got \(2, 3, 2, 7\)"),
        (masks.padding([1, 2]) & masks.padding([1, 2, 3]), r"masks of shape \(2, 1, 1, 7\) and \(3, 1, 1, 7\)"),
        (masks.causal() | ~masks.prefix(8), "length: expected"),
    ],
)
def test_a_mask_made_for_other_sizes_is_refused_when_used(mask, message):
    with NoArithmetic(), pytest.raises(ValueError, match=message):
        mask.dense(L, S)


def test_more_queries_than_documents_keys_are_refused():
    with pytest.raises(ValueError, match="ids: the queries are the last keys, so L must be at most S=7, got L=8"):
        masks.documents([1] * 7).dense(8, 7)


@pytest.mark.parametrize("sizes", [(-1, 3), (3, -1)])
def test_negative_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match=r"L, S: expected sizes of at least 0, got L=.*, S="):
        masks.causal().dense(*sizes)


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (0, 0)])
def test_empty_sizes_are_sizes(sizes):
    for mask in (masks.causal(), masks.sliding_window(2), masks.padding([0, 0])):
        assert mask.dense(*sizes).expand(2, 3, *sizes).shape == (2, 3, *sizes)


def test_a_bare_mask_is_no_mask():
    with pytest.raises(NotImplementedError):
        masks.Mask().dense(L, S)


def test_lengths_that_hold_no_numbers_are_believed():
    assert masks.padding(torch.empty(2, dtype=torch.long, device="meta")).shape(L, S) == (2, 1, 1, S)


def test_no_lengths_at_all_are_lengths_of_no_examples():
    assert masks.padding([]).dense(L, S).shape == (0, 1, 1, S)
    assert masks.documents([]).dense(0, 0).shape == (0, 0)


@pytest.mark.parametrize(
    ("left", "right", "shape"),
    [
        (bools(L, S), bools(B, H, L, S), (B, H, L, S)),
        (bools(B, L, S), bools(1, H, 1, S), (B, H, L, S)),
        (bools(1, H, L, 1), bools(L, S), (1, H, L, S)),
    ],
)
def test_combineds_broadcast(left, right, shape):
    mask = masks.from_tensor(left) & masks.from_tensor(right)
    assert mask.shape(L, S) == mask.dense(L, S).shape == shape


def test_a_mask_is_made_on_the_default_device():
    with torch.device("meta"):
        assert masks.causal().dense(L, S).device.type == "meta"


@pytest.mark.parametrize("size", [np.int64(2), torch.tensor(2)])
def test_a_size_may_be_any_whole_number(size):
    assert torch.equal(masks.sliding_window(size).dense(3, 3), masks.sliding_window(2).dense(3, 3))


def test_no_examples_are_no_error():
    assert masks.padding(torch.zeros(0, dtype=torch.long)).dense(L, S).shape == (0, 1, 1, S)


def test_lengths_of_a_trace_are_believed():
    """A fake tensor has a shape and no numbers."""
    with FakeTensorMode():
        assert masks.padding(torch.tensor([3, 9])).shape(L, S) == (2, 1, 1, S)


def test_a_size_may_be_left_open_in_an_exported_graph():
    class Window(torch.nn.Module):
        def forward(self, x):
            return masks.sliding_window(x.shape[0] // 2).dense(*x.shape)

    rows = torch.export.Dim("rows", min=4)
    program = torch.export.export(Window(), (torch.ones(6, 5),), dynamic_shapes=({0: rows},), strict=False)
    assert torch.equal(program.module()(torch.ones(8, 5)), masks.sliding_window(4).dense(8, 5))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_keys_leave_the_batch_open_in_an_exported_graph(dtype):
    class Attend(torch.nn.Module):
        def forward(self, x, real):
            return attention(x, x, x, masks.keys(real) & masks.causal())

    def drawn(batch, length):
        return torch.randn(batch, H, length, 5), (torch.rand(batch, length) < 0.6).to(dtype)

    batch, length = torch.export.Dim("batch", min=2), torch.export.Dim("length", min=2)
    shapes = ({0: batch, 2: length}, {0: batch, 1: length})
    program = torch.export.export(Attend(), drawn(3, 7), dynamic_shapes=shapes)
    other = drawn(2, 11)
    assert_close(program.module()(*other), Attend()(*other))


def test_a_mask_equals_itself_alone():
    """So that it can be the key of a dict, whatever tensors it holds."""
    ids, pairs = torch.tensor([0, 0, 1]), torch.ones(3, 3, dtype=torch.bool)
    kinds = [
        masks.causal, partial(masks.sliding_window, 2), partial(masks.padding, [3, 2]), partial(masks.documents, ids),
        partial(masks.keys, pairs), partial(masks.prefix, 2), partial(masks.from_tensor, pairs),
    ]  # fmt: skip
    for make in [*kinds, lambda: masks.causal() & masks.prefix(2), lambda: ~masks.causal()]:
        mask = make()
        assert {mask: 1}[mask] == 1
        assert mask != make()


FINAL = ["Causal", "SlidingWindow", "Padding", "Keys", "Documents", "Prefix", "FromTensor", "Both", "Either", "Not"]


@pytest.mark.parametrize("kind", [*FINAL, "LastKeys"])
def test_no_kind_of_mask_is_changed_by_a_subclass(kind):
    """The kernels know what it opens, and would not ask the subclass."""
    with pytest.raises(TypeError, match=f"Mine: expected no subclass of {kind}; make a subclass of Mask"):
        type("Mine", (getattr(masks, kind),), {})
