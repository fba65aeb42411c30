"""PDFs: each page's own text, and the page drawn at the size the model sees, as JPEG."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from schemas.errors import CorruptDocument, EncryptedDocument, GemstreamError, LimitExceeded, NoText
from schemas.rows import Pages, PartKind, Upright
from workers.cut_off import CUT_SHARE, share_cut_off
from workers.expand import ExpandOptions, Opened, Part
from workers.guard import REFUSED_MEMORY
from workers.page_content import is_sound, pictured
from workers.page_tree import hold_all, pages_in_tree
from workers.stream_ends import complaints
from workers.text_layer import FEWEST, is_checked, is_trustworthy, spans_of
from workers.tiles import in_tiles, is_small, looks_dense, tiles_of
from workers.turned import upright_turn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemas.limits import Limits
    from workers.text_layer import Span

LONGEST_PAGE = 1e7
"""Points; 3.5 km. Real plans end at 14,400 (PDF's own limit), fuzzed ones at 2^31."""


class PdfExpander:
    """Opens with PyMuPDF."""

    media_types: ClassVar[tuple[str, ...]] = ("application/pdf",)
    part_kind: ClassVar[PartKind] = PartKind.PAGE
    # Opening again costs an encrypted file 0.15 s, a damaged one a walk through all of it.
    chunk: ClassVar[int] = 16
    libraries: ClassVar[tuple[str, ...]] = ("pymupdf", "simplejpeg", "numpy")

    def open(self, path: Path, scratch: Path, options: ExpandOptions, limits: Limits) -> Opened:
        """Unlock it and count its pages.

        Raises:
            CorruptDocument: not readable, or readable but without a page, which MuPDF says nothing about.
            EncryptedDocument: no password of the job opens it.
            LimitExceeded: more pages than `limits.pages`.
        """
        with _document(path) as document:
            password = _unlock(document, options)
            said = _page_count(document)
            pages = max(said, pages_in_tree(document, limits.pages)) if said > 0 else said
            if pages <= 0:
                raise CorruptDocument("it opens, but no page of it can be found")
            if pages > limits.pages:
                raise LimitExceeded(
                    f"{pages:,} pages: more than limits.pages = {limits.pages:,}; raise it to try again",
                    limit="limits.pages",
                )
            notes = ["the file is damaged and was repaired"] if document.is_repaired else []
            notes += [f"it says that it has {said:,} pages, and has {pages:,}"] if pages > said else []
            return Opened(
                parts_total=pages,
                plan={"password": password, "pages": pages if pages > said else None},
                metadata=_metadata(document),
                warnings=tuple(notes),
            )

    def parts(
        self,
        path: Path,
        scratch: Path,
        opened: Opened,
        start: int,
        stop: int,
        options: ExpandOptions,
        limits: Limits,
    ) -> list[Part]:
        """Read and draw pages `start` to `stop`. Sizes are in points, of the page as it is shown."""
        with _document(path) as document:
            if opened.plan["password"] is not None:
                document.authenticate(opened.plan["password"])
            if opened.plan["pages"] is not None:
                hold_all(document, opened.plan["pages"])
            return [_part(document, index, options, limits) for index in range(start, stop)]


@contextmanager
def _document(path: Path) -> Iterator[Any]:
    import pymupdf

    # MuPDF writes its complaints to stderr otherwise, thousands of lines for one broken file.
    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    complaints()
    try:
        # Named, and checked below: MuPDF opens a JPEG or a web page called .pdf all the same.
        document = pymupdf.open(path, filetype="pdf")
    except pymupdf.FileDataError as error:
        words = (complaints() or ["no objects were found"])[-1]
        raise CorruptDocument(f"MuPDF cannot read it: {words}") from error
    try:
        if not document.is_pdf:
            raise CorruptDocument("it is no PDF, whatever it begins with")
        yield document
    finally:
        document.close()
        # Its cache of decoded images outlives the document: up to 256 MB that nobody asks for again.
        pymupdf.TOOLS.store_shrink(100)


def _said(error: Exception) -> str:
    """MuPDF's words without its error number."""
    return re.sub(r"^code=\d+: ", "", str(error))


def _metadata(document: Any) -> dict[str, str]:
    return {key: _clean(str(value)) for key, value in (document.metadata or {}).items() if value}


def _page_count(document: Any) -> int:
    import pymupdf

    try:
        return int(document.page_count)
    except (pymupdf.mupdf.FzErrorBase, RuntimeError) as error:
        raise CorruptDocument(f"its pages cannot be counted: {_said(error)}") from error


def _unlock(document: Any, options: ExpandOptions) -> str | None:
    if not document.needs_pass:
        return None
    for password in options.passwords:
        if document.authenticate(password.get_secret_value()):
            return password.get_secret_value()
    tried = len(options.passwords)
    raise EncryptedDocument(
        f"it needs a password, and none of the {tried} in expand.passwords opens it"
        if tried
        else "it needs a password; add it to expand.passwords"
    )


def _part(document: Any, index: int, options: ExpandOptions, limits: Limits) -> Part:
    import pymupdf

    complaints()
    part, loud = _page(document, index, options, limits)
    if loud or part.error is not None:
        # Fonts and pictures that MuPDF holds it takes for the next page, and says no more of what they lack.
        pymupdf.TOOLS.store_shrink(100)
    return part


def _page(document: Any, index: int, options: ExpandOptions, limits: Limits) -> tuple[Part, bool]:
    """A page, and whether MuPDF complained of it."""
    import pymupdf

    try:
        page = document.load_page(index)
        _refuse_nothing(document, page)
        width, height = float(page.rect.width), float(page.rect.height)
        layer = page.get_textpage(flags=pymupdf.TEXTFLAGS_TEXT)
        text = _clean(page.get_text(textpage=layer)).strip("\n ")
        said = _heard()
        # What is wrong with a page that carries none, its drawing says.
        sound = not text or is_sound(page, said)
        trusted = _trusted(page, text, options) if sound else False
        as_text = _as_text(page, text, bool(trusted), options)
        drawn = Drawn() if as_text else _drawn(page, text, spans_of(layer), options, limits)
        checked = _checked(page, text, spans_of(layer), options, limits) if as_text and trusted else None
    except GemstreamError as error:
        return Part(index, error=error), True
    except pymupdf.mupdf.FzErrorSystem as error:
        # MuPDF's word for an allocation that was refused.
        raise MemoryError(str(error)) from error
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        return Part(index, error=CorruptDocument(f"page {index + 1} cannot be drawn: {_said(error)}")), True
    if drawn.turn % 180:
        width, height = height, width
    part = Part(
        index,
        drawn.content,
        width=round(width),
        height=round(height),
        rotation=(int(page.rotation) + drawn.turn) % 360,
        tiles=drawn.tiles or None,
        text=text or None,
        trusted=trusted,
        checked=checked,
    )
    return part, bool(said or drawn.loud or complaints())


def _trusted(page: Any, text: str, options: ExpandOptions) -> bool | None:
    """Whether the page's text says what it shows; None where nobody asks.

    Its cost, of 64 pages of real files: 1.5 ms in the median, beside 14 to read and draw one.
    """
    import pymupdf

    asked = options.pages is Pages.AUTO or (options.pages is Pages.IMAGE and options.checked_share > 0)
    if not (asked and text):
        return None
    try:
        return is_trustworthy(text, pictured(page))
    except pymupdf.mupdf.FzErrorSystem:
        raise
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        # Its pictures cannot be counted; whether it can be drawn is for the drawing to say.
        return False


def _checked(page: Any, text: str, spans: list[Span], options: ExpandOptions, limits: Limits) -> bytes | None:
    """A page that is shown as text as it looks, if it is drawn to be read by eye; empty if it cannot be."""
    import pymupdf

    if not is_checked(options.document, page.number, options.checked_share):
        return None
    try:
        return _drawn(page, text, spans, options.model_copy(update={"tiling": None}), limits).content
    except (GemstreamError, MemoryError, pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        return b""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A page as JPEG, in how many tiles, turned so far beyond its rotation; and whether MuPDF complained."""

    content: bytes = b""
    tiles: int = 0
    turn: int = 0
    loud: bool = False


def _drawn(page: Any, text: str, spans: list[Span], options: ExpandOptions, limits: Limits) -> Drawn:
    size = float(page.rect.width), float(page.rect.height)
    scale = _scale(*size, options, limits)
    picture = _pixmap(page, scale)
    side = in_tiles(size, lambda: _is_dense(text, spans, picture, scale), options, limits)
    if side:
        picture = _pixmap(page, side / max(size))
    loud = _refuse_lost_content(page, picture, text)
    by_text = options.upright is not Upright.METADATA
    turn = upright_turn(spans, int(page.rotation)) if by_text else 0
    return Drawn(
        content=_jpeg(picture, turn, options),
        tiles=tiles_of(picture.width, picture.height) if side else 0,
        turn=turn,
        loud=loud,
    )


def _pixmap(page: Any, scale: float) -> Any:
    import pymupdf

    return page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csRGB, alpha=False)


def _is_dense(text: str, spans: list[Span], picture: Any, scale: float) -> bool:
    """By its fonts; of a page without a text layer, by what it looks like."""
    if sum(map(str.isalnum, text)) >= FEWEST:
        return is_small(((span.height, span.characters) for span in spans), scale)
    import numpy as np

    pixels = np.frombuffer(picture.samples_mv, np.uint8).reshape(picture.height, picture.stride)
    # Green is most of what the eye calls brightness, and is there already.
    return looks_dense(pixels[:, 1 : 3 * picture.width : 3])


def _as_text(page: Any, text: str, trusted: bool, options: ExpandOptions) -> bool:
    """Whether a page is shown by its text layer.

    Raises:
        NoText, LimitExceeded: it has to be, and has none, or too much of it for the model's context.
    """
    if options.pages is Pages.IMAGE:
        return False
    if options.pages is Pages.AUTO:
        return len(text) <= options.text_characters and trusted
    if not text:
        raise NoText(f"page {page.number + 1} has no text layer; set expand.pages to auto or image")
    if len(text) > options.text_characters:
        raise LimitExceeded(
            f"page {page.number + 1} has {len(text):,} characters, and {options.text_characters:,} fit the "
            "model's context beside an answer; raise engine.max_model_len, or set expand.pages to auto"
        )
    return True


def _refuse_nothing(document: Any, page: Any) -> None:
    """Of a page that is listed and not there, as in a file that was cut off, MuPDF makes a white one."""
    place = int(page.xref)
    if place and (place >= document.xref_length() or not document.xref_object(place).startswith("<<")):
        raise CorruptDocument(f"page {page.number + 1} is listed, and not in the file: it was cut off")


def _heard() -> list[str]:
    """What MuPDF has muttered about this page so far."""
    said = complaints(keep=True)
    if REFUSED_MEMORY.search("\n".join(said)):
        # What found no memory is left out, be it a page's content or a picture.
        raise MemoryError("MuPDF left out what it had no memory for")
    return said


def _refuse_lost_content(page: Any, picture: Any, text: str) -> bool:
    """A page whose content stream is damaged comes out white, and MuPDF only mutters about it.

    A model asked to read a white page makes something up. White under text, and no picture, may be all there
    is: text that nobody is to see. Returns whether MuPDF muttered anything.
    """
    said = _heard()
    if not said or not page.get_contents():
        return bool(said)
    # A picture that cannot be decoded is none of those that MuPDF says it has drawn.
    lost = not text or len(page.get_images()) > len(page.get_image_info())
    if lost and picture.samples.count(0xFF) == len(picture.samples):
        raise CorruptDocument(f"page {page.number + 1} comes out blank: {said[-1]}")
    if not text:
        is_sound(page, said)
    if (lacks := share_cut_off(page, picture, said)) >= CUT_SHARE:
        raise CorruptDocument(f"page {page.number + 1} is a scan of which some {lacks:.0%} is cut off")
    return True


def _jpeg(picture: Any, turn: int, options: ExpandOptions) -> bytes:
    """Turned clockwise. libjpeg-turbo straight from MuPDF's pixels: 1.4 ms a page at 896 pixels, 2.0 through
    Pillow, which copies them twice, and 42 by MuPDF's own writer."""
    import numpy as np
    import simplejpeg

    rows = np.frombuffer(picture.samples_mv, np.uint8).reshape(picture.height, picture.stride)
    pixels = rows[:, : 3 * picture.width].reshape(picture.height, picture.width, 3)
    pixels = np.ascontiguousarray(np.rot90(pixels, -turn // 90))
    body: bytes = simplejpeg.encode_jpeg(
        pixels, quality=options.jpeg_quality, colorspace="RGB", colorsubsampling="420", fastdct=False
    )
    return body


def _scale(width: float, height: float, options: ExpandOptions, limits: Limits) -> float:
    """Pixels per point that make the longest side what the model sees."""
    longest = max(width, height)
    if not (math.isfinite(longest) and min(width, height) > 0 and longest <= LONGEST_PAGE):
        raise CorruptDocument(f"a page of {width:g} x {height:g} points cannot be drawn")
    scale = options.image_size / longest
    if width * height * scale * scale > limits.pixels:
        raise LimitExceeded(
            f"at expand.image_size = {options.image_size} it exceeds limits.pixels = {limits.pixels:,}",
            limit="limits.pixels",
        )
    return scale


def _clean(text: str) -> str:
    """What Parquet and JSON take: fonts of fuzzed files map to halves of surrogate pairs and to zero."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")
