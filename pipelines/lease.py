"""Who may write to an output: one run at a time, or several that have a shard each.

A lease is one small object, `_runs/_lease/<scope>.json`, that its holder keeps renewing. A run
claims its own first and looks at the others' then, so of two that conflict at least one sees the
other; both may, and then neither begins.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import threading
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from schemas.errors import GemstreamError, JobError, LeaseLost, ObjectChanged, ObjectMissing
from schemas.shard import Shard
from workers.storage.factory import join, list_if_there, normalise, open_storage

if TYPE_CHECKING:
    from types import TracebackType

    from workers.storage import Storage, StorageOptions

log = logging.getLogger(__name__)

TTL_SECONDS = 60.0
"""How long after its last sign of life a run on another machine keeps the output. Two renewals may
fail in a row, and clocks may differ by a third of it; a rerun elsewhere waits no longer than this."""

ATTEMPTS = 10
"""Looks at a lease that others keep changing, before giving way to them."""

PROCESSES = Path("/proc")


class Holder(BaseModel):
    """What the object of a lease says."""

    model_config = ConfigDict(frozen=True)  # keys of a later version are no fault

    run_id: str
    shard: Shard | None
    host: str
    machine: str
    """This boot and pid namespace: containers and clones that share a host's name share no pids."""
    pid: int
    ticks: int | None = None
    """From the boot to the start of the process, which hold when the clock is set; None where nobody says,
    as in leases of earlier versions."""
    token: str
    expires: AwareDatetime

    def is_dead(self) -> bool:
        """Whether it has run out, or its process is known to have ended: a rerun after `kill -9` goes on."""
        if _now() >= self.expires:
            return True
        if (self.host, self.machine) != (platform.node(), _machine()):
            return False
        try:
            if psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE:  # killed, nobody asked how it ended
                return True
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False
        ticks = _ticks(self.pid)
        return ticks is not None and self.ticks is not None and ticks != self.ticks

    def conflicts(self, shard: Shard | None) -> bool:
        """Whether a run of that shard may not write beside this one: both might do one document."""
        if self.shard is None or shard is None:
            return True
        return self.shard == shard or self.shard.count != shard.count


class Lease:
    """Held while entered, renewed by a thread of its own.

    Args:
        output: the job's output.
        storage_options: how to reach it.
        run_id: names the run to others.
        shard: the share of the documents it does; None for all.
        ttl_seconds: see `TTL_SECONDS`.
        renew_seconds: between renewals; a third of `ttl_seconds` if not given.
    """

    def __init__(
        self,
        output: str,
        storage_options: StorageOptions,
        run_id: str,
        shard: Shard | None,
        *,
        ttl_seconds: float = TTL_SECONDS,
        renew_seconds: float | None = None,
    ) -> None:
        self.output = normalise(output)
        self.run_id = run_id
        self.shard = shard
        scope = "all" if shard is None else f"shard-{shard.index}-of-{shard.count}"
        self.uri = join(self.output, "_runs", "_lease", f"{scope}.json")
        self._storage = open_storage(self.output, storage_options)
        # A deletion that is tried again and again may meet the lease of the next run.
        once = storage_options.model_copy(update={"outage_seconds": 0.0, "attempts": 1})
        self._hasty = open_storage(self.output, once)
        self._ttl = timedelta(seconds=ttl_seconds)
        self._renew_seconds = ttl_seconds / 3 if renew_seconds is None else renew_seconds
        self._token = secrets.token_hex(16)
        self._expires = _now()
        self._version: str | None = None
        self._lost = threading.Event()
        self._leaving = threading.Event()
        self._renewer = threading.Thread(target=self._keep, name=f"lease of {self.output}", daemon=True)

    def __enter__(self) -> Self:
        """Acquire it.

        Raises:
            JobError: another run may write to what this one would.
            GemstreamError: what the storage raises.
        """
        with ExitStack() as undo:
            undo.callback(self._withdraw)
            self._claim_own()
            self._refuse_others()
            self.check()  # the store may have taken longer than the lease lasts
            undo.pop_all()
        self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, if it is still ours."""
        self._leaving.set()
        self._renewer.join()
        self._withdraw()

    @property
    def lost(self) -> bool:
        """Whether others may write now: the lease is another's, is gone, or ran out unrenewed."""
        if _now() >= self._expires:
            self._lost.set()
        return self._lost.is_set()

    def check(self) -> None:
        """To be called before anything is published.

        Raises:
            LeaseLost: see `lost`.
        """
        if self.lost:
            raise LeaseLost(
                f"run {self.run_id} lost its lease of {self.output}, so another run may write there now; "
                "what is published stays, run the same command again for the rest"
            )

    def _claim_own(self) -> None:
        there = None
        for _ in range(ATTEMPTS):
            there = _read(self._storage, self.uri)
            if there is not None and not there[0].is_dead():
                raise self._refused_by(there[0])
            if self._claim(None if there is None else there[1]):
                return
        raise JobError(
            f"other runs keep taking the lease {self.uri}; wait for them, or give the runs shards of "
            "their own (--shard 1/4)",
            key="output",
        )

    def _refuse_others(self) -> None:
        for info in self._storage.list(join(self.output, "_runs", "_lease", "")):
            there = None if info.uri == self.uri else _read(self._storage, info.uri)
            if there is None or not there[0].conflicts(self.shard):
                continue  # dead ones too: who takes over one that we do not exclude would not look out for us
            if not there[0].is_dead():
                raise self._refused_by(there[0])
            log.warning("run %s on %s ended without giving back its lease", there[0].run_id, there[0].host)
            self._storage.delete(info.uri)

    def _claim(self, version: str | None) -> bool:
        """Write our lease for another `ttl_seconds`, counted from before the store is asked."""
        expires = _now() + self._ttl
        ours = Holder(
            run_id=self.run_id,
            shard=self.shard,
            host=platform.node(),
            machine=_machine(),
            pid=os.getpid(),
            ticks=_ticks(os.getpid()),
            token=self._token,
            expires=expires,
        )
        written = self._storage.claim(self.uri, ours.model_dump_json().encode(), version)
        if written is None:
            return False
        self._version, self._expires = written.version, expires
        return True

    def _keep(self) -> None:
        """Renew until the run ends or the lease is lost. A store that is away is tried again till then."""
        while not self._leaving.wait(self._renew_seconds):
            if not self.lost:
                try:
                    self._renew()
                except GemstreamError as error:
                    log.warning("the lease of %s is not renewed: %s", self.output, error.message)
            if self.lost:
                log.error("run %s lost its lease of %s", self.run_id, self.output)
                return

    def _renew(self) -> None:
        before = self._expires
        if not self._claim(self._version):
            there = _read(self._storage, self.uri)
            if there is None or there[0].token != self._token:
                self._lost.set()
                return
            # An earlier renewal was written after all, though its answers got lost.
            self._version, self._expires = there[1], there[0].expires
        if _now() >= before:
            self._lost.set()  # for a moment it had run out, and who looked just then goes on

    def _withdraw(self) -> None:
        """Delete what is ours and has not run out: if it has, others may take it over at any moment. That it
        cannot be deleted must not hide why the run ends: it runs out anyway."""
        try:
            there = _read(self._hasty, self.uri)
            if there is not None and there[0].token == self._token and _now() < there[0].expires:
                self._hasty.delete(self.uri)
        except GemstreamError as error:
            log.warning("the lease of %s is not given back: %s", self.output, error.message)

    def _refused_by(self, holder: Holder) -> JobError:
        shard = "" if holder.shard is None else f", shard {holder.shard}"
        return JobError(
            f"run {holder.run_id} on {holder.host} (process {holder.pid}{shard}) writes to this output until "
            f"{holder.expires.astimezone(UTC):%H:%M:%S} UTC; wait for it, stop it, or give the runs shards "
            "of their own (--shard 1/4)",
            key="output",
        )


def live_runs(output: str, storage_options: StorageOptions) -> set[str]:
    """Ids of the runs that hold a lease of an output and are not known to be dead.

    Raises:
        GemstreamError: what the storage raises.
    """
    storage = open_storage(output, storage_options)
    listed = list_if_there(storage, join(output, "_runs", "_lease", ""))
    found = [_read(storage, info.uri) for info in listed]
    return {there[0].run_id for there in found if there is not None and not there[0].is_dead()}


def _read(storage: Storage, uri: str) -> tuple[Holder, str] | None:
    """Who holds a lease, and the version that says so; None if nobody does.

    Raises:
        JobError: it is no lease.
        GemstreamError: what the storage raises.
    """
    looks = Retrying(
        retry=retry_if_exception_type(ObjectChanged),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random(0, 0.1),
        reraise=True,
    )
    with suppress(ObjectMissing):
        return looks(_read_once, storage, uri)
    return None


def _read_once(storage: Storage, uri: str) -> tuple[Holder, str]:
    info = storage.info(uri)
    content = storage.read(uri, version=info.version)
    try:
        return Holder.model_validate_json(content), info.version
    except ValidationError as error:
        raise JobError(
            f"{uri} is no lease this version reads; delete it once no run writes to the output", key="output"
        ) from error


def _now() -> datetime:
    return datetime.now(UTC)


def _ticks(pid: int) -> int | None:
    """When a process began, in ticks of the kernel since the boot."""
    try:
        told = (PROCESSES / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # Behind the name, which is in brackets and may hold any byte, come the third and later fields of proc(5).
    return int(told.rpartition(b")")[2].split()[19])


@cache
def _machine() -> str:
    """Names where this process's pid means something; empty where the system does not say."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""
