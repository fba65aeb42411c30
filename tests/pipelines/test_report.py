"""What a run says of itself in one line and one exit code."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.history import History
from pipelines.page.render import headline
from pipelines.quality import Quality, TaskQuality
from pipelines.report import EXIT_DONE, EXIT_FAILED_SHARE, Counts, RunReport
from pipelines.runner import _report
from schemas.errors import JobError
from schemas.selection import ONLY, Selection


def report(allowed: float, passed: int = 0, **counts: int) -> RunReport:
    limits = SimpleNamespace(limits=SimpleNamespace(failed_share=allowed))
    plan: Any = SimpleNamespace(run_id="r", output="file:///o", selection=Selection(), lanes=(), job=limits)
    none: dict[str, Any] = {"media": {}, "tasks": {}, "held": {}, "faults": {}, "redactions": {}}
    recorder = SimpleNamespace(history=History)
    stream: Any = SimpleNamespace(tally=SimpleNamespace(**none), recorder=recorder, files=1, stopped=None)
    found: Any = SimpleNamespace(counts=Counter(counts), missing=())
    return _report(plan, stream, found, datetime(2026, 1, 1, tzinfo=UTC), 1.0, {}, None, passed)


def test_a_few_failures_among_very_many_are_more_than_none() -> None:
    found = report(0.0, ok=99_996, failed=4)
    assert found.exit_code == EXIT_FAILED_SHARE
    assert found.verdict.startswith("0.004% of documents failed, 0% are allowed")
    assert report(0.00004, ok=99_996, failed=4).exit_code == EXIT_DONE


def test_failures_are_judged_by_all_documents_and_counts_are_of_those_that_were_listed() -> None:
    found = report(0.1, passed=20, failed=1)
    assert (found.exit_code, found.counts.listed, found.counts.skipped) == (EXIT_DONE, 1, 0)
    assert report(0.1, passed=8, failed=1).exit_code == EXIT_FAILED_SHARE, "1 of 9"


def test_a_bound_that_is_no_number_is_no_gate() -> None:
    task = TaskQuality(
        kind="ocr", documents=1, references=1, missing=0, unreferenced=0, scores={"cer": 0.5}, details={}
    )
    quality = Quality(output="o", references="r", tasks={"ocr": task}, documents=())
    assert quality.breaches([], ["ocr.cer=0.1"])
    with pytest.raises(JobError, match="ocr.cer=nan"):
        quality.breaches([], ["ocr.cer=nan"])


def test_a_run_in_which_nothing_is_asked_answers_nothing() -> None:
    assert headline(report(0.1, filtered=3)).startswith("Nothing is asked of any of the 3")


def test_what_was_not_selected_may_owe_answers() -> None:
    counts = Counts(listed=30_000, ok=0, partial=0, failed=0, filtered=0, skipped=30_000)
    values: dict[str, Any] = {"run_id": "r", "output": "o", "started": datetime.now(UTC), "seconds": 1.0}
    whole = RunReport(**values, counts=counts)
    assert whole.verdict == "nothing to do: the output holds every answer already"
    narrowed = RunReport(**values, counts=counts, selection=Selection(only=ONLY["failed"]))
    assert narrowed.verdict == "nothing to do: no document is one of those that were selected"
