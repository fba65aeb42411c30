"""The command that measures how fast a machine is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.flags import (  # noqa: TC001  # typer reads annotations when it runs
    AsJson,
    Audio,
    BytesColumn,
    Fields,
    Input,
    JobFile,
    Key,
    Manifest,
    Schema,
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
from schemas.errors import JobError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from schemas.rates import Rates

Save = Annotated[Path | None, typer.Option(help="Write them to this file, for rates: and --rates.")]
Documents = Annotated[int, typer.Option(min=1, help="Documents to expand, at most.")]
PLACEHOLDER = "gemstream-bench-writes-nothing-there"


def bench(
    job_file: JobFile = None,
    input_: Input = None,
    manifest: Manifest = None,
    table_: TableOf = None,
    uri_column: UriColumn = None,
    bytes_column: BytesColumn = None,
    key: Key = None,
    where: Where = None,
    task: TaskNames = None,
    schema: Schema = None,
    field: Fields = None,
    vision_model: Vision = None,
    audio_model: Audio = None,
    documents: Documents = 24,
    save: Save = None,
    setting: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine's rates with a job's own documents, models and questions.

    Some of the job's documents are expanded, each of its engines is started and asked at full batch, and
    what that took is printed, to size runs by. Where no input is named, pages, photos and recordings are
    made for it. Nothing is written but the file of --save.
    """
    from pipelines.bench import bench as measure
    from pipelines.specimens import write_specimens
    from pipelines.terminal import terminal

    given = settings_of(locals())
    if save is not None:
        _refuse_unwritable(save)
    with tempfile.TemporaryDirectory(prefix="gemstream-bench-") as folder:
        missing = _missing(said_of(job_file, given, setting))
        if "input" in missing:
            missing["input"] = folder
            write_specimens(Path(folder))
        rates = measure(
            job_of(job_file, missing | given, setting), documents, lambda words: typer.echo(words, err=True)
        )
    if save is not None:
        save.write_text(rates.dump())
    if as_json:
        typer.echo(rates.model_dump_json(indent=2))
    else:
        terminal().print(table(rates))
        typer.echo(f"{rates.hardware}; {rates.source}")
    if save is not None:
        typer.echo(f"saved as {save}: `gemstream plan --rates {save}`", err=True)


def _refuse_unwritable(path: Path) -> None:
    """Before the minutes that measuring takes."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise JobError(
            f"--save {path} is not to be written; name a file in a folder that is there", key="save"
        )


def _missing(said: set[str]) -> dict[str, Any]:
    """What a job needs and nothing names, for a job that is not to be run."""
    lacking: dict[str, Any] = {}
    if not said & {"input", "manifest", "table"}:
        lacking["input"] = None
    if "output" not in said:
        lacking["output"] = PLACEHOLDER
    if "tasks" not in said:
        lacking["tasks"] = ["ocr", "transcribe"]
    return lacking


def table(rates: Rates) -> RenderableType:
    """Rates as a table of a terminal."""
    from rich.table import Table

    rows = Table("what", "rate", title="rates")
    for kind, seconds in rates.expand_seconds.items():
        rows.add_row(f"expand, CPU seconds each {kind}", f"{seconds:g}")
    rows.add_row("CPU seconds a record besides", f"{rates.record_seconds:g}")
    rows.add_row("keys listed a second", f"{rates.list_keys_per_second:,.0f}")
    rows.add_row("bytes read a second, one thread", f"{rates.get_bytes_per_second:,.0f}")
    for model, engine in rates.engines.items():
        rows.add_row(f"{model}, prompt tokens a second", f"{engine.prefill_tokens_per_second:,.0f}")
        rows.add_row(f"{model}, answer tokens a second", f"{engine.decode_tokens_per_second:,.0f}")
        for kind, seconds in engine.media_seconds.items():
            rows.add_row(f"{model}, seconds each {kind}", f"{seconds:g}")
        rows.add_row(f"{model}, seconds to start", f"{engine.start_seconds:g}")
    return rows
