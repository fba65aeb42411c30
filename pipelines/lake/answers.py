"""Rows to be written to a table's new data files: its own with answers beside them, or answers by key."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from schemas.enriched import DOCUMENT, enriched_schema
from schemas.errors import GemstreamError
from schemas.ids import digest
from workers.enrich import answers_of, columns_to_read, into_same
from workers.matching import latest
from workers.sinks.reading import read_part
from workers.storage.factory import open_storage
from workers.tables.shapes import conformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from pipelines.lake.into import Into
    from pipelines.lake.portions import PartRows
    from schemas.storage import StorageOptions
    from workers.storage import ObjectInfo, Storage
    from workers.tables import DataFile, Snapshot

PARTS_HELD = 16
"""Part files whose answers a worker holds at a time, of some 20 MB each. Rows of a table and their documents
mostly lie in one order, so a part file is read once."""


@dataclass(frozen=True)
class AnsweredFile:
    """A data file of the table that is read, its answers brought up to date.

    Attributes:
        into: what is asked for.
        storage: where the part files are.
        snapshot: of the table.
        file: of it.
        parts: the part files of `documents/` that what is to be changed lies in.
        left_out: places of rows that have no answers, in order.
        unasked: columns that earlier runs added, and that are not asked for now.
    """

    into: Into
    storage: StorageOptions
    snapshot: Snapshot
    file: DataFile
    parts: tuple[ObjectInfo, ...]
    left_out: npt.NDArray[np.int64]
    unasked: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the file, the part files with their versions, and the rows and columns that have no answers."""
        parts = [field for info in self.parts for field in (info.uri, info.version)]
        kept = repr((self.file.path, self.file.rows, self.file.detail, self.unasked))
        return digest("answered", kept, *parts, self.left_out.astype("<i8").tobytes())

    def rows(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """All rows of the file, in their order, some thousand at a time.

        Raises:
            SnapshotGone: the file is gone.
            ObjectChanged: a part file is another by now (ObjectMissing: or gone).
        """
        import numpy as np

        names = self.into.naming.columns
        there = sum(len(batch) for batch in self.snapshot.read(self.file, names))
        found, start = _Answers(self), 0
        for batch in self.snapshot.read(self.file):
            rows = pa.Table.from_batches([batch])
            ids = self.into.naming.ids(rows)
            out = np.isin(np.arange(start, start + len(rows)), self.left_out)
            start += len(rows)
            brought = into_same(rows, ids, found.of(ids), pa.array(out), self.unasked)
            yield conformed(brought, schema)
        if start != there:
            # Nothing of it is committed: a row more or less is never worth an answer. Twice read, and not by
            # what the table says of the file: some writers say nothing, and some count rows that are deleted.
            raise GemstreamError(
                f"{self.file.path} has {there} rows, and then {start}: the table stays as it is"
            )


class _Answers:
    """Of some part files, by document; those that are asked for are read, and the last few are held."""

    def __init__(self, portion: AnsweredFile) -> None:
        self._columns = portion.into.columns
        self._storage = portion.storage
        self._parts = portion.parts
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        keys = [self._keys(place) for place in range(len(portion.parts))]
        self._where = latest(pa.concat_tables([_KEYS.empty_table(), *keys]))

    def of(self, ids: pa.Array) -> pa.Table:
        """The answers about these documents, each once, as far as there are any."""
        where = self._where.filter(pc.is_in(self._where["id"], ids))
        tables = [enriched_schema(self._columns).empty_table()]
        for place in pc.unique(where["part"]).to_pylist():
            wanted = where.filter(pc.equal(where["part"], place))["id"].combine_chunks()
            answers = self._read(place)
            tables.append(answers.filter(pc.is_in(answers[DOCUMENT], wanted)))
        return pa.concat_tables(tables)

    def _keys(self, place: int) -> pa.Table:
        rows = read_part(self._open(place), self._parts[place], ["document_id", "run_id"]).rows
        places = pa.repeat(pa.scalar(place, pa.int32()), len(rows))
        return pa.Table.from_arrays([*rows.columns, places], schema=_KEYS)

    def _read(self, place: int) -> pa.Table:
        if place not in self._held:
            read = read_part(self._open(place), self._parts[place], columns_to_read(self._columns))
            self._held[place] = answers_of(read.rows, self._columns)
            if len(self._held) > PARTS_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(place)
        return self._held[place]

    def _open(self, place: int) -> Storage:
        return open_storage(self._parts[place].uri, self._storage)


_KEYS = pa.schema([pa.field("id", pa.string()), pa.field("run", pa.string()), pa.field("part", pa.int32())])


@dataclass(frozen=True)
class AnsweredKeys:
    """Rows of `documents/`, as they are in a table beside the one that is read.

    Attributes:
        into: what is asked for.
        of: the rows.
    """

    into: Into
    of: PartRows

    @property
    def name(self) -> str:
        """Of the part files, their versions and the rows, and of what is made of them."""
        return digest("beside", self.of.name)

    def rows(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Those of a part file at a time.

        Raises:
            ObjectChanged: one of the files is another by now (ObjectMissing: or gone).
        """
        named = "attributes" if self.into.key else "uri"
        columns = [*columns_to_read(self.into.columns), named]
        for info, places in self.of.parts:
            rows = read_part(open_storage(info.uri, self.of.storage), info, columns).rows
            rows = rows.take(pa.array(places))
            answers = answers_of(rows, self.into.columns)
            for at, field in enumerate(self.into.beside):
                value = pc.struct_field(rows[named], field.name) if self.into.key else rows[named]
                answers = answers.add_column(at, field, value.cast(field.type))
            yield conformed(answers, schema)
