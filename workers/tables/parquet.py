"""A folder of Parquet files as a table that is read, in hive partitions (`year=2024/x.parquet`) or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import JobError, ObjectChanged, ObjectMissing, SnapshotGone
from schemas.ids import digest
from workers.storage import ObjectInfo
from workers.storage.factory import join, open_storage
from workers.storage.rows import row_address
from workers.storage.stream import READ_AHEAD, open_object
from workers.tables import DataFile, Staged
from workers.tables.where import expression, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemas.storage import StorageOptions
    from schemas.tables import Place

BATCH_ROWS = 4_096
BATCH_BYTES = 16 * 1024 * 1024
"""Of a batch, as far as the file's mean row tells: rows with documents in them come a few at a time."""

NOTHING = "__HIVE_DEFAULT_PARTITION__"
"""How Hive writes null into a path."""


@dataclass(frozen=True)
class ParquetSnapshot:
    """What a listing found. Picklable."""

    uri: str
    storage: StorageOptions
    version: str
    schema: pa.Schema
    found: tuple[DataFile, ...]
    partitions: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    def files(self, where: str | None = None, since: str | None = None) -> list[DataFile]:
        """Those whose partition the filter may hold for. A listing keeps no history: of another version than
        this one nothing is known."""
        if since == self.version:
            return []
        if since is not None:
            raise SnapshotGone(
                f"{self.uri}: a folder of files does not tell what came since {since}", key="table.version"
            )
        if where is None:
            return list(self.found)
        keep = expression(where, self.schema)
        return [file for file in self.found if not self.partitions or self._may_hold(file, keep)]

    def read(
        self, file: DataFile, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Only the columns that are asked for, and only row groups that the filter may hold for; see
        `Snapshot.read`."""
        wanted = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        keep = None if where is None else expression(where, self.schema)
        try:
            yield from self._rows(file, wanted, where, keep)
        except (ObjectMissing, ObjectChanged) as error:
            raise SnapshotGone(
                f"{self._uri(file)} was removed or written anew since the table was listed; run again",
                key="table.version",
            ) from error
        except (pa.ArrowInvalid, OSError) as error:  # the second of pages that are damaged
            said = str(error).strip().partition("\n")[0]
            raise JobError(f"{self._uri(file)} cannot be read as Parquet: {said}", key="table") from error

    def origin(self, version: str) -> str:
        """A version is a digest of all that lies there."""
        return version

    def address(self, file: DataFile, row: int, column: str) -> str:
        """Of a value in the file itself."""
        return row_address(self._uri(file), row, column)

    def _rows(
        self, file: DataFile, wanted: pa.Schema, where: str | None, keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        opened = _opened(self.storage, self._uri(file), file.detail)
        values = _partition_of(file.path)
        looked_at = named(where, self.schema) if where else []
        needed = [*wanted, *(self.schema.field(name) for name in looked_at)]
        needed = list({each.name: each for each in needed}.values())
        there = opened.schema_arrow
        for each in needed:
            if each.name in there.names and each.name not in self.partitions:
                _refuse_other_type(self._uri(file), each, there.field(each.name).type)
        read = [each.name for each in needed if each.name in there.names and each.name not in self.partitions]
        for group in self._groups(file, opened, keep, looked_at):
            meta = opened.metadata.row_group(group)
            a_row = max(1, meta.total_byte_size // max(1, meta.num_rows))
            batches = opened.iter_batches(
                batch_size=min(BATCH_ROWS, max(1, BATCH_BYTES // a_row)),
                row_groups=[group],
                columns=read,
                use_threads=False,
            )
            for batch in batches if read else _empty(meta.num_rows):
                columns = [
                    batch.column(each.name).cast(each.type)
                    if each.name in read
                    else pa.repeat(_scalar(values.get(each.name), each.type), batch.num_rows)
                    for each in needed
                ]
                rows = pa.Table.from_arrays(columns, names=[each.name for each in needed])
                rows = rows if keep is None else rows.filter(keep)
                yield from rows.select(wanted.names).cast(wanted).combine_chunks().to_batches()

    def _groups(self, file: DataFile, opened: Any, keep: pc.Expression | None, told: list[str]) -> list[int]:
        """The row groups that the filter, which names these columns, may hold for, by their statistics. Those
        of floats leave out NaN, which is as unequal to a number as any."""
        every = list(range(opened.num_row_groups))
        if (
            keep is None
            or not every
            or any(pa.types.is_floating(self.schema.field(name).type) for name in told)
        ):
            return every
        import pyarrow.dataset as ds

        there = pa.schema([each for each in self.schema if each.name not in self.partitions])
        if {each.name for each in there} - set(opened.schema_arrow.names):
            return every
        source = open_object(open_storage(self._uri(file), self.storage), file.detail, read_ahead=0)
        fragment = ds.ParquetFileFormat().make_fragment(source, partition_expression=self._partition(file))
        return [group.id for group in fragment.subset(filter=keep, schema=self.schema).row_groups]

    def _may_hold(self, file: DataFile, keep: pc.Expression) -> bool:
        """By the partition that the file lies in; nothing is read."""
        import pyarrow.dataset as ds
        from pyarrow.fs import LocalFileSystem

        form, local = ds.ParquetFileFormat(), LocalFileSystem()
        fragment = form.make_fragment(file.path, local, self._partition(file))
        dataset = ds.FileSystemDataset([fragment], self.schema, form, local)
        return next(iter(dataset.get_fragments(filter=keep)), None) is not None

    def _partition(self, file: DataFile) -> pc.Expression:
        values = _partition_of(file.path)
        terms = [
            pc.field(name).is_null()
            if values.get(name) is None
            else pc.field(name) == _scalar(values[name], self.schema.field(name).type)
            for name in self.partitions
        ]
        return reduce(and_, terms, pc.scalar(True))

    def _uri(self, file: DataFile) -> str:
        return file.detail.uri if isinstance(file.detail, ObjectInfo) else join(self.uri, file.path)


class ParquetTable:
    """Files ending in `.parquet`, whose names and folders do not start with `_` or a dot."""

    def __init__(self, place: Place, storage: StorageOptions) -> None:
        """Reaches for nothing yet."""
        self.place = place
        self.storage = storage

    def snapshot(self, version: str | None = None) -> ParquetSnapshot | None:
        """What lies there now; its version is a digest of the listing.

        Three footers are read, of the first file, the last and the newest: ten thousand files are not opened
        to learn their columns. Columns that none of the three has are not seen. A file that lacks one is read
        with nulls, and one that has it of another type is refused when it is read.

        Raises:
            JobError: two of the three have a column of types that do not go together; both are named.
        """
        infos = self._listed()
        if not infos:
            return None
        now = digest(*(f"{info.uri}\n{info.version}" for info in infos))
        if version not in (None, now):
            raise SnapshotGone(
                f"{self.place.uri} is a folder of files, which keeps no version but the one that is there",
                key="table.version",
            )
        schema, bytes_a_row = self._schema(infos)
        files = tuple(
            DataFile(self._path(info), max(1, round(info.size / bytes_a_row)), info.size, info)
            for info in infos
        )
        fields = _partitions([file.path for file in files])
        names = tuple(each.name for each in fields)
        schema = pa.schema([*(each for each in schema if each.name not in names), *fields])
        return ParquetSnapshot(self.place.uri, self.storage, now, schema, files, names)

    def fitted(self, schema: pa.Schema) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def create(self, schema: pa.Schema, properties: Mapping[str, str]) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def stage(self, rows: pa.Table, run_id: str, name: str) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def commit(
        self,
        snapshot: object,
        add: Sequence[Staged],
        remove: Sequence[DataFile],
        schema: pa.Schema,
        properties: Mapping[str, str],
    ) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def committed(self, key: str) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def discard(self, run_id: str) -> NoReturn:
        """Never."""
        raise self._no_commits()

    def _no_commits(self) -> JobError:
        return JobError(
            f"{self.place.uri}: a folder of Parquet files has no commits: name a delta, iceberg or lance "
            "table",
            key="table.format",
        )

    def _listed(self) -> list[ObjectInfo]:
        uri = self.place.uri
        try:
            infos = list(open_storage(uri, self.storage).list(uri if _is_file(uri) else join(uri, "")))
        except ObjectMissing:
            return []
        return [info for info in infos if _is_file(info.uri) and not self._is_hidden(info)]

    def _path(self, info: ObjectInfo) -> str:
        return info.uri.removeprefix(self.place.uri).lstrip("/") or info.uri.rpartition("/")[2]

    def _is_hidden(self, info: ObjectInfo) -> bool:
        return any(step.startswith(("_", ".")) for step in self._path(info).split("/"))

    def _schema(self, infos: Sequence[ObjectInfo]) -> tuple[pa.Schema, float]:
        """Of the files that are looked at, and how many bytes a row takes in the first that has any."""
        newest = max(infos, key=lambda info: (info.modified is not None and info.modified.timestamp()) or 0.0)
        looked = list({info.uri: info for info in (infos[0], infos[-1], newest)}.values())
        opened = [_opened(self.storage, info.uri, info) for info in looked]
        schema = pa.schema([(each.name, plain(each.type)) for each in opened[0].schema_arrow])
        for info, file in zip(looked[1:], opened[1:], strict=True):
            other = pa.schema([(each.name, plain(each.type)) for each in file.schema_arrow])
            try:
                schema = pa.unify_schemas([schema, other], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
                raise JobError(
                    f"{info.uri} does not go with {looked[0].uri}: {error}", key="table"
                ) from error
        sized = [
            info.size / file.metadata.num_rows
            for info, file in zip(looked, opened, strict=True)
            if file.metadata.num_rows
        ]
        return schema, sized[0] if sized else 1.0


def plain(kind: pa.DataType) -> pa.DataType:
    """A type without a dictionary or a view, as all formats have it."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)


def _is_file(uri: str) -> bool:
    return uri.lower().endswith((".parquet", ".parq", ".pq"))


def _opened(storage: StorageOptions, uri: str, info: ObjectInfo) -> Any:
    import pyarrow.parquet as pq

    source = open_object(open_storage(uri, storage), info, read_ahead=0)
    try:
        # Not pre_buffer, which keeps the bytes of every row group until the file is closed. Spark's times of
        # twelve bytes are nanoseconds to Arrow, and the end of 9999 a day in 1816.
        return pq.ParquetFile(
            source, buffer_size=READ_AHEAD, pre_buffer=False, coerce_int96_timestamp_unit="us"
        )
    except pa.ArrowInvalid as error:
        raise JobError(f"{uri} is no Parquet file: take it out of the table's folder", key="table") from error


def _partition_of(path: str) -> dict[str, str | None]:
    steps = [step.partition("=") for step in path.split("/")[:-1] if "=" in step]
    return {unquote(name): None if value == NOTHING else unquote(value) for name, _, value in steps}


def _partitions(paths: Sequence[str]) -> list[pa.Field]:
    """The columns that paths tell: whole numbers where all values are, else strings, as Arrow infers it."""
    told = [_partition_of(path) for path in paths]
    fields = []
    for name in dict.fromkeys(name for each in told for name in each):
        values = pa.array({each.get(name) for each in told}, pa.string())
        try:
            fields.append(pa.field(name, values.cast(pa.int64()).type))
        except pa.ArrowInvalid:
            fields.append(pa.field(name, pa.string()))
    return fields


def _scalar(value: str | None, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(value, pa.string()).cast(kind)


def _empty(count: int) -> Iterator[pa.RecordBatch]:
    """The rows of a row group of which no column is read."""
    for start in range(0, count, BATCH_ROWS):
        rows = pa.nulls(min(BATCH_ROWS, count - start))
        yield pa.RecordBatch.from_arrays([rows], names=[""])


def _refuse_other_type(uri: str, wanted: pa.Field, there: pa.DataType) -> None:
    """A narrower number is widened; text never becomes a number, nor a number text."""
    try:
        both = pa.unify_schemas(
            [pa.schema([(wanted.name, wanted.type)]), pa.schema([(wanted.name, plain(there))])],
            promote_options="permissive",
        )
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        both = None
    if both is None or both.field(0).type != wanted.type:
        raise JobError(
            f"{uri}: column {wanted.name!r} is {there}, and {wanted.type} in the rest of the table",
            key="table",
        )
