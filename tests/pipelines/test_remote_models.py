"""A model that a server hosts: which ones a plan takes, what its answers count as, and what it costs here."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import ray

from pipelines.graph import gpus_per_engine
from pipelines.plan import Plan, make_plan
from schemas.errors import JobError
from schemas.job import EngineOptions, JobSpec, make_job
from tests.fixtures.runs import GEMMA3

SERVER = "http://127.0.0.1:8000/v1"
SECRET = "sk-of-somebody"


def job(vision: str = "gemma3:4b", kind: str = "openai", **options: Any) -> JobSpec:
    given = {"base_url": SERVER, **options} if kind == "openai" else options
    engine = {"kind": kind, "options": given}
    return make_job(
        {"input": "in", "output": "out", "tasks": ["ocr"], "models": {"vision": vision}, "engine": engine}
    )


def planned(*args: Any, **options: Any) -> Plan:
    return make_plan(job(*args, **options), None, gpus=0.0)


def test_a_server_may_have_a_model_that_the_table_does_not_know() -> None:
    (lane,) = planned().lanes
    (default,) = planned("google/gemma-3-4b-it").lanes
    assert lane.model.source == "gemma3:4b" and lane.config.max_num_seqs == 16
    measures = {"source", "revision"}
    assert lane.model.model_dump(exclude=measures) == default.model.model_dump(exclude=measures)
    assert lane.asks[0].fingerprint != default.asks[0].fingerprint


@pytest.mark.parametrize(("vision", "kind"), [("gemma3:4b", "vllm"), ("/no/such/folder", "openai")])
def test_what_cannot_be_known_is_refused(vision: str, kind: str) -> None:
    with pytest.raises(JobError, match="models|model"):
        planned(vision, kind)


@pytest.mark.parametrize("vision", ["google/gemma-3-4b-it", str(GEMMA3)])
def test_the_same_weights_count_as_the_same_and_another_name_as_others(vision: str) -> None:
    hosted, served, named = planned(vision, "vllm"), planned(vision), planned(vision, model="gemma3:4b-q4")
    assert served.fingerprints == hosted.fingerprints
    assert named.fingerprints != served.fingerprints
    assert named.lanes[0].model.source == served.lanes[0].model.source


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"base_url": f"http://me:{SECRET}@host/v1"}, "base_url"),
        ({"base_url": f"http://{SECRET}@host/v1"}, "base_url"),
        ({"base_url": f"https://host/v1?key={SECRET}"}, "base_url"),
        ({"base_url": f"https://host/v1#{SECRET}"}, "base_url"),
        ({"base_url": "ftp://host/v1"}, "base_url"),
        ({"base_url": "file:///etc/passwd"}, "base_url"),
        ({"base_url": "host:8000/v1"}, "base_url"),
        ({"base_url": "http:///v1"}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"api_key": SECRET}, "api_key"),
        ({"api_key_env": SECRET}, "api_key_env"),
        ({"extra_body": {"api_key": SECRET}}, "extra_body"),
        ({"extra_body": {"a": [{"Authorization": SECRET}]}}, "extra_body"),
        ({"extra_body": {"model": "another"}}, "extra_body"),
        ({"extra_body": {"stream": True}}, "extra_body"),
        ({"choices": "guided"}, "choices"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"retries": 3}, "retries"),
    ],
)
def test_options_that_do_not_hold_are_refused_before_anything_starts_and_not_repeated(
    options: dict[str, Any], where: str
) -> None:
    with pytest.raises(JobError, match=f"engine.options.{where}") as refused:
        planned(**options)
    assert SECRET not in str(refused.value) and SECRET.encode() not in pickle.dumps(refused.value)
    assert refused.value.__cause__ is None and refused.value.__suppress_context__


@pytest.mark.parametrize("extra", [{"top_k": 1, "stop_token_ids": [1]}, {"chat_template_kwargs": {"a": 1}}])
def test_what_is_no_secret_may_be_sent(extra: dict[str, Any]) -> None:
    assert planned(extra_body=extra).lanes[0].config.options["extra_body"] == extra


@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        ({"kind": "openai"}, 0.0),
        ({"kind": "vllm"}, 1.0),
        ({"kind": "vllm", "gpus": 0.5}, 0.5),
        ({"kind": "vllm", "gpus": 0.0}, 0.0),
    ],
)
def test_a_client_takes_no_gpu(options: dict[str, Any], gpus: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 4.0})
    assert gpus_per_engine(EngineOptions(**options)) == gpus


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("openai", {"extra_body": {"top_p": 0.5}}),
        ("vllm", {"revision": "0123abc"}),
        ("vllm", {"quantization": "fp8"}),
        ("vllm", {"mm_processor_kwargs": {"do_pan_and_scan": True}}),
    ],
)
def test_what_an_engine_is_told_makes_other_answers(kind: str, options: dict[str, Any]) -> None:
    (told,), (plain,) = (planned("google/gemma-3-4b-it", kind, **o).lanes for o in (options, {}))
    assert told.asks[0].fingerprint != plain.asks[0].fingerprint
    (faster,) = planned(
        "google/gemma-3-4b-it", kind, **{"timeout_seconds": 9} if kind == "openai" else {}
    ).lanes
    assert faster.asks[0].fingerprint == plain.asks[0].fingerprint


@pytest.mark.parametrize("name", ["model", "max_model_len", "max_num_seqs", "seed"])
def test_what_a_job_says_elsewhere_is_no_option_of_the_engine(name: str) -> None:
    with pytest.raises(JobError, match=f"engine.options.{name}: set"):
        planned("google/gemma-3-4b-it", "vllm", **{name: 1})


@pytest.mark.parametrize(
    "options", [{"trust_remote_code": True}, {"load_format": "pt"}, {"load_format": "auto"}]
)
def test_no_code_that_comes_with_a_model_is_run(options: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=f"engine.options.{next(iter(options))}"):
        planned("google/gemma-3-4b-it", "vllm", **options)
