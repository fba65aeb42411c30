"""Answers come back beside the rows of the table that they are about: each row keeps its place, once."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from deploy.demo.objectstore import ObjectStore
from pipelines.lake.enrich import enrich
from pipelines.lake.into import into_of, refuse_into
from pipelines.lake.staged import discard_dead
from pipelines.lease import Lease
from pipelines.plan import make_plan
from pipelines.runner import source_of
from pipelines.sources.table import TableSource
from pipelines.sources.table_place import place_of
from schemas.errors import Interrupted, JobError
from schemas.selection import Selection
from schemas.shard import Shard
from tests.fixtures.runs import RunJob
from tests.lake.enrich_lake import (
    CARRIED,
    FORMATS,
    ROWS,
    SCHEMA,
    Lake,
    answered,
    enriched,
    others,
    plan_of,
    say,
)
from workers.storage.factory import join, open_storage
from workers.tables import open_table


@pytest.fixture(autouse=True)
def way_in(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def lake(object_store: ObjectStore, tmp_path: Path, request: pytest.FixtureRequest) -> Lake:
    kind = request.param if hasattr(request, "param") else "delta"
    name = request.node.name.replace("[", "-").replace("]", "")
    return Lake(object_store, f"enrich/{name}", tmp_path, kind)


# The chaos suite does it by default, with kills.
@pytest.mark.thorough
def test_a_run_brings_its_answers_back_and_the_next_has_nothing_to_do(lake: Lake, run_job: RunJob) -> None:
    rows = lake.rows([0, 1, 2]).to_pylist()
    rows += [rows[0] | {"tags": ["again"]}, rows[1] | {"id": None}]
    rows.append(rows[2] | {"id": 3, "uri": lake.store.url(f"{lake.prefix}/in/not-there.png")})
    lake.append(pa.Table.from_pylist(rows, SCHEMA))
    report = run_job(lake.job())
    assert report.counts.unaccounted == 0
    first = next(iter(report.tables.values()))
    assert first.added == first.removed == 4
    found = lake.read().to_pylist()
    assert len(found) == len(rows)
    status = sorted((str(row["id"]), str(row["gemstream_status"])) for row in found)
    assert status == [
        ("0", "None"),
        ("0", "ok"),
        ("1", "ok"),
        ("2", "ok"),
        ("3", "failed"),
        ("None", "None"),
    ]
    assert answered(lake.read()) == [0, 1, 2]
    lake.append(lake.rows([4]))
    report = run_job(lake.job())
    assert report.counts.unaccounted == 0
    assert (report.counts.ok, report.counts.skipped) == (1, 0), "rows with their answers are passed over"
    again = next(iter(report.tables.values()))
    assert (again.added, again.removed) == (1, 1), "what failed has failed once more, which is no news"
    assert answered(lake.read()) == [0, 1, 2, 4]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("lake", FORMATS, indirect=True)
def test_the_table_itself(lake: Lake) -> None:
    early, late = lake.rows(range(12)), lake.rows(range(12, ROWS))
    lake.append(early)
    lake.append(late)
    before, job = others(lake.read()), lake.job()
    say(job, lake.rows(range(ROWS)), "words", "run-1")
    first = enriched(job)
    assert (first.added, first.removed) == (ROWS, ROWS)
    rows = lake.read()
    assert answered(rows) == list(range(ROWS)) and others(rows) == before
    assert rows["extract"].combine_chunks().field("total").type == pa.decimal128(38, 9)
    again = enriched(job)
    assert (again.version, again.added) == (first.version, 0), "nothing to do, nothing committed"

    say(job, late.slice(0, 1), "other words", "run-2")
    rows_to_come = [lake.rows([ROWS])]

    def somebody_commits() -> None:
        if rows_to_come:
            lake.append(rows_to_come.pop())

    more = enriched(job, somebody_commits)
    assert (more.added, more.removed) == (1, 1)
    rows = lake.read()
    assert rows["id"].to_pylist() == list(range(ROWS + 1)) and others(rows)[:-1] == before
    assert answered(rows) == list(range(ROWS))
    texts = rows["caption_text"].to_pylist()
    assert texts[12] == "other words" and set(texts[:12] + texts[13:-1]) == {"words"}


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("lake", FORMATS, indirect=True)
def test_what_is_not_asked_any_more_is_not_left_beside_another_version(lake: Lake) -> None:
    lake.append(lake.rows(range(4)))
    before, job = others(lake.read()), lake.job()
    say(job, lake.rows(range(4)), "words", "run-1")
    assert enriched(job).added == 4
    fewer = job.model_copy(update={"tasks": job.tasks[:1]})
    assert enriched(fewer).added == 0
    say(fewer, lake.rows([0]), "new", "run-2")
    say(fewer, lake.rows([1, 2]), "new", "run-3", version="v2")
    assert enriched(fewer).added == 3
    rows = lake.read()
    assert others(rows) == before
    assert rows["caption_text"].to_pylist() == ["new", "new", "new", "words"]
    assert [value is None for value in rows["extract"].to_pylist()] == [False, True, True, False]
    assert enriched(fewer).added == 0


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("lake", FORMATS, indirect=True)
def test_a_run_that_dies_before_its_commit_is_made_up_for(lake: Lake) -> None:
    lake.append(lake.rows(range(3)))
    before, job = others(lake.read()), lake.job()
    say(job, lake.rows(range(3)), "words", "run-1")

    def dies() -> None:
        raise Interrupted("in the middle of it")

    with pytest.raises(Interrupted):
        enriched(job, dies)
    assert others(lake.read()) == before and answered(lake.read()) == []
    marks = [info.uri for info in open_storage(job.output, job.storage).list(join(job.output, "_runs", ""))]
    assert [uri for uri in marks if "/staged-" in uri]
    assert enriched(job).added == 3, "new columns are ours, although no row of theirs ever came"
    assert others(lake.read()) == before and answered(lake.read()) == [0, 1, 2]
    assert discard_dead(job.output, job.storage) == 0, "what was staged is in, or removed"


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("content", [{"bytes_column": "raw"}, {"uri_column": "uri"}], ids=["bytes", "uri"])
def test_rows_with_their_answers_beside_them_are_not_new(lake: Lake, content: dict[str, str]) -> None:
    from deltalake import DeltaTable

    lake.append(lake.rows(range(4)))
    job = lake.job(**content)
    say(job, lake.rows(range(3)), "words", "run-1")
    before = open_table(place_of(job.table, job.storage), job.storage).snapshot()
    assert before is not None
    assert enriched(job).added == 3, "and with it, the only file is another"
    lake.append(lake.rows([4]))
    none = pa.array([], pa.string())

    def listed(owed: pa.Array = none) -> list[int]:
        source = source_of(job)
        assert isinstance(source, TableSource)
        source.since = before.version
        assert source.attributes == pa.struct(
            [each for each in SCHEMA if each.name != content.get("bytes_column")]
        )
        return sorted(row["attributes"]["id"] for rows in source.documents(owed) for row in rows.to_pylist())

    assert listed() == [3, 4]
    assert listed(into_of(plan_of(job)).naming.ids(lake.rows([0]))) == [0, 3, 4]
    table = DeltaTable(lake.table, storage_options=lake.options)
    table.update({"raw": "X'00FF'"}, predicate="id = 1")
    assert listed() == [0, 1, 2, 3, 4], "its owner has written the file: what has changed in it, nobody says"


@pytest.mark.usefixtures("ray_cluster")
def test_a_table_in_partitions_stays_in_them(lake: Lake) -> None:
    from deltalake import DeltaTable, write_deltalake

    rows = lake.rows([0, 1, 2, 3])
    rows = rows.append_column("kind", pa.array(["a b/c=é", None, "", "x"]))
    rows = rows.append_column("is", pa.array([True, False, None, True]))
    by = ["day", "local", "price", "kind", "is"]
    write_deltalake(lake.table, rows, partition_by=by, storage_options=lake.options)
    before, job = lake.read(), lake.job()
    say(job, rows, "words", "run-1")
    assert enriched(job).added == 4
    after = lake.read()
    assert after.select(before.column_names).to_pylist() == before.to_pylist()
    assert answered(after) == [0, 1, 2, 3]
    table = DeltaTable(lake.table, storage_options=lake.options)
    for name in by:
        value = before[name][3].as_py()
        found = table.to_pyarrow_table(filters=[(name, "=", value)])[name].to_pylist()
        assert len(found) == before[name].to_pylist().count(value), "readers find them by their partition"
    assert enriched(job).added == 0


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("lake", FORMATS, indirect=True)
def test_a_table_beside_is_brought_up_to_date_by_key(lake: Lake) -> None:
    beside = "lake.answers" if lake.kind == "iceberg" else lake.store.url(f"{lake.prefix}/beside")
    job = lake.job(into=beside)
    lake.append(lake.rows(range(5)))
    say(job, lake.rows(range(5)), "words", "run-1")
    first = enriched(job)
    assert (first.added, first.removed) == (5, 0)
    before = {row["id"]: row for row in lake.read(beside).to_pylist()}
    assert enriched(job).version == first.version
    lake.append(lake.rows([5]))
    say(job, lake.rows([3, 5, 6]), "other words", "run-2")
    done = enriched(job)
    assert (done.added, done.removed) == (2, 1), "of a row that is not in the table nothing is said"
    rows = lake.read(beside)
    assert rows.column_names[0] == "id" and "nested" not in rows.column_names
    after = {row["id"]: row for row in rows.to_pylist()}
    assert answered(rows) == sorted(after) == [0, 1, 2, 3, 4, 5]
    assert {key for key in before if before[key] != after[key]} == {3}


@pytest.mark.usefixtures("ray_cluster")
def test_two_shards_at_once_bring_each_row_beside_once(lake: Lake) -> None:
    job = lake.job(into=lake.store.url(f"{lake.prefix}/beside"))
    lake.append(lake.rows(range(8)))
    say(job, lake.rows(range(8)), "words", "run-1")
    one, other = (
        make_plan(job, CARRIED, 0.0, Selection(shard=Shard(index=index, count=2))) for index in (1, 2)
    )

    def meanwhile() -> None:
        enrich(other, lambda: None)

    with Lease(one.output, job.storage, one.run_id, one.selection.shard):
        enrich(one, meanwhile)
    assert lake.read(lake.store.url(f"{lake.prefix}/beside"))["id"].to_pylist() == list(range(8))


@pytest.mark.usefixtures("ray_cluster")
def test_a_folder_of_parquet_gets_a_table_beside_it(lake: Lake) -> None:
    lake.kind = "parquet"
    lake.append(lake.rows(range(4)))
    beside = lake.store.url(f"{lake.prefix}/beside")
    with pytest.raises(JobError, match="no commits"):
        refuse_into(plan_of(lake.job()))
    job = lake.job(into=beside, key=())
    say(job, lake.rows(range(4)), "words", "run-1")
    done = enriched(job)
    assert (done.uri, done.added, done.removed) == (beside, 4, 0)
    rows = lake.read(beside, "delta", "uri")
    assert rows["uri"].to_pylist() == lake.rows(range(4))["uri"].to_pylist()
    assert set(rows["caption_text"].to_pylist()) == {"words"}
    with pytest.raises(JobError, match="holds the rows of"):
        refuse_into(plan_of(job.model_copy(update={"output": str(lake.folder)})))


def test_a_table_that_is_not_written_is_refused_before_anything_is_asked(lake: Lake) -> None:
    import lance
    from deltalake import write_deltalake

    only = {"delta.appendOnly": "true"}
    write_deltalake(lake.table, lake.rows([0]), configuration=only, storage_options=lake.options)
    with pytest.raises(JobError, match=r"lets none go \(delta.appendOnly\)"):
        refuse_into(plan_of(lake.job()))
    old, lake.kind = lake.store.url(f"{lake.prefix}/old.lance"), "lance"
    lance.write_dataset(
        lake.rows([0]).drop_columns(["nested"]), old, data_storage_version="2.0", storage_options=lake.options
    )
    with pytest.raises(JobError, match="file version 2.0"):
        refuse_into(plan_of(lake.job(uri=old)))


def test_features_that_are_not_written_are_refused_before_anything_is_asked(lake: Lake) -> None:
    from deltalake import DeltaTable, TableFeatures

    lake.append(lake.rows([0]))
    table = DeltaTable(lake.table, storage_options=lake.options)
    features = [TableFeatures.RowTracking, TableFeatures.DomainMetadata]
    table.alter.add_feature(features, allow_protocol_versions_increase=True)
    with pytest.raises(JobError, match=r"domainMetadata, rowTracking.*table\.into"):
        refuse_into(plan_of(lake.job()))
    refuse_into(plan_of(lake.job(into=lake.store.url(f"{lake.prefix}/beside"))))


@pytest.mark.parametrize("lake", ["iceberg"], indirect=True)
def test_so_is_a_newer_format(lake: Lake) -> None:
    from pyiceberg.catalog import load_catalog

    lake.append(lake.rows([0]))
    uri = load_catalog(**lake.catalog, **lake.options).load_table(lake.table).metadata_location
    storage = open_storage(uri, lake.job().storage)
    newer = json.loads(storage.read(uri)) | {"format-version": 3, "next-row-id": 1}
    newer["snapshots"] = [each | {"first-row-id": 0, "added-rows": 1} for each in newer["snapshots"]]
    storage.publish(uri, json.dumps(newer).encode())
    with pytest.raises(JobError, match=r"format version 3.*table\.into"):
        refuse_into(plan_of(lake.job()))
    refuse_into(plan_of(lake.job(into="lake.beside")))


def test_a_key_that_a_table_beside_has_no_type_for_is_refused(lake: Lake) -> None:
    lake.kind = "parquet"
    lake.append(lake.rows([0]))
    job = lake.job(into=lake.store.url(f"{lake.prefix}/beside"))
    for kind in (pa.binary(16), pa.null()):
        refuse_into(make_plan(job, pa.struct([pa.field("id", kind)]), 0.0))
    with pytest.raises(JobError, match=r"column id is time64\[us\].* leave the column out of the key"):
        refuse_into(make_plan(job, pa.struct([pa.field("id", pa.time64("us"))]), 0.0))


def test_a_column_that_is_somebodys_own_is_refused(lake: Lake) -> None:
    lake.append(lake.rows([0]).append_column("Caption_Text", pa.array(["my own"])))
    with pytest.raises(JobError, match="Caption_Text"):
        refuse_into(plan_of(lake.job()))
