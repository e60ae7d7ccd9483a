"""The chapter on summaries: the pointer as arithmetic, what is stored, and the row that is cheap computed again."""

from types import SimpleNamespace

import pytest
import torch

from attnlib import masks
from attnlib.lab import stored
from attnlib.lab.experiments import summarisation
from attnlib.lab.experiments.summarisation import KNOWN, MOST, NEW, Summariser, numbered, right, text
from attnlib.lab.models import count_parameters

ROWS = stored.load("summarisation")["rows"]
TRAINED = {
    "pointer": summarisation.pointer,
    "no pointer": summarisation.NoPointer,
    "numbered": summarisation.transformer,
    "recurrence": summarisation.recurrence,
}
SEEDS = ROWS["pointer"]["seeds"]
TRUE = "home win : Alby beat Corham 2 – 1 , Fendo decided it in minute 88 ."
PLAYED = SimpleNamespace(summary=TRUE.split())


def test_every_row_is_stored_with_every_seed():
    assert list(ROWS) == list(summarisation.ROWS)
    assert all([run["seed"] for run in ROWS[name]["seeds"]] == list(summarisation.SEEDS) for name in TRAINED)
    assert len(summarisation.SEEDS) >= 3


@pytest.mark.parametrize("name", TRAINED)
def test_a_row_is_of_the_size_that_is_stored(name):
    size = count_parameters(TRAINED[name]())
    assert size == ROWS[name]["parameters"]
    assert size == pytest.approx(ROWS["pointer"]["parameters"], rel=0.1)


def test_the_baselines_come_out_again():
    assert summarisation.baselines() == ROWS["baselines"]


def test_a_run_is_the_same_again_and_leaves_the_default_dtype():
    first, again, other = (summarisation.run(summarisation.pointer, seed, tests=12, steps=1) for seed in (0, 0, 1))
    assert first == again
    assert {**other, "seed": 0} != first
    assert torch.get_default_dtype() == torch.float32


def test_new_words_are_numbered_by_where_they_first_stand():
    report = ["Zan", "beat", "Yev", "beat", "Zan"]
    tokens = numbered(report, report)
    assert tokens == [NEW, KNOWN.index("beat"), NEW + 1, KNOWN.index("beat"), NEW]
    assert text(tokens, report) == report
    assert text([NEW + 2], report) == ["<no such word>"]


@pytest.mark.parametrize(
    ("words", "report", "message"),
    [
        ([], [], "report: expected words, at most 16 of them new, got 0 with 0 new"),
        ([], [f"name{n}" for n in range(17)], "got 17 with 17 new"),
        (["Zan"], ["beat"], "words: expected known words or words of the report, got 'Zan'"),
    ],
)
def test_bad_reports_are_named(words, report, message):
    with pytest.raises(ValueError, match=message):
        numbered(words, report)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Summariser(d_model=8, num_heads=2, d_ff=12).double().eval()


SOURCE = torch.tensor([[5, NEW, 7, NEW + 1, NEW], [NEW, 9, 5, 1, 1]])
TARGET = torch.tensor([[0, NEW, 6], [0, 4, 5]])
REAL = masks.padding([5, 3])


@torch.no_grad()
def test_the_answer_is_the_sum_over_the_places_of_a_word(model):
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        p = model(SOURCE, TARGET, REAL).exp()
        known, weights, gate = model.look(TARGET, model.encode(SOURCE, REAL), REAL)
    finally:
        torch.set_default_dtype(default)
    assert torch.allclose(p.sum(-1), torch.ones(2, 3, dtype=p.dtype), atol=1e-5)
    for b in range(2):
        for place in range(3):
            for word in range(NEW + MOST):
                g = gate[b, place, 0].item()
                wanted = (1 - g) * known[b, place, word].item() if word < NEW else 0.0
                wanted += g * sum(weights[b, place, j].item() for j in range([5, 3][b]) if SOURCE[b, j] == word)
                assert p[b, place, word].item() == pytest.approx(wanted, abs=1e-8)


@torch.no_grad()
def test_new_words_look_alike_and_padding_is_not_read(model):
    model.float()
    source, other = SOURCE.clone(), SOURCE.clone()
    other[0, 3], other[1, 4] = NEW + 7, 12  # another number, other padding
    looks = [model.look(TARGET, model.encode(tokens, REAL), REAL) for tokens in (source, other)]
    for one, same in zip(*looks, strict=True):
        assert torch.allclose(one, same, atol=1e-6)


def test_a_closed_word_is_not_pointed_at():
    matches = summarisation.matches("tests")[:3]
    torch.manual_seed(0)
    model = summarisation.pointer()
    with torch.no_grad():
        model.gate.bias.fill_(50.0)  # it only points
        model.gate.weight.zero_()
    closed = [slice(1, len(match.report)) for match in matches]
    said = summarisation.summaries(model, matches, closed)
    assert [set(words) for words in said] == [{match.report[0]} for match in matches]


@pytest.mark.parametrize(
    ("said", "false"),
    [
        (TRUE, set()),
        (TRUE.replace("home", "away"), {"result"}),
        (TRUE.replace("Alby beat Corham", "Corham beat Alby"), {"teams"}),
        (TRUE.replace("2 – 1", "3 – 1"), {"score"}),
        (TRUE.replace("Fendo", "Fenda"), {"scorer"}),
        (TRUE.replace("88", "8"), {"minute"}),
        ("Alby beat Corham .", set(summarisation.PARTS)),
    ],
)
def test_each_claim_is_judged_alone(said, false):
    marks = right(said.split(), PLAYED)
    assert {part for part in summarisation.PARTS if not marks[part]} == false
    assert marks["all"] is not bool(false)


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        (TRUE, set()),
        (TRUE.replace("Fendo", "in"), {"scorer"}),
        (TRUE.replace("Fendo decided it in", ""), {"scorer", "minute"}),
        (TRUE.replace("88", "8"), {"minute"}),
        (TRUE.replace("2 – 1", "12 – 1"), {"score"}),
        (TRUE.replace("Alby", "Corham"), {"teams"}),
        (TRUE.replace("home win", "draw"), {"result"}),
        ("", set(summarisation.PARTS)),
    ],
)
def test_a_claim_stays_where_its_words_stand(said, lost):
    stays = summarisation.told(said.split(), PLAYED)
    assert {part for part in summarisation.PARTS if not stays[part]} == lost


def test_rouge_is_high_where_nothing_is_true():
    swapped = ROWS["baselines"]["teams swapped"]
    assert swapped["rouge"]["rouge1"] == 1
    assert swapped["right"]["teams"] == swapped["right"]["all"] == 0
    assert swapped["right"]["score"] == swapped["right"]["scorer"] == 1


def test_the_pointer_is_right_where_no_one_else_can_be():
    assert min(run["right"]["all"] for run in SEEDS) >= 0.95
    for run in ROWS["no pointer"]["seeds"]:
        assert run["right"]["all"] == run["right"]["teams"] == 0


def test_the_score_without_a_goal_is_that_of_the_other_goals():
    found = [match for match in summarisation.matches("tests") if summarisation.to_block(match)]
    assert len(found) > 100
    for match in found:
        [*_, left_out] = [goal for goal in match.goals if goal is not match.decisive]
        goals = [goal for goal in match.goals if goal is not left_out]
        by_side = {side: sum(goal.side == side for goal in goals) for side in ("hosts", "visitors")}
        home_first = match.summary[0] != "away"
        order = ("hosts", "visitors") if home_first else ("visitors", "hosts")
        assert summarisation._without(match) == tuple(by_side[side] for side in order)


def test_what_is_closed_breaks_and_what_is_open_stays():
    for run in SEEDS:
        lost = {how: {part for part, share in row.items() if share < 0.8} for how, row in run["blocked"].items()}
        assert lost["the name"] == lost["pointing at the name"] == {"scorer"}
        assert lost["the minute"] == {"minute"}
        assert lost["nothing"] == lost["no goal"] == set()
        assert lost["another goal"] <= {"score", "one less"}
        assert lost["all of the goal"] >= {"scorer", "minute"}
        for how, part in (("the name", "scorer"), ("pointing at the name", "scorer"), ("the minute", "minute")):
            assert run["blocked"][how][part] < 0.02
    scores = [run["blocked"]["another goal"]["score"] for run in SEEDS]
    assert sorted(score < 0.65 for score in scores) == [False, True, True]


def test_longer_matches_are_told_falsely():
    assert max(run["longer"]["more goals"]["right"]["all"] for run in SEEDS) < 0.1
