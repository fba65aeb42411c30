"""Which format a table is of, where the job does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import ObjectMissing
from schemas.tables import Place, TableFormat
from workers.storage.factory import has_scheme, join, normalise, open_storage

if TYPE_CHECKING:
    from schemas.storage import StorageOptions
    from schemas.tables import TableOptions

MARKS = {"_delta_log": TableFormat.DELTA, "_versions": TableFormat.LANCE}
"""Folders that only tables of a format have."""


def place_of(table: TableOptions, storage: StorageOptions) -> Place:
    """Where a job's table is.

    A name without a scheme, and with a catalog, is Iceberg's. Otherwise what lies in the folder tells; one
    that no format has marked is of Parquet files.

    Raises:
        GemstreamError: the store does not answer.
    """
    named = not has_scheme(table.uri) and bool(table.catalog)
    if table.format is TableFormat.ICEBERG or (table.format is None and named):
        return Place(format=TableFormat.ICEBERG, uri=table.uri, catalog=table.catalog)
    uri = normalise(table.uri).rstrip("/")
    return Place(format=table.format or _found(uri, storage), uri=uri)


def _found(uri: str, options: StorageOptions) -> TableFormat:
    storage = open_storage(uri, options)
    for name, found in MARKS.items():
        try:
            if next(iter(storage.list(join(uri, name, ""))), None) is not None:
                return found
        except ObjectMissing:
            continue
    return TableFormat.LANCE if uri.endswith(".lance") else TableFormat.PARQUET
