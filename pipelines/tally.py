"""What a run has come to so far: for the line that is shown, and for stopping when too much fails.

Needs memory for the documents in flight only: one whose answers are all settled is counted and
forgotten. The counts of the report are not these but the audit's, which come from the files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.rows import Status
from workers.tally import HELD, PARTS, TOKENS

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Pending:
    """A document of which some answers are settled."""

    media_type: str | None
    expected: int = 1
    settled: Counter[str] = field(default_factory=Counter)


class Tally:
    """Counts of one run, fed with what was published."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.media: Counter[str] = Counter()
        self.tasks: dict[str, Counter[str]] = {}
        self.seconds: Counter[str] = Counter()
        self.held: dict[str, Counter[str]] = {}
        self.faults: Counter[tuple[str, str, str]] = Counter()
        self.redactions: Counter[str] = Counter()
        self.statuses: Counter[tuple[str, str]] = Counter()
        self.asked: dict[tuple[str, str, bool], Counter[str]] = defaultdict(Counter)
        self._pending: dict[str, Pending] = {}

    def add(self, documents: pa.Table, totals: dict[str, Any]) -> None:
        """Count one published batch (`workers.tally.summarise` and `totals` of it)."""
        for row in documents.to_pylist():
            pending = self._pending.setdefault(row["document_id"], Pending(row["media_type"]))
            pending.expected = max(pending.expected, row["expected"])
            pending.settled.update(
                {status.value: row[status.value] for status in Status if row[status.value]}
            )
            if pending.settled.total() >= pending.expected:
                self._close(row["document_id"], pending)
        for row in totals["tasks"]:
            counts = self.tasks.setdefault(row["task"], Counter())
            counts.update({name: row[name] for name in ("answers", "invalid", *TOKENS)})
            self.seconds[row["task"]] += row["seconds"]
            if row["pages"] or row["not_read"]:
                self.held.setdefault(row["task"], Counter()).update({name: row[name] for name in HELD})
        for row in totals["parts"]:
            self.asked[row["task"], row["part_kind"], row["whole"]].update(
                {name: row[name] for name in PARTS}
            )
        for row in totals["statuses"]:
            if row["task"]:  # what settles a whole document is a fault, and of no task
                self.statuses[row["task"], row["status"]] += row["settled_sum"]
        self.redactions.update({row["kind"]: row["count_sum"] for row in totals["redactions"]})
        for row in totals["faults"]:
            self.faults[row["status"], row["stage"] or "", row["category"] or ""] += row["count_all"]

    @property
    def done(self) -> int:
        """Documents whose answers are all settled."""
        return self.counts.total()

    def failed_share(self, earlier: int) -> float:
        """Of the documents so far, those with nothing to show. What earlier runs have done counts, listed
        again or not: what is broken is met by every run, and would be most of what a rerun has to do."""
        known = self.done - self.counts["filtered"] - self.counts["duplicate"] + earlier
        return self.counts["failed"] / known if known else 0.0

    def _close(self, document_id: str, pending: Pending) -> None:
        del self._pending[document_id]
        self.counts[outcome(pending.settled)] += 1
        self.media[pending.media_type or "unknown"] += 1


def outcome(settled: Counter[str]) -> str:
    """ok, partial, failed, filtered or duplicate: what a document is when all that it owed is settled."""
    if settled[Status.FILTERED]:
        return "filtered"
    if settled[Status.DUPLICATE]:
        return "duplicate"
    good = settled[Status.RECORD] + settled[Status.KEPT]
    if not settled[Status.ERROR]:
        return "ok"
    return "partial" if good else "failed"
