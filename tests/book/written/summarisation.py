"""Which share of a word's probability was pointed, and not written."""

import numpy as np
import torch

LABEL = "ex-summarisation-origin"
NAME = "origin"

B, L, S, KNOWN = 2, 3, 7, 11


def check(function):
    generator = np.random.default_rng(0)
    known, weights = generator.random((B, L, KNOWN)), generator.random((B, L, S))
    known, weights = known / known.sum(-1, keepdims=True), weights / weights.sum(-1, keepdims=True)
    gate = generator.random((B, L, 1))
    report = np.array([[7, KNOWN, 7, 9, 3, 3, 3], [KNOWN, 2, 9, KNOWN + 1, KNOWN, 7, 0]])  # KNOWN and more: new words
    for word in (7, 9, 3, KNOWN, 10):
        found = function(*map(torch.tensor, (known, weights, gate, report)), word)
        assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
        assert tuple(found.shape) == (B, L), f"expected (B, L) = {(B, L)}, got {tuple(found.shape)}"
        for b, i in np.ndindex(B, L):
            pointed = sum(gate[b, i, 0] * weights[b, i, j] for j in range(S) if report[b, j] == word)
            written = (1 - gate[b, i, 0]) * known[b, i, word] if word < KNOWN else 0.0
            said = f"report {b}, place {i}, word {word}: not what was pointed, of all that the word got"
            np.testing.assert_allclose(found[b, i].item(), pointed / (pointed + written), rtol=1e-9, err_msg=said)


def _wrong(
    *,
    here=lambda report, word: (report == word)[:, None],
    pointed=lambda gate, weights, here: gate[..., 0] * (weights * here).sum(-1),
    written=lambda gate, known: (1 - gate[..., 0]) * known,
    share=lambda pointed, written: pointed / (pointed + written),
):
    """What the exercise wants, with one thing spoilt."""

    def origin(known, weights, gate, report, word):
        by_pointing = pointed(gate, weights, here(report, word))
        own = known[..., word] if word < known.shape[-1] else torch.zeros_like(gate[..., 0])
        return share(by_pointing, written(gate, own))

    return origin


def _first(report, word):
    found = (report == word).double()
    return (found * (found.cumsum(-1) == 1))[:, None]


WRONG = {
    "the gate": lambda known, weights, gate, report, word: gate[..., 0],
    "all that points, whatever the word": _wrong(here=lambda report, word: torch.ones_like(report)[:, None]),
    "the first place only": _wrong(here=_first),
    "no division": _wrong(share=lambda pointed, written: pointed),
    "divided by what was written": _wrong(share=lambda pointed, written: pointed / written.clamp(min=1e-9)),
    "what was written": _wrong(share=lambda pointed, written: written / (pointed + written)),
    "the gate turned round": _wrong(
        pointed=lambda gate, weights, here: (1 - gate[..., 0]) * (weights * here).sum(-1),
        written=lambda gate, known: gate[..., 0] * known,
    ),
    "without the gate": _wrong(
        pointed=lambda gate, weights, here: (weights * here).sum(-1), written=lambda gate, known: known
    ),
    "the gate at the pointer only": _wrong(written=lambda gate, known: known),
    "the largest weight": _wrong(pointed=lambda gate, weights, here: gate[..., 0] * (weights * here).amax(-1)),
    "the mean of the weights": _wrong(
        pointed=lambda gate, weights, here: gate[..., 0] * (weights * here).sum(-1) / here.sum(-1).clamp(min=1)
    ),
    "the report of the first text": _wrong(here=lambda report, word: (report[:1] == word)[:, None]),
}
