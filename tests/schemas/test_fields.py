"""A short list of fields means the schema that one would have written out."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipelines.flags import settings_of
from schemas.errors import JobError
from schemas.fields import TYPES, schema_of
from schemas.job import make_job
from schemas.json_schema import DECIMAL, arrow_type, load_schema
from schemas.tasks import make_task

FIELDS = """
number: text
issued: date?
total: decimal
paid: boolean
read: datetime
copies: integer
ratio: number?
kind: [invoice, receipt]
tags: [text]
lines: [{item: text, price: decimal}]
buyer?: {name: text, city: 'text?'}
"""


def extract(**options: Any) -> Any:
    return make_task({"task": "extract", **options})


def test_every_type_has_its_column() -> None:
    text = pa.string()
    assert extract(fields=yaml.safe_load(FIELDS)).data_type() == pa.struct(
        {
            "number": text,
            "issued": pa.date32(),
            "total": DECIMAL,
            "paid": pa.bool_(),
            "read": pa.timestamp("us", tz="UTC"),
            "copies": pa.int64(),
            "ratio": pa.float64(),
            "kind": text,
            "tags": pa.list_(text),
            "lines": pa.list_(pa.struct({"item": text, "price": DECIMAL})),
            "buyer": pa.struct({"name": text, "city": text}),
        }.items()
    )


def test_it_is_the_same_task_as_with_the_schema_written_out() -> None:
    short = extract(fields={"number": "text", "issued": "date?", "kind": ["a", "b"]})
    long = extract(
        schema={
            "type": "object",
            "properties": {
                "number": {"type": "string"},
                "issued": {"type": ["string", "null"], "format": "date"},
                "kind": {"enum": ["a", "b"]},
            },
            "required": ["number", "issued", "kind"],
        }
    )
    assert short.json_schema() == long.json_schema()
    assert (short.data_type(), short.question("image")) == (long.data_type(), long.question("image"))


def test_a_question_mark_lets_the_field_be_null_and_nothing_else() -> None:
    properties = schema_of({"a": "text", "b": "text?", "c?": ["text"], "d?": "text?"})["properties"]
    nullable = {name for name, node in properties.items() if "anyOf" in node}
    assert nullable == {"b", "c", "d"}
    assert schema_of({"a": "text", "b": "text?"})["required"] == ["a", "b"]


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_a_schema_that_is_held(name: str) -> None:
    arrow_type(load_schema(schema_of({"a": name, "b": f"{name}?", "c": [name]})))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "fields: must map"),
        (["number"], "fields: must map"),
        ({"a": "txt"}, "fields.a: unknown type 'txt', did you mean 'text'?"),
        ({"a": ["invoice"]}, "fields.a[]: unknown type 'invoice'"),
        ({"a": []}, "fields.a: must be a type"),
        ({"a": [True, False]}, "in quotes"),
        ({"a": 3}, "fields.a: must be a type"),
        ({"a": date(2024, 1, 1)}, "fields.a: must be a type"),
        ({True: "text"}, "a name must be text, got True"),
        ({"a": {"b": [{"c": "what"}]}}, "fields.a.b[].c: unknown type"),
        ({"a": "text", "a?": "text"}, "fields.a: is there twice"),
        ({"a": "text", "A": "text"}, "#/properties/A: DuckDB"),
    ],
)
def test_what_is_no_field_is_refused_with_its_place(fields: Any, words: str) -> None:
    with pytest.raises(JobError) as caught:
        extract(fields=fields)
    assert words in caught.value.message


@pytest.mark.parametrize("options", [{}, {"fields": {"a": "text"}, "schema": "x.json"}])
def test_a_schema_or_fields_and_not_both(options: dict[str, Any]) -> None:
    options = {**options, **({"schema": schema_of({"a": "text"})} if options else {})}
    with pytest.raises(JobError, match="either schema or fields"):
        extract(**options)


def test_a_run_writes_down_what_the_user_wrote() -> None:
    fields = yaml.safe_load(FIELDS)
    job = make_job({"input": "/in", "output": "/out", "tasks": [{"task": "extract", "fields": fields}]})
    assert job.public()["tasks"][0]["fields"] == fields
    assert make_job(yaml.safe_load(yaml.safe_dump(job.public()))) == job


def flags(**given: Any) -> dict[str, Any]:
    names = "input_ manifest output vision_model audio_model include exclude limit task schema field"
    return settings_of({name: given.get(name) for name in names.split()})


def test_fields_on_the_command_line() -> None:
    given = ["number", "total:decimal", "issued:date?", "kind:[invoice, receipt]", "lines: [{item: text}]"]
    assert flags(task=["ocr", "extract"], field=given)["tasks"] == [
        "ocr",
        {
            "task": "extract",
            "fields": {
                "number": "text",
                "total": "decimal",
                "issued": "date?",
                "kind": ["invoice", "receipt"],
                "lines": [{"item": "text"}],
            },
        },
    ]
    assert flags(task=["extract"], schema="a.json")["tasks"] == [{"task": "extract", "schema": "a.json"}]
    with pytest.raises(JobError, match="--field"):
        flags(task=["extract"], field=["a:[text"])
