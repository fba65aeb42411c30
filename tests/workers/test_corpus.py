"""176 real files, healthy and nasty: each ends as a person who reads `manifest.csv` would expect.

`FAULTS` was judged by hand from the manifest's `why` and a look at each file, not copied from a run.
"""

import csv
import json
from collections import defaultdict

import pyarrow as pa
import pytest

from schemas.ids import document_id
from schemas.limits import Limits
from schemas.rows import DOCUMENTS
from schemas.storage import StorageOptions
from workers.expand import ExpandOptions
from workers.expander import Expand
from workers.storage.factory import normalise, open_storage

TASKS = {"page": ["ocr"], "image": ["caption"], "audio": ["transcribe"]}
PASSWORDS = {
    "pdfminer.six__aes-256-r6.pdf": "usersecret",
    "pdfminer.six__aes-128.pdf": "foo",
    "pdfminer.six__rc4-40.pdf": "foo",
    "pdfplumber__password-example.pdf": "test",
    "tika__testPassword4Spaces.pdf": "    ",
    "pdfbox__PasswordSample-256bit.pdf": "user",
    "qpdf__enc-XI-R6,V5,U=view,O=master.pdf": "view",
}

FAULTS = {
    # Zero bytes.
    "pdfplumber__empty.pdf": "empty",
    "pillow_heif__empty.heic": "empty",
    "derived__zero.png": "empty",
    "derived__zero.mp3": "empty",
    # Something else under a document's name.
    "derived__html_error_page.pdf": "wrong_content",
    "derived__git_lfs_pointer.pdf": "wrong_content",
    "speech-datasets__4473837.mp3": "wrong_content",
    "derived__text_named.wav": "wrong_content",
    "cognitive-services-speech-sdk__missing_wav_header.wav": "wrong_content",
    "qpdf__bad1.pdf": "wrong_content",  # The five bytes "oops\n".
    "qpdf__fuzz-16214.pdf": "wrong_content",  # Blanks where the header was.
    "torchcodec__heapbof.png": "wrong_content",  # Half of PNG's signature, then zeros.
    # Media that nobody here reads.
    "jxl__dice.jxl": "unsupported_media",
    "pillow__hopper.fits": "unsupported_media",
    "pillow__timeout-060745d3f534ad6e4128c51d336ea5489182c69d.blp": "unsupported_media",
    "scikit-image__multipage_rgb.tif": "unsupported_media",  # 64-bit floats, in planes.
    "torchcodec__testsrc2_vp9.webm": "unsupported_media",  # Video without sound.
    # Larger than the limits, by their own headers.
    "sharp__giant-image.jpg": "limit",
    "sharp__65536-uint32-limit.png": "limit",
    "derived__bomb_40960x40960_1bit.png": "limit",
    "pillow__decompression_bomb.gif": "limit",
    "pillow__decompression_bomb.ico": "limit",
    "pillow__badwidth.bmp": "limit",  # Claims 274 billion pixels.
    # A password that the job does not have.
    "format-corpus__encryption_openpassword.pdf": "encrypted",
    # Damaged beyond reading.
    "derived__truncated_half.pdf": "corrupt",  # Its page would come out blank.
    "pdfminer.six__patchelf.pdf": "corrupt",  # Likewise: no deflate data in its content stream.
    "format-corpus__T02-01_001_document-catalog-No-document-catalog.pdf": "corrupt",
    "format-corpus__T02-02_007_page-tree-wrong-count.pdf": "corrupt",
    "tika__testPDF_bad_page_303226.pdf": "corrupt",  # One page of 19: two thirds of it cannot be made out.
    "qpdf__append-xref-loop.pdf": "corrupt",
    "qpdf__bad11.pdf": "corrupt",
    "qpdf__many-nulls.pdf": "corrupt",
    "qpdf__issue-1688a.pdf": "corrupt",
    "pdf.js__poppler-85140-0.pdf": "corrupt",
    "pdf.js__poppler-67295-0.pdf": "corrupt",
    "pdf.js__poppler-395-0-fuzzed.pdf": "corrupt",
    "pdf.js__GHOSTSCRIPT-698804-1-fuzzed.pdf": "corrupt",
    "pdf.js__REDHAT-1531897-0.pdf": "corrupt",
    "pdf.js__issue9105_other.pdf": "corrupt",
    "sharp__truncated.jpg": "corrupt",
    "sharp__truncated.png": "corrupt",
    "sharp__corrupt-header.jpg": "corrupt",
    "pillow__broken.png": "corrupt",
    "pillow__broken_data_stream.png": "corrupt",
    "pillow__crash-2020-10-test.tif": "corrupt",
    "torchcodec__sigsegv.png": "corrupt",
    "zune-fuzz__80d99919.png": "corrupt",
    "file-type__fixture-corrupt.png": "corrupt",
    "pydub__test1_empty.wav": "corrupt",  # A header and no sample.
    "pocketsphinx__bad.wav": "corrupt",
    "pocketsphinx__evil.wav": "corrupt",
    "pocketsphinx__awful.wav": "corrupt",  # Six samples' worth of sound.
}

SAYS = {
    "derived__truncated_jfk.flac": "its header promises 11.0 s, 3.6 s are there",
    "derived__truncated_header_says_more.wav": "its header states another length",
    "file-type__fixture-adts-mpeg4.aac": "damaged packets",
    "format-corpus__corruptionOneByteMissing.pdf": "repaired",
    "tika__testPDF_bad_page_303226.pdf": "repaired",
    "sharp__animated-loop-3.gif": "several frames",
    "pillow__frozenpond.mpo": "several frames",
}
"""Files that are read and carry a warning: what it must say."""

PARTS = {
    "docling__multi_page.pdf": 5,
    "tika__testPDF_protected.pdf": 41,  # An owner's password alone keeps nobody out.
    "qpdf__enc-XI-R6,V5,U=view,O=master.pdf": 30,
    "sharp__G31D_MULTI.TIF": 2,
    "sharp__animated-loop-3.gif": 1,
    "pillow_heif__zPug_3.heic": 1,
    "whisper__jfk.flac": 1,
    "azure__zh-CN_training_audio2.wav": 1,
}


@pytest.fixture(scope="module")
def files(corpus):
    with (corpus / "manifest.csv").open(newline="") as manifest:
        return [row["path"] for row in csv.DictReader(manifest)]


def run(corpus, files, passwords):
    storage = StorageOptions()
    infos = [open_storage("x", storage).info(normalise(str(corpus / file))) for file in files]
    table = pa.table(
        {
            "document_id": [document_id(info.uri) for info in infos],
            "uri": [info.uri for info in infos],
            "version": [info.version for info in infos],
            "size": [info.size for info in infos],
            "modified": [info.modified for info in infos],
            "lane": [None for _ in infos],
            "address": [None for _ in infos],
        },
        DOCUMENTS,
    )
    stage = Expand(storage, ExpandOptions(passwords=tuple(passwords)), Limits(), TASKS)
    by_name = defaultdict(list)
    for part in stage(table):
        for row in part.drop_columns(["content"]).to_pylist():
            by_name[row["uri"].rpartition("/")[2]].append(row)
    stage.close()
    return dict(by_name)


@pytest.fixture(scope="module")
def found(corpus, files):
    return run(corpus, files, PASSWORDS.values())


def test_every_file_is_accounted_for(found, files):
    assert sorted(found) == sorted(file.rpartition("/")[2] for file in files)
    for name, rows in found.items():
        to_ask = sum(row["status"] is None for row in rows)
        assert to_ask + sum(row["settled"] for row in rows) == rows[0]["expected"], name
        if rows[0]["parts_total"] is not None:
            assert [row["part_index"] for row in rows] == list(range(rows[0]["parts_total"])), name


def test_every_file_ends_as_a_person_would_expect(found):
    faults = {
        name: sorted({row["error"]["category"] for row in rows if row["error"]})
        for name, rows in found.items()
    }
    assert {name: fault for name, fault in faults.items() if fault} == {
        name: [category] for name, category in FAULTS.items()
    }


def test_messages_are_for_people(found):
    for name, rows in found.items():
        for row in rows:
            if row["error"]:
                message = row["error"]["message"]
                assert 10 < len(message) < 300, name
                assert not any(word in message for word in ("/tmp", "Traceback", "code=", "object at 0x")), (
                    message
                )
                assert row["error"]["category"] != "limit" or "limits." in message


def test_what_was_read_all_the_same_says_what_was_wrong(found):
    for name, words in SAYS.items():
        warnings = json.loads(found[name][0]["document_metadata"])["warnings"]
        assert any(words in warning for warning in warnings), (name, warnings)
    assert {name: found[name][0]["parts_total"] for name in PARTS} == PARTS


def test_the_long_recording_is_cut_into_what_the_model_can_hear(found):
    rows = found["derived__long_en.opus"]
    lengths = [row["end_seconds"] - row["start_seconds"] for row in rows]
    assert 310 < sum(lengths) < rows[-1]["end_seconds"] < 317.2
    assert max(lengths) <= 30 + 1e-6
    assert min(lengths) >= 1


def test_without_their_passwords_they_are_encrypted(corpus, files):
    locked = [file for file in files if file.rpartition("/")[2] in PASSWORDS]
    assert len(locked) == len(PASSWORDS)
    found = run(corpus, locked, [])
    for rows in found.values():
        [row] = rows
        assert row["error"]["category"] == "encrypted"
        assert "expand.passwords" in row["error"]["message"]
