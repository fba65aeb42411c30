"""Data files as the log of a Delta table tells of them."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from workers.storage.factory import join, open_storage
from workers.storage.stream import open_object
from workers.tables import STAGED, DataFile
from workers.tables.kinds import SIGNED, common, fitted
from workers.tables.where import expression, named_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemas.storage import StorageOptions
    from workers.tables import Staged

LONGEST_STATISTIC = 64
"""Characters of a string that is told as the smallest or largest of its file."""

LAST = chr(0x10FFFF)

EXACT_DIGITS = 15
"""Of a decimal, that a float has as well."""

PLACE = "gemstream place"
"""A column of rows' places, while they are put into partitions."""


def writable(schema: pa.Schema, where: str) -> pa.Schema:
    """Of types that Delta has, for those that it has not and that have one to hold all their values (or, of
    times, those of whole microseconds).

    Raises:
        JobError: Delta has no type for a column.
    """
    return fitted(schema, _writable, "Delta Lake", where)


def _writable(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_unsigned_integer(kind):
        return SIGNED[kind.bit_width]
    return pa.binary() if pa.types.is_fixed_size_binary(kind) else common(kind)


def files_of(table: Any) -> list[DataFile]:
    """Those of delta-rs' handle, by their paths; `detail` has the values of partitions. The rows of a file
    are -1 where its writer has not told them."""
    rows = pa.table(table.get_add_actions(flatten=True))
    parts = [name for name in rows.column_names if name.startswith("partition.")]
    told = ["path", "num_records", "size_bytes"]
    lacking = [name for name in told if name not in rows.column_names]
    for name in lacking:
        rows = rows.append_column(name, pa.nulls(len(rows), pa.int64()))
    return [
        DataFile(
            row["path"],
            -1 if row["num_records"] is None else row["num_records"],
            row["size_bytes"],
            {name.removeprefix("partition."): row[name] for name in parts},
            row["path"].startswith(STAGED),
        )
        for row in rows.select([*told, *parts]).sort_by("path").to_pylist()
    ]


def fitting(table: Any, schema: pa.Schema, where: str) -> set[str]:
    """Paths of the files in which a filter may hold, by their partitions and statistics.

    Not by the dataset that delta-rs makes of them: what the log does not tell is null there, nothing lies
    above or below null, and so no file is left.

    Args:
        table: delta-rs' handle.
        schema: of the table.
        where: the filter.
    """
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    rows = pa.table(table.get_add_actions(flatten=True))
    looked = [schema.field(name) for name in sorted(named_in(where)) if "." not in name]
    told = list(zip(*(_told(rows, field) for field in looked), strict=True)) or [()] * len(rows)
    form, local = ds.ParquetFileFormat(), LocalFileSystem()
    fragments = [
        form.make_fragment(str(place), local, reduce(and_, terms, pc.scalar(True)))
        for place, terms in enumerate(told)
    ]
    dataset = ds.FileSystemDataset(fragments, schema, form, local)
    paths, keep = rows["path"].to_pylist(), expression(where, schema)
    return {paths[int(part.path)] for part in dataset.get_fragments(filter=keep)}


def _told(rows: pa.Table, field: pa.Field) -> list[pc.Expression]:
    """What the log says of a column, for each file; true where it says nothing."""
    column, names = pc.field(field.name), rows.column_names

    def of(kind: str) -> pa.ChunkedArray:
        name = f"{kind}.{field.name}"
        return rows[name].cast(field.type) if name in names else pa.nulls(len(rows), field.type)

    if f"partition.{field.name}" in names:
        return [column == value if value.is_valid else column.is_null() for value in of("partition")]
    low, high = (of(end) if _is_bounded(field.type) else pa.nulls(len(rows)) for end in ("min", "max"))
    if pa.types.is_timestamp(field.type):  # which many writers cut to milliseconds
        high = pc.add(high, pa.scalar(timedelta(milliseconds=1)).cast(pa.duration(field.type.unit)))
    nulls = f"null_count.{field.name}"
    counts = (rows[nulls] if nulls in names else pa.nulls(len(rows), pa.int64())).to_pylist()
    totals = rows["num_records"].to_pylist() if "num_records" in names else [None] * len(rows)
    return [_bounded(column, *each) for each in zip(low, high, counts, totals, strict=True)]


def _bounded(
    column: pc.Expression, low: pa.Scalar, high: pa.Scalar, nulls: int | None, rows: int | None
) -> pc.Expression:
    if nulls is not None and nulls == rows:
        return column.is_null()
    within = pc.scalar(True)
    if low.is_valid:
        within = within & (column >= low)
    if high.is_valid:
        within = within & (column <= high)
    return within & column.is_valid() if nulls == 0 else within | column.is_null()


def _is_bounded(kind: pa.DataType) -> bool:
    """Whether the ends of such a column are believed: of floats NaN lies outside them, and decimals come by
    way of floats."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_string(kind)
        or pa.types.is_date(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_boolean(kind)
        or (pa.types.is_decimal(kind) and kind.precision <= EXACT_DIGITS)
    )


def counted(file: DataFile, uri: str, storage: StorageOptions) -> DataFile:
    """With its rows, by its footer if the log has not told them."""
    if file.rows >= 0:
        return file
    import pyarrow.parquet as pq

    where = join(uri, unquote(file.path))
    opened = open_storage(where, storage)
    metadata = pq.read_metadata(open_object(opened, opened.info(where), read_ahead=0))
    return replace(file, rows=metadata.num_rows)


def parted(rows: pa.Table, by: Sequence[str]) -> Iterator[tuple[dict[str, str | None], pa.Table]]:
    """The rows of each partition in their order, without the columns that it is by, and those columns' values
    as the log spells them."""
    if not by:
        yield {}, rows
        return
    keys = rows.select(by).append_column(PLACE, pa.array(range(len(rows)), pa.int64()))
    groups = keys.group_by(list(by), use_threads=False).aggregate([(PLACE, "list")])
    spelled = [_spelled(groups[name].combine_chunks()).to_pylist() for name in by]
    rest = rows.drop_columns(list(by))
    for number, places in enumerate(groups[f"{PLACE}_list"]):
        values = {name: column[number] for name, column in zip(by, spelled, strict=True)}
        yield values, rest.take(places.values)


def _spelled(values: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(values.type):
        # As the protocol has it: of the two spellings a time without a zone has the plain one alone.
        return pc.strftime(
            values, format="%Y-%m-%d %H:%M:%S" if values.type.tz is None else "%Y-%m-%dT%H:%M:%SZ"
        )
    return values.cast(pa.string())


def told_of(path: str, content: bytes, partition: Mapping[str, str | None]) -> dict[str, Any]:
    """What the log is going to say of a file that is written."""
    return {
        "path": path,
        "size": len(content),
        "partition_values": dict(partition),
        # As they are: delta-rs reads some letters that are written by two escapes as others.
        "stats": json.dumps(_statistics(content), ensure_ascii=False),
    }


def additions(staged: Staged) -> list[Any]:
    """Its files, as the log takes them in."""
    from deltalake.transaction import AddAction

    now = int(time.time() * 1000)
    return [AddAction(**told, modification_time=now, data_change=True) for told in json.loads(staged.detail)]


def removal(file: DataFile) -> Any:
    """The file, as the log takes it out."""
    from deltalake.transaction import RemoveAction

    return RemoveAction(
        # delta-rs encodes it, as the log has it: one that is encoded twice takes out nothing, without a word.
        path=unquote(file.path),
        data_change=True,
        deletion_timestamp=int(time.time() * 1000),
        size=file.bytes,
        partition_values={name: _text(value) for name, value in (file.detail or {}).items()},
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _statistics(content: bytes) -> dict[str, Any]:
    """Rows, and of each column the smallest, the largest and the nulls: what readers pass over files by."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(pa.BufferReader(content))
    told: dict[str, Any] = {
        "numRecords": metadata.num_rows,
        "minValues": {},
        "maxValues": {},
        "nullCount": {},
    }
    for index in range(metadata.num_columns):
        name = metadata.schema.column(index).path
        found = [
            metadata.row_group(group).column(index).statistics for group in range(metadata.num_row_groups)
        ]
        if "." in name or not all(each is not None and each.has_null_count for each in found):
            continue
        told["nullCount"][name] = sum(each.null_count for each in found)
        if (ends := _ends(found)) is not None:
            told["minValues"][name], told["maxValues"][name] = ends
    return told


def _ends(found: Sequence[Any]) -> tuple[Any, Any] | None:
    """The smallest and the largest value, as the log spells them. delta-rs' dataset takes a file of which it
    is told the nulls of a column, and not these, to hold nothing that a filter on the column is about: all
    are told that can be."""
    there = [each for each in found if each.has_min_max]
    if not there or any(each.num_values for each in found if not each.has_min_max):
        return None
    try:
        low, high = min(each.min for each in there), max(each.max for each in there)
    except (ValueError, OverflowError, TypeError):  # a day that Python has no name for
        return None
    if isinstance(low, str):
        return low[:LONGEST_STATISTIC], _cut(high)
    if isinstance(low, datetime):
        return _moment(low), _moment(high)
    if isinstance(low, date):
        return low.isoformat(), high.isoformat()
    if isinstance(low, Decimal):
        exact = max(len(each.as_tuple().digits) for each in (low, high)) <= EXACT_DIGITS
        return (float(low), float(high)) if exact else None
    if isinstance(low, float):
        return (low, high) if math.isfinite(low) and math.isfinite(high) else None
    return (low, high) if isinstance(low, int) else None


def _cut(text: str) -> str:
    """What no text that begins so is larger than."""
    rest = text[LONGEST_STATISTIC:]
    same = len(rest) - len(rest.lstrip(LAST))
    return text if not rest else text[: LONGEST_STATISTIC + same] + LAST


def _moment(at: datetime) -> str:
    plain = at.strftime("%m-%d %H:%M:%S.%f")
    spelled = f"{at.year:04}-{plain}"
    return spelled if at.tzinfo is None else spelled.replace(" ", "T") + "Z"
