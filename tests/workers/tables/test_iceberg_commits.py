"""A commit of which a catalog first keeps the answer and then, asked again, says that others were faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException

from schemas.errors import StorageUnavailable
from schemas.storage import StorageOptions
from tests.workers.tables.lakes import Lake, lake_of, some
from tests.workers.tables.test_laws import made
from workers.storage.factory import normalise


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    root = normalise(str(tmp_path / "lake"))
    return made(lake_of("iceberg", root, StorageOptions(), tmp_path / "catalog.db"), some(1))


def asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a gateway asks that has lost the first answer."""
    plainly = SqlCatalog.commit_table

    def twice(self: SqlCatalog, *told: Any) -> Any:
        plainly(self, *told)
        raise CommitFailedException("Requirement failed: branch main has changed")

    monkeypatch.setattr(SqlCatalog, "commit_table", twice)


def test_one_that_is_in_place_keeps_its_manifests(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    staged, seen = lake.stage(some(2)), lake.newest
    with monkeypatch.context() as patched:
        asked_twice(patched)
        assert lake.commit([staged], seen.files(), key="first", on=seen)

    assert lake.table.committed("first")
    assert lake.keys() == [2]
    assert lake.commit([lake.stage(some(3))])
    assert lake.keys() == [2, 3]


def test_one_of_which_nobody_can_tell_keeps_them_too(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    staged, plainly = lake.stage(some(2)), SqlCatalog.load_table
    looked = [0]

    def away(self: SqlCatalog, *told: Any) -> Any:
        looked[0] += 1
        if looked[0] == 3:  # after the handle's own, and the catalog's in its commit
            raise OSError("no route to host")
        return plainly(self, *told)

    with monkeypatch.context() as patched:
        asked_twice(patched)
        patched.setattr(SqlCatalog, "load_table", away)
        seen = lake.newest
        looked[0] = 0
        with pytest.raises(StorageUnavailable):
            lake.commit([staged], key="first", on=seen)

    assert lake.table.committed("first")
    assert lake.keys() == [1, 2]
