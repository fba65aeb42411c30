"""What a table lacks of its folder, and what it has too much: THE TABLE HOLDS EXACTLY THE ROWS OF ITS FOLDER.

The key columns of the part files are held against those of the table's data files, share by share of the
documents, so that the driver's memory does not grow with either. A run with a shard looks at its own
documents and leaves the rows of all others to their runs; rows of documents that nobody here knows of are
left alone.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.holdings import numbered
from pipelines.lake.committing import Change
from pipelines.lake.portions import of_parts, of_rest
from schemas.shard import Shard
from workers.sinks.reading import FILES_AT_ONCE, read_parts
from workers.tables.shapes import evolved

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from pipelines.lake.tables import LakeTable
    from pipelines.plan import Plan
    from workers.storage import ObjectInfo
    from workers.tables import DataFile, Snapshot

ROWS_AT_ONCE = 8_000_000
"""Rows, of folder and table together, that are held against each other at once: 6 GB at 790 bytes a row of
either, at its peak, which is less than the end of a run takes before it (`pipelines/holdings.py`). 2.2 us a
row, besides reading the columns."""

PLACE = pa.schema([pa.field("file", pa.int32()), pa.field("row", pa.int64())])
"""A row by its place: `file` counts in a list of files, `row` in that file."""


def find_change(plan: Plan, table: LakeTable, snapshot: Snapshot, listed: pa.Array) -> Change:
    """What a commit is to bring, for the table to hold what its folder holds.

    Args:
        plan: the run.
        table: of it.
        snapshot: its newest.
        listed: ids of the documents that this run has listed.

    Raises:
        ObjectChanged: a run of another shard has swept, or has committed to the table, meanwhile: look again
            (so do ObjectMissing, SnapshotGone).
        JobError: a column has another type there; both are named.
        GemstreamError: a store does not answer.
    """
    files, folder = snapshot.files(), _Folder(plan, table)
    put, drop = [PLACE.empty_table()], [PLACE.empty_table()]
    for shard in _shares(plan, folder.count() + sum(file.rows for file in files)):
        ours = folder.rows(shard)
        there = _rows_there(snapshot, files, ours.schema, shard)
        ended = pa.concat_arrays([listed, _ended(plan, shard)]) if table.settled else listed.slice(0, 0)
        lacking, surplus = differences(ours, there, table.keys, ended)
        put.append(lacking)
        drop.append(surplus)
    added, removed = by_file(pa.concat_tables(put)), by_file(pa.concat_tables(drop))
    return Change(
        snapshot=snapshot,
        portions=(*of_parts(plan.job.storage, folder.files, added), *of_rest(snapshot, files, removed)),
        remove=tuple(files[file] for file in sorted(removed)),
        schema=folder.evolved(snapshot.schema),
        added=sum(map(len, added.values())),
        removed=sum(map(len, removed.values())),
    )


def differences(
    folder: pa.Table, there: pa.Table, keys: Sequence[str], listed: pa.Array
) -> tuple[pa.Table, pa.Table]:
    """PLACEs of the rows that a table lacks, and of those that it has too much.

    A row that is in the folder more than once counts as one, and so it does in the table: all but the first
    go. What goes is about documents that the folder has rows of, or that are listed: the rest is nobody's
    here.

    Args:
        folder: `keys`, `file` and `row` of the rows there.
        there: the same of the table.
        keys: what a row is known by; null is a value like any other.
        listed: ids of documents.
    """
    import numpy as np

    ours, theirs = (pa.array(np.arange(len(rows))) for rows in (folder, there))
    both = pa.concat_tables(
        [
            folder.select(keys)
            .append_column("ours", ours)
            .append_column("theirs", pa.nulls(len(ours), ours.type)),
            there.select(keys)
            .append_column("ours", pa.nulls(len(theirs), ours.type))
            .append_column("theirs", theirs),
        ]
    )
    rows = both.group_by(list(keys)).aggregate([("ours", "min"), ("theirs", "min")])
    lacking = rows["ours_min"].filter(pc.is_null(rows["theirs_min"]))
    right = rows["theirs_min"].filter(pc.is_valid(rows["ours_min"])).drop_null()
    wrong = np.ones(len(there), bool)
    wrong[right.to_numpy()] = False
    known = pa.concat_arrays([folder["document_id"].combine_chunks(), listed])
    gone = pc.and_(pc.is_in(there["document_id"], known), pa.array(wrong))
    return folder.take(lacking).select(PLACE.names), there.filter(gone).select(PLACE.names)


def _ended(plan: Plan, shard: Shard | None) -> pa.Array:
    """Ids of the documents that some run has brought to an end: this one may not have listed what an earlier
    one has made good, that never came to its tables."""
    mine = partial(numbered, shard=shard)
    parts = read_parts(plan.output, plan.job.storage, "documents", ["document_id"], mine)
    ids = [part.rows["document_id"].cast(pa.string()).combine_chunks() for part in parts]
    return pa.concat_arrays([pa.array([], pa.string()), *ids])


class _Folder:
    """The part files of a table's folder, as they are met: each with its place in `files`."""

    def __init__(self, plan: Plan, table: LakeTable) -> None:
        self._plan, self._table = plan, table
        self._places: dict[tuple[str, str], int] = {}
        self._schemas: list[pa.Schema] = []
        fields = [table.schema.field(name).with_nullable(True) for name in table.keys]
        self._columns = pa.schema([*fields, *PLACE])
        self.files: list[ObjectInfo] = []

    def count(self) -> int:
        """Rows in it; read from the footers."""
        plan, table = self._plan, self._table
        return sum(part.count for part in read_parts(plan.output, plan.job.storage, table.folder, ()))

    def rows(self, shard: Shard | None) -> pa.Table:
        """Keys and PLACEs of the rows about documents of that shard."""
        plan, table = self._plan, self._table
        tables = [self._columns.empty_table()]
        mine = partial(numbered, shard=shard)
        for part in read_parts(plan.output, plan.job.storage, table.folder, table.keys, mine):
            if not any(part.schema.equals(known) for known in self._schemas):
                self._schemas.append(part.schema)
            place = self._places.setdefault((part.info.uri, part.info.version), len(self.files))
            if place == len(self.files):
                self.files.append(part.info)
            tables.append(_placed(part.rows, place, self._columns))
        return pa.concat_tables(tables)

    def evolved(self, there: pa.Schema) -> pa.Schema:
        """The table's schema with what the job and the part files have besides: answers of an earlier schema
        may lie there still, with fields of their own."""
        where = self._table.place.uri
        schema = evolved(there, self._table.schema, where)
        for written in self._schemas:
            schema = evolved(schema, written, f"{where}, for {self._table.folder}/")
        return schema


def _rows_there(
    snapshot: Snapshot, files: Sequence[DataFile], columns: pa.Schema, shard: Shard | None
) -> pa.Table:
    """Keys and PLACEs of the table's rows about documents of that shard."""
    keys = [name for name in columns.names if name not in PLACE.names]
    there = pa.schema([snapshot.schema.field(name) for name in keys])

    def read(place: int) -> pa.Table:
        rows = pa.Table.from_batches(
            [batch.cast(there) for batch in snapshot.read(files[place], keys)], there
        )
        plain = rows.cast(pa.schema([columns.field(name) for name in keys]))
        return _placed(numbered(plain, shard), place, columns)

    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="table") as threads:
        return pa.concat_tables([columns.empty_table(), *threads.map(read, range(len(files)))])


def _placed(rows: pa.Table, place: int, columns: pa.Schema) -> pa.Table:
    rows = rows.append_column("file", pa.repeat(pa.scalar(place, pa.int32()), len(rows)))
    return rows.select(columns.names).cast(columns)


def _shares(plan: Plan, rows: int) -> list[Shard]:
    """The run's documents in so many shares that none has more than ROWS_AT_ONCE of these rows."""
    shard = plan.selection.shard or Shard(index=1, count=1)
    return shard.split(math.ceil(rows / (ROWS_AT_ONCE * shard.count)) or 1)


def by_file(places: pa.Table) -> dict[int, npt.NDArray[np.int64]]:
    """Of PLACEs, the rows of each file in order."""
    import numpy as np

    places = places.sort_by([(name, "ascending") for name in PLACE.names])
    files, starts = np.unique(places["file"].to_numpy(), return_index=True)
    return (
        dict(zip(files.tolist(), np.split(places["row"].to_numpy(), starts[1:]), strict=True))
        if len(files)
        else {}
    )
