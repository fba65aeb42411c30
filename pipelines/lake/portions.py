"""Rows to be written to a table's new data files: some of part files, or what is left of data files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.lake.committing import FILE_BYTES, FILE_ROWS
from schemas.ids import digest
from workers.storage.factory import open_storage
from workers.storage.stream import open_object
from workers.tables.shapes import conformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from schemas.storage import StorageOptions
    from workers.storage import ObjectInfo
    from workers.tables import DataFile, Snapshot

BATCH_ROWS = 10_000
"""Of a part file, read at once: some 20 MB of prose."""

DENSE = 4
"""A file of Parquet is so many times as large in memory, of prose."""


@dataclass(frozen=True)
class PartRows:
    """These rows of part files.

    Attributes:
        storage: where they are.
        parts: each file, as it was when it was looked at, with the places of its rows, in order.
    """

    storage: StorageOptions
    parts: tuple[tuple[ObjectInfo, npt.NDArray[np.int64]], ...]

    @property
    def name(self) -> str:
        """Of the files, their versions and the rows."""
        return digest("put", *(_spelled((info.uri, info.version), rows) for info, rows in self.parts))

    def rows(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Some thousand at a time.

        Raises:
            ObjectChanged: one of the files is another by now.
            ObjectMissing: one of them is gone.
        """
        import pyarrow.parquet as pq

        for info, rows in self.parts:
            source = open_object(open_storage(info.uri, self.storage), info)
            batches = pq.ParquetFile(source).iter_batches(BATCH_ROWS, use_threads=False)
            for batch, wanted in _marked(batches, rows):
                yield conformed(batch.filter(pa.array(wanted)), schema)


@dataclass(frozen=True)
class RestOfFiles:
    """What is left of data files without these rows.

    Attributes:
        snapshot: that they are of.
        files: each with the places of the rows that go, in order.
    """

    snapshot: Snapshot
    files: tuple[tuple[DataFile, npt.NDArray[np.int64]], ...]

    @property
    def name(self) -> str:
        """Of the files and the rows; a data file is never another."""
        return digest("rest", *(_spelled((file.path,), rows) for file, rows in self.files))

    def rows(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Some thousand at a time.

        Raises:
            SnapshotGone: one of the files is gone.
        """
        for file, rows in self.files:
            for batch, gone in _marked(self.snapshot.read(file), rows):
                yield conformed(batch.filter(pa.array(~gone)), schema)


def of_parts(
    storage: StorageOptions, files: Sequence[ObjectInfo], put: dict[int, npt.NDArray[np.int64]]
) -> Iterator[PartRows]:
    """Rows of part files, by their places, in portions of about a data file each."""
    sized = (((files[file], rows), len(rows), DENSE * files[file].size) for file, rows in sorted(put.items()))
    for group in _grouped(sized):
        yield PartRows(storage, group)


def of_rest(
    snapshot: Snapshot, files: Sequence[DataFile], drop: dict[int, npt.NDArray[np.int64]]
) -> Iterator[RestOfFiles]:
    """What is left of the data files that rows go from, in portions of about a data file each: many small
    files become one on the way. Of a file that all rows go from nothing is."""
    sized = (
        ((files[file], rows), files[file].rows - len(rows), DENSE * files[file].bytes)
        for file, rows in sorted(drop.items())
        if len(rows) < files[file].rows
    )
    for group in _grouped(sized):
        yield RestOfFiles(snapshot, group)


def _grouped(sized: Iterable[tuple[Any, int, int]]) -> Iterator[tuple[Any, ...]]:
    """Things with their rows and bytes -> groups that fit FILE_ROWS and FILE_BYTES, or one that does not."""
    group: list[Any] = []
    rows_held = bytes_held = 0
    for thing, rows, size in sized:
        if group and (rows_held + rows > FILE_ROWS or bytes_held + size > FILE_BYTES):
            yield tuple(group)
            group, rows_held, bytes_held = [], 0, 0
        group.append(thing)
        rows_held, bytes_held = rows_held + rows, bytes_held + size
    if group:
        yield tuple(group)


def _marked(
    batches: Iterable[pa.RecordBatch], places: npt.NDArray[np.int64]
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.bool_]]]:
    """Each batch of a file, and which of its rows are at these places, which are in order."""
    import numpy as np

    start = 0
    for batch in batches:
        here = places[np.searchsorted(places, start) : np.searchsorted(places, start + len(batch))]
        marks = np.zeros(len(batch), bool)
        marks[here - start] = True
        yield batch, marks
        start += len(batch)


def _spelled(names: Iterable[str], rows: npt.NDArray[np.int64]) -> str:
    return digest(*names, rows.astype("<i8").tobytes())
