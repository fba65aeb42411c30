"""A recording's segments -> SRT and WebVTT, in cues that can be read while they are shown."""

from __future__ import annotations

import html
import io
import re
import textwrap
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

Format = Literal["srt", "vtt"]

LINE_CHARACTERS, CUE_LINES = 42, 2
"""As broadcasters and streaming services ask for (Netflix, Timed Text Style Guide)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BRACKETS = str.maketrans("<>", "\u2039\u203a")


def render(segments: Iterable[Mapping[str, Any]], kind: Format) -> str:
    """The segments as a subtitle file.

    Whatever a text holds, it stays text: WebVTT has escapes for that. SRT has none, so angle brackets,
    of which its arrows and tags are made, become single quotes that look like them.

    Args:
        segments: with start_seconds, end_seconds and text, in order.
        kind: "srt" or "vtt".
    """
    from webvtt import Caption, WebVTT

    captions = [
        Caption(_clock(start), _clock(end), [_escaped(line, kind) for line in lines])
        for segment in segments
        for start, end, lines in _cues(segment)
    ]
    file = io.StringIO()
    WebVTT(captions=captions).write(file, format=kind)
    return file.getvalue().rstrip("\n") + "\n" if captions or kind == "vtt" else ""


def columns(segments: pa.Array, tasks: Sequence[str]) -> dict[str, pa.Array]:
    """`srt` and `vtt`: one text per document, null where it is no recording or nobody asked what is said.

    Args:
        segments: SEGMENTS per document.
        tasks: those that ask what is said in recordings, in the job's order; subtitles show the answers of
            the first.
    """
    import pyarrow as pa

    shown = [
        None if heard is None or not tasks else [each for each in heard if each["task"] == tasks[0]]
        for heard in segments.to_pylist()
    ]
    kinds: tuple[Format, ...] = ("srt", "vtt")
    return {
        kind: pa.array([None if heard is None else render(heard, kind) for heard in shown], pa.large_string())
        for kind in kinds
    }


def _cues(segment: Mapping[str, Any]) -> Iterator[tuple[int, int, list[str]]]:
    """From and to in milliseconds, and the lines: a segment's time is shared by length of text."""
    text = _CONTROL.sub(" ", segment["text"]).split()
    lines = textwrap.wrap(" ".join(text), LINE_CHARACTERS, break_on_hyphens=False)
    cues = [lines[at : at + CUE_LINES] for at in range(0, len(lines), CUE_LINES)]
    whole = sum(map(len, lines))
    begin, length = segment["start_seconds"], segment["end_seconds"] - segment["start_seconds"]
    said = 0
    for cue in cues:
        start = begin + length * said / whole
        said += sum(map(len, cue))
        yield round(1000 * start), round(1000 * (begin + length * said / whole)), cue


def _clock(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{thousandths:03d}"


def _escaped(line: str, kind: Format) -> str:
    return html.escape(line, quote=False) if kind == "vtt" else line.translate(_BRACKETS)
