"""Iceberg, through pyiceberg: a commit is one snapshot, with the files that come and those that go.

Whoever reads, writes or commits reaches the table's catalog, workers of other nodes included: one that is a
database in a file serves one machine.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from schemas.errors import JobError, ObjectMissing, SnapshotGone, StorageUnavailable
from workers.extras import needs
from workers.sinks.parquet import encode
from workers.storage.factory import join, open_storage
from workers.storage.rows import row_address
from workers.storage.stream import open_object
from workers.tables import KEY, STAGED, DataFile, Staged
from workers.tables.access import pyiceberg_options
from workers.tables.files import read_file
from workers.tables.iceberg_commits import WRITTEN, has_commit, made_once, refuse_unwritten
from workers.tables.iceberg_errors import errors_as_ours
from workers.tables.iceberg_types import (
    called_in,
    data_file,
    filter_of,
    identities,
    parted,
    plain,
    writable,
)
from workers.tables.shapes import conformed, evolved
from workers.tables.where import expression

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from schemas.storage import StorageOptions
    from schemas.tables import Place

EMPTY = "0"
"""The version of a table that nothing has been committed to."""

TRIES = 10
"""Of adding columns against others who change the table: one of them gets through each time."""


@dataclass(frozen=True)
class IcebergSnapshot:
    """One snapshot, by its id."""

    place: Place
    storage: StorageOptions
    version: str
    schema: pa.Schema
    properties: Mapping[str, str] = field(hash=False)
    ids: Mapping[str, int] = field(hash=False)
    """Of its columns."""
    names: Mapping[int, str] = field(hash=False)
    """Of its columns and of all fields in them, by their ids."""
    ever_renamed: frozenset[str]
    """Columns that have had another name."""
    specs: Mapping[int, tuple[int | None, ...]] = field(hash=False)
    """Ways in which the table has been partitioned: of each field the column whose value it is, if any."""

    def files(self, where: str | None = None, since: str | None = None) -> list[DataFile]:
        """Those of the snapshot's manifests; by `where`, as far as partitions and statistics tell."""
        if where is not None:
            expression(where, self.schema)  # what is no filter is told here
        if self.version == EMPTY:
            return []
        table = _load(self.place, self.storage)
        found = _files(table, self.place, self.version, where)
        if since is not None and since != EMPTY:
            earlier = {file.path for file in _files(table, self.place, since)}
            found = [file for file in found if file.path not in earlier]
        return found

    def read(
        self, file: DataFile, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Its rows, by the ids of their columns. Not by pyiceberg, whose lists of structs come back empty
        where they were null (0.12)."""
        self._refuse_deletes(file)
        lacking = parted(file.detail.file, self.ids, self.specs)
        return read_file(
            file.path, self.storage, self.schema, columns, where, names=self._names, lacking=lacking
        )

    def _names(self, written: pa.Schema) -> dict[str, str]:
        return called_in(written, self.ids, self.names, self.place.uri)

    def _refuse_deletes(self, file: DataFile) -> None:
        if file.detail.delete_files:
            raise JobError(
                f"{self.place.uri}: rows of {file.path} are deleted without their file being written anew, "
                "which is not read: rewrite the table's data files",
                key="table.uri",
            )

    def origin(self, version: str) -> str:
        """Ids of snapshots are drawn at random: no other table has this one."""
        return version

    def address(self, file: DataFile, row: int, column: str) -> str:
        """Of a value in the file itself."""
        self._refuse_deletes(file)
        return row_address(file.path, row, self._name(file, column))

    def _name(self, file: DataFile, column: str) -> str:
        """What a file calls a column. Its footer is read for that once a file and process, and only if the
        column was ever renamed."""
        if column not in self.ever_renamed:
            return column
        return self._names(_written(self.storage, file.path)).get(column, column)


class IcebergTable:
    """`namespace.table` of a catalog."""

    def __init__(self, place: Place, storage: StorageOptions) -> None:
        """Reaches for nothing yet."""
        self.place = place
        self.storage = storage

    def snapshot(self, version: str | None = None) -> IcebergSnapshot | None:
        """Of a snapshot's id; see `Table.snapshot`."""
        with needs("iceberg"):
            from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
        try:
            table = _find(self.place, self.storage)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        newest = table.current_snapshot()
        found = str(newest.snapshot_id) if newest is not None else EMPTY
        if version is not None and version != found:
            _refuse_gone(table, self.place, version)
            found = version
        return IcebergSnapshot(
            self.place,
            self.storage,
            found,
            plain(_schema_of(table, found)),
            {str(name): str(value) for name, value in table.properties.items()},
            **identities(_schema_of(table, found), table.schemas().values(), table.specs().values()),
        )

    def fitted(self, schema: pa.Schema) -> pa.Schema:
        """Whole numbers have 32 or 64 bits and a sign in Iceberg, times are of microseconds."""
        return writable(schema, self.place.uri)

    def create(self, schema: pa.Schema, properties: Mapping[str, str]) -> IcebergSnapshot:
        """The namespace as well, if it is not there."""
        with needs("iceberg"):
            from pyiceberg.exceptions import TableAlreadyExistsError
        catalog, told = _catalog(self.place, self.storage), {**properties, "format-version": str(WRITTEN)}
        with errors_as_ours(self.place):
            catalog.create_namespace_if_not_exists(self.place.uri.rpartition(".")[0])
            try:
                catalog.create_table(self.place.uri, self.fitted(schema), properties=told)
            except TableAlreadyExistsError:
                pass  # by somebody else meanwhile
        there = self.snapshot()
        if there is None:
            raise StorageUnavailable(f"{self.place.uri}: the table was made and is not there")
        return there

    def evolve(self, schema: pa.Schema) -> None:
        """New columns are a commit of their own, which changes no row."""
        with needs("iceberg"):
            from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
        for _ in range(TRIES):
            table = _load(self.place, self.storage)
            refuse_unwritten(table, self.place)
            # A changed type is refused here: pyiceberg would widen one without a word, and pass over others.
            now = plain(table.schema())
            if evolved(now, self.fitted(schema), self.place.uri) == now:
                return
            try:
                with errors_as_ours(self.place), table.update_schema() as update:
                    update.union_by_name(self.fitted(schema))
                return
            except (CommitFailedException, CommitStateUnknownException):
                continue  # somebody else was faster, or the answer got lost: the table tells
        raise StorageUnavailable(f"{self.place.uri}: others change the table all the time")

    def stage(self, rows: pa.Table, run_id: str, name: str) -> Staged:
        """A file among the table's, whose columns have their ids."""
        with needs("iceberg"):
            from pyiceberg.io.pyarrow import schema_to_pyarrow
        # It logs a line for each column whose statistics are left out on purpose.
        logging.getLogger("pyiceberg.io.pyarrow").setLevel(logging.ERROR)
        table = _load(self.place, self.storage)
        uri = join(table.location(), "data", f"gemstream-{run_id}-{name}.parquet")
        with errors_as_ours(self.place):
            fitted = conformed(rows, schema_to_pyarrow(table.schema(), include_field_ids=True))
            content = encode(fitted)
            told = data_file(table, uri, fitted, content)
        open_storage(uri, self.storage).publish(uri, content)
        return Staged(uri, rows.num_rows, len(content), told)

    def commit(
        self,
        snapshot: IcebergSnapshot,
        add: Sequence[Staged],
        remove: Sequence[DataFile],
        properties: Mapping[str, str],
    ) -> bool:
        """One snapshot, on what is the newest now: rows that others have added since are nobody's concern."""
        with needs("iceberg"):
            from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
        table = _load(self.place, self.storage)
        if has_commit(table, properties[KEY]):
            return True
        newest = table.current_snapshot()
        there = _files(table, self.place, str(newest.snapshot_id)) if newest is not None else []
        if not {file.path for file in there}.issuperset(file.path for file in remove):
            return False
        with errors_as_ours(self.place):
            try:
                with made_once(table, properties[KEY]).transaction() as transaction:
                    with transaction.update_snapshot(
                        snapshot_properties=dict(properties)
                    ).overwrite() as change:
                        for staged in add:
                            change.append_data_file(staged.detail)
                        for file in remove:
                            change.delete_data_file(file.detail.file)
            except CommitFailedException:
                return self.committed(properties[KEY])
            except CommitStateUnknownException as error:
                if self.committed(properties[KEY]):
                    return True
                raise StorageUnavailable(f"{self.place.uri}: the catalog did not answer a commit") from error
        return True

    def committed(self, key: str) -> bool:
        """As long as the snapshot is kept."""
        with needs("iceberg"):
            from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
        try:
            return has_commit(_find(self.place, self.storage), key)
        except (NoSuchTableError, NoSuchNamespaceError):
            return False

    def discard(self, run_id: str) -> int:
        """What no snapshot that is kept names."""
        with needs("iceberg"):
            from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
        try:
            table = _find(self.place, self.storage)
        except (NoSuchTableError, NoSuchNamespaceError):
            return 0
        folder = join(table.location(), "data")
        storage, mine = open_storage(folder, self.storage), f"gemstream-{run_id}-"
        try:
            staged = [info.uri for info in storage.list(folder) if mine in info.uri.rpartition("/")[2]]
        except ObjectMissing:
            return 0
        known: set[str] = set()
        if staged:
            with errors_as_ours(self.place):
                paths = table.inspect.all_data_files()["file_path"].to_pylist()
                # By their names, which are in no other folder: of one place there are several spellings, a
                # path, file:/ and file:///, s3a:// and s3://.
                known = {path.rpartition("/")[2] for path in paths}
        gone = [uri for uri in staged if uri.rpartition("/")[2] not in known]
        for uri in gone:
            storage.delete(uri)
        return len(gone)


def _catalog(place: Place, storage: StorageOptions) -> Any:
    with needs("iceberg"):
        from pyiceberg.catalog import load_catalog
    namespace, _, name = place.uri.rpartition(".")
    if not all([name, *namespace.split(".")]):
        raise JobError(
            f"{place.uri!r} names no table of an Iceberg catalog: that is namespace.table", key="table.uri"
        )
    with errors_as_ours(place):
        told = dict(place.catalog)
        return load_catalog(told.pop("name", "default"), **{**pyiceberg_options(storage), **told})


def _find(place: Place, storage: StorageOptions) -> Any:
    """pyiceberg's own handle on the table.

    Raises:
        NoSuchTableError: pyiceberg's own (so is NoSuchNamespaceError): there is none.
    """
    catalog = _catalog(place, storage)
    with needs("iceberg"):
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
    with errors_as_ours(place, let=(NoSuchTableError, NoSuchNamespaceError)):
        return catalog.load_table(place.uri)


def _load(place: Place, storage: StorageOptions) -> Any:
    """The same, of one that has been there."""
    with errors_as_ours(place):
        return _find(place, storage)


@lru_cache(maxsize=64)
def _written(storage: StorageOptions, path: str) -> pa.Schema:
    import pyarrow.parquet as pq

    opened = open_storage(path, storage)
    return pq.read_schema(open_object(opened, opened.info(path), read_ahead=0))


def _files(table: Any, place: Place, version: str, where: str | None = None) -> list[DataFile]:
    _refuse_gone(table, place, version)
    with errors_as_ours(place):
        scan = table.scan(row_filter=filter_of(where, _schema_of(table, version)), snapshot_id=int(version))
        files = [
            DataFile(
                task.file.file_path,
                task.file.record_count,
                task.file.file_size_in_bytes,
                task,
                task.file.file_path.rpartition("/")[2].startswith(STAGED),
            )
            for task in scan.plan_files()
        ]
    return sorted(files, key=lambda file: file.path)


def _refuse_gone(table: Any, place: Place, version: str) -> None:
    known = version.isdigit() and table.snapshot_by_id(int(version)) is not None
    if not known:
        raise SnapshotGone(
            f"{place.uri} has no snapshot {version}, or keeps it no more; read the newest, or one of "
            "`table.inspect.snapshots()`",
            key="table.version",
        )


def _schema_of(table: Any, version: str) -> Any:
    """The columns as that snapshot had them."""
    if version == EMPTY:
        return table.schema()
    snapshot = table.snapshot_by_id(int(version))
    if snapshot is None or snapshot.schema_id is None or snapshot == table.current_snapshot():
        return table.schema()
    return table.schemas()[snapshot.schema_id]
