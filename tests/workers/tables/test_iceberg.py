"""Iceberg tables as other engines leave them, and catalogs as they fail."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest

from schemas.errors import JobError, SnapshotGone, StorageUnavailable
from schemas.storage import StorageOptions
from schemas.tables import Place, TableFormat
from tests.workers.tables.lakes import SCHEMA, Lake, lake_of, some
from workers.storage.factory import normalise, open_storage
from workers.tables import KEY, RUN, DataFile, open_table
from workers.tables.iceberg_errors import errors_as_ours

DEAD_PORT_SECRET = "hunter2"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A table to be made, with its catalog in a database."""
    return lake_of("iceberg", normalise(str(tmp_path / "lake")), StorageOptions(), tmp_path / "catalog.db")


def theirs(lake: Lake) -> Any:
    """The table as another engine has it in hand."""
    from pyiceberg.catalog import load_catalog

    return load_catalog("default", **lake.place.catalog).load_table(lake.place.uri)


def made(lake: Lake, *files: pa.Table, schema: pa.Schema = SCHEMA) -> Lake:
    """With a file of each of these rows in it."""
    lake.table.create(schema, {})
    if files:
        assert lake.commit([lake.stage(rows) for rows in files])
    return lake


def test_a_column_that_was_renamed_is_found_in_older_files_and_one_that_was_dropped_is_not(
    lake: Lake,
) -> None:
    made(lake, some(1))
    with theirs(lake).update_schema() as update:
        update.rename_column("key", "id")
        update.delete_column("word")
    with theirs(lake).update_schema() as update:
        from pyiceberg.types import StringType

        update.add_column("word", StringType())
    renamed = pa.table({"id": [2], "word": ["two"]})
    assert lake.commit([lake.stage(renamed)])

    found = sorted(lake.rows(), key=lambda row: int(row["id"]))

    assert found == [{"id": 1, "word": None}, {"id": 2, "word": "two"}]


def test_the_bytes_of_a_row_are_found_under_the_name_that_their_file_has_for_them(lake: Lake) -> None:
    schema = pa.schema([pa.field("key", pa.int64()), pa.field("content", pa.large_binary())])
    made(lake, pa.table({"key": [1, 2], "content": [b"one", b"two"]}, schema=schema), schema=schema)
    with theirs(lake).update_schema() as update:
        update.rename_column("content", "document")
    now = lake.newest
    [file] = now.files()

    address = now.address(file, 1, "document")

    assert open_storage(address, lake.storage).read(address) == b"two"


def test_rows_that_a_delete_file_names_are_not_passed_off_as_there(lake: Lake, tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from pyiceberg.manifest import DataFile as Theirs
    from pyiceberg.manifest import DataFileContent, FileFormat
    from pyiceberg.table import FileScanTask

    made(lake, some(1, 2, 3))
    now = lake.newest
    [file] = now.files()
    rows = pa.table({"file_path": [file.path], "pos": pa.array([1], pa.int64())})
    pq.write_table(rows, tmp_path / "deletes.parquet")
    deletes = Theirs.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=f"file://{tmp_path}/deletes.parquet",
        file_format=FileFormat.PARQUET,
        partition=file.detail.file.partition,
        record_count=1,
        file_size_in_bytes=(tmp_path / "deletes.parquet").stat().st_size,
    )
    merged = DataFile(file.path, 2, file.bytes, FileScanTask(file.detail.file, {deletes}))

    with pytest.raises(JobError, match="rewrite"):
        list(now.read(merged))
    with pytest.raises(JobError, match="rewrite"):
        now.address(merged, 0, "word")


ODD_NAMES = ["a b", "1st", "naïve", "x.y", "a-b", "select", "UPPER"]


def test_columns_may_be_called_anything(lake: Lake) -> None:
    schema = pa.schema([pa.field(name, pa.int64()) for name in ODD_NAMES])
    row = {name: number for number, name in enumerate(ODD_NAMES)}
    made(lake, pa.Table.from_pylist([row], schema=schema), schema=schema)

    assert lake.rows() == [row]
    assert lake.rows(columns=["x.y"]) == [{"x.y": 3}]


@pytest.mark.parametrize(
    ("old", "new"),
    [(pa.int32(), pa.int64()), (pa.float32(), pa.float64()), (pa.int64(), pa.string())],
)
def test_a_type_is_not_even_widened(lake: Lake, old: pa.DataType, new: pa.DataType) -> None:
    made(lake, schema=pa.schema([pa.field("key", old), pa.field("in", pa.struct([pa.field("it", old)]))]))
    before = lake.newest.schema

    for changed in (pa.field("key", new), pa.field("in", pa.struct([pa.field("it", new)]))):
        with pytest.raises(JobError) as told:
            lake.table.evolve(pa.schema([changed]))
        assert changed.name in told.value.message
        assert f"{old}" in told.value.message
        assert f"{new}" in told.value.message

    assert lake.newest.schema == before


def test_a_field_that_was_renamed_within_a_column_does_not_read_as_null(lake: Lake) -> None:
    schema = pa.schema(
        [pa.field("key", pa.int64()), pa.field("said", pa.struct([pa.field("sum", pa.int64())]))]
    )
    made(lake, pa.table({"key": [1], "said": [{"sum": 5}]}, schema=schema), schema=schema)
    with theirs(lake).update_schema() as update:
        update.rename_column(("said", "sum"), "total")

    with pytest.raises(JobError, match="total.*sum"):
        lake.rows()


def test_two_that_add_the_same_column_at_once_both_have_it(lake: Lake) -> None:
    made(lake, some(1))
    ready = Barrier(2)

    def evolve(number: int) -> None:
        ready.wait(30)
        lake.table.evolve(SCHEMA.append(pa.field(f"c{number}", pa.int64())).append(pa.field("c", pa.int64())))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(evolve, range(2)))

    assert set(lake.newest.schema.names) == {"key", "word", "c", "c0", "c1"}


def test_a_commit_whose_answer_gets_lost_is_found_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.exceptions import CommitStateUnknownException

    made(lake)
    commit, reached = SqlCatalog.commit_table, [True, False]

    def lost(*given: Any) -> None:
        if reached.pop(0):
            commit(*given)
        raise CommitStateUnknownException("504")

    monkeypatch.setattr(SqlCatalog, "commit_table", lost)
    first, second = lake.stage(some(1)), lake.stage(some(2))
    assert lake.commit([first], key="first")
    with pytest.raises(StorageUnavailable):
        lake.commit([second], key="second")
    monkeypatch.undo()

    assert lake.keys() == [1]
    assert lake.table.committed("first")
    assert not lake.table.committed("second")
    assert lake.commit([second], key="second")
    assert lake.keys() == [1, 2]


@pytest.mark.parametrize(
    "said", ["word LIKE '%2'", "word LIKE 'word 2%'", "NOT word = 'word 1'", "key = '2'"]
)
def test_a_filter_that_pyiceberg_does_not_know_finds_its_rows(lake: Lake, said: str) -> None:
    made(lake, some(1), some(2))
    now = lake.newest

    found = [
        row["key"] for file in now.files(said) for b in now.read(file, ["key"], said) for row in b.to_pylist()
    ]

    assert found == [2]


def test_a_snapshot_that_expired_is_told_of(lake: Lake) -> None:
    made(lake, some(1))
    old = lake.newest
    assert lake.commit([lake.stage(some(2))])
    theirs(lake).maintenance.expire_snapshots().by_id(int(old.version)).commit()

    with pytest.raises(SnapshotGone, match=old.version):
        lake.table.snapshot(old.version)
    with pytest.raises(SnapshotGone, match=old.version):
        lake.newest.files(since=old.version)
    with pytest.raises(SnapshotGone):
        old.files()


def test_metadata_that_was_cleaned_up_is_told_of(lake: Lake) -> None:
    made(lake, some(1))
    now = lake.newest
    Path(theirs(lake).current_snapshot().manifest_list.removeprefix("file://")).unlink()

    with pytest.raises(SnapshotGone, match="cleaned up"):
        now.files()


def test_a_file_that_was_cleaned_up_is_told_of(lake: Lake) -> None:
    made(lake, some(1))
    now = lake.newest
    [file] = now.files()
    Path(file.path.removeprefix("file://")).unlink()

    with pytest.raises(SnapshotGone, match="cleaned up"):
        list(now.read(file))


def test_a_newer_format_is_read_and_not_written(lake: Lake) -> None:
    made(lake, some(1))
    newer = Path(theirs(lake).metadata_location.removeprefix("file://"))
    told = json.loads(newer.read_text())
    each = {"first-row-id": 0, "added-rows": 1}
    told |= {"format-version": 3, "next-row-id": 1, "snapshots": [one | each for one in told["snapshots"]]}
    newer.write_text(json.dumps(told))

    assert lake.keys() == [1]
    with pytest.raises(JobError, match=r"format version 3.*table\.into"):
        lake.table.evolve(SCHEMA)
    with pytest.raises(JobError, match="Writing V3"), errors_as_ours(lake.place):
        theirs(lake).transaction().set_properties(owner="them").commit_transaction()


def test_a_table_that_was_dropped_is_told_of_in_our_words(lake: Lake) -> None:
    made(lake, some(1))
    now = lake.newest
    staged = lake.stage(some(2))
    from pyiceberg.catalog import load_catalog

    load_catalog("default", **lake.place.catalog).drop_table(lake.place.uri)

    for call in (
        lambda: now.files(),
        lambda: lake.table.commit(now, [staged], [], {KEY: "k", RUN: "r"}),
        lambda: lake.stage(some(3)),
        lambda: lake.table.evolve(SCHEMA),
    ):
        with pytest.raises(JobError, match="no such table"):
            call()
    assert not lake.table.committed("k")
    assert lake.table.snapshot() is None
    assert lake.table.discard("run1") == 0


def test_files_of_partitions_are_written_anew(lake: Lake) -> None:
    from pyiceberg.transforms import BucketTransform, IdentityTransform

    made(lake)
    with theirs(lake).update_spec() as update:
        update.add_field("word", IdentityTransform(), "word")
        update.add_field("key", BucketTransform(4), "bucket")
    one = pa.table({"key": [1, 1], "word": ["a", "a"]}, schema=SCHEMA)

    assert lake.commit([lake.stage(one)])

    assert lake.keys() == [1, 1]
    assert [file.rows for file in lake.newest.files(where="word = 'a'")] == [2]
    assert lake.newest.files(where="word = 'b'") == []
    assert lake.commit([lake.stage(some(7))], lake.newest.files())
    assert lake.keys() == [7]
    with pytest.raises(JobError, match="partition"):
        lake.stage(some(1, 2))


def test_names_without_a_namespace_are_refused(lake: Lake) -> None:
    for name in ("rows", "", ".", "lake.", ".rows"):
        table = open_table(lake.place.model_copy(update={"uri": name}), lake.storage)
        with pytest.raises(JobError, match=r"namespace\.table"):
            table.snapshot()
        with pytest.raises(JobError, match=r"namespace\.table"):
            table.create(SCHEMA, {})


@pytest.fixture
def port() -> Iterator[int]:
    """One at which nobody answers, and that nobody else is given."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@pytest.mark.parametrize(
    ("kind", "uri"),
    [
        ("rest", f"http://user:{DEAD_PORT_SECRET}@127.0.0.1:{{port}}"),
        ("sql", f"sqlite:////nowhere/{DEAD_PORT_SECRET}/catalog.db"),
    ],
)
def test_a_catalog_that_is_down_may_be_up_later(kind: str, uri: str, port: int) -> None:
    catalog = {"type": kind, "uri": uri.format(port=port)}
    table = open_table(Place(format=TableFormat.ICEBERG, uri="lake.rows", catalog=catalog), StorageOptions())

    with pytest.raises(StorageUnavailable, match=r"lake\.rows") as told:
        table.snapshot()

    assert DEAD_PORT_SECRET not in str(told.value)


@pytest.mark.parametrize(
    "catalog",
    [
        {"type": "nonsense"},
        {"type": "sql", "uri": "sqlight:///x"},
        {"type": "sql"},
        {"type": "hive", "uri": "x"},
    ],
    ids=lambda told: "-".join(told.values()),
)
def test_a_catalog_that_there_cannot_be_is_the_jobs_fault(catalog: dict[str, str]) -> None:
    place = Place(format=TableFormat.ICEBERG, uri="lake.rows", catalog=catalog)

    with pytest.raises(JobError, match=r"catalog|CATALOG|Catalog"):
        open_table(place, StorageOptions()).snapshot()


def test_duckdb_sees_each_row_once(lake: Lake) -> None:
    import duckdb

    made(lake, some(1, 2), some(3))
    [first] = [file for file in lake.newest.files() if file.rows == 2]
    assert lake.commit([lake.stage(some(2, 4))], [first])

    rows = theirs(lake).scan().to_arrow()

    assert duckdb.sql("SELECT key, count(*) FROM rows GROUP BY key ORDER BY key").fetchall() == [
        (2, 1),
        (3, 1),
        (4, 1),
    ]
    assert rows.num_rows == 3
