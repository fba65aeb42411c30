"""The schema of a table over time: columns, and fields in columns, are added to it and never changed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from schemas.errors import JobError
from workers.tables.kinds import is_binary, is_list, is_text

_UNITS = ["s", "ms", "us", "ns"]


def evolved(there: pa.Schema, ours: pa.Schema, where: str) -> pa.Schema:
    """A table's schema, with what ours has besides behind it.

    Formats have types of their own for some of ours (there is no 16-bit integer in Iceberg, and one kind of
    string in Delta): what holds every value of ours is as good, and stays.

    Args:
        there: the table's.
        ours: of the rows that are to go in.
        where: names the table, or the file that `ours` is from, in the message.

    Raises:
        JobError: a column of the same name has another type; both are named.
    """
    fields = [_fit(field, ours, where, "") for field in there]
    added = [field.with_nullable(True) for field in ours if field.name not in there.names]
    return pa.schema([*fields, *(added if fields else ours)])


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with the schema's columns, of its types: those that they lack are null.

    Raises:
        JobError: a value that its column's type does not hold.
    """
    columns = [
        _cast(rows[column.name], column)
        if column.name in rows.column_names
        else pa.nulls(len(rows), column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _cast(values: pa.ChunkedArray, column: pa.Field) -> pa.ChunkedArray:
    try:
        return values.cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise JobError(
            f"column {column.name} is {values.type}, and {column.type} in the table: {error}",
            key="sink.tables",
        ) from error


def _fit(field: pa.Field, ours: Any, where: str, inside: str) -> pa.Field:
    """The field with what the one of that name in `ours`, a schema or a struct, has besides."""
    if ours.get_field_index(field.name) < 0:
        return field
    path = f"{inside}{field.name}"
    return field.with_type(_fitted(field.type, ours.field(field.name).type, where, path))


def _fitted(there: pa.DataType, ours: pa.DataType, where: str, path: str) -> pa.DataType:
    if pt.is_struct(there) and pt.is_struct(ours):
        names = {field.name for field in there}
        fields = [_fit(field, ours, where, f"{path}.") for field in there]
        return pa.struct([*fields, *(field.with_nullable(True) for field in ours if field.name not in names)])
    if there == ours:
        return there
    if (pt.is_list(there) or pt.is_large_list(there)) and is_list(ours):
        item = there.value_field.with_type(_fitted(there.value_type, ours.value_type, where, f"{path}[]"))
        return pa.large_list(item) if pt.is_large_list(there) else pa.list_(item)
    if pt.is_map(there) and pt.is_map(ours):
        keys = _fitted(there.key_type, ours.key_type, where, f"{path}.key")
        items = there.item_field.with_type(_fitted(there.item_type, ours.item_type, where, f"{path}[]"))
        return pa.map_(there.key_field.with_type(keys), items)
    if not _holds(there, ours):
        raise JobError(
            f"{where}: column {path} is {there}, and this job has {ours} for it: give the task another name, "
            "or the tables another place (sink.tables)",
            key="sink.tables",
        )
    return there


def _holds(there: pa.DataType, ours: pa.DataType) -> bool:
    """Whether every value of one is one of the other."""
    if there == ours or pt.is_null(ours):
        return True
    if is_text(there) and is_text(ours):
        return True
    if is_binary(there) and (is_binary(ours) or pt.is_fixed_size_binary(ours)):
        return True
    if pt.is_date(there) and pt.is_date(ours):
        return True
    if pt.is_time(there) and pt.is_time(ours):
        return bool(_UNITS.index(there.unit) >= _UNITS.index(_fine(ours.unit)))
    if pt.is_decimal(there) and pt.is_decimal(ours):
        return bool((there.precision, there.scale) == (ours.precision, ours.scale))
    if pt.is_signed_integer(there) and pt.is_integer(ours):
        return bool(there.bit_width >= ours.bit_width + pt.is_unsigned_integer(ours))
    if pt.is_decimal(there) and pt.is_uint64(ours):
        return bool(there.precision - there.scale >= 20)
    if pt.is_dictionary(ours):
        return _holds(there, ours.value_type)
    if isinstance(there, pa.BaseExtensionType) or isinstance(ours, pa.BaseExtensionType):
        return _holds(*(getattr(kind, "storage_type", kind) for kind in (there, ours)))
    if pt.is_floating(there) and pt.is_floating(ours):
        return bool(there.bit_width >= ours.bit_width)
    if pt.is_timestamp(there) and pt.is_timestamp(ours):
        fine = _UNITS.index(there.unit) >= _UNITS.index(_fine(ours.unit))
        return bool(fine and (there.tz is None) == (ours.tz is None))
    return False


def _fine(unit: str) -> str:
    """Of nanoseconds a table may have whole microseconds: a value that is none is told when it is cast."""
    return "us" if unit == "ns" else unit
