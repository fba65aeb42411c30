"""Data files that are Parquet, whichever format keeps them, read batch by batch as their table has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.errors import JobError, ObjectMissing, SnapshotGone
from workers.storage.factory import open_storage
from workers.storage.stream import open_object
from workers.tables.where import expression, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from schemas.storage import StorageOptions

BATCH_ROWS = 4_096
"""Rows at a time of columns that are short; a column of bytes comes in its own row groups' pages."""


def read_file(
    uri: str,
    storage: StorageOptions,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    names: Callable[[pa.Schema], Mapping[str, str]] = lambda written: {},
    lacking: Mapping[str, Any] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of one Parquet file.

    Args:
        uri: of the file.
        storage: how to reach it.
        schema: of its table: columns that the file has not are null.
        columns: those wanted, in this order; all if not given.
        where: a filter.
        fixed: columns that the file has no bytes of, each with the value of all of its rows.
        names: from the file's own schema, what columns of the table are called there, if otherwise.
        lacking: columns that the file may have no bytes of, each with the value of all of its rows if so.

    Raises:
        SnapshotGone: the file is not there any more.
        JobError: it is no Parquet file; a column is of another type than the table says; the filter.
        GemstreamError: what a Storage raises.
    """
    import pyarrow.parquet as pq

    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    keep = None if where is None else expression(where, schema)
    needed = wanted if where is None else _with(wanted, schema, where)
    try:
        opened = open_storage(uri, storage)
        source = open_object(opened, opened.info(uri), read_ahead=0)
        # Times of 12 bytes, as Spark writes them, in the unit that tables have them in: nanoseconds
        # reach from 1677 to 2262, and what is outside would be another time.
        file = pq.ParquetFile(source, pre_buffer=True, coerce_int96_timestamp_unit="us")
        names_there = names(file.schema_arrow)
        called = {name: names_there.get(name, name) for name in needed.names}
        there = {
            called[name]: name
            for name in needed.names
            if called[name] in file.schema_arrow.names and name not in (fixed or {})
        }
        told = {**(lacking or {}), **(fixed or {})}
        if not there:
            yield from _empty(file.metadata.num_rows, needed, wanted, told, keep)
            return
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(there), use_threads=False):
            table = pa.Table.from_batches([batch])
            table = table.rename_columns([there[name] for name in table.column_names])
            yield from _shaped(table, len(batch), needed, wanted, told, keep)
    except ObjectMissing as error:
        raise SnapshotGone(
            f"{uri} is not there any more: its table has been cleaned up since; read a newer version",
            key="table.version",
        ) from error
    except (pa.ArrowInvalid, OSError) as error:  # the second of pages that are damaged
        said = str(error).strip().partition("\n")[0]
        raise JobError(f"{uri} does not hold what its table says: {said}", key="table") from error


def _with(wanted: pa.Schema, schema: pa.Schema, where: str) -> pa.Schema:
    """What is wanted, and what the filter may look at besides."""
    besides = [schema.field(name) for name in named(where, schema) if name not in wanted.names]
    return pa.schema([*wanted, *besides])


def _empty(
    count: int, needed: pa.Schema, wanted: pa.Schema, fixed: Mapping[str, Any], keep: Any
) -> Iterator[pa.RecordBatch]:
    """The rows of a file of which no column is read."""
    for start in range(0, count, BATCH_ROWS):
        yield from _shaped(None, min(BATCH_ROWS, count - start), needed, wanted, fixed, keep)


def _shaped(
    table: pa.Table | None,
    count: int,
    needed: pa.Schema,
    wanted: pa.Schema,
    fixed: Mapping[str, Any],
    keep: Any,
) -> Iterator[pa.RecordBatch]:
    there = [] if table is None else table.column_names
    columns = [
        table[field.name].cast(field.type)
        if table is not None and field.name in there
        else pa.repeat(pa.scalar(fixed.get(field.name), field.type), count)
        for field in needed
    ]
    rows = pa.Table.from_arrays(columns, schema=pa.schema([field.with_nullable(True) for field in needed]))
    if keep is not None:
        rows = rows.filter(keep)
    rows = rows.select(wanted.names)
    yield from rows.combine_chunks().to_batches()
