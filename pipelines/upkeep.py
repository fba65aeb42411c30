"""The commands that look after an output: what failed, that again, what dead runs left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pipelines.flags import AsJson, Category, JobFile, OutputOf, Setting, job_of, storage_of

if TYPE_CHECKING:
    from pipelines.report import RunReport


def errors(
    output: OutputOf,
    category: Category = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Say what failed and is not made good yet: how much of each category, and which documents."""
    from pipelines.failures import read_failures
    from pipelines.terminal import line, terminal

    found = read_failures(output, category or (), storage_of(setting))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        if found.groups:
            terminal().print(found.table())
        for row in found.lines():
            typer.echo(line(row))


def retry(
    output: OutputOf,
    job_file: JobFile = None,
    category: Category = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Work again on what failed, and on nothing else, as the last run was told to.

    A job file is needed where the job had secrets, which no run writes down. Exit codes as of `run`.
    """
    from pipelines.failures import failed_selection, last_job
    from pipelines.runner import run as run_job

    job = job_of(job_file, {"output": output}, setting) if job_file else last_job(output, setting)
    show(run_job(job, selection=failed_selection(category or ())), as_json)


def gc(output: OutputOf, setting: Setting = None) -> None:
    """Remove what runs that died left behind: half-written files and uploads, lists nobody reads."""
    from pipelines.leftovers import remove_leftovers

    typer.echo(f"{remove_leftovers(output, storage_of(setting))} leftovers removed")


def show(report: RunReport, as_json: bool) -> None:
    """Print a run's report and leave with its exit code."""
    from pipelines.terminal import line, terminal

    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        terminal().print(report.table())
        typer.echo(report.verdict)
        typer.echo(f"{report.files} files under {report.output}, the run under _runs/{report.run_id}")
        if report.page:
            typer.echo(f"to be read in a browser: {report.page}")
        for uri in report.unsettled[:20]:
            typer.echo(line(f"unaccounted: {uri}"))
    raise typer.Exit(report.exit_code)
