"""A recording to mono samples at one rate: by libsndfile, and by FFmpeg what that cannot read or finish.

It is decoded block by block, into a raw float32 file, so that six hours take no more memory than six minutes.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from schemas.errors import CorruptDocument, LimitExceeded, UnsupportedMedia
from workers.riff import seconds_behind
from workers.segments import SAMPLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from schemas.limits import Limits

    Samples = NDArray[np.float32]

BLOCK_FRAMES = 1 << 16

CANCELLED = 1e-3
"""Of the loudest channel's power, in the mean of all: of two that say the same it is 1, of two that have
nothing to do with each other a half."""

MISSING_SECONDS = 0.5
"""Headers of MP3 and AAC are estimates; what is missing beyond this is noted."""

MENDED = re.compile(r"^(?:data :| SSND :|  Data Size +:) .*should be", re.MULTILINE)
"""What libsndfile's log says of a WAV, AIFF or AU that was cut off: it mends them, and says so only there."""
ENDS_EARLY = re.compile(r"^(?:riff|  Riff size) : (\d+) \(should be (\d+)\)", re.MULTILINE)
"""And of a W64 or RF64, about the file as a whole, which may also be longer than it says."""
PADDING_BYTES = 8
"""What a W64 may lack at its end, as its chunks are rounded up to so many, and have all its sound."""

ESTIMATED = ("MP3", "OGG", "FLAC")
"""Formats of which libsndfile reads no more than it takes a recording to be: of an MP3 with a variable bit
rate and no header that says so, what its first frames would make of it; of recordings one behind the other in
one file, the first."""
TAG_BYTES = 128
"""At the end of many an MP3: title and artist."""

FFMPEG_FORMATS = "aac,aiff,amr,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,nistsphere,ogg,w64,wav"
"""No playlists: one of those in disguise could have FFmpeg read other files, or call addresses."""


@dataclass
class _Source:
    """A decoder at work: blocks of (rate, channels x samples), and what it says of the file.

    `promised` is the length the header states, in seconds; `notes` grow while the blocks are read. Once they
    are, `unread` is how many bytes of the file were not looked at, and `reached` how far its packets came, in
    seconds, if it is by their times that the header counts.
    """

    metadata: dict[str, str]
    promised: float
    blocks: Iterator[tuple[int, Samples]]
    notes: list[str]
    unread: int = 0
    reached: float = 0.0


def decode(path: Path, raw: Path, rate: int, limits: Limits) -> tuple[dict[str, str], list[str]]:
    """Write a recording's samples to `raw`, little-endian float32, so many a second.

    Returns:
        What the file says of itself, and what went wrong.

    Raises:
        CorruptDocument: nothing of it can be decoded.
        UnsupportedMedia: a video without an audio stream.
        LimitExceeded: longer than `limits.audio_seconds`.
    """
    import soundfile

    kept, reason = 0, ""
    try:
        source = _by_soundfile(path)
        kept = _write(source.blocks, raw, rate, limits)
        if _goes_on(path, source, kept / rate):
            reason = "it goes on behind what libsndfile reads"
    except soundfile.LibsndfileError as error:
        kept = raw.stat().st_size // SAMPLE_BYTES if raw.exists() else 0
        reason = str(error.error_string).strip(" .")
    behind = 0.0 if reason else seconds_behind(path)
    if behind > MISSING_SECONDS:
        reason = "its header ends it before its end"
    if reason:
        source = _by_ffmpeg(path, reason, unsized=behind > MISSING_SECONDS)
        again = raw.with_suffix(".again")
        found = _write(source.blocks, again, rate, limits)
        if found >= kept:
            kept = found
            again.replace(raw)
        else:
            source.notes.append("decoding stopped at damaged data; what came before it is kept")
    if behind > MISSING_SECONDS:
        source.notes.append(f"there are {behind:.1f} s behind the end that its header states; they are heard")
    if source.promised - max(kept / rate, source.reached) > MISSING_SECONDS:
        source.notes.append(f"its header promises {source.promised:.1f} s, {kept / rate:.1f} s are there")
    return source.metadata, source.notes


def _goes_on(path: Path, source: _Source, seconds: float) -> bool:
    """Whether there is more in a recording than libsndfile found, as FFmpeg counts without decoding it."""
    if source.unread <= TAG_BYTES or (seconds and source.metadata["format"] not in ESTIMATED):
        return False
    try:
        return _packed_seconds(path) > seconds + MISSING_SECONDS
    except (CorruptDocument, UnsupportedMedia):
        return False


def _by_soundfile(path: Path) -> _Source:
    import soundfile

    opened = path.open("rb", buffering=0)
    try:
        # By its descriptor, whose place says how far the file was read.
        file = soundfile.SoundFile(opened.fileno(), closefd=False)
    except soundfile.LibsndfileError:
        opened.close()
        raise
    metadata = {
        "format": file.format,
        "codec": file.subtype,
        "sample_rate": str(file.samplerate),
        "channels": str(file.channels),
        **{key: value for key, value in file.copy_metadata().items() if value},
    }
    mended = _is_mended(file.extra_info)
    notes = ["its header states another length than it has; what is there is used"] if mended else []

    def blocks() -> Iterator[tuple[int, Samples]]:
        with opened, file:
            # Not file.blocks: it hears not that a read came to the end, and gives the block before once more,
            # for as long as the header promises.
            while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                yield file.samplerate, block.T
            source.unread = path.stat().st_size - opened.tell()

    source = _Source(metadata, file.frames / file.samplerate, blocks(), notes)
    return source


def _is_mended(log: str) -> bool:
    return bool(MENDED.search(log)) or any(
        int(stated) - int(there) > PADDING_BYTES for stated, there in ENDS_EARLY.findall(log)
    )


def _sound(path: Path, reason: str, *, unsized: bool = False) -> tuple[Any, Any]:
    """A recording as FFmpeg opens it, and the stream to hear; unsized, a WAV goes on to its file's end."""
    import av

    options = {"format_whitelist": FFMPEG_FORMATS, "protocol_whitelist": "file"}
    if unsized:
        options["ignore_length"] = "1"
    try:
        # Titles in some national code page are no reason to lose the sound (pydub's creative_common.mp4).
        container = av.open(str(path), metadata_errors="ignore", container_options=options)
    except av.error.FFmpegError as error:
        raise CorruptDocument(
            f"neither libsndfile ({reason}) nor FFmpeg ({error.strerror}) can read it"
        ) from error
    streams = container.streams
    if not streams.audio:
        kinds = ", ".join(sorted({stream.type for stream in streams})) or "nothing"
        container.close()
        raise UnsupportedMedia(
            f"there is no audio stream in it, only {kinds}: nothing to transcribe", stage="expand"
        )
    return container, streams.best("audio") or streams.audio[0]


def _packed_seconds(path: Path) -> float:
    """How long all packets of a recording last: a tenth of the time that it takes to decode them."""
    container, stream = _sound(path, "")
    with closing(container):
        lengths = sum(packet.duration or 0 for packet in _packets(container, stream, []))
    return float(lengths * (stream.time_base or 0))


def _by_ffmpeg(path: Path, reason: str, *, unsized: bool = False) -> _Source:
    container, stream = _sound(path, reason, unsized=unsized)
    metadata = {
        "format": container.format.name,
        "codec": stream.codec_context.name,
        "sample_rate": str(stream.codec_context.sample_rate),
        "channels": str(stream.codec_context.channels),
        **{key: value for key, value in container.metadata.items() if value},
    }
    source = _Source(metadata, promised_seconds(container, stream), iter(()), [])
    source.blocks = _frames(container, stream, source)
    return source


def promised_seconds(container: Any, stream: Any) -> float:
    """Seconds that the header states. Matroska has no length of a stream, but most programs put one in a tag
    ("00:00:03.014000000"); or else there is the length of the whole, which is that of its longest stream."""
    import av

    if stream.duration:
        return float(stream.duration * (stream.time_base or 0))
    tag = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    alone = len(container.streams) == 1
    return float(container.duration / av.time_base) if alone and container.duration else 0.0


def _frames(container: Any, stream: Any, source: _Source) -> Iterator[tuple[int, Samples]]:
    """Blocks of channels x samples. Damaged packets are left out, and counted."""
    import av

    shape, damaged, end, notes = None, 0, 0, source.notes
    resampler: Any = None
    with closing(container):
        for packet in _packets(container, stream, notes):
            if packet.pts is not None:
                end = packet.pts + (packet.duration or 0)
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except av.error.FFmpegError:
                damaged += 1
                continue
            for frame in frames:
                if shape != (frame.format.name, frame.layout.name, frame.sample_rate):
                    shape = (frame.format.name, frame.layout.name, frame.sample_rate)
                    # To float only: FFmpeg's own mix to mono makes stereo 1.41 times too loud. Packed,
                    # for PyAV 18.1 crashes on planes of eight channels (whisperkit's 8_Channel_ID.m4a).
                    resampler = av.AudioResampler("flt", frame.layout, frame.sample_rate)
                for packed in resampler.resample(frame):
                    yield packed.sample_rate, packed.to_ndarray().reshape(-1, packed.layout.nb_channels).T
        if not stream.duration:
            # By time, not by sound: calls are kept without the packets in which nobody spoke.
            source.reached = float(end * (stream.time_base or 0))
    if damaged:
        notes.append(f"{damaged:,} damaged packets are left out")


def _packets(container: Any, stream: Any, notes: list[str]) -> Iterator[Any]:
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except MemoryError:
            raise
        except av.error.FFmpegError:
            notes.append("the file breaks off in damaged data; what came before it is kept")
            return
        yield packet


def _write(blocks: Iterator[tuple[int, Samples]], raw: Path, rate: int, limits: Limits) -> int:
    """Mix to mono by averaging, resample, append. The number of samples written."""
    import numpy as np
    import soxr

    most = int(limits.audio_seconds * rate)
    written, stream_rate, stream = 0, 0, None
    empty = np.zeros(0, np.float32)
    with closing(blocks) as pieces, raw.open("wb") as out:  # type: ignore[type-var]
        for block_rate, block in pieces:
            if block_rate != stream_rate:
                if stream is not None:
                    written += _append(out, stream.resample_chunk(empty, last=True))
                stream_rate, stream = block_rate, None
                if block_rate != rate:
                    stream = soxr.ResampleStream(block_rate, rate, 1, dtype="float32", quality="HQ")
            mono = _mixed(block) if len(block) > 1 else block[0]
            # Float files may hold NaN, which would silence the model's whole answer.
            if not np.isfinite(mono).all():
                mono = np.nan_to_num(mono, posinf=0.0, neginf=0.0)
            written += _append(out, mono if stream is None else stream.resample_chunk(mono))
            if written > most:
                raise LimitExceeded(
                    f"longer than limits.audio_seconds = {limits.audio_seconds:g}; raise it to try again",
                    limit="limits.audio_seconds",
                )
        if stream is not None:
            written += _append(out, stream.resample_chunk(empty, last=True))
    return written


def _mixed(block: Samples) -> Samples:
    """The mean of the channels; where they cancel each other, as with one of them wired the wrong way round,
    the loudest: nothing would be heard of it."""
    import numpy as np

    # A product, since numpy's own mean over so few takes nine times as long: a third of the whole.
    mono: Samples = np.full(len(block), 1 / len(block), np.float32) @ block
    power = np.einsum("ij,ij->i", block, block)
    loudest = int(power.argmax())
    return block[loudest] if float(mono @ mono) < CANCELLED * float(power[loudest]) else mono


def _append(out: BinaryIO, samples: Samples) -> int:
    out.write(samples.astype("<f4", copy=False).tobytes())
    return len(samples)
