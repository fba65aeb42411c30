"""Whether a page's text layer says what the page shows."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def font_heights(page: Any) -> Iterator[tuple[float, int]]:
    """Of a page of PyMuPDF's: font size in points, and how many characters stand in it."""
    import pymupdf

    for block in page.get_text("dict", flags=pymupdf.TEXTFLAGS_TEXT)["blocks"]:
        for line in block.get("lines", ()):
            for span in line["spans"]:
                yield float(span["size"]), len(span["text"].replace(" ", ""))
