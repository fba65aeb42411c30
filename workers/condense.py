"""What the parts of a document say -> pieces that fit beside a question, and one answer over all of them.

More than fits is asked about piece by piece, and the answers stand in for the pieces, until what is left
fits. Nothing that was said of a part is left out: what is too long for a piece is divided over several. Only
an answer that stands in for a piece is cut, at a quarter of what fits, lest it never came to an end: so each
round asks a third of what the one before it asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from schemas.rows import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from workers.prompt import Part

    Outcome = dict[str, Any]

BETWEEN = "\n\n"
SUMMED = ("prompt_tokens", "cached_tokens", "output_tokens", "seconds", "queue_seconds", "generation_seconds")
"""Columns of an answer that count what was spent on it: all that was asked for its sake is in them."""


def packed(texts: list[str], room: int) -> list[str]:
    """Texts in order, put together as far as `room` characters go; one that is longer than a quarter of it is
    divided, at spaces where there are some."""
    pieces: list[str] = []
    for text in (part for said in texts for part in _divided(said.strip(), room // 4)):
        if pieces and len(pieces[-1]) + len(BETWEEN) + len(text) <= room:
            pieces[-1] += BETWEEN + text
        else:
            pieces.append(text)
    return pieces


async def condensed(part: Part, room: int, ask: Callable[[Part], Awaitable[Outcome]]) -> Outcome:
    """The answer to a question about all of a text.

    Args:
        part: with the text; its paragraphs are what the parts of a document say.
        room: characters of it that fit beside the question.
        ask: answers the question about a part whose text fits.

    Returns:
        The columns of the last answer, with all that was spent on the way to it; or of the first that failed.
    """
    import asyncio

    spent: list[Outcome] = []
    text = part.text or ""
    pieces = [text] if len(text) <= room else packed(text.split(BETWEEN), room)
    while len(pieces) > 1:
        named = [
            replace(part, text=piece, identity=f"{part.identity}/{len(spent) + place}")
            for place, piece in enumerate(pieces)
        ]
        outcomes = await asyncio.gather(*(ask(piece) for piece in named))
        failed = next((outcome for outcome in outcomes if outcome["status"] is not Status.RECORD), None)
        if failed is not None:
            return failed
        spent += outcomes
        heads = (_divided(outcome["text"], room // 4)[:1] for outcome in outcomes)
        pieces = packed([text for head in heads for text in head], room)
    outcome = await ask(replace(part, text=pieces[0] if pieces else ""))
    return outcome | summed([*spent, outcome])


def summed(outcomes: Iterable[Outcome]) -> Outcome:
    """What was spent on all of them, of what is known of any."""
    totals: Outcome = {}
    for outcome in outcomes:
        for name in SUMMED:
            if outcome.get(name) is not None:
                totals[name] = totals.get(name, 0) + outcome[name]
    return totals


def _divided(text: str, length: int) -> list[str]:
    """In order, of at most so many characters each; of no text nothing."""
    parts: list[str] = []
    while len(text) > length:
        # A space at the very front divides nothing.
        end = max(text.rfind(" ", 1, length + 1), 0) or length
        parts.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*parts, text] if text else parts
