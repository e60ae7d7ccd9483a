"""Every kernel, as the functions reach it, against the dense computation: outputs and gradients under any mask."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlib import attention, masks
from attnlib.kernels import online
from attnlib.kernels.choice import KERNELS
from attnlib.kernels.plan import plan
from attnlib.kernels.sizes import Sizes
from tests.oracles import PATHS, dense_attention, draw, in_blocks, open_scores
from tests.random_masks import expressions
from tests.tolerances import assert_close

B, D_K = 2, 7


@pytest.mark.parametrize("path", PATHS)
@given(
    data=st.data(),
    lengths=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    heads=st.sampled_from([(3, 3), (6, 3), (5, 1)]),
    d_v=st.sampled_from([D_K, 11]),
)
def test_any_mask_gives_the_dense_output_and_gradients(path, data, lengths, heads, d_v):
    (L, S), (H, H_kv) = lengths, heads
    mask, allowed = data.draw(expressions(B, H, L, S))
    tensors = [draw(*shape, requires_grad=True) for shape in ((B, H, L, D_K), (B, H_kv, S, D_K), (B, H_kv, S, d_v))]
    output = PATHS[path](*tensors, mask, scale=0.4)
    expected = dense_attention(*tensors, torch.from_numpy(np.array(allowed)), 0.4)
    assert_close(output, expected)
    grad = draw(B, H, L, d_v)
    for found, wanted in zip(
        torch.autograd.grad(output, tensors, grad), torch.autograd.grad(expected, tensors, grad), strict=True
    ):
        assert_close(found, wanted)


@pytest.mark.parametrize("path", PATHS)
def test_a_block_of_queries_that_see_nothing_under_dropout_and_a_bias(path):
    """Not one key of a whole block is open: there is nothing to put side by side."""
    x, bias = draw(B, 3, 11, D_K, requires_grad=True), draw(11, 11)
    for mask in (masks.padding([0]), masks.causal() & ~masks.prefix(7)):
        output = PATHS[path](x, x, x, mask, bias=bias, dropout_p=0.3)
        dead = ~mask.dense(11, 11).expand(1, 1, 11, 11).any(-1)[0, 0]
        assert dead.sum() > 6
        assert not output[:, :, dead].any()
        assert torch.autograd.grad(output.square().sum(), x)[0].isfinite().all()


def test_second_derivatives_where_a_block_of_queries_sees_nothing():
    x, bias = draw(B, 3, 11, D_K, requires_grad=True), draw(11, 11)
    mask = masks.causal() & ~masks.prefix(7)

    def twice(attend):
        (slope,) = torch.autograd.grad(attend().square().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), x)[0]

    for some in (None, bias):
        found = twice(lambda some=some: in_blocks(x, x, x, mask, bias=some, scale=0.4))
        expected = twice(lambda some=some: PATHS["with weights"](x, x, x, mask, bias=some, scale=0.4))
        assert_close(found, expected)


@pytest.mark.parametrize("kernel", [*KERNELS.values(), online.attend])
def test_a_kernel_drops_nothing_unless_it_is_told(kernel):
    query, key, value = draw(1, 3, 5, D_K), draw(1, 3, 7, D_K), draw(1, 3, 7, D_K)
    mask = masks.causal()
    output = kernel(query, key, value, open_scores(query, key, mask), scale=0.4)
    assert_close(output, dense_attention(query, key, value, mask.dense(5, 7), 0.4))


def test_a_single_query_reads_its_keys_in_however_many_places():
    ids = (torch.arange(710) % 71).clamp(max=1)  # every 71st key is of document 0, and so is the query
    ids[-1] = 0
    mask = masks.documents(ids)
    query, key, value = draw(1, 3, 1, D_K), draw(1, 3, 710, D_K), draw(1, 3, 710, 11)
    assert_close(attention(query, key, value, mask), dense_attention(query, key, value, mask.dense(1, 710), D_K**-0.5))


@pytest.mark.parametrize("long", [1, 2, 9])
def test_no_tile_is_without_keys(long):
    """torch's kernel divides by their number, and ends the process."""
    sizes = Sizes(block=1, alike=1, wide=1, largest=8, smallest=1, long=long, gap=1)
    for L, S in ((2, 2), (23, 19), (19, 23), (22, 22)):
        for mask in (masks.causal(), masks.causal() & ~masks.prefix(2), masks.causal() & masks.sliding_window(7)):
            for block in plan(mask, L, S, sizes):
                assert all(tile.start < tile.stop for tile in block.tiles), (block, L, S)


@pytest.mark.parametrize("name", ["window", "causal and padding"])
def test_a_negative_scale_is_not_rounded_to_half_precision(name):
    """It is that of the opposite queries under the opposite scale, to the last bit that float32 holds."""
    mask = {"window": masks.sliding_window(53), "causal and padding": masks.causal() & masks.padding([601, 401])}[name]
    query, key, value = (draw(B, 3, 601, d, dtype=torch.bfloat16) for d in (D_K, D_K, 11))
    exact = attention(-query.double(), key.double(), value.double(), mask, scale=0.7)
    errors = [
        (attention(sign * query, key, value, mask, scale=sign * scale).double() - exact).abs().mean()
        for sign, scale in ((1, -0.7), (-1, -0.7))
    ]
    assert errors[0] <= 1.05 * errors[1]
