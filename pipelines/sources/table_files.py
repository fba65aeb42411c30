"""Which files of a table are new, and which keys are in them and in the others as well."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import SnapshotGone
from workers.keys import spelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipelines.sources.row_names import RowNaming
    from workers.tables import DataFile, Snapshot


def old_and_new(
    snapshot: Snapshot, where: str | None, since: str | None
) -> tuple[list[DataFile] | None, list[DataFile]]:
    """The files that an earlier version has, and those that it has not; None and all where nobody can tell.

    Args:
        snapshot: of the table.
        where: the filter of the rows that are wanted.
        since: the earlier version, if any.
    """
    files = snapshot.files(where)
    if since is None:
        return None, files
    try:
        fresh = {file.path for file in snapshot.files(where, since)}
    except SnapshotGone:
        return None, files
    old = [file for file in files if file.path not in fresh]
    return old, [file for file in files if file.path in fresh]


def keys_of_both(
    snapshot: Snapshot,
    naming: RowNaming,
    some: Sequence[DataFile],
    others: Sequence[DataFile],
    where: str | None,
) -> Iterator[list[str]]:
    """The keys of rows of `others`, as `naming` spells them without addresses, that may be those of rows of
    `some`. Memory: the keys of `some`, and a batch.

    Args:
        snapshot: of the table.
        naming: of its rows; it has a key.
        some: few files.
        others: many.
        where: the filter of the rows that count.
    """
    keyed = replace(naming, content=None)
    columns = list(naming.key)
    known: dict[str, pa.Array] = {}
    for file in some:
        for batch in snapshot.read(file, columns, where):
            for name in columns:
                seen = known.get(name, pa.array([], pa.string()))
                said = spelled(pa.chunked_array([batch.column(name)])).combine_chunks()
                known[name] = pc.unique(pa.concat_arrays([seen, said.cast(pa.string())]))
    for file in others if known else ():
        for batch in snapshot.read(file, columns, where):
            rows = pa.Table.from_batches([batch])
            both = [pc.is_in(spelled(rows[name]).cast(pa.string()), known[name]) for name in columns]
            rows = rows.filter(reduce(pc.and_, both))
            keys = [key for key in keyed.uris(rows) if key is not None]
            if keys:
                yield keys
