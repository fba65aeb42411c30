"""What two segments both heard is said once, and what only one of them heard is not lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.documents import assembled, clip
from workers.transcript import STRAY_WORDS, joined

WORDS = st.lists(
    st.sampled_from("the a I yes no that know of".split())
    | st.text("abcdefghijklmnopqrstuvwxyzäéñøß", min_size=1, max_size=8),
    min_size=8,
    max_size=60,
)


def longer(first: list[str], second: list[str], than: int) -> bool:
    """Whether the seam reads as well as if more words had been heard twice."""
    return any(
        first[len(first) - lost - size : len(first) - lost] == second[skip : skip + size]
        for lost in range(STRAY_WORDS + 1)
        for skip in range(STRAY_WORDS + 1)
        for size in range(than + 1, min(len(first) - lost, len(second) - skip) + 1)
    )


@given(WORDS, st.data())
def test_words_heard_twice_are_said_once(words: list[str], data: st.DataObject) -> None:
    words = [word.casefold() for word in words]
    begin = data.draw(st.integers(0, len(words) - 1))
    shared = data.draw(st.integers(1, min(5, len(words) - begin)))
    first, second = words[: begin + shared], words[begin:]
    said = " ".join(filter(None, joined(" ".join(first), " ".join(second))))
    assert said == " ".join(words) or longer(first, second, shared)


@given(WORDS, st.data())
def test_words_heard_once_are_all_kept(words: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(words)))
    known = {word.casefold() for word in words[:cut]}
    first, second = " ".join(words[:cut]), " ".join(w for w in words[cut:] if w.casefold() not in known)
    assert joined(first, second) == (first, second)


@given(st.text(), st.text())
def test_nothing_is_invented(first: str, second: str) -> None:
    before, after = joined(first, second)
    assert first.startswith(before) and second.endswith(after)


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("The quick brown f", "ick brown fox jumps.", ("The quick brown", "fox jumps.")),
        ("my fellow Americans.", "Fellow Americans, ask not", ("my fellow Americans.", "ask not")),
        ("It cost 1,000 euros", "1,000 Euros and more", ("It cost 1,000 euros", "and more")),
        ("今日は天気", "天気がいい", ("今日は天気", "がいい")),
        ("4 7 1 9", "1 9 3", ("4 7 1 9", "3")),
        ("all of it", "of it", ("all of it", "")),
        # A common word is elsewhere near the seam as well.
        ("the cat sat on the", "the mat and the rat", ("the cat sat on the", "mat and the rat")),
        ("I know that I know", "I know nothing", ("I know that I know", "nothing")),
        ("yes yes yes", "yes yes no", ("yes yes yes", "no")),
        ("no. No.", "No. We will not", ("no. No.", "We will not")),
        ("to the end of the f", "of the first of the two", ("to the end of the", "first of the two")),
        # One word in common by chance, too far from the seam to be the same one.
        (
            "he went to the old house",
            "there is the reason",
            ("he went to the old house", "there is the reason"),
        ),
        ("", "words", ("", "words")),
        ("words", "", ("words", "")),
    ],
)
def test_a_seam(first: str, second: str, whole: tuple[str, str]) -> None:
    assert joined(first, second) == whole


def spoken(*segments: tuple[float, float, str], task: str = "transcribe") -> list[dict[str, Any]]:
    return [
        clip(1, part, text, total=len(segments), start_seconds=start, end_seconds=end)
        for part, (start, end, text) in enumerate(segments)
    ]


def test_a_documents_segments_overlap_neither_in_time_nor_in_words() -> None:
    said = spoken((0.0, 25.5, "one two three f"), (24.5, 50.0, "three four five"), (50.5, 60.0, "five six"))
    [row] = assembled({"transcribe": said})
    assert row["texts"] == {"transcribe": "one two three four five five six"}
    heard = [(each["start_seconds"], each["end_seconds"], each["text"]) for each in row["segments"]]
    assert heard == [(0.0, 25.0, "one two three"), (25.0, 50.0, "four five"), (50.5, 60.0, "five six")]


def test_only_neighbours_of_one_task_and_document_meet() -> None:
    first, second = spoken((0.0, 25.5, "one two"), (24.5, 50.0, "one two three"))
    other = {**second, "document_id": f"{2:032x}", "uri": "s3://lake/2", "part_index": 0, "parts_total": 1}
    rows = assembled(
        {"transcribe": [first, other], "translate": [second]}, tasks={"audio": ("transcribe", "translate")}
    )
    assert [row["texts"] for row in rows] == [
        {"transcribe": "one two", "translate": "one two three"},
        {"transcribe": "one two three"},
    ]


def test_the_length_of_a_recording_is_not_that_of_its_speech() -> None:
    said = spoken((3.0, 9.0, "hello"))
    known = [{**row, "document_metadata": '{"duration_seconds":"60.500","title":"x"}'} for row in said]
    assert [row["seconds_of_media"] for row in assembled({"transcribe": known})] == [60.5]
    forged = [{**row, "document_metadata": '{"title":"\\"duration_seconds\\":\\"9\\""}'} for row in said]
    assert [row["seconds_of_media"] for row in assembled({"transcribe": forged})] == [9.0]


def test_two_labels_that_are_the_same_are_no_words_heard_twice() -> None:
    segments = spoken((0, 20, "angry"), (19, 30, "angry"), task="classify")
    (row,) = assembled({"classify": segments}, tasks={"audio": ("classify",)})
    assert row["texts"]["classify"] == "angry angry" and row["srt"] is None
