"""What the plan says to a job whose model does not answer everything."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.plan import make_plan
from schemas.errors import JobError
from schemas.job import JobSpec, make_job
from schemas.rows import PartKind, Shown

SHIELD = "google/shieldgemma-2-4b-it"
MODERATE = {"task": "moderate", "policies": ["violence", "no cats"]}


def job(*tasks: Any, **settings: Any) -> JobSpec:
    values = {"input": "/in", "output": "/out", "tasks": list(tasks), "models": {"vision": SHIELD}}
    return make_job(values | settings)


def test_it_is_asked_the_policy_and_nothing_else() -> None:
    (lane,) = make_plan(job(MODERATE), None, 0).lanes
    assert [ask.questions for ask in lane.asks] == [{Shown.IMAGE: "violence"}, {Shown.IMAGE: "no cats"}]
    assert lane.config.max_model_len == 8_192


def test_a_recording_is_not_asked_of_it() -> None:
    assert len(make_plan(job(MODERATE, "transcribe"), None, 0).lanes) == 2


@pytest.mark.parametrize(
    ("tasks", "settings", "key", "words"),
    [
        ((MODERATE, "ocr", "caption"), {}, "models.vision", "moderate alone, and the job asks ocr, caption"),
        ((MODERATE,), {"engine": {"kind": "openai"}}, "models.vision", "set engine.kind to vllm"),
        (
            ({"task": "moderate", "policy": "violence", "prompt": "Well?"},),
            {},
            "tasks.moderate.prompt",
            "policy",
        ),
        ((MODERATE,), {"expand": {"pages": "auto"}}, "expand.pages", "set it to image"),
        (
            ({**MODERATE, "adapter": "mine"},),
            {"models": {"vision": SHIELD, "adapters": {"mine": "/nowhere"}}},
            "models.adapters",
            "no LoRA adapter",
        ),
    ],
)
def test_what_it_does_not_answer_is_refused_with_the_reason(
    tasks: tuple[Any, ...], settings: dict[str, Any], key: str, words: str
) -> None:
    with pytest.raises(JobError, match=words) as caught:
        make_plan(job(*tasks, **settings), None, 0)
    assert caught.value.fields["key"] == key


GEMMA_4 = "google/gemma-4-E2B-it"


def of_gemma4(tokens: object = None, **models: str) -> JobSpec:
    options = {} if tokens is None else {"mm_processor_kwargs": {"max_soft_tokens": tokens}}
    return job("ocr", "transcribe", models=models, engine={"max_model_len": 2048, "options": options})


def test_gemma_4_sees_in_one_pool_and_hears_in_the_other() -> None:
    seeing, hearing = make_plan(of_gemma4(vision=GEMMA_4, audio=GEMMA_4), None, 0).lanes
    assert (seeing.model.media_tokens, hearing.model.media_tokens) == (280, 750)
    assert seeing.model.parts == {PartKind.PAGE, PartKind.IMAGE} and hearing.model.parts == {PartKind.AUDIO}
    assert seeing.model.media_first and not hearing.model.media_first


@pytest.mark.parametrize(
    ("source", "words"),
    [("google/gemma-4-31B-it", "is shown"), ("google/gemma-4-12B-it", "no run has tried")],
)
def test_one_that_does_not_hear_is_refused_for_recordings(source: str, words: str) -> None:
    with pytest.raises(JobError, match=words):
        make_plan(of_gemma4(vision=GEMMA_4, audio=source), None, 0)


def test_its_pages_are_drawn_and_counted_by_the_budget_that_the_engine_is_given() -> None:
    usual, finer = (make_plan(of_gemma4(tokens, vision=GEMMA_4), None, 0).lanes[0] for tokens in (None, 1120))
    assert (usual.expand.image_size, finer.expand.image_size) == (955, 1910)
    assert usual.asks[0].ceiling_tokens - finer.asks[0].ceiling_tokens == 1120 - 280
    assert usual.asks[0].fingerprint != finer.asks[0].fingerprint


@pytest.mark.parametrize("tokens", [300, "560", True])
def test_a_budget_that_it_does_not_have_is_refused(tokens: object) -> None:
    with pytest.raises(JobError, match="is none of 70, 140, 280, 560, 1120"):
        make_plan(of_gemma4(tokens, vision=GEMMA_4), None, 0)
