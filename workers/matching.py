"""Which rows of a table are to be changed for what `documents/` says, by keys alone: no answer is moved.

It is done in shares, each of which has all rows of its documents (or keys) and knows of no other. Memory: see
SHARE_ROWS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SHARE_ROWS = 4_000_000
"""Rows, of the table and of `documents/` together, that one worker matches: 0.8 GB, at 200 bytes a row at its
peak, and 2 s (measured at two million of each)."""

DIGITS = 3
"""Of a document's id, or of a key's digest, that tell its share: up to 4,096 shares of nearly one size."""

MADE = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("state", pa.string()),
        pa.field("run", pa.string()),
        pa.field("part", pa.int32()),
        pa.field("row", pa.int32()),
    ]
)
"""A row of `documents/`: the document, the state of its answers (`workers.enrich.states`), the run that made
the row (they sort by time), and where it lies: in which part file, and at which place there."""

FOUND = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("file", pa.int32()),
        pa.field("row", pa.int64()),
        pa.field("there", pa.string()),
        pa.field("state", pa.string()),
    ]
)
"""A row of a table: the document that it names, where it lies, and the document whose answers it has and the
state of those; null where it has none."""

NAMED = pa.schema([pa.field("id", pa.string()), pa.field("key", pa.string())])
"""A row of the table that is read: its document, and its key's digest."""

HELD = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("there", pa.string()),
        pa.field("state", pa.string()),
        pa.field("file", pa.int32()),
        pa.field("row", pa.int64()),
    ]
)
"""A row of the table beside it."""

PAIRS = pa.schema([pa.field("file", pa.int32()), pa.field("part", pa.int32()), pa.field("rows", pa.int64())])
PLACES = pa.schema([pa.field("file", pa.int32()), pa.field("row", pa.int64())])
PARTS = pa.schema([pa.field("part", pa.int32()), pa.field("row", pa.int32())])
WANTED = pa.schema([pa.field("key", pa.string()), *MADE])


def split(rows: pa.Table, column: str, shares: int) -> list[pa.Table]:
    """The rows by shares of a column of ids or digests; those without one are in the first."""
    if shares == 1:
        return [rows]
    import numpy as np

    digits = pa.array([f"{number:0{DIGITS}x}" for number in range(16**DIGITS)])
    place = pc.index_in(pc.utf8_slice_codeunits(rows[column], 0, DIGITS), digits)
    share = pc.fill_null(place, 0).to_numpy() % shares
    return [rows.filter(pa.array(share == each)) for each in np.arange(shares)]


def latest(made: pa.Table) -> pa.Table:
    """Each document once, as the last run made it: while another run sweeps there may be two."""
    if len(pc.unique(made["id"])) == len(made):
        return made
    order = pc.sort_indices(made, sort_keys=[("id", "ascending"), ("run", "descending")])
    made = made.take(order)
    return made.filter(pa.array(_first(made["id"])))


def match_same(made: pa.Table, found: pa.Table, *, keyed: bool, anew: bool) -> tuple[pa.Table, pa.Table]:
    """What is to be written into the table itself.

    Args:
        made: MADE.
        found: FOUND.
        keyed: whether rows are known by a key: then of several that name one document one has its answers,
            that which has them already, or else the first. Without, all have.
        anew: whether all rows with a document are to be written, whatever they have: there is a new column.

    Returns:
        PAIRS: the files of the table that have rows to be changed, each with the part files that what belongs
        there is in (null: nothing belongs there any more), and how many rows those are. And PLACES of the
        rows that have nothing, whatever is said of the document that they name.
    """
    made = latest(made)
    out = _doubles(found) if keyed else pa.array([False]).take(pa.array([0] * len(found), pa.int64()))
    at = pc.index_in(found["id"], made["id"].combine_chunks())
    at = pc.if_else(out, pa.scalar(None, pa.int32()), at)
    own = pc.and_(pc.fill_null(pc.equal(found["there"], found["id"]), False), pc.invert(out))
    current = pc.and_(own, pc.fill_null(pc.equal(found["state"], made["state"].take(at)), False))
    due = pc.is_valid(at) if anew else pc.and_(pc.is_valid(at), pc.invert(current))
    stale = pc.and_(pc.is_null(at), pc.and_(pc.is_valid(found["there"]), pc.invert(own)))
    changed = pc.or_(due, stale)
    pairs = pa.table({"file": found["file"], "part": made["part"].take(at)}).filter(changed)
    pairs = pairs.group_by(["file", "part"], use_threads=False).aggregate([([], "count_all")])
    return pairs.rename_columns(PAIRS.names).cast(PAIRS), found.filter(out).select(PLACES.names)


def wanted(made: pa.Table, named: pa.Table) -> pa.Table:
    """WANTED: for each row of the table that is read and has a key and a document, what belongs beside it."""
    made = latest(made)
    named = named.filter(pc.is_valid(named["key"])).group_by(NAMED.names, use_threads=False).aggregate([])
    at = pc.index_in(named["id"], made["id"].combine_chunks())
    named = named.append_column("at", at).filter(pc.is_valid(at))
    return pa.Table.from_arrays(
        [named["key"], *(made[name].take(named["at"]) for name in MADE.names)], schema=WANTED
    )


def match_beside(want: pa.Table, held: pa.Table, *, anew: bool) -> tuple[pa.Table, pa.Table]:
    """What is to be written into the table beside, and what is to go. Rows of keys that are not wanted stay.

    Args:
        want: WANTED. Of several rows with one key, that which the table has already counts, or else the last
            made.
        held: HELD.
        anew: whether all rows are to be written, whatever is there: there is a new column.

    Returns:
        MADE of the rows to be put, and PLACES of those to go.
    """
    pairs = pa.table({"key": held["key"], "id": held["there"], "held": pa.repeat(True, len(held))})
    pairs = pairs.group_by(["key", "id"], use_threads=False).aggregate([("held", "any")])
    want = want.join(pairs, ["key", "id"], join_type="left outer", use_threads=False)
    want = want.set_column(want.column_names.index("held_any"), "held", pc.is_valid(want["held_any"]))
    order = [("key", "ascending"), ("held", "descending"), ("run", "descending"), ("id", "ascending")]
    # Booleans do not sort by themselves everywhere: as numbers they do.
    want = want.set_column(want.column_names.index("held"), "held", want["held"].cast(pa.int8()))
    want = want.sort_by(order)
    want = want.filter(pa.array(_first(want["key"])))
    at = pc.index_in(held["key"], want["key"].combine_chunks())
    alike = [
        pc.equal(held[ours], want[name].take(at)) for ours, name in (("there", "id"), ("state", "state"))
    ]
    right = pc.fill_null(pc.and_(*alike), False)
    right = pa.array(_once(held["key"], right) & (not anew))
    gone = held.filter(pc.and_(pc.is_valid(at), pc.invert(right)))
    put = want.filter(pc.invert(pc.is_in(want["key"], held["key"].filter(right).combine_chunks())))
    return put.select(MADE.names).cast(MADE), gone.select(PLACES.names)


def _doubles(found: pa.Table) -> pa.Array:
    """For each row whether another one has its document's answers."""
    import numpy as np

    out = np.zeros(len(found), bool)
    counts = found.group_by("id", use_threads=False).aggregate([("row", "count")])
    many = counts.filter(pc.greater(counts["row_count"], 1))["id"].drop_null()
    at = np.flatnonzero(pc.is_in(found["id"], many.combine_chunks()).to_numpy())
    rows = found.take(pa.array(at, pa.int64())).append_column("at", pa.array(at, pa.int64()))
    other = pc.fill_null(pc.not_equal(rows["there"], rows["id"]), True).cast(pa.int8())
    rows = rows.append_column("other", other)
    rows = rows.sort_by([(name, "ascending") for name in ("id", "other", "file", "row")])
    out[rows["at"].to_numpy()] = ~_first(rows["id"])
    return pa.array(out)


def _first(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Where a column that is in order has another value than the row before."""
    import numpy as np

    first = np.ones(len(column), bool)
    first[1:] = pc.not_equal(column.slice(1), column.slice(0, max(0, len(column) - 1))).to_numpy()
    return first


def _once(keys: pa.ChunkedArray, right: Any) -> npt.NDArray[np.bool_]:
    """Of the rows that are right, the first of each key."""
    import numpy as np

    once = np.zeros(len(keys), bool)
    at = np.flatnonzero(right.to_numpy())
    rows = pa.table({"key": keys.take(pa.array(at, pa.int64())), "at": at})
    first = rows.group_by("key", use_threads=False).aggregate([("at", "min")])
    once[first["at_min"].to_numpy()] = True
    return once
