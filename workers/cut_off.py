"""Pictures that were cut off, scans too: half of one is not shown; one that lacks but its end marker is."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from schemas.errors import CorruptDocument
from workers.page_content import pictured, share_of_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from PIL.Image import Image

CUT_SHARE = 0.05
"""Of a scan, from which on it is not shown without the rest. Less of one grey a whole picture may have."""
FILLED = {127, 128}
"""What libjpeg makes of blocks that are missing, in any colour space."""
SIGNATURE_BYTES = 8
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a pixel, by the header's colour type."""
STEP_BYTES = 1 << 20
"""Inflated at once: a chunk of some kilobytes may hold gigabytes."""


def load(image: Image) -> None:
    """Decode all of it.

    Raises:
        OSError: Pillow says that it was cut off. Of a JPEG it also says so where but the marker behind the
            picture is missing, which some cameras and scanners do not write: then all is there.
        CorruptDocument: a PNG has fewer rows than it says. Pillow leaves the others empty, without a word.
    """
    try:
        image.load()
    except OSError as error:
        cut = image.format in ("JPEG", "MPO") and "truncated" in str(error)
        # One whose blocks come in several rounds has all of them after the first, coarse as they are.
        if not cut or "progressive" in image.info:
            raise
        _load_as_if_ended(image)
        if FILLED.issuperset(_end_of(image).tobytes()):
            raise
    if image.format == "PNG" and not any(_end_of(image, image.width).tobytes()):
        _refuse_missing_rows(image)


def share_cut_off(page: Any, picture: Any, complaints: list[str]) -> float:
    """Share of a page that its pictures lack. MuPDF draws grey what a JPEG lacks, and as zeros what others
    lack, which are black or white. Neither an end marker nor a few bytes too few are worth a word."""
    lost = 0.0
    if "premature end of file in jpeg" in complaints:
        # Beside a small picture the page itself may be of that grey.
        lost = min(pictured(page), picture.samples.count(0x80) / len(picture.samples))
    if "padding truncated image" in complaints:
        for info in page.get_image_info(xrefs=True):
            lacks = _lacking(page.parent, info) if info["xref"] else 0.0
            lost = max(lost, lacks * share_of_page(page, info["bbox"]))
    return lost


def _lacking(document: Any, info: dict[str, Any]) -> float:
    """Share of a picture that MuPDF has padded."""
    filters = document.xref_get_key(info["xref"], "Filter")[1]
    if "JPX" in filters:
        return 0.0
    there = len(document.xref_stream(info["xref"]) or b"")
    if "DCT" in filters:
        # What is there of a JPEG, libjpeg makes whole. One that it gives up on comes out black, or white.
        return 0.0 if there else 1.0
    row = math.ceil(info["width"] * max(1, info["bpc"]) * max(1, info["colorspace"]) / 8)
    return max(0.0, 1 - float(there / (row * info["height"])))


def _load_as_if_ended(image: Image) -> None:
    from PIL import ImageFile

    usual = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = usual


def _end_of(image: Image, width: int = 2) -> Image:
    """Of its last row, so many pixels: two are in its last block, even where it is drafted at an eighth."""
    return image.crop((max(0, image.width - width), image.height - 1, image.width, image.height))


def _refuse_missing_rows(image: Image) -> None:
    """Its last row is empty: it is inflated once more, to count them. Of an interlaced one nobody can say."""
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
