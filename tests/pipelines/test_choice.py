"""`auto`: a model in the word's place, by what an engine's device has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.choice import Memory, memory_of_cluster, settle_models
from pipelines.cli import app
from pipelines.plan import make_plan
from schemas.errors import JobError
from schemas.job import JobSpec, make_job
from schemas.models import CARDS
from workers.memory import total

L4 = Memory(23.6, "NVIDIA L4")


def job_of(tasks: tuple[str, ...] = ("ocr", "transcribe"), **models: Any) -> JobSpec:
    return make_job({"input": ".", "output": "out", "tasks": list(tasks), "models": models})


def never() -> Memory:
    raise AssertionError("nothing is auto, so no device is asked")


def test_a_job_that_names_its_models_is_left_as_it_is() -> None:
    job = job_of(vision="google/gemma-3-4b-it")
    assert settle_models(job, never) == settle_models(job)
    assert settle_models(job, never).job is job


def test_a_pool_that_no_task_needs_is_not_settled() -> None:
    assert settle_models(job_of(("ocr",), audio="auto"), never).reasons == {}


@pytest.mark.parametrize(
    ("precision", "source"),
    [
        (None, "google/gemma-3-4b-it"),
        ("balanced", "RedHatAI/gemma-3-12b-it-FP8-dynamic"),
        ("efficiency", "RedHatAI/gemma-3-27b-it-quantized.w4a16"),
    ],
)
def test_the_fingerprint_is_of_the_chosen_model_and_not_of_the_word(
    precision: str | None, source: str
) -> None:
    asked = job_of(vision="auto", **({"precision": precision} if precision else {}))
    settled = settle_models(asked, lambda: L4)
    named = job_of(vision=source)
    assert settled.job == named, "and the run's job.yaml names it"
    assert make_plan(settled.job, None, 1.0).fingerprints == make_plan(named, None, 1.0).fingerprints
    reason = settled.reasons["vision"]
    assert source in reason and "23.6 GB of NVIDIA L4" in reason and (precision or "quality") in reason


def test_without_a_gpu_the_pools_share_the_hosts_memory() -> None:
    both = job_of(vision="auto", audio="auto", precision="balanced")
    settled = settle_models(both, lambda: Memory(30.0)).job.models
    assert (settled.vision, settled.audio) == ("google/gemma-3-4b-it", "google/gemma-3n-E2B-it")
    with pytest.raises(JobError, match="10.0 GB"):
        settle_models(both, lambda: Memory(20.0))
    assert settle_models(job_of(("ocr",), vision="auto"), lambda: Memory(20.0)).reasons


def test_precision_without_auto_is_refused() -> None:
    with pytest.raises(JobError, match="models.precision"):
        job_of(vision="google/gemma-3-12b-it", precision="balanced")


def test_ray_without_gpus_tells_the_hosts_memory(ray_cluster: None) -> None:
    assert memory_of_cluster(0.0) == Memory(total() / 1e9)


def test_a_plan_says_what_auto_picks_and_why(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    flags = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-t", "ocr", "--vision-model", "auto"]
    done = CliRunner().invoke(app, ["plan", *flags, "--json", "--set", "engine.gpus=0"])
    if total() < 10.4e9:
        assert isinstance(done.exception, JobError) and "10.4 GB" in done.exception.message
        return
    seen = json.loads(done.stdout)
    assert seen["models"] == {"vision": "google/gemma-3-4b-it@main"}
    assert "no GPU: the smallest" in seen["choices"]["vision"]


def test_models_prints_every_row() -> None:
    shown = CliRunner().invoke(app, ["models"], env={"COLUMNS": "160"})
    assert shown.exit_code == 0
    told = CliRunner().invoke(app, ["models", "--json"])
    rows = {row["name"]: row for row in json.loads(told.stdout)}
    assert list(rows) == [card.name for card in CARDS]
    assert rows["Gemma 3 270M"]["gigabytes"]["bf16"] is None, "what nobody says is not made up"
    for card in CARDS:
        assert card.name in shown.stdout and (card.weights["bf16"] or "") in shown.stdout
        assert rows[card.name]["weights"] == card.weights
