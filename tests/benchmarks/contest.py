"""Two sides that need a model: each is started once, kept warm, and handed one portion of inputs after
another.

An engine takes most of a minute to start, so a process per turn, as in `pair`, would measure little else.
Both sides are started together and each answers a portion that is not counted. Then they take turns: while
one works, the other waits for its next portion and has nothing to do. A side's time is from the moment it is
handed a portion to its last answer, as it says itself; how long its start took is kept beside it.

How large a portion is hangs on the machine: a small one is tried first by each side, and the others are as
large as what the slower one does in `Work.seconds`, so that the table takes half an hour on slow ones, too.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

import psutil

from tests.benchmarks.pair import SIDES, Result, Run
from tests.benchmarks.processes import VLLM, Spent, family, memory

TURNS = 3
LONG = 800
"""Inputs of a turn against a side that does something anew for each portion, however long a slow machine
takes for them: Daft took 21.6 ms of CPU a picture where there were 224, and 9.2 where there were 800."""
WARM = 96
"""Inputs that are answered before anything is counted, at most."""
TURN_SECONDS = 15.0
"""Of the slower side. Ours takes 0.8 s for a portion's way in and out, which a longer run takes once."""
WAIT_SECONDS = 300.0
"""For one portion, an engine's start included."""
END_SECONDS = 60.0
LOG_CHARACTERS = 4_000


@dataclass(frozen=True)
class Work:
    """One kind of input for the sides of a contest.

    Attributes:
        name: as it is asked for.
        work: what exactly is done, in words.
        unit: what is counted.
        target: of our rate over the other's.
        count: inputs of one turn at full scale, on a machine that does them in `seconds`.
        make: writes so many inputs into a folder, of a seed that no other portion has.
        least: inputs of a turn, however slow the machine and whatever the scale.
        turns: of each side, at most; fewer where one takes half a minute, or where one says it all.
        seconds: that a turn of the slower side takes, unless `count` is less than that.
    """

    name: str
    work: str
    unit: str
    target: float
    count: int
    make: Callable[[Path, str, int], None]
    least: int = 48
    turns: int = TURNS
    seconds: float = TURN_SECONDS


@dataclass(frozen=True)
class Contest:
    """Two sides and what they do in turns.

    Attributes:
        name: as it is asked for.
        ours: a function of the module that answers portions: `ours(folder, turns)`.
        other: the other side's.
        against: what the other side is, in a word.
        works: what they do, one after the other.
        shared: None, or a context manager of the module that both need besides, as `shared(folder)`.
        needs: None, or a function of the module that says what is to be installed first, if anything is.
    """

    name: str
    ours: str
    other: str
    against: str
    works: tuple[Work, ...]
    shared: str | None = None
    needs: str | None = None

    def missing(self, module: str) -> str | None:
        """What is to be installed first, and how."""
        said: str | None = getattr(importlib.import_module(module), self.needs)() if self.needs else None
        return said

    def results(self, module: str, folder: Path, repetitions: int, scale: float) -> Iterator[Result]:
        """Run both sides in turns, work after work: as many as it has at most, for each takes a quarter of a
        minute.

        Raises:
            RuntimeError: a side failed, or did not do what the other did.
        """
        with ExitStack() as stack:
            if self.shared is not None:
                stack.enter_context(getattr(importlib.import_module(module), self.shared)(folder))
            names = dict(zip(SIDES, (self.ours, self.other), strict=True))
            sides = {
                side: stack.enter_context(Session(module, name, folder / side))
                for side, name in names.items()
            }
            for work in self.works:
                yield self._result(work, sides, folder, min(repetitions, work.turns), count_of(work, scale))

    def _result(
        self, work: Work, sides: dict[str, Session], folder: Path, repetitions: int, count: int
    ) -> Result:
        least = work.least
        warm = _portion(folder, work, "warm", min(least, WARM))
        for session in sides.values():
            session.send(warm)
        for session in sides.values():
            session.receive()
        tried = _turn(sides, SIDES, _portion(folder, work, "tried", least))
        seconds = max(run.seconds for run in tried.values())
        count = max(least, min(count, _eights(least * work.seconds / seconds)))
        turns = [tried] if count == least else []
        for turn in range(len(turns), repetitions):
            order = SIDES if turn % 2 == 0 else SIDES[::-1]
            turns.append(_turn(sides, order, _portion(folder, work, str(turn), count)))
        runs = {side: tuple(turn[side] for turn in turns) for side in SIDES}
        for number, (a, b) in enumerate(zip(*runs.values(), strict=True)):
            if a.units != b.units:
                raise RuntimeError(
                    f"{work.name}, turn {number}: {a.units} answers of ours, {b.units} of theirs"
                )
        facts = {
            f"{side}_{name}": value
            for side in SIDES
            for name, value in {"start_seconds": round(sides[side].start, 1), **_facts(runs[side])}.items()
        }
        return Result(work, runs["ours"], runs["bare"], self.against, facts)


def count_of(work: Work, scale: float) -> int:
    """Inputs of one turn, at most."""
    return _eights(work.count * scale)


def _eights(count: float) -> int:
    return max(8, round(count / 8) * 8)


def _portion(folder: Path, work: Work, name: str, count: int) -> Path:
    """Made while neither side has anything to do."""
    portion = folder / "portions" / work.name / name
    portion.mkdir(parents=True)
    work.make(portion, f"bench/{work.name}/{name}", count)
    return portion


def _turn(sides: dict[str, Session], order: Sequence[str], portion: Path) -> dict[str, Run]:
    """The same portion for one side and then for the other."""
    runs = {}
    for side in order:
        sides[side].send(portion)
        runs[side] = sides[side].receive()
    return runs


def _facts(runs: Sequence[Run]) -> dict[str, Any]:
    """CPU milliseconds a unit by kind of process, cores of vLLM's: medians. Tokens in all, MiB at most."""
    kinds = sorted({kind for run in runs for kind in run.facts["cpu"]})
    return {
        "cpu_ms_by_process": {
            kind: round(1_000 * median(run.facts["cpu"][kind] / run.units for run in runs), 2)
            for kind in kinds
        },
        "outside_vllm_ms": round(
            1_000 * median((run.cpu - run.facts["cpu"][VLLM]) / run.units for run in runs),
            2,
        ),
        # Their product with the rate is one: a shared host's speed is in the second, never in the first.
        "vllm_cores": round(median(run.facts["cpu"][VLLM] / run.seconds for run in runs), 3),
        "vllm_ms": round(1_000 * median(run.facts["cpu"][VLLM] / run.units for run in runs), 1),
        "tokens": sum(run.facts["tokens"] for run in runs),
        "mib_by_process": {
            kind: round(max(run.facts["mib"][kind] for run in runs)) for kind in runs[0].facts["mib"]
        },
    }


@dataclass
class Session:
    """One side, started and kept.

    Args:
        module: where the side is.
        name: of the function there.
        folder: what it may write in.
    """

    module: str
    name: str
    folder: Path
    start: float = 0.0
    """Seconds until its first portion was answered, loading included."""
    _began: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        self._entered = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = self.folder / "log"
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "tests.benchmarks.contest", self.module, self.name]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, str(self.folder), str(writing)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
            )
        os.close(writing)
        self._said = os.fdopen(reading)
        self.root = psutil.Process(self._process.pid)
        self.spent = Spent(self.root)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        assert self._process.stdin is not None
        self.spent.close()
        self._process.stdin.close()
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            for process in family(self.root):
                process.kill()
            status = self._process.wait()
        finally:
            self._said.close()
        if status and kind is None:
            raise RuntimeError(self._fault("failed"))

    def send(self, portion: Path) -> None:
        """Hand it a portion."""
        assert self._process.stdin is not None
        self._began = self.spent.now()
        self._process.stdin.write(f"{portion}\n".encode())
        self._process.stdin.flush()

    def receive(self) -> Run:
        """Wait for what it says of its portion.

        Raises:
            RuntimeError: it ended instead, or says nothing for `WAIT_SECONDS`.
        """
        ready, _, _ = select.select([self._said], [], [], WAIT_SECONDS)
        line = self._said.readline() if ready else ""
        if not line:
            raise RuntimeError(self._fault("ended" if ready else f"said nothing for {WAIT_SECONDS:g} s"))
        told = json.loads(line)
        self.start = self.start or time.monotonic() - self._entered
        spent = self.spent.now()
        spent.subtract(self._began)
        mib = memory(self.root)
        facts = {"cpu": spent, "mib": mib, **told.pop("facts")}
        return Run(**told, cpu=sum(spent.values()), peak=sum(mib.values()), facts=facts)

    def _fault(self, how: str) -> str:
        return f"{self.name} {how}: {self._log.read_text(errors='replace')[-LOG_CHARACTERS:]}"


class Turns:
    """What a side sees of it: portions to answer, and where to say that one is answered."""

    def __init__(self, told: int) -> None:
        self._told = os.fdopen(told, "w")

    def __iter__(self) -> Iterator[Path]:
        for line in sys.stdin:
            yield Path(line.strip())

    def answered(self, units: int, seconds: float, tokens: int, **facts: float) -> None:
        """Say that the last portion is answered, and how long it took."""
        told = {"units": units, "seconds": seconds, "facts": {"tokens": tokens, **facts}}
        self._told.write(json.dumps(told) + "\n")
        self._told.flush()

    def each(self, answer: Callable[[Path], tuple[int, int]]) -> None:
        """Answer portion after portion by a function that returns answers and tokens."""
        for portion in self:
            began = time.perf_counter()
            units, tokens = answer(portion)
            self.answered(units, time.perf_counter() - began, tokens)


def _side(module: str, name: str, folder: str, told: str) -> None:
    getattr(importlib.import_module(module), name)(Path(folder), Turns(int(told)))


if __name__ == "__main__":
    _side(*sys.argv[1:])
