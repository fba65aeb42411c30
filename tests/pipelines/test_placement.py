"""Engines ask Ray for the GPUs that the job gives them, on the nodes that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.graph import Sizing, build_wholes
from pipelines.meter import MeterHandle
from pipelines.plan import make_plan
from schemas.job import JobSpec

FaultJob = Callable[..., JobSpec]


@pytest.mark.parametrize("gpus", [0.0, 0.5, 2.0])
def test_an_engine_is_given_its_gpus_on_its_nodes(gpus: float, fault_job: FaultJob, tmp_path: Path) -> None:
    labels = {"vision": {"gemstream-pool": "vision"}, "audio": {"gemstream-pool": "audio"}}
    engine = {"kind": "fault", "gpus": gpus, "node_labels": labels}
    job = fault_job(input=str(tmp_path), tasks=["summarize"], engine=engine)
    plan = make_plan(job, None, gpus)
    sizing = Sizing(expand_workers=1, expand_memory=1, engine_replicas=(1, 3), gpus=gpus)
    made = build_wholes(plan, {"vision": [()]}, MeterHandle(None), None, sizing)
    asked = made._logical_plan.dag.ray_remote_args
    assert (asked["num_cpus"], asked["num_gpus"]) == (1, gpus)
    assert asked["label_selector"] == {"gemstream-pool": "vision"}
