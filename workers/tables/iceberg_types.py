"""Arrow's types as Iceberg has them, a table's columns in its files, and what a manifest says of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import JobError
from workers.tables.kinds import SIGNED, common, fitted
from workers.tables.where import likes_in, named_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FIELD_ID = b"PARQUET:field_id"


def plain(schema: Any) -> pa.Schema:
    """Of pyiceberg's schema, without its ids."""
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    told: pa.Schema = schema_to_pyarrow(schema, include_field_ids=False)
    return told.remove_metadata()


def writable(schema: pa.Schema, where: str) -> pa.Schema:
    """Of types that Iceberg has: its smallest whole number has 32 bits. All may be null but what is never.

    Raises:
        JobError: Iceberg has no type for a column.
    """
    return fitted(schema, _writable, "Iceberg", where)


def _writable(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_unsigned_integer(kind):
        return _writable(SIGNED[kind.bit_width])
    if pa.types.is_integer(kind):
        return pa.int32() if kind.bit_width < 32 else kind
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_null(kind):
        return None
    is_its_own = kind == pa.uuid() or pa.types.is_fixed_size_binary(kind)
    return kind if is_its_own else common(kind)


def filter_of(where: str | None, schema: Any) -> Any:
    """A filter for pyiceberg to leave files out by. What it has no grammar for, or does not take for a value
    of a column's type, leaves none out: rows are looked at anyhow. Nor does what it takes otherwise than SQL
    or Arrow: an underscore in LIKE for itself, a backslash for more than one, numbers with a point to more
    digits than their column has."""
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.expressions.parser import parse
    from pyiceberg.expressions.visitors import bind
    from pyiceberg.types import DoubleType, FloatType
    from pyparsing import ParseException

    if where is None or "\\" in where or any("_" in pattern for pattern in likes_in(where)):
        return AlwaysTrue()
    named = named_in(where)
    if any(
        each.name in named and isinstance(each.field_type, FloatType | DoubleType) for each in schema.fields
    ):
        return AlwaysTrue()
    try:
        told = parse(where)
        bind(schema, told, case_sensitive=True)
    except (ParseException, ValueError, TypeError):
        return AlwaysTrue()
    return told


def identities(schema: Any, known: Iterable[Any], specs: Iterable[Any]) -> dict[str, Any]:
    """What `called_in` needs of a table's schema, which columns had another name in those known, and what
    `parted` needs of its ways to be partitioned."""
    from pyiceberg.schema import index_by_id
    from pyiceberg.transforms import IdentityTransform

    ids = {each.name: each.field_id for each in schema.fields}
    names = {number: each.name for number, each in index_by_id(schema).items()}
    earlier = [each for other in known for each in other.fields if each.name != names.get(each.field_id)]
    renamed = {names[each.field_id] for each in earlier if each.field_id in names}
    return {
        "ids": ids,
        "names": names,
        "ever_renamed": frozenset(renamed),
        "specs": {
            spec.spec_id: tuple(
                each.source_id if isinstance(each.transform, IdentityTransform) else None
                for each in spec.fields
            )
            for spec in specs
        },
    }


def parted(file: Any, ids: Mapping[str, int], specs: Mapping[int, tuple[int | None, ...]]) -> dict[str, Any]:
    """The columns that the files of a table are partitioned by as they are, with what the manifest says of
    this one: files that were taken over from Hive have no such columns."""
    columns = {number: name for name, number in ids.items()}
    return {
        columns[source]: file.partition[place]
        for place, source in enumerate(specs.get(file.spec_id, ()))
        if source in columns
    }


def called_in(
    written: pa.Schema, ids: Mapping[str, int], names: Mapping[int, str], where: str
) -> dict[str, str]:
    """What a table's columns are called in a file: one that was renamed has its old name there. A file
    without ids was not written by Iceberg, and goes by its names.

    Args:
        written: the file's schema.
        ids: of the table's columns.
        names: of all of its fields, at any depth.
        where: names the table in the message.

    Raises:
        JobError: a field within a column has another name there.
    """
    found = {number: each for each in written if (number := _id(each)) is not None}
    for number, inner in (pair for each in found.values() for pair in _within(each.type)):
        if names.get(number, inner) != inner:
            raise JobError(
                f"{where}: field {names[number]} in a column is called {inner} in an older file, which is "
                "not read: rewrite the table's data files",
                key="table.uri",
            )
    return (
        {name: found[number].name if number in found else "" for name, number in ids.items()} if found else {}
    )


def _id(each: pa.Field) -> int | None:
    return int(each.metadata[FIELD_ID]) if each.metadata and FIELD_ID in each.metadata else None


def _within(kind: pa.DataType) -> Iterator[tuple[int, str]]:
    """Fields of structs, at any depth."""
    if pa.types.is_struct(kind):
        for each in kind:
            if (number := _id(each)) is not None:
                yield number, each.name
            yield from _within(each.type)
    elif pa.types.is_map(kind):
        yield from _within(kind.item_type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _within(kind.value_type)


def data_file(table: Any, uri: str, rows: pa.Table, content: bytes) -> Any:
    """What a manifest says of a file: its partition and statistics.

    Args:
        table: pyiceberg's own.
        uri: where the file is going to be.
        rows: in it.
        content: the file.

    Raises:
        JobError: its rows are not all of one partition.
    """
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import (
        compute_statistics_plan,
        data_file_statistics_from_parquet_metadata,
        parquet_path_to_id_mapping,
    )
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    schema = table.schema()
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=pq.read_metadata(pa.BufferReader(content)),
        stats_columns=compute_statistics_plan(schema, table.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=uri,
        file_format=FileFormat.PARQUET,
        partition=Record(*(_partition(each, schema, rows) for each in table.spec().fields)),
        file_size_in_bytes=len(content),
        sort_order_id=None,
        spec_id=table.spec().spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _partition(each: Any, schema: Any, rows: pa.Table) -> Any:
    """The one value that a field of the partition has for all rows. pyiceberg finds it from the statistics of
    a file, and finds none for buckets."""
    source = schema.find_field(each.source_id)
    if source.name not in rows.column_names:
        raise JobError(f"the table is partitioned by {source.name}, in another column: that is not written")
    values = pc.unique(rows[source.name])
    if pa.types.is_temporal(values.type):  # Iceberg counts days or microseconds
        values = values.cast(pa.int32() if pa.types.is_date(values.type) else pa.int64())
    transform = each.transform.transform(source.field_type)
    found = {transform(value) for value in values.to_pylist()}
    if len(found) > 1:
        raise JobError(
            f"the table is partitioned by {each.name}, and rows of several would go into one file: "
            "that is not written; take a table without partitions",
            key="sink.tables",
        )
    return found.pop() if found else None
