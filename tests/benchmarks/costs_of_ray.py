"""Measures what the driver and its actors cost, on a Ray that is connected: for `tests.benchmarks.costs`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import pyarrow as pa

    from schemas.job import JobSpec

GRAPH_BLOCK_BYTES = 1_100_000
"""Of a block: with less than 1 MiB two of them would become one."""


def fault_job(folder: Path, output: str) -> JobSpec:
    from schemas.job import make_job
    from tests.fixtures.runs import GEMMA3

    return make_job(
        {
            "input": str(folder),
            "output": output,
            "tasks": ["ocr"],
            "models": {"vision": str(GEMMA3)},
            # Answers at once: what is measured is what stands around an engine.
            "engine": {"kind": "fault"},
            "expand": {"image_size": 896, "workers": 2},
        }
    )


def _pictures(folder: Path, count: int, side: int) -> None:
    """JPEGs of noise; 64 pixels a side are a kilobyte, 896 most of a block."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    picture = Image.fromarray(np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8))
    for number in range(count):
        picture.save(folder / f"{number:06d}.jpg", quality=90, comment=str(number).encode())


def _driver(folder: Path, count: int, side: int) -> tuple[int, float]:
    """The blocks that came in a real run over so many pictures, and CPU seconds of its main thread."""
    from unittest.mock import patch

    from rich.console import Console

    from pipelines.publish import Publisher
    from pipelines.runner import run

    source = folder / f"{side}-{count}"
    _pictures(source, count, side)
    blocks = 0
    taken = Publisher._take

    def counted(self: Publisher, entries: list[tuple[Any, int]]) -> None:
        nonlocal blocks
        blocks += len(entries)
        taken(self, entries)

    before = time.thread_time()
    with patch.object(Publisher, "_take", counted):
        report = run(fault_job(source, str(folder / f"out-{side}-{count}")), Console(quiet=True))
    if report.counts.ok != count:
        raise RuntimeError(f"of {count} pictures {report.counts.ok} were read")
    return blocks, time.thread_time() - before


def look(folder: Path, scale: float) -> dict[str, float]:
    """What a block costs the driver's main thread, in a real run: a difference of two, so that no start is in
    it."""
    few, many = round(100 * scale), round(800 * scale)
    _driver(folder, 8, 64)  # what is imported once
    one, two = (_driver(folder, count, 896) for count in (few, many))
    return {"driver_look": (two[1] - one[1]) / (two[0] - one[0])}


class Pass:
    """Stands where expand does: a table in, so many blocks out, of no time of its own."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks

    def __call__(self, documents: pa.Table) -> Iterator[pa.Table]:
        import pyarrow as pa

        for _ in range(self._blocks):
            yield pa.table({"content": pa.array([bytes(GRAPH_BLOCK_BYTES)], pa.large_binary())})


class PassOn:
    """Stands where infer does: an actor that takes several blocks at once, and answers at once."""

    async def __call__(self, parts: pa.Table) -> AsyncIterator[pa.Table]:
        yield parts.select([]).append_column("row", [list(range(len(parts)))])


def _scheduled(tasks: int, blocks: int, engines: int) -> float:
    """CPU seconds of this process for Ray Data's part in a graph of our shape, whose stages take no time: the
    driver alone holds it up."""
    import pyarrow as pa
    from ray.data import ActorPoolStrategy

    from pipelines.graph import DOCUMENTS_PER_TASK, FEWEST_BLOCKS, Reads, configure

    configure()
    rows = pa.table({"document_id": [f"{number:032x}" for number in range(DOCUMENTS_PER_TASK * tasks)]})
    graph = (
        Reads("Feed", [lambda: iter([rows])], rows.schema)
        .dataset()
        .repartition(target_num_rows_per_block=DOCUMENTS_PER_TASK)
        .map_batches(
            Pass,
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ActorPoolStrategy(min_size=1, max_size=2),
            num_cpus=1,
            fn_constructor_kwargs={"blocks": blocks},
        )
        .map_batches(
            PassOn,
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ActorPoolStrategy(size=engines, max_tasks_in_flight_per_actor=2 * FEWEST_BLOCKS),
            max_concurrency=FEWEST_BLOCKS,
            num_cpus=1,
        )
    )
    before = time.process_time()
    came = sum(len(bundle.blocks) for bundle in graph.iter_internal_ref_bundles())
    if came < tasks * blocks:
        raise RuntimeError(f"of {tasks * blocks} blocks {came} came")
    return time.process_time() - before


def driver(scale: float, engines: int = 2) -> dict[str, float]:
    """What a task and a block cost Ray Data's own thread: tasks of one block each, and of eight."""
    few, many = round(50 * scale), round(450 * scale)
    _scheduled(8, 1, engines)
    single, eight = (
        (_scheduled(many, blocks, engines) - _scheduled(few, blocks, engines)) / (many - few)
        for blocks in (1, 8)
    )
    block = (eight - single) / 7
    return {"driver_task": single - block, "driver_block": block}


def _actor_seconds(name: str) -> float:
    import psutil

    found = [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0].startswith(name)]
    times = [process.cpu_times() for process in found]
    return sum(spent.user + spent.system for spent in times)


def actors(calls: int = 10_000) -> dict[str, float]:
    """CPU seconds of the meter's and the journal's process per call, as the stages call them."""
    import ray

    from pipelines.journal import JournalActor, JournalHandle
    from pipelines.meter import MeterActor, MeterHandle

    meter = ray.remote(num_cpus=0)(MeterActor).remote()
    journal = ray.remote(num_cpus=0)(JournalActor).remote()
    counting, noting = MeterHandle(meter), JournalHandle(journal)
    counting.draining(), noting.begin("warm")
    before = _actor_seconds("ray::MeterActor"), _actor_seconds("ray::JournalActor")
    for _ in range(calls // 2):
        counting.spent("infer", {"full": 0.5, "partly": 0.5, "requests": 4.0, "open": 8.0})
        counting.draining()
    for number in range(calls // 2):
        noting.begin(str(number))
        noting.end(str(number))
    counting.draining(), noting.begin("last")
    after = _actor_seconds("ray::MeterActor"), _actor_seconds("ray::JournalActor")
    spent = [end - begin for begin, end in zip(before, after, strict=True)]
    return {"meter_call": spent[0] / calls, "journal_call": spent[1] / calls}
