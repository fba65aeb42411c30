"""Addresses where no cluster is, or not the one that is meant: a clear word within seconds."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.demo.objectstore import ObjectStore
from deploy.demo.ports import LOOPBACK, free_ports
from pipelines import jobs, jobserver
from pipelines.cli import app
from pipelines.jobserver import JobServer
from pipelines.submit import Terms, pack
from schemas.errors import ClusterUnavailable, JobError
from schemas.job import make_job
from tests.fixtures.head import serving


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "--address URL"),
        ("10.0.0.1:6379", "not the http:// address of a dashboard"),
        ("ray://10.0.0.1:10001", "not the http:// address of a dashboard"),
        ("http://", "not the http:// address of a dashboard"),
    ],
)
def test_no_address_of_a_dashboard(address: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(JobError, match=words):
        JobServer(None)


def test_nobody_answers() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ClusterUnavailable, match=r"cannot be reached \(.*refused\); is the head up"):
        JobServer(f"http://me:secret@{LOOPBACK}:{port}")
    with pytest.raises(
        ClusterUnavailable, match=r"http://gs\.invalid:8265 cannot be reached \(.*(not known|resol)"
    ):
        JobServer("http://gs.invalid:8265")


def test_somebody_takes_the_connection_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobserver, "ANSWER_SECONDS", 0.3)
    with socket.create_server((LOOPBACK, 0)) as silent:
        with pytest.raises(ClusterUnavailable, match=r"has said nothing for 0\.3 s"):
            JobServer(f"http://{LOOPBACK}:{silent.getsockname()[1]}")


def test_somebody_else_answers(object_store: ObjectStore) -> None:
    with pytest.raises(ClusterUnavailable, match="not as a Ray dashboard does.*RAY_JOB_HEADERS"):
        JobServer(object_store.endpoint)


def test_a_server_that_is_no_dashboard() -> None:
    class Other(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    with serving(Other) as address:
        with pytest.raises(ClusterUnavailable, match="is no Ray dashboard \\(status 501"):
            JobServer(address)


def test_another_ray_is_not_sent_to(tmp_path: Path) -> None:
    asked: list[str] = []
    values = {"input": "s3://bucket/in", "output": "s3://bucket/out", "tasks": ["ocr"]}
    parcel = pack(make_job(values), Terms(), tmp_path)

    class Older(BaseHTTPRequestHandler):
        """Says what a head of that version says, and is asked nothing else."""

        def do_GET(self) -> None:
            asked.append(self.path)
            body = b'{"version": "4", "ray_version": "2.9.0", "ray_commit": "x"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with serving(Older) as address:
        with pytest.raises(JobError, match=r"runs Ray 2\.9\.0, and this gemstream is for Ray 2\."):
            jobs._send(JobServer(address), parcel)
    assert set(asked) == {"/api/version"}


@pytest.mark.parametrize("command", ["status", "logs", "wait", "stop"])
def test_an_id_that_is_empty_is_none(command: str) -> None:
    done = CliRunner().invoke(app, [command, "", "--address", "http://127.0.0.1:1"])
    assert done.exit_code == 2 and "it is empty" in done.output
