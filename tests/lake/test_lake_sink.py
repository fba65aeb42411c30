"""A run's tables hold what its part files hold: once each, in one commit, whatever comes between."""

from __future__ import annotations

import uuid
from pathlib import Path

import pyarrow as pa
import pytest

from deploy.demo.documents import EXAMPLES
from deploy.demo.objectstore import ObjectStore
from pipelines.lake.command import bring_up_to_date
from pipelines.lake.staged import discard_dead, marked
from pipelines.lake.tables import refuse_foreign_tables
from pipelines.lease import Lease
from pipelines.leftovers import remove_leftovers
from pipelines.plan import make_plan
from pipelines.report import TableCounts
from schemas.errors import JobError, StorageUnavailable
from schemas.job import JobSpec
from schemas.shard import Shard
from tests.chaos.proxy import Decide, Fate, proxied
from tests.fixtures.runs import RunJob
from tests.lake.sink_lake import (
    ASKED,
    DOCUMENTS,
    ERRORS,
    FORMATS,
    IMAGES,
    SOON,
    Lake,
    brought_up,
    filled,
    picture,
    publish,
    read,
    rows_of,
    same,
    tables,
)
from workers.sinks.reading import read_columns
from workers.tables import OUTPUT, open_table


@pytest.fixture(autouse=True)
def way_in(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def lake(object_store: ObjectStore, tmp_path: Path) -> Lake:
    return Lake(object_store, f"lake-sink/{uuid.uuid4().hex}", tmp_path)


# Of Delta, the chaos suite has the same by default, over a table and with kills.
@pytest.mark.thorough
@pytest.mark.parametrize("kind", FORMATS)
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


def test_what_a_run_made_good_that_never_came_to_its_tables_goes_with_the_next(
    ray_cluster: None, lake: Lake
) -> None:
    """The next lists what is owed and what is new, and of a document without errors nothing is owed."""
    job = lake.job()
    filled(job)
    brought_up(job)
    errors = tables(job)[ERRORS]
    publish(job, errors, "0", rows_of(errors, ["s3://lake/00"]))
    assert brought_up(job, run_id="later", shard="1/2")[ERRORS].removed < 9, "the other shard's stay"
    assert brought_up(job, "s3://lake/new", run_id="later")[ERRORS].removed > 0
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


def test_a_column_that_a_format_has_no_type_for_is_refused_before_anything_is_asked(lake: Lake) -> None:
    carried = pa.struct([pa.field("at", pa.time64("us"))])
    refuse_foreign_tables(make_plan(lake.job("iceberg"), carried, 0.0))
    with pytest.raises(JobError, match=r"attributes\.at is time64\[us\], for which Delta Lake has no type"):
        refuse_foreign_tables(make_plan(lake.job("delta"), carried, 0.0))


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
