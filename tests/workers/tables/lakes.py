"""Where the tests of tables keep them: a folder and a real S3 bucket, in each format that is written."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from schemas.storage import StorageOptions
from schemas.tables import Place, TableFormat
from workers.storage.factory import join, normalise, open_storage
from workers.tables import KEY, RUN, Staged, open_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.demo.objectstore import ObjectStore
    from workers.tables import DataFile, Snapshot, Table

FORMATS = ["delta", "iceberg", "lance"]
SCHEMA = pa.schema([pa.field("key", pa.int64()), pa.field("word", pa.large_string())])


@dataclass(frozen=True)
class Lake:
    """A table that is not there yet, and a short way to its rows."""

    place: Place
    storage: StorageOptions
    root: str

    @property
    def table(self) -> Table:
        """A handle of its own each time, as processes have theirs."""
        return open_table(self.place, self.storage)

    @property
    def newest(self) -> Snapshot:
        """Which has to be there."""
        there = self.table.snapshot()
        assert there is not None
        return there

    def another(self) -> Lake:
        """A table beside it."""
        uri = f"{self.place.uri}{uuid.uuid4().hex[:8]}"
        return replace(self, place=self.place.model_copy(update={"uri": uri}))

    def stage(self, rows: pa.Table, run: str = "run1", name: str | None = None) -> Staged:
        """A file, by a name of its own unless it has one."""
        return self.table.stage(rows, run, name or uuid.uuid4().hex)

    def commit(
        self,
        add: Sequence[Staged] = (),
        remove: Sequence[DataFile] = (),
        key: str | None = None,
        on: Snapshot | None = None,
    ) -> bool:
        """On the newest snapshot, if not on that one."""
        properties = {KEY: key or uuid.uuid4().hex, RUN: "run1"}
        return self.table.commit(on or self.newest, add, remove, properties)

    def rows(self, snapshot: Snapshot | None = None, **how: Any) -> list[dict[str, Any]]:
        """All of them, in the order of their keys."""
        seen = snapshot or self.newest
        batches = [batch for file in seen.files() for batch in seen.read(file, **how)]
        found = [row for batch in batches for row in batch.to_pylist()]
        return sorted(found, key=lambda row: row["key"]) if found and "key" in found[0] else found

    def holding(self, snapshot: Snapshot, *keys: int) -> DataFile:
        """The file of a snapshot with just these rows."""
        [found] = [file for file in snapshot.files() if keys_of(snapshot, file) == list(keys)]
        return found

    def keys(self, snapshot: Snapshot | None = None) -> list[int]:
        """Of the rows."""
        return [row["key"] for row in self.rows(snapshot, columns=["key"])]

    def lying(self) -> list[str]:
        """Objects that were staged, in the table or not."""
        found = open_storage(self.root, self.storage).list(self.root)
        return [name for info in found if "gemstream-" in (name := info.uri.rpartition("/")[2])]


def keys_of(snapshot: Snapshot, file: DataFile) -> list[int]:
    """Of its rows, in their order."""
    return [row["key"] for batch in snapshot.read(file, ["key"]) for row in batch.to_pylist()]


def some(*keys: int) -> pa.Table:
    """Rows by these keys."""
    return pa.table({"key": list(keys), "word": [f"word {key}" for key in keys]}, schema=SCHEMA)


def lake_of(kind: str, root: str, storage: StorageOptions, catalog: Path) -> Lake:
    """In a folder or bucket; Iceberg's catalog is a database beside it."""
    if kind == "iceberg":
        told = {
            "type": "sql",
            "uri": f"sqlite:///{catalog}?timeout=60",
            "warehouse": root.removeprefix("file://"),
        }
        place = Place(format=TableFormat.ICEBERG, uri="lake.rows", catalog=told)
        return Lake(place, storage, root)
    return Lake(Place(format=TableFormat(kind), uri=join(root, "rows")), storage, root)


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> tuple[str, StorageOptions]:
    """A prefix of its own for one test."""
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    return object_store.url(uuid.uuid4().hex), StorageOptions(endpoint_url=object_store.endpoint)


@pytest.fixture(params=FORMATS)
def near(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A table to be made in a folder, in every format."""
    root = normalise(str(tmp_path / "lake"))
    return lake_of(request.param, root, StorageOptions(), tmp_path / "catalog.db")


@pytest.fixture(params=FORMATS)
def far(request: pytest.FixtureRequest, bucket: tuple[str, StorageOptions], tmp_path: Path) -> Lake:
    """A table to be made in a bucket, in every format."""
    return lake_of(request.param, *bucket, tmp_path / "catalog.db")


@pytest.fixture(params=[f"{kind}-{where}" for kind in FORMATS for where in ("near", "far")])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """The one and the other."""
    kind, _, where = request.param.partition("-")
    place = normalise(str(tmp_path / "lake")), StorageOptions()
    return lake_of(
        kind,
        *(request.getfixturevalue("bucket") if where == "far" else place),
        tmp_path / "catalog.db",
    )
