"""The head of the stream: what was listed before a fault goes on, and the fault is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import feed as feeds
from pipelines.feed import Feed, in_scope, read_chunk
from pipelines.ledger import Ledger, read_ledger
from pipelines.plan import Plan, make_plan
from pipelines.runner import source_of
from pipelines.sources.listing import documents_table
from schemas.errors import (
    AccessDenied,
    AddressRefused,
    GemstreamError,
    JobError,
    ObjectMissing,
    SnapshotGone,
    StorageUnavailable,
)
from schemas.ids import document_id
from schemas.job import JobSpec
from schemas.limits import Limits
from schemas.rows import DOCUMENTS, KEPT
from schemas.selection import Selection
from schemas.storage import StorageOptions
from workers.fetch import Fetched, Fetcher, documents_of
from workers.storage import ObjectInfo
from workers.storage.factory import look_up
from workers.storage.local import LocalStorage


class Stops:
    """A source that comes to an end, after its first chunk if not at once."""

    attributes: pa.DataType | None = None

    def __init__(self, *chunks: pa.Table, fault: GemstreamError | None = None) -> None:
        self._chunks = chunks
        self._fault = fault or AccessDenied("the rest may not be listed")

    def documents(self) -> Iterator[pa.Table]:
        yield from self._chunks
        raise self._fault


def test_what_was_listed_before_a_fault_goes_on(tmp_path: Path, fault_job: Callable[..., JobSpec]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    job = fault_job(input=str(tmp_path / "in"), tasks=["ocr"])
    plan = make_plan(job, None, 0.0)
    [chunk] = source_of(job).documents()
    assert chunk.schema == DOCUMENTS

    feed = Feed(plan, Stops(chunk))

    assert asyncio.run(feed.ready(0)) is True
    assert asyncio.run(feed.ready(1)) is False
    [listed] = read_chunk(plan, 0, plan.lanes[0].pool)
    assert listed["uri"].to_pylist() == chunk["uri"].to_pylist()
    with pytest.raises(AccessDenied):
        feed.check()


class Endless:
    """A source that goes on as long as it is asked."""

    attributes: pa.DataType | None = None

    def __init__(self, chunk: pa.Table) -> None:
        self._chunk = chunk

    def documents(self) -> Iterator[pa.Table]:
        while True:
            yield self._chunk


def test_a_list_that_is_told_to_stop_grows_no_more(tmp_path: Path, fault_job: Callable[..., JobSpec]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    job = fault_job(input=str(tmp_path / "in"), tasks=["ocr"])
    plan = make_plan(job, None, 0.0)
    [chunk] = source_of(job).documents()
    feed = Feed(plan, Endless(chunk))
    assert asyncio.run(feed.ready(1)) is True
    feed.stop()
    asyncio.run(feed.ended())
    feeds.close_list(plan)
    assert feed.progress().ended and not list(Path(plan.output, "_runs").rglob("listed/*"))
    feed.check()


def test_a_list_that_ended_well_has_nothing_to_tell(
    tmp_path: Path, fault_job: Callable[..., JobSpec]
) -> None:
    (tmp_path / "in").mkdir()
    job = fault_job(input=str(tmp_path / "in"), tasks=["ocr"])
    feed = Feed(make_plan(job, None, 0.0), source_of(job))
    assert asyncio.run(feed.ready(0)) is False
    feed.check()
    assert feed.progress().ended


@pytest.mark.parametrize(
    ("fault", "listed", "is_the_job"),
    [
        (JobError("line 1 of the list"), False, True),
        (JobError("line 1,001 of the list"), True, False),
        (SnapshotGone("its file was written anew"), False, False),
    ],
)
def test_a_job_is_wrong_only_where_nothing_was_started(
    tmp_path: Path, fault_job: Callable[..., JobSpec], fault: GemstreamError, listed: bool, is_the_job: bool
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    job = fault_job(input=str(tmp_path / "in"), tasks=["ocr"])
    chunks = source_of(job).documents() if listed else ()
    feed = Feed(make_plan(job, None, 0.0), Stops(*chunks, fault=fault))
    assert asyncio.run(feed.ready(0)) is listed
    assert asyncio.run(feed.ready(1)) is False
    with pytest.raises(GemstreamError, match=fault.message) as caught:
        feed.check()
    assert isinstance(caught.value, JobError) is is_the_job, "which is exit code 2, and else 1"


NAMES = ("done", "begun", "new", "gone")


@pytest.fixture
def named(tmp_path: Path, fault_job: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch) -> JobSpec:
    """A manifest. The output holds all answers about `done` and `gone`, some about `begun`, and of `new` an
    error from when it could not be looked up."""
    for name in NAMES[:3]:
        (tmp_path / f"{name}.txt").write_text(name)
    listed = [*(f"{name}.txt" for name in NAMES), "http://169.254.169.254/x.txt"]
    (tmp_path / "list.csv").write_text("\n".join(["uri", *listed]))
    ids = {name: document_id(f"file://{tmp_path}/{name}.txt") for name in NAMES}
    version = look_up(f"{tmp_path}/done.txt", StorageOptions()).version
    told = {
        "complete": sorted([f"{ids['done']}/{version}", f"{ids['gone']}/v1"]),
        "begun": [f"{ids['begun']}/v1"],
        "faulty": [f"{ids['new']}/"],
        "failed": [f"{ids['new']}/"],
    }

    def ledger(plan: Plan) -> Ledger:
        empty = read_ledger(plan)
        names = {key: pa.array(each, empty.complete.type) for key, each in told.items()}
        return replace(empty, counts=pa.array([1, 1], pa.int32()), kept=pa.array([["0/ocr"]], KEPT), **names)

    monkeypatch.setattr(feeds, "read_ledger", ledger)
    return fault_job(manifest=str(tmp_path / "list.csv"), tasks=["ocr"])


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Counter[str]]:
    """Has the store not answer to so many look-ups of each object; counts them."""

    def begin(times: int) -> Counter[str]:
        asked: Counter[str] = Counter()
        plainly = LocalStorage.info

        def info(storage: LocalStorage, uri: str) -> ObjectInfo:
            name = uri.rpartition("/")[2]
            asked[name] += 1
            if name.endswith(".txt") and asked[name] <= times:
                raise StorageUnavailable(f"{uri} could not be read")
            return plainly(storage, uri)

        monkeypatch.setattr(LocalStorage, "info", info)
        return asked

    return begin


def fetched(job: JobSpec, selection: Selection | None = None) -> dict[str, Fetched]:
    """What became of each document that goes through the lane."""
    plan = make_plan(job, None, 0.0, selection)
    feed = Feed(plan, source_of(job))
    assert asyncio.run(feed.ready(0)) is True
    assert asyncio.run(feed.ready(1)) is False
    feed.check()
    fetcher = Fetcher(job.storage, Limits(), lambda sniffed: True)
    documents = [row for table in read_chunk(plan, 0, plan.lanes[0].pool) for row in documents_of(table)]
    try:
        return {found.document.uri.rpartition("/")[2]: found for found in fetcher.stream(documents)}
    finally:
        fetcher.close()


def test_what_could_not_be_looked_up_is_looked_up_once_more(
    named: JobSpec, away: Callable[[int], Counter[str]]
) -> None:
    asked = away(1)
    found = fetched(named)
    assert set(found) == {"begun.txt", "new.txt", "gone.txt", "x.txt"}, "what is done is not met again"
    assert found["begun.txt"].fault is None and found["new.txt"].fault is None
    assert isinstance(found["gone.txt"].fault, ObjectMissing)
    assert isinstance(found["x.txt"].fault, AddressRefused)
    assert "x.txt" not in asked and asked["done.txt"] == 2


def test_nothing_is_asked_anew_because_the_store_was_away(
    named: JobSpec, away: Callable[[int], Counter[str]]
) -> None:
    away(2)
    found = fetched(named)
    for name in ("done.txt", "begun.txt"):
        fault = found[name].fault
        assert isinstance(fault, StorageUnavailable) and "the next run tries again" in fault.message
        assert found[name].folder is None
    assert found["new.txt"].fault is None and found["new.txt"].document.version
    assert isinstance(found["gone.txt"].fault, ObjectMissing), "there is nothing to ask about"
    assert isinstance(found["x.txt"].fault, AddressRefused)


def test_a_run_that_asks_everything_again_has_nothing_to_doubt(
    named: JobSpec, away: Callable[[int], Counter[str]]
) -> None:
    away(2)
    found = fetched(named, Selection(force=True))
    assert [found[f"{name}.txt"].fault for name in NAMES[:3]] == [None] * 3


@pytest.mark.parametrize("output", ["s3://b/out", "s3://b/out/"])
def test_what_lies_in_the_output_is_no_document(fault_job: Callable[..., JobSpec], output: str) -> None:
    plan = make_plan(fault_job(input="s3://b/in", output=output, tasks=["ocr"]), None, 0.0)
    uris = ["s3://b/out/documents/part-1.parquet", "s3://b/outer/a.pdf", "s3://b/in/b.pdf"]
    listed = documents_table([ObjectInfo(uri=uri, version="v", size=1) for uri in uris])
    assert in_scope(listed, plan)["uri"].to_pylist() == uris[1:]
