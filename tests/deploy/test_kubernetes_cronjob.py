"""What the CronJob's pod does: its own script and the real kubectl, against an API of RayJobs alone.

The cluster here is a list of RayJobs behind HTTP; what KubeRay would do to them, the tests do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from pipelines.deploying.kustomize import build

Resource = dict[str, Any]
VERSION = "/apis/ray.io/v1"
FOLDER = f"{VERSION}/namespaces/gemstream/rayjobs"
KINDS = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
    "/apis": {
        "kind": "APIGroupList",
        "groups": [
            {
                "name": "ray.io",
                "versions": [{"groupVersion": "ray.io/v1", "version": "v1"}],
                "preferredVersion": {"groupVersion": "ray.io/v1", "version": "v1"},
            }
        ],
    },
    VERSION: {
        "kind": "APIResourceList",
        "groupVersion": "ray.io/v1",
        "resources": [
            {
                "name": "rayjobs", "singularName": "rayjob", "kind": "RayJob", "namespaced": True,
                "verbs": ["create", "get", "list", "watch"],
            }
        ],
    },
}  # fmt: skip
MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
RUN = "gemstream-29812345"


class Cluster(ThreadingHTTPServer):
    """RayJobs by name. `becomes` is the status that each look at a run of the schedule takes one of."""

    daemon_threads = True

    def __init__(self, becomes: list[Resource | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        pattern = next(one for one in build("overlays/gke-scheduled") if one["kind"] == "RayJob")
        pattern["metadata"] |= {"uid": "p", "resourceVersion": "1", "generation": 1}
        pattern["status"] = {"jobDeploymentStatus": "Suspended", "startTime": "2026-11-26T00:00:00Z"}
        self.jobs: dict[str, Resource] = {"gemstream": pattern}
        self.becomes = becomes
        self.created: list[Resource] = []

    def look(self, name: str) -> Resource | None:
        """One RayJob, one step further on."""
        if name == RUN and name in self.jobs and self.becomes:
            status = self.becomes.pop(0)
            if status is None:
                del self.jobs[name]
            else:
                self.jobs[name]["status"] = status
        return self.jobs.get(name)


class _Api(BaseHTTPRequestHandler):
    server: Cluster
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(asked.query).items()}
        if asked.path in KINDS:
            self._answer(200, {"apiVersion": "v1", **KINDS[asked.path]})
        elif query.get("watch"):
            # It says nothing and ends: `kubectl wait` looks again by itself until its time is up.
            self._answer(200, None)
        elif asked.path == FOLDER:
            name = query["fieldSelector"].removeprefix("metadata.name=")
            found = self.server.look(name)
            items = [found] if found else []
            listed = {"apiVersion": "ray.io/v1", "kind": "RayJobList", "metadata": {"resourceVersion": "1"}}
            self._answer(200, {**listed, "items": items})
        else:
            found = self.server.look(asked.path.removeprefix(f"{FOLDER}/"))
            self._answer(*((200, found) if found else (404, MISSING)))

    def do_POST(self) -> None:
        made = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.created.append(made)
        self.server.jobs[made["metadata"]["name"]] = made | {"status": {}}
        self._answer(201, made)

    def _answer(self, code: int, body: Resource | None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here: install the package kubernetes-client, or kubectl from pkgs.k8s.io")
    with Cluster(list(request.param)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def launch(cluster: Cluster, folder: Path) -> subprocess.CompletedProcess[str]:
    """The container of the CronJob's pod, as Kubernetes would start it."""
    address = f"http://127.0.0.1:{cluster.server_port}"
    named = {"cluster": "c", "user": "u", "namespace": "gemstream"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "contexts": [{"name": "c", "context": named}],
    }  # fmt: skip
    (folder / "config").write_text(yaml.safe_dump(config))
    cron = next(one for one in build("overlays/gke-scheduled") if one["kind"] == "CronJob")
    container = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    script = container["args"][0].replace("--timeout=60s", "--timeout=1s")
    return subprocess.run(
        [*container["command"], script],
        env={
            "PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(folder / "config"),
            "PATTERN": "gemstream", "RUN": RUN, "OWNER": "0000-1111",
        },
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


STARTED = {"jobDeploymentStatus": "Initializing"}
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
FAILED = {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded", "message": "no GPU node came"}


@pytest.mark.parametrize("cluster", [[{}, STARTED, STARTED, DONE, DONE, DONE]], indirect=True)
def test_a_night_makes_one_run_and_stays_until_it_is_done(cluster: Cluster, tmp_path: Path) -> None:
    done = launch(cluster, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{RUN} is done" in done.stdout
    assert len(cluster.created) == 1
    made, pattern = cluster.created[0], cluster.jobs["gemstream"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": RUN, "uid": "0000-1111"}
    assert made["metadata"]["ownerReferences"] == [owner]
    assert {"uid", "resourceVersion"} & made["metadata"].keys() == set()
    assert made["spec"] == pattern["spec"] | {"suspend": False}
    assert not made.get("status")
    # Another pod of the same Job, after the first was lost: it waits for the run that is there.
    again = launch(cluster, tmp_path)
    assert again.returncode == 0 and len(cluster.created) == 1


@pytest.mark.parametrize("cluster", [[STARTED, FAILED, FAILED, FAILED]], indirect=True)
def test_a_run_that_fails_fails_the_job_with_its_reason(cluster: Cluster, tmp_path: Path) -> None:
    done = launch(cluster, tmp_path)
    # What podFailurePolicy takes for the end, where any other code is another try.
    assert done.returncode == 3, done.stderr
    assert "DeadlineExceeded: no GPU node came" in done.stdout


@pytest.mark.parametrize("cluster", [[STARTED, None]], indirect=True)
def test_a_run_that_somebody_deletes_is_not_made_again(cluster: Cluster, tmp_path: Path) -> None:
    done = launch(cluster, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{RUN} was deleted" in done.stdout
    assert len(cluster.created) == 1


@pytest.mark.parametrize("cluster", [[]], indirect=True)
def test_without_its_pattern_it_makes_nothing_and_is_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    del cluster.jobs["gemstream"]
    done = launch(cluster, tmp_path)
    assert done.returncode not in (0, 3)
    assert "NotFound" in done.stderr and cluster.created == []
