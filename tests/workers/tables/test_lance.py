"""Lance, held against pylance itself and DuckDB: each reads what the other writes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import duckdb
import lance
import numpy as np
import pyarrow as pa
import pytest

from deploy.demo.objectstore import ObjectStore
from schemas.errors import AccessDenied, JobError, SnapshotGone, StorageUnavailable
from schemas.storage import StorageOptions
from tests.chaos.proxy import Fate, proxied
from tests.workers.tables.lakes import SCHEMA, Lake, lake_of, some
from tests.workers.tables.test_laws import ODD, ODD_ROWS, made
from workers.storage.factory import normalise, open_storage
from workers.tables import KEY, OUTPUT, RUN
from workers.tables.access import object_store_options


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """In a folder."""
    return lake_of("lance", normalise(str(tmp_path / "lake")), StorageOptions(), tmp_path)


@pytest.fixture
def far(object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """In a bucket."""
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    root = object_store.url(f"lance-{tmp_path.name}")
    return lake_of("lance", root, StorageOptions(endpoint_url=object_store.endpoint), tmp_path)


def path(lake: Lake) -> str:
    return lake.place.uri.removeprefix("file://")


def theirs(lake: Lake) -> Any:
    return lance.dataset(path(lake), storage_options=object_store_options(lake.storage, lake.place.uri))


def written(lake: Lake, rows: pa.Table, **how: Any) -> Lake:
    """By somebody else."""
    lance.write_dataset(rows, path(lake), **how)
    return lake


def test_their_own_readers_see_every_value(lake: Lake) -> None:
    lake.table.create(ODD, {})
    assert lake.commit([lake.stage(pa.Table.from_pylist(ODD_ROWS, schema=ODD))], key="first")

    rows = theirs(lake).to_table()

    assert rows.sort_by("key").to_pylist() == ODD_ROWS
    seen = duckdb.sql("SELECT key, turn, price, deep FROM rows ORDER BY key").fetchall()
    assert seen == [(row["key"], row["turn"], row["price"], row["deep"]) for row in ODD_ROWS]
    theirs(lake).validate()


def test_whose_it_is_stays_with_it(lake: Lake) -> None:
    lake.table.create(SCHEMA, {OUTPUT: "s3://lake/out"})

    assert lake.newest.properties[OUTPUT] == "s3://lake/out"
    lake.table.evolve(SCHEMA.append(pa.field("more", pa.int64())))
    assert lake.commit([lake.stage(some(1))])
    assert lake.commit([lake.stage(some(2))], lake.newest.files())
    assert lake.keys() == [2]
    assert lake.newest.properties[OUTPUT] == "s3://lake/out"


def test_a_version_says_which_run_and_commit_it_was(lake: Lake) -> None:
    made(lake)
    assert lake.commit([lake.stage(some(1))], key="first")

    told = theirs(lake).read_transaction(int(lake.newest.version)).transaction_properties

    assert (told[RUN], told[KEY]) == ("run1", "first")


def test_a_run_goes_on_in_what_others_have_deleted_from_compacted_and_indexed(lake: Lake) -> None:
    rows = pa.table({"key": range(100), "word": [str(key) for key in range(100)]}, schema=SCHEMA)
    written(lake, rows, max_rows_per_file=50, enable_stable_row_ids=True)
    theirs(lake).create_scalar_index("key", "BTREE")
    before = lake.newest
    theirs(lake).delete("key = 3")

    seen = lake.newest
    [changed, kept] = seen.files()
    assert [file.rows for file in (changed, kept)] == [49, 50]
    assert seen.files(since=before.version) == [changed]
    # What was found before the row was deleted would bring it back.
    assert not lake.commit([lake.stage(some(1000))], before.files()[:1], on=before)
    anew = pa.concat_tables([some(*(key for key in range(50) if key != 3)), some(1000)])
    assert lake.commit([lake.stage(anew)], [changed])
    theirs(lake).optimize.compact_files()

    assert lake.keys() == [key for key in range(100) if key != 3] + [1000]
    for key, word in ((2, ["word 2"]), (3, []), (70, ["70"]), (1000, ["word 1000"])):
        assert theirs(lake).to_table(filter=f"key = {key}")["word"].to_pylist() == word
    theirs(lake).validate()


def test_whose_it_is_comes_with_its_first_version_and_stays(lake: Lake) -> None:
    made(lake, some(1), some(2))
    assert theirs(lake).checkout_version(1).schema.metadata == {OUTPUT.encode(): b"s3://lake/out"}
    lake.table.evolve(SCHEMA.append(pa.field("new", pa.struct([pa.field("n", pa.int32())]))))
    theirs(lake).optimize.compact_files()
    theirs(lake).drop_columns(["new"])

    assert lake.newest.properties[OUTPUT] == "s3://lake/out"
    # As earlier runs wrote it down.
    theirs(lake).update_config({OUTPUT: "s3://lake/other"})
    assert lake.newest.properties[OUTPUT] == "s3://lake/other"


def test_a_filter_means_what_it_means_in_other_formats(lake: Lake) -> None:
    schema = pa.schema([("key", pa.int64()), ("Word", pa.string()), ("f", pa.float32())])
    rows = [{"key": 1, "Word": "a\\b", "f": 0.5}, {"key": 2, "Word": None, "f": 0.1}]
    written(lake, pa.Table.from_pylist(rows, schema))

    for where, keys in (
        (r""""Word" = 'a\b' AND "key" < 2""", [1]),
        (r"""Word LIKE '%\%'""", [1]),
        ("""NOT "Word" = 'b'""", [1]),
        ("key >= 2.0", [2]),
        ("f <= 0.1", [2]),
    ):
        assert [row["key"] for row in lake.rows(columns=["key"], where=where)] == keys, where


def test_what_was_compacted_meanwhile_is_not_replaced(lake: Lake) -> None:
    made(lake, some(1), some(2))
    seen = lake.newest
    theirs(lake).optimize.compact_files()

    assert not lake.commit([lake.stage(some(10))], seen.files()[:1], on=seen)
    assert lake.keys() == [1, 2]


@pytest.mark.parametrize("version", ["2.1", "2.2"])
def test_blobs_are_read_as_bytes_and_by_their_address(lake: Lake, version: str) -> None:
    kinds = [pa.field("key", pa.int64()), pa.field("photo", pa.large_binary())]
    kinds[1] = kinds[1].with_metadata({"lance-encoding:blob": "true"})
    rows = {"key": [1, 2, 3], "photo": [b"one", b"two", b"three" * 1000]}
    written(lake, pa.table(rows, schema=pa.schema(kinds)), data_storage_version=version)
    theirs(lake).delete("key = 1")

    now = lake.newest

    assert now.schema.field("photo").type == pa.large_binary()
    [file] = now.files()
    assert lake.rows(columns=["photo", "key"]) == [
        {"photo": b"two", "key": 2},
        {"photo": b"three" * 1000, "key": 3},
    ]
    address = now.address(file, 1, "photo")
    assert open_storage(address, lake.storage).read(address) == b"three" * 1000


def test_kinds_that_are_lances_own_are_read_in_common_ones(lake: Lake) -> None:
    rows = pa.table(
        {
            "key": [1, 2],
            "kind": pa.array(["scan", "photo"]).dictionary_encode(),
            "vector": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
            "half": pa.array([np.float16(1), np.float16(2)]),
        }
    )
    written(lake, rows)

    assert lake.newest.schema.field("kind").type == pa.string()
    assert lake.rows() == rows.to_pylist()
    row = pa.Table.from_pylist(rows.slice(1).to_pylist(), schema=lake.newest.schema)
    assert lake.commit([lake.stage(row)], lake.newest.files())
    assert theirs(lake).to_table().to_pylist() == rows.slice(1).to_pylist()


def test_what_would_be_written_with_something_lost_is_refused(lake: Lake) -> None:
    written(lake, some(1), data_storage_version="2.0")
    with pytest.raises(JobError, match=r"file version 2\.0.*2\.2"):
        lake.table.evolve(SCHEMA.append(pa.field("said", pa.struct([pa.field("total", pa.int32())]))))
    assert lake.keys() == [1]

    blobs = lake.another()
    kind = pa.field("photo", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
    photos = pa.table({"photo": [b"one"]}, schema=pa.schema([kind]))
    written(blobs, photos, data_storage_version="2.2")
    with pytest.raises(JobError, match="photo is of blobs"):
        blobs.stage(pa.table({"photo": [b"two"]}))


def lines(*names: str) -> pa.DataType:
    return pa.list_(pa.struct([pa.field(name, pa.int32()) for name in names]))


def test_fields_within_lists_are_new_ones_as_well(lake: Lake) -> None:
    old = pa.schema(
        [pa.field("key", pa.int64()), pa.field("said", pa.struct([pa.field("lines", lines("a"))]))]
    )
    lake.table.create(old, {})
    first = {"key": 1, "said": {"lines": [{"a": 1}, None]}}
    assert lake.commit([lake.stage(pa.Table.from_pylist([first], schema=old))])
    new = pa.schema(
        [
            pa.field("key", pa.int64()),
            pa.field("said", pa.struct([pa.field("lines", lines("a", "b")), pa.field("sure", pa.float32())])),
            pa.field("more", pa.string()),
        ]
    )

    lake.table.evolve(new)
    lake.table.evolve(new)
    second = {"key": 2, "said": {"lines": [{"a": 2, "b": 3}], "sure": 0.5}, "more": "x"}
    assert lake.commit([lake.stage(pa.Table.from_pylist([second], schema=new))])

    was = {"key": 1, "said": {"lines": [{"a": 1, "b": None}, None], "sure": None}, "more": None}
    assert theirs(lake).to_table().sort_by("key").to_pylist() == [was, second]
    assert lake.rows() == [was, second]


def test_fields_within_maps_cannot_be_added(lake: Lake) -> None:
    def of(*names: str) -> pa.Schema:
        return pa.schema([pa.field("by", pa.map_(pa.string(), lines(*names)))])

    lake.table.create(of("a"), {})
    with pytest.raises(JobError, match="column by has maps"):
        lake.table.evolve(of("a", "b"))


def test_versions_that_are_cleaned_up_are_told_as_gone(lake: Lake) -> None:
    made(lake, some(1))
    then = lake.newest
    [old] = then.files()
    assert lake.commit([lake.stage(some(2), "dead", "in")], [old])
    lake.stage(some(3), "dead", "left")
    theirs(lake).cleanup_old_versions(older_than=timedelta(0))

    with pytest.raises(SnapshotGone, match=f"no version {then.version}"):
        lake.newest.files(since=then.version)
    with pytest.raises(SnapshotGone, match=f"no version {then.version}"):
        list(then.read(old))
    with pytest.raises(SnapshotGone, match="numbers"):
        lake.table.snapshot("newest")
    assert lake.table.discard("dead") == 1
    assert lake.keys() == [2]


def test_a_dataset_that_is_damaged_is_not_one_that_is_missing(lake: Lake) -> None:
    made(lake, some(1))
    for manifest in Path(path(lake), "_versions").iterdir():
        manifest.write_bytes(b"no manifest")

    with pytest.raises(JobError, match="no Lance dataset that can be read"):
        lake.table.snapshot()
    with pytest.raises(JobError, match="no Lance dataset that can be read"):
        lake.table.create(SCHEMA, {})


def by_way_of(lake: Lake, **options: Any) -> Lake:
    hurried = {"attempts": 1, "outage_seconds": 0, "read_seconds": 2, "connect_seconds": 2}
    return Lake(lake.place, lake.storage.model_copy(update=hurried | options), lake.root)


def test_a_store_that_is_away_or_refuses_is_not_a_table_that_is_missing(
    far: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(far, some(1))
    with pytest.raises(AccessDenied):
        by_way_of(far, anonymous=True).table.snapshot()

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    with pytest.raises(StorageUnavailable) as told:
        by_way_of(far, endpoint_url="http://127.0.0.1:9").table.snapshot()
    assert "very-secret" not in f"{told.value} {told.value.__cause__}"


def test_a_commit_whose_answer_is_lost_is_in_it_once(far: Lake, object_store: ObjectStore) -> None:
    made(far)
    lost: list[str] = []

    def decide(method: str, where: str) -> Fate:
        if method != "PUT" or "/_versions/" not in where or lost:
            return Fate.PASSED
        lost.append(where)
        return Fate.UNANSWERED

    with proxied(object_store, decide) as way:
        found = by_way_of(far, endpoint_url=way["AWS_ENDPOINT_URL"], attempts=4)
        assert found.commit([found.stage(some(1))], key="first")

    assert len(lost) == 1
    assert far.keys() == [1]
    assert far.table.committed("first")


def test_of_many_who_write_at_once_to_a_bucket_nobody_overwrites_anybody(far: Lake) -> None:
    """A version is an object that may not be there yet: Lance puts it under that condition."""
    made(far)
    first, writers = int(far.newest.version), 4
    staged = [far.stage(some(number)) for number in range(writers)]
    ready = Barrier(writers)

    def write(number: int) -> None:
        ready.wait(30)
        while not far.commit([staged[number]], key=f"writer {number}"):
            pass

    with ThreadPoolExecutor(writers) as threads:
        for done in [threads.submit(write, number) for number in range(writers)]:
            done.result()

    assert far.keys() == list(range(writers))
    versions = range(first + 1, first + writers + 1)
    made_by = [theirs(far).read_transaction(version).transaction_properties[KEY] for version in versions]
    assert sorted(made_by) == [f"writer {number}" for number in range(writers)]


def test_two_who_commit_the_same_key_at_once_do_it_once(lake: Lake) -> None:
    made(lake, some(0))
    for attempt in range(5):
        staged, ready = [lake.stage(some(attempt + 1))], Barrier(2)

        def write(_: int, staged: Any = staged, ready: Barrier = ready, key: str = f"{attempt}") -> bool:
            ready.wait(30)
            return lake.commit(staged, key=key)

        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(write, range(2))) == [True, True]
    assert lake.keys() == list(range(6))


def test_what_is_staged_is_described_as_lance_describes_its_own(lake: Lake) -> None:
    lake.table.create(ODD, {})
    rows = pa.Table.from_pylist(ODD_ROWS, schema=ODD)
    own = lance.fragment.LanceFragment.create(path(lake), rows).to_json()
    ours = json.loads(lake.stage(rows).detail)

    [file], [described] = own["files"], ours["files"]
    assert (described["fields"], described["column_indices"]) == (file["fields"], file["column_indices"])
    assert ours["physical_rows"] == own["physical_rows"] == len(ODD_ROWS)
