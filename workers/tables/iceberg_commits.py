"""Which Iceberg tables are committed to, what one says of its commits, and a catalog that is asked again
before one is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.errors import JobError
from workers.tables import KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.tables import Place

WRITTEN = 2
"""The format's version that tables are made in, and the newest that pyiceberg commits to (0.12)."""

NO_RETRIES = {"commit.retry.num-retries": "0"}
"""pyiceberg would make a failed commit again of what it finds then: without the files that this one replaces,
if they are gone by then, and with their rows twice."""


def refuse_unwritten(table: Any, place: Place) -> None:
    """Of pyiceberg's handle.

    Raises:
        JobError: it is of a newer version of the format than WRITTEN.
    """
    if table.format_version > WRITTEN:
        raise JobError(
            f"{place.uri} is of Iceberg's format version {table.format_version}, and {WRITTEN} is the newest "
            "that is written: name another table (table.into: one beside it; or sink.tables)",
            key="table",
        )


def has_commit(table: Any, key: str) -> bool:
    """Whether a snapshot that is kept is by this key."""
    return any(
        snapshot.summary is not None and snapshot.summary.additional_properties.get(KEY) == key
        for snapshot in table.metadata.snapshots
    )


def made_once(table: Any, key: str) -> Any:
    """The table, to commit by this key once.

    A gateway that loses an answer asks again, and is told that others were faster: by the commit itself. At
    such an answer pyiceberg removes the commit's manifests, and nobody could read the table any more. So the
    catalog is asked for the key before pyiceberg hears of it.
    """
    from pyiceberg.exceptions import CommitFailedException
    from pyiceberg.table import CommitTableResponse

    catalog, plainly = table.catalog, table.catalog.commit_table

    def commit_table(handle: Any, requirements: Sequence[Any], updates: Sequence[Any]) -> Any:
        try:
            return plainly(handle, requirements, updates)
        except CommitFailedException:
            there = catalog.load_table(handle.name())
            if not has_commit(there, key):
                raise
            return CommitTableResponse(metadata=there.metadata, metadata_location=there.metadata_location)

    catalog.commit_table = commit_table
    table.metadata = table.metadata.model_copy(
        update={"properties": {**table.metadata.properties, **NO_RETRIES}}
    )
    return table
