"""How many pods of each group a settled job may come to have, and how large each is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pipelines.plan import pools_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.job import JobSpec

READ_CPUS = 1.1
"""Of the task that follows the list and of those that cut it into portions, for each pool."""
WRITE_CPUS = 0.4
"""Of the tasks that write part files, at most (`pipelines.publish`): a node full of parsers has none."""
STOP_SECONDS = 70
"""After the drain, to publish what it brought and to end. An assumption, on the safe side."""
GRACE_SECONDS = 100
"""After the drain, before the pod is killed."""
ANSWER_SECONDS = 10
"""That a node which is told to go stays after a drain that began with it."""
GIB = 1024**3


def size(spec: dict[str, Any], job: JobSpec) -> None:
    """Fit the spec of a RayJob to a job, in place: groups, their bounds, and the time a drain has.

    Args:
        spec: as an overlay has it, with a group `cpu` and one for each pool where there are GPUs.
        job: settled.
    """
    cluster = spec["rayClusterSpec"]
    pools = [pool for pool, _ in pools_of(job.tasks)]
    gpus = job.engine.gpus or 0.0
    most = job.engine.max_replicas or job.engine.replicas
    wanted = {"cpu", *(pools if gpus else ())}
    cluster["workerGroupSpecs"] = [
        group for group in cluster["workerGroupSpecs"] if group["groupName"] in wanted
    ]
    for group in cluster["workerGroupSpecs"]:
        if group["groupName"] == "cpu":
            engines = 0 if gpus else most
            cpus = len(pools) * ((job.expand.workers or 1) + engines + READ_CPUS) + WRITE_CPUS
            group["maxReplicas"] = math.ceil(cpus / int(group["rayStartParams"]["num-cpus"]))
        else:
            _size_gpu_group(group, job, most, gpus)
    _size_drain(cluster, job.limits.drain_seconds)


def _size_gpu_group(group: dict[str, Any], job: JobSpec, most: int, gpus: float) -> None:
    """Engines of less than a GPU share one, and one of several has a pod with as many."""
    engines, cards = (1, math.ceil(gpus)) if gpus >= 1 else (max(1, math.floor(1 / gpus)), 1)
    group["maxReplicas"] = math.ceil(most / engines)
    group["labels"] = dict(job.engine.node_labels[group["groupName"]])
    params, pod = group["rayStartParams"], group["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    params["num-cpus"], params["num-gpus"] = str(engines), str(cards)
    params["object-store-memory"] = str(engines * int(params["object-store-memory"]))
    shm = next(volume for volume in pod["volumes"] if volume["name"] == "shm")["emptyDir"]
    shm["sizeLimit"] = f"{int(params['object-store-memory']) // GIB + 1}Gi"
    times = max(engines, cards)
    for kind in ("requests", "limits"):
        for what, amount in resources[kind].items():
            if what == "nvidia.com/gpu":
                resources[kind][what] = str(cards)
            elif what == "memory":
                resources[kind][what] = f"{int(amount.removesuffix('Gi')) * times}Gi"
            else:
                resources[kind][what] = str(int(amount) * times)


def _size_drain(cluster: dict[str, Any], seconds: float) -> None:
    drain = math.ceil(seconds)
    head = cluster["headGroupSpec"]["template"]["spec"]
    container = head["containers"][0]
    wait = str(drain + STOP_SECONDS)
    next(one for one in container["env"] if one["name"] == "RAY_JOB_STOP_WAIT_TIME_S")["value"] = wait
    container["lifecycle"]["preStop"]["exec"]["command"][-1] = wait
    for pod in _pods(cluster):
        pod["terminationGracePeriodSeconds"] = drain + GRACE_SECONDS
    for group in cluster["workerGroupSpecs"]:
        hook = group["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]
        hook["sleep"]["seconds"] = drain + ANSWER_SECONDS
        for one in group["template"]["spec"]["containers"][0]["env"]:
            if one["name"] == "RAY_JOB_STOP_WAIT_TIME_S":
                one["value"] = wait


def _pods(cluster: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]
