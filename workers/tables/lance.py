"""Lance, through pylance: a commit is one version, with the fragments that come and those that go."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from schemas.errors import JobError, ObjectMissing, SnapshotGone, StorageUnavailable
from workers.extras import needs
from workers.storage.factory import join, open_storage
from workers.storage.rows import lance_address
from workers.tables import KEY, DataFile, Staged
from workers.tables.access import object_store_options
from workers.tables.shapes import conformed, evolved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemas.storage import StorageOptions
    from schemas.tables import Place

FORMAT: Final = "2.2"
"""The first of its file versions that has maps, and nulls in structs."""

BATCH_ROWS = 4_096

LOOKED_BACK = 200
"""Commits among which a key is looked for: it is, right after the answer to its own was lost."""


@dataclass(frozen=True)
class LanceSnapshot:
    """One version."""

    place: Place
    storage: StorageOptions
    version: str
    schema: pa.Schema
    properties: Mapping[str, str] = field(hash=False)

    def files(self, where: str | None = None, since: str | None = None) -> list[DataFile]:
        """Its fragments, whatever the filter: Lance finds its rows when it reads."""
        dataset = self._dataset()
        if where is not None:
            with _errors_as_ours(self.place), _filter_as_ours(where):
                dataset.scanner(columns=[], filter=where, with_row_id=True).explain_plan()
        found = _files(dataset)
        if since is not None:
            earlier = {file.detail for file in _files(_open(self.place, self.storage, since))}
            found = [file for file in found if file.detail not in earlier]
        return found

    def read(
        self, file: DataFile, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a fragment."""
        wanted = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        with _errors_as_ours(self.place):
            fragment = self._dataset().get_fragment(int(file.path))
            if fragment is None:
                raise _gone(self.place, self.version)
            with _filter_as_ours(where):
                scanner = fragment.scanner(columns=wanted.names, filter=where, batch_size=BATCH_ROWS)
                batches = scanner.to_batches()
            for batch in batches:
                if len(batch):
                    yield from pa.Table.from_batches([batch]).select(wanted.names).cast(wanted).to_batches()

    def address(self, file: DataFile, row: int, column: str) -> str:
        """Of a value of the fragment, in this version."""
        return lance_address(self.place.uri, self.version, file.path, row, column)

    def _dataset(self) -> Any:
        return _open(self.place, self.storage, self.version)


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
        with _errors_as_ours(self.place):
            known = (
                newest if version in (None, str(newest.version)) else _open(self.place, self.storage, version)
            )
            properties = {str(name): str(value) for name, value in newest.config().items()}
            return LanceSnapshot(self.place, self.storage, str(known.version), known.schema, properties)

    def create(self, schema: pa.Schema, properties: Mapping[str, str]) -> LanceSnapshot:
        """Its properties are a version of their own, so they come second."""
        with needs("lance"):
            import lance
        if self._newest() is None:
            with _errors_as_ours(self.place):
                try:
                    lance.write_dataset(
                        schema.empty_table(),
                        _path(self.place.uri),
                        mode="create",
                        data_storage_version=FORMAT,
                        storage_options=object_store_options(self.storage, self.place.uri),
                    )
                except OSError:
                    if self._newest() is None:
                        raise
        newest = self._newest()
        if newest is None:
            raise StorageUnavailable(f"{self.place.uri}: the dataset was made and is not there")
        with _errors_as_ours(self.place):
            if not newest.config().keys() & properties.keys():
                newest.update_config(dict(properties))
        there = self.snapshot()
        assert there is not None
        return there

    def evolve(self, schema: pa.Schema) -> None:
        """New columns, and fields within columns, are a version of their own, which writes no data."""
        dataset = _open(self.place, self.storage)
        evolved(dataset.schema, schema, self.place.uri)  # a changed type is refused
        new = [lacking for each in schema if (lacking := _lacking(each, dataset.schema)) is not None]
        if new:
            with _errors_as_ours(self.place):
                dataset.add_columns(pa.schema(new))

    def stage(self, rows: pa.Table, run_id: str, name: str) -> Staged:
        """A file among the dataset's. Lance names those that it writes itself by chance; this one says whose
        it is, so it is written by the file writer and described as Lance would describe it."""
        with needs("lance"):
            from lance.file import LanceFileWriter
            from lance.fragment import LanceFragment
        dataset = _open(self.place, self.storage)
        rows = conformed(rows, dataset.schema)
        path = f"gemstream-{run_id}-{name}.lance"
        uri = join(self.place.uri, "data", path)
        with _errors_as_ours(self.place):
            options = object_store_options(self.storage, self.place.uri)
            with LanceFileWriter(
                _path(uri), rows.schema, version=dataset.data_storage_version, storage_options=options
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
            from lance.fragment import FragmentMetadata
        dataset = _open(self.place, self.storage)
        if _has_commit(dataset, properties[KEY]):
            return True
        if not _has_files(dataset, remove):
            return False
        change = lance.LanceOperation.Update(
            removed_fragment_ids=[int(file.path) for file in remove],
            new_fragments=[FragmentMetadata.from_json(staged.detail) for staged in add],
        )
        transaction = lance.Transaction(dataset.version, change, transaction_properties=dict(properties))
        try:
            with _errors_as_ours(self.place):
                lance.LanceDataset.commit(dataset, transaction)
        except StorageUnavailable:
            # Lance has no type for a commit that another one goes before.
            newest = _open(self.place, self.storage)
            if _has_commit(newest, properties[KEY]):
                return True
            if newest.version == dataset.version:
                raise
            return False
        return True

    def committed(self, key: str) -> bool:
        """Among the last LOOKED_BACK commits."""
        newest = self._newest()
        return newest is not None and _has_commit(newest, key)

    def discard(self, run_id: str) -> int:
        """What no version that is kept names."""
        if self._newest() is None:
            return 0
        folder, mine = join(self.place.uri, "data"), f"gemstream-{run_id}-"
        storage = open_storage(folder, self.storage)
        try:
            staged = [info.uri for info in storage.list(folder) if mine in info.uri.rpartition("/")[2]]
        except ObjectMissing:
            return 0
        known: set[str] = set()
        if staged:
            dataset = _open(self.place, self.storage)
            for version in dataset.versions():
                at = _open(self.place, self.storage, str(version["version"]))
                known |= {each.path for fragment in at.get_fragments() for each in fragment.metadata.files}
        gone = [uri for uri in staged if uri.rpartition("/")[2] not in known]
        for uri in gone:
            storage.delete(uri)
        return len(gone)

    def _newest(self) -> Any:
        try:
            return _open(self.place, self.storage)
        except ObjectMissing:
            return None

    @staticmethod
    def read_value(
        uri: str, storage: StorageOptions, version: str, fragment: str, row: int, column: str
    ) -> Any:
        """One value, for `workers/storage/rows.py`; None if there is nothing in it."""
        from schemas.tables import Place, TableFormat

        place = Place(format=TableFormat.LANCE, uri=uri)
        with _errors_as_ours(place):
            found = _open(place, storage, version).get_fragment(int(fragment))
            if found is None:
                raise _gone(place, version)
            # A place is one among the rows that are there: `take` counts those that are deleted as well.
            rows = found.scanner(columns=[column], offset=row, limit=1).to_table()
        return rows[column][0].as_py() if len(rows) else None


def _open(place: Place, storage: StorageOptions, version: str | None = None) -> Any:
    """Lance's own handle on a version.

    Raises:
        ObjectMissing: there is no dataset.
        SnapshotGone: there is no such version.
    """
    with needs("lance"):
        import lance
    if version is not None and not version.isdigit():
        raise SnapshotGone(f"{place.uri} has no version {version!r}: they are numbers", key="table.version")
    with _errors_as_ours(place):
        options = object_store_options(storage, place.uri)
        try:
            dataset = lance.dataset(_path(place.uri), storage_options=options)
        except ValueError as error:
            raise ObjectMissing(f"{place.uri}: there is no Lance dataset") from error
        if version is None or int(version) == dataset.version:
            return dataset
        try:
            return dataset.checkout_version(int(version))
        except (ValueError, OSError) as error:
            if any(each["version"] == int(version) for each in dataset.versions()):
                raise
            raise _gone(place, version) from error


def _gone(place: Place, version: str) -> SnapshotGone:
    return SnapshotGone(
        f"{place.uri} has no version {version}, or keeps it no more; read a newer one", key="table.version"
    )


@contextmanager
def _errors_as_ours(place: Place) -> Iterator[None]:
    """Lance tells nearly everything as OSError, with a trace of its own behind the first line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        said = str(error).strip().partition("\n")[0]
        raise StorageUnavailable(f"{place.uri}: Lance could not reach or change it: {said}") from error


@contextmanager
def _filter_as_ours(where: str | None) -> Iterator[None]:
    """Lance parses a filter when it is about to read; it names the place in its own source behind a comma."""
    try:
        yield
    except ValueError as error:
        if where is None:
            raise
        said = str(error).partition("\n")[0].rpartition(", ")[0] or str(error)
        raise JobError(f"table.filter: {where!r}: {said}", key="table.filter") from error


def _path(uri: str) -> str:
    return uri.removeprefix("file://") if uri.startswith("file://") else uri


def _files(dataset: Any) -> list[DataFile]:
    return [
        DataFile(
            str(fragment.fragment_id),
            fragment.count_rows(),
            sum(each.file_size_bytes or 0 for each in fragment.metadata.files),
            json.dumps(fragment.metadata.to_json(), sort_keys=True),
        )
        for fragment in dataset.get_fragments()
    ]


def _has_files(dataset: Any, wanted: Sequence[DataFile]) -> bool:
    """Whether these fragments are all there, and as they were."""
    if not wanted:
        return True
    there = {file.path: file.detail for file in _files(dataset)}
    return all(there.get(file.path) == file.detail for file in wanted)


def _has_commit(dataset: Any, key: str) -> bool:
    count = min(LOOKED_BACK, dataset.version)
    return any(
        made is not None and (made.transaction_properties or {}).get(KEY) == key
        for made in dataset.get_transactions(count)
    )


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
    known = there.field(place).type
    if not (pa.types.is_struct(each.type) and pa.types.is_struct(known)):
        return None
    new = [lacking for inner in each.type if (lacking := _lacking(inner, known)) is not None]
    return each.with_type(pa.struct(new)).with_nullable(True) if new else None
