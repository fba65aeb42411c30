"""Documents that a parser does not survive: it reads for ever, or needs more memory than it may have.

Made on the spot: nothing in them depends on a parser's defect that its next version may not have.
"""

from __future__ import annotations

import struct
import zlib

BLANKS, TIMES = 1 << 20, 100_000
"""A page's content: 100 GB of blanks, which are read one by one and held nowhere."""
SIDE = 10_000
"""Pixels each way: 300 MB once unpacked, within `limits.pixels`."""


def endless_pdf(word: str) -> bytes:
    """Two pages: one that is never done being read, and one that says a word."""
    # A piece that ends where bytes end can be repeated; what repeats packs well once more.
    packer = zlib.compressobj(9)
    start = packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH)
    piece = packer.compress(b" " * BLANKS) + packer.flush(zlib.Z_FULL_FLUSH)
    endless = zlib.compress(start + piece * TIMES, 1)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 /MediaBox [0 0 200 200] >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 5 0 R >>",
        b"<< /Type /Page /Parent 2 0 R /Resources << /Font << /H 7 0 R >> >> /Contents 6 0 R >>",
        _stream(b"/Filter [/FlateDecode /FlateDecode]", endless),
        _stream(b"", b"BT /H 12 Tf 20 60 Td (" + word.encode() + b") Tj ET"),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, places = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start_of_table, size = len(body), len(objects) + 1
    body += b"xref\n0 %d\n0000000000 65535 f \n" % size
    body += b"".join(b"%010d 00000 n \n" % place for place in places)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, start_of_table)
    return bytes(body)


def bloated_png() -> bytes:
    """A black square, so well packed that it is small and its pixels are not."""
    row = bytes(1 + 3 * SIDE)
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(row) for _ in range(SIDE)) + packer.flush()
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _stream(facts: bytes, content: bytes) -> bytes:
    return b"<< %b /Length %d >>\nstream\n%b\nendstream" % (facts, len(content), content)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
