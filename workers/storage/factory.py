"""From an address to the storage that reads it; how addresses are spelled, joined and admitted.

An address is `scheme://` and then the rest word for word, as AWS tools spell S3: nothing is
percent-encoded, and `?`, `#`, `%` and spaces are parts of the name. One object has one spelling,
since document ids derive from it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from schemas.errors import AddressRefused, JobError, ObjectMissing
from workers.registry import STORAGES, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.storage import ObjectInfo, Storage, StorageOptions

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_storage(uri: str, options: StorageOptions) -> Storage:
    """The storage that serves an address: plain paths and `file://` are local, `s3://` is S3.

    Cheap and picklable: a client is made at the first call, in the process that makes it.

    Raises:
        JobError: no storage serves the scheme; the message lists those that are there.
    """
    storage: Storage = resolve(STORAGES, scheme(uri), "storage")(options)
    return storage


def list_if_there(storage: Storage, uri: str) -> Iterator[ObjectInfo]:
    """What lies under a prefix; nothing if the folder or the bucket is not there yet.

    Raises:
        ObjectMissing: it went while it was listed: what came before is not all there was.
        GemstreamError: what else `Storage.list` raises.
    """
    listing = storage.list(uri)
    try:
        first = next(listing)
    except (ObjectMissing, StopIteration):
        return
    yield first
    yield from listing


def look_up(uri: str, options: StorageOptions) -> ObjectInfo:
    """The facts of an object that a manifest names, if a manifest may name it.

    A manifest's document whose version is empty failed this very call when it was listed, and in the feed.
    The stage that meets it calls again: either it gets the facts after all, or the error to write down.
    It must not open the address in any other way, or a refused one would be read.

    Raises:
        AddressRefused: see `admit`.
        GemstreamError: what `Storage.info` raises.
    """
    admitted = admit(uri, options)
    return open_storage(admitted, options).info(admitted)


def admit(uri: str, options: StorageOptions) -> str:
    """The normal spelling of an address that comes from a manifest, if it is one to follow.

    Whoever writes a manifest may be someone else than who runs the job. It can name objects of S3
    and, where `allow_local` says so, files; never a web address, which would have the cluster's
    workers call services only they can reach.

    Raises:
        AddressRefused: any other address.
    """
    try:
        admitted = normalise(uri)
    except JobError as error:
        raise AddressRefused(f"{error.message}; a manifest may name s3:// objects and files") from error
    kind = scheme(admitted)
    if kind == "file" and not options.allow_local:
        raise AddressRefused(f"{uri} is a local file, and storage.allow_local is false")
    if kind not in ("s3", "file"):
        raise AddressRefused(f"{uri}: a manifest may name s3:// objects and files, not {kind}:// addresses")
    return admitted


def scheme(uri: str) -> str:
    """What serves the address, in small letters; "file" for a plain path."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else "file"


def has_scheme(uri: str) -> bool:
    """Whether it is an address that says what serves it, and not a path."""
    return _SCHEME.match(uri) is not None


def normalise(uri: str) -> str:
    """The one spelling of an address: plain paths become absolute `file://` addresses.

    Normalising twice changes nothing. Symbolic links stay as they are written. S3 keys are
    opaque: a double slash in one is kept, for S3 tells it from a single one.

    Raises:
        JobError: an address without a bucket, or a `file://` address that is not absolute.
    """
    kind = scheme(uri)
    if kind == "file":
        return _normal_file(uri)
    rest = uri[len(kind) + len("://") :]
    if kind == "s3":
        bucket, _, key = rest.partition("/")
        if not bucket:
            raise JobError(f"{uri!r} names no bucket: write s3://bucket/key", key="uri")
        rest = f"{bucket}/{key}" if key else bucket
    return f"{kind}://{rest}"


def _normal_file(uri: str) -> str:
    path = uri
    if has_scheme(uri):
        path = uri[len("file://") :].removeprefix("localhost")
        if not path.startswith("/"):
            raise JobError(f"{uri!r} is not absolute: write file:///folder/name, or a plain path", key="uri")
    elif not uri:
        raise JobError("an empty address names nothing", key="uri")
    # abspath keeps two leading slashes, which POSIX lets mean something and Linux does not.
    return "file://" + re.sub("^//+", "/", os.path.abspath(os.path.expanduser(path)))


def join(uri: str, *names: str) -> str:
    """The address of something below another; a name may hold slashes."""
    for name in names:
        uri = (uri if uri.endswith("/") else uri + "/") + name.strip("/")
    return uri


def relative(uri: str, prefix: str) -> str:
    """The path of an object below the prefix it was listed under; its own name where they are one."""
    below = uri.removeprefix(prefix).lstrip("/") if is_under(uri, prefix) else ""
    return below or uri.rstrip("/").rpartition("/")[2]


def is_under(uri: str, prefix: str) -> bool:
    """Whether listing the prefix would meet the address (both in their normal spelling)."""
    return uri == prefix or uri.startswith(prefix if prefix.endswith("/") else prefix + "/")
