"""Files of this machine, or of a file system that all machines of a cluster mount."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import stat
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.errors import AccessDenied, GemstreamError, ObjectChanged, ObjectMissing, StorageUnavailable
from workers.storage import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.storage import StorageOptions

log = logging.getLogger(__name__)

_UNFINISHED = ".gemstream-unfinished"
"""Ends the name of a file being written. A killed process leaves it behind; listings skip it."""

_LOCK = f".lock{_UNFINISHED}"
"""What claims lock in a folder on NFS; it stays there."""

_MISSING = {
    errno.ENOENT: "nothing is there",
    errno.EEXIST: "a file lies where a folder is needed",
    errno.ENOTDIR: "a file lies where a folder is needed",
    errno.EISDIR: "it is a folder",
    errno.ELOOP: "its symbolic links go in a circle",
    errno.ENXIO: "it is a pipe, socket or device",
    errno.ENAMETOOLONG: "the name is longer than the file system takes",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)

_LEFT_OUT = "%s was removed while it was listed, or is a link to nothing: left out"

_ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")


class LocalStorage:
    """Files by path. A version is size and modification time, so an edit is a new version."""

    def __init__(self, options: StorageOptions) -> None:
        """Nothing is opened yet; the options tell only remote stores how to be reached."""

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        """Stream the files below a folder, in key order.

        Holds the names of one folder per level at a time, about 100 bytes each. Linked folders
        are not entered, and linked files outside the root are left out with a warning: a link
        must not carry a job to what its input does not name.

        Raises:
            ObjectMissing: the root itself is not there.
            AccessDenied: a folder cannot be read; leaving it out would lose its files in silence.
        """
        root = _path(uri)
        with _errors_as_ours(uri):
            found = os.stat(root)
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(root, os.path.realpath(root))
        else:
            yield self.info(uri)

    def info(self, uri: str) -> ObjectInfo:
        """One file's facts."""
        with _errors_as_ours(uri):
            found = os.stat(_path(uri))
        _refuse_all_but_files(uri, found)
        return _info(uri, found)

    def read(
        self, uri: str, *, version: str | None = None, start: int = 0, length: int | None = None
    ) -> bytes:
        """Bytes of one file; the version is that of the open descriptor, before and after the read."""
        with _errors_as_ours(uri):
            # A named pipe would hold a plain open for ever; regular files do not heed the flag.
            descriptor = os.open(_path(uri), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with contextlib.ExitStack() as undo:
                undo.callback(os.close, descriptor)
                found = os.fstat(descriptor)
                _refuse_all_but_files(uri, found)
                left = max(0, found.st_size - start)
                content = _read_fully(descriptor, start, left if length is None else min(length, left))
                after = os.fstat(descriptor)
        if version not in (None, _version(found)) or _version(found) != _version(after):
            raise ObjectChanged(f"{uri} changed since it was listed; run again to read what is there now")
        return content

    def publish(self, uri: str, content: bytes) -> None:
        """Write aside in the same folder, force to disk, rename: a reader sees all or nothing."""
        path = _path(uri)
        with _errors_as_ours(uri, "written"), _written_aside(path, content) as aside:
            os.replace(aside, path)
            _sync_folder(os.path.dirname(path))

    def claim(self, uri: str, content: bytes, version: str | None) -> ObjectInfo | None:
        """Write aside, and under a lock compare and rename. What is replaced gets a later time.

        Holds between the machines of a shared file system as far as its locks do; creating holds on
        any that has hard links.
        """
        path = _path(uri)
        with _errors_as_ours(uri, "written"), _written_aside(path, content) as aside, _locked(path):
            there = _stat_if_there(path)
            if there is not None:
                _refuse_all_but_files(uri, there)
            if version != (None if there is None else _version(there)):
                return self._if_written(uri, content)
            if there is None:
                try:
                    os.link(aside, path)
                except FileExistsError:  # NFS says so too of a link that it made, when its answer got lost
                    return self._if_written(uri, content)
            else:
                _make_later(aside, there.st_mtime_ns)
            written = os.stat(aside)
            if there is not None:
                os.replace(aside, path)
            _sync_folder(os.path.dirname(path))
        return _info(uri, written)

    def remove_unfinished(self, uri: str) -> int:
        """Files that were being written; the empty one that locks a folder on NFS is none of them."""
        removed = 0
        for folder, _, names in os.walk(_path(uri)):
            for name in names:
                if name.endswith(_UNFINISHED) and name != _LOCK:
                    self.delete(_uri(os.path.join(folder, name)))
                    removed += 1
        return removed

    def _if_written(self, uri: str, content: bytes) -> ObjectInfo | None:
        """The file, if it is what a claim was to write: an earlier attempt did, and was not told."""
        with contextlib.suppress(ObjectMissing, ObjectChanged):
            there = self.info(uri)
            if there.size == len(content) and self.read(uri, version=there.version) == content:
                return there
        return None

    def delete(self, uri: str) -> None:
        """Remove the file; success if it is not there."""
        with _errors_as_ours(uri, "deleted"), contextlib.suppress(FileNotFoundError):
            os.unlink(_path(uri))


def _walk(folder: str, root: str) -> Iterator[ObjectInfo]:
    # Not by recursion: a path has room for more folders than Python has for calls.
    levels = [(folder, _names(folder, is_root=True))]
    while levels:
        folder, names = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
            continue
        path = os.path.join(folder, name)
        if name.endswith("/"):
            levels.append((path[:-1], _names(path[:-1])))
        elif (found := _listed(path, root)) is not None:
            yield _info(_uri(path), found)


def _names(folder: str, *, is_root: bool = False) -> Iterator[str]:
    """What is in a folder; S3 sorts whole keys, in which "a/b" comes after "a-b": a folder sorts with its
    slash, and has it here. One below the root that went in between ends no listing, as no file does."""
    uri = _uri(folder)
    with _errors_as_ours(uri):
        try:
            with os.scandir(folder) as entries:
                names = [
                    entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                    for entry in entries
                    if not entry.name.endswith(_UNFINISHED)
                ]
        except (FileNotFoundError, NotADirectoryError):
            if is_root:
                raise
            log.warning(_LEFT_OUT, uri)
            names = []
    return iter(sorted(names))


def _listed(path: str, root: str) -> os.stat_result | None:
    """The facts of what a listing meets, or None for what is no document of it."""
    uri = _uri(path)
    with _errors_as_ours(uri):
        try:
            if os.path.islink(path):
                target = os.path.realpath(path)
                if os.path.isdir(target) or os.path.commonpath((target, root)) != root:
                    log.warning("%s links to a folder, or out of the input: left out", uri)
                    return None
            found = os.stat(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            log.warning(_LEFT_OUT, uri)
            return None
    return found if stat.S_ISREG(found.st_mode) else None


def _path(uri: str) -> str:
    """The path of an address. A name that is not UTF-8 is spelled with `\\xNN` for its odd bytes."""
    path = uri.removeprefix("file://")
    try:
        holds_nul = b"\0" in os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ObjectMissing(f"{uri!r} is no name a file can have: {error.reason}") from error
    if holds_nul:
        raise ObjectMissing(f"{uri!r} is no name a file can have: it holds a zero byte")
    if _ESCAPED_BYTE.search(path) and not os.path.lexists(path):
        path = _ESCAPED_BYTE.sub(lambda found: os.fsdecode(bytes.fromhex(found[1])), path)
    return path


def _uri(path: str) -> str:
    return "file://" + os.fsencode(path).decode("utf-8", "backslashreplace")


def _info(uri: str, found: os.stat_result) -> ObjectInfo:
    modified = None
    with contextlib.suppress(ValueError, OverflowError, OSError):  # a year that no calendar of Python's has
        modified = datetime.fromtimestamp(found.st_mtime, UTC)
    return ObjectInfo(uri=uri, version=_version(found), size=found.st_size, modified=modified)


def _version(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


def _refuse_all_but_files(uri: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise ObjectMissing(f"{uri} is no file: it is {what}")


def _read_fully(descriptor: int, start: int, wanted: int) -> bytes:
    """Up to `wanted` bytes: one system call returns at most 2 GiB."""
    pieces = []
    while wanted > 0 and (piece := os.pread(descriptor, wanted, start)):
        pieces.append(piece)
        start += len(piece)
        wanted -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@contextlib.contextmanager
def _written_aside(path: str, content: bytes) -> Iterator[str]:
    """The content on disk under another name in the same folder, removed if it still has it at the end."""
    folder = os.path.dirname(path)
    aside = os.path.join(folder, f".{uuid.uuid4().hex}{_UNFINISHED}")
    os.makedirs(folder, exist_ok=True)
    # Not tempfile: its files are for the owner alone, and a rename keeps that.
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield aside
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Keep other claims in the folder waiting. A killed holder's lock ends with it.

    The folder itself is locked, so nothing is left behind. NFS locks only what is open for writing,
    which no folder can be: there an empty file in it is, which stays, for removing it would let two in.
    """
    folder = os.path.dirname(path)
    with contextlib.ExitStack() as undo:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            name = os.path.join(folder, _LOCK)
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            undo.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _stat_if_there(path: str) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(path)
    return None


def _make_later(path: str, modified_ns: int) -> None:
    """Give the file a time after that one: two writes within one tick of the clock, which is some
    milliseconds, would be one version."""
    found = os.stat(path)
    if found.st_mtime_ns <= modified_ns:
        os.utime(path, ns=(found.st_atime_ns, modified_ns + 1))


def _sync_folder(folder: str) -> None:
    """Force the rename itself to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _errors_as_ours(uri: str, what: str = "read") -> Iterator[None]:
    """The one place where the operating system's errors become ours."""
    try:
        yield
    except OSError as error:
        raise _ours(uri, what, error) from error


def _ours(uri: str, what: str, error: OSError) -> GemstreamError:
    reason = error.strerror or type(error).__name__
    if error.errno in _MISSING:
        hint = "; addresses are taken word for word, a space as a space and not as %20" if "%" in uri else ""
        return ObjectMissing(f"{uri} cannot be {what}: {_MISSING[error.errno]}{hint}")
    if error.errno in _DENIED:
        return AccessDenied(f"{uri} cannot be {what} ({reason}); let user id {os.getuid()} in")
    hint = "; make room, and the same command goes on from there" if error.errno in _FULL else ""
    return StorageUnavailable(f"{uri} cannot be {what}: {reason}{hint}")
