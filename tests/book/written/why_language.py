"""An induction head, written by hand."""

import numpy as np
import torch

LABEL = "ex-language-write"
NAME = "induction"

VOCAB = 5
TEXTS = [[0, 1, 2, 0], [0, 0, 0, 1, 0, 2], [3, 1, 4, 1, 0, 1, 4, 3, 3, 2, 1], [2]]


def check(function):
    for text in TEXTS:
        found = function(torch.eye(VOCAB, dtype=torch.float64)[text])
        assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
        assert tuple(found.shape) == (len(text), VOCAB), f"expected {(len(text), VOCAB)}, got {tuple(found.shape)}"
        for i, token in enumerate(text):
            after = [text[j + 1] for j in range(i) if text[j] == token]
            right = np.bincount(after, minlength=VOCAB) / max(len(after), 1)
            said = f"{text}, place {i}: after {token} came {after} so far"
            np.testing.assert_allclose(found[i].numpy(), right, atol=1e-12, err_msg=said)


def _before(x):
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def _wrong(
    *,
    keys=_before,
    mask=torch.tril,
    weigh=lambda match: match / match.sum(-1, keepdim=True).clamp(min=1),
    values=lambda x: x,
    queries=lambda x: x,
):
    """What the exercise wants, with one thing spoilt."""
    return lambda x: weigh(mask(queries(x) @ keys(x).T)) @ values(x)


def _newest(match):
    places = torch.arange(match.shape[1]) + 1
    newest = (match * places).argmax(-1)
    return torch.eye(match.shape[1], dtype=match.dtype)[newest] * match.any(-1, keepdim=True)


WRONG = {
    "no first layer": _wrong(keys=lambda x: x),
    "keys look forward": _wrong(keys=lambda x: torch.cat([x[1:], torch.zeros_like(x[:1])])),
    "the first token comes after the last": _wrong(keys=lambda x: x.roll(1, 0)),
    "the first token comes after itself": _wrong(keys=lambda x: torch.cat([x[:1], x[:-1]])),
    "keys look back by two": _wrong(keys=lambda x: _before(_before(x))),
    "the future is seen": _wrong(mask=lambda match: match),
    "oneself is not seen": _wrong(mask=lambda match: match.tril(-1)),
    "the sum, not the mean": _wrong(weigh=lambda match: match),
    "nan where there is none": _wrong(weigh=lambda match: match / match.sum(-1, keepdim=True)),
    "a softmax over zeros and ones": _wrong(weigh=lambda match: match.softmax(-1)),
    "a softmax, zeros closed": _wrong(weigh=lambda match: match.masked_fill(match == 0, -torch.inf).softmax(-1)),
    "what stood before, not after": _wrong(values=_before),
    "the token before asks": _wrong(queries=_before),
    "the last time only": _wrong(weigh=_newest),
}
