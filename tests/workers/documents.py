"""Plain rows to assemble documents of, for the tests of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from schemas.documents import NO_WHOLES, documents_schema
from schemas.rows import ERRORS, records_schema, with_attributes
from workers.assemble import ERROR_COLUMNS, RECORD_COLUMNS, assemble

ATTRIBUTES = pa.struct([("customer", pa.string()), ("priority", pa.int32())])
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TASKS = {"page": ("ocr",), "audio": ("transcribe",)}
BOTH = {"page": ("extract", "ocr")}


def identity(document: int) -> dict[str, Any]:
    """Which document it is."""
    return {"document_id": f"{document:032x}", "uri": f"s3://lake/{document}", "version": "v1"}


def page(document: int, part: int, text: str | None = None, total: int = 3, **values: Any) -> dict[str, Any]:
    """A record of a page."""
    return {
        **identity(document),
        "media_type": "application/pdf",
        "part_index": part,
        "parts_total": total,
        "part_kind": "page",
        "fingerprint": "f" * 32,
        "text": f"page {part}" if text is None else text,
        "prompt_tokens": 100,
        "output_tokens": 10,
        "seconds": 0.5,
        "document_metadata": '{"title":"x"}',
        "answered_at": NOW,
        "run_id": "run-1",
    } | values


def clip(document: int, part: int, text: str, **values: Any) -> dict[str, Any]:
    """A record of ten seconds of audio."""
    times = {"start_seconds": part * 10.0, "end_seconds": part * 10.0 + 9.5}
    return page(document, part, text, media_type="audio/flac", part_kind="audio", **times | values)


def fault(document: int, part: int | None = None, task: str | None = None, **values: Any) -> dict[str, Any]:
    """An error of a document that was opened, unless `total` is null."""
    total = values.pop("total", 3)
    return {
        **identity(document),
        "media_type": "application/pdf",
        "part_index": part,
        "parts_total": total,
        "part_kind": None if total is None else "page",
        "task": task,
        "stage": "expand",
        "category": "corrupt",
        "message": "no page tree",
        "answered_at": NOW,
    } | values


def assembled(
    records: Mapping[str, Sequence[dict[str, Any]]],
    errors: Sequence[dict[str, Any]] = (),
    tasks: Mapping[str, Sequence[str]] = TASKS,
    attributes: pa.DataType | None = None,
    wholes: Mapping[str, Sequence[str]] = NO_WHOLES,
) -> list[dict[str, Any]]:
    """The rows, maps as dicts, once they are of the schema; of the columns that are to be read alone."""
    more = [] if attributes is None else ["attributes"]
    schema = records_schema(None, attributes)
    read = {
        task: pa.Table.from_pylist(list(rows), schema=schema).select([*RECORD_COLUMNS, *more])
        for task, rows in records.items()
    }
    failed = pa.Table.from_pylist(list(errors), schema=with_attributes(ERRORS, attributes))
    failed = failed.select([*ERROR_COLUMNS, *more])
    table = assemble(read, failed, tasks, ["transcribe"], "run-2", attributes, wholes)
    assert table.schema.equals(documents_schema(attributes), check_metadata=True)
    table.validate(full=True)
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="strict")
    assert [row["document_id"] for row in rows] == sorted(row["document_id"] for row in rows)
    return rows


def gap(part: Any, task: Any, category: Any = "corrupt", message: Any = "no page tree") -> dict[str, Any]:
    """An entry of `missing`."""
    return {"part_index": part, "task": task, "category": category, "message": message}


def unanswered(part: int | None, task: str) -> dict[str, Any]:
    """The entry of an answer that nothing is known of."""
    return gap(part, task, "unanswered", "there is neither an answer nor an error")
