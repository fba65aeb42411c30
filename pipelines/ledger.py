"""What each listed document owes, and why: decided from what the output already holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.holdings import Standing, read_standing
from pipelines.runs import NAME, RUNS, WHOLE, apart, counted, ids_of, names_of, one_by_one
from schemas.documents import NO_WHOLES
from schemas.fingerprint import changes
from schemas.rows import KEPT
from schemas.selection import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipelines.plan import Plan
    from schemas.selection import Selection

NONE = pa.array([], pa.string())


@dataclass(frozen=True)
class Ledger:
    """Names (`document_id/version`) by what is known of them, each list in order: to look up 1,000 documents
    in lists of 250,000 takes 1.3 ms so, and 52 where Arrow hashes the list anew. Memory: 73 bytes a name.

    Attributes:
        selection: what the run is narrowed to.
        complete: every answer is there; `counts` says how many they are, in the same order.
        parted: every answer about its parts is there; what is owed is asked of the document as a whole, over
            those answers, and the document itself is not needed.
        begun: some answers are there; `kept` says which, as `answer_keys` has them, in the same order.
        stale: answers are there that were asked otherwise; `stale_why` says what is other.
        failed: an error of one of the selection's categories is there.
        broader: begun, and asked something that no part of it has been asked before.
        filtered: met before, and nothing was asked about it then; something may have been since.
        faulty: an error is there.
    """

    selection: Selection
    complete: pa.Array
    counts: pa.Array
    parted: pa.Array
    begun: pa.Array
    kept: pa.Array
    stale: pa.Array
    stale_why: pa.Array
    failed: pa.Array
    broader: pa.Array
    filtered: pa.Array
    faulty: pa.Array

    def reasons(self, documents: pa.Table) -> pa.Array:
        """A `Reason` per document; of a changed one, with what changed behind it."""
        names = names_of(documents)
        stale = places_in(names, self.stale)
        there = [
            _in_any_version(documents, known)
            for known in (self.complete, self.begun, self.stale, self.faulty)
        ]
        since = reduce(pc.or_, (_among(names, known) for known in (self.begun, self.stale, self.faulty)))
        failed = (_among(names, self.failed), Reason.FAILED)
        only = self.selection.only
        # Asked otherwise and in vain, a document is both; a run for what failed alone takes it as that. So it
        # does one that could not be looked up, whose error has no version.
        unmet = pc.binary_join_element_wise(documents["document_id"], "", "/")
        vain = (pc.or_(failed[0], _among(unmet, self.failed)), Reason.FAILED)
        first = [vain] if Reason.FAILED in only and Reason.CHANGED not in only else []
        cases = [
            (_among(names, self.complete), Reason.FORCED if self.selection.force else Reason.DONE),
            (pc.and_not(_among(names, self.filtered), since), Reason.FILTERED),
            (pc.invert(reduce(pc.or_, there)), Reason.NEW),
            *first,
            (pc.is_valid(stale), pc.take(self.stale_why, stale)),
            failed,
            (_among(names, self.broader), Reason.TASK),
            (_among(names, self.begun), Reason.UNFINISHED),
        ]
        conditions = pa.StructArray.from_arrays(
            [_whole(condition) for condition, _ in cases], names=[str(i) for i in range(len(cases))]
        )
        values = [pa.scalar(value.value) if isinstance(value, Reason) else value for _, value in cases]
        # What is left is there in another version only.
        found = pc.case_when(conditions, *values, pa.scalar(Reason.VERSION.value))
        return _whole(found) if len(documents) else NONE

    @cached_property
    def originals(self) -> pa.Array:
        """Names, in order, of what nothing more is asked of itself: a copy can wait for what it is given."""
        return _sorted(pa.chunked_array([self.complete, self.parted])) if len(self.parted) else self.complete

    def places(self, documents: pa.Table) -> pa.Array:
        """Where each document is in `originals`; null where it owes answers about its parts."""
        return places_in(names_of(documents), self.originals)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there: no answer, and no error."""
        return not any(map(len, (self.complete, self.begun, self.stale, self.faulty)))

    def answered(self, documents: pa.Table) -> pa.Array:
        """Whether there are answers about each document, in whatever version."""
        known = (self.complete, self.begun, self.stale)
        return _whole(reduce(pc.or_, (_in_any_version(documents, names) for names in known)))

    def owing(self) -> pa.Array:
        """Ids of the documents that are known to owe something: failed, unfinished, or asked otherwise."""
        names = pa.chunked_array([self.faulty, self.begun, self.stale], NAME)
        return _whole(ids_of(names).unique()).cast(pa.string())

    def unsaid(self, rows: Iterable[pa.Table]) -> pa.Array:
        """Ids of the documents that have all their answers, and no row in `documents/` that says so: the run
        that answered them ended before, or one that asks less has made their rows since.

        Args:
            rows: of `documents/`: document_id, version and answers.
        """
        import numpy as np

        said = np.zeros(len(self.complete), bool)
        for table in rows:
            places = places_in(names_of(table), self.complete)
            right = pc.equal(pc.take(self.counts, places), table["answers"])
            said[places.filter(_whole(pc.fill_null(right, False))).to_numpy()] = True
        return _whole(ids_of(pa.chunked_array([self.complete.filter(pa.array(~said))]))).cast(pa.string())

    def needed(self, documents: pa.Table) -> pa.Array:
        """True where what a document owes is asked about its parts."""
        if self.selection.force:
            return pa.repeat(pa.scalar(True), len(documents))
        return _whole(pc.invert(_among(names_of(documents), self.parted)))

    def skipped(self, reasons: pa.Array) -> pa.Array:
        """True where the run does not work on a document: it owes nothing, or was not selected."""
        kinds = reasons.unique()
        taken = pa.array([kind for kind in kinds.to_pylist() if self.selection.takes(kind)], pa.string())
        return pc.invert(pc.is_in(reasons, taken))

    def kept_answers(self, documents: pa.Table) -> pa.Array:
        """For each half-done document, the answers it has, as `answer_keys` has them."""
        if self.selection.force:
            return pa.nulls(len(documents), KEPT)
        return _whole(pc.take(self.kept, places_in(names_of(documents), self.begun)))


def read_ledger(plan: Plan) -> Ledger:
    """Read what the output holds of this job.

    Raises:
        GemstreamError: what `read_holdings` raises.
    """
    return make_ledger(
        read_standing(plan), plan.tasks_by_kind, plan.ingredients, plan.selection, plan.wholes_by_kind
    )


def make_ledger(
    standing: Standing,
    tasks_by_kind: Mapping[str, Sequence[str]],
    ingredients: Mapping[str, Sequence[Mapping[str, str]]],
    selection: Selection,
    wholes_by_kind: Mapping[str, Sequence[str]] = NO_WHOLES,
) -> Ledger:
    """Decide what each name owes; see `Ledger`."""
    begun = _completeness(standing.runs, tasks_by_kind, wholes_by_kind)
    half = begun.filter(pc.invert(begun["complete"]))
    stale = _stale(standing, ingredients)
    narrow = pc.less(half["tasks"], _per_kind(half["part_kind"], tasks_by_kind))
    faults = standing.faults
    if selection.categories:
        faults = faults.filter(pc.is_in(faults["category"], pa.array(sorted(selection.categories))))
    done = begun.filter(begun["complete"])
    return Ledger(
        selection=selection,
        complete=_whole(done["name"]),
        counts=_whole(done["answered"].cast(pa.int32())),
        parted=_whole(half["name"].filter(half["parted"])),
        begun=_whole(half["name"]),
        kept=_whole(half["answers"]),
        stale=_whole(stale["name"]),
        stale_why=_whole(stale["why"]),
        failed=_sorted(faults["name"]),
        broader=_whole(half["name"].filter(narrow)),
        filtered=_sorted(standing.filtered),
        faulty=_sorted(standing.faults["name"]),
    )


def completeness(
    runs: pa.Table,
    tasks_by_kind: Mapping[str, Sequence[str]],
    wholes_by_kind: Mapping[str, Sequence[str]] = NO_WHOLES,
) -> pa.Table:
    """What `counted` says of each name that has a current answer, in order, and: `owed`, `complete`, `parted`
    (what is asked about its parts is answered), and, if it is not complete, `answers`, as `answer_keys`.

    An answer to what is not asked of such parts any more counts for nothing: it makes up for none that is."""
    found = _completeness(runs, tasks_by_kind, wholes_by_kind)
    place = found.column_names.index("name")
    return found.set_column(place, "name", found["name"].cast(pa.string()))


def _completeness(
    runs: pa.Table,
    tasks_by_kind: Mapping[str, Sequence[str]],
    wholes_by_kind: Mapping[str, Sequence[str]],
) -> pa.Table:
    current = _as_asked(apart(runs.filter(runs["current"])), tasks_by_kind)
    found = _owing(counted(current), tasks_by_kind, wholes_by_kind)
    # Names are in order in both, so that the answers of those that are not complete come one after another.
    complete = _whole(found["complete"])
    half = _whole(found["name"]).filter(pc.invert(complete))
    each = one_by_one(current.filter(pc.is_in(current["name"], half)))
    parts = pc.if_else(pc.equal(each["first"], WHOLE), None, each["first"])
    ends = pc.cumulative_sum(pc.if_else(complete, 0, found["answered"]))
    bounds = pa.concat_arrays([pa.array([0]), _whole(ends)]).cast(pa.int32())
    answers = pa.ListArray.from_arrays(bounds, _whole(_keys(parts, each["task"])), mask=complete)
    return found.append_column(pa.field("answers", KEPT), answers)


def _as_asked(runs: pa.Table, tasks_by_kind: Mapping[str, Sequence[str]]) -> pa.Table:
    """Runs that are `apart`, with nothing left of those to what is not asked of parts of their kind."""
    import numpy as np

    kinds, tasks = (runs[key].combine_chunks() for key in ("part_kind", "task"))
    # By their places in the dictionaries: four million runs take 0.1 s. The last row is of no kind.
    asked = np.zeros((len(kinds.dictionary) + 1, len(tasks.dictionary)), bool)
    for row, kind in enumerate(kinds.dictionary.to_pylist()):
        asked[row] = pc.is_in(tasks.dictionary, pa.array(tasks_by_kind.get(kind, ()), pa.string()))
    are_asked = asked[pc.fill_null(kinds.indices, -1).to_numpy(), tasks.indices.to_numpy()]
    if are_asked.all():
        return runs
    first = pc.if_else(pa.array(are_asked), runs["first"], pc.add(runs["last"], pa.scalar(1, pa.int32())))
    return runs.set_column(RUNS.get_field_index("first"), RUNS.field("first"), first)


def _owing(
    found: pa.Table,
    tasks_by_kind: Mapping[str, Sequence[str]],
    wholes_by_kind: Mapping[str, Sequence[str]],
) -> pa.Table:
    """`counted` runs, and how much is `owed`, and whether it is `complete` or `parted`."""
    kinds = found["part_kind"]
    parts = pc.multiply(found["parts_total"].cast(pa.int64()), _per_kind(kinds, tasks_by_kind))
    several = pc.greater(found["parts_total"], 1).cast(pa.int64())
    owed = pc.add(parts, pc.multiply(several, _per_kind(kinds, wholes_by_kind)))
    found = found.append_column("owed", owed)
    found = found.append_column("complete", pc.greater_equal(found["answered"], owed))
    return found.append_column("parted", pc.greater_equal(found["of_parts"], parts))


def answer_keys(rows: pa.Table) -> pa.ChunkedArray:
    """What each answer is one to: `part_index/task`, or `/task` of one about the document as a whole."""
    return _keys(rows["part_index"], rows["task"])


def _keys(parts: pa.ChunkedArray, tasks: pa.ChunkedArray) -> pa.ChunkedArray:
    parts, tasks = parts.cast(pa.string()), tasks.cast(pa.string())
    return pc.binary_join_element_wise(pc.fill_null(parts, ""), tasks, "/")


def _per_kind(kinds: pa.ChunkedArray, tasks_by_kind: Mapping[str, Sequence[str]]) -> pa.ChunkedArray:
    """How many tasks are asked of a part of each kind."""
    known = pa.array(list(tasks_by_kind), pa.string())
    counts = pa.array([len(names) for names in tasks_by_kind.values()], pa.int64())
    return pc.fill_null(pc.take(counts, pc.index_in(kinds, known)), 0)


def _stale(standing: Standing, ingredients: Mapping[str, Sequence[Mapping[str, str]]]) -> pa.Table:
    """Names with answers that were asked otherwise, in order, and `why`: `changed: what`."""
    other = standing.runs.filter(pc.invert(standing.runs["current"]))
    asked = pc.binary_join_element_wise(
        other["task"].cast(pa.string()), other["fingerprint"].cast(pa.string()), "/"
    )
    kinds = asked.unique()
    why = []
    for task, _, fingerprint in (kind.partition("/") for kind in kinds.to_pylist()):
        was = standing.made_of.get(fingerprint)
        # Of two models that a task is asked of, the one that was asked is the one that less has changed of.
        what = min((changes(was, now) for now in ingredients[task]), key=len)
        why.append(f"{Reason.CHANGED}: {what}")
    words = pc.take(pa.array(why, pa.string()), pc.index_in(asked, kinds))
    found = pa.table({"name": other["name"], "why": words})
    found = found.group_by("name", use_threads=False).aggregate([("why", "min")])
    return found.rename_columns(["name", "why"]).sort_by("name")


def _sorted(names: pa.Array | pa.ChunkedArray) -> pa.Array:
    return _whole(names).sort()


def places_in(names: pa.ChunkedArray, known: pa.Array) -> pa.Array:
    """Where each name is in a sorted list; null if it is not there. See `Ledger` for what it costs."""
    if not len(known):
        return pa.nulls(len(names), pa.uint64())
    names = names.cast(known.type)
    place = pc.search_sorted(known, names)
    there = pc.equal(pc.take(known, pc.min_element_wise(place, len(known) - 1)), names)
    return pc.if_else(there, place, None)


def _among(names: pa.ChunkedArray, known: pa.Array) -> pa.Array:
    return pc.is_valid(places_in(names, known))


def _in_any_version(documents: pa.Table, known: pa.Array) -> pa.Array:
    """Whether a sorted list has names of these documents: such as are not before `id/`, but before `id0`."""
    first, after = (
        pc.search_sorted(
            known, pc.binary_join_element_wise(documents["document_id"], end, "").cast(known.type)
        )
        for end in ("/", chr(ord("/") + 1))
    )
    return pc.less(first, after)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
