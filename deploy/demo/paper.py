"""Pages and shapes as files: PDFs with a text layer, scans, photos, drawings.

The same generator gives the same bytes with the locked versions of PyMuPDF and Pillow.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from deploy.demo.pages import (
    ASCENT,
    FONT_FILE,
    SIDE,
    Page,
    draw_page,
    draw_shape,
    make_page,
    make_shape,
    worn,
)

if TYPE_CHECKING:
    import random

    from PIL import Image

POINTS = 576
"""Page size of the PDFs, a square of 8 inches: three points to a model pixel."""
PASSWORD = "demo"
_ORIENTATION_TAG = 0x0112
_TURNS = {3: 180, 6: 90, 8: 270}
"""EXIF orientation -> degrees anticlockwise that the stored picture lies from upright."""

Made = tuple[bytes, dict[str, Any]]
"""A file's bytes and its entry in truth.json."""


def digital_pdf(rng: random.Random, *kinds: str, password: str = "") -> Made:
    """A PDF of which every page has its text layer; with a password it opens with that alone."""
    import pymupdf

    pages = [make_page(rng, kind, white=True) for kind in kinds]
    scale = POINTS / SIDE
    document = pymupdf.open()
    font = pymupdf.Font(fontfile=str(FONT_FILE))
    for page in pages:
        sheet = document.new_page(width=POINTS, height=POINTS)
        writer = pymupdf.TextWriter(sheet.rect)
        for line in page.lines:
            # A PDF places the baseline, a Page the top of the line.
            at = (line.x * scale, (line.y + ASCENT * page.size) * scale)
            writer.append(at, line.text, font=font, fontsize=page.size * scale)
        writer.write_text(sheet, color=tuple(value / 255 for value in page.ink))
    document.subset_fonts()
    return _saved(document, pages[0].caption, password), _entry("pdf", pages, text_layer=True)


def scanned_pdf(rng: random.Random, *kinds: str, rotated: bool = False) -> Made:
    """A PDF of which every page is one JPEG, as a scanner makes it; rotated, the sheets went in
    sideways and the PDF says so."""
    import pymupdf

    pages = [make_page(rng, kind) for kind in kinds]
    document = pymupdf.open()
    for page in pages:
        picture = worn(draw_page(page), rng)
        sheet = document.new_page(width=POINTS, height=POINTS)
        sheet.insert_image(sheet.rect, stream=_encoded(picture.rotate(90) if rotated else picture, "JPEG"))
        if rotated:
            sheet.set_rotation(90)
    return _saved(document, "scan"), _entry("pdf", pages, text_layer=False)


def fax(rng: random.Random, *kinds: str) -> Made:
    """A TIFF of several frames, in grey, as a fax server makes it."""
    pages = [make_page(rng, kind) for kind in kinds]
    first, *others = [draw_page(page).convert("L") for page in pages]
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=others, compression="tiff_adobe_deflate")
    return buffer.getvalue(), _entry("image", pages)


def photo(rng: random.Random, kind: str, format_: str, orientation: int = 1) -> Made:
    """A picture of a page. With another EXIF orientation than 1 it is stored lying, as phones do."""
    page = make_page(rng, kind)
    picture = worn(draw_page(page), rng)
    if orientation != 1:
        picture = picture.rotate(_TURNS[orientation], expand=True)
    return _encoded(picture, format_, orientation), _entry("image", [page], orientation=orientation)


def drawing(rng: random.Random, name: str, colour: str, format_: str = "PNG") -> Made:
    """A picture of a coloured shape."""
    shape = make_shape(rng, name, colour)
    return _encoded(draw_shape(shape), format_), {"media": "image", "pages": [shape.truth()]}


def truncated_pdf(rng: random.Random) -> Made:
    """The first bytes of a PDF: too few for a parser to repair, which opens it and finds no page."""
    data, _ = digital_pdf(rng, "invoice")
    return data[:200], {"media": "broken", "category": "corrupt"}


def _saved(document: Any, title: str, password: str = "") -> bytes:
    """The document's bytes, without the dates and ids that would differ from run to run: but for an
    encrypted one, whose keys are made of its id and of chance."""
    import pymupdf

    document.set_metadata({"title": title, "producer": "gemstream demo"})
    options: dict[str, Any] = {"no_new_id": True}
    if password:
        options = {"encryption": pymupdf.PDF_ENCRYPT_AES_256, "user_pw": password, "owner_pw": password}
    data: bytes = document.tobytes(garbage=4, deflate=True, **options)
    document.close()
    return data


def _encoded(picture: Image.Image, format_: str, orientation: int = 1) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {} if format_ == "PNG" else {"quality": 90}
    if orientation != 1:
        exif = picture.getexif()
        exif[_ORIENTATION_TAG] = orientation
        options["exif"] = exif
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def _entry(media: str, pages: list[Page], **facts: Any) -> dict[str, Any]:
    return {"media": media, **facts, "pages": [page.truth() for page in pages]}
