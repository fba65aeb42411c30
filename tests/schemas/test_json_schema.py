"""A user's schema becomes columns, a constraint and values that agree with each other."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from schemas.errors import JobError
from schemas.json_schema import MAX_STRING, arrow_type, arrow_value, bounded, load_schema


class Line(BaseModel):
    name: str
    amount: float | None = None


class Invoice(BaseModel):
    kind: Literal["invoice", "receipt"]
    issued: date
    paid: bool
    lines: list[Line]


def test_a_pydantic_model_becomes_columns() -> None:
    assert arrow_type(load_schema(Invoice)) == pa.struct(
        [
            pa.field("kind", pa.string()),
            pa.field("issued", pa.date32()),
            pa.field("paid", pa.bool_()),
            pa.field("lines", pa.list_(pa.struct([("name", pa.string()), ("amount", pa.float64())]))),
        ]
    )


def test_a_model_by_reference_and_a_file_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "invoice.json"
    path.write_text(json.dumps(Invoice.model_json_schema()))
    assert load_schema(f"{__name__}:Invoice") == load_schema(str(path)) == load_schema(Invoice)


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"type": "string"}, "#"),
        ({"type": "object", "properties": {}}, "#"),
        ({"type": "object", "properties": {"a": {"type": "map"}}}, "#/properties/a/type"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}},
            "#/properties/a/format",
        ),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "#/properties/a/items"),
        ({"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 3}}}, "multipleOf"),
        ({"type": "object", "properties": {"a": {"oneOf": []}}}, "#/properties/a"),
        ({"type": "object", "properties": {"a": {"type": ["string", "integer"]}}}, "#/properties/a/type"),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]}, "required"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": True},
            "additional",
        ),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {}}, "$ref"),
        (
            {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/x"}},
                "$defs": {"x": {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}}},
            },
            "recursive",
        ),
    ],
)
def test_what_cannot_be_a_column_is_refused_with_its_pointer(schema: dict[str, Any], pointer: str) -> None:
    with pytest.raises(JobError) as caught:
        arrow_type(load_schema(schema))
    assert pointer in caught.value.message


@pytest.mark.parametrize("reference", ["no_such_module:X", "json:loads", "missing.json", 7])
def test_a_schema_that_is_not_there(reference: Any) -> None:
    with pytest.raises(JobError, match="schema"):
        load_schema(reference)


def test_strings_and_lists_are_bounded() -> None:
    held = bounded(load_schema(Invoice))
    assert held["properties"]["lines"]["items"]["properties"]["name"]["maxLength"] == MAX_STRING
    assert held["properties"]["lines"]["maxItems"] > 0
    assert held["additionalProperties"] is False


scalars = st.sampled_from(
    [
        ({"type": "string"}, st.text(max_size=20)),
        ({"type": "integer"}, st.integers(-(2**63), 2**63 - 1)),
        ({"type": "number"}, st.floats(allow_nan=False, allow_infinity=False)),
        ({"type": "boolean"}, st.booleans()),
        ({"enum": ["a", "b"]}, st.sampled_from(["a", "b"])),
        ({"type": "string", "format": "date"}, st.dates().map(date.isoformat)),
        (
            {"type": "string", "format": "decimal"},
            st.decimals(-(10**20), 10**20, places=9, allow_nan=False).map(lambda number: f"{number:f}"),
        ),
        ({"type": ["string", "null"]}, st.none() | st.text(max_size=5)),
    ]
)


@given(st.lists(scalars, min_size=1, max_size=5), st.data())
def test_whatever_the_decoder_may_say_fits_the_columns(
    fields: list[tuple[dict[str, Any], Any]], data: st.DataObject
) -> None:
    schema = {"type": "object", "properties": {f"f{i}": node for i, (node, _) in enumerate(fields)}}
    value = {f"f{i}": data.draw(values) for i, (_, values) in enumerate(fields)}
    data_type = arrow_type(schema)
    assert list(Draft202012Validator(bounded(schema)).iter_errors(value)) == []
    made, invalid = arrow_value(value, data_type)
    assert invalid == []
    column = pa.array([made], data_type)
    assert column.type == data_type and column.null_count == 0


def test_decimals_keep_their_cents() -> None:
    data_type = arrow_type({"type": "string", "format": "decimal"})
    assert arrow_value("1234567890123456789.01", data_type) == (Decimal("1234567890123456789.01"), [])


@pytest.mark.parametrize(
    ("value", "node"),
    [
        ("2023-02-30", {"type": "string", "format": "date"}),
        ("yesterday", {"type": "string", "format": "date-time"}),
        ("1e40", {"type": "string", "format": "decimal"}),
        (2**64, {"type": "integer"}),
    ],
)
def test_a_value_that_denotes_nothing_is_null_and_named(value: Any, node: dict[str, Any]) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": node}, "b": {"type": "string"}},
    }
    made, invalid = arrow_value({"a": [value], "b": "kept"}, arrow_type(schema))
    assert made == {"a": [None], "b": "kept"} and invalid == ["/a/0"]
