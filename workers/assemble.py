"""records and errors -> one row per document: the text in order, and what is missing from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.documents import (
    FINGERPRINTS,
    NO_WHOLES,
    SEGMENTS,
    TEXTS,
    DocumentStatus,
    documents_schema,
)
from schemas.rows import ERRORS, PartKind, records_schema, with_attributes
from workers import subtitles
from workers.gaps import missing
from workers.merge import merged
from workers.transcript import duration, stitched

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

# 100,000 documents of one page, 2 KB of text each, on two busy cores (pyarrow 26): 1 to 2.5 s where all
# are answered, 0.7 s where none opened, 1.8 s where each has a gap and goes through Python's loop.

PAGE_BREAK = "\n\n"
"""Ends a paragraph in Markdown and in prose: without it a page's last line and the next page's first,
a heading or a table, would run together. Nothing more, lest it be taken for something on the page."""
SEGMENT_BREAK = " "
"""Segments are cut in pauses, in the middle of a paragraph as likely as not."""

RECORD_COLUMNS = (
    "document_id",
    "uri",
    "version",
    "media_type",
    "document_digest",
    "part_index",
    "parts_total",
    "part_kind",
    "start_seconds",
    "end_seconds",
    "fingerprint",
    "text",
    "prompt_tokens",
    "output_tokens",
    "seconds",
    "document_metadata",
    "answered_at",
)
"""What `assemble` reads of `records/`: these, `attributes` where there are any, and `data` of the tasks
whose answers are merged."""
ERROR_COLUMNS = (
    "document_id",
    "uri",
    "version",
    "media_type",
    "document_digest",
    "part_index",
    "parts_total",
    "part_kind",
    "end_seconds",
    "task",
    "category",
    "message",
    "answered_at",
)
"""What `assemble` reads of `errors/`, and `attributes` where there are any."""

FACTS = ("uri", "version", "media_type", "document_digest", "part_kind", "parts_total", "document_metadata")
"""True of the whole document, and said by each of its rows or by none. Only records have the last."""

_NEEDED = (
    "document",
    "task",
    "part_index",
    "part_kind",
    "start_seconds",
    "end_seconds",
    "fingerprint",
    "text",
    "prompt_tokens",
    "output_tokens",
    "seconds",
)
"""What is read of an answer beside the facts: to order rows is to copy them."""


def assemble(
    records: Mapping[str, pa.Table],
    errors: pa.Table,
    tasks_by_kind: Mapping[str, Sequence[str]],
    transcripts: Collection[str],
    run_id: str,
    attributes: pa.DataType | None,
    wholes_by_kind: Mapping[str, Sequence[str]] = NO_WHOLES,
) -> pa.Table:
    """Whole documents to `documents_schema`, a row for each, sorted by `document_id`.

    Args:
        records: task -> its rows, with RECORD_COLUMNS at least. The current answers only, each once,
            and all of every document that appears. Where there is a column `data`, it is merged.
        errors: the current errors of the same documents, with ERROR_COLUMNS at least. A document may
            be in either one alone.
        tasks_by_kind: part kind -> names of the tasks asked of such parts. An answer to any other
            task is left out: it is not owed, and would make up for one that is.
        transcripts: the tasks whose answers about a recording are the words in it.
        run_id: the run that assembles.
        attributes: the type of a manifest's own columns, if there is a manifest with any.
        wholes_by_kind: part kind -> tasks asked besides about documents of several such parts.
    """
    said = pa.concat_tables([*_answers(records, tasks_by_kind, attributes), _failures(errors, attributes)])
    ids = pc.unique(said["document_id"])
    ids = ids.take(pc.sort_indices(ids))
    # From here on a document is its place in the result: numbers group and sort faster than texts.
    said = said.append_column("document", pc.index_in(said["document_id"], ids))
    answers = stitched(_in_order(said.filter(said["asked"])), transcripts)
    failures = said.filter(pc.is_null(said["asked"]))
    facts = _facts(said).append_column("document_id", ids)
    sums = _aligned(_sums(answers), facts)
    owed = {kind: len(names) for kind, names in tasks_by_kind.items()}
    besides = {kind: len(names) for kind, names in wholes_by_kind.items()}
    several = pc.cast(pc.greater(facts["parts_total"], 1), pa.int32())
    columns = {name: facts[name] for name in ("document_id", *FACTS, "answered_at")}
    columns |= {
        "answers": pc.fill_null(sums["count_all"], 0),
        "owed": pc.add(
            pc.multiply(facts["parts_total"], _looked_up(facts["part_kind"], owed)),
            pc.multiply(several, _looked_up(facts["part_kind"], besides)),
        ),
        "prompt_tokens": sums["prompt_tokens_sum"],
        "output_tokens": sums["output_tokens_sum"],
        "engine_seconds": sums["seconds_sum"],
        "run_id": pa.repeat(pa.scalar(run_id, pa.string()), len(ids)),
    }
    columns["status"] = _status(columns["answers"], columns["owed"])
    audio = pc.fill_null(pc.equal(facts["part_kind"], PartKind.AUDIO.value), False)
    columns["seconds_of_media"] = pc.if_else(audio, duration(facts), None)
    columns["texts"], columns["fingerprints"] = _texts(answers, facts)
    columns["segments"] = _segments(answers, facts, audio)
    heard = [task for task in tasks_by_kind.get(PartKind.AUDIO, ()) if task in transcripts]
    columns |= subtitles.columns(columns["segments"], heard)
    incomplete = pc.not_equal(columns["status"], DocumentStatus.OK.value)
    columns["missing"] = missing(facts, incomplete, answers, failures, tasks_by_kind, wholes_by_kind)
    typed = {
        task: rows.filter(_asked(rows, task, tasks_by_kind))
        for task, rows in records.items()
        if "data" in rows.column_names
    }
    if typed:
        columns["data"] = merged(typed, ids)
    if attributes is not None:
        columns["attributes"] = _attributes(said, facts)
    schema = documents_schema(attributes, {task: rows.field("data").type for task, rows in typed.items()})
    arrays = [_array(columns[field.name]).cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


_NOT_IN_RECORDS = ("task", "category", "message")
_SAID = pa.schema(
    [
        *(records_schema(None, None).field(name) for name in RECORD_COLUMNS),
        *(ERRORS.field(name) for name in _NOT_IN_RECORDS),
        pa.field("asked", pa.bool_()),
    ]
)
"""Answers and failures in one table: what they say of a document is read from either. `asked` is
whether the job asks for an answer, and null in a failure."""


def _answers(
    records: Mapping[str, pa.Table],
    tasks_by_kind: Mapping[str, Sequence[str]],
    attributes: pa.DataType | None,
) -> Iterator[pa.Table]:
    for task in sorted(records):
        rows = records[task]
        names = pa.repeat(pa.scalar(task, pa.string()), len(rows))
        own = {"task": names, "asked": _asked(rows, task, tasks_by_kind)}
        yield _conform(rows, RECORD_COLUMNS, own, attributes)


def _asked(rows: pa.Table, task: str, tasks_by_kind: Mapping[str, Sequence[str]]) -> Any:
    kinds = [kind for kind, names in tasks_by_kind.items() if task in names]
    return pc.is_in(rows["part_kind"], pa.array(kinds, pa.string()))


def _failures(errors: pa.Table, attributes: pa.DataType | None) -> pa.Table:
    return _conform(errors, ERROR_COLUMNS, {}, attributes)


def _conform(
    rows: pa.Table, read: Sequence[str], own: Mapping[str, Any], attributes: pa.DataType | None
) -> pa.Table:
    """_SAID, of the columns to read and those of our own; null where neither has one."""
    schema = with_attributes(_SAID, attributes)
    columns = {name: rows[name] for name in read} | dict(own)
    if attributes is not None:
        columns["attributes"] = rows["attributes"]
    return pa.Table.from_arrays(
        [
            columns[field.name].cast(field.type) if field.name in columns else pa.nulls(len(rows), field.type)
            for field in schema
        ],
        schema=schema,
    )


def _facts(said: pa.Table) -> pa.Table:
    """One row per document, in order. What its rows say differently, the latest has right."""
    latest = said.select(["document", *FACTS, "end_seconds", "answered_at"])
    latest = latest.sort_by([("answered_at", "descending")])
    # `first` passes over nulls, and knows what is first only where one thread goes through the rows.
    grouped = latest.group_by("document", use_threads=False).aggregate(
        [*((name, "first") for name in FACTS), ("end_seconds", "max"), ("answered_at", "max")]
    )
    grouped = grouped.sort_by("document")
    names = [name.removesuffix("_first").removesuffix("_max") for name in grouped.column_names]
    return grouped.rename_columns(names)


def _in_order(answers: pa.Table) -> pa.Table:
    """By document, task, time and part. A page has no time: there the part decides."""
    order = [(name, "ascending") for name in ("document", "task", "start_seconds", "part_index")]
    return answers.select(_NEEDED).sort_by(order)


def _sums(answers: pa.Table) -> pa.Table:
    sums = [(name, "sum") for name in ("prompt_tokens", "output_tokens", "seconds")]
    # One thread: a sum of floats depends on its order, and the same answers shall give the same file.
    return answers.group_by("document", use_threads=False).aggregate([([], "count_all"), *sums])


def _aligned(grouped: pa.Table, facts: pa.Table) -> pa.Table:
    """A row for every document: nulls for one that has no group."""
    return grouped.take(pc.index_in(facts["document"], _array(grouped["document"])))


def _looked_up(names: pa.ChunkedArray, values: Mapping[str, int]) -> Any:
    """Each name's number, 0 where it has none."""
    numbers = pa.array(values.values(), pa.int32())
    return pc.fill_null(numbers.take(_array(pc.index_in(names, pa.array(values, pa.string())))), 0)


def _status(answers: Any, owed: Any) -> Any:
    complete = pc.fill_null(pc.equal(answers, owed), False)
    some = pc.if_else(complete, DocumentStatus.OK.value, DocumentStatus.PARTIAL.value)
    return pc.if_else(pc.equal(answers, 0), DocumentStatus.FAILED.value, some)


def _texts(answers: pa.Table, facts: pa.Table) -> tuple[pa.Array, pa.Array]:
    """`texts` and `fingerprints`: an entry for each task with an answer, be it an empty one. An answer about
    the whole document stands for those about its parts."""
    answers = _the_whole(answers)
    told = _told(answers)
    groups = (
        answers.append_column("told", told)
        .group_by(["document", "task"], use_threads=False)
        .aggregate([("told", "sum"), ("part_kind", "first"), ("fingerprint", "first")])
        # In the order of the pieces below: groups come as a hash table has them, and a collision is enough
        # for two of them to change places.
        .sort_by([("document", "ascending"), ("task", "ascending")])
    )
    pieces = pa.ListArray.from_arrays(_offsets(groups["told_sum"]), _array(answers["text"].filter(told)))
    audio = pc.equal(_array(groups["part_kind_first"]), PartKind.AUDIO.value)
    between = pc.if_else(audio, SEGMENT_BREAK, PAGE_BREAK).cast(pa.large_string())
    offsets = _offsets(_counts(groups, facts))
    tasks = _array(groups["task"])
    return (
        pa.MapArray.from_arrays(offsets, tasks, pc.binary_join(pieces, between), TEXTS),
        pa.MapArray.from_arrays(offsets, tasks, _array(groups["fingerprint_first"]), FINGERPRINTS),
    )


def _the_whole(answers: pa.Table) -> pa.Table:
    """The answers without those about parts where there is one about the whole, to the same task."""
    question = pc.binary_join_element_wise(answers["document"].cast(pa.string()), answers["task"], "/")
    about_whole = pc.is_null(answers["part_index"])
    covered = pc.is_in(question, _array(question.filter(about_whole)))
    return answers.filter(pc.or_(about_whole, pc.invert(covered)))


def _segments(answers: pa.Table, facts: pa.Table, audio: Any) -> pa.Array:
    heard = answers.filter(pc.and_(_told(answers), pc.equal(answers["part_kind"], PartKind.AUDIO.value)))
    heard = heard.filter(pc.is_valid(heard["part_index"]))
    order = [(name, "ascending") for name in ("document", "start_seconds", "part_index", "task")]
    heard = heard.sort_by(order)
    fields = list(SEGMENTS.value_type)
    values = pa.StructArray.from_arrays([_array(heard[field.name]) for field in fields], fields=fields)
    silent = _array(pc.invert(audio))
    return pa.ListArray.from_arrays(_offsets(_counts(heard, facts)), values, type=SEGMENTS, mask=silent)


def _told(answers: pa.Table) -> Any:
    """Which answers have text: an empty page or a silent segment leaves no gap in the whole."""
    return pc.fill_null(pc.not_equal(answers["text"], ""), False)


def _counts(rows: pa.Table, facts: pa.Table) -> Any:
    """How many rows each document has."""
    counts = rows.group_by("document", use_threads=False).aggregate([([], "count_all")])
    return pc.fill_null(_aligned(counts, facts)["count_all"], 0)


def _offsets(counts: Any) -> pa.Array:
    """Where each list begins, and the last one ends."""
    ends = pc.cumulative_sum(_array(counts).cast(pa.int32()))
    return pa.concat_arrays([pa.array([0], pa.int32()), ends])


def _attributes(said: pa.Table, facts: pa.Table) -> Any:
    """The latest that are not null, by row number: groups take no structs."""
    rows = said.select(["document", "answered_at"])
    rows = rows.append_column("row", pa.array(range(len(said)), pa.int64()))
    rows = rows.filter(pc.is_valid(said["attributes"])).sort_by([("answered_at", "descending")])
    first = rows.group_by("document", use_threads=False).aggregate([("row", "first")])
    return said["attributes"].take(_aligned(first, facts)["row_first"])


def _array(column: Any) -> pa.Array:
    """One array: lists and maps are not made of chunks."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
