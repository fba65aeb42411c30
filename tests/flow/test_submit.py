"""Jobs on a cluster, as a user meets them: a real Ray head on loopback, its job server, and the commands."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from deploy.demo.documents import EXAMPLES, read_truth
from deploy.demo.objectstore import ObjectStore
from deploy.demo.paper import PASSWORD
from pipelines import jobs
from pipelines.arrive import BEGUN
from pipelines.jobserver import JobServer, exit_code
from pipelines.report import EXIT_BAD_JOB, EXIT_CRASH, EXIT_DONE
from pipelines.submit import Terms, new_id, pack
from schemas.errors import JobError
from schemas.job import make_job
from tests.conftest import ROOT
from tests.fixtures.head import Head, ray_head, serving
from tests.fixtures.runs import DEMO_JOB, GEMMA3

SHOWN = ("pdf/april.pdf", "pdf/locked.pdf")
SHAPE = yaml.safe_load(DEMO_JOB.read_text())["tasks"][3]["schema"]
FAULT = {"kind": "fault", "gpus": 0}
UNTOLD = "an-hour-of-untold-words"
EXIT_SIGNAL = 5


@pytest.fixture(scope="module")
def head(object_store: ObjectStore) -> Iterator[Head]:
    """Its environment has what a cluster's Secret would: the store's keys, and passwords."""
    secrets = {"GS_PASSWORDS": f"wrong\n{PASSWORD}", "GS_UNTOLD": UNTOLD}
    with ray_head({**object_store.environment(), **secrets}) as head:
        yield head


Gemstream = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def gemstream(head: Head) -> Gemstream:
    """The command, on a machine that knows the head's address and nothing of the store's keys."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "RAY_API_SERVER_ADDRESS": head.address, **head.environment},
        )

    return run


@pytest.fixture
def server(head: Head, monkeypatch: pytest.MonkeyPatch) -> JobServer:
    """The same, without a process for each question."""
    token = head.environment["RAY_AUTH_TOKEN"]
    monkeypatch.setenv("RAY_JOB_HEADERS", json.dumps({"Authorization": f"Bearer {token}"}))
    return JobServer(head.address)


def sent(server: JobServer, folder: Path, terms: Terms | None = None, **values: Any) -> str:
    """Pack a job on the fault engine, send it, and say its id."""
    folder.mkdir()
    faulty = {"tasks": ["ocr"], "models": {"vision": str(GEMMA3)}, "limits": {"failed_share": 1.0}}
    parcel = pack(make_job({**faulty, **values}), terms or Terms(), folder)
    jobs._send(server, parcel)
    return parcel.submission


def ended(server: JobServer, submission: str) -> tuple[int | None, str]:
    """Its exit code, and what it said."""
    details = jobs._ended(server, submission, 300)
    return exit_code(details), server.get_job_logs(submission)


def test_a_job_goes_there_and_its_answers_and_exit_code_come_back(
    head: Head,
    gemstream: Gemstream,
    server: JobServer,
    object_store: ObjectStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in SHOWN:
        object_store.client().upload_file(str(EXAMPLES / name), object_store.bucket, f"submitted/{name}")
    (tmp_path / "list.txt").write_text(
        "".join(f"{object_store.url(f'submitted/{name}')}\n" for name in SHOWN)
    )
    (tmp_path / "shape.json").write_text(json.dumps(SHAPE))
    (tmp_path / "job.yaml").write_text(
        yaml.safe_dump(
            {
                "manifest": str(tmp_path / "list.txt"),
                "output": (output := object_store.url("submitted-out")),
                "tasks": [{"task": "extract", "schema": str(tmp_path / "shape.json"), "max_tokens": 96}],
                "models": {"vision": str(GEMMA3)},
                "engine": {"max_num_seqs": 16, "max_model_len": 1024, "gpus": 0},
                "expand": {"passwords_env": "GS_PASSWORDS"},
            }
        )
    )
    secrets = ("--secret", "AWS_SECRET_ACCESS_KEY", "--secret", "GS_UNTOLD")
    sending = gemstream("submit", str(tmp_path / "job.yaml"), "--code", "local", *secrets)
    assert sending.returncode == 0, sending.stderr
    submission = sending.stdout.strip()
    assert f"logs --follow {submission}" in sending.stderr

    seen = server.details(submission)
    assert (seen.status.value, exit_code(seen), seen.metadata["output"]) == ("RUNNING", None, output)
    jobs.logs(submission, head.address, follow=True)
    followed = capsys.readouterr().out
    waited = gemstream("wait", submission, "--json")
    assert waited.returncode == EXIT_DONE, waited.stderr
    report = json.loads(waited.stdout)
    assert report["counts"] == {"listed": 2, "ok": 2, "partial": 0, "failed": 0, "filtered": 0, "skipped": 0}
    assert followed.rstrip().endswith(waited.stdout.rstrip()), "read along to its last word"

    truth = read_truth(EXAMPLES)
    found = answers(object_store, output)
    assert found == {
        (object_store.url(f"submitted/{name}"), index): typed(page["extract"])
        for name in SHOWN
        for index, page in enumerate(truth[name]["pages"])
    }
    told = json.dumps(
        httpx2.get(f"{head.address}/api/jobs/", headers=bearer(head), trust_env=False, timeout=60).json()
    )
    assert submission in told and "GS_UNTOLD" not in told
    for secret in (UNTOLD, object_store.secret_key):
        assert secret not in told + followed + sending.stderr + waited.stderr


def bearer(head: Head) -> dict[str, str]:
    return {"Authorization": f"Bearer {head.environment['RAY_AUTH_TOKEN']}"}


def answers(store: ObjectStore, output: str) -> dict[tuple[str, int], Any]:
    """The extractions by page, read with the keys that the submitting side has not."""
    client, found = store.client(), {}
    prefix = f"{output.removeprefix(f's3://{store.bucket}/')}/records/"
    for entry in client.list_objects_v2(Bucket=store.bucket, Prefix=prefix)["Contents"]:
        body = client.get_object(Bucket=store.bucket, Key=entry["Key"])["Body"].read()
        for row in pq.read_table(io.BytesIO(body)).to_pylist():
            found[row["uri"], row["part_index"]] = row["data"]
    return found


def typed(fields: dict[str, Any]) -> dict[str, Any]:
    """As the schema has them."""
    dated = {"date": date.fromisoformat(fields["date"]), "total": Decimal(fields["total"])}
    return {**fields, **dated}


@pytest.fixture
def slow(server: JobServer, tmp_path: Path) -> tuple[str, Path]:
    """A job on the head's one GPU that has written something, and waits for answers that never come. To drain
    takes it all the time it may have, twice the three seconds that Ray gives who is stopped."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    circle = (EXAMPLES / "shapes/circle.png").read_bytes()
    for number in range(320):
        # Behind its end, where nobody looks, so that each is a document of its own.
        (source / f"{number:04}.png").write_bytes(circle + b"%d" % number)
    engine = {"kind": "fault", "gpus": 1, "options": {"hang": 0.04}, "max_num_seqs": 64}
    submission = sent(
        server,
        tmp_path / "slow",
        input=str(source),
        output=str(output),
        engine=engine,
        sink={"seconds": 0.5},
        limits={"failed_share": 1.0, "drain_seconds": 6},
    )
    deadline = time.monotonic() + 90
    while not list(output.glob("records/*/*.parquet")):
        details = server.details(submission)
        assert not details.status.is_terminal(), server.get_job_logs(submission)
        assert time.monotonic() < deadline, server.get_job_logs(submission)
        time.sleep(0.2)
    return submission, output


def test_one_that_is_stopped_drains_and_who_would_write_beside_it_is_refused(
    slow: tuple[str, Path],
    head: Head,
    server: JobServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    submission, output = slow
    second = sent(server, tmp_path / "second", input=str(tmp_path / "in"), output=str(output), engine=FAULT)
    code, said = ended(server, second)
    assert code == EXIT_BAD_JOB and "writes to this output until" in said

    with pytest.raises(typer.Exit) as left:
        jobs.wait(submission, head.address, timeout=0)
    assert left.value.exit_code == jobs.EXIT_TIMEOUT and "goes on" in capsys.readouterr().err
    jobs.stop(submission, head.address)
    words = capsys.readouterr().err
    assert "SIGTERM ended the run" in words and "run the same command to go on" in words
    said = server.get_job_logs(submission)
    assert "SIGTERM: no new work, 6 s for what is in flight" in said
    rows = sum(pq.read_metadata(path).num_rows for path in output.glob("records/*/*.parquet"))
    assert f"{rows} rows are written" in said, "and none of them is lost, or half there"
    assert not list(output.glob("_runs/_lease/*.json")), "and the lease is given back"
    with pytest.raises(typer.Exit) as left:
        jobs.wait(submission, head.address)
    assert left.value.exit_code == EXIT_SIGNAL
    jobs.status(submission, head.address)
    assert "stopped" in capsys.readouterr().out


def test_an_answer_that_is_lost_starts_nothing_twice_and_no_gpu_is_waited_for_without_end(
    head: Head, server: JobServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "input": str(EXAMPLES / "shapes"),
        "output": str(tmp_path / "out"),
        "engine": {"kind": "fault", "gpus": 2},
        "limits": {"node_seconds": 2},
    }
    with losing_the_first_answer(head) as (address, posted):
        submission = sent(JobServer(address), tmp_path / "sent", **values)
    assert len(posted) == 2, "the first was taken, and its answer lost"
    code, said = ended(server, submission)
    assert said.count("Running entrypoint") == said.count(BEGUN) == 1
    assert sent(server, tmp_path / "again", Terms(submission=submission), **values) == submission
    with pytest.raises(JobError, match="is another job"):
        sent(server, tmp_path / "other", Terms(submission=submission), **{**values, "limit": 1})

    assert code == EXIT_CRASH
    assert "no node had 2 GPU and 1 CPU for an engine of vision within 2 s (limits.node_seconds)" in said
    assert "the nodes, 1 now, have at most 1 GPU" in said
    assert not list((tmp_path / "out").glob("records/**/*.parquet"))
    jobs.status(address=head.address)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if submission in line]
    assert line.split()[1:3] == ["failed", str(EXIT_CRASH)]
    with pytest.raises(typer.Exit) as left:
        jobs.wait(submission, head.address)
    assert left.value.exit_code == EXIT_CRASH
    assert capsys.readouterr().err.startswith("gemstream: no node had 2 GPU")


@contextmanager
def losing_the_first_answer(head: Head) -> Iterator[tuple[str, list[bytes]]]:
    """A way to the head's job server that breaks after the first submission has got through."""
    posted: list[bytes] = []

    class Way(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            passed = {
                name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers
            }
            answer = httpx2.request(
                self.command,
                head.address + self.path,
                content=body,
                headers=passed,
                trust_env=False,
                timeout=60,
            )
            if self.path == "/api/jobs/" and self.command == "POST":
                posted.append(body)
                if len(posted) == 1:
                    self.close_connection = True
                    return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_PUT = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    with serving(Way) as address:
        yield address, posted


def test_what_the_cluster_lacks_is_said_by_submit_itself(gemstream: Gemstream, tmp_path: Path) -> None:
    flags = ("-o", str(tmp_path / "out"), "--set", "tasks=[ocr]", "--set", "engine.kind=fault")
    (tmp_path / "job.yaml").write_text(f"input: {tmp_path}\nmodels: {{vision: {GEMMA3}}}\n")
    done = gemstream("submit", str(tmp_path / "job.yaml"), *flags, "--secret", "GS_NOWHERE")
    assert done.returncode == EXIT_BAD_JOB
    assert "GS_NOWHERE is not set" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_submission_that_nobody_knows(server: JobServer) -> None:
    for ask in (server.details, server.get_job_logs, server.stop_job):
        with pytest.raises(JobError, match="knows no such submission"):
            ask(new_id())


def test_without_its_token_nobody_is_let_in(head: Head) -> None:
    with pytest.raises(JobError, match="RAY_AUTH_MODE=token"):
        JobServer(head.address)


def test_a_containers_health_check_asks_the_node(head: Head) -> None:
    script = ROOT / "deploy" / "container" / "health.py"

    def healthy(port: int) -> tuple[int, str]:
        environment = os.environ | {"GEMSTREAM_AGENT_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    # As whoever asks it does: one answer that is late does not end a container.
    for attempt in Retrying(
        stop=stop_after_attempt(3), retry=retry_if_exception_type(AssertionError), reraise=True
    ):
        with attempt:
            well = f"http://127.0.0.1:{head.agent}/api/local_raylet_healthz: success\n"
            assert healthy(head.agent) == (0, well)
    code, said = healthy(1)
    assert code == 1 and "refused" in said
