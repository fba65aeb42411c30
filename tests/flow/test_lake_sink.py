"""A run's tables hold what its part files hold: once each, in one commit, whatever comes between."""

from __future__ import annotations

import io
import os
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deploy.demo.documents import EXAMPLES
from deploy.demo.objectstore import ObjectStore
from pipelines.lake.command import bring_up_to_date
from pipelines.lake.staged import discard_dead, marked
from pipelines.lake.sync import bring_up
from pipelines.lake.tables import LakeTable, tables_of
from pipelines.lease import Lease
from pipelines.leftovers import remove_leftovers
from pipelines.plan import Plan
from pipelines.report import TableCounts
from schemas.errors import JobError, StorageUnavailable
from schemas.ids import document_id
from schemas.job import JobSpec, make_job
from schemas.selection import Selection
from schemas.shard import Shard
from tests.chaos.proxy import Decide, Fate, proxied
from tests.fixtures.runs import GEMMA3, RunJob
from workers.sinks.parquet import encode
from workers.sinks.reading import read_columns
from workers.storage.factory import join, open_storage
from workers.tables import OUTPUT, open_table

IMAGES = 30
FORMATS = ["delta", "iceberg", "lance"]
ASKED, ERRORS, DOCUMENTS = "records_what_x2dis_x2dit", "errors", "documents"
SOON = {"read_seconds": 1, "attempts": 2, "outage_seconds": 2}


@pytest.fixture(autouse=True)
def way_in(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)


@dataclass(frozen=True)
class Lake:
    """A prefix of the store with documents, and the jobs that read them."""

    store: ObjectStore
    prefix: str
    folder: Path

    def put(self, pictures: dict[int, bytes]) -> None:
        client = self.store.client()
        for number, content in pictures.items():
            key = f"{self.prefix}/in/{number:03}.png"
            client.put_object(Bucket=self.store.bucket, Key=key, Body=content)

    def job(self, kind: str = "delta", **settings: Any) -> JobSpec:
        values = {
            "input": self.store.url(f"{self.prefix}/in/"),
            "output": self.store.url(f"{self.prefix}/out"),
            "tasks": [{"task": "caption", "name": "what-is-it", "prompt": "What is it?"}],
            "models": {"vision": str(GEMMA3)},
            "engine": {"kind": "fault"},
            "sink": self.sink(kind),
            "limits": {"failed_share": 1.0},
        }
        return make_job(values | settings)

    def sink(self, kind: str) -> dict[str, Any]:
        if kind != "iceberg":
            return {"kind": kind}
        catalog = {
            "type": "sql",
            "uri": f"sqlite:///{self.folder}/catalog.db",
            "warehouse": self.store.url(f"{self.prefix}/warehouse"),
        }
        return {"kind": kind, "tables": "answers", "catalog": catalog}

    def keys(self) -> set[str]:
        found = self.store.client().list_objects_v2(Bucket=self.store.bucket, Prefix=f"{self.prefix}/")
        return {entry["Key"] for entry in found.get("Contents", ()) if "/in/" not in entry["Key"]}


@pytest.fixture
def lake(object_store: ObjectStore, tmp_path: Path) -> Lake:
    return Lake(object_store, f"lake-sink/{uuid.uuid4().hex}", tmp_path)


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (number * 8 % 256, number % 256, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def tables(job: JobSpec) -> dict[str, LakeTable]:
    return {table.name: table for table in tables_of(Plan(job, "looks", (), None))}


def brought_up(
    job: JobSpec,
    *listed: str,
    run_id: str = "ours",
    shard: str = "1/1",
    check: Callable[[], None] = lambda: None,
) -> dict[str, TableCounts]:
    """What a run does at its end, on the session's Ray."""
    ids = pa.table({"document_id": pa.array([document_id(uri) for uri in listed], pa.string())})
    return bring_up(Plan(job, run_id, (), None, Selection(shard=Shard.parse(shard))), ids, check)


def rows_of(table: LakeTable, uris: list[str], **said: Any) -> pa.Table:
    facts = {
        "version": "v",
        "run_id": "ours",
        "answered_at": datetime(2026, 1, 1, tzinfo=UTC),
        "status": "ok",
    }
    rows = [{**facts, "document_id": document_id(uri), "uri": uri, **said} for uri in uris]
    return pa.Table.from_pylist(rows, table.schema)


def publish(job: JobSpec, table: LakeTable, name: str, rows: pa.Table) -> None:
    """A part file, as a sink leaves it."""
    uri = join(job.output, table.folder, f"part-{name}.parquet")
    open_storage(uri, job.storage).publish(uri, encode(rows))


def filled(job: JobSpec) -> None:
    """Part files in each folder, of thirty documents."""
    for table in tables(job).values():
        for part in range(3):
            uris = [f"s3://lake/{part}{number}" for number in range(IMAGES // 3)]
            publish(job, table, str(part), rows_of(table, uris))


def read(table: LakeTable) -> pa.Table:
    """By its format's own library, as its user would."""
    place, endpoint = table.place, os.environ["AWS_ENDPOINT_URL"]
    if place.format == "delta":
        from deltalake import DeltaTable

        options = {"allow_http": "true", "aws_endpoint": endpoint}
        return DeltaTable(place.uri, storage_options=options).to_pyarrow_table()
    if place.format == "lance":
        import lance

        options = {"allow_http": "true", "aws_endpoint": endpoint}
        return lance.dataset(place.uri, storage_options=options).to_table()
    from pyiceberg.catalog import load_catalog

    found = load_catalog(**place.catalog, **{"s3.endpoint": endpoint}).load_table(place.uri)
    # Not by `to_arrow`: in pyiceberg 0.12 a list of structs that is null comes back empty.
    files = [found.io.new_input(task.file.file_path).open() for task in found.scan().plan_files()]
    rows = [pq.read_table(file) for file in files]
    return pa.concat_tables(rows, promote_options="default") if rows else table.schema.empty_table()


def spelled(rows: pa.Table, columns: list[str]) -> Counter[str]:
    return Counter(repr(row) for row in rows.select(columns).to_pylist())


def same(job: JobSpec) -> None:
    """Every row of every folder is in its table, once, with all that it says; and nothing else is."""
    for table in tables(job).values():
        columns = table.schema.names
        parts = list(read_columns(job.output, job.storage, table.folder, columns))
        folder = pa.concat_tables([table.schema.empty_table(), *parts], promote_options="default")
        found = spelled(read(table), columns)
        assert found == spelled(folder, columns)
        assert set(found.values()) <= {1}


@pytest.mark.parametrize(
    "kind", ["delta", *(pytest.param(kind, marks=pytest.mark.thorough) for kind in FORMATS[1:])]
)
def test_runs_and_their_tables(kind: str, run_job: RunJob, lake: Lake) -> None:
    lake.put({number: picture(number) for number in range(IMAGES)})
    job = lake.job(kind)
    first = run_job(job).tables
    assert {name: (table.added, table.removed) for name, table in first.items()} == {
        ASKED: (IMAGES, 0),
        ERRORS: (0, 0),
        DOCUMENTS: (IMAGES, 0),
    }
    same(job)

    lake.put(
        {3: b"\x89PNG\r\n\x1a\n and nothing behind it", 4: (EXAMPLES / "shapes/square.png").read_bytes()}
    )
    replaced = run_job(job).tables
    assert (replaced[ASKED].added, replaced[ASKED].removed) == (1, 1), "the last answer about 3 stays"
    assert (replaced[ERRORS].added, replaced[ERRORS].removed) == (1, 0)
    assert (replaced[DOCUMENTS].added, replaced[DOCUMENTS].removed) == (2, 2)
    same(job)

    lake.put({3: picture(3)})
    changed = lake.job(kind, tasks=[{"task": "caption", "name": "what-is-it", "prompt": "Why?"}])
    asked = run_job(changed).tables
    assert (asked[ASKED].added, asked[ASKED].removed) == (IMAGES, IMAGES)
    assert (asked[ERRORS].added, asked[ERRORS].removed) == (0, 1), "it is made good"
    if kind == "delta":
        assert int(asked[ASKED].version) == int(replaced[ASKED].version) + 1, "in one commit"
    same(changed)


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_come_once_and_go_with_their_part_files(kind: str, ray_cluster: None, lake: Lake) -> None:
    job = lake.job(kind)
    filled(job)
    first = brought_up(job)
    assert {(table.added, table.removed) for table in first.values()} == {(IMAGES, 0)}
    same(job)
    again = brought_up(job, run_id="later")
    assert [table.version for table in again.values()] == [table.version for table in first.values()]
    # One part file is swept: of a document other answers are there, of another an error is made good.
    for table in tables(job).values():
        publish(job, table, "0", rows_of(table, ["s3://lake/00"], run_id="later"))
    swept = brought_up(job, *(f"s3://lake/0{number}" for number in range(10)), run_id="later")
    assert (swept[ERRORS].added, swept[ERRORS].removed) == (1, 10)
    assert (swept[ASKED].added, swept[ASKED].removed) == (1, 1), "there is no answer in place of the others"


def test_an_output_that_had_no_tables_gets_them_without_a_run(ray_cluster: None, lake: Lake) -> None:
    job = lake.job()
    filled(job)
    assert {table.added for table in bring_up_to_date(job).values()} == {IMAGES}
    same(job)
    errors = tables(job)[ERRORS]
    publish(job, errors, "0", rows_of(errors, ["s3://lake/00"]))
    assert bring_up_to_date(job)[ERRORS].removed == 9, "made good, by the documents' own rows"
    same(job)


@pytest.mark.parametrize("kind", FORMATS)
def test_two_runs_commit_at_once_and_neither_undoes_the_other(
    kind: str, ray_cluster: None, lake: Lake
) -> None:
    """Each has a shard, and the rows of both are in one data file, which both write anew."""
    job = lake.job(kind)
    filled(job)
    brought_up(job)
    for table in tables(job).values():
        for part in range(3):
            uris = [f"s3://lake/{part}{number}" for number in range(IMAGES // 3)]
            publish(job, table, str(part), rows_of(table, uris, run_id="later"))
    others: list[dict[str, TableCounts]] = []

    def meanwhile() -> None:
        if not others:
            others.append({})
            others.append(brought_up(job, run_id="theirs", shard="2/2"))

    with Lease(job.output, job.storage, "ours", Shard.parse("1/2")):
        found = brought_up(job, run_id="ours", shard="1/2", check=meanwhile)
    for name, table in found.items():
        assert table.added == table.removed and table.added + others[-1][name].added == IMAGES
    same(job)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_task_gets_a_field_and_another_type_is_refused(
    kind: str, ray_cluster: None, run_job: RunJob, lake: Lake
) -> None:
    def job(**fields: str) -> JobSpec:
        return lake.job(kind, tasks=[{"task": "extract", "name": "what-is-it", "fields": fields}])

    old, new = job(colour="text"), job(colour="text", sides="integer")
    table = tables(old)[ASKED]
    publish(old, table, "0", rows_of(table, ["a", "b"], data={"colour": "red"}))
    assert brought_up(old)[ASKED].added == 2
    table = tables(new)[ASKED]
    publish(new, table, "0", rows_of(table, ["a"], fingerprint="f", data={"colour": "red", "sides": 4}))
    publish(
        new,
        table,
        "1",
        rows_of(tables(old)[ASKED], ["b"], data={"colour": "red"})
        .drop_columns("data")
        .append_column(
            table.schema.field("data"),
            pa.array([{"colour": "red", "sides": None}], table.schema.field("data").type),
        ),
    )
    found = brought_up(new, run_id="later")[ASKED]
    assert (found.added, found.removed) == (1, 1)
    assert sorted((row["uri"], row["data"]["sides"]) for row in read(table).to_pylist()) == [
        ("a", 4),
        ("b", None),
    ]
    with pytest.raises(JobError, match=r"column data.sides is int64, and this job has decimal128"):
        run_job(job(colour="text", sides="decimal"))


def losing(path_part: str, lost: list[str]) -> Decide:
    """The answer to the first PUT of such a path is kept back."""

    def decide(method: str, path: str) -> Fate:
        if method != "PUT" or lost or path_part not in path:
            return Fate.PASSED
        lost.append(path)
        return Fate.UNANSWERED

    return decide


def test_a_commit_whose_answer_is_lost_is_there_once(ray_cluster: None, lake: Lake) -> None:
    lost: list[str] = []
    filled(lake.job())
    with proxied(lake.store, losing(f"/tables/{ASKED}/_delta_log/00000000000000000001", lost)) as way:
        storage = {"endpoint_url": way["AWS_ENDPOINT_URL"], "read_seconds": 2}
        found = brought_up(lake.job(storage=storage))
    assert len(lost) == 1, "the commit was made, and nobody was told"
    assert found[ASKED].version == "1"
    same(lake.job())


def test_a_store_of_tables_that_is_away(ray_cluster: None, lake: Lake) -> None:
    """The part files are complete, the run ends as of any store's failure, and the next makes up for it."""
    job = lake.job()
    filled(job)

    def decide(method: str, path: str) -> Fate:
        held = method == "PUT" and f"/tables/{DOCUMENTS}/" in path
        return Fate.HELD if held else Fate.PASSED

    with (
        proxied(lake.store, decide) as way,
        pytest.raises(StorageUnavailable, match="files of .* are complete"),
    ):
        brought_up(lake.job(storage={"endpoint_url": way["AWS_ENDPOINT_URL"], **SOON}))
    found = brought_up(job, run_id="later")
    assert (found[ASKED].added, found[DOCUMENTS].added) == (0, IMAGES)
    same(job)


def test_a_table_of_another_output_is_refused_before_anything_is_asked(run_job: RunJob, lake: Lake) -> None:
    job = lake.job()
    table = tables(job)[DOCUMENTS]
    open_table(table.place, job.storage).create(table.schema, {OUTPUT: "s3://lake/another"})
    lake.put({0: picture(0)})
    with pytest.raises(JobError, match="holds the rows of s3://lake/another"):
        run_job(job)
    assert not list(read_columns(job.output, job.storage, "records", ["uri"]))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_dead_run_staged_goes_and_what_a_live_one_did_stays(kind: str, lake: Lake) -> None:
    job = lake.job(kind)
    table = tables(job)[ERRORS]
    opened, output = open_table(table.place, job.storage), job.output
    opened.create(table.schema, {OUTPUT: output})

    def staged(run_id: str) -> None:
        with pytest.raises(KeyboardInterrupt), marked(output, job.storage, run_id, table.place):
            opened.stage(rows_of(table, ["a"]), run_id, "0")
            raise KeyboardInterrupt

    before = lake.keys()
    staged("dead")
    with Lease(output, job.storage, "live", Shard(index=1, count=2)):
        alive = lake.keys()
        staged("live")
        left = lake.keys() - alive
        assert len(left) >= 2, "a file, and the mark that says so"
        assert discard_dead(output, job.storage) == 1
        assert {key for key in lake.keys() if "/_lease/" not in key} == before | left
    assert remove_leftovers(output, job.storage) == 1
    assert lake.keys() == before
