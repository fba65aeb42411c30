"""Real files, healthy and nasty, through the whole graph: every one is accounted for, by name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.fixtures.runs import RunJob
from tests.flow.test_faults import FaultJob, rows

OPEN = {"passwords": ["usersecret", "foo", "test", "    ", "user", "view"]}
CATEGORIES = {"corrupt", "empty", "encrypted", "limit", "unsupported_media", "wrong_content"}


def test_every_file_of_the_corpus_is_accounted_for(
    run_job: RunJob, fault_job: FaultJob, corpus: Path
) -> None:
    report = run_job(fault_job(input=str(corpus), tasks=["ocr", "transcribe"], expand=OPEN))
    assert report.counts.listed == sum(1 for path in corpus.rglob("*") if path.is_file())
    assert report.counts.unaccounted == 0 and not report.unsettled
    assert report.counts.filtered == 4, "the four .csv files beside the documents"

    errors = rows(report.output, "errors", ["uri", "part_index", "category", "message", "stage"])
    assert {row["category"] for row in errors} == CATEGORIES
    assert all(row["message"] and row["stage"] for row in errors)
    tasks = ("ocr", "transcribe")
    records = [row for task in tasks for row in rows(report.output, f"records/task={task}", ["uri"])]
    answered = {row["uri"] for row in records}
    failed = {row["uri"] for row in errors} - answered
    partial = {row["uri"] for row in errors} & answered
    assert (len(failed), len(partial)) == (report.counts.failed, report.counts.partial)
    assert report.counts.ok == len(answered - partial) > 100

    filtered = rows(report.output, f"_runs/{report.run_id}/filtered", ["uri", "reason"])
    assert Counter(row["reason"] for row in filtered) == {"not_a_document": 4}
