"""FlexAttention's block masks: equal to those that torch makes of the dense array."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from attnlib import attention, masks
from attnlib.interop.pytorch import block_mask
from attnlib.interop.pytorch.flex import mask_mod
from attnlib.masks import Mask
from tests.oracles import draw_qkv
from tests.random_masks import expressions
from tests.tolerances import assert_close

PARTS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
TRANSPOSED = ("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices")


def torchs(mask, B, H, L, S, size):
    """Of the mask asked pair by pair, by torch."""
    return create_block_mask(mask_mod(mask, L, S), B, H, L, S, device="cpu", BLOCK_SIZE=size)


def assert_equal(found, expected):
    assert isinstance(found, BlockMask)
    for name in (*PARTS, *TRANSPOSED):
        actual, wanted = getattr(found, name), getattr(expected, name)
        assert torch.equal(actual, wanted), name
        assert actual.dtype == wanted.dtype
        assert actual.stride() == wanted.stride()
    assert found.BLOCK_SIZE == expected.BLOCK_SIZE
    assert found.seq_lengths == expected.seq_lengths
    assert torch.equal(found.to_dense(), expected.to_dense())


MASKS = {
    "causal": masks.causal(),
    "window": masks.causal() & masks.sliding_window(29),
    "wide window": masks.sliding_window(70),
    "prefix": masks.prefix(45) | masks.causal(),
    "padding": masks.padding([301, 0, 17]) & masks.causal(),
    "packed": masks.documents(torch.arange(301) // 61) & masks.causal(),
    "packed, each in its own way": masks.documents(torch.stack([torch.arange(301) // n for n in (7, 61, 149)])),
    "of heads": masks.from_tensor(torch.arange(301).expand(1, 2, 1, 301) % torch.tensor([2, 90]).view(1, 2, 1, 1) > 0),
    "nobody": masks.causal() & ~masks.causal(),
    "everybody": masks.causal() | ~masks.causal(),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(("L", "size"), [(301, 16), (113, 32)])
def test_a_block_mask_equals_torchs(name, L, size):
    assert_equal(block_mask(MASKS[name], 3, 2, L, 301, block_size=size), torchs(MASKS[name], 3, 2, L, 301, size))


@given(st.data())
def test_a_block_mask_of_any_mask_equals_torchs(data):
    B, H, L, S, size = 2, 3, 11, 13, data.draw(st.integers(1, 14))
    mask, array = data.draw(expressions(B, H, L, S))
    dense = torch.from_numpy(array.copy()).expand(B, H, L, S)
    expected = create_block_mask(lambda b, h, q, k: dense[b, h, q, k], B, H, L, S, device="cpu", BLOCK_SIZE=size)
    assert_equal(block_mask(mask, B, H, L, S, block_size=size), expected)


def test_with_the_size_that_torch_takes_for_all_examples_and_heads():
    mask = masks.causal() & masks.sliding_window(100)
    assert_equal(block_mask(mask, None, None, 515, 640), torchs(mask, None, None, 515, 640, 128))
    assert_equal(block_mask(masks.causal(), 2, None, 1, 256), torchs(masks.causal(), 2, None, 1, 256, 128))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_computes_the_same_with_it():
    """The last query stands at the last key there too."""
    L, S = 37, 53
    query, key, value = draw_qkv(2, lengths=(L, S))
    mask = masks.causal() & masks.padding([53, 41])
    blocks = block_mask(mask, 2, None, L, S, block_size=16)
    assert_close(flex_attention(query, key, value, block_mask=blocks), attention(query, key, value, mask))


def test_the_dense_array_is_never_made(monkeypatch):
    """Of a causal mask, a row of blocks looks at two blocks at most, whatever the number of keys."""
    looked_at = []
    allows = masks.Causal.allows

    def counted(self, b, h, q, k):
        looked_at.append(torch.broadcast_shapes(q.shape, k.shape))
        return allows(self, b, h, q, k)

    monkeypatch.setattr(masks.Causal, "allows", counted)
    blocks = block_mask(masks.causal(), 4, 8, 4096, 5000)
    assert blocks.shape == (4, 8, 4096, 5000)
    assert len(looked_at) == 32
    assert max(shape[-2] * shape[-1] for shape in looked_at) <= 128 * 256


def test_where_tensors_are_made_on_another_device_by_default():
    mask = masks.padding([90, 3]) & masks.causal()
    expected = block_mask(mask, 2, 1, 90, 97, block_size=16)
    with torch.device("meta"):
        found = block_mask(mask, 2, 1, 90, 97, block_size=16, device="cpu")
        assert block_mask(mask, 2, 1, 90, 97).kv_indices.is_meta
    assert torch.equal(found.kv_indices, expected.kv_indices)


def test_a_mask_of_somebodys_own_needs_nothing_more():
    class Even(Mask):
        def allows(self, b, h, q, k):
            return (k % 2 == 0) & (k + 40 * b <= q)

    assert_equal(block_mask(Even(), 2, 1, 90, 97, block_size=16), torchs(Even(), 2, 1, 90, 97, 16))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: block_mask(torch.ones(2, 2) > 0, 1, 1, 2, 2), TypeError, "got Tensor; masks.from_tensor makes one"),
        (lambda: block_mask(None, 1, 1, 2, 2), TypeError, "mask: expected a Mask, got NoneType"),
        (lambda: block_mask(masks.causal(), 1.0, 1, 2, 2), TypeError, "B: expected a whole number"),
        (lambda: block_mask(masks.causal(), 1, 1, 0, 2), ValueError, "L: expected at least 1, got 0"),
        (lambda: block_mask(masks.causal(), 1, 1, 2, 2, block_size=0), ValueError, "block_size: expected at least 1"),
        (lambda: block_mask(masks.padding([1, 2]), 3, 1, 2, 2), ValueError, "made for 2 examples"),
        (lambda: block_mask(masks.documents([1, 2]), 1, 1, 2, 3), ValueError, "ids: expected one id for each"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
