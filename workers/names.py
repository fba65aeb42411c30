"""The names of people in an answer: the model that gave it is asked for them, and they are looked for in it.

What it says serves to find words of the answer and for nothing else: no answer gets a word by it. Where it
cannot say, the answer is not written at all.
"""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.ids import canonical
from schemas.rows import PartKind, Status
from workers.condense import packed
from workers.prompt import Part
from workers.redact import as_json, looked_through, without_halves

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from workers.prompt import Ask
    from workers.redact import Finder

    Outcome = dict[str, Any]
    Climb = Callable[[Ask, Part], Awaitable[Outcome]]

ASKED_AT_ONCE = 2_000
"""Characters: more could hold more names than `schemas.names.MOST`."""
APOSTROPHES = "'`\u2018\u2019\u02bc\u00b4"
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u3040-\u318f\u3400-\u9fff\ua960-\ua97f\uac00-\ud7ff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts that put no space between a name and what follows: Thai, Lao, Burmese, Khmer, Chinese, Japanese;
and Korean, whose particles cling to it."""
OVERLAP = 60
"""Characters of one piece that the next has as well, so that a name between them is whole in one."""
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
        finder: finds all of them; None if nobody is named.
        said: the columns of what was asked for it.
        fault: the error value in place of names that could not be had.
    """

    finder: Finder | None = None
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
    return Named(finder(found), tuple(outcomes))


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


def finder(names: Iterable[str]) -> Finder | None:
    """What finds all of these names in a text, as whole words and however they are spelled there."""
    known = {folded(name)[0].strip() for name in names if sum(map(str.isalpha, name)) > 1}
    if not known:
        return None
    longest_first = sorted(known, key=lambda name: (-len(name), name))
    pattern = re.compile("|".join(map(_whole, longest_first)))

    def find(text: str) -> Iterator[tuple[int, int]]:
        there, origins = folded(text)
        for found in pattern.finditer(there):
            yield origins[found.start()], origins[found.end()]

    return find


def folded(text: str) -> tuple[str, list[int]]:
    """A text as names are compared: without accents, case, ligatures and what cannot be seen, and all spaces,
    dashes and apostrophes alike. A model spells as it was taught, and not as the document does.

    Returns:
        The text, and the place in the one given of each of its characters, and of its end.
    """
    kept: list[str] = []
    origins: list[int] = []
    for place, character in enumerate(text):
        for part in unicodedata.normalize("NFKD", character.casefold()):
            kind = unicodedata.category(part)
            if kind in ("Mn", "Cf") or (part.isspace() and kept[-1:] == [" "]):
                continue
            alike = "-" if kind == "Pd" else "'" if part in APOSTROPHES else part
            kept.append(" " if part.isspace() else alike)
            origins.append(place)
    return "".join(kept), [*origins, len(text)]


def _whole(name: str) -> str:
    before, behind = ("" if UNSPACED.match(edge) else r"\w" for edge in (name[0], name[-1]))
    return (f"(?<!{before})" if before else "") + re.escape(name) + (f"(?!{behind})" if behind else "")


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
