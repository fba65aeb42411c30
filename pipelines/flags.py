"""What the commands take, and the job and the selection that they make of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import JobError

if TYPE_CHECKING:
    from schemas.job import JobSpec
    from schemas.selection import Selection
    from schemas.storage import StorageOptions

JobFile = Annotated[
    Path | None, typer.Argument(help="gemstream.yaml; flags on top of it win.", show_default=False)
]
Input = Annotated[
    list[str] | None, typer.Option("--input", "-i", help="Prefix to read: s3://bucket/prefix, or a path.")
]
Manifest = Annotated[str | None, typer.Option(help="Instead: a txt, csv, jsonl or parquet of URIs.")]
TableOf = Annotated[
    str | None, typer.Option("--table", help="Or a table, whose rows they are: s3://lake/documents, a path.")
]
UriColumn = Annotated[
    str | None, typer.Option("--uri-column", help="Of a table: the column that says where each document is.")
]
BytesColumn = Annotated[
    str | None, typer.Option("--bytes-column", help="Instead: the column that holds the documents.")
]
Key = Annotated[list[str] | None, typer.Option("--key", help="A column that its rows are known by.")]
Where = Annotated[str | None, typer.Option("--where", help="Of its rows, those with: year >= 2024.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Where records/, errors/ and _runs/ go.")]
TaskNames = Annotated[
    list[str] | None,
    typer.Option(
        "--task", "-t", help="caption, ocr, summarize, transcribe, extract; others need a job file."
    ),
]
Schema = Annotated[str | None, typer.Option(help="For extract: a JSON Schema file, or module:Model.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--field", "-f", help="For extract, instead: number, total:decimal or issued:date?."),
]
Vision = Annotated[str | None, typer.Option("--vision-model", help="Gemma 3: hub id, folder or auto.")]
Audio = Annotated[str | None, typer.Option("--audio-model", help="Gemma 3n: hub id, folder or auto.")]
Include = Annotated[list[str] | None, typer.Option(help="Only paths that match this glob.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Not the paths that match this glob.")]
Limit = Annotated[int | None, typer.Option(help="Stop listing after this many documents.")]
Setting = Annotated[
    list[str] | None, typer.Option("--set", help="Any other setting: limits.failed_share=0.5 (YAML values).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON on standard output.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of Ray and the workers.")]
Only = Annotated[
    list[str] | None, typer.Option(help="Work on these documents alone: new, changed or failed.")
]
Force = Annotated[bool, typer.Option("--force", help="Ask everything again, answered or not.")]
ShardOf = Annotated[
    str | None, typer.Option("--shard", help="One share of several that run side by side: 3/16.")
]
Category = Annotated[
    list[str] | None, typer.Option(help="Only failures of this category, such as corrupt or timeout.")
]
IntoOf = Annotated[
    str | None,
    typer.Option("--into", help="Of a table: `same` adds answers to it; an address, to one beside it."),
]
RatesOf = Annotated[
    str | None,
    typer.Option("--rates", help="To size the run by: L4, A100, H100, or a file of `gemstream bench`."),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="Let Prometheus read a Ray of our own here, on every interface."),
]
OutputOf = Annotated[str, typer.Argument(help="The output of a job.", show_default=False)]


FLAGS = {
    "input_": "input",
    "manifest": "manifest",
    "table_": "table.uri",
    "uri_column": "table.uri_column",
    "bytes_column": "table.bytes_column",
    "key": "table.key",
    "where": "table.filter",
    "output": "output",
    "vision_model": "models.vision",
    "audio_model": "models.audio",
    "include": "include",
    "exclude": "exclude",
    "limit": "limit",
    "rates": "rates",
    "into": "table.into",
}


def settings_of(values: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, by dotted setting.

    Raises:
        JobError: one that nothing would come of.
    """
    given = {key: values[flag] for flag, key in FLAGS.items() if values.get(flag) is not None}
    for flag in ("schema", "field"):
        if values.get(flag) and "extract" not in (values["task"] or ()):
            raise JobError(f"--{flag} goes with --task extract; in a file it is the task's own", key=flag)
    if values["task"]:
        shape = {"schema": values["schema"], "fields": _fields(values["field"])}
        shape = {key: value for key, value in shape.items() if value}
        given["tasks"] = [{"task": name, **shape} if name == "extract" else name for name in values["task"]]
    return given


def _fields(flags: list[str] | None) -> dict[str, Any]:
    """`--field total:decimal` as the job's file has it, a type in YAML; text where none is named."""
    import yaml

    said = {name.strip(): kind for name, _, kind in (flag.partition(":") for flag in flags or ())}
    try:
        return {name: yaml.safe_load(kind) or "text" for name, kind in said.items()}
    except (yaml.YAMLError, ValueError) as error:
        raise JobError(f"--field: no YAML value: {error}", key="field") from error


def job_of(path: Path | None, flags: dict[str, Any], settings: list[str] | None) -> JobSpec:
    """The job that a command line describes: its file, with its flags on top.

    Raises:
        JobError: it does not hold.
    """
    from schemas.job import load_job, make_job, overlay

    flags = flags | _set(settings)
    return load_job(path, flags) if path is not None else make_job(overlay({}, flags))


def said_of(path: Path | None, flags: dict[str, Any], settings: list[str] | None) -> set[str]:
    """The settings that a command line or its file names, by their first key.

    Raises:
        JobError: the file cannot be read.
    """
    import yaml

    from schemas.yaml_text import read_yaml

    said: Any = None
    if path is not None:
        try:
            said = read_yaml(path.read_text())
        except (OSError, yaml.YAMLError, ValueError) as error:
            raise JobError(f"job {path}: {error}", key="job") from error
    named = said if isinstance(said, dict) else {}
    return {str(key).partition(".")[0] for key in (*named, *flags, *_set(settings))}


def storage_of(settings: list[str] | None, *, others: bool = False) -> StorageOptions:
    """How a command that needs no job reaches an output: what `--set storage.…` says.

    Args:
        settings: of the command line.
        others: whether there may be other settings, which the caller looks at.

    Raises:
        JobError: it does not hold.
    """
    from schemas.job import make_job, overlay

    said = _set(settings)
    given = {key: value for key, value in said.items() if key.partition(".")[0] == "storage"}
    if not others and (besides := said.keys() - given.keys()):
        raise JobError(
            f"--set {min(besides)}: nothing comes of it here, where storage.… alone is asked for", key="set"
        )
    # A job with nothing in it but these, so that a mistake is told as in any other.
    return make_job(overlay({"input": ".", "output": ".", "tasks": ["ocr"]}, given)).storage


def _set(settings: list[str] | None) -> dict[str, Any]:
    import yaml

    given: dict[str, Any] = {}
    for setting in settings or ():
        key, separator, value = setting.partition("=")
        if not separator:
            raise JobError(f"--set {setting!r}: write it as key=value", key=key)
        try:
            given[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # of a date that there is not
            raise JobError(f"--set {setting!r}: no YAML value: {error}", key=key) from error
    return given


def selection_of(only: list[str] | None, force: bool, shard: str | None) -> Selection:
    """The documents that a command line narrows a run to.

    Raises:
        JobError: no such reason or shard.
    """
    from schemas.selection import ONLY, Selection
    from schemas.shard import Shard

    unknown = [word for word in only or () if word not in ONLY]
    if unknown:
        raise JobError(f"--only {unknown[0]!r}: one of {', '.join(sorted(ONLY))}", key="only")
    return Selection(
        only=frozenset(reason for word in only or () for reason in ONLY[word]),
        force=force,
        shard=Shard.parse(shard) if shard else None,
    )
