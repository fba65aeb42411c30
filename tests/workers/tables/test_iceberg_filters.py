"""Which files of an Iceberg table a filter leaves out, and columns that files of Hive have in their paths."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.storage import StorageOptions
from tests.workers.tables.lakes import lake_of
from workers.storage.factory import normalise
from workers.tables.files import read_file

if TYPE_CHECKING:
    from tests.workers.tables.lakes import Lake

SCHEMA = pa.schema([pa.field("key", pa.int64()), pa.field("word", pa.string()), pa.field("f", pa.float32())])
WORDS = ["a_b", "acb", "a", "a\\b", "a%b", "it's"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    root = normalise(str(tmp_path / "lake"))
    return lake_of("iceberg", root, StorageOptions(), tmp_path / "catalog.db")


def found(lake: Lake, where: str) -> list[int]:
    now = lake.newest
    return sorted(
        row["key"]
        for file in now.files(where=where)
        for batch in now.read(file, ["key"], where)
        for row in batch.to_pylist()
    )


def test_a_filter_leaves_out_no_file_that_pyiceberg_would_by_other_rules_than_sqls(lake: Lake) -> None:
    lake.table.create(SCHEMA, {})
    rows = [{"key": key, "word": word, "f": 0.1 if key % 2 else 1.0} for key, word in enumerate(WORDS)]
    table = pa.Table.from_pylist(rows, SCHEMA)
    assert lake.commit([lake.stage(table.slice(place, 1)) for place in range(len(rows))])

    for where, keys in (
        ("word LIKE 'a_b'", [0, 1, 3, 4]),
        ("word LIKE 'ac_%'", [1]),
        ("NOT (word NOT LIKE 'a_b')", [0, 1, 3, 4]),
        (r"word LIKE 'a\%'", [3]),
        (r"word = 'a\b'", [3]),
        ("word LIKE 'it%'", [5]),
        ("f <= 0.1", [1, 3, 5]),
    ):
        assert found(lake, where) == keys, where
    assert len(lake.newest.files(where="word LIKE 'it%'")) == 1


def test_a_column_that_hive_keeps_in_the_path_is_what_the_manifest_says(lake: Lake, tmp_path: Path) -> None:
    told = [(2023, "a", 19_700), (2024, "b", None)]
    _taken_over(lake, tmp_path, told)
    days = [row["day"] for row in lake.rows()]

    assert [(row["year"], row["kind"]) for row in lake.rows()] == [(2023, "a"), (2024, "b")]
    assert [_number(day) for day in days] == [19_700, None]
    assert lake.rows(columns=["year"]) == [{"year": 2023}, {"year": 2024}]
    assert found(lake, "year >= 2024") == [1]
    assert found(lake, "day IS NOT NULL") == [0]


def _number(day: date | None) -> int | None:
    return None if day is None else pa.scalar(day).cast(pa.int32()).as_py()


def _taken_over(lake: Lake, folder: Path, told: list[tuple[Any, ...]]) -> None:
    """A table of files as Spark's `migrate` leaves them: without the columns of their partitions."""
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.transforms import IdentityTransform
    from pyiceberg.typedef import Record
    from pyiceberg.types import DateType, LongType, NestedField, StringType

    from workers.tables.iceberg import _catalog

    catalog = _catalog(lake.place, lake.storage)
    catalog.create_namespace("lake")
    names = {"year": LongType(), "kind": StringType(), "day": DateType()}
    fields = [NestedField(number, name, kind) for number, (name, kind) in enumerate(names.items(), 2)]
    by = [
        PartitionField(each.field_id, 1000 + each.field_id, IdentityTransform(), each.name) for each in fields
    ]
    schema = Schema(NestedField(1, "key", LongType()), *fields)
    table = catalog.create_table("lake.rows", schema, partition_spec=PartitionSpec(*by))
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as change:
        for key, values in enumerate(told):
            path = folder / f"{key}.parquet"
            pq.write_table(pa.table({"key": [key]}), path)
            change.append_data_file(
                DataFile.from_args(
                    content=DataFileContent.DATA,
                    file_path=f"file://{path}",
                    file_format=FileFormat.PARQUET,
                    partition=Record(*values),
                    file_size_in_bytes=path.stat().st_size,
                    record_count=1,
                    spec_id=table.spec().spec_id,
                )
            )


def test_times_of_twelve_bytes_are_what_they_were(tmp_path: Path) -> None:
    far = datetime(9999, 12, 31, tzinfo=UTC)
    schema = pa.schema([pa.field("key", pa.int64()), pa.field("until", pa.timestamp("us", "UTC"))])
    rows = pa.Table.from_pylist([{"key": 1, "until": far}], schema)
    pq.write_table(rows, tmp_path / "spark.parquet", use_deprecated_int96_timestamps=True)

    [batch] = read_file(normalise(str(tmp_path / "spark.parquet")), StorageOptions(), schema)

    assert batch.to_pylist() == rows.to_pylist()
