"""An object as a seekable file, for libraries that read a few ranges of it or go through it once."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from workers.storage import ObjectInfo, Storage

READ_AHEAD = 4 * 1024 * 1024
"""Bytes per request when an object is read from front to end."""


def open_object(storage: Storage, info: ObjectInfo, read_ahead: int = READ_AHEAD) -> BinaryIO:
    """The object as a buffered file; every read is of the version in `info`, or `ObjectChanged`.

    Args:
        storage: what serves the object.
        info: its facts, as `Storage.info` or a listing gave them.
        read_ahead: bytes to ask for at a time. 0 for readers such as Parquet's, which know their ranges.
    """
    raw = ObjectFile(storage, info)
    return io.BufferedReader(raw, read_ahead) if read_ahead else raw  # type: ignore[return-value]


class ObjectFile(io.RawIOBase):
    """Unbuffered: each read is one ranged request."""

    def __init__(self, storage: Storage, info: ObjectInfo) -> None:
        """Nothing is read yet."""
        self._storage = storage
        self._info = info
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is read by it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._info.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill the buffer with one ranged request, or as much of it as the object has."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._info.size - self._at)
        if wanted <= 0:
            return 0
        info = self._info
        content = self._storage.read(info.uri, version=info.version, start=self._at, length=wanted)
        view[: len(content)] = content
        self._at += len(content)
        return len(content)
