"""Matches: the report, read again by other rules, gives the summary; no name of a test is one of training."""

import re
from random import Random

import pytest

from attnlib.lab.matches import SIDES, draw_match, facts, known_words, names

MANY = [draw_match(Random(seed), names=kind) for kind in ("training", "tests") for seed in range(400)]
LONG = [draw_match(Random(seed), goals=range(6, 9), events=range(8, 11)) for seed in range(100)]

GOAL = re.compile(r"ahead|the lead|in front|equalises|level|adds one|safer|widens|pulls one back|new hope|narrows")
HOME = re.compile(r"the (hosts|home side)")


def read_again(report):
    """The summary of a report, by one who knows English and not the generator."""
    opening, *told = [sentence.split() for sentence in " ".join(report).split(" .")]
    hosts, visitors = (opening[0], opening[-1]) if opening[1] in ("welcome", "receive") else (opening[-1], opening[0])
    goals = {"home": 0, "away": 0}
    ahead, decided = None, None  # who leads; who made it so, or level, and when
    for words in told:
        sentence = " ".join(words)
        if not GOAL.search(sentence) or "flag" in sentence:
            continue
        goals["home" if HOME.search(sentence) else "away"] += 1
        leads = "home" if goals["home"] > goals["away"] else "away" if goals["away"] > goals["home"] else None
        if leads != ahead:
            [player] = [word for word in words if word[0].isupper()]
            ahead, decided = leads, (player, words[words.index("minute") + 1])
    high, low = sorted(goals.values(), reverse=True)
    teams = f"{visitors} beat {hosts}" if ahead == "away" else f"{hosts} {'beat' if ahead else 'and'} {visitors}"
    result = f"{ahead} win" if ahead else "draw"
    if not high:
        return f"{result} : {teams} 0 – 0 , no goal ."
    deed = "decided it" if ahead else "equalised"
    return f"{result} : {teams} {high} – {low} , {decided[0]} {deed} in minute {decided[1]} ."


def test_the_summary_follows_from_the_report():
    for match in [*MANY, *LONG]:
        assert read_again(match.report) == " ".join(match.summary)


def test_the_score_is_never_written():
    assert not any({"–", "0"} & set(match.report) for match in MANY)


def test_every_result_and_number_of_goals_is_met():
    assert {facts(match.summary).result for match in MANY} == {"home win", "away win", "draw"}
    assert {len(match.goals) for match in MANY} == set(range(5))
    assert {len(match.events) for match in MANY} == {4, 5}
    assert {len(match.goals) for match in LONG} == {6, 7, 8}


def test_a_wording_says_what_a_goal_makes_of_the_match():
    words = {
        "lead": "ahead lead front",
        "tie": "equalises level",
        "more": "adds safer widens",
        "less": "back hope narrows",
    }
    for match in MANY:
        difference = 0
        for goal in match.goals:
            before, difference = difference, difference + (1 if goal.side == SIDES[0] else -1)
            steps = {"lead": before == 0, "tie": difference == 0, "more": abs(difference) > abs(before) > 0}
            kind = next((name for name, is_so in steps.items() if is_so), "less")
            assert goal.kind == kind
            assert set(words[kind].split()) & set(match.report[goal.words])


def test_an_event_knows_where_its_words_stand():
    for match in MANY:
        for event in match.events:
            words = match.report[event.words]
            assert event.player in words
            assert str(event.minute) in words
            assert words.index(".") == len(words) - 1
        assert [event.minute for event in match.events] == sorted(event.minute for event in match.events)


def test_no_name_of_tests_is_one_of_training_or_a_known_word():
    for of_training, of_tests in zip(names("training"), names("tests"), strict=True):
        assert len(of_training) == 3 * len(of_tests) == len(set(of_training))
        assert not set(of_training) & set(of_tests)
    every = {name for kind in ("training", "tests") for part in names(kind) for name in part}
    assert not every & set(known_words())
    for match in MANY:
        assert set(match.report) | set(match.summary) <= every | set(known_words())


def test_the_same_chance_gives_the_same_match():
    assert draw_match(Random(3)) == draw_match(Random(3)) != draw_match(Random(4))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="kind: expected 'training' or 'tests', got 'both'"):
        names("both")
    with pytest.raises(ValueError, match="names: expected 'training' or 'tests', got 'both'"):
        draw_match(Random(0), names="both")
    with pytest.raises(ValueError, match="events: expected at least 7"):
        draw_match(Random(0), goals=[7], events=range(4, 7))


@pytest.mark.parametrize("match", MANY[:9])
def test_claims_are_taken_apart(match):
    claims = facts(match.summary)
    high, low = sorted((match.score(side) for side in SIDES), reverse=True)
    assert claims.score == (high, low)
    assert set(claims.teams) == set(match.teams.values())
    if match.decisive:
        assert (claims.scorer, claims.minute) == (match.decisive.player, match.decisive.minute)
    else:
        assert (claims.scorer, claims.minute, claims.score) == (None, None, (0, 0))


@pytest.mark.parametrize(
    "words",
    [
        "",
        "home win : A beat B 2 – 1 , C decided it in minute 8",
        "home win : A beat B 2 – x , C decided it in minute 8 .",
        "home win : A beat B 2 – 1 , C decided it in minute 8 . .",
        "late win : A beat B 2 – 1 , C decided it in minute 8 .",
    ],
)
def test_what_is_no_sentence_claims_nothing(words):
    assert facts(words.split()) is None
