"""Make attnlib/lab/data/spoken_digits.npz: digits said by espeak-ng in many voices, as log-mel energies.

    apt-get install espeak-ng          # Debian's package, version 1.51; nothing else of the project needs it
    .venv/bin/python tools/spoken_digits.py

Each digit is one call: espeak-ng --stdout -z -v ACCENT+VARIANT -s WORDS_A_MINUTE -p PITCH NAME. Speeds and pitches are
drawn with a fixed seed. Two runs of the same version on the same machine gave the same file, byte by byte.

espeak-ng is free software under the GNU General Public License 3. The file holds sounds that it made, and nothing of
the program; it comes under the license of the rest of the package.
"""

import subprocess

import numpy as np

from attnlib.lab.speech import FILE, HOP, NAMES, RATE, WINDOW, energies

ACCENTS = ("en-gb", "en-us", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
VARIANTS = (
    *("m1", "m2", "m3", "m5", "m6", "m8", "f1", "f2", "f4", "croak", "klatt", "klatt2", "Alex", "Andy", "Annie"),
    *("aunty", "belinda", "Denis", "Diogo", "edward", "Gene", "gustave", "Jacky", "Lee", "marcelo", "mario", "max"),
    *("miguel", "norbert", "quincy", "sandro", "shelby"),
)
HELD_OUT_ACCENTS = ("en-us-nyc", "en-gb-x-rp")
FAR_ACCENT = ("en-gb-scotland",)  # held out, too; apart, because models that had not heard it made far more errors
HELD_OUT_VARIANTS = ("m4", "m7", "f3", "f5", "linda", "john", "Michael", "rob")
FAST = 320  # words a minute, where the others say 130 to 200
HEARD = ("en-us-nyc+f3", "en-gb-x-rp+m7", "en-gb-scotland+john")  # whose waves are kept, too


def main() -> None:
    generator = np.random.default_rng(0)
    found: list[np.ndarray] = []
    table, waves = [], []
    groups = {
        "training": (ACCENTS, VARIANTS, None),
        "held out": (HELD_OUT_ACCENTS, HELD_OUT_VARIANTS, None),
        "Scottish": (FAR_ACCENT, HELD_OUT_VARIANTS, None),
        "fast": (HELD_OUT_ACCENTS, HELD_OUT_VARIANTS, FAST),
    }
    voices: list[str] = []
    for place, (accents, variants, fast) in enumerate(groups.values()):
        for voice in (f"{accent}+{variant}" for accent in accents for variant in variants):
            speed, pitch = fast or int(generator.integers(130, 201)), int(generator.integers(30, 71))
            voices.append(voice)
            for digit, name in enumerate(NAMES):
                wave = trimmed(resampled(say(voice, name, speed, pitch)))
                found.append(quantised(energies(wave, RATE)))
                table.append((place, len(voices) - 1, digit, len(found[-1])))
                if fast is None and voice in HEARD:
                    waves.append(np.round(wave / np.abs(wave).max() * 32_000).astype(np.int16))
    group, voice_of, digit_of, lengths = np.array(table).T
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        FILE,
        energies=np.concatenate(found),
        lengths=lengths.astype(np.uint8),
        group=group.astype(np.uint8),
        voice=voice_of.astype(np.uint8),
        digit=digit_of.astype(np.uint8),
        voices=np.array(voices),
        waves=np.concatenate(waves),
        wave_lengths=np.array([len(wave) for wave in waves]),
        wave_voices=np.array(HEARD),
    )
    print(f"Written to {FILE}: {len(found):,} digits, {FILE.stat().st_size:,} bytes")


def say(voice: str, text: str, speed: int, pitch: int) -> np.ndarray:
    """Return what espeak-ng says, as numbers; its header does not know how much follows."""
    command = ["espeak-ng", "--stdout", "-z", "-v", voice, "-s", str(speed), "-p", str(pitch), text]
    said = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(said[44:], dtype="<i2").astype(float)


def resampled(wave: np.ndarray) -> np.ndarray:
    """Return a wave of RATE samples a second: what lies above half of it is cut off its spectrum."""
    padded = np.pad(wave, (0, -len(wave) % 441))
    count = len(padded) * 160 // 441  # 22050 / 8000 = 441 / 160
    return np.fft.irfft(np.fft.rfft(padded)[: count // 2 + 1], count)


def trimmed(wave: np.ndarray) -> np.ndarray:
    """Return a wave without silence before and after: frames 40 dB below the loudest."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    loud = np.mean(frames**2, axis=1)
    there = np.flatnonzero(loud > loud.max() * 1e-4)
    return wave[there[0] * HOP : there[-1] * HOP + WINDOW]


def quantised(energy: np.ndarray) -> np.ndarray:
    """Return energies as whole numbers: half a dB each, 0 is -80 dB."""
    return np.clip(np.round(2 * (10 * np.log10(np.maximum(energy, 1e-9)) + 80)), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
