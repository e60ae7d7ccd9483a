"""A mask function of Transformers is read as the mask that it is: its own dense form is the oracle."""

import pytest
import torch

pytest.importorskip("transformers")

from transformers import masking_utils as theirs

from attnlib.interop import huggingface
from attnlib.interop.huggingface.carrier import StructuredMask
from attnlib.interop.huggingface.masks import make_mask
from attnlib.kernels.choice import choose
from attnlib.kernels.plan import plan
from attnlib.scores import Scores
from tests.interop.architectures import ARCHITECTURES, VOCABULARY

B = 3
WINDOW, CHUNK = 4, 3


def given(function, L, S, *, q_offset=0, kv_offset=0, padding=None, **more):
    """Return what Transformers calls a mask function with."""
    looks_both_ways = function is theirs.bidirectional_mask_function
    skips = {"allow_is_causal_skip": not looks_both_ways}
    if looks_both_ways:
        skips["allow_is_bidirectional_skip"] = True
    sizes = {"batch_size": B, "q_length": L, "kv_length": S, "q_offset": q_offset, "kv_offset": kv_offset}
    others = {"dtype": torch.float32, "config": None, "use_vmap": False, "device": torch.device("cpu")}
    return {**sizes, **others, **skips, "mask_function": function, "attention_mask": padding, **more}


def dense(arguments):
    """Return the bool mask of Transformers, (B, 1, L, S)."""
    never = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    return theirs.sdpa_mask(**{**arguments, **never})


def assert_reads_as_it_is(arguments):
    """Hold that the structure opens what the function opens, and that the keys beyond are all closed."""
    mask, expected = make_mask(**arguments), dense(arguments)
    assert isinstance(mask, StructuredMask)
    assert mask.shape == expected.shape
    assert not expected[..., mask.keys :].any()
    expected = expected[..., : mask.keys]
    if mask.structure is None:
        assert expected.all()
    else:
        assert torch.equal(mask.structure.dense(*expected.shape[-2:]).expand_as(expected), expected)
    return mask


def image_ids(S):
    ids = torch.full((B, S), -1)
    ids[0, 2:5], ids[0, 7:9], ids[1, 0:3] = 0, 1, 0
    return ids


CAUSAL = {
    "causal": lambda S: theirs.causal_mask_function,
    "window": lambda S: theirs.sliding_window_causal_mask_function(WINDOW),
    "chunks": lambda S: theirs.chunked_causal_mask_function(CHUNK, torch.tensor([0, 2, 1])),
    "chunks alike": lambda S: theirs.chunked_causal_mask_function(CHUNK, torch.zeros(B, dtype=torch.int64)),
}
NOT_CLOSED = {  # to a key after the query
    "window alone": lambda S: theirs.sliding_window_overlay(WINDOW),
    "near": lambda S: theirs.sliding_window_bidirectional_mask_function(WINDOW),
    "images": lambda S: theirs.or_masks(theirs.causal_mask_function, theirs.blockwise_overlay(image_ids(S))),
    "images and window": lambda S: theirs.or_masks(CAUSAL["window"](S), theirs.blockwise_overlay(image_ids(S))),
    "images alone": lambda S: theirs.blockwise_overlay(image_ids(S)),
}
KINDS = {**CAUSAL, **NOT_CLOSED}
PLACES = {  # L, S, q_offset, kv_offset
    "no cache": (11, 11, 0, 0),
    "one new token": (1, 11, 10, 0),
    "several": (4, 11, 7, 0),
    "a sliding cache": (2, 6, 9, 5),
}


def padding_of(kind, length):
    real = torch.ones(B, length, dtype=torch.bool)
    if kind == "left":
        real[0, :3], real[2, :1] = False, False
    if kind == "right":
        real[0, -3:], real[2, -1:] = False, False
    if kind == "holes":
        real[0, 1:length:3] = False
    return real


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("side", [None, "all real", "left", "right", "holes"])
def test_each_kind_at_each_place(kind, place, side):
    L, S, q_offset, kv_offset = PLACES[place]
    function = KINDS[kind](S + kv_offset)
    padding = None if side is None else padding_of(side, S + kv_offset)
    assert_reads_as_it_is(given(function, L, S, q_offset=q_offset, kv_offset=kv_offset, padding=padding))


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("offset", [5, torch.tensor(5)])
@pytest.mark.parametrize("seen", [7, 12])
def test_a_cache_with_room(kind, offset, seen):
    """Seven of twelve keys are written; the padding may say so, or may not."""
    mask = assert_reads_as_it_is(given(CAUSAL[kind](12), 2, 12, q_offset=offset, padding=padding_of("left", seen)))
    assert mask.keys == 7


@pytest.mark.parametrize("kind", NOT_CLOSED)
def test_a_cache_with_room_under_a_mask_that_looks_ahead_is_dense(kind):
    arguments = given(NOT_CLOSED[kind](12), 2, 12, q_offset=5)
    mask = make_mask(**arguments)
    assert torch.equal(mask == 0, dense(arguments))


@pytest.mark.parametrize("inner", [theirs.causal_mask_function, theirs.sliding_window_causal_mask_function(2)])
@pytest.mark.parametrize("alike", [True, False])
def test_packed_sequences(inner, alike):
    lengths = [[4, 5, 2]] * 3 if alike else [[4, 5, 2], [11], [1, 10]]
    places = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in lengths])
    ids = theirs.find_packed_sequence_indices(places)
    function = theirs.packed_sequence_compatibility_function(inner, places, ids)
    mask = assert_reads_as_it_is(given(function, 11, 11, allow_is_causal_skip=False))
    assert (len(mask.structure.shape(11, 11)) == 2) == alike  # planned once for all examples


def test_packed_chunks_are_dense():
    """Chunks are counted from each sequence's start, by positions that are no distances."""
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]] * B)
    ids = theirs.find_packed_sequence_indices(places)
    inner = theirs.chunked_causal_mask_function(CHUNK, torch.zeros(B, dtype=torch.int64))
    arguments = given(theirs.packed_sequence_compatibility_function(inner, places, ids), 9, 9)
    assert torch.equal(make_mask(**arguments) == 0, dense(arguments))


def test_bidirectional():
    arguments = given(theirs.bidirectional_mask_function, 4, 11)
    assert make_mask(**arguments) is None
    assert make_mask(**{**arguments, "attention_mask": padding_of("all real", 11)}) is None
    assert_reads_as_it_is({**arguments, "attention_mask": padding_of("right", 11)})
    # A cache with room: what the padding does not speak of is not real.
    assert_reads_as_it_is({**arguments, "attention_mask": padding_of("left", 7)})
    never = {**arguments, "allow_is_bidirectional_skip": False}  # the caller adds what he gets
    assert torch.equal(make_mask(**never), torch.zeros(B, 1, 4, 11))


def test_causal_is_never_none():
    """A model with attention of its own would lose causality; the caller with no shortcut gets numbers."""
    arguments = given(theirs.causal_mask_function, 11, 11)
    assert_reads_as_it_is(arguments)
    assert_reads_as_it_is(given(theirs.causal_mask_function, 1, 1))
    mask = make_mask(**{**arguments, "allow_is_causal_skip": False})
    assert torch.equal(mask == 0, dense(arguments))


@pytest.mark.parametrize("use_vmap", [True, False])
def test_a_function_of_the_users_own_is_dense(use_vmap):
    function = theirs.and_masks(theirs.causal_mask_function, lambda b, h, q, k: (q + k) % 3 != 0)
    arguments = given(function, 7, 7, use_vmap=use_vmap)
    assert torch.equal(make_mask(**arguments) == 0, dense(arguments))


def causal_mask_function(b, h, q, k):
    """Of somebody else, with a name of theirs."""
    return k >= q


def test_a_name_is_not_enough():
    arguments = given(causal_mask_function, 7, 7)
    assert torch.equal(make_mask(**arguments) == 0, dense(arguments))


def test_a_window_of_nothing_and_queries_beyond_the_keys_are_dense():
    for arguments in (
        given(theirs.sliding_window_causal_mask_function(0), 7, 7),
        given(theirs.causal_mask_function, 7, 7, q_offset=3),
    ):
        assert torch.equal(make_mask(**arguments) == 0, dense(arguments))


# ---------------------------------------------------------------------------------------------------------------------
# What the structure is good for


def computed(mask, L):
    """Return the share of all pairs that a plan computes, once the blockwise kernel has been chosen."""
    scores = Scores.of(mask.structure, None, (1, 4, L, L), torch.device("cpu"))
    assert choose(scores, readable=True).kernel == "blockwise"
    return sum(block.pairs for block in plan(mask.structure, L, L)) / L**2


def test_a_window_is_all_that_is_computed():
    function = theirs.sliding_window_causal_mask_function(128)
    mask = make_mask(**{**given(function, 4096, 4096), "batch_size": 1})
    assert computed(mask, 4096) < 0.06
    left = padding_of("left", 4096)[:1]
    assert computed(make_mask(**{**given(function, 4096, 4096, padding=left), "batch_size": 1}), 4096) < 0.07


def test_packed_sequences_are_all_that_is_computed():
    places = torch.arange(512).repeat(4)[None]
    ids = theirs.find_packed_sequence_indices(places)
    function = theirs.packed_sequence_compatibility_function(theirs.causal_mask_function, places, ids)
    arguments = {**given(function, 2048, 2048, allow_is_causal_skip=False), "batch_size": 1}
    assert computed(make_mask(**arguments), 2048) < 0.25


# ---------------------------------------------------------------------------------------------------------------------
# The tensor that carries it


@pytest.fixture
def mask():
    return make_mask(**given(theirs.causal_mask_function, 5, 7, q_offset=2, padding=padding_of("left", 7)))


def test_a_carrier_answers_what_is_asked_about_a_tensor(mask):
    assert isinstance(mask, torch.Tensor)
    assert mask.shape == mask.size() == (B, 1, 5, 7)
    assert (mask.dim(), mask.ndim, len(mask), mask.dtype, mask.device.type) == (4, 4, B, torch.bool, "cpu")
    assert repr(mask).startswith("StructuredMask(Both(left=Causal()")


@pytest.mark.parametrize("kept", [
    lambda m: m.to("cpu"), lambda m: m.clone(), lambda m: m.detach(), lambda m: m[:, :, -3:, :], lambda m: m[:, :, -3:],
    lambda m: m.to(torch.bool),
])  # fmt: skip
def test_what_changes_no_meaning_keeps_the_structure(mask, kept):
    found = kept(mask)
    assert isinstance(found, StructuredMask)
    L = found.shape[-2]
    assert torch.equal(found.structure.dense(L, found.keys), mask.structure.dense(5, 7)[:, :, -L:])


def test_numbers_on_request(mask):
    """generate() asks for them by contiguous(), beside a cache of a fixed size."""
    opened = mask.structure.dense(5, 7)
    for numbers, expected in ((mask.contiguous(), opened), (mask[:, :, -2:].contiguous(), opened[:, :, -2:])):
        assert type(numbers) is torch.Tensor
        assert torch.equal(numbers == 0, expected)


@pytest.mark.parametrize("worked_on", [
    lambda m: m + 1.0, lambda m: 1.0 - m, lambda m: ~m, lambda m: m.to(torch.float32), lambda m: m.float(),
    lambda m: torch.zeros(5, 7).masked_fill(m, 1.0), lambda m: torch.where(m, 0.0, 1.0), lambda m: m.all(),
    lambda m: bool(m), lambda m: m[:, :, :3], lambda m: m[:, :, 2:], lambda m: m[..., :3], lambda m: m[0],
    lambda m: m[:, :, -3:, :5], lambda m: m & m, lambda m: torch.cat([m, m]), lambda m: m.expand(B, 4, 5, 7),
    lambda m: m.mT, lambda m: m.data,
    lambda m: m.sum(), lambda m: m.tolist(), lambda m: m.numpy(), lambda m: m.view(B, 5, 7), lambda m: m.item(),
    lambda m: m.__setitem__(0, True), lambda m: m.masked_fill_(m, False), lambda m: m[m],
])  # fmt: skip
def test_whoever_computes_with_it_is_told(mask, worked_on):
    with pytest.raises(RuntimeError, match=r"this model computes with its mask itself \(Tensor\.\w+\), which attnlib"):
        worked_on(mask)


def test_a_model_of_packed_text_carries_documents():
    """From position_ids to the layer, with a window."""
    huggingface.register()
    model = next(row for row in ARCHITECTURES if row.name == "mistral").make("attnlib")
    seen = []
    handle = model.model.layers[0].self_attn.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    places = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])
    model(torch.randint(3, VOCABULARY, (1, 7)), position_ids=places, use_cache=False)
    handle.remove()
    assert isinstance(seen[0], StructuredMask)
    assert "Documents" in repr(seen[0].structure)
