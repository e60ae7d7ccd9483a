"""The best span of at most two words inside a sentence."""

import torch

LABEL = "ex-question-answering-span"
NAME = "best_span"

NUMBER = [0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 3]  # the sentence of each word
MOST = 2


def check(function):
    generator = torch.Generator().manual_seed(0)
    words = range(len(NUMBER))
    legal = [(s, e) for s in words for e in words if s <= e < s + MOST and NUMBER[s] == NUMBER[e]]
    for low in (0.0, -50.0):  # scores need not be above zero
        for _ in range(100):
            scores = torch.randn(2, len(NUMBER), generator=generator, dtype=torch.float64) + low
            rows = scores.tolist()
            start, end = map(int, function(scores, torch.tensor(NUMBER)))
            assert end >= start, "the end stands before the start"
            assert end < start + MOST, "no answer has more than two words"
            assert NUMBER[start] == NUMBER[end], "the span runs over the end of a sentence"
            best = max(legal, key=lambda span: rows[0][span[0]] + rows[1][span[1]])
            assert (start, end) == best, "legal, but not the best: its two scores, added, are not the largest"


def _wrong(*, both=lambda s: s[0][:, None] + s[1], legal=lambda gap, same: (gap >= 0) & (gap < MOST) & same, fill=None):
    """What the exercise wants, with one thing spoilt."""

    def best_span(scores, number):
        place = torch.arange(len(number))
        open_ = legal(place - place[:, None], number[:, None] == number)
        table = both(scores)
        table = table.masked_fill(~open_, -torch.inf) if fill is None else table * open_
        return divmod(table.argmax().item(), len(number))

    return best_span


def _start_first(scores, number):
    start = int(scores[0].argmax())
    ends = [e for e in range(start, min(start + MOST, len(number))) if number[e] == number[start]]
    return start, max(ends, key=lambda e: scores[1, e])


def _end_first(scores, number):
    end = int(scores[1].argmax())
    starts = [s for s in range(max(0, end - MOST + 1), end + 1) if number[s] == number[end]]
    return max(starts, key=lambda s: scores[0, s]), end


WRONG = {
    "each by itself": lambda scores, number: scores.argmax(-1),
    "sorted afterwards": lambda scores, number: scores.argmax(-1).sort().values,
    "the best start, then an end": _start_first,
    "the best end, then a start": _end_first,
    "over the end of a sentence": _wrong(legal=lambda gap, same: (gap >= 0) & (gap < MOST)),
    "of any length": _wrong(legal=lambda gap, same: (gap >= 0) & same),
    "one word too long": _wrong(legal=lambda gap, same: (gap >= 0) & (gap <= MOST) & same),
    "one word only": _wrong(legal=lambda gap, same: (gap == 0) & same),
    "two words only": _wrong(legal=lambda gap, same: (gap == 1) & same),
    "turned round": _wrong(legal=lambda gap, same: (gap <= 0) & (gap > -MOST) & same),
    "starts and ends exchanged": _wrong(both=lambda s: s[1][:, None] + s[0]),
    "scores multiplied": _wrong(both=lambda s: s[0][:, None] * s[1]),
    "closed cells are zero": _wrong(fill=0),
}
