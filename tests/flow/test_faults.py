"""Whatever the engine does, every document is counted once and every answer is there once."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from deploy.demo.__main__ import upload
from deploy.demo.documents import EXAMPLES
from deploy.demo.objectstore import ObjectStore
from pipelines.report import EXIT_BREACH, EXIT_DONE, EXIT_FAILED_SHARE
from pipelines.runner import run
from schemas.job import JobSpec, ReportOptions
from schemas.selection import Selection
from schemas.storage import StorageOptions
from tests.fixtures.runs import RunJob
from workers.sinks.reading import read_columns

PREFIX = "faults/examples"
"""In the store addresses are the same on every machine, and which request meets a fault is a hash of its
document's: so are the culprits."""
FaultJob = Callable[..., JobSpec]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["a", "b"]}, "total": {"type": "string", "format": "decimal"}},
    "required": ["kind"],
}
TASKS: list[Any] = [
    "ocr",
    "caption",
    "transcribe",
    {"task": "extract", "schema": SCHEMA},
    {"task": "classify", "labels": ["a", "b"]},
]


@pytest.fixture(scope="module")
def examples(object_store: ObjectStore) -> str:
    upload(object_store, EXAMPLES, f"{PREFIX}/")
    return object_store.url(PREFIX)


def rows(output: str, folder: str, columns: list[str]) -> list[dict[str, Any]]:
    tables = list(read_columns(output, StorageOptions(), folder, columns))
    return pa.concat_tables(tables).to_pylist() if tables else []


def answers(output: str) -> Counter[tuple[str, int, str]]:
    names = [task if isinstance(task, str) else task["task"] for task in TASKS]
    return Counter(
        (row["uri"], row["part_index"], name)
        for name in names
        for row in rows(output, f"records/task={name}", ["uri", "part_index"])
    )


def test_healthy(run_job: RunJob, fault_job: FaultJob) -> None:
    report = run_job(fault_job(input=str(EXAMPLES), tasks=TASKS))
    assert report.counts.unaccounted == 0 and not report.unsettled
    assert (report.counts.failed, report.counts.filtered) == (2, 1), "two broken ones and truth.json"
    found = answers(report.output)
    assert set(found.values()) == {1}
    assert report.exit_code == EXIT_DONE
    merged = {row["uri"] for row in rows(report.output, "documents", ["uri", "data"]) if row["data"]}
    assert merged == {uri for uri, _, task in found if task == "extract"}


def test_asked_again_it_comes_to_the_same(run_job: RunJob, fault_job: FaultJob, tmp_path: Path) -> None:
    """Copies, whole documents, what is filtered and what is broken included."""
    folder = tmp_path / "in"
    for name in ("pdf", "broken", "photos"):
        shutil.copytree(EXAMPLES / name, folder / name)
    copied = next((folder / "pdf").iterdir())
    shutil.copyfile(copied, folder / f"copy-of-{copied.name}")
    (folder / "nothing.json").write_text("{}")
    job = fault_job({"refuse": 0.1}, input=str(folder), tasks=["ocr", "summarize"])
    first = run_job(job)
    pageless = job.model_copy(update={"report": ReportOptions(page=False)})
    again = run(pageless, Console(quiet=True), Selection(force=True))
    assert (first.unsettled, again.unsettled) == ((), ())
    assert again.counts == first.counts and again.duplicates == first.duplicates == 1
    assert first.counts.filtered == 1 and first.counts.failed and first.counts.ok
    assert set(answers(again.output).values()) == {1}
    for task in ("ocr", "summarize"):
        by = rows(again.output, f"records/task={task}", ["run_id"])
        assert {row["run_id"] for row in by} == {again.run_id}


def test_every_kind_of_fault_at_once(run_job: RunJob, fault_job: FaultJob) -> None:
    faults = {"truncate": 0.2, "loop": 0.2, "refuse": 0.2, "bad_json": 0.6, "die": 0.05}
    report = run_job(fault_job(faults, input=str(EXAMPLES), tasks=TASKS))
    assert report.counts.unaccounted == 0 and not report.unsettled
    assert report.counts.partial > 0
    errors = rows(report.output, "errors", ["uri", "part_index", "task", "category", "message", "text"])
    met = {row["category"] for row in errors if row["task"]}
    assert met == {"truncated", "looping", "request_refused", "unparsable", "poison"}
    assert all(row["message"] for row in errors)
    kept = {"truncated", "looping", "unparsable"}
    assert all(row["text"] for row in errors if row["category"] in kept), "what the model said is kept"
    failed = {(row["uri"], row["part_index"], row["task"]) for row in errors if row["task"]}
    answered = answers(report.output)
    assert set(answered.values()) == {1}
    assert not failed & set(answered), "an answer or an error, never both"


def test_a_fault_that_passes_is_climbed_over(run_job: RunJob, fault_job: FaultJob) -> None:
    tasks = [
        {"task": "ocr", "max_tokens": 64},
        {"task": "transcribe", "max_tokens": 64},
        {"task": "extract", "schema": SCHEMA, "max_tokens": 64},
    ]
    job = fault_job({"truncate": 0.3, "bad_json": 0.5, "attempts": 1}, input=str(EXAMPLES), tasks=tasks)
    report = run_job(job)
    assert report.counts.failed == 2 and report.counts.partial == 0
    tries = Counter(row["attempts"] for row in rows(report.output, "records/task=ocr", ["attempts"]))
    assert set(tries) == {1, 2}


def test_a_request_that_hangs_is_an_error_row(run_job: RunJob, fault_job: FaultJob) -> None:
    job = fault_job(
        {"hang": 0.1},
        input=str(EXAMPLES),
        tasks=["ocr", "caption"],
        limits={"failed_share": 1.0, "request_seconds": 1},
    )
    report = run_job(job)
    assert report.counts.unaccounted == 0
    categories = {fault.category for fault in report.faults}
    assert categories & {"request_timeout", "poison"}


def test_a_request_that_takes_its_worker_down_costs_itself(
    run_job: RunJob, fault_job: FaultJob, examples: str
) -> None:
    job = fault_job({"crash": 0.04}, input=examples, tasks=["ocr", "caption"])
    report = run_job(job)
    assert report.counts.unaccounted == 0 and not report.unsettled
    errors = [row for row in rows(report.output, "errors", ["task", "category", "attempts"]) if row["task"]]
    assert errors and {(row["category"], row["attempts"]) for row in errors} == {("poison", 2)}
    asked = 2 * len(rows(report.output, "records/task=ocr", ["uri"]))
    assert len(errors) <= 0.1 * asked, "those beside it in the worker are answered"


def test_a_request_that_holds_its_worker_costs_itself(
    run_job: RunJob, fault_job: FaultJob, examples: str
) -> None:
    limits = {"heartbeat_seconds": 2, "failed_share": 1.0}
    job = fault_job({"freeze": 0.02}, input=examples, tasks=["ocr", "caption"], limits=limits)
    report = run_job(job)
    assert report.counts.unaccounted == 0 and not report.unsettled
    errors = [row for row in rows(report.output, "errors", ["task", "category", "attempts"]) if row["task"]]
    assert errors and {(row["category"], row["attempts"]) for row in errors} == {("poison", 2)}
    assert len(errors) <= 3, "those beside it in the worker are answered"


def test_too_many_failed(run_job: RunJob, fault_job: FaultJob) -> None:
    job = fault_job({"refuse": 1}, input=str(EXAMPLES), tasks=["caption"], limits={"failed_share": 0.5})
    report = run_job(job)
    assert report.exit_code == EXIT_FAILED_SHARE != EXIT_BREACH
    assert "limits.failed_share" in report.verdict


def test_a_run_stops_when_too_much_fails(run_job: RunJob, fault_job: FaultJob, tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.mkdir()
    for index in range(600):
        (source / f"{index:04d}.png").write_bytes(b"\x89PNG\r\n\x1a\nno more than %d" % index)
    report = run_job(
        fault_job(input=str(source), tasks=["ocr"], limits={"failed_share": 0.1}, sink={"rows": 50})
    )
    assert report.exit_code == EXIT_FAILED_SHARE
    assert report.stopped is not None
    assert 100 <= report.counts.failed <= 600


def test_a_second_run_keeps_what_is_there_and_asks_the_rest(run_job: RunJob, fault_job: FaultJob) -> None:
    options = {"input": str(EXAMPLES), "tasks": TASKS}
    first = run_job(fault_job({"refuse": 0.3}, **options))
    before = answers(first.output)
    assert first.counts.partial > 0
    second = run_job(fault_job({"refuse": 0.0}, **options))
    after = answers(second.output)
    assert set(after.values()) == {1}, "every answer once, over both runs"
    assert set(before) < set(after)
    assert second.counts.skipped == first.counts.ok
    assert second.counts.ok == first.counts.partial + first.counts.failed - 2
    third = run_job(fault_job(**options))
    assert third.counts.skipped == first.counts.listed - 2 - first.counts.filtered
