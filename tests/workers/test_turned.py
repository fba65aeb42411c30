"""A page whose text lies on its side or its head is shown upright, and no other is turned."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image

from schemas.limits import Limits
from schemas.rows import Pages, Tiling, Upright
from workers.expand import ExpandOptions, Part
from workers.expand.pdf import PdfExpander

A5 = (420, 595)
PROSE = "The tenant pays the rent on the first day of each month, in advance and without deduction. "
RECEIPT = (160, 640)


def upright(size: tuple[int, int] = A5, text: str = PROSE * 5) -> pymupdf.Document:
    document = pymupdf.open()
    page = document.new_page(width=size[0], height=size[1])
    page.draw_rect((20, 20, 60, 40), fill=(0.8, 0, 0), color=None)
    page.insert_textbox((20, 60, size[0] - 20, size[1] - 20), text, fontsize=11)
    return document


def lying(source: pymupdf.Document, drawn: int, said: int = 0) -> pymupdf.Document:
    """The page with its content turned clockwise by `drawn` degrees, and then by its own entry by `said`."""
    width, height = source[0].rect.width, source[0].rect.height
    document = pymupdf.open()
    page = document.new_page(*(-1, height, width) if drawn % 180 else (-1, width, height))
    page.show_pdf_page(page.rect, source, 0, rotate=-drawn)
    page.set_rotation(said)
    return document


def part_of(tmp_path: Path, document: pymupdf.Document, **settings: object) -> Part:
    path, options, limits = tmp_path / "page.pdf", ExpandOptions.model_validate(settings), Limits()
    document.save(path)
    opened = PdfExpander().open(path, tmp_path, options, limits)
    (part,) = PdfExpander().parts(path, tmp_path, opened, 0, 1, options, limits)
    assert part.error is None
    return part


def seen(part: Part) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(part.content)).convert("RGB").resize((300, 400)), np.int16)


def alike(one: Part, other: Part) -> bool:
    return float(np.abs(seen(one) - seen(other)).mean()) < 4


@pytest.mark.parametrize("said", [0, 90, 180, 270])
@pytest.mark.parametrize("drawn", [0, 90, 180, 270])
def test_text_reads_upright_whatever_the_page_says(tmp_path: Path, drawn: int, said: int) -> None:
    expected = part_of(tmp_path, upright())
    part = part_of(tmp_path, lying(upright(), drawn, said))
    assert alike(part, expected)
    assert (part.width, part.height) == A5
    # What was turned in all: the content lies by `drawn`, and is put back by that.
    assert part.rotation == -drawn % 360
    assert (part.text or "").split() == (expected.text or "").split()


def test_the_comparison_tells_pages_apart(tmp_path: Path) -> None:
    expected = part_of(tmp_path, upright())
    for drawn in (90, 180, 270):
        assert not alike(part_of(tmp_path, lying(upright(), drawn), upright=Upright.METADATA), expected)


@pytest.mark.parametrize(("drawn", "said"), [(90, 0), (180, 0), (90, 270), (0, 90)])
def test_by_metadata_alone_a_page_is_shown_as_it_says(tmp_path: Path, drawn: int, said: int) -> None:
    part = part_of(tmp_path, lying(upright(), drawn, said), upright=Upright.METADATA)
    assert part.rotation == said
    assert ((part.width, part.height) == A5) is ((drawn + said) % 180 == 0)


def test_what_runs_several_ways_or_says_too_little_stays(tmp_path: Path) -> None:
    side = upright(text="")
    side[0].insert_text((200, 500), "Fig. 3", rotate=90)
    noted = upright()
    noted[0].insert_text((15, 500), "Draft of the 3rd of May, not to be passed on", rotate=90)
    halves = upright(text=PROSE)
    halves[0].insert_textbox((20, 300, 400, 580), PROSE, rotate=90)
    slanted = upright(text="")
    at = pymupdf.Point(50, 400)
    for row in range(5):
        slanted[0].insert_text(at + (0, 20 * row), PROSE[:30], morph=(at, pymupdf.Matrix(30)))
    for document in (side, noted, halves, slanted):
        assert part_of(tmp_path, document).rotation == 0


def vertical() -> pymupdf.Document:
    """Lines from top to bottom, in a font that writes that way by itself."""
    document = pymupdf.open()
    page = document.new_page(width=A5[0], height=A5[1])
    inner, font = document.get_new_xref(), document.get_new_xref()
    info = "/CIDSystemInfo<</Registry(Adobe)/Ordering(Japan1)/Supplement 2>>"
    descriptor = "/FontDescriptor<</Type/FontDescriptor/FontName/HeiseiMin-W3/Flags 4/FontBBox[0 0 1000 1000]"
    descriptor += "/ItalicAngle 0/Ascent 800/Descent -200/StemV 80>>"
    head = "/Subtype/CIDFontType0/BaseFont/HeiseiMin-W3"
    document.update_object(inner, f"<</Type/Font{head}{info}{descriptor}>>")
    document.update_object(
        font,
        "<</Type/Font/Subtype/Type0/BaseFont/HeiseiMin-W3/Encoding/UniJIS-UCS2-V"
        f"/DescendantFonts[{inner} 0 R]>>",
    )
    document.xref_set_key(page.xref, "Resources", f"<</Font<</F0 {font} 0 R>>>>")
    line = "すべての人間は生まれながらにして自由である".encode("utf-16-be").hex()
    contents = document.get_new_xref()
    document.update_object(contents, "<<>>")
    document.update_stream(contents, f"BT /F0 14 Tf 300 540 Td <{line}> Tj -30 0 Td <{line}> Tj ET".encode())
    document.xref_set_key(page.xref, "Contents", f"{contents} 0 R")
    return document


def test_lines_that_run_downwards_by_themselves_stay(tmp_path: Path) -> None:
    part = part_of(tmp_path, vertical())
    assert "人間は生まれながらにして" in "".join((part.text or "").split()), "its text is read"
    assert part.rotation == 0 and (part.width, part.height) == A5


def test_a_scan_that_lies_is_shown_as_it_lies(tmp_path: Path) -> None:
    """There is no text layer to go by, and a look at pixels turns what stands."""
    picture = upright()[0].get_pixmap(dpi=100).tobytes("png")
    with pymupdf.open() as document:
        page = document.new_page(width=A5[1], height=A5[0])
        page.insert_image(page.rect, stream=picture, rotate=90)
        assert part_of(tmp_path, document).rotation == 0
        page.set_rotation(90)
        part = part_of(tmp_path, document)
    assert part.rotation == 90 and alike(part, part_of(tmp_path, upright()))


def test_tiles_are_of_the_page_as_it_is_shown(tmp_path: Path) -> None:
    expected = part_of(tmp_path, upright(RECEIPT), tiling=Tiling.AUTO)
    part = part_of(tmp_path, lying(upright(RECEIPT), 90), tiling=Tiling.AUTO)
    assert part.tiles == expected.tiles == 4
    assert alike(part, expected) and part.rotation == 270


def test_a_page_shown_as_text_is_not_turned(tmp_path: Path) -> None:
    part = part_of(tmp_path, lying(upright(), 90, 90), pages=Pages.TEXT, text_characters=5_000)
    assert not part.content and part.rotation == 90


@pytest.mark.parametrize(
    ("name", "rotation", "size"),
    [
        ("pdfplumber__nics-background-checks-2015-11-rotated", 0, (1008, 612)),  # its entry lays it down
        ("tika__testPDF_rotated", 0, (595, 842)),
        ("pdfplumber__senate-expenditures", 90, None),  # its entry is right
        ("pdfminer.six__jo", 0, (792, 612)),  # Japanese, from top to bottom
        ("docling__right_to_left_02", 0, (595, 842)),  # Arabic
    ],
)
def test_real_pages_come_out_upright(
    corpus: Path, tmp_path: Path, name: str, rotation: int, size: tuple[int, int] | None
) -> None:
    with pymupdf.open(corpus / "pdf" / f"{name}.pdf") as document:
        document.select([0])
        part = part_of(tmp_path, document)
    assert part.rotation == rotation
    assert size is None or (part.width, part.height) == size
