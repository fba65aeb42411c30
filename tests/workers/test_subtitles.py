"""Subtitles that any player reads, whatever a model said: times in order, and the text as it was."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.documents import assembled, clip, page
from workers.subtitles import Format, render

TEXT = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            ["-->", "\n\n", "1", "00:00:01.000 --> 00:00:02.000", "<b>", "&lt;", "NOTE x", "word"]
        )
    ).map(" ".join),
)
SEGMENTS = st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 30), TEXT), max_size=6)
KINDS: tuple[Format, ...] = ("srt", "vtt")


def segments(made: list[tuple[float, float, str]]) -> list[dict[str, Any]]:
    at, found = 0.0, []
    for gap, length, text in made:
        found.append({"start_seconds": at + gap, "end_seconds": at + gap + length, "text": text})
        at += gap + length
    return found


def read(file: str, kind: Format) -> list[tuple[float, float, str]]:
    """As a parser of another make reads it, without what the format adds to a text."""
    blocks = file.split("\n\n")[1 if kind == "vtt" else 0 :]
    cues = []
    for block in filter(None, (block.strip("\n") for block in blocks)):
        lines = block.split("\n")[1 if kind == "srt" else 0 :]
        start, end = (_seconds(time) for time in lines[0].split(" --> "))
        cues.append((start, end, "\n".join(lines[1:])))
    return cues


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def words(text: str) -> str:
    """A text without its spaces, line breaks and control characters, which are not shown."""
    return "".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())


@pytest.mark.parametrize("kind", KINDS)
@given(SEGMENTS)
def test_a_transcript_cannot_break_the_format(kind: Format, made: list[tuple[float, float, str]]) -> None:
    heard = segments(made)
    cues = read(render(heard, kind), kind)
    said = "".join(words(segment["text"]) for segment in heard)
    shown = "".join(words(html.unescape(text) if kind == "vtt" else text) for _, _, text in cues)
    assert shown == (said if kind == "vtt" else said.translate(str.maketrans("<>", "‹›")))
    for start, end, text in cues:
        assert start <= end
        assert 0 < len(text.split("\n")) <= 2
        assert all(0 < len(html.unescape(line)) <= 42 for line in text.split("\n"))
    assert all(before[1] <= after[0] for before, after in zip(cues, cues[1:], strict=False))


@pytest.mark.parametrize("kind", KINDS)
def test_a_library_reads_the_same_cues(kind: Format) -> None:
    file = render(
        segments([(0.5, 4.0, "Good evening."), (1.0, 2.0, "And welcome, <all> of you & yours.")]), kind
    )
    parsed = webvtt.from_string(file) if kind == "vtt" else webvtt.from_buffer(_buffer(file), format="srt")
    assert [(cue.start, cue.end) for cue in parsed] == [
        ("00:00:00.500", "00:00:04.500"),
        ("00:00:05.500", "00:00:07.500"),
    ]


def _buffer(file: str) -> Any:
    import io

    return io.StringIO(file)


def test_a_long_segment_is_shown_in_pieces_that_share_its_time_by_length() -> None:
    text = " ".join(f"word{index:02d}" for index in range(60))
    cues = read(render(segments([(2.0, 30.0, text)]), "srt"), "srt")
    assert (cues[0][0], cues[-1][1]) == (2.0, 32.0)
    assert len(cues) == 5
    pace = [len(words(shown)) / (end - start) for start, end, shown in cues]
    assert max(pace) / min(pace) < 1.1


def test_a_file_without_a_word_is_one_all_the_same() -> None:
    assert (render([], "srt"), render([], "vtt")) == ("", "WEBVTT\n")


def test_documents_carry_them_and_pages_do_not() -> None:
    tasks = {"page": ("ocr",), "audio": ("transcribe", "translate")}
    records = {
        "transcribe": [clip(1, 0, "Guten Abend", total=1), clip(3, 0, "", total=1)],
        "translate": [clip(1, 0, "Good evening", total=1)],
        "ocr": [page(2, 0, total=1)],
    }
    spoken, read_, silent = assembled(records, tasks=tasks)
    assert spoken["srt"] == "1\n00:00:00,000 --> 00:00:09,500\nGuten Abend\n"
    assert spoken["vtt"] == "WEBVTT\n\n00:00:00.000 --> 00:00:09.500\nGuten Abend\n"
    assert (read_["srt"], read_["vtt"]) == (None, None)
    assert (silent["srt"], silent["vtt"]) == ("", "WEBVTT\n")
