"""`gemstream subtitles`: a file per recording, below the folder that was named and nowhere else."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.subtitles import file_name
from schemas.documents import documents_schema
from schemas.errors import JobError
from schemas.ids import document_id
from tests.workers.documents import NOW, assembled, clip, page
from workers.sinks.parquet import encode

BOTH = {"audio": ("transcribe", "translate"), "page": ("ocr",)}


def output(folder: Path, *files: list[dict[str, Any]]) -> Path:
    (folder / "documents").mkdir(parents=True)
    for number, rows in enumerate(files):
        table = pa.Table.from_pylist(rows, documents_schema(None))
        (folder / "documents" / f"part-{number}.parquet").write_bytes(encode(table))
    return folder


def subtitles(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["subtitles", *map(str, arguments)], catch_exceptions=False)


def test_each_recording_gets_a_file_of_its_own(tmp_path: Path) -> None:
    uris = ("s3://lake/a/talk.mp3", "s3://lake/b/talk.mp3")
    said = [clip(0, 0, uri, total=1, uri=uri, document_id=document_id(uri)) for uri in uris]
    rows = assembled({"transcribe": said, "ocr": [page(9, 0, total=1)]}, tasks=BOTH)
    done = subtitles(output(tmp_path / "out", rows), "--to", tmp_path / "to", "--format", "vtt")
    assert (done.exit_code, done.stdout) == (0, f"2 files under {tmp_path / 'to'}\n")
    written = {file.name: file.read_text() for file in (tmp_path / "to").iterdir()}
    start = "WEBVTT\n\n00:00:00.000 --> 00:00:09.500\n"
    assert written == {f"talk.mp3-{document_id(uri)[:8]}.vtt": f"{start}{uri}\n" for uri in uris}


def test_the_latest_row_of_a_document_counts_in_whatever_order(tmp_path: Path) -> None:
    old = assembled({"transcribe": [clip(1, 0, "old", total=1)]})
    new = assembled({"transcribe": [clip(1, 0, "new", total=1, answered_at=NOW + timedelta(hours=1))]})
    for order in ((old, new), (new, old)):
        folder = tmp_path / str(order[0] is old)
        subtitles(output(folder / "out", *order), "--to", folder / "to")
        [file] = (folder / "to").iterdir()
        assert file.read_text().endswith("\nnew\n")


def test_of_several_tasks_one_is_named(tmp_path: Path) -> None:
    heard = {name: [clip(1, 0, name, total=1)] for name in BOTH["audio"]}
    made = output(tmp_path / "out", assembled(heard, tasks=BOTH))
    with pytest.raises(JobError, match="--task transcribe"):
        subtitles(made, "--to", tmp_path / "to")
    subtitles(made, "--to", tmp_path / "to", "--task", "translate")
    [file] = (tmp_path / "to").iterdir()
    assert file.read_text().endswith("\ntranslate\n")
    with pytest.raises(JobError, match="one of transcribe, translate"):
        subtitles(made, "--to", tmp_path / "to", "--task", "trancribe")
    assert file.read_text().endswith("\ntranslate\n"), "nor is it made empty"


@given(st.text())
def test_no_address_leads_out_of_the_folder(uri: str) -> None:
    name = file_name(uri, "0123456789abcdef", "srt")
    assert Path(name).name == name and name not in (".", "..") and not name.startswith((".", "-"))
    assert name.endswith("-01234567.srt") and len(name) < 120 and "\0" not in name


def test_two_folders_may_hold_the_same_name() -> None:
    assert file_name("s3://b/../../etc/passwd", "a" * 32, "vtt") == "passwd-aaaaaaaa.vtt"
    assert file_name("s3://b/Besprechung März.mp3", "b" * 32, "srt") == "Besprechung-März.mp3-bbbbbbbb.srt"
