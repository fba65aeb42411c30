"""`gemstream subtitles`: one SRT or WebVTT file per recording, out of `documents/`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipelines.flags import OutputOf, Setting, storage_of
from schemas.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.storage import StorageOptions
    from workers.subtitles import Format

COLUMNS = ["document_id", "uri", "segments", "answered_at"]
NAME_CHARACTERS = 80
ID_CHARACTERS = 8

Kind = Annotated[Literal["srt", "vtt"], typer.Option("--format", help="SRT or WebVTT.")]
To = Annotated[str, typer.Option(help="Folder that the files go to: s3://bucket/prefix, or a path.")]
OfTask = Annotated[str | None, typer.Option("--task", help="Whose texts, where a job asked several things.")]


def subtitles(
    output: OutputOf, to: To, kind: Kind = "srt", task: OfTask = None, setting: Setting = None
) -> None:
    """Write a subtitle file for each recording of an output."""
    written = write_subtitles(output, to, kind, task, storage_of(setting))
    typer.echo(f"{written} files under {to}")


def write_subtitles(output: str, to: str, kind: Format, task: str | None, options: StorageOptions) -> int:
    """Publish the files, streaming; a document that is there twice, as its latest row has it.

    Args:
        output: of a job.
        to: the folder.
        kind: "srt" or "vtt".
        task: whose texts; may be left out where only one was asked about recordings.
        options: how to reach both.

    Returns:
        How many files there are now.

    Raises:
        JobError: several tasks were asked and none is named, or another one; `to` is no address; no run has
            written to the output.
        GemstreamError: the output cannot be read, or the folder not be written.
    """
    from pipelines.occupancy import refuse_no_output
    from workers.storage.factory import join, normalise, open_storage
    from workers.subtitles import render

    folder = normalise(to)
    storage = open_storage(folder, options)
    latest: dict[str, Any] = {}
    others: set[str] = set()
    for row in _recordings(output, options):
        if row["document_id"] in latest and latest[row["document_id"]] >= row["answered_at"]:
            continue
        tasks = sorted({segment["task"] for segment in row["segments"]})
        if task is not None and tasks and task not in tasks:
            others.update(tasks)
            continue  # an empty file would say that nobody speaks
        latest[row["document_id"]] = row["answered_at"]
        if task is None and len(tasks) > 1:
            raise JobError(f"several tasks heard {row['uri']}: name one with --task {tasks[0]}", key="task")
        shown = [segment for segment in row["segments"] if task in (None, segment["task"])]
        name = file_name(row["uri"], row["document_id"], kind)
        storage.publish(join(folder, name), render(shown, kind).encode())
    if others and not latest:
        raise JobError(
            f"--task {task}: no recording was heard for it; one of {', '.join(sorted(others))}", key="task"
        )
    if not latest:
        refuse_no_output(output, options, "there are no recordings")
    return len(latest)


def file_name(uri: str, document_id: str, kind: Format) -> str:
    """A document's own name, and a piece of its id, since two folders may hold the same name.

    Letters and digits of any script stay; all else, and with it whatever a path is made of, is a dash.
    """
    stem = uri.rstrip("/").rpartition("/")[2]
    safe = re.sub(r"[^\w.-]+", "-", stem)[:NAME_CHARACTERS].strip(".-") or "recording"
    return f"{safe}-{document_id[:ID_CHARACTERS]}.{kind}"


def _recordings(output: str, options: StorageOptions) -> Iterator[dict[str, Any]]:
    import pyarrow.compute as pc

    from workers.sinks.reading import read_columns

    for rows in read_columns(output, options, "documents", COLUMNS):
        yield from rows.filter(pc.is_valid(rows["segments"])).to_pylist()
