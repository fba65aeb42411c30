"""Lance, through pylance: a commit is one version, with the fragments that come and those that go."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from schemas.errors import JobError, ObjectMissing, SnapshotGone, StorageUnavailable
from schemas.ids import digest
from workers.extras import needs
from workers.storage.factory import join, open_storage
from workers.storage.rows import lance_address
from workers.tables import KEY, DataFile, Staged
from workers.tables.lance_files import (
    added_again,
    errors_as_ours,
    files_of,
    gone,
    has_commit,
    has_files,
    is_bytes,
    names_of,
    opened,
    options_of,
    path_of,
    plain,
    properties_of,
    refuse_unwritten,
    writable,
)
from workers.tables.shapes import conformed, evolved
from workers.tables.where import expression, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemas.storage import StorageOptions
    from schemas.tables import Place

FORMAT: Final = "2.2"
"""The first of its file versions that has maps, and nulls in structs."""

BATCH_ROWS = 4_096

BYTES: Final = {"batch_size": 16, "batch_readahead": 1, "io_buffer_size": 32 * 1024 * 1024}
"""Instead, where there is a column of bytes: a document has some megabytes. Of 600 with 1 MB each a reader
holds 0.5 GB at most so, and some 2 GB by BATCH_ROWS; Lance's own limit on a batch's bytes changes nothing."""

BLOBS: Final = "all_binary"
"""Bytes, not where they lie: what Lance keeps apart for its size is one more column of bytes here."""


@dataclass(frozen=True)
class LanceSnapshot:
    """One version."""

    place: Place
    storage: StorageOptions
    version: str
    schema: pa.Schema
    properties: Mapping[str, str] = field(hash=False)

    def files(self, where: str | None = None, since: str | None = None) -> list[DataFile]:
        """Its fragments, whatever the filter: it tells nothing of what is in them."""
        dataset = self._dataset()
        if where is not None:
            expression(where, self.schema)  # what is no filter is told here
        found = files_of(dataset)
        if since is not None:
            earlier = {file.detail for file in files_of(opened(self.place, self.storage, since))}
            found = [file for file in found if file.detail not in earlier]
        return found

    def read(
        self, file: DataFile, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a fragment. They are filtered here: Lance takes a column in quotes for a text, numbers
        of other types for a mistake, and a backslash in LIKE for more than a letter."""
        wanted = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        keep = None if where is None else expression(where, self.schema)
        looked_at = [] if where is None else named(where, self.schema)
        besides = [self.schema.field(name) for name in looked_at if name not in wanted.names]
        needed = pa.schema([*wanted, *besides])
        with errors_as_ours(self.place):
            fragment = self._dataset().get_fragment(int(file.path))
            if fragment is None:
                raise gone(self.place, self.version)
            batches = fragment.scanner(
                columns=needed.names,
                blob_handling=BLOBS,
                **(BYTES if any(map(is_bytes, needed.types)) else {"batch_size": BATCH_ROWS}),
            ).to_reader()
            for batch in batches:
                rows = pa.Table.from_batches([batch]).select(needed.names).cast(needed)
                rows = rows if keep is None else rows.filter(keep).select(wanted.names)
                yield from rows.to_batches()

    def origin(self, version: str) -> str:
        """A dataset has no name of its own, but the names of its files are drawn at random."""
        found = opened(self.place, self.storage, version)
        with errors_as_ours(self.place):
            return digest("origin", *sorted(names_of(found)))

    def address(self, file: DataFile, row: int, column: str) -> str:
        """Of a value of the fragment, in this version."""
        return lance_address(self.place.uri, self.version, file.path, row, column)

    def _dataset(self) -> Any:
        return opened(self.place, self.storage, self.version)


class LanceTable:
    """A folder with `_versions/`."""

    def __init__(self, place: Place, storage: StorageOptions) -> None:
        """Reaches for nothing yet."""
        self.place = place
        self.storage = storage

    def snapshot(self, version: str | None = None) -> LanceSnapshot | None:
        """Of a version's number; see `Table.snapshot`."""
        newest = self._newest()
        if newest is None:
            return None
        with errors_as_ours(self.place):
            known = (
                newest
                if version in (None, str(newest.version))
                else opened(self.place, self.storage, version)
            )
            return LanceSnapshot(
                self.place, self.storage, str(known.version), plain(known.schema), properties_of(newest)
            )

    def fitted(self, schema: pa.Schema) -> pa.Schema:
        """Lance has nearly all of Arrow's types."""
        return writable(schema, self.place.uri)

    def create(self, schema: pa.Schema, properties: Mapping[str, str]) -> LanceSnapshot:
        """Its properties are metadata of the schema: its configuration would be a version of its own, and
        without it a dataset whose maker was killed in between is one that nobody has made."""
        with needs("lance"):
            import lance
        if self._newest() is None:
            with errors_as_ours(self.place):
                try:
                    lance.write_dataset(
                        self.fitted(schema).with_metadata(dict(properties)).empty_table(),
                        path_of(self.place.uri),
                        mode="create",
                        data_storage_version=FORMAT,
                        storage_options=options_of(self.storage, self.place.uri),
                    )
                except OSError:  # by somebody else meanwhile
                    if self._newest() is None:
                        raise
        there = self.snapshot()
        if there is None:
            raise StorageUnavailable(f"{self.place.uri}: the dataset was made and is not there")
        return there

    def evolve(self, schema: pa.Schema) -> None:
        """New columns, and fields within columns, are a version of their own, which writes no data."""
        with needs("lance"):
            from lance.commit import CommitConflictError
        dataset, schema = opened(self.place, self.storage), self.fitted(schema)
        refuse_unwritten(dataset, self.place)
        evolved(plain(dataset.schema), schema, self.place.uri)  # a changed type is refused
        new = [lacking for each in schema if (lacking := _lacking(each, dataset.schema)) is not None]
        if not new:
            return
        try:
            with errors_as_ours(self.place):
                dataset.add_columns(pa.schema(new))
        except CommitConflictError:  # each time another version is in place, so this comes to an end
            self.evolve(schema)

    def stage(self, rows: pa.Table, run_id: str, name: str) -> Staged:
        """A file among the dataset's. Lance names those that it writes itself by chance; this one says whose
        it is, so it is written by the file writer and described as Lance would describe it."""
        with needs("lance"):
            from lance.file import LanceFileWriter
            from lance.fragment import LanceFragment
        dataset = opened(self.place, self.storage)
        refuse_unwritten(dataset, self.place)
        rows = conformed(rows, dataset.schema.remove_metadata())
        path = f"gemstream-{run_id}-{name}.lance"
        uri = join(self.place.uri, "data", path)
        with errors_as_ours(self.place):
            options = options_of(self.storage, self.place.uri)
            with LanceFileWriter(
                path_of(uri), rows.schema, version=dataset.data_storage_version, storage_options=options
            ) as writer:
                for batch in rows.to_batches():
                    writer.write_batch(batch)
            told = LanceFragment.create_from_file(path, dataset, 0).to_json()
        [file] = told["files"]
        fields, columns = _columns(rows.schema, dataset.data_storage_version)
        file["fields"] = [file["fields"][place] for place in fields]
        file["column_indices"] = list(columns)
        size = open_storage(uri, self.storage).info(uri).size
        return Staged(uri, rows.num_rows, size, json.dumps(told))

    def commit(
        self,
        snapshot: LanceSnapshot,
        add: Sequence[Staged],
        remove: Sequence[DataFile],
        properties: Mapping[str, str],
    ) -> bool:
        """One version, on what is the newest now: what others have added since is nobody's concern."""
        with needs("lance"):
            import lance
            from lance.commit import CommitConflictError
            from lance.fragment import FragmentMetadata
        dataset = opened(self.place, self.storage)
        if has_commit(dataset, properties[KEY]):
            return True
        if not has_files(dataset, remove):
            return False
        change = lance.LanceOperation.Update(
            removed_fragment_ids=[int(file.path) for file in remove],
            new_fragments=[FragmentMetadata.from_json(staged.detail) for staged in add],
        )
        transaction = lance.Transaction(dataset.version, change, transaction_properties=dict(properties))
        try:
            with errors_as_ours(self.place):
                done = lance.LanceDataset.commit(dataset, transaction)
                again = added_again(dataset.version, done, properties[KEY])
                if again:
                    undo = lance.LanceOperation.Update(removed_fragment_ids=again)
                    try:
                        lance.LanceDataset.commit(done, undo, done.version)
                    except CommitConflictError:
                        return False  # somebody has written them anew: rows that are there twice are found
        except CommitConflictError:
            return self.committed(properties[KEY])
        except StorageUnavailable:
            # The answer may have been lost, and not the commit.
            if self.committed(properties[KEY]):
                return True
            raise
        return True

    def committed(self, key: str) -> bool:
        """Among the last LOOKED_BACK commits."""
        newest = self._newest()
        return newest is not None and has_commit(newest, key)

    def discard(self, run_id: str) -> int:
        """What no version that is kept names."""
        if self._newest() is None:
            return 0
        folder, mine = join(self.place.uri, "data"), f"gemstream-{run_id}-"
        storage = open_storage(folder, self.storage)
        with suppress(ObjectMissing):
            found = [info.uri for info in storage.list(folder)]
            left = {name: uri for uri in found if (name := uri.rpartition("/")[2]).startswith(mine)}
            for known in self._names():
                left = {name: uri for name, uri in left.items() if name not in known}
                if not left:
                    break
            for uri in left.values():
                storage.delete(uri)
            return len(left)
        return 0

    def _names(self) -> Iterator[set[str]]:
        """Of the files of each version, the newest first: what a run staged and committed is mostly there."""
        dataset = opened(self.place, self.storage)
        with errors_as_ours(self.place):
            for version in sorted((each["version"] for each in dataset.versions()), reverse=True):
                with suppress(SnapshotGone):  # meanwhile
                    yield names_of(opened(self.place, self.storage, str(version)))

    def _newest(self) -> Any:
        try:
            return opened(self.place, self.storage)
        except ObjectMissing:
            return None

    @staticmethod
    def read_value(
        uri: str, storage: StorageOptions, version: str, fragment: str, row: int, column: str
    ) -> Any:
        """One value, for `workers/storage/rows.py`; None if there is nothing in it."""
        from schemas.tables import Place, TableFormat

        place = Place(format=TableFormat.LANCE, uri=uri)
        with errors_as_ours(place):
            found = opened(place, storage, version).get_fragment(int(fragment))
            if found is None:
                raise gone(place, version)
            # A place is one among the rows that are there: `take` counts those that are deleted as well.
            rows = found.scanner(columns=[column], offset=row, limit=1, blob_handling=BLOBS).to_table()
        return rows[column][0].as_py() if len(rows) else None


@lru_cache(maxsize=64)
def _columns(schema: pa.Schema, version: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which of a file's fields, all of them counted from the outside in, lie in which of its columns: as
    Lance says it of a file that it writes itself."""
    from lance.fragment import write_fragments

    with tempfile.TemporaryDirectory(prefix="gemstream-lance-") as folder:
        nothing = pa.Table.from_arrays([pa.nulls(1, each.type) for each in schema], schema=_nullable(schema))
        [told] = write_fragments(nothing, f"{folder}/one", mode="create", data_storage_version=version)
    [file] = told.files
    return tuple(file.fields), tuple(file.column_indices)


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([each.with_nullable(True) for each in schema])


def _lacking(each: pa.Field, there: pa.Schema | pa.DataType) -> pa.Field | None:
    """The field with those within it that are not there; None if there is none."""
    place = there.get_field_index(each.name)
    if place < 0:
        return each.with_nullable(True)
    try:
        kind = _lacking_type(each.type, there.field(place).type)
    except _MapChanged as error:
        raise JobError(
            f"column {each.name} has maps whose values would have new fields ({each.type}), which Lance does "
            "not add: give the task another name, or the tables another place (sink.tables)",
            key="sink.tables",
        ) from error
    return None if kind is None else each.with_type(kind).with_nullable(True)


class _MapChanged(Exception):
    pass


def _lacking_type(ours: pa.DataType, there: pa.DataType) -> pa.DataType | None:
    if pa.types.is_struct(ours) and pa.types.is_struct(there):
        new = [lacking for inner in ours if (lacking := _lacking(inner, there)) is not None]
        return pa.struct(new) if new else None
    if pa.types.is_map(ours) and pa.types.is_map(there):
        if _lacking_type(ours.item_type, there.item_type) is not None:
            raise _MapChanged
        return None
    if hasattr(ours, "value_field") and hasattr(there, "value_field"):
        kind = _lacking_type(ours.value_type, there.value_type)
        if kind is not None:
            item = there.value_field.with_type(kind)
            return pa.large_list(item) if pa.types.is_large_list(there) else pa.list_(item)
    return None
