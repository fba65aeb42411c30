"""Measures what listing, the ledger and the end of a run cost: for `tests.benchmarks.costs`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.costs_of_ray import fault_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from pipelines.holdings import Holdings


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

    plan = make_plan(fault_job(folder, str(folder / "fed")), None, 0.0)
    before = time.process_time()
    fed = Feed(plan, Listed())  # type: ignore[arg-type]
    asyncio.run(fed.ready(documents // ROWS))
    fed.check()
    return {"feed_document": (time.process_time() - before) / documents}


def _listed(holdings: Holdings) -> pa.Table:
    """The list of a run over the documents that the output has."""
    import pyarrow as pa

    documents = holdings.answers.group_by(["document_id", "version"], use_threads=False).aggregate([])
    listed = documents.append_column("uri", documents["document_id"])
    return listed.append_column("skipped", pa.repeat(pa.scalar(False), len(listed)))


def _settled(folder: Path, scale: float) -> tuple[int, float, float, float]:
    """Records, then CPU seconds: of reading them, of the driver's settling, and of a worker for a record's
    share of its document's row. Runs on the connected Ray."""
    from pipelines.assemble import GROUP, assemble, write_group
    from pipelines.audit import audit
    from pipelines.holdings import names_of, read_holdings
    from pipelines.sweep import sweep
    from tests.benchmarks.resuming import PAGES, _output, _plan

    _output(folder, scale)
    plan = _plan(folder)
    began = time.process_time()
    holdings = read_holdings(plan)
    read = time.process_time()
    listed = _listed(holdings)
    listing = time.process_time()
    found = audit(plan, holdings, listed)
    sweep(plan, holdings, listed, found.settled["document_id"].combine_chunks())
    assemble(plan, holdings, listed, found.settled)
    settled = time.process_time()
    if found.missing or found.counts["ok"] != len(listed):
        raise RuntimeError(f"the audit of a whole output found {found.counts}")
    group = listed.slice(0, GROUP)
    assembling = time.process_time()
    write_group(plan, names_of(group).combine_chunks(), {"ocr": [holdings.files[0].uri]})
    each = (time.process_time() - assembling) / (len(group) * PAGES)
    return len(holdings.answers), read - began, settled - listing, each


def settle(folder: Path, scale: float) -> dict[str, float]:
    """The ledger, and what is done at a run's end."""
    records, read, settled, assembled = _settled(folder / "settled", scale)
    return {
        **peaks(folder, scale),
        "settle_read_seconds": read / records,
        "settle_seconds": settled / records,
        "assemble_seconds": assembled,
    }


def peaks(folder: Path, scale: float) -> dict[str, float]:
    """Bytes a record by which a process's peak rises, from a quarter of the records to all of them."""
    found = {}
    for what in ("ledger", "settle"):
        ours = f"from tests.benchmarks.costs_of_files import peak; peak({str(folder)!r}, {scale}, {what!r})"
        done = subprocess.run([sys.executable, "-c", ours], capture_output=True, text=True, check=True)
        found[f"{what}_bytes"] = float(done.stdout.splitlines()[-1])
    return found


def peak(folder: str, scale: float, what: str) -> None:
    """Print what `peaks` wants of one of the two, in a process that has done nothing else."""
    import os
    import resource

    from pipelines.audit import audit
    from pipelines.holdings import read_holdings
    from pipelines.ledger import read_ledger
    from pipelines.sweep import sweep
    from tests.benchmarks.resuming import _output, _plan

    kept, peaks, records = [], [], []
    for part in (0.25, 1.0):
        there = Path(folder) / what / str(part)
        if not (child := os.fork()):
            _output(there, scale * part)
            os._exit(0)
        os.waitpid(child, 0)
        plan = _plan(there)
        if what == "ledger":
            kept = [read_ledger(plan)]
        else:
            holdings = read_holdings(plan)
            listed = _listed(holdings)
            found = audit(plan, holdings, listed)
            sweep(plan, holdings, listed, found.settled["document_id"].combine_chunks())
            kept = [holdings, found]
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        records.append(max(1, round(50 * scale * part)) * 20_000)
        kept.clear()
    print((peaks[1] - peaks[0]) / (records[1] - records[0]))
