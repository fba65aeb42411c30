"""Rows of `documents/` are held against rows of tables by workers, so that the driver holds neither.

Each reads the keys of some files and deals them out by shares of the documents, and each share is matched by
one worker. Ray keeps what is between them, on disk if it must.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.cluster import unwrapped
from pipelines.holdings import numbered
from pipelines.lake.committing import RETRIES
from schemas.enriched import DOCUMENT, FACTS
from workers.enrich import READ, facts_of, states
from workers.keys import key_digests
from workers.matching import (
    FOUND,
    HELD,
    MADE,
    NAMED,
    PAIRS,
    PARTS,
    PLACES,
    SHARE_ROWS,
    match_beside,
    match_same,
    split,
    wanted,
)
from workers.sinks.reading import read_part
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipelines.lake.into import Into
    from schemas.shard import Shard
    from schemas.storage import StorageOptions
    from workers.storage import ObjectInfo
    from workers.tables import DataFile, Snapshot

PARTS_AT_ONCE = 64
"""Part files whose keys one worker reads: up to 128,000 documents."""
PART_ROWS = 2_000
"""Rows of a part file of documents at most, as they are assembled."""


@dataclass(frozen=True)
class Looked:
    """What the matching is of.

    Attributes:
        parts: the part files of `documents/`.
        snapshot: of the table that is read.
        files: of it.
        shard: of the documents; all if not given.
    """

    storage: StorageOptions
    parts: Sequence[ObjectInfo]
    snapshot: Snapshot
    files: Sequence[DataFile]
    shard: Shard | None = None


def matched_same(into: Into, looked: Looked, *, anew: bool) -> tuple[pa.Table, pa.Table]:
    """PAIRS and PLACES; see `match_same`. Runs on the connected Ray."""
    shares = _shares(looked)
    made = _made(looked, shares)
    snapshot = _put(looked.snapshot)
    found = _dealt(_found_rows, [(into, snapshot, *each) for each in enumerate(looked.files)], shares)
    results = _gathered(
        [
            _remote(_match_same).remote(
                bool(into.key), anew, len(made), *_of(made, share), *_of(found, share)
            )
            for share in range(shares)
        ]
    )
    pairs = pa.concat_tables([PAIRS.empty_table(), *(result[0] for result in results)])
    pairs = pairs.group_by(["file", "part"], use_threads=False).aggregate([("rows", "sum")])
    places = pa.concat_tables([PLACES.empty_table(), *(result[1] for result in results)])
    return pairs.rename_columns(PAIRS.names), places


def matched_beside(
    into: Into, looked: Looked, beside: Snapshot, held_files: Sequence[DataFile], *, anew: bool
) -> tuple[pa.Table, pa.Table]:
    """PARTS of what is to be put, and PLACES of what is to go; see `match_beside`. Runs on the
    connected Ray."""
    shares = _shares(looked)
    made = _made(looked, shares)
    snapshot, there = _put(looked.snapshot), _put(beside)
    named = _dealt(_named_rows, [(into, snapshot, file) for file in looked.files], shares)
    want = [
        _remote(_wanted, shares).remote(shares, len(made), *_of(made, share), *_of(named, share))
        for share in range(shares)
    ]
    want = [each if shares > 1 else [each] for each in want]
    held = _dealt(_held_rows, [(into, there, *each) for each in enumerate(held_files)], shares)
    results = _gathered(
        [
            _remote(_match_beside).remote(anew, len(want), *_of(want, share), *_of(held, share))
            for share in range(shares)
        ]
    )
    put = pa.concat_tables([PARTS.empty_table(), *(result[0] for result in results)])
    return put, pa.concat_tables([PLACES.empty_table(), *(result[1] for result in results)])


def _shares(looked: Looked) -> int:
    rows = len(looked.parts) * PART_ROWS + sum(file.rows for file in looked.files)
    return math.ceil(rows / SHARE_ROWS) or 1


def _made(looked: Looked, shares: int) -> list[list[Any]]:
    starts = range(0, len(looked.parts), PARTS_AT_ONCE)
    told = looked.storage, looked.shard
    groups = [(*told, looked.parts[start : start + PARTS_AT_ONCE], start) for start in starts]
    return _dealt(_made_rows, groups, shares)


def _put(snapshot: Snapshot) -> Any:
    """Once for all tasks: it may name ten thousand files."""
    import ray

    return ray.put(snapshot)


def _remote(work: Callable[..., Any], returns: int = 1) -> Any:
    import ray

    return ray.remote(num_cpus=1, max_retries=RETRIES, num_returns=returns)(work)


def _dealt(work: Callable[..., Any], groups: Sequence[tuple[Any, ...]], shares: int) -> list[list[Any]]:
    """For each group, references to its rows of each share."""
    task = _remote(work, shares)
    dealt = [task.remote(shares, *group) for group in groups]
    return [each if shares > 1 else [each] for each in dealt]


def _of(dealt: Sequence[Sequence[Any]], share: int) -> list[Any]:
    return [each[share] for each in dealt]


def _gathered(references: Sequence[Any]) -> list[Any]:
    import ray

    try:
        found: list[Any] = ray.get(list(references))
    except ray.exceptions.RayError as error:
        raise unwrapped(error) from error
    return found


def _deal(rows: pa.Table, column: str, shares: int) -> Any:
    dealt = split(rows, column, shares)
    return dealt if shares > 1 else dealt[0]


def _made_rows(
    shares: int, storage: StorageOptions, shard: Shard | None, parts: Sequence[ObjectInfo], start: int
) -> Any:
    tables = [MADE.empty_table()]
    for place, info in enumerate(parts, start):
        rows = numbered(read_part(open_storage(info.uri, storage), info, list(READ)).rows, shard)
        columns = [
            rows["document_id"],
            states(facts_of(rows)),
            rows["run_id"],
            _repeated(place, rows),
            rows["row"].cast(pa.int32()),
        ]
        tables.append(pa.Table.from_arrays(columns, schema=MADE))
    return _deal(pa.concat_tables(tables), "id", shares)


def _found_rows(shares: int, into: Into, snapshot: Snapshot, place: int, file: DataFile) -> Any:
    ours = [name for name in FACTS.names if name in snapshot.schema.names]
    tables = [FOUND.empty_table()]
    for rows, places in _read(snapshot, file, [*into.naming.columns, *ours]):
        columns = [into.naming.ids(rows), _repeated(place, rows), places, *_state(rows)]
        tables.append(pa.Table.from_arrays(columns, schema=FOUND))
    return _deal(pa.concat_tables(tables), "id", shares)


def _named_rows(shares: int, into: Into, snapshot: Snapshot, file: DataFile) -> Any:
    tables = [NAMED.empty_table()]
    for rows, _ in _read(snapshot, file, into.naming.columns):
        ids = into.naming.ids(rows)
        keys = key_digests([rows[name] for name in into.key]) if into.key else ids
        tables.append(pa.Table.from_arrays([ids, keys], schema=NAMED))
    return _deal(pa.concat_tables(tables), "id", shares)


def _held_rows(shares: int, into: Into, snapshot: Snapshot, place: int, file: DataFile) -> Any:
    tables = [HELD.empty_table()]
    for rows, places in _read(snapshot, file, [*into.key, *FACTS.names]):
        there, state = _state(rows)
        keys = key_digests([rows[name] for name in into.key]) if into.key else there
        tables.append(pa.Table.from_arrays([keys, there, state, _repeated(place, rows), places], schema=HELD))
    return _deal(pa.concat_tables(tables), "key", shares)


def _read(snapshot: Snapshot, file: DataFile, columns: Sequence[str]) -> Iterator[tuple[pa.Table, pa.Array]]:
    """The rows, some thousand at a time, and their places in the file."""
    import numpy as np

    start = 0
    for batch in snapshot.read(file, list(dict.fromkeys(columns))):
        yield pa.Table.from_batches([batch]), pa.array(np.arange(start, start + len(batch)))
        start += len(batch)


def _repeated(place: int, rows: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar(place, pa.int32()), len(rows))


def _state(rows: pa.Table) -> list[Any]:
    """The document whose answers each row has, and their state."""
    if any(name not in rows.column_names for name in FACTS.names):
        return [pa.nulls(len(rows), pa.string()), pa.nulls(len(rows), pa.string())]
    return [rows[DOCUMENT].cast(pa.string()), states(rows)]


def _match_same(keyed: bool, anew: bool, made: int, *pieces: pa.Table) -> tuple[pa.Table, pa.Table]:
    found = pa.concat_tables([FOUND.empty_table(), *pieces[made:]])
    return match_same(pa.concat_tables([MADE.empty_table(), *pieces[:made]]), found, keyed=keyed, anew=anew)


def _wanted(shares: int, made: int, *pieces: pa.Table) -> Any:
    named = pa.concat_tables([NAMED.empty_table(), *pieces[made:]])
    return _deal(wanted(pa.concat_tables([MADE.empty_table(), *pieces[:made]]), named), "key", shares)


def _match_beside(anew: bool, want: int, *pieces: pa.Table) -> tuple[pa.Table, pa.Table]:
    held = pa.concat_tables([HELD.empty_table(), *pieces[want:]])
    put, gone = match_beside(pa.concat_tables(pieces[:want]), held, anew=anew)
    return put.select(PARTS.names), gone
