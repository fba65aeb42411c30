"""A job -> its manifests, of the same sources as the Kustomize overlays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.deploying.cron import check_schedule, check_time_zone
from pipelines.deploying.kustomize import build, containers
from pipelines.deploying.refusals import (
    NAME_LENGTH,
    NAMESPACE_LENGTH,
    check_image,
    check_name,
    check_role,
    refuse_what_pods_cannot,
)
from pipelines.deploying.settle import CARDS, models_of, settle
from pipelines.deploying.sizes import size
from schemas.errors import JobError
from schemas.gpus import GPUS, Gpu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.job import JobSpec

    Resource = dict[str, Any]

TARGETS = ("gke", "eks", "kind")
SCHEDULE = "components/schedule"
NAME = "gemstream"
"""Of everything in the sources, or its beginning."""
PLACEHOLDER = "registry.example.com/"
KEY = "OPENAI_API_KEY"
STORE = "http://seaweedfs:8333"
CHECKPOINTS = "/gemstream/checkpoints"
"""Of a kind cluster, where `overlays/kind` puts them."""


@dataclass(frozen=True)
class Where:
    """What a manifest says that no job does. `image` is of all pods, but for those that need no GPU where
    `cpu_image` is given."""

    target: str
    gpu: str = "L4"
    name: str = NAME
    namespace: str = NAME
    image: str | None = None
    cpu_image: str | None = None
    role: str | None = None
    schedule: str | None = None
    time_zone: str = "Etc/UTC"
    hours: float | None = None


@dataclass(frozen=True)
class Rendered:
    """Manifests in the order to be applied in, and what is still to be filled in by hand."""

    resources: tuple[Resource, ...]
    notes: tuple[str, ...]

    def text(self, title: str) -> str:
        """As YAML for `kubectl apply`."""
        body = "---\n".join(
            yaml.dump(one, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
            for one in self.resources
        )
        return f"# {title}\n{body}"


def render(job: JobSpec, where: Where) -> Rendered:
    """The manifests of a job.

    Raises:
        JobError: the job or a flag says what no cluster could do.
    """
    _check(where)
    refuse_what_pods_cannot(job, where.target)
    gpu = None if where.target == "kind" else _card(where.gpu)
    settled = settle(job, gpu)
    overlay = f"overlays/{where.target}{CARDS[where.gpu] if gpu else ''}"
    resources = build(overlay, *([SCHEDULE] if where.schedule else []))
    spec = _one(resources, "RayJob")["spec"]
    size(spec, settled)
    if where.hours is not None:
        spec["activeDeadlineSeconds"] = round(where.hours * 3600)
    _one(resources, "ConfigMap")["data"] = {"job.yaml": job_text(settled)}
    _add_secrets(spec, settled)
    _set_images(spec, where)
    if where.schedule:
        cron = _one(resources, "CronJob")["spec"]
        cron["schedule"], cron["timeZone"] = where.schedule.strip(), where.time_zone
    if where.role:
        _set_role(resources, where)
    notes = _notes(resources, where, settled)
    _rename(resources, where)
    # What it needs is there before the RayJob is.
    resources.sort(key=lambda one: one["kind"] in ("RayJob", "CronJob"))
    return Rendered(tuple(resources), tuple(notes))


def job_text(job: JobSpec) -> str:
    """A job as a file that `load_job` reads again. It has no secrets (`refuse_what_pods_cannot`)."""
    values = job.model_dump(mode="json", exclude_defaults=True, exclude={"tasks"})
    tasks = job.public()["tasks"]
    first = {key: values.pop(key) for key in ("input", "manifest", "table", "output") if key in values}
    text: str = yaml.dump(
        first | {"tasks": tasks} | values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return text


def _check(where: Where) -> None:
    if where.target not in TARGETS:
        raise JobError(f"--target {where.target!r}: one of {', '.join(TARGETS)}", key="target")
    if where.target == "kind" and where.role:
        raise JobError("--role: a kind cluster has no AWS to trust it; its keys are a Secret's", key="role")
    _card(where.gpu)
    check_name("--name", where.name, NAME_LENGTH)
    check_name("--namespace", where.namespace, NAMESPACE_LENGTH)
    for flag, image in (("--image", where.image), ("--cpu-image", where.cpu_image)):
        if image is not None:
            check_image(flag, image)
    if where.role:
        check_role(where.role)
    if where.schedule is not None:
        check_schedule(where.schedule)
        check_time_zone(where.time_zone)


def _card(name: str) -> Gpu:
    if name not in CARDS:
        raise JobError(f"--gpu {name!r}: one of {', '.join(CARDS)}", key="gpu")
    return next(gpu for gpu in GPUS if gpu.name == name)


def _one(resources: Sequence[Resource], kind: str) -> Resource:
    return next(one for one in resources if one["kind"] == kind)


def _set_images(spec: dict[str, Any], where: Where) -> None:
    needing = [group["template"] for group in spec["rayClusterSpec"]["workerGroupSpecs"] if _has_gpus(group)]
    on_gpus = {id(container) for template in needing for container in containers(template)}
    for container in containers(spec):
        image = where.image if id(container) in on_gpus else where.cpu_image or where.image
        container["image"] = image or container["image"]


def _has_gpus(group: dict[str, Any]) -> bool:
    return "num-gpus" in group["rayStartParams"]


def _add_secrets(spec: dict[str, Any], job: JobSpec) -> None:
    """What the job names by variables: a server's key, where the engines that ask it live, and documents'
    passwords and the key of hashed names, where the driver does."""
    cluster = spec["rayClusterSpec"]
    if job.engine.kind == "openai":
        for group in cluster["workerGroupSpecs"]:
            _add_secret(group, job.engine.options.get("api_key_env", KEY), optional=True)
    hashes = job.privacy.hash_uris or job.privacy.hash_columns
    named = (job.expand.passwords_env, job.privacy.key_env if hashes else None)
    for variable in dict.fromkeys(filter(None, named)):
        _add_secret(cluster["headGroupSpec"], variable, optional=False)


def _add_secret(group: dict[str, Any], variable: str, *, optional: bool) -> None:
    secret = {"secretKeyRef": {"name": NAME, "key": variable, "optional": optional}}
    container = group["template"]["spec"]["containers"][0]
    container["env"] = [*container["env"], {"name": variable, "valueFrom": secret}]


def _set_role(resources: Sequence[Resource], where: Where) -> None:
    if where.target == "eks":
        _one(resources, "ServiceAccount")["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] = (
            where.role
        )
        return
    for container in containers(_one(resources, "RayJob")):
        for variable in container.get("env", ()):
            if variable["name"] == "AWS_ROLE_ARN":
                variable["value"] = where.role


def _notes(resources: Sequence[Resource], where: Where, job: JobSpec) -> list[str]:
    notes = []
    if where.target == "kind":
        if not job.storage.endpoint_url:
            notes.append(
                "the job names AWS' own store; that of the cluster is storage.endpoint_url: " + STORE
            )
        if large := [pool for pool, source in models_of(job).items() if not Path(source).is_absolute()]:
            notes.append(f"models.{large[0]} is no small one; those of the demo are in {CHECKPOINTS}")
    images = {container["image"] for container in containers(_one(resources, "RayJob"))}
    if any(image.startswith(PLACEHOLDER) for image in images):
        notes.append("images are placeholders: give --image, and --cpu-image for the pods without a GPU")
    if where.target != "kind" and not where.role:
        notes.append("the role that may use the bucket is a placeholder: give --role")
    return notes


def _rename(resources: Sequence[Resource], where: Where) -> None:
    """Another name and namespace, so that several jobs live beside each other."""
    ours = {one["metadata"]["name"] for one in resources if one["metadata"]["name"].startswith(NAME)}
    names = {name: where.name + name.removeprefix(NAME) for name in ours}
    for one in resources:
        one["metadata"]["namespace"] = where.namespace
        for subject in one.get("subjects", ()):
            subject["namespace"] = where.namespace
        _replace_names(one, names)


REFERENCES = {"name", "serviceAccountName"}


def _replace_names(node: Any, names: dict[str, str]) -> None:
    """By exact name, where one refers to another; the Secret is the user's, and labels are what they are."""
    if isinstance(node, list):
        for value in node:
            _replace_names(value, names)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in REFERENCES and value in names:
                node[key] = names[value]
            elif key not in ("labels", "matchLabels", "secretKeyRef"):
                _replace_names(value, names)
        if node.get("name") == "PATTERN":
            node["value"] = names[node["value"]]


class _Dumper(yaml.SafeDumper):
    """Without anchors, and with texts of several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never: what is the same twice is written twice."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
