"""job -> plan: everything that can be known, checked and refused before anything is started."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.errors import JobError
from schemas.fingerprint import fingerprint, ingredients
from schemas.ids import canonical, digest
from schemas.models import Model, find_model
from schemas.models.adapter import adapters_for
from schemas.rows import PartKind, outcomes_schema
from schemas.selection import Selection
from workers.engines import EngineConfig
from workers.expand import ExpandOptions
from workers.prompt import Ask
from workers.registry import ENGINES, SINKS, resolve
from workers.storage.factory import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from schemas.job import JobSpec, PartPool
    from schemas.tasks.base import Task

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
    def fingerprints(self) -> dict[str, str]:
        """Task name -> fingerprint of its answers in this job."""
        return {ask.task.name: ask.fingerprint for lane in self.lanes for ask in lane.asks}

    @property
    def ingredients(self) -> dict[str, Mapping[str, str]]:
        """Task name -> what the fingerprint of its answers is made of."""
        return {ask.task.name: ask.made_of for lane in self.lanes for ask in lane.asks}

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
        JobError: an unknown model, engine or sink; a task that no model can take; no room for answers.
    """
    resolve(ENGINES, job.engine.kind, "engine")
    resolve(SINKS, job.sink.kind, "sink")
    lanes = tuple(_lane(job, pool, tasks, gpus) for pool, tasks in pools_of(job.tasks))
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    run_id = f"{stamp}-{secrets.token_hex(3)}"
    return Plan(job, run_id, lanes, attributes, selection or Selection())


def pools_of(tasks: Iterable[Task]) -> list[tuple[PartPool, list[Task]]]:
    """The pools that these tasks need, each with those it is asked."""
    pools: list[tuple[PartPool, list[Task]]] = [
        (pool, [task for task in tasks if task.parts & parts]) for pool, parts in POOL_PARTS.items()
    ]
    return [(pool, asked) for pool, asked in pools if asked]


def _lane(job: JobSpec, pool: PartPool, tasks: list[Task], gpus: float) -> Lane:
    model = find_model(getattr(job.models, pool) or DEFAULT_MODELS[pool])
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
        options=job.engine.options,
        adapters=adapters,
    )
    expand = ExpandOptions(
        passwords=job.expand.passwords,
        image_size=job.expand.image_size or model.image_size,
        jpeg_quality=job.expand.jpeg_quality,
        segment_seconds=model.clip_seconds,
    )
    return Lane(pool, model, config, tuple(_ask(job, task, config, expand) for task in tasks), expand)


def _ask(job: JobSpec, task: Task, config: EngineConfig, expand: ExpandOptions) -> Ask:
    model, length = config.model, config.max_model_len
    asked = task.question()
    # A token is at least a character, so the question's length bounds its tokens from above.
    room = min(job.limits.answer_tokens, length - model.media_tokens - len(asked) - TEMPLATE_TOKENS)
    if room < MIN_ANSWER_TOKENS:
        raise JobError(
            f"tasks.{task.name}: a question of {len(asked)} characters and {model.media_tokens} media tokens "
            f"leave no room in {length} tokens; raise engine.max_model_len or limits.answer_tokens",
            key=f"tasks.{task.name}",
        )
    shown = expand.model_dump(mode="json", exclude={"passwords"})
    adapter = config.adapters[task.adapter] if task.adapter else None
    made_of = ingredients(task, model, shown, job.seed, adapter)
    return Ask(
        task=task,
        question=asked,
        fingerprint=fingerprint(made_of),
        made_of=made_of,
        max_tokens=min(task.max_tokens, room),
        ceiling_tokens=room,
        seed=job.seed,
    )
