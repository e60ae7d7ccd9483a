"""torch's own kernel: what it takes as it is, and what it must be given in another form to store no weights."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from attnlib import MultiHeadAttention, attention, masks
from attnlib.kernels import fused
from attnlib.lab.memory import peak_memory
from tests.oracles import dense_attention, draw, open_scores
from tests.tolerances import assert_close

H, L, S, D_K, D_V = 3, 5, 7, 2, 4
BATCHES = [(), (H,), (2, H), (2, 1, H), (2, 5, H), (2, 1, 5, H)]


def turned(x):
    """The same elements, those of a column side by side."""
    return x.mT.contiguous().mT


# ---------------------------------------------------------------------------------------------------------------------
# Any number of axes


def masks_of_all_shapes(scores):
    """Yield shapes that broadcast to ``scores``: (L, S); all axes whole; all but one; one alone."""
    yield scores[-2:]
    if len(scores) == 2:
        return
    yield scores
    for axis in range(len(scores)):
        yield (*scores[:axis], 1, *scores[axis + 1 :])
        yield (*(1,) * axis, scores[axis], *(1,) * (len(scores) - axis - 1))


@pytest.mark.parametrize("batch", BATCHES)
def test_any_axes_give_the_dense_output_and_gradients(batch):
    tensors = [draw(*batch, n, d, requires_grad=True) for n, d in ((L, D_K), (S, D_K), (S, D_V))]
    grad = draw(*batch, L, D_V)
    for shape in masks_of_all_shapes((*batch, L, S)):
        allowed = torch.rand(shape) < 0.7
        bias = draw(*shape)
        ours = attention(*tensors, allowed, bias=bias, scale=0.6)
        scores = (tensors[0] @ tensors[1].mT * 0.6 + bias).masked_fill(~allowed, -torch.inf)
        dead = ~allowed.expand_as(scores).any(-1, keepdim=True)
        expected = torch.softmax(scores.masked_fill(dead, 0), -1).masked_fill(dead, 0) @ tensors[2]
        assert_close(ours, expected)
        for found, wanted in zip(
            torch.autograd.grad(ours, tensors, grad), torch.autograd.grad(expected, tensors, grad), strict=True
        ):
            assert_close(found, wanted)


@pytest.mark.parametrize("batch", [b for b in BATCHES if b])
def test_grouped_heads_with_any_axes(batch):
    query, key, value = draw(*batch[:-1], 6, L, D_K), draw(*batch, S, D_K), draw(*batch, S, D_V)
    for mask in (None, masks.causal(), masks.causal().dense(L, S)):
        allowed = torch.ones(L, S, dtype=torch.bool) if mask is None else masks.causal().dense(L, S)
        assert_close(attention(query, key, value, mask), dense_attention(query, key, value, allowed, D_K**-0.5))


@pytest.mark.parametrize("shape", [(0, H, L, 3), (2, 0, H, L, 3), (H, 0, 3), (2, 5, H, 0, 3), (0, 3)])
def test_what_is_empty_stays_so(shape):
    x = draw(*shape)
    assert attention(x, x, x).shape == x.shape
    assert attention(x, x, x, masks.causal() & masks.sliding_window(2)).shape == x.shape


def test_a_compiled_graph_takes_any_axes():
    x = draw(2, 5, H, L, D_K)
    torch.compiler.reset()
    compiled = torch.compile(attention, backend="eager", fullgraph=True, dynamic=True)
    for y in (x[0, 0, 0], x[0, 0], x[0], x, x[:, :3], turned(x)):
        assert_close(compiled(y, y, y, masks.causal()), attention(y, y, y, masks.causal()))


# ---------------------------------------------------------------------------------------------------------------------
# Memory


FORMS = {
    "(L, d)": lambda n: torch.randn(n, 4),
    "(H, L, d)": lambda n: torch.randn(2, n, 4),
    "(B, H, L, d)": lambda n: torch.randn(1, 2, n, 4),
    "five axes": lambda n: torch.randn(1, 2, 1, n, 4),
    "six axes": lambda n: torch.randn(1, 2, 1, 1, n, 4),
    "columns side by side": lambda n: turned(torch.randn(1, 2, n, 4)),
    "columns side by side, three axes": lambda n: turned(torch.randn(2, n, 4)),
}


def grows_with_the_length(used):
    """Check that twice the length needs about twice the memory, not four times."""
    smaller, larger = used(1024), used(2048)
    assert larger < 2.2 * smaller
    assert larger < 2048**2  # one byte for each pair of a single head would be more


@pytest.mark.parametrize("mask", [None, masks.causal()])
@pytest.mark.parametrize("form", FORMS)
def test_no_form_makes_torch_store_the_weights(form, mask):
    def used(n):
        x = FORMS[form](n).requires_grad_()
        return peak_memory(lambda: attention(x, x, x, mask).sum().backward())

    grows_with_the_length(used)


@pytest.mark.parametrize("place", range(3))
def test_one_tensor_in_another_order_is_enough_to_tell(place):
    def used(n):
        tensors = [torch.randn(1, 2, n, 4) for _ in range(3)]
        tensors[place] = turned(tensors[place])
        return peak_memory(lambda: attention(*tensors))

    grows_with_the_length(used)


@pytest.mark.parametrize(("rows", "copied"), [(16, False), (17, True)])
def test_few_queries_are_not_worth_a_copy_of_the_keys(rows, copied):
    query, key = draw(1, 2, rows, 16), turned(draw(1, 2, 29, 16))
    with mock.patch.object(F, "scaled_dot_product_attention") as torchs:
        fused.attend(query, key, key, open_scores(query, key), scale=0.25)
    assert (torchs.call_args.args[1].data_ptr() != key.data_ptr()) == copied


@pytest.mark.parametrize("rows", [1, 2, 3, 29])
def test_tensors_need_not_lie_in_order(rows):
    query, key, value = turned(draw(2, H, rows, D_V)), turned(draw(2, H, S, D_V)), turned(draw(2, H, S, 3))
    allowed = torch.rand(rows, S) < 0.7
    assert_close(attention(query, key, value, allowed), dense_attention(query, key, value, allowed, D_V**-0.5))


def test_a_module_without_a_batch_stores_no_weights():
    layer = MultiHeadAttention(2, 8, dropout=0.0)
    grows_with_the_length(lambda n: peak_memory(lambda: layer(torch.randn(n, 8), mask=masks.causal()).sum().backward()))


# ---------------------------------------------------------------------------------------------------------------------
# Half precision on a CPU: what torch's kernel is slow with, it is given in another form


def halves(dtype, rows, keys, requires_grad=False):
    """Return query, key and value of grouped heads, in half precision, and the same in float64."""
    half = [
        torch.randn(2, h, n, 4).to(dtype).requires_grad_(requires_grad) for h, n in ((6, rows), (3, keys), (3, keys))
    ]
    return half, [x.detach().double().requires_grad_(requires_grad) for x in half]


def given_on_a_cpu(compute):
    """Return what ``compute`` returns, and the dtype that torch's function computed in, and the rows of the query."""
    calls, real = [], F.scaled_dot_product_attention

    def record(query, *others, **how):
        output = real(query, *others, **how)
        calls.append((output.dtype, query.shape[-2]))
        return output

    with mock.patch.object(F, "scaled_dot_product_attention", record):
        return compute(), calls[0]


@pytest.mark.parametrize("mask", [None, masks.sliding_window(5), masks.padding([7, 4])])
@pytest.mark.parametrize("bias", [False, True])
def test_a_single_query_in_bfloat16_is_asked_twice(mask, bias):
    half, exact = halves(torch.bfloat16, 1, S)
    added = torch.randn(1, S) if bias else None
    ours, given = given_on_a_cpu(lambda: attention(*half, mask, bias=added))
    assert given == (torch.bfloat16, 2)
    assert_close(ours, attention(*exact, mask, bias=None if added is None else added.double()).bfloat16())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("dtype", "keys", "widened"),
    [(torch.bfloat16, 128, True), (torch.bfloat16, 129, False), (torch.float16, 129, True)],
)
def test_half_precision_is_trained_in_float32_where_that_is_faster(dtype, keys, widened, autocast):
    half, exact = halves(dtype, L, keys, requires_grad=True)
    with torch.autocast("cpu", dtype, enabled=autocast):
        ours, given = given_on_a_cpu(lambda: attention(*half))
        without_gradient = given_on_a_cpu(lambda: attention(*(x.detach() for x in half)))[1]
    assert given == (torch.float32 if widened else dtype, L)
    assert without_gradient == (dtype, L)
    grad = torch.randn_like(ours)
    assert_close(ours, attention(*exact).to(dtype))
    found = torch.autograd.grad(ours, half, grad)
    for one, wanted in zip(found, torch.autograd.grad(attention(*exact), exact, grad.double()), strict=True):
        assert_close(one, wanted.to(dtype))


# ---------------------------------------------------------------------------------------------------------------------
# Other devices: what torch is given there. Nothing is computed: no such device is at hand


def given(device, dtype, d_v, bias):
    """Return the shapes that torch's function gets for 6 query heads and 3 key heads, and whether heads are grouped."""
    calls = []

    def record(query, key, value, *_, enable_gqa, **__):
        calls.append(([x.shape[1:] for x in (query, key, value)], enable_gqa))
        return query.new_empty(*query.shape[:-1], value.shape[-1])

    with FakeTensorMode(), mock.patch.object(F, "scaled_dot_product_attention", record):
        query = torch.empty(2, 6, L, 4, device=device, dtype=dtype)
        key, value = (torch.empty(2, 3, S, d, device=device, dtype=dtype) for d in (4, d_v))
        added = torch.empty(L, S, device=device, dtype=dtype) if bias else None
        output = fused.attend(query, key, value, open_scores(query, key, bias=added), scale=0.5)
        assert output.shape == (2, 6, L, d_v)
        assert output.dtype == dtype
    return calls[0]


@pytest.mark.parametrize(
    ("dtype", "d_v", "bias", "grouped"),
    [
        (torch.float16, 4, False, True),
        (torch.bfloat16, 4, False, True),
        (torch.bfloat16, 4, True, False),
        (torch.bfloat16, 3, False, False),
        (torch.float32, 4, False, False),
        (torch.float32, 3, True, False),
    ],
)
def test_cuda_gets_a_key_head_for_each_query_head_where_groups_would_store_the_weights(dtype, d_v, bias, grouped):
    heads = 3 if grouped else 6
    assert given("cuda:0", dtype, d_v, bias) == ([(6, L, 4), (heads, S, 4), (heads, S, d_v)], grouped)


def test_mps_wants_one_width_before_torch_2_12(monkeypatch):
    with FakeTensorMode():
        of = {device: torch.empty(2, device=device) for device in ("cpu", "cuda:0", "mps:0")}
    for old in (True, False):
        monkeypatch.setattr(fused, "MPS_WANTS_ONE_WIDTH", old)
        for dropout_p in (0.0, 0.1):
            wants = {device: fused._wants_one_width(x, dropout_p) for device, x in of.items()}
            assert wants == {"cpu": not dropout_p, "cuda:0": False, "mps:0": old}


def test_on_a_cpu_groups_stay_groups():
    assert given("cpu", torch.float32, 4, True) == ([(6, L, 4), (3, S, 4), (3, S, 4)], True)
