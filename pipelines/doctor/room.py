"""Room on this machine: scratch disk and the files on it, shared memory, open files."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.doctor import failed, ok, size, warning
from workers import memory

if TYPE_CHECKING:
    from pipelines.doctor import Finding, Findings, Patient

SHM = Path("/dev/shm")
SAMPLE_BYTES = 4 * 16_000
"""Of a second of a recording, as it lies decoded in scratch."""
FULL_SHARE = 0.95
"""Of a disk in use, from which on Ray makes no more objects on it (`RAY_local_fs_capacity_threshold`)."""
FEW_INODES, NO_INODES = 100_000, 1_000
"""A worker keeps a handful of files; Ray's session some hundreds."""
STORE_SHARE, STORE_MOST, STORE_SURE = 0.3, 200e9, 10e9
"""Ray's object store: of the memory that is free, at most, and what it takes however small /dev/shm is."""
FILES_WELL, FILES_LEAST = 4_096, 1_024
"""Below the first Ray warns (a head with hundreds of actors needs 65,536); an engine alone opens hundreds."""
SOCKET_LENGTH, SESSION_LENGTH = (
    107,
    len("/ray/session_2026-11-26_11-32-21_108861_4194304/sockets/plasma_store"),
)
"""Of a socket's path, at most, and of what Ray puts behind its folder."""
LOCAL_BYTES = 1e9
"""Free where a local output goes. Records are small: a page's text is some 2 kB."""


def disk(patient: Patient) -> Findings:
    """Scratch of expand, Ray's own folder, and where a local output goes."""
    limits = patient.job.limits
    document = limits.object_bytes + int(limits.audio_seconds * SAMPLE_BYTES)
    workers = patient.job.expand.workers or max(1, (os.cpu_count() or 1) - 1)
    scratch = Path(tempfile.gettempdir())
    yield _scratch(scratch, document, workers)
    yield from _inodes(scratch)
    yield _rays(Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"))
    output = _local(patient.output)
    if output is not None:
        free = shutil.disk_usage(output).free
        if free < LOCAL_BYTES:
            told = f"{size(free)} free at {output}"
            yield warning("output", told, "make room, or choose another output: records may not fit")
        else:
            yield ok("output", f"{size(free)} free at {output}")


def shared_memory(patient: Patient, store: float | None = None) -> Findings:
    """Whether Ray's object store finds room in memory.

    Args:
        patient: see `Check`.
        store: bytes that the object store takes; as Ray reckons them if not given.
    """
    if not sys.platform.startswith("linux"):
        yield ok("object store", "Ray keeps it on disk on this system")
        return
    free = shutil.disk_usage(SHM).free if SHM.is_dir() else 0
    if store is None:
        store = min(memory.free() * STORE_SHARE, STORE_MOST, max(STORE_SURE, 0.95 * free))
    told = f"{size(free)} free in {SHM}, and Ray's object store takes up to {size(store)}"
    if free < store:
        todo = (
            f"give it {size(1.1 * store)}: --shm-size in Docker, an emptyDir with medium: Memory in "
            "Kubernetes; until then Ray keeps objects on disk, which is slow"
        )
        yield warning("object store", told, todo)
    else:
        yield ok("object store", told)


def descriptors(patient: Patient) -> Findings:
    """How many files a process may have open. Ray raises the soft limit to the hard one, up to 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = float("inf") if hard == resource.RLIM_INFINITY else hard
    told = f"a process may have {soft:,} files open, {most:,} once Ray has asked for more"
    todo = "ulimit -n 65536, LimitNOFILE= of its service, or --ulimit nofile=65536 in Docker"
    if most < FILES_LEAST:
        yield failed("open files", told, todo)
    elif most < FILES_WELL:
        yield warning("open files", told, todo)
    else:
        yield ok("open files", told)


def _scratch(folder: Path, document: int, workers: int) -> Finding:
    free = shutil.disk_usage(folder).free
    told = f"{size(free)} free at {folder}, where documents lie while they are read"
    if free < document:
        most = f"the largest that the limits let in takes {size(document)}"
        todo = "make room, set TMPDIR to a larger disk, or lower limits.object_bytes and limits.audio_seconds"
        return failed("scratch", f"{told}; {most}", todo)
    if free < document * workers:
        told = f"{told}; {workers} of the largest at once, one a parser, take {size(document * workers)}"
        return warning(
            "scratch", told, "make room, or set TMPDIR to a larger disk or expand.workers to fewer"
        )
    return ok("scratch", told)


def _inodes(folder: Path) -> Findings:
    found = os.statvfs(folder)
    if not found.f_files:  # btrfs and others make them as they are needed
        return
    told = f"{found.f_favail:,} more files fit at {folder}"
    if found.f_favail < NO_INODES:
        yield failed("inodes", told, "remove files there, or set TMPDIR elsewhere: it is full of small ones")
    elif found.f_favail < FEW_INODES:
        yield warning("inodes", told, "remove files there, or set TMPDIR elsewhere")
    else:
        yield ok("inodes", told)


def _rays(folder: Path) -> Finding:
    if not folder.is_dir():
        told = f"{folder} is no folder, and Ray keeps its session there"
        return failed("ray's folder", told, "make it, or set RAY_TMPDIR to one")
    if not os.access(folder, os.W_OK | os.X_OK):
        return failed("ray's folder", f"{folder} may not be written to", "set RAY_TMPDIR to one that may")
    if len(os.fsencode(folder)) > SOCKET_LENGTH - SESSION_LENGTH:
        told = f"{folder} is too long for the sockets that Ray makes below it"
        return failed("ray's folder", told, "set RAY_TMPDIR to a shorter one")
    found = shutil.disk_usage(folder)
    # As Ray counts: what only root may use is not there.
    share = 1 - found.free / (found.used + found.free)
    told = f"{size(found.free)} free at {folder}, {share:.0%} in use"
    if share > FULL_SHARE:
        todo = f"make room: above {FULL_SHARE:.0%} Ray makes no objects there; or set RAY_TMPDIR"
        return warning("ray's folder", told, todo)
    return ok("ray's folder", told)


def _local(output: str | None) -> Path | None:
    """The nearest folder of a local output that is there; None where it is not local."""
    from workers.storage.factory import normalise, scheme

    if output is None or scheme(output) != "file":
        return None
    path = Path(normalise(output).removeprefix("file://"))
    return next((folder for folder in (path, *path.parents) if os.path.isdir(folder)), None)
