"""Stories: what is asked is what the story tells, some pairs of names are kept for tests, and guessing does not pay."""

from collections import Counter

import pytest
import torch

from attnlib.lab.stories import (
    ENTERED,
    HOLDERS,
    LIES_IN,
    PADDING,
    PEOPLE,
    PLACES,
    THINGS,
    TOOK,
    WORDS,
    Sentence,
    Stories,
    Story,
    batch,
    held_out,
)

CHAINS = Stories(facts=(0, 1, 2, 3), lengths=range(7, 11))


def told(stories=CHAINS, count=400, seed=0, held_out=False):
    return stories.tell(count, torch.Generator().manual_seed(seed), held_out=held_out)


def world(sentences):
    """Where everybody and everything is at the end: a world played through from the first sentence to the last."""
    place, bearer, inside = {}, {}, {}
    for text in map(str, sentences):
        words = [word for word in text.split() if word != "the"]
        if words[1] == "entered":
            place[words[0]] = " ".join(words[2:])
        elif words[1] == "took":
            bearer[words[2]] = words[0]
        else:
            assert words[1:3] == ["lies", "in"]
            inside[words[0]] = words[3]
    found = dict(place)
    found |= {thing: place.get(person) for thing, person in bearer.items()}
    return found | {thing: found.get(holder) for thing, holder in inside.items()}


@pytest.mark.parametrize("kept", [False, True])
def test_the_answer_is_where_a_world_that_is_played_through_has_it(kept):
    for story in told(held_out=kept):
        assert story.answer == world(story.sentences).get(story.asked)


def test_each_fact_is_needed_and_nothing_else_is():
    for story in told(count=300):
        for place in range(len(story.sentences)):
            answer = world(story.without(place).sentences).get(story.asked)
            assert (answer == story.answer) == (place not in story.facts)
            assert story.without(place).answer == answer


@pytest.mark.parametrize("kept", [False, True])
def test_a_question_needs_as_many_facts_as_were_asked_for_and_each_number_comes(kept):
    counts = Counter(len(story.facts) for story in told(held_out=kept))
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 60
    assert all(len(story.facts) == 2 for story in told(Stories(facts=(2,)), held_out=kept))


def test_no_fact_is_the_only_one_of_its_kind():
    for story in told():
        for place in story.facts:
            verb = story.sentences[place].verb
            same = {(one.first, one.second) for one in story.sentences if one.verb == verb}
            assert len(same) > 1
            assert verb == ENTERED or len({first for first, _ in same}) > 1


def test_facts_come_in_any_order():
    forward = [list(story.facts) == sorted(story.facts) for story in told(Stories(facts=(2,)))]
    assert 0.3 < sum(forward) / len(forward) < 0.8


def test_lengths_are_those_that_were_asked_for():
    assert {len(story.sentences) for story in told()} == {7, 8, 9, 10}
    assert {len(story.sentences) for story in told(Stories(lengths=range(12, 13)), 20)} == {12}


def test_the_pairs_of_a_test_never_stand_in_a_sentence_of_training():
    trained = {(one.first, one.second) for seed in range(5) for story in told(seed=seed) for one in story.sentences}
    asked = [story for story in told(held_out=True) if story.facts]
    needed = {(one.first, one.second) for story in asked for one in map(story.sentences.__getitem__, story.facts)}
    assert len(needed) > 20
    assert not needed & trained
    names = {name for pair in trained for name in pair}
    assert names == {*PEOPLE, *PLACES, *THINGS, *HOLDERS}  # the names, one by one, are all known


def test_one_pair_in_eight_to_ten_is_kept_and_each_name_has_one():
    for firsts, seconds in ((PEOPLE, PLACES), (PEOPLE, THINGS + HOLDERS), (THINGS, HOLDERS)):
        kept = [(first, second) for first in firsts for second in seconds if held_out(first, second)]
        assert 1 / 11 < len(kept) / (len(firsts) * len(seconds)) < 1 / 7
    assert {first for first in PEOPLE for second in PLACES if held_out(first, second)} == set(PEOPLE)


@pytest.mark.parametrize("kept", [False, True])
def test_guessing_a_place_does_not_pay(kept):
    stories = [story for story in told(Stories(), 3_000, held_out=kept) if story.facts]
    places = [[one.second for one in story.sentences if one.verb == ENTERED] for story in stories]
    for guess in (0, -1):
        right = sum(story.answer == moves[guess] for story, moves in zip(stories, places, strict=True)) / len(stories)
        assert 0.15 < right < 0.4
    assert max(Counter(story.answer for story in stories).values()) / len(stories) < 0.2


def test_a_batch_points_at_the_answer_and_numbers_the_sentences():
    stories = told(count=50)
    (words, number), ends = batch(stories)
    for story, row, parts, (start, end) in zip(stories, words, number, ends.tolist(), strict=True):
        real = parts != PADDING
        text = WORDS.decode(row[real])
        assert " ".join(text) == " ".join([story.question, *map(str, story.sentences)])
        for place, one in enumerate(story.sentences, start=1):
            assert " ".join(WORDS.decode(row[parts == place])) == str(one)
        assert " ".join(text[start : end + 1]) == (story.answer or story.asked)
        assert parts[start] == (1 + story.facts[-1] if story.facts else 0)
        assert not real[int(real.sum()) :].any()


def test_stories_are_the_same_again_and_others_with_another_seed():
    assert told(seed=1) == told(seed=1) != told(seed=2)


def test_the_last_move_counts():
    moves = Sentence("mary", ENTERED, "hall"), Sentence("mary", TOOK, "box"), Sentence("mary", ENTERED, "cellar")
    story = Story(moves, "mary")
    assert story.answer == "cellar"
    holds = Story((*story.sentences, Sentence("coin", LIES_IN, "box")), "coin")
    assert (holds.facts, holds.answer, str(holds.sentences[-1])) == ((3, 1, 2), "cellar", "the coin lies in the box")


def test_a_word_that_no_story_has_is_named():
    with pytest.raises(ValueError, match="'zoe'"):
        batch([Story((Sentence("zoe", ENTERED, "hall"),), "mary")])
