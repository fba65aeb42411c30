"""Pages as the model sees them, with the text they carry; what cannot be shown says why."""

import io
import re
import zlib

import pymupdf
import pytest
from PIL import Image

from schemas.errors import CorruptDocument, EncryptedDocument, LimitExceeded
from schemas.limits import Limits
from workers.expand import ExpandOptions
from workers.expand.pdf import PdfExpander

A4 = (595, 842)
OPTIONS = ExpandOptions()
LIMITS = Limits()


def pdf(path, pages, **save):
    """Pages of (size, text, rotation)."""
    document = pymupdf.open()
    for (width, height), text, rotation in pages:
        page = document.new_page(width=width, height=height)
        page.insert_text((40, 60), text, fontsize=24)
        page.set_rotation(rotation)
    document.set_metadata({"title": "Lease of 2024", "author": "M. Okafor"})
    document.save(path, **save)
    return path


def expanded(path, options=OPTIONS, limits=LIMITS, tmp=None):
    opened = PdfExpander().open(path, tmp, options, limits)
    return opened, PdfExpander().parts(path, tmp, opened, 0, opened.parts_total, options, limits)


def picture(part):
    return Image.open(io.BytesIO(part.content))


def test_a_page_has_picture_text_number_size_and_rotation(tmp_path):
    path = pdf(tmp_path / "a.pdf", [(A4, "first page", 0), ((842, 595), "second", 0), (A4, "third", 90)])
    opened, parts = expanded(path)
    assert opened.parts_total == 3
    assert opened.metadata["title"] == "Lease of 2024"
    assert opened.metadata["author"] == "M. Okafor"
    assert opened.metadata["format"].startswith("PDF")
    assert opened.warnings == ()
    assert [part.index for part in parts] == [0, 1, 2]
    assert [part.text for part in parts] == ["first page", "second", "third"]
    assert [(part.width, part.height) for part in parts] == [A4, (842, 595), (842, 595)]
    assert [part.rotation for part in parts] == [0, 0, 90]
    for part in parts:
        shown = picture(part)
        assert shown.format == "JPEG" and shown.mode == "RGB"
        assert max(shown.size) == 896
        assert abs(shown.width / shown.height - part.width / part.height) < 0.01
        assert shown.convert("L").getextrema()[0] < 100


def test_a_page_without_text_has_none(tmp_path):
    [part] = expanded(pdf(tmp_path / "a.pdf", [(A4, "", 0)]))[1]
    assert part.text is None and part.error is None


@pytest.mark.parametrize("size", [224, 896, 1536])
def test_the_longest_side_is_what_the_model_sees(tmp_path, size):
    pages = [(A4, "x", 0), ((300, 144), "x", 0), ((3000, 100), "x", 0), ((14_400, 14), "x", 0)]
    _, parts = expanded(pdf(tmp_path / "a.pdf", pages), ExpandOptions(image_size=size))
    assert [max(picture(part).size) for part in parts] == [size] * 4
    assert all(min(picture(part).size) >= 1 for part in parts)


def test_ranges_of_parts_are_those_parts(tmp_path):
    path = pdf(tmp_path / "a.pdf", [(A4, f"page {number}", 0) for number in range(9)])
    expander = PdfExpander()
    opened, every = expanded(path)
    assert expander.parts(path, tmp_path, opened, 3, 6, OPTIONS, LIMITS) == every[3:6]


def test_quality_is_the_jobs(tmp_path):
    path = pdf(tmp_path / "a.pdf", [(A4, "x", 0)])
    low, high = (len(expanded(path, ExpandOptions(jpeg_quality=q))[1][0].content) for q in (40, 95))
    assert low < high


@pytest.mark.parametrize(
    "method", [pymupdf.PDF_ENCRYPT_RC4_40, pymupdf.PDF_ENCRYPT_AES_128, pymupdf.PDF_ENCRYPT_AES_256]
)
def test_passwords_are_tried_in_turn(tmp_path, method):
    pages = [(A4, "secret", 0)]
    path = pdf(tmp_path / "a.pdf", pages, encryption=method, user_pw="right", owner_pw="owner")
    with pytest.raises(EncryptedDocument, match=r"add it to expand\.passwords"):
        expanded(path)
    with pytest.raises(EncryptedDocument, match="none of the 2"):
        expanded(path, ExpandOptions(passwords=("wrong", "also wrong")))
    opened, [part] = expanded(path, ExpandOptions(passwords=("wrong", "right")))
    assert part.text == "secret"
    assert "right" not in str(opened.metadata)


def test_an_owner_password_alone_keeps_nobody_out(tmp_path):
    keep = pymupdf.PDF_ENCRYPT_AES_256
    path = pdf(tmp_path / "a.pdf", [(A4, "open", 0)], encryption=keep, owner_pw="owner", permissions=0)
    assert expanded(path)[1][0].text == "open"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF-1.7\n", "MuPDF cannot read it"),
        (b"%PDF-1.7\n" + bytes(500), "MuPDF cannot read it"),
        (b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>", "no page of it"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "MuPDF cannot read it|no PDF"),
    ],
)
def test_what_cannot_be_read_is_corrupt(tmp_path, content, words):
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    with pytest.raises(CorruptDocument, match=words) as caught:
        expanded(path)
    assert str(tmp_path) not in caught.value.message


def test_another_medium_is_not_taken_for_a_page(tmp_path):
    # MuPDF opens these by content, whatever it is told.
    Image.new("RGB", (300, 200), "red").save(tmp_path / "a.jpg")
    (tmp_path / "a.html").write_text("<html><body>Access denied</body></html>")
    for name in ("a.jpg", "a.html"):
        with pytest.raises(CorruptDocument):
            expanded(tmp_path / name)


def test_a_truncated_file_is_repaired_with_a_warning_or_refused(tmp_path):
    path = pdf(tmp_path / "a.pdf", [(A4, f"page {number}", 0) for number in range(6)])
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        try:
            opened, parts = expanded(path)
        except CorruptDocument:
            continue
        assert opened.warnings == ("the file is damaged and was repaired",)
        assert len(parts) == opened.parts_total
        assert all(part.content or part.error for part in parts)


@pytest.mark.parametrize("count", [b"2", b"1"])
def test_pages_behind_a_count_that_is_too_small_are_there(tmp_path, count):
    path = pdf(tmp_path / "a.pdf", [(A4, f"page {number}", 0) for number in range(5)])
    path.write_bytes(path.read_bytes().replace(b"/Count 5", b"/Count " + count))
    opened, parts = expanded(path)
    assert opened.parts_total == 5 and "and has 5" in opened.warnings[0]
    assert [part.text for part in parts] == [f"page {number}" for number in range(5)]
    with pytest.raises(LimitExceeded):
        expanded(path, limits=Limits(pages=3))


def test_a_page_that_was_cut_off_is_no_white_page(tmp_path):
    path = pdf(tmp_path / "a.pdf", [(A4, f"page {number}", 0) for number in range(6)])
    whole, place = path.read_bytes(), pymupdf.open(path)[3].xref
    path.write_bytes(whole[: whole.index(f"\n{place} 0 obj".encode())])
    _, parts = expanded(path)
    assert [part.text for part in parts if part.error is None] == ["page 0", "page 1", "page 2"]
    assert len(parts) == 6
    assert all(isinstance(part.error, CorruptDocument) for part in parts[3:])


def test_a_page_whose_content_is_lost_is_no_white_page(tmp_path):
    path = pdf(tmp_path / "a.pdf", [(A4, "first", 0), (A4, "second", 0)])
    document = pymupdf.open(path)
    stream = document[1].get_contents()[0]
    document.update_stream(stream, b"not deflated", compress=False)
    document.xref_set_key(stream, "Filter", "/FlateDecode")
    document.save(tmp_path / "b.pdf")
    _, parts = expanded(tmp_path / "b.pdf")
    assert parts[0].text == "first" and parts[0].error is None
    assert isinstance(parts[1].error, CorruptDocument)
    assert "page 2 comes out blank" in parts[1].error.message
    assert parts[1].content == b""


@pytest.mark.parametrize("box", ["[0 0 0 0]", "[0 0 2147483647 2147483647]", "[0 0 1e30 9]", "[5 5 5 900]"])
def test_a_page_of_no_or_absurd_size_costs_that_page_at_most(tmp_path, box):
    path = pdf(tmp_path / "a.pdf", [(A4, "first", 0), (A4, "second", 0)])
    document = pymupdf.open(path)
    document.xref_set_key(document[1].xref, "MediaBox", box)
    document.save(tmp_path / "b.pdf")
    _, parts = expanded(tmp_path / "b.pdf")
    assert parts[0].text == "first" and parts[0].error is None
    # MuPDF puts US Letter in the place of some of them.
    if parts[1].error is None:
        assert max(picture(parts[1]).size) == 896
    else:
        assert "cannot be drawn" in parts[1].error.message


def test_limits_name_themselves(tmp_path):
    path = pdf(tmp_path / "a.pdf", [(A4, "x", 0)] * 3)
    with pytest.raises(LimitExceeded, match=r"limits\.pages = 2") as caught:
        expanded(path, limits=Limits(pages=2))
    assert caught.value.fields["limit"] == "limits.pages"
    [part, *_] = expanded(path, limits=Limits(pixels=1000))[1]
    assert isinstance(part.error, LimitExceeded)
    assert "limits.pixels" in part.error.message


def test_text_is_what_parquet_takes(tmp_path):
    _, [part] = expanded(pdf(tmp_path / "a.pdf", [(A4, "caf\u00e9 \u20ac", 0)]))
    assert part.text.encode("utf-8").decode() == part.text
    assert "\0" not in part.text


GREY_NOISE = Image.effect_noise((600, 800), 60)
CODES = {
    "jpeg": ("/DCTDecode", lambda picture: buffered(picture, "JPEG"), 8),
    "deflated": ("/FlateDecode", lambda picture: zlib.compress(picture.tobytes()), 8),
    "deflated bits": ("/FlateDecode", lambda picture: zlib.compress(picture.convert("1").tobytes()), 1),
}


def buffered(picture, form):
    body = io.BytesIO()
    picture.save(body, form)
    return body.getvalue()


def scan(path, code, share):
    """A page that is a picture, of whose stream so much is there."""
    name, encode, bits = CODES[code]
    document = pymupdf.open()
    page = document.new_page(width=600, height=800)
    page.insert_image(page.rect, stream=buffered(GREY_NOISE, "JPEG"))
    [(xref, *_)] = page.get_images()
    stream = encode(GREY_NOISE)
    document.update_stream(xref, stream[: int(len(stream) * share)], compress=False)
    for key, value in {"Filter": name, "ColorSpace": "/DeviceGray", "BitsPerComponent": str(bits)}.items():
        document.xref_set_key(xref, key, value)
    document.save(path)
    return path


@pytest.mark.parametrize("code", CODES)
def test_a_scan_that_was_cut_off_is_not_shown_without_the_rest(tmp_path, code):
    for share in (0.2, 0.6, 0.9):
        _, [part] = expanded(scan(tmp_path / "a.pdf", code, share))
        assert isinstance(part.error, CorruptDocument) and part.content == b"", share
        assert "of which some" in part.error.message
        assert abs(float(re.search(r"(\d+)%", part.error.message)[1]) / 100 - (1 - share)) < 0.1


@pytest.mark.parametrize("code", CODES)
def test_a_scan_that_lacks_but_its_end_is_shown(tmp_path, code):
    for share in (0.99, 1.0):
        _, [part] = expanded(scan(tmp_path / "a.pdf", code, share))
        assert part.error is None and part.content


def test_a_whole_jpeg_beside_one_that_was_padded_is_shown(tmp_path):
    document = pymupdf.open(scan(tmp_path / "a.pdf", "deflated", 1.0))
    page = document[0]
    [(xref, *_)] = page.get_images()
    document.update_stream(xref, zlib.compress(GREY_NOISE.tobytes()[:-1]), compress=False)
    document.xref_set_key(xref, "Filter", "/FlateDecode")
    page.insert_image((100, 100, 300, 300), stream=buffered(GREY_NOISE, "JPEG"))
    document.save(tmp_path / "b.pdf")
    _, [part] = expanded(tmp_path / "b.pdf")
    assert part.error is None and part.content
