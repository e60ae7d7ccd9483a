"""The book's one example, and the source that chapters show."""

import pytest

pytest.importorskip("IPython")

import numpy as np

from attnlib import reference
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


def test_a_method_is_shown_at_the_margin():
    from attnlib import KVCache

    assert show_source(KVCache.__len__).data.startswith("```python\ndef __len__(self)")
