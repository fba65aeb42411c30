"""Copies of a document, from what files say: what they are given, and why they are worked on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.feed import Feed
from pipelines.ledger import read_ledger
from pipelines.plan import Plan, make_plan
from pipelines.runner import source_of
from schemas.job import JobSpec
from schemas.rows import IDENTITY, Status
from workers.sinks.parquet import ParquetSink

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
FAULT = {"stage": "infer", "category": "looping", "message": "again and again", "transient": False}
A, B, C = "aa" * 16, "bb" * 16, "cc" * 16
SAME = "dd" * 16
"""The digest of what all of them hold."""


@pytest.fixture
def plan(tmp_path: Path, fault_job: Callable[..., JobSpec]) -> Plan:
    (tmp_path / "in").mkdir()
    return make_plan(fault_job(input=str(tmp_path / "in"), tasks=["ocr", "caption"]), None, 0.0)


def row(plan: Plan, document: str, task: str | None, part: int | None = 0, **more: Any) -> dict[str, Any]:
    """An outcome of one of two pages: an answer; with an `error`, that."""
    values = {
        "document_id": document,
        "uri": document[:2],
        "version": "v1",
        "document_digest": SAME,
        "part_index": part,
        "parts_total": 2,
        "part_kind": "page",
        "task": task,
        "fingerprint": task and plan.fingerprints[task][0],
        "status": (Status.ERROR if "error" in more else Status.RECORD).value,
        "expected": 1,
        "settled": 1,
        "run_id": plan.run_id,
        "answered_at": BEGAN,
    }
    return values | more


def waiting(plan: Plan, document: str) -> dict[str, Any]:
    return row(plan, document, None, None, status=Status.DUPLICATE.value)


def publish(plan: Plan, *rows: Mapping[str, Any]) -> None:
    """Files as a run leaves them."""
    sink = ParquetSink(plan.output, plan.job.storage, plan.data_types, None, plan.run_id, plan.metadata)
    sink.write(pa.Table.from_pylist([dict(each) for each in rows], plan.schema))


def reasons(plan: Plan, *documents: str) -> list[str]:
    rows = [{"document_id": document, "uri": document[:2], "version": "v1"} for document in documents]
    found: list[str] = read_ledger(plan).reasons(pa.Table.from_pylist(rows, IDENTITY)).to_pylist()
    return found


def test_a_copy_that_failed_with_its_original_is_tried_again_with_it(plan: Plan) -> None:
    publish(plan, waiting(plan, B), *(row(plan, each, None, None, error=FAULT) for each in (A, B)))
    assert reasons(plan, A, B) == ["failed", "failed"]


def test_what_failed_after_it_was_filtered_has_failed(plan: Plan) -> None:
    filtered = [row(plan, each, None, None, error=FAULT, status=Status.FILTERED.value) for each in (A, B)]
    publish(plan, *filtered, row(plan, B, "ocr", error=FAULT))
    assert reasons(plan, A, B, C) == ["filtered", "failed", "new"]


def test_what_a_killed_run_answered_is_not_asked_of_its_copies(plan: Plan) -> None:
    publish(plan, *(row(plan, A, task, part) for task in ("ocr", "caption") for part in (0, 1)))
    publish(plan, row(plan, B, "ocr", document_digest="ee" * 16))
    feed = Feed(plan, source_of(plan.job))
    assert asyncio.run(feed.first(SAME, C)) == A, "though it has no row in documents/ yet"
    assert asyncio.run(feed.first("ee" * 16, C)) == C, "B has not all its answers"
    feed.check()
