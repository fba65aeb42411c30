"""Questions about whole documents, of documents that are there more than once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import attach
from pipelines.copies import Told, duplicates_of
from pipelines.feed import Feed
from pipelines.plan import Plan, make_plan
from pipelines.runner import source_of
from pipelines.whole import due, read_wholes
from schemas.job import JobSpec
from schemas.rows import IDENTITY
from tests.pipelines.test_attach import FAULT, SAME, A, B, C, D, copied, publish, row, waiting


def summarized(tmp_path: Path, fault_job: Callable[..., JobSpec]) -> Plan:
    (tmp_path / "in").mkdir()
    return make_plan(fault_job(input=str(tmp_path / "in"), tasks=["summarize"]), None, 0.0)


def asked(plan: Plan, monkeypatch: pytest.MonkeyPatch, *listed: str) -> list[str]:
    """Which of these documents a run that has listed them asks about as a whole."""

    def copy(plan: Plan, told: Told, kinds: Sequence[str | None]) -> None:
        for task, info in [
            (kind, info) for kind in kinds for info in attach._files(plan, kind, told.originals)
        ]:
            attach.copy_rows(plan, task, info, told)

    monkeypatch.setattr(attach, "_copy", copy)
    rows = [{"document_id": each, "version": "v1", "skipped": False} for each in listed]
    table = pa.Table.from_pylist(rows, pa.schema([*IDENTITY, ("skipped", pa.bool_())]))
    attach.stand_in(plan, table)
    groups = attach.one_of_each(plan, due(plan, table)).get("vision", [])
    return sorted(name.partition("/")[0] for group in groups for name in group.names.to_pylist())


def test_of_two_that_were_asked_each_is_given_what_the_other_was(
    tmp_path: Path, fault_job: Callable[..., JobSpec]
) -> None:
    (tmp_path / "in").mkdir()
    tasks = [{"task": "summarize", "name": name, "sentences": n} for name, n in (("short", 1), ("long", 9))]
    plan = make_plan(fault_job(input=str(tmp_path / "in"), tasks=tasks), None, 0.0)
    parts = [(each, name, part) for each in (A, B) for name in ("short", "long") for part in (0, 1)]
    publish(plan, *(row(plan, each, name, part, text="s") for each, name, part in parts))
    for each, name in ((A, "short"), (B, "long")):
        publish(plan, row(plan, each, name, None, text="w", fingerprint=plan.fingerprints[name][1]))
    found = copied(plan, A, B)
    both = {(uri, name): found[name, uri] for uri in ("aa", "bb") for name in ("short", "long")}
    assert both == dict.fromkeys(both, [(0, "s"), (1, "s"), (None, "w")])


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
    assert duplicates_of(plan)["document_id"].to_pylist() == [B, C]
    of_whole = plan.fingerprints["summarize"][1]
    publish(plan, row(plan, A, "summarize", None, text="whole", fingerprint=of_whole))
    found = copied(plan)
    assert found["summarize", "bb"] == found["summarize", "cc"] == [(0, "s"), (1, "s"), (None, "whole")]


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


def test_a_copy_that_has_what_its_original_failed_on_is_asked_about_the_whole(
    tmp_path: Path, fault_job: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = summarized(tmp_path, fault_job)
    publish(plan, row(plan, B, "summarize", 1, text="b", run_id="before"), waiting(plan, B))
    publish(plan, row(plan, A, "summarize", 0, text="a"), row(plan, A, "summarize", 1, error=FAULT))
    assert asked(plan, monkeypatch, A, B) == [B]


def test_so_is_one_that_is_short_of_another_answer(
    tmp_path: Path, fault_job: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    plan = make_plan(fault_job(input=str(tmp_path / "in"), tasks=["ocr", "summarize"]), None, 0.0)
    publish(plan, row(plan, B, "summarize", 1, text="b", run_id="before"), waiting(plan, B))
    publish(plan, row(plan, A, "summarize", 0, text="a"), row(plan, A, None, 1, error=FAULT))
    assert asked(plan, monkeypatch, A, B) == [B]


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
