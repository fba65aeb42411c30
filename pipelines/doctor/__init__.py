"""What a machine, a store and a cluster must have for a run: one file for each group of checks.

A check is a function that looks at one thing and yields a finding for each part of it: it is well, it is
something to know about, or it would stop a run, with what to do. Checks run side by side, each in a thread
and with a time limit of its own (`examine.py`); what may crash or hang for good is asked in a process of its
own (`child.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from schemas.job import JobSpec
    from schemas.models import Pool

CHECKS = {
    "python": "pipelines.doctor.python:python",
    "packages": "pipelines.doctor.python:packages",
    "gpu": "pipelines.doctor.gpu:gpu",
    "engine": "pipelines.doctor.engine:engine",
    "ray": "pipelines.doctor.cluster:ray",
    "disk": "pipelines.doctor.room:disk",
    "memory": "pipelines.doctor.room:shared_memory",
    "files": "pipelines.doctor.room:descriptors",
    "storage": "pipelines.doctor.storage:storage",
    "clock": "pipelines.doctor.clock:clock",
    "models": "pipelines.doctor.models:models",
    "job": "pipelines.doctor.job:job",
}
"""Name -> "module:function", in the order of the report."""

OF_THIS_MACHINE = frozenset({"gpu", "engine", "disk", "memory", "files"})
"""Their failures are warnings where a run goes to a cluster: it is other machines that need the thing."""

SECONDS = {"engine": 45.0, "ray": 30.0, "storage": 30.0, "models": 30.0, "job": 30.0}
"""Wall seconds that a check may take, where it is not `USUAL_SECONDS`: vLLM takes 10 s of CPU to import."""
USUAL_SECONDS = 20.0


class Status(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(BaseModel):
    """One line of a diagnosis."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str = Field("", description="Name of the check; filled in by who runs it.")
    subject: str = Field(description="What was looked at.")
    status: Status
    told: str = Field(description="What is so.")
    todo: str = Field("", description="What to do about it; empty where it is well.")


Findings = Generator[Finding, None, None]
Check = Callable[["Patient"], Findings]


@dataclass(frozen=True)
class Patient:
    """What is to be well.

    Attributes:
        job: the job; what was not named of it is filled in, and is none of the following.
        sources: addresses to be read, if any were named.
        output: the address to be written to, if one was named.
        has_tasks: whether the job's tasks were named.
        address: of the cluster to run on; None for a Ray of the run's own on this machine.
    """

    job: JobSpec
    sources: tuple[str, ...] = ()
    output: str | None = None
    has_tasks: bool = False
    address: str | None = None

    @property
    def models(self) -> dict[Pool, str]:
        """The model of each pool that the job needs; without tasks those that are named."""
        from pipelines.plan import DEFAULT_MODELS, pools_of

        needed = [pool for pool, _ in pools_of(self.job.asked)] if self.has_tasks else list(DEFAULT_MODELS)
        named = {pool: getattr(self.job.models, pool) for pool in needed}
        if self.has_tasks:
            return {pool: model or DEFAULT_MODELS[pool] for pool, model in named.items()}
        return {pool: model for pool, model in named.items() if model}

    @property
    def engines(self) -> int:
        """How many there are to be at least."""
        return len(self.models) * self.job.engine.replicas

    @property
    def hosts_model(self) -> bool:
        """Whether the job's engine loads weights, here or on the cluster."""
        return self.job.engine.kind == "vllm"


def ok(subject: str, told: str) -> Finding:
    """It is well."""
    return Finding(subject=subject, status=Status.OK, told=told)


def warning(subject: str, told: str, todo: str) -> Finding:
    """A run goes on all the same."""
    return Finding(subject=subject, status=Status.WARNING, told=told, todo=todo)


def failed(subject: str, told: str, todo: str) -> Finding:
    """It would stop a run."""
    return Finding(subject=subject, status=Status.FAILED, told=told, todo=todo)


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit, power in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
