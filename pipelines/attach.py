"""Documents with the same content are answered once: here each of the others is given the answers.

It is a pass behind the stream, over the part files, before the run settles. What it writes are records and
errors like any others, but for their costs, which were paid once. A run that ends before has written nothing
of it: those documents owe their answers still, and the next run meets them again, at the price of a download.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.cluster import unwrapped
from pipelines.copies import asked, by_content, duplicates_of, find_known, keys_of, of_this_run
from pipelines.holdings import settled_down
from pipelines.ledger import places_in
from pipelines.runs import names_of
from schemas.rows import ERRORS, IDENTITY, records_schema, with_attributes
from workers.sinks.parquet import DUPLICATES, ParquetSink
from workers.sinks.reading import read_part, read_parts
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipelines.copies import Holder, Told
    from pipelines.plan import Plan
    from pipelines.whole import Group
    from workers.prompt import Ask
    from workers.storage import ObjectInfo

RETRIES = 5
OF_ITS_OWN = (*IDENTITY.names, "attributes")
"""What a duplicate's rows say of it and not of the original."""
PAID = (
    *("attempts", "prompt_tokens", "cached_tokens", "output_tokens"),
    *("seconds", "queue_seconds", "generation_seconds"),
)
"""What the answers cost, which is in the original's rows and null in the others': sums stay right."""


def attach(plan: Plan) -> int:
    """Give the duplicates of a run the records and errors of their originals. Runs on the connected Ray.

    Returns:
        How many documents they are.

    Raises:
        GemstreamError: the output cannot be read or written; the next run makes up for it.
    """
    # What is written twice, because another shard swept meanwhile, is swept like any other double.
    return settled_down()(_attach, plan)


def _attach(plan: Plan) -> int:
    duplicates = duplicates_of(plan)
    for some in by_content(duplicates):
        _copy(plan, find_known(plan, some).told(some), [*plan.fingerprints, None])
    return len(duplicates)


def stand_in(plan: Plan, listed: pa.Table) -> None:
    """Give one copy the answers about a content's parts, where all of them are there and no document that the
    run works on has all: the original is gone from the source, or not selected, or failed where a copy did
    not. So there is one that can be asked about as a whole.

    Args:
        plan: the run.
        listed: its list: document_id, version, skipped.

    Raises:
        GemstreamError: what `attach` raises.
    """
    if plan.attaches and any(lane.wholes for lane in plan.lanes):
        settled_down()(_stand_in, plan, listed)


def _stand_in(plan: Plan, listed: pa.Table) -> None:
    duplicates = duplicates_of(plan)
    work = names_of(listed.filter(pc.invert(listed["skipped"])))
    wholes = {ask.task.name for lane in plan.lanes for ask in lane.wholes}
    for some in by_content(duplicates):
        known = find_known(plan, some)
        own = names_of(some).combine_chunks()
        there = pa.array({each.name for held in known.holders.values() for each in held}, pa.string())
        there = there.filter(pc.invert(pc.is_in(there, own)))
        at_work = set(work.filter(pc.is_in(work, there)).to_pylist())
        lacking = [
            digest
            for digest, tasks in known.parted.items()
            if any(not _is_due(known.holders[digest], task, at_work) for task in tasks & wholes)
        ]
        if lacking:
            digests = pa.array(lacking, pa.string())
            first = pc.index_in(digests, some["document_digest"].combine_chunks())
            _copy(plan, known.told(some.take(first)), list(plan.fingerprints))


def _is_due(holders: Sequence[Holder], task: str, work: set[str]) -> bool:
    """Whether somebody is asked about the whole, or has been."""
    return any(each.is_complete or (each.name in work and task in each.parted) for each in holders)


def _copy(plan: Plan, told: Told, kinds: Sequence[str | None]) -> None:
    """Have the rows copied that are in files of these tasks; None stands for errors."""
    import ray

    there = ray.put(told)
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(copy_rows)
    refs = [
        task.remote(plan, kind, info, there) for kind in kinds for info in _files(plan, kind, told.originals)
    ]
    if not refs:
        return
    # Of a pass that is tried again none goes on behind it.
    ray.wait(refs, num_returns=len(refs))
    try:
        ray.get(refs)
    except ray.exceptions.RayError as error:
        raise unwrapped(error) from error


def one_of_each(plan: Plan, groups: Mapping[str, Sequence[Group]]) -> dict[str, list[Group]]:
    """Questions about whole documents, each asked of one document with a content. The others wait from here
    on like those that the stream has met: they got their parts from a run that came to no more.

    Args:
        plan: the run.
        groups: of `whole.due`, by lane.

    Raises:
        GemstreamError: the output cannot be read or written.
    """
    if not plan.attaches or not groups:
        return {pool: list(some) for pool, some in groups.items()}
    each = [
        (pool, group, _documents(plan, group, ["document_id", "version", "document_digest"]))
        for pool, some in groups.items()
        for group in some
    ]
    waiting, told = names_of(duplicates_of(plan)).combine_chunks().sort(), _answered(plan, each)
    found: dict[str, list[Group]] = {}
    # Who waits is asked only where nobody else with that content is.
    for wait, (pool, group, documents) in itertools.product((False, True), each):
        waits = pc.is_valid(places_in(names_of(documents), waiting))
        rows, first = documents.filter(waits if wait else pc.invert(waits)), []
        for digest in rows["document_digest"].to_pylist():
            first.append(digest is None or (group.ask.fingerprint, digest) not in told)
            told.add((group.ask.fingerprint, digest))
        if any(first):
            names = names_of(rows.filter(pa.array(first))).combine_chunks()
            found.setdefault(pool, []).append(replace(group, names=names))
        if not (wait or all(first)):
            others = names_of(rows.filter(pc.invert(pa.array(first)))).combine_chunks()
            _sink(plan).write_duplicates(_documents(plan, replace(group, names=others)))
    return found


def _answered(plan: Plan, each: Iterable[tuple[str, Group, pa.Table]]) -> set[tuple[str, str]]:
    """Fingerprint and content of what is answered of some other document: the run that asked it was ended
    before it gave its copies the answer."""
    digests = pa.chunked_array([rows["document_digest"] for _, _, rows in each], pa.string()).unique()
    asks = {group.ask.fingerprint: group.ask for _, group, _ in each}
    return settled_down()(_answered_of, plan, asks.values(), digests)


def _answered_of(plan: Plan, asks: Iterable[Ask], digests: pa.Array) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    columns = ["document_digest", "fingerprint", "run_id"]
    for ask in asks:
        for part in read_parts(plan.output, plan.job.storage, f"records/task={ask.task.name}", columns):
            rows = asked(plan, ask.task.name, part.rows)
            told = rows.filter(pc.equal(rows["fingerprint"], ask.fingerprint))["document_digest"].unique()
            if len(told):
                told = told.drop_null()
                told = told.filter(pc.is_in(told, digests))
                found.update((ask.fingerprint, digest) for digest in told.to_pylist())
    return found


def _documents(plan: Plan, group: Group, columns: Sequence[str] | None = None) -> pa.Table:
    """DUPLICATES of a group, a row for each document, or some columns of them."""
    return settled_down()(_documents_of, plan, group, columns)


def _documents_of(plan: Plan, group: Group, columns: Sequence[str] | None) -> pa.Table:
    schema = with_attributes(DUPLICATES, plan.attributes)
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    tables, storage = [schema.empty_table()], open_storage(plan.output, plan.job.storage)
    for uri in group.files:
        rows = read_part(storage, storage.info(uri), schema.names).rows
        tables.append(rows.filter(pc.is_in(names_of(rows), group.names)).cast(schema))
    rows = pa.concat_tables(tables)
    return rows.take(pc.index_in(group.names, names_of(rows).combine_chunks()))


def _sink(plan: Plan) -> ParquetSink:
    return ParquetSink(
        plan.output, plan.job.storage, plan.data_types, plan.attributes, plan.run_id, plan.metadata
    )


def copy_rows(plan: Plan, task: str | None, info: ObjectInfo, told: Told) -> None:
    """Write the rows of originals in one part file again, for each of their duplicates.

    Args:
        plan: the run.
        task: whose records the file holds; None if it holds errors.
        info: of the file.
        told: of whom.
    """
    schema = with_attributes(ERRORS, plan.attributes)
    if task is not None:
        schema = records_schema(plan.data_types.get(task), plan.attributes)
    rows = read_part(open_storage(info.uri, plan.job.storage), info, schema.names).rows
    rows = rows.filter(pc.is_in(names_of(rows), told.originals))
    rows = of_this_run(plan, rows) if task is None else asked(plan, task, rows)
    sink = _sink(plan)
    for copies in attached(rows.cast(schema), told.duplicates, plan.run_id, plan.job.sink.rows):
        if task is not None:
            keys = keys_of(names_of(copies), copies["part_index"])
            copies = copies.filter(pc.invert(pc.is_in(keys, told.held[task])))
        if len(copies):
            sink.write_rows(copies, task)


def attached(rows: pa.Table, duplicates: pa.Table, run_id: str, most: int) -> Iterator[pa.Table]:
    """Rows about originals as rows about their duplicates, for each of them: a page that is there a million
    times is as many rows, of which few are held at once.

    Args:
        rows: records or errors, `document_digest` among them.
        duplicates: DUPLICATES.
        run_id: of the run that attaches them.
        most: rows of a table.
    """
    import numpy as np

    digests = pc.unique(duplicates["document_digest"])
    of_rows = pc.index_in(rows["document_digest"], digests).to_numpy()
    of_them = pc.index_in(duplicates["document_digest"], digests).to_numpy()
    order = np.argsort(of_them, kind="stable")
    starts = np.searchsorted(of_them[order], of_rows, side="left")
    counts = np.searchsorted(of_them[order], of_rows, side="right") - starts
    source = np.repeat(np.arange(len(rows)), counts)
    after = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    target = order[np.repeat(starts, counts) + after]
    waits = pc.is_in(names_of(duplicates), names_of(rows).unique())
    if pc.any(waits).as_py():
        # One that waits and was asked after all is an original too, of the others.
        own = pc.fill_null(pc.index_in(names_of(rows), names_of(duplicates).combine_chunks()), -1)
        others = own.to_numpy()[source] != target
        source, target = source[others], target[others]
    for start in range(0, len(source), most):
        copies = rows.take(pa.array(source[start : start + most]))
        yield _as_theirs(copies, duplicates.take(pa.array(target[start : start + most])), run_id)


def _as_theirs(copies: pa.Table, theirs: pa.Table, run_id: str) -> pa.Table:
    columns = {name: theirs[name] for name in OF_ITS_OWN if name in theirs.column_names}
    columns |= {
        name: pa.nulls(len(copies), copies.schema.field(name).type)
        for name in PAID
        if name in copies.column_names
    }
    columns["run_id"] = pa.repeat(pa.scalar(run_id), len(copies))
    return pa.table(
        {field.name: columns.get(field.name, copies[field.name]) for field in copies.schema}
    ).cast(copies.schema)


def _files(plan: Plan, task: str | None, originals: pa.Array) -> list[ObjectInfo]:
    """Part files with rows about originals that this run copies: a task's answers, or errors (None)."""
    columns = ["document_id", "version", "run_id"]
    if task is None:
        parts = read_parts(plan.output, plan.job.storage, "errors", columns)
        return [part.info for part in parts if _names_any(of_this_run(plan, part.rows), originals)]
    # An old answer's file may have other columns: the task was of another kind when it was made.
    parts = read_parts(plan.output, plan.job.storage, f"records/task={task}", [*columns, "fingerprint"])
    return [part.info for part in parts if _names_any(asked(plan, task, part.rows), originals)]


def _names_any(rows: pa.Table, names: pa.Array) -> bool:
    return bool(pc.any(pc.is_in(names_of(rows), names)).as_py())
