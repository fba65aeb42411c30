"""All that is said is heard, no silence is, and no model is given more than it can hear at a time."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.demo.speech import RATE, make_silence, make_speech
from workers import segments

HOP = segments.HOP_SECONDS
PADDING = segments.PADDING * HOP
WITHIN = 0.05
"""Seconds from the place of a sound to the place that is found for it."""


def power_of(folder: Path, samples: np.ndarray) -> np.ndarray:
    samples.astype("<f4").tofile(folder / "raw")
    return segments.read_power(folder / "raw", RATE)


def in_seconds(spans: list[segments.Span]) -> list[tuple[float, float]]:
    return [(begin * HOP, end * HOP) for begin, end in spans]


def babble(rng: np.random.Generator, seconds: float, decibel: float = 0.0) -> np.ndarray:
    """Noise in syllables of a fifth of a second, which start and end loud."""
    count = round(seconds * RATE)
    at = np.arange(count) / seconds / RATE
    swell = 0.55 + 0.45 * np.cos(2 * np.pi * max(1, round(seconds * 5)) * at)
    return rng.normal(0, 0.1, count) * swell * 10 ** (decibel / 20)


def recording(
    rng: np.random.Generator, gaps: list[float], words: list[tuple[float, float]], noise: float
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Silence and speech in turns, over noise; and where the speech is, in seconds."""
    pieces, places, at = [], [], 0.0
    for gap, (seconds, decibel) in itertools.zip_longest(gaps, words, fillvalue=(0.0, 0.0)):
        gap = round(gap * RATE) / RATE
        pieces.append(np.zeros(round(gap * RATE)))
        at += gap
        if seconds:
            pieces.append(babble(rng, seconds, decibel))
            places.append((at, at + len(pieces[-1]) / RATE))
            at = places[-1][1]
    samples = np.concatenate(pieces)
    return samples + rng.normal(0, 10 ** (noise / 20), len(samples)), places


RECORDINGS = st.integers(1, 12).flatmap(
    lambda count: st.tuples(
        st.lists(st.floats(0.3, 6.0), min_size=count + 1, max_size=count + 1),
        # A second speaker is up to 20 dB quieter than the first.
        st.lists(st.tuples(st.floats(0.2, 15.0), st.floats(-20, 0)), min_size=count, max_size=count),
        st.floats(-110, -60),
        st.integers(0, 2**32 - 1),
    )
)


@given(RECORDINGS)
@settings(max_examples=60)
def test_speech_is_found_within_50_ms(tmp_path_factory: pytest.TempPathFactory, made: tuple) -> None:
    gaps, words, noise, seed = made
    samples, places = recording(np.random.default_rng(seed), gaps, words, noise)
    found = in_seconds(segments.speech(power_of(tmp_path_factory.mktemp("a"), samples)))
    assert len(found) == len(places)
    np.testing.assert_allclose(found, places, atol=WITHIN)


@given(RECORDINGS, st.sampled_from([1.0, 2.5, 8.0, 30.0]))
@settings(max_examples=60)
def test_segments_cover_all_speech_and_are_never_too_long(
    tmp_path_factory: pytest.TempPathFactory, made: tuple, limit: float
) -> None:
    gaps, words, noise, seed = made
    samples, places = recording(np.random.default_rng(seed), gaps, words, noise)
    power = power_of(tmp_path_factory.mktemp("a"), samples)
    heard = segments.segments(power, limit)
    assert all(0 <= begin < end <= len(power) and (end - begin) * HOP <= limit for begin, end in heard)
    assert heard == sorted(heard) and len(set(heard)) == len(heard)
    covered = np.zeros(len(power), int)
    for begin, end in heard:
        covered[begin:end] += 1
    for begin, end in places:
        assert covered[round(begin / HOP) : round(end / HOP)].all()
    # Only where speech had to be cut is anything heard twice, and never for long.
    pauses_only = all(seconds + 2 * PADDING + 2 * WITHIN <= limit for seconds, _ in words)
    for (_, before), (after, _) in itertools.pairwise(heard):
        assert 0 <= before - after <= segments.OVERLAP if before > after else after - before < len(power)
        assert not (before > after and pauses_only)
    # No silence longer than a pause, but for what lies around speech.
    silent = np.ones(len(power), bool)
    for begin, end in places:
        silent[max(0, int((begin - PADDING - WITHIN) / HOP)) : int((end + PADDING + WITHIN) / HOP) + 1] = (
            False
        )
    runs = np.flatnonzero(np.diff((silent & (covered > 0)).astype(int), prepend=0, append=0))
    assert (runs[1::2] - runs[::2] <= segments.LONGEST_PAUSE).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 45.0))
@settings(max_examples=30)
def test_a_room_in_which_nobody_speaks_is_silent(
    tmp_path_factory: pytest.TempPathFactory, seed: int, seconds: float
) -> None:
    samples = make_silence(random.Random(seed), seconds).samples
    assert segments.segments(power_of(tmp_path_factory.mktemp("a"), samples), 30.0) == []


@pytest.mark.parametrize("what", ["nothing", "a shifted zero", "a hum", "a tone", "clicks"])
def test_nor_does_anything_else_that_is_no_speech(tmp_path: Path, what: str) -> None:
    at = np.arange(20 * RATE) / RATE
    clicks = np.random.default_rng(0).normal(0, 0.001, len(at))
    clicks[:: 3 * RATE] = 0.9
    sounds = {
        "nothing": np.zeros(len(at)),
        "a shifted zero": np.full(len(at), 0.3),
        "a hum": 0.1 * np.sin(2 * np.pi * 50 * at),
        "a tone": 0.5 * np.sin(2 * np.pi * 1000 * at),
        "clicks": clicks,
    }
    assert segments.segments(power_of(tmp_path, sounds[what]), 30.0) == []


@given(st.integers(0, 2**32 - 1), st.sampled_from(["held-out", "held-out-flite"]))
@settings(max_examples=30)
def test_every_digit_of_a_voice_is_heard_whole(
    tmp_path_factory: pytest.TempPathFactory, seed: int, voices: str
) -> None:
    said = make_speech(random.Random(seed), voices, groups=6)
    heard = in_seconds(segments.segments(power_of(tmp_path_factory.mktemp("a"), said.samples), 8.0))
    for digit in said.digits:
        # A voice fades in and out: in a short pause that is where the cut may fall.
        assert any(begin <= digit.start + WITHIN and digit.end - WITHIN <= end for begin, end in heard)


def test_a_quiet_speaker_far_from_the_microphone_is_heard(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [(3.0, 0.0), (3.0, -35.0), (3.0, 0.0)]
    samples, places = recording(rng, [1.0] * 4, words, -85.0)
    assert len(segments.speech(power_of(tmp_path, samples))) == len(places)


def test_speech_without_a_pause_is_cut_where_it_is_quietest_and_heard_twice_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = babble(rng, 50.0)
    samples[round(24.7 * RATE) : round(25.1 * RATE)] *= 0.6
    power = power_of(tmp_path, samples)
    assert segments.speech(power) == [(0, len(power))]
    first, second = in_seconds(segments.segments(power, 30.0))
    assert first[1] == pytest.approx(25.4, abs=0.1)
    assert second == (pytest.approx(24.4, abs=0.1), pytest.approx(50.0))


def test_a_cut_falls_in_the_longest_of_the_late_pauses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    gaps = [0.3] * 40
    gaps[24] = 0.8
    samples, places = recording(rng, gaps, [(0.7, 0.0)] * 40, -70.0)
    first, second, *_ = in_seconds(segments.segments(power_of(tmp_path, samples), 30.0))
    assert first[1] == pytest.approx(places[23][1] + PADDING, abs=WITHIN)
    assert second[0] == pytest.approx(places[24][0] - PADDING, abs=WITHIN)


def test_a_long_silence_is_skipped_and_a_pause_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples, places = recording(rng, [9.0, 2.0, 9.0, 9.0], [(2.0, 0.0)] * 3, -70.0)
    heard = in_seconds(segments.segments(power_of(tmp_path, samples), 30.0))
    expected = [(places[0][0], places[1][1]), places[2]]
    np.testing.assert_allclose(heard, [(b - PADDING, e + PADDING) for b, e in expected], atol=WITHIN)


PEAK = """
import re, sys
from pathlib import Path
from schemas.limits import Limits
from workers.expand import ExpandOptions
from workers.expand.audio import AudioExpander
path, scratch = Path(sys.argv[1]), Path(sys.argv[2])
audio, options, limits = AudioExpander(), ExpandOptions(), Limits()
opened = audio.open(path, scratch, options, limits)
for at in range(0, opened.parts_total, audio.chunk):
    audio.parts(path, scratch, opened, at, min(at + audio.chunk, opened.parts_total), options, limits)
# Not getrusage's peak: that is at least as high as the process stood that started this one.
peak = re.search("VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(opened.parts_total, int(peak[1]) // 1024)
"""


def test_three_hours_take_no_more_memory_than_three_minutes(tmp_path: Path) -> None:
    import soundfile

    rng = np.random.default_rng(0)
    minute, _ = recording(rng, [1.0] * 11, [(4.9, 0.0)] * 10, -70.0)
    peaks = {}
    for minutes in (3, 180):
        with soundfile.SoundFile(tmp_path / "a.wav", "w", RATE, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        command = [sys.executable, "-c", PEAK, str(tmp_path / "a.wav"), str(tmp_path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        parts, peaks[minutes] = map(int, done.stdout.split())
        assert parts >= minutes * 2
    # Levels and spans: 2 MB an hour, and a few times that while they are worked on.
    assert peaks[180] - peaks[3] < 30, peaks
