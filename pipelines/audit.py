"""The counting law, held at the end of a run by what its files say, and by nothing that was counted.

listed = ok + partial + failed + filtered + skipped, per document; a document of which the files do not
say what became of everything it owed is named.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ledger import completeness
from pipelines.runs import ids_of, joined, names_of, runs_of
from schemas.documents import NO_WHOLES
from workers.sinks.reading import read_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipelines.holdings import Holdings
    from pipelines.plan import Plan


@dataclass(frozen=True)
class Audit:
    """What became of the documents that a run worked on.

    Attributes:
        counts: documents by outcome: ok, partial, failed, filtered, and skipped.
        settled: document_id and name (`document_id/version`) of the documents that have one, those that
            were filtered or skipped excluded.
        missing: URIs of the documents that have none.
    """

    counts: Counter[str]
    settled: pa.Table
    missing: tuple[str, ...]


def audit(plan: Plan, holdings: Holdings, listed: pa.Table) -> Audit:
    """Find out from the files what became of each listed document.

    Args:
        plan: the run.
        holdings: what the output holds now that everything is written.
        listed: the run's list: document_id, version, uri, skipped.

    Raises:
        GemstreamError: the output cannot be read.
    """
    filtered = [pa.array([], pa.string())]
    for table in read_columns(
        plan.output, plan.job.storage, f"_runs/{plan.run_id}/filtered", ["document_id"]
    ):
        filtered.append(table["document_id"].combine_chunks())
    return judge(
        listed,
        completeness(holdings.standing.runs, plan.tasks_by_kind, plan.wholes_by_kind),
        holdings.errors.filter(pc.equal(holdings.errors["run_id"], plan.run_id)),
        pa.concat_arrays(filtered),
        plan.tasks_by_kind,
        plan.wholes_by_kind,
        anew=_complete_anew(plan, holdings) if plan.selection.force else None,
    )


def _complete_anew(plan: Plan, holdings: Holdings) -> pa.Array:
    theirs = joined([runs_of(holdings.answers.filter(holdings.answers["anew"]))])
    found = completeness(theirs, plan.tasks_by_kind, plan.wholes_by_kind)
    return found["name"].filter(found["complete"]).combine_chunks()


def judge(
    listed: pa.Table,
    answered: pa.Table,
    errors: pa.Table,
    filtered: pa.Array,
    tasks_by_kind: Mapping[str, Sequence[str]],
    wholes_by_kind: Mapping[str, Sequence[str]] = NO_WHOLES,
    *,
    anew: pa.Array | None = None,
) -> Audit:
    """The outcome of every document.

    Args:
        listed: document_id, version, uri, skipped.
        answered: `completeness` of the answers.
        errors: what this run wrote down as failed.
        filtered: ids of what this run had nothing to ask about.
        tasks_by_kind: part kind -> the tasks that are asked of such a part.
        wholes_by_kind: part kind -> those that are asked of a document of several such parts besides.
        anew: where everything was asked again, the names of which this run gave all answers. Of others those
            of an earlier run are still there: that is not what was asked for where this one wrote an error,
            and where it wrote nothing, nobody can say what became of them.
    """
    work = listed.filter(pc.invert(listed["skipped"]))
    names = _names(work, answered, errors, anew)
    quiet = pc.is_in(work["document_id"], filtered)
    complete = pc.is_in(names, answered["name"].filter(answered["complete"]).combine_chunks())
    loud = pc.and_(complete, pc.invert(quiet))
    if anew is None:
        short, ok = pc.and_not(loud, loud), loud
    else:
        short = pc.and_(loud, pc.is_in(names, errors["name"].combine_chunks()))
        ok = pc.and_(pc.and_not(loud, short), pc.is_in(names, anew))
    spoken = pc.or_(ok, short)
    rest = pc.invert(pc.or_(complete, quiet))
    outcomes = _of_the_rest(names.filter(rest).to_pylist(), answered, errors, tasks_by_kind, wholes_by_kind)
    counts = Counter(outcome for outcome in outcomes if outcome is not None)
    counts["ok"], counts["filtered"] = _count(ok), _count(quiet)
    counts["partial"] += _count(short)
    counts["skipped"] = len(listed) - len(work)
    heard = pa.array([outcome is not None for outcome in outcomes], pa.bool_())
    named = pa.table({"document_id": work["document_id"], "name": names})
    uris = work["uri"]
    unheard = [uris.filter(rest).filter(pc.invert(heard)), uris.filter(pc.and_not(loud, spoken))]
    return Audit(
        counts=counts,
        settled=pa.concat_tables([named.filter(spoken), named.filter(rest).filter(heard)]),
        missing=tuple(sorted(uri for some in unheard for uri in some.to_pylist())),
    )


def _names(work: pa.Table, answered: pa.Table, errors: pa.Table, anew: pa.Array | None) -> pa.ChunkedArray:
    """`document_id/version`; of what had no version when it was listed (a manifest's entry that could not
    be looked up), with the version it was met in: of an error, which is this run's, before an answer's, and
    of this run's answers before others'."""
    mine = [] if anew is None else [anew]
    met = pa.chunked_array([*errors["name"].chunks, *mine, *answered["name"].chunks], pa.string())
    places = pc.index_in(work["document_id"], ids_of(met).combine_chunks())
    found = pc.coalesce(pc.take(met, places), names_of(work))
    return pc.if_else(pc.equal(work["version"], ""), found, names_of(work))


def _of_the_rest(
    names: list[str],
    answered: pa.Table,
    errors: pa.Table,
    tasks_by_kind: Mapping[str, Sequence[str]],
    wholes_by_kind: Mapping[str, Sequence[str]],
) -> list[str | None]:
    """The outcome of each document that has not all of its answers; None where nobody can say."""
    wanted = pa.array(names, pa.string())
    half = answered.filter(pc.is_in(answered["name"], wanted))
    have = dict(zip(half["name"].to_pylist(), half["answers"].to_pylist(), strict=True))
    faults: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    columns = ["name", "part_index", "parts_total", "part_kind", "task"]
    for row in errors.filter(pc.is_in(errors["name"], wanted)).select(columns).to_pylist():
        faults[row["name"]].append(row)
    return [outcome(have.get(name, ()), faults[name], tasks_by_kind, wholes_by_kind) for name in names]


def outcome(
    answers: Iterable[str],
    faults: Sequence[Mapping[str, Any]],
    tasks_by_kind: Mapping[str, Sequence[str]],
    wholes_by_kind: Mapping[str, Sequence[str]] = NO_WHOLES,
) -> str | None:
    """What a document is whose answers are not complete.

    Args:
        answers: the answers it has, as `answer_keys` has them.
        faults: its error rows. One without a task speaks for all that is asked of its part; without a part
            for the whole document, and without either for all that has no answer.
        tasks_by_kind: part kind -> tasks.
        wholes_by_kind: part kind -> tasks that are asked about the whole document besides, once they are
            answered about all its parts.

    Returns:
        "partial", "failed", or None when something it owes is neither answered nor spoken for.
    """
    if not faults:
        return None
    answered = frozenset(answers)
    result = "partial" if answered else "failed"
    settled = set(answered)
    for fault in faults:
        part = fault["part_index"]
        if part is None and fault["task"] is None:
            return result
        tasks = tasks_by_kind[fault["part_kind"]] if fault["task"] is None else [fault["task"]]
        settled |= {answer_key(part, task) for task in tasks}
    kind, total = faults[0]["part_kind"], faults[0]["parts_total"]
    owed = {answer_key(part, task) for part in range(total) for task in tasks_by_kind[kind]}
    if total > 1:
        owed |= {
            answer_key(None, task)
            for task in wholes_by_kind.get(kind, ())
            if all(answer_key(part, task) in answered for part in range(total))
        }
    return result if owed <= settled else None


def answer_key(part: int | None, task: str) -> str:
    """`pipelines.ledger.answer_keys` of one answer."""
    return f"{'' if part is None else part}/{task}"


def _count(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask).as_py() or 0
