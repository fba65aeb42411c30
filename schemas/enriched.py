"""The columns that answers are in a table of documents: what whoever owns the table selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from schemas.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OURS = "gemstream_"

FACTS = pa.schema(
    [
        pa.field(f"{OURS}document_id", pa.string()),
        pa.field(f"{OURS}version", pa.string()),
        pa.field(f"{OURS}status", pa.string()),
        pa.field(f"{OURS}missing", pa.int32()),
        pa.field(f"{OURS}answered_at", pa.timestamp("us", tz="UTC")),
        pa.field(f"{OURS}run_id", pa.string()),
        pa.field(f"{OURS}engine_seconds", pa.float64()),
    ]
)
"""Of each row whose document has come to an end: which document that is, as `records/` and `errors/` know it,
which version of it, how much of it is answered (`schemas.documents.DocumentStatus`), how many answers are not
there (null where the document never opened: nobody knows how many it would have), when, by which run, and
what that took. All null, and all answers with them, where nothing is known of the row's document."""

DOCUMENT = f"{OURS}document_id"
VERSION = f"{OURS}version"


@dataclass(frozen=True, slots=True)
class AnswerColumn:
    """One column of answers.

    Attributes:
        name: of the column.
        task: whose answers they are.
        data_type: of the merged answer about the document; None where the answer is the document's text.
    """

    name: str
    task: str
    data_type: pa.DataType | None = None

    @property
    def field(self) -> pa.Field:
        """As it is in a table."""
        return pa.field(self.name, self.data_type or pa.large_string())


def answer_columns(tasks: Iterable[str], merged: Mapping[str, pa.DataType]) -> tuple[AnswerColumn, ...]:
    """A column for each task, in their order: `<task>_text`, or of those with one typed answer `<task>`.

    A dash of a task's name is an underscore here, so that SQL takes it without quotes.

    Args:
        tasks: names of the tasks.
        merged: task -> the type of its answers, of those that `documents/` merges.

    Raises:
        JobError: two columns would have one name.
    """
    found: dict[str, AnswerColumn] = {}
    for task in tasks:
        name = task.replace("-", "_") + ("" if task in merged else "_text")
        other = found.setdefault(name, AnswerColumn(name, task, merged.get(task)))
        if other.task != task:
            raise JobError(
                f"tasks {other.task!r} and {task!r} would both be the column {name!r}: rename one",
                key="tasks",
            )
        if name in FACTS.names:
            raise JobError(f"task {task!r} would be the column {name!r}: rename it", key="tasks")
    return tuple(found.values())


def enriched_schema(columns: Iterable[AnswerColumn]) -> pa.Schema:
    """FACTS, and the answers behind them."""
    return pa.schema([*FACTS, *(column.field for column in columns)])
