"""What the rows of a run say, read once, column by column, a few files at a time."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.page.histogram import Logarithmic, Shares, Whole
from pipelines.page.model import ErrorGroup, Example, Facts, SlowDocument, TaskFacts
from pipelines.page.sample import FACTS, Sample
from schemas.rows import Status
from workers.sinks.reading import read_columns, read_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipelines.report import RunReport
    from schemas.storage import StorageOptions

T = TypeVar("T")
RECORD_COLUMNS = [
    *FACTS,
    *("valid", "text_source", "output_tokens", "seconds", "confidence", "answered_at", "run_id"),
]
ERROR_COLUMNS = [*FACTS, "task", "stage", "category", "message", "setting", "text", "run_id"]
DOCUMENT_COLUMNS = [
    *("uri", "media_type", "status", "parts_total", "answers", "engine_seconds", "output_tokens"),
    *("seconds_of_media", "run_id"),
]
ENCODED = ("uri", "media_type", "part_kind", "text_source")
RECORDS_SECONDS, REST_SECONDS = 120.0, 60.0
"""For records; for errors and documents. A file of 20,000 records takes 12 ms on a disk.
Files are named by hashes: where there is no time for all, the first are as good as any others."""
SLICES = 60
"""Of the run's time, for what is shown over it."""
SLOWEST = 10
EXAMPLES = 3
"""Rows of each category that are shown."""


class Watch:
    """Ends what takes too long, and knows that it did. The first of each is always looked at.

    Args:
        seconds: from when it begins.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.cut = False
        self.begin()

    def begin(self) -> None:
        """From now on."""
        self._until = time.monotonic() + self._seconds

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """These, until the time is over."""
        for item in items:
            yield item
            if time.monotonic() > self._until:
                self.cut = True
                return


@dataclass
class TaskCount:
    """One task, so far."""

    records: int = 0
    invalid: int = 0
    borrowed: int = 0
    silent: int = 0
    seconds: Logarithmic = field(default_factory=Logarithmic)
    tokens: Whole = field(default_factory=Whole)
    confidence: Shares = field(default_factory=Shares)

    def add(self, rows: pa.Table) -> None:
        """Take records in."""
        self.records += len(rows)
        self.invalid += _count(pc.equal(rows["valid"], False))
        self.borrowed += _count(pc.equal(rows["text_source"], "text_layer"))
        self.silent += _count(pc.equal(rows["text_source"], "silence"))
        self.seconds.add(_known(rows["seconds"]))
        self.tokens.add(_known(rows["output_tokens"]).astype(np.int64))
        self.confidence.add(_known(rows["confidence"]))

    def facts(self) -> TaskFacts:
        """What it has come to."""
        return TaskFacts(
            records=self.records,
            invalid=self.invalid,
            borrowed=self.borrowed,
            silent=self.silent,
            seconds=self.seconds.distribution(),
            tokens=self.tokens.distribution(),
            confidence=self.confidence.distribution(),
        )


def read_facts(report: RunReport, tasks: Sequence[str], options: StorageOptions, sample: Sample) -> Facts:
    """Read what a run has left.

    Args:
        report: the run's.
        tasks: the names of what it asked.
        options: how to reach its output.
        sample: which takes in all parts that are met.

    Raises:
        GemstreamError: the output cannot be read.
    """
    watch, rest = Watch(RECORDS_SECONDS), Watch(REST_SECONDS)
    found: dict[str, TaskFacts] = {}
    over_time = np.zeros(SLICES)
    files = 0
    for task in tasks:
        counts = TaskCount()
        parts = read_parts(report.output, options, f"records/task={task}", RECORD_COLUMNS, encoded=ENCODED)
        for part in watch.over(parts):
            mine = pc.equal(part.rows["run_id"], report.run_id)
            rows = part.rows.filter(mine)
            if len(rows):
                files += 1
                counts.add(rows)
                over_time += _over_time(rows, report)
                sample.add(part.info, task, rows, np.flatnonzero(mine.to_numpy()))
        if counts.records:
            found[task] = counts.facts()
    rest.begin()
    errors, slowest = _errors(report, options, sample, rest), _slowest(report, options, rest)
    return Facts(
        tasks=found,
        tokens_over_time=tuple(int(count) for count in over_time),
        errors=errors,
        slowest=tuple(SlowDocument(**row) for row in slowest),
        files=files,
        cut=watch.cut or rest.cut,
    )


def _over_time(rows: pa.Table, report: RunReport) -> Any:
    """Output tokens in each slice of the run; what was answered before it or after it, by another machine's
    clock, counts as at its ends."""
    since = pc.subtract(rows["answered_at"], pa.scalar(report.started, pa.timestamp("us", tz="UTC")))
    seconds = since.cast(pa.int64()).to_numpy() / 1e6
    places = np.clip(seconds / max(report.seconds, 1e-3) * SLICES, 0, SLICES - 1).astype(np.int64)
    tokens = pc.fill_null(rows["output_tokens"], 0).to_numpy()
    return np.bincount(places, tokens, SLICES)


def _errors(
    report: RunReport, options: StorageOptions, sample: Sample, watch: Watch
) -> tuple[ErrorGroup, ...]:
    """How often each category was met, as the report has it, the most frequent first; some rows of each."""
    examples: defaultdict[tuple[str, str], list[Example]] = defaultdict(list)
    for table in watch.over(read_columns(report.output, options, "errors", ERROR_COLUMNS)):
        mine = table.filter(pc.equal(table["run_id"], report.run_id))
        sample.add_errors(mine)
        for kind in mine.group_by(["stage", "category"]).aggregate([]).to_pylist():
            key = kind["stage"], kind["category"]
            alike = pc.and_(*(pc.equal(mine[name], kind[name]) for name in ("stage", "category")))
            room = EXAMPLES - len(examples[key])
            examples[key] += _examples(mine.filter(alike).slice(0, room))
    groups = (
        ErrorGroup(
            **fault.model_dump(exclude={"status"}), examples=tuple(examples[fault.stage, fault.category])
        )
        for fault in report.faults
        if fault.status == Status.ERROR
    )
    return tuple(sorted(groups, key=lambda group: -group.rows))


def _examples(rows: pa.Table) -> Iterator[Example]:
    for row in rows.to_pylist():
        yield Example(
            uri=row["uri"],
            part=row["part_index"],
            task=row["task"],
            message=row["message"] or "",
            setting=row["setting"],
        )


def _slowest(report: RunReport, options: StorageOptions, watch: Watch) -> list[dict[str, Any]]:
    """The documents whose answers took the engines longest, the slowest first."""
    best: pa.Table | None = None
    for table in watch.over(read_columns(report.output, options, "documents", DOCUMENT_COLUMNS)):
        mine = pc.and_(pc.equal(table["run_id"], report.run_id), pc.is_valid(table["engine_seconds"]))
        rows = table.filter(mine).drop_columns("run_id")
        rows = rows if best is None else pa.concat_tables([best, rows])
        order = pc.select_k_unstable(rows, SLOWEST, sort_keys=[("engine_seconds", "descending")])
        best = rows.take(order)
    if best is None:
        return []
    found: list[dict[str, Any]] = best.rename_columns({"parts_total": "parts"}).to_pylist()
    return found


def _count(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask).as_py() or 0


def _known(values: pa.ChunkedArray) -> Any:
    """What is not null, nor NaN."""
    known = values.drop_null().to_numpy().astype(np.float64)
    return known[np.isfinite(known)]
