"""Biases by a rule: the same as the tensor that they stand for, wherever attention meets one."""

import pytest
import torch
from torch import nn

from attnlib import KVCache, MultiHeadAttention, attention, masks
from attnlib.biases import ByDistance
from attnlib.kernels.choice import choose
from attnlib.kernels.tiles import shares
from attnlib.positions import ALiBi, alibi
from attnlib.scores import Scores
from tests.oracles import D_K, GROUPED_H, H_KV, B, H, L, S, draw, draw_qkv, in_blocks, loops
from tests.tolerances import assert_close

# Slopes as Press et al. write them, for a number of heads that is a power of two and for one that is not.
SLOPES = {1: [2**-8], 3: [2**-4, 2**-8, 2**-2], 6: [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]}


def table(heads, L, S):
    """ALiBi's bias, pair by pair."""
    rows = [[[-m * abs(i + S - L - j) for j in range(S)] for i in range(L)] for m in SLOPES[heads]]
    return torch.tensor(rows, dtype=torch.float64)


MASKS = {
    "none": None,
    "causal": masks.causal(),
    "window": masks.causal() & masks.sliding_window(3),
    "padding": masks.padding([6, 2]),
    "left padding": masks.causal() & ~masks.padding([0, 3]),
    "a tensor": torch.arange(7) % 3 != 1,
}


@pytest.mark.parametrize("heads", [(H, H), (GROUPED_H, H_KV)])
@pytest.mark.parametrize("lengths", [(L, S), (S, S), (1, S)])
@pytest.mark.parametrize("name", MASKS)
def test_alibi_equals_its_table_by_every_way_to_compute(compute, name, lengths, heads):
    mask = MASKS[name]
    if isinstance(mask, torch.Tensor):
        mask = mask.expand(lengths)
    tensors = draw_qkv(B, heads=heads, lengths=lengths)
    allowed = None if mask is None else (mask if isinstance(mask, torch.Tensor) else mask.dense(*lengths))
    expected = loops(*tensors, allowed, bias=table(heads[0], *lengths))
    assert_close(compute(*tensors, mask, bias=ALiBi(heads[0])), expected)


@pytest.mark.parametrize("shape", [(), (3,), (2, 5, 3)])
def test_alibi_with_fewer_and_with_more_axes(compute, shape):
    heads = shape[-1] if shape else 1
    query, key, value = draw(*shape, L, D_K), draw(*shape, S, D_K), draw(*shape, S, D_K)
    scores = query @ key.mT * D_K**-0.5 + (table(heads, L, S) if shape else table(1, L, S)[0])
    expected = scores.masked_fill(~masks.causal().dense(L, S), -torch.inf).softmax(-1) @ value
    assert_close(compute(query, key, value, masks.causal(), bias=ALiBi(heads)), expected)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_gradients_are_those_of_the_tensor(dropout_p):
    """With dropout too: the same weights are dropped, since the same generator draws for the same blocks."""
    tensors = draw_qkv(B, requires_grad=True)

    def gradients(bias):
        torch.manual_seed(1)
        output = in_blocks(*tensors, masks.causal(), bias=bias, dropout_p=dropout_p)
        return torch.autograd.grad(output.square().sum(), tensors)

    for found, expected in zip(gradients(ALiBi(H)), gradients(alibi(H, L, S, dtype=torch.float64)), strict=True):
        assert_close(found, expected)


def test_under_a_window_blocks_look_alike_whatever_the_distance_adds():
    """So that neighbours share a call, and what is added to the scores is made once for all of them."""
    window = masks.causal() & masks.sliding_window(256)

    def calls(bias):
        (share,) = shares(Scores.of(window, bias, (1, H, 4096, 4096), torch.device("cpu")))
        return len(list(share.groups()))

    assert calls(ALiBi(H)) == calls(None) < 10
    assert calls(torch.zeros(1, H, 1, 4096)) > 50


def test_nothing_of_the_size_of_all_pairs_is_made(monkeypatch):
    made, rule = [], ALiBi.among
    monkeypatch.setattr(ALiBi, "among", lambda *args, **kwargs: made.append(rule(*args, **kwargs)) or made[-1])
    x = draw(1, H, 4096, 2, dtype=torch.float32)
    attention(x, x, x, masks.causal() & masks.sliding_window(64), bias=ALiBi(H))
    assert 0 < sum(part.numel() for part in made) < H * 4096 * 64


def test_a_cache_goes_on_by_itself():
    layer, x = MultiHeadAttention(H, 2 * H, dropout=0.0).double(), draw(B, S, 2 * H)
    window = masks.causal() & masks.sliding_window(4)
    whole = layer(x, mask=window, bias=ALiBi(H))
    for sizes in ([1] * S, [3, 2, 2]):
        cache = KVCache()
        steps = [layer(part, mask=window, bias=ALiBi(H), cache=cache) for part in x.split(sizes, dim=1)]
        assert_close(torch.cat(steps, dim=1), whole)


def test_the_last_of_many_keys_keep_their_distances():
    """Few queries under a window read the last keys alone, and many keys are cut off from the left."""
    for rows in (1, 3, 100):
        query, key = draw(1, H, rows, D_K), draw(1, H, 700, D_K)
        window = masks.causal() & masks.sliding_window(130)
        expected = loops(query, key, key, window.dense(rows, 700), bias=table(H, rows, 700))
        assert_close(attention(query, key, key, window, bias=ALiBi(H)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_it_is_made_as_exactly_as_the_scores(compute, dtype):
    tensors = draw_qkv(B, dtype=dtype, lengths=(S, S))
    found = compute(*tensors, masks.causal(), bias=ALiBi(H))
    expected = compute(*tensors, masks.causal(), bias=table(H, S, S).float()[None])
    assert found.dtype == dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_far_positions_in_half_precision(dtype):
    """4099 and 4098 are one number in bfloat16: the distance is counted before anything is rounded."""
    found = ALiBi(1).among((0, 1), (0, 2), 4099, dtype, torch.device("cpu"))
    assert torch.equal(found, torch.tensor([[[[-4099 / 256, -4098 / 256]]]], dtype=dtype))


class Near(ByDistance):
    """One for all heads: what is farther than two is as good as closed."""

    num_heads = 1

    def values(self, distances, dtype):
        return torch.where(distances.abs() > 2, -1e4, 0.0).to(dtype)[None]


def test_a_kind_of_ones_own(compute):
    tensors = draw_qkv(B)
    expected = loops(*tensors, masks.sliding_window(3).dense(L, S))
    assert_close(compute(*tensors, bias=Near()), expected)
    assert_close(compute(*tensors, masks.causal(), bias=Near()),
                 loops(*tensors, (masks.causal() & masks.sliding_window(3)).dense(L, S)))  # fmt: skip


def test_compiled_and_exported():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = MultiHeadAttention(H, 2 * H, dropout=0.0)

        def forward(self, x):
            return self.attend(x, mask=masks.causal(), bias=ALiBi(H))

    layer, x = Layer().eval(), torch.randn(B, S, 2 * H)
    expected = layer(x)
    assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), expected)
    dims = {0: torch.export.Dim("B", min=2), 1: torch.export.Dim("L", min=2)}
    exported = torch.export.export(layer, (x,), dynamic_shapes=(dims,))
    assert_close(exported.module()(x[:, :4]), layer(x[:, :4]))


def test_what_does_not_fit():
    x = draw(B, H, S, D_K)
    with pytest.raises(ValueError, match=r"bias: expected one of 3 heads, got ALiBi of 2"):
        attention(x, x, x, bias=ALiBi(2))
    with pytest.raises(ValueError, match=r"bias: expected one of 1 heads, got ALiBi of 3"):
        attention(x[0, 0], x[0, 0], x[0, 0], bias=ALiBi(3))
    with pytest.raises(TypeError, match=r"bias: expected a tensor, got type"):
        attention(x, x, x, bias=ALiBi)
    with pytest.raises(ValueError, match=r"num_heads: expected at least 1, got 0"):
        ALiBi(0)
    assert repr(ALiBi(3)) == "ALiBi(3)"


class Own(ByDistance):
    num_heads = 2

    def __init__(self, values):
        self.values = values


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (lambda d, dtype: d.to(dtype), ValueError, r"Own.values: expected \(H, n\) = \(2, 3\) .*, got \(3,\)"),
        (lambda d, dtype: torch.stack([d, d], -1).to(dtype), ValueError, r"got \(3, 2\)"),
        (lambda d, dtype: torch.stack([d, d, d]).to(dtype), ValueError, r"got \(3, 3\)"),
        (lambda d, dtype: None, TypeError, r"Own.values: expected a tensor, got NoneType"),
    ],
)
def test_a_rule_of_another_shape_is_refused_before_the_cache_grows(values, error, message):
    attend, cache = MultiHeadAttention(2, 4), KVCache()
    with pytest.raises(error, match=message):
        attend(torch.zeros(1, 3, 4), bias=Own(values), cache=cache)
    assert len(cache) == 0


@pytest.mark.parametrize("length", [7, 300])
def test_a_rule_gets_no_gradient_by_any_kernel(length):
    slope, x = torch.ones(2, 1, requires_grad=True), draw(1, 2, length, D_K, requires_grad=True)
    bias = Own(lambda distances, dtype: slope.to(dtype) * -distances.abs())
    for mask in (masks.causal(), masks.causal() & masks.sliding_window(3)):
        attention(x, x, x, mask, bias=bias).sum().backward()
        assert slope.grad is None


def test_no_queries_and_no_keys(compute):
    nothing = draw(B, H, 0, D_K)
    assert compute(nothing, nothing, nothing, bias=ALiBi(H)).shape == nothing.shape


def test_blocks_are_chosen_as_without_a_bias():
    window = masks.causal() & masks.sliding_window(8)
    for bias in (None, ALiBi(H)):
        scores = Scores.of(window, bias, (1, H, 300, 300), torch.device("cpu"))
        assert choose(scores, readable=True).kernel == "blockwise"
