"""Streams of a PDF that end early: how much of one is there."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

ENDED = re.compile(r"premature end|treating as end of file|zlib error: (?!incorrect data check)")
"""How MuPDF says that a stream ends early: a page's content, a font, a picture. It says no more of one that
lacks but its checksum than of one that lacks half."""
CLOSED = re.compile(rb"(?:^|[\s\])>])(?:ET|Q|EMC)\s*\Z")
"""An end at which nothing was begun: all may be there. So end 24 of 4,160 cuts anywhere in the content of
real pages, and most that cost but the last 5 bytes, of which 4 are the checksum."""
SYNCED = b"\x00\x00\xff\xff"
"""The end of deflated data whose writer flushed it and never finished."""
CHECKSUM_BYTES = 4
STEP_BYTES = 1 << 14
"""Inflated at once, to 16 MB at most."""
WHITE = b"\0\t\n\f\r "
MOST_SLOW_BYTES = 1 << 20
"""Of what base64 undoes, at 5 MB a second."""
MOST_PACKED_BYTES = 1 << 18
"""Of what only MuPDF decodes, all at once: LZW grows to 2,500 times its size."""
REFERENCE = re.compile(r"\b(\d+) \d+ R\b")
MOST_WRITTEN = 1000


def complaints(*, keep: bool = False) -> list[str]:
    """What MuPDF has muttered since it was last asked, for the next to ask again if it is to be kept."""
    import pymupdf

    return str(pymupdf.TOOLS.mupdf_warnings(reset=not keep)).strip().splitlines()


class End(Enum):
    """How much there is of a stream that ends early."""

    WHOLE = auto()
    PERHAPS = auto()
    CUT = auto()


@dataclass(frozen=True, slots=True)
class Stream:
    """`end` is None if it does not end early, or is empty. At one that is `wrong` MuPDF stops reading."""

    content: bytes = b""
    end: End | None = None
    wrong: bool = False


UNKNOWN = Stream(end=End.PERHAPS)


def key_of(document: Any, xref: int, key: str) -> tuple[str, str]:
    """Its kind and value, which may be a reference; null of an object that is not there."""
    if not is_there(document, xref):
        return "null", "null"
    kind, value = document.xref_get_key(xref, key)
    return str(kind), str(value)


def _resolved(document: Any, xref: int, key: str) -> str:
    """Its value as text, without references: it may be one, or an array of some."""
    value = key_of(document, xref, key)[1]
    for _ in range(2):
        # No more of it: a reference may stand for thousands, and each of those for thousands more.
        value = REFERENCE.sub(lambda found: _written(document, int(found[1])), value[:MOST_WRITTEN])
    return value


def _written(document: Any, xref: int) -> str:
    return str(document.xref_object(xref))[:MOST_WRITTEN] if is_there(document, xref) else "null"


def is_there(document: Any, xref: int) -> bool:
    """Whether there can be an object of that number."""
    return bool(0 < xref < document.xref_length())


def read_stream(document: Any, xref: int, left: int) -> Stream:
    """A stream of which no more than `left` bytes are looked at."""
    if not is_there(document, xref):
        return Stream()
    length = _resolved(document, xref, "Length")
    if length.isdecimal() and int(length) > left:
        return UNKNOWN
    raw = document.xref_stream_raw(xref) or b""
    if len(raw) > left:
        return UNKNOWN
    filters = re.findall(r"/(\w+)", _resolved(document, xref, "Filter"))
    if not raw.strip(WHITE):
        # Of one blank it says that it ends early, and reads on.
        return Stream(wrong=len(raw) > 2 and not INFLATED.isdisjoint(filters[:1]))
    marked = True
    for number, name in enumerate(filters):
        if name in INFLATED:
            stream = _inflated(raw, left)
            if not (marked or stream.end):
                stream = Stream(stream.content, End.WHOLE)
            if number + 1 == len(filters) or stream.end is End.CUT:
                return stream
            return UNKNOWN
        if name == "Crypt" and document.xref_get_key(-1, "Encrypt")[0] == "null":
            continue
        if name not in UNDONE:
            return _decoded(document, xref, len(raw))
        if len(raw) > MOST_SLOW_BYTES:
            return UNKNOWN
        undo, marker = UNDONE[name]
        marked = marked and marker in raw
        try:
            raw = undo(raw)
        except ValueError:
            return UNKNOWN
    return Stream(raw, None if marked else End.PERHAPS)


def _decoded(document: Any, xref: int, size: int) -> Stream:
    """By MuPDF. That its end is missing nobody can say: it may lack but the marker of the end."""
    if size > MOST_PACKED_BYTES:
        return UNKNOWN
    complaints()
    content = document.xref_stream(xref) or b""
    return Stream(content, End.PERHAPS if ENDED.search("\n".join(complaints())) else None)


def _from_ascii85(data: bytes) -> bytes:
    text = data.partition(b"~")[0].translate(None, WHITE + b"\v")
    try:
        return base64.a85decode(text)
    except ValueError:
        # A group that was cut off may stand for more than four bytes.
        return base64.a85decode(text[: -(len(text) % 5) or None])


def _from_hex(data: bytes) -> bytes:
    text = data.partition(b">")[0].translate(None, WHITE)
    return binascii.unhexlify(text + b"0" * (len(text) % 2))


INFLATED = {"FlateDecode", "Fl"}
UNDONE = {
    "ASCII85Decode": (_from_ascii85, b"~"),
    "A85": (_from_ascii85, b"~"),
    "ASCIIHexDecode": (_from_hex, b">"),
    "AHx": (_from_hex, b">"),
}
"""How, and what marks its end."""


def _inflated(data: bytes, left: int) -> Stream:
    """What there is of deflated data, and whether that is all, whatever follows of its checksum."""
    if not data:
        return UNKNOWN
    method, flags = data[0], data[1] if len(data) > 1 else 0
    if method & 15 != 8 or method >> 4 > 7 or flags & 32 or (method << 8 | flags) % 31:
        # What MuPDF cannot inflate it does not show, nor what is behind it.
        return Stream(end=End.CUT)
    stream, pieces, behind = zlib.decompressobj(-zlib.MAX_WBITS), list[bytes](), 0
    for start in range(2, len(data), STEP_BYTES):
        step = data[start : start + STEP_BYTES]
        try:
            pieces.append(stream.decompress(step))
        except zlib.error:
            return Stream(end=End.CUT)
        left -= len(pieces[-1])
        if left < 0:
            return UNKNOWN
        if stream.eof:
            behind = len(data) - start - len(step) + len(stream.unused_data)
            break
    content = b"".join(pieces)
    if stream.eof:
        # A checksum that is there and wrong MuPDF does not take for an early end.
        return Stream(content, End.WHOLE if behind < CHECKSUM_BYTES else None)
    if data.rstrip(b"\r\n").endswith(SYNCED):
        return Stream(content, End.WHOLE)
    return Stream(content, End.PERHAPS if CLOSED.search(content.rstrip()[-8:]) else End.CUT)
