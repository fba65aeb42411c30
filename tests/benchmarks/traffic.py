"""One simulated run: the graph of `pipelines/graph.py`, between a lake and what is written of it."""

from __future__ import annotations

import random
from collections import Counter
from itertools import cycle, islice
from typing import Any

import simpy

from tests.benchmarks.costs import Costs
from tests.benchmarks.lake import Cluster, Lake
from tests.benchmarks.stations import Block, Document, Engine, Station

TASK_DOCUMENTS, ARRIVED = 16, 64
"""`DOCUMENTS_PER_TASK` of `pipelines/graph.py`, and the queue of `Publisher`."""
AHEAD = 2.0
"""Blocks that wait for an engine, over those that the engines hold: Ray Data's own bound
(`downstream_capacity_backpressure_ratio`)."""
AHEAD_FETCHED = 2
"""Documents that are fetched while one is parsed."""
TABLE_BLOCKS = 1
"""`workers.expander.TABLE_BYTES`, in blocks."""
KEYS = 1_000
"""Keys a request of a listing; a chunk of the feed is as long."""
LISTEN_SECONDS, LISTEN_CALLS = 1.0, 2
"""Of each who listens: `workers.infer.LISTEN_SECONDS`, and its two calls of the meter."""
EXPAND_CALLS, INFER_CALLS, LOOK_CALLS = 2, 3, 2
"""Of the meter: per task of expand, per block of infer, and per block when the driver looks around."""
SINK_ROWS, SINK_SECONDS, WRITERS, TICK_SECONDS = 20_000, 60.0, 4, 0.5


class Run:
    """One run over one lake, seeded: what there is one of as a station, what there are many of as processes.

    Args:
        lake: what is in it.
        cluster: what it runs on.
        costs: of the places that there is one of.
        documents: how many.
        seed: of everything that is drawn.
    """

    def __init__(self, lake: Lake, cluster: Cluster, costs: Costs, documents: int, seed: int = 0) -> None:
        self.lake, self.cluster, self.costs, self.documents = lake, cluster, costs, documents
        self.counts: Counter[str] = Counter()
        self.used: dict[str, float] = {}
        """Share of its time that each kind of place was at work, until the last task was taken."""
        self.peak_blocks = 0
        """Blocks in the object store at most."""
        self.env = env = simpy.Environment()
        self._rng = random.Random(f"{seed}/{cluster.engines}")
        self._single = {name: Station(env) for name in ("list", "feed", "driver", "meter", "journal")}
        self._driver, self._meter, self._journal = (
            self._single[name] for name in ("driver", "meter", "journal")
        )
        workers = cluster.cpus * cluster.engines
        self._room = cluster.graph.at_once + cluster.graph.queued
        held = self._room * cluster.engines
        self._expanding, self._blocks_held = 0.0, 0
        self._tasks, self._ready = simpy.Store(env), simpy.Store(env, capacity=2 * workers)
        self._blocks = simpy.Store(env, capacity=round(AHEAD * held))
        self._places, self._ended = simpy.Store(env), simpy.Store(env)
        self._arrived = simpy.Store(env, capacity=ARRIVED + held)
        self._group: list[Block] = []
        self._since = self._looked = 0.0
        self._writers = simpy.Resource(env, WRITERS)
        self._published: list[tuple[float, int]] = []
        self._fed = 0.0
        self._over = env.event()
        self.engines = [
            Engine(env, cluster.pace, cluster.graph.at_once, self._answered) for _ in range(cluster.engines)
        ]
        for engine in islice(cycle(self.engines), held):
            self._places.put((engine, engine.epoch))
        stages = [self._list(), self._schedule(), self._dispatch(), self._complete(), self._publish()]
        stages += [self._flush(), *(self._expand() for _ in range(workers))]
        for engine in self.engines:
            stages += [self._listen(engine), self._lose(engine)]
        for stage in stages:
            env.process(stage)

    def to_the_end(self) -> Run:
        """Until every document is accounted for."""
        self.env.run(until=self._over)
        return self

    def rate(self) -> float:
        """Pages a second while there was work for everybody: from the first tenth that was published to the
        moment when the last task was taken."""
        tenth, done, first, last = self.counts["written pages"] / 10, 0, (0.0, 0), (0.0, 0)
        for at, pages in self._published:
            if at > self._fed:
                break
            done += pages
            last = (at, done)
            first = first if done > tenth else last
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else 0.0

    def _list(self) -> Any:
        """The feed: lists, routes, writes its chunk; the lane's reader cuts it into tasks."""
        for start in range(0, self.documents, KEYS):
            size = min(KEYS, self.documents - start)
            yield self._single["list"].take(size / self.cluster.list_keys_per_second)
            yield self._single["feed"].take(size * self.costs.feed_document)
            self.counts["listed"] += size
            pages = [self.lake.pages(self._rng) for _ in range(size)]
            for at in range(0, size, TASK_DOCUMENTS):
                self._tasks.put(pages[at : at + TASK_DOCUMENTS])

    def _schedule(self) -> Any:
        """Ray Data's loop, where it hands out tasks of expand."""
        left = self.documents
        while left:
            task = yield self._tasks.get()
            yield self._driver.take(self.costs.driver_task)
            yield self._ready.put(task)
            left -= len(task)
        self._fed = now = self.env.now
        self.used = {name: station.used() for name, station in self._single.items()}
        self.used["expand"] = self._expanding / (now * self.cluster.cpus * len(self.engines))
        answers = sum(engine.answers for engine in self.engines)
        self.used["places"] = answers / (now * self.cluster.pace.places * len(self.engines))

    def _expand(self) -> Any:
        """One worker; it fetches the next documents while it parses one. A table ends at 1 MiB or with its
        task."""
        cluster, lake, rng = self.cluster, self.lake, self._rng
        fetch = cluster.get_seconds + lake.document_bytes / cluster.get_bytes_per_second
        while True:
            task = yield self._ready.get()
            yield self._journal.take(self.costs.journal_call)
            yield self.env.timeout(fetch)
            table: list[tuple[Document, int]] = []
            for pages in task:
                fate = rng.random()
                if fate < lake.corrupt + lake.stuck:
                    # Its one row passes the engines untouched: here it is settled at once.
                    yield from self._worked(lake.stuck_seconds if fate < lake.stuck else 0.0, fetch)
                    self._settle("failed")
                    continue
                document = Document(pages)
                self.counts["made pages"] += pages
                each = cluster.expand_seconds * rng.lognormvariate(
                    -(lake.expand_sigma**2) / 2, lake.expand_sigma
                )
                left = pages
                while left:
                    size = min(left, TABLE_BLOCKS * lake.block_pages - len(table))
                    yield from self._worked(size * each, fetch if left == pages else 0.0)
                    table += [(document, lake.tokens(rng)) for _ in range(size)]
                    left -= size
                    if len(table) >= TABLE_BLOCKS * lake.block_pages:
                        yield from self._handed(table)
                        table = []
            yield from self._handed(table)
            self._meter.note(EXPAND_CALLS * self.costs.meter_call)
            self._journal.note(self.costs.journal_call)

    def _worked(self, seconds: float, fetch: float) -> Any:
        yield self.env.timeout(max(seconds, fetch / AHEAD_FETCHED))
        self._expanding += seconds

    def _handed(self, table: list[tuple[Document, int]]) -> Any:
        for at in range(0, len(table), self.lake.block_pages):
            self._held(1)
            yield self._blocks.put(Block(table[at : at + self.lake.block_pages]))

    def _dispatch(self) -> Any:
        """Ray Data's loop, where it gives blocks to engines."""
        while True:
            block = yield self._blocks.get()
            while True:
                engine, epoch = yield self._places.get()
                if epoch == engine.epoch:  # else the place went with its node
                    break
            yield self._driver.take(self.costs.driver_block / 2)
            self.env.process(self._begin(engine, epoch, block))

    def _begin(self, engine: Engine, epoch: int, block: Block) -> Any:
        yield self._journal.take(self.costs.journal_call)
        self._meter.note(self.costs.meter_call)
        if epoch == engine.epoch:
            engine.submit(block)
        else:
            yield self._blocks.put(block)

    def _answered(self, engine: Engine, block: Block) -> None:
        self._journal.note(self.costs.journal_call)
        self._meter.note((INFER_CALLS - 1) * self.costs.meter_call)
        self._ended.put((engine, engine.epoch, block))

    def _complete(self) -> Any:
        """Ray Data's loop, where it notices what has ended and passes it on."""
        while True:
            engine, epoch, block = yield self._ended.get()
            yield self._driver.take(self.costs.driver_block / 2)
            if epoch == engine.epoch:
                self._places.put((engine, epoch))
            self._held(-1)
            yield self._arrived.put(block)

    def _publish(self) -> Any:
        """The driver's main thread: takes what arrives, looks around, has groups written."""
        while True:
            block = yield self._arrived.get()
            if not self._group:
                self._since = self.env.now
            self._group.append(block)
            if self.cluster.graph.looks_by_block or self.env.now - self._looked >= TICK_SECONDS:
                self._looked = self.env.now
                yield self._driver.take(self.costs.driver_look)
                yield self._meter.take(LOOK_CALLS * self.costs.meter_call)
            self._published.append((self.env.now, len(block.pages)))
            if sum(len(one.pages) for one in self._group) >= SINK_ROWS:
                yield from self._write()

    def _flush(self) -> Any:
        """A group is written when it is old, and the last one when nothing else comes."""
        while True:
            yield self.env.timeout(TICK_SECONDS)
            old = self.env.now - self._since >= SINK_SECONDS
            if self._group and (old or not (self._blocks_held or self._arrived.items)):
                yield from self._write()

    def _write(self) -> Any:
        blocks, self._group = self._group, []
        place = self._writers.request()
        yield place
        self.env.process(self._written(blocks, place))

    def _written(self, blocks: list[Block], place: Any) -> Any:
        yield self.env.timeout(self.cluster.put_seconds)
        self._writers.release(place)
        self.counts["files"] += 1
        for block in blocks:
            self.counts["written pages"] += len(block.pages)
            for document, _ in block.pages:
                document.owed -= 1
                if not document.owed:
                    self._settle("ok")

    def _settle(self, outcome: str) -> None:
        self.counts[outcome] += 1
        if self.counts["ok"] + self.counts["failed"] == self.documents:
            self._over.succeed()

    def _held(self, change: int) -> None:
        self._blocks_held += change
        self.peak_blocks = max(self.peak_blocks, self._blocks_held)

    def _listen(self, engine: Engine) -> Any:
        """What an engine's worker asks the meter every second; it hears the answer before it asks again."""
        while True:
            yield self.env.timeout(LISTEN_SECONDS)
            if engine.working:
                askers = len(engine.working) if self.cluster.graph.listens_by_block else 1
                yield self._meter.take(LISTEN_CALLS * askers * self.costs.meter_call)

    def _lose(self, engine: Engine) -> Any:
        """The node of an engine dies now and then; its blocks go to others."""
        cluster = self.cluster
        while cluster.losses_per_hour:
            yield self.env.timeout(self._rng.expovariate(cluster.losses_per_hour / 3_600))
            self.counts["losses"] += 1
            self.env.process(self._again(engine.lose(cluster.back_seconds)))
            yield self.env.timeout(cluster.back_seconds + cluster.pace.start_seconds)
            for _ in range(self._room):
                self._places.put((engine, engine.epoch))

    def _again(self, blocks: list[Block]) -> Any:
        for block in blocks:
            yield self._blocks.put(block)
