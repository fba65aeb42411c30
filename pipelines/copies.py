"""Of documents with the same content: whose answers and errors are given to the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.runs import names_of
from schemas.rows import with_attributes
from workers.sinks.parquet import DUPLICATES
from workers.sinks.reading import read_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipelines.plan import Plan

SAID = pa.schema(
    [
        pa.field("digest", pa.string()),
        pa.field("name", pa.string()),
        pa.field("task", pa.string()),
        pa.field("part_index", pa.int32()),
        pa.field("parts_total", pa.int32()),
        pa.field("part_kind", pa.string()),
        pa.field("is_owed", pa.bool_()),
    ]
)
"""What is said about a content, and by the rows of which document (`document_id/version`): answers, of which
those are owed that the job asks of such parts, and errors, of which the task begins with `FAULT`."""

FAULT = "!"
CONTENTS = 20_000
"""Of a share: some 500 bytes an answer, so that books of fifty pages and two tasks take 1 GB."""
SAID_OF = ["digest", "task", "part_index"]
NONE: frozenset[str] = frozenset()
COLUMNS = ("document_id", "version", "document_digest", "parts_total", "part_kind", "part_index", "run_id")


@dataclass(frozen=True)
class Told:
    """What each task that copies rows is told.

    Attributes:
        duplicates: DUPLICATES, of those that are given something.
        originals: names (`document_id/version`) of those whose rows they are given.
        held: task -> the answers that duplicates have already, as `keys_of` has them.
    """

    duplicates: pa.Table
    originals: pa.Array
    held: Mapping[str, pa.Array]


@dataclass(frozen=True, slots=True)
class Holder:
    """A document with answers: whether it has all that it owes, and the tasks that are answered about each of
    its parts."""

    name: str
    is_complete: bool
    parted: frozenset[str]


@dataclass(frozen=True)
class Known:
    """What is known of the contents of duplicates.

    Attributes:
        holders: digest -> documents with answers.
        parted: digest -> the tasks that are answered about each part, be it of several documents.
        sources: digest and name, of the few documents whose rows say all that there is to say of a content.
        held: as in `Told`.
    """

    holders: Mapping[str, Sequence[Holder]]
    parted: Mapping[str, frozenset[str]]
    sources: pa.Table
    held: Mapping[str, pa.Array]

    def told(self, duplicates: pa.Table) -> Told:
        """What is told to give these what there is."""
        digests = pc.unique(duplicates["document_digest"])
        sources = self.sources.filter(pc.is_in(self.sources["digest"], digests))
        return Told(duplicates, sources["name"].combine_chunks(), self.held)


def duplicates_of(plan: Plan) -> pa.Table:
    """DUPLICATES of the run, a row for each document."""
    schema = with_attributes(DUPLICATES, plan.attributes)
    tables = [schema.empty_table()]
    folder = f"_runs/{plan.run_id}/duplicates"
    for part in read_parts(plan.output, plan.job.storage, folder, schema.names):
        tables.append(part.rows.cast(schema))
    rows = pa.concat_tables(tables).combine_chunks()
    # One that waits for answers to two questions about the whole is there twice.
    names = names_of(rows).combine_chunks()
    return rows.take(pc.index_in(names.unique(), names))


def by_content(duplicates: pa.Table) -> Iterator[pa.Table]:
    """Shares of them, all of one content together: what is said about a share is held at once, and about all
    of a large output it would not fit."""
    digests = duplicates["document_digest"].unique()
    for start in range(0, len(digests), CONTENTS):
        yield duplicates.filter(pc.is_in(duplicates["document_digest"], digests.slice(start, CONTENTS)))


def find_known(plan: Plan, duplicates: pa.Table) -> Known:
    """Look through the output for what is said about the contents of duplicates.

    Raises:
        GemstreamError: the output cannot be read.
    """
    own = names_of(duplicates).combine_chunks()
    said = _said(plan, pc.unique(duplicates["document_digest"]))
    theirs = said.filter(pc.is_in(said["name"], own))
    held = {
        task: keys_of(rows["name"], rows["part_index"]).combine_chunks()
        for task in plan.fingerprints
        for rows in [theirs.filter(pc.equal(theirs["task"], task))]
    }
    owed = said.filter(said["is_owed"])
    together = _parted(_each_once(owed, SAID_OF), ["digest"])
    return Known(holders := _holders(plan, owed), together, _sources(said, own, holders), held)


def _holders(plan: Plan, owed: pa.Table) -> dict[str, list[Holder]]:
    found: dict[str, list[Holder]] = {}
    parted = _parted(owed, ["digest", "name"])
    sums = [([], "count_all"), ("parts_total", "max"), ("part_kind", "max")]
    for row in owed.group_by(["digest", "name"]).aggregate(sums).to_pylist():
        digest, name, kind, total = (row[k] for k in ("digest", "name", "part_kind_max", "parts_total_max"))
        all_owed = total * len(plan.tasks_by_kind.get(kind, ()))
        all_owed += len(plan.wholes_by_kind.get(kind, ())) if total > 1 else 0
        is_complete = row["count_all"] >= all_owed
        found.setdefault(digest, []).append(Holder(name, is_complete, parted.get((digest, name), NONE)))
    return found


def _parted(owed: pa.Table, key: list[str]) -> dict[Any, frozenset[str]]:
    """By this key, one column or several, the tasks that are answered about each part."""
    sums = [("part_index", "count"), ("parts_total", "max")]
    rows = owed.group_by([*key, "task"]).aggregate(sums)
    rows = rows.filter(pc.greater_equal(rows["part_index_count"], rows["parts_total_max"]))
    found: dict[Any, set[str]] = {}
    for row in rows.to_pylist():
        place = row[key[0]] if len(key) == 1 else tuple(row[name] for name in key)
        found.setdefault(place, set()).add(row["task"])
    return {place: frozenset(tasks) for place, tasks in found.items()}


def _said(plan: Plan, digests: pa.Array) -> pa.Table:
    """SAID of these contents, each once: answers may be there twice, of a run that was told to ask again and
    ended before it had swept, or of a file that was read while others swept it."""
    output, storage = plan.output, plan.job.storage
    tables = [SAID.empty_table()]
    theirs = partial(_of_contents, digests=digests)
    for task in plan.fingerprints:
        kinds = [kind for kind, names in plan.tasks_by_kind.items() if task in names]
        for part in read_parts(output, storage, f"records/task={task}", [*COLUMNS, "fingerprint"], theirs):
            rows = asked(plan, task, part.rows)
            is_owed = pc.is_in(rows["part_kind"], pa.array(kinds, pa.string()))
            tables.append(_as_said(rows, pa.repeat(task, len(rows)), is_owed))
    for part in read_parts(output, storage, "errors", [*COLUMNS, "task"], theirs):
        rows = of_this_run(plan, part.rows)
        tasks = pc.binary_join_element_wise(FAULT, pc.fill_null(rows["task"], ""), "")
        tables.append(_as_said(rows, tasks, pa.repeat(False, len(rows))))
    return _each_once(pa.concat_tables(tables), SAID.names[:4])


def _of_contents(rows: pa.Table, digests: pa.Array) -> pa.Table:
    return rows.filter(pc.is_in(rows["document_digest"], digests))


def _as_said(rows: pa.Table, tasks: pa.Array, is_owed: pa.Array) -> pa.Table:
    columns = [rows["document_digest"], names_of(rows), tasks]
    columns += [*(rows[name] for name in ("part_index", "parts_total", "part_kind")), is_owed]
    return pa.table(dict(zip(SAID.names, columns, strict=True))).cast(SAID)


def _each_once(said: pa.Table, key: list[str]) -> pa.Table:
    rest = [name for name in ("parts_total", "part_kind", "is_owed") if name not in key]
    found = said.group_by(key).aggregate([(name, "max") for name in rest])
    return found.rename_columns([*key, *rest])


def _sources(said: pa.Table, own: pa.Array, holders: Mapping[str, Sequence[Holder]]) -> pa.Table:
    """One document with all answers, or else for each answer and each error one that has it: rather one that
    does not wait itself, and one that has many. They are few where a million copies have been given some."""
    complete = {
        digest: max(names)
        for digest, some in holders.items()
        if (names := [each.name for each in some if each.is_complete])
    }
    rows = said.filter(pc.invert(pc.is_in(said["digest"], pa.array(list(complete), pa.string()))))
    counts = rows.group_by(["digest", "name"]).aggregate([([], "count_all")])
    rows = rows.join(counts, ["digest", "name"])
    rows = rows.append_column("waits", pc.is_in(rows["name"], own).cast(pa.int8()))
    rows = rows.sort_by([("waits", "ascending"), ("count_all", "descending"), ("name", "ascending")])
    firsts = rows.group_by(SAID_OF, use_threads=False).aggregate([("name", "first")])
    names = pa.chunked_array([pa.array(list(complete.values()), pa.string()), *firsts["name_first"].chunks])
    digests = pa.chunked_array([pa.array(list(complete), pa.string()), *firsts["digest"].chunks])
    return pa.table({"digest": digests, "name": names}).group_by(["digest", "name"]).aggregate([])


def keys_of(names: pa.ChunkedArray, parts: pa.ChunkedArray) -> pa.ChunkedArray:
    """`document_id/version/` and the part that each answer to one task is about."""
    return pc.binary_join_element_wise(names, pc.fill_null(parts.cast(pa.string()), ""), "/")


def asked(plan: Plan, task: str, rows: pa.Table) -> pa.Table:
    """Of answers to a task those that the job asks for; where a run was told to ask again, those it got."""
    rows = rows.filter(pc.is_in(rows["fingerprint"], pa.array(plan.fingerprints[task])))
    return rows.filter(pc.equal(rows["run_id"], plan.run_id)) if plan.selection.force else rows


def of_this_run(plan: Plan, errors: pa.Table) -> pa.Table:
    """What an earlier run wrote down is no longer so: this one has met the original again."""
    return errors.filter(pc.equal(errors["run_id"], plan.run_id))
