"""Logits that are warped, against Hugging Face's warpers."""

import itertools
import math

import pytest
import torch

from attnlib.transformer import warp_logits

ROWS, VOCAB = 7, 29
WRONG = [
    ({"temperature": 0}, ValueError, "temperature: expected a number above 0, got 0; .* use greedy_search"),
    ({"temperature": -1.5}, ValueError, "temperature: expected a number above 0, got -1.5"),
    ({"temperature": math.nan}, ValueError, "temperature: expected a finite number, got nan"),
    ({"temperature": "1"}, TypeError, "temperature: expected a number, got str"),
    ({"temperature": 1e-50}, ValueError, "temperature: expected 1.2e-38 to 3.4e.38, got 1e-50"),
    ({"temperature": 1e50}, ValueError, "temperature: expected 1.2e-38 to 3.4e.38, got 1e.50"),
    ({"top_k": 0}, ValueError, "top_k: expected at least 1, got 0"),
    ({"top_k": VOCAB + 1}, ValueError, "top_k: expected at most the .* tokens of the vocabulary, got 30"),
    ({"top_k": 2.0}, TypeError, "top_k: expected a whole number, got float"),
    ({"top_p": 0.0}, ValueError, r"top_p: expected a probability in \(0, 1\], got 0.0"),
    ({"top_p": 1.1}, ValueError, r"top_p: expected a probability in \(0, 1\], got 1.1"),
    ({"top_p": None}, TypeError, "top_p: expected a number, got NoneType"),
]


@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5])
@pytest.mark.parametrize(("top_k", "top_p"), [*itertools.product([None, 1, 5, VOCAB], [1.0, 0.9, 0.3, 0.01])])
def test_logits_are_warped_as_hugging_face_does(temperature, top_k, top_p):
    process = pytest.importorskip("transformers.generation.logits_process")
    logits = torch.randn(ROWS, VOCAB, dtype=torch.float64) * 2
    expected = process.TemperatureLogitsWarper(temperature)(None, logits)
    if top_k is not None:
        expected = process.TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = process.TopPLogitsWarper(top_p)(None, expected)
    found = warp_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    assert torch.equal(found.isinf(), expected.isinf())
    torch.testing.assert_close(found.softmax(-1), expected.softmax(-1), rtol=1e-12, atol=0)
    assert (found.amax(-1) == 0).all()


def test_the_smallest_set_that_has_the_probability_stays():
    """Oracle: tokens are added, likeliest first, until they have it."""
    logits = torch.randn(ROWS, VOCAB, dtype=torch.float64) * 2
    for row, warped in zip(logits, warp_logits(logits, top_p=0.8), strict=True):
        ordered = sorted(enumerate(row.softmax(-1).tolist()), key=lambda pair: -pair[1])
        kept, total = set(), 0.0
        while total < 0.8:
            token, probability = ordered[len(kept)]
            kept, total = kept | {token}, total + probability
        assert set(warped.isfinite().nonzero().flatten().tolist()) == kept


def test_what_has_the_probability_exactly_is_enough_and_one_token_always_stays():
    logits = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64).log()
    assert warp_logits(logits, top_p=0.5).isfinite().tolist() == [False, True, False]
    assert warp_logits(logits, top_p=0.51).isfinite().sum() == 2
    assert warp_logits(logits, top_p=1e-30).isfinite().tolist() == [False, True, False]


def test_each_row_is_warped_by_itself_whatever_the_axes():
    logits = torch.randn(2, 3, VOCAB, dtype=torch.float64) * 2
    how = {"temperature": 0.8, "top_k": 11, "top_p": 0.7}
    found = warp_logits(logits, **how)
    for i, j in itertools.product(range(2), range(3)):
        torch.testing.assert_close(found[i, j], warp_logits(logits[i, j], **how))
    assert len(set(found.isfinite().sum(-1).flatten().tolist())) > 1


def test_equally_likely_tokens_stay_together():
    assert warp_logits(torch.tensor([1.0, 3.0, 1.0, 0.0]), top_k=2).isfinite().tolist() == [True, True, True, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_warped_in_float32(dtype):
    logits = torch.randn(3, 5, VOCAB).to(dtype)
    found = warp_logits(logits, temperature=0.7, top_p=0.9)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, warp_logits(logits.float(), temperature=0.7, top_p=0.9))


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        (torch.arange(3), TypeError, "logits: expected a floating-point tensor, got torch.int64"),
        ([1.0], TypeError, "logits: expected a floating-point tensor, got list"),
        (torch.zeros(3, 0), ValueError, r"logits: expected \(…, vocab\), got \(3, 0\)"),
        (torch.tensor(1.0), ValueError, r"logits: expected \(…, vocab\), got \(\)"),
    ],
)
def test_what_is_no_logits_is_refused(logits, error, message):
    with pytest.raises(error, match=message):
        warp_logits(logits)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(wrong):
    logits = torch.zeros(ROWS, VOCAB)
    logits[1, 2] = wrong
    with pytest.raises(ValueError, match="logits: expected rows whose largest is a finite number, got NaN or inf"):
        warp_logits(logits)
    with pytest.raises(ValueError, match="logits: expected rows whose largest is a finite number"):
        warp_logits(torch.full((ROWS, VOCAB), -math.inf))
    logits[1] = -math.inf  # beside rows that are finite
    with pytest.raises(ValueError, match="logits: expected rows whose largest is a finite number"):
        warp_logits(logits)


@pytest.mark.parametrize("temperature", [torch.finfo(torch.float32).tiny, 0.5, 1e38])
def test_what_must_not_be_drawn_stays_so_at_any_temperature(temperature):
    found = warp_logits(torch.tensor([1.0, -math.inf, 3.0]), temperature=temperature, top_p=0.999)
    assert found[1] == -math.inf
    assert found[2] == 0
    assert found.softmax(-1).isfinite().all()


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_what_cannot_be_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        warp_logits(torch.zeros(ROWS, VOCAB), **arguments)
