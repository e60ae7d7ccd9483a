"""Models of torch's before and after: the same outputs, gradients, state and contract, computed by attnlib."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn

from attnlib import MultiHeadAttention, masks, record_attention
from attnlib.interop import pytorch
from attnlib.interop.pytorch import TorchMultiHeadAttention, replace_attention
from tests.oracles import B, L, NoArithmetic, S, draw
from tests.tolerances import TOLERANCES, assert_close

H, WIDTH = 2, 22  # an even number of heads: with an odd one torch has no fast path

pytestmark = [
    # torch's own words, with and without us
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True, but"),
    pytest.mark.filterwarnings("ignore:Support for mismatched"),
]


def randomised(module):
    """Draw biases and norms too, which torch sets to zero and one: then they cannot be forgotten."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) / math.sqrt(parameter.shape[-1]))
    return module.double().eval()


def pair(module):
    """Return the module, and a copy that attnlib computes."""
    module = randomised(module)
    ours = copy.deepcopy(module)
    replace_attention(ours)
    return module, ours


def layer(**options):
    return pair(nn.MultiheadAttention(WIDTH, H, **options))


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in module.named_parameters()}


def assert_same(theirs, ours, call, inputs=()):
    """In training and not, with gradients and without; ``call(module)`` returns tensors, or None among them."""
    for training in (False, True):
        theirs.train(training)
        ours.train(training)
        with torch.no_grad():
            for expected, actual in zip(call(theirs), call(ours), strict=True):
                assert (expected is None) == (actual is None)
                if expected is not None:
                    assert_close(actual, expected)
        found = []
        for module in (theirs, ours):
            outputs = [x for x in call(module) if x is not None]
            torch.manual_seed(1)
            loss = sum((x * draw(*x.shape)).sum() for x in outputs)  # not randn_like, which fills as the memory lies
            for x in inputs:
                x.grad = None
            grads = gradients(module, loss)
            found.append([*outputs, *(x.grad.clone() for x in inputs), *grads.values()])
        assert list(dict(theirs.named_parameters())) == list(dict(ours.named_parameters()))
        for expected, actual in zip(*found, strict=True):
            assert (expected is None) == (actual is None)
            if expected is not None:
                assert_close(actual, expected)


# ---------------------------------------------------------------------------------------------------------------------
# The layer's contract


@pytest.mark.parametrize("options", [{}, {"need_weights": False}, {"average_attn_weights": False}])
@pytest.mark.parametrize("kind", ["none", "bool", "float", "bool of each", "float of each"])
@pytest.mark.parametrize("padded", ["none", "bool", "float"])
def test_each_mask_and_each_way_of_asking_for_weights(options, kind, padded):
    theirs, ours = layer(batch_first=True)
    query, memory = draw(B, L, WIDTH, requires_grad=True), draw(B, S, WIDTH, requires_grad=True)
    blocked = torch.rand(*((B * H,) if kind.endswith("each") else ()), L, S) < 0.4
    blocked[..., 0] = False
    padding = torch.arange(S) >= torch.tensor([[S], [4]])
    given = {
        "attn_mask": None if kind == "none" else as_floats(blocked, kind),
        "key_padding_mask": None if padded == "none" else as_floats(padding, padded),
    }
    assert_same(theirs, ours, lambda m: m(query, memory, memory, **given, **options), [query, memory])


def as_floats(blocked, kind):
    return draw(*blocked.shape).masked_fill(blocked, -math.inf) if kind.startswith("float") else blocked


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("widths", [{}, {"kdim": 7}, {"vdim": 13}, {"kdim": 7, "vdim": 13}])
@pytest.mark.parametrize("need_weights", [False, True])
def test_each_layout_width_and_bias(bias, batch_first, widths, need_weights):
    theirs, ours = layer(bias=bias, batch_first=batch_first, **widths)
    tokens = [draw(B, L, WIDTH), draw(B, S, widths.get("kdim", WIDTH)), draw(B, S, widths.get("vdim", WIDTH))]
    padding = torch.arange(S) >= torch.tensor([[S], [4]])
    laid_out = [(x if batch_first else x.transpose(0, 1)).contiguous().requires_grad_() for x in tokens]
    assert_same(theirs, ours, lambda m: m(*laid_out, key_padding_mask=padding, need_weights=need_weights), laid_out)
    assert ours(*laid_out, need_weights=need_weights)[0].is_contiguous()
    one = [x[0].detach().requires_grad_() for x in tokens]
    of_heads = torch.rand(H, L, S) < 0.5
    of_heads[..., 0] = False
    for blocked in (torch.ones(L, S, dtype=torch.bool).triu(2), of_heads):
        options = {"key_padding_mask": padding[1], "attn_mask": blocked, "need_weights": need_weights}
        assert_same(theirs, ours, lambda m, options=options: m(*one, **options), one)
        options["average_attn_weights"] = False
        assert_same(theirs, ours, lambda m, options=options: m(*one, **options), one)


@pytest.mark.parametrize("same", ["all", "key and value", "query and key", "query and value"])
def test_self_attention_is_told_from_the_rest(same):
    theirs, ours = layer(batch_first=True)
    x, y = draw(B, L, WIDTH, requires_grad=True), draw(B, L, WIDTH, requires_grad=True)
    tokens = {"all": (x, x, x), "key and value": (x, y, y), "query and key": (x, x, y), "query and value": (x, y, x)}
    assert_same(theirs, ours, lambda m: m(*tokens[same]), [x] if same == "all" else [x, y])


@pytest.mark.parametrize("queries", [L, S])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_the_causal_hint(queries, need_weights, padded):
    """With fewer queries than keys torch's causal mask starts at the first key."""
    theirs, ours = layer(batch_first=True)
    query, memory = draw(B, queries, WIDTH, requires_grad=True), draw(B, S, WIDTH, requires_grad=True)
    blocked = torch.ones(queries, S, dtype=torch.bool).triu(1)
    options = {"attn_mask": blocked, "is_causal": True, "need_weights": need_weights}
    options["key_padding_mask"] = torch.arange(S) >= torch.tensor([[S], [4]]) if padded else None
    assert_same(theirs, ours, lambda m: m(query, memory, memory, **options), [query, memory])


def test_with_a_hint_the_causal_kernel_computes(monkeypatch):
    """Not one with a dense mask."""
    seen = []
    forward = MultiHeadAttention.forward

    def looked_at(self, query, key=None, value=None, mask=None, **options):
        seen.append(type(mask).__name__)
        return forward(self, query, key, value, mask, **options)

    monkeypatch.setattr(MultiHeadAttention, "forward", looked_at)
    _, ours = layer(batch_first=True)
    x, blocked = draw(B, L, WIDTH), torch.ones(L, L, dtype=torch.bool).triu(1)
    ours(x, x, x, attn_mask=blocked, is_causal=True, need_weights=False)
    ours(x, x, x, attn_mask=blocked.double().masked_fill(blocked, -math.inf), is_causal=True, need_weights=False)
    ours(x, x, x, attn_mask=blocked, need_weights=False)
    assert seen == ["Causal", "Causal", "Tensor"]


@pytest.mark.parametrize(
    "wrong", [torch.eye(L) == 0, torch.zeros(L, L), draw(L, L).masked_fill(torch.ones(L, L).triu(1) > 0, -math.inf)]
)
def test_a_hint_that_is_not_true_is_refused(wrong):
    """torch computes the causal mask if no weights are asked for, and the one that was given if they are."""
    theirs, ours = layer(batch_first=True)
    wrong = wrong if wrong.dtype == torch.bool else wrong.double()
    x, options = draw(B, L, WIDTH), {"attn_mask": wrong, "is_causal": True, "need_weights": False}
    assert not torch.allclose(theirs(x, x, x, **options)[0], theirs(x, x, x, **{**options, "need_weights": True})[0])
    with pytest.raises(ValueError, match="is_causal: expected the causal attn_mask beside it, got another mask"):
        ours(x, x, x, **options)
    del options["is_causal"]
    assert_close(ours(x, x, x, **options)[0], theirs(x, x, x, **options)[0])


def test_a_mask_of_the_wrong_size_is_not_hidden_by_the_hint():
    _, ours = layer(batch_first=True)
    x = draw(B, L, WIDTH)
    with pytest.raises(ValueError, match="mask: expected"):
        ours(x, x, x, attn_mask=torch.ones(3, 3).triu(1) > 0, is_causal=True, need_weights=False)


def test_a_learned_float_mask_gets_its_gradient():
    theirs, ours = layer(batch_first=True)
    x, mask = draw(B, L, WIDTH), draw(L, L)
    mask[:, 3] = -math.inf
    mask.requires_grad_()
    assert_same(theirs, ours, lambda m: m(x, x, x, attn_mask=mask, need_weights=False), [mask])


def test_weights_have_a_gradient():
    """A loss on the weights alone, as alignment supervision has."""
    theirs, ours = layer(batch_first=True)
    x = draw(B, L, WIDTH, requires_grad=True)
    assert_same(theirs, ours, lambda m: m(x, x, x)[1:], [x])


def test_dropout_with_weights_draws_what_torch_draws():
    """The weights that are returned are those that met the values."""
    theirs, ours = layer(batch_first=True, dropout=0.5)
    x, outputs = draw(B, L, WIDTH), []
    for module in (theirs.train(), ours.train()):
        torch.manual_seed(3)
        outputs.append(module(x, x, x, average_attn_weights=False))
    for expected, actual in zip(*outputs, strict=True):
        assert_close(actual, expected)
    assert (outputs[1][1] == 0).any()


def test_dropout_acts_in_training_only_and_follows_the_attribute():
    theirs, ours = layer(batch_first=True, dropout=0.5)
    x = draw(B, L, WIDTH)
    expected = theirs(x, x, x)[0].detach()
    for need_weights in (False, True):
        assert_close(ours.eval()(x, x, x, need_weights=need_weights)[0].detach(), expected)
        ours.train().dropout = 0.5
        draws = torch.stack([ours(x, x, x, need_weights=need_weights)[0].detach() for _ in range(800)])
        assert draws.std(0).min() > 0.01
        assert ((draws.mean(0) - expected).abs() < 5 * draws.std(0) / math.sqrt(800)).all()
        ours.dropout = 0.0
        assert_close(ours(x, x, x, need_weights=need_weights)[0].detach(), expected)


def test_a_layer_that_is_not_in_training_is_not_put_there():
    theirs, ours = layer(batch_first=True, dropout=0.5)
    x = draw(B, L, WIDTH)
    for need_weights in (False, True):
        assert_close(ours(x, x, x, need_weights=need_weights)[0], theirs(x, x, x)[0])


def test_a_query_that_may_attend_to_nothing_gets_the_output_bias():
    _, ours = layer(batch_first=True)
    x = draw(B, L, WIDTH, requires_grad=True)
    for need_weights in (False, True):
        output, weights = ours(x, x, x, key_padding_mask=torch.ones(B, L) > 0, need_weights=need_weights)
        assert_close(output, ours.out_proj.bias.expand_as(output))
        assert weights is None or not weights.any()
        output.sum().backward()
        assert not x.grad.any()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m, x: m(x, x, x, is_causal=True), ValueError, "is_causal: expected the causal attn_mask beside it"),
        (lambda m, x: m(x[..., 1:], x, x), ValueError, r"query: expected \(B, L, d_model = 22\)"),
        (lambda m, x: m(x, x[..., 1:], x), ValueError, "key: expected"),
        (lambda m, x: m(x, x, x[:, 1:]), ValueError, r"value: expected as many tokens as key, \(2, 5\), got \(2, 4\)"),
        (lambda m, x: m(x, x[0], x[0]), ValueError, "key: expected"),
        (lambda m, x: m(x, x, x, attn_mask=torch.ones(L, L + 1) > 0), ValueError, "attn_mask: expected"),
        (
            lambda m, x: m(x, x, x, key_padding_mask=torch.ones(B, L + 1) > 0),
            ValueError,
            r"key_padding_mask: expected \(B, S\) = \(2, 5\), got \(2, 6\)",
        ),
        (
            lambda m, x: m(x, x, x, attn_mask=masks.causal(), is_causal=True, need_weights=False),
            TypeError,
            "attn_mask: expected a bool or a float tensor, got Causal",
        ),
        (
            lambda m, x: m(x, x, x, key_padding_mask=torch.ones(B, L).int()),
            TypeError,
            "expected a bool or a float tensor",
        ),
        (lambda m, x: m("x", x, x), TypeError, "query: expected a tensor, got str"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, words):
    _, ours = layer(batch_first=True)
    with pytest.raises(error, match=words):
        call(ours, draw(B, L, WIDTH))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_no_mask_is_stretched_over_what_it_was_not_made_for(batch_first, batched):
    """Of a batch as large as the number of heads, or of one, a mask of another shape would fit by chance."""
    theirs, ours = layer(batch_first=batch_first)
    x = draw(H, L, WIDTH) if batched else draw(L, WIDTH)
    x = x.transpose(0, 1) if batched and not batch_first else x
    opened, each = torch.zeros(1, dtype=torch.bool), H * H if batched else H
    for shape, padding in (
        ((1, L), None),
        ((L, 1), None),
        ((H if batched else 2 * H, L, L), None),
        ((each, 1, L), None),
        (None, (1, L) if batched else (1, 1, L)),
        ((1, L), (H, L) if batched else (L,)),
        ((L, L), (1, L) if batched else (1, 1, L)),
    ):
        given = {
            "attn_mask": None if shape is None else opened.expand(shape),
            "key_padding_mask": None if padding is None else opened.expand(padding),
        }
        for need_weights in (False, True):
            with pytest.raises((RuntimeError, AssertionError)):
                theirs(x, x, x, need_weights=need_weights, **given)
            with pytest.raises(ValueError, match=r"(attn|key_padding)_mask: expected"):
                ours(x, x, x, need_weights=need_weights, **given)
    with pytest.raises(
        ValueError, match=r"attn_mask: expected \(L, S\) = \(5, 5\) or \((B·)?H, L, S\) = \([24], 5, 5\), got"
    ):
        ours(x, x, x, attn_mask=opened.expand(3, L, L))


# ---------------------------------------------------------------------------------------------------------------------
# Nested tensors


def nested(requires_grad=False):
    return torch.nested.nested_tensor([draw(5, WIDTH), draw(3, WIDTH)], requires_grad=requires_grad)


@pytest.mark.parametrize("options", [{}, {"need_weights": False}, {"average_attn_weights": False}])
def test_a_nested_tensor_is_what_torchs_fast_path_makes_of_it(options):
    theirs, ours = layer(batch_first=True)
    x = nested()
    with torch.no_grad():
        (expected, weights), (output, found) = (m(x, x, x, **options) for m in (theirs, ours))
    for wanted, actual in zip(expected.unbind(), output.unbind(), strict=True):
        assert_close(actual, wanted)
    assert (found is None) == (weights is None)
    if weights is not None:
        assert_close(found, weights)


def test_a_jagged_tensor_works_where_torch_has_no_way():
    theirs, ours = layer(batch_first=True)
    parts = [draw(5, WIDTH), draw(3, WIDTH)]
    x = torch.nested.nested_tensor(parts, layout=torch.jagged)
    output, _ = ours(x, x, x, need_weights=False)
    for part, found in zip(parts, output.unbind(), strict=True):
        assert_close(found, theirs(part, part, part)[0])


def test_nested_tensors_that_torch_takes_for_padded_are_refused():
    _, ours = layer(batch_first=True)
    x = nested()
    for call, words in (
        (lambda: ours(x, x, x, key_padding_mask=torch.ones(B, 5) > 0), "beside a mask, got a nested one"),
        (lambda: ours(x, nested(), x), "one nested tensor for all three"),
        (lambda: layer()[1](x, x, x), "since batch_first=False, got a nested one"),
    ):
        with pytest.raises(TypeError, match=words):
            call()


# ---------------------------------------------------------------------------------------------------------------------
# Models


def encoder(nested=True, **options):
    one = nn.TransformerEncoderLayer(WIDTH, H, 31, dropout=0.0, **{"batch_first": True, **options})
    return nn.TransformerEncoder(one, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=nested)


PADDING = torch.arange(L) >= torch.tensor([[L], [3]])
CAUSAL = torch.ones(L, L, dtype=torch.bool).triu(1)


@pytest.mark.parametrize(
    "masks",
    [
        {},
        {"mask": CAUSAL},
        {"src_key_padding_mask": PADDING},
        {"mask": CAUSAL, "src_key_padding_mask": PADDING},
        {"mask": CAUSAL, "is_causal": True},
    ],
)
@pytest.mark.parametrize("with_nested", [False, True])
@pytest.mark.parametrize("options", [{}, {"norm_first": True}, {"bias": False}, {"batch_first": False}])
def test_an_encoder(masks, with_nested, options):
    """Its fused fast path, and the nested tensors it makes of padding: what it sets to zero there stays zero."""
    theirs, ours = pair(encoder(with_nested, **options))
    x = draw(B, L, WIDTH)
    x = (x if options.get("batch_first", True) else x.transpose(0, 1).contiguous()).requires_grad_()
    assert_same(theirs, ours, lambda m: [m(x, **masks)], [x])
    one, other = theirs.layers[1], ours.layers[1]
    given = {"src_mask" if name == "mask" else name: mask for name, mask in masks.items()}
    assert_same(one, other, lambda m: [m(x, **given)], [x])


def test_the_fast_path_makes_way_for_attnlib():
    """It would compute from the parameters alone, and nobody would see a weight."""
    theirs, ours = pair(encoder())
    x = draw(B, L, WIDTH)
    for padding in (None, PADDING):
        with torch.no_grad(), record_attention(ours) as record:
            output = ours(x, src_key_padding_mask=padding)
        assert list(record) == ["layers.0.self_attn.attention", "layers.1.self_attn.attention"]
        with torch.no_grad():
            assert_close(output, theirs(x, src_key_padding_mask=padding))
        hidden = x if padding is None else x.masked_fill(padding[..., None], 0)
        expected = theirs.layers[0].self_attn(hidden, hidden, hidden, padding, average_attn_weights=False)[1].detach()
        real = torch.ones(B, L, dtype=torch.bool) if padding is None else ~padding
        assert_close(record["layers.0.self_attn.attention"].transpose(1, 2)[real], expected.transpose(1, 2)[real])


def test_recording_shows_the_weights_before_dropout_also_where_weights_are_asked_for():
    theirs, ours = layer(batch_first=True, dropout=0.5)
    x = draw(B, L, WIDTH)
    expected = theirs(x, x, x, average_attn_weights=False)[1].detach()
    for need_weights in (False, True):
        with record_attention(ours.train()) as record:
            ours(x, x, x, need_weights=need_weights)
        assert_close(record["attention"], expected)


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "batch_first": False}])
def test_a_whole_transformer(options):
    options = {"batch_first": True, **options}
    theirs, ours = pair(nn.Transformer(WIDTH, H, 2, 2, 31, dropout=0.0, **options))
    source, target = draw(B, S, WIDTH), draw(B, L, WIDTH)
    if not options["batch_first"]:
        source, target = (x.transpose(0, 1).contiguous() for x in (source, target))
    source, target = source.requires_grad_(), target.requires_grad_()
    padding = torch.arange(S) >= torch.tensor([[S], [4]])
    causal = nn.Transformer.generate_square_subsequent_mask(L, dtype=torch.float64)
    given = {"tgt_mask": causal, "tgt_is_causal": True, "memory_key_padding_mask": padding}
    given |= {"src_key_padding_mask": padding, "tgt_key_padding_mask": PADDING}
    assert_same(theirs, ours, lambda m: [m(source, target, **given)], [source, target])
    del given["tgt_key_padding_mask"]
    assert_same(theirs, ours, lambda m: [m(source, target, **given)], [source, target])


class Somebodys(nn.Module):
    """A model that torch knows nothing of: shared layers, a list, a subclass, a layer held twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.MultiheadAttention(WIDTH, H, batch_first=True)
        self.layers = nn.ModuleList([nn.MultiheadAttention(WIDTH, H, kdim=7, vdim=7, batch_first=True)])
        self.again = self.first
        self.hidden = (self.first,)
        self.own = Subclass(WIDTH, H)
        self.pool = nn.MultiheadAttention(WIDTH, H, add_bias_kv=True)
        self.zero = nn.MultiheadAttention(WIDTH, H, add_zero_attn=True)

    def forward(self, x, memory):
        x = self.again(x, x, x)[0] + self.hidden[0](x, x, x, need_weights=False)[0]
        x = self.layers[0](x, memory, memory)[0].transpose(0, 1)
        return self.zero(*[self.pool(*[self.own(x, x, x)[0]] * 3)[0]] * 3)[0]


class Subclass(nn.MultiheadAttention):
    pass


def test_the_report_says_what_was_swapped_and_what_not_and_why():
    theirs = randomised(Somebodys())
    ours = copy.deepcopy(theirs)
    hidden = ours.hidden[0]
    report = replace_attention(ours)
    assert report.swapped == ("first", "layers.0", "again")
    assert list(report.kept) == ["own", "pool", "zero"]
    assert "Subclass is a subclass" in report.kept["own"]
    assert "append bias_k and bias_v" in report.kept["pool"]
    assert "append a row of zeros" in report.kept["zero"]
    assert str(report).splitlines()[2:4] == ["swapped: again", f"kept: own: {report.kept['own']}"]
    assert ours.first is ours.again is hidden  # whoever holds the layer holds the one that was swapped
    assert isinstance(hidden, TorchMultiHeadAttention)
    x, memory = draw(B, L, WIDTH, requires_grad=True), draw(B, S, 7, requires_grad=True)
    assert_same(theirs, ours, lambda m: [m(x, memory)], [x, memory])
    again = replace_attention(ours)
    assert again.swapped == ()
    assert again.kept["first"] == "attnlib computes it already"


def test_a_layer_whose_own_forward_is_wrapped_is_left_as_it_is():
    """As packages do that move weights between devices: the class would not be asked."""
    theirs = nn.MultiheadAttention(WIDTH, H)
    forward = theirs.forward
    theirs.forward = lambda *args, **kwargs: forward(*args, **kwargs)
    report = replace_attention(theirs)
    assert type(theirs) is nn.MultiheadAttention
    assert "its forward was replaced on the instance" in report.kept[""]


def test_a_layer_alone_is_a_model_too():
    report = replace_attention(nn.MultiheadAttention(WIDTH, H))
    assert report.swapped == ("",)
    assert str(report) == "swapped: (the model itself)"


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (nn.Linear(3, 3), ValueError, "expected a model with a torch.nn.MultiheadAttention, got Linear without one"),
        (nn.MultiheadAttention, TypeError, "model: expected a torch.nn.Module, got type"),
    ],
)
def test_a_model_without_attention_is_refused(model, error, words):
    with pytest.raises(error, match=words):
        replace_attention(model)


# ---------------------------------------------------------------------------------------------------------------------
# What stays


def test_parameters_names_state_hooks_and_optimizer_stay():
    theirs = randomised(encoder())
    state = copy.deepcopy(theirs.state_dict())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    calls = []
    theirs.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    parameters = dict(theirs.named_parameters())
    with NoArithmetic():
        swapped_on_meta(theirs)
    assert all(p is parameters[name] for name, p in theirs.named_parameters())
    assert list(state) == list(theirs.state_dict())
    assert all(torch.equal(theirs.state_dict()[name], value) for name, value in state.items())
    theirs.train()(draw(B, L, WIDTH)).square().sum().backward()
    optimizer.step()
    assert calls == [1]
    assert not torch.equal(theirs.layers[0].self_attn.in_proj_weight, state["layers.0.self_attn.in_proj_weight"])
    theirs.load_state_dict(state)
    encoder().double().load_state_dict(theirs.state_dict())


def swapped_on_meta(model):
    with torch.utils._python_dispatch._disable_current_modes():
        replace_attention(model)


def test_all_parameters_can_be_drawn_again():
    """Module by module, as a model is made that first had no memory."""
    _, ours = pair(encoder())
    for module in ours.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def test_nothing_is_drawn_when_a_model_is_changed():
    model, state = encoder(), torch.get_rng_state()
    replace_attention(model)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_computes_the_same(how):
    _, ours = pair(encoder())
    if how == "deepcopy":
        other = copy.deepcopy(ours)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(ours))
    else:
        file = io.BytesIO()
        torch.save(ours, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    x = draw(B, L, WIDTH)
    with torch.no_grad(), record_attention(other) as record:
        assert torch.equal(other(x), ours(x))
    assert len(record) == 2


def test_a_swapped_layer_can_be_stacked_and_taken_over():
    theirs, ours = pair(nn.TransformerEncoderLayer(WIDTH, H, 31, dropout=0.0, batch_first=True))
    x = draw(B, L, WIDTH)
    stacks = [nn.TransformerEncoder(one, 2).eval() for one in (theirs, ours)]
    with torch.no_grad():
        assert_close(stacks[1](x, src_key_padding_mask=PADDING), stacks[0](x, src_key_padding_mask=PADDING))
    attend = pytorch.from_torch(ours.self_attn)
    assert type(attend) is MultiHeadAttention
    assert_close(attend(x), theirs.self_attn(x, x, x)[0])


def test_in_half_precision_and_under_autocast():
    theirs, ours = pair(nn.Transformer(WIDTH, H, 1, 1, 31, dropout=0.0, batch_first=True))
    source, target = draw(B, S, WIDTH), draw(B, L, WIDTH)
    exact = theirs(source, target)
    causal = nn.Transformer.generate_square_subsequent_mask(L)
    for module in (theirs, ours):
        module.float()
    with torch.autocast("cpu", torch.bfloat16):
        expected, output = (m(source.float(), target.float(), tgt_mask=causal) for m in (theirs, ours))
    assert output.dtype == expected.dtype
    torch.testing.assert_close(output, expected, rtol=0, atol=0.06)
    half = ours.bfloat16()(source.bfloat16(), target.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half - exact).abs().max() < 0.15


def test_compiled_into_one_graph():
    theirs, ours = pair(encoder())
    x = draw(B, L, WIDTH)
    expected = theirs(x, src_key_padding_mask=PADDING)
    torch._dynamo.reset()
    compiled = torch.compile(ours, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(x, src_key_padding_mask=PADDING), expected, **TOLERANCES[torch.float64])


@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented")
def test_gradients_for_each_example():
    """Parameters from outside, as torch.func hands them in."""
    theirs, ours = pair(encoder())
    x = draw(B, L, WIDTH)
    per_example = []
    for module in (theirs, ours):
        module.train()
        parameters = dict(module.named_parameters())

        def loss(parameters, one, module=module):
            return torch.func.functional_call(module, parameters, (one[None],)).square().sum()

        per_example.append(torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x))
    for name, expected in per_example[0].items():
        assert_close(per_example[1][name], expected)
