"""Bytes decide, names only claim; what is no document is filtered, not failed."""

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import EmptyObject, GemstreamError, UnsupportedMedia, WrongContent
from workers.registry import EXPANDERS, resolve
from workers.sniff import CLAIMS, SIGNATURES, UNREAD, Sniffed, sniff

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01"
PDF = b"%PDF-1.7\n1 0 obj\n"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "
# MPEG-1 layer III, 128 kbit/s, 44.1 kHz: a frame of 417 bytes.
MP3 = (b"\xff\xfb\x90\x00" + bytes(413)) * 3
# MPEG-2.5 layer III, as file-type's ffe3 fixture.
MP3_25 = (b"\xff\xe3\x20\xc4" + bytes(100)) * 20
ADTS = (b"\xff\xf1\x60\x40\x05\x5f\xfc" + bytes(35)) * 3

CR2 = b"II*\x00\x10\x00\x00\x00CR\x02\x00"


def ftyp(brand):
    return b"\x00\x00\x00\x18ftyp" + brand + bytes(12)


@pytest.mark.parametrize(
    ("head", "media_type", "expander"),
    [
        (PDF, "application/pdf", "pdf"),
        (b"\xef\xbb\xbf" + PDF, "application/pdf", "pdf"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + PDF, "application/pdf", "pdf"),
        (JPEG, "image/jpeg", "image"),
        (b"\x89PNG\r\n\x1a\n", "image/png", "image"),
        (b"GIF89a", "image/gif", "image"),
        (b"RIFF\x0a\x11\x01\x00WEBPVP8X", "image/webp", "image"),
        (b"II*\x00\x08\x00", "image/tiff", "image"),
        (b"MM\x00+\x00\x08", "image/tiff", "image"),
        (b"BM>\x04\x00\x00\x00\x00\x00\x00>\x00\x00\x00\x28\x00\x00\x00", "image/bmp", "image"),
        (b"\xff\x4f\xff\x51\x00\x2f", "image/jp2", "image"),
        (ftyp(b"avif"), "image/avif", "image"),
        (ftyp(b"heix"), "image/heic", "image"),
        (WAV, "audio/wav", "audio"),
        (b"fLaC\x00\x00", "audio/flac", "audio"),
        (b"OggS\x00\x02", "audio/ogg", "audio"),
        (b"ID3\x04\x00", "audio/mpeg", "audio"),
        (MP3, "audio/mpeg", "audio"),
        (MP3_25, "audio/mpeg", "audio"),
        (ADTS, "audio/aac", "audio"),
        (ftyp(b"M4A "), "audio/mp4", "audio"),
        (ftyp(b"mp42"), "video/mp4", "audio"),
        (ftyp(b"qt  "), "video/mp4", "audio"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", "video/webm", "audio"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska", "video/x-matroska", "audio"),
        (b"NIST_1A\n   1024\n", "audio/x-nist", "audio"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "video/x-msvideo", "audio"),
    ],
)
def test_bytes_decide_whatever_the_name(head, media_type, expander):
    for name in ("x", "s3://bucket/x.pdf", "x.WAV", "x.csv", "x.jpeg"):
        found = sniff(head, name)
        assert (found.media_type, found.expander) == (media_type, expander)
        assert found.claim == CLAIMS.get(name.rpartition(".")[2].lower())


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\n<!DOCTYPE html><html><head><title>403</title>", "an HTML page"),
        (b"<!-- cached --><html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0a", "git lfs pull"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "object store's error"),
        (b'{"error": "not found"}', "JSON"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04\x14\x00", "zip"),
        (b"this is not a recording", "its content is text"),
        ("Grüße".encode() * 900, "its content is text"),
        (b"\x00\x00\xf6\xff\x03\x00\xf1\xff", "no known format"),
        ("BMX and other bicycles".encode("utf-16"), "no known format"),
        (b"BMW and other cars, by the dozen", "its content is text"),
        (b"The free world, and what it costs", "its content is text"),
    ],
)
def test_a_documents_name_on_something_else_says_what_it_is(head, words):
    with pytest.raises(WrongContent) as caught:
        sniff(head[:4096], "s3://bucket/scan.pdf")
    assert words in caught.value.message
    assert "application/pdf" in caught.value.message
    # Without a document's name it is nobody's fault.
    assert sniff(head[:4096], "s3://bucket/readme.txt").expander is None


def test_prose_about_pdfs_is_no_pdf():
    prose = b"A PDF starts with the bytes %PDF-1.7, says the manual."
    assert sniff(prose, "notes.md").media_type == "text/plain"
    assert sniff(prose + b" 1 0 obj", "scan.pdf").expander == "pdf"


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "_SUCCESS", "folder/"])
def test_markers_and_tables_are_filtered(name):
    assert sniff(b"", name) == Sniffed("application/x-empty", None, None)
    assert sniff(b"PAR1\x15\x04", name).expander is None


@pytest.mark.parametrize("name", ["x.pdf", "x.HEIC", "x.mp3", "x.docx"])
def test_an_empty_document_is_a_fault(name):
    with pytest.raises(EmptyObject, match="zero bytes"):
        sniff(b"", name)


@pytest.mark.parametrize(
    ("head", "name", "words"),
    [
        (b"\xff\x0a\xba\x12\x03\x1b\x8a\x0b\x01\x00", "dice.jxl", "JPEG XL"),
        (b"\xff\x0a\xba\x12\x03\x1b\x8a\x0b\x01\x00", "dice.jpg", "image/jxl"),
        (b"SIMPLE  =        T", "hopper.fits", "FITS"),
        (b"BLP2\x01\x00", "x.blp", "BLP"),
        (b"PK\x03\x04\x14\x00", "report.docx", "word processor"),
        (b"<svg xmlns=", "logo.svg", "SVG"),
        (b"%!PS-Adobe-3.0", "x.eps", "PostScript"),
        (ftyp(b"crx "), "x.cr3", "raw image"),
        (CR2, "x.cr2", "raw image"),
        (CR2, "x.tif", "image/x-canon-cr2"),
        (b"II*\x00", "IMG_1.NEF", "raw image"),
        (b"II*\x00\x08\x00\x00\x00", "s3://bucket/x.dng", "raw image"),
        (b"MM\x00*\x00\x00\x00\x08", "x.arw", "raw image"),
        (b"MM\x00*\x00\x00\x00\x08", "x.pef", "raw image"),
    ],
)
def test_media_that_nobody_reads_say_so(head, name, words):
    with pytest.raises(UnsupportedMedia, match=words):
        sniff(head, name)


def test_what_a_camera_did_not_write_is_read_under_a_raws_name():
    assert sniff(JPEG, "x.dng") == Sniffed("image/jpeg", "image", None)


def test_the_table_agrees_with_the_expanders():
    members = {kind: resolve(EXPANDERS, kind, "expander") for kind in EXPANDERS}
    sniffed = {(entry.media_type, entry.expander) for entry in SIGNATURES if entry.expander}
    sniffed.add(("audio/aac", "audio"))
    declared = {(media_type, kind) for kind, member in members.items() for media_type in member.media_types}
    assert sniffed == declared
    assert {claim for claim in CLAIMS.values()} <= {media_type for media_type, _ in declared}
    assert not CLAIMS.keys() & UNREAD.keys()


def test_what_libraries_write_is_recognised():
    from PIL import Image

    formats = {"JPEG": "jpeg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "TIFF": "tiff", "BMP": "bmp"}
    formats |= {"ICO": "x-icon", "JPEG2000": "jp2", "AVIF": "avif", "PPM": "x-portable-anymap"}
    for kind, name in formats.items():
        body = io.BytesIO()
        Image.new("RGB", (40, 30), "red").save(body, kind)
        assert sniff(body.getvalue()[:4096], "x").media_type == f"image/{name}"


@given(st.binary(max_size=4096), st.sampled_from(["x", "x.pdf", "x.wav", "x.csv", "x.docx", "x.png"]))
def test_any_bytes_have_an_answer(head, name):
    try:
        found = sniff(head, name)
    except GemstreamError as fault:
        assert fault.stage == "sniff"
    else:
        assert found.expander is None or found.expander in EXPANDERS


@given(st.sampled_from([b"<!--", b"<!--x-->", b"<!x>", b"<?xml ", b" ", b"# \n", b"1 ", b"[", b"<", b"P1 #"]))
def test_no_head_takes_long(piece):
    began = time.process_time()
    for prefix in (b"", b"P1", b"<?xml", b"<!--"):
        sniff((prefix + piece * 4096)[:4096], "x.csv")
    assert time.process_time() - began < 0.2
