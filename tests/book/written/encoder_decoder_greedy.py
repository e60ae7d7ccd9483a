"""Greedy search for one text."""

import numpy as np
import torch

LABEL = "ex-encoder-decoder-greedy"
NAME = "greedy"

VOCAB = 11
LONGEST = 13


def check(function):
    # For each seed a model whose next token depends on all that is written, in its order.
    lengths = set()
    for seed in range(40):
        for start, end in ((0, 1), (7, 3), (5, 5)):  # the last one begins and ends a text with the same sign
            for max_length in (LONGEST, 2, 1):
                model = _Model(seed, start, end, max_length)
                found = function(model, start, end, max_length)
                assert isinstance(found, list), f"expected a list of tokens, got {type(found).__name__}"
                right = model.right()
                case = f"start {start}, end {end}, at most {max_length} tokens"
                assert list(map(int, found)) == right, f"{case}: expected {right}, got {found}"
                lengths.add((len(right), max_length))
    assert {(0, LONGEST), (1, LONGEST), (LONGEST, LONGEST), (2, 2), (1, 1)} <= lengths


class _Model:
    """Logits (1, T, vocab) for tokens (1, T); all places but the last want something else."""

    def __init__(self, seed, start, end, max_length):
        self.seed, self.start, self.end, self.max_length = seed, start, end, max_length
        self.read = []

    def logits(self, tokens):
        """What comes after these tokens: all numbers are below zero."""
        generator = np.random.default_rng([self.seed, *tokens])
        logits = generator.normal(size=VOCAB)
        # Some models end seldom, others soon.
        logits[self.end] += (-2.0, 0.0, 0.6, 3.0)[self.seed % 4]
        return logits - 20.0

    def __call__(self, tokens):
        assert isinstance(tokens, torch.Tensor), f"a model reads a tensor, got {type(tokens).__name__}"
        assert tokens.dtype == torch.long, f"tokens are whole numbers, got {tokens.dtype}"
        assert tokens.ndim == 2, f"a model reads (1, T), got {tuple(tokens.shape)}"
        assert len(tokens) == 1, f"a model reads (1, T), got {tuple(tokens.shape)}"
        written = tokens[0].tolist()
        assert written[:1] == [self.start], f"what a model reads begins with the start sign, got {written}"
        assert self.end not in written[1:], f"the text has ended, and the model is asked again: {written}"
        assert len(written) <= self.max_length, f"at most {self.max_length} tokens, and it reads {written}"
        self.read.append(written)
        assert len(self.read) <= self.max_length, f"at most {self.max_length} tokens, and it is asked again: {written}"
        places = [-self.logits([*written[: place + 1], VOCAB]) for place in range(len(written) - 1)]
        return torch.tensor(np.stack([*places, self.logits(written)])[None])

    def right(self):
        """The likeliest token after what stands, one after the other."""
        written = []
        for _ in range(self.max_length):
            logits = self.logits([self.start, *written]).tolist()
            token = max(range(VOCAB), key=lambda token: logits[token])
            if token == self.end:
                break
            written.append(token)
        return written


def _wrong(
    *,
    choose=lambda logits: int(logits[0, -1].argmax()),
    reads=lambda tokens: tokens,
    ends=lambda token, end: token == end,
    most=lambda max_length: max_length,
    keeps_end=False,
    returned=lambda tokens, start, end: tokens[1:],
):
    """What the exercise wants, with one thing spoilt."""

    def greedy(model, start, end, max_length):
        tokens = [start]
        for _ in range(most(max_length)):
            token = choose(model(torch.tensor([reads(tokens)])))
            if ends(token, end) and not keeps_end:
                break
            tokens.append(token)
            if ends(token, end):
                break
        return returned(tokens, start, end)

    return greedy


def _drawn(logits):
    return int(torch.multinomial(logits[0, -1].softmax(-1), 1, generator=torch.Generator().manual_seed(0)))


def _cut_at_end(tokens, start, end):
    return tokens[1 : tokens.index(end, 1)] if end in tokens[1:] else tokens[1:]


def _all_at_once(model, start, end, max_length):
    """It reads its own answers for all places again, as teacher forcing would."""
    tokens = [start]
    for _ in range(max_length):
        tokens = [start, *model(torch.tensor([tokens]))[0].argmax(-1).tolist()]
        if end in tokens[1:]:
            break
    return _cut_at_end(tokens, start, end)


WRONG = {
    "the first place": _wrong(choose=lambda logits: int(logits[0, 0].argmax())),
    "the likeliest over all places": _wrong(choose=lambda logits: int(logits[0].max(0).values.argmax())),
    "the place, not the token": _wrong(choose=lambda logits: int(logits[0].argmax(0)[-1])),
    "the flat argmax": _wrong(choose=lambda logits: int(logits.argmax())),
    "the least likely": _wrong(choose=lambda logits: int(logits[0, -1].argmin())),
    "the largest size": _wrong(choose=lambda logits: int(logits[0, -1].abs().argmax())),
    "drawn": _wrong(choose=_drawn),
    "reads only the newest token": _wrong(reads=lambda tokens: tokens[-1:]),
    "reads only the start": _wrong(reads=lambda tokens: tokens[:1]),
    "reads without the start": _wrong(reads=lambda tokens: tokens[1:] or tokens),
    "reads the newest first": _wrong(reads=lambda tokens: tokens[::-1]),
    "never ends": _wrong(ends=lambda token, end: False),
    "writes on and cuts": _wrong(ends=lambda token, end: False, returned=_cut_at_end),
    "ends at the start sign": _wrong(ends=lambda token, end: token == 0),
    "the end is kept": _wrong(keeps_end=True),
    "the start is kept": _wrong(returned=lambda tokens, start, end: tokens),
    "every start sign is taken out": _wrong(returned=lambda tokens, start, end: [t for t in tokens if t != start]),
    "one token too few": _wrong(most=lambda max_length: max_length - 1),
    "one token too many": _wrong(most=lambda max_length: max_length + 1),
    "no limit": _wrong(most=lambda max_length: 1000),
    "all places written again": _all_at_once,
    "a tensor": _wrong(returned=lambda tokens, start, end: torch.tensor(tokens[1:])),
}
