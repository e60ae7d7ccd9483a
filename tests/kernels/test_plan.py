"""How queries are cut into blocks, and which keys each is computed with."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlib import masks
from attnlib.kernels.plan import Block, Tile, plan
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from tests.random_masks import expressions


@given(st.data(), st.integers(1, 50), st.integers(1, 50))
def test_blocks_take_each_query_once_and_tiles_lie_apart(data, L, S):
    mask, _ = data.draw(expressions(1, 1, L, S))
    small = {"block": 8, "alike": 4, "smallest": 3, "long": 9, "gap": 2, "most_runs": 6}
    blocks = plan(mask, L, S, Sizes(**{name: data.draw(st.sampled_from([1, size])) for name, size in small.items()}))
    assert [0, *(block.stop for block in blocks)] == [*(block.start for block in blocks), L]
    assert all(block.start < block.stop for block in blocks)
    for block in blocks:
        edges = [edge for tile in block.tiles for edge in (tile.start, tile.stop)]
        assert edges == sorted(edges)
        assert all(0 <= tile.start < tile.stop <= S for tile in block.tiles)


def pairs(mask, L, S):
    return sum(block.pairs for block in plan(mask, L, S))


def test_what_is_computed_is_little_more_than_what_is_open():
    L = 4096
    window = masks.causal() & masks.sliding_window(256)
    packed = masks.documents(torch.arange(L) // 512) & masks.causal()
    for mask, most in ((window, 1.6), (packed, 1.3), (masks.causal(), 1.15), (masks.padding([1000]), 1.0)):
        open_pairs = int(mask.dense(L, L).expand(1, 1, L, L).sum())
        assert open_pairs <= pairs(mask, L, L) <= most * open_pairs


def test_work_grows_with_the_length_not_with_its_square():
    window = masks.causal() & masks.sliding_window(256)
    assert pairs(window, 65_536, 65_536) < 2.01 * pairs(window, 32_768, 32_768)


def test_what_needs_no_mask_gets_none():
    assert plan(None, 5000, 7) == [Block(0, 5000, (Tile(0, 7),))]
    assert plan(masks.padding([6]), 5000, 7) == [Block(0, 5000, (Tile(0, 6),))]
    assert plan(masks.padding([0]), 5000, 7) == [Block(0, 5000, ())]
    documents = masks.documents(torch.tensor([0] * 300 + [1] * 200))
    assert plan(documents, 500, 500) == [
        Block(0, 300, (Tile(0, 300),)),
        Block(300, 500, (Tile(300, 500),)),
    ]


def test_a_long_open_run_is_computed_without_a_mask():
    last = plan(masks.causal(), 4096, 4096)[-1]
    assert [bool(tile.partial) for tile in last.tiles] == [False, True]
    assert last.tiles[0].stop == last.start + 1


def test_no_rest_of_a_document_is_left_for_a_block_that_crosses_its_border():
    ends = [500, 1030]  # 500 = 3 · 128 + 116, 1030 − 500 = 4 · 128 + 18
    ids = torch.tensor([0] * 500 + [1] * 530 + [2] * 70)
    blocks = plan(masks.documents(ids) & masks.causal(), 1100, 1100)
    assert set(ends) < {block.stop for block in blocks}
    assert all(block.stop - block.start >= ON_A_CPU.smallest for block in blocks)


def test_a_plan_is_made_for_one_example():
    with pytest.raises(ValueError, match="mask: expected that of one example, got one of 2"):
        plan(masks.padding([3, 2]), 5, 7)


def test_short_documents_share_a_block():
    blocks = plan(masks.documents(torch.arange(640) // 10), 640, 640)
    assert len(blocks) <= 640 // 100


def test_runs_that_lie_near_are_computed_together():
    ids = torch.tensor(([0] * 100 + [1] * 10) * 5)
    blocks = plan(masks.documents(ids), 550, 550)
    assert all(len(block.tiles) == 1 for block in blocks)


def test_a_whole_row_of_keys_is_never_masked_for_all_queries_at_once():
    """Causal attention to a long past: the open keys need no mask, so the masks stay small."""
    largest = max(
        (block.stop - block.start) * (stop - start)
        for block in plan(masks.causal(), 65_536, 65_536)
        for tile in block.tiles
        for start, stop, _ in tile.partial
    )
    assert largest < 600**2


def test_blocks_grow_with_the_keys_that_they_meet():
    sizes = [block.stop - block.start for block in plan(masks.causal(), 8192, 8192)]
    assert sizes[0] == ON_A_CPU.block
    assert sizes[-2] == ON_A_CPU.largest
    assert sizes[:-1] == sorted(sizes[:-1])


def test_blocks_under_a_window_are_small_because_they_share_calls():
    window = masks.causal() & masks.sliding_window(256)
    sizes = [block.stop - block.start for block in plan(window, 4096, 4096)]
    assert sizes.count(ON_A_CPU.alike) >= 4096 / ON_A_CPU.alike - 4


def test_an_open_run_is_long_from_its_length_on():
    for length, alone in ((ON_A_CPU.long - 2, False), (ON_A_CPU.long - 1, True)):
        mask = masks.prefix(length) | masks.causal()  # and the first query sees itself
        last = plan(mask, 64, length + 64)[-1]
        assert (len(last.tiles) == 2) == alone


def test_too_many_runs_are_computed_as_one():
    ids = torch.arange(16_384) // 32 % 2
    mask = masks.documents(ids)
    assert all(len(block.tiles) == 1 for block in plan(mask, 16_384, 16_384))
