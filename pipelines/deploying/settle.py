"""A job as a cluster is to be told it: what a run on one machine looks up, said.

When a run begins there is no GPU node yet and one node for parsers, so what it would find is not what there
will be: GPUs an engine, parsers, and for `auto` the memory of a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.choice import Memory, settle_models
from pipelines.plan import DEFAULT_MODELS, make_plan, pools_of
from schemas.errors import JobError
from schemas.gpus import GPUS, Gpu
from schemas.models import MODELS
from schemas.models.cards import BY_ID
from schemas.models.choice import needs
from workers.registry import ENGINES, resolve

if TYPE_CHECKING:
    from schemas.job import JobSpec, PartPool

WORKERS_AN_ENGINE = 2
"""Parsers that feed an engine (README, "A hundred million pages")."""
CARDS = {"L4": "", "H100": "-h100"}
"""GPU that manifests may be for -> what the overlay's name ends with."""
LABEL = "gemstream-pool"
"""Of Ray's nodes: the model that their engines host."""


def settle(job: JobSpec, gpu: Gpu | None) -> JobSpec:
    """The job with everything said.

    Args:
        job: as the user wrote it.
        gpu: what the target's GPU nodes have one of, or several; None where it has none.

    Raises:
        JobError: there is no such job on this target.
    """
    pools = [pool for pool, _ in pools_of(job.tasks)]
    gpus = _gpus(job, gpu)
    if gpu is None or not gpus:
        job = settle_models(job, _no_gpu).job
    else:
        job = settle_models(job, lambda: Memory(gpu.memory * gpus / 1e9, gpu.name)).job
        for pool in pools:
            _refuse_too_large(job, pool, gpu, gpus)
    labels = {pool: job.engine.node_labels.get(pool, {LABEL: pool}) for pool in pools} if gpus else {}
    most = job.engine.max_replicas or job.engine.replicas
    settled = job.model_copy(
        update={
            "engine": job.engine.model_copy(update={"gpus": gpus, "node_labels": labels}),
            "expand": job.expand.model_copy(
                update={"workers": job.expand.workers or WORKERS_AN_ENGINE * most}
            ),
        }
    )
    # What a run would refuse when its cluster has come up. A folder is in the pods, passwords are in the
    # cluster's Secret, and columns of a manifest or table are in the store: those it has to look at itself.
    if (
        settled.manifest is None
        and settled.table is None
        and not any(Path(source).is_absolute() for source in models_of(settled).values())
    ):
        open_here = settled.expand.model_copy(update={"passwords_env": None})
        make_plan(settled.model_copy(update={"expand": open_here}), None, gpus)
    return settled


def models_of(job: JobSpec) -> dict[PartPool, str]:
    """The models that a job's tasks need, by pool."""
    return {pool: getattr(job.models, pool) or DEFAULT_MODELS[pool] for pool, _ in pools_of(job.tasks)}


def _no_gpu() -> Memory:
    raise JobError(
        "models: auto goes by a GPU's memory, and this target has none; name the models", key="models"
    )


def _gpus(job: JobSpec, gpu: Gpu | None) -> float:
    if gpu is None:
        if job.engine.gpus:
            raise JobError(
                f"engine.gpus: {job.engine.gpus:g} of them, and this target has none; set it to 0, or name "
                "another target",
                key="engine.gpus",
            )
        return 0.0
    if job.engine.gpus is not None:
        return job.engine.gpus
    return float(resolve(ENGINES, job.engine.kind, "engine").hosts_model)


def _refuse_too_large(job: JobSpec, pool: PartPool, gpu: Gpu, gpus: float) -> None:
    source = models_of(job)[pool]
    card = BY_ID.get(source)
    if card is None or source not in MODELS:
        return
    width = next(width for width, weights in card.weights.items() if weights == source)
    wanted, there = needs(card, width), gpu.memory * gpus / 1e9
    if wanted > there:
        larger = [other.name for other in GPUS if other.name in CARDS and other.memory * gpus / 1e9 >= wanted]
        hint = f"--gpu {larger[0]}, " if larger else ""
        raise JobError(
            f"models.{pool}: {source} wants {wanted:.0f} GB, and {gpus:g} x {gpu.name} has {there:.0f}; "
            f"{hint}more GPUs an engine (engine.gpus), or a smaller model (`gemstream models`)",
            key=f"models.{pool}",
        )
