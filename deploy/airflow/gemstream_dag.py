"""A nightly Gemstream run on a Ray cluster: copy this file into Airflow's folder of DAGs (Airflow 3).

It calls the command `gemstream`, which a worker finds on its PATH or by the variable GEMSTREAM in its
environment, since Airflow's packages and Gemstream's are better kept apart. The task submits the job, looks
at it once a minute without holding a worker's slot in between, and hands on what the run came to. A retry
submits it again, and the run goes on from what is written; one that finds the run before it still at work
waits for that.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseSensorOperator, Param, PokeReturnValue
from airflow.sdk.exceptions import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context

UNKNOWN = 2
"""`gemstream status` of a submission that the cluster knows nothing of."""
GOES_ON = 124
"""`gemstream wait` when its time is over."""
MEANS = {
    1: "the source, the output, the engines or the cluster failed",
    2: "the job is wrong",
    3: "more documents failed than limits.failed_share allows",
    4: "documents are unaccounted for",
    5: "a signal ended it",
}
"""By exit code of the run. What was published stays, whichever it is."""
FUTILE = (2, 3)
"""Those of a run that would end the same way if it were tried again at once."""
SURFACED = ("run_id", "output", "counts", "tasks", "seconds", "failed_share", "stopped")
"""Of the run's report, which XCom has; all of it is `_runs/<run_id>/report.json` in the output."""
COMMAND_SECONDS = 120


class GemstreamRun(BaseSensorOperator):
    """Submits a job to a Ray cluster and waits for the end of its run.

    Args:
        job: the job's file, on the worker.
        address: of the cluster's dashboard.
        settings: `key=value` each, as `--set` of the command.
    """

    template_fields = ("job", "address", "settings")

    def __init__(self, *, job: str, address: str, settings: Any = (), **rest: Any) -> None:
        super().__init__(mode="reschedule", **rest)
        self.job, self.address, self.settings = job, address, settings

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Looks once: submits what is not submitted, and ends with the run."""
        submission = self._submitted(context) or self._submit(context)
        done = self._gemstream("wait", submission, "--timeout", "0", "--json")
        if done.returncode == GOES_ON:
            self.log.info("%s goes on", submission)
            return False
        report = _report(done.stdout)
        if report:
            context["ti"].xcom_push(key="report", value=report)
        if done.returncode == 0:
            return PokeReturnValue(is_done=True, xcom_value=report.get("counts"))
        means = MEANS.get(done.returncode, "see its log")
        said = f"{submission} ended with exit code {done.returncode}: {means}"
        raise _failure(done.returncode, "\n".join([said, str(report.get("counts", "")), done.stderr]))

    def _submitted(self, context: Context) -> str | None:
        """What this try has to wait for, if it is under way: its own submission, or one that an earlier try
        has left, which is at work still or has ended well."""
        tries = context["ti"].try_number
        for number in range(tries, 0, -1):
            name = _name(context, number)
            found = self._gemstream("status", name, "--json")
            if found.returncode == 0:
                ended = json.loads(found.stdout)["exit_code"]
                return name if number == tries or ended in (None, 0) else None
            if found.returncode != UNKNOWN:
                raise AirflowException(found.stderr.strip())
        return None

    def _submit(self, context: Context) -> str:
        name = _name(context, context["ti"].try_number)
        settings = [argument for setting in self.settings for argument in ("--set", setting)]
        done = self._gemstream("submit", self.job, "--submission-id", name, "--detach", *settings)
        if done.returncode:
            raise (AirflowFailException if done.returncode in FUTILE else AirflowException)(
                done.stderr.strip()
            )
        self.log.info("submitted as %s; to read along: gemstream logs --follow %s", name, name)
        return name

    def _gemstream(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = os.environ.get("GEMSTREAM", "gemstream")
        return subprocess.run(
            [program, command, *arguments, "--address", self.address],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )


def _failure(code: int, said: str) -> AirflowException:
    """What ends the try, or all tries."""
    return (AirflowFailException if code in FUTILE else AirflowException)(said.strip())


def _name(context: Context, number: int) -> str:
    """The same for every look of one try, so that it is submitted once."""
    ti = context["ti"]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{ti.dag_id}-{ti.task_id}-{ti.run_id}-try{number}")


def _report(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    report = json.loads(text)
    return {key: report[key] for key in SURFACED}


with DAG(
    "gemstream",
    description="Documents of object storage into typed Parquet",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run does all that is there, whatever day it came
    max_active_runs=1,  # a second one would be refused: an output has one writer
    params={
        "job": Param("/opt/airflow/jobs/job.yaml", type="string"),
        "address": Param("http://ray-head:8265", type="string", pattern="^https?://"),
        "settings": Param([], type="array", items={"type": "string", "pattern": "^[a-z_.]+="}),
    },
    render_template_as_native_obj=True,
    tags=["gemstream"],
):
    GemstreamRun(
        task_id="run",
        job="{{ params.job }}",
        address="{{ params.address }}",
        settings="{{ params.settings }}",
        poke_interval=60,
        timeout=timedelta(days=3).total_seconds(),
        retries=3,
        retry_delay=timedelta(minutes=5),
        retry_exponential_backoff=True,
        max_retry_delay=timedelta(hours=1),
    )
