"""job -> plan: everything that can be known, checked and refused before anything is started."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from schemas.errors import JobError
from schemas.fingerprint import fingerprint, ingredients
from schemas.ids import canonical, digest
from schemas.models import Model, find_model
from schemas.models.adapter import adapters_for
from schemas.rows import Pages, PartKind, Shown, Tiling, Upright, outcomes_schema
from schemas.selection import Selection
from schemas.tasks.ask import COLUMNS
from workers.engines import EngineConfig
from workers.expand import ExpandOptions
from workers.prompt import Ask
from workers.registry import ENGINES, SINKS, resolve
from workers.segments import VERSION as SEGMENTATION
from workers.storage.factory import normalise
from workers.tiles import prompt_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from schemas.job import JobSpec, PartPool
    from schemas.tasks.base import Task
    from workers.engines import Engine

DEFAULT_MODELS: dict[PartPool, str] = {"vision": "google/gemma-3-4b-it", "audio": "google/gemma-3n-E4B-it"}
POOL_PARTS: dict[PartPool, frozenset[PartKind]] = {
    "vision": frozenset({PartKind.PAGE, PartKind.IMAGE}),
    "audio": frozenset({PartKind.AUDIO}),
}
MAX_MODEL_LEN = 8_192
"""Of Gemma's 128 K: a page is 256 tokens and an answer some thousand; KV cache is the GPU's memory."""
TEMPLATE_TOKENS = 32
"""Turn markers, BOS, and the newlines around the media."""
MIN_ANSWER_TOKENS = 16
MIN_TEXT_CHARACTERS = 500


@dataclass(frozen=True)
class Lane:
    """One engine pool and what leads to it: the kinds of part it takes, its model, its questions."""

    pool: PartPool
    model: Model
    config: EngineConfig
    asks: tuple[Ask, ...]
    expand: ExpandOptions

    @property
    def tasks_by_kind(self) -> dict[str, list[str]]:
        """Part kind -> the names of the tasks asked of it here."""
        return {
            kind.value: [ask.task.name for ask in self.asks if ask.asks(kind)]
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
        """Task name -> fingerprints of its answers in this job: one for each model that it is asked of."""
        found: dict[str, list[str]] = {}
        for lane in self.lanes:
            for ask in lane.asks:
                found.setdefault(ask.task.name, []).append(ask.fingerprint)
        return found

    @property
    def ingredients(self) -> dict[str, list[Mapping[str, str]]]:
        """Task name -> what the fingerprints of its answers are made of."""
        found: dict[str, list[Mapping[str, str]]] = {}
        for lane in self.lanes:
            for ask in lane.asks:
                found.setdefault(ask.task.name, []).append(ask.made_of)
        return found

    @property
    def tasks_by_kind(self) -> dict[str, list[str]]:
        """Part kind -> the tasks asked of it, over all lanes."""
        return {kind: names for lane in self.lanes for kind, names in lane.tasks_by_kind.items()}

    @property
    def metadata(self) -> dict[str, str]:
        """What every part file says of itself in its Parquet metadata."""
        made_of = {ask.fingerprint: canonical(ask.made_of) for lane in self.lanes for ask in lane.asks}
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
        JobError: an unknown model, engine or sink; engine options that do not hold; a task that no model can
            take; no room for answers.
    """
    resolve(SINKS, job.sink.kind, "sink")
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
    model = _model(job, pool, engine)
    if not model.parts & POOL_PARTS[pool]:
        raise JobError(
            f"models.{pool}: {model.source} is shown {sorted(model.parts)} only", key=f"models.{pool}"
        )
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
    )
    _check(engine, config)
    pages = job.expand.pages if pool == "vision" else Pages.IMAGE
    expand = ExpandOptions(
        passwords=job.expand.passwords,
        pages=pages,
        text_characters=_room_for_text(tasks, length) if pages is not Pages.IMAGE else 0,
        # Null by default, so that fingerprints do not mention what hardly a page needs.
        upright=Upright.METADATA if pool == "vision" and job.expand.upright is Upright.METADATA else None,
        tiling=_tiling(job, pool, engine),
        image_size=job.expand.image_size or model.image_size,
        jpeg_quality=job.expand.jpeg_quality,
        segment_seconds=model.clip_seconds,
        segmentation=SEGMENTATION if pool == "audio" else None,
    )
    asks = tuple(_ask(job, task, config, expand, attributes) for task in tasks)
    return Lane(pool, model, config, asks, expand)


def _model(job: JobSpec, pool: PartPool, engine: type[Engine]) -> Model:
    """Who answers. A server's model that the table does not know has the measures of the pool's default; one
    that goes by a name of the server's own is, for all that is known here, other weights."""
    asked = getattr(job.models, pool) or DEFAULT_MODELS[pool]
    if engine.hosts_model:
        return find_model(asked)
    try:
        model = find_model(asked)
    except JobError:
        if Path(asked).is_absolute():
            raise
        model = find_model(DEFAULT_MODELS[pool]).model_copy(update={"source": asked, "revision": "served"})
    served = job.engine.options.get("model")
    return model.model_copy(update={"revision": str(served)}) if served else model


def _tiling(job: JobSpec, pool: PartPool, engine: type[Engine]) -> Tiling | None:
    """None where there is none: fingerprints of such jobs do not mention it."""
    if pool != "vision" or job.expand.tiling is Tiling.OFF:
        return None
    if not engine.tiles:
        raise JobError(
            f"expand.tiling: the {job.engine.kind} engine cannot ask for tiles picture by picture; set it to "
            "off. A server of vLLM makes them of every picture when it is started with "
            """--mm-processor-kwargs '{"do_pan_and_scan": true}', which costs their tokens each time""",
            key="expand.tiling",
        )
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


def _shown(model: Model, expand: ExpandOptions) -> tuple[Shown, ...]:
    """The ways in which parts are put before this model in this job."""
    if PartKind.AUDIO in model.parts:
        return (Shown.AUDIO,)
    return (Shown.IMAGE,) if expand.pages is Pages.IMAGE else (Shown.IMAGE, Shown.TEXT)


def _room_for_text(tasks: list[Task], length: int) -> int:
    """Characters of a page's text that fit the context beside any task's question and answer: a token is at
    least a character."""
    taken = max(len(task.question(Shown.TEXT)) + task.max_tokens for task in tasks)
    room = length - TEMPLATE_TOKENS - taken
    if room < MIN_TEXT_CHARACTERS:
        raise JobError(
            f"expand.pages: {length} tokens of context leave no room for a page's text beside {taken} of "
            "question and answer; raise engine.max_model_len, lower tasks.max_tokens, or set it to image",
            key="expand.pages",
        )
    return room


def _refuse_unknown_columns(task: Task, attributes: pa.DataType | None) -> None:
    known = [*COLUMNS, *(field.name for field in attributes or ())]
    unknown = [name for name in task.columns if name not in known]
    if unknown:
        raise JobError(
            f"tasks.{task.name}: the prompt names ${unknown[0]}, and there is {', '.join(known)}",
            key=f"tasks.{task.name}.prompt",
        )


def _ask(
    job: JobSpec, task: Task, config: EngineConfig, expand: ExpandOptions, attributes: pa.DataType | None
) -> Ask:
    model, length = config.model, config.max_model_len
    questions = {how: task.question(how) for how in _shown(model, expand)}
    asked = max(questions.values(), key=len)
    # A token is at least a character, so the question's length bounds its tokens from above.
    media_tokens = model.media_tokens + (prompt_tokens(model.media_tokens) if expand.tiling else 0)
    part_tokens = max(media_tokens, expand.text_characters)
    room = min(job.limits.answer_tokens, length - part_tokens - len(asked) - TEMPLATE_TOKENS)
    if room < MIN_ANSWER_TOKENS:
        way_out = ", or set expand.tiling to off" if expand.tiling else ""
        raise JobError(
            f"tasks.{task.name}: a question of {len(asked)} characters and {media_tokens} media tokens leave "
            f"no room in {length} tokens; raise engine.max_model_len or limits.answer_tokens{way_out}",
            key=f"tasks.{task.name}",
        )
    _refuse_unknown_columns(task, attributes)
    options = expand.model_dump(mode="json", exclude={"passwords"}, exclude_none=True)
    adapter = config.adapters[task.adapter] if task.adapter else None
    made_of = ingredients(task, questions.values(), model, options, job.seed, adapter)
    return Ask(
        task=task,
        questions=questions,
        fingerprint=fingerprint(made_of),
        made_of=made_of,
        max_tokens=min(task.max_tokens, room),
        ceiling_tokens=room,
        seed=job.seed,
    )
