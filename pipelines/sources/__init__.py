"""What there is to do: one file per kind of source, one Protocol for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from schemas.errors import JobError
from workers.registry import resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import pyarrow as pa

    from schemas.tables import TableOptions
    from workers.storage import StorageOptions

SOURCES = {
    "prefix": "pipelines.sources.prefix:PrefixSource",
    "manifest": "pipelines.sources.manifest:ManifestSource",
    "table": "pipelines.sources.table:TableSource",
}

ROWS = 1000
"""Documents per table: one page of an S3 listing."""


class Source(Protocol):
    """One kind of list of documents."""

    attributes: pa.DataType | None
    """The type of a manifest's or table's own columns, known before the first document; None if there are
    none."""

    duplicates: int
    """Documents named more than once and left out so far."""

    def check(self) -> None:
        """Look whether it can be listed at all, which costs a request or two and spares the start of Ray.

        Raises:
            GemstreamError: what `documents` would raise at once.
        """
        ...

    def documents(self) -> Iterator[pa.Table]:
        """Stream tables of `rows.DOCUMENTS`, `lane` null, with `attributes` last if there are any.

        A document whose `version` is empty could not be looked up. It is listed all the same, the feed
        looks once more, and the stage that fetches it finds out why, through `factory.look_up`.

        Raises:
            JobError: the list itself is wrong.
            GemstreamError: what `Storage.list` raises.
        """
        ...


def open_source(
    input: Sequence[str],
    storage_options: StorageOptions,
    *,
    manifest: str | None = None,
    table: TableOptions | None = None,
    added: Collection[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    limit: int | None = None,
    rows: int = ROWS,
    output: str | None = None,
) -> Source:
    """The source of a job, whose `input`, `manifest` or `table` decides its kind.

    Args:
        input: prefixes to list; none where there is a manifest or a table.
        storage_options: how to reach object stores.
        manifest: a txt, csv, jsonl or parquet that names the documents.
        table: whose rows are the documents.
        added: columns of it that are answers of this output: no document carries those along.
        include: only paths that match one of these globs, written as in a .gitignore.
        exclude: not the paths that match one of these.
        limit: stop after this many documents.
        rows: documents per table.
        output: of the job: what lies there is none of its documents, and none of the limit's.

    Raises:
        JobError: none or several of input, manifest and table, a glob that can match nothing, inputs
            that overlap.
    """
    if sum(map(bool, (input, manifest, table))) != 1:
        raise JobError("a job reads input, manifest or table, and one of them", key="input")
    kind = "table" if table else "manifest" if manifest else "prefix"
    own: dict[str, dict[str, Any]] = {"table": {"added": added}, "prefix": {"output": output}}
    source: Source = resolve(SOURCES, kind, "source")(
        table or manifest or input,
        storage_options,
        include=include,
        exclude=exclude,
        limit=limit,
        rows=rows,
        **own.get(kind, {}),
    )
    return source
