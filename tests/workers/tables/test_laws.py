"""What every format of a table keeps to: a commit is in it once and whole, or not at all."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import JobError, SnapshotGone
from schemas.storage import StorageOptions
from tests.workers.tables.lakes import (
    FORMATS,
    SCHEMA,
    Lake,
    bucket,
    far,
    keys_of,
    lake,
    lake_of,
    near,
    some,
)
from workers.storage.factory import normalise
from workers.tables import OUTPUT

__all__ = ["bucket", "far", "lake", "near"]


def made(lake: Lake, *files: pa.Table) -> Lake:
    """With a file of each of these rows in it."""
    lake.table.create(SCHEMA, {OUTPUT: "s3://lake/out"})
    if files:
        assert lake.commit([lake.stage(rows) for rows in files])
    return lake


def test_what_is_committed_is_read_back_and_nothing_before(lake: Lake) -> None:
    assert lake.table.snapshot() is None
    assert lake.table.discard("run1") == 0
    assert not lake.table.committed("first")

    empty = lake.table.create(SCHEMA, {OUTPUT: "s3://lake/out"})
    assert empty.files() == []
    assert empty.properties[OUTPUT] == "s3://lake/out"
    staged = [lake.stage(some(1, 2)), lake.stage(some(3))]
    assert lake.keys() == []

    assert lake.commit(staged)

    assert lake.rows() == some(1, 2, 3).to_pylist()
    assert [file.rows for file in lake.newest.files()] in ([1, 2], [2, 1])
    assert lake.newest.files() == lake.newest.files()
    # One that is made again is the one that is there.
    assert lake.table.create(SCHEMA, {OUTPUT: "s3://lake/out"}).version == lake.newest.version
    assert lake.keys() == [1, 2, 3]


def test_a_key_is_committed_once(far: Lake) -> None:
    made(far)
    staged = [far.stage(some(1))]
    before = far.newest
    assert not far.table.committed("first")
    assert far.commit(staged, key="first")
    assert far.table.committed("first")
    version = far.newest.version

    # By the snapshot from before, as somebody has it to whom the answer got lost, and by the one of now.
    assert far.commit(staged, key="first", on=before)
    assert far.commit(staged, key="first")

    assert far.newest.version == version
    assert far.keys() == [1]


def test_a_commit_takes_out_and_in_at_once_and_earlier_readers_stay_with_what_they_have(far: Lake) -> None:
    made(far, some(1, 2), some(3))
    before = far.newest
    old = far.holding(before, 1, 2)

    assert far.commit([far.stage(some(2, 20))], [old])

    assert far.keys() == [2, 3, 20]
    assert far.keys(before) == [1, 2, 3]
    again = far.table.snapshot(before.version)
    assert again is not None
    assert far.keys(again) == [1, 2, 3]
    assert far.commit([], far.newest.files())
    assert far.keys() == []


def test_what_somebody_else_has_taken_out_cannot_be_replaced(far: Lake) -> None:
    made(far, some(1), some(2))
    seen = far.newest
    first = [far.holding(seen, 1)]
    mine = far.stage(some(10))
    assert far.commit([far.stage(some(100))], first)
    version = far.newest.version

    assert not far.commit([mine], first, on=seen)

    assert far.newest.version == version
    assert far.keys() == [2, 100]


def test_what_others_have_added_meanwhile_is_left_alone(far: Lake) -> None:
    made(far, some(1))
    seen = far.newest
    assert far.commit([far.stage(some(2))])

    done = far.commit([far.stage(some(10))], seen.files(), on=seen)

    assert far.keys() == ([2, 10] if done else [1, 2])


def test_two_writers_at_once_are_both_in_it_once(lake: Lake) -> None:
    made(lake)
    ready = Barrier(2)

    def write(number: int) -> None:
        staged = [lake.stage(some(number))]
        ready.wait(30)
        for _ in range(10):
            if lake.commit(staged, key=f"writer {number}"):
                return
        raise AssertionError("somebody else was faster ten times")

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(write, number) for number in (1, 2)]:
            done.result()

    assert lake.keys() == [1, 2]


def test_two_that_replace_the_same_file_at_once_do_it_once(lake: Lake) -> None:
    made(lake, some(1))
    seen, ready = lake.newest, Barrier(2)

    def write(number: int) -> bool:
        staged = [lake.stage(some(number))]
        ready.wait(30)
        return lake.commit(staged, seen.files(), on=seen)

    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(write, (10, 20)))

    assert sorted(done) == [False, True]
    assert lake.keys() == [10 if done[0] else 20]


def test_what_a_dead_run_has_staged_is_removed_and_what_is_committed_stays(lake: Lake) -> None:
    made(lake)
    assert lake.commit([lake.stage(some(1), "dead", "in"), lake.stage(some(2), "dead", "replaced")])
    before = lake.newest
    old = lake.holding(before, 2)
    assert lake.commit([lake.stage(some(3), "alive", "in")], [old])
    lake.stage(some(4), "dead", "left")
    lake.stage(some(5), "alive", "left")
    assert len(lake.lying()) == 5

    assert lake.table.discard("dead") == 1
    assert lake.table.discard("dead") == 0

    assert len(lake.lying()) == 4
    assert lake.keys() == [1, 3]
    assert lake.keys(before) == [1, 2]


def test_a_new_column_is_null_in_older_rows(near: Lake) -> None:
    made(near, some(1))
    wider = SCHEMA.append(pa.field("said", pa.struct([pa.field("total", pa.float64())])))

    near.table.evolve(wider)
    version = near.newest.version
    near.table.evolve(wider)
    near.table.evolve(SCHEMA)
    assert near.newest.version == version
    row = pa.table({"key": [2], "word": ["two"], "said": [{"total": 2.5}]}, schema=wider)
    assert near.commit([near.stage(row)])

    assert [(row["key"], row["said"]) for row in near.rows()] == [(1, None), (2, {"total": 2.5})]
    assert near.rows(columns=["said", "key"])[0] == {"said": None, "key": 1}


def test_columns_that_two_add_at_once_are_both_there(near: Lake) -> None:
    made(near)
    for turn in range(4):
        ready = Barrier(2)

        def add(number: int, turn: int = turn, ready: Barrier = ready) -> None:
            wider = SCHEMA.append(pa.field(f"column {turn} {number}", pa.int64()))
            ready.wait(30)
            near.table.evolve(wider)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(add, (1, 2)))

    new = [f"column {turn} {number}" for turn in range(4) for number in (1, 2)]
    assert sorted(near.newest.schema.names) == sorted([*SCHEMA.names, *new])


def test_a_column_does_not_change_its_type(near: Lake) -> None:
    made(near, some(1))
    other = pa.schema([pa.field("key", pa.int64()), pa.field("word", pa.float64())])

    with pytest.raises(JobError, match=r"word.*(string.*(float|double)|(float|double).*string)"):
        near.table.evolve(other)

    assert near.rows() == some(1).to_pylist()


ODD = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("text", pa.large_string()),
        pa.field("turn", pa.int16()),
        pa.field("sure", pa.float32()),
        pa.field("is", pa.bool_()),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("on", pa.date32()),
        pa.field("price", pa.decimal128(12, 2)),
        pa.field("bytes", pa.large_binary()),
        pa.field("list", pa.list_(pa.string())),
        pa.field("map", pa.map_(pa.string(), pa.int32())),
        pa.field("deep", pa.struct([pa.field("lines", pa.list_(pa.struct([pa.field("n", pa.int32())])))])),
    ]
)
ODD_ROWS = [
    {name: None for name in ODD.names} | {"key": 0},
    {
        "key": 1,
        "text": "",
        "turn": -270,
        "sure": 0.5,
        "is": False,
        "at": datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
        "on": date(1969, 12, 31),
        "price": Decimal("-1234567890.12"),
        "bytes": b"",
        "list": [],
        "map": [],
        "deep": {"lines": []},
    },
    {
        "key": 2,
        "text": "Grüße, 世界 \U0001f600 \"'\\\n\t" * 5_000,
        "turn": 32767,
        "sure": -1.0,
        "is": True,
        "at": datetime(1900, 1, 1, tzinfo=UTC),
        "on": date(9999, 12, 31),
        "price": Decimal("0.00"),
        "bytes": bytes(range(256)),
        "list": ["a", None, "é"],
        "map": [("one", 1), ("none", None)],
        "deep": {"lines": [{"n": 1}, None, {"n": None}]},
    },
]


def test_values_of_every_kind_come_back_as_they_were(near: Lake) -> None:
    near.table.create(ODD, {})

    assert near.commit([near.stage(pa.Table.from_pylist(ODD_ROWS, schema=ODD))])

    assert near.rows() == ODD_ROWS
    for kind in near.newest.schema.types:
        assert not any(odd in str(kind) for odd in ("view", "dictionary"))


def test_since_a_version_there_is_what_was_added(near: Lake) -> None:
    made(near, some(1), some(2))
    then = near.newest
    assert near.newest.files(since=then.version) == []
    [first, _] = then.files()
    assert near.commit([near.stage(some(3))], [first])
    assert near.commit([near.stage(some(4))])

    new = near.newest
    keys = [key for file in new.files(since=then.version) for key in keys_of(new, file)]

    assert sorted(keys) == [3, 4]
    with pytest.raises(SnapshotGone):
        new.files(since="987654321")
    with pytest.raises(SnapshotGone):
        near.table.snapshot("987654321")


def test_a_filter_leaves_out_rows_and_no_row_for_which_it_holds(near: Lake) -> None:
    made(near, some(1, 2), some(30, 40))
    now = near.newest
    for said, keys in (
        ("key >= 30", [30, 40]),
        ("key = 2", [2]),
        ("word = 'word 40'", [40]),
        ("key IN (1, 40)", [1, 40]),
        ("key < 0", []),
        ("key IS NULL", []),
    ):
        files = now.files(where=said)
        found = [row for file in files for b in now.read(file, ["word"], said) for row in b.to_pylist()]
        assert sorted(row["word"] for row in found) == [f"word {key}" for key in keys], said
    with pytest.raises(JobError):
        now.files(where="key ==")


def test_snapshots_and_files_go_to_other_processes(near: Lake) -> None:
    made(near, some(1))
    snapshot, files, table = pickle.loads(pickle.dumps((near.newest, near.newest.files(), near.table)))
    staged = pickle.loads(pickle.dumps(table.stage(some(2), "run1", "two")))

    assert keys_of(snapshot, files[0]) == [1]
    assert near.commit([staged])
    assert near.keys() == [1, 2]


@pytest.mark.parametrize("kind", FORMATS)
def test_any_sequence_of_commits_comes_to_what_it_says(kind: str, tmp_path: Path) -> None:
    root = normalise(str(tmp_path / "lake"))
    first = lake_of(kind, root, StorageOptions(), tmp_path / "catalog.db")
    # Which file is replaced, if any, and how many rows go in for it.
    step = st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3))

    @settings(max_examples=5)
    @given(st.lists(step, min_size=1, max_size=4))
    def law(steps: list[tuple[int, bool, int]]) -> None:
        lake = made(first.another())
        model: dict[int, list[int]] = {}
        for number, (which, replaces, count) in enumerate(steps):
            now = lake.newest
            gone = list(model)[which % len(model)] if model and replaces else None
            taken = [file for file in now.files() if gone is not None and keys_of(now, file) == model[gone]]
            new = [number * 10 + place for place in range(count)]
            assert lake.commit([lake.stage(some(*new))] if new else [], taken, on=now)
            if gone is not None:
                del model[gone]
            if new:
                model[number] = new
            assert lake.keys() == sorted(key for keys in model.values() for key in keys)

    law()
