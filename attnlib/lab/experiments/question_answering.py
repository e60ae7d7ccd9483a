"""What the chapter on question answering has no minute for: three seeds, rivals of equal size, chains of three facts.

The chapter trains and draws the reader of seed 0; here all are trained, each is blocked sentence by sentence, and
a GRU and a bag of words of equal size read the same stories. In float64, with parameters
rounded after each step, so that the numbers are the same elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attnlib.lab.models import count_parameters, of_size
from attnlib.lab.stories import PADDING, WORDS, Stories, Story, batch
from attnlib.lab.training import accuracy, float64, train
from attnlib.positions import sinusoidal
from attnlib.recording import record_attention
from attnlib.transformer import Encoder

SEEDS = range(3)
STORIES = Stories()
CHAINS = Stories(facts=(0, 1, 1, 2, 2, 2, 3, 3, 3, 3), lengths=range(7, 10))  # with things that lie in what is taken
STEPS = 800
LONG_STEPS = 1_200  # for chains
# As the chapter trains.
HOW: dict[str, Any] = {"batch_size": 48, "rate": 3e-3, "warmup": 100, "fall_to_zero": True, "decimals": 5}
LONG_HOW = HOW | {"batch_size": 32, "rate": 4e-3}  # for chains
LENGTHS = range(5, 15)  # sentences; trained on 5 to 7
LEVELS = ("layer 2", "pointer", "both")


class Pointer(nn.Module):
    """Two queries made of one word, for the start and for the end: their attention to all words is the answer."""

    def __init__(self, d_model: int):
        super().__init__()
        self.query = nn.Linear(d_model, 2 * d_model)
        self.key = nn.Linear(d_model, d_model)
        with torch.no_grad():  # at first a word points at its like: from there, to compare names is soon learnt
            self.query.weight.copy_(self.key.weight.repeat(2, 1))

    def forward(self, asked: Tensor, x: Tensor) -> Tensor:
        """The word that asks (B, d_model) and all words (B, S, d_model) → scores (B, 2, S)."""
        queries = self.query(asked).unflatten(-1, (2, -1))
        return queries @ self.key(x).mT / x.shape[-1] ** 0.5


class Reader(nn.Module):
    """The chapter's model: first each sentence by itself, then across sentences, then a pointer to the answer.

    Args:
        vocab: the number of different words.
        d_model: the size of the words.
        num_layers: the layers of the encoder, of which the first reads inside sentences.

    >>> import torch
    >>> from attnlib.lab.experiments.question_answering import Reader
    >>> from attnlib.lab.stories import WORDS, Stories
    >>> inputs, _ = Stories().draw(3, torch.Generator().manual_seed(0))
    >>> Reader(len(WORDS), 8)(*inputs).shape[:2]
    torch.Size([3, 2])
    """

    def __init__(self, vocab: int, d_model: int = 64, num_layers: int = 2):
        super().__init__()
        self.words = nn.Embedding(vocab, d_model)
        nn.init.normal_(self.words.weight, std=d_model**-0.5)
        sizes: dict[str, Any] = {"num_heads": 4, "d_ff": 2 * d_model, "dropout": 0.0, "norm_first": True}
        self.encoder = Encoder(num_layers, d_model=d_model, **sizes)
        self.pointer = Pointer(d_model)

    def forward(self, words: Tensor, number: Tensor, closed: Tensor | None = None) -> Tensor:
        """Words and the numbers of their sentences, (B, S) each → logits of the answer's two ends, (B, 2, S).

        ``closed``, (levels, B, L, S) or (levels, B, 1, S), says who may not read which words of other sentences in the
        second layer, in the third, …, and in the pointer, where the asked word reads.
        """
        size = self.words.embedding_dim
        first, *others = self.encoder.layers
        own = number[:, None, :, None] == number[:, None, None, :]  # (B, 1, S, S)
        levels, (B, S) = 1 + len(others), number.shape
        readable = (number != PADDING)[:, None].expand(levels, B, S, S)
        if closed is not None:
            readable = readable & ~closed
        x = self.words(words) * size**0.5 + sinusoidal(int(number.max()) + 1, size)[number]
        x = first(x, own)
        for layer, open_words in zip(others, readable[:-1], strict=True):
            x = layer(x, own | open_words[:, None])
        x, asked = self.encoder.norm(x), (range(B), asked_at(number))
        return self.pointer(x[asked], x).masked_fill(~readable[-1][asked][:, None], -torch.inf)


class Recurrence(nn.Module):
    """Two layers of GRUs in both directions, without attention: each word says how likely the answer ends there."""

    def __init__(self, vocab: int, d_model: int):
        super().__init__()
        self.words = nn.Embedding(vocab, d_model)
        self.body = nn.GRU(d_model, d_model, num_layers=2, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * d_model, 2)

    def forward(self, words: Tensor, number: Tensor) -> Tensor:
        """As :class:`Reader` does: logits (B, 2, S)."""
        scores = self.output(self.body(self.words(words))[0]).mT
        return scores.masked_fill((number == PADDING)[:, None], -torch.inf)


class Bag(nn.Module):
    """A bag of words: what question and story hold, and each word by itself; no order, no attention."""

    def __init__(self, vocab: int, d_model: int):
        super().__init__()
        self.words = nn.Embedding(vocab, d_model)
        self.hidden = nn.Sequential(nn.Linear(2 * d_model, 4 * d_model), nn.ReLU(), nn.Linear(4 * d_model, 2 * d_model))

    def forward(self, words: Tensor, number: Tensor) -> Tensor:
        """As :class:`Reader` does: logits (B, 2, S)."""
        x = self.words(words)
        bags = [(x * part[..., None]).sum(1) for part in (number == 0, number > 0)]
        query = self.hidden(torch.cat(bags, dim=-1)).unflatten(-1, (2, -1))
        return (query @ x.mT / x.shape[-1] ** 0.5).masked_fill((number == PADDING)[:, None], -torch.inf)


def asked_at(number: Tensor) -> Tensor:
    """Return where the last word of each question stands: (B,)."""
    return (number == 0).sum(1) - 1


def kept(facts: int, count: int, lengths: range = STORIES.lengths) -> list[Story]:
    """Return held-out stories whose question needs so many facts."""
    generator = torch.Generator().manual_seed(1_000 + 100 * facts + lengths.start)
    return Stories((facts,), lengths).tell(count, generator, held_out=True)


@torch.no_grad()
def attention_shares(model: Reader, stories: Sequence[Story]) -> dict[str, dict[str, float]]:
    """Return how much of its attention the asked word gives each kind of sentence, level by level, beside chance.

    In an encoder layer that is the mean of its heads; in the pointer, of start and end. Beside it, what the last word
    of the answer gives them in the last layer. Chance: that kind's share of all words.
    """
    (words, number), ends = batch(stories)
    with record_attention(model) as record:
        pointer = model.eval()(words, number).softmax(-1).mean(1)  # (B, S)
    rows = range(len(words)), asked_at(number)
    levels = {f"layer {i + 1}": weights.mean(1)[rows] for i, weights in enumerate(record.values())}
    levels["pointer"] = pointer
    levels["answer"] = list(record.values())[-1].mean(1)[range(len(words)), ends[:, 1]]
    levels["chance"] = (number != PADDING) / (number != PADDING).sum(1, keepdim=True)
    kinds = {"question": number == 0, **{name: number == part for name, part in _fact_numbers(stories).items()}}
    return {
        level: {kind: round((weights * of).sum(1).mean().item(), 4) for kind, of in kinds.items()}
        for level, weights in levels.items()
    }


def _fact_numbers(stories: Sequence[Story]) -> dict[str, Tensor]:
    count = len(stories[0].facts)
    return {f"fact {i + 1}": 1 + torch.tensor([[story.facts[i]] for story in stories]) for i in range(count)}


@torch.no_grad()
def blocked(model: Reader, stories: Sequence[Story]) -> dict[str, dict[str, dict[str, float]]]:
    """Close each sentence in turn; return what becomes of the answer, by level and by the kind of the sentence.

    right: the answer stays; without: it is the answer of the story without that sentence; nothing: the model says that
    the story does not tell. The earlier move: where the last fact is closed and the person has moved before, how often
    that is said.
    """
    cases = [(story, place) for story in stories for place in range(len(story.sentences))]
    (words, number), target = batch([story for story, _ in cases])
    asked = asked_at(number)[:, None].expand(-1, 2)
    without = torch.stack([_ends_without(*case, row, at) for case, row, at in zip(cases, number, asked, strict=True)])
    kinds = [story.facts.index(place) + 1 if place in story.facts else 0 for story, place in cases]
    shut = number == 1 + torch.tensor([[place] for _, place in cases])
    found: dict[str, dict[str, dict[str, float]]] = {}
    for level in LEVELS:
        closed = torch.stack([shut & (level != "pointer"), shut & (level != "layer 2")])[:, :, None]
        said = model.eval()(words, number, closed).argmax(-1)
        found[level] = {}
        for kind in range(max(kinds) + 1):
            these = torch.tensor(kinds) == kind
            marks = {"right": target, "without": without, "nothing": asked}
            found[level][f"fact {kind}" if kind else "others"] = {
                name: round((said == ends)[these].all(-1).double().mean().item(), 4) for name, ends in marks.items()
            }
        earlier = (torch.tensor(kinds) == max(kinds)) & (without != asked).any(-1)
        found[level]["earlier move"] = {"said": round((said == without)[earlier].all(-1).double().mean().item(), 4)}
    return found


def _ends_without(story: Story, place: int, number: Tensor, asked: Tensor) -> Tensor:
    """Return the ends of the answer, in the whole story, that the story without one sentence gives."""
    facts = story.without(place).facts
    if not facts:
        return asked
    told = facts[-1] + (facts[-1] >= place)  # its place in the whole story
    (places,) = (number == told + 1).nonzero(as_tuple=True)
    return torch.stack([places[3], places[-1]])


@torch.no_grad()
def routes(model: Reader, stories: Sequence[Story]) -> dict[str, float]:
    """Return the right answers when the first fact is closed in the second layer, but only for some words that read.

    question: for the words of the question; story: for those of the story.
    """
    (words, number), target = batch(stories)
    shut = (number == _fact_numbers(stories)["fact 1"])[:, None]
    found = {}
    for name, readers in (("question", number == 0), ("story", number > 0)):
        pairs = shut & readers[:, :, None]
        said = model.eval()(words, number, torch.stack([pairs, torch.zeros_like(pairs)])).argmax(-1)
        found[name] = round((said == target).all(-1).double().mean().item(), 4)
    return found


@torch.no_grad()
def lost(model: Reader, stories: Sequence[Story]) -> float:
    """Return how often the model says that the story does not tell, when a taker's only move is cut out."""
    cut = [story.without(story.facts[-1]) for story in stories]
    (words, number), ends = batch([story for story in cut if not story.facts])
    return round((model.eval()(words, number).argmax(-1) == ends).all(-1).double().mean().item(), 4)


def rights(model: nn.Module, facts: Sequence[int], count: int = 1_000, lengths: range = STORIES.lengths) -> dict:
    """Return the share of held-out stories whose answer has both ends right, by the number of facts."""
    return {str(n): round(accuracy(model, [batch(kept(n, count, lengths))]), 4) for n in facts}


def fit(
    make: Callable[[], nn.Module],
    seed: int,
    steps: int = STEPS,
    stories: Stories = STORIES,
    how: Mapping[str, Any] = HOW,
) -> nn.Module:
    """Return a model, trained as in the chapter; torch's default dtype should be float64."""
    torch.manual_seed(seed)
    model = make()
    train(model, stories, seed=seed, steps=steps, check_every=steps, **how)
    return model


def reader(num_layers: int = 2) -> Reader:
    """Return the chapter's model."""
    return Reader(len(WORDS), num_layers=num_layers)


def recurrence() -> Recurrence:
    """Return GRUs as large as :func:`reader`."""
    return of_size(partial(Recurrence, len(WORDS)), count_parameters(reader()))


def bag() -> Bag:
    """Return a bag of words as large as :func:`reader`."""
    return of_size(partial(Bag, len(WORDS)), count_parameters(reader()))


def findings(model: Reader) -> dict:
    """Return all that the chapter says of one reader."""
    return {
        "right": rights(model, range(3)),
        "shares": {str(n): attention_shares(model, kept(n, 500)) for n in (1, 2)},
        "blocked": blocked(model, kept(2, 300)),
        "routes": routes(model, kept(2, 300)),
        "lost": lost(model, kept(2, 1_000)),
        "by_length": {n: rights(model, range(1, 3), 300, range(n, n + 1)) for n in LENGTHS},
    }


@float64()
def run(kind: str, seed: int, steps: int = STEPS) -> dict:
    """Train one model; return its share of right answers, and of the reader :func:`findings`."""
    model = fit(MODELS[kind], seed, steps)
    return {"seed": seed} | (findings(model) if isinstance(model, Reader) else {"right": rights(model, range(3))})


@float64()
def run_chain(num_layers: int, seed: int) -> dict:
    """Train a reader on chains of up to three facts; return its share of right answers by the number of facts."""
    model = fit(partial(reader, num_layers), seed, LONG_STEPS, CHAINS, LONG_HOW)
    stories = CHAINS.tell(3_000, torch.Generator().manual_seed(2_000), held_out=True)
    by_facts = {n: [story for story in stories if len(story.facts) == n] for n in range(4)}
    return {"seed": seed, "right": {str(n): round(accuracy(model, [batch(some)]), 4) for n, some in by_facts.items()}}


def row(make: Callable[[], nn.Module], one: Callable[[int], dict]) -> dict:
    """Return the size of a model, and what is found for each seed."""
    return {"parameters": count_parameters(make()), "seeds": [one(seed) for seed in SEEDS]}


MODELS: dict[str, Callable[[], nn.Module]] = {"reader": reader, "recurrence": recurrence, "bag": bag}
ROWS = {kind: partial(row, make, partial(run, kind)) for kind, make in MODELS.items()}
ROWS["chains, 3 layers"] = partial(row, partial(reader, 3), partial(run_chain, 3))
