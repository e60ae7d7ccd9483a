"""The book's one example, the source that chapters show, and what they measure."""

import pytest

pytest.importorskip("IPython")

import numpy as np
import torch
from torch import nn

from attnlib import KVCache, MultiHeadAttention, masks, reference
from attnlib.lab.contributions import contributions, weights_and_contributions
from attnlib.lab.example import three_tokens
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
    assert text == "```python\ndef dot(a, b):\n    return sum(x * y for x, y in zip(a, b, strict=True))\n```"


def test_source_is_shown_with_its_docstring_on_request():
    assert "dot product of two vectors" in show_source(reference.dot, docstring=True).data


def test_a_class_is_shown_without_the_blank_line_that_followed_its_docstring():
    assert show_source(KVCache).data.startswith("```python\nclass KVCache:\n    def __init__(self")


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
