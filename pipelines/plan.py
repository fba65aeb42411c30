"""job -> plan: everything that can be known, checked and refused before anything is started."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipelines.asks import make_ask, make_names, make_whole, room_for_text
from pipelines.refusals import (
    refuse_adapters_elsewhere,
    refuse_double,
    refuse_tiles,
    refuse_unfit,
    refuse_unsafe,
)
from schemas.errors import JobError
from schemas.ids import canonical, digest
from schemas.job import PageOptions
from schemas.models import Model, find_model
from schemas.models.adapter import adapters_for
from schemas.models.base import GEMMA4_BUDGETS, gemma4_budget
from schemas.rows import Pages, PartKind, Tiling, outcomes_schema
from schemas.selection import Selection
from schemas.tasks.ask import OF_CONTENT
from workers.engines import EngineConfig
from workers.expand import ExpandOptions
from workers.registry import ENGINES, resolve
from workers.segments import VERSION as SEGMENTATION
from workers.storage.factory import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from schemas.job import JobSpec, PartPool
    from schemas.tasks.base import Task
    from workers.engines import Engine
    from workers.prompt import Ask

DEFAULT_MODELS: dict[PartPool, str] = {"vision": "google/gemma-3-4b-it", "audio": "google/gemma-3n-E4B-it"}
POOL_PARTS: dict[PartPool, frozenset[PartKind]] = {
    "vision": frozenset({PartKind.PAGE, PartKind.IMAGE}),
    "audio": frozenset({PartKind.AUDIO}),
}
MAX_MODEL_LEN = 8_192
"""Of Gemma's 128 K: a page is 256 tokens and an answer some thousand; KV cache is the GPU's memory."""


@dataclass(frozen=True)
class Lane:
    """One engine pool and what leads to it: the kinds of part it takes, its model, its questions."""

    pool: PartPool
    model: Model
    config: EngineConfig
    asks: tuple[Ask, ...]
    wholes: tuple[Ask, ...]
    expand: ExpandOptions
    names: Ask | None = None

    @property
    def tasks_by_kind(self) -> dict[str, list[str]]:
        """Part kind -> the names of the tasks asked of it here."""
        return {
            kind.value: [ask.task.name for ask in self.asks if ask.asks(kind)]
            for kind in sorted(POOL_PARTS[self.pool])
        }

    @property
    def wholes_by_kind(self) -> dict[str, list[str]]:
        """Part kind -> the names of the tasks asked besides about a document of several such parts."""
        return {
            kind.value: [ask.task.name for ask in self.wholes if ask.asks(kind)]
            for kind in sorted(POOL_PARTS[self.pool])
        }


@dataclass(frozen=True)
class Plan:
    """A job made ready. `lanes` is in order: the first also takes what belongs to none."""

    job: JobSpec
    run_id: str
    lanes: tuple[Lane, ...]
    attributes: pa.DataType | None
    selection: Selection = Selection()

    @property
    def attaches(self) -> bool:
        """Whether documents with the same content are answered once. Not where a question names what tells
        them apart, their names or columns of their own: its answers are of these as well."""
        named = {column for lane in self.lanes for ask in lane.asks for column in ask.task.columns}
        return self.job.duplicates.attach and named <= OF_CONTENT

    @property
    def output(self) -> str:
        """The job's output, spelled the one way its addresses are."""
        return normalise(self.job.output)

    @property
    def data_types(self) -> dict[str, pa.DataType]:
        """Task name -> the Arrow type of its typed answers."""
        types = {task.name: task.data_type() for task in self.job.tasks}
        return {name: data_type for name, data_type in types.items() if data_type is not None}

    @property
    def schema(self) -> pa.Schema:
        """What leaves the engines in this job."""
        return outcomes_schema(self.data_types, self.attributes)

    @property
    def fingerprints(self) -> dict[str, list[str]]:
        """Task name -> fingerprints of its answers in this job: one for each model that it is asked of, and
        one more for each where it is asked about whole documents."""
        found: dict[str, list[str]] = {}
        for lane in self.lanes:
            for ask in (*lane.asks, *lane.wholes):
                found.setdefault(ask.task.name, []).append(ask.fingerprint)
        return found

    @property
    def ingredients(self) -> dict[str, list[Mapping[str, str]]]:
        """Task name -> what the fingerprints of its answers are made of."""
        found: dict[str, list[Mapping[str, str]]] = {}
        for lane in self.lanes:
            for ask in (*lane.asks, *lane.wholes):
                found.setdefault(ask.task.name, []).append(ask.made_of)
        return found

    @property
    def tasks_by_kind(self) -> dict[str, list[str]]:
        """Part kind -> the tasks asked of it, over all lanes."""
        return {kind: names for lane in self.lanes for kind, names in lane.tasks_by_kind.items()}

    @property
    def wholes_by_kind(self) -> dict[str, list[str]]:
        """Part kind -> the tasks asked besides about a document of several such parts, over all lanes."""
        return {kind: names for lane in self.lanes for kind, names in lane.wholes_by_kind.items()}

    @property
    def metadata(self) -> dict[str, str]:
        """What every part file says of itself in its Parquet metadata."""
        made_of = {
            ask.fingerprint: canonical(ask.made_of)
            for lane in self.lanes
            for ask in (*lane.asks, *lane.wholes)
        }
        return {"job": digest("job", canonical(self.job.public())), **made_of}


def make_plan(
    job: JobSpec, attributes: pa.DataType | None, gpus: float, selection: Selection | None = None
) -> Plan:
    """Resolve models, budgets and fingerprints.

    Args:
        job: as the user wrote it.
        attributes: type of the manifest's own columns, if it has any.
        gpus: GPUs per engine.
        selection: which of the documents this run works on; all that owe answers if not given.

    Raises:
        JobError: an unknown model or engine; engine options that do not hold; a task that no model can
            take; no room for answers.
    """
    lanes = tuple(_lane(job, pool, tasks, gpus, attributes) for pool, tasks in pools_of(job.asked))
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    run_id = f"{stamp}-{secrets.token_hex(3)}"
    return Plan(job, run_id, lanes, attributes, selection or Selection())


def pools_of(tasks: Iterable[Task]) -> list[tuple[PartPool, list[Task]]]:
    """The pools that these tasks need, each with those it is asked."""
    pools: list[tuple[PartPool, list[Task]]] = [
        (pool, [task for task in tasks if task.asked_of & parts]) for pool, parts in POOL_PARTS.items()
    ]
    return [(pool, asked) for pool, asked in pools if asked]


def _lane(
    job: JobSpec, pool: PartPool, tasks: list[Task], gpus: float, attributes: pa.DataType | None
) -> Lane:
    engine = resolve(ENGINES, job.engine.kind, "engine")
    refuse_double(job, engine)
    refuse_unsafe(job, engine)
    model = _model(job, pool, engine)
    if pool == "audio" and model.clip_tokens:
        model = model.hearing()
    if not model.parts & POOL_PARTS[pool]:
        raise JobError(
            f"models.{pool}: {model.source} is shown {sorted(model.parts)} only", key=f"models.{pool}"
        )
    refuse_unfit(job, pool, tasks, model, engine)
    refuse_adapters_elsewhere(job, tasks, engine)
    adapters = adapters_for((task.adapter for task in tasks), job.models.adapters, model)
    length = min(job.engine.max_model_len or MAX_MODEL_LEN, model.context_tokens)
    config = EngineConfig(
        model=model,
        max_num_seqs=job.engine.max_num_seqs or (256 if gpus else 16),
        max_model_len=length,
        gpus=gpus,
        seed=job.seed,
        request_seconds=job.limits.request_seconds,
        options=job.engine.options,
        adapters=adapters,
        confidence=job.engine.confidence,
    )
    _check(engine, config)
    # Of how pictures are shown, nothing is for recordings: their fingerprints have what is usual.
    shown = job.expand if pool == "vision" else PageOptions()
    expand = ExpandOptions(
        passwords=job.expand.tried(),
        pages=shown.pages,
        text_characters=room_for_text(tasks, length) if shown.pages is not Pages.IMAGE else 0,
        checked_share=job.expand.checked_share if any(map(_is_checked, tasks)) else 0,
        hashed=job.duplicates.images is not None and pool == "vision",
        upright=shown.upright if pool == "vision" else None,
        tiling=_tiling(job, pool, model, engine),
        image_size=shown.image_size or model.image_size,
        jpeg_quality=shown.jpeg_quality,
        segment_seconds=model.clip_seconds,
        segmentation=SEGMENTATION if pool == "audio" else None,
    )
    asks = tuple(make_ask(job, task, config, expand, attributes) for task in tasks)
    wholes = tuple(whole for ask in asks if (whole := make_whole(job, ask, config, expand)))
    return Lane(pool, model, config, asks, wholes, expand, make_names(job, config))


def _model(job: JobSpec, pool: PartPool, engine: type[Engine]) -> Model:
    """Who answers. A server's model that the table does not know has the measures of the pool's default; one
    that goes by a name of the server's own is, for all that is known here, other weights."""
    asked = getattr(job.models, pool) or DEFAULT_MODELS[pool]
    if engine.hosts_model:
        pinned = _pinned(find_model(asked), job.engine.options)
        budgeted = _budgeted(pinned, job.engine.options)
        return budgeted if pool == "vision" else pinned
    try:
        model = find_model(asked)
    except JobError:
        if Path(asked).is_absolute():
            raise
        model = find_model(DEFAULT_MODELS[pool]).model_copy(update={"source": asked, "revision": "served"})
    served = job.engine.options.get("model")
    return model.model_copy(update={"revision": str(served)}) if served else model


def _pinned(model: Model, options: Mapping[str, Any]) -> Model:
    """The model at the commit that the engine is told to load; a folder has but one."""
    commit = None if model.is_folder else options.get("revision")
    return model.model_copy(update={"revision": str(commit)}) if commit else model


def _budgeted(model: Model, options: Mapping[str, Any]) -> Model:
    """The model, with as many tokens an image as the engine is told to give it, where there is a choice."""
    told = options.get("mm_processor_kwargs")
    tokens = told.get("max_soft_tokens") if isinstance(told, dict) else None
    if model.family != "gemma4" or tokens is None:
        return model
    if tokens not in GEMMA4_BUDGETS:
        raise JobError(
            f"engine.options.mm_processor_kwargs.max_soft_tokens: {tokens!r} is none of "
            f"{', '.join(map(str, GEMMA4_BUDGETS))}",
            key="engine.options",
        )
    return model.model_copy(update=gemma4_budget(tokens))


def _tiling(job: JobSpec, pool: PartPool, model: Model, engine: type[Engine]) -> Tiling | None:
    """None where there is none: fingerprints of such jobs do not mention it."""
    if pool != "vision" or job.expand.tiling is Tiling.OFF:
        return None
    refuse_tiles(job, model, engine)
    return job.expand.tiling


def _check(engine: type[Engine], config: EngineConfig) -> None:
    """Refuse here what its worker would refuse. What was given is not repeated: it may be a key."""
    try:
        engine(config)
    except ValidationError as error:
        faults = [
            f"  engine.options.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        ]
        raise JobError(
            "the engine's options do not hold:\n" + "\n".join(faults), key="engine.options"
        ) from None


def _is_checked(task: Task) -> bool:
    """Whether its answers about pages can be held against their text layers."""
    return task.copies and PartKind.PAGE in task.asked_of
