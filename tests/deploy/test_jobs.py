"""The example jobs hold: there is one for each task, and each can be planned as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.plan import make_plan
from schemas.job import load_job
from schemas.tasks import TASKS

JOBS = sorted((Path(__file__).parents[2] / "deploy" / "jobs").glob("*.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_an_example_can_be_planned(path: Path) -> None:
    plan = make_plan(load_job(path, {"input": "s3://bucket/in", "output": "s3://bucket/out"}), None, 0.0)
    assert path.stem in {task.kind for task in plan.job.tasks} or path.stem == "everything"
    assert f"deploy/jobs/{path.name}" in path.read_text(), "it says how it is run"


def test_there_is_one_for_each_task() -> None:
    assert {path.stem for path in JOBS} == {*TASKS, "everything"}
    whole = next(path for path in JOBS if path.stem == "everything")
    asked = load_job(whole, {"input": "s3://bucket/in", "output": "s3://bucket/out"}).tasks
    assert {task.kind for task in asked} == set(TASKS)
