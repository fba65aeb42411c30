"""`gemstream run` as a user starts it: a process of its own, which a test may do anything to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import ROOT

DEADLINE = 240.0
"""Seconds that anything waited for may take: a shared machine stalls."""
LOOK_SECONDS = 0.05


@dataclass
class Run:
    """One process of `gemstream run`, and what it says."""

    process: subprocess.Popen[bytes]
    words: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        """Everything it printed, both streams."""
        return self.words.read_text(errors="replace")

    def family(self) -> list[psutil.Process]:
        """Its descendants that are there now."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def wait(self, seconds: float = DEADLINE) -> int:
        """Its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run did not end within {seconds:g} s; it said:\n{self.said}") from None

    def kill(self) -> None:
        """SIGKILL to the driver alone: what it started has to notice by itself."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def until(self, condition: Callable[[], object], seconds: float = DEADLINE) -> bool:
        """Wait for a condition; False when the run ended before it held."""
        return wait_until(condition, seconds, lambda: self.process.poll() is None)


@contextmanager
def started(job: Path, environment: Mapping[str, str] | None = None, *extra: str) -> Iterator[Run]:
    """Start a run; on the way out nothing of it is left, however the test ended."""
    words = job.with_name(f"{job.stem}-{time.monotonic_ns()}.txt")
    with words.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "run", str(job), *extra],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            # Ray's workers are to import this checkout, whatever is installed.
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "RAY_USAGE_STATS_ENABLED": "0",
                **(environment or {}),
            },
            start_new_session=True,
        )
    run = Run(process, words)
    try:
        yield run
    finally:
        if process.poll() is None:
            family = run.family()
            run.kill()
            end(family)


def run_to_end(job: Path, environment: Mapping[str, str] | None = None) -> None:
    """A run that nobody disturbs, which is to end well."""
    with started(job, environment) as run:
        assert run.wait() == 0, run.said


def wait_until(
    condition: Callable[[], object], seconds: float = DEADLINE, going: Callable[[], bool] = lambda: True
) -> bool:
    """Look until a condition holds; False when `going` ended before it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if not going():
            return bool(condition())
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(LOOK_SECONDS)
    return True


def title(process: psutil.Process) -> str:
    """What a process calls itself; nothing where it has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end(family: list[psutil.Process]) -> None:
    """Kill what is left of a run, each by its own id."""
    for member in family:
        if not gone(member):
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue


def assert_gone(family: list[psutil.Process], seconds: float = 60.0) -> None:
    """Nothing of a killed run lives on: it would hold memory and GPUs, or write."""
    alive = [member for member in family if not gone(member)]
    try:
        wait_until(lambda: all(gone(member) for member in alive), seconds)
    except AssertionError:
        left = [member.cmdline() for member in alive if not gone(member)]
        end(alive)
        raise AssertionError(f"a run that is gone left processes: {left}") from None
