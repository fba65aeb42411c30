"""Where a recording speaks, and what of it the model hears at a time: levels -> spans -> segments.

An energy gate, set by the recording's own noise and peaks. It lets through whatever might be speech:
what the model is asked about in vain costs a call, what it is not asked about is lost. A level every
10 ms is all that is held of a recording: 2 MB an hour.

Voice detectors that ship their models were weighed. silero-vad needs torch in every parser's process, and
a pass of its network over each 32 ms. webrtcvad takes a hum for speech in all of its modes, and loses a
fifth of the digits of the demo's voices when they are 40 dB quieter; the gate loses none. librosa's rms is
the figure used here, and its import costs a parser 3 s and 230 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

VERSION = 2
"""Part of the fingerprints of what is heard; raised when other segments come of the same recording."""

HOP_SECONDS = 0.01
"""Places are counted in hops of this length."""
BLOCK_HOPS = 6_000
SAMPLE_BYTES = 4

EMPHASIS = 0.7
"""A sample counts less this share of the one before, so that consonants weigh more and rumble less. Of the
2,701 digits of 200 demo recordings, 15 to 40 dB above noise from white to pink, the gate loses 26 at 0.9
and none at 0.7, and noise strays 1.5 dB from its quietest there, but 3.5 dB at 0."""
FINE, COARSE = 5, 20
"""Hops that a level is averaged over: to find where speech begins, and to find a pause."""
NOTHING = 1e-12
"""Added to powers: -120 dB, below what 24 bits hold."""

WINDOW = 2_000
"""The gate is set every 20 s, by what is up to as long before and behind."""
MARGIN_DECIBEL = 6.0
"""Speech is this much louder than the quietest fifth of a second around it; where noise leaves less room,
a third of what there is."""
MARGIN_SHARE = 1 / 3
REACH_DECIBEL = 50.0
"""This far below the loudest there is no speech that could be understood beside it."""
FLOOR_DECIBEL = -80.0
"""Nor below this, of full scale and emphasised. Speech that peaks at -60 dB still is above it."""
STEADY_DECIBEL = 3.0
"""Sound that varies by less is a hum or a hiss: the noisiest of the demo's recordings vary by 10 dB, real
ones by 20 dB."""
JUDGED = 50
"""A shorter recording has nothing to compare its sound with: above FLOOR_DECIBEL it is heard."""

PAUSE = 20
"""A shorter silence is the closure of a "t", and part of the speech around it."""
SHORTEST = 8
"""Shorter sounds, alone in silence, are clicks."""
PADDING = 20
"""Heard before and behind speech, so that soft consonants are whole."""
LONGEST_PAUSE = 300
"""A longer silence is in no segment."""
LATE = 2 / 3
"""Of what a segment may be: a cut is looked for behind it."""
OVERLAP = 100
"""Heard twice where a cut falls in the middle of speech; `workers.transcript` takes one out."""
REST = 100
"""No cut leaves less than this behind it: a syllable alone cannot be understood."""

Span = tuple[int, int]
"""From, to (exclusive)."""


def read_power(raw: Path, rate: int) -> Floats:
    """The power of each hop, emphasised and about its own mean; read in blocks of a minute.

    Args:
        raw: little-endian float32 samples, mono.
        rate: samples a second.
    """
    import numpy as np

    hop = int(HOP_SECONDS * rate)
    powers = [np.zeros(0, np.float32)]
    before: Floats = np.fromfile(raw, "<f4", 1)
    with raw.open("rb") as file:
        while len(block := np.fromfile(file, "<f4", hop * BLOCK_HOPS)):
            risen = block - np.float32(EMPHASIS) * np.concatenate((before, block[:-1]))
            starts = np.arange(0, len(block), hop)
            lengths = np.diff(starts, append=len(block)).astype(np.float32)
            mean = np.add.reduceat(risen, starts) / lengths
            powers.append(np.add.reduceat(np.square(risen), starts) / lengths - np.square(mean))
            before = block[-1:]
    power = np.concatenate(powers)
    if len(power) > 1 and len(power) * hop * SAMPLE_BYTES > raw.stat().st_size:
        # A few samples at the end have any mean.
        power[-1] = power[-2]
    return power


def speech(power: Floats) -> list[Span]:
    """Where there is speech, in hops: spans at least PAUSE apart."""
    import numpy as np

    fine = _decibel(power, FINE)
    if len(power) < JUDGED:
        return [(0, len(power))] if (fine >= FLOOR_DECIBEL).any() else []
    loud = (fine >= _gate(fine, _decibel(power, COARSE))).astype(np.int8)
    edges = np.flatnonzero(np.diff(loud, prepend=0, append=0))
    begins, ends = edges[::2], edges[1::2]
    if not len(begins):
        return []
    apart = begins[1:] - ends[:-1] >= PAUSE
    begins, ends = begins[np.append(True, apart)], ends[np.append(apart, True)]
    long = ends - begins >= SHORTEST
    return list(zip(begins[long].tolist(), ends[long].tolist(), strict=True))


def segments(power: Floats, longest_seconds: float) -> list[Span]:
    """What is heard at a time, in hops: in order, all speech in it, and none of it twice or cut, but
    where speech without a pause is longer than a segment may be. Those overlap.

    Args:
        power: of `read_power`.
        longest_seconds: of a segment; at least 1.
    """
    longest = int(longest_seconds / HOP_SECONDS)
    spans = _padded(speech(power), len(power))
    if any(end - begin > longest for begin, end in spans):
        quiet = _decibel(power, COARSE)
        spans = [piece for span in spans for piece in _cut(span, quiet, longest)]
    return list(_packed(spans, longest))


def _decibel(power: Floats, hops: int) -> Floats:
    """The level around each hop, averaged over some."""
    import numpy as np

    around = np.pad(power, (hops // 2, (hops - 1) // 2), mode="edge")
    mean = np.convolve(around, np.full(hops, 1 / hops, np.float32), mode="valid")
    return np.asarray(10 * np.log10(np.maximum(mean, 0) + NOTHING), np.float32)


def _gate(fine: Floats, coarse: Floats) -> Floats:
    """The level at which sound counts as speech, for each hop; infinite where nothing does."""
    import numpy as np

    low, high = _windows(coarse).min(axis=1), _windows(fine).max(axis=1)
    here = np.arange(len(low))
    around = [np.maximum(here - 1, 0), here, np.minimum(here + 1, len(here) - 1)]
    low, high = low[around].min(axis=0), high[around].max(axis=0)
    gate = low + np.minimum(MARGIN_DECIBEL, (high - low) * MARGIN_SHARE)
    gate = np.maximum(np.maximum(gate, high - REACH_DECIBEL), FLOOR_DECIBEL)
    gate = np.where(high - low < STEADY_DECIBEL, np.inf, gate)
    return np.repeat(gate.astype(np.float32), WINDOW)[: len(fine)]


def _windows(levels: Floats) -> Floats:
    import numpy as np

    return np.pad(levels, (0, -len(levels) % WINDOW), mode="edge").reshape(-1, WINDOW)


def _padded(spans: Sequence[Span], end: int) -> list[Span]:
    """The spans with some silence around each; two that would meet share what lies between them."""
    between = [(left[1] + right[0]) // 2 for left, right in zip(spans, spans[1:], strict=False)]
    firsts, lasts = [0, *between], [*between, end]
    return [
        (max(begin - PADDING, first), min(stop + PADDING, last))
        for (begin, stop), first, last in zip(spans, firsts, lasts, strict=bool(spans))
    ]


def _cut(span: Span, quiet: Floats, longest: int) -> Iterator[Span]:
    """Pieces of at most `longest`, cut at the quietest place in the last third, which both sides hear."""
    import numpy as np

    begin, end = span
    half, rest = min(OVERLAP // 2, longest // 16), min(REST, longest // 6)
    while end - begin > longest:
        earliest, latest = begin + int(longest * LATE), min(begin + longest - half, end - rest)
        # The last of equals, which makes the fewest pieces.
        at = latest - 1 - int(np.argmin(quiet[earliest:latest][::-1]))
        yield begin, at + half
        begin = at - half
    yield begin, end


def _packed(spans: Sequence[Span], longest: int) -> Iterator[Span]:
    """Spans joined while they fit; where more would follow, up to the longest pause in the last third."""
    first = 0
    pauses = [right[0] - left[1] for left, right in zip(spans, spans[1:], strict=False)]
    while first < len(spans):
        begin, last = spans[first][0], first
        while last < len(pauses) and pauses[last] <= LONGEST_PAUSE and spans[last + 1][1] - begin <= longest:
            last += 1
        if last < len(pauses) and pauses[last] <= LONGEST_PAUSE:
            late = [at for at in range(first, last + 1) if spans[at][1] - begin >= longest * LATE]
            last = max(late, key=pauses.__getitem__, default=last)
        yield begin, spans[last][1]
        first = last + 1
