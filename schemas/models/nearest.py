"""The models that somebody may have meant who named one that is not there."""

from __future__ import annotations

import re
from difflib import get_close_matches

from schemas.models.cards import CARDS, MODELS, Card

SIZED = re.compile(r"(?P<stem>.+)-e?(?P<number>\d+(?:\.\d+)?)(?P<unit>[bm])(?![a-z0-9])")


def nearest(source: str) -> list[str]:
    """Ids that exist and run: of the family that the name is of, the sizes next to the one it asks for;
    where it names no family, the ids spelled most like it. None if nothing is like it."""
    stem, billions = _parsed(source)
    family = [card for card in CARDS if card.pool and _parsed(_bf16(card))[0] == stem]
    if family:
        below = max((card.billions for card in family if card.billions <= billions), default=None)
        above = min((card.billions for card in family if card.billions >= billions), default=None)
        return [_bf16(card) for card in family if card.billions in (below, above)]
    spelled = {known.lower(): known for known in MODELS}
    return [spelled[name] for name in get_close_matches(source.lower(), spelled, 2)]


def _bf16(card: Card) -> str:
    return card.weights["bf16"] or ""


def _parsed(source: str) -> tuple[str, float]:
    """What an id's name says before its size, and the size in billions: gemma-3-8b-it is gemma-3 and 8."""
    found = SIZED.match(source.lower().rpartition("/")[2])
    if not found:
        return "", 0.0
    return found["stem"], float(found["number"]) / (1000 if found["unit"] == "m" else 1)
