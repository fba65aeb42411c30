"""The end of a run: its tables are brought to hold what its folders hold."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pipelines.lake.changes import find_change
from pipelines.lake.committing import Change, Committer
from pipelines.lake.staged import discard_dead
from pipelines.lake.tables import refuse_foreign, tables_of
from pipelines.report import TableCounts
from schemas.errors import StorageUnavailable
from schemas.ids import digest
from workers.tables import OUTPUT, open_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from pipelines.lake.tables import LakeTable
    from pipelines.plan import Plan
    from workers.tables import Snapshot

FINGERPRINT = "gemstream.fingerprint"
"""Property of a commit: of all that the job asks, and how."""


def bring_up(plan: Plan, listed: pa.Table, check: Callable[[], None]) -> dict[str, TableCounts]:
    """Bring the tables of a run to hold exactly the rows of its folders. Runs on the connected Ray.

    Args:
        plan: the run, settled.
        listed: its list: document_id.
        check: raises if this run may not write any more; called right before each commit.

    Returns:
        Name of each table -> what became of it.

    Raises:
        JobError: a table is not this output's; a column has another type there.
        StorageUnavailable: a store or a catalog does not answer, or others kept being faster; the next run
            makes up for it.
        GemstreamError: the output cannot be read.
    """
    tables = tables_of(plan)
    if not tables:
        return {}
    ids = listed["document_id"].combine_chunks()
    try:
        discard_dead(plan.output, plan.job.storage)
        return {table.name: _bring(plan, table, ids, check) for table in tables}
    except StorageUnavailable as error:
        raise StorageUnavailable(
            f"{error.message}; the part files of {plan.output} are complete, and the next run brings the "
            "tables up to date",
            **error.fields,
        ) from error


def _bring(plan: Plan, table: LakeTable, listed: pa.Array, check: Callable[[], None]) -> TableCounts:
    asked = sorted(name for names in plan.fingerprints.values() for name in names)
    committer = Committer(plan, table.place, {FINGERPRINT: digest(*asked)}, check)
    change = committer.bring(partial(_find, plan, table, listed))
    there = change.snapshot if change.is_empty else _newest(plan, table)
    return TableCounts(uri=table.place.uri, version=there.version, added=change.added, removed=change.removed)


def _find(plan: Plan, table: LakeTable, listed: pa.Array) -> Change:
    return find_change(plan, table, _newest(plan, table), listed)


def _newest(plan: Plan, table: LakeTable) -> Snapshot:
    """The table as it is; made, if it is not there."""
    opened = open_table(table.place, plan.job.storage)
    there = opened.snapshot() or opened.create(table.schema, {OUTPUT: plan.output})
    # Made by somebody else meanwhile, it may be anybody's.
    refuse_foreign(plan.output, table.place, there.properties.get(OUTPUT))
    return there
