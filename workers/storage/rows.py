"""Documents that lie in a table: one value of a column of bytes is an object here, by the row that it is in.

`row://parquet?file=s3%3A%2F%2Flake%2Ft%2Fpart-0.parquet&row=17&column=content`. Only a source makes such
addresses; a manifest or a column of addresses cannot name one (`factory.admit`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pyarrow as pa

from schemas.errors import AccessDenied, CorruptDocument, JobError, ObjectChanged, ObjectMissing
from schemas.ids import digest
from workers.registry import TABLES, resolve
from workers.storage import ObjectInfo
from workers.storage.stream import open_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.storage import StorageOptions

BATCH_ROWS = 16
"""Rows of a column of documents that are decoded together: a photo has some megabytes."""

HELD_BYTES = 64 * 1024 * 1024
"""Of decoded values, per file that a process reads: the documents of a task lie side by side."""

FILES_HELD = 4
"""Files that a process has open: documents are handed out in the order of their files."""

REFUSED = "refused"


def row_address(file: str, row: int, column: str) -> str:
    """Of a value in a Parquet file, by its place among the file's rows."""
    return f"row://parquet?{urlencode({'file': file, 'row': row, 'column': column})}"


def lance_address(uri: str, version: str, fragment: str, row: int, column: str) -> str:
    """Of a value in a fragment of a Lance dataset."""
    told = {"uri": uri, "version": version, "fragment": fragment, "row": row, "column": column}
    return f"row://lance?{urlencode(told)}"


def refused_address(why: str) -> str:
    """Of a row that is no document: whoever opens it is told why."""
    return f"row://{REFUSED}?{urlencode({'why': why})}"


def version_of(value: bytes) -> str:
    """Of a document that lies in a table: its content."""
    return digest("bytes", value)


class RowStorage:
    """Reads values; nothing is listed, written or deleted here."""

    def __init__(self, options: StorageOptions) -> None:
        """Opens nothing yet."""
        self.options = options

    def info(self, uri: str) -> ObjectInfo:
        """Of the value.

        Raises:
            CorruptDocument: the row is no document; the message says why.
        """
        value = self._value(uri)
        return ObjectInfo(uri=uri, version=version_of(value), size=len(value))

    def read(
        self, uri: str, *, version: str | None = None, start: int = 0, length: int | None = None
    ) -> bytes:
        """The value, or a range of it."""
        value = self._value(uri)
        if version is not None and version_of(value) != version:
            raise ObjectChanged(f"{uri}: the row holds another document than when it was listed")
        return value[start : None if length is None else start + length]

    def _value(self, uri: str) -> bytes:
        kind, told = _parsed(uri)
        if kind == REFUSED:
            raise CorruptDocument(told["why"], stage="fetch")
        row, column = int(told["row"]), told["column"]
        if kind == "lance":
            read_value = resolve(TABLES, "lance", "table format").read_value
            value = read_value(told["uri"], self.options, told["version"], told["fragment"], row, column)
        else:
            value = _read(self.options, told["file"], row, column)
        if value is None:
            raise ObjectMissing(f"{uri}: the row holds nothing")
        if not isinstance(value, bytes):
            raise ObjectChanged(f"{uri}: the column holds documents no more")
        return value

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        """Never."""
        raise _read_only(uri)

    def publish(self, uri: str, content: bytes) -> None:
        """Never."""
        raise _read_only(uri)

    def claim(self, uri: str, content: bytes, version: str | None) -> ObjectInfo | None:
        """Never."""
        raise _read_only(uri)

    def remove_unfinished(self, uri: str) -> int:
        """Never."""
        raise _read_only(uri)

    def delete(self, uri: str) -> None:
        """Never."""
        raise _read_only(uri)


def _read_only(uri: str) -> AccessDenied:
    return AccessDenied(f"{uri}: a row of a table is read, and nothing else")


def _parsed(uri: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(uri)
    told = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    needed = {"parquet": {"file"}, "lance": {"uri", "version", "fragment"}}.get(parts.netloc)
    if parts.netloc == REFUSED and "why" in told:
        return REFUSED, told
    if needed is None or not told.keys() >= needed | {"row", "column"} or not told["row"].isdigit():
        raise JobError(f"{uri} is no address of a row", key="uri")
    return parts.netloc, told


class _Column:
    """A column of one file, gone through from front to back: rows that are asked for in their order are
    decoded once. Arrow finds no row without decoding those before it in their row group, so each process that
    reads a group decodes it once, up to where it reads."""

    def __init__(self, file: Any, column: str) -> None:
        import numpy as np

        self._file, self._column = file, column
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self._ends = np.cumsum(counts)
        self._next = 0
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._held: deque[tuple[int, pa.Array]] = deque()

    def value(self, row: int) -> Any:
        """Of a row; None if there is no such row, or nothing in it."""
        held = self._batch(row)
        return None if held is None else held[1][row - held[0]].as_py()

    def _batch(self, row: int) -> tuple[int, pa.Array] | None:
        """The decoded rows that it is among, and the first one's place."""
        for start, values in self._held:
            if start <= row < start + len(values):
                return start, values
        group = int(self._ends.searchsorted(row, side="right"))
        if group == len(self._ends):
            return None
        first = int(self._ends[group - 1]) if group else 0
        if not first <= self._next <= row or self._next == first:
            self._next = first
            self._batches = self._file.iter_batches(
                batch_size=BATCH_ROWS, row_groups=[group], columns=[self._column], use_threads=False
            )
        for batch in self._batches:
            values = pa.concat_arrays([batch.column(0)])
            start, self._next = self._next, self._next + len(values)
            if row < self._next:
                self._hold(start, values)
                return start, values
        return None

    def _hold(self, start: int, values: pa.Array) -> None:
        self._held.append((start, values))
        while len(self._held) > 1 and sum(each.nbytes for _, each in self._held) > HELD_BYTES:
            self._held.popleft()


_columns: OrderedDict[tuple[Any, ...], _Column] = OrderedDict()
_lock = threading.Lock()
"""One reader at a time: several would decode the same rows side by side."""


def _read(options: StorageOptions, file: str, row: int, column: str) -> Any:
    import pyarrow.parquet as pq

    from workers.storage.factory import open_storage

    storage = open_storage(file, options)
    info = storage.info(file)
    key = (options, file, info.version, column)
    with _lock:
        try:
            if key not in _columns:
                opened = pq.ParquetFile(open_object(storage, info, read_ahead=0))
                if column not in opened.schema_arrow.names:
                    raise ObjectChanged(f"{file} has no column {column!r} any more")
                _columns[key] = _Column(opened, column)
            _columns.move_to_end(key)
            while len(_columns) > FILES_HELD:
                _columns.popitem(last=False)
            return _columns[key].value(row)
        except BaseException as error:
            _columns.pop(key, None)  # it does not know how far it has come
            if isinstance(error, pa.ArrowException | OSError):
                said = str(error).strip().partition("\n")[0]
                raise CorruptDocument(f"{file} cannot be read as Parquet: {said}", stage="fetch") from error
            raise
