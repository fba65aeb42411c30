"""Composes recordings of spoken digits from the bank in `voices/`, with the place of every digit."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import random

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RATE = 16_000
BANK = Path(__file__).parent / "voices"
"""What `voices.py` made."""
INDEX = "index.json"

Voices = Literal["training", "held-out", "held-out-flite"]
FILES: dict[str, tuple[str, ...]] = {
    "training": ("espeak-training.ogg", "flite-training.ogg"),
    "held-out": ("espeak-held-out.ogg",),
    "held-out-flite": ("flite-held-out.ogg",),
}
FLITE_SHARE = 0.2
"""Of the training recordings: its voices are few, and the farthest from all others."""

IN_GROUP = (2, 4)
"""Digits."""
BETWEEN_DIGITS = (0.05, 0.25)
BETWEEN_GROUPS = (0.5, 1.2)
"""Seconds."""
LEAD = (0.05, 0.6)
TAIL = (0.2, 0.6)
NEAREST = 0.07
"""What is left behind the last digit at least where the length is given: about what the pipeline's
cuts leave where they fall inside a group."""
TEMPO = (0.9, 1.1)
"""Resampled, so the pitch goes with it."""
DIGIT_DECIBEL = (-2.0, 2.0)
DECIBEL = (-12.0, 6.0)
SIGNAL_TO_NOISE = (15.0, 40.0)
"""Decibel, over the spoken parts."""
COLOUR = (0.0, 1.2)
"""The noise's power falls with frequency to this power: 0 is white, 1 is pink."""
SPOKEN_RMS = 0.1
SILENCE_DECIBEL = (-90.0, -30.0)


@dataclass(frozen=True)
class Digit:
    """One spoken digit, in seconds from the recording's start."""

    value: int
    start: float
    end: float


@dataclass(frozen=True)
class Speech:
    """A recording at 16 kHz, mono, and what is said in it."""

    samples: Samples
    digits: tuple[Digit, ...]

    @property
    def text(self) -> str:
        """The right transcript: the digits with one space between them."""
        return " ".join(str(digit.value) for digit in self.digits)


def make_speech(
    rng: random.Random,
    voices: Voices = "training",
    *,
    groups: int | None = None,
    seconds: float | None = None,
    clean: bool = False,
) -> Speech:
    """One voice saying groups of digits, with noise.

    Args:
        rng: everything follows from it.
        voices: which part of the bank.
        groups: that many, and as long as they take. Or:
        seconds: exactly that long, with what fits.
        clean: without the noise.

    Raises:
        ValueError: both lengths are given, or neither.
    """
    if (groups is None) == (seconds is None):
        raise ValueError("make_speech takes either groups or seconds")
    said = _voice(rng, voices)
    factor = rng.uniform(*TEMPO)
    end = math.inf if seconds is None else seconds - NEAREST
    at = rng.uniform(*LEAD)
    pieces: list[tuple[float, Samples]] = []
    digits: list[Digit] = []
    finished = groups == 0
    while not finished:
        for _ in range(rng.randint(*IN_GROUP)):
            value = rng.randrange(10)
            sound = _stretched(said[value], factor)
            length = len(sound) / RATE
            if at + length > end:
                finished = True
                break
            pieces.append((at, sound * _gain(rng.uniform(*DIGIT_DECIBEL))))
            digits.append(Digit(value, at, at + length))
            at += length + rng.uniform(*BETWEEN_DIGITS)
        groups = None if groups is None else groups - 1
        finished = finished or groups == 0
        if not finished:
            at += rng.uniform(*BETWEEN_GROUPS)
    if seconds is None:
        seconds = at + rng.uniform(*TAIL)
    samples = np.zeros(round(seconds * RATE), np.float32)
    for start, sound in pieces:
        begin = round(start * RATE)
        samples[begin : begin + len(sound)] += sound[: len(samples) - begin]
    if not clean:
        loudness = SPOKEN_RMS * _gain(-rng.uniform(*SIGNAL_TO_NOISE))
        samples += loudness * noise(rng, len(samples))
    return Speech(np.clip(samples * _gain(rng.uniform(*DECIBEL)), -1, 1), tuple(digits))


def noise(rng: random.Random, length: int) -> Samples:
    """Noise of some colour with a root mean square of 1."""
    made = np.random.default_rng(rng.getrandbits(64))
    white: Samples = made.standard_normal(length, np.float32)
    if length < RATE // 100:
        return white
    # A power of two: a length with a large prime in it takes ten times as long.
    whole = np.fft.rfft(white, 1 << (length - 1).bit_length())
    frequencies = np.maximum(np.arange(len(whole), dtype=np.float32) / len(whole), 0.01)
    coloured = np.fft.irfft(whole * frequencies ** (-rng.uniform(*COLOUR) / 2))[:length]
    coloured /= np.sqrt(np.mean(np.square(coloured)))
    return np.asarray(coloured, np.float32)


def make_silence(rng: random.Random, seconds: float) -> Speech:
    """Noise alone, from hardly any to loud."""
    samples = noise(rng, round(seconds * RATE)) * _gain(rng.uniform(*SILENCE_DECIBEL))
    return Speech(np.clip(samples, -1, 1).astype(np.float32), ())


def _voice(rng: random.Random, voices: Voices) -> tuple[Samples, ...]:
    files = FILES[voices]
    flite = len(files) > 1 and rng.random() < FLITE_SHARE
    return rng.choice(_bank()[files[-1] if flite else files[0]])


@functools.cache
def _bank() -> dict[str, list[tuple[Samples, ...]]]:
    """File -> its voices, each the sounds of the ten digits."""
    import soundfile

    index: list[dict[str, Any]] = json.loads((BANK / INDEX).read_text())
    whole = {name: soundfile.read(BANK / name, dtype="float32")[0] for name in {e["file"] for e in index}}
    found: dict[str, list[tuple[Samples, ...]]] = {name: [] for name in whole}
    for entry in index:
        sounds = tuple(whole[entry["file"]][begin:end] for begin, end in entry["digits"])
        found[entry["file"]].append(sounds)
    return found


def _stretched(sound: Samples, factor: float) -> Samples:
    """Slower than before by `factor`, and lower."""
    places = np.arange(int(len(sound) * factor), dtype=np.float32) / factor
    # Linear: the bank has little above 6 kHz, and soxr takes 20 times as long for so short a piece.
    return np.asarray(np.interp(places, np.arange(len(sound)), sound), np.float32)


def _gain(decibel: float) -> float:
    return float(10 ** (decibel / 20))
