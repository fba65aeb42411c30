"""What a pair is, how it is run, and what comes of it.

Each side runs in a process of its own, so that neither warms the other's caches of code or memory, and the
two take turns, so that what disturbs the machine disturbs both. A side says how much it did (its units) and
how long that took, without its imports and its start; a pair whose sides did not do the same amount is an
error, not a result.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol, Self

import psutil

SIDES = ("ours", "bare")
MARK = "turn: "
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
        ours: gets ready for that folder, and has the work `timed`.
        bare: the same with the bare library.
        often: how many times as many turns as others it has. Of what is over in half a second one turn is not
            like another.
        kept: whether all turns of a side are in one process. Then a turn of the other follows at once, on a
            machine that is as it was, and what a parser does for the first time counts once. Not for what a
            run does once.
    """

    name: str
    work: str
    unit: str
    target: float
    inputs: Callable[[Path, float], None]
    ours: Callable[[Path], None]
    bare: Callable[[Path], None]
    often: int = 1
    kept: bool = False

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
    with ExitStack() as kept:
        sides = {
            side: kept.enter_context(_Side(module, pair.name, side, folder)) for side in SIDES if pair.kept
        }
        for turn in range(repetitions):
            # Whoever comes second finds the machine as the first has left it: they take turns in that, too.
            for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                if pair.kept:
                    runs[side].append(sides[side].turn())
                else:
                    with _Side(module, pair.name, side, folder) as alone:
                        runs[side].append(alone.turn())
    units = {run.units for side in SIDES for run in runs[side]}
    if len(units) != 1:
        raise RuntimeError(f"{pair.name}: the two sides did not do the same amount of work: {sorted(units)}")
    return Result(pair, tuple(runs["ours"]), tuple(runs["bare"]))


class _Side:
    """The process of one side, which does the work when it is told to.

    Raises:
        RuntimeError: it failed, with its last words.
    """

    def __init__(self, module: str, name: str, side: str, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.pair", module, name, side, str(folder)]
        self._what, self._words = f"{name}, {side}", tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, text=True
        )

    def __enter__(self) -> Self:
        """It is there when it is ready, so that its start is in nobody's turn."""
        try:
            self._said()
        except RuntimeError as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """It ends when it is told no more, and is to end well."""
        self._process.communicate()
        with self._words:
            if kind is None and self._process.returncode:
                raise self._fault()

    def turn(self) -> Run:
        """One turn of its."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Run(**self._said())

    def _said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                found: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return found
        self._process.wait()
        raise self._fault()

    def _fault(self) -> RuntimeError:
        self._words.seek(0)
        return RuntimeError(f"{self._what}: {self._words.read().decode(errors='replace')[-2_000:]}")


def timed(work: Callable[[], int]) -> None:
    """Do the work each time that a line comes in, and say how many units it was and what they took."""
    _say({})
    for _ in sys.stdin:
        before, began = _cpu(), time.perf_counter()
        units = work()
        seconds = time.perf_counter() - began
        _say({"units": units, "seconds": seconds, "cpu": _cpu() - before, "peak": _peak() / KIB_A_MIB})


def _say(what: dict[str, Any]) -> None:
    """Among whatever libraries print."""
    print(f"{MARK}{json.dumps(what)}", flush=True)


def _peak() -> int:
    """Of this process or one of its children, in KiB."""
    children = [_high_water(child.pid) for child in psutil.Process().children(recursive=True)]
    return max(_high_water(os.getpid()), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, *children)


def _high_water(pid: int) -> int:
    """In KiB. `ru_maxrss` outlasts an exec: it has what the parent took, if that is more."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) if found else 0


def _cpu() -> float:
    """Seconds of this process and its children, those that have ended included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in used)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            seconds += sum(child.cpu_times()[:2])
    return seconds


if __name__ == "__main__":
    of, name, side, folder = sys.argv[1:]
    getattr(importlib.import_module(of).PAIRS[name], side)(Path(folder))
