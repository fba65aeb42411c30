"""Whether a page's text layer says what the page shows."""

from __future__ import annotations

import unicodedata

FEWEST_CHARACTERS = 40
"""Less is a page number or a stamp on a picture of the page, more often than all there is to read."""
MOST_PICTURED = 0.3
"""Share of the page under pictures: what stands in them is in no text layer, or in a scanner's guess."""
MOST_ODD = 0.02
"""Share of characters without meaning: fonts that map their glyphs to nothing known."""


def is_trustworthy(text: str, pictured: float) -> bool:
    """Judge a page by its text and by the share of it that lies under pictures.

    A page that is doubtful is drawn, which costs tokens and no truth.
    """
    letters = [character for character in text if not character.isspace()]
    if len(letters) < FEWEST_CHARACTERS or pictured > MOST_PICTURED:
        return False
    return sum(map(_is_odd, letters)) <= MOST_ODD * len(letters)


def _is_odd(character: str) -> bool:
    """Replacement, control, private use, unassigned: no reader would know it."""
    return character == "\ufffd" or unicodedata.category(character) in {"Cc", "Co", "Cn", "Cs"}
