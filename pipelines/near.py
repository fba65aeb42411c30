"""Documents and pages that are the same or nearly so, over a whole output: grouped, never merged.

`near/` is one file, made anew each time, of what the output holds then. Answers stay where they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.holdings import settled_down
from pipelines.ledger import places_in
from pipelines.runs import NAME, names_of
from schemas.ids import digest
from schemas.rows import IDENTITY
from workers.extras import needs
from workers.near import PERMUTATIONS, near_pictures, near_texts, signature
from workers.sinks.parquet import encode
from workers.sinks.reading import read_parts
from workers.storage.factory import join, normalise, open_storage

if TYPE_CHECKING:
    from schemas.duplicates import DuplicateOptions
    from schemas.storage import StorageOptions

NEAR = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("group_id", pa.string(), nullable=False),
        pa.field("members", pa.int32(), nullable=False),
        *IDENTITY,
        pa.field("part_index", pa.int32()),
    ]
)
"""A member of a group of two at least. `kind` is "image" of pages and pictures, each by its `part_index`; of
whole documents, whose `part_index` is null, it is "content" where their bytes are the same, and "text".
`group_id` is of the first member, by document and part: it stays as long as that one does."""
FILE = "near/part-groups.parquet"
SIGNATURE = pa.list_(pa.uint32(), PERMUTATIONS)


def refuse_without_libraries(options: DuplicateOptions) -> None:
    """Raise JobError now, and not at the end of a run, where a library for what is asked is not there."""
    if options.images is not None:
        with needs("duplicates"):
            import imagehash  # noqa: F401
    if options.text is not None:
        with needs("duplicates"):
            import datasketch  # noqa: F401


def group_near(output: str, storage: StorageOptions, options: DuplicateOptions) -> int:
    """What a job asks for, over all that its output holds; nothing if it asks for none.

    Returns:
        How many groups there are.

    Raises:
        GemstreamError: the output cannot be read or written.
    """
    if options.images is None and options.text is None:
        return 0
    found = find_near(output, storage, options)
    write_near(output, storage, found)
    return groups_in(found)


def find_near(output: str, storage: StorageOptions, options: DuplicateOptions) -> pa.Table:
    """NEAR of what an output holds, by kind, group, uri and part.

    In memory are 250 bytes for each document and each picture, or 700 for each text and its name.
    """
    rows = settled_down()(_digests, output, storage)
    same = rows["document_digest"].combine_chunks().dictionary_encode().indices
    tables = [_members("content", rows, same)]
    if options.images is not None:
        rows = settled_down()(_pictures, output, storage)
        tables.append(_members("image", rows, near_pictures(rows["picture_hash"].to_numpy(), options.images)))
    if options.text is not None:
        rows = settled_down()(_texts, output, storage)
        signatures = pc.list_flatten(rows["signature"]).to_numpy().reshape(-1, PERMUTATIONS)
        tables.append(_members("text", rows, near_texts(signatures, options.text)))
    order = [(name, "ascending") for name in ("kind", "group_id", "uri", "part_index")]
    return pa.concat_tables(tables).sort_by(order)


def write_near(output: str, storage: StorageOptions, found: pa.Table) -> None:
    """Put the groups in place of those that were there."""
    uri = join(normalise(output), FILE)
    open_storage(uri, storage).publish(uri, encode(found))


def groups_in(found: pa.Table) -> int:
    """How many groups a table of NEAR has."""
    return int(pc.count_distinct(found["group_id"]).as_py())


def _digests(output: str, storage: StorageOptions) -> pa.Table:
    """IDENTITY and `document_digest` of each document that was fetched."""
    empty = pa.schema([*IDENTITY, pa.field("document_digest", pa.string())]).empty_table()
    parts = read_parts(output, storage, "documents", empty.column_names)
    rows = pa.concat_tables([empty, *(part.rows.cast(empty.schema) for part in parts)])
    return rows.filter(pc.is_valid(rows["document_digest"]))


def _texts(output: str, storage: StorageOptions) -> pa.Table:
    """IDENTITY and `signature` of each document with a text: of the words of all its tasks."""
    parts = read_parts(output, storage, "documents", [*IDENTITY.names, "texts"], _signed)
    empty = pa.schema([*IDENTITY, pa.field("signature", SIGNATURE)]).empty_table()
    return pa.concat_tables([empty, *(part.rows.cast(empty.schema) for part in parts)])


def _signed(rows: pa.Table) -> pa.Table:
    made = [
        signature(" ".join(text for _, text in texts if text) if texts else "")
        for texts in rows["texts"].to_pylist()
    ]
    rows = rows.drop_columns("texts").append_column("signature", pa.array(made, SIGNATURE))
    return rows.filter(pc.is_valid(rows["signature"]))


def _pictures(output: str, storage: StorageOptions) -> pa.Table:
    """IDENTITY, `part_index` and `picture_hash` of each page and picture that has one, of the documents as
    they are now."""
    known = [
        names_of(part.rows).cast(NAME).combine_chunks()
        for part in read_parts(output, storage, "documents", ["document_id", "version"])
    ]
    # Put in order once: Arrow would hash a million of them again, in 0.7 s, for each file of records.
    now = pa.concat_arrays([pa.array([], NAME), *known]).sort()
    columns = [*IDENTITY.names, "part_index", "picture_hash"]
    fields = [*IDENTITY, pa.field("part_index", pa.int32()), pa.field("picture_hash", pa.int64())]
    tables = [pa.schema(fields).empty_table()]
    for part in read_parts(output, storage, "records", columns, _hashed):
        there = pc.is_valid(places_in(names_of(part.rows), now))
        tables.append(part.rows.filter(there).cast(tables[0].schema))
    # Asked several things, or asked again with other pixels, a page has several records: one of them does.
    found = pa.concat_tables(tables).group_by(["document_id", "version", "part_index"], use_threads=False)
    found = found.aggregate([("uri", "first"), ("picture_hash", "first")])
    return found.rename_columns([name.removesuffix("_first") for name in found.column_names]).select(columns)


def _hashed(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.is_valid(rows["picture_hash"]))


def _members(kind: str, rows: pa.Table, groups: Any) -> pa.Table:
    """NEAR of those that are not alone."""
    part = rows["part_index"] if "part_index" in rows.column_names else pa.nulls(len(rows), pa.int32())
    rows = rows.select(IDENTITY.names).append_column("part_index", part).append_column("group", [groups])
    rows = rows.sort_by([("document_id", "ascending"), ("part_index", "ascending")])
    first = rows.group_by("group", use_threads=False).aggregate(
        [
            ("document_id", "first"),
            ("part_index", "first", pc.ScalarAggregateOptions(skip_nulls=False)),
            ([], "count_all"),
        ]
    )
    first = first.filter(pc.greater(first["count_all"], 1))
    place = pc.index_in(rows["group"], first["group"].combine_chunks())
    rows, place = rows.filter(pc.is_valid(place)), place.drop_null()
    names = pa.array(
        [
            digest(kind, name, str(part))
            for name, part in zip(
                first["document_id_first"].to_pylist(), first["part_index_first"].to_pylist(), strict=True
            )
        ],
        pa.string(),
    )
    columns = {
        "kind": pa.repeat(pa.scalar(kind), len(rows)),
        "group_id": names.take(place.combine_chunks()),
        "members": first["count_all"].take(place),
    }
    return pa.table(
        {
            field.name: columns.get(field.name, rows[field.name] if field.name in rows.column_names else None)
            for field in NEAR
        }
    ).cast(NEAR)
