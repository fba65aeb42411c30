"""Questions about whole documents: asked once per document, over what its parts say, and resumed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from deploy.demo.documents import EXAMPLES
from pipelines.preview import preview
from pipelines.report import RunReport
from schemas.job import JobSpec, make_job
from tests.fixtures.runs import RunJob

SUMMARIZE = {"task": "summarize", "sentences": 2}
ALL_DONE = {("ok", True), ("failed", None)}
"""Two of the examples are broken."""


def job(output: Path, *, whole: bool = True, **settings: Any) -> JobSpec:
    values = {
        "input": [str(EXAMPLES)],
        "output": str(output),
        "tasks": ["ocr", {**SUMMARIZE, "whole": whole}],
        "models": {"vision": "google/gemma-3-4b-it", "audio": "google/gemma-3n-E2B-it"},
        "engine": {"kind": "fault"},
        "limits": {"failed_share": 1.0},
    }
    return make_job({**values, **settings})


def rows(output: str, what: str, folder: str = "records/task=summarize") -> list[tuple[Any, ...]]:
    files = f"{output.removeprefix('file://')}/{folder}/*.parquet"
    return duckdb.sql(f"SELECT {what} FROM read_parquet('{files}') ORDER BY ALL").fetchall()


@pytest.fixture(scope="module")
def runs(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> list[RunReport]:
    """One output: asked about parts alone; about whole documents besides, all refused; and once more."""
    output = tmp_path_factory.mktemp("whole")
    refusing = {"kind": "fault", "options": {"refuse": 1.0}}
    return [run_job(job(output, whole=False)), run_job(job(output, engine=refusing)), run_job(job(output))]


def test_each_document_of_several_parts_has_one_answer_about_the_whole(runs: list[RunReport]) -> None:
    assert runs[-1].exit_code == 0 and not runs[-1].unsettled
    said = rows(runs[-1].output, "uri, part_index, part_kind, shown, parts_total")
    about_wholes = [row for row in said if row[1] is None]
    found = [row[0] for row in about_wholes]
    assert sorted(found) == sorted({uri for uri, *_, total in said if total > 1})
    assert {row[2] for row in about_wholes} == {"page", "image", "audio"}
    assert {row[3] for row in about_wholes} == {"text"}


def test_nothing_is_fetched_or_asked_again_for_it(runs: list[RunReport]) -> None:
    parts, _, whole = runs
    by_run = set(rows(whole.output, "run_id, part_index IS NULL"))
    assert by_run == {(parts.run_id, False), (whole.run_id, True)}
    through_lanes = sum(whole.media.values())
    assert through_lanes == whole.counts.failed + whole.counts.filtered, "no document that has its parts"
    asked = sum(part is None for (part,) in rows(whole.output, "part_index"))
    assert {name: task.answers for name, task in whole.tasks.items()} == {"summarize": asked}
    assert whole.counts.ok == asked


def test_what_failed_was_an_error_of_the_document(runs: list[RunReport]) -> None:
    refused, whole = runs[1:]
    faults = [fault for fault in refused.faults if fault.category == "request_refused"]
    assert [fault.rows for fault in faults] == [whole.counts.ok]
    assert refused.counts.partial == whole.counts.ok and not refused.unsettled
    assert {task for (task,) in rows(whole.output, "task", "errors")} == {None}, "made good"


def test_a_document_says_what_is_said_of_the_whole(runs: list[RunReport]) -> None:
    output = runs[-1].output
    said = {uri: text for uri, part, text in rows(output, "uri, part_index, text") if part is None}
    found = dict(rows(output, "uri, texts['summarize']", "documents"))
    assert said and {uri: found[uri] for uri in said} == said
    assert set(rows(output, "DISTINCT status, answers = owed", "documents")) == ALL_DONE


def test_then_nothing_of_it_is_owed(runs: list[RunReport]) -> None:
    output = Path(runs[-1].output.removeprefix("file://"))
    again = preview(job(output))
    assert again.skipped == again.reasons["done"] == runs[0].counts.ok


def test_the_plan_counts_them(tmp_path: Path) -> None:
    with_wholes, without = preview(job(tmp_path)), preview(job(tmp_path, whole=False))
    assert with_wholes.requests["summarize"] > without.requests["summarize"]
    assert with_wholes.requests["ocr"] == without.requests["ocr"]
    assert with_wholes.prompt_tokens > without.prompt_tokens
