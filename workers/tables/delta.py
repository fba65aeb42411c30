"""Delta Lake, through delta-rs: a commit is one entry of the log, with the files that come and those that
go."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from schemas.errors import JobError, ObjectMissing, SnapshotGone, StorageUnavailable
from workers.extras import needs
from workers.sinks.parquet import encode
from workers.storage.factory import join, open_storage, scheme
from workers.storage.rows import row_address
from workers.tables import KEY, DataFile, Staged
from workers.tables.access import object_store_options
from workers.tables.delta_features import refuse_unread, refuse_unwritten
from workers.tables.delta_files import (
    additions,
    counted,
    files_of,
    fitting,
    parted,
    removal,
    told_of,
    writable,
)
from workers.tables.files import read_file
from workers.tables.shapes import conformed, evolved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemas.storage import StorageOptions
    from schemas.tables import Place

TRIES = 10
"""Of adding columns against others who change the table: one of them gets through each time."""


@dataclass(frozen=True)
class DeltaSnapshot:
    """One version of the log."""

    place: Place
    storage: StorageOptions
    version: str
    schema: pa.Schema
    properties: Mapping[str, str] = field(hash=False)

    def files(self, where: str | None = None, since: str | None = None) -> list[DataFile]:
        """Those that the log names; by `where`, as far as partitions and statistics tell."""
        table = _load(self.place, self.storage, self.version)
        found = files_of(table)
        if where is not None:
            fit = fitting(table, self.schema, where)
            found = [file for file in found if file.path in fit]
        if since is not None:
            earlier = {file.path for file in files_of(_load(self.place, self.storage, since))}
            found = [file for file in found if file.path not in earlier]
        return [counted(file, self.place.uri, self.storage) for file in found]

    def read(
        self, file: DataFile, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Its rows; partition columns are what the log says of the file."""
        return read_file(self._uri(file), self.storage, self.schema, columns, where, file.detail)

    def origin(self, version: str) -> str:
        """A table is given an id when it is made."""
        table = _open(self.place, self.storage, version)
        with _errors_as_ours(self.place):
            return str(table.metadata().id)

    def address(self, file: DataFile, row: int, column: str) -> str:
        """Of a value in the file itself."""
        return row_address(self._uri(file), row, column)

    def _uri(self, file: DataFile) -> str:
        return join(self.place.uri, unquote(file.path))


class DeltaTable:
    """A folder with `_delta_log/`."""

    def __init__(self, place: Place, storage: StorageOptions) -> None:
        """Reaches for nothing yet."""
        self.place = place
        self.storage = storage

    def snapshot(self, version: str | None = None) -> DeltaSnapshot | None:
        """Of a version's number; see `Table.snapshot`."""
        with needs("delta"):
            from deltalake.exceptions import TableNotFoundError
        try:
            table = _open(self.place, self.storage, version)
        except TableNotFoundError:
            return None
        with _errors_as_ours(self.place):
            refuse_unread(table, self.place)
            return DeltaSnapshot(
                self.place, self.storage, str(table.version()), _plain(table), _properties(table)
            )

    def fitted(self, schema: pa.Schema) -> pa.Schema:
        """Whole numbers have a sign in Delta, times are of microseconds, and none of a day alone."""
        return writable(schema, self.place.uri)

    def create(self, schema: pa.Schema, properties: Mapping[str, str]) -> DeltaSnapshot:
        """Delta has no free properties of a table: they are in its description, as JSON."""
        with needs("delta"):
            import deltalake
            from deltalake.exceptions import CommitFailedError
        if {"[", "]"} & set(self.place.uri):
            # Its query engine, which adds columns, ends the process's call with a panic over such a name.
            raise JobError(f"{self.place.uri}: delta-rs takes no name with brackets", key="sink.tables")
        wanted = self.fitted(schema)
        # That a commit failed says that somebody else has made it meanwhile.
        with _errors_as_ours(self.place), suppress(CommitFailedError):
            deltalake.DeltaTable.create(
                _path(self.place),
                schema=deltalake.Schema.from_arrow(wanted),
                mode="ignore",
                description=json.dumps(dict(properties), sort_keys=True),
                storage_options=object_store_options(self.storage, self.place.uri),
            )
        there = self.snapshot()
        if there is None:
            raise StorageUnavailable(f"{self.place.uri}: the table was made and is not there")
        return there

    def evolve(self, schema: pa.Schema) -> None:
        """New columns are an entry of the log of their own, which changes no row."""
        with needs("delta"):
            import deltalake
            from deltalake.exceptions import CommitFailedError
        for _ in range(TRIES):
            table = _load(self.place, self.storage)
            refuse_unwritten(table, self.place)
            there, version = _plain(table), table.version()
            wanted = evolved(there, self.fitted(schema), self.place.uri)
            if wanted == there:
                return
            try:
                with _errors_as_ours(self.place):
                    deltalake.write_deltalake(table, wanted.empty_table(), mode="append", schema_mode="merge")
                return
            except CommitFailedError as error:
                # Somebody else may have changed the columns meanwhile: the table tells.
                self._refuse_unmoved(version, error)
        raise StorageUnavailable(f"{self.place.uri}: others change the table all the time")

    def stage(self, rows: pa.Table, run_id: str, name: str) -> Staged:
        """A file beside those of the log; of a table with partitions, one for each that the rows are of."""
        table = _load(self.place, self.storage)
        by = table.metadata().partition_columns
        told: list[dict[str, Any]] = []
        for number, (partition, part) in enumerate(parted(conformed(rows, _plain(table)), by)):
            path = f"gemstream-{run_id}-{name}{f'-{number}' if by else ''}.parquet"
            content = encode(part)
            uri = join(self.place.uri, path)
            open_storage(uri, self.storage).publish(uri, content)
            told.append(told_of(path, content, partition))
        size = sum(each["size"] for each in told)
        return Staged(f"gemstream-{run_id}-{name}", rows.num_rows, size, json.dumps(told))

    def commit(
        self,
        snapshot: DeltaSnapshot,
        add: Sequence[Staged],
        remove: Sequence[DataFile],
        properties: Mapping[str, str],
    ) -> bool:
        """One entry of the log, on what is the newest now: what others have added since is left alone."""
        with needs("delta"):
            from deltalake.exceptions import CommitFailedError
            from deltalake.transaction import CommitProperties, Transaction
        key = properties[KEY]
        if self.committed(key):
            return True
        try:
            table = _load(self.place, self.storage)
            version = table.version()
            there = {file.path for file in files_of(table)}
            if not there.issuperset(file.path for file in remove):
                return False
            with _errors_as_ours(self.place):
                table.create_write_transaction(
                    [*(each for staged in add for each in additions(staged)), *map(removal, remove)],
                    mode="append",
                    schema=table.schema(),
                    partition_by=table.metadata().partition_columns,
                    commit_properties=CommitProperties(
                        custom_metadata=dict(properties), app_transactions=[Transaction(key, 1)]
                    ),
                )
        except CommitFailedError as error:
            if self.committed(key):
                return True
            self._refuse_unmoved(version, error)
            return False
        except StorageUnavailable:
            # The answer may have been lost, and not the commit.
            if self.committed(key):
                return True
            raise
        return True

    def committed(self, key: str) -> bool:
        """The log keeps a transaction's name for good."""
        with needs("delta"):
            from deltalake.exceptions import TableNotFoundError
        try:
            table = _open(self.place, self.storage)
        except TableNotFoundError:
            return False
        with _errors_as_ours(self.place):
            return table.transaction_version(key) is not None

    def discard(self, run_id: str) -> int:
        """What the log does not know: neither in its newest version nor as taken out since."""
        storage, mine = open_storage(self.place.uri, self.storage), f"gemstream-{run_id}-"
        try:
            # Not what lies in a folder below: there may be another table, with files of its own.
            own = join(self.place.uri, "")
            staged = [
                info.uri
                for info in storage.list(self.place.uri)
                if info.uri.removeprefix(own).startswith(mine)
            ]
        except ObjectMissing:
            return 0
        # Looked at after them: one that was committed since they were listed is in it.
        known = self._known() if staged else set()
        gone = [uri for uri in staged if uri.rpartition("/")[2] not in known]
        for uri in gone:
            storage.delete(uri)
        return len(gone)

    def _refuse_unmoved(self, version: int, error: Exception) -> None:
        """Nobody else was there: the table takes no such change, for instance as one for appends only."""
        if _load(self.place, self.storage).version() == version:
            raise JobError(f"{self.place.uri}: {_first_line(error)}", key="sink.tables") from error

    def _known(self) -> set[str]:
        with needs("delta"):
            from deltalake.exceptions import TableNotFoundError
        try:
            table = _open(self.place, self.storage)
        except TableNotFoundError:
            return set()
        with _errors_as_ours(self.place):
            taken_out = table.vacuum(
                retention_hours=0, dry_run=True, enforce_retention_duration=False, full=False
            )
        return {unquote(path) for path in (*taken_out, *(file.path for file in files_of(table)))}


def _open(place: Place, storage: StorageOptions, version: str | None = None) -> Any:
    """delta-rs' own handle on a version.

    Raises:
        TableNotFoundError: delta-rs' own: there is no table.
        SnapshotGone: there is no such version.
    """
    with needs("delta"):
        import deltalake
        from deltalake.exceptions import DeltaError, TableNotFoundError
    if version is not None and not version.isdigit():
        raise SnapshotGone(f"{place.uri} has no version {version!r}: they are numbers", key="table.version")
    with _errors_as_ours(place, let=TableNotFoundError):
        options = object_store_options(storage, place.uri)
        table = deltalake.DeltaTable(_path(place), storage_options=options)
        if version is None or int(version) == table.version():
            return table
        try:
            table.load_as_version(int(version))
        except DeltaError as error:
            raise SnapshotGone(
                f"{place.uri} has no version {version}, or keeps it no more: the newest is "
                f"{deltalake.DeltaTable(_path(place), storage_options=options).version()}",
                key="table.version",
            ) from error
        return table


def _load(place: Place, storage: StorageOptions, version: str | None = None) -> Any:
    """The same, of one that has been there."""
    with needs("delta"):
        from deltalake.exceptions import TableNotFoundError
    try:
        return _open(place, storage, version)
    except TableNotFoundError as error:
        raise JobError(f"{place.uri}: the table is not there any more", key="table") from error


@contextmanager
def _errors_as_ours(place: Place, let: type[Exception] | None = None) -> Iterator[None]:
    """delta-rs tells everything about a store as OSError, and about a table as DeltaError."""
    from deltalake.exceptions import CommitFailedError, DeltaError, DeltaProtocolError

    try:
        yield
    except CommitFailedError:
        raise
    except DeltaProtocolError as error:
        raise JobError(f"{place.uri}: {error}", key="table") from error
    except DeltaError as error:
        if let is not None and isinstance(error, let):
            raise
        raise JobError(f"{place.uri} is no Delta table that can be read: {_first_line(error)}") from error
    except OSError as error:
        raise StorageUnavailable(f"{place.uri}: the store does not answer: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _path(place: Place) -> str:
    return place.uri.removeprefix("file://") if scheme(place.uri) == "file" else place.uri


def _plain(table: Any) -> pa.Schema:
    """The columns in Arrow's common types; delta-rs has views of its own."""
    plain: pa.Schema = pa.schema(table.schema().to_arrow())
    return plain.remove_metadata()


def _properties(table: Any) -> dict[str, str]:
    metadata = table.metadata()
    found = {str(name): str(value) for name, value in metadata.configuration.items()}
    try:
        said = json.loads(metadata.description or "{}")
    except ValueError:  # somebody's own words
        return found
    if not isinstance(said, dict):
        return found
    return found | {name: str(value) for name, value in said.items() if name.startswith("gemstream.")}
