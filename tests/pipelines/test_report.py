"""What a run says in the end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pipelines.report import Counts, RunReport
from schemas.selection import ONLY, Selection


def report(**more: Any) -> RunReport:
    counts = Counts(listed=30_000, ok=0, partial=0, failed=0, filtered=0, skipped=30_000)
    values = {"run_id": "r", "output": "o", "started": datetime.now(UTC), "seconds": 1.0, "counts": counts}
    return RunReport(**values | more)


def test_what_was_not_selected_may_owe_answers() -> None:
    assert report().verdict == "nothing to do: the output holds every answer already"
    narrowed = report(selection=Selection(only=ONLY["failed"]))
    assert narrowed.verdict == "nothing to do: no document is one of those that were selected"


def test_one_failure_is_more_than_none() -> None:
    told = report(failed_share=1 / 30_000, allowed_share=0.0)
    assert told.exit_code == 3 and told.verdict.startswith("0.00333% of documents failed, 0% are allowed")
