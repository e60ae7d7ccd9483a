"""Which kernel is taken, and what is said of it."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from attnlib import MultiHeadAttention, attention, attention_weights, kernels, masks
from attnlib.kernels import choice, flash_cpu
from attnlib.kernels.quarantine import is_readable
from attnlib.kernels.sizes import ON_A_CPU, Sizes
from tests.oracles import open_scores

L = ON_A_CPU.few_keys
LONG = torch.zeros(1, 1, L, 2)
WINDOW = masks.causal() & masks.sliding_window(16)


def choose(query, key, value, mask, *, bias=None, **options):
    return choice.choose(open_scores(query, key, mask, bias), is_readable(query, key, value), **options)


@pytest.mark.parametrize(
    ("mask", "options", "kernel"),
    [
        (None, {}, "fused"),
        (masks.causal(), {}, "fused"),
        (WINDOW, {}, "blockwise"),
        (~masks.causal(), {}, "blockwise"),
        (masks.padding([200]), {}, "blockwise"),
        (masks.causal() & masks.padding([200]), {}, "blockwise"),
        (masks.documents(torch.arange(L) // 64), {}, "blockwise"),
        (masks.prefix(10) | masks.causal(), {}, "blockwise"),
        (WINDOW.dense(L, L), {}, "fused"),
        (masks.from_tensor(WINDOW.dense(L, L)), {}, "fused"),
        (masks.from_tensor(WINDOW.dense(L, L)) & masks.padding([200]), {}, "blockwise"),
        (WINDOW, {"bias": torch.zeros(L, L)}, "blockwise"),
        (WINDOW, {"bias": torch.zeros(L, L, requires_grad=True)}, "fused"),
        (WINDOW, {"dropout_p": 0.1}, "fused"),
    ],
)
def test_the_choice(mask, options, kernel):
    assert choose(LONG, LONG, LONG, mask, **options).kernel == kernel


def test_examples_with_few_pairs_and_masks_of_their_own_take_one_call():
    """A call for each would take longer than the mask as a tensor does."""
    mask = masks.padding([L, L // 2])
    for heads, kernel in ((7, "fused"), (8, "blockwise")):
        x = torch.zeros(2, heads, L, 2)
        assert choose(x, x, x, mask).kernel == kernel
    x = torch.zeros(2, 1, L, 2)
    assert choose(x, x, x, WINDOW).kernel == "blockwise"  # one mask for all is one call


def test_causal_with_other_lengths_is_not_torchs():
    assert choose(LONG, torch.zeros(1, 1, 2 * L, 2), LONG, masks.causal()).kernel == "blockwise"


def test_few_keys_are_computed_in_one_call():
    assert choose(LONG, LONG[:, :, 1:], LONG[:, :, 1:], WINDOW).kernel == "fused"
    assert choose(LONG[:, :, :2], LONG, LONG, WINDOW).kernel == "blockwise"


def test_with_dropout_blocks_pay_later():
    long = torch.zeros(1, 1, 2 * L, 2)
    for mask in (masks.causal(), WINDOW):
        assert choose(long, long, long, mask, dropout_p=0.1).kernel == "blockwise"
        assert choose(long[:, :, 1:], long[:, :, 1:], long, mask, dropout_p=0.1).kernel == "fused"


def test_dropout_without_a_mask_is_cut_into_blocks_where_the_weights_are_many():
    assert choose(LONG, LONG, LONG, None, dropout_p=0.1).kernel == "fused"
    sizes = Sizes(many_weights=L * L)
    assert choose(LONG, LONG, LONG, None, dropout_p=0.1, sizes=sizes).kernel == "blockwise"
    assert choose(LONG, LONG, LONG, None, sizes=sizes).kernel == "fused"


def test_without_torchs_private_kernel_a_dense_mask_gives_the_same(monkeypatch):
    x = torch.randn(2, 2, 2 * L, 4)
    masks_and_options = [(WINDOW, 0.0), (masks.padding([L, 7]) & masks.causal(), 0.0)]
    expected = [attention(x, x, x, mask, dropout_p=p) for mask, p in masks_and_options]
    monkeypatch.setattr(flash_cpu, "_FORWARD", "_not_there")
    assert choose(x, x, x, WINDOW) is choice.NO_FLASH
    for (mask, p), wanted in zip(masks_and_options, expected, strict=True):
        torch.testing.assert_close(attention(x, x, x, mask, dropout_p=p), wanted)


def test_nothing_is_cut_into_blocks_where_numbers_cannot_be_read():
    meta = LONG.to("meta")
    assert choose(meta, meta, meta, WINDOW).kernel == "fused"
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(LONG)
    assert choose(fake, fake, fake, WINDOW).kernel == "fused"
    seen = []
    torch.func.vmap(lambda x: seen.append(choose(x, x, x, WINDOW).kernel) or x)(LONG[None])
    torch.func.grad(lambda x: seen.append(choose(x, x, x, WINDOW).kernel) or x.sum())(LONG)
    assert seen == ["fused", "fused"]
    empty = LONG[:0]
    assert choose(empty, empty, empty, WINDOW).kernel == "fused"


@pytest.mark.parametrize("mask", [None, masks.causal(), WINDOW, WINDOW.dense(L, L)])
def test_forward_mode_takes_the_kernel_that_has_such_derivatives(mask):
    with forward_ad.dual_level():
        assert choose(LONG, LONG, LONG, mask) is choice.FORWARD_MODE
        assert choose(LONG, LONG, LONG, mask, dropout_p=0.1) is choice.FORWARD_MODE
    assert choose(LONG, LONG, LONG, mask).kernel != "explicit"


def test_a_compiled_graph_has_no_blocks():
    x, bad = torch.randn(1, 2, L, 4), torch.randn(1, 2, L, 4)
    bad[:, :, -1] = torch.nan
    compiled = torch.compile(attention, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, x, x, WINDOW), attention(x, x, x, WINDOW))
    torch.testing.assert_close(compiled(x, bad, bad, WINDOW), attention(x, bad, bad, WINDOW), equal_nan=True)


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.functionalize])
def test_transforms_of_functions_work_on_long_rows(transform):
    x = torch.randn(3, 2, L, 4)
    torch.testing.assert_close(transform(lambda a: attention(a, a, a, WINDOW))(x), attention(x, x, x, WINDOW))


def test_the_choice_is_what_computes(monkeypatch):
    taken = []
    for name, real in choice.KERNELS.items():
        watched = lambda *a, name=name, real=real, **options: taken.append(name) or real(*a, **options)  # noqa: E731
        monkeypatch.setitem(choice.KERNELS, name, watched)
    layer, x = MultiHeadAttention(2, 8).eval(), torch.randn(1, L, 8)
    layer(x)
    layer(x, mask=masks.causal())
    layer(x, mask=WINDOW)
    attention_weights(LONG, LONG, WINDOW)
    assert taken == ["fused", "fused", "blockwise"]


# ---------------------------------------------------------------------------------------------------------------------
# In words


def test_every_reason_is_a_sentence_when_explained():
    for mask in (None, masks.causal(), WINDOW, WINDOW.dense(L, L), masks.padding([7])):
        sentence = kernels.explain(LONG, LONG, mask)
        kernel, _, reason = sentence.partition(": ")
        assert kernel in choice.KERNELS
        assert reason.endswith(".")
        assert "\n" not in sentence


def test_blocks_are_counted():
    padded = torch.zeros(2, 8, L, 2)
    assert "; 75 % of the pairs are computed, in 2 blocks of queries." in kernels.explain(
        padded, padded, masks.padding([L, L // 2])
    )
    assert "; 50 % of the pairs are computed, in 1 block of queries." in kernels.explain(
        LONG, LONG, masks.padding([L // 2])
    )
    matrix = torch.zeros(L, 2)
    assert "; 50 % of the pairs are computed" in kernels.explain(matrix, matrix, masks.padding([L // 2]))


def test_few_queries_are_explained_as_they_are_computed():
    keys, window = torch.zeros(1, 1, 4 * L, 2), masks.causal() & masks.sliding_window(100)
    for rows, kernel in ((1, "fused"), (ON_A_CPU.few_queries, "fused"), (ON_A_CPU.few_queries + 100, "blockwise")):
        read = f"{99 + rows} of {4 * L} keys are read, the others are open to no query."
        assert kernels.explain(LONG[:, :, :rows], keys, window) == f"{kernel}: {read}"
    all_open = masks.sliding_window(5 * L)
    assert kernels.explain(LONG[:, :, :3], keys, all_open).startswith("fused: there is no mask")
    many = torch.zeros(1, 1, ON_A_CPU.many_elements // 2, 2)
    said = kernels.explain(LONG[:, :, :1], many)
    assert said == f"a single query by its weights: {many.shape[2]} of {many.shape[2]} keys are read."


def test_a_mask_that_opens_all_needs_no_kernel_of_its_own():
    assert kernels.explain(LONG[:, :, :1], LONG, masks.causal()) == kernels.explain(LONG[:, :, :1], LONG)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((LONG, LONG[..., :1]), ValueError, "key: expected d_k = 2"),
        ((LONG, None), TypeError, "key: expected a tensor, got NoneType"),
        ((LONG, LONG, masks.padding([L + 1])), ValueError, "lengths: expected at most"),
        ((LONG, LONG, masks.padding([1, 2, 3])), ValueError, "mask: expected shape"),
        ((LONG, LONG, torch.zeros(L, L)), TypeError, "mask: expected bool"),
    ],
)
def test_what_cannot_be_computed_is_not_explained(arguments, error, message):
    with pytest.raises(error, match=message):
        kernels.explain(*arguments)
