"""Random faults for a quarter of an hour over many small documents: `make soak`.

    python -m tests.chaos.soak --documents 20000 --minutes 15 --seed 7

One output, to and from a real S3 server. Each round starts `gemstream run`, does something to it at a
random moment, and starts it again when it has ended; when the time is up it is let alone. The table at
the end says what was done, and what became of every question that the documents raise.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from deploy.demo.objectstore import ObjectStore
from deploy.demo.objectstore import object_store as start_object_store
from tests.chaos.compare import Bucket, Output, read_output
from tests.chaos.lake import Lake, job_file, make_lake
from tests.chaos.process import DEADLINE, Run, gone, started

TASKS_OF = {".wav": ("transcribe",)}
SEEN_TASKS = ("ocr", "caption")
QUIET_SECONDS = (4.0, 25.0)
"""Before something is done to a run: from its coming up to well into its work."""
OUTAGE_SECONDS = (1.0, 15.0)
RAYLET = ("raylet/raylet",)


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 if nothing is lost and nothing is there twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args(arguments)
    # A shell without job control has what it puts into the background ignore SIGINT, and its children too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console = Console()
    console.print(f"soak: seed {options.seed}")
    lake = make_lake(options.documents, options.seed)
    with start_object_store() as store, tempfile.TemporaryDirectory(prefix="gemstream-soak-") as folder:
        place = Bucket(store, "soak/out")
        job = job_file(
            Path(folder), lake.upload(store), place.url, seconds=0.005, sink={"rows": 500, "seconds": 5}
        )
        done = disturb(random.Random(options.seed), job, store, options.minutes * 60, console)
        statuses = [to_the_end(job, store.environment(), console)]
        lost, twice = reckoning(lake, read_output(place))
    table = Table("what", "how often", title="soak")
    for fault, count in sorted(done.items()):
        table.add_row(fault, str(count))
    table.add_row("faults injected", str(done.total()))
    table.add_row("documents", str(len(lake.documents)))
    table.add_row("lost", str(lost))
    table.add_row("duplicated", str(twice))
    console.print(table)
    return int(bool(lost or twice or any(statuses)))


def disturb(
    rng: random.Random, job: Path, store: ObjectStore, seconds: float, console: Console
) -> Counter[str]:
    """Run and disturb, until the time is up or everything is done; how often what was done."""
    until = time.monotonic() + seconds
    done: Counter[str] = Counter()
    while time.monotonic() < until:
        with started(job, store.environment()) as run:
            moment = time.monotonic() + rng.uniform(*QUIET_SECONDS)
            if not run.until(lambda: time.monotonic() >= moment):  # noqa: B023 - called before it changes
                if run.wait() == 0:
                    console.print("everything is done; the rest of the time has nothing to disturb")
                    return done
                continue
            fault = rng.choice(sorted(FAULTS))
            FAULTS[fault](rng, run, store)
            done[fault] += 1
            console.print(f"{fault}: {max(0, round(until - time.monotonic()))} s to go")
            if fault in GOES_ON:
                later = time.monotonic() + rng.uniform(*QUIET_SECONDS)
                if run.until(lambda: time.monotonic() >= later):  # noqa: B023 - called before it changes
                    run.kill()
            else:
                run.wait()
    return done


def to_the_end(job: Path, environment: Mapping[str, str], console: Console) -> int:
    """The run that is let alone; its exit status."""
    with started(job, environment) as run:
        status = run.wait(3_600)
        if status:
            console.print(run.said)
        return status


def reckoning(lake: Lake, output: Output) -> tuple[int, int]:
    """How many questions have neither an answer nor an error, and how many records are there twice."""
    answered = {(uri, part, task) for uri, part, task in output.questions}
    settled = answered | {(uri, part, task) for uri, part, task, _ in output.errors if task}
    broken = {uri.rpartition("/")[2] for uri, _, task, _ in output.errors if task is None}
    parts: dict[str, int] = {}
    for uri, total in output.parts.items():
        parts[uri.rpartition("/")[2]] = total
    by_name = {(uri.rpartition("/")[2], part, task) for uri, part, task in settled}
    lost = 0
    for name in lake.documents:
        if name in broken:
            continue
        tasks = TASKS_OF.get(Path(name).suffix, SEEN_TASKS)
        # Of a document that nothing is known of, one part at least is lost.
        owed = {(name, part, task) for part in range(parts.get(name, 1)) for task in tasks}
        lost += len(owed - by_name)
    return lost, sum(times - 1 for times in output.keys.values())


def _kill_driver(rng: random.Random, run: Run, store: ObjectStore) -> None:
    run.kill()


def _terminate(rng: random.Random, run: Run, store: ObjectStore) -> None:
    os.kill(run.pid, signal.SIGTERM)


def _interrupt_twice(rng: random.Random, run: Run, store: ObjectStore) -> None:
    os.kill(run.pid, signal.SIGINT)
    moment = time.monotonic() + rng.uniform(0.1, 2)
    run.until(lambda: time.monotonic() >= moment)
    if run.process.poll() is None:
        os.kill(run.pid, signal.SIGINT)


def _kill_some(words: tuple[str, ...]) -> Callable[[random.Random, Run, ObjectStore], None]:
    """Kill one process of the run whose command line has one of the words, if there is one."""

    def kill(rng: random.Random, run: Run, store: ObjectStore) -> None:
        if found := _processes(run, words):
            rng.choice(found).kill()

    return kill


def _kill_raylet(rng: random.Random, run: Run, store: ObjectStore) -> None:
    """Of this the run ends, once it has joined its Ray and says how far it is: one that dies while it comes
    up has another started in its place."""
    if run.until(lambda: "list: " in run.said):
        for raylet in _processes(run, RAYLET):
            raylet.kill()


def _processes(run: Run, words: tuple[str, ...]) -> list[psutil.Process]:
    return [process for process in run.family() if any(word in _command(process) for word in words)]


def _command(process: psutil.Process) -> str:
    try:
        return "" if gone(process) else " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def _outage(rng: random.Random, run: Run, store: ObjectStore) -> None:
    with store.outage():
        over = time.monotonic() + rng.uniform(*OUTAGE_SECONDS)
        run.until(lambda: time.monotonic() >= over, DEADLINE)


FAULTS: dict[str, Callable[[random.Random, Run, ObjectStore], None]] = {
    "driver killed": _kill_driver,
    "driver terminated": _terminate,
    "driver interrupted twice": _interrupt_twice,
    "engine worker killed": _kill_some(("MapBatches(Infer)",)),
    "parser worker killed": _kill_some(("MapBatches(Expand)",)),
    "parser killed": _kill_some(("workers.guard",)),
    "raylet killed": _kill_raylet,
    "store away": _outage,
}
GOES_ON = {"engine worker killed", "parser worker killed", "parser killed", "store away"}
"""Faults that a run is to survive: it goes on for a while, and is killed then."""


if __name__ == "__main__":
    sys.exit(main())
