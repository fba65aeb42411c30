"""Every manifest, of Kustomize or rendered, is what Kubernetes and KubeRay take, and keeps our own rules."""

from __future__ import annotations

import copy
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.deploying.kustomize import TREE, apply, build
from pipelines.deploying.render import Where, render
from pipelines.graph import EXPAND_MEMORY, READ_MEMORY
from schemas.errors import GemstreamError
from schemas.job import load_job, make_job
from tests.conftest import ROOT
from tests.deploy.kubernetes import Resource, faults, node_types

OVERLAYS = sorted(path.parent.name for path in TREE.glob("overlays/*/kustomization.yaml"))
JOB = TREE / "base" / "job.yaml"
RENDERED = {
    "gke": Where("gke"),
    "gke-h100": Where("gke", gpu="H100"),
    "eks": Where("eks"),
    "eks-h100": Where("eks", gpu="H100"),
    "kind": Where("kind"),
    "gke-scheduled": Where("gke", schedule="0 3 * * *"),
}
GIB = 1024**3


def job_of(overlay: str) -> Path:
    own = TREE / "overlays" / overlay / "job.yaml"
    return own if own.is_file() else JOB


@cache
def kustomized(overlay: str) -> list[Resource]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here: install the package kubernetes-client, or kubectl from pkgs.k8s.io")
    # By the path that a user types.
    command = ["kubectl", "kustomize", str(ROOT / "deploy" / "k8s" / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def keyed(resources: list[Resource] | tuple[Resource, ...]) -> dict[tuple[str, str], Resource]:
    """By kind and name, and the job as what it says and not as how it is written."""
    found = {}
    for one in copy.deepcopy(resources):
        if one["kind"] == "ConfigMap":
            one["data"]["job.yaml"] = make_job(yaml.safe_load(one["data"]["job.yaml"])).public()
        found[one["kind"], one["metadata"]["name"]] = one
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid(overlay: str) -> None:
    for resource in kustomized(overlay):
        assert faults(resource) == [], resource["kind"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_our_kustomize_is_kubectls(overlay: str) -> None:
    if overlay.endswith("raycronjob"):
        with pytest.raises(GemstreamError, match="replacements"):
            build(f"overlays/{overlay}")
        return
    assert keyed(build(f"overlays/{overlay}")) == keyed(kustomized(overlay))


@pytest.mark.parametrize("overlay", sorted(RENDERED))
def test_a_rendered_job_is_valid_and_what_kustomize_makes(overlay: str) -> None:
    made = render(load_job(job_of(overlay)), RENDERED[overlay])
    for resource in made.resources:
        assert faults(resource) == [], resource["kind"]
    assert list(yaml.safe_load_all(made.text("title"))) == list(made.resources)
    assert keyed(made.resources) == keyed(kustomized(overlay))


def test_every_overlay_but_the_alpha_one_is_rendered() -> None:
    assert {*RENDERED, "gke-raycronjob"} == set(OVERLAYS)


def test_the_sizes_are_those_of_the_graph() -> None:
    spec = next(one for one in build("overlays/gke") if one["kind"] == "RayJob")["spec"]
    group = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    cpus = int(group["rayStartParams"]["num-cpus"])
    store = int(group["rayStartParams"]["object-store-memory"])
    there = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"][:-2]) * GIB
    assert there >= cpus * EXPAND_MEMORY + READ_MEMORY + store + GIB
    versions = [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if "ray[data" in line]
    assert spec["rayClusterSpec"]["rayVersion"] in versions[0]


def test_rays_autoscaler_reads_what_engines_and_parsers_ask_for() -> None:
    types = node_types(next(one for one in build("overlays/gke") if one["kind"] == "RayJob"))
    head, parsers, vision, audio = (types[name] for name in ("headgroup", "cpu", "vision", "audio"))
    assert head["resources"]["CPU"] == 0 and head["max_workers"] == 0
    assert parsers["min_workers"] == 1 and parsers["labels"] == {}
    # An engine's place, and no memory: of that every parser asks for some, and so it stays off.
    assert vision["resources"] == {"CPU": 1, "GPU": 1, "memory": 1} == audio["resources"]
    assert (vision["min_workers"], vision["idle_timeout_s"]) == (0, 120)
    within = load_job(JOB).engine.node_labels
    assert (vision["labels"], audio["labels"]) == (within["vision"], within["audio"])
    assert parsers["resources"]["memory"] >= 8 * EXPAND_MEMORY


Break = Callable[[Resource], object]


def _head(spec: Resource) -> Resource:
    return spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]


def _groups(spec: Resource) -> list[Resource]:
    return spec["rayClusterSpec"]["workerGroupSpecs"]


def _container(pod: Resource) -> Resource:
    return pod["containers"][0]


BROKEN: list[tuple[str, Break]] = [
    ("backofLimit", lambda spec: spec.update(backofLimit=3)),
    ("minReplica", lambda spec: _groups(spec)[0].update(minReplica=1)),
    ("'three' is not of type", lambda spec: spec.update(backoffLimit="three")),
    ("enableAutoscaling", lambda spec: spec["rayClusterSpec"].update(enableAutoscaling=True)),
    ("restartPolcy", lambda spec: spec["submitterPodTemplate"]["spec"].update(restartPolcy="Never")),
    ("root:", lambda spec: _head(spec)["securityContext"].update(runAsNonRoot=False)),
    ("root:", lambda spec: _head(spec).pop("securityContext")),
    ("seccomp:", lambda spec: _head(spec)["securityContext"].pop("seccompProfile")),
    ("rights:", lambda spec: _container(_head(spec))["securityContext"].pop("capabilities")),
    ("files:", lambda spec: _container(_head(spec))["securityContext"].pop("readOnlyRootFilesystem")),
    ("memory:", lambda spec: _container(_head(spec))["resources"]["limits"].update(memory="32Gi")),
    ("requests:", lambda spec: _container(_head(spec))["resources"].pop("requests")),
    ("image:", lambda spec: _container(_head(spec)).update(image="registry.example.com:5000/gemstream")),
    ("image:", lambda spec: _container(_head(spec)).update(image="gemstream:latest")),
    ("secret:", lambda spec: _container(_head(spec))["env"].append({"name": "HF_TOKEN", "value": "hf_x"})),
    ("head:", lambda spec: _head(spec).update(nodeSelector={"cloud.google.com/gke-spot": "true"})),
    ("head:", lambda spec: _head(spec).pop("affinity")),
    ("backoffLimit:", lambda spec: spec.pop("backoffLimit")),
    ("preRunningDeadlineSeconds:", lambda spec: spec.pop("preRunningDeadlineSeconds")),
    ("autoscaler: requests", lambda spec: spec["rayClusterSpec"]["autoscalerOptions"].pop("resources")),
    ("autoscaler: rights", lambda spec: spec["rayClusterSpec"]["autoscalerOptions"].pop("securityContext")),
    ("authOptions:", lambda spec: spec["rayClusterSpec"].pop("authOptions")),
    ("shutdownAfterJobFinishes:", lambda spec: spec.update(shutdownAfterJobFinishes=False)),
    ("tolerations:", lambda spec: _groups(spec)[1]["template"]["spec"].pop("tolerations")),
    ("num-gpus:", lambda spec: _groups(spec)[1]["rayStartParams"].pop("num-gpus")),
    ("replicas:", lambda spec: _groups(spec)[1].update(maxReplicas=-1)),
    ("shm:", lambda spec: _groups(spec)[0]["rayStartParams"].update({"object-store-memory": str(8 * GIB)})),
    ("drain:", lambda spec: _groups(spec)[0]["template"]["spec"].update(terminationGracePeriodSeconds=5)),
]


@pytest.mark.parametrize(
    ("words", "broken"), BROKEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_rule_can_fail(words: str, broken: Break) -> None:
    rayjob = next(one for one in build("overlays/gke") if one["kind"] == "RayJob")
    broken(rayjob["spec"])
    found = faults(rayjob)
    assert any(words in fault for fault in found), found


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("name:", {"op": "replace", "path": "/metadata/name", "value": "Gem_stream"}),
        ("name:", {"op": "replace", "path": "/metadata/name", "value": "g" * 53}),
        ("concurencyPolicy", {"op": "add", "path": "/spec/concurencyPolicy", "value": "Forbid"}),
    ],
)
def test_each_rule_of_a_cron_job_can_fail(words: str, change: dict[str, Any]) -> None:
    cron = next(one for one in build("overlays/gke-scheduled") if one["kind"] == "CronJob")
    assert faults(cron) == []
    apply(cron, [change])
    assert any(words in fault for fault in faults(cron))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "gemstream"},
        "stringData": {"A": "b"},
    }
    assert any("secret:" in fault for fault in faults(secret))


def test_the_wheel_has_the_sources(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("pipelines/k8s/")}
    there = {f"pipelines/k8s/{path.relative_to(TREE)}" for path in TREE.rglob("*") if path.is_file()}
    assert names == there
