"""Blocks against the dense computation: outputs, gradients, what is planned, what is stored."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from attnlib import attention, masks
from attnlib.kernels import blockwise
from attnlib.kernels.plan import plan
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from attnlib.kernels.tiles import shares
from attnlib.lab.memory import peak_memory
from attnlib.scores import Scores
from tests.oracles import dense_attention, draw, open_scores
from tests.random_masks import expressions
from tests.tolerances import assert_close

# Sizes at which a few queries make several blocks and tiles.
SMALL = {"block": 4, "alike": 3, "wide": 2, "largest": 8, "smallest": 2, "long": 6, "gap": 2, "rows": 3}
FEW = Sizes(**SMALL)


def by_blocks(query, key, value, mask, scale, dropout_p=0.0, sizes=ON_A_CPU, bias=None):
    scores = open_scores(query, key, mask, bias)
    return blockwise.attend(query, key, value, scores, scale=scale, dropout_p=dropout_p, sizes=sizes)


def with_gradients(function, query, key, value, grad):
    tensors = [x.detach().requires_grad_() for x in (query, key, value)]
    output = function(*tensors)
    return output, *torch.autograd.grad(output, tensors, grad)


def equals_dense(mask, allowed, query, key, value, scale=0.4, sizes=ON_A_CPU):
    grad = torch.randn(*query.shape[:-1], value.shape[-1], dtype=query.dtype)
    ours = with_gradients(lambda q, k, v: by_blocks(q, k, v, mask, scale, sizes=sizes), query, key, value, grad)
    theirs = with_gradients(lambda q, k, v: dense_attention(q, k, v, allowed, scale), query, key, value, grad)
    for found, expected in zip(ours, theirs, strict=True):
        assert_close(found, expected)


# ---------------------------------------------------------------------------------------------------------------------
# Equal to the dense computation


@given(
    st.data(),
    st.integers(1, 31),
    st.integers(1, 37),
    st.sampled_from([(1, 1), (4, 2), (3, 1)]),
    st.sampled_from([3, 5]),
)
def test_any_mask_gives_the_dense_output_and_gradients(data, L, S, heads, d_v):
    B, (H, H_kv) = 2, heads
    mask, allowed = data.draw(expressions(B, H, L, S))
    query, key, value = draw(B, H, L, 3), draw(B, H_kv, S, 3), draw(B, H_kv, S, d_v)
    sizes = {name: data.draw(st.integers(1, size + 3)) if name != "largest" else size for name, size in SMALL.items()}
    equals_dense(mask, torch.from_numpy(np.array(allowed)), query, key, value, sizes=Sizes(**sizes))


LONG_MASKS = {
    "none": None,
    "causal": masks.causal(),
    "window": masks.sliding_window(70),
    "window that looks back": masks.causal() & masks.sliding_window(70),
    "window and sinks": (masks.causal() & masks.sliding_window(33)) | (masks.prefix(5) & masks.causal()),
    "prefix": masks.prefix(200) | masks.causal(),
    "padding": masks.padding([1301, 0]),
    "causal and padding": masks.causal() & masks.padding([1300, 400]),
    "documents": masks.documents(torch.arange(1301) // 400) & masks.causal(),
    "documents in several places": masks.documents(torch.arange(1301) // 100 % 3),
    "outside of a window": ~masks.sliding_window(100),
    "later": ~masks.causal(),
}


@pytest.mark.parametrize("name", LONG_MASKS)
def test_blocks_of_the_usual_size(name):
    mask, L, S = LONG_MASKS[name], 401, 1301
    allowed = torch.ones(L, S, dtype=torch.bool) if mask is None else mask.dense(L, S)
    equals_dense(mask, allowed, draw(2, 4, L, 7), draw(2, 2, S, 7), draw(2, 2, S, 5))


def test_several_tiles_are_joined():
    """A prefix, a gap, a long open run, and the edge of a window."""
    mask, L, S = (masks.prefix(3) | masks.sliding_window(14)) & masks.causal(), 29, 31
    assert max(len(block.tiles) for block in plan(mask, L, S, FEW)) > 2
    equals_dense(mask, mask.dense(L, S), draw(2, 3, L, 5), draw(2, 3, S, 5), draw(2, 3, S, 5), sizes=FEW)


@pytest.mark.parametrize("shape", [(), (2, 3, 4)])
def test_any_leading_axes(shape):
    mask, L = masks.causal() & masks.sliding_window(3), 13
    query, key, value = draw(*shape, L, 5), draw(*shape, L, 5), draw(*shape, L, 3)
    output = by_blocks(query, key, value, mask, 0.3, 0.0, FEW)
    assert_close(output, dense_attention(query, key, value, mask.dense(L, L), 0.3))


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_tensors_need_not_lie_in_order(dropout_p):
    mask, L = masks.causal() & masks.padding([13, 5]), 13
    straight, expanded = draw(2, 3, L, 5), draw(2, 3, L, 1).expand(2, 3, L, 5)
    turned, turned_too = (x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (straight, expanded))
    gradients = []
    for x, grad in ((straight, expanded.contiguous()), (turned, expanded), (straight, turned_too)):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        torch.manual_seed(1)
        by_blocks(leaf, leaf, leaf, mask, 0.3, dropout_p, FEW).backward(grad)
        gradients.append(leaf.grad)
    assert_close(gradients[1], gradients[0])
    assert_close(gradients[2], gradients[0])


@pytest.mark.parametrize("scale", [-0.7, 0.0, 3.0])
def test_any_scale(scale):
    mask = masks.causal()
    equals_dense(mask, mask.dense(17, 17), draw(1, 2, 17, 3), draw(1, 2, 17, 3), draw(1, 2, 17, 3), scale, sizes=FEW)


@pytest.mark.parametrize("name", ["causal", "window and sinks", "causal and padding", "documents"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_accurate_as_torchs(name, dtype):
    mask, L, S = LONG_MASKS[name], 401, 1301
    query, key, value = (draw(2, 4, length, 16, dtype=dtype) for length in (L, S, S))
    grad, allowed = draw(2, 4, L, 16, dtype=dtype), mask.dense(L, S)
    exact = with_gradients(
        lambda q, k, v: dense_attention(q, k, v, allowed, 0.25), query.double(), key.double(), value.double(), grad
    )
    ours = with_gradients(lambda q, k, v: attention(q, k, v, mask), query, key, value, grad)
    torchs = with_gradients(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, allowed), query, key, value, grad)
    for found, theirs, expected in zip(ours, torchs, exact, strict=True):
        assert found.dtype == dtype
        assert (found - expected).square().mean() <= 1.05 * (theirs - expected).square().mean()


@pytest.mark.parametrize("d_v", [8, 5])
@pytest.mark.parametrize("mask", [masks.causal(), masks.causal() & masks.sliding_window(40)])
def test_autocast_narrows_as_torchs_function_does(d_v, mask):
    query, key = (draw(1, 2, 300, 8, dtype=torch.float32) for _ in range(2))
    value = draw(1, 2, 300, d_v, dtype=torch.float32)
    with torch.autocast("cpu"):
        output = attention(query, key, value, mask)
        assert output.dtype == F.scaled_dot_product_attention(query, key, value).dtype == torch.bfloat16
        doubles = attention(query.double(), key.double(), value.double(), mask)
        assert doubles.dtype == F.scaled_dot_product_attention(*[x.double() for x in (query, key, value)]).dtype
    assert_close(output, attention(query, key, value, mask).bfloat16())


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_gradcheck(dropout_p):
    mask = (masks.causal() & masks.padding([9, 4])) | masks.prefix(2)
    tensors = (
        draw(2, 4, 7, 3, requires_grad=True),
        draw(2, 2, 9, 3, requires_grad=True),
        draw(2, 2, 9, 2, requires_grad=True),
    )

    def compute(query, key, value):
        torch.manual_seed(3)
        return by_blocks(query, key, value, mask, 0.5, dropout_p, FEW)

    assert torch.autograd.gradcheck(compute, tensors)


# ---------------------------------------------------------------------------------------------------------------------
# A bias


@pytest.mark.parametrize("axes", [(37, 41), (1, 4, 37, 41), (2, 1, 1, 41), (2, 4, 37, 1)])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("name", ["window", "padding of each example"])
def test_a_bias_is_added_in_each_tile(axes, dropout_p, name):
    mask = {
        "window": masks.causal() & masks.sliding_window(9) & ~masks.prefix(1),
        "padding of each example": masks.causal() & masks.padding([41, 17]) & ~masks.prefix(1),
    }[name]
    bias = draw(*axes)
    if axes[-1] > 1:
        bias[..., 0] = math.inf  # where a key is closed, not even an infinity opens it
    tensors = [draw(2, h, n, d, requires_grad=True) for h, n, d in ((4, 37, 5), (2, 41, 5), (2, 41, 3))]
    query, key, value = (x.detach().repeat_interleave(4 // x.shape[1], 1).requires_grad_() for x in tensors)
    scores = torch.where(mask.dense(37, 41), query @ key.mT * 0.3 + bias, -math.inf)
    weights = torch.softmax(scores, -1)
    if dropout_p:
        eye = torch.eye(41).double().expand(2, 2, 41, 41)
        dropped = by_blocks(*tensors[:2], eye, mask, 0.3, dropout_p, FEW, bias=bias)
        kept = dropped != 0
        assert 0.6 < kept.sum() / (weights != 0).sum() < 0.8
        assert_close(dropped[kept], weights[kept] / 0.7)
        return
    output, expected = by_blocks(*tensors, mask, 0.3, 0.0, FEW, bias=bias), weights @ value
    assert_close(output, expected)
    found = torch.autograd.grad(output.square().sum(), tensors)
    wanted = torch.autograd.grad(expected.square().sum(), (query, key, value))
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other.unflatten(1, (one.shape[1], -1)).sum(2))


# ---------------------------------------------------------------------------------------------------------------------
# Dropout


def test_dropout_drops_weights_and_scales_the_others():
    """With the identity as values, the output is the weights."""
    L, p = 61, 0.3
    query, key, mask = draw(1, 2, L, 3), draw(1, 2, L, 3), masks.causal() & masks.sliding_window(30)
    dropped = by_blocks(query, key, torch.eye(L).double().expand(1, 2, L, L), mask, 0.5, p, FEW)
    weights = dense_attention(query, key, torch.eye(L).double(), mask.dense(L, L), 0.5)
    kept = dropped != 0
    assert 0.65 < kept.sum() / (weights != 0).sum() < 0.75
    assert_close(dropped[kept], weights[kept] / (1 - p))


def test_the_backward_pass_leaves_the_random_numbers_alone():
    leaf = draw(1, 1, 17, 3, requires_grad=True)
    output = by_blocks(leaf, leaf, leaf, masks.causal(), 0.5, 0.3, FEW)
    state = torch.get_rng_state()
    torch.rand(5)
    moved = torch.get_rng_state()
    output.sum().backward()
    assert torch.equal(torch.get_rng_state(), moved)
    assert not torch.equal(state, moved)


# ---------------------------------------------------------------------------------------------------------------------
# Calls that are shared


def groups(mask, B, L):
    (share,) = shares(Scores((B, 1, L, L), torch.device("cpu"), mask))
    return list(share.groups())


def test_blocks_along_the_diagonal_share_calls_and_masks():
    window = masks.causal() & masks.sliding_window(100)
    alone = groups(window, 1, 5000)
    assert sum(group.alike for group in alone) == len(plan(window, 5000, 5000))
    assert len(alone) <= 4 + 5000 / ON_A_CPU.alike / ON_A_CPU.together
    assert max(group.alike for group in alone) == ON_A_CPU.together
    assert len({id(group.additive_masks[0]) for group in alone}) <= 4
    batch = groups(window, 2, 5000)
    assert {group.alike for group in batch} == {1}
    assert len({id(group.additive_masks[0]) for group in batch}) <= 4


def test_blocks_whose_masks_look_at_more_than_the_distance_share_nothing():
    ids = torch.arange(640) % 3
    assert all(group.alike == 1 for group in groups(masks.documents(ids), 1, 640))
    prefix = (masks.causal() & masks.sliding_window(70)) | masks.prefix(5)
    assert all(group.alike == 1 for group in groups(prefix, 1, 640))


@pytest.mark.parametrize("together", [1, 2, 3, 32])
@pytest.mark.parametrize("B", [1, 2])
def test_any_number_of_blocks_may_share_a_call(together, B):
    sizes = replace(FEW, together=together)
    for mask, L, S in (
        (masks.sliding_window(9), 67, 67),
        (masks.causal() & masks.sliding_window(6), 41, 59),
        (masks.sliding_window(3) & ~masks.causal(), 59, 41),
        (~masks.sliding_window(7), 61, 61),
    ):
        equals_dense(mask, mask.dense(L, S), draw(B, 4, L, 3), draw(B, 2, S, 3), draw(B, 2, S, 5), sizes=sizes)


# ---------------------------------------------------------------------------------------------------------------------
# Memory


@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
@pytest.mark.parametrize("name", ["window", "documents", "causal and padding"])
def test_memory_grows_with_the_length_not_with_its_square(name, dropout_p):
    def used(L):
        mask = {
            "window": masks.causal() & masks.sliding_window(64),
            "documents": masks.documents(torch.arange(L) // 128) & masks.causal(),
            "causal and padding": masks.causal() & masks.padding([L, L - 100]) & masks.sliding_window(64),
        }[name]
        x = torch.randn(2, 2, L, 8, requires_grad=True)
        return peak_memory(lambda: attend_and_back(x, mask))

    def attend_and_back(x, mask):
        output = by_blocks(x, x, x, mask, 0.3, dropout_p)
        output.backward(output.detach())
        return x.grad

    sizes = [used(L) for L in (1024, 2048, 4096)]
    for smaller, larger in itertools.pairwise(sizes):
        assert larger < 2.1 * smaller
    assert sizes[-1] < 4096**2  # one byte for each pair, for a single head, would already be more


# ---------------------------------------------------------------------------------------------------------------------


# Second derivatives: by whichever way they are asked, those of the dense computation


def penalty(function, x):
    loss = function(x).square().sum()
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    return loss + slope.square().sum()


def by_backward(function, x):
    leaf = x.detach().clone().requires_grad_()
    penalty(function, leaf).backward()
    return leaf.grad


def third_derivative(function, x):
    (second,) = torch.autograd.grad(penalty(function, x), x, create_graph=True)
    return torch.autograd.grad(second.square().sum(), x)[0]


def functional(name, **options):
    def ask(function, x):
        scalar = function if name == "jvp" else lambda t: function(t).pow(3).sum()
        vector = () if name == "hessian" else (torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x),)
        return getattr(torch.autograd.functional, name)(scalar, x, *vector, **options)

    return ask


WAYS = {
    "grad of a gradient penalty": lambda f, x: torch.autograd.grad(penalty(f, x), x)[0],
    "backward of a gradient penalty": by_backward,
    "third derivative": third_derivative,
    "hessian": functional("hessian"),
    "vectorized hessian": functional("hessian", vectorize=True),
    "hvp": functional("hvp"),
    "vhp": functional("vhp"),
    "jvp by two backward passes": functional("jvp"),
}


@pytest.mark.parametrize("way", WAYS)
def test_second_derivatives_are_those_of_the_dense_computation(way):
    L = 11
    pairs = torch.rand(3, 1, L, L) < 0.8
    pairs[1, 0, 3:] = False  # queries that may attend to nothing
    mask = ((masks.causal() & masks.padding([7, 0, 11])) | masks.sliding_window(2)) & masks.from_tensor(pairs)
    x, fixed = draw(3, 2, L, 2, requires_grad=True), draw(3, 2, L, 5)

    def several(attend):
        """One tensor thrice; keys alone, and two widths; grouped heads, and queries alone without a gradient."""
        return lambda t: torch.cat(
            [
                attend(t, t, t),
                attend(fixed[..., :2], t, fixed)[..., 1:3],
                attend(fixed[..., :2], t[:, :1], t[:, 1:]),
            ]
        )

    ours = several(lambda q, k, v: by_blocks(q, k, v, mask, 0.7, 0.0, FEW))
    dense = several(lambda q, k, v: dense_attention(q, k, v, mask.dense(L, L), 0.7))
    found, expected = (x if isinstance(x, tuple) else (x,) for x in (WAYS[way](ours, x), WAYS[way](dense, x)))
    for one, wanted in zip(found, expected, strict=True):
        assert_close(one, wanted)
        assert wanted.any()


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_gradgradcheck(dropout_p):
    """With dropout too: the weights that were dropped are dropped again."""
    mask = (masks.causal() & masks.padding([5, 3])) | masks.prefix(1)
    tensors = [draw(2, *shape, requires_grad=True) for shape in ((4, 4, 3), (2, 5, 3), (2, 5, 2))]

    def compute(query, key, value):
        torch.manual_seed(3)
        return by_blocks(query, key, value, mask, 0.5, dropout_p, FEW)

    assert torch.autograd.gradgradcheck(compute, tensors)
    output = compute(*tensors).square().sum()
    recorded, plain = (torch.autograd.grad(output, tensors, create_graph=g, retain_graph=True) for g in (True, False))
    for one, wanted in zip(recorded, plain, strict=True):
        assert_close(one, wanted)


# ---------------------------------------------------------------------------------------------------------------------


def test_scores_of_minus_infinity_where_all_is_open_stay_zero_in_the_backward_pass():
    leaf = draw(2, 1, 300, 3, requires_grad=True)
    mask = masks.padding([300, 0]) & masks.causal()
    output = by_blocks(leaf, leaf, leaf, mask, 1 / math.sqrt(3), 0.0)
    output.sum().backward()
    assert not output[1].any()
    assert not leaf.grad[1].any()
    assert leaf.grad[0].any()
    assert leaf.grad.isfinite().all()
