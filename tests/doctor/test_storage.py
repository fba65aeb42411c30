"""The store, on a real one: each right by itself, every way in which it is not there, nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from deploy.demo.objectstore import ObjectStore
from deploy.demo.ports import LOOPBACK, free_ports
from pipelines.doctor import Status
from pipelines.doctor.examine import examine
from pipelines.doctor.storage import storage
from tests.chaos.proxy import Fate, proxied
from tests.doctor.patients import patient, told
from tests.doctor.stores import Careless, standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "examined"


@pytest.fixture
def bucket(store: ObjectStore) -> Iterator[str]:
    """A bucket of this test's own, which `denied` may set a policy on."""
    mine = client(store)
    mine.create_bucket(Bucket=BUCKET)
    mine.put_object(Bucket=BUCKET, Key="in/a.pdf", Body=b"%PDF")
    yield BUCKET
    for key in keys(store, BUCKET):
        mine.delete_object(Bucket=BUCKET, Key=key)
    mine.delete_bucket(Bucket=BUCKET)


@cache
def client(store: ObjectStore) -> Any:
    """The test's own, of all of them."""
    return store.client()


def keys(store: ObjectStore, bucket: str, prefix: str = "") -> list[str]:
    listed = client(store).list_objects_v2(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for entry in listed.get("Contents", ())]


@contextmanager
def denied(store: ObjectStore, bucket: str, action: str, below: str = "") -> Iterator[None]:
    """Nobody may do this there."""
    of = f"arn:aws:s3:::{bucket}{below}"
    statement = {"Effect": "Deny", "Principal": "*", "Action": [f"s3:{action}"], "Resource": [of]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    client(store).put_bucket_policy(Bucket=bucket, Policy=policy)
    try:
        yield
    finally:
        client(store).delete_bucket_policy(Bucket=bucket)


def test_a_store_that_is_well(store: ObjectStore) -> None:
    client(store).put_object(Bucket=store.bucket, Key="doctor/in/a.pdf", Body=b"%PDF")
    found = told(storage(patient(input=store.url("doctor/in/"), output=store.url("doctor/out"))))
    assert list(found) == ["list", "get", "put", "delete"]
    assert all(line.startswith("ok: ") for line in found.values()), found
    assert "refused" in found["put"], "the second of the two: under a condition"
    assert keys(store, store.bucket, "doctor/out") == [], "the probe is gone"


def test_an_output_that_others_have_written_to_stays_as_it_is(store: ObjectStore) -> None:
    kept = "doctor/kept/_runs/20260101T000000-abcdef/job.yaml"
    client(store).put_object(Bucket=store.bucket, Key=kept, Body=b"input: x")
    findings = list(storage(patient(output=store.url("doctor/kept"))))
    assert {finding.status for finding in findings} == {Status.OK}
    assert keys(store, store.bucket, "doctor/kept") == [kept]


DENIED = {
    "ListBucket": ("list", "grant s3:ListBucket"),
    "GetObject": ("get", "grant s3:GetObject"),
    "PutObject": ("put", "grant s3:PutObject"),
    "DeleteObject": ("delete", "grant s3:DeleteObject"),
}


@pytest.mark.parametrize("action", DENIED)
def test_a_right_that_is_not_there_is_named_alone(store: ObjectStore, bucket: str, action: str) -> None:
    with denied(store, bucket, action, "" if action == "ListBucket" else "/out/*"):
        findings = list(storage(patient(output=f"s3://{bucket}/out")))
    wrong = [finding for finding in findings if finding.status is Status.FAILED]
    subject, todo = DENIED[action]
    assert {finding.subject.partition(" ")[0] for finding in wrong} == {subject}, findings
    assert todo in wrong[0].todo
    left = keys(store, bucket, "out/")
    if action == "DeleteObject":
        assert left and left[0] in wrong[0].todo, "what may not be removed is named"
    else:
        assert left == []


def test_an_input_that_may_be_listed_and_not_read(store: ObjectStore, bucket: str) -> None:
    with denied(store, bucket, "GetObject", "/*"):
        found = told(storage(patient(input=f"s3://{bucket}/in/")))
    assert found["list"].startswith("ok")
    assert found["get"].startswith("failed") and "s3:GetObject" in found["get"]


def test_a_bucket_that_is_not_there(store: ObjectStore) -> None:
    for place in ({"input": "s3://no-such-bucket/in/"}, {"output": "s3://no-such-bucket/out"}):
        (line,) = told(storage(patient(**place))).values()
        assert line.startswith("failed: there is no bucket 'no-such-bucket' -> check its name")


def test_an_empty_prefix_is_a_warning(store: ObjectStore) -> None:
    (line,) = told(storage(patient(input=store.url("doctor/nothing/")))).values()
    assert line.startswith("warning") and "nothing is there" in line


def test_a_manifest_is_read_and_missed(store: ObjectStore) -> None:
    client(store).put_object(Bucket=store.bucket, Key="doctor/list.txt", Body=b"s3://lake/a.pdf\n")
    assert "ok: its first byte" in told(storage(patient(manifest=store.url("doctor/list.txt"))))["get"]
    (line,) = told(storage(patient(manifest=store.url("doctor/gone.txt")))).values()
    assert line.startswith("failed") and "nothing is there" in line


def test_a_wrong_secret_key(altered: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-key")
    found = storage(patient(input=altered.url("doctor/in/"), output=altered.url("doctor/out")))
    lines = [finding for finding in found if finding.status is Status.FAILED]
    assert lines and all("AWS_SECRET_ACCESS_KEY" in line.todo for line in lines)


def test_no_credentials(altered: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    (line,) = told(storage(patient(input=altered.url("doctor/in/")))).values()
    assert "set AWS_PROFILE" in line


def test_nothing_listens(store: ObjectStore) -> None:
    endpoint = f"http://{LOOPBACK}:{free_ports(1)[0]}"
    place = patient(input="s3://lake/in/", output="s3://lake/out", storage={"endpoint_url": endpoint})
    first, second = storage(place)
    assert first.status is Status.FAILED and "nothing listens there" in first.told
    assert "storage.endpoint_url" in first.todo
    assert second.told.startswith("not asked"), "once is enough"


def test_a_port_that_says_nothing_is_told_of_in_time(store: ObjectStore) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        endpoint = f"http://{LOOPBACK}:{silent.getsockname()[1]}"
        options = {"endpoint_url": endpoint, "read_seconds": 0.5}
        began = time.monotonic()
        (line,) = told(storage(patient(input="s3://lake/in/", storage=options))).values()
    assert "it takes connections and says nothing" in line
    assert time.monotonic() - began < 15, "two tries of a second and what lies between"


def test_a_probe_whose_answer_got_lost_is_removed(
    altered: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decide(method: str, path: str) -> Fate:
        return Fate.CUT if method == "PUT" else Fate.PASSED

    with proxied(altered, decide) as environment:
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.setenv(name, environment[name])
        findings = told(storage(patient(output=altered.url("doctor/lost"), storage={"attempts": 1})))
    assert findings["put"].startswith("failed")
    assert findings["delete"].startswith("ok")
    assert keys(altered, altered.bucket, "doctor/lost") == []


def test_a_check_that_is_cut_short_removes_its_probe(store: ObjectStore) -> None:
    findings = storage(patient(output=store.url("doctor/cut")))
    assert next(finding for finding in findings if finding.subject.startswith("put")).status is Status.OK
    (probe,) = keys(store, store.bucket, "doctor/cut")
    assert probe.startswith("doctor/cut/_runs/_doctor/"), "it is there now"
    findings.close()
    assert keys(store, store.bucket, "doctor/cut") == []


CODES = {
    "ExpiredToken": (400, "log in again"),
    "AuthorizationHeaderMalformed": (400, "storage.region"),
    "RequestTimeTooSkewed": (403, "set it"),
    "AccessDenied": (403, "grant s3:ListBucket"),
    "SlowDown": (503, "check storage.endpoint_url"),
}


@pytest.mark.parametrize("code", CODES)
def test_what_a_store_refuses_for_has_its_remedy(store: ObjectStore, code: str) -> None:
    status, todo = CODES[code]
    with standing_in(code, status) as options:
        (finding,) = storage(patient(input="s3://lake/in/", storage=options))
    assert finding.status is Status.FAILED and todo in finding.told + finding.todo


def test_a_store_that_ignores_conditions_is_told_of(store: ObjectStore) -> None:
    with standing_in(handler=Careless) as options:
        *_, condition, delete = storage(patient(output="s3://lake/out", storage=options))
    assert condition.status is Status.WARNING and "IfNoneMatch and IfMatch" in condition.told
    assert delete.status is Status.OK and Careless.kept == {}


def test_what_answers_is_no_store(store: ObjectStore) -> None:
    with standing_in() as options:
        (finding,) = storage(patient(output="s3://lake/out", storage=options))
    assert finding.status is Status.FAILED and "no S3 server" in finding.told


def test_a_password_in_the_endpoint_is_refused_and_in_no_line(store: ObjectStore) -> None:
    endpoint = store.endpoint.replace("://", "://someone:hunter2-hunter2@")
    options = {"endpoint_url": endpoint, "attempts": 1, "read_seconds": 1}
    place = patient(input=store.url("doctor/in/"), output=store.url("doctor/out"), storage=options)
    found = examine(place, ["storage", "clock"])
    assert not found.healthy and "hunter2" not in found.model_dump_json()
    assert "credentials belong in the environment" in found.findings[0].todo


def test_a_local_output_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for output in ("new/deep", "empty"):
        findings = list(storage(patient(input=str(tmp_path / "in"), output=str(tmp_path / output))))
        assert {finding.status for finding in findings} == {Status.OK}, findings
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["empty", "in", "in/a.txt"]


def test_a_local_output_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    findings = told(storage(patient(output=str(tmp_path / "taken" / "out"))))
    assert findings["put"].startswith("failed") and "a file lies where a folder is needed" in findings["put"]
    assert (tmp_path / "taken").read_text() == "x"


def test_a_local_input_that_is_not_there(tmp_path: Path) -> None:
    (line,) = told(storage(patient(input=str(tmp_path / "gone")))).values()
    assert line.startswith("failed") and "nothing is there" in line
