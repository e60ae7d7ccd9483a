"""Positions against the papers' formulas, complex numbers, and Hugging Face's Llama."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlib import KVCache, MultiHeadAttention, masks, positions
from attnlib.positions import Rotary, sinusoidal
from tests.oracles import D_MODEL, B, H, L, NoArithmetic, draw
from tests.tolerances import assert_close

WIDTH = 14


@pytest.mark.parametrize("d_model", [1, 2, 7, 16])
@pytest.mark.parametrize("base", [10_000, 500])
def test_sinusoidal_is_the_papers_formula(d_model, base):
    expected = [
        [
            math.sin(place / base ** (column / d_model))
            if column % 2 == 0
            else math.cos(place / base ** ((column - 1) / d_model))
            for column in range(d_model)
        ]
        for place in range(L)
    ]
    assert_close(sinusoidal(L, d_model, base=base), torch.tensor(expected))


def test_sinusoidal_stays_exact_far_from_the_start():
    last = sinusoidal(100_001, 4)[-1]
    expected = [math.sin(100_000), math.cos(100_000), math.sin(1000), math.cos(1000)]
    assert_close(last, torch.tensor(expected))


def test_sinusoidal_has_the_default_dtype():
    assert sinusoidal(2, 3).dtype == torch.float32


def complex_rotation(x, offset, base, interleaved):
    """Multiply each pair of columns, taken as a complex number, with e^(i·position·base^(−2i/d_k))."""
    x = x.numpy()
    half = x.shape[-1] // 2
    pairs = x[..., 0::2] + 1j * x[..., 1::2] if interleaved else x[..., :half] + 1j * x[..., half:]
    places = offset + np.arange(x.shape[-2])
    turned = pairs * np.exp(1j * places[:, None] * float(base) ** (-np.arange(half) / half))
    if interleaved:
        return torch.from_numpy(np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape))
    return torch.from_numpy(np.concatenate([turned.real, turned.imag], axis=-1))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("offset", [0, 3, 100_000, -2])
@pytest.mark.parametrize("base", [10_000, 500.0])
def test_rotary_multiplies_complex_numbers(interleaved, offset, base):
    x = draw(B, H, L, WIDTH)
    rotary = Rotary(WIDTH, base=base, interleaved=interleaved)
    assert_close(rotary(x, offset), complex_rotation(x, offset, base, interleaved))


def test_the_default_base_is_ten_thousand_and_the_default_pairs_are_halves():
    x = draw(L, WIDTH)
    assert_close(Rotary(WIDTH)(x), complex_rotation(x, 0, 10_000, interleaved=False))


def test_rotary_equals_hugging_faces_llama():
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(hidden_size=H * WIDTH, num_attention_heads=H)
    query, key = draw(B, H, L, WIDTH, dtype=torch.float32), draw(B, H, L, WIDTH, dtype=torch.float32)
    cos, sin = LlamaRotaryEmbedding(config)(query, torch.arange(L)[None])
    rotary = Rotary(WIDTH, base=config.rope_parameters["rope_theta"])
    for ours, theirs in zip((rotary(query), rotary(key)), apply_rotary_pos_emb(query, key, cos, sin), strict=True):
        assert_close(ours, theirs)


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 100_000), st.booleans())
def test_scores_depend_on_the_distance_alone(m, n, shift, interleaved):
    torch.manual_seed(0)
    query, key = draw(1, WIDTH), draw(1, WIDTH)
    rotary = Rotary(WIDTH, interleaved=interleaved)
    score = rotary(query, m) @ rotary(key, n).T
    assert_close(rotary(query, m + shift) @ rotary(key, n + shift).T, score)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_keeps_lengths_and_the_first_position(interleaved):
    x = draw(B, L, WIDTH)
    turned = Rotary(WIDTH, interleaved=interleaved)(x)
    assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, 0], x[:, 0])
    assert (turned[:, 1] != x[:, 1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_far_positions_keep_the_precision_of_the_dtype(dtype):
    x = draw(L, WIDTH).to(dtype)
    exact = Rotary(WIDTH)(x.double(), 100_000)
    turned = Rotary(WIDTH)(x, 100_000)
    assert turned.dtype == dtype
    assert_close(turned, exact.to(dtype))


def test_a_cast_to_half_precision_does_not_change_the_angles():
    x = draw(97, WIDTH).bfloat16()
    assert torch.equal(Rotary(WIDTH).to(torch.bfloat16)(x, 1000), Rotary(WIDTH)(x, 1000))


def test_rotary_has_nothing_to_save():
    assert not Rotary(WIDTH).state_dict()


@pytest.mark.parametrize("interleaved", [False, True])
def test_positions_go_on_under_a_cache(interleaved):
    layer = MultiHeadAttention(H, D_MODEL, WIDTH, 5, rotary=Rotary(WIDTH, interleaved=interleaved)).double().eval()
    x = draw(B, L, D_MODEL)
    cache = KVCache()
    steps = [layer(x[:, i : i + 1], mask=masks.causal(), cache=cache) for i in range(L)]
    assert_close(torch.cat(steps, dim=1), layer(x, mask=masks.causal()))


def test_a_module_with_rotary_knows_the_order_and_one_without_does_not():
    x = draw(B, L, D_MODEL)
    order = torch.tensor([2, 0, 1, 4, 3])
    for rotary in (Rotary(WIDTH), None):
        layer = MultiHeadAttention(H, D_MODEL, WIDTH, 5, rotary=rotary).double().eval()
        assert torch.allclose(layer(x[:, order]), layer(x)[:, order]) == (rotary is None)


def test_angles_are_made_where_they_are_used_unless_float64_is_missing_there():
    for device, made in (("meta", "meta"), ("mps", "cpu")):
        assert positions._angles(0, 3, 4, 10_000, torch.device(device)).device.type == made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sinusoidal(0, 4), "length: expected at least 1, got 0"),
        (lambda: sinusoidal(3, 0), "d_model: expected at least 1, got 0"),
        (lambda: sinusoidal(3, 4, base=0), "base: expected a number above 0, got 0"),
        (lambda: sinusoidal(3, 4, base=math.nan), "base: expected a number above 0, got nan"),
        (lambda: Rotary(7), "d_k: expected an even number of at least 2, got 7"),
        (lambda: Rotary(0), "d_k: expected at least 1, got 0"),
        (lambda: Rotary(4, base=-1), "base: expected a number above 0, got -1"),
        (lambda: Rotary(4)(torch.ones(3, 6)), r"x: expected \(…, L, d_k = 4\), got \(3, 6\)"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_wrong_width_is_refused_before_any_arithmetic():
    x, rotary = torch.ones(3, 6), Rotary(4)
    with NoArithmetic(), pytest.raises(ValueError, match="x: expected"):
        rotary(x)


def test_the_narrowest_rotary_turns_one_pair():
    assert_close(Rotary(2)(torch.tensor([[1.0, 0.0]]), 1), torch.tensor([[math.cos(1), math.sin(1)]]))


def test_a_base_below_one_is_a_base():
    x = draw(L, WIDTH)
    assert_close(Rotary(WIDTH, base=0.5)(x), complex_rotation(x, 0, 0.5, interleaved=False))


def test_a_sequence_and_a_width_of_one_are_enough():
    assert sinusoidal(1, 1).tolist() == [[0]]
