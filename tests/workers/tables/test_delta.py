"""Delta Lake, held against delta-rs itself and DuckDB: each reads what the other writes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import deltalake
import duckdb
import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

from deploy.demo.objectstore import ObjectStore
from schemas.errors import JobError, SnapshotGone, StorageUnavailable
from schemas.storage import StorageOptions
from tests.chaos.proxy import Fate, proxied
from tests.workers.tables.lakes import SCHEMA, Lake, bucket, keys_of, lake_of, some
from tests.workers.tables.test_laws import ODD, ODD_ROWS, made
from workers.storage.factory import normalise
from workers.tables import KEY, RUN

__all__ = ["bucket"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """In a folder."""
    return lake_of("delta", normalise(str(tmp_path / "lake")), StorageOptions(), tmp_path)


def path(lake: Lake) -> str:
    return lake.place.uri.removeprefix("file://")


def theirs(lake: Lake) -> deltalake.DeltaTable:
    return deltalake.DeltaTable(path(lake))


def test_their_own_readers_see_every_value(lake: Lake) -> None:
    lake.table.create(ODD, {})
    assert lake.commit([lake.stage(pa.Table.from_pylist(ODD_ROWS, schema=ODD))], key="first")

    assert theirs(lake).to_pyarrow_table().sort_by("key").cast(ODD).to_pylist() == ODD_ROWS
    files = [path(lake) + "/" + file.path for file in lake.newest.files()]
    seen = duckdb.execute(
        "SELECT key, turn, price, deep FROM read_parquet(?) ORDER BY key", [files]
    ).fetchall()
    assert [(row["key"], row["turn"], row["price"], row["deep"]) for row in ODD_ROWS] == seen


def test_the_history_says_which_run_and_commit_it_was(lake: Lake) -> None:
    made(lake)
    assert lake.commit([lake.stage(some(1))], key="first")

    newest = theirs(lake).history(1)[0]

    assert (newest[RUN], newest[KEY]) == ("run1", "first")


def test_readers_pass_over_files_by_their_statistics(lake: Lake) -> None:
    made(lake, some(1, 2), some(30, 40))
    now = lake.newest

    for said, keys in (("key > 2", [[30, 40]]), ("word < 'word 3'", [[1, 2]]), ("key = 35", [[30, 40]])):
        assert [keys_of(now, file) for file in now.files(where=said)] == keys
    told = pa.table(theirs(lake).get_add_actions(flatten=True)).to_pylist()
    assert sorted((row["min.key"], row["max.key"], row["null_count.word"]) for row in told) == [
        (1, 2, 0),
        (30, 40, 0),
    ]


def test_what_is_in_a_table_below_is_no_leftover_of_the_one_above(lake: Lake) -> None:
    place = lake.place.model_copy(update={"uri": f"{lake.place.uri}/out/tables/records"})
    below = made(replace(lake, place=place))
    assert below.commit([below.stage(some(1), "dead")])
    below.stage(some(2), "dead")
    made(lake).stage(some(3), "dead")

    assert lake.table.discard("dead") == 1

    assert below.keys() == [1]
    assert below.table.discard("dead") == 1


def test_a_commit_on_an_outdated_handle_is_refused_by_the_log_itself(lake: Lake) -> None:
    """What `commit` relies on between its look and its entry."""
    made(lake, some(1))
    one, other = theirs(lake), theirs(lake)
    [gone] = lake.newest.files()
    taken = RemoveAction(gone.path, True, 0)
    one.create_write_transaction([taken], "append", one.schema())
    with pytest.raises(CommitFailedError):
        other.create_write_transaction([taken], "append", other.schema())

    one, other = theirs(lake), theirs(lake)
    for index, handle in enumerate((one, other)):
        named = CommitProperties(app_transactions=[Transaction("same key", 1)])
        add = AddAction(f"never-{index}.parquet", 1, {}, 0, True, json.dumps({"numRecords": 1}))
        if index == 0:
            handle.create_write_transaction([add], "append", handle.schema(), commit_properties=named)
            continue
        with pytest.raises(CommitFailedError):
            handle.create_write_transaction([add], "append", handle.schema(), commit_properties=named)


PARTED = pa.table(
    {
        "key": [1, 2, 3, 4, 5],
        "word": ["a", "b", "c", "d", "e"],
        "kind": ["a b/c=ü%20", None, "x", "x", "a b/c=ü%20"],
        "day": [date(2024, 1, 1)] * 5,
        "sure": [True, True, False, False, True],
        "at": pa.array([datetime(2024, 1, 1, 12, 0, 0, 5, UTC)] * 5, pa.timestamp("us", tz="UTC")),
    }
)


def test_a_table_in_partitions_is_read_and_its_files_replaced_in_theirs(lake: Lake) -> None:
    by = ["kind", "day", "sure", "at"]
    deltalake.write_deltalake(path(lake), PARTED, partition_by=by)
    now = lake.newest

    assert [str(now.schema.field(name).type) for name in by] == [
        "string",
        "date32[day]",
        "bool",
        "timestamp[us, tz=UTC]",
    ]
    assert lake.rows() == PARTED.to_pylist()
    assert lake.rows(columns=["kind", "key"])[0] == {"kind": "a b/c=ü%20", "key": 1}
    assert [keys_of(now, file) for file in now.files(where="kind = 'x'")] == [[3, 4]]
    assert [keys_of(now, file) for file in now.files(where="kind = 'a b/c=ü%20'")] == [[1, 5]]

    # All that is there goes, written anew with other words, and in one staged piece.
    words = pa.array(["A", "B", "C", "D", "E"])
    changed = PARTED.set_column(1, "word", words)
    assert lake.commit([lake.stage(changed)], now.files())

    assert lake.rows() == changed.to_pylist()
    assert theirs(lake).to_pyarrow_table().sort_by("key").select(PARTED.column_names).to_pylist() == (
        changed.to_pylist()
    )
    new = lake.newest
    assert [keys_of(new, file) for file in new.files(where="kind = 'x'")] == [[3, 4]]
    assert len(new.files()) == 3
    assert lake.table.discard("run1") == 0


def test_types_that_delta_has_not_are_held_by_wider_ones(lake: Lake) -> None:
    odd = pa.table(
        {
            "key": pa.array([1, 2], pa.uint8()),
            "small": pa.array([200, None], pa.uint8()),
            "large": pa.array([2**64 - 1, 0], pa.uint64()),
            "at": pa.array([1_000, 2_000], pa.timestamp("ns")),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "deep": pa.array([[{"n": 4_000_000_000}], []], pa.list_(pa.struct([("n", pa.uint32())]))),
        }
    )
    lake.table.create(odd.schema, {})
    lake.table.evolve(odd.schema)
    assert lake.commit([lake.stage(odd)])

    assert lake.rows() == odd.cast(lake.newest.schema).to_pylist()
    assert [row["small"] for row in lake.rows()] == [200, None]
    assert theirs(lake).to_pyarrow_table().sort_by("key").to_pylist() == lake.rows()
    with pytest.raises(JobError, match=r"column at is timestamp\[ns\], and timestamp\[us\] in the table"):
        lake.stage(odd.set_column(3, "at", pa.array([1_001, 0], pa.timestamp("ns"))))


def test_a_table_that_takes_no_such_change_says_so(lake: Lake) -> None:
    schema = deltalake.Schema.from_arrow(SCHEMA)
    deltalake.DeltaTable.create(path(lake), schema, configuration={"delta.appendOnly": "true"})
    assert lake.commit([lake.stage(some(1))])

    with pytest.raises(JobError, match="append"):
        lake.commit([], lake.newest.files())

    assert lake.keys() == [1]


def test_rows_that_a_writer_has_not_counted_are_counted(lake: Lake) -> None:
    made(lake, some(1, 2, 3))
    [file] = lake.newest.files()
    handle = theirs(lake)
    add = AddAction(file.path, file.bytes, {}, 0, True, "{}")
    handle.create_write_transaction([RemoveAction(file.path, True, 0)], "append", handle.schema())
    handle = theirs(lake)
    handle.create_write_transaction([add], "append", handle.schema())

    assert [file.rows for file in lake.newest.files()] == [3]


def test_a_log_with_checkpoints_and_without_its_beginning(lake: Lake) -> None:
    made(lake, some(1))
    early = lake.newest.version
    for number in range(2, 5):
        assert lake.commit([lake.stage(some(number))], key=f"commit {number}")
    theirs(lake).create_checkpoint()
    for entry in Path(path(lake), "_delta_log").glob("*[0-2].json"):
        entry.unlink()

    assert lake.keys() == [1, 2, 3, 4]
    assert lake.table.committed("commit 2")
    assert lake.commit([lake.stage(some(5))])
    with pytest.raises(SnapshotGone, match="version"):
        lake.newest.files(since=early)


def test_features_that_are_not_read_are_refused_once_they_are_used(lake: Lake) -> None:
    made(lake, some(1, 2), some(3))
    allowed = theirs(lake)
    allowed.alter.add_feature(deltalake.TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    # Allowed, and no row deleted by one: all is as it was.
    now = lake.newest
    assert lake.keys() == [1, 2, 3]
    assert sorted(key for file in now.files(where="key = 3") for key in keys_of(now, file)) == [3]

    entry(lake, {"add": with_vector(lake.holding(now, 1, 2).path)})
    with pytest.raises(JobError, match=r"deletionVectors.*REORG TABLE"):
        lake.table.snapshot()


def test_columns_by_another_name_are_refused_by_the_version_from_before_features(lake: Lake) -> None:
    log = Path(path(lake), "_delta_log")
    log.mkdir(parents=True)
    column = {"name": "key", "type": "long", "nullable": True}
    mapped = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-1"}
    told = {
        "id": "7f2c6a8e-4c1b-4b57-9c53-0a3f6b1d8e21",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": [{**column, "metadata": mapped}]}),
        "partitionColumns": [],
        "configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "1"},
    }
    protocol = {"minReaderVersion": 2, "minWriterVersion": 5}
    lines = [json.dumps(each) for each in ({"protocol": protocol}, {"metaData": told})]
    (log / f"{0:020}.json").write_text("\n".join(lines))

    with pytest.raises(JobError, match="columnMapping"):
        lake.table.snapshot()


def entry(lake: Lake, *actions: dict[str, Any]) -> None:
    """One more entry of the log, as another writer puts it there."""
    number = theirs(lake).version() + 1
    lines = "\n".join(json.dumps(action) for action in actions)
    Path(path(lake), "_delta_log", f"{number:020}.json").write_text(lines)


def with_vector(name: str) -> dict[str, Any]:
    """A file of two rows, the first of which is deleted: the inline vector is of Delta's own specification's
    form, a 64-bit Roaring bitmap in Z85."""
    import struct

    # Magic, one bitmap, its key; then the standard form without runs: one container of the value 0.
    bitmap = struct.pack("<IQIIIHHIH", 1681511377, 1, 0, 12346, 1, 0, 0, 16, 0)
    padded = bitmap + b"\0" * (-len(bitmap) % 4)
    vector = {
        "storageType": "i",
        "pathOrInlineDv": _z85(padded),
        "sizeInBytes": len(bitmap),
        "cardinality": 1,
    }
    return {
        "path": name,
        "partitionValues": {},
        "size": 1,
        "modificationTime": 0,
        "dataChange": True,
        "stats": json.dumps({"numRecords": 2}),
        "deletionVector": vector,
    }


def _z85(content: bytes) -> str:
    letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    words = [int.from_bytes(content[at : at + 4], "big") for at in range(0, len(content), 4)]
    return "".join(letters[word // 85**place % 85] for word in words for place in (4, 3, 2, 1, 0))


def test_what_is_no_table_and_what_has_gone_is_told(lake: Lake) -> None:
    folder = Path(path(lake), "_delta_log")
    folder.mkdir(parents=True)
    (folder / f"{0:020}.json").write_text("no JSON")
    with pytest.raises(JobError, match="no Delta table"):
        lake.table.snapshot()

    other = made(lake.another(), some(1))
    [file] = other.newest.files()
    Path(path(other), file.path).unlink()
    with pytest.raises(SnapshotGone, match="cleaned up"):
        other.rows()
    with pytest.raises(SnapshotGone, match="numbers"):
        other.table.snapshot("newest")


@pytest.fixture
def far(bucket: tuple[str, StorageOptions], tmp_path: Path) -> Lake:
    """In a bucket."""
    return lake_of("delta", *bucket, tmp_path)


def by_way_of(lake: Lake, endpoint: str) -> Lake:
    hurried = StorageOptions(endpoint_url=endpoint, attempts=4, outage_seconds=0, read_seconds=2)
    return Lake(lake.place, hurried, lake.root)


def test_a_commit_whose_answer_is_lost_is_in_it_once(far: Lake, object_store: ObjectStore) -> None:
    made(far)
    lost: list[str] = []

    def decide(method: str, where: str) -> Fate:
        if method != "PUT" or "/_delta_log/" not in where or lost:
            return Fate.PASSED
        lost.append(where)
        return Fate.UNANSWERED

    with proxied(object_store, decide) as way:
        found = by_way_of(far, way["AWS_ENDPOINT_URL"])
        assert found.commit([found.stage(some(1))], key="first")

    assert len(lost) == 1
    assert far.keys() == [1]
    assert far.table.committed("first")


def test_a_store_that_is_away_is_told_as_one_and_no_key_with_it(
    far: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    nobody = by_way_of(far, "http://127.0.0.1:9")

    with pytest.raises(StorageUnavailable) as told:
        nobody.table.snapshot()

    assert "very-secret" not in f"{told.value} {told.value.__cause__}"
