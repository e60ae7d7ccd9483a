"""The cache against plain concatenation, and decoding against the whole sequence at once."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnlib import KVCache, MultiHeadAttention, functional, masks
from attnlib import cache as cache_module
from attnlib.cache import Memory
from attnlib.kernels import few_queries, quarantine
from attnlib.kernels.sizes import Sizes
from attnlib.positions import ALiBi, Rotary
from tests.oracles import D_K, D_MODEL, D_V, GROUPED_H, H_KV, B, H, draw
from tests.tolerances import assert_close

chunk_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=7)


def tokens(count, **kwargs):
    """Return new keys and values of ``count`` tokens."""
    return draw(B, H, count, D_K, **kwargs), draw(B, H, count, D_V, **kwargs)


@given(chunk_sizes, st.booleans())
def test_append_returns_all_so_far(sizes, grad):
    cache = KVCache()
    chunks = [tokens(size, requires_grad=grad) for size in sizes]
    for count, chunk in enumerate(chunks, start=1):
        key, value = cache.append(*chunk)
        assert len(cache) == sum(sizes[:count])
        assert torch.equal(key, torch.cat([k for k, _ in chunks[:count]], dim=-2))
        assert torch.equal(value, torch.cat([v for _, v in chunks[:count]], dim=-2))
    assert torch.equal(cache.key, key)
    assert torch.equal(cache.value, value)


def test_append_never_writes_into_the_callers_tensors():
    prompt = tokens(7)
    roomy = [x[..., :3, :] for x in prompt]
    before = [x.clone() for x in prompt]
    cache = KVCache()
    cache.append(*roomy)
    cache.append(*tokens(1))
    assert all(torch.equal(x, y) for x, y in zip(prompt, before, strict=True))


@given(chunk_sizes)
def test_what_was_returned_before_never_changes(sizes):
    cache, returned = KVCache(), []
    for size in sizes:
        views = cache.append(*tokens(size))
        returned += [(view, view.clone()) for view in views]
    assert all(torch.equal(view, then) for view, then in returned)


@torch.no_grad()
def test_room_grows_by_doubling():
    """100 single steps copy the past a logarithmic number of times."""
    cache, places = KVCache(), []
    cache.append(*tokens(1))
    for _ in range(100):
        cache.append(*tokens(1))
        places.append((cache.key.untyped_storage().data_ptr(), cache.value.untyped_storage().data_ptr()))
    for each in zip(*places, strict=True):
        assert len(set(each)) <= 8
    assert cache.key.untyped_storage().nbytes() <= 2 * 101 * B * H * D_K * 8


def test_a_large_chunk_gets_the_room_it_needs():
    cache = KVCache()
    cache.append(*tokens(2))
    cache.append(*tokens(11))
    assert len(cache) == 13


def test_gradients_flow_through_the_past():
    cache = KVCache()
    first, second = tokens(3, requires_grad=True), tokens(2, requires_grad=True)
    cache.append(*first)
    key, value = cache.append(*second)
    (key.sum() + 2 * value.sum()).backward()
    for (k, v), size in ((first, 3), (second, 2)):
        assert torch.equal(k.grad, torch.ones(B, H, size, D_K).double())
        assert torch.equal(v.grad, torch.full((B, H, size, D_V), 2.0).double())


def test_gradients_flow_when_recording_begins_later():
    cache = KVCache()
    with torch.no_grad():
        cache.append(*tokens(3))
        cache.append(*tokens(1))
    new = tokens(1, requires_grad=True)
    key, _ = cache.append(*new)
    assert key.shape[-2] == 5
    key.sum().backward()
    assert torch.equal(new[0].grad, torch.ones(B, H, 1, D_K).double())


def test_what_was_returned_keeps_its_gradient_when_constants_follow():
    """Writing them into the same room would change what the gradient needs."""
    cache = KVCache()
    past = tokens(3, requires_grad=True)
    cache.append(*past)
    key, value = cache.append(*tokens(1))
    cache.append(*tokens(1))
    (key.square().sum() + value.square().sum()).backward()
    assert torch.equal(past[0].grad, 2 * past[0])
    assert torch.equal(past[1].grad, 2 * past[1])


@pytest.mark.parametrize("grad", [False, True])
def test_a_sequence_without_a_batch_is_cached_too(grad):
    layer = MultiHeadAttention(H, D_MODEL, 12, D_V, rotary=Rotary(12)).double().eval()
    x, cache = draw(5, D_MODEL), KVCache()
    with torch.set_grad_enabled(grad):
        steps = [layer(chunk, mask=masks.causal(), cache=cache) for chunk in x.split([1, 2, 2])]
    assert len(cache) == 5
    assert_close(torch.cat(steps), layer(x, mask=masks.causal()))


def test_under_no_grad_room_is_reused_whatever_asks_for_gradients():
    cache = KVCache()
    with torch.no_grad():
        for _ in range(3):
            cache.append(*tokens(1, requires_grad=True))
        before = cache.key.untyped_storage().data_ptr()
        cache.append(*tokens(1, requires_grad=True))
    assert cache.key.untyped_storage().data_ptr() == before


@pytest.mark.parametrize("name", ["key", "value"])
def test_an_empty_cache_has_neither_keys_nor_values(name):
    cache = KVCache()
    assert len(cache) == 0
    with pytest.raises(ValueError, match="the cache is empty: append keys and values first"):
        getattr(cache, name)


WRONG = [
    ((B, H, 2, D_K), (B, H, 3, D_V), r"value: expected \(B, H_kv, S\) = \(2, 3, 2\), got \(2, 3, 3\)"),
    ((B, H, 2, D_K), (B, 1, 2, D_V), r"value: expected \(B, H_kv, S\) = \(2, 3, 2\), got \(2, 1, 2\)"),
    ((7, H, 2, D_K), (7, H, 2, D_V), r"key: expected the cache's shape \(\*\(2, 3\), S, 11\), got \(7, 3, 2, 11\)"),
    ((B, 1, 2, D_K), (B, 1, 2, D_V), r"key: expected the cache's shape .*, got \(2, 1, 2, 11\)"),
    ((B, H, 2, 4), (B, H, 2, D_V), r"key: expected the cache's shape .*, got \(2, 3, 2, 4\)"),
    ((B, H, 2, D_K), (B, H, 2, 4), r"value: expected the cache's shape \(\*\(2, 3\), S, 13\), got \(2, 3, 2, 4\)"),
]


@pytest.mark.parametrize(("key_shape", "value_shape", "message"), WRONG)
def test_what_does_not_fit_is_refused_and_nothing_is_stored(key_shape, value_shape, message):
    cache = KVCache()
    cache.append(*tokens(3))
    before = cache.key.clone()
    with pytest.raises(ValueError, match=message):
        cache.append(draw(*key_shape), draw(*value_shape))
    assert len(cache) == 3
    assert torch.equal(cache.key, before)


@pytest.mark.parametrize("name", ["key", "value"])
def test_another_dtype_is_refused(name):
    cache = KVCache()
    cache.append(*tokens(1))
    new = dict(zip(("key", "value"), tokens(1), strict=True))
    with pytest.raises(TypeError, match=r"key: expected the cache.s dtype torch\.float64, got torch\.float32"):
        cache.append(**{name: x.float() for name, x in new.items()})
    with pytest.raises(TypeError, match=r"value: expected key.s dtype torch\.float"):
        cache.append(**{**new, name: new[name].float()})
    assert len(cache) == 1


def test_what_is_no_tensor_or_has_no_rows_is_refused():
    key, value = tokens(1)
    with pytest.raises(TypeError, match="value: expected a tensor, got list"):
        KVCache().append(key, value.tolist())
    with pytest.raises(ValueError, match=r"key: expected \(B, H_kv, S, d\), got \(4,\)"):
        KVCache().append(torch.ones(4), torch.ones(4))


def test_the_cache_does_not_change_with_the_callers_tensor():
    cache, (key, value) = KVCache(), tokens(2)
    cache.append(key, value)
    before = cache.key.clone()
    key.fill_(9)
    assert torch.equal(cache.key, before)


def test_gradients_flow_to_queries_beside_frozen_keys():
    """Autograd reads the cached keys for the query's gradient: they must not be written over."""
    layer = MultiHeadAttention(2, 8, dropout=0.0)
    layer.wk.requires_grad_(False)
    layer.wv.requires_grad_(False)
    cache = KVCache()
    x = torch.randn(1, 5, 8)
    torch.cat([layer(token, cache=cache) for token in x.split(1, dim=1)], dim=1).sum().backward()
    stepwise, layer.wq.weight.grad = layer.wq.weight.grad, None
    layer(x, mask=masks.causal()).sum().backward()
    torch.testing.assert_close(stepwise, layer.wq.weight.grad)


def test_a_cache_made_in_inference_mode_goes_on_without_it():
    layer, cache, x = MultiHeadAttention(2, 8).eval(), KVCache(), torch.randn(1, 4, 8)
    with torch.inference_mode():
        layer(x[:, :1], cache=cache)
        layer(x[:, 1:2], cache=cache)
    with torch.no_grad():
        layer(x[:, 2:3], cache=cache)
        torch.testing.assert_close(layer(x[:, 3:], cache=cache), layer(x, mask=masks.causal())[:, 3:])


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ([1.0], torch.ones(1), TypeError, "key: expected a tensor, got list"),
        (torch.ones(1, 1), None, TypeError, "value: expected a tensor, got NoneType"),
        (torch.ones(3), torch.ones(3), ValueError, r"key: expected \(B, H_kv, S, d\), got \(3,\)"),
    ],
)
def test_what_is_no_key_or_value_is_refused(key, value, error, message):
    with pytest.raises(error, match=message):
        KVCache().append(key, value)


def test_two_axes_are_enough():
    assert KVCache().append(torch.ones(3, 2), torch.ones(3, 5))[1].shape == (3, 5)


@pytest.mark.parametrize("recorded", [True, False])
def test_what_the_caller_writes_later_changes_nothing(recorded):
    cache, (key, value) = KVCache(), tokens(2)
    before = key.clone()
    with torch.set_grad_enabled(recorded):
        cache.append(key, value)
    key.zero_()
    assert torch.equal(cache.key, before)


def test_a_prompt_read_in_inference_mode_is_continued_outside():
    cache = KVCache()
    with torch.inference_mode():
        cache.append(*tokens(2))
        cache.append(*tokens(1))
    with torch.no_grad():
        cache.append(*tokens(1))
        assert cache.append(*tokens(1))[0].shape[-2] == 5


@torch.inference_mode()
def test_room_is_reused_in_inference_mode():
    cache = KVCache()
    for _ in range(3):
        cache.append(*tokens(1))
    before = cache.key.untyped_storage().data_ptr()
    assert cache.append(*tokens(1))[0].untyped_storage().data_ptr() == before


# ---------------------------------------------------------------------------------------------------------------------
# Decoding


@given(chunk_sizes, st.sampled_from(["causal", "window", "bias"]), st.booleans(), st.booleans())
def test_chunks_of_any_size_give_the_whole_computation(sizes, kind, rotary, grad):
    torch.manual_seed(0)
    turn = Rotary(D_K + 1) if rotary else None
    layer = MultiHeadAttention(GROUPED_H, D_MODEL, D_K + 1, D_V, num_kv_heads=H_KV, rotary=turn).double().eval()
    total = sum(sizes)
    x, bias = draw(B, total, D_MODEL), draw(total, total)
    mask = masks.causal() & masks.sliding_window(3) if kind == "window" else masks.causal()
    with torch.set_grad_enabled(grad):
        whole = layer(x, mask=mask, bias=bias if kind == "bias" else None)
        cache, outputs, start = KVCache(), [], 0
        for size in sizes:
            end = start + size
            shift = bias[start:end, :end] if kind == "bias" else None
            outputs.append(layer(x[:, start:end], mask=mask, bias=shift, cache=cache))
            start = end
    assert_close(torch.cat(outputs, dim=1), whole)


def test_padding_counts_the_cached_keys():
    layer = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval()
    x, cache = draw(B, 7, D_MODEL), KVCache()
    mask = masks.padding([7, 3])
    layer(x[:, :4], cache=cache)
    assert_close(layer(x[:, 4:], cache=cache, mask=mask), layer(x, mask=mask)[:, 4:])


def test_gradients_through_the_cache_are_those_of_the_whole():
    layer = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval()
    x = draw(B, 5, D_MODEL)
    layer(x, mask=masks.causal()).square().sum().backward()
    whole = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    cache = KVCache()
    sum(layer(x[:, i : i + 1], mask=masks.causal(), cache=cache).square().sum() for i in range(5)).backward()
    for parameter, expected in zip(layer.parameters(), whole, strict=True):
        assert_close(parameter.grad, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mask": torch.ones(2, 2, dtype=torch.bool)},
        {"mask": torch.ones(2, 5)},
        {"mask": masks.padding([6, 1])},
        {"bias": torch.zeros(2, 2)},
    ],
)
@pytest.mark.parametrize("need_weights", [False, True])
def test_a_call_that_fails_leaves_the_cache_as_it_was(wrong, need_weights):
    layer = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval()
    cache = KVCache()
    layer(draw(B, 3, D_MODEL), cache=cache)
    with pytest.raises((ValueError, TypeError), match=r"mask|bias|lengths"):
        layer(draw(B, 2, D_MODEL), cache=cache, need_weights=need_weights, **wrong)
    assert len(cache) == 3


def test_a_remembered_encoder_is_read_and_never_grows():
    layer = MultiHeadAttention(H, D_MODEL, D_K, D_V)
    memory = layer.remember(torch.randn(B, 7, D_MODEL))
    assert len(memory) == 7
    assert not hasattr(memory, "append")
    layer(torch.randn(B, 2, D_MODEL), cache=memory)
    assert len(memory) == 7


# ---------------------------------------------------------------------------------------------------------------------
# Beams


@pytest.mark.parametrize("rows", [[1, 0], [1, 1, 0, 1, 0], [0], []])
def test_a_reordered_cache_holds_the_examples_named(rows):
    cache = KVCache()
    key, value = cache.append(*tokens(5))
    key, value = key.clone(), value.clone()
    cache.reorder(torch.tensor(rows, dtype=torch.int64))
    assert len(cache) == 5
    assert torch.equal(cache.key, torch.stack([key[row] for row in rows]) if rows else key[:0])
    assert torch.equal(cache.value, torch.stack([value[row] for row in rows]) if rows else value[:0])


def test_a_reordered_cache_grows_on():
    cache = KVCache()
    first = tokens(3)
    cache.append(*first)
    cache.reorder(torch.tensor([1, 0]))
    second = tokens(2)
    key, value = cache.append(*second)
    assert torch.equal(key, torch.cat([first[0].flip(0), second[0]], dim=-2))
    assert torch.equal(value, torch.cat([first[1].flip(0), second[1]], dim=-2))


def test_a_cache_that_is_only_read_may_be_reordered():
    attend = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval()
    memory, query = draw(B, 7, D_MODEL), draw(3, 1, D_MODEL)
    cache = attend.remember(memory)
    rows = torch.tensor([1, 0, 1])
    cache.reorder(rows)
    assert_close(attend(query, cache=cache), attend(query, memory[rows]))


class Largest(TorchDispatchMode):
    """While this is entered, ``bytes`` is what the largest tensor takes that an operation makes; no view of others."""

    bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for x in tree_leaves(made):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("of_each", [1, 11])
@pytest.mark.parametrize("masked", [False, True])
def test_a_memory_of_one_example_serves_many_without_a_copy(dtype, length, of_each, masked):
    """Oracle: the memory, repeated. The mask of keys is one for all queries, or one for each."""
    attend = MultiHeadAttention(GROUPED_H, D_MODEL, D_K, D_K, num_kv_heads=H_KV, dtype=dtype).eval()
    n, S = 11, 1300
    source, query = draw(1, S, D_MODEL, dtype=dtype), draw(n, length, D_MODEL, dtype=dtype)
    memory = attend.remember(source)
    mask = masks.padding([S - 5 * b for b in range(of_each)]) if masked else None
    with torch.no_grad(), Largest() as largest:
        output = attend(query, mask=mask, cache=memory)
    assert largest.bytes < 2 * memory.key.nbytes
    assert_close(output, attend(query, source.expand(n, -1, -1), mask=mask))
    with torch.no_grad(), Largest() as largest:
        memory.reorder(torch.zeros(n, dtype=torch.int64))
    assert largest.bytes < memory.key.nbytes
    assert torch.equal(attend(query, mask=mask, cache=memory), output)


def test_gradients_of_a_memory_of_one_example_are_those_of_all_its_queries():
    attend = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval()
    source, query = draw(1, 7, D_MODEL, requires_grad=True), draw(3, 5, D_MODEL)
    outputs = [attend(query, cache=attend.remember(source)), attend(query, source.expand(3, -1, -1))]
    ours, expected = (torch.autograd.grad(output.square().sum(), source)[0] for output in outputs)
    assert_close(ours, expected)
    attend(query, cache=attend.remember(source), need_weights=True)
    assert attend.attn.shape == (3, H, 5, 7)


def test_only_a_memory_and_only_one_of_one_example_serves_more():
    attend = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval()
    with pytest.raises(ValueError, match=r"cache: expected the batch \(4,\) of query, got \(2,\)"):
        attend(draw(4, 1, D_MODEL), cache=attend.remember(draw(2, 7, D_MODEL)))
    with pytest.raises(ValueError, match=r"cache: expected the batch \(\) of query, got \(1,\)"):
        attend(draw(5, D_MODEL), cache=attend.remember(draw(1, 7, D_MODEL)))
    past = KVCache()
    attend(draw(1, 3, D_MODEL), cache=past)
    with pytest.raises(ValueError, match=r"cache: expected the batch \(4,\) of query, got \(1,\)"):
        attend(draw(4, 1, D_MODEL), cache=past)
    past.reorder(torch.zeros(4, dtype=torch.int64))
    assert past.key.shape == (4, H, 3, D_K)


def test_rows_that_are_not_there_are_refused():
    cache = KVCache()
    with pytest.raises(ValueError, match="the cache is empty"):
        cache.reorder(torch.tensor([0]))
    cache.append(*tokens(3))
    for rows in ([0, B], [-1]):
        with pytest.raises(ValueError, match="rows: expected examples from 0 to 1, got"):
            cache.reorder(torch.tensor(rows))
    plain = KVCache()
    plain.append(draw(H, 3, D_K), draw(H, 3, D_V))
    with pytest.raises(ValueError, match="rows: expected a cache with a batch axis"):
        plain.reorder(torch.tensor([0]))


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([1, 0], TypeError, "rows: expected a tensor, got list"),
        (torch.tensor([True, False]), TypeError, "rows: expected whole numbers as int64 or int32, got torch.bool"),
        (torch.tensor([1.0]), TypeError, "got torch.float32"),
        (torch.tensor([[0, 1]]), ValueError, r"rows: expected \(B,\), got \(1, 2\)"),
        (torch.tensor(1), ValueError, r"rows: expected \(B,\), got \(\)"),
    ],
)
def test_rows_of_another_kind_are_refused(rows, error, message):
    cache = KVCache()
    cache.append(*tokens(3))
    with pytest.raises(error, match=message):
        cache.reorder(rows)
    assert cache.key.shape == (B, H, 3, D_K)


@torch.no_grad()
def test_a_reordered_cache_keeps_its_spare_room():
    """Else every step of a beam search would copy all that came before."""
    cache = KVCache()
    cache.append(*tokens(8))
    cache.append(*tokens(1))
    room = cache._key.shape[-2]
    assert room > 9
    cache.reorder(torch.tensor([1, 0]))
    assert cache._key.shape[-2] == room
    before = cache._key.data_ptr()
    cache.append(*tokens(1))
    assert cache._key.data_ptr() == before


@torch.no_grad()
def test_decoding_compiles_into_one_graph():
    attend = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval()
    x = draw(B, 4, D_MODEL)

    def two_steps(x):
        cache = KVCache()
        return torch.cat([attend(part, mask=masks.causal(), cache=cache) for part in x.split(2, dim=1)], dim=1)

    compiled = torch.compile(two_steps, fullgraph=True, backend="eager")
    assert_close(compiled(x), attend(x, mask=masks.causal()))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"batch": torch.Size([B + 1])}, ValueError, rf"keys and values of the batch \({B + 1},\)"),
        ({"batch": torch.Size([])}, ValueError, r"keys and values of the batch \(\)"),
        ({"d_k": D_K + 1}, ValueError, f"{D_K + 1} and {D_V} wide, got .* {D_K} and {D_V} wide"),
        ({"d_v": D_V + 1}, ValueError, f"{D_K} and {D_V + 1} wide, got .* {D_K} and {D_V} wide"),
        ({"device": torch.device("meta")}, ValueError, "the tokens' device meta, got cpu"),
        ({"dtype": torch.float32}, TypeError, "the tokens' dtype torch.float32, got torch.float64"),
    ],
)
def test_a_cache_knows_what_fits_it(changed, error, message):
    cache, device = KVCache(), torch.device("cpu")
    kind = {"batch": torch.Size([B]), "dtype": torch.float64, "device": device, "d_k": D_K, "d_v": D_V}
    cache.check_fits(**{**kind, **changed})  # an empty one fits everything
    cache.append(*tokens(3))
    cache.check_fits(**kind)
    with pytest.raises(error, match=message):
        cache.check_fits(**{**kind, **changed})


def test_autocast_may_change_the_dtype_of_what_is_cached():
    cache = KVCache()
    cache.append(*tokens(3))
    with torch.autocast("cpu"):
        cache.check_fits(torch.Size([B]), torch.float32, torch.device("cpu"), D_K, D_V)


# ---------------------------------------------------------------------------------------------------------------------
# A cache as a value


def test_an_empty_cache_is_true():
    """``if cache`` must not drop a fresh one: nothing would ever be cached."""
    cache = KVCache()
    assert cache
    cache.append(*tokens(1))
    assert cache


def stored(cache):
    return pickle.loads(pickle.dumps(cache))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, stored])
@pytest.mark.parametrize("prompt", [1, 3])
@torch.no_grad()
def test_two_continuations_of_one_prompt_are_independent(duplicate, prompt):
    """One token at a time, so that a buffer has spare room, which both might write into."""
    layer, x = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval(), draw(B, 9, D_MODEL)

    def write(cache, *places):
        return torch.cat([layer(x[:, i : i + 1], mask=masks.causal(), cache=cache) for i in places], dim=1)

    cache = KVCache()
    write(cache, *range(prompt))
    first, second = duplicate(cache), duplicate(cache)
    outputs = {first: [], second: [], cache: []}
    for step in range(2):  # in turn
        for each, place in ((first, 3), (second, 5), (cache, 7)):
            outputs[each].append(write(each, place + step))
    for each, place in ((first, 3), (second, 5), (cache, 7)):
        whole = layer(x[:, [*range(prompt), place, place + 1]], mask=masks.causal())
        assert_close(torch.cat(outputs[each], dim=1), whole[:, prompt:])
        assert len(each) == prompt + 2


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_gradients_flow_through_a_copy_to_the_prompt(duplicate):
    layer = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval()
    prompt, new = draw(B, 3, D_MODEL), draw(B, 2, D_MODEL)
    cache = KVCache()
    layer(prompt, mask=masks.causal(), cache=cache)
    twin = duplicate(cache)
    layer(new, mask=masks.causal(), cache=twin).square().sum().backward()
    stepwise = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(torch.cat([prompt, new], dim=1), mask=masks.causal())[:, 3:].square().sum().backward()
    for parameter, gradient in zip(layer.parameters(), stepwise, strict=True):
        assert_close(parameter.grad, gradient)
    assert len(cache) == 3


@pytest.mark.parametrize("duplicate", [copy.deepcopy, stored])
def test_a_deep_copy_has_memory_of_its_own(duplicate):
    cache = KVCache()
    with torch.no_grad():
        cache.append(*tokens(3))
        cache.append(*tokens(1))
    before = [cache.key.clone(), cache.value.clone()]
    twin = duplicate(cache)
    twin.key.zero_()
    twin.value.zero_()
    assert torch.equal(cache.key, before[0])
    assert torch.equal(cache.value, before[1])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, stored])
def test_a_copy_of_an_empty_cache_is_an_empty_cache(duplicate):
    cache = KVCache()
    twin = duplicate(cache)
    twin.append(*tokens(2))
    assert (len(cache), len(twin)) == (0, 2)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, stored])
def test_a_copy_of_a_cache_that_is_only_read_is_only_read(duplicate):
    layer, memory, query = (
        MultiHeadAttention(H, D_MODEL, D_K, D_V).eval(),
        torch.randn(B, 7, D_MODEL),
        torch.randn(B, 1, D_MODEL),
    )
    with torch.no_grad():
        twin = duplicate(layer.remember(memory))
        assert_close(layer(query, cache=twin), layer(query, memory))
    assert type(twin) is Memory
    assert len(twin) == 7


def test_a_copy_keeps_what_a_subclass_adds():
    class Named(KVCache):
        def __init__(self):
            super().__init__()
            self.names = ["a"]

    cache = Named()
    cache.append(*tokens(2))
    shallow, deep = copy.copy(cache), copy.deepcopy(cache)
    cache.names.append("b")
    assert type(shallow) is type(deep) is Named
    assert shallow.names == ["a", "b"]
    assert deep.names == ["a"]


def test_a_cache_that_stands_twice_in_a_structure_is_copied_once():
    cache = KVCache()
    first, second = copy.deepcopy([cache, cache])
    assert first is second is not cache


@torch.no_grad()
def test_a_stored_cache_takes_no_layer_with_it():
    layer, cache = MultiHeadAttention(2, 256), KVCache()
    layer(torch.randn(1, 1, 256), cache=cache)
    assert cache.layer is layer
    assert len(pickle.dumps(cache)) < 10_000  # a layer has 256 · 1024 numbers
    assert stored(cache).layer is copy.deepcopy(cache).layer is None
    assert copy.copy(cache).layer is layer


@pytest.mark.parametrize("name", ["mask", "bias"])
def test_another_device_is_refused_before_the_cache_grows(name):
    module, cache = MultiHeadAttention(2, 8).eval(), KVCache()
    wrong = torch.ones(1, 1, device="meta", dtype=torch.bool if name == "mask" else torch.float32)
    with pytest.raises(ValueError, match=f"{name}: expected a tensor on query.s device cpu, got one on meta"):
        module(torch.randn(1, 1, 8), cache=cache, **{name: wrong})
    assert len(cache) == 0


def test_a_changed_dropout_is_checked_before_the_cache_grows():
    module, cache = MultiHeadAttention(2, 8), KVCache()
    module.dropout = 1.0
    with pytest.raises(ValueError, match=r"dropout: expected a probability in \[0, 1\), got 1.0"):
        module(torch.randn(1, 1, 8), cache=cache)
    assert len(cache) == 0


# ---------------------------------------------------------------------------------------------------------------------
# Numbers that are not finite are looked for once, as they come


def test_a_cache_knows_whether_all_in_it_is_finite():
    cache = KVCache()
    assert cache.is_finite
    cache.append(*tokens(3))
    assert cache.is_finite
    key, value = tokens(2)
    value[0, 0, 1, 0] = math.inf
    before = copy.copy(cache)
    cache.append(key, value)
    cache.append(*tokens(1))
    assert (before.is_finite, cache.is_finite) == (True, False)
    assert [copy.copy(cache).is_finite, copy.deepcopy(cache).is_finite, stored(cache).is_finite] == [False] * 3
    cache.reorder(torch.zeros(B, dtype=torch.int64))
    assert not cache.is_finite
    assert Memory(*tokens(3)).is_finite
    assert not Memory(key, value).is_finite


@torch.no_grad()
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_number_in_the_padding_of_a_prompt_reaches_no_later_token(bad):
    layer = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval()
    x, mask = torch.randn(B, 6, D_MODEL).double(), masks.causal() & ~masks.padding([2, 0])
    spoilt = x.clone()
    spoilt[0, :2] = bad
    outputs = []
    for prompt in (x, spoilt):
        cache = KVCache()
        layer(prompt[:, :4], mask=mask, cache=cache)
        outputs.append(torch.cat([layer(prompt[:, i : i + 1], mask=mask, cache=cache) for i in (4, 5)], dim=1))
    assert_close(outputs[1], outputs[0])


@torch.no_grad()
@pytest.mark.parametrize("attend", ["grows", "is remembered"])
def test_a_step_looks_at_its_own_numbers_alone(attend, monkeypatch):
    layer, cache = MultiHeadAttention(H, D_MODEL, D_K, D_V).eval(), KVCache()
    past, token = torch.randn(B, 300, D_MODEL), torch.randn(B, 1, D_MODEL)
    if attend == "grows":
        layer(past, mask=masks.causal(), cache=cache)
    else:
        cache = layer.remember(past)
    looked_at = []
    real = quarantine.are_finite
    for module in (quarantine, cache_module, few_queries):
        watched = lambda *x: looked_at.extend(y.numel() for y in x) or real(*x)  # noqa: E731
        monkeypatch.setattr(module, "are_finite", watched)
    layer(token, mask=masks.causal() if attend == "grows" else None, cache=cache)
    assert 0 < max(looked_at) <= B * H * max(D_K, D_V)


@torch.no_grad()
@pytest.mark.parametrize("kv_heads", [H, 1])
def test_a_cached_step_of_grouped_heads_takes_its_weights_and_equals_the_whole(kv_heads, monkeypatch):
    """Where the numbers are known to be finite, weights are faster for heads in groups, torch's kernel for others."""
    layer = MultiHeadAttention(H, D_MODEL, D_K, D_V, num_kv_heads=kv_heads).double().eval()
    x, mask, cache, taken = torch.randn(B, 9, D_MODEL).double(), masks.causal(), KVCache(), []
    real = few_queries.attend
    monkeypatch.setattr(few_queries, "attend", lambda *x, **y: taken.append(1) or real(*x, **y))
    compute = functional.compute
    monkeypatch.setattr(functional, "compute", lambda *x, **y: compute(*x, **y, sizes=Sizes(many_elements=1)))
    layer(x[:, :8], mask=mask, cache=cache)
    assert_close(layer(x[:, 8:], mask=mask, cache=cache), layer(x, mask=mask)[:, 8:])
    assert len(taken) == (kv_heads != H)


# ---------------------------------------------------------------------------------------------------------------------
# A window


WINDOW = 3
UNDER_A_WINDOW = {
    "causal": lambda total: {"mask": masks.causal()},
    "its own window, too": lambda total: {"mask": masks.causal() & masks.sliding_window(2)},
    "left padding": lambda total: {"mask": masks.causal() & ~masks.padding([2, 0])},
    "keys": lambda total: {"mask": masks.causal() & masks.keys(torch.arange(total) % torch.tensor([[3], [5]]) != 1)},
    "pairs": lambda total: {"mask": torch.ones(total, total).tril().bool() & (torch.arange(total) % 4 != 2)},
    "bias": lambda total: {"mask": masks.causal(), "bias": torch.arange(float(total * total)).sin().view(total, total)},
    "ALiBi": lambda total: {"mask": masks.causal(), "bias": ALiBi(GROUPED_H)},
}


def part_of(given, start, end):
    """What stands in the rows from ``start`` on, of ``end`` tokens so far."""
    if isinstance(given, torch.Tensor):
        return given[start:end, :end]
    if isinstance(given, masks.Both) and isinstance(given.right, masks.Keys):
        return masks.causal() & masks.keys(given.right.real[:, :end])
    return given


@given(chunk_sizes, st.sampled_from(list(UNDER_A_WINDOW)), st.booleans(), st.booleans())
def test_a_window_gives_what_its_mask_gives_without_a_cache(sizes, kind, rotary, grad):
    torch.manual_seed(0)
    sizes[0] += 1  # the prompt is as long as its padding, at least
    turn = Rotary(D_K + 1) if rotary else None
    layer = MultiHeadAttention(GROUPED_H, D_MODEL, D_K + 1, D_V, num_kv_heads=H_KV, rotary=turn).double().eval()
    total = sum(sizes)
    x, options = draw(B, total, D_MODEL), UNDER_A_WINDOW[kind](total)
    whole = options["mask"] if isinstance(options["mask"], masks.Mask) else masks.from_tensor(options["mask"])
    with torch.set_grad_enabled(grad):
        expected = layer(x, **options | {"mask": whole & masks.sliding_window(WINDOW)})
        cache, outputs, start = KVCache(window=WINDOW), [], 0
        for size in sizes:
            end = start + size
            given = {name: part_of(option, start, end) for name, option in options.items()}
            given["bias"] = given["bias"].double() if isinstance(given.get("bias"), torch.Tensor) else given.get("bias")
            outputs.append(layer(x[:, start:end], cache=cache, **given))
            start = end
            assert len(cache) == end
            assert cache.key.shape[-2] <= WINDOW - 1 + size
    assert_close(torch.cat(outputs, dim=1), expected)


@torch.no_grad()
def test_a_window_leaves_what_follows_a_query_to_the_mask():
    layer, x, cache = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval(), draw(B, 7, D_MODEL), KVCache(window=2)
    layer(x[:, :3], cache=cache)
    output = layer(x[:, 3:], cache=cache, need_weights=True)  # tokens 3 … 6 see each other, and token 2 by the window
    assert_close(output, layer(x, mask=masks.sliding_window(2, ahead=7))[:, 3:])
    assert layer.attn.shape == (B, H, 4, 5)


@torch.no_grad()
def test_a_window_bounds_what_is_kept():
    cache, places = KVCache(window=5), set()
    cache.append(*tokens(40))
    for _ in range(100):
        key, _ = cache.append(*tokens(1))
        assert key.shape[-2] == 5
        places.add(key.untyped_storage().data_ptr())
        assert key.untyped_storage().nbytes() <= 10 * B * H * D_K * 8
    assert len(places) < 30  # new room now and then, not at each step
    assert len(cache) == 140


@torch.no_grad()
def test_under_a_window_what_was_returned_before_never_changes():
    cache, returned = KVCache(window=3), []
    for size in (4, 1, 1, 1, 2, 1, 1, 5, 1):
        returned += [(view, view.clone()) for view in cache.append(*tokens(size))]
    assert all(torch.equal(view, then) for view, then in returned)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_cache_with_a_window_goes_on_by_itself(duplicate):
    with torch.no_grad():
        cache = KVCache(window=4)
        for size in (6, 1, 1):
            cache.append(*tokens(size))
        new, other = tokens(1), tokens(1)
        twin = duplicate(cache)
        expected = torch.cat([cache.key[..., -3:, :], new[0]], dim=-2)
        twin.append(*other)
        assert torch.equal(cache.append(*new)[0], expected)
        assert torch.equal(twin.key[..., :-1, :], expected[..., :-1, :])
        assert (len(twin), len(cache), twin.window) == (9, 9, 4)


@torch.no_grad()
def test_a_cache_with_a_window_is_reordered():
    cache = KVCache(window=2)
    for size in (3, 1):
        key, _ = cache.append(*tokens(size))
    cache.reorder(torch.tensor([1, 1, 0]))
    assert torch.equal(cache.key, key[[1, 1, 0]])


# ---------------------------------------------------------------------------------------------------------------------
# Room, cropping, words


@torch.no_grad()
def test_room_is_made_ahead():
    cache = KVCache(capacity=50)
    cache.append(*tokens(7))
    place = cache.key.untyped_storage().data_ptr()
    for _ in range(43):
        cache.append(*tokens(1))
    assert cache.key.untyped_storage().data_ptr() == place
    assert cache.append(*tokens(1))[0].shape[-2] == 51  # more is made where it runs out
    assert len(KVCache(capacity=2).append(*tokens(3))[0][0, 0]) == 3


@pytest.mark.parametrize("grad", [False, True])
def test_a_cropped_cache_goes_on_as_if_the_rest_had_not_come(grad):
    with torch.set_grad_enabled(grad):
        cache, chunks = KVCache(), [tokens(4), tokens(3), tokens(2)]
        cache.append(*chunks[0])
        returned = cache.append(*chunks[1])
        before = [x.clone() for x in returned]
        cache.crop(5)
        key, value = cache.append(*chunks[2])
        assert torch.equal(key, torch.cat([chunks[0][0], chunks[1][0][..., :1, :], chunks[2][0]], dim=-2))
        assert torch.equal(value, torch.cat([chunks[0][1], chunks[1][1][..., :1, :], chunks[2][1]], dim=-2))
        assert all(torch.equal(x, y) for x, y in zip(returned, before, strict=True))
        cache.crop(0)
        assert cache.append(*tokens(1))[0].shape[-2] == len(cache) == 1


@torch.no_grad()
def test_a_draft_under_a_window_can_be_rejected_as_far_as_it_is_kept():
    cache, texts = KVCache(window=4), tokens(9)
    cache.append(*(x[..., :5, :] for x in texts))
    cache.append(*(x[..., 5:, :] for x in texts))  # the draft; tokens 2, 3 and 4 are kept before it
    with pytest.raises(
        ValueError, match="length: expected 0, or at least 5, since the window has dropped the first 2 tokens, got 4"
    ):
        cache.crop(4)
    cache.crop(6)
    new = tokens(1)
    assert torch.equal(cache.append(*new)[0], torch.cat([texts[0][..., 3:6, :], new[0]], dim=-2))
    assert len(cache) == 7


@torch.no_grad()
def test_room_is_doubled_where_more_comes_than_was_said():
    cache, places = KVCache(capacity=4), set()
    for _ in range(60):
        key, _ = cache.append(*tokens(1))
        places.add((key.untyped_storage().data_ptr(), key.untyped_storage().nbytes()))
    assert len(places) <= 5  # 4, 8, 16, 32, 64 rows


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 1, 4])
def test_all_can_be_forgotten_under_a_window_too(window):
    cache = KVCache(window=window)
    for _ in range(9):
        cache.append(*tokens(1))
    cache.append(*(x * math.inf for x in tokens(1)))
    cache.crop(0)
    assert len(cache) == 0
    assert repr(cache) == "KVCache(empty)"
    new = tokens(2)
    assert torch.equal(cache.append(*new)[0], new[0])
    assert len(cache) == 2
    assert cache.is_finite


@torch.no_grad()
def test_how_far_a_cache_under_a_window_can_be_cropped():
    cache = KVCache(window=4)
    cache.append(*tokens(6))
    cache.append(*tokens(3))  # tokens 3 … 8 are kept
    for length in (1, 2, 5):
        with pytest.raises(ValueError, match=f"expected 0, or at least 6, .* the first 3 tokens, got {length}"):
            cache.crop(length)
    place = cache.key.data_ptr()
    cache.crop(9)  # nothing to forget, nothing to copy
    assert cache.key.data_ptr() == place
    cache.crop(6)
    assert cache.append(*tokens(1))[0].shape[-2] == 4
    wide = KVCache(window=7)
    wide.append(*tokens(5))  # nothing is dropped yet, so any length will do
    wide.crop(2)
    assert len(wide) == 2


def test_a_cache_says_what_it_holds():
    cache = KVCache(window=2)
    assert repr(cache) == "KVCache(empty)"
    for _ in range(3):
        cache.append(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 5))
    assert repr(cache) == (
        "KVCache(3 tokens, the last 2 of them kept: key (1, 2, 2, 4), value (1, 2, 2, 5), torch.float32)"
    )
    assert repr(Memory(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5))).startswith(
        "Memory(3 tokens: key (1, 2, 3, 4)"
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: KVCache(capacity=0), ValueError, "capacity: expected at least 1, got 0"),
        (lambda: KVCache(window=0), ValueError, "window: expected at least 1, got 0"),
        (lambda: KVCache(window=2.0), TypeError, "window: expected a whole number, got float"),
        (lambda: KVCache().crop(1), ValueError, "length: expected at most the 0 tokens of the cache, got 1"),
        (lambda: KVCache().crop(-1), ValueError, "length: expected at least 0, got -1"),
        (lambda: KVCache.of(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 2, 4)), ValueError, "value: expected"),
    ],
)
def test_a_cache_that_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


class Step(torch.nn.Module):
    """One step of decoding, whose cache comes in and goes out as tensors."""

    def __init__(self):
        super().__init__()
        self.attend = MultiHeadAttention(H, D_MODEL, D_K + 1, D_V, rotary=Rotary(D_K + 1))

    def forward(self, token, key, value):
        cache = KVCache.of(key, value)
        return self.attend(token, mask=masks.causal(), cache=cache), cache.key, cache.value


def test_a_step_is_exported_with_the_length_of_the_cache_left_open():
    step, x = Step().double().eval(), draw(B, 9, D_MODEL)
    whole = step.attend(x, mask=masks.causal())
    past = KVCache()
    with torch.no_grad():
        step.attend(x[:, :4], mask=masks.causal(), cache=past)
        length = torch.export.Dim("length", min=2)
        shapes = (None, {2: length}, {2: length})
        exported = torch.export.export(step, (x[:, 4:5], past.key, past.value), dynamic_shapes=shapes).module()
        key, value = past.key, past.value
        for i in range(4, 9):
            output, key, value = exported(x[:, i : i + 1], key, value)
            assert_close(output, whole[:, i : i + 1])
    assert key.shape[-2] == 9


def test_a_first_chunk_may_be_shorter_than_the_filling_on_the_left():
    layer, x, missing = MultiHeadAttention(H, D_MODEL, D_K, D_V).double().eval(), draw(2, 7, D_MODEL), [4, 0]
    mask = masks.causal() & ~masks.padding(missing)
    whole, cache = layer(x, mask=mask), KVCache()
    assert_close(torch.cat([layer(token, mask=mask, cache=cache) for token in x.split(1, dim=1)], dim=1), whole)
    with pytest.raises(ValueError, match="lengths: expected at most S=3 keys, got a length of 4"):
        masks.padding(missing).dense(3, 3)
