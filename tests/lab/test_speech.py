"""Spoken digits: features against a library, strings against where they were joined, CTC against every path."""

import itertools
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers.audio_utils import mel_filter_bank, spectrogram

from attnlib.lab import speech
from attnlib.lab.models import count_parameters
from attnlib.lab.speech import RATE, Spoken, digits, energies, recording

VOICE = "en-us-nyc+f3"


# Features


def test_energies_are_those_of_a_library():
    wave = recording(VOICE, [4, 7, 1]).wave
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    filters = mel_filter_bank(101, 20, 0, 4_000, 8_000, mel_scale="htk", triangularize_in_mel_space=True)
    theirs = spectrogram(
        wave / wave.std(), hann, 200, 80, fft_length=200, power=2.0, center=False, mel_filters=filters, dtype=np.float64
    )
    assert abs(wave.mean()) < 1e-2 * wave.std()  # so that its power is its variance
    assert np.allclose(energies(wave, RATE), theirs.T / np.sum(hann**2), rtol=1e-3)


def test_a_tone_is_in_its_band_and_a_second_is_98_frames():
    for hertz in (300, 1_000, 3_000):
        energy = energies(np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE), RATE)
        edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4_000 / 700), 22) / 2595) - 1)
        middles = edges[1:-1]
        assert energy.shape == (98, 20)
        assert abs(energy.mean(0).argmax() - np.abs(middles - hertz).argmin()) <= 1


def test_loudness_does_not_matter_and_noise_of_power_one_is_one_per_hertz_bin():
    noise = np.random.default_rng(0).standard_normal(40_000)
    energy = energies(noise, RATE)
    assert np.allclose(energies(7 * noise, RATE), energy)
    assert np.allclose(energy.mean(0), speech.mel_filters().sum(0), rtol=0.1)


@pytest.mark.parametrize(
    ("wave", "rate", "message"),
    [
        (np.ones(8_000), 16_000, "rate: expected 8000 samples a second, got 16000; resample first"),
        (np.ones(359), 8_000, "wave: expected one channel of at least 360 samples, got shape (359,)"),
        (np.ones((8_000, 2)), 8_000, "wave: expected one channel of at least 360 samples, got shape (8000, 2)"),
        (np.append(np.ones(400), np.inf), 8_000, "wave: expected finite numbers, got inf"),
        (np.append(np.ones(400), np.nan), 8_000, "wave: expected finite numbers, got nan"),
        (np.zeros(400), 8_000, "wave: expected a sound, got silence"),
    ],
)
def test_what_is_no_sound_is_refused(wave, rate, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        energies(wave, rate)


def test_the_shortest_sound_is_one_token():
    assert speech.heard(np.ones(360), RATE).shape == (1, 1, 60)
    assert speech.heard(np.ones(599), RATE).shape == (1, 1, 60)
    assert speech.heard(np.ones(600), RATE).shape == (1, 2, 60)


def test_tokens_are_three_frames_side_by_side_in_decibels():
    energy = torch.rand(2, 11, 20, dtype=torch.float64) + 0.1
    energy[1, 4, 7] = 0
    tokens = speech.stacked(energy)
    assert tokens.shape == (2, 3, 60)
    for b, t, frame, band in itertools.product(range(2), range(3), range(3), (0, 7, 19)):
        expected = max(np.log10(max(energy[b, 3 * t + frame, band].item(), 1e-30)), -4)
        assert tokens[b, t, 20 * frame + band].item() == pytest.approx(expected)


# Voices


def test_held_out_voices_share_neither_accent_nor_variant_with_training():
    parts = {
        group: [voice.split("+") for voice in digits(group).voices] for group in ("training", "held out", "Scottish")
    }
    trained = [set(column) for column in zip(*parts["training"], strict=True)]
    for group in ("held out", "Scottish"):
        for accent, variant in parts[group]:
            assert accent not in trained[0]
            assert variant not in trained[1]
    assert [len(parts[group]) for group in parts] == [160, 16, 8]
    assert digits("fast").voices == digits("held out").voices


def test_nothing_sounds_after_a_digit_and_fast_ones_are_shorter():
    for group in ("training", "held out", "Scottish", "fast"):
        energy, lengths, _ = digits(group)
        after = torch.arange(energy.shape[2]) >= lengths[:, :, None]
        assert not energy[after].any()
        assert (energy.sum(-1)[~after] > 0).all()
    assert (digits("fast").lengths < digits("held out").lengths).all()


def test_kept_waves_are_the_digits_of_the_file():
    for group, voice in (("held out", VOICE), ("held out", "en-gb-x-rp+m7"), ("Scottish", "en-gb-scotland+john")):
        source = digits(group)
        row = source.voices.index(voice)
        for digit, wave in enumerate(speech.waves(voice)):
            ours = 10 * np.log10(np.maximum(energies(wave, RATE), 1e-3))
            kept = 10 * source.energy[row, digit, : source.lengths[row, digit]].clamp(min=1e-3).log10().numpy()
            assert np.abs(ours - kept).max() < 0.6  # half a dB a step, and 16 bits


def test_unknown_groups_and_voices_are_named():
    with pytest.raises(ValueError, match="expected one of training, held out, Scottish, fast, got 'slow'"):
        digits("slow")
    with pytest.raises(
        ValueError, match=r"expected one of en-us-nyc\+f3, en-gb-x-rp\+m7, en-gb-scotland\+john, got 'me'"
    ):
        speech.waves("me")


# Strings


def test_a_string_is_its_digits_where_it_says_they_are():
    """Joined again, digit by digit; the noise is too soft to matter and the gain is one for a string."""
    task = Spoken("held out", gap=(-8, 20), noise=(90, 90))
    drawn = task.draw(12, torch.Generator().manual_seed(2))
    source = digits("held out")
    for row, said in enumerate(drawn.said):
        assert 3 <= len(said) <= 6
        heard = 10 ** drawn.tokens[row].double().reshape(-1, 20)
        best = []
        for voice in range(16):
            built = torch.zeros(len(heard) + 80, 20, dtype=torch.float64)
            for place, digit in enumerate(said):
                start, length = round(3 * drawn.starts[row, place].item()), int(source.lengths[voice, digit])
                built[start : start + length] += source.energy[voice, digit, :length]
            ratio = (heard.sum() / built.sum()).item()
            close = (10 * (heard / (ratio * built[: len(heard)]).clamp(min=1e-4)).log10()).abs()
            best.append((close[heard > 1e-2].mean().item(), voice, ratio))
        error, voice, gain = min(best)
        assert error < 0.1
        assert 10**-0.6 <= gain <= 10**0.6  # as loud as single digits, more or less 6 dB
        for place, digit in enumerate(said):
            length = 3 * (drawn.ends - drawn.starts)[row, place].item()
            assert length == pytest.approx(source.lengths[voice, digit].item())


def test_gaps_counts_and_ends_keep_to_what_was_asked():
    drawn = Spoken(count=(2, 4), gap=(-5, 9)).draw(200, torch.Generator().manual_seed(0))
    gaps = [
        round(3 * (start - end))
        for starts, ends, said in zip(drawn.starts.tolist(), drawn.ends.tolist(), drawn.said, strict=True)
        for start, end in zip(starts[1 : len(said)], ends[: len(said) - 1], strict=True)
    ]
    assert {min(gaps), max(gaps)} == {-5, 9}
    assert set(drawn.counts.tolist()) == {2, 3, 4}
    assert drawn.ends.max() < drawn.tokens.shape[1]
    assert drawn.starts.min() >= 5 / 3


@pytest.mark.parametrize("level", [0.0, 20.0])
def test_noise_is_as_strong_as_it_says(level):
    """Before the first digit there is noise alone; its power in each band is known."""
    drawn = Spoken(noise=(level, level)).draw(400, torch.Generator().manual_seed(1))
    noise = (10 ** drawn.tokens[:, :1].double()).reshape(-1, 20).mean(0)  # frames 0 to 2: digits begin at 5 at least
    gain = np.mean(10 ** (np.linspace(-6, 6, 1_001) / 10))
    assert np.allclose(noise, speech.mel_filters().sum(0) * 10 ** (-level / 10) * gain, rtol=0.12)


def test_another_voice_is_another_one():
    babble = Spoken("held out", noise=(0, 0), babble=True).draw(50, torch.Generator().manual_seed(0))
    white = Spoken("held out", noise=(0, 0)).draw(50, torch.Generator().manual_seed(0))
    assert babble.said == white.said
    assert babble.starts.equal(white.starts)
    assert not torch.allclose(babble.tokens, white.tokens)
    first = torch.arange(16).repeat(40)
    second = Spoken("held out")._speech(len(first), torch.Generator().manual_seed(0), first)[-1]
    assert (first != second).all()
    assert all(len(set(second[first == voice].tolist())) > 8 for voice in range(16))


def test_the_same_seed_draws_the_same_and_another_does_not():
    first, again, other = (Spoken().draw(4, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert first.tokens.equal(again.tokens)
    assert first.said == again.said != other.said


@pytest.mark.parametrize("level", [0.0, 20.0])
def test_a_recording_is_as_noisy_as_it_says(level):
    before = recording(VOICE, [4, 7], noise=level).wave[:800]  # a tenth of a second
    assert 10 * np.log10(np.mean(before**2)) == pytest.approx(-level, abs=0.5)
    said = np.concatenate([speech.waves(VOICE)[4], speech.waves(VOICE)[7]])
    assert np.mean(said**2) == pytest.approx(1)


def test_a_recording_is_where_it_says():
    joined = recording(VOICE, [4, 7], gaps=[-0.05], noise=200.0)
    four, seven = speech.waves(VOICE)[4], speech.waves(VOICE)[7]
    starts, ends = (np.round(np.array(edges) * RATE).astype(int) for edges in (joined.starts, joined.ends))
    assert starts[1] == ends[0] - 400
    assert np.allclose(joined.wave[starts[0] : starts[1]], four[: starts[1] - starts[0]])
    assert np.allclose(joined.wave[ends[0] : ends[1]], seven[400:])
    assert np.allclose(joined.wave[starts[1] : ends[0]], four[-400:] + seven[:400])


# CTC


def by_every_path(p, text):
    """The probability of a text: every path, written as letters, squeezed by a regular expression."""
    total = 0.0
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        letters = "".join("-abc"[k] for k in path)
        if re.sub(r"(.)\1*", r"\1", letters).replace("-", "") == "".join("abc"[k] for k in text):
            total += np.prod([p[t, k].item() for t, k in enumerate(path)])
    return total


@pytest.mark.parametrize("text", [[0], [0, 1], [1, 1], [2, 0, 2]])
def test_the_loss_is_that_of_every_path(text):
    logits = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded = torch.tensor([[*text, -1, -1]])
    expected = -np.log(by_every_path(logits[0].softmax(-1), text)) / len(text)
    assert speech.ctc_loss(logits, padded).item() == pytest.approx(expected)


def test_greedy_says_what_a_regular_expression_says():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        path = torch.randint(4, (9,), generator=generator)
        letters = "".join("-012"[k] for k in path)
        expected = re.sub(r"(.)\1*", r"\1", letters).replace("-", "")
        assert "".join(map(str, speech.greedy(F.one_hot(path, 11)[None].double())[0])) == expected
        for token, digit in speech.spikes(F.one_hot(path, 11).double()):
            assert path[token] == digit + 1
            assert token == 0 or path[token - 1] != digit + 1


def test_words_wrong_missing_and_too_many_count():
    assert speech.word_error_rate([[1, 2, 3, 4]], [[1, 9, 4, 4, 4]]) == pytest.approx(3 / 4)
    assert speech.word_error_rate([[1, 2], [3, 4]], [[], [3, 4]]) == pytest.approx(1 / 2)


# Models


@pytest.mark.parametrize("make", [speech.recurrent, speech.convolution, speech.frame_by_frame])
def test_rivals_are_of_one_size(make):
    assert count_parameters(make()) == pytest.approx(count_parameters(speech.attention()), rel=0.05)


@pytest.mark.parametrize(
    ("make", "reach"),
    [(speech.attention, 40), (speech.recurrent, 40), (speech.convolution, 8), (speech.frame_by_frame, 0)],
)
def test_how_far_a_model_hears(make, reach):
    torch.manual_seed(0)
    model = make().double().eval()
    tokens = torch.randn(1, 41, 60, dtype=torch.float64)
    other = tokens.clone()
    other[0, 0] += 1
    with torch.no_grad():
        moved = (model(other) - model(tokens)).abs().amax(-1)[0] > 0
    assert moved.nonzero()[:, 0].max() == reach


def test_training_lowers_the_loss_and_rounds():
    torch.manual_seed(0)
    model = speech.frame_by_frame()
    losses = speech.train_ctc(model, Spoken(noise=(30, 30)), seed=0, steps=12, warmup=2, batch_size=4)
    assert np.mean(losses[-3:]) < 0.6 * losses[0]
    for parameter in model.parameters():
        assert torch.allclose(parameter, parameter.round(decimals=5), atol=1e-7)


def test_a_player_holds_the_wave_itself_and_a_name():
    import base64
    import io
    import wave

    html = speech.player(np.sin(np.arange(100)), "a tone")
    assert 'aria-label="a tone"' in html
    data = re.search(r"data:audio/wav;base64,([^\"]*)", html).group(1)
    with wave.open(io.BytesIO(base64.b64decode(data))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8_000, 1, 100)
        samples = np.frombuffer(file.readframes(100), np.uint8)
    assert np.corrcoef(samples, np.sin(np.arange(100)))[0, 1] > 0.9999
    assert abs(samples.mean() - 128) < 3
