"""The cluster: a real one that is joined, and all the addresses at which there is none, or another."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import ray as library

from deploy.demo.ports import LOOPBACK, free_ports
from pipelines.doctor import child, cluster
from pipelines.doctor.cluster import ray
from tests.doctor.patients import patient, told
from tests.workers.answering import Asked, Said, answering

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "0123456789abcdef"


def nodes(**resources: float) -> dict[str, Any]:
    """The state API's answer about one node that is there and one that is gone, as Ray 2.60 gives it."""
    gone = {"state": "DEAD", "resources_total": {"GPU": 8.0}}
    found = [{"state": "ALIVE", "resources_total": {"object_store_memory": 7e9, **resources}}, gone]
    return {"result": True, "msg": "", "data": {"result": {"total": 2, "result": found}}}


def dashboard(version: str = library.__version__, **resources: float) -> Any:
    """A job server's answers, for who has the token."""

    def script(asked: Asked) -> Said:
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return Said(401, {"error": "no token"})
        if asked.path.endswith("/api/version"):
            return Said(body={"version": "4", "ray_version": version, "session_name": "session_x"})
        return Said(body=nodes(**resources))

    return script


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)


def test_without_an_address_there_is_nothing_to_join() -> None:
    assert "a Ray of its own" in told(ray(patient()))["ray"]


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that others keep busy takes its time to import Ray."""
    monkeypatch.setattr(cluster, "JOIN_SECONDS", 120.0)


@pytest.mark.usefixtures("unhurried")
def test_a_cluster_that_is_joined(ray_cluster: None) -> None:
    address = library.get_runtime_context().gcs_address
    found = told(ray(patient(address, tasks=["ocr"], engine={"gpus": 2, "replicas": 3})))
    assert found["cluster"].startswith("ok: joined, with Ray"), found
    assert found["resources"].startswith("warning") and "3 engines need 6 GPUs" in found["resources"]
    assert told(ray(patient(address, engine={"kind": "fault"})))["resources"].startswith("ok")


@pytest.mark.usefixtures("unhurried")
def test_another_version_is_told_as_both(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client's Ray says that it is another: what a laptop has that was not updated with its cluster.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types; old = types.ModuleType('ray._version'); old.version, old.commit = '2.59.0', '0'\n"
        "sys.modules['ray._version'] = old\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    line = told(ray(patient(library.get_runtime_context().gcs_address)))["cluster"]
    assert line.startswith(f"failed: it runs Ray {library.__version__} on Python 3.1"), line
    assert "here it is 2.59.0" in line and "the same" in line


def test_addresses_at_which_there_is_no_cluster() -> None:
    port = free_ports(1)[0]
    for address in (f"{LOOPBACK}:{port}", f"ray://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{port}"):
        line = told(ray(patient(address)))["cluster"]
        assert line.startswith("failed: nothing answers there"), line
    assert "it is no address" in told(ray(patient("head")))["cluster"]


def test_a_port_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "DEATH_SECONDS", 60)
    monkeypatch.setattr(cluster, "JOIN_SECONDS", 1.0)
    monkeypatch.setattr(cluster, "HTTP_SECONDS", 0.5)
    with socket.create_server((LOOPBACK, 0)) as silent:
        address = f"{LOOPBACK}:{silent.getsockname()[1]}"
        assert "no answer within 1 s" in told(ray(patient(address)))["cluster"]
        assert "nothing answers there (ReadTimeout)" in told(ray(patient(f"http://{address}")))["cluster"]


def test_a_job_server(token: None) -> None:
    place: dict[str, Any] = {"tasks": ["ocr"], "engine": {"gpus": 1, "replicas": 2}}
    with answering(dashboard(CPU=16.0, GPU=2.0)) as server:
        found = told(ray(patient(server.url.removesuffix("/v1"), **place)))
        assert found["cluster"].startswith("ok") and found["resources"].startswith("ok"), found
        server.script = dashboard(CPU=16.0)
        assert "2 engines need 2 GPUs" in told(ray(patient(server.url, **place)))["resources"]
        assert "engines would" not in told(ray(patient(server.url, engine={"gpus": 0})))["resources"]
        assert "set engine.gpus to 1" in told(ray(patient(server.url, tasks=["ocr"])))["resources"]
        server.script = dashboard()
        assert "no CPU for a parser" in told(ray(patient(server.url)))["resources"]
        server.script = dashboard("2.9.0", CPU=1.0)
        assert "it runs Ray 2.9.0, here" in told(ray(patient(server.url)))["cluster"]


def test_a_job_server_that_lets_nobody_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with answering(dashboard(CPU=1.0)) as server:
        line = told(ray(patient(server.url)))["cluster"]
        assert "no token is here" in line and "RAY_AUTH_TOKEN" in line
        (tmp_path / "token").write_text("another\n")
        assert "the token here is not its own" in told(ray(patient(server.url)))["cluster"]
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        assert told(ray(patient(server.url)))["cluster"].startswith("ok")


def test_what_answers_is_no_dashboard() -> None:
    with answering(lambda asked: Said(404, b"<html>not here</html>")) as server:
        assert "no Ray dashboard (status 404)" in told(ray(patient(server.url)))["cluster"]
