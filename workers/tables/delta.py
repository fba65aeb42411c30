"""Delta Lake, through delta-rs: a commit is one entry of the log, with the files that come and those that
go."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import JobError, ObjectMissing, SnapshotGone, StorageUnavailable
from workers.extras import needs
from workers.sinks.parquet import encode
from workers.storage.factory import join, open_storage, scheme
from workers.storage.rows import row_address
from workers.tables import KEY, DataFile, Staged
from workers.tables.access import object_store_options
from workers.tables.files import read_file
from workers.tables.where import expression

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemas.storage import StorageOptions
    from schemas.tables import Place

LONGEST_STATISTIC = 64
"""Characters of a string that is told as the smallest or largest of its file."""

NOT_READ = {
    "deletionVectors": "rows deleted without their file being written anew; run REORG TABLE … APPLY (PURGE)",
    "columnMapping": "columns by another name than the table's",
}
"""Features that a reader has to know, and what they are."""


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
        table = _open(self.place, self.storage, self.version)
        found = _files(table)
        if where is not None:
            keep = expression(where, self.schema)
            fitting = {part.path for part in table.to_pyarrow_dataset().get_fragments(filter=keep)}
            found = [file for file in found if unquote(file.path) in fitting]
        if since is not None:
            earlier = {file.path for file in _files(_open(self.place, self.storage, since))}
            found = [file for file in found if file.path not in earlier]
        return found

    def read(
        self, file: DataFile, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Its rows; partition columns are what the log says of the file."""
        return read_file(self._uri(file), self.storage, self.schema, columns, where, file.detail)

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
            _refuse_unread(table, self.place)
            return DeltaSnapshot(
                self.place, self.storage, str(table.version()), _plain(table), _properties(table)
            )

    def create(self, schema: pa.Schema, properties: Mapping[str, str]) -> DeltaSnapshot:
        """Delta has no free properties of a table: they are in its description, as JSON."""
        with needs("delta"):
            import deltalake
        if {"[", "]"} & set(self.place.uri):
            # Its query engine, which adds columns, ends the process's call with a panic over such a name.
            raise JobError(f"{self.place.uri}: delta-rs takes no name with brackets", key="sink.tables")
        with _errors_as_ours(self.place):
            deltalake.DeltaTable.create(
                _path(self.place),
                schema=deltalake.Schema.from_arrow(schema),
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
        table = _open(self.place, self.storage)
        if _is_within(pa.struct(list(schema)), pa.struct(list(_plain(table)))):
            return
        with _errors_as_ours(self.place):
            deltalake.write_deltalake(table, schema.empty_table(), mode="append", schema_mode="merge")

    def stage(self, rows: pa.Table, run_id: str, name: str) -> Staged:
        """A file beside those of the log. Of a table in partitions all rows are of one."""
        path = f"gemstream-{run_id}-{name}.parquet"
        with _errors_as_ours(self.place):
            parts = _open(self.place, self.storage).metadata().partition_columns
        values = {name: _partition(rows[name], self.place) for name in parts}
        content = encode(rows.drop_columns(parts).replace_schema_metadata())
        uri = join(self.place.uri, path)
        open_storage(uri, self.storage).publish(uri, content)
        return Staged(path, rows.num_rows, len(content), (json.dumps(_statistics(content)), values))

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
            table = _open(self.place, self.storage)
            there = {file.path for file in _files(table)}
            if not there.issuperset(file.path for file in remove):
                return False
            with _errors_as_ours(self.place):
                table.create_write_transaction(
                    [*map(_add, add), *map(_remove, remove)],
                    mode="append",
                    schema=table.schema(),
                    commit_properties=CommitProperties(
                        custom_metadata=dict(properties), app_transactions=[Transaction(key, 1)]
                    ),
                )
        except CommitFailedError:
            return self.committed(key)
        except StorageUnavailable:
            # The answer may have been lost, and not the commit.
            if self.committed(key):
                return True
            raise
        return True

    def committed(self, key: str) -> bool:
        """The log keeps a transaction's name for good."""
        with _errors_as_ours(self.place):
            return _open(self.place, self.storage).transaction_version(key) is not None

    def discard(self, run_id: str) -> int:
        """What the log does not know: neither in its newest version nor as taken out since."""
        storage = open_storage(self.place.uri, self.storage)
        known = self._known()
        removed = 0
        try:
            for info in storage.list(self.place.uri):
                name = info.uri.rpartition("/")[2]
                if name.startswith(f"gemstream-{run_id}-") and name not in known:
                    storage.delete(info.uri)
                    removed += 1
        except ObjectMissing:
            return 0
        return removed

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
        return {unquote(path) for path in (*taken_out, *(file.path for file in _files(table)))}


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


def _refuse_unread(table: Any, place: Place) -> None:
    features = table.protocol().reader_features or ()
    for feature in features:
        if feature not in NOT_READ:
            continue
        used = (
            len(table.deletion_vectors().read_all())
            if feature == "deletionVectors"
            else table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
        )
        if used:
            raise JobError(f"{place.uri} has {feature}, which is not read: {NOT_READ[feature]}", key="table")


def _files(table: Any) -> list[DataFile]:
    rows = pa.table(table.get_add_actions(flatten=True))
    parts = [name for name in rows.column_names if name.startswith("partition.")]
    return [
        DataFile(
            row["path"],
            row["num_records"] or 0,
            row["size_bytes"],
            {name.removeprefix("partition."): row[name] for name in parts},
        )
        for row in rows.select(["path", "num_records", "size_bytes", *parts]).sort_by("path").to_pylist()
    ]


def _partition(column: pa.ChunkedArray, place: Place) -> str | None:
    """The value that all rows have, as the log writes it.

    Raises:
        JobError: they have several.
    """
    values = pc.unique(column)
    if len(values) != 1:
        raise JobError(
            f"{place.uri} lies in partitions, and rows of several would be in one file", key="table"
        )
    kind = column.type
    if pa.types.is_timestamp(kind):
        values = values.cast(pa.timestamp("us", kind.tz and "UTC")).cast(pa.timestamp("us"))
    value: str | None = values.cast(pa.string())[0].as_py()
    return value


def _add(staged: Staged) -> Any:
    from deltalake.transaction import AddAction

    statistics, parts = staged.detail
    return AddAction(
        path=staged.path,
        size=staged.bytes,
        partition_values=parts,
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=statistics,
    )


def _remove(file: DataFile) -> Any:
    from deltalake.transaction import RemoveAction

    parts = {name: None if value is None else str(value) for name, value in (file.detail or {}).items()}
    return RemoveAction(
        # The log's paths are percent-encoded, and delta-rs encodes what it is given.
        path=unquote(file.path),
        data_change=True,
        deletion_timestamp=int(time.time() * 1000),
        size=file.bytes,
        partition_values=parts,
    )


def _statistics(content: bytes) -> dict[str, Any]:
    """Rows, and of whole numbers and short strings the smallest, the largest and the nulls: what readers pass
    over files by."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(pa.BufferReader(content))
    told: dict[str, Any] = {
        "numRecords": metadata.num_rows,
        "minValues": {},
        "maxValues": {},
        "nullCount": {},
    }
    for index in range(metadata.num_columns):
        name = metadata.schema.column(index).path
        found = [
            metadata.row_group(group).column(index).statistics for group in range(metadata.num_row_groups)
        ]
        if "." in name or not all(each is not None and each.has_null_count for each in found):
            continue
        told["nullCount"][name] = sum(each.null_count for each in found)
        ends = [end for each in found if each.has_min_max for end in (each.min, each.max)]
        if ends and len(ends) == 2 * len(found) and all(map(_is_plain, ends)):
            told["minValues"][name], told["maxValues"][name] = min(ends), max(ends)
    return told


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_STATISTIC
    return isinstance(value, int) and not isinstance(value, bool)


def _is_within(inner: pa.DataType, outer: pa.DataType) -> bool:
    """Whether every field of the one is in the other, at any depth."""
    if pa.types.is_struct(inner) and pa.types.is_struct(outer):
        names = {each.name: each.type for each in outer}
        return all(each.name in names and _is_within(each.type, names[each.name]) for each in inner)
    if pa.types.is_map(inner) and pa.types.is_map(outer):
        return _is_within(inner.item_type, outer.item_type)
    if hasattr(inner, "value_type") and hasattr(outer, "value_type"):
        return _is_within(inner.value_type, outer.value_type)
    return True
