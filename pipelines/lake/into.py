"""Where the answers about a table's rows go besides: into the table itself, or into one beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines.lake.tables import refuse_foreign
from pipelines.occupancy import impatient
from pipelines.sources.row_names import row_naming
from pipelines.sources.table_place import place_of
from schemas.enriched import answer_columns, enriched_schema
from schemas.errors import JobError
from schemas.tables import Place, TableFormat
from workers.storage.factory import has_scheme, join, list_if_there, normalise, open_storage
from workers.tables import OUTPUT, open_table
from workers.tables.shapes import evolved

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.sources.row_names import RowNaming
    from schemas.enriched import AnswerColumn
    from schemas.job import JobSpec
    from schemas.storage import StorageOptions
    from workers.tables import Snapshot

SAME = "same"
KEY = "table.into"
MARK = "into.json"


@dataclass(frozen=True)
class Into:
    """What a job wants of its table. Picklable.

    Attributes:
        source: the table that is read.
        target: the one that is written; the same, or one beside it.
        naming: how a row names its document.
        columns: the answers.
        key: what a row is known by; without, a row goes by its address.
        beside: the columns of a table beside that say which row it is.
    """

    source: Place
    target: Place
    naming: RowNaming
    columns: tuple[AnswerColumn, ...]
    key: tuple[str, ...]
    beside: tuple[pa.Field, ...]

    @property
    def same(self) -> bool:
        """Whether it is the table itself."""
        return self.source == self.target

    @property
    def schema(self) -> pa.Schema:
        """Of what is written: columns that are added, or all of a table beside."""
        answers = enriched_schema(self.columns)
        return answers if self.same else pa.schema([*self.beside, *answers])


def into_of(plan: Plan) -> Into | None:
    """What a job wants of its table besides; None if nothing.

    Raises:
        JobError: there is no such place, or the columns do not go together.
    """
    options = plan.job.table
    if options is None or options.into is None:
        return None
    source = place_of(options, plan.job.storage)
    target = _target(source, options.into)
    merged = {task.name: plan.data_types[task.name] for task in plan.job.tasks if task.merged}
    columns = answer_columns((task.name for task in plan.job.tasks), merged)
    privacy = plan.job.privacy
    naming = row_naming(options, source, plan.job.storage, privacy.key() if privacy.hash_uris else None)
    into = Into(source, target, naming, columns, options.key, _beside(plan, options.key))
    if not into.same:
        _refuse_one_name(into)
        addresses = {options.content: "hash_uris"} if privacy.hash_uris else {}
        settings = addresses | dict.fromkeys(privacy.hash_columns, "hash_columns")
        hidden = sorted(set(options.key) & set(settings))
        if hidden:
            raise JobError(
                f"{KEY}: a table beside goes by the key, and privacy.{settings[hidden[0]]} hides its column "
                f"{hidden[0]!r}: leave one of them out",
                key=KEY,
            )
    return into


def _target(source: Place, into: str) -> Place:
    if into.strip() == SAME:
        if source.format is TableFormat.PARQUET:
            raise JobError(
                f"{KEY}: a folder of Parquet files has no commits, so nothing is added to {source.uri} "
                "itself: name a place for a table beside it, which will be a Delta table",
                key=KEY,
            )
        return source
    if source.format is TableFormat.ICEBERG:
        if has_scheme(into) or "/" in into or "." not in into:
            raise JobError(
                f"{KEY}: {into!r} is no name of an Iceberg table: write namespace.table, or `{SAME}`", key=KEY
            )
        target = source.model_copy(update={"uri": into})
    else:
        kind = TableFormat.DELTA if source.format is TableFormat.PARQUET else source.format
        target = Place(format=kind, uri=normalise(into).rstrip("/"))
    if target.uri == source.uri.rstrip("/"):
        raise JobError(f"{KEY}: {into} is the table that is read: write `{SAME}`", key=KEY)
    return target


def _beside(plan: Plan, key: tuple[str, ...]) -> tuple[pa.Field, ...]:
    """The columns that a table beside knows its rows by."""
    if not key:
        table = plan.job.table
        return (pa.field(table.content if table else "uri", pa.string()),)
    types = {field.name: field.type for field in plan.attributes or ()}
    # Whoever only looks may not have opened the source: of any type, then.
    return tuple(pa.field(name, types.get(name, pa.null())) for name in key)


def _refuse_one_name(into: Into) -> None:
    """Most engines take capitals for small letters in names of columns."""
    names = [name.lower() for name in into.schema.names]
    for name in into.schema.names:
        if names.count(name.lower()) > 1:
            raise JobError(
                f"{KEY}: {name!r} would be a column of the key and one of answers: rename the task", key=KEY
            )


def refuse_into(plan: Plan) -> None:
    """Look at where the answers are to go, before anything is spent.

    Raises:
        JobError: there is no such place; columns there have the names of ours, or other types; the format
            has no type for one of the key; the table is somebody else's, or one that is not written.
        GemstreamError: a store or a catalog does not answer.
    """
    into = into_of(plan)
    if into is None:
        return
    opened = open_table(into.target, impatient(plan.job.storage))
    try:
        opened.fitted(pa.schema([field for field in into.schema if not pa.types.is_null(field.type)]))
    except JobError as error:
        raise JobError(error.message.replace("(table.columns)", "of the key"), key=KEY) from error
    there = opened.snapshot()
    if there is None:
        return
    schema_of(plan, into, there)
    if into.same and there.properties.get("delta.appendOnly", "").lower() == "true":
        raise JobError(
            f"{KEY}: {into.target.uri} takes rows and lets none go (delta.appendOnly), and whoever changes a "
            "row takes it out: name a place for a table beside it",
            key=KEY,
        )
    # With the columns that it has it stays as it is; one that is not written at all is refused here.
    opened.evolve(there.schema)


def schema_of(plan: Plan, into: Into, there: Snapshot) -> pa.Schema:
    """Of the table, once the answers are in it.

    Raises:
        JobError: see `refuse_into`.
    """
    if into.same:
        _refuse_clash(plan, into, there)
    else:
        _refuse_stranger(plan, into, there)
    try:
        return evolved(there.schema, into.schema, into.target.uri)
    except JobError as error:
        raise JobError(error.message, key=KEY) from error


def _refuse_stranger(plan: Plan, into: Into, there: Snapshot) -> None:
    try:
        refuse_foreign(plan.output, into.target, there.properties.get(OUTPUT))
    except JobError as error:
        raise JobError(error.message.replace("(sink.tables)", f"({KEY})"), key=KEY) from error
    lacking = [field.name for field in into.beside if field.name not in there.schema.names]
    if lacking:
        raise JobError(
            f"{KEY}: {into.target.uri} has no column {lacking[0]!r}: it was made for another key; choose "
            "another place",
            key=KEY,
        )


def _refuse_clash(plan: Plan, into: Into, there: Snapshot) -> None:
    """Columns with our names are ours if a run of this output has added them, as it wrote down before."""
    wanted = {name.lower() for name in into.schema.names}
    met = [name for name in there.schema.names if name.lower() in wanted]
    if not met:
        return
    ours = _marked(plan.output, plan.job.storage, into.target)
    foreign = [name for name in met if name not in ours]
    if foreign:
        raise JobError(
            f"{KEY}: {into.target.uri} has a column {foreign[0]!r} already, which no run of {plan.output} "
            "added: rename it or the task, or drop it if it is of an output that is gone",
            key=KEY,
        )


def unasked(plan: Plan, into: Into, there: Snapshot) -> tuple[str, ...]:
    """Columns of the table that runs of this output have added, of tasks that the job has no more."""
    ours = _marked(plan.output, plan.job.storage, into.target)
    return tuple(name for name in there.schema.names if name in ours and name not in into.schema.names)


def mark(plan: Plan, into: Into) -> None:
    """Write down that this run adds its columns: to be done before it does."""
    said = {"table": into.target.uri, "columns": into.schema.names}
    uri = join(plan.output, "_runs", plan.run_id, MARK)
    open_storage(uri, plan.job.storage).publish(uri, json.dumps(said).encode())


def added_columns(job: JobSpec) -> frozenset[str]:
    """The columns that runs of a job's output have added to the table that it reads."""
    if job.table is None:
        return frozenset()
    place = place_of(job.table, job.storage)
    return _marked(normalise(job.output), job.storage, place)


def _marked(output: str, options: StorageOptions, place: Place) -> frozenset[str]:
    storage, runs = open_storage(output, options), join(output, "_runs", "")
    marks = [info.uri for info in list_if_there(storage, runs) if info.uri.endswith(f"/{MARK}")]
    said = [json.loads(storage.read(uri)) for uri in marks]
    return frozenset(name for one in said if one["table"] == place.uri for name in one["columns"])
