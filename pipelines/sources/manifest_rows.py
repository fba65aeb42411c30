"""The formats of a manifest. Each streams its rows; none holds the file.

A member knows its `attributes` when it is made and gives rows in chunks after that: the `uri`
column as text, and the other columns as one struct array.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from pipelines.sources.listing import in_chunks
from schemas.errors import JobError
from workers.storage.stream import READ_AHEAD, open_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workers.storage import ObjectInfo, Storage

URI = "uri"

Chunk = tuple[list[str | None], pa.StructArray | None]
"""URIs as they are written, and the other columns of the same rows."""


class ManifestRows(Protocol):
    """One format."""

    attributes: pa.DataType | None

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Up to `rows` rows at a time, in the order of the file."""
        ...


def open_rows(storage: Storage, info: ObjectInfo) -> ManifestRows:
    """The reader of a manifest, by the ending of its name.

    Raises:
        JobError: another ending, or no `uri` column; the message names what is there.
    """
    ending = info.uri.rpartition(".")[2].lower()
    if ending not in _FORMATS:
        raise JobError(
            f"manifest {info.uri}: write it as {', '.join('.' + known for known in _FORMATS)}", key="manifest"
        )
    rows: ManifestRows = _FORMATS[ending](storage, info)
    return rows


class TextRows:
    """One URI per line, word for word; empty lines are passed over."""

    attributes: pa.DataType | None = None

    def __init__(self, storage: Storage, info: ObjectInfo) -> None:
        """Nothing is read yet."""
        self._storage, self._info = storage, info

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """See `ManifestRows`."""
        lines = (line.rstrip("\r\n") for line in _text(self._storage, self._info))
        for chunk in in_chunks((line for line in lines if line.strip()), rows):
            yield list(chunk), None


class CsvRows:
    """Comma-separated, with a header; every column is a string, and an empty field an empty one."""

    def __init__(self, storage: Storage, info: ObjectInfo) -> None:
        """Reads the header."""
        self._storage, self._info = storage, info
        names = next(_csv(_text(storage, info), info.uri), [])
        self._names = names
        self.attributes = _struct(pa.schema([(name, pa.string()) for name in names]), info.uri)

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """See `ManifestRows`."""
        records = _csv(_text(self._storage, self._info), self._info.uri)
        next(records)
        for chunk in in_chunks((dict(zip(self._names, record, strict=True)) for record in records), rows):
            yield _columns(chunk, self.attributes)


class JsonRows:
    """One JSON object per line. Strings are taken as they are, all other values as JSON text.

    The file is read twice, for any line may bring a name that the lines before it have not.
    """

    def __init__(self, storage: Storage, info: ObjectInfo) -> None:
        """Reads the names: about 5 s for a million lines."""
        self._storage, self._info = storage, info
        names = {name: None for record in self._records() for name in record}
        # Without a line there are no names either: what wrote it found nothing, which is no fault.
        columns = [(_utf8(name), pa.string()) for name in names or (URI,)]
        self.attributes = _struct(pa.schema(columns), info.uri)

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """See `ManifestRows`."""
        for chunk in in_chunks(self._records(), rows):
            values = [{_utf8(name): _as_text(value) for name, value in record.items()} for record in chunk]
            yield _columns(values, self.attributes)

    def _records(self) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(_text(self._storage, self._info), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise JobError(
                    f"manifest {self._info.uri}, line {number}: no JSON ({error})", key="manifest"
                ) from error
            if not isinstance(record, dict):
                raise JobError(f"manifest {self._info.uri}, line {number}: no JSON object", key="manifest")
            yield record


class ParquetRows:
    """Columns keep their types; dictionary-encoded ones are decoded."""

    def __init__(self, storage: Storage, info: ObjectInfo) -> None:
        """Reads the footer."""
        self._storage, self._info = storage, info
        schema = self._file().schema_arrow
        self.attributes = _struct(pa.schema([(field.name, _plain(field.type)) for field in schema]), info.uri)
        uri_type = _plain(schema.field(URI).type)
        if not (pa.types.is_string(uri_type) or pa.types.is_large_string(uri_type)):
            raise JobError(f"manifest {info.uri}: column 'uri' is {uri_type}, not text", key="manifest")

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """See `ManifestRows`."""
        for batch in self._batches(rows):
            uris = batch.column(URI).to_pylist()
            if self.attributes is None:
                yield uris, None
                continue
            fields = list(self.attributes)
            columns = [batch.column(field.name).cast(field.type) for field in fields]
            yield uris, pa.StructArray.from_arrays(columns, fields=fields)

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._file().iter_batches(batch_size=rows):
                batch.column(URI).validate(full=True)
                yield batch
        except (pa.ArrowInvalid, OSError) as error:  # the second of pages that are damaged
            said = str(error).strip().partition("\n")[0]
            raise JobError(f"manifest {self._info.uri} cannot be read: {said}", key="manifest") from error

    def _file(self) -> Any:
        import pyarrow.parquet as pq

        source = open_object(self._storage, self._info, read_ahead=0)
        try:
            # Not pre_buffer, which keeps the bytes of every row group until the file is closed.
            return pq.ParquetFile(source, buffer_size=READ_AHEAD, pre_buffer=False)
        except pa.ArrowInvalid as error:
            raise JobError(f"manifest {self._info.uri} is no Parquet file", key="manifest") from error


_FORMATS: dict[str, Any] = {"txt": TextRows, "csv": CsvRows, "jsonl": JsonRows, "parquet": ParquetRows}


def _text(storage: Storage, info: ObjectInfo) -> Iterator[str]:
    """The lines, as they are in the file; a byte order mark is passed over."""
    with io.TextIOWrapper(open_object(storage, info), encoding="utf-8-sig", newline="\n") as text:
        try:
            yield from text
        except UnicodeDecodeError as error:
            raise JobError(f"manifest {info.uri} is not UTF-8: {error.reason}", key="manifest") from error


def _csv(lines: Iterator[str], uri: str) -> Iterator[list[str]]:
    """The records, the header first; each as long as the header."""
    reader = csv.reader(lines, strict=True)
    width = None
    try:
        for record in reader:
            if not record:
                continue
            width = width or len(record)
            if len(record) != width:
                raise JobError(
                    f"manifest {uri}, line {reader.line_num}: {len(record)} fields under a header of {width}",
                    key="manifest",
                )
            yield record
    except csv.Error as error:
        raise JobError(f"manifest {uri}, line {reader.line_num}: {error}", key="manifest") from error


def _struct(schema: pa.Schema, uri: str) -> pa.DataType | None:
    """The type of all columns but `uri`, or None when there are no others."""
    double = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if double:
        raise JobError(f"manifest {uri} has two columns named {double[0]!r}", key="manifest")
    if URI not in schema.names:
        found = ", ".join(repr(name) for name in schema.names) or "none"
        raise JobError(f"manifest {uri} has no column 'uri'; its columns: {found}", key="manifest")
    others = [field for field in schema if field.name != URI]
    return pa.struct(others) if others else None


def _columns(records: Sequence[Mapping[str, str | None]], attributes: pa.DataType | None) -> Chunk:
    uris = [record.get(URI) for record in records]
    return uris, None if attributes is None else pa.array(records, attributes)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    return _utf8(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _utf8(text: str) -> str:
    """JSON can spell halves of surrogate pairs, which UTF-8 cannot: those stay spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
