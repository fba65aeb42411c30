"""What a manifest is held to: KubeRay's schemas, Kubernetes' own, and rules of this project."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator

from pipelines.deploying.kustomize import containers

Resource = dict[str, Any]
SCHEMAS = Path(__file__).parents[1] / "fixtures" / "kuberay" / "schemas.json.gz"
VERSION = "1.34"
"""Of Kubernetes: the oldest that is supported upstream in November 2026."""
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD")
SECRET_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE"


def faults(resource: Resource) -> list[str]:
    """Everything that is wrong with it, in one line each."""
    return [*by_schema(resource), *by_rule(resource)]


def by_schema(resource: Resource) -> Iterator[str]:
    """By the schema of its kind, and every pod within by Kubernetes' own, misspelt fields included."""
    if resource["apiVersion"] == "ray.io/v1":
        for error in validator(resource["kind"]).iter_errors(resource):
            yield f"{error.json_path}: {error.message[:200]}"
    else:
        yield from strictly(resource)
    for where, template in templates(resource):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        yield from (f"{where}: {fault}" for fault in strictly(pod))


def strictly(resource: Resource) -> Iterator[str]:
    try:
        kubernetes_validate.validate(resource, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message[:200]}"


@cache
def validator(kind: str) -> Draft202012Validator:
    """Of the CRD's schema. What it does not know the API server drops without a word; here it is refused."""
    schema = json.loads(gzip.decompress(SCHEMAS.read_bytes()))[kind]
    schema["properties"]["metadata"]["properties"] = {
        "name": {}, "namespace": {}, "labels": {}, "annotations": {},
    }  # fmt: skip
    return Draft202012Validator(_closed(schema))


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(value) for value in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if "properties" in node and isinstance(node["properties"], dict) and node.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def templates(node: Any, where: str = "") -> Iterator[tuple[str, Resource]]:
    """The pods that a manifest makes."""
    if isinstance(node, dict):
        if "containers" in node.get("spec", {}):
            yield where, node
        for key, value in node.items():
            yield from templates(value, f"{where}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from templates(value, f"{where}[{index}]")


def node_types(rayjob: Resource) -> dict[str, Any]:
    """What Ray's autoscaler makes of a RayJob's groups, by name; the head's is `headgroup`."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    cluster = rayjob["spec"]["rayClusterSpec"]
    return autoscaling_config._generate_available_node_types_from_ray_cr_spec(cluster)


def by_rule(resource: Resource) -> Iterator[str]:
    """This project's own rules."""
    name = resource["metadata"]["name"]
    if not NAME.fullmatch(name) or len(name) > (47 if resource["kind"] == "RayJob" else 52):
        yield f"name: {name!r} is no label of DNS, or too long"
    if resource["kind"] == "Secret":
        yield "secret: a Secret is made by hand, not by a file"
    for where, template in templates(resource):
        yield from (f"{where}: {fault}" for fault in _pod_faults(template["spec"]))
    for container in containers(resource):
        yield from (f"{container['name']}: {fault}" for fault in _container_faults(container))
    if resource["kind"] == "RayJob":
        yield from _cluster_faults(resource["spec"])


def _pod_faults(pod: Resource) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "root: it may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccomp: any system call is allowed"


def _container_faults(container: Resource) -> Iterator[str]:
    asked = container.get("resources", {})
    requests, limits = asked.get("requests", {}), asked.get("limits", {})
    if "cpu" not in requests or "memory" not in requests:
        yield "requests: none of CPU or memory"
    if requests.get("memory") != limits.get("memory"):
        yield "memory: requests and limits differ, and what is between them is killed for"
    image = container["image"].rpartition("/")[2]
    digest, tag = "@sha256:" in image, image.partition(":")[2]
    if not digest and (not tag or tag == "latest"):
        yield f"image: {container['image']} may be another one tomorrow"
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities") != {
        "drop": ["ALL"]
    }:
        yield "rights: it may gain some"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "files: it may change its own"
    for variable in container.get("env", ()):
        secret = SECRET.search(variable["name"]) and variable["name"] != SECRET_FILE
        if secret and "secretKeyRef" not in variable.get("valueFrom", {}):
            yield f"secret: {variable['name']} is written down"


def _cluster_faults(spec: Resource) -> Iterator[str]:
    cluster = spec["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    # KubeRay makes a container of these, of the head's image.
    autoscaler = {"image": "@sha256:", **cluster["autoscalerOptions"]}
    yield from (f"autoscaler: {fault}" for fault in _container_faults(autoscaler))
    stays = json.dumps([head.get("affinity"), head.get("nodeSelector")])
    on_spot = "spot" in json.dumps([head.get("nodeSelector"), head.get("tolerations")])
    has_gpus = any("num-gpus" in group["rayStartParams"] for group in cluster["workerGroupSpecs"])
    if on_spot or (has_gpus and "DoesNotExist" not in stays and "on-demand" not in stays):
        yield "head: on a node that may go"
    for key in ("backoffLimit", "activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if not spec.get(key):
            yield f"{key}: not said"
    if cluster.get("authOptions") != {"mode": "token"}:
        yield "authOptions: whoever reaches the dashboard can run anything"
    if not spec.get("shutdownAfterJobFinishes"):
        yield "shutdownAfterJobFinishes: nodes stay when the run is over"
    for group in cluster["workerGroupSpecs"]:
        yield from (f"{group['groupName']}: {fault}" for fault in _group_faults(group))


def _group_faults(group: Resource) -> Iterator[str]:
    pod = group["template"]["spec"]
    container, params = pod["containers"][0], group["rayStartParams"]
    cards = container["resources"]["limits"].get("nvidia.com/gpu")
    if cards and not any(one["key"] == "nvidia.com/gpu" for one in pod.get("tolerations", ())):
        yield "tolerations: it asks for a GPU, and GPU nodes turn it away"
    if cards != params.get("num-gpus"):
        yield "num-gpus: not what its container has"
    if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
        yield "replicas: not within their bounds"
    shm = next(one["emptyDir"] for one in pod["volumes"] if one["name"] == "shm")
    room = int(shm["sizeLimit"].removesuffix("Gi")) * 1024**3
    if shm["medium"] != "Memory" or room <= int(params["object-store-memory"]):
        yield "shm: no room for the object store"
    drain = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    if drain >= pod["terminationGracePeriodSeconds"]:
        yield "drain: killed before it is over"
