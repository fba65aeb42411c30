"""What the places cost that a run has only once: the driver, its actors, the list, the ledger.

`python -m tests.benchmarks.costs` measures them anew, from the real parts, in CPU seconds (which a busy
machine stretches less than it does wall seconds), and prints them as JSON; `MEASURED` is what it printed, and
what `simulate` reckons with unless `--costs` names another file.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from schemas.job import JobSpec


@dataclass(frozen=True)
class Costs:
    """CPU seconds, and bytes.

    Attributes:
        source: where and when they were measured.
        driver_task: of the driver's process, per task of expand (eight documents), its tally included.
        driver_block: the same, per block of parts, from expand through an engine to its group.
        driver_look: of that process's main thread, per block: it takes it and looks around.
        meter_call: of the meter's actor, per call.
        journal_call: of the journal's, per call.
        feed_document: of the feed's actor, per listed document, without the listing itself.
        holdings_bytes: peak of the process that reads the ledger, per record of the output.
        holdings_seconds: of reading it, per record.
        settle_seconds: of the driver after the last answer, per record: audit, sweep, what is to assemble.
        settle_square: of the same, per record and record: each group of 2,000 documents looks at all records.
        assemble_seconds: of a worker, per record, for its document's row.
    """

    source: str
    driver_task: float
    driver_block: float
    driver_look: float
    meter_call: float
    journal_call: float
    feed_document: float
    holdings_bytes: float
    holdings_seconds: float
    settle_seconds: float
    settle_square: float
    assemble_seconds: float


MEASURED = Costs(
    source="2 x Intel Xeon, Python 3.11, load 18, 2026-11-26",
    driver_task=2.3e-3,
    driver_block=8.7e-3,
    driver_look=0.86e-3,
    meter_call=0.50e-3,
    journal_call=0.50e-3,
    feed_document=4.0e-6,
    holdings_bytes=850,
    holdings_seconds=0.41e-6,
    settle_seconds=5.2e-6,
    settle_square=5.6e-12,
    assemble_seconds=4.4e-6,
)


def _job(folder: Path, output: str, engines: int = 1) -> JobSpec:
    from schemas.job import make_job
    from tests.fixtures.runs import GEMMA3

    return make_job(
        {
            "input": str(folder),
            "output": output,
            "tasks": ["ocr"],
            "models": {"vision": str(GEMMA3)},
            # Answers at once: what is measured is what stands around an engine.
            "engine": {"kind": "fault", "replicas": engines},
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


def _driver(folder: Path, count: int, side: int, engines: int) -> tuple[float, int, float]:
    """CPU seconds of the driver's process in a real run over so many pictures, the blocks that came, and the
    seconds of its main thread alone."""
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

    before = time.process_time(), time.thread_time()
    with patch.object(Publisher, "_take", counted):
        report = run(_job(source, str(folder / f"out-{side}-{count}"), engines), Console(quiet=True))
    if report.counts.ok != count:
        raise RuntimeError(f"of {count} pictures {report.counts.ok} were read")
    return time.process_time() - before[0], blocks, time.thread_time() - before[1]


def driver(folder: Path, scale: float, engines: int = 1) -> dict[str, float]:
    """What a task and a block cost the driver: differences of runs, so that a run's own start is in none."""
    few, many = round(400 * scale), round(2_000 * scale)
    _driver(folder, 8, 64, engines)  # what is imported once
    small = [_driver(folder, count, 64, engines) for count in (few, many)]
    large = [_driver(folder, count, 896, engines) for count in (few // 4, many // 4)]
    # (tasks, blocks, seconds) of each difference: two equations.
    tasks = [(many - few) / 8, (many // 4 - few // 4) / 8]
    blocks = [pair[1][1] - pair[0][1] for pair in (small, large)]
    main = [pair[1][2] - pair[0][2] for pair in (small, large)]
    rest = [pair[1][0] - pair[0][0] - own for pair, own in zip((small, large), main, strict=True)]
    print({"tasks": tasks, "blocks": blocks, "main": main, "rest": rest}, file=sys.stderr)
    block = (tasks[0] * rest[1] - tasks[1] * rest[0]) / (tasks[0] * blocks[1] - tasks[1] * blocks[0])
    return {
        "driver_task": (rest[0] - block * blocks[0]) / tasks[0],
        "driver_block": block,
        "driver_look": sum(main) / sum(blocks),
    }


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


def feed(folder: Path, documents: int = 40_000) -> dict[str, float]:
    """CPU seconds of the feed per document, over a list that costs nothing to get."""
    import asyncio
    from datetime import UTC, datetime

    from pipelines.feed import Feed
    from pipelines.plan import make_plan
    from pipelines.sources import ROWS
    from pipelines.sources.listing import documents_table, in_chunks
    from workers.storage import ObjectInfo

    infos = [
        ObjectInfo(f"s3://lake/inbox/{n:09d}.pdf", f"{n:032x}", 100_000, datetime(2026, 1, 1, tzinfo=UTC))
        for n in range(documents)
    ]

    class Listed:
        attributes = None

        def documents(self) -> Iterator[pa.Table]:
            yield from map(documents_table, in_chunks(infos, ROWS))

    plan = make_plan(_job(folder, str(folder / "fed")), None, 0.0)
    before = time.process_time()
    fed = Feed(plan, Listed())  # type: ignore[arg-type]
    asyncio.run(fed.ready(documents // ROWS))
    fed.check()
    return {"feed_document": (time.process_time() - before) / documents}


def _settled(folder: Path, scale: float) -> tuple[int, float, float, float]:
    """Records, then CPU seconds: of reading them, of the driver's settling, of assembling one group."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipelines.assemble import _due, _groups, _rows_there, write_group
    from pipelines.audit import audit
    from pipelines.holdings import read_holdings
    from pipelines.sweep import sweep
    from tests.benchmarks.resuming import _output, _plan

    _output(folder, scale)
    plan = _plan(folder)
    began = time.process_time()
    holdings = read_holdings(plan)
    read = time.process_time()
    names = holdings.answers.group_by("document_id", use_threads=False).aggregate([("version", "min")])
    listed = pa.table(
        {
            "document_id": names["document_id"],
            "version": names["version_min"],
            "uri": names["document_id"],
            "skipped": pa.repeat(pa.scalar(False), len(names)),
        }
    )
    listing = time.process_time()
    found = audit(plan, holdings, listed)
    sweep(plan, holdings, listed, found.settled["document_id"].combine_chunks())
    due = _due(holdings, listed, found.settled, _rows_there(plan)[0], plan)
    groups = list(_groups(holdings, due))
    settled = time.process_time()
    if found.missing or found.counts["ok"] != len(listed):
        raise RuntimeError(f"the audit of a whole output found {found.counts}")
    write_group(plan, *groups[0])
    ended = time.process_time()
    records = len(holdings.answers)
    share = len(groups[0][0]) / len(listed)
    del pc
    return records, read - began, settled - listing, (ended - settled) / (records * share)


def settle(folder: Path, scale: float) -> dict[str, float]:
    """The ledger and what is done at a run's end, at two sizes: a share that grows with the records, and one
    with their square."""
    import subprocess

    ours = f"import sys; from tests.benchmarks.costs import _peak; _peak(sys.argv[1], {scale})"
    done = subprocess.run([sys.executable, "-c", ours, str(folder / "peak")], capture_output=True, text=True)
    bytes_each = float(done.stdout.splitlines()[-1])
    one, two = (_settled(folder / f"settle-{part}", scale * part) for part in (0.5, 1.0))
    # seconds = a n + b n^2, at two n.
    square = (two[2] / two[0] - one[2] / one[0]) / (two[0] - one[0])
    return {
        "holdings_bytes": bytes_each,
        "holdings_seconds": two[1] / two[0],
        "settle_seconds": two[2] / two[0] - square * two[0],
        "settle_square": square,
        "assemble_seconds": two[3],
    }


def _peak(folder: str, scale: float) -> None:
    """Print the bytes a record by which reading the ledger raises this process's peak, at two sizes."""
    import os
    import resource

    from pipelines.ledger import read_ledger
    from tests.benchmarks.resuming import _output, _plan

    peaks, records = [], []
    for part in (0.25, 1.0):
        there = Path(folder) / str(part)
        if not (child := os.fork()):
            _output(there, scale * part)
            os._exit(0)
        os.waitpid(child, 0)
        read_ledger(_plan(there))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        records.append(max(1, round(50 * scale * part)) * 20_000)
    print((peaks[1] - peaks[0]) / (records[1] - records[0]))


def measure(scale: float) -> Costs:
    """All of them; a minute or two at scale 1."""
    from pipelines.cluster import cluster

    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="gemstream-costs-") as name:
        folder = Path(name)
        steps: list[Callable[[], dict[str, float]]] = [
            lambda: feed(folder),
            lambda: settle(folder, scale),
            lambda: driver(folder, scale),
            actors,
        ]
        with cluster():
            for step in steps:
                found |= step()
                print(found, file=sys.stderr)
    from tests.benchmarks.__main__ import machine

    return Costs(source=f"{machine()}, {time.strftime('%Y-%m-%d')}", **found)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)), indent=1))
