"""`gemstream plan`: what a run would do, from the list and a sample of the documents. Nothing is asked."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from pipelines.beforehand import refuse_beforehand
from pipelines.choice import memory_at_hand, settle_models
from pipelines.expectation import prompt_tokens as tokens_of_prompt
from pipelines.expectation import read_seen
from pipelines.feed import in_scope, places_of
from pipelines.incremental import resume, walk
from pipelines.ledger import Ledger, read_ledger
from pipelines.plan import Lane, Plan, make_plan
from pipelines.runner import source_of
from pipelines.sizing import Load, Prediction, Work, predict
from schemas.errors import GemstreamError
from schemas.rows import DOCUMENTS, PartKind, Shown, Status, records_schema
from workers.expander import Expand
from workers.sniff import HEAD_BYTES, sniff
from workers.storage.factory import look_up, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from schemas.job import JobSpec
    from schemas.selection import Selection
    from workers.prompt import Ask

SNIFFED = 2_000
"""Documents whose first bytes are read; the rest is counted by the same shares."""
OPENED = 40
"""Documents that are expanded for real, to know parts per document."""
HEADS_AT_ONCE = 16


class Preview(BaseModel):
    """What a run would do. Estimates are from the sample; counts of the list are exact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listed: int
    skipped: int = Field(description="Documents that this run does not work on.")
    reasons: dict[str, int] = Field(description="Why a document is worked on, or is not -> documents.")
    media: dict[str, int] = Field(description="Media type -> documents, estimated beyond the sample.")
    parts: dict[str, int] = Field(description="Part kind -> parts, estimated.")
    requests: dict[str, int] = Field(description="Task -> questions, estimated.")
    tiled: dict[str, int] = Field(description="Part kind -> parts that are shown in tiles, estimated.")
    prompt_tokens: int = Field(description="Of the whole run, tiles among them.")
    tile_tokens: int = Field(description="Of these, what the tiles cost.")
    answer_tokens_at_most: int
    models: dict[str, str]
    choices: dict[str, str] = Field(description="Pool -> why its model, where that was left to auto.")
    schemas: dict[str, str] = Field(description="Task -> columns of its records.")
    bounds: dict[str, dict[str, str]] = Field(
        description="Task -> JSON pointer -> the bound that is put where its schema has none."
    )
    sampled: int = Field(description="Documents that were expanded for real.")
    prediction: Prediction = Field(description="What the run is expected to take.")

    def table(self) -> RenderableType:
        """The preview as tables of a terminal."""
        from rich.console import Group
        from rich.table import Table

        counts = Table("what", "how many", title="plan: nothing was asked of a model")
        rows: dict[str, Any] = {"documents listed": self.listed}
        rows |= {f"documents, {reason}": count for reason, count in sorted(self.reasons.items())}
        rows |= {"documents to work on": self.listed - self.skipped}
        rows |= {f"documents, {media}": count for media, count in sorted(self.media.items())}
        rows |= {f"parts, {kind}": count for kind, count in sorted(self.parts.items())}
        rows |= {f"parts in tiles, {kind}": count for kind, count in sorted(self.tiled.items())}
        rows |= {f"questions, {task}": count for task, count in sorted(self.requests.items())}
        rows |= {"tokens in, about": self.prompt_tokens}
        rows |= {"tokens in, of tiles": self.tile_tokens} if self.tiled else {}
        rows |= {"tokens out, at most": self.answer_tokens_at_most}
        for what, count in rows.items():
            counts.add_row(what, f"{count:,}")
        for pool, model in self.models.items():
            counts.add_row(f"model, {pool}", "\n".join([model, *filter(None, [self.choices.get(pool)])]))
        columns = Table("task", "columns of records/task=<task>", title="output")
        for task, schema in self.schemas.items():
            columns.add_row(task, schema)
        bounds = Table("task", "where its schema has no bound", "it is held to")
        for task, found in self.bounds.items():
            for pointer, words in found.items():
                bounds.add_row(task, pointer, words)
        return Group(counts, self.prediction.table(), columns, *([bounds] if self.bounds else []))


@dataclass(frozen=True)
class Sample:
    """Documents that were expanded to see what they are made of, counted by part kind."""

    documents: int
    parts: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    several: Counter[str] = field(default_factory=Counter)
    tiled: Counter[str] = field(default_factory=Counter)
    tiles: Counter[str] = field(default_factory=Counter)


def preview(job: JobSpec, selection: Selection | None = None) -> Preview:
    """Walk the list, sniff and expand a sample.

    Args:
        job: what a run would do.
        selection: what it would be narrowed to.

    Raises:
        JobError: the job cannot be run as it is.
        GemstreamError: the source or the output cannot be read.
    """
    source = source_of(job)
    chosen = settle_models(job, lambda: memory_at_hand(job.engine))
    job = chosen.job
    plan = make_plan(job, source.attributes, job.engine.gpus or 0.0, selection)
    refuse_beforehand(plan)
    resume(plan, source)
    ledger = read_ledger(plan)
    reasons, skipped, sample = _walk(plan, ledger, walk(plan, source, ledger))
    listed = reasons.total()
    media = _media(plan, sample)
    due = listed - skipped
    scale = due / len(sample) if len(sample) else 0.0
    seen = _parts(plan, sample.slice(0, OPENED))
    per_document = due / seen.documents if seen.documents else 0.0
    kinds, drawn, wholes, tiled = (
        {kind: round(count * per_document) for kind, count in counts.items()}
        for counts in (seen.parts, seen.drawn, seen.several, seen.tiled)
    )
    requests: Counter[str] = Counter()
    prompt_tokens = answer_tokens = 0
    loads = []
    for lane, ask in _asks(plan):
        count = sum(n for kind, n in (wholes if ask.room else kinds).items() if ask.asks(PartKind(kind)))
        requests[ask.task.name] += count
        prompt_tokens += count * tokens_of_prompt(lane, ask)
        answer_tokens += count * ask.max_tokens
        loads.append(Load(lane, ask, count, round(per_document * _tile_tokens(lane, ask, seen))))
    tile_tokens = sum(load.extra_tokens for load in loads)
    return Preview(
        listed=listed,
        skipped=skipped,
        reasons=dict(reasons),
        media={name: round(count * scale) for name, count in media.items()},
        parts=kinds,
        requests=dict(requests),
        tiled=tiled,
        prompt_tokens=prompt_tokens + tile_tokens,
        tile_tokens=tile_tokens,
        answer_tokens_at_most=answer_tokens,
        models={lane.pool: lane.model.identity for lane in plan.lanes},
        choices=chosen.reasons,
        schemas={
            task.name: ", ".join(f.name for f in records_schema(None, plan.attributes))
            + (f", data: {plan.data_types[task.name]}" if task.name in plan.data_types else "")
            for task in job.tasks
        },
        bounds={task.name: task.bounds() for task in job.tasks if task.bounds()},
        sampled=seen.documents,
        prediction=predict(plan, Work(tuple(loads), kinds, drawn), read_seen(plan)),
    )


def _asks(plan: Plan) -> list[tuple[Lane, Ask]]:
    return [(lane, ask) for lane in plan.lanes for ask in (*lane.asks, *lane.wholes)]


def _tile_tokens(lane: Lane, ask: Ask, seen: Sample) -> int:
    """What the tiles in the sample cost one task. A question about whole documents has none."""
    if ask.room is not None:
        return 0
    return lane.model.media_tokens * sum(seen.tiles[kind] for kind in ask.task.asked_of)


def _walk(plan: Plan, ledger: Ledger, tables: Iterator[pa.Table]) -> tuple[Counter[str], int, pa.Table]:
    """Documents of the whole list by reason, how many are skipped, and the first that are due."""
    counts: Counter[str] = Counter()
    skipped = kept = 0
    sample: list[pa.Table] = []
    for documents in tables:
        documents = in_scope(documents, plan)
        reasons = ledger.reasons(documents)
        idle = ledger.skipped(reasons)
        counts.update(reasons.to_pylist())
        skipped += pc.sum(idle).as_py() or 0
        if kept < SNIFFED:
            due = documents.filter(pc.invert(idle)).slice(0, SNIFFED - kept)
            kept += len(due)
            sample.append(due)
    return counts, skipped, pa.concat_tables(sample) if sample else DOCUMENTS.empty_table()


def _media(plan: Plan, sample: pa.Table) -> Counter[str]:
    with ThreadPoolExecutor(HEADS_AT_ONCE) as threads:
        return Counter(
            threads.map(
                lambda uri, version: _media_type(plan, uri, version),
                places_of(sample).to_pylist(),
                sample["version"].to_pylist(),
            )
        )


def _media_type(plan: Plan, uri: str, version: str) -> str:
    try:
        version = version or look_up(uri, plan.job.storage).version
        head = open_storage(uri, plan.job.storage).read(uri, version=version, length=HEAD_BYTES)
        media_type: str = sniff(head, uri).media_type
        return media_type
    except GemstreamError as error:
        return error.category


def _parts(plan: Plan, sample: pa.Table) -> Sample:
    """The sample's documents, expanded for real."""
    seen = Sample(len(sample))
    if not len(sample):
        return seen
    documents = sample.append_column("kept", pa.nulls(len(sample), pa.list_(pa.string())))
    for lane in plan.lanes:
        # Each as its model is shown them: of a document that is another lane's, the first bytes are read.
        stage = Expand(
            storage=plan.job.storage,
            options=lane.expand,
            limits=plan.job.limits,
            tasks_by_kind=lane.tasks_by_kind,
        )
        try:
            for table in stage(documents):
                _count(table, seen)
        finally:
            stage.close()
    return seen


def _count(table: pa.Table, seen: Sample) -> None:
    """Add the parts of a table of PARTS."""
    shown = table.filter(pc.invert(pc.equal(pc.fill_null(table["status"], ""), Status.ERROR.value)))
    shown = shown.filter(pc.is_valid(shown["shown"]))
    seen.parts.update(shown["part_kind"].to_pylist())
    drawn = shown.filter(pc.not_equal(shown["shown"], Shown.TEXT.value))
    # A recording in which nobody speaks is expanded, and no model hears it.
    seen.drawn.update(drawn.filter(pc.is_valid(drawn["content"]))["part_kind"].to_pylist())
    first = shown.filter(pc.and_(pc.equal(shown["part_index"], 0), pc.greater(shown["parts_total"], 1)))
    seen.several.update(first["part_kind"].to_pylist())
    tiled = shown.filter(pc.is_valid(shown["tiles"]))
    for kind, tiles in zip(tiled["part_kind"].to_pylist(), tiled["tiles"].to_pylist(), strict=True):
        seen.tiled[kind] += 1
        seen.tiles[kind] += tiles
