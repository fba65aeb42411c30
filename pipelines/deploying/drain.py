"""Ends the run whose driver is on this machine, as Ctrl-C would: what a head's pod does before it goes.

Ray's own way to stop a job reports it as stopped, which KubeRay takes for done. A run that is told to end by
SIGTERM drains and fails, and so is tried again on another node, where it goes on.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterable

ANSWER_SECONDS = 10
JOBS = "http://127.0.0.1:8265/api/jobs/"


def drain(seconds: float, jobs: str = JOBS) -> list[int]:
    """Tell each driver of a job that is running here to end, and wait until it has.

    Args:
        seconds: that it may take.
        jobs: where Ray's job server lists them.

    Returns:
        The processes that are still there.
    """
    import psutil

    # KubeRay gives each of a cluster's containers its token, where it has one.
    token = os.environ.get("RAY_AUTH_TOKEN")
    asked = Request(jobs, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urlopen(asked, timeout=ANSWER_SECONDS) as answer:
        listed: list[dict[str, Any]] = json.load(answer)
    here = []
    for pid in _drivers(listed):
        try:
            process = psutil.Process(pid)
            os.kill(pid, signal.SIGTERM)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue  # it has just ended
        here.append(process)
    _, left = psutil.wait_procs(here, timeout=seconds)
    return [process.pid for process in left]


def _drivers(listed: Iterable[dict[str, Any]]) -> list[int]:
    """Those that have connected: one that has not has nothing to lose."""
    running = (job for job in listed if job["status"] == "RUNNING")
    return [int(job["driver_info"]["pid"]) for job in running if job.get("driver_info")]
