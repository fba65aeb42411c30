"""The store: what a run does with its input and its output, each right by itself, and left as it was."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipelines.doctor import failed, ok, warning
from schemas.errors import (
    AccessDenied,
    GemstreamError,
    JobError,
    ObjectChanged,
    ObjectMissing,
    StorageUnavailable,
)
from workers.storage.factory import join, normalise, open_storage, scheme

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.doctor import Finding, Findings, Patient
    from schemas.storage import StorageOptions
    from workers.storage import Storage

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 3.0, 4.0, 2
"""A store that takes connections and says nothing is told of after some 9 s, and not after minutes."""
PROBE = ("_runs", "_doctor")
"""Below an output. Readers, the ledger and `gc` look at Parquet files and at what runs wrote, which bear a
time; the lease has a folder of its own."""
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

WORDS = {
    "EndpointConnectionError": "nothing listens there, or the name does not resolve",
    "ConnectTimeoutError": "no connection came about: a firewall, or a private address from outside",
    "ReadTimeoutError": "it takes connections and says nothing",
    "SSLError": "its certificate does not hold, or it speaks no TLS",
    "ProxyConnectionError": "the proxy does not answer (HTTPS_PROXY, NO_PROXY)",
}
"""What botocore's errors say of a store that cannot be reached."""


def quick(options: StorageOptions) -> StorageOptions:
    """The job's way to the store, without its patience."""
    return options.model_copy(
        update={
            "attempts": min(options.attempts, ATTEMPTS),
            "outage_seconds": 0.0,
            "connect_seconds": min(options.connect_seconds, CONNECT_SECONDS),
            "read_seconds": min(options.read_seconds, READ_SECONDS),
        }
    )


def storage(patient: Patient) -> Findings:
    """Input: list and get. Output: list, put, get, put under a condition, delete."""
    if not patient.sources and patient.output is None:
        yield ok("storage", "no input and no output was named")
        return
    yield from _endpoint(patient.job.storage)
    options, away = quick(patient.job.storage), False
    places = [(uri, _read) for uri in patient.sources]
    places += [(patient.output, _write)] if patient.output is not None else []
    for uri, look in places:
        if away and scheme(uri) == "s3":
            yield failed(uri, "not asked: it lies in the same store", "see above")
            continue
        try:
            address = normalise(uri)
            yield from look(address, open_storage(address, options), patient)
        except StorageUnavailable as error:
            away = True
            yield told_of(uri, error)
        except GemstreamError as error:
            yield told_of(uri, error)


def told_of(subject: str, error: GemstreamError) -> Finding:
    """An error of a store. Its message says what is so, and after a semicolon what to do."""
    told, _, todo = error.message.partition("; ")
    cause = type(error.__cause__).__name__
    if isinstance(error, StorageUnavailable) and cause in WORDS:
        told = f"{told}: {WORDS[cause]}"
    return failed(subject, told, todo or "correct the address, or the store")


def _endpoint(options: StorageOptions) -> Findings:
    named = options.endpoint_url or next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
    if "@" in urlsplit(named).netloc:
        todo = "take them out of storage.endpoint_url: credentials belong in the environment or a profile"
        yield failed("endpoint", "it carries a user and password, which no store reads", todo)


def _read(uri: str, store: Storage, patient: Patient) -> Findings:
    if patient.job.manifest:
        info = store.info(uri)
    else:
        found = next(iter(store.list(uri)), None)
        if found is None:
            told = "it may be listed, and nothing is there: a run would have nothing to do"
            yield warning(
                f"list {uri}", told, "check the prefix, which ends at a slash, and the credentials' account"
            )
            return
        yield ok(f"list {uri}", f"{found.uri} is the first")
        info = found
    try:
        store.read(info.uri, version=info.version, length=1)
    except (ObjectMissing, ObjectChanged) as error:
        # Since then, by whoever writes there; what is wrong with a bucket shows in its list.
        yield warning(f"get {info.uri}", error.message, "run it again")
        return
    except (AccessDenied, StorageUnavailable) as error:
        yield told_of(f"get {info.uri}", error)
        return
    yield ok(f"get {info.uri}", "its first byte was read")


def _write(uri: str, store: Storage, patient: Patient) -> Findings:
    """Each right by itself, with a probe object that goes again whatever happens in between."""
    try:
        newest = next(iter(store.list(join(uri, ""))), None)
        yield ok(f"list {uri}", "it may be listed" + ("" if newest else "; nothing is there yet"))
    except ObjectMissing as error:
        if scheme(uri) != "file":
            raise
        yield ok(f"list {uri}", f"it is made by the first run: {error.message.rpartition(': ')[2]}")
    except AccessDenied as error:
        yield told_of(f"list {uri}", error)
    probe = join(uri, *PROBE, f"{secrets.token_hex(8)}.txt")
    content = b"gemstream doctor was here; delete this if it still is\n"
    with ExitStack() as undo:
        undo.callback(_remove_folders, _folders_to_come(probe))
        put = _tried(f"put {uri}", lambda: store.publish(probe, content))
        try:
            yield put or ok(f"put {uri}", "a probe object was written")
            if put is None:
                got = _tried(f"get {uri}", lambda: _same(store, probe, content))
                yield got or ok(f"get {uri}", "the probe object was read back")
                yield from _conditional(uri, probe, store, patient.job.storage)
        finally:
            # Of a put that failed too: its answer may have got lost, and not the object.
            gone = _tried(f"delete {uri}", lambda: store.delete(probe))
        if gone is not None and put is None:
            gone = gone.model_copy(update={"todo": f"{gone.todo}; then delete {probe}"})
        yield gone or ok(f"delete {uri}", "the probe object is gone again")


def _tried(subject: str, call: Callable[[], None]) -> Finding | None:
    try:
        call()
    except GemstreamError as error:
        return told_of(subject, error)
    return None


def _same(store: Storage, probe: str, content: bytes) -> None:
    if store.read(probe) != content:
        raise JobError(f"{probe} holds other bytes than were written; is the store behind a cache?")


def _conditional(uri: str, probe: str, store: Storage, options: StorageOptions) -> Findings:
    """Whether a lease of the output excludes: it is made of PUTs that are refused when others were faster."""
    subject = f"put if none {uri}"
    try:
        if scheme(uri) == "s3":
            from workers.storage.s3_probe import FALSE, heeds

            ignored: list[str] = [name for name in FALSE if not heeds(probe, name, quick(options))]
        else:
            ignored = ["hard links and locks"] if store.claim(probe, secrets.token_bytes(8), None) else []
    except GemstreamError as error:
        yield told_of(subject, error)
        return
    if ignored:
        told = f"the store does not heed {' and '.join(ignored)}"
        todo = "start one run at a time on this output: of two that start at once both may go on"
        yield warning(subject, told, todo)
    else:
        yield ok(subject, "a second writer is refused, so two runs keep apart")


def _folders_to_come(probe: str) -> list[Path]:
    """Of a local probe, those that are not there yet, the innermost first."""
    if scheme(probe) != "file":
        return []
    return [folder for folder in Path(probe.removeprefix("file://")).parents if not os.path.exists(folder)]


def _remove_folders(folders: list[Path]) -> None:
    # Not empty: somebody is at work there by now. Not there: nothing was written.
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
