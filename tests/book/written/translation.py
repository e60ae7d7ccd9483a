"""Beam search for one text."""

import itertools
import math

import numpy as np
import torch

LABEL = "ex-translation-beam"
NAME = "beam_search"


def check(function):
    seen = set()
    for vocab, longest, beams in ((7, 6, (1, 2, 4)), (4, 3, (1, 64))):
        for seed, beam in itertools.product(range(12), beams):
            model = _Model(seed, vocab, longest)
            found = function(model, 0, 1, beam, longest)
            assert isinstance(found, list), f"expected a list of tokens, got {type(found).__name__}"
            right = _best_of_all(model) if beam == 64 else _search(model, beam)
            case = f"{vocab} tokens, at most {longest} of them, {beam} beginnings"
            assert list(map(int, found)) == right, f"{case}: expected {right}, got {found}"
            seen.add((beam, len(right) == longest))
    assert {(1, True), (1, False), (2, True), (4, False), (64, False)} <= seen


class _Model:
    """Logits (1, T, vocab) of what comes after tokens (1, T), for a text that begins with 0 and ends with 1."""

    def __init__(self, seed, vocab, longest):
        self.seed, self.vocab, self.longest = seed, vocab, longest

    def logits(self, written):
        logits = np.random.default_rng([self.seed, *written]).normal(scale=1.5, size=self.vocab)
        logits[1] += (-9.0, -1.5, 0.0)[self.seed % 3]  # some texts end never, some late, some at once
        return logits

    def log_p(self, written):
        logits = self.logits(written)
        return logits - math.log(sum(math.exp(logit) for logit in logits))

    def __call__(self, tokens):
        assert tokens.dtype == torch.long, f"tokens are whole numbers, got {tokens.dtype}"
        assert tokens.ndim == 2, f"a model reads (1, T), got {tuple(tokens.shape)}"
        rows = tokens.tolist()
        for row in rows:
            assert row[0] == 0, f"what a model reads begins with the start sign, got {row}"
            assert 1 not in row, f"the text has ended, and the model is asked again: {row}"
            assert len(row) <= self.longest, f"at most {self.longest} tokens, and it reads {row}"
        return torch.tensor(np.stack([[self.logits(row[: i + 1]) for i in range(len(row))] for row in rows]))


def _best_of_all(model):
    """With room for every beginning: the likeliest of all texts that end in time; of all, where none does."""
    ended = {}
    for length in range(model.longest):
        for text in itertools.product([0, *range(2, model.vocab)], repeat=length):
            ended[text] = _log_p(model, [*text, 1])
    return list(max(ended, key=ended.get))


def _search(model, beam):
    """Step by step, all beginnings side by side, and without stopping early."""
    alive, ended = [((), 0.0)], []
    for _ in range(model.longest):
        longer = {(*text, token): _log_p(model, [*text, token]) for text, _ in alive for token in range(model.vocab)}
        best = sorted(longer.items(), key=lambda item: -item[1])[:beam]
        ended += [(text[:-1], score) for text, score in best if text[-1] == 1]
        alive = [(text, score) for text, score in best if text[-1] != 1]
    return list(max(ended or alive, key=lambda item: item[1])[0])


def _log_p(model, text):
    return sum(model.log_p([0, *text[:place]])[token] for place, token in enumerate(text))


def _wrong(
    *,
    add=lambda score, more, written: score + more,
    p=lambda logits: logits.log_softmax(-1),
    choose=lambda candidates, beam: sorted(candidates, reverse=True)[:beam],
    answer=lambda ended, alive: max(ended or alive)[1],
    cut=lambda tokens, end: [token for token in tokens[1:] if token != end],
    first=False,
    place=-1,
):
    """What the exercise wants, with one thing spoilt."""

    def beam_search(model, start, end, beam, max_length):
        alive, ended = [(0.0, [start])], []
        for _ in range(max_length):
            candidates = []
            for score, tokens in alive:
                values = p(model(torch.tensor([tokens]))[0, place]).tolist()
                candidates += [(add(score, more, tokens), [*tokens, word]) for word, more in enumerate(values)]
            kept = choose(candidates, beam)
            ended += [found for found in kept if found[1][-1] == end]
            alive = [found for found in kept if found[1][-1] != end]
            if not alive or (first and ended):
                break
        return cut(answer(ended, alive), end)

    return beam_search


def _best_words_of_each(candidates, beam):
    """Every beginning keeps its best word, and none of a sibling's."""
    groups = {}
    for score, tokens in candidates:
        groups.setdefault(tuple(tokens[:-1]), []).append((score, tokens))
    if len(groups) == 1:
        return sorted(candidates, reverse=True)[:beam]
    return sorted(max(group) for group in groups.values())[::-1][:beam]


WRONG = {
    "greedy whatever the beam": _wrong(choose=lambda candidates, beam: sorted(candidates, reverse=True)[:1]),
    "only the newest word counts": _wrong(add=lambda score, more, written: more),
    "probabilities added": _wrong(p=lambda logits: logits.softmax(-1)),
    "logits added": _wrong(p=lambda logits: logits),
    "multiplied logarithms": _wrong(add=lambda score, more, written: (score or 1.0) * more),
    "the unlikeliest": _wrong(choose=lambda candidates, beam: sorted(candidates)[:beam]),
    "the first that ends": _wrong(first=True),
    "one beginning too few": _wrong(choose=lambda candidates, beam: sorted(candidates, reverse=True)[: beam - 1 or 1]),
    "each beginning goes on once": _wrong(choose=_best_words_of_each),
    "the best that has not ended": _wrong(answer=lambda ended, alive: max(alive or ended)[1]),
    "the shortest": _wrong(answer=lambda ended, alive: min(ended or alive, key=lambda found: len(found[1]))[1]),
    "ended or not, the likelier": _wrong(answer=lambda ended, alive: max(ended + alive)[1]),
    "divided by the length": _wrong(
        answer=lambda ended, alive: max(ended or alive, key=lambda found: found[0] / len(found[1]))[1]
    ),
    "start kept": _wrong(cut=lambda tokens, end: [token for token in tokens if token != end]),
    "end kept": _wrong(cut=lambda tokens, end: tokens[1:]),
    "the first place is asked": _wrong(place=0),
}
