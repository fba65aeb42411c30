"""Recordings, and the sound of videos: mono, at the model's rate, in segments it can hear whole.

A recording is decoded once, by `workers.sound`, into a raw float32 file in scratch. The parts are then
slices of that file, as `workers.segments` chooses them: all of its speech, and no silence longer than a
pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from schemas.errors import CorruptDocument
from schemas.rows import PartKind
from workers import segments
from workers.expand import ExpandOptions, Opened, Part
from workers.sound import decode

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.limits import Limits

RAW = "samples.f32"
SAMPLE_BYTES = segments.SAMPLE_BYTES

SHORTEST_SECONDS = 0.1
"""Gemma 3n's audio tower fails below 513 samples; a shorter segment is padded with silence."""
SILENT_SECONDS = 0.01
"""Less than this is no recording; pocketsphinx's awful.wav claims 1,092,676 samples a second and has 441."""


class AudioExpander:
    """Decodes with soundfile, and with PyAV what libsndfile cannot read or finish."""

    media_types: ClassVar[tuple[str, ...]] = (
        "audio/wav",
        "audio/flac",
        "audio/mpeg",
        "audio/ogg",
        "audio/aac",
        "audio/mp4",
        "audio/aiff",
        "audio/basic",
        "audio/amr",
        "audio/x-caf",
        "audio/x-nist",
        "audio/x-w64",
        "video/mp4",
        "video/quicktime",
        "video/mpeg",
        "video/webm",
        "video/x-matroska",
        "video/x-ms-asf",
        "video/x-msvideo",
        "video/x-flv",
    )
    part_kind: ClassVar[PartKind] = PartKind.AUDIO
    chunk: ClassVar[int] = 4
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "soundfile", "soxr", "av")

    def open(self, path: Path, scratch: Path, options: ExpandOptions, limits: Limits) -> Opened:
        """Decode it and choose the segments. Where nobody speaks there is one part, without content.

        Raises:
            CorruptDocument: nothing of it can be decoded, or there is no sound in it.
            UnsupportedMedia: a video without an audio stream.
            LimitExceeded: longer than `limits.audio_seconds`.
        """
        metadata, notes = decode(path, scratch / RAW, options.sample_rate, limits)
        samples = (scratch / RAW).stat().st_size // SAMPLE_BYTES
        if samples < SILENT_SECONDS * options.sample_rate:
            raise CorruptDocument(f"no audio in it: it opens, and holds {samples} samples")
        rate = options.sample_rate
        power = segments.read_power(scratch / RAW, rate)
        hop = int(segments.HOP_SECONDS * rate)
        heard = [
            (begin * hop, min(end * hop, samples))
            for begin, end in segments.segments(power, options.segment_seconds)
        ]
        length = {"duration_seconds": f"{samples / rate:.3f}"}
        return Opened(
            parts_total=max(1, len(heard)),
            plan={"segments": heard, "samples": samples},
            # In front, since only so many of them are kept; over a tag of the file's with this name.
            metadata=length | metadata | length,
            warnings=tuple(notes),
        )

    def parts(
        self,
        path: Path,
        scratch: Path,
        opened: Opened,
        start: int,
        stop: int,
        options: ExpandOptions,
        limits: Limits,
    ) -> list[Part]:
        """Segments `start` to `stop`: little-endian float32, with their place in the recording."""
        heard, rate = opened.plan["segments"], options.sample_rate
        if not heard:
            return [Part(0, start_seconds=0.0, end_seconds=opened.plan["samples"] / rate)]
        shortest = int(SHORTEST_SECONDS * rate) * SAMPLE_BYTES
        parts = []
        with (scratch / RAW).open("rb") as raw:
            for index in range(start, stop):
                begin, end = heard[index]
                raw.seek(begin * SAMPLE_BYTES)
                content = raw.read((end - begin) * SAMPLE_BYTES).ljust(shortest, b"\0")
                parts.append(Part(index, content, start_seconds=begin / rate, end_seconds=end / rate))
        return parts
