"""What a run would find out too late, looked at before anything is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.lake.into import refuse_into
from pipelines.lake.tables import refuse_foreign_tables
from pipelines.near import refuse_without_libraries
from pipelines.occupancy import refuse_foreign_output
from workers.discretion import refuse_missing

if TYPE_CHECKING:
    from pipelines.plan import Plan


def refuse_beforehand(plan: Plan) -> None:
    """Look at all places that are to be written to, and for the libraries that are needed. `gemstream plan`
    looks as a run does: what it prints a price for can be run.

    Raises:
        JobError: something there is not this output's, or a library is not installed.
        GemstreamError: a store or a catalog does not answer.
    """
    refuse_missing(plan.job.privacy)
    refuse_without_libraries(plan.job.duplicates)
    refuse_foreign_output(plan)
    refuse_foreign_tables(plan)
    refuse_into(plan)
