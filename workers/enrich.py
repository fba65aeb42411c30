"""Rows of `documents/` as columns of a table of documents, and rows of that with those brought up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from schemas.documents import DocumentStatus
from schemas.enriched import DOCUMENT, FACTS, OURS, VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.enriched import AnswerColumn

READ = ("document_id", "version", "status", "answers", "owed", "answered_at", "run_id", "engine_seconds")
"""Columns of `documents/` that FACTS are made of; of answers it takes `texts` and `data` besides."""


def columns_to_read(columns: Sequence[AnswerColumn]) -> list[str]:
    """What `answers_of` needs of a row of `documents/`, in the order that it is asked for."""
    read = list(READ)
    if any(column.data_type is None for column in columns):
        read.append("texts")
    if any(column.data_type is not None for column in columns):
        read.append("data")
    return read


def answers_of(documents: pa.Table, columns: Sequence[AnswerColumn]) -> pa.Table:
    """Rows of `documents/` as rows of `enriched_schema`, in their order.

    Args:
        documents: with `columns_to_read`.
        columns: the answers wanted. One that the rows do not have, since they were made before its task was
            asked, is null.
    """
    rows = facts_of(documents)
    for column in columns:
        value = _merged(documents, column) if column.data_type else _text(documents, column.task)
        rows = rows.append_column(column.field, value.cast(column.field.type))
    return rows


def facts_of(documents: pa.Table) -> pa.Table:
    """Rows of `documents/`, of which there is READ, as rows of FACTS."""
    missing = pc.subtract(documents["owed"], documents["answers"])
    found = {f"{OURS}{name}": documents[name] for name in READ} | {f"{OURS}missing": missing}
    return pa.Table.from_arrays([found[field.name].cast(field.type) for field in FACTS], schema=FACTS)


def _text(documents: pa.Table, task: str) -> pa.ChunkedArray:
    texts = documents["texts"]
    if not len(documents):
        return pa.chunked_array([], pa.large_string())
    return pc.map_lookup(texts, query_key=pa.scalar(task), occurrence="first")


def _merged(documents: pa.Table, column: AnswerColumn) -> pa.ChunkedArray:
    """The value alone: where each field is from, and what other parts say, is in `documents/`."""
    data = documents["data"]
    if data.type.get_field_index(column.task) < 0:
        return pa.chunked_array([pa.nulls(len(documents), column.data_type)])
    # Of a struct that is null all fields are: `struct_field` sees to it.
    return pc.struct_field(data, [column.task, "value"])


def states(facts: pa.Table) -> pa.ChunkedArray:
    """What tells one state of a document's answers from another, as a text; null where there is no document.

    A row that has all its answers is made once, whole, by the run that it names. Of one that lacks some each
    run tries those again, and a table is not to be written anew because that failed once more: where nothing
    is answered there is nothing else to tell, and of what is answered the time that it took is not met twice.
    Answers that are another document's with the same content took none here: of those the row says it.

    Args:
        facts: with FACTS at least.
    """
    said = {field.name.removeprefix(OURS): facts[field.name].cast(field.type) for field in FACTS}
    stamps = said["answered_at"].cast(pa.int64()).cast(pa.string())
    whole = _joined(said["run_id"], stamps)
    took = pc.round(said["engine_seconds"], 3).cast(pa.string())
    lacking = _joined(said["version"], said["status"], said["missing"].cast(pa.string()), took)
    attached = pc.and_(pc.equal(said["status"], DocumentStatus.PARTIAL.value), pc.is_null(took))
    state = pc.if_else(pc.or_(pc.equal(said["status"], DocumentStatus.OK.value), attached), whole, lacking)
    return pc.if_else(pc.is_valid(said["document_id"]), state, pa.scalar(None, pa.string()))


def _joined(*columns: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*columns, "/", null_handling="replace")


def into_same(
    rows: pa.Table,
    ids: pa.Array,
    answers: pa.Table,
    left_out: pa.Array | None = None,
    unasked: Sequence[str] = (),
) -> pa.Table:
    """Rows of a table with our columns brought up to date; all others as they are, every row in its place.

    A row whose document is among the answers has them. One of whose document nothing is known keeps what it
    has, unless that is of another document: the row has come to name a new one since.

    Args:
        rows: of the table, our columns among them or not.
        ids: the document that each row names; null where it names none.
        answers: of `answers_of`, each document once.
        left_out: for each row whether it is one that is not answered, whatever its document: its key was
            another row's before.
        unasked: columns of ours that the job asks for no more. What is in them stays as long as the row has
            the document, and the version of it, that it had: it says nothing of any other.
    """
    import numpy as np

    place = pc.index_in(ids, value_set=answers[DOCUMENT].combine_chunks())
    if left_out is not None:
        place = pc.if_else(left_out, pa.scalar(None, place.type), place)
        ids = pc.if_else(left_out, pa.scalar(None, ids.type), ids)
    there = _column(rows, FACTS.field(DOCUMENT))
    behind = pc.add(pa.array(np.arange(len(rows)), pa.int64()), len(answers))
    kept = pc.if_else(pc.equal(there, ids), behind, None)
    chosen = pc.coalesce(place.cast(pa.int64()), kept)
    was = rows
    for field in answers.schema:
        # One take from both: `if_else` would do, but not for every type that an answer may have.
        both = pa.chunked_array([*answers[field.name].chunks, _column(rows, field)], field.type)
        value = both.take(chosen)
        at = rows.schema.get_field_index(field.name)
        rows = rows.append_column(field, value) if at < 0 else rows.set_column(at, field, value)
    if unasked:
        places = pa.array(np.arange(len(rows)), pa.int64())
        kept = pc.if_else(_about_what_it_was(was, rows), places, None)
        for name in unasked:
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(at), rows[name].take(kept))
    return rows


def _about_what_it_was(was: pa.Table, now: pa.Table) -> pa.Array:
    """For each row whether it has the document and the version that it had. One that had none holds nothing
    of ours: a table that was made anew may have a column of its owner's by that name."""
    there = [_column(was, FACTS.field(name)) for name in (DOCUMENT, VERSION)]
    found = [_column(now, FACTS.field(name)) for name in (DOCUMENT, VERSION)]
    alike = [
        pc.equal(pc.fill_null(old, ""), pc.fill_null(new, "")) for old, new in zip(there, found, strict=True)
    ]
    return pc.or_(pc.is_null(there[0]), pc.and_(*alike))


def _column(rows: pa.Table, field: pa.Field) -> pa.Array:
    """One of our columns, of our type; null if the table does not have it yet."""
    if rows.schema.get_field_index(field.name) < 0:
        return pa.nulls(len(rows), field.type)
    return rows[field.name].cast(field.type).combine_chunks()
