"""plan -> one Ray Data graph. The only place that knows how a stage becomes an operator.

    feed -> read(lane) -> repartition -> expand -> infer -> union -> (refs to) outcomes
    part files -> read(wholes) -> infer -> union -> (refs to) outcomes

One branch per lane, so that each engine pool has its own way to documents and waits for no other.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from pipelines.cluster import cores, exporting
from pipelines.feed import read_chunk
from pipelines.originals import OriginalsHandle
from pipelines.whole import read_wholes, wholes_schema
from schemas.rows import owing_schema
from workers.expander import Expand
from workers.infer import Infer, InferRecipe, places
from workers.registry import ENGINES, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from ray.actor import ActorHandle

    from pipelines.journal import JournalHandle
    from pipelines.meter import MeterHandle
    from pipelines.plan import Lane, Plan
    from pipelines.whole import Group
    from schemas.job import EngineOptions, PartPool
    from workers.prompt import Ask

BLOCK_BYTES = 1024 * 1024
"""Ray cuts blocks at this size: some ten pages, one long clip. Its default of 128 MiB would hold the
first 1,000 pages back from an engine that waits for them."""
DOCUMENTS_PER_TASK = 16
"""As many photos as make a block or two, since what a block costs by itself (some 20 ms of CPU, all processes
together) is paid for each; few enough that a PDF of 3,000 pages among them delays fifteen others at most."""
ROWS_A_BLOCK: dict[PartPool, int] = {"vision": 8, "audio": 1}
"""Parts of some size in a block of BLOCK_BYTES: a page is 60 to 150 kB, 30 s of sound are 1.9 MB."""
FEWEST_BLOCKS = 8
"""That an engine's actor works on at once, and that wait there for one of them to end."""
READ_MEMORY = 256 * 1024 * 1024
"""Bytes of a task that follows the feed: a worker process, most of it libraries that all of them share."""
EXPAND_MEMORY = 1024 * 1024 * 1024
"""Bytes of an expand worker, for Ray to plan by: 231 MiB of its own and 160 of its parser's process over the
examples, and room for a scan of 100 megapixels. What no parser may exceed is `limits.expand_bytes`."""


@dataclass(frozen=True)
class Sizing:
    """What this cluster gives each stage. `expand_memory` are bytes a worker; `metrics`: it exports some."""

    expand_workers: int
    expand_memory: int
    engine_replicas: tuple[int, int]
    gpus: float
    metrics: bool = False


class Reads(Datasource):
    """Tables that tasks of ours read, each in its order.

    Args:
        name: shown in Ray's own statistics.
        reads: one for each task.
        schema: of their tables.
    """

    def __init__(
        self, name: str, reads: Sequence[Callable[[], Iterator[pa.Table]]], schema: pa.Schema
    ) -> None:
        self._name = name
        self._reads = reads
        self._schema = schema

    def get_name(self) -> str:
        """Shown in Ray's own statistics."""
        return self._name

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before it is read."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """One each."""
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(read, metadata, schema=self._schema) for read in self._reads]

    def dataset(self) -> ray.data.Dataset:
        """All of it; its tasks wait more than they work."""
        return ray.data.read_datasource(
            self, override_num_blocks=len(self._reads), num_cpus=0.1, memory=READ_MEMORY
        )


def _follow(feed: ActorHandle[Any], plan: Plan, lane: str) -> Iterator[pa.Table]:
    """One lane of the feed, as its chunks are written."""
    index = 0
    while ray.get(feed.ready.remote(index)):
        yield from read_chunk(plan, index, lane)
        index += 1


def configure() -> None:
    """Ray Data's own settings, for this process's datasets."""
    context = DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Waiting for a GPU node or a model's download is no hang; what may hang has limits of its own.
    context.execution_no_progress_timeout_s = -1
    # A thread for each block in work, which looks at the memory of its whole process every second.
    context.memory_usage_poll_interval_s = None
    # A bad document is a row, not an exception, so an exception ends the run rather than a block.
    context.max_errored_blocks = 0
    # Ray's own wrapper around it loses what it wraps on the way to the driver, and with it what to do next.
    context.raise_original_map_exception = True
    # What it logs as an error it raises as well, and the log asks for a report to Ray of whatever ends a run.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # How many calls an actor takes at once has no named parameter in 2.60, which warns of the other way.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")


def build(
    plan: Plan, feed: ActorHandle[Any], meter: MeterHandle, journal: JournalHandle, sizing: Sizing
) -> ray.data.Dataset:
    """The whole graph, not started."""
    configure()
    first, *rest = (_branch(plan, lane, feed, meter, journal, sizing) for lane in plan.lanes)
    return first.union(*rest) if rest else first


def build_wholes(
    plan: Plan,
    groups: Mapping[str, Sequence[Group]],
    meter: MeterHandle,
    journal: JournalHandle,
    sizing: Sizing,
) -> ray.data.Dataset:
    """The pass about whole documents, not started.

    Args:
        plan: the run.
        groups: by lane, of those lanes that have any.
        meter: where stages say how far they are.
        journal: where they name what is in hand.
        sizing: as in `build`.
    """
    configure()
    branches = [
        _infer(
            Reads(
                f"Wholes[{lane.pool}]",
                [partial(read_wholes, plan, group) for group in groups[lane.pool]],
                wholes_schema(plan),
            ).dataset(),
            plan,
            lane,
            lane.wholes,
            meter,
            journal,
            sizing,
        )
        for lane in plan.lanes
        if lane.pool in groups
    ]
    first, *rest = branches
    return first.union(*rest) if rest else first


def _branch(
    plan: Plan,
    lane: Lane,
    feed: ActorHandle[Any],
    meter: MeterHandle,
    journal: JournalHandle,
    sizing: Sizing,
) -> ray.data.Dataset:
    job = plan.job
    follow = partial(_follow, feed, plan, lane.pool)
    documents = Reads(f"Feed[{lane.pool}]", [follow], owing_schema(plan.attributes)).dataset()
    parts = documents.repartition(target_num_rows_per_block=DOCUMENTS_PER_TASK).map_batches(
        Expand,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(min_size=1, max_size=sizing.expand_workers),
        num_cpus=1,
        memory=sizing.expand_memory,
        fn_constructor_kwargs={
            "storage": job.storage,
            "options": lane.expand,
            "limits": job.limits,
            "tasks_by_kind": lane.tasks_by_kind,
            "meter": replace(meter, lane=lane.pool),
            "journal": journal,
            "originals": OriginalsHandle(feed) if plan.attaches else None,
            "elsewhere": [
                kind for kind, asked in plan.tasks_by_kind.items() if asked and kind not in lane.tasks_by_kind
            ],
        },
    )
    return _infer(parts, plan, lane, lane.asks, meter, journal, sizing)


def _infer(
    parts: ray.data.Dataset,
    plan: Plan,
    lane: Lane,
    asks: tuple[Ask, ...],
    meter: MeterHandle,
    journal: JournalHandle,
    sizing: Sizing,
) -> ray.data.Dataset:
    job = plan.job
    recipe = InferRecipe(
        engine=job.engine.kind,
        config=replace(lane.config, metrics=sizing.metrics),
        asks=asks,
        schema=plan.schema,
        run_id=plan.run_id,
        limits=job.limits,
        privacy=job.privacy,
        names=lane.names,
    )
    least, most = sizing.engine_replicas
    blocks = blocks_in_flight(lane)
    # As `map_groups` has it: `map_batches` refuses whole blocks as batches of an actor with a GPU, and a size
    # would hold blocks back until that many rows are together.
    return parts.map_batches_internal(
        Infer,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(
            min_size=least, max_size=most, max_tasks_in_flight_per_actor=blocks + FEWEST_BLOCKS
        ),
        max_concurrency=blocks,
        num_cpus=1,
        num_gpus=sizing.gpus,
        label_selector=job.engine.node_labels.get(lane.pool),
        runtime_env={"env_vars": resolve(ENGINES, job.engine.kind, "engine").environment(sizing.gpus)},
        fn_constructor_kwargs={"recipe": recipe, "meter": replace(meter, lane=lane.pool), "journal": journal},
    )


def blocks_in_flight(lane: Lane) -> int:
    """Blocks that an engine's actor works on at once, so that there is a request for each of its places.

    A block is there until its slowest row is answered, so of blocks of several rows there are twice as many
    as would fill the places: one answer 20 times as long as the others leaves seven places to somebody else.
    """
    rows = ROWS_A_BLOCK[lane.pool]
    slack = 1 if rows == 1 else 2
    return max(FEWEST_BLOCKS, math.ceil(slack * places(lane.config) / rows))


def size(plan: Plan) -> Sizing:
    """What the cluster that Ray is connected to gives each stage of this job."""
    cpus = cores()
    options = plan.job.engine
    lanes = len(plan.lanes)
    spare = max(lanes, cpus - lanes * options.replicas)
    workers = plan.job.expand.workers or max(1, spare // lanes)
    # A worker that asks for more than there is would be waited for without end.
    memory = int(ray.cluster_resources().get("memory", 0)) // (2 * lanes * workers)
    return Sizing(
        expand_workers=workers,
        expand_memory=min(EXPAND_MEMORY, memory),
        engine_replicas=(options.replicas, options.max_replicas or options.replicas),
        gpus=gpus_per_engine(options),
        metrics=exporting(),
    )


def gpus_per_engine(options: EngineOptions) -> float:
    """One whole GPU where Ray sees any and the engine has a use for it, unless the job says otherwise."""
    if options.gpus is not None:
        return options.gpus
    hosts_model = resolve(ENGINES, options.kind, "engine").hosts_model
    return float(hosts_model and ray.cluster_resources().get("GPU", 0) > 0)
