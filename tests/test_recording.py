"""The weights of every layer of a model, and the model as it was before."""

import pytest
import torch
from torch import nn

from attnlib import MultiHeadAttention, masks, record_attention
from tests.oracles import D_K, D_MODEL, D_V, B, H, L, draw


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attention = MultiHeadAttention(H, D_MODEL, D_K, D_V)
        self.cross_attention = MultiHeadAttention(H, D_MODEL, D_K, D_V)

    def forward(self, x, memory):
        x = x + self.self_attention(x, mask=masks.causal())
        return x + self.cross_attention(x, memory)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])

    def forward(self, x, memory):
        for layer in self.layers:
            x = layer(x, memory)
        return x


NAMES = [f"layers.{i}.{kind}_attention" for i in range(2) for kind in ("self", "cross")]


@pytest.fixture
def model():
    return Model().double().eval()


def inputs():
    return draw(B, L, D_MODEL), draw(B, 7, D_MODEL)


def hooks(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def test_layers_are_recorded_by_their_names_in_the_model(model):
    with record_attention(model) as record:
        model(*inputs())
    assert sorted(record) == sorted(NAMES)
    assert len(record) == 4
    assert record[NAMES[0]].shape == (B, H, L, L)
    assert record[NAMES[1]].shape == (B, H, L, 7)


def test_the_weights_are_those_of_need_weights(model):
    x, memory = inputs()
    with record_attention(model) as record:
        model(x, memory)
    first = model.layers[0].self_attention
    first(x, mask=masks.causal(), need_weights=True)
    assert torch.equal(record[NAMES[0]], first.attn)


def test_outputs_stay_the_same(model):
    x, memory = inputs()
    expected = model(x, memory)
    with record_attention(model):
        torch.testing.assert_close(model(x, memory), expected)


def test_a_layer_called_twice_shows_its_last_call_and_lists_both(model):
    x, memory = inputs()
    with record_attention(model) as record:
        model(x[:, :3], memory)
        model(x, memory)
    first, second = record.calls(NAMES[0])
    assert first.shape == (B, H, 3, 3)
    assert second is record[NAMES[0]]
    assert second.shape == (B, H, L, L)


def test_need_weights_false_is_overruled_while_recording():
    layer = MultiHeadAttention(H, D_MODEL, D_K, D_V)
    with record_attention(layer) as record:
        layer(torch.randn(B, L, D_MODEL), need_weights=False)
    assert record[""].shape == (B, H, L, L)


def test_a_record_outlives_its_block_and_does_not_grow_after_it(model):
    with record_attention(model) as record:
        model(*inputs())
    model(*inputs())
    assert len(record.calls(NAMES[0])) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_it_was_before(model, fails):
    mine = model.layers[0].self_attention
    mine(draw(B, 2, D_MODEL), need_weights=True)
    before, attn = hooks(model), mine.attn
    try:
        with record_attention(model):
            model(*inputs())
            assert hooks(model) != before
            if fails:
                raise InterruptedError
    except InterruptedError:
        pass
    assert hooks(model) == before
    assert mine.attn is attn
    assert model.layers[1].cross_attention.attn is None


def test_a_model_that_fails_inside_the_block_is_as_it_was_before(model):
    before = hooks(model)
    with pytest.raises(ValueError, match="query: expected"), record_attention(model):
        model(draw(B, L, 3), draw(B, 7, 3))
    assert hooks(model) == before


def test_recordings_nest(model):
    with record_attention(model) as outer:
        with record_attention(model.layers[1]) as inner:
            model(*inputs())
        model(*inputs())
    assert len(outer.calls(NAMES[3])) == 2
    assert len(inner.calls("cross_attention")) == 1
    assert torch.equal(outer.calls(NAMES[3])[0], inner["cross_attention"])


def test_weights_hold_no_graph(model):
    with record_attention(model) as record:
        model(*inputs())
    assert not record[NAMES[0]].requires_grad


def test_an_unknown_name_is_told_the_known_ones(model):
    with record_attention(model) as record:
        with pytest.raises(KeyError, match=r"no weights for 'layers.0'; recorded: none"):
            record["layers.0"]
        model(*inputs())
    with pytest.raises(
        KeyError, match=r"no weights for 'encoder'; recorded: 'layers.0.self_attention', 'layers.0.cross_"
    ):
        record["encoder"]
    with pytest.raises(KeyError, match="no weights for 'encoder'"):
        record.calls("encoder")
    assert "encoder" not in record
    assert NAMES[0] in record


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got function"), record_attention(print_):
        pass


def print_():
    """Stand in for a function that someone takes for a model."""


def test_a_shared_layer_is_recorded_under_each_of_its_names():
    layer = MultiHeadAttention(H, D_MODEL, D_K, D_V)
    shared = nn.Sequential(layer, layer)
    with record_attention(shared) as record:
        shared(torch.randn(B, L, D_MODEL))
    assert set(record) == {"0", "1"}
    assert len(record.calls("0")) == 2


def test_a_compiled_model_is_recorded_under_its_own_names(model):
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager")
    x, memory = inputs()
    expected = compiled(x, memory)
    with record_attention(compiled) as record:
        torch.testing.assert_close(compiled(x, memory), expected)
    assert sorted(record) == sorted(NAMES)


def test_a_model_without_attention_is_refused():
    with (
        pytest.raises(ValueError, match="model: expected a model with a MultiHeadAttention, got Linear without one"),
        record_attention(nn.Linear(2, 2)),
    ):
        pass
