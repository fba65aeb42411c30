"""A lake with documents, and jobs whose answers go into tables."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from deploy.demo.objectstore import ObjectStore
from pipelines.lake.sync import bring_up
from pipelines.lake.tables import LakeTable, tables_of
from pipelines.plan import Plan
from pipelines.report import TableCounts
from schemas.ids import document_id
from schemas.job import JobSpec, make_job
from schemas.selection import Selection
from schemas.shard import Shard
from tests.fixtures.runs import GEMMA3
from workers.sinks.parquet import encode
from workers.sinks.reading import read_columns
from workers.storage.factory import join, open_storage

IMAGES = 30
FORMATS = ["delta", "iceberg", "lance"]
ASKED, ERRORS, DOCUMENTS = "records_what_x2dis_x2dit", "errors", "documents"
SOON = {"read_seconds": 3, "attempts": 2, "outage_seconds": 2}


@dataclass(frozen=True)
class Lake:
    """A prefix of the store with documents, and the jobs that read them."""

    store: ObjectStore
    prefix: str
    folder: Path

    def put(self, pictures: dict[int, bytes]) -> None:
        client = self.store.client()
        for number, content in pictures.items():
            key = f"{self.prefix}/in/{number:03}.png"
            client.put_object(Bucket=self.store.bucket, Key=key, Body=content)

    def job(self, kind: str = "delta", **settings: Any) -> JobSpec:
        values = {
            "input": self.store.url(f"{self.prefix}/in/"),
            "output": self.store.url(f"{self.prefix}/out"),
            "tasks": [{"task": "caption", "name": "what-is-it", "prompt": "What is it?"}],
            "models": {"vision": str(GEMMA3)},
            "engine": {"kind": "fault"},
            "sink": self.sink(kind),
            "limits": {"failed_share": 1.0},
        }
        return make_job(values | settings)

    def sink(self, kind: str) -> dict[str, Any]:
        if kind != "iceberg":
            return {"kind": kind}
        catalog = {
            "type": "sql",
            "uri": f"sqlite:///{self.folder}/catalog.db?timeout=60",
            "warehouse": self.store.url(f"{self.prefix}/warehouse"),
        }
        return {"kind": kind, "tables": "answers", "catalog": catalog}

    def keys(self) -> set[str]:
        found = self.store.client().list_objects_v2(Bucket=self.store.bucket, Prefix=f"{self.prefix}/")
        return {entry["Key"] for entry in found.get("Contents", ()) if "/in/" not in entry["Key"]}


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (number * 8 % 256, number % 256, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def tables(job: JobSpec) -> dict[str, LakeTable]:
    return {table.name: table for table in tables_of(Plan(job, "looks", (), None))}


def brought_up(
    job: JobSpec,
    *listed: str,
    run_id: str = "ours",
    shard: str = "1/1",
    check: Callable[[], None] = lambda: None,
) -> dict[str, TableCounts]:
    """What a run does at its end, on the session's Ray."""
    ids = pa.table({"document_id": pa.array([document_id(uri) for uri in listed], pa.string())})
    return bring_up(Plan(job, run_id, (), None, Selection(shard=Shard.parse(shard))), ids, check)


def rows_of(table: LakeTable, uris: list[str], **said: Any) -> pa.Table:
    facts = {
        "version": "v",
        "run_id": "ours",
        "answered_at": datetime(2026, 1, 1, tzinfo=UTC),
        "status": "ok",
    }
    rows = [{**facts, "document_id": document_id(uri), "uri": uri, **said} for uri in uris]
    return pa.Table.from_pylist(rows, table.schema)


def publish(job: JobSpec, table: LakeTable, name: str, rows: pa.Table) -> None:
    """A part file, as a sink leaves it."""
    uri = join(job.output, table.folder, f"part-{name}.parquet")
    open_storage(uri, job.storage).publish(uri, encode(rows))


def filled(job: JobSpec) -> None:
    """Part files in each folder, of thirty documents."""
    for table in tables(job).values():
        for part in range(3):
            uris = [f"s3://lake/{part}{number}" for number in range(IMAGES // 3)]
            publish(job, table, str(part), rows_of(table, uris))


def read(table: LakeTable) -> pa.Table:
    """By its format's own library, as its user would."""
    place, endpoint = table.place, os.environ["AWS_ENDPOINT_URL"]
    if place.format == "delta":
        from deltalake import DeltaTable

        options = {"allow_http": "true", "aws_endpoint": endpoint}
        return DeltaTable(place.uri, storage_options=options).to_pyarrow_table()
    if place.format == "lance":
        import lance

        options = {"allow_http": "true", "aws_endpoint": endpoint}
        return lance.dataset(place.uri, storage_options=options).to_table()
    from pyiceberg.catalog import load_catalog

    found = load_catalog(**place.catalog, **{"s3.endpoint": endpoint}).load_table(place.uri)
    # Not by `to_arrow`: in pyiceberg 0.12 a list of structs that is null comes back empty.
    files = [found.io.new_input(task.file.file_path).open() for task in found.scan().plan_files()]
    rows = [pq.read_table(file) for file in files]
    return pa.concat_tables(rows, promote_options="default") if rows else table.schema.empty_table()


def spelled(rows: pa.Table, columns: list[str]) -> Counter[str]:
    return Counter(repr(row) for row in rows.select(columns).to_pylist())


def same(job: JobSpec) -> None:
    """Every row of every folder is in its table, once, with all that it says; and nothing else is."""
    for table in tables(job).values():
        columns = table.schema.names
        parts = list(read_columns(job.output, job.storage, table.folder, columns))
        folder = pa.concat_tables([table.schema.empty_table(), *parts], promote_options="default")
        found = spelled(read(table), columns)
        assert found == spelled(folder, columns)
        assert set(found.values()) <= {1}
