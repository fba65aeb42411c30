"""The engine stage alone: what several questions about one picture cost, and what a few long answers do.

The stage runs as an engine's actor runs it, tables at once and all, without Ray around it: what is measured
is the time in which its engine has work. The parts are made before anything is counted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks import inputs
from tests.benchmarks.contest import Contest, Turns, Work
from tests.benchmarks.portions import job_for, said
from tests.fixtures.runs import GEMMA3

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.plan import Lane
    from schemas.job import JobSpec
    from workers.infer import Infer

TABLE_ROWS = 8
"""Of the blocks that reach an engine."""
EVERY = 50
"""One in so many answers is long: `LONG` characters instead of `SHORT`, some 20 times the tokens. `EVEN` is
what all have instead where the tokens are spread evenly."""
SHORT, LONG, EVEN = 8, 312, 14
LABELS = ["invoice", "receipt", "letter", "drawing"]


def _job(folder: Path) -> JobSpec:
    tasks = [
        {"task": "ocr", "max_tokens": 64},
        "caption",
        {"task": "classify", "labels": LABELS},
        said("short", SHORT),
        said("long", LONG),
        said("even", EVEN),
    ]
    engine = {"max_num_seqs": 16, "max_model_len": 2048}
    return job_for(folder, tasks, models={"vision": str(GEMMA3)}, engine=engine)


def plain(folder: Path, turns: Turns) -> None:
    """One task on each picture; answers of one length."""
    _stage(folder, turns, {"three-tasks": lambda row: {"ocr"}, "long-tail": lambda row: {"even"}})


def mixed(folder: Path, turns: Turns) -> None:
    """Three tasks on each picture; a few answers that are long."""
    _stage(
        folder,
        turns,
        {
            "three-tasks": lambda row: {"ocr", "caption", "classify"},
            "long-tail": lambda row: {"long" if row % EVERY == EVERY // 2 else "short"},
        },
    )


def _stage(folder: Path, turns: Turns, asked: dict[str, Any]) -> None:
    from pipelines.graph import blocks_in_flight
    from pipelines.plan import make_plan
    from workers.engines.vllm import VllmEngine
    from workers.infer import Infer, InferRecipe

    os.environ.update(VllmEngine.environment(0))
    job = _job(folder)
    plan = make_plan(job, None, 0.0)
    (lane,) = plan.lanes
    stage = Infer(InferRecipe(job.engine.kind, lane.config, lane.asks, plan.schema, plan.run_id, job.limits))

    async def each() -> None:
        for portion in turns:
            tables = list(_parts(portion, lane, asked[portion.parent.name]))
            began = asyncio.get_running_loop().time()
            outcomes = await _answered(stage, iter(tables), blocks_in_flight(lane))
            seconds = asyncio.get_running_loop().time() - began
            pictures, tokens = _counted(outcomes)
            turns.answered(pictures, seconds, tokens)

    asyncio.run(each())
    stage.close()


async def _answered(stage: Infer, tables: Iterator[pa.Table], at_once: int) -> list[pa.Table]:
    """So many tables in work at any time, as Ray gives them to an actor."""
    outcomes: list[pa.Table] = []

    async def work() -> None:
        for table in tables:
            outcomes.extend([outcome async for outcome in stage(table)])

    await asyncio.gather(*(work() for _ in range(at_once)))
    return outcomes


def _counted(outcomes: list[pa.Table]) -> tuple[int, int]:
    """Pictures and tokens; what was not answered is an error."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.concat_tables(outcomes)
    if rows["error"].null_count < len(rows):
        raise RuntimeError(f"the stage failed: {rows['error'].drop_null()[0]}")
    return pc.count_distinct(rows["document_id"]).as_py(), pc.sum(rows["output_tokens"]).as_py()


def _parts(portion: Path, lane: Lane, asked: Any) -> Iterator[pa.Table]:
    """The portion's pictures as parts; the answers that are not wanted count as given."""
    import pyarrow as pa

    from pipelines.sources import open_source
    from schemas.limits import Limits
    from schemas.storage import StorageOptions
    from workers.expander import Expand

    documents = pa.concat_tables(open_source([str(portion)], StorageOptions()).documents())
    expand = Expand(StorageOptions(), lane.expand, Limits(), lane.tasks_by_kind)
    try:
        parts = pa.concat_tables(expand(documents))
    finally:
        expand.close()
    names = [ask.task.name for ask in lane.asks]
    kept = [[name for name in names if name not in asked(row)] for row in range(len(parts))]
    where = parts.schema.get_field_index("kept")
    parts = parts.set_column(where, parts.schema.field(where), pa.array(kept, parts.schema.field(where).type))
    for start in range(0, len(parts), TABLE_ROWS):
        yield parts.slice(start, TABLE_ROWS)


PAIRS = {
    "engine-stage": Contest(
        "engine-stage",
        "mixed",
        "plain",
        "itself",
        (
            Work(
                "three-tasks",
                "ocr, caption and classify of each picture of 384 px, against ocr alone; time in which the "
                "engine stage has work, engine warm; the target is 1.6 times as long",
                "image",
                1 / 1.6,
                400,
                inputs.pictures,
                turns=2,
            ),
            Work(
                "long-tail",
                "one answer in 50 is 20 times as long as the others, against as many tokens spread evenly "
                "over as many answers; lengths fixed by a schema of one value; engine stage, engine warm",
                "answer",
                0.9,
                1_000,
                inputs.pictures,
                8 * EVERY,
            ),
        ),
    )
}
