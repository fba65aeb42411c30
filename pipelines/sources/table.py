"""Documents that a table names: a row each, with the address or the bytes of its document in a column."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.sources import ROWS
from pipelines.sources.listing import Globs, documents_table
from pipelines.sources.row_names import is_relative, row_naming
from pipelines.sources.seen import SeenSet, among
from pipelines.sources.table_columns import attributes_of, checked_columns
from pipelines.sources.table_files import keys_of_both, old_and_new
from pipelines.sources.table_place import place_of
from schemas.enriched import DOCUMENT as ANSWERED
from schemas.enriched import VERSION
from schemas.errors import GemstreamError, JobError, SnapshotGone
from schemas.ids import digest, document_id
from workers.storage import ObjectInfo
from workers.storage.factory import look_up, scheme
from workers.storage.rows import refused_address, version_of
from workers.tables import open_table
from workers.tables.where import expression, named

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from schemas.tables import TableOptions
    from workers.storage import StorageOptions
    from workers.tables import DataFile

THREADS = 16
"""Look-ups at a time: a table has no versions of objects, so each document costs one HEAD request."""

REFUSED = "refused"
"""Version of a row that is no document: that it has one keeps it from being looked up as if it had an
address."""


@dataclass(frozen=True)
class _Row:
    """A row on its way to the list: `why` it is no document, if so."""

    index: int
    place: int
    name: str
    address: str | None
    why: str | None = None


class TableSource:
    """The rows of one snapshot in the order of its files, each once.

    A row that names nothing, or whose key another row has had, is listed as an error to come instead of
    vanishing. Memory: two chunks of rows, of documents in the table with their bytes, and 16 bytes for each
    row to know what came before (`SeenSet`); some 250 for each that has no name of its own.
    """

    def __init__(
        self,
        table: TableOptions,
        storage_options: StorageOptions,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        limit: int | None = None,
        rows: int = ROWS,
        added: Collection[str] = (),
    ) -> None:
        """Takes the snapshot that is to be read.

        Raises:
            JobError: no table there; a column that is missing or of the wrong type; a filter that does not
                hold; globs, where documents have no paths.
            GemstreamError: the store or the catalog does not answer.
        """
        self.globs = Globs(include, exclude)
        if table.bytes_column and (include or exclude):
            raise JobError(
                "include and exclude are about paths, and documents in a table have none: use table.filter",
                key="include" if include else "exclude",
            )
        self.limit = limit
        self.rows = rows
        self.duplicates = 0
        self.since: str | None = None
        self._nameless: Counter[str] = Counter()
        self._table = table
        self._options = storage_options
        place = place_of(table, storage_options)
        snapshot = open_table(place, storage_options).snapshot(table.version)
        if snapshot is None:
            raise JobError(f"table.uri: there is no {place.format} table at {place.uri}", key="table.uri")
        self._snapshot = snapshot
        checked_columns(table, snapshot.schema)
        if table.filter:
            expression(table.filter, snapshot.schema)
        self._naming = row_naming(table, place, storage_options)
        self._added = frozenset(added) & set(snapshot.schema.names)
        self.attributes = attributes_of(table, snapshot.schema, self._added)
        self.pinned: dict[str, Any] | None = {
            "format": place.format.value,
            "uri": place.uri,
            "version": snapshot.version,
        }

    def check(self) -> None:
        """Nothing: its snapshot was taken when it was opened; see `Source.check`."""

    def origin(self, version: str) -> str | None:
        """See `Snapshot.origin`; None of a version that is not there any more."""
        try:
            return self._snapshot.origin(version)
        except SnapshotGone:
            return None

    def documents(self, owed: pa.Array | None = None) -> Iterator[pa.Table]:
        """Stream the tables, looking one chunk ahead; see `Source.documents`.

        Args:
            owed: where `since` is set: ids of documents that files of that version are read for. Files
                that it had already are not read at all if there are none. Newer ones that bringing answers
                to their rows has written are read for rows without answers, and for those that are owed.
        """
        self.duplicates = 0
        self._nameless.clear()
        owed = owed if owed is None else owed.sort()
        seen, left = self._passed_over(owed), self.limit
        with ThreadPoolExecutor(THREADS, thread_name_prefix="look-up") as threads:
            ahead: tuple[list[_Row], list[Future[ObjectInfo]], pa.Array | None] | None = None
            for file, before in self._files(owed):
                for places, rows in self._batches(file):
                    kept = self._wanted(file, places, rows, seen)
                    kept = self._due(file, rows, kept, before, owed)[:left]
                    if not kept:
                        continue
                    begun = [threads.submit(self._info, row, self._value(rows, row)) for row in kept]
                    if ahead is not None:
                        yield _table(*ahead)
                    ahead = kept, begun, self._carried(rows, kept)
                    if left is not None:
                        left -= len(kept)
                        if left == 0:
                            yield _table(*ahead)
                            return
            if ahead is not None:
                yield _table(*ahead)

    def _files(self, owed: pa.Array | None) -> Iterator[tuple[DataFile, bool | None]]:
        """Each file to read, and whether an earlier run has read it; None where nobody can tell."""
        old, new = old_and_new(self._snapshot, self._table.filter, self.since)
        if owed is not None and len(owed):
            # First, so that of rows with one key, or without any, the earlier ones keep their names.
            yield from ((file, True) for file in old or ())
        yield from ((file, None if old is None else False) for file in new)

    def _passed_over(self, owed: pa.Array | None) -> SeenSet:
        """The keys of new rows that rows of files have which are not read: such a row came before."""
        seen = SeenSet()
        if self._table.key and owed is not None and not len(owed):
            old, new = old_and_new(self._snapshot, self._table.filter, self.since)
            for keys in keys_of_both(self._snapshot, self._naming, new, old or (), self._table.filter):
                seen.add([bytes.fromhex(document_id(key)) for key in keys])
        return seen

    def _batches(self, file: DataFile) -> Iterator[tuple[list[int], pa.Table]]:
        """Rows of a file that the filter holds for, and their places among those that are read: of documents
        in the table, among all rows, for their addresses count so."""
        inside, where = self._table.bytes_column, self._table.filter
        columns = [field.name for field in self.attributes or ()]
        columns += [inside] if inside else []
        columns = list(dict.fromkeys([*self._naming.columns, *columns, *self._answers]))
        held = self._places(file, where) if inside and where else None
        if held is not None and not len(held):
            return
        start = 0
        for batch in self._snapshot.read(file, columns, None if inside else where):
            rows = pa.Table.from_batches([batch])
            self._refuse_broken(file, rows)
            places = pa.array(range(start, start + len(rows)), pa.int64())
            start += len(rows)
            if held is not None:
                mask = pc.is_in(places, held)
                rows, places = rows.filter(mask), places.filter(mask)
            for offset in range(0, len(rows), self.rows):
                yield places.slice(offset, self.rows).to_pylist(), rows.slice(offset, self.rows)

    def _refuse_broken(self, file: DataFile, rows: pa.Table) -> None:
        """Text that is no UTF-8 can be neither carried along nor looked up; Arrow reads it without a word."""
        for name in rows.column_names:
            try:
                rows[name].validate(full=True)
            except pa.ArrowInvalid as error:
                said = str(error).partition("\n")[0]
                raise JobError(
                    f"{file.path}: column {name!r} does not hold what it says: {said}; write it anew, or "
                    "leave the column out of table.columns",
                    key="table",
                ) from error

    def _places(self, file: DataFile, where: str) -> pa.Array:
        """Where the filter holds, without reading a document, unless the filter is about that."""
        schema = self._snapshot.schema
        columns = named(where, schema)
        keep, start = expression(where, schema), 0
        found = [pa.array([], pa.int64())]
        for batch in self._snapshot.read(file, columns):
            places = pa.array(range(start, start + len(batch)), pa.int64())
            rows = pa.table({"": places, **{name: batch.column(name) for name in columns}})
            found += rows.filter(keep).column(0).chunks
            start += len(batch)
        return pa.concat_arrays(found)

    @property
    def _answers(self) -> list[str]:
        """The columns that say whether a row's answers are beside it."""
        return [ANSWERED, VERSION] if self.since is not None and {ANSWERED, VERSION} <= self._added else []

    def _wanted(self, file: DataFile, places: list[int], rows: pa.Table, seen: SeenSet) -> list[_Row]:
        """The rows that there are: no globbed-out one, none twice."""
        found = self._rows(file, places, rows)
        found = [
            row for row in found if row.why or row.address is None or self.globs.wants(_path(row.address))
        ]
        if self._table.key:
            found = self._once(file, rows, found, seen)
        else:
            fresh = seen.add([bytes.fromhex(document_id(row.name)) for row in found])
            self.duplicates += fresh.count(False)
            found = [row for row, new in zip(found, fresh, strict=True) if new]
        return found

    def _due(
        self,
        file: DataFile,
        rows: pa.Table,
        found: list[_Row],
        before: bool | None,
        owed: pa.Array | None,
    ) -> list[_Row]:
        """Of rows that an earlier run has read, those that are owed; all others."""
        if before is None or owed is None or not found:
            return found
        ids = [document_id(row.name) for row in found]
        due = among(pa.array(ids, pa.string()), owed).to_pylist()
        return [
            row
            for row, name, is_owed in zip(found, ids, due, strict=True)
            if is_owed or not (before or (file.ours and self._is_answered(rows, row, name)))
        ]

    def _is_answered(self, rows: pa.Table, row: _Row, name: str) -> bool:
        """Whether a row has the answers about its document beside it. So it has when its owner has changed it
        since; but not in a file that we have written."""
        if not self._answers or rows[ANSWERED][row.index].as_py() != name:
            return False
        value = self._value(rows, row)
        return value is None or rows[VERSION][row.index].as_py() == version_of(value)

    def _rows(self, file: DataFile, places: list[int], rows: pa.Table) -> list[_Row]:
        """Each row by its name, or with what keeps it from being a document."""
        inside, naming = self._table.bytes_column, self._naming
        keys = self._keys(rows) if naming.key else [None] * len(rows)
        names = naming.uris(rows)
        there = pc.is_valid(rows[inside]).to_pylist() if inside else [True] * len(rows)
        addresses = [None] * len(rows) if inside else replace(naming, key=()).uris(rows)
        found = []
        for index, (place, key, name, address) in enumerate(zip(places, keys, names, addresses, strict=True)):
            if naming.key and key is None:
                why = f"row {place} of {file.path}: its key is null ({', '.join(naming.key)})"
                found.append(_Row(index, place, self._by_content(naming.table, rows, index), None, why))
            elif name is None or not there[index]:
                why = f"row {place} of {file.path}: {self._table.content!r} is null: it names no document"
                known = key or self._by_content(naming.table, rows, index)
                found.append(_Row(index, place, known, None, why))
            elif address is not None and is_relative(address):
                why = f"row {place} of {file.path}: {address!r} is relative: write s3:// or a whole path"
                found.append(_Row(index, place, name, None, why))
            elif inside:
                value = self._snapshot.address(file, place, inside)
                found.append(_Row(index, place, name, value))
            else:
                found.append(_Row(index, place, name, address))
        return found

    def _keys(self, rows: pa.Table) -> list[str | None]:
        return replace(self._naming, content=None).uris(rows)

    def _once(self, file: DataFile, rows: pa.Table, found: list[_Row], seen: SeenSet) -> list[_Row]:
        """The same rows; one whose key came before becomes an error of its own."""
        keys = self._keys(rows)
        keyed = [row for row in found if keys[row.index] is not None]
        fresh = seen.add([bytes.fromhex(document_id(str(keys[row.index]))) for row in keyed])
        late = {row.index for row, new in zip(keyed, fresh, strict=True) if not new}
        return [
            self._late(file, row, str(keys[row.index]), rows) if row.index in late else row for row in found
        ]

    def _late(self, file: DataFile, row: _Row, key: str, rows: pa.Table) -> _Row:
        why = f"row {row.place} of {file.path}: another row has its key, {key.rpartition('#')[2]}"
        return _Row(row.index, row.place, self._by_content(key, rows, row.index), None, why)

    def _by_content(self, before: str, rows: pa.Table, index: int) -> str:
        """A name for a row that has none of its own, by what it says: its place would be another each time
        that its file is written anew. Of rows that say the same the others go by their number besides."""
        names = [*self._naming.columns, *(field.name for field in self.attributes or ())]
        said = [repr(rows[name][index].as_py()) for name in dict.fromkeys(names)]
        name = f"{before}#row-{digest('row', *said)}"
        self._nameless[name] += 1
        return name if self._nameless[name] == 1 else f"{name}-{self._nameless[name]}"

    def _value(self, rows: pa.Table, row: _Row) -> bytes | None:
        inside = self._table.bytes_column
        return rows[inside][row.index].as_py() if inside and row.why is None else None

    def _info(self, row: _Row, value: bytes | None) -> ObjectInfo:
        if row.why is not None:
            return ObjectInfo(uri=row.name, version=REFUSED, size=1)
        if value is not None:
            return ObjectInfo(uri=row.name, version=version_of(value), size=len(value))
        try:
            return replace(look_up(row.address or row.name, self._options), uri=row.name)
        except GemstreamError:
            # Not lost: the document is listed, and expand meets the same error and writes it down.
            return ObjectInfo(uri=row.name, version="", size=-1)

    def _carried(self, rows: pa.Table, kept: Sequence[_Row]) -> pa.Array | None:
        if self.attributes is None:
            return None
        taken = rows.take(pa.array([row.index for row in kept], pa.int64()))
        fields = list(self.attributes)
        columns = [pa.concat_arrays(taken[each.name].cast(each.type).chunks) for each in fields]
        return pa.StructArray.from_arrays(columns, fields=fields)


def _table(rows: Sequence[_Row], begun: Sequence[Future[ObjectInfo]], carried: pa.Array | None) -> pa.Table:
    table = documents_table([future.result() for future in begun])
    addresses = [
        refused_address(row.why) if row.why else None if row.address == row.name else row.address
        for row in rows
    ]
    at = table.column_names.index("address")
    table = table.set_column(at, table.schema.field(at), pa.array(addresses, pa.string()))
    return table if carried is None else table.append_column("attributes", carried)


def _path(address: str) -> str:
    rest = address.partition("://")[2].lstrip("/")
    return rest.partition("/")[2] if scheme(address) == "s3" else rest
