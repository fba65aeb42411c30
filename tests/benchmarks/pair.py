"""What a pair is, how it is run, and what comes of it.

Each side of each repetition runs in a process of its own, so that neither warms the other's caches of code or
memory, and the two take turns, so that what disturbs the machine disturbs both. A side says how much it did
(its units) and how long that took, without its imports and its start; a pair whose sides did not do the same
amount is an error, not a result.
"""

from __future__ import annotations

import importlib
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

SIDES = ("ours", "bare")
KIB_A_MIB = 1024
"""`ru_maxrss` is in KiB here."""


@dataclass(frozen=True)
class Pair:
    """The same work, twice.

    Attributes:
        name: as it is asked for.
        work: what exactly is done, in words.
        unit: what is counted.
        target: of our rate over the bare one.
        inputs: makes them in a folder, at a scale; the same for the same scale.
        ours: does the work on that folder; returns how many units it did, and their seconds.
        bare: the same with the bare library.
        often: how many times as many turns as others it has. Of what is over in half a second one turn is not
            like another.
    """

    name: str
    work: str
    unit: str
    target: float
    inputs: Callable[[Path, float], None]
    ours: Callable[[Path], tuple[int, float]]
    bare: Callable[[Path], tuple[int, float]]
    often: int = 1

    def missing(self, module: str) -> None:
        """It needs nothing that is not here."""

    def results(self, module: str, folder: Path, repetitions: int, scale: float) -> Iterator[Result]:
        """Make the inputs and measure both sides."""
        self.inputs(folder, scale)
        yield measure(self, module, folder, repetitions * self.often)


class Done(Protocol):
    """What a result says of the work."""

    name: str
    work: str
    unit: str
    target: float


@dataclass(frozen=True)
class Run:
    """One side, once. `cpu` are the seconds of all its processes, `peak` the MiB of its largest one; `facts`
    what else was seen."""

    units: int
    seconds: float
    cpu: float
    peak: float
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A pair over all its repetitions. `pair` is what was done, `against` what the other side is; `facts` are
    kept beside the figures."""

    pair: Done
    ours: tuple[Run, ...]
    bare: tuple[Run, ...]
    against: str = "the bare library"
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """Our rate over the bare one, turn by turn."""
        return [b.seconds / a.seconds for a, b in zip(self.ours, self.bare, strict=True)]

    def row(self) -> dict[str, Any]:
        """What is kept of it."""
        units = self.ours[0].units
        return {
            "pair": self.pair.name,
            "work": self.pair.work,
            "unit": self.pair.unit,
            "against": self.against,
            "units": units,
            "ours_per_second": round(units / median(run.seconds for run in self.ours), 2),
            "bare_per_second": round(units / median(run.seconds for run in self.bare), 2),
            "ratio": round(median(self.ratios), 3),
            "ratio_least": round(min(self.ratios), 3),
            "ratio_most": round(max(self.ratios), 3),
            "target": self.pair.target,
            "ours_cpu_ms": round(1_000 * median(run.cpu for run in self.ours) / units, 3),
            "bare_cpu_ms": round(1_000 * median(run.cpu for run in self.bare) / units, 3),
            "ours_peak_mib": round(max(run.peak for run in self.ours), 1),
            "bare_peak_mib": round(max(run.peak for run in self.bare), 1),
            **self.facts,
        }


def measure(pair: Pair, module: str, folder: Path, repetitions: int) -> Result:
    """Run both sides in turns.

    Args:
        pair: what to do.
        module: where it is a member of `PAIRS`, for the processes that do it.
        folder: with its inputs.
        repetitions: turns of each.

    Raises:
        RuntimeError: a side failed, or did not do what the other did.
    """
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    for turn in range(repetitions):
        # Whoever comes second finds the machine as the first has left it: they take turns in that, too.
        for side in SIDES if turn % 2 == 0 else reversed(SIDES):
            runs[side].append(_process(module, pair.name, side, folder))
    units = {run.units for side in SIDES for run in runs[side]}
    if len(units) != 1:
        raise RuntimeError(f"{pair.name}: the two sides did not do the same amount of work: {sorted(units)}")
    return Result(pair, tuple(runs["ours"]), tuple(runs["bare"]))


def _process(module: str, name: str, side: str, folder: Path) -> Run:
    command = [sys.executable, "-m", "tests.benchmarks.pair", module, name, side, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}, {side}: {done.stderr[-2_000:]}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def _one(module: str, name: str, side: str, folder: str) -> None:
    """One side of one pair, in this process; the result is the last line it prints."""
    pair: Pair = importlib.import_module(module).PAIRS[name]
    before = _cpu()
    work: Callable[[Path], tuple[int, float]] = getattr(pair, side)
    units, seconds = work(Path(folder))
    peak = max(_own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    print(json.dumps({"units": units, "seconds": seconds, "cpu": _cpu() - before, "peak": peak / KIB_A_MIB}))


def _own_peak() -> int:
    """This program's, in KiB. `ru_maxrss` outlasts an exec: it has what the parent took, if that is more."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(work: Callable[[], int]) -> tuple[int, float]:
    """How many units, and in how many seconds."""
    began = time.perf_counter()
    units = work()
    return units, time.perf_counter() - began


if __name__ == "__main__":
    _one(*sys.argv[1:])
