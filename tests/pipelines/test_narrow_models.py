"""What the plan says to a job whose model does not answer everything."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.plan import make_plan
from schemas.errors import JobError
from schemas.job import JobSpec, make_job
from schemas.rows import Shown

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
