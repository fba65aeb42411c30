"""What a newer answer has replaced leaves the part files, so that readers see one answer per part and task.

A run publishes its answers first and sweeps afterwards: there is no moment without an answer, and until
the sweep the newer of two is the one with the later `answered_at`. A part file is swept in one step, by
putting what is left of it in its own place; a sweep that was cut short is made up for by the next.
"""

from __future__ import annotations

import operator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_random

from pipelines.holdings import numbered, of_the_job
from pipelines.ledger import answer_keys, completeness
from pipelines.runs import ids_of, names_of
from schemas.documents import NO_WHOLES
from schemas.errors import ObjectChanged
from workers.sinks.parquet import encode
from workers.sinks.reading import SWEEPING_SECONDS
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from pipelines.holdings import Holdings
    from pipelines.plan import Plan
    from workers.storage import ObjectInfo

FILES_AT_ONCE = 4
"""Part files rewritten at once. Each is held whole, some 100 MB at most (`sink.rows`)."""


def sweep(
    plan: Plan,
    holdings: Holdings,
    listed: pa.Table,
    settled: pa.Array,
    check: Callable[[], None] | None = None,
) -> int:
    """Take out what has had its day, of the documents that this run listed.

    Args:
        plan: the run.
        holdings: what the output holds now.
        listed: the run's list: document_id, version.
        settled: ids of the documents that this run has brought to an end.
        check: raises if this run may not write any more; called right before each file.

    Returns:
        How many rows went.

    Raises:
        GemstreamError: the output cannot be read or written; the next run sweeps again.
    """
    gone = pa.concat_tables(
        [
            superseded_answers(holdings.answers, listed, plan.wholes_by_kind),
            superseded_errors(
                holdings,
                listed,
                settled,
                plan.run_id,
                plan.tasks_by_kind,
                plan.wholes_by_kind,
                again=plan.selection.force,
            ),
        ]
    )
    there = pa.concat_tables([table.select(["file", "row"]) for table in (holdings.answers, holdings.errors)])
    remove_rows(plan, holdings.files, there, gone, check)
    return len(gone)


def superseded_answers(
    answers: pa.Table, listed: pa.Table, wholes_by_kind: Mapping[str, Sequence[str]] = NO_WHOLES
) -> pa.Table:
    """`file` and `row` of each answer that a newer one stands for.

    An answer is current when it was asked as the job asks, of the version that was listed. One that is
    not goes when its part has a current answer to the same task, or all parts of its document have: a
    document that has become shorter has no page 7 any more. The last answer stays as long as there is
    none in its place, whatever became of the document since; so does one about a document as a whole, as
    long as another is owed.
    """
    places = pc.index_in(answers["document_id"], _column(listed, "document_id"))
    answers = answers.append_column("listed", pc.take(_column(listed, "version"), places))
    answers = answers.filter(pc.is_valid(answers["listed"]))
    # A manifest's entry that could not be looked up has no version to hold its answers against.
    same = pc.or_(pc.equal(answers["listed"], answers["version"]), pc.equal(answers["listed"], ""))
    is_current = pc.and_(answers["current"], same)
    document = pc.binary_join_element_wise(answers["task"], answers["document_id"], "/")
    part = pc.binary_join_element_wise(answers["document_id"], answer_keys(answers), "/")
    current = answers.append_column("document", document).append_column("part", part).filter(is_current)
    about_parts = current.filter(pc.is_valid(current["part_index"]))
    parted = about_parts.group_by("document").aggregate(
        [("part", "count_distinct"), ("parts_total", "max"), ("task", "min"), ("part_kind", "min")]
    )
    parted = parted.filter(pc.greater_equal(parted["part_count_distinct"], parted["parts_total_max"]))
    done = pc.is_in(document, _column(parted, "document"))
    owing = pc.is_in(document, _column(parted.filter(_owes_whole(parted, wholes_by_kind)), "document"))
    done = pc.and_(done, pc.or_(pc.is_valid(answers["part_index"]), pc.invert(owing)))
    replaced = pc.or_(pc.is_in(part, _column(current, "part")), done)
    old = answers.filter(pc.and_(replaced, pc.invert(is_current))).select(["file", "row"])
    return pa.concat_tables([old, doubles(current, ["part", "version"])])


def _owes_whole(parted: pa.Table, wholes_by_kind: Mapping[str, Sequence[str]]) -> pa.ChunkedArray:
    """Of documents and tasks whose parts are all answered, which are asked about as a whole besides."""
    asked = [f"{kind}/{task}" for kind, tasks in wholes_by_kind.items() for task in tasks]
    kinds = pc.binary_join_element_wise(parted["part_kind_min"], parted["task_min"], "/")
    return pc.and_(pc.is_in(kinds, pa.array(asked, pa.string())), pc.greater(parted["parts_total_max"], 1))


def superseded_errors(
    holdings: Holdings,
    listed: pa.Table,
    settled: pa.Array,
    run_id: str,
    tasks_by_kind: Mapping[str, Sequence[str]],
    wholes_by_kind: Mapping[str, Sequence[str]] = NO_WHOLES,
    *,
    again: bool = False,
) -> pa.Table:
    """`file` and `row` of each error that is no longer so.

    What this run has brought to an end, it has said everything about: errors of earlier runs go. So do
    the errors of a document that has all its answers, and of a part and task that has its answer; but not
    those of a run that asked everything `again`, for the answer is the one that there was before. An error of
    a task that this job does not ask is not its to take.
    """
    errors = of_the_job(holdings.errors, tasks_by_kind)
    errors = errors.filter(pc.is_in(errors["document_id"], _column(listed, "document_id")))
    restated = pc.and_(pc.is_in(errors["document_id"], settled), pc.not_equal(errors["run_id"], run_id))
    done = completeness(holdings.standing.runs, tasks_by_kind, wholes_by_kind)
    done = done.filter(pc.and_(done["complete"], pc.is_in(done["name"], names_of(listed).combine_chunks())))
    healed = pc.is_in(errors["document_id"], ids_of(done["name"]).combine_chunks())
    current = holdings.answers.filter(holdings.answers["current"])
    answered = pc.is_in(_questions(errors), _questions(current).combine_chunks())
    made_good = pc.or_(healed, answered)
    if again:
        made_good = pc.and_(made_good, pc.not_equal(errors["run_id"], run_id))
    gone = pc.fill_null(pc.or_(restated, made_good), False)
    left = errors.filter(pc.invert(gone))
    parts = pc.fill_null(left["part_index"].cast(pa.string()), "")
    left = left.append_column("part", parts).set_column(
        left.column_names.index("task"), "task", pc.fill_null(left["task"], "")
    )
    return pa.concat_tables(
        [errors.filter(gone).select(["file", "row"]), doubles(left, ["name", "part", "task"])]
    )


def remove_rows(
    plan: Plan,
    files: Sequence[ObjectInfo],
    there: pa.Table,
    gone: pa.Table,
    check: Callable[[], None] | None = None,
) -> None:
    """Rewrite, each in its place, the files that rows are to go from; delete those that nothing is left of.
    Before each it is checked that the run may: what it takes for old may be another's that runs by now.

    Args:
        plan: the run.
        files: what `file` counts in.
        there: `file` and `row` of all rows of the run's shard in these files.
        gone: `file` and `row` of those that go.
        check: raises if this run may not write any more.

    Raises:
        ObjectChanged: a file has other rows of this shard than it had, or others swept it all the while.
        GemstreamError: what `Storage.read` and `Storage.claim` raise.
    """
    rows = _rows_by_file(there)
    work = [(files[file], rows[file], each) for file, each in _rows_by_file(gone).items()]
    shard = plan.selection.shard
    # Shards begin at different files, lest all of them wait for all the others at each.
    first = 0 if shard is None else len(work) * (shard.index - 1) // shard.count
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="sweep") as threads:
        for done in [threads.submit(_rewrite, plan, *each, check) for each in work[first:] + work[:first]]:
            done.result()


def _rows_by_file(places: pa.Table) -> dict[int, npt.NDArray[np.int64]]:
    grouped = places.group_by("file").aggregate([("row", "list")])
    rows = (np.sort(rows.values.to_numpy()) for rows in grouped["row_list"])
    return dict(zip(grouped["file"].to_pylist(), rows, strict=True))


def _rewrite(
    plan: Plan,
    file: ObjectInfo,
    there: npt.NDArray[np.int64],
    gone: npt.NDArray[np.int64],
    check: Callable[[], None] | None,
) -> None:
    """Runs of other shards may be at the same file: whoever is slower begins anew with what is left of it,
    where this shard's rows are the same ones in the same order."""
    import pyarrow.parquet as pq

    storage = open_storage(file.uri, plan.job.storage)
    order, latest = np.searchsorted(there, gone), file

    def swept() -> bool:
        nonlocal latest
        try:
            rows = pq.read_table(BytesIO(storage.read(file.uri, version=latest.version)))
        except ObjectChanged:
            latest = storage.info(file.uri)
            return False
        ours = numbered(rows.select(["document_id"]), plan.selection.shard)["row"].to_numpy()
        if len(ours) != len(there):
            raise ObjectChanged(f"{file.uri} has other rows than it had; the next run sweeps again")
        left = np.ones(len(rows), bool)
        left[ours[order]] = False
        if check is not None:
            check()
        if not left.any():
            storage.delete(file.uri)
            return True
        if storage.claim(file.uri, encode(rows.filter(pa.array(left))), latest.version) is not None:
            return True
        latest = storage.info(file.uri)
        return False

    again = Retrying(
        retry=retry_if_result(operator.not_),
        stop=stop_after_delay(SWEEPING_SECONDS),
        wait=wait_random(0, 1),
        retry_error_callback=lambda state: False,
    )
    if not again(swept):
        raise ObjectChanged(f"{file.uri} was swept by others all the while; the next run sweeps again")


def doubles(table: pa.Table, key: list[str], latest: str = "answered_at") -> pa.Table:
    """`file` and `row` of all rows with the same key but the latest, by the column of that name."""
    counted = table.group_by(key, use_threads=False).aggregate([("row", "count")])
    if len(counted) == len(table):
        return table.select(["file", "row"]).slice(0, 0)
    order = [(name, "ascending") for name in (*key, latest, "file", "row")]
    table = table.take(pc.sort_indices(table, sort_keys=order)).combine_chunks()
    same = pa.repeat(pa.scalar(True), len(table) - 1)
    for name in key:
        column = _column(table, name)
        same = pc.and_(same, pc.equal(column.slice(0, len(table) - 1), column.slice(1)))
    followed = pa.concat_arrays([same, pa.array([False])])
    return table.filter(followed).select(["file", "row"])


def _questions(table: pa.Table) -> pa.ChunkedArray:
    """`document_id/version/` and what it is an answer to; null where an error is about several tasks."""
    return pc.binary_join_element_wise(table["name"], answer_keys(table), "/")


def _column(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks()
