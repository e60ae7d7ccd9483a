"""The decoder-only model against Hugging Face's GPT-2, Llama and MPT, and against itself without a cache."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from attnlib import KVCache, masks
from attnlib.positions import ALiBi, Learned, Rotary
from attnlib.transformer import FeedForward, GatedFeedForward, LanguageModel
from tests.tolerances import assert_close
from tests.transformer.peers import copy_to_decoder_only, random_weights

VOCAB, D_MODEL, H, D_FF, N, MOST = 13, 12, 3, 17, 2, 23
SIZES = {"d_model": D_MODEL, "num_heads": H, "d_ff": D_FF, "num_layers": N}
B, L = 2, 7
TOKENS = torch.tensor([[3, 5, 2, 7, 1, 8, 12], [0, 11, 7, 2, 3, 4, 4]])


def kinds():
    """Positions of each kind, for a model of ``SIZES``."""
    return {"rotary": "rotary", "alibi": "alibi", "sinusoidal": "sinusoidal", "learned": Learned(MOST, D_MODEL)}


def model_of(positions="rotary", **options):
    model = LanguageModel(VOCAB, **{**SIZES, **options}, positions=kinds().get(positions, positions))
    return random_weights(model)


def peer_of(positions, seed=0):
    """A model of ours, and the same one of Hugging Face's."""
    torch.manual_seed(seed)
    transformers = pytest.importorskip("transformers")
    shared = {"vocab_size": VOCAB, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if positions == "learned":
        sizes = {"n_embd": D_MODEL, "n_layer": N, "n_head": H, "n_inner": D_FF, "n_positions": MOST}
        config = transformers.GPT2Config(**shared, **sizes, activation_function="relu")
        ours, theirs = model_of("learned"), transformers.GPT2LMHeadModel(config)
    elif positions == "rotary":  # and grouped heads, RMSNorm, SwiGLU
        sizes = {"hidden_size": D_MODEL, "num_hidden_layers": N, "num_attention_heads": H, "intermediate_size": D_FF}
        config = transformers.LlamaConfig(**shared, **sizes, num_key_value_heads=1, tie_word_embeddings=True)
        parts = {"norm": partial(nn.RMSNorm, eps=config.rms_norm_eps), "feed_forward": GatedFeedForward}
        ours = model_of("rotary", **parts, attention={"num_kv_heads": 1})
        theirs = transformers.LlamaForCausalLM(config)
    else:  # theirs has an order of slopes of its own, unless H is a power of two
        config = transformers.MptConfig(**shared, d_model=D_MODEL, n_heads=4, n_layers=N, max_seq_len=MOST)
        gelu = partial(FeedForward, activation=nn.GELU)
        ours = model_of("alibi", num_heads=4, d_ff=4 * D_MODEL, feed_forward=gelu)
        theirs = transformers.MptForCausalLM(config)
        ours, theirs = ours.float(), theirs.float()  # in float64 theirs makes NaN of prompts that are padded
    theirs = theirs.to(ours.embedding.weight.dtype).eval()
    copy_to_decoder_only(ours, theirs)
    return ours, theirs


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi"])
def test_it_is_hugging_faces_model_with_these_positions(positions):
    ours, theirs = peer_of(positions)
    expected = theirs(TOKENS).logits
    logits = ours(TOKENS)
    if positions == "rotary":  # their norms and angles are rounded to float32
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    else:
        assert_close(logits, expected)
    assert logits.std() > 0.3


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("positions", kinds())
def test_token_by_token_is_all_at_once(positions, window):
    """With grouped heads, in steps of several sizes; under a window the cache keeps three keys at most."""
    model, cache = model_of(positions, window=window, attention={"num_kv_heads": 1}), None
    cache = model.new_cache()
    with torch.no_grad():
        whole = model(TOKENS)
        steps = [model(tokens, cache=cache) for tokens in TOKENS.split([3, 1, 2, 1], dim=1)]
    assert_close(torch.cat(steps, dim=1), whole)
    assert [each.key.shape for each in cache] == [(B, 1, L if window is None else 3, D_MODEL // H)] * N


def test_a_window_hides_what_is_further_away():
    """Also beside caches without a window, and through all layers: two of them see 2·(3 − 1) tokens back."""
    model = model_of("rotary", window=3)
    other = TOKENS.clone()
    other[:, 1] = 6
    with torch.no_grad():
        same = torch.isclose(model(TOKENS), model(other)).all(-1)
        assert same.tolist() == [[True, False, False, False, False, False, True]] * B
        plain = [KVCache() for _ in range(N)]
        steps = [model(tokens, cache=plain) for tokens in TOKENS.split(1, dim=1)]
        assert_close(torch.cat(steps, dim=1), model(TOKENS))
        mixed = [KVCache(window=3), KVCache()]
        steps = [model(tokens, cache=mixed) for tokens in TOKENS.split(1, dim=1)]
        assert_close(torch.cat(steps, dim=1), model(TOKENS))


@pytest.mark.parametrize("positions", kinds())
def test_packed_documents_are_each_alone(positions):
    """A mask is combined with the causal one; absolute positions restart where they are told to."""
    model = model_of(positions)
    places = None if positions == "alibi" else torch.tensor([0, 1, 2, 0, 1, 2, 3])
    with torch.no_grad():
        packed = model(TOKENS, masks.documents(lengths=[3, 4]), positions=places)
        alone = [model(TOKENS[:, :3]), model(TOKENS[:, 3:])]
    assert_close(packed, torch.cat(alone, dim=1))
    dense = masks.documents(lengths=[3, 4]).dense(L, L)
    assert_close(model(TOKENS, dense, positions=places), packed)


def test_sinusoids_are_added_to_tokens_times_the_root_of_d_model():
    model = model_of("sinusoidal")
    seen = []
    model.stack.register_forward_pre_hook(lambda stack, args: seen.append(args[0]))
    model(TOKENS)
    place, column = 5, 2
    angle = place / 10_000 ** (column / D_MODEL)
    expected = model.embedding.weight[TOKENS[1, place], column] * math.sqrt(D_MODEL) + math.sin(angle)
    assert_close(seen[0][1, place, column], expected)


def test_the_weights_are_drawn_as_gpt2_draws_them():
    model = LanguageModel(101, d_model=96, num_heads=4, num_layers=8, share_embeddings=False)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all()
        elif name.endswith("bias"):
            assert not parameter.any()
        else:
            last = name.endswith(("fc.weight", "feed_forward.2.weight"))
            assert parameter.std().item() == pytest.approx(0.02 / (4 if last else 1), rel=0.03), name
    assert model(torch.zeros(1, 5, dtype=torch.int64)).std() < 1


class MetaNet(nn.Module):
    """A gated net with the names of Meta's code, where the map that ends in the residual connection is not the last."""

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model), nn.Linear(d_model, d_ff)
        self.reset_parameters()

    def reset_parameters(self):
        for i, linear in enumerate((self.w1, self.w2, self.w3)):
            nn.init.constant_(linear.weight, i + 1)

    def forward(self, x):
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))


def test_the_gated_net_ends_in_its_down_map_and_one_of_ones_own_draws_itself():
    sizes = {"d_model": 96, "num_heads": 4, "num_layers": 8}
    net = LanguageModel(101, **sizes, feed_forward=GatedFeedForward).stack.layers[3].feed_forward
    stds = [linear.weight.std().item() for linear in (net.gate, net.up, net.down)]
    assert stds == pytest.approx([0.02, 0.02, 0.005], rel=0.03)
    model = LanguageModel(VOCAB, **SIZES, feed_forward=MetaNet)
    for reset in (lambda: None, model.reset_parameters):
        reset()
        for layer in model.stack.layers:
            net = layer.feed_forward
            assert [linear.weight.unique().tolist() for linear in (net.w1, net.w2, net.w3)] == [[1], [2], [3]]
            assert layer.self_attention.fc.weight.std() < 0.02


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
@pytest.mark.parametrize("feed_forward", [FeedForward, GatedFeedForward, MetaNet])
def test_a_model_without_storage_becomes_whole(norm, feed_forward):
    options = {**SIZES, "norm": norm, "feed_forward": feed_forward, "attention": {"qk_norm": nn.RMSNorm}}
    with torch.device("meta"):
        model = LanguageModel(VOCAB, **options, positions=Learned(MOST, D_MODEL), share_embeddings=False)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(77)
    model.reset_parameters()
    assert [name for name, parameter in model.named_parameters() if (parameter == 77).any()] == []
    assert model.positions.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert model.stack.layers[0].self_attention.wq.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_a_table_of_positions_that_was_given_stays_as_it_was():
    learned = Learned(MOST, D_MODEL)
    before = learned.weight.clone()
    assert torch.equal(LanguageModel(VOCAB, **SIZES, positions=learned).positions.weight, before)


@pytest.mark.parametrize("positions", kinds())
@pytest.mark.parametrize("other", ["sinusoidal", Rotary(D_MODEL // H, base=3.0), Learned(MOST, D_MODEL), ALiBi(H)])
def test_positions_stay_those_that_the_layers_were_made_for(positions, other):
    model = model_of(positions)
    before = model(TOKENS)
    with pytest.raises(AttributeError, match="positions: expected those that the layers were made for; make a new mo"):
        model.positions = other
    assert torch.equal(model(TOKENS), before)
    assert torch.equal(copy.deepcopy(model)(TOKENS), before)


def test_the_sizes_are_those_that_are_asked_for():
    model = LanguageModel(VOCAB, **SIZES, d_k=2, d_v=5, attention={"num_kv_heads": 1})
    shapes = {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()}
    first = "stack.layers.0."
    assert shapes[first + "self_attention.wq.weight"] == (H * 2, D_MODEL)
    assert shapes[first + "self_attention.wk.weight"] == (2, D_MODEL)
    assert shapes[first + "self_attention.wv.weight"] == (5, D_MODEL)
    assert shapes[first + "feed_forward.0.weight"] == (D_FF, D_MODEL)
    assert "output.weight" not in shapes
    assert shapes["embedding.weight"] == (VOCAB, D_MODEL)
    assert len([name for name in shapes if name.startswith("stack.layers.1.")]) == 12
    assert LanguageModel(VOCAB, d_model=8, num_heads=2, num_layers=1).stack.layers[0].feed_forward[0].out_features == 32
    apart = LanguageModel(VOCAB, **SIZES, share_embeddings=False)
    assert tuple(apart.output.weight.shape) == (VOCAB, D_MODEL)
    assert isinstance(LanguageModel(VOCAB, **SIZES, norm_first=False).stack.norm, nn.Identity)


def test_a_rotary_of_ones_own_is_used_by_all_layers():
    rotary = Rotary(D_MODEL // H, base=50)
    model = model_of(rotary)
    assert all(layer.self_attention.rotary is rotary for layer in model.stack.layers)
    other = model_of("rotary")
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(model(TOKENS), other(TOKENS))


def test_a_rule_that_was_made_is_the_one_that_was_named():
    model, other = model_of(ALiBi(H)), model_of("alibi")
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(TOKENS), other(TOKENS))


@pytest.mark.parametrize("max_length", [0, 1.5])
def test_a_length_that_is_none_is_refused_before_a_prompt_is_read(max_length):
    model = model_of()
    model.stack.register_forward_pre_hook(lambda *_: pytest.fail("the stack was called"))
    with pytest.raises((ValueError, TypeError), match="max_length: expected"):
        model.begin(TOKENS, max_length=max_length)


def test_it_drops_in_training_only_and_learns():
    model = LanguageModel(VOCAB, **SIZES, dropout=0.5)
    assert not torch.equal(model(TOKENS), model(TOKENS))
    model.eval()
    assert torch.equal(model(TOKENS), model(TOKENS))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(TOKENS)[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 < math.log(VOCAB)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_it_is_one_graph(positions):
    model = model_of(positions, window=3, num_layers=1)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert_close(compiled(TOKENS), model(TOKENS))


def test_one_text_needs_no_batch():
    model = model_of()
    assert_close(model(TOKENS[0]), model(TOKENS)[0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"positions": "rotatory"}, ValueError, "positions: expected 'rotary', .* or Learned, got 'rotatory'"),
        ({"positions": "learned"}, ValueError, "positions: expected 'rotary', .* Learned, got 'learned'"),
        ({"positions": None}, TypeError, "positions: expected 'rotary', .* Learned, got NoneType"),
        ({"positions": ALiBi(2)}, ValueError, r"positions: expected ALiBi of 3 heads, got ALiBi\(2\)"),
        ({"positions": Learned(9, 8)}, ValueError, "positions: expected Learned of d_model = 12, got Learned"),
        ({"positions": Rotary(6)}, ValueError, r"positions: expected Rotary of d_k = 4, got Rotary\(d_k=6"),
        ({"d_model": 9}, ValueError, "d_model: expected a multiple of 2 . num_heads = 6, since rotary .* got 9; or gi"),
        ({"d_model": 2}, ValueError, "d_model: expected a multiple of 2 . num_heads = 6, since rotary .* got 2; or gi"),
        ({"num_heads": 0}, ValueError, "num_heads: expected at least 1, got 0"),
        ({"num_heads": 3.0}, TypeError, "num_heads: expected a whole number, got float"),
        ({"window": 0}, ValueError, "window: expected at least 1, got 0"),
        ({"attention": {"num_kv_heads": 2}}, ValueError, "num_kv_heads: expected a divisor of num_heads=3, got 2"),
        ({"d_model": 13}, ValueError, "d_model: expected a multiple of 2 . num_heads = 6"),
        ({"d_model": 13, "positions": "alibi"}, ValueError, "d_model: expected a multiple of num_heads=3, got 13; or "),
        ({"d_model": 13, "d_k": 4}, ValueError, "d_model: expected a multiple of num_heads=3, got 13; or give d_k and"),
        ({"attention": {"rotary": Rotary(4)}}, ValueError, "attention: expected no rotary, which is given as posit"),
        ({"dropout": 1.0}, ValueError, "dropout: expected a probability"),
    ],
)
def test_a_model_that_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        LanguageModel(VOCAB, **{**SIZES, **options})
    with pytest.raises(ValueError, match="vocab: expected at least 1, got 0"):
        LanguageModel(0, **SIZES)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tokens": TOKENS + 6}, ValueError, "tokens: expected tokens from 0 to 12, got 18"),
        ({"tokens": TOKENS.bool()}, TypeError, "tokens: expected tokens as int64 or int32, got torch.bool"),
        ({"tokens": TOKENS[:, :0]}, ValueError, "tokens: .* with L of at least 1"),
        ({"mask": torch.ones(B, L)}, TypeError, "bool, got torch.float32"),
        ({"mask": masks.padding([1, 2, 3])}, ValueError, "mask: "),
        ({"cache": [KVCache()]}, ValueError, "cache: expected that of 2 layers, got 1"),
        ({"positions": torch.arange(3)}, ValueError, r"positions: expected \(L,\), or \(B, L\), with L = 7"),
        ({"positions": torch.zeros(5, L).long()}, ValueError, "positions: expected .* the batch B = 2"),
    ],
)
@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
def test_what_does_not_fit_is_refused(arguments, error, message, positions):
    model = model_of(positions)
    model.stack.layers[0].register_forward_pre_hook(lambda *_: pytest.fail("a layer was called"))
    with pytest.raises(error, match=message):
        model(**{"tokens": TOKENS, **arguments})


def test_alibi_takes_no_positions():
    with pytest.raises(ValueError, match="positions: expected None, since ALiBi counts keys"):
        model_of("alibi")(TOKENS, positions=torch.arange(L))


def test_learned_positions_end():
    model = model_of(Learned(6, D_MODEL))
    with pytest.raises(ValueError, match="a learned table knows no further position"):
        model(TOKENS)
