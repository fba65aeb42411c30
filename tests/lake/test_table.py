"""A table goes in: every row is answered or has its error, once, and a second run does what is new."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.errors import StorageUnavailable
from schemas.job import JobSpec
from schemas.storage import StorageOptions
from tests.fixtures.runs import RunJob
from workers.sinks.reading import read_columns

FaultJob = Callable[..., JobSpec]


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (number * 20 % 256, 40, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(output: str, folder: str, columns: list[str]) -> list[dict[str, Any]]:
    tables = list(read_columns(output, StorageOptions(), folder, columns))
    return pa.concat_tables(tables).to_pylist() if tables else []


def ids(output: str) -> list[int]:
    return sorted(row["attributes"]["id"] for row in rows(output, "records/task=ocr", ["attributes"]))


def test_documents_in_the_table(
    run_job: RunJob, fault_job: FaultJob, ray_cluster: None, tmp_path: Path
) -> None:
    table = tmp_path / "t"
    bodies = [picture(1), picture(2), None, b"no picture", picture(5)]
    (table / "day=1").mkdir(parents=True)
    pq.write_table(pa.table({"id": [1, 2, 3, 4, 1], "body": bodies}), table / "day=1" / "p.parquet")
    job = fault_job(
        table={"uri": str(table), "bytes_column": "body", "key": "id", "filter": "day <= 2"}, tasks=["ocr"]
    )
    report = run_job(job)
    assert (report.counts.listed, report.counts.ok, report.counts.unaccounted) == (5, 2, 0)
    assert ids(report.output) == [1, 2]
    errors = rows(report.output, "errors", ["uri", "message"])
    faults = {row["uri"].rpartition("t#")[2]: row["message"] for row in errors}
    assert report.counts.failed + report.counts.filtered == 3
    assert "'body' is null" in faults["id=3"]
    [double] = [message for name, message in faults.items() if name.startswith("id=1#row-")]
    assert "row 4 of day=1/p.parquet: another row has its key" in double


def test_a_rerun_lists_what_a_delta_table_has_got_since(
    run_job: RunJob, fault_job: FaultJob, ray_cluster: None, tmp_path: Path
) -> None:
    from deltalake import write_deltalake

    table = str(tmp_path / "t")

    def append(*numbers: int) -> None:
        uris = [str(tmp_path / f"{number}.png") for number in numbers]
        write_deltalake(table, pa.table({"id": list(numbers), "at": uris}), mode="append")

    for number in (1, 2, 4):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    append(1, 2)
    append(3)
    job = fault_job(table={"uri": table, "uri_column": "at", "key": "id"}, tasks=["ocr"])
    report = run_job(job)
    assert (report.counts.listed, report.counts.ok, report.counts.failed) == (3, 2, 1)
    append(4)
    (tmp_path / "3.png").write_bytes(picture(3))
    again = run_job(job)
    assert (again.counts.listed, again.counts.ok, again.counts.skipped) == (2, 2, 0), "3 was owed, 4 is new"
    assert ids(again.output) == [1, 2, 3, 4]
    pinned = Path(again.output.removeprefix("file://"), "_runs", again.run_id, "source.json")
    assert json.loads(pinned.read_text())["since"] == "1"


def test_a_row_that_stays_broken_is_one_of_all_and_not_of_the_few_that_are_listed_again(
    run_job: RunJob,
    fault_job: FaultJob,
    ray_cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from deltalake import write_deltalake

    table = str(tmp_path / "t")

    def append(*numbers: int) -> None:
        uris = [str(tmp_path / f"{number}.png") for number in numbers]
        write_deltalake(table, pa.table({"id": list(numbers), "at": uris}), mode="append")

    good = range(1, 21)
    for number in (*good, 22):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    append(*good, 21)
    job = fault_job(table={"uri": table, "uri_column": "at", "key": "id"}, tasks=["ocr"], limits={})
    report = run_job(job)
    assert (report.counts.ok, report.counts.failed, report.exit_code) == (20, 1, 0)
    # From the first document on, and not from the hundredth, a run may stop in its middle.
    monkeypatch.setattr("pipelines.stream.JUDGED", 1)
    report = run_job(job)
    assert (report.counts.listed, report.counts.failed, report.counts.skipped) == (1, 1, 0)
    assert (report.stopped, report.exit_code) == (None, 0) and report.failed_share == 1 / 21
    append(22)
    report = run_job(job)
    assert (report.counts.listed, report.counts.ok, report.counts.failed, report.exit_code) == (2, 1, 1, 0)
    assert ids(report.output) == [*good, 22]
    append(23, 24, 25)
    assert run_job(job).exit_code == 3, "4 of 25"


def test_a_document_whose_run_ended_before_its_row_was_made_gets_it_with_the_next(
    run_job: RunJob,
    fault_job: FaultJob,
    ray_cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It owes no answer any more, and lies in a file that an earlier run has read to its end."""
    from deltalake import write_deltalake

    table = str(tmp_path / "t")
    write_deltalake(table, pa.table({"id": [1, 2], "at": [str(tmp_path / f"{n}.png") for n in (1, 2)]}))
    (tmp_path / "1.png").write_bytes(picture(1))
    told = {"uri": table, "uri_column": "at", "key": "id"}
    job = fault_job(table=told, tasks=["ocr"])
    assert run_job(job).counts.failed == 1
    (tmp_path / "2.png").write_bytes(picture(2))

    def ended(*_: object) -> None:
        raise StorageUnavailable("away")

    with monkeypatch.context() as patched, pytest.raises(StorageUnavailable):
        patched.setattr("pipelines.settle.assemble", ended)
        run_job(job)
    report = run_job(job)
    assert (report.counts.listed, report.counts.skipped) == (1, 1), "nothing is asked"
    found = rows(report.output, "documents", ["uri", "status"])
    assert [row["status"] for row in found] == ["ok", "ok"]

    both = fault_job(table=told, tasks=["ocr", "caption"])
    run_job(both)
    run_job(job)
    assert run_job(both).counts.listed == 2, "rows are of one task since, and are to be of both"
    assert {row["answers"] for row in rows(report.output, "documents", ["answers"])} == {2}
    assert run_job(both).counts.listed == 0
