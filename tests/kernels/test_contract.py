"""Long rows keep what short ones promise: bad numbers, threads, masks that change, masks of one's own."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

from attnlib import MultiHeadAttention, attention, attention_weights, masks
from attnlib.kernels import choice
from attnlib.kernels.choice import choose
from attnlib.lab.memory import peak_memory
from tests.oracles import PATHS, attend, dense_attention, draw, open_scores
from tests.random_masks import EvenUpTo
from tests.tolerances import assert_close

L = 600
WINDOW = masks.causal() & masks.sliding_window(50)
LONG_MASKS = {
    "window": WINDOW,
    "padding": masks.padding([L, 200]),
    "causal and padding": masks.causal() & masks.padding([L, 200]),
    "documents": masks.documents(torch.arange(L) // 70) & masks.causal(),
    "own": EvenUpTo([L, 200]) & masks.causal(),
}


# ---------------------------------------------------------------------------------------------------------------------
# Numbers that are not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", LONG_MASKS)
def test_a_bad_number_far_away_spoils_only_the_queries_that_meet_it(name, bad):
    mask = LONG_MASKS[name]
    query, key, value = (draw(2, 3, L, 5, requires_grad=True) for _ in range(3))
    spoilt_key, spoilt_value = key.detach().clone(), value.detach().clone()
    spoilt_key[0, :, 301], spoilt_value[1, 2, 199], spoilt_value[:, :, 450:] = bad, bad, bad
    allowed = mask.dense(L, L).expand(2, 3, L, L)
    meets = (allowed & (~(spoilt_key.isfinite() & spoilt_value.isfinite()).all(-1))[:, :, None]).any(-1, keepdim=True)
    expected = dense_attention(query, key, value, allowed, 5**-0.5).masked_fill(meets, math.nan)
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
    mask = WINDOW & masks.padding([16_375])
    assert peak_memory(lambda: attention(x, spoilt, spoilt, mask)) < 16_384**2 / 16


def test_a_matrix_has_no_heads():
    x = draw(L, 5)
    spoilt = x.clone()
    spoilt[-1] = math.nan
    clean = attention(x, x, x, WINDOW & masks.padding([L - 1]))
    assert_close(attention(x, spoilt, spoilt, WINDOW & masks.padding([L - 1])), clean)


# ---------------------------------------------------------------------------------------------------------------------
# Masks


def test_a_mask_does_not_change_with_the_tensor_that_it_was_made_from():
    ids, lengths, pairs = torch.arange(L) // 70, torch.tensor([L, 200]), torch.rand(L, L) < 0.5
    numbers = np.array([L, 200])
    made = {
        "documents": masks.documents(ids) & masks.causal(),
        "padding": masks.padding(lengths) & masks.causal(),
        "padding from numpy": masks.padding(numbers) & masks.causal(),
        "pairs": masks.from_tensor(pairs) & masks.causal(),
    }
    before = {name: mask.dense(L, L) for name, mask in made.items()}
    x = draw(2, 1, L, 3, requires_grad=True)
    outputs = {name: attention(x, x, x, mask) for name, mask in made.items()}
    ids.fill_(0), lengths.fill_(1), pairs.fill_(False), numbers.fill(1)
    for name, mask in made.items():
        assert torch.equal(mask.dense(L, L), before[name])
        (found,) = torch.autograd.grad(outputs[name].square().sum(), x)
        expected = dense_attention(x, x, x, before[name], 3**-0.5).square().sum()
        assert_close(found, torch.autograd.grad(expected, x)[0])


def test_documents_with_a_batch_of_one_serve_any_batch():
    x = draw(3, 2, L, 3)
    mask = masks.documents((torch.arange(L) // 50)[None]) & masks.padding([L, 200, 100])
    assert_close(attention(x, x, x, mask), dense_attention(x, x, x, mask.dense(L, L), 3**-0.5))


def test_masks_that_know_no_runs_are_computed_in_one_call():
    x = torch.zeros(2, 1, L, 2)
    for mask in (EvenUpTo([L, 3]), ~masks.from_tensor(torch.ones(L, L) > 0), EvenUpTo([3, 3]) | EvenUpTo([4, 4])):
        assert choose(open_scores(x, x, mask), readable=True) is choice.DENSE_MASK
    assert choose(open_scores(x, x, EvenUpTo([L, 3]) & masks.causal()), readable=True) is choice.BLOCKS


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scale", [-0.7, 0.0])
def test_a_causal_mask_with_any_scale(path, scale):
    x = draw(1, 2, 17, 3)
    expected = dense_attention(x, x, x, torch.ones(17, 17, dtype=torch.bool).tril(), scale)
    assert_close(PATHS[path](x, x, x, masks.causal(), scale=scale), expected)


# ---------------------------------------------------------------------------------------------------------------------
# Where it runs


def test_threads_do_not_disturb_each_others_dropout():
    """The output is linear in the values: ⟨output, g⟩ = ⟨values, gradient⟩ holds if both ways dropped the same."""

    def gap(_):
        x, value = torch.randn(1, 2, L, 4).double(), torch.randn(1, 2, L, 4).double().requires_grad_()
        grad = torch.randn(1, 2, L, 4).double()
        output = attention(x, x, value, WINDOW, dropout_p=0.3)
        (found,) = torch.autograd.grad(output, value, grad)
        return abs((output * grad).sum() - (value * found).sum()).item()

    with ThreadPoolExecutor(3) as pool:
        assert max(pool.map(gap, range(30))) < 1e-9


def test_another_default_device_changes_nothing():
    x = draw(1, 2, L, 3)
    expected = attention(x, x, x, WINDOW)
    with torch.device("meta"):
        assert_close(attention(x, x, x, WINDOW), expected)


@pytest.mark.parametrize("mask", [WINDOW, LONG_MASKS["causal and padding"]])
def test_gradients_in_a_batch(mask):
    x = draw(2, 1, L, 2, requires_grad=True)
    output = attention(x, x, x, mask)
    grads = torch.randn(3, *output.shape).double()
    (found,) = torch.autograd.grad(output, x, grads, is_grads_batched=True, retain_graph=True)
    for one, grad in zip(found, grads, strict=True):
        assert_close(one, torch.autograd.grad(output, x, grad, retain_graph=True)[0])


def test_values_without_width_are_no_error():
    x = draw(1, 2, L, 3)
    assert attention(x, x, x[..., :0], WINDOW).shape == (1, 2, L, 0)


def test_weights_equal_the_output_where_the_window_is_long():
    query, key, value = draw(1, 2, L, 3), draw(1, 2, L, 3), draw(1, 2, L, 3)
    output, weights = attend(query, key, value, WINDOW, need_weights=True)
    assert_close(output, attention(query, key, value, WINDOW))
    assert_close(weights @ value, output)


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives of every kind: right, or an error


def test_a_step_of_an_inner_loop_has_the_dense_outer_gradient():
    """As MAML does: the outer gradient goes through the inner one."""
    x, weight = draw(2, 2, L, 4), draw(4, 4, requires_grad=True)

    def outer(attend):
        loss = lambda w: attend(x @ w, x @ w, x).square().mean()  # noqa: E731
        (slope,) = torch.autograd.grad(loss(weight), weight, create_graph=True)
        return torch.autograd.grad(loss(weight - 0.5 * slope), weight)[0]

    for mask in (WINDOW, LONG_MASKS["causal and padding"]):
        found = outer(lambda q, k, v, mask=mask: attention(q, k, v, mask))
        assert_close(found, outer(lambda q, k, v, mask=mask: dense_attention(q, k, v, mask.dense(L, L), 4**-0.5)))


@pytest.mark.parametrize("ask", [torch.autograd.grad, lambda y, x: y.backward()])
def test_a_second_derivative_that_torchs_kernel_lacks_is_an_error(ask):
    x = draw(1, 2, 7, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(attention(x, x, x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"derivative for .* is not implemented"):
        ask(slope.square().sum(), x)


FORWARD = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch, on the first such derivative


@FORWARD
@pytest.mark.parametrize("name", ["none", "causal", "dense", *LONG_MASKS])
def test_forward_derivatives_equal_the_dense_ones(name):
    known = {"none": None, "causal": masks.causal(), "dense": torch.rand(2, 1, L, L) < 0.9}
    mask = {**known, **LONG_MASKS}[name]
    allowed = torch.ones(L, L, dtype=torch.bool) if mask is None else mask if name == "dense" else mask.dense(L, L)
    primals, tangents = ([draw(2, 4, L, 3), draw(2, 2, L, 3), draw(2, 2, L, 5)] for _ in range(2))
    ours = lambda q, k, v: attention(q, k, v, mask)  # noqa: E731
    dense = lambda q, k, v: dense_attention(q, k, v, allowed, 3**-0.5)  # noqa: E731
    expected = torch.func.jvp(dense, tuple(primals), tuple(tangents))
    for found, wanted in zip(torch.func.jvp(ours, tuple(primals), tuple(tangents)), expected, strict=True):
        assert_close(found, wanted)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(primals, tangents, strict=True)]
        for found, wanted in zip(forward_ad.unpack_dual(ours(*duals)), expected, strict=True):
            assert_close(found, wanted)


@FORWARD
def test_a_forward_derivative_of_the_weights():
    query, key, tangent = draw(5, 3), draw(7, 3), draw(5, 3)
    with forward_ad.dual_level():
        weights = attention_weights(forward_ad.make_dual(query, tangent), key, masks.causal())
        found = forward_ad.unpack_dual(weights).tangent
    eye, allowed = torch.eye(7).double(), masks.causal().dense(5, 7)
    assert_close(
        found, torch.func.jvp(lambda q: dense_attention(q, key, eye, allowed, 3**-0.5), (query,), (tangent,))[1]
    )


@FORWARD
def test_forward_over_reverse():
    x = draw(1, 2, 5, 3)
    found = torch.func.hessian(lambda t: attention(t, t, t, masks.causal()).square().sum())(x)
    allowed = masks.causal().dense(5, 5)
    assert_close(found, torch.func.hessian(lambda t: dense_attention(t, t, t, allowed, 3**-0.5).square().sum())(x))


@FORWARD
def test_forward_derivatives_of_a_module_and_in_a_compiled_graph():
    layer, x, tangent = MultiHeadAttention(2, 8).double().eval(), draw(3, 7, 8), draw(3, 7, 8)
    derivative = lambda **options: torch.func.jvp(  # noqa: E731
        lambda t: layer(t, mask=masks.causal(), **options), (x,), (tangent,)
    )
    expected = derivative(need_weights=True)
    for found in (derivative(), torch.compile(derivative, backend="eager", fullgraph=True)()):
        for one, wanted in zip(found, expected, strict=True):
            assert_close(one, wanted)


# ---------------------------------------------------------------------------------------------------------------------
# Tracing


class Layer(torch.nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.attention, self.mask = MultiHeadAttention(2, 8).double().eval(), mask

    def forward(self, x):
        return self.attention(x, mask=self.mask)


def traced(layer, x):
    return torch.jit.trace(layer, (x,))


TRACING = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")


@TRACING
@pytest.mark.parametrize("name", LONG_MASKS)
def test_a_traced_module_computes_the_same(name):
    layer = Layer(LONG_MASKS[name])
    graph = traced(layer, draw(2, L, 8))
    x = draw(2, L, 8)
    assert_close(graph(x), layer(x))


@TRACING
def test_a_traced_module_takes_other_lengths():
    layer = Layer(WINDOW)
    graph = traced(layer, draw(1, L, 8))
    for length in (L - 99, L + 99):
        x = draw(1, length, 8)
        assert_close(graph(x), layer(x))


@TRACING
def test_a_traced_graph_knows_of_queries_that_may_attend_to_nothing():
    query, key = draw(2, 5, 3), draw(2, 7, 3)
    graph = torch.jit.trace(attention_weights, (query, key, torch.ones(5, 7, dtype=torch.bool)))
    closed = torch.rand(5, 7) < 0.5
    closed[2] = False
    assert_close(graph(query, key, closed), attention_weights(query, key, closed))


@TRACING
@pytest.mark.parametrize("length", [7, L])
def test_a_traced_module_lets_no_bad_number_out_of_the_padding(length):
    layer = Layer(masks.padding([length - 2]))
    graph = traced(layer, draw(1, length, 8))
    x = draw(1, length, 8)
    x[:, -2:] = math.nan
    assert graph(x)[:, :-2].isfinite().all()
    torch.testing.assert_close(graph(x), layer(x), equal_nan=True)
