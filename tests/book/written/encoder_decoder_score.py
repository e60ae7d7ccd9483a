"""The logarithm of the probability of whole targets."""

import numpy as np
import torch

LABEL = "ex-encoder-decoder-score"
NAME = "score"

PAD, START, END, VOCAB = 0, 1, 2, 11
SOURCES = [[3, 4, 5], [5, 3, 7], [6, 6, 6], [9, 8, 3]]
TARGETS = [[1, 4, 7, 2, 0, 0], [1, 9, 2, 0, 0, 0], [1, 5, 5, 8, 3, 2], [1, 2, 0, 0, 0, 0]]


class _Model:
    """Logits (B, L, vocab) for sources (B, S) and tokens (B, L): at each place they hang on all that stands before."""

    def eval(self):
        return self

    def __call__(self, source, tokens):
        assert tokens.dtype == torch.long, f"tokens are whole numbers, got {tokens.dtype}"
        assert (tokens[:, 0] == START).all(), "what a model reads begins with the start sign"
        rows = zip(source.tolist(), tokens.tolist(), strict=True)
        return torch.tensor(np.stack([[_logits(s, t[: i + 1]) for i in range(len(t))] for s, t in rows]))


def _logits(source, written):
    return np.random.default_rng([*source, 99, *written]).normal(scale=2, size=VOCAB)


def check(function):
    found = function(_Model(), torch.tensor(SOURCES), torch.tensor(TARGETS))
    assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
    assert tuple(found.shape) == (len(TARGETS),), f"expected one number a row, (4,), got {tuple(found.shape)}"
    for row, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        right = 0.0
        for place in range(1, target.index(END) + 1):
            logits = _logits(source, target[:place])
            right += logits[target[place]] - np.log(np.exp(logits).sum())
        said = f"row {row}: not the sum of log P of all its tokens, the end counted, padding not"
        np.testing.assert_allclose(found[row].item(), right, rtol=1e-9, err_msg=said)


def _wrong(*, read=lambda t: t[:, :-1], asked=lambda t: t[:, 1:], real=lambda a: a != PAD, total=None, p=None):
    """What the exercise wants, with one thing spoilt."""

    def score(model, source, target):
        log_p = (p or (lambda logits: logits.log_softmax(-1)))(model(source, read(target)))
        of_asked = log_p.gather(-1, asked(target)[..., None])[..., 0]
        counted = real(asked(target))
        return (total or (lambda terms, counted: (terms * counted).sum(-1)))(of_asked, counted)

    return score


WRONG = {
    "places that only fill up are counted": _wrong(real=lambda asked: asked == asked),
    "the end is not counted": _wrong(real=lambda asked: (asked != PAD) & (asked != END)),
    "the mean over the places": _wrong(total=lambda terms, counted: (terms * counted).sum(-1) / counted.sum(-1)),
    "P, not its logarithm": _wrong(total=lambda terms, counted: (terms * counted).sum(-1).exp()),
    "one number for all": _wrong(total=lambda terms, counted: (terms * counted).sum()),
    "the loss": _wrong(total=lambda terms, counted: -(terms * counted).sum(-1)),
    "no shift": _wrong(read=lambda t: t, asked=lambda t: t),
    "asked one place too far": _wrong(read=lambda t: t[:, :-2], asked=lambda t: t[:, 2:]),
    "no softmax": _wrong(p=lambda logits: logits),
    "P added up": _wrong(p=lambda logits: logits.softmax(-1)),
    "a softmax over the places": _wrong(p=lambda logits: logits.log_softmax(1)),
    "the likeliest tokens instead of the target's": lambda model, source, target: (
        model(source, target[:, :-1]).log_softmax(-1).amax(-1) * (target[:, 1:] != PAD)
    ).sum(-1),
}
