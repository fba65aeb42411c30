"""Whether MuPDF read all of a page's content, and how much of the page lies under pictures."""

from __future__ import annotations

import re
import zlib
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from schemas.errors import CorruptDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED = re.compile(r"premature end|treating as end of file|zlib error: (?!incorrect data check)")
"""How MuPDF says that a stream ends early: a page's content, a font, a picture. It says no more of one that
lacks but its checksum than of one that lacks half."""
DOUBTFUL = re.compile(r"syntax error: (?!cannot find)|invalid character in|cannot load content stream part")
"""What it says of garbled content. Of the corpus' 133 pages with text it complains about 5: so about 3 of one
damaged file, whose words are garbled; of a fourth a checksum is wrong, of a fifth a font is not embedded. The
content of none ends early."""
GAVE_UP = "too many syntax errors; ignoring rest of page"
CLOSED = re.compile(rb"(?:^|[\s\])>])(?:ET|Q|EMC)\s*\Z")
"""An end at which nothing was begun: all may be there. So end 24 of 4,160 cuts anywhere in the content of
real pages, and most that cost but the last 5 bytes, of which 4 are the checksum."""
SYNCED = b"\x00\x00\xff\xff"
"""The end of deflated data whose writer flushed it and never finished."""
STEP_BYTES = 1 << 16
"""Inflated at once."""


def complaints(*, keep: bool = False) -> list[str]:
    """What MuPDF has muttered since it was last asked, for the next to ask again if it is to be kept."""
    import pymupdf

    return str(pymupdf.TOOLS.mupdf_warnings(reset=not keep)).strip().splitlines()


def is_sound(page: Any, said: list[str]) -> bool:
    """Whether the text of a page can be all of it, by what MuPDF said while it read the page.

    Raises:
        CorruptDocument: some of its content is lost for certain. MuPDF shows what comes before.
    """
    words, name = "\n".join(said), f"page {page.number + 1}"
    if GAVE_UP in words:
        raise CorruptDocument(f"{name} has too many errors to be read to its end: {said[0]}")
    if page.parent.is_repaired and "cannot load content stream part" in words:
        raise CorruptDocument(f"{name} lacks a part of its content: it was cut off")
    if not ENDED.search(words):
        return not DOUBTFUL.search(words)
    ends = {end for xref in _streams(page) if (end := _end(page.parent, xref))}
    if _End.CUT in ends:
        raise CorruptDocument(f"{name} lacks the end of its content: it was cut off")
    # Else it is the end of something else, of a font's table of characters perhaps.
    return ends == {_End.WHOLE} and not DOUBTFUL.search(words)


def pictured(page: Any) -> float:
    """Share of the page that lies under pictures, overlaps counted twice: 1 and more for a scan."""
    return sum(share_of_page(page, info["bbox"]) for info in page.get_image_info())


def share_of_page(page: Any, box: tuple[float, float, float, float]) -> float:
    """Share of the page that lies in a box of `get_image_info`, which knows nothing of the page's rotation.

    `page.rotation_matrix` would turn it, but forgets /UserUnit: half a page came out as a quarter.
    """
    import pymupdf

    shown = page.rect
    if page.rotation % 180:
        shown = pymupdf.Rect(0, 0, shown.height, shown.width)
    return float((shown & box).get_area() / (abs(shown.get_area()) or 1.0))


class _End(Enum):
    """How much there is of a stream that ends early."""

    WHOLE = auto()
    PERHAPS = auto()
    CUT = auto()


def _streams(page: Any) -> Iterator[int]:
    """Its content, and the forms that it may show."""
    yield from page.get_contents()
    yield from (form[0] for form in page.get_xobjects())


def _end(document: Any, xref: int) -> _End | None:
    """None of a stream that does not end early, or is empty."""
    raw = document.xref_stream_raw(xref)
    if not raw:
        return None
    complaints()
    content = document.xref_stream(xref) or b""
    said = "\n".join(complaints())
    if not ENDED.search(said):
        return None
    deflated = document.xref_get_key(xref, "Filter")[1].strip("[] ") == "/FlateDecode"
    # What MuPDF cannot inflate it does not show, whether or not others could.
    if deflated and "zlib error" not in said and _is_inflated(raw):
        return _End.WHOLE
    return _End.PERHAPS if CLOSED.search(content) else _End.CUT


def _is_inflated(raw: bytes) -> bool:
    """Whether deflated data is there to its end, whatever follows of its checksum."""
    stream, left = zlib.decompressobj(-zlib.MAX_WBITS), raw[2:]
    try:
        while left and not stream.eof:
            stream.decompress(left, STEP_BYTES)
            left = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof or raw.rstrip(b"\r\n").endswith(SYNCED)
