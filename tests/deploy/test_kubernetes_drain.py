"""A head's pod that is told to go tells the run on it, by the signal that drains, and waits for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from ray.dashboard.modules.job.pydantic_models import DriverInfo, JobDetails

from pipelines.deploying.drain import drain

RUN = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("told", flush=True)))
print("ready", flush=True)
while True: signal.pause()
"""
DEAF = RUN.replace('lambda *_: sys.exit(print("told", flush=True))', "signal.SIG_IGN")


class _Jobs(BaseHTTPRequestHandler):
    """Ray's list of jobs, as its own models write it."""

    jobs: ClassVar[list[JobDetails]] = []
    token: ClassVar[str] = "only-here"

    def do_GET(self) -> None:
        body = "[" + ",".join(job.model_dump_json() for job in self.jobs) + "]"
        known = self.headers.get("Authorization") == f"Bearer {self.token}"
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", _Jobs.token)


@contextmanager
def job_server(*jobs: JobDetails) -> Iterator[str]:
    _Jobs.jobs = list(jobs)
    with HTTPServer(("127.0.0.1", 0), _Jobs) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/jobs/"
        server.shutdown()
        thread.join()


def job(status: str, pid: int | None) -> JobDetails:
    driver = DriverInfo(id="01", node_ip_address="10.0.0.1", pid=str(pid)) if pid else None
    return JobDetails(type="SUBMISSION", status=status, entrypoint="gemstream run x", driver_info=driver)


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None and started.stdout.readline() == "ready\n"
        try:
            yield started
        finally:
            started.kill()


def test_the_run_is_told_and_waited_for_and_others_are_not() -> None:
    with process(RUN) as run, process(RUN) as over:
        with job_server(job("RUNNING", run.pid), job("PENDING", None), job("SUCCEEDED", over.pid)) as jobs:
            assert drain(20, jobs) == []
        assert run.stdout is not None and run.stdout.read() == "told\n"
        assert over.poll() is None


def test_one_that_does_not_end_is_named() -> None:
    with process(DEAF) as run, job_server(job("RUNNING", run.pid)) as jobs:
        assert drain(0.2, jobs) == [run.pid]
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert drain(0.2, jobs) == [], "one that has just gone is no fault"


def test_without_a_job_server_it_says_so() -> None:
    with pytest.raises(OSError, match="refused"):
        drain(1, "http://127.0.0.1:1/api/jobs/")
