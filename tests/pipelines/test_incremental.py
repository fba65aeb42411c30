"""A run goes on from the last one only where that has read this very table."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.feed import Feed
from pipelines.incremental import passed_over, resume, versions_met, walk
from pipelines.ledger import read_ledger
from pipelines.plan import make_plan
from pipelines.runner import source_of
from pipelines.runs import NAME
from pipelines.sources.table import TableSource
from schemas.errors import JobError
from schemas.ids import document_id
from schemas.job import JobSpec
from schemas.selection import Selection
from schemas.shard import Shard
from schemas.storage import StorageOptions
from schemas.tables import TableOptions

FaultJob = Callable[..., JobSpec]
Written = Callable[..., None]


def of_delta(table: Path, *numbers: int) -> None:
    from deltalake import write_deltalake

    write_deltalake(str(table), rows(table, *numbers), mode="append")


def of_lance(table: Path, *numbers: int) -> None:
    import lance

    mode = "append" if table.exists() else "create"
    lance.write_dataset(rows(table, *numbers), str(table), mode=mode)


def rows(table: Path, *numbers: int) -> pa.Table:
    uris = [str(table.parent / f"{number}.png") for number in numbers]
    return pa.table({"id": list(numbers), "uri": uris, "part": ["a"] * len(numbers)})


def run_over(job: JobSpec) -> tuple[str | None, list[int]]:
    """From which version on a run reads, and the rows that it lists. It ends well, as later ones see it."""
    source = source_of(job)
    assert isinstance(source, TableSource)
    ended = Path(job.output) / "_runs"
    # Of two runs in one second nobody knows which came first.
    plan = replace(make_plan(job, source.attributes, 0.0), run_id=f"run-{len([*ended.glob('*')])}")
    folder = ended / plan.run_id
    folder.mkdir(parents=True)
    # As a run does before it looks at what others have done.
    (folder / "job.yaml").write_text(json.dumps(job.model_dump(mode="json", include={"tasks"})))
    pinned = resume(plan, source)
    found = [row for table in source.documents(pa.array([], pa.string())) for row in table.to_pylist()]
    told: dict[str, Any] = {"source": pinned, "counts": {}, "report": {"stopped": None, "unsettled": []}}
    for name, content in told.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return source.since, [row["attributes"]["id"] for row in found]


@pytest.mark.parametrize("write", [of_delta, of_lance])
def test_a_table_that_was_made_anew_is_read_whole(
    write: Written, tmp_path: Path, fault_job: FaultJob
) -> None:
    table = tmp_path / "t"
    job = fault_job(table={"uri": str(table)}, tasks=["ocr"])
    write(table, 1, 2)
    assert run_over(job) == (None, [1, 2])
    assert run_over(job)[1] == []
    shutil.rmtree(table)
    write(table, 3, 4)  # and its versions are counted from the first again
    assert run_over(job) == (None, [3, 4])
    write(table, 5)
    assert run_over(job)[1] == [5]


def test_what_nothing_was_asked_about_is_met_again_when_something_is(
    tmp_path: Path, fault_job: FaultJob
) -> None:
    table = {"uri": str(tmp_path / "t")}
    of_delta(tmp_path / "t", 1, 2)
    of_pages = fault_job(table=table, tasks=[{"task": "ocr", "of": ["page"]}])
    assert run_over(of_pages) == (None, [1, 2])
    assert run_over(of_pages) == ("0", [])
    assert run_over(fault_job(table=table, tasks=[{"task": "ocr", "of": ["page", "image"]}]))[1] == [1, 2]


def test_after_a_run_that_asked_something_else_all_is_listed_again(
    tmp_path: Path, fault_job: FaultJob
) -> None:
    """What it answered it has taken from the errors, and with them what the first job still owes there."""
    table = {"uri": str(tmp_path / "t")}
    of_delta(tmp_path / "t", 1, 2)
    job = fault_job(table=table, tasks=["ocr"])
    run_over(job)
    assert run_over(job) == ("0", [])
    assert run_over(fault_job(table=table, tasks=["caption"]))[0] is None
    assert run_over(job) == (None, [1, 2])
    assert run_over(job) == ("0", [])
    begun = Path(job.output) / "_runs" / "run-99-of-a-bucket"
    begun.mkdir()
    (begun / "job.yaml").write_text("tasks: [caption]\n")
    assert run_over(job) == (None, [1, 2]), "one that was killed may have swept too"


def test_after_a_run_that_was_told_to_ask_again_and_was_killed_all_is_listed_again(
    tmp_path: Path, fault_job: FaultJob
) -> None:
    """It may have answered, and not have swept: until somebody does, both answers are there."""
    of_delta(tmp_path / "t", 1, 2)
    job = fault_job(table={"uri": str(tmp_path / "t")}, tasks=["ocr"])
    run_over(job)
    source = source_of(job)
    plan = make_plan(job, source.attributes, 0.0, Selection(force=True))
    forced = Path(job.output) / "_runs" / "run-1"
    forced.mkdir()
    (forced / "job.yaml").write_text("tasks: [ocr]\n")
    (forced / "source.json").write_text(json.dumps(resume(plan, source)))
    assert run_over(job) == (None, [1, 2])
    assert run_over(job) == ("0", [])


def test_where_the_answers_were_removed_all_is_listed(tmp_path: Path, fault_job: FaultJob) -> None:
    job = fault_job(table={"uri": str(tmp_path / "t")}, tasks=["ocr"])
    of_delta(tmp_path / "t", 1, 2)
    run_over(job)
    for faulty, count in ((["another/v1"], 0), ([], 2)):
        source = source_of(job)
        plan = make_plan(job, source.attributes, 0.0)
        assert (resume(plan, source) or {})["since"] == "0"
        ledger = replace(read_ledger(plan), faulty=pa.array(faulty, NAME))
        assert sum(map(len, walk(plan, source, ledger))) == count


def test_documents_that_are_passed_over_are_counted_once_and_by_one_shard(
    tmp_path: Path, fault_job: FaultJob
) -> None:
    """Whatever their version was: one that was replaced since is listed, and is one document still."""
    job = fault_job(table={"uri": str(tmp_path / "t")}, tasks=["ocr"])
    of_delta(tmp_path / "t", 1, 2, 3)
    run_over(job)
    source = source_of(job)
    [listed] = source.documents()
    plan = make_plan(job, source.attributes, 0.0)
    names = sorted(f"{document_id(str(number))}/v" for number in range(40))
    names += [f"{listed['document_id'][1].as_py()}/{version}" for version in ("old", "older")]
    ledger = replace(read_ledger(plan), complete=pa.array(sorted(names)))
    assert passed_over(plan, source, ledger) == 0, "all of it is listed"
    resume(plan, source)
    assert passed_over(plan, source, ledger) == 42
    assert versions_met(ledger, listed) == 2
    assert versions_met(ledger, listed.slice(2)) == 0
    shards = [Selection(shard=Shard(index=index, count=3)) for index in (1, 2, 3)]
    each = [passed_over(replace(plan, selection=shard), source, ledger) for shard in shards]
    assert sum(each) == 42 and all(each)


def test_a_list_says_how_many_it_passed_over(
    tmp_path: Path, fault_job: FaultJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fault_job(table={"uri": str(tmp_path / "t")}, tasks=["ocr"])
    of_delta(tmp_path / "t", 1, 2, 3)
    run_over(job)
    source = source_of(job)
    [before] = source.documents()
    plan = replace(make_plan(job, source.attributes, 0.0), run_id="later")
    first, second, third = sorted(f"{name}/v" for name in before["document_id"].to_pylist())
    held = replace(
        read_ledger(plan), complete=pa.array([first, second], NAME), faulty=pa.array([third], NAME)
    )
    monkeypatch.setattr("pipelines.feed.read_ledger", lambda _: held)
    monkeypatch.setattr(type(held), "unsaid", lambda *_: pa.array([first.partition("/")[0]]))
    resume(plan, source)
    feed = Feed(plan, source)
    assert asyncio.run(feed.ready(1)) is False
    feed.check()
    listed = feed.progress()
    assert (listed.documents, listed.passed) == (2, 1), "one is owed, of one the row is"


def test_text_that_is_none_names_its_file_and_column(tmp_path: Path, fault_job: FaultJob) -> None:
    latin = pa.array([b"/in/a.pdf", "/in/\u00e4.pdf".encode("latin-1")])
    broken = pa.StringArray.from_buffers(2, *latin.buffers()[1:])
    pq.write_table(pa.table({"uri": broken}), tmp_path / "p.parquet")
    source = source_of(fault_job(table={"uri": str(tmp_path / "p.parquet")}, tasks=["ocr"]))
    with pytest.raises(JobError, match=r"p\.parquet: column 'uri' does not hold what it says"):
        list(source.documents())


@pytest.mark.parametrize("key", [None, 7])
def test_rows_that_came_later_are_the_later_ones(tmp_path: Path, key: int | None) -> None:
    """However their files are named: two rows without a key that say the same are two, and of two with one
    key the later is an error."""
    from deltalake import write_deltalake

    rows = pa.table({"id": pa.array([key], pa.int64()), "uri": ["/in/a.pdf"]})
    for turn in range(8):
        table = TableOptions(uri=str(tmp_path / str(turn)), key=("id",))
        write_deltalake(table.uri, rows)
        first = TableSource(table, StorageOptions())
        [before] = [row for each in first.documents() for row in each.to_pylist()]
        write_deltalake(table.uri, rows, mode="append")
        later = TableSource(table, StorageOptions())
        assert first.pinned is not None
        later.since = first.pinned["version"]
        owed = pa.array([before["document_id"]])
        uris = [row["uri"] for each in later.documents(owed) for row in each.to_pylist()]
        assert uris[0] == before["uri"] and len(set(uris)) == 2 and "#row-" in uris[1]


@pytest.mark.parametrize("write", [of_delta, of_lance])
@pytest.mark.parametrize("key", ["id", ["id", "part"]])
def test_a_new_row_whose_key_an_old_one_has_is_told_of(
    write: Written, key: Any, tmp_path: Path, fault_job: FaultJob
) -> None:
    """Old files are not read, but for their keys."""
    job = fault_job(table={"uri": str(tmp_path / "t"), "key": key}, tasks=["ocr"])
    write(tmp_path / "t", 1, 2)
    assert run_over(job) == (None, [1, 2])
    write(tmp_path / "t", 2, 3)
    source = source_of(job)
    assert isinstance(source, TableSource)
    resume(make_plan(job, source.attributes, 0.0), source)
    assert source.since is not None
    listed = [row for table in source.documents(pa.array([], pa.string())) for row in table.to_pylist()]
    told = {row["attributes"]["id"]: row["version"] for row in listed}
    assert told == {2: "refused", 3: ""}
    whole = [row for table in source_of(job).documents() for row in table.to_pylist()]
    assert [row["version"] for row in whole].count("refused") == 1
