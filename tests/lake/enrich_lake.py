"""A lake with a table whose rows are documents, and its owner."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from deploy.demo.objectstore import ObjectStore
from pipelines.lake.enrich import enrich
from pipelines.lake.into import into_of
from pipelines.plan import Plan, make_plan
from pipelines.report import TableCounts
from schemas.documents import documents_schema
from schemas.ids import digest
from schemas.job import JobSpec, make_job
from tests.fixtures.runs import GEMMA3
from workers.sinks.parquet import encode
from workers.storage.factory import join, open_storage
from workers.storage.rows import version_of

ROWS = 20
FORMATS = ["delta", "iceberg", "lance"]
INTO = ("gemstream_document_id", "gemstream_run_id", "caption_text", "extract")


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (number * 8 % 256, number % 256, 90)).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Lake:
    """A prefix of the store: documents, a table that names them, and the job that reads it."""

    store: ObjectStore
    prefix: str
    folder: Path
    kind: str = "delta"
    put: set[int] = field(default_factory=set)

    def rows(self, numbers: range | list[int]) -> pa.Table:
        """Rows with a bit of everything besides; their documents are put there."""
        for number in set(numbers) - self.put:
            key = f"{self.prefix}/in/{number:03}.png"
            self.store.client().put_object(Bucket=self.store.bucket, Key=key, Body=picture(number))
            self.put.add(number)
        when = datetime(2026, 1, 1, tzinfo=UTC)
        rows = [
            {
                "id": number,
                "uri": self.store.url(f"{self.prefix}/in/{number:03}.png"),
                "price": None if number % 5 == 0 else Decimal(number) / 4,
                "seen": None if number % 3 == 0 else when,
                "local": when.replace(tzinfo=None),
                "day": date(2026, 1, 1 + number % 28),
                "raw": bytes([number % 256, 255]),
                "tags": None if number % 4 == 0 else ["a", None, str(number)],
                "nested": {"a": number, "b": {"c": None if number % 2 else "x"}},
            }
            for number in numbers
        ]
        return pa.Table.from_pylist(rows, SCHEMA)

    @property
    def table(self) -> str:
        return "lake.documents" if self.kind == "iceberg" else self.store.url(f"{self.prefix}/table")

    @property
    def catalog(self) -> dict[str, str]:
        return {
            "type": "sql",
            "uri": f"sqlite:///{self.folder}/catalog.db",
            "warehouse": self.store.url(f"{self.prefix}/warehouse"),
        }

    @property
    def options(self) -> dict[str, str]:
        """Each library has a word of its own for where the store is."""
        return {
            "s3.endpoint": os.environ["AWS_ENDPOINT_URL"],
            "aws_endpoint": os.environ["AWS_ENDPOINT_URL"],
            "AWS_ALLOW_HTTP": "true",
            "allow_http": "true",
        }

    def append(self, rows: pa.Table) -> None:
        """As the table's owner would, by the format's own library; makes the table first."""
        if self.kind == "delta":
            from deltalake import write_deltalake

            write_deltalake(
                self.table, rows, mode="append", schema_mode="merge", storage_options=self.options
            )
        elif self.kind == "lance":
            import lance

            lance.write_dataset(rows, self.table, mode="append", storage_options=self.options)
        elif self.kind == "iceberg":
            from pyiceberg.catalog import load_catalog

            catalog = load_catalog(**self.catalog, **self.options)
            catalog.create_namespace_if_not_exists("lake")
            catalog.create_table_if_not_exists(self.table, rows.schema).append(rows)
        else:
            body = io.BytesIO()
            pq.write_table(rows, body)
            key = f"{self.prefix}/table/{rows['id'][0]}.parquet"
            self.store.client().put_object(Bucket=self.store.bucket, Key=key, Body=body.getvalue())

    def read(self, table: str | None = None, kind: str | None = None, key: str = "id") -> pa.Table:
        """By the format's own library; in the order of the key."""
        kind, table = kind or self.kind, table or self.table
        if kind == "delta":
            from deltalake import DeltaTable

            found = DeltaTable(table, storage_options=self.options).to_pyarrow_table()
        elif kind == "lance":
            import lance

            found = lance.dataset(table, storage_options=self.options).to_table()
        else:
            from pyiceberg.catalog import load_catalog

            catalog = load_catalog(**self.catalog, **self.options)
            found = catalog.load_table(table).scan().to_arrow()
        return found.sort_by(key)

    def job(self, into: str = "same", **table: Any) -> JobSpec:
        catalog = {"catalog": self.catalog} if self.kind == "iceberg" else {}
        named = {"uri": self.table, "key": "id", "into": into, "format": self.kind, **catalog, **table}
        return make_job(
            {
                "table": named,
                "output": self.store.url(f"{self.prefix}/out"),
                "tasks": ["caption", {"task": "extract", "fields": {"total": "decimal"}}],
                "models": {"vision": str(GEMMA3)},
                "engine": {"kind": "fault"},
                "limits": {"failed_share": 1.0},
            }
        )


SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("uri", pa.string()),
        pa.field("price", pa.decimal128(9, 2)),
        pa.field("seen", pa.timestamp("us", tz="UTC")),
        pa.field("local", pa.timestamp("us")),
        pa.field("day", pa.date32()),
        pa.field("raw", pa.binary()),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("nested", pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string())]))])),
    ]
)


CARRIED = pa.struct([pa.field("id", pa.int64())])
TOTAL = pa.struct([pa.field("total", pa.decimal128(38, 9))])


def plan_of(job: JobSpec) -> Plan:
    return make_plan(job, CARRIED, 0.0)


def enriched(job: JobSpec, check: Callable[[], None] = lambda: None) -> TableCounts:
    return next(iter(enrich(plan_of(job), check).values()))


def say(job: JobSpec, rows: pa.Table, text: str, run_id: str, version: str = "v1") -> None:
    """Documents of these rows, as a run leaves them."""
    inside = job.table.bytes_column if job.table else None
    versions = [version_of(value) for value in rows[inside].to_pylist()] if inside else [version] * len(rows)
    into = into_of(plan_of(job))
    assert into is not None
    ids, uris = into.naming.ids(rows).to_pylist(), into.naming.uris(rows)
    documents = [
        {
            "document_id": name,
            "uri": uri,
            "version": version,
            "status": "ok",
            "answers": 2,
            "owed": 2,
            "texts": [("caption", text)],
            "data": {"extract": {"value": {"total": Decimal(1)}, "parts": [], "conflicts": []}},
            "engine_seconds": 0.1,
            "answered_at": datetime(2026, 1, 2, tzinfo=UTC),
            "run_id": run_id,
            "attributes": {"id": number},
        }
        for name, uri, version, number in zip(ids, uris, versions, rows["id"].to_pylist(), strict=True)
    ]
    table = pa.Table.from_pylist(documents, documents_schema(CARRIED, {"extract": TOTAL}))
    part = join(job.output, "documents", f"part-{digest(run_id)}.parquet")
    open_storage(part, job.storage).publish(part, encode(table))


def answered(rows: pa.Table) -> list[int]:
    """The keys whose rows have all that belongs to an answer."""
    return [row["id"] for row in rows.to_pylist() if all(row.get(name) is not None for name in INTO)]


def others(rows: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.select(SCHEMA.names).to_pylist()
    return found
