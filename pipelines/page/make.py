"""From a run that is written to its page: in a process of its own, which may fail, hang or bloat.

Nothing here can cost a run: it begins when the answers, the report and the counts are written, and V8, which
draws the charts, takes its 80 MB and ends with the process.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import yaml

from pipelines.interrupt import interrupts
from schemas.errors import GemstreamError, PageError
from schemas.selection import ONLY
from workers.guard import die_with
from workers.storage.factory import join, open_storage

if TYPE_CHECKING:
    from pipelines.interrupt import Interrupt
    from pipelines.page.model import Page
    from pipelines.plan import Plan
    from pipelines.report import RunReport
    from schemas.selection import Selection

NAME = "report.html"
SECONDS = 300.0
"""For all of it: three minutes of reading at most, half of one for pictures, seconds to draw."""
TICK_SECONDS = 0.2
BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); import pipelines.page.make as m; m.serve()"


def publish_page(plan: Plan, report: RunReport, seconds: float = SECONDS) -> str:
    """Make the page of a run and put it into the run's folder.

    Args:
        plan: the run.
        report: as it was written.
        seconds: after them it is given up.

    Returns:
        Its address.

    Raises:
        PageError: there is none, for whatever reason.
    """
    from ray import cloudpickle

    try:
        with interrupts() as interrupt, _started() as process:
            try:
                said = _said(process, cloudpickle.dumps((plan, report)), seconds, interrupt)
            finally:
                process.kill()
    except OSError as error:
        raise PageError(f"its process does not start: {error.strerror}") from error
    if process.returncode:
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise PageError(last or f"its process ended with {process.returncode}")
    return join(plan.output, "_runs", plan.run_id, NAME)


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", BOOT, json.dumps(sys.path), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _said(process: subprocess.Popen[bytes], work: bytes, seconds: float, interrupt: Interrupt) -> bytes:
    """What it says on its way to its end.

    Raises:
        PageError: it has not come to it in time, or a signal says that nobody waits for it.
    """
    until = time.monotonic() + seconds
    left: bytes | None = work
    while True:
        try:
            return process.communicate(left, timeout=min(TICK_SECONDS, seconds))[1]
        except subprocess.TimeoutExpired:
            left = None  # what was handed over is on its way
        if interrupt.by is not None:
            raise PageError(f"{interrupt.by.name} ended it, when the run was over")
        if time.monotonic() > until:
            raise PageError(f"it was given up after {seconds:g} s")


def serve() -> None:
    """What the process does; what goes wrong is its last line."""
    from pipelines.page.render import render

    die_with(int(sys.argv[2]))
    # Of a terminal's Ctrl-C its parent hears as well, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    plan, report = pickle.load(sys.stdin.buffer)
    uri = join(plan.output, "_runs", plan.run_id, NAME)
    try:
        body = render(make_page(plan, report))
        open_storage(uri, plan.job.storage).publish(uri, body)
    except GemstreamError as error:
        sys.exit(error.message)


def make_page(plan: Plan, report: RunReport) -> Page:
    """Read what the page of a run shows.

    Raises:
        GemstreamError: the output cannot be read.
    """
    from pipelines.located import located
    from pipelines.page.facts import read_facts
    from pipelines.page.gallery import gallery
    from pipelines.page.model import Page
    from pipelines.page.sample import Sample
    from pipelines.quality import read_quality

    job = plan.job
    # Pictures show what was taken out of texts, and are fetched by names.
    size = 0 if job.privacy.hides else job.report.gallery
    sample = Sample(size)
    facts = read_facts(report, [task.name for task in job.tasks], job.storage, sample)
    return Page(
        report=report,
        facts=facts,
        gallery=gallery(plan, sample.chosen()),
        gallery_off=not size,
        quality=read_quality(report.output, job.storage, report.run_id),
        job=yaml.safe_dump(located(job).public(), sort_keys=False, allow_unicode=True),
        command=command_of(report.selection),
    )


def command_of(selection: Selection) -> str:
    """What does the same again, beside the job's file."""
    flags = []
    if selection.force:
        flags.append("--force")
    if selection.shard:
        flags.append(f"--shard {selection.shard}")
    flags += [f"--only {word}" for word, reasons in ONLY.items() if reasons <= selection.only]
    return " ".join(["gemstream run job.yaml", *flags])
