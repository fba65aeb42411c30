"""A run of 2,000 documents: its CPU time outside vLLM, its memory, and both against a tenth of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from schemas.job import JobSpec
from tests.benchmarks import inputs
from tests.benchmarks.answering import ENGINE
from tests.benchmarks.contest import Session, Turns
from tests.benchmarks.pair import Result, Run
from tests.benchmarks.portions import job_for, run_portions, said
from tests.benchmarks.processes import DRIVER, HOST, VLLM, memory
from tests.fixtures.runs import GEMMA3

WHOLE_RUN = 2_000
"""Records over which what a run costs once is spread."""
WARM = 32
"""Documents that are answered before anything is counted."""
LOOK_SECONDS = 5.0
"""Between two looks at memory, each of which takes a quarter of a second."""


@dataclass(frozen=True)
class Named:
    """What a row of the table says of itself."""

    name: str
    work: str
    unit: str
    target: float


@dataclass(frozen=True)
class Growth:
    """A run handed a tenth of some documents, and then all of them.

    Attributes:
        name: of the row that compares the two.
        side: a function of the module, as in `Contest`.
        unit: what is counted.
        count: documents of the large portion.
        make: writes them.
        budget: CPU milliseconds a record outside vLLM's own processes.
    """

    name: str
    side: str
    unit: str
    count: int
    make: Callable[[Path, str, int], None]
    budget: float

    def missing(self, module: str) -> None:
        """It needs nothing that is not here."""

    def results(self, module: str, folder: Path, repetitions: int, scale: float) -> Iterator[Result]:
        """Run it; once, however many repetitions are asked for: it is as long as three turns of others.

        Raises:
            RuntimeError: it failed.
        """
        sizes = {"warm": WARM, "tenth": max(8, round(self.count * scale / 10))}
        sizes["whole"] = 10 * sizes["tenth"]
        for name, count in sizes.items():
            portion = folder / "portions" / self.name / name
            portion.mkdir(parents=True)
            self.make(portion, f"bench/{self.name}/{name}", count)
        runs: dict[str, Run] = {}
        peaks: dict[str, Counter[str]] = {}
        with Session(module, self.side, folder / "ours") as session:
            for name in sizes:
                with watched(session.root) as peaks[name]:
                    session.send(folder / "portions" / self.name / name)
                    runs[name] = session.receive()
                if name == "warm":
                    start = session.spent.now()
        yield self._grown(runs, peaks)
        yield self._spent(runs["whole"], start)

    def _grown(self, runs: dict[str, Run], peaks: dict[str, Counter[str]]) -> Result:
        work = Named(
            self.name,
            f"{runs['whole'].units:,} {self.unit}s through the pipeline, against a tenth of them; engine "
            "warm; the target is 10.5 times as long; memory is the most at any time, all processes",
            self.unit,
            10 / 10.5,
        )
        facts: dict[str, Any] = {}
        for name in ("tenth", "whole"):
            facts[f"{name}_driver_mib"] = round(peaks[name][DRIVER])
            facts[f"{name}_stored_mib"] = round(runs[name].facts["stored"], 1)
            facts[f"{name}_mib"] = round(peaks[name].total())
            facts[f"{name}_mib_by_process"] = {kind: round(mib) for kind, mib in peaks[name].items()}
        ours, other = (
            Run(runs["whole"].units, runs[name].seconds * times, runs[name].cpu * times, peaks[name].total())
            for name, times in (("whole", 1), ("tenth", 10))
        )
        return Result(work, (ours,), (other,), "a tenth of it", facts)

    def _spent(self, run: Run, start: Counter[str]) -> Result:
        work = Named(
            f"cpu-{self.unit}",
            f"CPU seconds of all processes but vLLM's own, of a run of {WHOLE_RUN:,}: what {run.units:,} "
            f"took each, and the share of its start, against a budget of {self.budget:g} ms each",
            self.unit,
            1.0,
        )
        each = {kind: 1_000 * seconds / run.units for kind, seconds in run.facts["cpu"].items()}
        once = {kind: 1_000 * seconds / WHOLE_RUN for kind, seconds in start.items()}
        outside = sum(each[kind] + once.get(kind, 0.0) for kind in each if kind != VLLM)
        facts = {
            "cpu_ms_by_process": {kind: round(ms, 2) for kind, ms in each.items()},
            "start_cpu_ms_by_process": {kind: round(ms, 2) for kind, ms in once.items()},
            "outside_vllm_and_host_ms": round(outside - each[HOST] - once.get(HOST, 0.0), 2),
            "outside_vllm_ms": round(outside, 2),
        }
        seconds = outside * run.units / 1_000
        budget = self.budget * run.units / 1_000
        ours, other = (Run(run.units, taken, taken, run.peak) for taken in (seconds, budget))
        return Result(work, (ours,), (other,), "its budget", facts)


@contextmanager
def watched(root: psutil.Process) -> Iterator[Counter[str]]:
    """The most memory that each kind of process had at once with the others, while this lasts."""
    most: Counter[str] = Counter()
    ended = threading.Event()

    def look() -> None:
        found = memory(root)
        if found.total() > most.total():
            most.clear()
            most.update(found)

    def watch() -> None:
        while not ended.wait(LOOK_SECONDS):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield most
        look()
    finally:
        ended.set()
        watcher.join()


def _job(folder: Path, task: dict[str, Any], **models: str) -> JobSpec:
    return job_for(folder, [task], models=models, engine=ENGINE)


def images(folder: Path, turns: Turns) -> None:
    """Few tokens each: what is around the engine is to be seen."""
    run_portions(_job(folder, {"task": "caption", "max_tokens": 32}, vision=str(GEMMA3)), folder, turns)


def segments(folder: Path, turns: Turns) -> None:
    """A few words about each half minute."""
    task = said("about", 8) | {"of": ["audio"]}
    run_portions(_job(folder, task, audio=str(inputs.hearing_half_minutes(folder))), folder, turns)


PAIRS = {
    growth.name: growth
    for growth in (
        Growth("tenfold-images", "images", "image", WHOLE_RUN, inputs.pictures, 10.0),
        Growth("tenfold-audio", "segments", "segment", 200, inputs.half_minutes, 20.0),
    )
}
