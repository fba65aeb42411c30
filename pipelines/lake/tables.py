"""Which tables an output has: one of the documents, one of the errors, and one of each task's records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.occupancy import impatient
from schemas.documents import documents_schema
from schemas.errors import JobError
from schemas.rows import ERRORS, records_schema, with_attributes
from schemas.tables import Place, TableFormat
from workers.storage.factory import join, normalise
from workers.tables import OUTPUT, open_table

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.plan import Plan

RECORD_KEYS = ("document_id", "version", "part_index", "fingerprint", "answered_at", "run_id")
ERROR_KEYS = (
    *("document_id", "version", "part_index", "task", "stage", "category"),
    *("run_id", "answered_at"),
)
DOCUMENT_KEYS = ("document_id", "version", "answers", "answered_at", "run_id")


@dataclass(frozen=True)
class LakeTable:
    """One table, and the folder of the output whose rows it holds.

    Attributes:
        name: in the catalog, or of its folder.
        place: where it is.
        folder: of the output.
        schema: as this job writes the folder's files.
        keys: what a row is known by: the same row has the same there, and another one has not.
        settled: whether a document that the folder says nothing of any more has no rows here either, once a
            run has listed it or brought it to an end. It is so of errors, which are made good; an answer
            never goes without another in its place, so a folder without any is one that has been lost.
    """

    name: str
    place: Place
    folder: str
    schema: pa.Schema
    keys: tuple[str, ...]
    settled: bool = False


def tables_of(plan: Plan) -> list[LakeTable]:
    """The tables that a run keeps, in the order of their commits: who finds a document's row in one finds its
    answers in the others. None if the job's sink is Parquet."""
    if plan.job.sink.kind is TableFormat.PARQUET:
        return []
    records = [
        LakeTable(
            name=(name := table_name(task.name)),
            place=_place(plan, name),
            folder=f"records/task={task.name}",
            schema=records_schema(plan.data_types.get(task.name), plan.attributes),
            keys=RECORD_KEYS,
        )
        for task in plan.job.tasks
    ]
    errors = LakeTable(
        name="errors",
        place=_place(plan, "errors"),
        folder="errors",
        schema=with_attributes(ERRORS, plan.attributes),
        keys=ERROR_KEYS,
        settled=True,
    )
    merged = {task.name: plan.data_types[task.name] for task in plan.job.tasks if task.merged}
    documents = LakeTable(
        name="documents",
        place=_place(plan, "documents"),
        folder="documents",
        schema=documents_schema(plan.attributes, merged),
        keys=DOCUMENT_KEYS,
    )
    return [*records, errors, documents]


def table_name(task: str) -> str:
    """Of a task's records, as every catalog takes it: small letters, digits and underscores.

    Anything else is written `_x` and its code in two digits, and so is an underscore before an x: no two
    tasks have one name. `invoices` -> `records_invoices`, `invoices-2` -> `records_invoices_x2d2`.
    """
    spelled = [
        f"_x{ord(letter):02x}"
        if not (letter.islower() or letter.isdigit() or letter == "_") or task[place : place + 2] == "_x"
        else letter
        for place, letter in enumerate(task)
    ]
    return f"records_{''.join(spelled)}"


def refuse_foreign_tables(plan: Plan) -> None:
    """Look at the tables before anything is spent.

    Raises:
        JobError: one of them is not this output's, or has other types; the format has no type for one of
            its columns; the format's library is not installed.
        GemstreamError: the store or the catalog does not answer.
    """
    from workers.tables.shapes import evolved

    for table in tables_of(plan):
        opened = open_table(table.place, impatient(plan.job.storage))
        opened.fitted(table.schema)
        there = opened.snapshot()
        if there is not None:
            refuse_foreign(plan.output, table.place, there.properties.get(OUTPUT))
            evolved(there.schema, table.schema, table.place.uri)


def refuse_foreign(output: str, place: Place, owner: str | None) -> None:
    """Never write to a table that another output's rows, or somebody's own, are in.

    Args:
        output: whose rows are to go there.
        place: of the table, which is there.
        owner: what it says of itself, under OUTPUT.

    Raises:
        JobError: it is not this output's.
    """
    if owner == output:
        return
    whose = "no run of Gemstream made" if owner is None else f"holds the rows of {owner}"
    raise JobError(
        f"the table {place.uri} is one that {whose}: choose another place (sink.tables)", key="sink.tables"
    )


def _place(plan: Plan, name: str) -> Place:
    sink = plan.job.sink
    if sink.kind is TableFormat.ICEBERG:
        return Place(format=sink.kind, uri=f"{sink.tables}.{name}", catalog=sink.catalog)
    return Place(format=sink.kind, uri=join(normalise(sink.tables or join(plan.output, "tables")), name))
