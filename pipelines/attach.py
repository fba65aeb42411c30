"""Documents with the same content are answered once: here each of the others is given the answers.

It is a pass behind the stream, over the part files, before the run settles. What it writes are records and
errors like any others, but for their costs, which were paid once. A run that ends before has written nothing
of it: those documents owe their answers still, and the next run meets them again, at the price of a download.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.cluster import unwrapped
from pipelines.runs import names_of
from schemas.rows import ERRORS, IDENTITY, records_schema, with_attributes
from workers.sinks.parquet import DUPLICATES, ParquetSink
from workers.sinks.reading import read_part, read_parts
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.plan import Plan
    from workers.storage import ObjectInfo

RETRIES = 5
OF_ITS_OWN = (*IDENTITY.names, "attributes")
"""What a duplicate's rows say of it and not of the original."""
PAID = (
    *("attempts", "prompt_tokens", "cached_tokens", "output_tokens"),
    *("seconds", "queue_seconds", "generation_seconds"),
)
"""What the answers cost, which is in the original's rows and null in the others': sums stay right."""


def attach(plan: Plan) -> int:
    """Give the duplicates of a run the records and errors of their originals. Runs on the connected Ray.

    Returns:
        How many documents they are.

    Raises:
        GemstreamError: the output cannot be read or written; the next run makes up for it.
    """
    import ray

    duplicates = _duplicates(plan)
    if not len(duplicates):
        return 0
    originals = _originals(plan, duplicates)
    told = ray.put((duplicates, originals))
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(copy_rows)
    work = [(name, info) for name, infos in _files(plan, originals) for info in infos]
    try:
        ray.get([task.remote(plan, name, info, told) for name, info in work])
    except ray.exceptions.RayError as error:
        raise unwrapped(error) from error
    return len(duplicates)


def copy_rows(plan: Plan, task: str | None, info: ObjectInfo, told: tuple[pa.Table, pa.Array]) -> None:
    """Write the rows of originals in one part file again, for each of their duplicates.

    Args:
        plan: the run.
        task: whose records the file holds; None if it holds errors.
        info: of the file.
        told: the run's duplicates, and the names of their originals.
    """
    duplicates, originals = told
    schema = with_attributes(ERRORS, plan.attributes)
    if task is not None:
        schema = records_schema(plan.data_types.get(task), plan.attributes)
    rows = read_part(open_storage(info.uri, plan.job.storage), info, schema.names).rows
    rows = rows.filter(pc.is_in(names_of(rows), originals))
    if task is not None:
        rows = rows.filter(pc.is_in(rows["fingerprint"], pa.array(plan.fingerprints[task])))
    copies = attached(rows.cast(schema), duplicates, plan.run_id)
    if len(copies):
        sink = ParquetSink(
            plan.output, plan.job.storage, plan.data_types, plan.attributes, plan.run_id, plan.metadata
        )
        sink.write_rows(copies, task)


def attached(rows: pa.Table, duplicates: pa.Table, run_id: str) -> pa.Table:
    """Rows about originals as rows about their duplicates, for each of them.

    Args:
        rows: records or errors, `document_digest` among them.
        duplicates: DUPLICATES.
        run_id: of the run that attaches them.
    """
    import numpy as np

    digests = pc.unique(duplicates["document_digest"])
    of_rows = pc.index_in(rows["document_digest"], digests).to_numpy()
    of_them = pc.index_in(duplicates["document_digest"], digests).to_numpy()
    order = np.argsort(of_them, kind="stable")
    starts = np.searchsorted(of_them[order], of_rows, side="left")
    counts = np.searchsorted(of_them[order], of_rows, side="right") - starts
    source = np.repeat(np.arange(len(rows)), counts)
    after = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    target = order[np.repeat(starts, counts) + after]
    copies, theirs = rows.take(pa.array(source)), duplicates.take(pa.array(target))
    columns = {name: theirs[name] for name in OF_ITS_OWN if name in theirs.column_names}
    columns |= {
        name: pa.nulls(len(copies), rows.schema.field(name).type)
        for name in PAID
        if name in rows.column_names
    }
    columns["run_id"] = pa.repeat(pa.scalar(run_id), len(copies))
    return pa.table({field.name: columns.get(field.name, copies[field.name]) for field in rows.schema}).cast(
        rows.schema
    )


def _duplicates(plan: Plan) -> pa.Table:
    schema = with_attributes(DUPLICATES, plan.attributes)
    tables = [schema.empty_table()]
    folder = f"_runs/{plan.run_id}/duplicates"
    for part in read_parts(plan.output, plan.job.storage, folder, schema.names):
        tables.append(part.rows.cast(schema))
    return pa.concat_tables(tables).combine_chunks()


def _originals(plan: Plan, duplicates: pa.Table) -> pa.Array:
    """Names (`document_id/version`), one for each content: of the document with most answers, or, of those
    that have none, with most errors."""
    digests, own = pc.unique(duplicates["document_digest"]), names_of(duplicates).combine_chunks()
    score: Counter[tuple[str, str]] = Counter()
    columns = ["document_id", "version", "document_digest"]
    for task, asked in plan.fingerprints.items():
        wanted = [*columns, "fingerprint"]
        for part in read_parts(plan.output, plan.job.storage, f"records/task={task}", wanted):
            rows = part.rows.filter(pc.is_in(part.rows["fingerprint"], pa.array(asked)))
            score.update(_named(rows, digests, own, 1_000_000))
    for part in read_parts(plan.output, plan.job.storage, "errors", columns):
        score.update(_named(part.rows, digests, own, 1))
    best: dict[str, tuple[int, str]] = {}
    for (digest, name), count in score.items():
        best[digest] = max(best.get(digest, (0, "")), (count, name))
    return pa.array([name for _, name in best.values()], pa.string())


def _named(rows: pa.Table, digests: pa.Array, own: pa.Array, weight: int) -> dict[tuple[str, str], int]:
    """How often each document with one of these contents is spoken of, but for those that wait."""
    rows = rows.filter(pc.is_in(rows["document_digest"], digests))
    named = pa.table({"digest": rows["document_digest"], "name": names_of(rows)})
    named = named.filter(pc.invert(pc.is_in(named["name"], own)))
    counted = named.group_by(["digest", "name"]).aggregate([([], "count_all")])
    return {(row["digest"], row["name"]): weight * row["count_all"] for row in counted.to_pylist()}


def _files(plan: Plan, originals: pa.Array) -> Iterator[tuple[str | None, list[ObjectInfo]]]:
    """Part files with rows about originals, by task; under None, those with errors."""
    columns = ["document_id", "version"]
    folders: dict[str | None, str] = {task: f"records/task={task}" for task in plan.fingerprints}
    for task, folder in {**folders, None: "errors"}.items():
        yield (
            task,
            [
                part.info
                for part in read_parts(plan.output, plan.job.storage, folder, columns)
                if pc.any(pc.is_in(names_of(part.rows), originals)).as_py()
            ],
        )
