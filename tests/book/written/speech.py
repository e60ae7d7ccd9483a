"""The probability of a text: the sum over all paths that collapse to it."""

import itertools
import math

import torch
from torch.nn import functional as F

LABEL = "ex-speech-paths"
NAME = "probability"


def check(function):
    generator = torch.Generator().manual_seed(0)
    for T, text in ((4, [0]), (5, [0, 1]), (5, [1, 1]), (6, [0, 0, 1]), (1, [1]), (3, [])):
        log_p = torch.randn(T, 3, generator=generator, dtype=torch.float64).log_softmax(-1)
        loss = F.ctc_loss(log_p[:, None], torch.tensor([text]) + 1, [T], [len(text)], reduction="sum")
        found = function(log_p.exp(), text)
        assert found is not None, "nothing was returned"
        right = (-loss).exp().item()
        assert math.isclose(float(found), right, rel_tol=1e-9), f"{text} in {T} tokens: {right:.4f}, got {found:.4f}"


def _repeats_out(path):
    return [now for now, _ in itertools.groupby(path)]


def _collapse(path):
    return [now - 1 for now in _repeats_out(path) if now]


def _wrong(*, collapse=_collapse, of_path=math.prod, total=sum, wanted=lambda text: text):
    """What the exercise wants, with one thing spoilt."""

    def probability(p, text):
        paths = itertools.product(range(p.shape[1]), repeat=len(p))
        kept = [path for path in paths if collapse(list(path)) == wanted(text)]
        return float(total([of_path([p[t, now].item() for t, now in enumerate(path)]) for path in kept] or [0.0]))

    return probability


WRONG = {
    "blanks out first": _wrong(collapse=lambda path: [now - 1 for now in _repeats_out([now for now in path if now])]),
    "repeats stay": _wrong(collapse=lambda path: [now - 1 for now in path if now]),
    "blanks stay": _wrong(collapse=lambda path: [now - 1 for now in _repeats_out(path)]),
    "the last class is the blank": _wrong(collapse=lambda path: [now for now in _repeats_out(path) if now != 2]),
    "digits not moved": _wrong(collapse=lambda path: [now for now in _repeats_out(path) if now]),
    "the best path only": _wrong(total=max),
    "the mean of the paths": _wrong(total=lambda found: sum(found) / len(found)),
    "the number of paths": _wrong(total=lambda found: len(found)),
    "probabilities added along a path": _wrong(of_path=sum),
    "the logarithm": _wrong(total=lambda found: math.log(sum(found) or 1.0)),
    "any order of the text": _wrong(collapse=lambda path: sorted(_collapse(path)), wanted=sorted),
    "texts that begin so": lambda p, text: sum(
        math.prod(p[t, now].item() for t, now in enumerate(path))
        for path in itertools.product(range(p.shape[1]), repeat=len(p))
        if _collapse(path)[: len(text)] == text
    ),
}
