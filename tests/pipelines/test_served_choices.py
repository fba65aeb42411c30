"""What a job may not leave to us where a server hosts its models."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.choice import Memory, settle_models
from pipelines.plan import make_plan
from schemas.errors import JobError
from schemas.job import JobSpec, make_job

SERVED = {"kind": "openai", "options": {"base_url": "http://127.0.0.1:8000/v1"}}


def job(task: Any, **models: Any) -> JobSpec:
    return make_job({"input": "in", "output": "out", "tasks": [task], "engine": SERVED, "models": models})


def never() -> Memory:
    raise AssertionError("it is refused before any device is asked")


@pytest.mark.parametrize(("pool", "task"), [("vision", "ocr"), ("audio", "transcribe")])
def test_auto_is_refused_for_there_is_no_gpu_to_choose_for(pool: str, task: str) -> None:
    with pytest.raises(JobError, match="name a model that the server has") as caught:
        settle_models(job(task, **{pool: "auto"}), never)
    assert caught.value.fields["key"] == f"models.{pool}"


def test_auto_of_a_pool_that_nothing_is_asked_of_says_nothing() -> None:
    assert settle_models(job("ocr", audio="auto"), never).reasons == {}


def test_an_adapter_is_refused_for_a_server_is_sent_none() -> None:
    asked = job({"task": "ocr", "name": "bills", "adapter": "mine"}, adapters={"mine": "me/mine"})
    with pytest.raises(JobError, match="ask that by engine.options.model") as caught:
        make_plan(asked, None, 0)
    assert caught.value.fields["key"] == "tasks.bills.adapter"


def test_adapters_that_no_task_names_are_no_fault() -> None:
    assert make_plan(job("ocr", adapters={"mine": "me/mine"}), None, 0).lanes
