"""The end of a run: the answers about a table's rows are brought beside those rows, in one commit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.lake.answers import AnsweredFile, AnsweredKeys
from pipelines.lake.changes import by_file
from pipelines.lake.committing import Change, Committer
from pipelines.lake.into import KEY, into_of, mark, schema_of, unasked
from pipelines.lake.matching import Looked, matched_beside, matched_same
from pipelines.lake.portions import of_parts, of_rest
from pipelines.lake.staged import discard_dead
from pipelines.lake.sync import FINGERPRINT
from pipelines.report import TableCounts
from schemas.errors import JobError, StorageUnavailable
from schemas.ids import digest
from workers.sinks.reading import part_files
from workers.storage.factory import join, open_storage
from workers.tables import OUTPUT, open_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.lake.into import Into
    from pipelines.plan import Plan
    from schemas.tables import Place
    from workers.tables import Snapshot

FOLDER = "documents"


def enrich(plan: Plan, check: Callable[[], None]) -> dict[str, TableCounts]:
    """Bring the answers to the table that a job reads, or to one beside it. Runs on the connected Ray.

    All that `documents/` says is brought, not what this run has answered alone: so a run that was killed
    before it came to this is made up for.

    Args:
        plan: the run, settled.
        check: raises if this run may not write any more; called right before the commit.

    Returns:
        The job's word for where -> what became of it; nothing if it asks for nothing.

    Raises:
        JobError: the table has a column of ours that is not ours.
        StorageUnavailable: a store or a catalog does not answer, or others kept being faster; the next run
            makes up for it.
        GemstreamError: the output cannot be read.
    """
    into = into_of(plan)
    if into is None:
        return {}
    asked = sorted(name for names in plan.fingerprints.values() for name in names)
    committer = Committer(plan, into.target, {FINGERPRINT: digest(*asked)}, check)
    try:
        discard_dead(plan.output, plan.job.storage)
        change = committer.bring(partial(_same if into.same else _beside, plan, into))
        there = change.snapshot if change.is_empty else _newest(plan, into.target)
    except StorageUnavailable as error:
        raise StorageUnavailable(
            f"{error.message}; the part files of {plan.output} are complete, and the next run brings "
            f"{into.target.uri} up to date",
            **error.fields,
        ) from error
    counts = TableCounts(
        uri=into.target.uri, version=there.version, added=change.added, removed=change.removed
    )
    return {f"into {into.target.uri}": counts}


def _same(plan: Plan, into: Into) -> Change:
    """What the table that is read lacks: those of its files that are to have other answers, written anew."""
    looked = _looked(plan, into)
    there = looked.snapshot
    schema = schema_of(plan, into, there)
    anew = not set(into.schema.names) <= set(there.schema.names)
    pairs, places = matched_same(into, looked, anew=anew)
    if not len(pairs):
        return Change(there, (), (), there.schema)
    if anew:
        mark(plan, into)
    rows = sum(pairs["rows"].to_pylist())
    return Change(
        snapshot=there,
        portions=_answered(plan, into, looked, pairs, places),
        remove=tuple(looked.files[file] for file in pc.unique(pairs["file"]).to_pylist()),
        schema=schema,
        added=rows,
        removed=rows,
    )


def _answered(
    plan: Plan, into: Into, looked: Looked, pairs: pa.Table, places: pa.Table
) -> tuple[AnsweredFile, ...]:
    """A portion for each file of the PAIRS: one of a partition never becomes one with another's."""
    no_more = unasked(plan, into, looked.snapshot)
    left_out, none = by_file(places), pa.array([], pa.int64()).to_numpy()
    by_part = pairs.sort_by("part").group_by("file", use_threads=False).aggregate([("part", "list")])
    return tuple(
        AnsweredFile(
            into=into,
            storage=plan.job.storage,
            snapshot=looked.snapshot,
            file=looked.files[row["file"]],
            parts=tuple(looked.parts[part] for part in row["part_list"] if part is not None),
            left_out=left_out.get(row["file"], none),
            unasked=no_more,
        )
        for row in by_part.to_pylist()
    )


def _beside(plan: Plan, into: Into) -> Change:
    """What the table beside lacks, and has of other answers. It is made if it is not there."""
    opened = open_table(into.target, plan.job.storage)
    there = opened.snapshot() or opened.create(into.schema, {OUTPUT: plan.output})
    schema = schema_of(plan, into, there)
    anew = not set(into.schema.names) <= set(there.schema.names)
    looked, files = _looked(plan, into), there.files()
    if not anew:
        # Two runs that add one row are in no conflict, so each adds those of its own shard. A new column is
        # for all rows, and those that it replaces can be replaced once.
        looked = replace(looked, shard=plan.selection.shard)
    put, gone = matched_beside(into, looked, there, files, anew=anew)
    if not len(put) and not len(gone):
        return Change(there, (), (), there.schema)
    put = pa.table({"file": put["part"], "row": put["row"].cast(pa.int64())})
    wanted = of_parts(plan.job.storage, looked.parts, by_file(put))
    removed = by_file(gone)
    return Change(
        snapshot=there,
        portions=(*(AnsweredKeys(into, rows) for rows in wanted), *of_rest(there, files, removed)),
        remove=tuple(files[file] for file in sorted(removed)),
        schema=schema,
        added=len(put),
        removed=len(gone),
    )


def _looked(plan: Plan, into: Into) -> Looked:
    """`documents/` and the table that is read, as they are now: rows that came while the run was at work have
    no answers yet, and keep what else they have."""
    folder = join(plan.output, FOLDER)
    parts = list(part_files(open_storage(folder, plan.job.storage), folder))
    there = _newest(plan, into.source)
    return Looked(plan.job.storage, parts, there, there.files())


def _newest(plan: Plan, place: Place) -> Snapshot:
    there = open_table(place, plan.job.storage).snapshot()
    if there is None:
        raise JobError(f"{KEY}: the table {place.uri} is gone", key=KEY)
    return there
