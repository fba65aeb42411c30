"""The demo's object store is a real S3 server, reachable with its keys only, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from deploy.demo import objectstore
from deploy.demo.ports import LOOPBACK, free_ports

if TYPE_CHECKING:
    from deploy.demo.objectstore import ObjectStore

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_put_can_be_listed_and_read_by_range(object_store: ObjectStore) -> None:
    client = object_store.client()
    key = "deploy/a folder/ü.txt"
    client.put_object(Bucket=object_store.bucket, Key=key, Body=b"0123456789" * 100)

    listed = client.list_objects_v2(Bucket=object_store.bucket, Prefix="deploy/")["Contents"]
    part = client.get_object(Bucket=object_store.bucket, Key=key, Range="bytes=995-")["Body"].read()

    assert [(entry["Key"], entry["Size"]) for entry in listed] == [(key, 1000)]
    assert part == b"56789"


def test_a_wrong_key_is_refused(object_store: ObjectStore) -> None:
    import boto3
    from botocore.exceptions import ClientError

    stranger = boto3.client(
        "s3",
        endpoint_url=object_store.endpoint,
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key="not the key",
        region_name=object_store.region,
    )
    with pytest.raises(ClientError) as refused:
        stranger.list_objects_v2(Bucket=object_store.bucket)
    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


def test_no_key_is_refused(object_store: ObjectStore) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{object_store.endpoint}/{object_store.bucket}/", timeout=10)
    with refused.value:
        assert refused.value.code == 403


def test_its_environment_is_enough_for_a_child_process(object_store: ObjectStore) -> None:
    code = "import boto3; print(*[bucket['Name'] for bucket in boto3.client('s3').list_buckets()['Buckets']])"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | object_store.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert object_store.bucket in done.stdout.split()


def test_the_secret_is_not_in_its_repr(object_store: ObjectStore) -> None:
    assert object_store.secret_key not in repr(object_store)


def test_it_goes_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Killed, its owner cannot clean up; the kernel ends the server then."""
    script = textwrap.dedent(
        """
        import pathlib, sys
        from deploy.demo.objectstore import object_store

        with object_store(pathlib.Path(sys.argv[1])) as store:
            print(store.pid, store.endpoint, flush=True)
            sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline().split()[0])
        server = os.pidfd_open(pid)
        owner.send_signal(signal.SIGKILL)
    try:
        import select

        # A pidfd is readable once its process has ended.
        assert select.select([server], [], [], 20)[0], "the server outlived its owner"
    finally:
        os.close(server)


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "weed"
    broken.write_text("#!/bin/sh\necho the disk is on fire\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(objectstore, "weed_binary", lambda: broken)
    with pytest.raises(objectstore.ObjectStoreError, match=r"status 3(.|\n)*the disk is on fire"):
        with objectstore.object_store():
            pass


def test_a_taken_port_is_tried_again_with_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = tmp_path / "tries"
    broken = tmp_path / "weed"
    broken.write_text(f"#!/bin/sh\necho x >> {tries}\necho listen: address already in use\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(objectstore, "weed_binary", lambda: broken)
    with pytest.raises(objectstore.ObjectStoreError, match="address already in use"):
        with objectstore.object_store():
            pass
    assert len(tries.read_text().split()) == objectstore.START_ATTEMPTS


def test_a_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise objectstore.PackageNotFoundError(name)

    monkeypatch.setattr(objectstore, "distribution", missing)
    with pytest.raises(objectstore.ObjectStoreError, match=r"gemstream\[demo\]"):
        objectstore.weed_binary()


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_it_comes_back_from_an_outage_with_what_it_held(tmp_path: Path) -> None:
    import botocore.exceptions

    with objectstore.object_store(tmp_path) as store:
        client = store.client(retries={"max_attempts": 0})
        client.put_object(Bucket=store.bucket, Key="a", Body=b"kept")
        with store.outage():
            with pytest.raises(botocore.exceptions.EndpointConnectionError):
                client.get_object(Bucket=store.bucket, Key="a")
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind((LOOPBACK, urlsplit(store.endpoint).port))
        assert client.get_object(Bucket=store.bucket, Key="a")["Body"].read() == b"kept"
