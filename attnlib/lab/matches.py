"""Reports of football matches, and one sentence that says what mattered: made by a grammar, so that truth is known.

A report tells who plays at home, then what happens, in order: goals, chances, cards, changes, the weather. It never
writes the score, and names a team once; goals are *for the hosts* or *for the visitors*. The summary says who won, how
high, and who scored the goal that decided it: that put the winner ahead for good. So a writer has to count, to know
which goal was the last to break a tie, and to name people and teams that it has never heard of.

>>> from random import Random
>>> from attnlib.lab.matches import draw_match
>>> match = draw_match(Random(4), names="tests")
>>> " ".join(match.summary)
'home win : Tormoham beat Satabeck 1 – 0 , Holmora decided it in minute 8 .'
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

SIDES = ("hosts", "visitors")
LONGEST = 90  # minutes

# Where a word in braces stands, the match puts its own: a team, a player, a minute, and one word for a side.
OPENINGS = (
    "{hosts} welcome {visitors} .",
    "{hosts} receive {visitors} .",
    "{visitors} travel to {hosts} .",
    "{visitors} are the guests of {hosts} .",
)
SIDE_WORDS = {"hosts": ("hosts", "home side"), "visitors": ("visitors", "away side")}
GOALS = {  # what a goal makes of the match
    "lead": (
        "{player} puts the {side} ahead in minute {minute} .",
        "minute {minute} : {player} gives the {side} the lead .",
        "a header by {player} puts the {side} in front in minute {minute} .",
    ),
    "tie": (
        "{player} equalises for the {side} in minute {minute} .",
        "minute {minute} : {player} brings the {side} level .",
        "a free kick by {player} draws the {side} level in minute {minute} .",
    ),
    "more": (
        "{player} adds one for the {side} in minute {minute} .",
        "minute {minute} : {player} makes it safer for the {side} .",
        "a long shot by {player} widens the gap for the {side} in minute {minute} .",
    ),
    "less": (
        "{player} pulls one back for the {side} in minute {minute} .",
        "minute {minute} : {player} gives the {side} new hope .",
        "a penalty by {player} narrows the gap for the {side} in minute {minute} .",
    ),
}
OTHERS = (
    "{player} misses for the {side} in minute {minute} .",
    "minute {minute} : {player} of the {side} hits the post .",
    "a free kick by {player} of the {side} goes wide in minute {minute} .",
    "{player} scores for the {side} in minute {minute} but the flag is up .",
    "{player} of the {side} sees a yellow card in minute {minute} .",
    "minute {minute} : {player} comes on for the {side} .",
)
AROUND = (
    "it rains all evening .",
    "the ground is sold out .",
    "a cold wind blows .",
    "the crowd sings .",
    "the sun is low .",
    "the grass is wet .",
)
WIN = "{where} win : {winner} beat {loser} {high} – {low} , {player} decided it in minute {minute} ."
DRAW = "draw : {hosts} and {visitors} {high} – {low} , {player} equalised in minute {minute} ."
NO_GOAL = "draw : {hosts} and {visitors} 0 – 0 , no goal ."

_BEGINNINGS = (
    "Al",
    "Bra",
    "Cor",
    "Da",
    "El",
    "Fen",
    "Gral",
    "Hol",
    "Is",
    "Jar",
    "Kel",
    "Lor",
    "Mar",
    "Nor",
    "Ol",
    "Pel",
    "Rul",
    "Sa",
    "Tor",
    "Ul",
    "Ver",
    "Wil",
    "Ye",
    "Zan",
)
_TEAM_ENDINGS = ("beck", "by", "dorf", "field", "grim", "ham", "stad", "ton")
_PLAYER_ENDINGS = ("an", "do", "ek", "in", "mo", "ra", "so", "vi")
_MIDDLES = ("", "lo", "mo", "ri", "ta")


def names(kind: str) -> tuple[list[str], list[str]]:
    """Return the names of teams and of players that matches of a kind may have: those of tests are of no other.

    Args:
        kind: ``"training"`` or ``"tests"``.

    Raises:
        ValueError: if it is neither.

    >>> from attnlib.lab.matches import names
    >>> teams, players = names("training")
    >>> len(teams), len(players), bool(set(teams) & set(names("tests")[0]))
    (720, 720, False)
    """
    if kind not in ("training", "tests"):
        raise ValueError(f"kind: expected 'training' or 'tests', got {kind!r}")
    found = []
    for endings in (_TEAM_ENDINGS, _PLAYER_ENDINGS):
        every = ["".join(parts) for parts in itertools.product(_BEGINNINGS, _MIDDLES, endings)]
        Random(0).shuffle(every)
        quarter = len(every) // 4
        found.append(every[:quarter] if kind == "tests" else every[quarter:])
    return found[0], found[1]


class Event(NamedTuple):
    """Something that happens: where its words stand in the report, and what it is.

    ``kind`` is *lead*, *tie*, *more* or *less* for a goal, and *other* for what changes no score.
    """

    kind: str
    side: str
    player: str
    minute: int
    words: slice


class Facts(NamedTuple):
    """What a summary claims: "home win", "away win" or "draw"; the teams as named; the score; who decided it, when."""

    result: str
    teams: tuple[str, str]
    score: tuple[int, int]
    scorer: str | None
    minute: int | None


@dataclass(frozen=True)
class Match:
    """A match: the words of its report, what happened, and what follows from that.

    Attributes:
        teams: the name of each side's team.
        report: the words of the report.
        events: goals and others, in the order of their minutes.
    """

    teams: dict[str, str]
    report: tuple[str, ...]
    events: tuple[Event, ...]

    @property
    def goals(self) -> list[Event]:
        return [event for event in self.events if event.kind != "other"]

    @property
    def decisive(self) -> Event | None:
        """The goal that put the winner ahead for good; in a draw the last equaliser; None without a goal."""
        level = self.score("hosts") == self.score("visitors")
        found = [goal for goal in self.goals if goal.kind == ("tie" if level else "lead")]
        return found[-1] if found else None

    def score(self, side: str) -> int:
        """Return how many goals a side scored."""
        return sum(goal.side == side for goal in self.goals)

    @property
    def summary(self) -> list[str]:
        """The words of the true summary."""
        goal = self.decisive
        if goal is None:
            return NO_GOAL.format(**self.teams).split()
        high, low = sorted(map(self.score, SIDES), reverse=True)
        told = {"player": goal.player, "minute": goal.minute, "high": high, "low": low}
        if high == low:
            return DRAW.format(**self.teams, **told).split()
        where, loser = ("home", "visitors") if goal.side == "hosts" else ("away", "hosts")
        return WIN.format(where=where, winner=self.teams[goal.side], loser=self.teams[loser], **told).split()


def draw_match(
    random: Random, *, names: str = "training", goals: Sequence[int] = range(5), events: Sequence[int] = range(4, 6)
) -> Match:
    """Return a match that never was.

    Args:
        random: where chance comes from.
        names: whose names it has, as for :func:`names`.
        goals: how many goals there may be, each number as often as another.
        events: how many events there may be, goals and others, of those numbers that leave room for the goals.

    Raises:
        ValueError: if there may be more goals than events.
    """
    number_of_goals = random.choice(goals)
    enough = [number for number in events if number >= number_of_goals]
    if not enough:
        raise ValueError(f"events: expected at least {number_of_goals}, as many as goals, got {list(events)}")
    number = random.choice(enough)
    if names not in _NAMES:
        raise ValueError(f"names: expected 'training' or 'tests', got {names!r}")
    teams = dict(zip(SIDES, random.sample(_NAMES[names][0], 2), strict=True))
    players = random.sample(_NAMES[names][1], number)
    minutes = sorted(random.sample(range(1, LONGEST + 1), number))
    is_goal = [place < number_of_goals for place in range(number)]
    random.shuffle(is_goal)
    around = random.sample(AROUND, 2)
    report = [*random.choice(OPENINGS).format(**teams).split(), *around[0].split()]
    pause = random.randrange(number)
    ahead, told = 0, []  # ahead: by how many goals the hosts are
    for place, (player, minute) in enumerate(zip(players, minutes, strict=True)):
        if place == pause:
            report += around[1].split()
        side = random.choice(SIDES)
        kind = "other"
        if is_goal[place]:
            before, ahead = ahead, ahead + (1 if side == "hosts" else -1)
            kind = "lead" if before == 0 else "tie" if ahead == 0 else "more" if abs(ahead) > abs(before) else "less"
        wording = random.choice(OTHERS if kind == "other" else GOALS[kind])
        words = wording.format(player=player, side=random.choice(SIDE_WORDS[side]), minute=minute).split()
        told.append(Event(kind, side, player, minute, slice(len(report), len(report) + len(words))))
        report += words
    return Match(teams, tuple(report), tuple(told))


_NAMES = {kind: names(kind) for kind in ("training", "tests")}


def known_words() -> list[str]:
    """Return every word of reports and summaries that is no name."""
    wordings = (*OPENINGS, *itertools.chain(*GOALS.values()), *OTHERS, *AROUND, WIN, DRAW, NO_GOAL)
    words = {word for wording in wordings for word in wording.split() if "{" not in word}
    words |= {"home", "away"} | {
        word for wordings in SIDE_WORDS.values() for wording in wordings for word in wording.split()
    }
    words |= set(map(str, range(LONGEST + 1)))
    return sorted(words)


def facts(words: Iterable[str]) -> Facts | None:
    """Return what a summary claims, or None where it is no sentence of the grammar.

    >>> from attnlib.lab.matches import facts
    >>> facts("home win : Alby beat Corham 2 – 1 , Fendo decided it in minute 88 .".split())
    Facts(result='home win', teams=('Alby', 'Corham'), score=(2, 1), scorer='Fendo', minute=88)
    >>> facts("Alby beat Corham .".split()) is None
    True
    """
    said = _CLAIM.fullmatch(" ".join(words))
    if said is None:
        return None
    minute = int(said["minute"]) if said["minute"] else None
    return Facts(
        said["result"], (said["first"], said["second"]), (int(said["high"]), int(said["low"])), said["scorer"], minute
    )


_CLAIM = re.compile(
    r"(?P<result>(?:home|away) win|draw) : (?P<first>\S+) (?:beat|and) (?P<second>\S+) (?P<high>\d+) – (?P<low>\d+) , "
    r"(?:no goal|(?P<scorer>\S+) (?:decided it|equalised) in minute (?P<minute>\d+)) \."
)
