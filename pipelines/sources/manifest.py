"""Documents by name: a txt, csv, jsonl or parquet with a `uri` for each."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines.sources import ROWS
from pipelines.sources.listing import Globs, documents_table
from pipelines.sources.manifest_rows import open_rows
from pipelines.sources.seen import SeenSet
from schemas.errors import AddressRefused, GemstreamError, JobError, ObjectMissing
from schemas.ids import document_id
from workers.storage import ObjectInfo
from workers.storage.factory import (
    admit,
    has_scheme,
    is_under,
    look_up,
    normalise,
    open_storage,
    relative,
    scheme,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workers.storage import StorageOptions

THREADS = 16
"""Look-ups at a time: a manifest has no versions, so each document costs one HEAD request."""


class ManifestSource:
    """The documents of a manifest in its order, each once, its other columns as `attributes`.

    A relative name is relative to the manifest. A row that names nothing is listed as
    `<manifest>#row-<n>`, so that it fails by that name instead of vanishing. Memory: two chunks
    of rows, and 16 bytes for each row to know what came before (`SeenSet`).
    """

    def __init__(
        self,
        manifest: str,
        storage_options: StorageOptions,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        limit: int | None = None,
        rows: int = ROWS,
    ) -> None:
        """Reads as much as it takes to know the columns.

        Globs are matched against the path below the manifest's folder, or else the whole key or path.

        Raises:
            JobError: no manifest there, of no known format, or without a `uri` column.
        """
        self.uri = normalise(manifest)
        self.globs = Globs(include, exclude)
        self.limit = limit
        self.rows = rows
        self.duplicates = 0
        self._options = storage_options
        self._folder = self.uri.rpartition("/")[0]
        storage = open_storage(self.uri, storage_options)
        try:
            self._rows = open_rows(storage, storage.info(self.uri))
        except ObjectMissing as error:
            raise JobError(f"manifest: {error.message}", key="manifest") from error
        self.attributes = self._rows.attributes

    def check(self) -> None:
        """Nothing: its columns were read when it was opened; see `Source.check`."""

    def documents(self) -> Iterator[pa.Table]:
        """Stream the tables, looking one chunk ahead; see `Source.documents`."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="look-up") as threads:
            ahead: tuple[list[Future[ObjectInfo]], pa.StructArray | None] | None = None
            for uris, attributes in self._named():
                begun = [threads.submit(self._info, uri) for uri in uris]
                if ahead is not None:
                    yield _table(*ahead)
                ahead = begun, attributes
            if ahead is not None:
                yield _table(*ahead)

    def _named(self) -> Iterator[tuple[list[str], pa.StructArray | None]]:
        """The wanted documents of each chunk: no globbed-out one, none twice, no more than the limit."""
        self.duplicates = 0
        seen, number, left = SeenSet(), 0, self.limit
        for names, attributes in self._rows.chunks(self.rows):
            uris = [self._resolve(name, number + offset) for offset, name in enumerate(names, 1)]
            number += len(names)
            wanted = [
                index
                for index, uri in enumerate(uris)
                if not names[index] or self.globs.wants(self._path(uri))
            ]
            fresh = seen.add([bytes.fromhex(document_id(uris[index])) for index in wanted])
            self.duplicates += fresh.count(False)
            kept = [index for index, new in zip(wanted, fresh, strict=True) if new][:left]
            if kept:
                rest = None if attributes is None else attributes.take(pa.array(kept, pa.int64()))
                yield [uris[index] for index in kept], rest
            if left is not None:
                left -= len(kept)
                if left == 0:
                    return

    def _resolve(self, name: str | None, number: int) -> str:
        """The normal spelling of what a row names; as it is written where that is refused."""
        if not name:
            return f"{self.uri}#row-{number}"
        name = self._absolute(name)
        try:
            return admit(name, self._options)
        except AddressRefused:
            return name

    def _absolute(self, name: str) -> str:
        if has_scheme(name) or name.startswith(("/", "~/")):
            return name
        if scheme(self._folder) != "s3":
            return f"{self._folder}/{name}"
        # Empty steps are steps: S3 tells a double slash from a single one.
        bucket, *steps = self._folder.removeprefix("s3://").split("/")
        for step in name.split("/"):
            if step == "..":
                del steps[-1:]
            elif step != ".":
                steps.append(step)
        return "/".join([f"s3://{bucket}", *steps])

    def _path(self, uri: str) -> str:
        if is_under(uri, self._folder):
            return relative(uri, self._folder)
        rest = uri.partition("://")[2].lstrip("/")
        return rest.partition("/")[2] if scheme(uri) == "s3" else rest

    def _info(self, uri: str) -> ObjectInfo:
        try:
            return look_up(uri, self._options)
        except GemstreamError:
            # Not lost: the document is listed, and expand meets the same error and writes it down.
            return ObjectInfo(uri=uri, version="", size=-1)


def _table(begun: Sequence[Future[ObjectInfo]], attributes: pa.StructArray | None) -> pa.Table:
    table = documents_table([future.result() for future in begun])
    return table if attributes is None else table.append_column("attributes", attributes)
