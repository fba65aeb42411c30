"""Whether a page's text layer says what the page shows."""

from __future__ import annotations

import unicodedata

FEWEST = 16
"""Letters and digits that a page's text needs: a scan with a stamp or a page number has fewer."""
MOST_PICTURED = 0.3
"""Share of the page under pictures: what stands in them is in no text layer, or in a scanner's guess."""
MOST_STRAY = 0.02
"""Share of characters without meaning: fonts that map their glyphs to nothing known."""


def is_trustworthy(text: str, pictured: float) -> bool:
    """Judge a page by its text and by the share of it that lies under pictures.

    A page that is doubtful is drawn, which costs tokens and no truth.
    """
    shown = [character for character in text if not character.isspace()]
    if sum(map(str.isalnum, shown)) < FEWEST or pictured > MOST_PICTURED:
        return False
    return sum(map(_is_stray, shown)) <= MOST_STRAY * len(shown)


def _is_stray(character: str) -> bool:
    """Replacement, control, private use, unassigned: no reader would know it."""
    return character == "\N{REPLACEMENT CHARACTER}" or unicodedata.category(character)[0] == "C"
