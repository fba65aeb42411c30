"""What rows of a table carry along, as answers have it."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources import open_source
from pipelines.sources.table_columns import attributes_of
from schemas.errors import JobError
from schemas.storage import StorageOptions
from schemas.tables import TableOptions
from workers.sinks.parquet import encode

AT = ("at", pa.timestamp("s"))


def test_what_a_row_carries_is_what_parquet_gives_back(tmp_path: Path) -> None:
    """Or the next run over the table would be refused: its answers have other columns."""
    import lance

    day, at = date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5)
    columns = {
        "uri": [str(tmp_path / "1.png")],
        "at": pa.array([at], pa.timestamp("s")),
        "zoned": pa.array([at.replace(tzinfo=UTC)], pa.timestamp("s", "UTC")),
        "day": pa.array([day], pa.date64()),
        "clock": pa.array([at.time()], pa.time32("s")),
        "inside": pa.array([{"at": at, "days": [day]}], pa.struct([AT, ("days", pa.list_(pa.date64()))])),
        "several": pa.array([[{"at": at}]], pa.list_(pa.struct([AT]))),
        "kept": pa.array([at], pa.timestamp("ns")),
    }
    lance.write_dataset(pa.table(columns), str(tmp_path / "t.lance"))
    source = open_source((), StorageOptions(), table=TableOptions(uri=str(tmp_path / "t.lance")))
    [table] = source.documents()
    assert table.schema.field("attributes").type == source.attributes
    written = pq.read_table(io.BytesIO(encode(table)))
    assert written.schema.field("attributes").type == source.attributes
    told = table["attributes"].to_pylist()[0]
    assert (told["at"], told["day"], told["clock"]) == (at, day, at.time())
    assert told["inside"] == {"at": at, "days": [day]} and told["several"] == [{"at": at}]


def test_a_column_that_answers_cannot_carry_is_told_before_anything_starts(tmp_path: Path) -> None:
    rows = pa.schema([("id", pa.int64()), ("nothing", pa.struct([]))])
    with pytest.raises(JobError, match="no child field") as caught:
        attributes_of(TableOptions(uri="t", uri_column="id"), rows)
    assert caught.value.fields["key"] == "table.columns"
    assert attributes_of(TableOptions(uri="t", columns=["id"]), rows) == pa.struct([("id", pa.int64())])
