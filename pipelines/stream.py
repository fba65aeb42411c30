"""The outcomes of a run as they come: published, counted, shown, and stopped where it must be."""

from __future__ import annotations

import math
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pipelines.history import Recorder
from pipelines.interrupt import Interrupt, interrupts
from pipelines.meter import over_lanes
from pipelines.progress import Progress
from pipelines.tally import Tally
from pipelines.verdict import Timeline, Times
from schemas.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ray
    from ray.actor import ActorHandle
    from rich.console import Console

    from pipelines.feed import Listed
    from pipelines.lease import Lease
    from pipelines.metrics import RunMetrics
    from pipelines.plan import Plan
    from pipelines.publish import Published, Publisher
    from pipelines.waiting import Waiting

TICK_SECONDS = 0.5
JUDGED = 100
"""Documents before a run may stop for its failed share: the first ten may all be from one bad folder."""


class Stream:
    """Outcomes as they are published, pass after pass, and what they have come to.

    Args:
        plan: the run.
        console: where it says what it does.
        lease: of the output, looked at all the while.
        feed: the actor that lists.
        meter: the actor that counts.
        waiting: for room for engines.
        metrics: what is told to Prometheus.
    """

    def __init__(
        self,
        plan: Plan,
        console: Console,
        lease: Lease,
        feed: ActorHandle[Any],
        meter: ActorHandle[Any],
        waiting: Waiting,
        metrics: RunMetrics,
    ) -> None:
        self._plan, self._console, self._lease = plan, console, lease
        self._feed, self._meter, self._waiting, self._metrics = feed, meter, waiting, metrics
        self.progress = Progress(console)
        self.timelines = {lane.pool: Timeline(lane.pool) for lane in plan.lanes}
        self.recorder = Recorder()
        self._began = time.monotonic()
        self._looked = -math.inf
        self.tally = Tally()
        self.files = self.written = self.record_bytes = 0
        self.stopped: str | None = None

    def run(self, graph: ray.data.Dataset, *, whole: bool = False) -> None:
        """One pass, to its end.

        Args:
            graph: what yields the outcomes.
            whole: the outcomes are about whole documents, which are counted already.

        Raises:
            ClusterUnavailable: no node had room for an engine in time.
            Interrupted: a signal ended it; what was answered is written.
        """
        import ray

        from pipelines.publish import Publisher

        console, seconds = self._console, self._plan.job.limits.drain_seconds
        self._waiting.begin()
        with (
            interrupts() as interrupt,
            self.progress.shown(),
            closing(Publisher(self._plan, graph, self._lease.check)) as publisher,
        ):
            drain = Drain(interrupt, publisher, seconds)
            for group in publisher.results(TICK_SECONDS):
                self._lease.check()
                if group is not None:
                    self._count(group, whole=whole)
                if drain.begins():
                    console.print(f"{drain.signal}: no new work, {seconds:g} s for what is in flight")
                    ray.get([self._feed.stop.remote(), self._meter.drain.remote()])
                if time.monotonic() - self._looked >= TICK_SECONDS and self._look_around():
                    publisher.stop()
                    ray.get(self._feed.stop.remote())
            self._look_around()
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
        """Show how far it is; whether too much has failed for it to go on. Not for each block that arrives:
        it takes the driver 0.9 ms, beside 4.9 for all else that a block costs there."""
        self._looked = time.monotonic()
        listed, counts, times = self.look()
        seconds, stages = time.monotonic() - self._began, over_lanes(counts)
        self._waiting.look(counts)
        for timeline in self.timelines.values():
            timeline.add(seconds, times)
        self.recorder.add(seconds, stages, listed.documents, self.written)
        share = self.tally.failed_share(listed.earlier)
        if self.stopped is None and self.tally.done >= JUDGED and share > self._plan.job.limits.failed_share:
            self.stopped = f"{share:.0%} of the documents failed (limits.failed_share)"
        self.progress.update(
            stages,
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
