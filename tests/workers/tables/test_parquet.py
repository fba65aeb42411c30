"""A folder of Parquet files as a table: all rows that are there, and no more read than is asked for."""

from __future__ import annotations

import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import JobError, SnapshotGone
from schemas.storage import StorageOptions
from schemas.tables import Place, TableFormat
from workers.sinks.parquet import encode
from workers.storage.factory import join, open_storage
from workers.storage.local import LocalStorage
from workers.tables import Snapshot, Table, open_table
from workers.tables.files import read_file

OPTIONS = StorageOptions()


def table_at(folder: Path) -> Table:
    return open_table(Place(format=TableFormat.PARQUET, uri=f"file://{folder}"), OPTIONS)


def opened(folder: Path) -> Snapshot:
    snapshot = table_at(folder).snapshot()
    assert snapshot is not None
    return pickle.loads(pickle.dumps(snapshot))


def write(path: Path, columns: dict[str, Any], group: int = 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group)


def rows(
    snapshot: Snapshot, where: str | None = None, columns: list[str] | None = None
) -> list[dict[str, Any]]:
    batches = [batch for file in snapshot.files(where) for batch in snapshot.read(file, columns, where)]
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.fixture
def years(tmp_path: Path) -> Path:
    for year in (2023, 2024):
        for kind in ("a b", "__HIVE_DEFAULT_PARTITION__"):
            folder = tmp_path / f"year={year}" / f"kind={kind.replace(' ', '%20')}"
            write(folder / "p.parquet", {"id": list(range(year * 10, year * 10 + 9))}, group=3)
    (tmp_path / "_SUCCESS").write_text("")
    write(tmp_path / "_staging" / "half.parquet", {"id": [0]})
    write(tmp_path / ".tmp" / "half.parquet", {"id": [0]})
    return tmp_path


def test_partitions_are_columns_and_what_is_unfinished_is_not_there(years: Path) -> None:
    snapshot = opened(years)
    assert snapshot.schema == pa.schema([("id", pa.int64()), ("year", pa.int64()), ("kind", pa.string())])
    found = rows(snapshot)
    assert len(found) == 36
    assert {(row["year"], row["kind"]) for row in found} == {
        (2023, "a b"), (2023, None), (2024, "a b"), (2024, None)
    }  # fmt: skip
    assert all(row["id"] // 10 == row["year"] for row in found)


@pytest.mark.parametrize(
    ("where", "files", "count"),
    [
        ("year = 2024", 2, 18),
        ("year = 2024 AND kind IS NULL", 1, 9),
        ("kind = 'a b' AND id > 20236", 2, 11),
        ("NOT (year = 2024)", 2, 18),
        ("year = 1999", 0, 0),
    ],
)
def test_a_filter_leaves_files_out_by_their_partition(
    years: Path, where: str, files: int, count: int
) -> None:
    snapshot = opened(years)
    assert len(snapshot.files(where)) == files
    assert len(rows(snapshot, where, ["id"])) == count
    assert rows(snapshot, where)[:1] == [] or set(rows(snapshot, where)[0]) == {"id", "year", "kind"}


def test_row_groups_and_columns_that_are_not_wanted_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    big = [os.urandom(1_000_000) for _ in range(8)]
    write(tmp_path / "p.parquet", {"id": list(range(8)), "body": big}, group=1)
    snapshot, read = opened(tmp_path), [0]
    plainly = LocalStorage.read

    def counted(self: LocalStorage, uri: str, **how: Any) -> bytes:
        content = plainly(self, uri, **how)
        read[0] += len(content)
        return content

    monkeypatch.setattr(LocalStorage, "read", counted)
    assert [row["id"] for row in rows(snapshot, columns=["id"])] == list(range(8))
    assert read[0] < 500_000
    assert rows(snapshot, "id = 5", ["body"]) == [{"body": big[5]}]
    assert 1_000_000 < read[0] < 2_500_000


def test_only_partition_columns_of_a_file(years: Path) -> None:
    assert len(rows(opened(years), columns=["year"])) == 36


def test_files_differ_and_their_rows_are_there(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"n": pa.array([1], pa.int32()), "s": pa.array(["x"]).dictionary_encode()})
    write(tmp_path / "b.parquet", {"s": ["y"]})
    write(tmp_path / "c.parquet", {"n": pa.array([3], pa.int64()), "s": ["z"], "new": [True]})
    assert rows(opened(tmp_path), columns=["n", "s", "new"]) == [
        {"n": 1, "s": "x", "new": None},
        {"n": None, "s": "y", "new": None},
        {"n": 3, "s": "z", "new": True},
    ]
    assert rows(opened(tmp_path), "n > 1", ["s"]) == [{"s": "z"}]


def test_a_filter_finds_what_is_no_number_and_names_with_quotes(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"n": [1, 2], "x": [1.0, float("nan")], 'a "b"': ["it", "is"]})
    assert rows(opened(tmp_path), "x <> 1.0", ["n"]) == [{"n": 2}]
    assert rows(opened(tmp_path), '"a ""b""" = \'is\'', ["n"]) == [{"n": 2}]


def test_types_that_do_not_go_together_are_both_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"n": [1]})
    write(tmp_path / "b.parquet", {"n": ["1"]})
    with pytest.raises(JobError, match=r"int64.*string|string.*int64"):
        table_at(tmp_path).snapshot()
    write(tmp_path / "c.parquet", {"n": [1]})
    with pytest.raises(JobError, match=r"b\.parquet: column 'n' is string, and int64"):
        rows(opened(tmp_path))


def test_what_is_no_parquet_and_what_is_not_there(tmp_path: Path) -> None:
    assert table_at(tmp_path / "nowhere").snapshot() is None
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(JobError, match="is no Parquet file"):
        table_at(tmp_path).snapshot()


def test_a_version_is_what_the_listing_says(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"n": [1]})
    before = opened(tmp_path)
    assert before.files(since=before.version) == []
    assert table_at(tmp_path).snapshot(before.version) is not None
    write(tmp_path / "b.parquet", {"n": [2]})
    now = opened(tmp_path)
    assert now.version != before.version
    with pytest.raises(SnapshotGone):
        now.files(since=before.version)
    with pytest.raises(SnapshotGone):
        table_at(tmp_path).snapshot(before.version)
    write(tmp_path / "a.parquet", {"n": [1, 2, 3]})
    with pytest.raises(SnapshotGone, match="written anew"):
        rows(before)


def test_nothing_is_written_to_it(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="has no commits: name a delta, iceberg or lance table"):
        table_at(tmp_path).create(pa.schema([]), {})
    with pytest.raises(JobError, match="has no commits"):
        table_at(tmp_path).committed("key")


def test_in_a_bucket(object_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    root = object_store.url("parquet-table")
    for day in (1, 2):
        uri = join(root, f"day={day}", "p.parquet")
        open_storage(uri, OPTIONS).publish(uri, encode(pa.table({"n": [day * 10, day * 10 + 1]})))
    snapshot = open_table(Place(format=TableFormat.PARQUET, uri=root), OPTIONS).snapshot()
    assert snapshot is not None
    assert rows(snapshot, "day = 2 AND n > 20") == [{"n": 21, "day": 2}]


def test_a_damaged_page_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": list(range(1000))}), path, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:64] = b"\xff" * 60
    path.write_bytes(content)
    there = opened(tmp_path)
    with pytest.raises(JobError, match=r"a\.parquet cannot be read as Parquet"):
        list(there.read(there.files()[0]))
    with pytest.raises(JobError, match=r"a\.parquet does not hold"):
        list(read_file(f"file://{path}", OPTIONS, there.schema))


def test_times_of_twelve_bytes_are_what_they_were(tmp_path: Path) -> None:
    far = datetime(9999, 12, 31)
    pq.write_table(
        pa.table({"until": [far, None]}), tmp_path / "a.parquet", use_deprecated_int96_timestamps=True
    )

    assert rows(opened(tmp_path)) == [{"until": far}, {"until": None}]
    assert rows(opened(tmp_path), "until > TIMESTAMP '2024-01-01 00:00:00'") == [{"until": far}]
