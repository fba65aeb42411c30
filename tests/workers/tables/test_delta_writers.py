"""Writers of a Delta table that come at the same time, and a table that goes meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError

from schemas.errors import JobError
from schemas.storage import StorageOptions
from tests.workers.tables.lakes import SCHEMA, Lake, lake_of, some
from tests.workers.tables.test_laws import made
from workers.storage.factory import normalise
from workers.storage.local import LocalStorage
from workers.tables import OUTPUT, delta, delta_features
from workers.tables.delta_features import WRITTEN


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_of("delta", normalise(str(tmp_path / "lake")), StorageOptions(), tmp_path)


def wider(name: str) -> pa.Schema:
    return SCHEMA.append(pa.field(name, pa.int64()))


def meanwhile(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, work: Callable[[], object]) -> None:
    """The next call of a function is right before or after somebody else's work."""
    known, todo = getattr(where, name), [work]

    def worked(*args: Any, **how: Any) -> Any:
        found = known(*args, **how)
        if todo:
            todo.pop()()
        return found

    monkeypatch.setattr(where, name, worked)


def test_two_that_add_columns_at_once_both_do(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    made(lake, some(1))
    meanwhile(monkeypatch, delta, "evolved", lambda: lake.table.evolve(wider("theirs")))

    lake.table.evolve(wider("ours"))

    assert lake.newest.schema.names == [*SCHEMA.names, "theirs", "ours"]


def test_one_that_somebody_else_makes_at_the_same_time_is_as_good(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly = deltalake.DeltaTable.create

    def slow(*args: Any, **how: Any) -> Any:
        plainly(*args, **how)
        raise CommitFailedError("Failed to commit transaction: Protocol changed since last commit")

    monkeypatch.setattr(deltalake.DeltaTable, "create", slow)

    assert lake.table.create(SCHEMA, {OUTPUT: "s3://lake/out"}).properties[OUTPUT] == "s3://lake/out"


def test_what_is_committed_while_a_run_is_cleaned_up_after_stays(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(lake, some(1))
    late = lake.stage(some(2), "dead", "late")
    lake.stage(some(3), "dead", "left")
    meanwhile(monkeypatch, LocalStorage, "list", lambda: lake.commit([late]))

    assert lake.table.discard("dead") == 1

    assert lake.keys() == [1, 2]
    assert [name for name in lake.lying() if "left" in name] == []


def test_a_table_that_goes_meanwhile_is_told(lake: Lake, tmp_path: Path) -> None:
    made(lake, some(1))
    seen, staged = lake.newest, lake.stage(some(2))
    shutil.rmtree(tmp_path / "lake")

    for work in (
        seen.files,
        lambda: lake.table.evolve(wider("ours")),
        lambda: lake.stage(some(3)),
        lambda: lake.commit([staged], on=seen),
    ):
        with pytest.raises(JobError, match="not there any more"):
            work()
    assert lake.table.discard("run1") == 0


READ_TOO = {
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "variantShredding-preview",
    "variantType",
    "variantType-preview",
}
"""Features that a reader has to know as well."""

NOT_WRITTEN = {
    "allowColumnDefaults",
    "checkpointProtection",
    "clustering",
    "domainMetadata",
    "icebergCompatV1",
    "icebergCompatV2",
    "identityColumns",
    "inCommitTimestamp",
    "materializePartitionColumns",
    "nobody-knows-it",
    "rowTracking",
    "typeWidening",
    "vacuumProtocolCheck",
    "variantShredding-preview",
}


def with_features(lake: Lake, *names: str, version: int = 7) -> None:
    """A table of one row, with features in its log as another engine turns them on."""
    made(lake, some(1))
    log = Path(lake.place.uri.removeprefix("file://"), "_delta_log", f"{0:020}.json")
    read = sorted(READ_TOO.intersection(names))
    protocol: dict[str, Any] = {"minReaderVersion": 3 if read else 2, "minWriterVersion": version}
    if version == 7:
        protocol |= {"writerFeatures": names, **({"readerFeatures": read} if read else {})}
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    actions = [{"protocol": protocol} if "protocol" in each else each for each in actions]
    log.write_text("\n".join(map(json.dumps, actions)))


@pytest.mark.parametrize("name", sorted(WRITTEN | NOT_WRITTEN))
def test_what_delta_rs_writes_is_what_it_says(lake: Lake, name: str) -> None:
    with_features(lake, name)
    table = deltalake.DeltaTable(lake.place.uri)
    try:
        table.create_write_transaction([], mode="append", schema=table.schema(), partition_by=[])
    except CommitFailedError as error:
        assert "Unsupported table features" in str(error)
        assert name in NOT_WRITTEN, "it writes less than it did"
    else:
        assert name in WRITTEN, "it writes more than it did: one more for the list"
        lake.table.evolve(lake.newest.schema)


def test_a_table_with_features_that_are_not_written_is_refused_while_nothing_is_changed(lake: Lake) -> None:
    with_features(lake, "rowTracking", "appendOnly", "domainMetadata")
    with pytest.raises(JobError, match=r"domainMetadata, rowTracking, .*table\.into"):
        lake.table.evolve(SCHEMA)


def test_so_is_one_that_has_them_by_its_version(lake: Lake) -> None:
    with_features(lake, version=6)
    with pytest.raises(JobError, match=r"writer version 6.*table\.into"):
        lake.table.evolve(SCHEMA)


def test_what_delta_rs_refuses_is_no_conflict(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with_features(lake, "rowTracking")
    monkeypatch.setattr(delta_features, "WRITTEN", WRITTEN | {"rowTracking"})
    with pytest.raises(JobError, match="Unsupported table features required"):
        lake.table.evolve(wider("ours"))
