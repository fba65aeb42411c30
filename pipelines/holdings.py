"""What the output holds of a job's answers: its key columns, read from the part files themselves.

There is no second store that could disagree with them. The ledger decides by it what is owed, the
sweep what has had its day, the audit what became of each document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from pipelines.runs import encoded, joined, names_of, runs_of
from schemas.errors import ObjectChanged, ObjectMissing
from workers.sinks.reading import read_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.plan import Plan
    from workers.storage import ObjectInfo

Ingredients = Mapping[str, str]

ATTEMPTS = 8

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
    ]
)
"""`file` is a place in `Holdings.files` and `row` one in that file; `name` is `document_id/version`, since
another version of an object is another document here; `current` says that it was asked as the job asks."""

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

FAULTS = pa.schema([pa.field("name", pa.string()), pa.field("category", pa.string())])
"""Each once, however many errors there are."""

_OURS = {"file", "task", "row", "name", "current"}


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
    """What the output holds of each document. Memory: 93 bytes a run, of which a document has one a task;
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


def read_holdings(plan: Plan) -> Holdings:
    """Read the key columns of the tasks that this job asks, and of what failed.

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
    columns = [name for name in ANSWERS.names if name not in _OURS]
    for task, asked in plan.fingerprints.items():
        for part in read_parts(plan.output, plan.job.storage, f"records/task={task}", columns):
            made_of |= _made_of(part.facts)
            answers.append(_keyed(_judged(part.rows, task, asked), len(files), ANSWERS))
            files.append(part.info)
    columns = [name for name in ERRORS.names if name not in _OURS - {"task"}]
    for part in read_parts(plan.output, plan.job.storage, "errors", columns):
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
    runs, faults = [], [FAULTS.empty_table()]
    columns = ["document_id", "version", "part_kind", "fingerprint", "part_index", "parts_total"]
    for task, asked in plan.fingerprints.items():
        folder = f"records/task={task}"
        condensed = partial(_runs_of, task=task, asked=asked)
        for part in read_parts(plan.output, plan.job.storage, folder, columns, condensed, columns[:4]):
            made_of |= _made_of(part.facts)
            runs.append(part.rows)
    columns = ["document_id", "version", "category"]
    for part in read_parts(plan.output, plan.job.storage, "errors", columns, _faults_of, columns):
        faults.append(part.rows)
    return Standing(
        runs=joined(runs), faults=pa.concat_tables(faults), filtered=_filtered(plan), made_of=made_of
    )


def _filtered(plan: Plan) -> pa.Array:
    columns = ["document_id", "version"]
    names = [
        names_of(part.rows).combine_chunks()
        for part in read_parts(plan.output, plan.job.storage, "_runs", columns)
    ]
    return pa.concat_arrays([*names, pa.array([], pa.string())]).unique()


def _made_of(facts: Mapping[str, str]) -> dict[str, Ingredients]:
    return {key: json.loads(value) for key, value in facts.items() if key != "job"}


def _judged(rows: pa.Table, task: str, asked: Sequence[str]) -> pa.Table:
    """With the task that they answer, and whether they were asked as the job asks."""
    rows = rows.append_column("task", pa.repeat(pa.scalar(task), len(rows)))
    return rows.append_column("current", pc.is_in(rows["fingerprint"], pa.array(asked)))


def _runs_of(rows: pa.Table, task: str, asked: Sequence[str]) -> pa.Table:
    return _judged(runs_of(rows), task, asked)


def _faults_of(errors: pa.Table) -> pa.Table:
    columns = ["document_id", "version", "category"]
    found = encoded(errors.select(columns)).group_by(columns, use_threads=False).aggregate([])
    return pa.table({"name": names_of(found), "category": found["category"]}).cast(FAULTS)


def _keyed(rows: pa.Table, file: int, schema: pa.Schema) -> pa.Table:
    import numpy as np

    rows = rows.append_column("file", pa.repeat(pa.scalar(file, pa.int32()), len(rows)))
    rows = rows.append_column("row", pa.array(np.arange(len(rows))))
    return rows.append_column("name", names_of(rows)).select(schema.names).cast(schema)
