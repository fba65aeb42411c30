"""What `gemstream run` refuses before it starts: a job that does not hold, an output that is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipelines.doctor import failed, ok, warning
from pipelines.doctor.storage import quick
from pipelines.lease import Holder
from schemas.errors import JobError, ObjectMissing, TerminalError, TransientError
from workers.storage.factory import join, list_if_there, open_storage

if TYPE_CHECKING:
    from pipelines.doctor import Findings, Patient
    from pipelines.plan import Plan


def job(patient: Patient) -> Findings:
    """The plan, as a run makes it, and who else has to do with the output."""
    from pipelines.choice import settle_models
    from pipelines.plan import make_plan

    if not patient.has_tasks:
        yield ok("job", "no task was named")
        return
    spec = patient.job.model_copy(update={"storage": quick(patient.job.storage)})
    try:
        plan = make_plan(settle_models(spec).job, None, spec.engine.gpus or 0.0)
    except JobError as error:
        yield failed(
            "job", error.message, "correct it; `gemstream plan` says the same, and more once it holds"
        )
        return
    except (ValueError, KeyError, OSError) as error:
        yield failed("job", f"a model's folder does not hold ({type(error).__name__})", "see models")
        return
    lanes = ", ".join(f"{lane.pool}: {lane.model.source}" for lane in plan.lanes)
    yield ok("job", f"it holds; {lanes}")
    if patient.output is not None:
        yield from _output(plan)
        yield from _tables(plan)
        yield from _into(plan)


def _output(plan: Plan) -> Findings:
    from pipelines.occupancy import refuse_foreign_output

    try:
        refuse_foreign_output(plan)
        yield ok("output", "nothing is there that a run would not write to")
        yield from _leases(plan)
    except JobError as error:
        told, _, todo = error.message.partition(": choose ")
        yield failed("output", told, f"choose {todo}" if todo else "choose another output")
    except (TerminalError, TransientError):
        yield warning("output", "it cannot be looked at, so nobody says whether it is taken", "see storage")


def _tables(plan: Plan) -> Findings:
    from pipelines.lake.tables import refuse_foreign_tables, tables_of

    tables = tables_of(plan)
    if not tables:
        return
    try:
        refuse_foreign_tables(plan)
        where = tables[0].place.uri.removesuffix(tables[0].name)
        yield ok("tables", f"{len(tables)} in {where}, there or to be made; nobody else's are there")
    except JobError as error:
        told, _, todo = error.message.rpartition(": ")
        yield failed("tables", told or error.message, todo if told else "correct sink")
    except (TerminalError, TransientError) as error:
        yield failed("tables", error.message, "see storage, and whether the catalog is up")


def _into(plan: Plan) -> Findings:
    from pipelines.lake.into import refuse_into

    if plan.job.table is None or plan.job.table.into is None:
        return
    try:
        refuse_into(plan)
        yield ok("into", "no column of somebody's own is where answers are to go")
    except JobError as error:
        yield failed("into", error.message, "correct table.into")
    except (TerminalError, TransientError) as error:
        yield failed("into", error.message, "see storage, and whether the catalog is up")


def _leases(plan: Plan) -> Findings:
    storage = open_storage(plan.output, plan.job.storage)
    for info in list_if_there(storage, join(plan.output, "_runs", "_lease", "")):
        uri = info.uri
        try:
            holder = Holder.model_validate_json(storage.read(uri))
        except ObjectMissing:  # given back just now
            continue
        except ValidationError:
            yield failed("lease", f"{uri} is no lease", "delete it once no run writes to the output")
            continue
        if holder.is_dead():
            continue
        told = f"run {holder.run_id} on {holder.host} writes to this output"
        if holder.shard is None:
            yield failed("lease", told, "wait for it, or stop it: a second run is refused as long")
        else:
            told = f"{told}, shard {holder.shard}"
            yield warning("lease", told, f"give yours another shard (--shard 1/{holder.shard.count})")
