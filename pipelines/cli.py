"""`gemstream`: run a job, see what it would do, look after what it left."""

from __future__ import annotations

import logging
import signal
import sys

import typer

from pipelines import catalogue, doctoring, jobs, judging, measuring, reporting, upkeep
from pipelines.deploying import commands as deploying
from pipelines.flags import (
    AsJson,
    Audio,
    BytesColumn,
    Exclude,
    Fields,
    Force,
    Include,
    Input,
    IntoOf,
    JobFile,
    Key,
    Limit,
    Manifest,
    MetricsPort,
    Only,
    Output,
    RatesOf,
    Schema,
    Setting,
    ShardOf,
    TableOf,
    TaskNames,
    UriColumn,
    Verbose,
    Vision,
    Where,
    job_of,
    selection_of,
    settings_of,
)
from pipelines.grouping import duplicates
from pipelines.lake.command import sync
from pipelines.subtitles import subtitles
from schemas.errors import GemstreamError, Interrupted, JobError

app = typer.Typer(
    help="PDFs, scans, photos and recordings in object storage, through Gemma 3 and 3n, into typed Parquet.",
    no_args_is_help=True,
    # Plain help: the rich one costs 0.2 s of imports before the first word.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command()
def run(
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
    schema: Schema = None,
    field: Fields = None,
    vision_model: Vision = None,
    audio_model: Audio = None,
    include: Include = None,
    exclude: Exclude = None,
    limit: Limit = None,
    only: Only = None,
    force: Force = False,
    shard: ShardOf = None,
    into: IntoOf = None,
    rates: RatesOf = None,
    setting: Setting = None,
    metrics_port: MetricsPort = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run a job to its end. Run it again and it does what is new, changed or unfinished.

    Exit codes: 0 done or nothing to do, 1 crash, 2 bad job, 3 too many documents failed, 4 documents
    unaccounted for, 5 ended by a signal.
    """
    from pipelines.runner import run as run_job

    _logging(verbose)
    job = job_of(job_file, settings_of(locals()), setting)
    selection = selection_of(only, force, shard)
    upkeep.show(run_job(job, selection=selection, metrics_port=metrics_port), as_json)


@app.command()
def plan(
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
    schema: Schema = None,
    field: Fields = None,
    vision_model: Vision = None,
    audio_model: Audio = None,
    include: Include = None,
    exclude: Exclude = None,
    limit: Limit = None,
    only: Only = None,
    force: Force = False,
    shard: ShardOf = None,
    into: IntoOf = None,
    rates: RatesOf = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run would do and why, and stop before any engine starts."""
    from pipelines.preview import preview
    from pipelines.terminal import terminal

    job = job_of(job_file, settings_of(locals()), setting)
    seen = preview(job, selection_of(only, force, shard))
    if as_json:
        typer.echo(seen.model_dump_json(indent=2))
    else:
        terminal().print(seen.table())


app.command()(catalogue.models)
app.command()(reporting.report)
app.command()(upkeep.errors)
app.command()(upkeep.retry)
app.command()(upkeep.gc)
app.command()(sync)
app.command()(subtitles)
app.command()(duplicates)
app.command()(judging.evaluate)
app.command()(measuring.bench)
app.command()(doctoring.doctor)
for command in (jobs.submit, jobs.status, jobs.logs, jobs.wait, jobs.stop):
    app.command()(command)
app.add_typer(deploying.app, name="deploy")


def main() -> None:
    """Entry point: every error of ours ends in one message and its exit code."""
    # A scheduler's SIGTERM is an interrupt like Ctrl-C, also before and after the stream, which drains.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except JobError as error:
        _fail(error, 2)
    except Interrupted as error:
        _fail(error, 5)
    except GemstreamError as error:
        _fail(error, 1)


def _fail(error: GemstreamError, code: int) -> None:
    from pipelines.terminal import printable

    print(f"gemstream: {printable(error.message)}", file=sys.stderr)
    sys.exit(code)


def _logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    if verbose:
        logging.getLogger("gemstream").setLevel(logging.DEBUG)


if __name__ == "__main__":
    main()
