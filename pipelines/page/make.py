"""From a run that is written to its page: in a process of its own, which may fail, hang or bloat.

Nothing here can cost a run: it begins when the answers, the report and the counts are written, and V8, which
draws the charts, takes its 80 MB and ends with the process.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import yaml

from schemas.errors import GemstreamError, PageError
from schemas.selection import ONLY
from workers.guard import die_with
from workers.storage.factory import join, open_storage

if TYPE_CHECKING:
    from pipelines.page.model import Page
    from pipelines.plan import Plan
    from pipelines.report import RunReport
    from schemas.selection import Selection

NAME = "report.html"
SECONDS = 300.0
"""For all of it: three minutes of reading at most, half of one for pictures, seconds to draw."""
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

    command = [sys.executable, "-c", BOOT, json.dumps(sys.path), str(os.getpid())]
    try:
        done = subprocess.run(
            command,
            input=cloudpickle.dumps((plan, report)),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PageError(f"it was given up after {seconds:g} s") from error
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise PageError(last or f"its process ended with {done.returncode}")
    return join(plan.output, "_runs", plan.run_id, NAME)


def serve() -> None:
    """What the process does; what goes wrong is its last line."""
    from pipelines.page.render import render

    die_with(int(sys.argv[2]))
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
    from pipelines.page.facts import read_facts
    from pipelines.page.gallery import gallery
    from pipelines.page.model import Page
    from pipelines.page.sample import Sample
    from pipelines.quality import read_quality

    job = plan.job
    sample = Sample(job.report.gallery)
    facts = read_facts(report, [task.name for task in job.tasks], job.storage, sample)
    return Page(
        report=report,
        facts=facts,
        gallery=gallery(plan, sample.chosen()),
        gallery_off=not job.report.gallery,
        quality=read_quality(report.output, job.storage, report.run_id),
        job=yaml.safe_dump(job.public(), sort_keys=False, allow_unicode=True),
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
