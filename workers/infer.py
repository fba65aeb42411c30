"""parts -> outcomes: asks every task of every part, climbs the ladder, validates.

One table in, one table out, in the same order: a task that Ray runs again after losing a node
yields the same rows again, so nothing is doubled or lost by it. Rows of one table do not wait for
each other inside the engine, and several tables are in flight at once, so its batch stays full.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.errors import (
    AnswerError,
    Draining,
    GemstreamError,
    RequestTimeout,
    TerminalError,
    TruncatedAnswer,
)
from schemas.ids import digest
from schemas.privacy import PrivacyOptions
from schemas.rows import IDENTITY, PART_FACTS, PartKind, Status, data_column, error_value
from workers.answers import borrowed, counted, recorded, silent
from workers.by_eye import as_it_looks, held
from workers.clock import Places
from workers.condense import condensed
from workers.discretion import Discretion
from workers.engines import EngineConfig, Media, Response
from workers.prompt import Ask, Part, Rung, build, columns_of
from workers.registry import ENGINES, resolve
from workers.supervise import Supervisor
from workers.validate import Answer, validate
from workers.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from schemas.limits import Limits
    from workers.engines import Engine
    from workers.journal import Journal
    from workers.meter import Meter

TRIES = 3
TEMPERATURE_STEP = 0.3
LISTEN_SECONDS = 1.0
"""Between two questions whether the run is being ended: one small call each, per worker that has work."""

CARRIED = [*IDENTITY.names, *PART_FACTS.names, "expected", "document_metadata"]


@dataclass(frozen=True)
class InferRecipe:
    """What an engine's actor needs to know; made on the driver."""

    engine: str
    config: EngineConfig
    asks: tuple[Ask, ...]
    schema: pa.Schema
    run_id: str
    limits: Limits
    privacy: PrivacyOptions = PrivacyOptions()
    names: Ask | None = None


def places(config: EngineConfig) -> int:
    """Requests inside an engine at once: half as many again as decode together, so that the place of one that
    is answered is never empty."""
    return config.max_num_seqs + config.max_num_seqs // 2


class Infer:
    """The stage: one engine and the ladder around it. The first part to ask about starts the engine.

    Args:
        recipe: engine, tasks and schema.
        meter: where counts go while the run is under way.
        journal: what is in hand, for the worker that comes after this one.
        engine: asked in place of one that the recipe makes.
    """

    def __init__(
        self,
        recipe: InferRecipe,
        meter: Meter | None = None,
        journal: Journal | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._recipe = recipe
        self._meter = meter
        self._journal = journal
        engine, limits = engine or resolve(ENGINES, recipe.engine, "engine")(recipe.config), recipe.limits
        self._discretion = Discretion(recipe.privacy, recipe.names)
        self._places = Places(recipe.config.max_num_seqs)
        self._supervisor = Supervisor(
            engine,
            places(recipe.config),
            limits.request_seconds,
            limits.heartbeat_seconds,
            journal,
            self._places,
            limits.load_seconds,
        )
        self._watchdog = Watchdog(limits.heartbeat_seconds)
        self._tables = 0
        self._listening: asyncio.Task[None] | None = None
        if meter is not None:
            meter.add("infer", placed=1)

    async def __call__(self, parts: pa.Table) -> AsyncIterator[pa.Table]:
        """PARTS to OUTCOMES, one row per (part, task); rows with a status pass as they are.

        Raises:
            EngineUnavailable: the engine did not come up, or cannot be kept alive.
        """
        asked = list(_parts(parts, filled_in=any(ask.task.columns for ask in self._recipe.asks)))
        name = digest("table", *(part.identity for part in asked if part is not None))
        suspect = self._journal is not None and await asyncio.to_thread(self._journal.begin, name) > 0
        jobs, sources, settled = [], [], []
        for row, part in enumerate(asked):
            if part is None:
                settled.append(row)
                continue
            for ask in self._recipe.asks:
                if ask.asks(part.kind):
                    jobs.append(self._answer(ask, part, suspect=suspect))
                    sources.append(row)
        if self._meter is not None:
            self._meter.add("asked", done=len(jobs), parts=len(asked) - len(settled))
        with self._watchdog.working():
            said = await self._gathered(jobs)
        # A run that is being ended asks no more; of what was not asked there is nothing to say.
        sources = [source for source, answer in zip(sources, said, strict=True) if answer is not None]
        answers = [answer for answer in said if answer is not None]
        if self._meter is not None:
            self._meter.add("infer", **counted(answers), starts=self._supervisor.take_starts())
            self._meter.spent("infer", self._places.take())
        tables = [await self._passed(parts.take(pa.array(settled, pa.int64())))]
        if answers:
            tables.append(self._answered(parts.take(sources), answers))
        if self._journal is not None:
            self._journal.end(name)
        yield pa.concat_tables(tables)

    async def _gathered(
        self, jobs: list[Coroutine[Any, Any, dict[str, Any] | None]]
    ) -> list[dict[str, Any] | None]:
        """What the jobs return; meanwhile this worker says that it stirs, and hears whether the run ends."""
        self._tables += 1
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            return await asyncio.gather(*jobs)
        finally:
            self._tables -= 1
            if not self._tables and self._listening is not None:
                self._listening.cancel()
                self._listening = None  # not waited for, and the next table may come before it has ended

    async def _listen(self) -> None:
        """Feeds the watchdog; that does not wait for a meter that is slow to answer or gone with its node."""
        hearing: asyncio.Future[bool] | None = None
        while True:
            self._watchdog.feed()
            if self._meter is not None:
                self._meter.spent("infer", self._places.take())
                if starts := self._supervisor.take_starts():
                    self._meter.add("infer", starts=starts)
                if not self._supervisor.draining:
                    hearing = hearing or asyncio.ensure_future(asyncio.to_thread(self._meter.draining))
                    heard, _ = await asyncio.wait({hearing}, timeout=LISTEN_SECONDS)
                    if not heard:
                        continue
                    self._supervisor.draining, hearing = hearing.result(), None
            await asyncio.sleep(LISTEN_SECONDS)

    def close(self) -> None:
        """End the engine and its processes."""
        self._supervisor.close()

    def __del__(self) -> None:
        """Ray tells a stage of its end by letting go of it, and vLLM's processes are to end with it."""
        if hasattr(self, "_supervisor"):
            self.close()

    async def _answer(self, ask: Ask, part: Part, *, suspect: bool) -> dict[str, Any] | None:
        """The answer columns of one (part, task); None if the run ended before it was asked."""
        common: dict[str, Any] = {"task": ask.task.name, "fingerprint": ask.fingerprint}
        if ask.task.name in part.kept:
            return common | {"status": Status.KEPT}
        if part.silent:
            return common | silent(ask)
        try:
            if ask.room is None:
                outcome = await self._climb(ask, part, suspect=suspect)
            else:
                climb = partial(self._climb, ask, suspect=suspect)
                outcome = await condensed(part, ask.room, climb)
        except Draining:
            return None
        if ask.task.copies and part.trusted and outcome["status"] is Status.RECORD:
            outcome |= await self._by_eye(ask, part, outcome, suspect=suspect)
        if outcome.get("data") is not None:
            outcome[data_column(ask.task.name)] = outcome.pop("data")
        # A label names nobody. What is asked about an answer is asked though the run is being ended.
        free = outcome["status"] is not Status.RECORD or not ask.task.choices()
        again = partial(self._climb, suspect=suspect, finishing=True) if free else None
        return common | await self._discretion.outcome(outcome, f"{part.identity}/{ask.task.name}", again)

    async def _by_eye(
        self, ask: Ask, part: Part, outcome: dict[str, Any], *, suspect: bool
    ) -> dict[str, Any]:
        """How far a page read by eye is from its own text; a page shown as text is asked about once more."""
        if part.media is not None:
            return await held(outcome, part.text, besides=False)
        if part.checked is None:
            return {}
        try:
            seen = await self._climb(ask, as_it_looks(part), suspect=suspect) if part.checked.content else {}
        except Draining:
            return {}  # the answer itself is there
        return await held(seen, part.text, besides=True)

    async def _climb(self, ask: Ask, part: Part, *, suspect: bool, finishing: bool = False) -> dict[str, Any]:
        """The ladder: the same question hotter, or with more room; then the page's own text, unless that is
        known not to be what it shows; then the answer of which most holds; then an error.

        An engine that cannot be kept alive is no fault of a document: `EngineUnavailable` passes through
        and ends the run, and the next one goes on from what is written.
        """
        rung, fault = Rung(0, ask.max_tokens, ask.task.temperature), GemstreamError("not tried")
        response: Response | None = None
        partial: tuple[Answer, Response] | None = None
        for tries in range(1, TRIES + 1):
            try:
                request = build(ask, part, rung)
                response = await self._supervisor.ask(request, suspect=suspect, finishing=finishing)
                answer = validate(ask.task, response, part.shown)
            except (AnswerError, RequestTimeout) as error:
                fault = error
                some = error.fields.get("partial")
                if some and response and (not partial or len(some.invalid) < len(partial[0].invalid)):
                    partial = some, response
            except TerminalError as error:
                fault = error
                break
            else:
                return recorded(answer, response, tries)
            climbed = _next(rung, fault, ask)
            if climbed is None:
                break
            rung = climbed
        if ask.task.fallback_to_page_text() and part.text and part.trusted is not False:
            return borrowed(part.text, response, tries)
        if partial is not None:
            return recorded(*partial, tries)
        return {
            "status": Status.ERROR,
            "error": error_value(fault, self._recipe.limits),
            "text": fault.fields.get("text"),
            "attempts": fault.fields.get("attempts", tries),
        }

    def _answered(self, rows: pa.Table, answers: list[dict[str, Any]]) -> pa.Table:
        """One row per answer, beside the facts of its part."""
        schema, recipe = self._recipe.schema, self._recipe
        columns: dict[str, Any] = {name: rows[name] for name in CARRIED}
        columns["document_metadata"] = self._discretion.column(rows["document_metadata"])
        if "attributes" in schema.names:
            columns["attributes"] = rows["attributes"]
        columns["settled"] = pa.repeat(pa.scalar(1, pa.int32()), len(answers))
        model = recipe.config.model
        columns |= _repeated(
            len(answers),
            model=model.source,
            model_revision=model.revision,
            run_id=recipe.run_id,
        )
        columns["answered_at"] = pa.repeat(_now(), len(answers))
        for field in schema:
            if field.name not in columns:
                columns[field.name] = pa.array([answer.get(field.name) for answer in answers], field.type)
        return pa.table({field.name: columns[field.name] for field in schema}, schema)

    async def _passed(self, rows: pa.Table) -> pa.Table:
        """Rows that an earlier stage settled, in the outcomes' schema. No model reads their errors."""
        schema, count = self._recipe.schema, len(rows)
        columns: dict[str, Any] = {name: rows[name] for name in (*CARRIED, "status", "settled", "task")}
        quoting = [{"status": Status.ERROR, "error": error} for error in rows["error"].to_pylist()]
        clean = [await self._discretion.outcome(row) for row in quoting]
        for name in ("error", "redactions"):
            columns[name] = pa.array([row.get(name) for row in clean], schema.field(name).type)
        columns["document_metadata"] = self._discretion.column(rows["document_metadata"])
        if "attributes" in schema.names:
            columns["attributes"] = rows["attributes"]
        columns |= _repeated(count, run_id=self._recipe.run_id)
        columns["attempts"] = pa.repeat(pa.scalar(1, pa.int16()), count)
        columns["answered_at"] = pa.repeat(_now(), count)
        for field in schema:
            if field.name not in columns:
                columns[field.name] = pa.nulls(count, field.type)
        return pa.table({field.name: columns[field.name] for field in schema}, schema)


def _parts(table: pa.Table, *, filled_in: bool) -> Iterator[Part | None]:
    """The parts of a table, in order; None for rows that are settled already.

    Args:
        table: PARTS.
        filled_in: whether some prompt wants values of the document's own.
    """
    kept = table["kept"].to_pylist()
    columns = columns_of(table) if filled_in else [{}] * len(table)
    names = (
        "document_id",
        "version",
        "part_index",
        "part_kind",
        "content",
        "content_hash",
        "tiles",
        "page_text",
        "status",
        "text_trusted",
        "checked_content",
    )
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    for row, names_kept, known in zip(rows, kept, columns, strict=True):
        document, version, index, kind, content, content_hash, tiles, text, status, trusted, looks = row
        if status is not None:
            yield None
            continue
        media = None if content is None else Media(PartKind(kind), content, content_hash, tiles or 0)
        identity = f"{document}/{version}/{index}"
        checked = None if looks is None else Media(PartKind(kind), looks, digest(looks))
        kept_names = frozenset(names_kept or ())
        yield Part(identity, media, text, PartKind(kind), kept_names, known, trusted, checked)


def _next(rung: Rung, fault: GemstreamError, ask: Ask) -> Rung | None:
    """The next try, or None when another would be the same again. One that loops fills any budget, so more of
    it is only dearer: it is asked hotter."""
    if isinstance(fault, TruncatedAnswer):
        if rung.max_tokens >= ask.ceiling_tokens:
            return None
        return Rung(rung.attempt + 1, min(rung.max_tokens * 2, ask.ceiling_tokens), rung.temperature)
    return Rung(rung.attempt + 1, rung.max_tokens, min(rung.temperature + TEMPERATURE_STEP, 2.0))


def _repeated(count: int, **values: str) -> dict[str, pa.Array]:
    return {name: pa.repeat(pa.scalar(value, pa.string()), count) for name, value in values.items()}


def _now() -> pa.Scalar:
    return pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC"))
