"""What is owed, of an output of a million records: our ledger, against reading its key columns once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.pair import Pair, timed

if TYPE_CHECKING:
    from pipelines.plan import Plan

RECORDS = 1_000_000
ROWS = 20_000
"""A part file, as a run publishes it."""
PAGES = 4
"""A document."""


def _plan(folder: Path) -> Plan:
    from pipelines.plan import make_plan
    from schemas.job import make_job

    job = {
        "input": "/in",
        "output": str(folder),
        "tasks": ["ocr"],
        "models": {"vision": "google/gemma-3-4b-it"},
    }
    return make_plan(make_job(job), None, 0.0)


def _output(folder: Path, scale: float) -> None:
    """Answers to one task about documents of four pages, 200 characters each."""
    import pyarrow as pa

    from schemas.ids import digest
    from schemas.rows import records_schema
    from workers.sinks.parquet import encode, footer

    plan = _plan(folder)
    (fingerprint,) = plan.fingerprints["ocr"]
    schema = records_schema(None, None).with_metadata(footer(plan.metadata))
    target = folder / "records" / "task=ocr"
    target.mkdir(parents=True)
    for file in range(max(1, round(RECORDS * scale / ROWS))):
        pages = range(file * ROWS, (file + 1) * ROWS)
        # By id, as the sink sorts them.
        ids, numbers = zip(*sorted((digest("bench", str(n // PAGES)), n) for n in pages), strict=True)
        columns = {
            "document_id": pa.array(ids),
            "uri": pa.array([f"s3://lake/inbox/{number // PAGES:09d}.pdf" for number in numbers]),
            "version": pa.array([f"{number // PAGES:032x}" for number in numbers]),
            "part_index": pa.array([number % PAGES for number in numbers], pa.int32()),
            "parts_total": pa.array([PAGES] * ROWS, pa.int32()),
            "part_kind": pa.array(["page"] * ROWS),
            "fingerprint": pa.array([fingerprint] * ROWS),
            "text": pa.array([f"{name} says nothing. " * 4 for name in ids], pa.large_string()),
            "answered_at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * ROWS, pa.timestamp("us", tz="UTC")),
        }
        arrays = [columns.get(field.name, pa.nulls(ROWS, field.type)) for field in schema]
        rows = pa.Table.from_arrays(
            [array.cast(f.type) for array, f in zip(arrays, schema, strict=True)], schema=schema
        )
        (target / f"part-{file:032d}.parquet").write_bytes(encode(rows))


def _ledger(folder: Path) -> None:
    import pyarrow.parquet  # noqa: F401 - what it needs is imported before its time counts, as for the other side

    from pipelines.ledger import read_ledger
    from workers.storage import local  # noqa: F401

    plan = _plan(folder)

    def work() -> int:
        return len(read_ledger(plan).complete) * PAGES

    timed(work)


def _columns(folder: Path) -> None:
    import pyarrow.parquet as pq

    from pipelines.holdings import ANSWERS

    named = [name for name in ANSWERS.names if name not in ("file", "task", "row", "name", "current", "anew")]

    def work() -> int:
        return sum(
            len(pq.read_table(path, columns=named, partitioning=None))
            for path in sorted(folder.rglob("*.parquet"))
        )

    timed(work)


PAIRS = {
    pair.name: pair
    for pair in (
        Pair(
            "resume",
            "what is owed of an output of 1,000,000 records in 50 local part files, against reading the same "
            "columns of them with pyarrow; the target is 1.5 times as long",
            "record",
            1 / 1.5,
            _output,
            _ledger,
            _columns,
            often=3,
        ),
    )
}
