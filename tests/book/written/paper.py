"""The cross-entropy with smoothed labels."""

import math

import torch
from torch.nn import functional as F

LABEL = "ex-paper-smoothed"
NAME = "smoothed_loss"


def check(function):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(5, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(7, (5,), generator=generator)
    for smoothing in (0.0, 0.1, 0.5):
        found = function(logits, target, smoothing)
        assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
        assert found.numel() == 1, f"expected one number, got the shape {tuple(found.shape)}"
        right = _by_hand(logits.tolist(), target.tolist(), smoothing)
        error = f"smoothing {smoothing}: expected {right:.4f}, got {found.item():.4f}"
        assert math.isclose(found.item(), right, rel_tol=1e-9), error
    far = torch.tensor([[2000.0, 0.0, -2000.0]], dtype=torch.float64)
    found = function(far, torch.tensor([2]), 0.1).item()
    assert math.isclose(found, 0.9 * 4000 + 0.1 * 2000), f"large logits overflow, or are lost: got {found}"


def _by_hand(logits, target, smoothing):
    total = 0.0
    for row, right in zip(logits, target, strict=True):
        log_sum = math.log(sum(math.exp(logit) for logit in row))
        for token, logit in enumerate(row):
            share = smoothing / len(row) + (1 - smoothing) * (token == right)
            total += share * (log_sum - logit)
    return total / len(logits)


def _made(share, all_but_one=False, mean=True):
    def loss(logits, target, smoothing):
        losses = -logits.log_softmax(-1)
        right = losses.gather(1, target[:, None])[:, 0]
        even = (losses.sum(-1) - right) / (losses.shape[-1] - 1) if all_but_one else losses.mean(-1)
        parts = share(smoothing) * right + smoothing * even
        return parts.mean() if mean else parts.sum()

    return loss


WRONG = {
    "not smoothed": lambda logits, target, smoothing: F.cross_entropy(logits, target),
    "the right token gets no part of the even share": _made(lambda s: 1 - s, all_but_one=True),
    "the right token keeps all": _made(lambda s: 1.0),
    "a sum over the tokens": _made(lambda s: 1 - s, mean=False),
    "the shares swapped": lambda logits, target, smoothing: _made(lambda s: 1 - s)(logits, target, 1 - smoothing),
    "a softmax whose logarithm overflows": lambda logits, target, smoothing: (
        -(
            (1 - smoothing) * logits.softmax(-1).log().gather(1, target[:, None])[:, 0]
            + smoothing * logits.softmax(-1).log().mean(-1)
        ).mean()
    ),
}
