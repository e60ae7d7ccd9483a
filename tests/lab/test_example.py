"""The book's one example, the source that chapters show, and what they measure."""

import pytest

pytest.importorskip("IPython")

import gc

import numpy as np
import torch
from torch import nn

from attnlib import KVCache, MultiHeadAttention, masks, reference
from attnlib.lab import graphs
from attnlib.lab.contributions import contributions, weights_and_contributions
from attnlib.lab.example import three_tokens
from attnlib.lab.memory import peak_memory
from attnlib.lab.source import show_source


def test_the_examples_shapes():
    example = three_tokens()
    assert example.tokens == ["cats", "chase", "mice"]
    assert example.x.shape == (3, len(example.features)) == (3, 4)
    assert [(h.wq.shape, h.wk.shape, h.wv.shape) for h in example.heads] == [((4, 4), (4, 4), (4, 2))] * 2
    assert example.wo.shape == (4, 4)


def test_the_example_is_made_of_small_whole_numbers():
    example = three_tokens()
    for matrix in (example.x, example.wo, *(w for h in example.heads for w in (h.wq, h.wk, h.wv))):
        assert np.issubdtype(matrix.dtype, np.integer)
        assert set(matrix.flat) <= {0, 1, 2}


def test_each_call_reads_the_example_anew():
    three_tokens().x[0, 0] = 99
    assert three_tokens().x[0, 0] == 1


def test_the_tokens_can_be_told_apart():
    """No two tokens are alike, and no head sees two of them as alike."""
    example = three_tokens()
    assert len({tuple(row) for row in example.x}) == 3
    for head in example.heads:
        weights = reference.attention_weights(example.x @ head.wq, example.x @ head.wk)
        assert len({tuple(row.round(6)) for row in weights}) == 3


def test_source_is_shown_without_its_docstring():
    text = show_source(reference.dot).data
    body = "    return sum(x * y for x, y in zip(a, b, strict=True))"
    assert text == f"```python\ndef dot(a: Array, b: Array) -> Any:\n{body}\n```"


def test_source_is_shown_without_its_types_on_request():
    """A signature of several lines becomes one; those of functions inside, too; comments stay."""
    lines = show_source(reference.attention_gradients, types=False).data.splitlines()
    assert lines[1] == "def attention_gradients(query, key, value, grad_output, mask=None, *, scale=None):"
    assert lines[2].startswith("    query, key, value = np.asarray(query)")
    assert any(line.strip().startswith("#") for line in lines)
    inner = show_source(graphs.self_attention, types=False).data
    assert inner.splitlines()[1:3] == ["def self_attention(n):", "    def readers(layer, place):"]


def test_source_is_shown_with_its_docstring_on_request():
    assert "dot product of two vectors" in show_source(reference.dot, docstring=True).data


def test_a_class_is_shown_without_the_blank_line_that_followed_its_docstring():
    assert show_source(KVCache).data.startswith("```python\nclass KVCache(_Kept):\n    _WAY = ")


def test_a_method_is_shown_at_the_margin():
    assert show_source(KVCache.__len__).data.startswith("```python\ndef __len__(self)")


def test_a_contribution_is_what_the_output_loses_without_the_key():
    """Oracle: a loop over heads, queries and keys, with the matrices of the example."""
    example = three_tokens()
    layer = MultiHeadAttention(num_heads=2, d_model=4, d_k=4, d_v=2).double().eval()
    matrices = [np.concatenate([getattr(h, name) for h in example.heads], axis=1) for name in ("wq", "wk", "wv")]
    with torch.no_grad():
        for linear, matrix in zip((layer.wq, layer.wk, layer.wv, layer.fc), (*matrices, example.wo), strict=True):
            linear.weight.copy_(torch.tensor(matrix.T))
    x = torch.tensor(example.x, dtype=torch.float64)[None]
    layer(x, need_weights=True)
    lengths = contributions(layer, x, layer.attn)
    for h, head in enumerate(example.heads):
        weights = reference.attention_weights(example.x @ head.wq, example.x @ head.wk)
        for query in range(3):
            for key in range(3):
                added = weights[query, key] * (example.x[key] @ head.wv) @ example.wo[2 * h : 2 * h + 2]
                assert lengths[0, h, query, key].item() == pytest.approx(np.linalg.norm(added))


def test_contributions_of_grouped_heads_are_those_of_the_full_layer():
    torch.manual_seed(0)
    grouped = MultiHeadAttention(num_heads=4, d_model=8, num_kv_heads=2).eval()
    full = MultiHeadAttention(num_heads=4, d_model=8).eval()
    state = grouped.state_dict()
    for name in ("wk.weight", "wv.weight"):
        state[name] = state[name].unflatten(0, (2, 2)).repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    x = torch.randn(3, 5, 8)
    grouped(x, mask=masks.causal(), need_weights=True)
    expected = contributions(full, x, grouped.attn)
    torch.testing.assert_close(contributions(grouped, x, grouped.attn), expected)
    assert expected.triu(1).eq(0).all()  # a masked key adds nothing


def test_a_models_contributions_are_those_of_its_layers_inputs():
    torch.manual_seed(0)
    first, second = (MultiHeadAttention(num_heads=2, d_model=4) for _ in range(2))
    model = nn.Sequential(first, nn.LayerNorm(4), second).eval()
    x = torch.randn(2, 3, 4)
    found = weights_and_contributions(model, x)
    assert list(found) == ["0", "2"]
    weights, lengths = found["2"]
    torch.testing.assert_close(lengths, contributions(second, model[1](first(x)), weights))
    assert first.attn is None
    assert not first._forward_pre_hooks


def test_a_peak_is_the_highest_point_not_the_sum():
    def one_after_the_other():
        for size in (1_000, 3_000, 2_000):
            torch.empty(size, dtype=torch.uint8)

    assert peak_memory(one_after_the_other) == 3_000


def test_a_peak_counts_what_is_returned():
    assert peak_memory(lambda: [torch.empty(100, dtype=torch.float64) for _ in range(3)]) == 2_400


def test_a_peak_counts_what_stands_at_the_same_time():
    def overlapping():
        first = torch.empty(1_000, dtype=torch.uint8)
        second = torch.empty(4_000, dtype=torch.uint8)
        del first
        return torch.empty(500, dtype=torch.uint8), second

    assert peak_memory(overlapping) == 5_000


def test_a_peak_does_not_count_what_was_there_before():
    held = [torch.empty(50_000, dtype=torch.uint8)]

    def replace():
        held[0] = torch.empty(600, dtype=torch.uint8)

    assert peak_memory(replace) == 600
    assert peak_memory(lambda: held[0].view(2, 300)) == 0


def test_a_peak_is_above_the_start_even_where_the_same_address_is_used_again():
    """A block that outlives one measurement is given back between it and the next one."""
    kept = []
    assert peak_memory(lambda: kept.append(torch.empty(10_000, dtype=torch.uint8))) == 10_000
    kept.clear()
    kept.append(torch.empty(10_000, dtype=torch.uint8))

    def give_back_then_take():
        kept.clear()
        return torch.empty(300, dtype=torch.uint8), torch.empty(400, dtype=torch.uint8)

    assert peak_memory(give_back_then_take) == 700


def test_a_peak_is_the_same_each_time_forward_and_backward():
    x = torch.randn(2, 3, 17, 5, requires_grad=True)

    def step():
        output = torch.softmax(x @ x.mT, dim=-1) @ x
        return output, torch.autograd.grad(output.sum(), x)

    step()
    peaks = {peak_memory(step) for _ in range(3)}
    assert len(peaks) == 1
    assert peaks.pop() > 3 * 2 * 3 * 17 * 17 * 4  # scores, weights, and a gradient of them


def test_a_peak_does_not_depend_on_when_cycles_are_collected():
    class Cycle:
        def __init__(self):
            self.tensor, self.me = torch.empty(1_000, dtype=torch.uint8), self

    assert peak_memory(lambda: [Cycle() and None for _ in range(5)]) == 5_000
    assert gc.isenabled()


def test_a_long_computation_has_a_peak_too():
    def many_steps():
        x = torch.zeros(100)
        for _ in range(3_000):
            x = x.neg()
        return x

    assert peak_memory(many_steps) == 800


def test_a_peak_leaves_errors_and_the_collector_alone():
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 / 0)
    assert gc.isenabled()
    assert peak_memory(lambda: torch.empty(8, dtype=torch.uint8)) == 8


def test_a_peak_of_another_device_is_refused():
    with pytest.raises(ValueError, match="device: expected a CPU or a CUDA GPU, got meta"):
        peak_memory(lambda: None, "meta")
