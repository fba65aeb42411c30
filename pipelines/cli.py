"""`gemstream`: run a job, or see what it would do."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import GemstreamError, JobError

if TYPE_CHECKING:
    from schemas.job import JobSpec

app = typer.Typer(
    help="PDFs, scans, photos and recordings in object storage, through Gemma 3 and 3n, into typed Parquet.",
    no_args_is_help=True,
    # Plain help: the rich one costs 0.2 s of imports before the first word.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

JobFile = Annotated[
    Path | None, typer.Argument(help="gemstream.yaml; flags on top of it win.", show_default=False)
]
Input = Annotated[
    list[str] | None, typer.Option("--input", "-i", help="Prefix to read: s3://bucket/prefix, or a path.")
]
Manifest = Annotated[str | None, typer.Option(help="Instead: a txt, csv, jsonl or parquet of URIs.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Where records/, errors/ and _runs/ go.")]
TaskNames = Annotated[
    list[str] | None, typer.Option("--task", "-t", help="caption, ocr, transcribe or extract.")
]
Schema = Annotated[str | None, typer.Option(help="For extract: a JSON Schema file, or module:Model.")]
Vision = Annotated[str | None, typer.Option("--vision-model", help="Gemma 3: hub id or folder.")]
Audio = Annotated[str | None, typer.Option("--audio-model", help="Gemma 3n: hub id or folder.")]
Include = Annotated[list[str] | None, typer.Option(help="Only paths that match this glob.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Not the paths that match this glob.")]
Limit = Annotated[int | None, typer.Option(help="Stop listing after this many documents.")]
Setting = Annotated[
    list[str] | None, typer.Option("--set", help="Any other setting: limits.failed_share=0.5 (YAML values).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON on standard output.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of Ray and the workers.")]


@app.command()
def run(
    job_file: JobFile = None,
    input_: Input = None,
    manifest: Manifest = None,
    output: Output = None,
    task: TaskNames = None,
    schema: Schema = None,
    vision_model: Vision = None,
    audio_model: Audio = None,
    include: Include = None,
    exclude: Exclude = None,
    limit: Limit = None,
    setting: Setting = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run a job to its end. Run it again and it goes on from what is written.

    Exit codes: 0 done or nothing to do, 1 crash, 2 bad job, 3 too many documents failed, 4 documents
    unaccounted for.
    """
    from rich.console import Console

    from pipelines.runner import run as run_job

    _logging(verbose)
    job = _job(job_file, _flags(locals()), setting)
    report = run_job(job)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        Console().print(report.table())
        typer.echo(report.verdict)
        typer.echo(f"{report.files} files under {report.output}, the run under _runs/{report.run_id}")
        for uri in report.unsettled[:20]:
            typer.echo(f"unaccounted: {uri}")
    raise typer.Exit(report.exit_code)


@app.command()
def plan(
    job_file: JobFile = None,
    input_: Input = None,
    manifest: Manifest = None,
    output: Output = None,
    task: TaskNames = None,
    schema: Schema = None,
    vision_model: Vision = None,
    audio_model: Audio = None,
    include: Include = None,
    exclude: Exclude = None,
    limit: Limit = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run would do, and stop before any engine starts: documents, parts, tokens, columns."""
    from rich.console import Console

    from pipelines.preview import preview

    job = _job(job_file, _flags(locals()), setting)
    seen = preview(job)
    if as_json:
        typer.echo(seen.model_dump_json(indent=2))
    else:
        Console().print(seen.table())


def main() -> None:
    """Entry point: every error of ours ends in one message and its exit code."""
    # A scheduler's SIGTERM is an interrupt like Ctrl-C: what is answered is written first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except JobError as error:
        _fail(error, 2)
    except GemstreamError as error:
        _fail(error, 1)


def _fail(error: GemstreamError, code: int) -> None:
    print(f"gemstream: {error.message}", file=sys.stderr)
    sys.exit(code)


FLAGS = {
    "input_": "input",
    "manifest": "manifest",
    "output": "output",
    "vision_model": "models.vision",
    "audio_model": "models.audio",
    "include": "include",
    "exclude": "exclude",
    "limit": "limit",
}


def _flags(values: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, by dotted setting."""
    given = {key: values[flag] for flag, key in FLAGS.items() if values[flag] is not None}
    if values["task"]:
        given["tasks"] = [
            {"task": name, "schema": values["schema"]} if name == "extract" and values["schema"] else name
            for name in values["task"]
        ]
    return given


def _job(path: Path | None, flags: dict[str, Any], settings: list[str] | None) -> JobSpec:
    import yaml

    from schemas.job import load_job, make_job, overlay

    for setting in settings or ():
        key, separator, value = setting.partition("=")
        if not separator:
            raise JobError(f"--set {setting!r}: write it as key=value", key=key)
        try:
            flags[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise JobError(f"--set {setting!r}: no YAML value: {error}", key=key) from error
    return load_job(path, flags) if path is not None else make_job(overlay({}, flags))


def _logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    if verbose:
        logging.getLogger("gemstream").setLevel(logging.DEBUG)


if __name__ == "__main__":
    main()
