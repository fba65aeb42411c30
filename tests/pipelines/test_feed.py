"""The head of the stream: what was listed before a fault goes on, and the fault is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.feed import Feed, read_chunk
from pipelines.plan import make_plan
from pipelines.runner import source_of
from schemas.errors import AccessDenied, GemstreamError, JobError, SnapshotGone
from schemas.job import JobSpec
from schemas.rows import DOCUMENTS


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
