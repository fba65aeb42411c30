"""The names of people in an answer: the model that gave it is asked for them, and they are looked for in it.

What it says serves to find words of the answer and for nothing else: no answer gets a word by it. Where it
cannot say, the answer is not written at all.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from schemas.ids import canonical
from schemas.rows import PartKind, Status
from workers.condense import packed
from workers.prompt import Part
from workers.redact import as_json, looked_through, without_halves

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from workers.prompt import Ask

    Outcome = dict[str, Any]
    Climb = Callable[[Ask, Part], Awaitable[Outcome]]

ASKED_AT_ONCE = 2_000
"""Characters: more could hold more names than `schemas.names.MOST`."""
OVERLAP = 60
"""Characters of one piece that the next has as well, so that a name between them is whole in one."""
ALIKE = ("'`\u00b4\u02bc\u2018\u2019", "\u2010\u2011\u2012\u2013-")
"""Apostrophes, and hyphens: between brackets of a pattern."""
TECHNICAL = frozenset(
    "channels codec creationDate duration_seconds encryption format make mode model modDate modified "
    "sample_rate warnings".split()
)
"""What a document says of itself that is no words of a person's. The rest, titles and authors, is not written
where names are taken out: nobody is asked about it."""


@dataclass(frozen=True, slots=True)
class Named:
    """What the model named in one answer.

    Attributes:
        pattern: finds all of them; None if nobody is named.
        said: the columns of what was asked for it.
        fault: the error value in place of names that could not be had.
    """

    pattern: re.Pattern[str] | None = None
    said: tuple[Outcome, ...] = ()
    fault: dict[str, Any] | None = None


async def named(texts: Iterable[str], ask: Ask, identity: str, climb: Climb) -> Named:
    """Ask for the names in an answer.

    Args:
        texts: its strings.
        ask: `schemas.names.NAMES`, as the model is asked it; `room` is set.
        identity: of the answer.
        climb: asks about a text.
    """
    lines = [line for text in texts for line in text.splitlines()]
    if not any(character.isalpha() for line in lines for character in line):
        return Named()
    pieces = overlapping(packed(lines, min(ask.room or ASKED_AT_ONCE, ASKED_AT_ONCE) - OVERLAP))
    outcomes = await asyncio.gather(
        *(
            climb(ask, Part(f"{identity}/names/{place}", None, piece, PartKind.PAGE))
            for place, piece in enumerate(pieces)
        )
    )
    for outcome in outcomes:
        if outcome["status"] is not Status.RECORD:
            return Named(fault=outcome["error"])
    found = {name for outcome in outcomes for name in outcome["data"]["names"]}
    return Named(pattern_of(found), tuple(outcomes))


def strings(outcome: Outcome) -> list[str]:
    """All of an outcome's texts, each once; of JSON what is in it."""
    texts: dict[str, None] = {}

    def note(text: str) -> str:
        texts[text] = None
        return text

    looked_through(outcome, note, note)
    if as_json(text := outcome.get("text") or "") is not None:
        del texts[text]
    return [without_halves(text) for text in texts]


def technical(metadata: str | None) -> str | None:
    """What of a document's own metadata, which is JSON, is no words of a person's."""
    if metadata is None:
        return None
    return canonical({name: value for name, value in json.loads(metadata).items() if name in TECHNICAL})


def overlapping(pieces: list[str]) -> list[str]:
    """Each with the end of the one before it."""
    return [
        f"{before[-OVERLAP:]} {piece}" if before else piece
        for before, piece in zip(["", *pieces], pieces, strict=False)
    ]


def pattern_of(names: Iterable[str]) -> re.Pattern[str] | None:
    """What finds all of these names as whole words, however their words are spaced, and in any case. A model
    spells an accent, an apostrophe or a hyphen as it is used to, and not as the text has it."""
    words = {
        tuple(normalize(form, name).split())
        for name in names
        if sum(map(str.isalpha, name)) > 1
        for form in ("NFC", "NFD")
    }
    if not words:
        return None
    longest_first = sorted(words, key=lambda each: (-sum(map(len, each)), each))
    either = "|".join(r"\s+".join(map(_spelled, each)) for each in longest_first)
    return re.compile(rf"(?<!\w)(?:{either})(?!\w)", re.IGNORECASE)


def _spelled(word: str) -> str:
    return "".join(
        next((f"[{alike}]" for alike in ALIKE if character in alike), re.escape(character))
        for character in word
    )


def withheld(outcome: Outcome, fault: dict[str, Any]) -> Outcome:
    """The error in the place of an answer whose names could not be had; nothing of it is in there.

    Args:
        outcome: of the answer.
        fault: why they could not.
    """
    message = (
        f"answered, but the model could not say whom the answer names ({fault['category']}), so it is not "
        "written; ask again with `gemstream retry`, or leave name out of privacy.redact"
    )
    error = fault | {"message": message}
    return {"status": Status.ERROR, "error": error, "attempts": outcome.get("attempts", 1)}
