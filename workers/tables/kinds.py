"""Types that a format has not: one that holds all their values is in their place, or they are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from schemas.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Callable

    Leaf = Callable[[pa.DataType], pa.DataType | None]
    """A type with no others in it -> the one in its place; None if the format has none."""

SIGNED = {8: pa.int16(), 16: pa.int32(), 32: pa.int64(), 64: pa.decimal128(20, 0)}
"""What holds every whole number without a sign of so many bits, where a format has no type for those. Its
library would take those of as many bits, and 200 is no number of 8 bits with a sign."""


def fitted(schema: pa.Schema, leaf: Leaf, name: str, where: str, *, lists: bool = False) -> pa.Schema:
    """The columns in types that a format has.

    Args:
        schema: as rows come.
        leaf: what the format has.
        name: of the format.
        where: names the table in the message.
        lists: whether the format tells large lists, and those of one length, from others.

    Raises:
        JobError: it has no type for a column, which is named.
    """

    def of(kind: pa.DataType, path: str) -> pa.DataType:
        if pt.is_dictionary(kind):
            return of(kind.value_type, path)
        if pt.is_struct(kind):
            return pa.struct([each.with_type(of(each.type, f"{path}.{each.name}")) for each in kind])
        if pt.is_map(kind):
            items = kind.item_field.with_type(of(kind.item_type, f"{path}[]"))
            return pa.map_(of(kind.key_type, f"{path}.key"), items)
        if is_list(kind):
            item = kind.value_field.with_type(of(kind.value_type, f"{path}[]"))
            if lists and pt.is_fixed_size_list(kind):
                return pa.list_(item, kind.list_size)
            return pa.large_list(item) if lists and pt.is_large_list(kind) else pa.list_(item)
        found = leaf(kind)
        if found is None and isinstance(kind, pa.BaseExtensionType):
            return of(kind.storage_type, path)
        if found is None:
            raise JobError(
                f"{where}: column {path} is {kind}, for which {name} has no type: leave the column out "
                "(table.columns), or give it another type where it comes from",
                key="sink.kind",
            )
        return found

    return pa.schema([field.with_type(of(field.type, field.name)) for field in schema])


def common(kind: pa.DataType) -> pa.DataType | None:
    """What every format has for a type; None of one that some have and others have not."""
    if pt.is_float16(kind):
        return pa.float32()
    if pt.is_timestamp(kind):
        return pa.timestamp("us", kind.tz and "UTC")
    if pt.is_date(kind):
        return pa.date32()
    if pt.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 else None
    plain = (pt.is_boolean, pt.is_signed_integer, pt.is_floating, pt.is_null, is_text, is_binary)
    return kind if any(is_kind(kind) for is_kind in plain) else None


def is_list(kind: pa.DataType) -> bool:
    """Of whatever length, all of them the same or not."""
    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    """Of whatever layout."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Of whatever layout, but not of one length."""
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind))
