"""One run of one job: plan, stream, publish, count, report."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import yaml
from rich.console import Console

from pipelines.cluster import cluster, unwrapped
from pipelines.occupancy import refuse_foreign_output
from pipelines.plan import Plan, make_plan
from pipelines.progress import Progress
from pipelines.report import Counts, FaultCounts, RunReport, TaskCounts
from pipelines.sources import open_source
from pipelines.tally import Tally
from workers.storage.factory import join, open_storage

if TYPE_CHECKING:
    from pipelines.feed import Listed
    from pipelines.sources import Source
    from schemas.job import JobSpec

TICK_SECONDS = 0.5
JUDGED = 100
"""Documents before a run may stop for its failed share: the first ten may all be from one bad folder."""


def run(job: JobSpec, console: Console | None = None) -> RunReport:
    """Run a job to its end.

    Args:
        job: what to do.
        console: where progress goes; standard error if not given.

    Returns:
        The report, which is also written to `_runs/<run_id>/` of the output.

    Raises:
        JobError: the job cannot be run as it is; nothing was started.
        GemstreamError: the source, the output or the engines failed; what was published stays, and the same
            command goes on from there.
    """
    console = console or Console(stderr=True)
    source = source_of(job)
    # Everything that can be refused is refused before Ray starts, which takes seconds.
    refuse_foreign_output(make_plan(job, source.attributes, job.engine.gpus or 0.0))
    with cluster():
        from ray.exceptions import RayError

        from pipelines.graph import gpus_per_engine

        plan = make_plan(job, source.attributes, gpus_per_engine(job.engine.gpus))
        try:
            return _stream(plan, source, console)
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


def _stream(plan: Plan, source: Source, console: Console) -> RunReport:
    import ray

    from pipelines.feed import Feed
    from pipelines.graph import build, size
    from pipelines.meter import MeterActor, MeterHandle
    from pipelines.publish import Publisher

    started, began = datetime.now(UTC), time.monotonic()
    _write(plan, "job.yaml", yaml.safe_dump(plan.job.public(), sort_keys=False))
    feed = ray.remote(num_cpus=0, max_concurrency=8)(Feed).remote(plan, source)
    meter = ray.remote(num_cpus=0)(MeterActor).remote()
    publisher = Publisher(plan, build(plan, feed, MeterHandle(meter), size(plan)))
    tally, progress = Tally(), Progress(console)
    files, written, stopped = 0, 0, None
    with progress.shown():
        for group in publisher.results(TICK_SECONDS):
            if group is not None:
                tally.add(group.documents, group.totals)
                files += len(group.receipts)
                written += sum(receipt.rows for receipt in group.receipts)
            if stopped is None and tally.done >= JUDGED and tally.failed_share > plan.job.limits.failed_share:
                stopped = f"{tally.failed_share:.0%} of {tally.done} documents failed (limits.failed_share)"
                publisher.stop()
            listed: Listed
            listed, counts = ray.get([feed.progress.remote(), meter.read.remote()])
            progress.update(
                counts, listed=listed.documents, skipped=listed.skipped, ended=listed.ended, written=written
            )
    ray.get(feed.check.remote())
    listed = ray.get(feed.progress.remote())
    report = _report(plan, tally, listed, started, time.monotonic() - began, files, stopped)
    _write(plan, "report.json", report.model_dump_json(indent=2))
    # Last: a run with counts is a run that ended.
    _write(plan, "counts.json", json.dumps(report.counts.model_dump(), indent=2))
    return report


def _report(
    plan: Plan,
    tally: Tally,
    listed: Listed,
    started: datetime,
    seconds: float,
    files: int,
    stopped: str | None,
) -> RunReport:
    counts = Counts(listed=listed.documents, skipped=listed.skipped, **tally.counts)
    unsettled = tally.unsettled()
    if stopped is None and counts.unaccounted > len(unsettled):
        unsettled = _missing(plan)
    return RunReport(
        run_id=plan.run_id,
        output=plan.output,
        started=started,
        seconds=round(seconds, 3),
        counts=counts,
        media=dict(tally.media),
        tasks={
            name: TaskCounts(
                answers=task["answers"],
                prompt_tokens=task["prompt_tokens"],
                output_tokens=task["output_tokens"],
                seconds=round(tally.seconds[name], 3),
            )
            for name, task in tally.tasks.items()
        },
        faults=tuple(
            FaultCounts(status=status, stage=stage, category=category, rows=rows)
            for (status, stage, category), rows in tally.faults.items()
        ),
        files=files,
        stopped=stopped,
        unsettled=tuple(unsettled),
        failed_share=round(tally.failed_share, 4),
        allowed_share=plan.job.limits.failed_share,
    )


def _missing(plan: Plan) -> list[str]:
    """Documents of the run's list that its files say nothing of: read only when the counts disagree."""
    from workers.sinks.reading import read_columns

    heard: Counter[str] = Counter()
    folders = [f"records/task={task.name}" for task in plan.job.tasks]
    for folder in (*folders, "errors", f"_runs/{plan.run_id}/filtered"):
        for table in read_columns(plan.output, plan.job.storage, folder, ["uri"]):
            heard.update(table["uri"].to_pylist())
    storage = open_storage(plan.output, plan.job.storage)
    missing: list[str] = []
    for info in storage.list(join(plan.output, "_runs", plan.run_id, "listed")):
        import pyarrow.parquet as pq

        table = pq.read_table(io.BytesIO(storage.read(info.uri)), columns=["uri", "skipped"])
        missing += [row["uri"] for row in table.to_pylist() if not row["skipped"] and not heard[row["uri"]]]
    return sorted(missing)


def _write(plan: Plan, name: str, text: str) -> None:
    uri = join(plan.output, "_runs", plan.run_id, name)
    open_storage(uri, plan.job.storage).publish(uri, text.encode())
