"""What the chapter on summaries has no minute for: its model with every seed, rivals, blocked reports, long matches.

A report of a match is read, one sentence is written. Names in tests occur in no training report. Four models learn it:

==================  ==============================================================================================
``pointer``         the chapter's: a word is written from the vocabulary, or pointed at in the report
``no pointer``      the same Transformer without a pointer: a new name is read, and written, as *a new name*
``numbered``        that Transformer, told apart the new names of a report: it may write *name 3*
``recurrence``      GRUs of equal size, with numbered names, too
==================  ==============================================================================================
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from attnlib import masks
from attnlib.functional import attention_weights
from attnlib.lab import docstrings
from attnlib.lab.matches import Match, draw_match, facts, known_words
from attnlib.lab.models import RecurrentWriter, count_parameters, of_size
from attnlib.lab.tasks import END, START
from attnlib.lab.training import float64, train
from attnlib.lab.words import Pairs, padded
from attnlib.positions import sinusoidal
from attnlib.recording import record_attention
from attnlib.transformer import Decoder, Encoder, Transformer

SEEDS = range(3)
TRAINING, TESTS = 12_000, 500
KNOWN = ["<start>", "<end>", *known_words()]
NEW = len(KNOWN)  # the token of the first new word of a report; the next one has the next token
MOST = 16  # new words in one report
SIZES: dict[str, Any] = {"d_model": 48, "num_heads": 4, "d_ff": 96, "dropout": 0.0, "norm_first": True}
HOW: dict[str, Any] = {
    "steps": 460,
    "batch_size": 80,
    "rate": 8e-3,
    "warmup": 90,
    "fall_to_zero": True,
    "decimals": 5,
}
LONGER: dict[str, dict[str, Any]] = {
    "more events": {"events": range(8, 11)},
    "more goals": {"goals": range(6, 9), "events": range(8, 11)},
}
READ = ("torch", "keras", "IPython", "hypothesis", "docutils", "PIL")  # whose docstrings are learnt from
HELD_OUT = ("numpy", "matplotlib", "sphinx")
EXAMPLE = "numpy._core.fromnumeric.mean"  # the docstring that the chapter shows
Mask = masks.Mask | Tensor | None
PARTS = ("result", "teams", "score", "scorer", "minute")


def numbered(words: Iterable[str], report: Sequence[str]) -> list[int]:
    """Return the tokens of words; a word that is not known is numbered by where it first stands in the report.

    Raises:
        ValueError: if the report has no words or too many new ones, or a new word does not stand in it.
    """
    places = {word: place for place, word in enumerate(KNOWN)}
    new = list(dict.fromkeys(word for word in report if word not in places))
    if not report or len(new) > MOST:
        raise ValueError(f"report: expected words, at most {MOST} of them new, got {len(report)} with {len(new)} new")
    places |= {word: NEW + number for number, word in enumerate(new)}
    if missing := [word for word in words if word not in places]:
        raise ValueError(f"words: expected known words or words of the report, got {', '.join(map(repr, missing))}")
    return [places[word] for word in words]


def text(tokens: Iterable[int], report: Sequence[str]) -> list[str]:
    """Return the words of tokens, those of new words from the report."""
    every = [*KNOWN, *dict.fromkeys(word for word in report if word not in KNOWN)]
    return [every[token] if token < len(every) else "<no such word>" for token in tokens]


def pair(match: Match) -> tuple[list[int], list[int]]:
    """Return the tokens of a report and of its summary."""
    return numbered(match.report, match.report), numbered(match.summary, match.report)


@cache
def matches(names: str) -> list[Match]:
    """Return the matches of a kind, ``"training"`` or ``"tests"``: always the same."""
    random, count = (Random(0), TRAINING) if names == "training" else (Random(1), TESTS)
    return [draw_match(random, names=names) for _ in range(count)]


@cache
def pairs() -> Pairs:
    """Return what is trained on, and what is held out."""
    return Pairs(*([pair(match) for match in matches(names)] for names in ("training", "tests")))


class Summariser(nn.Module):
    """An encoder and a decoder with a pointer (See et al., 2017): attention over the report is part of the answer.

    >>> import torch
    >>> from attnlib.lab.experiments.summarisation import MOST, NEW, Summariser
    >>> model = Summariser(d_model=8, num_heads=2, d_ff=16)
    >>> report, read = torch.tensor([[5, NEW, 7]]), torch.tensor([[0, 5]])
    >>> model(report, read).shape == (1, 2, NEW + MOST)
    True
    """

    def __init__(self, d_model: int, **sizes: Any):
        super().__init__()
        self.table = nn.Embedding(NEW + 1, d_model)
        nn.init.normal_(self.table.weight, std=d_model**-0.5)
        self.encoder = Encoder(1, d_model=d_model, **sizes)
        self.decoder = Decoder(1, d_model=d_model, **sizes)
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.gate = nn.Linear(d_model, 1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) → (B, L, d_model): all new words look alike."""
        x = self.table(tokens.clamp(max=NEW))
        return x * x.shape[-1] ** 0.5 + sinusoidal(*x.shape[1:])

    def encode(self, source: Tensor, source_mask: Mask = None) -> Tensor:
        """Reports (B, S) → memory (B, S, d_model)."""
        return self.encoder(self.embed(source), source_mask)

    def look(
        self, target: Tensor, memory: Tensor, source_mask: Mask = None, pointer_mask: Mask = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return P of known words (B, L, NEW), the pointer's weights (B, L, S), and the gate (B, L, 1)."""
        x = self.decoder(self.embed(target), memory, masks.causal(), source_mask)
        known = (x @ self.table.weight[:NEW].T).softmax(-1)
        may_point = source_mask if pointer_mask is None else pointer_mask
        weights = attention_weights(self.query(x)[:, None], self.key(memory)[:, None], may_point)[:, 0]
        return known, weights, self.gate(x).sigmoid()

    def decode(
        self, target: Tensor, memory: Tensor, source: Tensor, source_mask: Mask = None, pointer_mask: Mask = None
    ) -> Tensor:
        """Return log P of the next word (B, L, NEW + MOST)."""
        known, weights, gate = self.look(target, memory, source_mask, pointer_mask)
        p = torch.cat([(1 - gate) * known, known.new_zeros(*known.shape[:2], MOST)], dim=-1)
        p = p.scatter_add(-1, source[:, None].expand(weights.shape), gate * weights)
        return (p + 1e-9).log()  # no word is impossible, so no logarithm is infinite

    def forward(self, source: Tensor, target: Tensor, source_mask: Mask = None) -> Tensor:
        """Reports (B, S), summaries so far (B, L) → log P of the next word (B, L, NEW + MOST)."""
        return self.decode(target, self.encode(source, source_mask), source, source_mask)


class NoPointer(nn.Module):
    """A Transformer for which all new words are one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Transformer(NEW + 1, num_layers=1, **SIZES)

    def forward(self, source: Tensor, target: Tensor, source_mask: masks.Padding | None = None) -> Tensor:
        """As :class:`Summariser`, with logits of NEW + 1 words."""
        return self.body(source.clamp(max=NEW), target.clamp(max=NEW), source_mask)


def pointer() -> Summariser:
    """Return the chapter's model."""
    return Summariser(**SIZES)


def transformer() -> Transformer:
    """Return a Transformer that has a token for the first new word of a report, for the second, and so on."""
    return Transformer(NEW + MOST, num_layers=1, **SIZES)


def recurrence() -> RecurrentWriter:
    """Return GRUs as large as :func:`pointer`, with those tokens."""
    return of_size(partial(RecurrentWriter, NEW + MOST), count_parameters(pointer()))


@torch.no_grad()
def write(step: Callable[[Tensor], Tensor], count: int, longest: int = 24) -> list[list[int]]:
    """Write ``count`` targets by greedy search: ``step`` gives log P, or logits, of what follows each target."""
    target = torch.full((count, 1), START)
    for _ in range(longest):
        target = torch.cat([target, step(target)[:, -1:].argmax(-1)], dim=1)
        if (target == END).any(dim=1).all():
            break
    rows = [[*row, END] for row in target[:, 1:].tolist()]
    return [row[: row.index(END)] for row in rows]


@torch.no_grad()
def summaries(
    model: nn.Module, found: Sequence[Match], closed: Sequence[slice] | None = None, *, pointer_only: bool = False
) -> list[list[str]]:
    """Return what a model writes of each match, in words.

    Args:
        model: a trained one.
        found: the matches.
        closed: for each match the words of its report that the decoder may not read.
        pointer_only: only the pointer may not; the decoder's cross-attention does.
    """
    inputs, _ = padded([pair(match) for match in found])
    source, _, source_mask = inputs
    model.eval()
    if isinstance(model, Summariser):
        memory = model.encode(source, source_mask)
        open_words = source_mask.dense(1, source.shape[1]).clone()
        for row, words in enumerate(closed or []):
            open_words[row, ..., words] = False
        of_decoder = source_mask if pointer_only else open_words
        written = write(lambda target: model.decode(target, memory, source, of_decoder, open_words), len(source))
    else:
        written = write(lambda target: model(source, target, source_mask), len(source))
    if isinstance(model, NoPointer):
        return [[KNOWN[token] if token < NEW else "<new>" for token in tokens] for tokens in written]
    return [text(tokens, match.report) for tokens, match in zip(written, found, strict=True)]


def right(said: Sequence[str], match: Match) -> dict[str, bool]:
    """Return which parts of a summary are true, and whether all are."""
    claims, truth = facts(said), facts(match.summary)
    parts = {part: claims is not None and getattr(claims, part) == getattr(truth, part) for part in PARTS}
    return {"all": all(parts.values()), **parts}


def shares(said: Sequence[Sequence[str]], found: Sequence[Match]) -> dict[str, float]:
    """Return the share of summaries in which all, and each part, is true."""
    marks = [right(words, match) for words, match in zip(said, found, strict=True)]
    return {part: round(sum(mark[part] for mark in marks) / len(marks), 4) for part in ("all", *PARTS)}


def rouge(said: Sequence[Sequence[str]], found: Sequence[Match]) -> dict[str, float]:
    """Return the means of ROUGE-1, ROUGE-2 and ROUGE-L (F), by the library rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    pairs = zip(said, found, strict=True)
    scores = [scorer.score(" ".join(match.summary), " ".join(words)) for words, match in pairs]
    return {name: round(sum(score[name].fmeasure for score in scores) / len(scores), 4) for name in scores[0]}


def first_and_last(match: Match) -> list[str]:
    """Return the first and the last sentence of a report."""
    sentences = " ".join(match.report).split(" . ")
    return f"{sentences[0]} . {sentences[-1]}".split()


def swapped(match: Match) -> list[str]:
    """Return the true summary with its teams swapped: false, and of the same words."""
    other = dict(zip(match.teams.values(), reversed(match.teams.values()), strict=True))
    return [other.get(word, word) for word in match.summary]


def guess(match: Match, random: Random) -> list[str]:
    """Return a summary by chance: that of another match, with the names and minutes of this one in some order."""
    other = random.choice(matches("training")).summary
    teams = random.sample(list(match.teams.values()), 2)
    event = random.choice(match.events)
    claim = facts(other)
    assert claim is not None
    swap = {claim.teams[0]: teams[0], claim.teams[1]: teams[1]}
    swap |= {claim.scorer or "": event.player}
    words = [swap.get(word, word) for word in other]
    return words if claim.minute is None else [*words[:-2], str(event.minute), "."]


def to_block(match: Match) -> dict[str, slice] | None:
    """Return which words of a report to keep from the decoder; None for one without two goals and another event."""
    goal = match.decisive
    others = [event for event in match.goals if event is not goal]
    no_goals = [event for event in match.events if event.kind == "other"]
    if goal is None or not others or not no_goals:
        return None
    name = match.report.index(goal.player)
    minute = match.report.index(str(goal.minute), goal.words.start)
    return {
        "nothing": slice(0, 0),
        "the name": slice(name, name + 1),
        "the minute": slice(minute, minute + 1),
        "all of the goal": goal.words,
        "another goal": others[-1].words,
        "no goal": no_goals[-1].words,
    }


def told(said: Sequence[str], match: Match) -> dict[str, bool]:
    """Return which claims of the true summary stand in a sentence, whatever else it says.

    A word that is kept from the decoder may derail the sentence behind it, and what stands before it is still said.
    """
    truth, words = " ".join(match.summary), " ".join(said)
    patterns = {
        "result": r"^(home win|away win|draw) :",
        "teams": r"\S+ (beat|and) \S+",
        "score": r"\d+ – \d+",
        "scorer": r"\S+ (decided it|equalised)",
        "minute": r"in minute \d+ \.",
    }
    found = {part: re.search(pattern, truth) for part, pattern in patterns.items()}
    return {part: claim is not None and f" {claim[0]} " in f" {words} " for part, claim in found.items()}


def blocked(model: Summariser, found: Sequence[Match]) -> dict[str, dict[str, float]]:
    """Return which claims are still told where the decoder may not read some words: of the decisive goal, or others.

    For another goal, beside them: how many summaries give the score without that goal.
    """
    kept = [(match, words) for match in found if (words := to_block(match))]
    chosen = [match for match, _ in kept]
    said = {name: summaries(model, chosen, [words[name] for _, words in kept]) for name in kept[0][1]}
    names = [words["the name"] for _, words in kept]
    said["pointing at the name"] = summaries(model, chosen, names, pointer_only=True)
    row = {}
    for name, answers in said.items():
        marks = [told(words, match) for words, match in zip(answers, chosen, strict=True)]
        row[name] = {part: round(sum(mark[part] for mark in marks) / len(marks), 4) for part in PARTS}
    less = [
        f" {high} – {low} " in " ".join(words)
        for words, (high, low) in zip(said["another goal"], map(_without, chosen), strict=True)
    ]
    row["another goal"]["one less"] = round(sum(less) / len(less), 4)
    return row


def _without(match: Match) -> tuple[int, int]:
    """Return the score, the winner's first, without the last goal that did not decide."""
    assert match.decisive is not None
    [*_, goal] = [goal for goal in match.goals if goal is not match.decisive]
    first = "hosts" if match.score("hosts") == match.score("visitors") else match.decisive.side
    second = "visitors" if first == "hosts" else "hosts"
    return match.score(first) - (goal.side == first), match.score(second) - (goal.side == second)


@torch.no_grad()
def pointed(model: Summariser, found: Sequence[Match]) -> dict[str, dict[str, float]]:
    """Return, for each kind of word to write: the gate, the pointer's weight on that word, and the weight by chance.

    For the score: the weight of the decoder's cross-attention on the words of goals, and their share of the report.
    """
    model.eval()
    found = [match for match in found if match.decisive]
    (source, read, source_mask), asked = padded([pair(match) for match in found])
    with record_attention(model) as record:
        _, weights, gate = model.look(read, model.encode(source, source_mask), source_mask)
    cross = record["decoder.layers.0.cross_attention"].mean(1)  # (B, L, S)
    seen: dict[str, list[tuple[float, float, float]]] = {}
    for row, match in enumerate(found):
        claim, words = facts(match.summary), match.summary
        assert claim is not None
        length = len(match.report)
        named = {claim.teams[0]: "first team", claim.teams[1]: "second team", claim.scorer: "scorer"}
        for place, word in enumerate(words):
            kind = named.get(
                word, "minute" if place == len(words) - 2 else "digit" if word.isdecimal() else "other word"
            )
            if kind == "digit":
                spans = [goal.words for goal in match.goals]
                weight = sum(cross[row, place, span].sum().item() for span in spans)
                chance = sum(span.stop - span.start for span in spans) / length
            else:
                here = (source[row, :length] == asked[row, place]).double()
                weight, chance = float((weights[row, place, :length] * here).sum()), float(here.mean())
            seen.setdefault(kind, []).append((gate[row, place].item(), weight, chance))
    means = {kind: torch.tensor(values).mean(0).tolist() for kind, values in seen.items()}
    return {
        kind: {name: round(value, 4) for name, value in zip(("gate", "weight", "chance"), mean, strict=True)}
        for kind, mean in means.items()
    }


def trained(make: Callable[[], nn.Module], seed: int, **how: Any) -> nn.Module:
    """Return a model that was trained as the chapter trains its own; the default dtype must be float64."""
    torch.manual_seed(seed)
    model = make()
    data = pairs()
    if make is NoPointer:
        parts = ([(s, [min(token, NEW) for token in t]) for s, t in part] for part in (data.training, data.held_out))
        data = Pairs(*parts)
    how = {**HOW, **how}
    train(model, data, seed=seed, check_every=how["steps"], **how)
    return model


@float64()
def run(make: Callable[[], nn.Module], seed: int, tests: int = TESTS, **how: Any) -> dict:
    """Train one model; return how much of what it writes is true."""
    model = trained(make, seed, **how)
    found = matches("tests")[:tests]
    said = summaries(model, found)
    row: dict[str, Any] = {"seed": seed, "right": shares(said, found), "rouge": rouge(said, found)}
    if isinstance(model, Summariser):
        row["blocked"] = blocked(model, found)
        row["pointed"] = pointed(model, found)
        row["longer"] = {}
        for name in LONGER:
            found = longer(name)[:tests]
            said = summaries(model, found)
            row["longer"][name] = {"right": shares(said, found), "rouge": rouge(said, found)}
    return row


def longer(name: str) -> list[Match]:
    """Return test matches with more events, or more goals, than are trained on."""
    random = Random(2)
    return [draw_match(random, names="tests", **LONGER[name]) for _ in range(TESTS)]


def row(make: Callable[[], nn.Module]) -> dict:
    """Return the size of a model, and for each seed what :func:`run` returns."""
    return {"parameters": count_parameters(make()), "seeds": [run(make, seed) for seed in SEEDS]}


def baselines() -> dict:
    """Return what needs no training: the first and the last sentence; chance; and the truth with the teams swapped."""
    found, random = matches("tests"), Random(0)
    said = {
        "first and last": [first_and_last(match) for match in found],
        "chance": [guess(match, random) for match in found],
        "teams swapped": [swapped(match) for match in found],
    }
    return {name: {"right": shares(words, found), "rouge": rouge(words, found)} for name, words in said.items()}


@float64()
def real_text() -> dict:
    """Return how often the summary of a docstring is found among its shuffled sentences, in packages never read."""
    read = {package: docstrings.docstrings(package) for package in (*READ, *HELD_OUT)}
    training, found = ([one for package in part for one in read[package]] for part in (READ, HELD_OUT))
    told, places = docstrings.shuffled(found, Random(0))

    def share(answers: Iterable[int]) -> float:
        return round(sum(a == b for a, b in zip(answers, places, strict=True)) / len(places), 4)

    row: dict[str, Any] = {
        "docstrings": {package: len(read[package]) for package in read},
        "random": [round(sum(1 / len(one) for one in told) / len(told), 4)],
        **{name: [share(map(rule, told))] for name, rule in docstrings.rules(training).items()},
    }
    for name, attends in (("each alone", False), ("attending", True)):
        row[name] = []
        for seed in SEEDS:
            model = docstrings.fit(training, seed, attends=attends).eval()
            with torch.no_grad():
                log_p = model(told)
            row[name].append(share(log_p.argmax(-1).tolist()))
    shown = next(number for number, one in enumerate(found) if one.where == EXAMPLE)
    row["example"] = {
        "sentences": told[shown],
        "p": [round(p, 4) for p in log_p[shown, : len(told[shown])].exp().tolist()],
        "summary": places[shown],
    }
    return row


ROWS: dict[str, Callable[[], dict]] = {
    "baselines": baselines,
    "pointer": partial(row, pointer),
    "no pointer": partial(row, NoPointer),
    "numbered": partial(row, transformer),
    "recurrence": partial(row, recurrence),
    "docstrings": real_text,
}
