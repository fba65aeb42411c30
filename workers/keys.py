"""Values of key columns as text: the same value is the same in every format, whatever type it has there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

FRACTIONS = ((r"(\.[0-9]*[1-9])0+(Z?)$", r"\1\2"), (r"\.0+(Z?)$", r"\1"))
"""Zeros at the end of a second's fraction: they tell the unit of the column, not the time."""

BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)


def spelled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each value as a string; bytes (and UUIDs) in hexadecimal, times in UTC where they have a zone."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    kind = column.type
    if any(is_bytes(kind) for is_bytes in BYTES):
        hexadecimal = [None if value is None else value.hex() for value in column.to_pylist()]
        return pa.chunked_array([pa.array(hexadecimal, pa.string())])
    if pa.types.is_float16(kind):  # which some formats write as one of 32 bits
        column = column.cast(pa.float32())
    if not pa.types.is_timestamp(kind):
        return column.cast(pa.string())
    text = column.cast(pa.timestamp(kind.unit, kind.tz and "UTC")).cast(pa.string())
    for zeros, without in FRACTIONS:
        text = pc.replace_substring_regex(text, zeros, without)
    return text


def key_digests(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    """One digest for each row of key columns; null where one of them is."""
    texts = [spelled(column).to_pylist() for column in columns]
    found = [None if None in row else digest("key", *row) for row in zip(*texts, strict=True)]
    return pa.array(found, pa.string())
