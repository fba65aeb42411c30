"""What is wrong with a page is found whatever pages were read before it: MuPDF keeps fonts and pictures."""

import zlib

import pymupdf
import pytest

from schemas.errors import CorruptDocument
from schemas.rows import Pages
from tests.workers.test_expand_pdf import expanded
from tests.workers.test_page_content import LINES, with_stream
from workers.expand import ExpandOptions

PAGES = 3


def parts(document, path, pages):
    document.save(path)
    return expanded(path, ExpandOptions(pages=pages, text_characters=9_999, checked_share=0.0))[1]


@pytest.mark.parametrize(("pages", "trusted"), [(Pages.AUTO, False), (Pages.TEXT, False)])
def test_a_font_that_is_damaged_is_so_on_each_page(tmp_path, pages, trusted):
    document = pymupdf.open()
    for _ in range(PAGES):
        page = document.new_page()
        page.insert_font(fontname="F0", fontbuffer=pymupdf.Font("helv").buffer)
        page.insert_text((72, 72), LINES, fontname="F0")
    maps = [
        int(document.xref_get_key(xref, "ToUnicode")[1].split()[0])
        for xref in range(1, document.xref_length())
        if document.xref_get_key(xref, "ToUnicode")[0] == "xref"
    ]
    for xref in set(maps):
        packed = zlib.compress(document.xref_stream(xref))
        with_stream(document, xref, packed[: len(packed) // 2])
    assert maps
    assert [part.trusted for part in parts(document, tmp_path / "a.pdf", pages)] == [trusted] * PAGES


def test_a_picture_that_comes_out_blank_does_so_on_each_page(tmp_path):
    document = pymupdf.open()
    picture = document.get_new_xref()
    document.update_object(
        picture,
        "<</Type/XObject/Subtype/Image/Width 850/Height 1100/BitsPerComponent 1/ColorSpace/DeviceGray"
        "/Decode[1 0]>>",
    )
    with_stream(document, picture, zlib.compress(bytes(107 * 1100))[:12])
    for _ in range(PAGES):
        page, content = document.new_page(), document.get_new_xref()
        document.update_object(content, "<<>>")
        document.update_stream(content, b"q 595 0 0 842 0 0 cm /Im0 Do Q")
        document.xref_set_key(page.xref, "Resources", f"<</XObject<</Im0 {picture} 0 R>>>>")
        document.xref_set_key(page.xref, "Contents", f"{content} 0 R")
    found = [part.error for part in parts(document, tmp_path / "a.pdf", Pages.IMAGE)]
    assert all(isinstance(error, CorruptDocument) and "comes out blank" in error.message for error in found)


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"\n\n"])
def test_a_stream_of_two_blanks_ends_no_page(tmp_path, blank):
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 72), LINES[:20])
    [before] = page.get_contents()
    between, after = document.get_new_xref(), document.get_new_xref()
    for xref in (between, after):
        document.update_object(xref, "<<>>")
    with_stream(document, between, blank)
    document.update_stream(after, b"BT /helv 11 Tf 72 700 Td (Behind the blank one.) Tj ET\n")
    document.xref_set_key(page.xref, "Contents", f"[{before} 0 R {between} 0 R {after} 0 R]")
    [part] = parts(document, tmp_path / "a.pdf", Pages.IMAGE)
    assert part.error is None and "Behind the blank one." in part.text


@pytest.mark.parametrize("name", [b"/Im\xe9", b"/Im#FF"])
def test_a_name_that_is_no_utf_8_spoils_no_page(tmp_path, name):
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 72), LINES[:20])
    [xref] = page.get_contents()
    content = document.xref_stream(xref) + name + b" Do\n"
    with_stream(document, xref, zlib.compress(content)[:-4])
    [part] = parts(document, tmp_path / "a.pdf", Pages.AUTO)
    assert part.error is None and part.trusted is False


def test_a_white_page_under_text_is_one_whatever_its_resources_name(tmp_path):
    """The back of a sheet that was read by OCR: nothing is lost of it."""
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 72), ". l", render_mode=3)
    [xref] = page.get_contents()
    document.update_stream(xref, document.xref_stream(xref) + b"/Nope Do\n")
    white = pymupdf.Pixmap(pymupdf.csGRAY, pymupdf.IRect(0, 0, 100, 140), False)
    white.clear_with(255)
    page.insert_image(page.rect, pixmap=white, overlay=False)
    [part] = parts(document, tmp_path / "a.pdf", Pages.IMAGE)
    assert part.error is None and part.content
