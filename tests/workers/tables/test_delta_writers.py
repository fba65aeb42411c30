"""Writers of a Delta table that come at the same time, and a table that goes meanwhile."""

from __future__ import annotations

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
from workers.tables import OUTPUT, delta


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
