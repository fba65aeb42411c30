"""What the parts of a document say, put together until it fits beside one question."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.rows import PartKind, Status
from workers.condense import BETWEEN, condensed, packed
from workers.prompt import Part

TEXTS = st.lists(st.text("ab ", max_size=60), max_size=40)


@given(TEXTS, st.integers(40, 200))
def test_pieces_fit_keep_the_order_and_leave_out_no_word(texts: list[str], room: int) -> None:
    pieces = packed(texts, room)
    assert all(0 < len(piece) <= room for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join("".join(texts).split())


@given(st.lists(st.text("ab", min_size=1, max_size=60), min_size=2, max_size=40), st.integers(40, 200))
def test_a_piece_holds_three_texts_at_least_but_for_the_last(texts: list[str], room: int) -> None:
    pieces = packed(texts, room)
    assert all(piece.count(BETWEEN) >= 2 for piece in pieces[:-1])


def part(text: str | None) -> Part:
    return Part("a/v1/None", None, text, PartKind.PAGE)


async def said(asked: list[Part], piece: Part, tokens: int = 10) -> dict[str, Any]:
    asked.append(piece)
    text = f"gist of {len((piece.text or '').split(BETWEEN))}"
    return {"status": Status.RECORD, "text": text, "prompt_tokens": tokens, "seconds": None}


def test_what_fits_is_one_question() -> None:
    asked: list[Part] = []
    outcome = asyncio.run(condensed(part("one\n\ntwo"), 100, lambda piece: said(asked, piece)))
    assert [piece.text for piece in asked] == ["one\n\ntwo"]
    assert outcome["text"] == "gist of 2" and outcome["prompt_tokens"] == 10


def test_a_long_text_that_fits_is_asked_about_whole() -> None:
    asked: list[Part] = []
    asyncio.run(condensed(part("word " * 19 + "end"), 100, lambda piece: said(asked, piece)))
    assert [piece.text for piece in asked] == ["word " * 19 + "end"]


def test_answers_as_long_as_what_they_are_about_come_to_an_end() -> None:
    asked: list[Part] = []

    async def echo(piece: Part) -> dict[str, Any]:
        return await said(asked, piece) | {"text": piece.text}

    asyncio.run(condensed(part("word " * 2_000), 100, echo))
    assert len(asked) < 2 * 2_000 * 5 / 75


def test_what_does_not_fit_is_asked_about_in_rounds_and_all_of_it_is_counted() -> None:
    asked: list[Part] = []
    text = BETWEEN.join(f"part {number}" for number in range(50))
    outcome = asyncio.run(condensed(part(text), 80, lambda piece: said(asked, piece)))
    assert all(len(piece.text or "") <= 80 for piece in asked)
    assert outcome["prompt_tokens"] == 10 * len(asked) and outcome["seconds"] is None
    assert len({piece.identity for piece in asked}) == len(asked), "each is a request of its own"
    assert asked[-1].identity == "a/v1/None" and "gist of" in (asked[-1].text or "")


def test_a_piece_that_fails_fails_the_whole() -> None:
    async def failing(piece: Part) -> dict[str, Any]:
        return {"status": Status.ERROR, "error": {"category": "truncated"}}

    text = BETWEEN.join(f"part {number}" for number in range(50))
    outcome = asyncio.run(condensed(part(text), 80, failing))
    assert outcome["status"] is Status.ERROR and outcome["error"]["category"] == "truncated"


def test_a_recording_of_silence_alone_is_not_asked_about() -> None:
    assert Part("a", None, None, PartKind.AUDIO).silent
    assert not Part("a", None, "what its segments say", PartKind.AUDIO).silent
