"""outcomes -> part files: groups what leaves the engines by rows and by time, and has it written.

The driver holds references only. A group is written by one task, whose file names derive from its
rows: written twice, it replaces itself.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from workers.sinks.parquet import ParquetSink
from workers.tally import summarise, totals

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pipelines.plan import Plan
    from workers.sinks import Receipt

WRITERS = 4
"""Groups being written at once; beyond it the pump waits, and Ray Data holds back the engines."""
RETRIES = 5
"""Of a group whose worker was lost. A store that is away is waited for by the storage itself, and a disk
that is full is full at every try; Ray's own retries of errors would print each with its trace."""
LAST_WRITE_SECONDS = 60.0
"""For the last group of an interrupted run; Kubernetes gives a pod 30 s by default, a laptop waits."""
END_SECONDS = 10.0
"""For a dataset that is left to end: one round of its scheduling, some milliseconds on an idle machine."""


@dataclass(frozen=True)
class Published:
    """One written group: its files, and what it settles."""

    receipts: tuple[Receipt, ...]
    documents: pa.Table
    totals: dict[str, Any]


@ray.remote(num_cpus=0.1, max_retries=RETRIES)
def write_group(plan: Plan, *blocks: pa.Table) -> Published:
    """Write one group of outcomes as part files."""
    outcomes = pa.concat_tables(blocks)
    sink = ParquetSink(
        output=plan.output,
        storage_options=plan.job.storage,
        data_types=plan.data_types,
        attributes=plan.attributes,
        run_id=plan.run_id,
        metadata=plan.metadata,
    )
    return Published(tuple(sink.write(outcomes)), summarise(outcomes), totals(outcomes))


class Publisher:
    """Pulls a dataset and yields what has been published of it, as it is.

    Args:
        plan: the sink and when to publish.
        dataset: started by the first pull.
        check: raises if this run may not write any more; asked before each group.
    """

    def __init__(self, plan: Plan, dataset: ray.data.Dataset, check: Callable[[], None]) -> None:
        self._plan = plan
        self._check = check
        self._dataset = dataset
        self._arrived: queue.Queue[Any] = queue.Queue(maxsize=64)
        self._group: list[Any] = []
        self._rows = 0
        self._since = 0.0
        self._writing: list[Any] = []
        self._stop = threading.Event()
        self._pumping = threading.Thread(target=self._pump, name="pump", daemon=True)

    def results(self, tick: float) -> Iterator[Published | None]:
        """Published groups; None at least every `tick` seconds, so that the caller can look around.

        Raises:
            Exception: what ended the dataset, after everything that had arrived is published.
        """
        self._pumping.start()
        try:
            fault = yield from self._pulled(tick)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            # Interrupted, by SIGTERM too, which Ray turns into SystemExit: what is answered is paid for,
            # so it is written before the run ends.
            self.stop()
            self._write()
            if self._writing:
                ray.wait(self._writing, num_returns=len(self._writing), timeout=LAST_WRITE_SECONDS)
            raise
        self._write()
        while self._writing:
            yield from self._finished(wait=True)
        if fault is not None:
            raise fault

    def stop(self) -> None:
        """Take nothing more from the dataset; what has arrived is still published."""
        self._stop.set()

    def close(self) -> None:
        """End the dataset, if it has not ended. To be called before Ray is.

        A dataset that was left has a thread that goes on scheduling; when it asks a Ray that has been shut
        down, Ray ends the process on the spot: exit code 1, without a word, whatever the run came to.
        """
        self.stop()
        # Nothing public ends a dataset that another thread waits for; left alone, its last reference does.
        name = f"StreamingExecutor-{self._dataset.get_dataset_id()}"
        executors: list[Any] = [thread for thread in threading.enumerate() if thread.name == name]
        for executor in executors:
            executor.shutdown(force=False)
            executor.join(END_SECONDS)
        deadline = time.monotonic() + END_SECONDS
        while self._pumping.is_alive() and time.monotonic() < deadline:
            with suppress(queue.Empty):  # it may wait for room
                self._arrived.get(timeout=0.05)

    def _pulled(self, tick: float) -> Generator[Published | None, None, BaseException | None]:
        """Take what arrives until the dataset ends; returns what ended it, if anything did."""
        while True:
            try:
                item = self._arrived.get(timeout=tick)
            except queue.Empty:
                if self._stop.is_set():
                    return None  # the pump may wait for an answer that takes longer than there is time
                item = ()
            if item is None or isinstance(item, BaseException):
                return item
            self._take(item)
            if self._due():
                self._write()
            yield from self._finished(wait=len(self._writing) > WRITERS)
            yield None

    def _pump(self) -> None:
        end: BaseException | None = None
        try:
            for bundle in self._dataset.iter_internal_ref_bundles():
                # A stage that met nothing leaves a block without rows, and without columns.
                blocks = [(entry.ref, entry.metadata.num_rows or 0) for entry in bundle.blocks]
                self._arrived.put([(ref, rows) for ref, rows in blocks if rows])
                if self._stop.is_set():
                    break
        except Exception as error:  # noqa: BLE001 - handed to the reader, which raises it
            end = error
        self._arrived.put(end)

    def _take(self, blocks: list[tuple[Any, int]]) -> None:
        if blocks and not self._group:
            self._since = time.monotonic()
        self._group += [ref for ref, _ in blocks]
        self._rows += sum(rows for _, rows in blocks)

    def _due(self) -> bool:
        if not self._group:
            return False
        sink = self._plan.job.sink
        return self._rows >= sink.rows or time.monotonic() - self._since >= sink.seconds

    def _write(self) -> None:
        if self._group:
            self._check()
            self._writing.append(write_group.remote(self._plan, *self._group))
            self._group, self._rows = [], 0

    def _finished(self, *, wait: bool) -> Iterator[Published]:
        if not self._writing:
            return
        done, self._writing = ray.wait(
            self._writing, num_returns=1 if wait else len(self._writing), timeout=None if wait else 0
        )
        yield from ray.get(done)
