"""A value of every type: from what a model says to Parquet, and back out through pandas and DuckDB."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import OffSchemaAnswer
from schemas.rows import Shown
from schemas.tasks import make_task
from workers.engines import Response
from workers.sinks.parquet import encode
from workers.validate import validate

LONG = "12345678901234567890123456789.123456789"
MOMENT = datetime(2024, 2, 29, 1, 2, 3, 456_000, tzinfo=UTC)
LINE = {"item": "bolt", "price": Decimal("0.5"), "on": None}
CASES: list[tuple[Any, Any, Any]] = [
    ("text", 'é "\n', 'é "\n'),
    ("integer", -(2**63), -(2**63)),
    ("integer", 2**63 - 1, 2**63 - 1),
    ("number", 1.5e-7, 1.5e-7),
    (
        "decimal",
        "12345678901234567890123456789.123456789",
        Decimal("12345678901234567890123456789.123456789"),
    ),
    ("decimal", "-0.10", Decimal("-0.1")),
    ("date", "2024-02-29", date(2024, 2, 29)),
    ("datetime", "2024-02-29T03:02:03.456+02:00", MOMENT),
    ("boolean", False, False),
    (["invoice", "receipt"], "receipt", "receipt"),
    (["text"], ["a", ""], ["a", ""]),
    (["integer"], [], []),
    ([["date?"]], [["2024-02-29", None]], [[date(2024, 2, 29), None]]),
    ({"name": "text", "born": "date?"}, {"name": "Ada", "born": None}, {"name": "Ada", "born": None}),
    ([{"item": "text", "price": "decimal", "on": "date?"}], [{**LINE, "price": "0.50"}], [LINE]),
]


def told(text: str) -> Response:
    return Response(text, "stop", prompt_tokens=1, output_tokens=1)


def plain(value: Any) -> Any:
    """Lists for pandas' arrays, and one spelling for a moment and a day."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        return [plain(inner) for inner in (value.tolist() if hasattr(value, "tolist") else value)]
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.mark.parametrize(("field", "said", "value"), CASES)
def test_a_value_comes_back_as_it_was_said(field: Any, said: Any, value: Any, tmp_path: Path) -> None:
    task = make_task({"task": "extract", "fields": {"a": field, "b?": field}})
    answer = validate(task, told(json.dumps({"a": said, "b": None})), Shown.IMAGE)
    assert answer.invalid == () and answer.data == {"a": value, "b": None}
    table = pa.table({"data": pa.array([answer.data, None], task.data_type())})
    file = tmp_path / "part.parquet"
    file.write_bytes(encode(table))
    assert pq.read_table(file).schema == table.schema
    assert pq.read_table(file).equals(table)
    # NumPy's integers know no null, and turn into floats beside one.
    frame = pd.read_parquet(file, dtype_backend="pyarrow")
    assert plain(frame["data"][0]) == {"a": value, "b": None} and frame["data"][1] is pd.NA
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        # Not fetchall: for moments it wants pytz.
        rows = connection.sql(f"SELECT data.a, data.b, data FROM '{file}'").to_arrow_table().to_pylist()
    assert plain(rows) == [
        {"a": value, "b": None, "data": {"a": value, "b": None}},
        {"a": None, "b": None, "data": None},
    ]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("number", "1e400"),
        ("number", "1" + "0" * 400),
        ("integer", "1" + "0" * 400),
        ("datetime", '"9999-12-31T23:59:59-05:00"'),
        ("datetime", '"0001-01-01T00:00:00+05:00"'),
    ],
)
def test_what_no_column_holds_is_null_and_named(field: str, said: str) -> None:
    task = make_task({"task": "extract", "fields": {"a": field, "b": "text"}})
    with pytest.raises(OffSchemaAnswer) as caught:
        validate(task, told(f'{{"a": {said}, "b": "x"}}'), Shown.IMAGE)
    partial = caught.value.fields["partial"]
    assert partial.data == {"a": None, "b": "x"} and partial.invalid == ("/a",)


def test_a_field_whose_name_no_column_holds_is_named_all_the_same() -> None:
    task = make_task({"task": "extract", "fields": {"a": "text"}})
    with pytest.raises(OffSchemaAnswer) as caught:
        validate(task, told('{"a": "x", "\\ud83d": 1}'), Shown.IMAGE)
    assert pa.array(caught.value.fields["partial"].invalid).to_pylist() == ["/\\ud83d"]
    assert pa.array([caught.value.message])
