"""PNGs that hold fewer rows than they say. Pillow leaves the others empty, without a word."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from schemas.errors import CorruptDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from PIL.Image import Image

SIGNATURE_BYTES = 8
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a pixel, by the header's colour type."""
STEP_BYTES = 1 << 20
"""Inflated at once: a chunk of some kilobytes may hold gigabytes."""


def refuse_missing_rows(image: Image) -> None:
    """Of a picture that is loaded. Where its last row is not empty, all are there; else they are counted, for
    which it is inflated once more. Of an interlaced one nobody can say.

    Raises:
        CorruptDocument: rows are missing.
    """
    if any(image.crop((0, image.height - 1, image.width, image.height)).tobytes()):
        return
    with Path(image.filename).open("rb") as file:  # type: ignore[attr-defined]
        chunks = _chunks(file)
        _, header = next(chunks)
        bits, colour, interlaced = header[8], header[9], header[12]
        if interlaced:
            return
        # A byte before each row says how it was written.
        row = 1 + (image.width * bits * SAMPLES[colour] + 7) // 8
        rows = _inflated(data for name, data in chunks if name == b"IDAT") // row
    if rows < image.height:
        raise CorruptDocument(f"it says that it has {image.height:,} rows, and has {rows:,}")


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    file.seek(SIGNATURE_BYTES)
    while len(head := file.read(8)) == 8:
        yield head[4:], file.read(int.from_bytes(head[:4], "big"))
        file.read(4)


def _inflated(pieces: Iterable[bytes]) -> int:
    """Bytes that are in them."""
    stream, size = zlib.decompressobj(), 0
    for piece in pieces:
        left = piece
        while left and not stream.eof:
            size += len(stream.decompress(left, STEP_BYTES))
            left = stream.unconsumed_tail
    return size
