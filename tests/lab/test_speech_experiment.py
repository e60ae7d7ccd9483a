"""The experiment of the chapter on speech: its rows, its sizes, what the chapter claims, and a row computed again."""

import numpy as np
import pytest
import torch

from attnlib.lab import stored
from attnlib.lab.experiments import speech
from attnlib.lab.models import count_parameters
from attnlib.lab.speech import Spoken, Strings, attention, digits, frame_by_frame, waves
from attnlib.lab.training import float64

ROWS = stored.load("speech")["rows"]
MODELS = ("attention", "attention, window", "recurrent", "convolution", "one token")


def of(row, kind="held out"):
    return [seed["error"][kind] for seed in ROWS[row]["seeds"]]


def test_every_row_is_stored_with_every_seed_and_kind():
    assert list(ROWS) == list(speech.ROWS)
    for name in MODELS:
        assert [seed["seed"] for seed in ROWS[name]["seeds"]] == [0, 1, 2]
        for seed in ROWS[name]["seeds"]:
            assert list(seed["error"]) == list(speech.KINDS)


def test_models_are_of_one_size():
    ours = ROWS["attention"]["parameters"]
    assert ours == count_parameters(attention())
    for name in MODELS:
        assert ROWS[name]["parameters"] == pytest.approx(ours, rel=0.05)


def test_models_are_trained_on_training_voices_and_tested_on_others(monkeypatch):
    heard = []
    monkeypatch.setattr(speech, "train_ctc", lambda model, task, **how: heard.append(task))
    speech.trained(frame_by_frame, 0)
    assert heard == [Spoken("training", (3, 6), (-8, 20), (5.0, 30.0))]
    assert speech.KINDS["held out"].group == "held out"


# Whose token is it?


def strings(starts, ends, tokens):
    said = torch.tensor([[1] * len(starts) + [-1]])
    edges = torch.tensor([[*starts, starts[-1]]]), torch.tensor([[*ends, ends[-1]]])
    return Strings(torch.zeros(1, tokens, 60), said, *edges)


def test_a_token_belongs_to_the_digit_that_it_is_in_or_that_is_nearest():
    #          0  1  2  3  4  5  6  7  8  9
    # digits         [0....0]    [1.......1]
    of_tokens = speech.territory(strings([2.0, 6.0], [4.0, 9.0], 10))
    assert of_tokens.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]]
    overlapping = speech.territory(strings([0.0, 3.0], [5.0, 8.0], 8))
    assert overlapping.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_relations_share_out_all_pairs():
    drawn = Spoken("held out").draw(5, torch.Generator().manual_seed(0))
    whose = speech.territory(drawn)
    pairs = speech.relation(drawn)
    assert torch.equal(sum(pair.int() for pair in pairs.values()), torch.ones_like(pairs["farther"].int()))
    for b, i, j in torch.randint(5, (40, 3), generator=torch.Generator().manual_seed(1)).tolist():
        apart = abs(int(whose[b, 7 * i]) - int(whose[b, 9 * j]))
        name = ("its own digit", "the next digits", "farther")[min(apart, 2)]
        assert pairs[name][b, 7 * i, 9 * j]
    for row, count in enumerate(drawn.counts.tolist()):
        assert set(whose[row].tolist()) == set(range(count))


def test_what_is_mirrored_is_as_near_and_as_many():
    """Pair by pair, from what the sentence says: another's digit within 8 tokens, and the own as far across."""
    drawn = Spoken("held out").draw(4, torch.Generator().manual_seed(0))
    whose = speech.territory(drawn).tolist()
    other, own = (torch.zeros(4, drawn.tokens.shape[1], drawn.tokens.shape[1], dtype=torch.bool) for _ in range(2))
    for b, of_tokens in enumerate(whose):
        for t, digit in enumerate(of_tokens):
            for away in (*range(-8, 0), *range(1, 9)):
                key, across = t + away, t - away
                inside = min(key, across) >= 0 and max(key, across) < len(of_tokens)
                if inside and of_tokens[key] != digit and of_tokens[across] == digit:
                    other[b, t, key] = own[b, t, across] = True
    pairs = speech.mirrored(drawn)
    assert list(pairs) == ["near, another digit", "near, its own"]
    assert pairs["near, another digit"].equal(other)
    assert pairs["near, its own"].equal(own)
    assert other.any()
    assert other.sum(-1).equal(own.sum(-1))


def test_even_weights_are_even_and_end_at_the_edge():
    even = speech.nearby(2, strings([2.0], [4.0], 6))
    assert even.shape == (1, 6, 6)
    assert even[0, 0].tolist() == pytest.approx([1 / 3] * 3 + [0] * 3)
    assert even[0, 3].tolist() == pytest.approx([0] + [1 / 5] * 5)


def test_what_is_closed_is_not_read_but_by_itself():
    drawn = Spoken("held out").draw(3, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = attention().eval()
    own = speech.relation(drawn)["its own digit"]
    other = drawn.tokens.clone()
    there = int(drawn.starts[0, 1]) + 2  # a token of the second digit
    other[0, there] += 3
    with torch.no_grad():
        moved = (model(other, speech.without(own)) - model(drawn.tokens, speech.without(own))).abs().amax(-1)[0] > 0
    mates = own[0, there].clone()
    mates[there] = False
    # In the first layer no token of its digit reads it; in the second they read others, which had.
    assert moved[there]
    first = speech.without(own)[0, 0, :, there]
    assert not first[mates].any()
    assert first[~mates].all()


def test_cuts_are_where_it_is_soft():
    tokens = torch.full((40, 60), -1.0)
    tokens[5:12] = tokens[14:20] = tokens[30:38] = 1.0  # a gap of two tokens is none
    assert [(int(a), int(b)) for a, b in speech.soft_cuts(tokens)] == [(5, 20), (30, 38)]


@float64()
def test_the_digit_is_wrong_where_it_is_closed_on_a_model_that_reads_nothing_else():
    """A model that says a digit where its territory begins, unless it may not read the token after."""
    drawn = speech.strings()
    whose = speech.territory(drawn)

    class Says(torch.nn.Module):
        def forward(self, tokens, mask=None):
            logits = torch.zeros(*tokens.shape[:2], 11)
            logits[..., 0] = 1
            for row, said in enumerate(drawn.said):
                for place, digit in enumerate(said):
                    t = int((whose[row] == place).nonzero()[0, 0])
                    if mask is None or bool(mask[row, 0, t, t + 1]):
                        logits[row, t, digit + 1] = 2
            return logits

    assert speech.wrong_by_place(Says(), None) == [0, 0, 0]
    for place in range(3):
        assert speech.wrong_by_place(Says(), place) == [float(k == place) for k in range(3)]
    assert speech.error(Says(), drawn) == 0


# What the chapter claims


def test_attention_hears_voices_never_heard_and_convolutions_do_too():
    assert np.mean(of("convolution")) < np.mean(of("recurrent")) < np.mean(of("attention")) < 0.05
    assert max(of("attention")) < 0.07
    assert min(of("one token")) > 2 * max(of("attention"))
    for name in ("attention", "recurrent", "convolution"):
        assert max(of(name, "training voices")) < 0.016
    assert np.mean(of("convolution", "Scottish")) < np.mean(of("attention", "Scottish"))
    assert np.mean(of("convolution", "0 dB")) < np.mean(of("attention", "0 dB"))


def test_naming_is_easy_and_cutting_is_not():
    assert ROWS["templates"]["cut by oracle"] < 0.05 < 0.3 < ROWS["templates"]["cut where it is soft"]


def test_a_digit_reads_itself_and_breaks_without_and_no_other_does():
    for seed in ROWS["attention"]["seeds"]:
        for layer in seed["share"]:
            assert layer["its own digit"] > 2 * seed["by chance"]["its own digit"]
            assert sum(layer.values()) == pytest.approx(1, abs=2e-4)
        assert sum(seed["by chance"].values()) == pytest.approx(1, abs=2e-4)
        assert seed["closed"]["its own digit"] > 0.9
        assert max(seed["closed"]["the next digits"], seed["closed"]["farther"]) - seed["error"]["held out"] < 0.02
        unharmed, harmed = (seed["closed"][name] for name in ("near, another digit", "near, its own"))
        assert abs(unharmed - seed["error"]["held out"]) < 0.015
        assert harmed - unharmed > 0.03
        nearness = {reach: share["its own digit"] for reach, share in seed["by nearness"].items()}
        assert list(nearness) == ["8", "4"]
        assert 0.8 < nearness["8"] < 0.85 < 0.93 < nearness["4"]
        assert seed["share"][1]["its own digit"] - nearness["4"] < 0.01
        wrong = np.array([seed["wrong by place"][str(place)] for place in (None, 0, 1, 2)])
        assert np.diag(wrong[1:]).min() > 0.7
        assert (wrong[1:] - wrong[0])[~np.eye(3, dtype=bool)].max() < 0.015
        assert seed["ms after the start"]["mean"] < seed["ms before the end"]["mean"]
        assert abs(seed["error on waves"] - seed["error"]["held out"]) < 0.03


def test_a_window_costs_nothing_and_mends_longer_strings():
    for seed in ROWS["attention"]["seeds"]:
        assert abs(seed["window in tests only"]["held out"] - seed["error"]["held out"]) < 0.015
        assert seed["window in tests only"]["longer"] < 0.5 * seed["error"]["longer"]
        assert abs(seed["window in tests only"]["longer"] - seed["window in tests only"]["held out"]) < 0.01
    assert max(of("attention, window")) < 0.06
    cost = ROWS["cost"]
    assert cost["full"][-1] > 5 * cost["window"][-1]
    assert cost["full"][0] < cost["window"][0]  # 7.5 seconds
    assert cost["full"][1] > cost["window"][1]  # 15 seconds
    assert cost["tokens"] == list(speech.COUNTS)


def test_seeds_overlap_on_held_out_voices_and_not_on_scottish_ones_nor_in_strong_noise():
    assert min(of("attention")) < min(of("convolution"))
    for kind in ("Scottish", "0 dB"):
        assert max(of("convolution", kind)) < min(of("attention", kind) + of("recurrent", kind))
    assert max(of("attention, window", "Scottish")) < min(of("attention", "Scottish"))
    assert np.mean(of("attention, window", "fast")) > np.mean(of("attention", "fast")) + 0.2


def test_what_was_not_trained_breaks_all():
    for name in ("attention", "recurrent", "convolution"):
        for kind in ("overlapping", "fast", "another voice"):
            assert min(of(name, kind)) > 0.19
        assert max(of(name, "white noise")) < 0.09
    assert min(of("convolution", "fast")) > max(of("attention", "fast") + of("recurrent", "fast"))


class Listener(torch.nn.Module):
    """Says nothing, and notes the masks that it is given."""

    def __init__(self, seen):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), seen

    def forward(self, tokens, mask=None):
        self.seen.append(mask)
        return self.weight + torch.zeros(*tokens.shape[:2], 11, dtype=tokens.dtype)


@pytest.mark.parametrize("window", [None, 9])
def test_a_window_is_trained_with_and_tested_with(window, monkeypatch):
    monkeypatch.setattr(speech, "STRINGS", 5)
    seen = []
    speech.run(lambda: Listener(seen), 0, window=window, steps=2)
    assert len(seen) == 2 + len(speech.KINDS)
    for mask in seen:
        if window is None:
            assert mask is None
        else:
            assert mask.dense(30, 30).equal((torch.arange(30)[:, None] - torch.arange(30)).abs() < window)


# Again


def test_the_templates_come_out_again():
    assert speech.by_templates() == ROWS["templates"]


def test_a_seed_comes_out_again():
    with float64():
        again = speech.error(speech.trained(frame_by_frame, 1), speech.strings())
    assert again == pytest.approx(of("one token")[1], abs=0.005)
    assert torch.get_default_dtype() == torch.float32


def test_a_run_is_the_same_again_and_another_seed_is_not(monkeypatch):
    monkeypatch.setattr(speech, "STRINGS", 20)
    first, again, other = (speech.run(frame_by_frame, seed, steps=2)["error"] for seed in (0, 0, 1))
    assert first == again != other


def test_waves_of_two_held_out_voices_are_heard(monkeypatch):
    """Whoever names the strings as they were made is never wrong."""
    made = []
    keep = speech.recording

    def listening(voice, said, *more, **how):
        made.append((voice, said))
        return keep(voice, said, *more, **how)

    monkeypatch.setattr(speech, "recording", listening)
    monkeypatch.setattr(speech, "greedy", lambda logits: [made[-1][1]])
    assert speech.error_on_waves(frame_by_frame()) == 0
    assert len(made) == 200
    assert {voice for voice, _ in made} <= set(digits("held out").voices)
    assert all(len(waves(voice)) == 10 for voice, _ in made[::100])
