"""A rendered job on a cluster that begins with a head alone: its nodes come as it asks for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.__main__ import upload
from deploy.demo.documents import EXAMPLES
from deploy.demo.objectstore import ObjectStore
from pipelines.deploying.render import Where, render
from schemas.job import make_job
from tests.conftest import ROOT
from tests.deploy.kubernetes import node_types
from tests.fixtures.runs import GEMMA3, GEMMA3N

pytestmark = pytest.mark.thorough


def rendered(store: ObjectStore, tasks: list[str]) -> tuple[str, dict[str, Any]]:
    """The text of the job, and Ray's node types, as `gemstream deploy render` has them in its manifests."""
    job = make_job(
        {
            "input": store.url("autoscaled/in/"),
            "output": store.url("autoscaled/out"),
            "tasks": tasks,
            # Its engines say nothing of use, and ask Ray for what vLLM's do.
            "engine": {"kind": "fault"},
            "models": {"vision": str(GEMMA3), "audio": str(GEMMA3N)},
            "limits": {"failed_share": 1.0},
        }
    )
    made = render(job, Where("gke")).resources
    text = next(one for one in made if one["kind"] == "ConfigMap")["data"]["job.yaml"]
    return text, node_types(next(one for one in made if one["kind"] == "RayJob"))


def test_a_rendered_job_has_its_nodes_by_asking(object_store: ObjectStore, tmp_path: Path) -> None:
    from tests.fixtures.autoscaled import autoscaled

    upload(object_store, EXAMPLES, "autoscaled/in/")
    text, types = rendered(object_store, ["ocr", "transcribe"])
    (tmp_path / "job.yaml").write_text(text)
    environment = object_store.environment()
    with autoscaled(types, environment) as (address, said):
        settings = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "run", str(tmp_path / "job.yaml")],
            env={**os.environ, **environment, **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        words = said.read_text()
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:] + words[-2_000:]
    assert {kind for kind in types if f"node(s) of type {kind}" in words} == {"cpu", "vision", "audio"}
