"""Data files as the log of a Delta table tells of them."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from workers.storage.factory import join, open_storage
from workers.storage.stream import open_object
from workers.tables import STAGED, DataFile
from workers.tables.kinds import SIGNED, common, fitted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemas.storage import StorageOptions
    from workers.tables import Staged

LONGEST_STATISTIC = 64
"""Characters of a string that is told as the smallest or largest of its file."""

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
        "stats": json.dumps(_statistics(content)),
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
    """Rows, and of whole numbers and short strings the smallest, the largest and the nulls: what readers pass
    over files by."""
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
        ends = [end for each in found if each.has_min_max for end in (each.min, each.max)]
        if ends and len(ends) == 2 * len(found) and all(map(_is_plain, ends)):
            told["minValues"][name], told["maxValues"][name] = min(ends), max(ends)
    return told


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_STATISTIC
    return isinstance(value, int) and not isinstance(value, bool)
