"""Write, token by token: the likeliest, with a beam, or at random. Each token is projected once, through a cache.

No search asks which kind of model it has: what it wants of one is :class:`attnlib.transformer.GenerativeModel`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from attnlib.checks import whole_number
from attnlib.masks import Mask
from attnlib.transformer.inputs import checked_token
from attnlib.transformer.protocol import GenerativeModel
from attnlib.transformer.sampling import checked_warp, warped

__all__ = ["Hypothesis", "beam_search", "greedy_search", "sample"]

LengthPenalty = float | Callable[[int], float]


class Hypothesis(NamedTuple):
    """What a beam search found: a target, or how a prompt goes on."""

    tokens: Tensor  # (L,), without start, prompt and end
    score: float  # log P(tokens, end | source), or log P(tokens | source) if cut; divided by the length penalty


@torch.no_grad()
def greedy_search(
    model: GenerativeModel,
    source: Tensor,
    *,
    start: int | None = None,
    end: int | None = None,
    max_length: int,
    source_mask: Mask | Tensor | None = None,
    prompt_mask: Tensor | None = None,
) -> list[Tensor]:
    """Write the likeliest next token until the end token comes.

    The model is in evaluation mode while it writes: nothing is dropped.

    Args:
        model: the model that writes: a :class:`Transformer` from a source, or a :class:`LanguageModel` from a prompt.
        source: (B, S), the tokens to read: the sources, or the prompts.
        start: the target token that a target begins with. A prompt needs none.
        end: the token that a text ends with. Default: none does, so that each has ``max_length`` tokens.
        max_length: the number of new tokens after which a text is cut, the end token counted.
        source_mask: which source tokens may be read, as in :meth:`Transformer.forward`.
        prompt_mask: (B, S), which tokens of the prompts are real, as in :meth:`LanguageModel.begin`.

    Returns:
        For each example its new tokens (L,), without start, prompt and end.

    Raises:
        ValueError: if sizes do not fit, ``start`` or ``end`` is not in the target's vocabulary, the prompts are not
            padded on the left, or the model's logits are NaN.
        TypeError: if a token or ``max_length`` is not a whole number, or an argument is not for this kind of model.

    >>> import torch
    >>> from attnlib.transformer import LanguageModel, Transformer, greedy_search
    >>> model = Transformer(11, d_model=8, num_heads=2, d_ff=32, num_layers=1)
    >>> [len(tokens) <= 4 for tokens in greedy_search(model, torch.ones(3, 7).long(), start=0, end=1, max_length=4)]
    [True, True, True]

    Two prompts go on, the second one padded on the left:

    >>> model = LanguageModel(11, d_model=8, num_heads=2, d_ff=32, num_layers=1)
    >>> prompts, real = torch.tensor([[3, 5, 2], [0, 0, 7]]), torch.tensor([[1, 1, 1], [0, 0, 1]])
    >>> [len(tokens) for tokens in greedy_search(model, prompts, prompt_mask=real, max_length=4)]
    [4, 4]
    """

    def likeliest(logits: Tensor) -> Tensor:
        best, tokens = logits.max(-1)
        _check_finite(best)
        return tokens

    model, end, max_length = _checked(model, end, max_length)
    reading = _given(start=start, source_mask=source_mask, prompt_mask=prompt_mask)
    return _written(model, source, likeliest, end, max_length, reading)


@torch.no_grad()
def sample(
    model: GenerativeModel,
    source: Tensor,
    *,
    start: int | None = None,
    end: int | None = None,
    max_length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
    source_mask: Mask | Tensor | None = None,
    prompt_mask: Tensor | None = None,
) -> list[Tensor]:
    """Draw each next token, as often as its probability says, until the end token comes.

    The probabilities are the softmax of :func:`warp_logits`. All else is as in :func:`greedy_search`.

    Args:
        model: the model that writes.
        source: (B, S), the tokens to read: the sources, or the prompts.
        start: the target token that a target begins with. A prompt needs none.
        end: the token that a text ends with. Default: none does.
        max_length: the number of new tokens after which a text is cut, the end token counted.
        temperature: what the logits are divided by. Below 1 the likely becomes likelier.
        top_k: draw among the k likeliest only. Default: among all.
        top_p: draw among the likeliest that together have this probability at least.
        generator: where the random numbers come from. Default: torch's own for the logits' device.
        source_mask: which source tokens may be read, as in :meth:`Transformer.forward`.
        prompt_mask: (B, S), which tokens of the prompts are real, as in :meth:`LanguageModel.begin`.

    Returns:
        For each example its new tokens (L,), without start, prompt and end.

    Raises:
        ValueError: as :func:`greedy_search` and :func:`warp_logits` do.
        TypeError: as these do; too if ``generator`` is not one.

    >>> import torch
    >>> from attnlib.transformer import LanguageModel, sample
    >>> model = LanguageModel(11, d_model=8, num_heads=2, d_ff=32, num_layers=1)
    >>> prompt = torch.tensor([[3, 5, 2]])
    >>> def draw():
    ...     return sample(model, prompt, max_length=4, top_p=0.9, generator=torch.Generator().manual_seed(0))
    >>> torch.equal(draw()[0], draw()[0])
    True
    """

    def drawn(logits: Tensor) -> Tensor:
        probabilities = warped(logits, temperature, top_k, top_p).softmax(-1)
        _check_finite(probabilities.amax(-1))
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    model, end, max_length = _checked(model, end, max_length)
    top_k = checked_warp(model.target_vocab, temperature, top_k, top_p)
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(f"generator: expected a torch.Generator, got {type(generator).__name__}")
    reading = _given(start=start, source_mask=source_mask, prompt_mask=prompt_mask)
    return _written(model, source, drawn, end, max_length, reading)


@torch.no_grad()
def beam_search(
    model: GenerativeModel,
    source: Tensor,
    *,
    start: int | None = None,
    end: int | None = None,
    max_length: int,
    beam: int = 4,
    length_penalty: LengthPenalty = 0.6,
    source_mask: Mask | Tensor | None = None,
    prompt_mask: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """Keep the ``beam`` likeliest beginnings at each step, and return the best of those that end or are cut.

    A beginning that is among the likeliest and ends leaves the beam, and the next one takes its place. An example is
    done when ``beam`` of its hypotheses have ended. If it is not by ``max_length``, its beginnings are cut there and
    ranked together with what has ended, so that a likely text that is too long is not lost to an unlikely short one.
    Hugging Face does the same with ``early_stopping=True``. Hypotheses are ordered by score (Wu et al., 2016,
    equation 14, without coverage)::

        score = log P(target | source) / ((5 + length) / 6)^length_penalty        an end token counts

    The defaults are those of "Attention Is All You Need" (Vaswani et al., 2017, section 6.1), whose ``max_length`` is
    the source's length + 50. With ``beam=1`` it writes what :func:`greedy_search` writes,
    unless two tokens are equally likely.

    Args:
        model: the model that writes: a :class:`Transformer` from a source, or a :class:`LanguageModel` from a prompt.
        source: (B, S), the tokens to read: the sources, or the prompts.
        start: the target token that a target begins with. A prompt needs none.
        end: the token that a text ends with. Default: none does, so that each has ``max_length`` tokens.
        max_length: the number of new tokens after which a text is cut, the end token counted.
        beam: the number of hypotheses kept.
        length_penalty: how much a long target is helped; 0 compares the probabilities as they are. Or a function that
            returns what log P of so many tokens is divided by: ``lambda length: length`` for the mean of a token, as
            Hugging Face's ``length_penalty=1.0``.
        source_mask: which source tokens may be read, as in :meth:`Transformer.forward`.
        prompt_mask: (B, S), which tokens of the prompts are real, as in :meth:`LanguageModel.begin`.

    Returns:
        For each example its hypotheses, best first, at most ``beam``. One of ``max_length`` tokens was cut.

    Raises:
        ValueError: as :func:`greedy_search` does; too if ``length_penalty`` is, or returns, no number that is finite
            and large enough: 0 at least, or for what is divided by, above 0.
        TypeError: as :func:`greedy_search` does; too if ``beam`` is not a whole number, or ``length_penalty`` neither a
            number nor a function that returns one.

    >>> import torch
    >>> from attnlib.transformer import Transformer, beam_search
    >>> model = Transformer(11, d_model=8, num_heads=2, d_ff=32, num_layers=1)
    >>> found = beam_search(model, torch.ones(3, 7).long(), start=0, end=1, max_length=4, beam=2)
    >>> [hypotheses[0].score >= hypotheses[-1].score for hypotheses in found]
    [True, True, True]
    """
    model, end, max_length = _checked(model, end, max_length)
    beam, divisor = whole_number("beam", beam), _divisor(length_penalty, max_length)
    with _evaluating(model):
        reading = _given(start=start, source_mask=source_mask, prompt_mask=prompt_mask)
        texts = model.begin(source, max_length=max_length, **reading)
        if not len(source):
            return []
        # Row b·beam + i is beginning i of example b. The copies of the first one are one, so only one counts.
        texts.reorder(torch.arange(len(source), device=source.device).repeat_interleave(beam))
        examples = [_Example(beam) for _ in source]
        for length in range(1, max_length + 1):
            logits = texts.logits  # (B·beam, target_vocab)
            log_p = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
            scores = log_p.new_tensor([example.scores for example in examples])  # (B, beam)
            candidates = (scores[..., None] + log_p.view(len(source), beam, -1)).flatten(1)  # (B, beam·target_vocab)
            # One continuation of a beginning ends, so twice the beam has a full beam of others.
            best, places = candidates.topk(min(2 * beam, candidates.shape[1]), dim=1)
            _check_finite(best[:, 0])
            penalty = divisor(length)
            unfinished = [example for example in examples if not example.done]
            rows = [
                beam * b + origin
                for b, example in enumerate(examples)
                for origin in example.grow(best[b].tolist(), places[b].tolist(), end, model.target_vocab, penalty)
            ]
            if length == max_length:
                for example in unfinished:
                    example.cut(penalty)
                break
            if all(example.done for example in examples):
                break
            texts.reorder(torch.tensor(rows, device=source.device))
            last = [tokens[-1] for example in examples for tokens in example.beginnings]
            texts.append(torch.tensor(last, device=source.device))
    return [example.result(source.device) for example in examples]


class _Example:
    """The beam of one example: the beginnings that are kept, and the hypotheses that have ended or were cut."""

    def __init__(self, beam: int):
        self.beam = beam
        self.beginnings: list[list[int]] = [[]] * beam
        self.scores = [0.0] + [-math.inf] * (beam - 1)
        self.ended: list[tuple[float, list[int]]] = []

    @property
    def done(self) -> bool:
        return len(self.ended) >= self.beam or max(self.scores) == -math.inf

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
            elif rank < self.beam:
                self.ended.append((score / penalty, self.beginnings[origin]))
        kept = kept[: self.beam]
        kept += [(-math.inf, 0, [0])] * (self.beam - len(kept))  # a small vocabulary may not fill the beam
        self.scores, origins, self.beginnings = map(list, zip(*kept, strict=True))
        return origins

    def cut(self, penalty: float) -> None:
        """Let the beginnings that are kept be hypotheses as they are."""
        found = zip(self.scores, self.beginnings, strict=True)
        self.ended += [(score / penalty, tokens) for score, tokens in found if score > -math.inf]

    def result(self, device: torch.device) -> list[Hypothesis]:
        best_first = sorted(self.ended, key=lambda hypothesis: -hypothesis[0])[: self.beam]
        return [
            Hypothesis(torch.tensor(tokens, dtype=torch.int64, device=device), score) for score, tokens in best_first
        ]


def _written(
    model: GenerativeModel,
    source: Tensor,
    choose: Callable[[Tensor], Tensor],
    end: int,
    max_length: int,
    reading: dict[str, Any],
) -> list[Tensor]:
    """Write with one text for each example; ``choose`` makes tokens (B,) of logits (B, target_vocab)."""
    with _evaluating(model):
        texts = model.begin(source, max_length=max_length, **reading)
        if not len(source):
            return []
        written = [choose(texts.logits)]
        ended = written[0] == end
        while len(written) < max_length and not ended.all():
            texts.append(written[-1])
            written.append(choose(texts.logits))
            ended |= written[-1] == end
    return [_until(end, tokens) for tokens in torch.stack(written, dim=1)]


def _until(end: int, tokens: Tensor) -> Tensor:
    ends = (tokens == end).nonzero()
    return tokens[: ends[0, 0]] if len(ends) else tokens


@contextmanager
def _evaluating(model: GenerativeModel) -> Iterator[None]:
    """Put every module in evaluation mode; afterwards, each in the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


# ---------------------------------------------------------------------------------------------------------------------
# Checks


def _checked(given: Any, end: int | None, max_length: int) -> tuple[GenerativeModel, int, int]:
    """Return the model, the end, or −1, which no token is, and the length, once they are known to fit."""
    model: Any = getattr(given, "_orig_mod", given)  # torch.compile wraps it, and compiles its forward alone
    if not (isinstance(model, nn.Module) and hasattr(model, "begin")):
        raise TypeError(f"model: expected a Transformer, a LanguageModel, or another with begin(), got {_name(given)}")
    if not hasattr(model, "target_vocab"):
        raise TypeError(f"model: expected one with a number target_vocab, beside begin(), got {_name(given)}")
    checked_end = -1 if end is None else checked_token("end", end, cast(Any, model).target_vocab)
    return cast(GenerativeModel, model), checked_end, whole_number("max_length", max_length)


def _given(**reading: Any) -> dict[str, Any]:
    """Return what was given: the model's ``begin`` refuses what is not for its kind, as Python does."""
    return {name: value for name, value in reading.items() if value is not None}


def _divisor(length_penalty: LengthPenalty, max_length: int) -> Callable[[int], float]:
    """Return the function from a length to what log P is divided by."""
    if callable(length_penalty):

        def checked(length: int) -> float:
            divisor = length_penalty(length)
            if not isinstance(divisor, Real):
                raise TypeError(f"length_penalty: expected a function to numbers, got {_name(divisor)} of {length}")
            if not 0 < divisor < math.inf:
                raise ValueError(f"length_penalty: expected finite numbers above 0, got {divisor} of {length}")
            return divisor

        checked(1)  # what it raises, it raises here
        return checked
    if not isinstance(length_penalty, Real):
        raise TypeError(f"length_penalty: expected a number, or a function of the length, got {_name(length_penalty)}")
    if not 0 <= length_penalty < math.inf:
        raise ValueError(f"length_penalty: expected a finite number of at least 0, got {length_penalty}")
    try:
        ((5 + max_length) / 6) ** length_penalty
    except OverflowError as error:
        wanted = f"one with which ((5 + max_length) / 6)^length_penalty is finite at max_length={max_length}"
        raise ValueError(f"length_penalty: expected {wanted}, got {length_penalty}") from error
    return lambda length: ((5 + length) / 6) ** length_penalty


def _check_finite(best: Tensor) -> None:
    """Check that the largest of the logits, or of what was made of them, is a number: NaN counts as the largest."""
    if best.isnan().any():
        raise ValueError("model: expected logits that are numbers, got NaN; are all its parameters finite?")


def _name(thing: object) -> str:
    return type(thing).__name__
