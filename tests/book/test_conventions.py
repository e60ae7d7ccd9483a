"""The conversions of "Converting masks" in reference/conventions, run as they are printed against the libraries.

They are not repeated here: they are read out of the page, so that its lists and this test cannot drift. So is its table
of arguments, whose names must be arguments of the libraries, and each sentence about a default has a test. So are the
pairs of "Coming from another library", whose two sides compute the same.
"""

import inspect
import re
import warnings
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right

from attnlib import MultiHeadAttention, attention, masks
from attnlib.interop.pytorch import from_torch
from tests.book.prose import ROOT

PAGE = ROOT / "text" / "reference" / "conventions.md"
ITEM = re.compile(
    r"^- (?P<library>[^`\n]+) `(?P<argument>\w+)`, .+\n"
    r"  - from a mask: `(?P<out>[^`]+)`\n"
    r"  - to a mask: `(?P<back>[^`]+)`$",
    re.MULTILINE,
)
MEANING = re.compile(r"^\| ([^|`]+ `\w+`) \| (.+) \|$", re.MULTILINE)

# Sizes that are all different, so that no swapped axis hides.
B, H, L, S, D_K, D_V, D_MODEL = 2, 3, 5, 7, 11, 13, 17
LENGTHS = [7, 4]
# As many queries as keys, for the libraries whose layers attend to themselves.
SQUARE = (S, S)


@dataclass
class Conversion:
    """One item of the list."""

    argument: str
    out: str
    back: str

    def from_mask(self, mask: masks.Mask, L: int, S: int) -> Tensor:
        names = {"m": mask, "lengths": LENGTHS, "B": B, "H": H, "L": L, "S": S, "masks": masks, "torch": torch}
        return eval(self.out, names)

    def to_mask(self, given: Tensor) -> masks.Mask:
        return eval(self.back, {self.argument: given, "B": B, "H": H, "masks": masks, "torch": torch})


def conversions() -> dict[str, Conversion]:
    """Every item of the list, by what its first line names."""
    items = ITEM.finditer(PAGE.read_text("utf-8"))
    return {
        f"{item['library']} {item['argument']}": Conversion(*item.group("argument", "out", "back")) for item in items
    }


LISTED = conversions()

# Each leaves every query something to see: what a query does that sees nothing differs, and the page says so.
PAIRS = {
    "causal": masks.causal(),
    "window": masks.sliding_window(4),
    "causal and padded": masks.causal() & masks.padding(LENGTHS),
    "packed": masks.documents([[0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1]]),
}
TOKENS = {"padded": masks.padding(LENGTHS)}
OF_TOKENS = {"module key_padding_mask", "Hugging Face tokens attention_mask"}


def _numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _split(x: Tensor) -> Tensor:
    """(B, L, H·d) → (B, H, L, d)."""
    return x.unflatten(-1, (H, -1)).transpose(1, 2)


# The libraries. Each gives a function from its own argument to an output, and one from our mask to the same output.


def torch_sdpa():
    query, key, value = _numbers(B, H, L, D_K), _numbers(B, H, S, D_K), _numbers(B, H, S, D_V)
    return (
        lambda given: F.scaled_dot_product_attention(query, key, value, attn_mask=given),
        lambda mask: attention(query, key, value, mask),
        (L, S),
    )


def torch_module(argument: str):
    module = nn.MultiheadAttention(H * D_K, H, batch_first=True).eval()
    query, key = _numbers(B, L, H * D_K), _numbers(B, S, H * D_K)
    parts = zip((query, key, key), module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True)
    heads = [_split(F.linear(x, w, b)) for x, w, b in parts]
    return (
        lambda given: module(query, key, key, **{argument: given})[0],
        lambda mask: module.out_proj(attention(*heads, mask).transpose(1, 2).flatten(-2)),
        (L, S),
    )


def hugging_face(implementation: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own imports warn of
        from transformers import BertConfig, BertModel
    size = {"hidden_size": H * D_K, "num_attention_heads": H, "intermediate_size": 19, "num_hidden_layers": 1}
    model = BertModel(BertConfig(**size, vocab_size=23, attn_implementation=implementation)).eval()
    tokens = torch.arange(B * S).reshape(B, S)
    caught = {}
    layer = model.encoder.layer[0].attention.self
    layer.register_forward_hook(lambda _, given, result: caught.update(x=given[0], output=result[0]))

    def with_library(given: Tensor) -> Tensor:
        model(input_ids=tokens, attention_mask=given)
        return caught["output"]

    def with_attnlib(mask: masks.Mask | None, **options) -> Tensor:
        x = model.embeddings(tokens)
        heads = [_split(project(x)) for project in (layer.query, layer.key, layer.value)]
        return attention(*heads, mask, **options).transpose(1, 2).flatten(-2)

    return with_library, with_attnlib, SQUARE


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on torch; its settings file is kept out of the home folder."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        warnings.simplefilter("ignore")  # what the library's own imports warn of
        import keras
    assert keras.backend.backend() == "torch"
    return keras


def keras_layer(keras, fused: bool):
    layer = keras.layers.MultiHeadAttention(num_heads=H, key_dim=D_K, value_dim=D_V, use_bias=False)
    query, key = _numbers(B, L, D_MODEL), _numbers(B, S, D_MODEL)
    layer.build(query.shape, key.shape)
    wq, wk, wv, wo = (w.value.detach() for w in layer.weights)
    heads = [torch.einsum("bld,dhk->bhlk", x, w) for x, w in ((query, wq), (key, wk), (key, wv))]

    def with_library(given: Tensor, **arguments) -> Tensor:
        result = layer(query, key, attention_mask=given, return_attention_scores=not fused, **arguments)
        return (result if fused else result[0]).detach()

    return with_library, lambda mask: torch.einsum("bhlv,hvd->bld", attention(*heads, mask), wo), (L, S)


LIBRARIES = {
    "SDPA attn_mask": [torch_sdpa],
    "module attn_mask": [lambda: torch_module("attn_mask")],
    "module key_padding_mask": [lambda: torch_module("key_padding_mask")],
    "Hugging Face tokens attention_mask": [lambda: hugging_face("eager"), lambda: hugging_face("sdpa")],
    "Hugging Face pairs attention_mask": [lambda: hugging_face("eager"), lambda: hugging_face("sdpa")],
}


def _agrees(item: str, library) -> None:
    with_library, with_attnlib, sizes = library
    conversion = LISTED[item]
    for name, mask in (TOKENS if item in OF_TOKENS else PAIRS).items():
        given = conversion.from_mask(mask, *sizes)
        by_library = with_library(given)
        torch.testing.assert_close(by_library, with_attnlib(mask), msg=lambda m, n=name: f"{n}, from a mask: {m}")
        back = conversion.to_mask(given)
        torch.testing.assert_close(by_library, with_attnlib(back), msg=lambda m, n=name: f"{n}, to a mask: {m}")
        assert torch.equal(_each_pair(back, *sizes), _each_pair(mask, *sizes))


def _each_pair(mask: masks.Mask, L: int, S: int) -> Tensor:
    return mask.dense(L, S).expand(B, H, L, S)


def _wrong_polarity_differs(item: str, library) -> None:
    """The comparison can fail: the same mask with True and False exchanged gives another output."""
    with_library, with_attnlib, sizes = library
    conversion = LISTED[item]
    mask = TOKENS["padded"] if item in OF_TOKENS else PAIRS["window"]
    right = conversion.from_mask(mask, *sizes)
    if right.dtype == torch.bool:
        wrong = ~right
    elif right.is_floating_point():
        wrong = torch.where(right == 0, right.min(), 0.0)
    else:
        wrong = 1 - right
    by_library = with_library(wrong)
    assert not torch.allclose(by_library, with_attnlib(mask), rtol=1e-3, atol=1e-3, equal_nan=False)


def test_the_list_has_the_items_that_are_tested():
    assert set(LISTED) == {*LIBRARIES, "Keras attention_mask"}


def test_the_table_says_hidden_where_the_code_inverts():
    rows = dict(MEANING.findall(PAGE.read_text("utf-8")))
    meanings = {first.replace("`", ""): meaning for first, meaning in rows.items()}
    assert set(meanings) == set(LISTED)
    for item, conversion in LISTED.items():
        assert (meanings[item] == "**hidden**") == conversion.out.startswith("~"), item


@pytest.mark.parametrize("item", LIBRARIES)
def test_an_item_of_the_list_holds(item):
    for library in LIBRARIES[item]:
        _agrees(item, library())


@pytest.mark.parametrize("item", LIBRARIES)
def test_the_wrong_polarity_is_seen(item):
    for library in LIBRARIES[item]:
        _wrong_polarity_differs(item, library())


@pytest.mark.parametrize("fused", [True, False])
def test_the_item_of_keras_holds(keras, fused):
    _agrees("Keras attention_mask", keras_layer(keras, fused))
    _wrong_polarity_differs("Keras attention_mask", keras_layer(keras, fused))


@pytest.mark.parametrize("fused", [True, False])
def test_keras_puts_the_first_query_at_the_first_key(keras, fused):
    with_library, with_attnlib, _ = keras_layer(keras, fused)
    by_library = with_library(None, use_causal_mask=True)
    first_at_first = masks.from_tensor(torch.ones(L, S, dtype=torch.bool).tril())
    torch.testing.assert_close(by_library, with_attnlib(first_at_first))
    assert not torch.allclose(by_library, with_attnlib(masks.causal()), rtol=1e-3, atol=1e-3)


OF_HEADS = ["SDPA attn_mask", "module attn_mask", "Hugging Face pairs attention_mask"]


def mask_of_heads(L: int, S: int) -> masks.Mask:
    """A mask that differs between examples and heads; every query sees the first key."""
    allowed = _numbers(B, H, L, S) > 0
    allowed[..., 0] = True
    assert not torch.equal(allowed[:, 0], allowed[:, 1])
    return masks.from_tensor(allowed)


@pytest.mark.parametrize("item", OF_HEADS)
def test_a_mask_that_differs_between_heads_survives(item):
    for library in LIBRARIES[item]:
        with_library, with_attnlib, sizes = library()
        mask = mask_of_heads(*sizes)
        given = LISTED[item].from_mask(mask, *sizes)
        torch.testing.assert_close(with_library(given), with_attnlib(mask))
        assert torch.equal(_each_pair(LISTED[item].to_mask(given), *sizes), _each_pair(mask, *sizes))


@pytest.mark.parametrize("fused", [True, False])
def test_keras_takes_four_axes(keras, fused):
    assert "`m.dense(L, S).expand(B, H, L, S)`, work." in PAGE.read_text("utf-8")
    with_library, with_attnlib, sizes = keras_layer(keras, fused)
    mask = mask_of_heads(*sizes)
    torch.testing.assert_close(with_library(_each_pair(mask, *sizes)), with_attnlib(mask))


def test_the_module_takes_two_axes():
    assert "`masks.from_tensor(~attn_mask)`" in PAGE.read_text("utf-8")
    with_library, with_attnlib, sizes = torch_module("attn_mask")
    attn_mask = ~masks.sliding_window(4).dense(*sizes)
    torch.testing.assert_close(with_library(attn_mask), with_attnlib(masks.from_tensor(~attn_mask)))


def test_whole_numbers_as_pairs_raise_with_sdpa_and_are_added_with_eager():
    pairs = PAIRS["causal"].dense(*SQUARE).expand(B, 1, *SQUARE).long()
    with_library, _, _ = hugging_face("sdpa")
    with pytest.raises(RuntimeError, match="dtype"):
        with_library(pairs)
    with_library, with_attnlib, _ = hugging_face("eager")
    torch.testing.assert_close(with_library(pairs), with_attnlib(None, bias=pairs.float()))


def test_floats_are_added_to_the_scores():
    added = _numbers(L, S)
    query, key, value = _numbers(B, H, L, D_K), _numbers(B, H, S, D_K), _numbers(B, H, S, D_V)
    by_torch = F.scaled_dot_product_attention(query, key, value, attn_mask=added)
    torch.testing.assert_close(by_torch, attention(query, key, value, bias=added))
    module = nn.MultiheadAttention(H * D_K, H, batch_first=True).eval()
    x, y = _numbers(B, L, H * D_K), _numbers(B, S, H * D_K)
    parts = zip((x, y, y), module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True)
    heads = [_split(F.linear(part, w, b)) for part, w, b in parts]
    expected = module.out_proj(attention(*heads, bias=added).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(module(x, y, y, attn_mask=added)[0], expected)


@pytest.mark.parametrize("kind", PAIRS)
def test_hugging_face_reads_bool_pairs_with_sdpa_and_adds_them_with_eager(kind):
    pairs = PAIRS[kind].dense(*SQUARE).expand(B, 1, *SQUARE)
    with_library, with_attnlib, _ = hugging_face("sdpa")
    torch.testing.assert_close(with_library(pairs), with_attnlib(masks.from_tensor(pairs)))
    with_library, with_attnlib, _ = hugging_face("eager")
    by_library = with_library(pairs)
    torch.testing.assert_close(by_library, with_attnlib(None, bias=pairs.float()))
    assert not torch.allclose(by_library, with_attnlib(masks.from_tensor(pairs)), rtol=1e-3, atol=1e-3)


def test_zeros_on_the_left_survive_the_conversion_to_a_mask():
    item = "Hugging Face tokens attention_mask"
    with_library, with_attnlib, _ = hugging_face("eager")
    on_the_left = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    torch.testing.assert_close(with_library(on_the_left), with_attnlib(LISTED[item].to_mask(on_the_left)))


# The arguments.

ROW = re.compile(r"^\|( `\w+` (?:\|(?: `\w+`)? )+)\|$", re.MULTILINE)


def rows_of_arguments() -> list[list[str]]:
    """The names in each row of the table: attnlib, SDPA, module, Keras, Llama; empty where a library has none."""
    found = ROW.findall(PAGE.read_text("utf-8"))
    return [[field.strip(" `") for field in row.split("|")] for row in found]


def arguments_of(*callables) -> dict[str, object]:
    """The names that functions take, with their defaults."""
    parameters = [inspect.signature(each).parameters for each in callables]
    return {name: parameter.default for each in parameters for name, parameter in each.items()}


def of_sdpa() -> dict[str, object]:
    """SDPA is a builtin: its docstring holds its signature."""
    line = F.scaled_dot_product_attention.__doc__.partition("(")[2].partition(")")[0]
    return dict.fromkeys(re.findall(r"(\w+)(?:=|,|$)", line))


def of_llama() -> dict[str, object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own imports warn of
        from transformers import LlamaConfig
    return arguments_of(LlamaConfig)


def of_attnlib() -> dict[str, object]:
    return arguments_of(attention, MultiHeadAttention, MultiHeadAttention.forward)


def of_module() -> dict[str, object]:
    return arguments_of(nn.MultiheadAttention, nn.MultiheadAttention.forward)


def of_keras(keras) -> dict[str, object]:
    layer = keras.layers.MultiHeadAttention
    return arguments_of(layer.__init__, layer.call)


def test_every_argument_of_the_table_is_one_of_its_library(keras):
    libraries = [of_attnlib(), of_sdpa(), of_module(), of_keras(keras), of_llama()]
    rows = rows_of_arguments()
    assert len(rows) == 11
    assert all(len(row) == len(libraries) for row in rows)
    columns = zip(*rows, strict=True)
    unknown = [set(column) - {""} - set(names) for column, names in zip(columns, libraries, strict=True)]
    assert not any(unknown), unknown


def test_what_the_page_says_of_orders(keras):
    assert list(inspect.signature(nn.MultiheadAttention).parameters)[:2] == ["embed_dim", "num_heads"]
    assert list(inspect.signature(MultiHeadAttention).parameters)[:2] == ["num_heads", "d_model"]
    assert list(inspect.signature(keras.layers.MultiHeadAttention).parameters)[:2] == ["num_heads", "key_dim"]
    assert list(inspect.signature(keras.layers.MultiHeadAttention.call).parameters)[1:4] == ["query", "value", "key"]


def test_what_the_page_says_of_defaults(keras):
    ours, module, by_keras, llama = of_attnlib(), of_module(), of_keras(keras), of_llama()
    assert module["batch_first"] is False
    assert (module["bias"], by_keras["use_bias"]) == (True, True)
    assert (ours["projection_bias"], llama["attention_bias"]) == (False, False)
    assert (module["need_weights"], module["average_attn_weights"]) == (True, True)
    assert (ours["need_weights"], by_keras["return_attention_scores"]) == (False, False)
    assert (ours["dropout"], module["dropout"], by_keras["dropout"], llama["attention_dropout"]) == (0.1, 0.0, 0.0, 0.0)


def test_keras_returns_weights_of_each_head_and_torch_their_mean(keras):
    query, key = _numbers(B, L, D_MODEL), _numbers(B, S, D_MODEL)
    _, by_keras = keras.layers.MultiHeadAttention(H, D_K)(query, key, return_attention_scores=True)
    assert tuple(by_keras.shape) == (B, H, L, S)
    module = nn.MultiheadAttention(H * D_K, H, batch_first=True)
    assert module(*(_numbers(B, size, H * D_K) for size in (L, S, S)))[1].shape == (B, L, S)


def test_sdpa_drops_whenever_it_is_told_to():
    inputs = [_numbers(B, H, size, D_K) for size in (L, S, S)]
    torch.manual_seed(0)
    once, again = (F.scaled_dot_product_attention(*inputs, dropout_p=0.5) for _ in range(2))
    assert not torch.equal(once, again)


@pytest.mark.parametrize("heads", [2, 3])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_what_the_module_gives_a_query_that_sees_nothing(heads, gradients, need_weights):
    """NaN when asked for weights; without gradients, NaN if the number of heads is even; else its bias."""
    module, x = nn.MultiheadAttention(heads * 4, heads, batch_first=True).eval(), _numbers(B, L, heads * 4)
    nn.init.normal_(module.out_proj.bias)
    hidden = torch.eye(L, dtype=torch.bool)[1][:, None].expand(L, L)
    with torch.set_grad_enabled(gradients):
        rows = module(x, x, x, attn_mask=hidden, need_weights=need_weights)[0][:, 1]
    if need_weights or (not gradients and heads % 2 == 0):
        assert rows.isnan().all()
    else:
        torch.testing.assert_close(rows, module.out_proj.bias.expand_as(rows))


def test_sdpa_gives_zeros_to_a_query_that_sees_nothing():
    inputs = [_numbers(B, H, size, D_K) for size in (L, S, S)]
    allowed = torch.ones(L, S, dtype=torch.bool)
    allowed[1] = False
    assert F.scaled_dot_product_attention(*inputs, attn_mask=allowed)[:, :, 1].count_nonzero() == 0


def test_the_hint_of_the_module_raises_without_a_mask():
    module, x = nn.MultiheadAttention(H * D_K, H, batch_first=True), _numbers(B, L, H * D_K)
    with pytest.raises(RuntimeError, match="attn_mask"):
        module(x, x, x, is_causal=True)


def test_causal_lower_right_puts_the_last_query_at_the_last_key():
    query, key, value = _numbers(B, H, L, D_K), _numbers(B, H, S, D_K), _numbers(B, H, S, D_V)
    by_torch = F.scaled_dot_product_attention(query, key, value, attn_mask=causal_lower_right(L, S))
    torch.testing.assert_close(by_torch, attention(query, key, value, masks.causal()))


def test_what_the_page_says_of_widths_and_fewer_key_heads(keras):
    assert {"kdim", "vdim"} <= set(of_module())
    wide = nn.MultiheadAttention(H * D_K, H, kdim=D_MODEL, vdim=D_V, batch_first=True)
    wide(_numbers(B, L, H * D_K), _numbers(B, S, D_MODEL), _numbers(B, S, D_V))
    assert {"query_mask", "value_mask", "key_mask"} <= set(of_keras(keras))
    F.scaled_dot_product_attention(_numbers(B, 6, L, 8), _numbers(B, 3, S, 8), _numbers(B, 3, S, 8), enable_gqa=True)
    with pytest.raises(RuntimeError):
        F.scaled_dot_product_attention(_numbers(B, 6, L, 8), _numbers(B, 3, S, 8), _numbers(B, 3, S, 8))


def test_torch_causal_puts_the_first_query_at_the_first_key():
    query, key, value = _numbers(B, H, L, D_K), _numbers(B, H, S, D_K), _numbers(B, H, S, D_V)
    by_torch = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(by_torch, attention(query, key, value, torch.ones(L, S, dtype=torch.bool).tril()))


# Coming from another library.

PAIR = re.compile(r"^\| `(layer\(.+)` \| `(.+)` \|$", re.MULTILINE)


def section(label: str) -> str:
    """What stands from a label to the next one."""
    return PAGE.read_text("utf-8").split(f"({label})=\n")[1].split("\n(")[0]


def pairs(label: str) -> list[tuple[str, str]]:
    return PAIR.findall(section(label))


def cells(label: str) -> list[str]:
    return re.findall(r"```\{code-cell\} python3\n(?!---)(.+?)```", section(label), re.DOTALL)


# d_model, which each peer below shares out among H heads, of D_K = D_V.
WIDE = H * D_K


def tokens_and_masks() -> dict[str, object]:
    """What the intro of the section says of the names in its tables."""
    real = torch.arange(S) < torch.tensor(LENGTHS)[:, None]
    return {
        "x": _numbers(B, L, WIDE), "y": _numbers(B, S, WIDE), "z": _numbers(B, S, WIDE + 1)[..., :-1],
        "real": real, "pad": ~real, "known": torch.arange(L) < torch.tensor([5, 2])[:, None],
        "allowed": masks.sliding_window(4).dense(L, S), "hidden": ~masks.sliding_window(4).dense(L, S),
        "future": torch.ones(L, L, dtype=torch.bool).triu(1), "added": _numbers(L, S),
        "causal": masks.causal(), "masks": masks,
    }  # fmt: skip


def weights_of(attend: MultiHeadAttention):
    def weights(*tokens: Tensor) -> Tensor:
        attend(*tokens, need_weights=True)
        return attend.attn

    return weights


def same_by_torch() -> tuple[object, MultiHeadAttention]:
    layer = nn.MultiheadAttention(WIDE, H, batch_first=True).eval()
    nn.init.normal_(layer.in_proj_bias)
    nn.init.normal_(layer.out_proj.bias)
    return layer, from_torch(layer)


def x_transformers_attention(**sizes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own imports warn of
        from x_transformers import Attention
    return Attention(**sizes).eval()


def same_by_x_transformers() -> tuple[object, MultiHeadAttention]:
    layer = x_transformers_attention(dim=WIDE, heads=H, dim_head=D_K)
    attend = MultiHeadAttention(H, WIDE, dropout=0.0)
    names = {"wq": "to_q", "wk": "to_k", "wv": "to_v", "fc": "to_out"}
    attend.load_state_dict({f"{ours}.weight": getattr(layer, theirs).weight for ours, theirs in names.items()})
    return layer, attend


def same_by_keras(keras) -> tuple[object, MultiHeadAttention]:
    layer = keras.layers.MultiHeadAttention(num_heads=H, key_dim=D_K, bias_initializer="random_normal")
    layer.build((B, L, WIDE), (B, S, WIDE))
    attend = MultiHeadAttention(H, WIDE, D_K, D_K, dropout=0.0, projection_bias=True)
    rules = re.findall(r"`(kernel\.[^`]+)`", section("conventions-from-keras"))
    assert len(rules) == 2
    for projection, dense, rule in (
        (attend.wq, layer.query_dense, rules[0]), (attend.wk, layer.key_dense, rules[0]),
        (attend.wv, layer.value_dense, rules[0]), (attend.fc, layer.output_dense, rules[1]),
    ):  # fmt: skip
        projection.weight.data = eval(rule, {"kernel": dense.kernel.value.detach()})
        projection.bias.data = dense.bias.value.detach().flatten()
    return layer, attend


def _each_pair_agrees(label: str, layer, attend: MultiHeadAttention) -> None:
    names = {**tokens_and_masks(), "layer": layer, "attend": attend.eval(), "weights": weights_of(attend)}
    by_library = []
    for theirs, ours in pairs(label):
        expected = torch.as_tensor(eval(theirs, names)).detach()
        torch.testing.assert_close(eval(ours, names).detach(), expected, msg=lambda m, pair=theirs: f"{pair}: {m}")
        by_library.append(expected)
    for i, one in enumerate(by_library):  # no two say the same, so a pair in another's place is seen
        for other in by_library[:i]:
            assert one.shape != other.shape or not torch.allclose(one, other, rtol=1e-3, atol=1e-3)


def test_the_pairs_of_torch_agree():
    assert len(pairs("conventions-from-torch")) == 7
    _each_pair_agrees("conventions-from-torch", *same_by_torch())


def test_the_pairs_of_x_transformers_agree():
    assert len(pairs("conventions-from-x-transformers")) == 6
    _each_pair_agrees("conventions-from-x-transformers", *same_by_x_transformers())


def test_the_pairs_of_keras_agree(keras):
    assert len(pairs("conventions-from-keras")) == 6
    _each_pair_agrees("conventions-from-keras", *same_by_keras(keras))


def test_an_index_left_over_is_an_example():
    _, attend = same_by_torch()
    x = tokens_and_masks()["x"]
    assert torch.equal(attend.eval()(x)[0], attend(x)[:1][0])
    assert (x + attend(x)[0]).shape == x.shape
    output, weights = attend(x)
    assert output.shape == weights.shape == x.shape[1:]


def test_groups_of_x_transformers_in_another_order():
    """Query head h reads key head h mod H_kv there; the page's function brings the heads into our order."""
    heads, key_heads = 6, 2
    assert x_transformers_attention(dim=WIDE, heads=heads).to_q.out_features == heads * 64
    layer = x_transformers_attention(dim=WIDE, heads=heads, dim_head=D_K, kv_heads=key_heads)
    attend = MultiHeadAttention(heads, WIDE, D_K, D_K, dropout=0.0, num_kv_heads=key_heads).eval()
    names = {}
    exec(cells("conventions-from-x-transformers")[0], names)
    as_here = lambda rows: names["as_here"](rows.unflatten(0, (heads, -1)), key_heads).flatten(0, 1)  # noqa: E731
    x, weights = tokens_and_masks()["x"], {"wk.weight": layer.to_k.weight, "wv.weight": layer.to_v.weight}
    attend.load_state_dict(
        {**weights, "wq.weight": as_here(layer.to_q.weight), "fc.weight": as_here(layer.to_out.weight.T).T}
    )
    torch.testing.assert_close(attend(x), layer(x))
    attend.load_state_dict({**weights, "wq.weight": layer.to_q.weight, "fc.weight": layer.to_out.weight})
    assert not torch.allclose(attend(x), layer(x), rtol=1e-2, atol=1e-2)


def run_on_the_page(label: str) -> dict[str, object]:
    names = {"MultiHeadAttention": MultiHeadAttention}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own imports warn of
        exec(cells(label)[0], names)
    return names


def test_a_llamas_weights_by_other_names():
    names = run_on_the_page("conventions-from-huggingface")
    layer, attend, x = names["layer"], names["attend"], _numbers(B, L, 32)
    turn = names["LlamaModel"](names["config"]).rotary_emb
    where = turn(x, torch.arange(L)[None])
    closed = ~masks.causal().dense(L, L)
    mask = torch.zeros(1, 1, L, L).masked_fill(closed, torch.finfo(torch.float32).min)
    expected = layer(hidden_states=x, position_embeddings=where, attention_mask=mask)[0]
    torch.testing.assert_close(attend(x, mask=masks.causal()), expected)
    theirs = inspect.getmodule(type(layer))
    assert {"position_embeddings", "attention_mask", "past_key_values"} <= set(arguments_of(layer.forward))
    assert {"repeat_kv", "apply_rotary_pos_emb"} <= set(vars(theirs))
    assert "rope_theta" in names["config"].rope_parameters


def test_a_gpt2s_weights_taken_apart():
    names = run_on_the_page("conventions-fused")
    theirs, attend, x = names["theirs"].eval(), names["attend"], _numbers(B, L, 32)
    closed = ~masks.causal().dense(L, L)
    mask = torch.zeros(1, 1, L, L).masked_fill(closed, torch.finfo(torch.float32).min)
    torch.testing.assert_close(attend(x, mask=masks.causal()), theirs(x, attention_mask=mask)[0])


def test_where_training_starts(keras):
    """Each row of the table: the spread of fresh weights of a layer of 256, of which a sample strays by a hundredth."""
    wide, heads = 256, 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own imports warn of
        from transformers import LlamaConfig, LlamaModel
    ours, module = MultiHeadAttention(heads, wide), nn.MultiheadAttention(wide, heads)
    theirs = x_transformers_attention(dim=wide, heads=heads, dim_head=wide // heads)
    by_keras = keras.layers.MultiHeadAttention(heads, wide // heads)
    by_keras.build((B, L, wide), (B, S, wide))
    llama = LlamaModel(LlamaConfig(hidden_size=wide, num_attention_heads=heads, num_hidden_layers=1, vocab_size=11))
    llama = llama.layers[0].self_attn
    started = from_torch(nn.MultiheadAttention(wide, heads))
    for query, output, expected in (
        (ours.wq.weight, ours.fc.weight, (1, 1)),
        (by_keras.query_dense.kernel.value, by_keras.output_dense.kernel.value, (1, 1)),
        (module.in_proj_weight, module.out_proj.weight, (2**-0.5, 3**-0.5)),
        (started.wq.weight, started.fc.weight, (2**-0.5, 3**-0.5)),
        (theirs.to_q.weight, theirs.to_out.weight, (3**-0.5, 3**-0.5)),
        (llama.q_proj.weight, llama.o_proj.weight, (0.02 * wide**0.5, 0.02 * wide**0.5)),
    ):
        spreads = [weight.std().item() * wide**0.5 for weight in (query, output)]
        assert spreads == pytest.approx(expected, rel=0.02)
