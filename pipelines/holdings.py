"""What the output holds of a job's answers: its key columns, read from the part files themselves.

There is no second store that could disagree with them. The ledger decides by it what is owed, the
sweep what has had its day, the audit what became of each document.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from pipelines.runs import NAME, encoded, joined, names_of, runs_of
from schemas.errors import ObjectChanged, ObjectMissing
from schemas.shard import Shard
from workers.sinks.parquet import FILTERED_FOLDER
from workers.sinks.reading import read_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipelines.plan import Plan
    from workers.storage import ObjectInfo

Ingredients = Mapping[str, str]

ATTEMPTS = 8

ROWS_AT_ONCE = 8_000_000
"""Records and errors that the end of a run looks at together: 16 GB at 1,950 bytes a row, at its peak. Fewer
would be more passes over the same files, of 0.3 us a row and what their requests take."""

FEW = 1_000_000
"""Names that are held beside those that are known, which may be the same."""

ANSWERS = pa.schema(
    [
        pa.field("file", pa.int32()),
        pa.field("task", pa.string()),
        pa.field("document_id", pa.string()),
        pa.field("version", pa.string()),
        pa.field("part_index", pa.int32()),
        pa.field("parts_total", pa.int32()),
        pa.field("part_kind", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("answered_at", pa.timestamp("us", tz="UTC")),
        pa.field("row", pa.int64()),
        pa.field("name", pa.string()),
        pa.field("current", pa.bool_()),
        pa.field("anew", pa.bool_()),
    ]
)
"""`file` is a place in `Holdings.files` and `row` one in that file; `name` is `document_id/version`, since
another version of an object is another document here; `current` says that it was asked as the job asks,
`anew` that this run wrote it."""

ERRORS = pa.schema(
    [
        pa.field("file", pa.int32()),
        pa.field("document_id", pa.string()),
        pa.field("version", pa.string()),
        pa.field("part_index", pa.int32()),
        pa.field("parts_total", pa.int32()),
        pa.field("part_kind", pa.string()),
        pa.field("task", pa.string()),
        pa.field("category", pa.string()),
        pa.field("run_id", pa.string()),
        pa.field("answered_at", pa.timestamp("us", tz="UTC")),
        pa.field("row", pa.int64()),
        pa.field("name", pa.string()),
    ]
)

FAULTS = pa.schema([pa.field("name", NAME), pa.field("category", pa.string())])
"""Each once, however many errors there are."""

_OURS = {"file", "task", "row", "name", "current", "anew"}


@dataclass(frozen=True)
class Holdings:
    """Memory: about 200 bytes a record.

    Attributes:
        answers: ANSWERS of the job's tasks, whatever job asked them.
        errors: ERRORS, of all tasks.
        filtered: names (`document_id/version`) of documents that some run had nothing to ask about.
        files: the part files that `file` counts in, with the versions that were read.
        made_of: fingerprint -> its ingredients, from the footers.
    """

    answers: pa.Table
    errors: pa.Table
    filtered: pa.Array
    files: tuple[ObjectInfo, ...]
    made_of: Mapping[str, Ingredients]

    @cached_property
    def standing(self) -> Standing:
        """The same, condensed to what the ledger decides by."""
        return Standing(
            runs=joined([runs_of(self.answers)]),
            faults=_faults_of(self.errors),
            filtered=self.filtered,
            made_of=self.made_of,
        )


@dataclass(frozen=True)
class Standing:
    """What the output holds of each document. Memory: 97 bytes a run, of which a document has one a task;
    while the ledger is made of it 334. A million records, of four pages a document, took 83 MB, and four
    million 334.

    Attributes:
        runs: RUNS of the job's tasks, whatever job asked them.
        faults: FAULTS, of all tasks.
        filtered: names (`document_id/version`) of documents that some run had nothing to ask about.
        made_of: fingerprint -> its ingredients, from the footers.
    """

    runs: pa.Table
    faults: pa.Table
    filtered: pa.Array
    made_of: Mapping[str, Ingredients]


def settled_down() -> Retrying:
    """Again, when a file changed or went under the reader: a run of another shard sweeps."""
    return Retrying(
        retry=retry_if_exception_type((ObjectChanged, ObjectMissing)),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random(0, 1),
        reraise=True,
    )


def slices(plan: Plan, listed: pa.Table) -> Iterator[tuple[Plan, pa.Table]]:
    """The run as so many shares of its documents that none has more rows in the output than fit in memory,
    each with its part of the list. A document's fate hangs on no other's.

    Raises:
        GemstreamError: the output cannot be read.
    """
    shard = plan.selection.shard or Shard(index=1, count=1)
    rows = settled_down()(rows_there, plan)
    for share in shard.split(math.ceil(rows / (ROWS_AT_ONCE * shard.count)) or 1):
        selection = plan.selection.model_copy(update={"shard": share})
        yield replace(plan, selection=selection), _of_shard(listed, share)


def rows_there(plan: Plan) -> int:
    """Records and errors of the tasks that this job asks; read from the footers."""
    folders = [f"records/task={task}" for task in plan.fingerprints]
    return sum(
        part.count
        for folder in (*folders, "errors")
        for part in read_parts(plan.output, plan.job.storage, folder, (), unmoved=plan.selection.is_share)
    )


def read_holdings(plan: Plan) -> Holdings:
    """Read the key columns of the tasks that this job asks, and of what failed: of the run's shard.

    Raises:
        JobError: a file there is not of Gemstream's making.
        GemstreamError: the output cannot be read.
    """
    return settled_down()(_read, plan)


def read_standing(plan: Plan) -> Standing:
    """Read and condense what the ledger needs, file by file. Raises what `read_holdings` raises."""
    return settled_down()(_read_standing, plan)


def _read(plan: Plan) -> Holdings:
    files: list[ObjectInfo] = []
    made_of: dict[str, Ingredients] = {}
    answers, errors = [ANSWERS.empty_table()], [ERRORS.empty_table()]
    columns = [*(name for name in ANSWERS.names if name not in _OURS), "run_id"]
    mine = partial(numbered, shard=plan.selection.shard)
    unmoved = plan.selection.is_share
    for task, asked in plan.fingerprints.items():
        folder = f"records/task={task}"
        for part in read_parts(plan.output, plan.job.storage, folder, columns, mine, unmoved=unmoved):
            made_of |= _made_of(part.facts)
            rows = part.rows.append_column("anew", pc.equal(part.rows["run_id"], plan.run_id))
            answers.append(_keyed(_judged(rows, task, asked), len(files), ANSWERS))
            files.append(part.info)
    columns = [name for name in ERRORS.names if name not in _OURS - {"task"}]
    for part in read_parts(plan.output, plan.job.storage, "errors", columns, mine, unmoved=unmoved):
        errors.append(_keyed(part.rows, len(files), ERRORS))
        files.append(part.info)
    return Holdings(
        answers=pa.concat_tables(answers),
        errors=pa.concat_tables(errors),
        filtered=_filtered(plan),
        files=tuple(files),
        made_of=made_of,
    )


def _read_standing(plan: Plan) -> Standing:
    made_of: dict[str, Ingredients] = {}
    runs, faults, shard = [], [FAULTS.empty_table()], plan.selection.shard
    output, storage, unmoved = plan.output, plan.job.storage, plan.selection.is_share
    columns = ["document_id", "version", "part_kind", "fingerprint", "part_index", "parts_total"]
    for task, asked in plan.fingerprints.items():
        folder = f"records/task={task}"
        condensed = partial(_runs_of, task=task, asked=asked, shard=shard)
        read = read_parts(output, storage, folder, columns, condensed, columns[:4], unmoved=unmoved)
        for part in read:
            made_of |= _made_of(part.facts)
            runs.append(part.rows)
    columns = ["document_id", "version", "category"]
    condensed = partial(_faults_of, shard=shard)
    for part in read_parts(output, storage, "errors", columns, condensed, columns, unmoved=unmoved):
        faults.append(part.rows)
    return Standing(
        runs=joined(runs), faults=pa.concat_tables(faults), filtered=_filtered(plan), made_of=made_of
    )


def _filtered(plan: Plan) -> pa.Array:
    columns = ["document_id", "version"]
    found, more, count = pa.array([], NAME), list[pa.Array](), 0
    for part in read_parts(plan.output, plan.job.storage, "_runs", columns):
        # Beside them lie those that waited for the answers of another, and were asked about through it.
        if part.info.uri.split("/")[-2] != FILTERED_FOLDER:
            continue
        names = names_of(_of_shard(part.rows, plan.selection.shard)).cast(NAME)
        more.extend(names.chunks)
        count += len(names)
        # Each run writes most of them again.
        if count > max(len(found), FEW):
            found, more, count = pa.concat_arrays([found, *more]).unique(), [], 0
    return pa.concat_arrays([found, *more]).unique()


def _made_of(facts: Mapping[str, str]) -> dict[str, Ingredients]:
    return {key: json.loads(value) for key, value in facts.items() if key != "job"}


def _judged(rows: pa.Table, task: str, asked: Sequence[str]) -> pa.Table:
    """With the task that they answer, and whether they were asked as the job asks."""
    rows = rows.append_column("task", pa.repeat(pa.scalar(task), len(rows)))
    return rows.append_column("current", pc.is_in(rows["fingerprint"], pa.array(asked)))


def _runs_of(rows: pa.Table, task: str, asked: Sequence[str], shard: Shard | None) -> pa.Table:
    return _judged(runs_of(_of_shard(rows, shard)), task, asked)


def of_the_job(errors: pa.Table, tasks_by_kind: Mapping[str, Sequence[str]]) -> pa.Table:
    """Those errors that speak of what a job asks: of one of its tasks, or of whatever is asked. Another job
    may ask more in the same output, and has not asked that again."""
    tasks = pa.array([task for tasks in tasks_by_kind.values() for task in tasks], pa.string())
    return errors.filter(pc.or_(pc.is_null(errors["task"]), pc.is_in(errors["task"], tasks)))


def _faults_of(errors: pa.Table, shard: Shard | None = None) -> pa.Table:
    columns = ["document_id", "version", "category"]
    mine = encoded(_of_shard(errors, shard).select(columns))
    found = mine.group_by(columns, use_threads=False).aggregate([])
    return pa.table({"name": names_of(found), "category": found["category"]}).cast(FAULTS)


def numbered(rows: pa.Table, shard: Shard | None) -> pa.Table:
    """A file's rows of a shard, each with its place in the file."""
    import numpy as np

    return _of_shard(rows.append_column("row", pa.array(np.arange(len(rows)))), shard)


def _keyed(rows: pa.Table, file: int, schema: pa.Schema) -> pa.Table:
    rows = rows.append_column("file", pa.repeat(pa.scalar(file, pa.int32()), len(rows)))
    return rows.append_column("name", names_of(rows)).select(schema.names).cast(schema)


def _of_shard(rows: pa.Table, shard: Shard | None) -> pa.Table:
    """The rows about documents of that shard. Of a document's many rows one is looked at."""
    if shard is None or shard.count == 1:
        return rows
    ids = rows["document_id"].combine_chunks()
    ids = ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()
    held = pa.array(shard.holds(ids.dictionary.to_pylist()), pa.bool_())
    return rows.filter(pc.take(held, ids.indices))
