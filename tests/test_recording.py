"""The weights of every layer of a model, and the model as it was before."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

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


def observers(model):
    """Return how many look at each layer, besides what torch itself calls."""
    layers = [m for m in model.modules() if isinstance(m, MultiHeadAttention)]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in layers)
    return [len(m._observers) for m in layers]


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
    before, attn = observers(model), mine.attn
    try:
        with record_attention(model):
            model(*inputs())
            assert observers(model) != before
            if fails:
                raise InterruptedError
    except InterruptedError:
        pass
    assert observers(model) == before
    assert mine.attn is attn
    assert model.layers[1].cross_attention.attn is None


def test_a_model_that_fails_inside_the_block_is_as_it_was_before(model):
    before = observers(model)
    with pytest.raises(ValueError, match="query: expected"), record_attention(model):
        model(draw(B, L, 3), draw(B, 7, 3))
    assert observers(model) == before


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
        pytest.raises(
            ValueError, match=r"model: expected one that attends by attnlib, got Linear; .*replace_attention"
        ),
        record_attention(nn.Linear(2, 2)),
    ):
        pass


# ---------------------------------------------------------------------------------------------------------------------
# Each call's own weights


def weights_of(layer, x, mask=None):
    """Compute one call's weights in plain torch."""
    queries, keys = (p(x).unflatten(-1, (-1, layer.d_k)).transpose(1, 2) for p in (layer.wq, layer.wk))
    scores = queries @ keys.mT / layer.d_k**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask.dense(x.shape[1], x.shape[1]), -torch.inf)
    return torch.softmax(scores, dim=-1).detach()


@torch.no_grad()
def test_calls_from_several_threads_are_each_recorded_with_their_own_weights():
    layer, calls = MultiHeadAttention(2, 16).double().eval(), 40
    xs = [draw(1, 20 + i, 16) for i in range(8)]

    def work(x):
        with torch.no_grad():
            for _ in range(calls):
                layer(x, mask=masks.causal())

    with record_attention(layer) as record:
        threads = [threading.Thread(target=work, args=(x,)) for x in xs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    recorded = record.calls("")
    assert len(recorded) == calls * len(xs)
    for x in xs:
        own = [weights for weights in recorded if weights.shape[-1] == x.shape[1]]
        assert len(own) == calls
        for weights in own:
            torch.testing.assert_close(weights, weights_of(layer, x, masks.causal()))


@torch.no_grad()
def test_blocks_in_several_threads_leave_the_model_and_the_compiler_as_they_were():
    torch.compiler.reset()
    layer, x = MultiHeadAttention(2, 16).double().eval(), draw(1, 3, 16)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(layer, backend=backend)
    opened, closing, found = threading.Barrier(2, timeout=60), threading.Barrier(2, timeout=60), []

    def first():
        with record_attention(compiled):
            opened.wait()
        closing.wait()

    thread = threading.Thread(target=first)
    thread.start()
    opened.wait()
    with record_attention(compiled) as record:  # opened before the other closes, closed after it
        closing.wait()
        compiled(x)
        found.append(len(graphs))
    thread.join()
    assert len(record) == 1
    assert found == [0]
    assert observers(layer) == [0]
    compiled(x)
    assert len(graphs) == 1


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_checkpointed_layer_is_recorded_once_and_trained_as_without(reentrant, dropout):
    """Its backward pass, after the block, calls the layer again, and must meet what the first call stored."""
    layer, x = MultiHeadAttention(2, 8, dropout=dropout), torch.randn(1, 5, 8, requires_grad=True)

    def gradients():
        torch.manual_seed(0)
        layer.zero_grad()
        with record_attention(layer) as record:
            output = checkpoint(layer, x, use_reentrant=reentrant)
        output.sum().backward()
        return record, [p.grad.clone() for p in layer.parameters()]

    record, found = gradients()
    assert len(record.calls("")) == 1
    torch.testing.assert_close(record[""], weights_of(layer, x))
    torch.manual_seed(0)
    layer.zero_grad()
    layer(x).sum().backward()
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(layer.parameters(), found, strict=True))


@pytest.mark.parametrize("mask", [None, masks.causal(), masks.causal() & masks.sliding_window(9)])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_recording_changes_no_output_no_gradient_and_no_draw(mask, dropout):
    """The weights are computed beside the output, by whichever kernel this takes: 300 keys are cut into blocks."""
    layer, x = MultiHeadAttention(2, 8, dropout=dropout), torch.randn(1, 300, 8)

    def step():
        torch.manual_seed(0)
        layer.zero_grad()
        output = layer(x, mask=mask)
        output.square().sum().backward()
        return [output, torch.rand(3), *(p.grad.clone() for p in layer.parameters())]

    expected = step()
    with record_attention(layer) as record:
        found = step()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    torch.testing.assert_close(record[""], weights_of(layer, x, mask))
    assert layer.attn is None


def test_weights_that_are_asked_for_in_the_block_are_kept():
    layer, x = MultiHeadAttention(2, 8), torch.randn(1, 5, 8)
    with record_attention(layer) as record:
        layer(x, need_weights=True)
    assert record[""] is not None
    torch.testing.assert_close(layer.attn, record[""])


# ---------------------------------------------------------------------------------------------------------------------
# Copies, subclasses, compiled functions


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_made_inside_the_block_is_not_recorded(duplicate):
    model, x = nn.Sequential(MultiHeadAttention(2, 8)), torch.randn(1, 3, 8)
    with record_attention(model) as record:
        twin = nn.Sequential(duplicate(model[0]))
        twin(x)
        assert len(record) == 0
        assert observers(twin) == [0]
        model(x)
    twin(x)
    assert len(record.calls("0")) == 1
    assert twin[0].attn is None


class CausalAttention(MultiHeadAttention):
    """A subclass whose forward knows nothing of weights."""

    def forward(self, x):
        return super().forward(x, mask=masks.causal())


def test_a_subclass_with_a_forward_of_its_own_is_recorded():
    layer, x = CausalAttention(2, 8), torch.randn(1, 3, 8)
    with record_attention(layer) as record:
        layer(x)
    torch.testing.assert_close(record[""], weights_of(layer, x, masks.causal()))


def test_a_replica_is_recorded_too():
    """DataParallel calls a copy of the layer for each device, which it makes without copying its state."""
    layer, x = MultiHeadAttention(2, 8), torch.randn(1, 3, 8)
    with record_attention(layer) as record:
        twin = layer._replicate_for_data_parallel()
        twin._modules.update(layer._modules)
        twin(x)
    assert len(record.calls("")) == 1


@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_block_inside_a_compiled_function_is_refused(fullgraph):
    torch.compiler.reset()
    layer = MultiHeadAttention(2, 8)

    @torch.compile(backend="eager", fullgraph=fullgraph)
    def look(x):
        with record_attention(layer) as record:
            layer(x)
        return record[""]

    with pytest.raises(RuntimeError, match="record_attention: expected outside of compiled functions; put the block"):
        look(torch.randn(1, 3, 8))
    assert observers(layer) == [0]
    with record_attention(layer) as record:
        layer(torch.randn(1, 3, 8))
    assert len(record) == 1


def test_names_are_those_of_the_model_whatever_is_compiled(model):
    torch.compiler.reset()
    layer = MultiHeadAttention(2, 8)
    alone = torch.compile(layer, backend="eager")
    with record_attention(alone) as record:
        alone(torch.randn(1, 3, 8))
    assert list(record) == [""]
    model.layers[0] = torch.compile(model.layers[0], backend="eager")
    with record_attention(model) as record:
        model(*inputs())
    assert sorted(record) == sorted(NAMES)


def test_a_jagged_call_is_refused_in_the_block():
    layer = MultiHeadAttention(2, 8)
    x = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(2, 8)], layout=torch.jagged)
    with record_attention(layer), pytest.raises(TypeError, match="query: expected a padded tensor beside record_att"):
        layer(x)


def test_a_compiled_model_is_recorded():
    model = torch.nn.Sequential(MultiHeadAttention(2, 8))
    compiled, x = torch.compile(model, backend="eager"), torch.randn(1, 3, 8)
    compiled(x)
    with record_attention(compiled) as record:
        compiled(x)
    assert list(record) == ["0"]


def test_only_modules_are_recorded():
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got int"), record_attention(3):
        pass
