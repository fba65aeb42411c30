"""The Arrow schemas between stages. Explicit, so that an all-null column keeps its type."""

from __future__ import annotations

import os
import platform
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.errors import GemstreamError, TransientError

if TYPE_CHECKING:
    from schemas.limits import Limits


class PartKind(StrEnum):
    """What one model call sees."""

    PAGE = "page"
    IMAGE = "image"
    AUDIO = "audio"


class Shown(StrEnum):
    """How a part is put before the model."""

    IMAGE = "image"
    TEXT = "text"
    """A page as its own text layer has it, never drawn."""
    AUDIO = "audio"


class Pages(StrEnum):
    """How the pages of a PDF are shown."""

    AUTO = "auto"
    IMAGE = "image"
    TEXT = "text"


class Tiling(StrEnum):
    """Whether parts are shown in tiles besides the whole."""

    OFF = "off"
    AUTO = "auto"


class Upright(StrEnum):
    """By what a page or picture is turned upright."""

    METADATA = "metadata"
    """What its file says alone: the rotation of a PDF's page, the orientation of EXIF."""
    TEXT = "text"
    """Besides, the direction in which a page's text layer runs."""


class Status(StrEnum):
    """What an outcome row says of the answers it settles."""

    RECORD = "record"
    """An answer, to be written to `records/`."""
    KEPT = "kept"
    """An answer the output already holds: counted, not asked again, not written again."""
    ERROR = "error"
    """A failure, to be written to `errors/`."""
    FILTERED = "filtered"
    """A document nothing in the job asks about: counted, never an error."""
    DUPLICATE = "duplicate"
    """A document with the content of another, whose answers it is given once they are written."""


IDENTITY = pa.schema(
    [
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
    ]
)

DOCUMENTS = pa.schema(
    [
        *IDENTITY,
        pa.field("size", pa.int64()),
        pa.field("modified", pa.timestamp("us", tz="UTC")),
        pa.field("lane", pa.string()),
        pa.field("address", pa.string()),
    ]
)
"""One listed document. `size` in bytes; `lane` names the engine pool that it was routed to; `address` is
where its bytes are, if that is not its `uri`: a row of a table goes by the table and its key, wherever it
lies. The other columns of a manifest or table follow as one struct column, `attributes`. What a run writes
down for good has no `address`."""

KEPT = pa.list_(pa.string())
"""Answers of a half-done document that the output already holds, as `part_index/task`; `/task` is one about
the document as a whole. `workers.fetch.IN_DOUBT` alone is of one that could not be looked up."""

PART_FACTS = pa.schema(
    [
        pa.field("media_type", pa.string()),
        pa.field("document_digest", pa.string()),
        pa.field("part_index", pa.int32()),
        pa.field("parts_total", pa.int32()),
        pa.field("part_kind", pa.string()),
        pa.field("shown", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("rotation", pa.int16()),
        pa.field("tiles", pa.int16()),
        pa.field("picture_hash", pa.int64()),
        pa.field("start_seconds", pa.float64()),
        pa.field("end_seconds", pa.float64()),
    ]
)
"""`document_digest` is of the document's bytes, null where nobody fetched them. `part_index` counts
from 0, and is null where a row is about the document as a whole.
`shown` is how the part was put before the model: image, text or audio; null where it never was.
`width` and `height` are points for a page and pixels for an image, as the document has them (before
scaling to the model); `rotation` is the clockwise turn in degrees that was applied; `tiles` is how many tiles
the model saw besides the whole, each at the whole's number of tokens, and null where there were none.
`picture_hash` is the perceptual hash of what the model saw, null unless the job groups pictures by it:
`bit_count(xor(a, b))` is how far two of them are from one another."""

ERROR = pa.struct(
    [
        pa.field("stage", pa.string()),
        pa.field("category", pa.string()),
        pa.field("message", pa.string()),
        pa.field("transient", pa.bool_()),
        pa.field("setting", pa.string()),
        pa.field("limit", pa.string()),
        pa.field("worker", pa.string()),
    ]
)
"""`setting` names the limit of the job that was hit, as the job spells it, and `limit` is its value;
`worker` is host and process id of whoever met the error."""

PARTS = pa.schema(
    [
        *IDENTITY,
        *PART_FACTS,
        pa.field("status", pa.string()),
        pa.field("expected", pa.int32(), nullable=False),
        pa.field("settled", pa.int32(), nullable=False),
        pa.field("task", pa.string()),
        pa.field("error", ERROR),
        pa.field("content", pa.large_binary()),
        pa.field("content_hash", pa.string()),
        pa.field("page_text", pa.large_string()),
        pa.field("text_trusted", pa.bool_()),
        pa.field("checked_content", pa.large_binary()),
        pa.field("document_metadata", pa.string()),
        pa.field("kept", KEPT),
    ]
)
"""Expand's output. A row with `content` is a part to ask about: JPEG bytes at the model's
resolution, or 16 kHz mono float32 samples. A page without it is shown as its `page_text`; a recording
without it is one in which nobody speaks, and is answered without a model. A row with `status` set is
already an outcome and passes the engines untouched. `expected` is how many answers the whole document
owes, `settled` how many of them this row settles by itself. `kept` names the tasks whose answer about
this part the output already holds. `text_trusted` is whether `page_text` says what the page shows, null where
nobody asked; `checked_content` is a page that is shown as text as it looks, where it is to be read by eye as
well: JPEG bytes, none of them if it could not be drawn."""

REDACTIONS = pa.map_(pa.string(), pa.int32())

ANSWER = pa.schema(
    [
        pa.field("task", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("text", pa.large_string()),
        pa.field("text_source", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("valid", pa.bool_()),
        pa.field("invalid_fields", pa.list_(pa.string())),
        pa.field("attempts", pa.int16()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("cached_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
        pa.field("mean_logprob", pa.float32()),
        pa.field("confidence", pa.float32()),
        pa.field("seconds", pa.float64()),
        pa.field("queue_seconds", pa.float64()),
        pa.field("generation_seconds", pa.float64()),
        pa.field("text_layer_cer", pa.float64()),
        pa.field("language", pa.string()),
        pa.field("redactions", REDACTIONS),
        pa.field("model", pa.string()),
        pa.field("model_revision", pa.string()),
        pa.field("document_metadata", pa.string()),
    ]
)
"""`text_source` is "model", "text_layer" where a page's own text stands in for an answer, "silence" of a
recording in which nobody speaks, or null in an error. `valid` is null for prose; where it is false, `data`
has what holds, `invalid_fields` the JSON pointers of what does not, and `text` all that was said.

`cached_tokens` of the prompt's were found in the engine's prefix cache. `mean_logprob` is the mean natural
log-probability of the output tokens, and `confidence` its exponential. `seconds` is the time of the try
that was kept, from its entry into the engine; `queue_seconds` and `generation_seconds` are the engine's
own figures of it, before and after it was first scheduled, where it tells them.

`text_layer_cer` is the character error rate of a page read by eye against its own text layer, where that
can be trusted: of this answer, or, where the page was shown as text, of one that was asked for to know it.

`language` is that of `text`, as ISO 639-1, where the job asks and it can be told; `redactions` is how many
values of which kind were taken out of the answer, null where none were."""

TEXT_LAYER_CHECK = pa.struct(
    [
        pa.field("errors", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("cached_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("seconds", pa.float64()),
    ]
)
"""What `text_layer_cer` is made of, for the report: characters that are wrong and those of the text layer,
null where the page was to be read by eye and was not; and what it cost, where that was asked besides."""

RUN = pa.schema([pa.field("run_id", pa.string()), pa.field("answered_at", pa.timestamp("us", tz="UTC"))])

OUTCOMES = pa.schema(
    [
        *IDENTITY,
        *PART_FACTS,
        pa.field("status", pa.string(), nullable=False),
        pa.field("expected", pa.int32(), nullable=False),
        pa.field("settled", pa.int32(), nullable=False),
        *ANSWER,
        pa.field("text_layer_check", TEXT_LAYER_CHECK),
        pa.field("error", ERROR),
        *RUN,
    ]
)
"""What leaves the engines, one row per (part, task) or per failure. Tasks with typed answers add
one struct column each, named by `data_column`."""

ERRORS = pa.schema(
    [
        *IDENTITY,
        *PART_FACTS,
        pa.field("task", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("category", pa.string()),
        pa.field("message", pa.string()),
        pa.field("transient", pa.bool_()),
        pa.field("setting", pa.string()),
        pa.field("limit", pa.string()),
        pa.field("attempts", pa.int16()),
        pa.field("text", pa.large_string()),
        pa.field("model", pa.string()),
        pa.field("worker", pa.string()),
        *RUN,
    ]
)
"""`text` keeps what the model said when its answer did not hold; `model` is null where none was asked."""


def data_column(task: str) -> str:
    """Where a task's typed answer travels between infer and write."""
    return f"data:{task}"


def outcomes_schema(data_types: dict[str, pa.DataType], attributes: pa.DataType | None) -> pa.Schema:
    """OUTCOMES for one job: a struct column per typed task, and the manifest's own columns."""
    schema = OUTCOMES
    for task, data_type in data_types.items():
        schema = schema.append(pa.field(data_column(task), data_type))
    return with_attributes(schema, attributes)


def records_schema(data_type: pa.DataType | None, attributes: pa.DataType | None) -> pa.Schema:
    """What a file under `records/task=<name>/` holds: the same for every file of the task.

    `task` itself is the folder's name, as hive partitions have it.
    """
    fields = [*IDENTITY, *PART_FACTS, *(field for field in ANSWER if field.name != "task"), *RUN]
    if data_type is not None:
        fields.append(pa.field("data", data_type))
    return with_attributes(pa.schema(fields), attributes)


def owing_schema(attributes: pa.DataType | None) -> pa.Schema:
    """DOCUMENTS as a lane reads them, with the answers that are there already."""
    return with_attributes(pa.schema([*DOCUMENTS, pa.field("kept", KEPT)]), attributes)


def listed_schema(attributes: pa.DataType | None) -> pa.Schema:
    """DOCUMENTS as a run writes down its list: what each owes, why, and whether the run works on it."""
    judged = [pa.field("reason", pa.string()), pa.field("skipped", pa.bool_()), pa.field("kept", KEPT)]
    return with_attributes(pa.schema([*DOCUMENTS, *judged]), attributes)


def with_attributes(schema: pa.Schema, attributes: pa.DataType | None) -> pa.Schema:
    """The schema with the manifest's own columns as `attributes`, if it has any."""
    return schema if attributes is None else schema.append(pa.field("attributes", attributes))


def error_value(error: GemstreamError, limits: Limits) -> dict[str, Any]:
    """An error as the value of an `error` column, made where it was met.

    Args:
        error: its `fields["limit"]`, if it has one, is a setting such as `limits.pages`.
        limits: the job's.
    """
    setting = error.fields.get("limit")
    value = getattr(limits, setting.removeprefix("limits."), None) if setting else None
    return {
        "stage": error.fields.get("stage", error.stage),
        "category": error.category,
        # Parsers quote what they choke on, which need not be UTF-8: Python keeps its bytes as halves of
        # surrogate pairs, and Arrow takes none.
        "message": error.message.encode("utf-8", "backslashreplace").decode(),
        "transient": isinstance(error, TransientError),
        "setting": setting,
        "limit": None if value is None else f"{value:g}" if isinstance(value, float) else str(value),
        "worker": f"{platform.node()}/{os.getpid()}",
    }
