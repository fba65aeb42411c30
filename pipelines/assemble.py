"""The records of a document -> its row in `documents/`, once the run has brought it to an end.

Whole groups of documents are made by one task each, which reads the part files that their answers lie
in: mostly one or two, since a document's parts leave the engines together.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.holdings import numbered, of_the_job
from pipelines.ledger import completeness
from pipelines.runs import ids_of, names_of
from pipelines.sweep import doubles, remove_rows
from schemas.documents import documents_schema
from schemas.errors import ObjectMissing
from schemas.ids import digest
from schemas.rows import ERRORS, records_schema, with_attributes
from workers.assemble import ERROR_COLUMNS, RECORD_COLUMNS
from workers.assemble import assemble as assemble_rows
from workers.sinks.parquet import encode, footer
from workers.sinks.reading import read_latest, read_parts
from workers.storage.factory import join, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipelines.holdings import Holdings
    from pipelines.plan import Plan
    from workers.storage import ObjectInfo

FOLDER = "documents"
GROUP = 2_000
"""Documents a task: some 20 MB of text, if they have ten pages each."""
RETRIES = 5
KEYS = ("document_id", "version", "answers", "answered_at", "run_id")


def assemble(
    plan: Plan,
    holdings: Holdings,
    listed: pa.Table,
    settled: pa.Table,
    check: Callable[[], None] | None = None,
) -> int:
    """Write the rows that are due, then take out those they replace. Runs on the connected Ray.

    Due is what this run has brought to an end, and what has all its answers without a row that holds
    them: an earlier run was ended before it came to this.

    Args:
        plan: the run.
        holdings: what the output holds, swept.
        listed: the run's list: document_id, version.
        settled: document_id and name of what this run has brought to an end.
        check: raises if this run may not write any more.

    Returns:
        How many rows were written.

    Raises:
        GemstreamError: the output cannot be read or written; the next run makes up for it.
    """
    import ray

    old, files = _rows_there(plan)
    due = _due(holdings, listed, settled, old, plan)
    if check is not None:
        check()
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(write_group)
    written = ray.get([task.remote(plan, *group) for group in _groups(holdings, due)])
    places = pa.array([place for place, file in enumerate(files) if file.uri in set(written)], pa.int32())
    # A file of that name is the new one now.
    old = old.filter(pc.invert(pc.is_in(old["file"], places)))
    there = old.select(["file", "row"])
    replaced = pc.is_in(old["document_id"], due["document_id"].combine_chunks())
    gone = [old.filter(replaced).select(["file", "row"])]
    gone.append(doubles(old.filter(pc.invert(replaced)), ["document_id"], latest="run_id"))
    remove_rows(plan, files, there, pa.concat_tables(gone), check)
    return len(due)


def write_group(plan: Plan, names: pa.Array, files: dict[str | None, list[str]]) -> str:
    """Assemble some documents and publish their rows as one file, whose address is returned.

    Args:
        plan: the run.
        names: `document_id/version` of the documents.
        files: task -> part files with answers to it; under None, those with errors.
    """
    own = [] if plan.attributes is None else ["attributes"]
    merged = {task.name: plan.data_types[task.name] for task in plan.job.tasks if task.merged}
    records = {}
    for task, asked in plan.fingerprints.items():
        schema = records_schema(merged.get(task), plan.attributes)
        columns = [*RECORD_COLUMNS, *(["data"] if task in merged else []), *own]
        current = pc.field("fingerprint").isin(asked)
        records[task] = _read(plan, files.get(task, ()), columns, names, schema, current)
    errors = _read(
        plan, files.get(None, ()), [*ERROR_COLUMNS, *own], names, with_attributes(ERRORS, plan.attributes)
    )
    transcripts = [task.name for task in plan.job.tasks if task.transcript]
    rows = assemble_rows(
        records,
        of_the_job(errors, plan.tasks_by_kind),
        plan.tasks_by_kind,
        transcripts,
        plan.run_id,
        plan.attributes,
        plan.wholes_by_kind,
    )
    uri = join(plan.output, FOLDER, f"part-{digest(*sorted(names.to_pylist()))}.parquet")
    content = encode(rows.replace_schema_metadata(footer(plan.metadata)))
    open_storage(uri, plan.job.storage).publish(uri, content)
    return uri


def _read(
    plan: Plan,
    uris: Sequence[str],
    columns: list[str],
    names: pa.Array,
    schema: pa.Schema,
    keep: pc.Expression | None = None,
) -> pa.Table:
    """The rows of these documents, of the schema's types.

    What is not to be kept is left out before it is cast: answers of an earlier schema have other types.
    """
    storage = open_storage(plan.output, plan.job.storage)
    tables = [pa.schema([schema.field(name) for name in columns]).empty_table()]
    for uri in uris:
        # Runs of other shards sweep it, but not these documents' rows.
        part = read_latest(storage, storage.info(uri), columns)
        if part is None:
            raise ObjectMissing(f"{uri} was there a moment ago; run again")
        rows = part.rows.filter(pc.is_in(names_of(part.rows), names))
        rows = rows if keep is None else rows.filter(keep)
        if len(rows):
            tables.append(rows.cast(tables[0].schema))
    return pa.concat_tables(tables)


def _rows_there(plan: Plan) -> tuple[pa.Table, list[ObjectInfo]]:
    """KEYS of `documents/`, of the run's shard, with `file` and `row`; and the files."""
    fields = [documents_schema(None).field(name).with_nullable(True) for name in KEYS]
    tables = [pa.schema([*fields, ("file", pa.int32()), ("row", pa.int64())]).empty_table()]
    files: list[ObjectInfo] = []
    mine = partial(numbered, shard=plan.selection.shard)
    unmoved = plan.selection.is_share
    for part in read_parts(plan.output, plan.job.storage, FOLDER, KEYS, mine, unmoved=unmoved):
        rows = part.rows.append_column("file", pa.repeat(pa.scalar(len(files), pa.int32()), len(part.rows)))
        tables.append(rows.select(tables[0].column_names).cast(tables[0].schema))
        files.append(part.info)
    return pa.concat_tables(tables), files


def _due(holdings: Holdings, listed: pa.Table, settled: pa.Table, old: pa.Table, plan: Plan) -> pa.Table:
    """document_id and name of the documents whose rows are to be made."""
    done = completeness(holdings.standing.runs, plan.tasks_by_kind, plan.wholes_by_kind)
    done = done.filter(pc.and_(done["complete"], pc.is_in(done["name"], names_of(listed).combine_chunks())))
    # What a row says stays where nothing is asked about its document any more.
    done = done.filter(pc.greater(done["answered"], 0))
    done = done.filter(pc.invert(pc.is_in(done["name"], settled["name"].combine_chunks())))
    done = done.append_column("document_id", ids_of(done["name"]))
    current = holdings.answers.filter(holdings.answers["current"])
    latest = current.group_by("name").aggregate([("answered_at", "max")])
    places = pc.index_in(done["name"], latest["name"].combine_chunks())
    wanted = _state(done["name"], done["answered"], pc.take(latest["answered_at_max"], places))
    there = _state(names_of(old), old["answers"], old["answered_at"])
    stale = pc.invert(pc.is_in(wanted, there.combine_chunks()))
    # Of what could not be looked up a row with answers says more than that.
    told = old["document_id"].filter(pc.greater(old["answers"], 0)).combine_chunks()
    in_doubt = pc.and_(pc.ends_with(settled["name"], "/"), pc.is_in(settled["document_id"], told))
    settled = settled.filter(pc.invert(in_doubt))
    return pa.concat_tables([settled, done.filter(stale).select(settled.column_names)])


def _state(names: pa.ChunkedArray, answers: pa.ChunkedArray, answered_at: pa.ChunkedArray) -> Any:
    """What a row must agree in with the answers to be of them."""
    stamp = answered_at.cast(pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(names, answers.cast(pa.string()), stamp, "/", null_handling="replace")


def _groups(holdings: Holdings, due: pa.Table) -> Iterator[tuple[pa.Array, dict[str | None, list[str]]]]:
    """Names and the part files they are in, in the order of the files."""
    current = holdings.answers.filter(holdings.answers["current"]).select(["name", "file", "task"])
    errors = holdings.errors.select(["name", "file"])
    errors = errors.append_column("task", pa.nulls(len(errors), pa.string()))
    names = due["name"].combine_chunks()
    said = pa.concat_tables([current, errors])
    said = said.filter(pc.is_in(said["name"], names))
    first = said.group_by("name", use_threads=False).aggregate([("file", "min")]).sort_by("file_min")
    place = pc.index_in(said["name"], first["name"].combine_chunks())
    said = said.append_column("group", pc.divide(place, GROUP))
    # Once for all of them: a look at everything for each would grow with the square of the documents.
    lies = said.group_by(["group", "task", "file"]).aggregate([]).sort_by("file")
    files: dict[int, dict[str | None, list[str]]] = {}
    for row in lies.to_pylist():
        of_task = files.setdefault(row["group"], {}).setdefault(row["task"], [])
        of_task.append(holdings.files[row["file"]].uri)
    for start in range(0, len(first), GROUP):
        yield first["name"].slice(start, GROUP).combine_chunks(), files[start // GROUP]
