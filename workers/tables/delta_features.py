"""Features that a Delta table says whoever reads or writes it has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.errors import JobError

if TYPE_CHECKING:
    from schemas.tables import Place

NOT_READ = {
    "deletionVectors": "rows deleted without their file being written anew; run REORG TABLE … APPLY (PURGE)",
    "columnMapping": "columns of other names than the table's; write it without delta.columnMapping.mode",
}
"""Features that a reader has to know, and what they are."""

WRITTEN = frozenset(
    {
        "appendOnly",
        "changeDataFeed",
        "checkConstraints",
        "columnMapping",
        "deletionVectors",
        "generatedColumns",
        "invariants",
        "timestampNtz",
        "v2Checkpoint",
        "variantType",
        "variantType-preview",
    }
)
"""Features of a table that delta-rs (1.6.6) commits to. It has no list that could be asked: others it refuses
at the commit, and by then everything has been paid for."""

BY_NAME = 7
"""The writer version whose features are named. Of those before it, 6 alone has one that is not written
(identityColumns)."""


def refuse_unread(table: Any, place: Place) -> None:
    """Of delta-rs' handle.

    Raises:
        JobError: it uses a feature of NOT_READ.
    """
    protocol, told = table.protocol(), table.metadata().configuration
    used = {
        # Told by a name among the features, or in tables from before there were names by the version alone.
        "columnMapping": told.get("delta.columnMapping.mode", "none") != "none",
        "deletionVectors": "deletionVectors" in (protocol.reader_features or ())
        and len(table.deletion_vectors().read_all()) > 0,
    }
    for feature, is_used in used.items():
        if is_used:
            raise JobError(f"{place.uri} has {feature}, which is not read: {NOT_READ[feature]}", key="table")


def refuse_unwritten(table: Any, place: Place) -> None:
    """The same of what delta-rs commits nothing to, whether a table uses it or only names it.

    Raises:
        JobError: it has a feature that is not in WRITTEN.
    """
    protocol = table.protocol()
    version, names = protocol.min_writer_version, protocol.writer_features or ()
    lacking = sorted(set(names) - WRITTEN)
    if version == BY_NAME - 1 or version > BY_NAME:
        lacking = [f"writer version {version}"]
    if lacking:
        raise JobError(
            f"{place.uri} has {', '.join(lacking)}, which delta-rs does not write: name another table "
            "(table.into: one beside it; or sink.tables)",
            key="table",
        )
