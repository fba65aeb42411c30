"""The stage as a whole: every document ends in rows that add up, whatever it is and whatever it does."""

import json
import os
import pickle
import resource
import signal
from collections import defaultdict

import numpy as np
import psutil
import pyarrow as pa
import pymupdf
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.ids import digest, document_id
from schemas.limits import Limits
from schemas.rows import DOCUMENTS, KEPT, PARTS, Status
from schemas.storage import StorageOptions
from tests.workers.counted import Counted
from workers.expand import ExpandOptions
from workers.expander import Expand
from workers.storage.factory import normalise, open_storage
from workers.storage.local import LocalStorage

TASKS = {"page": ["ocr", "caption"], "image": ["caption"], "audio": ["transcribe"]}
STORAGE = StorageOptions()


def documents(*paths, kept=None, attributes=None):
    """The DOCUMENTS rows of some files, as a listing has them."""
    infos = [open_storage(normalise(str(path)), STORAGE).info(normalise(str(path))) for path in paths]
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
    if kept is not None:
        table = table.append_column("kept", pa.array(kept, KEPT))
    if attributes is not None:
        table = table.append_column("attributes", attributes)
    return table


def pdf(path, texts):
    document = pymupdf.open()
    for text in texts:
        document.new_page().insert_text((40, 60), text)
    document.save(path)
    return path


def photo(path, size=(80, 60)):
    Image.new("RGB", size, "red").save(path)
    return path


def clip(path, seconds):
    at = np.arange(int(seconds * 16_000)) * 2 * np.pi / 16_000
    soundfile.write(path, 0.5 * np.cos(2 * at) * np.sin(440 * at), 16_000)
    return path


@pytest.fixture(scope="module")
def stage():
    stage = Expand(STORAGE, ExpandOptions(), Limits(), TASKS)
    yield stage
    stage.close()


def rows(stage, table):
    return [row for part in stage(table) for row in part.to_pylist()]


def check(found, tasks=TASKS):
    """The accounting, per document: what is settled here plus what is to be asked is what is owed."""
    grouped = defaultdict(list)
    for row in found:
        grouped[row["document_id"]].append(row)
    for group in grouped.values():
        to_ask = [row for row in group if row["status"] is None]
        asked = sum(len(tasks[row["part_kind"]]) for row in to_ask)
        assert sum(row["settled"] for row in group) + asked == max(row["expected"] for row in group)
        assert all(row["settled"] == 0 and row["error"] is None for row in to_ask)
        for row in group:
            assert (row["error"] is not None) == (row["status"] in ("error", "filtered"))
        indices = [row["part_index"] for row in to_ask]
        assert indices == sorted(set(indices))
    return dict(grouped)


def test_what_another_lane_asks_about_has_failed_here_and_is_not_filtered(tmp_path):
    """It is here because its first bytes could not be read when its lane was chosen; now they can."""
    table = documents(clip(tmp_path / "a.wav", 1), photo(tmp_path / "b.jpg"))
    for elsewhere, status in (((), "filtered"), (("audio",), "error")):
        stage = Expand(STORAGE, ExpandOptions(), Limits(), {"page": ["ocr"]}, elsewhere=elsewhere)
        found = check(rows(stage, table), {"page": ["ocr"]})
        stage.close()
        heard, seen = sorted(found.values(), key=lambda group: group[0]["uri"])
        assert (heard[0]["status"], seen[0]["status"]) == (status, "filtered")
        assert (heard[0]["error"]["category"] == "storage_unavailable") == bool(elsewhere)


def test_a_mixed_folder(stage, tmp_path):
    paths = [
        pdf(tmp_path / "a.pdf", ["one", "two"]),
        photo(tmp_path / "b.jpg"),
        clip(tmp_path / "c.wav", 2),
        tmp_path / "d.csv",
        tmp_path / "e.pdf",
        tmp_path / "f.png",
    ]
    paths[3].write_text("a,b\n1,2\n")
    paths[4].write_text("<!doctype html><title>403</title>")
    paths[5].write_bytes(b"")
    found = rows(stage, documents(*paths))
    check(found)
    assert [row["uri"].rpartition("/")[2] for row in found] == [
        "a.pdf", "a.pdf", "b.jpg", "c.wav", "d.csv", "e.pdf", "f.png",
    ]  # fmt: skip
    assert [row["part_kind"] for row in found] == ["page", "page", "image", "audio", None, None, None]
    assert [row["expected"] for row in found] == [4, 4, 1, 1, 1, 1, 1]
    assert [row["status"] for row in found] == [None] * 4 + ["filtered", "error", "error"]
    assert [row["error"] and row["error"]["category"] for row in found[4:]] == [
        "not_a_document", "wrong_content", "empty",
    ]  # fmt: skip
    assert [row["media_type"] for row in found[:4]] == [
        "application/pdf", "application/pdf", "image/jpeg", "audio/wav",
    ]  # fmt: skip
    page = found[0]
    assert (page["part_index"], page["parts_total"], page["rotation"]) == (0, 2, 0)
    assert page["page_text"] == "one"
    assert page["content"].startswith(b"\xff\xd8\xff")
    assert page["content_hash"] == digest(page["content"])
    assert json.loads(page["document_metadata"])["format"].startswith("PDF")
    assert (found[3]["start_seconds"], found[3]["end_seconds"]) == (0.0, 2.0)


def test_every_table_has_the_schema_and_the_same_rows_come_again(stage, tmp_path):
    table = documents(pdf(tmp_path / "a.pdf", ["x"] * 3), photo(tmp_path / "b.png"))
    first, second = list(stage(table)), list(stage(table))
    assert pa.concat_tables(first) == pa.concat_tables(second)
    assert all(part.schema == PARTS for part in first)
    [empty] = stage(table.slice(0, 0))
    assert empty.schema == PARTS and len(empty) == 0


@given(
    st.one_of(
        st.binary(max_size=300),
        st.sampled_from(
            [
                b"%PDF-1.7\n",
                b"\x89PNG\r\n\x1a\n",
                b"\xff\xd8\xff\xe0",
                b"RIFF\x24\0\0\0WAVE",
                b"II*\0\x08\0\0\0",
            ]
        ).flatmap(lambda head: st.binary(max_size=300).map(lambda tail: head + tail)),
    ),
    st.sampled_from(["x", "x.pdf", "x.png", "x.wav", "x.csv", "x.docx"]),
)
@settings(max_examples=80)
def test_any_bytes_at_all_are_accounted_for(stage, tmp_path_factory, content, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    [group] = check(rows(stage, documents(path))).values()
    for row in group:
        if row["error"]:
            assert row["error"]["message"] and row["error"]["stage"] in ("sniff", "expand")
            assert str(path.parent) not in row["error"]["message"]
            assert "gemstream-scratch" not in row["error"]["message"]


def test_manifest_columns_pass_through(stage, tmp_path):
    attributes = pa.array([{"who": "x", "n": 1}, {"who": "y", "n": 2}, {"who": "z", "n": 3}])
    paths = [pdf(tmp_path / "a.pdf", ["1", "2"]), tmp_path / "b.txt", photo(tmp_path / "c.png")]
    paths[1].write_text("hello")
    found = rows(stage, documents(*paths, attributes=attributes))
    assert [row["attributes"]["who"] for row in found] == ["x", "x", "y", "z"]


def test_what_no_task_asks_about_is_filtered_and_not_fetched(tmp_path, monkeypatch):
    read = []
    real = LocalStorage.read

    def counted(self, uri, **kwargs):
        content = real(self, uri, **kwargs)
        read.append(len(content))
        return content

    monkeypatch.setattr(LocalStorage, "read", counted)
    path = tmp_path / "long.wav"
    clip(path, 600)
    stage = Expand(STORAGE, ExpandOptions(), Limits(), {"page": ["ocr"], "audio": []})
    [row] = rows(stage, documents(path))
    stage.close()
    assert (row["status"], row["error"]["category"]) == ("filtered", "no_task")
    assert "audio/wav" in row["error"]["message"]
    assert sum(read) <= 8 * 1024 * 1024 < path.stat().st_size


def test_what_is_wrong_with_the_object_itself(stage, tmp_path):
    gone = photo(tmp_path / "gone.png")
    changed = photo(tmp_path / "changed.png")
    table = documents(gone, changed)
    gone.unlink()
    photo(changed, (90, 70))
    found = rows(stage, table)
    check(found)
    assert [row["error"]["category"] for row in found] == ["missing", "object_changed"]
    assert [row["error"]["transient"] for row in found] == [False, True]
    assert all(row["error"]["stage"] == "fetch" and row["part_index"] is None for row in found)


def test_an_entry_that_was_not_looked_up_is_looked_up_now(stage, tmp_path):
    table = documents(photo(tmp_path / "a.png"), photo(tmp_path / "b.png"))
    table = table.set_column(2, DOCUMENTS.field("version"), pa.array(["", ""]))
    table = table.set_column(3, "size", pa.array([None, None], pa.int64()))
    (tmp_path / "b.png").unlink()
    good, bad = rows(stage, table)
    assert good["status"] is None and good["version"] == f"{(tmp_path / 'a.png').stat().st_size}-" + str(
        (tmp_path / "a.png").stat().st_mtime_ns
    )
    assert bad["error"]["category"] == "missing"


def test_a_message_that_quotes_what_is_no_utf8_is_written_down(stage, tmp_path):
    """MuPDF does so, of a font whose encoding has a name in some national code page."""
    document = pymupdf.open()
    page = document.new_page()
    font, content = document.get_new_xref(), document.get_new_xref()
    document.update_object(
        font,
        "<</Type/Font/Subtype/Type0/BaseFont/A/Encoding/#e9#e8/DescendantFonts[<</Type/Font"
        "/Subtype/CIDFontType0/BaseFont/A/CIDSystemInfo<</Registry(A)/Ordering(A)/Supplement 0>>>>]>>",
    )
    document.update_object(content, "<<>>")
    document.update_stream(content, b"BT /F 12 Tf ( ) Tj ET", new=True)
    page.set_contents(content)
    document.xref_set_key(page.xref, "Resources", f"<</Font<</F {font} 0 R>>>>")
    document.save(tmp_path / "a.pdf")
    [row] = rows(stage, documents(tmp_path / "a.pdf"))
    assert row["error"]["category"] == "corrupt" and "udce9" in row["error"]["message"]


def test_a_disk_that_fills_up_cuts_no_document_short(stage, tmp_path):
    """A write to it takes what there is room for, and only the next one fails; as with a limit on files."""
    table = documents(photo(tmp_path / "a.png", (500, 500)))
    path = tmp_path / "a.png"
    before, heeded = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size - 1, before[1]))
    try:
        [row] = rows(stage, table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heeded)
    assert (row["error"]["category"], row["error"]["transient"]) == ("storage_unavailable", True)


def test_too_large_an_object_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalStorage, "read", lambda *_, **__: pytest.fail("it was read"))
    stage = Expand(STORAGE, ExpandOptions(), Limits(object_bytes=100), TASKS)
    [row] = rows(stage, documents(photo(tmp_path / "a.png", (500, 500))))
    stage.close()
    assert row["error"]["category"] == "limit"
    assert "limits.object_bytes = 100" in row["error"]["message"]


def test_large_documents_come_in_tables_of_a_few_megabytes(stage, tmp_path):
    tables = list(stage(documents(clip(tmp_path / "a.wav", 400))))
    assert len(tables) > 3
    assert all(table.nbytes < 8 * 1024 * 1024 for table in tables)
    found = [row for table in tables for row in table.to_pylist()]
    check(found)
    assert found[-1]["end_seconds"] == 400


def test_answers_that_are_there_are_handed_on_and_their_parts_not_made(stage, tmp_path):
    path = pdf(tmp_path / "a.pdf", ["a", "b", "c", "d"])
    kept = [["0/ocr", "1/ocr", "1/caption", "3/caption", "3/gone"]]
    found = rows(stage, documents(path, kept=kept))
    check(found)
    assert [row["kept"] for row in found] == [["ocr"], ["ocr", "caption"], None, ["caption"]]
    assert [row["content"] is None for row in found] == [False, True, False, False]
    assert [row["page_text"] for row in found] == ["a", None, "c", "d"]


def test_a_failed_part_settles_what_is_not_kept(stage, tmp_path):
    path = pdf(tmp_path / "a.pdf", ["a", "b"])
    document = pymupdf.open(path)
    document.update_stream(document[1].get_contents()[0], b"no deflate", compress=False)
    document.xref_set_key(document[1].get_contents()[0], "Filter", "/FlateDecode")
    document.save(tmp_path / "b.pdf")
    found = rows(stage, documents(tmp_path / "b.pdf", kept=[["1/ocr"]]))
    check(found)
    assert [(row["part_index"], row["status"], row["settled"], row["task"]) for row in found] == [
        (0, None, 0, None), (1, "error", 1, None), (1, "kept", 1, "ocr"),
    ]  # fmt: skip


def test_the_meter_counts_each_document_once_and_where_the_time_went(tmp_path):
    counted = Counted()
    empty = tmp_path / "c.pdf"
    empty.touch()
    stage = Expand(STORAGE, ExpandOptions(), Limits(), TASKS, meter=counted)
    rows(stage, documents(pdf(tmp_path / "a.pdf", ["x"] * 3), photo(tmp_path / "b.png"), empty))
    stage.close()
    assert counted.counts == [("expand", {"done": 2, "failed": 1, "parts": 4, "crashes": 0})]
    assert counted.states == {"working", "fetching", "handing", "waiting"}


def test_the_recipe_travels_and_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    table = documents(pdf(tmp_path / "a.pdf", ["x"] * 3), photo(tmp_path / "b.png"))
    stage = pickle.loads(pickle.dumps(Expand(STORAGE, ExpandOptions(), Limits(), TASKS)))
    children = psutil.Process().children()
    assert len(rows(stage, table)) == 4
    half = stage(table)
    next(half)
    half.close()
    stage.close()
    stage.close()
    assert set(psutil.Process().children()) <= set(children)  # of others that this process has, one may end
    assert os.listdir(tmp_path / "tmp") == []
    # And it can be used again.
    assert len(rows(stage, table)) == 4
    stage.close()


def test_status_values_are_those_of_the_schema(stage, tmp_path):
    [table] = stage(documents(photo(tmp_path / "a.png")))
    assert table["status"].type == pa.string()
    assert {Status.ERROR, Status.KEPT, Status.FILTERED} == {"error", "kept", "filtered"}
