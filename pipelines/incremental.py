"""Which files of a table a run may pass over: those that an earlier run of the same job has read to its end.

What is left to do in them is what the ledger holds as failed, unfinished or asked otherwise: their other rows
owe nothing, for that run has settled each of them. And it is those whose row in `documents/` is not of their
answers: a later run ended before it had made it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.holdings import settled_down
from pipelines.runs import ids_of
from pipelines.sources.hidden import HiddenSource
from pipelines.sources.table import TableSource
from schemas.ids import canonical, digest
from schemas.selection import Selection
from workers.sinks.reading import read_columns
from workers.storage.factory import join, list_if_there, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.ledger import Ledger
    from pipelines.plan import Plan
    from pipelines.sources import Source

NAME = "source.json"
LATER = ("version", "incremental", "into")
"""Settings of a table that change nothing about which rows are documents."""
ENDED = {NAME, "counts.json", "report.json"}
"""What a run leaves that has come to its end."""
_AT_ONCE = 100_000


def resume(plan: Plan, source: Source) -> dict[str, Any] | None:
    """Tell a table's source from which version on to read, if a run has read up to one.

    Returns:
        What the run writes down of the snapshot that it reads, to `source.json`; None of other sources.
    """
    table, rows = plan.job.table, _rows(source)
    if rows is None or rows.pinned is None or table is None:
        return None
    mine = {
        **rows.pinned,
        "settings": digest("table", canonical(_settings(plan))),
        "asked": digest("asked", canonical(_asked(plan))),
        "shard": str(plan.selection.shard) if plan.selection.shard else None,
        "narrowed": _is_narrowed(plan),
    }
    # Of hidden names, the ledger's ids are not those that rows have here.
    if table.incremental and not mine["narrowed"] and not plan.job.privacy.hash_uris:
        rows.since = _last(plan, rows, mine)
    return {**mine, "origin": rows.origin(mine["version"]), "since": rows.since}


def walk(plan: Plan, source: Source, ledger: Ledger) -> Iterator[pa.Table]:
    """The documents that a run lists: all of them where what earlier runs wrote has been removed."""
    rows = _rows(source)
    if rows is not None and ledger.is_empty:
        rows.since = None
    if isinstance(source, TableSource | HiddenSource) and rows is not None and rows.since is not None:
        columns = ["document_id", "version", "answers"]
        place = plan.output, plan.job.storage, "documents", columns
        unsaid = settled_down()(lambda: ledger.unsaid(read_columns(*place)))
        return source.documents(pa.concat_arrays([ledger.owing(), unsaid]))
    return source.documents()


def passed_over(plan: Plan, source: Source, ledger: Ledger) -> int:
    """How many documents of this run's shard earlier runs have done to their end, where the list leaves out
    what has not changed. To be asked before `walk` begins; of those that it lists nevertheless,
    `versions_met` are to be taken off.

    Of rows that are not read nobody can tell which have gone from the table since, or are of another source
    that has the same output: they count as done too, as they are among the answers that the output holds. It
    makes the bound on failures milder, never stricter."""
    rows = _rows(source)
    if rows is None or rows.since is None:
        return 0
    shard, done = plan.selection.shard, ledger.complete
    if shard is None:
        return len(done)
    # Slice by slice: a million ids as strings of Python take 100 MB.
    slices = (done.slice(start, _AT_ONCE) for start in range(0, len(done), _AT_ONCE))
    return sum(sum(shard.holds(ids_of(pa.chunked_array([names])).to_pylist())) for names in slices)


def versions_met(ledger: Ledger, documents: pa.Table) -> int:
    """How many of the ledger's complete names are of these documents, in whatever version: one that was
    replaced since is listed by another name than it was done by."""
    name, ids = ledger.complete.type, documents["document_id"]
    first, after = (
        pc.search_sorted(ledger.complete, pc.binary_join_element_wise(ids, end, "").cast(name))
        for end in ("/", chr(ord("/") + 1))  # what is not before `id/`, but before `id0`
    )
    return int(pc.sum(pc.subtract(after, first)).as_py() or 0)


def _rows(source: Source) -> TableSource | None:
    """The table that a source lists, perhaps with columns hidden; None if it lists something else."""
    inner = source.source if isinstance(source, HiddenSource) else source
    return inner if isinstance(inner, TableSource) else None


def _settings(plan: Plan) -> dict[str, Any]:
    table = plan.job.table
    told = table.model_dump(mode="json", exclude=set(LATER)) if table else {}
    return {**told, "include": plan.job.include, "exclude": plan.job.exclude}


def _asked(plan: Plan) -> dict[str, Any]:
    """What is asked, and about which kinds of part: what nothing was asked about before may be asked now."""
    by_kind = {**plan.tasks_by_kind, **{f"{kind}, whole": of for kind, of in plan.wholes_by_kind.items()}}
    return {
        "fingerprints": {task: sorted(each) for task, each in plan.fingerprints.items()},
        "kinds": {kind: sorted(names) for kind, names in by_kind.items()},
    }


def _is_narrowed(plan: Plan) -> bool:
    """Whether the run leaves anything that it could do."""
    whole = plan.selection.model_copy(update={"shard": None}) == Selection()
    return not whole or plan.job.limit is not None


def _last(plan: Plan, rows: TableSource, mine: dict[str, Any]) -> str | None:
    """The version that the last such run has read to its end; None if it is not one of this table, but of
    one that was there before it, or if any run has asked something else since: what that one answered it has
    taken from the errors, so that the ledger no longer knows of it as owed. Nor is there one if a run that
    chose what it asks has begun since and not ended: told to ask again, it may have left two answers to a
    question."""
    storage, runs = open_storage(plan.output, plan.job.storage), join(plan.output, "_runs", "")
    found: dict[str, set[str]] = {}
    for info in list_if_there(storage, runs):
        run, _, name = info.uri.removeprefix(runs).partition("/")
        if run != plan.run_id and name in {*ENDED, "job.yaml"}:
            found.setdefault(run, set()).add(name)
    for run, names in sorted(found.items(), reverse=True):
        # Of another kind of source there is none.
        pinned = json.loads(storage.read(join(runs, run, NAME))) if NAME in names else {}
        if pinned.get("asked") != mine["asked"]:
            return None
        if pinned.get("narrowed") and not names >= ENDED:
            return None
        if not names >= ENDED or any(
            pinned.get(name) != value for name, value in mine.items() if name != "version"
        ):
            continue
        report = json.loads(storage.read(join(runs, run, "report.json")))
        if report.get("stopped") is None and not report.get("unsettled"):
            version = str(pinned["version"])
            return version if pinned.get("origin") == rows.origin(version) is not None else None
    return None
