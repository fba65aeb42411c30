"""What each task asks, word for word where a model was tuned for the words, and what it may be asked of."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipelines.plan import make_plan
from schemas.errors import JobError
from schemas.job import JobSpec, make_job
from schemas.rows import PartKind, Shown
from schemas.tasks import TASKS, make_task

OPTIONS: dict[str, dict[str, Any]] = {
    "ask": {"prompt": "What is it?"},
    "call": {
        "functions": [
            {
                "name": "pay",
                "description": "An invoice is due.",
                "parameters": {"type": "object", "properties": {"total": {"type": "string"}}},
            }
        ]
    },
    "classify": {"labels": ["a", "b"]},
    "extract": {"schema": {"type": "object", "properties": {"total": {"type": "number"}}}},
    "moderate": {"policy": "violence"},
    "translate": {"to": "Korean"},
}


def job(*tasks: Any, **settings: Any) -> JobSpec:
    return make_job({"input": "/in", "output": "/out", "tasks": list(tasks), **settings})


def test_every_task_can_be_made_and_asks_of_each_part_it_takes() -> None:
    for kind in TASKS:
        task = make_task({"task": kind, **OPTIONS.get(kind, {})})
        assert task.asked_of <= task.parts
        for shown in Shown:
            assert task.question(shown)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {},
            "Transcribe the following speech segment in its original language, then translate it into "
            "Korean. When formatting the answer, first output the transcription in its original language, "
            "then one newline, then output the string 'Korean: ', then the translation in Korean.",
        ),
        (
            {"source": "English"},
            "Transcribe the following speech segment in English, then translate it into Korean. When "
            "formatting the answer, first output the transcription in English, then one newline, then output "
            "the string 'Korean: ', then the translation in Korean.",
        ),
    ],
)
def test_speech_is_translated_by_the_words_gemma_3n_was_tuned_for(
    options: dict[str, str], words: str
) -> None:
    task = make_task({"task": "translate", "to": "Korean", **options})
    assert task.question(Shown.AUDIO) == words


def test_speech_is_transcribed_by_the_words_gemma_3n_was_tuned_for() -> None:
    end = (
        "Follow these specific instructions for formatting the answer:\n"
        "* Only output the transcription, with no newlines.\n"
        "* When transcribing numbers, write the digits, i.e. write 1.7 and not one point seven, "
        "and write 3 instead of three."
    )
    known = make_task({"task": "transcribe", "spoken": "English"}).question(Shown.AUDIO)
    assert known == f"Transcribe the following speech segment in English into English text. {end}"
    unknown = make_task("transcribe").question(Shown.AUDIO)
    assert unknown == f"Transcribe the following speech segment in its original language. {end}"


def test_the_jobs_language_is_every_answers_unless_a_task_names_one() -> None:
    german = job("caption", {"task": "summarize", "language": "French"}, "ocr", language="German")
    asked = {ask.task.name: ask.questions[Shown.IMAGE] for ask in make_plan(german, None, 0).lanes[0].asks}
    assert "Answer in German." in asked["caption"] and "Answer in French." in asked["summarize"]
    assert "German" not in asked["ocr"], "what is copied out stays in its own language"


def test_a_document_as_a_whole_can_be_asked_about_otherwise_and_its_parts_stay_answered() -> None:
    own = {"task": "summarize", "whole_prompt": "What is it all about?"}
    usual, other = (make_plan(job(task), None, 0).lanes[0] for task in ("summarize", own))
    assert [list(ask.questions.values()) for ask in other.wholes] == [["What is it all about?"]]
    assert [ask.fingerprint for ask in other.asks] == [ask.fingerprint for ask in usual.asks]
    assert [ask.fingerprint for ask in other.wholes] != [ask.fingerprint for ask in usual.wholes]


def test_one_task_of_two_models_has_a_fingerprint_for_each() -> None:
    plan = make_plan(job("summarize", {"task": "ask", "prompt": "Why?", "of": ["audio"]}), None, 0)
    assert {pool: len(lane.asks) for lane in plan.lanes for pool in [lane.pool]} == {"vision": 1, "audio": 2}
    assert len(set(plan.fingerprints["summarize"])) == 4, "of parts and of whole documents"
    assert len(plan.fingerprints["ask"]) == 1
    assert plan.tasks_by_kind["audio"] == ["summarize", "ask"] and plan.tasks_by_kind["page"] == ["summarize"]


def test_several_policies_are_a_task_each() -> None:
    names = [task.name for task in job({"task": "moderate", "policies": ["violence", "no cats"]}).tasks]
    assert names == ["moderate-violence", "moderate-2"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"task": "transcribe", "of": ["page"]}, "can be asked about audio"),
        ({"task": "ask", "prompt": "costs $ 5"}, "begins the name of a column"),
        ({"task": "call", "functions": []}, "at least 1 item"),
        ({"task": "moderate"}, "policy"),
        ({"task": "caption", "style": "epic"}, "short"),
        ({"task": "translate"}, "to"),
    ],
)
def test_what_cannot_be_asked_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises((JobError, ValidationError), match=message):
        job(entry)


def test_a_prompt_names_columns_that_there_are() -> None:
    asking = job({"task": "ask", "prompt": "Does $file_name name $supplier?"})
    make_plan(asking, pa.struct([pa.field("supplier", pa.string())]), 0)
    with pytest.raises(JobError, match=r"names \$supplier, and there is uri, file_name"):
        make_plan(asking, None, 0)


def test_kinds_of_part_are_narrowed_by_of() -> None:
    assert make_task({"task": "ask", "prompt": "?", "of": ["image"]}).asked_of == {PartKind.IMAGE}
    assert PartKind.AUDIO not in make_task({"task": "classify", "labels": ["a", "b"]}).asked_of
