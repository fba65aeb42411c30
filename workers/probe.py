"""What parts cost, measured on the parts themselves: CPU seconds of expand, rates of an engine, both small.

Every probe warms up first, and what warming up takes is in no figure.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import digest
from schemas.rows import PartKind
from workers.engines import Media, Request
from workers.expander import Expand
from workers.infer import Infer, InferRecipe
from workers.prompt import Part, Rung, build
from workers.registry import ENGINES, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.limits import Limits
    from schemas.storage import StorageOptions
    from workers.engines import Engine, Response
    from workers.expand import ExpandOptions

ROUNDS = 2
"""Batches' worth of requests in a probe: in one alone the places empty from its middle on."""
PARTS_KEPT = 64
"""Parts of a kind that an engine is shown; beyond that they come again under other names."""
LEAST_SHARE = 0.05
"""Of a probe's time that is taken for decoding at least. Where answers are a token or two, what is left of it
after prompts and media is within the noise, and may be less than nothing."""
TEXT_CHARACTERS = 2_048
"""Of a question in the probe of prefill, at most; a token is at least a character."""


@dataclass
class Expanded:
    """Documents that were expanded: how many parts that gave, the CPU seconds it took, and some of them."""

    count: int = 0
    cpu: float = 0.0
    parts: list[pa.Table] = field(default_factory=list)


def cpu_seconds() -> float:
    """Of this process, its children and those that it has buried."""
    import psutil

    buried = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + buried.ru_utime + buried.ru_stime
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
    return seconds


def expand_probe(
    documents: pa.Table,
    kind: str,
    names: Sequence[str],
    storage: StorageOptions,
    options: ExpandOptions,
    limits: Limits,
    seconds: float,
) -> Expanded:
    """Expand the documents that consist of one kind of part, for so many seconds at most.

    Args:
        documents: DOCUMENTS, of any kind.
        kind: the part kind that is looked at.
        names: tasks asked of it.
        storage: how to reach the documents.
        options: how they become parts.
        limits: what they may cost.
        seconds: wall seconds after which no other document is begun.
    """
    found = Expanded()
    stage = Expand(storage, options, limits, {kind: names})
    try:
        # The child's start and its imports are a run's, once.
        for row in range(len(documents)):
            if any(len(_shown(table)) for table in stage(documents.slice(row, 1))):
                break
        began, before = time.monotonic(), cpu_seconds()
        for row in range(len(documents)):
            for table in stage(documents.slice(row, 1)):
                shown = _shown(table)
                found.count += len(shown)
                if sum(map(len, found.parts)) < PARTS_KEPT:
                    found.parts.append(shown)
            if time.monotonic() - began > seconds:
                break
        found.cpu = cpu_seconds() - before
    finally:
        stage.close()
    return found


def _shown(parts: pa.Table) -> pa.Table:
    """Those of them that are to be asked about."""
    return parts.filter(pc.and_(pc.is_null(parts["status"]), pc.is_valid(parts["shown"])))


class Counted:
    """An engine that is started once, and counts what goes in and comes out.

    Args:
        engine: not started.
    """

    hosts_model: ClassVar[bool] = True
    tiles: ClassVar[bool] = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._started = False
        self.tokens: Counter[str] = Counter()

    @staticmethod
    def environment(gpus: float) -> dict[str, str]:
        """The engine's own is its worker's already."""
        return {}

    def start(self) -> None:
        """See `Engine.start`; once is enough."""
        if not self._started:
            self._engine.start()
            self._started = True

    async def generate(self, request: Request) -> Response:
        """See `Engine.generate`."""
        response = await self._engine.generate(request)
        self.tokens["read"] += response.prompt_tokens - (response.cached_tokens or 0)
        self.tokens["said"] += response.output_tokens
        return response

    def pulse(self) -> float | None:
        """See `Engine.pulse`."""
        return self._engine.pulse()

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()

    def taken(self) -> Counter[str]:
        """Tokens since this was asked last."""
        tokens, self.tokens = self.tokens, Counter()
        return tokens


@dataclass(frozen=True)
class Measured:
    """What an engine did. `cpu_seconds` is a record's, of the worker's own process."""

    prefill: float
    decode: float
    media: float
    start_seconds: float
    cpu_seconds: float
    outcomes: pa.Table


class EngineProbe:
    """One engine, asked the job's questions about the job's parts.

    Args:
        recipe: as the run has it.
    """

    def __init__(self, recipe: InferRecipe) -> None:
        self._recipe = recipe
        self._engine = Counted(resolve(ENGINES, recipe.engine, "engine")(recipe.config))
        self._places = asyncio.Semaphore(recipe.config.max_num_seqs + recipe.config.max_num_seqs // 2)

    async def measure(self, parts: pa.Table) -> Measured:
        """Start it and put three loads to it: text alone for prefill, parts with answers of one token for
        their media, and the `Infer` stage with the job's questions, of whose time decoding has the rest.

        Args:
            parts: PARTS to ask about, at least one.

        Raises:
            EngineUnavailable: it does not come up.
        """
        recipe, seqs = self._recipe, self._recipe.config.max_num_seqs
        began = time.monotonic()
        await asyncio.to_thread(self._engine.start)
        start_seconds = time.monotonic() - began
        try:
            drawn = parts.filter(pc.is_valid(parts["content"]))
            await self._ask(self._looks(drawn, "warm", max(2, seqs // 4), max_tokens=4))
            await self._ask(self._texts("warm", 2))
            tokens, seconds = await self._ask(self._texts("text", ROUNDS * seqs))
            prefill = max(1, tokens["read"]) / seconds
            looks = self._looks(drawn, "look", ROUNDS * seqs)
            tokens, seconds = await self._ask(looks)
            media = max(0.0, seconds - tokens["read"] / prefill) / max(1, len(looks))
            copies = -(-ROUNDS * seqs // len(recipe.asks))
            shown = copied(parts, "answers", copies)
            began, before = time.monotonic(), time.process_time()
            stage = Infer(recipe, engine=self._engine)
            outcomes = pa.concat_tables([table async for table in stage(shown)])
            seconds, cpu = time.monotonic() - began, time.process_time() - before
            tokens = self._engine.taken()
            encoded = len(shown) - shown["content"].null_count
            left = seconds - tokens["read"] / prefill - media * encoded
            decode = max(1, tokens["said"]) / max(left, LEAST_SHARE * seconds)
        finally:
            self._engine.close()
        return Measured(prefill, decode, media, start_seconds, cpu / len(outcomes), outcomes)

    async def _ask(self, requests: list[Request]) -> tuple[Counter[str], float]:
        """All of them, and how many tokens and seconds that was."""
        self._engine.taken()
        began = time.monotonic()
        await asyncio.gather(*map(self._one, requests))
        return self._engine.taken(), time.monotonic() - began

    async def _one(self, request: Request) -> None:
        async with self._places:
            await self._engine.generate(request)

    def _texts(self, name: str, count: int) -> list[Request]:
        """No two begin alike, so that no cache has any of them."""
        ask = self._recipe.asks[0]
        question = max(ask.questions.values(), key=len) + "\n"
        room = min(TEXT_CHARACTERS, self._recipe.config.max_model_len // 2)
        words = (question * (room // len(question) + 1))[:room]
        return [
            Request(f"{name}-{index}", f"{name} {index}. {words}", None, max_tokens=1)
            for index in range(count)
        ]

    def _looks(self, parts: pa.Table, name: str, count: int, max_tokens: int = 1) -> list[Request]:
        """Parts, each under a name of its own, so that each is encoded; what is said of them is nobody's."""
        rows = copied(parts, name, count if len(parts) else 0).select(
            ["document_id", "part_kind", "content", "content_hash"]
        )
        requests = []
        for row in rows.to_pylist():
            kind = PartKind(row["part_kind"])
            ask = next(ask for ask in self._recipe.asks if ask.asks(kind))
            part = Part(row["document_id"], Media(kind, row["content"], row["content_hash"]), None, kind)
            request = build(ask, part, Rung(0, max_tokens, 0.0))
            requests.append(replace(request, json_schema=None, choices=(), likelihoods=False))
        return requests


def copied(parts: pa.Table, name: str, count: int) -> pa.Table:
    """So many parts, those again that are not enough, each of them as a document that was never seen."""
    rows = parts.take([index % len(parts) for index in range(count)])
    names: dict[str, Any] = {
        "document_id": pa.array([digest(name, str(index)) for index in range(count)]),
        "content_hash": pa.array([digest(name, "content", str(index)) for index in range(count)]),
    }
    for column, values in names.items():
        at = rows.schema.get_field_index(column)
        rows = rows.set_column(at, rows.schema.field(column), values)
    return rows
