"""Spoken digits: log-mel features, strings of digits joined from single ones, models that hear them, and CTC.

The digits are said by espeak-ng, a program that makes speech by rules; ``tools/spoken_digits.py`` made the file. A
voice is an accent and a variant of the program. Voices that are held out share neither with those to train on.

A string is joined from single digits of one voice on the scale of energies: where two overlap their energies add up,
and noise adds its own. That is not continuous speech: nobody's mouth moved from one digit to the next.
"""

import base64
import io
import wave as wavefile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from attnlib.lab.models import Convolutional, count_parameters, of_size
from attnlib.lab.training import Descent
from attnlib.masks import Mask
from attnlib.multihead import MultiHeadAttention
from attnlib.positions import Rotary
from attnlib.transformer import Encoder

try:
    import jiwer
except ModuleNotFoundError as missing:
    raise ImportError("attnlib.lab.speech needs jiwer: pip install 'attnlib[lab]'") from missing

RATE = 8_000  # samples a second
WINDOW, HOP = 200, 80  # samples: a frame of 25 ms every 10 ms
BANDS = 20  # mel bands
STACK = 3  # frames that make one token: 30 ms
FLOOR = -40.0  # dB: what is softer than a hundredth of a percent of speech counts as this
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BLANK = 0  # the CTC class that says nothing; digit d is class d + 1
FILE = Path(__file__).parent / "data" / "spoken_digits.npz"


# From a wave to features


def check_wave(wave: np.ndarray, rate: int) -> None:
    """Check that a wave is one that :func:`log_mel` can hear.

    >>> import numpy as np
    >>> from attnlib.lab.speech import check_wave
    >>> check_wave(np.zeros(8_000), rate=44_100)
    Traceback (most recent call last):
    ValueError: rate: expected 8000 samples a second, got 44100; resample first
    """
    if rate != RATE:
        raise ValueError(f"rate: expected {RATE} samples a second, got {rate}; resample first")
    least = WINDOW + (STACK - 1) * HOP  # one token
    if wave.ndim != 1 or len(wave) < least:
        raise ValueError(f"wave: expected one channel of at least {least} samples, got shape {wave.shape}")
    if not np.isfinite(wave).all():
        raise ValueError(f"wave: expected finite numbers, got {wave[~np.isfinite(wave)][0]}")
    if not wave.any():
        raise ValueError("wave: expected a sound, got silence")


def mel(hertz: np.ndarray) -> np.ndarray:
    """Return the pitch in mel: about linear below 1000 Hz, logarithmic above.

    >>> import numpy as np
    >>> from attnlib.lab.speech import mel
    >>> mel(np.array([0.0, 1000.0])).round()
    array([   0., 1000.])
    """
    return 2595 * np.log10(1 + hertz / 700)


@lru_cache(maxsize=1)
def mel_filters() -> np.ndarray:
    """Return the triangles, (WINDOW // 2 + 1, BANDS): how much each frequency counts in each band.

    >>> from attnlib.lab.speech import mel_filters
    >>> mel_filters().shape
    (101, 20)
    """
    frequencies = mel(np.fft.rfftfreq(WINDOW, 1 / RATE))[:, None]
    corners = np.linspace(0, frequencies[-1, 0], BANDS + 2)
    width = corners[1]
    return np.maximum(0, 1 - np.abs(frequencies - corners[1:-1]) / width)


def energies(wave: np.ndarray, rate: int) -> np.ndarray:
    """Return the energy in each frame and mel band, (frames, BANDS); the wave's mean power counts as 1.

    >>> import numpy as np
    >>> from attnlib.lab.speech import energies
    >>> energies(np.sin(np.arange(8_000)), rate=8_000).shape
    (98, 20)
    """
    check_wave(wave, rate)
    wave = wave / np.sqrt(np.mean(wave**2))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP] * hann
    power = np.abs(np.fft.rfft(frames)) ** 2 / np.sum(hann**2)
    return power @ mel_filters()


def decibels(energy: Tensor) -> Tensor:
    """Return energies in dB, none below the floor.

    >>> import torch
    >>> from attnlib.lab.speech import decibels
    >>> decibels(torch.tensor([100.0, 1.0, 0.0]))
    tensor([ 20.,   0., -40.])
    """
    return 10 * energy.clamp(min=10 ** (FLOOR / 10)).log10()


def stacked(energy: Tensor) -> Tensor:
    """Return what a model reads: energies (B, frames, BANDS) in dB / 10, three frames side by side in one token.

    >>> import torch
    >>> from attnlib.lab.speech import stacked
    >>> stacked(torch.ones(2, 98, 20)).shape
    torch.Size([2, 32, 60])
    """
    whole = energy[:, : energy.shape[1] // STACK * STACK]
    return (decibels(whole) / 10).unflatten(1, (-1, STACK)).flatten(2)


# Digits, and strings of them


class Digits(NamedTuple):
    """Single digits of some voices.

    Attributes:
        energy: (voices, 10, frames, BANDS); nothing sounds after a digit's end.
        lengths: (voices, 10), in frames.
        voices: their names in espeak-ng, accent+variant.
    """

    energy: Tensor
    lengths: Tensor
    voices: tuple[str, ...]


@lru_cache(maxsize=4)
def digits(group: str = "training") -> Digits:
    """Return the digits of one group of voices.

    They are those of ``training``; ``held out`` and ``Scottish``, never trained on; and ``fast``, the held-out voices
    two and a half times as fast.

    Raises:
        ValueError: if there is no such group.

    >>> from attnlib.lab.speech import digits
    >>> digits("held out").energy.shape[:2]
    torch.Size([16, 10])
    """
    names = ("training", "held out", "Scottish", "fast")
    if group not in names:
        raise ValueError(f"group: expected one of {', '.join(names)}, got {group!r}")
    with np.load(FILE, allow_pickle=False) as file:
        chosen = file["group"] == names.index(group)
        lengths = file["lengths"].astype(int)
        ends, frames = np.cumsum(lengths), file["energies"]
        energy = np.zeros((chosen.sum(), lengths.max(), BANDS))
        for row, place in enumerate(np.flatnonzero(chosen)):
            said = frames[ends[place] - lengths[place] : ends[place]]
            energy[row, : lengths[place]] = 10 ** ((said / 2 - 80) / 10)
        voices = file["voices"][file["voice"][chosen][::10]]
        return Digits(
            torch.tensor(energy).unflatten(0, (-1, 10)),
            torch.tensor(lengths[chosen]).unflatten(0, (-1, 10)),
            tuple(map(str, voices)),
        )


def waves(voice: str) -> list[np.ndarray]:
    """Return the ten digits of a held-out voice as waves of RATE samples a second, each of power 1.

    Raises:
        ValueError: if the file holds no waves of this voice.

    >>> from attnlib.lab.speech import waves
    >>> len(waves("en-us-nyc+f3"))
    10
    """
    with np.load(FILE, allow_pickle=False) as file:
        known = file["wave_voices"].tolist()
        if voice not in known:
            raise ValueError(f"voice: expected one of {', '.join(known)}, got {voice!r}")
        pieces = np.split(file["waves"].astype(float), np.cumsum(file["wave_lengths"])[:-1])
        first = 10 * known.index(voice)
        return [piece / np.sqrt(np.mean(piece**2)) for piece in pieces[first : first + 10]]


class Recording(NamedTuple):
    """A string joined from waves: the wave, and where its digits begin and end, in seconds."""

    wave: np.ndarray
    starts: list[float]
    ends: list[float]


def recording(
    voice: str, said: Sequence[int], gaps: Sequence[float] | float = 0.08, *, noise: float = 20.0, seed: int = 0
) -> Recording:
    """Return digits said by a voice whose waves are kept, in white noise.

    Args:
        voice: see :func:`waves`.
        said: the digits.
        gaps: the seconds before each digit but the first; negative: they overlap.
        noise: the power of speech above that of noise in dB.
        seed: of the noise.

    >>> from attnlib.lab.speech import recording
    >>> [round(start, 2) for start in recording("en-us-nyc+f3", [7, 1]).starts]
    [0.1, 0.71]
    """
    pieces = [waves(voice)[digit] for digit in said]
    before = [0.1, *([gaps] * (len(said) - 1) if isinstance(gaps, float) else gaps)]
    starts, ends, end = [], [], 0
    for gap, piece in zip(before, pieces, strict=True):
        starts.append(end + round(gap * RATE))
        end = starts[-1] + len(piece)
        ends.append(end)
    wave = np.zeros(max(ends) + RATE // 10)
    for start, piece in zip(starts, pieces, strict=True):
        wave[start : start + len(piece)] += piece
    wave += 10 ** (-noise / 20) * np.random.default_rng(seed).standard_normal(len(wave))
    return Recording(wave, [start / RATE for start in starts], [end / RATE for end in ends])


def heard(wave: np.ndarray, rate: int) -> Tensor:
    """Return what a model reads of a wave: (1, T, STACK · BANDS).

    >>> from attnlib.lab.speech import heard, recording
    >>> heard(recording("en-us-nyc+f3", [7, 1]).wave, rate=8_000).shape
    torch.Size([1, 41, 60])
    """
    return stacked(torch.tensor(energies(wave, rate), dtype=torch.get_default_dtype())[None])


def player(wave: np.ndarray, label: str) -> str:
    """Return HTML that plays a wave, in the page itself: no file, no other host. One byte a sample, to stay small.

    >>> import numpy as np
    >>> from attnlib.lab.speech import player
    >>> player(np.zeros(8), "a silence")[:54]
    '<p>a silence<br><audio controls aria-label="a silence"'
    """
    loud = np.abs(wave).max() or 1.0
    file = io.BytesIO()
    with wavefile.open(file, "wb") as writer:
        writer.setparams((1, 1, RATE, len(wave), "NONE", "not compressed"))
        writer.writeframes(np.round(128 + 120 * wave / loud).astype(np.uint8).tobytes())
    data = base64.b64encode(file.getvalue()).decode()
    return f'<p>{label}<br><audio controls aria-label="{label}" src="data:audio/wav;base64,{data}"></audio></p>'


class Strings(NamedTuple):
    """Strings of digits as a model hears them, and what the generator knows of them.

    Attributes:
        tokens: (B, T, STACK · BANDS).
        digits: (B, most), what was said; -1 where a string has ended.
        starts: (B, most), in tokens, not rounded; where a string has ended, its last digit's end.
        ends: as ``starts``.
    """

    tokens: Tensor
    digits: Tensor
    starts: Tensor
    ends: Tensor

    @property
    def counts(self) -> Tensor:
        """How many digits each string has."""
        return (self.digits >= 0).sum(1)

    @property
    def said(self) -> list[list[int]]:
        """What was said, string by string."""
        return [[digit for digit in row if digit >= 0] for row in self.digits.tolist()]


@dataclass(frozen=True)
class Spoken:
    """Strings of digits, each said by one voice, in white noise.

    Attributes:
        group: whose digits: see :func:`digits`.
        count: how many digits a string has, from and to.
        gap: how many frames of 10 ms lie between two digits, from and to; negative: they overlap.
        noise: the power of speech above that of noise in dB, from and to.
        babble: instead of white noise, another voice of the same group, which says digits of its own.

    >>> import torch
    >>> from attnlib.lab.speech import Spoken
    >>> Spoken().draw(5, torch.Generator().manual_seed(0)).digits.shape
    torch.Size([5, 6])
    """

    group: str = "training"
    count: tuple[int, int] = (3, 6)
    gap: tuple[int, int] = (-8, 20)
    noise: tuple[float, float] = (5.0, 30.0)
    babble: bool = False

    def draw(self, strings: int, generator: torch.Generator) -> Strings:
        """Return so many strings, each as long as the longest: after its end there is noise."""
        said, starts, ends, energy, voice = self._speech(strings, generator)
        level = 10 ** (-_between(self.noise, (strings, 1, 1), generator) / 10)
        if self.babble:
            _, _, _, other, _ = self._speech(strings, generator, voice)
            noise = F.pad(other, (0, 0, 0, energy.shape[1]))[:, : energy.shape[1]]
        else:
            spectrum = -torch.rand(*energy.shape[:2], WINDOW // 2 + 1, generator=generator).clamp(min=1e-9).log()
            noise = spectrum @ torch.tensor(mel_filters()).to(spectrum)
        gain = 10 ** (_between((-6.0, 6.0), (strings, 1, 1), generator) / 10)
        heard = stacked(gain * (energy + level * noise))
        return Strings(heard.to(torch.get_default_dtype()), said, starts / STACK, ends / STACK)

    def _speech(self, strings: int, generator: torch.Generator, not_by: Tensor | None = None) -> tuple[Tensor, ...]:
        source = digits(self.group)
        least, most = self.count
        voice = torch.randint(len(source.voices), (strings,), generator=generator)
        if not_by is not None:
            voice = (not_by + 1 + voice % (len(source.voices) - 1)) % len(source.voices)
        said = torch.randint(10, (strings, most), generator=generator)
        there = torch.arange(most) < torch.randint(least, most + 1, (strings, 1), generator=generator)
        gaps = torch.randint(self.gap[0], self.gap[1] + 1, (strings, most), generator=generator)
        lead = torch.randint(5, 21, (strings, 1), generator=generator)
        lengths = source.lengths[voice[:, None], said] * there
        ends = lead + (lengths + F.pad(gaps[:, 1:], (1, 0)) * there).cumsum(1)
        starts = ends - lengths
        clips = source.energy[voice[:, None], said] * there[:, :, None, None]
        frames = (int(ends.max()) + 10) // STACK * STACK + STACK
        energy = torch.zeros(strings, frames + clips.shape[2], BANDS, dtype=clips.dtype)
        for place in range(most):
            at = starts[:, place, None] + torch.arange(clips.shape[2])
            energy.scatter_add_(1, at[:, :, None].expand(-1, -1, BANDS), clips[:, place])
        return said.where(there, torch.tensor(-1)), starts, ends, energy[:, :frames], voice


def _between(limits: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * torch.rand(shape, generator=generator, dtype=torch.float64)


# Models


class Recogniser(nn.Module):
    """Tokens of sound in, for each of them the logits of ten digits and of the blank out.

    Args:
        d_model: the size of tokens inside.
        body: from tokens (B, T, d_model) to tokens (B, T, out), and a mask if it is given one.
        out: the size of what the body gives; default ``d_model``.

    >>> import torch
    >>> from torch import nn
    >>> from attnlib.lab.speech import Recogniser
    >>> Recogniser(8, nn.Identity())(torch.zeros(2, 32, 60)).shape
    torch.Size([2, 32, 11])
    """

    def __init__(self, d_model: int, body: nn.Module, out: int | None = None):
        super().__init__()
        self.project = nn.Linear(STACK * BANDS, d_model)
        self.body = body
        self.output = nn.Linear(out or d_model, len(NAMES) + 1)

    def forward(self, tokens: Tensor, mask: Mask | Tensor | None = None) -> Tensor:
        """Tokens (B, T, STACK · BANDS) → logits (B, T, 11)."""
        x = self.project(tokens)
        return self.output(self.body(x) if mask is None else self.body(x, mask))


class Recurrent(nn.Module):
    """A body that reads the tokens in both directions with a GRU each: (B, T, d) → (B, T, 2 d).

    >>> import torch
    >>> from attnlib.lab.speech import Recurrent
    >>> Recurrent(8)(torch.zeros(2, 32, 8)).shape
    torch.Size([2, 32, 16])
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.gru = nn.GRU(d_model, d_model, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, T, d_model) → tokens (B, T, 2 · d_model)."""
        return self.gru(x)[0]


def attention(d_model: int = 48) -> Recogniser:
    """Return the chapter's model: an encoder of two layers with rotary positions.

    >>> from attnlib.lab.models import count_parameters
    >>> from attnlib.lab.speech import attention
    >>> count_parameters(attention())
    41099
    """
    encoder = Encoder(2, d_model=d_model, num_heads=4, d_ff=2 * d_model, dropout=0.0, norm_first=True)
    for layer in encoder.layers:
        layer.self_attention = MultiHeadAttention(4, d_model, dropout=0.0, rotary=Rotary(d_model // 4))
    return Recogniser(d_model, encoder)


def recurrent() -> Recogniser:
    """Return GRUs in both directions, of the size of :func:`attention`."""
    return of_size(lambda d: Recogniser(d, Recurrent(d), 2 * d), _wanted())


def convolution() -> Recogniser:
    """Return four convolutions, which see 8 tokens to each side, of the size of :func:`attention`."""
    return of_size(lambda d: Recogniser(d, Convolutional(d, layers=4, kernel=5)), _wanted())


def frame_by_frame() -> Recogniser:
    """Return two hidden layers that see one token and no other, of the size of :func:`attention`."""

    def layers(d: int) -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU())

    return of_size(lambda d: Recogniser(d, layers(d)), _wanted())


@lru_cache(maxsize=1)
def _wanted() -> int:
    with torch.device("meta"):  # draws no random numbers, which would change the weights of who asks first
        return count_parameters(attention())


# Connectionist temporal classification (Graves et al., 2006)


def ctc_loss(logits: Tensor, digits: Tensor) -> Tensor:
    """Return minus the logarithm of the probability of all paths that say the digits, per digit, the mean of the batch.

    Args:
        logits: (B, T, 11).
        digits: (B, most); -1 after the end.

    >>> import torch
    >>> from attnlib.lab.speech import ctc_loss
    >>> round(ctc_loss(torch.zeros(1, 1, 11), torch.tensor([[7, -1]])).exp().item())  # one path, eleven classes
    11
    """
    there = digits >= 0
    lengths = torch.full((len(logits),), logits.shape[1])
    return F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), digits[there] + 1, lengths, there.sum(1), blank=BLANK)


def greedy(logits: Tensor) -> list[list[int]]:
    """Return what the best class of each token says: repeats become one, then blanks go.

    >>> import torch
    >>> import torch.nn.functional as F
    >>> from attnlib.lab.speech import greedy
    >>> path = torch.tensor([[0, 8, 8, 0, 0, 8, 2, 0]])  # - 7 7 - - 7 1 -
    >>> greedy(F.one_hot(path, 11).double())
    [[7, 7, 1]]
    """
    return [[digit for _, digit in spikes(row)] for row in logits]


def spikes(logits: Tensor) -> list[tuple[int, int]]:
    """Return of logits (T, 11) the digits that greedy decoding says, each with the first token that says it.

    >>> import torch
    >>> import torch.nn.functional as F
    >>> from attnlib.lab.speech import spikes
    >>> spikes(F.one_hot(torch.tensor([0, 8, 8, 0, 0, 8, 2, 0]), 11).double())
    [(1, 7), (5, 7), (6, 1)]
    """
    path = logits.argmax(-1).tolist()
    before = [BLANK, *path[:-1]]
    return [(t, now - 1) for t, (last, now) in enumerate(zip(before, path, strict=True)) if now not in (last, BLANK)]


def word_error_rate(said: Sequence[Sequence[int]], heard: Sequence[Sequence[int]]) -> float:
    """Return the words that are wrong, missing or too many, by the words that were said.

    >>> from attnlib.lab.speech import word_error_rate
    >>> word_error_rate([[7, 1], [3, 3, 3]], [[7, 2], [3, 3]])
    0.4
    """
    right, found = ([" ".join(NAMES[digit] for digit in row) for row in rows] for rows in (said, heard))
    return jiwer.wer(right, found)


def train_ctc(
    model: nn.Module,
    task: Spoken,
    *,
    seed: int,
    steps: int,
    rate: float = 6e-3,
    warmup: int = 100,
    batch_size: int = 16,
    mask: Mask | None = None,
) -> list[float]:
    """Train as :func:`attnlib.lab.training.train` does with ``fall_to_zero`` and 5 decimals; return the losses.

    >>> from attnlib.lab.speech import Spoken, attention, train_ctc
    >>> len(train_ctc(attention(), Spoken(), seed=0, steps=2))
    2
    """
    generator = torch.Generator().manual_seed(seed)
    descent = Descent(model, steps=steps, rate=rate, warmup=warmup, fall_to_zero=True, decimals=5)
    losses = []
    for _ in tqdm(range(steps), unit="step", leave=False):
        batch = task.draw(batch_size, generator)
        loss = ctc_loss(model.train()(batch.tokens, mask), batch.digits)
        descent.step(loss)
        losses.append(loss.item())
    return losses
