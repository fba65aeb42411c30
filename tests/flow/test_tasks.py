"""Every task over the mixed examples in one run: each answer is typed and valid, or an error row."""

from __future__ import annotations

from typing import Any

import duckdb
import pymupdf
import pytest

from deploy.demo.documents import EXAMPLES
from deploy.demo.paper import PASSWORD
from pipelines.report import RunReport
from schemas.job import JobSpec, load_job
from tests.fixtures.runs import RunJob

PAY = {
    "name": "pay",
    "description": "An invoice is due.",
    "parameters": {
        "type": "object",
        "properties": {"total": {"type": "string", "format": "decimal"}},
        "required": ["total"],
    },
}
TASKS: list[Any] = [
    {"task": "ask", "prompt": "Who sent $file_name?"},
    {"task": "call", "functions": [PAY]},
    {"task": "caption", "style": "alt_text"},
    {"task": "classify", "labels": ["invoice", "letter"], "of": ["page", "image", "audio"]},
    {"task": "moderate", "policies": ["violence", "sexual"]},
    "ocr",
    "summarize",
    "transcribe",
    {"task": "translate", "to": "German"},
]


@pytest.fixture(scope="module")
def report(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    folder = tmp_path_factory.mktemp("tasks")
    with pymupdf.open() as document:
        page = document.new_page()
        page.insert_textbox(
            (40, 40, 555, 800), "The tenant pays the rent on the first day of each month. " * 9
        )
        document.save(folder / "lease.pdf")
    return run_job(
        JobSpec(
            input=[str(EXAMPLES), str(folder / "lease.pdf")],
            output=str(folder / "output"),
            tasks=TASKS,
            language="French",
            models={"vision": "google/gemma-3-4b-it", "audio": "google/gemma-3n-E2B-it"},
            engine={"kind": "fault", "options": {"refuse": 0.05}},
            expand={"pages": "auto", "checked_share": 1, "passwords": [PASSWORD]},
            limits={"failed_share": 0.2},
        )
    )


def rows(report: RunReport, task: str, what: str, where: str = "true") -> list[tuple[Any, ...]]:
    files = f"{report.output.removeprefix('file://')}/records/task={task}/*.parquet"
    return duckdb.sql(f"SELECT {what} FROM read_parquet('{files}') WHERE {where}").fetchall()


def test_every_question_has_an_answer_or_an_error(report: RunReport) -> None:
    assert report.counts.unaccounted == 0 and not report.unsettled
    assert set(report.tasks) == {
        *("ask", "call", "caption", "classify", "moderate-violence", "moderate-sexual", "ocr", "summarize"),
        *("transcribe", "translate"),
    }
    assert {fault.category for fault in report.faults if fault.stage == "infer"} == {"request_refused"}


@pytest.mark.parametrize(
    ("task", "columns", "kinds"),
    [
        ("call", "data.name, data.arguments.pay.total", {"pay"}),
        ("classify", "data.label, data.probability, data.probabilities['letter']", {"invoice"}),
        ("moderate-violence", "data.violates, data.probability, data.policy", {True}),
        ("translate", "data.language, data.translation, data.transcription", {"German"}),
    ],
)
def test_answers_are_typed_and_valid(report: RunReport, task: str, columns: str, kinds: set[Any]) -> None:
    found = rows(report, task, f"valid, {columns}", "text_source = 'model'")
    assert found and all(row[0] is True for row in found)
    assert {row[1] for row in found} == kinds
    assert all(row[2] is not None for row in found)


def test_prose_is_neither_valid_nor_invalid(report: RunReport) -> None:
    assert set(rows(report, "ocr", "valid, invalid_fields")) == {(None, None)}


def test_both_models_answer_a_task_that_is_asked_of_all(report: RunReport) -> None:
    models = {model for (model,) in rows(report, "summarize", "DISTINCT model")}
    assert models == {"google/gemma-3-4b-it", "google/gemma-3n-E2B-it"}
    heard = rows(report, "translate", "DISTINCT shown, data.transcription IS NULL")
    assert {("audio", False), ("image", True)} <= set(heard)


def test_silence_has_no_words_and_no_label(report: RunReport) -> None:
    silent = "text_source = 'silence'"
    assert set(rows(report, "translate", "text, data.translation, valid", silent)) == {("", "", True)}
    assert set(rows(report, "classify", "text, data, valid", silent)) == {("", None, None)}


def test_pages_whose_text_can_be_trusted_are_shown_as_text(report: RunReport) -> None:
    shown = rows(report, "ocr", "DISTINCT shown, part_kind")
    assert ("text", "page") in shown and ("image", "page") in shown and ("image", "image") in shown


def test_and_are_read_by_eye_as_well_as_many_as_the_job_says(report: RunReport) -> None:
    held = report.text_layer["ocr"]
    rates = rows(report, "ocr", "text_layer_cer", "text_layer_cer IS NOT NULL AND shown = 'text'")
    assert 0 < len(rates) <= held.pages
    trusted = rows(report, "ocr", "uri", "shown = 'text' OR text_layer_cer IS NOT NULL")
    assert held.pages + held.not_read >= len(trusted)
    assert set(report.text_layer) == {"ocr"}


def test_the_second_run_asks_only_what_failed(run_job: RunJob, report: RunReport) -> None:
    again = run_job(load_job(f"{report.output.removeprefix('file://')}/_runs/{report.run_id}/job.yaml"))
    assert again.counts.skipped == report.counts.ok
    assert again.counts.unaccounted == 0
