"""Write a target, token by token: greedily, or with a beam. Each token is projected once, through a cache."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from attnlib.checks import whole_number
from attnlib.masks import Mask
from attnlib.transformer.model import Transformer

__all__ = ["Hypothesis", "beam_search", "greedy_search"]


class Hypothesis(NamedTuple):
    """A target that a beam search found."""

    tokens: Tensor  # (L,), without start and end
    score: float  # log P(tokens, end | source), divided by the length penalty


@torch.no_grad()
def greedy_search(
    model: Transformer,
    source: Tensor,
    *,
    start: int,
    end: int,
    max_length: int,
    source_mask: Mask | Tensor | None = None,
) -> list[Tensor]:
    """Write the likeliest next token until the end token comes.

    The model is in evaluation mode while it writes: nothing is dropped.

    Args:
        model: the model that writes.
        source: (B, S), the tokens to read.
        start: the target token that a target begins with.
        end: the target token that a target ends with.
        max_length: the number of tokens after which a target is cut, the end token counted.
        source_mask: which source tokens may be read, as in :meth:`Transformer.forward`.

    Returns:
        For each example its tokens (L,), without start and end.

    Raises:
        ValueError: if sizes do not fit, ``start`` or ``end`` is not in the target's vocabulary, or the model's logits
            are NaN.
        TypeError: if a token or ``max_length`` is not a whole number.

    >>> import torch
    >>> from attnlib.transformer import Transformer, greedy_search
    >>> model = Transformer(11, d_model=8, num_heads=2, d_ff=32, num_layers=1)
    >>> [len(tokens) <= 4 for tokens in greedy_search(model, torch.ones(3, 7).long(), start=0, end=1, max_length=4)]
    [True, True, True]
    """
    model = _checked(model, source, start, end, max_length)
    with _evaluating(model):
        cache = model.decoder.remember(model.encode(source, source_mask))
        written = torch.full((len(source), 1), start, device=source.device)
        ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
        for _ in range(max_length):
            logits = model.decode(written[:, -1:], source_mask=source_mask, cache=cache)[:, -1]  # (B, target_vocab)
            best, token = logits.max(-1, keepdim=True)
            _check_finite(best)
            written = torch.cat([written, token], dim=1)
            ended |= written[:, -1] == end
            if ended.all():
                break
    return [_until(end, tokens[1:]) for tokens in written]


@torch.no_grad()
def beam_search(
    model: Transformer,
    source: Tensor,
    *,
    start: int,
    end: int,
    max_length: int,
    beam: int = 4,
    length_penalty: float = 0.6,
    source_mask: Mask | Tensor | None = None,
) -> list[list[Hypothesis]]:
    """Keep the ``beam`` likeliest beginnings at each step, and return those that end.

    A beginning that is among the likeliest and ends leaves the beam, and the next one takes its place. An example is
    done when ``beam`` of its hypotheses have ended. They are ordered by score (Wu et al., 2016, equation 14, without
    coverage)::

        score = log P(target | source) / ((5 + length) / 6)^length_penalty        the end token counts

    The defaults are those of "Attention Is All You Need" (Vaswani et al., 2017, section 6.1), whose ``max_length`` is
    the source's length + 50. With ``beam=1`` it writes what :func:`greedy_search` writes,
    unless two tokens are equally likely.

    Args:
        model: the model that writes.
        source: (B, S), the tokens to read.
        start: the target token that a target begins with.
        end: the target token that a target ends with.
        max_length: the number of tokens after which a target is cut, the end token counted.
        beam: the number of hypotheses kept.
        length_penalty: how much a long target is helped; 0 compares the probabilities as they are.
        source_mask: which source tokens may be read, as in :meth:`Transformer.forward`.

    Returns:
        For each example its hypotheses, best first, at most ``beam``. Where none has ended by ``max_length``, those
        that were cut there.

    Raises:
        ValueError: if sizes do not fit, ``start`` or ``end`` is not in the target's vocabulary, or the model's logits
            are NaN.
        TypeError: if a token, ``max_length`` or ``beam`` is not a whole number, or ``length_penalty`` is not a number.

    >>> import torch
    >>> from attnlib.transformer import Transformer, beam_search
    >>> model = Transformer(11, d_model=8, num_heads=2, d_ff=32, num_layers=1)
    >>> found = beam_search(model, torch.ones(3, 7).long(), start=0, end=1, max_length=4, beam=2)
    >>> [hypotheses[0].score >= hypotheses[-1].score for hypotheses in found]
    [True, True, True]
    """
    model = _checked(model, source, start, end, max_length)
    beam = whole_number("beam", beam)
    if not isinstance(length_penalty, Real):
        raise TypeError(f"length_penalty: expected a number, got {type(length_penalty).__name__}")
    if not 0 <= length_penalty < math.inf:
        raise ValueError(f"length_penalty: expected a finite number of at least 0, got {length_penalty}")
    if not len(source):
        return []
    with _evaluating(model):
        memory = model.encode(source, source_mask)
        cache = model.decoder.remember(memory)
        # Row b·beam + i is beginning i of example b. The copies of the start are one beginning, so only one counts.
        rows = torch.arange(len(source), device=source.device).repeat_interleave(beam)
        for layer in cache:
            layer.memory.reorder(rows)  # now, not before: each source is projected once
        mask = _of_rows(source_mask, source, rows)
        examples = [_Example(start, beam) for _ in source]
        for length in range(1, max_length + 1):
            last = torch.tensor(
                [tokens[-1] for example in examples for tokens in example.beginnings], device=source.device
            )
            logits = model.decode(last[:, None], source_mask=mask, cache=cache)[:, -1]  # (B·beam, target_vocab)
            log_p = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
            scores = log_p.new_tensor([example.scores for example in examples])  # (B, beam)
            candidates = (scores[..., None] + log_p.view(len(source), beam, -1)).flatten(1)  # (B, beam·target_vocab)
            # One continuation of a beginning ends, so twice the beam has a full beam of others.
            best, places = candidates.topk(min(2 * beam, candidates.shape[1]), dim=1)
            _check_finite(best[:, 0])
            penalty = ((5 + length) / 6) ** length_penalty
            rows = [
                beam * b + origin
                for b, example in enumerate(examples)
                for origin in example.grow(best[b].tolist(), places[b].tolist(), end, model.target_vocab, penalty)
            ]
            if all(example.done for example in examples):
                break
            rows = torch.tensor(rows, device=source.device)
            for layer in cache:
                layer.past.reorder(rows)
    return [example.result(source.device, penalty) for example in examples]


class _Example:
    """The beam of one source: the beginnings that are kept, and the hypotheses that have ended."""

    def __init__(self, start: int, beam: int):
        self.beam = beam
        self.beginnings = [[start]] * beam
        self.scores = [0.0] + [-math.inf] * (beam - 1)
        self.ended: list[tuple[float, list[int]]] = []

    @property
    def done(self) -> bool:
        return len(self.ended) == self.beam or max(self.scores) == -math.inf

    def grow(self, scores: list[float], places: list[int], end: int, vocab: int, penalty: float) -> list[int]:
        """Take the likeliest continuations, best first; return for each beginning kept the one that it continues."""
        if self.done:
            return list(range(self.beam))
        kept = []
        for rank, (score, place) in enumerate(zip(scores, places, strict=True)):
            origin, token = divmod(place, vocab)
            if score == -math.inf:
                break
            if token != end:
                kept.append((score, origin, [*self.beginnings[origin], token]))
            elif rank < self.beam and not self.done:
                self.ended.append((score / penalty, self.beginnings[origin]))
        kept = kept[: self.beam]
        kept += [(-math.inf, 0, [end])] * (self.beam - len(kept))  # a small vocabulary may not fill the beam
        self.scores, origins, self.beginnings = map(list, zip(*kept, strict=True))
        return origins

    def result(self, device: torch.device, penalty: float) -> list[Hypothesis]:
        """Return what has ended; where nothing has, what was cut."""
        cut = [(score / penalty, tokens) for score, tokens in zip(self.scores, self.beginnings, strict=True)]
        best_first = sorted(self.ended or cut, key=lambda hypothesis: -hypothesis[0])
        return [
            Hypothesis(torch.tensor(t[1:], dtype=torch.int64, device=device), score)
            for score, t in best_first
            if score > -math.inf
        ]


@contextmanager
def _evaluating(model: Transformer) -> Iterator[None]:
    """Put every module in evaluation mode; afterwards, each in the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _check_finite(best: Tensor) -> None:
    """Check that the largest of the logits, or of what was made of them, is a number: NaN counts as the largest."""
    if best.isnan().any():
        raise ValueError("model: expected logits that are numbers, got NaN; are all its parameters finite?")


def _until(end: int, tokens: Tensor) -> Tensor:
    ends = (tokens == end).nonzero()
    return tokens[: ends[0, 0]] if len(ends) else tokens


def _of_rows(mask: Mask | Tensor | None, source: Tensor, rows: Tensor) -> Tensor | None:
    """Return a mask of keys (B, 1, 1, S) for the given examples."""
    if mask is None:
        return None
    dense = mask.dense(1, source.shape[1], source.device) if isinstance(mask, Mask) else mask
    return dense if len(dense) == 1 else dense[rows]


def _checked(model: Transformer, source: Tensor, start: int, end: int, max_length: int) -> Transformer:
    """Return the model, once all arguments are known to fit."""
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps it, and compiles its forward alone
    if not isinstance(model, Transformer):
        raise TypeError(f"model: expected a Transformer, got {type(model).__name__}")
    if isinstance(source, Tensor) and source.dim() != 2:
        raise ValueError(f"source: expected (B, S), got {tuple(source.shape)}")
    for name, token in (("start", start), ("end", end)):
        if whole_number(name, token, at_least=0) >= model.target_vocab:
            raise ValueError(f"{name}: expected a token below target_vocab={model.target_vocab}, got {token}")
    known = getattr(model.positions, "max_length", math.inf)
    if whole_number("max_length", max_length) > known:
        raise ValueError(f"max_length: expected at most the {known} positions that the model knows, got {max_length}")
    return model
