"""What one answer of each task is expected to take: as earlier ones did, or as much as it may."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from schemas.rows import Shown
from workers.names import ASKED_AT_ONCE
from workers.sinks.reading import part_files, read_part
from workers.storage.factory import join, open_storage

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.plan import Lane, Plan
    from workers.prompt import Ask

FILES = 8
"""Part files of a task that are looked at: 160,000 records at the default size. Names are hashes, so the last
of a listing are any."""
COLUMNS = ["part_index", "prompt_tokens", "cached_tokens", "output_tokens"]
RECORD_BYTES = 80.0
"""Of a record where there is none to measure: keys and figures took 54 in a file of 20,000 at four parts a
document, and take more where a document is one part."""
TOKEN_CHARACTERS = 4
TOKEN_BYTES = 1.0
"""Of its text: 3.6 MB of prose took 0.83 (`workers.sinks.parquet`), and a token is some four characters."""


@dataclass(frozen=True)
class Expected:
    """One answer. `asked` says what the figures of its prompt are from, `answered` those of the rest."""

    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    output_bytes: float
    asked: str
    answered: str


@dataclass(frozen=True)
class Seen:
    """The means of earlier records of a task."""

    records: int
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    output_bytes: float


Key = tuple[str, bool]
"""Of a task, and whether it is asked about whole documents."""


def read_seen(plan: Plan) -> dict[Key, Seen]:
    """The means of what the output holds of the job's tasks, from a few of its files.

    Records that were asked otherwise count as well: they are nearer to what will be said than no record is.

    Raises:
        GemstreamError: the output cannot be read.
    """
    found: dict[Key, Seen] = {}
    for task in plan.fingerprints:
        folder = join(plan.output, f"records/task={task}")
        storage = open_storage(folder, plan.job.storage)
        read = [read_part(storage, info, COLUMNS) for info in deque(part_files(storage, folder), FILES)]
        rows = sum(len(part.rows) for part in read)
        if not rows:
            continue
        each = sum(part.info.size for part in read) / rows
        for whole in (False, True):
            means = _means([part.rows for part in read], each, whole=whole)
            if means is not None:
                found[task, whole] = means
    return found


def _means(tables: list[pa.Table], each: float, *, whole: bool) -> Seen | None:
    """Of the records that a model was asked for; None if there are none."""
    import pyarrow as pa

    rows = pa.concat_tables(tables)
    about = pc.is_null(rows["part_index"]) if whole else pc.is_valid(rows["part_index"])
    rows = rows.filter(pc.and_(about, pc.is_valid(rows["output_tokens"])))
    if not len(rows):
        return None
    prompt, cached, output = (
        (pc.sum(rows[name]).as_py() or 0) / len(rows)
        for name in ("prompt_tokens", "cached_tokens", "output_tokens")
    )
    return Seen(len(rows), prompt, cached, output, each)


def expect(lane: Lane, ask: Ask, seen: dict[Key, Seen], *, shares: bool) -> Expected:
    """What one answer takes.

    Args:
        lane: who is asked.
        ask: what.
        seen: what `read_seen` found.
        shares: whether another question about the same part was asked first, whose media are cached.
    """
    known = seen.get((ask.task.name, ask.room is not None))
    if known is not None:
        told = f"means of {known.records:,} records in the output"
        return Expected(
            known.prompt_tokens, known.cached_tokens, known.output_tokens, known.output_bytes, told, told
        )
    cached = lane.model.media_tokens if shares and lane.model.media_first and ask.room is None else 0
    prompt, answer = prompt_tokens(lane, ask), ask.max_tokens
    asked = "the media, and a token for four characters of the question"
    answered = f"no record yet, so at most: all of its budget of {ask.max_tokens:,} tokens"
    if lane.names is not None and not ask.task.choices():
        # The answer is read once more, in pieces with the question before each; names are part of it.
        pieces = math.ceil(ask.max_tokens * TOKEN_CHARACTERS / ASKED_AT_ONCE)
        prompt += ask.max_tokens + pieces * len(lane.names.questions[Shown.TEXT]) // TOKEN_CHARACTERS
        answer += ask.max_tokens
        asked, answered = f"{asked}; once more for names", f"{answered}, and as many names"
    size = RECORD_BYTES + TOKEN_BYTES * ask.max_tokens
    return Expected(prompt, cached, answer, size, asked, answered)


def prompt_tokens(lane: Lane, ask: Ask) -> int:
    """Media, or as much text as fits, plus words: about four characters a token in Gemma's vocabulary."""
    question = max(ask.questions.values(), key=len)
    shown = lane.model.media_tokens if ask.room is None else ask.room // TOKEN_CHARACTERS
    return shown + len(question) // TOKEN_CHARACTERS
