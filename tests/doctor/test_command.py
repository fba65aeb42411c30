"""The command as a whole: its exit code, its two renderings, its time, and what it keeps to itself."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipelines import doctor as family
from pipelines.doctor import CHECKS, Status, examine, ok
from pipelines.doctor.examine import _function
from pipelines.doctoring import patient_of
from schemas.errors import JobError
from tests.doctor.patients import patient
from tests.fixtures.runs import GEMMA3
from tests.flow.test_cli import gemstream

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.demo.objectstore import ObjectStore
    from pipelines.doctor import Findings, Patient

SECRET = "hunter2-correct-horse"


@pytest.mark.parametrize("name", CHECKS)
def test_every_line_of_the_registry_resolves(name: str) -> None:
    assert callable(_function(name)) and (_function(name).__doc__ or "").strip()


def test_a_job_that_would_run_and_one_that_would_not(object_store: ObjectStore, tmp_path: Path) -> None:
    object_store.client().put_object(Bucket=object_store.bucket, Key="doctor/job/a.pdf", Body=b"%PDF")
    job = tmp_path / "job.yaml"
    job.write_text(
        f"input: {object_store.url('doctor/job/')}\noutput: {object_store.url('doctor/job-out')}\n"
        f"tasks: [ocr]\nmodels: {{vision: {GEMMA3}}}\n"
    )
    checks = [f"--check={name}" for name in CHECKS if name != "engine"]
    done = gemstream("doctor", str(job), *checks, "--json", env=object_store.environment())
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["healthy"], said
    assert {finding["check"] for finding in said["findings"]} == {*CHECKS} - {"engine"}
    wrong = gemstream(
        *("doctor", str(job), "--check", "storage", "--check", "clock", "-o", "s3://no-such-bucket/x"),
        env={**object_store.environment(), "AWS_SESSION_TOKEN": "", "SOME_SECRET": SECRET},
    )
    assert wrong.returncode == 1 and "no-such-bucket" in wrong.stdout, wrong.stdout
    assert "1 to mend before a run" in wrong.stdout
    for output in (done.stdout, wrong.stdout, wrong.stderr):
        assert object_store.secret_key not in output and SECRET not in output
        assert "Traceback" not in output


def test_a_bad_job_and_a_check_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="limits.pages"):
        patient_of(None, {}, ["limits.pages=none"], None)
    done = gemstream("doctor", "--check", "pulse")
    assert done.returncode == 2 and "one of python, packages" in done.stderr


def test_what_is_not_named_is_not_looked_at(tmp_path: Path) -> None:
    named = patient_of(None, {"output": "s3://lake/out"}, None, None)
    assert (named.sources, named.output, named.models) == ((), "s3://lake/out", {})
    job = tmp_path / "job.yaml"
    job.write_text("manifest: s3://lake/list.csv\ntasks: [transcribe]\n")
    named = patient_of(job, {}, ["output=/out", "models.audio=auto"], "head:6379")
    assert (named.sources, named.output) == (("s3://lake/list.csv",), "/out")
    assert named.models == {"audio": "auto"}


def register(monkeypatch: pytest.MonkeyPatch, check: Any) -> None:
    """A check of this test's own, beside the others."""
    monkeypatch.setattr(family, "invented", check, raising=False)
    monkeypatch.setitem(CHECKS, "invented", "pipelines.doctor:invented")


def test_a_check_that_hangs_is_one_line_and_the_others_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def hangs(patient: Patient) -> Findings:
        yield ok("first", "this much was seen")
        never.wait()

    register(monkeypatch, hangs)
    monkeypatch.setattr(examine, "PARTING_SECONDS", 0.2)
    began = time.monotonic()
    monkeypatch.setitem(family.SECONDS, "invented", 0.5)
    found = examine.examine(patient(), ["invented", "python"])
    assert time.monotonic() - began < 15
    assert [finding.check for finding in found.findings] == ["python", "python", "invented", "invented"]
    assert found.findings[-1].told == "no answer within 0.5 s" and found.exit_code == 1
    never.set()


def test_a_check_that_breaks_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(patient: Patient) -> Findings:
        yield ok("first", "this much was seen")
        raise KeyError("what")

    register(monkeypatch, breaks)
    found = examine.examine(patient(), ["invented"])
    assert [finding.status for finding in found.findings] == [Status.OK, Status.FAILED]
    assert "the check itself broke: KeyError" in found.findings[1].told


def test_no_credential_is_in_any_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:prox%79-password@proxy:3128")
    monkeypatch.setenv("SHORT_TOKEN", "a")

    def tells(patient: Patient) -> Findings:
        yield ok(
            f"at http://me:other-password@host/{SECRET}", "proxy-password, prox%79-password, page-password"
        )

    register(monkeypatch, tells)
    place = patient(expand={"passwords": ["page-password"]}, storage={"endpoint_url": "http://a:b@c"})
    (finding,) = examine.examine(place, ["invented"]).findings
    assert (finding.subject, finding.told) == ("at http://***@host/***", "***, ***, ***")


def test_warnings_do_not_change_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def warns(patient: Patient) -> Findings:
        yield family.warning("[red]it", "is [bold]odd", "look")

    register(monkeypatch, warns)
    found = examine.examine(patient(), ["invented"])
    assert found.exit_code == 0 and found.verdict.startswith("nothing that would stop a run, 1 warning;")


def test_what_this_machine_lacks_does_not_stop_a_run_on_a_cluster() -> None:
    lacking = {"limits": {"object_bytes": 10**18}}
    assert examine.examine(patient(**lacking), ["disk"]).exit_code == 1
    found = examine.examine(patient("head:6379", **lacking), ["disk"])
    assert found.exit_code == 0 and "on this machine" in found.of(Status.WARNING)[0].told


def test_no_such_check() -> None:
    with pytest.raises(JobError, match="pulse"):
        examine.examine(patient(), ["pulse"])
