"""A page is not shown without the rest of its content, by text or drawn; a checksum may lack."""

import base64
import zlib

import pymupdf
import pytest

from schemas.errors import CorruptDocument
from schemas.rows import Pages
from tests.workers.test_expand_pdf import GREY_NOISE, buffered, expanded, scan
from workers import page_content
from workers.expand import ExpandOptions

WAYS = [Pages.IMAGE, Pages.AUTO, Pages.TEXT]
LINES = [f"{number}: the tenant pays {number * 7919 % 10_007} on day {number % 28}" for number in range(40)]


def read(path, pages):
    return expanded(path, ExpandOptions(pages=pages, text_characters=9_999, checked_share=0.0))[1]


def written(*boxes):
    """A page of lines: at each place, of a content stream of its own, so many of them."""
    document = pymupdf.open()
    page = document.new_page()
    for x, lines in boxes or [(40, 40)]:
        page.insert_text((x, 60), LINES[:lines], fontsize=9)
    return document


def with_stream(document, xref, stream, filters="/FlateDecode"):
    document.update_stream(xref, stream, compress=False)
    document.xref_set_key(xref, "Filter", filters)


def cut(path, document, xref, keep):
    """The document with a deflated stream cut to what `keep` makes of it."""
    with_stream(document, xref, keep(zlib.compress(document.xref_stream(xref))))
    document.save(path)
    return path


def half(stream):
    return stream[: len(stream) // 2]


def refused(parts, *words):
    [part] = parts
    assert isinstance(part.error, CorruptDocument) and not part.content and not part.text
    return all(word in part.error.message for word in ("page 1 ", *words))


@pytest.mark.parametrize("pages", [Pages.IMAGE, Pages.AUTO])
def test_a_scan_that_was_cut_off_is_refused_whatever_text_lies_over_it(tmp_path, pages):
    document = pymupdf.open(scan(tmp_path / "a.pdf", "jpeg", 0.4))
    document[0].insert_text((40, 60), LINES, fontsize=9, render_mode=3)
    document.save(tmp_path / "b.pdf")
    assert refused(read(tmp_path / "b.pdf", pages), "of which some 6")


@pytest.mark.parametrize("over", [LINES, []])
@pytest.mark.parametrize(
    ("code", "words"), [("/DCTDecode", "some 100% is cut off"), ("/JPXDecode", "comes out blank")]
)
def test_so_is_one_that_cannot_be_decoded(tmp_path, code, words, over):
    document = pymupdf.open(scan(tmp_path / "a.pdf", "jpeg", 1.0))
    [(xref, *_)] = document[0].get_images()
    with_stream(document, xref, b"no picture", code)
    document[0].insert_text((40, 60), over, fontsize=9, render_mode=3)
    document.save(tmp_path / "b.pdf")
    assert refused(read(tmp_path / "b.pdf", Pages.IMAGE), words)


@pytest.mark.parametrize("code", ["jpeg", "deflated"])
def test_so_is_the_next_page_with_the_same_scan(tmp_path, code):
    document = pymupdf.open(scan(tmp_path / "a.pdf", code, 0.4))
    document.fullcopy_page(0)
    document.save(tmp_path / "b.pdf")
    assert ["of which some" in part.error.message for part in read(tmp_path / "b.pdf", Pages.IMAGE)] == [
        True
    ] * 2


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_a_small_picture_that_was_cut_off_spoils_no_page_of_text(tmp_path, share):
    document = written()
    page = document[0]
    page.insert_image((400, 700, 460, 780), stream=buffered(GREY_NOISE, "JPEG"))
    [(xref, *_)] = page.get_images()
    with_stream(document, xref, zlib.compress(GREY_NOISE.tobytes()[: int(480_000 * share)]))
    document.xref_set_key(xref, "ColorSpace", "/DeviceGray")
    document.save(tmp_path / "a.pdf")
    [part] = read(tmp_path / "a.pdf", Pages.IMAGE)
    assert part.error is None and part.content


def test_nor_does_it_spoil_a_grey_one(tmp_path):
    document = written()
    page = document[0]
    page.draw_rect((300, 0, 595, 842), fill=(0.502, 0.502, 0.502), color=None)
    page.insert_image((400, 700, 460, 780), stream=buffered(GREY_NOISE, "JPEG"))
    [(xref, *_)] = page.get_images()
    with_stream(document, xref, buffered(GREY_NOISE, "JPEG")[:-2], "/DCTDecode")
    document.save(tmp_path / "a.pdf")
    [part] = read(tmp_path / "a.pdf", Pages.IMAGE)
    assert part.error is None and part.content


@pytest.mark.parametrize("pages", WAYS)
@pytest.mark.parametrize("share", [0.4, 0.5, 0.9])
def test_a_page_of_text_that_was_cut_off_is_refused(tmp_path, pages, share):
    document = written()
    [xref] = document[0].get_contents()
    path = cut(tmp_path / "a.pdf", document, xref, lambda stream: stream[: int(len(stream) * share)])
    assert refused(read(path, pages), "lacks the end of its content")


@pytest.mark.parametrize("pages", WAYS)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_so_is_one_of_whose_streams_one_was_cut_off(tmp_path, pages, which):
    # MuPDF joins them: it stumbles over nothing where a line of the one ends in a line of the next.
    document = written((40, 40), (240, 40), (440, 40))
    xrefs = document[0].get_contents()
    assert len(xrefs) == 3
    assert refused(read(cut(tmp_path / "a.pdf", document, xrefs[which], half), pages), "lacks the end")


@pytest.mark.parametrize("pages", WAYS)
def test_so_is_one_of_whose_forms_one_was_cut_off(tmp_path, pages):
    document = pymupdf.open()
    page = document.new_page()
    page.show_pdf_page(page.rect, written(), 0)
    [xref] = [form for form, *_ in page.get_xobjects() if b"BT" in document.xref_stream(form)]
    assert refused(read(cut(tmp_path / "a.pdf", document, xref, half), pages), "lacks the end")


@pytest.mark.parametrize("pages", WAYS)
def test_so_is_one_that_is_coded_twice_or_encrypted(tmp_path, pages):
    document = written()
    [xref] = document[0].get_contents()
    stream = base64.a85encode(half(zlib.compress(document.xref_stream(xref)))) + b"~>"
    with_stream(document, xref, stream, "[/ASCII85Decode /FlateDecode]")
    document.save(tmp_path / "a.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, owner_pw="owner")
    assert refused(read(tmp_path / "a.pdf", pages), "lacks the end")


@pytest.mark.parametrize("pages", WAYS)
def test_so_is_one_of_whose_streams_one_has_a_broken_header(tmp_path, pages):
    document = written((40, 40), (240, 40))
    path = cut(tmp_path / "a.pdf", document, document[0].get_contents()[1], lambda s: b"\0\0" + s[2:])
    assert refused(read(path, pages), "lacks the end")


def test_an_empty_stream_beside_others_is_nothing_lost(tmp_path):
    document = written((240, 1), (40, 40))
    for keep in (lambda _: b"", lambda _: zlib.compress(b"")[:-4]):
        path = cut(tmp_path / "a.pdf", document, document[0].get_contents()[0], keep)
        [part] = read(path, Pages.IMAGE)
        assert part.error is None and part.text.endswith(LINES[-1])


@pytest.mark.parametrize("pages", WAYS)
def test_what_lacks_but_its_checksum_is_read(tmp_path, pages):
    document = written((40, 40), (240, 40))
    whole = document[0].get_text().strip()
    for number, keep in enumerate((lambda s: s[:-4], lambda s: s[:-1], lambda s: s[:-4] + bytes(4))):
        path = cut(tmp_path / f"{number}.pdf", document, document[0].get_contents()[0], keep)
        [part] = read(path, pages)
        assert part.error is None and part.text == whole and part.trusted in (True, None)
        assert bool(part.content) == (pages is Pages.IMAGE)


CODED = {
    "/Fl": lambda stream: stream,
    "[/Crypt /FlateDecode]": lambda stream: stream,
    "[/ASCII85Decode /FlateDecode]": lambda stream: base64.a85encode(stream) + b"~>",
    "[/A85 /Fl]": base64.a85encode,
    "[/ASCIIHexDecode /FlateDecode]": lambda stream: stream.hex().encode() + b">",
    "[/AHx /Fl]": lambda stream: stream.hex().encode()[:-1],
    "9 0 R": lambda stream: stream,
    "[9 0 R]": lambda stream: stream,
}


def coded(path, document, filters, keep):
    [xref], name = document[0].get_contents(), document.get_new_xref()
    document.update_object(name, "/FlateDecode")
    stream = CODED[filters](keep(zlib.compress(document.xref_stream(xref))))
    with_stream(document, xref, stream, filters.replace("9", str(name)) if "9 0" in filters else filters)
    document.save(path)
    return path


@pytest.mark.parametrize("filters", CODED)
def test_however_its_filter_is_spelled(tmp_path, filters):
    for lacks in (-3, None) if filters in ("[/A85 /Fl]", "[/AHx /Fl]") else (-3,):
        [part] = read(coded(tmp_path / "a.pdf", written(), filters, lambda s, to=lacks: s[:to]), Pages.AUTO)
        assert part.error is None and part.trusted and part.text.endswith(LINES[-1])
    assert refused(read(coded(tmp_path / "b.pdf", written(), filters, half), Pages.AUTO), "lacks the end")


def lzw(data):
    """Every byte a code of its own, and no code that says that it ends."""
    bits = "".join(f"{256:09b}" * (at % 200 == 0) + f"{byte:09b}" for at, byte in enumerate(data))
    return bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))


def test_one_in_lzw_without_its_end_marker_is_drawn(tmp_path):
    document = written()
    [xref] = document[0].get_contents()
    with_stream(document, xref, lzw(document.xref_stream(xref) + b"0 0 m 9 9 l S"), "/LZWDecode")
    document.save(tmp_path / "a.pdf")
    [part] = read(tmp_path / "a.pdf", Pages.AUTO)
    assert part.error is None and part.content and part.trusted is False


@pytest.mark.parametrize("pages", WAYS)
@pytest.mark.parametrize(("which", "blank"), [(0, b"\n"), (1, b"\n"), (1, b"\r\n\r\n")])
def test_a_stream_of_blanks_is_nothing_lost(tmp_path, pages, which, blank):
    document = written((40, 40), (240, 40))
    document.update_stream(document[0].get_contents()[1 - which], written()[0].read_contents())
    path = cut(tmp_path / "a.pdf", document, document[0].get_contents()[which], lambda _: blank)
    [part] = read(path, pages)
    assert part.error is None and part.text.endswith(LINES[-1])


@pytest.mark.parametrize("raw", [b"~>", b"<~~>"])
def test_nor_is_one_of_nothing_but_its_marker(tmp_path, raw):
    document = written((240, 1), (40, 40))
    with_stream(document, document[0].get_contents()[0], raw, "[/ASCII85Decode /FlateDecode]")
    document.save(tmp_path / "a.pdf")
    [part] = read(tmp_path / "a.pdf", Pages.AUTO)
    assert part.error is None and part.content and part.text.endswith(LINES[-1])


@pytest.mark.parametrize("pages", WAYS)
def test_but_what_follows_a_wrong_one_is_lost(tmp_path, pages):
    document = written((40, 40), (240, 40), (440, 40))
    path = cut(tmp_path / "a.pdf", document, document[0].get_contents()[1], lambda _: b"\r\n\r\n")
    assert refused(read(path, pages), "lacks the end")


@pytest.mark.parametrize("other", ["999 0 R", "0 0 R", "null", "7"])
def test_nor_is_one_that_is_listed_and_not_there(tmp_path, other):
    document = written()
    page = document[0]
    [xref] = page.get_contents()
    with_stream(document, xref, zlib.compress(document.xref_stream(xref))[:-4])
    document.xref_set_key(page.xref, "Contents", f"[{xref} 0 R {other}]")
    document.save(tmp_path / "a.pdf")
    for pages in WAYS:
        [part] = read(tmp_path / "a.pdf", pages)
        assert part.error is None and part.text.endswith(LINES[-1])


def nested(drawn):
    """A page that lacks a checksum, whose form b holds a form c that was cut off; a is never drawn."""
    document = written()
    page = document[0]
    [content] = page.get_contents()
    a, b, c = (document.get_new_xref() for _ in range(3))
    below = {a: f"/XObject<</c#20c {c} 0 R>>", b: f"/XObject<</c#20c {c} 0 R>>", c: ""}
    for form in (a, b, c):
        words = "/Type/XObject/Subtype/Form/BBox[0 0 99 99]/Resources"
        document.update_object(form, f"<<{words}<</Font<<>>{below[form]}>>>>")
        said = b"0 0 m 9 9 l S " * 99 if form == c else b"q /c#20c Do Q"
        document.update_stream(form, said, compress=False)
    if not drawn:
        document.update_stream(b, b"% nothing", compress=False)
    with_stream(document, c, half(zlib.compress(document.xref_stream(c))))
    holder = int(document.xref_get_key(page.xref, "Resources")[1].split()[0])
    document.xref_set_key(holder, "XObject", f"<</a {a} 0 R/b {b} 0 R>>")
    with_stream(document, content, zlib.compress(document.xref_stream(content) + b"\nq /b Do Q\n")[:-4])
    return document


@pytest.mark.parametrize("pages", WAYS)
@pytest.mark.parametrize("drawn", [True, False])
def test_a_form_that_was_cut_off_spoils_the_pages_that_draw_it(tmp_path, pages, drawn):
    nested(drawn).save(tmp_path / "a.pdf")
    [part] = read(tmp_path / "a.pdf", pages)
    assert refused([part], "lacks the end") if drawn else part.error is None and part.text


def test_of_very_many_forms_some_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(page_content, "MOST_DRAWN", 1)
    nested(drawn=True).save(tmp_path / "a.pdf")
    [part] = read(tmp_path / "a.pdf", Pages.AUTO)
    assert part.error is None and part.content and part.trusted is False


@pytest.mark.parametrize("most", [100, 1000])
def test_so_it_is_of_very_long_content(tmp_path, monkeypatch, most):
    monkeypatch.setattr(page_content, "MOST_BYTES", most)
    document = written()
    [part] = read(cut(tmp_path / "a.pdf", document, document[0].get_contents()[0], half), Pages.AUTO)
    assert part.error is None and part.content and part.trusted is False


def test_what_its_writer_never_finished_is_read(tmp_path):
    document = written()
    [xref] = document[0].get_contents()
    deflate = zlib.compressobj()
    stream = deflate.compress(document.xref_stream(xref)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    [part] = read(cut(tmp_path / "a.pdf", document, xref, lambda _: stream), Pages.AUTO)
    assert part.error is None and part.trusted and part.text.endswith(LINES[-1])


def spoiled(document, xref):
    """In the middle, so that it inflates to its end, and to nonsense in between."""
    stream = bytearray(zlib.compress(document.xref_stream(xref)))
    stream[len(stream) // 2 : len(stream) // 2 + 4] = bytes(4)
    with_stream(document, xref, bytes(stream))


def ended_at_a_line(document, xref):
    # All may be there: it breaks off where nothing was begun.
    deflate = zlib.compressobj()
    start = deflate.compress(document.xref_stream(xref)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    with_stream(document, xref, start + b"\x02")


@pytest.mark.parametrize("damage", [spoiled, ended_at_a_line])
def test_a_page_of_doubtful_content_is_drawn(tmp_path, damage):
    document = written()
    damage(document, document[0].get_contents()[0])
    document.save(tmp_path / "a.pdf")
    [part] = read(tmp_path / "a.pdf", Pages.AUTO)
    assert part.error is None and part.content and part.trusted is False


@pytest.mark.parametrize("pages", WAYS)
def test_a_page_that_mupdf_gave_up_on_is_refused(tmp_path, pages):
    document = written((40, 40), (240, 40))
    xref = document[0].get_contents()[1]
    document.update_stream(xref, b"wrong\n" * 200 + document.xref_stream(xref))
    document.save(tmp_path / "a.pdf")
    assert refused(read(tmp_path / "a.pdf", pages), "too many errors")


@pytest.mark.parametrize("unit", ["1", "2"])
@pytest.mark.parametrize("crop", [(0, 0, 400, 800), (0, 200, 400, 800), (0, 0, 200, 800)])
@pytest.mark.parametrize(("height", "trusted"), [(400, False), (100, True)])
def test_what_lies_under_pictures_is_the_same_however_a_page_is_turned(tmp_path, unit, crop, height, trusted):
    # Half of it, and a quarter or less.
    found = []
    for rotation in (0, 90, 180, 270):
        document = pymupdf.open()
        page = document.new_page(width=400, height=800)
        page.insert_image(
            (0, 200, 400, 200 + height), stream=buffered(GREY_NOISE, "JPEG"), keep_proportion=False
        )
        page.insert_text((20, 620), LINES[:10], fontsize=9)
        page.set_cropbox(pymupdf.Rect(crop))
        page.set_rotation(rotation)
        document.xref_set_key(page.xref, "UserUnit", unit)
        document.save(tmp_path / "a.pdf")
        found.append(read(tmp_path / "a.pdf", Pages.AUTO)[0].trusted)
    assert found == [trusted] * 4
