"""One run of one job: plan, stream, publish, settle, report."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from pipelines.assemble import assemble
from pipelines.audit import Audit, audit
from pipelines.choice import memory_of_cluster, settle_models
from pipelines.cluster import cluster, here, refuse_port, unwrapped
from pipelines.expectation import read_seen
from pipelines.feed import close_list, read_list
from pipelines.holdings import read_holdings, settled_down
from pipelines.interrupt import Interrupt, interrupted_anywhere, interrupts
from pipelines.lease import Lease
from pipelines.meter import over_lanes
from pipelines.metrics import RunMetrics
from pipelines.occupancy import refuse_foreign_output
from pipelines.plan import Plan, make_plan
from pipelines.progress import Progress
from pipelines.reckoning import reckon
from pipelines.report import Counts, FaultCounts, RunReport, TaskCounts, TextLayerCounts
from pipelines.sources import open_source
from pipelines.sweep import sweep
from pipelines.tally import Tally
from pipelines.verdict import Bottleneck, Timeline, Times, judge
from pipelines.whole import due
from schemas.errors import Interrupted
from workers.storage.factory import join, open_storage
from workers.tally import TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    import ray
    from ray.actor import ActorHandle

    from pipelines.feed import Listed
    from pipelines.publish import Published, Publisher
    from pipelines.reckoning import Reckoning
    from pipelines.sources import Source
    from schemas.job import JobSpec
    from schemas.selection import Selection

TICK_SECONDS = 0.5
JUDGED = 100
"""Documents before a run may stop for its failed share: the first ten may all be from one bad folder."""


def run(
    job: JobSpec,
    console: Console | None = None,
    selection: Selection | None = None,
    metrics_port: int | None = None,
) -> RunReport:
    """Run a job to its end.

    Args:
        job: what to do.
        console: where progress goes; standard error if not given.
        selection: which documents to work on; all that owe answers if not given.
        metrics_port: where a Ray of our own is to answer to Prometheus.

    Returns:
        The report, which is also written to `_runs/<run_id>/` of the output.

    Raises:
        JobError: the job cannot be run as it is, or another run writes to the output; nothing was started.
        Interrupted: a signal ended it; what was answered is written.
        GemstreamError: the source, the output or the engines failed; what was published stays, and the same
            command goes on from there.
    """
    with interrupted_anywhere():
        return _run(job, console or Console(stderr=True), selection, metrics_port)


def _run(job: JobSpec, console: Console, selection: Selection | None, metrics_port: int | None) -> RunReport:
    source = source_of(job)
    # Everything that can be refused is refused before Ray starts, which takes seconds.
    first = make_plan(settle_models(job).job, source.attributes, job.engine.gpus or 0.0, selection)
    refuse_foreign_output(first)
    if metrics_port is not None:
        refuse_port(metrics_port)
    source.check()
    with (
        Lease(first.output, job.storage, first.run_id, first.selection.shard) as lease,
        cluster(metrics_port),
    ):
        from ray.exceptions import RayError

        from pipelines.graph import gpus_per_engine

        gpus = gpus_per_engine(job.engine)
        try:
            chosen = settle_models(job, lambda: memory_of_cluster(gpus))
            for pool, reason in chosen.reasons.items():
                console.print(f"models.{pool}: {reason}")
            plan = make_plan(chosen.job, source.attributes, gpus, selection)
            return _stream(replace(plan, run_id=first.run_id), source, console, lease)
        except RayError as error:
            raise unwrapped(error) from error


def source_of(job: JobSpec) -> Source:
    """The source that a job names."""
    return open_source(
        job.input,
        job.storage,
        manifest=job.manifest,
        include=job.include,
        exclude=job.exclude,
        limit=job.limit,
    )


def _stream(plan: Plan, source: Source, console: Console, lease: Lease) -> RunReport:
    import ray

    from pipelines.feed import Feed
    from pipelines.graph import build, build_wholes, size
    from pipelines.journal import JournalActor, JournalHandle
    from pipelines.meter import MeterActor, MeterHandle

    started, began = datetime.now(UTC), time.monotonic()
    # Before there are records of this run's own, which would be no expectation.
    seen = read_seen(plan) if plan.job.rates else {}
    _write(plan, "job.yaml", yaml.safe_dump(plan.job.public(), sort_keys=False))
    feed = ray.remote(**here(), max_concurrency=8)(Feed).remote(plan, source)
    meter = ray.remote(**here())(MeterActor).remote()
    journal = ray.remote(**here())(JournalActor).remote()
    sizing, handles = size(plan), (MeterHandle(meter), JournalHandle(journal))
    with RunMetrics(plan, exported=sizing.metrics) as metrics:
        stream = Stream(plan, console, lease, feed, meter, metrics)
        stream.run(build(plan, feed, *handles, sizing))
        ray.get(feed.check.remote())
        listed = read_list(plan, ["document_id", "version", "uri", "skipped"])
        groups = due(plan, listed) if stream.stopped is None else {}
        if groups:
            stream.run(build_wholes(plan, groups, *handles, sizing), whole=True)
        found = settle(plan, listed)
        seconds = time.monotonic() - began
        _, _, times = stream.look(last=True)
    held_up = judge(times, stream.timelines, sizing.expand_workers, sizing.engine_replicas[1])
    reckoning = reckon(plan, stream.tally, times, stream.record_bytes, seen)
    report = _report(plan, stream, found, started, seconds, held_up, reckoning)
    _write(plan, "report.json", report.model_dump_json(indent=2))
    # Last: a run with counts is a run that ended.
    _write(plan, "counts.json", json.dumps(report.counts.model_dump(), indent=2))
    return report


class Stream:
    """Outcomes as they are published, pass after pass, and what they have come to.

    Args:
        plan: the run.
        console: where it says what it does.
        lease: of the output, looked at all the while.
        feed: the actor that lists.
        meter: the actor that counts.
        metrics: what is told to Prometheus.
    """

    def __init__(
        self,
        plan: Plan,
        console: Console,
        lease: Lease,
        feed: ActorHandle[Any],
        meter: ActorHandle[Any],
        metrics: RunMetrics,
    ) -> None:
        self._plan, self._console, self._lease, self._metrics = plan, console, lease, metrics
        self._feed, self._meter = feed, meter
        self.progress = Progress(console)
        self.timelines = {lane.pool: Timeline(lane.pool) for lane in plan.lanes}
        self._began = time.monotonic()
        self.tally = Tally()
        self.files = self.written = self.record_bytes = 0
        self.stopped: str | None = None

    def run(self, graph: ray.data.Dataset, *, whole: bool = False) -> None:
        """One pass, to its end.

        Args:
            graph: what yields the outcomes.
            whole: the outcomes are about whole documents, which are counted already.

        Raises:
            Interrupted: a signal ended it; what was answered is written.
        """
        import ray

        from pipelines.publish import Publisher

        console, seconds = self._console, self._plan.job.limits.drain_seconds
        with (
            interrupts() as interrupt,
            self.progress.shown(),
            closing(Publisher(self._plan, graph)) as publisher,
        ):
            drain = Drain(interrupt, publisher, seconds)
            for group in publisher.results(TICK_SECONDS):
                self._lease.check()
                if group is not None:
                    self._count(group, whole=whole)
                if drain.begins():
                    console.print(f"{drain.signal}: no new work, {seconds:g} s for what is in flight")
                    ray.get([self._feed.stop.remote(), self._meter.drain.remote()])
                if self._look_around():
                    publisher.stop()
            if drain.signal:
                raise Interrupted(
                    f"{drain.signal} ended the run, {self.written} rows are written; run the same command "
                    "to go on"
                )

    def _count(self, group: Published, *, whole: bool) -> None:
        documents = group.documents.slice(0, 0) if whole else group.documents
        self.tally.add(documents, group.totals)
        self.files += len(group.receipts)
        self.written += sum(receipt.rows for receipt in group.receipts)
        self.record_bytes += sum(receipt.bytes for receipt in group.receipts if receipt.task)

    def look(self, *, last: bool = False) -> tuple[Listed, Mapping[tuple[str, str, str], int], Times]:
        """What is listed, counted and spent so far; whoever watches the metrics is told as well."""
        import ray

        listed, counts, times = ray.get(
            [self._feed.progress.remote(), self._meter.read.remote(), self._meter.times.remote()]
        )
        self._metrics.update(self.tally, listed, counts, times, (self.written, self.record_bytes), now=last)
        return listed, counts, times

    def _look_around(self) -> bool:
        """Show how far it is; whether too much has failed for it to go on."""
        listed, counts, times = self.look()
        for timeline in self.timelines.values():
            timeline.add(time.monotonic() - self._began, times)
        share = self.tally.failed_share(listed.skipped)
        if self.stopped is None and self.tally.done >= JUDGED and share > self._plan.job.limits.failed_share:
            self.stopped = f"{share:.0%} of the documents failed (limits.failed_share)"
        self.progress.update(
            over_lanes(counts),
            listed=listed.documents,
            skipped=listed.skipped,
            ended=listed.ended,
            written=self.written,
        )
        return self.stopped is not None


class Drain:
    """From the signal on: nothing new is begun, and what is in flight has so many seconds to end."""

    def __init__(self, interrupt: Interrupt, publisher: Publisher, seconds: float) -> None:
        self._interrupt = interrupt
        self._publisher = publisher
        self._until: float | None = None
        self._seconds = seconds

    @property
    def signal(self) -> str:
        """The name of the signal that came; empty if none did."""
        return self._interrupt.by.name if self._interrupt.by else ""

    def begins(self) -> bool:
        """Whether it begins now. To be asked again and again, for it ends the wait when its time is up."""
        if not self.signal:
            return False
        begins = self._until is None
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        if time.monotonic() >= self._until:
            self._publisher.stop()
        return begins


def settle(plan: Plan, listed: pa.Table) -> Audit:
    """What is done once everything is written: say what became of each document, sweep, assemble."""
    found = settled_down()(_settle, plan, listed)
    close_list(plan)
    return found


def _settle(plan: Plan, listed: pa.Table) -> Audit:
    holdings = read_holdings(plan)
    found = audit(plan, holdings, listed)
    if sweep(plan, holdings, listed, found.settled["document_id"].combine_chunks()):
        holdings = read_holdings(plan)
    assemble(plan, holdings, listed, found.settled)
    return found


def _report(
    plan: Plan,
    stream: Stream,
    found: Audit,
    started: datetime,
    seconds: float,
    held_up: dict[str, Bottleneck],
    reckoning: Reckoning | None,
) -> RunReport:
    tally, stopped = stream.tally, stream.stopped
    counts = Counts(listed=found.counts.total() + len(found.missing), **found.counts)
    known = counts.listed - counts.filtered
    return RunReport(
        run_id=plan.run_id,
        output=plan.output,
        started=started,
        seconds=round(seconds, 3),
        counts=counts,
        media=dict(tally.media),
        tasks={
            name: TaskCounts(
                **{name: task[name] for name in ("answers", "invalid", *TOKENS)},
                seconds=round(tally.seconds[name], 3),
            )
            for name, task in tally.tasks.items()
        },
        text_layer={
            name: TextLayerCounts(
                **held, cer=held["errors"] / max(1, held["characters"]) if held["pages"] else None
            )
            for name, held in tally.held.items()
        },
        faults=tuple(
            FaultCounts(status=status, stage=stage, category=category, rows=rows)
            for (status, stage, category), rows in tally.faults.items()
        ),
        bottlenecks=held_up,
        reckoning=reckoning,
        files=stream.files,
        stopped=stopped,
        unsettled=found.missing if stopped is None else (),
        failed_share=round(counts.failed / known, 4) if known else 0.0,
        allowed_share=plan.job.limits.failed_share,
    )


def _write(plan: Plan, name: str, text: str) -> None:
    uri = join(plan.output, "_runs", plan.run_id, name)
    open_storage(uri, plan.job.storage).publish(uri, text.encode())
