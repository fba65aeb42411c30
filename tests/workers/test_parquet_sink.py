"""Outcomes in, files out: each row in one file, each file named by its rows, each task of one schema."""

from __future__ import annotations

import io
import json
import pickle
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import JobError
from schemas.rows import ERRORS, Status, outcomes_schema, records_schema, with_attributes
from schemas.storage import StorageOptions
from tests.workers.places import Place, place
from workers.sinks import ReceiptKind
from workers.sinks.parquet import FILTERED, METADATA_KEY, ParquetSink
from workers.storage.factory import join

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workers.sinks import Receipt
    from workers.storage import Storage

__all__ = ["place"]

INVOICE = pa.struct([("total", pa.float64()), ("lines", pa.list_(pa.struct([("item", pa.string())])))])
DATA = {"extract": INVOICE}
ATTRIBUTES = pa.struct([("customer", pa.string()), ("priority", pa.int32())])
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FAILURE = {"stage": "expand", "category": "corrupt", "message": "no page tree", "transient": False}


def row(document: int, part: int | None = 0, task: str | None = "ocr", **values: Any) -> dict[str, Any]:
    """One outcome, a record unless it says otherwise."""
    return {
        "document_id": f"{document:032x}",
        "uri": f"s3://lake/{document}.pdf",
        "version": "v1",
        "media_type": "application/pdf",
        "part_index": part,
        "parts_total": 3,
        "status": Status.RECORD.value,
        "expected": 3,
        "settled": 1,
        "task": task,
        "fingerprint": "f" * 32,
        "text": f"page {part} of {document}",
        "run_id": "run-1",
        "answered_at": NOW,
    } | values


def failed(document: int, **values: Any) -> dict[str, Any]:
    """A document that failed as a whole."""
    nothing = {"fingerprint": None, "text": None}
    return row(document, None, None, **nothing | {"status": Status.ERROR.value, "error": FAILURE} | values)


def filtered(document: int) -> dict[str, Any]:
    """A document that nothing asks about."""
    reason = {"stage": "sniff", "category": "not_asked", "message": "no task reads it", "transient": False}
    return row(document, None, None, status=Status.FILTERED.value, error=reason, media_type="text/csv")


def outcomes(rows: Sequence[dict[str, Any]], attributes: pa.DataType | None = None) -> pa.Table:
    """The table as it leaves the engines."""
    return pa.Table.from_pylist(list(rows), schema=outcomes_schema(DATA, attributes))


def sink(
    output: str,
    options: StorageOptions | None = None,
    attributes: pa.DataType | None = None,
    run_id: str = "run-1",
) -> ParquetSink:
    """A sink of a job with one typed task."""
    return ParquetSink(output, options or StorageOptions(), DATA, attributes, run_id, {"fingerprint": "abc"})


def load(storage: Storage, receipt: Receipt) -> pq.ParquetFile:
    """The file that a receipt names."""
    content = storage.read(receipt.uri)
    assert len(content) == receipt.bytes
    return pq.ParquetFile(io.BytesIO(content))


def test_each_status_and_task_has_its_place(place: Place) -> None:
    rows = [
        row(2, 1),
        row(1, 1),
        row(1, 0),
        row(1, 0, "extract", **{"data:extract": {"total": 9.5, "lines": [{"item": "tea"}]}}),
        failed(3),
        filtered(4),
        row(5, status=Status.KEPT.value),
    ]
    receipts = sink(place.root, place.options).write(outcomes(rows))
    placed = {(receipt.kind, receipt.task): receipt for receipt in receipts}
    assert {key: receipt.rows for key, receipt in placed.items()} == {
        (ReceiptKind.RECORDS, "ocr"): 3,
        (ReceiptKind.RECORDS, "extract"): 1,
        (ReceiptKind.ERRORS, None): 1,
        (ReceiptKind.FILTERED, None): 1,
    }
    folders = [receipt.uri.removeprefix(place.root + "/").rpartition("/")[0] for receipt in receipts]
    assert sorted(folders) == ["_runs/run-1/filtered", "errors", "records/task=extract", "records/task=ocr"]
    assert sorted(receipt.uri for receipt in receipts) == [
        info.uri for info in sorted(place.storage.list(place.root), key=lambda info: info.uri)
    ]

    ocr = load(place.storage, placed[ReceiptKind.RECORDS, "ocr"]).read()
    assert [(r["uri"], r["part_index"], r["text"]) for r in ocr.to_pylist()] == [
        ("s3://lake/1.pdf", 0, "page 0 of 1"),
        ("s3://lake/1.pdf", 1, "page 1 of 1"),
        ("s3://lake/2.pdf", 1, "page 1 of 2"),
    ]
    [extract] = load(place.storage, placed[ReceiptKind.RECORDS, "extract"]).read().to_pylist()
    assert extract["data"] == {"total": 9.5, "lines": [{"item": "tea"}]}
    [error] = load(place.storage, placed[ReceiptKind.ERRORS, None]).read().to_pylist()
    assert {name: error[name] for name in FAILURE} == FAILURE
    [passed] = load(place.storage, placed[ReceiptKind.FILTERED, None]).read().to_pylist()
    assert passed == {
        "document_id": f"{4:032x}",
        "uri": "s3://lake/4.pdf",
        "version": "v1",
        "media_type": "text/csv",
        "reason": "not_asked",
        "message": "no task reads it",
    }


def test_the_same_rows_again_replace_themselves(place: Place) -> None:
    rows = [row(document, part) for document in range(4) for part in range(3)] + [failed(9), filtered(10)]
    first = sink(place.root, place.options).write(outcomes(rows))
    again = sink(place.root, place.options).write(outcomes(rows[::-1]))
    assert again == first
    assert len(place.names()) == len(first)
    other = sink(place.root, place.options).write(outcomes(rows[1:]))
    assert other[0].uri != first[0].uri


def test_each_run_keeps_its_own_errors(tmp_path: Path) -> None:
    first = sink(str(tmp_path)).write(outcomes([failed(1)]))
    second = sink(str(tmp_path), run_id="run-2").write(outcomes([failed(1, run_id="run-2")]))
    assert first[0].uri != second[0].uri


@pytest.mark.parametrize("attributes", [None, ATTRIBUTES])
def test_all_files_of_a_task_share_one_schema(tmp_path: Path, attributes: pa.DataType | None) -> None:
    """Also where a column is all null, or the table came in other types of the same meaning."""
    full = row(1, 0, "extract", confidence=0.5, rotation=90, **{"data:extract": {"total": 1.0, "lines": []}})
    if attributes is not None:
        full["attributes"] = {"customer": "x", "priority": 1}
    bare = row(2, 0, "extract", media_type=None, text=None, run_id=None)
    ours = sink(str(tmp_path), attributes=attributes)
    other_types = outcomes([full | {"document_id": "c"}], attributes)
    position = other_types.schema.get_field_index("uri")
    other_types = other_types.set_column(position, "uri", other_types["uri"].cast(pa.large_string()))
    written = [
        ours.write(table)[0]
        for table in (outcomes([full], attributes), outcomes([bare], attributes), other_types)
    ]
    schemas = [load(ours.storage, receipt).schema_arrow for receipt in written]
    for schema in schemas:
        assert schema.equals(schemas[0], check_metadata=True)
        assert schema.equals(records_schema(INVOICE, attributes), check_metadata=False)
    assert not schemas[0].field("document_id").nullable

    errors = [ours.write(outcomes(rows, attributes))[0] for rows in ([failed(1)], [failed(2, error=None)])]
    for receipt in errors:
        expected = with_attributes(ERRORS, attributes)
        assert load(ours.storage, receipt).schema_arrow.equals(expected, check_metadata=False)
    [passed] = ours.write(outcomes([filtered(1)], attributes))
    assert load(ours.storage, passed).schema_arrow.equals(FILTERED, check_metadata=False)


def test_duckdb_and_pandas_read_the_tree(place: Place, tmp_path: Path) -> None:
    import duckdb
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]

    ours = sink(place.root, place.options, ATTRIBUTES)
    for document in range(3):
        own: dict[str, Any] = {"attributes": {"customer": f"c{document}", "priority": document}}
        data = {"data:extract": {"total": float(document), "lines": [{"item": "tea"}]}}
        rows = [row(document, **own), row(document, 0, "extract", **own, **data), failed(document + 9)]
        ours.write(outcomes(rows, ATTRIBUTES))
    copy = tmp_path / "copy"
    for name in place.names():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(place.storage.read(join(place.root, name)))

    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT task, count(*), sum(length(text)) FROM read_parquet('{copy}/records/**/*.parquet',"
            " hive_partitioning=true, union_by_name=true) GROUP BY task ORDER BY task"
        ).fetchall()
        assert found == [("extract", 3, 33), ("ocr", 3, 33)]
        found = connection.execute(
            f"SELECT data.total, data.lines[1].item, attributes.customer FROM "
            f"read_parquet('{copy}/records/task=extract/*.parquet') WHERE part_index = 0 ORDER BY 1"
        ).fetchall()
        assert found == [(0.0, "tea", "c0"), (1.0, "tea", "c1"), (2.0, "tea", "c2")]
        errors = connection.execute(f"SELECT category FROM '{copy}/errors/*.parquet'").fetchall()
        assert errors == [("corrupt",)] * 3

    frame = pd.read_parquet(copy / "records" / "task=extract", columns=["uri", "data", "answered_at"])
    assert sorted(value["total"] for value in frame["data"]) == [0.0, 1.0, 2.0]
    assert frame["answered_at"].dt.tz is not None
    assert len(pd.read_parquet(copy / "records" / "task=ocr")) == 3


def test_files_say_what_job_made_them_and_are_cheap_to_read_by_key(tmp_path: Path) -> None:
    ours = sink(str(tmp_path))
    [receipt] = ours.write(outcomes([row(document, text="long " * 200) for document in range(5_000)]))
    metadata = load(ours.storage, receipt).metadata
    assert json.loads(metadata.metadata[METADATA_KEY]) == {"fingerprint": "abc"}
    chunks = [metadata.row_group(0).column(index) for index in range(metadata.num_columns)]
    columns = {chunk.path_in_schema: chunk for chunk in chunks}
    assert {chunk.compression for chunk in chunks} == {"ZSTD"}
    for name in ("document_id", "version", "part_index", "fingerprint"):
        assert columns[name].statistics.has_min_max
        assert columns[name].has_offset_index
    assert not columns["text"].is_stats_set


def test_row_groups_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.sinks.parquet.GROUP_BYTES", 2_000_000)
    ours = sink(str(tmp_path))
    [receipt] = ours.write(outcomes([row(document, text="x" * 1_000) for document in range(5_000)]))
    metadata = load(ours.storage, receipt).metadata
    assert 1_000 <= metadata.row_group(0).num_rows < 2_000


def test_a_sink_travels_to_where_it_writes(place: Place) -> None:
    ours = sink(place.root, place.options, ATTRIBUTES)
    ours.write(outcomes([row(1)], ATTRIBUTES))
    [receipt] = pickle.loads(pickle.dumps(ours)).write(outcomes([row(2)], ATTRIBUTES))
    assert len(place.names()) == 2
    assert pickle.loads(pickle.dumps(receipt)) == receipt


def test_nothing_to_write_writes_nothing(tmp_path: Path) -> None:
    for rows in ([], [row(1, status=Status.KEPT.value)]):
        assert sink(str(tmp_path / "out")).write(outcomes(rows)) == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["a/b", "..", "", "a b", "x=y", "Übersetzung"])
def test_a_task_that_cannot_name_a_folder_is_refused(tmp_path: Path, task: str) -> None:
    with pytest.raises(JobError, match="cannot name a folder"):
        ParquetSink(str(tmp_path), StorageOptions(), {task: INVOICE}, None, "r", {})
    with pytest.raises(JobError, match="cannot name a folder"):
        sink(str(tmp_path)).write(outcomes([row(1, task=task)]))


def test_a_record_without_a_task_is_a_fault_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a task"):
        sink(str(tmp_path)).write(outcomes([row(1, task=None)]))


def an_outcome(document: int, part: int, task: str, status: str) -> dict[str, Any]:
    """A row of any status; one kind of error is of a whole document."""
    if status == Status.ERROR and task == "ocr":
        return failed(document)
    return row(document, part, task, status=status, error=None if status == Status.RECORD else FAILURE)


OUTCOME = st.builds(
    an_outcome,
    st.integers(0, 30),
    st.integers(0, 3),
    st.sampled_from(["ocr", "extract", "caption"]),
    st.sampled_from([status.value for status in Status]),
)


def key(found: dict[str, Any], kind: str, task: str | None) -> tuple[Any, ...]:
    """What tells outcomes apart here."""
    return (kind, found["document_id"], found["part_index"], task)


def identity(made: dict[str, Any]) -> tuple[Any, ...]:
    """The same of a row that was made."""
    return key(made, made["status"], made["task"])


@settings(deadline=None, max_examples=30)
@given(
    st.lists(OUTCOME, max_size=25, unique_by=lambda made: key(made, made["status"], made["task"])),
    st.integers(1, 4),
)
def test_every_row_is_in_exactly_one_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], batches: int
) -> None:
    """What is a record or an error is written once, and writing it again changes nothing."""
    output = tmp_path_factory.mktemp("law")
    ours = sink(str(output))
    for share in [rows[start::batches] for start in range(batches)] * 2:
        ours.write(outcomes(share))
    expected = Counter(
        key(made, made["status"], made["task"]) for made in rows if made["status"] in ("record", "error")
    )
    found = Counter(
        key(read, "record", file.parent.name.removeprefix("task="))
        for file in output.glob("records/*/*.parquet")
        for read in pq.ParquetFile(file).read().to_pylist()
    )
    for file in output.glob("errors/*.parquet"):
        found.update(key(read, "error", read["task"]) for read in pq.ParquetFile(file).read().to_pylist())
    assert found == expected
