"""Ray: the one that is installed, and the cluster that a run would join or be sent to."""

from __future__ import annotations

import os
import platform
import re
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.doctor import failed, ok, size, warning
from pipelines.doctor.child import NoAnswer, ask

if TYPE_CHECKING:
    from pipelines.doctor import Finding, Findings, Patient

CONNECT_SECONDS = 3.0
HTTP_SECONDS = 5.0
JOIN_SECONDS = 25.0
"""Ray takes 2 s to join as a driver, and gives up on a head that does not answer after some 20."""
MISMATCH = re.compile(r"Ray: (\S+)\s+Python: (\S+).*Ray: (\S+)\s+Python: (\S+)", re.S)
"""Of Ray's own words: the cluster's versions, then those of who wants to join."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_LOG_TO_STDERR": "0"}
TOKEN_TODO = "put the cluster's token where Ray looks for it: RAY_AUTH_TOKEN, or ~/.ray/auth_token"
"""Clusters of Ray 2.60 ask for one, unless RAY_AUTH_MODE is disabled."""
SAME = "make both sides the same, patch level included: what one pickles the other must read"


def ray(patient: Patient) -> Findings:
    """Its version, and of a cluster whether it is there, is the same, and has what the job's engines need."""
    try:
        here = version("ray")
    except PackageNotFoundError:
        yield failed("ray", "it is not installed", "pip install gemstream")
        return
    address = patient.address
    if address is None:
        yield ok(
            "ray", f"{here}; RAY_ADDRESS names no cluster: a run starts a Ray of its own on this machine"
        )
        return
    yield ok("ray", here)
    scheme = urlsplit(address).scheme
    if scheme in ("http", "https"):
        yield from _job_server(address, here, patient)
        return
    unreached = None if address in ("auto", "local") else _unreached(address.removeprefix("ray://"))
    yield from [unreached] if unreached else _joined(address, patient)


def _unreached(address: str) -> Finding | None:
    """Why nothing answers there, sooner and clearer than Ray says it; None where something does."""
    host, _, port = address.rpartition(":")
    subject = f"cluster {address}"
    if not host or not port.isdigit():
        todo = "write host:port (6379), ray://host:10001, or http://host:8265 for jobs that are submitted"
        return failed(subject, "it is no address of a cluster", todo)
    todo = "start the cluster, correct the address, or open the port between this machine and the head"
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        return failed(subject, f"nothing answers there ({error.strerror or error})", todo)
    return None


def _joined(address: str, patient: Patient) -> Findings:
    subject = f"cluster {address}"
    try:
        found = ask("pipelines.doctor.cluster:joined", [address], JOIN_SECONDS, QUIET)
    except NoAnswer as error:
        todo = (
            "is it a Ray head, and is this machine a node of it? From outside take ray://host:10001, or "
            "http://host:8265 to submit"
        )
        yield failed(subject, str(error), todo)
        return
    if "refused" in found:
        yield _refused(subject, found["refused"])
        return
    ours = platform.python_version()
    yield ok(subject, f"joined, with Ray {found['ray']} and Python {ours} as here; nodes: {found['nodes']}")
    yield from _room(found["resources"], patient)


def joined(address: str) -> dict[str, Any]:
    """In the child: what a cluster has, or why it lets nobody in."""
    import ray as library

    try:
        library.init(address, logging_level="ERROR", log_to_driver=False)
    except (RuntimeError, ConnectionError, ValueError) as error:
        return {"refused": str(error)}
    nodes = sum(node["Alive"] for node in library.nodes())
    return {"ray": library.__version__, "nodes": nodes, "resources": library.cluster_resources()}


def _refused(subject: str, words: str) -> Finding:
    versions = MISMATCH.search(words)
    if versions is None:
        told = " ".join(words.split())[:300]
        todo = "look whether this machine is a node of the cluster and has its token (RAY_AUTH_TOKEN)"
        return failed(subject, told, todo)
    theirs, their_python, ours, our_python = versions.groups()
    told = f"it runs Ray {theirs} on Python {their_python}, here it is {ours} on {our_python}"
    return failed(subject, told, SAME)


def _job_server(address: str, here: str, patient: Patient) -> Findings:
    """The job server, which `gemstream submit` sends to; it says nothing of its Python."""
    subject = f"cluster {address}"
    told = _asked(address, "/api/version")
    if isinstance(told, tuple):
        yield failed(subject, *told)
        return
    theirs = str(told.get("ray_version", "?"))
    if theirs != here:
        yield failed(subject, f"it runs Ray {theirs}, here it is {here}", SAME)
    else:
        yield ok(subject, f"its job server answers, with Ray {theirs} as here")
    listed = _asked(address, "/api/v0/nodes?limit=10000")
    if isinstance(listed, tuple):
        yield warning(subject, f"it does not say what it has: {listed[0]}", listed[1])
        return
    resources: dict[str, float] = {}
    for node in _nodes(listed):
        for name, count in node.items():
            resources[name] = resources.get(name, 0) + count
    yield from _room(resources, patient)


def _nodes(listed: dict[str, Any]) -> list[dict[str, float]]:
    """What each live node has, of the state API's answer."""
    found = ((listed.get("data") or {}).get("result") or {}).get("result") or []
    return [node.get("resources_total") or {} for node in found if node.get("state") == "ALIVE"]


def _asked(address: str, path: str) -> dict[str, Any] | tuple[str, str]:
    """What the dashboard answers; or why it does not, and what to do. Ray's own client may refuse another
    version before it says which."""
    import httpx2

    todo = "start the head with its dashboard, correct the address, or open the port (kubectl port-forward)"
    token = _token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx2.get(address.rstrip("/") + path, timeout=HTTP_SECONDS, headers=headers)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return f"nothing answers there ({type(error).__name__})", todo
    if answer.status_code in (401, 403):
        which = "the token here is not its own" if token else "no token is here"
        return f"it lets in who has its token, and {which} ({answer.status_code})", TOKEN_TODO
    try:
        said = answer.json()
    except ValueError:
        said = None
    if answer.status_code != 200 or not isinstance(said, dict):
        return f"what answers there is no Ray dashboard (status {answer.status_code})", todo
    return said


def _token() -> str:
    """Ray's, from where Ray looks for it; empty where there is none."""
    if told := os.environ.get("RAY_AUTH_TOKEN"):
        return told
    place = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return place.read_text().strip() if place.is_file() and os.access(place, os.R_OK) else ""


def _room(resources: dict[str, float], patient: Patient) -> Findings:
    """Whether the job's engines find their places."""
    gpus, cpus = resources.get("GPU", 0.0), resources.get("CPU", 0.0)
    memory = resources.get("object_store_memory", 0.0)
    told = f"{cpus:g} CPUs, {gpus:g} GPUs, {size(memory)} of object store"
    if cpus < 1:
        yield warning(
            "resources", f"{told}: no CPU for a parser", "wait for nodes, or let the autoscaler add some"
        )
        return
    if not patient.hosts_model or not patient.engines:
        yield ok("resources", told)
        return
    each = patient.job.engine.gpus
    if each is None and not gpus:
        todo = (
            "where nodes come on demand set engine.gpus to 1, so that engines wait for them; else they start "
            "on CPUs"
        )
        yield warning("resources", f"{told}: no GPU now", todo)
        return
    need = patient.engines * (1.0 if each is None else each)
    if need > gpus:
        told = f"{told}; {patient.engines} engines need {need:g} GPUs"
        todo = "engines without one wait for it: fewer engine.replicas, or nodes that the autoscaler may add"
        yield warning("resources", told, todo)
    else:
        yield ok("resources", f"{told}; {patient.engines} engines need {need:g} GPUs")
