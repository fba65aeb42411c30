"""Any source, with keyed hashes in place of names and of some columns that it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.sources.row_names import hidden
from schemas.errors import JobError
from schemas.ids import document_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

    from pipelines.sources import Source
    from schemas.privacy import PrivacyOptions
    from schemas.tables import TableOptions

COLUMNS = "privacy.hash_columns"


class HiddenSource:
    """What another source lists, by other names. Goes with its key to whoever lists, and nowhere else.

    Args:
        source: the source.
        privacy: what is hidden.
        addresses: of a table, the column that says where each document is: hidden as those are.

    Raises:
        JobError: the key is not set, or there is no such column, or it is none of single values.
    """

    def __init__(self, source: Any, privacy: PrivacyOptions, addresses: str | None = None) -> None:
        self.source = source
        self.duplicates = source.duplicates
        self._key: SecretStr = privacy.key()
        self._uris = privacy.hash_uris
        told = addresses if privacy.hash_uris else None
        carried = [field.name for field in source.attributes or () if field.name == told]
        self._columns = tuple(dict.fromkeys((*privacy.hash_columns, *carried)))
        self.attributes = _typed(source.attributes, self._columns)

    def check(self) -> None:
        """See `Source.check`."""
        self.source.check()

    def documents(self, owed: pa.Array | None = None) -> Iterator[pa.Table]:
        """See `Source.documents`. Where the bytes are is in `address`, which no run keeps.

        Args:
            owed: of a table's rows by their own names; see `TableSource.documents`.
        """
        for documents in self.source.documents() if owed is None else self.source.documents(owed):
            self.duplicates = self.source.duplicates
            yield self._attributed(self._named(documents) if self._uris else documents)

    def _named(self, documents: pa.Table) -> pa.Table:
        uris = [hidden(uri, self._key) for uri in documents["uri"].to_pylist()]
        ids = [document_id(uri) for uri in uris]
        known = pc.coalesce(documents["address"], documents["uri"])
        columns = {"document_id": pa.array(ids), "uri": pa.array(uris), "address": known}
        return pa.table(
            [columns.get(name, documents[name]) for name in documents.column_names], schema=documents.schema
        )

    def _attributed(self, documents: pa.Table) -> pa.Table:
        if self.attributes is None or not self._columns:
            return documents
        carried = documents["attributes"].combine_chunks()
        fields = [
            self._hashed(carried.field(field.name))
            if field.name in self._columns
            else carried.field(field.name)
            for field in carried.type
        ]
        made = pa.StructArray.from_arrays(fields, fields=list(self.attributes), mask=pc.is_null(carried))
        return documents.drop_columns("attributes").append_column("attributes", made)

    def _hashed(self, values: pa.Array) -> pa.Array:
        """A value that comes often, as a customer's number does, is hashed once a chunk."""
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        encoded = values.dictionary_encode()
        hashes = [hidden(_text(value), self._key) for value in encoded.dictionary.to_pylist()]
        return pa.array(hashes, pa.string()).take(encoded.indices)


def hidden_source(source: Source, privacy: PrivacyOptions, table: TableOptions | None = None) -> Source:
    """The source as a job wants it listed.

    Args:
        source: the source.
        privacy: what is hidden.
        table: what is listed, if it is one.

    Raises:
        JobError: the key of the hashes is not set, there is no such column, or names would show it.
    """
    named_by = {*table.key, *(() if table.bytes_column else (table.content,))} if table else set()
    shown = sorted(named_by & set(privacy.hash_columns))
    if shown and not privacy.hash_uris:
        raise JobError(
            f"{COLUMNS}: documents are named by their addresses and the table's key, so their names show "
            f"{shown[0]!r}: set privacy.hash_uris as well",
            key=COLUMNS,
        )
    if privacy.hash_uris or privacy.hash_columns:
        return HiddenSource(source, privacy, table.content if table else None)
    return source


def _typed(attributes: pa.DataType | None, names: tuple[str, ...]) -> pa.DataType | None:
    there = [field.name for field in attributes or ()]
    unknown = [name for name in names if name not in there]
    if unknown:
        raise JobError(
            f"{COLUMNS}: no column {unknown[0]!r} is carried along; there is {', '.join(there) or 'none'}",
            key=COLUMNS,
        )
    if attributes is None:
        return None
    for field in attributes:
        if field.name in names and pa.types.is_nested(field.type):
            raise JobError(
                f"{COLUMNS}: {field.name!r} is {field.type}, and single values are hashed: leave it out of "
                "what is carried along (table.columns)",
                key=COLUMNS,
            )
    return pa.struct(
        [pa.field(field.name, pa.string()) if field.name in names else field for field in attributes]
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)
