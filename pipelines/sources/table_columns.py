"""Whether a table has the columns that a job names, and what a row carries along of them."""

from __future__ import annotations

import io
from difflib import get_close_matches
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import JobError
from workers.sinks.parquet import encode

if TYPE_CHECKING:
    from collections.abc import Collection

    from schemas.tables import TableOptions


def checked_columns(table: TableOptions, schema: pa.Schema) -> None:
    """Look at the columns that a job names.

    Raises:
        JobError: one is missing, or of a type that does not do; it says which one was meant.
    """
    named = [("bytes_column" if table.bytes_column else "uri_column", table.content)]
    named += [("key", name) for name in table.key] + [("columns", name) for name in table.columns or ()]
    for setting, name in named:
        if name not in schema.names:
            raise _missing(setting, name, schema)
    kind = schema.field(table.content).type
    if table.bytes_column and not _is_bytes(kind):
        raise JobError(
            f"table.bytes_column: {table.content!r} is {kind}, and documents are binary; a column of "
            "addresses is named by table.uri_column",
            key="table.bytes_column",
        )
    if not table.bytes_column and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise JobError(
            f"table.uri_column: {table.content!r} is {kind}, and addresses are text", key="table.uri_column"
        )
    for name in table.key:
        if pa.types.is_nested(schema.field(name).type):
            raise JobError(
                f"table.key: {name!r} is {schema.field(name).type}: no row is known by that", key="table.key"
            )


def attributes_of(table: TableOptions, schema: pa.Schema, added: Collection[str] = ()) -> pa.DataType | None:
    """The type of what a row carries along: never its document or what was answered about it (`added`),
    always its key; None if it is nothing.

    Raises:
        JobError: answers cannot be written with a column of such a type.
    """
    every = [name for name in schema.names if name not in added]
    wanted = every if table.columns is None else [*table.columns, *table.key]
    names = [name for name in dict.fromkeys(wanted) if name != table.bytes_column]
    if not names:
        return None
    return _kept(pa.struct([schema.field(name).with_nullable(True).remove_metadata() for name in names]))


def _kept(attributes: pa.StructType) -> pa.DataType:
    """As it is read of answers: Parquet has no seconds and no dates in milliseconds, as Lance has, and a run
    adds to no answers whose columns are of other types."""
    try:
        content = encode(pa.schema([("attributes", attributes)]).empty_table())
    except pa.ArrowNotImplementedError as error:
        raise JobError(
            f"table: answers cannot carry all of its columns along: {error}; name others in table.columns",
            key="table.columns",
        ) from error
    return pq.read_schema(io.BytesIO(content)).field("attributes").type


def _is_bytes(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    )


def _missing(setting: str, name: str, schema: pa.Schema) -> JobError:
    guess = get_close_matches(name, schema.names, 1)
    hint = f", did you mean {guess[0]!r}?" if guess else f"; its columns: {', '.join(schema.names) or 'none'}"
    return JobError(f"table.{setting}: the table has no column {name!r}{hint}", key=f"table.{setting}")
