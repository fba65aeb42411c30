"""Copies of a document, from what files say: what they are given, and why they are worked on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from pipelines import attach, copies, feed, near
from pipelines.cli import app
from pipelines.copies import Told, duplicates_of, find_known
from pipelines.feed import Feed
from pipelines.ledger import read_ledger
from pipelines.plan import Plan, make_plan
from pipelines.runner import source_of
from schemas.duplicates import DuplicateOptions
from schemas.errors import ObjectChanged
from schemas.job import JobSpec
from schemas.rows import IDENTITY, Status
from schemas.selection import ONLY, Selection
from workers.sinks.parquet import ParquetSink
from workers.sinks.reading import read_columns

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
FAULT = {"stage": "infer", "category": "looping", "message": "again and again", "transient": False}
A, B, C, D = "aa" * 16, "bb" * 16, "cc" * 16, "dd" * 16
SAME = "ff" * 16
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


def test_what_could_not_be_looked_up_is_tried_again_as_what_failed(plan: Plan) -> None:
    """Its error has no version; who is listed now has one."""
    publish(plan, row(plan, A, None, None, error=FAULT, version=""), row(plan, B, "ocr", version="v0"))
    failed = replace(plan, selection=Selection(only=ONLY["failed"]))
    assert reasons(failed, A, B) == ["failed", "new version"]


def test_what_failed_after_it_was_filtered_has_failed(plan: Plan) -> None:
    filtered = [row(plan, each, None, None, error=FAULT, status=Status.FILTERED.value) for each in (A, B)]
    publish(plan, *filtered, row(plan, B, "ocr", error=FAULT))
    assert reasons(plan, A, B, C) == ["filtered", "failed", "new"]


def test_what_a_killed_run_answered_is_not_asked_of_its_copies(plan: Plan) -> None:
    publish(plan, *(row(plan, A, task, part) for task in ("ocr", "caption") for part in (0, 1)))
    publish(plan, row(plan, B, "ocr", document_digest="ee" * 16))
    head = Feed(plan, source_of(plan.job))
    assert asyncio.run(head.first(SAME, C)) == A, "though it has no row in documents/ yet"
    assert asyncio.run(head.first("ee" * 16, C)) == C, "B has not all its answers"
    head.check()


def test_what_a_killed_run_left_half_done_goes_before_its_copies(plan: Plan) -> None:
    publish(plan, row(plan, A, "ocr", 0))
    head = Feed(plan, source_of(plan.job))
    asyncio.run(head.first("ee" * 16, D))  # which waits until all is read
    listed = [{"document_id": each, "uri": each[:2], "version": "v1"} for each in (B, A)]
    head._prefer(pa.Table.from_pylist(listed, IDENTITY))
    assert asyncio.run(head.first(SAME, B)) == A
    head.check()


def copied(plan: Plan, *duplicates: str) -> dict[tuple[str, str], list[tuple[Any, ...]]]:
    """What `attach` leaves, by task (of errors "") and the first letters of the document."""
    if duplicates:
        publish(plan, *(waiting(plan, document) for document in duplicates))
    told = waits(plan)
    work = [
        (task, info)
        for task in (*plan.fingerprints, None)
        for info in attach._files(plan, task, told.originals)
    ]
    for task, info in work:
        attach.copy_rows(plan, task, info, told)
    found: defaultdict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for task in (*plan.fingerprints, ""):
        folder = f"records/task={task}" if task else "errors"
        for rows in read_columns(plan.output, plan.job.storage, folder, ["uri", "part_index", "text"]):
            for each in rows.to_pylist():
                found[task, each["uri"]].append((each["part_index"], each["text"]))
    return {key: sorted(rows, key=repr) for key, rows in found.items()}


def test_a_copy_with_some_answers_is_given_the_others_and_no_more(plan: Plan) -> None:
    publish(plan, *(row(plan, A, task, part, text="a") for task in ("ocr", "caption") for part in (0, 1)))
    publish(plan, row(plan, B, "ocr", 0, text="b"))
    found = copied(plan, B, C)
    assert found["ocr", "bb"] == [(0, "b"), (1, "a")] and found["caption", "bb"] == [(0, "a"), (1, "a")]
    assert found["ocr", "cc"] == found["caption", "cc"] == [(0, "a"), (1, "a")]


def test_a_copy_is_given_what_was_asked_again(plan: Plan) -> None:
    """Though it has an answer, and though a document that was not listed has an earlier one as well."""
    before = [
        row(plan, each, "ocr", part, text="old", run_id="before") for each in (A, B, D) for part in (0, 1)
    ]
    publish(plan, *before)
    publish(plan, *(row(plan, A, "ocr", part, text="new") for part in (0, 1)))
    found = copied(replace(plan, selection=Selection(force=True)), B)
    assert found["ocr", "bb"] == [(0, "new"), (0, "old"), (1, "new"), (1, "old")], "until the run sweeps"
    assert found["ocr", "dd"] == [(0, "old"), (1, "old")]


def test_what_an_earlier_run_wrote_down_of_the_original_is_not_said_of_a_copy(plan: Plan) -> None:
    publish(plan, row(plan, A, None, None, error=FAULT, text="old", run_id="before"))
    publish(plan, row(plan, A, "ocr", 0, text="a"), row(plan, A, "caption", 0, text="a"))
    publish(plan, *(row(plan, A, task, 1, error=FAULT, text="new") for task in ("ocr", "caption")))
    assert copied(plan, B)["", "bb"] == [(1, "new"), (1, "new")]


def test_a_task_that_had_another_kind_of_answer_before_is_copied_as_it_is_now(
    tmp_path: Path, fault_job: Callable[..., JobSpec]
) -> None:
    """The old answer's file has no column for what the new one says."""
    (tmp_path / "in").mkdir()
    labels = ["invoice", "letter"]
    tasks = [
        {"task": "ask", "name": "kind", "prompt": "What is it?"},
        {"task": "classify", "name": "kind", "labels": labels},
    ]
    old, new = (make_plan(fault_job(input=str(tmp_path / "in"), tasks=[task]), None, 0.0) for task in tasks)
    publish(old, *(row(old, A, "kind", part, text="old", run_id="before") for part in (0, 1)))
    publish(new, *(row(new, A, "kind", part, text="new") for part in (0, 1)))
    assert copied(new, B)["kind", "bb"] == [(0, "new"), (1, "new")]


def test_a_copy_is_given_what_anyone_has_and_the_word_of_who_was_met(plan: Plan) -> None:
    """A document that was left half-done has more answers than the one that was met, and no error."""
    publish(
        plan, *(row(plan, C, task, part, text="c") for task, part in (("ocr", 0), ("ocr", 1), ("caption", 0)))
    )
    publish(plan, row(plan, A, "ocr", 0, text="a"), row(plan, A, "ocr", 1, error=FAULT, text="a"))
    publish(plan, row(plan, A, "caption", None, error=FAULT, text="a"))
    found = copied(plan, B)
    assert set(found["ocr", "bb"]) == {(0, "a"), (0, "c"), (1, "c")}, "of two the run sweeps one"
    assert found["caption", "bb"] == [(0, "c")] and found["", "bb"] == [(1, "a"), (None, "a")]


def test_who_has_been_given_some_is_the_original_of_nobody(plan: Plan) -> None:
    """As when others swept meanwhile, and it is all done again."""
    publish(plan, row(plan, A, "ocr", 0, text="a"), row(plan, A, "ocr", 1, error=FAULT, text="a"))
    publish(plan, row(plan, A, "caption", None, error=FAULT, text="a"))
    publish(plan, waiting(plan, B), waiting(plan, C), waiting(plan, D))
    for each in (B, D):
        publish(plan, row(plan, each, "ocr", 0, text="a"), row(plan, each, "ocr", 1, error=FAULT, text="a"))
    assert waits(plan).originals.to_pylist() == [f"{A}/v1"]


def test_an_answer_that_is_there_twice_is_one(plan: Plan) -> None:
    """A run that was told to ask again was ended before it had swept."""
    publish(plan, *(row(plan, D, task, 0, text="d") for task in ("ocr", "ocr", "ocr", "caption")))
    publish(plan, *(row(plan, A, task, part, text="a") for task in ("ocr", "caption") for part in (0, 1)))
    publish(plan, waiting(plan, B))
    assert waits(plan).originals.to_pylist() == [f"{A}/v1"]


def test_files_that_another_shard_sweeps_are_read_again(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(plan, *(row(plan, A, task, part, text="a") for task in ("ocr", "caption") for part in (0, 1)))
    publish(plan, waiting(plan, B))
    reads: list[str] = []
    for module in (attach, copies, feed, near):
        monkeypatch.setattr(module, "read_parts", once_swept(module.read_parts, reads))
    monkeypatch.setattr(attach, "_copy", lambda plan, told, kinds: None)
    assert attach.attach(plan) == 1
    head = Feed(plan, source_of(plan.job))
    assert asyncio.run(head.first(SAME, C)) == A
    head.check()
    assert not len(near.find_near(plan.output, plan.job.storage, DuplicateOptions(images=1, text=0.5)))
    assert len(reads) > 5


def waits(plan: Plan) -> Told:
    duplicates = duplicates_of(plan)
    return find_known(plan, duplicates).told(duplicates)


def once_swept(read: Callable[..., Any], reads: list[str]) -> Callable[..., Any]:
    def swept(output: str, storage: Any, folder: str, *more: Any) -> Any:
        reads.append(folder)
        if reads.count(folder) == 1:
            raise ObjectChanged("swept")
        return read(output, storage, folder, *more)

    return swept


def test_groups_are_made_of_an_output_alone(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-")
    refused = CliRunner().invoke(app, ["duplicates", str(tmp_path), "--text", "0.8"])
    assert "holds no run of Gemstream" in str(refused.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.pdf"]
