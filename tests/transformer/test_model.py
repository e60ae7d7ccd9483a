"""The whole model against torch.nn.Transformer, and what it promises about masks, embeddings and its state."""

import copy
import inspect
import math

import pytest
import torch
from torch import nn

from attnlib import KVCache, MultiHeadAttention, masks, positions, record_attention
from attnlib.transformer import Decoder, DecoderLayer, Encoder, EncoderLayer, FeedForward, LayerCache, Transformer
from tests.oracles import draw
from tests.tolerances import assert_close
from tests.transformer.peers import D_FF, D_MODEL, SIZES, B, H, L, N, S, copy_layer, layer_gradients, random_weights

SOURCE_VOCAB, TARGET_VOCAB = 23, 19
LENGTHS = [S, 4]


def model_of(*vocabularies, **options) -> Transformer:
    options = {**SIZES, "num_layers": N, **options}
    return random_weights(Transformer(*(vocabularies or (SOURCE_VOCAB, TARGET_VOCAB)), **options))


def tokens(vocab=TARGET_VOCAB, length=L):
    return torch.randint(vocab, (B, length))


def source_and_target():
    return tokens(SOURCE_VOCAB, S), tokens(TARGET_VOCAB, L)


# ---------------------------------------------------------------------------------------------------------------------
# torch.nn.Transformer


def torch_transformer(ours: Transformer, norm_first: bool) -> nn.Transformer:
    theirs = nn.Transformer(D_MODEL, H, N, N, D_FF, 0.0, batch_first=True, norm_first=norm_first).double()
    for mine, other in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        for layer, other_layer in zip(mine.layers, other.layers, strict=True):
            copy_layer(layer, other_layer)
        if norm_first:
            other.norm.load_state_dict(mine.norm.state_dict())
        else:
            other.norm = None  # torch normalises twice at the end of a stack; the paper once
    return theirs.train()  # in evaluation torch takes a fused path; without dropout the mode changes nothing else


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_the_model_is_torchs_forward_and_backward(norm_first):
    ours = model_of(norm_first=norm_first)
    theirs = torch_transformer(ours, norm_first)
    source, target = source_and_target()
    padding = torch.arange(S) >= torch.tensor(LENGTHS)[:, None]  # torch: True hides
    embedded = {}
    hooks = [
        stack.register_forward_pre_hook(lambda stack, args: embedded.update({stack: args[0]}))
        for stack in (ours.encoder, ours.decoder)
    ]
    logits = ours(source, target, source_mask=masks.padding(LENGTHS))
    x, y = (embedded[stack].detach() for stack in (ours.encoder, ours.decoder))
    for hook in hooks:
        hook.remove()
    expected = theirs(
        x,
        y,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(L, dtype=torch.float64),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
    )
    expected = expected @ ours.target_embedding.weight.T.detach()
    assert_close(logits, expected)
    direction = draw(*logits.shape)
    logits.backward(direction)
    expected.backward(direction)
    for mine, other in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        for layer, other_layer in zip(mine.layers, other.layers, strict=True):
            for _, gradient, other_gradient in layer_gradients(layer, other_layer):
                assert_close(gradient, other_gradient)
        if norm_first:
            assert_close(mine.norm.weight.grad, other.norm.weight.grad)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_stack_is_its_layers_one_after_the_other(norm_first):
    encoder = random_weights(Encoder(N, **SIZES, norm_first=norm_first))
    decoder = random_weights(Decoder(N, **SIZES, norm_first=norm_first))
    x, memory, mask, memory_mask = draw(B, L, D_MODEL), draw(B, S, D_MODEL), masks.causal(), masks.padding(LENGTHS)
    y = encoder.layers[1](encoder.layers[0](x, mask), mask)
    z = decoder.layers[1](decoder.layers[0](x, memory, mask, memory_mask), memory, mask, memory_mask)
    if norm_first:
        y, z = encoder.norm(y), decoder.norm(z)
    assert_close(encoder(x, mask), y)
    assert_close(decoder(x, memory, mask, memory_mask), z)
    assert bool(list(encoder.norm.parameters())) is bool(list(decoder.norm.parameters())) is norm_first


# ---------------------------------------------------------------------------------------------------------------------
# Embeddings


def embedded(table, tokens):
    """A token's vector times √d_model, plus the sines and cosines of its position, one number at a time."""
    rows = torch.empty(*tokens.shape, D_MODEL, dtype=torch.float64)
    for b, i in torch.cartesian_prod(torch.arange(B), torch.arange(tokens.shape[1])).tolist():
        for column in range(D_MODEL):
            angle = i / 10_000 ** ((column - column % 2) / D_MODEL)
            position = math.cos(angle) if column % 2 else math.sin(angle)
            rows[b, i, column] = table[tokens[b, i], column] * math.sqrt(D_MODEL) + position
    return rows


@pytest.mark.parametrize(
    ("vocabularies", "share", "entries"),
    [
        ((23,), True, {"source_embedding"}),
        ((23, 23), True, {"source_embedding"}),
        ((23, 19), True, {"source_embedding", "target_embedding"}),
        ((23,), False, {"source_embedding", "target_embedding", "output"}),
        ((23, 19), False, {"source_embedding", "target_embedding", "output"}),
    ],
)
def test_what_may_be_shared_is_shared_and_stored_once(vocabularies, share, entries):
    model = model_of(*vocabularies, share_embeddings=share)
    state = model.state_dict()
    names = {name.removesuffix(".weight"): name for name in state if not name.startswith(("encoder.", "decoder."))}
    assert set(names) == entries
    source, target = tokens(23, S), tokens(vocabularies[-1], L)
    read = state["source_embedding.weight"]
    written = state.get("target_embedding.weight", read)
    spoken = state.get("output.weight", written)
    memory = model.encoder(embedded(read, source))
    y = model.decoder(embedded(written, target), memory, masks.causal())
    assert_close(model(source, target), y @ spoken.T)


def test_tokens_are_scaled_and_positions_added():
    model = model_of()
    source, _ = source_and_target()
    seen = []
    model.encoder.register_forward_pre_hook(lambda stack, args: seen.append(args[0]))
    model.encode(source)
    assert_close(seen[0], embedded(model.source_embedding.weight.detach(), source))


def test_a_shared_matrix_gathers_the_gradient_of_all_its_uses():
    shared = model_of(23)
    apart = model_of(23, share_embeddings=False)
    state = shared.state_dict()
    apart.load_state_dict({**state, "target_embedding.weight": state["source_embedding.weight"],
                           "output.weight": state["source_embedding.weight"]})  # fmt: skip
    source, target = tokens(23, S), tokens(23, L)
    direction = draw(B, L, 23)
    for model in (shared, apart):
        model(source, target).backward(direction)
    parts = (apart.source_embedding, apart.target_embedding, apart.output)
    assert_close(shared.source_embedding.weight.grad, sum(part.weight.grad for part in parts))


def test_tokens_start_as_large_as_positions_and_logits_near_one():
    model = Transformer(997, **{**SIZES, "d_model": 510}, num_layers=1)
    assert model.source_embedding.weight.std().item() * math.sqrt(510) == pytest.approx(1, rel=0.01)
    source, target = torch.randint(997, (B, S)), torch.randint(997, (B, L))
    assert 0.5 < model.eval()(source, target).std() < 2


def test_embedded_tokens_are_dropped_out_in_training():
    model = model_of(dropout=0.5).train()
    seen = []
    model.encoder.register_forward_pre_hook(lambda stack, args: seen.append(args[0]))
    source, _ = source_and_target()
    model.encode(source)
    model.eval().encode(source)
    dropped, whole = seen
    kept = dropped != 0
    assert 0.3 < kept.double().mean() < 0.7
    assert_close(dropped[kept], 2 * whole[kept])


def test_learned_positions_may_take_the_place_of_sinusoids():
    """Row E of the paper's table 3."""
    model = model_of()
    model.positions = positions.Learned(S, D_MODEL).double()
    source, target = source_and_target()
    model(source, target).sum().backward()
    assert model.positions.weight.grad.abs().sum() > 0
    assert "positions.weight" in model.state_dict()
    with pytest.raises(ValueError, match="max_length=7"):
        model(tokens(SOURCE_VOCAB, S + 1), target)


# ---------------------------------------------------------------------------------------------------------------------
# Masks


def test_a_token_does_not_see_what_follows_it():
    model = model_of()
    source, target = source_and_target()
    before = model(source, target)
    target[:, 3] = (target[:, 3] + 1) % TARGET_VOCAB
    after = model(source, target)
    assert_close(after[:, :3], before[:, :3])
    assert (after[:, 3:] - before[:, 3:]).abs().amin((0, 2)).max() > 1e-6


@pytest.mark.parametrize("as_tensor", [False, True])
def test_padding_in_the_source_changes_nothing(as_tensor):
    model = model_of()
    source, target = source_and_target()
    mask = masks.padding(LENGTHS)
    mask = mask.dense(S, S) if as_tensor else mask
    alone = model(source[1:, : LENGTHS[1]], target[1:])
    assert_close(model(source, target, source_mask=mask)[1:], alone)


def test_a_target_mask_is_combined_with_the_causal_one():
    model = model_of()
    source, target = source_and_target()
    hidden = torch.tensor([False, True, True, True, True]).expand(B, 1, L, L)
    before = [model(source, target, target_mask=mask) for mask in (hidden, masks.from_tensor(hidden))]
    assert_close(*before)
    target[:, 0] = (target[:, 0] + 1) % TARGET_VOCAB
    after = model(source, target, target_mask=hidden)
    assert_close(after[:, 1:], before[0][:, 1:])
    target[:, 4] = (target[:, 4] + 1) % TARGET_VOCAB
    assert_close(model(source, target, target_mask=hidden)[:, :4], after[:, :4])


# ---------------------------------------------------------------------------------------------------------------------
# The cache


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("chunks", [[1] * L, [2, 3]])
def test_decoding_with_a_cache_is_decoding_without(chunks, norm_first):
    model = model_of(norm_first=norm_first)
    source, target = source_and_target()
    mask = masks.padding(LENGTHS)
    cache = model.decoder.remember(model.encode(source, mask))
    parts = [model.decode(part, source_mask=mask, cache=cache) for part in target.split(chunks, dim=1)]
    assert_close(torch.cat(parts, dim=1), model(source, target, source_mask=mask))


# ---------------------------------------------------------------------------------------------------------------------
# What a model is put through


@pytest.mark.parametrize("vocabularies", [(23,), (23, 19)])
def test_the_state_goes_through_safetensors(tmp_path, vocabularies):
    safetensors = pytest.importorskip("safetensors.torch")
    model, other = (model_of(*vocabularies) for _ in range(2))
    safetensors.save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(safetensors.load_file(tmp_path / "model.safetensors"))
    source, target = tokens(23, S), tokens(vocabularies[-1], L)
    assert torch.equal(model(source, target), other(source, target))


def test_the_state_holds_parameters_and_nothing_else():
    model = model_of()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_the_layers_have_the_names_of_the_design():
    model = model_of()
    with record_attention(model) as record:
        model(*source_and_target())
    assert set(record) == {
        *(f"encoder.layers.{i}.self_attention" for i in range(N)),
        *(f"decoder.layers.{i}.{kind}_attention" for i in range(N) for kind in ("self", "cross")),
    }
    assert record["decoder.layers.1.cross_attention"].shape == (B, H, L, S)


def test_a_copy_is_a_model_of_its_own():
    model = model_of(23)
    twin = copy.deepcopy(model)
    source, target = tokens(23, S), tokens(23, L)
    before = model(source, target)
    with torch.no_grad():
        twin.source_embedding.weight.add_(1)
    assert torch.equal(model(source, target), before)
    assert not torch.allclose(twin(source, target), before)


def test_one_example_needs_no_batch():
    model = model_of()
    source, target = source_and_target()
    assert_close(model(source[0], target[0]), model(source, target)[0])


def test_the_base_model_has_the_papers_size():
    """44.10 million in the body, 63.05 with a shared vocabulary of 37 000: counted by the formula, not by the model."""
    with torch.device("meta"):
        model = Transformer(37_000)
    attention, feed_forward, norm = 4 * 512**2, 2 * 512 * 2048 + 2048 + 512, 2 * 512
    body = 6 * (attention + feed_forward + 2 * norm) + 6 * (2 * attention + feed_forward + 3 * norm)
    assert sum(parameter.numel() for parameter in model.parameters()) == body + 37_000 * 512
    assert (round(body, -4), round(body + 37_000 * 512, -4)) == (44_100_000, 63_050_000)


def test_pre_norm_adds_one_norm_to_each_stack():
    count = [sum(p.numel() for p in model_of(norm_first=first).parameters()) for first in (False, True)]
    assert count[1] - count[0] == 2 * 2 * D_MODEL


def test_a_model_compiles_into_one_graph():
    model = model_of()
    source, target = source_and_target()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    mask = masks.padding(torch.tensor(LENGTHS))
    assert_close(compiled(source, target, source_mask=mask), model(source, target, source_mask=mask))


def test_a_model_is_exported_with_open_sizes():
    model = model_of()
    b, s, n = (torch.export.Dim(name, min=2, max=64) for name in ("B", "S", "L"))
    shapes = {"source": {0: b, 1: s}, "target": {0: b, 1: n}}
    exported = torch.export.export(model, source_and_target(), dynamic_shapes=shapes).module()
    source, target = torch.randint(SOURCE_VOCAB, (3, 11)), torch.randint(TARGET_VOCAB, (3, 13))
    assert_close(exported(source, target), model(source, target))


def test_a_model_works_in_bfloat16_and_under_autocast():
    model = model_of().float()
    source, target = source_and_target()
    expected = model(source, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(source, target)
    half = model.bfloat16()(source, target)
    assert half.dtype == torch.bfloat16
    for logits in (mixed, half):
        assert (logits.float() - expected).abs().max() < 0.05 * expected.abs().max()


# ---------------------------------------------------------------------------------------------------------------------
# Errors

SOURCE, TARGET = torch.zeros(B, S, dtype=torch.int64), torch.zeros(B, L, dtype=torch.int64)
TOO_LARGE = SOURCE.clone()
TOO_LARGE[1, 2] = SOURCE_VOCAB
BELOW_ZERO = TARGET.clone()
BELOW_ZERO[0, 0] = -1
KEYS, QUERIES = torch.ones(B, S, dtype=torch.bool), torch.ones(S, S, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source": SOURCE.tolist()}, TypeError, "source: expected a tensor, got list"),
        ({"target": TARGET.double()}, TypeError, "target: expected tokens as int64 or int32, got torch.float64"),
        ({"source": SOURCE[None]}, ValueError, r"source: expected \(B, L\).*got \(1, 2, 7\)"),
        ({"target": TARGET[:, :0]}, ValueError, r"target: expected .* L of at least 1, got \(2, 0\)"),
        ({"source": TOO_LARGE}, ValueError, "source: expected tokens from 0 to 22, got 23"),
        ({"target": BELOW_ZERO}, ValueError, "target: expected tokens from 0 to 18, got -1"),
        ({"target": TARGET[:1]}, ValueError, r"target: expected the batch \(2,\) of source, got \(1,\)"),
        ({"source_mask": masks.padding([S + 1, 2])}, ValueError, "lengths: expected at most S=7"),
        ({"source_mask": masks.sliding_window(3)}, ValueError, "source_mask: expected a mask of keys alone"),
        ({"source_mask": QUERIES}, ValueError, "source_mask: expected"),
        ({"source_mask": KEYS}, ValueError, r"source_mask: expected .* use masks.keys\("),
        ({"source_mask": KEYS.double()}, TypeError, "source_mask: expected bool"),
        ({"target_mask": masks.padding([L + 1, 2])}, ValueError, "lengths: expected at most S=5"),
        ({"target_mask": KEYS}, ValueError, "target_mask: expected"),
    ],
)
def test_errors_come_before_any_layer(arguments, error, message):
    model = model_of()

    def fail(*_):
        raise AssertionError("a layer was called")

    for module in model.modules():
        if module is not model:
            module.register_forward_pre_hook(fail)
    with pytest.raises(error, match=message):
        model(**{"source": SOURCE, "target": TARGET, **arguments})


def test_the_memory_comes_in_one_way():
    model = model_of()
    memory = model.encode(SOURCE)
    for arguments in ({}, {"memory": memory, "cache": model.decoder.remember(memory)}):
        with pytest.raises(ValueError, match="memory: expected either memory or a cache"):
            model.decode(TARGET, **arguments)


def caches():
    """Return a model of two layers and its caches, with two tokens written."""
    model = model_of()
    cache = model.decoder.remember(model.encode(SOURCE))
    model.decode(TARGET[:, :2], cache=cache)
    return model, cache


WRONG_CACHES = {
    "none of remember()": (lambda cache: 5, TypeError, "cache: expected one made by remember"),
    "one KVCache": (lambda cache: cache[0].past, TypeError, "cache: expected one made by remember"),
    "a KVCache for each layer": (
        lambda cache: [c.past for c in cache],
        TypeError,
        "cache: expected one made by remember",
    ),
    "a plain tuple in layer 2": (lambda cache: [cache[0], tuple(cache[1])], TypeError, "cache: expected one made by"),
    "too few": (lambda cache: cache[:1], ValueError, "cache: expected that of 2 layers, got 1"),
    "none": (lambda cache: [], ValueError, "cache: expected that of each layer, got none"),
    "past and memory swapped": (
        lambda cache: [cache[0], LayerCache(cache[1].memory, cache[1].past)],
        TypeError,
        "cache: expected a KVCache beside a Memory; make it with remember.*, got a Memory beside a KVCache",
    ),
    "lengths that differ": (
        lambda cache: [cache[0], LayerCache(KVCache(), cache[1].memory)],
        ValueError,
        "cache: expected the same number of tokens in every layer",
    ),
}


@pytest.mark.parametrize("name", WRONG_CACHES)
def test_a_cache_that_is_none_is_refused(name):
    spoil, error, message = WRONG_CACHES[name]
    model, cache = caches()
    with pytest.raises(error, match=message):
        model.decode(TARGET[:, :1], cache=spoil(cache))
    assert [len(layer.past) for layer in cache] == [2, 2]


@torch.no_grad()
def test_an_error_leaves_all_caches_as_they_were():
    """The correct call afterwards gives what it would have given."""
    model, cache = caches()
    twin, twin_cache = copy.deepcopy((model, cache))
    single = copy.deepcopy(model).float()
    wrong = [
        (ValueError, "cache: expected keys and values of the batch", lambda: model.decode(TARGET[:1, :1], cache=cache)),
        (TypeError, "cache: expected the tokens' dtype", lambda: single.decode(TARGET[:, :1], cache=cache)),
        (ValueError, "source_mask", lambda: model.decode(TARGET[:, :1], source_mask=QUERIES, cache=cache)),
        (ValueError, "target_mask", lambda: model.decode(TARGET[:, :1], target_mask=QUERIES, cache=cache)),
        (ValueError, "target: expected tokens from 0", lambda: model.decode(BELOW_ZERO[:, :1], cache=cache)),
    ]
    for error, message, call in wrong:
        with pytest.raises(error, match=message):
            call()
        assert [len(layer.past) for layer in cache] == [2, 2]
    assert_close(model.decode(TARGET[:, :1], cache=cache), twin.decode(TARGET[:, :1], cache=twin_cache))


def test_a_cache_of_another_device_is_refused():
    model, cache = caches()
    with pytest.raises(ValueError, match="cache: expected the tokens' device meta, got cpu"):
        model.to("meta").decode(TARGET[:, :1].to("meta"), cache=cache)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_target_mask_beside_a_cache(as_tensor):
    model = model_of()
    source, target = source_and_target()
    window = masks.sliding_window(2)
    cache = model.decoder.remember(model.encode(source))
    steps = []
    for i in range(L):
        mask = window.dense(1, i + 1).expand(B, 1, 1, i + 1) if as_tensor else window
        steps.append(model.decode(target[:, i : i + 1], target_mask=mask, cache=cache))
    assert_close(torch.cat(steps, dim=1), model(source, target, target_mask=window))
    assert not torch.allclose(torch.cat(steps, dim=1), model(source, target))


@pytest.mark.parametrize("rows", [1, 2])
def test_decoding_takes_a_mask_of_keys_only(rows):
    model = model_of()
    with pytest.raises(ValueError, match="source_mask: expected a mask of keys alone"):
        model.decode(TARGET[:, :rows], model.encode(SOURCE), source_mask=masks.causal())


def test_a_mask_for_one_token_must_still_be_one_of_keys():
    """With S = 1, a mask of other axes would fit the encoder by chance, and with L = 1 the decoder too."""
    one, model = torch.ones(1, 1, dtype=torch.bool), model_of()
    for mask in (one, one.expand(B, 1, 1)):
        for target in (TARGET, TARGET[:, :1]):
            with pytest.raises(ValueError, match="source_mask: expected"):
                model(SOURCE[:, :1], target, source_mask=mask)


def test_a_wrong_mask_is_named():
    model = model_of()
    for mask in (torch.ones(B + 1, 1, 1, S, dtype=torch.bool), torch.ones(B, 1, 1, S, dtype=torch.bool, device="meta")):
        with pytest.raises(ValueError, match=r"^source_mask: expected"):
            model(SOURCE, TARGET, source_mask=mask)


def test_each_vocabulary_has_its_own_bound():
    model = model_of(19, 23)
    model(TARGET, torch.full((B, L), 22))
    memory = model.encode(TARGET)
    with pytest.raises(ValueError, match="target: expected tokens from 0 to 22, got 23"):
        model.decode(torch.full((B, 1), 23), memory)
    with pytest.raises(ValueError, match="source: expected tokens from 0 to 18, got 19"):
        model.encode(torch.full((B, 1), 19))


def test_tokens_may_be_int32():
    model = model_of()
    source, target = source_and_target()
    assert torch.equal(model(source.int(), target.int()), model(source, target))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source_vocab": 0}, ValueError, "source_vocab: expected at least 1, got 0"),
        ({"target_vocab": 1.5}, TypeError, "target_vocab: expected a whole number"),
        ({"num_layers": 0}, ValueError, "num_layers: expected at least 1, got 0"),
        ({"d_model": 20}, ValueError, "d_model: expected a multiple of num_heads=3"),
        ({"dropout": -0.1}, ValueError, "dropout"),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Transformer(**{"source_vocab": 23, **SIZES, "num_layers": N, **arguments})


def test_sizes_reach_every_layer():
    model = Transformer(23, d_model=10, num_heads=2, d_k=11, d_v=13, d_ff=29, num_layers=3, dropout=0.3)
    attentions = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
    assert [(a.num_heads, a.d_k, a.d_v) for a in attentions] == [(2, 11, 13)] * 9
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.3}
    attention, feed_forward, norm = 2 * 10 * 2 * (11 + 13), 2 * 10 * 29 + 29 + 10, 2 * 10
    wanted = 3 * (3 * attention + 2 * feed_forward + 5 * norm) + 23 * 10
    assert sum(parameter.numel() for parameter in model.parameters()) == wanted


def test_the_defaults_are_the_base_model():
    defaults = {name: p.default for name, p in inspect.signature(Transformer).parameters.items()}
    del defaults["source_vocab"]
    assert defaults == {
        "target_vocab": None, "d_model": 512, "num_heads": 8, "d_k": None, "d_v": None, "d_ff": 2048, "num_layers": 6,
        "dropout": 0.1, "share_embeddings": True, "norm_first": False,
    }  # fmt: skip
    for kind in (EncoderLayer, DecoderLayer):
        own = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
        parts = {"norm": nn.LayerNorm, "feed_forward": FeedForward, "attention": None}
        assert own == {name: default for name, default in defaults.items() if name in own} | parts


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_that_are_assigned_decide_dtype_and_device(dtype):
    """A model made without numbers, which takes those of a file as they are."""
    model = model_of()
    with torch.device("meta"):
        empty = Transformer(SOURCE_VOCAB, TARGET_VOCAB, **SIZES, num_layers=N).eval()
    empty.load_state_dict({name: weight.to(dtype) for name, weight in model.state_dict().items()}, assign=True)
    source, target = source_and_target()
    assert torch.equal(empty(source, target), model.to(dtype)(source, target))


def test_the_default_dtype_does_not_touch_the_positions():
    model = model_of()
    source, target = source_and_target()
    expected = model(source, target)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(model(source, target), expected)
    finally:
        torch.set_default_dtype(torch.float32)
