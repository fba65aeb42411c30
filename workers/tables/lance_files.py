"""A Lance dataset as it lies there: its versions, its fragments, and what goes wrong in reaching them."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.errors import AccessDenied, JobError, ObjectMissing, SnapshotGone, StorageUnavailable
from workers.extras import needs
from workers.storage.factory import join, open_storage
from workers.tables import KEY, STAGED, DataFile
from workers.tables.access import object_store_options
from workers.tables.kinds import common, fitted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schemas.storage import StorageOptions
    from schemas.tables import Place

TOO_OLD = ("legacy", "0.1", "2.0")
"""File versions; pylance wrote the last of them by default until its 1.0."""

LOOKED_BACK = 200
"""Commits among which a key is looked for: it is, right after the answer to its own was lost."""


def opened(place: Place, storage: StorageOptions, version: str | None = None) -> Any:
    """Lance's own handle on a version.

    Raises:
        ObjectMissing: there is no dataset.
        SnapshotGone: there is no such version.
        JobError: what lies there is none that can be read.
    """
    if version is not None and not version.isdigit():
        raise SnapshotGone(f"{place.uri} has no version {version!r}: they are numbers", key="table.version")
    dataset = _newest(place, storage)
    with errors_as_ours(place):
        if version is None or int(version) == dataset.version:
            return dataset
        try:
            return dataset.checkout_version(int(version))
        except (ValueError, OSError) as error:
            if any(each["version"] == int(version) for each in dataset.versions()):
                raise
            raise gone(place, version) from error


def _newest(place: Place, storage: StorageOptions) -> Any:
    """Lance answers with one and the same ValueError whether there is no dataset, or it may not look, or the
    store is away: what lies there is asked of the store itself, which also waits for one that is away."""
    with needs("lance"):
        import lance
    # What Ray and the parsers' guard start by forking is another program at once, and knows nothing of Lance.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    where, options = path_of(place.uri), options_of(storage, place.uri)
    with errors_as_ours(place), suppress(ValueError):
        return lance.dataset(where, storage_options=options)
    versions = join(place.uri, "_versions")
    with suppress(ObjectMissing):
        if next(iter(open_storage(versions, storage).list(versions)), None) is not None:
            try:
                return lance.dataset(where, storage_options=options)
            except (ValueError, OSError) as error:
                said = _first_line(error)
                raise JobError(f"{place.uri} is no Lance dataset that can be read: {said}") from error
    raise ObjectMissing(f"{place.uri}: there is no Lance dataset")


def gone(place: Place, version: str) -> SnapshotGone:
    """For a version that is not there."""
    return SnapshotGone(
        f"{place.uri} has no version {version}, or keeps it no more; read a newer one", key="table.version"
    )


@contextmanager
def errors_as_ours(place: Place) -> Iterator[None]:
    """Lance tells nearly everything as OSError, with a trace of its own behind the first line. That another
    commit went before is the one that has a type, and is let through."""
    with needs("lance"):
        from lance.commit import CommitConflictError
    try:
        yield
    except CommitConflictError:
        raise
    except (OSError, RuntimeError) as error:
        said = _first_line(error)
        if "403 Forbidden" in said:  # which has no type of its own, nor a code
            raise AccessDenied(f"{place.uri}: Lance may not read or change it: {said}") from error
        raise StorageUnavailable(f"{place.uri}: Lance could not reach or change it: {said}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def options_of(storage: StorageOptions, uri: str) -> dict[str, str]:
    """Lance has a name of its own for the number of tries, which is 3 otherwise."""
    found = object_store_options(storage, uri)
    return found and found | {"client_max_retries": str(storage.attempts - 1)}


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold documents."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def path_of(uri: str) -> str:
    """As Lance takes it: a name with a space or a bracket in it is read as it is."""
    return uri.removeprefix("file://")


def plain(schema: pa.Schema) -> pa.Schema:
    """The columns in Arrow's common types: blobs, which Lance keeps apart for their size, are bytes, and
    dictionaries what is in them."""
    return pa.schema([pa.field(each.name, _plain(each), each.nullable) for each in schema])


def properties_of(dataset: Any) -> dict[str, str]:
    """What was written down when it was made, and its configuration."""
    said = (dataset.schema.metadata or {}).items()
    made = {name.decode(): value.decode() for name, value in said if name.startswith(b"gemstream.")}
    return made | {str(name): str(value) for name, value in dataset.config().items()}


def writable(schema: pa.Schema, where: str) -> pa.Schema:
    """Of types that Lance has: all but a few that tell more of a value's layout than of the value.

    Raises:
        JobError: Lance has no type for a column.
    """
    return fitted(schema, _writable, "Lance", where, lists=True)


def _writable(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return common(kind)
    lacking = (pa.types.is_interval, pa.types.is_nested, pa.types.is_run_end_encoded)
    known = not isinstance(kind, pa.BaseExtensionType) and not any(is_kind(kind) for is_kind in lacking)
    return kind if known else None


def _plain(field: pa.Field) -> pa.DataType:
    if _is_blob(field):
        return pa.large_binary()
    kind = field.type
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_blob(field: pa.Field) -> bool:
    return str(getattr(field.type, "extension_name", "")).startswith("lance.blob")


def refuse_unwritten(dataset: Any, place: Place) -> None:
    """What could only be written with something of it lost.

    Raises:
        JobError: it says what, and what to do.
    """
    version = dataset.data_storage_version
    if version in TOO_OLD:
        raise JobError(
            f"{place.uri} is in Lance's file version {version}, which holds no null among structs: copy it "
            'with lance.write_dataset(…, data_storage_version="2.2"), or write to a table beside it',
            key="sink.tables",
        )
    for field in dataset.schema:
        if _is_blob(field):
            raise JobError(
                f"{place.uri}: column {field.name} is of blobs, which are read here and not written: write "
                "to a table beside it",
                key="sink.tables",
            )


def files_of(dataset: Any) -> list[DataFile]:
    """Its fragments, each known by its number and by all that Lance says of it."""
    return [
        DataFile(
            str(fragment.fragment_id),
            fragment.count_rows(),
            sum(each.file_size_bytes or 0 for each in fragment.metadata.files),
            json.dumps(fragment.metadata.to_json(), sort_keys=True),
            all(each.path.startswith(STAGED) for each in fragment.metadata.files),
        )
        for fragment in dataset.get_fragments()
    ]


def has_files(dataset: Any, wanted: Sequence[DataFile]) -> bool:
    """Whether these fragments are all there, and as they were."""
    if not wanted:
        return True
    there = {file.path: file.detail for file in files_of(dataset)}
    return all(there.get(file.path) == file.detail for file in wanted)


def has_commit(dataset: Any, key: str) -> bool:
    """Whether one of the last LOOKED_BACK versions that are kept is by this key."""
    count = min(LOOKED_BACK, dataset.version)
    return any(made is not None and _key_of(made) == key for made in dataset.get_transactions(count))


def added_again(seen: int, done: Any, key: str) -> list[int]:
    """The fragments that a commit has brought in although one of the same key came between it and the version
    that was `seen` without: Lance puts what only adds behind anything, and looks at no key."""
    between = (done.read_transaction(version) for version in range(seen + 1, done.version))
    if not any(made is not None and _key_of(made) == key for made in between):
        return []
    earlier = {each.fragment_id for each in done.checkout_version(done.version - 1).get_fragments()}
    return [each.fragment_id for each in done.get_fragments() if each.fragment_id not in earlier]


def _key_of(made: Any) -> str | None:
    told: dict[str, str] = made.transaction_properties or {}
    return told.get(KEY)


def names_of(dataset: Any) -> set[str]:
    """Of the data files of a version."""
    return {each.path for fragment in dataset.get_fragments() for each in fragment.metadata.files}
