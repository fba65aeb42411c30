"""A folder of Parquet files, in hive partitions or not: read, and never written to, for it has no commits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import pyarrow as pa

from schemas.errors import JobError, ObjectMissing, SnapshotGone
from schemas.ids import digest
from workers.storage.factory import open_storage, relative
from workers.storage.rows import row_address
from workers.storage.stream import open_object
from workers.tables import DataFile, Staged
from workers.tables.files import read_file
from workers.tables.where import expression

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemas.storage import StorageOptions
    from schemas.tables import Place
    from workers.storage import ObjectInfo

NULL = "__HIVE_DEFAULT_PARTITION__"
"""What hive calls the folder of rows whose value is null."""


@dataclass(frozen=True)
class ParquetSnapshot:
    """The files that were listed. Its schema is the first file's, and the partitions': of a file that has
    another type for a column, the rows are cast when they are read, and refused where they do not fit."""

    place: Place
    storage: StorageOptions
    version: str
    schema: pa.Schema
    listed: tuple[DataFile, ...]
    properties: Mapping[str, str] = field(default_factory=dict, hash=False)

    def files(self, where: str | None = None, since: str | None = None) -> list[DataFile]:
        """All; by `where`, those whose partition may fit. Nothing tells what an earlier listing was."""
        if since is not None and since != self.version:
            raise SnapshotGone(f"{self.place.uri} is a folder, whose earlier files nobody keeps")
        if since is not None:
            return []
        if where is None:
            return list(self.listed)
        keep = expression(where, self.schema)
        return [file for file in self.listed if _may_fit(keep, file.detail, self.schema)]

    def read(
        self, file: DataFile, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Its rows; partition columns are what its path says."""
        return read_file(file.path, self.storage, self.schema, columns, where, file.detail)

    def address(self, file: DataFile, row: int, column: str) -> str:
        """Of a value in the file itself."""
        return row_address(file.path, row, column)


class ParquetTable:
    """A prefix with `*.parquet` below it; what begins with `_` or `.` is passed over, as by others."""

    def __init__(self, place: Place, storage: StorageOptions) -> None:
        """Reaches for nothing yet."""
        self.place = place
        self.storage = storage

    def snapshot(self, version: str | None = None) -> ParquetSnapshot | None:
        """What lies there now; a version is what that was when a run listed it: there is no way back."""
        files = self._listed()
        if not files:
            return None
        found = digest(*(f"{info.uri}\0{info.version}" for info in files))
        if version not in (None, found):
            raise SnapshotGone(
                f"{self.place.uri} is a folder of files, which has no versions: leave table.version out",
                key="table.version",
            )
        parts = [_partition(relative(info.uri, self.place.uri)) for info in files]
        schema = self._schema(files[0], parts)
        listed = [
            DataFile(
                info.uri,
                0,
                info.size,
                {name: _value(value, schema.field(name).type) for name, value in at.items()},
            )
            for info, at in zip(files, parts, strict=True)
        ]
        return ParquetSnapshot(self.place, self.storage, found, schema, tuple(listed))

    def create(self, schema: pa.Schema, properties: Mapping[str, str]) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def evolve(self, schema: pa.Schema) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def stage(self, rows: pa.Table, run_id: str, name: str) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def commit(
        self,
        snapshot: ParquetSnapshot,
        add: Sequence[Staged],
        remove: Sequence[DataFile],
        properties: Mapping[str, str],
    ) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def committed(self, key: str) -> bool:
        """Nothing is."""
        return False

    def discard(self, run_id: str) -> int:
        """Nothing is staged here."""
        return 0

    def _no_commits(self) -> JobError:
        return JobError(
            f"{self.place.uri} is a folder of Parquet files, which has no commits: name a delta, iceberg or "
            "lance table",
            key="table",
        )

    def _listed(self) -> list[ObjectInfo]:
        found = []
        try:
            for info in open_storage(self.place.uri, self.storage).list(self.place.uri):
                steps = relative(info.uri, self.place.uri).split("/")
                if steps[-1].endswith((".parquet", ".parq")) and not any(
                    step.startswith(("_", ".")) for step in steps
                ):
                    found.append(info)
        except ObjectMissing:
            return []
        return found

    def _schema(self, first: ObjectInfo, parts: Sequence[Mapping[str, str | None]]) -> pa.Schema:
        import pyarrow.parquet as pq

        storage = open_storage(first.uri, self.storage)
        try:
            schema = pq.read_schema(open_object(storage, first, read_ahead=0)).remove_metadata()
        except pa.ArrowInvalid as error:
            raise JobError(f"{first.uri} is no Parquet file: {error}", key="table.uri") from error
        plain = [each.with_type(_plain(each.type)) for each in schema]
        names = list(dict.fromkeys(name for at in parts for name in at))
        added = [pa.field(name, _kind([at.get(name) for at in parts])) for name in names]
        return pa.schema([*(each for each in plain if each.name not in names), *added])


def _partition(path: str) -> dict[str, str | None]:
    """`year=2024/kind=a%20b/x.parquet` -> the columns that its folders say."""
    pairs = [step.partition("=") for step in path.split("/")[:-1] if "=" in step]
    return {name: None if value == NULL else unquote(value) for name, _, value in pairs}


def _kind(values: Sequence[str | None]) -> pa.DataType:
    """Whole numbers where all are, as Spark and DuckDB take them."""
    told = [value for value in values if value is not None]
    return pa.int64() if told and all(value.lstrip("-").isdigit() for value in told) else pa.string()


def _value(value: str | None, kind: pa.DataType) -> Any:
    return int(value) if value is not None and pa.types.is_integer(kind) else value


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _may_fit(keep: Any, fixed: Mapping[str, Any], schema: pa.Schema) -> bool:
    """Whether the filter may hold in a file whose partition says so much; Arrow works it out."""
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    if not fixed:
        return True
    said = [
        ds.field(name) == pa.scalar(value, schema.field(name).type)
        for name, value in fixed.items()
        if value is not None
    ]
    told = ds.scalar(True)
    for each in said:
        told = told & each
    fragment = ds.ParquetFileFormat().make_fragment("unread", LocalFileSystem(), told)
    dataset = ds.FileSystemDataset([fragment], schema, ds.ParquetFileFormat())
    return next(iter(dataset.get_fragments(filter=keep)), None) is not None
