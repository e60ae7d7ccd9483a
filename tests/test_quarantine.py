"""Numbers that are not finite, in one contract for every way of computing, and for the way back.

The output of a query that may attend to one is NaN, without a gradient, and so is that of a query that is not finite
itself and may attend to anything. All else is as if there were none: a key or value that nobody may attend to may hold
anything, and a query that may attend to nothing is zero. With no mask, this holds where the numbers can be read;
elsewhere NaN makes NaN.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from attnlib import (
    KVCache,
    MultiHeadAttention,
    attention,
    attention_weights,
    functional,
    masks,
)
from attnlib.kernels import quarantine
from attnlib.kernels.sizes import Sizes
from attnlib.lab.memory import peak_memory
from attnlib.transformer import Transformer, greedy_search
from tests.oracles import PATHS, attend, dense_attention
from tests.random_masks import RepeatedFor, expressions
from tests.tolerances import assert_close

B, H, H_KV, L, S, D_K, D_V = 2, 6, 3, 5, 7, 11, 13
LONG = 601
D_MODEL, HEADS = 17, 3  # of a layer, with heads of D_K and D_V
BAD = [math.nan, math.inf, -math.inf]


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def draw_qkv(rows=L, keys=S, dtype=torch.float64):
    """Return query, key and value that want no gradient yet."""
    shapes = (B, H, rows, D_K), (B, H_KV, keys, D_K), (B, H_KV, keys, D_V)
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def layer():
    return MultiHeadAttention(HEADS, D_MODEL, D_K, D_V).eval()


# ---------------------------------------------------------------------------------------------------------------------
# One contract: for one query and for many, for few keys and for many, with a mask and without


def spoilt(x, at, bad):
    x = x.detach().clone()
    x[at] = bad
    return x.requires_grad_()


def checks_the_contract(compute, tensors, allowed, mask, spoil, bad):
    """Hold that what meets a bad number is NaN without a gradient, and all else is as if the number were not bad."""
    query, key, _ = tensors
    batch, heads, rows, group = *query.shape[:3], query.shape[1] // key.shape[1]
    allowed = allowed.expand(batch, heads, rows, key.shape[2])
    lost = torch.zeros(batch, heads, rows, 1, dtype=torch.bool)
    for which, (b, h, i) in spoil:
        if which == 0:
            lost[b, h, i] |= allowed[b, h, i].any()
        else:
            lost[b, h * group : (h + 1) * group] |= allowed[b, h * group : (h + 1) * group, :, i, None]
    ours = list(tensors)
    for which, at in spoil:
        ours[which] = spoilt(ours[which], (*at, 1), bad)
    scale = query.shape[-1] ** -0.5
    clean = [spoilt(x, (), x.detach().nan_to_num(0, 0, 0)) for x in ours]  # what is bad is met by nobody who is left
    expected = dense_attention(*clean, allowed, scale).masked_fill(lost, math.nan)
    output = compute(*ours, mask)
    torch.testing.assert_close(output, expected, equal_nan=True, rtol=1e-9, atol=1e-11)
    if lost.all():
        return
    grads = torch.autograd.grad(output[~lost.expand_as(output)].square().sum(), ours)
    wanted = torch.autograd.grad(expected[~lost.expand_as(expected)].square().sum(), clean)
    for found, right in zip(grads, wanted, strict=True):
        assert_close(found, right)


SIZES = [(1, 1), (1, 5), (2, 5), (1, 17), (3, 17), (1, 307), (2, 307), (71, 307)]
CONTRACT_MASKS = {
    "none": lambda L, S: None,
    "causal": lambda L, S: masks.causal(),
    "all open": lambda L, S: torch.ones(L, S, dtype=torch.bool),
    "window": lambda L, S: masks.causal() & masks.sliding_window(3),
    "padding": lambda L, S: masks.causal() & masks.padding([S, S // 3]),
    "left padding": lambda L, S: masks.causal() & ~masks.padding([S // 2, 0]),
    "documents": lambda L, S: masks.causal() & masks.documents(torch.arange(S) // 73),
    "own": lambda L, S: masks.causal() & RepeatedFor(torch.rand(2, 3, 5, 2) < 0.6, B, H),
}


def by_its_weights(*arguments, **options):
    """:func:`attnlib.attention`, which computes a single query by its weights however few keys there are."""
    return attend(*arguments, **options, sizes=Sizes(many_elements=0))[0]


def few_keys_are_read(*arguments, **options):
    """:func:`attnlib.attention`, which leaves out the keys that nobody may attend to however few there are."""
    return attend(*arguments, **options, sizes=Sizes(few_keys=1, few_queries=99, gap=1))[0]


WAYS = {**PATHS, "by its weights": by_its_weights}


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize("name", CONTRACT_MASKS)
@pytest.mark.parametrize("sizes", SIZES)
def test_a_bad_number_is_lost_with_whom_it_meets_and_with_no_other(path, name, sizes):
    L, S = sizes
    mask = CONTRACT_MASKS[name](L, S)
    allowed = torch.ones(L, S) > 0 if mask is None else mask.dense(L, S) if isinstance(mask, masks.Mask) else mask
    tensors = draw(B, H, L, D_K), draw(B, H_KV, S, D_K), draw(B, H_KV, S, D_V)
    places = [(0, (1, 2, L // 2)), (1, (1, 2, S - 1)), (1, (0, 0, S // 3)), (2, (1, 0, S - 1)), (2, (0, 1, 0))]
    for bad in BAD:
        for place in places:
            checks_the_contract(WAYS[path], tensors, allowed, mask, [place], bad)
    checks_the_contract(WAYS[path], tensors, allowed, mask, places, math.nan)


@given(st.data(), st.integers(1, 9), st.integers(2, 11), st.sampled_from(sorted(WAYS)), st.booleans())
def test_a_bad_number_under_any_mask(data, L, S, path, few_keys_are_many):
    mask, allowed = data.draw(expressions(B, H, L, S))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    tensors = draw(B, H, L, D_K), draw(B, H_KV, S, D_K), draw(B, H_KV, S, D_V)
    places = []
    for which, heads, length in ((0, H, L), (1, H_KV, S), (2, H_KV, S)):
        ranges = (st.integers(0, size - 1) for size in (B, heads, length))
        places += [(which, at) for at in data.draw(st.lists(st.tuples(*ranges), max_size=2))]
    ways = {**WAYS, "fused": few_keys_are_read} if few_keys_are_many else WAYS
    allowed = torch.from_numpy(np.array(allowed))
    checks_the_contract(ways[path], tensors, allowed, mask, places, data.draw(st.sampled_from(BAD)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("keys", [1, 2, 7, 15, 16, 17])
def test_torchs_kernel_hides_no_nan(dtype, keys):
    """It takes a row of NaN for one where nothing is open, if it is shorter than a vector of the processor."""
    query, key, value = (torch.randn(B, H, n, D_K, dtype=dtype) for n in (2, keys, keys))
    nothing = torch.full_like(key, math.nan)
    for mask in (None, masks.causal(), masks.padding([keys] * B)):
        for rows in (slice(0, 1), slice(0, 2)):
            assert attention(query[:, :, rows] * math.nan, key, value, mask)[:, :, -1].isnan().all()
            assert attention(query[:, :, rows], nothing, value, mask)[:, :, -1].isnan().all()


@pytest.mark.parametrize(("rows", "keys", "d_k"), [(1, 7, D_K), (2, 7, 17), (2, 15, D_K), (2, 16, D_K)])
def test_a_compiled_graph_hides_no_nan(rows, keys, d_k):
    query, key, value = (torch.randn(B, H, n, d_k) for n in (rows, keys, keys))
    for mask in (None, masks.causal()):
        torch.compiler.reset()
        compiled = torch.compile(attention, fullgraph=True, backend="eager")
        assert_close(compiled(query, key, value, mask), attention(query, key, value, mask))
        for dynamic in (False, True):
            compiled = torch.compile(attention, fullgraph=True, backend="eager", dynamic=dynamic)
            assert compiled(query * math.nan, key, value, mask).isnan().all()
            assert compiled(query, key * math.nan, value, mask).isnan().all()
            assert compiled(query, key, value * math.nan, mask).isnan().all()
    mapped = torch.func.vmap(attention)
    assert mapped(query * math.nan, key, value).isnan().all()
    assert mapped(query, key * math.nan, value).isnan().all()


@pytest.mark.parametrize("mask", [None, masks.causal(), masks.sliding_window(2), masks.padding([0, 0])])
@pytest.mark.parametrize(("rows", "keys"), [(0, 3), (3, 0), (1, 0), (0, 0)])
def test_bad_numbers_where_there_is_nothing_to_meet(mask, rows, keys):
    query, key, value = (torch.full((B, H, n, D_K), math.nan) for n in (rows, keys, keys))
    for need_weights in (False, True):
        output, weights = attend(query, key, value, mask, need_weights=need_weights)
        assert torch.equal(output, torch.zeros(B, H, rows, D_K))
        assert weights is None or weights.shape == (B, H, rows, keys)


def test_finite_numbers_whose_sum_is_not_are_no_bad_numbers():
    value = torch.full((1, 2, 3, D_K), 1e308, dtype=torch.float64)
    for mask in (None, masks.causal(), masks.padding([3])):
        torch.testing.assert_close(attention(value[:, :, :1] * 0, value * 0, value / 3, mask), value[:, :, :1] / 3)
        torch.testing.assert_close(attention(value[:, :, :2] * 0, value * 0, value / 3, mask), value[:, :, :2] / 3)


def test_many_queries_meet_bad_numbers(monkeypatch):
    """Some at a time, so that no array of all pairs is made."""
    query, key, value = draw(1, 2, 11, D_K), draw(1, 1, 13, D_K), draw(1, 1, 13, D_V)
    monkeypatch.setattr(quarantine, "ROWS", 4)
    for mask in (masks.sliding_window(3), masks.padding([9]), torch.rand(11, 13) < 0.5, torch.rand(1, 2, 11, 13) < 0.5):
        allowed = mask.dense(11, 13) if isinstance(mask, masks.Mask) else mask
        places = [(0, (0, 1, 5)), (1, (0, 0, 3)), (2, (0, 0, 6))]
        checks_the_contract(attention, (query, key, value), allowed, mask, places, math.nan)


def test_weights_of_bad_numbers_without_a_mask():
    query, key = draw(B, H, L, D_K).detach(), draw(B, H_KV, S, D_K).detach()
    clean = attention_weights(query, key)
    query[1, 2, 3, 0] = key[0, 1, 2, 0] = math.inf
    lost = torch.zeros(B, H, L, 1, dtype=torch.bool)
    lost[1, 2, 3] = lost[0, 2:4] = True
    torch.testing.assert_close(attention_weights(query, key), clean.masked_fill(lost, math.nan), equal_nan=True)


def test_a_sum_that_overflows_is_not_taken_for_an_infinity(monkeypatch):
    monkeypatch.setattr(torch, "isfinite", None)
    for dtype, size in ((torch.float16, 100), (torch.float32, 1e35)):
        x = torch.full((1, 1, 2053, 7), size, dtype=dtype)
        assert x.sum().isinf()
        assert_close(attention(x[:, :, :71] * 0, x * 0, x, masks.causal()), x[:, :, :71])
        assert_close(attention(x[:, :, :1] * 0, x * 0, x), x[:, :, :1])


def test_where_numbers_cannot_be_read_the_marks_cost_no_matrices(monkeypatch):
    """Off the CPU the tensors decide without a branch; one bool array of all pairs serves both calls."""
    pairs = 1024**2
    mask = masks.from_tensor(torch.rand(1024, 1024) < 0.9)
    x = torch.randn(1, 4, 1024, 8)
    read = peak_memory(lambda: attention(x, x, x, mask))
    monkeypatch.setattr(functional, "is_readable", lambda *tensors: False)
    blind = peak_memory(lambda: attention(x, x, x, mask))
    assert blind < read + 1.5 * pairs
    spoilt_x = x.clone()
    spoilt_x[:, :, 3] = math.nan
    met = mask.dense(1024, 1024)[:, 3]
    output = attention(x, spoilt_x, spoilt_x, mask)
    torch.testing.assert_close(
        output[:, :, ~met], attention(x, x.index_fill(2, torch.tensor(3), 0), x, mask)[:, :, ~met]
    )
    assert output[:, :, met].isnan().all()


# ---------------------------------------------------------------------------------------------------------------------
# Where it may lie: a padded key, another head, another document

HIDING = {
    "padding": masks.padding([6, 6]),
    "causal": masks.causal(),
    "documents": masks.documents([1, 1, 1, 1, 1, 1, 2]),
    "pairs": (torch.arange(S) < 6).expand(L, S),
    "pairs of each example": (torch.arange(S) < 6).expand(B, L, S),
    "keys": (torch.arange(S) < 6).reshape(1, 1, 1, S),
    "combined": masks.padding([6, 6]) & ~masks.prefix(1),
}


def _spoil(key, value, bad):
    """Put a bad number into the last key, the last value, or both."""
    key, value = key.clone(), value.clone()
    key[..., -1, 1] = bad
    value[..., -1, 1] = bad
    return [(key, value), (key, value.nan_to_num(1, 1, 1)), (key.nan_to_num(1, 1, 1), value)]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", HIDING)
def test_a_bad_number_changes_no_query_that_may_not_attend_to_it(compute, name, bad):
    mask = HIDING[name]
    rows = S if name in ("causal", "documents") else L
    query, key, value = draw_qkv(rows)
    dense = mask.dense(rows, S) if isinstance(mask, masks.Mask) else mask[:, None] if mask.dim() == 3 else mask
    open_ = dense.expand(B, H, rows, S)[..., -1]
    for spoilt_key, spoilt_value in _spoil(key, value, bad):
        expected = compute(query, key, value, mask).masked_fill(open_[..., None], math.nan)
        torch.testing.assert_close(
            compute(query, spoilt_key, spoilt_value, mask), expected, equal_nan=True, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("heads", [H, H_KV])
def test_a_bad_number_in_one_head_stays_in_its_group(compute, bad, heads):
    query, key, value = draw_qkv(S)
    key, value = (x.repeat_interleave(heads // H_KV, dim=1) for x in (key, value))
    clean = compute(query, key, value, masks.causal())
    value[1, 1, 4, 0] = bad
    output = compute(query, key, value, masks.causal())
    group = H // heads
    hit = torch.zeros(B, H, S, D_V, dtype=torch.bool)
    hit[1, group : 2 * group, 4:] = True
    torch.testing.assert_close(output, clean.masked_fill(hit, math.nan), equal_nan=True)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["causal", "padding", "pairs"])
def test_a_bad_number_in_a_query_loses_its_own_output_alone(compute, name, bad):
    """No other output, and nobody's gradient."""
    query, key, value = draw_qkv()
    clean = compute(query, key, value, HIDING[name])
    query[1, :, 2, 3] = bad
    tensors = [x.requires_grad_() for x in (query, key, value)]
    output = compute(*tensors, HIDING[name])
    hit = torch.zeros(B, H, L, 1, dtype=torch.bool)
    hit[1, :, 2] = True
    torch.testing.assert_close(output, clean.masked_fill(hit, math.nan), equal_nan=True)
    output.masked_fill(hit, 0).sum().backward()
    assert all(x.grad.isfinite().all() for x in tensors)


@pytest.mark.parametrize("bad", BAD)
def test_weights_do_not_care_for_a_bad_value(bad):
    query, key, value = draw_qkv()
    value[:, :, 0] = bad
    output, weights = attend(query, key, value, masks.causal(), need_weights=True)
    assert_close(weights, attention_weights(query, key, masks.causal()))
    assert output.isnan().all()


def test_a_bad_number_in_a_plain_matrix_stays_hidden(compute):
    query, key, value = (draw(n, d).detach() for n, d in ((L, D_K), (S, D_K), (S, D_V)))
    clean = compute(query, key, value, masks.causal())
    key[-1, 0] = math.nan
    output = compute(query, key, value, masks.causal())
    assert_close(output[:-1], clean[:-1])
    assert output[-1].isnan().all()


@pytest.mark.parametrize("bad", BAD)
def test_weights_of_a_query_that_may_attend_to_a_bad_key_are_nan_and_no_others(bad):
    query, key, value = draw_qkv(S)
    clean = attention_weights(query, key, masks.causal())
    key[..., -1, 0] = bad
    for weights in (
        attention_weights(query, key, masks.causal()),
        attend(query, key, value, masks.causal(), need_weights=True)[1],
    ):
        assert_close(weights[..., :-1, :], clean[..., :-1, :])
        assert weights[..., -1, :].isnan().all()


def test_without_a_mask_a_bad_number_reaches_every_query(compute):
    query, key, value = draw_qkv()
    value[:, :, 3] = math.nan
    assert compute(query, key, value).isnan().all()


def test_a_hidden_bad_number_gives_no_gradient(compute):
    query, key, value = draw_qkv()
    key[..., -1, :], value[..., -1, :] = math.nan, math.inf
    tensors = [x.requires_grad_() for x in (query, key, value)]
    compute(*tensors, masks.padding([6, 6])).sum().backward()
    assert all(x.grad.isfinite().all() for x in tensors)
    assert not key.grad[..., -1, :].any()
    assert query.grad.any()


def test_large_finite_numbers_are_not_taken_for_infinite(compute):
    """Their sum overflows; each of them is still a number."""
    query, key, value = draw_qkv(dtype=torch.float32)
    value = value.sign() * 3e38
    assert not compute(query, key, value, masks.padding([7, 3])).isnan().any()


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_query_that_may_attend_to_nothing_is_zero_and_spreads_nothing(bad, need_weights):
    query, key, value = draw(B, H, L, D_K), draw(B, H_KV, S, D_K), draw(B, H_KV, S, D_V)
    mask = torch.ones(L, S, dtype=torch.bool)
    mask[2] = False
    spoilt = query.detach().clone()
    spoilt[:, :, 2] = bad
    output, weights = attend(spoilt.requires_grad_(), key, value, mask, need_weights=need_weights)
    expected, _ = attend(query, key, value, mask, need_weights=need_weights)
    assert (output[:, :, 2] == 0).all()
    torch.testing.assert_close(output, expected)
    if need_weights:
        assert (weights[:, :, 2] == 0).all()
    grads = torch.autograd.grad(output.sum(), [key, value])
    for found, wanted in zip(grads, torch.autograd.grad(expected.sum(), [key, value]), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_bad_query_is_lost_alone(need_weights):
    query, key, value = draw(B, H, L, D_K), draw(B, H_KV, S, D_K), draw(B, H_KV, S, D_V)
    spoilt = query.detach().clone()
    spoilt[0, 0, 1] = math.nan
    output, _ = attend(spoilt, key, value, masks.causal(), need_weights=need_weights)
    lost = output.isnan().all(-1)
    assert lost.nonzero().tolist() == [[0, 0, 1]]
    assert torch.autograd.grad(output[~lost].sum(), [key])[0].isfinite().all()
    expected, _ = attend(query, key, value, masks.causal(), need_weights=need_weights)
    torch.testing.assert_close(output[~lost], expected[~lost])


def test_a_bad_value_leaves_the_weights_alone():
    query, key, value = draw(B, H, L, D_K), draw(B, H_KV, S, D_K), draw(B, H_KV, S, D_V).detach()
    value[0, 0, 1] = math.nan
    output, weights = attend(query, key, value, masks.causal(), need_weights=True)
    torch.testing.assert_close(weights, attention_weights(query, key, masks.causal()))
    assert output[0, :2].isnan().any()
    assert output[0, 2:].isfinite().all()  # the other key heads' groups


# ---------------------------------------------------------------------------------------------------------------------
# Long rows, cut into blocks


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", [name for name in CONTRACT_MASKS if name not in ("none", "causal", "all open")])
def test_a_bad_number_far_away_spoils_only_the_queries_that_meet_it(name, bad):
    mask = CONTRACT_MASKS[name](LONG, LONG)
    query, key, value = draw(B, H, LONG, D_K), draw(B, H, LONG, D_K), draw(B, H, LONG, D_V)
    spoilt_key, spoilt_value = key.detach().clone(), value.detach().clone()
    spoilt_key[0, :, 301], spoilt_value[1, 2, 199], spoilt_value[:, :, 450:] = bad, bad, bad
    allowed = mask.dense(LONG, LONG).expand(B, H, LONG, LONG)
    spoilt = ~(spoilt_key.isfinite().all(-1) & spoilt_value.isfinite().all(-1))
    meets = (allowed & spoilt[:, :, None]).any(-1, keepdim=True)
    expected = dense_attention(query, key, value, allowed, D_K**-0.5).masked_fill(meets, math.nan)
    output = attention(query, spoilt_key.requires_grad_(), spoilt_value.requires_grad_(), mask)
    torch.testing.assert_close(output, expected, equal_nan=True, rtol=1e-10, atol=1e-12)
    assert meets.any()
    assert not meets.all()
    output.masked_fill(meets, 0).sum().backward()
    assert all(x.grad.isfinite().all() for x in (query, spoilt_key, spoilt_value))


def test_a_bad_number_makes_no_array_of_all_pairs():
    x = torch.randn(1, 2, 16_384, 4)
    spoilt = x.clone()
    spoilt[:, :, -9:] = math.nan
    mask = masks.causal() & masks.sliding_window(53) & masks.padding([16_375])
    assert peak_memory(lambda: attention(x, spoilt, spoilt, mask)) < 16_384**2 / 16


def test_a_matrix_has_no_heads():
    x = draw(LONG, D_K).detach()
    spoilt = x.clone()
    spoilt[-1] = math.nan
    mask = masks.causal() & masks.sliding_window(53) & masks.padding([LONG - 1])
    clean = attention(x, x, x, mask)
    assert_close(attention(x, spoilt, spoilt, mask), clean)


# ---------------------------------------------------------------------------------------------------------------------
# Where numbers cannot be read: in graphs that are compiled or traced, in transforms, and where there are none


@pytest.mark.parametrize("name", ["padding", "pairs of each example", "causal", "documents"])
def test_a_hidden_bad_number_changes_nothing_in_a_compiled_graph(compute_in_a_graph, name):
    torch.compiler.reset()
    shows_last = name in ("causal", "documents")  # to the last query
    mask = HIDING[name]
    query, key, value = draw_qkv(S if shows_last else L)
    clean = compute_in_a_graph(query, key, value, mask)
    compiled = torch.compile(compute_in_a_graph, fullgraph=True, backend="eager")
    key[..., -1, 0], value[..., -1, 1] = math.nan, math.inf
    output = compiled(query, key, value, mask)
    hidden = slice(0, -1) if shows_last else slice(None)
    assert_close(output[..., hidden, :], clean[..., hidden, :])
    assert output[..., -1, :].isnan().all() == shows_last


class Masked(torch.nn.Module):
    """A layer under one mask."""

    def __init__(self, mask):
        super().__init__()
        self.attention, self.mask = layer().double(), mask

    def forward(self, x):
        return self.attention(x, mask=self.mask)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("length", [S, LONG])
def test_a_traced_module_lets_no_bad_number_out_of_the_padding(length):
    module = Masked(masks.padding([length - 2]))
    graph = torch.jit.trace(module, (draw(1, length, D_MODEL).detach(),))
    x = draw(1, length, D_MODEL).detach()
    x[:, -2:] = math.nan
    assert graph(x)[:, :-2].isfinite().all()
    torch.testing.assert_close(graph(x), module(x), equal_nan=True)


@pytest.mark.parametrize("mask", [masks.causal(), masks.padding([5] * B), torch.ones(S, S, dtype=torch.bool).tril()])
def test_masks_work_where_numbers_cannot_be_read(mask):
    x = torch.randn(B, H, S, D_K)
    if not isinstance(mask, masks.Padding):  # it differs between the examples that vmap takes one by one
        torch.testing.assert_close(torch.func.vmap(lambda a: attention(a, a, a, mask))(x), attention(x, x, x, mask))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(x)
        assert attention(fake, fake, fake, mask).shape == x.shape


def test_meta_tensors_give_shapes_with_weights_too():
    module = layer().to("meta")
    x = torch.randn(B, L, D_MODEL, device="meta")
    assert module(x, mask=masks.causal(), need_weights=True).shape == (B, L, D_MODEL)
    assert module.attn.shape == (B, HEADS, L, L)


# ---------------------------------------------------------------------------------------------------------------------
# In layers and models


def test_a_layer_that_diverged_says_so_step_by_step_as_at_once():
    module, x = layer(), torch.randn(B, L, D_MODEL)
    for name in ("wq", "wk", "wv"):
        with torch.no_grad():
            kept = getattr(module, name).weight.clone()
            getattr(module, name).weight.fill_(math.nan)
            for mask in (masks.causal(), None):
                cache = KVCache()
                steps = [module(x[:, i : i + 1], mask=mask, cache=cache) for i in range(L)]
                assert torch.cat(steps, dim=1).isnan().all()
                assert module(x, mask=mask).isnan().all()
                assert module(x, mask=mask, need_weights=True).isnan().all()
            getattr(module, name).weight.copy_(kept)


def test_a_model_that_diverged_writes_nothing():
    model = Transformer(13, d_model=34, num_heads=2, d_ff=37, num_layers=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("wq.weight"):
                parameter.fill_(math.nan)
    with pytest.raises(ValueError, match=r"(?i)nan|finite|number"):
        greedy_search(model, torch.randint(13, (1, L)), start=0, end=1, max_length=4)
