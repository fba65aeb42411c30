"""The same job as somebody would write it without us, in `ray.data.llm`.

It is used as its documentation shows for pictures: a preprocess that puts the file into a message, its
multimodal, chat template and tokenizer stages, its engine. Its engine arguments are ours.
"""

from __future__ import annotations

import base64
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tests.benchmarks import inputs
from tests.benchmarks.answering import ENGINE, RECORDINGS, _lane, audio_job, decoded
from tests.benchmarks.contest import LONG, Contest, Turns, Work
from tests.benchmarks.portions import PUSH_BYTES, job_for, run_portions
from tests.benchmarks.processes import Spent
from tests.fixtures.runs import GEMMA3

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.plan import Lane
    from schemas.job import JobSpec

SAME = {"confidence": False}  # the others do not ask how likely each token was
LOGICAL_CPUS = 8
BATCH = 16
LEAST = 6 * BATCH
LEFT = 5 * BATCH
"""Rows that may lie in its stages, each of which waits for a batch to be full, until the next portion comes.
Ours has answered all of a portion when its time ends."""
QUIET_SECONDS = 2.0
QUIET_CORES = 0.5
"""What all its processes take while they wait is 0.2 of a core, most of it Ray's own; an engine takes one."""
MOVED = {"vllm.entrypoints.chat_utils": "vllm.renderers.chat_utils"}
"""Ray 2.60 is made for vLLM 0.29, and this is all of what it uses that has another name in 0.32."""


class Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds vLLM's modules under their old names, when somebody asks for them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return importlib.import_module(MOVED[spec.name])

    def exec_module(self, module: ModuleType) -> None:
        """It is loaded."""


def old_names() -> None:
    """For each of Ray's workers, before anything else."""
    sys.meta_path.insert(0, Moved())


def _picture(row: dict[str, Any], question: str, sampling: dict[str, Any]) -> dict[str, Any]:
    """A message for the multimodal stage."""
    url = f"data:image/jpeg;base64,{base64.b64encode(Path(row['path']).read_bytes()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    return {"messages": [{"role": "user", "content": content}], "sampling_params": sampling}


def _recording(row: dict[str, Any], question: str, sampling: dict[str, Any]) -> dict[str, Any]:
    """A message whose sound is given beside it, as the engine stage takes it: what its multimodal stage makes
    of a recording, the engine refused without a word (EngineGenerateError, Ray 2.60 with vLLM 0.32)."""
    content = [{"type": "text", "text": question}, {"type": "audio", "text": ""}]
    return {
        "messages": [{"role": "user", "content": content}],
        "sampling_params": sampling,
        "multimodal_data": {"audio": decoded(Path(row["path"]), None)},
    }


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    return {"path": row["path"], "text": row["generated_text"], "tokens": row["num_generated_tokens"]}


def text_job(folder: Path, **engine: Any) -> JobSpec:
    """All text of each picture, some 25 tokens, until the model ends it."""
    tasks = [{"task": "ocr", "max_tokens": 64}]
    return job_for(folder, tasks, models={"vision": str(GEMMA3)}, engine=ENGINE | SAME | engine)


def text(folder: Path, turns: Turns) -> None:
    """Ours, of pictures."""
    run_portions(text_job(folder), folder, turns)


def audio(folder: Path, turns: Turns) -> None:
    """Ours, of recordings."""
    run_portions(audio_job(folder, **SAME), folder, turns)


def by_hand_text(folder: Path, turns: Turns) -> None:
    """`ray.data.llm`."""
    _ray_llm(folder, turns, _lane(text_job(folder)), _picture, multimodal=True)


def by_hand_audio(folder: Path, turns: Turns) -> None:
    """`ray.data.llm`."""
    _ray_llm(folder, turns, _lane(audio_job(folder, **SAME)), _recording, multimodal=False)


def _paths(pipe: Path) -> Iterator[pa.Table]:
    """The files of the folders that are named in a pipe; see `portions.PUSH_BYTES`."""
    import pyarrow as pa

    with pipe.open() as names:
        for name in names:
            paths = sorted(str(path) for path in Path(name.strip()).iterdir())
            push = ["." * PUSH_BYTES] + [""] * (len(paths) - 1)
            yield pa.table({"path": paths, "push": push})


def _ray_llm(folder: Path, turns: Turns, lane: Lane, message: Any, *, multimodal: bool) -> None:
    import ray
    from ray.data import DataContext
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from pipelines.graph import BLOCK_BYTES
    from tests.fixtures.served import EXTENSION
    from workers.engines.vllm import VllmEngine

    (ask,) = lane.asks
    (question,) = set(ask.questions.values())
    arguments = VllmEngine(lane.config).arguments()
    for ours in ("model", EXTENSION):
        arguments.pop(ours, None)
    sampling: dict[str, Any] = {"temperature": 0.0, "max_tokens": ask.max_tokens}
    schema = ask.task.json_schema()
    if schema is not None:
        sampling["structured_outputs"] = {"json": json.dumps(schema)}
    environment = {"env_vars": VllmEngine.environment(0), "worker_process_setup_hook": old_names}
    ray.init(
        "local", num_cpus=LOGICAL_CPUS, include_dashboard=False, log_to_driver=False, runtime_env=environment
    )
    # As ours: its own, of 128 MiB, would hold a whole portion back.
    DataContext.get_current().target_max_block_size = BLOCK_BYTES
    DataContext.get_current().enable_progress_bars = False
    old_names()
    process = build_processor(
        vLLMEngineProcessorConfig(
            model_source=lane.model.source,
            engine_kwargs=arguments,
            batch_size=BATCH,
            concurrency=1,
            placement_group_config={"bundles": [{"CPU": 1}]},
            # They need Ray's own dashboard libraries, and cost time.
            log_engine_metrics=False,
            prepare_multimodal_stage={"enabled": multimodal, "chat_template_content_format": "openai"},
        ),
        preprocess=partial(message, question=question, sampling=sampling),
        postprocess=_answer,
    )
    pipe = folder / "portions.pipe"
    os.mkfifo(pipe)
    _streamed(process, pipe, folder, turns)


def _streamed(process: Any, pipe: Path, folder: Path, turns: Turns) -> None:
    """Hand it portion after portion, and write what comes as Parquet.

    A portion's time ends with the last of what comes without another portion. What it leaves at work would be
    done at the expense of the other side, whose turn is next, and in none of its own.
    """
    import psutil
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipelines.graph import Reads

    schema = pa.schema([("path", pa.string()), ("push", pa.string())])
    rows = process(Reads("Paths", [partial(_paths, pipe)], schema).dataset())
    arrived: queue.Queue[tuple[float, Any]] = queue.Queue()

    def read() -> None:
        end: BaseException | None = None
        try:
            for table in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
                arrived.put((time.perf_counter(), table))
        except Exception as error:  # noqa: BLE001 - handed on, and raised there
            end = error
        arrived.put((time.perf_counter(), end))

    reading = threading.Thread(target=read, daemon=True)
    # Opening the pipe waits for whoever reads its other end, which is the first stage.
    reading.start()
    due = came = 0
    with closing(Spent(psutil.Process())) as spent, pipe.open("w") as names:
        for number, portion in enumerate(turns):
            count = len(list(portion.iterdir()))
            if count <= LEFT:
                raise ValueError(f"{count} are too few: {LEFT} may lie in the stages all the while")
            due, tables = due + count, []
            handed = last = time.perf_counter()
            print(portion, file=names, flush=True)
            while came < due:
                before = sum(spent.now().values())
                try:
                    last, table = arrived.get(timeout=QUIET_SECONDS)
                except queue.Empty:
                    took = sum(spent.now().values()) - before
                    if due - came <= LEFT and took < QUIET_CORES * QUIET_SECONDS:
                        break
                    continue
                if not isinstance(table, pa.Table):
                    raise table or RuntimeError("it ended before its time")
                tables.append(table)
                came += len(table)
            table = pa.concat_tables(tables)
            pq.write_table(table, folder / f"{number}.parquet", compression="zstd")
            # As many as came, which is more or less than a portion by what lay in its stages.
            turns.answered(count, (last - handed) * count / len(table), sum(table["tokens"].to_pylist()))
    number = 0
    while isinstance(rest := arrived.get()[1], pa.Table):
        pq.write_table(rest, folder / f"rest-{number}.parquet", compression="zstd")
        number += 1
    if rest is not None:
        raise rest


HAND = "against the same job in ray.data.llm, with its multimodal stage; engines of the same arguments, warm"
PAIRS = {
    contest.name: contest
    for contest in (
        Contest(
            "by-hand-images",
            "text",
            "by_hand_text",
            "ray.data.llm",
            (
                Work(
                    "by-hand-photos",
                    f"text of 4-megapixel photos, {HAND}",
                    "photo",
                    1.5,
                    96,
                    inputs.camera,
                    LEAST,
                    turns=1,
                ),
                Work(
                    "by-hand-tiny",
                    f"text of pictures of 192 px, {HAND}",
                    "image",
                    1.1,
                    LONG,
                    inputs.tiny,
                    LONG,
                    turns=2,
                ),
            ),
        ),
        Contest(
            "by-hand-audio",
            "audio",
            "by_hand_audio",
            "ray.data.llm",
            (
                Work(
                    "by-hand-audio",
                    f"256 tokens about each of recordings of 5 s, {HAND}",
                    "recording",
                    1.0,
                    RECORDINGS,
                    inputs.clips,
                    LEAST,
                    turns=2,
                ),
            ),
        ),
    )
}
