"""A job whose addresses mean the same wherever it is read: as a run writes it down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.tables import TableFormat
from workers.storage.factory import normalise

if TYPE_CHECKING:
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


def _model(source: str | None) -> str | None:
    return (
        str(Path(source).expanduser().resolve()) if source and Path(source).expanduser().is_dir() else source
    )


def _table(table: TableOptions) -> TableOptions:
    if table.catalog or table.format is TableFormat.ICEBERG:
        return table
    into = table.into if table.into in (None, SAME) else normalise(str(table.into))
    return table.model_copy(update={"uri": normalise(table.uri), "into": into})
