"""Copies of a document, from what files say: what they are given, and why they are worked on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from pipelines import attach, feed, near
from pipelines.cli import app
from pipelines.feed import Feed
from pipelines.ledger import read_ledger
from pipelines.plan import Plan, make_plan
from pipelines.runner import source_of
from pipelines.whole import due, read_wholes
from schemas.duplicates import DuplicateOptions
from schemas.errors import ObjectChanged
from schemas.job import JobSpec
from schemas.rows import IDENTITY, Status
from schemas.selection import Selection
from workers.sinks.parquet import ParquetSink
from workers.sinks.reading import read_columns
from workers.storage import ObjectInfo

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


def copied(plan: Plan, *duplicates: str) -> dict[tuple[str, str], list[tuple[Any, ...]]]:
    """What `attach` leaves, by task (of errors "") and the first letters of the document."""
    if duplicates:
        publish(plan, *(waiting(plan, document) for document in duplicates))
    told = waits(plan)
    work = [(task, info) for task in (*plan.fingerprints, None) for info in files(plan, task, told)]
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


def test_who_was_not_met_is_the_original_of_nobody_who_is_owed_a_word(plan: Plan) -> None:
    """A document that was left half-done has more answers than the one that was met, and no error."""
    publish(
        plan, *(row(plan, C, task, part, text="c") for task, part in (("ocr", 0), ("ocr", 1), ("caption", 0)))
    )
    publish(plan, row(plan, A, "ocr", 0, text="a"), row(plan, A, "ocr", 1, error=FAULT, text="a"))
    publish(plan, row(plan, A, "caption", None, error=FAULT, text="a"))
    found = copied(plan, B)
    assert found["ocr", "bb"] == [(0, "a")] and found["", "bb"] == [(1, "a"), (None, "a")]


def test_a_question_about_the_whole_is_asked_of_one_document_with_a_content(
    tmp_path: Path, fault_job: Callable[..., JobSpec]
) -> None:
    plan = summarized(tmp_path, fault_job)
    told = [row(plan, each, "summarize", part, text="s") for each in (A, B, C) for part in (0, 1)]
    publish(plan, *told, *(row(plan, D, "summarize", part, document_digest="ee" * 16) for part in (0, 1)))
    listed = [{"document_id": each, "version": "v1", "skipped": False} for each in (A, B, C, D)]
    groups = attach.one_of_each(plan, due(plan, pa.Table.from_pylist(listed)))
    [group] = groups["vision"]
    publish(plan, waiting(plan, B))
    assert group.names.to_pylist() == [f"{A}/v1", f"{D}/v1"]
    assert attach._duplicates(plan)["document_id"].to_pylist() == [B, C]
    of_whole = plan.fingerprints["summarize"][1]
    publish(plan, row(plan, A, "summarize", None, text="whole", fingerprint=of_whole))
    found = copied(plan)
    assert found["summarize", "bb"] == found["summarize", "cc"] == [(0, "s"), (1, "s"), (None, "whole")]


def summarized(tmp_path: Path, fault_job: Callable[..., JobSpec]) -> Plan:
    (tmp_path / "in").mkdir()
    return make_plan(fault_job(input=str(tmp_path / "in"), tasks=["summarize"]), None, 0.0)


def asked(plan: Plan, monkeypatch: pytest.MonkeyPatch, *listed: str) -> list[str]:
    """Which of these documents a run that has listed them asks about as a whole."""

    def copy(plan: Plan, told: attach.Told, kinds: Sequence[str | None]) -> None:
        for task, info in [(kind, info) for kind in kinds for info in files(plan, kind, told)]:
            attach.copy_rows(plan, task, info, told)

    monkeypatch.setattr(attach, "_copy", copy)
    rows = [{"document_id": each, "version": "v1", "skipped": False} for each in listed]
    table = pa.Table.from_pylist(rows, pa.schema([*IDENTITY, ("skipped", pa.bool_())]))
    attach.stand_in(plan, table)
    groups = attach.one_of_each(plan, due(plan, table)).get("vision", [])
    return sorted(name.partition("/")[0] for group in groups for name in group.names.to_pylist())


def test_parts_that_a_killed_run_answered_are_not_asked_of_copies(
    tmp_path: Path, fault_job: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = summarized(tmp_path, fault_job)
    publish(plan, *(row(plan, A, "summarize", part, text="s") for part in (0, 1)))
    head = Feed(plan, source_of(plan.job))
    assert asyncio.run(head.first(SAME, C)) == A, "of which only the question about the whole is left"
    head.check()
    publish(plan, waiting(plan, B), waiting(plan, C))
    assert asked(plan, monkeypatch, A, B, C) == [A]


def test_a_copy_stands_in_for_an_original_that_is_gone(
    tmp_path: Path, fault_job: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = summarized(tmp_path, fault_job)
    publish(plan, *(row(plan, A, "summarize", part, text="s", run_id="before") for part in (0, 1)))
    publish(plan, waiting(plan, B), waiting(plan, C))
    [stands] = asked(plan, monkeypatch, B, C)
    assert stands in (B, C)
    of_whole = plan.fingerprints["summarize"][1]
    publish(plan, row(plan, stands, "summarize", None, text="whole", fingerprint=of_whole))
    found = copied(plan)
    assert found["summarize", "bb"] == found["summarize", "cc"] == [(0, "s"), (1, "s"), (None, "whole")]


def test_a_copy_that_stands_in_and_fails_speaks_for_the_others(
    tmp_path: Path, fault_job: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = summarized(tmp_path, fault_job)
    publish(plan, *(row(plan, A, "summarize", part, text="s", run_id="before") for part in (0, 1)))
    publish(plan, waiting(plan, B), waiting(plan, C))
    [stands] = asked(plan, monkeypatch, B, C)
    publish(plan, row(plan, stands, "summarize", None, error=FAULT, text="whole"))
    found = copied(plan)
    assert found["summarize", "bb"] == found["summarize", "cc"] == [(0, "s"), (1, "s")]
    assert found["", "bb"] == found["", "cc"] == [(None, "whole")]


def test_a_whole_that_a_killed_run_answered_is_not_asked_of_copies(
    tmp_path: Path, fault_job: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they have answers about their parts of their own."""
    plan = summarized(tmp_path, fault_job)
    before = [
        row(plan, each, "summarize", part, text="s", run_id="before") for each in (A, B) for part in (0, 1)
    ]
    of_whole = plan.fingerprints["summarize"][1]
    publish(plan, *before, row(plan, A, "summarize", None, text="whole", fingerprint=of_whole))
    assert asked(plan, monkeypatch, B) == []
    assert copied(plan)["summarize", "bb"] == [(0, "s"), (1, "s"), (None, "whole")]


def test_a_question_about_the_whole_is_of_one_version(
    tmp_path: Path, fault_job: Callable[..., JobSpec]
) -> None:
    """Of a manifest's entry that could not be looked up, the output may hold two."""
    plan = summarized(tmp_path, fault_job)
    publish(plan, *(row(plan, A, "summarize", part, text=f"old {part}", parts_total=3) for part in range(3)))
    publish(plan, *(row(plan, A, "summarize", part, text=f"new {part}", version="v2") for part in range(2)))
    listed = [{"document_id": A, "version": "", "skipped": False}]
    [group] = due(plan, pa.Table.from_pylist(listed))["vision"]
    [documents] = read_wholes(plan, group)
    said = dict(zip(documents["version"].to_pylist(), documents["page_text"].to_pylist(), strict=True))
    assert said == {"v1": "old 0\n\nold 1\n\nold 2", "v2": "new 0\n\nnew 1"}


def test_files_that_another_shard_sweeps_are_read_again(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(plan, *(row(plan, A, task, part, text="a") for task in ("ocr", "caption") for part in (0, 1)))
    publish(plan, waiting(plan, B))
    reads: list[str] = []
    for module in (attach, feed, near):
        monkeypatch.setattr(module, "read_parts", once_swept(module.read_parts, reads))
    monkeypatch.setattr(attach, "_copy", lambda plan, told, kinds: None)
    assert attach.attach(plan) == 1
    head = Feed(plan, source_of(plan.job))
    assert asyncio.run(head.first(SAME, C)) == A
    head.check()
    assert not len(near.find_near(plan.output, plan.job.storage, DuplicateOptions(images=1, text=0.5)))
    assert len(reads) > 5


def files(plan: Plan, task: str | None, told: attach.Told) -> list[ObjectInfo]:
    return attach._files(plan, task, told.originals)


def waits(plan: Plan) -> attach.Told:
    return attach.find_originals(plan, attach._duplicates(plan))


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
