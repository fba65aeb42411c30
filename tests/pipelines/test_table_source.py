"""Rows of a table as documents: each listed once, by a name that stays, whatever is wrong with it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.incremental import resume
from pipelines.plan import Plan, make_plan
from pipelines.runner import source_of
from pipelines.sources import open_source
from pipelines.sources.table import REFUSED, TableSource
from schemas.errors import AddressRefused, CorruptDocument, JobError
from schemas.ids import document_id
from schemas.job import JobSpec
from schemas.rows import DOCUMENTS
from schemas.selection import Selection
from schemas.storage import StorageOptions
from schemas.tables import TableOptions
from workers.fetch import Fetcher, documents_of
from workers.storage.factory import open_storage
from workers.tables import DataFile
from workers.tables.delta import DeltaSnapshot

OPTIONS = StorageOptions()
FaultJob = Callable[..., JobSpec]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(b"x" * number)
    (tmp_path / "t").mkdir()
    return tmp_path


def put(lake: Path, columns: dict[str, Any], name: str = "p") -> None:
    pq.write_table(pa.table(columns), lake / "t" / f"{name}.parquet", row_group_size=3)


def opened(lake: Path, *, rows: int = 2, include: list[str] | None = None, **table: Any) -> TableSource:
    options = TableOptions.model_validate({"uri": str(lake / "t"), **table})
    source = open_source((), OPTIONS, table=options, rows=rows, include=include or ())
    assert isinstance(source, TableSource)
    return pickle.loads(pickle.dumps(source))


def listed(source: TableSource, owed: pa.Array | None = None) -> list[dict[str, Any]]:
    tables = list(source.documents(owed))
    for table in tables:
        assert table.select(DOCUMENTS.names).schema == DOCUMENTS
        assert len(table) <= source.rows
    found = [row for table in tables for row in table.to_pylist()]
    assert [row["document_id"] for row in found] == [document_id(row["uri"]) for row in found]
    assert len({row["uri"] for row in found}) == len(found)
    return found


def why(row: dict[str, Any]) -> str:
    assert row["version"] == REFUSED
    with pytest.raises(CorruptDocument) as caught:
        open_storage(row["address"], OPTIONS).read(row["address"], version=row["version"])
    return caught.value.message


def test_addresses_without_a_key(lake: Path) -> None:
    uris = [str(lake / name) for name in ("1.png", "2.png", "1.png", "none.png")] + [None]
    put(lake, {"uri": uris, "kind": list("abcde")})
    source = opened(lake)
    one, two, none, null = listed(source)
    assert (one["uri"], one["size"], one["address"]) == (f"file://{lake}/1.png", 1, None)
    assert two["attributes"] == {"uri": str(lake / "2.png"), "kind": "b"}
    assert none["version"] == "", "it is looked up again where it is fetched"
    assert null["uri"].startswith(f"file://{lake}/t#row-")
    assert "row 4 of p.parquet: 'uri' is null" in why(null)
    assert source.duplicates == 1
    assert listed(source) == listed(opened(lake)), "the same at every call"


def test_addresses_with_a_key(lake: Path) -> None:
    put(lake, {"id": [1, 2, 2, None, 5], "at": [str(lake / "1.png")] * 4 + [None]})
    one, two, double, keyless, null = listed(opened(lake, uri_column="at", key="id"))
    where = f"file://{lake}/1.png"
    assert [(row["uri"], row["address"]) for row in (one, two)] == [
        (f"{where}#id=1", where),
        (f"{where}#id=2", where),
    ]
    assert double["uri"].startswith(f"file://{lake}/t#id=2#row-")
    assert "another row has its key, id=2" in why(double)
    assert "its key is null (id)" in why(keyless)
    assert null["uri"] == f"file://{lake}/t#id=5" and "'at' is null" in why(null)


def test_a_row_without_a_name_goes_by_what_it_says_wherever_it_lies(lake: Path) -> None:
    uri = str(lake / "1.png")
    put(lake, {"id": [1, None, None, 1], "uri": [uri] * 4, "kind": ["a", "b", "b", "c"]})
    before = [row["uri"] for row in listed(opened(lake, key="id"))]
    assert len(set(before)) == 4, "two that say the same are two"
    (lake / "t" / "p.parquet").unlink()
    put(lake, {"id": [5, 1, None, None, 1], "uri": [uri] * 5, "kind": ["e", "a", "b", "b", "c"]}, "q")
    after = [row["uri"] for row in listed(opened(lake, key="id"))]
    assert after[1:] == before


def test_documents_in_the_table_are_read_where_they_lie(lake: Path) -> None:
    bodies = [b"one", None, b"three", b"", b"five" * 1000]
    put(lake, {"id": [1, 2, 3, 4, 5], "kind": list("ababb"), "body": bodies})
    found = listed(opened(lake, bytes_column="body", key="id"))
    assert [row["uri"].rpartition("#")[2] for row in found] == [f"id={n}" for n in range(1, 6)]
    for row, body in zip(found, bodies, strict=True):
        if body is not None:
            content = open_storage(row["address"], OPTIONS).read(row["address"], version=row["version"])
            assert (content, row["size"]) == (body, len(body))
    assert "'body' is null" in why(found[1])
    assert "body" not in found[0]["attributes"]
    filtered = listed(opened(lake, bytes_column="body", key="id", filter="kind = 'b' AND id > 2"))
    assert filtered == [row for row in found if row["attributes"]["id"] in (4, 5)]
    there = listed(opened(lake, bytes_column="body", key="id", filter="body IS NOT NULL AND id > 1"))
    assert there == [row for row in found if row["attributes"]["id"] in (3, 4, 5)]


def test_a_column_of_addresses_cannot_name_a_row(lake: Path) -> None:
    put(lake, {"id": [1], "uri": ["row://parquet?file=file:///etc/x.parquet&row=0&column=c"]})
    for key in ([], ["id"]):
        source = opened(lake, key=key)
        [table] = source.documents()
        [document] = documents_of(table)
        assert document.version == ""
        fetcher = Fetcher(OPTIONS, source_limits(), lambda sniffed: True)
        [fetched] = fetcher.stream([document])
        fetcher.close()
        assert isinstance(fetched.fault, AddressRefused)


def source_limits() -> Any:
    from schemas.limits import Limits

    return Limits()


def test_what_is_asked_for_is_all_that_is_listed(lake: Path) -> None:
    put(lake, {"uri": [str(lake / f"{n}.png") for n in range(6)], "n": list(range(6)), "rest": [1] * 6})
    found = listed(opened(lake, filter="n >= 2", columns=["n"], include=["/**/[2-4].png"]))
    assert [row["attributes"] for row in found] == [{"n": n} for n in (2, 3, 4)]
    options = TableOptions(uri=str(lake / "t"))
    limited = open_source((), OPTIONS, table=options, limit=3, rows=2)
    assert [len(table) for table in limited.documents()] == [2, 1]


@pytest.mark.parametrize(
    ("table", "key", "told"),
    [
        ({"uri_column": "url"}, "table.uri_column", "did you mean 'uri'"),
        ({"uri_column": "id"}, "table.uri_column", "int64"),
        ({"bytes_column": "uri", "key": "id"}, "table.bytes_column", "string"),
        ({"key": "idd"}, "table.key", "did you mean 'id'"),
        ({"key": "tags"}, "table.key", "list"),
        ({"columns": ["no"]}, "table.columns", "its columns: id, uri, tags"),
        ({"filter": "yr > 1"}, "table.filter", "'yr'"),
        ({"version": "1"}, "table.version", "keeps no version"),
        ({"uri": "nowhere"}, "table.uri", "there is no parquet table"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    lake: Path, table: dict[str, Any], key: str, told: str
) -> None:
    put(lake, {"id": [1], "uri": ["a"], "tags": [["x"]]})
    with pytest.raises(JobError) as caught:
        opened(lake, **table)
    assert caught.value.fields["key"] == key
    assert told in caught.value.message


def test_globs_are_about_paths(lake: Path) -> None:
    put(lake, {"id": [1], "body": [b"x"]})
    with pytest.raises(JobError, match=r"use table\.filter"):
        opened(lake, bytes_column="body", key="id", include=["*.png"])


@pytest.fixture
def growing(lake: Path) -> Callable[[int], None]:
    """Appends a file of one row to a Delta table."""
    from deltalake import write_deltalake

    def grow(number: int) -> None:
        rows = pa.table({"id": [number], "uri": [str(lake / f"{number}.png")]})
        write_deltalake(str(lake / "t"), rows, mode="append")

    return grow


def test_only_what_came_since_and_what_is_owed(
    lake: Path, growing: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        growing(number)
    source = opened(lake)
    assert source.pinned is not None and source.pinned["format"] == "delta"
    assert len(listed(source)) == 2
    growing(3)
    later = opened(lake)
    later.since = source.pinned["version"]
    read: list[str] = []
    plainly = DeltaSnapshot.read

    def counted(self: DeltaSnapshot, file: DataFile, *how: Any) -> Any:
        read.append(file.path)
        return plainly(self, file, *how)

    monkeypatch.setattr(DeltaSnapshot, "read", counted)
    assert [row["attributes"]["id"] for row in listed(later, pa.array([], pa.string()))] == [3]
    assert len(read) == 1, "files that a run has read are not opened"
    owed = pa.array([document_id(f"file://{lake}/2.png")])
    assert {row["attributes"]["id"] for row in listed(later, owed)} == {2, 3}
    later.since = "99"  # a version that is not kept any more
    assert len(listed(later, owed)) == 3


@pytest.mark.parametrize("kind", ["delta", "iceberg", "lance"])
def test_documents_in_a_table_of_every_format(lake: Path, kind: str) -> None:
    """One file is added after the first snapshot, and one row is gone: places are those of rows that are
    there."""
    rows = pa.table({"id": [1, 2, 3], "body": [b"one", b"two", b"three"]})
    more = pa.table({"id": [4], "body": [b"four"]})
    told: dict[str, Any] = {"bytes_column": "body", "key": "id"}
    if kind == "delta":
        from deltalake import DeltaTable, write_deltalake

        write_deltalake(str(lake / "t"), rows)
        DeltaTable(str(lake / "t")).delete("id = 1")
        before = opened(lake, **told)
        write_deltalake(str(lake / "t"), more, mode="append")
    elif kind == "lance":
        import lance

        lance.write_dataset(rows, str(lake / "t"), mode="overwrite").delete("id = 1")
        before = opened(lake, **told)
        lance.write_dataset(more, str(lake / "t"), mode="append")
    else:
        from pyiceberg.catalog import load_catalog

        catalog = {"type": "sql", "uri": f"sqlite:///{lake}/c.db", "warehouse": str(lake / "warehouse")}
        told |= {"uri": "lake.t", "catalog": catalog}
        load_catalog(**catalog).create_namespace("lake")
        table = load_catalog(**catalog).create_table("lake.t", rows.schema)
        table.append(rows)
        table.delete("id = 1")
        before = opened(lake, **told)
        load_catalog(**catalog).load_table("lake.t").append(more)

    def contents(source: TableSource, owed: pa.Array | None = None) -> dict[int, bytes]:
        return {
            row["attributes"]["id"]: open_storage(row["address"], OPTIONS).read(
                row["address"], version=row["version"]
            )
            for row in listed(source, owed)
        }

    assert contents(before) == {2: b"two", 3: b"three"}
    later = opened(lake, **told)
    assert contents(later) == {2: b"two", 3: b"three", 4: b"four"}
    assert before.pinned is not None
    later.since = before.pinned["version"]
    assert contents(later) == {4: b"four"}
    pinned = opened(lake, **told, version=before.pinned["version"], filter="id <> 2")
    assert contents(pinned) == {3: b"three"}


def test_flags_name_a_table() -> None:
    from pipelines.flags import job_of, settings_of

    flags = {
        "table_": "s3://lake/t",
        "bytes_column": "body",
        "key": ["region", "id"],
        "where": "day = 1",
        "output": "out",
        "task": ["ocr"],
        "schema": None,
        "field": None,
    }
    table = job_of(None, settings_of(flags), None).table
    assert table == TableOptions(
        uri="s3://lake/t", bytes_column="body", key=("region", "id"), filter="day = 1"
    )


def plan_of(job: JobSpec, selection: Selection | None = None) -> tuple[Plan, TableSource]:
    source = source_of(job)
    assert isinstance(source, TableSource)
    return make_plan(job, source.attributes, 0.0, selection), source


def ended(plan: Plan, pinned: dict[str, Any] | None, stopped: str | None = None) -> None:
    """What a run leaves behind that has ended."""
    folder = Path(plan.output.removeprefix("file://")) / "_runs" / plan.run_id
    folder.mkdir(parents=True)
    told = {"source": pinned, "counts": {}, "report": {"stopped": stopped, "unsettled": []}}
    for name, content in told.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_a_run_goes_on_from_the_last_that_did_the_same(
    lake: Path, growing: Callable[[int], None], fault_job: FaultJob
) -> None:
    growing(1)
    table = {"uri": str(lake / "t")}
    job = fault_job(table=table, tasks=["ocr"])
    plan, source = plan_of(job)
    first = resume(plan, source)
    assert first is not None and first["since"] is None
    ended(plan, first)
    growing(2)
    plan, source = plan_of(job)
    assert (resume(plan, source) or {})["since"] == source.since == first["version"]
    others = [
        (fault_job(table=table, tasks=["ocr", "caption"]), None),
        (fault_job(table=table, tasks=["ocr"], include=["*.png"]), None),
        (fault_job(table={**table, "filter": "id > 0"}, tasks=["ocr"]), None),
        (fault_job(table={**table, "key": "id"}, tasks=["ocr"]), None),
        (fault_job(table={**table, "incremental": False}, tasks=["ocr"]), None),
        (fault_job(table=table, tasks=["ocr"], limit=1), None),
        (job, Selection(force=True)),
    ]
    for other, selection in others:
        plan, source = plan_of(other, selection)
        resume(plan, source)
        assert source.since is None, other
    assert resume(plan_of(job)[0], open_source([str(lake)], OPTIONS)) is None


def test_a_run_that_was_stopped_has_not_read_all(
    lake: Path, growing: Callable[[int], None], fault_job: FaultJob
) -> None:
    growing(1)
    job = fault_job(table={"uri": str(lake / "t")}, tasks=["ocr"])
    plan, source = plan_of(job)
    ended(plan, resume(plan, source), stopped="SIGTERM")
    plan, source = plan_of(job)
    resume(plan, source)
    assert source.since is None
