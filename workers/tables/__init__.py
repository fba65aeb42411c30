"""Tables of a data lake: one file per format, one Protocol for all of them.

A table is read a data file at a time, by whoever is told of the file, and changed by whole data files: they
are written first, by anybody, and enter the table together, in one commit of the driver, with those that they
replace going. A row is changed by writing its file anew without it. So a reader sees all of a commit or
nothing, in every format alike, and what a writer that died has left is in no snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from workers.registry import TABLES, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from schemas.storage import StorageOptions
    from schemas.tables import Place

RUN = "gemstream.run"
"""Property of a commit: the run that made it."""
KEY = "gemstream.commit"
"""Property of a commit: its idempotence key. There is one commit of a key at most."""
OUTPUT = "gemstream.output"
"""Property of a table that is written to: the output whose rows it holds."""


STAGED = "gemstream-"
"""Begins the name of every data file that a run writes."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a snapshot. Picklable.

    Attributes:
        path: names it, in this snapshot.
        rows: in it, those that are deleted left out.
        bytes: its size, as far as that is known.
        detail: what its format needs besides to read it or take it out.
        ours: whether a run of Gemstream wrote it, and nobody since: by the name that it was staged under.
    """

    path: str
    rows: int
    bytes: int = 0
    detail: Any = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Staged:
    """A data file that is written, and in no snapshot yet. Picklable.

    Attributes:
        path: where it lies.
        rows: in it.
        bytes: its size.
        detail: what its format needs to take it in.
    """

    path: str
    rows: int
    bytes: int
    detail: Any = None


class Snapshot(Protocol):
    """One state of a table. Picklable, so that workers read the files of one and the same."""

    version: str
    """As the format counts them."""

    schema: pa.Schema
    """Its columns, those of hive partitions included, in plain Arrow types (no views, no dictionaries)."""

    properties: Mapping[str, str]
    """Of the table, those with `gemstream.` before them among them."""

    def files(self, where: str | None = None, since: str | None = None) -> list[DataFile]:
        """Its data files, in an order that is the same at every call.

        Args:
            where: a filter, as SQL writes it; files in which it holds for no row may be left out.
            since: an earlier version: only files that are not in that one.

        Raises:
            SnapshotGone: there is no such earlier version any more.
            JobError: the filter does not hold.
        """
        ...

    def read(
        self,
        file: DataFile,
        columns: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a file in their order, deleted ones left out: some thousand at a time.

        Args:
            file: one of `files`.
            columns: those wanted, in this order; all if not given. Only these are read.
            where: a filter, as SQL writes it.

        Raises:
            SnapshotGone: the file has been removed since.
            GemstreamError: what a Storage raises.
        """
        ...

    def origin(self, version: str) -> str:
        """What tells a version of this table from one of a table that was there before under the same name:
        where versions are numbers, those of a table that is made anew begin anew.

        Raises:
            SnapshotGone: there is no such version, or not any more.
        """
        ...

    def address(self, file: DataFile, row: int, column: str) -> str:
        """Where the value of a column of bytes lies, of the row at this place among those that `read` yields
        without a filter: a `row://` address, which any worker can open (`workers/storage/rows.py`)."""
        ...


class Table(Protocol):
    """A table by its place. Picklable; reaches for nothing before it is asked something.

    All methods raise StorageUnavailable where a store or catalog does not answer, after retries of their own,
    AccessDenied, and JobError where what lies there is no such table or one with features that are not known
    here.
    """

    def __init__(self, place: Place, storage: StorageOptions) -> None: ...

    def snapshot(self, version: str | None = None) -> Snapshot | None:
        """The newest state, or that of a version; None if there is no table.

        Raises:
            SnapshotGone: there is no such version, or not any more.
        """
        ...

    def fitted(self, schema: pa.Schema) -> pa.Schema:
        """The columns in types that the format has: those that hold all values of others are in their place.
        Reaches for nothing.

        Raises:
            JobError: it has none for a column, which is named.
        """
        ...

    def create(self, schema: pa.Schema, properties: Mapping[str, str]) -> Snapshot:
        """Make an empty table; one that somebody else has made meanwhile is as good."""
        ...

    def evolve(self, schema: pa.Schema) -> None:
        """Give the table the columns of this schema that it has not: null in the rows that are there.

        To be called by the driver before anything with such columns is staged; a table that has them stays as
        it is.

        Raises:
            JobError: the schema would change the type of a column; both types are named.
        """
        ...

    def stage(self, rows: pa.Table, run_id: str, name: str) -> Staged:
        """Write a data file beside those of the table. Done twice it is there once, or one of the two is a
        leftover.

        Args:
            rows: of the table's schema.
            run_id: whose it is, told by its name.
            name: what it is called otherwise: letters, digits and dashes; new for every content.
        """
        ...

    def commit(
        self,
        snapshot: Snapshot,
        add: Sequence[Staged],
        remove: Sequence[DataFile],
        properties: Mapping[str, str],
    ) -> bool:
        """Take in and take out, in one step.

        Args:
            snapshot: what the files to be removed were found in.
            add: what was staged.
            remove: files of `snapshot`.
            properties: of the commit, KEY among them.

        Returns:
            True when it is in place, this time or by an earlier try of the same KEY whose answer got lost;
            False when somebody else has committed meanwhile what this one does not go with: look again.
        """
        ...

    def committed(self, key: str) -> bool:
        """Whether there is a commit with this KEY."""
        ...

    def discard(self, run_id: str) -> int:
        """Remove what a run staged and never committed; how many files there were. Files that are in any
        snapshot that is still kept stay."""
        ...


def open_table(place: Place, storage: StorageOptions) -> Table:
    """The table of a place.

    Raises:
        JobError: a format that nobody has written here, or one whose library is not installed; it says which
            extra to install.
    """
    table: Table = resolve(TABLES, place.format, "table format")(place, storage)
    return table
