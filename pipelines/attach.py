"""Documents with the same content are answered once: here each of the others is given the answers.

It is a pass behind the stream, over the part files, before the run settles. What it writes are records and
errors like any others, but for their costs, which were paid once. A run that ends before has written nothing
of it: those documents owe their answers still, and the next run meets them again, at the price of a download.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.cluster import unwrapped
from pipelines.holdings import settled_down
from pipelines.runs import names_of
from schemas.rows import ERRORS, IDENTITY, records_schema, with_attributes
from workers.sinks.parquet import DUPLICATES, ParquetSink
from workers.sinks.reading import read_part, read_parts
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipelines.plan import Plan
    from pipelines.whole import Group
    from workers.storage import ObjectInfo

RETRIES = 5
OF_ITS_OWN = (*IDENTITY.names, "attributes")
"""What a duplicate's rows say of it and not of the original."""
PAID = (
    *("attempts", "prompt_tokens", "cached_tokens", "output_tokens"),
    *("seconds", "queue_seconds", "generation_seconds"),
)
"""What the answers cost, which is in the original's rows and null in the others': sums stay right."""


@dataclass(frozen=True)
class Told:
    """What each task of the pass is told.

    Attributes:
        duplicates: DUPLICATES of the run.
        originals: names (`document_id/version`), one for each content.
        short: those of them that have not all their answers.
        done: contents of which a document has all its answers.
        held: task -> the answers that duplicates have already, as `_answers` has them.
    """

    duplicates: pa.Table
    originals: pa.Array
    short: pa.Array
    done: frozenset[str]
    held: Mapping[str, pa.Array]


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
    duplicates = _duplicates(plan)
    if len(duplicates):
        _copy(plan, find_originals(plan, duplicates), [*plan.fingerprints, None])
    return len(duplicates)


def stand_in(plan: Plan, listed: pa.Table) -> None:
    """Give one copy of each content the answers about its parts whose original this run does not work on: it
    is gone from the source, or not selected. So there is one that can be asked about as a whole.

    Args:
        plan: the run.
        listed: its list: document_id, version, skipped.

    Raises:
        GemstreamError: what `attach` raises.
    """
    if plan.attaches and any(lane.wholes for lane in plan.lanes):
        settled_down()(_stand_in, plan, listed)


def _stand_in(plan: Plan, listed: pa.Table) -> None:
    duplicates = _duplicates(plan)
    if not len(duplicates):
        return
    told = find_originals(plan, duplicates)
    work = names_of(listed.filter(pc.invert(listed["skipped"]))).combine_chunks()
    absent = told.short.filter(pc.invert(pc.is_in(told.short, work)))
    if len(absent):
        first = pc.index_in(duplicates["document_digest"].unique(), duplicates["document_digest"])
        told = replace(told, duplicates=duplicates.take(first), originals=absent)
        _copy(plan, told, list(plan.fingerprints))


def _copy(plan: Plan, told: Told, kinds: Sequence[str | None]) -> None:
    """Have the rows copied that are in files of these tasks; None stands for errors."""
    import ray

    there = ray.put(told)
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(copy_rows)
    work = [(kind, info) for kind in kinds for info in _files(plan, kind, told.originals)]
    try:
        ray.get([task.remote(plan, kind, info, there) for kind, info in work])
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
    each = [(pool, group, _documents(plan, group)) for pool, some in groups.items() for group in some]
    waiting, done = names_of(_duplicates(plan)).combine_chunks(), _done(plan, each)
    asked = {(group.ask.fingerprint, digest) for _, group, _ in each for digest in done}
    found: dict[str, list[Group]] = {}
    # Who waits is asked only where nobody else with that content is.
    for wait, (pool, group, documents) in itertools.product((False, True), each):
        waits = pc.is_in(names_of(documents), waiting)
        rows, first = documents.filter(waits if wait else pc.invert(waits)), []
        for digest in rows["document_digest"].to_pylist():
            first.append(digest is None or (group.ask.fingerprint, digest) not in asked)
            asked.add((group.ask.fingerprint, digest))
        if any(first):
            names = names_of(rows.filter(pa.array(first))).combine_chunks()
            found.setdefault(pool, []).append(replace(group, names=names))
        if not (wait or all(first)):
            _sink(plan).write_duplicates(rows.filter(pc.invert(pa.array(first))))
    return found


def _done(plan: Plan, each: Iterable[tuple[str, Group, pa.Table]]) -> frozenset[str]:
    """Contents of these documents that some other has all answers about, so that nothing is left to ask: of a
    run that was ended before it gave them to its copies."""
    told = [pa.array([], pa.string())]
    columns = ["document_digest", "fingerprint", "run_id"]
    for ask in {group.ask.fingerprint: group.ask for _, group, _ in each}.values():
        for part in read_parts(plan.output, plan.job.storage, f"records/task={ask.task.name}", columns):
            rows = _asked(plan, ask.task.name, part.rows)
            told.append(
                rows.filter(pc.equal(rows["fingerprint"], ask.fingerprint))["document_digest"].unique()
            )
    likely = pa.concat_arrays(told)
    documents = pa.concat_tables(
        [rows.filter(pc.is_in(rows["document_digest"], likely)) for _, _, rows in each]
    )
    return find_originals(plan, documents).done if len(documents) else frozenset()


def _documents(plan: Plan, group: Group) -> pa.Table:
    """DUPLICATES of a group, a row for each document."""
    schema = with_attributes(DUPLICATES, plan.attributes)
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
    rows = _of_this_run(plan, rows) if task is None else _asked(plan, task, rows)
    sink = _sink(plan)
    for copies in attached(rows.cast(schema), told.duplicates, plan.run_id, plan.job.sink.rows):
        # One that waited and was asked after all is the original of the others, and of itself.
        copies = copies.filter(pc.invert(pc.is_in(names_of(copies), told.originals)))
        if task is not None:
            copies = copies.filter(pc.invert(pc.is_in(_answers(copies), told.held[task])))
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


def _duplicates(plan: Plan) -> pa.Table:
    schema = with_attributes(DUPLICATES, plan.attributes)
    tables = [schema.empty_table()]
    folder = f"_runs/{plan.run_id}/duplicates"
    for part in read_parts(plan.output, plan.job.storage, folder, schema.names):
        tables.append(part.rows.cast(schema))
    rows = pa.concat_tables(tables).combine_chunks()
    # One that waits for answers to two questions about the whole is there twice.
    names = names_of(rows).combine_chunks()
    return rows.take(pc.index_in(names.unique(), names))


def find_originals(plan: Plan, duplicates: pa.Table) -> Told:
    """Choose for each content the document whose rows say most: one with all its answers, or else one that
    this run has met, which has an error for whatever has no answer."""
    digests, own = pc.unique(duplicates["document_digest"]), names_of(duplicates).combine_chunks()
    answers: Counter[tuple[str, str]] = Counter()
    owed: dict[tuple[str, str], int] = {}
    met: set[tuple[str, str]] = set()
    held: dict[str, pa.Array] = {}
    columns = ["document_id", "version", "document_digest", "parts_total", "part_kind"]
    for task in plan.fingerprints:
        wanted, theirs = [*columns, "part_index", "fingerprint", "run_id"], [pa.array([], pa.string())]
        for part in read_parts(plan.output, plan.job.storage, f"records/task={task}", wanted):
            rows = _asked(plan, task, part.rows)
            rows = rows.filter(pc.is_in(rows["document_digest"], digests))
            theirs.append(_answers(rows.filter(pc.is_in(names_of(rows), own))).combine_chunks())
            kinds = [kind for kind, names in plan.tasks_by_kind.items() if task in names]
            for row in _counted(rows.filter(pc.is_in(rows["part_kind"], pa.array(kinds, pa.string())))):
                answers[row["digest"], row["name"]] += row["count_all"]
                owed[row["digest"], row["name"]] = _owed(plan, row["part_kind_min"], row["parts_total_max"])
        held[task] = pa.concat_arrays(theirs)
    for part in read_parts(plan.output, plan.job.storage, "errors", [*columns, "run_id"]):
        rows = _of_this_run(plan, part.rows)
        met.update(
            (row["digest"], row["name"])
            for row in _counted(rows.filter(pc.is_in(rows["document_digest"], digests)))
        )
    best: dict[str, tuple[bool, bool, int, str]] = {}
    for digest, name in answers.keys() | met:
        count = answers[digest, name]
        is_complete = count >= owed.get((digest, name), 1)
        rank = (is_complete, (digest, name) in met, count, name)
        best[digest] = max(best.get(digest, rank), rank)
    return Told(
        duplicates,
        originals=pa.array([name for *_, name in best.values()], pa.string()),
        short=pa.array([name for is_complete, *_, name in best.values() if not is_complete], pa.string()),
        done=frozenset(digest for digest, (is_complete, *_) in best.items() if is_complete),
        held=held,
    )


def _asked(plan: Plan, task: str, rows: pa.Table) -> pa.Table:
    """Of answers to a task those that the job asks for; where a run was told to ask again, those it got."""
    rows = rows.filter(pc.is_in(rows["fingerprint"], pa.array(plan.fingerprints[task])))
    return rows.filter(pc.equal(rows["run_id"], plan.run_id)) if plan.selection.force else rows


def _owed(plan: Plan, kind: str, parts: int) -> int:
    """The answers that a document of so many parts owes."""
    whole = plan.wholes_by_kind.get(kind, ()) if parts > 1 else ()
    return parts * len(plan.tasks_by_kind.get(kind, ())) + len(whole)


def _counted(rows: pa.Table) -> list[dict[str, Any]]:
    """How often each document is spoken of, by content and name."""
    named = rows.select(["parts_total", "part_kind"]).append_column("name", names_of(rows))
    named = named.append_column("digest", rows["document_digest"])
    sums = [([], "count_all"), ("parts_total", "max"), ("part_kind", "min")]
    found: list[dict[str, Any]] = named.group_by(["digest", "name"]).aggregate(sums).to_pylist()
    return found


def _answers(rows: pa.Table) -> pa.ChunkedArray:
    """`document_id/version/` and the part that each row of one task is an answer about."""
    parts = pc.fill_null(rows["part_index"].cast(pa.string()), "")
    return pc.binary_join_element_wise(names_of(rows), parts, "/")


def _files(plan: Plan, task: str | None, originals: pa.Array) -> list[ObjectInfo]:
    """Part files with rows about originals that this run copies: a task's answers, or errors (None)."""
    columns = ["document_id", "version", "run_id"]
    if task is None:
        parts = read_parts(plan.output, plan.job.storage, "errors", columns)
        return [part.info for part in parts if _names_any(_of_this_run(plan, part.rows), originals)]
    # An old answer's file may have other columns: the task was of another kind when it was made.
    parts = read_parts(plan.output, plan.job.storage, f"records/task={task}", [*columns, "fingerprint"])
    return [part.info for part in parts if _names_any(_asked(plan, task, part.rows), originals)]


def _names_any(rows: pa.Table, names: pa.Array) -> bool:
    return bool(pc.any(pc.is_in(names_of(rows), names)).as_py())


def _of_this_run(plan: Plan, errors: pa.Table) -> pa.Table:
    """What an earlier run wrote down is no longer so: this one has met the original again."""
    return errors.filter(pc.equal(errors["run_id"], plan.run_id))
