"""One run of one job: plan, stream, publish, settle, report."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import yaml

from pipelines.attach import attach, one_of_each, stand_in
from pipelines.beforehand import refuse_beforehand
from pipelines.choice import memory_of_cluster, settle_models
from pipelines.cluster import cluster, here, refuse_port, unwrapped
from pipelines.expectation import read_seen
from pipelines.feed import read_list
from pipelines.incremental import NAME as SOURCE
from pipelines.incremental import resume
from pipelines.interrupt import interrupted_anywhere
from pipelines.lake.enrich import enrich
from pipelines.lake.into import added_columns
from pipelines.lake.sync import bring_up
from pipelines.lease import Lease
from pipelines.located import located
from pipelines.metrics import RunMetrics
from pipelines.near import group_near
from pipelines.page.make import publish_page
from pipelines.plan import Plan, make_plan
from pipelines.reckoning import reckon
from pipelines.report import Counts, FaultCounts, RunReport, TaskCounts, TextLayerCounts
from pipelines.settle import settle
from pipelines.sources import open_source
from pipelines.sources.hidden import hidden_source
from pipelines.stream import Stream
from pipelines.terminal import terminal
from pipelines.verdict import Bottleneck, judge
from pipelines.versions import versions
from pipelines.waiting import Waiting, mention_cpus
from pipelines.whole import due
from schemas.errors import PageError
from workers.storage.factory import join, open_storage
from workers.tally import TOKENS

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from pipelines.audit import Audit
    from pipelines.reckoning import Reckoning
    from pipelines.sources import Source
    from pipelines.whole import Group
    from schemas.job import JobSpec
    from schemas.selection import Selection


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
    console = console or terminal(stderr=True)
    with interrupted_anywhere():
        plan, report = _run(job, console, selection, metrics_port)
        return with_page(plan, report, console)


def with_page(plan: Plan, report: RunReport, console: Console) -> RunReport:
    """The report, and beside it its page, if the job wants one. It comes when Ray has gone and the output is
    free: nothing waits for it, and the run is what it is without it."""
    if not plan.job.report.page:
        return report
    try:
        return report.model_copy(update={"page": publish_page(plan, report)})
    except PageError as error:
        console.print(
            f"the run has no page: {error.message}; to try again: gemstream report "
            f"{shlex.quote(report.output)} --run "
            f"{report.run_id} --html report.html",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return report


def _run(
    job: JobSpec, console: Console, selection: Selection | None, metrics_port: int | None
) -> tuple[Plan, RunReport]:
    source = source_of(job)
    # Everything that can be refused is refused before Ray starts, which takes seconds.
    first = make_plan(settle_models(job).job, source.attributes, job.engine.gpus or 0.0, selection)
    refuse_beforehand(first)
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
        mention_cpus(console, job.engine, gpus)
        try:
            chosen = settle_models(job, lambda: memory_of_cluster(gpus))
            for pool, reason in chosen.reasons.items():
                console.print(f"models.{pool}: {reason}", markup=False)
            plan = make_plan(chosen.job, source.attributes, gpus, selection)
            plan = replace(plan, run_id=first.run_id)
            return plan, _stream(plan, source, console, lease)
        except RayError as error:
            raise unwrapped(error) from error


def source_of(job: JobSpec) -> Source:
    """The source that a job names."""
    source = open_source(
        job.input,
        job.storage,
        manifest=job.manifest,
        table=job.table,
        added=added_columns(job),
        include=job.include,
        exclude=job.exclude,
        limit=job.limit,
        output=job.output,
    )
    return hidden_source(source, job.privacy, job.table)


def _stream(plan: Plan, source: Source, console: Console, lease: Lease) -> RunReport:
    import ray

    from pipelines.feed import Feed
    from pipelines.graph import build, build_wholes, size
    from pipelines.journal import JournalActor, JournalHandle
    from pipelines.meter import MeterActor, MeterHandle

    started, began = datetime.now(UTC), time.monotonic()
    # Before there are records of this run's own, which would be no expectation.
    seen = read_seen(plan) if plan.job.rates else {}
    _write(plan, "job.yaml", yaml.safe_dump(located(plan.job).public(), sort_keys=False))
    pinned = resume(plan, source)
    if pinned is not None:
        _write(plan, SOURCE, json.dumps(pinned, indent=2))
    feed = ray.remote(**here(), max_concurrency=8)(Feed).remote(plan, source)
    meter = ray.remote(**here())(MeterActor).remote()
    journal = ray.remote(**here())(JournalActor).remote()
    sizing, handles = size(plan), (MeterHandle(meter), JournalHandle(journal))
    waiting = Waiting(console, [lane.pool for lane in plan.lanes], sizing.gpus, plan.job.limits.node_seconds)
    with RunMetrics(plan, exported=sizing.metrics) as metrics:
        stream = Stream(plan, console, lease, feed, meter, waiting, metrics)
        stream.run(build(plan, feed, *handles, sizing))
        if stream.stopped is not None:
            ray.get(feed.ended.remote())
        ray.get(feed.check.remote())
        listed = read_list(plan, ["document_id", "version", "uri", "skipped"])
        groups = _wholes(plan, listed) if stream.stopped is None else {}
        if groups:
            stream.run(build_wholes(plan, groups, *handles, sizing), whole=True)
        lease.check()
        duplicates = attach(plan)
        found = settle(plan, listed, lease.check)
        # Whoever watches hears in the end what the files say: of duplicates, the stream could not know.
        stream.tally.counts = Counter({**found.counts, "skipped": 0})
        near = group_near(plan.output, plan.job.storage, plan.job.duplicates) if stream.stopped is None else 0
        tables = bring_up(plan, listed, lease.check) | enrich(plan, lease.check)
        seconds = time.monotonic() - began
        told, _, times = stream.look(last=True)
    held_up = judge(times, stream.timelines, sizing.expand_workers, sizing.engine_replicas[1])
    reckoning = reckon(plan, stream.tally, times, stream.record_bytes, seen)
    report = _report(plan, stream, found, started, seconds, held_up, reckoning, told.passed)
    report = report.model_copy(update={"tables": tables, "duplicates": duplicates, "near": near})
    _write(plan, "report.json", report.model_dump_json(indent=2))
    # Last: a run with counts is a run that ended.
    _write(plan, "counts.json", json.dumps(report.counts.model_dump(), indent=2))
    return report


def _wholes(plan: Plan, listed: pa.Table) -> dict[str, list[Group]]:
    """The questions about whole documents that are left to ask."""
    stand_in(plan, listed)
    return one_of_each(plan, due(plan, listed))


def _report(
    plan: Plan,
    stream: Stream,
    found: Audit,
    started: datetime,
    seconds: float,
    held_up: dict[str, Bottleneck],
    reckoning: Reckoning | None,
    passed: int,
) -> RunReport:
    tally, stopped = stream.tally, stream.stopped
    counts = Counts(listed=found.counts.total() + len(found.missing), **found.counts)
    known = counts.listed - counts.filtered + passed
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
        redactions=dict(sorted(tally.redactions.items())),
        history=stream.recorder.history(),
        selection=plan.selection,
        models={lane.pool: f"{lane.model.source}@{lane.model.revision}" for lane in plan.lanes},
        versions=versions(),
        files=stream.files,
        stopped=stopped,
        unsettled=found.missing if stopped is None else (),
        # Not rounded: four of a hundred thousand are more than none.
        failed_share=counts.failed / known if known else 0.0,
        allowed_share=plan.job.limits.failed_share,
    )


def _write(plan: Plan, name: str, text: str) -> None:
    uri = join(plan.output, "_runs", plan.run_id, name)
    open_storage(uri, plan.job.storage).publish(uri, text.encode())
