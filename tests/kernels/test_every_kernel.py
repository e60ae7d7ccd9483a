"""Every kernel, as the functions reach it, against the dense computation: outputs and gradients under any mask."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import PATHS, dense_attention, draw
from tests.random_masks import expressions
from tests.tolerances import assert_close

B, D_K = 2, 3


@pytest.mark.parametrize("path", PATHS)
@given(
    data=st.data(),
    lengths=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    heads=st.sampled_from([(1, 1), (4, 2), (3, 1)]),
    d_v=st.sampled_from([3, 5]),
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
