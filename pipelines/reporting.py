"""The command that shows a run again: as text, as JSON, or as its page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.flags import AsJson, Setting, storage_of
from schemas.errors import JobError, ObjectMissing

if TYPE_CHECKING:
    from pipelines.page.model import Page
    from pipelines.report import RunReport
    from schemas.storage import StorageOptions

RunOf = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The output of a job, or one of its _runs/<run_id>.", show_default=False
    ),
]
RunId = Annotated[str | None, typer.Option("--run", help="Of an output: this run, not the latest.")]
Html = Annotated[str | None, typer.Option(help="Make the run's page anew, into this file or object.")]


def report(
    run: RunOf, run_id: RunId = None, html: Html = None, setting: Setting = None, as_json: AsJson = False
) -> None:
    """Show the report of a run again.

    With --html its page is made anew from what the output holds now: figures of answers that later runs
    replaced are gone, and documents are fetched again for their pictures.
    """
    from pipelines.terminal import terminal

    options = storage_of(setting, others=True)
    found = read_report(*_place(run, run_id, options), options)
    if html is not None:
        address = _write_page(found, html, options, setting)
        typer.echo(f"to be read in a browser: {address}", err=as_json)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    elif html is None:
        terminal().print(found.table())
        typer.echo(found.verdict)


def read_report(output: str, run_id: str, options: StorageOptions) -> RunReport:
    """What a run wrote of itself.

    Raises:
        JobError: it has not come to its end, or another version of Gemstream wrote it.
        GemstreamError: the output cannot be read.
    """
    from pydantic import ValidationError

    from pipelines.report import RunReport
    from workers.storage.factory import join, open_storage

    uri = join(output, "_runs", run_id, "report.json")
    try:
        body = open_storage(uri, options).read(uri)
    except ObjectMissing as error:
        raise JobError(
            f"{output} has no report of a run {run_id}: it did not come to its end, or never was", key="run"
        ) from error
    try:
        # Where it lies now: an output may have been copied.
        return RunReport.model_validate_json(body).model_copy(update={"output": output})
    except ValidationError as error:
        raise JobError(f"{uri} is of another version of Gemstream", key="run") from error


def _place(run: str, run_id: str | None, options: StorageOptions) -> tuple[str, str]:
    """Output and run id.

    Raises:
        JobError: there is no such run.
    """
    from workers.storage.factory import join, list_if_there, normalise, open_storage

    output, found, name = normalise(run).rstrip("/").rpartition("/_runs/")
    if found and "/" not in name:
        return output, run_id or name
    output = normalise(run)
    if run_id is not None:
        return output, run_id
    storage, end = open_storage(output, options), "/report.json"
    listed = list_if_there(storage, join(output, "_runs"))
    runs = [info.uri for info in listed if info.uri.endswith(end)]
    if not runs:
        raise JobError(f"{output} holds no run of Gemstream that came to its end", key="run")
    # Run ids begin with their time.
    return output, max(runs).removesuffix(end).rpartition("/")[2]


def _write_page(found: RunReport, html: str, options: StorageOptions, setting: list[str] | None) -> str:
    from pipelines.page.render import render
    from workers.storage.factory import normalise, open_storage

    address = normalise(html)
    open_storage(address, options).publish(address, render(_page(found, options, setting)))
    return address


def _page(found: RunReport, options: StorageOptions, setting: list[str] | None) -> Page:
    """The page by the job as the run wrote it down; `--set` says what a run does not write, its passwords."""
    import yaml

    from pipelines.flags import job_of
    from pipelines.page.make import make_page
    from pipelines.plan import Plan, make_plan
    from schemas.job import overlay
    from workers.storage.factory import join, open_storage

    uri = join(found.output, "_runs", found.run_id, "job.yaml")
    values: dict[str, Any] = yaml.safe_load(io.BytesIO(open_storage(uri, options).read(uri)))
    job = job_of(None, overlay(values, {"output": found.output}), setting)
    try:
        plan = make_plan(job, None, 0.0)
    except JobError as error:
        # Its models are somewhere else, and it is they that say how a document becomes parts.
        typer.echo(f"the page has no pictures: {error.message}", err=True)
        plan = Plan(job, found.run_id, (), None)
    return make_page(plan, found)
