"""The Arrow schema of `documents/`: one row per document, for readers who do not think in parts."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import pyarrow as pa

from schemas.rows import IDENTITY, with_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_WHOLES: Mapping[str, Sequence[str]] = {}
"""Part kind -> tasks asked about a document as a whole besides: of a job that asks none so."""


class DocumentStatus(StrEnum):
    """How much of a document is answered."""

    OK = "ok"
    """Every answer it owes is there."""
    PARTIAL = "partial"
    """Some are; `missing` says which are not, and why."""
    FAILED = "failed"
    """None is."""


MISSING = pa.list_(
    pa.struct(
        [
            pa.field("part_index", pa.int32()),
            pa.field("task", pa.string()),
            pa.field("category", pa.string()),
            pa.field("message", pa.string()),
        ]
    )
)
"""What is not there, and why. A null stands for all of them that are not answered: no `part_index`
is the whole document, no `task` every task. So one unreadable file is one entry, not one per answer."""

TEXTS = pa.map_(pa.string(), pa.large_string())
"""Task -> the whole document's text. A map and not a column per task, so that every job's files have
one schema; `large_string`, because a few thousand books pass the 2 GiB that a `string` array holds."""

SEGMENTS = pa.list_(
    pa.struct(
        [
            pa.field("task", pa.string()),
            pa.field("part_index", pa.int32()),
            pa.field("start_seconds", pa.float64()),
            pa.field("end_seconds", pa.float64()),
            pa.field("text", pa.large_string()),
        ]
    )
)
"""A recording's texts with their times, in order. Of one task none overlaps the next, neither in time nor in
words; the records keep what each part said."""

FINGERPRINTS = pa.map_(pa.string(), pa.string())
"""Task -> fingerprint of its answers: which prompt, model and options this row is made of."""

PARTS = pa.map_(pa.string(), pa.list_(pa.int32()))
"""JSON pointer of a value -> the parts that say so."""

CONFLICTS = pa.map_(
    pa.string(),
    pa.list_(pa.struct([pa.field("part_index", pa.int32()), pa.field("value", pa.string())])),
)
"""JSON pointer of a value -> what other parts say in its place, as text that `CAST` takes."""

DOCUMENT_ROWS = pa.schema(
    [
        *IDENTITY,
        pa.field("media_type", pa.string()),
        pa.field("document_digest", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("part_kind", pa.string()),
        pa.field("parts_total", pa.int32()),
        pa.field("answers", pa.int32()),
        pa.field("owed", pa.int32()),
        pa.field("missing", MISSING),
        pa.field("texts", TEXTS),
        pa.field("segments", SEGMENTS),
        pa.field("srt", pa.large_string()),
        pa.field("vtt", pa.large_string()),
        pa.field("seconds_of_media", pa.float64()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("engine_seconds", pa.float64()),
        pa.field("fingerprints", FINGERPRINTS),
        pa.field("document_metadata", pa.string()),
        pa.field("answered_at", pa.timestamp("us", tz="UTC")),
        pa.field("run_id", pa.string()),
    ]
)
"""`answers` are there of the `owed` ones; `owed`, `part_kind` and `parts_total` are null where the
document never opened, for nobody knows how many parts it has. `missing`, `texts` and `fingerprints`
are empty, never null, where there is nothing to say; `segments`, `srt`, `vtt` and `seconds_of_media`
are null for all but audio; the subtitles are of the first task that asks what is said.
Tokens are int64, since a part's int32 does not hold the sum of a long document.
`engine_seconds` adds up what each answer took, so it passes the clock's time where an engine works on
many at once; it and the tokens are null where no answer says. `answered_at` is the latest answer or
error that the row is made of, `run_id` the run that made the row: its answers may be of earlier ones."""


def merged_type(data_type: pa.DataType) -> pa.DataType:
    """Of a task's typed answers about its parts, one for the document.

    `value` is of the task's own type. In the order of the parts, each scalar is the first that is not null,
    and each list all items of all parts; an object is merged field by field. `parts` says where each scalar
    and each item of a list is from, by its pointer in `value` (`/total`, `/lines/0`). `conflicts` names the
    scalars that parts disagree on, with what the others say; it is empty where they agree.

        SELECT uri, data.extract.value.total, data.extract.parts['/total'] FROM documents
        WHERE cardinality(data.extract.conflicts) = 0
    """
    return pa.struct(
        [pa.field("value", data_type), pa.field("parts", PARTS), pa.field("conflicts", CONFLICTS)]
    )


def documents_schema(
    attributes: pa.DataType | None, merged: Mapping[str, pa.DataType] | None = None
) -> pa.Schema:
    """What a file under `documents/` holds: DOCUMENT_ROWS, merged answers, the manifest's own columns.

    Args:
        attributes: the type of a manifest's own columns, if there is a manifest with any.
        merged: task -> the type of its answers, for tasks whose answers are merged. Each is a field of the
            column `data`, of `merged_type`; null where a document has no such answer. Without such tasks
            there is no such column.
    """
    schema = DOCUMENT_ROWS
    if merged:
        fields = [pa.field(task, merged_type(merged[task])) for task in sorted(merged)]
        schema = schema.append(pa.field("data", pa.struct(fields)))
    return with_attributes(schema, attributes)
