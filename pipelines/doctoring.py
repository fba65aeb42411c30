"""The command that says whether a run would come off, and what to do where it would not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.flags import (  # noqa: TC001  # typer reads annotations when it runs
    AsJson,
    Audio,
    BytesColumn,
    Input,
    JobFile,
    Key,
    Manifest,
    Output,
    Setting,
    TableOf,
    TaskNames,
    UriColumn,
    Vision,
    Where,
    job_of,
    said_of,
    settings_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.doctor import Patient
    from schemas.job import JobSpec

Address = Annotated[
    str | None,
    typer.Option(
        help="Cluster to look at: host:6379, ray://…, or http://head:8265. RAY_ADDRESS if not given."
    ),
]
Checks = Annotated[
    list[str] | None, typer.Option("--check", help="Only this check: python, gpu, ray, storage, models, …")
]
UNNAMED = "gemstream-doctor-was-told-of-none"


def doctor(
    job_file: JobFile = None,
    input_: Input = None,
    manifest: Manifest = None,
    table_: TableOf = None,
    uri_column: UriColumn = None,
    bytes_column: BytesColumn = None,
    key: Key = None,
    where: Where = None,
    output: Output = None,
    task: TaskNames = None,
    vision_model: Vision = None,
    audio_model: Audio = None,
    address: Address = None,
    check: Checks = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Look at what a run needs, before it: each thing is well, or what to do is said.

    Without a job it looks at this machine. Nothing is left behind: what it writes to an output to see
    whether it may, it removes again. It takes under a minute.

    Exit codes: 0 nothing would stop a run, 1 something would, 2 bad job.
    """
    from pipelines.doctor import CHECKS
    from pipelines.doctor.examine import examine
    from pipelines.terminal import terminal

    given = settings_of({**locals(), "schema": None, "field": None})
    patient = patient_of(job_file, given, setting, address or os.environ.get("RAY_ADDRESS") or None)
    with terminal(stderr=True).status("looking; importing vLLM takes some seconds"):
        found = examine(patient, check or CHECKS)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        terminal().print(found.table())
        typer.echo(found.verdict)
    raise typer.Exit(found.exit_code)


def patient_of(
    job_file: Path | None, given: dict[str, Any], setting: list[str] | None, address: str | None
) -> Patient:
    """The job, with something in place of what a job must have and this one does not name.

    Raises:
        JobError: it does not hold.
    """
    from pipelines.doctor import Patient

    said = said_of(job_file, given, setting)
    lacking: dict[str, Any] = {}
    if not said & {"input", "manifest", "table"}:
        lacking["input"] = UNNAMED
    if "output" not in said:
        lacking["output"] = UNNAMED
    if "tasks" not in said:
        lacking["tasks"] = ["ocr"]
    job = job_of(job_file, lacking | given, setting)
    return Patient(
        job=job,
        sources=() if "input" in lacking else _sources(job),
        output=None if "output" in lacking else job.output,
        has_tasks="tasks" not in lacking,
        address=address,
    )


def _sources(job: JobSpec) -> tuple[str, ...]:
    """What of the store a job reads. An Iceberg table is not named by where it lies: its catalog says."""
    from schemas.tables import TableFormat

    if job.table:
        by_catalog = job.table.catalog or job.table.format is TableFormat.ICEBERG
        return () if by_catalog else (job.table.uri,)
    return (job.manifest,) if job.manifest else job.input
