"""Which files of a Delta table a filter leaves out: none that it holds in, whatever the log tells of them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from schemas.storage import StorageOptions
from schemas.tables import Place, TableFormat
from tests.workers.tables.lakes import Lake
from workers.storage.factory import normalise
from workers.tables.delta_files import LAST

LONG = "z" * 100
SCHEMA = pa.schema(
    [
        pa.field("key", pa.int64()),
        pa.field("d", pa.date32()),
        pa.field("t", pa.timestamp("us")),
        pa.field("tz", pa.timestamp("us", "UTC")),
        pa.field("p", pa.decimal128(9, 2)),
        pa.field("wide", pa.decimal128(30, 2)),
        pa.field("x", pa.float64()),
        pa.field("b", pa.bool_()),
        pa.field("s", pa.string()),
    ]
)
VALUES: list[Any] = [
    *(date(2024, 1, 5), datetime(2024, 1, 5, 12, 0, 0, 1500), datetime(2024, 1, 5, 12, 0, 0, 1500, UTC)),
    *(Decimal("1.50"), Decimal("1234567890123456789.50"), 1.5, True, LONG),
]
ROWS = [
    {"key": 0},
    dict(zip(SCHEMA.names, [1, *VALUES], strict=True)),
    dict(zip(SCHEMA.names, [2, date(9999, 12, 31), *VALUES[1:5], float("nan"), False, "a"], strict=True)),
]
FILTERS = [
    ("d >= DATE '2024-01-04'", [1, 2]),
    ("t >= '2024-01-05 12:00:00.0015'", [1, 2]),
    ("tz = '2024-01-05 12:00:00.0015'", [1, 2]),
    ("p = 1.5", [1, 2]),
    ("wide > 5", [1, 2]),
    ("x = 1.5", [1]),
    ("x <> 1.5", [2]),
    ("b", [1]),
    ("s > 'b'", [1]),
    (f"s = '{LONG}'", [1]),
    ("s IS NULL", [0]),
    ("d IS NOT NULL AND key < 2", [1]),
    ("d < DATE '2024-01-04'", []),
]


def lake_at(folder: Path) -> Lake:
    uri = normalise(str(folder / "rows"))
    return Lake(Place(format=TableFormat.DELTA, uri=uri), StorageOptions(), uri)


def found(lake: Lake, where: str) -> list[int]:
    now = lake.newest
    return sorted(
        row["key"]
        for file in now.files(where=where)
        for batch in now.read(file, ["key"], where)
        for row in batch.to_pylist()
    )


@pytest.fixture(scope="module", params=["each", "together", "delta-rs", "by date"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    import deltalake

    lake = lake_at(tmp_path_factory.mktemp("delta"))
    rows = pa.Table.from_pylist(ROWS, SCHEMA)
    files = [rows] if request.param == "together" else [rows.slice(place, 1) for place in range(len(rows))]
    if request.param in ("each", "together"):
        lake.table.create(SCHEMA, {})
        assert lake.commit([lake.stage(file) for file in files])
    else:
        by = ["d", "b"] if request.param == "by date" else None
        for file in files:
            deltalake.write_deltalake(
                lake.place.uri.removeprefix("file://"), file, mode="append", partition_by=by
            )
    return lake


@pytest.mark.parametrize(("where", "keys"), FILTERS)
def test_a_filter_finds_its_rows_by_what_the_log_tells(filled: Lake, where: str, keys: list[int]) -> None:
    assert found(filled, where) == keys


def test_files_that_hold_nothing_of_it_are_left_out(tmp_path: Path) -> None:
    lake, rows = lake_at(tmp_path), pa.Table.from_pylist(ROWS, SCHEMA)
    lake.table.create(SCHEMA, {})
    assert lake.commit([lake.stage(rows.slice(place, 1)) for place in range(len(rows))])

    for where, count in (("d > '2025-01-01'", 1), ("s = 'b'", 0), ("d IS NULL", 1), ("tz > '2025-01-01'", 0)):
        assert len(lake.newest.files(where=where)) == count, where


def test_readers_by_the_dataset_of_delta_rs_find_what_is_written(tmp_path: Path) -> None:
    import deltalake

    lake = lake_at(tmp_path)
    lake.table.create(SCHEMA, {})
    assert lake.commit([lake.stage(pa.Table.from_pylist(ROWS[1:2], SCHEMA))])

    dataset = deltalake.DeltaTable(lake.place.uri.removeprefix("file://")).to_pyarrow_dataset()
    for name in ("d", "t", "tz", "p", "x", "b", "s"):
        value = pa.scalar(ROWS[1][name], SCHEMA.field(name).type)
        assert dataset.to_table(filter=pc.field(name) == value).num_rows == 1, name


def test_the_end_of_a_long_text_is_above_all_that_begin_so(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.table.create(SCHEMA, {})
    texts = ["é" * 64 + LAST + "b", "é" * 64 + LAST * 2 + "c"]
    rows = [{"key": key, "s": text} for key, text in enumerate(texts)]
    assert lake.commit([lake.stage(pa.Table.from_pylist(rows, SCHEMA))])

    for key, text in enumerate(texts):
        assert found(lake, f"s = '{text}'") == [key]
    [log] = [line for line in _log(tmp_path) if "add" in line]
    assert json.loads(log["add"]["stats"])["maxValues"]["s"] >= texts[1]


def _log(folder: Path) -> list[dict[str, Any]]:
    newest = max((folder / "rows" / "_delta_log").glob("*.json"))
    return [json.loads(line) for line in newest.read_text().splitlines()]
