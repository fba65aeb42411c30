"""The end of a run goes share by share over its documents, and comes to the same as all at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.documents import EXAMPLES
from pipelines import holdings
from pipelines.audit import Audit
from pipelines.holdings import read_holdings
from pipelines.plan import Plan, make_plan
from pipelines.settle import settle
from pipelines.sweep import sweep
from schemas.errors import LeaseLost
from schemas.ids import document_id
from schemas.job import JobSpec
from schemas.rows import IDENTITY, Status, outcomes_schema
from schemas.selection import Selection
from schemas.shard import Shard
from tests.fixtures.runs import RunJob
from tests.pipelines.outputs import answer, write
from workers.sinks.parquet import ParquetSink


@given(st.lists(st.text(), max_size=20), st.integers(1, 8), st.integers(1, 8))
def test_the_shares_of_a_shard_hold_its_documents_between_them(
    uris: list[str], count: int, shares: int
) -> None:
    ids = [document_id(uri) for uri in uris]
    for index in range(1, count + 1):
        whole = Shard(index=index, count=count)
        held = [share.holds(ids) for share in whole.split(shares)]
        assert [sum(each) for each in zip(*held, strict=True)] == [int(each) for each in whole.holds(ids)]


def rows(output: str, folder: str, *columns: str) -> list[dict[str, Any]]:
    """Of all files there, in the order of the columns before `texts`, which has none."""
    files = [str(file) for file in Path(output.removeprefix("file://"), folder).rglob("part-*.parquet")]
    if not files:
        return []
    table: pa.Table = ds.dataset(files, partitioning="hive").to_table(columns=list(columns))
    found: list[dict[str, Any]] = table.sort_by(
        [(name, "ascending") for name in columns if name != "texts"]
    ).to_pylist()
    return found


def said(output: str) -> list[list[dict[str, Any]]]:
    """Records, errors and documents, without what differs from run to run."""
    return [
        rows(output, "records", "uri", "task", "part_index", "text"),
        rows(output, "errors", "uri", "category"),
        rows(output, "documents", "uri", "status", "parts_total", "answers", "texts"),
    ]


def test_share_by_share_comes_to_the_same_as_at_once(
    run_job: RunJob,
    fault_job: Callable[..., JobSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def job(output: str, prompt: str) -> JobSpec:
        # A question about each part, and one about each whole document over the answers to it.
        tasks = [{"task": "ocr", "prompt": prompt}, "summarize"]
        folders = [str(EXAMPLES / name) for name in ("pdf", "broken")]
        return fault_job(input=folders, output=str(tmp_path / output), tasks=tasks)

    asked: list[int] = []
    split = Shard.split

    def counted(shard: Shard, shares: int) -> list[Shard]:
        asked.append(shares)
        return split(shard, shares)

    monkeypatch.setattr(Shard, "split", counted)
    at_once = run_job(job("at-once", "Read it aloud."))
    assert set(asked) == {1}
    monkeypatch.setattr(holdings, "ROWS_AT_ONCE", 7)
    shared = [run_job(job("shared", prompt)) for prompt in ("Read it.", "Read it aloud.")]
    assert max(asked) > 5
    assert [report.counts for report in shared] == [at_once.counts] * 2
    assert [report.unsettled for report in shared] == [(), ()]
    assert said(shared[1].output) == said(at_once.output)
    # The first prompt's answers were swept, in whichever file they lay.
    assert len(rows(shared[1].output, "records", "fingerprint", "uri")) == len(said(at_once.output)[0])


def test_a_run_that_lost_its_lease_takes_nothing_out(
    tmp_path: Path, fault_job: Callable[..., JobSpec]
) -> None:
    """Whoever writes there now may ask otherwise: to this run those answers are old ones."""
    plan = make_plan(fault_job(input=str(tmp_path), tasks=["ocr"]), None, 0.0)
    ours, theirs = (answer("a.pdf", "ocr", "said") | {"fingerprint": each} for each in ("", "theirs"))
    ours["fingerprint"] = plan.fingerprints["ocr"][0]
    for each in (ours, theirs):
        write(plan.output, [each])

    def lost() -> None:
        raise LeaseLost("lost")

    before = rows(plan.output, "records", "uri", "fingerprint")
    listed = pa.table({name: [ours[name]] for name in IDENTITY.names} | {"skipped": [False]})
    with pytest.raises(LeaseLost):
        settle(plan, listed, lost)
    assert len(before) == 2 and rows(plan.output, "records", "uri", "fingerprint") == before


def test_shards_that_sweep_the_same_files_at_once_all_come_to_an_end(
    tmp_path: Path, fault_job: Callable[..., JobSpec]
) -> None:
    count, job = 16, fault_job(input=str(tmp_path), tasks=["ocr"])
    plans = [
        make_plan(job, None, 0.0, Selection(shard=Shard(index=index, count=count)))
        for index in range(1, count + 1)
    ]
    asked = {"fingerprint": plans[0].fingerprints["ocr"][0], "answered_at": datetime(2026, 1, 2, tzinfo=UTC)}
    names = [f"{number}.pdf" for number in range(64)]
    olds = [answer(name, "ocr", "old") for name in names]
    # Two files of old answers, with some of each shard's documents in both.
    for rows_of_file in (olds[::2], olds[1::2], [answer(name, "ocr", "new") | asked for name in names]):
        write(job.output, rows_of_file)
    assert len(rows(job.output, "records", "uri")) == 128
    held = [read_holdings(plan) for plan in plans]
    listed = pa.table({name: [old[name] for old in olds] for name in IDENTITY.names})
    with ThreadPoolExecutor(count) as threads:
        swept = [
            threads.submit(sweep, plan, holding, listed, pa.array([], pa.string()))
            for plan, holding in zip(plans, held, strict=True)
        ]
    assert sum(each.result() for each in swept) == 64
    assert [row["text"] for row in rows(job.output, "records", "uri", "text")] == ["new"] * 64


def outcome(plan: Plan, name: str, status: Status, **more: Any) -> dict[str, Any]:
    """Of a recording of two segments."""
    fault = {"stage": "infer", "category": "poison", "message": "no", "transient": False}
    row = answer(name, "transcribe", None, parts_total=2, start_seconds=0.0, end_seconds=1.0) | {
        "status": status.value,
        "run_id": plan.run_id,
    }
    row["fingerprint"] = plan.fingerprints.get("transcribe", [""])[0]
    return row | ({} if status is Status.RECORD else {"error": fault}) | more


def settled(plan: Plan, listed: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> Audit:
    """What `settle` says after these were written."""
    options = plan.job.storage
    sink = ParquetSink(plan.output, options, plan.data_types, None, plan.run_id, plan.metadata)
    sink.write(pa.Table.from_pylist(outcomes, outcomes_schema(plan.data_types, None)))
    columns = pa.schema([*IDENTITY, ("skipped", pa.bool_())])
    return settle(plan, pa.Table.from_pylist(listed, columns), lambda: None)


def test_a_document_that_cannot_be_looked_up_keeps_the_row_with_its_answers(
    ray_cluster: None, fault_job: Callable[..., JobSpec], tmp_path: Path
) -> None:
    names = ["there.wav", "failed.wav"]
    job = fault_job(input=str(tmp_path), tasks=["transcribe"])
    first, again = (make_plan(job, None, 0.0) for _ in range(2))
    listed = [answer(name, "transcribe", None) | {"skipped": False} for name in names]
    said = [outcome(first, "there.wav", Status.RECORD, part_index=part, text="said") for part in (0, 1)]
    failed = outcome(first, "failed.wav", Status.ERROR, part_index=None, task=None)
    assert settled(first, listed, [*said, failed]).counts == {"ok": 1, "failed": 1}

    away = [outcome(again, name, Status.ERROR, part_index=None, task=None, version="") for name in names]
    after = settled(again, [row | {"version": ""} for row in listed], away)
    assert (after.counts["failed"], after.missing) == (2, ())
    found = {
        row["uri"].rpartition("/")[2]: row for row in rows(job.output, "documents", "uri", "status", "run_id")
    }
    assert {name: (row["status"], row["run_id"]) for name, row in found.items()} == {
        "there.wav": ("ok", first.run_id),
        "failed.wav": ("failed", again.run_id),
    }
    assert len(rows(job.output, "errors", "uri")) == 2


def test_of_a_forced_run_what_it_did_not_ask_is_missing(
    ray_cluster: None, fault_job: Callable[..., JobSpec], tmp_path: Path
) -> None:
    names = ["asked.wav", "half.wav", "not.wav", "away.wav"]
    job = fault_job(input=str(tmp_path), tasks=["transcribe"])
    first, again = (make_plan(job, None, 0.0, Selection(force=force)) for force in (False, True))
    listed = [answer(name, "transcribe", None) | {"skipped": False} for name in names]

    def said(plan: Plan, name: str, *parts: int, **more: Any) -> list[dict[str, Any]]:
        return [outcome(plan, name, Status.RECORD, part_index=part, text="said", **more) for part in parts]

    every = [row for name in names for row in said(first, name, 0, 1)]
    assert settled(first, listed, every).counts == {"ok": 4}
    # Of one that could not be looked up it is known only now that it was replaced.
    listed[3]["version"] = ""
    asked = [*said(again, "asked.wav", 0, 1), *said(again, "half.wav", 0)]
    after = settled(again, listed, [*asked, *said(again, "away.wav", 0, 1, version="zz")])
    assert +after.counts == {"ok": 2}
    assert [uri.rpartition("/")[2] for uri in after.missing] == ["half.wav", "not.wav"]
