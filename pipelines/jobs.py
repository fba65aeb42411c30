"""The commands of jobs that run on a cluster: send one, ask after it, read along, wait for it, stop it."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pipelines.flags import (
    AsJson,
    Force,
    Input,
    JobFile,
    Limit,
    Only,
    Output,
    Setting,
    ShardOf,
    job_of,
    selection_of,
    settings_of,
)
from schemas.errors import JobError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from pipelines.jobserver import JobServer
    from pipelines.submit import Parcel

LOOK_SECONDS = 1.0
"""Between two questions about a job; Ray's own job manager looks as often."""
BEGIN_SECONDS = 60.0
"""That `submit` waits for a job to begin. An idle head needs 3 s; with the image of a worker yet to be pulled
it is minutes."""
EXIT_TIMEOUT = 124
"""As of timeout(1): the job goes on, whoever waited for it has stopped."""
ENDED = {
    0: "done, or nothing to do",
    1: "the source, the output, the engines or the cluster failed",
    2: "the job is wrong; nothing was started",
    3: "more documents failed than limits.failed_share allows",
    4: "documents are unaccounted for",
    5: "ended by a signal; what was answered is written",
}
LISTED = ("submission", "status", "exit_code", "seconds", "name", "output")

Address = Annotated[
    str | None,
    typer.Option(
        help="Of the cluster's dashboard, http://host:8265; else RAY_API_SERVER_ADDRESS or RAY_ADDRESS.",
        show_default=False,
    ),
]


def _named(submission: str | None) -> str | None:
    """An id: a shell's variable that is empty would ask for all there are."""
    if submission is not None and not submission.strip():
        raise typer.BadParameter("it is empty; give the id that submit printed")
    return submission


Submission = Annotated[
    str, typer.Argument(help="The id that submit printed.", show_default=False, callback=_named)
]


def submit(
    job_file: JobFile,
    address: Address = None,
    input_: Input = None,
    output: Output = None,
    limit: Limit = None,
    only: Only = None,
    force: Force = False,
    shard: ShardOf = None,
    setting: Setting = None,
    code: Annotated[
        str, typer.Option(help="image: the cluster's image has gemstream; local: send this one along.")
    ] = "image",
    secret: Annotated[
        list[str] | None,
        typer.Option(help="Name of an environment variable that has to be set on the cluster."),
    ] = None,
    cluster_paths: Annotated[
        bool, typer.Option("--cluster-paths", help="Paths in the job are the cluster's, on all its nodes.")
    ] = False,
    submission_id: Annotated[
        str | None, typer.Option(help="Instead of a new one: the same id twice is one submission.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait until it has begun, some seconds.")
    ] = False,
) -> None:
    """Send a job to a Ray cluster, print its submission id, and wait until it has begun there.

    Exit codes: 0 begun, or sent and not begun within a minute; those of `run` where it ended before.
    """
    from pipelines.jobserver import JobServer
    from pipelines.submit import Terms, pack

    given = {"input_": input_, "output": output, "limit": limit, "task": None}
    job = job_of(job_file, settings_of(given), setting)
    selection_of(only, force, shard)  # refused here, if it is wrong
    if code not in ("image", "local"):
        raise JobError(f"--code {code!r}: image or local", key="code")
    flags = [part for word in only or () for part in ("--only", word)]
    flags += (["--force"] if force else []) + (["--shard", shard] if shard else [])
    terms = Terms(
        code="local" if code == "local" else "image",
        secrets=secret or (),
        cluster_paths=cluster_paths,
        submission=submission_id,
        name=job_file.stem if job_file else "job",
        flags=flags,
    )
    with tempfile.TemporaryDirectory(prefix="gemstream-") as folder:
        parcel = pack(job, terms, Path(folder))
        server = JobServer(address)
        _send(server, parcel)
    typer.echo(parcel.submission)
    if not detach:
        _until_begun(server, parcel.submission)


def status(
    submission: Annotated[
        str | None,
        typer.Argument(help="The id that submit printed; all that are known if not given.", callback=_named),
    ] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Say how a submitted job is, or all that the cluster knows of."""
    from pipelines.jobserver import JobServer

    server = JobServer(address)
    if submission is not None:
        found = [server.details(submission)]
    else:
        found = [job for job in server.list_jobs() if job.submission_id]
        found.sort(key=lambda job: job.start_time or 0)
    facts = [_facts(job) for job in found]
    if submission is not None:
        said = [line for line in server.get_job_logs(submission).splitlines() if line.strip()]
        facts[0]["said_last"] = said[-1] if said else None
    if as_json:
        typer.echo(json.dumps(facts if submission is None else facts[0], indent=2))
    elif submission is not None:
        for name, value in facts[0].items():
            if value is not None:
                typer.echo(f"{name.replace('_', ' '):12} {value}")
    else:
        for fact in facts:
            typer.echo("  ".join(str(fact[name]) for name in LISTED if fact[name] is not None))


def logs(
    submission: Submission,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
) -> None:
    """Print what a submitted job has said."""
    from pipelines.following import follow as follow_to_its_end
    from pipelines.jobserver import JobServer

    server = JobServer(address)
    if follow:
        server.details(submission)  # of one that is not known the stream ends without a word
        follow_to_its_end(server, submission, lambda text: typer.echo(text, nl=False))
    else:
        typer.echo(server.get_job_logs(submission), nl=False)


def wait(
    submission: Submission,
    address: Address = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds; then exit code 124, and the job goes on.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Wait for a submitted job, print its report, and leave with its exit code.

    Exit codes: those of `run`; 124 when --timeout is over, and the job goes on.
    """
    from pipelines.jobserver import JobServer, exit_code

    server = JobServer(address)
    details = _ended(server, submission, timeout)
    code = exit_code(details)
    if code is None:
        typer.echo(f"{submission} goes on after {timeout:g} s; wait again, or stop it", err=True)
        raise typer.Exit(EXIT_TIMEOUT)
    _leave(server, details, code, as_json)


def stop(
    submission: Submission,
    address: Address = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait for its end; as long as it may drain if not given."),
    ] = None,
) -> None:
    """End a submitted job: it begins nothing new, and what is in flight has `limits.drain_seconds`.

    Exit codes: 0 it has ended; 124 when --timeout is over, and it is still about to.
    """
    from pipelines.following import last_word
    from pipelines.jobserver import JobServer, exit_code
    from pipelines.submit import STOP_VARIABLE

    server = JobServer(address)
    details = server.details(submission)
    if exit_code(details) is not None:
        typer.echo(f"{submission} has ended: {details.status.value.lower()}", err=True)
        return
    environment = (details.runtime_env or {}).get("env_vars") or {}
    given = environment.get(STOP_VARIABLE)
    if given is None:
        typer.echo(
            f"it was not submitted by gemstream: without {STOP_VARIABLE} Ray kills it after 3 s", err=True
        )
    server.stop_job(submission)
    seconds = timeout if timeout is not None else float(given or 3) + BEGIN_SECONDS
    details = _ended(server, submission, seconds)
    if exit_code(details) is None:
        typer.echo(f"{submission} was told to end, and has not within {seconds:g} s", err=True)
        raise typer.Exit(EXIT_TIMEOUT)
    said = last_word(server.get_job_logs(submission))
    killed = f"{submission} was killed before it had come to an end; what is written stays, run it again"
    typer.echo(said.removeprefix("gemstream: ") or killed, err=True)


def _send(server: JobServer, parcel: Parcel) -> None:
    """Send it once, however often it takes: the id is ours, so a second try finds the first.

    Raises:
        JobError: the cluster runs another Ray, or has another job under this id.
        ClusterUnavailable: the cluster does not answer.
    """
    from importlib.metadata import version

    from pipelines.jobserver import IdTaken

    ours = version("ray")
    if server.ray_version != ours:
        raise JobError(
            f"{server.place} runs Ray {server.ray_version}, and this gemstream is for Ray {ours}; have an "
            "image with that Ray on the cluster, or its image's gemstream here",
            key="address",
        )
    environment = {"working_dir": str(parcel.folder), "env_vars": parcel.environment}
    try:
        server.patient()(
            server.submit_job,
            entrypoint=parcel.entrypoint,
            submission_id=parcel.submission,
            runtime_env=environment,
            metadata=dict(parcel.metadata),
        )
    except IdTaken as error:
        theirs = (server.patient()(server.details, parcel.submission).metadata or {}).get("fingerprint")
        if theirs != parcel.metadata["fingerprint"]:
            raise JobError(
                f"{parcel.submission} is another job on {server.place} already; choose another "
                "--submission-id",
                key="submission",
            ) from error


def _until_begun(server: JobServer, submission: str) -> None:
    """Until the job has found all it needs; leave with its exit code if it ends before."""
    from pipelines.arrive import BEGUN
    from pipelines.jobserver import exit_code

    deadline = time.monotonic() + BEGIN_SECONDS
    while time.monotonic() < deadline:
        details = server.patient()(server.details, submission)
        code = exit_code(details)
        if code is not None:
            _leave(server, details, code, as_json=False)
        if BEGUN in server.patient()(server.get_job_logs, submission):
            typer.echo(f"it has begun; to read along: gemstream logs --follow {submission}", err=True)
            return
        time.sleep(LOOK_SECONDS)
    typer.echo(f"it has not begun within {BEGIN_SECONDS:g} s: {details.status.value.lower()}", err=True)


def _ended(server: JobServer, submission: str, seconds: float | None) -> JobDetails:
    """What is known of a job when it has ended, or when the time is over."""
    deadline = time.monotonic() + seconds if seconds is not None else None
    details = server.details(submission)
    while not details.status.is_terminal() and (deadline is None or time.monotonic() < deadline):
        time.sleep(LOOK_SECONDS)
        details = server.patient()(server.details, submission)
    return details


def _leave(server: JobServer, details: JobDetails, code: int, as_json: bool) -> NoReturn:
    """Print what the run came to, as `gemstream run` does, and leave with its exit code."""
    from pipelines.following import last_word, report_in
    from pipelines.upkeep import show

    said = server.patient()(server.get_job_logs, details.submission_id)
    report = report_in(said)
    if report is not None and report.exit_code == code:
        show(report, as_json)
    lines = [line for line in said.splitlines() if line.strip()]
    typer.echo(last_word(said) or "\n".join(lines[-10:]) or details.message or "", err=True)
    means = ENDED.get(code, "killed by a signal" if code > 128 else "see the log")
    typer.echo(f"{details.submission_id} ended with exit code {code}: {means}", err=True)
    raise typer.Exit(code)


def _facts(details: JobDetails) -> dict[str, Any]:
    """One job, in the order in which a person reads it."""
    from pipelines.jobserver import exit_code

    known = details.metadata or {}
    ended = details.end_time if details.status.is_terminal() else None
    seconds = ((ended or time.time() * 1000) - details.start_time) / 1000 if details.start_time else None
    return {
        "submission": details.submission_id,
        "status": details.status.value.lower(),
        "exit_code": exit_code(details),
        "seconds": round(seconds) if seconds is not None else None,
        "name": known.get("name"),
        "output": known.get("output"),
        "gemstream": known.get("gemstream"),
        "fingerprint": known.get("fingerprint"),
        "message": (details.message or "").strip().splitlines()[-1]
        if (details.message or "").strip()
        else None,
    }
