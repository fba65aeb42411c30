"""A run's own metrics, through Ray's agents to whoever scrapes them: `ray_gemstream_…` in Prometheus.

Filled by the driver from what it has at hand for its progress lines, so a page costs nothing. Ray adds the
prefix, and labels with the node, the process and the session. What it does besides, and what is done here:

- A gauge is exported while it is set anew, and forgotten 20 s later, so those of a run end with it.
  A thread sets them: a driver that waits for a store to come back is a run without progress, not no run.
- A counter is summed by the agent and lives as long as the agent. A run's series have its `run_id` as a
  label, which adds none: Ray's own label `WorkerId` is another for every driver.
- A counter is nothing before it is something, and what follows nothing is no increase. So what can be
  counted is counted as 0 at first, for which `inc` has no word.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pipelines.reckoning import spent_by
from schemas.rows import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from pipelines.feed import Listed
    from pipelines.plan import Plan
    from pipelines.tally import Tally
    from pipelines.verdict import Times

EVERY_SECONDS = 1.0
"""Ray's processes report every 10 s, and not more often than every second whatever they are told. A hundred
series take 0.22 ms."""
AGAIN_SECONDS = 5.0
"""Between two times that gauges are set, whatever the driver waits for: twice per report."""


class Metric(NamedTuple):
    """One line of the registry. Every metric has the label `run` besides."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


METRICS = (
    Metric("gemstream_start_timestamp_seconds", "gauge", "When the run began."),
    Metric("gemstream_last_progress_timestamp_seconds", "gauge", "When anything last got on."),
    Metric("gemstream_listing_ended", "gauge", "1 once all documents are listed, 0 until then."),
    Metric("gemstream_documents_listed_total", "counter", "Documents listed."),
    Metric(
        "gemstream_documents_total",
        "counter",
        "Documents that are settled: ok, partial, failed, filtered; skipped: the output has all they owe.",
        ("outcome",),
    ),
    Metric("gemstream_parts_total", "counter", "Pages, images and segments made.", ("lane",)),
    Metric("gemstream_parts_waiting", "gauge", "Parts made that no engine has taken yet.", ("lane",)),
    Metric("gemstream_requests_total", "counter", "Questions that engines were given.", ("lane",)),
    Metric("gemstream_answers_total", "counter", "Questions that came back: ok, error.", ("lane", "status")),
    Metric("gemstream_requests_in_flight", "gauge", "Questions that are not answered yet.", ("lane",)),
    Metric(
        "gemstream_records_total",
        "counter",
        "Answers as they are published: record, kept (from an earlier run), error.",
        ("task", "status"),
    ),
    Metric("gemstream_invalid_records_total", "counter", "Records with fields that do not hold.", ("task",)),
    Metric(
        "gemstream_failures_total",
        "counter",
        "Rows without an answer: error or filtered, by stage and category.",
        ("status", "stage", "category"),
    ),
    Metric("gemstream_tokens_total", "counter", "Tokens of published answers.", ("task", "kind")),
    Metric("gemstream_cached_tokens_total", "counter", "Prompt tokens that a cache had.", ("task",)),
    Metric("gemstream_answer_seconds_total", "counter", "Time of the answers in their engine.", ("task",)),
    Metric(
        "gemstream_stage_seconds_total",
        "counter",
        "Worker-seconds: expand working, fetching, handing, waiting; infer full, partly, empty (starved), "
        "loading, unstarted.",
        ("lane", "stage", "state"),
    ),
    Metric(
        "gemstream_engine_request_seconds_total",
        "counter",
        "Requests in the engines, times seconds: over the places' it is how full they are.",
        ("lane",),
    ),
    Metric(
        "gemstream_engine_queued_seconds_total", "counter", "Of these, not begun by the engine.", ("lane",)
    ),
    Metric(
        "gemstream_engine_place_seconds_total", "counter", "Places of live engines, times seconds.", ("lane",)
    ),
    Metric("gemstream_engine_starts_total", "counter", "Engines that came up, again or not.", ("lane",)),
    Metric("gemstream_retries_total", "counter", "Questions asked again: hotter, longer.", ("lane",)),
    Metric("gemstream_parser_crashes_total", "counter", "Parsers that crashed or hung.", ("lane",)),
    Metric("gemstream_rows_written_total", "counter", "Rows published."),
    Metric("gemstream_record_bytes_total", "counter", "Bytes of records published."),
    Metric("gemstream_cost_total", "counter", "What it has cost, by the job's prices.", ("currency",)),
    Metric("gemstream_cost_budget", "gauge", "What it may cost (prices.budget).", ("currency",)),
    Metric("gemstream_failed_documents_ratio", "gauge", "Documents that failed, of those that are known."),
    Metric(
        "gemstream_failed_documents_limit_ratio", "gauge", "At which the run stops (limits.failed_share)."
    ),
)
"""All there is. Labels have few values each, and none is ever an address."""

Sample = tuple[str, dict[str, str], float]
"""A metric's name, the values of its labels, and how much it is by now."""


class RunMetrics:
    """One run's metrics while it lasts.

    Args:
        plan: the run.
        exported: whether anybody could see them; if not, nothing is counted.
    """

    def __init__(self, plan: Plan, *, exported: bool) -> None:
        self._plan = plan
        self._exported = exported
        self._made: dict[str, Any] = {}
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}
        self._gauges: list[Sample] = []
        self._began = self._progressed = time.time()
        self._sum = -1.0
        self._due = 0.0
        self._ended = threading.Event()
        self._again = threading.Thread(target=self._set_again, name="metrics", daemon=True)

    def __enter__(self) -> RunMetrics:
        if self._exported:
            from ray.util.metrics import Counter, Gauge

            for metric in METRICS:
                made = Counter if metric.kind == "counter" else Gauge
                self._made[metric.name] = made(metric.name, metric.help, ("run", *metric.labels))
            self._again.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._exported:
            self._again.join()

    def update(
        self,
        tally: Tally,
        listed: Listed,
        counts: Mapping[tuple[str, str, str], int],
        times: Times,
        written: tuple[int, int],
        *,
        now: bool = False,
    ) -> None:
        """Take in how far it is; at most once a second.

        Args:
            tally: what is published.
            listed: what is listed.
            counts: of the meter, by lane, stage and what.
            times: of the meter, worker-seconds by lane, stage and state.
            written: rows, and bytes of records.
            now: though it has just been done.
        """
        if not self._exported or (time.monotonic() < self._due and not now):
            return
        self._due = time.monotonic() + EVERY_SECONDS
        done = listed.documents + sum(counts.values()) + written[0]
        if done > self._sum:
            self._sum, self._progressed = done, time.time()
        self._gauges = [
            ("gemstream_start_timestamp_seconds", {}, self._began),
            ("gemstream_last_progress_timestamp_seconds", {}, self._progressed),
            *gauges(self._plan, tally, listed, counts),
        ]
        for name, labels, value in counters(self._plan, tally, listed, counts, times, written):
            self._count(name, labels, value)
        self._set()

    def _count(self, name: str, labels: dict[str, str], value: float) -> None:
        key = name, tuple(labels.values())
        before = self._counted.get(key)
        if before is None or value > before:
            # `inc` takes no 0; what it calls does.
            self._made[name]._record(float(value - (before or 0)), {"run": self._plan.run_id, **labels})
            self._counted[key] = value

    def _set(self) -> None:
        for name, labels, value in self._gauges:
            self._made[name].set(float(value), {"run": self._plan.run_id, **labels})

    def _set_again(self) -> None:
        while not self._ended.wait(AGAIN_SECONDS):
            self._set()


def gauges(
    plan: Plan, tally: Tally, listed: Listed, counts: Mapping[tuple[str, str, str], int]
) -> Iterator[Sample]:
    """What goes up and down."""
    yield "gemstream_listing_ended", {}, listed.ended
    yield "gemstream_failed_documents_ratio", {}, tally.failed_share(listed.earlier)
    yield "gemstream_failed_documents_limit_ratio", {}, plan.job.limits.failed_share
    prices = plan.job.prices
    if prices is not None and prices.budget is not None:
        yield "gemstream_cost_budget", {"currency": prices.currency}, prices.budget
    for lane in plan.lanes:
        of = _of(counts, lane.pool)
        label: dict[str, str] = {"lane": lane.pool}
        # What Ray does again after a loss is counted again, on either side.
        yield "gemstream_parts_waiting", label, max(0, of("expand", "parts") - of("asked", "parts"))
        answered = of("infer", "done") + of("infer", "failed")
        yield "gemstream_requests_in_flight", label, max(0, of("asked", "done") - answered)


def counters(
    plan: Plan,
    tally: Tally,
    listed: Listed,
    counts: Mapping[tuple[str, str, str], int],
    times: Times,
    written: tuple[int, int],
) -> Iterator[Sample]:
    """What only grows."""
    yield "gemstream_documents_listed_total", {}, listed.documents
    for outcome in ("ok", "partial", "failed", "filtered"):
        yield "gemstream_documents_total", {"outcome": outcome}, tally.counts[outcome]
    yield "gemstream_documents_total", {"outcome": "skipped"}, listed.skipped
    for lane in plan.lanes:
        of = _of(counts, lane.pool)
        label: dict[str, str] = {"lane": lane.pool}
        yield "gemstream_parts_total", label, of("expand", "parts")
        yield "gemstream_parser_crashes_total", label, of("expand", "crashes")
        yield "gemstream_requests_total", label, of("asked", "done")
        yield "gemstream_answers_total", label | {"status": "ok"}, of("infer", "done")
        yield "gemstream_answers_total", label | {"status": "error"}, of("infer", "failed")
        yield "gemstream_retries_total", label, of("infer", "retries")
        yield "gemstream_engine_starts_total", label, of("infer", "starts")
        yield from _seconds(lane.pool, times)
    for task in plan.job.tasks:
        name = {"task": task.name}
        found: Mapping[str, int] = tally.tasks.get(task.name, {})
        for status in (Status.RECORD, Status.KEPT, Status.ERROR):
            answers = tally.statuses[task.name, status.value]
            yield "gemstream_records_total", name | {"status": status.value}, answers
        yield "gemstream_invalid_records_total", name, found.get("invalid", 0)
        yield "gemstream_answer_seconds_total", name, tally.seconds[task.name]
        yield "gemstream_tokens_total", name | {"kind": "prompt"}, found.get("prompt_tokens", 0)
        yield "gemstream_tokens_total", name | {"kind": "output"}, found.get("output_tokens", 0)
        yield "gemstream_cached_tokens_total", name, found.get("cached_tokens", 0)
    for (became, stage, category), rows in tally.faults.items():
        yield "gemstream_failures_total", {"status": became, "stage": stage, "category": category}, rows
    yield "gemstream_rows_written_total", {}, written[0]
    yield "gemstream_record_bytes_total", {}, written[1]
    spent = spent_by(plan, tally, times, written[1]) if plan.job.prices else None
    if spent is not None and spent.cost is not None:
        yield "gemstream_cost_total", {"currency": str(spent.currency)}, spent.cost


def _seconds(lane: str, times: Times) -> Iterator[Sample]:
    held = {"requests": "request", "queued": "queued", "open": "place"}
    for state, name in held.items():
        yield f"gemstream_engine_{name}_seconds_total", {"lane": lane}, times.get((lane, "infer", state), 0.0)
    for (whose, stage, state), seconds in times.items():
        if whose == lane and not (stage == "infer" and state in held):
            label = {"lane": lane, "stage": stage, "state": state}
            yield "gemstream_stage_seconds_total", label, seconds


def _of(counts: Mapping[tuple[str, str, str], int], lane: str) -> Any:
    return lambda stage, what: counts.get((lane, stage, what), 0)
