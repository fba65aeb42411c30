"""Where objects lie: one file per kind of address, one Protocol for all of them.

Sources list through it, expand reads through it, sinks and the run's own files publish through
it. A published object appears whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from schemas.storage import StorageOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["ObjectInfo", "Storage", "StorageOptions"]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as listed. `version` is its etag, or size and modification time."""

    uri: str
    version: str
    size: int
    modified: datetime | None = None


class Storage(Protocol):
    """One kind of address. Picklable: clients are made lazily, on the worker.

    Every call raises `ObjectMissing`, `AccessDenied`, `StorageUnavailable` or `ObjectChanged` of
    `schemas.errors`, after its own retries, and nothing else of its library's.
    """

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        """Stream the objects under a prefix, in key order, without holding them. The prefix of an
        object that exists is that object alone. A prefix with nothing under it yields nothing."""
        ...

    def info(self, uri: str) -> ObjectInfo:
        """One object's facts."""
        ...

    def read(
        self, uri: str, *, version: str | None = None, start: int = 0, length: int | None = None
    ) -> bytes:
        """Bytes of one object, whole or a range; of that very version, or `ObjectChanged`."""
        ...

    def publish(self, uri: str, content: bytes) -> None:
        """Put the object there in one step, replacing what is there: no reader sees half of it."""
        ...

    def claim(self, uri: str, content: bytes, version: str | None) -> ObjectInfo | None:
        """Publish only if the object still is of that version, or, with None, only if nothing is there.

        Content that is already there counts as written by this call, since an answer of the store may
        get lost: claims of different owners must differ, by a random token for instance. Claims
        exclude claims; a `publish` or `delete` at the same moment is not waited for.

        Returns:
            What was written, whose version goes into the next claim; None when somebody else was faster.
        """
        ...

    def remove_unfinished(self, uri: str) -> int:
        """Remove what writers that died left of objects they never finished, below a prefix; how many
        there were. A writer that is still at work would lose its object: only for who writes alone."""
        ...

    def delete(self, uri: str) -> None:
        """Remove it; removing what is not there is success."""
        ...
