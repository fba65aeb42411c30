"""What each listed document owes, and why: decided from what the output already holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.holdings import Holdings, names_of, read_holdings
from schemas.documents import NO_WHOLES
from schemas.fingerprint import changes
from schemas.rows import KEPT
from schemas.selection import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.plan import Plan
    from schemas.selection import Selection

NONE = pa.array([], pa.string())


@dataclass(frozen=True)
class Ledger:
    """Names (`document_id/version`) by what is known of them. Memory: some 70 bytes a name.

    Attributes:
        selection: what the run is narrowed to.
        complete: every answer is there.
        parted: every answer about its parts is there; what is owed is asked of the document as a whole, over
            those answers, and the document itself is not needed.
        begun: some answers are there; `kept` says which, as `answer_keys` has them, in the same order.
        stale: answers are there that were asked otherwise; `stale_why` says what is other.
        failed: an error of one of the selection's categories is there.
        broader: begun, and asked something that no part of it has been asked before.
        filtered: met before, and nothing was asked about it.
        ids: ids of documents of which anything is there, in whatever version.
    """

    selection: Selection
    complete: pa.Array
    parted: pa.Array
    begun: pa.Array
    kept: pa.Array
    stale: pa.Array
    stale_why: pa.Array
    failed: pa.Array
    broader: pa.Array
    filtered: pa.Array
    ids: pa.Array

    def reasons(self, documents: pa.Table) -> pa.Array:
        """A `Reason` per document; of a changed one, with what changed behind it."""
        names = names_of(documents)
        known = pc.is_in(documents["document_id"], self.ids)
        stale = pc.index_in(names, self.stale)
        cases = [
            (pc.is_in(names, self.complete), Reason.FORCED if self.selection.force else Reason.DONE),
            (pc.is_in(names, self.filtered), Reason.FILTERED),
            (pc.invert(known), Reason.NEW),
            (pc.is_valid(stale), pc.take(self.stale_why, stale)),
            (pc.is_in(names, self.failed), Reason.FAILED),
            (pc.is_in(names, self.broader), Reason.TASK),
            (pc.is_in(names, self.begun), Reason.UNFINISHED),
        ]
        conditions = pa.StructArray.from_arrays(
            [_whole(condition) for condition, _ in cases], names=[str(i) for i in range(len(cases))]
        )
        values = [pa.scalar(value.value) if isinstance(value, Reason) else value for _, value in cases]
        # What is left is there in another version only.
        found = pc.case_when(conditions, *values, pa.scalar(Reason.VERSION.value))
        return _whole(found) if len(documents) else NONE

    def needed(self, documents: pa.Table) -> pa.Array:
        """True where what a document owes is asked about its parts."""
        if self.selection.force:
            return pa.repeat(pa.scalar(True), len(documents))
        return _whole(pc.invert(pc.is_in(names_of(documents), self.parted)))

    def skipped(self, reasons: pa.Array) -> pa.Array:
        """True where the run does not work on a document: it owes nothing, or was not selected."""
        kinds = reasons.unique()
        taken = pa.array([kind for kind in kinds.to_pylist() if self.selection.takes(kind)], pa.string())
        return pc.invert(pc.is_in(reasons, taken))

    def kept_answers(self, documents: pa.Table) -> pa.Array:
        """For each half-done document, the answers it has, as `answer_keys` has them."""
        if self.selection.force:
            return pa.nulls(len(documents), KEPT)
        return _whole(pc.take(self.kept, pc.index_in(names_of(documents), self.begun)))


def read_ledger(plan: Plan) -> Ledger:
    """Read what the output holds of this job.

    Raises:
        GemstreamError: what `read_holdings` raises.
    """
    return make_ledger(
        read_holdings(plan), plan.tasks_by_kind, plan.ingredients, plan.selection, plan.wholes_by_kind
    )


def make_ledger(
    holdings: Holdings,
    tasks_by_kind: Mapping[str, Sequence[str]],
    ingredients: Mapping[str, Sequence[Mapping[str, str]]],
    selection: Selection,
    wholes_by_kind: Mapping[str, Sequence[str]] = NO_WHOLES,
) -> Ledger:
    """Decide what each name owes; see `Ledger`."""
    answers = holdings.answers
    begun = completeness(answers, tasks_by_kind, wholes_by_kind)
    whole = begun.filter(begun["complete"])
    half = begun.filter(pc.invert(begun["complete"]))
    per_kind = _per_kind(half["part_kind"], tasks_by_kind)
    stale = _stale(answers, holdings, ingredients)
    errors = holdings.errors
    if selection.categories:
        errors = errors.filter(pc.is_in(errors["category"], pa.array(sorted(selection.categories))))
    ids = [answers["document_id"], holdings.errors["document_id"]]
    return Ledger(
        selection=selection,
        complete=_whole(whole["name"]),
        parted=_whole(half["name"].filter(half["parted"])),
        begun=_whole(half["name"]),
        kept=_whole(half["answers"]),
        stale=_whole(stale["name"]),
        stale_why=_whole(stale["why"]),
        failed=_whole(errors["name"]).unique(),
        broader=_whole(half["name"].filter(pc.less(half["tasks"], per_kind))),
        filtered=holdings.filtered,
        ids=pa.concat_arrays([_whole(column) for column in ids]).unique(),
    )


def completeness(
    answers: pa.Table,
    tasks_by_kind: Mapping[str, Sequence[str]],
    wholes_by_kind: Mapping[str, Sequence[str]] = NO_WHOLES,
) -> pa.Table:
    """Per name that has a current answer: `answers` (list of `answer_keys`), `answered` (their number),
    `answered_at` (the latest), `tasks` (how many are answered at all), `owed`, `complete`, and `parted`: what
    is asked about its parts is answered."""
    current = answers.filter(answers["current"])
    about_parts = pc.if_else(pc.is_valid(current["part_index"]), answer_keys(current), None)
    grouped = (
        current.append_column("key", answer_keys(current))
        .append_column("of_part", about_parts)
        .group_by("name", use_threads=False)
        .aggregate(
            [
                ("key", "distinct"),
                ("of_part", "count_distinct"),
                ("task", "count_distinct"),
                ("parts_total", "max"),
                ("part_kind", "min"),
                ("document_id", "min"),
                ("answered_at", "max"),
            ]
        )
    )
    per_kind = _per_kind(grouped["part_kind_min"], tasks_by_kind)
    parts = pc.multiply(grouped["parts_total_max"].cast(pa.int64()), per_kind)
    several = pc.greater(grouped["parts_total_max"], 1).cast(pa.int64())
    owed = pc.add(parts, pc.multiply(several, _per_kind(grouped["part_kind_min"], wholes_by_kind)))
    answered = pc.list_value_length(grouped["key_distinct"])
    return pa.table(
        {
            "name": grouped["name"],
            "document_id": grouped["document_id_min"],
            "part_kind": grouped["part_kind_min"],
            "answers": grouped["key_distinct"].cast(KEPT),
            "answered_at": grouped["answered_at_max"],
            "tasks": grouped["task_count_distinct"],
            "owed": owed,
            "answered": answered.cast(pa.int64()),
            "complete": pc.greater_equal(answered, owed),
            "parted": pc.greater_equal(grouped["of_part_count_distinct"], parts),
        }
    )


def answer_keys(rows: pa.Table) -> pa.ChunkedArray:
    """What each answer is one to: `part_index/task`, or `/task` of one about the document as a whole."""
    return pc.binary_join_element_wise(
        pc.fill_null(rows["part_index"].cast(pa.string()), ""), rows["task"], "/"
    )


def _per_kind(kinds: pa.ChunkedArray, tasks_by_kind: Mapping[str, Sequence[str]]) -> pa.ChunkedArray:
    """How many tasks are asked of a part of each kind."""
    known = pa.array(list(tasks_by_kind), pa.string())
    counts = pa.array([len(names) for names in tasks_by_kind.values()], pa.int64())
    return pc.fill_null(pc.take(counts, pc.index_in(kinds, known)), 0)


def _stale(
    answers: pa.Table,
    holdings: Holdings,
    ingredients: Mapping[str, Sequence[Mapping[str, str]]],
) -> pa.Table:
    """Names with answers that were asked otherwise, and `changed: what`."""
    other = answers.filter(pc.invert(answers["current"]))
    pairs = other.group_by(["name", "task", "fingerprint"], use_threads=False).aggregate([])
    why = {
        # Of two models that a task is asked of, the one that was asked is the one that less has changed of.
        (task, fingerprint): min(
            (changes(holdings.made_of.get(fingerprint), now) for now in ingredients[task]), key=len
        )
        for task, fingerprint in {
            (row["task"], row["fingerprint"])
            for row in pairs.group_by(["task", "fingerprint"]).aggregate([]).to_pylist()
        }
    }
    words = [
        f"{Reason.CHANGED}: {why[pair]}"
        for pair in zip(pairs["task"].to_pylist(), pairs["fingerprint"].to_pylist(), strict=True)
    ]
    table = pa.table({"name": pairs["name"], "why": pa.array(words, pa.string())})
    grouped = table.group_by("name", use_threads=False).aggregate([("why", "min")])
    return grouped.rename_columns({"why_min": "why"})


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
