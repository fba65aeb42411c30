"""Whether a page's text layer says what the page shows."""

from __future__ import annotations

import unicodedata

from schemas.ids import digest

FEWEST = 16
"""Letters and digits that a page's text needs: a scan with a stamp or a page number has fewer."""
MOST_PICTURED = 0.3
"""Share of the page under pictures: what stands in them is in no text layer, or in a scanner's guess."""
MOST_CHARACTERS = 100_000
"""Nobody reads that many on one page, by eye least of all; the text that hides there would take seconds to be
held against an answer (10 microseconds a character, of the worst Markdown that was found)."""
MOST_STRAY = 0.02
"""Share of characters without meaning: fonts that map their glyphs to nothing known."""


def is_trustworthy(text: str, pictured: float) -> bool:
    """Judge a page by its text and by the share of it that lies under pictures.

    A page that is doubtful is drawn, which costs tokens and no truth.
    """
    if len(text) > MOST_CHARACTERS:
        return False
    shown = [character for character in text if not character.isspace()]
    if sum(map(str.isalnum, shown)) < FEWEST or pictured > MOST_PICTURED:
        return False
    return sum(map(_is_stray, shown)) <= MOST_STRAY * len(shown)


def is_checked(document: str, index: int, share: float) -> bool:
    """Whether a page that is shown as text is read by eye as well: the lot falls alike in every run.

    Args:
        document: its id and version.
        index: the page's.
        share: how many of all pages are.
    """
    return int(digest("checked", document, str(index))[:8], 16) < share * 2**32


def _is_stray(character: str) -> bool:
    """Replacement, control, private use, unassigned: no reader would know it."""
    return character == "\N{REPLACEMENT CHARACTER}" or unicodedata.category(character)[0] == "C"
