"""Documents by listing prefixes: of S3, or folders."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from pipelines.sources import ROWS
from pipelines.sources.listing import Globs, documents_table, in_chunks
from schemas.errors import JobError
from workers.storage.factory import is_under, join, normalise, open_storage, relative

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from workers.storage import ObjectInfo, StorageOptions


class PrefixSource:
    """Every object below some prefixes, in their order; nothing but one page of a listing is held."""

    attributes: pa.DataType | None = None
    duplicates: int = 0

    def __init__(
        self,
        prefixes: Sequence[str],
        storage_options: StorageOptions,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        limit: int | None = None,
        rows: int = ROWS,
        output: str | None = None,
    ) -> None:
        """Says what to list; nothing is listed yet. A prefix given twice is listed once. What lies below the
        output is passed over.

        Raises:
            JobError: a scheme that nothing serves, a glob that does not hold, or a prefix inside
                another: its objects would come twice, and to notice each would have to be remembered.
        """
        self.prefixes = tuple(dict.fromkeys(normalise(prefix) for prefix in prefixes))
        self.globs = Globs(include, exclude)
        self.limit = limit
        self.rows = rows
        self._output = None if output is None else join(normalise(output), "")
        self._storages = [open_storage(prefix, storage_options) for prefix in self.prefixes]
        for prefix in self.prefixes:
            for other in self.prefixes:
                if prefix != other and is_under(prefix, other):
                    raise JobError(f"input {prefix} lies inside input {other}: leave it out", key="input")

    def check(self) -> None:
        """List the first page of each prefix; see `Source.check`."""
        for storage, prefix in zip(self._storages, self.prefixes, strict=True):
            next(iter(storage.list(prefix)), None)

    def documents(self) -> Iterator[pa.Table]:
        """Stream the tables; see `Source.documents`."""
        for chunk in in_chunks(islice(self._wanted(), self.limit), self.rows):
            yield documents_table(chunk)

    def _wanted(self) -> Iterator[ObjectInfo]:
        for storage, prefix in zip(self._storages, self.prefixes, strict=True):
            for info in storage.list(prefix):
                if self._output is not None and info.uri.startswith(self._output):
                    continue
                if self.globs.wants(relative(info.uri, prefix)):
                    yield info
