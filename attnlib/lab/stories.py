"""Stories with a question: where is Mary, where is the ball that John took? After bAbI (Weston et al., 2015).

======  =====================================================  ===============================================
facts   the question                                           what answers it
======  =====================================================  ===============================================
1       where is mary                                          the last place that she entered
2       where is the box                                       who took it; the last place that they entered
3       where is the coin                                      what it lies in; who took that; their last place
======  =====================================================  ===============================================

The answer is a span of the story, such as *small kitchen*; where the story does not tell, it is the first token.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from attnlib.lab.tasks import END, Batch
from attnlib.lab.words import Vocabulary

PEOPLE = ("daniel", "emma", "hugo", "john", "lena", "mary", "omar", "sandra")
ROOMS = tuple(f"{size} {room}" for room in ("barn", "kitchen", "room") for size in ("large", "small"))
PLACES = ("cellar", "garden", "hall", "office", *ROOMS)
THINGS = ("apple", "ball", "book", "coin", "hat", "key", "lamp", "map")
HOLDERS = ("bag", "basket", "box", "case")
ENTERED, TOOK, LIES_IN = "entered", "took", "lies in"
WORDS = Vocabulary(" ".join((*PEOPLE, *PLACES, *THINGS, *HOLDERS, ENTERED, TOOK, LIES_IN, "the where is")).split())
PADDING = -1  # the number of the sentence that fills a batch up


class Sentence(NamedTuple):
    """Two names and what joins them.

    >>> from attnlib.lab.stories import ENTERED, Sentence
    >>> str(Sentence("mary", ENTERED, "small kitchen"))
    'mary entered the small kitchen'
    """

    first: str
    verb: str
    second: str

    def __str__(self) -> str:
        return f"{_named(self.first)} {self.verb} {_named(self.second)}"


@dataclass(frozen=True)
class Story:
    """Sentences, whom or what is asked for, and the sentences that tell.

    Attributes:
        sentences: in the order in which they are told.
        asked: a person, a thing or a holder.

    >>> from attnlib.lab.stories import ENTERED, TOOK, Sentence, Story
    >>> told = Sentence("mary", TOOK, "ball"), Sentence("john", ENTERED, "hall"), Sentence("mary", ENTERED, "cellar")
    >>> story = Story(told, "ball")
    >>> story.question, story.facts, story.answer
    ('where is the ball', (0, 2), 'cellar')
    >>> story.without(0).answer is None
    True
    """

    sentences: tuple[Sentence, ...]
    asked: str

    @property
    def question(self) -> str:
        """The words of the question."""
        return f"where is {_named(self.asked)}"

    @cached_property  # asked for more than once, at each step of training
    def facts(self) -> tuple[int, ...]:
        """The places of the sentences that lead to the answer, in that order; none: the story does not tell."""
        found: list[int] = []
        name = self.asked
        while name not in PEOPLE:
            link = self._last(TOOK, name, part=2)
            if link is None:
                link = self._last(LIES_IN, name, part=0)
            if link is None:
                return ()
            found.append(link)
            told = self.sentences[link]
            name = told.first if told.verb == TOOK else told.second
        move = self._last(ENTERED, name, part=0)
        return () if move is None else (*found, move)

    @property
    def answer(self) -> str | None:
        """The place; None where the story does not tell."""
        return self.sentences[self.facts[-1]].second if self.facts else None

    def without(self, place: int) -> "Story":
        """Return the story without one of its sentences."""
        return Story(self.sentences[:place] + self.sentences[place + 1 :], self.asked)

    def _last(self, verb: str, name: str, part: int) -> int | None:
        places = (place for place, told in enumerate(self.sentences) if told.verb == verb and told[part] == name)
        return max(places, default=None)


@dataclass(frozen=True)
class Stories:
    """Random stories, each with a question: what :func:`attnlib.lab.training.train` draws from.

    Some pairs of names never stand in one sentence of training, see :func:`held_out`; in a test all sentences that lead
    to the answer are such pairs.

    Attributes:
        facts: how many sentences lead to the answer, each number as often as another; 0: the story does not tell.
        lengths: the numbers of sentences, each as often as another.

    >>> import torch
    >>> from attnlib.lab.stories import Stories
    >>> (words, number), ends = Stories().draw(3, torch.Generator().manual_seed(0))
    >>> words.shape == number.shape, ends.shape
    (True, torch.Size([3, 2]))
    """

    facts: Sequence[int] = (0, 1, 1, 1, 2, 2, 2, 2, 2, 2)
    lengths: range = range(5, 8)

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return a batch of stories for training."""
        return batch(self.tell(count, generator))

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return at most 1,000 held-out stories."""
        return [batch(self.tell(min(count, 1_000), generator, held_out=True))]

    def tell(self, count: int, generator: torch.Generator, *, held_out: bool = False) -> list[Story]:
        """Return stories for training, or held-out ones."""
        chance = random.Random(int(torch.randint(2**31, (), generator=generator)))
        return [self._one(chance, held_out) for _ in range(count)]

    def _one(self, chance: random.Random, held_out: bool) -> Story:
        length, facts = chance.choice(self.lengths), chance.choice(self.facts)
        kinds = {0: PEOPLE + THINGS, 1: PEOPLE, 2: THINGS + HOLDERS, 3: THINGS}[facts]
        while True:
            sentences = _sentences(chance, length, lies=2 if max(self.facts) > 2 else 0, any_pair=held_out)
            for asked in chance.sample(kinds, len(kinds)):
                story = Story(sentences, asked)
                if len(story.facts) == facts:
                    return _with_new_pairs(chance, story) if held_out and facts else story


def held_out(first: str, second: str) -> bool:
    """Return whether two names never stand in one sentence of training: one pair in eight to ten.

    >>> from attnlib.lab.stories import held_out
    >>> held_out("daniel", "cellar"), held_out("daniel", "hall")
    (True, False)
    """
    return (first, second) in _held_out_pairs()


@cache
def _held_out_pairs() -> frozenset[tuple[str, str]]:
    kinds = ((PEOPLE, PLACES, 10), (PEOPLE, THINGS + HOLDERS, 8), (THINGS, HOLDERS, 8))
    return frozenset(
        (first, second)
        for firsts, seconds, one_in in kinds
        for (i, first), (j, second) in product(enumerate(firsts), enumerate(seconds))
        if (i + j) % one_in == 0
    )


def _sentences(chance: random.Random, length: int, lies: int, any_pair: bool) -> tuple[Sentence, ...]:
    """Return a story: in about every third sentence something is taken, ``lies`` say what lies in it; the others move.

    Whoever takes something also moves. No place is entered twice, nothing is taken twice, and nobody takes twice.
    """
    takes = max(2, length // 3)  # with one alone, what is taken would not matter; so it is with what lies in what
    moves = length - takes - lies
    while True:
        people = chance.sample(PEOPLE, min(len(PEOPLE), chance.randint(moves // 2 + 1, moves)))
        movers = people + chance.choices(people, k=moves - len(people))
        things = chance.sample(THINGS, takes + lies)
        holders = chance.sample(HOLDERS, lies)
        told = [Sentence(*pair) for pair in zip(movers, [ENTERED] * moves, chance.sample(PLACES, moves), strict=True)]
        taken = things[: takes - lies] + holders
        takers = chance.sample(people, takes)
        told += [Sentence(person, TOOK, thing) for person, thing in zip(takers, taken, strict=True)]
        told += [Sentence(thing, LIES_IN, holder) for thing, holder in zip(things[takes:], holders, strict=True)]
        if any_pair or not any(held_out(first, second) for first, _, second in told):
            chance.shuffle(told)
            return tuple(told)


def _with_new_pairs(chance: random.Random, story: Story) -> Story:
    """Return the story with names swapped, such that all that leads to the answer is held-out pairs."""
    old = _chain(story)
    kinds = tuple(next(kind for kind in (PEOPLE, PLACES, THINGS, HOLDERS) if name in kind) for name in old)
    new = chance.choice(_held_out_chains(kinds))
    swapped = dict(zip(old, new, strict=True)) | dict(zip(new, old, strict=True))
    sentences = tuple(
        Sentence(swapped.get(first, first), verb, swapped.get(second, second))
        for first, verb, second in story.sentences
    )
    return Story(sentences, swapped[story.asked])


def _chain(story: Story) -> list[str]:
    """Return the names from what is asked for to its place."""
    names = [story.asked]
    for place in story.facts:
        first, _, second = story.sentences[place]
        names.append(second if first == names[-1] else first)
    return names


@cache
def _held_out_chains(kinds: tuple[tuple[str, ...], ...]) -> list[tuple[str, ...]]:
    return [names for names in product(*kinds) if all(held_out(a, b) or held_out(b, a) for a, b in pairwise(names))]


def _named(name: str) -> str:
    return name if name in PEOPLE else f"the {name}"


def batch(stories: Iterable[Story]) -> Batch:
    """Return stories as words, for each the number of its sentence (0: the question), and the two ends of the answer.

    Where the story does not tell, both ends are the last word of the question.

    Raises:
        ValueError: if a word is not one of ``WORDS``; the message names it.

    >>> from attnlib.lab.stories import ENTERED, Sentence, Story, batch
    >>> (words, number), ends = batch([Story((Sentence("mary", ENTERED, "small kitchen"),), "mary")])
    >>> number
    tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    >>> ends
    tensor([[6, 7]])
    """
    words, numbers, ends = [], [], []
    for story in stories:
        parts = [text.split() for text in (story.question, *map(str, story.sentences))]
        words.append(torch.tensor([token for part in parts for token in WORDS.encode(part)]))
        numbers.append(torch.tensor([number for number, part in enumerate(parts) for _ in part]))
        part = story.facts[-1] + 1 if story.facts else 0
        end = sum(map(len, parts[: part + 1])) - 1
        ends.append((end - len((story.answer or "-").split()) + 1, end))
    return Batch(
        (
            pad_sequence(words, batch_first=True, padding_value=END),
            pad_sequence(numbers, batch_first=True, padding_value=PADDING),
        ),
        torch.tensor(ends),
    )
