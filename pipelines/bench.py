"""Rates of this machine, or of the cluster that `RAY_ADDRESS` names: measured with a job's own parts."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.choice import Memory, memory_of_cluster, settle_models
from pipelines.cluster import cluster, unwrapped
from pipelines.feed import places_of
from pipelines.plan import make_plan
from pipelines.runner import source_of
from schemas.errors import GemstreamError, JobError
from schemas.rates import EngineRates, Rates, name_of
from workers.infer import InferRecipe
from workers.probe import EngineProbe, Expanded, expand_probe
from workers.registry import ENGINES, resolve
from workers.sinks.parquet import ParquetSink
from workers.storage.factory import open_storage
from workers.tally import summarise, totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.plan import Lane, Plan
    from schemas.job import JobSpec
    from workers.probe import Measured

LISTED = 5_000
"""Keys of the source that are listed, to know how fast that goes and to sample from."""
LIST_SECONDS = 10.0
EXPAND_SECONDS = 15.0
"""Wall seconds of a part kind's probe after which no other document is begun."""
GET_SECONDS = 5.0


@dataclass(frozen=True)
class Sampled:
    """Documents from all over the start of the source, and how fast it was listed and read."""

    documents: pa.Table
    keys_per_second: float
    bytes_per_second: float


def bench(job: JobSpec, documents: int, say: Callable[[str], None] = lambda words: None) -> Rates:
    """Measure everything that a prediction for this job is made of.

    Args:
        job: whose documents, models, questions and engine settings are used; its output is left alone.
        documents: how many of its documents are expanded, at most.
        say: told what is being measured.

    Raises:
        JobError: the job cannot be run as it is, or its source has nothing that it asks about.
        GemstreamError: the source cannot be read, or an engine does not come up.
    """
    with cluster():
        from ray.exceptions import RayError

        from pipelines.graph import gpus_per_engine

        gpus = gpus_per_engine(job.engine)
        try:
            job = settle_models(job, lambda: memory_of_cluster(gpus)).job
            source = source_of(job)
            return _bench(make_plan(job, source.attributes, gpus), documents, say)
        except RayError as error:
            raise unwrapped(error) from error


def _bench(plan: Plan, documents: int, say: Callable[[str], None]) -> Rates:
    import ray

    say("source: listing and reading")
    sampled = _sample(plan, documents)
    expanded: dict[str, Expanded] = {}
    for lane in plan.lanes:
        for kind, names in lane.tasks_by_kind.items():
            if names:
                say(f"expand: {kind}")
                # Where expand runs in earnest: on one CPU of a worker.
                probe = ray.remote(num_cpus=1, max_retries=0)(expand_probe)
                expanded[kind] = ray.get(
                    probe.remote(
                        sampled.documents,
                        kind,
                        names,
                        plan.job.storage,
                        lane.expand,
                        plan.job.limits,
                        EXPAND_SECONDS,
                    )
                )
    seconds = {kind: found.cpu / found.count for kind, found in expanded.items() if found.count}
    if not seconds:
        raise JobError("bench: none of the sampled documents has a part that the job asks about", key="input")
    engines: dict[str, EngineRates] = {}
    records, spent = 0, 0.0
    for lane in plan.lanes:
        parts = [part for kind in lane.tasks_by_kind if kind in expanded for part in expanded[kind].parts]
        parts = [part for part in parts if len(part)]
        if not parts:
            say(f"engine: no part for {lane.model.source} in the sample, so it is not measured")
            continue
        say(f"engine: {lane.model.source}")
        found = _engine(plan, lane, pa.concat_tables(parts))
        engines[name_of(lane.model)] = EngineRates(
            prefill_tokens_per_second=_rounded(found.prefill),
            decode_tokens_per_second=_rounded(found.decode),
            media_seconds={kind: _rounded(found.media) for kind in lane.tasks_by_kind if kind in seconds},
            start_seconds=_rounded(found.start_seconds),
        )
        count = len(found.outcomes)
        records += count
        spent += count * (found.cpu_seconds + _writing(plan, found.outcomes))
    memory = memory_of_cluster(plan.lanes[0].config.gpus) if plan.lanes[0].config.gpus else Memory(0.0)
    return Rates(
        hardware=_hardware(memory),
        source=_source(plan, sampled, expanded),
        expand_seconds={kind: _rounded(each) for kind, each in seconds.items()},
        record_seconds=_rounded(spent / max(1, records)),
        engines=engines,
        list_keys_per_second=_rounded(sampled.keys_per_second),
        get_bytes_per_second=_rounded(sampled.bytes_per_second),
    )


def _sample(plan: Plan, count: int) -> Sampled:
    """List, take documents at even distances, and read them one after the other, as one thread does."""
    began, tables = time.monotonic(), []
    for table in source_of(plan.job).documents():
        tables.append(table)
        if sum(map(len, tables)) >= LISTED or time.monotonic() - began > LIST_SECONDS:
            break
    seconds = time.monotonic() - began
    listed = pa.concat_tables(tables) if tables else pa.table({"uri": []})
    if not len(listed):
        raise JobError("bench: there is no document under the input", key="input")
    taken = listed.take(
        [index * len(listed) // count for index in range(count)]
        if count < len(listed)
        else list(range(len(listed)))
    )
    began, size = time.monotonic(), 0
    for uri, version in zip(places_of(taken).to_pylist(), taken["version"].to_pylist(), strict=True):
        try:
            size += len(open_storage(uri, plan.job.storage).read(uri, version=version))
        except GemstreamError:  # what cannot be read is a run's error row, and no rate
            continue
        if time.monotonic() - began > GET_SECONDS:
            break
    return Sampled(taken, len(listed) / seconds, max(1, size) / (time.monotonic() - began))


def _engine(plan: Plan, lane: Lane, parts: pa.Table) -> Measured:
    """The lane's engine, in an actor as the run has it."""
    import ray

    job = plan.job
    environment = resolve(ENGINES, job.engine.kind, "engine").environment(lane.config.gpus)
    recipe = InferRecipe(
        engine=job.engine.kind,
        config=lane.config,
        asks=lane.asks,
        schema=plan.schema,
        run_id=plan.run_id,
        limits=job.limits,
    )
    options: dict[str, Any] = {"num_cpus": 1, "num_gpus": lane.config.gpus}
    actor = ray.remote(**options, runtime_env={"env_vars": environment})(EngineProbe).remote(recipe)
    try:
        measured: Measured = ray.get(actor.measure.remote(parts))
        return measured
    finally:
        ray.kill(actor)


def _writing(plan: Plan, outcomes: pa.Table) -> float:
    """CPU seconds of writing a record, through the job's sink to a folder of this machine."""
    with tempfile.TemporaryDirectory(prefix="gemstream-bench-") as folder:
        sink = ParquetSink(
            output=folder,
            storage_options=plan.job.storage,
            data_types=plan.data_types,
            attributes=plan.attributes,
            run_id=plan.run_id,
            metadata=plan.metadata,
        )
        began = time.process_time()
        sink.write(outcomes)
        summarise(outcomes)
        totals(outcomes)
        return (time.process_time() - began) / len(outcomes)


def _hardware(memory: Memory) -> str:
    models = re.findall(r"^model name\s*: (.*)$", _cpuinfo(), re.MULTILINE)
    cpus = f"{os.cpu_count()} x {models[0] if models else platform.machine()}"
    return f"{memory.gpu}, {cpus}" if memory.gpu else cpus


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


def _source(plan: Plan, sampled: Sampled, expanded: dict[str, Expanded]) -> str:
    parts = ", ".join(f"{found.count} {kind}s" for kind, found in expanded.items() if found.count)
    tasks = ", ".join(task.name for task in plan.job.tasks)
    load = os.getloadavg()[0]
    return (
        f"measured by gemstream bench on {datetime.now(UTC):%Y-%m-%d}: {len(sampled.documents)} documents, "
        f"{parts}, asked {tasks}; the machine's load was {load:.1f}"
    )


def _rounded(value: float) -> float:
    """To four figures: what a measurement of some seconds has at most."""
    return float(f"{value:.4g}")
