"""Long rows keep what short ones promise: masks that change, masks of one's own, threads, derivatives, tracing.

Numbers that are not finite are in ``tests/test_quarantine.py``.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

from attnlib import MultiHeadAttention, attention, attention_weights, masks
from attnlib.kernels import choice
from attnlib.kernels.choice import choose
from attnlib.scores import Scores
from tests.oracles import PATHS, attend, dense_attention, draw, open_scores
from tests.random_masks import Repeated, RepeatedFor
from tests.tolerances import assert_close

B, H, H_KV, L, D_K, D_V = 2, 6, 3, 601, 5, 7
D_MODEL, HEADS = 17, 3  # of a layer, with heads of D_K and D_V
OWN = RepeatedFor(torch.arange(2 * 7 * 3).reshape(2, 1, 7, 3) % 5 > 1, B, H)
WINDOW = masks.causal() & masks.sliding_window(53)
LONG_MASKS = {
    "window": WINDOW,
    "padding": masks.padding([L, 199]),
    "causal and padding": masks.causal() & masks.padding([L, 199]),
    "documents": masks.documents(torch.arange(L) // 71) & masks.causal(),
    "own": OWN & masks.causal(),
}


# ---------------------------------------------------------------------------------------------------------------------
# Masks


def test_a_mask_does_not_change_with_the_tensor_that_it_was_made_from():
    ids, lengths, pairs = torch.arange(L) // 71, torch.tensor([L, 199]), torch.rand(L, L) < 0.5
    numbers = np.array([L, 199])
    made = {
        "documents": masks.documents(ids) & masks.causal(),
        "padding": masks.padding(lengths) & masks.causal(),
        "padding from numpy": masks.padding(numbers) & masks.causal(),
        "pairs": masks.from_tensor(pairs) & masks.causal(),
    }
    before = {name: mask.dense(L, L) for name, mask in made.items()}
    x = draw(B, 1, L, 3, requires_grad=True)
    outputs = {name: attention(x, x, x, mask) for name, mask in made.items()}
    ids.fill_(0), lengths.fill_(1), pairs.fill_(False), numbers.fill(1)
    for name, mask in made.items():
        assert torch.equal(mask.dense(L, L), before[name])
        (found,) = torch.autograd.grad(outputs[name].square().sum(), x)
        expected = dense_attention(x, x, x, before[name], 3**-0.5).square().sum()
        assert_close(found, torch.autograd.grad(expected, x)[0])


def test_documents_with_a_batch_of_one_serve_any_batch():
    x = draw(3, 2, L, 3)
    mask = masks.documents((torch.arange(L) // 53)[None]) & masks.padding([L, 199, 101])
    assert_close(attention(x, x, x, mask), dense_attention(x, x, x, mask.dense(L, L), 3**-0.5))


def test_masks_that_know_no_runs_are_computed_in_one_call():
    x = torch.zeros(B, H, L, D_K)
    for mask in (OWN, ~masks.from_tensor(torch.ones(L, L) > 0), OWN | ~OWN):
        assert choose(open_scores(x, x, mask), readable=True) is choice.DENSE_MASK
    assert choose(open_scores(x, x, OWN & masks.causal()), readable=True) is choice.BLOCKS


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scale", [-0.7, 0.0])
def test_a_causal_mask_with_any_scale(path, scale):
    x = draw(1, 2, 17, 3)
    expected = dense_attention(x, x, x, torch.ones(17, 17, dtype=torch.bool).tril(), scale)
    assert_close(PATHS[path](x, x, x, masks.causal(), scale=scale), expected)


def test_a_mask_of_ones_own_counts_the_examples_of_all_leading_axes():
    x = draw(2, 3, 5, L, D_K)
    mask = Repeated(torch.rand(6, 5, 7, 3) < 0.6)
    for some in (mask, mask & masks.causal(), ~mask | WINDOW):
        flat = x.flatten(0, 1)
        assert_close(attention(x, x, x, some).flatten(0, 1), attention(flat, flat, flat, some))
    first = Repeated(mask.pattern[:1])
    assert_close(attention(x[0, 0], x[0, 0], x[0, 0], first), attention(x, x, x, first)[0, 0])
    first = Repeated(mask.pattern[:1, :1])
    assert_close(attention(x[0, 0, 0], x[0, 0, 0], x[0, 0, 0], first), attention(x, x, x, first)[0, 0, 0])


def test_checked_scores_of_another_layer_lose_no_bias():
    """A layer with other heads takes the bias of scores that were checked above, or refuses them."""
    x, bias = draw(B, 5, D_MODEL), draw(5, 5)
    layer = MultiHeadAttention(HEADS, D_MODEL, D_K, D_V).double().eval()
    scores = Scores.of(masks.causal(), bias, (B, 2 * HEADS, 5, 5), x.device)
    try:
        found = layer(x, mask=scores)
    except ValueError:
        return
    assert_close(found, layer(x, mask=masks.causal(), bias=bias))


def test_checked_scores_beside_a_bias_lose_no_bias():
    x, bias, more = draw(B, 5, D_MODEL), draw(5, 5), draw(5, 5)
    layer = MultiHeadAttention(HEADS, D_MODEL, D_K, D_V).double().eval()
    scores = Scores.of(masks.causal(), bias, (B, HEADS, 5, 5), x.device)
    try:
        found = layer(x, mask=scores, bias=more)
    except (TypeError, ValueError):
        return
    assert_close(found, layer(x, mask=masks.causal(), bias=bias + more))


@pytest.mark.xfail(strict=True, reason="torch's compiler knows no ~ of an object: there, mask.__invert__() is the way")
def test_a_negation_inside_of_a_compiled_graph():
    torch.compiler.reset()
    x = draw(B, 3, 7, D_K)
    negated = torch.compile(lambda x: attention(x, x, x, ~masks.causal()), backend="eager", fullgraph=True)
    assert_close(negated(x), attention(x, x, x, ~masks.causal()))


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


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_another_default_device_changes_nothing_of_a_backward_pass(dropout_p):
    """The random numbers of dropout are the tensors', wherever new tensors are made."""

    def gradient():
        torch.manual_seed(1)
        x = torch.ones(B, 3, L, D_K, dtype=torch.float64, device="cpu").cumsum(-2).sin().requires_grad_()
        return torch.autograd.grad(attention(x, x, x, WINDOW, dropout_p=dropout_p).square().sum(), x)[0]

    expected = gradient()
    with torch.device("meta"):
        assert_close(gradient(), expected)


@pytest.mark.parametrize("mask", [WINDOW, LONG_MASKS["causal and padding"]])
def test_gradients_in_a_batch(mask):
    x = draw(B, 1, L, 5, requires_grad=True)
    output = attention(x, x, x, mask)
    grads = torch.randn(3, *output.shape).double()
    (found,) = torch.autograd.grad(output, x, grads, is_grads_batched=True, retain_graph=True)
    for one, grad in zip(found, grads, strict=True):
        assert_close(one, torch.autograd.grad(output, x, grad, retain_graph=True)[0])


def test_values_without_width_are_no_error():
    x = draw(1, 2, L, 3)
    assert attention(x, x, x[..., :0], WINDOW).shape == (1, 2, L, 0)


def test_weights_equal_the_output_where_the_window_is_long():
    query, key, value = draw(B, H, L, D_K), draw(B, H_KV, L, D_K), draw(B, H_KV, L, D_V)
    output, weights = attend(query, key, value, WINDOW, need_weights=True)
    assert_close(output, attention(query, key, value, WINDOW))
    assert_close(weights @ value.repeat_interleave(H // H_KV, dim=1), output)


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives of every kind: right, or an error


def test_a_step_of_an_inner_loop_has_the_dense_outer_gradient():
    """As MAML does: the outer gradient goes through the inner one."""
    x, weight = draw(B, 3, L, D_K), draw(D_K, D_K, requires_grad=True)

    def outer(attend):
        loss = lambda w: attend(x @ w, x @ w, x).square().mean()  # noqa: E731
        (slope,) = torch.autograd.grad(loss(weight), weight, create_graph=True)
        return torch.autograd.grad(loss(weight - 0.5 * slope), weight)[0]

    for mask in (WINDOW, LONG_MASKS["causal and padding"]):
        found = outer(lambda q, k, v, mask=mask: attention(q, k, v, mask))
        assert_close(found, outer(lambda q, k, v, mask=mask: dense_attention(q, k, v, mask.dense(L, L), D_K**-0.5)))


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
    primals, tangents = ([draw(B, H, L, D_K), draw(B, H_KV, L, D_K), draw(B, H_KV, L, D_V)] for _ in range(2))
    ours = lambda q, k, v: attention(q, k, v, mask)  # noqa: E731
    dense = lambda q, k, v: dense_attention(q, k, v, allowed, D_K**-0.5)  # noqa: E731
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
    layer, x, tangent = (
        MultiHeadAttention(HEADS, D_MODEL, D_K, D_V).double().eval(),
        draw(B, 11, D_MODEL),
        draw(B, 11, D_MODEL),
    )
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
        self.attention, self.mask = MultiHeadAttention(HEADS, D_MODEL, D_K, D_V).double().eval(), mask

    def forward(self, x):
        return self.attention(x, mask=self.mask)


def traced(layer, x):
    return torch.jit.trace(layer, (x,))


TRACING = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")


@TRACING
@pytest.mark.parametrize("name", LONG_MASKS)
def test_a_traced_module_computes_the_same(name):
    layer = Layer(LONG_MASKS[name])
    graph = traced(layer, draw(B, L, D_MODEL))
    x = draw(B, L, D_MODEL)
    assert_close(graph(x), layer(x))


@TRACING
def test_a_traced_module_takes_other_lengths():
    layer = Layer(WINDOW)
    graph = traced(layer, draw(1, L, D_MODEL))
    for length in (L - 99, L + 98):
        x = draw(1, length, D_MODEL)
        assert_close(graph(x), layer(x))


@TRACING
def test_a_traced_graph_knows_of_queries_that_may_attend_to_nothing():
    query, key = draw(2, 5, 3), draw(2, 7, 3)
    graph = torch.jit.trace(attention_weights, (query, key, torch.ones(5, 7, dtype=torch.bool)))
    closed = torch.rand(5, 7) < 0.5
    closed[2] = False
    assert_close(graph(query, key, closed), attention_weights(query, key, closed))
