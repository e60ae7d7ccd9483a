"""Logits that are warped, against Hugging Face's warpers."""

import itertools

import pytest
import torch

from attnlib.transformer import warp_logits

ROWS, VOCAB = 7, 29


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
