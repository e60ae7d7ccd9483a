"""Positions against the papers' formulas in loops, complex numbers, and Hugging Face's models."""

import copy
import math
import pickle
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from attnlib import KVCache, MultiHeadAttention, masks, positions
from attnlib.positions import NTK, Learned, Llama3, Rotary, T5RelativeBias, YaRN, alibi, alibi_slopes, sinusoidal
from attnlib.rope_scaling import Scaling
from tests.oracles import D_MODEL, B, H, L, NoArithmetic, S, draw
from tests.tolerances import assert_close, same

WIDTH = 14
LAYOUTS = ["half-split", "interleaved"]


# ---------------------------------------------------------------------------------------------------------------------
# Positions of each token

HOLES = torch.tensor([[3, 4, 9, 9, 0], [0, 1, 2, 0, 1]])  # (B, L)
WIDE = torch.tensor([[3, 100_000, 9, 9, 0], [0, 1, 2, 0, 1]])  # too far apart for a table of all that lie between


@pytest.mark.parametrize("where", [HOLES, HOLES.int(), HOLES[:1], HOLES[0], WIDE], ids=repr)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rotary_turns_each_token_by_its_position(where, layout, dtype):
    x = draw(B, H, L, WIDTH, dtype=dtype)
    rotary = Rotary(WIDTH, scaling=2.5, layout=layout)
    turned = rotary(x, positions=where)
    for b, i in np.ndindex(B, L):
        offset = int(where.expand(B, L)[b, i])
        alone = complex_rotation(x[b, :, i : i + 1].double(), offset, 10_000, layout, 2.5)
        assert_close(turned[b, :, i : i + 1], alone.to(dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rotary_turns_a_parameter_as_a_tensor(layout):
    """Of what is no plain tensor the tables are made by torch, not remembered."""
    rotary, x = Rotary(WIDTH, layout=layout), draw(B, H, L, WIDTH)
    for offset in (0, 3):
        assert_close(rotary(torch.nn.Parameter(x), offset).detach(), rotary(x, offset))


def test_rotary_takes_positions_for_any_axes():
    rotary = Rotary(WIDTH)
    for batch in ((), (B,), (B, H), (B, H, 3)):
        x = draw(*batch, L, WIDTH)
        assert_close(rotary(x, positions=torch.arange(4, 4 + L)), rotary(x, 4))
        if batch:
            each = torch.stack([rotary(one, positions=row) for one, row in zip(x, HOLES, strict=True)])
            assert_close(rotary(x, positions=HOLES), each)


@pytest.mark.parametrize("where", [HOLES, HOLES.int(), HOLES[1], WIDE - 5], ids=repr)
def test_sinusoids_and_tables_are_looked_up_by_position(where):
    found = sinusoidal(L, D_MODEL, positions=where, base=77, dtype=torch.float64)
    alone = [sinusoidal(1, D_MODEL, offset=abs(int(p)), base=77, dtype=torch.float64) for p in where.flatten()]
    sines = torch.arange(D_MODEL) % 2 == 0  # of a negative position they are those of the positive one, negated
    signs = torch.where(sines & (where.flatten()[:, None] < 0), -1, 1)
    assert_close(found, (torch.cat(alone) * signs).view(*where.shape, D_MODEL))
    if where.max() < 100:
        learned = Learned(10, D_MODEL)
        rows = torch.stack([learned.weight[int(p)] for p in where.flatten()]).view(*where.shape, D_MODEL)
        assert torch.equal(learned(L, positions=where), rows)


def test_positions_are_made_where_they_came_from():
    assert sinusoidal(L, 4, positions=HOLES.to("meta")).device.type == "meta"
    assert sinusoidal(L, 4, positions=HOLES, device="meta").device.type == "meta"
    assert Rotary(4)(torch.zeros(B, H, L, 4, device="meta"), positions=HOLES.to("meta")).shape == (B, H, L, 4)


def test_no_position_twice_gathers_its_gradient_once():
    learned = Learned(10, D_MODEL)
    learned(L, positions=HOLES).sum().backward()
    counts = torch.tensor([HOLES.flatten().tolist().count(p) for p in range(10)])
    assert_close(learned.weight.grad, counts[:, None].expand(10, D_MODEL).float())


def packed(x, lengths):
    """The documents of x (B, L, d_model), each alone: their mask and their positions."""
    ids = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)])
    return masks.causal() & masks.documents(ids), torch.cat([torch.arange(n) for n in lengths])


@pytest.mark.parametrize("kind", ["sinusoidal", "learned", *LAYOUTS])
def test_packed_documents_are_each_as_alone(kind):
    """Of rotary positions only differences count; so there the restart is seen in what is turned, not in the scores."""
    x, lengths, learned = draw(B, 5, D_MODEL), (2, 3), Learned(5, D_MODEL).double()
    layer = MultiHeadAttention(H, D_MODEL, WIDTH, 5, rotary=Rotary(WIDTH, layout=kind) if kind in LAYOUTS else None)
    layer.double().eval()

    def forward(x, mask, **where):
        count = x.shape[1]
        if kind in LAYOUTS:
            return layer(x, mask=mask, **where)
        added = sinusoidal(count, D_MODEL, **where).double() if kind == "sinusoidal" else learned(count, **where)
        return layer(x + added, mask=mask)

    mask, where = packed(x, lengths)
    alone = [forward(document, masks.causal()) for document in x.split(lengths, dim=1)]
    assert_close(forward(x, mask, positions=where), torch.cat(alone, dim=1))
    assert kind in LAYOUTS or not same(forward(x, mask), torch.cat(alone, dim=1))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunks", [(5,), (2, 1, 2), (1, 1, 1, 1, 1)], ids=repr)
def test_holes_are_heeded_with_a_cache_and_without(layout, chunks):
    """A token that was dropped from the middle leaves the others where they stood."""
    layer = MultiHeadAttention(H, D_MODEL, WIDTH, 5, rotary=Rotary(WIDTH, layout=layout)).double().eval()
    whole = draw(B, 10, D_MODEL)
    kept = torch.tensor([[0, 1, 5, 7, 8], [2, 3, 4, 7, 9]])  # (B, L)
    x = whole.gather(1, kept[..., None].expand(-1, -1, D_MODEL))
    seen = torch.zeros(B, 10, dtype=torch.bool).scatter(1, kept, True)
    expected = layer(whole, mask=masks.causal() & masks.keys(seen)).gather(1, kept[..., None].expand(-1, -1, D_MODEL))
    cache = KVCache()
    steps = [
        layer(part, mask=masks.causal(), positions=where, cache=cache)
        for part, where in zip(x.split(chunks, dim=1), kept.split(chunks, dim=1), strict=True)
    ]
    assert_close(torch.cat(steps, dim=1), expected)
    assert not same(layer(x, mask=masks.causal()), expected)


def test_positions_go_through_compile_export_and_transforms():
    torch.compiler.reset()
    layer = MultiHeadAttention(H, D_MODEL, WIDTH, 5, rotary=Rotary(WIDTH)).double().eval()
    x = draw(B, L, D_MODEL)
    compiled = torch.compile(lambda x, where: layer(x, positions=where), fullgraph=True, backend="eager")
    for where in (HOLES, WIDE, HOLES[0]):
        assert_close(compiled(x, where), layer(x, positions=where))
    dims = {"query": {0: torch.export.Dim("B"), 1: torch.export.Dim("L")}}
    program = torch.export.export(
        layer, (x,), {"positions": HOLES}, dynamic_shapes={**dims, "positions": dims["query"]}, strict=False
    )
    longer, where = draw(3, 7, D_MODEL), torch.randint(0, 20, (3, 7))
    assert_close(program.module()(longer, positions=where), layer(longer, positions=where))
    rotary = Rotary(WIDTH)
    each = torch.func.vmap(lambda x, where: rotary(x, positions=where))(x := draw(B, L, WIDTH), HOLES)
    assert_close(each, rotary(x, positions=HOLES))


def test_a_table_is_made_of_a_range_that_is_no_longer_than_what_is_read():
    rotary, x = Rotary(WIDTH), draw(B, H, L, WIDTH)
    for where, made in ((HOLES, 1), (HOLES + 3, 1), (WIDE, 0)):
        positions._remembered_tables.cache_clear()
        for _ in range(2):
            rotary(x, positions=where)
        info = positions._remembered_tables.cache_info()
        assert (info.misses, info.hits) == (made, made)


def test_no_positions_at_all():
    assert Rotary(4)(torch.zeros(0, H, L, 4), positions=torch.zeros(0, L, dtype=torch.long)).shape == (0, H, L, 4)
    assert Rotary(4)(torch.zeros(B, 0, 4), positions=torch.zeros(0, dtype=torch.long)).shape == (B, 0, 4)


SOMEWHERE = torch.arange(L)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Rotary(4)(torch.ones(L, 4), HOLES), TypeError, "offset: .*got a tensor .*give positions="),
        (lambda: Rotary(4)(torch.ones(L, 4), HOLES[0]), TypeError, r"offset: .*\(5,\); for .*give positions="),
        (lambda: Learned(9, 4)(L, HOLES), TypeError, "offset: .*give positions="),
        (lambda: sinusoidal(L, 4, offset=HOLES), TypeError, "offset: .*give positions="),
        (lambda: Rotary(4)(torch.ones(L, 4), 2, positions=SOMEWHERE), ValueError, "offset: expected none beside"),
        (lambda: Learned(9, 4)(L, 2, positions=SOMEWHERE), ValueError, "offset: expected none beside"),
        (lambda: sinusoidal(L, 4, offset=2, positions=SOMEWHERE), ValueError, "offset: expected none beside"),
        (lambda: sinusoidal(L, 4, positions=[0, 1, 2, 3, 4]), TypeError, "positions: expected a tensor, got list"),
        (lambda: sinusoidal(L, 4, positions=SOMEWHERE.float()), TypeError, "positions: .*int32, got torch.float"),
        (lambda: sinusoidal(L, 4, positions=SOMEWHERE.bool()), TypeError, "positions: .*int32, got torch.bool"),
        (lambda: sinusoidal(L, 4, positions=SOMEWHERE[1:]), ValueError, r"positions: .*L = 5, got \(4,\)"),
        (lambda: sinusoidal(L, 4, positions=HOLES[None]), ValueError, r"positions: .*got \(1, 2, 5\)"),
        (lambda: Learned(9, 4)(L, positions=HOLES), ValueError, "positions: expected numbers from 0 to 8, got 9"),
        (lambda: Learned(9, 4)(L, positions=-SOMEWHERE), ValueError, "positions: .*from 0 to 8, got -4"),
        (lambda: Learned(9, 4)(L, positions=SOMEWHERE.to("meta")), ValueError, "positions: expected the device cpu"),
        (lambda: Rotary(4)(torch.ones(H, L, 4), positions=HOLES), ValueError, r"positions: .*B = 3, got \(2, 5\)"),
        (lambda: Rotary(4)(torch.ones(L, 4), positions=HOLES), ValueError, "positions: .*where there is no batch"),
    ],
)
def test_positions_that_cannot_be_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------------------------------------------------------
# Every encoding under a cache: positions continue


def decoder(kind, restart=False):
    """Return a causal layer with one encoding, as a function of new tokens and a cache.

    With ``restart`` it is wrong: each call forgets how many tokens came before.
    """
    rotary = Rotary(WIDTH, scaling=3.0, layout=kind) if kind in LAYOUTS else None
    if restart and rotary:
        rotary.forward = lambda x, offset=0: Rotary.forward(rotary, x, 0)
    layer = MultiHeadAttention(H, D_MODEL, WIDTH, 5, rotary=rotary).double().eval()
    learned = Learned(L, D_MODEL).double()
    t5 = T5RelativeBias(H, num_buckets=6, max_distance=4, bidirectional=kind == "T5, both directions").double()

    def forward(x, cache=None):
        count = x.shape[1]
        past = 0 if cache is None or restart else len(cache)
        bias = None
        if kind == "sinusoidal":
            x = x + sinusoidal(count, D_MODEL, offset=past).double()
        elif kind == "learned":
            x = x + learned(count, past)
        elif kind == "ALiBi":
            bias = alibi(H, count, past + count, dtype=torch.float64)
        elif kind.startswith("T5"):
            bias = t5(count, past + count)
        return layer(x, mask=masks.causal(), bias=bias, cache=cache)

    return forward


def step_by_step(forward, x):
    cache = KVCache()
    return torch.cat([forward(token, cache) for token in x.split(1, dim=1)], dim=1)


KINDS = ["sinusoidal", "learned", *LAYOUTS, "ALiBi", "T5, both directions", "T5, looking back"]


@pytest.mark.parametrize("kind", KINDS)
def test_token_by_token_equals_the_whole_sequence_at_once(kind):
    forward, x = decoder(kind), draw(B, L, D_MODEL)
    assert_close(step_by_step(forward, x), forward(x))


@pytest.mark.parametrize("kind", KINDS)
def test_positions_that_restart_would_be_noticed(kind):
    forward, x = decoder(kind, restart=True), draw(B, L, D_MODEL)
    gaps = (step_by_step(forward, x) - forward(x)).abs().amax(dim=(0, 2))
    assert gaps[0] < 1e-12
    assert gaps[1:].min() > 1e-6


def test_a_module_with_rotary_knows_the_order_and_one_without_does_not():
    x = draw(B, L, D_MODEL)
    order = torch.tensor([2, 0, 1, 4, 3])
    for rotary in (Rotary(WIDTH), None):
        layer = MultiHeadAttention(H, D_MODEL, WIDTH, 5, rotary=rotary).double().eval()
        assert torch.allclose(layer(x[:, order]), layer(x)[:, order]) == (rotary is None)


# ---------------------------------------------------------------------------------------------------------------------
# Sinusoidal


@pytest.mark.parametrize("d_model", [1, 2, 7, 16])
@pytest.mark.parametrize("base", [10_000, 500])
@pytest.mark.parametrize("offset", [0, 3])
def test_sinusoidal_is_the_papers_formula(d_model, base, offset):
    expected = [
        [
            math.sin(place / base ** (column / d_model))
            if column % 2 == 0
            else math.cos(place / base ** ((column - 1) / d_model))
            for column in range(d_model)
        ]
        for place in range(offset, offset + L)
    ]
    assert_close(sinusoidal(L, d_model, offset=offset, base=base), torch.tensor(expected))


def test_an_odd_width_ends_with_a_sine():
    assert_close(sinusoidal(L, 1)[:, 0], torch.arange(L).sin())
    odd = sinusoidal(L, 7)
    assert_close(odd[:, 6], (torch.arange(L) * 10_000 ** (-6 / 7)).sin())


@pytest.mark.parametrize("shift", [1, 4, -3])
def test_a_shift_turns_each_pair_of_columns_by_one_angle(shift):
    """The paper's reason for it: PE[pos + k] is a linear function of PE[pos], the same one for every pos."""
    base, d_model = 100, 6
    before, after = (sinusoidal(11, d_model, offset=start, base=base) for start in (5, 5 + shift))
    turn = torch.zeros(d_model, d_model)
    for i in range(d_model // 2):
        angle = shift * base ** (-2 * i / d_model)
        turn[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = torch.tensor(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        )
    assert_close(after, before @ turn.T)


def test_sinusoidal_stays_exact_far_from_the_start():
    expected = [math.sin(100_000), math.cos(100_000), math.sin(1000), math.cos(1000)]
    assert_close(sinusoidal(100_001, 4)[-1], torch.tensor(expected))
    assert_close(sinusoidal(1, 4, offset=100_000)[0], torch.tensor(expected))


def test_sinusoidal_has_the_default_dtype_and_the_device_asked_for():
    assert sinusoidal(2, 3).dtype == torch.float32
    assert sinusoidal(2, 3, device="meta").device.type == "meta"
    with torch.device("meta"):
        assert sinusoidal(2, 3).device.type == "meta"


def test_a_sequence_and_a_width_of_one_are_enough():
    assert sinusoidal(1, 1).tolist() == [[0]]


# ---------------------------------------------------------------------------------------------------------------------
# Learned


@pytest.mark.parametrize("offset", [0, 4])
def test_learned_looks_up_the_rows_from_the_offset_on(offset):
    learned = Learned(11, D_MODEL)
    expected = torch.stack([learned.weight[offset + i] for i in range(L)])
    assert torch.equal(learned(L, offset), expected)


def test_learned_knows_its_last_position_and_none_beyond():
    learned = Learned(7, D_MODEL)
    assert torch.equal(learned(7), learned.weight)
    assert torch.equal(learned(2, offset=5), learned.weight[5:])
    for length, offset in ((8, 0), (3, 5), (1, 7)):
        message = rf"length: .* at most max_length=7, got {offset} \+ {length}; a learned table knows no further"
        with NoArithmetic(), pytest.raises(ValueError, match=message):
            learned(length, offset)


def test_only_the_positions_that_were_used_learn():
    learned = Learned(11, D_MODEL)
    learned(3, offset=5).sum().backward()
    assert torch.equal(learned.weight.grad.any(dim=1).nonzero().flatten(), torch.tensor([5, 6, 7]))


@pytest.mark.parametrize("module", [Learned(499, 101), T5RelativeBias(101, num_buckets=498, max_distance=499)])
def test_tables_are_all_that_is_saved_and_begin_small(module):
    assert list(module.state_dict()) == ["weight"]
    before = module.weight.detach().clone()
    module.reset_parameters()
    assert not torch.equal(module.weight, before)
    assert abs(module.weight.mean()) < 1e-3
    assert 0.0195 < module.weight.std() < 0.0205


# ---------------------------------------------------------------------------------------------------------------------
# Rotary


def complex_rotation(x, offset, base, layout, scaling=1):
    """Multiply each pair of columns, taken as a complex number, with e^(i·position/scaling·base^(−2i/d_k))."""
    x = x.numpy()
    half = x.shape[-1] // 2
    interleaved = layout == "interleaved"
    pairs = x[..., 0::2] + 1j * x[..., 1::2] if interleaved else x[..., :half] + 1j * x[..., half:]
    places = (offset + np.arange(x.shape[-2])) / scaling
    turned = pairs * np.exp(1j * places[:, None] * float(base) ** (-np.arange(half) / half))
    if interleaved:
        return torch.from_numpy(np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape))
    return torch.from_numpy(np.concatenate([turned.real, turned.imag], axis=-1))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("offset", [0, 3, 100_000, -2])
@pytest.mark.parametrize("base", [10_000, 500.0])
@pytest.mark.parametrize("scaling", [1, 2.5])
def test_rotary_multiplies_complex_numbers(layout, offset, base, scaling):
    x = draw(B, H, L, WIDTH)
    rotary = Rotary(WIDTH, base=base, scaling=scaling, layout=layout)
    assert_close(rotary(x, offset), complex_rotation(x, offset, base, layout, scaling))


def test_the_defaults_are_a_base_of_ten_thousand_no_scaling_and_halves():
    x = draw(L, WIDTH)
    assert_close(Rotary(WIDTH)(x), complex_rotation(x, 0, 10_000, "half-split"))


@pytest.mark.parametrize("rope", [{"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0}])
def test_half_split_equals_hugging_faces_llama(rope):
    pytest.importorskip("transformers")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    rope = {**rope, "rope_theta": 500.0}
    config = LlamaConfig(hidden_size=H * WIDTH, num_attention_heads=H, rope_parameters=rope)
    query, key = draw(B, H, L, WIDTH, dtype=torch.float32), draw(B, H, L, WIDTH, dtype=torch.float32)
    cos, sin = LlamaRotaryEmbedding(config)(query, torch.arange(3, 3 + L)[None])
    rotary = Rotary(WIDTH, base=500, scaling=rope.get("factor", 1))
    for ours, theirs in zip(
        (rotary(query, 3), rotary(key, 3)), apply_rotary_pos_emb(query, key, cos, sin), strict=True
    ):
        assert_close(ours, theirs)


def test_interleaved_equals_hugging_faces_gpt_j():
    pytest.importorskip("transformers")
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb, create_sinusoidal_positions

    x = draw(B, H, L, WIDTH, dtype=torch.float32)
    sin, cos = create_sinusoidal_positions(L, WIDTH)[None].chunk(2, dim=-1)
    theirs = apply_rotary_pos_emb(x.transpose(1, 2), sin, cos).transpose(1, 2)
    assert_close(Rotary(WIDTH, layout="interleaved")(x), theirs)


RULES = {
    "llama3": (Llama3, {"factor": 8.0, "original_max_position_embeddings": 64}),
    "llama3, otherwise": (
        Llama3,
        {"factor": 3.0, "low_freq_factor": 0.5, "high_freq_factor": 7.0, "original_max_position_embeddings": 500},
    ),
    "yarn": (YaRN, {"factor": 4.0, "original_max_position_embeddings": 512}),
    "yarn, otherwise": (
        YaRN,
        {
            "factor": 0.5,
            "original_max_position_embeddings": 300,
            "beta_fast": 20.0,
            "beta_slow": 2.0,
            "truncate": False,
        },
    ),
    "yarn, all pairs between": (YaRN, {"factor": 2.0, "original_max_position_embeddings": 40.0}),
}

EDGES = {
    "yarn, slower than any pair": (
        YaRN,
        {"factor": 4.0, "original_max_position_embeddings": 500_000, "beta_fast": 5000.0, "beta_slow": 0.1},
    ),
    "yarn, no pair in training's length": (YaRN, {"factor": 4.0, "original_max_position_embeddings": 5}),
    "yarn, low equals high": (
        YaRN,
        {
            "factor": 4.0,
            "original_max_position_embeddings": 3000,
            "beta_fast": 8.0,
            "beta_slow": 8.0,
            "truncate": False,
        },
    ),
}


def hugging_faces_llama(head_dim, **rope):
    pytest.importorskip("transformers")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rope = {"rope_theta": 500.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **rope}
    sizes = {"hidden_size": H * head_dim, "num_attention_heads": H, "head_dim": head_dim}
    return LlamaRotaryEmbedding(LlamaConfig(**sizes, max_position_embeddings=100, rope_parameters=rope))


def turned_by_hugging_face(module, x, where):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    return apply_rotary_pos_emb(x, x, *module(x, where))[0]


@pytest.mark.parametrize("name", [*RULES, *EDGES])
@pytest.mark.parametrize("width", [2, 6, 64])
def test_rules_for_the_speeds_are_hugging_faces(name, width):
    """The speeds and what is turned; some pairs are slowed in full, some in part, some not at all."""
    kind, numbers = (RULES | EDGES)[name]
    theirs = hugging_faces_llama(width, rope_type=kind.__name__.lower(), **numbers)
    rotary = Rotary(width, base=500.0, scaling=kind(**numbers))
    speeds = rotary.scaling.speeds(np.arange(width // 2.0), 500.0)
    assert_close(torch.from_numpy(speeds).float(), theirs.inv_freq)
    assert rotary.scaling.attention_factor == pytest.approx(theirs.attention_scaling)
    x = draw(B, H, L, width, dtype=torch.float32)
    assert_close(rotary(x, positions=HOLES), turned_by_hugging_face(theirs, x, HOLES))


@pytest.mark.parametrize("name", RULES)
def test_the_cases_above_tell_the_rules_apart(name):
    kind, numbers = RULES[name]
    speeds = kind(**numbers).speeds(np.arange(32.0), 500.0) / 500.0 ** (-np.arange(32.0) / 32)
    inside = np.sum((speeds != 1) & ~np.isclose(speeds, 1 / numbers["factor"]))
    assert 2 < inside <= 32


@pytest.mark.parametrize("width", [4, 6, 64])
def test_a_larger_base_is_hugging_faces_dynamic_for_a_text_of_that_length(width):
    theirs = hugging_faces_llama(width, rope_type="dynamic", factor=1.0, original_max_position_embeddings=100)
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    expected, _ = ROPE_INIT_FUNCTIONS["dynamic"](theirs.config, seq_len=300)  # three times as long as in training
    assert_close(torch.from_numpy(NTK(3.0).speeds(np.arange(width // 2.0), 500.0)).float(), expected)


def test_the_fastest_of_the_pairs_stays_as_it_is_under_a_larger_base():
    x = draw(L, 2)
    assert_close(Rotary(2, base=500.0, scaling=NTK(3.0))(x), Rotary(2, base=500.0)(x))
    assert NTK(3.0).speeds(np.arange(5.0), 500.0)[0] == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [tuple, list, torch.tensor])
def test_speeds_of_ones_own_are_those_that_turn(layout, kind):
    speeds = [3.0, 0.0, -1.5, 1e-3, 0.2, 7, 1]  # zero does not turn, a negative one turns the other way
    x, rotary = draw(B, H, L, WIDTH), Rotary(WIDTH, layout=layout, speeds=kind(speeds), attention_factor=1.7)
    for offset in (0, 3):
        turned = rotary(x, offset)
        for i, speed in enumerate(torch.as_tensor(kind(speeds)).tolist() if kind is torch.tensor else speeds):
            pair = [i, i + WIDTH // 2] if layout == "half-split" else [2 * i, 2 * i + 1]
            a, b = x[..., pair].unbind(-1)
            angle = speed * torch.arange(offset, offset + L, dtype=torch.float64)
            expected = torch.stack([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)
            assert_close(turned[..., pair], 1.7 * expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", [None, HOLES], ids=["offset", "positions"])
def test_columns_that_do_not_turn_stay(layout, where):
    x = draw(B, H, L, WIDTH)
    place = {"offset": 3} if where is None else {"positions": where}
    turned = Rotary(WIDTH, base=77, scaling=2, layout=layout, columns=6)(x, **place)
    assert torch.equal(turned[..., 6:], x[..., 6:])
    assert_close(turned[..., :6], Rotary(6, base=77, scaling=2, layout=layout)(x[..., :6], **place))
    assert_close(Rotary(WIDTH, columns=WIDTH)(x), Rotary(WIDTH)(x))
    half = x.bfloat16()
    assert torch.equal(Rotary(WIDTH, layout=layout, columns=6)(half, **place)[..., 6:], half[..., 6:])


def test_columns_are_hugging_faces_gpt_neox():
    pytest.importorskip("transformers")
    from transformers import GPTNeoXConfig
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding, apply_rotary_pos_emb

    rope = {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.25}
    config = GPTNeoXConfig(hidden_size=16 * H, num_attention_heads=H, rope_parameters=rope)
    x = draw(B, H, L, 16, dtype=torch.float32)
    theirs, _ = apply_rotary_pos_emb(x, x, *GPTNeoXRotaryEmbedding(config)(x, HOLES))
    assert_close(Rotary(16, base=500.0, columns=4)(x, positions=HOLES), theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"scaling": Llama3(8.0, original_max_position_embeddings=64)},
        {"scaling": YaRN(4.0, 512), "columns": 6},
        {"scaling": NTK(4.0), "attention_factor": 3.0},
        {"speeds": [3.0, 0.0, -1.5, 1e-3, 0.2, 7.0, 1.0]},
    ],
    ids=repr,
)
def test_graphs_and_eager_mode_turn_by_the_same_speeds(options):
    torch.compiler.reset()
    x = draw(B, H, L, WIDTH)
    rotary = Rotary(WIDTH, **options)
    compiled = torch.compile(rotary, fullgraph=True, backend="eager")
    assert_close(compiled(x, 3), rotary(x, 3))
    assert_close(compiled(x, positions=WIDE), rotary(x, positions=WIDE))
    assert not same(rotary(x, 3), Rotary(WIDTH)(x, 3))
    assert rotary(x.to("meta")).shape == x.shape
    duplicates = (copy.deepcopy(rotary), pickle.loads(pickle.dumps(rotary)))
    for duplicate in duplicates:
        assert torch.equal(duplicate(x, 3), rotary(x, 3))


def test_rules_may_be_ones_own():
    class Halved(Scaling):
        attention_factor = 3.0

        def speeds(self, pairs, base):
            return base ** (-pairs / pairs.shape[0]) / 2

    x = draw(B, L, WIDTH)
    assert_close(Rotary(WIDTH, scaling=Halved())(x, 6), 3 * Rotary(WIDTH, scaling=2.0)(x, 6))
    assert_close(Rotary(WIDTH, scaling=Halved(), attention_factor=1.0)(x, 6), Rotary(WIDTH, scaling=2.0)(x, 6))


def test_a_rule_that_changes_later_changes_nothing():
    @dataclass  # which cannot be hashed
    class Slowed(Scaling):
        factor: float

        def speeds(self, pairs, base):
            return base ** (-pairs / pairs.shape[0]) / self.factor

    rule, x = Slowed(2.0), draw(B, L, WIDTH)
    rotary = Rotary(WIDTH, scaling=rule)
    assert_close(rotary(x, 6), Rotary(WIDTH, scaling=2.0)(x, 6))
    rule.factor = 5.0
    assert_close(rotary(x, 6), Rotary(WIDTH, scaling=2.0)(x, 6))
    assert_close(torch.compile(rotary, backend="eager")(x, 6), Rotary(WIDTH, scaling=2.0)(x, 6))
    assert_close(Rotary(WIDTH, scaling=rule)(x, 6), Rotary(WIDTH, scaling=5.0)(x, 6))


class Returns(Scaling):
    def __init__(self, speeds, attention_factor=1.0):
        self.found, self.factor = speeds, attention_factor

    @property
    def attention_factor(self):
        return self.factor

    def speeds(self, pairs, base):
        return self.found


@pytest.mark.parametrize("name", ["d_k", "base", "scaling", "layout", "columns", "speeds", "attention_factor"])
def test_what_has_no_effect_once_it_is_made_cannot_be_assigned(name):
    rotary = Rotary(WIDTH)
    with pytest.raises(AttributeError, match=f"{name}: expected what the Rotary was made with; make a new one"):
        setattr(rotary, name, getattr(rotary, name))
    rotary.eval()
    copy.deepcopy(rotary).train()


def test_learned_positions_of_no_example_are_none():
    assert Learned(4, 7)(3, positions=torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 3, 7)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Rotary(8, scaling=Scaling()), NotImplementedError, r"scaling: expected a rule with a method speeds\("),
        (lambda: Rotary(8, scaling=Returns(np.ones(1))), ValueError, r"scaling: .* 4 pairs, \(4,\), got \(1,\)"),
        (lambda: Rotary(8, scaling=Returns(None)), ValueError, r"scaling: .* 4 pairs, \(4,\), got \(\)"),
        (lambda: Rotary(4, scaling=Returns(np.array([1, np.inf]))), ValueError, "scaling: expected .* finite speeds"),
        (lambda: Rotary(4, scaling=Returns(np.ones(2), 0.0)), ValueError, "scaling.attention_factor: .* got 0.0"),
        (
            lambda: YaRN(4.0, 4096, beta_fast=1.0, beta_slow=32.0),
            ValueError,
            "beta_fast: expected at least beta_slow=32.0, got 1.0",
        ),
        (lambda: YaRN(4.0, 4096, 32.0, 1.0), TypeError, "positional arguments"),
        (lambda: Rotary(4, columns=3), ValueError, "columns: expected an even number of at most d_k = 4, got 3"),
        (lambda: Rotary(4, columns=6), ValueError, "columns: expected an even number of at most d_k = 4, got 6"),
        (lambda: Rotary(4, columns=0), ValueError, "columns: expected at least 1, got 0"),
        (lambda: Rotary(4, columns=2.0), TypeError, "columns: expected a whole number, got float"),
        (lambda: Rotary(4, scaling="dynamic"), TypeError, "scaling: expected a number, or .*NTK.*, got str"),
        (lambda: Rotary(4, scaling=Llama3), TypeError, "scaling: expected a number, or .*Llama3.*, got type"),
        (lambda: Rotary(4, speeds=[1.0]), ValueError, "speeds: expected one for each of 2 pairs, got 1"),
        (lambda: Rotary(4, speeds=torch.ones(2, 2)), TypeError, "speeds: expected a number, got list"),
        (lambda: Rotary(4, speeds=torch.ones(())), TypeError, "speeds: expected a sequence of numbers, .*got float"),
        (lambda: Rotary(4, speeds=[1.0, math.nan]), ValueError, "speeds: expected a finite number, got nan"),
        (lambda: Rotary(4, speeds="ab"), TypeError, "speeds: expected a sequence of numbers, or a tensor, got str"),
        (lambda: Rotary(4, speeds=[1, 1], base=500), ValueError, "speeds: expected none beside base or scaling"),
        (lambda: Rotary(4, speeds=[1, 1], scaling=NTK(2)), ValueError, "speeds: expected none beside base or scaling"),
        (
            lambda: Rotary(4, attention_factor=0),
            ValueError,
            "attention_factor: expected a finite number above 0, got 0",
        ),
        (lambda: NTK(0), ValueError, "factor: expected a finite number above 0, got 0"),
        (lambda: Llama3("8"), TypeError, "factor: expected a number, got str"),
        (lambda: Llama3(8, high_freq_factor=1), ValueError, "high_freq_factor: expected more than low_freq_factor=1"),
        (lambda: YaRN(8, 0), ValueError, "original_max_position_embeddings: expected a finite number above 0"),
        (lambda: YaRN(8, 64, beta_slow=-1), ValueError, "beta_slow: expected a finite number above 0, got -1"),
        (
            lambda: Rotary(4, base=1.0, scaling=YaRN(8, 64)),
            ValueError,
            "base: expected more than 1 beside YaRN, got 1.0",
        ),
    ],
)
def test_speeds_that_cannot_be_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@given(
    st.integers(0, 5000),
    st.integers(0, 5000),
    st.integers(0, 100_000),
    st.sampled_from(LAYOUTS),
    st.sampled_from([1.0, 2.5]),
)
def test_scores_depend_on_the_distance_alone(m, n, shift, layout, scaling):
    torch.manual_seed(0)
    query, key = draw(1, WIDTH), draw(1, WIDTH)
    rotary = Rotary(WIDTH, scaling=scaling, layout=layout)
    score = rotary(query, m) @ rotary(key, n).T
    assert_close(rotary(query, m + shift) @ rotary(key, n + shift).T, score)
    assert m == n or not same(rotary(query, m) @ rotary(key, m).T, score)


def test_the_layouts_are_one_another_with_the_columns_permuted():
    x = draw(B, L, WIDTH)
    # Half-split column c belongs to pair c mod 7, and is its second half from column 7 on.
    order = [2 * (column % 7) + column // 7 for column in range(WIDTH)]
    half_split, interleaved = (Rotary(WIDTH, layout=layout) for layout in LAYOUTS)
    assert_close(interleaved(x, 3)[..., order], half_split(x[..., order], 3))
    assert not same(interleaved(x, 3), half_split(x, 3))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scaling_by_s_puts_position_s_times_m_where_m_was(layout):
    x = draw(1, WIDTH)
    plain, scaled = Rotary(WIDTH, layout=layout), Rotary(WIDTH, scaling=4, layout=layout)
    for m in (0, 1, 3, 1009):
        assert_close(scaled(x, 4 * m), plain(x, m))
    assert not same(scaled(x, 1), plain(x, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rotary_keeps_lengths_and_the_first_position(layout):
    x = draw(B, L, WIDTH)
    turned = Rotary(WIDTH, layout=layout)(x)
    assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, 0], x[:, 0])
    assert (turned[:, 1] != x[:, 1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_far_positions_keep_the_precision_of_the_dtype(dtype):
    x = draw(L, WIDTH).to(dtype)
    exact = complex_rotation(x.double(), 100_000, 10_000, "half-split")
    turned = Rotary(WIDTH)(x, 100_000)
    assert turned.dtype == dtype
    assert_close(turned, exact.to(dtype))


def test_a_cast_to_half_precision_does_not_change_the_angles():
    x = draw(97, WIDTH).bfloat16()
    assert torch.equal(Rotary(WIDTH).to(torch.bfloat16)(x, 1000), Rotary(WIDTH)(x, 1000))


def test_the_narrowest_rotary_turns_one_pair():
    assert_close(Rotary(2)(torch.tensor([[1.0, 0.0]]), 1), torch.tensor([[math.cos(1), math.sin(1)]]))


def test_a_base_below_one_is_a_base():
    x = draw(L, WIDTH)
    assert_close(Rotary(WIDTH, base=0.5)(x), complex_rotation(x, 0, 0.5, "half-split"))


def test_half_precision_rounds_the_gradient_once_too():
    x, weights = draw(97, WIDTH).bfloat16(), draw(97, WIDTH).bfloat16()
    gradients = []
    for y in (x.clone(), x.float()):
        Rotary(WIDTH)(y.requires_grad_(), 3).backward(weights.to(y.dtype))
        gradients.append(y.grad.bfloat16())
    assert torch.equal(*gradients)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_is_that_of_finite_differences(layout):
    rotary = Rotary(4, layout=layout)
    assert torch.autograd.gradgradcheck(lambda x: rotary(x, 2), draw(3, 4, requires_grad=True))


# ---------------------------------------------------------------------------------------------------------------------
# Rotary remembers its last tables, and nobody sees that


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_rotary_has_nothing_to_save_and_copies_turn_the_same(duplicate):
    rotary, x = Rotary(WIDTH, base=77, scaling=3, layout="interleaved"), draw(L, WIDTH)
    turned = rotary(x)
    assert not rotary.state_dict()
    assert not [value for value in vars(rotary).values() if isinstance(value, torch.Tensor | np.ndarray)]
    assert torch.equal(duplicate(rotary)(x), turned)


def test_rotaries_do_not_take_one_anothers_tables():
    x = draw(L, WIDTH)
    for settings in ({}, {"base": 99.0}, {"scaling": 3.0}, {"layout": "interleaved"}):
        for offset in (0, 2):
            for rows in (L, L - 1):
                wanted = {"base": 10_000, "layout": "half-split", **settings}
                found = Rotary(WIDTH, **settings)(x[:rows], offset)
                assert_close(found, complex_rotation(x[:rows], offset, **wanted))
                single = Rotary(WIDTH, **settings)(x[:rows].float(), offset)
                assert_close(single, found.float())


FOREIGN = {
    "inference mode": torch.inference_mode()(lambda rotary, x: rotary(x, 7)),
    "a transform": lambda rotary, x: torch.func.functionalize(lambda y: rotary(y, 7))(x),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_computed_elsewhere_leaks_nothing_into_training(name):
    positions._remembered_tables.cache_clear()
    rotary, x = Rotary(WIDTH), draw(L, WIDTH)
    FOREIGN[name](rotary, x.clone())
    turned = rotary(x.requires_grad_(), 7)
    gradient = torch.zeros_like(x)
    gradient.copy_(torch.autograd.grad(turned.sum(), x)[0])
    # A rotation's gradient turns back.
    assert_close(rotary(gradient, 7), torch.ones(L, WIDTH).double())


def test_rotary_works_where_there_are_no_numbers():
    rotary, x = Rotary(WIDTH), draw(L, WIDTH)
    rotary(x)
    assert rotary(x.to("meta")).shape == x.shape
    with FakeTensorMode() as mode:
        assert rotary(mode.from_tensor(x)).shape == x.shape
    traced = make_fx(rotary, tracing_mode="symbolic")(x)
    longer = draw(11, WIDTH)
    assert_close(traced(longer), rotary(longer))
    assert_close(rotary(x), complex_rotation(x, 0, 10_000, "half-split"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rotary_compiles_to_one_graph_for_all_lengths_and_offsets(layout):
    torch.compiler.reset()
    rotary = Rotary(WIDTH, scaling=3, layout=layout)
    compiled = torch.compile(rotary, fullgraph=True, backend="eager")
    for length, offset in ((2, 0), (3, 5), (7, 11), (1, 100_000)):
        x = draw(length, WIDTH)
        assert_close(compiled(x, offset), complex_rotation(x, offset, 10_000, layout, 3))


def test_graphs_and_eager_mode_share_no_table():
    torch.compiler.reset()
    positions._remembered_tables.cache_clear()
    torch.compile(Rotary(WIDTH), fullgraph=True, backend="eager")(draw(L, WIDTH))
    assert positions._remembered_tables.cache_info().misses == 0


def test_one_step_of_all_layers_makes_one_table():
    positions._remembered_tables.cache_clear()
    layers = [MultiHeadAttention(2, 8, rotary=Rotary(4)).eval() for _ in range(3)]
    caches = [KVCache() for _ in layers]
    for _ in range(5):
        x = torch.randn(1, 1, 8)
        for layer, cache in zip(layers, caches, strict=True):
            x = layer(x, cache=cache)
    info = positions._remembered_tables.cache_info()
    assert (info.misses, info.hits) == (5, 25)
    assert info.currsize <= 2  # a long run does not fill the memory


def test_angles_are_made_where_they_are_used_unless_float64_is_missing_there():
    for device, made in (("meta", "meta"), ("mps", "cpu")):
        assert positions._with_float64(torch.device(device)).type == made


# ---------------------------------------------------------------------------------------------------------------------
# ALiBi


def authors_slopes(n):
    """The slopes as Press et al. compute them: recursively, each from the one before it."""
    if math.log2(n).is_integer():
        first = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [first * first**i for i in range(n)]
    below = 2 ** math.floor(math.log2(n))
    return authors_slopes(below) + authors_slopes(2 * below)[0::2][: n - below]


@pytest.mark.parametrize("num_heads", range(1, 21))
def test_slopes_are_the_authors(num_heads):
    assert_close(alibi_slopes(num_heads), torch.tensor(authors_slopes(num_heads)))


@pytest.mark.parametrize(
    ("num_heads", "exponents"),
    [
        (1, [8]),
        (2, [4, 8]),
        (3, [4, 8, 2]),
        (6, [2, 4, 6, 8, 1, 3]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_slopes_by_hand(num_heads, exponents):
    assert_close(alibi_slopes(num_heads), torch.tensor([2.0**-e for e in exponents]))


@pytest.mark.parametrize("num_heads", [1, 3, 4, 7, 12, 16])
def test_alibi_equals_hugging_faces_bloom(num_heads):
    """Theirs is shifted row by row, which the softmax does not see."""
    pytest.importorskip("transformers")
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, L), num_heads, torch.float32)[:, 0]
    ours = alibi(num_heads, L)
    for i in range(L):
        assert_close(ours[0, :, i, : i + 1], theirs[:, : i + 1] - theirs[:, i : i + 1])


@pytest.mark.parametrize(("rows", "columns"), [(L, None), (L, S), (1, S), (S, L)])
def test_alibi_is_minus_the_slope_times_the_distance(rows, columns):
    keys = rows if columns is None else columns
    first = keys - rows  # the last query stands at the last key
    expected = [[[[-m * abs(first + i - j) for j in range(keys)] for i in range(rows)] for m in authors_slopes(11)]]
    assert_close(alibi(11, rows, columns, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64))


@given(st.integers(1, 20), st.integers(1, 30), st.integers(1, 30))
def test_alibi_depends_on_the_distance_alone_and_falls_with_it(num_heads, rows, columns):
    bias = alibi(num_heads, rows, columns)
    assert bias.shape == (1, num_heads, rows, columns)
    at = {}
    for i in range(rows):
        for j in range(columns):
            at.setdefault(abs(columns - rows + i - j), []).append(bias[0, :, i, j])
    each = [torch.stack(at[distance]) for distance in sorted(at)]
    assert all((values == values[0]).all() for values in each)
    assert all((near[0] > far[0]).all() for near, far in pairwise(each))
    assert 0 not in at or not each[0].any()


def test_alibi_makes_near_keys_heavier():
    layer, x = MultiHeadAttention(H, D_MODEL, WIDTH, 5).eval(), torch.ones(B, L, D_MODEL)
    layer(x, mask=masks.causal(), bias=alibi(H, L), need_weights=True)
    last = layer.attn[:, :, -1]
    assert (last.diff() > 0).all()
    assert_close(last[:, :, 1:] / last[:, :, :-1], alibi_slopes(H).exp()[:, None].expand(B, H, L - 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_alibi_in_half_precision_is_rounded_once(dtype):
    assert torch.equal(alibi(11, 3, 4099, dtype=dtype), alibi(11, 3, 4099).to(dtype))


def test_alibi_has_the_dtype_and_the_device_asked_for():
    assert alibi(H, L).dtype == torch.float32
    assert alibi(H, L, S).is_contiguous()
    assert alibi(H, L, dtype=torch.float64, device="meta").device.type == "meta"
    assert alibi_slopes(H).dtype == torch.float32


# ---------------------------------------------------------------------------------------------------------------------
# T5's relative bias


def bucket_by_whole_numbers(distance, num_buckets, max_distance, bidirectional):
    """The bucket of j − i, by comparing powers of whole numbers instead of logarithms."""
    count = num_buckets // 2 if bidirectional else num_buckets
    d = abs(distance) if bidirectional else max(-distance, 0)
    exact = count // 2
    bucket = d
    if d >= exact:
        bucket, wide = exact, count - exact
        # The next bucket begins where (d / exact)^wide ≥ (max_distance / exact)^(its number).
        while (
            bucket < count - 1
            and d**wide * exact ** (bucket + 1 - exact) >= max_distance ** (bucket + 1 - exact) * exact**wide
        ):
            bucket += 1
    return bucket + count if bidirectional and distance > 0 else bucket


def showing_buckets(num_buckets, max_distance, bidirectional):
    """Return a bias of one head that holds the numbers of the buckets."""
    relative = T5RelativeBias(1, num_buckets=num_buckets, max_distance=max_distance, bidirectional=bidirectional)
    relative.weight.data = torch.arange(num_buckets, dtype=torch.float64)[:, None]
    return relative


def hugging_faces_t5(num_buckets, max_distance, bidirectional):
    pytest.importorskip("transformers")
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(
        num_heads=H,
        relative_attention_num_buckets=num_buckets,
        relative_attention_max_distance=max_distance,
        is_decoder=not bidirectional,
    )
    return T5Attention(config, has_relative_attention_bias=True, layer_idx=0)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (4, 3), (10, 19), (64, 1000), (32, 17)])
@pytest.mark.parametrize(("rows", "columns"), [(L, S), (1, 2503), (2503, 3), (307, 307)])
def test_t5s_bias_equals_hugging_faces(bidirectional, num_buckets, max_distance, rows, columns):
    theirs = hugging_faces_t5(num_buckets, max_distance, bidirectional)
    ours = T5RelativeBias(H, num_buckets=num_buckets, max_distance=max_distance, bidirectional=bidirectional)
    ours.load_state_dict(theirs.relative_attention_bias.state_dict())
    assert torch.equal(ours(rows, columns), theirs.compute_bias(rows, columns, past_seen_tokens=columns - rows))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5s_defaults_are_those_of_the_model(bidirectional):
    theirs = hugging_faces_t5(32, 128, bidirectional)
    ours = T5RelativeBias(H) if bidirectional else T5RelativeBias(H, bidirectional=False)
    ours.load_state_dict(theirs.relative_attention_bias.state_dict())
    assert torch.equal(ours(300), theirs.compute_bias(300, 300))


@given(st.integers(2, 20), st.integers(2, 90), st.booleans())
@example(9, 128, False)  # here, without a nudge, rounding misses a bucket's first distance
@example(19, 16, False)
@example(17, 27, True)  # and here it does in float32
def test_buckets_begin_exactly_where_the_rule_says(half, max_distance, bidirectional):
    num_buckets = 2 * half if bidirectional else half
    count = num_buckets // 2 if bidirectional else num_buckets
    assume(max_distance > count // 2)
    farthest = 2 * max_distance
    bias = showing_buckets(num_buckets, max_distance, bidirectional)(farthest, farthest)
    settings = (num_buckets, max_distance, bidirectional)
    expected = [bucket_by_whole_numbers(n, *settings) for n in range(1 - farthest, farthest)]
    assert torch.cat([bias[0, 0, -1], bias[0, 0, 0, 1:]]).tolist() == expected


def test_every_bucket_is_used_and_far_keys_share_the_last():
    back = showing_buckets(32, 128, bidirectional=False)(1, 5000)[0, 0, 0].flip(0)
    assert back.unique().tolist() == list(range(32))
    assert (back.diff() >= 0).all()
    assert (back[128:] == 31).all()
    assert back[:17].tolist() == [*range(16), 16]
    both = showing_buckets(32, 128, bidirectional=True)(500)[0, 0]
    assert set(both.unique().tolist()) == set(range(32)) - {16}  # no distance is both 0 and ahead
    assert not showing_buckets(32, 128, bidirectional=False)(500)[0, 0].triu().any()


@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5s_bias_depends_on_the_distance_alone(bidirectional):
    relative = T5RelativeBias(H, num_buckets=10, max_distance=13, bidirectional=bidirectional).double()
    bias = relative(29, 31)
    assert torch.equal(bias[..., 1:, 1:], bias[..., :-1, :-1])
    assert torch.equal(relative(1, 31), bias[:, :, -1:])


def test_t5s_table_learns_what_each_bucket_was_asked():
    relative = T5RelativeBias(H, num_buckets=6, max_distance=4, bidirectional=False).double()
    bias = relative(L, S)
    asked = draw(*bias.shape)
    bias.backward(asked)
    expected = torch.zeros(6, H).double()
    for i in range(L):
        for j in range(S):
            expected[bucket_by_whole_numbers(j - (S - L + i), 6, 4, False)] += asked[0, :, i, j]
    assert_close(relative.weight.grad, expected)


def test_t5s_bias_has_the_tables_dtype_and_device():
    relative = T5RelativeBias(H)
    assert torch.equal(relative.bfloat16()(L, S), relative(L, S))
    assert relative(L, S).dtype == torch.bfloat16
    assert relative(L, S).is_contiguous()
    assert relative.to("meta")(L, S).device.type == "meta"


# ---------------------------------------------------------------------------------------------------------------------
# Sizes left open


class AllFive(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.learned, self.t5 = Learned(100, 4), T5RelativeBias(H)
        self.rotary = Rotary(4, scaling=3, layout="interleaved")

    def forward(self, x):
        rows = x.shape[0]
        added = sinusoidal(rows, 4, offset=rows) + self.learned(rows, rows) + self.rotary(x, rows)
        return added, self.t5(rows, rows + 3), alibi(H, rows, rows + 3)


def test_all_export_with_the_length_left_open():
    model, length = AllFive(), torch.export.Dim("length", min=1, max=50)
    program = torch.export.export(model, (torch.randn(5, 4),), dynamic_shapes=({0: length},), strict=False)
    for rows in (1, 13):
        x = torch.randn(rows, 4)
        for found, expected in zip(program.module()(x), model(x), strict=True):
            assert_close(found, expected)


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sinusoidal(0, 4), "length: expected at least 1, got 0"),
        (lambda: sinusoidal(3, 0), "d_model: expected at least 1, got 0"),
        (lambda: sinusoidal(3, 4, offset=-1), "offset: expected at least 0, got -1"),
        (lambda: sinusoidal(3, 4, base=0), "base: expected a finite number above 0, got 0"),
        (lambda: sinusoidal(3, 4, base=math.nan), "base: expected a finite number above 0, got nan"),
        (lambda: Learned(0, 4), "max_length: expected at least 1, got 0"),
        (lambda: Learned(3, 0), "d_model: expected at least 1, got 0"),
        (lambda: Learned(3, 4)(0), "length: expected at least 1, got 0"),
        (lambda: Learned(3, 4)(1, -1), "offset: expected at least 0, got -1"),
        (lambda: Rotary(7), "d_k: expected an even number of at least 2, got 7"),
        (lambda: Rotary(0), "d_k: expected at least 1, got 0"),
        (lambda: Rotary(4, base=-1), "base: expected a finite number above 0, got -1"),
        (lambda: Rotary(4, base=math.inf), "base: expected a finite number above 0, got inf"),
        (lambda: Rotary(4, scaling=0), "scaling: expected a finite number above 0, got 0"),
        (lambda: Rotary(4, layout="neox"), "layout: expected 'half-split' or 'interleaved', got 'neox'"),
        (lambda: Rotary(4)(torch.ones(3, 6)), r"x: expected \(…, L, d_k = 4\), got \(3, 6\)"),
        (lambda: Rotary(4)(torch.ones(4)), r"x: expected \(…, L, d_k = 4\), got \(4,\)"),
        (lambda: alibi_slopes(0), "num_heads: expected at least 1, got 0"),
        (lambda: alibi(0, 3), "num_heads: expected at least 1, got 0"),
        (lambda: alibi(2, 0), "L: expected at least 1, got 0"),
        (lambda: alibi(2, 3, 0), "S: expected at least 1, got 0"),
        (lambda: T5RelativeBias(0), "num_heads: expected at least 1, got 0"),
        (lambda: T5RelativeBias(2, num_buckets=2), "num_buckets: expected at least 4, got 2"),
        (lambda: T5RelativeBias(2, num_buckets=7), "num_buckets: expected an even number for two directions, got 7"),
        (lambda: T5RelativeBias(2, num_buckets=1, bidirectional=False), "num_buckets: expected at least 2, got 1"),
        (lambda: T5RelativeBias(2, max_distance=8), "max_distance: expected at least 9, got 8"),
        (lambda: T5RelativeBias(2, max_distance=16, bidirectional=False), "max_distance: expected at least 17, got 16"),
        (lambda: T5RelativeBias(2)(0), "L: expected at least 1, got 0"),
        (lambda: T5RelativeBias(2)(3, 0), "S: expected at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sinusoidal(3.0, 4), "length: expected a whole number, got float"),
        (lambda: sinusoidal(3, 4, base="10000"), "base: expected a number, got str"),
        (lambda: Learned(3, 4)(1, 0.0), "offset: expected a whole number, got float"),
        (lambda: Rotary(4, scaling=None), "scaling: expected a number, or .*, got NoneType"),
        (lambda: Rotary(4)(torch.ones(3, 4), 0.5), "offset: expected a whole number, got float"),
        (lambda: Rotary(4)(torch.ones(3, 4).long()), "x: expected a floating-point tensor, got torch.int64"),
        (lambda: alibi_slopes(2.0), "num_heads: expected a whole number, got float"),
        (lambda: alibi(2, 3, dtype=torch.int64), "dtype: expected a floating-point dtype, got torch.int64"),
        (lambda: alibi(2, 3, dtype="float32"), "dtype: expected a floating-point dtype, got float32"),
        (lambda: T5RelativeBias(2, max_distance=9.5), "max_distance: expected a whole number, got float"),
        (lambda: T5RelativeBias(2)(3, 4.0), "S: expected a whole number, got float"),
    ],
)
def test_types_that_cannot_be_are_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_wrong_argument_is_refused_before_any_arithmetic():
    x, rotary, t5 = torch.ones(3, 6), Rotary(4), T5RelativeBias(2)
    for call in (lambda: rotary(x), lambda: t5(3, 0), lambda: alibi(2, 3, 0), lambda: sinusoidal(2, 3, base=0)):
        with NoArithmetic(), pytest.raises(ValueError, match="expected"):
            call()


def test_an_offset_may_be_a_number_in_a_tensor_that_changes():
    x, offset, rotary = draw(L, WIDTH), torch.tensor(-2), Rotary(WIDTH)
    assert torch.equal(rotary(x, offset), rotary(x, -2))
    offset += 9
    assert torch.equal(rotary(x, offset), rotary(x, 7))


def test_modules_say_what_they_are():
    assert repr(Rotary(4, scaling=2)) == "Rotary(d_k=4, base=10000.0, scaling=2, layout='half-split')"
    assert repr(Learned(3, 4)) == "Learned(max_length=3, d_model=4)"
    t5 = "T5RelativeBias(num_heads=2, num_buckets=32, max_distance=128, bidirectional=True)"
    assert repr(T5RelativeBias(2)) == t5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_sinusoids_of_a_dtype_are_exact_in_it(dtype):
    exact = sinusoidal(11, 6, offset=1000, dtype=torch.float64)
    angles = [[position / 10_000 ** (2 * i / 6) for i in range(3)] for position in range(1000, 1011)]
    expected = [[f(angle) for angle in row for f in (math.sin, math.cos)] for row in angles]
    assert_close(exact, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(sinusoidal(11, 6, offset=1000, dtype=dtype), exact.to(dtype))


def test_rotary_rounds_half_precision_once():
    x = torch.randn(11, 8, dtype=torch.bfloat16)
    rotary = positions.Rotary(8)
    assert torch.equal(rotary(x), rotary(x.float()).bfloat16())
