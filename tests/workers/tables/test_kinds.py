"""Types of columns that are carried into a table: each format has one for its values, or they are refused."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from schemas.errors import JobError
from tests.workers.tables.lakes import Lake, near
from workers.tables.shapes import evolved

__all__ = ["near"]

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901)
KINDS: dict[pa.DataType, Any] = {
    pa.uint8(): 200,
    pa.uint32(): 2**32 - 1,
    pa.uint64(): 2**64 - 1,
    pa.float16(): 0.5,
    pa.decimal32(5, 2): Decimal("1.50"),
    pa.decimal256(30, 2): Decimal("-1.50"),
    pa.date64(): date(2026, 1, 2),
    pa.timestamp("s"): WHEN.replace(microsecond=0),
    pa.timestamp("ns"): WHEN,
    pa.timestamp("ns", "Europe/Berlin"): WHEN.replace(tzinfo=UTC),
    pa.binary(16): bytes(range(16)),
    pa.uuid(): uuid.UUID(bytes=bytes(range(16))),
    pa.list_(pa.int32(), 2): [1, 2],
    pa.large_list(pa.uint16()): [1, None],
    pa.dictionary(pa.int32(), pa.string()): "word",
    pa.map_(pa.string(), pa.timestamp("ns")): [("a", WHEN)],
}
NAMES = [f"column {number}" for number in range(len(KINDS))]
CARRIED = pa.struct([pa.field(name, kind) for name, kind in zip(NAMES, KINDS, strict=True)])


def test_values_of_types_that_a_format_has_not_are_those_of_one_that_it_has(near: Lake) -> None:
    arrays = [pa.array([value, None], kind) for kind, value in KINDS.items()]
    carried = pa.StructArray.from_arrays(arrays, fields=list(CARRIED))
    rows = pa.table({"key": pa.array([1, 2]), "carried": carried})

    made = near.table.create(rows.schema, {})
    near.table.evolve(rows.schema)
    assert evolved(made.schema, rows.schema, "") == near.newest.schema == made.schema
    assert near.commit([near.stage(rows)])

    values, nothing = (row["carried"] for row in near.rows())
    assert set(nothing.values()) == {None}
    values = {name: getattr(value, "bytes", value) for name, value in values.items()}
    values[NAMES[6]] = date.fromisoformat(str(values[NAMES[6]])[:10])
    expected = {
        name: getattr(value, "bytes", value) for name, value in zip(NAMES, KINDS.values(), strict=True)
    }
    assert values == expected


HAS_NOT: dict[str, list[pa.DataType]] = {
    "delta": [pa.time64("us"), pa.duration("s"), pa.decimal256(50, 2)],
    "iceberg": [pa.null(), pa.duration("s"), pa.decimal256(50, 2)],
    "lance": [pa.list_view(pa.int32()), pa.month_day_nano_interval()],
}


def test_a_type_that_a_format_has_nothing_for_is_refused_by_its_column(near: Lake) -> None:
    for kind in HAS_NOT[near.place.format.value]:
        schema = pa.schema([pa.field("carried", pa.struct([pa.field("odd", kind)]))])
        for ask in (near.table.fitted, lambda schema: near.table.create(schema, {})):
            with pytest.raises(JobError, match=r"column carried\.odd is .* has no type") as told:
                ask(schema)
            assert told.value.fields["key"] == "sink.kind"
    assert near.table.snapshot() is None
