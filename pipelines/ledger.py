"""What the output already holds: read back from it, key columns only; there is no second store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from schemas.rows import KEPT
from workers.sinks.reading import read_columns

if TYPE_CHECKING:
    from pipelines.plan import Plan

KEYS = ["document_id", "version", "part_index", "parts_total", "part_kind", "fingerprint"]


@dataclass(frozen=True)
class Ledger:
    """Answers of the current fingerprints: which documents have them all, which have some.

    Documents are named `document_id/version`: another version of an object is another document here.
    """

    complete: pa.Array
    partial: dict[str, list[str]]

    def finished(self, documents: pa.Table) -> pa.Array:
        """True for each document that owes nothing."""
        return pc.is_in(_names(documents), self.complete)

    def kept(self, documents: pa.Table) -> pa.Array:
        """For each half-done document, the answers it has, as `part_index/task`."""
        if not self.partial:
            return pa.nulls(len(documents), KEPT)
        return pa.array([self.partial.get(name) for name in _names(documents).to_pylist()], KEPT)


def read_ledger(plan: Plan) -> Ledger:
    """Read the key columns of the tasks that this job asks.

    Memory: about 150 bytes a record while it is read, 50 a finished document afterwards.
    """
    answers = [_answers(plan, task, current) for task, current in plan.fingerprints.items()]
    table = pa.concat_tables(answers)
    if not len(table):
        return Ledger(pa.array([], pa.string()), {})
    per_kind = {kind: len(names) for kind, names in plan.tasks_by_kind.items()}
    grouped = table.group_by("name").aggregate(
        [("answer", "count_distinct"), ("parts_total", "max"), ("part_kind", "min")]
    )
    owed = [
        total * per_kind.get(kind, 0)
        for total, kind in zip(
            grouped["parts_total_max"].to_pylist(), grouped["part_kind_min"].to_pylist(), strict=True
        )
    ]
    whole = pc.greater_equal(grouped["answer_count_distinct"], pa.array(owed, pa.int64()))
    complete = grouped["name"].filter(whole).combine_chunks()
    rest = table.filter(pc.invert(pc.is_in(table["name"], complete)))
    partial: dict[str, list[str]] = {}
    for name, answer in zip(rest["name"].to_pylist(), rest["answer"].to_pylist(), strict=True):
        partial.setdefault(name, []).append(answer)
    return Ledger(complete, partial)


def _answers(plan: Plan, task: str, current: str) -> pa.Table:
    """The current answers of one task: document name, `part_index/task`, parts_total, part_kind."""
    schema = pa.schema(
        [
            pa.field("name", pa.string()),
            pa.field("answer", pa.string()),
            pa.field("parts_total", pa.int32()),
            pa.field("part_kind", pa.string()),
        ]
    )
    tables = [schema.empty_table()]
    for keys in read_columns(plan.output, plan.job.storage, f"records/task={task}", KEYS):
        keys = keys.filter(pc.equal(keys["fingerprint"], current))
        answer = pc.binary_join_element_wise(keys["part_index"].cast(pa.string()), task, "/")
        columns = [_names(keys), answer, keys["parts_total"], keys["part_kind"]]
        tables.append(pa.table(columns, schema.names).cast(schema))
    return pa.concat_tables(tables)


def _names(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["document_id"], table["version"], "/")
