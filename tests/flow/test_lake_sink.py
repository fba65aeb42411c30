"""A run's tables hold what its part files hold: once each, in one commit, whatever comes between."""

from __future__ import annotations

import io
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from deploy.demo.objectstore import ObjectStore
from pipelines.lake.staged import discard_dead, marked
from pipelines.lake.tables import LakeTable, tables_of
from pipelines.lease import Lease
from pipelines.leftovers import remove_leftovers
from pipelines.plan import Plan
from schemas.errors import JobError, StorageUnavailable
from schemas.job import JobSpec, make_job
from schemas.shard import Shard
from tests.chaos.proxy import Decide, Fate, proxied
from tests.fixtures.runs import GEMMA3, RunJob
from workers.sinks.reading import read_columns
from workers.tables import OUTPUT, open_table

IMAGES = 30
FORMATS = ["delta", "iceberg", "lance"]
ASKED, ERRORS, DOCUMENTS = "records_what_x2dis_x2dit", "errors", "documents"


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

    def put(self, number: int, content: bytes | None = None) -> None:
        if content is None:
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), (number * 8 % 256, number % 256, 90)).save(buffer, "PNG")
            content = buffer.getvalue()
        key = f"{self.prefix}/in/{number:03}.png"
        self.store.client().put_object(Bucket=self.store.bucket, Key=key, Body=content)

    def job(self, kind: str = "delta", sink: dict[str, Any] | None = None, **settings: Any) -> JobSpec:
        catalog = {
            "type": "sql",
            "uri": f"sqlite:///{self.folder}/catalog.db",
            "warehouse": self.store.url(f"{self.prefix}/warehouse"),
        }
        named = {"tables": "answers", "catalog": catalog} if kind == "iceberg" else {}
        values = {
            "input": self.store.url(f"{self.prefix}/in/"),
            "output": self.store.url(f"{self.prefix}/out"),
            "tasks": [{"task": "caption", "name": "what-is-it", "prompt": "What is it?"}],
            "models": {"vision": str(GEMMA3)},
            "engine": {"kind": "fault"},
            "sink": {"kind": kind, **named, **(sink or {})},
            "limits": {"failed_share": 1.0},
        }
        return make_job(values | settings)


@pytest.fixture
def lake(object_store: ObjectStore, tmp_path: Path, request: pytest.FixtureRequest) -> Lake:
    # delta-rs cannot write where a name has brackets, as those of parametrised tests have.
    name = request.node.name.replace("[", "-").rstrip("]")
    found = Lake(object_store, f"lake-sink/{name}", tmp_path)
    for number in range(IMAGES):
        found.put(number)
    return found


def tables(job: JobSpec) -> dict[str, LakeTable]:
    return {table.name: table for table in tables_of(Plan(job, "looks", (), None))}


def read(table: LakeTable) -> pa.Table:
    """By its format's own library, as its user would."""
    place, options = table.place, {"AWS_ALLOW_HTTP": "true", "aws_endpoint": os.environ["AWS_ENDPOINT_URL"]}
    if place.format == "delta":
        from deltalake import DeltaTable

        return DeltaTable(place.uri, storage_options=options).to_pyarrow_table()
    if place.format == "lance":
        import lance

        return lance.dataset(place.uri, storage_options=options | {"allow_http": "true"}).to_table()
    from pyiceberg.catalog import load_catalog

    return (
        load_catalog(**place.catalog, **{"s3.endpoint": os.environ["AWS_ENDPOINT_URL"]})
        .load_table(place.uri)
        .scan()
        .to_arrow()
    )


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


@pytest.mark.parametrize("kind", FORMATS)
def test_the_life_of_a_table(kind: str, run_job: RunJob, lake: Lake) -> None:
    job = lake.job(kind)
    first = run_job(job).tables
    assert {name: (table.added, table.removed) for name, table in first.items()} == {
        ASKED: (IMAGES, 0),
        ERRORS: (0, 0),
        DOCUMENTS: (IMAGES, 0),
    }
    same(job)

    again = run_job(job).tables
    assert {name: table.version for name, table in again.items()} == {
        name: table.version for name, table in first.items()
    }, "nothing to do, and nothing committed"

    lake.put(3, b"\x89PNG\r\n\x1a\n and nothing behind it")
    lake.put(4, (Path(GEMMA3).parents[1] / "examples" / "shapes" / "tent.png").read_bytes())
    replaced = run_job(job).tables
    assert (replaced[ASKED].added, replaced[ASKED].removed) == (1, 1), "the last answer about 3 stays"
    assert (replaced[ERRORS].added, replaced[ERRORS].removed) == (1, 0)
    assert (replaced[DOCUMENTS].added, replaced[DOCUMENTS].removed) == (2, 2)
    same(job)

    changed = job.model_copy(
        update={"tasks": lake.job(tasks=[{"task": "caption", "name": "what-is-it", "prompt": "Why?"}]).tasks}
    )
    lake.put(3)
    asked = run_job(changed).tables
    assert (asked[ASKED].added, asked[ASKED].removed) == (IMAGES, IMAGES)
    assert (asked[ERRORS].added, asked[ERRORS].removed) == (0, 1), "it is made good"
    same(changed)
    if kind == "delta":
        assert int(asked[ASKED].version) == int(replaced[ASKED].version) + 1, "in one commit"


def extract(**fields: str) -> list[dict[str, Any]]:
    return [{"task": "extract", "name": "what-is-it", "fields": fields}]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_task_gets_a_field_and_another_type_is_refused(kind: str, run_job: RunJob, lake: Lake) -> None:
    some = {"include": ["00*"]}
    run_job(lake.job(kind, tasks=extract(colour="text"), **some))
    job = lake.job(kind, tasks=extract(colour="text", sides="integer"), **some)
    report = run_job(job)
    assert (report.tables[ASKED].added, report.tables[ASKED].removed) == (10, 10)
    same(job)
    with pytest.raises(JobError, match=r"column data.sides is int64, and this job has decimal128"):
        run_job(lake.job(kind, tasks=extract(colour="text", sides="decimal"), **some))


def losing(folder: str, lost: list[str]) -> Decide:
    """The answer to the first PUT of a commit below this folder is kept back."""

    def decide(method: str, path: str) -> Fate:
        if method != "PUT" or lost or folder not in path:
            return Fate.PASSED
        lost.append(path)
        return Fate.UNANSWERED

    return decide


def test_a_commit_whose_answer_is_lost_is_there_once(run_job: RunJob, lake: Lake) -> None:
    lost: list[str] = []
    with proxied(lake.store, losing(f"/tables/{ASKED}/_delta_log/00000000000000000001", lost)) as way:
        storage = {"endpoint_url": way["AWS_ENDPOINT_URL"], "read_seconds": 2}
        report = run_job(lake.job(storage=storage))
    assert len(lost) == 1, "the commit was made, and nobody was told"
    assert report.tables[ASKED].version == "1"
    same(lake.job())


def test_a_store_of_tables_that_is_away(run_job: RunJob, lake: Lake) -> None:
    """The part files are complete, the run ends as of any store's failure, and the next makes up for it."""
    job = lake.job()

    def decide(method: str, path: str) -> Fate:
        return (
            Fate.HELD if method == "PUT" and f"/{DOCUMENTS}/" in path and "/tables/" in path else Fate.PASSED
        )

    with proxied(lake.store, decide) as way:
        storage = {"endpoint_url": way["AWS_ENDPOINT_URL"], "read_seconds": 1, "attempts": 1}
        away = {**storage, "outage_seconds": 1}
        with pytest.raises(StorageUnavailable, match="the part files of .* are complete"):
            run_job(lake.job(storage=away))
    report = run_job(job)
    assert report.counts.skipped == IMAGES and report.tables[ASKED].added == 0
    assert report.tables[DOCUMENTS].added == IMAGES
    same(job)


def test_a_table_of_another_output_is_refused_before_anything_is_asked(run_job: RunJob, lake: Lake) -> None:
    mine = lake.job()
    table = tables(mine)[DOCUMENTS]
    opened = open_table(table.place, mine.storage)
    opened.create(table.schema, {OUTPUT: "s3://lake/another"})
    with pytest.raises(JobError, match="holds the rows of s3://lake/another"):
        run_job(mine)
    with pytest.raises(JobError, match="holds the rows of s3://lake/another"):
        run_job(
            lake.job(output=lake.store.url(f"{lake.prefix}/out2"), sink={"tables": mine.output + "/tables"})
        )
    assert not list(read_columns(mine.output, mine.storage, "records", ["uri"]))


def keys_of(lake: Lake) -> set[str]:
    found = lake.store.client().list_objects_v2(Bucket=lake.store.bucket, Prefix=f"{lake.prefix}/")
    return {entry["Key"] for entry in found.get("Contents", ()) if "/in/" not in entry["Key"]}


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_dead_run_staged_goes_and_what_a_live_one_did_stays(kind: str, lake: Lake) -> None:
    job = lake.job(kind)
    plan = Plan(job, "looks", (), None)
    table = tables(job)[ERRORS]
    opened = open_table(table.place, job.storage)
    opened.create(table.schema, {OUTPUT: plan.output})
    rows = pa.Table.from_pylist(
        [{"document_id": "a", "uri": "a", "version": "v", "message": "no"}], table.schema
    )

    def staged(run_id: str) -> None:
        with pytest.raises(KeyboardInterrupt), marked(plan.output, job.storage, run_id, table.place):
            opened.stage(rows, run_id, "0")
            raise KeyboardInterrupt

    before = keys_of(lake)
    staged("dead")
    with Lease(plan.output, job.storage, "live", Shard(index=1, count=2)):
        alive = keys_of(lake)
        staged("live")
        left = keys_of(lake) - alive
        assert len(left) == 2, "a file, and the mark that says so"
        assert discard_dead(plan.output, job.storage) == 1
        assert {key for key in keys_of(lake) if "_lease" not in key} == before | left
    assert remove_leftovers(plan.output, job.storage) == 1
    assert keys_of(lake) == before
