"""Whether an output may be written to: never on top of what is not ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import JobError, ObjectMissing
from schemas.rows import records_schema
from workers.sinks.reading import part_files, readable
from workers.storage.factory import join, normalise, open_storage
from workers.storage.stream import open_object

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from schemas.storage import StorageOptions

_WAY_OUT = "choose another output, or another name for the task"
OURS = ("records/", "documents/", "errors/", "tables/", "near/", "_runs/")


def impatient(options: StorageOptions) -> StorageOptions:
    """For the first look at a store: one that is not there at all is a mistake, and is told at once."""
    return options.model_copy(update={"outage_seconds": 0.0})


def refuse_foreign_output(plan: Plan) -> None:
    """Look at the output before anything is spent.

    Raises:
        JobError: it holds files that no run of Gemstream wrote, or answers of a task of the same name
            that have other columns.
    """
    output, options = plan.output, impatient(plan.job.storage)
    root = join(output, "")
    try:
        newcomer = next(iter(open_storage(output, options).list(root)), None)
    except ObjectMissing:
        return
    if newcomer is not None and not newcomer.uri.removeprefix(root).startswith(OURS):
        raise JobError(
            f"output {output} holds {newcomer.uri}, which no run of Gemstream wrote: choose an empty prefix",
            key="output",
        )
    for task in plan.job.tasks:
        _refuse_other_columns(plan, task.name)


def refuse_no_output(output: str, options: StorageOptions, nothing: str) -> None:
    """Refuse what no run of Gemstream has written to: a name that was mistyped, or somebody else's.

    Args:
        output: of a job.
        options: how to reach it.
        nothing: what there is then none of: "nothing to group".

    Raises:
        JobError: there is no run below it.
        GemstreamError: it cannot be read.
    """
    root = normalise(output)
    runs = join(root, "_runs", "")
    try:
        found = next(iter(open_storage(runs, options).list(runs)), None)
    except ObjectMissing:
        found = None
    if found is None:
        raise JobError(f"{root} holds no run of Gemstream: {nothing}", key="output")


def _refuse_other_columns(plan: Plan, task: str) -> None:
    import pyarrow.parquet as pq

    folder = join(plan.output, "records", f"task={task}")
    storage = open_storage(folder, impatient(plan.job.storage))
    info = next(part_files(storage, folder), None)
    if info is None:
        return
    with readable(info):
        footer = pq.read_metadata(open_object(storage, info))
    found = footer.schema.to_arrow_schema()
    ours = records_schema(plan.data_types.get(task), plan.attributes)
    for name in ours.names:
        if name == "data":  # another schema makes other answers, which take the place of these
            continue
        if name not in found.names:
            raise JobError(
                f"{folder} has no column {name!r}, this job would write one: {_WAY_OUT}", key="output"
            )
        if found.field(name).type != ours.field(name).type:
            raise JobError(
                f"{folder}: column {name!r} is {found.field(name).type}, this job would write "
                f"{ours.field(name).type}: {_WAY_OUT}",
                key="output",
            )
