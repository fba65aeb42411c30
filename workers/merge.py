"""Typed answers about the parts of a document -> one about the document, and which part says what."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Context, Decimal
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.documents import documents_schema, merged_type
from schemas.json_schema import below

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Said = tuple[int, Any]
"""A part, and what it says."""
WIDE = Context(prec=76)
"""Python's own 28 digits are fewer than a column's 38."""


def merged(records: Mapping[str, pa.Table], ids: pa.Array) -> pa.Array:
    """The column `data` of `documents/`.

    It loops in Python over the answers, one by one: values of a user's own types have no column operation.

    Args:
        records: task -> its rows, with `document_id`, `part_index` and `data`.
        ids: the documents, in the order of the column.
    """
    columns = {task: _of_documents(rows, ids) for task, rows in sorted(records.items())}
    types = {task: rows.field("data").type for task, rows in records.items()}
    data_type = documents_schema(None, types).field("data").type
    silent = pa.array([True] * len(ids))
    for column in columns.values():
        silent = pc.and_(silent, pc.is_null(column))
    return pa.StructArray.from_arrays(list(columns.values()), fields=list(data_type), mask=silent)


def _of_documents(rows: pa.Table, ids: pa.Array) -> pa.Array:
    data_type = rows.field("data").type
    rows = rows.append_column("document", pc.index_in(rows["document_id"], ids))
    rows = rows.take(pc.sort_indices(rows, [("document", "ascending"), ("part_index", "ascending")]))
    said = zip(*(rows[name].to_pylist() for name in ("document", "part_index", "data")), strict=True)
    values: list[Any] = [None] * len(ids)
    for document, group in groupby(said, key=itemgetter(0)):
        values[document] = merge([(part, value) for _, part, value in group], data_type)
    return pa.array(values, merged_type(data_type))


def merge(said: Sequence[Said], data_type: pa.DataType) -> dict[str, Any] | None:
    """One answer of several, as `schemas.documents.merged_type` says it. None where all are null.

    Args:
        said: part and answer, in the order of the parts.
        data_type: of the answers.
    """
    parts: dict[str, list[int]] = {}
    conflicts: dict[str, list[dict[str, Any]]] = {}
    value = _merge(said, data_type, "", parts, conflicts)
    if value is None:
        return None
    return {"value": value, "parts": list(parts.items()), "conflicts": list(conflicts.items())}


def _merge(
    said: Sequence[Said],
    data_type: pa.DataType,
    pointer: str,
    parts: dict[str, list[int]],
    conflicts: dict[str, list[dict[str, Any]]],
) -> Any:
    said = [(part, value) for part, value in said if value is not None]
    if not said:
        return None
    if pa.types.is_struct(data_type):
        return {
            field.name: _merge(
                [(part, value[field.name]) for part, value in said],
                field.type,
                below(pointer, field.name),
                parts,
                conflicts,
            )
            for field in data_type
        }
    if pa.types.is_list(data_type):
        items = [(part, item) for part, value in said for item in value]
        # An item that did not hold is null, and nobody's.
        parts |= {
            below(pointer, place): [part] for place, (part, item) in enumerate(items) if item is not None
        }
        return [item for _, item in items]
    first = said[0][1]
    parts[pointer] = [part for part, value in said if value == first]
    others = [{"part_index": part, "value": _text(value)} for part, value in said if value != first]
    if others:
        conflicts[pointer] = others
    return first


def _text(value: Any) -> str:
    """A scalar as a text that SQL casts back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value.normalize(WIDE):f}"
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)
