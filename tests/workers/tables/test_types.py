"""Columns that a table carries along, of types that another format has not."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from schemas.errors import JobError
from tests.workers.tables.lakes import Lake, near
from workers.tables.shapes import evolved

__all__ = ["near"]

DAY = datetime(2024, 1, 1)
NUMBERS: dict[str, Any] = {
    "u8": pa.array([200], pa.uint8()),
    "u32": pa.array([2**32 - 1], pa.uint32()),
    "u64": pa.array([2**64 - 1], pa.uint64()),
    "half": pa.array([1.5], pa.float32()).cast(pa.float16()),
    "s": pa.array([DAY], pa.timestamp("s")),
    "ns": pa.array([DAY], pa.timestamp("ns")),
    "berlin": pa.array([DAY], pa.timestamp("ms", "Europe/Berlin")),
    "day": pa.array([date(2024, 1, 1)], pa.date64()),
    "dictionary": pa.array(["a"]).dictionary_encode(),
    "hash": pa.array([b"ab"], pa.binary(2)),
    "embedding": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
    "deep": pa.array([{"a": [200]}], pa.struct([("a", pa.list_(pa.uint8()))])),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_column_of_another_formats_type_goes_in_and_again(near: Lake, name: str) -> None:
    rows = pa.table({"key": [1], "value": NUMBERS[name]})
    near.table.create(rows.schema, {})

    for _ in range(2):
        evolved(near.newest.schema, rows.schema, "there")
        near.table.evolve(rows.schema)
        assert near.commit([near.stage(rows)])

    [one, other] = near.rows()
    assert one == other
    value = one["value"]
    assert str(value) == str(rows["value"][0].as_py()) or value == rows["value"][0].as_py()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([timedelta(seconds=1)], pa.duration("us")),
        pa.array([Decimal("1.5")], pa.decimal256(50, 2)),
        pa.array([time(1)], pa.time32("s")),
    ],
    ids=["duration", "decimal", "time"],
)
def test_a_column_that_cannot_go_in_is_named(near: Lake, values: Any) -> None:
    rows = pa.table({"key": [1], "value": values})
    try:
        near.table.create(rows.schema, {})
    except JobError as error:
        assert "value" in error.message
        assert "table.columns" in error.message
        return
    assert near.commit([near.stage(rows)])
    near.table.evolve(rows.schema)
    assert near.rows() == rows.to_pylist()
