"""A job whose addresses mean the same wherever it is read: as a run writes it down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.tables import TableFormat
from workers.storage.factory import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.job import JobSpec
    from schemas.tables import TableOptions

SAME = "same"


def located(job: JobSpec) -> JobSpec:
    """The job with whole addresses in place of paths from the folder that it was run in.

    `gemstream retry` may be called in another one. Names of a catalog and of a hub stay.
    """
    here: dict[str, Any] = {
        "input": tuple(normalise(uri) for uri in job.input),
        "manifest": normalise(job.manifest) if job.manifest else None,
        "output": normalise(job.output),
        "models": job.models.model_copy(
            update={
                "vision": _model(job.models.vision),
                "audio": _model(job.models.audio),
                "adapters": {name: _model(source) for name, source in job.models.adapters.items()},
            }
        ),
    }
    if job.table is not None:
        here["table"] = _table(job.table)
    if job.sink.tables and job.sink.kind is not TableFormat.ICEBERG:
        here["sink"] = job.sink.model_copy(update={"tables": normalise(job.sink.tables)})
    return job.model_copy(update=here)


def addresses(job: JobSpec) -> Iterator[tuple[str, str]]:
    """Setting and address of all that a job reads and writes, but for its models; without the names of a
    catalog, which are no addresses."""
    whole = located(job)
    yield from (("input", uri) for uri in whole.input)
    yield from (("manifest", uri) for uri in (whole.manifest,) if uri)
    yield "output", whole.output
    if whole.table is not None and not _named(whole.table):
        yield "table.uri", whole.table.uri
        if whole.table.into not in (None, SAME):
            yield "table.into", str(whole.table.into)
    if whole.sink.tables and whole.sink.kind is not TableFormat.ICEBERG:
        yield "sink.tables", whole.sink.tables


def _named(table: TableOptions) -> bool:
    return bool(table.catalog) or table.format is TableFormat.ICEBERG


def _model(source: str | None) -> str | None:
    return (
        str(Path(source).expanduser().resolve()) if source and Path(source).expanduser().is_dir() else source
    )


def _table(table: TableOptions) -> TableOptions:
    if _named(table):
        return table
    into = table.into if table.into in (None, SAME) else normalise(str(table.into))
    return table.model_copy(update={"uri": normalise(table.uri), "into": into})
