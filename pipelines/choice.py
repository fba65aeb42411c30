"""`auto`: asks the device that an engine is to live on for its memory, and names a model that suits it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.cluster import cluster
from pipelines.plan import pools_of
from schemas.errors import EngineUnavailable, JobError
from schemas.models import AUTO, choose
from workers.memory import total
from workers.registry import ENGINES, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.job import EngineOptions, JobSpec

KIND = "accelerator_type:"
"""Ray's own resource that says which GPU a node has."""
SLIVER = 0.001
"""Of such a resource: enough to be put on such a node."""
ANSWER_SECONDS = 300
"""Time that a node has to say what its GPU is: Ray's worker starts and imports torch in some ten."""


@dataclass(frozen=True)
class Memory:
    """What one engine can have, in 10^9 bytes, and of which GPU; `gpu` is empty where there is none."""

    gigabytes: float
    gpu: str = ""


@dataclass(frozen=True)
class Chosen:
    """A job whose models are named, and for each pool whose model was left to `auto` the reason."""

    job: JobSpec
    reasons: dict[str, str]


def unlimited() -> Memory:
    """Before any device is asked: what is refused with this is refused with any."""
    return Memory(math.inf, "some GPU")


def settle_models(job: JobSpec, measure: Callable[[], Memory] = unlimited) -> Chosen:
    """The job with a model in place of each `auto`.

    Args:
        job: as the user wrote it.
        measure: what an engine's device has; asked once, and only if something is `auto`.

    Raises:
        JobError: no model fits, or the engine hosts none.
    """
    used = [pool for pool, _ in pools_of(job.tasks)]
    pools = [pool for pool in used if getattr(job.models, pool) == AUTO]
    if not pools:
        return Chosen(job, {})
    if not resolve(ENGINES, job.engine.kind, "engine").hosts_model:
        raise JobError(
            f"models.{pools[0]}: {AUTO} goes by the memory of a GPU here, and the engine {job.engine.kind} "
            "asks a server; name a model that the server has",
            key=f"models.{pools[0]}",
        )
    memory = measure()
    if memory.gpu:
        gigabytes, precision = memory.gigabytes, job.models.precision or "quality"
        why = f"the largest at {precision} for the {gigabytes:.1f} GB of {memory.gpu}"
    else:
        # Engines share the host's memory. A model is as slow there as it is large, and bf16 is what any CPU
        # computes.
        gigabytes, precision = memory.gigabytes / len(used), "quality"
        why = f"no GPU: the smallest at {precision}, for {gigabytes:.1f} GB of this machine's memory"
    named: dict[str, str] = {
        pool: choose(pool, gigabytes, precision, smallest=not memory.gpu).source for pool in pools
    }
    models = job.models.model_copy(update={**named, "precision": None})
    reasons = {pool: f"{source}, {why}" for pool, source in named.items()}
    return Chosen(job.model_copy(update={"models": models}), reasons)


def memory_at_hand(options: EngineOptions) -> Memory:
    """As `memory_of_cluster`, for a plan: of this machine, unless `RAY_ADDRESS` names a cluster."""
    if "RAY_ADDRESS" not in os.environ:
        return _share(_measured(), 1.0 if options.gpus is None else options.gpus)
    with cluster():
        from pipelines.graph import gpus_per_engine

        return memory_of_cluster(gpus_per_engine(options))


def memory_of_cluster(gpus: float) -> Memory:
    """What every node that an engine may come to live on can give it: one node of each kind is asked.

    Args:
        gpus: GPUs per engine; of a fraction, that fraction counts.

    Raises:
        EngineUnavailable: a node did not answer.
    """
    import ray
    from ray.exceptions import GetTimeoutError

    kinds = [name for name in ray.cluster_resources() if name.startswith(KIND)] if gpus else []
    # As much of a GPU as an engine takes, so that it is asked where an engine could live.
    ask = ray.remote(num_cpus=0, num_gpus=gpus)(_measured)
    asked = [ask.options(resources={kind: SLIVER}).remote() for kind in kinds] or [ask.remote()]
    try:
        found: list[Memory] = ray.get(asked, timeout=ANSWER_SECONDS)
    except GetTimeoutError as error:
        raise EngineUnavailable(
            f"no node said within {ANSWER_SECONDS} s what memory its GPU has: perhaps all are in use; "
            "name models.vision and models.audio instead of auto"
        ) from error
    return _share(min(found, key=lambda memory: memory.gigabytes), gpus)


def _share(memory: Memory, gpus: float) -> Memory:
    """What an engine has of it: of a GPU that several share, its part; without GPUs for it, the host's."""
    if not gpus:
        return _host()
    return Memory(memory.gigabytes * min(1.0, gpus), memory.gpu) if memory.gpu else memory


def _measured() -> Memory:
    """The smallest GPU that torch sees here (CUDA, ROCm, a slice of MIG); without one, the host."""
    try:
        import torch
    except ImportError:
        return _host()
    if not torch.cuda.is_available():
        return _host()
    seen = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    least = min(seen, key=lambda device: device.total_memory)
    return Memory(least.total_memory / 1e9, least.name)


def _host() -> Memory:
    return Memory(total() / 1e9)
