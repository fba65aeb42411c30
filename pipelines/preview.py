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
from workers.registry import EXPANDERS, resolve
from workers.sniff import HEAD_BYTES, sniff
from workers.storage.factory import look_up, open_storage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from rich.console import RenderableType

    from schemas.job import JobSpec
    from schemas.selection import Selection
    from workers.prompt import Ask

SNIFFED = 2_000
"""Documents whose first bytes are read; the rest is counted by the same shares."""
OPENED = 40
"""Documents that are expanded for real, to know parts per document."""
HEADS_AT_ONCE = 16

Asked = tuple[str, str]
"""A part kind, and a task."""


class Preview(BaseModel):
    """What a run would do. Estimates are from the sample; counts of the list are exact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listed: int
    skipped: int = Field(description="Documents that this run does not work on.")
    reasons: dict[str, int] = Field(description="Why a document is worked on, or is not -> documents.")
    media: dict[str, int] = Field(description="Media type -> documents, estimated beyond the sample.")
    parts: dict[str, int] = Field(description="Part kind -> parts that answers are owed about, estimated.")
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
    """Documents that were looked into to see what is to be asked about them.

    Attributes:
        documents: how many they are.
        parts: of which something is owed, by kind; `drawn` and `tiled` of them are so.
        owed: answers about parts, by kind and task; `wholes` are about whole documents.
        tiles: those that the questions about parts show, by kind and task.
    """

    documents: int
    parts: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    tiled: Counter[str] = field(default_factory=Counter)
    owed: Counter[Asked] = field(default_factory=Counter)
    wholes: Counter[Asked] = field(default_factory=Counter)
    tiles: Counter[Asked] = field(default_factory=Counter)


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
    heads = _heads(plan, sample)
    media = Counter(media_type for media_type, _ in heads)
    due = listed - skipped
    scale = due / len(sample) if len(sample) else 0.0
    seen = _look_into(plan, sample.slice(0, OPENED), [kind for _, kind in heads[:OPENED]])
    per_document = due / seen.documents if seen.documents else 0.0
    kinds, drawn, tiled = (
        {kind: round(count * per_document) for kind, count in counts.items()}
        for counts in (seen.parts, seen.drawn, seen.tiled)
    )
    requests: Counter[str] = Counter()
    prompt_tokens = answer_tokens = 0
    loads = []
    for lane, ask in _asks(plan):
        owed = seen.owed if ask.room is None else seen.wholes
        count = sum(round(owed[kind, ask.task.name] * per_document) for kind in lane.tasks_by_kind)
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
    return lane.model.media_tokens * sum(seen.tiles[kind, ask.task.name] for kind in lane.tasks_by_kind)


def _walk(plan: Plan, ledger: Ledger, tables: Iterator[pa.Table]) -> tuple[Counter[str], int, pa.Table]:
    """Documents of the whole list by reason, how many are skipped, and the first that are due: with `kept`,
    the answers there are, and `needed`, whether any about parts are owed."""
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
            due = due.append_column("kept", ledger.kept_answers(due))
            sample.append(due.append_column("needed", ledger.needed(due)))
    return counts, skipped, pa.concat_tables(sample) if sample else DOCUMENTS.empty_table()


def _heads(plan: Plan, sample: pa.Table) -> list[tuple[str, str | None]]:
    """The media type of each document, or why it has none, and the kind of its parts."""
    places, versions = places_of(sample).to_pylist(), sample["version"].to_pylist()
    with ThreadPoolExecutor(HEADS_AT_ONCE) as threads:
        return list(threads.map(lambda uri, version: _head(plan, uri, version), places, versions))


def _head(plan: Plan, uri: str, version: str) -> tuple[str, str | None]:
    try:
        version = version or look_up(uri, plan.job.storage).version
        head = open_storage(uri, plan.job.storage).read(uri, version=version, length=HEAD_BYTES)
        sniffed = sniff(head, uri)
    except GemstreamError as error:
        return error.category, None
    if sniffed.expander is None:
        return sniffed.media_type, None
    kind: PartKind = resolve(EXPANDERS, sniffed.expander, "expander").part_kind
    return sniffed.media_type, kind.value


def _look_into(plan: Plan, sample: pa.Table, kinds: list[str | None]) -> Sample:
    """What is owed of the sample's documents. Those that owe answers about parts are expanded for real; the
    others, of which only the kind is known, one about the whole at most."""
    seen = Sample(len(sample))
    if not len(sample):
        return seen
    known: dict[str, frozenset[str]] = {}
    rows = zip(*(sample[name].to_pylist() for name in ("document_id", "kept", "needed")), kinds, strict=True)
    for name, kept, needed, kind in rows:
        known[name] = frozenset(key[1:] for key in kept or () if key.startswith("/"))
        if not needed and kind is not None:
            asked = plan.wholes_by_kind.get(kind, ())
            seen.wholes.update((kind, task) for task in asked if task not in known[name])
    documents = sample.filter(sample["needed"])
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
                _count(table, lane, known, seen)
        finally:
            stage.close()
    return seen


def _count(table: pa.Table, lane: Lane, known: Mapping[str, Collection[str]], seen: Sample) -> None:
    """Add what is owed of a table of PARTS.

    Args:
        table: of them.
        lane: whose they are.
        known: document_id -> tasks that are answered about it as a whole.
        seen: what to add to.
    """
    shown = table.filter(pc.invert(pc.equal(pc.fill_null(table["status"], ""), Status.ERROR.value)))
    shown = shown.filter(pc.is_valid(shown["shown"]))
    # A recording in which nobody speaks is expanded, and no model hears it.
    drawn = pc.and_(pc.not_equal(shown["shown"], Shown.TEXT.value), pc.is_valid(shown["content"])).to_pylist()
    names = ("document_id", "part_kind", "part_index", "parts_total", "kept", "tiles")
    rows = zip(*(shown[name].to_pylist() for name in names), drawn, strict=True)
    for document, kind, part, total, kept, tiles, is_drawn in rows:
        owed = [(kind, task) for task in lane.tasks_by_kind[kind] if task not in (kept or ())]
        seen.owed.update(owed)
        if owed:
            seen.parts[kind] += 1
            seen.drawn[kind] += is_drawn
        if owed and tiles is not None:
            seen.tiled[kind] += 1
            seen.tiles.update(dict.fromkeys(owed, tiles))
        if part == 0 and total > 1:
            wholes = lane.wholes_by_kind[kind]
            seen.wholes.update((kind, task) for task in wholes if task not in known[document])
