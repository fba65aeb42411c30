"""What a document owes and does not have, with the error that says why."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.documents import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

UNANSWERED = "unanswered"
"""Category of a gap that no error explains: a run that is under way, or was cut short."""

Gap = tuple[int | None, str | None]
"""Part and task; None for all of them."""


def missing(
    facts: pa.Table,
    incomplete: Any,
    answers: pa.Table,
    failures: pa.Table,
    tasks_by_kind: Mapping[str, Sequence[str]],
    wholes_by_kind: Mapping[str, Sequence[str]],
) -> pa.Array:
    """The column `missing`. It loops in Python over the documents that are not complete: there should be few.

    Args:
        facts: a row per document, with its number in `document`, `part_kind` and `parts_total`.
        incomplete: which of them have gaps.
        answers: those that are there, with the number of their document.
        failures: the errors about the same documents, likewise.
        tasks_by_kind: part kind -> names of the tasks asked of such parts.
        wholes_by_kind: part kind -> those asked besides about documents of several such parts.
    """
    wanted = facts.filter(incomplete)
    answered: dict[int, set[Gap]] = {}
    for document, part, task in _tuples(_of(answers, wanted), "document", "part_index", "task"):
        answered.setdefault(document, set()).add((part, task))
    reasons: dict[int, dict[Gap, tuple[str, str | None]]] = {}
    # Of two errors about the same, which two runs may have left, the later one counts.
    why = _of(failures, wanted).sort_by("answered_at")
    for document, part, task, *reason in _tuples(
        why, "document", "part_index", "task", "category", "message"
    ):
        reasons.setdefault(document, {})[part, task] = (reason[0], reason[1])
    lists: list[list[dict[str, Any]]] = [[] for _ in range(len(facts))]
    for document, kind, total in _tuples(wanted, "document", "part_kind", "parts_total"):
        found = reasons.get(document, {})
        if total is not None:
            owed: list[Gap] = list(product(range(total), tasks_by_kind.get(kind, ())))
            if total > 1:
                owed += [(None, task) for task in wholes_by_kind.get(kind, ())]
            there = answered.get(document, set())
            found = _explained([gap for gap in owed if gap not in there], found)
        lists[document] = [
            {"part_index": part, "task": task, "category": category, "message": message}
            for (part, task), (category, message) in sorted(found.items(), key=_place)
        ]
    return pa.array(lists, MISSING)


def _explained(
    gaps: Sequence[Gap], reasons: Mapping[Gap, tuple[str, str | None]]
) -> dict[Gap, tuple[str, str | None]]:
    """The reasons that hold for some gap, and the gaps that none holds for. What is asked about the whole
    document waits for the answers about its parts, so a gap among those explains it."""
    found: dict[Gap, tuple[str, str | None]] = {}
    waiting = {task for part, task in gaps if part is not None}
    for part, task in gaps:
        covering = [key for key in ((part, task), (part, None), (None, task), (None, None)) if key in reasons]
        found |= {key: reasons[key] for key in covering}
        if not covering and not (part is None and task in waiting):
            found[part, task] = (UNANSWERED, "there is neither an answer nor an error")
    return found


def _place(item: tuple[Gap, Any]) -> tuple[float, str]:
    """Parts in order, then the document; a part's tasks by name, after what is said of them all."""
    part, task = item[0]
    return (float("inf") if part is None else part, task or "")


def _of(rows: pa.Table, documents: pa.Table) -> pa.Table:
    return rows.filter(pc.is_in(rows["document"], documents["document"].combine_chunks()))


def _tuples(rows: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in names), strict=True)
