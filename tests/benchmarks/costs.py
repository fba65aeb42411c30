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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Costs:
    """CPU seconds, and bytes.

    Attributes:
        source: where and when they were measured.
        driver_task: of the driver's process, per task of expand (sixteen documents): Ray Data's scheduling.
        driver_block: the same, per block of parts, out of expand, into an engine and out of it.
        driver_look: of that process's main thread, per block: it takes it and looks around.
        meter_call: of the meter's actor, per call.
        journal_call: of the journal's, per call.
        feed_document: of the feed's actor, per listed document, without the listing itself.
        ledger_bytes: peak of the process that finds out what is owed, per record of the output.
        settle_bytes: peak of the driver at a run's end, per record of the output.
        settle_read_seconds: of reading what the output holds then, per record.
        settle_seconds: of the driver after the last answer, per record: audit, sweep, what is to assemble.
        assemble_seconds: of a worker, per record, for its document's row.
    """

    source: str
    driver_task: float
    driver_block: float
    driver_look: float
    meter_call: float
    journal_call: float
    feed_document: float
    ledger_bytes: float
    settle_bytes: float
    settle_read_seconds: float
    settle_seconds: float
    assemble_seconds: float


MEASURED = Costs(
    source="2 x Intel Xeon, Python 3.11, load 18, 2026-11-26",
    driver_task=2.0e-3,
    driver_block=4.9e-3,
    driver_look=0.86e-3,
    meter_call=0.50e-3,
    journal_call=0.50e-3,
    feed_document=4.0e-6,
    ledger_bytes=102,
    settle_bytes=1_952,
    settle_read_seconds=0.41e-6,
    settle_seconds=4.5e-6,
    assemble_seconds=4.4e-6,
)


def measure(scale: float) -> Costs:
    """All of them; a minute or two at scale 1."""
    from pipelines.cluster import cluster
    from tests.benchmarks.__main__ import machine
    from tests.benchmarks.costs_of_files import feed, settle
    from tests.benchmarks.costs_of_ray import actors, driver, look

    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="gemstream-costs-") as name:
        folder = Path(name)
        steps: list[Callable[[], dict[str, float]]] = [
            lambda: feed(folder),
            lambda: settle(folder, scale),
            lambda: look(folder, scale),
            lambda: driver(scale),
            actors,
        ]
        with cluster():
            for step in steps:
                found |= step()
                print(found, file=sys.stderr)
    return Costs(source=f"{machine()}, {time.strftime('%Y-%m-%d')}", **found)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)), indent=1))
