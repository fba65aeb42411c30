"""The command that brings an output's tables up to date without a run: after a catalog was down, or for an
output that had none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pipelines.flags import AsJson, JobFile, Setting, job_of

if TYPE_CHECKING:
    from pipelines.report import TableCounts
    from schemas.job import JobSpec


def sync(job_file: JobFile = None, setting: Setting = None, as_json: AsJson = False) -> None:
    """Bring the tables of a job's output up to date with its part files, without running the job.

    A run does so at its end. This is for when the store or the catalog of the tables was away then, and for
    an output that has had no tables before. Nothing is asked.
    """
    import json

    done = bring_up_to_date(job_of(job_file, {}, setting))
    if as_json:
        typer.echo(json.dumps({name: table.model_dump() for name, table in done.items()}, indent=2))
    else:
        for table in done.values():
            typer.echo(table.sentence)


def bring_up_to_date(job: JobSpec) -> dict[str, TableCounts]:
    """Bring the tables of a job to hold what its part files hold. Takes the lease, and starts or joins Ray.

    Returns:
        Name of each table -> what became of it.

    Raises:
        JobError: the job names no tables, or they are not its output's; a run writes to the output.
        GemstreamError: the output, or the store or catalog of the tables, does not answer.
    """
    import pyarrow as pa

    from pipelines.choice import settle_models
    from pipelines.cluster import cluster
    from pipelines.lake.enrich import enrich
    from pipelines.lake.into import into_of, refuse_into
    from pipelines.lake.sync import bring_up
    from pipelines.lake.tables import refuse_foreign_tables, tables_of
    from pipelines.lease import Lease
    from pipelines.occupancy import refuse_foreign_output
    from pipelines.plan import make_plan
    from pipelines.runner import source_of
    from schemas.errors import JobError

    attributes = source_of(job).attributes
    plan = make_plan(settle_models(job).job, attributes, job.engine.gpus or 0.0)
    if not tables_of(plan) and into_of(plan) is None:
        raise JobError(
            "the job names no tables: sink.kind is delta, iceberg or lance, or table.into says where",
            key="sink.kind",
        )
    refuse_foreign_output(plan)
    refuse_foreign_tables(plan)
    refuse_into(plan)
    with Lease(plan.output, job.storage, plan.run_id, None) as lease, cluster():
        # There is no list: what has a row of its own is what some run has brought to an end.
        none = pa.schema([("document_id", pa.string())]).empty_table()
        return bring_up(plan, none, lease.check) | enrich(plan, lease.check)
