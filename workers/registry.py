"""The families, each one readable dict: kind -> "module:Name". Adding a member is one line here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from schemas.errors import JobError

EXPANDERS = {
    "pdf": "workers.expand.pdf:PdfExpander",
    "image": "workers.expand.image:ImageExpander",
    "audio": "workers.expand.audio:AudioExpander",
}

ENGINES = {
    "vllm": "workers.engines.vllm:VllmEngine",
    "openai": "workers.engines.openai:OpenAIEngine",
    "fault": "workers.engines.fault:FaultEngine",
}

TABLES = {
    "parquet": "workers.tables.parquet:ParquetTable",
    "delta": "workers.tables.delta:DeltaTable",
    "iceberg": "workers.tables.iceberg:IcebergTable",
    "lance": "workers.tables.lance:LanceTable",
}

STORAGES = {
    "file": "workers.storage.local:LocalStorage",
    "row": "workers.storage.rows:RowStorage",
    "s3": "workers.storage.s3:S3Storage",
}


def resolve(family: dict[str, str], kind: str, what: str) -> Any:
    """The class a registry line names.

    Raises:
        JobError: no such kind; the message lists the known ones.
    """
    if kind not in family:
        raise JobError(f"unknown {what} {kind!r}: one of {', '.join(sorted(family))}", key=what)
    module, _, name = family[kind].partition(":")
    return getattr(import_module(module), name)
