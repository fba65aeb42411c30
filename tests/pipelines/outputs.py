"""Outputs as a run leaves them, from plain rows: records by the sink, documents by assemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from schemas.ids import canonical, digest, document_id
from schemas.rows import ERRORS, Status, outcomes_schema, records_schema
from schemas.storage import StorageOptions
from workers.assemble import assemble
from workers.sinks.parquet import ParquetSink, encode
from workers.storage.factory import join, open_storage

INVOICE = pa.struct(
    [
        pa.field("number", pa.string()),
        pa.field("issued", pa.date32()),
        pa.field("total", pa.decimal128(38, 9)),
        pa.field("paid", pa.bool_()),
        pa.field("vendor", pa.struct([("name", pa.string()), ("floors", pa.int64())])),
        pa.field("lines", pa.list_(pa.struct([("item", pa.string()), ("price", pa.float64())]))),
    ]
)
TYPES = {"invoices": INVOICE}
KINDS = {"ocr": "ocr", "transcribe": "transcribe", "translate": "translate", "classify": "classify"}
KINDS |= {"invoices": "extract"}
"""The job's name for a task -> its kind."""
RUN = "20260101T000000-abcdef"
FIRST = {
    "number": "17",
    "issued": date(2024, 2, 29),
    "total": Decimal("12.500000000"),
    "paid": True,
    "vendor": {"name": "Tea & Co", "floors": 2},
    "lines": [{"item": "tea", "price": 2.5}, {"item": "milk", "price": 10.0}],
}


def answer(name: str, task: str, said: Any, part: int = 0, **more: Any) -> dict[str, Any]:
    """One outcome: `said` is its text, or its data where the task has some."""
    uri = name if name.startswith("file://") else f"s3://lake/inbox/{name}"
    sound = name.endswith((".wav", ".flac"))
    values = {
        "document_id": document_id(uri),
        "uri": uri,
        "version": "v1",
        "media_type": "audio/wav" if sound else "application/pdf",
        "part_kind": "audio" if sound else "page",
        "part_index": part,
        "parts_total": 1,
        "status": Status.RECORD.value,
        "expected": 1,
        "settled": 1,
        "task": task,
        "fingerprint": digest(task),
        "text_source": "model",
        "run_id": RUN,
        "answered_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    if task in TYPES:
        values[f"data:{task}"] = said
    else:
        values["text"] = said
    return values | more


def write(output: str, rows: Sequence[Mapping[str, Any]], options: StorageOptions | None = None) -> str:
    """Publish the answers, and their documents' rows; returns the output."""
    options = options or StorageOptions()
    made_of = {digest(task): canonical({"task": f"{kind}/1"}) for task, kind in KINDS.items()}
    outcomes = pa.Table.from_pylist([dict(row) for row in rows], outcomes_schema(TYPES, None))
    ParquetSink(output, options, TYPES, None, RUN, made_of).write(outcomes)
    storage = open_storage(output, options)
    tasks = {row["task"] for row in rows}
    schema = records_schema(None, None)
    records = {
        task: pa.Table.from_pylist([dict(row) for row in rows if row["task"] == task], schema)
        for task in tasks
    }
    kinds = {"page": sorted(tasks - {"transcribe"}), "audio": ["transcribe"]}
    documents = assemble(records, ERRORS.empty_table(), kinds, ["transcribe"], RUN, None)
    storage.publish(join(output, f"documents/part-{digest(*sorted(tasks))}.parquet"), encode(documents))
    storage.publish(join(output, f"_runs/{RUN}/job.yaml"), b"{}")
    return output
