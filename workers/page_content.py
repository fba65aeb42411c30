"""Whether MuPDF read all of a page's content, and how much of the page lies under pictures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from schemas.errors import CorruptDocument
from workers.stream_ends import ENDED, End, Stream, complaints, key_of, read_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

DOUBTFUL = re.compile(r"syntax error: (?!cannot find)|invalid character in|cannot load content stream part")
"""What it says of garbled content. Of the corpus' 133 pages with text it complains about 5: so about 3 of one
damaged file, whose words are garbled; of a fourth a checksum is wrong, of a fifth a font is not embedded. The
content of none ends early."""
GAVE_UP = "too many syntax errors; ignoring rest of page"
MOST_BYTES = 1 << 26
"""Of a page's content and forms, raw or decoded: beyond that nobody looks, and it is doubtful."""
MOST_DRAWN = 512
"""Pictures and forms of a page, looked up at up to 0.2 ms each."""
DRAWN = re.compile(rb"/([^\s\0/\[\]()<>{}%]{1,200})[\s\0]+Do(?![^\s\0/\[\]()<>{}%])")
MOST_PARENTS = 32


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
    ends: set[End] = set()
    for end in _ends(page):
        if end is End.CUT:
            raise CorruptDocument(f"{name} lacks the end of its content: it was cut off")
        ends.update([end] if end else [])
    # What they said of streams that were looked at here is nobody's news.
    complaints()
    # Else it is the end of something else, of a font's table of characters perhaps.
    return ends == {End.WHOLE} and not DOUBTFUL.search(words)


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


def _ends(page: Any) -> Iterator[End | None]:
    """Of its content, and of the forms that are drawn: what nobody draws nobody misses."""
    document, left, parts, stopped = page.parent, MOST_BYTES, [], False
    for xref in page.get_contents():
        stream = read_stream(document, xref, left)
        left -= len(stream.content)
        # Behind one that is wrong, be it blank, nothing is read.
        yield End.CUT if stopped and stream != Stream() else stream.end
        parts.append(stream.content)
        stopped = stopped or stream.wrong
    waiting = [(_holder(document, int(page.xref)), b"\n".join(parts))]
    looked, seen = 0, set()
    while waiting:
        holder, content = waiting.pop()
        for name in dict.fromkeys(DRAWN.findall(content)):
            looked += 1
            if looked > MOST_DRAWN:
                yield End.PERHAPS
                return
            try:
                form = _form(document, holder, name)
            except UnicodeDecodeError:  # PyMuPDF asks for no such name
                yield End.PERHAPS
                continue
            if not form or form in seen:
                continue
            seen.add(form)
            stream = read_stream(document, form, left)
            left -= len(stream.content)
            yield stream.end
            # One without resources of its own has those of what draws it.
            own = key_of(document, form, "Resources")[0] != "null"
            waiting.append((form if own else holder, stream.content))


def _holder(document: Any, page: int) -> int:
    """The page, or that one above it whose resources it inherits."""
    for _ in range(MOST_PARENTS):
        above = key_of(document, page, "Parent")
        if key_of(document, page, "Resources")[0] != "null" or above[0] != "xref":
            break
        page = int(above[1].split()[0])
    return page


def _form(document: Any, holder: int, name: bytes) -> int:
    """The number of the form of that name; 0 of a picture, or if there is none."""
    plain = re.sub(rb"#([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), name)
    key = "Resources/XObject/" + plain.decode()
    kind, value = key_of(document, holder, key)
    xref = int(value.split()[0]) if kind == "xref" else 0
    return xref if key_of(document, xref, "Subtype")[1] == "/Form" else 0
